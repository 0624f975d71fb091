"""FLUX.1 (dev and schnell): CLIP and T5 read the prompt, a transformer draws, guidance is distilled."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dalla.diffusion import prompts, single_file
from dalla.diffusion.families.base import CONFIGS, Encoded, LoraLayout, from_folder, is_folder, t5_length, use_dtype


class Flux:
    """There is no negative prompt: the model was distilled to need no second pass."""

    name = "flux"
    flow = True
    lora = LoraLayout(
        denoiser="transformer",
        attention=("attn.to_q", "attn.to_k", "attn.to_v", "attn.to_out.0"),
        full=(
            "attn.to_q", "attn.to_k", "attn.to_v", "attn.to_out.0", "attn.add_q_proj", "attn.add_k_proj",
            "attn.add_v_proj", "attn.to_add_out", "ff.net.0.proj", "ff.net.2", "ff_context.net.0.proj",
            "ff_context.net.2", "proj_mlp", "proj_out",
        ),
        style="peft",
        prefixes={"transformer": "transformer.", "text_encoder": "text_encoder."},
    )  # fmt: skip

    def load_pipeline(self, path: Path, dtype: Any, device: str = "cpu", *, parts: Path | None = None) -> Any:
        from diffusers import FluxPipeline

        if is_folder(path):
            pipe = from_folder(FluxPipeline, path, dtype)
        else:
            config = CONFIGS / self.name
            weights = single_file.Weights(path)
            t5, tokenizer_2 = weights.t5(config / "text_encoder_2", dtype, parts, required=True)
            clip_l = "text_encoders.clip_l.transformer."
            pipe = FluxPipeline(
                text_encoder=weights.clip(config / "text_encoder", dtype, clip_l, parts, "clip_l"),
                tokenizer=single_file.clip_tokenizer(),
                text_encoder_2=t5,
                tokenizer_2=tokenizer_2,
                vae=weights.vae(config, dtype, ("first_stage_model.", "vae."), parts, "ae"),
                transformer=weights.flux_transformer(dtype),
                scheduler=single_file.flow_scheduler(config, schnell=not weights.flux_has_guidance()),
            )
        pipe = use_dtype(pipe, dtype)
        return pipe.to(device) if device != "cpu" else pipe

    def image_to_image(self, pipe: Any) -> Any:
        from diffusers import FluxImg2ImgPipeline

        return FluxImg2ImgPipeline(**pipe.components)

    def encode(self, pipe: Any, prompt: str, negative: str, guided: bool) -> Encoded:
        room = _room(pipe)
        embeds, pooled, _ = pipe.encode_prompt(prompt, None, device=pipe._execution_device, max_sequence_length=room)
        notes = []
        if prompts.token_count(pipe.tokenizer_2, prompt) + 1 > room:
            notes.append(f"The prompt is longer than {room} tokens; its end was ignored.")
        return Encoded({"prompt_embeds": embeds, "pooled_prompt_embeds": pooled}, notes)

    def guidance(self, cfg_scale: float | None, guidance: float | None) -> dict[str, Any]:
        return {"guidance_scale": 3.5 if guidance is None else guidance}

    def is_guided(self, cfg_scale: float | None) -> bool:
        return False

    def variant(self, pipe: Any) -> str | None:
        return "dev" if pipe.transformer.config.guidance_embeds else "schnell"

    def native_size(self, pipe: Any) -> int:
        return pipe.default_sample_size * pipe.vae_scale_factor

    def size_multiple(self, pipe: Any) -> int:
        return pipe.vae_scale_factor * 2  # latents are packed in 2x2 patches

    def spatial(self, pipe: Any, latents: Any, width: int, height: int) -> Any:
        return pipe._unpack_latents(latents, height, width, pipe.vae_scale_factor)

    def text_length(self, pipe: Any, captions: list[str], exact: bool) -> int:
        return t5_length(pipe.tokenizer_2, captions, _room(pipe), exact)

    def condition(self, pipe: Any, captions: list[str], length: int) -> dict[str, Any]:
        device = pipe.text_encoder.device
        embeds, pooled, _ = pipe.encode_prompt(captions, None, device=device, max_sequence_length=length)
        return {"embeds": embeds, "pooled": pooled}

    def predict(self, pipe: Any, noisy: Any, level: Any, condition: dict[str, Any], sizes: Any) -> Any:
        import torch

        batch, channels, height, width = noisy.shape
        ids = pipe._prepare_latent_image_ids(batch, height // 2, width // 2, noisy.device, noisy.dtype)
        words = condition["embeds"]
        distilled = pipe.transformer.config.guidance_embeds
        packed = pipe.transformer(
            hidden_states=pipe._pack_latents(noisy, batch, channels, height, width),
            timestep=level,
            # trained at 1, so that drawing at 3.5 still pushes away from the average
            guidance=torch.ones(batch, device=noisy.device, dtype=torch.float32) if distilled else None,
            pooled_projections=condition["pooled"],
            encoder_hidden_states=words,
            txt_ids=torch.zeros(words.shape[1], 3, device=noisy.device, dtype=noisy.dtype),
            img_ids=ids,
        ).sample
        factor = pipe.vae_scale_factor
        return pipe._unpack_latents(packed, height * factor, width * factor, factor)


def _room(pipe: Any) -> int:
    return 512 if pipe.transformer.config.guidance_embeds else 256  # schnell was trained with 256


FAMILY = Flux()
