"""The finished parts as one folder that `StableDiffusionPipeline.from_pretrained` loads."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tools.starter_model import latents as latent_files
from tools.starter_model import networks, unet, vae
from tools.starter_model import tokenizer as tokenizers

_PROMPT = "portrait of a smiling woman with long pink hair, glasses, wearing a red hoodie, on a beach"


def export(parts: dict[str, Path], out: Path) -> dict[str, Any]:
    """Write the model folder; return its `bytes` and by how much of 255 float16 weights change a picture (`rounding`).

    `parts` holds the folders of the stages tokenizer, latents, unet and decoder. Raises RuntimeError when the
    written folder does not draw what the parts draw.
    """
    _, _, factor = latent_files.read(parts["latents"])
    decoder = vae.load(parts["decoder"])
    decoder.register_to_config(scaling_factor=factor)
    pipe = networks.pipeline(
        vae=decoder, text_encoder=unet.load_text_encoder(parts["unet"] / "text_encoder"),
        tokenizer=tokenizers.load(parts["tokenizer"]), unet=unet.load_unet(parts["unet"] / "unet"),
    )  # fmt: skip
    before = _picture(pipe)
    pipe.to(torch.float16).save_pretrained(str(out), safe_serialization=True)
    for name in ("vocab.json", "merges.txt"):  # programs with an older transformers read these
        shutil.copyfile(parts["tokenizer"] / name, out / "tokenizer" / name)
    _mend_configs(out)
    rounded, reloaded = _picture(pipe.to(torch.float32)), _picture(_read(out))
    difference = float(np.abs(rounded - reloaded).max())
    if difference > 1:
        raise RuntimeError(f"The written model draws differently: by up to {difference:.0f} of 255.")
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    return {"bytes": size, "rounding": round(float(np.abs(before - rounded).max()))}


def load(folder: Path) -> Any:
    """Return the StableDiffusionPipeline of a model folder, float32, with the sampler it works best with."""
    from diffusers import UniPCMultistepScheduler

    pipe = _read(folder)
    pipe.scheduler = UniPCMultistepScheduler.from_config(pipe.scheduler.config)
    return pipe


def _read(folder: Path) -> Any:
    from diffusers import StableDiffusionPipeline

    pipe = StableDiffusionPipeline.from_pretrained(str(folder))
    pipe.set_progress_bar_config(disable=True)
    return pipe


def _picture(pipe: Any) -> Any:
    generator = torch.Generator().manual_seed(0)
    made = pipe(_PROMPT, num_inference_steps=4, guidance_scale=4.0, generator=generator, output_type="np").images[0]
    return made * 255


def _mend_configs(out: Path) -> None:
    # transformers loads in the dtype the config names, diffusers in float32: with "float16" here a plain
    # from_pretrained would give parts that do not fit together.
    _change(out / "text_encoder" / "config.json", dtype="float32")
    for path in (out / "model_index.json", out / "unet" / "config.json", out / "vae" / "config.json"):
        _change(path, _name_or_path="starter")  # not the folder of whoever built it


def _change(path: Path, **values: str) -> None:
    config = json.loads(path.read_text("utf-8"))
    config.pop("torch_dtype", None)
    path.write_text(json.dumps({**config, **values}, indent=2, sort_keys=True) + "\n", encoding="utf-8")
