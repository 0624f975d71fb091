"""Resumable uploads: pieces, offsets, damage, limits, expiry."""

from __future__ import annotations

import hashlib
import io
import os
import threading
import time
from pathlib import Path

import pytest

from dalla.errors import Conflict, InvalidInput, NotFound, StorageError, TooLarge
from dalla.services import uploads as module
from dalla.services.uploads import Uploads
from tests.conftest import make_settings


@pytest.fixture
def uploads(tmp_path: Path) -> Uploads:
    return Uploads(make_settings(tmp_path))


def piece(data: bytes):
    return io.BytesIO(data).read


def test_a_file_in_pieces(uploads: Uploads) -> None:
    data = os.urandom(3000)
    upload = uploads.create("10_luna\\a.png", len(data), hashlib.sha256(data).hexdigest().upper())
    assert (upload.name, upload.offset, upload.complete) == ("10_luna/a.png", 0, False)
    assert uploads.append(upload.id, 0, piece(data[:1000])).offset == 1000
    with pytest.raises(Conflict, match="not arrived whole"):
        uploads.files([upload.id])
    again = Uploads(make_settings(Path(uploads._root).parents[1]))  # the app was started anew meanwhile
    assert again.get(upload.id).offset == 1000
    done = again.append(upload.id, 1000, piece(data[1000:]))
    assert done.complete and done.offset == 3000
    [(name, path)] = again.files([upload.id])
    assert name == "10_luna/a.png" and path.read_bytes() == data
    assert again.append(upload.id, 3000, piece(b"")).complete  # a repeated last request is no error


def test_a_wrong_offset_tells_the_right_one(uploads: Uploads) -> None:
    upload = uploads.create("a.zip", 100)
    uploads.append(upload.id, 0, piece(b"x" * 40))
    for offset in (0, 39, 41, 100):
        with pytest.raises(Conflict) as told:
            uploads.append(upload.id, offset, piece(b"y"))
        assert told.value.extra["offset"] == 40
    assert uploads.get(upload.id).offset == 40


def test_a_broken_connection_keeps_what_came(uploads: Uploads) -> None:
    upload = uploads.create("a.zip", 100)
    parts = iter([b"x" * 30, b"y" * 20])

    def read(size: int) -> bytes:
        try:
            return next(parts)
        except StopIteration:
            raise ConnectionResetError("gone") from None

    with pytest.raises(StorageError):
        uploads.append(upload.id, 0, read)
    assert uploads.get(upload.id).offset == 50
    assert uploads.append(upload.id, 50, piece(b"z" * 50)).complete


def test_a_damaged_file_begins_anew(uploads: Uploads) -> None:
    upload = uploads.create("a.zip", 4, hashlib.sha256(b"good").hexdigest())
    with pytest.raises(InvalidInput, match="damaged"):
        uploads.append(upload.id, 0, piece(b"evil"))
    assert uploads.get(upload.id).offset == 0
    assert uploads.append(upload.id, 0, piece(b"good")).complete


def test_more_than_announced_is_refused(uploads: Uploads) -> None:
    upload = uploads.create("a.zip", 10)
    with pytest.raises(TooLarge):
        uploads.append(upload.id, 0, piece(b"x" * 11))
    assert not uploads.get(upload.id).complete


def test_an_empty_file_is_complete_at_once(uploads: Uploads) -> None:
    upload = uploads.create("a.txt", 0)
    assert upload.complete and uploads.files([upload.id])[0][1].read_bytes() == b""


@pytest.mark.parametrize("name", ["../a.zip", "/etc/passwd", "C:\\a.zip", "a/../../b", "nul", "x" * 300, "a\nb"])
def test_names_that_lead_elsewhere(uploads: Uploads, name: str) -> None:
    with pytest.raises(InvalidInput):
        uploads.create(name, 1)
    assert not list(uploads._root.glob("*")) if uploads._root.exists() else True


