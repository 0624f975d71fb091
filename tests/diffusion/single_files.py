"""Tiny single files in the layouts that checkpoints are published in: key names and shapes, random numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

Tensors = dict[str, Any]


class Layout:
    """Collects tensors by key."""

    def __init__(self) -> None:
        self.tensors: Tensors = {}

    def layer(self, key: str, *shape: int, bias: bool = True) -> None:
        fan_in = 1
        for size in shape[1:]:
            fan_in *= size
        self.tensors[key + ".weight"] = torch.randn(*shape) / fan_in**0.5
        if bias:
            self.tensors[key + ".bias"] = torch.zeros(shape[0])

    def norm(self, key: str, size: int) -> None:
        self.tensors[key + ".weight"] = torch.ones(size)
        self.tensors[key + ".bias"] = torch.zeros(size)

    def under(self, prefix: str) -> Tensors:
        return {prefix + key: value.half() for key, value in self.tensors.items()}


def unet(
    ch: int, mult: tuple[int, ...], depth: tuple[int, ...], context: int, *, linear: bool, added: int = 0
) -> Layout:
    out, time = Layout(), ch * 4
    out.layer("time_embed.0", time, ch)
    out.layer("time_embed.2", time, time)
    if added:
        out.layer("label_emb.0.0", time, added)
        out.layer("label_emb.0.2", time, time)

    def residual(key: str, i: int, o: int) -> None:
        out.norm(f"{key}.in_layers.0", i)
        out.layer(f"{key}.in_layers.2", o, i, 3, 3)
        out.layer(f"{key}.emb_layers.1", o, time)
        out.norm(f"{key}.out_layers.0", o)
        out.layer(f"{key}.out_layers.3", o, o, 3, 3)
        if i != o:
            out.layer(f"{key}.skip_connection", o, i, 1, 1)

    def attention(key: str, c: int, blocks: int) -> None:
        out.norm(f"{key}.norm", c)
        for name in ("proj_in", "proj_out"):
            out.layer(f"{key}.{name}", *((c, c) if linear else (c, c, 1, 1)))
        for n in range(blocks):
            block = f"{key}.transformer_blocks.{n}"
            for name, width in (("attn1", c), ("attn2", context)):
                out.layer(f"{block}.{name}.to_q", c, c, bias=False)
                out.layer(f"{block}.{name}.to_k", c, width, bias=False)
                out.layer(f"{block}.{name}.to_v", c, width, bias=False)
                out.layer(f"{block}.{name}.to_out.0", c, c)
            out.layer(f"{block}.ff.net.0.proj", c * 8, c)
            out.layer(f"{block}.ff.net.2", c, c * 4)
            for norm in (1, 2, 3):
                out.norm(f"{block}.norm{norm}", c)

    out.layer("input_blocks.0.0", ch, 4, 3, 3)
    passed, c, number = [ch], ch, 1
    for level, factor in enumerate(mult):
        residual(f"input_blocks.{number}.0", c, ch * factor)
        c = ch * factor
        if depth[level]:
            attention(f"input_blocks.{number}.1", c, depth[level])
        passed.append(c)
        number += 1
        if level + 1 < len(mult):
            out.layer(f"input_blocks.{number}.0.op", c, c, 3, 3)
            passed.append(c)
            number += 1
    residual("middle_block.0", c, c)
    attention("middle_block.1", c, depth[-1] or 1)
    residual("middle_block.2", c, c)
    number = 0
    for level in reversed(range(len(mult))):
        for last in (False, True):
            residual(f"output_blocks.{number}.0", c + passed.pop(), ch * mult[level])
            c = ch * mult[level]
            if depth[level]:
                attention(f"output_blocks.{number}.1", c, depth[level])
            if level and last:
                out.layer(f"output_blocks.{number}.{2 if depth[level] else 1}.conv", c, c, 3, 3)
            number += 1
    out.norm("out.0", ch)
    out.layer("out.2", 4, ch, 3, 3)
    return out


def vae(latent: int, *, quant: bool, ch: int = 32, mult: tuple[int, ...] = (1, 2)) -> Layout:
    out = Layout()

    def residual(key: str, i: int, o: int) -> None:
        out.norm(f"{key}.norm1", i)
        out.layer(f"{key}.conv1", o, i, 3, 3)
        out.norm(f"{key}.norm2", o)
        out.layer(f"{key}.conv2", o, o, 3, 3)
        if i != o:
            out.layer(f"{key}.nin_shortcut", o, i, 1, 1)

    def middle(key: str, c: int) -> None:
        residual(f"{key}.mid.block_1", c, c)
        out.norm(f"{key}.mid.attn_1.norm", c)
        for name in ("q", "k", "v", "proj_out"):
            out.layer(f"{key}.mid.attn_1.{name}", c, c, 1, 1)
        residual(f"{key}.mid.block_2", c, c)

    c = ch
    out.layer("encoder.conv_in", ch, 3, 3, 3)
    for i, factor in enumerate(mult):
        residual(f"encoder.down.{i}.block.0", c, ch * factor)
        c = ch * factor
        if i + 1 < len(mult):
            out.layer(f"encoder.down.{i}.downsample.conv", c, c, 3, 3)
    middle("encoder", c)
    out.norm("encoder.norm_out", c)
    out.layer("encoder.conv_out", 2 * latent, c, 3, 3)
    out.layer("decoder.conv_in", c, latent, 3, 3)
    middle("decoder", c)
    for i in reversed(range(len(mult))):
        for n in range(2):
            residual(f"decoder.up.{i}.block.{n}", c, ch * mult[i])
            c = ch * mult[i]
        if i:
            out.layer(f"decoder.up.{i}.upsample.conv", c, c, 3, 3)
    out.norm("decoder.norm_out", c)
    out.layer("decoder.conv_out", 3, c, 3, 3)
    if quant:
        out.layer("quant_conv", 2 * latent, 2 * latent, 1, 1)
        out.layer("post_quant_conv", latent, latent, 1, 1)
    return out


def clip(width: int, layers: int = 1, *, projection: bool = False) -> Layout:
    out = Layout()
    out.tensors["text_model.embeddings.position_embedding.weight"] = torch.randn(77, width) * 0.02
    out.tensors["text_model.embeddings.token_embedding.weight"] = torch.randn(49408, width) * 0.02
    for n in range(layers):
        key = f"text_model.encoder.layers.{n}"
        out.norm(f"{key}.layer_norm1", width)
        out.norm(f"{key}.layer_norm2", width)
        out.layer(f"{key}.mlp.fc1", width * 2, width)
        out.layer(f"{key}.mlp.fc2", width, width * 2)
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            out.layer(f"{key}.self_attn.{name}", width, width)
    out.norm("text_model.final_layer_norm", width)
    if projection:
        out.layer("text_projection", width, width, bias=False)
    return out


def open_clip(width: int, layers: int = 1) -> Layout:
    out = Layout()
    out.tensors["positional_embedding"] = torch.randn(77, width) * 0.02
    out.tensors["token_embedding.weight"] = torch.randn(49408, width) * 0.02
    out.tensors["text_projection"] = torch.randn(width, width) / width**0.5
    out.tensors["logit_scale"] = torch.tensor(4.6)
    for n in range(layers):
        key = f"transformer.resblocks.{n}"
        out.tensors[f"{key}.attn.in_proj_weight"] = torch.randn(3 * width, width) / width**0.5
        out.tensors[f"{key}.attn.in_proj_bias"] = torch.zeros(3 * width)
        out.layer(f"{key}.attn.out_proj", width, width)
        out.norm(f"{key}.ln_1", width)
        out.norm(f"{key}.ln_2", width)
        out.layer(f"{key}.mlp.c_fc", width * 2, width)
        out.layer(f"{key}.mlp.c_proj", width, width * 2)
    out.norm("ln_final", width)
    return out


def sd3_transformer(width: int, context: int, pooled: int, layers: int = 2, latent: int = 16) -> Layout:
    out = Layout()
    out.tensors["pos_embed"] = torch.randn(1, 24 * 24, width) * 0.02
    out.layer("x_embedder.proj", width, latent, 2, 2)
    for name, size in (("t_embedder", 256), ("y_embedder", pooled)):
        out.layer(f"{name}.mlp.0", width, size)
        out.layer(f"{name}.mlp.2", width, width)
    out.layer("context_embedder", width, context)
    for n in range(layers):
        for side in ("context_block", "x_block"):
            key = f"joint_blocks.{n}.{side}"
            ends = side == "context_block" and n == layers - 1  # the last block has no text output
            out.layer(f"{key}.adaLN_modulation.1", (2 if ends else 6) * width, width)
            out.layer(f"{key}.attn.qkv", 3 * width, width)
            if not ends:
                out.layer(f"{key}.attn.proj", width, width)
                out.layer(f"{key}.mlp.fc1", 4 * width, width)
                out.layer(f"{key}.mlp.fc2", width, 4 * width)
    out.layer("final_layer.linear", 4 * latent, width)
    out.layer("final_layer.adaLN_modulation.1", 2 * width, width)
    return out


def flux_transformer(width: int, head: int, context: int, pooled: int, channels: int = 64) -> Layout:
    """One double and one single block, with the guidance of FLUX.1-dev."""
    out = Layout()
    for name, size in (("time_in", 256), ("vector_in", pooled), ("guidance_in", 256)):
        out.layer(f"{name}.in_layer", width, size)
        out.layer(f"{name}.out_layer", width, width)
    out.layer("img_in", width, channels)
    out.layer("txt_in", width, context)

    def scales(key: str) -> None:
        for name in ("query_norm", "key_norm"):
            out.tensors[f"{key}.norm.{name}.scale"] = torch.ones(head)

    for side in ("img", "txt"):
        key = f"double_blocks.0.{side}"
        out.layer(f"{key}_mod.lin", 6 * width, width)
        out.layer(f"{key}_attn.qkv", 3 * width, width)
        scales(f"{key}_attn")
        out.layer(f"{key}_attn.proj", width, width)
        out.layer(f"{key}_mlp.0", 4 * width, width)
        out.layer(f"{key}_mlp.2", width, 4 * width)
    out.layer("single_blocks.0.modulation.lin", 3 * width, width)
    out.layer("single_blocks.0.linear1", 7 * width, width)
    out.layer("single_blocks.0.linear2", width, 5 * width)
    scales("single_blocks.0")
    out.layer("final_layer.linear", channels, width)
    out.layer("final_layer.adaLN_modulation.1", 2 * width, width)
    return out


def t5(width: int, words: int = 64, layers: int = 1) -> Layout:
    """One head, 64 wide as all of T5-XXL's are."""
    out = Layout()
    out.tensors["shared.weight"] = torch.randn(words, width)
    for n in range(layers):
        key = f"encoder.block.{n}.layer"
        for name in "qkv":
            out.layer(f"{key}.0.SelfAttention.{name}", 64, width, bias=False)
        out.layer(f"{key}.0.SelfAttention.o", width, 64, bias=False)
        out.layer(f"{key}.1.DenseReluDense.wi_0", 2 * width, width, bias=False)
        out.layer(f"{key}.1.DenseReluDense.wi_1", 2 * width, width, bias=False)
        out.layer(f"{key}.1.DenseReluDense.wo", width, 2 * width, bias=False)
        for part in (0, 1):
            out.tensors[f"{key}.{part}.layer_norm.weight"] = torch.ones(width)
    out.tensors["encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"] = torch.randn(32, 1)
    out.tensors["encoder.final_layer_norm.weight"] = torch.ones(width)
    return out


