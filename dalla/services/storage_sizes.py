"""Where everything lies, how large it is (measured in the background), and how long the disk lasts."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson

from dalla.errors import StorageError
from dalla.paths import read_object, write_atomic
from dalla.services.storage_base import Facts
from dalla.settings import BY_NAME, Settings
from dalla.times import iso, now_iso, parse

FILE = ".storage.json"
FORECAST_DAYS = 14
#: A forecast from less than this many days would be a guess.
LEAST_DAYS = 3.0
_TELL_EVERY = 2000  # files


@dataclass(frozen=True)
class Location:
    """One place. `without` are folders inside that are places of their own; `setting` names what moves it."""

    id: str
    label: str
    path: Path
    setting: str | None = None
    movable: bool = False
    cleanable: bool = False
    without: tuple[str, ...] = ()


def locations(settings: Settings) -> list[Location]:
    """Return every place the app keeps things, the data folder as a whole first."""
    data = Path(settings.data_dir)
    inside = [
        Location("database", "Database", data / "dalla.db", cleanable=True),
        Location("media", "Gallery", data / "media", without=("thumbs",), cleanable=True),
        Location("thumbs", "Thumbnails", data / "thumbs", cleanable=True),
        Location("datasets", "Datasets", data / "datasets", cleanable=True),
        Location("batches", "Undo of batches", data / "batches"),
        Location("posts", "Pictures as posted", data / "posts"),
        Location("runs", "Training runs", data / "runs", cleanable=True),
        Location("uploads", "Uploads", data / "uploads", cleanable=True),
        Location("trash", "Trash", data / "trash", cleanable=True),
        Location("backups", "Backups", data / "backups", cleanable=True),
        Location("logs", "Logs", data / "logs", cleanable=True),
    ]
    moved = [
        Location(
            "training_data", "Training pictures", Path(settings.training_data_dir), "training_data_dir", True, True
        ),
        Location("loras", "LoRAs", Path(settings.loras_dir), "loras_dir", True),
        Location("models", "Models", Path(settings.models_dir), "models_dir", True),
    ]
    return [Location("data", "Data folder", data, "data_dir", cleanable=True), *inside, *moved]


class Sizes:
    """Measured sizes of all places, kept in `data/.storage.json`."""

    def __init__(self, settings: Settings, facts: Facts) -> None:
        self._settings = settings
        self._facts = facts
        self._file = Path(settings.data_dir) / FILE
        self._lock = threading.Lock()

    # ------------------------------------------------------------ measuring

    def measure(self, progress: Callable[[float, float, str], None]) -> dict[str, Any]:
        """Count files and bytes of every place, write them down and return them. Raises StorageError."""
        places = locations(self._settings)
        since = datetime.now(UTC).timestamp() - FORECAST_DAYS * 86400
        found: dict[str, dict[str, Any]] = {}
        for number, place in enumerate(places):
            progress(number, len(places), place.label)
            files, size, recent = 0, 0, 0
            for entry in walk(place):
                files += 1
                info = _stat(entry)
                if info is None:
                    continue
                size += info.st_size
                recent += info.st_size if info.st_mtime >= since else 0
                if files % _TELL_EVERY == 0:
                    progress(number, len(places), f"{place.label}: {files:,} files")
            found[place.id] = {
                "path": str(place.path),
                "files": files,
                "sizeBytes": size,
                "recentBytes": recent,
                "measuredAt": now_iso(),
            }
        progress(len(places), len(places), "")
        with self._lock:
            try:
                write_atomic(self._file, orjson.dumps(found, option=orjson.OPT_INDENT_2))
            except OSError as exc:
                raise StorageError.from_os(exc, "the sizes") from exc
        return found

    def known(self) -> dict[str, dict[str, Any]]:
        """Return what was measured last: {id: {files, sizeBytes, measuredAt}}; places that moved since are left out."""
        rows = read_object(self._file)
        paths = {place.id: str(place.path) for place in locations(self._settings)}
        return {id: row for id, row in rows.items() if isinstance(row, dict) and paths.get(id) == row.get("path")}

    def stale(self, hours: float) -> bool:
        """Whether some place was never measured, or longer ago than this."""
        known = self.known()
        limit = iso(datetime.now(UTC) - timedelta(hours=hours))
        return any(
            place.id not in known or str(known[place.id].get("measuredAt", "")) < limit
            for place in locations(self._settings)
        )

    # ------------------------------------------------------------ telling

    def overview(self) -> dict[str, Any]:
        """Return {"locations", "volumes", "forecast"} without looking at a single file."""
        known = self.known()
        locked = {row["name"] for row in self._settings.describe() if row["locked"]}
        rows: list[dict[str, Any]] = []
        volumes: dict[int, dict[str, Any]] = {}
        for place in locations(self._settings):
            measured = known.get(place.id, {})
            setting = BY_NAME[place.setting].key if place.setting else None
            rows.append(
                {
                    "id": place.id,
                    "label": place.label,
                    "path": str(place.path),
                    "sizeBytes": measured.get("sizeBytes"),
                    "files": measured.get("files"),
                    "measuredAt": measured.get("measuredAt"),
                    "setting": setting,
                    "env": BY_NAME[place.setting].env if place.setting else None,
                    "locked": setting in locked,
                    "movable": place.movable and setting not in locked,
                    "cleanable": place.cleanable,
                    "within": None if place.setting else "data",
                }
            )
            self._note_volume(volumes, place)
        return {"locations": rows, "volumes": list(volumes.values()), "forecast": self.forecast(known)}

    @staticmethod
    def _note_volume(volumes: dict[int, dict[str, Any]], place: Location) -> None:
        there = nearest(place.path)
        try:
            device = os.stat(there).st_dev
            usage = shutil.disk_usage(there)
        except OSError:
            return
        row = volumes.setdefault(
            device, {"path": str(there), "freeBytes": usage.free, "totalBytes": usage.total, "locations": []}
        )
        row["locations"].append(place.id)

    def forecast(self, known: dict[str, dict[str, Any]]) -> dict[str, Any]:
        """Return {"bytesPerDay", "daysLeft", "basis"} of the data folder's disk; None where there is too little to say."""
        now = datetime.now(UTC)
        since = now - timedelta(days=FORECAST_DAYS)
        answer: dict[str, Any] = {"bytesPerDay": None, "daysLeft": None, "basis": f"{FORECAST_DAYS} days"}
        first = self._facts.first()
        if first is None or (now - parse(first)).total_seconds() < LEAST_DAYS * 86400:
            return answer
        days = min(float(FORECAST_DAYS), (now - parse(first)).total_seconds() / 86400)
        came = sum(self._facts.added(iso(since)).values()) + int(known.get("runs", {}).get("recentBytes", 0))
        answer["bytesPerDay"] = round(came / days)
        try:
            free = shutil.disk_usage(self._settings.data_dir).free
        except OSError:
            return answer
        if came > 0:
            answer["daysLeft"] = int(free / (came / days))
        return answer


def walk(place: Location) -> Iterator[os.DirEntry[str] | Path]:
    """Yield every file of a place: no links are followed, what vanishes meanwhile is left out."""
    if place.path.is_file():
        for ending in ("", "-wal", "-shm"):
            path = place.path.with_name(place.path.name + ending)
            if path.is_file():
                yield path
        return
    waiting = [str(place.path)]
    if place.id == "thumbs":
        waiting.append(str(place.path.parent / "media" / "thumbs"))
    skip = {str(place.path / name) for name in place.without}
    while waiting:
        try:
            with os.scandir(waiting.pop()) as rows:
                for row in rows:
                    if row.is_dir(follow_symlinks=False):
                        if row.path not in skip:
                            waiting.append(row.path)
                    elif row.is_file(follow_symlinks=False):
                        yield row
        except OSError:
            continue


def nearest(path: Path) -> Path:
    """Return the path itself, or the nearest folder above it that is there."""
    while not path.exists() and path != path.parent:
        path = path.parent
    return path


def _stat(entry: os.DirEntry[str] | Path) -> os.stat_result | None:
    try:
        return entry.stat(follow_symlinks=False)
    except OSError:
        return None
