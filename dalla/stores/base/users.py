"""People, their sessions and API tokens, and failed attempts to sign in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from dalla.records.user import ApiToken, User, UserSession


@dataclass(frozen=True)
class Lock:
    """How failed attempts under a key are slowed: after `free` of them a wait of `first` seconds, which doubles with
    each further one up to `most`. What was counted is forgotten after `forget` seconds without an attempt."""

    key: str
    free: int
    first: float
    most: float
    forget: float


class UserStore(Protocol):
    """Everything about who may use the app. Times are ISO texts in UTC (`times.py`)."""

    def revision(self) -> int:
        """Return a number that has grown after every change this process made to people, sessions or tokens."""

    def any(self) -> bool:
        """Whether there is any user."""

    def insert_first(self, user: User) -> bool:
        """Add the first user; False, and nothing changed, when there is one already. Two at once: one wins."""

    def insert(self, user: User) -> User:
        """Raises Conflict when the name (in any case) or the id is taken."""

    def get(self, id: str) -> User:
        """Raises NotFound."""

    def find(self, name: str) -> User | None:
        """Find by name, in any case."""

    def all(self) -> list[User]:
        """Every user, oldest first."""

    def update(self, id: str, change: Callable[[User], User]) -> User:
        """Read, change and write as one step. Raises NotFound; Conflict when no active admin would remain."""

    def delete(self, id: str) -> User:
        """Remove with all sessions and tokens. Raises NotFound; Conflict when no active admin would remain."""

    def add_session(self, session: UserSession, *, keep: int) -> None:
        """Add it; of more than `keep` sessions of its user those not seen for longest end."""

    def session(self, hash: str) -> tuple[UserSession, User] | None:
        """Find a session by the SHA-256 of its cookie, with its user; expired and disabled ones too."""

    def session_by_id(self, id: str) -> tuple[UserSession, User] | None: ...

    def seen(self, id: str, now: str) -> None:
        """Write when a session was last used."""

    def sessions(self, user_id: str) -> list[UserSession]:
        """The sessions of a user, last used first; expired ones too."""

    def delete_session(self, user_id: str, id: str) -> bool: ...

    def delete_sessions(self, user_id: str, *, but: str | None = None) -> int:
        """End all sessions of a user, but one; return how many ended."""

    def add_token(self, token: ApiToken, *, most: int) -> ApiToken:
        """Raises Conflict when its user has `most` of them already, or one of this name."""

    def token(self, hash: str) -> tuple[ApiToken, User] | None:
        """Find a token by its SHA-256, with its user; expired and disabled ones too."""

    def token_by_id(self, id: str) -> tuple[ApiToken, User] | None: ...

    def used(self, id: str, now: str) -> None:
        """Write when a token was last used."""

    def tokens(self, user_id: str) -> list[ApiToken]:
        """The tokens of a user, newest first; expired ones too."""

    def delete_token(self, user_id: str, id: str) -> bool: ...
    def delete_tokens(self, user_id: str) -> int: ...

    def attempt(self, locks: list[Lock], now: str) -> float:
        """Count one attempt under every lock before it is known whether it fails; return 0.0.

        While any of them is closed nothing is counted, and the seconds until it opens are returned. One step,
        so that many attempts at once cannot pass together.
        """

    def forgive(self, lock: Lock, *, all: bool) -> None:
        """The attempt succeeded: take one back, or with `all` everything counted under the key.

        One taken back opens a closed lock only while fewer than `free` remain, so that signing in to an own account
        buys no guesses at another.
        """

    def purge(self, now: str, *, attempts_before: str) -> int:
        """Remove sessions and attempts that have expired; return how many rows went."""
