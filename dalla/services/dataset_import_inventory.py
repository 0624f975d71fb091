"""What an import finds in its source: pictures, the captions that belong to them, kohya folders, and what is left over.

Nothing is decoded here: the kind of a file is told by its first bytes, so that a plan is quick.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from dalla.archives import Refusal, printable
from dalla.errors import DallaError
from dalla.filenames import filename_key, folder_of
from dalla.imaging import MAX_BYTES
from dalla.services.dataset_import_captions import (
    MAX_CAPTION,
    MAX_CHARACTERS,
    MAX_TABLE,
    PRECEDENCE,
    SIDECARS,
    SOURCE_WORDS,
    decode,
    sidecar,
    table,
)
from dalla.services.dataset_import_masks import sort_masks, stem_of
from dalla.services.dataset_sources import HEIC, PICTURES, Source, SourceFile, kind_of, reads_heic
from dalla.training_set import FOREIGN

_KOHYA = re.compile(r"(\d{1,4})_(.+)\Z")
#: "{3}" in the name of a folder multiplies its repeats.
_TIMES = re.compile(r"\{(\d{1,4})\}")
_REG = re.compile(r"(reg|regs|regularization|regularisation)(_.*|_?images)?\Z", re.IGNORECASE)
_TABLES = (".jsonl", ".ndjson", ".csv", ".tsv", ".json")
MAX_REPEATS = 1000
TOO_LONG = f"It is too long for a caption ({MAX_CHARACTERS:,} characters at most)."
HEAD = 32


@dataclass(frozen=True)
class Found:
    """A picture to import. `name` is its path in the dataset; `caption_from` a kind of PRECEDENCE or "" (none)."""

    file: SourceFile
    name: str
    caption: str = ""
    caption_from: str = ""
    repeats: int = 1
    concept: str = ""
    regularization: bool = False
    mask: SourceFile | None = None


@dataclass
class Inventory:
    """Everything the source holds, sorted."""

    pictures: list[Found] = field(default_factory=list)
    refused: list[Refusal] = field(default_factory=list)
    needs_plugin: list[str] = field(default_factory=list)
    orphans: list[dict[str, str]] = field(default_factory=list)  # name, reason
    empties: list[str] = field(default_factory=list)  # caption files without a word
    other: list[str] = field(default_factory=list)  # files that are neither picture nor caption
    captions: dict[str, dict[str, int]] = field(default_factory=dict)  # kind -> used, overruled
    encodings: Counter[str] = field(default_factory=Counter)
    kohya: dict[str, Any] | None = None
    bad_rows: int = 0
    masks: int = 0  # pictures with a mask
    loose_masks: list[tuple[str, SourceFile]] = field(
        default_factory=list
    )  # (stem it belongs to, file), no picture here

    @property
    def paired(self) -> int:
        """Pictures whose caption came out of a file."""
        return sum(picture.caption_from not in ("", "folder", "recipe") for picture in self.pictures)


def take_inventory(
    source: Source, options: dict[str, Any] | None = None, tick: Callable[[int, int], None] | None = None
) -> Inventory:
    """Look at every file of the source. `options` as completed by dataset_import.check_options.

    `tick(done, total)` may raise to stop. A file that cannot be read is refused by name; the rest goes on.
    """
    chosen = options or {}
    wanted = bool(chosen.get("captions", True))
    found = Inventory(refused=list(source.refused))
    pictures: list[SourceFile] = []
    texts: list[SourceFile] = []
    for n, file in enumerate(source.files):
        if tick is not None and n % 200 == 0:
            tick(n, len(source.files))
        suffix = _suffix(file.name)
        if suffix in PICTURES or not suffix:
            _sort_picture(source, file, found, pictures)
        elif suffix in SIDECARS or suffix in _TABLES:
            texts.append(file)
        else:
            _sort_other(source, file, found, pictures)
    pictures, masks, found.loose_masks = sort_masks(pictures)
    if not chosen.get("masks", True):
        masks, found.loose_masks = {}, []
    folders = _Folders(source, pictures, texts) if chosen.get("kohya", True) else None
    names = _names(pictures, folders)
    captions = _Captions(source, found, pictures, texts, folders.used if folders else set()) if wanted else None
    used: Counter[str] = Counter()
    overruled: Counter[str] = Counter()
    for file in pictures:
        repeats, concept, reg = folders.of(file.name) if folders else (1, "", False)
        text, kind, others = captions.of(file.name) if captions else ("", "", [])
        if not text and wanted and concept and chosen.get("folder_captions", True):
            text, kind = concept, "folder"
        if kind:
            used[kind] += 1
        overruled.update(others)
        mask = masks.get(file.name)
        found.masks += mask is not None
        found.pictures.append(Found(file, names[file.name], text, kind, repeats, concept, reg, mask))
    found.captions = {k: {"used": used[k], "overruled": overruled[k]} for k in PRECEDENCE if used[k] or overruled[k]}
    found.kohya = folders.summary(found.pictures) if folders else None
    return found


def _sort_picture(source: Source, file: SourceFile, found: Inventory, pictures: list[SourceFile]) -> None:
    if file.size == 0:
        found.refused.append(Refusal(printable(file.name), "empty", "The file is empty (0 bytes)."))
        return
    if file.size > MAX_BYTES:
        detail = f"It has {file.size / 1e6:.0f} MB; a picture may have {MAX_BYTES / 1e6:.0f} MB."
        found.refused.append(Refusal(printable(file.name), "too_large", detail))
        return
    try:
        kind = kind_of(source.read(file, HEAD))
    except DallaError as exc:
        code = str(exc.extra.get("sin", exc.code))
        found.refused.append(Refusal(printable(file.name), code, exc.detail))
        return
    suffix = _suffix(file.name)
    if kind == "heic" and not reads_heic():
        found.needs_plugin.append(file.name)
    elif kind in ("picture", "heic"):
        pictures.append(file)
    elif suffix not in PICTURES:
        found.other.append(file.name)
    elif kind == "video":
        found.refused.append(Refusal(printable(file.name), "video", "It is a video, whatever its name says."))
    else:
        detail = "It is not a picture, whatever its name says." if suffix not in HEIC else "It is not a HEIC picture."
        found.refused.append(Refusal(printable(file.name), "not_a_picture", detail))


def _sort_other(source: Source, file: SourceFile, found: Inventory, pictures: list[SourceFile]) -> None:
    """A file with an ending that says nothing: a picture all the same when its first bytes say so."""
    suffix = _suffix(file.name)
    if suffix in FOREIGN:
        found.refused.append(Refusal(printable(file.name), "unsupported", f"It is {FOREIGN[suffix]}."))
        return
    try:
        kind = kind_of(source.read(file, HEAD)) if file.size else "empty"
    except DallaError:
        kind = "other"
    if kind == "picture":
        _sort_picture(source, file, found, pictures)
    elif kind == "video":
        found.refused.append(Refusal(printable(file.name), "video", "It is a video. Save frames of it as pictures."))
    else:
        found.other.append(file.name)


def _suffix(name: str) -> str:
    last = name.rpartition("/")[2]
    return "." + last.rpartition(".")[2].lower() if "." in last[1:] else ""


def _names(pictures: list[SourceFile], folders: _Folders | None) -> dict[str, str]:
    """Paths in the dataset: as in the source, less the one folder that wraps everything."""
    prefix = ""
    while True:
        tops = {file.name[len(prefix) :].partition("/")[0] for file in pictures if "/" in file.name[len(prefix) :]}
        bare = any("/" not in file.name[len(prefix) :] for file in pictures)
        top = next(iter(tops), "")
        if bare or len(tops) != 1 or _KOHYA.match(top) or top.lower() == "img" or _REG.match(top):
            break
        prefix += top + "/"
    return {file.name: file.name[len(prefix) :] for file in pictures}


class _Folders:
    """Repeats and concepts from the names of folders: `10_luna woman`, below `img/` and `reg/` or on their own."""

    def __init__(self, source: Source, pictures: list[SourceFile], texts: list[SourceFile]) -> None:
        self.used: set[str] = set()  # files that say how often a folder is repeated
        self._root = source.label if source.kind == "folder" else ""
        self._cache: dict[str, tuple[int, str, bool]] = {}
        self._times: dict[str, int] = {}
        for file in texts:
            if file.name.rpartition("/")[2].lower() == "multiply.txt":
                number = decode(source.read(file, 64))[0].strip()
                try:
                    self._times[folder_of(file.name)] = max(1, round(float(number)))
                    self.used.add(file.name)
                except (ValueError, OverflowError):
                    continue

    def of(self, name: str) -> tuple[int, str, bool]:
        """Return (repeats, concept, whether it is regularization) of a picture."""
        folder = folder_of(name)
        if folder not in self._cache:
            self._cache[folder] = self._find(folder)
        return self._cache[folder]

    def _find(self, folder: str) -> tuple[int, str, bool]:
        parts = [self._root, *folder.split("/")] if folder else [self._root]
        times = self._times.get(folder, 1)
        for depth in range(len(parts) - 1, -1, -1):
            factors = [int(n) for n in _TIMES.findall(parts[depth])]
            match = _KOHYA.match(_TIMES.sub("", parts[depth]).strip())
            for factor in factors:
                times *= max(1, factor)
            if match:
                reg = any(_REG.match(part) for part in parts[:depth])
                repeats = min(MAX_REPEATS, max(1, int(match[1])) * times)
                return repeats, match[2].strip(" _"), reg
        return min(MAX_REPEATS, times), "", False

    def summary(self, pictures: list[Found]) -> dict[str, Any] | None:
        """Which kind of kohya tree it is, and its folders; None when it is none."""
        groups: dict[str, list[Found]] = {}
        for picture in pictures:
            if picture.concept:
                groups.setdefault(folder_of(picture.file.name), []).append(picture)
        if not groups:
            return None
        above = {part.lower() for folder in groups for part in folder.split("/")[:-1]}
        if "" in groups:
            level, told = "leaf", f"The folder '{self._root}' itself is one concept of a kohya tree."
        elif any(p.regularization for p in pictures) and all(p.regularization for p in pictures if p.concept):
            level, told = "reg", "These are the regularization pictures of a kohya tree (reg)."
        elif "img" in above or any(_REG.match(part) for part in above):
            level, told = "root", "This is a whole kohya tree, with img and reg as it has them."
        else:
            level, told = "img", "These are the concept folders of a kohya tree (img)."
        rows = [
            {
                "folder": folder or self._root,
                "repeats": found[0].repeats,
                "concept": found[0].concept,
                "regularization": found[0].regularization,
                "pictures": len(found),
            }
            for folder, found in sorted(groups.items())
        ]
        return {"level": level, "told": told, "folders": rows}


class _Captions:
    """Which text belongs to which picture, and which text to none."""

    def __init__(
        self, source: Source, found: Inventory, pictures: list[SourceFile], texts: list[SourceFile], skip: set[str]
    ) -> None:
        self._source = source
        self._found = found
        self._by_path = {filename_key(file.name): file.name for file in pictures}
        self._by_stem: dict[str, list[str]] = {}
        self._by_last: dict[str, list[str]] = {}
        for file in pictures:
            self._by_stem.setdefault(filename_key(stem_of(file.name)), []).append(file.name)
            last = file.name.rpartition("/")[2]
            for name in {filename_key(last), filename_key(stem_of(last))}:
                self._by_last.setdefault(name, []).append(file.name)
        self._unread = {filename_key(stem_of(name)) for name in found.needs_plugin}
        self._texts: dict[str, dict[str, str]] = {}  # picture -> kind -> text
        for file in texts:
            if file.name not in skip:
                self._take(file)

    def of(self, name: str) -> tuple[str, str, list[str]]:
        """Return (caption, its kind or "", kinds that were there but came later in the order)."""
        kinds = [kind for kind in PRECEDENCE if self._texts.get(name, {}).get(kind)]
        if not kinds:
            return "", "", []
        return self._texts[name][kinds[0]], kinds[0], kinds[1:]

    def _take(self, file: SourceFile) -> None:
        suffix = _suffix(file.name)
        stem = filename_key(stem_of(file.name))
        # "a.png.txt" names its picture in full; "a.txt" belongs to every picture called a
        owners = [self._by_path[stem]] if stem in self._by_path else self._by_stem.get(stem, [])
        if file.size > (MAX_TABLE if suffix in _TABLES else MAX_CAPTION) and not (suffix == ".json" and not owners):
            self._orphan(file, "It is too large for a caption.")
            return
        if file.size > MAX_TABLE:
            self._orphan(file, f"A table of captions may have {MAX_TABLE // 2**20} MB.")
            return
        try:
            data = self._source.read(file)
        except DallaError as exc:
            code = str(exc.extra.get("sin", exc.code))
            self._found.refused.append(Refusal(printable(file.name), code, exc.detail))
            return
        if suffix in SIDECARS and owners:
            self._beside(file, SIDECARS[suffix], data, owners)
        elif suffix in _TABLES:
            self._table(file, suffix, data)
        elif stem in self._unread:
            self._orphan(file, "Its picture cannot be read without pillow-heif.")
        else:
            empty = not data.strip()
            self._orphan(file, "There is no picture of that name." + (" It is empty, too." if empty else ""))

    def _beside(self, file: SourceFile, kind: str, data: bytes, owners: list[str]) -> None:
        text = sidecar(kind, data)
        if text is None:
            self._orphan(file, "It holds no caption that is understood.")
        elif not text:
            self._found.empties.append(file.name)
        elif len(text) > MAX_CHARACTERS:
            self._orphan(file, TOO_LONG)
        else:
            self._found.encodings[decode(data[:MAX_CAPTION])[1]] += 1
            for owner in owners:
                self._texts.setdefault(owner, {}).setdefault(kind, text)

    def _table(self, file: SourceFile, suffix: str, data: bytes) -> None:
        rows = table(file.name, data)
        if rows is None:
            if suffix in (".csv", ".tsv") or not data.strip():
                self._found.other.append(file.name)
            else:
                self._orphan(file, "There is no picture of that name, and it is no table of captions.")
            return
        self._found.bad_rows += rows.bad
        kind = "jsonl" if suffix in (".jsonl", ".ndjson") else "csv" if suffix in (".csv", ".tsv") else "table"
        folder = folder_of(file.name)
        for name, text in rows.rows:
            owner = self._resolve(folder, name)
            if owner is None:
                self._found.orphans.append(
                    {
                        "name": printable(f"{file.name}: {name}"),
                        "reason": "The table names a picture that is not there.",
                    }
                )
            elif not text:
                self._found.empties.append(printable(f"{file.name}: {name}"))
            elif len(text) > MAX_CHARACTERS:
                self._found.orphans.append({"name": printable(f"{file.name}: {name}"), "reason": TOO_LONG})
            else:
                self._texts.setdefault(owner, {}).setdefault(kind, text)

    def _resolve(self, folder: str, written: str) -> str | None:
        """The picture a table means: by its path from the table, without ending, or by its last part if only one fits."""
        path = written.replace("\\", "/").lstrip("./")
        here = filename_key(f"{folder}/{path}" if folder else path)
        for key in (here, filename_key(path)):
            if key in self._by_path:
                return self._by_path[key]
            if len(self._by_stem.get(key, ())) == 1:
                return self._by_stem[key][0]
        last = filename_key(path.rpartition("/")[2])
        fits = self._by_last.get(last, [])
        below = [name for name in fits if not folder or name.startswith(folder + "/")]
        return below[0] if len(below) == 1 else fits[0] if len(fits) == 1 else None

    def _orphan(self, file: SourceFile, reason: str) -> None:
        self._found.orphans.append({"name": printable(file.name), "reason": reason})


def words_of_precedence(found: Inventory) -> list[str]:
    """Return one sentence per thing worth telling about where captions came from."""
    lines = []
    several = sum(row["overruled"] for row in found.captions.values())
    if several:
        order = ", then ".join(SOURCE_WORDS[kind] for kind in PRECEDENCE if kind in found.captions)
        lines.append(
            f"Some pictures have a caption in several places ({several} were not taken). The order is: {order}."
        )
    if folder := found.captions.get("folder", {}).get("used"):
        noun = "picture takes" if folder == 1 else "pictures take"
        lines.append(f"{folder} {noun} the name of the folder as caption, as kohya does.")
    odd = {name: n for name, n in found.encodings.items() if not name.startswith("utf-8")}
    if odd:
        told = ", ".join(f"{n} in {name}" for name, n in sorted(odd.items()))
        lines.append(f"Captions were not all saved as UTF-8 ({told}); they were read as that.")
    if found.bad_rows:
        lines.append(f"{found.bad_rows} rows of tables could not be understood.")
    return lines
