"""Sizes and forecast, cleaning that deletes exactly what was listed, moves that are whole or not at all."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from dalla.errors import Conflict, InvalidInput
from dalla.records.job import Job
from dalla.records.media import MediaFilter
from dalla.services import storage_relocation
from dalla.services.storage_finds import Find
from dalla.services.storage_relocation import Move, settle_move
from dalla.stores.schema import media
from dalla.times import iso, now_iso
from dalla.wiring import Container
from tests.conftest import make_settings, png, upload
from tests.services.restore_kit import hashes, write

OLD = 90 * 86400


class Killed(BaseException):
    """The process ends here: nothing after it runs."""


@pytest.fixture
def settings(tmp_path):
    """Folders named by settings.json, so that they can be moved."""
    data = tmp_path / "data"
    names = {"trainingDataDir": "training_data", "lorasDir": "loras", "modelsDir": "models"}
    write(data / "settings.json", json.dumps({key: str(tmp_path / name) for key, name in names.items()}).encode())
    return make_settings(tmp_path, DALLA_TRAINING_DATA_DIR="", DALLA_LORAS_DIR="", DALLA_MODELS_DIR="")


def age(path: Path, seconds: float = OLD) -> Path:
    moment = time.time() - seconds
    os.utime(path, (moment, moment))
    return path


def finish(container, job):
    job = container.jobs.wait(job.id, 30)
    assert job.status == "completed", job.error
    return job.result


def place(overview, id):
    return next(row for row in overview["locations"] if row["id"] == id)


# ---------------------------------------------------------------- sizes


def test_sizes_are_measured_by_a_task_and_told_without_looking(running, client, settings, monkeypatch):
    upload(client, png(), "a.png")
    data = Path(settings.data_dir)
    write(Path(settings.models_dir) / "big.safetensors", b"x" * 5000)
    first = running.storage.overview()
    assert place(first, "media")["sizeBytes"] is not None or first["measuring"]
    finish(running, running.storage.measure())
    monkeypatch.setattr(os, "scandir", lambda *a: pytest.fail("a file was looked at"))
    monkeypatch.setattr(os, "walk", lambda *a, **k: pytest.fail("a file was looked at"))
    told = running.storage.overview()
    monkeypatch.undo()
    gallery = place(told, "media")
    assert gallery["files"] == 1 and gallery["sizeBytes"] > 0 and gallery["measuredAt"] and gallery["cleanable"]
    assert place(told, "thumbs")["files"] >= 2
    assert place(told, "models")["sizeBytes"] == 5000 and place(told, "models")["movable"]
    assert place(told, "models")["setting"] == "modelsDir" and not place(told, "data")["movable"]
    assert place(told, "data")["sizeBytes"] >= gallery["sizeBytes"] + place(told, "thumbs")["sizeBytes"]
    [volume] = [row for row in told["volumes"] if "data" in row["locations"]]
    assert 0 < volume["freeBytes"] < volume["totalBytes"]
    assert (data / ".storage.json").exists()


def test_a_folder_that_was_moved_is_not_told_with_its_old_size(running, settings):
    write(Path(settings.models_dir) / "big.safetensors", b"x" * 5000)
    finish(running, running.storage.measure())
    assert place(running.storage.overview(), "models")["sizeBytes"] == 5000
    settings.relocate("models_dir", Path(settings.data_dir).parent / "elsewhere")
    # Asking queues the measuring of the new, empty folder: it may be done before the answer is put together.
    assert place(running.storage.overview(), "models")["sizeBytes"] in (None, 0)


def test_the_forecast_is_of_the_last_days_and_says_nothing_too_early(running, client):
    upload(client, png(), "a.png")
    early = running.storage.overview()["forecast"]
    assert early == {"bytesPerDay": None, "daysLeft": None, "basis": "14 days"}
    upload(client, png((1, 2, 3)), "b.png")
    id = running.media.ids(MediaFilter())[0]
    with running.library.write() as db:
        db.execute(media.update().values(size_bytes=3_500_000))
        db.execute(media.update().where(media.c.id == id).values(created_at=iso(datetime.now(UTC) - timedelta(days=7))))
    told = running.storage.overview()["forecast"]
    assert told["bytesPerDay"] == pytest.approx(1_000_000, rel=0.01) and told["daysLeft"] > 0
    with running.library.write() as db:
        db.execute(media.update().values(created_at=iso(datetime.now(UTC) - timedelta(days=40))))
    assert running.storage.overview()["forecast"] == {"bytesPerDay": 0, "daysLeft": None, "basis": "14 days"}


# ---------------------------------------------------------------- cleaning


@pytest.fixture
def messy(running, client, settings):
    """Leftovers of every kind beside things in use."""
    data = Path(settings.data_dir)
    ids = [upload(client, png((n * 50, 0, 0)), f"{n}.png").json for n in range(3)]
    ids = [row["items"][0]["id"] if "items" in row else row["id"] for row in ids]
    client.delete(f"/api/media/{ids[0]}")
    for name in ("media/2020/01/orphan.png", "media/thumbs/zz/media_0_gone.s.webp", "thumbs/datasets/set/img_gone.m.webp",
                 "uploads/upload_1_abcdefghi.part", "uploads/upload_1_abcdefghi.json", ".x.tmp", "logs/dalla.log.1",
                 "dalla.db.before-0003.bak", "media/2020/01/.half.png.tmp"):  # fmt: skip
        age(write(data / name, b"leftover") or data / name)
    write(data / "media" / "2020" / "01" / "new.png", b"just written")  # its record comes in a moment
    write(data / "logs" / "dalla.log", b"in use")
    write(data / "backups" / "before-restore-20260101-000000" / "characters.json", b"[]")
    for id, status in (("job_done", "completed"), ("job_stopped", "interrupted"), ("job_running", "running")):
        running.tasks.insert(Job(id=id, kind="train_lora", lane="gpu", status=status, owner=running.jobs.owner, created_at=now_iso(), heartbeat_at=now_iso()))  # fmt: skip
        write(data / "runs" / id / "checkpoints" / "10" / "lora.safetensors", b"weights")
        write(data / "runs" / id / "samples" / "0.png", b"sample")
    write(Path(settings.loras_dir) / "luna.safetensors", b"the LoRA")
    write(Path(settings.training_data_dir) / "set" / ".cache" / "a.safetensors", b"cache")
    write(Path(settings.training_data_dir) / "set" / "a.png", b"picture")
    return ids


EVERYTHING = ["trash", "thumbnails", "orphans", "uploads", "temp", "checkpoints", "caches", "exports", "logs", "database_copies", "before_restore"]  # fmt: skip


def test_a_dry_run_lists_and_the_real_run_deletes_exactly_that(running, client, messy, settings):
    data = Path(settings.data_dir)
    before = hashes(data, "data")
    plan = running.storage.cleaner.plan(EVERYTHING)
    assert {k: v for k, v in hashes(data, "data").items() if "cleaning" not in k and "dalla.db" not in k} == {
        k: v for k, v in before.items() if "dalla.db" not in k
    }
    counts = {item["what"]: (item["files"], item["bytes"]) for item in plan["items"]}
    assert counts == {
        "trash": (1, counts["trash"][1]), "thumbnails": (2, 16), "orphans": (1, 8), "uploads": (2, 16), "temp": (2, 16),
        "checkpoints": (1, 7), "caches": (0, 0), "exports": (0, 0), "logs": (1, 8), "database_copies": (1, 8),
        "before_restore": (1, 2),
    }  # fmt: skip
    assert all(item["label"] and item["detail"] for item in plan["items"])
    age(write(data / "logs" / "dalla.log.2", b"came later") or data / "logs" / "dalla.log.2")
    result = finish(running, running.storage.cleaner.start(EVERYTHING, plan_id=plan["planId"]))
    assert result["files"] == plan["files"] and result["bytes"] == plan["bytes"] and result["left"] == 0
    assert (data / "logs" / "dalla.log.2").exists()  # not in the list
    gone = ("media/2020/01/orphan.png", "media/thumbs/zz/media_0_gone.s.webp", "dalla.db.before-0003.bak", ".x.tmp",
            "runs/job_done/checkpoints", "backups/before-restore-20260101-000000", "uploads/upload_1_abcdefghi.part")  # fmt: skip
    assert not [name for name in gone if (data / name).exists()]
    kept = ("media/2020/01/new.png", "logs/dalla.log", "runs/job_done/samples/0.png", "characters.json",
            "runs/job_stopped/checkpoints/10/lora.safetensors", "runs/job_running/checkpoints/10/lora.safetensors")  # fmt: skip
    assert not [name for name in kept if not (data / name).exists() and name != "characters.json"]
    assert (Path(settings.loras_dir) / "luna.safetensors").exists()
    assert (Path(settings.training_data_dir) / "set" / ".cache").exists()  # a training is running
    assert [p.read_bytes() for p in (data / "trash" / "media").glob("*/orphan.png")] == [b"leftover"]
    assert client.get(f"/api/media/{messy[0]}").status_code == 404
    for id in messy[1:]:
        assert client.get(f"/api/media/{id}/file").status_code == 200
        assert client.get(f"/api/media/{id}/thumb?size=s").status_code == 200
    with pytest.raises(Conflict, match="not known"):
        running.storage.cleaner.start(EVERYTHING, plan_id=plan["planId"])


def test_what_came_into_use_after_the_dry_run_stays(running, client, messy, settings):
    data = Path(settings.data_dir)
    plan = running.storage.cleaner.plan(["trash", "thumbnails", "orphans", "checkpoints", "logs"])
    client.post(f"/api/media/{messy[0]}/restore")
    (data / "logs" / "dalla.log.1").write_bytes(b"written again")
    write(data / "runs" / "job_done" / "checkpoints" / "20" / "lora.safetensors", b"more")
    with running.library.write() as db:
        db.execute(media.update().where(media.c.id == messy[1]).values(path="media/2020/01/orphan.png"))
    result = finish(
        running,
        running.storage.cleaner.start(
            ["trash", "thumbnails", "orphans", "checkpoints", "logs"], plan_id=plan["planId"]
        ),
    )
    assert result["files"] == 2 and result["left"] == 4  # only the two thumbnails
    assert client.get(f"/api/media/{messy[0]}").json["trashedAt"] is None
    assert (data / "media/2020/01/orphan.png").exists() and (data / "logs/dalla.log.1").exists()
    assert (data / "runs/job_done/checkpoints/10/lora.safetensors").exists()


def test_only_what_is_past_its_days_goes_with_trash_old(running, client, messy):
    assert running.storage.cleaner.plan(["trash_old"])["files"] == 0
    with running.library.write() as db:
        db.execute(
            media.update().where(media.c.id == messy[0]).values(trashed_at=iso(datetime.now(UTC) - timedelta(days=31)))
        )
    both = running.storage.cleaner.plan(["trash_old", "trash"])
    assert [item["files"] for item in both["items"]] == [1, 0]  # nothing is counted twice


def test_caches_go_when_no_training_runs(running, messy, settings):
    running.tasks.transition("job_running", "completed", only_from={"running"})
    assert running.storage.cleaner.plan(["caches"])["files"] == 1
    finish(running, running.storage.cleaner.start(["caches"]))
    sets = Path(settings.training_data_dir) / "set"
    assert not (sets / ".cache").exists() and (sets / "a.png").exists()


def test_a_list_cannot_lead_out_of_our_folders(running, tmp_path, settings):
    outside = age(write(tmp_path / "outside" / "mine.txt", b"mine") or tmp_path / "outside" / "mine.txt")
    plan = running.storage.cleaner.plan(["logs"])
    find = Find("logs", str(outside), 1, 4, outside.stat().st_mtime_ns)
    running.storage.cleaner._save(plan["planId"], [find])
    assert finish(running, running.storage.cleaner.start(["logs"], plan_id=plan["planId"]))["left"] == 1
    assert outside.exists()


def test_what_there_is_not_is_refused(running):
    with pytest.raises(InvalidInput, match="none of"):
        running.storage.cleaner.plan(["everything"])
    for id in ("../../x", "clean_1_abcdefghi"):
        with pytest.raises(Conflict):
            running.storage.cleaner.start(["logs"], plan_id=id)


# ---------------------------------------------------------------- moving


@pytest.fixture
def loras(settings) -> Path:
    folder = Path(settings.loras_dir)
    for n in range(5):
        write(folder / f"l{n}.safetensors", bytes([n]) * 100_000)
    write(folder / "deep" / "er" / "x.json", b"{}")
    write(folder / ".hidden", b"h")
    (folder / "empty").mkdir()
    os.symlink("l0.safetensors", folder / "link.safetensors")
    return folder


def codes(plan) -> set[str]:
    return {problem["code"] for problem in plan["problems"]}


def test_the_plan_says_what_speaks_against_it(running, settings, loras, tmp_path):
    plan = running.storage.mover.plan
    ok = plan("loras", str(tmp_path / "new" / "loras"))
    assert (
        ok["problems"] == []
        and ok["files"] == 7
        and ok["bytes"] == 500_003
        and ok["sameVolume"]
        and ok["freeBytes"] > 0
    )
    assert codes(plan("loras", "relative/folder")) == {"not_absolute"}
    assert codes(plan("loras", str(loras))) >= {"same"}
    assert codes(plan("loras", str(loras / "inside"))) == {"inside_itself"}
    assert codes(plan("loras", str(tmp_path))) >= {"around_itself", "not_empty"}
    assert "in_use" in codes(plan("loras", str(Path(settings.data_dir) / "loras")))
    write(tmp_path / "full" / "x", b"x")
    assert codes(plan("loras", str(tmp_path / "full"))) == {"not_empty"}
    assert codes(plan("loras", str(tmp_path / "full" / "x"))) >= {"not_a_folder"}
    assert "not_writable" in codes(plan("loras", "/proc/nowhere/loras"))
    for strange in ("\0", "x" * 4000, "~nobody-of-that-name/x", "/" + "x" * 300, "", "/\ud800"):
        assert codes(plan("loras", strange)) & {"not_absolute", "not_found", "not_writable"}, strange[:10]
    with pytest.raises(InvalidInput, match="can be moved"):
        plan("media", str(tmp_path / "new"))
    with pytest.raises(Conflict, match="not empty"):
        running.storage.mover.start("loras", str(tmp_path / "full"))
    running.tasks.insert(Job(id="job_1", kind="train_lora", title="Train Luna", lane="gpu", status="running", owner=running.jobs.owner, created_at=now_iso(), heartbeat_at=now_iso()))  # fmt: skip
    assert codes(plan("loras", str(tmp_path / "new" / "loras"))) == {"busy"}


def test_a_folder_the_environment_sets_is_refused_with_the_name_of_the_variable(tmp_path):
    container = Container(make_settings(tmp_path))
    with contextlib.closing(container), pytest.raises(Conflict, match="DALLA_LORAS_DIR"):
        container.storage.mover.plan("loras", str(tmp_path / "new"))


@pytest.mark.parametrize("same", [True, False])
def test_a_move_takes_everything_and_is_in_force_at_once(running, settings, loras, tmp_path, monkeypatch, same):
    monkeypatch.setattr(Move, "same_volume", lambda self: same)
    before = tree(loras)
    target = tmp_path / "new" / "loras"
    result = finish(running, running.storage.mover.start("loras", str(target)))
    assert tree(target) == before and not loras.exists() and (target / "empty").is_dir()
    assert result["renamed"] is same and result["left"] == []
    assert Path(settings.loras_dir) == target
    again = make_settings(tmp_path, DALLA_TRAINING_DATA_DIR="", DALLA_LORAS_DIR="", DALLA_MODELS_DIR="")
    assert Path(again.loras_dir) == target
    assert not (Path(settings.data_dir) / "move.json").exists()


def tree(folder: Path) -> dict[str, bytes | str]:
    """Every file with its content, links with where they lead."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            found[name] = os.readlink(path)
        elif path.is_file():
            found[name] = path.read_bytes()
    return found


