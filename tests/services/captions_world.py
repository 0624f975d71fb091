"""A dataset with captions on real stores and a queue that runs at once, for edits and caption engines."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from PIL import Image

from dalla.engines.captions.vision.base import VisionEngines
from dalla.events import EventBus
from dalla.ids import new_id
from dalla.jobs.local import LocalQueue
from dalla.records.dataset import CaptionChange, Dataset, DatasetImage, ImageFilter
from dalla.records.job import Job
from dalla.services.caption_operations import caption_operations
from dalla.services.dataset_captions import DatasetCaptions
from dalla.services.datasets import Datasets
from dalla.services.image_batches import ImageBatches
from dalla.services.picture_captions import PictureCaptions
from dalla.stores.blobs import FileBlobs
from dalla.stores.dataset_captions import SqlCaptions
from dalla.stores.dataset_versions import SqlDatasetVersions
from dalla.stores.datasets import SqlDatasets
from dalla.stores.library import Library
from dalla.stores.tasks import SqlTasks
from dalla.times import now_iso
from dalla.tokens import TokenCounter
from tests.conftest import make_settings


class NoFaces:
    """A face finder that has no weights."""

    def available(self) -> bool:
        return False

    def find(self, image: Any) -> list[Any]:
        return []


class CaptionWorld:
    """`add("a.png", "a cat")` gives a picture; `captions` and `batches` are the services."""

    def __init__(self, root: Path, *, immediate: bool = True, tokens: TokenCounter | None = None, **env: str) -> None:
        self.settings = make_settings(root, **env)
        data = Path(self.settings.data_dir)
        data.mkdir(parents=True, exist_ok=True)
        self.library = Library.open(data / "dalla.db")
        self.blobs = FileBlobs(data)
        self.events = EventBus()
        self.store = SqlDatasets(self.library)
        self.rows = SqlCaptions(self.library)
        self.jobs = LocalQueue(SqlTasks(self.library), self.events, immediate=immediate)
        self.captions = DatasetCaptions(self.settings, self.store, self.rows, self.jobs, self.events, tokens=tokens)
        versions = SqlDatasetVersions(self.library)
        self.datasets = Datasets(self.settings, self.store, self.rows, versions, self.blobs, self.events)
        self.datasets.after_captions = self.captions.changed
        self.engines = VisionEngines(self.settings)
        self.slept: list[float] = []
        self.pictures = PictureCaptions(
            self.settings, self.store, self.captions, self.blobs, self.engines, sleep=self.slept.append
        )
        self.batches = ImageBatches(
            self.settings, self.datasets, self.store, self.rows, self.blobs, NoFaces(), self.jobs, self.events
        )
        for operation in caption_operations(self.pictures):
            self.batches.register(operation)
        made = Dataset(id=new_id("dataset"), name="Mira", trigger_word="mira_v1", created_at=now_iso())
        self.id = self.store.insert(made).id

    def close(self) -> None:
        self.jobs.stop()
        self.pictures.close()
        self.library.close()

    def add(self, filename: str, caption: str = "", *, locked: bool = False, color=(200, 80, 20), **more: Any) -> str:
        """Put a picture with its file into the dataset; return its id."""
        id = new_id("img")
        out = io.BytesIO()
        Image.new("RGB", (48, 64), color).save(out, "PNG")
        path = f"datasets/{self.id}/originals/{filename}"
        self.blobs.put(path, out.getvalue())
        image = DatasetImage(
            id=id,
            dataset_id=self.id,
            filename=filename,
            path=path,
            width=48,
            height=64,
            caption=caption,
            caption_source="human" if locked else "file" if caption else "none",
            caption_locked=locked,
            created_at=now_iso(),
            updated_at=now_iso(),
            **more,
        )
        self.store.add_images([image])
        return id

    def many(self, *captions: str) -> list[str]:
        return [self.add(f"{n:03}.png", caption) for n, caption in enumerate(captions)]

    def text(self, id: str) -> str:
        return self.store.image(id).caption

    def texts(self) -> list[str]:
        """Every caption, by file name."""
        return [self.text(id) for id in self.store.image_ids(self.id, ImageFilter())]

    def write(self, id: str, text: str, *, source: str = "human", locked: bool | None = None) -> None:
        self.captions.write(self.id, [CaptionChange(image_id=id, text=text, locked=locked)], source=source)

    def heard(self, type: str) -> list[dict[str, Any]]:
        events, _ = self.events.since(0, 0)
        return [event.data for event in events if event.type == type]

    def run(self, operation: str, **options: Any) -> Job:
        """Run a batch over the whole dataset and return its finished task."""
        return self.batches.submit(operation, self.id, None, options)
