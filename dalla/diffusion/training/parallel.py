"""Several processes with one graphics card each, as `accelerate launch` or `torchrun` start them.

Each takes its own batches; the gradients (a LoRA's are small) are averaged before the update, so all hold the
same numbers. The first process writes everything.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar

import torch

from dalla.diffusion import hardware
from dalla.diffusion.training.errors import OutOfMemory

T = TypeVar("T")

#: So long one process waits for another: the first draws samples, and it may be paused.
PATIENCE = timedelta(hours=24)


def count() -> int:
    """Return how many processes train together (1: this one alone)."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def count_here() -> int:
    """Return how many of them run on this computer."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", os.environ.get("WORLD_SIZE", "1")))


def take_card() -> None:
    """Make this process's own card the one that "cuda" means. To be called before anything asks for a card."""
    if "LOCAL_RANK" in os.environ and torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))


class Processes:
    """This process among `count`; alone it does nothing. `device`: "cuda" or "cpu", where the gradients will be."""

    def __init__(self, device: str = "cpu") -> None:
        self.count = count()
        self.rank = int(os.environ.get("RANK", "0"))
        if self.count > 1 and not torch.distributed.is_initialized():
            # Flags travel in main memory and gradients where they are, so each kind of memory has its own way.
            nccl = torch.cuda.is_available() and torch.distributed.is_nccl_available()
            torch.distributed.init_process_group("cpu:gloo,cuda:nccl" if nccl else "gloo", timeout=PATIENCE)
            if nccl and device == "cuda":
                # NCCL takes memory of its own at its first use: now, and not when the first step has filled the card.
                torch.distributed.all_reduce(torch.zeros(1, device="cuda"))

    @property
    def first(self) -> bool:
        return self.rank == 0

    def average(self, gradients: list[Any]) -> None:
        """Average gradients (and what else has their number format) in place over all processes."""
        if self.count == 1 or not gradients:
            return
        flat = torch.cat([g.flatten() for g in gradients])
        torch.distributed.all_reduce(flat)
        flat /= self.count
        start = 0
        for g in gradients:
            g.copy_(flat[start : start + g.numel()].view_as(g))
            start += g.numel()

    def together(self, work: Callable[[], T]) -> T:
        """Do `work` here as in every process. When it fails in one, it fails in all: who went on would wait for ever
        for one that is gone, on a card without even hearing that it is to stop.

        Raises what `work` raised here; in the other processes MemoryError or RuntimeError with the words of the first
        that failed.
        """
        if self.count == 1:
            return work()
        try:
            done, problem = work(), None
        except Exception as exc:  # noqa: BLE001 - whatever it is, the others must hear of it
            problem = exc
        failed = torch.tensor([problem is not None], dtype=torch.uint8)
        torch.distributed.all_reduce(failed, torch.distributed.ReduceOp.MAX)
        if not failed.item():
            return done
        said: list[tuple[bool, str] | None] = [None] * self.count
        torch.distributed.all_gather_object(said, None if problem is None else _words(problem))
        if problem is not None:
            raise problem
        where, (memory, words) = next((rank, told) for rank, told in enumerate(said) if told is not None)
        raise (MemoryError if memory else RuntimeError)(f"in process {where + 1} of {self.count}: {words}")

    def agree(self, asked: set[str], names: tuple[str, ...]) -> set[str]:
        """Return what the first process was asked, in every process, so that all stop or save at one step."""
        if self.count == 1:
            return asked
        flags = torch.tensor([name in asked for name in names], dtype=torch.uint8)
        torch.distributed.broadcast(flags, 0)
        return {name for name, flag in zip(names, flags.tolist(), strict=True) if flag}


def _words(exc: Exception) -> tuple[bool, str]:
    """Return whether memory ran out, and what was said of it."""
    text = (exc.ran_out if isinstance(exc, OutOfMemory) else str(exc)) or type(exc).__name__
    return isinstance(exc, OutOfMemory) or hardware.out_of_memory(exc), text.splitlines()[0][:300]
