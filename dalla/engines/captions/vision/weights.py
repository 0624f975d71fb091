"""BLIP, Florence-2 and WD taggers from `models/captioners/`, run in a child process (`dalla/diffusion/caption_host.py`).

This is the parent's side and imports no torch. The process is started with the first picture, ended when a batch is
done or after `engine_idle_minutes`, and may be killed at any time: the next picture starts another.
"""

from __future__ import annotations

import hashlib
import json
import threading
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from dalla.engines.captions.vision.base import SENTENCE, TAGS, VisionRequest, VisionText
from dalla.engines.images.child import Child, resident
from dalla.errors import NotConfigured, Unavailable, UpstreamError
from dalla.records.image import EngineStatus
from dalla.settings import Settings
from dalla.times import now_iso

FOLDER = "captioners"


class _Silent:
    """Nobody asks how far a single caption is; a batch looks for a cancel between two pictures."""

    def progress(self, done: float, total: float, message: str = "") -> None: ...
    def preview(self, image: bytes, mime: str) -> None: ...
    def check_cancelled(self) -> None: ...


class _Weights:
    """What the three have in common. One picture at a time."""

    name = ""
    label = ""
    styles: tuple[str, ...] = ()
    sends = False
    needs: tuple[str, ...] = ("torch", "transformers")
    hint = ""  # what to put where

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._work = threading.Lock()
        self._child: Child | None = None
        self._timer: threading.Timer | None = None
        self._used: dict[str, str] = {}  # name and time of the last picture

    @property
    def root(self) -> Path:
        return Path(self._settings.models_dir) / FOLDER

    # ------------------------------------------------------------ what there is

    def status(self, *, fresh: bool = False) -> EngineStatus:
        names = self.models()
        detail: dict[str, Any] = {"folder": str(self.root), "models": names, "model": names[0] if names else None}
        if not names:
            return EngineStatus(False, f"There is no {self.label} model in models/{FOLDER}/.", self.hint, detail)
        missing = [name for name in self.needs if find_spec(name) is None]
        if missing:
            return EngineStatus(
                False, f"{self.label} needs the Python package '{missing[0]}'.", "Run 'make install'.", detail
            )
        return EngineStatus(True, None, None, detail)

    def models(self) -> list[str]:
        return sorted(folder.name for folder in self._folders())

    def _folders(self) -> list[Path]:
        try:
            return [p for p in self.root.iterdir() if p.is_dir() and not p.name.startswith(".") and self.is_mine(p)]
        except OSError:
            return []

    def is_mine(self, folder: Path) -> bool:
        """Whether a folder holds a model of this kind."""
        return _model_type(folder) == self.name

    # ------------------------------------------------------------ work

    def describe(self, request: VisionRequest) -> VisionText:
        folder = self._folder(request.model)
        task = {
            "kind": self.name,
            "path": str(folder),
            "stamp": _stamp(folder),
            "length": request.length,
            "threshold": request.threshold,
            "device": self._settings.device,
            "precision": self._settings.precision,
        }
        with self._work:
            self._hold()
            self._used = {"name": f"{FOLDER}/{folder.name}", "at": now_iso()}
            try:
                header, _ = self._running().call({"type": "caption", "task": task}, [request.image], _Silent())
            finally:
                self._let_go_later()
        tags = [str(tag) for tag, _ in header["tags"]]
        if request.max_tags:
            tags = tags[: request.max_tags]
        text = str(header["text"])
        if not text and not tags:
            raise UpstreamError(
                f"'{folder.name}' found nothing to say about this picture.",
                service="captions",
                remedy="Lower the least certainty." if TAGS in self.styles else "Use another model.",
                extra={"cause": "empty"},
            )
        return VisionText(text=text, tags=tuple(tags), model=folder.name, notes=tuple(header["notes"]))

    def resident(self) -> list[dict[str, Any]]:
        """Return what the process holds (services/model_resident.py); [] when there is none."""
        return resident(self._child, self._used, busy=self._work.locked())

    def release(self) -> None:
        with self._work:
            self._hold()
            child, self._child = self._child, None
        if child is not None:
            child.stop()

    def close(self) -> None:
        self._hold()
        child, self._child = self._child, None  # also in the middle of a picture, which fails then
        if child is not None:
            child.stop()

    def _folder(self, name: str | None) -> Path:
        found = {folder.name: folder for folder in self._folders()}
        if not found:
            status = self.status()
            raise NotConfigured(str(status.reason), remedy=status.remedy, extra={"cause": "no_weights"})
        if missing := [package for package in self.needs if find_spec(package) is None]:
            raise Unavailable(
                f"{self.label} needs the Python package '{missing[0]}', which is not installed.",
                remedy="Run 'make install' (or pip install -r requirements.txt).",
                extra={"cause": "library"},
            )
        if name and name not in found:
            raise NotConfigured(
                f"There is no {self.label} model called '{name}' in models/{FOLDER}/.",
                remedy=f"Choose one of: {', '.join(sorted(found))}.",
                extra={"cause": "model_unknown"},
            )
        return found[name] if name else found[sorted(found)[0]]

    def _running(self) -> Child:
        if self._child is None or not self._child.is_alive:
            if self._child is not None:
                self._child.stop()  # it is dead: this closes its pipes
            self._child = Child(
                Path(self._settings.data_dir) / "logs" / "captioner.log",
                module="dalla.diffusion.caption_host",
                label="The captioner",
                service="captions",
            )
        return self._child

    def _hold(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

    def _let_go_later(self) -> None:
        self._timer = threading.Timer(max(1.0, self._settings.engine_idle_minutes * 60), self.release)
        self._timer.daemon = True
        self._timer.start()


class Blip(_Weights):
    """One plain sentence."""

    name = "blip"
    label = "BLIP"
    styles = (SENTENCE,)
    hint = f"Put a BLIP folder (config.json, model.safetensors, tokenizer) into models/{FOLDER}/."


class Florence2(_Weights):
    """A sentence up to a paragraph."""

    name = "florence2"
    label = "Florence-2"
    styles = (SENTENCE,)
    hint = f"Put a Florence-2 folder converted for transformers into models/{FOLDER}/ (e.g. florence-community/Florence-2-base)."


class WdTagger(_Weights):
    """Booru-style tags."""

    name = "wd_tagger"
    label = "WD tagger"
    styles = (TAGS,)
    needs = ("cv2",)
    hint = f"Put a folder with model.onnx and selected_tags.csv into models/{FOLDER}/."

    def is_mine(self, folder: Path) -> bool:
        return (folder / "model.onnx").is_file() and (folder / "selected_tags.csv").is_file()


def _model_type(folder: Path) -> str:
    try:
        config = json.loads((folder / "config.json").read_text("utf-8"))
    except (OSError, ValueError):
        return ""
    return str(config.get("model_type", "")) if isinstance(config, dict) else ""


def _stamp(folder: Path) -> str:
    """Return what changes when the folder's files do."""
    parts = []
    for path in sorted(folder.iterdir()):
        stat = path.stat()
        parts.append(f"{path.name}:{stat.st_size}:{stat.st_mtime_ns}")
    return hashlib.sha1("|".join(parts).encode(), usedforsecurity=False).hexdigest()
