"""`ETag`, `If-None-Match` and `If-Match` of single records: one way for every resource.

A tag is made from what `GET` answers. A view that changes a record does it inside `guarded`: it holds the record, so
that of two requests with the same `If-Match` exactly one is first (one process serves a data folder).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from typing import Any
from zlib import crc32

import orjson
from flask import Response, request

from dalla.errors import Stale

Public = dict[str, Any]

_OPTIONS = orjson.OPT_NON_STR_KEYS
_locks = [threading.RLock() for _ in range(64)]


def of(body: Public, tag: str | None = None) -> str:
    """Return the tag of a record as the API shows it, without quotes. `tag`, the service's own, stands first in it."""
    made = sha256(orjson.dumps(body, option=_OPTIONS | orjson.OPT_SORT_KEYS)).hexdigest()[:20]
    return f"{tag}-{made}" if tag else made


def answer(body: Public, tag: str | None = None, status: int = 200) -> Response:
    """Answer one record with its `ETag`; to a GET that names the same tag, 304 without a body."""
    response = Response(orjson.dumps(body, option=_OPTIONS), status=status, content_type="application/json")
    response.set_etag(of(body, tag))
    response.headers["Cache-Control"] = "private, no-cache"
    if request.method in ("GET", "HEAD") and status == 200:
        return response.make_conditional(request)  # type: ignore[return-value]
    return response


@contextmanager
def guarded(kind: str, id: str, current: Callable[[], Public], own: Callable[[], str] | None = None) -> Iterator[None]:
    """Hold a record while it is changed. Raises Stale, with the record, when `If-Match` no longer fits.

    `current` reads the record as GET answers it, and raises NotFound. `own` reads the service's own tag when `answer`
    was given one; it alone is compared then, for what else GET answers may change by itself (next runs, checks).
    """
    with _locks[crc32(f"{kind}/{id}".encode()) % len(_locks)]:
        wanted = given()
        if wanted is not None:
            now = current()
            fits = own() in wanted if own is not None else request.if_match.contains(of(now))
            if not fits:
                raise Stale(
                    f"The {kind} was changed elsewhere since you opened it. Nothing was saved.",
                    remedy="Load it again and repeat your change.",
                    extra={"current": now},
                )
        yield


def given() -> set[str] | None:
    """Return the services' own tags that `If-Match` names; None when any state will do."""
    if "If-Match" not in request.headers or request.if_match.star_tag:
        return None
    return {tag.partition("-")[0] for tag in request.if_match if tag}  # an odd header reads as None
