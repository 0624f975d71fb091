"""Pictures and model files for the pretend ComfyUI: quick, deterministic, and honest about being drawings.

The same prompt, seed, model, LoRAs and settings give the same pixels; changing any of them changes
the picture.
"""

from __future__ import annotations

import hashlib
import io
import json
import random
import re
import struct
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

FAMILY_OF_NAME = (("flux", "flux"), ("sd3", "sd3"), ("xl", "sdxl"))
_ARCHITECTURES = {
    "sd15": "stable-diffusion-v1",
    "sdxl": "stable-diffusion-xl-v1-base",
    "sd3": "stable-diffusion-3-medium",
    "flux": "flux-1-dev",
}
_UNET = "down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k"


def draw(
    facts: dict[str, Any], size: tuple[int, int], base: Image.Image | None = None, denoise: float = 1.0
) -> Image.Image:
    """Paint a picture out of everything in `facts`; `base` shines through where denoise is below 1."""
    rng = random.Random(hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).digest())
    width, height = size
    image = Image.new("RGB", size, tuple(rng.randrange(256) for _ in range(3)))
    pen = ImageDraw.Draw(image)
    for _ in range(10):
        x, y = rng.randrange(-width // 4, width), rng.randrange(-height // 4, height)
        box = (x, y, x + rng.randrange(width // 8, width // 2 + 2), y + rng.randrange(height // 8, height // 2 + 2))
        shape = rng.choice((pen.ellipse, pen.rectangle))
        shape(box, fill=tuple(rng.randrange(256) for _ in range(3)))
    text = str(facts.get("prompt", ""))[:200]
    columns = max(8, width // 7)
    lines = [text[i : i + columns] for i in range(0, len(text), columns)][: max(1, height // 14)]
    for number, line in enumerate(lines):
        pen.text(
            (4, 3 + 12 * number),
            line.encode("latin-1", "replace").decode("latin-1"),
            fill="white",
            stroke_width=1,
            stroke_fill="black",
        )
    if base is not None and denoise < 1:
        image = Image.blend(base.convert("RGB").resize(size), image, max(0.0, denoise))
    return image


def preview(image: Image.Image, done: float) -> bytes:
    """Return the picture as a rough JPEG, clearer the further it is."""
    small = image.resize(
        (max(1, int(image.width * max(done, 0.05) / 4)), max(1, int(image.height * max(done, 0.05) / 4)))
    )
    out = io.BytesIO()
    small.resize(image.size).save(out, "JPEG", quality=70)
    return out.getvalue()


# ---------------------------------------------------------------- model files


def safetensors(tensors: dict[str, tuple[str, list[int], bytes]], metadata: dict[str, str] | None = None) -> bytes:
    """Build a .safetensors file."""
    table: dict[str, Any] = {"__metadata__": metadata} if metadata else {}
    data = b""
    for name, (dtype, shape, raw) in tensors.items():
        table[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    head = json.dumps(table).encode()
    return struct.pack("<Q", len(head)) + head + data


def model_file(family: str, *, whole: bool = True) -> bytes:
    """Build a file whose header looks like a model of the family. It holds no weights worth the name."""
    prefix = "model.diffusion_model." if whole else ""
    keys: dict[str, list[int]] = {
        "sd15": {"input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight": [1, 768]},
        "sdxl": {
            "input_blocks.4.1.transformer_blocks.1.attn2.to_k.weight": [1, 2048],
            "label_emb.0.0.weight": [1, 2816],
        },
        "sd3": {"joint_blocks.0.x_block.attn.qkv.weight": [3, 1536]},
        "flux": {
            "double_blocks.0.img_attn.qkv.weight": [3, 3072],
            "img_in.weight": [1, 64],
            "guidance_in.in_layer.weight": [1, 256],
        },
    }[family]
    tensors = {prefix + k: shape for k, shape in keys.items()}
    if whole:
        vae = "vae." if family == "flux" else "first_stage_model."
        text = {"sd15": "cond_stage_model.transformer.", "sdxl": "conditioner.embedders.0.transformer."}
        tensors[f"{vae}decoder.conv_in.weight"] = [1, 4, 3, 3]
        tensors[f"{text.get(family, 'text_encoders.clip_l.transformer.')}text_model.final_layer_norm.weight"] = [768]
    rows = {}
    for name, shape in tensors.items():
        count = 1
        for n in shape:
            count *= n
        rows[name] = ("F8_E4M3", shape, bytes(count))
    return safetensors(rows, {"modelspec.architecture": _ARCHITECTURES[family]})


def lora_file(family: str = "sd15", style: str = "kohya", *, trigger: str | None = None, value: float = 0.01) -> bytes:
    """Build a LoRA of one layer, rank 2, in the key style kohya, diffusers, peft or comfy."""
    if family in ("sd3", "flux"):
        width = 3072 if family == "flux" else 1536
        layer = {
            "kohya": f"lora_unet_{'double_blocks_0_img_attn_qkv' if family == 'flux' else 'joint_blocks_0_x_block_attn_qkv'}",
            "comfy": f"diffusion_model.{'double_blocks.0.img_attn.qkv' if family == 'flux' else 'joint_blocks.0.x_block.attn.qkv'}",
        }.get(style, "transformer.transformer_blocks.0.attn.to_q")
    else:
        width = {"sd15": 768, "sdxl": 2048}[family]
        layer = {
            "kohya": "lora_unet_" + _UNET.replace(".", "_"),
            "diffusers": f"unet.{_UNET}",
            "peft": f"base_model.model.{_UNET}",
            "comfy": "diffusion_model.input_blocks.4.1.transformer_blocks.0.attn2.to_k",
        }[style]
    down, up = {"kohya": ("lora_down", "lora_up"), "diffusers": ("lora.down", "lora.up")}.get(
        style, ("lora_A", "lora_B")
    )
    if family in ("sd3", "flux") and style == "diffusers":
        down, up = "lora_A", "lora_B"
    number = struct.pack("<f", value)
    tensors = {
        f"{layer}.{down}.weight": ("F32", [2, width], number * 2 * width),
        f"{layer}.{up}.weight": ("F32", [width, 2], number * 2 * width),
    }
    if style == "kohya":
        tensors[f"{layer}.alpha"] = ("F32", [], struct.pack("<f", 2.0))
    metadata = {}
    if style == "kohya":
        metadata = {"modelspec.architecture": f"{_ARCHITECTURES[family]}/lora", "ss_network_module": "networks.lora"}
    if trigger:
        metadata["ss_tag_frequency"] = json.dumps({f"1_{trigger}": {trigger: 3}})
    return safetensors(tensors, metadata)


def read_keys(path: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """Return tensors and metadata of a .safetensors file. Raises ValueError when it is none."""
    data = path.read_bytes()
    if len(data) < 8:
        raise ValueError("Error while deserializing header: header too small")
    (length,) = struct.unpack("<Q", data[:8])
    if length > len(data) - 8:
        raise ValueError("Error while deserializing header: header too large")
    table = json.loads(data[8 : 8 + length])
    metadata = table.pop("__metadata__", None) or {}
    if any(row["data_offsets"][1] > len(data) - 8 - length for row in table.values()):
        raise ValueError("Error while deserializing header: incomplete metadata, file not fully covered")
    return table, metadata


def lora_effect(path: Path, family: str) -> list[str]:
    """Return the layers of the LoRA that the server cannot place; raises ValueError for a broken file."""
    table, _ = read_keys(path)
    layers = {key: re.split(r"\.(?:lora|alpha)", key)[0] for key in table}
    skipped = {layers[key] for key in table if not _places(key, table[key]["shape"], family)}
    return [key for key in table if layers[key] in skipped]


def _places(key: str, shape: list[int], family: str) -> bool:
    if key.startswith(("lora_te", "text_encoder", "text_encoders.")):
        return "text_model" in key or key.startswith("text_encoders.")
    name = key.replace(".", "_")
    flow = {"flux": "double_blocks_|single_blocks_|single_transformer_blocks_", "sd3": "joint_blocks_"}.get(family)
    if flow:
        own = re.match(rf"(?:lora_unet|diffusion_model)_(?:{flow})", name)
        return (
            bool(own) or re.match(r"(?:transformer|lora_transformer)_(?:single_)?transformer_blocks_", name) is not None
        )
    blocks = r"(?:input|middle|output|down|up|mid)_blocks?"
    if not re.match(rf"(?:lora_unet|diffusion_model|unet)?_?{blocks}", name):
        return False
    if re.search(r"(?<!processor)\.to_(?:[qkv]|out)\b", key) and not key.startswith("diffusion_model."):
        return False
    width = shape[1] if len(shape) == 2 and re.search(r"attn2_to_[kv]_lora_(?:down|A)", name) else 0
    return not width or width == {"sd15": 768, "sdxl": 2048}.get(family)
