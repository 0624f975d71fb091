"""One training loop for every part: learning rate, averages, progress lines, and going on after a stop."""

from __future__ import annotations

import copy
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from dalla.diffusion.workers import Workers

Say = Callable[[str], None]
Batch = tuple[torch.Tensor, ...]


@dataclass
class Work:
    """What the stages share: the folder of a build, its plan's seed, where to compute and whom to tell."""

    folder: Path
    seed: int
    device: torch.device
    half: bool  # compute in bfloat16 (weights stay float32)
    say: Say
    save_every_s: float = 60.0
    workers: Workers = field(default_factory=Workers)
    losses: dict[str, float] = field(default_factory=dict)  # last mean per stage, for the report

    @property
    def layout(self) -> torch.memory_format:
        """How pictures lie in memory: convolutions in float32 on a CPU are a tenth faster with the plain order."""
        plain = self.device.type == "cpu" and not self.half
        return torch.contiguous_format if plain else torch.channels_last

    def autocast(self) -> Any:
        """Return the context in which networks run."""
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.half)


def warm_then_line(step: int, steps: int, warm: int, flat: float = 0.0) -> float:
    """Return the factor of the learning rate: up within `warm` steps, flat for a share, then down to 2 %."""
    done = step / steps
    return min(1.0, (step + 1) / warm) * (1.0 if done < flat else max(0.02, (1 - done) / (1 - flat)))


def state_file(folder: Path, name: str) -> Path:
    """Return where a loop keeps what it needs to go on; whoever has its result safe deletes it."""
    return folder / f"{name}.pt"


class Loop:
    """Trains modules for a fixed number of steps and keeps a running average of their weights.

    Every random number comes from `self.generator`, which is saved with the weights: a run that was
    stopped and started again gives the same weights as one that was not. A batch is shared among the workers
    of `work`: each computes the loss and the gradients of its part.
    """

    def __init__(
        self,
        work: Work,
        name: str,
        modules: dict[str, torch.nn.Module],
        optimizer: torch.optim.Optimizer,
        *,
        steps: int,
        lr: float,
        warm: int,
        flat: float = 0.0,
        average: float = 0.995,
        fingerprint: str,
    ) -> None:
        self.work, self.name, self.modules, self.optimizer = work, name, modules, optimizer
        self.steps, self.lr, self.warm, self.flat, self.average = steps, lr, warm, flat, average
        self.fingerprint = fingerprint
        self.generator = torch.Generator().manual_seed(work.seed)
        self.averages = {key: copy.deepcopy(module).eval() for key, module in modules.items()}
        self.parameters = [p for module in modules.values() for p in module.parameters() if p.requires_grad]
        self.step = 0

    @property
    def _file(self) -> Path:
        return state_file(self.work.folder, self.name)

    def run(self, batch_of: Callable[[int], Batch], loss_of: Callable[..., torch.Tensor]) -> dict[str, Any]:
        """Call `loss_of(*batch_of(step))` for every step and follow its gradient; return the averaged modules.

        All tensors of a batch are as long as it has items; `loss_of` gets a part of each and returns that part's
        mean. It runs in several threads at once and draws nothing at random.
        A stop by Ctrl+C keeps the state. Raises FloatingPointError when the loss is not a number.
        """
        self._restore()
        try:
            self._train(batch_of, loss_of)
        except KeyboardInterrupt:
            self._save()
            raise
        return dict(self.averages)

    def _gradients(self, batch: Batch, loss_of: Callable[..., torch.Tensor]) -> float:
        """Leave the gradients of a batch in the parameters; return its loss."""
        count = len(batch[0])
        parts = list(zip(*(tensor.chunk(self.work.workers.count) for tensor in batch), strict=True))

        def one(part: Batch) -> tuple[torch.Tensor, tuple[torch.Tensor | None, ...]]:
            loss = loss_of(*part) * (len(part[0]) / count)
            return loss.detach(), torch.autograd.grad(loss, self.parameters, allow_unused=True)

        results = self.work.workers.map(one, parts)
        for parameter, *gradients in zip(self.parameters, *(found for _, found in results), strict=True):
            given = [gradient for gradient in gradients if gradient is not None]
            parameter.grad = given[0] if given else None
            for gradient in given[1:]:
                parameter.grad = parameter.grad + gradient
        return float(sum(loss for loss, _ in results))

    def _train(self, batch_of: Callable[[int], Batch], loss_of: Callable[..., torch.Tensor]) -> None:
        began = saved = time.monotonic()
        told, first = 0.0, self.step
        losses: list[float] = []
        while self.step < self.steps:
            factor = warm_then_line(self.step, self.steps, self.warm, self.flat)
            for group in self.optimizer.param_groups:
                group["lr"] = self.lr * factor
            value = self._gradients(batch_of(self.step), loss_of)
            if not math.isfinite(value):
                raise FloatingPointError(f"The loss of '{self.name}' is {value} at step {self.step}.")
            torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
            self.optimizer.step()
            self.step += 1
            self._follow()
            losses = [*losses[-99:], value]
            now = time.monotonic()
            if now - told > 5 or self.step == self.steps:
                told = now
                rate = (self.step - first) / max(now - began, 1e-9)
                left = int((self.steps - self.step) / rate)
                mean = sum(losses) / len(losses)
                self.work.losses[self.name] = mean
                self.work.say(
                    f"{self.name}: step {self.step}/{self.steps}  loss {mean:.4f}  {rate:.2f} steps/s  "
                    f"{left // 60}:{left % 60:02d} left"
                )
            if now - saved > self.work.save_every_s:
                saved = now
                self._save()

    @torch.no_grad()
    def _follow(self) -> None:
        weight = 1 - min(self.average, (self.step + 1) / (self.step + 10))
        for key, module in self.modules.items():
            torch._foreach_lerp_(list(self.averages[key].parameters()), list(module.parameters()), weight)

    def _save(self) -> None:
        state = {
            "fingerprint": self.fingerprint,
            "step": self.step,
            "modules": {key: module.state_dict() for key, module in self.modules.items()},
            "averages": {key: module.state_dict() for key, module in self.averages.items()},
            "optimizer": self.optimizer.state_dict(),
            "generator": self.generator.get_state(),
        }
        part = self._file.with_suffix(".part")
        torch.save(state, part)
        os.replace(part, self._file)

    def _restore(self) -> None:
        if not self._file.exists():
            return
        state = torch.load(self._file, map_location="cpu", weights_only=True)
        if state["fingerprint"] != self.fingerprint:
            return
        for key, module in self.modules.items():
            module.load_state_dict(state["modules"][key])
            self.averages[key].load_state_dict(state["averages"][key])
        self.optimizer.load_state_dict(state["optimizer"])
        self.generator.set_state(state["generator"])
        self.step = state["step"]
        self.work.say(f"{self.name}: going on at step {self.step}/{self.steps}")
