"""Requests to the Graph API for one account: addresses, the token, answers. Knows no order of steps."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from dalla.platforms import instagram_errors as errors
from dalla.platforms.base import Account, PlatformError
from dalla.platforms.session import never_sent
from dalla.settings import Settings

if TYPE_CHECKING:
    import requests

_NO_TOKEN = re.compile(
    r"access token[^.]{0,40}\b(required|missing|must be|not (?:found|provided))|(?:no|missing) access token", re.I
)


def is_facebook(settings: Settings) -> bool:
    """Whether accounts sign in with Facebook (graph.facebook.com) instead of Instagram."""
    parts = urlsplit(settings.instagram_graph_url)
    return "facebook" in (parts.hostname or "") or "facebook" in parts.path


class Graph:
    """The Graph API as one account. Every method raises PlatformError."""

    def __init__(self, settings: Settings, account: Account, now: Callable[[], datetime]) -> None:
        self._settings, self._account, self._now = settings, account, now
        self.token = account.keys.get("instagram_api_key", "").strip()
        self.id = account.keys.get("instagram_account_id", "").strip()
        if not self.token:
            raise self._missing("The Instagram token is missing.", "Enter the Instagram token under Connections.")
        if not self.id or not (account.dry_run or (self.id.isascii() and self.id.isdigit())):
            raise self._missing(
                "The Instagram account id is missing or is no number.",
                "Enter the account id (17 digits, not the @name) of the Instagram account in the character's accounts.",
            )

    def get(self, path: str, **params: str) -> dict[str, Any]:
        """Read; `path` without a leading slash and without the version."""
        return self._call("GET", path, params)

    def post(self, path: str, body: Mapping[str, Any], *, publishing: bool = False) -> dict[str, Any]:
        """Write. `publishing`: the answer decides whether a post is live."""
        return self._call("POST", path, body, publishing=publishing)

    def hidden(self, path: str, form: Mapping[str, str], *, versioned: bool = True, get: bool = True) -> dict[str, Any]:
        """Read with secrets among the parameters: they travel in the body (`method=get`), never in the address."""
        body = {**form, "method": "get"} if get else dict(form)
        response = self._send("POST", self._url(path, versioned), publishing=False, headers={}, data=body)
        return self._answer(response, False)

    def read_with_token(self, path: str, versioned: bool = True, **params: str) -> dict[str, Any]:
        """Read an address that may stand outside the versions."""
        return self._call("GET", path, params, versioned=versioned)

    # ------------------------------------------------------------------ one request

    def _url(self, path: str, versioned: bool = True) -> str:
        base = self._settings.instagram_graph_url.rstrip("/")
        version = self._settings.instagram_graph_version.strip().strip("/")
        if version and not version.startswith("v"):
            version = f"v{version}"
        return "/".join(part for part in (base, version if versioned else "", quote(path, safe="/")) if part)

    def _call(
        self, method: str, path: str, values: Mapping[str, Any], *, publishing: bool = False, versioned: bool = True
    ) -> dict[str, Any]:
        url = self._url(path, versioned)
        if not self._account.extra.get("tokenInBody"):
            headers = {"Authorization": f"Bearer {self.token}"}
            body = {"params": values} if method == "GET" else {"json": dict(values)}
            response = self._send(method, url, publishing=publishing, headers=headers, **body)
            if not _misses_token(response):
                return self._answer(response, publishing)
            self._account.extra["tokenInBody"] = True  # the header is not read there: nothing has happened
        form = {k: _plain(v) for k, v in values.items()} | {"access_token": self.token}
        if method == "GET":
            form["method"] = "get"
        response = self._send("POST", url, publishing=publishing, headers={}, data=form)
        if _misses_token(response):
            self._account.extra.pop("tokenInBody", None)
        return self._answer(response, publishing)

    def _send(self, method: str, url: str, *, publishing: bool, **more: Any) -> requests.Response:
        import requests

        try:
            return self._account.session.request(method, url, allow_redirects=False, **more)
        except requests.RequestException as exc:
            harmless = not publishing or never_sent(exc)
            error = errors.make(errors.LOST, now=self._now(), publishing=not harmless)
            if isinstance(exc, requests.Timeout):
                error.cause, error.extra["cause"] = "timeout", "timeout"
            raise error from exc

    def _answer(self, response: requests.Response, publishing: bool) -> dict[str, Any]:
        text = response.content.decode("utf-8", "replace")
        if response.status_code in (200, 201):
            try:
                body = response.json()
            except ValueError:
                body = None
            if isinstance(body, dict) and "error" not in body:
                return body
        raise errors.error_of(
            response.status_code,
            text,
            response.headers,
            now=self._now(),
            publishing=publishing,
            secrets=(self.token, self._settings.instagram_app_secret or ""),
        )

    def _missing(self, detail: str, remedy: str) -> PlatformError:
        return PlatformError(
            detail,
            platform=errors.NAME,
            cause="credentials",
            action="reconnect",
            stops_account=True,
            remedy=remedy,
        )


def _misses_token(response: requests.Response) -> bool:
    """Whether the other side says that it saw no token at all (not: a wrong one)."""
    if response.status_code not in (400, 401, 403):
        return False
    try:
        error = response.json()["error"]
        return error.get("code") in (104, 2500) or bool(_NO_TOKEN.search(str(error.get("message"))))
    except (ValueError, KeyError, TypeError, AttributeError):
        return False


def _plain(value: Any) -> str:
    return ("true" if value else "false") if isinstance(value, bool) else str(value)
