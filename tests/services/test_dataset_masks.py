"""Masks: which file is whose, their way through imports, versions, exports and training folders."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from dalla import training_set
from dalla.errors import InvalidInput, NotFound
from dalla.services.dataset_exports import DatasetExports
from dalla.services.dataset_import_masks import sort_masks
from dalla.services.dataset_masks import DatasetMasks
from dalla.services.dataset_sources import SourceFile
from dalla.services.dataset_versions import DatasetVersions
from tests.services.dataset_import_kit import World, picture, zipped


def mask(size: tuple[int, int] = (48, 32), kind: str = "PNG", white: int = 24) -> bytes:
    image = Image.new("L", size, 0)
    image.paste(255, (0, 0, white, size[1]))
    out = io.BytesIO()
    image.save(out, kind)
    return out.getvalue()


class Studio(World):
    """A world of imports with masks, versions and exports."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        Path(self.settings.training_data_dir).mkdir(parents=True, exist_ok=True)
        self.masks = DatasetMasks(self.datasets, self.store, self.versions, self.blobs)
        self.snapshots = DatasetVersions(self.datasets, self.store, self.captions, self.versions, self.blobs)
        self.exports = DatasetExports(
            self.settings, self.datasets, self.store, self.versions, self.snapshots, self.blobs, self.jobs
        )

    def facts(self, dataset_id: str) -> dict[str, Any]:
        """The mask of each picture that has one, by file name."""
        found = self.images(dataset_id)
        known = self.store.metadata([i.id for i in found.values()], ["mask"])
        return {name: known[i.id]["mask"] for name, i in found.items() if i.id in known}

    def unpacked(self, dataset_id: str, format: str, **options: Any) -> dict[str, bytes]:
        job, export = self.exports.submit(dataset_id, format, options)
        assert self.jobs.get(job.id).status == "completed", self.jobs.get(job.id).error
        with zipfile.ZipFile(self.exports.file(dataset_id, export.number)[1]) as archive:
            return {name: archive.read(name) for name in archive.namelist()}


@pytest.fixture
def studio(tmp_path: Path) -> Iterator[Studio]:
    studio = Studio(tmp_path)
    yield studio
    studio.close()


# ---------------------------------------------------------------- whose is it


@pytest.mark.parametrize(
    ("files", "masks", "loose"),
    [
        (["a.png", "a-masklabel.png"], {"a.png": "a-masklabel.png"}, []),
        (["f/a.jpg", "f/A.mask.PNG"], {"f/a.jpg": "f/A.mask.PNG"}, []),
        (["a.png", "a.png.mask.webp"], {"a.png": "a.png.mask.webp"}, []),
        (["a.png", "a.jpg", "a-masklabel.png"], dict.fromkeys(["a.png", "a.jpg"], "a-masklabel.png"), []),
        (["img/10_x/a.png", "masks/img/10_x/a.png"], {"img/10_x/a.png": "masks/img/10_x/a.png"}, []),
        (["w/images/a.png", "w/masks/a.png"], {"w/images/a.png": "w/masks/a.png"}, []),
        (["10_x/a.png", "10_x/mask/a.jpg"], {"10_x/a.png": "10_x/mask/a.jpg"}, []),
        (["a.png", "conditioning/a.png", "conditioning/b.png"], {"a.png": "conditioning/a.png"}, ["b"]),
        (["a.png", "b-masklabel.png"], {}, ["b"]),
        (["masks/venice.png", "dresses/rome.png"], {}, []),  # pictures of masks
        (["a.png", "a-masklabel.png", "a.mask.png"], {"a.png": "a-masklabel.png"}, []),
    ],
)
def test_masks_find_their_pictures(files: list[str], masks: dict[str, str], loose: list[str]) -> None:
    pictures, found, left = sort_masks([SourceFile(name, 1, (1,)) for name in files])
    assert {name: file.name for name, file in found.items()} == masks
    assert [stem for stem, _ in left] == loose
    taken = {*masks.values(), *(file.name for _, file in left)}
    assert [file.name for file in pictures] == [
        name for name in files if name not in taken and "mask." not in name.lower()
    ]


# ---------------------------------------------------------------- imports


