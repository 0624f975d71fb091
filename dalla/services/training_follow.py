"""A trainer at work: what can be asked of it, and what it tells, for the job's progress and for the pages."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from dalla.errors import DallaError
from dalla.events import EventBus
from dalla.jobs.base import Context
from dalla.records.lora import Ended, RunNote
from dalla.records.training import TrainingConfig
from dalla.services.training_runs import RunFolder

TELL_SECONDS = 0.5  # training.progress at most this often
LINGER_SECONDS = 8.0  # the web server waits up to five for its last requests before the app's own end is known here


class Process(Protocol):
    """A running trainer (engines/trainer.py)."""

    def follow(self, on_event: Callable[[dict[str, Any]], None], check: Callable[[], None], *, offset: int = 0) -> Ended: ...  # fmt: skip

    def cancel(self, on_event: Callable[[dict[str, Any]], None], *, offset: int | None = None) -> Ended: ...

    def save(self) -> None: ...

    def sample(self) -> None: ...

    @property
    def is_alive(self) -> bool: ...


class Trainer(Protocol):
    """Starts and finds running trainers (engines/trainer.py)."""

    def missing(self) -> str | None: ...

    def start(self, config: dict[str, Any], folder: Path) -> Process:
        """Raises Conflict, StorageError, Unavailable."""

    def attach(self, folder: Path) -> Process | None: ...


class Pause(Exception):
    """Somebody wants the run to pause."""


class Follower:
    """Turns events into the job's progress and into news for the pages."""

    def __init__(
        self, context: Context, folder: RunFolder, events: EventBus, note: RunNote, config: TrainingConfig
    ) -> None:
        self._context = context
        self._folder = folder
        self._events = events
        self._note = note
        self._total = config.steps or 1
        self._done = 0
        self._message = ""
        self._news = False
        self._told = 0.0
        self._looked = 0.0
        self._again: float | None = None

    def on_event(self, event: dict[str, Any]) -> None:
        """Take an event in; `check` hands it on, because that may raise."""
        self.tell(event)
        match event["event"]:
            case "phase":
                self._message = str(event.get("detail") or event.get("name") or "").strip()[:300]
            case "ready":
                self._total = int(event.get("steps") or self._total)
                self._message = "Training"
            case "step":
                self._done = int(event.get("step") or self._done)
                loss = event.get("loss")
                self._message = f"Step {self._done} of {self._total}"
                if isinstance(loss, int | float):
                    self._message += f" · loss {loss:.4f}"
            case "resumed":
                self._done = int(event.get("step") or 0)
                self._message = f"Going on from step {self._done}"
            case "ladder" | "warning":
                self._message = str(event.get("detail") or self._message)[:300]
            case "sample":
                self._show(event)
        self._news = True

    def tell(self, event: dict[str, Any]) -> None:
        """Publish the event to the pages; steps not more often than they can be seen."""
        if event["event"] == "step":
            now = time.monotonic()
            if now - self._told < TELL_SECONDS:
                return
            self._told = now
        shown = {key: value for key, value in event.items() if key not in ("file", "report", "perPicture")}
        self._events.publish(
            "training.progress", {"taskId": self._context.job.id, "totalSteps": self._total, "name": self._note.name, **shown}
        )  # fmt: skip

    def check(self) -> None:
        """Save progress; raise Cancelled or Pause when somebody wants that."""
        now = time.monotonic()
        if self._news or (self._again is not None and now > self._again):
            # Once more after the last news: the queue saves only so often, and a long step may follow.
            self._again = now + 1.2 * TELL_SECONDS if self._news else None
            self._news = False
            self._context.progress(self._done, max(self._total, self._done), self._message)
        else:
            self._context.check_cancelled()
        if now - self._looked > TELL_SECONDS:
            self._looked = now
            note = self._folder.note()
            if note is not None and note.intent == "pause":
                raise Pause

    def linger(self) -> None:
        """Wait some seconds for the end of the app, or for somebody's wish. Raises Cancelled for both."""
        until = time.monotonic() + LINGER_SECONDS
        while time.monotonic() < until:
            self._context.check_cancelled()
            time.sleep(0.1)

    def _show(self, event: dict[str, Any]) -> None:
        with contextlib.suppress(DallaError, OSError, KeyError, TypeError):
            path = self._folder.inside(event["file"])
            self._context.preview(path.read_bytes(), "image/png" if path.suffix == ".png" else "image/jpeg")
