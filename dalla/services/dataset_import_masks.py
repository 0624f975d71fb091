"""Which of the picture files of an import are masks, and of which pictures. By names alone; nothing is read.

Three conventions are understood, those of the trainers: `a-masklabel.png` (OneTrainer) and `a.mask.png` beside `a.jpg`,
and a folder `masks/` (or `mask/`, `conditioning/`) with files of the same name as the pictures: inside their folder,
beside it, or above all of them (`masks/img/10_luna/a.png` of `img/10_luna/a.jpg`, as kohya and ai-toolkit take it).
"""

from __future__ import annotations

import re
from collections import defaultdict

from dalla.filenames import filename_key
from dalla.services.dataset_sources import SourceFile

#: The end of a mask's name before its ending.
_TAIL = re.compile(r"(-masklabel|\.mask)\Z", re.IGNORECASE)
_FOLDERS = {"mask", "masks", "conditioning"}
#: What the folder of the pictures may be called where that of the masks lies beside it.
_BESIDE = ("images", "image", "img", "pictures", "train")

Loose = list[tuple[str, SourceFile]]


def sort_masks(files: list[SourceFile]) -> tuple[list[SourceFile], dict[str, SourceFile], Loose]:
    """Return (pictures, mask by name of its picture, masks without a picture as (stem of the picture, file)).

    A folder `masks/` in which not one file has a picture is a folder of pictures. A mask belongs to every picture
    of its stem (`a.png` and `a.jpg`); of two masks the first by name is taken.
    """
    beside: list[tuple[str, SourceFile]] = []
    inside: dict[str, list[SourceFile]] = defaultdict(list)
    plain: list[SourceFile] = []
    for file in files:
        stem = stem_of(file.name)
        if match := _TAIL.search(stem):
            beside.append((stem[: match.start()], file))
        elif folder := _mask_folder(file.name):
            inside[folder].append(file)
        else:
            plain.append(file)
    pairs: list[tuple[str, SourceFile]] = list(beside)
    index = _Index(plain)
    for folder, members in inside.items():
        if any(index.find(folder, file.name) for file in members):
            pairs += [(index.find(folder, file.name) or _without(folder, stem_of(file.name)), file) for file in members]
        else:
            plain += members
    if pairs and len(plain) > len(index.names):  # folders of pictures after all: masks beside those, too
        index = _Index(plain)
    masks: dict[str, SourceFile] = {}
    loose: Loose = []
    for stem, file in sorted(pairs, key=lambda pair: pair[1].name):
        owners = index.owners(stem)
        if not owners:
            loose.append((stem, file))
        for owner in owners:
            masks.setdefault(owner, file)
    order = {file.name: place for place, file in enumerate(files)}
    return sorted(plain, key=lambda file: order[file.name]), masks, loose


class _Index:
    """Pictures by stem (the name without ending) and by whole name, for masks that say it (`a.png.mask.png`)."""

    def __init__(self, pictures: list[SourceFile]) -> None:
        self.names = [file.name for file in pictures]
        self._stems: dict[str, list[str]] = defaultdict(list)
        for name in self.names:
            self._stems[filename_key(stem_of(name))].append(name)
        self._whole = {filename_key(name): name for name in self.names}

    def owners(self, stem: str) -> list[str]:
        key = filename_key(stem)
        return self._stems.get(key) or ([self._whole[key]] if key in self._whole else [])

    def find(self, folder: str, name: str) -> str | None:
        """The stem of the pictures that a file of a folder of masks belongs to."""
        stem = stem_of(name)
        wishes = [_without(folder, stem)]
        above, rest = folder.rpartition("/")[0], stem[len(folder) + 1 :]
        wishes += [f"{above}/{one}/{rest}" if above else f"{one}/{rest}" for one in _BESIDE]
        for wish in wishes:
            if self.owners(wish):
                return wish
        return None


def _mask_folder(name: str) -> str:
    """Return the path of the first folder of a name that is one of masks, "" without one."""
    parts = name.split("/")[:-1]
    place = next((n for n, part in enumerate(parts) if part.lower() in _FOLDERS), None)
    return "" if place is None else "/".join(parts[: place + 1])


def _without(folder: str, stem: str) -> str:
    above = folder.rpartition("/")[0]
    return (f"{above}/" if above else "") + stem[len(folder) + 1 :]


def stem_of(name: str) -> str:
    """Return "a/b" of "a/b.png"."""
    folder, slash, last = name.rpartition("/")
    return folder + slash + (last.rpartition(".")[0] or last)
