"""Choose the server's files for a picture, and find out before queueing what would fail.

The answers come from /object_info, never from a guess; every refusal names the file and its folder.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dalla.engines.comfy import faults
from dalla.engines.comfy.catalog import Catalog
from dalla.engines.comfy.client import ComfyClient
from dalla.engines.comfy.graphs import Graph
from dalla.errors import InvalidInput
from dalla.records.image import ImageRequest

#: More pixels than this in one call (16 pictures of 2048 x 2048) are never meant.
MAX_PIXELS = 16 * 2048 * 2048
#: Bytes a pixel needs while it is decoded on the CPU in 32 bits, where nothing stops the system from
#: ending the server; a graphics card reports instead, and ComfyUI then decodes in tiles.
CPU_BYTES_PER_PIXEL = 4400

#: Text encoders by what their files are called, best first.
_CLIP_L = ("clip_l", "clip-l", "vit-l", "longclip")
_CLIP_G = ("clip_g", "clip-g", "bigg")
_T5 = ("t5xxl_fp16", "t5xxl", "t5-xxl", "t5_xxl", "t5-v1_1-xxl", "t5")
_FLUX_VAE = ("ae.safetensors", "flux_vae", "flux-vae", "flux1", "flux", "ae.sft", "taef1")
_SD3_VAE = ("sd3", "taesd3")


@dataclass(frozen=True)
class Chosen:
    """Files in the server's spelling. Empty `text_encoders`: those inside the model file."""

    model: str
    kind: str = "checkpoint"
    text_encoders: tuple[str, ...] = ()
    vae: str | None = None


def find_name(wanted: str | None, names: list[str]) -> str | None:
    """Return `wanted` as the server spells it: systems separate folders differently."""
    plain = (wanted or "").replace("\\", "/")
    return next((name for name in names if name.replace("\\", "/") == plain), None)


def choose(client: ComfyClient, catalog: Catalog, request: ImageRequest) -> Chosen:
    """Find the model, and the text encoders and VAE it needs beside it. Raises InvalidInput (field "model")."""
    name, kind = find_name(request.model, client.choices("CheckpointLoaderSimple", "ckpt_name")), "checkpoint"
    if name is None:
        name = find_name(request.model, client.choices("UNETLoader", "unet_name"))
        kind = "diffusion_model"
    if name is None:
        raise faults.missing_file("ckpt_name", request.model)
    if kind == "checkpoint":
        if request.family == "sd3" and not (whole := catalog.has_text_encoder(name)):
            encoders = _encoders_sd3(client, required=whole is False)
            return Chosen(name, text_encoders=encoders)
        return Chosen(name)
    if request.family == "flux":
        encoders = (
            _encoder(client, "CLIP-L", "clip_l.safetensors", _CLIP_L),
            _encoder(client, "T5", "t5xxl_fp16.safetensors", _T5),
        )
        return Chosen(name, kind, encoders, _vae(client, "FLUX", "ae.safetensors", _FLUX_VAE))
    if request.family == "sd3":
        vae = _vae(client, "Stable Diffusion 3", "sd3_vae.safetensors", _SD3_VAE)
        return Chosen(name, kind, _encoders_sd3(client, required=True), vae)
    raise InvalidInput.field(
        "model",
        f"'{request.model}' lies in ComfyUI/models/diffusion_models, where only the network of a model is expected.",
        remedy="Move the whole model file into ComfyUI/models/checkpoints/ on the ComfyUI server.",
    )


def _encoders_sd3(client: ComfyClient, *, required: bool) -> tuple[str, ...]:
    """Return CLIP-L and CLIP-G, and T5 where the server has it: the model was trained with all three."""
    names = client.choices("DualCLIPLoader", "clip_name1")
    first, second, third = _best(names, _CLIP_L), _best(names, _CLIP_G), _best(names, _T5)
    if first and second:
        return (first, second, third) if third else (first, second)
    if not required:
        return ()  # the file may well have its own; the server says so if not
    return (
        _encoder(client, "CLIP-L", "clip_l.safetensors", _CLIP_L),
        _encoder(client, "CLIP-G", "clip_g.safetensors", _CLIP_G),
    )


def _encoder(client: ComfyClient, label: str, example: str, patterns: tuple[str, ...]) -> str:
    found = _best(client.choices("DualCLIPLoader", "clip_name1"), patterns)
    if found is None:
        raise InvalidInput.field(
            "model",
            f"This model needs the text encoder {label}, which ComfyUI does not have.",
            remedy=f"Put {example} into ComfyUI/models/text_encoders/ on the ComfyUI server.",
        )
    return found


def _vae(client: ComfyClient, label: str, example: str, patterns: tuple[str, ...]) -> str:
    found = _best(client.choices("VAELoader", "vae_name"), patterns)
    if found is None:
        raise InvalidInput.field(
            "model",
            f"This model needs the VAE of {label}, which ComfyUI does not have.",
            remedy=f"Put {example} into ComfyUI/models/vae/ on the ComfyUI server.",
        )
    return found


def _best(names: list[str], patterns: tuple[str, ...]) -> str | None:
    """Return the file that fits the earliest pattern; a pattern that is a whole file name must be the name."""
    for pattern in patterns:
        for name in sorted(names):
            last = name.replace("\\", "/").rsplit("/", 1)[-1].lower()
            if last == pattern or ("." not in pattern and pattern in last):
                return name
    return None


# ---------------------------------------------------------------- before queueing


def check_graph(client: ComfyClient, graph: Graph) -> None:
    """Compare every node and every choice with what the server has. Raises like a refusal would."""
    errors: list[InvalidInput] = []
    for node in graph.values():
        class_type = node["class_type"]
        if not client.object_info(class_type):
            raise faults.missing_node(class_type)
        for name, value in node["inputs"].items():
            # The picture is uploaded later; LoRAs are looked after by whoever put them there.
            if not isinstance(value, str) or name in ("image", "lora_name"):
                continue
            choices = client.choices(class_type, name)
            if not choices or find_name(value, choices) is not None:
                continue
            if name in faults.FILES:
                errors.append(faults.missing_file(name, value))
            else:
                errors.append(faults.unknown_choice(name, value))
    if errors:
        first = errors[0]
        unique = {e["message"]: e for error in errors for e in error.errors}
        raise InvalidInput(" ".join(unique), errors=list(unique.values()), remedy=first.remedy)


def check_size(request: ImageRequest, stats: dict[str, Any]) -> None:
    """Refuse what would end the server for want of memory instead of failing. A rough bound, far above normal use."""
    one, total = request.width * request.height, request.width * request.height * request.batch_size
    if total > MAX_PIXELS:
        raise InvalidInput.field(
            "width",
            f"{request.batch_size} x {request.width} x {request.height} pixels are too many for one call.",
            remedy="Use a smaller size, or fewer pictures at once.",
        )
    device = (stats.get("devices") or [{}])[0]
    memory = (stats.get("system") or {}).get("ram_total") or 0
    if device.get("type") == "cpu" and memory and one * CPU_BYTES_PER_PIXEL > memory:
        raise InvalidInput.field(
            "width",
            f"{request.width} x {request.height} pixels need more memory than the ComfyUI machine has "
            f"({memory / 1e9:.0f} GB); the system would end ComfyUI.",
            remedy="Use a smaller size and enlarge the picture afterwards.",
        )
