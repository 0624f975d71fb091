"""Threads that share the work on a CPU, each computing with a single thread of its own.

Two such threads take about half the time of one; PyTorch's own two threads inside every small operation do not, because
they wait for each other hundreds of times in a step.

What a function does in a worker must not depend on what the others do: gradient mode and autocast are settings of each
thread (set them inside the function), random draws from PyTorch's global generator belong before the sharing.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import torch

#: More than so many do not help: what they share, such as the update of the weights, stays with one.
MOST = 4
_CGROUPS = Path("/sys/fs/cgroup")


class Workers:
    """`count` threads; one means the caller's own, which may compute with as many threads as PyTorch likes."""

    def __init__(self, count: int = 1) -> None:
        self.count = max(1, count)
        self._pool: ThreadPoolExecutor | None = None
        if self.count > 1:
            # The number of threads inside an operation is a setting of each thread.
            torch.set_num_threads(1)
            self._pool = ThreadPoolExecutor(self.count, "worker", initializer=torch.set_num_threads, initargs=(1,))

    def each(self, function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
        """Yield the function's results in the order of the items, each as soon as it is there.

        The first error is raised when nothing is being computed any more; what was not begun is left out.
        """
        if self._pool is None:
            yield from map(function, items)
            return
        waiting = [self._pool.submit(function, item) for item in items]
        try:
            for future in waiting:
                yield future.result()
        finally:
            for future in waiting:
                future.cancel()
            wait(waiting)

    def map(self, function: Callable[[Any], Any], items: Iterable[Any]) -> list[Any]:
        """Return the function's results in the order of the items."""
        return list(self.each(function, items))


def usable(most: int = MOST) -> int:
    """Return how many workers the CPU has room for: the cores this process may use, at most `most`.

    PyTorch's own number of threads is the limit, too, so OMP_NUM_THREADS=1 means one worker. Ask before it is changed.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(most, cores, torch.get_num_threads(), _quota()))


def _quota() -> int:
    """Return how many cores a container may use at once; a large number where nothing limits it."""
    with contextlib.suppress(OSError, ValueError):  # cgroups, version 2: "max 100000" or "150000 100000"
        quota, period = (_CGROUPS / "cpu.max").read_text().split()
        return int(quota) // int(period) or 1
    with contextlib.suppress(OSError, ValueError):
        quota, period = ((_CGROUPS / "cpu" / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        if int(quota) > 0:
            return int(quota) // int(period) or 1
    return 10**6
