"""`/api/auth`: signing in and out, one's own account, sessions and tokens, and the accounts for admins."""

from __future__ import annotations

from typing import Any, Literal

from flask import Response, jsonify, request
from flask_openapi3 import Tag
from pydantic import Field, SecretStr

from dalla.errors import InvalidInput
from dalla.records.base import RequestBody
from dalla.records.user import Role, UserSession
from dalla.web import peer
from dalla.web.access import COOKIE, identity, safe_next
from dalla.web.blueprint import APIBlueprint
from dalla.web.context import services
from dalla.web.payload import IdPath, created, idempotent, without

bp = APIBlueprint("auth", __name__, url_prefix="/api/auth", abp_tags=[Tag(name="Accounts")])

Scope = Literal["read", "write", "publish"]


class SetupBody(RequestBody):
    name: str = Field(min_length=1, max_length=200, description="Letters, digits and . _ - @ +")
    password: SecretStr = Field(max_length=1000, description="At least 10 characters")
    display_name: str = Field("", max_length=200)
    next: str | None = Field(None, max_length=4000, description="Where the person wanted to go")


class LoginBody(RequestBody):
    name: str = Field(max_length=200)
    password: SecretStr = Field(max_length=1000)
    remember: bool = Field(False, description="Stay signed in for DALLA_SESSION_DAYS")
    next: str | None = Field(None, max_length=4000, description="Where the person wanted to go")


class ProfileBody(RequestBody):
    display_name: str | None = Field(None, max_length=200)
    password: SecretStr | None = Field(None, max_length=1000, description="The new one; the other sessions end")
    current_password: SecretStr | None = Field(None, max_length=1000, description="Needed with a new one")


class TokenBody(RequestBody):
    name: str = Field(min_length=1, max_length=200, description="What it is for")
    scopes: list[Scope] = Field(min_length=1, max_length=10)
    expires_at: str | None = Field(None, max_length=40, description="ISO time; or give `days`")
    days: int | None = Field(None, description="1 to 3650; without an end it works until it is revoked")


class UserBody(RequestBody):
    name: str = Field(min_length=1, max_length=200)
    password: SecretStr = Field(max_length=1000)
    role: Role
    display_name: str = Field("", max_length=200)


class UserPatch(RequestBody):
    role: Role | None = None
    disabled: bool | None = None
    display_name: str | None = Field(None, max_length=200)
    password: SecretStr | None = Field(None, max_length=1000, description="A new one; all sessions of the user end")


# ---------------------------------------------------------------- in and out


@bp.get("/state", summary="Whether one has to sign in here, for the login page")
def auth_state():
    who = identity()
    return {
        "setupNeeded": services().auth.needs_setup(),
        "loginNeeded": who.kind == "nobody",
        "mode": "open" if who.kind == "local" else "accounts",
        "signedIn": who.kind in ("session", "token"),
    }


@bp.post("/setup", summary="Make the first account, an admin; only on the computer the app runs on")
def auth_setup(body: SetupBody):
    user, session, cookie = services().auth.setup(
        body.name,
        body.password.get_secret_value(),
        direct=peer.is_direct(),
        display_name=body.display_name,
        **_where(),
    )
    response = jsonify({**user.public(), "next": safe_next(body.next)})
    response.status_code = 201
    return _with_cookie(response, session, cookie)


@bp.post("/login", summary="Sign in; the answer sets the cookie of the session")
def auth_login(body: LoginBody):
    auth = services().auth
    user, session, cookie = auth.login(body.name, body.password.get_secret_value(), remember=body.remember, **_where())
    before = request.cookies.get(COOKIE, "")
    old = auth.by_session(before) if before else None
    if old is not None:
        auth.logout(old)  # this browser has a new session now
    return _with_cookie(jsonify({"user": user.public(), "next": safe_next(body.next)}), session, cookie)


@bp.post("/logout", summary="End this session")
def auth_logout():
    services().auth.logout(identity())
    return _without_cookie(jsonify({"success": True}))


# ---------------------------------------------------------------- one's own account


@bp.get("/me", summary="Who is signed in, and what they may do")
def auth_me():
    return services().auth.me(identity())


