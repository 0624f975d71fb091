"""One run of a batch: picture after picture, from where its journal stands to its end."""

from __future__ import annotations

import errno
import logging
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any, Protocol

from dalla.errors import (
    Cancelled,
    Conflict,
    DallaError,
    NotConfigured,
    NotFound,
    StorageError,
    Unauthorized,
    Unavailable,
    UpstreamError,
)
from dalla.jobs.base import Context
from dalla.records.dataset import Dataset, DatasetImage
from dalla.services.batch_journal import Journal
from dalla.stores.base import DatasetStore

logger = logging.getLogger(__name__)

#: Records read at a time, so that what a person changed meanwhile is seen.
PIECE = 100
#: Results shown with the task itself; all of them are in the journal.
SHOWN = 50
#: Seconds between two messages to open pages.
TELL_SECONDS = 1.0
#: Errors after which the next picture would fail in the same way.
FATAL = (NotConfigured, Unavailable, Unauthorized, Cancelled)


class Operation(Protocol):
    """What is done to one picture. Optional methods are looked for by name (see below).

    kinds: tuple of "original", "processed": what is taken when no pictures are named (both when absent).
    lane(options): "cpu", "net" or "gpu" ("cpu" when absent). workers(options): pictures at a time (1 when absent).
    begin(ctx, images, options): once, before the first picture, also after a restart (`images`: the whole batch).
    end(ctx): once, at the end of every run, however it ends: frees what `begin` took.
    finish(ctx, results): once, after the last; `results` by picture id; what it returns is added to the result.
    undo(ctx, results): take everything back; return counts. `results` by picture id, as `run` returned them.
    """

    name: str
    label: str  # for the title of the task: "Crop faces"
    changes: bool  # whether pictures or captions change, so that a dry run and an undo make sense

    def check(self, options: dict[str, Any]) -> dict[str, Any]:
        """Return the options completed. Raises InvalidInput with the field, Unavailable, NotConfigured."""

    def run(self, ctx: BatchContext, image: DatasetImage, options: dict[str, Any]) -> dict[str, Any] | None:
        """Do one picture; return what came of it as JSON, or None when there was nothing to do.

        {"skipped": "why, in a sentence"} counts as nothing done, too, and says why.
        With `ctx.dry_run` nothing is written; what is returned says what would be done. Must bear being run again
        for the picture that was at work when the program was killed. Raises DallaError: this picture failed.
        """


class BatchContext:
    """The job's context with what a batch knows. `batch_id` is also the batch id of captions it writes."""

    def __init__(self, ctx: Context, dataset: Dataset, journal: Journal, *, dry_run: bool = False) -> None:
        self.job = ctx.job
        self.dataset = dataset
        self.dataset_id = dataset.id
        self.batch_id = journal.folder.name
        self.journal = journal
        self.dry_run = dry_run
        self.shared: dict[str, Any] = {}  # what `begin` prepares for `run`
        self._ctx = ctx

    def progress(self, done: float, total: float, message: str = "") -> None:
        """For long work in `begin`, `finish` and `undo`; pictures are counted by the batch."""
        self._ctx.progress(done, total, message)

    def preview(self, image: bytes, mime: str) -> None:
        self._ctx.preview(image, mime)

    def check_cancelled(self) -> None:
        self._ctx.check_cancelled()

    def item_failed(self, id: str, code: str, detail: str) -> None:
        self._ctx.item_failed(id, code, detail)


