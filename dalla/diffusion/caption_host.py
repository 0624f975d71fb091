"""The child process that describes pictures with weights on this computer: `python -m dalla.diffusion.caption_host`.

It speaks the frames of `host.py`. A request is {"type": "caption", "task": {…}} with one JPEG.
"""

from __future__ import annotations

import threading
from typing import Any

from dalla.diffusion.host import Host, Listener, serve
from dalla.errors import Cancelled


class CaptionHost(Host):
    """Holds one captioner or tagger at a time."""

    label = "captioner"
    service = "captions"

    def open(self) -> Any:
        from dalla.diffusion.caption_models import Captioner

        return Captioner()

    def work(
        self, worker: Any, header: dict[str, Any], blobs: list[bytes], cancel: threading.Event
    ) -> tuple[dict[str, Any], list[bytes]]:
        from dalla.diffusion.caption_models import CaptionTask

        if cancel.is_set():
            raise Cancelled("Cancelled.")
        described = worker.describe(CaptionTask(**header["task"]), blobs[0], Listener(self, header["id"]))
        return described, []


if __name__ == "__main__":
    serve(CaptionHost)