def test_a_cancelled_move_and_a_copy_that_reads_back_wrong_change_nothing(
    running, settings, loras, tmp_path, monkeypatch
):
    monkeypatch.setattr(Move, "same_volume", lambda self: False)
    before, target = tree(loras), tmp_path / "new" / "loras"
    monkeypatch.setattr(storage_relocation, "file_hash", lambda path: b"something else")
    job = running.jobs.wait(running.storage.mover.start("loras", str(target)).id, 30)
    assert job.status == "failed" and "does not read back" in job.error["detail"]
    assert tree(loras) == before and not target.exists() and Path(settings.loras_dir) == loras
    assert not (Path(settings.data_dir) / "move.json").exists()


def test_what_is_written_while_it_is_copied_is_not_lost(running, settings, loras, tmp_path, monkeypatch):
    monkeypatch.setattr(Move, "same_volume", lambda self: False)
    switch, note = Move.switch, Move.note

    def late(self, done):
        (loras / "l1.safetensors").write_bytes(b"changed after it was copied")
        write(loras / "late.safetensors", b"late")
        switch(self, done)

    def early(self, state):
        if state == "copying":
            note(self, state)
            monkeypatch.setattr(Move, "note", note)
        else:
            note(self, state)

    monkeypatch.setattr(Move, "switch", late)
    monkeypatch.setattr(Move, "note", early)
    result = finish(running, running.storage.mover.start("loras", str(tmp_path / "new")))
    assert sorted(result["left"]) == [str(loras / "l1.safetensors"), str(loras / "late.safetensors")]
    assert tree(loras) == {"l1.safetensors": b"changed after it was copied", "late.safetensors": b"late"}
    assert (tmp_path / "new" / "l1.safetensors").read_bytes() == b"\1" * 100_000


