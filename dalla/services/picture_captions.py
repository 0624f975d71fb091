"""Have the pictures of a dataset described: which engine can, what it is asked, and what becomes of its answer."""

from __future__ import annotations

import contextlib
import logging
import re
import time
from collections.abc import Callable
from typing import Any, Protocol

from dalla.engines.captions.vision.base import SENTENCE, TAGS, VisionEngine, VisionRequest, VisionText
from dalla.errors import Conflict, DallaError, InvalidInput, NotConfigured, RateLimited
from dalla.records.dataset import DatasetImage
from dalla.services.batch_run import BatchContext
from dalla.services.caption_text import Item, contains, fill, join, tag_key, tags_of, with_trigger
from dalla.services.captioning import small_jpeg
from dalla.services.dataset_captions import DatasetCaptions
from dalla.settings import Settings
from dalla.stores.base import BlobStore, DatasetStore

logger = logging.getLogger(__name__)

AUTO = "auto"
#: In this order "auto" looks for an engine that can work.
AUTO_ORDER = {
    SENTENCE: ("gemini", "local", "florence2", "blip", "basic"),
    TAGS: ("wd_tagger", "gemini", "local", "basic"),
}
#: A quota that comes back within these seconds is waited for, so many times a picture.
PATIENCE_SECONDS, PATIENCE_TIMES = 90.0, 5
_STEP_SECONDS = 0.25


class Engines(Protocol):
    """The engines by name."""

    def names(self) -> list[str]: ...

    def get(self, name: str) -> VisionEngine:
        """Raises NotFound, Unavailable."""

    def close(self) -> None: ...


