"""Small .safetensors files with the names of real ones, for the shelf. Only headers matter; the tensors are zeros or ones."""

from __future__ import annotations

import json
import math
from pathlib import Path

SD15 = {
    "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight": (32, 768),
    "model.diffusion_model.input_blocks.0.0.weight": (32, 4, 3, 3),
    "first_stage_model.decoder.conv_in.weight": (16, 4, 3, 3),
    "cond_stage_model.transformer.text_model.encoder.layers.0.weight": (8, 8),
}
LORA = {
    "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k.lora_down.weight": (4, 768),
    "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k.lora_up.weight": (32, 4),
}
VAE = {"decoder.conv_in.weight": (16, 4, 3, 3), "encoder.down.0.block.0.conv1.weight": (8, 8, 3, 3)}


def weights_file(path: Path, tensors: dict[str, tuple[int, ...]], metadata: dict[str, str] | None = None, fill: int = 1) -> Path:  # fmt: skip
    """Write 16-bit tensors of one byte value; return the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    table: dict[str, object] = {"__metadata__": metadata} if metadata else {}
    end = 0
    for name, shape in tensors.items():
        size = math.prod(shape) * 2
        table[name] = {"dtype": "F16", "shape": list(shape), "data_offsets": [end, end + size]}
        end += size
    header = json.dumps(table).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes([fill]) * end)
    return path
