"""Stable Diffusion 3 and 3.5: two CLIP encoders, T5 if there is one, a transformer, flow matching."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dalla.diffusion import prompts, single_file
from dalla.diffusion.families.base import CONFIGS, Encoded, LoraLayout, from_folder, is_folder, t5_length, use_dtype


class StableDiffusion3:
    """T5 is optional: the files most people have come without it, and then CLIP reads the prompt alone."""

    name = "sd3"
    flow = True
    lora = LoraLayout(
        denoiser="transformer",
        attention=("attn.to_q", "attn.to_k", "attn.to_v", "attn.to_out.0"),
        full=(
            "attn.to_q", "attn.to_k", "attn.to_v", "attn.to_out.0", "attn.add_q_proj", "attn.add_k_proj",
            "attn.add_v_proj", "attn.to_add_out", "ff.net.0.proj", "ff.net.2", "ff_context.net.0.proj",
            "ff_context.net.2",
        ),
        style="peft",
        prefixes={
            "transformer": "transformer.", "text_encoder": "text_encoder.", "text_encoder_2": "text_encoder_2.",
        },
    )  # fmt: skip

    def load_pipeline(self, path: Path, dtype: Any, device: str = "cpu", *, parts: Path | None = None) -> Any:
        from diffusers import StableDiffusion3Pipeline

        if is_folder(path):
            pipe = from_folder(StableDiffusion3Pipeline, path, dtype)
        else:
            config = CONFIGS / self.name
            weights = single_file.Weights(path)
            clip_l, clip_g = "text_encoders.clip_l.transformer.", "text_encoders.clip_g.transformer."
            t5, tokenizer_3 = weights.t5(config / "text_encoder_3", dtype, parts, required=False)
            pipe = StableDiffusion3Pipeline(
                transformer=weights.sd3_transformer(config, dtype),
                scheduler=single_file.flow_scheduler(config),
                vae=weights.vae(config, dtype, ("first_stage_model.", "vae."), parts, "sd3_vae"),
                text_encoder=weights.clip(config / "text_encoder", dtype, clip_l, parts, "clip_l", projection=True),
                tokenizer=single_file.clip_tokenizer(),
                text_encoder_2=weights.clip(config / "text_encoder_2", dtype, clip_g, parts, "clip_g", projection=True),
                tokenizer_2=single_file.clip_tokenizer(pad="!"),
                text_encoder_3=t5,
                tokenizer_3=tokenizer_3,
            )
        pipe = use_dtype(pipe, dtype)
        return pipe.to(device) if device != "cpu" else pipe

    def image_to_image(self, pipe: Any) -> Any:
        from diffusers import StableDiffusion3Img2ImgPipeline

        return StableDiffusion3Img2ImgPipeline(**pipe.components)

    def encode(self, pipe: Any, prompt: str, negative: str, guided: bool) -> Encoded:
        embeds, opposite, pooled, opposite_pooled = pipe.encode_prompt(
            prompt,
            None,
            None,
            device=pipe._execution_device,
            do_classifier_free_guidance=guided,
            negative_prompt=negative if guided else None,
        )
        notes = []
        if pipe.text_encoder_3 is None:
            notes.append(
                "Without a T5 text encoder and its tokenizer, only the model's two CLIP encoders read the prompt."
            )
            if not prompts.fits(pipe.tokenizer, prompt):
                notes.append("The prompt is longer than CLIP's 77 tokens; its end was ignored.")
        elif prompts.token_count(pipe.tokenizer_3, prompt) + 1 > 256:
            notes.append("The prompt is longer than 256 tokens; its end was ignored.")
        return Encoded(
            {
                "prompt_embeds": embeds,
                "negative_prompt_embeds": opposite if guided else None,
                "pooled_prompt_embeds": pooled,
                "negative_pooled_prompt_embeds": opposite_pooled if guided else None,
            },
            notes,
        )

    def guidance(self, cfg_scale: float | None, guidance: float | None) -> dict[str, Any]:
        return {"guidance_scale": 1.0 if cfg_scale is None else cfg_scale}

    def is_guided(self, cfg_scale: float | None) -> bool:
        return cfg_scale is not None and cfg_scale > 1

    def variant(self, pipe: Any) -> str | None:
        config = pipe.transformer.config
        if config.get("qk_norm") is None:
            return "medium"
        return "3-5-medium" if config.get("dual_attention_layers") else "3-5-large"

    def native_size(self, pipe: Any) -> int:
        return pipe.transformer.config.sample_size * pipe.vae_scale_factor

    def size_multiple(self, pipe: Any) -> int:
        return pipe.vae_scale_factor * pipe.transformer.config.patch_size

    def spatial(self, pipe: Any, latents: Any, width: int, height: int) -> Any:
        return latents

    def text_length(self, pipe: Any, captions: list[str], exact: bool) -> int:
        if pipe.text_encoder_3 is None:
            return 256  # the place of T5's words is filled with zeros, as in drawing
        return t5_length(pipe.tokenizer_3, captions, 256, exact)

    def condition(self, pipe: Any, captions: list[str], length: int) -> dict[str, Any]:
        embeds, _, pooled, _ = pipe.encode_prompt(
            captions, None, None, device=pipe.text_encoder.device, do_classifier_free_guidance=False,
            max_sequence_length=length,
        )  # fmt: skip
        return {"embeds": embeds, "pooled": pooled}

    def predict(self, pipe: Any, noisy: Any, level: Any, condition: dict[str, Any], sizes: Any) -> Any:
        return pipe.transformer(
            hidden_states=noisy,
            timestep=level * pipe.scheduler.config.num_train_timesteps,
            encoder_hidden_states=condition["embeds"],
            pooled_projections=condition["pooled"],
        ).sample


FAMILY = StableDiffusion3()
