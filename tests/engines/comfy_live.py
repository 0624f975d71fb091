"""A real ComfyUI for tests: where its files lie, what it logs, and LoRAs that fit its models."""

from __future__ import annotations

import json
import os
import re
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dalla import lora_names
from dalla.weights import Header, read_header

#: What ComfyUI logs when a layer of a LoRA has no effect: unknown names, other shapes, patches that failed.
COMPLAINTS = re.compile(
    r"lora key not loaded|NOT LOADED|ERROR (?:lora|loha|lokr|diff)|Calculate Weight Failed|SHAPE MISMATCH|shape '\[",
    re.I,
)
#: Where the text encoders lie in files of the original layouts: start of the key -> component by family.
_ENCODERS = (
    ("cond_stage_model.transformer.", {"sd15": "text_encoder"}),
    ("conditioner.embedders.0.transformer.", {"sdxl": "text_encoder"}),
    ("conditioner.embedders.1.model.", {"sdxl": "text_encoder_2"}),
    ("text_encoders.clip_l.transformer.", {"sd3": "text_encoder", "flux": "text_encoder"}),
    ("text_encoders.clip_g.transformer.", {"sd3": "text_encoder_2"}),
)
_OPEN_CLIP = re.compile(r"transformer\.resblocks\.(\d+)\.attn\.(in_proj_weight|out_proj\.weight)")

Shape = tuple[int, ...]


class Server:
    """What the engine does not ask: the log and the folders."""

    def __init__(self, url: str, log: str = "") -> None:
        self._url = url.rstrip("/")
        self._log = Path(log) if log else None

    def folder_of(self, name: str) -> Path | None:
        """Return a model's file on this machine, None when the server's disk is another one."""
        folders = self._get("/internal/folder_paths")
        for kind in ("checkpoints", "diffusion_models"):
            for folder in folders.get(kind, ()):
                if (Path(folder) / name).is_file():
                    return Path(folder) / name
        return None

    def version(self) -> str:
        return str(self._get("/system_stats")["system"]["comfyui_version"])

    def mark(self) -> Any:
        """Remember where the log ends."""
        if self._log is not None:
            return self._log.stat().st_size
        entries = self._get("/internal/logs/raw")["entries"]
        return entries[-1]["t"] if entries else ""

    def since(self, mark: Any) -> str:
        """Return what was logged after the mark. Fails when the server has forgotten a part of it."""
        if self._log is not None:
            with self._log.open("rb") as file:
                file.seek(mark)
                return file.read().decode("utf-8", "replace")
        entries = self._get("/internal/logs/raw")["entries"]
        assert not mark or any(entry["t"] <= mark for entry in entries), "the log is full: set COMFYUI_LOG to its file"
        return "".join(entry["m"] for entry in entries if entry["t"] > mark)

    def complaints(self, mark: Any) -> list[str]:
        return [line for line in self.since(mark).splitlines() if COMPLAINTS.search(line)]

    def _get(self, path: str) -> Any:
        with urllib.request.urlopen(self._url + path, timeout=30) as answer:  # noqa: S310 - the server under test
            return json.load(answer)


@dataclass
class Modules:
    """The layers of a model that a LoRA can change: component -> module -> shape of its weight."""

    family: str
    shapes: dict[str, dict[str, Shape]] = field(default_factory=dict)

    def parts(self) -> dict[str, dict[str, dict[str, Shape]]]:
        """Return what is trained apart: attention, the rest of the denoiser, convolutions, each text encoder."""
        found: dict[str, dict[str, dict[str, Shape]]] = {}
        for component, modules in self.shapes.items():
            for path, shape in modules.items():
                if component.startswith("text"):
                    part = component
                elif len(shape) == 4 and shape[-1] > 1:
                    part = "convolution"
                else:
                    part = "attention" if re.search(r"\bto_(?:q|k|v|out)\b", path) else "rest"
                found.setdefault(part, {}).setdefault(component, {})[path] = shape
        return found


def modules_of(file: Path, family: str) -> Modules:
    """Read from a model's header which layers it has, under the names of diffusers' pipelines."""
    header = read_header(file)
    found = Modules(family)
    for key, info in header.items():
        if len(info.shape) not in (2, 4) or not key.endswith("weight"):
            continue
        for component, path, shape in _placed(key, info.shape, family):
            found.shapes.setdefault(component, {})[path] = shape
    return found


def resnets_per_level(header: Header) -> int:
    """Return how many ResNets a U-Net has before it first shrinks the picture (SD1.5 and SDXL: 2); 0: no U-Net."""
    for number in range(1, 12):
        if any(f"input_blocks.{number}.0.op." in key for key in header):
            return number - 1
    return 0


def _placed(key: str, shape: Shape, family: str) -> list[tuple[str, str, Shape]]:
    for start, families in _ENCODERS:
        if key.startswith(start):
            return _encoder(key.removeprefix(start), shape, families[family]) if family in families else []
    layer = key.removesuffix(".weight").removeprefix("model.diffusion_model.")
    if layer.startswith(("first_stage_model.", "vae.", "text_encoders.")) or "norm" in layer.rsplit(".", 2)[-1]:
        return []
    meant = lora_names.modules_of("lora_unet_" + layer.replace(".", "_"), family)
    if meant is None or "adaLN" in layer:
        return []
    component, modules = meant
    shares = [4 if module.endswith("proj_mlp") else 1 for module in modules]
    unit = shape[0] // sum(shares)
    return [(component, m, (unit * share, *shape[1:])) for m, share in zip(modules, shares, strict=True)]


def _encoder(rest: str, shape: Shape, component: str) -> list[tuple[str, str, Shape]]:
    if found := _OPEN_CLIP.fullmatch(rest):
        layer = f"text_model.encoder.layers.{found[1]}.self_attn"
        if found[2] == "out_proj.weight":
            return [(component, f"{layer}.out_proj", shape)]
        return [(component, f"{layer}.{part}_proj", (shape[0] // 3, shape[1])) for part in "qkv"]
    if re.fullmatch(r"text_model\.encoder\.layers\.\d+\.self_attn\.(?:[qkv]|out)_proj\.weight", rest):
        return [(component, rest.removesuffix(".weight"), shape)]
    return []


def random_layers(
    parts: dict[str, dict[str, Shape]], seed: int, rank: int = 4, size: float = 0.5
) -> dict[str, dict[str, tuple[Any, Any, float]]]:
    """Return (down, up, alpha) for each module, as `export.save_lora` takes it; alpha is half the rank."""
    import torch

    random = torch.Generator().manual_seed(seed)
    layers: dict[str, dict[str, tuple[Any, Any, float]]] = {}
    for component, modules in parts.items():
        for path, (outputs, inputs, *kernel) in modules.items():
            down = (
                torch.randn(rank, inputs, *kernel, generator=random)
                / (inputs * (kernel[0] ** 2 if kernel else 1)) ** 0.5
            )
            up = torch.randn(outputs, rank, *[1] * len(kernel), generator=random) * size
            layers.setdefault(component, {})[path] = (down, up, rank / 2)
    return layers


def lora_folder() -> Path | None:
    """Return ComfyUI's LoRA folder as COMFYUI_LORA_DIR names it, when it is there."""
    folder = os.environ.get("COMFYUI_LORA_DIR", "")
    return Path(folder) if folder and Path(folder).is_dir() else None
