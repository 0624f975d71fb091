"""What weights there are: in `models/`, in `loras/` and, by name, on the ComfyUI server. Headers are read, tensors never.

An entry's id names its place, so it stays the same when the file behind it is replaced; `stamp` then differs.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dalla import settings as settings_module
from dalla import weights
from dalla.errors import DallaError
from dalla.records.family import FAMILIES
from dalla.records.image import EngineStatus
from dalla.services.lora_shelf import LocalFiles
from dalla.settings import Settings
from dalla.times import iso

logger = logging.getLogger(__name__)

KINDS = {
    "model": "Model",
    "lora": "LoRA",
    "text_encoder": "Text encoder",
    "vae": "VAE",
    "tokenizer": "Tokenizer",
    "vision": "Image encoder",
    "captioner": "Captioner",
    "face": "Face model",
    "upscaler": "Upscaler",
    "other": "Other",
}
#: Folders in models/ with parts of models: what lies in them, as files or as folders.
_FILES = {"text_encoders": "text_encoder", "vae": "vae", "upscale": "upscaler", "faces": "face"}
_FOLDERS = {"tokenizers": "tokenizer", "vision": "vision", "captioners": "captioner"}
_WEIGHTS = (".safetensors", ".onnx", ".gguf", *weights.PICKLES)
#: Comes with the app and is looked for beside it when the models folder has none.
BUNDLED = ("starter", "faces")
PICKLE = "Not loaded: a pickle file can run any code it holds when it is opened."
PICKLE_ON = "Convert it to .safetensors here, or get its .safetensors version."
PICKLE_OFF = (
    "Get its .safetensors version, or switch on “Convert pickled weights” under Settings, Models and weights"
    " (DALLA_PICKLE_WEIGHTS)."
)


@dataclass(frozen=True)
class Entry:
    """One thing on the shelf. `path` is None for what only a server knows; `files` are all that belong to it."""

    id: str
    kind: str
    name: str  # as engines and characters call it
    source: str  # "local" | "comfyui"
    label: str = ""
    path: Path | None = None
    files: tuple[Path, ...] = field(default=(), repr=False)
    family: str | None = None
    family_note: str | None = None  # why the family is not known
    size_bytes: int | None = None
    modified_at: str | None = None
    stamp: str = ""
    loadable: bool = True
    reason: str | None = None
    remedy: str | None = None
    note: str | None = None
    default: bool = False
    bundled: bool = False
    shape: str = ""  # "checkpoint" | "diffusion_model" | "folder" for models

    @property
    def convertible(self) -> bool:
        return self.source == "local" and self.path is not None and self.path.suffix.lower() in (".ckpt", ".pt", ".pth")


class Inventory:
    """Looks at the folders and asks the engines."""

    def __init__(self, settings: Settings, files: LocalFiles, engines: Any) -> None:
        """`engines` is the list of image engines (services.generation.Engines)."""
        self._settings = settings
        self._files = files
        self._engines = engines
        self._headers: dict[tuple[str, int, int], weights.Header] = {}

    # ------------------------------------------------------------ listing

    def all(self) -> list[Entry]:
        """Everything, local first. A server that does not answer adds nothing."""
        return [*self.local(), *self.comfyui()]

    def local(self) -> list[Entry]:
        return [*self._models(), *self._loras()]

    def find(self, id: str) -> Entry | None:
        """Return one entry; the server is asked only when it is not a local one."""
        return next((e for e in self.local() if e.id == id), None) or next(
            (e for e in self.comfyui() if e.id == id), None
        )

    def model(self, name: str) -> Any:
        """Return what the engine knows of a local model (.info, .path, .stamp), or None."""
        return self._files.models().get(name)

    def info(self, entry: Entry) -> Any:
        """Return the ModelInfo of a local model, or None."""
        model = self.model(entry.name) if entry.kind == "model" and entry.source == "local" else None
        return model.info if model else None

    def header(self, path: Path) -> weights.Header:
        """Return a .safetensors file's header, remembered until the file changes. Raises InvalidInput, StorageError."""
        try:
            stat = path.stat()
        except OSError:
            return weights.read_header(path)
        key = (str(path), stat.st_size, stat.st_mtime_ns)
        if key not in self._headers:
            self._headers[key] = weights.read_header(path)
        return self._headers[key]

    # ------------------------------------------------------------ models/

    def _models(self) -> Iterator[Entry]:
        root = Path(self._settings.models_dir)
        seen: set[Path] = set()
        for name, model in self._files.models().items():
            files = _files_of(model.path)
            seen.update(files)
            info = model.info
            bundled = name in BUNDLED
            reason = _why_not(info)
            yield self._entry(
                "model",
                name,
                model.path,
                files,
                label=info.label or name,
                family=info.family,
                family_note=None if info.family else info.note,
                note=info.note if info.family and not reason else None,
                default=info.default,
                bundled=bundled,
                loadable=reason is None,
                reason=reason,
                remedy=_remedy(info, reason),
                shape="folder" if model.path.is_dir() else info.kind,
            )
        own = settings_module.ROOT / "models"
        for folder in sorted({*_FILES, *_FOLDERS}):
            places = [root / folder]
            if folder in BUNDLED and not _children(root / folder):
                places.append(own / folder)
            for place in places:
                yield from self._parts(place, folder, bundled=place.parent == own and folder in BUNDLED)
        for place in (root, *(p for p in _children(root) if p.is_dir() and p.name not in {*_FILES, *_FOLDERS})):
            if (place / "model_index.json").is_file():
                continue
            for path in _children(place):
                if path.is_file() and path.suffix.lower() in _WEIGHTS and path not in seen:
                    yield self._loose(path, path.relative_to(root).as_posix())

    def _parts(self, place: Path, folder: str, *, bundled: bool) -> Iterator[Entry]:
        kind = _FILES.get(folder) or _FOLDERS[folder]
        for path in _children(place):
            name = f"{folder}/{path.name}"
            if path.is_dir() and folder in _FOLDERS:
                files = _files_of(path)
                if files:
                    yield self._checked(kind, name, path, files, bundled=bundled, label=path.name)
            elif path.is_file() and folder in _FILES and path.suffix.lower() in _WEIGHTS:
                yield self._checked(kind, name, path, (path,), bundled=bundled, label=path.name)

    def _loose(self, path: Path, name: str) -> Entry:
        """A file in models/ that is no model: a part, a misplaced LoRA, a pickle."""
        kind, reason, remedy = "other", "It is not recognised as weights the app can use.", None
        if path.suffix.lower() == ".safetensors":
            try:
                header = self.header(path)
            except DallaError as exc:
                return self._entry(kind, name, path, (path,), loadable=False, reason=exc.detail, remedy=exc.remedy)
            if weights.lora_format(header) is not None:
                reason, remedy = "A LoRA in the models folder is not found.", "Move it into the folder loras/."
                family = weights.lora_family(header)
                return self._entry(
                    "lora", name, path, (path,), family=family, loadable=False, reason=reason, remedy=remedy
                )
            found = weights.checkpoint_kind(header)
            if found in ("vae", "text_encoder"):
                folder = "vae" if found == "vae" else "text_encoders"
                remedy = f"Move it into models/{folder}/."
                reason = f"A {KINDS[found]} is only found in models/{folder}/."
                return self._entry(found, name, path, (path,), loadable=False, reason=reason, remedy=remedy)
        elif path.suffix.lower() in weights.PICKLES:
            kind = "model"
            return self._checked(kind, name, path, (path,))
        elif path.suffix.lower() == ".gguf":
            reason = "The app does not read GGUF files."
        return self._entry(kind, name, path, (path,), loadable=False, reason=reason, remedy=remedy)

    # ------------------------------------------------------------ loras/

    def _loras(self) -> Iterator[Entry]:
        seen = set()
        for name, (info, path, _) in self._files.loras().items():
            seen.add(path)
            broken = info.family is None and info.note is not None
            yield self._entry(
                "lora",
                name,
                path,
                (path, *_beside(path)),
                family=info.family,
                family_note=None if info.family else "Its layers and its metadata do not tell the family.",
                note=None if broken else info.note,
                loadable=not broken,
                reason=info.note if broken else None,
            )
        for path in _children(Path(self._settings.loras_dir)):
            if path.is_file() and path.suffix.lower() in weights.PICKLES and path not in seen:
                yield self._checked("lora", path.name, path, (path,))

    # ------------------------------------------------------------ ComfyUI

    def server_off(self) -> EngineStatus | None:
        """Return why the ComfyUI server's files cannot be listed; None when they can, or there is no such engine."""
        engine = next((e for e in self._engines.all() if e.name == "comfyui"), None)
        status = engine.status() if engine is not None else None
        return status if status is not None and not status.available else None

    def comfyui(self) -> list[Entry]:
        """What the server offers, by name; sizes and files where they can be seen from here."""
        engine = next((e for e in self._engines.all() if e.name == "comfyui"), None)
        if engine is None or not engine.status().available:
            return []
        found: list[Entry] = []
        sizes = {kind: engine.sizes(kind) for kind in ("model", "lora", "upscaler", "vae", "text_encoder")}

        def add(kind: str, name: str, **more: Any) -> None:
            path = engine.place(kind, name)
            entry = self._entry(kind, name, path, (path,) if path else (), source="comfyui", **more)
            if entry.size_bytes is None:
                entry = replace(entry, size_bytes=sizes.get(kind, {}).get(name.replace("\\", "/")))
            found.append(entry)

        for model in engine.models():
            usable = model.family in FAMILIES
            add(
                "model", model.name, label=model.label or model.name, family=model.family, shape=model.kind,
                family_note=None if usable else model.note, note=model.note if usable else None,
                loadable=usable, reason=None if usable else model.note,
                remedy=None if usable else "Set its family in the setting modelFamilies if it is one of ours.",
            )  # fmt: skip
        for lora in engine.loras():
            if lora.source == "comfyui":  # the others are ours, listed already
                add("lora", lora.name, family=lora.family, note=lora.note)
        for kind, names in engine.parts().items():
            for name in names:
                add(kind, name)
        return found

    # ------------------------------------------------------------ inside

    def _checked(self, kind: str, name: str, path: Path, files: tuple[Path, ...], **more: Any) -> Entry:
        """A part, with the reason when its file cannot be loaded."""
        for file in files:
            if file.suffix.lower() in weights.PICKLES:
                if path.is_dir() and any(f.suffix.lower() in (".safetensors", ".onnx") for f in files):
                    continue  # the folder has the safe format as well, which is the one that is read
                convertible = path.is_file() and path.suffix.lower() in (".ckpt", ".pt", ".pth")
                remedy = PICKLE_ON if self._settings.pickle_weights and convertible else PICKLE_OFF
                return self._entry(kind, name, path, files, **more, loadable=False, reason=PICKLE, remedy=remedy)
            if file.suffix.lower() == ".safetensors":
                try:
                    self.header(file)
                except DallaError as exc:
                    return self._entry(
                        kind, name, path, files, **more, loadable=False, reason=exc.detail, remedy=exc.remedy
                    )
        return self._entry(kind, name, path, files, **more)

    def _entry(
        self, kind: str, name: str, path: Path | None, files: tuple[Path, ...], source: str = "local", **more: Any
    ) -> Entry:
        size, newest, parts = 0, 0.0, []
        for file in weight_files(path, files):
            try:
                stat = os.stat(file)
            except OSError:
                continue
            size += stat.st_size
            newest = max(newest, stat.st_mtime)
            parts.append(f"{file.name}:{stat.st_size}:{stat.st_mtime_ns}")
        if kind == "lora" and source == "local" and parts:
            parts = parts[:1]  # the card beside it is no part of the weights
        where = "loras" if kind == "lora" and path and path.parent == Path(self._settings.loras_dir) else "models"
        return Entry(
            id=entry_id(source, where if source == "local" else kind, name),
            kind=kind,
            name=name,
            source=source,
            path=path,
            files=files,
            size_bytes=size if parts else None,
            modified_at=iso(datetime.fromtimestamp(newest, UTC)) if parts else None,
            stamp=_digest("|".join(parts)) if parts else "",
            **{"label": name, **more},
        )


