"""Large files that arrive in pieces and may be interrupted: `data/uploads/`.

An upload has an id, a size that is known from the start and an offset: how many bytes are safely here. A piece is
taken only at that offset, so a client that lost its connection asks for the offset and goes on. A restart of the app
changes nothing: the offset is the length of the file.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import re
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson

from dalla.archives import clean_path, printable
from dalla.errors import Conflict, InvalidInput, NotFound, StorageError, TooLarge
from dalla.ids import check_id, new_id
from dalla.paths import write_atomic
from dalla.records.base import Record
from dalla.settings import Settings
from dalla.times import ago_iso, iso, now_iso, parse

logger = logging.getLogger(__name__)

MAX_BYTES = 100 * 1000**3  # of one upload
MAX_OPEN = 50_000  # uploads at once
KEEP_HOURS = 48  # after the last piece, or after the import that used it failed
PIECE = 1 << 20
#: What a client should send in one request.
CHUNK = 8 * 1024 * 1024
#: Left free on the disk, whatever is uploaded.
RESERVE = 256 * 1024 * 1024
_SHA = re.compile(r"[0-9a-f]{64}\Z")
_ID = re.compile(r"upload_[0-9]{1,20}_[a-z0-9]{9}\Z")


class Upload(Record):
    """One upload. `name` may hold folders (`10_luna/a.png`); `offset` of `size` bytes are here."""

    id: str
    name: str
    size: int
    sha256: str | None = None
    offset: int = 0
    complete: bool = False
    created_at: str = ""

    def public(self) -> dict[str, Any]:
        """Return it as the API answers it."""
        return {**self.to_json(), "chunkSize": CHUNK}


class Uploads:
    """All uploads of this installation."""

    def __init__(self, settings: Settings) -> None:
        self._root = Path(settings.data_dir) / "uploads"
        self._locks: dict[str, threading.Lock] = {}
        self._guard = threading.Lock()

    # ------------------------------------------------------------ for clients

    def create(self, name: str, size: int, sha256: str | None = None) -> Upload:
        """Begin an upload. Raises InvalidInput (name, size, hash), TooLarge, StorageError (no room)."""
        clean, sin = clean_path(name)
        if sin or not clean:
            raise InvalidInput.field("name", "Give the file's name, or its path below the folder that is sent.")
        if size < 0:
            raise InvalidInput.field("size", "A file has 0 bytes or more.")
        if size > MAX_BYTES:
            raise TooLarge(
                f"'{printable(clean)}' has {size / 1e9:.1f} GB; one upload may have {MAX_BYTES / 1e9:.0f} GB."
            )
        if sha256 is not None:
            sha256 = sha256.lower()
            if not _SHA.match(sha256):
                raise InvalidInput.field("sha256", "A SHA-256 has 64 digits 0-9 a-f.")
        upload = Upload(id=new_id("upload"), name=clean, size=size, sha256=sha256, created_at=now_iso())
        try:
            self._root.mkdir(parents=True, exist_ok=True)
            self._check_room(size)
            if sum(1 for _ in self._root.glob("upload_*.json")) >= MAX_OPEN:
                raise Conflict(
                    f"There are {MAX_OPEN:,} uploads already that nothing was made of.", remedy="Import or delete them."
                )
            write_atomic(self._file(upload.id, "json"), orjson.dumps(upload.to_json()), durable=False)
            self._file(upload.id, "part").touch()
        except OSError as exc:
            raise StorageError.from_os(exc, "the upload") from exc
        return self._settle(upload) if size == 0 else upload

    def get(self, id: str) -> Upload:
        """Return an upload as it is now. Raises NotFound."""
        if not _ID.match(id):
            raise NotFound.of("upload", id)
        try:
            meta = Upload.model_validate(orjson.loads(self._file(id, "json").read_bytes()))
        except (OSError, ValueError) as exc:
            raise NotFound.of("upload", id) from exc
        with contextlib.suppress(OSError):
            return meta.with_(offset=self._file(id, "bin").stat().st_size, complete=True)
        try:
            return meta.with_(offset=self._file(id, "part").stat().st_size)
        except OSError as exc:
            raise NotFound.of("upload", id) from exc

    def append(self, id: str, offset: int, read: Callable[[int], bytes]) -> Upload:
        """Add bytes at `offset`, read by `read(size)` until it returns none; return the upload with its new offset.

        What arrived before a connection broke stays. Raises NotFound; Conflict when another request is sending, or
        when `offset` is not where the upload is (the answer tells `offset`); TooLarge beyond the size that was
        announced; InvalidInput when the finished file is not the one whose hash was announced (it then begins anew).
        """
        with self._lock_of(id) as mine:
            if not mine:
                raise Conflict(
                    "Another request is sending this upload.", remedy="Wait for it, then ask for the offset."
                )
            upload = self.get(id)
            if upload.complete and offset == upload.size:
                return upload
            if offset != upload.offset or upload.complete:
                raise Conflict(
                    f"The upload stands at byte {upload.offset}, not {offset}.",
                    remedy="Go on from there.",
                    extra={"offset": upload.offset, "complete": upload.complete},
                )
            try:
                self._write(upload, read)
            except OSError as exc:
                raise StorageError.from_os(exc, f"the upload '{upload.name}'") from exc
            upload = self.get(id)
            return self._settle(upload) if upload.offset >= upload.size else upload

    def delete(self, id: str) -> None:
        """Forget an upload and its bytes. Raises NotFound."""
        self.get(id)
        self.discard([id])

    # ------------------------------------------------------------ for imports

    def keep(self, name: str, read: Callable[[int], bytes], size: int | None = None) -> Upload:
        """Take a whole file at once (from a form). Raises like `create` and `append`."""
        upload = self.create(name, 0 if size is None else size)
        if size is None:  # the length is only known at the end
            with contextlib.suppress(OSError):
                os.replace(self._file(upload.id, "bin"), self._file(upload.id, "part"))
            upload = upload.with_(size=MAX_BYTES, complete=False)
        try:
            self._write(upload, read)
            length = self._file(upload.id, "part").stat().st_size
            if size is not None and length != size:
                raise InvalidInput(
                    f"'{upload.name}' arrived incomplete: {length} of {size} bytes.", remedy="Send it again."
                )
            upload = upload.with_(size=length, offset=length)
            write_atomic(self._file(upload.id, "json"), orjson.dumps(upload.to_json()), durable=False)
            return self._settle(upload)
        except OSError as exc:
            self.discard([upload.id])
            raise StorageError.from_os(exc, f"the upload '{upload.name}'") from exc
        except BaseException:
            self.discard([upload.id])
            raise

    def keep_all(self, files: list[tuple[str, Callable[[int], bytes]]]) -> tuple[list[str], list[dict[str, str]]]:
        """Take the files of a form; return (ids, [{name, code, detail}] of those that were refused by themselves).

        Raises StorageError, Conflict (too many uploads); then none is kept.
        """
        ids: list[str] = []
        failed: list[dict[str, str]] = []
        try:
            for name, read in files:
                try:
                    ids.append(self.keep(name, read).id)
                except (InvalidInput, TooLarge) as exc:
                    failed.append({"name": printable(name), "code": exc.code, "detail": exc.detail})
        except BaseException:
            self.discard(ids)
            raise
        return ids, failed

    def files(self, ids: list[str]) -> list[tuple[str, Path]]:
        """Return (name, path) of complete uploads. Raises NotFound, Conflict (one is not complete)."""
        found = []
        for id in ids:
            upload = self.get(id)
            if not upload.complete:
                raise Conflict(
                    f"'{upload.name}' has not arrived whole: {upload.offset} of {upload.size} bytes.",
                    remedy="Finish the upload first.",
                )
            found.append((upload.name, self._file(id, "bin")))
        return found

    def touch(self, ids: list[str]) -> None:
        """Keep uploads for another KEEP_HOURS: something is being made of them."""
        for id in ids:
            if _ID.match(id):
                with contextlib.suppress(OSError):
                    os.utime(self._file(id, "json"))

    def discard(self, ids: list[str]) -> None:
        """Remove uploads that are no longer needed; unknown ones are no error."""
        for id in ids:
            if _ID.match(id):
                for ending in ("part", "bin", "json"):
                    with contextlib.suppress(OSError):
                        self._file(id, ending).unlink(missing_ok=True)
                with self._guard:
                    self._locks.pop(id, None)

    def keep_outcome(self, task_id: str, result: dict[str, Any]) -> None:
        """Remember what a task made of uploads before they are discarded, in case it is run once more."""
        with contextlib.suppress(OSError):  # then a stop in just this moment ends the task as failed
            write_atomic(self._root / f"done_{check_id(task_id)}.json", orjson.dumps(result), durable=False)

    def outcome(self, task_id: str) -> dict[str, Any] | None:
        """Return what `keep_outcome` remembered, or None."""
        try:
            found: dict[str, Any] = orjson.loads((self._root / f"done_{check_id(task_id)}.json").read_bytes())
            return found
        except (OSError, ValueError):
            return None

    def expire(self, hours: float = KEEP_HOURS) -> int:
        """Remove uploads nobody touched for so long; return how many."""
        limit = parse(ago_iso(hours * 3600)).timestamp()
        found: set[str] = set()
        with contextlib.suppress(OSError):
            for file in self._root.iterdir():
                if file.name.startswith("done_") and file.stat().st_mtime < limit:
                    file.unlink(missing_ok=True)
                elif _ID.match(id := file.name.partition(".")[0]):
                    found.add(id)
        old = [id for id in found if 0 < self._touched(id) < limit]
        self.discard(old)
        return len(old)

    def expires_at(self, upload: Upload) -> str:
        """Return when the upload is removed unless another piece arrives."""
        from datetime import UTC, datetime, timedelta

        return iso(datetime.fromtimestamp(self._touched(upload.id), UTC) + timedelta(hours=KEEP_HOURS))

    # ------------------------------------------------------------ inside

    def _file(self, id: str, ending: str) -> Path:
        return self._root / f"{id}.{ending}"

    def _touched(self, id: str) -> float:
        """When the upload last changed, in seconds since 1970; 0 when nothing of it is there."""
        newest = 0.0
        for ending in ("json", "part", "bin"):
            with contextlib.suppress(OSError):
                newest = max(newest, self._file(id, ending).stat().st_mtime)
        return newest

    @contextlib.contextmanager
    def _lock_of(self, id: str) -> Any:
        with self._guard:
            lock = self._locks.setdefault(id, threading.Lock())
        mine = lock.acquire(blocking=False)
        try:
            yield mine
        finally:
            if mine:
                lock.release()

    def _write(self, upload: Upload, read: Callable[[int], bytes]) -> None:
        """Append to the part file. What was written before an error stays and counts. Raises OSError, TooLarge."""
        done = self._file(upload.id, "part").stat().st_size
        with self._file(upload.id, "part").open("ab") as file:
            try:
                while piece := read(PIECE):
                    if done + len(piece) > upload.size:
                        raise TooLarge(
                            f"More bytes came than the {upload.size} that were announced for '{upload.name}'.",
                            remedy="Begin the upload again with the right size.",
                        )
                    file.write(piece)
                    done += len(piece)
            finally:
                file.flush()
                os.fsync(file.fileno())

    def _settle(self, upload: Upload) -> Upload:
        """All bytes are here: compare the hash, then give the file its final name."""
        part = self._file(upload.id, "part")
        try:
            if upload.sha256 is not None:
                digest = hashlib.sha256()
                with part.open("rb") as file:
                    while piece := file.read(PIECE):
                        digest.update(piece)
                if digest.hexdigest() != upload.sha256:
                    os.truncate(part, 0)
                    raise InvalidInput(
                        f"'{upload.name}' arrived damaged: its hash is not the announced one.",
                        remedy="Send it again from the start.",
                        extra={"offset": 0},
                    )
            os.replace(part, self._file(upload.id, "bin"))
        except OSError as exc:
            raise StorageError.from_os(exc, f"the upload '{upload.name}'") from exc
        return self.get(upload.id)

    def _check_room(self, size: int) -> None:
        free = shutil.disk_usage(self._root).free
        if size + RESERVE > free:
            raise StorageError(
                f"The upload has {size / 1e9:.2f} GB, and only {free / 1e9:.2f} GB are free on the disk.",
                remedy="Free some space (Monitoring shows which folder is full) and try again.",
            )
