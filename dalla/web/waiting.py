"""Who may hold a server thread: the server's size, and the places for requests that wait for work to end.

A live stream and a waiting request hold a thread each until they are answered. Both are counted, so that some threads are
always free for pages and short answers, however many programs wait.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from dalla.errors import Unavailable

THREADS = 64  # of the server; idle ones cost next to nothing
MAX_STREAMS = 24  # browsers share one between their tabs
MAX_WAITING = 24
RETRY_SECONDS = 2

_places = threading.BoundedSemaphore(MAX_WAITING)


@contextmanager
def place() -> Iterator[bool]:
    """Hold a place for waiting while the block runs. Gives False when all are taken: then answer the present state."""
    held = _places.acquire(blocking=False)
    try:
        yield held
    finally:
        if held:
            _places.release()


@contextmanager
def needed_place() -> Iterator[None]:
    """Hold a place for a request whose answer cannot be given without waiting. Raises Unavailable when all are taken."""
    with place() as held:
        if not held:
            raise Unavailable(
                f"{MAX_WAITING} requests wait for their answer already; nothing was started.",
                remedy="Ask again in a moment, or send Prefer: respond-async and follow the task.",
                retry_after=RETRY_SECONDS,
            )
        yield
