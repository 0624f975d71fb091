"""Every avatar as latents and token ids, worked out once: the U-Net never runs the VAE."""

from __future__ import annotations

import random
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from tools.starter_model import tokenizer as tokenizers
from tools.starter_model import vae as vaes
from tools.starter_model.captions import caption
from tools.starter_model.data import Pictures, read_avatars, to_tensor
from tools.starter_model.plan import Plan
from tools.starter_model.training import Work

_BATCH = 16


def encode(work: Work, plan: Plan, data: Path, vae_folder: Path, tokenizer_folder: Path, out: Path) -> None:
    """Write latents.safetensors: `latents` (float16, unscaled means) and `ids` (int16, avatars x captions x 77)."""
    vae = vaes.load(vae_folder).to(work.device, memory_format=work.layout).eval()
    table, told, parts = Pictures(data).avatars, time.monotonic(), []

    @torch.no_grad()
    def means(pictures: Any) -> torch.Tensor:
        picture = to_tensor(pictures).to(work.device, memory_format=work.layout)
        with work.autocast():
            return vae.encode(picture).latent_dist.mean.float().contiguous().half().cpu()

    for start in range(0, len(table), _BATCH):
        pictures = table[start : start + _BATCH]
        parts += work.workers.map(means, np.array_split(pictures, min(len(pictures), work.workers.count)))
        if time.monotonic() - told > 5:
            told = time.monotonic()
            work.say(f"latents: {start + len(pictures)}/{len(table)} pictures")
    tokenizer = tokenizers.load(tokenizer_folder)
    avatars, rng = read_avatars(data), random.Random(work.seed + 11)
    texts = [caption(avatar, rng) for avatar in avatars for _ in range(plan.captions_per_avatar)]
    ids = tokenizers.ids(tokenizer, texts).to(torch.int16).view(len(avatars), plan.captions_per_avatar, -1)
    out.mkdir(parents=True, exist_ok=True)
    save_file({"latents": torch.cat(parts), "ids": ids}, str(out / "latents.safetensors"))
    work.say(f"latents: {len(avatars)} pictures, {len(texts)} captions")


def read(folder: Path) -> tuple[torch.Tensor, torch.Tensor, float]:
    """Return latents (float32, scaled to a standard deviation of 1), ids (int64) and the scaling factor."""
    tensors = load_file(str(folder / "latents.safetensors"))
    latents = tensors["latents"].float()
    factor = float(1 / latents.std())
    return latents * factor, tensors["ids"].to(torch.int64), factor
