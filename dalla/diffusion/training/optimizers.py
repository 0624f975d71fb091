"""Optimizers by name and the learning rate of each step.

The learning rate is a plain function of the step, so a resumed run with a new learning rate uses it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch

from dalla.diffusion.training.quantized import load_bitsandbytes

#: What an optimizer writes into its groups as it goes (Prodigy's step size); everything else there is a setting.
FOUND = ("d", "numerator", "k")


def build(config: Any, groups: list[dict[str, Any]], device: str) -> Any:
    """Return the optimizer. What a machine cannot do was refused before; raises NotConfigured for a broken library."""
    decay = config.weight_decay
    if config.optimizer == "adamw":
        return torch.optim.AdamW(groups, weight_decay=decay, fused=device in ("cpu", "cuda"))
    if config.optimizer == "adafactor":
        # Its steps are a share of the weights' size, at least of eps[1]. A LoRA begins at zero, where 0.001 of them stand
        # still; with 1 the learning rate means what it means elsewhere.
        return torch.optim.Adafactor(groups, eps=(None, 1.0), weight_decay=decay)
    if config.optimizer == "prodigy":
        return Prodigy(groups, weight_decay=decay)
    return load_bitsandbytes().optim.AdamW8bit(groups, weight_decay=decay)


def learning_rate(config: Any, base: float, step: int) -> float:
    """Return the learning rate of step `step` (0 is the first) of `config.steps`."""
    warmup = config.warmup if config.warmup >= 1 else math.ceil(config.warmup * config.steps)
    if step < warmup:
        return base * (step + 1) / (warmup + 1)
    if config.lr_scheduler == "constant":
        return base
    done = (step - warmup) / max(1, config.steps - warmup)
    if config.lr_scheduler == "linear":
        return base * max(0.0, 1 - done)
    return base * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


def set_rates(optimizer: Any, config: Any, step: int) -> float:
    """Set every group's learning rate for this step; return the first group's."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(config, group["base_lr"], step)
    rate: float = optimizer.param_groups[0]["lr"]
    if isinstance(optimizer, Prodigy):
        rate *= optimizer.param_groups[0]["d"]
    return rate


class Prodigy(torch.optim.Optimizer):
    """Prodigy (Mishchenko and Defazio, 2023, algorithm 4): Adam that estimates its own step size.

    `lr` is a factor, 1 as a rule. `d` grows from `d0` while the gradients keep pointing away from the start.
    """

    def __init__(
        self, params: Any, lr: float = 1.0, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8,
        weight_decay: float = 0.0, d0: float = 1e-6,
    ) -> None:  # fmt: skip
        beta3 = math.sqrt(betas[1])
        defaults = {"lr": lr, "base_lr": lr, "betas": betas, "beta3": beta3, "eps": eps, "weight_decay": weight_decay,
                    "d": d0, "d0": d0, "numerator": 0.0, "k": 0}  # fmt: skip
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        first = self.param_groups[0]
        d, d0, beta3 = first["d"], first["d0"], first["beta3"]
        towards: list[Any] = []  # of each parameter, where it is
        weights: list[float] = []
        sums: list[Any] = []
        for group in self.param_groups:
            beta1, beta2 = group["betas"]
            dlr = d * group["lr"]
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                if not state:
                    state["start"] = p.detach().clone()
                    state["m"], state["v"], state["s"] = (torch.zeros_like(p) for _ in range(3))
                g = p.grad
                towards.append(torch.dot(g.flatten(), (state["start"] - p).flatten()))
                weights.append((d / d0) * dlr)
                state["m"].mul_(beta1).add_(g, alpha=d * (1 - beta1))
                state["v"].mul_(beta2).addcmul_(g, g, value=d * d * (1 - beta2))
                state["s"].mul_(beta3).add_(g, alpha=(d / d0) * dlr)
                sums.append(state["s"].abs().sum())
        if not sums:
            return loss
        found = torch.stack([*towards, *sums]).cpu().double()  # one wait for a graphics card, not two per parameter
        top = float(found[: len(weights)] @ torch.tensor(weights, dtype=torch.float64))
        bottom = float(found[len(weights) :].sum())
        numerator = first["numerator"] * beta3 + top
        if bottom > 0:
            d = max(d, numerator / bottom)
        for group in self.param_groups:
            dlr = group["d"] * group["lr"]
            for p in group["params"]:
                state = self.state.get(p)
                if not state:
                    continue
                if group["weight_decay"]:
                    p.mul_(1 - group["weight_decay"] * dlr)
                p.addcdiv_(state["m"], state["v"].sqrt().add_(group["d"] * group["eps"]), value=-dlr)
            group["numerator"], group["d"] = numerator, d
            group["k"] += 1
        return loss
