"""Facts of weights, pins, the change log and measured peaks, in the library database."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Row, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from dalla.errors import NotFound
from dalla.records.shelf import FileFacts, ModelChange, ModelPin, Peak
from dalla.stores import cursors
from dalla.stores.library import Library
from dalla.stores.schema import media, media_loras
from dalla.stores.schema_shelf import model_changes as changes
from dalla.stores.schema_shelf import model_facts as facts
from dalla.stores.schema_shelf import model_peaks as peaks
from dalla.stores.schema_shelf import model_pins as pins
from dalla.times import now_iso

_PEAK_KEY = ("model", "device", "precision", "width", "height")
_FACTS = {"stamp", "sha256", "license", "notes"}


class SqlShelf:
    """A ShelfStore on a Library."""

    def __init__(self, library: Library) -> None:
        self._library = library

    # ------------------------------------------------------------ facts of files

    def facts(self) -> dict[str, FileFacts]:
        with self._library.read() as connection:
            return {row.id: FileFacts.model_validate(row._asdict()) for row in connection.execute(select(facts))}

    def save_facts(self, id: str, **values: Any) -> FileFacts:
        if unknown := values.keys() - _FACTS:
            raise TypeError(f"not columns of model_facts: {', '.join(sorted(unknown))}")
        change = update(facts).where(facts.c.id == id).values(**values, updated_at=now_iso()).returning(*facts.c)
        for _ in range(2):
            with self._library.write() as connection:
                row = connection.execute(change).one_or_none()
            if row is not None:
                return FileFacts.model_validate(row._asdict())
            try:
                with self._library.write() as connection:
                    connection.execute(insert(facts).values(id=id, stamp="", notes="", updated_at=now_iso()))
            except IntegrityError:
                pass  # another thread was first: its row is changed in the second round
        raise AssertionError("the row was just written")

    # ------------------------------------------------------------ pins

    def pins(self) -> dict[str, ModelPin]:
        with self._library.read() as connection:
            return {row.character_id: _pin(row) for row in connection.execute(select(pins))}

    def pin(self, character_id: str) -> ModelPin | None:
        with self._library.read() as connection:
            row = connection.execute(select(pins).where(pins.c.character_id == character_id)).one_or_none()
        return None if row is None else _pin(row)

    def save_pin(self, pin: ModelPin) -> ModelPin:
        pin = pin.with_(at=pin.at or now_iso())
        with self._library.write() as connection:
            connection.execute(delete(pins).where(pins.c.character_id == pin.character_id))
            connection.execute(
                insert(pins).values(
                    character_id=pin.character_id, state=pin.state.to_json(), actor=pin.actor, at=pin.at
                )
            )
        return pin

    def delete_pin(self, character_id: str) -> bool:
        with self._library.write() as connection:
            return connection.execute(delete(pins).where(pins.c.character_id == character_id)).rowcount == 1

    # ------------------------------------------------------------ the change log

    def add_change(self, change: ModelChange) -> ModelChange:
        change = change.with_(at=change.at or now_iso())
        values = {
            "id": change.id,
            "character_id": change.character_id,
            "kinds": list(change.kinds),
            "by": change.by,
            "actor": change.actor,
            "before": change.before.to_json() if change.before else None,
            "after": change.after.to_json(),
            "note": change.note,
            "at": change.at,
        }
        with self._library.write() as connection:
            connection.execute(insert(changes).values(**values))
        return change

    def change(self, id: str) -> ModelChange:
        with self._library.read() as connection:
            row = connection.execute(select(changes).where(changes.c.id == id)).one_or_none()
        if row is None:
            raise NotFound.of("model change", id)
        return _change(row)

    def last_change(self, character_id: str) -> ModelChange | None:
        query = select(changes).where(changes.c.character_id == character_id).order_by(changes.c.seq.desc()).limit(1)
        with self._library.read() as connection:
            row = connection.execute(query).one_or_none()
        return None if row is None else _change(row)

    def set_after(self, id: str, after: dict[str, Any]) -> None:
        with self._library.write() as connection:
            connection.execute(update(changes).where(changes.c.id == id).values(after=after))

    def changes(
        self, character_id: str, *, limit: int = 50, cursor: str | None = None
    ) -> tuple[list[ModelChange], str | None]:
        cursors.check_limit(limit)
        order = f"model_changes:{character_id}"
        query = select(changes).where(changes.c.character_id == character_id)
        if cursor:
            query = query.where(changes.c.seq < cursors.decode(cursor, order)[1])
        with self._library.read() as connection:
            rows = connection.execute(query.order_by(changes.c.seq.desc()).limit(limit + 1)).all()
        found = [_change(row) for row in rows[:limit]]
        after = cursors.encode(order, rows[limit - 1].at, rows[limit - 1].seq) if len(rows) > limit else None
        return found, after

    def last_used(self) -> tuple[dict[str, str], dict[str, str]]:
        models = (
            select(media.c.model, func.max(media.c.created_at))
            .where(media.c.model.is_not(None), media.c.trashed_at.is_(None))
            .group_by(media.c.model)
        )
        loras = select(media_loras.c.name, func.max(media_loras.c.created_at)).group_by(media_loras.c.name)
        with self._library.read() as connection:
            first, second = connection.execute(models).all(), connection.execute(loras).all()
        return {name: at for name, at in first}, {name: at for name, at in second}

    # ------------------------------------------------------------ measured memory

    def peaks(self, model: str | None = None) -> list[Peak]:
        query = select(peaks).order_by(peaks.c.at)
        if model is not None:
            query = query.where(peaks.c.model == model)
        with self._library.read() as connection:
            return [Peak.model_validate(row._asdict()) for row in connection.execute(query)]

    def save_peak(self, peak: Peak) -> None:
        values = {**peak.model_dump(), "at": peak.at or now_iso()}
        where = [peaks.c[name] == values[name] for name in _PEAK_KEY]
        with self._library.write() as connection:
            old = connection.execute(select(peaks.c.peak_bytes, peaks.c.stamp).where(*where)).one_or_none()
            if old is not None and old.stamp == peak.stamp and old.peak_bytes > peak.peak_bytes:
                values["peak_bytes"] = old.peak_bytes  # the same weights needed more before: that is the peak
            connection.execute(delete(peaks).where(*where))
            connection.execute(insert(peaks).values(**values))


def _pin(row: Row[Any]) -> ModelPin:
    return ModelPin.model_validate(row._asdict())


def _change(row: Row[Any]) -> ModelChange:
    return ModelChange.model_validate({k: v for k, v in row._asdict().items() if k != "seq"})
