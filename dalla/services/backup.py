"""A backup as one zip: the JSON files, the database, posts, runs and, on request, pictures, datasets, LoRAs, keys.

Written beside the earlier ones under another name, read back, and only then given its own. Weights of models are
never in it. Credentials are encrypted for this computer; they go along only under a passphrase.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import re
import shutil
import sqlite3
import threading
import zipfile
import zlib
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

import dalla
from dalla.errors import DallaError, StorageError
from dalla.paths import fsync_folder, read_object, write_atomic
from dalla.services.backup_contents import CREDENTIALS, DATABASE, MANIFEST, README_NAME, Contents, Source, collect
from dalla.services.backup_keys import seal
from dalla.times import iso, now_iso

logger = logging.getLogger(__name__)

FOLDER = "backups"
KEEP = 7
FORMAT = 2
#: Which backups were read back after they were written: {name: {sizeBytes, mtimeNs, at}}.
VERIFIED = ".backups.json"
_NAME = re.compile(r"dalla-\d{8}-\d{6}(-\d+)?\.zip\Z")
_PIECE = 1 << 20
#: Kept free on the disk, whatever is backed up.
_RESERVE = 64 * 1024 * 1024
_PACKED = frozenset({".png", ".jpg", ".jpeg", ".webp", ".gif", ".mp4", ".webm", ".safetensors", ".zip", ".gz"})
README = """A backup of Digital Dalla.

