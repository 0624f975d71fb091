"""Runs of scheduled tasks and what is remembered about each task, in the tables `runs` and `schedule_state`.

A slot of a task fires once: the index on (task_id, slot) and the condition on `next_due` decide it,
whoever ticks. Runs nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, bindparam, delete, func, insert, select, tuple_, update
from sqlalchemy.exc import IntegrityError

from dalla.errors import Conflict, NotFound
from dalla.records.run import Run, Step, TaskState
from dalla.stores import cursors
from dalla.stores.base import Page
from dalla.stores.library import Library
from dalla.stores.schema import runs, schedule_state
from dalla.times import now_iso

_ORDER = "runs"
_CHANGEABLE = {column.name for column in runs.c} - {"seq", "id", "task_id", "slot", "created_at"}
_FINISHED = ("completed", "failed", "skipped", "missed", "cancelled")
_UNFINISHED = ("queued", "running", "waiting")
_MANY = 500  # ids in one statement: SQLite takes a limited number of values
_STATE_COLUMNS = tuple(column.name for column in schedule_state.c)
Move = tuple[TaskState, Run | None, str | None]

# Built once: hundreds of rules may be due in the same second.
_INSERT = insert(runs)
_MOVE = (
    update(schedule_state)
    .where(schedule_state.c.task_id == bindparam("old_task"))
    .values({name: bindparam(f"new_{name}") for name in _STATE_COLUMNS if name != "task_id"})
)
_MOVE_DUE = _MOVE.where(schedule_state.c.next_due == bindparam("old_due"))
_MOVE_IDLE = _MOVE.where(schedule_state.c.next_due.is_(None))


class SqlRuns:
    """A RunStore on a Library. Every change of a status is one conditional update."""

    def __init__(self, library: Library) -> None:
        self._library = library

    # ------------------------------------------------------------ runs

    def insert(self, run: Run) -> Run:
        """Add a run. Raises Conflict when the id is taken or the task has a run for this slot."""
        run = run if run.created_at else run.with_(created_at=now_iso())
        try:
            with self._library.write() as connection:
                connection.execute(insert(runs).values(**_row(run)))
        except IntegrityError as exc:
            raise Conflict(f"The task has a run for {run.slot} already.") from exc
        return run

    def get(self, id: str) -> Run:
        """Raises NotFound."""
        with self._library.read() as connection:
            row = connection.execute(select(runs).where(runs.c.id == id)).one_or_none()
        if row is None:
            raise NotFound.of("run", id)
        return _run(row)

    def for_slot(self, task_id: str, slot: str) -> Run | None:
        """Return the run a slot of a task has; None when it did not fire."""
        with self._library.read() as connection:
            row = connection.execute(select(runs).where(runs.c.task_id == task_id, runs.c.slot == slot)).one_or_none()
        return None if row is None else _run(row)

    def update(self, id: str, *, only_from: frozenset[str] | None = None, **fields: Any) -> Run:
        """Set fields. Raises NotFound, Conflict (the status is not in `only_from`): exactly one caller wins."""
        unknown = fields.keys() - _CHANGEABLE
        if unknown:
            raise TypeError(f"not columns of runs that may change: {', '.join(sorted(unknown))}")
        if "steps" in fields:
            fields["steps"] = [Step.model_validate(step).to_json() for step in fields["steps"]]
        change = update(runs).where(runs.c.id == id).values(**fields).returning(*runs.c)
        if only_from is not None:
            change = change.where(runs.c.status.in_(sorted(only_from)))
        with self._library.write() as connection:
            row = connection.execute(change).one_or_none()
        if row is not None:
            return _run(row)
        now = self.get(id)
        raise Conflict(f"The run is {now.status} already.", extra={"runStatus": now.status})

    def page(
        self,
        *,
        task_id: str | None = None,
        character_id: str | None = None,
        statuses: list[str] | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> Page:
        """Return one page, newest first. Raises InvalidInput for a bad cursor or limit."""
        cursors.check_limit(limit)
        tests: list[ColumnElement[bool]] = []
        if task_id is not None:
            tests.append(runs.c.task_id == task_id)
        if character_id is not None:
            tests.append(runs.c.character_id == character_id)
        if statuses:
            tests.append(runs.c.status.in_(statuses))
        query = select(runs).where(*tests).order_by(runs.c.created_at.desc(), runs.c.seq.desc()).limit(limit + 1)
        if cursor:
            query = query.where(tuple_(runs.c.created_at, runs.c.seq) < tuple_(*cursors.decode(cursor, _ORDER)))
        with self._library.read() as connection:
            total = connection.execute(select(func.count()).select_from(runs).where(*tests)).scalar_one()
            rows = connection.execute(query).all()
        more = len(rows) > limit
        following = cursors.encode(_ORDER, rows[limit - 1].created_at, rows[limit - 1].seq) if more else None
        return Page([_run(row) for row in rows[:limit]], following, total)

    def unfinished(self) -> list[Run]:
        """Return the runs that are queued, running or waiting for their posts, oldest first."""
        query = select(runs).where(runs.c.status.in_(_UNFINISHED)).order_by(runs.c.created_at, runs.c.seq)
        with self._library.read() as connection:
            return [_run(row) for row in connection.execute(query)]

    def counts(self) -> dict[str, int]:
        """Return how many runs are in each status."""
        with self._library.read() as connection:
            found = connection.execute(select(runs.c.status, func.count()).group_by(runs.c.status)).all()
        return {**dict.fromkeys(_UNFINISHED + _FINISHED, 0), **{status: n for status, n in found}}

    def delete_before(self, moment: str) -> int:
        """Forget finished runs created before a moment; return how many."""
        old = delete(runs).where(runs.c.status.in_(_FINISHED), runs.c.created_at < moment)
        with self._library.write() as connection:
            return connection.execute(old).rowcount

    # ------------------------------------------------------------ what is remembered about tasks

    def state(self, task_id: str) -> TaskState | None:
        query = select(schedule_state).where(schedule_state.c.task_id == task_id)
        with self._library.read() as connection:
            row = connection.execute(query).one_or_none()
        return None if row is None else _state(row)

    def states(self, task_ids: Sequence[str] | None = None) -> dict[str, TaskState]:
        """Return the states of these tasks, or of all."""
        query = select(schedule_state)
        found: dict[str, TaskState] = {}
        parts = [None] if task_ids is None else [task_ids[n : n + _MANY] for n in range(0, len(task_ids), _MANY)]
        with self._library.read() as connection:
            for part in parts:
                some = query if part is None else query.where(schedule_state.c.task_id.in_(part))
                for row in connection.execute(some):
                    found[row[0]] = TaskState.model_validate(dict(zip(_STATE_COLUMNS, row, strict=True)))
        return found

    def dues(self) -> dict[str, str]:
        """Return when each task comes next; tasks that do not come are left out."""
        query = select(schedule_state.c.task_id, schedule_state.c.next_due)
        with self._library.read() as connection:
            return {id: due for id, due in connection.execute(query.where(schedule_state.c.next_due.is_not(None)))}

    def save_states(self, states: Sequence[TaskState]) -> None:
        """Insert or replace many in one transaction."""
        rows = {state.task_id: _state_row(state) for state in states}
        if not rows:
            return
        for attempt in (1, 2):
            try:
                with self._library.write() as connection:
                    _delete_states(connection, list(rows))
                    connection.execute(insert(schedule_state), list(rows.values()))
                return
            except IntegrityError:  # another process has just added one of them
                if attempt == 2:
                    raise

    def edit_state(self, task_id: str, change: Callable[[TaskState], TaskState]) -> TaskState:
        """Read, change and write one state as one step. Raises NotFound."""
        with self._library.write() as connection:
            query = select(schedule_state).where(schedule_state.c.task_id == task_id).with_for_update()
            row = connection.execute(query).one_or_none()
            if row is None:
                raise NotFound.of("scheduled task", task_id)
            state = change(_state(row))
            values = _state_row(state)
            connection.execute(update(schedule_state).where(schedule_state.c.task_id == task_id).values(**values))
        return state

    def delete_states(self, task_ids: Sequence[str]) -> None:
        if task_ids:
            with self._library.write() as connection:
                _delete_states(connection, list(task_ids))

    def due(self, now: str, *, limit: int = 1000) -> list[TaskState]:
        """Return the states whose `next_due` has come, oldest first."""
        query = (
            select(schedule_state)
            .where(schedule_state.c.next_due <= now)
            .order_by(schedule_state.c.next_due, schedule_state.c.task_id)
            .limit(limit)
        )
        with self._library.read() as connection:
            return [_state(row) for row in connection.execute(query)]

    def next_due(self) -> str | None:
        with self._library.read() as connection:
            return connection.execute(select(func.min(schedule_state.c.next_due))).scalar()

    def fire(self, state: TaskState, run: Run | None, *, expected_due: str | None) -> bool:
        """Move the task on to `state` and insert the run in one transaction; False, and nothing changed, when another
        process was first or the slot has a run already."""
        return self.fire_many([(state, run, expected_due)]) == [True]

    def fire_many(self, moves: Sequence[Move]) -> list[bool]:
        """Do several `fire`s in one durable transaction; each succeeds or fails for itself."""
        try:
            with self._library.write() as connection:
                return _fire(connection, moves)
        except IntegrityError:  # another process took a slot between our look and our insert
            if len(moves) == 1:
                return [False]
            return [self.fire(state, run, expected_due=due) for state, run, due in moves]


def _fire(connection: Connection, moves: Sequence[Move]) -> list[bool]:
    wanted = [(run.task_id, run.slot) for _, run, _ in moves if run is not None]
    taken: set[tuple[str, str]] = set()
    if wanted:
        slots = select(runs.c.task_id, runs.c.slot).where(tuple_(runs.c.task_id, runs.c.slot).in_(wanted))
        taken = {(task_id, slot) for task_id, slot in connection.execute(slots)}
    done: list[bool] = []
    rows: list[dict[str, Any]] = []
    for state, run, expected_due in moves:
        slot = None if run is None else (run.task_id, run.slot)
        moved = slot not in taken and _move(connection, state, expected_due)
        if moved and run is not None and slot is not None:
            taken.add(slot)
            rows.append(_row(run if run.created_at else run.with_(created_at=now_iso())))
        done.append(moved)
    if rows:
        connection.execute(_INSERT, rows)
    return done


def _move(connection: Connection, state: TaskState, expected_due: str | None) -> bool:
    values = {f"new_{name}": value for name, value in _state_row(state).items() if name != "task_id"}
    where = {"old_task": state.task_id} | ({} if expected_due is None else {"old_due": expected_due})
    return connection.execute(_MOVE_IDLE if expected_due is None else _MOVE_DUE, values | where).rowcount == 1


def _delete_states(connection: Connection, ids: list[str]) -> None:
    for start in range(0, len(ids), _MANY):
        some = ids[start : start + _MANY]
        connection.execute(delete(schedule_state).where(schedule_state.c.task_id.in_(some)))


def _row(run: Run) -> dict[str, Any]:
    values = {name: getattr(run, name) for name in Run.model_fields}
    values["steps"] = [step.to_json() for step in run.steps]
    return values


def _run(row: Row[Any]) -> Run:
    values = row._asdict()
    del values["seq"]
    return Run.model_validate(values)


def _state_row(state: TaskState) -> dict[str, Any]:
    values = {name: getattr(state, name) for name in TaskState.model_fields}
    values["updated_at"] = state.updated_at or now_iso()
    return values


def _state(row: Row[Any]) -> TaskState:
    return TaskState.model_validate(row._asdict())
