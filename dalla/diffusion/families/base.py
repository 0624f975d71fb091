"""What a model family promises: one file per family loads it, calls it and names its LoRA parts.

The generator and the trainer use the same files, so a family that can be trained can be drawn with.
Each family stands alone; nothing here is inherited. Sizes, channels and prediction type are read
from the model, never assumed: there are Stable Diffusion models with 8 latent channels at 128 px.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from dalla.errors import NotConfigured, StorageError

CONFIGS = Path(__file__).resolve().parent.parent / "configs"


@dataclass(frozen=True)
class LoraLayout:
    """Where LoRA layers go and how their keys are named in a file.

    `denoiser` is the pipeline's attribute ("unet" or "transformer"). `attention` are the module
    names (PEFT `target_modules`: suffixes) that carry a likeness cheaply; `full` adds the
    feed-forward and projection layers. `text` is for the text encoders of `text_encoders`.
    `style` is the key format every program reads for this family: "kohya" with `.alpha` tensors,
    or "peft" with the scale folded into the up matrix (no alpha anywhere).
    """

    denoiser: str
    attention: tuple[str, ...]
    full: tuple[str, ...]
    style: str
    prefixes: dict[str, str]  # pipeline attribute -> prefix of its keys
    text: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "out_proj")

    def keys(self, component: str, module: str) -> tuple[str, str, str | None]:
        """Return (down, up, alpha) key names for a module path inside a component.

        The alpha key is None for families whose files carry no alpha. CLIP paths are written with
        their `text_model.` level, which newer libraries have dropped and other programs expect.
        """
        if component != self.denoiser and not module.startswith("text_model."):
            module = f"text_model.{module}"
        if self.style == "kohya":
            stem = self.prefixes[component] + module.replace(".", "_")
            return f"{stem}.lora_down.weight", f"{stem}.lora_up.weight", f"{stem}.alpha"
        stem = self.prefixes[component] + module
        return f"{stem}.lora_A.weight", f"{stem}.lora_B.weight", None


@dataclass
class Encoded:
    """A prompt as tensors: keyword arguments for the pipeline, and what the user should know."""

    arguments: dict[str, Any]
    notes: list[str] = field(default_factory=list)


class Family(Protocol):
    """A family of models. Implementations are modules' `FAMILY` objects: sd15, sdxl, sd3, flux."""

    name: str
    flow: bool  # flow matching instead of a beta schedule
    lora: LoraLayout

    def load_pipeline(self, path: Path, dtype: Any, device: str = "cpu", *, parts: Path | None = None) -> Any:
        """Load a diffusers folder or one .safetensors file into a text-to-image pipeline.

        `parts` is the models folder, in which missing pieces (text encoders, VAE, T5 tokenizer)
        are looked for. Raises NotConfigured naming the missing piece, StorageError for a broken file.
        """

    def image_to_image(self, pipe: Any) -> Any:
        """Return the image-to-image pipeline over the same weights (nothing is copied)."""

    def encode(self, pipe: Any, prompt: str, negative: str, guided: bool) -> Encoded:
        """Encode the prompt once for all pictures of a call. `guided`: the negative prompt counts."""

    def guidance(self, cfg_scale: float | None, guidance: float | None) -> dict[str, Any]:
        """Return the pipeline's guidance arguments. Whichever does not apply here is ignored."""

    def is_guided(self, cfg_scale: float | None) -> bool:
        """Say whether classifier-free guidance is computed, so the negative prompt is needed."""

    def variant(self, pipe: Any) -> str | None:
        """Return which of the family's models this is, in kohya's words, read from its layout; None if there is one."""

    def native_size(self, pipe: Any) -> int:
        """Return the side in px the model was trained at, read from the model."""

    def size_multiple(self, pipe: Any) -> int:
        """Return what width and height must be multiples of, read from the model."""

    def spatial(self, pipe: Any, latents: Any, width: int, height: int) -> Any:
        """Return latents as (batch, channels, height, width), for previews."""

    def text_length(self, pipe: Any, captions: list[str], exact: bool) -> int:
        """Return the text length all these captions are encoded with in training, in the unit of `condition`.

        U-Nets: windows of 77 tokens (at most 3). Transformers: T5 tokens; the model's own number if `exact`,
        else the longest caption rounded up to 64, which is quicker.
        """

    def condition(self, pipe: Any, captions: list[str], length: int) -> dict[str, Any]:
        """Encode captions for training: tensors with the captions as first dimension, on the encoders' device.

        Gradients flow through encoders that are being trained; the caller decides about `no_grad`.
        """

    def predict(self, pipe: Any, noisy: Any, level: Any, condition: dict[str, Any], sizes: Any) -> Any:
        """Run the denoiser once: (batch, channels, height, width) in and out, in latents.

        `level` is (batch,): timesteps for a beta schedule, sigmas from 0 to 1 for flow matching. `sizes` is
        (batch, 6) in px: original height and width, crop top and left, trained height and width.
        """


