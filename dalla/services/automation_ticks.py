"""Say what is due and fire it: one runner, each slot once, never a burst.

A rule's `next_due` is kept in the database and only moves forward through conditional updates, so two
processes (or a clock that is set back) cannot fire a slot twice. What was missed becomes one row.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

from dalla.errors import NotFound
from dalla.events import EventBus
from dalla.ids import new_id
from dalla.records.character import Character, ScheduledTask
from dalla.records.run import Run, TaskState
from dalla.services.automation_tasks import Rules, Timing, skips_of
from dalla.settings import Settings
from dalla.stores.base import LeaseStore, RunStore
from dalla.times import iso, parse

logger = logging.getLogger(__name__)

LEASE = "scheduler"
LEASE_SECONDS = 90
RENEW_SECONDS = 30
ON_TIME_SECONDS = 180  # a slot younger than this is still run as if on time (a slow tick, a quick restart)
JUMP_SECONDS = 60  # a clock that goes back further than this was set
COUNTED = 500  # missed slots are counted up to here
FEW = 100  # rules whose states are read rather than those of all
BATCH = 50  # slots fired in one transaction


Move = tuple[TaskState, Run | None, str | None]


class Ticker:
    """Keeps the states in step with the rules and fires what is due."""

    def __init__(
        self,
        settings: Settings,
        rules: Rules,
        runs: RunStore,
        leases: LeaseStore,
        events: EventBus,
        *,
        owner: str,
        is_dead: Callable[[str], bool],
        pauses: Callable[[], dict[str, Any]],
        characters: Callable[[], Sequence[Character]],
        submit: Callable[[Run, ScheduledTask], Any],
        missed: Callable[[list[Run]], None],
        now: Callable[[], datetime],
    ) -> None:
        """`submit` starts a queued run; `missed` is told of the rows of missed slots; `pauses` is the stop switch."""
        self._settings = settings
        self._rules = rules
        self._runs = runs
        self._leases = leases
        self._events = events
        self._owner = owner
        self._is_dead = is_dead
        self._pauses = pauses
        self._characters = characters
        self._submit = submit
        self._missed = missed
        self._now = now
        self.lock = threading.RLock()  # states are changed by the clock and by requests
        # What the states were computed from, so that an edit of one rule looks at one rule.
        self._revision: str | None = None
        self._context: tuple[Any, ...] | None = None
        self._zoned: Any = None
        self._zones: dict[str, str | None] = {}
        self._seen: dict[str, ScheduledTask] = {}
        self._held_until: datetime | None = None
        self._last_tick: datetime | None = None

    # ------------------------------------------------------------ the one runner

    def hold(self, now: datetime) -> bool:
        """Take or keep the lease; False while another process runs the schedule."""
        if self._held_until is not None:
            left = (self._held_until - now).total_seconds()
            if LEASE_SECONDS - RENEW_SECONDS < left <= LEASE_SECONDS:
                return True
        self._held_until = None
        until = now + timedelta(seconds=LEASE_SECONDS)
        if not self._leases.acquire(LEASE, self._owner, iso(now), iso(until)):
            holder = self._leases.holder(LEASE)
            if holder is None or not self._stale(holder[0], holder[1], now):
                return False
            logger.info("The process that ran the schedule is gone; taking over")
            self._leases.release(LEASE, holder[0])
            if not self._leases.acquire(LEASE, self._owner, iso(now), iso(until)):
                return False
        self._held_until = until
        return True

    def _stale(self, owner: str, until: str, now: datetime) -> bool:
        """Whether a lease cannot be meant: its process is gone, or it was taken before the clock was set back."""
        return self._is_dead(owner) or until > iso(now + timedelta(seconds=2 * LEASE_SECONDS))

    def release(self) -> None:
        """Let another process take over at once (at the end of this one)."""
        if self._held_until is not None:
            self._held_until = None
            self._leases.release(LEASE, self._owner)

    # ------------------------------------------------------------ states

    def reconcile(self, *, force: bool = False) -> int:
        """Bring the states in step with the rules; return how many changed. Quick while nothing has changed."""
        with self.lock:
            characters = self._characters()
            now = self._now()
            installed = tuple(name for name, how in self._rules.types.items() if how.handler)
            context = (self._settings.timezone, installed)
            revision = self._rules.revision()
            same = not force and self._context == context and self._zoned is characters
            if same and self._revision == revision:
                return 0
            zones = {character.id: character.timezone for character in characters}
            same = same or (not force and self._context == context and zones == self._zones)
            rules = self._rules.all()
            before = self._seen if same else {}
            look = [task for task in rules if before.get(task.id) is not task]
            states = self._states_of(look) if same else self._runs.states()
            changed: list[TaskState] = []
            horizon = iso(now + timedelta(seconds=JUMP_SECONDS))
            for task in look:
                runnable = task.active and self._rules.problem(task, zones) is None
                zone_name = self._rules.zone_name(task, zones)
                fingerprint = self._rules.fingerprint(task, zone_name, runnable)
                state = states.get(task.id)
                if state is not None and state.fingerprint == fingerprint and state.updated_at <= horizon:
                    continue
                upcoming = self._rules.timing(task, zones).next(now) if runnable else None
                fields: dict[str, Any] = {
                    "fingerprint": fingerprint,
                    "next_due": iso(upcoming) if upcoming else None,
                    "updated_at": iso(now),
                }
                changed.append(state.with_(**fields) if state else TaskState(task_id=task.id, **fields))
            seen = {task.id: task for task in rules}
            gone = (self._seen if same else states).keys() - seen.keys()
            self._runs.save_states(changed)
            self._runs.delete_states(sorted(gone))
            self._revision, self._context, self._zoned = revision, context, characters
            self._zones, self._seen = zones, seen
            return len(changed) + len(gone)

    def _states_of(self, tasks: list[ScheduledTask]) -> dict[str, TaskState]:
        """Read the states of some rules, without reading all of them while they are few."""
        return self._runs.states([task.id for task in tasks]) if len(tasks) <= FEW else self._runs.states()

    # ------------------------------------------------------------ firing

    def tick(self) -> int:
        """Fire what is due; return how many runs were started. Nothing when another process runs the schedule."""
        with self.lock:
            now = self._now()
            set_back = self._last_tick is not None and now < self._last_tick - timedelta(seconds=JUMP_SECONDS)
            self._last_tick = now
            if not self.hold(now):
                return 0
            changed = self.reconcile(force=set_back)
            started: list[tuple[Run, ScheduledTask]] = []
            missed: list[Run] = []
            seen: set[tuple[str, str | None]] = set()
            while True:
                due = [s for s in self._runs.due(iso(now)) if (s.task_id, s.next_due) not in seen]
                if not due:
                    break
                seen |= {(state.task_id, state.next_due) for state in due}
                pauses = self._pauses()
                for start in range(0, len(due), BATCH):
                    self._fire(due[start : start + BATCH], now, pauses, started, missed)
        for run, task in started:
            try:
                self._submit(run, task)
            except Exception:  # noqa: BLE001 - the others go on; this one is found again and submitted later
                logger.exception("Run %s could not be queued", run.id)
        if missed:
            self._missed(missed)
        if started or missed or changed:
            self._events.publish("schedule.updated", {})
        return len(started)

    def _fire(
        self,
        due: list[TaskState],
        now: datetime,
        pauses: dict[str, Any],
        started: list[tuple[Run, ScheduledTask]],
        missed: list[Run],
    ) -> None:
        plans = [self._plan(state, now, pauses) for state in due]
        results = iter(self._runs.fire_many([move for plan in plans for move in plan.moves]))
        for plan in plans:
            done = [next(results) for _ in plan.moves]
            for (_, run, _), fired in zip(plan.moves, done, strict=True):
                if run is None or not fired:
                    continue
                if run.status == "queued" and plan.task is not None:
                    started.append((run, plan.task))
                elif run.status == "missed":
                    missed.append(run)
                self._events.publish("run.updated", {"id": run.id, "taskId": run.task_id, "status": run.status})
            if not all(done):
                self._pass_over(plan)
            elif plan.also is not None:
                self._skip_again(plan.also, now)

    def _pass_over(self, plan: _Plan) -> None:
        """A slot did not fire: another process was first, or it had a run before the clock was set back."""
        after, run, _ = plan.moves[-1]
        if run is None or self._runs.for_slot(run.task_id, run.slot) is None:
            return
        current = self._runs.state(after.task_id)
        if current is not None and current.next_due is not None and current.next_due <= iso(self._now()):
            moved = current.with_(next_due=after.next_due, updated_at=after.updated_at)
            self._runs.fire(moved, None, expected_due=current.next_due)

    def _skip_again(self, note: dict[str, Any], now: datetime) -> None:
        """Add a slot to the row that says the rule is being skipped, instead of a row per slot."""
        try:
            run = self._runs.get(note["runId"])
            result = dict(run.result or {})
            result["count"] = int(result.get("count", 1)) + note["count"]
            result["last"] = note["last"]
            self._runs.update(run.id, result=result, finished_at=iso(now))
            self._events.publish("run.updated", {"id": run.id, "taskId": run.task_id, "status": run.status})
        except NotFound:
            pass

    def _plan(self, state: TaskState, now: datetime, pauses: dict[str, Any]) -> _Plan:
        """Decide what becomes of a rule whose time has come."""
        due = state.next_due
        assert due is not None
        task = self._rules.find(state.task_id)
        if task is None or not task.active or self._rules.problem(task, self._zones) is not None:
            idle = state.with_(next_due=None, updated_at=iso(now))
            return _Plan([(idle, None, due)], task, None)
        timing = self._rules.timing(task, self._zones)
        first = parse(due)
        newest = timing.cron.newest(first - timedelta(seconds=1), now, timing.zone) or first
        upcoming = timing.next(now)
        skips = [slot for slot in skips_of(state) if slot > iso(now)]
        data = {k: v for k, v in state.data.items() if k not in ("skip", "skips")} | ({"skips": skips} if skips else {})
        after = state.with_(
            next_due=iso(upcoming) if upcoming else None, last_slot=iso(newest), data=data, updated_at=iso(now)
        )
        blocked = self._rules.blocked(task, pauses)
        if blocked is not None:
            return self._skipped(state, after, task, timing, first, newest, blocked, now)
        late = (now - newest).total_seconds()
        if iso(newest) in skips_of(state):
            run = self._run(task, iso(newest), now, status="skipped", reason="This run was left out by hand.")
        elif late <= ON_TIME_SECONDS:
            run = self._run(task, iso(newest), now, late=late)
        elif task.missed_run_policy == "run_once" and late <= self._settings.missed_run_minutes * 60:
            run = self._run(task, iso(newest), now, late=late, trigger="catch_up")
        else:
            row = self._missed_row(task, timing, first, newest, now)
            return _Plan([(_ran(after, row), row, due)], task, timing)
        if first == newest:
            return _Plan([(_ran(after, run), run, due)], task, timing)
        before = timing.cron.newest(first - timedelta(seconds=1), newest - timedelta(seconds=1), timing.zone) or first
        row = self._missed_row(task, timing, first, before, now)
        moved = state.with_(next_due=iso(newest), updated_at=iso(now))
        return _Plan([(moved, row, due), (_ran(after, run), run, iso(newest))], task, timing)

    def _skipped(
        self,
        state: TaskState,
        after: TaskState,
        task: ScheduledTask,
        timing: Timing,
        first: datetime,
        newest: datetime,
        reason: str,
        now: datetime,
    ) -> _Plan:
        count = len(timing.cron.between(first, newest + timedelta(seconds=1), timing.zone, COUNTED)) or 1
        note = state.data.get("skip")
        if isinstance(note, dict) and note.get("reason") == reason and note.get("runId"):
            again = {"runId": note["runId"], "count": count, "last": iso(newest)}
            return _Plan([(after.with_(data={**after.data, "skip": note}), None, state.next_due)], task, timing, again)
        result = {"count": count, "first": iso(first), "last": iso(newest)}
        run = self._run(task, iso(newest), now, status="skipped", reason=reason, result=result)
        kept = after.with_(data={**after.data, "skip": {"runId": run.id, "reason": reason}})
        return _Plan([(_ran(kept, run), run, state.next_due)], task, timing)

    def _missed_row(self, task: ScheduledTask, timing: Timing, first: datetime, last: datetime, now: datetime) -> Run:
        count = len(timing.cron.between(first, last + timedelta(seconds=1), timing.zone, COUNTED)) or 1
        began = first.astimezone(timing.zone)
        if first == last:
            reason = f"The app was not running at {began:%d %b %Y %H:%M} ({timing.zone_name})."
        else:
            ended = last.astimezone(timing.zone)
            many = f"more than {COUNTED - 1}" if count >= COUNTED else str(count)
            reason = (
                f"The app was not running for {many} runs from {began:%d %b %Y %H:%M} to {ended:%d %b %Y %H:%M} "
                f"({timing.zone_name})."
            )
        result = {"count": count, "first": iso(first), "last": iso(last)}
        slot = f"missed:{iso(last)}"  # not the slot itself: after a clock was set wrong, it may yet come
        return self._run(task, slot, now, status="missed", reason=reason, result=result)

    def _run(
        self,
        task: ScheduledTask,
        slot: str,
        now: datetime,
        *,
        status: str = "queued",
        trigger: str = "cron",
        late: float | None = None,
        **more: Any,
    ) -> Run:
        return Run.model_validate(
            {
                "id": new_id("run"),
                "task_id": task.id,
                "character_id": task.character_id,
                "type": task.type,
                "trigger": trigger,
                "slot": slot,
                "status": status,
                "dry_run": task.dry_run,
                "late_seconds": None if late is None else round(late, 3),
                "created_at": iso(now),
                "finished_at": None if status == "queued" else iso(now),
                **more,
            }
        )


class _Plan:
    """The moves of one rule; `also` adds to a skipped row once they are done."""

    def __init__(
        self,
        moves: list[Move],
        task: ScheduledTask | None,
        timing: Timing | None,
        also: dict[str, Any] | None = None,
    ) -> None:
        self.moves = moves
        self.task = task
        self.timing = timing
        self.also = also


def _ran(state: TaskState, run: Run) -> TaskState:
    return state.with_(last_run_id=run.id, last_run_at=run.created_at, last_status=run.status)
