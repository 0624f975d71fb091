"""`/api/scheduler`: rules, what comes next, what ran, the stop switch. Also the seeds' forms with an `action`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, TypeVar, get_args, overload

from flask import Response, request
from flask_openapi3 import Tag
from pydantic import Field, ValidationError, field_validator

from dalla.errors import InvalidInput
from dalla.records.base import RequestBody
from dalla.records.character import ScheduledTask
from dalla.records.run import Run, RunStatus
from dalla.services.automation import Automation
from dalla.times import boundary, parse
from dalla.web import etags
from dalla.web.access import ADMIN, identity, require
from dalla.web.blueprint import APIBlueprint
from dalla.web.context import services
from dalla.web.payload import IdPath, ListQuery, PageQuery, created, idempotent, plain_list
from dalla.web.problems import invalid

bp = APIBlueprint("scheduler", __name__, url_prefix="/api/scheduler", abp_tags=[Tag(name="Scheduler")])

#: Types of tasks that only an admin may touch: a backup fills the disk, and its `keep` deletes older ones.
ADMIN_TYPES = frozenset({"backup"})


class TaskFields(RequestBody):
    """The fields of a scheduled task. A partial update changes only those that are sent."""

    name: str | None = Field(None, max_length=200)
    character_id: str | None = Field(None, max_length=100)
    type: str | None = Field(None, max_length=100)
    schedule: str | None = Field(None, max_length=1000)
    active: bool | None = None
    config: dict[str, Any] | None = None
    timezone: str | None = Field(None, max_length=200)
    missed_run_policy: str | None = Field(None, max_length=50)
    dry_run: bool | None = None

    def values(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in TaskFields.model_fields if name in self.model_fields_set}


class TaskBody(TaskFields):
    """A whole record sent back: what the server adds (times, words, next runs …) is accepted and ignored."""

    id: str | None = Field(None, max_length=100)
    created_at: Any = None
    updated_at: Any = None
    label: Any = None
    character_name: Any = None
    platforms: Any = None
    zone: Any = None
    description: Any = None
    problem: Any = None
    problem_remedy: Any = None
    next_run: Any = None
    last_run: Any = None
    last_run_id: Any = None
    last_status: Any = None
    skipped_slots: Any = None
    next_runs: Any = None
    runs: Any = None
    notes: Any = None


class ActionBody(TaskBody):
    """One of the seeds' calls: `action`, and the task inside `task` or its fields beside it."""

    action: Literal["add_task", "update_task", "toggle_task", "delete_task", "run_now"]
    task_id: str | None = Field(None, max_length=100)
    task: TaskBody | None = None
    confirm: bool | None = Field(None, description="false: answer 409 confirmation_needed when live posts would follow")

    def fields(self) -> dict[str, Any]:
        """Return the values of the task, those inside `task` over those beside it."""
        return {**self.values(), **(self.task.values() if self.task else {})}

    def wanted_id(self) -> str | None:
        return self.id or self.task_id or (self.task.id if self.task else None)

    def needed_id(self) -> str:
        id = self.wanted_id()
        if not id:
            raise InvalidInput.field("id", "Name the task (id).")
        return id


class TaskQuery(ListQuery):
    character_id: str | None = Field(None, max_length=100)
    active: bool | None = None


class PreviewQuery(RequestBody):
    schedule: str = Field("", max_length=1000)
    timezone: str | None = Field(None, max_length=200)
    count: int = Field(10, ge=1, le=100, description="How many of the next times")
    start: str | None = Field(None, max_length=40, alias="from", description="The first time is after this moment")


class RunQuery(PageQuery):
    task_id: str | None = Field(None, max_length=100)
    character_id: str | None = Field(None, max_length=100)
    status: str | None = Field(None, max_length=200, description="One or more, comma separated")


class PauseBody(RequestBody):
    reason: str | None = Field(None, max_length=500)
    character_id: str | None = Field(None, max_length=100)

    @field_validator("reason", mode="before")
    @classmethod
    def _text(cls, value: Any) -> Any:
        return value.strip() if isinstance(value, str) else value


