"""The session behind `session.live_session`."""

from __future__ import annotations

import time
from typing import Any
from urllib.parse import urlsplit

import requests
from urllib3.exceptions import ConnectTimeoutError, NewConnectionError

from dalla import __version__
from dalla.platforms.session import DEADLINE, MAX_ANSWER, scrub

_LOOPBACK = {"127.0.0.1", "localhost", "::1"}


class GuardedSession(requests.Session):
    """A session with limits. Not shared between threads."""

    def __init__(
        self, timeout: tuple[float, float], *, deadline: float = DEADLINE, max_answer: int = MAX_ANSWER
    ) -> None:
        super().__init__()
        self.trust_env = False  # a .netrc must never replace our Authorization header
        self.timeout, self.deadline, self.max_answer = timeout, deadline, max_answer
        self.headers["User-Agent"] = f"DigitalDalla/{__version__}"

    def send(self, request: requests.PreparedRequest, **kwargs: Any) -> requests.Response:
        if kwargs.get("timeout") is None:
            kwargs["timeout"] = self.timeout
        streamed = bool(kwargs.get("stream"))
        end = time.monotonic() + self.deadline
        secrets = _values(request)
        try:
            response = super().send(request, **{**kwargs, "stream": True})
            if not streamed and not response._content_consumed:  # type: ignore[attr-defined]
                self._read(response, end)
        except requests.RequestException as exc:
            raise _clean(exc, secrets) from None
        return response

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        """Return where an answer leads to; None (do not follow) when that is another host or no https any more."""
        target = super().get_redirect_target(resp)
        if target is None:
            return None
        here, there = urlsplit(resp.url), urlsplit(requests.compat.urljoin(resp.url, target))
        same = (here.scheme, here.hostname, here.port) == (there.scheme, there.hostname, there.port)
        return target if same and resp.request.method in ("GET", "HEAD") else None

    def merge_environment_settings(self, url: Any, proxies: Any, stream: Any, verify: Any, cert: Any) -> Any:
        """Take proxies and certificates from the environment, but nothing for this machine itself."""
        if urlsplit(str(url)).hostname in _LOOPBACK:
            return super().merge_environment_settings(url, proxies, stream, verify, cert)
        self.trust_env = True
        try:
            return super().merge_environment_settings(url, proxies, stream, verify, cert)
        finally:
            self.trust_env = False

    def _read(self, response: requests.Response, end: float) -> None:
        parts, size = [], 0
        try:
            for part in response.iter_content(64 * 1024):
                parts.append(part)
                size += len(part)
                if size > self.max_answer:
                    raise requests.ConnectionError("The answer is far too long.")
                if time.monotonic() > end:
                    raise requests.ReadTimeout("The answer did not end in time.")
        except BaseException:
            response.close()
            raise
        response._content = b"".join(parts)  # type: ignore[attr-defined]


def _values(request: requests.PreparedRequest) -> list[str]:
    """The credentials of this request, to look for in texts about it."""
    header = str(request.headers.get("Authorization") or "")
    return [header.partition(" ")[2]] if header else []


def _clean(exc: requests.RequestException, secrets: list[str]) -> requests.RequestException:
    """The same error without the request (its headers hold the token) and without tokens in its words."""
    clean = type(exc)(scrub(str(exc), secrets))
    clean.never_sent = _never_sent(exc)  # type: ignore[attr-defined]
    return clean


def _never_sent(exc: requests.RequestException) -> bool:
    if isinstance(
        exc, requests.ConnectTimeout | requests.exceptions.InvalidURL | requests.exceptions.InvalidSchema
    ) or isinstance(exc, requests.exceptions.MissingSchema):
        return True
    reason: Any = exc.args[0] if exc.args else None
    reason = getattr(reason, "reason", reason)
    reason = getattr(reason, "original_error", reason)
    if isinstance(reason, NewConnectionError | ConnectTimeoutError):
        return True
    return isinstance(exc, requests.exceptions.SSLError) and "CERTIFICATE_VERIFY_FAILED" in str(exc)
