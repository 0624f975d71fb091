"""Restoring from a backup, as the pages see it: look, stage, restart, be told."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from dalla.errors import Conflict, InvalidInput, NotFound
from dalla.events import EventBus
from dalla.jobs.base import Context, JobQueue
from dalla.paths import read_object
from dalla.records.job import Job
from dalla.services.backup_keys import Passphrases
from dalla.services.notices import Notices
from dalla.services.restore_apply import DONE, FOLDER, forget_staged, staged
from dalla.services.restore_stage import Stager
from dalla.services.uploads import Uploads
from dalla.times import now_iso

KIND = "restore_backup"


@dataclass(frozen=True)
class Source:
    """The archive to restore: a backup of the list, or an upload."""

    name: str
    path: Path
    backup: str | None = None
    upload_id: str | None = None


class Backups(Protocol):
    """Where the backups of the list are (services/backups.py)."""

    def path(self, name: str) -> Path: ...


class Restore:
    """Checks backups and stages one for the next start."""

    def __init__(
        self,
        data_dir: Path,
        stager: Stager,
        backups: Backups,
        uploads: Uploads,
        notices: Notices,
        jobs: JobQueue,
        events: EventBus,
    ) -> None:
        self._data = Path(data_dir)
        self._stager = stager
        self._backups = backups
        self._uploads = uploads
        self._notices = notices
        self._jobs = jobs
        self._events = events
        self._passphrases = Passphrases()
        self._staging = threading.Lock()
        jobs.register(KIND, self._run, lane="cpu")

    def source(
        self,
        *,
        name: str | None = None,
        upload_id: str | None = None,
        file: tuple[str, Any] | None = None,
    ) -> Source:
        """Return the archive that is meant: one of the list, an upload, or (name, stream) of a form, which becomes one.

        Raises InvalidInput (none or several), NotFound, Conflict (the upload is not complete), StorageError.
        """
        if sum(given is not None for given in (name, upload_id, file)) != 1:
            raise InvalidInput("Name a backup of the list (name), an upload (uploadId), or send one as 'file'.")
        if name is not None:
            return Source(name, self._backups.path(name), backup=name)
        if file is not None:
            upload_id = self._uploads.keep(Path(file[0].replace("\\", "/")).name or "backup.zip", file[1].read).id
        assert upload_id is not None
        [(shown, path)] = self._uploads.files([upload_id])
        return Source(shown, path, upload_id=upload_id)

    def plan(self, source: Source, passphrase: str | None = None) -> dict[str, Any]:
        """Return what restoring would do (see Stager.plan), with `uploadId` to go on with. Nothing changes."""
        return {
            "name": source.name,
            "uploadId": source.upload_id,
            **self._stager.plan(source.path, passphrase),
        }

    def start(self, source: Source, passphrase: str | None = None) -> Job:
        """Queue the check and the unpacking; the restore takes effect at the next start."""
        payload = {
            "name": source.name,
            "backup": source.backup,
            "uploadId": source.upload_id,
            "ticket": self._passphrases.hold(passphrase),
        }
        return self._jobs.submit(KIND, payload, title=f"Prepare to restore {source.name}")

    def staged(self) -> dict[str, Any] | None:
        """Return what waits for the restart: {state, stagedAt, createdAt, version, files, bytes, counts, error}."""
        note = staged(self._data)
        if note is None:
            return None
        shown = ("state", "stagedAt", "createdAt", "version", "files", "bytes", "parts", "counts", "keys", "error")
        answer = {key: note[key] for key in shown if key in note}
        if isinstance(answer.get("error"), dict):
            problem = answer["error"]
            answer["error"] = " ".join(str(problem[key]) for key in ("detail", "remedy") if problem.get(key))
        return answer

    def forget(self) -> dict[str, Any]:
        """Forget what is staged. Raises NotFound, Conflict (it is being unpacked)."""
        if not self._staging.acquire(blocking=False):
            raise Conflict("A backup is being unpacked right now.", remedy="Cancel that task.")
        try:
            if not forget_staged(self._data):
                raise NotFound("No restore waits for the restart.")
        finally:
            self._staging.release()
        self._events.publish("restore.updated", {"staged": None})
        return {"success": True}

    def tell(self) -> None:
        """After the start: say that a backup was restored, once."""
        done = self._data / FOLDER / DONE
        note = read_object(done)
        if not note:
            return
        settled = note.get("settled") or {}
        waiting = int(settled.get("postsToConfirm", 0))
        detail = f"It is of {note.get('createdAt')}. Publishing and the schedule are stopped until you resume them."
        if waiting:
            detail += f" {waiting} posts may have gone out since and wait for you."
        detail += f" What was here before is kept in {note.get('aside')}."
        self._notices.notify(
            "restore.done",
            "A backup was restored",
            detail,
            level="warning",
            href="/schedule.html",
            action="Look and resume",
            key=f"restore:{note.get('id')}",
        )
        done.unlink(missing_ok=True)

    def _run(self, context: Context, payload: dict[str, Any]) -> dict[str, Any]:
        passphrase = self._passphrases.take(payload.get("ticket"))
        source = self.source(name=payload.get("backup"), upload_id=payload.get("uploadId"))
        if not self._staging.acquire(blocking=False):
            raise Conflict("Another backup is being unpacked.", remedy="Wait for it, or cancel it.")
        try:
            note = self._stager.stage(source.path, passphrase, context.progress)
        finally:
            self._staging.release()
        if source.upload_id:
            self._uploads.discard([source.upload_id])
        self._events.publish("restore.updated", {"staged": note["stagedAt"]})
        return {
            "staged": True,
            "createdAt": note["createdAt"],
            "version": note["version"],
            "files": note["files"],
            "bytes": note["bytes"],
            "counts": note["counts"],
            "restartNeeded": True,
            "at": now_iso(),
        }
