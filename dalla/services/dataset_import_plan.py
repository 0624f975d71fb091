"""What an import would do, said before it does anything: counts, a sentence, and everything worth a look."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from pydantic.alias_generators import to_camel

from dalla.archives import describe, printable
from dalla.errors import DallaError
from dalla.filenames import filename_key
from dalla.services.dataset_import_captions import SOURCE_WORDS
from dalla.services.dataset_import_inventory import Found, Inventory, words_of_precedence
from dalla.services.dataset_sources import Source

#: Names shown per list; the counts are always of all.
SHOWN = 200
#: So many bytes are read at most to find duplicates before the import; the import itself compares everything.
COMPARED_BYTES = 500 * 1000**2
#: Thumbnails and rows need room beside the originals, roughly per picture.
EXTRA_BYTES = 120_000


@dataclass
class Twins:
    """Exact duplicates: name in the source -> (name or picture it equals, "import" or "dataset")."""

    of: dict[str, tuple[str, str]] = field(default_factory=dict)
    complete: bool = True  # False: the rest is only compared by the import


def exact_twins(
    source: Source,
    pictures: list[Found],
    known: Callable[[list[str]], dict[str, str]] | None = None,
    *,
    budget: int = COMPARED_BYTES,
    tick: Callable[[int, int], None] | None = None,
) -> Twins:
    """Find pictures with the same bytes; of each group the one with a caption stays, then the first by name.

    Without `known` only files that could be equal (same size, and same checksum in an archive) are read. With it
    every file is, as far as `budget` bytes go, and compared with the dataset: it answers names by SHA-256.
    """
    groups: dict[tuple[int, ...], list[Found]] = {}
    for picture in pictures:
        groups.setdefault(picture.file.twin_key, []).append(picture)
    found = Twins()
    hashes: dict[str, str] = {}
    todo = [picture for group in groups.values() if known is not None or len(group) > 1 for picture in group]
    for n, picture in enumerate(sorted(todo, key=lambda p: len(groups[p.file.twin_key]) < 2)):
        if tick is not None and n % 20 == 0:
            tick(n, len(todo))
        if picture.file.size > budget:
            found.complete = False
            continue
        budget -= picture.file.size
        try:
            hashes[picture.file.name] = hashlib.sha256(source.read(picture.file)).hexdigest()
        except DallaError:
            continue  # the import tells it by name
    by_hash: dict[str, list[Found]] = {}
    for picture in todo:
        if picture.file.name in hashes:
            by_hash.setdefault(hashes[picture.file.name], []).append(picture)
    there = known(list(by_hash)) if known is not None and by_hash else {}
    for value, group in by_hash.items():
        group.sort(key=lambda p: (p.caption_from in ("", "folder"), filename_key(p.name)))
        if value in there:
            found.of |= {picture.file.name: (there[value], "dataset") for picture in group}
        else:
            found.of |= {picture.file.name: (group[0].name, "import") for picture in group[1:]}
    return found


def make_plan(
    source: Source,
    inventory: Inventory,
    twins: Twins,
    *,
    names_taken: set[str],
    free_bytes: int | None,
    dataset: dict[str, Any],
    options: dict[str, Any],
) -> dict[str, Any]:
    """Return the plan as the API answers it. Nothing is read any more."""
    pictures = inventory.pictures
    size = sum(picture.file.size for picture in pictures)
    keep = options.get("duplicates") == "keep"
    renamed = (
        []
        if keep
        else [p.name for p in pictures if filename_key(p.name) in names_taken and p.file.name not in twins.of]
    )
    formats = Counter(picture.file.name.rpartition(".")[2].lower() for picture in pictures)
    needed = size + EXTRA_BYTES * len(pictures)
    counts = {
        "files": len(source.files),
        "pictures": len(pictures),
        "captionsPaired": inventory.paired,
        "captionsFromFolders": inventory.captions.get("folder", {}).get("used", 0),
        "withoutCaption": sum(not picture.caption for picture in pictures),
        "masks": inventory.masks,
        "looseMasks": len(inventory.loose_masks),
        "orphans": len(inventory.orphans),
        "empties": len(inventory.empties),
        "duplicates": len(twins.of),
        "duplicatesInDataset": sum(where == "dataset" for _, where in twins.of.values()),
        "regularization": sum(picture.regularization for picture in pictures),
        "refused": len(inventory.refused),
        "needPlugin": len(inventory.needs_plugin),
        "otherFiles": len(inventory.other),
        "renamed": len(renamed),
    }
    return {
        "summary": sentence(inventory, len(twins.of)),
        "source": {"kind": source.kind, "label": printable(source.label)},
        "dataset": dataset,
        "options": {to_camel(name): value for name, value in options.items()},
        "counts": counts,
        "bytes": size,
        "neededBytes": needed,
        "freeBytes": free_bytes,
        "fits": free_bytes is None or needed < free_bytes,
        "kohya": inventory.kohya,
        "formats": [{"value": value, "count": n} for value, n in formats.most_common()],
        "captionSources": [
            {"kind": kind, "words": SOURCE_WORDS[kind], **row} for kind, row in inventory.captions.items()
        ],
        "orphans": inventory.orphans[:SHOWN],
        "looseMasks": [printable(file.name) for _, file in inventory.loose_masks[:SHOWN]],
        "empties": [printable(name) for name in inventory.empties[:SHOWN]],
        "duplicates": [
            {"name": printable(name), "of": printable(of), "in": where}
            for name, (of, where) in list(twins.of.items())[:SHOWN]
        ],
        "duplicatesComplete": twins.complete,
        "renamed": [printable(name) for name in renamed[:SHOWN]],
        "refused": describe(inventory.refused),
        "needPlugin": [printable(name) for name in inventory.needs_plugin[:SHOWN]],
        "otherFiles": [printable(name) for name in inventory.other[:SHOWN]],
        "samples": [
            {"name": printable(p.name), "caption": p.caption[:300], "repeats": p.repeats, "concept": p.concept}
            for p in pictures[:12]
        ],
        "warnings": _warnings(inventory, twins, needed, free_bytes),
    }


def sentence(inventory: Inventory, duplicates: int) -> str:
    """Return "142 pictures, 138 captions paired, 4 orphans, 3 duplicates, kohya repeats 10"."""
    paired = inventory.paired
    parts = [count(len(inventory.pictures), "picture"), f"{count(paired, 'caption')} paired"]
    if inventory.masks:
        parts.append(count(inventory.masks, "mask"))
    if inventory.loose_masks:
        parts.append(f"{count(len(inventory.loose_masks), 'mask')} without a picture")
    if inventory.orphans:
        parts.append(count(len(inventory.orphans), "orphan"))
    if inventory.empties:
        parts.append(count(len(inventory.empties), "empty caption"))
    if duplicates:
        parts.append(count(duplicates, "duplicate"))
    if inventory.kohya:
        repeats = sorted(
            {row["repeats"] for row in inventory.kohya["folders"] if not row["regularization"]}, reverse=True
        )
        reg = [row for row in inventory.kohya["folders"] if row["regularization"]]
        if repeats:
            parts.append(
                "kohya repeats " + " and ".join(map(str, repeats[:5])) + (" and more" if len(repeats) > 5 else "")
            )
        if reg:
            parts.append(f"{sum(row['pictures'] for row in reg)} for regularization")
    if inventory.needs_plugin:
        verb = "needs" if len(inventory.needs_plugin) == 1 else "need"
        parts.append(f"{len(inventory.needs_plugin)} {verb} a plugin")
    if inventory.refused:
        parts.append(f"{len(inventory.refused)} refused")
    return ", ".join(parts)


def count(number: int, noun: str) -> str:
    """Return "1 picture", "4 pictures"."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def _warnings(inventory: Inventory, twins: Twins, needed: int, free: int | None) -> list[dict[str, str]]:
    found: list[dict[str, str]] = []

    def warn(code: str, message: str, fix: str = "") -> None:
        found.append({"code": code, "message": message, "fix": fix})

    if inventory.loose_masks:
        warn(
            "loose_masks",
            f"{count(len(inventory.loose_masks), 'mask')} without a picture of that name.",
            "Pictures of the dataset that have the name get them.",
        )
    if not inventory.pictures and not inventory.loose_masks:
        warn(
            "no_pictures", "There is no picture that can be imported.", "Send JPEG, PNG, WebP, AVIF, GIF, BMP or TIFF."
        )
    if free is not None and needed >= free:
        warn(
            "no_room",
            f"The pictures need about {needed / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free.",
            "Free some space before importing.",
        )
    if inventory.needs_plugin:
        warn(
            "needs_plugin",
            f"{count(len(inventory.needs_plugin), 'HEIC picture')} cannot be read without pillow-heif.",
            "Run 'pip install pillow-heif', restart the app, and import again.",
        )
    for row in describe(inventory.refused):
        warn(f"refused_{row['code']}", f"{count(row['count'], 'file')} refused: {row['detail']}")
    for line in words_of_precedence(inventory):
        warn("captions", line)
    if inventory.kohya:
        warn("kohya", inventory.kohya["told"])
    if not twins.complete:
        warn("not_compared", "There is more than can be compared now; the import itself finds every duplicate.")
    return found
