"""The dry run: a session that opens no socket, writes down what would have left, and answers by itself.

The adapter of the platform runs unchanged; `Platform.pretend` says what the platform would answer.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from hashlib import sha256
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from dalla.platforms.base import Platform
from dalla.platforms.session import MASK, SECRET_NAMES, scrub
from dalla.records.post import OutboxRequest
from dalla.times import now_iso

if TYPE_CHECKING:
    import requests

#: A text longer than this inside a body is told by size and hash (base64 of a picture).
LONG_TEXT = 8 * 1024
_SECRET = {name.casefold() for name in SECRET_NAMES}
_SECRET_HEADERS = {"cookie", "set-cookie", "x-api-key", "x-goog-api-key", "proxy-authorization"}
_OAUTH_SECRET = re.compile(r'(oauth_(?:signature|token|consumer_key|verifier))="[^"]*"')
_BASE64 = re.compile(r"[A-Za-z0-9+/_=\s-]+\Z")


def outbox_session(
    platform: Platform,
    keep: Callable[[OutboxRequest], None],
    *,
    post_id: str | None = None,
    character_id: str | None = None,
) -> requests.Session:
    """Return a session for a dry run: `keep` gets each request (secrets masked) before it is answered."""
    import requests

    session = requests.Session()
    session.trust_env = False
    session.adapters.clear()
    session.mount("", _Outbox(platform, keep, post_id, character_id))  # type: ignore[arg-type]
    return session


class _Outbox:
    """A transport adapter of `requests` without a network behind it."""

    def __init__(
        self, platform: Platform, keep: Callable[[OutboxRequest], None], post_id: str | None, character_id: str | None
    ) -> None:
        self._platform, self._keep, self._post_id, self._character_id = platform, keep, post_id, character_id

    def send(self, request: requests.PreparedRequest, **_: Any) -> requests.Response:
        import requests

        method, url = request.method or "GET", request.url or ""
        body = _bytes(request.body)
        self._keep(
            OutboxRequest(
                post_id=self._post_id,
                character_id=self._character_id,
                platform=self._platform.info.name,
                method=method,
                url=masked_url(url),
                headers=masked_headers(request.headers),
                body=described(body, str(request.headers.get("Content-Type") or "")),
                at=now_iso(),
            )
        )
        status, answer = self._platform.pretend(method, url, body)
        response = requests.Response()
        response.status_code = status
        response._content = json.dumps(answer).encode() if answer is not None else b""  # type: ignore[attr-defined]
        response.headers["Content-Type"] = "application/json; charset=utf-8"
        response.encoding = "utf-8"
        response.url, response.request = url, request
        response.reason = "Dry run"
        return response

    def close(self) -> None:
        """Nothing is open."""


def masked_url(url: str) -> str:
    """The address without the values of secret parameters and without a password."""
    parts = urlsplit(url)
    query = urlencode(
        [(k, MASK if k.casefold() in _SECRET else v) for k, v in parse_qsl(parts.query, keep_blank_values=True)],
        safe=MASK,
    )
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], query=query))


def masked_headers(headers: Mapping[str, Any]) -> dict[str, str]:
    """The headers without credentials; of OAuth 1.0a the harmless parts stay readable."""
    shown = {}
    for name, raw in headers.items():
        value = raw.decode("latin-1") if isinstance(raw, bytes) else str(raw)
        if name.casefold() == "authorization":
            if value.startswith("OAuth oauth_") or value.startswith("OAuth realm"):
                value = _OAUTH_SECRET.sub(rf'\1="{MASK}"', value)
            else:
                value = f"{value.partition(' ')[0]} {MASK}" if " " in value else MASK
        elif name.casefold() in _SECRET_HEADERS:
            value = MASK
        shown[str(name)] = value
    return shown


def described(body: bytes | None, content_type: str) -> Any:
    """The body as JSON can hold it: fields in clear, secrets masked, bytes by size and hash."""
    if not body:
        return None
    mime = content_type.partition(";")[0].strip().casefold()
    if mime == "multipart/form-data":
        return _multipart(body, content_type)
    if mime == "application/x-www-form-urlencoded":
        return {k: _field(k, v) for k, v in parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True)}
    if mime == "application/json" or mime.endswith("+json"):
        try:
            return _value(json.loads(body))
        except ValueError:
            pass
    if mime.startswith("text/"):
        return scrub(body.decode("utf-8", "replace"))
    return _binary(None, body, mime)


def _value(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _field(str(k), v) for k, v in value.items()}
    if isinstance(value, list):
        return [_value(v) for v in value]
    return _field("", value)


def _field(name: str, value: Any) -> Any:
    if name.casefold() in _SECRET:
        return MASK
    if isinstance(value, dict | list):
        return _value(value)
    if isinstance(value, str) and len(value) > LONG_TEXT:
        return _binary(name or None, value.encode(), "text/base64" if _BASE64.match(value) else "text/plain")
    return value


def _multipart(body: bytes, content_type: str) -> list[dict[str, Any]]:
    from email.parser import BytesParser
    from email.policy import HTTP

    message = BytesParser(policy=HTTP).parsebytes(b"Content-Type: " + content_type.encode() + b"\r\n\r\n" + body)
    parts: list[dict[str, Any]] = []
    for part in message.iter_parts():
        field = str(part.get_param("name", header="content-disposition") or "")
        data = part.get_payload(decode=True)
        data = data if isinstance(data, bytes) else b""
        if part.get_filename() is None and part.get("Content-Type") is None:
            parts.append({"field": field, "value": _field(field, data.decode("utf-8", "replace"))})
        else:
            parts.append({**_binary(field, data, part.get_content_type()), "filename": part.get_filename()})
    return parts


def _binary(field: str | None, data: bytes, mime: str) -> dict[str, Any]:
    described = {"bytes": len(data), "sha256": sha256(data).hexdigest(), "mime": mime or "application/octet-stream"}
    return {"field": field, **described} if field else described


def _bytes(body: Any) -> bytes | None:
    if body is None or isinstance(body, bytes):
        return body
    if isinstance(body, str):
        return body.encode()
    read = getattr(body, "read", None)
    if read is not None:
        return bytes(read())
    return b"".join(part if isinstance(part, bytes) else str(part).encode() for part in body)
