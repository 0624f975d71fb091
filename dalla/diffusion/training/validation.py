"""The held-out loss: the model's error on pictures it was never trained on, with fixed noise and noise levels.

The training loss falls also while a LoRA gets worse; this one does not. Because noise, levels and captions are
the same every time, two readings are compared pair by pair.
"""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from dalla.diffusion import hardware
from dalla.diffusion.training.dataset import Example
from dalla.diffusion.training.objective import item_losses
from dalla.diffusion.workers import Workers


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

    def to_state(self) -> dict[str, list[float]]:
        return {file: list(row) for file, row in self.losses.items()}


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
    """A fixed set of questions to the model: these pictures, at these levels, with this noise.

    As many are asked at once as a batch of the training has, by each worker; when memory runs out, by one worker alone,
    then half as many from then on, and `on_split` is told how many that is.
    """

    def __init__(
        self, trainer: Any, examples: list[Example], *, timesteps: int, noises: int, captions: list[str] | None = None,
        on_split: Callable[[int], None] | None = None,
    ) -> None:  # fmt: skip
        self._trainer = trainer
        self._examples = examples
        self._captions = captions or [example.captions[0] for example in examples]
        self._timesteps, self._noises = timesteps, noises
        self._most = max(1, trainer.config.batch_size or 1)
        self._workers: Workers = trainer.workers
        self._on_split = on_split

    def ask(self) -> Reading:
        """Take a reading. Deterministic; touches no random state of the training.

        Raises what the device raises when there is no memory for a single question.
        """
        rows = [row for number in range(len(self._examples)) for row in self._rows(number)]
        losses: dict[str, list[float]] = {example.file: [] for example in self._examples}
        for _, same in itertools.groupby(rows, key=lambda row: self._examples[row[0]].shape):
            alike = list(same)
            while alike:
                found = self._answers(alike[: self._most * self._workers.count])
                for (number, _, _), loss in zip(alike, found, strict=False):
                    losses[self._examples[number].file].append(loss)
                alike = alike[len(found) :]
        return Reading(losses)

    def _answers(self, part: list[tuple[int, float, Any]]) -> list[float]:
        """Return the losses of the first questions of `part`: of all, or of as many as there is memory for."""
        while True:
            try:
                starts = range(0, len(part), self._most)
                return sum(self._workers.map(self._batch, [part[n : n + self._most] for n in starts]), [])
            except Exception as exc:
                if len(part) == 1 or not hardware.out_of_memory(exc):
                    raise
            hardware.free_cache(self._trainer.device)
            if len(part) > self._most:
                self._workers, part = Workers(), part[: self._most]
                continue
            self._most = len(part) // 2
            part = part[: self._most]
            if self._on_split is not None:
                self._on_split(self._most)

    def _rows(self, number: int) -> list[tuple[int, float, Any]]:
        """Return the questions about one example: (its number, noise level, noise)."""
        example = self._examples[number]
        seed = int.from_bytes(hashlib.sha256(example.sha256.encode()).digest()[:6], "big")
        generator = torch.Generator().manual_seed(seed)
        levels = self._trainer.objective.fixed_levels(self._timesteps, example.shape)
        return [
            (number, level, torch.randn(example.latents.shape, generator=generator))
            for _ in range(self._noises)
            for level in levels
        ]

    @torch.no_grad()
    def _batch(self, part: list[tuple[int, float, Any]]) -> list[float]:
        trainer = self._trainer
        examples = [self._examples[number] for number, _, _ in part]
        latents = torch.stack([e.latents for e in examples]).to(trainer.device)
        noise = torch.stack([n for _, _, n in part]).to(trainer.device)
        level = torch.tensor([value for _, value, _ in part], device=trainer.device)
        noised = trainer.objective.noise(latents, level, noise)
        condition = trainer.texts.batch([self._captions[number] for number, _, _ in part])
        sizes = torch.stack([e.sizes for e in examples]).to(trainer.device)
        with trainer.autocast():
            out = trainer.predict(noised, condition, sizes)
        found: list[float] = item_losses(out, noised.target, masks(examples, trainer.device)).tolist()
        return found


def masks(examples: list[Example], device: str) -> Any:
    """Return the loss masks of a batch, (batch, 1, height, width), or None when nothing is masked."""
    if all(e.mask is None for e in examples):
        return None
    plain = torch.ones(1, *examples[0].shape)
    return torch.stack([e.mask if e.mask is not None else plain for e in examples]).to(
        device, non_blocking=device == "cuda"
    )


def paired(a: Reading, b: Reading) -> tuple[float, float]:
    """Return by how much `b` is higher than `a`, and the standard error of that, over the same questions.

    With three pictures or more the pictures are what varies, below that the noises and noise levels are.
    """
    rows = [
        [y - x for x, y in zip(row, b.losses[file], strict=True)] for file, row in a.losses.items() if file in b.losses
    ]
    values = [sum(row) / len(row) for row in rows] if len(rows) >= 3 else [d for row in rows for d in row]
    if not values:
        return math.nan, math.nan
    mean = sum(values) / len(values)
    if len(values) < 2:
        return mean, math.inf
    spread = sum((v - mean) ** 2 for v in values) / (len(values) - 1)
    return mean, math.sqrt(spread / len(values))


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
