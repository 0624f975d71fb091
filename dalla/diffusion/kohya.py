"""Read kohya-style LoRA keys of transformer models that diffusers itself cannot place.

diffusers drops `lora_unet_joint_blocks_…` (SD3) without a word and has no rule for
`lora_transformer_…`. Layer names lost their dots in such files; they are found again by comparing
with the names the model really has, so any model size works.
"""

from __future__ import annotations

import re
from typing import Any

_PART = re.compile(r"^(lora_(?:unet|transformer|te[12]?)_)(.+)\.(lora_down\.weight|lora_up\.weight|alpha)$")
_JOINT = re.compile(r"joint_blocks_(\d+)_(x|context)_block_(.+)")
_ENCODERS = {"lora_te_": "text_encoder", "lora_te1_": "text_encoder", "lora_te2_": "text_encoder_2"}
_SD3 = {
    ("x", "attn_proj"): "attn.to_out.0",
    ("context", "attn_proj"): "attn.to_add_out",
    ("x", "attn2_proj"): "attn2.to_out.0",
    ("x", "mlp_fc1"): "ff.net.0.proj",
    ("x", "mlp_fc2"): "ff.net.2",
    ("context", "mlp_fc1"): "ff_context.net.0.proj",
    ("context", "mlp_fc2"): "ff_context.net.2",
}
_SD3_JOINED = {
    ("x", "attn_qkv"): ("attn.to_q", "attn.to_k", "attn.to_v"),
    ("context", "attn_qkv"): ("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"),
    ("x", "attn2_qkv"): ("attn2.to_q", "attn2.to_k", "attn2.to_v"),
}


def needs_conversion(keys: Any) -> bool:
    return any(key.startswith(("lora_unet_joint_blocks_", "lora_transformer_")) for key in keys)


def to_peft(weights: dict[str, Any], pipe: Any) -> dict[str, Any]:
    """Return the weights under `component.module.lora_A/B.weight`, alpha folded into B.

    Keys that belong to no layer of the pipeline stay as they are, so that the count of what was
    placed comes out short and the user hears of it.
    """
    names = {
        component: {name.removeprefix("text_model.").replace(".", "_"): name for name, _ in part.named_modules()}
        for component in ("transformer", "text_encoder", "text_encoder_2")
        if (part := getattr(pipe, component, None)) is not None
    }
    layers: dict[tuple[str, str], dict[str, Any]] = {}
    out: dict[str, Any] = {}
    for key, tensor in weights.items():
        if match := _PART.match(key):
            layers.setdefault((match[1], match[2]), {})[match[3]] = tensor
        else:
            out[key] = tensor
    for (prefix, name), parts in layers.items():
        component = _ENCODERS.get(prefix, "transformer")
        down, up = parts.get("lora_down.weight"), parts.get("lora_up.weight")
        targets = _targets(name, component, names.get(component, {}))
        if not targets or down is None or up is None:
            out |= {f"{prefix}{name}.{part}": tensor for part, tensor in parts.items()}
            continue
        scale = float(parts["alpha"]) / down.shape[0] if "alpha" in parts else 1.0
        for target, piece in zip(targets, up.chunk(len(targets)), strict=True):
            out[f"{component}.{target}.lora_A.weight"] = down
            out[f"{component}.{target}.lora_B.weight"] = piece * scale
    return out


def _targets(name: str, component: str, known: dict[str, str]) -> tuple[str, ...]:
    """Return the module, or the three modules of a joined projection, that a flat name means."""
    if joint := _JOINT.fullmatch(name):
        block, kind = f"transformer_blocks.{joint[1]}.", (joint[2], joint[3])
        found = _SD3_JOINED.get(kind) or ((_SD3[kind],) if kind in _SD3 else ())
        return tuple(block + module for module in found)
    module = known.get(name.removeprefix("text_model_"))
    if module is None:
        return ()
    nested = component == "transformer" or module.startswith("text_model.")
    return (module if nested else f"text_model.{module}",)
