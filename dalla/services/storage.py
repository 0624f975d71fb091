"""The storage of this installation: sizes, free space, forecast, cleaning and moving."""

from __future__ import annotations

from typing import Any

from dalla.events import EventBus
from dalla.jobs.base import Context, JobQueue, TaskStore
from dalla.records.job import Job
from dalla.services.storage_clean import Cleaner
from dalla.services.storage_move import Mover
from dalla.services.storage_sizes import Sizes

KIND = "measure_storage"
#: Sizes older than this are measured again when somebody looks.
STALE_HOURS = 6.0


class Storage:
    """What `/api/storage` speaks to. `cleaner` cleans, `mover` moves."""

    def __init__(
        self, sizes: Sizes, cleaner: Cleaner, mover: Mover, jobs: JobQueue, tasks: TaskStore, events: EventBus
    ) -> None:
        self._sizes = sizes
        self.cleaner = cleaner
        self.mover = mover
        self._jobs = jobs
        self._tasks = tasks
        self._events = events
        jobs.register(KIND, self._run, lane="cpu")

    def overview(self) -> dict[str, Any]:
        """Return {locations, volumes, forecast, cleaning, measuring}: what was measured last, without looking at files.

        Sizes that were never measured are null. When they are old, measuring is queued; `measuring` is its task id.
        """
        if self._sizes.stale(STALE_HOURS):
            self.measure()
        measuring = self._measuring()
        return {
            **self._sizes.overview(),
            "cleaning": self.cleaner.kinds(),
            "measuring": measuring.id if measuring else None,
        }

    def measure(self) -> Job:
        """Queue the measuring of all sizes, or return the job that is at it."""
        return self._measuring() or self._jobs.submit(KIND, {}, title="Measure storage")

    def _measuring(self) -> Job | None:
        rows, _, _ = self._tasks.page(statuses=["queued", "running"], kind=KIND, limit=1)
        return rows[0] if rows else None

    def _run(self, context: Context, payload: dict[str, Any]) -> dict[str, Any]:
        found = self._sizes.measure(context.progress)
        self._events.publish("storage.updated", {"measured": True})
        return {id: {"files": row["files"], "sizeBytes": row["sizeBytes"]} for id, row in found.items()}
