"""Access tokens: how old they are, renewing them in time, saving the new one, the alarm before one ends."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, Protocol

from dalla.errors import NotFound, StorageError
from dalla.events import EventBus
from dalla.platforms.base import Platform, PlatformError
from dalla.records.character import SECRET_FIELDS, Character
from dalla.records.post import AccountState
from dalla.services.account_health import (
    KEY_CAUSES,
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
from dalla.stores.base import AccountStore
from dalla.times import iso, parse

logger = logging.getLogger(__name__)

TOKEN_DAYS = 60  # life of an Instagram-login token
UNKNOWN_AGE = timedelta(hours=25)  # how long a token of unknown age is watched before it is renewed
RENEW_AFTER = timedelta(days=30)
TRY_AGAIN = timedelta(hours=23)
_ENV = "env:"
_OF_THE_OLD_KEYS = frozenset({"tokenEstimated", "alarmed", "renewTriedAt", "userId", "username"})


class Breakers(Protocol):
    """What closes a breaker (services/publishing.py)."""

    def close_breaker(self, character_id: str, platform: str) -> None: ...


class Tokens:
    """Keeps tokens alive. A new one is saved before anything else happens; until the disk takes it, it is held here."""

    def __init__(
        self,
        settings: Settings,
        accounts: AccountStore,
        characters: Characters,
        platforms: PlatformAccess,
        notices: Notices,
        events: EventBus,
        breakers: Breakers,
        now: Callable[[], datetime],
    ) -> None:
        self._settings = settings
        self._accounts = accounts
        self._characters = characters
        self._platforms = platforms
        self._notices = notices
        self._events = events
        self._breakers = breakers
        self._now = now
        self._unsaved: dict[tuple[str, str], tuple[str, dict[str, Any]]] = {}  # account -> (old fingerprint, renewal)

    def tend(self, character: Character, platform: Platform, state: AccountState) -> None:
        """Renew the token when it is time, or save one that could not be saved before. Says what goes wrong."""
        name = platform.info.name
        try:
            if (character.id, name) in self._unsaved:
                self._save_renewal(character.id, platform)
            elif self._wanted(character, platform, state):
                self._accounts.save(character.id, name, extra={**state.extra, "renewTriedAt": iso(self._now())})
                self.renew(character, platform, state)
        except PlatformError as exc:
            logger.warning("the %s token of %s could not be renewed: %s", name, character.id, exc.detail)
            if exc.stops_account:
                self.stop_account(character, platform, exc.detail, exc.cause, exc.remedy)
        except StorageError as exc:
            if (character.id, name) not in self._unsaved:
                raise
            self._notices.notify(
                "token.unsaved",
                f"{platform.info.label}: the new token of {character.name} cannot be saved",
                f"{exc.detail} It is tried again every hour; do not stop the app before. {exc.remedy or ''}",
                href=accounts_tab(character.id),
                character_id=character.id,
                key=token_key(character.id, name),
            )

    def settled(self, character_id: str, platform: str) -> None:
        """Take the alarm back: the account has no keys any more."""
        self._notices.resolve(token_key(character_id, platform))

    def noticed(self, character: Character, platform: Platform, state: AccountState) -> AccountState:
        """Start afresh when the keys are not those the state belongs to: age, test result, stop because of the old ones."""
        name = platform.info.name
        fingerprint = self._platforms.fingerprint(character, name)
        if not fingerprint or fingerprint == state.token_fingerprint:
            return state
        now = self._now()
        first = state.token_fingerprint is None
        ends = now + timedelta(days=TOKEN_DAYS) if self._ends(name) else None
        kept = {k: v for k, v in state.extra.items() if k not in _OF_THE_OLD_KEYS}
        changes: dict[str, Any] = {
            "token_fingerprint": fingerprint,
            "token_issued_at": iso(now) if name != "twitter" else None,
            "token_expires_at": iso(ends) if ends else None,
            "extra": {**kept, "tokenEstimated": True} if ends else kept,
        }
        if not first:
            changes |= {"checked_at": None, "check_ok": None, "check_detail": None, "check_remedy": None, "failures": 0}
        state = self._accounts.save(character.id, name, **changes)
        self._notices.resolve(token_key(character.id, name))
        if not first and state.breaker_reason and state.breaker_code in KEY_CAUSES:
            self._breakers.close_breaker(character.id, name)
            state = self._accounts.get(character.id, name)
        return state

    def _ends(self, platform: str) -> bool:
        """Whether tokens of this platform end by themselves; those of Facebook login are asked about instead."""
        return platform == "instagram" and "facebook" not in self._settings.instagram_graph_url

    def renew(self, character: Character, platform: Platform, state: AccountState, *, by_hand: bool = False) -> bool:
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
        self._notices.resolve(token_key(character_id, name))
        self.tell(character_id, name)

    def _wanted(self, character: Character, platform: Platform, state: AccountState) -> bool:
        now = self._now()
        if state.token_issued_at is None or from_env_of(character, platform):
            return False
        tried = state.extra.get("renewTriedAt")
        if tried and now - parse(tried) < TRY_AGAIN:
            return False
        age = now - parse(state.token_issued_at)
        return age >= (UNKNOWN_AGE if state.extra.get("tokenEstimated") else RENEW_AFTER)

    def alarm(self, character: Character, platform: Platform, state: AccountState) -> None:
        """Tell when a token is about to end, once per step (10, 7, 3, 1 days, ended)."""
        name, now = platform.info.name, self._now()
        key, left = token_key(character.id, name), days_left(state, now)
        step = alarm_step(left)
        if step is None or left is None:
            if state.extra.get("alarmed") is not None:
                self._accounts.save(character.id, name, extra={**state.extra, "alarmed": None})
                self._notices.resolve(key)
            return
        ended, estimated = left < 0, bool(state.extra.get("tokenEstimated"))
        if ended and not estimated and open_breaker(state, now) is None:
            self.stop_account(character, platform, "The access token has ended.", "token_expired", renew_remedy(from_env_of(character, platform)))  # fmt: skip
        alarm = -1 if ended else step
        if state.extra.get("alarmed") == alarm:
            return
        self._accounts.save(character.id, name, extra={**state.extra, "alarmed": alarm})
        days = "has ended" if ended else "ends today" if left == 0 else f"ends in {left} day{'' if left == 1 else 's'}"
        self._notices.notify(
            "token.expiring",
            f"{platform.info.label}: the token of {character.name} {days}",
            renew_remedy(from_env_of(character, platform)),
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

    def stop_account(
        self, character: Character, platform: Platform, reason: str, code: str, remedy: str | None
    ) -> None:
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
        self.tell(character.id, name)

    def tell(self, character_id: str, platform: str) -> None:
        """Let the pages look again."""
        self._events.publish("account.updated", {"characterId": character_id, "platform": platform})


def from_env_of(character: Character, platform: Platform) -> list[str]:
    """Return the names of the environment variables the secret keys come from."""
    fields = [c.field for c in platform.info.credentials if c.field in SECRET_FIELDS]
    values = [getattr(character, field) or "" for field in fields]
    return [value.removeprefix(_ENV) for value in values if value.startswith(_ENV)]


def token_key(character_id: str, platform: str) -> str:
    """Return the key of the notification about a token."""
    return f"token:{character_id}:{platform}"
