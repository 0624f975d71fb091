"""The loss and the gradients of one batch, in parts where workers share it or where memory is short.

Everything random is drawn before the batch is cut, and the parts' gradients are added in their order, so what is learned
does not depend on how many parts there are (but for the last bits) and is the same each time.
"""

from __future__ import annotations

import math
import random
from typing import Any

import torch

from dalla.diffusion.training import setup, validation
from dalla.diffusion.training.dataset import Example
from dalla.diffusion.training.objective import item_losses
from dalla.diffusion.workers import Workers


def of_batch(loop: Any, examples: list[Example], number: int, prior: bool) -> Any:
    """Add the gradients of batch `number` of a run (training/loop.py's `loop`) to the parameters'.

    `prior` says whether it is a batch of class pictures. Returns the loss, a scalar tensor without the prior's share.
    """
    loaded, config = loop.loaded, loop.config
    device = loaded.device
    kind = 1 if prior else 0
    generator = torch.Generator(device).manual_seed((config.seed * 1_000_003 + number * 2 + kind) % 2**63)
    torch.manual_seed((config.seed * 999_983 + number * 2 + kind) % 2**63)
    rng = random.Random(f"{config.seed}/{number}/{kind}")
    count = len(examples)
    latents = torch.stack([e.latents for e in examples]).to(device, non_blocking=True)
    noise = torch.randn(latents.shape, generator=generator, device=device)
    levels = loaded.objective.sample_levels(count, examples[0].shape, generator)
    noised = loaded.objective.noise(latents, levels, noise, generator)
    captions = ["" if rng.random() < (config.caption_dropout or 0.0) else rng.choice(e.captions) for e in examples]
    sizes = torch.stack([e.sizes for e in examples]).to(device, non_blocking=True)
    mask = validation.masks(examples, device)
    workers = _workers(loop)
    size = math.ceil(count / max(loop.splits, workers.count))
    parts = [slice(start, start + size) for start in range(0, count, size)]

    def answer(part: slice, texts: list[str]) -> Any:
        condition = loaded.texts.batch(texts)
        with loaded.autocast():
            return loaded.predict(_cut(noised, part), condition, sizes[part])

    def untrained(part: slice) -> Any:
        with torch.no_grad():
            return answer(part, [setup.swap(caption, config) for caption in captions[part]])

    kept: list[Any] = [None] * len(parts)
    if config.prior_weight and not prior and loop.prior_batches is None:
        # What the model says of the class word is to stay as it was (no pictures needed).
        with loaded.adapters.off():
            kept = workers.map(untrained, parts)

    def compute(row: tuple[slice, Any]) -> tuple[Any, Any]:
        part, before = row
        weight = noised.weight[part]
        share = len(captions[part]) / count
        losses = item_losses(
            answer(part, captions[part]), noised.target[part], mask[part] if mask is not None else None
        )
        loss = (losses * weight).mean()
        told = loss.detach() * share
        if before is not None:
            now = answer(part, [setup.swap(caption, config) for caption in captions[part]])
            loss = loss + config.prior_weight * (item_losses(now, before) * weight).mean()
        loss = loss * (share / loop.accumulation * (config.prior_weight if prior else 1.0))
        if workers.count > 1:  # the parameters are the others', too
            return told, torch.autograd.grad(loss, loop.parameters, allow_unused=True)
        (loop.scaler.scale(loss) if loop.scaler is not None else loss).backward()
        return told, ()

    total = torch.zeros((), device=device)
    for told, gradients in workers.each(compute, zip(parts, kept, strict=True)):
        if not prior:
            total += told
        for parameter, gradient in zip(loop.parameters, gradients, strict=False):
            if gradient is not None:
                parameter.grad = gradient if parameter.grad is None else parameter.grad.add_(gradient)
    return total


def _workers(loop: Any) -> Workers:
    """Return who shares a batch: one alone where memory is short, or activations are computed twice to save it."""
    if loop.splits > 1 or loop.config.gradient_checkpointing:
        return Workers()
    return loop.loaded.workers  # type: ignore[no-any-return]


def _cut(noised: Any, part: slice) -> Any:
    return type(noised)(noised.noisy[part], noised.level[part], noised.target[part], noised.weight[part])
