"""What a backup holds and what it leaves out, names no other disk takes, one at a time, no room, the lock of the keys."""

from __future__ import annotations

import json
import threading
import zipfile

import orjson
import pytest

from dalla.errors import Conflict, InvalidInput, StorageError
from dalla.services import backup
from dalla.services.backup import backups, write_backup
from dalla.services.backup_contents import Contents, collect, part_of
from dalla.services.backup_keys import Passphrases, seal, unseal
from tests.services.restore_kit import write

FILES = (
    "characters.json", "settings.json", "wildcards/light.txt", "posts/ab/x.jpg", "runs/job_1/events.jsonl",
    "runs/job_1/samples/0.png", "media/2026/01/a.png", "datasets/set/originals/a.png", "batches/b1/journal.jsonl",
    "trash/characters.json", "trash/loras/t1/trashed.json", "trash/loras/t1/x.safetensors",
    "trash/training_data/t2/trashed.json", "trash/media/t3/x.png",
)  # fmt: skip
LEFT_OUT = (
    "secrets/key", "secrets/secrets.json", "logs/dalla.log", "uploads/upload_1.bin", "restore/staged.json", "move.json",
    ".app.lock", ".storage.json", "media/thumbs/aa/a.s.webp", "thumbs/datasets/set/a.s.webp", "media/.x.tmp",
    "datasets/set/exports/training_data_v1.zip", "runs/job_1/checkpoints/10/state.pt", "runs/job_1/adapter.safetensors",
    "trash/backups/t4/b.zip", "trash/models/t5/m.safetensors", "backups/dalla-20260101-000000.zip",
    "dalla.db.before-0003.bak", "characters.json.bak", "cleaning/clean_1.json",
)  # fmt: skip


@pytest.fixture
def data(tmp_path):
    for name in (*FILES, *LEFT_OUT):
        write(tmp_path / "data" / name, name.encode())
    write(tmp_path / "sets" / "10_luna" / "a.png", b"a")
    write(tmp_path / "sets" / "10_luna" / ".cache" / "c.png", b"made again")
    write(tmp_path / "loras" / "luna.safetensors", b"weights")
    write(tmp_path / "loras" / "luna.json", b"{}")
    write(tmp_path / "loras" / "notes.txt", b"x")
    return tmp_path / "data"


def roots(data):
    return {"training_data": data.parent / "sets", "loras": data.parent / "loras"}


def names(data, **contents) -> set[str]:
    return {source.name for source in collect(data, Contents(**contents), roots(data)).files}


def test_each_part_brings_its_files_and_nothing_else(data):
    records = names(data)
    assert records == {n for n in FILES if not n.startswith(("media/", "datasets/", "batches/"))} - {
        n for n in FILES if n.startswith(("trash/loras/", "trash/training_data/", "trash/media/"))
    }
    assert names(data, media=True) - records == {"media/2026/01/a.png", "trash/media/t3/x.png"}
    assert names(data, datasets=True) - records == {
        "datasets/set/originals/a.png", "batches/b1/journal.jsonl", "training_data/10_luna/a.png", "trash/training_data/t2/trashed.json",
    }  # fmt: skip
    assert names(data, loras=True) - records == {
        "loras/luna.safetensors", "loras/luna.json", "trash/loras/t1/trashed.json", "trash/loras/t1/x.safetensors",
    }  # fmt: skip
    everything = names(data, media=True, datasets=True, loras=True)
    assert all(part_of(name) for name in everything)
    assert not [
        name for name in LEFT_OUT if name in everything or (part_of(name) and not name.endswith((".tmp", ".bak")))
    ]


def test_links_are_not_followed(data, tmp_path):
    write(tmp_path / "elsewhere" / "secret.txt", b"secret")
    (data / "wildcards" / "link.txt").symlink_to(tmp_path / "elsewhere" / "secret.txt")
    (data / "wildcards" / "folder").symlink_to(tmp_path / "elsewhere")
    assert not any("link" in name or "secret" in name for name in names(data))


