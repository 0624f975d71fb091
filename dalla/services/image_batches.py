"""Work on many pictures of a dataset: one job, a result for every picture, cancel, dry run and undo.

An operation (`Operation`) knows how to do one picture; everything around it is here. Operations are registered:
dalla/services/image_operations.py has the pictures' (face_crop, analyze, …), caption_operations.py the captions'.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dalla.engines.faces.base import FaceFinder
from dalla.errors import Conflict, DallaError, InvalidInput, NotFound
from dalla.events import EventBus
from dalla.ids import new_id
from dalla.jobs.base import Context, JobQueue
from dalla.records.dataset import Dataset, ImageFilter
from dalla.records.job import Job
from dalla.services.batch_journal import Journal, clear
from dalla.services.batch_run import BatchContext, Operation, Run, counts, shown, undoable
from dalla.services.datasets import Datasets
from dalla.settings import Settings
from dalla.stores.base import BlobStore, CaptionStore, DatasetStore
from dalla.times import now_iso

__all__ = ["KINDS", "UNDO_KIND", "BatchContext", "ImageBatches", "Operation"]

#: Job kinds by the lane their work belongs to, and that of taking a batch back.
KINDS = {"cpu": "image_batch", "net": "image_batch_net", "gpu": "image_batch_gpu"}
UNDO_KIND = "image_batch_undo"


class ImageBatches:
    """Starts batches, runs them, takes them back."""

    def __init__(
        self,
        settings: Settings,
        datasets: Datasets,
        store: DatasetStore,
        captions_store: CaptionStore,
        blobs: BlobStore,
        faces: FaceFinder,
        jobs: JobQueue,
        events: EventBus,
    ) -> None:
        self.settings = settings
        self.datasets = datasets
        self.store = store
        self.captions = captions_store
        self.blobs = blobs
        self.faces = faces
        self.events = events
        self._jobs = jobs
        self._root = Path(settings.data_dir) / "batches"
        self._operations: dict[str, Operation] = {}
        for lane, kind in KINDS.items():
            jobs.register(kind, self._run, lane=lane, restartable=True)
        jobs.register(UNDO_KIND, self._take_back, lane="cpu", restartable=True)

    # ------------------------------------------------------------ for callers

    def register(self, operation: Operation) -> None:
        """Offer an operation under its name; a second one of that name replaces the first."""
        self._operations[operation.name] = operation

    def names(self) -> list[str]:
        return sorted(self._operations)

    def operations(self) -> list[dict[str, Any]]:
        """What is offered: {name, label, changes, undo, kinds, available, options (the defaults)}; where something is
        missing, `options` is None and `reason` and `remedy` say what."""
        rows = []
        for name in self.names():
            work: Any = self._operations[name]
            row: dict[str, Any] = {
                "name": name,
                "label": work.label,
                "changes": work.changes,
                "undo": work.changes and hasattr(work, "undo"),
                "kinds": list(getattr(work, "kinds", ("original", "processed"))),
            }
            try:
                row |= {"available": True, "options": work.check({})}
            except InvalidInput:  # needs an option to be given
                row |= {"available": True, "options": {}}
            except DallaError as exc:
                row |= {"available": False, "options": None, "reason": exc.detail, "remedy": exc.remedy}
            rows.append(row)
        return rows

    def submit(
        self,
        operation: str,
        dataset_id: str | None = None,
        image_ids: list[str] | None = None,
        options: dict[str, Any] | None = None,
        dry_run: bool = False,
        *,
        where: ImageFilter | None = None,
    ) -> Job:
        """Queue a batch over the named pictures, or over those of the dataset that `where` finds.

        Pictures in the trash are left out. The plan is written before the job is queued.
        Raises InvalidInput (unknown operation, options, no pictures, several datasets), NotFound, Conflict (the
        dataset is in the trash), Unavailable and NotConfigured (what the operation needs is missing).
        """
        work = self._operation(operation)
        complete = work.check(dict(options or {}))
        dataset, ids = self._pictures(work, dataset_id, image_ids, where)
        journal = Journal(self._root, new_id("batch"))
        journal.create(
            {
                "operation": work.name,
                "datasetId": dataset.id,
                "options": complete,
                "dryRun": dry_run,
                "imageIds": ids,
                "createdAt": now_iso(),
            }
        )
        lane = work.lane(complete) if hasattr(work, "lane") else "cpu"
        title = f"{work.label}: {dataset.name} ({len(ids)})" + (" – trial" if dry_run else "")
        payload = {
            "batchId": journal.folder.name,
            "operation": work.name,
            "datasetId": dataset.id,
            "images": len(ids),
            "dryRun": dry_run,
        }
        return self._jobs.submit(KINDS[lane], payload, title=title, character_id=dataset.character_id)

    def undo(self, task_id: str) -> Job:
        """Queue taking a finished batch back. Raises NotFound, Conflict (runs still, nothing to take back, undone)."""
        job, journal = self._batch(task_id)
        work = self._operation(str(job.payload["operation"]))
        if job.payload.get("dryRun") or not work.changes or not hasattr(work, "undo"):
            raise Conflict("This batch changed nothing that could be taken back.")
        if not job.finished:
            raise Conflict("This batch is still running.", remedy="Cancel it first; what it has done is then undone.")
        if journal.undone is not None:
            raise Conflict("This batch has been undone already.")
        payload = {**job.payload, "taskId": job.id}
        return self._jobs.submit(UNDO_KIND, payload, title=f"Undo: {job.title}", parent_id=job.id)

    def results(self, task_id: str, *, status: str | None = None, limit: int = 100, offset: int = 0) -> dict[str, Any]:
        """What came of every picture: {items, total, counts, undone, undoable, …}. Raises NotFound."""
        job, journal = self._batch(task_id)
        plan, entries = journal.plan(), journal.entries()
        rows = [entry for entry in entries.values() if status is None or entry["status"] == status]
        part = rows[offset : offset + limit]
        names = {image.id: image.filename for image in self.store.images_by_id([row["id"] for row in part])}
        work = self._operations.get(plan["operation"])
        return {
            "taskId": job.id,
            "batchId": journal.folder.name,
            "operation": plan["operation"],
            "datasetId": plan["datasetId"],
            "options": plan["options"],
            "dryRun": plan["dryRun"],
            "status": job.status,
            "images": len(plan["imageIds"]),
            "counts": counts(entries),
            "undoable": bool(
                job.finished and work is not None and undoable(work, plan["dryRun"], entries) and journal.undone is None
            ),
            "undone": journal.undone,
            "items": [shown(row, names.get(row["id"])) for row in part],
            "total": len(rows),
        }

    def purge(self, days: float) -> int:
        """Clear away the notes (and replaced files) of batches older than `days`: they cannot be undone any more."""
        return clear(self._root, days)

    # ------------------------------------------------------------ what is asked for

    def _operation(self, name: str) -> Operation:
        work = self._operations.get(name)
        if work is None:
            raise InvalidInput.field("operation", f"Use one of {', '.join(self.names())}.")
        return work

    def _pictures(
        self, work: Operation, dataset_id: str | None, image_ids: list[str] | None, where: ImageFilter | None
    ) -> tuple[Dataset, list[str]]:
        if image_ids is not None:
            wanted = list(dict.fromkeys(image_ids))
            images = [image for image in self.store.images_by_id(wanted) if image.trashed_at is None]
            sets = {image.dataset_id for image in images}
            if dataset_id is not None and sets - {dataset_id}:
                raise InvalidInput.field("imageIds", "Some of these pictures are not in this dataset.")
            if len(sets) > 1:
                raise InvalidInput.field("imageIds", "These pictures are in several datasets; take one at a time.")
            if not images:
                raise InvalidInput.field("imageIds", "None of these pictures is there (any more).")
            return self.datasets.live(images[0].dataset_id), [image.id for image in images]
        if dataset_id is None:
            raise InvalidInput.field("datasetId", "Say which dataset, or which pictures.")
        dataset = self.datasets.live(dataset_id)
        where = (where or ImageFilter()).with_(trashed=False)
        kinds = getattr(work, "kinds", ("original", "processed"))
        if where.kind is None and len(kinds) == 1:
            where = where.with_(kind=kinds[0])
        ids = self.store.image_ids(dataset_id, where)
        if not ids:
            raise InvalidInput.field("datasetId", "There is no picture in this selection.")
        return dataset, ids

    def _batch(self, task_id: str) -> tuple[Job, Journal]:
        job = self._jobs.get(task_id)
        if job.kind not in KINDS.values():
            raise NotFound(f"The task '{task_id}' is no batch of pictures.")
        return job, Journal(self._root, str(job.payload["batchId"]))

    # ------------------------------------------------------------ the job

    def _run(self, ctx: Context, payload: dict[str, Any]) -> dict[str, Any]:
        journal = Journal(self._root, str(payload["batchId"]))
        plan = journal.plan()
        work = self._operation(plan["operation"])
        dataset = self.datasets.live(plan["datasetId"])
        batch = BatchContext(ctx, dataset, journal, dry_run=bool(plan["dryRun"]))
        try:
            return Run(self.store, self.datasets.changed, batch, work, plan).all()
        finally:
            journal.close()
            if not batch.dry_run:
                self.datasets.changed(dataset.id)

    def _take_back(self, ctx: Context, payload: dict[str, Any]) -> dict[str, Any]:
        journal = Journal(self._root, str(payload["batchId"]))
        plan = journal.plan()
        work: Any = self._operation(plan["operation"])
        dataset = self.datasets.live(plan["datasetId"])
        batch = BatchContext(ctx, dataset, journal)
        results = {id: entry["result"] for id, entry in journal.entries().items() if entry["status"] == "done"}
        try:
            brought = work.undo(batch, results) or {}
        finally:
            self.datasets.changed(dataset.id)
        result = {
            "batchId": journal.folder.name,
            "operation": plan["operation"],
            "datasetId": dataset.id,
            **brought,
            "summary": _taken_back(brought),
        }
        journal.mark_undone({**result, "at": now_iso()})
        return result


def _taken_back(counts: dict[str, Any]) -> str:
    """Say what taking back did: "8 new pictures are in the trash, 2 pictures are as before"."""
    words = {
        "trashed": ("new picture is in the trash", "new pictures are in the trash"),
        "restored": ("picture is as before", "pictures are as before"),
        "undone": ("caption is as before", "captions are as before"),
        "left": ("was changed since and stays", "were changed since and stay"),
    }
    said = [
        f"{counts[key]:,} {one if counts[key] == 1 else many}" for key, (one, many) in words.items() if counts.get(key)
    ]
    return ", ".join(said) or "There was nothing to take back"
