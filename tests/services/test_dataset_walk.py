"""The whole way of a dataset: import, captions, version, export, training. What comes out is what went in."""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from dalla import training_set
from dalla.records.dataset import ImageFilter
from dalla.services.dataset_captions import DatasetCaptions
from dalla.services.dataset_exports import DatasetExports
from dalla.services.dataset_formats import one_line
from dalla.services.dataset_versions import DatasetVersions
from tests.services.dataset_import_kit import World, kohya_zip


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    Path(world.settings.training_data_dir).mkdir(parents=True)
    yield world
    world.close()


def seen(folder: Path) -> dict[str, tuple[str, int]]:
    """{sha256 of the file: (caption, repeats)} as our trainer reads a folder."""
    report = training_set.scan(folder, resolution=64)
    assert report.skipped == []
    return {p.sha256: (p.caption, p.repeats) for p in report.pictures}


def test_from_a_messy_archive_to_the_trainer_and_back(world: World, tmp_path: Path) -> None:
    captions = DatasetCaptions(world.settings, world.store, world.captions, world.jobs, world.events)
    versions = DatasetVersions(world.datasets, world.store, world.captions, world.versions, world.blobs)
    exports = DatasetExports(
        world.settings, world.datasets, world.store, world.versions, versions, world.blobs, world.jobs
    )
    job = world.bring(kohya_zip(), name="luna.zip")
    assert job.status == "completed", job.error
    id = world.only_set()
    world.datasets.update(id, {"trigger_word": "ohwx"})

    edited = captions.edit(id, "prefix", {"text": "ohwx"}, ImageFilter(captioned=True, regularization=False))
    assert edited["changed"] == 3  # two of the files, one from the folder's name
    version, _ = versions.snapshot(id, "ready")
    wanted = {
        image.sha256: (one_line(image.caption), image.repeats)
        for image in world.images(id).values()
        if not image.regularization
    }
    assert len(wanted) == 3 and {repeats for _, repeats in wanted.values()} == {10}
    assert sum(caption.startswith("ohwx") for caption, _ in wanted.values()) == 3

    # … as an archive that kohya and our trainer read alike
    job, export = exports.submit(id, "kohya", {"classWord": "woman"}, version.number)
    assert world.jobs.get(job.id).status == "completed"
    data = exports.file(id, export.number)[1].read_bytes()
    zipfile.ZipFile(io.BytesIO(data)).extractall(tmp_path / "kohya")
    assert seen(tmp_path / "kohya" / "img") == wanted

    # … as a folder of our own trainer
    assert seen(Path(world.settings.training_data_dir) / exports.materialize(id)) == wanted

    # … and back in: the same pictures, captions, repeats, concepts
    job = world.bring(data, name="again.zip")
    assert job.status == "completed", job.error
    again = world.images(job.result["datasetId"])
    before = {
        i.sha256: (one_line(i.caption), i.repeats, i.concept, i.regularization)
        for i in world.images(id).values()
        if not i.regularization
    }
    after = {i.sha256: (one_line(i.caption), i.repeats, i.concept, i.regularization) for i in again.values()}
    assert {sha: row for sha, row in after.items() if not row[3]} == before
    assert {hashlib.sha256(world.blobs.get(i.path)).hexdigest() for i in again.values()} == set(after)

    # … and a version takes the edit back
    versions.restore(id, version.number)
    captions.edit(id, "replace", {"find": "ohwx", "replacement": "sks"}, ImageFilter())
    assert seen(Path(world.settings.training_data_dir) / exports.materialize(id)) != wanted
    versions.restore(id, version.number)
    assert seen(Path(world.settings.training_data_dir) / exports.materialize(id)) == wanted
