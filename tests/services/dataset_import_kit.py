"""A world for imports: real stores, real files, a queue, pictures that differ and archives of every kind."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

from PIL import Image

from dalla.events import EventBus
from dalla.jobs.local import LocalQueue
from dalla.records.dataset import DatasetImage, ImageFilter
from dalla.services.dataset_check import DatasetCheck
from dalla.services.dataset_import import DatasetImport
from dalla.services.datasets import Datasets
from dalla.services.uploads import Uploads
from dalla.stores.blobs import FileBlobs
from dalla.stores.dataset_captions import SqlCaptions
from dalla.stores.dataset_versions import SqlDatasetVersions
from dalla.stores.datasets import SqlDatasets
from dalla.stores.library import Library
from dalla.stores.tasks import SqlTasks
from tests.conftest import make_settings


def picture(n: int = 0, kind: str = "PNG", size: tuple[int, int] = (48, 32), **save: Any) -> bytes:
    """A picture that differs from every other `n` in bytes and pixels."""
    image = Image.new("RGB", size, (n * 37 % 256, n * 91 % 256, (n * 13 + 60) % 256))
    image.putpixel((n % size[0], (n // size[0]) % size[1]), (255, 255, 255))
    out = io.BytesIO()
    image.save(out, kind, **save)
    return out.getvalue()


def zipped(files: dict[str, bytes | str]) -> bytes:
    """A zip with these files."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return out.getvalue()


def kohya_zip() -> bytes:
    """What people send: a kohya tree in a wrapping folder, with litter, twins, orphans and one hostile entry."""
    files: dict[str, bytes | str] = {
        "My Luna Set/img/10_luna woman/portrait 1.png": picture(1),
        "My Luna Set/img/10_luna woman/portrait 1.txt": "luna, portrait, smiling",
        "My Luna Set/img/10_luna woman/beach.jpg": picture(2, "JPEG"),
        "My Luna Set/img/10_luna woman/beach.caption": "luna at the beach",
        "My Luna Set/img/10_luna woman/no caption.webp": picture(3, "WEBP", lossless=True),
        "My Luna Set/img/10_luna woman/portrait 1 copy.png": picture(1),
        "My Luna Set/img/10_luna woman/forgotten.txt": "a caption without its picture",
        "My Luna Set/img/10_luna woman/empty.png": b"",
        "My Luna Set/img/10_luna woman/Thumbs.db": b"x",
        "My Luna Set/reg/1_woman/r1.png": picture(5),
        "My Luna Set/reg/1_woman/r1.txt": "",
        "__MACOSX/My Luna Set/img/._portrait 1.png": b"x",
        "../../evil.png": picture(6),
    }
    return zipped(files)


class World:
    """Everything an import needs, below one folder."""

    def __init__(self, root: Path, *, immediate: bool = True, workers: int = 2) -> None:
        self.root = root
        self.settings = make_settings(root)
        self.data = Path(self.settings.data_dir)
        self.data.mkdir(parents=True, exist_ok=True)
        self.events = EventBus()
        self.library = Library.open(self.data / "dalla.db")
        self.store = SqlDatasets(self.library)
        self.captions = SqlCaptions(self.library)
        self.versions = SqlDatasetVersions(self.library)
        self.blobs = FileBlobs(self.data)
        self.tasks = SqlTasks(self.library)
        self.jobs = LocalQueue(self.tasks, self.events, immediate=immediate)
        self.datasets = Datasets(self.settings, self.store, self.captions, self.versions, self.blobs, self.events)
        self.uploads = Uploads(self.settings)
        self.imports = DatasetImport(
            self.settings, self.datasets, self.store, self.blobs, self.uploads, self.jobs, workers=workers
        )
        self.checks = DatasetCheck(self.datasets, self.store, self.versions, self.blobs, self.imports.claims, self.jobs)

    def close(self) -> None:
        self.jobs.stop()
        self.events.close()
        self.library.close()

    def upload(self, data: bytes, name: str = "set.zip") -> str:
        """Keep bytes as a complete upload; return its id."""
        return self.uploads.keep(name, io.BytesIO(data).read, len(data)).id

    def bring(self, data: bytes, name: str = "set.zip", **more: Any) -> Any:
        """Import one file and return its finished task."""
        job, _ = self.imports.start(upload_ids=[self.upload(data, name)], **more)
        return self.jobs.get(job.id)

    def images(self, dataset_id: str) -> dict[str, DatasetImage]:
        """The pictures of a dataset by file name."""
        ids = self.store.image_ids(dataset_id, ImageFilter())
        return {image.filename: image for image in self.store.images_by_id(ids)}

    def only_set(self) -> str:
        [dataset] = self.datasets.page().items
        return str(dataset.id)

    def files(self, dataset_id: str) -> set[str]:
        """Every file below the folder of a dataset, half-written ones too."""
        root = self.data / "datasets" / dataset_id
        return {p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file()}