def test_names_that_another_disk_would_refuse_go_under_another_name(data):
    odd = ("A.txt", "a.txt", "aux.png", "inner.zip", "x.tar.gz", "e\u0301.txt")
    for name in odd:
        write(data / "wildcards" / name, name.encode())
    made = write_backup(data, keep=None, contents=Contents())
    with zipfile.ZipFile(data / "backups" / made["file"]) as zip:
        manifest = json.loads(zip.read("manifest.json"))
        by_name = {manifest["renamed"].get(entry, entry): entry for entry in manifest["files"]}
        for name in odd:
            assert zip.read(by_name[f"wildcards/{name}"]) == name.encode()
        assert set(manifest["renamed"].values()) >= {f"wildcards/{name}" for name in odd[1:]}
    assert made["file"].startswith("dalla-hand-")


def test_those_made_by_hand_are_not_pruned(data):
    by_hand = write_backup(data, keep=None)["file"]
    (data / "backups" / "dalla-20260101-000000.zip").unlink()
    scheduled = [write_backup(data, keep=1)["file"] for _ in range(2)]
    assert [path.name for path in backups(data)] == scheduled[1:]
    assert {path.name for path in backups(data, by_hand=True)} == {by_hand, scheduled[1]}


def test_two_at_once_do_not_clear_each_others_files(data):
    (data / "backups" / "dalla-20260101-000000.zip").unlink()
    done: list[str] = []
    waited: list[str] = []

    def make(keep: int | None) -> None:
        done.append(write_backup(data, keep=keep, progress=lambda d, t, message: waited.append(message))["file"])

    with backup._writing:
        threads = [threading.Thread(target=make, args=(keep,)) for keep in (None, 7)]
        for thread in threads:
            thread.start()
        while waited.count("Waiting for another backup") < 2:
            pass
        assert not list((data / "backups").iterdir())
    for thread in threads:
        thread.join(30)
    assert len(done) == 2 and {path.name for path in backups(data, by_hand=True)} == set(done)


def test_a_disk_that_is_too_small_is_told_before_anything_is_written(data, monkeypatch):
    monkeypatch.setattr(backup.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 1000})())
    with pytest.raises(StorageError, match="no space left") as told:
        write_backup(data, keep=None)
    assert told.value.remedy and not [p for p in (data / "backups").iterdir() if "hand" in p.name]


# ---------------------------------------------------------------- the lock of the keys


def test_only_the_passphrase_opens_what_was_sealed():
    sealed = seal({"a": "one", "b": "zwö"}, "seven green boats")
    assert unseal(sealed, "seven green boats") == {"a": "one", "b": "zwö"} and b"one" not in sealed
    assert seal({"a": "one"}, "seven green boats") != seal({"a": "one"}, "seven green boats")
    with pytest.raises(InvalidInput) as wrong:
        unseal(sealed, "seven green boat")
    assert wrong.value.errors[0]["field"] == "passphrase"


@pytest.mark.parametrize(
    "change",
    [
        {"n": 2**30},
        {"n": 3},
        {"r": 0},
        {"p": 1000},
        {"salt": "?"},
        {"format": 2},
        {"kdf": "none"},
        {"token": 5},
        {"n": "x"},
    ],
)
def test_an_envelope_that_is_none_or_asks_for_too_much_is_refused(change):
    envelope = {**orjson.loads(seal({"a": "one"}, "seven green boats")), **change}
    with pytest.raises(InvalidInput):
        unseal(orjson.dumps(envelope), "seven green boats")
    for data in (b"", b"[]", b"{}", b"null"):
        with pytest.raises(InvalidInput):
            unseal(data, "seven green boats")


def test_a_passphrase_is_handed_over_once():
    held = Passphrases()
    ticket = held.hold("seven green boats")
    assert "seven" not in ticket and held.take(ticket) == "seven green boats" and held.take(held.hold(None)) is None
    with pytest.raises(Conflict):
        held.take(ticket)
