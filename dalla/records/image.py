"""What an image engine is asked for and what it gives back."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from dalla.records.character import LoraUse


@dataclass(frozen=True)
class ImageRequest:
    """One call for pictures, complete: every default is already filled in.

    `width`/`height` in pixels; `seed` in 0 … 2**53-1 for the first picture of the batch;
    `init_image` are the bytes of a PNG/JPEG already turned and in sRGB; `denoise` 0..1, 1 = ignore it.
    `guidance` is FLUX's distilled guidance, `cfg_scale` classifier-free guidance: never both.
    """

    prompt: str
    negative_prompt: str
    model: str
    family: str
    width: int
    height: int
    steps: int
    seed: int
    sampler: str
    scheduler: str
    cfg_scale: float | None = None
    guidance: float | None = None
    batch_size: int = 1
    loras: tuple[LoraUse, ...] = ()
    init_image: bytes | None = None
    denoise: float = 1.0


@dataclass(frozen=True)
class UpscaleRequest:
    """Enlarge one picture. `model` names an upscaler of the engine, or None for plain Lanczos."""

    image: bytes
    factor: float = 2.0
    model: str | None = None


@dataclass
class ImageResult:
    """Pictures as PNG bytes, in batch order, with what the recipe must remember."""

    images: list[bytes]
    seeds: list[int] = field(default_factory=list)  # per picture: each can be made again alone (empty: upscaled)
    model_sha256: str | None = None
    lora_sha256: dict[str, str] = field(default_factory=dict)  # name -> hash
    engine_versions: dict[str, str] = field(default_factory=dict)
    device: str | None = None
    precision: str | None = None
    notes: list[str] = field(default_factory=list)  # plain sentences for the user


@dataclass(frozen=True)
class ModelInfo:
    """A checkpoint an engine can generate with."""

    name: str
    family: str | None  # None: not recognised; the user may set it (settings "modelFamilies")
    source: str  # "comfyui" | "builtin" | "local"
    size_bytes: int | None = None
    default: bool = False
    label: str | None = None
    note: str | None = None  # one honest sentence, shown beside the name
    native_size: int | None = None  # px, overrides the family's
    size_multiple: int | None = None
    max_size: int | None = None  # px; larger makes no sense for this model
    kind: str = "checkpoint"  # "checkpoint" (all in one) | "diffusion_model" (needs text encoders and VAE)
    defaults: dict[str, Any] = field(default_factory=dict)  # steps, cfg_scale, sampler, … of this model


@dataclass(frozen=True)
class LoraInfo:
    """A LoRA an engine can apply."""

    name: str
    family: str | None
    source: str
    trigger_word: str | None = None
    size_bytes: int | None = None
    note: str | None = None  # e.g. why it would load without effect


@dataclass(frozen=True)
class EngineStatus:
    """Whether an engine can be used right now, and if not, why and what to do."""

    available: bool
    reason: str | None = None
    remedy: str | None = None
    detail: dict[str, Any] = field(default_factory=dict)