STEPS = ("copying", "copied", "placed", "placing", "before_switch", "after_switch", "switched", "removing")


@pytest.mark.parametrize("at", STEPS)
def test_killed_at_any_step_it_is_all_here_or_all_there(settings, loras, tmp_path, monkeypatch, at):
    """Simulated: what runs after the kill is left out."""
    data, target = Path(settings.data_dir), tmp_path / "new"
    before = tree(loras)
    move = Move(data, "loras_dir", loras, target)
    kill_at(monkeypatch, at)
    with pytest.raises(Killed):
        move.copy(lambda *args: None)
        if at == "before_switch":
            raise Killed
        move.switch(settings.relocate)
        move.remove_old()
    monkeypatch.undo()
    settle_move(data)
    after = make_settings(tmp_path, DALLA_TRAINING_DATA_DIR="", DALLA_LORAS_DIR="", DALLA_MODELS_DIR="")
    there = at in ("after_switch", "switched", "removing")
    assert Path(after.loras_dir) == (target if there else loras)
    assert tree(Path(after.loras_dir)) == before
    if not there:
        assert not target.exists() and not (data / "move.json").exists()
    else:  # the rest is deleted while the app runs
        with contextlib.closing(Container(after)) as container:
            container.jobs.start()
            container.storage.mover.resume()
            [job] = container.tasks.page(kind="move_storage")[0]
            assert finish(container, job)["left"] == [] and not loras.exists()
        assert tree(target) == before and not (data / "move.json").exists()