To restore it, open Settings > Backup and choose this file, or run: python app.py --restore FILE
What is there now is kept aside in the data folder, under backups/before-restore-<time>.
"""

Step = Callable[[float, float, str], None]

_writing = threading.Lock()  # one backup at a time: each clears what cut-off ones left


def write_backup(
    data_dir: Path,
    *,
    keep: int | None = KEEP,
    include_media: bool = False,
    contents: Contents | None = None,
    roots: Mapping[str, Path] | None = None,
    credentials: dict[str, str] | None = None,
    passphrase: str | None = None,
    now: datetime | None = None,
    progress: Step = lambda done, total, message: None,
) -> dict[str, Any]:
    """Write, verify and keep one backup; remove all but the newest `keep`.

    `keep` None: made by hand, nothing is removed, and later ones do not remove it. `contents` says what goes in beside
    the records (left out: `include_media` decides); `roots` are training_data/ and loras/. `credentials` go in
    encrypted under `passphrase`, else not. `progress(bytes done, bytes in all, message)` may raise to stop: then
    nothing is left of it. Returns {"file", "path", "sizeBytes", "files", "removed", "notes"}. Raises StorageError
    (disk full, a file that cannot be read back).
    """
    data = Path(data_dir)
    folder = data / FOLDER
    wanted = contents or Contents(media=include_media, datasets=include_media)
    moment = (now or datetime.now(UTC)).astimezone(UTC)
    sealed = seal(credentials, passphrase) if credentials is not None and passphrase else None
    while not _writing.acquire(timeout=0.5):
        progress(0, 0, "Waiting for another backup")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _clear(folder)
        target = _free_name(folder, moment, by_hand=keep is None)
        temp = folder / f".{target.name}.tmp"
        copy = folder / f".{target.name}.db.tmp"
        try:
            files, notes = _write(data, temp, copy, wanted, roots or {}, sealed, progress)
            _verify(temp, files, progress)
            size = temp.stat().st_size
            os.replace(temp, target)
            fsync_folder(folder)
        finally:
            for left in (temp, copy):
                left.unlink(missing_ok=True)
        _note_verified(data, target)
        removed = prune(folder, keep) if keep is not None else []
    except OSError as exc:
        raise StorageError.from_os(exc, "the backup") from exc
    finally:
        _writing.release()
    return {
        "file": target.name,
        "path": str(target),
        "sizeBytes": size,
        "files": len(files),
        "removed": removed,
        "notes": notes,
    }


def backups(data_dir: Path, *, by_hand: bool = False) -> list[Path]:
    """Return the backups of scheduled tasks, newest first; with `by_hand`, also those people made or put there."""
    folder = Path(data_dir) / FOLDER
    found = [path for path in folder.glob("*.zip") if by_hand or _NAME.match(path.name)] if folder.is_dir() else []
    if by_hand:
        return sorted(found, key=lambda path: path.stat().st_mtime_ns, reverse=True)
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


def _free_name(folder: Path, moment: datetime, *, by_hand: bool) -> Path:
    name = f"dalla-{'hand-' if by_hand else ''}{moment:%Y%m%d-%H%M%S}"
    for number in range(1, 1000):
        path = folder / (f"{name}.zip" if number == 1 else f"{name}-{number}.zip")
        if not path.exists():
            return path
    raise StorageError("There are a thousand backups of this second already.")


def _clear(folder: Path) -> None:
    """Remove what a backup left that was cut off."""
    for path in folder.glob(".dalla-*.tmp"):
        path.unlink(missing_ok=True)


def _write(
    data: Path,
    temp: Path,
    copy: Path,
    contents: Contents,
    roots: Mapping[str, Path],
    sealed: bytes | None,
    progress: Step,
) -> tuple[dict[str, str], list[str]]:
    """Write the zip; return the SHA-256 of every entry by its name in the zip, and notes for people."""
    notes: list[str] = []
    sources = collect(data, contents, roots)
    size = (data / DATABASE).stat().st_size if (data / DATABASE).is_file() else 0
    total = float(sources.bytes + size) * 2  # everything is read back
    _check_room(temp.parent, sources.bytes + 2 * size)
    hashes: dict[str, str] = {}
    renamed: dict[str, str] = {}
    done = 0.0

    def count(amount: int, message: str = "") -> None:
        nonlocal done
        done += amount
        progress(min(done, total), total, message)

    with open(temp, "wb") as raw:
        with zipfile.ZipFile(raw, "w", zipfile.ZIP_DEFLATED, compresslevel=6, strict_timestamps=False) as zip:
            progress(0, total, "Copying the database")
            if size:
                _copy_database(data / DATABASE, copy)
                hashes[DATABASE] = _add(zip, Source(copy, DATABASE, DATABASE, size), count)
            else:
                notes.append("There is no database file here; a PostgreSQL database has backups of its own.")
            for number, source in enumerate(sources.files, 1):
                if number % 50 == 1 or number == len(sources.files):
                    count(0, f"File {number} of {len(sources.files)}: {source.name}")
                try:
                    hashes[source.entry] = _add(zip, source, count)
                except FileNotFoundError:
                    continue  # deleted while we were at it
                if source.entry != source.name:
                    renamed[source.entry] = source.name
            if sealed is not None:
                zip.writestr(CREDENTIALS, sealed)
                hashes[CREDENTIALS] = hashlib.sha256(sealed).hexdigest()
            manifest = {
                "app": "digital-dalla",
                "format": FORMAT,
                "version": dalla.__version__,
                "createdAt": now_iso(),
                "media": contents.media,
                "datasets": contents.datasets,
                "loras": contents.loras,
                "encryptedKeys": sealed is not None,
                "folders": contents.folders(),
                "notes": notes,
                "renamed": renamed,
                "files": hashes,
            }
            zip.writestr(MANIFEST, orjson.dumps(manifest, option=orjson.OPT_INDENT_2))
            zip.writestr(README_NAME, README)
        raw.flush()
        os.fsync(raw.fileno())
    return hashes, notes


def _check_room(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed + _RESERVE > free:
        raise StorageError(
            f"There is no space left on the disk for the backup: up to {needed / 1e9:.1f} GB are needed, {free / 1e9:.1f} GB are free.",
            remedy="Free some space, leave the pictures out, or delete older backups.",
        )


def _copy_database(source: Path, target: Path) -> None:
    """Copy a database that is in use, with what is still in its journal, and have it check itself."""
    try:
        with contextlib.closing(sqlite3.connect(source, timeout=30)) as live:
            with contextlib.closing(sqlite3.connect(target)) as copy:
                live.backup(copy, pages=2000)
                copy.execute("PRAGMA journal_mode = DELETE")
                copy.execute("VACUUM")  # what was deleted does not go along
                found = copy.execute("PRAGMA quick_check").fetchone()
        if found is None or found[0] != "ok":
            raise StorageError(
                f"The database has a fault, so no backup of it was kept ({found[0] if found else 'no answer'}).",
                remedy="Restore the last good backup, or ask for help before going on.",
            )
    except sqlite3.Error as exc:
        raise StorageError(f"The database could not be copied: {exc}.", remedy="Try again.") from exc


def _add(zip: zipfile.ZipFile, source: Source, count: Callable[[int], None]) -> str:
    """Add one file in pieces; return the SHA-256 of what was read."""
    digest = hashlib.sha256()
    kind = zipfile.ZIP_STORED if source.path.suffix.lower() in _PACKED else zipfile.ZIP_DEFLATED
    with open(source.path, "rb") as file:
        info = zipfile.ZipInfo.from_file(source.path, source.entry, strict_timestamps=False)
        info.compress_type = kind
        with zip.open(info, "w", force_zip64=True) as target:
            while piece := file.read(_PIECE):
                digest.update(piece)
                target.write(piece)
                count(len(piece))
    return digest.hexdigest()


def _verify(path: Path, hashes: dict[str, str], progress: Step = lambda done, total, message: None) -> None:
    """Read the whole zip back and compare. Raises StorageError."""
    try:
        with zipfile.ZipFile(path) as zip:
            half = float(sum(zip.getinfo(name).file_size for name in hashes))
            done = 0
            progress(half, 2 * half, "Checking what was written")
            for name, expected in hashes.items():
                digest = hashlib.sha256()
                with zip.open(name) as file:
                    while piece := file.read(_PIECE):
                        digest.update(piece)
                        done += len(piece)
                        progress(half + done, 2 * half, "Checking what was written")
                if digest.hexdigest() != expected:
                    raise StorageError(f"The backup was not kept: {name} does not read back as it was written.")
    except (zipfile.BadZipFile, zlib.error, KeyError, EOFError) as exc:
        raise StorageError(
            f"The backup was not kept: it cannot be read back ({exc}).", remedy="Check the disk; free some space."
        ) from exc


# ---------------------------------------------------------------- what is known of a backup


def describe(path: Path) -> dict[str, Any]:
    """Return what a backup says of itself: {name, sizeBytes, createdAt, version, media, datasets, loras, weights,
    encryptedKeys, files, readable, byHand}. Never raises for a file that is no backup: then `readable` is false.
    """
    info = path.stat()
    row: dict[str, Any] = {
        "name": path.name,
        "sizeBytes": info.st_size,
        "createdAt": iso(datetime.fromtimestamp(info.st_mtime, UTC)),
        "version": None,
        "media": False,
        "datasets": False,
        "loras": False,
        "weights": False,
        "encryptedKeys": False,
        "files": 0,
        "readable": False,
        "byHand": not _NAME.match(path.name),
    }
    with contextlib.suppress(DallaError, OSError, zipfile.BadZipFile, zlib.error, KeyError, ValueError, RuntimeError):
        with zipfile.ZipFile(path) as zip:
            if zip.getinfo(MANIFEST).file_size > 1 << 28:
                return row
            manifest = orjson.loads(zip.read(MANIFEST))
        names = manifest["files"]
        row |= {
            "createdAt": str(manifest["createdAt"]),
            "version": str(manifest["version"]),
            "files": len(names),
            "readable": manifest["app"] == "digital-dalla",
            "media": bool(manifest.get("media")),
            "datasets": bool(manifest.get("datasets")),
            "loras": bool(manifest.get("loras")),
            "weights": any(name.startswith("loras/") for name in names),
            "encryptedKeys": CREDENTIALS in names,
        }
    return row


def is_verified(path: Path, verified: Mapping[str, Any]) -> bool:
    """Whether this very file was read back after it was written (`verified` from `read_verified`)."""
    note = verified.get(path.name) or {}
    info = path.stat()
    return bool(note.get("sizeBytes") == info.st_size and note.get("mtimeNs") == info.st_mtime_ns)


def read_verified(data_dir: Path) -> dict[str, Any]:
    """Return which backups were read back after they were written."""
    return read_object(Path(data_dir) / VERIFIED)


def _note_verified(data: Path, path: Path) -> None:
    info = path.stat()
    known = {name: note for name, note in read_verified(data).items() if (data / FOLDER / name).exists()}
    known[path.name] = {"sizeBytes": info.st_size, "mtimeNs": info.st_mtime_ns, "at": now_iso()}
    write_atomic(data / VERIFIED, orjson.dumps(known, option=orjson.OPT_INDENT_2))
