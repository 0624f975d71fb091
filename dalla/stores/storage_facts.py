"""What the database knows about bytes on the disk: what came in since when, which files have a record."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import func, select

from dalla.stores.library import Library
from dalla.stores.schema import dataset_exports, datasets, images, media

_CHUNK = 500


class SqlStorageFacts:
    """Questions of the storage page to a Library. Sizes in bytes, moments as ISO texts."""

    def __init__(self, library: Library) -> None:
        self._library = library

    def added(self, since: str) -> dict[str, int]:
        """Return the bytes of pictures that came in since a moment: {"media", "datasets"}."""
        with self._library.read() as connection:
            return {
                name: int(
                    connection.execute(
                        select(func.coalesce(func.sum(table.c.size_bytes), 0)).where(table.c.created_at >= since)
                    ).scalar_one()
                )
                for name, table in (("media", media), ("datasets", images))
            }

    def first(self) -> str | None:
        """Return when the oldest picture came."""
        with self._library.read() as connection:
            moments = [connection.execute(select(func.min(t.c.created_at))).scalar() for t in (media, images)]
        return min((moment for moment in moments if moment), default=None)

    def media_paths(self) -> set[str]:
        """Return the keys of all files of the gallery, the trash included."""
        with self._library.read() as connection:
            return set(connection.execute(select(media.c.path)).scalars())

    def without_record(self, paths: Iterable[str]) -> set[str]:
        """Return those keys of gallery files that no record names."""
        return self._unknown(media.c.path, paths)

    def media_ids(self) -> set[str]:
        with self._library.read() as connection:
            return set(connection.execute(select(media.c.id)).scalars())

    def image_ids(self) -> set[str]:
        """Return the ids of all pictures of datasets."""
        with self._library.read() as connection:
            return set(connection.execute(select(images.c.id)).scalars())

    def gone(self, media_ids: Iterable[str], image_ids: Iterable[str]) -> set[str]:
        """Return which of these ids of gallery and dataset pictures have no record."""
        return self._unknown(media.c.id, media_ids) | self._unknown(images.c.id, image_ids)

    def trashed(self, before: str) -> list[dict[str, Any]]:
        """Return what went into the trash before a moment: {"kind": media | dataset | image, "id", "files", "bytes"}.

        Pictures of a trashed dataset are part of it.
        """
        whole = (
            select(datasets.c.id, func.count(images.c.id), func.coalesce(func.sum(images.c.size_bytes), 0))
            .select_from(datasets.outerjoin(images, images.c.dataset_id == datasets.c.id))
            .where(datasets.c.trashed_at < before)
            .group_by(datasets.c.id)
        )
        single = (
            select(images.c.id, images.c.size_bytes)
            .join(datasets, datasets.c.id == images.c.dataset_id)
            .where(images.c.trashed_at < before, datasets.c.trashed_at.is_(None))
        )
        with self._library.read() as connection:
            found = [
                {"kind": "media", "id": id, "files": 1, "bytes": size}
                for id, size in connection.execute(
                    select(media.c.id, media.c.size_bytes).where(media.c.trashed_at < before)
                )
            ]
            found += [
                {"kind": "dataset", "id": id, "files": count, "bytes": int(size)}
                for id, count, size in connection.execute(whole)
            ]
            found += [{"kind": "image", "id": id, "files": 1, "bytes": size} for id, size in connection.execute(single)]
        return found

    def is_trashed(self, kind: str, id: str) -> bool:
        """Whether this picture, dataset or picture of a dataset (media | dataset | image) lies in the trash now."""
        table = {"media": media, "dataset": datasets, "image": images}[kind]
        with self._library.read() as connection:
            return bool(connection.execute(select(table.c.trashed_at).where(table.c.id == id)).scalar())

    def exports(self, before: str) -> list[dict[str, Any]]:
        """Return finished exports of datasets made before a moment: {"datasetId", "number", "path", "bytes"}."""
        columns = (
            dataset_exports.c.dataset_id,
            dataset_exports.c.number,
            dataset_exports.c.path,
            dataset_exports.c.size_bytes,
        )
        query = select(*columns).where(dataset_exports.c.created_at < before, dataset_exports.c.path != "")
        with self._library.read() as connection:
            return [
                {"datasetId": row.dataset_id, "number": row.number, "path": row.path, "bytes": row.size_bytes}
                for row in connection.execute(query)
            ]

    def _unknown(self, column: Any, values: Iterable[str]) -> set[str]:
        wanted = list(dict.fromkeys(values))
        missing = set(wanted)
        with self._library.read() as connection:
            for start in range(0, len(wanted), _CHUNK):
                part = wanted[start : start + _CHUNK]
                missing -= set(connection.execute(select(column).where(column.in_(part))).scalars())
        return missing
