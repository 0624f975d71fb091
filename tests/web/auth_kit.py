"""Accounts for tests: people of every role, their browsers, and tokens of every scope."""

from __future__ import annotations

from typing import Any

from dalla.records.user import Identity
from dalla.services.auth_passwords import Passwords

PASSWORD = "three green tractors"
ROLES = ("viewer", "editor", "admin")
SCOPES = ("read", "write", "publish")


def quick(container: Any) -> Any:
    """Let hashes cost next to nothing, as no test is about their cost."""
    container.auth._passwords = Passwords(time_cost=1, memory_kib=8, parallelism=1)
    return container


class Browser:
    """A client that sends what our pages send: the cookie, and `X-Dalla` with everything but GET."""

    def __init__(self, app: Any, **base: Any) -> None:
        self.client = app.test_client()
        self.base = base

    def open(self, method: str, address: str, **options: Any) -> Any:
        headers = {"X-Dalla": "1", **options.pop("headers", {})}
        return self.client.open(address, method=method, headers=headers, buffered=True, **{**self.base, **options})

    def get(self, address: str, **options: Any) -> Any:
        return self.open("GET", address, **options)

    def post(self, address: str, json: Any = None, **options: Any) -> Any:
        return self.open("POST", address, json=json, **options)

    def patch(self, address: str, json: Any = None, **options: Any) -> Any:
        return self.open("PATCH", address, json=json, **options)

    def delete(self, address: str, **options: Any) -> Any:
        return self.open("DELETE", address, **options)

    def sign_in(self, name: str, password: str = PASSWORD, **more: Any) -> Any:
        return self.post("/api/auth/login", {"name": name, "password": password, **more})

    @property
    def cookie(self) -> str:
        found = self.client.get_cookie("dalla_session")
        return found.value if found else ""


class People:
    """One account per role, each signed in: `people.viewer`, `people.editor`, `people.admin` are browsers."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self.container = quick(app.extensions["dalla"])
        self.admin = Browser(app)
        made = self.admin.post("/api/auth/setup", {"name": "admin", "password": PASSWORD})
        assert made.status_code == 201, made.json
        self.ids = {"admin": made.json["id"]}
        for role in ("viewer", "editor"):
            made = self.admin.post("/api/auth/users", {"name": role, "password": PASSWORD, "role": role})
            assert made.status_code == 201, made.json
            self.ids[role] = made.json["id"]
        self.viewer, self.editor = self.browser("viewer"), self.browser("editor")

    def browser(self, name: str) -> Browser:
        """Another browser of a person, signed in."""
        browser = Browser(self.app)
        answer = browser.sign_in(name)
        assert answer.status_code == 200, answer.json
        return browser

    def token(self, *scopes: str, role: str = "admin", **more: Any) -> dict[str, str]:
        """The header of a new token."""
        name = f"for {' '.join(scopes)} of {role} {len(self.container.auth.tokens.all(self.ids[role]))}"
        who = Identity("session", self.ids[role], role, role)
        _, token = self.container.auth.tokens.create(who, name, list(scopes), **more)
        return {"Authorization": f"Bearer {token}"}
