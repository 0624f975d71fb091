"""Random models of every family, a few hundred kilobytes each, built by diffusers' own classes.

They draw noise, but through the same code as the real ones: folders on disk, encoders, denoiser, VAE.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    T5Config,
    T5EncoderModel,
    T5Tokenizer,
)

BETAS = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "clip_sample": False,
    "steps_offset": 1,
}
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789,.-'"


def clip_tokenizer() -> CLIPTokenizer:
    words = [*LETTERS, *(c + "</w>" for c in LETTERS), "<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(vocab={word: n for n, word in enumerate(words)}, merges=[], model_max_length=77)


def t5_tokenizer() -> T5Tokenizer:
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0), *((c, -3.0) for c in LETTERS)]
    return T5Tokenizer(vocab=pieces, extra_ids=0)


def clip(width: int = 32, *, projection: bool = False) -> Any:
    tokenizer = clip_tokenizer()
    config = CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=width, intermediate_size=37, num_hidden_layers=2, num_attention_heads=2,
        projection_dim=width, bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    return (CLIPTextModelWithProjection if projection else CLIPTextModel)(config).eval()


def t5(width: int = 32) -> T5EncoderModel:
    return T5EncoderModel(
        T5Config(
            vocab_size=64, d_model=width, d_kv=8, d_ff=37, num_layers=2, num_heads=4, feed_forward_proj="gated-gelu"
        )
    ).eval()


def vae(channels: int = 4, *, quant: bool = True) -> AutoencoderKL:
    return AutoencoderKL(
        block_out_channels=(16, 16), layers_per_block=1, norm_num_groups=8, latent_channels=channels, sample_size=64,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
        use_quant_conv=quant, use_post_quant_conv=quant, shift_factor=None if quant else 0.06,
    )  # fmt: skip


def unet(**more: Any) -> UNet2DConditionModel:
    values: dict[str, Any] = {
        "sample_size": 32, "block_out_channels": (32, 64), "layers_per_block": 1, "norm_num_groups": 8,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"), "cross_attention_dim": 32, "attention_head_dim": 4,
    }  # fmt: skip
    return UNet2DConditionModel(**(values | more))


def sd15() -> Any:
    return StableDiffusionPipeline(
        vae=vae(), text_encoder=clip(), tokenizer=clip_tokenizer(), unet=unet(), scheduler=DDIMScheduler(**BETAS),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip


def sdxl() -> Any:
    return StableDiffusionXLPipeline(
        vae=vae(), text_encoder=clip(), text_encoder_2=clip(projection=True), tokenizer=clip_tokenizer(),
        tokenizer_2=clip_tokenizer(), scheduler=DDIMScheduler(**BETAS, prediction_type="v_prediction"),
        unet=unet(
            cross_attention_dim=64, addition_embed_type="text_time", addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=32 + 6 * 8, use_linear_projection=True,
            transformer_layers_per_block=(1, 2),
        ),
        add_watermarker=False,
    )  # fmt: skip


def sd3() -> Any:
    transformer = SD3Transformer2DModel(
        sample_size=32, patch_size=2, in_channels=4, num_layers=2, attention_head_dim=8, num_attention_heads=4,
        caption_projection_dim=32, joint_attention_dim=32, pooled_projection_dim=64, out_channels=4, pos_embed_max_size=32,
    )  # fmt: skip
    return StableDiffusion3Pipeline(
        transformer=transformer, scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0), vae=vae(4, quant=False),
        text_encoder=clip(projection=True), text_encoder_2=clip(projection=True), text_encoder_3=t5(),
        tokenizer=clip_tokenizer(), tokenizer_2=clip_tokenizer(), tokenizer_3=t5_tokenizer(),
    )  # fmt: skip


def flux() -> Any:
    transformer = FluxTransformer2DModel(
        patch_size=1, in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=32, pooled_projection_dim=32, axes_dims_rope=(4, 4, 8), guidance_embeds=True,
    )  # fmt: skip
    return FluxPipeline(
        transformer=transformer, vae=vae(4, quant=False), text_encoder=clip(), text_encoder_2=t5(),
        tokenizer=clip_tokenizer(), tokenizer_2=t5_tokenizer(),
        scheduler=FlowMatchEulerDiscreteScheduler(
            use_dynamic_shifting=True, base_image_seq_len=256, max_image_seq_len=4096, base_shift=0.5, max_shift=1.15
        ),
    )  # fmt: skip


PIPELINES = {"sd15": sd15, "sdxl": sdxl, "sd3": sd3, "flux": flux}


def save(family: str, folder: Path) -> Path:
    """Write a model folder. The same family is the same weights every time."""
    torch.manual_seed(11)
    path = folder / f"tiny-{family}"
    PIPELINES[family]().save_pretrained(path)
    return path
