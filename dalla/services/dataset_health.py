"""How fit a dataset is for training, as one number, and the three changes that would raise it most.

Every part is a share of what could be good (0 to 1) with a weight; parts that were never measured, or do not matter
for this set, do not count. A fix is worth the points its part is short of.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dalla.records.dataset import Dataset

#: Fewer pictures rarely teach a likeness well.
ENOUGH = 15
#: Share of the analysed pictures with a face above which the set is about people.
_PEOPLE = 0.5


@dataclass(frozen=True)
class Part:
    """One thing that is judged: `good` of what could be, and what to do about the rest."""

    code: str
    weight: float
    good: float
    title: str
    detail: str
    count: int
    filter: dict[str, Any]
    action: str  # what the page offers: import, caption, dedupe, review, analyze, trigger, edit


def health(stats: dict[str, Any], dataset: Dataset) -> dict[str, Any]:
    """Return {score 0-100 or None for an empty set, parts: [{code, weight, good}], fixes: the best three}."""
    total = stats["size"]["images"]
    if not total:
        fix = {
            "code": "empty",
            "title": "Add pictures",
            "detail": f"The dataset has no pictures to train on; {ENOUGH} to 50 good ones are a start.",
            "count": 0,
            "filter": {},
            "action": "import",
            "points": 100,
        }
        return {"score": None, "parts": [], "fixes": [fix]}
    parts = _parts(stats, dataset, total)
    weights = sum(part.weight for part in parts)
    score = 100 * sum(part.weight * part.good for part in parts) / weights
    fixes = sorted((part for part in parts if part.count and part.good < 1), key=lambda p: -p.weight * (1 - p.good))
    return {
        "score": int(score) if score < 100 else 100,
        "parts": [{"code": p.code, "weight": p.weight, "good": round(p.good, 4)} for p in parts],
        "fixes": [
            {
                "code": part.code,
                "title": part.title,
                "detail": part.detail,
                "count": part.count,
                "filter": part.filter,
                "action": part.action,
                "points": max(1, round(100 * part.weight * (1 - part.good) / weights)),
            }
            for part in fixes[:3]
        ],
    }


def _parts(stats: dict[str, Any], dataset: Dataset, total: int) -> list[Part]:
    captions, faces, blur = stats["captions"], stats["faces"], stats["blur"]
    parts = [
        Part(
            "captions", 25, captions["with"] / total, "Write the missing captions",
            f"{_of(captions['without'], total)} no caption.",
            captions["without"], captions["withoutFilter"], "caption",
        ),
        Part(
            "amount", 10, min(1.0, total / ENOUGH), "Add more pictures",
            f"{total} {'picture' if total == 1 else 'pictures'}: with fewer than {ENOUGH} a likeness is rarely learned well.",
            ENOUGH - total if total < ENOUGH else 0, {}, "import",
        ),
    ]  # fmt: skip
    below = stats["resolution"]["belowTarget"]
    target = below["target"]
    parts.append(
        Part(
            "resolution", 15, 1 - below["count"] / total, "Replace or enlarge small pictures",
            f"{_of(below['count'], total)} fewer pixels than {target} x {target}.",
            below["count"], below["filter"], "upscale",
        )
    )  # fmt: skip
    double = stats["duplicates"]
    spare = max(double["exact"]["images"] - double["exact"]["groups"], double["images"] - double["groups"])
    near = double["images"] - double["groups"] >= double["exact"]["images"] - double["exact"]["groups"]
    parts.append(
        Part(
            "duplicates", 15, 1 - spare / total, "Remove duplicates",
            f"{spare} {'picture is' if spare == 1 else 'pictures are'} there more than once or nearly so.",
            spare, double["filter"] if near else double["exact"]["filter"], "dedupe",
        )
    )  # fmt: skip
    if blur["measured"]:
        blurry = blur["blurry"]
        parts.append(
            Part(
                "sharpness", 15, 1 - blurry["count"] / blur["measured"], "Take out blurry pictures",
                f"{_are(blurry['count'], blur['measured'])} blurry.", blurry["count"], blurry["filter"], "review",
            )
        )  # fmt: skip
    parts += _people(faces, dataset, total)
    exposure = stats["exposure"]
    lit = max(exposure["dark"]["measured"], exposure["bright"]["measured"])
    if lit:
        side = max(("dark", "bright"), key=lambda name: exposure[name]["count"])
        bad = min(lit, exposure["dark"]["count"] + exposure["bright"]["count"])
        parts.append(
            Part(
                "exposure", 5, 1 - bad / lit, f"Look at pictures that are too {side}",
                f"{_of(exposure[side]['count'], lit)} large areas without any detail because they are too {side}.",
                exposure[side]["count"], exposure[side]["filter"], "review",
            )
        )  # fmt: skip
    return parts + _texts(captions)


def _people(faces: dict[str, Any], dataset: Dataset, total: int) -> list[Part]:
    """For sets about a person: one face in each picture. A set of places or things is not judged by faces."""
    analyzed = faces["analyzed"]
    with_face = faces["one"]["count"] + faces["many"]["count"]
    if not analyzed and dataset.character_id:
        return [
            Part(
                "faces", 10, 0.5, "Find the faces", f"{_of(total, total)} not been searched for faces yet.",
                total, faces["missing"]["filter"], "analyze",
            )
        ]  # fmt: skip
    if not analyzed or not (dataset.character_id or with_face > _PEOPLE * analyzed):
        return []
    none, many = faces["none"], faces["many"]
    worse = none if none["count"] * 2 >= many["count"] else many
    good = 1 - (none["count"] + 0.5 * many["count"]) / analyzed
    said = "no face" if worse is none else "more than one face"
    title = "Look at pictures without a face" if worse is none else "Crop pictures with several faces"
    return [
        Part(
            "faces", 10, good, title, f"{_of(worse['count'], analyzed)} {said}.", worse["count"], worse["filter"],
            "review" if worse is none else "face_crop",
        )
    ]  # fmt: skip


def _texts(captions: dict[str, Any]) -> list[Part]:
    have = captions["with"]
    if not have:
        return []
    parts = []
    trigger = captions["trigger"]
    if trigger is not None:
        parts.append(
            Part(
                "trigger", 10, trigger["count"] / have, "Put the trigger word into every caption",
                f"{trigger['missing']} of {have} captions lack {trigger['word']}.",
                trigger["missing"], trigger["missingFilter"], "trigger",
            )
        )  # fmt: skip
    over, alike = captions["over"], captions["duplicates"]
    unit = "tokens" if over["unit"] == "tokensClip" else "words"
    parts.append(
        Part(
            "length", 5, 1 - min(1.0, over["count"] / have), "Shorten long captions",
            f"{over['count']} of {have} captions have more than {over['limit']} {unit}; the rest is not read.",
            over["count"], over["filter"], "edit",
        )
    )  # fmt: skip
    spare = alike["count"] - alike["texts"]
    parts.append(
        Part(
            "variety", 5, 1 - spare / have, "Tell equal captions apart",
            f"{alike['count']} of {have} captions are the same as another one.", spare and alike["count"],
            alike["filter"], "edit",
        )
    )  # fmt: skip
    return parts


def _of(count: int, total: int) -> str:
    return f"{count} of {total} pictures {'has' if count == 1 else 'have'}"


def _are(count: int, total: int) -> str:
    return f"{count} of {total} pictures {'is' if count == 1 else 'are'}"
