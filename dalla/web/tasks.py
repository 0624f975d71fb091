"""`/api/tasks`: background work, whatever it is. `/tasks/{id}/status` is the seeds' form."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import get_args

from flask import Response, request
from flask_openapi3 import Tag
from pydantic import Field

from dalla.errors import InvalidInput, NotFound
from dalla.ids import check_id
from dalla.records.base import RequestBody
from dalla.records.job import Job, Status
from dalla.web.access import require_task
from dalla.web.blueprint import APIBlueprint
from dalla.web.context import services
from dalla.web.files import log_text
from dalla.web.payload import IdPath, PageQuery, idempotent
from dalla.web.waiting import RETRY_SECONDS, place

tag = Tag(name="Background tasks")
bp = APIBlueprint("tasks", __name__, url_prefix="/api/tasks", abp_tags=[tag])
plain = APIBlueprint("tasks_plain", __name__, url_prefix="/tasks", abp_tags=[tag])


class TaskQuery(PageQuery):
    status: str | None = Field(None, max_length=200, description="One or more, comma separated")
    kind: str | None = Field(None, max_length=100)
    character_id: str | None = Field(None, max_length=100)
    quarantined: bool | None = Field(None, description="true: only what ended the program twice and waits for a person")


class WaitQuery(RequestBody):
    wait: float = Field(
        0, ge=0, le=60, description="Answer when the task ends, or after this many seconds; at once when too many wait"
    )


class LogQuery(RequestBody):
    offset: int = Field(0, ge=0, le=2**62, description="Bytes to skip")


def _answer(job: Job) -> dict:
    return services().jobs.public(job)


def _allowed(id: str) -> None:
    """Refuse whoever may not start such a task: to run a restore or a post again is to do it."""
    job = services().jobs.get(id)
    require_task(job.kind)
    if job.kind == "run_task":
        with contextlib.suppress(NotFound):  # the run is gone: then there is nothing to do again
            if services().automation.run(str(job.payload.get("runId"))).type == "backup":
                require_task("make_backup")


@bp.get("", summary="List tasks, newest first")
def list_tasks(query: TaskQuery):
    statuses = [s for s in (query.status or "").split(",") if s]
    unknown = set(statuses) - set(get_args(Status))
    if unknown:
        raise InvalidInput.field("status", f"Use {', '.join(get_args(Status))}.")
    jobs, cursor, total = services().tasks.page(
        statuses=statuses or None,
        kind=query.kind,
        character_id=query.character_id,
        quarantined=query.quarantined,
        limit=query.limit,
        cursor=query.cursor,
    )
    return {"items": [_answer(job) for job in jobs], "nextCursor": cursor, "total": total}


@bp.get("/<id>", summary="Read a task")
@bp.get("/<id>/status", summary="Read a task")
@plain.get("/<id>/status", summary="Read a task (short address)")
def get_task(path: IdPath, query: WaitQuery):
    jobs = services().jobs
    if not query.wait:
        return _answer(jobs.get(path.id))
    with place() as held:
        job = jobs.wait(path.id, query.wait if held else 0)
    slower = {} if held or job.finished else {"Retry-After": str(RETRY_SECONDS)}
    return _answer(job), 200, slower


@bp.post("/<id>/cancel", summary="Ask a task to stop")
def cancel_task(path: IdPath):
    _allowed(path.id)
    return _answer(services().jobs.cancel(path.id)), 202


@bp.post("/<id>/retry", summary="Run a failed, cancelled or interrupted task again")
@idempotent()
def retry_task(path: IdPath):
    _allowed(path.id)
    job, training = services().jobs.get(path.id), services().training
    # A training keeps notes of its own, of what was wanted when it was stopped: they start afresh as well.
    again = training.resume if job.kind == training.KIND and job.finished else services().jobs.retry
    return _answer(again(path.id)), 202, {}


@bp.post("/<id>/next", summary="Put a waiting task before all others of its queue")
def next_task(path: IdPath):
    _allowed(path.id)
    return _answer(services().jobs.run_next(path.id))


@bp.post("/<id>/dismiss", summary="Take a task out of quarantine without running it")
def dismiss_task(path: IdPath):
    _allowed(path.id)
    return _answer(services().jobs.dismiss(path.id))


@bp.get("/<id>/log", summary="The log of a task as text")
def task_log(path: IdPath, query: LogQuery):
    services().jobs.get(check_id(path.id))
    file = Path(services().settings.data_dir) / "runs" / path.id / "log.txt"
    return log_text(file, query.offset)


@bp.get("/<id>/preview", summary="The newest rough picture of a running task")
def task_preview(path: IdPath):
    preview = services().jobs.preview_of(path.id)
    if preview is None:
        raise NotFound("There is no preview (the task is not drawing).")
    number, image, mime = preview
    response = Response(image, content_type=mime)
    response.set_etag(str(number))
    return response.make_conditional(request)