def text_windows(pipe: Any, captions: list[str]) -> int:
    """Return how many 77-token windows the longest caption needs, at most 3."""
    from dalla.diffusion import prompts

    return min(3, prompts.window_count(pipe.tokenizer, *captions)) if captions else 1


def t5_length(tokenizer: Any, captions: list[str], most: int, exact: bool) -> int:
    """Return the T5 length for training: `most`, or the longest caption rounded up to 64."""
    from dalla.diffusion import prompts

    if exact:
        return most
    longest = max((prompts.token_count(tokenizer, caption) + 1 for caption in captions), default=1)
    return min(most, -(-longest // 64) * 64)


def from_folder(pipeline_class: Any, path: Path, dtype: Any, **components: Any) -> Any:
    """Load a diffusers folder without ever asking a hub. Raises StorageError when it is incomplete."""
    try:
        return pipeline_class.from_pretrained(
            str(path), dtype=dtype, local_files_only=True, low_cpu_mem_usage=True, **_variant(path), **components
        )
    except (OSError, ValueError, KeyError) as exc:
        raise StorageError(
            f"The model folder '{path.name}' cannot be loaded: {str(exc).splitlines()[0][:300]}",
            remedy="Copy the complete folder again (model_index.json and every subfolder it names).",
        ) from exc


def use_dtype(pipe: Any, dtype: Any) -> Any:
    """Give every network the same number format: a text encoder's own config may name another."""
    import torch

    for part in pipe.components.values():
        if isinstance(part, torch.nn.Module) and next(part.parameters()).dtype != dtype:
            part.to(dtype)
    return pipe


def is_folder(path: Path) -> bool:
    return (path / "model_index.json").is_file()


def read_config(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text("utf-8"))


def find_part(parts: Path | None, folder: str, patterns: tuple[str, ...], what: str, needed_by: str) -> Path:
    """Find a weights file in a subfolder of the models folder. Raises NotConfigured naming it."""
    if parts is not None:
        for pattern in patterns:
            found = sorted((parts / folder).glob(pattern))
            if found:
                return found[0]
    raise NotConfigured(
        f"{needed_by} holds no {what}.",
        remedy=f"Put the {what} into {parts / folder if parts else 'models/' + folder} as {patterns[0]}, "
        "or use a checkpoint file that has everything in it.",
    )


def _variant(path: Path) -> dict[str, str]:
    """Choose half-precision weights where a folder holds nothing else."""
    weights = [p.name for p in path.glob("*/*.safetensors")]
    plain = [n for n in weights if not n.endswith(".fp16.safetensors") and ".fp16-" not in n]
    return {"variant": "fp16"} if weights and not plain else {}


def environment() -> None:
    """Keep the libraries away from the network and quiet. Called before they are imported."""
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_HUB_DISABLE_TELEMETRY", "TQDM_DISABLE"):
        os.environ.setdefault(name, "1")
    for name in ("TRANSFORMERS_VERBOSITY", "DIFFUSERS_VERBOSITY"):
        os.environ.setdefault(name, "error")
