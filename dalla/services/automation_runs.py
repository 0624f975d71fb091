"""Run what has fired: the job of a run, its end, the posts it waits for, and what a crash left behind."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from dalla.errors import Cancelled, Conflict, DallaError, InvalidInput, NotFound, Problem, internal_problem
from dalla.events import EventBus
from dalla.jobs.base import Context, JobQueue
from dalla.records.character import ScheduledTask
from dalla.records.post import IN_FLIGHT, SETTLED, Post, PostFilter
from dalla.records.run import Run, Step
from dalla.services.automation_record import WORKING, RunRecord, Skip, Work
from dalla.services.automation_tasks import Rules
from dalla.services.automation_types import LABELS
from dalla.services.notices import Notices
from dalla.services.posts import Posts
from dalla.stores.base import RunStore
from dalla.times import iso, parse

logger = logging.getLogger(__name__)

KIND = "run_task"
LOST_SECONDS = 30  # a queued run without a job is queued again after this
AGAIN = frozenset({"queued", "running", "failed", "cancelled"})
POSTS_FAILED = "post_failed"


class Runner:
    """Executes runs as jobs of the lane `runs` and brings them to their end."""

    def __init__(
        self,
        rules: Rules,
        runs: RunStore,
        posts: Posts,
        notices: Notices,
        jobs: JobQueue,
        events: EventBus,
        pauses: Callable[[], dict[str, Any]],
        now: Callable[[], datetime],
    ) -> None:
        self._rules = rules
        self._pauses = pauses
        self._runs = runs
        self._posts = posts
        self._notices = notices
        self._jobs = jobs
        self._events = events
        self._now = now
        # Restartable: every step is on disk, so a run that is started again goes on after the last one.
        jobs.register(KIND, self.run, lane="runs", restartable=True)

    # ------------------------------------------------------------ starting

    def submit(self, run: Run, task: ScheduledTask) -> Run:
        """Queue a run. What it does is settled now: later edits of the rule count from the next run on."""
        job = self._jobs.submit(
            KIND,
            {"runId": run.id, "task": task.to_json()},
            title=self._rules.label(task),
            character_id=run.character_id,
        )
        try:
            return self._runs.update(run.id, only_from=WORKING, job_id=job.id)
        except Conflict:  # it has ended already
            return self._runs.get(run.id)

    def run(self, context: Context, payload: dict[str, Any]) -> dict[str, Any]:
        """Do one run. The handler of the job kind `run_task`."""
        run = self._runs.get(payload["runId"])
        mine = run.job_id in (None, context.job.id)
        if not mine and not self._job_finished(run.job_id):
            return {"runId": run.id, "status": run.status}  # another job is at it
        again = run.status in ("failed", "cancelled") and context.job.attempt > 1 and mine
        if run.status not in WORKING and not again:
            return {"runId": run.id, "status": run.status}
        run = self._runs.update(
            run.id,
            only_from=AGAIN,
            status="running",
            job_id=context.job.id,
            started_at=run.started_at or iso(self._now()),
            finished_at=None,
            error=None,
            reason=None,
        )
        record = RunRecord(run, self._runs, self._events, self._now)
        record.tell()
        try:
            task = ScheduledTask.model_validate(payload["task"])
            made = self._handle(context, task, record)
            return self._made(record, made)
        except Skip as skip:
            self._end(record, "failed" if skip.alert else "skipped", reason=skip.reason, alert=skip.alert)
            return {"runId": run.id, "status": record.run.status, "reason": skip.reason}
        except Cancelled as exc:
            if self._jobs.get(context.job.id).cancel_requested:  # else the app is closing, and the run goes on later
                self._end(record, "cancelled", error=exc.problem(), reason="Cancelled by hand.")
            raise
        except DallaError as exc:
            self._end(record, "failed", error=exc.problem())
            raise
        except Exception:
            self._end(record, "failed", error=internal_problem() | {"requestId": context.job.id})
            raise

    def _handle(self, context: Context, task: ScheduledTask, record: RunRecord) -> dict[str, Any]:
        how = self._rules.types.get(task.type)
        if how is None or how.handler is None:
            missing = how.missing if how else f"There is no task of the type '{task.type}'."
            raise InvalidInput.field("type", missing)
        blocked = None if record.run.steps else self._rules.blocked(task, self._pauses())
        character = self._rules.character(task)
        if blocked and (character is not None or not how.needs_character):
            raise Skip(blocked)  # stopped while it waited for its turn
        if how.needs_character and character is None:
            raise NotFound(
                self._rules.unknown_character(task) or "The character is gone.",
                remedy="Choose another character in the task, or bring the deleted one back.",
            )
        return how.handler(Work(context, task, record, character)) or {}

    def _made(self, record: RunRecord, made: dict[str, Any]) -> dict[str, Any]:
        """End the run, or let it wait for its posts."""
        media_ids, post_ids = made.get("mediaIds") or [], made.get("postIds") or []
        result = {k: v for k, v in made.items() if k not in ("mediaIds", "postIds")} or None
        if not post_ids:
            self._end(record, "completed", media_ids=media_ids, result=result)
            return {"runId": record.run.id, "status": "completed", "mediaIds": media_ids, **(result or {})}
        record.update(status="waiting", media_ids=media_ids, post_ids=post_ids, result=result)
        record.tell()
        self._remember(record.run)
        run = self.settle(record.run)
        return {"runId": run.id, "status": run.status, "mediaIds": media_ids, "postIds": post_ids}

    # ------------------------------------------------------------ ending

    def _end(self, record: RunRecord, status: str, *, alert: bool = False, **fields: Any) -> None:
        detail = (fields.get("error") or {}).get("detail") or fields.get("reason") or ""
        if alert:
            fields["error"] = Conflict(
                fields["reason"], remedy="Make or import pictures, or let the task make a new one when there is none."
            ).problem() | {"code": "nothing_to_post"}
        try:
            record.update(status=status, finished_at=iso(self._now()), steps=record.close_steps(detail), **fields)
        except Conflict:
            logger.warning("Run %s had ended already when it became %s", record.run.id, status)
            return
        self._ended(record.run)

    def _ended(self, run: Run) -> None:
        """Tell everybody. The row is written; nothing here may change the outcome."""
        self._remember(run)
        self._events.publish("run.updated", {"id": run.id, "taskId": run.task_id, "status": run.status})
        try:
            self._tell_people(run)
        except Exception:  # noqa: BLE001 - see above
            logger.exception("after run %s became %s", run.id, run.status)

    def _remember(self, run: Run) -> None:
        try:
            self._runs.edit_state(
                run.task_id,
                lambda state: state.with_(last_status=run.status) if state.last_run_id == run.id else state,
            )
        except NotFound:
            pass  # the task was deleted while it ran

    def _tell_people(self, run: Run) -> None:
        key = f"run:{run.task_id}"
        task = self._rules.find(run.task_id)
        label = self._rules.label(task) if task else "A scheduled task"
        character = self._rules.character(task) if task else None
        error = run.error or {}
        data = {
            "runId": run.id,
            "taskId": run.task_id,
            "name": label,
            "type": run.type,
            "trigger": run.trigger,
            "slot": run.slot,
            "characterId": run.character_id,
            "characterName": character.name if character else None,
            "dryRun": run.dry_run,
            "mediaIds": run.media_ids,
            "postIds": run.post_ids,
            "error": error.get("detail"),
        }
        if run.status == "completed":
            self._notices.resolve(key)
            self._notices.emit("task.completed", data)
        elif run.status == "failed":
            if error.get("code") != POSTS_FAILED:  # publishing has told about a post that failed
                detail = " ".join(text for text in (error.get("detail"), error.get("remedy")) if text)
                self._notices.notify(
                    "task.failed",
                    f"{label} failed",
                    detail,
                    level="error",
                    href=f"/schedule.html?tab=runs&run={run.id}",
                    action="Open the run",
                    character_id=run.character_id,
                    key=key,
                )
            self._notices.emit("task.failed", data)

    # ------------------------------------------------------------ posts it waits for

    def on_post_settled(self, post: Post) -> None:
        """Called by publishing after a post has come to an end (or to a question)."""
        if post.run_id:
            try:
                run = self._runs.get(post.run_id)
            except NotFound:
                return
            self.settle(run)

    def settle(self, run: Run) -> Run:
        """End a run whose posts have all come to an end; also when one that had failed goes out after all."""
        over = run.status == "waiting" or (
            run.status in ("failed", "cancelled") and (run.error or {}).get("code") == POSTS_FAILED
        )
        if not over or not run.post_ids:
            return run
        posts = {post.id: post for post in self._posts.page(PostFilter(run_id=run.id), limit=50).items}
        steps = [_settled_step(step, posts) for step in run.steps]
        waiting = any(id in posts and posts[id].status not in SETTLED for id in run.post_ids)
        if waiting:
            if run.status == "waiting" and steps != run.steps:
                run = self._set(run, steps=steps)
            return run
        status, error = _outcome(run, steps, posts)
        if status == run.status and error == run.error:
            return run
        ended = self._set(run, status=status, error=error, steps=steps, finished_at=iso(self._now()))
        if ended is not run:
            self._ended(ended)
        return ended

    def _set(self, run: Run, **fields: Any) -> Run:
        """Write, unless somebody was first; then `run` itself comes back."""
        try:
            return self._runs.update(run.id, only_from=frozenset({run.status}), **fields)
        except (Conflict, NotFound):
            return run

    # ------------------------------------------------------------ cancelling

    def cancel(self, run: Run) -> Run:
        """Stop a run and its posts that are not on their way yet. Raises Conflict when it has ended."""
        if run.status == "waiting":
            return self._cancel_waiting(run)
        if run.status not in WORKING:
            raise Conflict(f"The run has ended already: it is {run.status}.", extra={"runStatus": run.status})
        job_status: str | None = None
        if run.job_id:
            try:
                job_status = self._jobs.cancel(run.job_id).status
            except (Conflict, NotFound):
                job_status = "gone"
        if job_status == "running":
            return self._runs.get(run.id)  # the handler ends it
        record = RunRecord(self._runs.get(run.id), self._runs, self._events, self._now)
        if record.run.status in WORKING:
            self._end(record, "cancelled", reason="Cancelled by hand.")
        return record.run

    def _cancel_waiting(self, run: Run) -> Run:
        under_way = []
        for post in self._posts.page(PostFilter(run_id=run.id), limit=50).items:
            if post.status in SETTLED:
                continue
            if post.status in IN_FLIGHT or post.status == "unconfirmed":
                under_way.append(LABELS.get(post.platform, post.platform))
                continue
            try:
                self._posts.cancel(post.id)
            except Conflict:
                under_way.append(LABELS.get(post.platform, post.platform))
        if under_way:
            raise Conflict(
                f"The post on {' and '.join(under_way)} is on its way already and cannot be called back.",
                remedy="Wait until it is settled.",
            )
        settled = self.settle(self._runs.get(run.id))
        if settled.status != "waiting":
            return settled
        ended = self._set(settled, status="cancelled", reason="Cancelled by hand.", finished_at=iso(self._now()))
        if ended is not settled:
            self._ended(ended)
        return ended

    # ------------------------------------------------------------ what was left behind

    def recover(self, *, posts: bool = True) -> int:
        """Mend runs that nobody is at: never queued, their job gone; with `posts` also those whose posts were settled
        unseen. Returns how many."""
        mended = 0
        for run in self._runs.unfinished():
            if run.status == "waiting" and not posts:
                continue
            try:
                before = (run.status, run.job_id)
                after = self.settle(run) if run.status == "waiting" else self._mend(run)
                mended += (after.status, after.job_id) != before
            except DallaError as exc:
                logger.warning("Run %s could not be mended: %s", run.id, exc.detail)
        return mended

    def _mend(self, run: Run) -> Run:
        if run.job_id is None:
            if self._now() - parse(run.created_at) < timedelta(seconds=LOST_SECONDS):
                return run
            task = self._rules.find(run.task_id)
            if task is not None:
                return self.submit(run, task)
            return self._give_up(run, Conflict("The task was deleted before it ran.").problem())
        try:
            job = self._jobs.get(run.job_id)
        except NotFound:
            return self._give_up(run, Conflict("The app stopped while this was running.").problem())
        if not job.finished:
            return run
        if job.status == "cancelled":
            return self._give_up(run, None, status="cancelled", reason="Cancelled by hand.")
        return self._give_up(run, job.error or internal_problem())

    def _give_up(self, run: Run, error: Problem | None, *, status: str = "failed", reason: str | None = None) -> Run:
        record = RunRecord(run, self._runs, self._events, self._now)
        self._end(record, status, error=error, reason=reason)
        return record.run

    def _job_finished(self, id: str | None) -> bool:
        try:
            return id is None or self._jobs.get(id).finished
        except NotFound:
            return True


def _settled_step(step: Step, posts: dict[str, Post]) -> Step:
    """Let a step tell what became of its post."""
    post = posts.get(str(step.data.get("postId")))
    if post is None or not step.name.startswith("post:"):
        return step
    error = (post.error or {}).get("detail")
    match post.status:
        case "published":
            data = step.data | ({"permalink": post.permalink} if post.permalink else {})
            return step.with_(status="ok", detail="Published.", data=data)
        case "dry_run":
            return step.with_(status="ok", detail="Dry run: nothing left this computer.")
        case "failed":
            return step.with_(status="failed", detail=error or "The post failed.")
        case "missed":
            return step.with_(status="failed", detail=error or "The post was missed: it was too late for it.")
        case "cancelled":
            return step.with_(status="skipped", detail="The post was cancelled.")
        case "unconfirmed":
            return step.with_(status="held", detail="Nobody knows yet whether it is live.")
    return step


def _outcome(run: Run, steps: list[Step], posts: dict[str, Post]) -> tuple[str, Problem | None]:
    """Return how a run ended whose posts are settled, and the error that says which post failed and why."""
    found = [posts[id] for id in run.post_ids if id in posts]
    bad = [post for post in found if post.status in ("failed", "missed")]
    broken = [step for step in steps if step.name.startswith("post:") and step.status == "failed"]
    if bad or broken:
        told = [f"{LABELS.get(step.name[5:], step.name[5:])}: {step.detail}" for step in broken]
        remedy = next(((post.error or {}).get("remedy") for post in bad if post.error), None)
        error = DallaError(" ".join(told) or "A post failed.", remedy=remedy or "Open the post and try it again.")
        error.code, error.status, error.title = POSTS_FAILED, 502, "A post failed"  # type: ignore[misc]
        return "failed", error.problem()
    if not any(post.status in ("published", "dry_run") for post in found):
        return "cancelled", None
    return "completed", None
