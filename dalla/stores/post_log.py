"""What was done about posts: the attempts of each, and the outbox of dry runs."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, delete, func, insert, select, update

from dalla.records.post import Attempt, OutboxRequest
from dalla.stores import cursors
from dalla.stores.base import Page
from dalla.stores.library import Library
from dalla.stores.schema import outbox, post_attempts
from dalla.times import now_iso


class PostLog:
    """The log half of a PostStore (see stores/posts.py)."""

    def __init__(self, library: Library) -> None:
        self._library = library

    def begin_attempt(self, attempt: Attempt) -> Attempt:
        """Write the start of a step; the id comes back."""
        values = attempt.model_dump(exclude={"id"})
        with self._library.write() as connection:
            id = connection.execute(insert(post_attempts).values(**values).returning(post_attempts.c.id)).scalar_one()
        return attempt.with_(id=id)

    def end_attempt(self, id: int, **fields: Any) -> None:
        """Write how a step ended."""
        with self._library.write() as connection:
            connection.execute(update(post_attempts).where(post_attempts.c.id == id).values(**fields))

    def attempts(self, post_id: str) -> list[Attempt]:
        """Return the steps of a post, oldest first."""
        query = select(post_attempts).where(post_attempts.c.post_id == post_id).order_by(post_attempts.c.id)
        with self._library.read() as connection:
            return [Attempt.model_validate(row._asdict()) for row in connection.execute(query)]

    @staticmethod
    def forget(connection: Connection, post_id: str) -> None:
        """Remove the attempts of a post that is being deleted."""
        connection.execute(delete(post_attempts).where(post_attempts.c.post_id == post_id))

    def add_outbox(self, request: OutboxRequest) -> OutboxRequest:
        """Keep a request that a dry run would have sent."""
        values = request.model_dump(mode="json", exclude={"id"}) | {"at": request.at or now_iso()}
        with self._library.write() as connection:
            id = connection.execute(insert(outbox).values(**values).returning(outbox.c.id)).scalar_one()
        return request.with_(id=id, at=values["at"])

    def outbox(self, *, post_id: str | None = None, limit: int = 50, cursor: str | None = None) -> Page:
        """Return the requests, newest first; those of one post in the order they would have been sent."""
        cursors.check_limit(limit)
        mine = [] if post_id is None else [outbox.c.post_id == post_id]
        forward = post_id is not None
        query = select(outbox).where(*mine).order_by(outbox.c.id if forward else outbox.c.id.desc())
        if cursor:
            _, last = cursors.decode(cursor, "outbox")
            query = query.where(outbox.c.id > last if forward else outbox.c.id < last)
        with self._library.read() as connection:
            total = connection.execute(select(func.count()).select_from(outbox).where(*mine)).scalar_one()
            rows = connection.execute(query.limit(limit + 1)).all()
        following = cursors.encode("outbox", rows[limit - 1].at, rows[limit - 1].id) if len(rows) > limit else None
        return Page([OutboxRequest.model_validate(row._asdict()) for row in rows[:limit]], following, total)

    def clear_outbox(self, before: str | None = None) -> int:
        """Forget requests (older than `before`); return how many."""
        old = delete(outbox) if before is None else delete(outbox).where(outbox.c.at < before)
        with self._library.write() as connection:
            return connection.execute(old).rowcount
