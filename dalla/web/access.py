"""Who asks, and who may do what: one table decides for every route.

`identity()` says who is asking. `check()` runs before every view, after the Host and Origin checks:
it finds the right a route needs and refuses those who do not have it. A route that is in no row of
`TABLE` needs `read` for GET and HEAD and `write` for everything else, so a new route is never open
by accident. docs/access.md shows the table; a test calls every route and compares.
"""

from __future__ import annotations

import re
from hashlib import sha256
from typing import NoReturn
from urllib.parse import urlencode

from flask import Response, g, redirect, request

from dalla.errors import Forbidden, Unauthorized
from dalla.records.user import ADMIN, LOCAL, NOBODY, PUBLISH, READ, SELF, WRITE, Identity
from dalla.web import peer
from dalla.web.context import services

__all__ = [
    "ADMIN",
    "COOKIE",
    "CSRF_HEADER",
    "LOCAL",
    "NOBODY",
    "PUBLIC",
    "PUBLISH",
    "READ",
    "SELF",
    "TABLE",
    "WRITE",
    "Identity",
    "check",
    "identity",
    "own_key",
    "require",
    "require_task",
    "right_of",
    "safe_next",
]

PUBLIC = "public"
COOKIE = "dalla_session"
CSRF_HEADER = "X-Dalla"
UNSAFE = {"POST", "PUT", "PATCH", "DELETE"}

#: (methods, rule, right). `*` as methods: all; `!GET`: all but GET and HEAD. A rule may end in `*`. The first match wins.
TABLE: tuple[tuple[str, str, str], ...] = (
    # open to everybody
    ("GET", "/login.html", PUBLIC),
    ("GET", "/login", PUBLIC),
    ("GET", "/static/<path:filename>", PUBLIC),  # the pages in it are not, see _rule
    ("GET", "/favicon.ico", PUBLIC),
    ("GET", "/robots.txt", PUBLIC),
    ("GET", "/public/*", PUBLIC),
    ("GET", "/health/live", PUBLIC),
    ("GET", "/api/auth/state", PUBLIC),
    ("POST", "/api/auth/login", PUBLIC),
    ("POST", "/api/auth/setup", PUBLIC),
    # one's own account
    ("*", "/api/auth/users*", ADMIN),
    ("*", "/api/auth/*", SELF),
    # running the app
    ("PATCH", "/api/settings", ADMIN),
    ("!GET", "/api/settings/*", ADMIN),
    ("!GET", "/api/storage*", ADMIN),
    ("*", "/api/backups*", ADMIN),
    ("*", "/api/logs*", ADMIN),
    ("!GET", "/api/system/*", ADMIN),
    ("!GET", "/api/webhooks*", ADMIN),
    ("POST", "/api/shelf/trash", ADMIN),
    ("DELETE", "/api/shelf/trash*", ADMIN),
    ("POST", "/api/shelf/restore", ADMIN),
    ("POST", "/api/shelf/convert", ADMIN),
    # what goes out in somebody's name, and the accounts it goes out with
    ("POST", "/api/post-to-*", PUBLISH),
    ("!GET", "/api/posts*", PUBLISH),
    ("!GET", "/api/scheduler*", PUBLISH),
    ("!GET", "/api/platforms*", PUBLISH),
    ("!GET", "/api/connections*", PUBLISH),
    ("!GET", "/api/outbox*", PUBLISH),
)

#: What starting, retrying, moving forward, cancelling or dismissing a background task of each kind needs. A kind that is not here: admin.
TASKS: dict[str, str] = {
    **dict.fromkeys(
        (
            "generate_image",
            "upscale_image",
            "caption_prompts",
            "url_uploads",
            "dataset_import",
            "dataset_check",
            "dataset_caption_edit",
            "dataset_export",
            "dataset_restore",
            "dataset_materialize",
            "image_batch",
            "image_batch_net",
            "image_batch_gpu",
            "image_batch_undo",
            "train_lora",
            "hash_weights",
            "add_weights",
        ),
        WRITE,
    ),
    "publish_post": PUBLISH,
    "run_task": PUBLISH,
    **dict.fromkeys(
        (
            "measure_storage",
            "clean_storage",
            "move_storage",
            "make_backup",
            "restore_backup",
            "convert_weights",
            "deliver_webhooks",
        ),
        ADMIN,
    ),
}

#: Where programs ask: answers there are JSON, whoever asks.
PROGRAMS = ("/api/", "/tasks/", "/health", "/metrics")
#: A page, however its address is written: `/static/a.html/` and `/static/a.html/.` are the same file.
_PAGE = re.compile(r"\.html?(?:[./\\\s]|\Z)", re.IGNORECASE)

_NEEDED = {
    READ: "the right to read",
    WRITE: "the role editor or admin",
    PUBLISH: "the role editor or admin",
    ADMIN: "the role admin",
    SELF: "a person who is signed in",
}


