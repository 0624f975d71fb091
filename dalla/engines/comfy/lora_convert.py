"""Rewrite a LoRA's key names into ones that ComfyUI loads.

ComfyUI skips PEFT and diffusers names of SD1.5/SDXL attention layers, and reports success; and it
knows no scale but a `.alpha` beside each layer. Tensors are copied as bytes: nothing is computed, so
every number format passes through. FLUX and SD3 keep their diffusers names, which ComfyUI knows.
"""

from __future__ import annotations

import json
import math
import os
import re
import secrets
import struct
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from dalla.errors import InvalidInput
from dalla.lora_forms import alphas
from dalla.lora_names import FLOW, TEXT, TRANSFORMER, UNET, half_of, is_second_encoder, split_layer, with_text_model
from dalla.weights import LORA_TAIL, Header, TensorInfo, lora_family, read_header

#: Part of the written files' names: raise it when the same input is to give another output.
VERSION = "2"
_LOADS_AS_IS = re.compile(r"(?:lora_unet|lora_te\d?|lycoris|lora_transformer)_|(?:diffusion_model|text_encoders)\.")


@dataclass
class Plan:
    """What the converted file will hold: tensors of the old file under new names, and added alphas."""

    needed: bool = False
    tensors: dict[str, tuple[str, TensorInfo]] = field(default_factory=dict)  # new name -> old name, tensor
    alphas: dict[str, float] = field(default_factory=dict)


def plan(path: Path, header: Header, family: str | None) -> Plan:
    """Work out the new names. `needed` is False when ComfyUI loads the file as it is.

    Raises InvalidInput when the file needs converting and holds something that cannot be.
    """
    family = lora_family(header) or family
    result = Plan()
    unknown: list[str] = []
    ranks: dict[str, tuple[str, str, int]] = {}  # new layer -> part, layer as the config names it, rank
    second_encoder = is_second_encoder(header) if family == "sdxl" else False
    for old, info in header.items():
        tail = LORA_TAIL.search(old)
        layer = old[: tail.start()] if tail else old
        if tail is None:
            unknown.append(old)
            result.tensors[old] = (old, info)
            continue
        name = layer if _LOADS_AS_IS.match(layer) else None
        part, plain = split_layer(layer)
        if name is not None:
            fixed = re.sub(r"^(lora_te\d?)_encoder_layers_", r"\1_text_model_encoder_layers_", name)
            result.needed |= fixed != name
            result.tensors[fixed + tail[0]] = (old, info)
            continue
        if family in FLOW:
            name, new_tail = _flow_name(part, plain), _flow_tail(tail)
            result.needed |= name != layer or new_tail != tail[0]
        else:
            name, new_tail = _kohya_name(part, plain, family, second_encoder), _kohya_tail(tail)
            result.needed |= not _unet_layer_loads(layer)
        if name is None:
            unknown.append(old)
            result.tensors[old] = (old, info)
            continue
        if new_tail == ".dora_scale" != tail[0]:
            info = _dora(info, header, layer)
        result.tensors[name + new_tail] = (old, info)
        if half_of(tail) == "down":
            ranks[name] = (part or _part_of(plain, family), plain, info.shape[0])
    alpha_of = alphas(path, header)
    for name, (part, plain, rank) in ranks.items():
        if f"{name}.alpha" in result.tensors:
            continue
        alpha = alpha_of(part, plain, rank)
        result.needed |= alpha != rank
        if family not in FLOW or alpha != rank:
            result.alphas[f"{name}.alpha"] = alpha
    if result.needed and unknown:
        raise InvalidInput.field(
            "loras",
            f"The LoRA file {path.name} holds '{unknown[0][:120]}', which cannot be rewritten for ComfyUI.",
            remedy="Export the LoRA in kohya format, or draw with the built-in engine.",
        )
    return result


def convert_to_kohya(
    path: Path, out: Path, *, family: str | None = None, metadata: dict[str, str] | None = None
) -> None:
    """Write the LoRA at `path` to `out` with key names ComfyUI loads: whole, or not at all.

    SD1.5 and SDXL get kohya names with `.alpha`; SD3 and FLUX keep diffusers names and get a `.alpha`
    where it differs from the rank. Raises InvalidInput, and OSError when the disk refuses.
    """
    header = read_header(path)
    family = lora_family(header) or family
    write(path, out, header, plan(path, header, family), family, metadata or {})


