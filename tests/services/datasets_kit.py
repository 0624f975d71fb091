"""A Datasets service on a real database and folder, and pictures made by numbers."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Any

from PIL import Image

from dalla.events import EventBus
from dalla.records.dataset import Dataset, DatasetImage
from dalla.services.datasets import Datasets
from dalla.settings import Settings
from dalla.stores.blobs import FileBlobs
from dalla.stores.dataset_captions import SqlCaptions
from dalla.stores.dataset_versions import SqlDatasetVersions
from dalla.stores.datasets import SqlDatasets
from dalla.stores.library import Library
from tests.conftest import make_settings


class DatasetsKit:
    """`kit.add("a.png", caption="x", sharpness=3)` puts a real file and its record into the dataset `set`."""

    def __init__(self, root: Path) -> None:
        self.settings: Settings = make_settings(root)
        data = Path(self.settings.data_dir)
        self.library = Library.open(data / "dalla.db")
        self.store = SqlDatasets(self.library)
        self.captions = SqlCaptions(self.library)
        self.versions = SqlDatasetVersions(self.library)
        self.blobs = FileBlobs(data)
        self.events = EventBus()
        self.datasets = Datasets(self.settings, self.store, self.captions, self.versions, self.blobs, self.events)
        self.store.insert(Dataset(id="set", name="Luna"))

    def add(
        self,
        filename: str,
        *,
        dataset_id: str = "set",
        file: bool = True,
        size: tuple[int, int] = (60, 40),
        **values: Any,
    ) -> str:
        """Add a picture; what is no column of it is measured metadata. Returns its id."""
        out = io.BytesIO()
        Image.new("RGB", size, tuple(hashlib.sha256(filename.encode()).digest()[:3])).save(out, "PNG")  # type: ignore[arg-type]
        data = out.getvalue()
        columns = {name: values.pop(name) for name in list(values) if name in DatasetImage.model_fields}
        id = columns.pop("id", f"img_{dataset_id}_{filename.replace('/', '_').replace('.', '_')}")
        path = f"datasets/{dataset_id}/originals/{filename}"
        if file:
            self.blobs.put(path, data)
        sha256 = hashlib.sha256(data).hexdigest()
        defaults = {
            "width": size[0], "height": size[1], "size_bytes": len(data), "sha256": sha256, "pixel_sha256": sha256,
        }  # fmt: skip
        image = DatasetImage(id=id, dataset_id=dataset_id, filename=filename, path=path, **{**defaults, **columns})
        self.store.add_images([image], {id: values})
        return id

    def told(self, type: str) -> list[dict[str, Any]]:
        """Return the data of the events of a type, oldest first."""
        return [event.data for event in self.events.since(0, 0)[0] if event.type == type]
