"""Records in one hand-editable JSON file: `data/characters.json`, `scheduler.json`, `prompts.json`.

The file is a plain array and belongs to the user, who may edit it while the app runs. What is not
changed through this store keeps its exact text, including keys and records we do not understand.
Not for large lists: each write writes the whole file (pictures live in `media.py`).
"""

from __future__ import annotations

import contextlib
import os
import stat
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, TypeVar

import orjson
from pydantic import ValidationError

from dalla.errors import Conflict, InvalidInput, NotFound, StorageError
from dalla.ids import check_id, is_id
from dalla.paths import fsync_folder, write_atomic
from dalla.records.base import Record
from dalla.stores import json_text
from dalla.stores.base import DocumentsStatus
from dalla.stores.locks import SharedLock

R = TypeVar("R", bound=Record)
Stamp = tuple[int, int, int]  # inode, mtime in ns, size: what tells that the file is still the one we read
_UNREADABLE: Stamp = (-1, -1, -1)  # like no file's, so that each read tries again: permissions change no stamp


@dataclass(frozen=True)
class _Snapshot(Generic[R]):
    """The content of the file at one moment; replaced as a whole, so readers need no lock.

    `texts` holds each element of the array as it stands in the file, `slots` the record made of it
    (None: it does not fit). `problem`: the file is broken and the rest is the last good version.
    """

    stamp: Stamp | None
    texts: list[bytes]
    slots: list[R | None]
    records: tuple[R, ...]
    places: dict[str, int]
    skipped: tuple[str, ...] = ()
    problem: str = ""
    lost: bool = False  # broken, and no good version is known


