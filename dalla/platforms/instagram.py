"""Instagram through the Graph API: pictures, carousels, stories.

Instagram fetches each picture from a public address into a *container*, which is published by one
call. Making containers is invisible and harmless; only `media_publish` has an effect, and its errors
cannot be trusted: it has answered errors for posts that were live. So whatever is not plain about it
becomes effect="unknown", and `look` reads the container and the list of posts.

Checkpoints (`remote`): `of` fingerprint of the content · `children` [{id, at, ready}] · `container`,
`containerAt`, `polls`, `ready`, `published` · `restarts` containers thrown away, `throttled` in a row ·
`publishTries`, `lost` answers · `hold` a refusal to wait out · `quotaAt` · `mediaId`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from dalla import times
from dalla.errors import DallaError
from dalla.platforms import instagram_account, instagram_errors, instagram_look
from dalla.platforms.base import Account, Check, Files, Look, PlatformError, Published, Watch
from dalla.platforms.instagram_api import Graph
from dalla.platforms.instagram_staging import Staging, drop_container, hold_of, throttled
from dalla.records.platform import Credential, ImageRules, Issue, PlatformInfo, TextRules
from dalla.records.post import Snapshot
from dalla.settings import Settings

logger = logging.getLogger(__name__)

INFO = PlatformInfo(
    name="instagram",
    label="Instagram",
    kinds=("single", "carousel", "story"),
    credentials=(
        Credential(
            "instagram_account_id",
            "Instagram account id",
            secret=False,
            help="The number of the professional account (17 digits), not its @name. The connection test shows it.",
        ),
        Credential(
            "instagram_api_key",
            "Instagram access token",
            help="A long-lived token with the right to publish, from the Meta app dashboard.",
        ),
    ),
    images=ImageRules(
        min_ratio=0.8,
        max_ratio=1.91,
        ratios=("4:5", "1:1", "1.91:1"),
        min_width=320,
        max_width=1440,
        max_height=1920,
        max_bytes=7_900_000,
        max_images=10,
        story_ratio="9:16",
    ),
    text=TextRules(
        max_length=2200,
        count="characters",
        max_hashtags=30,
        warn_hashtags=5,
        max_mentions=20,
        max_alt_text=1000,
        warn_links="Links in Instagram captions cannot be tapped.",
    ),
    needs_public_url=True,
    min_gap_seconds=300,
    docs_url="https://developers.facebook.com/docs/instagram-platform/content-publishing",
)


def _now() -> datetime:
    return datetime.now(UTC)


class Instagram:
    """The adapter. Instagram login or Facebook login, as `settings.instagram_graph_url` says."""

    info = INFO

    def __init__(
        self, settings: Settings, *, now: Callable[[], datetime] = _now, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._settings, self._now, self._sleep = settings, now, sleep

    # ------------------------------------------------------------------ words

    def check_text(self, kind: str, caption: str, alt_texts: list[str]) -> list[Issue]:
        """Say what Instagram would refuse or ignore in the words."""
        from dalla import text_length

        if kind == "story":
            if caption.strip():
                return [Issue("warning", "story_caption", "Instagram shows no caption on stories.", "caption")]
            return []
        issues = list(text_length.issues(INFO.label, caption, INFO.text))
        limit = INFO.text.max_alt_text
        for number, text in enumerate(alt_texts, 1):
            if len(text) > limit:
                message = f"The alt text of picture {number} has {len(text)} characters; Instagram takes {limit}."
                issues.append(Issue("error", "alt_text_length", message, "altTexts", "Shorten the alt text."))
        return issues

    # ------------------------------------------------------------------ stage

    def stage(
        self, account: Account, snapshot: Snapshot, remote: dict[str, Any], files: Files, watch: Watch
    ) -> dict[str, Any]:
        """Make the container(s) and wait until Instagram has processed them."""
        return Staging(self._settings, account, snapshot, remote, files, watch, self._now, self._sleep).run()

    # ------------------------------------------------------------------ publish

    def publish(self, account: Account, snapshot: Snapshot, remote: dict[str, Any], watch: Watch) -> Published:
        """Publish the container. One request; nothing here tries twice."""
        remote = dict(remote)
        graph = Graph(self._settings, account, self._now)
        if remote.get("published"):
            raise PlatformError(
                "Instagram says that this was published already.",
                platform=INFO.name,
                cause="already_published",
                action="retry",
                effect="unknown",
            )
        remote["publishTries"] = int(remote.get("publishTries") or 0) + 1
        watch.save(remote)
        try:
            answer = graph.post(f"{graph.id}/media_publish", {"creation_id": remote["container"]}, publishing=True)
            media_id = str(answer.get("id") or "")
            if not media_id:
                raise instagram_errors.make(instagram_errors.UNKNOWN, now=self._now(), publishing=True)
        except PlatformError as exc:
            if exc.effect == "unknown" and exc.cause in ("network", "timeout", "server_error", "unknown"):
                remote["lost"] = int(remote.get("lost") or 0) + 1
            if exc.cause == "not_ready":
                remote["ready"] = False
            throttled(remote, exc, self._now())
            if exc.effect == "unknown" and exc.until is not None:
                remote["hold"] = hold_of(exc)
            if exc.restart:
                drop_container(remote)
            _save(watch, remote)
            raise
        remote["mediaId"] = media_id
        _save(watch, remote)
        return Published(media_id, self._permalink(account, media_id, watch), times.iso(self._now()))

    def _permalink(self, account: Account, media_id: str, watch: Watch) -> str | None:
        """Never fails the post: the address is cosmetic."""
        try:
            with watch.step("permalink"):
                graph = Graph(self._settings, account, self._now)
                link = graph.get(media_id, fields="permalink").get("permalink")
        except PlatformError:
            return None
        return link if isinstance(link, str) and link.startswith("https://") else None

    def permalink(self, account: Account, id: str) -> str | None:
        """Return the address of a post, None when it cannot be read now."""
        return self._permalink(account, id, _Unwatched())

    def look(
        self, account: Account, snapshot: Snapshot, remote: dict[str, Any], started_at: str, looks: int, watch: Watch
    ) -> Look:
        """Ask whether the publish of `started_at` became a post: the container's state, then the list of posts."""
        try:
            graph = Graph(self._settings, account, self._now)
            return instagram_look.look(graph, snapshot, remote, times.parse(started_at), looks, self._now())
        except PlatformError as exc:
            return instagram_look.cannot_tell(looks, exc.detail)

    # ------------------------------------------------------------------ the account

    def check(self, account: Account) -> Check:
        """Test the token, the account id, the account's type and the right to publish. Two or three reads."""
        try:
            graph = Graph(self._settings, account, self._now)
            return instagram_account.check(self._settings, graph, self._now())
        except PlatformError as exc:
            return Check(False, exc.detail, exc.remedy, extra={"cause": exc.cause, "action": exc.action})

    def refresh(
        self, account: Account, now: datetime, issued_at: datetime | None, expires_at: datetime | None
    ) -> dict[str, Any] | None:
        """Renew the token from its 30th day on (never before 24 hours, never when it is dead)."""
        if not instagram_account.renewal_due(now, issued_at, expires_at):
            return None
        graph = Graph(self._settings, account, lambda: now)
        return instagram_account.renew(self._settings, graph, now)

    def pretend(self, method: str, url: str, body: bytes | None) -> tuple[int, dict[str, Any]]:
        """Answer as Instagram would when all goes well; ids begin with `dryrun-`."""
        return instagram_account.pretend(method, url, body)


class _Unwatched:
    """A Watch for calls outside a post."""

    def step(self, name: str) -> Any:
        import contextlib

        return contextlib.nullcontext()

    def save(self, remote: dict[str, Any]) -> None:
        """There is nothing to keep."""

    def check_cancelled(self) -> None:
        """Nobody can ask."""


def _save(watch: Watch, remote: dict[str, Any]) -> None:
    """Write the checkpoints after the call with an effect; a full disk must not hide what the platform said."""
    try:
        watch.save(remote)
    except DallaError:
        logger.exception("the checkpoints of a publish could not be saved")
