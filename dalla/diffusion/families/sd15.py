"""Stable Diffusion 1.x (and every model of its layout, such as the built-in starter model)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dalla.diffusion import prompts, single_file
from dalla.diffusion.families.base import CONFIGS, Encoded, LoraLayout, from_folder, is_folder, text_windows, use_dtype


class StableDiffusion15:
    """One CLIP encoder, a U-Net, classifier-free guidance."""

    name = "sd15"
    flow = False
    lora = LoraLayout(
        denoiser="unet",
        attention=("to_q", "to_k", "to_v", "to_out.0"),
        full=("to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2", "proj_in", "proj_out"),
        style="kohya",
        prefixes={"unet": "lora_unet_", "text_encoder": "lora_te_"},
    )

    def load_pipeline(self, path: Path, dtype: Any, device: str = "cpu", *, parts: Path | None = None) -> Any:
        from diffusers import StableDiffusionPipeline

        nothing: dict[str, Any] = {"safety_checker": None, "feature_extractor": None, "image_encoder": None}
        if is_folder(path):
            pipe = from_folder(StableDiffusionPipeline, path, dtype, **nothing, requires_safety_checker=False)
        else:
            config = CONFIGS / self.name
            weights = single_file.Weights(path)
            pipe = StableDiffusionPipeline(
                vae=weights.vae(config, dtype, ("first_stage_model.",), parts, "sd_vae"),
                text_encoder=weights.clip(
                    config / "text_encoder", dtype, "cond_stage_model.transformer.", parts, "clip_l"
                ),
                tokenizer=single_file.clip_tokenizer(),
                unet=weights.unet(config, dtype),
                scheduler=weights.discrete_scheduler(config),
                **nothing,
                requires_safety_checker=False,
            )
        pipe = use_dtype(pipe, dtype)
        return pipe.to(device) if device != "cpu" else pipe

    def image_to_image(self, pipe: Any) -> Any:
        from diffusers import StableDiffusionImg2ImgPipeline

        return StableDiffusionImg2ImgPipeline(**pipe.components, requires_safety_checker=False)

    def encode(self, pipe: Any, prompt: str, negative: str, guided: bool) -> Encoded:
        negative = negative if guided else ""
        if prompts.fits(pipe.tokenizer, prompt, negative):
            embeds, opposite = pipe.encode_prompt(
                prompt, pipe._execution_device, 1, guided, negative_prompt=negative if guided else None
            )
        else:
            count = prompts.window_count(pipe.tokenizer, prompt, negative)
            embeds = self._long(pipe, prompt, count)
            opposite = self._long(pipe, negative, count) if guided else None
        return Encoded({"prompt_embeds": embeds, "negative_prompt_embeds": opposite if guided else None})

    def _long(self, pipe: Any, text: str, count: int) -> Any:
        ids = prompts.windows(pipe.tokenizer, text, count).to(pipe._execution_device)
        hidden = pipe.text_encoder(ids)[0]
        return hidden.reshape(1, -1, hidden.shape[-1]).to(pipe.unet.dtype)

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

        ids = torch.cat([prompts.windows(pipe.tokenizer, text, length)[:length] for text in captions])
        hidden = pipe.text_encoder(ids.to(pipe.text_encoder.device))[0]
        return {"embeds": hidden.reshape(len(captions), -1, hidden.shape[-1])}

    def predict(self, pipe: Any, noisy: Any, level: Any, condition: dict[str, Any], sizes: Any) -> Any:
        return pipe.unet(noisy, level, encoder_hidden_states=condition["embeds"]).sample


FAMILY = StableDiffusion15()
