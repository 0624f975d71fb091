"""What lies in `models/` and `loras/`: names, families and sizes, read from headers only.

A model is a diffusers folder or one .safetensors file. Names are paths relative to the folder with
`/`; only names found by looking are ever opened, so a name cannot lead outside.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dalla import settings as settings_module
from dalla.errors import DallaError
from dalla.paths import read_object
from dalla.records.image import LoraInfo, ModelInfo

STARTER = "starter"
#: Folders inside models/ that hold parts of models, not models.
PART_FOLDERS = {"text_encoders", "vae", "tokenizers", "vision", "upscale", "captioners", "faces"}
_PIPELINES = {
    "StableDiffusionPipeline": "sd15",
    "StableDiffusionXLPipeline": "sdxl",
    "StableDiffusion3Pipeline": "sd3",
    "FluxPipeline": "flux",
}


@dataclass(frozen=True)
class LocalModel:
    """A model with where it is. `stamp` changes when its files do."""

    info: ModelInfo
    path: Path
    stamp: str
    files: tuple[Path, ...] = field(repr=False)


class LocalModels:
    """Looks at the folders; what a file says is remembered until the file changes."""

    def __init__(self, settings: Any) -> None:
        self._settings = settings
        self._facts: dict[tuple[str, str], Any] = {}
        self._hashes: dict[tuple[str, str], str] = {}
        self._lock = threading.Lock()

    def models(self) -> dict[str, LocalModel]:
        """Return every model by name; one of them is the default if there is any."""
        root = Path(self._settings.models_dir)
        found = {m.info.name: m for m in self._scan(root)}
        own = settings_module.ROOT / "models" / STARTER
        if STARTER not in found and (own / "model_index.json").is_file():
            found[STARTER] = self._folder(own, STARTER)
        usable = [n for n, m in found.items() if m.info.family and n != STARTER] or [n for n in found if n == STARTER]
        if usable:
            first = found[usable[0]]
            found[usable[0]] = LocalModel(_with(first.info, default=True), first.path, first.stamp, first.files)
        return found

    def loras(self) -> dict[str, tuple[LoraInfo, Path, str]]:
        """Return every LoRA by name (the file name without .safetensors), with path and stamp."""
        root = Path(self._settings.loras_dir)
        found = {}
        for path in sorted(root.glob("*.safetensors")) if root.is_dir() else []:
            stamp = _stamp([path])
            beside = read_object(path.with_suffix(".json"))
            family, note = self._remember(path, stamp, _lora_facts)
            info = LoraInfo(
                name=path.stem,
                family=beside.get("family") or family,
                source="builtin",
                trigger_word=beside.get("triggerWord"),
                size_bytes=path.stat().st_size,
                note=note,
            )
            found[path.stem] = (info, path, stamp)
        return found

    def sha256(self, path: Path, files: tuple[Path, ...], stamp: str) -> str:
        """Return a file's hash; for a folder, a hash over its weight files' hashes. Computed once."""
        from dalla.weights import file_sha256

        key = (str(path), stamp)
        with self._lock:
            if key not in self._hashes:
                if path.is_file():
                    self._hashes[key] = file_sha256(path)
                else:
                    lines = [f"{f.relative_to(path).as_posix()} {file_sha256(f)}\n" for f in files]
                    self._hashes[key] = hashlib.sha256("".join(lines).encode()).hexdigest()
            return self._hashes[key]

    def _scan(self, root: Path) -> Iterator[LocalModel]:
        for folder in (root, *(p for p in _folders(root) if not _is_model(p) and p.name not in PART_FOLDERS)):
            for path in sorted(folder.iterdir()) if folder.is_dir() else []:
                name = path.relative_to(root).as_posix()
                if path.name.startswith("."):
                    continue
                if path.is_dir() and _is_model(path):
                    yield self._folder(path, name)
                elif path.suffix == ".safetensors" and path.is_file():
                    if (model := self._file(path, name)) is not None:
                        yield model

    def _folder(self, path: Path, name: str) -> LocalModel:
        files = tuple(sorted(path.glob("*/*.safetensors")))
        stamp = _stamp([*files, *path.glob("*.json"), *path.glob("*/*.json")])
        facts = self._remember(path, stamp, _folder_facts)
        info = ModelInfo(name=name, source="builtin", size_bytes=sum(f.stat().st_size for f in files), **facts)
        if name == STARTER:
            info = _with(
                info,
                label="Starter (cartoon avatars, 128 px)",
                note="A tiny model of our own that draws cartoon avatars; it is for trying everything out.",
                size_multiple=16,
                max_size=256,
                defaults={"steps": 20, "cfg_scale": 4.0, "sampler": "uni_pc", "scheduler": "normal"},
            )
        return LocalModel(self._override(info), path, stamp, files)

    def _file(self, path: Path, name: str) -> LocalModel | None:
        stamp = _stamp([path])
        facts = self._remember(path, stamp, _file_facts)
        if facts is None:
            return None
        info = ModelInfo(name=name, source="builtin", size_bytes=path.stat().st_size, label=path.stem, **facts)
        info = self._override(info)
        if missing := self.missing_parts(info):
            info = _with(info, note=f"Needs {', '.join(missing)} in the models folder (see models/README.md).")
        return LocalModel(info, path, stamp, (path,))

    def missing_parts(self, info: ModelInfo) -> list[str]:
        """Return what a FLUX file needs beside it and does not find. Other families' files are complete."""
        if info.family != "flux" or not info.name.endswith(".safetensors"):
            return []
        root = Path(self._settings.models_dir)
        tokenizer = root / "tokenizers" / "t5"
        missing = []
        if not any((tokenizer / name).is_file() for name in ("tokenizer.json", "spiece.model")):
            missing.append("tokenizers/t5/tokenizer.json")
        if info.kind == "diffusion_model":
            for pattern in (
                "text_encoders/clip_l*.safetensors",
                "text_encoders/t5xxl*.safetensors",
                "vae/ae*.safetensors",
            ):
                if not any(root.glob(pattern)):
                    missing.append(pattern.replace("*", ""))
        return missing

    def _override(self, info: ModelInfo) -> ModelInfo:
        family = self._settings.model_families.get(info.name)
        return _with(info, family=family, note=None) if family in _PIPELINES.values() else info

    def _remember(self, path: Path, stamp: str, read: Any) -> Any:
        key = (str(path), stamp)
        if key not in self._facts:
            self._facts[key] = read(path)
        return self._facts[key]


