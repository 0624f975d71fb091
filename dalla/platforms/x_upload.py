"""Bring pictures to X: POST /2/media/upload, whole or in chunks, and their alt texts.

tweepy knows only the old upload address, so this is own code with tweepy's signing. Uploading twice does no harm:
nothing is visible before a post names the picture.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from dalla.platforms import x_errors
from dalla.platforms.base import NotReady, PlatformError
from dalla.platforms.session import TIMEOUT
from dalla.times import iso, parse

if TYPE_CHECKING:
    import requests

#: Larger files, and GIFs, go in chunks.
SIMPLE_MAX = 3 * 1024 * 1024
CHUNK = 1024 * 1024
#: An uploaded picture is used until this long before X forgets it.
MARGIN_SECONDS = 30 * 60
_LIFE_SECONDS = 24 * 3600


class Api:
    """Signed requests to X through the account's session. Every address is the one that is really called."""

    def __init__(self, session: requests.Session, base: str, keys: dict[str, str]) -> None:
        self._session, self.base, self._keys = session, base.rstrip("/"), keys
        #: What must never stand in an error, whoever repeats it.
        self.secrets = tuple(value for field, value in keys.items() if value and field != "twitter_account_id")

    def call(self, method: str, path: str, *, publishing: bool = False, **more: Any) -> dict[str, Any]:
        """Send one request; return its JSON ({} where X answers nothing). Raises PlatformError."""
        return self.ask(method, path, publishing=publishing, **more)[0]

    def ask(self, method: str, path: str, *, publishing: bool = False, **more: Any) -> tuple[dict[str, Any], Any]:
        """As `call`, with the headers of the answer."""
        import requests

        try:
            response = self._session.request(method, self.base + path, auth=self._auth(), timeout=TIMEOUT, **more)
        except requests.RequestException as exc:
            raise x_errors.no_answer(exc, publishing=publishing) from None
        return answer(response, publishing=publishing, secrets=self.secrets), response.headers

    def tweepy(self) -> Any:
        """Return a tweepy.Client that acts through the account's session and on our address of X."""
        import tweepy

        client = tweepy.Client(
            consumer_key=self._keys.get("twitter_app_key"),
            consumer_secret=self._keys.get("twitter_app_secret"),
            access_token=self._keys.get("twitter_access_token"),
            access_token_secret=self._keys.get("twitter_access_secret"),
            wait_on_rate_limit=False,
        )
        client.session = _Out(self._session, self.base)  # type: ignore[assignment]
        return client

    def _auth(self) -> Any:
        import tweepy

        handler = tweepy.OAuth1UserHandler(
            self._keys["twitter_app_key"],
            self._keys["twitter_app_secret"],
            self._keys["twitter_access_token"],
            self._keys["twitter_access_secret"],
        )
        return handler.apply_auth()


class _Out:
    """What tweepy uses as its session: our address instead of the one in its code (before signing), and a time limit."""

    def __init__(self, session: requests.Session, base: str) -> None:
        self._session, self._base = session, base
        self.last: requests.Response | None = None

    def request(self, method: str, url: str, **more: Any) -> requests.Response:
        path = url.partition("/2/")[2]
        self.last = self._session.request(method, f"{self._base}/2/{path}", **{"timeout": TIMEOUT, **more})
        return self.last


