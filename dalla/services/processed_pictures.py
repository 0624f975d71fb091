"""Pictures made from pictures of a dataset: written below `processed/`, replaced by the next run, taken back by undo.

The row a picture was made from is its `parent_id`. A run of the same operation over the same parent replaces what
that operation made of it before and nothing else. The bytes that are replaced are kept with the batch.
"""

from __future__ import annotations

import contextlib
import hashlib
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

import orjson

from dalla import imaging
from dalla.errors import Conflict, DallaError, NotFound
from dalla.filenames import filename_key
from dalla.ids import new_id
from dalla.measures import measure, pixel_sha256
from dalla.records.dataset import DatasetImage, ImageFilter
from dalla.services.batch_run import BatchContext
from dalla.services.dataset_import_work import key_for, thumb_keys
from dalla.stores.base import BlobStore, DatasetStore, DatasetVersionStore
from dalla.times import now_iso

if TYPE_CHECKING:
    from PIL import Image

#: Metadata key that names the batch a processed picture was made by.
MADE_BY = "batchId"
#: Columns of a processed picture that a replacement sets.
_REPLACED = ("path", "mime", "format", "width", "height", "size_bytes", "sha256", "pixel_sha256")


@dataclass(frozen=True)
class Made:
    """A picture to be written: `tail` is put behind the parent's name (`_face_0`), `data` are its bytes."""

    tail: str
    image: Image.Image
    data: bytes
    mime: str = "image/png"


