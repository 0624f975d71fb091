"""Bytes under keys. The contract part runs on every BlobStore."""

from __future__ import annotations

import os

import pytest

from dalla.errors import InvalidInput, NotFound, StorageError
from dalla.stores.blobs import FileBlobs


@pytest.fixture(params=["files"])
def blobs(request, tmp_path):
    return FileBlobs(tmp_path / "data")


def test_bytes_come_back(blobs):
    blobs.put("media/2026/11/media_1.png", b"\x89PNG")
    assert blobs.get("media/2026/11/media_1.png") == b"\x89PNG"
    assert blobs.path("media/2026/11/media_1.png").read_bytes() == b"\x89PNG"
    blobs.put("media/2026/11/media_1.png", b"")
    assert blobs.get("media/2026/11/media_1.png") == b""


def test_absent_keys(blobs):
    blobs.put("media/a.png", b"a")
    assert blobs.exists("media/a.png")
    for key in ("media/b.png", "media", "media/a.png/inside.png"):
        assert not blobs.exists(key)
        with pytest.raises(NotFound):
            blobs.get(key)
        blobs.delete(key)
    blobs.delete("media/a.png")
    blobs.delete("media/a.png")
    assert not blobs.exists("media/a.png")


def test_keys_below_a_prefix(blobs):
    names = ["media/2026/11/b.png", "media/2026/11/a.png", "media/2027/c.png", "mediaX/d.png", "top.bin"]
    for name in names:
        blobs.put(name, b"x")
    assert list(blobs.keys("media/")) == ["media/2026/11/a.png", "media/2026/11/b.png", "media/2027/c.png"]
    assert list(blobs.keys("media/2026")) == ["media/2026/11/a.png", "media/2026/11/b.png"]
    assert list(blobs.keys("media/2026/11/a")) == ["media/2026/11/a.png"]
    assert sorted(blobs.keys("")) == sorted(names)
    assert list(blobs.keys("none/")) == []


BAD = [
    "",
    "/etc/passwd",
    "../x",
    "media/../../x",
    "a//b",
    "a/",
    ".hidden",
    "a/.b.tmp",
    "a\\b",
    "a\0b",
    "C:/x",
    "a\n",
    "x" * 501,
]


@pytest.mark.parametrize("key", BAD)
def test_keys_that_escape_or_hide_are_refused(blobs, key):
    for call in (blobs.path, blobs.get, blobs.exists, blobs.delete, lambda k: blobs.put(k, b"x")):
        with pytest.raises(InvalidInput):
            call(key)


def test_a_link_out_of_the_folder_is_refused(blobs, tmp_path):
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "x.png").write_bytes(b"secret")
    blobs.put("media/a.png", b"a")
    os.symlink(tmp_path / "outside", blobs.root / "media" / "link")
    with pytest.raises(InvalidInput):
        blobs.get("media/link/x.png")
    assert list(blobs.keys("")) == ["media/a.png"]


def test_half_written_files_are_not_listed(blobs):
    blobs.put("media/a.png", b"a")
    (blobs.root / "media" / ".a.png.123456.tmp").write_bytes(b"half")
    assert list(blobs.keys("media/")) == ["media/a.png"]
    assert blobs.clean() == 0  # somebody may be writing it
    assert blobs.clean(older_than_seconds=-1) == 1
    assert [p.name for p in (blobs.root / "media").iterdir()] == ["a.png"]


def test_a_folder_in_the_way_is_a_storage_error(blobs):
    blobs.put("media/a.png/b.png", b"x")
    with pytest.raises(StorageError):
        blobs.put("media/a.png", b"x")
    blobs.put("media/c", b"x")
    with pytest.raises(StorageError):
        blobs.put("media/c/d", b"x")
    assert sorted(blobs.keys("")) == ["media/a.png/b.png", "media/c"]
