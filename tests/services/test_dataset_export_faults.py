"""Exports that meet trouble: broken pictures, a full disk, kill -9, what they export deleted. Nothing is half-made."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dalla.errors import Conflict, InvalidInput, NotFound
from dalla.services import dataset_archive, dataset_exports
from tests.services.dataset_versions_kit import Quiet, World, fill, picture, unzip


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    yield world
    world.close()


def test_broken_pictures_are_told_and_the_rest_is_exported(world: World) -> None:
    ids = fill(world)
    world.versions.snapshot(world.id)
    world.blobs.delete(world.store.image(ids["x"]).path)
    world.blobs.put(world.store.image(ids["X"]).path, picture(99, format="JPEG"))
    job, data, export = world.export("pairs", 1)
    files = unzip(data)
    assert "a_x.png" not in files and "a_x.txt" not in files and "b_X.jpg" not in files and "c.webp" in files
    assert export["images"] == 4
    assert {row["id"]: row["code"] for row in job.items_failed} == {ids["x"]: "not_found", ids["X"]: "storage"}
    told = {row["filename"]: row["detail"] for row in json.loads(files["manifest.json"])["failed"]}
    assert "gone" in told["a/x.png"] and "changed" in told["b/X.jpg"]


def test_no_picture_at_all_is_an_error(world: World) -> None:
    id = world.add("a.png", picture(1), "x")
    world.versions.snapshot(world.id)
    world.blobs.delete(world.store.image(id).path)
    job, export = world.exports.submit(world.id, "kohya")
    job = world.jobs.get(job.id)
    assert job.status == "failed" and job.error["code"] == "conflict"
    assert world.exports.public(world.exports.get(world.id, export.number))["status"] == "failed"
    with pytest.raises(Conflict, match="not made yet"):
        world.exports.file(world.id, export.number)
    assert _left(world) == []


def test_cancel_and_kill_leave_nothing_and_the_task_starts_over(world: World) -> None:
    fill(world)
    job, data, export = world.export("kohya")
    path = world.exports.file(world.id, 1)[1]
    path.unlink()
    world.rows.update_export(export["id"], path="", sha256="")
    with pytest.raises(Exception, match="stop"):
        world.exports._run_export(Quiet(job, stop_at=3), job.payload)
    assert _left(world) == [] and world.exports.all(world.id)[0]["fileUrl"] is None
    left = path.with_name(f".{path.name}.0123.tmp")
    left.write_bytes(b"half")  # as a killed process leaves it
    world.exports._run_export(Quiet(job), job.payload)
    assert _left(world) == [path.name] and path.read_bytes() == data


@pytest.mark.skipif(os.name == "nt", reason="SIGKILL")
def test_a_killed_app_finishes_its_exports_at_the_next_start(world: World) -> None:
    fill(world)
    expected = world.export("kohya")[1]
    program = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from dalla.services import dataset_archive\n"
        "from tests.services.dataset_versions_kit import World\n"
        "world = World(Path(sys.argv[1]), dataset_id=sys.argv[2])\n"
        "add, count = dataset_archive._add, iter(range(99))\n"
        "def dying(*given):\n"
        "    if next(count) == 5: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return add(*given)\n"
        "dataset_archive._add = dying\n"
        "world.exports.submit(world.id, 'kohya')\n"
    )
    root = Path(__file__).parents[2]
    died = subprocess.run([sys.executable, "-c", program, str(world.root), world.id], cwd=root, check=False)
    assert died.returncode == -9
    assert len(_left(world)) == 2  # the first, and half of the second under a name nobody reads
    assert world.exports.all(world.id)[0]["status"] == "running"
    with pytest.raises(Conflict):
        world.exports.file(world.id, 2)
    after = World(world.root, immediate=False, dataset_id=world.id)
    after.jobs.start()
    try:
        job = after.jobs.wait(str(after.exports.get(world.id, 2).task_id), 60)
        assert job.status == "completed", job.error
        assert after.exports.file(world.id, 2)[1].read_bytes() == expected
        assert _left(world) == ["training_data_v1.zip", "training_data_v2.zip"]
    finally:
        after.close()


def test_a_full_disk(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(world)

    def full(*args: Any, **kwargs: Any) -> Any:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(dataset_archive, "_add", full)
        job, _ = world.exports.submit(world.id, "kohya")
        job = world.jobs.get(job.id)
        assert job.status == "failed" and job.error["code"] == "storage" and "no space" in job.error["detail"]
        assert _left(world) == []
    monkeypatch.setattr(dataset_exports.shutil, "disk_usage", lambda _: type("U", (), {"free": 10})())
    job, _ = world.exports.submit(world.id, "kohya")
    assert "are free" in world.jobs.get(job.id).error["detail"]


def test_a_dataset_deleted_while_it_is_exported(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(world)
    replace = os.replace

    def deleted_meanwhile(*args: Any) -> None:
        world.store.delete(world.id)
        replace(*args)

    monkeypatch.setattr(dataset_exports.os, "replace", deleted_meanwhile)
    with pytest.raises(NotFound):  # the row of the export is gone when its task's id is noted
        world.exports.submit(world.id, "kohya")
    (job,) = world.jobs.tasks.page()[0]
    assert job.status == "failed" and "deleted while" in job.error["detail"]
    assert _left(world) == []


def test_a_dataset_whose_folder_goes_while_it_is_exported(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(world)
    replace = os.replace

    def deleted_meanwhile(*args: Any) -> None:
        world.datasets.trash(world.id)
        world.datasets.delete_for_good(world.id)
        replace(*args)

    monkeypatch.setattr(dataset_exports.os, "replace", deleted_meanwhile)
    with pytest.raises(NotFound):
        world.exports.submit(world.id, "kohya")
    (job,) = world.jobs.tasks.page()[0]
    assert job.status == "failed" and job.error["code"] == "not_found"
    assert not (world.data / "datasets" / world.id).exists()


def test_exports_can_be_removed(world: World) -> None:
    fill(world)
    _, _, export = world.export("pairs")
    assert [row["number"] for row in world.exports.all(world.id)] == [1]
    world.exports.delete(world.id, export["number"])
    assert world.exports.all(world.id) == [] and _left(world) == []
    with pytest.raises(NotFound):
        world.exports.delete(world.id, 1)
    with pytest.raises(InvalidInput):
        world.exports.submit(world.id, "rar")
    with pytest.raises(NotFound):
        world.exports.submit(world.id, "kohya", None, 9)


def _left(world: World) -> list[str]:
    folder = world.data / "datasets" / world.id / "exports"
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