def entry_id(source: str, where: str, name: str) -> str:
    """Return the id of a place: `where` is "models", "loras", or a kind on a server."""
    return f"shelf_{_digest(f'{source}:{where}:{name}')[:20]}"


def _digest(text: str) -> str:
    return hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


def _children(folder: Path) -> list[Path]:
    try:
        return sorted(p for p in folder.iterdir() if not p.name.startswith("."))
    except OSError:
        return []


def _files_of(path: Path) -> tuple[Path, ...]:
    """All weight and config files of a folder two levels deep, or the file itself."""
    if path.is_file():
        return (path,)
    return tuple(sorted(p for p in (*path.glob("*"), *path.glob("*/*")) if p.is_file() and not p.name.startswith(".")))


def weight_files(path: Path | None, files: tuple[Path, ...]) -> list[Path]:
    """The files whose bytes make the weights what they are: of a model's folder those the built-in engine hashes for
    its recipes; of another folder all but texts; of a LoRA not the card beside it."""
    if path is None or not path.is_dir():
        return list(files[:1])
    inner = [f for f in files if f.suffix == ".safetensors" and f.parent != path]
    return inner or [f for f in files if f.suffix.lower() not in (".md", ".txt") and "license" not in f.name.lower()]


def _beside(path: Path) -> tuple[Path, ...]:
    card = path.with_suffix(".json")
    return (card,) if card.is_file() else ()


def _why_not(info: Any) -> str | None:
    """Why the built-in engine cannot draw with a model; None when it can."""
    if info.family is None:
        return info.note or "Its family is not recognised."
    if info.note and info.note.startswith("Needs "):
        return str(info.note)
    return None


def _remedy(info: Any, reason: str | None) -> str | None:
    if reason is None:
        return None
    if reason.startswith("Needs "):
        return "Put the missing parts there (see models/README.md), or use a diffusers folder."
    if "not a usable" in reason or "cut off" in reason:
        return "Download or export the file again."
    return "Set its family in the setting modelFamilies if you know it (sd15, sdxl, sd3 or flux)."
