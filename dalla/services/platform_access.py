"""Platforms and the accounts on them: who can be acted as, with which keys, through which session."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from dalla.errors import InvalidInput, NotFound
from dalla.platforms.base import Account, Platform
from dalla.records.character import Character
from dalla.records.post import OutboxRequest
from dalla.services.characters import Characters
from dalla.stores.base import AccountStore, PostStore

if TYPE_CHECKING:
    import requests

#: What stands for a missing key in a dry run, so that every header and signature can still be made.
PLACEHOLDER = "dry-run"


class PlatformAccess:
    """The platforms by name, and accounts ready to act."""

    def __init__(
        self,
        characters: Characters,
        accounts: AccountStore,
        posts: PostStore,
        names: Iterable[str],
        load: Callable[[str], Platform],
        live_session: Callable[[], requests.Session],
        dry_session: Callable[..., requests.Session],
    ) -> None:
        """`load` builds a platform by name; the sessions are the two ways out (see platforms/session.py, outbox.py)."""
        self._characters = characters
        self._accounts = accounts
        self._posts = posts
        self._names = list(names)
        self._load = load
        self._live_session = live_session
        self._dry_session = dry_session
        self._built: dict[str, Platform] = {}

    def names(self) -> list[str]:
        return list(self._names)

    def all(self) -> list[Platform]:
        return [self.get(name) for name in self._names]

    def get(self, name: str) -> Platform:
        """Raises InvalidInput for a platform we do not know."""
        if name not in self._built:
            try:
                self._built[name] = self._load(name)
            except NotFound as exc:
                raise InvalidInput.field("platform", exc.detail) from exc
        return self._built[name]

    def credentials_missing(self, character: Character, name: str) -> list[str]:
        """Return the labels of the keys that are required and not there."""
        fields = self.get(name).info.credentials
        return [c.label for c in fields if c.required and not self._value(character, c.field)]

    def fingerprint(self, character: Character, name: str) -> str:
        """Return a text that changes when a key of the account changes (never the key)."""
        values = [self._value(character, c.field) or "" for c in self.get(name).info.credentials if c.secret]
        return hashlib.sha256("\0".join(values).encode()).hexdigest()[:32] if any(values) else ""

    def account(self, character: Character, name: str, *, dry_run: bool, post_id: str | None = None) -> Account:
        """Return the account to act as. In a dry run its session records instead of sending."""
        platform = self.get(name)
        keys = {c.field: self._value(character, c.field) or "" for c in platform.info.credentials}
        if dry_run:
            keys = {field: value or PLACEHOLDER for field, value in keys.items()}
            session = self._dry_session(platform, self._keep, post_id=post_id, character_id=character.id)
        else:
            session = self._live_session()
        extra = {} if dry_run else dict(self._accounts.get(character.id, name).extra)
        return Account(character.id, name, keys, session, dry_run, extra)

    def _keep(self, request: OutboxRequest) -> Any:
        return self._posts.add_outbox(request)

    def _value(self, character: Character, field: str) -> str | None:
        from dalla.records.character import SECRET_FIELDS

        if field in SECRET_FIELDS:
            return self._characters.credential(character, field)
        value = getattr(character, field, None)
        return value.strip() if isinstance(value, str) else value
