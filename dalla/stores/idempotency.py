"""First answers by `Idempotency-Key`, in the library database."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from sqlalchemy import delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from dalla.errors import Conflict, InvalidInput
from dalla.stores.library import Library
from dalla.stores.schema import idempotency_keys as keys
from dalla.times import iso, parse

KEPT = timedelta(hours=24)


class SqlIdempotency:
    """An IdempotencyStore on a Library."""

    def __init__(self, library: Library) -> None:
        self._library = library

    def begin(self, key: str, fingerprint: str, now: str) -> dict[str, Any] | None:
        if not 1 <= len(key) <= 255:
            raise InvalidInput.field("Idempotency-Key", "Use between 1 and 255 characters.")
        expired = iso(parse(now) - KEPT)
        try:
            with self._library.write() as connection:
                connection.execute(delete(keys).where(keys.c.key == key, keys.c.created_at < expired))
                connection.execute(insert(keys).values(key=key, fingerprint=fingerprint, created_at=now))
            return None
        except IntegrityError:
            pass  # the key is taken; see by whom
        with self._library.read() as connection:
            held = connection.execute(select(keys).where(keys.c.key == key)).one_or_none()
        if held is not None and held.fingerprint != fingerprint:
            raise InvalidInput.field(
                "Idempotency-Key",
                "This key was used for another request.",
                remedy="Send a new key with each new request.",
            )
        if held is None or held.answer is None:
            raise Conflict(
                "The first request with this Idempotency-Key is still running.",
                remedy="Wait for its answer, then ask again.",
                retry_after=1,
            )
        return held.answer  # type: ignore[no-any-return]

    def finish(self, key: str, answer: dict[str, Any]) -> None:
        with self._library.write() as connection:
            connection.execute(update(keys).where(keys.c.key == key).values(answer=answer))

    def forget(self, key: str) -> None:
        with self._library.write() as connection:
            connection.execute(delete(keys).where(keys.c.key == key))

    def forget_unfinished(self) -> int:
        with self._library.write() as connection:
            return connection.execute(delete(keys).where(keys.c.answer.is_(None))).rowcount

    def purge(self, before: str) -> int:
        with self._library.write() as connection:
            return connection.execute(delete(keys).where(keys.c.created_at < before)).rowcount
