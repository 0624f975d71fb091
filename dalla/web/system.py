"""`/api/system`, `/api/home`, `/api/settings`, `/health`, `/metrics`: how the app is doing and is set up."""

from __future__ import annotations

from typing import Any

from flask import Response, request
from flask_openapi3 import Tag
from pydantic import Field

from dalla.errors import BadRequest, NotFound
from dalla.records.base import RequestBody
from dalla.web.blueprint import APIBlueprint
from dalla.web.context import services

bp = APIBlueprint("system", __name__, abp_tags=[Tag(name="System")])


class StatusQuery(RequestBody):
    fresh: bool = Field(False, description="Check now instead of answering what was found seconds ago")


class ServicePath(RequestBody):
    service: str = Field(max_length=50)


@bp.get("/api/system/status", summary="State of every component")
def system_status(query: StatusQuery):
    return services().system.status(fresh=query.fresh)


@bp.get("/api/system/samples", summary="CPU, memory, GPU and disk of the last two minutes")
def system_samples():
    return {"samples": services().system.samples.all()}


@bp.get("/api/home", summary="What the home page shows")
def home():
    return services().home.overview()


@bp.get("/api/settings", summary="Every setting with its source and lock")
def get_settings():
    return {"items": services().settings.describe()}


@bp.patch("/api/settings", summary="Change settings; null resets one")
def patch_settings():
    changes = request.get_json(silent=True)
    if not isinstance(changes, dict):
        raise BadRequest("Send a JSON object of settings.")
    container = services()
    container.settings.change(changes)
    container.engines.forget_status()
    container.events.publish("settings.changed", {"names": sorted(changes)})
    return {"items": container.settings.describe()}


@bp.post("/api/settings/test/<service>", summary="Try a service with the settings in force")
def test_service(path: ServicePath) -> Any:
    names, writers = services().engines.names(), ("gemini", "local", "composer")
    if path.service in writers:
        return services().captioning.test(path.service)
    if path.service not in names:
        raise NotFound(f"There is no test for '{path.service}'. There is one for {', '.join((*names, *writers))}.")
    engine = services().engines.get(path.service)
    status = engine.status(fresh=True)
    if not status.available:
        return {"ok": False, "detail": status.reason, "remedy": status.remedy, "info": status.detail}
    count = len(engine.models())
    return {"ok": True, "detail": f"{engine.label} answers and has {count} models.", "info": status.detail}


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


@bp.get("/metrics", summary="Prometheus text")
def metrics():
    container = services()
    counts = container.tasks.counts()
    sample = container.system.samples.latest()
    lines = [
        "# HELP dalla_tasks Background tasks by status.",
        "# TYPE dalla_tasks gauge",
        *(f'dalla_tasks{{status="{status}"}} {count}' for status, count in sorted(counts.items())),
        "# HELP dalla_media_total Pictures and videos outside the trash.",
        "# TYPE dalla_media_total gauge",
        f"dalla_media_total {sum(container.gallery.counts().values())}",
        "# HELP dalla_process_resident_memory_bytes Memory of the web process.",
        "# TYPE dalla_process_resident_memory_bytes gauge",
        f"dalla_process_resident_memory_bytes {sample['processMemory']}",
        "# HELP dalla_component_up 1: ok, 0: off, -1: error.",
        "# TYPE dalla_component_up gauge",
    ]
    for name, component in container.system.status().items():
        if isinstance(component, dict) and component.get("status") in ("ok", "off", "error"):
            value = {"ok": 1, "off": 0, "error": -1}[component["status"]]
            lines.append(f'dalla_component_up{{component="{name}"}} {value}')
    return Response("\n".join(lines) + "\n", content_type="text/plain; version=0.0.4; charset=utf-8")