def test_an_import_takes_masks_along_and_tells_what_has_no_picture(studio: Studio) -> None:
    data = zipped(
        {
            "10_luna/a.png": picture(1),
            "10_luna/a-masklabel.png": mask(),
            "10_luna/b.png": picture(2),
            "10_luna/b.mask.png": mask((100, 20)),  # of another shape
            "10_luna/c.png": picture(3),
            "masks/10_luna/c.png": mask((96, 64)),  # twice as large: the same shape
            "10_luna/gone-masklabel.png": mask(),
        }
    )
    plan = studio.imports.plan(upload_ids=[studio.upload(data)])
    assert plan["summary"] == "3 pictures, 0 captions paired, 3 masks, 1 mask without a picture, kohya repeats 10"
    assert plan["looseMasks"] == ["10_luna/gone-masklabel.png"] and plan["counts"]["refused"] == 0
    job = studio.bring(data)
    assert job.status == "completed" and job.result["masks"] == 2
    assert {row["id"] for row in job.items_failed} == {"10_luna/b.mask.png", "10_luna/gone-masklabel.png"}
    id = studio.only_set()
    assert sorted(studio.images(id)) == ["10_luna/a.png", "10_luna/b.png", "10_luna/c.png"]
    facts = studio.facts(id)
    assert sorted(facts) == ["10_luna/a.png", "10_luna/c.png"]
    assert studio.blobs.get(facts["10_luna/a.png"]["path"]) == mask()  # byte for byte
    shown = studio.datasets.public_image(studio.images(id)["10_luna/a.png"])
    assert shown["metadata"]["mask"] == {"width": 48, "height": 32} and shown["maskUrl"].endswith(
        facts["10_luna/a.png"]["sha256"][:12]
    )


def test_masks_may_be_left_out(studio: Studio) -> None:
    job = studio.bring(zipped({"a.png": picture(1), "a-masklabel.png": mask()}), options={"masks": False})
    assert job.result["masks"] == 0 and studio.facts(studio.only_set()) == {}


def test_masks_that_come_later_find_the_pictures_that_are_there(studio: Studio) -> None:
    studio.bring(zipped({"a.png": picture(1), "b.png": picture(2)}))
    id = studio.only_set()
    job = studio.bring(zipped({"a-masklabel.png": mask(), "b.png": picture(2), "masks/b.png": mask()}), dataset_id=id)
    assert job.status == "completed", job.error
    assert job.result["masks"] == 2 and job.result["added"] == 0
    assert sorted(studio.facts(id)) == ["a.png", "b.png"]


