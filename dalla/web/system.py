"""`/api/system`, `/api/home`, `/health`: how the app is doing and is set up."""

from __future__ import annotations

from typing import Literal

from flask_openapi3 import Tag
from pydantic import Field

from dalla.records.base import RequestBody
from dalla.web.blueprint import APIBlueprint
from dalla.web.context import services

bp = APIBlueprint("system", __name__, abp_tags=[Tag(name="System")])


class StatusQuery(RequestBody):
    fresh: bool = Field(False, description="Check now instead of answering what was found seconds ago")


class SamplesQuery(RequestBody):
    span: Literal["2m", "1h", "24h"] = Field("2m", description="The last two minutes, hour or day")


@bp.get("/api/system/status", summary="State of every component")
def system_status(query: StatusQuery):
    return services().system.status(fresh=query.fresh)


@bp.get("/api/system/samples", summary="CPU, memory, GPU, disk and queue depth over a span")
def system_samples(query: SamplesQuery):
    return services().system.samples.span(query.span)


@bp.get("/api/home", summary="What the home page shows")
def home():
    return services().home.overview()


@bp.get("/health/live", summary="Whether the process answers")
def live():
    return {"status": "ok"}


@bp.get("/health/ready", summary="Whether it can do its work")
def ready():
    status = services().system.status()
    ok = status["database"]["status"] == "ok" and status["worker"]["status"] == "ok"
    body = {
        "status": "ok" if ok else "error",
        "database": status["database"]["status"],
        "worker": status["worker"]["status"],
    }
    return body, 200 if ok else 503
