"""The check finds what does not fit between records and files, and the repair loses nobody's picture."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dalla.errors import Conflict, NotFound
from dalla.records.dataset import DatasetVersion, ImageFilter
from tests.services.dataset_import_kit import World, picture, zipped


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    world.checks.settle_seconds = 0
    world.bring(zipped({f"{n}.png": picture(n) for n in range(6)}))
    yield world
    world.close()


def path_of(world: World, name: str) -> Path:
    return world.blobs.path(world.images(world.only_set())[name].path)


def repair(world: World) -> dict:
    job = world.jobs.get(world.checks.start(world.only_set(), repair=True).id)
    assert job.status == "completed", job.error
    assert job.result is not None
    return job.result


def test_everything_fits(world: World) -> None:
    report = world.checks.check(world.only_set())
    assert report["ok"] and report["counts"] == {} and (report["images"], report["files"]) == (6, 6)
    assert "every file is as it should be" in report["summary"]
    assert repair(world)["ok"]


def test_the_quick_check_sees_names_and_sizes_and_changes_nothing(world: World) -> None:
    id = world.only_set()
    path_of(world, "0.png").unlink()
    path_of(world, "1.png").write_bytes(b"short")
    next((world.data / "thumbs" / "datasets" / id).glob(f"{world.images(id)['2.png'].id}.*")).unlink()
    (world.data / "datasets" / id / "originals" / "new.png").write_bytes(picture(50))
    (world.data / "thumbs" / "datasets" / id / "img_1_stray.s.webp").write_bytes(b"x")
    before = world.files(id)
    report = world.checks.check(id)
    assert report["counts"] == {
        "missing_file": 1,
        "wrong_size": 1,
        "missing_thumbnails": 1,
        "foreign_file": 1,
        "stray_thumbnails": 1,
    }
    assert not report["ok"] and world.files(id) == before and len(world.images(id)) == 6
    named = {row["code"]: row["name"] for row in report["problems"]}
    assert (named["missing_file"], named["foreign_file"]) == ("0.png", "originals/new.png")
    assert all(row["detail"] and row["repair"] for row in report["problems"])


def test_a_missing_file_sends_its_picture_to_the_trash(world: World) -> None:
    id = world.only_set()
    gone = world.images(id)["0.png"]
    path_of(world, "0.png").unlink()
    report = repair(world)
    assert report["repaired"] == {"missing_file": 1} and report["ok"]
    assert "0.png" not in world.images(id)
    assert world.store.image_ids(id, ImageFilter(trashed=True)) == [gone.id]
    assert world.checks.check(id)["ok"]


def test_a_file_that_was_renamed_on_the_disk_is_found_again(world: World) -> None:
    id = world.only_set()
    path = path_of(world, "0.png")
    path.rename(path.with_name("renamed by hand.png"))
    report = repair(world)
    assert report["problems"][0]["done"] == "found" and report["counts"] == {"missing_file": 1}
    image = world.images(id)["0.png"]
    assert image.path.endswith("originals/renamed by hand.png") and world.blobs.get(image.path) == picture(0)
    assert world.checks.check(id)["ok"]


def test_a_file_that_was_edited_outside_is_measured_anew(world: World) -> None:
    id = world.only_set()
    before = world.images(id)["1.png"]
    path_of(world, "1.png").write_bytes(picture(77, size=(120, 80)))
    same_size = bytearray(path_of(world, "2.png").read_bytes())
    same_size[-1] ^= 1  # the last byte of the last checksum: still a picture, but another file
    path_of(world, "2.png").write_bytes(bytes(same_size))
    report = repair(world)
    assert report["counts"] == {"wrong_size": 1, "wrong_hash": 1} and report["ok"]
    after = world.images(id)["1.png"]
    assert (after.id, after.width, after.height) == (before.id, 120, 80) and after.sha256 != before.sha256
    assert after.size_bytes == len(picture(77, size=(120, 80)))
    assert world.store.metadata([after.id])[after.id]["megapixels"] == pytest.approx(0.0096, abs=0.001)
    assert world.checks.check(id)["ok"]


def test_a_file_damaged_on_the_disk(world: World) -> None:
    id = world.only_set()
    path = path_of(world, "3.png")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"broken" * 9)
    report = repair(world)
    assert report["problems"][0]["done"] == "trashed" and "3.png" not in world.images(id)
    assert path.exists()  # the bytes stay: whoever knows better may look at them


def test_a_foreign_picture_is_taken_in_and_anything_else_stays(world: World) -> None:
    id = world.only_set()
    originals = world.data / "datasets" / id / "originals"
    (originals / "sub").mkdir()
    (originals / "sub" / "found.jpg").write_bytes(picture(60, "JPEG"))
    (originals / "notes.pdf").write_bytes(b"%PDF not a picture")
    (originals / "名前.png").write_bytes(picture(61))
    report = repair(world)
    assert report["counts"]["foreign_file"] == 3 and report["repaired"]["foreign_file"] >= 1
    images = world.images(id)
    assert images["sub/found.jpg"].path == f"datasets/{id}/originals/sub/found.jpg"
    assert world.store.metadata([images["sub/found.jpg"].id])
    assert (originals / "notes.pdf").exists() and not report["ok"]


def test_a_file_that_is_only_just_there_is_left_alone(world: World) -> None:
    id = world.only_set()
    world.checks.settle_seconds = 600
    (world.data / "datasets" / id / "originals" / "new.png").write_bytes(picture(60))
    assert repair(world)["repaired"] == {} and "new.png" not in world.images(id)


def test_thumbnails_are_made_again_and_strays_go(world: World) -> None:
    id = world.only_set()
    thumbs = world.data / "thumbs" / "datasets" / id
    image = world.images(id)["4.png"]
    for file in thumbs.glob(f"{image.id}.*"):
        file.unlink()
    (thumbs / "img_1_stray.s.webp").write_bytes(b"x")
    assert repair(world)["repaired"] == {"missing_thumbnails": 1, "stray_thumbnails": 1}
    assert {p.name for p in thumbs.glob(f"{image.id}.*")} == {f"{image.id}.s.webp", f"{image.id}.m.webp"}
    assert not (thumbs / "img_1_stray.s.webp").exists()


def test_files_of_versions_are_not_foreign(world: World) -> None:
    id = world.only_set()
    image = world.images(id)["5.png"]
    world.versions.add(
        DatasetVersion(
            dataset_id=id, number=0, entries=[{"imageId": image.id, "filename": "5.png", "path": image.path}]
        )
    )
    world.datasets.delete_pictures([image.id])
    assert world.blobs.exists(image.path)
    assert world.checks.check(id)["ok"]


def test_a_check_without_repair_reads_and_changes_nothing(world: World) -> None:
    id = world.only_set()
    changed = bytearray(path_of(world, "2.png").read_bytes())
    changed[-1] ^= 1
    path_of(world, "2.png").write_bytes(bytes(changed))
    assert world.checks.check(id)["ok"]  # names and sizes fit
    job = world.jobs.get(world.checks.start(id, repair=False).id)
    assert job.result is not None and job.result["counts"] == {"wrong_hash": 1} and not job.result["ok"]
    assert world.checks.check(id)["ok"] and "2.png" in world.images(id)


def test_no_repair_while_pictures_come_in(world: World) -> None:
    id = world.only_set()
    with world.imports.claims.of(id):
        assert world.checks.check(id)["busy"]
        job = world.jobs.get(world.checks.start(id, repair=True).id)
    assert job.status == "failed" and job.error is not None and "being imported" in job.error["detail"]


def test_unknown_and_trashed_datasets(world: World) -> None:
    with pytest.raises(NotFound):
        world.checks.check("dataset_1_aaaaaaaaa")
    id = world.only_set()
    world.datasets.trash(id)
    with pytest.raises(Conflict):
        world.checks.start(id, repair=True)
    assert world.checks.check(id)["ok"]
