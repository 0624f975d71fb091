"""Cleaning: a dry run that lists, and a task that deletes exactly what was listed and is still in nobody's use."""

from __future__ import annotations

import contextlib
import logging
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson

from dalla.errors import Conflict, DallaError, InvalidInput, NotFound, StorageError
from dalla.events import EventBus
from dalla.ids import is_id, new_id
from dalla.jobs.base import Context, JobQueue
from dalla.paths import read_object, write_atomic
from dalla.records.job import Job
from dalla.services.file_trash import FileTrash
from dalla.services.storage_finds import Find, Finder
from dalla.settings import Settings

logger = logging.getLogger(__name__)

KIND = "clean_storage"
PLANS = "cleaning"
KEEP_PLANS = 86_400.0  # seconds

#: How records go: by kind ("media", "dataset", "image", "export"), given what follows the colon of the key.
Remove = Callable[[str], object]


class Cleaner:
    """Lists leftovers and deletes them."""

    def __init__(
        self, settings: Settings, finder: Finder, removers: dict[str, Remove], jobs: JobQueue, events: EventBus
    ) -> None:
        """`removers` delete records with their files for good: of "media", "dataset", "image" and "export"."""
        self._data = Path(settings.data_dir)
        self._finder = finder
        self._removers = removers
        self._jobs = jobs
        self._events = events
        self._orphans = FileTrash(self._data, "media")
        jobs.register(KIND, self._run, lane="cpu", restartable=True)

    def kinds(self) -> list[dict[str, str]]:
        """Return what can be cleaned: {what, label, detail}."""
        return [{"what": k.what, "label": k.label, "detail": k.detail} for k in self._finder.kinds.values()]

    def plan(self, what: list[str]) -> dict[str, Any]:
        """List what would go and remember it: {planId, items: [{what, label, files, bytes, detail}], files, bytes}.

        Raises InvalidInput (there is no such kind), StorageError.
        """
        unknown = [name for name in what if name not in self._finder.kinds]
        if unknown:
            raise InvalidInput.field("what", f"'{unknown[0][:50]}' is none of {', '.join(self._finder.kinds)}.")
        items, finds, seen = [], [], set()
        for name in dict.fromkeys(what):
            kind = self._finder.kinds[name]
            mine = [find for find in kind.find() if find.key not in seen]
            seen |= {find.key for find in mine}
            finds += mine
            items.append(
                {
                    "what": name,
                    "label": kind.label,
                    "files": sum(find.files for find in mine),
                    "bytes": sum(find.bytes for find in mine),
                    "detail": kind.detail,
                    "examples": [self._shown(find) for find in mine[:5]],
                }
            )
        id = new_id("clean")
        self._save(id, finds)
        return {
            "planId": id,
            "items": items,
            "files": sum(item["files"] for item in items),
            "bytes": sum(item["bytes"] for item in items),
        }

    def start(self, what: list[str], plan_id: str | None = None) -> Job:
        """Queue the deletion of what a dry run listed; without one, of what is listed now.

        Raises InvalidInput, Conflict (the dry run is too old, or was used), StorageError.
        """
        if plan_id is None:
            plan_id = self.plan(what)["planId"]
        elif not is_id(plan_id) or not self._file(plan_id).is_file():
            raise Conflict("This dry run is not known any more.", remedy="Look again, then delete.")
        return self._jobs.submit(KIND, {"planId": plan_id, "what": what}, title="Clean up storage")

    # ------------------------------------------------------------ the task

    def _run(self, context: Context, payload: dict[str, Any]) -> dict[str, Any]:
        if context.job.attempt > 1 and not self._file(payload["planId"]).exists():
            return {"files": 0, "bytes": 0, "left": 0}  # it was killed after the last deletion
        finds = [find for find in self._load(payload["planId"]) if find.what in payload["what"]]
        files, size, left = 0, 0, 0
        for number, find in enumerate(finds):
            context.progress(number, len(finds), f"{number} of {len(finds)}")
            try:
                gone = self._finder.still(find) and self._remove(find)
            except (DallaError, OSError) as exc:
                detail = exc.detail if isinstance(exc, DallaError) else str(exc.strerror or exc)
                context.item_failed(self._shown(find), "storage", detail)
                continue
            if gone:
                files, size = files + find.files, size + find.bytes
            else:
                left += 1
        self._file(payload["planId"]).unlink(missing_ok=True)
        self._events.publish("storage.updated", {"cleaned": files})
        return {"files": files, "bytes": size, "left": left}

    def _remove(self, find: Find) -> bool:
        """Delete one find; False when it was gone already. Raises DallaError, OSError."""
        kind, colon, id = find.key.partition(":")
        if colon and kind in self._removers:
            try:
                self._removers[kind](id)
            except NotFound:
                return False
            return True
        path = Path(find.key)
        if find.what == "orphans":
            self._orphans.put(path.name, [path])
        elif path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
            with contextlib.suppress(OSError):  # a folder that only this was in
                path.parent.rmdir() if path.parent.parent.name in ("runs", "thumbs") else None
        return True

    # ------------------------------------------------------------ dry runs

    def _file(self, id: str) -> Path:
        return self._data / PLANS / f"{id}.json"

    def _save(self, id: str, finds: list[Find]) -> None:
        try:
            folder = self._data / PLANS
            folder.mkdir(parents=True, exist_ok=True)
            for old in folder.glob("clean_*.json"):
                with contextlib.suppress(OSError):
                    if time.time() - old.stat().st_mtime > KEEP_PLANS:
                        old.unlink()
            write_atomic(self._file(id), orjson.dumps({"finds": [find.json() for find in finds]}), durable=False)
        except OSError as exc:
            raise StorageError.from_os(exc, "the list of what can be deleted") from exc

    def _load(self, id: str) -> list[Find]:
        rows = read_object(self._file(id)).get("finds")
        if not isinstance(rows, list):
            raise Conflict("This dry run is not known any more.", remedy="Look again, then delete.")
        return [Find(**row) for row in rows]

    def _shown(self, find: Find) -> str:
        path = Path(find.key)
        with contextlib.suppress(ValueError):
            return path.relative_to(self._data).as_posix()
        return find.key
