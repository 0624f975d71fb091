"""One run of an import task, from where it stands to its end."""

from __future__ import annotations

import hashlib
import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from dalla.archives import describe, printable
from dalla.errors import Conflict, DallaError, InvalidInput, NotFound, StorageError
from dalla.filenames import filename_key
from dalla.jobs.base import Context
from dalla.records.dataset import Dataset, DatasetImage, ImageFilter
from dalla.services.dataset_import_inventory import Found, Inventory
from dalla.services.dataset_import_masks import stem_of
from dalla.services.dataset_import_plan import SHOWN, Twins, count, sentence
from dalla.services.dataset_import_work import Intake, Outcome, Prepared, mask_key, prepare
from dalla.services.dataset_masks import KEY as MASK
from dalla.services.dataset_masks import prepare_mask
from dalla.services.dataset_sources import Source, SourceFile
from dalla.services.datasets import Datasets
from dalla.stores.base import BlobStore, DatasetStore

#: Pictures that are written down together, at most; and their bytes.
BATCH, BATCH_BYTES = 32, 48 * 1024 * 1024
#: The first pictures are shown soon; then twice as many each time, up to BATCH.
FIRST_BATCH = 4
#: Threads that write files: they wait for the disk, not for a processor.
WRITERS = 4
#: Seconds between two messages to open pages.
TELL_SECONDS = 1.0
#: Failed pictures listed with the task; all are counted.
MAX_FAILED = 500


