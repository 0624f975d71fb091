"""training_data/<name>/ from a dataset: what our trainer reads, whole or not at all, nobody else's folder touched."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from dalla import training_set
from dalla.errors import Conflict, InvalidInput, NotFound, StorageError
from dalla.services import dataset_materialize
from dalla.services.dataset_formats import one_line
from dalla.services.file_trash import FileTrash
from dalla.services.training_sets import TrainingSets
from tests.services.dataset_versions_kit import World, picture


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    yield world
    world.close()


def fill(world: World) -> dict[str, bytes]:
    """Pictures by caption; every kind our trainer can read, two names twice, one repeated, one to regularize."""
    exif = Image.Exif()
    exif[0x0112] = 6
    pictures = {
        "ohwx, red": picture(1),
        "ohwx, green": picture(2, format="JPEG", exif=exif),
        "ohwx, blue": picture(3, format="WEBP", lossless=True),
        "ohwx, see-through": picture(4, mode="RGBA"),
        "ohwx, print": picture(5, format="JPEG", mode="CMYK"),
        "ohwx, moving": picture(6, format="GIF"),
    }
    names = ["a/x.png", "b/x.jpg", "c.webp", "d.png", "Страж.jpg", "g.gif"]
    for name, (caption, data) in zip(names, pictures.items(), strict=True):
        world.add(name, data, caption, **({"repeats": 3, "concept": "luna woman"} if name == "c.webp" else {}))
    world.add("r.png", picture(7), "a woman", regularization=True)
    return pictures


def test_what_the_trainer_keeps_there_is_no_change_by_hand(world: World) -> None:
    fill(world)
    name = world.exports.materialize(world.id)
    cache = world.training / name / ".cache"
    cache.mkdir()
    (cache / "latents.safetensors").write_bytes(b"x" * 100)
    assert world.exports.materialize(world.id) == name
    assert [folder.name for folder in world.training.iterdir()] == [name]
    (world.training / name / "mine.txt").write_text("by hand")
    assert world.exports.materialize(world.id) != name


def test_the_trainer_sees_the_same_pictures_and_captions(world: World) -> None:
    pictures = fill(world)
    name = world.exports.materialize(world.id)
    assert name == "Luna"
    report = training_set.scan(world.training / name, trigger_word="ohwx", resolution=64)
    assert report.skipped == []
    found = {p.caption: (world.training / name / p.file).read_bytes() for p in report.pictures}
    assert found == pictures  # every byte, every caption
    assert {p.caption: p.repeats for p in report.pictures}["ohwx, blue"] == 3
    assert next(p for p in report.pictures if p.caption == "ohwx, see-through").file == "d.png"
    sets = TrainingSets(world.settings, FileTrash(world.data, "training_data"))
    (row,) = sets.all()
    assert (row["name"], row["pictures"], row["captions"]) == ("Luna", 6, 6)
    assert not [p for p in world.training.iterdir() if p.name != "Luna"]


def test_masks_lie_beside_their_pictures(world: World) -> None:
    world.add("a.png", picture(1), "x", repeats=2)
    world.add("a-masklabel.png", picture(2, mode="L"))
    world.add("b.mask.png", picture(3))  # of nothing: an ordinary picture
    name = world.exports.materialize(world.id)
    report = training_set.scan(world.training / name, masked_loss=True, resolution=64)
    assert {p.file: p.mask for p in report.pictures} == {"b_mask.png": None, "2_ohwx/a.png": "a-masklabel.png"}


def test_nothing_changed_nothing_written(world: World) -> None:
    fill(world)
    world.exports.materialize(world.id, "set")
    before = {p: p.stat().st_mtime_ns for p in (world.training / "set").rglob("*")}
    assert world.exports.materialize(world.id, "set") == "set"
    assert {p: p.stat().st_mtime_ns for p in (world.training / "set").rglob("*")} == before
    world.caption(world.store.image_ids(world.id, _all())[0], "other")
    world.exports.materialize(world.id, "set")
    assert (world.training / "set" / "a_x.txt").read_text() == "other\n"
    assert not list(world.training.glob(".*"))


def test_a_version_can_be_written(world: World) -> None:
    fill(world)
    world.versions.snapshot(world.id)
    world.store.update_images(world.store.image_ids(world.id, _all())[:4], excluded=True)
    assert len(list((world.training / world.exports.materialize(world.id)).glob("*.jpg"))) == 1
    world.exports.materialize(world.id, version=1)
    assert (world.training / "Luna" / "a_x.png").is_file()
    with pytest.raises(NotFound):
        world.exports.materialize(world.id, version=4)


def test_other_folders_are_left_alone(world: World) -> None:
    fill(world)
    mine = world.training / "Luna"
    mine.mkdir()
    (mine / "own.png").write_bytes(b"mine")
    assert world.exports.materialize(world.id) == "Luna-2"
    assert world.exports.materialize(world.id) == "Luna-2"
    with pytest.raises(Conflict, match="was not made from a dataset"):
        world.exports.materialize(world.id, "Luna")
    assert [p.name for p in mine.iterdir()] == ["own.png"]
    assert world.exports.materialize(world.id, "Luna", overwrite=True) == "Luna"
    assert not (mine / "own.png").exists()
    trash = FileTrash(world.data, "training_data")
    (row,) = trash.all()
    trash_folder = world.data / "trash" / "training_data" / row["id"] / "Luna"
    assert (trash_folder / "own.png").read_bytes() == b"mine"


def test_what_a_person_changed_in_the_folder_is_not_lost(world: World) -> None:
    fill(world)
    world.exports.materialize(world.id, "set")
    (world.training / "set" / "extra.png").write_bytes(b"x")
    with pytest.raises(Conflict, match="changed by hand"):
        world.exports.materialize(world.id, "set")
    (world.training / "set" / "extra.png").unlink()
    caption = world.training / "set" / "a_x.txt"
    caption.write_text("edited\n")
    with pytest.raises(Conflict, match="changed by hand"):
        world.exports.materialize(world.id, "set")
    assert caption.read_text() == "edited\n"


def test_another_datasets_folder_is_not_taken(world: World) -> None:
    fill(world)
    world.exports.materialize(world.id, "set")
    first, world.id = world.id, world.store.insert(world.store.get(world.id).with_(id="dataset_2")).id
    world.add("z.png", picture(20), "z")
    with pytest.raises(Conflict, match="another dataset"):
        world.exports.materialize(world.id, "set")
    assert first != world.id and world.exports.materialize(world.id) == "Luna"


@pytest.mark.parametrize("name", ["../x", "a/b", ".hidden", "", "con", "ü"])
def test_names_that_lead_elsewhere(world: World, name: str) -> None:
    fill(world)
    with pytest.raises(InvalidInput):
        world.exports.materialize(world.id, name)


def test_a_full_disk_leaves_the_old_folder(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(world)
    world.exports.materialize(world.id, "set")
    before = {p.name: p.read_bytes() for p in (world.training / "set").glob("*.*")}
    world.add("new.png", picture(30), "new")
    fsync, count = os.fsync, iter(range(100))

    def full(handle: int) -> None:
        if next(count) == 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        fsync(handle)

    monkeypatch.setattr(dataset_materialize.os, "fsync", full)
    with pytest.raises(StorageError, match="no space"):
        world.exports.materialize(world.id, "set")
    assert {p.name: p.read_bytes() for p in (world.training / "set").glob("*.*")} == before
    assert not list(world.training.glob(".*"))


def test_a_stop_in_the_middle_leaves_nothing(world: World) -> None:
    fill(world)

    def stop(done: int, total: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        world.exports.materialize(world.id, "set", on_progress=stop)
    assert list(world.training.iterdir()) == []


def test_a_picture_that_is_gone_is_told_and_looked_for_again(world: World) -> None:
    pictures = fill(world)
    id = world.store.image_ids(world.id, _all())[0]
    path = world.store.image(id).path
    world.blobs.delete(path)
    job = world.exports.submit_materialize(world.id, "set")
    job = world.jobs.get(job.id)
    assert job.status == "completed" and job.result["pictures"] == 5
    assert [(row["id"], row["code"]) for row in job.items_failed] == [(id, "not_found")]
    world.blobs.put(path, pictures["ohwx, red"])
    job = world.jobs.get(world.exports.submit_materialize(world.id, "set").id)
    assert job.result["pictures"] == 6 and not job.result["unchanged"] and job.items_failed == []
    again = world.jobs.get(world.exports.submit_materialize(world.id, "set").id)
    assert again.result["unchanged"] and again.result["pictures"] == 6


def test_nothing_to_train_with(world: World) -> None:
    with pytest.raises(Conflict, match="no picture"):
        world.exports.materialize(world.id)
    id = world.add("a.png", picture(1))
    with pytest.raises(Conflict, match="no picture"):
        world.exports.materialize(world.id, use="processed")
    world.blobs.delete(world.store.image(id).path)
    with pytest.raises(Conflict, match="None of the pictures"):
        world.exports.materialize(world.id)
    assert list(world.training.iterdir()) == []
    world.store.update(world.id, trashed_at="2026-01-01T00:00:00.000Z")
    with pytest.raises(Conflict, match="trash"):
        world.exports.materialize(world.id)


def test_captions_are_one_line() -> None:
    assert one_line("a\u200b b\n\n c\t") == "a b c"


def _all() -> Any:
    from dalla.records.dataset import ImageFilter

    return ImageFilter()
