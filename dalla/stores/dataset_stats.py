"""What there is to count in a dataset, aggregated in SQL. No file is read."""

from __future__ import annotations

import json
from bisect import bisect_left
from collections import Counter
from itertools import combinations
from typing import Any

from sqlalchemy import Connection, Select, Text, and_, case, cast, false, func, select

from dalla.measures import STRANGER
from dalla.records.dataset import Dataset, ImageFilter
from dalla.stores import dataset_query as query
from dalla.stores.dataset_tags import count_tags, tag_sets
from dalla.stores.schema import image_metadata, images

_Scale = list[tuple[str, float | None, float | None]]

#: Longest lists of tags that are told.
TOP_TAGS = 100
_PAIRED_TAGS = 12  # the most frequent tags whose company is counted
_COMPARED_TAGS = 5_000  # the most frequent tags that are looked at for near spellings
_DECILES = 10
_SHARE_EDGES = [0.0, 0.02, 0.05, 0.1, 0.2, 0.4, 1.0]
_YAW_EDGES = [-180.0, -45.0, -15.0, 15.0, 45.0, 180.0]
#: What a picture shows, by the largest face's share of it; how it is turned; how bright it is (0-255).
_FRAMING: _Scale = [("far", 0.0, 0.03), ("half", 0.03, 0.12), ("close", 0.12, None)]
_POSE: _Scale = [("left", None, -20.0), ("front", -20.0, 20.0), ("right", 20.0, None)]
_LIGHT: _Scale = [("dark", None, 80.0), ("even", 80.0, 170.0), ("bright", 170.0, None)]
_TOKEN_LIMITS = {"tokensClip": 75, "tokensT5": 512}
#: From this share of the pixels at the end of the scale on, light counts as clipped.
CLIPPED = 0.1


def statistics(connection: Connection, dataset: Dataset, where: ImageFilter) -> dict[str, Any]:
    """Return counts of the pictures that match, as JSON; see `SqlDatasets.statistics`."""
    count = _Counting(connection, dataset, where)
    return {
        "datasetId": dataset.id,
        "revision": dataset.revision,
        "size": count.size(),
        "captions": count.captions(),
        "tags": count.tags(),
        "faces": count.faces(),
        "duplicates": count.duplicates(),
        "blur": count.blur(),
        "exposure": count.exposure(),
        "balance": count.balance(),
        "coverage": count.coverage(),
    }


