"""Turn an ImageFilter into SQL, read pages of pictures and count them. Changes nothing; `datasets.py` does that."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Float,
    Row,
    Select,
    String,
    Text,
    and_,
    cast,
    exists,
    func,
    not_,
    or_,
    select,
    true,
    tuple_,
    union_all,
)

from dalla.errors import InvalidInput
from dalla.filenames import filename_key, folder_of
from dalla.records.dataset import DatasetImage, ImageFilter
from dalla.stores import cursors
from dalla.stores.base import Page
from dalla.stores.dataset_tags import count_tags, tag_key, tag_sets
from dalla.stores.schema import image_metadata, image_tags, images

CHUNK = 500  # values in one IN list; databases limit them
_WALK = 20_000  # pictures above which a page by a measured value reads the index of values instead of sorting
_EQUAL = ("kind", "caption_source", "excluded", "concept", "regularization", "format", "parent_id")
_FIELDS = list(DatasetImage.model_fields)
#: Metadata keys that every picture has as a column, for `ImageFilter.metadata` and sorting: measured or not.
COLUMN_KEYS: dict[str, ColumnElement[Any]] = {
    "words": images.c.caption_words,
    "width": images.c.width,
    "height": images.c.height,
    "shortSide": images.c.short_side,
    "pixels": images.c.width * images.c.height,
    "megapixels": cast(images.c.width * images.c.height, Float) / 1_000_000.0,
    "aspect": cast(images.c.width, Float) / cast(func.nullif(images.c.height, 0), Float),
    "sizeBytes": images.c.size_bytes,
    "repeats": images.c.repeats,
}
_SORTS: dict[str, tuple[Any, bool]] = {  # expression, descending
    "name": (images.c.filename_key, False),
    "newest": (images.c.created_at, True),
    "oldest": (images.c.created_at, False),
    "largest": (COLUMN_KEYS["pixels"], True),
    "smallest": (COLUMN_KEYS["pixels"], False),
    "caption": (func.substr(images.c.caption, 1, 80, type_=Text), False),
}
_NAMED_METADATA = {"sharpest": ("sharpness", True), "blurriest": ("sharpness", False)}
_METADATA_KEY = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}\Z")
_WORD = re.compile(r'(-?)(?:"([^"]*)"|(\S+))')


# ---------------------------------------------------------------- rows


def columns_of(image: DatasetImage) -> dict[str, Any]:
    """Return the row of a picture without `seq`, with what the store computes from the record."""
    return {name: getattr(image, name) for name in _FIELDS} | {
        "filename_key": filename_key(image.filename),
        "folder": folder_of(image.filename),
        "short_side": min(image.width, image.height),
        "caption_words": len(image.caption.split()),
    }


def record(row: Row[Any]) -> DatasetImage:
    values = row._asdict()
    return DatasetImage.model_validate({name: values[name] for name in _FIELDS})


def chunks(values: Sequence[Any]) -> list[Sequence[Any]]:
    return [values[start : start + CHUNK] for start in range(0, len(values), CHUNK)]


def seqs(connection: Connection, ids: list[str], dataset_id: str | None = None) -> dict[str, int]:
    """Return the `seq` of each picture that exists (in this dataset)."""
    found: dict[str, int] = {}
    for chunk in chunks(ids):
        query = select(images.c.id, images.c.seq).where(images.c.id.in_(chunk))
        if dataset_id is not None:
            query = query.where(images.c.dataset_id == dataset_id)
        found.update((id, seq) for id, seq in connection.execute(query))
    return found


# ---------------------------------------------------------------- conditions


def condition(dataset_id: str, where: ImageFilter) -> ColumnElement[bool]:
    """Return what a row of `images` must fulfil."""
    tests: list[ColumnElement[bool]] = [
        images.c.dataset_id == dataset_id,
        images.c.trashed_at.is_not(None) if where.trashed else images.c.trashed_at.is_(None),
    ]
    for name in _EQUAL:
        value = getattr(where, name)
        if value is not None:
            tests.append(images.c[name] == value)
    if where.captioned is not None:
        tests.append(images.c.caption != "" if where.captioned else images.c.caption == "")
    if where.locked is not None:
        tests.append(images.c.caption_locked == where.locked)
    if where.folder is not None:
        inside = images.c.folder.startswith(where.folder + "/", autoescape=True)
        tests.append(or_(images.c.folder == where.folder, inside) if where.folder else images.c.folder == "")
    if where.min_side is not None:
        tests.append(images.c.short_side >= where.min_side)
    if where.max_side is not None:
        tests.append(images.c.short_side <= where.max_side)
    if where.tag is not None:
        tests.append(_tagged(image_tags.c.tag_key == tag_key(where.tag)))
    if where.without_tag is not None:
        tests.append(not_(_tagged(image_tags.c.tag_key == tag_key(where.without_tag))))
    if where.shared_caption is not None:
        tests.append(_shared(dataset_id, "caption", where.shared_caption))
    if where.same_pixels is not None:
        tests.append(_shared(dataset_id, "pixel_sha256", where.same_pixels))
    if where.q:
        tests += _words(where.q)
    if where.group is not None:
        tests.append(
            _measured("duplicateGroup", cast(image_metadata.c.metadata_value, Text) == json.dumps(where.group))
        )
    if where.language is not None:
        said = cast(image_metadata.c.metadata_value, Text) == json.dumps(where.language)
        tests.append(_measured("language", said))
    tests += [_range(*wanted) for wanted in where.metadata]
    tests += [not_(_measured(key)) for key in where.missing]
    if where.ids is not None:
        named = [select(images.c.seq).where(images.c.id.in_(chunk)) for chunk in chunks(where.ids) or [[]]]
        tests.append(images.c.seq.in_(union_all(*named) if len(named) > 1 else named[0]))
    return and_(*tests)


def _tagged(test: ColumnElement[bool]) -> ColumnElement[bool]:
    return exists(image_tags.c.position).where(image_tags.c.image_seq == images.c.seq, test).correlate(images)


def _measured(key: str, *tests: ColumnElement[bool]) -> ColumnElement[bool]:
    known = image_metadata.c
    found = exists(known.image_seq).where(known.image_seq == images.c.seq, known.metadata_key == key, *tests)
    return found.correlate(images)


def _range(key: str, low: float | None, high: float | None) -> ColumnElement[bool]:
    value = COLUMN_KEYS.get(key, image_metadata.c.number)
    tests = [value >= low] if low is not None else []
    if high is not None:
        tests.append(value <= high)
    return and_(true(), *tests) if key in COLUMN_KEYS else _measured(key, *tests)


def _shared(dataset_id: str, name: str, shared: bool) -> ColumnElement[bool]:
    """Whether another picture that is not excluded has the same value."""
    other = images.alias()
    values = select(other.c[name]).where(
        other.c.dataset_id == dataset_id, other.c.trashed_at.is_(None), ~other.c.excluded, other.c[name] != ""
    )
    found = images.c[name].in_(values.group_by(other.c[name]).having(func.count() > 1))
    return found if shared else not_(found)


def _words(text: str) -> list[ColumnElement[bool]]:
    """Each word stands in the caption or the file name, in any case; `-word` in neither; "two words" together."""
    tests = []
    for minus, phrase, word in _WORD.findall(text):
        wanted = (phrase or word).strip()
        if not wanted:
            continue
        found = or_(images.c.filename_key.contains(filename_key(wanted), autoescape=True), caption_has(wanted))
        tests.append(not_(found) if minus else found)
    return tests


def caption_has(text: str) -> ColumnElement[bool]:
    """Whether the letters stand in the caption, in any case."""
    if text.isascii():
        return func.lower(images.c.caption).contains(text.lower(), autoescape=True)
    # SQLite knows upper and lower case of ASCII only; the keys of the tags were folded by us.
    parts = [tag_key(part) for part in text.split(",")]
    return and_(*(_tagged(image_tags.c.tag_key.contains(part, autoescape=True)) for part in parts if part))


# ---------------------------------------------------------------- pages


def count(connection: Connection, dataset_id: str, where: ImageFilter) -> int:
    return connection.execute(select(func.count()).select_from(images).where(condition(dataset_id, where))).scalar_one()


def ids(connection: Connection, dataset_id: str, where: ImageFilter) -> list[str]:
    query = select(images.c.id).where(condition(dataset_id, where))
    return list(connection.execute(query.order_by(images.c.filename_key, images.c.seq)).scalars())


def page(
    connection: Connection,
    dataset_id: str,
    where: ImageFilter,
    *,
    total: int,
    size: int,
    sort: str,
    limit: int,
    cursor: str | None,
    offset: int | None,
) -> Page:
    """Return a page of the `total` pictures that match, of a dataset of `size` pictures."""
    cursors.check_limit(limit)
    key, down = _metadata_sort(sort)
    if key is not None:
        return _page_by_metadata(
            connection, dataset_id, where, total, size > _WALK, sort, key, down, limit, cursor, offset
        )
    value, down = _SORTS[sort] if sort in _SORTS else (COLUMN_KEYS[sort.lstrip("-")], sort.startswith("-"))
    order = f"images:{sort}"
    query = select(images.c.seq, value.label("place")).where(condition(dataset_id, where))
    if cursor:
        moment, seq = cursors.decode(cursor, order)
        query = query.where(_beyond(value, _typed(value, moment), seq, down))
    rows = connection.execute(_ordered(query, value, down).limit(limit + 1).offset(offset or None)).all()
    following = cursors.encode(order, str(rows[limit - 1].place), rows[limit - 1].seq) if len(rows) > limit else None
    return Page(read(connection, [row.seq for row in rows[:limit]]), following, total)


def _metadata_sort(sort: str) -> tuple[str | None, bool]:
    """Return the measured key a sort means (None: a column) and whether the largest come first."""
    if sort in _NAMED_METADATA:
        return _NAMED_METADATA[sort]
    key = sort.removeprefix("-")
    if sort in _SORTS or key in COLUMN_KEYS:
        return None, False
    if not _METADATA_KEY.match(key):
        names = ", ".join([*_SORTS, *_NAMED_METADATA])
        raise InvalidInput.field("sort", f"Use one of {names}, or a measured value such as brightness or -brightness.")
    return key, sort.startswith("-")


def _page_by_metadata(
    connection: Connection,
    dataset_id: str,
    where: ImageFilter,
    total: int,
    walk: bool,
    sort: str,
    key: str,
    down: bool,
    limit: int,
    cursor: str | None,
    offset: int | None,
) -> Page:
    """First those that were measured, by value; then the others, by name."""
    measured, rest = f"images:{sort}", f"images:{sort}:rest"
    value = image_metadata.alias()
    test = condition(dataset_id, where)
    if walk:  # most values are of this dataset: the index of all values has them in order
        number: Any = value.c.number
        by_value = select(images.c.seq, number.label("place")).select_from(
            images.join(value, value.c.image_seq == images.c.seq)
        )
        by_value = by_value.where(test, value.c.metadata_key == key)
    else:
        of_picture = select(value.c.number).where(value.c.image_seq == images.c.seq, value.c.metadata_key == key)
        number = of_picture.correlate(images).scalar_subquery()
        by_value = select(images.c.seq, number.label("place")).where(test)
    by_value = by_value.where(number.is_not(None))
    rows: list[tuple[str, str, int]] = []
    in_rest = cursor is not None and _is_for(cursor, rest)
    if not in_rest:
        if cursor:
            moment, seq = cursors.decode(cursor, measured)
            by_value = by_value.where(_beyond(number, _typed(number, moment), seq, down))
        found = connection.execute(_ordered(by_value, number, down).limit(limit + 1).offset(offset or None))
        rows = [(measured, repr(row.place), row.seq) for row in found]
    if len(rows) <= limit:
        has_value = _measured(key, image_metadata.c.number.is_not(None))
        query = select(images.c.seq, images.c.filename_key).where(test, not_(has_value))
        skip = 0
        if in_rest:
            assert cursor is not None
            query = query.where(_beyond(images.c.filename_key, *cursors.decode(cursor, rest), False))
        elif offset and not rows:
            with_value = select(func.count()).select_from(images).where(test, has_value)
            skip = max(0, offset - connection.execute(with_value).scalar_one())
        query = _ordered(query, images.c.filename_key, False).limit(limit + 1 - len(rows)).offset(skip or None)
        rows += [(rest, row.filename_key, row.seq) for row in connection.execute(query)]
    following = cursors.encode(*rows[limit - 1]) if len(rows) > limit else None
    return Page(read(connection, [seq for _, _, seq in rows[:limit]]), following, total)


def _is_for(cursor: str, order: str) -> bool:
    try:
        cursors.decode(cursor, order)
    except InvalidInput:
        return False
    return True


def _typed(value: ColumnElement[Any], place: str) -> str | float:
    """Read back the place a cursor names. Raises InvalidInput for one we did not make."""
    if isinstance(value.type, String):
        return place
    try:
        return int(place) if place.lstrip("-").isdigit() else float(place)
    except ValueError as exc:
        raise InvalidInput.field("cursor", "This is not a cursor of this list. Leave it out to start anew.") from exc


def _beyond(value: Any, place: Any, seq: int, down: bool) -> ColumnElement[bool]:
    here, there = tuple_(value, images.c.seq), tuple_(place, seq)
    return here < there if down else here > there  # type: ignore[no-any-return]


def _ordered(query: Select[Any], value: Any, down: bool) -> Select[Any]:
    return query.order_by(value.desc(), images.c.seq.desc()) if down else query.order_by(value, images.c.seq)


def read(connection: Connection, numbers: list[int]) -> list[DatasetImage]:
    """Return the pictures in the order of their `seq`s given."""
    found: dict[int, DatasetImage] = {}
    for chunk in chunks(numbers):
        for row in connection.execute(select(images).where(images.c.seq.in_(chunk))):
            found[row.seq] = record(row)
    return [found[seq] for seq in numbers if seq in found]


# ---------------------------------------------------------------- facets

_FACET_TAGS = 50
_FACETS = {
    "kinds": images.c.kind,
    "formats": images.c.format,
    "folders": images.c.folder,
    "concepts": images.c.concept,
    "captionSources": images.c.caption_source,
    "captioned": images.c.caption != "",
    "locked": images.c.caption_locked,
    "excluded": images.c.excluded,
}


def facets(connection: Connection, dataset_id: str, where: ImageFilter) -> dict[str, list[dict[str, Any]]]:
    test = condition(dataset_id, where)
    query = select(*_FACETS.values(), func.count()).where(test).group_by(*_FACETS.values())
    found: dict[str, Counter[Any]] = {name: Counter() for name in _FACETS}
    for *values, number in connection.execute(query):
        for name, value in zip(_FACETS, values, strict=True):
            found[name][bool(value) if name in ("captioned", "locked", "excluded") else value] += number
    known = image_metadata.c
    joined = images.join(image_metadata, known.image_seq == images.c.seq)
    faces = select(known.number, func.count()).select_from(joined)
    faces = faces.where(test, known.metadata_key == "faces", known.number.is_not(None)).group_by(known.number)
    found["faces"] = Counter()
    for number, times in connection.execute(faces):
        found["faces"]["2+" if number > 1 else f"{int(number)}"] += times
    group = cast(known.metadata_value, Text)
    groups = select(group, func.count()).select_from(joined)
    groups = groups.where(test, known.metadata_key == "duplicateGroup").group_by(group)
    found["groups"] = Counter({json.loads(value): times for value, times in connection.execute(groups)})
    captions = connection.execute(select(images.c.caption).where(test, images.c.caption != "")).scalars().all()
    found["tags"] = Counter({tag: n for _, tag, n in count_tags(*tag_sets(captions))[:_FACET_TAGS]})
    return {
        name: [{"value": v, "count": n} for v, n in sorted(counter.items(), key=lambda pair: (-pair[1], str(pair[0])))]
        for name, counter in found.items()
    }