def test_sizes_and_hashes_are_checked(uploads: Uploads, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidInput):
        uploads.create("a", -1)
    with pytest.raises(TooLarge):
        uploads.create("a", module.MAX_BYTES + 1)
    with pytest.raises(InvalidInput):
        uploads.create("a", 1, "abc")
    monkeypatch.setattr(module.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 10**9})())
    with pytest.raises(StorageError, match="free on the disk"):
        uploads.create("a", 10**9)
    monkeypatch.undo()
    monkeypatch.setattr(module, "MAX_OPEN", 1)
    uploads.create("a", 1)
    with pytest.raises(Conflict):
        uploads.create("b", 1)


@pytest.mark.parametrize("id", ["upload_1_aaaaaaaaa", "..", "../../etc", "upload_1_aaaaaaaaa/../x", "", "done_1"])
def test_unknown_ids(uploads: Uploads, id: str) -> None:
    for ask in (
        uploads.get,
        uploads.delete,
        lambda id: uploads.files([id]),
        lambda id: uploads.append(id, 0, piece(b"")),
    ):
        with pytest.raises(NotFound):
            ask(id)


def test_two_requests_at_once(uploads: Uploads) -> None:
    upload = uploads.create("a.zip", 10)
    inside, go_on = threading.Event(), threading.Event()
    parts = iter([b"x" * 5, b""])

    def slow(size: int) -> bytes:
        inside.set()
        go_on.wait(10)
        return next(parts)

    thread = threading.Thread(target=uploads.append, args=(upload.id, 0, slow))
    thread.start()
    assert inside.wait(10)
    with pytest.raises(Conflict, match="Another request"):
        uploads.append(upload.id, 0, piece(b"y" * 10))
    go_on.set()
    thread.join()
    assert uploads.get(upload.id).offset == 5


def test_a_full_disk(uploads: Uploads, monkeypatch: pytest.MonkeyPatch) -> None:
    upload = uploads.create("a.zip", 10)

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(module.os, "fsync", full)
        with pytest.raises(StorageError, match="no space left"):
            uploads.append(upload.id, 0, piece(b"x" * 5))
    offset = uploads.get(upload.id).offset
    assert uploads.append(upload.id, offset, piece(b"x" * (10 - offset))).complete


def test_whole_files_of_a_form(uploads: Uploads) -> None:
    ids, failed = uploads.keep_all([("a.png", piece(b"one")), ("../b.png", piece(b"two")), ("c.png", piece(b""))])
    assert [path.read_bytes() for _, path in uploads.files(ids)] == [b"one", b""]
    assert [(row["name"], row["code"]) for row in failed] == [("../b.png", "invalid_input")]
    with pytest.raises(InvalidInput, match="incomplete"):
        uploads.keep("d.png", piece(b"123"), 5)
    assert len(list(uploads._root.glob("upload_*.json"))) == 2


def test_old_uploads_go(uploads: Uploads) -> None:
    old, fresh, used = (uploads.create(name, 10).id for name in ("old", "fresh", "used"))
    uploads.keep_outcome("job_1_aaaaaaaaa", {"added": 3})
    past = time.time() - 3 * 86400
    for file in uploads._root.iterdir():
        os.utime(file, (past, past))
    uploads.append(fresh, 0, piece(b"x"))
    uploads.touch([used, "../nothing"])
    assert uploads.outcome("job_1_aaaaaaaaa") == {"added": 3}
    assert uploads.expire() == 1
    with pytest.raises(NotFound):
        uploads.get(old)
    assert uploads.get(fresh).offset == 1 and uploads.get(used).offset == 0
    assert uploads.outcome("job_1_aaaaaaaaa") is None
    assert uploads.expires_at(uploads.get(fresh)) > "2026"
    uploads.delete(fresh)
    uploads.discard([used, "unknown"])
    assert not list(uploads._root.glob("*"))
