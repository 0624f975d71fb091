"""The held-out loss: the model's error on pictures it was never trained on, with fixed noise and noise levels.

The training loss falls also while a LoRA gets worse; this one does not. Because noise, levels and captions are
the same every time, two readings are compared pair by pair.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from typing import Any

import torch

from dalla.diffusion.training.dataset import Example
from dalla.diffusion.training.objective import item_losses


@dataclass(frozen=True)
class Reading:
    """Losses by picture, one per noise level and noise."""

    losses: dict[str, list[float]]

    @property
    def mean(self) -> float:
        values = [v for row in self.losses.values() for v in row]
        return sum(values) / len(values) if values else math.nan

    def per_picture(self) -> dict[str, float]:
        return {file: round(sum(row) / len(row), 6) for file, row in self.losses.items()}


@dataclass(frozen=True)
class Comparison:
    """Two readings of the same pictures. `change` is a share of the base (negative is better); `improved` counts
    pairs that got better out of `pairs`; `p_value` is the two-sided sign test's."""

    base: float
    now: float
    change: float
    improved: int
    pairs: int
    pictures_improved: int
    pictures: int
    p_value: float

    def to_json(self) -> dict[str, Any]:
        return {
            "base": round(self.base, 6), "loss": round(self.now, 6), "change": round(self.change, 4),
            "improved": self.improved, "pairs": self.pairs, "picturesImproved": self.pictures_improved,
            "pictures": self.pictures, "pValue": round(self.p_value, 6),
        }  # fmt: skip


class Questions:
    """A fixed set of questions to the model: these pictures, at these levels, with this noise."""

    def __init__(
        self, trainer: Any, examples: list[Example], *, timesteps: int, noises: int, captions: list[str] | None = None
    ) -> None:
        self._trainer = trainer
        self._examples = examples
        self._captions = captions or [example.captions[0] for example in examples]
        self._timesteps, self._noises = timesteps, noises

    def ask(self) -> Reading:
        """Take a reading. Deterministic; touches no random state of the training."""
        losses: dict[str, list[float]] = {}
        with torch.no_grad():
            for example, caption in zip(self._examples, self._captions, strict=True):
                losses[example.file] = self._one(example, caption)
        return Reading(losses)

    def _one(self, example: Example, caption: str) -> list[float]:
        trainer = self._trainer
        levels = trainer.objective.fixed_levels(self._timesteps, example.shape)
        seed = int.from_bytes(hashlib.sha256(example.sha256.encode()).digest()[:6], "big")
        generator = torch.Generator().manual_seed(seed)
        rows: list[float] = []
        step = max(1, trainer.config.batch_size)
        pairs = []
        for _ in range(self._noises):
            for level in levels:
                pairs.append((level, torch.randn(example.latents.shape, generator=generator)))
        for start in range(0, len(pairs), step):
            part = pairs[start : start + step]
            latents = example.latents[None].repeat(len(part), 1, 1, 1).to(trainer.device)
            noise = torch.stack([n for _, n in part]).to(trainer.device)
            level = torch.tensor([value for value, _ in part], device=trainer.device)
            noised = trainer.objective.noise(latents, level, noise)
            condition = trainer.texts.batch([caption] * len(part))
            sizes = example.sizes[None].repeat(len(part), 1).to(trainer.device)
            with trainer.autocast():
                out = trainer.predict(noised, condition, sizes)
            mask = (
                example.mask[None].repeat(len(part), 1, 1, 1).to(trainer.device) if example.mask is not None else None
            )
            rows += item_losses(out, noised.target, mask).tolist()
        return rows


def compare(base: Reading, now: Reading) -> Comparison:
    """Compare two readings of the same questions, pair by pair."""
    pairs = [
        (b, n) for file, row in base.losses.items() if file in now.losses
        for b, n in zip(row, now.losses[file], strict=True)
    ]  # fmt: skip
    better = sum(n < b for b, n in pairs)
    worse = sum(n > b for b, n in pairs)
    pictures = [
        sum(now.losses[file]) < sum(row) for file, row in base.losses.items() if file in now.losses
    ]  # fmt: skip
    a, b = base.mean, now.mean
    return Comparison(a, b, (b - a) / a if a else 0.0, better, len(pairs), sum(pictures), len(pictures),
                      sign_test(better, worse))  # fmt: skip


def sign_test(better: int, worse: int) -> float:
    """Return the two-sided probability of so uneven a count by chance."""
    total = better + worse
    if not total:
        return 1.0
    tail = sum(math.comb(total, k) for k in range(min(better, worse) + 1)) / 2**total
    return float(min(1.0, 2 * tail))
