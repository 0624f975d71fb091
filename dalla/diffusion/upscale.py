"""Enlarge a picture with an ESRGAN model, tile by tile, so that a large one fits into memory too."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from dalla import imaging
from dalla.diffusion import hardware
from dalla.errors import Cancelled, UpstreamError

#: Side of a tile, px of the small picture, and how much of its neighbours each tile sees.
TILE, OVERLAP = 256, 24
#: Tiles are made smaller down to this when the memory does not hold them.
LEAST_TILE = 64


@dataclass
class UpscaleTask:
    """What enlarges, as it comes over the pipe (see `engines/upscale/esrgan.py`). `stamp` changes with the file."""

    path: str
    stamp: str = ""
    device: str = "auto"
    precision: str = "auto"
    tile: int = TILE


class Enlarger:
    """Holds one network. Not thread-safe: one call after another."""

    def __init__(self) -> None:
        self._key: tuple[str, str, str, str] | None = None
        self._net: Any = None
        self._hardware: hardware.Hardware | None = None

    def enlarge(self, task: UpscaleTask, png: bytes, listener: Any, cancel: threading.Event) -> tuple[bytes, int, str]:
        """Return (PNG, factor, device). Transparency is enlarged smoothly beside the colours.

        Raises InvalidInput (no ESRGAN model, no picture), StorageError, NotConfigured (no such device),
        UpstreamError (out of memory), Cancelled.
        """
        from PIL import Image

        self._load(task, listener)
        image = imaging.open_image(png, name="the picture").image
        alpha = image.getchannel("A") if image.mode == "RGBA" else None
        tile = max(LEAST_TILE, task.tile)
        while True:
            try:
                large = self._tiles(image.convert("RGB"), tile, listener, cancel)
                break
            except Exception as exc:
                if not hardware.out_of_memory(exc):
                    raise
                hardware.let_go(exc)
                hardware.free_cache(self._device)
                if tile <= LEAST_TILE:
                    raise UpstreamError(
                        "There is not enough memory to enlarge with this model.",
                        service="upscaler",
                        remedy="Set DALLA_DEVICE=cpu, close other programs that use the memory, or use Lanczos.",
                    ) from exc
                tile = max(LEAST_TILE, tile // 2)
        if alpha is not None:
            large.putalpha(alpha.resize(large.size, Image.Resampling.LANCZOS))
        return imaging.to_png(large, level=1), self._net.factor, self._device

    @property
    def _device(self) -> str:
        return self._hardware.device if self._hardware else "cpu"

    def _load(self, task: UpscaleTask, listener: Any) -> None:
        key = (task.path, task.stamp, task.device, task.precision)
        if self._key == key:
            return
        from dalla.diffusion.rrdbnet import load

        self._key = self._net = None
        chosen = hardware.choose(task.device, task.precision)
        if chosen.precision == "bf16":  # eight bits of mantissa would show as bands
            chosen.precision = "fp16" if chosen.device != "cpu" else "fp32"
        listener.phase(f"Loading {Path(task.path).name}")
        self._net = load(Path(task.path)).to(chosen.device, chosen.dtype)
        self._hardware, self._key = chosen, key

    @torch.inference_mode()
    def _tiles(self, image: Any, tile: int, listener: Any, cancel: threading.Event) -> Any:
        """Enlarge tile by tile. Each sees `OVERLAP` px around it, of which nothing is kept: no seams."""
        import numpy
        from PIL import Image
        from torch.nn import functional

        net, chosen = self._net, self._hardware
        factor, folds = net.factor, net.folds
        pixels = torch.from_numpy(numpy.array(image)).permute(2, 0, 1).unsqueeze(0)
        height, width = pixels.shape[2:]
        result = numpy.empty((height * factor, width * factor, 3), dtype=numpy.uint8)
        step = tile - tile % folds
        spots = [(top, left) for top in range(0, height, step) for left in range(0, width, step)]
        for number, (top, left) in enumerate(spots):
            if cancel.is_set():
                raise Cancelled("Cancelled.")
            bottom, right = min(height, top + step), min(width, left + step)
            reach = OVERLAP - OVERLAP % folds
            up, before = min(reach, top), min(reach, left)
            part = pixels[:, :, top - up : bottom + reach, left - before : right + reach]
            small = part.to(chosen.device).to(chosen.dtype) / 255.0  # type: ignore[union-attr]
            ragged = (-small.shape[3] % folds, -small.shape[2] % folds)
            small = functional.pad(small, (0, ragged[0], 0, ragged[1]), mode="replicate") if any(ragged) else small
            large = net(small)[0].float().clamp_(0, 1).mul_(255).round_().byte().permute(1, 2, 0).cpu().numpy()
            rows = slice(up * factor, (up + bottom - top) * factor)
            columns = slice(before * factor, (before + right - left) * factor)
            result[top * factor : bottom * factor, left * factor : right * factor] = large[rows, columns]
            listener.progress(number + 1, len(spots), "Enlarging")
        return Image.fromarray(result)
