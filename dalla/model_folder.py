"""What a diffusers folder tells before it is loaded: whether its weights are whole, and what sides it can be given.

Only configs and headers are read, so the dashboard asks the same as the trainer. Without torch.
"""

from __future__ import annotations

from pathlib import Path

from dalla import weights
from dalla.errors import DallaError, InvalidInput
from dalla.paths import read_object

#: The parts that are loaded to train and to draw; which of them a folder must have, its model_index.json says.
PARTS = ("unet", "transformer", "vae", "text_encoder", "text_encoder_2", "text_encoder_3")
#: Names the libraries load when a folder holds several files (EMA weights, half precision beside full).
_USUAL = {"model.safetensors", "diffusion_pytorch_model.safetensors"}


def refuse_damaged(path: Path) -> None:
    """Look at the config and the headers of the weights of every part that model_index.json names.

    Raises InvalidInput (field baseModel) naming the first file that is missing, cut off or unreadable.
    """
    index = read_object(path / "model_index.json")
    for part in PARTS:
        said = index.get(part)
        if not isinstance(said, list) or not any(said):
            continue  # not a part of this model, or left out on purpose ([null, null])
        if not read_object(path / part / "config.json"):
            raise _damaged(path, f"{part}/config.json is missing or cannot be read.")
        for file in _weights(path, part):
            try:
                weights.read_header(file)
            except DallaError as exc:
                raise _damaged(path, f"{part}/{file.name}: {exc.detail}") from exc


def _weights(path: Path, part: str) -> list[Path]:
    """Return the files a part is loaded from. Raises InvalidInput when one that is named is not there."""
    folder = path / part
    found = sorted(folder.glob("*.safetensors"))
    full = [f for f in found if ".fp16." not in f.name and ".fp16-" not in f.name] or found
    indexes = sorted(folder.glob("*.safetensors.index*.json"))
    if full != found:  # beside plain weights those in half precision are not loaded
        indexes = [i for i in indexes if ".fp16" not in i.name] or indexes
    if usual := [f for f in full if f.name in _USUAL]:
        return usual
    if indexes:
        named = read_object(indexes[0]).get("weight_map")
        shards = sorted({str(name) for name in named.values()}) if isinstance(named, dict) else []
        if not shards:
            raise _damaged(path, f"{part}/{indexes[0].name} names no files.")
        if missing := [name for name in shards if not (folder / name).is_file()]:
            raise _damaged(path, f"{part}/{missing[0]} is missing.")
        return [folder / name for name in shards]
    if not full and not any(folder.glob("*.bin")):
        raise _damaged(path, f"{part} holds no weights.")
    return full


def _damaged(path: Path, what: str) -> InvalidInput:
    return InvalidInput.field(
        "baseModel",
        f"The model folder '{path.name}' is damaged. {what}",
        remedy="Copy or download this file again, or the whole folder.",
    )


def side_multiple(path: Path, family: str) -> int:
    """Return what the sides of pictures in px must be multiples of, so that no layer rounds.

    From the configs of a folder; for a single file what its family's published models have.
    """
    if not path.is_dir():
        return {"sd15": 64, "sdxl": 32}.get(family, 16)
    factor = 2 ** (_levels(path / "vae") - 1)
    return int(factor * 2 ** (_levels(path / "unet") - 1) if family in ("sd15", "sdxl") else factor * 2)


def _levels(folder: Path) -> int:
    return len(read_object(folder / "config.json").get("block_out_channels") or [0])
