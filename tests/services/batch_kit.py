"""A dataset on SQLite with real files and a real queue, for tests of batches and duplicates."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from dalla import imaging
from dalla.engines.faces.base import Face
from dalla.engines.faces.yunet import YuNet
from dalla.events import EventBus
from dalla.ids import new_id
from dalla.jobs.local import LocalQueue
from dalla.measures import measure, pixel_sha256
from dalla.records.dataset import Dataset, DatasetImage, ImageFilter
from dalla.services.dataset_import_work import key_for
from dalla.services.dataset_masks import DatasetMasks
from dalla.services.datasets import Datasets
from dalla.services.duplicates import Duplicates
from dalla.services.image_batches import ImageBatches
from dalla.services.image_dedupe import Dedupe
from dalla.services.image_operations import Analyze, FaceCrop, Resize
from dalla.services.image_upscale import Upscale
from dalla.services.mask_faces import MaskFaces
from dalla.services.processed_pictures import ProcessedPictures
from dalla.stores.blobs import FileBlobs
from dalla.stores.dataset_captions import SqlCaptions
from dalla.stores.dataset_versions import SqlDatasetVersions
from dalla.stores.datasets import SqlDatasets
from dalla.stores.library import Library
from dalla.stores.tasks import SqlTasks
from dalla.times import now_iso

FACE = Path(__file__).parent.parent / "data" / "face.jpg"


def portrait() -> Image.Image:
    with Image.open(FACE) as image:
        return image.convert("RGB")


def group_photo() -> Image.Image:
    """Two faces, the larger one on the right."""
    both = Image.new("RGB", (640, 320), (60, 70, 80))
    both.paste(portrait(), (20, 80))
    both.paste(portrait().resize((320, 320)), (300, 0))
    return both


def encoded(image: Image.Image, format: str = "PNG", **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, format, **options)
    return out.getvalue()


class NoFaces:
    """A finder whose weights are missing."""

    reason = "Faces cannot be found in pictures: the weights are missing."

    def available(self) -> bool:
        return False

    def find(self, image: Image.Image) -> list[Face]:
        raise AssertionError("nobody may look for faces without weights")


@dataclass
class Desk:
    """Everything a batch needs. `restart` builds it anew on the same folder, as after a crash."""

    settings: Any
    faces: Any = None
    immediate: bool = True
    upscaler: Any = None
    heard: list[tuple[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.faces = self.faces or YuNet(self.settings)
        data = Path(self.settings.data_dir)
        data.mkdir(parents=True, exist_ok=True)
        self.library = Library.open(data / "dalla.db")
        self.store = SqlDatasets(self.library)
        self.captions = SqlCaptions(self.library)
        self.versions = SqlDatasetVersions(self.library)
        self.tasks = SqlTasks(self.library)
        self.blobs = FileBlobs(data)
        self.events = EventBus()
        publish = self.events.publish

        def hear(name: str, told: Any) -> None:
            self.heard.append((name, told))
            publish(name, told)

        self.events.publish = hear  # type: ignore[method-assign]
        self.jobs = LocalQueue(self.tasks, self.events, immediate=self.immediate)
        self.datasets = Datasets(self.settings, self.store, self.captions, self.versions, self.blobs, self.events)
        self.batches = ImageBatches(
            self.settings, self.datasets, self.store, self.captions, self.blobs, self.faces, self.jobs, self.events
        )
        pictures = ProcessedPictures(self.store, self.blobs, self.versions)
        self.masks = DatasetMasks(self.datasets, self.store, self.versions, self.blobs)
        for operation in (
            FaceCrop(self.store, pictures, self.faces),
            MaskFaces(self.store, pictures, self.masks, self.faces),
            Analyze(self.store, pictures, self.faces),
            Resize(self.store, pictures),
            Upscale(pictures, self.upscaler),
            Dedupe(self.store, pictures),
        ):
            self.batches.register(operation)
        self.duplicates = Duplicates(self.store, self.events)

    def close(self) -> None:
        self.jobs.stop()
        self.events.close()
        self.library.close()

    def new_set(self, name: str = "Luna") -> str:
        return self.store.insert(Dataset(id=new_id("dataset"), name=name)).id

    def add(
        self,
        dataset_id: str,
        filename: str,
        image: Image.Image | bytes,
        *,
        measured: bool = True,
        caption: str = "",
        kind: str = "original",
        **more: Any,
    ) -> DatasetImage:
        """Put a picture into the set as an import would."""
        data = image if isinstance(image, bytes) else encoded(image)
        try:
            picture = imaging.open_image(data)
        except Exception:  # noqa: BLE001 - a damaged file: it has a row all the same
            picture, measured = None, False  # type: ignore[assignment]
        key = key_for(self.blobs, dataset_id, filename, "originals" if kind == "original" else "processed")
        self.blobs.put(key, data)
        row = DatasetImage(
            id=new_id("img"),
            dataset_id=dataset_id,
            kind=kind,  # type: ignore[arg-type]
            filename=filename,
            path=key,
            mime=picture.mime if picture else "image/png",
            format=(picture.mime if picture else "image/png").partition("/")[2].upper(),
            width=picture.width if picture else 1,
            height=picture.height if picture else 1,
            size_bytes=len(data),
            sha256=hashlib.sha256(data).hexdigest(),
            pixel_sha256=pixel_sha256(picture.image) if picture and measured else "",
            caption=caption,
            caption_source="file" if caption else "none",
            created_at=now_iso(),
            updated_at=now_iso(),
            **more,
        )
        self.store.add_images([row], {row.id: measure(picture.image, data)} if measured else None)
        return row

    def processed(self, dataset_id: str, *, trashed: bool = False) -> dict[str, DatasetImage]:
        ids = self.store.image_ids(dataset_id, ImageFilter(kind="processed", trashed=trashed))
        return {image.filename: image for image in self.store.images_by_id(ids)}

    def pixels(self, image: DatasetImage) -> Image.Image:
        return imaging.open_image(self.blobs.get(image.path)).image


def snapshot(desk: Desk, set_id: str) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Every row and every file of a set, to compare with what they are later."""
    rows = {
        image.id: (image.filename, image.sha256, image.trashed_at is None, image.width)
        for trashed in (False, True)
        for image in desk.store.images_by_id(desk.store.image_ids(set_id, ImageFilter(trashed=trashed)))
    }
    folder = Path(desk.settings.data_dir) / "datasets" / set_id
    files = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    return rows, files


def fill(desk: Desk) -> str:
    """A set with a portrait, two faces, a landscape without faces and a damaged file."""
    set_id = desk.new_set()
    desk.add(set_id, "a/solo.jpg", encoded(portrait(), "JPEG", quality=90), caption="luna, smiling", concept="luna")
    desk.add(set_id, "both.png", group_photo())
    desk.add(set_id, "sea.png", Image.linear_gradient("L").convert("RGB").resize((300, 200)))
    desk.add(set_id, "zz broken.png", encoded(portrait())[:2000])
    return set_id