class JsonDocuments(Generic[R]):
    """A DocumentStore in one file. Safe for threads and for several processes."""

    def __init__(self, path: Path, record_type: type[R], kind: str) -> None:
        # Resolved, so that a link into a synchronised folder stays a link when the file is replaced.
        self.path = Path(os.path.realpath(path))
        self.backup = self.path.with_name(f"{self.path.name}.bak")
        self.kind = kind
        self._type = record_type
        self._name = str(self.path)
        self._loading = threading.Lock()
        self._lock = SharedLock(self.path.with_name(f".{self.path.name}.lock"), self.path.name)
        self._now: _Snapshot[R] | None = None
        self._remove_stale_temps()

    # ------------------------------------------------------------------ reading

    def all(self) -> tuple[R, ...]:
        return self._readable().records

    def get(self, id: str) -> R:
        snapshot = self._readable()
        place = snapshot.places.get(id)
        record = None if place is None else snapshot.slots[place]
        if record is None:
            raise NotFound.of(self.kind, id)
        return record

    def revision(self) -> str:
        stamp = self._stamp()
        return "none" if stamp is None else "-".join(f"{part:x}" for part in stamp)

    def status(self) -> DocumentsStatus:
        snapshot = self._fresh()
        return DocumentsStatus(
            ok=not snapshot.problem,
            path=self._name,
            count=len(snapshot.records),
            detail=snapshot.problem,
            skipped=list(snapshot.skipped),
        )

    # ------------------------------------------------------------------ writing

    def insert(self, record: R) -> R:
        with self._lock.hold():
            now = self._writable()
            if _id(record) in now.places:
                raise Conflict(f"There is already a {self.kind} with the id '{_id(record)}'.")
            check_id(_id(record))
            text, stored = self._encode(json_text.dump(record))
            self._save(now, [*now.texts, text], [*now.slots, stored])
            return stored

    def update(self, id: str, change: Callable[[R], R]) -> R:
        with self._lock.hold():
            now = self._writable()
            place = now.places.get(id)
            old = None if place is None else now.slots[place]
            if place is None or old is None:
                raise NotFound.of(self.kind, id)
            changed = self._changed(now.texts[place], old, change)
            if changed is None:
                return old
            text, stored = changed
            texts, slots = now.texts.copy(), now.slots.copy()
            texts[place], slots[place] = text, stored
            self._save(now, texts, slots)
            return stored

    def delete(self, id: str) -> R:
        with self._lock.hold():
            now = self._writable()
            place = now.places.get(id)
            old = None if place is None else now.slots[place]
            if place is None or old is None:
                raise NotFound.of(self.kind, id)
            texts, slots = now.texts.copy(), now.slots.copy()
            del texts[place], slots[place]
            self._save(now, texts, slots)
            return old

    def rewrite(self, change: Callable[[R], R], *, scrub_backup: bool = False) -> int:
        with self._lock.hold():
            now = self._writable()
            texts, slots = now.texts.copy(), now.slots.copy()
            count = 0
            for place, old in enumerate(now.slots):
                changed = None if old is None else self._changed(now.texts[place], old, change)
                if changed is not None:
                    texts[place], slots[place] = changed
                    count += 1
            if count:
                self._save(now, texts, slots, backup=not scrub_backup)
            if scrub_backup:
                self._remove_backup()
            return count

    # ------------------------------------------------------------------ the snapshot

    def _stamp(self) -> Stamp | None:
        try:
            info = os.stat(self._name)
        except OSError:
            return None
        return info.st_ino, info.st_mtime_ns, info.st_size

    def _fresh(self) -> _Snapshot[R]:
        """Return the snapshot of the file as it is now; reads it only when it changed."""
        now = self._now
        if now is not None and now.stamp == self._stamp():
            return now
        with self._loading:
            now = self._now
            if now is None or now.stamp != self._stamp():
                now = self._now = self._load(now)
            return now

    def _readable(self) -> _Snapshot[R]:
        now = self._fresh()
        if now.lost:
            raise self._refusal(now, "and there is no earlier version to show")
        return now

    def _writable(self) -> _Snapshot[R]:
        now = self._fresh()
        if now.problem:
            raise self._refusal(now, "so nothing can be saved to it")
        return now

    def _refusal(self, now: _Snapshot[R], consequence: str) -> StorageError:
        return StorageError(
            f"{now.problem} It is left as it is, {consequence}.",
            remedy=f"Correct {self._name} in a text editor, or copy {self.backup.name} over it; no restart is needed.",
        )

    def _load(self, before: _Snapshot[R] | None) -> _Snapshot[R]:
        try:
            stamp, data = _read(self.path)
        except FileNotFoundError:
            return _Snapshot(None, [], [], (), {})
        except OSError as exc:
            return self._broken(before, _UNREADABLE, f"{self.path.name} cannot be read: {exc.strerror or exc}.")
        try:
            return self._parse(stamp, data)
        except ValueError as exc:
            return self._broken(before, stamp, f"{self.path.name} is not valid JSON: {exc}.")

    def _broken(self, before: _Snapshot[R] | None, stamp: Stamp | None, problem: str) -> _Snapshot[R]:
        """Keep serving the last good version: what is in memory, else the backup."""
        if before is None or before.lost:
            try:
                before = self._parse(*_read(self.backup))
            except (OSError, ValueError):
                return _Snapshot(stamp, [], [], (), {}, problem=problem, lost=True)
        return replace(before, stamp=stamp, problem=problem)

    def _parse(self, stamp: Stamp, data: bytes) -> _Snapshot[R]:
        values, texts = json_text.elements(data)
        slots: list[R | None] = []
        places: dict[str, int] = {}
        skipped: list[str] = []
        for place, value in enumerate(values):
            try:
                record = self._fit(value)
                if _id(record) in places:
                    raise ValueError("the id is already used by a record above it")
            except ValueError as exc:
                slots.append(None)
                skipped.append(f"{self._label(place, value)}: {_reason(exc)}")
                continue
            places[_id(record)] = place
            slots.append(record)
        return _Snapshot(stamp, texts, slots, _present(slots), places, tuple(skipped))

    def _fit(self, value: Any) -> R:
        if not isinstance(value, dict):
            raise ValueError("it is not an object in { }")
        record = self._type.model_validate(value)
        if not is_id(_id(record)):
            raise ValueError("id: use letters, digits, '_' and '-' only")
        return record

    def _label(self, place: int, value: Any) -> str:
        name = value.get("id") if isinstance(value, dict) else None
        return f"{self.kind} number {place + 1}" + (f" ('{name}')" if isinstance(name, str) else "")

    # ------------------------------------------------------------------ one changed record

    def _changed(self, text: bytes, old: R, change: Callable[[R], R]) -> tuple[bytes, R] | None:
        """Apply `change`; return the new text and record, or None when nothing is different."""
        new = change(old)
        if new is old:
            return None
        if _id(new) != _id(old):
            raise InvalidInput.field("id", "The id of a record cannot be changed.")
        before, after = json_text.dump(old), json_text.dump(new)
        if before == after:
            return None
        return self._encode(json_text.merge(json_text.load(text), before, after, self._type))

    def _encode(self, value: dict[str, Any]) -> tuple[bytes, R]:
        """Return the text of a record and the record as it will be read back from it."""
        text = json_text.element(value)
        try:
            return text, self._type.model_validate(orjson.loads(text))
        except ValidationError as exc:
            raise InvalidInput(f"The {self.kind} does not fit its schema: {_reason(exc)}.") from exc

    # ------------------------------------------------------------------ the file

    def _save(self, now: _Snapshot[R], texts: list[bytes], slots: list[R | None], *, backup: bool = True) -> None:
        data = json_text.join(texts)
        same = len(slots) == len(now.slots)
        places = now.places if same else {_id(r): i for i, r in enumerate(slots) if r is not None}
        records = _present(slots)
        with self._loading:  # readers that see the new file wait for the snapshot instead of parsing it
            try:
                mode = 0o644 if now.stamp is None else stat.S_IMODE(os.stat(self._name).st_mode)
                write_atomic(self.path, data, mode=mode, keep=self.backup if backup else None)
                stamp = self._stamp()
                if stamp and now.stamp and stamp[1] <= now.stamp[1]:
                    # Two writes within one tick of the file system's clock must still look different.
                    os.utime(self._name, ns=(now.stamp[1] + 1, now.stamp[1] + 1))
                    stamp = self._stamp()
            except OSError as exc:
                raise StorageError.from_os(exc, f"the {self.kind}") from exc
            self._now = _Snapshot(stamp, texts, slots, records, places, now.skipped)

    def _remove_backup(self) -> None:
        try:
            self.backup.unlink(missing_ok=True)
            fsync_folder(self.path.parent)
        except OSError as exc:
            raise StorageError.from_os(exc, f"the {self.kind}") from exc

    def _remove_stale_temps(self) -> None:
        """Delete what a killed process left; whoever holds the lock knows that nobody is writing."""

        def temps() -> Iterable[Path]:
            return self.path.parent.glob(f".{self.path.name}.*.tmp")

        if not any(temps()):
            return
        with contextlib.suppress(OSError, StorageError), self._lock.hold():
            for temp in temps():
                temp.unlink()


def _id(record: Record) -> str:
    return record.id  # type: ignore[attr-defined, no-any-return]  # every record kept here has one


def _present(slots: list[R | None]) -> tuple[R, ...]:
    return tuple([record for record in slots if record is not None])


def _read(path: Path) -> tuple[Stamp, bytes]:
    with open(path, "rb") as file:
        info = os.fstat(file.fileno())  # before reading: a change during it shows as another stamp
        return (info.st_ino, info.st_mtime_ns, info.st_size), file.read()


def _reason(exc: ValueError) -> str:
    if isinstance(exc, ValidationError):
        return "; ".join(f"{'.'.join(str(p) for p in e['loc'])}: {e['msg'].lower()}" for e in exc.errors())
    return str(exc)
