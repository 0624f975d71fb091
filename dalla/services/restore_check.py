"""What is inside a backup that may come from anybody: its list compared with its content, sins by name."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

import dalla
from dalla.archives import Archive, Entry, Limits, describe, is_hidden, printable
from dalla.errors import DallaError, InvalidInput
from dalla.services.backup import FORMAT
from dalla.services.backup_contents import CREDENTIALS, MANIFEST, README_NAME, part_of
from dalla.services.storage_relocation import same_file
from dalla.times import iso, parse

LIMITS = Limits(
    entries=3_000_000,
    total_bytes=20 * 1000**4,
    entry_bytes=200 * 1000**3,
    nested_bytes=0,
    directory_bytes=1024 * 1024 * 1024,
)
MANIFEST_BYTES = 512 * 1024 * 1024


@dataclass
class Opened:
    """An archive whose table of contents was looked at. `files` are entries by the name they are restored to."""

    archive: Archive
    manifest: dict[str, Any] = field(default_factory=dict)
    files: dict[str, Entry] = field(default_factory=dict)
    parts: set[str] = field(default_factory=set)  # of the backup that have files: "records", "media" …
    hashes: dict[str, str] = field(default_factory=dict)
    problems: list[dict[str, Any]] = field(default_factory=list)

    def add(self, code: str, detail: str, names: list[str] | None = None) -> None:
        """Note why the backup cannot be restored."""
        shown = [printable(name) for name in (names or [])[:20]]
        self.problems.append({"code": code, "detail": detail, "count": len(names or []) or 1, "names": shown})

    def refuse(self) -> None:
        """Raises InvalidInput when anything speaks against it."""
        if self.problems:
            first = self.problems[0]
            raise InvalidInput(
                f"This backup is not restored: {first['detail']}",
                errors=[{"field": "file", "message": p["detail"]} for p in self.problems],
                remedy="Use a backup that this app wrote and that was not changed since.",
                extra={"sin": first["code"], "problems": self.problems},
            )


def open_backup(archive: Archive) -> Opened:
    """Look at the table of contents and the manifest; what speaks against it is in `problems`. Never raises for them."""
    opened = Opened(archive)
    for row in describe(archive.refused):
        opened.add(row["code"], f"{row['detail']} ({', '.join(row['names'][:3])})", row["names"])
    by_name = {entry.path: entry for entry in archive.entries}
    manifest = by_name.pop(MANIFEST, None)
    by_name.pop(README_NAME, None)
    if manifest is None or manifest.size > MANIFEST_BYTES:
        opened.add("no_manifest", "It is not a backup of Digital Dalla: manifest.json is missing.")
        return opened
    if not _read_manifest(opened, manifest):
        return opened
    missing = sorted(opened.hashes.keys() - by_name.keys())
    if missing:
        opened.add("missing", "Files that it should hold are missing.", missing)
    strange = sorted(by_name.keys() - opened.hashes.keys())
    if strange:
        opened.add("not_listed", "It holds files that its list does not name.", strange)
    renamed = opened.manifest["renamed"]
    foreign = []
    for entry_name in opened.hashes.keys() & by_name.keys():
        name = renamed.get(entry_name, entry_name)
        if entry_name == CREDENTIALS:
            opened.files[CREDENTIALS] = by_name[entry_name]
        elif (
            name in opened.files
            or by_name[entry_name].inside
            or (name != entry_name and not plain_name(name))  # names of entries are clean already
            or (part := part_of(name)) is None
        ):
            foreign.append(name)
        else:
            opened.files[name] = by_name[entry_name]
            opened.parts.add(part)
    if foreign:
        opened.add("foreign_file", "It holds files that no backup of this app has.", sorted(foreign))
    return opened


def _read_manifest(opened: Opened, entry: Entry) -> bool:
    try:
        manifest = orjson.loads(opened.archive.read(entry))
        app, hashes = manifest["app"], manifest["files"]
        format, version = int(manifest.get("format", 1)), str(manifest["version"])
        renamed = manifest.setdefault("renamed", {})
        manifest["createdAt"] = iso(parse(manifest["createdAt"]))
        texts = (*hashes, *hashes.values(), *renamed, *renamed.values())
        if app != "digital-dalla" or not all(isinstance(text, str) for text in texts):
            raise ValueError("not what we write")
    except (DallaError, ValueError, KeyError, TypeError, AttributeError):
        opened.add("damaged", "Its manifest.json cannot be read.")
        return False
    opened.manifest, opened.hashes = manifest, hashes
    if format > FORMAT or _numbers(version) > _numbers(dalla.__version__):
        opened.add(
            "newer",
            f"It was made by Digital Dalla {printable(version)[:40]}, which is newer than this one "
            f"({dalla.__version__}). Update the app first.",
        )
    return True


def plain_name(name: str) -> bool:
    """Whether a name can be joined below a folder: relative, no `..`, nothing a disk would read otherwise."""
    parts = name.split("/")
    if not name or len(name) > 1000 or any(part in ("", ".", "..") or part.startswith(".") for part in parts):
        return False
    if any(ord(c) < 32 or c == "\\" or 0xD800 <= ord(c) < 0xE000 for c in name) or len(max(parts, key=len)) > 255:
        return False
    return os.name != "nt" or not any(c in name for c in '<>:"|?*')


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) if part.isdecimal() else 0 for part in version.split(".")[:4])


def drop_alike(live: Path, place: Path) -> None:
    """Drop unpacked sets and LoRAs that lie here just the same: they need not be replaced."""
    for path in list(place.iterdir()) if place.is_dir() else []:
        here = live / path.name
        if path.is_dir() and here.is_dir() and not here.is_symlink():
            names = {_below(file, path) for file in path.rglob("*") if file.is_file()}
            there = {_below(file, here) for file in here.rglob("*") if file.is_file()}
            shown = {name for name in there if not is_hidden(name)}
            if names == shown and all(same_file(path / name, here / name) for name in names):
                shutil.rmtree(path)
        elif path.is_file() and same_file(path, here):
            path.unlink()


def _below(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix()
