"""Backups people make: listed, made, fetched, deleted with undo. Scheduled ones are made by the same `write_backup`."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dalla.errors import NotFound
from dalla.events import EventBus
from dalla.jobs.base import Context, JobQueue
from dalla.records.job import Job
from dalla.services import backup
from dalla.services.backup_contents import Contents
from dalla.services.backup_keys import Passphrases, check_passphrase
from dalla.services.file_trash import FileTrash
from dalla.services.restore_apply import roots_of
from dalla.settings import Settings
from dalla.stores.base import SecretStore

KIND = "make_backup"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._()+-]{0,180}\.zip\Z")


class Backups:
    """The archives in `data/backups/`."""

    def __init__(
        self,
        settings: Settings,
        secrets: SecretStore,
        jobs: JobQueue,
        events: EventBus,
        *,
        before: Callable[[], object] = lambda: None,
    ) -> None:
        """`before` is called ahead of each backup (keys written into files by hand move to the encrypted store)."""
        self._settings = settings
        self._data = Path(settings.data_dir)
        self._secrets = secrets
        self._jobs = jobs
        self._events = events
        self._before = before
        self._trash = FileTrash(self._data, "backups")
        self._passphrases = Passphrases()
        self._seen: dict[str, tuple[tuple[int, int], dict[str, Any]]] = {}
        jobs.register(KIND, self._run, lane="cpu")

    def all(self) -> list[dict[str, Any]]:
        """Return every backup, newest first (see backup.describe)."""
        verified = backup.read_verified(self._data)
        rows = []
        for path in backup.backups(self._data, by_hand=True):
            try:
                info = path.stat()
                stamp = (info.st_mtime_ns, info.st_size)
                known = self._seen.get(path.name)
                if known is None or known[0] != stamp:
                    known = (stamp, backup.describe(path))
                    self._seen[path.name] = known
            except OSError:  # deleted this moment
                continue
            rows.append({**known[1], "verified": backup.is_verified(path, verified)})
        return sorted(rows, key=lambda row: row["createdAt"], reverse=True)

    def path(self, name: str) -> Path:
        """Return the file of a backup. Raises NotFound."""
        path = self._data / backup.FOLDER / name
        if not _NAME.match(name) or ".." in name or path.is_symlink() or not path.is_file():
            raise NotFound(f"There is no backup called '{name[:200]}'.")
        return path

    def start(self, *, media: bool, datasets: bool, loras: bool, passphrase: str | None = None) -> Job:
        """Queue a backup. With a passphrase the stored credentials go along, encrypted. Raises InvalidInput."""
        if passphrase is not None:
            check_passphrase(passphrase)
        payload = {
            "media": media,
            "datasets": datasets,
            "loras": loras,
            "ticket": self._passphrases.hold(passphrase),
        }
        return self._jobs.submit(KIND, payload, title="Make a backup")

    def delete(self, name: str) -> dict[str, Any]:
        """Move a backup to the trash; return {"success", "trashId"} for undo. Raises NotFound, StorageError."""
        id = self._trash.put(name, [self.path(name)])
        self._events.publish("backup.updated", {"name": name, "deleted": True})
        return {"success": True, "trashId": id}

    def undelete(self, trash_id: str) -> dict[str, Any]:
        """Bring a deleted backup back. Raises NotFound, Conflict, StorageError."""
        name = self._trash.restore(trash_id)["name"]
        self._events.publish("backup.updated", {"name": name})
        return next(row for row in self.all() if row["name"] == name)

    def housekeeping(self, days: float) -> int:
        """Delete backups (and stray files of the gallery) for good that went to the trash more than `days` ago.

        Returns how many.
        """
        return self._trash.purge(days) + FileTrash(self._data, "media").purge(days)

    def _run(self, context: Context, payload: dict[str, Any]) -> dict[str, Any]:
        passphrase = self._passphrases.take(payload.get("ticket"))
        self._before()
        credentials: dict[str, str] | None = None
        if passphrase is not None:
            credentials = {}
            for name in self._secrets.names():
                value = self._secrets.get(name)
                if value is not None:
                    credentials[name] = value
        made = backup.write_backup(
            self._data,
            keep=None,
            contents=Contents(media=payload["media"], datasets=payload["datasets"], loras=payload["loras"]),
            roots=roots_of(self._settings),
            credentials=credentials,
            passphrase=passphrase,
            progress=context.progress,
        )
        self._events.publish("backup.updated", {"name": made["file"]})
        return {
            "name": made["file"],
            "sizeBytes": made["sizeBytes"],
            "files": made["files"],
            "notes": made["notes"],
            "encryptedKeys": credentials is not None,
        }
