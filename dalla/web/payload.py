"""How answers and common inputs look: JSON by orjson, paging headers, ETags, 202 for long work."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Collection
from functools import wraps
from hashlib import sha256
from typing import Any, TypeVar

import orjson
from flask import Flask, Response, request
from flask.json.provider import JSONProvider
from pydantic import ConfigDict, Field

from dalla.errors import DallaError
from dalla.records.base import RequestBody
from dalla.records.job import Job
from dalla.times import now_iso
from dalla.web.access import own_key
from dalla.web.context import services

logger = logging.getLogger(__name__)

F = TypeVar("F", bound=Callable[..., Any])


class OrjsonProvider(JSONProvider):
    """JSON for the whole app: fast, strict (no NaN, bounded depth), UTF-8."""

    def dumps(self, obj: Any, **kwargs: Any) -> str:
        return orjson.dumps(obj, option=orjson.OPT_NON_STR_KEYS).decode()

    def loads(self, s: str | bytes, **kwargs: Any) -> Any:
        return orjson.loads(s)

    def response(self, *args: Any, **kwargs: Any) -> Response:
        body = orjson.dumps(self._prepare_response_obj(args, kwargs), option=orjson.OPT_NON_STR_KEYS)
        return Response(body, content_type="application/json")


def install(app: Flask) -> None:
    app.json = OrjsonProvider(app)


class IdPath(RequestBody):
    """`{id}` in an address."""

    model_config = ConfigDict(extra="ignore")
    id: str = Field(min_length=1, max_length=100)


class ListQuery(RequestBody):
    """Paging of the plain-array lists."""

    limit: int | None = Field(None, ge=1, le=1000, description="At most this many")
    offset: int = Field(0, ge=0, description="Skip this many")


class PageQuery(RequestBody):
    """Paging of the large lists."""

    limit: int = Field(50, ge=1, le=500, description="At most this many")
    cursor: str | None = Field(None, max_length=500, description="`nextCursor` of the page before")


def plain_list(items: list[Any], query: ListQuery) -> Response:
    """Answer an array with `X-Total-Count` and `Link`."""
    end = len(items) if query.limit is None else query.offset + query.limit
    part = items[query.offset : end]
    response = Response(orjson.dumps(part), content_type="application/json")
    response.headers["X-Total-Count"] = str(len(items))
    if query.limit is not None and end < len(items):
        args = request.args.to_dict() | {"limit": str(query.limit), "offset": str(end)}
        address = request.path + "?" + "&".join(f"{k}={v}" for k, v in args.items())
        response.headers["Link"] = f'<{address}>; rel="next"'
    return response


def created(record: dict[str, Any], location: str, **headers: str) -> tuple[dict[str, Any], int, dict[str, str]]:
    return record, 201, {"Location": location, **headers}


def accepted(job: Job) -> tuple[dict[str, Any], int, dict[str, str]]:
    """Answer 202: the work is queued, and where to follow it."""
    address = f"/api/tasks/{job.id}"
    body = {"taskId": job.id, "status": job.status, "statusUrl": f"{address}/status"}
    return body, 202, {"Location": address, "Retry-After": "1"}


def wants_async() -> bool:
    """Whether the caller asked not to wait (`Prefer: respond-async` or `?async=1`)."""
    return "respond-async" in request.headers.get("Prefer", "") or request.args.get("async") in ("1", "true")


def _same(body: dict[str, Any]) -> dict[str, Any]:
    return body


def without(*names: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Return what takes these fields out of an answer: a secret is told once and kept nowhere."""
    return lambda body: {name: value for name, value in body.items() if name not in names}


def idempotent(
    *,
    keep: Callable[[dict[str, Any]], dict[str, Any]] = _same,
    replay: Callable[[dict[str, Any]], dict[str, Any]] = _same,
    secret: Collection[str] = (),
) -> Callable[[F], F]:
    """Answer a repeated `Idempotency-Key` with the first answer instead of doing the work again.

    `keep` reduces an answer to what is worth storing for a day, `replay` makes it whole again. `secret` names fields of the
    request that do not count: a hash of a passphrase that lies about for a day could be guessed.
    """

    def decorate(view: F) -> F:
        @wraps(view)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            key = request.headers.get("Idempotency-Key", "")[:200]
            if not key:
                return view(*args, **kwargs)
            key = own_key(key)
            store = services().idempotency
            first = store.begin(key, _fingerprint(secret), now_iso())
            if first is not None:
                return replay(first["body"]), first["status"], {**first["headers"], "Idempotent-Replayed": "true"}
            try:
                answer = view(*args, **kwargs)
            except BaseException:
                with contextlib.suppress(DallaError):  # the first error is the one to tell
                    store.forget(key)
                raise
            body, status, headers = answer if isinstance(answer, tuple) else (answer, 200, {})
            try:
                store.finish(key, {"status": status, "body": keep(body), "headers": headers})
            except DallaError as exc:  # the work is under way: saying it failed would have it done twice
                logger.warning("The answer to an Idempotency-Key could not be kept: %s", exc.detail)
            return answer

        return wrapped  # type: ignore[return-value]

    return decorate


def _fingerprint(secret: Collection[str]) -> str:
    """Return what tells this request from another one with the same key; files are read in pieces, never whole."""
    digest = sha256(f"{request.method} {request.full_path}".encode() + b"\0")
    if request.mimetype == "multipart/form-data":
        for name, value in request.form.items(multi=True):
            if name not in secret:
                digest.update(f"{name}\0{value}\0".encode())
        for name, file in request.files.items(multi=True):
            digest.update(f"{name}\0{file.filename}\0".encode())
            for piece in iter(lambda: file.stream.read(1 << 20), b""):  # noqa: B023 - read to its end before the next
                digest.update(piece)
            file.stream.seek(0)
    elif secret and isinstance(sent := request.get_json(silent=True), dict):
        counted = {name: value for name, value in sent.items() if name not in secret}
        digest.update(orjson.dumps(counted, option=orjson.OPT_SORT_KEYS))
    else:
        digest.update(request.get_data(cache=True))
    return digest.hexdigest()
