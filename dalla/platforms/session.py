"""The way out to the platforms: a `requests.Session` that cannot hang, repeat itself or spill a token.

The session itself is in `guarded.py`, which imports `requests`; this module stays light.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import requests

#: Seconds to connect, and seconds of silence on an open connection.
TIMEOUT = (10.0, 60.0)
#: Seconds one answer may take in all, however slowly it drips in.
DEADLINE = 180.0
#: An answer of a platform is JSON of a few kilobytes; more than this is none.
MAX_ANSWER = 16 * 1024 * 1024

MASK = "***"
SECRET_NAMES = (
    "access_token",
    "fb_exchange_token",
    "input_token",
    "client_secret",
    "appsecret_proof",
    "oauth_signature",
    "oauth_token",
    "oauth_consumer_key",
    "oauth_verifier",
    "refresh_token",
    "x-amz-signature",
    "x-amz-credential",
    "x-amz-security-token",
)
_PAIR = re.compile(
    r"(?i)\b(" + "|".join(SECRET_NAMES) + r")(\"?'?\s*(?:=|:|%3d)\s*)(\"[^\"]*\"|'[^']*'|[^&\s\"',;)}\]]+)"
)
_SCHEME = re.compile(r"(?i)\b(bearer|oauth|basic)\s+(?!oauth_)[A-Za-z0-9._~+/=|%-]{8,}")
#: Access tokens of Meta on their own in a text: a fixed beginning and a long tail.
_META = re.compile(r"\b(?:EAA|IGA|IGQ)[A-Za-z0-9_-]{20,}")


def live_session(timeout: tuple[float, float] = TIMEOUT) -> requests.Session:
    """Return a session for real requests to a platform.

    Every request gets `timeout` (connect, silence; seconds) unless it brings its own, and ends after
    `DEADLINE`. Nothing is repeated by itself. A redirect to another host, or from https to http, is
    not followed: the 3xx answer comes back. `.netrc` is ignored, proxies of the environment are used.
    Exceptions are those of `requests`, without tokens in them; ask `never_sent` about them.
    """
    from dalla.platforms.guarded import GuardedSession

    return GuardedSession(timeout)


def never_sent(exc: BaseException) -> bool:
    """Say whether the request certainly did not reach the other side (no connection was made)."""
    return bool(getattr(exc, "never_sent", False))


def scrub(text: str, secrets: Iterable[str] = ()) -> str:
    """Take tokens, keys and signatures out of a text that is stored or shown. `secrets`: known values."""
    for secret in secrets:
        if secret and len(secret) >= 4:
            text = text.replace(secret, MASK)
    text = _PAIR.sub(lambda m: f"{m[1]}{m[2]}{MASK}", text)
    text = _SCHEME.sub(lambda m: f"{m[1]} {MASK}", text)
    return _META.sub(MASK, text)