def kill_at(monkeypatch, at: str) -> None:
    one, note, rename = Move._one, Move.note, os.rename
    count = 0

    def killed_note(self, state):
        if at == "after_switch" and state == "switched":
            raise Killed
        note(self, state)
        if state == at:
            raise Killed

    def killed_one(self, path, told):
        nonlocal count
        count += 1
        if at == "copied" and count == 4:
            raise Killed
        return one(self, path, told)

    def killed_rename(source, target):
        rename(source, target)
        if at == "placed" and ".moving-" in str(source):
            raise Killed

    unlink = Path.unlink

    def killed_unlink(self, *args, **more):
        unlink(self, *args, **more)
        if at == "removing" and self.name == "l2.safetensors":
            raise Killed

    monkeypatch.setattr(Move, "note", killed_note)
    monkeypatch.setattr(Move, "_one", killed_one)
    monkeypatch.setattr(os, "rename", killed_rename)
    monkeypatch.setattr(Path, "unlink", killed_unlink)


@pytest.mark.parametrize("renamed", [True, False])
def test_killed_between_the_rename_and_the_switch(settings, loras, tmp_path, renamed):
    data, target, before = Path(settings.data_dir), tmp_path / "new", tree(loras)
    move = Move(data, "loras_dir", loras, target)
    move.note("renaming")
    if renamed:
        os.rename(loras, target)
        loras.mkdir()  # as the next start makes the folders it misses
    assert settle_move(data) is renamed
    after = make_settings(tmp_path, DALLA_TRAINING_DATA_DIR="", DALLA_LORAS_DIR="", DALLA_MODELS_DIR="")
    assert Path(after.loras_dir) == (target if renamed else loras) and tree(Path(after.loras_dir)) == before
    assert not (data / "move.json").exists()