class ProcessedPictures:
    """Writes what operations make. Bytes first, then the row, so no row ever stands without its picture."""

    def __init__(self, store: DatasetStore, blobs: BlobStore, versions: DatasetVersionStore | None = None) -> None:
        self._store = store
        self._blobs = blobs
        self._versions = versions

    def read(self, image: DatasetImage) -> tuple[imaging.Picture, bytes]:
        """Return the upright picture and the bytes of its file. Raises NotFound, InvalidInput, …"""
        data = self._blobs.get(image.path)
        return imaging.open_image(data, name=PurePosixPath(image.filename).name), data

    def put(
        self, ctx: BatchContext, parent: DatasetImage, operation: str, made: list[Made], *, caption: bool = True
    ) -> dict[str, Any]:
        """Write what was made of `parent`; return {"outputs": [{imageId, filename, width, height, state}], "undo"}.

        `state` is new, replaced or same. What the operation made of the parent before and is not among `made`
        goes to the trash. With `caption` new pictures start with the parent's caption.
        Raises StorageError, NotFound (the dataset is gone), Conflict (no free name).
        """
        before = {image.filename: image for image in self._earlier(parent, operation)}
        outputs: list[dict[str, Any]] = []
        undo: dict[str, list[str]] = {"created": [], "replaced": [], "removed": []}
        stay: set[str] = set()
        for one in made:
            filename = self._name(ctx, parent, one.tail, one.mime, before)
            old = before.get(filename)
            image, state = (
                self._create(ctx, parent, operation, filename, one, caption)
                if old is None
                else self._replace(ctx, old, one)
            )
            stay.add(image.id)
            if state != "same":
                undo["created" if state == "new" else "replaced"].append(image.id)
            outputs.append(
                {
                    "imageId": image.id,
                    "filename": image.filename,
                    "width": image.width,
                    "height": image.height,
                    "state": state,
                }
            )
        gone = [image for image in before.values() if image.id not in stay]
        for image in gone:
            # Kept with the batch, so that a run after a crash still knows what it removed.
            if image.trashed_at is None:
                ctx.journal.keep_file(f"{image.id}.removed", b"1")
            if ctx.journal.kept_file(f"{image.id}.removed") is not None:
                undo["removed"].append(image.id)
        self._store.update_images([image.id for image in gone if image.trashed_at is None], trashed_at=now_iso())
        return {"outputs": outputs, "removed": len(undo["removed"]), "undo": undo}

    def expected(
        self, ctx: BatchContext, parent: DatasetImage, operation: str, tails: list[tuple[str, str]]
    ) -> list[dict[str, Any]]:
        """What `put` would write for (tail, mime): [{filename, state}], state new or replaced. Writes nothing."""
        before = {image.filename: image for image in self._earlier(parent, operation)}
        found = []
        for tail, mime in tails:
            filename = self._name(ctx, parent, tail, mime, before)
            found.append({"filename": filename, "state": "replaced" if filename in before else "new"})
        return found

    def undo(self, ctx: BatchContext, results: dict[str, dict[str, Any]]) -> dict[str, int]:
        """Take back what a batch made: new pictures go to the trash, replaced ones are as they were before.

        That includes what it made of a picture it did not finish. What a later batch has made anew stays (`left`).
        """
        undos = [result.get("undo") or {} for result in results.values()]
        rows = self._store.columns(ctx.dataset_id, [MADE_BY], ImageFilter(kind="processed"))
        ids = [id for undo in undos for id in (*undo.get("created", []), *undo.get("replaced", []))]
        ids = list(dict.fromkeys([*ids, *(id for id, by in rows if by == ctx.batch_id)]))
        made_by = self._store.metadata(ids, [MADE_BY])
        images = self._store.images_by_id(ids)
        ours = [image for image in images if made_by.get(image.id, {}).get(MADE_BY) == ctx.batch_id]
        counts = {"trashed": 0, "restored": 0, "left": len(images) - len(ours)}
        for number, image in enumerate(ours):
            ctx.progress(number, len(ours), "Taking back")
            if ctx.journal.kept_file(f"{image.id}.json") is not None:
                counts["restored"] += self._restore(ctx, image)
            elif image.trashed_at is None:
                counts["trashed"] += len(self._store.update_images([image.id], trashed_at=now_iso()))
        removed = {id for undo in undos for id in undo.get("removed", [])} | ctx.journal.kept_names(".removed")
        if removed:
            counts["restored"] += len(self._store.update_images(sorted(removed), trashed_at=None))
        return counts

    # ------------------------------------------------------------ names

    def _earlier(self, parent: DatasetImage, operation: str) -> list[DatasetImage]:
        """What the operation made of the parent before, in the trash or not."""
        found: list[DatasetImage] = []
        for trashed in (False, True):
            where = ImageFilter(kind="processed", parent_id=parent.id, trashed=trashed)
            ids = self._store.image_ids(parent.dataset_id, where)
            found += [image for image in self._store.images_by_id(ids) if image.operation == operation]
        return found

    def _name(
        self, ctx: BatchContext, parent: DatasetImage, tail: str, mime: str, before: dict[str, DatasetImage]
    ) -> str:
        """The name below `processed/`: that of the parent with the tail; with its ending where another has it."""
        taken = ctx.shared.get("processed names")
        if taken is None:
            taken = ctx.shared["processed names"] = self._store.filenames(parent.dataset_id, "processed")
        path = PurePosixPath(parent.filename)
        ending = imaging.EXTENSIONS[mime]
        stems = [path.stem, f"{path.stem}_{path.suffix.lstrip('.').lower()}"]
        stems += [f"{path.stem}-{number}" for number in range(2, 100)]
        for stem in stems:
            name = str(path.with_name(f"{stem}{tail}.{ending}"))
            if name in before:
                return name
            if filename_key(name) not in taken:
                if not ctx.dry_run:
                    taken.add(filename_key(name))
                return name
        raise Conflict(f"There is no free name for what is made of '{parent.filename}'.")

    # ------------------------------------------------------------ rows and files

    def _create(
        self, ctx: BatchContext, parent: DatasetImage, operation: str, filename: str, made: Made, caption: bool
    ) -> tuple[DatasetImage, str]:
        key, now = self._free_key(ctx, key_for(self._blobs, parent.dataset_id, filename, "processed")), now_iso()
        image = DatasetImage(
            id=new_id("img"),
            dataset_id=parent.dataset_id,
            kind="processed",
            parent_id=parent.id,
            operation=operation,
            filename=filename,
            path=key,
            **_facts(made),
            caption=parent.caption if caption else "",
            caption_source=parent.caption_source if caption else "none",
            repeats=parent.repeats,
            concept=parent.concept,
            regularization=parent.regularization,
            created_at=now,
            updated_at=now,
        )
        self._blobs.put(key, made.data)
        try:
            self._thumbnails(image, made)
            found = measure(made.image, made.data) | {MADE_BY: ctx.batch_id}
            self._store.add_images([image], {image.id: found})
        except BaseException:
            for name in (key, *thumb_keys(image.dataset_id, image.id).values()):
                with contextlib.suppress(DallaError):
                    self._blobs.delete(name)
            raise
        return image, "new"

    def _replace(self, ctx: BatchContext, old: DatasetImage, made: Made) -> tuple[DatasetImage, str]:
        facts = _facts(made)
        kept = ctx.journal.kept_file(f"{old.id}.json") is not None
        by = self._store.metadata([old.id], [MADE_BY]).get(old.id, {}).get(MADE_BY)
        written = facts["sha256"] == old.sha256 and old.trashed_at is None and self._blobs.exists(old.path)
        if written and not kept:  # the very picture; perhaps made by this batch before the program was killed
            return old, "new" if by == ctx.batch_id else "same"
        if not kept:
            with contextlib.suppress(NotFound):  # the file may be gone; the row is brought back all the same
                ctx.journal.keep_file(old.id, self._blobs.get(old.path))
            row = old.to_json(include={*_REPLACED, "trashed_at"}) | {MADE_BY: by}
            ctx.journal.keep_file(f"{old.id}.json", orjson.dumps(row))
        if not written:
            key = self._free_key(ctx, old.path)
            self._blobs.put(key, made.data)
            self._store.update_images([old.id], path=key, **facts, trashed_at=None, updated_at=now_iso())
        self._measured(old, made, ctx.batch_id)
        return self._store.image(old.id), "replaced"

    def _measured(self, image: DatasetImage, made: Made, by: str | None) -> None:
        """Set what follows from new pixels: measures, thumbnails, and which batch they are of."""
        found = _cleared() | measure(made.image, made.data) | {MADE_BY: by}
        self._store.put_metadata(image.dataset_id, {image.id: found})
        self._thumbnails(image, made)

    def _free_key(self, ctx: BatchContext, key: str) -> str:
        """The key to write to: this one, unless a version still names what lies there."""
        path, number, wanted = PurePosixPath(key), 2, key
        while wanted in self._versioned(ctx):
            wanted, number = str(path.with_name(f"{path.stem}@{number}{path.suffix}")), number + 1
        return wanted

    def _versioned(self, ctx: BatchContext) -> set[str]:
        """Keys that versions name; read again when there is a new version."""
        if self._versions is None:
            return set()
        newest = [version.number for version in self._versions.all(ctx.dataset_id)[:1]]
        known = ctx.shared.get("versioned keys")
        if known is None or known[0] != newest:
            known = ctx.shared["versioned keys"] = (newest, self._versions.keys_in_versions(ctx.dataset_id))
        keys: set[str] = known[1]
        return keys

    def _restore(self, ctx: BatchContext, image: DatasetImage) -> int:
        """Bring back what was replaced; return 1, or 0 when there is nothing to bring back."""
        row, data = ctx.journal.kept_file(f"{image.id}.json"), ctx.journal.kept_file(image.id)
        if row is None or data is None:
            return 0
        known = orjson.loads(row)
        before = DatasetImage.model_validate({**image.to_json(), **known})
        picture = imaging.open_image(data, name=before.filename)
        self._blobs.put(before.path, data)
        columns = {name: getattr(before, name) for name in _REPLACED}
        self._store.update_images([image.id], **columns, trashed_at=before.trashed_at, updated_at=now_iso())
        self._measured(before, Made("", picture.image, data), known.get(MADE_BY))
        if image.path not in {before.path, *self._versioned(ctx)}:
            self._blobs.delete(image.path)
        return 1

    def _thumbnails(self, image: DatasetImage, made: Made) -> None:
        small = imaging.thumbnails(made.image)
        for size, key in thumb_keys(image.dataset_id, image.id).items():
            self._blobs.put(key, small[size], durable=False)


def _facts(made: Made) -> dict[str, Any]:
    """The columns that follow from the bytes."""
    return {
        "mime": made.mime,
        "format": made.mime.partition("/")[2].upper(),
        "width": made.image.width,
        "height": made.image.height,
        "size_bytes": len(made.data),
        "sha256": hashlib.sha256(made.data).hexdigest(),
        "pixel_sha256": pixel_sha256(made.image),
    }


def _cleared() -> dict[str, None]:
    """What belonged to the pixels before and is not measured anew."""
    return dict.fromkeys(
        (
            *("faces", "faceBoxes", "faceShare", "faceSharpness", "yaw", "roll", "faceVectors", "faceMatch"),
            *("duplicateGroup", "duplicateDistance"),
        )
    )
