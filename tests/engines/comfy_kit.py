"""What the tests of the ComfyUI engine share: a report that records, requests, a small graph."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from dalla.engines.comfy.graphs import GraphRequest, build
from dalla.engines.comfy.graphs.request import Graph
from dalla.errors import Cancelled
from dalla.records.image import ImageRequest


class Report:
    """Records what an engine tells; cancels when `cancel` is set, or when `cancel_when(message)` is true."""

    def __init__(self, cancel_when: Callable[[str], bool] = lambda message: False) -> None:
        self.messages: list[str] = []
        self.steps: list[tuple[float, float]] = []
        self.previews: list[tuple[bytes, str]] = []
        self.cancel = threading.Event()
        self._cancel_when = cancel_when

    def progress(self, done: float, total: float, message: str = "") -> None:
        self.messages.append(message)
        self.steps.append((done, total))
        if self._cancel_when(message):
            self.cancel.set()
        self.check_cancelled()

    def preview(self, image: bytes, mime: str) -> None:
        self.previews.append((image, mime))

    def check_cancelled(self) -> None:
        if self.cancel.is_set():
            raise Cancelled("Stopped.")


def settings_for(url: str, root: Path, **more: Any) -> Any:
    """Return settings as the engine reads them."""
    values: dict[str, Any] = {
        "comfyui_url": url,
        "comfyui_headers": {},
        "comfyui_timeout": 30.0,
        "comfyui_lora_dir": "",
        "loras_dir": root / "loras",
        "models_dir": root / "models",
        "data_dir": root / "data",
        "model_families": {},
    }
    return SimpleNamespace(**{**values, **more})


def request(**more: Any) -> ImageRequest:
    """Return a small SD1.5 request."""
    values: dict[str, Any] = {
        "prompt": "a red fox",
        "negative_prompt": "blurry",
        "model": "sd15.safetensors",
        "family": "sd15",
        "width": 64,
        "height": 96,
        "steps": 2,
        "seed": 5,
        "sampler": "euler",
        "scheduler": "normal",
        "cfg_scale": 6.0,
    }
    return ImageRequest(**{**values, **more})


def graph(**more: Any) -> Graph:
    """Return a small SD1.5 graph."""
    values: dict[str, Any] = {
        "prompt": "a red fox",
        "negative_prompt": "",
        "model": "sd15.safetensors",
        "width": 64,
        "height": 64,
        "steps": 2,
        "seeds": (5,),
        "sampler": "euler",
        "scheduler": "normal",
        "prefix": "dalla/t",
        "cfg_scale": 6.0,
    }
    return build("sd15", GraphRequest(**{**values, **more}))
