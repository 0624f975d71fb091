"""The account itself: connection test, quota, renewal of the token, and the answers of a dry run."""

from __future__ import annotations

from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any
from urllib.parse import parse_qs, urlsplit

from dalla import times
from dalla.platforms import instagram_errors
from dalla.platforms.base import Check, PlatformError
from dalla.platforms.instagram_api import Graph, is_facebook
from dalla.settings import Settings

LIFE_DAYS = 60
RENEW_AFTER_DAYS = 30
YOUNG = timedelta(hours=24)
PUBLISHING_TYPES = {"business", "media_creator", "creator"}

# ---------------------------------------------------------------- test


def check(settings: Settings, graph: Graph, now: datetime) -> Check:
    """Ask who the token is, compare, and read the quota (which proves the right to publish). Raises PlatformError."""
    facebook = is_facebook(settings)
    if facebook:
        me = graph.get(graph.id, fields="id,username,name")
        found = str(me.get("id") or graph.id)
    else:
        me = graph.get("me", fields="user_id,username,account_type")
        found = str(me.get("user_id") or graph.id)
    username = me.get("username") if isinstance(me.get("username"), str) else None
    account_type = str(me.get("account_type") or "").lower() or None
    known: dict[str, Any] = {"username": username, "account_type": account_type, "extra": {"userId": found}}
    if found != graph.id:
        return Check(
            False,
            f"The token belongs to @{username or found}, whose account id is {found}; the character has {graph.id}.",
            f"Enter {found} as Instagram account id, or the token of the other account.",
            **known,
        )
    if not facebook and account_type and account_type not in PUBLISHING_TYPES:
        return Check(
            False,
            f"@{username} is a private account; Instagram lets only professional accounts publish this way.",
            "Switch it to a professional account in the Instagram app: Settings, Account type and tools.",
            **known,
        )
    used, total = quota(graph)
    expires = _expiry(settings, graph, now) if facebook else None
    detail = f"Connected as @{username or found}."
    if used is not None and total is not None:
        detail += f" {used} of {total} posts used in the last 24 hours."
    return Check(True, detail, quota_used=used, quota_total=total, token_expires_at=expires, **known)


def _expiry(settings: Settings, graph: Graph, now: datetime) -> str | None:
    """Ask when a Facebook token ends; needs the app's id and secret, and is never worth a failed test."""
    if not (settings.instagram_app_id and settings.instagram_app_secret):
        return None
    form = {
        "input_token": graph.token,
        "access_token": f"{settings.instagram_app_id}|{settings.instagram_app_secret}",
    }
    try:
        data = graph.hidden("debug_token", form).get("data")
        seconds = int(data["expires_at"]) if isinstance(data, dict) else 0
    except (PlatformError, KeyError, TypeError, ValueError):
        return None
    return times.iso(datetime.fromtimestamp(seconds, tz=now.tzinfo)) if seconds > 0 else None


# ---------------------------------------------------------------- quota


def quota(graph: Graph) -> tuple[int | None, int | None]:
    """Return (used, total) posts of the last 24 hours; None for what Instagram does not say."""
    answer = graph.get(f"{graph.id}/content_publishing_limit", fields="quota_usage,config")
    rows = answer.get("data")
    row = rows[0] if isinstance(rows, list) and rows and isinstance(rows[0], dict) else {}
    config = row.get("config")
    total = config.get("quota_total") if isinstance(config, dict) else None
    used = row.get("quota_usage")
    return used if isinstance(used, int) else None, total if isinstance(total, int) else None


def quota_frees_at(graph: Graph, now: datetime) -> datetime:
    """Say when the oldest post of the last 24 hours leaves the window; in an hour when that cannot be read."""
    fallback = now + timedelta(hours=1)
    try:
        rows = graph.get(f"{graph.id}/media", fields="timestamp", limit="100").get("data") or []
        made = [times.parse(str(row["timestamp"])) for row in rows]
    except (PlatformError, KeyError, TypeError, ValueError):
        return fallback
    inside = [moment for moment in made if moment > now - timedelta(hours=24)]
    if not inside:
        return fallback
    return min(max(min(inside) + timedelta(hours=24, minutes=1), now + timedelta(minutes=5)), now + timedelta(hours=24))


# ---------------------------------------------------------------- renewal


def renewal_due(now: datetime, issued_at: datetime | None, expires_at: datetime | None) -> bool:
    """Whether a token should be renewed now."""
    if issued_at is None and expires_at is not None:
        issued_at = expires_at - timedelta(days=LIFE_DAYS)
    if issued_at is None or now - issued_at < YOUNG:
        return False
    ends = expires_at or issued_at + timedelta(days=LIFE_DAYS)
    if ends <= now:
        return False  # dead: only a person can make a new one
    return now - issued_at >= timedelta(days=RENEW_AFTER_DAYS) or ends - now <= timedelta(days=RENEW_AFTER_DAYS)


def renew(settings: Settings, graph: Graph, now: datetime) -> dict[str, Any] | None:
    """Exchange the token for a new one. None when Facebook login lacks the app's id and secret. Raises PlatformError."""
    if is_facebook(settings):
        if not (settings.instagram_app_id and settings.instagram_app_secret):
            return None
        answer = graph.hidden(
            "oauth/access_token",
            {
                "grant_type": "fb_exchange_token",
                "client_id": settings.instagram_app_id,
                "client_secret": settings.instagram_app_secret,
                "fb_exchange_token": graph.token,
            },
            get=False,
        )
    else:
        answer = graph.read_with_token("refresh_access_token", versioned=False, grant_type="ig_refresh_token")
    token, lasts = answer.get("access_token"), answer.get("expires_in")
    if not isinstance(token, str) or not token:
        raise instagram_errors.make(instagram_errors.REFUSED, now=now)
    seconds = lasts if isinstance(lasts, int | float) and not isinstance(lasts, bool) and lasts > 0 else None
    return {
        "keys": {"instagram_api_key": token},
        "issuedAt": times.iso(now),
        "expiresAt": times.iso(now + timedelta(seconds=seconds)) if seconds else None,
    }


# ---------------------------------------------------------------- dry run


def pretend(method: str, url: str, body: bytes | None) -> tuple[int, dict[str, Any]]:
    """Answer a request of a dry run; equal requests get equal ids."""
    parts = urlsplit(url)
    steps = [p for p in parts.path.split("/") if p]
    last = steps[-1] if steps else ""
    fields = parse_qs(parts.query).get("fields", [""])[0]
    name = f"dryrun-{sha256(url.encode() + (body or b'')).hexdigest()[:12]}"
    if method == "POST" and last in ("media", "media_publish"):
        return 200, {"id": name}
    if last == "content_publishing_limit":
        return 200, {"data": [{"quota_usage": 0, "config": {"quota_total": 100, "quota_duration": 86400}}]}
    if last in ("media", "stories"):
        return 200, {"data": []}
    if "status_code" in fields:
        return 200, {"id": last, "status_code": "FINISHED", "status": "Finished: dry run"}
    if last == "me":
        return 200, {"id": "dryrun-me", "username": "dry_run", "account_type": "BUSINESS"}
    return 200, {"id": last}
