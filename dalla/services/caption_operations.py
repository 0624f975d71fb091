"""The batch operations "caption" and "tag": an engine looks at each picture, and its words become the caption.

What a person wrote is left alone unless the batch is told otherwise. A picture that fails does not end the batch;
what every picture would meet (a bad key, no quota, a server that is off) does, with that as the reason.
"""

from __future__ import annotations

import re
import threading
from typing import Any

from dalla.engines.captions.vision.base import LENGTHS, SENTENCE, TAGS, is_fatal
from dalla.errors import DallaError, InvalidInput, NotFound, Unavailable
from dalla.records.dataset import CaptionChange, DatasetImage
from dalla.services.batch_run import BatchContext
from dalla.services.picture_captions import AUTO, PictureCaptions

MODES = ("only_empty", "append", "replace")
#: Where the work of an engine queues, and how many pictures it takes at a time.
LANES = {"gemini": "net", "local": "net", "blip": "gpu", "florence2": "gpu", "wd_tagger": "gpu", "basic": "cpu"}
WORKERS = {"gemini": 3}
HEAVY = {"blip", "florence2"}  # these want the graphics card for themselves
#: Failures one after another, none of them the pictures' own, that end a batch.
IN_A_ROW = 4
#: Failures that are the picture's: its content, its file.
_OWN_CAUSES = {"safety", "blocked", "empty", "cut_off", "unreadable"}
_OWN_CODES = {"invalid_input", "not_found", "too_large", "unsupported_media"}
_MAX_WORDS = 50  # entries of "avoid" and "mention"


def caption_operations(pictures: PictureCaptions) -> list[DescribeOperation]:
    """Return "caption" and "tag", for `ImageBatches.register`."""
    return [
        DescribeOperation(pictures, "caption", "Caption pictures", SENTENCE, "only_empty"),
        DescribeOperation(pictures, "tag", "Tag pictures", TAGS, "append"),
    ]