def test_a_killed_import_run_again_has_every_mask_once(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    from dalla.stores.datasets import SqlDatasets

    honest = SqlDatasets.add_images
    monkeypatch.setattr(SqlDatasets, "add_images", lambda *a, **k: (_ for _ in ()).throw(RuntimeError("killed")))
    job = studio.bring(zipped({"a.png": picture(1), "a-masklabel.png": mask()}))
    id = studio.only_set()
    assert job.status == "failed" and studio.files(id) == set()  # nothing half visible
    monkeypatch.setattr(SqlDatasets, "add_images", honest)
    assert studio.jobs.retry(job.id).status == "completed"
    assert list(studio.facts(id)) == ["a.png"]
    assert len([name for name in studio.files(id) if name.startswith("masks/")]) == 1


# ---------------------------------------------------------------- versions and exports


def test_masks_go_with_exports_in_each_trainers_way(studio: Studio) -> None:
    studio.bring(zipped({"10_luna/a.png": picture(1), "10_luna/a-masklabel.png": mask(kind="WEBP")}))
    id = studio.only_set()
    kohya = studio.unpacked(id, "kohya")
    assert Image.open(io.BytesIO(kohya["masks/img/10_luna/a.png"])).format == "PNG"
    assert "conditioning_data_dir" in kohya["dataset.toml"].decode()
    assert "train/10_luna/a-masklabel.png" in studio.unpacked(id, "onetrainer")
    assert "masks/train/10_luna/a.png" in studio.unpacked(id, "ai-toolkit")
    mirrored = studio.unpacked(id, "pairs", mirror=True)
    left = Image.open(io.BytesIO(mirrored["a_mirror-masklabel.png"])).convert("L")
    assert left.getpixel((0, 0)) == 0 and left.getpixel((47, 0)) == 255


def test_what_an_export_holds_comes_back_with_its_masks(studio: Studio) -> None:
    studio.bring(zipped({"10_luna/a.png": picture(1), "10_luna/a-masklabel.png": mask()}))
    for format in ("kohya", "ai-toolkit", "onetrainer"):
        files: dict[str, bytes | str] = dict(studio.unpacked(studio.datasets.page().items[-1].id, format))
        job = studio.bring(zipped(files), name_of(format))
        assert job.result["masks"] == 1, format
        assert job.result["added"] == 1, format


def name_of(format: str) -> str:
    return f"{format}.zip"


def test_our_own_trainer_finds_the_masks(studio: Studio) -> None:
    studio.bring(zipped({"10_luna/a.png": picture(1), "10_luna/a-masklabel.png": mask(), "10_luna/b.png": picture(2)}))
    name = studio.exports.materialize(studio.only_set())
    report = training_set.scan(Path(studio.settings.training_data_dir) / name, masked_loss=True, resolution=64)
    assert {p.file: p.mask for p in report.pictures} == {
        "10_luna/a.png": "a-masklabel.png",
        "10_luna/b.png": None,
    }


def test_versions_keep_masks_and_bring_them_back(studio: Studio) -> None:
    studio.bring(zipped({"a.png": picture(1), "a-masklabel.png": mask(), "b.png": picture(2)}))
    id = studio.only_set()
    first, _ = studio.snapshots.snapshot(id)
    images = studio.images(id)
    studio.masks.remove(images["a.png"].id)
    studio.masks.put(images["b.png"].id, mask(white=10))
    second, new = studio.snapshots.snapshot(id)
    assert new and second.sha256 != first.sha256
    change = studio.snapshots.compare(id, second.number)
    assert [row["filename"] for row in change["replaced"]] == ["a.png", "b.png"]
    studio.snapshots.restore(id, first.number)
    assert list(studio.facts(id)) == ["a.png"]
    assert studio.snapshots.compare(id, "current", first.number)["same"]


# ---------------------------------------------------------------- single pictures


def test_a_mask_is_put_read_and_taken_away(studio: Studio) -> None:
    studio.bring(zipped({"a.png": picture(1)}))
    id = studio.only_set()
    image = studio.images(id)["a.png"]
    with pytest.raises(NotFound):
        studio.masks.file(image.id)
    studio.masks.put(image.id, mask())
    assert studio.masks.file(image.id)[1].read_bytes() == mask()
    studio.masks.put(image.id, mask(white=4))
    assert len([name for name in studio.files(id) if name.startswith("masks/")]) == 1  # the old file went
    with pytest.raises(InvalidInput, match="another shape"):
        studio.masks.put(image.id, mask((10, 200)))
    studio.masks.remove(image.id)
    assert not [name for name in studio.files(id) if name.startswith("masks/")]
    with pytest.raises(NotFound):
        studio.masks.remove(image.id)


def test_a_picture_deleted_for_good_takes_its_mask_along_unless_a_version_names_it(studio: Studio) -> None:
    studio.bring(
        zipped({"a.png": picture(1), "a-masklabel.png": mask(), "b.png": picture(2), "b.mask.png": mask(white=9)})
    )
    id = studio.only_set()
    images = studio.images(id)
    studio.datasets.delete_pictures([images["b.png"].id])
    assert [name for name in studio.files(id) if name.startswith("masks/b")] == []
    studio.snapshots.snapshot(id)
    studio.datasets.delete_pictures([images["a.png"].id])
    assert [name for name in studio.files(id) if name.startswith("masks/a")]


def test_the_check_finds_masks_that_are_gone(studio: Studio) -> None:
    studio.bring(zipped({"a.png": picture(1), "a-masklabel.png": mask()}))
    id = studio.only_set()
    assert studio.checks.check(id)["ok"]
    studio.blobs.delete(studio.facts(id)["a.png"]["path"])
    assert studio.checks.check(id)["counts"] == {"missing_mask": 1}
    job = studio.jobs.get(studio.checks.start(id, repair=True).id)
    assert job.result and job.result["repaired"] == {"missing_mask": 1}
    assert studio.checks.check(id)["ok"] and studio.facts(id) == {}
