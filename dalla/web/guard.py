"""What every request passes before a view: its id, who may ask, how large and of what kind it may be.

Web pages from elsewhere are kept out: the Host must be ours (DNS rebinding) and a browser's Origin must
match it. Who may do what is decided by `access.py`, which is asked after that and before a body is read.
"""

from __future__ import annotations

import logging
import re
import secrets
import time
from collections.abc import Callable
from urllib.parse import urlsplit

from flask import Flask, Response, g, request
from werkzeug.exceptions import BadRequest as WerkzeugBadRequest
from werkzeug.exceptions import RequestEntityTooLarge

from dalla import log
from dalla.errors import BadRequest, Forbidden, TooLarge, UnsupportedMedia
from dalla.settings import Settings
from dalla.web.peer import LOOPBACK, forwarded

logger = logging.getLogger("dalla.web")

JSON_LIMIT = 2 * 1024 * 1024
#: A picture of 20 MB in base64, with its caption: only where the API takes pictures inside JSON.
IMAGE_JSON_LIMIT = 32 * 1024 * 1024
_IMAGE_JSON = re.compile(r"/api/(?:post-to-[a-z]+|lora/(?:v2/)?train)/?\Z")
UPLOAD_LIMIT = 512 * 1024 * 1024
#: Pieces of resumable uploads come as raw bytes, whatever content type a client puts on them.
_RAW = re.compile(r"/api/(?:uploads/[A-Za-z0-9_]+|images/[A-Za-z0-9_]+/mask)\Z")
RAW_LIMIT = 64 * 1024 * 1024
#: What the internet may read under PUBLIC_BASE_URL: prepared pictures by signed address, and that fetching is allowed.
PUBLIC_PATHS = ("/public/", "/robots.txt")
UNSAFE = {"POST", "PUT", "PATCH", "DELETE"}

CSP = (
    "default-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; style-src 'self'; script-src 'self'; "
    "connect-src 'self'; font-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)


def install(app: Flask, settings: Settings, allow: Callable[[], Response | None] | None = None) -> None:
    """Add the checks before, and the headers after, every request. `allow` decides whether this caller may do this:
    it raises, or returns an answer to give instead."""
    allowed = LOOPBACK | {name.strip().lower() for name in settings.allowed_hosts.split(",") if name.strip()}
    if settings.host not in ("0.0.0.0", "::", ""):
        allowed.add(settings.host.lower())

    @app.before_request
    def check() -> Response | None:
        g.began = time.perf_counter()
        given = request.headers.get("X-Request-Id", "")
        log.request_id.set(
            given if 0 < len(given) <= 64 and given.isascii() and given.isalnum() else secrets.token_hex(6)
        )
        _check_host(allowed, urlsplit(settings.public_base_url).hostname or "" if settings.public_base_url else "")
        _check_origin()
        answer = allow() if allow is not None else None
        if answer is None and request.method in UNSAFE:
            _check_body()
        return answer

    @app.after_request
    def finish(response: Response) -> Response:
        response.headers["X-Request-Id"] = log.request_id.get()
        response.headers.setdefault("Content-Security-Policy", CSP)
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Referrer-Policy"] = "same-origin"
        response.headers["X-Frame-Options"] = "DENY"
        response.headers["Cross-Origin-Resource-Policy"] = "same-origin"
        response.headers["Cross-Origin-Opener-Policy"] = "same-origin"
        if "Cache-Control" not in response.headers and not request.path.startswith("/static/"):
            response.headers["Cache-Control"] = "no-store"
        ms = (time.perf_counter() - g.get("began", time.perf_counter())) * 1000
        level = logging.DEBUG if request.method in ("GET", "HEAD") and response.status_code < 400 else logging.INFO
        logger.log(level, "%s %s %d %.0f ms", request.method, request.path, response.status_code, ms)
        return response


def _check_host(allowed: set[str], public: str) -> None:
    host = _parts(f"//{request.host}")[0] if request.host else ""
    anybody = request.method in ("GET", "HEAD") and request.path.startswith(PUBLIC_PATHS)
    if public and anybody and host == public.lower():
        return
    if public and not anybody and host in LOOPBACK and forwarded():
        # A proxy that rewrites the Host would hand the whole app to everybody.
        raise Forbidden(
            "Through the public address only prepared pictures can be fetched.",
            remedy="Let the proxy keep the Host header, and add the name to DALLA_ALLOWED_HOSTS if the dashboard is meant.",
        )
    if host not in allowed:
        raise Forbidden(
            f"This app is not served under the name '{host}'.",
            remedy="Use http://127.0.0.1 or http://localhost, or add the name to DALLA_ALLOWED_HOSTS.",
        )


def _check_origin() -> None:
    """Refuse what a page from elsewhere makes the browser send. Programs send no Origin."""
    if request.headers.get("Sec-Fetch-Site") == "cross-site" and (
        request.method in UNSAFE or request.path.startswith("/api/")
    ):
        raise Forbidden("Requests from other web sites are refused.")
    origin = request.headers.get("Origin")
    if origin and _parts(origin)[1] != request.host.lower():
        raise Forbidden("Requests from other web sites are refused.", remedy="Open the app under one address only.")


def _parts(url: str) -> tuple[str, str]:
    """Return (host name, host and port) in lower case; ("", "") for what is no address."""
    try:
        parts = urlsplit(url)
        return (parts.hostname or "").lower(), parts.netloc.lower()
    except ValueError:
        return "", ""


def _check_body() -> None:
    """Read a JSON body once, so that what cannot be read is said before a view looks at it."""
    if request.method == "PUT" and _RAW.match(request.path):
        _limit(RAW_LIMIT)
        return
    kind = request.mimetype
    upload = kind == "multipart/form-data"
    small = IMAGE_JSON_LIMIT if _IMAGE_JSON.match(request.path) else JSON_LIMIT
    length = _limit(UPLOAD_LIMIT if upload else small, None if upload else _AS_FORM)
    if upload or (not length and request.headers.get("Transfer-Encoding", "") != "chunked"):
        return
    if kind != "application/json" and not kind.endswith("+json"):
        raise UnsupportedMedia(
            f"'{kind or 'no content type'}' is not taken here.", remedy="Send JSON with Content-Type: application/json."
        )
    try:
        request.get_json()
    except RequestEntityTooLarge:
        raise
    except WerkzeugBadRequest as exc:
        reason = str(exc.__cause__) if exc.__cause__ else "it does not parse"
        raise BadRequest(f"The body is not valid JSON: {reason}") from exc


_AS_FORM = "Upload files as multipart/form-data instead of inside JSON."


def _limit(most: int, remedy: str | None = None) -> int | None:
    """Take at most so many bytes as body; return how many are announced. Raises TooLarge."""
    request.max_content_length = most
    length = request.content_length
    if length is not None and length > most:
        raise TooLarge(f"The request has {length / 1e6:.1f} MB; {most / 1e6:.0f} MB are taken here.", remedy=remedy)
    return length
