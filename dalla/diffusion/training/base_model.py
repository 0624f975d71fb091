"""Find out what the base model is before it is loaded."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dalla import model_folder, weights
from dalla.errors import InvalidInput, NotFound, StorageError

_PIPELINES = {
    "StableDiffusionPipeline": "sd15",
    "StableDiffusionXLPipeline": "sdxl",
    "StableDiffusion3Pipeline": "sd3",
    "FluxPipeline": "flux",
}
_NATIVE = {"sd15": 512, "sdxl": 1024, "sd3": 1024, "flux": 1024}


@dataclass(frozen=True)
class BaseModel:
    """A model on the disk: its family, the side in px it was made for, and the bytes of its weights."""

    path: Path
    family: str
    native_size: int
    size_bytes: int


def inspect(path: Path, family: str | None = None, models_folder: Path | None = None) -> BaseModel:
    """Return what a diffusers folder or .safetensors file is. A bare name is looked up in the models folder.

    Raises NotFound, InvalidInput (a LoRA, a part of a model, an unknown family, weights that are cut off or missing),
    StorageError (unreadable).
    """
    if not path.exists() and models_folder is not None and (models_folder / path).exists():
        path = models_folder / path
    if path.is_dir():
        return _folder(path, family)
    if not path.is_file():
        raise NotFound(
            f"There is no base model '{path.name}'.",
            remedy="Give a diffusers folder or a .safetensors file, such as models/starter.",
        )
    header = weights.read_header(path)
    if weights.lora_format(header) is not None:
        raise InvalidInput.field(
            "baseModel",
            f"'{path.name}' is a LoRA, not a model to train on.",
            remedy="Choose the model this LoRA was made for.",
        )
    found = weights.checkpoint_family(header)
    if found not in _NATIVE:
        what = f"a model of the family {found}" if found else "not a whole model (a VAE or a text encoder, perhaps)"
        raise InvalidInput.field(
            "baseModel", f"'{path.name}' is {what}, which cannot be trained here.",
            remedy="Choose a Stable Diffusion 1.5, SDXL, SD3 or FLUX.1 model.",
        )  # fmt: skip
    _agree(family, found, path)
    return BaseModel(path, found, _NATIVE[found], path.stat().st_size)


def _folder(path: Path, family: str | None) -> BaseModel:
    if not (path / "model_index.json").is_file():
        raise InvalidInput.field(
            "baseModel", f"The folder '{path.name}' is no diffusers model: model_index.json is missing.",
            remedy="Give the folder that holds model_index.json, or a .safetensors file.",
        )  # fmt: skip
    index = _json(path / "model_index.json")
    found = _PIPELINES.get(str(index.get("_class_name")))
    if found is None:
        raise InvalidInput.field(
            "baseModel", f"'{path.name}' is a {index.get('_class_name')}, which cannot be trained here.",
            remedy="Choose a Stable Diffusion 1.5, SDXL, SD3 or FLUX.1 model.",
        )  # fmt: skip
    _agree(family, found, path)
    native = _NATIVE[found]
    denoiser, vae = path / ("unet" if found in ("sd15", "sdxl") else "transformer"), path / "vae"
    if (denoiser / "config.json").is_file() and (vae / "config.json").is_file() and found != "flux":
        size = _json(denoiser / "config.json").get("sample_size")
        blocks = _json(vae / "config.json").get("block_out_channels") or [0]
        if isinstance(size, int):
            native = size * 2 ** (len(blocks) - 1)
    if found == "sd15" and _json(denoiser / "config.json").get("in_channels") == 9:
        raise InvalidInput.field("baseModel", f"'{path.name}' is an inpainting model.", remedy="Choose the plain one.")
    files = list(path.glob("*/*.safetensors"))
    if not files:
        raise StorageError(
            f"The model folder '{path.name}' holds no .safetensors weights.", remedy="Copy the complete folder again."
        )
    model_folder.refuse_damaged(path)
    return BaseModel(path, found, native, sum(f.stat().st_size for f in files))


def _agree(wanted: str | None, found: str, path: Path) -> None:
    if wanted is not None and wanted != found:
        raise InvalidInput.field(
            "family", f"'{path.name}' is a model of the family {found}, not {wanted}.", remedy="Leave the family out."
        )


def _json(path: Path) -> dict[str, Any]:
    try:
        table = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as exc:
        raise StorageError(
            f"{path.parent.name}/{path.name} of the model cannot be read: {exc}",
            remedy="Copy the complete folder again.",
        ) from exc
    return table if isinstance(table, dict) else {}
