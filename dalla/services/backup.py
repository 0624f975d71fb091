"""A backup of the data folder as one zip: the JSON files, the database, on request the pictures.

Written beside the earlier ones under another name, read back, and only then given its own. Keys are not in
it: they are encrypted for this computer, and a backup is a file that gets copied around.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import re
import sqlite3
import zipfile
import zlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

import dalla
from dalla.errors import StorageError
from dalla.paths import fsync_folder
from dalla.times import iso

logger = logging.getLogger(__name__)

FOLDER = "backups"
KEEP = 7
DOCUMENTS = ("characters.json", "scheduler.json", "prompts.json", "settings.json", "trash/characters.json")
FOLDERS = ("wildcards",)
MEDIA = "media"
DATABASE = "dalla.db"
_NAME = re.compile(r"dalla-\d{8}-\d{6}(-\d+)?\.zip\Z")
_PIECE = 1 << 20
README = """A backup of Digital Dalla.

To restore: stop the app, copy what is in this zip into the data folder (dalla.db over the one there; delete
dalla.db-wal and dalla.db-shm beside it), and start the app. Keys (API tokens) are not in it: enter them again.
"""

Step = Callable[[float, float, str], None]


def write_backup(
    data_dir: Path,
    *,
    keep: int = KEEP,
    include_media: bool = False,
    now: datetime | None = None,
    progress: Step = lambda done, total, message: None,
) -> dict[str, Any]:
    """Write, verify and keep one backup; remove all but the newest `keep`.

    `progress(done, total, message)` may raise to stop: then nothing is left of it. Returns {"file", "path",
    "sizeBytes", "files", "removed", "notes"}. Raises StorageError (disk full, a file that cannot be read back).
    """
    folder = Path(data_dir) / FOLDER
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _clear(folder)
        target = _free_name(folder, (now or datetime.now(UTC)).astimezone(UTC))
        temp = folder / f".{target.name}.tmp"
        copy = folder / f".{target.name}.db.tmp"
        try:
            files, notes = _write(Path(data_dir), temp, copy, include_media, progress)
            progress(len(files), len(files), "Checking what was written")
            _verify(temp, files)
            size = temp.stat().st_size
            os.replace(temp, target)
            fsync_folder(folder)
        finally:
            for left in (temp, copy):
                left.unlink(missing_ok=True)
        removed = prune(folder, keep)
    except OSError as exc:
        raise StorageError.from_os(exc, "the backup") from exc
    return {
        "file": target.name,
        "path": str(target),
        "sizeBytes": size,
        "files": len(files),
        "removed": removed,
        "notes": notes,
    }


def backups(data_dir: Path) -> list[Path]:
    """Return the backups there are, newest first."""
    folder = Path(data_dir) / FOLDER
    found = [path for path in folder.glob("dalla-*.zip") if _NAME.match(path.name)] if folder.is_dir() else []
    return sorted(found, key=_order, reverse=True)


def prune(folder: Path, keep: int) -> list[str]:
    """Remove all but the newest `keep` backups; return the names of those that went."""
    removed = []
    for path in backups(folder.parent)[max(1, keep) :]:
        path.unlink()
        removed.append(path.name)
    return removed


def _order(path: Path) -> tuple[str, int]:
    day, time, *number = path.stem.removeprefix("dalla-").split("-")
    return day + time, int(number[0]) if number else 0


def _free_name(folder: Path, moment: datetime) -> Path:
    name = f"dalla-{moment:%Y%m%d-%H%M%S}"
    for number in range(1, 1000):
        path = folder / (f"{name}.zip" if number == 1 else f"{name}-{number}.zip")
        if not path.exists():
            return path
    raise StorageError("There are a thousand backups of this second already.")


def _clear(folder: Path) -> None:
    """Remove what a backup left that was cut off."""
    for path in folder.glob(".dalla-*.tmp"):
        path.unlink(missing_ok=True)


def _write(data: Path, temp: Path, copy: Path, include_media: bool, progress: Step) -> tuple[dict[str, str], list[str]]:
    notes: list[str] = []
    sources = list(_sources(data, include_media))
    total = len(sources) + 1
    hashes: dict[str, str] = {}
    with open(temp, "wb") as raw:
        with zipfile.ZipFile(raw, "w", zipfile.ZIP_DEFLATED, compresslevel=6, strict_timestamps=False) as zip:
            progress(0, total, "Copying the database")
            if (data / DATABASE).is_file():
                _copy_database(data / DATABASE, copy)
                hashes[DATABASE] = _add(zip, copy, DATABASE)
            else:
                notes.append("There is no database file here; a PostgreSQL database has backups of its own.")
            for number, (path, name) in enumerate(sources, 1):
                progress(number, total, name if number % 50 == 1 or number == len(sources) else "")
                try:
                    hashes[name] = _add(zip, path, name)
                except FileNotFoundError:
                    continue  # deleted while we were at it
            manifest = {
                "app": "digital-dalla",
                "version": dalla.__version__,
                "createdAt": iso(datetime.now(UTC)),
                "media": include_media,
                "notes": notes,
                "files": hashes,
            }
            zip.writestr("manifest.json", orjson.dumps(manifest, option=orjson.OPT_INDENT_2))
            zip.writestr("README.txt", README)
        raw.flush()
        os.fsync(raw.fileno())
    return hashes, notes


def _sources(data: Path, include_media: bool) -> Iterator[tuple[Path, str]]:
    for name in DOCUMENTS:
        if (data / name).is_file():
            yield data / name, name
    for folder in (*FOLDERS, *((MEDIA,) if include_media else ())):
        for path in sorted((data / folder).rglob("*")) if (data / folder).is_dir() else ():
            relative = path.relative_to(data)
            if (
                path.is_file()
                and not path.is_symlink()
                and not path.name.startswith(".")
                and "thumbs" not in relative.parts
            ):
                yield path, relative.as_posix()


def _copy_database(source: Path, target: Path) -> None:
    """Copy a database that is in use, with what is still in its journal, and have it check itself."""
    try:
        with contextlib.closing(sqlite3.connect(source, timeout=30)) as live:
            with contextlib.closing(sqlite3.connect(target)) as copy:
                live.backup(copy, pages=2000)
                copy.execute("PRAGMA journal_mode = DELETE")
                found = copy.execute("PRAGMA quick_check").fetchone()
        if found is None or found[0] != "ok":
            raise StorageError(
                f"The database has a fault, so no backup of it was kept ({found[0] if found else 'no answer'}).",
                remedy="Restore the last good backup, or ask for help before going on.",
            )
    except sqlite3.Error as exc:
        raise StorageError(f"The database could not be copied: {exc}.", remedy="Try again.") from exc


def _add(zip: zipfile.ZipFile, path: Path, name: str) -> str:
    """Add one file in pieces; return the SHA-256 of what was read."""
    digest = hashlib.sha256()
    kind = zipfile.ZIP_STORED if path.suffix in (".png", ".jpg", ".webp", ".mp4", ".webm") else zipfile.ZIP_DEFLATED
    with open(path, "rb") as source:
        info = zipfile.ZipInfo.from_file(path, name, strict_timestamps=False)
        info.compress_type = kind
        with zip.open(info, "w", force_zip64=True) as target:
            while piece := source.read(_PIECE):
                digest.update(piece)
                target.write(piece)
    return digest.hexdigest()


def _verify(path: Path, hashes: dict[str, str]) -> None:
    """Read the whole zip back and compare. Raises StorageError."""
    try:
        with zipfile.ZipFile(path) as zip:
            for name, expected in hashes.items():
                digest = hashlib.sha256()
                with zip.open(name) as file:
                    while piece := file.read(_PIECE):
                        digest.update(piece)
                if digest.hexdigest() != expected:
                    raise StorageError(f"The backup was not kept: {name} does not read back as it was written.")
    except (zipfile.BadZipFile, zlib.error, KeyError, EOFError) as exc:
        raise StorageError(
            f"The backup was not kept: it cannot be read back ({exc}).", remedy="Check the disk; free some space."
        ) from exc