class ResumeBody(RequestBody):
    character_id: str | None = Field(None, max_length=100)


class SkipBody(RequestBody):
    slot: str = Field(max_length=40)
    skip: bool = True


class RetryBody(RequestBody):
    dry_run: bool | None = None
    confirm: bool | None = None


class _Shown(Sequence[dict[str, Any]]):
    """Rules as the API shows them, made for the page that is asked for only."""

    def __init__(self, automation: Automation, tasks: list[ScheduledTask]) -> None:
        self._automation = automation
        self._tasks = tasks

    def __len__(self) -> int:
        return len(self._tasks)

    @overload
    def __getitem__(self, place: int) -> dict[str, Any]: ...

    @overload
    def __getitem__(self, place: slice) -> list[dict[str, Any]]: ...

    def __getitem__(self, place: int | slice) -> Any:
        if isinstance(place, slice):
            return self._automation.public_many(self._tasks[place])
        return self._automation.public_many([self._tasks[place]])[0]


B = TypeVar("B", bound=RequestBody)


def _sent(model: type[B]) -> B:
    """Read a body that may be left out altogether. Raises InvalidInput by field."""
    sent = request.get_json(silent=True)
    try:
        return model.model_validate({} if sent is None else sent)
    except ValidationError as exc:
        raise invalid(exc) from exc


def _automation() -> Automation:
    return services().automation


def _answer(task: ScheduledTask, *, full: bool = False) -> Response:
    return etags.answer(_automation().public(task, full=full), _automation().etag(task))


def _confirmed(confirm: bool | None) -> bool:
    """Whether to start without asking: programs that say nothing mean it, the pages ask first."""
    return confirm if confirm is not None else request.headers.get("X-Confirm", "").lower() != "ask"


def _started(runs: list[Run]) -> tuple[dict[str, Any], int, dict[str, str]]:
    body: dict[str, Any] = {
        "success": True,
        "runs": [{"taskId": run.task_id, "runId": run.id, "jobId": run.job_id} for run in runs],
    }
    headers = {"Retry-After": "1"}
    if len(runs) == 1:
        headers["Location"] = f"/api/scheduler/runs/{runs[0].id}"
    return body, 202, headers


def _admins_only(*types: str | None) -> None:
    """Refuse everybody else to touch such a task."""
    if ADMIN_TYPES & set(types):
        require(ADMIN, "A scheduled backup")


# ---------------------------------------------------------------- rules


@bp.get("", summary="List the scheduled tasks")
def list_tasks(query: TaskQuery):
    tasks = [
        task
        for task in _automation().all()
        if query.character_id in (None, task.character_id) and query.active in (None, task.active)
    ]
    return plain_list(_Shown(_automation(), tasks), query)  # type: ignore[arg-type]  # only sliced and counted


@bp.post("", summary="Add, change, switch, delete or run tasks (the seeds' form)")
@idempotent()
def act(body: ActionBody):
    automation = _automation()
    if body.action != "add_task" and (wanted := body.wanted_id()):
        _admins_only(automation.get(wanted).type)
    match body.action:
        case "add_task":
            id = body.wanted_id()
            _admins_only(body.fields().get("type"))
            task = automation.create(body.fields() | ({"id": id} if id else {}))
            return created(automation.public(task) | {"success": True}, f"/api/scheduler/tasks/{task.id}")
        case "update_task":
            _admins_only(body.fields().get("type"))
            task = automation.update(body.needed_id(), body.fields(), if_match=request.headers.get("If-Match"))
            return automation.public(task) | {"success": True}
        case "toggle_task":
            active = body.active if body.active is not None else (body.task.active if body.task else None)
            return automation.public(automation.toggle(body.needed_id(), active)) | {"success": True}
        case "delete_task":
            automation.delete(body.needed_id())
            return {"success": True}
    without = () if identity().may(ADMIN) else ADMIN_TYPES  # "all" means all that this person may run
    runs = automation.run_now(
        body.wanted_id(), dry_run=body.dry_run, confirmed=_confirmed(body.confirm), without=without
    )
    return _started(runs)


