"""What a job queue promises, what a job's work looks like, and what the queue needs from a store.

`jobs/local.py` runs work in threads of this process; a second queue (Celery) runs the same
`run_task(id)` elsewhere. Both are done when `tests/jobs/test_contract.py` passes on them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from dalla.records.job import Job


class Context(Protocol):
    """What a running job may use. Also the `Report` that engines take."""

    job: Job

    def progress(self, done: float, total: float, message: str = "") -> None:
        """Save the progress (at most twice a second). Raises Cancelled when asked to stop."""

    def preview(self, image: bytes, mime: str) -> None:
        """Publish a rough picture of what is being made."""

    def check_cancelled(self) -> None:
        """Raise Cancelled when somebody asked to stop."""

    def item_failed(self, id: str, code: str, detail: str) -> None:
        """Record that one item of a batch failed; the job goes on."""


Handler = Callable[[Context, dict[str, Any]], dict[str, Any] | None]


class TaskStore(Protocol):
    """The `background_tasks` table. Every transition is one conditional update."""

    def insert(self, job: Job) -> Job:
        """Add a queued job."""

    def get(self, id: str) -> Job:
        """Raises NotFound."""

    def page(
        self,
        *,
        statuses: list[str] | None = None,
        kind: str | None = None,
        character_id: str | None = None,
        quarantined: bool | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> tuple[list[Job], str | None, int]:
        """Return (jobs newest first, cursor of the next page or None, total). InvalidInput: bad cursor."""

    def claim(self, lane: str, owner: str, now: str, kinds: set[str] | None = None) -> Job | None:
        """Take the queued job of the lane whose turn it is (see `waiting`) and that is not quarantined, or None.

        Atomic: two workers never get the same one. Sets running, owner, started_at, heartbeat_at,
        attempt + 1, turn 0.
        """

    def waiting(self, lane: str) -> list[str]:
        """Return the ids of a lane's queued jobs in the order in which they are taken: by turn, then oldest first."""

    def move_to_front(self, id: str) -> Job:
        """Give a queued job the first turn of its lane. Raises Conflict (it does not wait), NotFound."""

    def transition(
        self, id: str, to: str, *, only_from: set[str] | None = None, owned_by: str | None = None, **fields: Any
    ) -> Job:
        """Change the status if the current one allows it (and is in `only_from`, and the owner is `owned_by`).

        `fields` are columns to set with it (result, error, owner, finished_at, crashes, …). Raises
        Conflict when the row was not in such a state: exactly one caller wins.
        """

    def save_progress(self, id: str, owner: str, fields: dict[str, Any]) -> bool:
        """Set columns of a running job of this owner. Returns whether cancel was requested."""

    def request_cancel(self, id: str) -> Job:
        """Queued and paused jobs become cancelled at once, running ones get the flag. Conflict: finished."""

    def orphans(self, *, alive_owner: Callable[[str], bool]) -> list[Job]:
        """List running jobs whose owner is not alive."""

    def counts(self) -> dict[str, int]:
        """Return how many jobs are in each status."""

    def depth(self) -> dict[str, dict[str, int]]:
        """Return for each lane with work how many jobs are queued, running and paused."""

    def kinds(self) -> list[tuple[str, str, int]]:
        """Return (kind, status, how many jobs)."""

    def release(self, id: str) -> Job:
        """Take a finished job out of quarantine without running it. Raises NotFound, Conflict (it is not in it)."""

    def delete_finished(self, before: str) -> int:
        """Forget finished jobs older than `before`; return how many."""


class JobQueue(Protocol):
    """Where work is put. The row in the TaskStore is the truth; the queue carries ids."""

    def register(self, kind: str, handler: Handler, *, lane: str, restartable: bool = False) -> None:
        """Say what runs a kind, in which lane, and whether it may be started again after a crash."""

    def submit(
        self,
        kind: str,
        payload: dict[str, Any],
        *,
        title: str = "",
        character_id: str | None = None,
        parent_id: str | None = None,
    ) -> Job:
        """Queue work and return its job at once."""

    def get(self, id: str) -> Job:
        """Raises NotFound."""

    def cancel(self, id: str) -> Job:
        """Ask the job to stop. Raises Conflict when it has finished."""

    def retry(self, id: str, *, title: str | None = None) -> Job:
        """Queue a failed, cancelled or interrupted job again (lifting a quarantine), under a new title if one is given."""

    def run_next(self, id: str) -> Job:
        """Put a waiting job before all others of its lane; what runs goes on.

        Raises NotFound, Conflict: it does not wait, or this queue cannot change the order of what it was given.
        """

    def dismiss(self, id: str) -> Job:
        """Take a job out of quarantine without running it. Raises NotFound, Conflict (it is not in it)."""

    def workers(self) -> list[dict[str, Any]]:
        """Return for each lane {"lane", "workers", "alive", "running": [ids], "heartbeatAt"}."""

    def wait(self, id: str, timeout: float) -> Job:
        """Return the job when it has finished or `timeout` seconds have passed, whichever is first."""

    def start(self) -> None:
        """Recover what a dead process left behind, then work."""

    def stop(self, timeout: float = 10) -> None:
        """Take no new work, ask running jobs to stop, wait for them up to `timeout` seconds."""
