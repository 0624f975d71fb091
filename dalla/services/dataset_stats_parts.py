"""The parts of a dataset's statistics: what the store counted, each count with the query that lists it."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any

from dalla.bucketing import Size, batches_per_epoch, buckets, plan
from dalla.errors import InvalidInput
from dalla.filenames import filename_key
from dalla.languages import LANGUAGES
from dalla.measures import BLURRED, STRANGER
from dalla.training_set import LONG_WORDS

#: The `folder` or `concept` of pictures that have none: an empty parameter is easily lost.
NONE = "."

#: Captions without a picture that are listed.
TOLD = 200

Filter = dict[str, Any]
Sizes = list[tuple[int, int, int, int]]  # width, height, pictures, pictures times repeats


# ---------------------------------------------------------------- filters


def only(**more: Any) -> Filter:
    """Return the query of `GET /api/datasets/{id}/images` that lists what was counted."""
    return {"excluded": False, **more}


def span(key: str, low: float | None, high: float | None, *, ends: bool = False) -> Filter:
    """Return the query for a range of a measured value, without its upper end unless `ends`."""
    first = "" if low is None else f"{low:g}" if low == float(f"{low:g}") else repr(low)
    last = "" if high is None else f"{high:g}" if high == float(f"{high:g}") else repr(high)
    return {f"range.{key}": f"{first}..{'' if ends or not last else '<'}{last}"}


def check_sizes(resolution: int, step: int) -> None:
    """Raise InvalidInput unless buckets can be made of these numbers."""
    if not 128 <= resolution <= 4096:
        raise InvalidInput.field("resolution", "Use a number of px from 128 to 4096.")
    if step not in (8, 16, 32, 64, 128):
        raise InvalidInput.field("step", "Use 8, 16, 32, 64 or 128 px.")


# ---------------------------------------------------------------- parts


def size(size: dict[str, Any]) -> dict[str, Any]:
    return size | {
        "videos": 0,
        "formats": [row | {"filter": only(format=row["value"])} for row in size["formats"]],
        "folders": [row | {"filter": only(folder=row["value"] or NONE)} for row in size["folders"]],
        "kinds": [row | {"filter": only(kind=row["value"])} for row in size["kinds"]],
        "excluded": {"count": size["excluded"], "filter": {"excluded": True}},
    }


def median(ordered: list[tuple[float, int]], total: int) -> float:
    seen = 0
    for value, number in ordered:
        seen += number
        if seen * 2 >= total:
            return value
    return 0.0


def bucket_rows(sizes: Sizes, resolution: int, step: int, batch: int) -> list[dict[str, Any]]:
    """Return the buckets with pictures: how many, how much of them is cut off on average, whether a batch gets full."""
    choices = buckets(resolution, step)
    found: dict[Size, list[float]] = {}
    for width, height, number, repeated in sizes:
        crop = plan(width, height, choices)
        row = found.setdefault(crop.bucket, [0, 0, 0.0, 0])
        row[0] += number
        row[1] += repeated
        row[2] += crop.lost_fraction * number
        row[3] += number if crop.upscaled else 0
    rows = []
    for (width, height), (pictures, trained, lost, upscaled) in sorted(found.items()):
        query: Filter = {"bucket": f"{width}x{height}", "resolution": resolution, "step": step}
        rows.append(
            {
                "width": width,
                "height": height,
                "count": int(pictures),
                "repeated": int(trained),
                "lost": round(lost / pictures, 4),
                "upscaled": int(upscaled),
                "smallerThanBatch": trained < batch,
                "filter": only(**query),
            }
        )
    return rows


def captions(captions: dict[str, Any]) -> dict[str, Any]:
    clip, t5 = captions["tokensClip"], captions["tokensT5"]
    over = {"limit": LONG_WORDS, "unit": "words"}
    rows = captions["words"]["histogram"]
    long = sum(row["count"] for row in rows if row["words"] > LONG_WORDS)
    query = span("words", LONG_WORDS + 1, None)
    if clip is not None:
        over, long = {"limit": clip["limit"], "unit": "tokensClip"}, clip["over"]
        query = span("tokensClip", clip["limit"] + 1, None)
    trigger = captions["trigger"]
    if trigger is not None:
        have = captions["with"]
        word = trigger["word"].replace('"', " ")
        trigger = trigger | {
            "coverage": round(trigger["count"] / have, 4) if have else 0.0,
            "missing": have - trigger["count"],
            "filter": only(q=f'"{word}"'),
            "missingFilter": only(captioned=True, q=f'-"{word}"'),
        }
    return {
        "with": captions["with"],
        "withFilter": only(captioned=True),
        "without": captions["without"],
        "withoutFilter": only(captioned=False),
        "locked": {"count": captions["locked"], "filter": only(locked=True)},
        "sources": [row | {"filter": only(captionSource=row["value"])} for row in captions["sources"]],
        "languages": [
            row | {"name": LANGUAGES.get(row["value"], row["value"]), "filter": only(language=row["value"])}
            for row in captions["languages"]
        ],
        "words": {
            **{name: captions["words"][name] for name in ("min", "median", "max")},
            "histogram": _word_bars(rows),
        },
        "tokensClip": clip and clip | {"filter": only(**span("tokensClip", clip["limit"] + 1, None))},
        "tokensT5": t5 and t5 | {"filter": only(**span("tokensT5", t5["limit"] + 1, None))},
        "over": over | {"count": long, "filter": only(**query)},
        "duplicates": {
            "texts": captions["duplicates"]["texts"],
            "count": captions["duplicates"]["images"],
            "filter": only(sharedCaption=True),
        },
        "trigger": trigger,
    }


def _word_bars(rows: list[dict[str, int]]) -> list[dict[str, Any]]:
    edges = [1, 4, 8, 16, 24, 32, 48, LONG_WORDS + 1, 100, 200]
    bars = []
    for low, high in zip(edges, [*edges[1:], None], strict=True):
        count = sum(row["count"] for row in rows if row["words"] >= low and (high is None or row["words"] < high))
        if count:
            bars.append({"from": low, "to": high, "count": count, "filter": only(**span("words", low, high))})
    return bars


def tags(tags: dict[str, Any], captioned: int, trigger: str) -> dict[str, Any]:
    def row(tag: str, count: int) -> dict[str, Any]:
        return {"tag": tag, "count": count, "filter": only(tag=tag)}

    everywhere = [
        row(entry["tag"], entry["count"])
        for entry in tags["top"]
        if captioned > 1 and entry["count"] == captioned and entry["tag"].casefold() != trigger.strip().casefold()
    ]
    return {
        "distinct": tags["distinct"],
        "top": [row(entry["tag"], entry["count"]) for entry in tags["top"]],
        "once": [row(tag, 1) for tag in tags["once"]["tags"]],
        "onceCount": tags["once"]["count"],
        "all": everywhere,
        "pairs": tags["pairs"],
        "similar": [
            row(entry["tag"], entry["count"]) | {"similarTo": entry["like"], "similarCount": entry["likeCount"]}
            for entry in tags["similar"]
        ],
    }


def orphans(rows: list[dict[str, str]], filenames: set[str]) -> dict[str, Any]:
    """Return captions of imports that still have no picture: one of that name (keys of file names) may have come."""
    stems = {PurePosixPath(name).stem for name in filenames} if rows else set()
    left = [
        row
        for row in rows
        if filename_key(PurePosixPath(row["name"].partition(": ")[2] or row["name"]).stem) not in stems
    ]
    return {"count": len(left), "items": left[:TOLD]}


def faces(faces: dict[str, Any], total: int) -> dict[str, Any]:
    def bars(key: str) -> list[dict[str, Any]]:
        rows = faces["identity"]["bins"] if key == "faceMatch" else faces["share" if key == "faceShare" else key]
        return [
            bar | {"filter": only(**span(key, bar["from"], bar["to"], ends=n == len(rows) - 1))}
            for n, bar in enumerate(rows)
        ]

    return {
        "analyzed": faces["analyzed"],
        "missing": {"count": total - faces["analyzed"], "filter": only(missing="faces")},
        "none": {"count": faces["none"], "filter": only(faces="0")},
        "one": {"count": faces["one"], "filter": only(faces="1")},
        "many": {"count": faces["many"], "filter": only(faces="2+")},
        "identity": {
            **{name: faces["identity"][name] for name in ("measured", "median")},
            "threshold": STRANGER,
            "strangers": {"count": faces["identity"]["strangers"], "filter": only(**span("faceMatch", None, STRANGER))},
            "histogram": bars("faceMatch"),
        },
        "share": bars("faceShare"),
        "yaw": bars("yaw"),
    }


def duplicates(duplicates: dict[str, Any]) -> dict[str, Any]:
    return duplicates | {
        "exact": duplicates["exact"] | {"filter": only(samePixels=True)},
        "largest": [row | {"filter": only(group=row["group"])} for row in duplicates["largest"]],
        "filter": only(**{"has": "duplicateGroup"}),
    }


def blur(blur: dict[str, Any]) -> dict[str, Any]:
    bars = blur["percentiles"]
    return {
        "measured": blur["measured"],
        "median": blur["median"],
        "histogram": [
            bar | {"filter": only(**span("sharpness", bar["from"], bar["to"], ends=n == len(bars) - 1))}
            for n, bar in enumerate(bars)
        ],
        "blurry": {
            "threshold": BLURRED,
            "count": sum(value < BLURRED for value in blur["values"]),
            "filter": only(**span("sharpness", None, BLURRED)),
        },
        "blurryFaces": {
            "measured": blur["faces"]["measured"],
            "count": sum(value < BLURRED for value in blur["faces"]["values"]),
            "filter": only(**span("faceSharpness", None, BLURRED)),
        },
    }


def exposure(exposure: dict[str, Any]) -> dict[str, Any]:
    limit = exposure["limit"]
    bars = exposure["brightness"]
    return {
        "dark": exposure["dark"] | {"filter": only(**span("clippedDark", limit, None))},
        "bright": exposure["bright"] | {"filter": only(**span("clippedBright", limit, None))},
        "brightness": [
            bar | {"filter": only(**span("brightness", bar["from"], bar["to"], ends=n == len(bars) - 1))}
            for n, bar in enumerate(bars)
        ],
    }


def balance(
    rows: list[dict[str, Any]],
    sizes: Sizes,
    resolution: int,
    step: int,
    batch: int,
    epochs: int,
) -> dict[str, Any]:
    total = sum(row["repeated"] for row in rows)
    concepts = [
        {
            "concept": row["concept"],
            "regularization": row["regularization"],
            "images": row["images"],
            "repeats": round(row["repeated"] / row["images"], 2),
            "repeated": row["repeated"],
            "share": round(row["repeated"] / total, 4) if total else 0.0,
            "filter": only(concept=row["concept"] or NONE, regularization=row["regularization"]),
        }
        for row in rows
    ]
    per_bucket = [row["repeated"] for row in bucket_rows(sizes, resolution, step, batch)]
    per_epoch = batches_per_epoch(per_bucket, batch)
    return {
        "concepts": concepts,
        "repeated": total,
        "stepsPerEpoch": per_epoch,
        "epochs": epochs,
        "steps": per_epoch * epochs,
    }


def coverage(coverage: dict[str, Any] | None) -> dict[str, Any] | None:
    """Add to each cell the filter, and name the combinations that nothing shows."""
    if coverage is None:
        return None
    keys, scales, cells = coverage["keys"], coverage["scales"], coverage["cells"]
    bounds = {(axis, row["value"]): (row["from"], row["to"]) for axis, rows in scales.items() for row in rows}
    axes = [axis for axis in scales if any(cell[axis] is not None for cell in cells)]
    shown: list[dict[str, Any]] = []
    for cell in cells:
        query: Filter = {}
        for axis in axes:
            if cell[axis] is not None:
                query |= span(keys[axis], *bounds[axis, cell[axis]])
        shown.append({**{axis: cell[axis] for axis in axes}, "count": cell["count"], "filter": only(**query)})
    gaps = [
        {"axis": axis, "value": row["value"]}
        for axis in axes
        for row in scales[axis]
        if not any(cell[axis] == row["value"] for cell in cells)
    ]
    return {"axes": axes, "scales": {axis: scales[axis] for axis in axes}, "cells": shown, "gaps": gaps}
