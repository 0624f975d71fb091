"""One event to one webhook: what is sent, how it is signed, and when it is tried again.

Knows nothing of stores. Chat services that accept only their own form of message (Discord, Slack,
ntfy) get that form, told by the address; everybody else gets the event as JSON. All are signed.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import orjson

from dalla import __version__, addresses
from dalla.errors import DallaError, UpstreamError
from dalla.records.notice import Delivery

#: How long after a failed try the next one comes, seconds. After the last the delivery has failed.
RETRIES = (60, 300, 1800, 7200)
MAX_DETAIL = 500

Send = Callable[..., addresses.Answer]


@dataclass(frozen=True)
class Message:
    """What goes over the wire."""

    body: bytes
    headers: dict[str, str]


@dataclass(frozen=True)
class Outcome:
    """How a try ended, in the columns of a delivery."""

    status: str  # delivered | pending | failed
    attempts: int
    next_try_at: datetime | None
    response_code: int | None
    detail: str


def signature(secret: str, timestamp: str, body: bytes) -> str:
    """Return `sha256=<hex>`: HMAC-SHA256 with the secret over "<timestamp>.<body>"."""
    return "sha256=" + hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()


def form_of(url: str) -> str:
    """Return which form of message an address takes: json | discord | slack | ntfy."""
    parts = urlsplit(url)
    host, path = (parts.hostname or "").lower(), parts.path.rstrip("/")
    if re.fullmatch(r"(\w+\.)?discord(app)?\.com", host) and "/api/webhooks/" in path:
        return "slack" if path.endswith("/slack") else "discord"
    if host in ("hooks.slack.com", "hooks.slack-gov.com"):
        return "slack"
    if (host == "ntfy.sh" or "ntfy" in host.split(".")) and re.fullmatch(r"/[\w-]+", path):
        return "ntfy"
    return "json"


def message(url: str, delivery: Delivery, secret: str, now: datetime) -> Message:
    """Return the signed request for a delivery."""
    form = form_of(url)
    headers = {"Content-Type": "application/json", "User-Agent": f"DigitalDalla/{__version__}"}
    if form == "json":
        body = orjson.dumps(delivery.body)
    else:
        title, text, link = in_words(delivery.event, delivery.body.get("data") or {})
        if form == "ntfy":
            headers |= {"Content-Type": "text/plain; charset=utf-8", "Title": _header(title)}
            if link:
                headers["Click"] = _header(link)
            body = (text or title).encode()
        else:
            whole = "\n".join(part for part in (title, text, link) if part)
            body = orjson.dumps(
                {"text": _slack(whole)}
                if form == "slack"
                else {"content": _cut(whole, 1900), "allowed_mentions": {"parse": []}}
            )
    timestamp = str(int(now.timestamp()))
    headers |= {
        "X-Dalla-Event": delivery.event,
        "X-Dalla-Delivery": delivery.id,
        "X-Dalla-Timestamp": timestamp,
        "X-Dalla-Signature": signature(secret, timestamp, body),
    }
    return Message(body, headers)


def in_words(event: str, data: dict[str, Any]) -> tuple[str, str, str | None]:
    """Return (title, text, link) of an event for people."""
    who = str(data.get("characterName") or data.get("name") or "").strip()
    where = {"instagram": "Instagram", "twitter": "X"}.get(str(data.get("platform") or ""), "")
    titles = {
        "post.published": f"Posted{f' on {where}' if where else ''}",
        "post.failed": f"A post{f' on {where}' if where else ''} failed",
        "post.unconfirmed": f"Is the post{f' on {where}' if where else ''} live?",
        "task.completed": "A task is done",
        "task.failed": "A task failed",
        "training.completed": "A training is done",
        "training.failed": "A training failed",
        "token.expiring": f"The {where or 'access'} token ends soon",
        "test": "Digital Dalla: this is a test",
    }
    title = titles.get(event, event)
    reason = data.get("error") or data.get("detail") or data.get("message") or ""
    if isinstance(reason, dict):
        reason = reason.get("detail") or ""
    text = str(data.get("caption") or reason) if event == "post.published" else str(reason)
    link = data.get("permalink")
    if not (isinstance(link, str) and link.startswith(("https://", "http://"))):
        link = None
    return (f"{who}: {title[0].lower()}{title[1:]}" if who else title), _cut(text, 1500), link


def attempt(
    url: str,
    delivery: Delivery,
    secret: str,
    *,
    now: datetime,
    private: bool,
    send: Send = addresses.post,
    once: bool = False,
) -> Outcome:
    """Send a delivery and say what becomes of it. Never raises for what the other side does.

    `once`: a failure is final (a test by hand).
    """
    tries = delivery.attempts + 1
    final, wait, code = once, 0.0, None
    try:
        ready = message(url, delivery, secret, now)
        answer = send(url, ready.body, ready.headers, private=private)
    except addresses.Refused as exc:
        final, detail = True, " ".join(text for text in (exc.detail, exc.remedy) if text)
    except UpstreamError as exc:
        detail = " ".join(text for text in (exc.detail, exc.remedy) if text)
    except DallaError as exc:
        detail = exc.detail
    else:
        code = answer.status
        if 200 <= code < 300:
            return Outcome("delivered", tries, None, code, _cut(answer.text.strip(), MAX_DETAIL))
        detail, stop = _explained(answer)
        final = final or stop
        wait = _retry_after(answer)
    if final or tries > len(RETRIES):
        return Outcome("failed", tries, None, code, _cut(detail, MAX_DETAIL))
    later = now + timedelta(seconds=max(RETRIES[tries - 1], wait))
    return Outcome("pending", tries, later, code, _cut(detail, MAX_DETAIL))


def _explained(answer: addresses.Answer) -> tuple[str, bool]:
    """Return (what it said, whether trying again is pointless)."""
    said = answer.text.strip()
    if 300 <= answer.status < 400:
        there = answer.headers.get("location", "")
        return (
            f"It redirects{f' to {there}' if there else ''}. Redirects are not followed: enter the final address.",
            True,
        )
    if answer.status == 410:
        return "It says that this webhook does not exist any more (410).", True
    return f"It answered {answer.status}{f': {said}' if said else '.'}", False


def _retry_after(answer: addresses.Answer) -> float:
    """Return the seconds the other side asks for, at most the longest of our own waits."""
    try:
        return min(float(RETRIES[-1]), max(0.0, float(answer.headers.get("retry-after", "0"))))
    except ValueError:
        return 0.0


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1].rstrip() + "…"


def _slack(text: str) -> str:
    """Slack's own escapes, so that a caption can mention nobody."""
    return _cut(text, 3000).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _header(text: str) -> str:
    """A header value: one line, and encoded words where it is not ASCII."""
    line = _cut(" ".join(text.split()), 200)
    if line.isascii():
        return line
    return f"=?UTF-8?B?{base64.b64encode(line.encode()).decode()}?="
