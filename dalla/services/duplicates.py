"""Pictures of a dataset that look alike: groups, what a person said of them, and which one is kept.

Exact: the same pixels. Near: perceptual hashes at most `distance` bits apart, mirrored copies included. Everything is
computed from what was measured at import; no picture is opened here.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

from dalla.errors import InvalidInput, NotFound
from dalla.events import EventBus
from dalla.measures import MAX_DISTANCE, SAME_PICTURE, Grouping, groups_of, near_pairs
from dalla.records.dataset import DatasetImage, ImageFilter, ImagePair
from dalla.stores.base import DatasetStore
from dalla.times import now_iso

#: Which picture of a group stays when nobody says which.
KEEP = ("largest", "sharpest", "captioned")
_REMEMBERED = 8
_LARGEST_VERDICT = 200
#: (id, hash, mirrored hash), and (id, id, distance).
Hashes = list[tuple[str, str, str]]
Pairs = list[tuple[str, str, int]]


@dataclass(frozen=True)
class Group:
    """Pictures that look alike, by file name. `distance` is that of the nearest two, bits; 0 with `exact`: the same
    pixels in all of them. `keep` names the best by each rule."""

    images: list[DatasetImage]
    distance: int
    exact: bool
    same: bool  # a person said of two of them that they are the same
    keep: dict[str, str]

    @property
    def id(self) -> str:
        """Stays while the first picture does."""
        return group_id([image.id for image in self.images])


@dataclass(frozen=True)
class Found:
    """One page of groups, and how many there would be at every distance."""

    groups: list[Group]
    total: int
    images: int  # in all groups
    counts: list[dict[str, int]]  # [{distance, groups, images}] for 0..12
    exact: dict[str, int]  # {groups, images}
    unmeasured: int  # pictures without hashes: `analyze` or `dedupe` measures them


class Duplicates:
    """Groups of pictures that look alike, and verdicts on them."""

    def __init__(self, store: DatasetStore, events: EventBus) -> None:
        self._store = store
        self._events = events
        self._lock = threading.Lock()
        self._known: OrderedDict[int, Pairs] = OrderedDict()
        self._rows: dict[tuple[str, str | None], tuple[int, Hashes, int]] = {}

    # ------------------------------------------------------------ reading

    def groups(
        self,
        dataset_id: str,
        *,
        distance: int = SAME_PICTURE,
        exact: bool = False,
        kind: str | None = "original",
        limit: int = 50,
        offset: int = 0,
    ) -> Found:
        """Return groups, largest first. Raises NotFound, InvalidInput (distance).

        Args:
            distance: 0..12 bits. `exact`: only pictures with the same pixels, whatever the distance.
            kind: "original", "processed" or None for both; what was made of a picture resembles it.
        """
        _check_distance(distance)
        revision = self._store.get(dataset_id).revision
        rows, unmeasured = self._hashes(dataset_id, kind, revision)
        pairs = self._pairs(rows)
        ids = [row[0] for row in rows]
        separate, same = verdicts_of(self._store, dataset_id)
        counts = self._counts(ids, pairs, separate, same)
        alike = exact_pairs(self._store, rows)
        identical = groups_of(ids, alike, separate)
        chosen = identical if exact else groups_of(ids, [p for p in pairs if p[2] <= distance], separate, same)
        chosen.sort(key=lambda group: -len(group))
        return Found(
            groups=self._shown(chosen[offset : offset + limit], pairs, alike, same),
            total=len(chosen),
            images=sum(map(len, chosen)),
            counts=counts,
            exact={"groups": len(identical), "images": sum(map(len, identical))},
            unmeasured=unmeasured,
        )

    def verdicts(self, dataset_id: str) -> list[ImagePair]:
        """What was said so far. Raises NotFound."""
        self._store.get(dataset_id)
        return self._store.pairs(dataset_id)

    # ------------------------------------------------------------ deciding

    def say(self, dataset_id: str, verdict: str, image_ids: list[str]) -> dict[str, Any]:
        """Remember that every two of these pictures are "separate" or the "same"; "forget" takes it back.

        Raises NotFound, InvalidInput (fewer than two pictures, too many, pictures of other datasets).
        """
        images = self._images(dataset_id, image_ids, least=2)
        if len(images) > _LARGEST_VERDICT:
            raise InvalidInput.field("imageIds", f"At most {_LARGEST_VERDICT} pictures at a time.")
        ids = sorted(image.id for image in images)
        said = "same" if verdict in ("same", "forget") else "separate"
        pairs = [
            ImagePair(
                dataset_id=dataset_id,
                first_id=first,
                second_id=second,
                verdict=said,  # type: ignore[arg-type]
                created_at=now_iso(),
            )
            for number, first in enumerate(ids)
            for second in ids[number + 1 :]
        ]
        if verdict == "forget":
            self._store.delete_pairs(pairs)
        elif verdict in ("separate", "same"):
            self._store.save_pairs(pairs)
            if verdict == "separate":
                self._ungroup(dataset_id, images)
        else:
            raise InvalidInput.field("verdict", "Use separate, same, keep or forget.")
        self._tell(dataset_id)
        return {"verdict": verdict, "pairs": len(pairs)}

    def keep(
        self, dataset_id: str, image_ids: list[str], keep_id: str | None = None, *, rule: str = "largest"
    ) -> dict[str, Any]:
        """Keep one picture; the others go to the dataset's trash, from which they can be restored.

        Raises NotFound, InvalidInput (fewer than two pictures, `keep_id` is none of them).
        """
        images = self._images(dataset_id, image_ids, least=2)
        if keep_id is None:
            keep_id = best(images, self._store.metadata([image.id for image in images], ["sharpness"]))[_rule(rule)]
        elif keep_id not in {image.id for image in images}:
            raise InvalidInput.field("keepId", "This picture is not one of the group.")
        gone = [image.id for image in images if image.id != keep_id]
        trashed = self._store.update_images(gone, trashed_at=now_iso())
        self._store.put_metadata(dataset_id, {keep_id: dict.fromkeys(("duplicateGroup", "duplicateDistance"))})
        self._tell(dataset_id)
        return {"verdict": "keep", "kept": keep_id, "trashed": trashed}

    # ------------------------------------------------------------ inside

    def _hashes(self, dataset_id: str, kind: str | None, revision: int) -> tuple[Hashes, int]:
        """(id, hash, mirrored hash) of what was measured, and how many were not; kept until the dataset changes."""
        known = self._rows.get((dataset_id, kind))
        if known is not None and known[0] == revision:
            return known[1], known[2]
        rows = self._store.columns(dataset_id, ["dhash", "dhashMirror"], ImageFilter(kind=kind))
        complete = [(str(id), str(plain), str(mirror)) for id, plain, mirror in rows if plain and mirror]
        with self._lock:
            self._rows[dataset_id, kind] = (revision, complete, len(rows) - len(complete))
            while len(self._rows) > _REMEMBERED:
                self._rows.pop(next(iter(self._rows)))
        return complete, len(rows) - len(complete)

    def _pairs(self, rows: Hashes) -> Pairs:
        """All pairs up to the largest distance; computed anew only when a hash changed."""
        key = hash(tuple(rows))
        with self._lock:
            if key in self._known:
                self._known.move_to_end(key)
                return self._known[key]
        pairs = near_pairs(rows, MAX_DISTANCE)
        with self._lock:
            self._known[key] = pairs
            while len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)
        return pairs

    def _counts(
        self,
        ids: list[str],
        pairs: Pairs,
        separate: set[frozenset[str]],
        same: list[frozenset[str]],
    ) -> list[dict[str, int]]:
        """How many groups there are at every distance, in one pass over the pairs."""
        grouping = Grouping(ids, separate)
        for said in same:
            grouping.join(*sorted(said))
        counts, at = [], 0
        for step in range(MAX_DISTANCE + 1):
            while at < len(pairs) and pairs[at][2] <= step:
                grouping.join(*pairs[at][:2])
                at += 1
            groups, images = grouping.count()
            counts.append({"distance": step, "groups": groups, "images": images})
        return counts

    def _shown(
        self,
        groups: list[list[str]],
        pairs: Pairs,
        alike: Pairs,
        same: list[frozenset[str]],
    ) -> list[Group]:
        home = {id: number for number, group in enumerate(groups) for id in group}
        nearest = dict.fromkeys(range(len(groups)), MAX_DISTANCE)
        for first, second, bits in pairs:
            if first in home and home[first] == home.get(second):
                nearest[home[first]] = min(nearest[home[first]], bits)
        whole = {frozenset(group) for group in groups_of(home, alike)}
        images = {image.id: image for image in self._store.images_by_id(list(home))}
        measured = self._store.metadata(list(home), ["sharpness"])
        found = []
        for number, ids in enumerate(groups):
            there = [images[id] for id in ids if id in images]
            if len(there) < 2:
                continue
            said = any(pair <= set(ids) for pair in same)
            exact = frozenset(ids) in whole
            found.append(Group(there, 0 if exact else nearest[number], exact, said, best(there, measured)))
        return found

    def _images(self, dataset_id: str, ids: list[str], *, least: int) -> list[DatasetImage]:
        self._store.get(dataset_id)
        images = [image for image in self._store.images_by_id(ids) if image.trashed_at is None]
        if any(image.dataset_id != dataset_id for image in images):
            raise InvalidInput.field("imageIds", "Some of these pictures are not in this dataset.")
        if len(images) < least:
            raise InvalidInput.field("imageIds", f"Name at least {least} pictures that are there.")
        return images

    def _ungroup(self, dataset_id: str, images: list[DatasetImage]) -> None:
        """Take the pictures that were declared separate out of their stored group."""
        nothing: dict[str, Any] = dict.fromkeys(("duplicateGroup", "duplicateDistance"))
        self._store.put_metadata(dataset_id, {image.id: nothing for image in images})

    def _tell(self, dataset_id: str) -> None:
        revision = self._store.get(dataset_id).revision
        self._events.publish("dataset.updated", {"datasetId": dataset_id, "revision": revision})


def exact_pairs(store: DatasetStore, rows: Hashes) -> Pairs:
    """Join pictures with the same pixels, of whatever file format: (id, next id, 0). Those have the same hash, too."""
    alike: dict[str, list[str]] = {}
    for id, plain, _ in rows:
        alike.setdefault(plain, []).append(id)
    several = [id for ids in alike.values() if len(ids) > 1 for id in ids]
    by_pixels: dict[str, list[str]] = {}
    for image in store.images_by_id(several):
        by_pixels.setdefault(image.pixel_sha256 or image.sha256 or image.id, []).append(image.id)
    return [(a, b, 0) for ids in by_pixels.values() for a, b in zip(ids, ids[1:], strict=False)]


def verdicts_of(store: DatasetStore, dataset_id: str) -> tuple[set[frozenset[str]], list[frozenset[str]]]:
    """What a person said: (pairs that are separate, pairs that are the same)."""
    separate: set[frozenset[str]] = set()
    same: list[frozenset[str]] = []
    for pair in store.pairs(dataset_id):
        both = frozenset((pair.first_id, pair.second_id))
        if pair.verdict == "separate":
            separate.add(both)
        else:
            same.append(both)
    return separate, same


def group_id(ids: list[str]) -> str:
    """Name a group after its first picture."""
    return f"dup_{ids[0]}"


def best(images: list[DatasetImage], measured: dict[str, dict[str, Any]]) -> dict[str, str]:
    """The id of the best picture by each rule of `KEEP`. Where a rule does not decide: larger, sharper, first."""
    if not images:
        raise NotFound("None of these pictures is there any more.")

    def pixels(image: DatasetImage) -> tuple[int, float, int]:
        return image.width * image.height, float(measured.get(image.id, {}).get("sharpness") or 0), image.size_bytes

    def sharp(image: DatasetImage) -> tuple[float, int]:
        return float(measured.get(image.id, {}).get("sharpness") or 0), image.width * image.height

    def words(image: DatasetImage) -> tuple[bool, bool, int, tuple[int, float, int]]:
        text = image.caption.strip()
        return bool(text), image.caption_locked, len(text.split()), pixels(image)

    return {
        "largest": max(images, key=pixels).id,
        "sharpest": max(images, key=sharp).id,
        "captioned": max(images, key=words).id,
    }


def _rule(rule: str) -> str:
    if rule not in KEEP:
        raise InvalidInput.field("rule", f"Use one of {', '.join(KEEP)}.")
    return rule


def _check_distance(distance: int) -> None:
    if not 0 <= distance <= MAX_DISTANCE:
        raise InvalidInput.field("distance", f"Give a distance from 0 to {MAX_DISTANCE}.")
