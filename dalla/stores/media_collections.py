"""Collections: named sets of media. A part of `SqlMedia`."""

from __future__ import annotations

from sqlalchemy import Connection, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from dalla.errors import Conflict, InvalidInput, NotFound
from dalla.records.media import Collection
from dalla.stores.library import Library
from dalla.stores.schema import collection_media as members
from dalla.stores.schema import collections, media

_CHUNK = 500


class Collections:
    """SQL for collections. Methods with a connection run in the caller's transaction."""

    def __init__(self, library: Library) -> None:
        self._library = library

    def all(self, connection: Connection) -> list[Collection]:
        """Return them by name. What lies in the trash is neither counted nor on the cover."""
        live = members.join(media, media.c.seq == members.c.media_seq)
        counts = (
            select(members.c.collection_id, func.count().label("number"))
            .select_from(live)
            .where(media.c.trashed_at.is_(None))
            .group_by(members.c.collection_id)
            .subquery()
        )
        cover = (
            select(media.c.id)
            .select_from(live)
            .where(members.c.collection_id == collections.c.id, media.c.trashed_at.is_(None))
            .order_by(members.c.created_at.desc(), members.c.media_seq.desc())
            .limit(1)
            .scalar_subquery()
        )
        query = (
            select(collections, func.coalesce(counts.c.number, 0).label("number"), cover.label("cover"))
            .select_from(collections.outerjoin(counts, counts.c.collection_id == collections.c.id))
            .order_by(collections.c.name_key)
        )
        return [
            Collection(
                id=row.id,
                name=row.name,
                count=row.number,
                cover_media_id=row.cover,
                created_at=row.created_at,
                updated_at=row.updated_at,
            )
            for row in connection.execute(query)
        ]

    def save(self, id: str, name: str, now: str) -> None:
        name = " ".join(name.split())
        if not name:
            raise InvalidInput.field("name", "Give the collection a name.")
        values = {"name": name, "name_key": name.lower(), "updated_at": now}
        try:
            with self._library.write() as connection:
                renamed = connection.execute(update(collections).where(collections.c.id == id).values(**values))
                if not renamed.rowcount:
                    connection.execute(insert(collections).values(id=id, created_at=now, **values))
                self._library.changed(connection, "media")
        except IntegrityError as exc:
            raise Conflict(f"There is already a collection called '{name}'.") from exc

    def delete(self, id: str) -> None:
        with self._library.write() as connection:
            if not connection.execute(delete(collections).where(collections.c.id == id)).rowcount:
                raise NotFound.of("collection", id)
            self._library.changed(connection, "media")

    def add(self, connection: Connection, id: str, seqs: list[int], now: str) -> None:
        self._touch(connection, id, now)
        for start in range(0, len(seqs), _CHUNK):
            chunk = seqs[start : start + _CHUNK]
            held = select(members.c.media_seq).where(members.c.collection_id == id, members.c.media_seq.in_(chunk))
            present = set(connection.execute(held).scalars())
            rows = connection.execute(select(media.c.seq, media.c.created_at).where(media.c.seq.in_(chunk)))
            new = [
                {"collection_id": id, "media_seq": row.seq, "created_at": row.created_at, "added_at": now}
                for row in rows
                if row.seq not in present
            ]
            if new:
                connection.execute(insert(members), new)

    def remove(self, connection: Connection, id: str, seqs: list[int], now: str) -> set[int]:
        """Return those that were in it."""
        self._touch(connection, id, now)
        removed: set[int] = set()
        for start in range(0, len(seqs), _CHUNK):
            chunk = seqs[start : start + _CHUNK]
            inside = (members.c.collection_id == id) & members.c.media_seq.in_(chunk)
            removed |= set(connection.execute(select(members.c.media_seq).where(inside)).scalars())
            connection.execute(delete(members).where(inside))
        return removed

    def _touch(self, connection: Connection, id: str, now: str) -> None:
        """Note the change. Raises NotFound."""
        touched = connection.execute(update(collections).where(collections.c.id == id).values(updated_at=now))
        if not touched.rowcount:
            raise NotFound.of("collection", id)
        self._library.changed(connection, "media")