def write(path: Path, out: Path, header: Header, plan: Plan, family: str | None, metadata: dict[str, str]) -> None:
    """Write what `plan` says. Readers see the whole file or none."""
    texts = {k: v for k, v in header.metadata.items() if k != "lora_adapter_metadata"}  # diffusers refuses both
    if family == "sdxl":
        texts.setdefault("ss_base_model_version", "sdxl_base_v1-0")
    elif family == "sd15":
        texts.setdefault("ss_base_model_version", "sd_v1")
    if family not in FLOW:
        texts.setdefault("ss_network_module", "networks.lora")
    table: dict[str, Any] = {"__metadata__": {**texts, **metadata}}
    at = 0
    for name, (_, info) in plan.tensors.items():
        size = info.end - info.start
        table[name] = {"dtype": info.dtype, "shape": list(info.shape), "data_offsets": [at, at + size]}
        at += size
    for name in plan.alphas:
        table[name] = {"dtype": "F32", "shape": [], "data_offsets": [at, at + 4]}
        at += 4
    head = json.dumps(table, separators=(",", ":")).encode()
    head += b" " * (-len(head) % 8)
    temp = out.with_name(f".{out.name}.{secrets.token_hex(6)}.tmp")  # not *.safetensors: the server lists those
    try:
        with path.open("rb") as source, temp.open("xb") as target:
            target.write(struct.pack("<Q", len(head)) + head)
            for _, info in plan.tensors.values():
                source.seek(header.data_start + info.start)
                target.write(source.read(info.end - info.start))
            for alpha in plan.alphas.values():
                target.write(struct.pack("<f", alpha))
            target.flush()
            os.fsync(target.fileno())
        os.replace(temp, out)
    finally:
        temp.unlink(missing_ok=True)


# ---------------------------------------------------------------- names


def _part_of(plain: str, family: str | None) -> str:
    if TEXT.match(plain):
        return "text_encoder"
    return "transformer" if family in FLOW else "unet"


def _kohya_name(part: str | None, plain: str, family: str | None, second_encoder: bool) -> str | None:
    if part in (None, "unet") and UNET.match(plain):
        plain = plain.replace(".processor.", ".")
        if plain.endswith(".to_out"):  # the old attention processors left the list index out
            plain += ".0"
        return "lora_unet_" + plain.replace(".", "_")
    if part in (None, "text_encoder", "text_encoder_2") and TEXT.match(plain):
        if part == "text_encoder_2" or (part is None and second_encoder):
            prefix = "lora_te2_"
        else:
            prefix = "lora_te1_" if family == "sdxl" else "lora_te_"
        return prefix + with_text_model(plain).replace(".", "_")
    return None


def _flow_name(part: str | None, plain: str) -> str | None:
    if part in (None, "transformer") and TRANSFORMER.match(plain):
        return f"transformer.{plain}"
    if part in (None, "text_encoder", "text_encoder_2") and TEXT.match(plain):
        return f"{part or 'text_encoder'}.{with_text_model(plain)}"
    return f"{part}.{plain}" if part else None


def _flow_tail(tail: re.Match[str]) -> str:
    """Return the ending without an adapter's name in it; ComfyUI knows DoRA's magnitudes by kohya's name only."""
    if "magnitude" in tail[0]:
        return ".dora_scale"
    return re.sub(r"\.(lora_[AB])\.[A-Za-z0-9_]+\.weight$", r".\1.weight", tail[0])


def _kohya_tail(tail: re.Match[str]) -> str:
    if half := half_of(tail):
        return f".lora_{half}.weight"
    return ".dora_scale" if "magnitude" in tail[0] else tail[0]


def _unet_layer_loads(layer: str) -> bool:
    """Whether ComfyUI knows this name of a SD1.5/SDXL layer that is not in kohya's style."""
    if layer.startswith(("text_encoder.text_model.encoder.layers.", "text_encoder_2.text_model.encoder.layers.")):
        return True
    plain = layer.removeprefix("unet.")
    return bool(UNET.match(plain)) and not re.search(r"(?<!\.processor)\.to_(?:[qkv]|out)\b", plain)


def _dora(info: TensorInfo, header: Header, layer: str) -> TensorInfo:
    """Give PEFT's magnitude the shape of kohya's: one number per output, broadcast over the rest."""
    count = math.prod(info.shape)
    ups = (
        v for k, v in header.items() if k.startswith(f"{layer}.") and (t := LORA_TAIL.search(k)) and half_of(t) == "up"
    )
    rank = len(next(ups, info).shape)
    return replace(info, shape=(count, *[1] * (max(rank, 2) - 1)))
