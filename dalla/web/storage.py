"""`/api/storage` and `/api/system/restart`: what lies where and how large it is, cleaning, moving, starting again."""

from __future__ import annotations

from typing import Any

from flask_openapi3 import Tag
from pydantic import Field

from dalla.records.base import RequestBody
from dalla.web.blueprint import APIBlueprint
from dalla.web.context import services
from dalla.web.payload import accepted, idempotent

bp = APIBlueprint("storage", __name__, url_prefix="/api/storage", abp_tags=[Tag(name="Storage")])
restart = APIBlueprint("restart", __name__, url_prefix="/api/system", abp_tags=[Tag(name="System")])


class CleanBody(RequestBody):
    """What to clean."""

    what: list[str] = Field(min_length=1, max_length=50, description="Ids of GET /api/storage `cleaning`")
    dry_run: bool = Field(True, description="Only say what would go")
    plan_id: str | None = Field(
        None, max_length=100, description="`planId` of a dry run: exactly what it listed goes, and nothing else"
    )


class MoveBody(RequestBody):
    """Which folder goes where."""

    location: str = Field(min_length=1, max_length=50, description="training_data, loras or models")
    target: str = Field(min_length=1, max_length=4000, description="The folder it becomes: absent or empty")
    dry_run: bool = Field(True, description="Only say what would happen")


class RestartBody(RequestBody):
    """Whether to restart although something is under way."""

    force: bool = Field(False, description="Interrupt what is under way")


@bp.get("", summary="Where everything lies: sizes as last measured, free space, forecast, what can be cleaned")
def storage() -> dict[str, Any]:
    return services().storage.overview()


@bp.post("/measure", summary="Measure all sizes now")
@idempotent()
def storage_measure() -> Any:
    return accepted(services().storage.measure())


@bp.post("/clean", summary="Say what can be deleted (dryRun), or delete it")
@idempotent()
def storage_clean(body: CleanBody) -> Any:
    if body.dry_run:
        return services().storage.cleaner.plan(body.what)
    return accepted(services().storage.cleaner.start(body.what, plan_id=body.plan_id))


@bp.post("/move", summary="Say what moving a folder means (dryRun), or move it")
@idempotent()
def storage_move(body: MoveBody) -> Any:
    if body.dry_run:
        return services().storage.mover.plan(body.location, body.target)
    return accepted(services().storage.mover.start(body.location, body.target))


@restart.post("/restart", summary="Stop cleanly and start again with the same arguments")
def system_restart(body: RestartBody) -> Any:
    return services().restart.request(force=body.force), 202
