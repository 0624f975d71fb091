"""A small world of a library, blobs and a queue that runs at once, for versions and exports."""

from __future__ import annotations

import hashlib
import io
import zipfile
from pathlib import Path
from typing import Any

from PIL import Image

from dalla.errors import Cancelled
from dalla.events import EventBus
from dalla.ids import new_id
from dalla.jobs.local import LocalQueue
from dalla.records.dataset import CaptionChange, Dataset, DatasetImage
from dalla.records.job import Job
from dalla.services.dataset_exports import DatasetExports
from dalla.services.dataset_versions import DatasetVersions
from dalla.services.datasets import Datasets
from dalla.stores.blobs import FileBlobs
from dalla.stores.dataset_captions import SqlCaptions
from dalla.stores.dataset_versions import SqlDatasetVersions
from dalla.stores.datasets import SqlDatasets
from dalla.stores.library import Library
from dalla.stores.tasks import SqlTasks
from dalla.times import now_iso
from tests.conftest import make_settings


def picture(
    number: int, *, format: str = "PNG", size: tuple[int, int] = (80, 60), mode: str = "RGB", **save: Any
) -> bytes:
    """A picture that differs from every other number's: a ramp in a colour of its own."""
    ramp = Image.linear_gradient("L").resize(size)
    image = Image.merge("RGB", [ramp, Image.new("L", size, number * 37 % 256), ramp.rotate(180)])
    out = io.BytesIO()
    image.convert(mode).save(out, format, **save)
    return out.getvalue()


class World:
    """One dataset, and everything that makes versions and exports of it."""

    def __init__(self, root: Path, *, immediate: bool = True, dataset_id: str | None = None) -> None:
        """`dataset_id`: a world of this folder was there before, and this is its dataset."""
        self.root = root
        self.settings = make_settings(root)
        self.data = Path(self.settings.data_dir)
        self.training = Path(self.settings.training_data_dir)
        self.data.mkdir(parents=True, exist_ok=True)
        self.training.mkdir(parents=True, exist_ok=True)
        self.library = Library.open(self.data / "dalla.db")
        self.blobs = FileBlobs(self.data)
        self.events = EventBus()
        self.store = SqlDatasets(self.library)
        self.captions = SqlCaptions(self.library)
        self.rows = SqlDatasetVersions(self.library)
        self.jobs = LocalQueue(SqlTasks(self.library), self.events, immediate=immediate)
        self.datasets = Datasets(self.settings, self.store, self.captions, self.rows, self.blobs, self.events)
        self.versions = DatasetVersions(self.datasets, self.store, self.captions, self.rows, self.blobs)
        self.exports = DatasetExports(
            self.settings, self.datasets, self.store, self.rows, self.versions, self.blobs, self.jobs
        )
        made = Dataset(id=new_id("dataset"), name="Luna", trigger_word="ohwx", created_at=now_iso())
        self.id = dataset_id or self.store.insert(made).id

    def close(self) -> None:
        self.jobs.stop()
        self.library.close()

    def add(self, filename: str, data: bytes, caption: str = "", **more: Any) -> str:
        """Put one picture in; return its id."""
        with Image.open(io.BytesIO(data)) as image:
            width, height, format = *image.size, image.format or "PNG"
        kind = more.get("kind", "original")
        key = f"datasets/{self.id}/{'originals' if kind == 'original' else 'processed'}/{_ascii(filename)}"
        self.blobs.put(key, data)
        image_id = more.pop("id", None) or new_id("img")
        values = {"width": width, "height": height, "format": format, "size_bytes": len(data), "created_at": now_iso()}
        self.store.add_images(
            [
                DatasetImage(
                    id=image_id,
                    dataset_id=self.id,
                    filename=filename,
                    path=key,
                    sha256=hashlib.sha256(data).hexdigest(),
                    caption=caption,
                    caption_source="file" if caption else "none",
                    **{**values, **more},
                )
            ]
        )
        return image_id

    def caption(self, image_id: str, text: str) -> None:
        self.captions.write(self.id, [CaptionChange(image_id=image_id, text=text)], source="human")

    def export(self, name: str, version: int | None = None, /, **options: Any) -> tuple[Job, bytes, dict[str, Any]]:
        """Export at once; return (finished job, the zip's bytes, the export as the API shows it)."""
        job, export = self.exports.submit(self.id, name, options, version)
        job = self.jobs.get(job.id)
        assert job.status == "completed", job.error
        _, path = self.exports.file(self.id, export.number)
        return job, path.read_bytes(), self.exports.public(self.exports.get(self.id, export.number))


def _ascii(filename: str) -> str:
    """Keys of blobs are plain: what is not becomes its number."""
    return "".join(c if c.isascii() and (c.isalnum() or c in "/._-+()@ ") else f"u{ord(c):x}" for c in filename)


def unzip(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.testzip() is None
        names = archive.namelist()
        assert len({name.casefold() for name in names}) == len(names)
        return {name: archive.read(name) for name in names}


def fill(world: World) -> dict[str, str]:
    """Six pictures: two names twice, repeats and a concept, a bare one, a regularization one, a face cut out."""
    ids = {
        "x": world.add("a/x.png", picture(1), "ohwx, red dress\nsecond line"),
        "X": world.add("b/X.jpg", picture(2, format="JPEG"), "green"),
        "c": world.add(
            "c.webp", picture(3, format="WEBP", lossless=True), "ohwx, at the sea", repeats=4, concept="luna woman"
        ),
        "bare": world.add("bare.png", picture(4)),
        "gif": world.add("old.gif", picture(5, format="GIF"), "ohwx, a drawing"),
        "reg": world.add("reg/r.png", picture(6), "a woman", regularization=True),
    }
    ids["face"] = world.add(
        "a/x_face_0.png", picture(7, size=(40, 40)), "", kind="processed", parent_id=ids["x"], operation="face_crop"
    )
    return ids


class Quiet:
    """A context for running a handler by hand."""

    def __init__(self, job: Any, stop_at: int | None = None) -> None:
        self.job, self.failed, self._stop = job, [], stop_at

    def progress(self, done: float, total: float, message: str = "") -> None:
        if self._stop is not None and done >= self._stop:
            raise Cancelled("stop")

    def preview(self, image: bytes, mime: str) -> None: ...

    def check_cancelled(self) -> None: ...

    def item_failed(self, id: str, code: str, detail: str) -> None:
        self.failed.append((id, code))