class ImportRun:
    """One run of an import: threads decode ahead, this thread writes down in the order of the source."""

    def __init__(
        self,
        datasets: Datasets,
        store: DatasetStore,
        ctx: Context,
        dataset: Dataset,
        source: Source,
        inventory: Inventory,
        twins: Twins,
        intake: Intake,
        options: dict[str, Any],
        blobs: BlobStore,
    ) -> None:
        self._blobs = blobs
        self._datasets = datasets
        self._store = store
        self._ctx = ctx
        self._dataset = dataset
        self._source = source
        self._inventory = inventory
        self._intake = intake
        self._options = options
        self._skip = options["duplicates"] != "keep"
        self._recipes = bool(options["captions"] and options["recipes"])
        self._failed = 0
        self._total = len(inventory.pictures)
        self._captioned = 0
        self._earlier = 0  # of an attempt before this one
        self._added = 0
        self._outcome = Outcome()  # without the pictures themselves: there may be a great many
        self._twins = twins
        self._told = 0.0
        self._masks = 0  # of this attempt
        self._later: list[
            tuple[str, SourceFile]
        ] = []  # masks of pictures the dataset has already, by file name or stem

    def everything(self, workers: int) -> None:
        """Import every picture. Raises what ends the import; what is in the dataset by then is whole."""
        for name in self._inventory.needs_plugin:
            self._fail(
                name, "needs_plugin", "HEIC pictures need pillow-heif: run 'pip install pillow-heif' and import again."
            )
        for refusal in self._inventory.refused:
            self._fail(refusal.name, refusal.code, refusal.detail)
        todo = self._todo()
        self._later += self._inventory.loose_masks
        pool = ThreadPoolExecutor(workers, thread_name_prefix="import")
        writers = ThreadPoolExecutor(WRITERS, thread_name_prefix="import-write")
        try:
            self._go(todo, pool, writers, ahead=2 * workers + 2)
            self._give_masks()
            self._keep_orphans()
        except StorageError as exc:
            try:
                self._datasets.live(self._dataset.id)
            except (NotFound, Conflict) as gone:  # its folder vanished under the writing
                raise self._gone(gone) from exc
            raise self._stopped(exc) from exc
        except (NotFound, Conflict) as exc:
            raise self._gone(exc) from exc
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
            writers.shutdown(wait=True)
            self._datasets.changed(self._dataset.id)

    def _todo(self) -> list[tuple[str, Found]]:
        """What is left: not a duplicate inside the source, not written down by an attempt before."""
        task = self._ctx.job.id
        pictures = [(image_id(task, p.file.name), p) for p in self._inventory.pictures]
        done: set[str] = set()
        if self._ctx.job.attempt > 1:
            done = {image.id for image in self._store.images_by_id([id for id, _ in pictures])}
            self._earlier = len(done)
        todo = []
        for id, picture in pictures:
            twin = self._twins.of.get(picture.file.name)
            if twin is not None:
                self._twin(picture, twin[0])
            elif id not in done:
                todo.append((id, picture))
        return todo

    def _go(
        self, todo: list[tuple[str, Found]], pool: ThreadPoolExecutor, writers: ThreadPoolExecutor, ahead: int
    ) -> None:
        waiting: deque[tuple[str, Found, Future[Prepared | str]]] = deque()
        batch: list[tuple[str, Found, Prepared]] = []
        rest = iter(todo)
        size = min(BATCH, FIRST_BATCH)
        self._progress()
        while True:
            while len(waiting) < ahead and (following := next(rest, None)) is not None:
                waiting.append((*following, pool.submit(self._prepare, following[1])))
            if not waiting:
                break
            id, found, future = waiting.popleft()
            try:
                ready = future.result()
                if isinstance(ready, str):
                    self._twin(found, ready)
                else:
                    batch.append((id, found, ready))
            except StorageError:
                raise
            except DallaError as exc:
                self._fail(found.file.name, str(exc.extra.get("sin", exc.code)), exc.detail)
            if len(batch) >= size or sum(len(ready.data) for _, _, ready in batch) >= BATCH_BYTES:
                self._take(batch, writers)
                batch, size = [], min(BATCH, 2 * size)
            self._progress()
        self._take(batch, writers)
        self._progress()

    def _prepare(self, found: Found) -> Prepared | str:
        """Read and decode one picture, or return the name of the picture of the dataset it equals."""
        data = self._source.read(found.file)
        sha256 = hashlib.sha256(data).hexdigest()
        if self._skip and (there := self._intake.known([sha256])):
            return there[sha256]
        ready = prepare(data, found.file.name, sha256=sha256, recipe=self._recipes)
        if found.mask is not None:
            try:
                size = (ready.width, ready.height)
                ready.mask = prepare_mask(self._source.read(found.mask), found.mask.name, size)
            except StorageError:
                raise
            except DallaError as exc:  # the picture comes without it, and the list says why
                ready.mask_problem = exc
        return ready

    def _twin(self, found: Found, of: str) -> None:
        """Note a picture that is there already; its mask is for the one that is there."""
        self._outcome.duplicates.append({"name": found.name, "of": of, "kind": "file"})
        if found.mask is not None:
            self._later.append((of, found.mask))

    def _take(self, batch: list[tuple[str, Found, Prepared]], writers: ThreadPoolExecutor) -> None:
        if not batch:
            return
        self._datasets.live(self._dataset.id)
        outcome = self._intake.take(batch, writers)
        self._added += len(outcome.added)
        taken = {image.id for image in outcome.added}
        for id, found, ready in batch:
            if ready.mask_problem is not None and found.mask is not None:
                self._fail(found.mask.name, "mask", ready.mask_problem.detail)
            self._masks += id in taken and ready.mask is not None
        self._outcome.duplicates += outcome.duplicates
        self._outcome.renamed += outcome.renamed
        texts = {image.id: image.caption for image in outcome.added if image.caption}
        self._captioned += len(texts)
        if texts:
            self._datasets.after_captions(self._dataset.id, texts)
        if time.monotonic() - self._told >= TELL_SECONDS:
            self._told = time.monotonic()
            self._datasets.changed(self._dataset.id)

    def _give_masks(self) -> None:
        """Give masks to pictures the dataset has: those of doubles, and those that came without a picture."""
        if not self._later:
            return
        names: dict[str, DatasetImage] = {}
        rows = self._store.columns(self._dataset.id, [MASK], ImageFilter(kind="original"))
        for image in self._store.images_by_id([row[0] for row in rows]):
            for key in (filename_key(image.filename), filename_key(stem_of(image.filename))):
                names.setdefault(key, image)
        have = {id for id, mask in rows if mask is not None}
        for name, file in self._later:
            self._ctx.check_cancelled()
            found = names.get(filename_key(name)) or names.get(filename_key(name.partition("/")[2] or name))
            if found is None:
                self._fail(file.name, "mask", "It is a mask, and there is no picture of that name.")
            elif found.id not in have:
                try:
                    data = self._source.read(file)
                    mask = prepare_mask(data, file.name, (found.width, found.height))
                    key = mask_key(self._blobs, self._dataset.id, found.filename, mask)
                    self._blobs.put(key, data)
                    self._store.put_metadata(self._dataset.id, {found.id: {MASK: mask.facts(key)}})
                    self._masks += 1
                except StorageError:
                    raise
                except DallaError as exc:
                    self._fail(file.name, "mask", exc.detail)

    # ------------------------------------------------------------ telling

    def _fail(self, name: str, code: str, detail: str) -> None:
        self._failed += 1
        if self._failed <= MAX_FAILED:
            self._ctx.item_failed(printable(name), code, detail)

    def _progress(self) -> None:
        done = self._in_dataset + len(self._outcome.duplicates) + self._failed
        total = self._total + len(self._inventory.refused) + len(self._inventory.needs_plugin)
        self._ctx.progress(min(done, total), max(1, total), f"{self._in_dataset:,} of {count(self._total, 'picture')}")

    def tell(self, message: str) -> None:
        """Show what came of it where the progress stood."""
        total = max(1, self._total + len(self._inventory.refused) + len(self._inventory.needs_plugin))
        self._ctx.progress(total, total, message)

    @property
    def _in_dataset(self) -> int:
        return self._added + self._earlier

    def _stopped(self, exc: StorageError) -> StorageError:
        detail = exc.detail.removesuffix(" Nothing was changed.")
        return StorageError(
            f"{detail} {self._in_dataset:,} of {count(self._total, 'picture')} are in the dataset.",
            remedy=f"{exc.remedy or 'Check the disk.'} 'Run again' then goes on with the rest.",
        )

    def _gone(self, exc: DallaError) -> DallaError:
        """The dataset went away while pictures were put into it."""
        if isinstance(exc, NotFound):
            return NotFound("The dataset was deleted while pictures were imported into it; nothing of them is left.")
        if "trash" not in exc.detail:
            return exc
        return Conflict(
            "The dataset was moved to the trash while pictures were imported into it; "
            f"{self._in_dataset:,} of {count(self._total, 'picture')} are in it.",
            remedy="Restore it; 'Run again' then goes on with the rest.",
        )

    def _keep_orphans(self) -> None:
        """Keep the captions without a picture with the dataset: its statistics tell them."""
        if self._inventory.orphans:
            self._datasets.files.add_orphans(self._dataset.id, self._inventory.orphans)
            self._store.update(self._dataset.id)  # statistics of this revision do not know them

    def result(self) -> dict[str, Any]:
        """Return what the task answers. Raises InvalidInput when not a single picture could be used."""
        outcome, inventory = self._outcome, self._inventory
        if not self._in_dataset and not outcome.duplicates and not self._masks:
            failed = self._ctx_failed()
            raise InvalidInput(
                "Not a single picture could be imported." + (f" {failed}" if failed else ""),
                remedy="Send JPEG, PNG, WebP, AVIF, GIF, BMP or TIFF pictures.",
            )
        parts = [f"{count(self._in_dataset, 'picture')} imported", f"{self._captioned:,} with a caption"]
        if self._masks:
            parts.append(count(self._masks, "mask"))
        if outcome.duplicates:
            parts.append(f"{count(len(outcome.duplicates), 'duplicate')} skipped")
        if outcome.renamed:
            parts.append(f"{len(outcome.renamed):,} renamed")
        if self._failed:
            parts.append(f"{count(self._failed, 'file')} not taken")
        return {
            "datasetId": self._dataset.id,
            "summary": ", ".join(parts),
            "plan": sentence(inventory, len(self._twins.of)),
            "added": self._in_dataset,
            "captioned": self._captioned,
            "resumed": self._earlier,
            "masks": self._masks,
            "duplicates": outcome.duplicates[:SHOWN],
            "duplicatesCount": len(outcome.duplicates),
            "renamed": outcome.renamed[:SHOWN],
            "failedCount": self._failed,
            "orphans": inventory.orphans[:SHOWN],
            "orphansCount": len(inventory.orphans),
            "empties": inventory.empties[:SHOWN],
            "refused": describe(inventory.refused),
            "kohya": inventory.kohya,
        }

    def _ctx_failed(self) -> str:
        for refusal in self._inventory.refused:
            return f"{refusal.name}: {refusal.detail}"
        return f"{count(self._failed, 'file')} could not be read; the list says why." if self._failed else ""


def image_id(task_id: str, name: str) -> str:
    """Return the id a picture gets: the same one whenever the task is run again.

    >>> image_id("job_1754528276811_4suaz8mqv", "a.png") == image_id("job_1754528276811_4suaz8mqv", "a.png")
    True
    """
    number = int.from_bytes(hashlib.sha256(f"{task_id}\0{name}".encode()).digest()[:12], "big")
    tail = ""
    while len(tail) < 14:
        number, digit = divmod(number, 36)
        tail += "0123456789abcdefghijklmnopqrstuvwxyz"[digit]
    moment = task_id.split("_")[1] if task_id.count("_") == 2 else str(time.time_ns() // 1_000_000)
    return f"img_{moment}_{tail}"
