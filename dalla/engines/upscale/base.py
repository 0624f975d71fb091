"""What an upscaler with weights of its own promises. Lanczos needs none and is not one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from dalla.engines.images.base import Report

__all__ = ["Report", "Upscaled", "Upscaler", "UpscalerModel"]


@dataclass(frozen=True)
class UpscalerModel:
    """A file of weights the user put in `models/upscale/`."""

    name: str  # the file's name without its ending
    file: str  # the file's name


@dataclass(frozen=True)
class Upscaled:
    """A PNG and the factor by which the model enlarged."""

    png: bytes
    factor: int


class Upscaler(Protocol):
    """Enlarges pictures with a network, in a process of its own."""

    def models(self) -> list[UpscalerModel]:
        """What there is to enlarge with, by name. Reads the folder only."""

    def upscale(self, png: bytes, model: str, report: Report) -> Upscaled:
        """Enlarge a picture (PNG, RGB or RGBA) by the model's own factor.

        Raises InvalidInput (no such model, or the file is no ESRGAN), Unavailable (PyTorch is missing),
        UpstreamError (the process failed), Cancelled.
        """

    def close(self) -> None:
        """End the process and free its memory; it starts again when needed. Idempotent."""