class DescribeOperation:
    """One of the two operations: they differ in the style they write and in what is done with captions that exist."""

    changes = True

    def __init__(self, pictures: PictureCaptions, name: str, label: str, style: str, mode: str) -> None:
        self.name = name
        self.label = label
        self._pictures = pictures
        self._style = style
        self._mode = mode
        self._guard = threading.Lock()

    # ------------------------------------------------------------ what is asked for

    def check(self, options: dict[str, Any]) -> dict[str, Any]:
        """Return the options completed.

        engine: "auto" or a name; model; mode: only_empty, append, replace; style: sentence, tags; length: short,
        medium, long; prompt: own words to the model with {trigger} {tags} {name} {folder}; avoid, mention: lists of
        words; trigger: put the trigger word in front (true); includeLocked (false); threshold 0..1 and maxTags for tags.

        Raises InvalidInput by field, NotConfigured, Conflict and Unavailable (why the engine cannot work).
        """
        known = {
            "engine", "model", "mode", "style", "length", "prompt", "avoid", "mention", "trigger", "includeLocked",
            "threshold", "maxTags",
        }  # fmt: skip
        for key in options:
            if key not in known:
                raise InvalidInput.field(key, f"There is no such option. Known: {', '.join(sorted(known))}.")
        style = _choice(options, "style", (SENTENCE, TAGS), "") or self._style
        name = _text(options, "engine", 50) or AUTO
        engine = self._pictures.engine(self._pictures.choose(style) if name == AUTO else name)
        if style not in engine.styles:
            if options.get("style") or self._style == TAGS:
                able = "tags" if TAGS in engine.styles else "sentences"
                field = "style" if options.get("style") else "engine"
                raise InvalidInput.field(field, f"{engine.label} writes {able} only.")
            style = engine.styles[0]
        return {
            "engine": engine.name,
            "model": _text(options, "model", 200),
            "mode": _choice(options, "mode", MODES, self._mode),
            "style": style,
            "length": _choice(options, "length", LENGTHS, "medium"),
            "prompt": _text(options, "prompt", 4000),
            "avoid": _words(options, "avoid"),
            "mention": _words(options, "mention"),
            "trigger": _flag(options, "trigger", True),
            "includeLocked": _flag(options, "includeLocked", False),
            "threshold": _number(options, "threshold", 0.35, 0.01, 1.0),
            "maxTags": int(_number(options, "maxTags", 0, 0, 500)),
        }

    def lane(self, options: dict[str, Any]) -> str:
        return LANES.get(options["engine"], "cpu")

    def workers(self, options: dict[str, Any]) -> int:
        return WORKERS.get(options["engine"], 1)

    # ------------------------------------------------------------ work

    def begin(self, ctx: BatchContext, images: list[DatasetImage], options: dict[str, Any]) -> None:
        ctx.shared.update(locked=0, kept=0, changedMeanwhile=0, mentions=0, failures=0)
        if options["engine"] in HEAVY:
            self._pictures.free_memory()

    def run(self, ctx: BatchContext, image: DatasetImage, options: dict[str, Any]) -> dict[str, Any] | None:
        pictures = self._pictures
        if ctx.job.attempt > 1 and not ctx.dry_run and (done := self._done_before(ctx, image)) is not None:
            return done
        if self._left_alone(ctx, image, options):
            return None
        try:
            seen = pictures.describe(ctx, image, options)
        except DallaError as exc:
            raise self._judged(ctx, exc) from exc
        self._count(ctx, "failures", reset=True)
        after, wrong = pictures.compose(ctx, image.caption, seen, options)
        if after == image.caption:
            return None
        result: dict[str, Any] = {
            "before": image.caption,
            "after": after,
            "engine": options["engine"],
            "model": seen.model,
            "notes": list(seen.notes),
        }
        if wrong:
            self._count(ctx, "mentions")
            result["mentions"] = wrong
        if ctx.dry_run:
            return result
        if self._left_alone(ctx, pictures.store.image(image.id), options):  # a person wrote while the engine looked
            return None
        change = CaptionChange(image_id=image.id, text=after, before=image.caption)
        used = options["engine"] if seen.model in ("", options["engine"]) else f"{options['engine']}:{seen.model}"
        if not pictures.captions.write(
            ctx.dataset_id, [change], source="engine", model_used=used, batch_id=ctx.batch_id
        ):
            self._count(ctx, "changedMeanwhile")
            return None
        return result

    def finish(self, ctx: BatchContext, results: dict[str, dict[str, Any]]) -> dict[str, Any]:
        """Give the engine's memory back; tell why pictures were left alone."""
        name = next((str(row["engine"]) for row in results.values() if "engine" in row), None)
        if name is not None:
            self._pictures.release(name)
        told = ("locked", "kept", "changedMeanwhile", "mentions")
        return {"engine": name, **{key: ctx.shared.get(key, 0) for key in told}}

    def undo(self, ctx: BatchContext, results: dict[str, dict[str, Any]]) -> dict[str, Any]:
        try:
            return self._pictures.captions.undo_batch(ctx.dataset_id, ctx.batch_id)
        except NotFound:  # it wrote nothing
            return {"undone": 0, "images": 0, "left": 0}

    def _left_alone(self, ctx: BatchContext, image: DatasetImage, options: dict[str, Any]) -> bool:
        if image.caption_locked and not options["includeLocked"]:
            self._count(ctx, "locked")
            return True
        if options["mode"] == "only_empty" and image.caption.strip():
            self._count(ctx, "kept")
            return True
        return False

    def _done_before(self, ctx: BatchContext, image: DatasetImage) -> dict[str, Any] | None:
        """What this batch wrote for the picture just before the program was killed."""
        entries = self._pictures.captions.history(image.id)["entries"]
        if not entries or entries[0].get("batchId") != ctx.batch_id:
            return None
        engine, _, model = str(entries[0].get("modelUsed") or "").partition(":")
        before = next((row["text"] for row in entries if row.get("batchId") != ctx.batch_id), "")
        return {"before": before, "after": image.caption, "engine": engine, "model": model or engine, "notes": []}

    def _judged(self, ctx: BatchContext, exc: DallaError) -> DallaError:
        """Return the error to raise: as it is for this picture alone, as Unavailable when it ends the batch."""
        if exc.code == "cancelled":
            return exc
        if is_fatal(exc):
            return _ending(exc, exc.detail)
        if exc.extra.get("cause") in _OWN_CAUSES or exc.code in _OWN_CODES:
            return exc
        if self._count(ctx, "failures") >= IN_A_ROW:
            return _ending(exc, f"Stopped after {IN_A_ROW} failures one after another. The last: {exc.detail}")
        return exc

    def _count(self, ctx: BatchContext, key: str, *, reset: bool = False) -> int:
        with self._guard:
            ctx.shared[key] = 0 if reset else ctx.shared.get(key, 0) + 1
            return int(ctx.shared[key])


def _ending(exc: DallaError, detail: str) -> DallaError:
    return Unavailable(detail, remedy=exc.remedy, retry_after=exc.retry_after, extra=dict(exc.extra))


# ---------------------------------------------------------------- reading options


def _text(options: dict[str, Any], name: str, longest: int) -> str:
    value = options.get(name)
    if value is None:
        return ""
    if not isinstance(value, str) or len(value) > longest:
        raise InvalidInput.field(name, f"Give text of at most {longest} characters.")
    return value.strip()


def _choice(options: dict[str, Any], name: str, known: tuple[str, ...], default: str) -> str:
    value = options.get(name)
    if value in (None, ""):
        return default
    if value not in known:
        raise InvalidInput.field(name, f"Use {', '.join(known)}.")
    return str(value)


def _flag(options: dict[str, Any], name: str, default: bool) -> bool:
    value = options.get(name)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise InvalidInput.field(name, "Use true or false.")
    return value


def _number(options: dict[str, Any], name: str, default: float, least: float, most: float) -> float:
    value = options.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        raise InvalidInput.field(name, f"Use a number from {least:g} to {most:g}.")
    return float(value)


def _words(options: dict[str, Any], name: str) -> list[str]:
    value = options.get(name) or []
    if isinstance(value, str):
        value = re.split(r"[,;\n]", value)
    if not isinstance(value, list) or not all(isinstance(word, str) and len(word) <= 200 for word in value):
        raise InvalidInput.field(name, "Give a list of words, or text with commas.")
    words = list(dict.fromkeys(stripped for word in value if (stripped := word.strip())))
    if len(words) > _MAX_WORDS:
        raise InvalidInput.field(name, f"At most {_MAX_WORDS} entries.")
    return words
