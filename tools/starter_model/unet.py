"""The U-Net, with the text encoder learning along: velocity prediction, min-SNR weights, averaged weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from tools.starter_model import latents as latent_files
from tools.starter_model import networks
from tools.starter_model import tokenizer as tokenizers
from tools.starter_model.muon import Muon, groups
from tools.starter_model.plan import Plan
from tools.starter_model.training import Batch, Loop, Work

_LR = 2e-3
_TEXT_RATE = 0.4  # the text encoder's share of the learning rate
_EMPTY = 0.1  # this share of captions is empty, for guidance
_MIN_SNR = 5.0


def train(
    work: Work, plan: Plan, latents_folder: Path, text_folder: Path, tokenizer_folder: Path, out: Path, fingerprint: str
) -> None:
    """Train both and write out/unet and out/text_encoder."""
    from diffusers import DDPMScheduler

    torch.manual_seed(work.seed)
    latents, ids, _ = latent_files.read(latents_folder)
    empty = tokenizers.ids(tokenizers.load(tokenizer_folder), [""])[0]
    encoder = load_text_encoder(text_folder).to(work.device).train()
    unet = networks.unet().to(work.device, memory_format=work.layout).train()
    schedule: Any = DDPMScheduler(**networks.SCHEDULE)
    kept = schedule.alphas_cumprod
    weights = torch.minimum(kept / (1 - kept), torch.tensor(_MIN_SNR)) / (kept / (1 - kept) + 1)
    weights = weights / weights.mean()
    rows = [*groups(unet.named_parameters()), *groups(encoder.named_parameters(), rate=_TEXT_RATE)]
    loop = Loop(
        work, "unet", {"unet": unet, "text_encoder": encoder}, Muon(rows, work.workers, lr=_LR, weight_decay=0.01),
        steps=plan.unet_steps, lr=_LR, warm=60, flat=0.25, average=1 - 1 / 400, fingerprint=fingerprint,
    )  # fmt: skip

    def batch_of(step: int) -> Batch:
        count, draw = plan.unet_batch, loop.generator
        chosen = torch.randint(0, len(latents), (count,), generator=draw)
        caption = torch.randint(0, ids.shape[1], (count,), generator=draw)
        tokens = ids[chosen, caption].clone()
        tokens[torch.rand(count, generator=draw) < _EMPTY] = empty
        # One timestep from each of `count` equal parts: less noise in the loss than independent ones.
        t = ((torch.arange(count) + torch.rand(count, generator=draw)) / count * 1000).long().clamp(0, 999)
        return latents[chosen], torch.randn(latents[chosen].shape, generator=draw), t, tokens

    def loss_of(clean: torch.Tensor, noise: torch.Tensor, t: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        signal, rest = kept[t].sqrt().view(-1, 1, 1, 1), (1 - kept[t]).sqrt().view(-1, 1, 1, 1)
        noisy = (signal * clean + rest * noise).to(work.device, memory_format=work.layout)
        target = (signal * noise - rest * clean).to(work.device)
        with work.autocast():
            states = encoder(input_ids=tokens.to(work.device)).last_hidden_state
            predicted = unet(noisy, t.to(work.device), states).sample
        error = (predicted.float() - target).pow(2).mean((1, 2, 3))
        return (error * weights[t].to(work.device)).mean()

    result = loop.run(batch_of, loss_of)
    for name, module in result.items():
        module.to("cpu").save_pretrained(str(out / name))


def load_text_encoder(folder: Path) -> Any:
    """Return the CLIPTextModel saved in a folder, float32."""
    from transformers import CLIPTextModel

    return CLIPTextModel.from_pretrained(str(folder)).float()


def load_unet(folder: Path) -> Any:
    """Return the UNet2DConditionModel saved in a folder, float32."""
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel.from_pretrained(str(folder))
