"""Writing the rows of a dataset's pictures, inside a transaction of the stores beside."""

from __future__ import annotations

import math
from collections import defaultdict
from typing import Any

from sqlalchemy import Connection, case, delete, func, insert, select, tuple_, update

from dalla.errors import NotFound
from dalla.languages import language_of
from dalla.records.dataset import Dataset, DatasetImage, ImagePair
from dalla.stores import dataset_query as query
from dalla.stores.dataset_tags import tag_rows
from dalla.stores.schema import captions, datasets, image_metadata, image_pairs, image_tags, images
from dalla.times import now_iso

#: The measured value that says which language a caption is in.
LANGUAGE = "language"


def raise_revision(connection: Connection, dataset_id: str, **changes: Any) -> None:
    """Note that a dataset changed (with the columns given), in the transaction of the change. Raises NotFound."""
    changes.setdefault("updated_at", now_iso())
    changed = update(datasets).where(datasets.c.id == dataset_id)
    if not connection.execute(changed.values(revision=datasets.c.revision + 1, **changes)).rowcount:
        raise NotFound.of("dataset", dataset_id)


def raise_revisions(connection: Connection, numbers: list[int]) -> None:
    found: set[str] = set()
    for chunk in query.chunks(numbers):
        found |= set(
            connection.execute(select(images.c.dataset_id).where(images.c.seq.in_(chunk)).distinct()).scalars()
        )
    for dataset_id in sorted(found):
        raise_revision(connection, dataset_id)


def dataset(row: Any) -> Dataset:
    values = row._asdict()
    values.pop("seq")
    return Dataset.model_validate(values)


def dated(image: DatasetImage, now: str) -> DatasetImage:
    created = image.created_at or now
    source = image.caption_source if image.caption else "none"
    if image.caption and source == "none":
        source = "file"
    return image.with_(created_at=created, updated_at=image.updated_at or created, caption_source=source)


def counts(connection: Connection, id: str) -> dict[str, int]:
    def number(test: Any) -> Any:
        return func.coalesce(func.sum(case((test, 1), else_=0)), 0)

    row = connection.execute(
        select(
            func.count(),
            number(images.c.caption != ""),
            number(images.c.kind == "processed"),
            number(images.c.excluded),
            func.coalesce(func.sum(images.c.size_bytes), 0),
        ).where(images.c.dataset_id == id, images.c.trashed_at.is_(None))
    ).one()
    return dict(zip(("images", "captioned", "processed", "excluded", "sizeBytes"), map(int, row), strict=True))


def covers(connection: Connection, id: str, each: int) -> list[str]:
    first = select(images.c.id).where(images.c.dataset_id == id, images.c.trashed_at.is_(None), ~images.c.excluded)
    return list(connection.execute(first.order_by(images.c.filename_key, images.c.seq).limit(each)).scalars())


def add(connection: Connection, new: list[DatasetImage], metadata: dict[str, dict[str, Any]]) -> None:
    connection.execute(insert(images), [query.columns_of(image) for image in new])
    numbers = query.seqs(connection, [image.id for image in new])
    tags = [row for image in new for row in tag_rows(numbers[image.id], image.caption)]
    if tags:
        connection.execute(insert(image_tags), tags)
    history = [
        {
            "image_seq": numbers[image.id],
            "dataset_id": image.dataset_id,
            "caption_text": image.caption,
            "source": image.caption_source,
            "locked": image.caption_locked,
            "created_at": image.created_at,
        }
        for image in new
        if image.caption
    ]
    if history:
        connection.execute(insert(captions), history)
    measured = [row for id, values in metadata.items() if id in numbers for row in _measures(numbers[id], values)]
    measured += [row for image in new for row in _measures(numbers[image.id], {LANGUAGE: of_caption(image.caption)})]
    if measured:
        connection.execute(insert(image_metadata), measured)


def derived(connection: Connection, values: dict[str, Any], chunk: Any) -> dict[str, Any]:
    """Return the computed columns that follow from changed ones; a file name is changed for one picture only."""
    if not values.keys() & {"filename", "width", "height"}:
        return {}
    rows = query.read(connection, list(chunk))
    if "filename" in values and len(rows) > 1:
        raise TypeError("a file name is given to one picture at a time")
    sides = {min(values.get("width", row.width), values.get("height", row.height)) for row in rows}
    if len(sides) > 1:
        raise TypeError("sizes are set for one picture at a time")
    computed = query.columns_of(rows[0].with_(**values))
    return {
        name: computed[name]
        for name in ("filename_key", "folder", "short_side")
        if "filename" in values or name == "short_side"
    }


def of_caption(text: str) -> str | None:
    """Return the measured value `language` of a picture with this caption; None without one."""
    return language_of(text) or None


def put_metadata(connection: Connection, numbers: dict[str, int], values: dict[str, dict[str, Any]]) -> None:
    same_keys: dict[frozenset[str], list[int]] = defaultdict(list)
    for id, seq in numbers.items():
        same_keys[frozenset(values[id])].append(seq)
    known = image_metadata.c
    for keys, changed in same_keys.items():
        for chunk in query.chunks(changed):
            connection.execute(
                delete(image_metadata).where(known.image_seq.in_(chunk), known.metadata_key.in_(sorted(keys)))
            )
    rows = [row for id, seq in numbers.items() for row in _measures(seq, values[id])]
    if rows:
        connection.execute(insert(image_metadata), rows)


def _measures(seq: int, values: dict[str, Any]) -> list[dict[str, Any]]:
    rows = []
    for key, value in values.items():
        number = float(value) if isinstance(value, bool | int | float) else None
        if value is None or (number is not None and not math.isfinite(number)):
            continue
        rows.append({"image_seq": seq, "metadata_key": key, "metadata_value": value, "number": number})
    return rows


def pair_key(pair: ImagePair) -> tuple[str, ...]:
    return (pair.dataset_id, *sorted((pair.first_id, pair.second_id)))


def without(pair: ImagePair) -> Any:
    dataset_id, first, second = pair_key(pair)
    same = tuple_(image_pairs.c.dataset_id, image_pairs.c.first_id, image_pairs.c.second_id)
    return delete(image_pairs).where(same == tuple_(dataset_id, first, second))
