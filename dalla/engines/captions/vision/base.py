"""What an engine promises that describes the pictures of a dataset, for training.

These captions say what can be seen, plainly; the captions of posts (`engines/captions/base.py`) are another matter.
An engine gets a small copy of the picture without metadata and returns words. It knows nothing of datasets, locks
and trigger words in front: `services/caption_operations.py` puts those on.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

from dalla.errors import DallaError
from dalla.records.image import EngineStatus
from dalla.registry import BuiltOnce
from dalla.settings import Settings

#: What an engine can write: "sentence" (prose) or "tags" (comma-separated).
SENTENCE, TAGS = "sentence", "tags"
LENGTHS = ("short", "medium", "long")
#: `error.extra["cause"]` of failures that the next picture would meet as well.
FATAL_CAUSES = frozenset(
    {
        "no_key", "bad_key", "forbidden", "location", "quota", "model_retired", "model_unknown", "unreachable", "library",
        "no_model", "no_pictures", "no_weights", "weights",
    }
)  # fmt: skip


@dataclass(frozen=True)
class VisionRequest:
    """A picture and how it is to be described.

    image: a JPEG without metadata, longest side at most 1024 px. width, height: px of the picture itself.
    style: "sentence" or "tags". instruction: the person's own words to the model, variables filled in; "" for the
    usual ones. avoid: what is not to be described. mention: what must be. measures: what was measured of the picture
    (`dalla/measures.py`, faces). model: one of `models()`; None: the engine's own choice. threshold: least certainty
    of a tag, 0..1. max_tags: 0 for no limit.
    """

    image: bytes = b""
    width: int = 0
    height: int = 0
    style: str = SENTENCE
    length: str = "medium"
    instruction: str = ""
    trigger: str = ""
    avoid: tuple[str, ...] = ()
    mention: tuple[str, ...] = ()
    measures: dict[str, Any] = field(default_factory=dict)
    model: str | None = None
    threshold: float = 0.35
    max_tags: int = 0


@dataclass(frozen=True)
class VisionText:
    """What was seen: `text` for the style "sentence", `tags` for "tags" (an engine may fill both)."""

    text: str = ""
    tags: tuple[str, ...] = ()
    model: str = ""
    notes: tuple[str, ...] = ()

    def words(self, style: str) -> str:
        """Return the caption in this style, from what there is."""
        if style == TAGS:
            return ", ".join(self.tags) or self.text
        return self.text or ", ".join(self.tags)


class VisionEngine(Protocol):
    """Describes pictures. Safe for several threads (calls may wait for each other)."""

    name: str
    label: str
    styles: tuple[str, ...]
    sends: bool  # pictures leave this computer

    def status(self, *, fresh: bool = False) -> EngineStatus:
        """Say whether it can work. Asks nobody unless `fresh`. Never raises."""

    def models(self) -> list[str]:
        """List the models it can use. Empty when that cannot be known. Never raises."""

    def describe(self, request: VisionRequest) -> VisionText:
        """Describe one picture.

        Raises NotConfigured, UpstreamError (refused, blocked, cut off, bad key …), RateLimited, TimedOut, Unavailable,
        InvalidInput (the picture cannot be read). `is_fatal` tells which of them end a batch.
        """

    def release(self) -> None:
        """Give back memory; the next picture takes it again. Idempotent."""

    def close(self) -> None:
        """Free everything. Idempotent."""


class VisionEngines(BuiltOnce[VisionEngine]):
    """The engines by name; each is built when first asked for."""

    def __init__(self, settings: Settings) -> None:
        from dalla.engines.captions.vision import VISION_ENGINES

        super().__init__(VISION_ENGINES, settings)


def is_fatal(error: DallaError) -> bool:
    """Whether every further picture would fail in the same way: a bad key, no quota, a server that is down."""
    return error.extra.get("cause") in FATAL_CAUSES or error.code in ("not_configured", "storage")
