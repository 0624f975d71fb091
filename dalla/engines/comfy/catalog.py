"""What a ComfyUI server can draw with: its models and LoRAs, and which family each belongs to.

The server does not tell families. In this order: the user's setting, the file's header where the
server's folder is on this disk, the file's metadata, its name. Unknown stays unknown.
"""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

from dalla import weights
from dalla.engines.comfy.client import ComfyClient
from dalla.engines.comfy.loras import made_here
from dalla.engines.images.local_models import LocalModels
from dalla.errors import DallaError
from dalla.records.family import FAMILIES
from dalla.records.image import LoraInfo, ModelInfo

#: Seconds one listing may spend on asking for metadata; what is left is asked next time.
METADATA_SECONDS = 1.0

_NAMES = (
    ("flux", r"flux(?![ ._-]?2)"),
    ("sd3", r"(?<![a-z])sd[ ._-]?3|stable[ ._-]?diffusion[ ._-]?3"),
    ("sdxl", r"(?<!x)xl|pony|illustrious|noob|animagine"),
    (
        "sd15",
        r"sd[ ._-]?v?1[ ._-]?[45]|(?<![0-9])v?1[._-][45](?![0-9])|stable[ ._-]?diffusion[ ._-]?(?:v[ ._-]?)?1|dream-?shaper"
        r"|realistic[ ._-]?vision|epic[ ._-]?realism|absolute[ ._-]?reality|deliberate|counterfeit|rev[ ._-]?animated"
        r"|meina[ ._-]?mix|majicmix|chilloutmix|abyss[ ._-]?orange|cyber[ ._-]?realistic|openjourney",
    ),
)
#: Parts and relatives whose names carry a family's name, but which its graph cannot draw with.
_NOT_WHOLE = re.compile(
    r"refiner|redux|control[ ._-]?net|ip[ ._-]?adapter|svd|video|(?:flux|dev)[\w.-]*(?:fill|canny|depth)", re.I
)


def family_from_name(name: str) -> str | None:
    """Guess the family from a file name; None when it does not say."""
    stem = name.replace("\\", "/").rsplit("/", 1)[-1].lower()
    if _NOT_WHOLE.search(stem):
        return None
    return next((family for family, pattern in _NAMES if re.search(pattern, stem)), None)


class Catalog:
    """Lists one server. What was found out about a file is remembered."""

    def __init__(self, client: ComfyClient, settings: Any) -> None:
        self._client = client
        self._settings = settings
        self._own = LocalModels(settings)
        self._read: dict[tuple[str, int, int], weights.Header | None] = {}

    def models(self) -> list[ModelInfo]:
        """List checkpoints and diffusion models. Raises what the client raises."""
        found = [
            self._model(name, "checkpoint") for name in self._client.choices("CheckpointLoaderSimple", "ckpt_name")
        ]
        found += [self._model(name, "diffusion_model") for name in self._client.choices("UNETLoader", "unet_name")]
        return found

    def _model(self, name: str, kind: str) -> ModelInfo:
        folders = ("checkpoints",) if kind == "checkpoint" else ("diffusion_models", "unet")
        path = self.file(name, *folders)
        header = self._header(path)
        family = _lookup(self._settings.model_families, name)
        if family is None and header is not None:
            family = weights.checkpoint_family(header)
        if family is None and header is None:
            family = family_from_name(name)
            if family is None and not _NOT_WHOLE.search(name):
                family = self._from_metadata(folders[0], name)
        note = None
        if family is not None and family not in FAMILIES:
            note = f"{family} models cannot be drawn with here."
            family = None
        elif family is None:
            note = "The family is not recognised; set it in the setting modelFamilies if the model is one of ours."
        elif kind == "diffusion_model" and family in ("sd15", "sdxl"):
            note = "Only the network of the model: its checkpoint belongs into models/checkpoints."
        defaults: dict[str, Any] = {}
        if family == "flux" and "schnell" in name.lower():
            defaults = {"steps": 4}
            note = note or "Made for 4 steps; guidance has no effect."
        label = name.replace("\\", "/").removesuffix(".safetensors")
        size = path.stat().st_size if path else None
        return ModelInfo(name, family, "comfyui", size_bytes=size, kind=kind, label=label, note=note, defaults=defaults)

    def has_text_encoder(self, name: str) -> bool | None:
        """Whether a checkpoint carries text encoders; None when neither file nor name tell."""
        header = self._header(self.file(name, "checkpoints"))
        if header is not None:
            return weights.has_text_encoder(header)
        if re.search(r"incl|clips|t5xxl|fp8_scaled|all[ ._-]?in[ ._-]?one", name, re.I):
            return True
        return None

    def loras(self) -> list[LoraInfo]:
        """List the server's LoRAs, and those kept here that can be put there."""
        end = time.monotonic() + METADATA_SECONDS
        found: dict[str, LoraInfo] = {}
        for name in self._client.choices("LoraLoader", "lora_name"):
            if made_here(name):
                continue  # our copies; the originals are listed
            path = self.file(name, "loras")
            header = self._header(path)
            trigger = None
            family: str | None = None
            if header is not None:
                family, trigger = weights.lora_family(header), weights.lora_trigger_word(header)
            else:
                metadata = self._client.view_metadata("loras", name) if time.monotonic() < end else {}
                family = weights.family_in_metadata(metadata) or family_from_name(name)
                trigger = weights.lora_trigger_word(weights.Header({}, metadata)) if metadata else None
            size = path.stat().st_size if path else None
            found[_key(name)] = LoraInfo(name, family, "comfyui", trigger_word=trigger, size_bytes=size)
        if self._settings.comfyui_lora_dir:
            for info, _, _ in self._own.loras().values():
                found.setdefault(_key(info.name), info)
        return list(found.values())

    def touches_text(self, name: str) -> bool:
        """Whether a LoRA of the server changes a text encoder; True, too, when its file cannot be looked into."""
        header = self._header(self.file(name, "loras"))
        return header is None or any(re.match(r"lora_te|text_encoder|clip_[lg]\.|t5xxl\.", key) for key in header)

    def file(self, name: str, *folders: str) -> Path | None:
        """Return the server's file when its folder is on this disk (COMFYUI_LORA_DIR and its neighbours)."""
        root = self._settings.comfyui_lora_dir
        if not root:
            return None
        parts = [p for p in name.replace("\\", "/").split("/") if p]
        if ".." in parts or not parts:
            return None
        for folder in folders:
            base = Path(root) if folder == "loras" else Path(root).parent / folder
            path = base.joinpath(*parts)
            if path.is_file():
                return path
        return None

    def _header(self, path: Path | None) -> weights.Header | None:
        if path is None or path.suffix.lower() != ".safetensors":
            return None
        try:
            stat = path.stat()
            key = (str(path), stat.st_size, stat.st_mtime_ns)
            if key not in self._read:
                self._read[key] = weights.read_header(path)
        except (DallaError, OSError):
            return None
        return self._read[key]

    def _from_metadata(self, folder: str, name: str) -> str | None:
        return weights.family_in_metadata(self._client.view_metadata(folder, name))


def _lookup(families: dict[str, Any], name: str) -> str | None:
    """Return what the user set for a model, by its name with any separator, or by its last part."""
    wanted = _key(name)
    table = {_key(str(k)): str(v) for k, v in (families or {}).items()}
    return table.get(wanted) or table.get(wanted.rsplit("/", 1)[-1])


def _key(name: str) -> str:
    return name.replace("\\", "/").removesuffix(".safetensors").lower()