def identity() -> Identity:
    """Return who asks; found once per request. Raises StorageError when the accounts cannot be read."""
    if "identity" not in g:
        g.identity = _identify()
    return g.identity  # type: ignore[no-any-return]


def right_of(rule: str, method: str) -> str:
    """Return the right that a route needs: public, read, write, publish, admin or self."""
    method = "GET" if method in ("HEAD", "OPTIONS") else method
    for methods, pattern, right in TABLE:
        fits = methods == "*" or (method != "GET" if methods == "!GET" else method == methods)
        if fits and (rule.startswith(pattern[:-1]) if pattern.endswith("*") else rule == pattern):
            return right
    return READ if method == "GET" else WRITE


def check() -> Response | None:
    """Let the request pass, send a browser to the login page, or refuse it. Raises Unauthorized, Forbidden."""
    rule = _rule()
    if rule is None and request.path.startswith("/public/"):
        return None  # 404: the one part that is open to the world leads nobody to the login page
    right = right_of(rule, request.method) if rule is not None else None
    if right == PUBLIC:
        return None
    who = identity()
    if who.kind == "nobody":
        return _sign_in()
    if rule is None or right is None:
        return None  # nothing is there, or not with this method; that may be said to whoever is signed in
    if who.kind == "session" and request.method in UNSAFE and request.headers.get(CSRF_HEADER) != "1":
        raise Forbidden(
            "The request does not come from a page of this app.",
            remedy=f"Programs use an API token, or send the header {CSRF_HEADER}: 1 with the session cookie.",
        )
    if not who.may(right):
        _refuse(who, right)
    return None


def require_task(kind: str) -> None:
    """Refuse to touch a background task of this kind, as `require` does."""
    require(TASKS.get(kind, ADMIN), "This task")


def require(right: str, what: str | None = None) -> None:
    """Refuse from inside a view, where the right depends on what is asked. Raises Forbidden.

    `what` completes "… needs the role admin", e.g. "Importing a folder of this computer".
    """
    who = identity()
    if not who.may(right):
        _refuse(who, right, what)


def own_key(key: str) -> str:
    """Return an Idempotency-Key as this caller's own, so that nobody is given somebody else's first answer."""
    who = identity().key
    return sha256(f"{who}\0{key}".encode()).hexdigest() if who else key


def safe_next(address: str | None) -> str:
    """Return an address to go on to after signing in: always a path of this app, "/" where it would not be."""
    text = address or "/"
    if not text.startswith("/") or text.startswith("//") or "\\" in text or len(text) > 2000:
        return "/"
    if any(ord(c) < 33 or ord(c) == 127 for c in text) or text.split("?")[0].split("#")[0] in ("/login", "/login.html"):
        return "/"
    return text


def _rule() -> str | None:
    """Return the rule that will answer; a page by its own name, and pages among the static files as pages."""
    if request.url_rule is None:
        return None
    rule = request.url_rule.rule
    if rule == "/<name>.html":
        return request.path
    if rule.startswith("/static/") and _PAGE.search(request.path):
        return "/static/<page>.html"
    return rule


def _identify() -> Identity:
    auth = services().auth
    if auth.is_open(direct=peer.is_direct()):
        return LOCAL
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer":  # a bad token is not made good by a cookie
        return auth.by_token(token.strip()) or NOBODY
    cookie = request.cookies.get(COOKIE, "")
    return (auth.by_session(cookie) if cookie else None) or NOBODY


def _sign_in() -> Response:
    """Answer somebody unknown; the same for what exists and what does not."""
    program = request.path.startswith(PROGRAMS)
    if request.method in ("GET", "HEAD") and (not program or "text/html" in request.headers.get("Accept", "")):
        wanted = request.full_path if request.query_string else request.path
        response = redirect(f"/login.html?{urlencode({'next': safe_next(wanted)})}", 303)
        response.headers["Cache-Control"] = "no-store"
        return response  # type: ignore[return-value]
    if "Authorization" in request.headers:
        raise Unauthorized(
            "This API token is not valid: it is unknown, has expired, was revoked, or its user is disabled.",
            remedy="Make a new one under Settings, Account.",
        )
    raise Unauthorized("Please sign in.", remedy="Sign in at /login.html; programs send an API token as Authorization: Bearer dd_….")  # fmt: skip


def _refuse(who: Identity, right: str, what: str | None = None) -> NoReturn:
    needed = _NEEDED[right]
    remedy = f"You are signed in as {who.role}. Ask an admin to change your role."
    if who.kind == "token" and right in (WRITE, PUBLISH):
        needed, remedy = f"a token with the scope {right}", "Make such a token under Settings, Account."
    elif who.kind == "token":
        needed, remedy = f"{needed}; API tokens cannot do this", "Sign in with a browser."
    raise Forbidden(f"{what or 'This'} needs {needed}.", remedy=remedy)
