"""What a graph builder is told. Names are those of files on the ComfyUI server, in its own spelling."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

#: A ComfyUI graph in API form: node id -> {"class_type", "inputs"}; a link is [node id, output number].
Graph = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class GraphLora:
    """One LoRA. `text_encoder` False leaves the text encoder alone, so its encoded text stays cached."""

    name: str
    strength: float = 1.0
    text_encoder: bool = True


@dataclass(frozen=True)
class GraphRequest:
    """Pictures to draw, one per seed: each can be made again alone.

    `kind` "checkpoint" is an all-in-one file, "diffusion_model" needs `text_encoders` and `vae`.
    `init_image` names an upload that has the wanted size already.
    """

    prompt: str
    negative_prompt: str
    model: str
    width: int
    height: int
    steps: int
    seeds: tuple[int, ...]
    sampler: str
    scheduler: str
    prefix: str
    cfg_scale: float | None = None
    guidance: float | None = None
    loras: tuple[GraphLora, ...] = ()
    init_image: str | None = None
    denoise: float = 1.0
    kind: str = "checkpoint"
    text_encoders: tuple[str, ...] = ()
    vae: str | None = None
