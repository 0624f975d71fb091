"""Pictures and captions from outside into a dataset: first a plan, then a task.

The task may be killed, cancelled or run out of disk at any moment: what is in the dataset then is whole, and starting
it again goes on with the rest. A picture's id follows from the task and the name of its file, so the rows themselves
say what is done; there is no second record that could disagree.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from pydantic.alias_generators import to_camel

from dalla.archives import printable
from dalla.errors import InvalidInput
from dalla.jobs.base import Context, JobQueue
from dalla.records.dataset import Dataset
from dalla.records.job import Job
from dalla.services.dataset_import_inventory import Inventory, take_inventory
from dalla.services.dataset_import_plan import Twins, exact_twins, make_plan
from dalla.services.dataset_import_run import ImportRun
from dalla.services.dataset_import_work import Claims, Intake, known_hashes
from dalla.services.dataset_sources import Source, open_source
from dalla.services.datasets import Datasets
from dalla.services.uploads import Uploads
from dalla.settings import Settings
from dalla.stores.base import BlobStore, DatasetStore

KIND = "dataset_import"
_DEFAULTS: dict[str, Any] = {
    "captions": True,
    "folder_captions": True,
    "recipes": True,
    "kohya": True,
    "masks": True,
    "duplicates": "skip",
}


class DatasetImport:
    """Plans imports and runs them."""

    def __init__(
        self,
        settings: Settings,
        datasets: Datasets,
        store: DatasetStore,
        blobs: BlobStore,
        uploads: Uploads,
        jobs: JobQueue,
        *,
        workers: int | None = None,
    ) -> None:
        self._data = Path(settings.data_dir)
        self.datasets = datasets
        self._store = store
        self._blobs = blobs
        self.uploads = uploads
        self._jobs = jobs
        self._workers = workers or max(1, os.cpu_count() or 1)
        self.claims = Claims(store)
        jobs.register(KIND, self._run, lane="cpu", restartable=True)

    # ------------------------------------------------------------ for callers

    def plan(
        self,
        *,
        upload_ids: list[str] | None = None,
        path: str | None = None,
        dataset_id: str | None = None,
        name: str | None = None,
        options: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Say what an import would do; change nothing.

        Raises InvalidInput (neither or both of uploads and path, options), NotFound, Forbidden (the data folder),
        Conflict (an upload is not complete, the dataset is in the trash), UnsupportedMedia and TooLarge (the
        archive), StorageError.
        """
        chosen = check_options(options)
        dataset = self.datasets.live(dataset_id) if dataset_id else None
        source = self._open(upload_ids or [], path)
        try:
            inventory = take_inventory(source, chosen)
            twins = self._twins(source, inventory, dataset)
            taken = self._store.filenames(dataset.id, "original") if dataset else set()
            return make_plan(
                source,
                inventory,
                twins,
                names_taken=taken,
                free_bytes=self._free(),
                dataset={
                    "id": dataset.id if dataset else None,
                    "name": dataset.name if dataset else (name or _name_from(source.label)),
                },
                options=chosen,
            )
        finally:
            source.close()

    def start(
        self,
        *,
        upload_ids: list[str] | None = None,
        path: str | None = None,
        dataset_id: str | None = None,
        name: str | None = None,
        options: dict[str, Any] | None = None,
        character_id: str | None = None,
    ) -> tuple[Job, Dataset]:
        """Queue an import into a dataset, or into a new one of that name. Raises like `plan`."""
        chosen = check_options(options)
        dataset = self.datasets.live(dataset_id) if dataset_id else None
        source = self._open(upload_ids or [], path)  # what cannot be opened is told now, not by a failed task
        try:
            label = source.label
            if not source.files:
                told = [{"field": "files", "message": f"{row.name}: {row.detail}"} for row in source.refused[:20]]
                raise InvalidInput("There is nothing in it that could be imported.", errors=told)
        finally:
            source.close()
        if dataset is None:
            dataset = self.datasets.create(
                name or _name_from(label), character_id=character_id, source_path=printable(path or label)
            )
        self.uploads.touch(upload_ids or [])
        job = self._jobs.submit(
            KIND,
            {"datasetId": dataset.id, "uploadIds": upload_ids or [], "path": path, "options": chosen},
            title=f"Import {printable(label)[:80]} into {dataset.name[:80]}",
            character_id=dataset.character_id,
        )
        return job, dataset

    # ------------------------------------------------------------ the task

    def _run(self, ctx: Context, payload: dict[str, Any]) -> dict[str, Any]:
        dataset = self.datasets.live(str(payload["datasetId"]))
        upload_ids = [str(id) for id in payload.get("uploadIds") or []]
        if ctx.job.attempt > 1 and (known := self.uploads.outcome(ctx.job.id)) is not None:
            return known  # the app was stopped between the end of the import and the end of the task
        chosen = {**_DEFAULTS, **(payload.get("options") or {})}
        self.uploads.touch(upload_ids)
        source = self._open(upload_ids, payload.get("path"))
        try:
            ctx.progress(0, max(1, len(source.files)), "Looking at the files")
            inventory = take_inventory(source, chosen, lambda d, n: ctx.progress(d, n, "Looking at the files"))
            twins = (
                Twins()
                if chosen["duplicates"] == "keep"
                else exact_twins(source, inventory.pictures, tick=lambda _, __: ctx.check_cancelled())
            )
            with self.claims.of(dataset.id) as claimed:
                intake = Intake(
                    dataset.id, self._store, self._blobs, claimed, keep_duplicates=chosen["duplicates"] == "keep"
                )
                run = ImportRun(
                    self.datasets, self._store, ctx, dataset, source, inventory, twins, intake, chosen, self._blobs
                )
                run.everything(self._workers)
        finally:
            source.close()
        result = run.result()
        run.tell(result["summary"])
        if upload_ids:
            self.uploads.keep_outcome(ctx.job.id, result)
            self.uploads.discard(upload_ids)
        self.uploads.expire()
        return result

    # ------------------------------------------------------------ inside

    def _open(self, upload_ids: list[str], path: str | None) -> Source:
        if bool(upload_ids) == bool(path):
            raise InvalidInput.field("uploadIds", "Give either uploadIds or path: what is to be imported.")
        if path:
            return open_source(path=path, private=self._data)
        return open_source(uploads=self.uploads.files(list(dict.fromkeys(upload_ids))), private=self._data)

    def _twins(self, source: Source, inventory: Inventory, dataset: Dataset | None) -> Twins:
        known: Callable[[list[str]], dict[str, str]] | None = None
        if dataset is not None and self._store.counts([dataset.id]).get(dataset.id, {}).get("images"):
            known = partial(known_hashes, self._store, dataset.id)
        return exact_twins(source, inventory.pictures, known)

    def _free(self) -> int | None:
        try:
            return shutil.disk_usage(self._data).free
        except OSError:
            return None


# ---------------------------------------------------------------- helpers


def check_options(options: dict[str, Any] | None) -> dict[str, Any]:
    """Return complete options (snake_case). Raises InvalidInput by field."""
    chosen = dict(_DEFAULTS)
    names = {to_camel(name): name for name in _DEFAULTS} | {name: name for name in _DEFAULTS}
    for given, value in (options or {}).items():
        name = names.get(given)
        if name is None:
            raise InvalidInput.field(f"options.{given}", f"Use {', '.join(to_camel(n) for n in _DEFAULTS)}.")
        if name == "duplicates":
            if value not in ("skip", "keep"):
                raise InvalidInput.field("options.duplicates", "Use skip or keep.")
        elif not isinstance(value, bool):
            raise InvalidInput.field(f"options.{given}", "Use true or false.")
        chosen[name] = value
    return chosen


def _name_from(label: str) -> str:
    stem = label.rpartition(".")[0] if label.lower().endswith((".zip", ".cbz")) else label
    return printable(stem).strip()[:200] or "Imported pictures"
