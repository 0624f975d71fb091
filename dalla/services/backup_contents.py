"""What goes into a backup: everything but weights, and what can be made again.

Names in the archive are those below the data folder; `training_data/` and `loras/` stand for the folders of those
settings, wherever they are.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from dalla.archives import OTHER_ARCHIVES, ZIPS, clean_path, is_hidden
from dalla.filenames import filename_key

DATABASE = "dalla.db"
MANIFEST = "manifest.json"
CREDENTIALS = "credentials.json"
README_NAME = "README.txt"
#: Small files of the data folder that are always taken.
DOCUMENTS = (
    "characters.json",
    "scheduler.json",
    "prompts.json",
    "settings.json",
    "trash/characters.json",
)
#: Folders of the data folder by the part of a backup they belong to.
FOLDERS: dict[str, tuple[str, ...]] = {
    "records": ("wildcards", "posts", "runs", "trash"),
    "media": ("media",),
    "datasets": ("datasets", "batches"),
}
#: Settings' folders by the part they belong to: the name in the archive and of the setting.
ROOTS: dict[str, tuple[str, str]] = {
    "datasets": ("training_data", "training_data_dir"),
    "loras": ("loras", "loras_dir"),
}
WEIGHTS = frozenset({".safetensors", ".ckpt", ".pt", ".pth", ".bin", ".onnx", ".gguf", ".pkl"})
#: What of a training run is made again, or is no use elsewhere.
_RUN_LEFTOVERS = frozenset({"checkpoints", "cache"})
#: Kinds of the file trash by the part they go with; the trash of models and of backups stays behind.
TRASH = {"training_data": "datasets", "loras": "loras", "media": "media"}
_RENAMED = "renamed"


@dataclass(frozen=True)
class Contents:
    """The parts of a backup beside the records."""

    media: bool = False
    datasets: bool = False
    loras: bool = False

    def folders(self) -> list[str]:
        """Return the folders of the data folder that the backup holds whole."""
        return [folder for part in self.parts() for folder in FOLDERS.get(part, ())]

    def parts(self) -> tuple[str, ...]:
        chosen = [name for name in ("media", "datasets", "loras") if getattr(self, name)]
        return ("records", *chosen)


@dataclass(frozen=True)
class Source:
    """One file: where it lies, what it is called (`name`) and under which name the archive holds it (`entry`)."""

    path: Path
    name: str
    entry: str
    size: int


@dataclass
class Sources:
    """All files of a backup with their bytes together."""

    files: list[Source] = field(default_factory=list)
    bytes: int = 0
    _seen: set[str] = field(default_factory=set)

    def add(self, path: Path, name: str) -> None:
        """Add a file; one whose name a reader would refuse gets another inside. A file that is gone is left out."""
        try:
            size = path.stat().st_size
        except OSError:
            return
        suffix = os.path.splitext(name)[1].lower()
        plain = clean_path(name) == (name, None) and suffix not in (*ZIPS, *OTHER_ARCHIVES) and not is_hidden(name)
        key = filename_key(name)
        entry = name if plain and key not in self._seen else f"{_RENAMED}/{len(self.files)}"
        self._seen.add(filename_key(entry))
        self.files.append(Source(path, name, entry, size))
        self.bytes += size


def collect(data: Path, contents: Contents, roots: Mapping[str, Path]) -> Sources:
    """Return what a backup of these contents holds, database and credentials aside.

    `roots` are the folders by their name in the archive ("training_data", "loras"); absent ones are left out.
    """
    found = Sources()
    for name in DOCUMENTS:
        if (data / name).is_file():
            found.add(data / name, name)
    for part in contents.parts():
        for folder in FOLDERS.get(part, ()):
            for path, name in _walk(data / folder, folder):
                if name not in DOCUMENTS and _wanted(name, contents):
                    found.add(path, name)
        folder, _ = ROOTS.get(part, ("", ""))
        if folder in roots:
            for path, name in _walk(roots[folder], folder):
                if _wanted(name, contents):
                    found.add(path, name)
    return found


def _wanted(name: str, contents: Contents) -> bool:
    top, first, *rest = name.split("/")
    suffix = os.path.splitext(name)[1].lower()
    if top == "trash":
        return TRASH.get(first) in contents.parts()
    if top == "loras":
        return not rest and suffix in (".safetensors", ".json")
    if top == "media" and first == "thumbs" and rest:
        return False
    if top == "runs" and rest and rest[0] in _RUN_LEFTOVERS:
        return False
    if top == "datasets" and rest and rest[0] == "exports":
        return False
    return suffix not in WEIGHTS


def _walk(folder: Path, name: str) -> Iterator[tuple[Path, str]]:
    """Yield (path, name) of every plain file below a folder in order: no links, nothing hidden, no temp files."""
    try:
        rows = sorted(os.scandir(folder), key=lambda row: row.name)
    except (FileNotFoundError, NotADirectoryError):
        return
    for row in rows:
        if row.is_symlink() or is_hidden(row.name) or row.name.endswith((".tmp", ".lock")):
            continue
        if row.is_dir():
            yield from _walk(Path(row.path), f"{name}/{row.name}")
        elif row.is_file():
            yield Path(row.path), f"{name}/{row.name}"


def part_of(name: str) -> str | None:
    """Return the part of a backup a name belongs to ("records", "media", …); None for what no backup of ours holds."""
    if name == DATABASE or name in DOCUMENTS:
        return "records"
    if "/" not in name or not _wanted(name, Contents(media=True, datasets=True, loras=True)):
        return None
    top = name.partition("/")[0]
    for part, folders in FOLDERS.items():
        if top in folders:
            return part
    for part, (folder, _) in ROOTS.items():
        if top == folder:
            return part
    return None
