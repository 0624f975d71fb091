"""Small sets of records, bytes, secrets, and first answers by key."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

from dalla.records.base import Record

R = TypeVar("R", bound=Record)


@dataclass(frozen=True)
class DocumentsStatus:
    """Health of one document file. `ok=False`: it does not parse; the last good version is served read-only."""

    ok: bool
    path: str
    count: int
    detail: str = ""
    skipped: list[str] = field(default_factory=list)  # records that do not fit their schema, kept untouched


class DocumentStore(Protocol[R]):
    """A small ordered set of records that the user may also edit by hand (characters, tasks, prompts)."""

    def all(self) -> tuple[R, ...]:
        """Return every record in file order. Costs microseconds while nothing changed."""

    def get(self, id: str) -> R:
        """Raises NotFound."""

    def insert(self, record: R) -> R:
        """Append durably. Raises Conflict when the id is taken, StorageError."""

    def update(self, id: str, change: Callable[[R], R]) -> R:
        """Read, change and write one record as one atomic step across threads and processes.

        `change` gets the newest version and returns the new one (raise in it to leave all as it was).
        Raises NotFound, StorageError.
        """

    def delete(self, id: str) -> R:
        """Remove durably and return what was removed. Raises NotFound, StorageError."""

    def rewrite(self, change: Callable[[R], R], *, scrub_backup: bool = False) -> int:
        """Apply `change` to every record in one write; return how many changed.

        `scrub_backup` leaves no older version behind (used when a plain key is moved out of the file).
        """

    def revision(self) -> str:
        """Return a text that changes whenever the content may have changed."""

    def status(self) -> DocumentsStatus:
        """Never raises."""


class BlobStore(Protocol):
    """Bytes under keys such as `media/2026/11/media_….png`. Write the file first, the record second."""

    def put(self, key: str, data: bytes, *, durable: bool = True) -> None:
        """Write (temp, fsync, rename); without `durable` no fsync, for what can be made again. Raises StorageError."""

    def get(self, key: str) -> bytes:
        """Raises NotFound."""

    def path(self, key: str) -> Path:
        """Return the absolute path for sending the file. Raises InvalidInput for a key that escapes."""

    def exists(self, key: str) -> bool: ...

    def delete(self, key: str) -> None:
        """Remove it; an absent key is no error."""

    def keys(self, prefix: str) -> Iterable[str]:
        """List keys below a prefix."""


class SecretStore(Protocol):
    """Named secrets, encrypted at rest."""

    def get(self, name: str) -> str | None: ...

    def put(self, name: str, value: str) -> None:
        """Save durably. Raises StorageError."""

    def delete(self, name: str) -> None:
        """Remove it; an absent name is no error."""

    def names(self) -> list[str]: ...


class IdempotencyStore(Protocol):
    """First answers by `Idempotency-Key`, kept for 24 hours."""

    def begin(self, key: str, fingerprint: str, now: str) -> dict[str, Any] | None:
        """Reserve the key and return None, or return the first answer ({"status", "body", "headers"}).

        Raises Conflict when the key is in use by a request still running, InvalidInput when it was
        used for another request (the fingerprint differs).
        """

    def finish(self, key: str, answer: dict[str, Any]) -> None: ...

    def forget(self, key: str) -> None:
        """Free the key after a failure that did nothing."""

    def forget_unfinished(self) -> int:
        """Free the keys whose request died with its process (at start, when no request can be running)."""

    def purge(self, before: str) -> int: ...
