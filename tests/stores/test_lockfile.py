"""One app per data folder."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dalla.errors import Conflict, StorageError
from dalla.stores.lockfile import DataFolderLock

ROOT = Path(__file__).parents[2]
CHILD = """
import sys
from pathlib import Path
from dalla.stores.lockfile import DataFolderLock
lock = DataFolderLock(Path(sys.argv[1]))
lock.acquire("http://127.0.0.1:5051")
print("held", flush=True)
sys.stdin.readline()
lock.release()
"""


@pytest.fixture
def child(tmp_path):
    """Run another app that holds tmp_path/data."""
    with subprocess.Popen(
        [sys.executable, "-c", CHILD, str(tmp_path / "data")],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_second_app_is_told_who_is_there(tmp_path, child):
    lock = DataFolderLock(tmp_path / "data")
    with pytest.raises(Conflict) as caught:
        lock.acquire("http://127.0.0.1:5052")
    assert str(child.pid) in caught.value.detail
    assert "http://127.0.0.1:5051" in caught.value.detail
    assert "DALLA_DATA_DIR" in caught.value.remedy
    assert lock.holder() == {"pid": child.pid, "address": "http://127.0.0.1:5051"}
    lock.release()
    with pytest.raises(Conflict):
        lock.acquire("again")


def test_the_folder_is_free_when_the_first_app_ends(tmp_path, child):
    child.communicate("bye\n", timeout=30)
    lock = DataFolderLock(tmp_path / "data")
    assert lock.holder() is None
    lock.acquire("x")
    lock.release()


def test_kill_minus_nine_leaves_no_lock(tmp_path, child):
    child.kill()
    child.wait(30)
    lock = DataFolderLock(tmp_path / "data")
    lock.acquire("http://127.0.0.1:5053")
    assert lock.holder() == {"pid": os.getpid(), "address": "http://127.0.0.1:5053"}
    lock.release()
    assert lock.holder() is None


def test_within_one_process_too(tmp_path):
    first, second = DataFolderLock(tmp_path), DataFolderLock(tmp_path)
    first.acquire("x")
    with pytest.raises(Conflict):
        second.acquire("y")
    first.release()
    second.acquire("y")
    second.release()


def test_a_broken_note_is_no_obstacle(tmp_path):
    first, second = DataFolderLock(tmp_path), DataFolderLock(tmp_path)
    first.acquire("x")
    (tmp_path / ".app.json").write_text("{")
    with pytest.raises(Conflict, match="already runs"):
        second.acquire("y")
    first.release()


def test_a_folder_that_cannot_be_used(tmp_path):
    (tmp_path / "data").write_text("a file in the way")
    with pytest.raises(StorageError):
        DataFolderLock(tmp_path / "data").acquire("x")
