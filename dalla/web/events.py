"""`GET /api/events`: server-sent events. First a snapshot, then what happens; resumable."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from typing import Any

import orjson
from flask import Response, request
from flask_openapi3 import Tag
from pydantic import Field

from dalla.errors import Unavailable
from dalla.records.base import RequestBody
from dalla.records.user import READ
from dalla.web.access import identity
from dalla.web.blueprint import APIBlueprint
from dalla.web.context import services
from dalla.web.waiting import STREAMS

bp = APIBlueprint("events", __name__, url_prefix="/api", abp_tags=[Tag(name="Events")])

KEEP_ALIVE_SECONDS = 15.0
LOOK_AGAIN_SECONDS = 10.0  # so often a stream asks whether its session still may read
_NUMBER = re.compile(r"[0-9]{1,18}")


class EventsQuery(RequestBody):
    last_event_id: str | None = Field(None, max_length=40, description="Resume after this event (or the header Last-Event-ID)")  # fmt: skip


@bp.get("/events", summary="Server-sent events")
def events(query: EventsQuery):
    who = identity()
    if not STREAMS.take(who.user_id):
        raise Unavailable(
            "Too many live connections are open.", remedy="Close some tabs; pages go on by polling.", retry_after=30
        )
    container = services()
    bus = container.events
    given = request.headers.get("Last-Event-ID") or query.last_event_id or ""
    # Ids carry the run of the app: after a restart they begin again, and a stale one must not match.
    run, _, number = given.rpartition("-")
    resume = int(number) if run == container.run_id and _NUMBER.fullmatch(number) else None

    def snapshot() -> tuple[bytes, int]:
        last = bus.last_id
        jobs, _, _ = container.tasks.page(statuses=["queued", "running", "paused"], limit=100)
        data = {"tasks": [container.jobs.public(job) for job in jobs], "runId": container.run_id}
        return _format("snapshot", data, f"{container.run_id}-{last}"), last

    def stream() -> Iterator[bytes]:
        try:
            first, position = (b"", resume) if resume is not None else snapshot()
            yield b"retry: 2000\n\n" + first
            quiet_since = looked_at = time.monotonic()
            while not bus.closed:
                if time.monotonic() - looked_at >= LOOK_AGAIN_SECONDS:
                    now = container.auth.still(who)
                    if now is None or not now.may(READ):
                        break  # signed out, disabled, expired: the browser asks again and is told so
                    looked_at = time.monotonic()
                fresh, complete = bus.since(position, timeout=1.0)
                if not complete:
                    first, position = snapshot()
                    yield first
                    continue
                if fresh:
                    position = fresh[-1].id
                    yield b"".join(_format(e.type, e.data, f"{container.run_id}-{e.id}") for e in fresh)
                    quiet_since = time.monotonic()
                elif time.monotonic() - quiet_since >= KEEP_ALIVE_SECONDS:
                    yield b": keep-alive\n\n"
                    quiet_since = time.monotonic()
        finally:
            STREAMS.leave(who.user_id)

    response = Response(_Releasing(stream()), content_type="text/event-stream")
    response.headers["Cache-Control"] = "no-store"
    response.headers["X-Accel-Buffering"] = "no"
    return response


class _Releasing:
    """An iterator that has its first piece already: nothing that happens after the answer is missed,
    and `close` always runs the generator's `finally`, because it was started."""

    def __init__(self, generator: Iterator[bytes]) -> None:
        self._first: bytes | None = next(generator)
        self._rest = generator

    def __iter__(self) -> _Releasing:
        return self

    def __next__(self) -> bytes:
        if self._first is not None:
            first, self._first = self._first, None
            return first
        return next(self._rest)

    def close(self) -> None:
        self._rest.close()  # type: ignore[attr-defined]


def _format(type: str, data: dict[str, Any], id: str) -> bytes:
    return b"id: %s\nevent: %s\ndata: %s\n\n" % (id.encode(), type.encode(), orjson.dumps(data))
