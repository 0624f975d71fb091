"""The files of datasets and their pictures in the blob store: found, made again, removed."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import orjson

from dalla import imaging
from dalla.errors import DallaError, InvalidInput, NotFound
from dalla.ids import is_id
from dalla.records.dataset import DatasetImage
from dalla.stores.base import BlobStore

logger = logging.getLogger(__name__)

#: Captions without a picture that are kept with a dataset.
MAX_ORPHANS = 2000
_DELETED = ".deleted"  # stands in the folder of a dataset from when its deletion begins


def thumb_key(dataset_id: str, image_id: str, size: str) -> str:
    """Return the blob key of a thumbnail ("s" or "m")."""
    return f"thumbs/datasets/{dataset_id}/{image_id}.{size}.webp"


def _orphans_key(dataset_id: str) -> str:
    return f"datasets/{dataset_id}/orphans.json"


class DatasetFiles:
    """Originals and what was made of them below `datasets/<id>/`, thumbnails below `thumbs/datasets/<id>/`."""

    def __init__(self, blobs: BlobStore) -> None:
        self._blobs = blobs

    def of(self, image: DatasetImage) -> Path:
        """Return the path of a picture's file. Raises NotFound when it is gone."""
        if not self._blobs.exists(image.path):
            raise NotFound(
                f"The file of '{image.filename}' is gone from the data folder.",
                remedy="Check the dataset; put the file back, or remove the picture.",
            )
        return self._blobs.path(image.path)

    def thumbnail(self, image: DatasetImage, size: str) -> Path:
        """Return the path of a thumbnail (WebP), making both sizes again when it is missing.

        Raises InvalidInput (size; the file is damaged), NotFound (the file is gone), StorageError.
        """
        if size not in imaging.THUMBNAILS:
            raise InvalidInput.field("size", f"Use one of {', '.join(imaging.THUMBNAILS)}.")
        key = thumb_key(image.dataset_id, image.id, size)
        if not self._blobs.exists(key):
            picture = imaging.open_image(self.of(image).read_bytes(), name=image.filename)
            self.put_thumbnails(image.dataset_id, image.id, imaging.thumbnails(picture.image))
        return self._blobs.path(key)

    def put_thumbnails(self, dataset_id: str, image_id: str, thumbs: dict[str, bytes]) -> None:
        """Keep the WebP thumbnails of a picture by size. They can be made again, so nothing is synced."""
        for size, webp in thumbs.items():
            self._blobs.put(thumb_key(dataset_id, image_id, size), webp, durable=False)

    def remove_picture(self, image: DatasetImage, kept: set[str], mask: str | None = None) -> None:
        """Delete the thumbnails of a picture, its file and its mask, but no key in `kept`."""
        keys = [key for key in (image.path, mask) if key and key not in kept]
        self._delete([*keys, *(thumb_key(image.dataset_id, image.id, size) for size in imaging.THUMBNAILS)])

    # ------------------------------------------------------------ captions without a picture

    def orphans(self, id: str) -> list[dict[str, str]]:
        """Return the captions that imports found without a picture: {name, reason}. Empty when there are none."""
        try:
            found = orjson.loads(self._blobs.get(_orphans_key(id)))
        except (DallaError, ValueError):
            return []
        return [row for row in found if isinstance(row, dict) and "name" in row] if isinstance(found, list) else []

    def add_orphans(self, id: str, rows: list[dict[str, str]]) -> None:
        """Keep captions without a picture, the newest first, each name once. Raises StorageError."""
        names = {row["name"]: row for row in [*rows, *self.orphans(id)][::-1]}
        self._blobs.put(_orphans_key(id), orjson.dumps(list(names.values())[::-1][:MAX_ORPHANS]))

    def mark_deleted(self, id: str, deleted: bool = True) -> None:
        """Note in the folder of a dataset that its deletion began, so that `sweep` can end it after a crash."""
        folder = self._blobs.path(f"datasets/{id}")
        if deleted and folder.is_dir():
            (folder / _DELETED).touch()
        elif not deleted:
            (folder / _DELETED).unlink(missing_ok=True)

    def remove(self, id: str, keys: list[str]) -> None:
        """Delete the folders of a dataset, and files named by `keys` that are elsewhere."""
        folders = [f"datasets/{id}", f"thumbs/datasets/{id}"]
        self._delete([key for key in keys if not key.startswith(f"{folders[0]}/")])
        for folder in reversed(folders):  # the one with the mark last
            path = self._blobs.path(folder)
            shutil.rmtree(path, ignore_errors=True)
            if path.exists():
                logger.warning("some files below %s could not be removed", path)

    def sweep(self, exists: Callable[[str], bool]) -> None:
        """Remove the files of datasets that were deleted while the app was killed.

        A folder without a record is not enough to go by: the database may be an older copy.
        """
        path = self._blobs.path("datasets")
        for found in list(path.iterdir()) if path.is_dir() else []:
            if (found / _DELETED).is_file() and is_id(found.name) and not exists(found.name):
                self.remove(found.name, [])

    def _delete(self, keys: list[str]) -> None:
        for key in keys:
            try:
                self._blobs.delete(key)
            except DallaError as exc:
                logger.warning("%s could not be removed: %s", key, exc.detail)