class Run:
    """One run of a batch, from where the journal stands to its end."""

    def __init__(
        self,
        store: DatasetStore,
        tell: Callable[[str], None],
        ctx: BatchContext,
        work: Operation,
        plan: dict[str, Any],
    ) -> None:
        self._store = store
        self._tell = tell
        self._ctx = ctx
        self._work: Any = work
        self._options: dict[str, Any] = plan["options"]
        self._ids: list[str] = plan["imageIds"]
        self._journal = ctx.journal
        self._entries = ctx.journal.entries()
        # What failed is tried again when the task is, what is done is not.
        self._left = [id for id in self._ids if self._entries.get(id, {}).get("status") in (None, "failed")]
        self._settled = len(self._ids) - len(self._left)
        self._told = time.monotonic()

    def all(self) -> dict[str, Any]:
        """Do what is left. Raises what ends the whole batch."""
        try:
            return self._all()
        finally:
            if hasattr(self._work, "end"):
                self._work.end(self._ctx)

    def _all(self) -> dict[str, Any]:
        ctx, work = self._ctx, self._work
        ctx.progress(self._settled, len(self._ids), self._message())
        # A trial may only say what it would do now: the check looks at the machine as it is.
        self._options = work.check(dict(self._options))
        if hasattr(work, "begin"):
            work.begin(ctx, self._store.images_by_id(self._ids), self._options)
        workers = max(1, int(work.workers(self._options))) if hasattr(work, "workers") else 1
        if workers == 1:
            for id, image in self._images():
                self._settle(id, self._one(image) if image else _gone(id))
        else:
            self._many(workers)
        done = {id: entry["result"] for id, entry in self._entries.items() if entry["status"] == "done"}
        more = (work.finish(ctx, done) if hasattr(work, "finish") else None) or {}
        return self._result(more)

    def _images(self) -> Iterator[tuple[str, DatasetImage | None]]:
        """What is left, freshly read; None for pictures that are gone or in the trash."""
        for start in range(0, len(self._left), PIECE):
            self._still_there()
            piece = self._left[start : start + PIECE]
            found = {image.id: image for image in self._store.images_by_id(piece)}
            for id in piece:
                self._ctx.check_cancelled()
                image = found.get(id)
                yield id, image if image is not None and image.trashed_at is None else None

    def _still_there(self) -> None:
        done = f"{self._settled} of {len(self._ids)} pictures were done."
        try:
            dataset = self._store.get(self._ctx.dataset_id)
        except NotFound:
            raise Conflict(f"The dataset was deleted while this was running. {done}") from None
        if dataset.trashed_at is not None:
            raise Conflict(
                f"The dataset was moved to the trash while this was running. {done}",
                remedy="Restore it, then 'Run again' goes on with the rest.",
            )

    def _one(self, image: DatasetImage) -> dict[str, Any]:
        """Do one picture; return its line. Raises what ends the whole batch."""
        try:
            result = self._work.run(self._ctx, image, self._options)
        except DallaError as exc:
            if _ends_all(exc):
                raise
            self._still_there()
            return {"id": image.id, "status": "failed", "code": exc.code, "detail": f"{image.filename}: {exc.detail}"}
        except Exception as exc:  # noqa: BLE001 - a picture that nobody foresaw must not end the batch
            logger.exception("%s failed for %s", self._work.name, image.id)
            detail = f"{image.filename}: {type(exc).__name__}: {exc}"[:500]
            return {"id": image.id, "status": "failed", "code": "internal", "detail": detail}
        if result is not None and "skipped" not in result:
            return {"id": image.id, "status": "done", "result": result}
        why = {"detail": str(result["skipped"])} if result else {}
        return {"id": image.id, "status": "skipped", "result": None, **why}

    def _many(self, workers: int) -> None:
        """Do several pictures at a time, never more than that under way."""
        source = self._images()
        under_way: set[Future[dict[str, Any]]] = set()
        with ThreadPoolExecutor(workers, thread_name_prefix="batch") as pool:
            try:
                for id, image in source:
                    if image is None:
                        self._settle(id, _gone(id))
                        continue
                    under_way.add(pool.submit(self._one, image))
                    if len(under_way) >= workers:
                        under_way = self._collect(under_way)
                while under_way:
                    self._ctx.check_cancelled()
                    under_way = self._collect(under_way)
            except BaseException:
                for future in under_way:
                    future.cancel()
                for future in under_way:  # what is finished in spite of that is not done again
                    if not future.cancelled() and future.exception() is None:
                        self._journal.add(future.result())
                raise

    def _collect(self, under_way: set[Future[dict[str, Any]]]) -> set[Future[dict[str, Any]]]:
        ready, rest = wait(under_way, timeout=0.5, return_when=FIRST_COMPLETED)
        failure: BaseException | None = None
        for future in ready:
            try:
                entry = future.result()
            except BaseException as exc:  # noqa: BLE001 - its neighbours' results are noted first
                failure = exc
            else:
                self._settle(entry["id"], entry)
        if failure is not None:
            under_way.difference_update(ready)
            raise failure
        return rest

    def _settle(self, id: str, entry: dict[str, Any]) -> None:
        """Note what came of a picture, count it and tell."""
        self._journal.add(entry)
        self._entries[id] = entry
        if entry["status"] == "failed":
            self._ctx.item_failed(id, entry["code"], entry["detail"])
        self._settled += 1
        now = time.monotonic()
        if now - self._told >= TELL_SECONDS and not self._ctx.dry_run:
            self._told = now
            self._tell(self._ctx.dataset_id)
        self._ctx.progress(self._settled, len(self._ids), self._message())

    def _message(self) -> str:
        return f"{self._work.label}: {self._settled} of {len(self._ids)}"

    def _result(self, more: dict[str, Any]) -> dict[str, Any]:
        wanted = ("done", "skipped") if self._ctx.dry_run else ("done",)  # a trial says what it would leave alone, too
        first = [entry for entry in self._entries.values() if entry["status"] in wanted][:SHOWN]
        names = {image.id: image.filename for image in self._store.images_by_id([row["id"] for row in first])}
        return {
            "batchId": self._ctx.batch_id,
            "operation": self._work.name,
            "datasetId": self._ctx.dataset_id,
            "dryRun": self._ctx.dry_run,
            "images": len(self._ids),
            **counts(self._entries),
            "undoable": undoable(self._work, self._ctx.dry_run, self._entries),
            "items": [shown(row, names.get(row["id"])) for row in first],
            **more,
        }


def undoable(work: Operation, dry_run: bool, entries: dict[str, dict[str, Any]]) -> bool:
    """Whether there is something that could be taken back."""
    done = any(entry["status"] == "done" for entry in entries.values())
    return work.changes and not dry_run and done and hasattr(work, "undo")


def counts(entries: dict[str, dict[str, Any]]) -> dict[str, int]:
    """How many pictures are done, skipped (nothing to do, or gone) and failed."""
    found = {"done": 0, "skipped": 0, "failed": 0}
    for entry in entries.values():
        found[entry["status"]] += 1
    return found


def _gone(id: str) -> dict[str, Any]:
    return {"id": id, "status": "skipped", "result": None, "detail": "The picture is gone or in the trash."}


def shown(entry: dict[str, Any], filename: str | None) -> dict[str, Any]:
    """A line as the API shows it: without what only an undo needs."""
    answer = {"imageId": entry["id"], "filename": filename, "status": entry["status"]}
    result = entry.get("result")
    if result:
        answer["result"] = {key: value for key, value in result.items() if key != "undo"}
    elif entry["status"] == "skipped" and "detail" in entry:
        answer["result"] = {"skipped": entry["detail"]}
    return answer | {key: entry[key] for key in ("code", "detail") if key in entry}


def _ends_all(exc: DallaError) -> bool:
    """Whether the next picture would fail in the same way: a full disk, a missing key, an engine that is off."""
    if isinstance(exc, StorageError):
        cause = exc.__cause__
        return isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
    return isinstance(exc, FATAL) or (isinstance(exc, UpstreamError) and exc.kind == "reauth")
