"""A rough picture of what is being drawn, cheap enough to show every second.

A tiny VAE decodes the latents outright. For a big one, colours are a linear function of the latent
channels, fitted once per model to the VAE itself: no table of numbers per family, any channel count.
"""

from __future__ import annotations

import io
from typing import Any

SMALL_VAE = 5_000_000  # parameters; such a decoder is cheaper than one denoising step
EDGE = 256  # px, longest side of what is sent


class Previewer:
    """Turns the latents of one model into small JPEGs."""

    def __init__(self, vae: Any) -> None:
        self._vae = vae
        self._direct = sum(p.numel() for p in vae.parameters()) < SMALL_VAE
        self._matrix: Any = None

    def jpeg(self, latents: Any) -> bytes | None:
        """Return the first picture of `latents` (batch, channels, height, width) as JPEG.

        None when a preview would cost too much (the VAE sits in main memory) or shows nothing.
        """
        import torch
        from PIL import Image

        if getattr(self._vae, "_hf_hook", None) is not None:
            return None
        with torch.no_grad():
            one = latents[:1]
            rgb = self._decode(one) if self._direct else self._approximate(one)
        if not torch.isfinite(rgb).all():
            return None
        array = ((rgb[0].float().clamp(-1, 1) + 1) * 127.5).round().byte().permute(1, 2, 0).cpu().numpy()
        image = Image.fromarray(array)
        if not self._direct:
            scale = min(8, EDGE / max(image.size))
            image = image.resize((max(1, round(image.width * scale)), max(1, round(image.height * scale))))
        image.thumbnail((EDGE, EDGE))
        out = io.BytesIO()
        image.save(out, "JPEG", quality=80)
        return out.getvalue()

    def _decode(self, latents: Any) -> Any:
        config = self._vae.config
        latents = latents.to(self._vae.dtype) / config.scaling_factor + (getattr(config, "shift_factor", None) or 0)
        return self._vae.decode(latents, return_dict=False)[0]

    def _approximate(self, latents: Any) -> Any:
        import torch

        if self._matrix is None:
            self._matrix = self._fit(latents.shape[1], latents.device)
        flat = latents[0].float().flatten(1).T
        ones = torch.ones(len(flat), 1, device=flat.device)
        return (torch.cat([flat, ones], 1) @ self._matrix).T.reshape(1, 3, *latents.shape[2:])

    def _fit(self, channels: int, device: Any) -> Any:
        """Decode smooth random latents once and fit red, green, blue to the channels."""
        import torch

        noise = torch.randn(2, channels, 4, 4, generator=torch.Generator().manual_seed(0))
        smooth = torch.nn.functional.interpolate(noise, size=(16, 16), mode="bicubic").to(device)
        pictures = torch.nn.functional.adaptive_avg_pool2d(self._decode(smooth).float(), (16, 16))
        x = smooth.float().permute(0, 2, 3, 1).reshape(-1, channels)
        y = pictures.permute(0, 2, 3, 1).reshape(-1, 3)
        x = torch.cat([x, torch.ones(len(x), 1, device=device)], 1).cpu()
        return torch.linalg.lstsq(x, y.cpu()).solution.to(device)
