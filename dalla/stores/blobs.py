"""Bytes in files below the data folder: pictures, videos, archives. Records of them are elsewhere."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from dalla.errors import InvalidInput, NotFound, StorageError
from dalla.paths import fsync_folder, remove_stale_temps, safe_join, write_atomic

# A part never starts with a dot: those are temp and lock files, and `..`. Letters may be of any script; what some
# file system refuses (control characters, \ : * ? " < > |, a dot or space at the end) is in no part.
_PART = r"(?![. ])[^\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\\/:*?\"<>|]+(?<![. ])"
_KEY = re.compile(f"{_PART}(/{_PART})*\\Z")


class FileBlobs:
    """A BlobStore: the key is the path below `root`."""

    def __init__(self, root: Path) -> None:
        self.root = Path(os.path.realpath(root))

    def put(self, key: str, data: bytes, *, durable: bool = True) -> None:
        path = self.path(key)
        try:
            self._make_folder(path.parent)
            write_atomic(path, data, durable=durable)
        except OSError as exc:
            raise StorageError.from_os(exc, f"the file {key}") from exc

    def get(self, key: str) -> bytes:
        try:
            return self.path(key).read_bytes()
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as exc:
            raise NotFound(f"There is no file '{key}'.") from exc
        except OSError as exc:
            raise StorageError(
                f"The file {key} cannot be read: {exc.strerror or exc}.",
                remedy="Check the disk and the file's permissions.",
            ) from exc

    def path(self, key: str) -> Path:
        if len(key) > 500 or not _KEY.match(key):
            raise InvalidInput("This is not a key of a stored file: no leading dots, no '..', no backslashes.")
        return safe_join(self.root, *key.split("/"))

    def exists(self, key: str) -> bool:
        return self.path(key).is_file()

    def delete(self, key: str) -> None:
        try:
            self.path(key).unlink(missing_ok=True)
        except (IsADirectoryError, NotADirectoryError):
            return
        except OSError as exc:
            raise StorageError.from_os(exc, f"the removal of {key}") from exc

    def keys(self, prefix: str) -> Iterator[str]:
        """List keys that start with the prefix, in order; `media/2026` and `media/2026/` both work."""
        folder = prefix.rpartition("/")[0]
        start = self.path(folder) if folder else self.root
        for where, folders, files in os.walk(start):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            for name in sorted(files):
                key = (Path(where) / name).relative_to(self.root).as_posix()
                if key.startswith(prefix) and not name.startswith("."):
                    yield key

    def clean(self, *, older_than_seconds: float = 3600) -> int:
        """Delete what killed processes left half-written; return how many. Walks everything: not for start-up."""
        return sum(
            remove_stale_temps(Path(where), older_than_seconds=older_than_seconds) for where, _, _ in os.walk(self.root)
        )

    def _make_folder(self, folder: Path) -> None:
        """Create missing folders durably, so that the file inside cannot vanish with its folder."""
        if folder.is_dir():
            return
        if folder != self.root:
            self._make_folder(folder.parent)
        folder.mkdir(parents=folder == self.root, exist_ok=True)
        fsync_folder(folder.parent)
