"""Scheduled tasks: the rules, what is due, what ran. The parts stand in automation_*.py; this is the door.

rules (automation_tasks)  ->  ticks: what is due fires once (automation_ticks)  ->  a run, as a job
(automation_runs), does what its type says (automation_types) and leaves posts to publishing, which
tells it how they ended.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable, Container
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from dalla.errors import DallaError, InvalidInput
from dalla.events import EventBus
from dalla.jobs.base import JobQueue
from dalla.records.character import ScheduledTask
from dalla.records.post import Post
from dalla.records.run import Run, TaskState
from dalla.services.automation_calendar import Occurrence, Upcoming, local_time
from dalla.services.automation_manual import ByHand
from dalla.services.automation_record import Work
from dalla.services.automation_runs import Runner
from dalla.services.automation_tasks import LABELS, Handler, Rules, TaskType, Validate, skips_of
from dalla.services.automation_ticks import LEASE, Ticker
from dalla.services.automation_types import Types
from dalla.services.captioning import Captioning
from dalla.services.characters import Characters
from dalla.services.gallery import Gallery
from dalla.services.generation import Generation
from dalla.services.notices import Notices
from dalla.services.posts import Posts
from dalla.services.prompts import Prompts
from dalla.services.publishing import Publishing
from dalla.settings import Settings
from dalla.stores.base import DocumentStore, LeaseStore, Page, RunStore
from dalla.times import iso, parse

logger = logging.getLogger(__name__)

RECOVER_SECONDS = 30
LOOK_SECONDS = 600
ENGINE_RETRIES = (30.0, 120.0, 300.0)


def _utc_now() -> datetime:
    return datetime.now(UTC)


class Automation:
    """Everything about scheduled tasks."""

    def __init__(
        self,
        settings: Settings,
        documents: DocumentStore[ScheduledTask],
        runs: RunStore,
        leases: LeaseStore,
        characters: Characters,
        generation: Generation,
        gallery: Gallery,
        captioning: Captioning,
        prompts: Prompts,
        posts: Posts,
        publishing: Publishing,
        notices: Notices,
        jobs: JobQueue,
        events: EventBus,
        data_dir: Path | str,
        *,
        owner: str | None = None,
        is_dead: Callable[[str], bool] = lambda owner: False,
        used_media: Callable[[str, str | None], set[str]] | None = None,
        engine_retries: tuple[float, ...] = ENGINE_RETRIES,
        now: Callable[[], datetime] = _utc_now,
    ) -> None:
        """`owner` names this process in the lease; `is_dead` tells whether the process of an owner is certainly gone."""
        self._settings = settings
        self._documents = documents
        self._runs = runs
        self._leases = leases
        self._characters = characters
        self._posts = posts
        self._publishing = publishing
        self._notices = notices
        self._events = events
        self._data = Path(data_dir)
        self._now = now
        self._owner = owner or getattr(jobs, "owner", None) or f"{socket.gethostname()}:{os.getpid()}"
        self._recovered: datetime | None = None  # when runs without a worker were looked for
        self._looked: datetime | None = None  # when all runs that wait for their posts were looked at
        self._rules = Rules(settings, documents, characters, now)
        self._runner = Runner(self._rules, runs, posts, notices, jobs, events, publishing.pauses, now)
        self._ticker = Ticker(
            settings,
            self._rules,
            runs,
            leases,
            events,
            owner=self._owner,
            is_dead=is_dead,
            pauses=publishing.pauses,
            characters=characters.all,
            submit=self._runner.submit,
            missed=self._tell_missed,
            now=now,
        )
        self._by_hand = ByHand(
            settings, self._rules, runs, self._runner, self._ticker, posts, events, publishing.pauses, now
        )
        self._upcoming = Upcoming(settings, self._rules, runs, characters.all, now)
        types = Types(
            settings,
            runs,
            generation,
            gallery,
            captioning,
            prompts,
            posts,
            jobs,
            publishing.wake,
            used_media=used_media,
            engine_retries=engine_retries,
        )
        self.register_type("generate_and_post", types.generate_and_post)
        self.register_type("generate_only", types.generate_only)
        self.register_type("post_existing", types.post_existing)
        self.register_type("backup", self._back_up, needs_character=False)

    def register_type(
        self,
        name: str,
        handler: Handler,
        validate: Validate | None = None,
        *,
        label: str | None = None,
        needs_character: bool = True,
    ) -> None:
        """Add a type of task. `handler(work) -> {"mediaIds", "postIds", …}` does it (see automation_record.Work);
        `validate(task) -> [{"field", "message"}]` says what is wrong with its config."""
        self._rules.types[name] = TaskType(name, label or LABELS.get(name, name), handler, validate, needs_character)

    # ------------------------------------------------------------ the clock

    def tick(self) -> int:
        """Fire what is due and mend what was left behind; return how many runs were started. Raises StorageError."""
        started = self._ticker.tick()
        now = self._now()
        if _passed(self._recovered, now, RECOVER_SECONDS):
            thorough = _passed(self._looked, now, LOOK_SECONDS)
            self._recovered = now
            self._looked = now if thorough else self._looked
            self._runner.recover(posts=thorough)
        return started

    def next_due(self) -> str | None:
        """Return when the next rule comes (ISO, UTC)."""
        return self._runs.next_due()

    def on_post_settled(self, post: Post) -> None:
        """Listen to publishing."""
        self._runner.on_post_settled(post)

    def close(self) -> None:
        """Let another process run the schedule at once."""
        try:
            self._ticker.release()
        except DallaError as exc:
            logger.warning("The schedule's lease could not be given back: %s", exc.detail)

    # ------------------------------------------------------------ rules

    def tasks(self) -> list[dict[str, Any]]:
        """Return every rule as the API shows it, in file order."""
        return self.public_many(list(self._rules.all()))

    def all(self) -> tuple[ScheduledTask, ...]:
        return self._rules.all()

    def public_many(self, tasks: list[ScheduledTask]) -> list[dict[str, Any]]:
        """Return these rules as the API shows them."""
        names = {character.id: character.name for character in self._characters.all()}
        states = self._runs.states() if len(tasks) > 1 else {}
        if len(tasks) == 1:
            state = self._runs.state(tasks[0].id)
            states = {tasks[0].id: state} if state else {}
        return [self._rules.public(task, states.get(task.id), names=names) for task in tasks]

    def get(self, id: str) -> ScheduledTask:
        """Raises NotFound."""
        return self._rules.get(id)

    def etag(self, task: ScheduledTask) -> str:
        return self._rules.etag(task)

    def public(self, task: ScheduledTask, *, full: bool = False) -> dict[str, Any]:
        """Return a rule as the API shows it; `full` adds the next runs."""
        answer = self.public_many([task])[0]
        if full:
            answer |= {"nextRuns": [], "runs": [], "notes": []}
            if answer["problem"] is None and answer["description"]:
                seen = self._upcoming.preview(task.schedule, answer["zone"], 10)
                answer |= {key: seen[key] for key in ("nextRuns", "runs", "notes")}
        return answer

    def create(self, values: dict[str, Any]) -> ScheduledTask:
        """Add a rule from snake_case values. Raises InvalidInput by field, Conflict, StorageError."""
        return self._changed(self._rules.create(values))

    def update(self, id: str, changes: dict[str, Any], *, if_match: str | None = None) -> ScheduledTask:
        """Change only the given fields. Raises NotFound, InvalidInput by field, Stale, StorageError."""
        return self._changed(self._rules.update(id, changes, if_match=if_match))

    def toggle(self, id: str, active: bool | None = None) -> ScheduledTask:
        """Switch a rule on or off; None: the other way round. Raises NotFound, InvalidInput (it cannot run)."""
        wanted = not self._rules.get(id).active if active is None else active
        return self.update(id, {"active": wanted})

    def delete(self, id: str) -> ScheduledTask:
        """Remove a rule; its runs and posts stay. Raises NotFound."""
        return self._changed(self._rules.delete(id))

    def _changed(self, task: ScheduledTask) -> ScheduledTask:
        self._ticker.reconcile()
        self._events.publish("schedule.updated", {"taskId": task.id})
        return task

    def skip(self, id: str, slot: str, skip: bool = True) -> ScheduledTask:
        """Leave one occurrence of a rule out, or take that back. Raises NotFound, InvalidInput (not a time of it)."""
        task = self._rules.get(id)
        timing = self._rules.timing(task)
        try:
            moment = parse(slot).astimezone(UTC)
        except (ValueError, OverflowError):
            raise InvalidInput.field(
                "slot", "Give the time of the occurrence, for example 2026-11-22T17:00:00.000Z."
            ) from None
        if skip:
            if moment <= self._now():
                raise InvalidInput.field("slot", "This time is over already.")
            if timing.next(moment - timedelta(seconds=1)) != moment:
                raise InvalidInput.field("slot", "The task does not run at this time.")
        named = iso(moment)

        def change(state: TaskState) -> TaskState:
            others = [kept for kept in skips_of(state) if kept != named and kept > iso(self._now())]
            return state.with_(data={**state.data, "skips": sorted([*others, named] if skip else others)})

        with self._ticker.lock:
            self._ticker.reconcile()
            self._runs.edit_state(id, change)
        self._events.publish("schedule.updated", {"taskId": id})
        return task

    def preview(
        self, schedule: str, timezone: str | None = None, count: int = 10, after: datetime | None = None
    ) -> dict[str, Any]:
        """Return an expression in words with its next times. Raises InvalidInput."""
        return self._upcoming.preview(schedule, timezone, count, after)

    def occurrences(
        self, start: datetime, end: datetime, character_id: str | None = None, limit: int = 2000
    ) -> list[Occurrence]:
        """Return what the active rules will do in [start, end), earliest first (see Upcoming.occurrences)."""
        return self._upcoming.occurrences(start, end, character_id, limit)

    # ------------------------------------------------------------ running by hand

    def run_now(
        self,
        id: str | None = None,
        *,
        dry_run: bool | None = None,
        confirmed: bool = True,
        without: Container[str] = (),
    ) -> list[Run]:
        """Start one rule, or all active ones but those of some types, and return the runs (see ByHand.run_now)."""
        return self._by_hand.run_now(id, dry_run=dry_run, confirmed=confirmed, without=without)

    def live_posts(self, id: str | None = None, *, dry_run: bool | None = None) -> list[dict[str, Any]]:
        """Return what "run now" would publish live at once (see ByHand.live_posts)."""
        return self._by_hand.live_posts(self._by_hand.runnable(id), dry_run)

    # ------------------------------------------------------------ runs

    def run(self, id: str) -> Run:
        """Raises NotFound."""
        return self._runs.get(id)

    def runs(
        self,
        *,
        task_id: str | None = None,
        character_id: str | None = None,
        statuses: list[str] | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> Page:
        """Return one page of runs, newest first."""
        return self._runs.page(
            task_id=task_id, character_id=character_id, statuses=statuses, limit=limit, cursor=cursor
        )

    def public_runs(self, runs: list[Run]) -> list[dict[str, Any]]:
        """Return runs as the API shows them, with the names of task and character and how long they took."""
        names = {character.id: character.name for character in self._characters.all()}
        tasks = {task.id: task for task in self._rules.all()} if runs else {}
        answers = []
        for run in runs:
            task = tasks.get(run.task_id)
            duration = None
            if run.started_at and run.finished_at:
                duration = round((parse(run.finished_at) - parse(run.started_at)).total_seconds() * 1000)
            answers.append(
                run.to_json()
                | {
                    "taskName": self._rules.label(task) if task else None,
                    "taskDeleted": task is None,
                    "characterName": names.get(run.character_id or ""),
                    "durationMs": duration,
                }
            )
        return answers

    def cancel_run(self, id: str) -> Run:
        """Stop a run and its posts that are not on their way. Raises NotFound, Conflict."""
        return self._runner.cancel(self._runs.get(id))

    def retry_run(self, id: str, *, dry_run: bool | None = None, confirmed: bool = True) -> Run:
        """Run the rule of a run again, now (see ByHand.retry)."""
        return self._by_hand.retry(self._runs.get(id), dry_run=dry_run, confirmed=confirmed)

    # ------------------------------------------------------------ the stop switch and the state

    def pause(self, reason: str, character_id: str | None = None) -> dict[str, Any]:
        """Stop everything, or one character: rules and posts. Raises NotFound."""
        if character_id is not None:
            self._characters.get(character_id)
        self._publishing.pause(reason, character_id)
        self._events.publish("schedule.updated", {})
        return self.state()

    def resume(self, character_id: str | None = None) -> dict[str, Any]:
        """Let everything, or one character, go on."""
        self._publishing.resume(character_id)
        self._events.publish("schedule.updated", {})
        return self.state()

    def state(self) -> dict[str, Any]:
        """Return who runs the schedule, what stops it, what comes next, and counts."""
        pauses = self._publishing.pauses()
        holder = self._leases.holder(LEASE)
        now = iso(self._now())
        alive = holder is not None and holder[1] >= now
        tasks = self._rules.all()
        zones = {character.id: character.timezone for character in self._characters.all()}
        broken = sum(1 for task in tasks if self._rules.problem(task, zones) is not None)
        file = self._documents.status()
        return {
            "paused": pauses.get("all"),
            "characters": pauses.get("characters") or {},
            "runner": {
                "owner": holder[0] if holder and alive else None,
                "heartbeatAt": holder[2] if holder else None,
                "thisProcess": bool(holder and alive and holder[0] == self._owner),
            },
            "nextDue": self._runs.next_due(),
            "counts": {
                "tasks": len(tasks),
                "active": sum(1 for task in tasks if task.active),
                "problems": broken,
                "runs": self._runs.counts(),
            },
            "file": {"ok": file.ok, "detail": file.detail or None, "skipped": file.skipped},
            "types": [
                {
                    "name": how.name,
                    "label": how.label,
                    "available": how.handler is not None,
                    "reason": how.missing or None,
                }
                for how in self._rules.types.values()
            ],
            "now": now,
        }

    # ------------------------------------------------------------ inside

    def _tell_missed(self, rows: list[Run]) -> None:
        """One notice for all that was missed, however much it is."""
        count = sum(int((run.result or {}).get("count", 1)) for run in rows)
        tasks = {run.task_id for run in rows}
        task = self._rules.find(rows[0].task_id)
        what = self._rules.label(task) if len(tasks) == 1 and task else f"{len(tasks)} tasks"
        many = "1 scheduled run was missed" if count == 1 else f"{count} scheduled runs were missed"
        try:
            self._notices.notify(
                "task.missed",
                many,
                f"{what}: {rows[0].reason or ''}".strip() if len(tasks) == 1 else f"They belong to {what}.",
                level="warning",
                href="/schedule.html?tab=runs&status=missed",
                action="Show them",
                key="scheduler:missed",
            )
        except Exception:  # noqa: BLE001 - the rows are written; the notice is an extra
            logger.exception("the notice of missed runs")

    def _back_up(self, work: Work) -> dict[str, Any]:
        from dalla.services.backup import KEEP, write_backup
        from dalla.services.restore_apply import roots_of

        self._characters.all()  # keys that somebody wrote into the file by hand go to the encrypted store first
        with work.record.step("backup") as note:
            made = write_backup(
                self._data,
                keep=int(work.config.get("keep") or KEEP),
                include_media=bool(work.config.get("includeMedia")),
                roots=roots_of(self._settings) if work.config.get("includeMedia") else {},
                now=self._now(),
                progress=work.context.progress,
            )
            note.detail = (
                f"{made['file']}, {_size(made['sizeBytes'])}, {made['files']} files, read back without a fault."
            )
            note.data |= {"file": made["file"], "sizeBytes": made["sizeBytes"]}
            if made["notes"]:
                note.detail += " " + " ".join(made["notes"])
        return {"backup": made}


def _passed(last: datetime | None, now: datetime, seconds: float) -> bool:
    """Whether so much time has passed, or the clock was set back."""
    return last is None or not 0 <= (now - last).total_seconds() < seconds


def _size(size: int) -> str:
    return f"{size / 1e6:.1f} MB" if size >= 1e5 else f"{size / 1e3:.0f} kB"


__all__ = ["Automation", "Occurrence", "local_time"]
