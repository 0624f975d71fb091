"""Who may hold a server thread: the server's size, and the places for requests that last until something happens.

A live stream and a waiting request hold a thread each until they are answered. They are counted, and of one account there
are only so many, so that threads are left for pages and short answers, however many programs wait.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from dalla.errors import Unavailable
from dalla.web.access import identity

THREADS = 64  # of the server; idle ones cost next to nothing
MOST_OF_EACH = 8  # of one account, so that nobody keeps the others from theirs
RETRY_SECONDS = 2


class Places:
    """So many requests at a time; of one account ("": there are no accounts) at most MOST_OF_EACH."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._of_each: Counter[str] = Counter()
        self._lock = threading.Lock()

    @property
    def free(self) -> int:
        with self._lock:
            return self.count - self._of_each.total()

    def take(self, user_id: str) -> bool:
        """Take a place; False when there is none. What was taken is given back by `leave`."""
        with self._lock:
            if self._of_each.total() >= self.count or (user_id and self._of_each[user_id] >= MOST_OF_EACH):
                return False
            self._of_each[user_id] += 1
            return True

    def leave(self, user_id: str) -> None:
        with self._lock:
            self._of_each[user_id] -= 1
            self._of_each += Counter()  # forget who holds none


STREAMS = Places(24)  # browsers share one between their tabs
WAITING = Places(16)  # for the end of a task or a post
ANSWERS = Places(8)  # for a picture that is the answer itself


@contextmanager
def place(places: Places = WAITING) -> Iterator[bool]:
    """Hold a place for waiting while the block runs. Gives False when there is none: then answer the present state."""
    user_id = identity().user_id
    held = places.take(user_id)
    try:
        yield held
    finally:
        if held:
            places.leave(user_id)


@contextmanager
def needed_place() -> Iterator[None]:
    """Hold a place for a request whose answer cannot be given without waiting. Raises Unavailable when there is none."""
    with place(ANSWERS) as held:
        if not held:
            raise Unavailable(
                f"{ANSWERS.count - ANSWERS.free} requests wait for their pictures already; nothing was started.",
                remedy="Ask again in a moment, or send Prefer: respond-async and follow the task.",
                retry_after=RETRY_SECONDS,
            )
        yield