class PictureCaptions:
    """Has pictures described. The operations that do it for many are in caption_operations.py."""

    def __init__(
        self,
        settings: Settings,
        store: DatasetStore,
        captions: DatasetCaptions,
        blobs: BlobStore,
        engines: Engines,
        *,
        free_memory: Callable[[], None] = lambda: None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """free_memory: called before an engine loads a network of its own, so that the drawing engine makes room."""
        self.settings = settings
        self.store = store
        self.captions = captions
        self.blobs = blobs
        self.free_memory = free_memory
        self._engines = engines
        self._sleep = sleep

    def close(self) -> None:
        self._engines.close()

    # ------------------------------------------------------------ engines

    def engines(self, *, fresh: bool = False) -> dict[str, Any]:
        """Return {engines: [{name, label, available, reason, remedy, styles, sends, basic, model, models…}], auto:
        {caption, tag}}; `fresh` asks each service and lists its models."""
        rows = []
        for name in self._engines.names():
            row: dict[str, Any] = {"name": name, "label": name, "available": False, "reason": None, "remedy": None}
            row |= {"styles": [], "sends": False, "basic": name == "basic", "model": None, "models": []}
            try:
                engine = self._engines.get(name)
                row |= {"label": engine.label, "styles": list(engine.styles), "sends": engine.sends}
                status = engine.status(fresh=fresh)
                refused = self.may_not_send(engine) if status.available else None
                row |= {key: value for key, value in status.detail.items() if key not in ("url", "folder")}
                if refused is not None:
                    row |= {"reason": refused.detail, "remedy": refused.remedy}
                else:
                    row |= {"available": status.available, "remedy": status.remedy}
                    row["detail" if status.available else "reason"] = status.reason
                if fresh and row["available"] and not row["models"]:
                    row["models"] = engine.models()
            except DallaError as exc:
                row |= {"reason": exc.detail, "remedy": exc.remedy}
            rows.append(row)
        return {"engines": rows, "auto": {"caption": self.choose(SENTENCE), "tag": self.choose(TAGS)}}

    def choose(self, style: str) -> str:
        """Return the engine that "auto" means now."""
        for name in AUTO_ORDER[style]:
            try:
                engine = self._engines.get(name)
            except DallaError:
                continue
            if engine.status().available and self.may_not_send(engine) is None:
                return name
        return "basic"

    def engine(self, name: str) -> VisionEngine:
        """Return an engine that can work. Raises InvalidInput (no such one), NotConfigured (why it cannot), Unavailable."""
        if name not in self._engines.names():
            raise InvalidInput.field("engine", f"Use {AUTO}, {', '.join(self._engines.names())}.")
        engine = self._engines.get(name)
        status = engine.status()
        if not status.available:
            raise NotConfigured(str(status.reason), remedy=status.remedy)
        refused = self.may_not_send(engine)
        if refused is not None:
            raise refused
        return engine

    def release(self, name: str) -> None:
        """Let an engine give its memory back."""
        with contextlib.suppress(DallaError):
            self._engines.get(name).release()

    def may_not_send(self, engine: VisionEngine) -> DallaError | None:
        """Why pictures must not leave this computer for this engine; None when they may, or do not."""
        if not engine.sends:
            return None
        if self.settings.dry_run:
            return Conflict(
                f"{engine.label} would get the pictures, and in the dry run nothing leaves this computer.",
                remedy="Switch the dry run off (DALLA_DRY_RUN), or use an engine on this computer.",
            )
        if not self.settings.caption_send_image:
            return NotConfigured(
                f"{engine.label} would get the pictures, and sending pictures is switched off.",
                remedy="Allow it in the settings (DALLA_CAPTION_SEND_IMAGE), or use an engine on this computer.",
            )
        return None

    # ------------------------------------------------------------ one picture

    def describe(self, ctx: BatchContext, image: DatasetImage, options: dict[str, Any]) -> VisionText:
        """Have one picture described; waits for a quota that comes back soon. Raises what the engine raises, Cancelled."""
        engine = self.engine(options["engine"])
        trigger = self._trigger(ctx, options)
        has_text = options["mode"] == "append" and bool(image.caption.strip())
        request = VisionRequest(
            image=small_jpeg(self.blobs.get(image.path)),
            width=image.width,
            height=image.height,
            style=options["style"],
            length=options["length"],
            instruction=fill(options["prompt"], Item(image.id, image.filename), image.caption, trigger).strip(),
            trigger=trigger if options["style"] == SENTENCE and not has_text else "",
            avoid=tuple(options["avoid"]),
            mention=tuple(options["mention"]),
            measures=self.store.metadata([image.id]).get(image.id, {}) if engine.name == "basic" else {},
            model=options["model"] or None,
            threshold=options["threshold"],
            max_tags=options["maxTags"],
        )
        for turn in range(PATIENCE_TIMES + 1):
            ctx.check_cancelled()
            try:
                return engine.describe(request)
            except RateLimited as exc:
                wait = exc.retry_after
                if not wait or wait > PATIENCE_SECONDS or turn == PATIENCE_TIMES:
                    raise
                logger.info("%s: waiting %.0f seconds for the quota", engine.label, wait)
                while wait > 0:
                    ctx.check_cancelled()
                    self._sleep(min(_STEP_SECONDS, wait))
                    wait -= _STEP_SECONDS
        raise AssertionError("the last turn returns or raises")

    def compose(
        self, ctx: BatchContext, before: str, seen: VisionText, options: dict[str, Any]
    ) -> tuple[str, list[str]]:
        """Return (the new caption, the words of "avoid" that it mentions all the same)."""
        trigger, avoid, mention = self._trigger(ctx, options), options["avoid"], options["mention"]
        if options["style"] == TAGS:
            tags = tags_of(seen.words(TAGS))
            tags = [tag for tag in tags if not any(contains(tag, word) for word in avoid)]
            tags += [word for word in mention if not any(contains(tag, word) for tag in tags)]
            there = {tag_key(tag) for tag in tags_of(before)} if options["mode"] == "append" else set()
            there |= {tag_key(trigger)}
            text = ", ".join(tag for tag in dict.fromkeys(tags) if tag_key(tag) not in there)
        else:
            text = seen.words(SENTENCE)
            for word in mention:
                if not contains(text, word):
                    text = join(text.rstrip().rstrip(".!"), word)
        if options["mode"] == "append" and before.strip():
            gap = " " if options["style"] == SENTENCE and before.rstrip().endswith((".", "!", "?")) else ", "
            text = join(before.rstrip(), text, gap)
        if trigger:
            text = re.sub(rf"(?<!\w){re.escape(trigger)}(?!\w)", lambda _: trigger, text, flags=re.IGNORECASE)
            text = with_trigger(text, trigger)
        return text, [word for word in avoid if contains(text, word)]

    @staticmethod
    def _trigger(ctx: BatchContext, options: dict[str, Any]) -> str:
        return ctx.dataset.trigger_word.strip() if options["trigger"] else ""
