"""Turn a MediaFilter into SQL, read pages and count. Changes nothing; `media.py` does that."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, FromClause, Row, Select, and_, func, select, tuple_, union_all

from dalla.errors import InvalidInput
from dalla.records.media import MediaFilter, MediaItem
from dalla.stores import cursors
from dalla.stores.base import Page
from dalla.stores.schema import collection_media, media, media_loras, media_recipes
from dalla.stores.search import Search

CHUNK = 500  # values in one IN list; databases limit them
_MANY = 2_000  # matches above which walking the gallery in order beats sorting them all
_EQUAL = ("character_id", "type", "model", "engine", "starred", "posted", "task_id")
_FACETS = {"models": media.c.model, "characters": media.c.character_id, "engines": media.c.engine}


class Matching:
    """The rows a filter selects: where they come from and what they must fulfil.

    A collection or a LoRA is read through its own table, whose index has the same order as the gallery.
    """

    def __init__(self, where: MediaFilter, search: Search) -> None:
        self.where = where
        self.search = search
        self.moment: ColumnElement[Any] = media.c.created_at
        self.seq: ColumnElement[Any] = media.c.seq
        self.source: FromClause = media
        link = None
        if where.collection_id is not None:
            link, key = collection_media, collection_media.c.collection_id == where.collection_id
        elif where.lora is not None:
            link, key = media_loras, media_loras.c.name == where.lora
        self.tests: list[ColumnElement[bool]] = []
        if link is not None:
            self.source = link.join(media, media.c.seq == link.c.media_seq)
            self.moment, self.seq = link.c.created_at, link.c.media_seq
            self.tests.append(key)
        self.tests.append(media.c.trashed_at.is_not(None) if where.trashed else media.c.trashed_at.is_(None))
        for name in _EQUAL:
            value = getattr(where, name)
            if value is not None:
                self.tests.append(media.c[name] == value)
        if where.lora is not None and where.collection_id is not None:
            named = select(media_loras.c.media_seq).where(media_loras.c.name == where.lora)
            self.tests.append(media.c.seq.in_(named))
        if where.after is not None:
            self.tests.append(self.moment >= where.after)
        if where.before is not None:
            self.tests.append(self.moment <= where.before)
        if where.ids is not None:
            chunks = [where.ids[i : i + CHUNK] for i in range(0, len(where.ids), CHUNK)] or [[]]
            named_ids = [select(media.c.seq).where(media.c.id.in_(chunk)) for chunk in chunks]
            self.tests.append(media.c.seq.in_(union_all(*named_ids) if len(named_ids) > 1 else named_ids[0]))

    @property
    def searches(self) -> bool:
        return bool(self.where.words or self.where.not_words)

    def select(self, *columns: Any, many: bool = False) -> Select[Any]:
        query = select(*columns).select_from(self.source).where(and_(*self.tests))
        if self.searches:
            query = query.where(self.search.condition(self.where.words, self.where.not_words, many=many))
        return query

    def ordered(self, query: Select[Any], sort: str) -> Select[Any]:
        if sort == "newest":
            return query.order_by(self.moment.desc(), self.seq.desc())
        return query.order_by(self.moment, self.seq)

    def beyond(self, sort: str, moment: str, seq: int) -> ColumnElement[bool]:
        """Return the condition for rows that come after the given one."""
        here = tuple_(self.moment, self.seq)
        return here < tuple_(moment, seq) if sort == "newest" else here > tuple_(moment, seq)  # type: ignore[no-any-return]


def count(connection: Connection, match: Matching) -> int:
    return connection.execute(match.select(func.count(), many=match.searches)).scalar_one()


def page(connection: Connection, match: Matching, *, total: int, limit: int, cursor: str | None, sort: str) -> Page:
    if sort not in ("newest", "oldest"):
        raise InvalidInput.field("sort", "Use newest or oldest.")
    order = f"media:{sort}"
    query = match.ordered(match.select(media, many=total > _MANY), sort).limit(limit + 1)
    if cursor:
        query = query.where(match.beyond(sort, *cursors.decode(cursor, order)))
    rows = connection.execute(query).all()
    following = cursors.encode(order, rows[limit - 1].created_at, rows[limit - 1].seq) if len(rows) > limit else None
    return Page(items(connection, rows[:limit]), following, total)


def ids(connection: Connection, match: Matching, limit: int) -> list[str]:
    query = match.ordered(match.select(media.c.id, many=limit > _MANY), "newest").limit(limit)
    return list(connection.execute(query).scalars())


def facets(connection: Connection, match: Matching) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for name, dimension in _FACETS.items():
        number = func.count().label("number")
        query = match.select(dimension.label("value"), number, many=True).where(dimension.is_not(None))
        found[name] = _counted(connection, query.group_by(dimension))
    found["loras"] = _counted(connection, _lora_counts(match))
    return found


def _lora_counts(match: Matching) -> Select[Any]:
    number = func.count().label("number")
    names = media_loras.alias("used")
    inner = match.select(match.seq.label("seq"), many=True).subquery()
    return (
        select(names.c.name.label("value"), number)
        .select_from(names.join(inner, inner.c.seq == names.c.media_seq))
        .group_by(names.c.name)
    )


def _counted(connection: Connection, query: Select[Any]) -> list[dict[str, Any]]:
    rows = connection.execute(query).all()
    return [{"value": r.value, "count": r.number} for r in sorted(rows, key=lambda r: (-r.number, r.value))]


def items(connection: Connection, rows: Sequence[Row[Any]]) -> list[MediaItem]:
    """Build records from rows of `media`, adding the recipes."""
    recipes: dict[int, Any] = {}
    for start in range(0, len(rows), CHUNK):
        seqs = [row.seq for row in rows[start : start + CHUNK]]
        query = select(media_recipes).where(media_recipes.c.media_seq.in_(seqs))
        recipes.update((seq, recipe) for seq, recipe in connection.execute(query))
    found = []
    for row in rows:
        values = row._asdict()
        values["recipe"] = recipes.get(values.pop("seq"))
        found.append(MediaItem.model_validate(values))
    return found
