"""What a batch has done, one line per picture, so that a killed program never does a picture twice.

`data/batches/<batchId>/` holds `plan.json` (what was asked for), `journal.jsonl` (what came of it) and, below
`before/`, the files that were replaced. A line is whole or it does not count.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from dalla.errors import DallaError, NotFound, StorageError
from dalla.ids import check_id
from dalla.paths import write_atomic

#: A crash of the program loses nothing; one of the computer at most what these seconds brought.
SYNC_SECONDS = 1.0
PLAN, JOURNAL, UNDONE = "plan.json", "journal.jsonl", "undone.json"


class Journal:
    """The folder of one batch. `add` may be called from several threads."""

    def __init__(self, root: Path, batch_id: str) -> None:
        self.folder = Path(root) / check_id(batch_id, "batchId")
        self._lock = threading.Lock()
        self._file: BinaryIO | None = None
        self._synced = 0.0

    # ------------------------------------------------------------ the plan

    def create(self, plan: dict[str, Any]) -> None:
        """Write down what is to be done. Raises StorageError."""
        self._write(PLAN, plan)

    def plan(self) -> dict[str, Any]:
        """Raises NotFound when the batch is unknown or was cleared away."""
        try:
            plan: dict[str, Any] = orjson.loads((self.folder / PLAN).read_bytes())
            return plan
        except FileNotFoundError:
            raise NotFound(
                f"The notes of the batch '{self.folder.name}' are gone.",
                remedy="They are kept for as long as the trash. Start the batch again.",
            ) from None
        except (OSError, orjson.JSONDecodeError) as exc:
            raise StorageError(f"The notes of the batch '{self.folder.name}' cannot be read: {exc}.") from exc

    # ------------------------------------------------------------ lines

    def entries(self) -> dict[str, dict[str, Any]]:
        """The newest line of every picture, in the order they were first done."""
        found: dict[str, dict[str, Any]] = {}
        for line in self._lines():
            found[line["id"]] = line
        return found

    def add(self, entry: dict[str, Any]) -> None:
        """Append a line ({"id", "status", …}). Raises StorageError."""
        line = orjson.dumps(entry) + b"\n"
        with self._lock:
            try:
                if self._file is None:
                    self._file = self._open()
                self._file.write(line)
                if time.monotonic() - self._synced >= SYNC_SECONDS:
                    os.fsync(self._file.fileno())
                    self._synced = time.monotonic()
            except OSError as exc:
                raise StorageError.from_os(exc, "what the batch has done") from exc

    def close(self) -> None:
        """Make every line durable."""
        with self._lock:
            if self._file is None:
                return
            with contextlib.suppress(OSError):
                os.fsync(self._file.fileno())
            self._file.close()
            self._file = None

    # ------------------------------------------------------------ undo

    @property
    def undone(self) -> dict[str, Any] | None:
        """What taking it back brought; None while it stands."""
        try:
            result: dict[str, Any] = orjson.loads((self.folder / UNDONE).read_bytes())
            return result
        except (OSError, orjson.JSONDecodeError):
            return None

    def mark_undone(self, result: dict[str, Any]) -> None:
        """Remember that it was taken back. Raises StorageError."""
        self._write(UNDONE, result)

    def keep_file(self, name: str, data: bytes) -> None:
        """Keep the bytes of a file that is about to be replaced; what is kept already stays."""
        folder = self.folder / "before"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if not (folder / name).exists():
                write_atomic(folder / name, data)
        except OSError as exc:
            raise StorageError.from_os(exc, "a copy of what is replaced") from exc

    def kept_file(self, name: str) -> bytes | None:
        """The bytes kept under that name, or None."""
        try:
            return (self.folder / "before" / name).read_bytes()
        except OSError:
            return None

    def kept_names(self, ending: str) -> set[str]:
        """The names of kept files with that ending, without it."""
        return {path.name.removesuffix(ending) for path in (self.folder / "before").glob(f"*{ending}")}

    # ------------------------------------------------------------ inside

    def _write(self, name: str, content: dict[str, Any]) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_atomic(self.folder / name, orjson.dumps(content))
        except OSError as exc:
            raise StorageError.from_os(exc, "the plan of the batch") from exc

    def _lines(self) -> Iterator[dict[str, Any]]:
        try:
            data = (self.folder / JOURNAL).read_bytes()
        except FileNotFoundError:
            return
        except OSError as exc:
            raise StorageError(f"The journal of '{self.folder.name}' cannot be read: {exc}.") from exc
        for line in data.split(b"\n")[:-1]:  # what follows the last newline was cut off by a crash
            with contextlib.suppress(orjson.JSONDecodeError):
                entry = orjson.loads(line)
                if isinstance(entry, dict) and isinstance(entry.get("id"), str):
                    yield entry

    def _open(self) -> BinaryIO:
        """Open for appending, after cutting off a line that a crash left unfinished."""
        path = self.folder / JOURNAL
        with contextlib.suppress(FileNotFoundError):
            whole = path.read_bytes().rfind(b"\n") + 1
            if whole < path.stat().st_size:
                os.truncate(path, whole)
        return open(path, "ab", buffering=0)


def clear(root: Path, days: float) -> int:
    """Remove the notes of batches whose newest file is older than `days`; return how many."""
    limit, count = time.time() - days * 86_400, 0
    with contextlib.suppress(FileNotFoundError):
        for folder in Path(root).iterdir():
            with contextlib.suppress(OSError, DallaError):
                if folder.is_dir() and max(file.stat().st_mtime for file in [folder, *folder.iterdir()]) < limit:
                    shutil.rmtree(folder)
                    count += 1
    return count
