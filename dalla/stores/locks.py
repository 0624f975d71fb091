"""One lock for a file: threads of this process queue fairly, other processes are kept out.

Not the lock of the whole data folder; that is `lockfile.py`.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dalla.errors import StorageError

WAIT_SECONDS = 30.0


class SharedLock:
    """A mutex on `.<name>.lock` beside the file it protects. Not re-entrant.

    The operating system holds it, so it is free again the moment its process dies.
    """

    def __init__(self, path: Path, what: str) -> None:
        self.path = path
        self.what = what
        self._threads = threading.Lock()
        self._file: Any = None

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Wait for the lock and keep it. Raises StorageError."""
        from filelock import FileLock, Timeout

        with self._threads:
            try:
                if self._file is None:
                    self.path.parent.mkdir(parents=True, exist_ok=True)
                    self._file = FileLock(self.path, timeout=WAIT_SECONDS, poll_interval=0.004, thread_local=False)
                self._file.acquire()
            except Timeout as exc:
                raise StorageError(
                    f"Another program has kept {self.what} locked for {WAIT_SECONDS:.0f} seconds.",
                    remedy=f"Stop the other program that uses {self.path.parent}, then try again.",
                ) from exc
            except OSError as exc:
                raise StorageError.from_os(exc, self.what) from exc
            try:
                yield
            finally:
                self._file.release()
