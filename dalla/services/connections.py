"""The accounts of the characters: how they are doing, testing them, keeping their tokens alive.

Tests are real calls, so they are few: Instagram once a day and on demand, X only on demand, because X
bills them. Tokens are renewed in good time. A new token is saved before anything else is done, and one
that cannot be saved is kept in memory and saved as soon as the disk allows it.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from pydantic.alias_generators import to_camel

from dalla.errors import Conflict, DallaError, NotConfigured, NotFound, StorageError
from dalla.events import EventBus
from dalla.ids import new_id
from dalla.platforms.base import Check, Platform, PlatformError
from dalla.records.character import SECRET_FIELDS, Character
from dalla.records.post import AccountState, PostFilter
from dalla.services.account_health import (
    KEY_CAUSES,
    Facts,
    account_json,
    accounts_tab,
    alarm_step,
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

TOKEN_DAYS = 60  # life of an Instagram-login token
UNKNOWN_AGE = timedelta(hours=25)  # how long a token of unknown age is watched before it is renewed
RENEW_AFTER = timedelta(days=30)
CHECK_EVERY = timedelta(hours=24)
TRY_AGAIN = timedelta(hours=23)
BILLED = frozenset({"twitter"})
BILLED_CACHE = timedelta(hours=1)
LEASE = timedelta(minutes=30)
_ENV = "env:"


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
        self._unsaved: dict[tuple[str, str], tuple[str, dict[str, Any]]] = {}  # account -> (old fingerprint, renewal)

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
        rows = []
        for platform in self.overview()["platforms"]:
            for account in platform["accounts"]:
                if account["status"] == "off":
                    continue
                keys = ("characterId", "characterName", "platform", "platformLabel", "status", "detail", "remedy")
                name = platform["name"]
                href = f"/connections.html?character={account['characterId']}&platform={name}"
                rows.append({key: account[key] for key in keys} | {"href": href, "checkedAt": account["checkedAt"]})
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
            state = self._keyed(character, platform, state)
        return account_json(
            Facts(
                character=character,
                info=platform.info,
                state=state,
                missing=missing,
                pause=_pause(pauses, state, character.id),
                dry_run=bool(self._settings.dry_run or character.dry_run or missing),
                from_env=_from_env(character, platform),
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
        state = self._keyed(character, adapter, self._accounts.get(character_id, platform))
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
        unsure = not result.ok and action in ("retry", "defer")
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
        if result.ok and state.breaker_reason and _proves(name, state.breaker_code):
            self._publishing.close_breaker(character.id, name)
        elif not result.ok and action in ("reconnect", "ask") and open_breaker(state, self._now()) is None:
            self._break(character, platform, result.detail, cause or "credentials", result.remedy)
        self._tell(character.id, name)
        return self._accounts.get(character.id, name)

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
        from_env = _from_env(character, adapter)
        if from_env:
            raise Conflict("This token cannot be renewed by the app.", remedy=renew_remedy(from_env))
        state = self._keyed(character, adapter, self._accounts.get(character_id, platform))
        if state.token_issued_at is None and state.token_expires_at is None:
            raise Conflict(f"The keys of {adapter.info.label} do not end, so there is nothing to renew.")
        if not self._renew(character, adapter, state, by_hand=True):
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
                self._keyed(character, platform, self._accounts.get(character_id, platform.info.name))
        except DallaError as exc:
            logger.warning("the accounts of %s could not be looked at: %s", character_id, exc.detail)

    def _keyed(self, character: Character, platform: Platform, state: AccountState) -> AccountState:
        """Start afresh when the keys are not those the state belongs to: age, test result, stop because of the old ones."""
        name = platform.info.name
        fingerprint = self._platforms.fingerprint(character, name)
        if not fingerprint or fingerprint == state.token_fingerprint:
            return state
        now = self._now()
        first = state.token_fingerprint is None
        ends = now + timedelta(days=TOKEN_DAYS) if self._token_ends(name) else None
        kept = {
            k: v for k, v in state.extra.items() if k not in ("tokenEstimated", "alarmed", "renewTriedAt", "userId")
        }
        changes: dict[str, Any] = {
            "token_fingerprint": fingerprint,
            "token_issued_at": iso(now) if name not in BILLED else None,
            "token_expires_at": iso(ends) if ends else None,
            "extra": {**kept, "tokenEstimated": True} if ends else kept,
        }
        if not first:
            changes |= {"checked_at": None, "check_ok": None, "check_detail": None, "check_remedy": None, "failures": 0}
        state = self._accounts.save(character.id, name, **changes)
        self._notices.resolve(_token_key(character.id, name))
        if not first and state.breaker_reason and state.breaker_code in KEY_CAUSES:
            self._publishing.close_breaker(character.id, name)
            state = self._accounts.get(character.id, name)
        return state

    def _token_ends(self, platform: str) -> bool:
        """Whether tokens of this platform end by themselves; those of Facebook login are asked about instead."""
        return platform == "instagram" and "facebook" not in self._settings.instagram_graph_url

    def _renew(self, character: Character, platform: Platform, state: AccountState, *, by_hand: bool = False) -> bool:
        """Renew and save; False when the platform says it is not time. Raises PlatformError, StorageError."""
        name, now = platform.info.name, self._now()
        issued = parse(state.token_issued_at) if state.token_issued_at else None
        expires = parse(state.token_expires_at) if state.token_expires_at else None
        if issued and (by_hand or state.extra.get("tokenEstimated")) and now - issued >= timedelta(hours=24):
            issued = min(issued, now - RENEW_AFTER)  # its real age is not known, or somebody wants it now
        before = self._platforms.fingerprint(character, name)
        account = self._platforms.account(character, name, dry_run=False)
        try:
            renewal = platform.refresh(account, now, issued, expires)
        finally:
            account.session.close()
        if renewal is None:
            return False
        self._unsaved[character.id, name] = (before, renewal)
        self._save_renewal(character.id, platform)
        return True

    def _save_renewal(self, character_id: str, platform: Platform) -> None:
        """Save a new token that is held in memory. Raises StorageError and keeps holding it."""
        name = platform.info.name
        before, renewal = self._unsaved[character_id, name]
        try:
            character = self._characters.get(character_id)
        except NotFound:
            del self._unsaved[character_id, name]
            return
        if self._platforms.fingerprint(character, name) != before:
            del self._unsaved[character_id, name]  # somebody entered other keys meanwhile: theirs stay
            return
        character = self._characters.update(character_id, dict(renewal["keys"]))
        del self._unsaved[character_id, name]
        extra = {
            k: v
            for k, v in self._accounts.get(character_id, name).extra.items()
            if k not in ("alarmed", "renewTriedAt")
        }
        self._accounts.save(
            character_id,
            name,
            token_fingerprint=self._platforms.fingerprint(character, name),
            token_issued_at=renewal.get("issuedAt") or iso(self._now()),
            token_expires_at=renewal.get("expiresAt"),
            extra={**extra, "tokenEstimated": False},
        )
        logger.info("the %s token of %s was renewed", name, character_id)
        self._notices.resolve(_token_key(character_id, name))
        self._tell(character_id, name)

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
                        self._notices.resolve(_token_key(character.id, platform.info.name))
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
        state = self._keyed(character, platform, self._accounts.get(character.id, name))
        if not self._settings.dry_run:
            if (character.id, name) in self._unsaved:
                self._save_renewal(character.id, platform)
            elif self._renewal_wanted(character, platform, state):
                self._try_renewal(character, platform, state)
            state = self._accounts.get(character.id, name)
            untested = not state.checked_at or now - parse(state.checked_at) >= CHECK_EVERY
            if name not in BILLED and untested:
                state = self._check(character, platform, state)
        self._alarm(character, platform, state)

    def _renewal_wanted(self, character: Character, platform: Platform, state: AccountState) -> bool:
        now = self._now()
        if state.token_issued_at is None or _from_env(character, platform):
            return False
        tried = state.extra.get("renewTriedAt")
        if tried and now - parse(tried) < TRY_AGAIN:
            return False
        age = now - parse(state.token_issued_at)
        return age >= (UNKNOWN_AGE if state.extra.get("tokenEstimated") else RENEW_AFTER)

    def _try_renewal(self, character: Character, platform: Platform, state: AccountState) -> None:
        name = platform.info.name
        self._accounts.save(character.id, name, extra={**state.extra, "renewTriedAt": iso(self._now())})
        try:
            self._renew(character, platform, state)
        except PlatformError as exc:
            logger.warning("the %s token of %s could not be renewed: %s", name, character.id, exc.detail)
            if exc.stops_account:
                self._break(character, platform, exc.detail, exc.cause, exc.remedy)
        except StorageError as exc:
            self._notices.notify(
                "token.unsaved",
                f"{platform.info.label}: the new token of {character.name} cannot be saved",
                f"{exc.detail} It is tried again every hour; do not stop the app before. {exc.remedy or ''}",
                href=accounts_tab(character.id),
                character_id=character.id,
                key=_token_key(character.id, name),
            )

    def _alarm(self, character: Character, platform: Platform, state: AccountState) -> None:
        """Tell when a token is about to end, once per step (10, 7, 3, 1 days, ended)."""
        name, now = platform.info.name, self._now()
        key, left = _token_key(character.id, name), days_left(state, now)
        step = alarm_step(left)
        if step is None or left is None:
            if state.extra.get("alarmed") is not None:
                self._accounts.save(character.id, name, extra={**state.extra, "alarmed": None})
                self._notices.resolve(key)
            return
        ended, estimated = left < 0, bool(state.extra.get("tokenEstimated"))
        if ended and not estimated and open_breaker(state, now) is None:
            self._break(character, platform, "The access token has ended.", "token_expired", renew_remedy(_from_env(character, platform)))  # fmt: skip
        alarm = -1 if ended else step
        if state.extra.get("alarmed") == alarm:
            return
        self._accounts.save(character.id, name, extra={**state.extra, "alarmed": alarm})
        days = "has ended" if ended else "ends today" if left == 0 else f"ends in {left} day{'' if left == 1 else 's'}"
        self._notices.notify(
            "token.expiring",
            f"{platform.info.label}: the token of {character.name} {days}",
            renew_remedy(_from_env(character, platform)),
            level="error" if left <= 3 else "warning",
            href=f"/connections.html?character={character.id}&platform={name}",
            action="Open connections",
            character_id=character.id,
            key=key,
        )
        self._notices.emit(
            "token.expiring",
            {
                "characterId": character.id,
                "characterName": character.name,
                "platform": name,
                "tokenExpiresAt": state.token_expires_at,
                "daysLeft": max(0, left),
                "expired": ended,
                "estimated": estimated,
                "detail": f"The token {days}.",
            },
        )

    def _break(self, character: Character, platform: Platform, reason: str, code: str, remedy: str | None) -> None:
        """Stop an account until its keys are mended, and say so."""
        name = platform.info.name
        now = iso(self._now())
        self._accounts.save(
            character.id,
            name,
            breaker_reason=reason,
            breaker_code=code,
            breaker_since=now,
            breaker_until=None,
            last_error=reason,
            last_error_at=now,
        )
        self._notices.notify(
            "account.stopped",
            f"{platform.info.label}: {character.name} is stopped",
            reason + (f" {remedy}" if remedy else ""),
            href=f"/connections.html?character={character.id}&platform={name}",
            action="Open connections",
            character_id=character.id,
            key=f"account:{character.id}:{name}",
        )
        self._tell(character.id, name)

    def _forget_deleted(self) -> None:
        known = {c.id for c in self._characters.all()} | {c.id for c in self._characters.trashed()}
        for id in {state.character_id for state in self._accounts.all()} - known:
            self._accounts.delete(id)

    def _tell(self, character_id: str, platform: str) -> None:
        self._events.publish("account.updated", {"characterId": character_id, "platform": platform})


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


def _from_env(character: Character, platform: Platform) -> list[str]:
    """Return the names of the environment variables the secret keys come from."""
    fields = [c.field for c in platform.info.credentials if c.field in SECRET_FIELDS]
    values = [getattr(character, field) or "" for field in fields]
    return [value.removeprefix(_ENV) for value in values if value.startswith(_ENV)]


def _pause(pauses: dict[str, Any], state: AccountState, character_id: str) -> dict[str, Any] | None:
    for scope, pause in (("all", pauses["all"]), ("character", pauses["characters"].get(character_id))):
        if pause is not None:
            return {"reason": pause.get("reason") or "", "since": pause.get("since"), "scope": scope}
    return {"reason": "Stopped by hand", "since": None, "scope": "account"} if state.paused else None


def _proves(platform: str, code: str | None) -> bool:
    """Whether a test that went well settles why the account was stopped. X's test proves reading only."""
    return code in KEY_CAUSES and not (platform == "twitter" and code in ("permission", "read_only"))


def _token_key(character_id: str, platform: str) -> str:
    return f"token:{character_id}:{platform}"
