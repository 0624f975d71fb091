"""Background jobs in the table `background_tasks`. Runs nothing; queues in `dalla/jobs` do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import ColumnElement, Row, and_, delete, func, insert, select, tuple_, update
from sqlalchemy.exc import IntegrityError

from dalla.errors import Conflict, NotFound
from dalla.records.job import ACTIVE, FINISHED, TRANSITIONS, Job, Progress
from dalla.stores import cursors
from dalla.stores.library import Library
from dalla.stores.schema import background_tasks as tasks
from dalla.times import now_iso

_ORDER = "tasks"
_PROGRESS = tuple(Progress.model_fields)  # done, total, …: flat columns here, one object in the record
_TURNS = (tasks.c.turn, tasks.c.created_at, tasks.c.seq)  # the order in which a lane's work is taken
_CHANGEABLE = {column.name for column in tasks.c} - {"seq", "id", "status", "created_at"} | {"progress"}


class SqlTasks:
    """A TaskStore on a Library. Each transition is one conditional update, so exactly one caller wins."""

    def __init__(self, library: Library) -> None:
        self._library = library

    def insert(self, job: Job) -> Job:
        job = job if job.created_at else job.with_(created_at=now_iso())
        values = {name: getattr(job, name) for name in Job.model_fields}
        try:
            with self._library.write() as connection:
                connection.execute(insert(tasks).values(**_columns(values)))
        except IntegrityError as exc:
            raise Conflict(f"There is already a task with the id '{job.id}'.") from exc
        return job

    def get(self, id: str) -> Job:
        with self._library.read() as connection:
            row = connection.execute(select(tasks).where(tasks.c.id == id)).one_or_none()
        if row is None:
            raise NotFound.of("task", id)
        return _job(row)

    def page(
        self,
        *,
        statuses: list[str] | None = None,
        kind: str | None = None,
        character_id: str | None = None,
        quarantined: bool | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> tuple[list[Job], str | None, int]:
        cursors.check_limit(limit)
        tests: list[ColumnElement[bool]] = []
        if statuses:
            tests.append(tasks.c.status.in_(statuses))
        if kind is not None:
            tests.append(tasks.c.kind == kind)
        if character_id is not None:
            tests.append(tasks.c.character_id == character_id)
        if quarantined is not None:
            tests.append(tasks.c.quarantined.is_(quarantined))
        query = select(tasks).where(*tests).order_by(tasks.c.created_at.desc(), tasks.c.seq.desc()).limit(limit + 1)
        if cursor:
            query = query.where(tuple_(tasks.c.created_at, tasks.c.seq) < tuple_(*cursors.decode(cursor, _ORDER)))
        with self._library.read() as connection:
            total = connection.execute(select(func.count()).select_from(tasks).where(*tests)).scalar_one()
            rows = connection.execute(query).all()
        following = (
            cursors.encode(_ORDER, rows[limit - 1].created_at, rows[limit - 1].seq) if len(rows) > limit else None
        )
        return [_job(row) for row in rows[:limit]], following, total

    def claim(self, lane: str, owner: str, now: str, kinds: set[str] | None = None) -> Job | None:
        waiting = select(tasks.c.seq).where(_waits(lane))
        if kinds is not None:
            waiting = waiting.where(tasks.c.kind.in_(sorted(kinds)))
        waiting = waiting.order_by(*_TURNS).limit(1)
        with self._library.read() as connection:  # most looks find nothing, and need not wait for the write lock
            if connection.execute(waiting).scalar() is None:
                return None
        oldest = waiting.with_for_update(skip_locked=True).scalar_subquery()
        claimed = (
            update(tasks)
            .where(tasks.c.seq == oldest, tasks.c.status == "queued")
            .values(
                status="running",
                owner=owner,
                started_at=now,
                heartbeat_at=now,
                finished_at=None,
                attempt=tasks.c.attempt + 1,
                turn=0,
            )
            .returning(*tasks.c)
        )
        with self._library.write() as connection:
            row = connection.execute(claimed).one_or_none()
        return None if row is None else _job(row)

    def waiting(self, lane: str) -> list[str]:
        query = select(tasks.c.id).where(_waits(lane)).order_by(*_TURNS)
        with self._library.read() as connection:
            return list(connection.execute(query).scalars())

    def move_to_front(self, id: str) -> Job:
        others = tasks.alias()
        first = select(func.min(others.c.turn)).where(others.c.status == "queued", others.c.lane == tasks.c.lane)
        change = (
            update(tasks)
            .where(tasks.c.id == id, tasks.c.status == "queued")
            .values(turn=first.correlate(tasks).scalar_subquery() - 1)
            .returning(*tasks.c)
        )
        with self._library.write() as connection:
            row = connection.execute(change).one_or_none()
        if row is not None:
            return _job(row)
        now = self.get(id)
        raise Conflict(
            f"The task does not wait: it is {now.status}.",
            remedy="Only a task that waits can be moved to the front.",
            extra={"taskStatus": now.status},
        )

    def transition(
        self, id: str, to: str, *, only_from: set[str] | None = None, owned_by: str | None = None, **fields: Any
    ) -> Job:
        """See TaskStore. A job that is queued again loses its owner, its end, its turn and its wish to be cancelled."""
        allowed = {status for status, targets in TRANSITIONS.items() if to in targets}
        if only_from is not None:
            allowed &= only_from
        if to == "queued":
            fields = {"owner": None, "finished_at": None, "cancel_requested": False, "turn": 0, **fields}
        change = (
            update(tasks)
            .where(tasks.c.id == id, tasks.c.status.in_(sorted(allowed)))
            .values(status=to, **_columns(_checked(fields)))
            .returning(*tasks.c)
        )
        if owned_by is not None:
            change = change.where(tasks.c.owner == owned_by)
        with self._library.write() as connection:
            row = connection.execute(change).one_or_none()
        if row is not None:
            return _job(row)
        now = self.get(id)
        raise Conflict(f"The task is {now.status}; it cannot become {to} now.", extra={"taskStatus": now.status})

    def save_progress(self, id: str, owner: str, fields: dict[str, Any]) -> bool:
        """See TaskStore. Also True when the job is not this owner's any more: there is no point in going on."""
        change = (
            update(tasks)
            .where(tasks.c.id == id, tasks.c.owner == owner, tasks.c.status.in_(["running", "paused"]))
            .values(**_columns(_checked(fields)))
            .returning(tasks.c.cancel_requested)
        )
        with self._library.write() as connection:
            asked = connection.execute(change).scalar_one_or_none()
        return True if asked is None else asked

    def request_cancel(self, id: str) -> Job:
        mine = tasks.c.id == id
        at_once = (
            update(tasks)
            .where(mine, tasks.c.status.in_(["queued", "paused"]))
            .values(status="cancelled", cancel_requested=True, finished_at=now_iso())
            .returning(*tasks.c)
        )
        flag = update(tasks).where(mine, tasks.c.status == "running").values(cancel_requested=True).returning(*tasks.c)
        with self._library.write() as connection:
            row = connection.execute(at_once).one_or_none() or connection.execute(flag).one_or_none()
        if row is not None:
            return _job(row)
        raise Conflict(f"The task has finished already: it is {self.get(id).status}.")

    def orphans(self, *, alive_owner: Callable[[str], bool]) -> list[Job]:
        query = select(tasks).where(tasks.c.status == "running").order_by(tasks.c.created_at, tasks.c.seq)
        with self._library.read() as connection:
            jobs = [_job(row) for row in connection.execute(query)]
        return [job for job in jobs if job.owner is None or not alive_owner(job.owner)]

    def counts(self) -> dict[str, int]:
        with self._library.read() as connection:
            found = {s: n for s, n in connection.execute(select(tasks.c.status, func.count()).group_by(tasks.c.status))}
        return {status: found.get(status, 0) for status in sorted(ACTIVE | FINISHED)}

    def depth(self) -> dict[str, dict[str, int]]:
        active = tasks.c.status.in_(sorted(ACTIVE))
        query = select(tasks.c.lane, tasks.c.status, func.count()).where(active).group_by(tasks.c.lane, tasks.c.status)
        found: dict[str, dict[str, int]] = {}
        with self._library.read() as connection:
            for lane, status, count in connection.execute(query):
                found.setdefault(lane, dict.fromkeys(sorted(ACTIVE), 0))[status] = count
        return found

    def kinds(self) -> list[tuple[str, str, int]]:
        query = select(tasks.c.kind, tasks.c.status, func.count()).group_by(tasks.c.kind, tasks.c.status)
        with self._library.read() as connection:
            return [(kind, status, count) for kind, status, count in connection.execute(query)]

    def release(self, id: str) -> Job:
        change = (
            update(tasks)
            .where(tasks.c.id == id, tasks.c.quarantined.is_(True), tasks.c.status.in_(sorted(FINISHED)))
            .values(quarantined=False)
            .returning(*tasks.c)
        )
        with self._library.write() as connection:
            row = connection.execute(change).one_or_none()
        if row is not None:
            return _job(row)
        self.get(id)
        raise Conflict("This task is not quarantined.")

    def delete_finished(self, before: str) -> int:
        old = delete(tasks).where(tasks.c.status.in_(sorted(FINISHED)), tasks.c.finished_at < before)
        with self._library.write() as connection:
            return connection.execute(old).rowcount


def _waits(lane: str) -> ColumnElement[bool]:
    return and_(tasks.c.status == "queued", tasks.c.lane == lane, tasks.c.quarantined.is_(False))


def _checked(fields: dict[str, Any]) -> dict[str, Any]:
    unknown = fields.keys() - _CHANGEABLE
    if unknown:
        raise TypeError(f"not columns of background_tasks that may change: {', '.join(sorted(unknown))}")
    return fields


def _columns(fields: dict[str, Any]) -> dict[str, Any]:
    """Spread `progress` over its columns."""
    columns = dict(fields)
    progress = columns.pop("progress", None)
    if progress is not None:
        progress = Progress.model_validate(progress)
        columns.update((name, getattr(progress, name)) for name in _PROGRESS)
    return columns


def _job(row: Row[Any]) -> Job:
    values = row._asdict()
    del values["seq"]
    progress = {name: values.pop(name) for name in _PROGRESS}
    return Job.model_validate({**values, "progress": progress})
