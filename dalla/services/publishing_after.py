"""What follows when a post has come to its end, and when an account must rest: notes, notices, breakers."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, Literal, Protocol

from dalla.errors import NotFound
from dalla.events import EventBus
from dalla.platforms.base import PlatformError
from dalla.records.character import Character
from dalla.records.post import Post
from dalla.services.characters import Characters
from dalla.services.gallery import Gallery
from dalla.services.notices import Notices
from dalla.services.platform_access import PlatformAccess
from dalla.stores.base import AccountStore
from dalla.times import iso

logger = logging.getLogger(__name__)

BREAK_AFTER = 5  # failures in a row of one account
BREAK_SECONDS = 1800


class PromptUse(Protocol):
    """Where a prompt's use is noted (services/prompts.py)."""

    def mark_used(self, id: str, type: str, ref_id: str) -> Any: ...


class Aftermath:
    """Tells everybody who has to know how a post ended. Nothing here can change the outcome."""

    def __init__(
        self,
        accounts: AccountStore,
        characters: Characters,
        platforms: PlatformAccess,
        gallery: Gallery,
        notices: Notices,
        prompts: PromptUse,
        events: EventBus,
        now: Callable[[], datetime],
    ) -> None:
        self._accounts = accounts
        self._characters = characters
        self._platforms = platforms
        self._gallery = gallery
        self._notices = notices
        self._prompts = prompts
        self._events = events
        self._now = now
        self.changed = threading.Condition()  # notified whenever a post came to rest
        self.listeners: list[Callable[[Post], None]] = []

    def open_breaker(self, post: Post, error: PlatformError) -> None:
        if post.dry_run:
            return
        self._break(post, error.detail, error.cause, error.until, error.remedy)

    def _break(self, post: Post, reason: str, code: str, until: datetime | None, remedy: str | None) -> None:
        self._accounts.save(
            post.character_id,
            post.platform,
            breaker_reason=reason,
            breaker_code=code,
            breaker_since=iso(self._now()),
            breaker_until=iso(until) if until else None,
            last_error=reason,
            last_error_at=iso(self._now()),
        )
        character = self.character(post)
        label = self._platforms.get(post.platform).info.label
        self._notices.notify(
            "account.stopped",
            f"{label}: {character.name if character else 'an account'} is stopped",
            reason + (f" {remedy}" if remedy else ""),
            level="error",
            href=f"/connections.html?character={post.character_id}&platform={post.platform}",
            action="Open connections",
            character_id=post.character_id,
            key=f"account:{post.character_id}:{post.platform}",
        )
        self._events.publish("account.updated", {"characterId": post.character_id, "platform": post.platform})

    def count_failure(self, post: Post, error: PlatformError) -> None:
        if post.dry_run:
            return
        failures = self._accounts.count_failure(post.character_id, post.platform, error.detail, iso(self._now()))
        if failures >= BREAK_AFTER and failures % BREAK_AFTER == 0:
            until = self._now() + timedelta(seconds=BREAK_SECONDS)
            reason = f"It failed {failures} times in a row. Last: {error.detail}"
            self._break(post, reason, "failing", until, "It is tried again by itself in half an hour.")

    def remember(self, post: Post, extra: dict[str, Any]) -> None:
        """Keep what an adapter learned about the account (its quota, ids), so that it need not ask again."""
        changes: dict[str, Any] = {"extra": extra}
        quota = extra.get("quota")
        if isinstance(quota, dict) and isinstance(quota.get("used"), int):
            changes |= {"quota_used": quota["used"], "quota_total": quota.get("total"), "quota_at": quota.get("at")}
        self._accounts.save(post.character_id, post.platform, **changes)

    def settled(self, post: Post) -> None:
        """Tell everybody who has to know. The row is written already; nothing here may change the outcome."""
        for work in (self._note_account, self._note_use, self._note_people, *self.listeners):
            try:
                work(post)
            except Exception:  # noqa: BLE001 - see above
                logger.exception("after post %s became %s", post.id, post.status)
        self.tell(post)
        with self.changed:
            self.changed.notify_all()

    def _note_account(self, post: Post) -> None:
        if post.status != "published":
            return
        state = self._accounts.get(post.character_id, post.platform)
        cleared: dict[str, Any] = {}
        if state.breaker_code == "failing":
            cleared = {"breaker_reason": None, "breaker_code": None, "breaker_since": None, "breaker_until": None}
        self._accounts.save(post.character_id, post.platform, last_success_at=post.published_at, failures=0, **cleared)

    def _note_use(self, post: Post) -> None:
        if post.status == "published":
            self._gallery.mark_posted(post.media_ids)
            if post.prompt_id:
                self._prompts.mark_used(post.prompt_id, "post", post.id)

    def _note_people(self, post: Post) -> None:
        key = f"post:{post.id}"
        character = self.character(post)
        label = self._platforms.get(post.platform).info.label
        who = character.name if character else "A post"
        data = {
            "postId": post.id,
            "characterId": post.character_id,
            "characterName": character.name if character else None,
            "platform": post.platform,
            "status": post.status,
            "platformPostId": post.platform_post_id,
            "permalink": post.permalink,
            "caption": post.caption,
            "error": (post.error or {}).get("detail"),
        }
        endings: dict[str, tuple[str, Literal["error", "warning"], str]] = {
            "failed": (f"{who}: the post on {label} failed", "error", "post.failed"),
            "missed": (f"{who}: the post on {label} was missed", "warning", "post.failed"),
            "unconfirmed": (f"{who}: is the post on {label} live?", "warning", "post.unconfirmed"),
        }
        said = endings.get(post.status)
        if said is None:
            self._notices.resolve(key)
            if post.status == "published":
                self._notices.emit("post.published", data)
            return
        title, level, event = said
        error = post.error or {}
        detail = " ".join(text for text in (error.get("detail"), error.get("remedy")) if text)
        self._notices.notify(
            f"post.{post.status}",
            title,
            detail,
            level=level,
            href=f"/content.html?post={post.id}",
            action="Open the post",
            character_id=post.character_id,
            key=key,
        )
        self._notices.emit(event, data)

    def tell(self, post: Post) -> None:
        self._events.publish(
            "post.updated",
            {
                "id": post.id,
                "status": post.status,
                "platform": post.platform,
                "characterId": post.character_id,
                "hold": post.hold,
            },
        )

    def character(self, post: Post) -> Character | None:
        try:
            return self._characters.get(post.character_id)
        except NotFound:
            return None
