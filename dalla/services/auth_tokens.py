"""API tokens: keys for programs, each with a name, scopes and an end. Only their SHA-256 is kept."""

from __future__ import annotations

import contextlib
import hashlib
import secrets
from datetime import UTC, datetime, timedelta
from typing import Any

from dalla.errors import Conflict, DallaError, InvalidInput, NotFound
from dalla.ids import new_id
from dalla.records.user import READ, ROLES, SCOPES, ApiToken, Identity, User
from dalla.services.auth_recent import Recent
from dalla.stores.base.users import UserStore
from dalla.times import iso, parse

PREFIX = "dd_"
MOST_TOKENS = 100
MOST_DAYS = 3650
USED_EVERY = timedelta(minutes=1)  # so often it is written that a token is in use


class Tokens:
    """Make, list and revoke tokens, and say whom one belongs to."""

    def __init__(self, users: UserStore, recent: Recent) -> None:
        self._users = users
        self._recent = recent

    def identity(self, token: str) -> Identity | None:
        """Return whom the token belongs to; None when it is unknown, has expired, or the user is disabled."""
        if not token.startswith(PREFIX):
            return None
        hash = _sha256(token)
        return self._identity(self._recent.get(f"token {hash}", lambda: self._users.token(hash)), touch=True)

    def identity_by_id(self, id: str) -> Identity | None:
        """Return the same for a token that was seen before; None when it has ended meanwhile."""
        return self._identity(self._users.token_by_id(id), touch=False)

    def _identity(self, found: tuple[ApiToken, User] | None, *, touch: bool) -> Identity | None:
        if found is None:
            return None
        token, user = found
        now = datetime.now(UTC)
        if user.disabled or _expired(token, now):
            return None
        if touch and (token.last_used_at is None or now - parse(token.last_used_at) >= USED_EVERY):
            with contextlib.suppress(DallaError):
                self._users.used(token.id, iso(now))
        rights = frozenset({READ, *token.scopes}) & ROLES[user.role] & frozenset(SCOPES)
        return Identity("token", user.id, user.name, user.role, rights, token_id=token.id)

    def create(
        self, who: Identity, name: str, scopes: list[str], *, expires_at: str | None = None, days: int | None = None
    ) -> tuple[dict[str, Any], str]:
        """Make a token; return how it is shown, and the token itself, which cannot be had again.

        Raises InvalidInput (name, scopes beyond the role, an end in the past), Conflict (name taken, too many).
        """
        if not who.user_id:
            raise Conflict("There are no accounts yet, and without them programs need no token.", remedy="Make the first account under Settings, Accounts and security.")  # fmt: skip
        name = " ".join(name.split())
        if not 1 <= len(name) <= 100 or not name.isprintable():
            raise InvalidInput.field("name", "Use 1 to 100 ordinary characters.")
        if not scopes or any(scope not in SCOPES for scope in scopes):
            raise InvalidInput.field("scopes", f"Choose at least one of {', '.join(SCOPES)}.")
        beyond = sorted(set(scopes) - ROLES[who.role])
        if beyond:
            raise InvalidInput.field("scopes", f"Your role {who.role} does not allow {' and '.join(beyond)}.")
        secret = PREFIX + secrets.token_urlsafe(32)
        now = datetime.now(UTC)
        token = ApiToken(
            id=new_id("token"),
            user_id=who.user_id,
            name=name,
            hash=_sha256(secret),
            prefix=secret[: len(PREFIX) + 6],
            scopes=[scope for scope in SCOPES if scope in scopes],
            created_at=iso(now),
            expires_at=_end(expires_at, days, now),
        )
        return _shown(self._users.add_token(token, most=MOST_TOKENS), now), secret

    def all(self, user_id: str) -> list[dict[str, Any]]:
        """Return the tokens of a user, newest first, without anything one could sign in with."""
        now = datetime.now(UTC)
        return [_shown(token, now) for token in self._users.tokens(user_id)] if user_id else []

    def revoke(self, user_id: str, id: str) -> None:
        """Raises NotFound."""
        if not self._users.delete_token(user_id, id):
            raise NotFound.of("token", id)


def _shown(token: ApiToken, now: datetime) -> dict[str, Any]:
    return {**token.to_json(exclude={"hash", "user_id"}), "expired": _expired(token, now)}


def _expired(token: ApiToken, now: datetime) -> bool:
    return token.expires_at is not None and now >= parse(token.expires_at)


def _end(expires_at: str | None, days: int | None, now: datetime) -> str | None:
    if expires_at is not None and days is not None:
        raise InvalidInput.field("days", "Give either expiresAt or days.")
    if days is not None:
        if not 1 <= days <= MOST_DAYS:
            raise InvalidInput.field("days", f"Use 1 to {MOST_DAYS} days, or leave it out for a token without an end.")
        return iso(now + timedelta(days=days))
    if expires_at is None:
        return None
    try:
        end = parse(expires_at)
        if now < end <= now + timedelta(days=MOST_DAYS):
            return iso(end)
    except (ValueError, OverflowError):
        pass
    raise InvalidInput.field("expiresAt", "Give a time in the future, such as 2027-01-31T00:00:00Z.")


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
