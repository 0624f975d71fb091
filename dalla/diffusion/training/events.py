"""What a run tells and what it listens to: events.jsonl, the lock, control files.

One JSON object per line under the key "event"; whoever follows a run reads the file by byte offset, so
the reader may come and go. The lock is held by the operating system for the life of this process: a free
lock without a last word means that the run died.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from dalla import times
from dalla.errors import Conflict, StorageError

#: At most this many "step" lines per second; the losses between two lines are averaged.
STEP_LINES_PER_SECOND = 4.0
#: Kept on the disk so that a run that fills it can still say so.
RESERVE_BYTES = 16_384
LAST_WORDS = ("done", "error", "cancelled")


class Events:
    """Appends events to a run's file (if there is a run folder) and hands each to `listener`."""

    def __init__(self, folder: Path | None, listener: Callable[[dict[str, Any]], None] | None = None) -> None:
        self._listener = listener
        self._file: Any = None
        self._reserve: Path | None = None
        self._losses: list[float] = []
        self._last_line = 0.0
        #: What the run is at: the last phase, or what `at` says. The sentence about its end names it.
        self.doing = "start"
        if folder is not None:
            try:
                folder.mkdir(parents=True, exist_ok=True)
                self._reserve = folder / ".reserve"
                self._reserve.write_bytes(b"\0" * RESERVE_BYTES)
                self._file = (folder / "events.jsonl").open("a", encoding="utf-8")
            except OSError as exc:
                raise StorageError.from_os(exc, "the run's events") from exc

    def emit(self, event: str, **values: Any) -> None:
        """Write one event now. A full disk costs the reserve first; then lines are lost, never the run's truth."""
        if event == "phase":
            self.doing = str(values.get("name"))
        line = {"event": event, "time": times.now_iso(), **{k: _plain(v) for k, v in values.items()}}
        if self._file is not None:
            try:
                self._write(line)
            except OSError:
                if event in LAST_WORDS and self._reserve is not None:
                    with contextlib.suppress(OSError):
                        self._reserve.unlink()
                        self._write(line)
        if self._listener is not None:
            self._listener(line)

    @contextlib.contextmanager
    def at(self, doing: str) -> Iterator[None]:
        """Say what the run is at inside this block. When the block fails, that stays: it is where the run ended."""
        before, self.doing = self.doing, doing
        yield
        self.doing = before

    def _write(self, line: dict[str, Any]) -> None:
        self._file.write(json.dumps(line, ensure_ascii=False) + "\n")
        self._file.flush()

    def step(self, loss: float, *, last: bool, **values: Any) -> None:
        """Count a step's loss and write a line at most `STEP_LINES_PER_SECOND` times a second."""
        self._losses.append(loss)
        now = time.monotonic()
        if last or now - self._last_line >= 1 / STEP_LINES_PER_SECOND:
            mean = sum(self._losses) / len(self._losses)
            self.emit("step", loss=round(mean, 6), **values)
            self._losses, self._last_line = [], now

    def due(self) -> bool:
        """Say whether a step line would be written now, so that the device need not be asked for the loss."""
        return time.monotonic() - self._last_line >= 1 / STEP_LINES_PER_SECOND

    def close(self) -> None:
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()
            self._file = None
        if self._reserve is not None:
            with contextlib.suppress(OSError):
                self._reserve.unlink(missing_ok=True)


#: So long the lock is tried for: somebody who looks whether it is held holds it for a moment.
LOCK_SECONDS = 1.0


class RunLock:
    """The operating system's lock on `run.lock`, held until the process ends. Raises Conflict when held already."""

    def __init__(self, folder: Path) -> None:
        try:
            self._handle = os.open(folder / "run.lock", os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as exc:
            raise StorageError.from_os(exc, "the run's lock") from exc
        end = time.monotonic() + LOCK_SECONDS
        while True:
            try:
                _lock(self._handle)
                break
            except OSError:
                if time.monotonic() < end:
                    time.sleep(0.02)
                    continue
                os.close(self._handle)
                raise Conflict(
                    "This run is being trained already by another process.", remedy="Wait for it, or stop it first."
                ) from None
        with contextlib.suppress(OSError):
            os.ftruncate(self._handle, 0)
            os.write(self._handle, f"{os.getpid()}\n".encode())

    def release(self) -> None:
        with contextlib.suppress(OSError):
            os.close(self._handle)


class Controls:
    """The control files of a run (`cancel save sample pause`) and a stop asked for by a signal."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self.stop = False

    def look(self) -> set[str]:
        """Return what is asked for right now."""
        found = {"cancel"} if self.stop else set()
        if self._folder is None:
            return found
        with contextlib.suppress(OSError), os.scandir(self._folder) as entries:
            found |= {entry.name for entry in entries} & {"cancel", "save", "sample", "pause"}
        if "cancel" in found:
            self.stop = True
        return found

    def poll(self) -> set[str]:
        """Return what is asked for, and take it on: `save` and `sample` are answered once, so their files are removed."""
        found = self.look()
        if self._folder is not None:
            for name in found & {"save", "sample"}:
                with contextlib.suppress(OSError):
                    (self._folder / name).unlink()
        return found

    def wait_while_paused(self, seconds: float = 0.2) -> None:
        """Return when the `pause` file is gone or a stop is asked for."""
        while "pause" in (asked := self.look()) and "cancel" not in asked:
            time.sleep(seconds)


def _lock(handle: int) -> None:
    if os.name == "nt":
        import msvcrt

        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
    else:
        import fcntl

        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _plain(value: Any) -> Any:
    """JSON has no NaN; None says "no number" to every reader."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return value
