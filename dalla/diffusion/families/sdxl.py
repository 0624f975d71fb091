"""Stable Diffusion XL: two CLIP encoders, a U-Net that is told size and crop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dalla.diffusion import prompts, single_file
from dalla.diffusion.families.base import CONFIGS, Encoded, LoraLayout, from_folder, is_folder, text_windows, use_dtype


class StableDiffusionXL:
    """The refiner is not supported: it is another model that only finishes pictures."""

    name = "sdxl"
    flow = False
    lora = LoraLayout(
        denoiser="unet",
        attention=("to_q", "to_k", "to_v", "to_out.0"),
        full=("to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2", "proj_in", "proj_out"),
        style="kohya",
        prefixes={"unet": "lora_unet_", "text_encoder": "lora_te1_", "text_encoder_2": "lora_te2_"},
    )

    def load_pipeline(self, path: Path, dtype: Any, device: str = "cpu", *, parts: Path | None = None) -> Any:
        from diffusers import StableDiffusionXLPipeline

        if is_folder(path):
            pipe = from_folder(StableDiffusionXLPipeline, path, dtype)
        else:
            config = CONFIGS / self.name
            weights = single_file.Weights(path)
            first, second = "conditioner.embedders.0.transformer.", "conditioner.embedders.1.model."
            pipe = StableDiffusionXLPipeline(
                vae=weights.vae(config, dtype, ("first_stage_model.",), parts, "sdxl_vae"),
                text_encoder=weights.clip(config / "text_encoder", dtype, first, parts, "clip_l"),
                text_encoder_2=weights.clip(config / "text_encoder_2", dtype, second, parts, "clip_g", projection=True),
                tokenizer=single_file.clip_tokenizer(),
                tokenizer_2=single_file.clip_tokenizer(pad="!"),
                unet=weights.unet(config, dtype),
                scheduler=weights.discrete_scheduler(config),
                force_zeros_for_empty_prompt=True,
                add_watermarker=False,
            )
        pipe = use_dtype(pipe, dtype)
        return pipe.to(device) if device != "cpu" else pipe

    def image_to_image(self, pipe: Any) -> Any:
        from diffusers import StableDiffusionXLImg2ImgPipeline

        return StableDiffusionXLImg2ImgPipeline(**pipe.components, add_watermarker=False)

    def encode(self, pipe: Any, prompt: str, negative: str, guided: bool) -> Encoded:
        negative = negative if guided else ""
        if prompts.fits(pipe.tokenizer, prompt, negative):
            embeds, opposite, pooled, opposite_pooled = pipe.encode_prompt(
                prompt,
                device=pipe._execution_device,
                do_classifier_free_guidance=guided,
                negative_prompt=negative or None,  # None lets the model's own rule for an empty prompt apply
            )
        else:
            count = prompts.window_count(pipe.tokenizer, prompt, negative)
            embeds, pooled = self._long(pipe, prompt, count)
            opposite, opposite_pooled = self._long(pipe, negative, count) if guided else (None, None)
        return Encoded(
            {
                "prompt_embeds": embeds,
                "negative_prompt_embeds": opposite if guided else None,
                "pooled_prompt_embeds": pooled,
                "negative_pooled_prompt_embeds": opposite_pooled if guided else None,
            }
        )

    def _long(self, pipe: Any, text: str, count: int) -> tuple[Any, Any]:
        import torch

        states, pooled = [], None
        for tokenizer, encoder in ((pipe.tokenizer, pipe.text_encoder), (pipe.tokenizer_2, pipe.text_encoder_2)):
            ids = prompts.windows(tokenizer, text, count).to(pipe._execution_device)
            out = encoder(ids, output_hidden_states=True)
            hidden = out.hidden_states[-2]
            states.append(hidden.reshape(1, -1, hidden.shape[-1]))
            pooled = out[0][:1]
        return torch.cat(states, -1).to(pipe.unet.dtype), pooled

    def guidance(self, cfg_scale: float | None, guidance: float | None) -> dict[str, Any]:
        return {"guidance_scale": 1.0 if cfg_scale is None else cfg_scale}

    def is_guided(self, cfg_scale: float | None) -> bool:
        return cfg_scale is not None and cfg_scale > 1

    def variant(self, pipe: Any) -> str | None:
        return None

    def native_size(self, pipe: Any) -> int:
        return pipe.unet.config.sample_size * pipe.vae_scale_factor

    def size_multiple(self, pipe: Any) -> int:
        return pipe.vae_scale_factor

    def spatial(self, pipe: Any, latents: Any, width: int, height: int) -> Any:
        return latents

    def text_length(self, pipe: Any, captions: list[str], exact: bool) -> int:
        return text_windows(pipe, captions)

    def condition(self, pipe: Any, captions: list[str], length: int) -> dict[str, Any]:
        import torch

        states, pooled = [], None
        for tokenizer, encoder in ((pipe.tokenizer, pipe.text_encoder), (pipe.tokenizer_2, pipe.text_encoder_2)):
            ids = torch.cat([prompts.windows(tokenizer, text, length)[:length] for text in captions])
            out = encoder(ids.to(encoder.device), output_hidden_states=True)
            hidden = out.hidden_states[-2]
            states.append(hidden.reshape(len(captions), -1, hidden.shape[-1]))
            pooled = out[0][::length]  # of each caption's first window
        embeds = torch.cat(states, -1)
        if pipe.config.get("force_zeros_for_empty_prompt"):  # what the model was shown for "no words"
            said = torch.tensor([bool(text) for text in captions], device=embeds.device)
            embeds = embeds * said[:, None, None]
            pooled = pooled * said[:, None]
        return {"embeds": embeds, "pooled": pooled}

    def predict(self, pipe: Any, noisy: Any, level: Any, condition: dict[str, Any], sizes: Any) -> Any:
        return pipe.unet(
            noisy,
            level,
            encoder_hidden_states=condition["embeds"],
            added_cond_kwargs={"text_embeds": condition["pooled"], "time_ids": sizes.to(noisy.dtype)},
        ).sample


FAMILY = StableDiffusionXL()
