"""Several processes with one graphics card each, as `accelerate launch` or `torchrun` start them.

Each takes its own batches; the gradients (a LoRA's are small) are averaged before the update, so all hold the
same numbers. The first process writes everything.
"""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Any

import torch

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
    """This process among `count`; alone it does nothing."""

    def __init__(self) -> None:
        self.count = count()
        self.rank = int(os.environ.get("RANK", "0"))
        if self.count > 1 and not torch.distributed.is_initialized():
            # Flags travel in main memory and gradients where they are, so each kind of memory has its own way.
            nccl = torch.cuda.is_available() and torch.distributed.is_nccl_available()
            torch.distributed.init_process_group("cpu:gloo,cuda:nccl" if nccl else "gloo", timeout=PATIENCE)

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

    def agree(self, asked: set[str], names: tuple[str, ...]) -> set[str]:
        """Return what the first process was asked, in every process, so that all stop or save at one step."""
        if self.count == 1:
            return asked
        flags = torch.tensor([name in asked for name in names], dtype=torch.uint8)
        torch.distributed.broadcast(flags, 0)
        return {name for name, flag in zip(names, flags.tolist(), strict=True) if flag}
