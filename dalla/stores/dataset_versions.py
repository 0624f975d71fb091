"""Immutable snapshots of datasets and the files made from them."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Table, delete, func, insert, select, update

from dalla.errors import NotFound
from dalla.records.dataset import DatasetExport, DatasetVersion
from dalla.stores.leases import serialize
from dalla.stores.library import Library
from dalla.stores.schema import dataset_exports, dataset_versions, datasets
from dalla.times import now_iso

#: The format of the row that stands for a deleted export.
_GONE = ""
_EXPORT_CHANGEABLE = set(DatasetExport.model_fields) - {"id", "dataset_id", "number", "created_at"}


class SqlDatasetVersions:
    """A DatasetVersionStore on a Library. Safe for threads and processes."""

    def __init__(self, library: Library) -> None:
        self._library = library

    # ------------------------------------------------------------------ versions

    def add(self, version: DatasetVersion) -> DatasetVersion:
        with self._library.write() as connection:
            number = _next(connection, dataset_versions, version.dataset_id)
            stored = version.with_(
                number=number, created_at=version.created_at or now_iso(), entries=version.entries or []
            )
            values = {name: getattr(stored, name) for name in DatasetVersion.model_fields}
            connection.execute(insert(dataset_versions).values(values))
        return stored

    def get(self, dataset_id: str, number: int) -> DatasetVersion:
        rows = dataset_versions
        query = select(rows).where(rows.c.dataset_id == dataset_id, rows.c.number == number)
        with self._library.read() as connection:
            row = connection.execute(query).one_or_none()
        if row is None:
            raise NotFound(
                f"The dataset has no version {number}.", remedy="The list of versions shows which there are."
            )
        return DatasetVersion.model_validate(row._asdict())

    def all(self, dataset_id: str) -> list[DatasetVersion]:
        columns = [column for column in dataset_versions.c if column.name != "entries"]
        query = select(*columns).where(dataset_versions.c.dataset_id == dataset_id)
        with self._library.read() as connection:
            rows = connection.execute(query.order_by(dataset_versions.c.number.desc()))
            return [DatasetVersion.model_validate(row._asdict()) for row in rows]

    def keys_in_versions(self, dataset_id: str) -> set[str]:
        query = select(dataset_versions.c.entries).where(dataset_versions.c.dataset_id == dataset_id)
        with self._library.read() as connection:
            lists = connection.execute(query).scalars()
            return {key for entries in lists for entry in entries for key in _keys(entry)}

    # ------------------------------------------------------------------ exports

    def add_export(self, export: DatasetExport) -> DatasetExport:
        with self._library.write() as connection:
            number = _next(connection, dataset_exports, export.dataset_id)
            stored = export.with_(number=number, created_at=export.created_at or now_iso())
            values = {name: getattr(stored, name) for name in DatasetExport.model_fields}
            connection.execute(insert(dataset_exports).values(values))
        return stored

    def update_export(self, id: str, **changes: Any) -> DatasetExport:
        unknown = changes.keys() - _EXPORT_CHANGEABLE
        if unknown:
            raise TypeError(f"not columns of exports that may change: {', '.join(sorted(unknown))}")
        with self._library.write() as connection:
            there = (dataset_exports.c.id == id) & (dataset_exports.c.format != _GONE)
            changed = update(dataset_exports).where(there).values(changes)
            row = connection.execute(changed.returning(*dataset_exports.c)).one_or_none()
        return _export(row, id)

    def export(self, dataset_id: str, number: int) -> DatasetExport:
        rows = dataset_exports
        query = select(rows).where(rows.c.dataset_id == dataset_id, rows.c.number == number, rows.c.format != _GONE)
        with self._library.read() as connection:
            row = connection.execute(query).one_or_none()
        if row is None:
            raise NotFound(f"The dataset has no export {number}.", remedy="The list of exports shows which there are.")
        return _export(row, "")

    def exports(self, dataset_id: str) -> list[DatasetExport]:
        mine = dataset_exports.c.dataset_id == dataset_id
        query = select(dataset_exports).where(mine, dataset_exports.c.format != _GONE)
        with self._library.read() as connection:
            return [_export(row, "") for row in connection.execute(query.order_by(dataset_exports.c.number.desc()))]

    def delete_export(self, id: str) -> DatasetExport:
        """Remove an export. Of the newest one a row without content stays: its number is never given again."""
        rows = dataset_exports
        with self._library.write() as connection:
            row = connection.execute(select(rows).where(rows.c.id == id, rows.c.format != _GONE)).one_or_none()
            gone = _export(row, id)
            nothing: dict[str, Any] = {"format": _GONE, "options": {}, "filename": "", "path": "", "sha256": ""}
            connection.execute(update(rows).where(rows.c.id == id).values(**nothing, size_bytes=0, task_id=None))
            mine = rows.c.dataset_id == gone.dataset_id
            newest = connection.execute(select(func.max(rows.c.number)).where(mine)).scalar_one()
            connection.execute(delete(rows).where(mine, rows.c.format == _GONE, rows.c.number < newest))
        return gone


def _next(connection: Connection, table: Table, dataset_id: str) -> int:
    """Return the next number of a dataset's versions or exports; two at once get two. Raises NotFound."""
    serialize(connection, f"{table.name}:{dataset_id}"[:64], now_iso())
    if connection.execute(select(datasets.c.seq).where(datasets.c.id == dataset_id)).scalar() is None:
        raise NotFound.of("dataset", dataset_id)
    query = select(func.coalesce(func.max(table.c.number), 0)).where(table.c.dataset_id == dataset_id)
    return int(connection.execute(query).scalar_one()) + 1


def _export(row: Any, id: str) -> DatasetExport:
    if row is None:
        raise NotFound.of("export", id)
    return DatasetExport.model_validate(row._asdict())


def _keys(entry: dict[str, Any]) -> list[str]:
    """The files an entry of a version names: the picture's and its mask's."""
    return [key for key in (entry.get("path"), (entry.get("mask") or {}).get("path")) if key]
