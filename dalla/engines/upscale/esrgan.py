"""ESRGAN from `models/upscale/`, run in a child process (`dalla/diffusion/upscale_host.py`). Imports no torch."""

from __future__ import annotations

import threading
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from dalla.engines.images.child import Child, resident
from dalla.engines.upscale.base import Report, Upscaled, UpscalerModel
from dalla.errors import InvalidInput, Unavailable
from dalla.settings import Settings
from dalla.times import now_iso

FOLDER = "upscale"
#: What is read. Pickles (.pth) are converted on the model shelf first.
ENDING = ".safetensors"


class Esrgan:
    """An `Upscaler`. One picture at a time; the process starts with the first and ends with `close`."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._work = threading.Lock()
        self._child: Child | None = None
        self._used: dict[str, str] = {}  # name and time of the last picture

    def models(self) -> list[UpscalerModel]:
        """The files in `models/upscale/`, by name."""
        return [UpscalerModel(name, path.name) for name, path in sorted(self._files().items())]

    def upscale(self, png: bytes, model: str, report: Report) -> Upscaled:
        """Enlarge a PNG (RGB or RGBA) by the model's own factor.

        Raises InvalidInput (no such model, no ESRGAN file), Unavailable, UpstreamError, StorageError, Cancelled.
        """
        path = self._files().get(model)
        if path is None:
            raise InvalidInput.field("options.model", f"There is no '{model}' in models/{FOLDER}/.")
        if find_spec("torch") is None:
            raise Unavailable(
                "ESRGAN needs the Python package 'torch', which is not installed.",
                remedy="Run 'make install' (or pip install -r requirements.txt), or use Lanczos.",
            )
        stat = path.stat()
        task = {
            "path": str(path),
            "stamp": f"{stat.st_size}-{stat.st_mtime_ns}",
            "device": self._settings.device,
            "precision": self._settings.precision,
        }
        with self._work:
            self._used = {"name": f"{FOLDER}/{path.name}", "at": now_iso()}
            header, blobs = self._running().call({"type": "upscale", "task": task}, [png], report)
        return Upscaled(blobs[0], int(header["factor"]))

    def resident(self) -> list[dict[str, Any]]:
        """Return what the process holds (services/model_resident.py); [] when there is none."""
        return resident(self._child, self._used, busy=self._work.locked())

    def release(self) -> None:
        """End the process when it is idle."""
        if self._work.acquire(blocking=False):
            try:
                self.close()
            finally:
                self._work.release()

    def close(self) -> None:
        """End the process; it starts again when needed."""
        child, self._child = self._child, None
        if child is not None:
            child.stop()

    def _running(self) -> Child:
        if self._child is None or not self._child.is_alive:
            if self._child is not None:
                self._child.stop()  # it is dead: this closes its pipes
            self._child = Child(
                Path(self._settings.data_dir) / "logs" / "upscaler.log",
                module="dalla.diffusion.upscale_host",
                label="The upscaler",
                service="upscaler",
            )
        return self._child

    def _files(self) -> dict[str, Path]:
        folder = Path(self._settings.models_dir) / FOLDER
        return {path.stem: path for path in folder.glob(f"*{ENDING}") if path.is_file()}
