"""Compare the records of a dataset with the files on the disk, say what does not fit, and repair it.

Nothing is ever deleted that could be somebody's picture: a record without its file goes to the trash, a file without
a record is taken in, a file that was changed outside is measured anew. What is in the trash is not looked at.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dalla import imaging
from dalla.archives import printable
from dalla.errors import Conflict, DallaError, InvalidInput, NotFound
from dalla.filenames import filename_key
from dalla.ids import new_id
from dalla.jobs.base import Context, JobQueue
from dalla.paths import remove_stale_temps
from dalla.records.dataset import DatasetImage, ImageFilter
from dalla.records.job import Job
from dalla.services.dataset_import_work import Claims, prepare, thumb_keys
from dalla.services.dataset_masks import KEY as MASK
from dalla.services.datasets import Datasets
from dalla.stores.base import BlobStore, DatasetStore, DatasetVersionStore

KIND = "dataset_check"
#: Files younger than this may be on their way into a record: they are reported, not taken in.
SETTLE_SECONDS = 600.0
#: Problems listed; the counts are of all.
SHOWN = 500
PIECE = 500
#: code -> (what it means, what a repair does)
CODES = {
    "missing_file": (
        "The picture's file is gone.",
        "It is found under another name, else the picture goes to the trash.",
    ),
    "wrong_size": (
        "The file is not as large as it was.",
        "The picture is measured anew, or goes to the trash if damaged.",
    ),
    "wrong_hash": (
        "The file is not the one that was imported.",
        "The picture is measured anew, or goes to the trash if damaged.",
    ),
    "missing_thumbnails": ("Thumbnails are missing.", "They are made again."),
    "stray_thumbnails": ("There are thumbnails of no picture.", "They are removed."),
    "foreign_file": (
        "There is a file that no record knows.",
        "A picture is taken into the dataset; anything else stays.",
    ),
    "missing_mask": (
        "The file of a mask is gone.",
        "The picture is kept without it.",
    ),
    "missing_export": ("The file of an export is gone.", "Make the export again."),
}


@dataclass
class _Seen:
    """What was found. `repaired` counts what a repair did, by code."""

    problems: list[dict[str, Any]] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    repaired: Counter[str] = field(default_factory=Counter)
    files: int = 0
    images: int = 0

    def add(self, code: str, name: str, *, image_id: str | None = None, detail: str = "", done: str = "") -> None:
        """Note a problem; `done` says what was done about it."""
        self.counts[code] += 1
        if done:
            self.repaired[code] += 1
        if len(self.problems) < SHOWN:
            row = {"code": code, "name": printable(name), "detail": detail or CODES[code][0], "repair": CODES[code][1]}
            self.problems.append(row | ({"imageId": image_id} if image_id else {}) | ({"done": done} if done else {}))


class DatasetCheck:
    """Checks datasets and repairs them."""

    def __init__(
        self,
        datasets: Datasets,
        store: DatasetStore,
        versions: DatasetVersionStore,
        blobs: BlobStore,
        claims: Claims,
        jobs: JobQueue,
    ) -> None:
        self._datasets = datasets
        self._store = store
        self._versions = versions
        self._blobs = blobs
        self._claims = claims
        self._jobs = jobs
        self.settle_seconds = SETTLE_SECONDS
        jobs.register(KIND, self._run, lane="cpu", restartable=True)

    # ------------------------------------------------------------ for callers

    def check(self, dataset_id: str) -> dict[str, Any]:
        """Compare names and sizes with the disk; no file is opened, nothing is changed. Raises NotFound."""
        self._datasets.get(dataset_id)
        seen = _Seen()
        images = self._images(dataset_id, None)
        on_disk = self._on_disk(dataset_id)
        thumbs = self._thumbs(dataset_id)
        for image in images:
            if image.trashed_at is not None:
                continue
            size = on_disk.get(image.path, -1)
            if size < 0:
                seen.add("missing_file", image.filename, image_id=image.id)
            elif size != image.size_bytes:
                detail = f"The file has {size:,} bytes; it had {image.size_bytes:,}."
                seen.add("wrong_size", image.filename, image_id=image.id, detail=detail)
            if not thumbs >= set(thumb_keys(dataset_id, image.id).values()) and size >= 0:
                seen.add("missing_thumbnails", image.filename, image_id=image.id)
        self._look_around(dataset_id, images, on_disk, thumbs, seen)
        return self._report(dataset_id, seen, images=len(images), files=len(on_disk), deep=False)

    def start(self, dataset_id: str, *, repair: bool) -> Job:
        """Queue a check that reads every file, with or without repairs. Raises NotFound, Conflict (trash)."""
        dataset = self._datasets.live(dataset_id)
        verb = "Repair" if repair else "Check"
        return self._jobs.submit(
            KIND,
            {"datasetId": dataset.id, "repair": repair},
            title=f"{verb} {dataset.name[:100]}",
            character_id=dataset.character_id,
        )

    # ------------------------------------------------------------ the task

    def _run(self, ctx: Context, payload: dict[str, Any]) -> dict[str, Any]:
        dataset_id, repair = str(payload["datasetId"]), bool(payload["repair"])
        self._datasets.live(dataset_id)
        if repair and self._claims.busy(dataset_id):
            raise Conflict(
                "Pictures are being imported into this dataset, or it is being repaired already.",
                remedy="Repair it when that has finished.",
            )
        seen = _Seen()
        with self._claims.of(dataset_id) if repair else contextlib.nullcontext() as claimed:
            images = self._images(dataset_id, ctx)
            on_disk = self._on_disk(dataset_id)
            thumbs = self._thumbs(dataset_id)
            foreign = self._foreign(dataset_id, {image.path for image in images}, on_disk)
            hashes = self._hashes_of(foreign, on_disk, images) if repair else {}
            total = len(images) + len(foreign)
            for n, image in enumerate(images):
                ctx.progress(n, total, f"{n:,} of {len(images):,} pictures")
                if image.trashed_at is None:
                    self._one(image, on_disk, thumbs, hashes, foreign, seen, repair)
            for n, key in enumerate(sorted(foreign)):
                ctx.progress(len(images) + n, total, "Files without a record")
                taken = self._adopt(dataset_id, key, claimed.names) if claimed else ""
                seen.add("foreign_file", _below(key), done=taken)
            self._stray_thumbs(dataset_id, images, thumbs, seen, repair)
            self._exports(dataset_id, seen)
            self._masks(dataset_id, seen, repair)
            if repair:
                self._stale_temps(dataset_id)
                self._datasets.changed(dataset_id)
            ctx.progress(total, max(1, total), "Checked")
        return self._report(dataset_id, seen, images=len(images), files=len(on_disk), deep=True, repair=repair)

    def _one(
        self,
        image: DatasetImage,
        on_disk: dict[str, int],
        thumbs: set[str],
        hashes: dict[str, str],
        foreign: set[str],
        seen: _Seen,
        repair: bool,
    ) -> None:
        if image.path not in on_disk:
            self._missing(image, hashes, foreign, seen, repair)
            return
        try:
            data = self._blobs.get(image.path)
        except NotFound:
            self._missing(image, hashes, foreign, seen, repair)
            return
        if len(data) != image.size_bytes or hashlib.sha256(data).hexdigest() != image.sha256:
            code = "wrong_size" if len(data) != image.size_bytes else "wrong_hash"
            detail = f"The file has {len(data):,} bytes; it had {image.size_bytes:,}." if code == "wrong_size" else ""
            done = self._changed(image, data) if repair else ""
            seen.add(code, image.filename, image_id=image.id, detail=detail, done=done)
            return
        if not thumbs >= set(thumb_keys(image.dataset_id, image.id).values()):
            done = ""
            if repair:
                with contextlib.suppress(DallaError):
                    made = imaging.thumbnails(imaging.open_image(data, name=image.filename).image)
                    self._datasets.put_thumbnails(image.dataset_id, image.id, made)
                    done = "made"
            seen.add("missing_thumbnails", image.filename, image_id=image.id, done=done)

    def _missing(
        self, image: DatasetImage, hashes: dict[str, str], foreign: set[str], seen: _Seen, repair: bool
    ) -> None:
        done = ""
        if repair:
            key = next((key for key, value in hashes.items() if value == image.sha256 and key in foreign), None)
            if key is not None:
                self._store.update_images([image.id], path=key)
                foreign.discard(key)
                done = "found"
            else:
                self._datasets.trash_images([image.id])
                done = "trashed"
        seen.add("missing_file", image.filename, image_id=image.id, done=done)

    def _changed(self, image: DatasetImage, data: bytes) -> str:
        """Let the record follow a file that was changed outside; return what was done."""
        try:
            ready = prepare(data, image.filename, recipe=False)
        except DallaError:
            self._datasets.trash_images([image.id])
            return "trashed"
        self._store.update_images([image.id], **ready.columns())
        self._store.put_metadata(image.dataset_id, {image.id: ready.measures})
        self._datasets.put_thumbnails(image.dataset_id, image.id, ready.thumbs)
        return "measured"

    def _adopt(self, dataset_id: str, key: str, names: set[str]) -> str:
        """Take a file without a record into the dataset; return "added", or "" when it has to stay as it is."""
        _, _, kind_folder, filename = key.split("/", 3)
        processed = kind_folder == "processed"
        try:
            if not processed and filename_key(filename) in names:
                return ""  # an import is about to write its record
            if time.time() - self._blobs.path(key).stat().st_mtime < self.settle_seconds:
                return ""
            ready = prepare(self._blobs.get(key), filename)
            image = DatasetImage(
                id=new_id("img"),
                dataset_id=dataset_id,
                kind="processed" if processed else "original",
                filename=filename,
                path=key,
                caption=ready.recipe_prompt,
                caption_source="file" if ready.recipe_prompt else "none",
                **ready.columns(),
            )
            self._datasets.put_thumbnails(dataset_id, image.id, ready.thumbs)
            self._store.add_images([image], {image.id: ready.measures})
        except (DallaError, OSError):
            return ""
        return "added"

    # ------------------------------------------------------------ looking

    def _images(self, dataset_id: str, ctx: Context | None) -> list[DatasetImage]:
        ids = self._store.image_ids(dataset_id, ImageFilter())
        ids += self._store.image_ids(dataset_id, ImageFilter(trashed=True))
        found: list[DatasetImage] = []
        for start in range(0, len(ids), PIECE):
            if ctx is not None:
                ctx.check_cancelled()
            found += self._store.images_by_id(ids[start : start + PIECE])
        return found

    def _on_disk(self, dataset_id: str) -> dict[str, int]:
        """Sizes of the files of a dataset by key."""
        root = Path(self._blobs.path(f"datasets/{dataset_id}"))
        found: dict[str, int] = {}
        for folder in ("originals", "processed"):
            for where, folders, names in os.walk(root / folder):
                folders[:] = [name for name in folders if not name.startswith(".")]
                for name in names:
                    path = Path(where) / name
                    if not name.startswith(".") and not path.is_symlink():
                        with contextlib.suppress(OSError):
                            found[f"datasets/{dataset_id}/{path.relative_to(root).as_posix()}"] = path.stat().st_size
        return found

    def _thumbs(self, dataset_id: str) -> set[str]:
        return set(self._blobs.keys(f"thumbs/datasets/{dataset_id}/"))

    def _foreign(self, dataset_id: str, known: set[str], on_disk: dict[str, int]) -> set[str]:
        return set(on_disk) - known - self._versions.keys_in_versions(dataset_id)

    def _hashes_of(self, foreign: set[str], on_disk: dict[str, int], images: list[DatasetImage]) -> dict[str, str]:
        """Hashes of foreign files that may be what a record misses: they have its size."""
        wanted = {image.size_bytes for image in images if image.path not in on_disk}
        found: dict[str, str] = {}
        for key in sorted(foreign):
            if on_disk[key] in wanted:
                with contextlib.suppress(DallaError):
                    found[key] = hashlib.sha256(self._blobs.get(key)).hexdigest()
        return found

    def _look_around(
        self, dataset_id: str, images: list[DatasetImage], on_disk: dict[str, int], thumbs: set[str], seen: _Seen
    ) -> None:
        for key in sorted(self._foreign(dataset_id, {image.path for image in images}, on_disk)):
            seen.add("foreign_file", _below(key))
        self._stray_thumbs(dataset_id, images, thumbs, seen, repair=False)
        self._exports(dataset_id, seen)
        self._masks(dataset_id, seen, repair=False)

    def _stray_thumbs(
        self, dataset_id: str, images: list[DatasetImage], thumbs: set[str], seen: _Seen, repair: bool
    ) -> None:
        wanted = {key for image in images for key in thumb_keys(dataset_id, image.id).values()}
        for key in sorted(thumbs - wanted):
            done = ""
            with contextlib.suppress(DallaError, OSError):
                if repair and time.time() - self._blobs.path(key).stat().st_mtime >= self.settle_seconds:
                    self._blobs.delete(key)
                    done = "removed"
            seen.add("stray_thumbnails", key.rpartition("/")[2], done=done)

    def _exports(self, dataset_id: str, seen: _Seen) -> None:
        for export in self._versions.exports(dataset_id):
            with contextlib.suppress(InvalidInput):
                if export.path and not self._blobs.exists(export.path):
                    seen.add("missing_export", export.filename)

    def _masks(self, dataset_id: str, seen: _Seen, repair: bool) -> None:
        gone = [
            id
            for id, mask in self._store.columns(dataset_id, [MASK])
            if isinstance(mask, dict) and not self._blobs.exists(mask["path"])
        ]
        for image in self._store.images_by_id(gone):
            if repair:
                self._store.put_metadata(dataset_id, {image.id: {MASK: None}})
            seen.add("missing_mask", image.filename, image_id=image.id, done="forgotten" if repair else "")

    def _stale_temps(self, dataset_id: str) -> None:
        for root in (f"datasets/{dataset_id}", f"thumbs/datasets/{dataset_id}"):
            for where, _, _ in os.walk(self._blobs.path(root)):
                remove_stale_temps(Path(where))

    def _report(
        self, dataset_id: str, seen: _Seen, *, images: int, files: int, deep: bool, repair: bool = False
    ) -> dict[str, Any]:
        left = sum(seen.counts.values()) - sum(seen.repaired.values())
        if not seen.counts:
            summary = f"{images:,} pictures, and every file is as it should be."
        else:
            told = ", ".join(f"{n} × {code.replace('_', ' ')}" for code, n in seen.counts.most_common())
            summary = f"{images:,} pictures: {told}."
            if repair:
                summary += f" {sum(seen.repaired.values())} repaired, {left} left."
        return {
            "datasetId": dataset_id,
            "ok": left == 0,
            "summary": summary,
            "images": images,
            "files": files,
            "counts": dict(seen.counts),
            "repaired": dict(seen.repaired),
            "problems": seen.problems,
            "deep": deep,
            "busy": self._claims.busy(dataset_id),
        }


def _below(key: str) -> str:
    """Return "originals/a.png" for a key of a dataset's file."""
    return key.split("/", 2)[2]
