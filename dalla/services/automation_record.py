"""How a run tells what it does: steps with their timing, written as they begin and end.

Each step is on disk before the next one starts. A run that was interrupted reads what it had finished
and goes on after it; what a step notes in `data` with `save()` survives even when the step does not end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from dalla.errors import Cancelled, DallaError
from dalla.events import EventBus
from dalla.jobs.base import Context
from dalla.records.character import Character, ScheduledTask
from dalla.records.run import Run, Step
from dalla.stores.base import RunStore
from dalla.times import iso, parse

DONE = frozenset({"ok", "held", "skipped"})
WORKING = frozenset({"queued", "running"})


class Skip(Exception):
    """There is nothing to do this time; the run ends as skipped, with the reason for the person."""

    def __init__(self, reason: str, *, alert: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.alert = alert


class Note:
    """One step while it runs. `data` and `detail` may be changed at will; `save` writes them now."""

    def __init__(self, record: RunRecord, step: Step) -> None:
        self._record = record
        self.name = step.name
        self.data: dict[str, Any] = dict(step.data)
        self.detail = step.detail
        self.status = "ok"  # what the step will have been; "held" and "skipped" are told by the work

    def save(self) -> None:
        self._record.put(self.name, data=self.data, detail=self.detail)


class RunRecord:
    """A run on disk, and the steps it has taken. One thread at a time."""

    def __init__(self, run: Run, runs: RunStore, events: EventBus, now: Callable[[], datetime]) -> None:
        self.run = run
        self._runs = runs
        self._events = events
        self._now = now

    def done(self, name: str) -> Step | None:
        """Return a step that has been taken already; None when it has to be (again)."""
        step = self.find(name)
        return step if step is not None and step.status in DONE else None

    def find(self, name: str) -> Step | None:
        return next((step for step in self.run.steps if step.name == name), None)

    @contextmanager
    def step(self, name: str) -> Iterator[Note]:
        """Take a step. An error ends it as failed and goes on outward; Cancelled leaves it open."""
        before = self.find(name)
        began = before.started_at if before and before.status == "running" else iso(self._now())
        opened = Step(name=name, started_at=began, data=dict(before.data) if before else {})
        self._replace(opened)
        note = Note(self, opened)
        try:
            yield note
        except (Cancelled, Skip) as exc:
            if isinstance(exc, Skip):
                self.put(name, status="skipped", detail=exc.reason, data=note.data, ended_at=iso(self._now()))
            raise
        except Exception as exc:
            detail = exc.detail if isinstance(exc, DallaError) else "Something went wrong inside the app."
            self.put(name, status="failed", detail=detail, data=note.data, ended_at=iso(self._now()))
            raise
        self.put(name, status=note.status, detail=note.detail, data=note.data, ended_at=iso(self._now()))

    def put(self, name: str, **changes: Any) -> None:
        """Change fields of a step and write them."""
        step = self.find(name)
        if step is not None:
            self._replace(step.with_(**changes))

    def update(self, **fields: Any) -> Run:
        """Set fields of the run while it is at work. Raises Conflict when it has ended meanwhile."""
        self.run = self._runs.update(self.run.id, only_from=WORKING, **fields)
        return self.run

    def close_steps(self, detail: str) -> list[Step]:
        """Return the steps with those that never ended marked as failed."""
        ended = iso(self._now())
        return [
            step.with_(status="failed", detail=step.detail or detail, ended_at=ended)
            if step.status == "running"
            else step
            for step in self.run.steps
        ]

    def tell(self) -> None:
        self._events.publish("run.updated", {"id": self.run.id, "taskId": self.run.task_id, "status": self.run.status})

    def _replace(self, step: Step) -> None:
        steps = [step if old.name == step.name else old for old in self.run.steps]
        if not any(old.name == step.name for old in self.run.steps):
            steps.append(step)
        self.update(steps=steps)
        self.tell()


class Work:
    """What the handler of a task type gets: the rule, the run's record, the job it runs in."""

    def __init__(self, context: Context, task: ScheduledTask, record: RunRecord, character: Character | None) -> None:
        self.context = context
        self.task = task
        self.record = record
        self.character = character

    @property
    def run(self) -> Run:
        return self.record.run

    @property
    def config(self) -> dict[str, Any]:
        return self.task.config

    @property
    def planned(self) -> datetime:
        """When the post is wanted: the slot; for a run by hand or one that is caught up, when it was started."""
        if self.run.trigger == "cron":
            return parse(self.run.slot)
        return parse(self.run.created_at)

    @property
    def seed(self) -> str:
        """What choices by chance depend on: the same for the same slot."""
        return f"{self.task.id}\0{self.run.slot}"
