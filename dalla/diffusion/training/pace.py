"""Steps that suddenly take several times as long, because the graphics card is full.

Some drivers (NVIDIA's on Windows) do not refuse memory then: they lend the computer's, which is many times slower. Nothing
fails, and the run looks as if it only were slow.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from statistics import median_low
from typing import Any

#: The first steps load and compile; then so many are the measure, and so many are compared with them.
WARM_UP, STEPS = 5, 20
#: So many times the measure is no longer usual, and so large a share of the card's memory in use is full.
SLOWER, FULL = 4.0, 0.95


class Pace:
    """Looks at how long steps take. `used` says which share of the card's memory is in use, by all programs, 0 to 1."""

    def __init__(self, used: Callable[[], float]) -> None:
        self._used = used
        self._steps = 0
        self._first: list[float] = []
        self._last: deque[float] = deque(maxlen=STEPS)
        self._told = False

    def step(self, number: int, seconds: float) -> dict[str, Any] | None:
        """Count step `number`; return the warning's values the first time that steps are slow and the card is full."""
        self._steps += 1
        if self._told or self._steps <= WARM_UP:
            return None
        if len(self._first) < STEPS:
            self._first.append(seconds)
            return None
        self._last.append(seconds)
        if len(self._last) < STEPS:
            return None
        before, now = median_low(self._first), median_low(self._last)
        if now <= SLOWER * before or self._used() <= FULL:
            return None
        self._told = True
        return {
            "code": "memory_spills",
            "step": number,
            "detail": f"Steps take {now:.2f} s now, {before:.2f} s at the beginning, and the graphics card's memory is full. "
            "The driver seems to lend the computer's memory, which is far slower.",
            "remedy": "Close other programs that use the card. If that does not help, stop the run and start it with a smaller "
            "batch, gradient checkpointing or a lower resolution or rank.",
        }


def card_used() -> float:
    """Return the share of the NVIDIA card's memory that is in use, 0 to 1."""
    import torch

    free, total = torch.cuda.mem_get_info()
    return 1 - free / total
