"""Read a backup that may come from anybody: check it, say what it would replace, unpack it beside the data.

Nothing in use is touched here. What passes every check lies below `data/restore/staged/` in the end, with a note
(`staged.json`) that the next start reads (restore_apply.py). An archive that is not sound is refused whole.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import orjson

from dalla.archives import Archive, printable
from dalla.errors import DallaError, InvalidInput, StorageError
from dalla.ids import new_id
from dalla.paths import fsync_folder, read_object, write_atomic
from dalla.services.backup_contents import (
    CREDENTIALS,
    DATABASE,
    ROOTS,
    TRASH,
)
from dalla.services.backup_keys import unseal
from dalla.services.restore_apply import FOLDER, NOTE, STAGED, forget_staged, roots_of
from dalla.services.restore_check import LIMITS, Opened, drop_alike, open_backup, plain_name
from dalla.services.storage_sizes import nearest
from dalla.settings import BY_NAME, ROWS, Settings, parse
from dalla.stores.base import SecretStore
from dalla.times import now_iso

logger = logging.getLogger(__name__)

DOCUMENT_BYTES = 256 * 1024 * 1024
#: Settings of this computer, not of the work, and those that hold its door: they stay as they are here.
LOCAL = (
    "host", "port", "data_dir", "training_data_dir", "loras_dir", "models_dir", "comfyui_lora_dir", "auth", "allowed_hosts",
    "trusted_proxies", "session_days", "rate_limit", "pickle_weights", "webhook_private",
)  # fmt: skip
_LISTS = {"characters.json": "characters", "scheduler.json": "scheduledTasks", "prompts.json": "prompts"}
_RESERVE = 64 * 1024 * 1024

Step = Callable[[float, float, str], None]


class Databases(Protocol):
    """What is done with the database of a backup (stores/restored.py)."""

    def check(self, file: Path) -> None: ...
    def update_tables(self, file: Path) -> None: ...
    def counts(self, file: Path) -> dict[str, int]: ...


class Stager:
    """Checks and unpacks backups for one data folder."""

    def __init__(self, settings: Settings, databases: Databases, secrets_for: Callable[[Path], SecretStore]) -> None:
        """`secrets_for` opens the credential store of a folder, with the key of this installation."""
        self._settings = settings
        self._databases = databases
        self._secrets_for = secrets_for
        self._data = Path(settings.data_dir)

    # ------------------------------------------------------------ looking

    def plan(self, file: Path, passphrase: str | None = None) -> dict[str, Any]:
        """Say what restoring would do; nothing changes.

        Returns {createdAt, version, files, bytes, parts, replaces: {kind: {now, backup}}, encryptedKeys, keys,
        problems, restorable, notes}. Every small file and the database are read; the pictures' hashes are compared
        when it is staged. Raises InvalidInput (passphrase), UnsupportedMedia (no zip), TooLarge, StorageError.
        """
        temp = self._data / FOLDER / f"check-{new_id('restore')}"
        try:
            temp.mkdir(parents=True)
            with Archive(file, limits=LIMITS, temp=temp) as archive:
                opened = open_backup(archive)
                inside = self._count(opened, temp)
                keys = self._keys(opened, passphrase)
                size = sum(entry.size for entry in opened.files.values())
                self._check_room(opened)
                return {
                    "createdAt": opened.manifest.get("createdAt"),
                    "version": opened.manifest.get("version"),
                    "files": len(opened.files),
                    "bytes": size,
                    "parts": self._parts(opened),
                    "replaces": _compare(self._present(), inside),
                    "encryptedKeys": CREDENTIALS in opened.hashes,
                    "keys": None if keys is None else len(keys),
                    "problems": opened.problems,
                    "restorable": not opened.problems,
                    "notes": self._notes(opened, keys),
                }
        except OSError as exc:
            raise StorageError.from_os(exc, "what is looked at in the backup") from exc
        finally:
            shutil.rmtree(temp, ignore_errors=True)

    def _count(self, opened: Opened, temp: Path) -> dict[str, int]:
        """Return what the backup holds, counted; the database and the lists are read and checked on the way."""
        found = self._lists(opened)
        if DATABASE in opened.files and not opened.problems:
            copy = temp / DATABASE
            try:
                self._write(opened, DATABASE, copy, lambda amount: None)
                self._databases.check(copy)
                found |= self._databases.counts(copy)
            except InvalidInput as exc:
                opened.add(str(exc.extra.get("sin", "damaged")), exc.detail, [DATABASE])
        return found

    def _lists(self, opened: Opened) -> dict[str, int]:
        """Return how much the JSON lists and the folders hold; a list that is none is noted as damaged."""
        found: dict[str, int] = {}
        for name, kind in _LISTS.items():
            if name not in opened.files:
                continue
            try:
                rows = orjson.loads(self._small(opened, name))
                if not isinstance(rows, list):
                    raise ValueError("not a list")
                found[kind] = len(rows)
            except (DallaError, ValueError):
                opened.add("damaged", f"{name} cannot be read.", [name])
        for root, _ in ROOTS.values():
            units = {_unit(name) for name in opened.files if name.startswith(f"{root}/") and not name.endswith(".json")}
            if units:
                found[_CAMEL.get(root, root)] = len(units)
        return found

    def _present(self) -> dict[str, int]:
        found: dict[str, int] = {}
        for name, kind in _LISTS.items():
            with contextlib.suppress(OSError, ValueError):
                found[kind] = len(orjson.loads((self._data / name).read_bytes()))
        with contextlib.suppress(DallaError):
            found |= self._databases.counts(self._data / DATABASE)
        for root, folder in roots_of(self._settings).items():
            with contextlib.suppress(OSError):
                rows = [row for row in os.scandir(folder) if not row.name.startswith(".")]
                found[_CAMEL.get(root, root)] = sum(
                    row.is_dir() if root == "training_data" else row.name.endswith(".safetensors") for row in rows
                )
        return found

    def _keys(self, opened: Opened, passphrase: str | None) -> dict[str, str] | None:
        """Return the credentials, None when they stay out (none inside, or no passphrase).

        Raises InvalidInput (passphrase): it is not the one they were sealed with.
        """
        if CREDENTIALS not in opened.files or passphrase is None or opened.problems:
            return None
        try:
            return unseal(self._small(opened, CREDENTIALS), passphrase)
        except InvalidInput as exc:
            if exc.errors:
                raise
            opened.add(str(exc.extra.get("sin", "damaged")), exc.detail, [CREDENTIALS])
            return None

    def _notes(self, opened: Opened, keys: dict[str, str] | None) -> list[str]:
        notes = [
            "Publishing and the schedule stay stopped after the restore until somebody resumes them.",
            "Posts whose time has passed since the backup wait for a person: they may have gone out already.",
            "Everybody signs in again. Accounts that only the backup has come back disabled, unless there are none here.",
        ]
        if DATABASE not in opened.files:
            notes.insert(0, "There is no database in it: gallery, posts, datasets and accounts stay as they are.")
        if CREDENTIALS in opened.hashes:
            if keys is None:
                notes.append("Stored credentials stay as they are here: the passphrase was not given.")
            else:
                notes.append(f"{len(keys)} stored credentials are replaced.")
        elif opened.manifest:
            notes.append("Stored credentials are not in it: those here stay.")
        return notes

    def _parts(self, opened: Opened) -> list[str]:
        return sorted(opened.parts | {part for part in ("media", "datasets", "loras") if opened.manifest.get(part)})

    # ------------------------------------------------------------ unpacking

    def stage(
        self, file: Path, passphrase: str | None = None, progress: Step = lambda done, total, message: None
    ) -> dict[str, Any]:
        """Check everything, unpack it and note it for the next start; return the note (see restore_apply.py).

        An earlier staged restore is forgotten. `progress(bytes, bytes in all, message)` may raise to stop: then
        nothing is left. Raises InvalidInput (`sin`, `problems`), UnsupportedMedia, StorageError.
        """
        forget_staged(self._data)
        id = new_id("restore")
        work = self._data / FOLDER / f"work-{id}"
        roots = roots_of(self._settings)
        places = {root: folder / f".restore-{id}" for root, folder in roots.items()}
        try:
            work.mkdir(parents=True)
            write_atomic(
                self._data / FOLDER / f"{work.name}.json", orjson.dumps({"places": [str(p) for p in places.values()]})
            )
            with Archive(file, limits=LIMITS, temp=work) as archive:
                note = self._unpack(archive, id, work, places, passphrase, progress)
            progress(1, 1, "Waiting for the restart")
            os.replace(work, self._data / FOLDER / STAGED)
            write_atomic(self._data / FOLDER / NOTE, orjson.dumps(note, option=orjson.OPT_INDENT_2))
            (self._data / FOLDER / f"{work.name}.json").unlink()
            return note
        except OSError as exc:
            self._drop(work, places)
            raise StorageError.from_os(exc, "what is unpacked of the backup") from exc
        except BaseException:
            self._drop(work, places)
            raise

    def _drop(self, work: Path, places: Mapping[str, Path]) -> None:
        for path in (work, *places.values()):
            shutil.rmtree(path, ignore_errors=True)
        with contextlib.suppress(OSError):
            (work.parent / f"{work.name}.json").unlink(missing_ok=True)

    def _unpack(
        self,
        archive: Archive,
        id: str,
        work: Path,
        places: Mapping[str, Path],
        passphrase: str | None,
        progress: Step,
    ) -> dict[str, Any]:
        opened = open_backup(archive)
        opened.refuse()
        self._check_room(opened)
        counts = self._lists(opened)
        keys = self._keys(opened, passphrase)
        opened.refuse()
        total = float(sum(entry.size for entry in opened.files.values())) or 1.0
        done = 0.0

        def count(amount: int, message: str = "") -> None:
            nonlocal done
            done += amount
            progress(min(done, total), total, message)

        for number, name in enumerate(sorted(opened.files), 1):
            if name == CREDENTIALS:
                continue
            if number % 50 == 1:
                count(0, f"File {number} of {len(opened.files)}: {printable(name)}")
            root, _, below = name.partition("/")
            target = places[root] / below if root in places and below else work / name
            self._write(opened, name, target, count)
        if DATABASE in opened.files:
            progress(total, total, "Checking the database")
            self._databases.check(work / DATABASE)
            self._databases.update_tables(work / DATABASE)
            counts |= self._databases.counts(work / DATABASE)
        for root, place in places.items():
            drop_alike(roots_of(self._settings)[root], place)
        self._settle_settings(work)
        self._settle_trash(work)
        if keys is not None:
            store = self._secrets_for(work / "secrets")
            for name, value in keys.items():
                store.put(name, value)
        for folder in (work, *(p for p in places.values() if p.is_dir())):
            fsync_folder(folder)
        return {
            "id": id,
            "state": "staged",
            "stagedAt": now_iso(),
            "createdAt": opened.manifest["createdAt"],
            "version": opened.manifest["version"],
            "files": len(opened.files),
            "bytes": int(total),
            "parts": self._parts(opened),
            "folders": self._folders(opened),
            "database": DATABASE in opened.files,
            "keys": keys is not None,
            "counts": counts,
            "places": {root: str(path) for root, path in places.items() if path.is_dir()},
            "roots": {root: str(path) for root, path in roots_of(self._settings).items()},
        }

    @staticmethod
    def _folders(opened: Opened) -> list[str]:
        """Folders of the data folder that the backup replaces whole."""
        known = ("wildcards", "posts", "media", "datasets", "batches")
        listed = opened.manifest.get("folders")
        if isinstance(listed, list):
            return [name for name in known if name in listed]
        tops = {name.partition("/")[0] for name in opened.files if "/" in name}
        return [name for name in known if name in tops]

    def _write(self, opened: Opened, name: str, target: Path, count: Callable[[int], None]) -> None:
        """Unpack one file and compare its hash. Raises InvalidInput, OSError."""
        entry = opened.files[name]
        digest = hashlib.sha256()
        size = 0
        target.parent.mkdir(parents=True, exist_ok=True)
        with open(target, "xb") as out:
            for piece in opened.archive.pieces(entry):
                size += len(piece)
                if size > entry.size:
                    break
                digest.update(piece)
                out.write(piece)
                count(len(piece))
        if size != entry.size or digest.hexdigest() != opened.hashes[entry.path]:
            raise InvalidInput(
                f"This backup is not restored: '{printable(name)}' is not what was put in.",
                remedy="Use another copy of the backup.",
                extra={"sin": "hash"},
            )

    def _small(self, opened: Opened, name: str) -> bytes:
        entry = opened.files[name]
        if entry.size > DOCUMENT_BYTES:
            raise InvalidInput(f"'{name}' is larger than it can be.", extra={"sin": "too_large"})
        data = opened.archive.read(entry)
        if hashlib.sha256(data).hexdigest() != opened.hashes[entry.path]:
            raise InvalidInput(f"'{name}' is not what was put in.", extra={"sin": "hash"})
        return data

    def _check_room(self, opened: Opened) -> None:
        sizes: dict[str, int] = {}
        for name, entry in opened.files.items():
            top = name.partition("/")[0]
            sizes[top] = sizes.get(top, 0) + entry.size
        needed: dict[int, tuple[Path, int]] = {}
        roots = roots_of(self._settings)
        for top, size in sizes.items():
            folder = nearest(roots.get(top, self._data))
            device = folder.stat().st_dev
            needed[device] = (folder, needed.get(device, (folder, 0))[1] + size)
            if top not in roots and os.path.ismount(self._data / top):
                opened.add("mount", f"{self._data / top} is a disk of its own, so it cannot be put aside as a whole.")
        for folder, size in needed.values():
            free = shutil.disk_usage(folder).free
            if size + _RESERVE > free:
                opened.add(
                    "no_room",
                    f"It unpacks to {size / 1e9:.1f} GB beside {folder}, where {free / 1e9:.1f} GB are free.",
                )

    def _settle_settings(self, work: Path) -> None:
        """Settings of the backup, those of this computer aside; what this version does not take is left out."""
        file = work / "settings.json"
        if not file.is_file():
            return
        values: dict[str, Any] = {}
        for key, value in read_object(file).items():
            row = next((row for row in ROWS if row.key == key), None)
            if row is None or row.secret or row.name in LOCAL:
                continue
            with contextlib.suppress(InvalidInput):
                parse(row, value, self._data)
                values[key] = value
        here = read_object(self._settings.file)
        values |= {BY_NAME[name].key: here[BY_NAME[name].key] for name in LOCAL if BY_NAME[name].key in here}
        write_atomic(file, orjson.dumps(values, option=orjson.OPT_INDENT_2) + b"\n")

    def _settle_trash(self, work: Path) -> None:
        """Notes of the file trash name where things came from: below the folders of here, and nowhere else."""
        roots = {**roots_of(self._settings), "media": self._data / "media"}
        for kind in TRASH:
            for note_file in (work / "trash" / kind).glob("*/trashed.json"):
                note = read_object(note_file)
                given = note.get("from")
                names = [Path(str(p)).name for p in given] if isinstance(given, list) else []
                if not names or not all(plain_name(name) for name in names):
                    shutil.rmtree(note_file.parent)
                    continue
                note["from"] = [str(roots[kind] / name) for name in names]
                write_atomic(note_file, orjson.dumps(note, option=orjson.OPT_INDENT_2))


_CAMEL = {"training_data": "trainingSets"}


def _unit(name: str) -> str:
    return "/".join(name.split("/")[:2])


def _compare(now: Mapping[str, int], inside: Mapping[str, int]) -> dict[str, dict[str, int]]:
    return {
        kind: {"now": now.get(kind, 0), "backup": inside[kind]}
        for kind in (*_LISTS.values(), "media", "collections", "datasets", "datasetImages", "posts", "runs", "users", "trainingSets", "loras")
        if kind in inside
    }  # fmt: skip
