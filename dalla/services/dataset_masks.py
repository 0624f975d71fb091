"""Masks of pictures: what of a picture counts in training (white) and what does not (black).

A mask is no picture of the dataset. Its file lies in `datasets/<id>/masks/`, byte for byte as it came, and is named by
the picture's measured value `mask`: {path, sha256, width, height, sizeBytes}.
"""

from __future__ import annotations

import contextlib
import hashlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from dalla import imaging
from dalla.errors import Conflict, DallaError, InvalidInput, NotFound
from dalla.records.dataset import DatasetImage
from dalla.services.dataset_import_work import mask_key
from dalla.services.datasets import Datasets
from dalla.stores.base import BlobStore, DatasetStore, DatasetVersionStore

#: The measured value that names a picture's mask.
KEY = "mask"
#: A mask whose shape (width by height) is further from the picture's than this, as a share, belongs to another one.
SHAPE = 0.03


@dataclass(frozen=True)
class Mask:
    """A mask that was looked at: its bytes as they came, their hash, its size in px and its ending without the dot."""

    data: bytes
    sha256: str
    width: int
    height: int
    ending: str

    def facts(self, path: str) -> dict[str, Any]:
        """Return the measured value of a picture that has this mask at `path`."""
        return {
            "path": path,
            "sha256": self.sha256,
            "width": self.width,
            "height": self.height,
            "sizeBytes": len(self.data),
        }


def prepare_mask(data: bytes, name: str, picture: tuple[int, int]) -> Mask:
    """Look at the mask of a picture of this size in px.

    Raises UnsupportedMedia, TooLarge, InvalidInput (damaged, or of another shape than the picture).
    """
    found = imaging.open_image(data, name=PurePosixPath(name).name)
    wide, high = picture
    if abs(found.width * high - found.height * wide) > SHAPE * found.height * wide:
        raise InvalidInput(
            f"The mask has {found.width} × {found.height} px and its picture {wide} × {high}: another shape.",
            remedy="Save the mask in the size of its picture.",
        )
    return Mask(data, hashlib.sha256(data).hexdigest(), found.width, found.height, imaging.EXTENSIONS[found.mime])


class DatasetMasks:
    """Masks of single pictures: put, read, take away."""

    def __init__(
        self, datasets: Datasets, store: DatasetStore, versions: DatasetVersionStore, blobs: BlobStore
    ) -> None:
        self._datasets = datasets
        self._store = store
        self._versions = versions
        self._blobs = blobs

    def of(self, image: DatasetImage) -> dict[str, Any] | None:
        """Return what is known of the mask of a picture: {path, sha256, width, height, sizeBytes}; None: it has none."""
        found = self._store.metadata([image.id], [KEY]).get(image.id, {}).get(KEY)
        return found if isinstance(found, dict) else None

    def file(self, image_id: str) -> tuple[dict[str, Any], Path]:
        """Return the facts and the path of a picture's mask. Raises NotFound (it has none, or the file is gone)."""
        image = self._datasets.image(image_id)
        facts = self.of(image)
        if facts is None:
            raise NotFound(f"'{image.filename}' has no mask.")
        if not self._blobs.exists(facts["path"]):
            raise NotFound(f"The mask of '{image.filename}' is gone from the disk.", remedy="Add it again.")
        return facts, self._blobs.path(facts["path"])

    def put(self, image_id: str, data: bytes, name: str = "mask") -> DatasetImage:
        """Give a picture a mask, or another one. Raises NotFound, Conflict (trash), and what `prepare_mask` raises."""
        image = self._datasets.image(image_id)
        self._datasets.live(image.dataset_id)
        if image.trashed_at is not None:
            raise Conflict(f"'{image.filename}' is in the trash.", remedy="Restore it first.")
        self.write(image, data, name)
        self._datasets.changed(image.dataset_id)
        return image

    def write(self, image: DatasetImage, data: bytes, name: str = "mask") -> dict[str, Any]:
        """Give a picture a mask without telling open pages (a batch does); return its facts. Raises as `prepare_mask`."""
        mask = prepare_mask(data, name, (image.width, image.height))
        before = self.of(image)
        key = mask_key(self._blobs, image.dataset_id, image.filename, mask)
        self._blobs.put(key, data)
        facts = mask.facts(key)
        self._store.put_metadata(image.dataset_id, {image.id: {KEY: facts}})
        self._forget(image.dataset_id, before, but=key)
        return facts

    def read(self, image: DatasetImage) -> bytes | None:
        """Return the bytes of a picture's mask; None: it has none, or the file is gone."""
        facts = self.of(image)
        return self._blobs.get(facts["path"]) if facts is not None and self._blobs.exists(facts["path"]) else None

    def remove(self, image_id: str) -> DatasetImage:
        """Take the mask of a picture away; versions that name it keep the file. Raises NotFound, Conflict (trash)."""
        image = self._datasets.image(image_id)
        self._datasets.live(image.dataset_id)
        self.erase(image)
        self._datasets.changed(image.dataset_id)
        return image

    def erase(self, image: DatasetImage) -> None:
        """Take the mask of a picture away without telling open pages. Raises NotFound."""
        before = self.of(image)
        if before is None:
            raise NotFound(f"'{image.filename}' has no mask.")
        self._store.put_metadata(image.dataset_id, {image.id: {KEY: None}})
        self._forget(image.dataset_id, before)

    def _forget(self, dataset_id: str, facts: dict[str, Any] | None, but: str = "") -> None:
        if facts is not None and facts["path"] not in {but, *self._versions.keys_in_versions(dataset_id)}:
            with contextlib.suppress(DallaError):
                self._blobs.delete(facts["path"])
