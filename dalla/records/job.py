"""Background work: the record, its states and which changes of state are legal."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from dalla.records.base import Record

Status = Literal["queued", "running", "paused", "completed", "failed", "cancelled", "interrupted"]

#: From -> to. Everything else is refused with Conflict.
TRANSITIONS: dict[str, frozenset[str]] = {
    "queued": frozenset({"running", "cancelled"}),
    "running": frozenset({"completed", "failed", "cancelled", "interrupted", "paused", "queued"}),
    "paused": frozenset({"running", "queued", "cancelled", "interrupted", "completed", "failed"}),
    "failed": frozenset({"queued"}),
    "cancelled": frozenset({"queued"}),
    "interrupted": frozenset({"queued"}),
    "completed": frozenset(),
}
FINISHED = frozenset({"completed", "failed", "cancelled", "interrupted"})
ACTIVE = frozenset({"queued", "running", "paused"})


class Progress(Record):
    """How far a job is. `eta_seconds` is None until there are enough samples to say."""

    done: float = 0
    total: float = 0
    message: str = ""
    eta_seconds: float | None = None
    rate: float | None = None  # units of `total` per second


class Job(Record):
    """One row of `background_tasks`. The row is the truth; queues carry only the id."""

    id: str
    kind: str
    lane: str
    status: Status = "queued"
    title: str = ""
    character_id: str | None = None
    progress: Progress = Field(default_factory=Progress)
    payload: dict[str, Any] = Field(default_factory=dict)
    result: dict[str, Any] | None = None
    error: dict[str, Any] | None = None
    items_failed: list[dict[str, Any]] = Field(default_factory=list)
    attempt: int = 0
    crashes: int = 0  # times its worker died while running it
    quarantined: bool = False
    cancel_requested: bool = False
    owner: str | None = None  # "<host>:<pid>:<process start>-<start of the program>" of the worker that claimed it
    parent_id: str | None = None
    turn: int = 0  # among those that wait in a lane, smaller goes first; below 0: somebody moved it forward
    created_at: str = ""
    started_at: str | None = None
    finished_at: str | None = None
    heartbeat_at: str | None = None

    @property
    def finished(self) -> bool:
        return self.status in FINISHED

    def public(self) -> dict[str, Any]:
        """Return the task as `GET /api/tasks/{id}` answers it (payload and owner stay inside)."""
        p = self.progress
        fraction = 1.0 if self.status == "completed" else (min(p.done / p.total, 1.0) if p.total else 0.0)
        return {
            "taskId": self.id,
            "id": self.id,
            "kind": self.kind,
            "lane": self.lane,
            "title": self.title,
            "characterId": self.character_id,
            "parentId": self.parent_id,
            "datasetId": self.payload.get("datasetId"),
            "status": self.status,
            "progress": round(fraction, 4),
            "done": p.done,
            "total": p.total,
            "message": p.message,
            "etaSeconds": p.eta_seconds,
            "rate": p.rate,
            "result": self.result,
            "error": self.error,
            "itemsFailed": self.items_failed,
            "attempt": self.attempt,
            "quarantined": self.quarantined,
            "cancelRequested": self.cancel_requested,
            "turn": self.turn,
            "createdAt": self.created_at,
            "startedAt": self.started_at,
            "finishedAt": self.finished_at,
        }
