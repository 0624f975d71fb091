"""Exports of a dataset as zip files, and the folder in training_data/ that our own trainer reads.

An export is made from a version, as a job. The same version and options give the same bytes: nothing in an archive
depends on the clock, on its number or on the order in which anything happened.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import secrets
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from dalla.errors import Conflict, DallaError, InvalidInput, NotFound, StorageError
from dalla.ids import new_id
from dalla.jobs.base import Context, JobQueue
from dalla.paths import fsync_folder
from dalla.records.dataset import Dataset, DatasetExport, DatasetVersion, ImageFilter
from dalla.records.job import Job
from dalla.services.dataset_archive import write_archive
from dalla.services.dataset_formats import FORMATS, Entry, ExportOptions, Format, Item, format_of, options_of, plan
from dalla.services.dataset_formats_configs import About
from dalla.services.dataset_materialize import Materializer
from dalla.services.dataset_pictures import focus_of
from dalla.services.dataset_versions import DatasetVersions
from dalla.services.datasets import Datasets
from dalla.services.file_trash import FileTrash
from dalla.settings import Settings
from dalla.stores.base import BlobStore, DatasetStore, DatasetVersionStore
from dalla.times import now_iso

logger = logging.getLogger(__name__)

EXPORT = "dataset_export"
MATERIALIZE = "dataset_materialize"
RESTORE = "dataset_restore"
_PIECE = 1024 * 1024
MAX_TOLD = 1000  # failures an answer lists


class DatasetExports:
    """Makes zip files from versions and folders for training, as tasks; restores large versions as a task, too."""

    def __init__(
        self,
        settings: Settings,
        datasets: Datasets,
        store: DatasetStore,
        rows: DatasetVersionStore,
        versions: DatasetVersions,
        blobs: BlobStore,
        jobs: JobQueue,
    ) -> None:
        self._datasets = datasets
        self._store = store
        self._rows = rows
        self._versions = versions
        self._blobs = blobs
        self._jobs = jobs
        trash = FileTrash(Path(settings.data_dir), "training_data", lambda: Path(settings.training_data_dir))
        self._folders = Materializer(settings, trash)
        jobs.register(EXPORT, self._run_export, lane="cpu", restartable=True)
        jobs.register(RESTORE, self._run_restore, lane="cpu", restartable=True)
        jobs.register(MATERIALIZE, self._run_materialize, lane="cpu", restartable=True)

    # ------------------------------------------------------------ reading

    def formats(self) -> list[dict[str, Any]]:
        """Return {name, label} of every format."""
        return [{"name": f.name, "label": f.label} for f in FORMATS.values()]

    def all(self, dataset_id: str) -> list[dict[str, Any]]:
        """Return every export, newest first. Raises NotFound."""
        self._datasets.get(dataset_id)
        return [self.public(export) for export in self._rows.exports(dataset_id)]

    def get(self, dataset_id: str, number: int) -> DatasetExport:
        """Raises NotFound."""
        self._datasets.get(dataset_id)
        return self._rows.export(dataset_id, number)

    def public(self, export: DatasetExport) -> dict[str, Any]:
        """Return an export as the API answers it: `status` is "ready" or that of the task that makes it."""
        status = "ready"
        if not export.path:
            status = "failed"
            with contextlib.suppress(NotFound):
                status = self._jobs.get(export.task_id).status if export.task_id else "queued"
        url = f"/api/datasets/{export.dataset_id}/exports/{export.number}" if export.path else None
        return {**export.to_json(exclude={"path"}), "status": status, "fileUrl": url}

    def file(self, dataset_id: str, number: int) -> tuple[DatasetExport, Path]:
        """Return an export and its file. Raises NotFound, Conflict (not made yet)."""
        export = self.get(dataset_id, number)
        if not export.path:
            raise Conflict(
                f"{export.filename} is not made yet.", remedy="Wait for its task, or look there why it failed."
            )
        path = self._blobs.path(export.path)
        if not path.is_file():
            raise NotFound(f"The file {export.filename} is gone.", remedy="Export again.")
        return export, path

    # ------------------------------------------------------------ changing

    def submit(
        self, dataset_id: str, format: str, options: dict[str, Any] | None = None, version: int | None = None
    ) -> tuple[Job, DatasetExport]:
        """Queue an export of a version (left out: of the dataset as it is now, which becomes one).

        Raises NotFound, Conflict, InvalidInput.
        """
        dataset = self._datasets.live(dataset_id)
        kind, chosen = format_of(format), options_of(options)
        if version is None:
            source, _ = self._versions.snapshot(dataset_id, "For an export")
        else:
            source = self._versions.get(dataset_id, version)
        only = self._subset(dataset_id, chosen)
        items = self._plan(dataset, source.entries or self._entries(source), chosen, kind, only)
        if not items:
            raise InvalidInput.field(
                "options", "No picture of this version fits these options.", remedy="Choose other pictures."
            )
        export = self._rows.add_export(
            DatasetExport(
                id=new_id("export"),
                dataset_id=dataset_id,
                number=0,
                version=source.number,
                format=kind.name,
                options=chosen.model_dump(by_alias=True, mode="json", exclude_unset=True),
                images=len(items),
                created_at=now_iso(),
            )
        )
        try:
            export = self._rows.update_export(export.id, filename=f"training_data_v{export.number}.zip")
            job = self._jobs.submit(
                EXPORT,
                {"datasetId": dataset_id, "number": export.number, "imageIds": only},
                title=f"Export {dataset.name} ({kind.label})",
                character_id=dataset.character_id,
            )
        except BaseException:
            with contextlib.suppress(DallaError):
                self._rows.delete_export(export.id)
            raise
        return job, self._rows.update_export(export.id, task_id=job.id)

    def delete(self, dataset_id: str, number: int) -> None:
        """Stop making an export and remove it with its file. Raises NotFound, StorageError."""
        export = self.get(dataset_id, number)
        if export.task_id and not export.path:
            with contextlib.suppress(NotFound, Conflict):
                self._jobs.cancel(export.task_id)
        self._rows.delete_export(export.id)
        self._blobs.delete(self._key(export))
        self._datasets.changed(dataset_id)

    # ------------------------------------------------------------ folders for training

    def submit_materialize(
        self,
        dataset_id: str,
        name: str | None = None,
        *,
        version: int | None = None,
        use: str = "originals",
        overwrite: bool = False,
    ) -> Job:
        """Queue `materialize`. Raises what it would raise before the first picture is written."""
        dataset = self._datasets.live(dataset_id)
        options = options_of({"use": use})
        if version is not None:
            self._versions.get(dataset_id, version)
        folder = self._folders.choose(dataset, name, overwrite=overwrite)
        return self._jobs.submit(
            MATERIALIZE,
            {"datasetId": dataset_id, "name": folder, "version": version, "use": options.use, "overwrite": overwrite},
            title=f"Write {dataset.name} to training_data/{folder}",
            character_id=dataset.character_id,
        )

    def materialize(
        self,
        dataset_id: str,
        name: str | None = None,
        *,
        version: int | None = None,
        use: str = "originals",
        overwrite: bool = False,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> str:
        """Write training_data/<name>/ as our trainer reads it and return the folder's name.

        Left out, `name` is made from the dataset's. Files keep every byte; what repeats lies in "10_concept" folders;
        masks lie beside their pictures; regularization pictures are left out. Nothing changed since: nothing is
        written. The old folder stays in place until the new one is whole. Raises NotFound, Conflict (no pictures, or
        a folder of that name that was not made from this dataset or was changed by hand), InvalidInput, StorageError.
        """
        return str(
            self._materialize(dataset_id, name, version, options_of({"use": use}), overwrite, on_progress)["name"]
        )

    def _materialize(
        self, dataset_id: str, name: str | None, version: int | None, options: ExportOptions, overwrite: bool,
        on_progress: Callable[[int, int], None] | None,
    ) -> dict[str, Any]:  # fmt: skip
        dataset = self._datasets.live(dataset_id)
        entries, revision = self._versions.entries(dataset_id, version)
        facts = {"datasetId": dataset_id, "dataset": dataset.name, "version": version, "revision": revision}
        return self._folders.write(
            dataset, name, entries, options, self._blobs, facts, overwrite=overwrite, on_progress=on_progress
        )

    def _run_materialize(self, ctx: Context, payload: dict[str, Any]) -> dict[str, Any]:
        def told(done: int, total: int) -> None:
            ctx.progress(done, total, f"Picture {done} of {total}")

        result = self._materialize(
            payload["datasetId"], payload["name"], payload["version"], options_of({"use": payload["use"]}),
            payload["overwrite"], told,
        )  # fmt: skip
        for row in result["missing"]:
            ctx.item_failed(row["imageId"], row["code"], row["detail"])
        return {**result, "missing": result["missing"][:MAX_TOLD]}

    # ------------------------------------------------------------ going back as a task

    def submit_restore(self, dataset_id: str, number: int) -> Job:
        """Queue `DatasetVersions.restore`; the task's result is its answer. Raises NotFound, Conflict."""
        dataset = self._datasets.live(dataset_id)
        self._rows.get(dataset_id, number)
        return self._jobs.submit(
            RESTORE,
            {"datasetId": dataset_id, "number": number},
            title=f"Bring {dataset.name} back to version {number}",
            character_id=dataset.character_id,
        )

    def _run_restore(self, ctx: Context, payload: dict[str, Any]) -> dict[str, Any]:
        """Killed in the middle, it does the rest at the next start: what is as it should be is left alone."""
        ctx.progress(0, 1, f"Going back to version {payload['number']}")
        result = self._versions.restore(payload["datasetId"], payload["number"])
        for row in result["gone"]:
            ctx.item_failed(row["imageId"], "not_found", row["detail"])
        return result

    # ------------------------------------------------------------ making an export

    def _run_export(self, ctx: Context, payload: dict[str, Any]) -> dict[str, Any]:
        dataset_id = payload["datasetId"]
        export = self._rows.export(dataset_id, payload["number"])
        if export.task_id != ctx.job.id:
            export = self._rows.update_export(export.id, task_id=ctx.job.id)
        dataset = self._datasets.get(dataset_id)
        source = self._rows.get(dataset_id, export.version)
        options, format = options_of(export.options), format_of(export.format)
        items = self._plan(dataset, source.entries or [], options, format, payload.get("imageIds"))
        focus = self._focus(items, options)
        path = self._blobs.path(self._key(export))
        temp = path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            for old in path.parent.glob(f".{path.name}.*.tmp"):
                old.unlink(missing_ok=True)  # of the same export, left by a killed process
            self._room(path.parent, items if format.pictures else [])
            with open(temp, "xb") as file:
                about = About(dataset.name, dataset.description, self._trigger(dataset, options))
                failed = write_archive(ctx, file, self._blobs, about, source, items, options, format, focus)
                file.flush()
                os.fsync(file.fileno())
            size, digest = temp.stat().st_size, _sha_of(temp)
            ctx.check_cancelled()
            os.replace(temp, path)
            fsync_folder(path.parent)
        except OSError as exc:
            self._datasets.get(dataset_id)  # deleted meanwhile, with its folder: that is the reason, then
            raise StorageError.from_os(exc, export.filename) from exc
        finally:
            with contextlib.suppress(OSError):
                temp.unlink(missing_ok=True)
        written = len(items) - len(failed)
        try:
            made = self._rows.update_export(
                export.id, path=self._key(export), size_bytes=size, sha256=digest, images=written
            )
        except NotFound:
            path.unlink(missing_ok=True)
            raise Conflict("The export, or its dataset, was deleted while it was being made.") from None
        self._datasets.changed(dataset_id)
        return {
            "datasetId": dataset_id, "number": made.number, "exportId": made.id, "filename": made.filename,
            "images": written, "sizeBytes": size, "sha256": digest, "failed": failed[:MAX_TOLD],
        }  # fmt: skip

    # ------------------------------------------------------------ parts

    def _plan(
        self, dataset: Dataset, entries: list[Entry], options: ExportOptions, format: Format, only: list[str] | None
    ) -> list[Item]:
        chosen = options if only is None else options.model_copy(update={"image_ids": only})
        return plan(entries, chosen, format, trigger=dataset.trigger_word, name=dataset.name)

    def _entries(self, version: DatasetVersion) -> list[Entry]:
        return self._rows.get(version.dataset_id, version.number).entries or []

    def _subset(self, dataset_id: str, options: ExportOptions) -> list[str] | None:
        """Return the ids the options ask for, looked up once so that a restart makes the same archive."""
        if options.filter is None:
            return options.image_ids
        found = self._store.image_ids(dataset_id, self._where(dataset_id, options.filter))
        if options.image_ids is None:
            return sorted(found)
        return sorted(set(found) & set(options.image_ids))

    def _where(self, dataset_id: str, query: dict[str, Any]) -> ImageFilter:
        try:
            return self._datasets.where(dataset_id, query)
        except InvalidInput as exc:
            errors = [{**row, "field": f"options.{row['field']}"} for row in exc.errors]
            raise InvalidInput(exc.detail, remedy=exc.remedy, errors=errors) from None

    def _focus(self, items: Iterable[Item], options: ExportOptions) -> dict[str, tuple[float, float]]:
        if options.resize != "buckets" or not options.crop_to_faces:
            return {}
        entries = {item.entry["imageId"]: item.entry for item in items}
        found = self._store.metadata(list(entries), ["faceBoxes"])
        middles = {id: focus_of(entries[id], values.get("faceBoxes")) for id, values in found.items() if id in entries}
        return {id: middle for id, middle in middles.items() if middle is not None}

    @staticmethod
    def _trigger(dataset: Dataset, options: ExportOptions) -> str:
        return dataset.trigger_word if options.trigger_word is None else options.trigger_word

    def _room(self, folder: Path, items: list[Item]) -> None:
        """Say at once, and not after an hour, that the disk is too small. Raises StorageError."""
        needed = 0
        for item in items:
            with contextlib.suppress(OSError, DallaError):
                needed += self._blobs.path(item.entry["path"]).stat().st_size
        free = shutil.disk_usage(folder).free
        if needed > free:
            raise StorageError(
                f"The export needs about {needed / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free.",
                remedy="Free some space, or choose fewer or smaller pictures.",
            )

    @staticmethod
    def _key(export: DatasetExport) -> str:
        return f"datasets/{export.dataset_id}/exports/{export.filename or f'training_data_v{export.number}.zip'}"


def _sha_of(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            digest.update(piece)
    return digest.hexdigest()
