"""What a trainer leaves in its run's folder, read from outside: events, lock, log."""

from __future__ import annotations

import contextlib
import json
import logging
import os
from pathlib import Path
from typing import Any

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

logger = logging.getLogger(__name__)

LOG_TAIL_LINES = 20
MAX_LINE = 4_000_000  # a longer line is no event


class EventTail:
    """Reads the whole lines that were added to an events file since the last look."""

    def __init__(self, path: Path, offset: int = 0) -> None:
        self.path = path
        self.offset = offset

    def read(self) -> list[dict[str, Any]]:
        """Return the new events. A line that is no JSON object (cut off by a crash) is left out."""
        events: list[dict[str, Any]] = []
        try:
            with open(self.path, "rb") as file:
                if os.fstat(file.fileno()).st_size < self.offset:  # somebody began it anew
                    self.offset = 0
                file.seek(self.offset)
                while True:
                    line = file.readline(MAX_LINE)
                    if not line.endswith(b"\n"):
                        if len(line) < MAX_LINE:
                            break  # not whole yet
                        self.offset += len(line)
                        continue
                    self.offset += len(line)
                    with contextlib.suppress(ValueError):
                        event = json.loads(line)
                        if isinstance(event, dict) and isinstance(event.get("event"), str):
                            events.append(event)
        except FileNotFoundError:
            pass
        except OSError as exc:
            logger.warning("%s cannot be read: %s", self.path, exc)
        return events


def lock_is_held(path: Path) -> bool:
    """Whether a living process holds the lock on this file. The system frees it when the process dies."""
    if not path.exists():
        return False
    if fcntl is None:
        from filelock import FileLock, Timeout

        lock = FileLock(path, timeout=0, thread_local=False)
        try:
            lock.acquire()
        except Timeout:
            return True
        lock.release()
        return False
    try:
        handle = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)  # shared: two who look do not take each other for a trainer
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(handle)
    return False


def log_tail(path: Path, lines: int = LOG_TAIL_LINES) -> list[str]:
    """Return the last lines of a log; progress bars (which end in a carriage return) show their last state."""
    try:
        with open(path, "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - 16_384))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return []
    kept = [line.rstrip("\r").rsplit("\r", 1)[-1].rstrip() for line in text.split("\n")]
    return [line[:1000] for line in kept if line.strip()][-lines:]


def size_of(path: Path) -> int:
    """Return a file's bytes, -1 when it is not there."""
    try:
        return path.stat().st_size
    except OSError:
        return -1