@bp.patch("/me", summary="Change the display name or the password (which ends the other sessions)")
def auth_change_me(body: ProfileBody):
    auth, who = services().auth, identity()
    sent = {key: value.get_secret_value() if isinstance(value, SecretStr) else value for key, value in body.sent().items()}  # fmt: skip
    if not sent or (sent.get("password") is None and sent.get("display_name") is None):
        raise InvalidInput("Send displayName, or password with currentPassword.")
    _, session, cookie = auth.change_own(who, **sent, address=_where()["address"])
    response = jsonify(auth.me(who))
    return response if session is None else _with_cookie(response, session, cookie)


@bp.get("/sessions", summary="Where one is signed in")
def list_sessions():
    return {"items": services().auth.sessions(identity())}


@bp.delete("/sessions", summary="Sign out everywhere else")
def end_sessions():
    return {"ended": services().auth.end_other_sessions(identity())}


@bp.delete("/sessions/<id>", summary="End one session")
def end_session(path: IdPath):
    who = identity()
    services().auth.end_session(who, path.id)
    response = jsonify({"success": True})
    return _without_cookie(response) if path.id == who.session_id else response


@bp.get("/tokens", summary="One's API tokens, without the tokens themselves")
def list_tokens():
    return {"items": services().auth.tokens.all(identity().user_id)}


@bp.post("/tokens", summary="Make an API token; this answer is the only one that has it")
@idempotent(keep=without("token"))
def create_token(body: TokenBody):
    shown, token = services().auth.tokens.create(
        identity(), body.name, list(body.scopes), expires_at=body.expires_at, days=body.days
    )
    return created({"token": token, **shown}, f"/api/auth/tokens/{shown['id']}")


@bp.delete("/tokens/<id>", summary="Revoke an API token")
def revoke_token(path: IdPath):
    services().auth.tokens.revoke(identity().user_id, path.id)
    return {"success": True}


# ---------------------------------------------------------------- accounts


@bp.get("/users", summary="Every account")
def list_users():
    return {"items": services().users.all()}


@bp.post("/users", summary="Add an account")
def add_user(body: UserBody):
    user = services().users.add(body.name, body.password.get_secret_value(), body.role, body.display_name)
    return created(user.public(), f"/api/auth/users/{user.id}")


@bp.patch("/users/<id>", summary="Change role, display name or password of an account, or disable it")
def change_user(path: IdPath, body: UserPatch):
    sent = {key: value for key, value in body.sent().items() if value is not None}
    if not sent:
        raise InvalidInput("Send role, disabled, displayName or password.")
    if isinstance(sent.get("password"), SecretStr):
        sent["password"] = sent["password"].get_secret_value()
    return services().users.change(identity(), path.id, **sent).public()


@bp.delete("/users/<id>", summary="Remove an account with its sessions and tokens")
def delete_user(path: IdPath):
    services().users.delete(path.id)
    return {"success": True}


@bp.get("/users/<id>/access", summary="Where a user is signed in, and their tokens")
def user_access(path: IdPath):
    return services().users.access(path.id)


@bp.delete("/users/<id>/access", summary="End all sessions and revoke all tokens of a user")
def end_user_access(path: IdPath):
    return services().users.end_access(path.id)


# ---------------------------------------------------------------- the cookie


def _where() -> dict[str, str]:
    """Return what is remembered of the other side with a session."""
    trusted = services().settings.trusted_proxies
    return {"address": peer.address(trusted), "user_agent": request.headers.get("User-Agent", "")}


def _with_cookie(response: Response, session: UserSession, cookie: str) -> Any:
    secure = peer.is_https(services().settings.trusted_proxies)
    age = session.idle_seconds if session.remember else None
    response.set_cookie(COOKIE, cookie, max_age=age, httponly=True, samesite="Lax", path="/", secure=secure)
    return response


def _without_cookie(response: Response) -> Any:
    secure = peer.is_https(services().settings.trusted_proxies)
    response.delete_cookie(COOKIE, httponly=True, samesite="Lax", path="/", secure=secure)
    return response