class _Counting:
    """The parts, each one or few statements over the same pictures."""

    def __init__(self, connection: Connection, dataset: Dataset, where: ImageFilter) -> None:
        self._connection = connection
        self._dataset = dataset
        self._test = query.condition(dataset.id, where)
        groups = (images.c.format, images.c.folder, images.c.kind, func.substr(images.c.created_at, 1, 10, type_=Text))
        rows = select(*groups, func.count(), func.sum(images.c.size_bytes)).where(self._test).group_by(*groups)
        self._groups = connection.execute(rows).all()
        self.images = sum(row[4] for row in self._groups)

    def _one(self, *columns: Any) -> Any:
        return self._connection.execute(select(*columns).where(self._test)).one()

    def _measured(self, key: str, *columns: Any) -> Select[Any]:
        """Select from one measured value of the pictures; its number is `image_metadata.c.number`."""
        joined = images.join(image_metadata, image_metadata.c.image_seq == images.c.seq)
        return select(*columns).select_from(joined).where(self._test, image_metadata.c.metadata_key == key)

    def _numbers(self, key: str) -> list[float]:
        """Return every value of a measure, ascending.

        Sorted and freed of gaps here: asked for that, the database would walk the values of all datasets.
        """
        rows = self._connection.execute(self._measured(key, image_metadata.c.number)).scalars().all()
        return sorted(value for value in rows if value is not None)

    # ------------------------------------------------------------------ parts

    def size(self) -> dict[str, Any]:
        counted: list[Counter[str]] = [Counter(), Counter(), Counter(), Counter()]
        size = 0
        for *values, number, size_bytes in self._groups:
            size += int(size_bytes)
            for counter, value in zip(counted, values, strict=True):
                counter[value] += number
        formats, folders, kinds, days = counted
        everything = and_(images.c.dataset_id == self._dataset.id, images.c.trashed_at.is_(None))
        excluded = select(func.count()).select_from(images).where(everything, images.c.excluded)
        return {
            "images": self.images,
            "bytes": size,
            "formats": _largest_first(formats),
            "folders": _largest_first(folders),
            "kinds": _largest_first(kinds),
            "added": [{"day": day, "count": number} for day, number in sorted(days.items())],
            "excluded": self._connection.execute(excluded).scalar_one(),
        }

    def captions(self) -> dict[str, Any]:
        words = select(images.c.caption_words, func.count()).where(self._test, images.c.caption != "")
        rows = self._connection.execute(words.group_by(images.c.caption_words).order_by(images.c.caption_words)).all()
        histogram = [(int(value), int(number)) for value, number in rows]
        captioned = sum(number for _, number in histogram)
        times = func.count().label("times")
        shared = select(times).where(self._test, images.c.caption != "").group_by(images.c.caption).having(times > 1)
        twins = shared.subquery()
        texts, alike = self._connection.execute(
            select(func.count(), func.coalesce(func.sum(twins.c.times), 0)).select_from(twins)
        ).one()
        trigger = self._dataset.trigger_word.strip()
        says_trigger = query.caption_has(trigger) if trigger else false()
        triggered = func.coalesce(func.sum(case((says_trigger, 1), else_=0)), 0)
        locked = func.coalesce(func.sum(case((images.c.caption_locked, 1), else_=0)), 0)
        with_trigger, with_lock = self._one(triggered, locked)
        sources = select(images.c.caption_source, func.count()).where(self._test).group_by(images.c.caption_source)
        return {
            "with": captioned,
            "without": self.images - captioned,
            "locked": int(with_lock),
            "sources": _largest_first(Counter({value: int(n) for value, n in self._connection.execute(sources)})),
            "languages": self._languages(),
            "words": {**_spread(histogram), "histogram": [{"words": w, "count": n} for w, n in histogram]},
            "duplicates": {"texts": int(texts), "images": int(alike)},
            "trigger": {"word": trigger, "count": int(with_trigger)} if trigger else None,
            **{key: self._tokens(key, limit) for key, limit in _TOKEN_LIMITS.items()},
        }

    def _languages(self) -> list[dict[str, Any]]:
        value = cast(image_metadata.c.metadata_value, Text)
        rows = self._measured("language", value, func.count()).group_by(value)
        return _largest_first(Counter({json.loads(name): int(n) for name, n in self._connection.execute(rows)}))

    def _tokens(self, key: str, limit: int) -> dict[str, Any] | None:
        histogram = sorted(Counter(int(value) for value in self._numbers(key)).items())
        if not histogram:
            return None
        over = sum(times for value, times in histogram if value > limit)
        return {**_spread(histogram), "limit": limit, "over": over, "measured": sum(n for _, n in histogram)}

    def tags(self) -> dict[str, Any]:
        """Count tags from the captions themselves: one walk, where joining the tags would read ten rows a picture."""
        texts = self._connection.execute(select(images.c.caption).where(self._test, images.c.caption != ""))
        present, spelling = tag_sets(texts.scalars().all())
        found = count_tags(present, spelling)
        once = [tag for _, tag, number in found if number == 1]
        return {
            "distinct": len(found),
            "top": [{"tag": tag, "count": number} for _, tag, number in found[:TOP_TAGS]],
            "once": {"count": len(once), "tags": once[:TOP_TAGS]},
            "pairs": _pairs(present, {key: tag for key, tag, _ in found[:_PAIRED_TAGS]}),
            "similar": _similar(found[:_COMPARED_TAGS])[:TOP_TAGS],
        }

    def faces(self) -> dict[str, Any]:
        counts = Counter(int(value) for value in self._numbers("faces"))
        return {
            "analyzed": sum(counts.values()),
            "none": counts[0],
            "one": counts[1],
            "many": sum(times for value, times in counts.items() if value > 1),
            "identity": self._identity(),
            "share": self._bins("faceShare", _SHARE_EDGES),
            "yaw": self._bins("yaw", _YAW_EDGES),
        }

    def _identity(self) -> dict[str, Any]:
        """How alike the faces are to the one the set is about (cosine of SFace vectors)."""
        values = self._numbers("faceMatch")
        return {
            "measured": len(values),
            "median": values[len(values) // 2] if values else None,
            "strangers": bisect_left(values, STRANGER),
            "bins": self._bins("faceMatch", [-1.0, STRANGER, 0.45, 0.6, 0.75, 1.0]) if values else [],
        }

    def _bins(self, key: str, edges: list[float]) -> list[dict[str, Any]]:
        """Count a measured value between edges; the last edge belongs to the last bar. Empty: never measured."""
        number = image_metadata.c.number
        tests = [and_(number >= low, number < high) for low, high in zip(edges[:-2], edges[1:-1], strict=True)]
        tests.append(and_(number >= edges[-2], number <= edges[-1]))
        sums = [func.coalesce(func.sum(case((test, 1), else_=0)), 0) for test in tests]
        counts = [int(value) for value in self._connection.execute(self._measured(key, *sums)).one()]
        if not any(counts):
            return []
        ends = zip(edges, edges[1:], counts, strict=False)
        return [{"from": low, "to": high, "count": times} for low, high, times in ends]

    def duplicates(self) -> dict[str, Any]:
        times = func.count().label("times")
        pixels = images.c.pixel_sha256
        same = select(times).where(self._test, pixels != "").group_by(pixels).having(times > 1).subquery()
        groups, members = self._connection.execute(
            select(func.count(), func.coalesce(func.sum(same.c.times), 0)).select_from(same)
        ).one()
        group = cast(image_metadata.c.metadata_value, Text)
        near = (
            self._measured("duplicateGroup", group, func.count()).group_by(group).order_by(func.count().desc(), group)
        )
        found = [(json.loads(value), int(number)) for value, number in self._connection.execute(near)]
        return {
            "exact": {"groups": int(groups), "images": int(members)},
            "groups": len(found),
            "images": sum(number for _, number in found),
            "largest": [{"group": name, "count": number} for name, number in found[:20]],
        }

    def blur(self) -> dict[str, Any]:
        values = self._numbers("sharpness")
        faces = self._numbers("faceSharpness")
        return {
            "measured": len(values),
            "median": values[len(values) // 2] if values else None,
            "percentiles": _deciles(values),
            "faces": {"measured": len(faces), "values": faces},
            "values": values,
        }

    def exposure(self) -> dict[str, Any]:
        number = image_metadata.c.number
        counted = {}
        for name, key in (("dark", "clippedDark"), ("bright", "clippedBright")):
            clipped = func.coalesce(func.sum(case((number >= CLIPPED, 1), else_=0)), 0)
            times, over = self._connection.execute(self._measured(key, func.count(), clipped)).one()
            counted[name] = {"measured": int(times), "count": int(over)}
        return counted | {
            "limit": CLIPPED,
            "brightness": self._bins("brightness", [0.0, 32, 64, 96, 128, 160, 192, 224, 255.0]),
        }

    def balance(self) -> list[dict[str, Any]]:
        groups = (images.c.concept, images.c.regularization)
        rows = select(*groups, func.count(), func.sum(images.c.repeats)).where(self._test).group_by(*groups)
        return [
            {"concept": concept, "regularization": bool(regular), "images": int(number), "repeated": int(repeated)}
            for concept, regular, number, repeated in self._connection.execute(rows.order_by(*groups))
        ]

    def coverage(self) -> dict[str, Any] | None:
        """Count framing by pose by light of pictures with a face; None when no face was measured."""
        shares = {seq: share for seq, share in self._by_picture("faceShare").items() if share > 0}
        if not shares:
            return None
        yaw, light = self._by_picture("yaw"), self._by_picture("brightness")
        cells = Counter(
            (_named(share, _FRAMING), _named(yaw.get(seq), _POSE), _named(light.get(seq), _LIGHT))
            for seq, share in shares.items()
        )
        scales = {"framing": _FRAMING, "pose": _POSE, "light": _LIGHT}
        return {
            "keys": {"framing": "faceShare", "pose": "yaw", "light": "brightness"},
            "scales": {
                name: [{"value": value, "from": low, "to": high} for value, low, high in scale]
                for name, scale in scales.items()
            },
            "cells": [
                {"framing": framing, "pose": pose, "light": bright, "count": number}
                for (framing, pose, bright), number in sorted(cells.items(), key=lambda cell: (-cell[1], str(cell[0])))
            ],
        }

    def _by_picture(self, key: str) -> dict[int, float]:
        rows = self._measured(key, image_metadata.c.image_seq, image_metadata.c.number)
        return {seq: value for seq, value in self._connection.execute(rows).all() if value is not None}


# ---------------------------------------------------------------------- arithmetic


def _named(number: float | None, scale: _Scale) -> str | None:
    if number is None:
        return None
    for name, low, high in scale:
        if (low is None or number >= low) and (high is None or number < high):
            return name
    return None


def _pairs(present: list[frozenset[str]], names: dict[str, str]) -> list[dict[str, Any]]:
    """Count how often the most frequent tags stand together."""
    wanted = frozenset(names)
    sets = Counter(keys & wanted for keys in present)
    together: Counter[tuple[str, str]] = Counter()
    for keys, times in sets.items():
        for pair in combinations(sorted(keys), 2):
            together[pair] += times
    ordered = sorted(together.items(), key=lambda item: (-item[1], item[0]))[:20]
    return [{"tags": [names[a], names[b]], "count": number} for (a, b), number in ordered]


def _largest_first(counter: Counter[str]) -> list[dict[str, Any]]:
    return [{"value": v, "count": n} for v, n in sorted(counter.items(), key=lambda pair: (-pair[1], pair[0]))]


def _spread(histogram: list[tuple[int, int]]) -> dict[str, int | None]:
    """Return min, median and max of values with how often each came, ascending."""
    total = sum(times for _, times in histogram)
    if not total:
        return {"min": None, "median": None, "max": None}
    seen = 0
    for value, times in histogram:
        seen += times
        if seen * 2 >= total:
            return {"min": histogram[0][0], "median": value, "max": histogram[-1][0]}
    raise AssertionError("the last value has seen them all")


def _deciles(values: list[float]) -> list[dict[str, Any]]:
    """Cut sorted values into ten bars of about equal height; equal values are never torn apart."""
    if not values:
        return []
    starts = sorted({values[len(values) * n // _DECILES] for n in range(_DECILES)})
    places = [bisect_left(values, start) for start in starts] + [len(values)]
    ends = [*starts[1:], values[-1]]
    return [
        {"from": low, "to": high, "count": last - first, "percentile": round(100 * first / len(values))}
        for low, high, first, last in zip(starts, ends, places, places[1:], strict=False)
    ]


def _similar(tags: list[tuple[str, str, int]]) -> list[dict[str, Any]]:
    """Find rare tags that differ by one letter from a much more frequent one: most likely typing errors."""
    by_part: dict[str, list[tuple[str, str, int]]] = {}
    for entry in tags:
        key = entry[0]
        if len(key) >= 5 and not any(c.isdigit() for c in key):
            for part in {key, *(key[:n] + key[n + 1 :] for n in range(len(key)))}:
                by_part.setdefault(part, []).append(entry)
    found: dict[str, dict[str, Any]] = {}
    for entries in by_part.values():
        frequent = max(entries, key=lambda entry: (entry[2], entry[0]))
        for key, tag, number in entries:
            if number * 4 <= frequent[2] and found.get(key, {"likeCount": 0})["likeCount"] < frequent[2]:
                found[key] = {"tag": tag, "count": number, "like": frequent[1], "likeCount": frequent[2]}
    return sorted(found.values(), key=lambda entry: (-entry["likeCount"], entry["tag"]))
