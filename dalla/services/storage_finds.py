"""What can be deleted without losing anything that is in use: one lister per kind of leftover.

A `Find` is one thing that goes as a whole: a file, a folder, or a record with its files. What was found is looked at
again before it goes (`still`), because a dry run may be hours old.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dalla.errors import NotFound
from dalla.jobs.base import TaskStore
from dalla.records.job import ACTIVE
from dalla.services.restore_apply import BEFORE
from dalla.services.storage_base import Facts
from dalla.settings import Settings
from dalla.times import ago_iso

HOUR = 3600.0
EXPORT_DAYS = 30
LOG_DAYS = 30
_TRAIN = "train_lora"


@dataclass(frozen=True)
class Find:
    """One thing to delete. `key` is a path, or "media:<id>", "dataset:<id>", "image:<id>", "export:<id>/<number>"."""

    what: str
    key: str
    files: int
    bytes: int
    stamp: int = 0  # mtime in ns of a file; 0 for folders and records

    def json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Kind:
    """A kind of leftover: what it is called, what it means that it goes, and how it is found."""

    what: str
    label: str
    detail: str
    find: Callable[[], Iterator[Find]]


class Finder:
    """Finds leftovers of this installation."""

    def __init__(self, settings: Settings, facts: Facts, tasks: TaskStore) -> None:
        self._settings = settings
        self._data = Path(settings.data_dir)
        self._facts = facts
        self._tasks = tasks
        days = "DALLA_TRASH_DAYS"
        self.kinds: dict[str, Kind] = {
            kind.what: kind
            for kind in (
                Kind("trash_old", "Trash past its days", f"What was deleted longer ago than {days} says. It cannot be brought back afterwards.", lambda: self._trash("trash_old", settings.trash_days)),
                Kind("trash", "Everything in the trash", "Deleted pictures, datasets, LoRAs, training pictures, models and backups. They cannot be brought back afterwards.", lambda: self._trash("trash", 0)),
                Kind("thumbnails", "Thumbnails without a picture", "Small copies of pictures that are gone.", self._thumbnails),
                Kind("orphans", "Files in the gallery without a record", "They are moved to the trash, not deleted.", self._orphans),
                Kind("uploads", "Left-over uploads", "Uploads nothing was made of, untouched for six hours.", self._uploads),
                Kind("temp", "Left-over temp files", "Half-written files of processes that were killed.", self._temp),
                Kind("checkpoints", "Checkpoints of finished trainings", "States and intermediate files of completed runs. The LoRAs, samples and curves stay.", self._checkpoints),
                Kind("caches", "Caches of training pictures", "Computed again by the next training that uses them.", self._caches),
                Kind("exports", "Old exports of datasets", f"Archives older than {EXPORT_DAYS} days; they can be made again.", self._exports),
                Kind("logs", "Old logs", f"Logs that were set aside, and logs of tasks older than {LOG_DAYS} days.", self._logs),
                Kind("database_copies", "Old copies of the database", "Made beside the database before its tables were changed.", self._database_copies),
                Kind("before_restore", "What was here before a restore", "Kept aside when a backup was restored. There is no way back to it afterwards.", self._before_restore),
            )
        }  # fmt: skip

    def roots(self) -> list[Path]:
        """Return the folders in which something may be deleted."""
        names = ("data_dir", "training_data_dir", "loras_dir", "models_dir")
        return [Path(os.path.realpath(getattr(self._settings, name))) for name in names]

    # ------------------------------------------------------------ again, before it goes

    def still(self, find: Find) -> bool:
        """Whether a find is as it was listed and still in nobody's use."""
        kind, _, id = find.key.partition(":")
        if kind in ("media", "dataset", "image"):
            return self._facts.is_trashed(kind, id)
        if kind == "export":
            return True
        path = Path(find.key)
        if not any(root == path or root in path.parents for root in self.roots()) or path.is_symlink():
            return False
        if path.is_dir():
            same = (find.files, find.bytes) == measure(path)
        else:
            try:
                info = path.stat()
            except OSError:
                return False
            same = (find.bytes, find.stamp) == (info.st_size, info.st_mtime_ns)
        return same and self._unused(find, path)

    def _unused(self, find: Find, path: Path) -> bool:
        if find.what == "orphans":
            return bool(self._facts.without_record([path.relative_to(self._data).as_posix()]))
        if find.what == "thumbnails":
            id = path.name.split(".")[0]
            return len(self._facts.gone([id], [])) == 1 and len(self._facts.gone([], [id])) == 1
        if find.what == "checkpoints":
            return self._completed(path.parent.name)
        if find.what == "caches":
            return not self._training()
        return True

    # ------------------------------------------------------------ listers

    def _trash(self, what: str, days: float) -> Iterator[Find]:
        before = ago_iso(days * 86400 if days else -60)
        for row in self._facts.trashed(before):
            yield Find(what, f"{row['kind']}:{row['id']}", row["files"], row["bytes"])
        places = [self._data / "trash", Path(self._settings.models_dir) / ".trash" / "trash"]
        for note in (path for place in places for path in sorted(place.glob("*/*/trashed.json"))):
            try:
                deleted = str(json.loads(note.read_bytes())["deletedAt"])
            except (OSError, ValueError, KeyError, TypeError):
                continue
            if deleted < before:
                yield _folder(what, note.parent)

    def _thumbnails(self) -> Iterator[Find]:
        for place, known in (
            (self._data / "media" / "thumbs", self._facts.media_ids),
            (self._data / "thumbs" / "datasets", self._facts.image_ids),
        ):
            files = [path for path in _files(place) if path.name.endswith(".webp") and _old(path, HOUR)]
            ids = known() if files else set()
            for path in files:
                if path.name.split(".")[0] not in ids:
                    yield from _file("thumbnails", path)

    def _orphans(self) -> Iterator[Find]:
        thumbs = self._data / "media" / "thumbs"
        files = [p for p in _files(self._data / "media", skip=thumbs) if not p.name.startswith(".") and _old(p, HOUR)]
        known = self._facts.media_paths() if files else set()
        for path in files:
            if path.relative_to(self._data).as_posix() not in known:
                yield from _file("orphans", path)

    def _uploads(self) -> Iterator[Find]:
        busy = any(job.kind.startswith(("dataset", "import", "restore")) for job in self._active())
        for path in _files(self._data / "uploads") if not busy else ():
            if _old(path, 6 * HOUR) and _old(path.with_suffix(".json"), 6 * HOUR):
                yield from _file("uploads", path)

    def _temp(self) -> Iterator[Find]:
        for place in (self._data, Path(self._settings.training_data_dir), Path(self._settings.loras_dir)):
            for path in _files(place, hidden=True):
                if path.name.startswith(".") and path.name.endswith(".tmp") and _old(path, HOUR):
                    yield from _file("temp", path)

    def _checkpoints(self) -> Iterator[Find]:
        for folder in sorted((self._data / "runs").glob("*")):
            if folder.is_dir() and not folder.is_symlink() and self._completed(folder.name):
                for path in (folder / "checkpoints", folder / "cache"):
                    if path.is_dir() and not path.is_symlink():
                        yield _folder("checkpoints", path)

    def _caches(self) -> Iterator[Find]:
        if self._training():
            return
        for path in sorted(Path(self._settings.training_data_dir).glob("*/.cache")):
            if path.is_dir() and not path.is_symlink():
                yield _folder("caches", path)

    def _exports(self) -> Iterator[Find]:
        for row in self._facts.exports(ago_iso(EXPORT_DAYS * 86400)):
            yield Find("exports", f"export:{row['datasetId']}/{row['number']}", 1, row["bytes"])

    def _logs(self) -> Iterator[Find]:
        for path in _files(self._data / "logs"):
            if path.suffix.lstrip(".").isdigit() or _old(path, LOG_DAYS * 24 * HOUR):
                yield from _file("logs", path)
        for path in sorted((self._data / "runs").glob("*/log.txt")):
            if _old(path, LOG_DAYS * 24 * HOUR):
                yield from _file("logs", path)

    def _database_copies(self) -> Iterator[Find]:
        for path in sorted(self._data.glob("dalla.db.before-*.bak")):
            yield from _file("database_copies", path)

    def _before_restore(self) -> Iterator[Find]:
        places = [*(self._data / "backups").glob(f"{BEFORE}*")]
        for name in ("training_data_dir", "loras_dir"):
            places += Path(getattr(self._settings, name)).glob(f".{BEFORE}*")
        for path in sorted(places):
            if path.is_dir() and not path.is_symlink():
                yield _folder("before_restore", path)

    # ------------------------------------------------------------ small things

    def _active(self) -> list[Any]:
        return self._tasks.page(statuses=sorted(ACTIVE), limit=500)[0]

    def _training(self) -> bool:
        return any(job.kind == _TRAIN for job in self._active())

    def _completed(self, task_id: str) -> bool:
        try:
            return self._tasks.get(task_id).status == "completed"
        except NotFound:
            return False


def measure(folder: Path) -> tuple[int, int]:
    """Return (files, bytes) below a folder."""
    files, size = 0, 0
    for path in _files(folder, hidden=True):
        try:
            size += path.lstat().st_size
            files += 1
        except OSError:
            continue
    return files, size


def _folder(what: str, path: Path) -> Find:
    return Find(what, str(path), *measure(path))


def _file(what: str, path: Path) -> Iterator[Find]:
    try:
        info = path.lstat()
    except OSError:
        return
    yield Find(what, str(path), 1, info.st_size, info.st_mtime_ns)


def _files(folder: Path, *, skip: Path | None = None, hidden: bool = False) -> Iterator[Path]:
    """Yield the plain files below a folder; no links are followed, folders with a dot only where `hidden`."""
    for where, folders, names in os.walk(folder):
        here = Path(where)
        folders[:] = sorted(n for n in folders if (hidden or not n.startswith(".")) and here / n != skip)
        for name in sorted(names):
            path = here / name
            if not path.is_symlink():
                yield path


def _old(path: Path, seconds: float) -> bool:
    """Whether a file was not touched for so long; one that is not there counts as old."""
    try:
        return time.time() - path.lstat().st_mtime > seconds
    except OSError:
        return True
