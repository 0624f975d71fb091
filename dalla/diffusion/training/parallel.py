"""Several processes with one graphics card each, as `accelerate launch` or `torchrun` start them.

Each takes its own batches; the gradients (a LoRA's are small) are averaged before the update, so all hold the
same numbers. The first process writes everything.
"""

from __future__ import annotations

import os
from typing import Any

import torch


class Processes:
    """This process among `count`; alone it does nothing."""

    def __init__(self) -> None:
        self.count = int(os.environ.get("WORLD_SIZE", "1"))
        self.rank = int(os.environ.get("RANK", "0"))
        if self.count > 1 and not torch.distributed.is_initialized():
            torch.distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")

    @property
    def first(self) -> bool:
        return self.rank == 0

    def average(self, gradients: list[Any]) -> None:
        """Average gradients in place over all processes."""
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
        flags = flags.cuda() if torch.cuda.is_available() else flags
        torch.distributed.broadcast(flags, 0)
        return {name for name, flag in zip(names, flags.tolist(), strict=True) if flag}