def _folders(root: Path) -> list[Path]:
    return sorted(p for p in root.iterdir() if p.is_dir()) if root.is_dir() else []


def _is_model(path: Path) -> bool:
    return (path / "model_index.json").is_file()


def _folder_facts(path: Path) -> dict[str, Any]:
    """Read family and sizes from a folder's configs."""
    name = read_object(path / "model_index.json").get("_class_name", "")
    family = _PIPELINES.get(name)
    if family is None:
        return {"family": None, "note": f"The built-in engine has no pipeline '{name}'."}
    vae = read_object(path / "vae" / "config.json")
    factor = 2 ** (len(vae.get("block_out_channels") or [0, 0, 0, 0]) - 1)
    denoiser = read_object(path / ("transformer" if family in ("sd3", "flux") else "unet") / "config.json")
    sample = denoiser.get("sample_size")
    return {
        "family": family,
        "native_size": sample * factor if isinstance(sample, int) and family != "flux" else None,
        "size_multiple": factor * (2 if family in ("sd3", "flux") else 1),
    }


def _file_facts(path: Path) -> dict[str, Any] | None:
    """Read a single file's family. None for a file that is no model but a LoRA or a part of one."""
    from dalla import weights

    try:
        header = weights.read_header(path)
    except DallaError as exc:
        return {"family": None, "note": exc.detail}
    if weights.lora_format(header) is not None:
        return None
    family = weights.checkpoint_family(header)
    kind = weights.checkpoint_kind(header)
    if kind in ("vae", "text_encoder"):
        return None
    if family is not None and family not in _PIPELINES.values():
        return {"family": None, "note": f"The built-in engine cannot draw with single files of the family '{family}'."}
    if family is None:
        return {
            "family": None,
            "note": "Not recognised. Set its family in the settings (modelFamilies) if you know it.",
        }
    return {"family": family, **({"kind": kind} if kind in ("checkpoint", "diffusion_model") else {})}


def _lora_facts(path: Path) -> tuple[str | None, str | None]:
    from dalla import weights

    try:
        header = weights.read_header(path)
        if weights.lora_format(header) is None:
            return None, "This file holds no LoRA weights."
        blank = weights.lora_is_blank(path, header)
    except DallaError as exc:
        return None, exc.detail
    return weights.lora_family(header), "It was saved untrained (all zeros), so it changes nothing." if blank else None


def _stamp(paths: list[Path]) -> str:
    parts = []
    for path in sorted(paths):
        try:
            stat = os.stat(path)
        except OSError:
            continue
        parts.append(f"{path.name}:{stat.st_size}:{stat.st_mtime_ns}")
    return hashlib.sha1("|".join(parts).encode(), usedforsecurity=False).hexdigest()


def _with(info: ModelInfo, **changes: Any) -> ModelInfo:
    from dataclasses import replace

    return replace(info, **changes)
