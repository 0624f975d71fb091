"""What the model is asked to predict, and how its error counts. Read from the model's scheduler.

Two kinds: a beta schedule (epsilon, v or sample prediction; zero terminal SNR; min-SNR weights; noise offset)
and flow matching (a straight line from picture to noise; sampled and shifted noise levels). Both have the same
two methods, so the loop knows no difference.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch

from dalla.errors import InvalidInput


@dataclass
class Noised:
    """A noised batch: what goes in, at which level, what should come out, how each item counts."""

    noisy: Any  # like the latents
    level: Any  # (batch,): timesteps or sigmas, as Family.predict wants them
    target: Any  # like the latents
    weight: Any  # (batch,)


class Discrete:
    """A beta schedule of T steps."""

    def __init__(self, scheduler_config: Any, *, min_snr_gamma: float = 0.0, noise_offset: float = 0.0) -> None:
        from diffusers import DDPMScheduler

        known = {
            key: scheduler_config[key]
            for key in ("num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "trained_betas",
                        "prediction_type", "rescale_betas_zero_snr")
            if key in scheduler_config
        }  # fmt: skip
        self.prediction = known.get("prediction_type", "epsilon")
        if self.prediction not in ("epsilon", "v_prediction", "sample"):
            raise InvalidInput(f"This model predicts '{self.prediction}', which cannot be trained here.")
        schedule: Any = DDPMScheduler(**known)
        products = schedule.alphas_cumprod.double()
        self._signal, self._noise = products.sqrt().float(), (1 - products).sqrt().float()
        self.steps = len(products)
        snr = products / (1 - products)
        capped = snr.clamp(max=min_snr_gamma) if min_snr_gamma else snr
        if not min_snr_gamma:
            weight = torch.ones_like(snr)
        elif self.prediction == "epsilon":
            weight = capped / snr.clamp(min=1e-8)
        elif self.prediction == "v_prediction":
            weight = capped / (snr + 1)
        else:
            weight = capped
        self._weight = weight.float()
        self._offset = noise_offset

    def sample_levels(self, batch: int, shape: tuple[int, int], generator: Any) -> Any:
        """Draw timesteps, each equally likely. `shape` (height, width in latents) does not matter here."""
        return torch.randint(0, self.steps, (batch,), generator=generator, device=generator.device)

    def fixed_levels(self, count: int, shape: tuple[int, int]) -> list[float]:
        """Return `count` timesteps spread evenly, for validation."""
        return [float(int((i + 0.5) / count * self.steps)) for i in range(count)]

    def noise(self, latents: Any, levels: Any, noise: Any, generator: Any = None) -> Noised:
        """Mix latents with noise; a generator adds the noise offset (training only)."""
        if self._offset and generator is not None:
            shift = torch.randn(*latents.shape[:2], 1, 1, generator=generator, device=latents.device)
            noise = noise + self._offset * shift
        levels = levels.long()
        if self._signal.device != latents.device:  # once: each copy to a graphics card waits for all it has to do
            tables = (self._signal, self._noise, self._weight)
            self._signal, self._noise, self._weight = (table.to(latents.device) for table in tables)
        a = self._signal[levels].view(-1, 1, 1, 1)
        s = self._noise[levels].view(-1, 1, 1, 1)
        target = {"epsilon": lambda: noise, "v_prediction": lambda: a * noise - s * latents, "sample": lambda: latents}
        return Noised(a * latents + s * noise, levels, target[self.prediction](), self._weight[levels])


class Flow:
    """Flow matching: noisy = (1 - sigma) x latents + sigma x noise; the model predicts noise - latents."""

    prediction = "flow"

    def __init__(
        self, scheduler_config: Any, *, sampling: str = "auto", shift: float | None = None, patch: int = 2
    ) -> None:
        self._config = dict(scheduler_config)
        self._sampling = "logit_normal" if sampling in ("auto", "sigmoid") else sampling
        self._shift = shift
        self._patch = patch

    def shift_for(self, shape: tuple[int, int]) -> float:
        """Return the shift of the noise levels for latents of this height and width.

        Models with dynamic shifting (FLUX.1-dev) want more noise for larger pictures; others have one number.
        """
        if self._shift is not None:
            return self._shift
        if not self._config.get("use_dynamic_shifting"):
            return float(self._config.get("shift", 1.0))
        tokens = (shape[0] // self._patch) * (shape[1] // self._patch)
        low, high = self._config.get("base_image_seq_len", 256), self._config.get("max_image_seq_len", 4096)
        base, most = self._config.get("base_shift", 0.5), self._config.get("max_shift", 1.15)
        return math.exp(base + (most - base) * (tokens - low) / (high - low))

    def _shifted(self, sigma: Any, shape: tuple[int, int]) -> Any:
        shift = self.shift_for(shape)
        return shift * sigma / (1 + (shift - 1) * sigma)

    def sample_levels(self, batch: int, shape: tuple[int, int], generator: Any) -> Any:
        """Draw sigmas: from the middle more often (logit-normal) or evenly ("uniform", "shift"), then shifted.

        "uniform" is not shifted.
        """
        if self._sampling == "logit_normal":
            sigma = torch.sigmoid(torch.randn(batch, generator=generator, device=generator.device))
        else:
            sigma = torch.rand(batch, generator=generator, device=generator.device)
        if self._sampling != "uniform":
            sigma = self._shifted(sigma, shape)
        return sigma.clamp(1e-4, 1.0)

    def fixed_levels(self, count: int, shape: tuple[int, int]) -> list[float]:
        return [float(self._shifted((i + 0.5) / count, shape)) for i in range(count)]

    def noise(self, latents: Any, levels: Any, noise: Any, generator: Any = None) -> Noised:
        sigma = levels.view(-1, 1, 1, 1).to(latents.dtype)
        return Noised((1 - sigma) * latents + sigma * noise, levels, noise - latents, torch.ones_like(levels))


def objective_for(family: Any, pipe: Any, config: Any) -> Discrete | Flow:
    """Build the objective of a loaded model from its own scheduler and the run's settings."""
    if family.flow:
        return Flow(pipe.scheduler.config, sampling=config.timestep_sampling, shift=config.shift)
    return Discrete(
        pipe.scheduler.config, min_snr_gamma=config.min_snr_gamma or 0.0, noise_offset=config.noise_offset or 0.0
    )


def item_losses(prediction: Any, target: Any, mask: Any = None) -> Any:
    """Return the mean squared error of each item, in fp32: (batch,).

    `mask` (batch, 1, height, width) from 0 to 1 says how much each place counts; the mean is over what counts.
    """
    error = (prediction.float() - target.float()).pow(2)
    if mask is None:
        return error.mean((1, 2, 3))
    mask = mask.to(error.dtype)
    return (error * mask).mean(1).sum((1, 2)) / mask.sum((1, 2, 3)).clamp(min=1.0)
