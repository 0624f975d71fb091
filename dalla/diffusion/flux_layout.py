"""FLUX.1's transformer as it is published (double_blocks, single_blocks), built with diffusers' names and sizes.

Sizes are measured from the weights; nothing assumes a width of 3072.
"""

from __future__ import annotations

import re
from typing import Any

_OUTSIDE = {
    "time_in.in_layer": "time_text_embed.timestep_embedder.linear_1",
    "time_in.out_layer": "time_text_embed.timestep_embedder.linear_2",
    "vector_in.in_layer": "time_text_embed.text_embedder.linear_1",
    "vector_in.out_layer": "time_text_embed.text_embedder.linear_2",
    "guidance_in.in_layer": "time_text_embed.guidance_embedder.linear_1",
    "guidance_in.out_layer": "time_text_embed.guidance_embedder.linear_2",
    "txt_in": "context_embedder",
    "img_in": "x_embedder",
    "final_layer.linear": "proj_out",
}
_DOUBLE = {
    "img_mod.lin": "norm1.linear",
    "txt_mod.lin": "norm1_context.linear",
    "img_attn.norm.query_norm": "attn.norm_q",
    "img_attn.norm.key_norm": "attn.norm_k",
    "txt_attn.norm.query_norm": "attn.norm_added_q",
    "txt_attn.norm.key_norm": "attn.norm_added_k",
    "img_mlp.0": "ff.net.0.proj",
    "img_mlp.2": "ff.net.2",
    "txt_mlp.0": "ff_context.net.0.proj",
    "txt_mlp.2": "ff_context.net.2",
    "img_attn.proj": "attn.to_out.0",
    "txt_attn.proj": "attn.to_add_out",
}
_SINGLE = {
    "modulation.lin": "norm.linear",
    "norm.query_norm": "attn.norm_q",
    "norm.key_norm": "attn.norm_k",
    "linear2": "proj_out",
}
_JOINED = {
    "img_attn.qkv": ("attn.to_q", "attn.to_k", "attn.to_v"),
    "txt_attn.qkv": ("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"),
    "linear1": ("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp"),
}
_BLOCK = re.compile(r"(double|single)_blocks\.(\d+)\.(.+)\.(weight|bias|scale)\Z")


def measure(shapes: dict[str, tuple[int, ...]]) -> dict[str, Any]:
    """Return the transformer's config from the shapes of its tensors. Raises KeyError when parts are missing."""
    width, channels = shapes["img_in.weight"]
    head = shapes["double_blocks.0.img_attn.norm.query_norm.scale"][0]
    across = head // 8  # of 128: 16 for the index, 56 each for row and column
    return {
        "patch_size": 1,
        "in_channels": channels,
        "num_layers": _count(shapes, "double"),
        "num_single_layers": _count(shapes, "single"),
        "attention_head_dim": head,
        "num_attention_heads": width // head,
        "joint_attention_dim": shapes["txt_in.weight"][1],
        "pooled_projection_dim": shapes["vector_in.in_layer.weight"][1],
        "guidance_embeds": "guidance_in.in_layer.weight" in shapes,
        "axes_dims_rope": (across, (head - across) // 2, (head - across) // 2),
    }


def to_diffusers(tensors: dict[str, Any]) -> dict[str, Any]:
    """Return the tensors under diffusers' names; joined projections are split (as views).

    Raises KeyError for a tensor inside a block that is no part of the layout (the scale of another number format,
    say), so that no weight is left out in silence. What lies beside the transformer is left out.
    """
    import torch

    width = tensors["img_in.weight"].shape[0]
    out: dict[str, Any] = {}
    for key, tensor in tensors.items():
        found = _BLOCK.match(key)
        if found is None:
            stem, _, kind = key.rpartition(".")
            if stem == "final_layer.adaLN_modulation.1":  # shift, scale there; scale, shift in diffusers
                shift, scale = tensor.chunk(2)
                out[f"norm_out.linear.{kind}"] = torch.cat([scale, shift])
            elif stem in _OUTSIDE:
                out[f"{_OUTSIDE[stem]}.{kind}"] = tensor
            elif key.startswith(("double_blocks.", "single_blocks.")):
                raise KeyError(key)
            continue
        which, number, name, kind = found.groups()
        block = f"{'' if which == 'double' else 'single_'}transformer_blocks.{number}"
        kind = "weight" if kind == "scale" else kind
        if name in _JOINED:
            names = _JOINED[name]
            sizes = [width] * 3 + ([tensor.shape[0] - 3 * width] if len(names) == 4 else [])
            for part, piece in zip(names, tensor.split(sizes), strict=True):
                out[f"{block}.{part}.{kind}"] = piece
        else:
            out[f"{block}.{(_DOUBLE if which == 'double' else _SINGLE)[name]}.{kind}"] = tensor
    return out


def build(tensors: dict[str, Any], dtype: Any) -> Any:
    """Return a FluxTransformer2DModel with these weights. Raises KeyError, ValueError, RuntimeError when they do not fit."""
    from accelerate import init_empty_weights
    from diffusers import FluxTransformer2DModel

    model: Any
    with init_empty_weights():
        model = FluxTransformer2DModel(**measure({key: tuple(t.shape) for key, t in tensors.items()}))
    weights = {key: tensor.to(dtype).contiguous() for key, tensor in to_diffusers(tensors).items()}
    model.load_state_dict(weights, strict=True, assign=True)
    return model.eval()


def _count(keys: Any, which: str) -> int:
    return len({found[2] for key in keys if (found := _BLOCK.match(key)) and found[1] == which})
