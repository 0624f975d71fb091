"""What happens, told to whoever listens: the in-process bus behind `GET /api/events`.

Not a queue: nobody may rely on an event being delivered. The stores are the truth; an event says
"look again". The last thousand are kept so that a browser that lost its connection can resume.
"""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Event:
    """`id` rises by one for each event; `type` is e.g. "task.updated"."""

    id: int
    type: str
    data: dict[str, Any]


class EventBus:
    """Publish to all listeners of this process. Threads may publish and listen at will."""

    def __init__(self, keep: int = 1000) -> None:
        self._recent: deque[Event] = deque(maxlen=keep)
        self._arrived = threading.Condition()
        self._last_id = 0
        self._closed = False

    @property
    def last_id(self) -> int:
        return self._last_id

    @property
    def closed(self) -> bool:
        return self._closed

    def publish(self, type: str, data: dict[str, Any]) -> None:
        """Tell everybody. Never blocks and never fails."""
        with self._arrived:
            self._last_id += 1
            self._recent.append(Event(self._last_id, type, data))
            self._arrived.notify_all()

    def since(self, last_id: int, timeout: float) -> tuple[list[Event], bool]:
        """Return the events after `last_id`, waiting up to `timeout` seconds for the first.

        The second value is False when events after `last_id` are gone already (or the id is from
        another run of the app): the listener must start again from a snapshot.
        """
        with self._arrived:
            if last_id > self._last_id:
                return [], False
            if self._last_id == last_id and not self._closed:
                self._arrived.wait(timeout)
            oldest = self._recent[0].id if self._recent else self._last_id + 1
            if last_id + 1 < oldest:
                return [], False
            return [event for event in self._recent if event.id > last_id], True

    def close(self) -> None:
        """Let all listeners end."""
        with self._arrived:
            self._closed = True
            self._arrived.notify_all()
