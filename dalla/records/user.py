"""People who may use the app, what they may do, and how they are known: sessions and API tokens."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from typing import Any, Literal

from dalla.records.base import Record

Role = Literal["admin", "editor", "viewer"]

READ, WRITE, PUBLISH, ADMIN, SELF = "read", "write", "publish", "admin", "self"
#: What a role may do. `self` (own profile, sessions and tokens) belongs to everybody who signed in.
ROLES: dict[str, frozenset[str]] = {
    "viewer": frozenset({READ}),
    "editor": frozenset({READ, WRITE, PUBLISH}),
    "admin": frozenset({READ, WRITE, PUBLISH, ADMIN}),
}
ALL_RIGHTS = frozenset({READ, WRITE, PUBLISH, ADMIN, SELF})
#: What a token can be allowed; write and publish include read. A token is never an admin.
SCOPES = (READ, WRITE, PUBLISH)


@dataclass(frozen=True)
class Identity:
    """Who asks. `rights` is what this request may do now, from the role (and, for a token, its scopes) at this moment.

    `kind`: "local" (nobody needs to sign in here), "session", "token" or "nobody".
    """

    kind: Literal["local", "session", "token", "nobody"]
    user_id: str = ""
    name: str = ""
    role: str = ""
    rights: frozenset[str] = frozenset()
    session_id: str = ""
    token_id: str = ""

    def may(self, right: str) -> bool:
        """Whether this right is among those held."""
        return right in self.rights

    @property
    def key(self) -> str:
        """Return a text that no two identities share; "" for local and nobody."""
        if self.kind == "token":
            return f"token:{self.token_id}"
        return f"user:{self.user_id}" if self.kind == "session" else ""


LOCAL = Identity("local", rights=ALL_RIGHTS)
NOBODY = Identity("nobody")


def name_key(name: str) -> str:
    """Return what two names have in common that count as the same one."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())


class User(Record):
    """An account. `password` is an argon2 hash and never leaves the server: answers are made with `public()`."""

    id: str
    name: str
    display_name: str = ""
    role: Role = "viewer"
    password: str
    disabled: bool = False
    created_at: str
    updated_at: str
    last_login_at: str | None = None
    password_changed_at: str | None = None

    def public(self) -> dict[str, Any]:
        """Return what answers show: everything but the hash; without a display name the name stands there."""
        return {**self.to_json(exclude={"password"}), "displayName": self.display_name or self.name}


class UserSession(Record):
    """Somebody signed in with one browser. `hash` is the SHA-256 of the cookie; the cookie itself is not kept."""

    id: str
    user_id: str
    hash: str
    created_at: str
    last_seen_at: str
    expires_at: str  # the latest moment, however busy it is
    idle_seconds: int  # and it ends after so long without a request
    remember: bool = False
    user_agent: str = ""
    address: str = ""


class ApiToken(Record):
    """A key for programs. `hash` is the SHA-256 of it; `prefix` is its beginning, to recognise it by."""

    id: str
    user_id: str
    name: str
    hash: str
    prefix: str
    scopes: list[str]
    created_at: str
    expires_at: str | None = None
    last_used_at: str | None = None
