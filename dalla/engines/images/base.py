"""What an image engine promises. Implementations: comfyui.py, builtin.py.

An engine translates its own failures into `dalla.errors` and leaves nothing running behind:
whatever way `generate` ends, no prompt of ours stays in a server's queue.
"""

from __future__ import annotations

from typing import Protocol

from dalla.records.image import EngineStatus, ImageRequest, ImageResult, LoraInfo, ModelInfo, UpscaleRequest


class Report(Protocol):
    """Where an engine says how far it is. The job's context is one."""

    def progress(self, done: float, total: float, message: str = "") -> None:
        """Tell the progress. Raises Cancelled when somebody asked to stop."""

    def preview(self, image: bytes, mime: str) -> None:
        """Show a rough picture of what is being drawn (JPEG or PNG bytes)."""

    def check_cancelled(self) -> None:
        """Raise Cancelled when somebody asked to stop."""


class ImageEngine(Protocol):
    """Makes pictures."""

    name: str
    label: str

    def status(self, *, fresh: bool = False) -> EngineStatus:
        """Say whether pictures can be made now. Cheap (cached for seconds) unless `fresh`. Never raises."""

    def models(self) -> list[ModelInfo]:
        """List what can be generated with. Empty when the engine is off. Never raises for being off."""

    def loras(self) -> list[LoraInfo]:
        """List the LoRAs that can be applied. Empty when the engine is off."""

    def options(self) -> dict[str, list[str]]:
        """Return {"samplers": [...], "schedulers": [...], "upscalers": [...]} this engine accepts."""

    def check(self, request: ImageRequest) -> None:
        """Find out before queueing what would fail: a missing model, LoRA, sampler, node.

        Raises InvalidInput (field named), NotConfigured or Unavailable with the remedy.
        """

    def generate(self, request: ImageRequest, report: Report) -> ImageResult:
        """Make `request.batch_size` pictures.

        Raises Cancelled, UpstreamError, Unavailable, TimedOut, InvalidInput.
        """

    def upscale(self, request: UpscaleRequest, report: Report) -> ImageResult:
        """Enlarge one picture. Same errors as generate."""

    def close(self) -> None:
        """Free what is held (child processes, sockets). Idempotent."""
