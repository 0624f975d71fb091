"""The parts of the starter model: stock diffusers and transformers classes, only small."""

from __future__ import annotations

from typing import Any

from tools.starter_model.palette import SIZE

LATENT_CHANNELS = 8
TEXT_WIDTH = 128
TOKENS = 77
SCHEDULE: dict[str, Any] = {
    "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "num_train_timesteps": 1000,
    "prediction_type": "v_prediction",
}  # fmt: skip


def quiet() -> None:
    """Silence the libraries' progress bars and notes; errors are still raised."""
    import diffusers
    import transformers

    for library in (diffusers, transformers):
        library.utils.logging.set_verbosity_error()
        library.utils.logging.disable_progress_bar()


def vae() -> Any:
    """Return a fresh AutoencoderKL: 128 px to 16 x 16 x 8, 1.1 M parameters, almost no noise at the start."""
    import torch
    from diffusers import AutoencoderKL

    model: Any = AutoencoderKL(
        in_channels=3, out_channels=3, block_out_channels=(32, 48, 64, 64), layers_per_block=1,
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
        latent_channels=LATENT_CHANNELS, norm_num_groups=8, sample_size=SIZE, mid_block_add_attention=False,
        force_upcast=False,
    )  # fmt: skip
    with torch.no_grad():  # the second half of quant_conv is the log-variance
        model.quant_conv.bias[LATENT_CHANNELS:] = -5.0
        model.quant_conv.weight[LATENT_CHANNELS:] *= 0.1
    return model


def unet() -> Any:
    """Return a fresh UNet2DConditionModel of two levels, 4.0 M parameters.

    Attention only at 8 x 8: at 16 x 16 it was half the cost of a step.
    """
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(
        sample_size=SIZE // 8, in_channels=LATENT_CHANNELS, out_channels=LATENT_CHANNELS, block_out_channels=(64, 128),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1, attention_head_dim=4, cross_attention_dim=TEXT_WIDTH, norm_num_groups=16,
    )  # fmt: skip


def text_encoder(tokenizer: Any) -> Any:
    """Return a fresh CLIPTextModel of three layers for the tokenizer's vocabulary."""
    from transformers import CLIPTextConfig, CLIPTextModel

    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer), hidden_size=TEXT_WIDTH, intermediate_size=4 * TEXT_WIDTH, num_hidden_layers=3,
            num_attention_heads=4, max_position_embeddings=TOKENS, projection_dim=TEXT_WIDTH, hidden_act="quick_gelu",
            bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )  # fmt: skip


def scheduler() -> Any:
    """Return the DDIMScheduler that the model is shipped with."""
    from diffusers import DDIMScheduler

    return DDIMScheduler(**SCHEDULE, clip_sample=False, set_alpha_to_one=False, steps_offset=1)


def pipeline(vae: Any, text_encoder: Any, tokenizer: Any, unet: Any) -> Any:
    """Return the parts as a StableDiffusionPipeline without a safety checker, silent."""
    from diffusers import StableDiffusionPipeline

    pipe: Any = StableDiffusionPipeline(
        vae=vae, text_encoder=text_encoder, tokenizer=tokenizer, unet=unet, scheduler=scheduler(), safety_checker=None,
        feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    pipe.set_progress_bar_config(disable=True)
    return pipe
