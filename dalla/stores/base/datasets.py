"""Datasets, their pictures and captions, snapshots and exports."""

from __future__ import annotations

from typing import Any, Protocol

from dalla.records.dataset import (
    CaptionBatch,
    CaptionChange,
    CaptionEntry,
    Dataset,
    DatasetExport,
    DatasetImage,
    DatasetVersion,
    ImageFilter,
    ImagePair,
)
from dalla.stores.base.media import Page


class DatasetStore(Protocol):
    """Datasets and their pictures. Every change of a dataset raises its `revision` in the same transaction."""

    def insert(self, dataset: Dataset) -> Dataset:
        """Raises Conflict when the id is taken."""

    def get(self, id: str) -> Dataset:
        """Raises NotFound. One in the trash is found too."""

    def page(self, *, q: str = "", trashed: bool = False, limit: int = 50, cursor: str | None = None) -> Page:
        """Return one page of Dataset, newest first. Raises InvalidInput: bad cursor."""

    def update(self, id: str, **changes: Any) -> Dataset:
        """Set columns (`trashed_at` too). Raises NotFound."""

    def delete(self, id: str) -> list[str]:
        """Remove it with everything that hangs on it; return the blob keys nobody needs any more."""

    def trashed_before(self, moment: str) -> list[str]:
        """Ids of datasets that went into the trash before then."""

    def counts(self, ids: list[str]) -> dict[str, dict[str, int]]:
        """Per dataset: images, captioned, processed, excluded, sizeBytes (the trash does not count)."""

    def covers(self, ids: list[str], each: int = 4) -> dict[str, list[str]]:
        """Per dataset the ids of its first pictures, for the mosaic."""

    def add_images(self, images: list[DatasetImage], metadata: dict[str, dict[str, Any]] | None = None) -> None:
        """Add pictures of one dataset, all or none, each with a first entry in its caption history when it has a
        caption. Raises Conflict (id or file name taken), NotFound (the dataset is gone)."""

    def image(self, id: str) -> DatasetImage:
        """Raises NotFound."""

    def images_by_id(self, ids: list[str]) -> list[DatasetImage]:
        """Those that exist, in the order asked."""

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
        """Return one page of DatasetImage. `sort`: name, newest, oldest, largest, smallest, sharpest, blurriest,
        caption; a metadata key with `-` before it is also taken. `offset` is for jumps of the grid only."""

    def image_ids(self, dataset_id: str, where: ImageFilter) -> list[str]:
        """The ids of all that match, by file name."""

    def facets(self, dataset_id: str, where: ImageFilter) -> dict[str, list[dict[str, Any]]]:
        """Counts {value, count} of what the filter leaves: formats, folders, concepts, captioned, faces, groups."""

    def hashes(self, dataset_id: str, column: str, values: list[str]) -> dict[str, list[str]]:
        """Ids of pictures not in the trash by "sha256" or "pixel_sha256", for the values that are there."""

    def filenames(self, dataset_id: str, kind: str) -> set[str]:
        """The keys (`filename_key`) that are taken, trash included."""

    def update_images(self, ids: list[str], **changes: Any) -> list[str]:
        """Set the same columns (never the caption) on all of one dataset; return the ids that were there."""

    def delete_images(self, ids: list[str]) -> list[DatasetImage]:
        """Remove the rows for good; return what they were."""

    def put_metadata(self, dataset_id: str, values: dict[str, dict[str, Any]]) -> None:
        """Set measured values by picture id and key; a value of None removes the key."""

    def metadata(self, ids: list[str], keys: list[str] | None = None) -> dict[str, dict[str, Any]]:
        """What was measured, by picture id."""

    def columns(self, dataset_id: str, keys: list[str], where: ImageFilter | None = None) -> list[tuple[Any, ...]]:
        """(id, value of each metadata key or None) of every picture that matches, by file name: for hashes and groups."""

    def statistics(self, dataset_id: str, where: ImageFilter | None = None) -> dict[str, Any]:
        """What the pictures (by default those not excluded) add up to, aggregated in SQL, as JSON. No file is read."""

    def sizes(self, dataset_id: str, where: ImageFilter) -> list[tuple[int, int, int, int]]:
        """(width, height, pictures, the sum of their repeats) of what matches, by size in px."""

    def trashed_images_before(self, moment: str) -> list[str]:
        """Ids of pictures that went into the trash before then."""

    def pairs(self, dataset_id: str) -> list[ImagePair]: ...

    def save_pairs(self, pairs: list[ImagePair]) -> None:
        """Remember verdicts; a new one replaces the old."""

    def delete_pairs(self, pairs: list[ImagePair]) -> None: ...


class CaptionStore(Protocol):
    """The captions of pictures and how they came about. Raises the dataset's revision like DatasetStore."""

    def write(
        self,
        dataset_id: str,
        changes: list[CaptionChange],
        *,
        source: str,
        model_used: str | None = None,
        batch_id: str | None = None,
    ) -> list[str]:
        """Set captions and tags and add to the history, in one transaction; return the ids that changed. A picture
        whose caption is no longer `before`, or that is gone, is left out."""

    def history(self, image_id: str, *, limit: int = 100) -> list[CaptionEntry]:
        """Newest first."""

    def texts(self, dataset_id: str, where: ImageFilter) -> list[tuple[str, str, str, bool]]:
        """(id, file name, caption, locked) of all that match, by file name."""

    def before_batch(self, dataset_id: str, batch_id: str) -> list[CaptionChange]:
        """What would take the batch back: for each picture whose current caption is still the batch's, the text (and
        the lock) before it, with `before` set to the current text. Empty when there is nothing left to undo."""

    def batches(self, dataset_id: str, *, limit: int = 50) -> list[CaptionBatch]:
        """Newest first."""

    def tags(self, dataset_id: str, *, limit: int = 1000) -> list[dict[str, Any]]:
        """{tag, count}, most frequent first; spellings that differ in case count as one."""


class DatasetVersionStore(Protocol):
    """Immutable snapshots and the files made from them."""

    def add(self, version: DatasetVersion) -> DatasetVersion:
        """Keep it under the next number (the one given is ignored); two at once get two numbers."""

    def get(self, dataset_id: str, number: int) -> DatasetVersion:
        """With its entries. Raises NotFound."""

    def all(self, dataset_id: str) -> list[DatasetVersion]:
        """Newest first, without entries."""

    def add_export(self, export: DatasetExport) -> DatasetExport:
        """Keep it under the next number of its dataset."""

    def update_export(self, id: str, **changes: Any) -> DatasetExport:
        """Raises NotFound."""

    def export(self, dataset_id: str, number: int) -> DatasetExport:
        """Raises NotFound."""

    def exports(self, dataset_id: str) -> list[DatasetExport]:
        """Newest first."""

    def delete_export(self, id: str) -> DatasetExport:
        """Return what it was; its number is never given again. Raises NotFound."""

    def keys_in_versions(self, dataset_id: str) -> set[str]:
        """Blob keys of pictures and masks that a version still names: they stay when a picture is removed for good."""
