"""`/metrics` for Prometheus, and the counting of requests."""

from __future__ import annotations

import time

from flask import Flask, Response, g, request
from flask_openapi3 import Tag

from dalla.web.blueprint import APIBlueprint
from dalla.web.context import services

bp = APIBlueprint("metrics", __name__, abp_tags=[Tag(name="System")])


def install(app: Flask) -> None:
    """Count every answer. Call it before the guard's `install`, so that it also sees what the guard refuses."""
    requests = app.extensions["dalla"].metrics.requests

    @app.after_request
    def count(response: Response) -> Response:
        rule = request.url_rule
        seconds = time.perf_counter() - g.get("began", time.perf_counter())
        requests.add(request.method, rule.rule if rule else "unmatched", response.status_code, seconds)
        return response


@bp.get("/metrics", summary="Figures for Prometheus")
def metrics():
    content, kind = services().metrics.text(request.headers.get("Accept", ""))
    return Response(content, content_type=kind)
