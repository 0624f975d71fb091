"""`/api/logs`: the log, searched, and everything a bug report needs as one archive."""

from __future__ import annotations

import tempfile
from typing import Literal

from flask import send_file
from flask_openapi3 import Tag
from pydantic import Field

from dalla.records.base import RequestBody
from dalla.services.log_view import MAX_LIMIT, Query
from dalla.times import now_iso
from dalla.web.blueprint import APIBlueprint
from dalla.web.context import services

bp = APIBlueprint("logs", __name__, url_prefix="/api/logs", abp_tags=[Tag(name="System")])

_POSITION = "position in the log, as an answer gave it"


class LogsQuery(RequestBody):
    level: Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"] = Field("DEBUG", description="This level and worse")
    q: str = Field("", max_length=200, description="Text in the message, the traceback or the logger's name")
    request_id: str = Field("", max_length=64, description="Only what one request wrote")
    task_id: str = Field("", max_length=100, description="Only what one background task wrote")
    before: str | None = Field(None, max_length=60, description=f"Older than this {_POSITION} (`nextCursor`)")
    after: str | None = Field(None, max_length=60, description=f"Newer than this {_POSITION} (`newest`)")
    limit: int = Field(100, ge=1, le=MAX_LIMIT, description="At most this many")


@bp.get("", summary="The log, newest first")
def list_logs(query: LogsQuery):
    what = Query(query.level, query.q, query.request_id, query.task_id)
    return services().logs.page(what, before=query.before, after=query.after, limit=query.limit)


@bp.get("/bundle", summary="Log, status and versions as a zip, without secrets")
def bundle():
    file = tempfile.TemporaryFile()  # noqa: SIM115 - closed by the response
    try:
        services().bundle.write(file)
    except BaseException:
        file.close()
        raise
    file.seek(0)
    name = f"digital-dalla-report-{now_iso()[:16].replace(':', '')}.zip"
    return send_file(file, mimetype="application/zip", as_attachment=True, download_name=name)
