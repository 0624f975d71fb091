"""A training run as its folder tells it: events folded into a state, the note beside them, its checkpoints.

`events.jsonl` is written by the trainer, whoever watches; here it is read piece by piece and remembered, so
that a page which asks every second costs little. Only reads, except for `run.json` and what is deleted on wish.
"""

from __future__ import annotations

import contextlib
import json
import logging
import shutil
import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dalla.errors import InvalidInput, NotFound, StorageError
from dalla.ids import check_id
from dalla.paths import write_atomic
from dalla.records.lora import RunNote

logger = logging.getLogger(__name__)

NOTE, EVENTS, LOG = "run.json", "events.jsonl", "run.log"
MAX_POINTS = 2000  # of a curve in one answer
KEPT_POINTS = 8000  # of a curve in memory; then neighbours become one
KEPT_RUNS = 64  # states held in memory
_CURVES = ("step", "loss", "lr", "epoch", "stepsPerSecond", "memoryBytes", "time")


@dataclass
class RunState:
    """What the events say so far. Steps count from 1; losses are means since the line before."""

    phase: dict[str, Any] = field(default_factory=dict)
    ready: dict[str, Any] = field(default_factory=dict)
    last: dict[str, Any] = field(default_factory=dict)  # the newest `step` event
    metrics: list[dict[str, Any]] = field(default_factory=list)
    validations: list[dict[str, Any]] = field(default_factory=list)
    resemblances: list[dict[str, Any]] = field(default_factory=list)  # how like the training pictures the samples are
    samples: list[dict[str, Any]] = field(default_factory=list)
    checkpoints: list[dict[str, Any]] = field(default_factory=list)
    warnings: list[dict[str, Any]] = field(default_factory=list)
    ladder: list[dict[str, Any]] = field(default_factory=list)
    report: dict[str, Any] | None = None
    closing: dict[str, Any] | None = None  # done, error or cancelled
    closing_end: int = 0  # byte at which that line ends

    @property
    def step(self) -> int:
        """How far it is. Steps are told a few times a second only; where a run stopped, its last word knows better."""
        stopped = self.closing if self.closing and self.closing.get("event") == "cancelled" else {}
        return int(stopped.get("step") or self.last.get("step") or 0)

    @property
    def steps(self) -> int:
        return int(self.ready.get("steps") or 0)

    def take(self, event: dict[str, Any]) -> None:
        """Fold one event in."""
        kind = event.get("event")
        row = {key: value for key, value in event.items() if key != "event"}
        match kind:
            case "phase":
                self.phase = row
            case "ready":
                self.ready, self.closing = row, None
                self._back_to(row.get("startStep"))
            case "step":
                self.last = row
                self.metrics.append({key: row[key] for key in _CURVES if key in row})
                if len(self.metrics) > KEPT_POINTS:
                    self.metrics = thin(self.metrics, KEPT_POINTS // 2)
            case "validation":
                self.validations.append(row)
            case "resemblance":
                self.resemblances = [r for r in self.resemblances if r.get("step") != row.get("step")]
                self.resemblances.append(row)
            case "sample":
                key = (row.get("step"), row.get("index"), row.get("withTrigger"))
                self.samples = [s for s in self.samples if (s.get("step"), s.get("index"), s.get("withTrigger")) != key]
                self.samples.append(row)
            case "checkpoint":
                self.checkpoints = [c for c in self.checkpoints if c.get("step") != row.get("step")]
                if row.get("best"):
                    self.checkpoints = [{**c, "best": False} for c in self.checkpoints]
                self.checkpoints.append(row)
            case "warning":
                if row not in self.warnings:
                    self.warnings.append(row)
            case "ladder":
                self.ladder.append({"step": self.step, **row})
            case "resumed":
                self._back_to(row.get("step"))
            case "report":
                self.report = row
            case "done" | "error" | "cancelled":
                self.closing = event

    def _back_to(self, step: Any) -> None:
        """Forget what was measured after the step a run was taken up again at: it is measured anew."""
        if isinstance(step, int):
            for name in ("metrics", "validations", "resemblances"):
                setattr(self, name, [row for row in getattr(self, name) if (row.get("step") or 0) <= step])
            if self.step > step:
                self.last = self.metrics[-1] if self.metrics else {"step": step}
            # The pace was that of the attempt before.
            self.last = {k: v for k, v in self.last.items() if k not in ("stepsPerSecond", "etaSeconds")}


class RunFolder:
    """`data/runs/<taskId>/` of one training. Threads may share it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._state = RunState()
        self._offset = 0
        self._inode: int | None = None
        self._lock = threading.Lock()

    @property
    def id(self) -> str:
        return self.path.name

    def state(self) -> RunState:
        """Return the state with every event up to now. The lists in it are not to be changed."""
        with self._lock:
            try:
                with open(self.path / EVENTS, "rb") as file:
                    self._read_on(file)
            except FileNotFoundError:
                pass
            except OSError as exc:
                logger.warning("The events of %s cannot be read: %s", self.id, exc)
            return self._state

    def _read_on(self, file: Any) -> None:
        import os

        stat = os.fstat(file.fileno())
        if stat.st_size < self._offset or self._inode not in (None, stat.st_ino):
            self._state, self._offset = RunState(), 0
        self._inode = stat.st_ino
        file.seek(self._offset)
        for line in file:
            if not line.endswith(b"\n"):
                break  # still being written
            self._offset += len(line)
            with contextlib.suppress(ValueError, TypeError):
                event = json.loads(line)
                if isinstance(event, dict):
                    self._state.take(event)
                    if self._state.closing is event:
                        self._state.closing_end = self._offset

    def last_sign(self) -> float | None:
        """Return when the trainer last wrote an event (seconds since 1970)."""
        try:
            return (self.path / EVENTS).stat().st_mtime
        except OSError:
            return None

    def events_size(self) -> int:
        try:
            return (self.path / EVENTS).stat().st_size
        except OSError:
            return 0

    # ------------------------------------------------------------ the note

    def note(self) -> RunNote | None:
        """Return what the dashboard remembers about the run."""
        try:
            return RunNote.model_validate(json.loads((self.path / NOTE).read_bytes()))
        except (OSError, ValueError):
            return None

    def save_note(self, note: RunNote) -> RunNote:
        """Raises StorageError."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            data = json.dumps(note.to_json(), indent=2, ensure_ascii=False).encode()
            write_atomic(self.path / NOTE, data + b"\n")
        except OSError as exc:
            raise StorageError.from_os(exc, "the note of the training run") from exc
        return note

    def change_note(self, **changes: Any) -> RunNote | None:
        note = self.note()
        return None if note is None else self.save_note(note.with_(**changes))

    # ------------------------------------------------------------ files

    def inside(self, name: str) -> Path:
        """Return the path of a file that an event names (absolute, or from the run's folder). Raises NotFound."""
        try:
            path = (self.path / name).resolve()
        except (OSError, ValueError):  # a NUL, a loop of links
            raise NotFound("This file is not part of the run.") from None
        if self.path.resolve() not in path.parents:
            raise NotFound("This file is not part of the run.")
        return path

    def checkpoint(self, step: int) -> tuple[dict[str, Any], Path]:
        """Return a checkpoint's row and its LoRA file. Raises NotFound."""
        row = next((c for c in self.state().checkpoints if c.get("step") == step), None)
        if row is None:
            raise NotFound(f"The run has no checkpoint of step {step}.")
        path = self._lora_of(row)
        if path is None:
            raise NotFound(f"The file of step {step} is gone: only the newest and the best checkpoints are kept.")
        return row, path

    def _lora_of(self, row: dict[str, Any]) -> Path | None:
        with contextlib.suppress(NotFound, TypeError, KeyError):
            path = self.inside(row["file"])
            if path.is_file():
                return path
            if path.is_dir():
                return next(iter(sorted(path.glob("*.safetensors"))), None)
        return None

    def checkpoints(self) -> list[dict[str, Any]]:
        """Return the checkpoints whose files are there, oldest first: {step, best, sizeBytes, loss, fileUrl}."""
        losses = {v.get("step"): v.get("loss") for v in self.state().validations}
        found = []
        for row in sorted(self.state().checkpoints, key=lambda c: c.get("step") or 0):
            path = self._lora_of(row)
            if path is not None:
                step = int(row.get("step") or 0)
                found.append(
                    {
                        "step": step,
                        "best": bool(row.get("best")),
                        "sizeBytes": path.stat().st_size,
                        "validationLoss": losses.get(step),
                        "fileUrl": f"/api/lora/train/{self.id}/checkpoints/{step}/file",
                    }
                )
        return found

    def delete_checkpoint(self, step: int) -> None:
        """Delete the file of a checkpoint (and the state beside it). Raises NotFound, StorageError."""
        _, path = self.checkpoint(step)
        folder = path.parent
        try:
            if folder.name.lstrip("0") == str(step) and folder.parent.name == "checkpoints":
                shutil.rmtree(folder)
            else:
                path.unlink()
        except OSError as exc:
            raise StorageError.from_os(exc, "the change") from exc

    def samples(self) -> list[dict[str, Any]]:
        """Return the samples whose pictures are there: {step, index, prompt, seed, withTrigger, fileUrl}."""
        found = []
        for row in self.state().samples:
            with contextlib.suppress(NotFound, TypeError, KeyError):
                path = self.inside(row["file"])
                if path.is_file():
                    shown = {k: v for k, v in row.items() if k != "file"}
                    found.append({**shown, "fileUrl": f"/api/lora/train/{self.id}/samples/{path.name}"})
        return found

    def sample_file(self, name: str) -> Path:
        """Return the path of a sample picture. Raises NotFound."""
        path = self.inside(f"samples/{name[:200]}")
        if (
            path.parent.name != "samples"
            or path.suffix.lower() not in (".png", ".jpg", ".jpeg", ".webp")
            or not path.is_file()
        ):
            raise NotFound(f"The run has no sample '{name}'.")
        return path

    def metrics(self, since: int = 0) -> dict[str, Any]:
        """Return the curves after step `since`, thinned to at most 2,000 points by means over neighbours."""
        state = self.state()
        rows = [row for row in state.metrics if (row.get("step") or 0) > since]
        return {
            "step": state.step,
            "totalSteps": state.steps,
            "points": thin(rows, MAX_POINTS),
            "thinned": len(rows) > MAX_POINTS,
            "validation": [v for v in state.validations if (v.get("step") or 0) > since or since == 0],
            "ladder": state.ladder,
        }

    def size_bytes(self) -> int:
        return sum(p.stat().st_size for p in self.path.rglob("*") if p.is_file())


def thin(rows: list[dict[str, Any]], most: int) -> list[dict[str, Any]]:
    """Return at most `most` rows: neighbours become one, with the mean loss and the last of everything else."""
    if len(rows) <= most:
        return rows
    result = []
    for n in range(most):
        part = rows[n * len(rows) // most : (n + 1) * len(rows) // most]
        losses = [r["loss"] for r in part if isinstance(r.get("loss"), int | float)]
        result.append({**part[-1], "loss": sum(losses) / len(losses) if losses else None})
    return result


class RunFolders:
    """All training runs below `data/runs/`."""

    def __init__(self, data_dir: Path) -> None:
        self.root = Path(data_dir) / "runs"
        self._known: OrderedDict[str, RunFolder] = OrderedDict()
        self._lock = threading.Lock()

    def folder(self, task_id: str) -> RunFolder:
        """Return the folder of a run, whether it is there or not. Raises InvalidInput for what is no id."""
        check_id(task_id, "taskId")
        with self._lock:
            found = self._known.pop(task_id, None) or RunFolder(self.root / task_id)
            self._known[task_id] = found
            while len(self._known) > KEPT_RUNS:
                self._known.popitem(last=False)
            return found

    def all(self) -> list[RunFolder]:
        """Return the runs that have a note, in no order."""
        found = []
        for note in self.root.glob(f"*/{NOTE}"):
            with contextlib.suppress(InvalidInput):
                found.append(self.folder(note.parent.name))
        return found

    def delete(self, task_id: str) -> int:
        """Delete a run's folder with all that is in it; return the bytes that were freed. Raises StorageError."""
        folder = self.folder(task_id)
        size = folder.size_bytes()
        try:
            shutil.rmtree(folder.path)
        except FileNotFoundError:
            return 0
        except OSError as exc:
            raise StorageError.from_os(exc, "the change") from exc
        with self._lock:
            self._known.pop(task_id, None)
        return size