def models_folder(path: Path) -> Path:
    """Make a models folder with the one thing no FLUX file carries: T5's tokenizer."""
    from tests.diffusion import tiny

    tiny.t5_tokenizer().save_pretrained(path / "tokenizers" / "t5")
    return path


def write(family: str, path: Path) -> Path:
    """Write a file that has everything in it. The same family is the same file every time."""
    torch.manual_seed(5)
    if family == "sd15":
        tensors = (
            unet(32, (1, 2), (0, 1), 64, linear=False).under("model.diffusion_model.")
            | vae(4, quant=True).under("first_stage_model.")
            | clip(64).under("cond_stage_model.transformer.")
        )
    elif family == "sdxl":
        tensors = (
            unet(64, (1, 2), (0, 2), 128, linear=True, added=64 + 6 * 256).under("model.diffusion_model.")
            | vae(4, quant=True).under("first_stage_model.")
            | clip(64).under("conditioner.embedders.0.transformer.")
            | open_clip(64).under("conditioner.embedders.1.model.")
        )
    elif family == "flux":
        tensors = (
            flux_transformer(64, 32, 32, 64).under("model.diffusion_model.")
            | vae(16, quant=False).under("first_stage_model.")
            | clip(64).under("text_encoders.clip_l.transformer.")
            | t5(32).under("text_encoders.t5xxl.transformer.")
        )
    else:
        tensors = (
            sd3_transformer(64, 4096, 128).under("model.diffusion_model.")
            | vae(16, quant=False).under("first_stage_model.")
            | clip(64, projection=True).under("text_encoders.clip_l.transformer.")
            | clip(64, projection=True).under("text_encoders.clip_g.transformer.")
        )
    save_file(tensors, path)
    return path
