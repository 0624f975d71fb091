"""The accounts of the characters: how they are doing, testing them, keeping their tokens alive.

Tests are real calls, so they are few: Instagram once a day and on demand, X only on demand, because X
bills them. Tokens are renewed in good time. A new token is saved before anything else is done, and one
that cannot be saved is kept in memory and saved as soon as the disk allows it.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from pydantic.alias_generators import to_camel

from dalla.errors import Conflict, DallaError, NotConfigured, StorageError
from dalla.events import EventBus
from dalla.ids import new_id
from dalla.platforms.base import Check, Platform
from dalla.records.character import Character
from dalla.records.post import AccountState, PostFilter
from dalla.services.access_tokens import Tokens, from_env_of
from dalla.services.account_health import (
    KEY_CAUSES,
    PERSON_CAUSES,
    Facts,
    account_json,
    days_left,
    open_breaker,
    renew_remedy,
)
from dalla.services.characters import Characters
from dalla.services.notices import Notices
from dalla.services.platform_access import PlatformAccess
from dalla.settings import Settings
from dalla.stores.base import AccountStore, LeaseStore, PostStore
from dalla.times import iso, parse

logger = logging.getLogger(__name__)

CHECK_EVERY = timedelta(hours=24)
BILLED = frozenset({"twitter"})
BILLED_CACHE = timedelta(hours=1)
LEASE = timedelta(minutes=30)


class Hosting(Protocol):
    """Where pictures are fetched from (platforms/hosting.py)."""

    def describe(self) -> dict[str, Any]:
        """Return {"mode", "detail", "remedy"}. No network."""

    def check(self) -> dict[str, Any]:
        """Fetch a test picture as the platform would: {"ok", "url", "steps"}."""


class Publishing(Protocol):
    """The switches of publishing (services/publishing.py)."""

    def pauses(self) -> dict[str, Any]: ...

    def close_breaker(self, character_id: str, platform: str) -> None: ...

    def pause_account(self, character_id: str, platform: str, paused: bool) -> None: ...


def _utc_now() -> datetime:
    return datetime.now(UTC)


class Connections:
    """Health of every account, and what mends it."""

    def __init__(
        self,
        settings: Settings,
        accounts: AccountStore,
        characters: Characters,
        platforms: PlatformAccess,
        hosting: Hosting,
        notices: Notices,
        events: EventBus,
        publishing: Publishing,
        leases: LeaseStore,
        *,
        posts: PostStore | None = None,
        now: Callable[[], datetime] = _utc_now,
    ) -> None:
        """`posts` is where the next post of each account is read; without it `nextPostAt` stays empty."""
        self._settings = settings
        self._accounts = accounts
        self._characters = characters
        self._platforms = platforms
        self._hosting = hosting
        self._notices = notices
        self._events = events
        self._publishing = publishing
        self._leases = leases
        self._posts = posts
        self._now = now
        self._owner = f"{os.getpid()}-{new_id('conn')}"
        self._tokens = Tokens(settings, accounts, characters, platforms, notices, events, publishing, now)

    # ------------------------------------------------------------ reading

    def overview(self, character_id: str | None = None) -> dict[str, Any]:
        """Return {"platforms": […with "accounts"], "hosting", "pauses"}. No network. Raises NotFound."""
        characters = [self._characters.get(character_id)] if character_id else list(self._characters.all())
        pauses = self._publishing.pauses()
        states = {(s.character_id, s.platform): s for s in self._accounts.all()}
        following = self._next_posts()
        return {
            "platforms": [
                {
                    **info_json(platform, self._settings),
                    "accounts": [self._json(c, platform, pauses, states, following) for c in characters],
                }
                for platform in self._platforms.all()
            ],
            "hosting": self._hosting.describe(),
            "pauses": pauses,
            "dryRun": bool(self._settings.dry_run),
        }

    def account(self, character_id: str, platform: str) -> dict[str, Any]:
        """Return one account as the API shows it. No network. Raises NotFound, InvalidInput."""
        character, adapter = self._characters.get(character_id), self._platforms.get(platform)
        states = {(character_id, platform): self._accounts.get(character_id, platform)}
        return self._json(character, adapter, self._publishing.pauses(), states, self._next_posts(character_id))

    def status(self) -> list[dict[str, Any]]:
        """Return one row per account with keys, for the system status: status ok, warning or error. No network."""
        pauses = self._publishing.pauses()
        states = {(s.character_id, s.platform): s for s in self._accounts.all()}
        keys = (
            "characterId",
            "characterName",
            "platform",
            "platformLabel",
            "status",
            "detail",
            "remedy",
            "checkedAt",
            "untested",
            "passing",
        )
        rows = []
        for platform in self._platforms.all():
            for character in self._characters.all():
                account = self._json(character, platform, pauses, states, {})
                if account["status"] != "off":
                    href = f"/connections.html?character={character.id}&platform={platform.info.name}"
                    rows.append({key: account[key] for key in keys} | {"href": href})
        return rows

    def _json(
        self,
        character: Character,
        platform: Platform,
        pauses: dict[str, Any],
        states: dict[tuple[str, str], AccountState],
        following: dict[tuple[str, str], str],
    ) -> dict[str, Any]:
        key = (character.id, platform.info.name)
        state = states.get(key) or AccountState(character_id=character.id, platform=platform.info.name)
        missing = self._platforms.credentials_missing(character, platform.info.name)
        if not missing:
            with contextlib.suppress(StorageError):  # a full disk must not keep people from seeing how things are
                state = self._tokens.noticed(character, platform, state)
        return account_json(
            Facts(
                character=character,
                info=platform.info,
                state=state,
                missing=missing,
                pause=_pause(pauses, state, character.id),
                dry_run=bool(self._settings.dry_run or character.dry_run or missing),
                from_env=from_env_of(character, platform),
                next_post_at=following.get(key),
                now=self._now(),
            )
        )

    def _next_posts(self, character_id: str | None = None) -> dict[tuple[str, str], str]:
        if self._posts is None:
            return {}
        where = PostFilter(statuses=["scheduled", "claimed", "uploading", "publishing"], character_id=character_id)
        found: dict[tuple[str, str], str] = {}
        for post in self._posts.page(where, limit=1000, sort="soonest").items:
            at = post.due_at or post.scheduled_at
            if at:
                key = (post.character_id, post.platform)
                found[key] = min(at, found.get(key, at))
        return found

    # ------------------------------------------------------------ testing

    def check(self, character_id: str, platform: str, *, force: bool = False) -> dict[str, Any]:
        """Test the connection for real and return the account.

        Without `force` a test of X that went well within the last hour is not repeated, because X bills it.
        Raises NotFound, InvalidInput, NotConfigured (keys missing), Conflict (the app only rehearses).
        """
        character, adapter = self._characters.get(character_id), self._platforms.get(platform)
        self._refuse_rehearsal()
        missing = self._platforms.credentials_missing(character, platform)
        if missing:
            raise NotConfigured(
                f"{character.name} has no {' and '.join(missing)} for {adapter.info.label}.",
                remedy="Enter the keys on the character's Accounts tab.",
            )
        state = self._tokens.noticed(character, adapter, self._accounts.get(character_id, platform))
        if force or not self._fresh(state, platform):
            self._check(character, adapter, state)
        return self.account(character_id, platform)

    def _fresh(self, state: AccountState, platform: str) -> bool:
        if platform not in BILLED or not state.checked_at or not state.check_ok:
            return False
        return self._now() - parse(state.checked_at) < BILLED_CACHE

    def _check(self, character: Character, platform: Platform, state: AccountState) -> AccountState:
        name = platform.info.name
        account = self._platforms.account(character, name, dry_run=False)
        try:
            result = platform.check(account)
        except DallaError as exc:  # not the platform's answer: a broken store, a missing library
            result = Check(False, exc.detail, exc.remedy, extra={"action": "retry"})
        finally:
            account.session.close()
        action, cause = result.extra.get("action"), result.extra.get("cause")
        stops = not result.ok and (action in ("reconnect", "ask") or cause in KEY_CAUSES | PERSON_CAUSES)
        # No answer says nothing about the keys. Without a cause it is the answer that does not fit (another account).
        unsure = not result.ok and not stops and (action in ("retry", "defer") or cause is not None)
        now = iso(self._now())
        changes: dict[str, Any] = {
            "checked_at": now,
            "check_ok": None if unsure else result.ok,
            "check_detail": result.detail,
            "check_remedy": result.remedy,
        }
        for field in ("username", "account_type"):
            if getattr(result, field) is not None:
                changes[field] = getattr(result, field)
        if result.quota_total is not None or result.quota_used is not None:
            changes |= {"quota_used": result.quota_used, "quota_total": result.quota_total, "quota_at": now}
        if result.ok:
            changes["extra"] = {**state.extra, **result.extra}
        if result.token_expires_at:
            changes["token_expires_at"] = result.token_expires_at
            changes["extra"] = {**changes.get("extra", state.extra), "tokenEstimated": False}
        state = self._accounts.save(character.id, name, **changes)
        if result.ok and state.breaker_code in KEY_CAUSES:
            self._publishing.close_breaker(character.id, name)
        elif stops and open_breaker(state, self._now()) is None:
            self._tokens.stop_account(character, platform, result.detail, cause or "credentials", result.remedy)
        self._tokens.tell(character.id, name)
        return self._accounts.get(character.id, name)

    def recheck(self) -> None:
        """Test every account with keys, except on platforms that bill for it and in a dry run. Never raises."""
        if self._settings.dry_run:
            return
        for row in self.status():
            if row["platform"] not in BILLED:
                with contextlib.suppress(DallaError):  # what is wrong stands in the account's state
                    self.check(row["characterId"], row["platform"], force=True)

    def check_hosting(self) -> dict[str, Any]:
        """Fetch a test picture the way Instagram does. Raises Conflict (the app only rehearses)."""
        self._refuse_rehearsal()
        return self._hosting.check()

    def _refuse_rehearsal(self) -> None:
        if self._settings.dry_run:
            raise Conflict(
                "The app runs as a dry run, so nothing leaves this computer, not even a test.",
                remedy="Start it without --dry-run (or switch DALLA_DRY_RUN off) to test connections.",
            )

    # ------------------------------------------------------------ switches

    def close_breaker(self, character_id: str, platform: str) -> dict[str, Any]:
        """Let a stopped account post again. Raises NotFound, InvalidInput."""
        self._characters.get(character_id)
        self._platforms.get(platform)
        self._publishing.close_breaker(character_id, platform)
        return self.account(character_id, platform)

    def pause(self, character_id: str, platform: str, paused: bool) -> dict[str, Any]:
        """Stop one account by hand, or let it go on. Raises NotFound, InvalidInput."""
        self._characters.get(character_id)
        self._platforms.get(platform)
        self._publishing.pause_account(character_id, platform, paused)
        return self.account(character_id, platform)

    # ------------------------------------------------------------ tokens

    def refresh(self, character_id: str, platform: str) -> dict[str, Any]:
        """Renew the token now and return the account.

        Raises NotFound, InvalidInput, NotConfigured (no keys), Conflict (nothing to renew, key from the
        environment, rehearsal), PlatformError, StorageError (the new token waits in memory).
        """
        character, adapter = self._characters.get(character_id), self._platforms.get(platform)
        self._refuse_rehearsal()
        if self._platforms.credentials_missing(character, platform):
            raise NotConfigured("There is no token to renew.", remedy="Enter one on the character's Accounts tab.")
        from_env = from_env_of(character, adapter)
        if from_env:
            raise Conflict("This token cannot be renewed by the app.", remedy=renew_remedy(from_env))
        state = self._tokens.noticed(character, adapter, self._accounts.get(character_id, platform))
        if state.token_issued_at is None and state.token_expires_at is None:
            raise Conflict(f"The keys of {adapter.info.label} do not end, so there is nothing to renew.")
        if not self._tokens.renew(character, adapter, state, by_hand=True):
            left = days_left(state, self._now())
            if left is not None and left < 0:
                raise Conflict(
                    "The token has ended and can no longer be renewed.",
                    remedy="Make a new one on the platform and enter it on the character's Accounts tab.",
                )
            raise Conflict(
                "The token cannot be renewed yet.",
                remedy="It must be at least 24 hours old (a Facebook-login token also needs the app id and secret in the settings).",
            )
        return self.account(character_id, platform)

    def keys_changed(self, character_id: str) -> None:
        """Take note of new keys at once (called after a character was saved). Never raises."""
        try:
            character = self._characters.get(character_id)
            for platform in self._platforms.all():
                self._tokens.noticed(character, platform, self._accounts.get(character_id, platform.info.name))
        except DallaError as exc:
            logger.warning("the accounts of %s could not be looked at: %s", character_id, exc.detail)

    # ------------------------------------------------------------ every hour

    def tick(self) -> int:
        """Tend every account: renew tokens, raise alarms, test Instagram once a day; return how many were tended.

        Only one process does it at a time. May wait for the platforms, so it needs a thread of its own.
        """
        now = self._now()
        if not self._leases.acquire("connections", self._owner, iso(now), iso(now + LEASE)):
            return 0
        count = 0
        try:
            for character in self._characters.all():
                for platform in self._platforms.all():
                    if self._platforms.credentials_missing(character, platform.info.name):
                        self._tokens.settled(character.id, platform.info.name)
                        continue
                    try:
                        self._tend(character, platform)
                        count += 1
                    except Exception:  # noqa: BLE001 - one account must not keep the others from being tended
                        logger.exception("tending %s of %s", platform.info.name, character.id)
            self._forget_deleted()
        finally:
            self._leases.release("connections", self._owner)
        return count

    def _tend(self, character: Character, platform: Platform) -> None:
        name, now = platform.info.name, self._now()
        state = self._tokens.noticed(character, platform, self._accounts.get(character.id, name))
        if not self._settings.dry_run:
            self._tokens.tend(character, platform, state)
            state = self._accounts.get(character.id, name)
            untested = not state.checked_at or now - parse(state.checked_at) >= CHECK_EVERY
            if name not in BILLED and untested:
                state = self._check(character, platform, state)
        self._tokens.alarm(character, platform, state)

    def _forget_deleted(self) -> None:
        known = {c.id for c in self._characters.all()} | {c.id for c in self._characters.trashed()}
        for id in {state.character_id for state in self._accounts.all()} - known:
            self._accounts.delete(id)


def info_json(platform: Platform, settings: Settings) -> dict[str, Any]:
    """Return a platform as data for the pages."""
    info = platform.info
    return {
        "name": info.name,
        "label": info.label,
        "kinds": list(info.kinds),
        "credentials": [{**asdict(c), "field": to_camel(c.field)} for c in info.credentials],
        "images": {to_camel(k): v for k, v in asdict(info.images).items()},
        "text": {to_camel(k): v for k, v in asdict(info.text).items()},
        "needsPublicUrl": info.needs_public_url,
        "minGapSeconds": settings.min_gap_minutes * 60,
        "docsUrl": info.docs_url,
        "billedChecks": info.name in BILLED,
    }


def _pause(pauses: dict[str, Any], state: AccountState, character_id: str) -> dict[str, Any] | None:
    for scope, pause in (("all", pauses["all"]), ("character", pauses["characters"].get(character_id))):
        if pause is not None:
            return {"reason": pause.get("reason") or "", "since": pause.get("since"), "scope": scope}
    return {"reason": "Stopped by hand", "since": None, "scope": "account"} if state.paused else None
