"""One lock for a file: threads of this process queue fairly, other processes are kept out.

Not the lock of the whole data folder; that is `lockfile.py`.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dalla.errors import StorageError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

WAIT_SECONDS = 30.0
_POLL_SECONDS = 0.004


class SharedLock:
    """A mutex on `.<name>.lock` beside the file it protects. Not re-entrant.

    The operating system holds it, so it is free again the moment its process dies.
    """

    def __init__(self, path: Path, what: str) -> None:
        self.path = path
        self.what = what
        self._threads = threading.Lock()

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Wait for the lock and keep it. Raises StorageError."""
        with self._threads:
            try:
                held = self._acquire()
            except TimeoutError as exc:
                raise StorageError(
                    f"Another program has kept {self.what} locked for {WAIT_SECONDS:.0f} seconds.",
                    remedy=f"Stop the other program that uses {self.path.parent}, then try again.",
                ) from exc
            except OSError as exc:
                raise StorageError.from_os(exc, self.what) from exc
            try:
                yield
            finally:
                self._release(held)

    def _acquire(self) -> Any:
        try:
            return self._open()
        except FileNotFoundError:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            return self._open()

    def _open(self) -> Any:
        if fcntl is None:
            from filelock import FileLock

            lock = FileLock(self.path, timeout=WAIT_SECONDS, poll_interval=_POLL_SECONDS, thread_local=False)
            lock.acquire()  # filelock.Timeout is a TimeoutError
            return lock
        # The same lock as filelock's, which takes a fifth of a millisecond: too much beside a small write.
        handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            deadline = time.monotonic() + WAIT_SECONDS
            while True:
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    return handle
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        raise TimeoutError from None
                    time.sleep(_POLL_SECONDS)
        except BaseException:
            os.close(handle)
            raise

    def _release(self, held: Any) -> None:
        if fcntl is None:
            held.release()
        else:
            os.close(held)  # closing frees the lock