@bp.get("/tasks/<id>", summary="Read a task, with its next runs")
def get_task(path: IdPath):
    return _answer(_automation().get(path.id), full=True)


@bp.put("/tasks/<id>", summary="Change the fields that are sent")
def update_task(path: IdPath, body: TaskBody):
    if body.id and body.id != path.id:
        raise InvalidInput.field("id", "The id in the body is not the one in the address.")
    _admins_only(_automation().get(path.id).type, body.type)
    return _answer(_automation().update(path.id, body.values(), if_match=request.headers.get("If-Match")), full=True)


@bp.patch("/tasks/<id>", summary="Change the fields that are sent")
def patch_task(path: IdPath, body: TaskBody):
    return update_task(path=path, body=body)


@bp.delete("/tasks/<id>", summary="Delete a task; its runs, pictures and posts stay")
def delete_task(path: IdPath):
    automation = _automation()
    _admins_only(automation.get(path.id).type)

    def current() -> dict[str, Any]:
        return automation.public(automation.get(path.id), full=True)

    with etags.guarded("task", path.id, current, lambda: automation.etag(automation.get(path.id))):
        automation.delete(path.id)
    return {"success": True}


@bp.post("/tasks/<id>/skip", summary="Leave one occurrence out, or take that back")
def skip_occurrence(path: IdPath, body: SkipBody):
    _admins_only(_automation().get(path.id).type)
    return _answer(_automation().skip(path.id, body.slot, body.skip), full=True)


@bp.post("/tasks/<id>/run", summary="Run a task now")
@idempotent()
def run_task(path: IdPath):
    _admins_only(_automation().get(path.id).type)
    body = _sent(RetryBody)
    return _started(_automation().run_now(path.id, dry_run=body.dry_run, confirmed=_confirmed(body.confirm)))


@bp.get("/preview", summary="An expression in words, with its next times")
def preview(query: PreviewQuery):
    after = None
    if query.start:
        after = parse(boundary(query.start, "from"))
    return _automation().preview(query.schedule, query.timezone or None, query.count, after)


# ---------------------------------------------------------------- runs


@bp.get("/runs", summary="List runs, newest first")
def list_runs(query: RunQuery):
    statuses = [s for s in (query.status or "").split(",") if s]
    if set(statuses) - set(get_args(RunStatus)):
        raise InvalidInput.field("status", f"Use {', '.join(get_args(RunStatus))}.")
    page = _automation().runs(
        task_id=query.task_id,
        character_id=query.character_id,
        statuses=statuses or None,
        limit=query.limit,
        cursor=query.cursor,
    )
    return {"items": _automation().public_runs(page.items), "nextCursor": page.next_cursor, "total": page.total}


@bp.get("/runs/<id>", summary="Read a run with its steps")
def get_run(path: IdPath):
    return _automation().public_runs([_automation().run(path.id)])[0]


@bp.post("/runs/<id>/cancel", summary="Stop a run and its posts that are not on their way")
def cancel_run(path: IdPath):
    _admins_only(_automation().run(path.id).type)
    return _automation().public_runs([_automation().cancel_run(path.id)])[0], 202


@bp.post("/runs/<id>/retry", summary="Run the task of a run again, now")
@idempotent()
def retry_run(path: IdPath):
    _admins_only(_automation().run(path.id).type)
    body = _sent(RetryBody)
    run = _automation().retry_run(path.id, dry_run=body.dry_run, confirmed=_confirmed(body.confirm))
    return _started([run])


# ---------------------------------------------------------------- the stop switch


@bp.post("/pause", summary="Stop everything, or one character: tasks and posts")
def pause():
    body = _sent(PauseBody)
    return _automation().pause(body.reason or "", body.character_id)


@bp.post("/resume", summary="Let everything, or one character, go on")
def resume():
    return _automation().resume(_sent(ResumeBody).character_id)


@bp.get("/state", summary="Who runs the schedule, what stops it, what comes next")
def state():
    return _automation().state() | {"dryRun": services().settings.dry_run}
