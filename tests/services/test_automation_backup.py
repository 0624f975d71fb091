"""Backups: complete, verified, never half there, and only so many are kept."""

from __future__ import annotations

import contextlib
import errno
import json
import sqlite3
import zipfile
from datetime import UTC, datetime, timedelta

import pytest

from dalla.errors import Cancelled, StorageError
from dalla.services import backup
from dalla.services.backup import backups, write_backup
from tests.services.automation_world import World, empty_database, world  # noqa: F401

NOW = datetime(2026, 5, 1, 3, 0, tzinfo=UTC)


@pytest.fixture
def data(tmp_path):
    (tmp_path / "characters.json").write_text('[{"id": "char_1", "name": "Zoë"}]')
    (tmp_path / "scheduler.json").write_text("[]")
    (tmp_path / "trash").mkdir()
    (tmp_path / "trash" / "characters.json").write_text("[]")
    (tmp_path / "wildcards").mkdir()
    (tmp_path / "wildcards" / "light.txt").write_text("dawn\ndusk\n")
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "key").write_bytes(b"the key")
    media = tmp_path / "media" / "2026" / "05"
    media.mkdir(parents=True)
    (media / "media_1.png").write_bytes(b"\x89PNG" * 1000)
    (tmp_path / "media" / "thumbs").mkdir()
    (tmp_path / "media" / "thumbs" / "media_1.webp").write_bytes(b"thumb")
    with contextlib.closing(sqlite3.connect(tmp_path / "dalla.db")) as db:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("CREATE TABLE posts (id TEXT)")
        db.execute("INSERT INTO posts VALUES ('post_1')")
        db.commit()
    return tmp_path


def names(path) -> set[str]:
    with zipfile.ZipFile(path) as zip:
        return set(zip.namelist())


def test_it_holds_the_files_and_a_database_that_opens(data, tmp_path_factory):
    live = sqlite3.connect(data / "dalla.db")  # in use, with a row that is only in the journal
    live.execute("INSERT INTO posts VALUES ('post_2')")
    live.commit()
    made = write_backup(data, now=NOW)
    live.close()
    [path] = backups(data)
    assert path.name == made["file"] == "dalla-20260501-030000.zip" and made["sizeBytes"] == path.stat().st_size
    assert names(path) == {
        "characters.json", "scheduler.json", "trash/characters.json", "wildcards/light.txt", "dalla.db", "manifest.json",
        "README.txt",
    }  # fmt: skip
    out = tmp_path_factory.mktemp("out")
    with zipfile.ZipFile(path) as zip:
        zip.extractall(out)
    assert (out / "characters.json").read_text() == (data / "characters.json").read_text()
    with contextlib.closing(sqlite3.connect(out / "dalla.db")) as db:
        assert db.execute("SELECT id FROM posts ORDER BY id").fetchall() == [("post_1",), ("post_2",)]
    manifest = json.loads((out / "manifest.json").read_text())
    assert set(manifest["files"]) == names(path) - {"manifest.json", "README.txt"} and manifest["media"] is False
    assert list((data / "backups").iterdir()) == [path]


def test_pictures_on_request_without_thumbnails(data):
    write_backup(data, include_media=True, now=NOW)
    assert "media/2026/05/media_1.png" in names(backups(data)[0])
    assert not any("thumbs" in name or "secrets" in name for name in names(backups(data)[0]))


def test_only_the_newest_are_kept_and_other_files_are_left(data):
    (data / "backups").mkdir()
    (data / "backups" / "mine.zip").write_bytes(b"x")
    for day in range(4):
        made = write_backup(data, keep=2, now=NOW + timedelta(days=day))
    assert made["removed"] == ["dalla-20260502-030000.zip"]
    assert [path.name for path in backups(data)] == ["dalla-20260504-030000.zip", "dalla-20260503-030000.zip"]
    assert (data / "backups" / "mine.zip").exists()
    again = write_backup(data, keep=2, now=NOW + timedelta(days=3))
    assert again["file"] == "dalla-20260504-030000-2.zip" and backups(data)[0].name == again["file"]


def test_a_damaged_database_is_told_and_the_older_backups_stay(data):
    write_backup(data, keep=1, now=NOW)
    (data / "dalla.db").write_bytes(b"this is not a database at all" * 100)
    with pytest.raises(StorageError, match="database"):
        write_backup(data, keep=1, now=NOW + timedelta(days=1))
    assert [path.name for path in (data / "backups").iterdir()] == ["dalla-20260501-030000.zip"]


def test_what_does_not_read_back_is_not_kept(data, monkeypatch):
    write = backup._write

    def damaged(data, temp, *more):
        done = write(data, temp, *more)
        content = bytearray(temp.read_bytes())
        content[60] ^= 0xFF
        temp.write_bytes(content)
        return done

    monkeypatch.setattr(backup, "_write", damaged)
    with pytest.raises(StorageError, match="not kept"):
        write_backup(data, now=NOW)
    assert list((data / "backups").iterdir()) == []


def test_a_full_disk_and_a_cancel_leave_nothing(data, monkeypatch):
    def stop(done, total, message):
        if done >= 2:
            raise Cancelled("stop")

    with pytest.raises(Cancelled):
        write_backup(data, now=NOW, progress=stop)
    assert list((data / "backups").iterdir()) == []

    def full(*a, **k):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(backup.zipfile.ZipFile, "open", full)
    with pytest.raises(StorageError, match="no space left"):
        write_backup(data, now=NOW)
    assert list((data / "backups").iterdir()) == []


def test_what_a_cut_off_backup_left_is_cleared(data):
    (data / "backups").mkdir()
    (data / "backups" / ".dalla-20260401-030000.zip.tmp").write_bytes(b"half")
    write_backup(data, now=NOW)
    assert [path.name for path in (data / "backups").iterdir()] == ["dalla-20260501-030000.zip"]


def test_without_a_database_file_it_says_so(data):
    (data / "dalla.db").unlink()
    assert "PostgreSQL" in write_backup(data, now=NOW)["notes"][0]


def test_as_a_scheduled_task(world: World):  # noqa: F811
    (world.folder / "characters.json").write_text("[]")
    task = world.task("0 3 * * *", type="backup", config={"keep": 1})
    for day in (2, 3):
        world.at(f"2026-05-0{day}T03:00:00").tick()
    run = world.ran(task)[-1]
    assert run.status == "completed" and run.steps[0].name == "backup"
    assert "read back without a fault" in run.steps[0].detail
    assert [path.name for path in backups(world.folder)] == [run.result["backup"]["file"]]
