"""Datasets and their pictures: find, show, edit, throw away and bring back. Import, batches, captions of many pictures
and versions have services of their own, on the same store.

Files of a dataset stand below `datasets/<id>/` in the blob store, its thumbnails below `thumbs/datasets/<id>/`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dalla.errors import Conflict, InvalidInput, NotFound, Stale
from dalla.events import EventBus
from dalla.ids import check_id, new_id
from dalla.records.dataset import CaptionChange, Dataset, DatasetImage, ImageFilter
from dalla.services.dataset_files import DatasetFiles
from dalla.services.dataset_files import thumb_key as thumb_key
from dalla.services.dataset_json import COUNTS, clean_name, image_json, outcome, thumb_url, wanted_caption
from dalla.services.dataset_stats import LIST_BUDGET, DatasetStatistics
from dalla.services.image_queries import ImageQuery, image_filter
from dalla.settings import Settings
from dalla.stores.base import BlobStore, CaptionStore, DatasetStore, DatasetVersionStore, Page
from dalla.times import ago_iso, now_iso

BULK_LIMIT = 10_000
COVERS = 4
IDS_IN_EVENT = 200
#: What a PATCH of one or many pictures may set besides the caption.
SETTABLE = {"excluded", "repeats", "concept", "regularization"}


class Datasets:
    """The read side and small edits. `statistics` answers what a dataset adds up to.

    `after_captions` is called with (dataset id, {picture id: text}) after a person changed captions here; whoever
    counts tokens replaces it, and then publishes `caption.updated` itself.
    """

    def __init__(
        self,
        settings: Settings,
        store: DatasetStore,
        captions: CaptionStore,
        versions: DatasetVersionStore,
        blobs: BlobStore,
        events: EventBus,
    ) -> None:
        self._settings = settings
        self._store = store
        self._captions = captions
        self._versions = versions
        self._events = events
        self.files = DatasetFiles(blobs)
        self.statistics = DatasetStatistics(store, self.files.orphans)
        self.after_captions: Callable[[str, dict[str, str]], None] = self.captions_changed

    # ------------------------------------------------------------ datasets

    def create(
        self,
        name: str,
        *,
        description: str = "",
        character_id: str | None = None,
        trigger_word: str = "",
        source_path: str = "",
    ) -> Dataset:
        """Raises InvalidInput (name)."""
        made = self._store.insert(
            Dataset(
                id=new_id("dataset"),
                name=clean_name(name),
                description=description.strip(),
                character_id=character_id,
                trigger_word=trigger_word.strip(),
                source_path=source_path,
            )
        )
        self.changed(made.id)
        return made

    def get(self, id: str) -> Dataset:
        """Return a dataset, also one in the trash. Raises NotFound, InvalidInput."""
        return self._store.get(check_id(id))

    def live(self, id: str) -> Dataset:
        """Return a dataset that may be worked on. Raises NotFound, Conflict (it is in the trash)."""
        dataset = self.get(id)
        if dataset.trashed_at is not None:
            raise Conflict(f"The dataset '{dataset.name}' is in the trash.", remedy="Restore it first.")
        return dataset

    def page(self, *, q: str = "", trashed: bool = False, limit: int = 50, cursor: str | None = None) -> Page:
        """Return one page of Dataset, newest first. Raises InvalidInput (cursor)."""
        return self._store.page(q=q, trashed=trashed, limit=limit, cursor=cursor)

    def update(self, id: str, changes: dict[str, Any]) -> Dataset:
        """Set name, description, character_id or trigger_word. Raises NotFound, Conflict, InvalidInput."""
        dataset = self.live(id)
        for field in ("description", "trigger_word"):
            if field in changes:
                changes = changes | {field: (changes[field] or "").strip()}
        if "name" in changes:
            changes = changes | {"name": clean_name(changes["name"] or "")}
        if all(getattr(dataset, field) == value for field, value in changes.items()):
            return dataset
        updated = self._store.update(id, **changes)
        self.changed(id)
        return updated

    def trash(self, id: str) -> Dataset:
        """Put a dataset into the trash; everything of it stays for `trash_days`. Raises NotFound."""
        self.get(id)
        return self._told(self._store.update(id, trashed_at=now_iso()))

    def restore(self, id: str) -> Dataset:
        """Take a dataset out of the trash. Raises NotFound."""
        self.get(id)
        self.files.mark_deleted(id, False)
        return self._told(self._store.update(id, trashed_at=None))

    def delete_for_good(self, id: str) -> None:
        """Remove a dataset with its pictures, versions, exports and files. Raises NotFound."""
        self.get(id)
        self.files.mark_deleted(id)
        keys = self._store.delete(id)
        self.files.remove(id, keys)
        self._events.publish("dataset.updated", {"datasetId": id, "deleted": True})

    def purge_trash(self, days: int) -> int:
        """Delete for good what went into the trash more than `days` ago, and files a crash left behind.

        Returns how many datasets and pictures went.
        """
        before = ago_iso(days * 86400)
        ids = self._store.trashed_before(before)
        for id in ids:
            with contextlib.suppress(NotFound):
                self.delete_for_good(id)
        pictures = self._store.trashed_images_before(before)
        gone = sum(
            len(self.delete_pictures(pictures[start : start + BULK_LIMIT]))
            for start in range(0, len(pictures), BULK_LIMIT)
        )
        self.files.sweep(self._exists)
        return len(ids) + gone

    # ------------------------------------------------------------ pictures, reading

    def image(self, id: str) -> DatasetImage:
        """Return a picture, also one in the trash. Raises NotFound, InvalidInput."""
        return self._store.image(check_id(id))

    def images(
        self,
        dataset_id: str,
        where: ImageFilter,
        *,
        sort: str = "name",
        limit: int = 100,
        cursor: str | None = None,
        offset: int | None = None,
    ) -> Page:
        """Return one page of DatasetImage. Raises NotFound, InvalidInput (sort, cursor)."""
        return self._store.images(dataset_id, where, sort=sort, limit=limit, cursor=cursor, offset=offset)

    def where(self, dataset_id: str, query: ImageQuery | dict[str, Any]) -> ImageFilter:
        """Return the filter that a query of pictures means, such as a `filter` of the statistics.

        Raises InvalidInput; NotFound (asked for a bucket, and the dataset is not there).
        """

        def bucket_range(bucket: tuple[int, int], resolution: int, step: int) -> tuple[float, float] | None:
            return self.statistics.bucket_range(dataset_id, bucket, resolution=resolution, step=step)

        return query.where(bucket_range) if isinstance(query, ImageQuery) else image_filter(query, bucket_range)

    def image_ids(self, dataset_id: str, where: ImageFilter) -> list[str]:
        """Return the ids of all that match, by file name. Raises NotFound."""
        self.get(dataset_id)
        return self._store.image_ids(dataset_id, where)

    def facets(self, dataset_id: str, where: ImageFilter) -> dict[str, list[dict[str, Any]]]:
        """Count what a filter leaves, by format, folder, concept, … Raises NotFound."""
        return self._store.facets(dataset_id, where)

    def file(self, image: DatasetImage) -> Path:
        """Return the path of a picture's file. Raises NotFound when it is gone."""
        return self.files.of(image)

    def thumbnail(self, image: DatasetImage, size: str) -> Path:
        """Return the path of a thumbnail (WebP), making both sizes again when it is missing.

        Raises InvalidInput (size; the file is damaged), NotFound (the file is gone), StorageError.
        """
        return self.files.thumbnail(image, size)

    def put_thumbnails(self, dataset_id: str, image_id: str, thumbs: dict[str, bytes]) -> None:
        """Keep the WebP thumbnails of a picture by size ("s", "m"). They can be made again, so nothing is synced."""
        self.files.put_thumbnails(dataset_id, image_id, thumbs)

    # ------------------------------------------------------------ pictures, changing

    def edit_image(self, id: str, changes: dict[str, Any], *, if_caption: str | None = None) -> DatasetImage:
        """Change one picture as a person: SETTABLE, `caption` or `tags`, `caption_locked`.

        A caption written here is locked against batches unless `caption_locked` says otherwise; an emptied one is not.
        Raises NotFound, Conflict (its dataset is in the trash), Stale (the caption is no longer `if_caption`),
        InvalidInput.
        """
        image = self.image(id)
        self.live(image.dataset_id)
        text, lock = wanted_caption(changes), changes.get("caption_locked")
        if if_caption is not None and image.caption != if_caption and text != image.caption:
            raise self._stale(image)
        settings = self._settable(changes)
        if settings and any(getattr(image, name) != value for name, value in settings.items()):
            self._store.update_images([id], **settings)
            self.changed(image.dataset_id)
        if text is not None and text != image.caption:
            lock = bool(text) if lock is None else lock
        else:
            text = image.caption
        if text != image.caption or (lock is not None and lock != image.caption_locked):
            change = CaptionChange(image_id=id, text=text, before=image.caption, locked=lock)
            if not self._captions.write(image.dataset_id, [change], source="human"):
                raise self._stale(self.image(id))
            self.after_captions(image.dataset_id, {id: text})
        return self.image(id)

    def edit_images(self, ids: list[str], changes: dict[str, Any]) -> dict[str, list[Any]]:
        """Set SETTABLE and `caption_locked` on many pictures; return {"succeeded", "failed"}. Raises InvalidInput."""
        settings, lock = self._settable(changes), changes.get("caption_locked")
        found = {image.id: image for image in self._store.images_by_id(ids)}
        if settings and found:
            self._store.update_images(list(found), **settings)
        by_set: dict[str, list[DatasetImage]] = {}
        for image in found.values():
            by_set.setdefault(image.dataset_id, []).append(image)
        for dataset_id, pictures in by_set.items():
            if lock is not None:
                locks = [
                    CaptionChange(image_id=image.id, text=image.caption, before=image.caption, locked=lock)
                    for image in pictures
                    if image.caption_locked != lock
                ]
                done = set(self._captions.write(dataset_id, locks, source="human", batch_id=new_id("batch")))
                texts = {image.id: image.caption for image in pictures if image.id in done}
                if texts:
                    self.after_captions(dataset_id, texts)
            self.changed(dataset_id)
        return outcome(ids, found)

    def trash_images(self, ids: list[str]) -> dict[str, list[Any]]:
        """Put pictures into the trash; return {"succeeded", "failed"}: never all-or-nothing in silence."""
        return self._mark(ids, now_iso())

    def restore_images(self, ids: list[str]) -> dict[str, list[Any]]:
        """Take pictures out of the trash; return {"succeeded", "failed"}."""
        return self._mark(ids, None)

    def delete_pictures(self, ids: list[str]) -> list[DatasetImage]:
        """Delete pictures for good; return what they were. Files that a version names stay for it."""
        masks = {id: values["mask"]["path"] for id, values in self._store.metadata(ids, ["mask"]).items()}
        gone = self._store.delete_images(ids)
        for dataset_id in dict.fromkeys(image.dataset_id for image in gone):
            kept = self._versions.keys_in_versions(dataset_id)
            for image in gone:
                if image.dataset_id == dataset_id:
                    self.files.remove_picture(image, kept, masks.get(image.id))
            self.changed(dataset_id)
        return gone

    def delete_many(self, ids: list[str]) -> dict[str, list[Any]]:
        """Delete pictures for good; return {"succeeded", "failed"}."""
        return outcome(ids, {image.id: image for image in self.delete_pictures(ids)})

    # ------------------------------------------------------------ telling

    def changed(self, dataset_id: str) -> None:
        """Tell everybody that a dataset or its pictures changed. Call after a change made through the store."""
        with contextlib.suppress(NotFound):  # deleted meanwhile: that was told
            revision = self._store.get(dataset_id).revision
            self._events.publish("dataset.updated", {"datasetId": dataset_id, "revision": revision})

    def captions_changed(self, dataset_id: str, texts: dict[str, str]) -> None:
        """Tell everybody that captions changed, by picture id."""
        with contextlib.suppress(NotFound):
            revision = self._store.get(dataset_id).revision
            ids = list(texts)
            told = {"datasetId": dataset_id, "imageIds": ids[:IDS_IN_EVENT], "count": len(ids), "revision": revision}
            self._events.publish("caption.updated", told)

    # ------------------------------------------------------------ JSON

    def public(self, dataset: Dataset) -> dict[str, Any]:
        """Return a dataset as the API shows it, with counts, covers and health."""
        return self.public_many([dataset], budget=None)[0]

    def public_many(self, found: list[Dataset], *, budget: int | None = LIST_BUDGET) -> list[dict[str, Any]]:
        """Return datasets as the API shows them; `health` is None where it would take counting too many pictures."""
        ids = [dataset.id for dataset in found]
        counts, covers = self._store.counts(ids), self._store.covers(ids, COVERS)
        pictures = {
            image.id: image for image in self._store.images_by_id([id for some in covers.values() for id in some])
        }
        rows = []
        for dataset in found:
            known = self.statistics.known(dataset)
            try:
                health = self.statistics.health(dataset, budget=budget)
            except NotFound:  # deleted between the two looks
                health = None
            if budget is not None and not known and health is not None:
                budget -= counts[dataset.id]["images"] if dataset.id in counts else 0
            rows.append(
                dataset.to_json()
                | {
                    "counts": counts.get(dataset.id) or dict.fromkeys(COUNTS, 0),
                    "covers": [thumb_url(pictures[id], "s") for id in covers.get(dataset.id, []) if id in pictures],
                    "health": health,
                }
            )
        return rows

    def public_image(self, image: DatasetImage) -> dict[str, Any]:
        """Return a picture as the API shows it, with what was measured."""
        return self.public_images([image])[0]

    def public_images(self, found: list[DatasetImage]) -> list[dict[str, Any]]:
        """Return pictures as the API shows them, with what was measured and immutable addresses of their bytes."""
        measured = self._store.metadata([image.id for image in found])
        return [image_json(image, measured.get(image.id, {})) for image in found]

    # ------------------------------------------------------------ inside

    def _told(self, dataset: Dataset) -> Dataset:
        self.changed(dataset.id)
        return dataset

    def _stale(self, image: DatasetImage) -> Stale:
        return Stale(
            f"The caption of '{image.filename}' was changed elsewhere meanwhile. Nothing was saved.",
            remedy="Look at the caption that is there now and repeat your change.",
            extra={"current": self.public_image(image)},
        )

    def _settable(self, changes: dict[str, Any]) -> dict[str, Any]:
        settings = {name: value for name, value in changes.items() if name in SETTABLE}
        for name, value in settings.items():
            if value is None:
                raise InvalidInput.field(name, "This must have a value.")
        if "repeats" in settings and not 1 <= settings["repeats"] <= 1000:
            raise InvalidInput.field("repeats", "Use a number from 1 to 1000.")
        if "concept" in settings:
            settings["concept"] = settings["concept"].strip()
        return settings

    def _mark(self, ids: list[str], moment: str | None) -> dict[str, list[Any]]:
        found = {image.id: image for image in self._store.images_by_id(ids)}
        self._store.update_images(list(found), trashed_at=moment)
        for dataset_id in dict.fromkeys(image.dataset_id for image in found.values()):
            self.changed(dataset_id)
        return outcome(ids, found)

    def _exists(self, id: str) -> bool:
        try:
            self._store.get(id)
        except NotFound:
            return False
        return True
