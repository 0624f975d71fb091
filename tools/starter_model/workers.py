"""Threads that share the work of a step on a CPU, each computing with a single thread of its own.

Two such threads take about half the time of one; PyTorch's own two threads inside every small operation do not, because
they wait for each other hundreds of times in a step.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch


class Workers:
    """`count` threads; one means the caller's own, which may compute with as many threads as PyTorch likes."""

    def __init__(self, count: int = 1) -> None:
        self.count = max(1, count)
        self._pool: ThreadPoolExecutor | None = None
        if self.count > 1:
            # The number of threads inside an operation is a setting of each thread.
            torch.set_num_threads(1)
            self._pool = ThreadPoolExecutor(self.count, "starter", initializer=torch.set_num_threads, initargs=(1,))

    def map(self, function: Callable[[Any], Any], items: Iterable[Any]) -> list[Any]:
        """Return the function's results in the order of the items; the first error is raised when all have ended."""
        if self._pool is None:
            return [function(item) for item in items]
        waiting = [self._pool.submit(function, item) for item in items]
        errors = [error for error in (future.exception() for future in waiting) if error is not None]
        if errors:
            raise errors[0]
        return [future.result() for future in waiting]


def usable(device: torch.device, most: int = 4) -> int:
    """Return how many workers a build gets on a device: the free cores of a CPU, at most `most`; else one."""
    if device.type != "cpu":
        return 1
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(most, cores))
