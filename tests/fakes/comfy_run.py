"""Run a checked graph: one function per node class, values as small dicts and Pillow pictures.

Raises NodeFailed with the type and the sentence ComfyUI would report.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image

from tests.fakes import comfy_draw

Value = Any


class NodeFailed(Exception):
    """A node cannot do what it was asked."""

    def __init__(self, message: str, type: str = "RuntimeError") -> None:
        super().__init__(message)
        self.type = type


class Runner:
    """Executes single nodes. `step` is called per sampling step with (value, max, preview maker)."""

    def __init__(
        self,
        models: Path,
        read_input: Callable[[str], bytes],
        log: Callable[[str], None],
        step: Callable[[int, int, Callable[[], bytes]], None],
    ) -> None:
        self._models = models
        self._read_input = read_input
        self._log = log
        self._step = step

    def run(self, kind: str, inputs: dict[str, Value]) -> tuple[Value, ...]:
        """Return the node's outputs. Saving is not done here."""
        return getattr(self, f"_{kind}")(**inputs)

    # ------------------------------------------------------------ loaders

    def _model(self, folder: str, name: str, what: str) -> dict[str, Any]:
        path = self._models / folder / name.replace("\\", "/")
        try:
            keys, _ = comfy_draw.read_keys(path)
        except (ValueError, OSError) as exc:
            raise NodeFailed(str(exc), "safetensors_rust.SafetensorError") from exc
        if any("lora" in k for k in keys):
            raise NodeFailed(f"ERROR: Could not detect model type of: {path}\n")
        whole = any(k.startswith(("first_stage_model.", "vae.", "cond_stage_model.")) for k in keys)
        family = next((f for mark, f in comfy_draw.FAMILY_OF_NAME if mark in name.lower()), "sd15")
        return {"what": what, "name": name, "family": family, "loras": [], "whole": whole}

    def _CheckpointLoaderSimple(self, ckpt_name: str) -> tuple[Value, ...]:
        model = self._model("checkpoints", ckpt_name, "MODEL")
        if not model["whole"]:
            return model, None, None
        return model, {**model, "what": "CLIP"}, {"what": "VAE"}

    def _UNETLoader(self, unet_name: str, weight_dtype: str) -> tuple[Value, ...]:
        return (self._model("diffusion_models", unet_name, "MODEL"),)

    def _clip(self, *names: str, type: str = "") -> tuple[Value, ...]:
        return ({"what": "CLIP", "name": "+".join(sorted(names)), "family": type, "loras": []},)

    def _CLIPLoader(self, clip_name: str, type: str, device: str = "default") -> tuple[Value, ...]:
        return self._clip(clip_name, type=type)

    def _DualCLIPLoader(
        self, clip_name1: str, clip_name2: str, type: str, device: str = "default"
    ) -> tuple[Value, ...]:
        return self._clip(clip_name1, clip_name2, type=type)

    def _TripleCLIPLoader(self, clip_name1: str, clip_name2: str, clip_name3: str) -> tuple[Value, ...]:
        return self._clip(clip_name1, clip_name2, clip_name3, type="sd3")

    def _VAELoader(self, vae_name: str) -> tuple[Value, ...]:
        return ({"what": "VAE"},)

    def _UpscaleModelLoader(self, model_name: str) -> tuple[Value, ...]:
        return ({"scale": 2 if "2x" in model_name else 4},)

    def _LoraLoader(
        self, model: Value, clip: Value, lora_name: str, strength_model: float, strength_clip: float
    ) -> tuple[Value, ...]:
        if strength_model == 0 and strength_clip == 0:
            return model, clip
        path = self._models / "loras" / lora_name.replace("\\", "/")
        try:
            skipped = comfy_draw.lora_effect(path, model["family"])
            keys, _ = comfy_draw.read_keys(path)
        except (ValueError, OSError) as exc:
            raise NodeFailed(str(exc), "safetensors_rust.SafetensorError") from exc
        for key in skipped:
            self._log(f"lora key not loaded: {key}")
        if not set(keys) - set(skipped):
            return model, clip
        used = [lora_name, strength_model, strength_clip]
        changed = {**model, "loras": [*model["loras"], used]}
        return changed, {**clip, "loras": [*clip["loras"], used]} if clip else clip

    def _LoraLoaderModelOnly(self, model: Value, lora_name: str, strength_model: float) -> tuple[Value, ...]:
        return self._LoraLoader(model, None, lora_name, strength_model, 0.0)[:1]

    # ------------------------------------------------------------ text, latents

    def _CLIPTextEncode(self, text: str, clip: Value) -> tuple[Value, ...]:
        if not isinstance(clip, dict):
            raise NodeFailed(
                "ERROR: clip input is invalid: None\n\nIf the clip is from a checkpoint loader node your checkpoint "
                "does not contain a valid clip or text encoder model."
            )
        return ({"text": text, "layer": clip.get("layer")},)

    def _CLIPSetLastLayer(self, clip: Value, stop_at_clip_layer: int) -> tuple[Value, ...]:
        return ({**clip, "layer": stop_at_clip_layer},)

    def _ConditioningZeroOut(self, conditioning: Value) -> tuple[Value, ...]:
        return ({"text": ""},)

    def _FluxGuidance(self, conditioning: Value, guidance: float) -> tuple[Value, ...]:
        return ({**conditioning, "guidance": guidance},)

    def _EmptyLatentImage(self, width: int, height: int, batch_size: int) -> tuple[Value, ...]:
        return ({"size": (width // 8 * 8, height // 8 * 8), "batch": batch_size},)

    _EmptySD3LatentImage = _EmptyLatentImage

    # ------------------------------------------------------------ sampling

    def _ModelSamplingFlux(self, model: Value, **shift: float) -> tuple[Value, ...]:
        return ({**model, "shift": shift},)

    _ModelSamplingSD3 = _ModelSamplingFlux

    def _KSampler(
        self,
        model: Value,
        seed: int,
        steps: int,
        cfg: float,
        sampler_name: str,
        scheduler: str,
        positive: Value,
        negative: Value,
        latent_image: Value,
        denoise: float,
    ) -> tuple[Value, ...]:
        facts = {"prompt": positive["text"], "positive": positive, "negative": negative, "seed": seed, "steps": steps}
        facts |= {"cfg": cfg, "sampler": sampler_name, "scheduler": scheduler, "model": model}
        return (self._sample(facts, latent_image, denoise, steps),)

    def _BasicGuider(self, model: Value, conditioning: Value) -> tuple[Value, ...]:
        return ({"model": model, "positive": conditioning, "prompt": conditioning["text"]},)

    def _RandomNoise(self, noise_seed: int) -> tuple[Value, ...]:
        return ({"seed": noise_seed},)

    def _KSamplerSelect(self, sampler_name: str) -> tuple[Value, ...]:
        return ({"sampler": sampler_name},)

    def _BasicScheduler(self, model: Value, scheduler: str, steps: int, denoise: float) -> tuple[Value, ...]:
        return ({"scheduler": scheduler, "steps": steps, "denoise": denoise},)

    def _SamplerCustomAdvanced(
        self, noise: Value, guider: Value, sampler: Value, sigmas: Value, latent_image: Value
    ) -> tuple[Value, ...]:
        latent = self._sample(
            {**noise, **guider, **sampler, **sigmas}, latent_image, sigmas["denoise"], sigmas["steps"]
        )
        return latent, latent

    def _sample(self, facts: dict[str, Any], latent: Value, denoise: float, steps: int) -> Value:
        bases = latent.get("pictures") or [None] * latent["batch"]
        pictures = [
            comfy_draw.draw({**facts, "index": i}, latent["size"], base, denoise) for i, base in enumerate(bases)
        ]
        for number in range(1, steps + 1):
            self._step(number, steps, lambda done=number / steps: comfy_draw.preview(pictures[0], done))
        return {**latent, "pictures": pictures}

    # ------------------------------------------------------------ pictures

    def _VAEDecode(self, samples: Value, vae: Value) -> tuple[Value, ...]:
        if vae is None:
            raise NodeFailed(
                "ERROR: VAE is invalid: None\n\nIf the VAE is from a checkpoint loader node your checkpoint does not contain a valid VAE."
            )
        pictures = samples.get("pictures") or [Image.new("RGB", samples["size"], "gray")] * samples["batch"]
        return (pictures,)

    def _VAEEncode(self, pixels: Value, vae: Value) -> tuple[Value, ...]:
        size = (pixels[0].width // 8 * 8, pixels[0].height // 8 * 8)
        return ({"size": size, "batch": len(pixels), "pictures": [p.crop((0, 0, *size)) for p in pixels]},)

    def _LoadImage(self, image: str) -> tuple[Value, ...]:
        try:
            picture = Image.open(io.BytesIO(self._read_input(image)))
            picture.load()
        except OSError as exc:
            raise NodeFailed(f"cannot identify image file '{image}'", "PIL.UnidentifiedImageError") from exc
        return [picture.convert("RGB")], None

    def _scaled(self, pictures: list[Image.Image], sizes: list[tuple[int, int]], method: str) -> tuple[Value, ...]:
        ways = {
            "lanczos": Image.Resampling.LANCZOS,
            "bicubic": Image.Resampling.BICUBIC,
            "bilinear": Image.Resampling.BILINEAR,
        }
        way = ways.get(method, Image.Resampling.NEAREST)
        return ([p.resize(size, way) for p, size in zip(pictures, sizes, strict=True)],)

    def _ImageScaleBy(self, image: Value, upscale_method: str, scale_by: float) -> tuple[Value, ...]:
        return self._scaled(
            image, [(round(p.width * scale_by), round(p.height * scale_by)) for p in image], upscale_method
        )

    def _ImageScale(self, image: Value, upscale_method: str, width: int, height: int, crop: str) -> tuple[Value, ...]:
        sizes = [
            (width or round(p.width * height / p.height), height or round(p.height * width / p.width)) for p in image
        ]
        return self._scaled(image, sizes, upscale_method)

    def _ImageUpscaleWithModel(self, upscale_model: Value, image: Value) -> tuple[Value, ...]:
        factor = upscale_model["scale"]
        return self._scaled(image, [(p.width * factor, p.height * factor) for p in image], "lanczos")
