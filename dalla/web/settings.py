"""`/api/settings`: every setting with its source and lock, changing, resetting and undoing, and a try of each service."""

from __future__ import annotations

from typing import Any

from flask import Response, jsonify, request
from flask_openapi3 import Tag
from pydantic import Field, RootModel

from dalla.errors import Stale
from dalla.records.base import RequestBody
from dalla.web.blueprint import APIBlueprint
from dalla.web.context import services

bp = APIBlueprint("settings", __name__, url_prefix="/api/settings", abp_tags=[Tag(name="Settings")])


class SettingsBody(RootModel[dict[str, Any]]):
    """Values by name (camelCase, or the environment variable's). null: back to the default."""


class ChangeQuery(RequestBody):
    dry_run: bool = Field(False, description="Only say what would change")


class UndoBody(RequestBody):
    id: str = Field(min_length=1, max_length=50, description="`undo` of the change that is taken back")


class ServicePath(RequestBody):
    service: str = Field(min_length=1, max_length=50)


class TestBody(RequestBody):
    settings: dict[str, Any] = Field(default_factory=dict, description="Unsaved values to try with; nothing is saved")


@bp.get("", summary="Every setting with its source and lock")
def get_settings():
    return _answer({})


@bp.patch("", summary="Change settings; null resets one; dryRun says what would change")
def patch_settings(query: ChangeQuery, body: SettingsBody):
    container = services()
    planned = container.settings.plan(body.root)
    if query.dry_run:
        return {"dryRun": True, "changes": planned}
    container.service_tests.refuse_lockout(body.root)
    try:
        undo = container.settings.change(body.root, if_match=request.headers.get("If-Match"))
    except Stale as exc:
        exc.extra = {"current": _state()}
        raise
    _changed(sorted(body.root))
    return _answer({"changes": planned, "undo": undo})


@bp.post("/undo", summary="Take a change of settings back")
def undo_settings(body: UndoBody):
    names = services().settings.undo(body.id)
    _changed(names)
    return _answer({"undone": names})


@bp.post("/test/<service>", summary="Try a service with the settings in force, or with unsaved ones")
def test_service(path: ServicePath, body: TestBody):
    return services().service_tests.run(path.service, body.settings)


def _changed(names: list[str]) -> None:
    container = services()
    container.engines.forget_status()
    container.events.publish("settings.changed", {"names": names})


def _state() -> dict[str, Any]:
    container = services()
    return {
        "items": container.settings.describe(),
        "pending": container.settings.pending(),
        "tests": container.service_tests.names(),
        "file": str(container.settings.file),
    }


def _answer(more: dict[str, Any]) -> Response:
    response = jsonify({**_state(), **more})
    response.headers["ETag"] = f'"{services().settings.etag}"'
    return response
