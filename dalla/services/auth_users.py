"""What an admin does with accounts: add, change, disable, remove, and end what they are signed in with."""

from __future__ import annotations

from typing import Any

from dalla.errors import Conflict, InvalidInput
from dalla.records.user import Identity, Role, User
from dalla.services.auth import Auth, clean_display_name
from dalla.stores.base.users import UserStore
from dalla.times import now_iso


class Users:
    """The accounts. The last admin who can sign in stays one: the store refuses anything else in the same step."""

    def __init__(self, users: UserStore, auth: Auth) -> None:
        self._users = users
        self._auth = auth

    def all(self) -> list[dict[str, Any]]:
        """Return every account as answers show it, oldest first."""
        return [user.public() for user in self._users.all()]

    def get(self, id: str) -> User:
        """Raises NotFound."""
        return self._users.get(id)

    def add(self, name: str, password: str, role: Role, display_name: str = "") -> User:
        """Raises InvalidInput, Conflict (the name is taken; or there is no account yet, and the first is an admin)."""
        if self._auth.needs_setup():
            raise Conflict("There is no account yet.", remedy="Make the first one, an admin, under Settings, Accounts and security.")  # fmt: skip
        return self._users.insert(self._auth.new_user(name, password, role, display_name))

    def add_admin(self, name: str, password: str) -> User:
        """Add an admin without anybody signed in (the command line). Raises InvalidInput, Conflict."""
        return self._users.insert(self._auth.new_user(name, password, "admin"))

    def change(self, who: Identity, id: str, **changes: Any) -> User:
        """Change role, disabled, display_name or password. Disabling, and a new password, end all sessions of the user.

        Raises NotFound, InvalidInput, Conflict when no active admin would remain.
        """
        user = self._users.get(id)
        password = changes.pop("password", None)
        if password is not None and id == who.user_id:
            raise InvalidInput.field("password", "Your own password is changed in your account, with the current one.")
        if "display_name" in changes:
            changes["display_name"] = clean_display_name(changes["display_name"])
        if password is not None:
            changes |= {"password": self._auth.hash(password, user.name), "password_changed_at": now_iso()}
        user = self._users.update(id, lambda before: before.with_(**changes, updated_at=now_iso()))
        if user.disabled or password is not None:
            self._users.delete_sessions(id)
        return user

    def delete(self, id: str) -> User:
        """Remove an account with its sessions and tokens. Raises NotFound, Conflict for the last active admin."""
        return self._users.delete(id)

    def access(self, id: str) -> dict[str, Any]:
        """Return {"sessions": […], "tokens": […]} of a user. Raises NotFound."""
        self._users.get(id)
        return {"sessions": self._auth.sessions_of(id), "tokens": self._auth.tokens.all(id)}

    def end_access(self, id: str) -> dict[str, int]:
        """End all sessions and revoke all tokens of a user; return how many. Raises NotFound."""
        self._users.get(id)
        return {"sessions": self._users.delete_sessions(id), "tokens": self._users.delete_tokens(id)}
