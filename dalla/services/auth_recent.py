"""What was just looked up about accounts, for a moment: a gallery asks for fifty thumbnails at once."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")

SECONDS = 2.0  # another process (the command line) may have changed something
MOST = 1000


class Recent:
    """Answers of the user store, forgotten after two seconds and with every change this process makes.

    `revision` is the store's number that grows with each change; it is read before the store is asked, so that an
    answer from before a change is never kept as one from after it.
    """

    def __init__(self, revision: Callable[[], int]) -> None:
        self._revision = revision
        self._kept: dict[str, tuple[int, float, Any]] = {}

    def get(self, key: str, load: Callable[[], T | None]) -> T | None:
        """Return what `load` answers, or answered a moment ago. None is asked for anew each time."""
        revision = self._revision()
        kept = self._kept.get(key)
        if kept is not None and kept[0] == revision and time.monotonic() - kept[1] < SECONDS:
            return kept[2]  # type: ignore[no-any-return]
        found = load()
        if found is None:
            self._kept.pop(key, None)
        else:
            if len(self._kept) >= MOST:
                self._kept.clear()
            self._kept[key] = (revision, time.monotonic(), found)
        return found
