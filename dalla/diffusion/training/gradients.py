"""The loss and the gradients of one batch, in parts where memory is short.

Everything random is drawn before the batch is cut, so what is learned does not depend on how many parts there are (but for
the last bits). Workers do not share a batch: measured on two cores, half a batch costs so much more per picture that the
two together gained a twentieth for a third more work.
"""

from __future__ import annotations

import math
import random
from typing import Any

import torch

from dalla.diffusion.training import setup, validation
from dalla.diffusion.training.dataset import Example
from dalla.diffusion.training.objective import item_losses


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
    free = device == "cuda"  # Apple's graphics may read such a copy's source after it is gone
    latents = torch.stack([e.latents for e in examples]).to(device, non_blocking=free)
    noise = torch.randn(latents.shape, generator=generator, device=device)
    levels = loaded.objective.sample_levels(count, examples[0].shape, generator)
    noised = loaded.objective.noise(latents, levels, noise, generator)
    captions = ["" if rng.random() < (config.caption_dropout or 0.0) else rng.choice(e.captions) for e in examples]
    sizes = torch.stack([e.sizes for e in examples]).to(device, non_blocking=free)
    mask = validation.masks(examples, device)
    size = math.ceil(count / loop.splits)
    total = torch.zeros((), device=device)
    for start in range(0, count, size):
        part = slice(start, start + size)
        texts = captions[part]
        piece = type(noised)(noised.noisy[part], noised.level[part], noised.target[part], noised.weight[part])
        condition = loaded.texts.batch(texts)
        with loaded.autocast():
            out = loaded.predict(piece, condition, sizes[part])
        losses = item_losses(out, piece.target, mask[part] if mask is not None else None)
        loss = (losses * piece.weight).mean()
        share = len(texts) / count
        if not prior:
            total += loss.detach() * share
        if config.prior_weight and not prior and loop.prior_batches is None:
            loss = loss + config.prior_weight * _kept_class(loaded, piece, texts, sizes[part], config)
        loss = loss * (share / loop.accumulation * (config.prior_weight if prior else 1.0))
        (loop.scaler.scale(loss) if loop.scaler is not None else loss).backward()
    return total


def _kept_class(loaded: Any, piece: Any, captions: list[str], sizes: Any, config: Any) -> Any:
    """Return how far the model has moved for the class word, which is to stay as it was (no pictures needed)."""
    swapped = [setup.swap(caption, config) for caption in captions]
    with torch.no_grad(), loaded.adapters.off():
        before = loaded.texts.batch(swapped)
        with loaded.autocast():
            expected = loaded.predict(piece, before, sizes)
    condition = loaded.texts.batch(swapped)
    with loaded.autocast():
        now = loaded.predict(piece, condition, sizes)
    return (item_losses(now, expected) * piece.weight).mean()
