"""Records of pictures and videos in the library database. Their bytes are in `blobs.py`."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, TypeVar

from sqlalchemy import Connection, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from dalla.errors import Conflict, InvalidInput, NotFound
from dalla.records.media import Collection, MediaFilter, MediaItem
from dalla.stores import media_query as query
from dalla.stores.base import Page
from dalla.stores.library import Library
from dalla.stores.media_collections import Collections
from dalla.stores.schema import media, media_loras, media_recipes
from dalla.times import now_iso

T = TypeVar("T")
_COLUMNS = [column.name for column in media.c if column.name != "seq"]
_CHANGEABLE = {*_COLUMNS, "recipe"} - {"id", "created_at"}


class SqlMedia:
    """A MediaStore on a Library. Safe for threads and processes."""

    def __init__(self, library: Library) -> None:
        self._library = library
        self._collections = Collections(library)
        self._remembered: dict[tuple[str, str], Any] = {}
        self._remembered_at = -1
        self._lock = threading.Lock()

    # ------------------------------------------------------------------ reading

    def get(self, id: str) -> MediaItem:
        found = self.get_many([id])
        if not found:
            raise NotFound.of("picture or video", id)
        return found[0]

    def get_many(self, ids: list[str]) -> list[MediaItem]:
        with self._library.read() as connection:
            found = {item.id: item for item in self._items(connection, ids)}
        return [found[id] for id in dict.fromkeys(ids) if id in found]

    def page(
        self,
        where: MediaFilter,
        *,
        limit: int = 50,
        cursor: str | None = None,
        sort: str = "newest",
        offset: int = 0,
    ) -> Page:
        match = query.Matching(where, self._library.search)
        with self._library.read() as connection:
            total = self._remember(connection, "total", where, lambda: query.count(connection, match))
            return query.page(connection, match, total=total, limit=limit, cursor=cursor, sort=sort, offset=offset)

    def ids(self, where: MediaFilter, *, limit: int = 10_000) -> list[str]:
        with self._library.read() as connection:
            return query.ids(connection, query.Matching(where, self._library.search), limit)

    def facets(self, where: MediaFilter) -> dict[str, list[dict[str, Any]]]:
        match = query.Matching(where, self._library.search)
        with self._library.read() as connection:
            found = self._remember(connection, "facets", where, lambda: query.facets(connection, match))
        return {name: [dict(entry) for entry in entries] for name, entries in found.items()}

    def find_by_sha256(self, sha256: str) -> MediaItem | None:
        """Return the newest with these bytes; one in the trash only when there is no other."""
        newest = select(media).where(media.c.sha256 == sha256, media.c.sha256 != "")
        newest = newest.order_by(media.c.trashed_at.is_not(None), media.c.created_at.desc(), media.c.seq.desc()).limit(
            1
        )
        with self._library.read() as connection:
            found = query.items(connection, list(connection.execute(newest)))
        return found[0] if found else None

    def count_by_character(self) -> dict[str, int]:
        counts = (
            select(media.c.character_id, func.count())
            .where(media.c.trashed_at.is_(None), media.c.character_id.is_not(None))
            .group_by(media.c.character_id)
        )
        with self._library.read() as connection:
            return {character: number for character, number in connection.execute(counts)}

    def trashed_before(self, moment: str) -> list[str]:
        old = select(media.c.id).where(media.c.trashed_at.is_not(None), media.c.trashed_at < moment)
        with self._library.read() as connection:
            return list(connection.execute(old.order_by(media.c.trashed_at, media.c.seq)).scalars())

    # ------------------------------------------------------------------ writing

    def insert(self, item: MediaItem) -> MediaItem:
        stored = _dated(item)
        try:
            self._insert([stored])
        except IntegrityError as exc:
            raise Conflict(f"There is already a picture or video with the id '{item.id}'.") from exc
        return stored

    def insert_many(self, items: list[MediaItem]) -> None:
        try:
            self._insert([_dated(item) for item in items])
        except IntegrityError as exc:
            raise Conflict("Some of these pictures or videos are already in the library; none was added.") from exc

    def update(self, ids: list[str], **changes: Any) -> list[str]:
        unknown = changes.keys() - _CHANGEABLE
        if unknown:
            raise TypeError(f"not columns of media that may change: {', '.join(sorted(unknown))}")
        changes.setdefault("updated_at", now_iso())
        recipe = changes.pop("recipe", ...)
        with self._library.write() as connection:
            found = self._seqs(connection, ids)
            seqs = list(found.values())
            for chunk in _chunks(seqs):
                connection.execute(update(media).where(media.c.seq.in_(chunk)).values(**changes))
            if "loras" in changes:
                self._link_loras(connection, seqs, changes["loras"])
            if "prompt" in changes:
                self._library.search.remove(connection, seqs)
                self._library.search.add(connection, [(seq, changes["prompt"]) for seq in seqs])
            if recipe is not ...:
                self._replace_recipes(connection, seqs, recipe)
            if seqs:
                self._library.changed(connection, "media")
        return [id for id in dict.fromkeys(ids) if id in found]

    def delete(self, ids: list[str]) -> list[MediaItem]:
        with self._library.write() as connection:
            gone = {item.id: item for item in self._items(connection, ids)}
            seqs = list(self._seqs(connection, list(gone)).values())
            self._library.search.remove(connection, seqs)
            for chunk in _chunks(seqs):
                connection.execute(delete(media).where(media.c.seq.in_(chunk)))
            if seqs:
                self._library.changed(connection, "media")
        return [gone[id] for id in dict.fromkeys(ids) if id in gone]

    # ------------------------------------------------------------------ collections

    def collections(self) -> list[Collection]:
        with self._library.read() as connection:
            return list(self._remember(connection, "collections", None, lambda: self._collections.all(connection)))

    def get_collection(self, id: str) -> Collection:
        for collection in self.collections():
            if collection.id == id:
                return collection
        raise NotFound.of("collection", id)

    def save_collection(self, id: str, name: str, now: str) -> Collection:
        self._collections.save(id, name, now)
        return self.get_collection(id)

    def delete_collection(self, id: str) -> None:
        self._collections.delete(id)

    def add_to_collection(self, id: str, media_ids: list[str], now: str) -> list[str]:
        with self._library.write() as connection:
            found = self._seqs(connection, media_ids)
            self._collections.add(connection, id, list(found.values()), now)
        return [media_id for media_id in dict.fromkeys(media_ids) if media_id in found]

    def remove_from_collection(self, id: str, media_ids: list[str]) -> list[str]:
        with self._library.write() as connection:
            found = self._seqs(connection, media_ids)
            removed = self._collections.remove(connection, id, list(found.values()), now_iso())
        return [media_id for media_id in dict.fromkeys(media_ids) if found.get(media_id) in removed]

    # ------------------------------------------------------------------ inside

    def _remember(self, connection: Connection, what: str, where: MediaFilter | None, work: Callable[[], T]) -> T:
        """Return what was computed before, if no media changed since, in whatever process."""
        revision = self._library.revision(connection, "media")
        key = (what, where.model_dump_json(exclude_defaults=True) if where else "")
        with self._lock:
            if self._remembered_at != revision or len(self._remembered) > 500:
                self._remembered, self._remembered_at = {}, revision
            table = self._remembered
            if key in table:
                return table[key]  # type: ignore[no-any-return]
        value = work()
        table[key] = value  # into the table of its revision, which may have been dropped meanwhile
        return value

    def _seqs(self, connection: Connection, ids: list[str]) -> dict[str, int]:
        found: dict[str, int] = {}
        for chunk in _chunks(ids):
            found.update(
                (id, seq)
                for id, seq in connection.execute(select(media.c.id, media.c.seq).where(media.c.id.in_(chunk)))
            )
        return found

    def _items(self, connection: Connection, ids: list[str]) -> list[MediaItem]:
        found: list[MediaItem] = []
        for chunk in _chunks(ids):
            found += query.items(connection, list(connection.execute(select(media).where(media.c.id.in_(chunk)))))
        return found

    def _insert(self, items: list[MediaItem]) -> None:
        if not items:
            return
        with self._library.write() as connection:
            connection.execute(insert(media), [{name: getattr(item, name) for name in _COLUMNS} for item in items])
            seqs = self._seqs(connection, [item.id for item in items])
            self._library.search.add(connection, [(seqs[item.id], item.prompt) for item in items])
            recipes = [{"media_seq": seqs[i.id], "recipe": i.recipe} for i in items if i.recipe is not None]
            loras = [
                {"name": name, "media_seq": seqs[item.id], "created_at": item.created_at}
                for item in items
                for name in dict.fromkeys(item.loras)
            ]
            if recipes:
                connection.execute(insert(media_recipes), recipes)
            if loras:
                connection.execute(insert(media_loras), loras)
            self._library.changed(connection, "media")

    def _link_loras(self, connection: Connection, seqs: list[int], names: list[str]) -> None:
        for chunk in _chunks(seqs):
            connection.execute(delete(media_loras).where(media_loras.c.media_seq.in_(chunk)))
            rows = connection.execute(select(media.c.seq, media.c.created_at).where(media.c.seq.in_(chunk))).all()
            links = [
                {"name": name, "media_seq": row.seq, "created_at": row.created_at}
                for row in rows
                for name in dict.fromkeys(names)
            ]
            if links:
                connection.execute(insert(media_loras), links)

    def _replace_recipes(self, connection: Connection, seqs: list[int], recipe: dict[str, Any] | None) -> None:
        for chunk in _chunks(seqs):
            connection.execute(delete(media_recipes).where(media_recipes.c.media_seq.in_(chunk)))
        if recipe is not None and seqs:
            connection.execute(insert(media_recipes), [{"media_seq": seq, "recipe": recipe} for seq in seqs])


def _dated(item: MediaItem) -> MediaItem:
    if not item.path:
        raise InvalidInput.field("path", "A picture needs its file.")
    created = item.created_at or now_iso()
    return item.with_(created_at=created, updated_at=item.updated_at or created)


def _chunks(values: list[T]) -> list[list[T]]:
    return [values[start : start + query.CHUNK] for start in range(0, len(values), query.CHUNK)]
