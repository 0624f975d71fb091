"""The captions of a dataset: edits of many with a preview, their history, taking back, tags, token counts."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dalla.errors import Conflict, DallaError, NotFound
from dalla.events import EventBus
from dalla.ids import check_id, new_id
from dalla.jobs.base import Context, JobQueue
from dalla.languages import language_of
from dalla.records.dataset import CaptionChange, CaptionEntry, Dataset, DatasetImage, ImageFilter
from dalla.records.job import Job
from dalla.services import caption_edits
from dalla.services.caption_text import Item
from dalla.settings import Settings
from dalla.stores.base import CaptionStore, DatasetStore
from dalla.tokens import KEYS, TokenCounter

logger = logging.getLogger(__name__)

KIND = "dataset_caption_edit"
SHOWN = 50  # changes in a preview
IDS_IN_EVENT = 200
#: Captions an edit changes while the page waits; more are changed by a task.
AT_ONCE = 20_000
ALL_TAGS = 100_000
_UNDO = "undo:"  # how the history marks a text that was brought back: "undo:<id of the entry>"


class DatasetCaptions:
    """Everything that changes or tells captions of many pictures. A batch is what is undone together."""

    def __init__(
        self,
        settings: Settings,
        datasets: DatasetStore,
        captions: CaptionStore,
        jobs: JobQueue,
        events: EventBus,
        *,
        tokens: TokenCounter | None = None,
    ) -> None:
        self._datasets = datasets
        self._captions = captions
        self._jobs = jobs
        self._events = events
        self.tokens = tokens or TokenCounter(Path(settings.models_dir))
        jobs.register(KIND, self._run, lane="cpu", restartable=True)

    # ------------------------------------------------------------ edits

    def edit(
        self,
        dataset_id: str,
        operation: str,
        options: dict[str, Any],
        where: ImageFilter,
        *,
        include_locked: bool = False,
        dry_run: bool = False,
        batch_id: str | None = None,
        check: Callable[[], None] | None = None,
    ) -> dict[str, Any]:
        """Change every caption the filter finds, in one transaction, or say what would change.

        Args:
            operation, options: see caption_edits.prepare.
            include_locked: change captions a person wrote as well.
            dry_run: change nothing.
            batch_id: the name of the batch; None: a new one.
            check: called now and then; may raise Cancelled.

        Returns {operation, dryRun, images (looked at), matches (captions that change), occurrences (places in them),
        locked (left alone because a person wrote them), changed, batchId (None when nothing changed), revision,
        changes: the first 50 as {imageId, filename, before, after}}.

        Raises NotFound, InvalidInput (options; a pattern that is wrong or takes too long), StorageError.
        """
        dataset = self._open(dataset_id)
        edit = caption_edits.prepare(
            operation, options, trigger=dataset.trigger_word, frequency=lambda: self._frequencies(dataset_id)
        )
        images = occurrences = locked_out = 0
        changes: list[CaptionChange] = []
        shown: list[dict[str, Any]] = []
        for number, (image_id, filename, text, locked) in enumerate(self._captions.texts(dataset_id, where)):
            if check is not None and number % 256 == 0:
                check()
            images += 1
            after, places = edit.apply(text, Item(image_id, filename))
            if after == text:
                continue
            if locked and not include_locked:
                locked_out += 1
                continue
            occurrences += places
            changes.append(CaptionChange(image_id=image_id, text=after, before=text))
            if len(shown) < SHOWN:
                shown.append({"imageId": image_id, "filename": filename, "before": text, "after": after})
        result = {
            "operation": operation,
            "dryRun": dry_run,
            "images": images,
            "matches": len(changes),
            "occurrences": occurrences,
            "locked": locked_out,
            "changed": 0,
            "batchId": None,
            "changes": shown,
        }
        if changes and not dry_run:
            batch_id = batch_id or new_id("batch")
            done = self.write(dataset_id, changes, source="edit", model_used=operation, batch_id=batch_id)
            result |= {"changed": len(done), "batchId": batch_id if done else None}
        return result | {"revision": self._datasets.get(dataset_id).revision}

    def count(self, dataset_id: str, where: ImageFilter) -> int:
        """How many captions an edit would look at. Raises NotFound."""
        return int(self._datasets.images(self._open(dataset_id).id, where, limit=1).total)

    def submit_edit(
        self,
        dataset_id: str,
        operation: str,
        options: dict[str, Any],
        where: ImageFilter,
        *,
        include_locked: bool = False,
    ) -> Job:
        """Do an edit as a task; its result is that of `edit`. Raises NotFound, InvalidInput (options)."""
        dataset = self._open(dataset_id)
        caption_edits.prepare(operation, options, trigger=dataset.trigger_word)
        payload = {
            "datasetId": dataset_id,
            "operation": operation,
            "options": options,
            "where": where.to_json(),
            "includeLocked": include_locked,
            "batchId": new_id("batch"),
        }
        return self._jobs.submit(KIND, payload, title=f"Captions of {dataset.name}: {operation.replace('_', ' ')}")

    def _run(self, ctx: Context, payload: dict[str, Any]) -> dict[str, Any]:
        """The edit is one transaction with its own batch: after a crash it has happened or it has not."""
        dataset_id, batch_id = payload["datasetId"], payload["batchId"]
        done = next((b for b in self._captions.batches(dataset_id, limit=200) if b.batch_id == batch_id), None)
        if done is not None:
            return {"operation": payload["operation"], "changed": done.images, "batchId": batch_id}
        ctx.progress(0, 1, "Changing captions")
        return self.edit(
            dataset_id,
            payload["operation"],
            payload["options"],
            ImageFilter.model_validate(payload["where"]),
            include_locked=payload["includeLocked"],
            batch_id=batch_id,
            check=ctx.check_cancelled,
        )

    # ------------------------------------------------------------ writing

    def write(
        self,
        dataset_id: str,
        changes: list[CaptionChange],
        *,
        source: str,
        model_used: str | None = None,
        batch_id: str | None = None,
    ) -> list[str]:
        """Set captions, count their tokens and tell everybody; return the ids that changed. Raises StorageError."""
        done = self._captions.write(dataset_id, changes, source=source, model_used=model_used, batch_id=batch_id)
        if done:
            texts = {change.image_id: change.text for change in changes}
            self.changed(dataset_id, {id: texts[id] for id in done})
        return done

    def changed(self, dataset_id: str, texts: dict[str, str]) -> None:
        """Call after captions were written elsewhere (by picture id): counts their tokens and publishes the event."""
        self.count_tokens(dataset_id, texts)
        try:
            revision = self._datasets.get(dataset_id).revision
        except NotFound:  # deleted under us: nobody is left to tell
            return
        ids = list(texts)
        self._events.publish(
            "caption.updated",
            {"datasetId": dataset_id, "imageIds": ids[:IDS_IN_EVENT], "count": len(ids), "revision": revision},
        )

    def count_tokens(self, dataset_id: str, texts: dict[str, str]) -> None:
        """Write tokensClip and tokensT5 of these captions, for the tokenizers that are there."""
        if not texts or not self.tokens.available():
            return
        counts = self.tokens.counts(list(texts.values()))
        try:
            self._datasets.put_metadata(dataset_id, dict(zip(texts, counts, strict=True)))
        except DallaError as exc:  # a number beside the caption: the caption itself is saved
            logger.warning("Token counts of %s could not be saved: %s", dataset_id, exc.detail)

    def count_all(self, dataset_id: str) -> int:
        """Count the tokens of every caption that has no count yet, and tell its language; return how many were counted.

        Tokenizers that came with a model since the start are found.
        """
        self.tokens.forget()
        untold = self._captions.texts(dataset_id, ImageFilter(captioned=True, missing=["language"]))
        self._datasets.put_metadata(
            dataset_id, {id: {"language": language_of(text) or None} for id, _, text, _ in untold}
        )
        texts = {
            id: text
            for key in self._token_keys()
            for id, _, text, _ in self._captions.texts(dataset_id, ImageFilter(captioned=True, missing=[key]))
        }
        self.count_tokens(dataset_id, texts)
        return len(texts)

    # ------------------------------------------------------------ history

    def history(self, image_id: str) -> dict[str, Any]:
        """Return {imageId, caption, captionLocked, undoTo (entry id or None), entries: newest first}. Raises NotFound."""
        image = self._datasets.image(check_id(image_id, "imageId"))
        entries = self._captions.history(image_id)
        target = _earlier(entries)
        return {
            "imageId": image.id,
            "caption": image.caption,
            "captionSource": image.caption_source,
            "captionLocked": image.caption_locked,
            "undoTo": target.id if target else None,
            "entries": [_entry(entry, first=n == 0) for n, entry in enumerate(entries)],
        }

    def undo(self, image_id: str, entry_id: int | None = None) -> DatasetImage:
        """Bring back the text before the current one, or that of an entry of the history; again and again goes on back.

        Raises NotFound (picture, entry), Conflict (there is nothing before it; it was changed at the same moment).
        """
        image = self._datasets.image(check_id(image_id, "imageId"))
        entries = self._captions.history(image_id)
        if entry_id is None:
            target = _earlier(entries)
            if target is None:
                raise Conflict("There is no earlier caption of this picture.")
        else:
            target = next((entry for entry in entries if entry.id == entry_id), None)
            if target is None:
                raise NotFound(f"The history of this picture has no entry {entry_id}.")
        change = CaptionChange(image_id=image.id, text=target.text, before=image.caption, locked=target.locked)
        done = self.write(
            image.dataset_id,
            [change],
            source=target.source if target.text else "none",
            model_used=f"{_UNDO}{target.id}",
        )
        if not done and target.text != image.caption:
            raise Conflict("The caption was changed at this moment, so nothing was taken back.", remedy="Look again.")
        return self._datasets.image(image_id)

    def batches(self, dataset_id: str, limit: int = 50) -> list[dict[str, Any]]:
        """Return what was written together, newest first. Raises NotFound."""
        self._datasets.get(check_id(dataset_id, "datasetId"))
        found = self._captions.batches(dataset_id, limit=limit)
        return [batch.to_json() | {"undoOf": _undo_of(batch.model_used)} for batch in found]

    def undo_batch(self, dataset_id: str, batch_id: str) -> dict[str, Any]:
        """Take back what a batch wrote; captions changed since are left alone.

        Returns {batchId (of the taking back, which can be taken back itself; None when nothing was left to do),
        undone, images (the batch wrote), left (changed since), revision}. Raises NotFound.
        """
        self._datasets.get(check_id(dataset_id, "datasetId"))
        known = next((b for b in self._captions.batches(dataset_id, limit=10_000) if b.batch_id == batch_id), None)
        if known is None:
            raise NotFound(f"There is no batch '{batch_id}' in this dataset.")
        changes = self._captions.before_batch(dataset_id, batch_id)
        done: list[str] = []
        new = new_id("batch")
        if changes:
            done = self.write(dataset_id, changes, source="edit", model_used=f"{_UNDO}{batch_id}", batch_id=new)
        return {
            "batchId": new if done else None,
            "undone": len(done),
            "images": known.images,
            "left": max(0, known.images - len(done)),
            "revision": self._datasets.get(dataset_id).revision,
        }

    # ------------------------------------------------------------ tags

    def tags(self, dataset_id: str, *, q: str = "", limit: int = 1000) -> dict[str, Any]:
        """Return {tags: [{tag, count}] most frequent first, total, revision}. Raises NotFound."""
        dataset = self._datasets.get(check_id(dataset_id, "datasetId"))
        found = self._captions.tags(dataset_id, limit=ALL_TAGS)
        if q.strip():
            wanted = q.strip().casefold()
            found = [row for row in found if wanted in str(row["tag"]).casefold()]
        return {"tags": found[:limit], "total": len(found), "revision": dataset.revision}

    def _frequencies(self, dataset_id: str) -> dict[str, int]:
        return {str(row["tag"]).lower(): int(row["count"]) for row in self._captions.tags(dataset_id, limit=ALL_TAGS)}

    def _token_keys(self) -> list[str]:
        return [KEYS[kind] for kind in self.tokens.available()]

    def _open(self, dataset_id: str) -> Dataset:
        """Return a dataset that may be changed. Raises NotFound, Conflict (it lies in the trash)."""
        dataset = self._datasets.get(check_id(dataset_id, "datasetId"))
        if dataset.trashed_at:
            raise Conflict(f"'{dataset.name}' lies in the trash.", remedy="Restore it first.")
        return dataset


def _undo_of(model_used: str | None) -> str | None:
    """Return the entry or batch that was brought back or taken back; None for everything else."""
    found = str(model_used or "")
    return found.removeprefix(_UNDO) if found.startswith(_UNDO) else None


def _earlier(entries: list[CaptionEntry]) -> CaptionEntry | None:
    """Return the entry that taking back leads to: entries that were brought back stand for what they brought back."""
    at = 0
    places = {entry.id: n for n, entry in enumerate(entries)}
    while at < len(entries) and (tail := _undo_of(entries[at].model_used)) is not None:
        found = places.get(int(tail)) if tail.isdecimal() else None
        if found is None or found <= at:  # a batch that was taken back: what stands before it is the text before
            break
        at = found
    current = entries[0].text if entries else ""
    return next((entry for entry in entries[at + 1 :] if entry.text != current), None)


def _entry(entry: CaptionEntry, *, first: bool) -> dict[str, Any]:
    row = entry.to_json(exclude={"image_id", "dataset_id"})
    return row | {"current": first, "undoOf": _undo_of(entry.model_used)}