def answer(response: requests.Response, *, publishing: bool = False, secrets: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return the JSON of a success. Raises PlatformError for everything else."""
    if not 200 <= response.status_code < 300:
        raise x_errors.refused(
            response.status_code, body_of(response), response.headers, publishing=publishing, secrets=secrets
        )
    if not response.content:
        return {}
    try:
        body = response.json()
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise x_errors.unreadable(response.status_code, response.text, publishing=publishing, secrets=secrets)
    return body


def body_of(response: requests.Response) -> Any:
    """Return an answer as JSON where it is some, else as text."""
    try:
        return response.json()
    except ValueError:
        return response.text


class Upload:
    """Uploads of one post. An entry of the checkpoints is {sha256, id, key, expiresAt, state, alt}."""

    def __init__(
        self,
        api: Api,
        *,
        simple_max: int = SIMPLE_MAX,
        chunk: int = CHUNK,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._api, self._simple_max, self._chunk, self._now = api, simple_max, chunk, now

    def usable(self, entry: dict[str, Any], sha256: str) -> bool:
        """Whether a checkpoint still stands for this file."""
        try:
            left = (parse(str(entry["expiresAt"])) - self._now()).total_seconds()
            return bool(entry.get("id")) and entry["sha256"] == sha256 and left > MARGIN_SECONDS
        except (KeyError, ValueError):
            return False

    def send(self, data: bytes, *, sha256: str, mime: str) -> dict[str, Any]:
        """Upload one file; return its checkpoint, with state "processing" while X works on it. Raises PlatformError."""
        gif = mime == "image/gif"
        category = "tweet_gif" if gif else "tweet_image"
        if gif or len(data) > self._simple_max:
            found = self._chunked(data, mime, category)
        else:
            name = f"picture.{mime.rpartition('/')[2]}"
            found = self._api.call(
                "POST",
                "/2/media/upload",
                files={"media": (name, data, mime)},
                data={"media_category": category, "media_type": mime},
            )
        return self._entry(found, sha256)

    def wait(self, entry: dict[str, Any]) -> dict[str, Any]:
        """Ask how far X is with a file that it was still working on. Raises NotReady, PlatformError."""
        found = self._api.call("GET", "/2/media/upload", params={"command": "STATUS", "media_id": entry["id"]})
        return self._checked({**entry, "state": "ready"}, found.get("data") or {})

    def alt_text(self, media_id: str, text: str) -> None:
        """Give a picture its description. Raises PlatformError."""
        self._api.call(
            "POST", "/2/media/metadata", json={"id": media_id, "metadata": {"alt_text": {"text": text[:1000]}}}
        )

    def _chunked(self, data: bytes, mime: str, category: str) -> dict[str, Any]:
        begun = self._api.call(
            "POST",
            "/2/media/upload/initialize",
            json={"media_type": mime, "total_bytes": len(data), "media_category": category},
        )
        media_id = _id(begun)
        for index, start in enumerate(range(0, len(data), self._chunk)):
            self._api.call(
                "POST",
                f"/2/media/upload/{media_id}/append",
                files={"media": ("chunk", data[start : start + self._chunk], "application/octet-stream")},
                data={"segment_index": str(index)},
            )
        return self._api.call("POST", f"/2/media/upload/{media_id}/finalize")

    def _entry(self, found: dict[str, Any], sha256: str) -> dict[str, Any]:
        media_id, data = _id(found), found["data"]
        life = data.get("expires_after_secs")
        seconds = float(life) if isinstance(life, int | float) and life > 0 else _LIFE_SECONDS
        entry = {
            "sha256": sha256,
            "id": media_id,
            "key": str(data.get("media_key") or ""),
            "expiresAt": iso(self._now() + timedelta(seconds=seconds)),
            "state": "ready",
        }
        try:
            return self._checked(entry, data)
        except NotReady as exc:
            return {**entry, "state": "processing", "seconds": exc.seconds}

    def _checked(self, entry: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        info = data.get("processing_info") or {}
        state = info.get("state", "succeeded")
        if state in ("pending", "in_progress"):
            raise NotReady(float(info.get("check_after_secs") or 5), "X is still working on the picture.")
        if state == "failed":
            said = str((info.get("error") or {}).get("message") or "no reason given")
            raise PlatformError(
                f"X could not take the picture: {said.rstrip('.')}.",
                platform=x_errors.NAME,
                cause="picture_refused",
                action="fix",
                restart=True,
                remedy="Use another picture.",
            )
        return {k: v for k, v in entry.items() if k != "seconds"}


def _id(body: dict[str, Any]) -> str:
    data = body.get("data")
    if not isinstance(data, dict) or not data.get("id"):
        raise x_errors.unreadable(200, str(body))
    return str(data["id"])
