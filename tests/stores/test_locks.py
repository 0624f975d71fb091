"""The lock that keeps other processes off a file while it is written."""

from __future__ import annotations

import pytest

from dalla.errors import StorageError
from dalla.stores import locks
from dalla.stores.locks import SharedLock


def test_the_lock_is_waited_for_and_then_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "WAIT_SECONDS", 0.05)
    first, second = SharedLock(tmp_path / ".x.lock", "the file"), SharedLock(tmp_path / ".x.lock", "the file")
    with first.hold(), pytest.raises(StorageError, match="kept the file locked"), second.hold():
        pass
    with second.hold():
        pass


def test_an_error_inside_frees_the_lock(tmp_path):
    lock = SharedLock(tmp_path / "deep" / ".x.lock", "the file")
    with pytest.raises(RuntimeError), lock.hold():
        raise RuntimeError("inside")
    with lock.hold():
        pass


def test_it_is_the_same_lock_as_filelocks(tmp_path):
    from filelock import FileLock, Timeout

    with SharedLock(tmp_path / ".x.lock", "the file").hold(), pytest.raises(Timeout):
        FileLock(tmp_path / ".x.lock", timeout=0).acquire()
