"""The child process that enlarges pictures: `python -m dalla.diffusion.upscale_host`.

It speaks the frames of `host.py`. A request is {"type": "upscale", "task": {…}} with one PNG; the answer has one.
"""

from __future__ import annotations

import threading
from typing import Any

from dalla.diffusion.host import Host, Listener, serve


class UpscaleHost(Host):
    """Holds one network at a time."""

    label = "upscaler"
    service = "upscaler"

    def open(self) -> Any:
        from dalla.diffusion.upscale import Enlarger

        return Enlarger()

    def work(
        self, worker: Any, header: dict[str, Any], blobs: list[bytes], cancel: threading.Event
    ) -> tuple[dict[str, Any], list[bytes]]:
        from dalla.diffusion.upscale import UpscaleTask

        png, factor, device = worker.enlarge(
            UpscaleTask(**header["task"]), blobs[0], Listener(self, header["id"]), cancel
        )
        return {"factor": factor, "device": device}, [png]


if __name__ == "__main__":
    serve(UpscaleHost)
