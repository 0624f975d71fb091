"""Datasets and their pictures in the library database. Captions are written by `dataset_captions.py`."""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Callable
from functools import partial
from threading import Lock
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Connection, delete, func, insert, or_, select, tuple_, update
from sqlalchemy.exc import IntegrityError

from dalla.errors import Conflict, NotFound
from dalla.records.dataset import Dataset, DatasetImage, ImageFilter, ImagePair
from dalla.stores import cursors
from dalla.stores import dataset_query as query
from dalla.stores import dataset_rows as rows
from dalla.stores.base import Page
from dalla.stores.dataset_stats import statistics
from dalla.stores.library import Library
from dalla.stores.schema import (
    dataset_exports,
    dataset_versions,
    datasets,
    image_metadata,
    image_pairs,
    images,
)
from dalla.times import now_iso

T = TypeVar("T")
_CHANGEABLE = set(Dataset.model_fields) - {"id", "created_at", "revision"}
#: Captions and their locks have a history, so they are written by the CaptionStore only.
_FIXED = {"id", "dataset_id", "created_at", "caption", "caption_source", "caption_locked"}
_IMAGE_CHANGEABLE = set(DatasetImage.model_fields) - _FIXED
_REMEMBERED = 500


class SqlDatasets:
    """A DatasetStore on a Library. Safe for threads and processes."""

    def __init__(self, library: Library) -> None:
        self._library = library
        self._remembered: OrderedDict[tuple[Any, ...], Any] = OrderedDict()
        self._lock = Lock()

    # ------------------------------------------------------------------ datasets

    def insert(self, dataset: Dataset) -> Dataset:
        created = dataset.created_at or now_iso()
        dataset = dataset.with_(created_at=created, updated_at=dataset.updated_at or created)
        try:
            with self._library.write() as connection:
                connection.execute(
                    insert(datasets).values({name: getattr(dataset, name) for name in Dataset.model_fields})
                )
        except IntegrityError as exc:
            raise Conflict(f"There is already a dataset with the id '{dataset.id}'.") from exc
        return dataset

    def get(self, id: str) -> Dataset:
        with self._library.read() as connection:
            return self._get(connection, id)

    def page(self, *, q: str = "", trashed: bool = False, limit: int = 50, cursor: str | None = None) -> Page:
        cursors.check_limit(limit)
        tests: list[ColumnElement[bool]] = [
            datasets.c.trashed_at.is_not(None) if trashed else datasets.c.trashed_at.is_(None)
        ]
        for word in q.split():
            # SQLite folds ASCII only: a word is also found as it was typed.
            columns = (datasets.c.name, datasets.c.description, datasets.c.trigger_word)
            tests.append(
                or_(
                    *(func.lower(c).contains(word.lower(), autoescape=True) for c in columns),
                    *(c.contains(word, autoescape=True) for c in columns),
                )
            )
        wanted = select(datasets).where(*tests)
        if cursor:
            wanted = wanted.where(
                tuple_(datasets.c.created_at, datasets.c.seq) < tuple_(*cursors.decode(cursor, "sets"))
            )
        wanted = wanted.order_by(datasets.c.created_at.desc(), datasets.c.seq.desc()).limit(limit + 1)
        with self._library.read() as connection:
            total = connection.execute(select(func.count()).select_from(datasets).where(*tests)).scalar_one()
            found = connection.execute(wanted).all()
        last = found[limit - 1] if len(found) > limit else None
        following = cursors.encode("sets", last.created_at, last.seq) if last is not None else None
        return Page([rows.dataset(row) for row in found[:limit]], following, total)

    def update(self, id: str, **changes: Any) -> Dataset:
        unknown = changes.keys() - _CHANGEABLE
        if unknown:
            raise TypeError(f"not columns of datasets that may change: {', '.join(sorted(unknown))}")
        with self._library.write() as connection:
            rows.raise_revision(connection, id, **changes)
            return self._get(connection, id)

    def delete(self, id: str) -> list[str]:
        with self._library.write() as connection:
            self._get(connection, id)
            mine = images.c.dataset_id == id
            keys = set(connection.execute(select(images.c.path).where(mine)).scalars())
            keys |= set(
                connection.execute(select(dataset_exports.c.path).where(dataset_exports.c.dataset_id == id)).scalars()
            )
            snapshots = select(dataset_versions.c.entries).where(dataset_versions.c.dataset_id == id)
            for entries in connection.execute(snapshots).scalars():
                keys |= {entry.get("path") or "" for entry in entries}
            connection.execute(delete(datasets).where(datasets.c.id == id))  # the rest goes with it
        return sorted(keys - {""})

    def trashed_before(self, moment: str) -> list[str]:
        old = select(datasets.c.id).where(datasets.c.trashed_at.is_not(None), datasets.c.trashed_at < moment)
        with self._library.read() as connection:
            return list(connection.execute(old.order_by(datasets.c.trashed_at, datasets.c.seq)).scalars())

    def counts(self, ids: list[str]) -> dict[str, dict[str, int]]:
        with self._library.read() as connection:
            return {
                id: dict(self._remember(id, revision, "counts", partial(rows.counts, connection, id)))
                for id, revision in self._revisions(connection, ids)
            }

    def covers(self, ids: list[str], each: int = 4) -> dict[str, list[str]]:
        with self._library.read() as connection:
            return {
                id: list(self._remember(id, revision, f"covers:{each}", partial(rows.covers, connection, id, each)))
                for id, revision in self._revisions(connection, ids)
            }

    # ------------------------------------------------------------------ pictures, reading

    def image(self, id: str) -> DatasetImage:
        found = self.images_by_id([id])
        if not found:
            raise NotFound.of("picture", id)
        return found[0]

    def images_by_id(self, ids: list[str]) -> list[DatasetImage]:
        found: dict[str, DatasetImage] = {}
        with self._library.read() as connection:
            for chunk in query.chunks(ids):
                for row in connection.execute(select(images).where(images.c.id.in_(chunk))):
                    found[row.id] = query.record(row)
        return [found[id] for id in dict.fromkeys(ids) if id in found]

    def images(
        self,
        dataset_id: str,
        where: ImageFilter,
        *,
        sort: str = "name",
        limit: int = 100,
        cursor: str | None = None,
        offset: int | None = None,
    ) -> Page:
        with self._library.read() as connection:
            total = self._known(connection, dataset_id, "total", where, query.count)
            size = self._known(connection, dataset_id, "total", ImageFilter(), query.count)
            order: dict[str, Any] = {"sort": sort, "limit": limit, "cursor": cursor, "offset": offset}
            return query.page(connection, dataset_id, where, total=total, size=size, **order)

    def image_ids(self, dataset_id: str, where: ImageFilter) -> list[str]:
        with self._library.read() as connection:
            return query.ids(connection, dataset_id, where)

    def facets(self, dataset_id: str, where: ImageFilter) -> dict[str, list[dict[str, Any]]]:
        with self._library.read() as connection:
            found = self._known(connection, dataset_id, "facets", where, query.facets)
        return {name: [dict(entry) for entry in entries] for name, entries in found.items()}

    def hashes(self, dataset_id: str, column: str, values: list[str]) -> dict[str, list[str]]:
        if column not in ("sha256", "pixel_sha256"):
            raise TypeError("pictures are found by sha256 or pixel_sha256")
        found: dict[str, list[str]] = defaultdict(list)
        with self._library.read() as connection:
            for chunk in query.chunks([value for value in dict.fromkeys(values) if value]):
                wanted = select(images.c[column], images.c.id).where(
                    images.c.dataset_id == dataset_id, images.c.trashed_at.is_(None), images.c[column].in_(chunk)
                )
                for value, id in connection.execute(wanted.order_by(images.c.seq)):
                    found[value].append(id)
        return dict(found)

    def filenames(self, dataset_id: str, kind: str) -> set[str]:
        taken = select(images.c.filename_key).where(images.c.dataset_id == dataset_id, images.c.kind == kind)
        with self._library.read() as connection:
            return set(connection.execute(taken).scalars())

    def trashed_images_before(self, moment: str) -> list[str]:
        old = select(images.c.id).where(images.c.trashed_at.is_not(None), images.c.trashed_at < moment)
        with self._library.read() as connection:
            return list(connection.execute(old.order_by(images.c.seq)).scalars())

    def sizes(self, dataset_id: str, where: ImageFilter) -> list[tuple[int, int, int, int]]:
        """Return (width, height, pictures, pictures times their repeats) of what matches, by size."""
        wanted = select(images.c.width, images.c.height, func.count(), func.sum(images.c.repeats))
        wanted = wanted.where(query.condition(dataset_id, where)).group_by(images.c.width, images.c.height)
        with self._library.read() as connection:
            found = connection.execute(wanted.order_by(images.c.width, images.c.height))
            return [(width, height, number, int(repeated)) for width, height, number, repeated in found]

    # ------------------------------------------------------------------ pictures, writing

    def add_images(self, images: list[DatasetImage], metadata: dict[str, dict[str, Any]] | None = None) -> None:
        if not images:
            return
        dataset_id = images[0].dataset_id
        if any(image.dataset_id != dataset_id for image in images):
            raise TypeError("pictures of one dataset are added at a time")
        now = now_iso()
        try:
            with self._library.write() as connection:
                rows.raise_revision(connection, dataset_id)
                rows.add(connection, [rows.dated(image, now) for image in images], metadata or {})
        except IntegrityError as exc:
            raise Conflict(
                "Some of these pictures, or their file names, are in the dataset already; none was added."
            ) from exc

    def update_images(self, ids: list[str], **changes: Any) -> list[str]:
        unknown = changes.keys() - _IMAGE_CHANGEABLE
        if unknown:
            raise TypeError(f"not columns of pictures that may change here: {', '.join(sorted(unknown))}")
        with self._library.write() as connection:
            found: dict[str, int] = query.seqs(connection, ids)
            numbers = list(found.values())
            try:
                for chunk in query.chunks(numbers):
                    values = {"updated_at": now_iso(), **changes}
                    values |= rows.derived(connection, values, chunk)
                    connection.execute(update(images).where(images.c.seq.in_(chunk)).values(values))
            except IntegrityError as exc:
                raise Conflict("There is already a picture with this file name in the dataset.") from exc
            rows.raise_revisions(connection, numbers)
        return [id for id in dict.fromkeys(ids) if id in found]

    def delete_images(self, ids: list[str]) -> list[DatasetImage]:
        with self._library.write() as connection:
            numbers = list(query.seqs(connection, ids).values())
            gone = query.read(connection, numbers)
            rows.raise_revisions(connection, numbers)
            for chunk in query.chunks(numbers):
                connection.execute(delete(images).where(images.c.seq.in_(chunk)))
            for chunk in query.chunks([image.id for image in gone]):
                for column in (image_pairs.c.first_id, image_pairs.c.second_id):
                    connection.execute(delete(image_pairs).where(column.in_(chunk)))
        return gone

    # ------------------------------------------------------------------ what was measured

    def put_metadata(self, dataset_id: str, values: dict[str, dict[str, Any]]) -> None:
        if not values:
            return
        with self._library.write() as connection:
            rows.raise_revision(connection, dataset_id)
            rows.put_metadata(connection, query.seqs(connection, list(values), dataset_id), values)

    def metadata(self, ids: list[str], keys: list[str] | None = None) -> dict[str, dict[str, Any]]:
        known = image_metadata.c
        found: dict[str, dict[str, Any]] = {}
        with self._library.read() as connection:
            for chunk in query.chunks(ids):
                wanted = select(images.c.id, known.metadata_key, known.metadata_value).join(
                    image_metadata, known.image_seq == images.c.seq
                )
                wanted = wanted.where(images.c.id.in_(chunk))
                if keys is not None:
                    wanted = wanted.where(known.metadata_key.in_(keys))
                for id, key, value in connection.execute(wanted):
                    found.setdefault(id, {})[key] = value
        return found

    def columns(self, dataset_id: str, keys: list[str], where: ImageFilter | None = None) -> list[tuple[Any, ...]]:
        known = image_metadata.c
        test = query.condition(dataset_id, where or ImageFilter())
        names = select(images.c.seq, images.c.id).where(test).order_by(images.c.filename_key, images.c.seq)
        wanted = select(known.image_seq, known.metadata_key, known.metadata_value).where(
            known.metadata_key.in_(keys), known.image_seq.in_(select(images.c.seq).where(test))
        )
        with self._library.read() as connection:
            values = {(seq, key): value for seq, key, value in connection.execute(wanted)}
            return [(id, *(values.get((seq, key)) for key in keys)) for seq, id in connection.execute(names)]

    def statistics(self, dataset_id: str, where: ImageFilter | None = None) -> dict[str, Any]:
        where = where or ImageFilter(excluded=False)
        with self._library.read() as connection:
            dataset = self._get(connection, dataset_id)
            return statistics(connection, dataset, where)

    # ------------------------------------------------------------------ pairs

    def pairs(self, dataset_id: str) -> list[ImagePair]:
        wanted = select(image_pairs).where(image_pairs.c.dataset_id == dataset_id)
        with self._library.read() as connection:
            found = connection.execute(wanted.order_by(image_pairs.c.first_id, image_pairs.c.second_id))
            return [ImagePair.model_validate(row._asdict()) for row in found]

    def save_pairs(self, pairs: list[ImagePair]) -> None:
        now = now_iso()
        with self._library.write() as connection:
            for pair in {rows.pair_key(pair): pair for pair in pairs}.values():
                connection.execute(rows.without(pair))
                first, second = sorted((pair.first_id, pair.second_id))
                row = {"first_id": first, "second_id": second, "created_at": pair.created_at or now}
                connection.execute(insert(image_pairs).values(dataset_id=pair.dataset_id, verdict=pair.verdict, **row))
            for dataset_id in {pair.dataset_id for pair in pairs}:
                rows.raise_revision(connection, dataset_id)

    def delete_pairs(self, pairs: list[ImagePair]) -> None:
        with self._library.write() as connection:
            for pair in pairs:
                connection.execute(rows.without(pair))
            for dataset_id in {pair.dataset_id for pair in pairs}:
                rows.raise_revision(connection, dataset_id)

    # ------------------------------------------------------------------ inside

    def _get(self, connection: Connection, id: str) -> Dataset:
        row = connection.execute(select(datasets).where(datasets.c.id == id)).one_or_none()
        if row is None:
            raise NotFound.of("dataset", id)
        return rows.dataset(row)

    def _revisions(self, connection: Connection, ids: list[str]) -> list[tuple[str, int]]:
        found: dict[str, int] = {}
        for chunk in query.chunks(ids):
            wanted = select(datasets.c.id, datasets.c.revision).where(datasets.c.id.in_(chunk))
            found.update((id, revision) for id, revision in connection.execute(wanted))
        return [(id, found[id]) for id in dict.fromkeys(ids) if id in found]

    def _known(
        self,
        connection: Connection,
        dataset_id: str,
        what: str,
        where: ImageFilter,
        work: Callable[[Connection, str, ImageFilter], T],
    ) -> T:
        """Return what was computed for this filter before, if the dataset did not change since, in whatever process."""
        revisions = self._revisions(connection, [dataset_id])
        if not revisions:
            raise NotFound.of("dataset", dataset_id)
        name = f"{what}:{where.model_dump_json(exclude_defaults=True)}"
        return self._remember(dataset_id, revisions[0][1], name, lambda: work(connection, dataset_id, where))

    def _remember(self, id: str, revision: int, what: str, work: Callable[[], T]) -> T:
        key = (id, revision, what)
        with self._lock:
            if key in self._remembered:
                self._remembered.move_to_end(key)
                return self._remembered[key]  # type: ignore[no-any-return]
        value = work()
        with self._lock:
            self._remembered[key] = value
            while len(self._remembered) > _REMEMBERED:
                self._remembered.popitem(last=False)
        return value
