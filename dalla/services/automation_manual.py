"""Running rules by hand: which ones may, what that would publish at once, and starting them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Container
from datetime import datetime
from typing import Any

from dalla.errors import Conflict, NotConfigured, NotFound
from dalla.events import EventBus
from dalla.ids import new_id
from dalla.records.character import ScheduledTask
from dalla.records.run import Run
from dalla.services.automation_config import POSTS, platforms_of
from dalla.services.automation_runs import Runner
from dalla.services.automation_tasks import Rules
from dalla.services.automation_ticks import Ticker
from dalla.services.posts import Posts
from dalla.settings import Settings
from dalla.stores.base import RunStore
from dalla.times import iso

ALL_AT_ONCE = 500  # tasks one "run all" may start
GO_ON = "Let it go on first (Schedule, Go on)."


class ByHand:
    """ "Run now" and "Run again"."""

    def __init__(
        self,
        settings: Settings,
        rules: Rules,
        runs: RunStore,
        runner: Runner,
        ticker: Ticker,
        posts: Posts,
        events: EventBus,
        pauses: Callable[[], dict[str, Any]],
        now: Callable[[], datetime],
    ) -> None:
        self._settings = settings
        self._rules = rules
        self._runs = runs
        self._runner = runner
        self._ticker = ticker
        self._posts = posts
        self._events = events
        self._pauses = pauses
        self._now = now

    def runnable(self, id: str | None, without: Container[str] = ()) -> list[ScheduledTask]:
        """Return the rules "run now" means: the one named, or all that are active and can run and whose type is not `without`.

        Raises NotFound, InvalidInput (the one named cannot run), Conflict (stopped, its character switched off or gone).
        """
        pauses = self._pauses()
        if id is not None:
            task = self._rules.get(id)
            problem = self._rules.problem(task)
            if problem is not None:
                raise problem
            blocked = self._rules.blocked(task, pauses)
            if blocked is not None:
                raise Conflict(blocked, remedy=self._way_out(task, pauses))
            return [task]
        if pauses.get("all"):
            reason = (pauses["all"].get("reason") or "").strip()
            raise Conflict(f"Everything is stopped. {reason}".strip(), remedy=GO_ON)
        found = [
            task
            for task in self._rules.all()
            if task.active
            and task.type not in without
            and self._rules.problem(task) is None
            and self._rules.blocked(task, pauses) is None
        ]
        if len(found) > ALL_AT_ONCE:
            raise Conflict(
                f"{len(found)} tasks are active; at most {ALL_AT_ONCE} can be started at once.",
                remedy="Run the ones you need one by one.",
            )
        return found

    def _way_out(self, task: ScheduledTask, pauses: dict[str, Any]) -> str:
        if pauses.get("all"):
            return GO_ON
        if self._rules.unknown_character(task):
            return "Choose another character in the task, or bring the deleted one back."
        character = self._rules.character(task)
        return "Switch the character on first." if character and not character.is_active else GO_ON

    def live_posts(self, tasks: list[ScheduledTask], dry_run: bool | None = None) -> list[dict[str, Any]]:
        """Return which of these rules would publish live at once, and where.

        Each: {"id", "name", "characterId", "characterName", "platforms"}. Rehearsals and posts that wait for approval
        are not live.
        """
        found = []
        for task in tasks:
            character = self._rules.character(task)
            if task.type not in POSTS or character is None or dry_run or (task.dry_run and dry_run is None):
                continue
            if (task.config.get("approval") or self._settings.approval) == "required":
                continue
            live = []
            for platform in platforms_of(task.config):
                with contextlib.suppress(NotConfigured):
                    dry, _ = self._posts.effective_dry_run(character, platform, None)
                    live += [] if dry else [platform]
            if live:
                found.append(
                    {
                        "id": task.id,
                        "name": self._rules.label(task),
                        "characterId": character.id,
                        "characterName": character.name,
                        "platforms": live,
                    }
                )
        return found

    def run_now(
        self, id: str | None, *, dry_run: bool | None, confirmed: bool, without: Container[str] = ()
    ) -> list[Run]:
        """Start one rule, or all active ones but those of the types `without`, and return the runs.

        `dry_run=True` only rehearses, `False` does not although the rule says so. Raises what `runnable` raises, and
        with `confirmed=False` Conflict with the code `confirmation_needed` ({livePosts, tasks}) when live posts would
        follow.
        """
        tasks = self.runnable(id, without)
        live = [] if confirmed else self.live_posts(tasks, dry_run)
        if live:
            raise _ask(live)
        return [self._start(task, dry_run) for task in tasks]

    def retry(self, run: Run, *, dry_run: bool | None, confirmed: bool) -> Run:
        """Run the rule of a run again, now; a rehearsal stays one. Raises Conflict, InvalidInput."""
        if run.status in ("queued", "running", "waiting"):
            raise Conflict(f"The run is {run.status}; it can be run again when it has ended.")
        if self._rules.find(run.task_id) is None:
            raise Conflict("The task of this run was deleted.", remedy="Make a new task.")
        wanted = dry_run if dry_run is not None else (True if run.dry_run else None)
        return self.run_now(run.task_id, dry_run=wanted, confirmed=confirmed)[0]

    def _start(self, task: ScheduledTask, dry_run: bool | None) -> Run:
        run_id, now = new_id("run"), iso(self._now())
        run = self._runs.insert(
            Run(
                id=run_id,
                task_id=task.id,
                character_id=task.character_id,
                type=task.type,
                trigger="manual",
                slot=f"manual:{run_id}",
                dry_run=task.dry_run if dry_run is None else dry_run,
                created_at=now,
            )
        )
        fields = {"last_run_id": run.id, "last_run_at": now, "last_status": run.status}
        with self._ticker.lock:
            self._ticker.reconcile()
            with contextlib.suppress(NotFound):
                self._runs.edit_state(task.id, lambda state: state.with_(**fields))
        self._events.publish("run.updated", {"id": run.id, "taskId": task.id, "status": run.status})
        return self._runner.submit(run, task)


def _ask(live: list[dict[str, Any]]) -> Conflict:
    count = sum(len(task["platforms"]) for task in live)
    error = Conflict(
        f"This publishes {count} live post{'' if count == 1 else 's'} at once.",
        remedy="Confirm it, or make it a dry run.",
        extra={"livePosts": count, "tasks": live},
    )
    error.code = "confirmation_needed"  # type: ignore[misc]
    return error
