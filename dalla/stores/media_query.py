"""Turn a MediaFilter into SQL, read pages and count. Changes nothing; `media.py` does that."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    FromClause,
    Integer,
    Row,
    Select,
    and_,
    func,
    literal_column,
    select,
    true,
    tuple_,
    union_all,
)

from dalla.errors import InvalidInput
from dalla.records.media import MediaFilter, MediaItem
from dalla.stores import cursors
from dalla.stores.base import Page
from dalla.stores.schema import collection_media, media, media_loras, media_recipes
from dalla.stores.search import Search

CHUNK = 500  # values in one IN list; databases limit them
_MANY = 2_000  # matches above which a word counts as common
_NEAR = 1_000  # rows read in the hope of finding a page of a common word
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
        if where.models is not None:
            self.tests.append(media.c.model.in_(where.models))
        if where.loras is not None:
            any_of = select(media_loras.c.media_seq).where(media_loras.c.name.in_(where.loras))
            self.tests.append(media.c.seq.in_(any_of))
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

    @property
    def plain(self) -> bool:
        """Whether nothing but the trash (and words) restricts it."""
        return len(self.tests) == 1 and not self.where.trashed

    def rows(self, *columns: Any) -> Select[Any]:
        """Select what fulfils everything but the words."""
        return select(*columns).select_from(self.source).where(and_(*self.tests))

    def select(self, *columns: Any, few: bool = False) -> Select[Any]:
        query = self.rows(*columns)
        if self.searches:
            query = query.where(self.search.condition(self.where.words, self.where.not_words, few=few))
        return query

    def ordered(self, query: Select[Any], sort: str) -> Select[Any]:
        return _by_time(query, self.moment, self.seq, sort)

    def beyond(self, sort: str, moment: str, seq: int) -> ColumnElement[bool]:
        """Return the condition for rows that come after the given one."""
        here = tuple_(self.moment, self.seq)
        return here < tuple_(moment, seq) if sort == "newest" else here > tuple_(moment, seq)  # type: ignore[no-any-return]


def count(connection: Connection, match: Matching) -> int:
    if match.plain and match.searches:
        number = match.search.count(connection, match.where.words, match.where.not_words)
        if number is not None:
            return number
    return connection.execute(match.select(func.count())).scalar_one()


def page(
    connection: Connection, match: Matching, *, total: int, limit: int, cursor: str | None, sort: str, offset: int = 0
) -> Page:
    cursors.check_limit(limit)
    if sort not in ("newest", "oldest"):
        raise InvalidInput.field("sort", "Use newest or oldest.")
    order = f"media:{sort}"
    beyond = match.beyond(sort, *cursors.decode(cursor, order)) if cursor else true()
    if not total:
        return Page([], None, 0)
    rows: Sequence[Row[Any]] = []
    if match.searches and total > _MANY and not offset:
        # A common word: the next page is most likely among the next few rows, and reading those is
        # much cheaper than asking the index for all that match.
        near = match.ordered(match.rows(match.seq.label("seq")).where(beyond), sort).limit(_NEAR).subquery()
        query = select(media).join(near, near.c.seq == media.c.seq)
        query = query.where(match.search.reading(match.where.words, match.where.not_words)).limit(limit + 1)
        rows = connection.execute(_by_time(query, media.c.created_at, media.c.seq, sort)).all()
    if len(rows) <= limit:
        query = match.ordered(match.select(media, few=total <= _MANY).where(beyond), sort)
        rows = connection.execute(query.limit(limit + 1).offset(offset)).all()
    following = cursors.encode(order, rows[limit - 1].created_at, rows[limit - 1].seq) if len(rows) > limit else None
    return Page(items(connection, rows[:limit]), following, total)


def ids(connection: Connection, match: Matching, limit: int) -> list[str]:
    return list(connection.execute(match.ordered(match.select(media.c.id), "newest").limit(limit)).scalars())


def facets(connection: Connection, match: Matching) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, Counter[str]] = {name: Counter() for name in _FACETS}
    if match.plain and not match.searches:  # each is answered by its own index
        for name, dimension in _FACETS.items():
            query = match.select(dimension, func.count()).group_by(dimension)
            found[name].update({value: number for value, number in connection.execute(query)})
    else:  # one walk over the rows for all of them
        query = match.select(*_FACETS.values(), func.count(), few=True).group_by(*_FACETS.values())
        for *values, number in connection.execute(query):
            for name, value in zip(_FACETS, values, strict=True):
                found[name][value] += number
    found["loras"] = Counter({value: number for value, number in connection.execute(_lora_counts(match))})
    return {name: _largest_first(counter) for name, counter in found.items()}


def _lora_counts(match: Matching) -> Select[Any]:
    # The plus: testing all links against the set is quicker than looking up the links of each picture.
    seq: ColumnElement[int] = literal_column("+media_loras.media_seq", Integer)
    if match.plain and not match.searches:
        test = seq.not_in(select(media.c.seq).where(media.c.trashed_at.is_not(None)))
    else:
        test = seq.in_(match.select(match.seq.label("seq"), few=True).subquery().select())
    return select(media_loras.c.name, func.count()).where(test).group_by(media_loras.c.name)


def _largest_first(counter: Counter[str]) -> list[dict[str, Any]]:
    counted = [(value, number) for value, number in counter.items() if value is not None]
    return [{"value": v, "count": n} for v, n in sorted(counted, key=lambda pair: (-pair[1], pair[0]))]


def _by_time(query: Select[Any], moment: Any, seq: Any, sort: str) -> Select[Any]:
    return query.order_by(moment.desc(), seq.desc()) if sort == "newest" else query.order_by(moment, seq)


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
