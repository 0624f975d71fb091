"""The VAE: trained whole first; at the end its decoder once more, on latents with noise in them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from tools.starter_model import networks
from tools.starter_model.data import Pictures
from tools.starter_model.muon import Muon, groups
from tools.starter_model.palette import SIZE
from tools.starter_model.plan import Plan
from tools.starter_model.training import Batch, Loop, Work

_KL = 2e-4
#: The U-Net leaves a little noise in the latents; the decoder learns to live with up to this much.
_LATENT_NOISE = 0.12


def train(work: Work, plan: Plan, data: Path, out: Path, fingerprint: str) -> None:
    """Train encoder and decoder: small crops first, whole pictures later."""
    torch.manual_seed(work.seed)
    pictures = Pictures(data)
    vae = networks.vae().to(work.device, memory_format=work.layout).train()
    loop = Loop(
        work, "vae", {"vae": vae}, Muon(groups(vae.named_parameters()), work.workers, lr=2.5e-3), steps=plan.vae_steps, lr=2.5e-3,
        warm=100, fingerprint=fingerprint,
    )  # fmt: skip

    def batch_of(step: int) -> Batch:
        crops = step < plan.vae_steps * plan.vae_crop_share
        count, side = (2 * plan.vae_batch, SIZE // 2) if crops else (plan.vae_batch, SIZE)
        return pictures.batch(count, loop.generator, crop=side), _noise(count, side, loop)

    def loss_of(pixels: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        picture = pixels.to(work.device, memory_format=work.layout)
        with work.autocast():
            posterior = vae.encode(picture).latent_dist
            decoded = vae.decode(posterior.mean + posterior.std * noise.to(work.device)).sample
        return _loss(decoded.float(), picture, posterior)

    result = loop.run(batch_of, loss_of)["vae"]
    work.say(f"vae: {psnr(work, result, pictures):.1f} dB on pictures it has not seen")
    _save(result, out)


def finish(work: Work, plan: Plan, data: Path, source: Path, out: Path, fingerprint: str) -> None:
    """Train the decoder on; the encoder stays, because the U-Net speaks its latents."""
    torch.manual_seed(work.seed)
    pictures = Pictures(data)
    vae = load(source).to(work.device, memory_format=work.layout).train()
    for part in (vae.encoder, vae.quant_conv):
        part.requires_grad_(False)
    loop = Loop(
        work, "decoder", {"vae": vae}, Muon(groups(vae.named_parameters()), work.workers, lr=1e-3), steps=plan.decoder_steps,
        lr=1e-3, warm=40, fingerprint=fingerprint,
    )  # fmt: skip

    def batch_of(step: int) -> Batch:
        count = plan.decoder_batch
        picture = pictures.batch(count, loop.generator)
        amount = torch.rand(count, 1, 1, 1, generator=loop.generator) * _LATENT_NOISE
        return picture, _noise(count, SIZE, loop), _noise(count, SIZE, loop) * amount

    def loss_of(pixels: torch.Tensor, noise: torch.Tensor, left: torch.Tensor) -> torch.Tensor:
        picture = pixels.to(work.device, memory_format=work.layout)
        with work.autocast():
            with torch.no_grad():
                posterior = vae.encode(picture).latent_dist
                latents = posterior.mean + posterior.std * noise.to(work.device) + left.to(work.device)
            decoded = vae.decode(latents.contiguous(memory_format=work.layout)).sample
        return _loss(decoded.float(), picture, None)

    result = loop.run(batch_of, loss_of)["vae"]
    work.say(f"decoder: {psnr(work, result, pictures):.1f} dB on pictures it has not seen")
    _save(result, out)


def load(folder: Path) -> Any:
    """Return the AutoencoderKL saved in a folder, float32."""
    from diffusers import AutoencoderKL

    return AutoencoderKL.from_pretrained(str(folder))


@torch.no_grad()
def psnr(work: Work, vae: Any, pictures: Pictures) -> float:
    """Return how well unseen avatars come back, in dB (mean over the pictures)."""
    picture = pictures.kept_back().to(work.device, memory_format=work.layout)
    with work.autocast():
        decoded = vae.decode(vae.encode(picture).latent_dist.mean).sample.float().clamp(-1, 1)
    error = ((decoded - picture) / 2).pow(2).mean((1, 2, 3))
    return float((-10 * error.log10()).mean())


def _noise(count: int, side: int, loop: Loop) -> torch.Tensor:
    """Return noise in the shape of the latents of `count` pictures."""
    return torch.randn(count, networks.LATENT_CHANNELS, side // 8, side // 8, generator=loop.generator)


def _loss(decoded: torch.Tensor, picture: torch.Tensor, posterior: Any) -> torch.Tensor:
    loss = F.l1_loss(decoded, picture) + 0.5 * _edges(decoded, picture) + 0.5 * F.mse_loss(decoded, picture)
    if posterior is not None:
        mean, logvar = posterior.mean.float(), posterior.logvar.float()
        loss = loss + _KL * 0.5 * (mean * mean + logvar.exp() - 1 - logvar).mean()
    return loss


def _edges(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    across = F.l1_loss(a[..., 1:] - a[..., :-1], b[..., 1:] - b[..., :-1])
    return across + F.l1_loss(a[..., 1:, :] - a[..., :-1, :], b[..., 1:, :] - b[..., :-1, :])


def _save(vae: Any, out: Path) -> None:
    vae.to("cpu").save_pretrained(str(out))