CHILD = """
import sys, time
from pathlib import Path
from dalla.services.storage_finds import Find
from dalla.services.storage_relocation import Move
from dalla.wiring import Container
from tests.conftest import make_settings

one = Move._one
def held(self, path, count):
    if any(name.endswith(".safetensors") for name in self._copied):
        time.sleep(600)  # killed here
    return one(self, path, count)
Move._one = held
Move.same_volume = lambda self: False
container = Container(make_settings(Path(sys.argv[1]), DALLA_TRAINING_DATA_DIR="", DALLA_LORAS_DIR="", DALLA_MODELS_DIR=""))
container.jobs.start()
job = container.storage.mover.start("loras", sys.argv[2])
print("started", flush=True)
container.jobs.wait(job.id, 60)
"""


@pytest.mark.skipif(os.name == "nt", reason="sends SIGKILL")
def test_kill_9_in_the_middle_of_a_move(settings, loras, tmp_path):
    data, target, before = Path(settings.data_dir), tmp_path / "new", tree(loras)
    root = Path(__file__).parent.parent.parent
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(tmp_path), str(target)], cwd=root, stdout=subprocess.PIPE
    )
    assert child.stdout.readline() == b"started\n"
    while not list(target.glob(".moving-*/*.safetensors")):
        assert child.poll() is None
        time.sleep(0.01)
    child.send_signal(signal.SIGKILL)
    child.wait(30)
    child.stdout.close()
    assert (data / "move.json").exists() and list(target.glob(".moving-*"))
    settle_move(data)
    assert tree(loras) == before and not target.exists() and not (data / "move.json").exists()
