"""Keep a second app off the same data folder, and say where the first one is."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

import orjson

from dalla.errors import Conflict, StorageError
from dalla.paths import write_atomic


class DataFolderLock:
    """Hold the folder for the life of the process.

    The operating system holds the lock, so nothing is left over after a crash or `kill -9`; the
    note beside it only tells a person who has it.
    """

    def __init__(self, data_dir: Path) -> None:
        self.folder = Path(data_dir)
        self._note = self.folder / ".app.json"  # beside the lock: Windows lets nobody read a locked file
        self._lock: Any = None

    def acquire(self, address: str) -> None:
        """Take the folder. Raises Conflict when another app has it, StorageError."""
        from filelock import FileLock, Timeout

        lock = FileLock(self.folder / ".app.lock", timeout=0, thread_local=False)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock.acquire()
            self.note(address)
        except Timeout:
            raise self._taken() from None
        except OSError as exc:
            lock.release()
            raise StorageError.from_os(exc, "the lock of the data folder") from exc
        self._lock = lock

    def note(self, address: str) -> None:
        """Write down who holds the folder and where it can be reached."""
        write_atomic(self._note, orjson.dumps({"pid": os.getpid(), "address": address}) + b"\n")

    def holder(self) -> dict[str, Any] | None:
        """Return {"pid", "address"} as the last app noted them, or None."""
        with contextlib.suppress(OSError, ValueError):
            note = orjson.loads(self._note.read_bytes())
            return note if isinstance(note, dict) else None
        return None

    def release(self) -> None:
        """Give the folder back; harmless when it is not held."""
        if self._lock is not None:
            with contextlib.suppress(OSError):
                self._note.unlink(missing_ok=True)
            self._lock.release()
            self._lock = None

    def _taken(self) -> Conflict:
        note = self.holder() or {}
        pid, address = note.get("pid"), note.get("address")
        who = ", ".join([f"process {pid}"] * bool(pid) + [str(address)] * bool(address))
        return Conflict(
            f"Digital Dalla already runs on the data folder {self.folder}{f' ({who})' if who else ''}.",
            remedy="Use the one that runs, stop it first, or set DALLA_DATA_DIR to another folder.",
        )
