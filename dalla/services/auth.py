"""Who asks: signing in, sessions, and what a cookie or a token allows at this moment."""

from __future__ import annotations

import contextlib
import hashlib
import ipaddress
import logging
import re
import secrets
import threading
import time
import unicodedata
from datetime import UTC, datetime, timedelta
from typing import Any

from dalla.errors import Conflict, DallaError, Forbidden, InvalidInput, NotFound, RateLimited, Unauthorized
from dalla.ids import new_id
from dalla.records.user import ROLES, SELF, Identity, Role, User, UserSession, name_key
from dalla.services import auth_passwords
from dalla.services.auth_passwords import Passwords
from dalla.services.auth_recent import Recent
from dalla.services.auth_tokens import Tokens
from dalla.settings import Settings
from dalla.stores.base.users import Lock, UserStore
from dalla.times import ago_iso, iso, now_iso, parse

logger = logging.getLogger(__name__)

LOOPBACK = ("127.0.0.1", "localhost", "::1")
#: A session without "remember me" ends after so long without a request, and after so many days whatever happens.
IDLE = timedelta(hours=12)
SHORT = timedelta(days=7)
SEEN_EVERY = timedelta(minutes=1)  # so often it is written that a session is in use
MOST_SESSIONS = 50
DAY = 86400.0
_NAME = re.compile(r"\w[\w.@+-]{1,63}\Z")
_WRONG = "The name or the password is wrong."


class Auth:
    """Signing in and out. Rights are read with every request, so that a change of role counts at once."""

    def __init__(self, settings: Settings, users: UserStore, passwords: Passwords | None = None) -> None:
        self._settings = settings
        self._users = users
        self._passwords = passwords or Passwords()
        self._recent = Recent(users.revision)
        self._purged = 0.0
        self._lock = threading.Lock()
        self.tokens = Tokens(users, self._recent)

    # ------------------------------------------------------------------ who asks

    def needs_setup(self) -> bool:
        """Whether there is no account yet. Raises StorageError."""
        return not self._recent.get("any", self._users.any)

    def is_open(self, *, direct: bool) -> bool:
        """Whether nobody has to sign in: never with DALLA_AUTH=on, always with off; otherwise until the first account
        exists, on a loopback address, for a request straight from this computer (`direct`)."""
        if self._settings.auth == "off":
            return True
        if self._settings.auth == "on" or not direct or self._settings.host not in LOOPBACK:
            return False
        return self.needs_setup()

    def by_session(self, cookie: str) -> Identity | None:
        """Return whom the cookie belongs to; None when it is unknown, has ended, or the user is disabled."""
        hash = _sha256(cookie)
        found = self._recent.get(f"session {hash}", lambda: self._users.session(hash))
        return self._session_identity(found, touch=True)

    def by_token(self, token: str) -> Identity | None:
        """Return whom the API token belongs to, or None."""
        return self.tokens.identity(token)

    def still(self, who: Identity) -> Identity | None:
        """Return the identity as it is now, for what lasts longer than a request; None when it has ended."""
        if who.kind == "local":
            return who if self.is_open(direct=True) else None
        if who.kind == "session":
            return self._session_identity(self._users.session_by_id(who.session_id), touch=False)
        return self.tokens.identity_by_id(who.token_id) if who.kind == "token" else None

    def _session_identity(self, found: tuple[UserSession, User] | None, *, touch: bool) -> Identity | None:
        if found is None:
            return None
        session, user = found
        now = datetime.now(UTC)
        if user.disabled or now >= _end(session):
            return None
        if touch and now - parse(session.last_seen_at) >= SEEN_EVERY:
            with contextlib.suppress(DallaError):  # a full disk must not sign people out
                self._users.seen(session.id, iso(now))
        rights = ROLES[user.role] | {SELF}
        return Identity("session", user.id, user.name, user.role, rights, session_id=session.id)

    # ------------------------------------------------------------------ signing in

    def setup(
        self, name: str, password: str, *, direct: bool, address: str = "", user_agent: str = "", display_name: str = ""
    ) -> tuple[User, UserSession, str]:
        """Make the first account, an admin, and sign in; return (user, session, cookie).

        Raises Forbidden unless the request is `direct` from this computer, Conflict when there is an account,
        InvalidInput.
        """
        if not direct:
            raise Forbidden(
                "The first account can only be made on the computer the app runs on.",
                remedy="Open http://127.0.0.1 there, or run: python app.py --create-admin NAME",
            )
        if not self.needs_setup():
            raise Conflict("There is an account already.", remedy="Sign in with it.")
        user = self.new_user(name, password, "admin", display_name)
        user = user.with_(last_login_at=user.created_at)
        if not self._users.insert_first(user):
            raise Conflict("There is an account already.", remedy="Sign in with it.")
        session, cookie = self._begin(user, False, address, user_agent)
        return user, session, cookie

    def login(
        self, name: str, password: str, *, remember: bool = False, address: str = "", user_agent: str = ""
    ) -> tuple[User, UserSession, str]:
        """Check the password and begin a session; return (user, session, cookie).

        Raises Unauthorized (one sentence, whatever was wrong), RateLimited after too many attempts.
        """
        self._purge()
        user = self._verified(self._users.find(name), name, password, address)
        if user is None:  # the name is not logged: people type passwords into the wrong field
            logger.warning("a sign-in from %s failed", _plain(address, 100))
            raise Unauthorized(_WRONG, remedy="Check both; an admin can set a new password.")
        if self._passwords.outdated(user.password):
            fresh = self._passwords.hash(password)
            user = self._users.update(user.id, lambda before: before.with_(password=fresh))
        now = now_iso()
        user = self._users.update(user.id, lambda before: before.with_(last_login_at=now))
        session, cookie = self._begin(user, remember, address, user_agent)
        logger.info("%s signed in from %s", user.name, session.address)
        return user, session, cookie

    def _verified(self, user: User | None, name: str, password: str, address: str) -> User | None:
        """Return the user when the password is right. The attempt is counted before it is checked."""
        network = _network(address)
        key = f"name:{_sha256(name_key(name))}"
        if user is not None and any(_network(one.address) == network for one in self._users.sessions(user.id)):
            # From where the person is signed in elsewhere it is counted apart: whoever keeps guessing from afar
            # does not shut them out.
            key = f"name:{_sha256(f'{user.id} {network}')}"
        by_name = Lock(key, free=5, first=1, most=900, forget=DAY)
        by_address = Lock(f"address:{network}", free=20, first=2, most=900, forget=3600)
        wait = self._users.attempt([by_name, by_address], now_iso())
        if wait > 0:
            seconds = max(1, round(wait + 0.5))
            logger.warning("sign-ins from %s have to wait %d s", _plain(address, 100), seconds)
            raise RateLimited(
                "There were too many attempts to sign in.",
                remedy=f"Wait {_duration(seconds)} and try again.",
                service="sign-in",
                kind="retry",
                retry_after=seconds,
            )
        right = self._passwords.verify(user.password if user else None, password)
        if user is None or not right or user.disabled:
            return None
        self._users.forgive(by_name, all=True)
        self._users.forgive(by_address, all=False)
        return user

    def _begin(self, user: User, remember: bool, address: str, user_agent: str) -> tuple[UserSession, str]:
        cookie = secrets.token_urlsafe(32)
        now = datetime.now(UTC)
        days = min(self._settings.session_days, 3650)
        lasting = remember and days > 0
        life = timedelta(days=days) if lasting else SHORT
        session = UserSession(
            id=new_id("session"),
            user_id=user.id,
            hash=_sha256(cookie),
            created_at=iso(now),
            last_seen_at=iso(now),
            expires_at=iso(now + life),
            idle_seconds=int((life if lasting else IDLE).total_seconds()),
            remember=lasting,
            user_agent=_plain(user_agent, 300),
            address=_plain(address, 100),
        )
        self._users.add_session(session, keep=MOST_SESSIONS)
        return session, cookie

    def _purge(self) -> None:
        with self._lock:
            if time.monotonic() - self._purged < 3600 and self._purged:
                return
            self._purged = time.monotonic()
        self._users.purge(now_iso(), attempts_before=ago_iso(2 * DAY))

    # ------------------------------------------------------------------ one's own account

    def logout(self, who: Identity) -> None:
        """End the session that asks."""
        if who.kind == "session":
            self._users.delete_session(who.user_id, who.session_id)

    def me(self, who: Identity) -> dict[str, Any]:
        """Return {"user": … or null, "kind", "rights", "mode"}."""
        return {
            "user": self._users.get(who.user_id).public() if who.user_id else None,
            "kind": who.kind,
            "rights": sorted(who.rights),
            "mode": "open" if who.kind == "local" else "accounts",
        }

    def change_own(
        self,
        who: Identity,
        *,
        display_name: str | None = None,
        password: str | None = None,
        current_password: str | None = None,
        address: str = "",
    ) -> tuple[User, UserSession | None, str]:
        """Change the own profile; return (user, session, cookie). With a new password all other sessions end and the
        own one gets a new cookie (otherwise session is None). Raises InvalidInput, Conflict, RateLimited."""
        user = self.person(who)
        if password is not None:
            if current_password is None:
                raise InvalidInput.field("currentPassword", "The current password is needed to set a new one.")
            if self._verified(user, user.name, current_password, address) is None:
                raise InvalidInput.field("currentPassword", "The current password is wrong.")
            auth_passwords.check(password, user.name)
        changes: dict[str, Any] = {"updated_at": now_iso()}
        if display_name is not None:
            changes["display_name"] = clean_display_name(display_name)
        if password is not None:
            changes |= {"password": self._passwords.hash(password), "password_changed_at": now_iso()}
        user = self._users.update(user.id, lambda before: before.with_(**changes))
        if password is None:
            return user, None, ""
        return user, *self._renewed(who)

    def _renewed(self, who: Identity) -> tuple[UserSession, str]:
        """Put a new session in the place of the one that asks and end all others: a stolen cookie ends too."""
        found = self._users.session_by_id(who.session_id)
        if found is None:
            raise Unauthorized("The session has ended.", remedy="Sign in again with the new password.")
        cookie = secrets.token_urlsafe(32)
        session = found[0].with_(id=new_id("session"), hash=_sha256(cookie), last_seen_at=now_iso())
        self._users.delete_sessions(who.user_id)
        self._users.add_session(session, keep=MOST_SESSIONS)
        return session, cookie

    def sessions(self, who: Identity) -> list[dict[str, Any]]:
        """Return the sessions of the person who asks, last used first."""
        return self.sessions_of(who.user_id, who.session_id) if who.user_id else []

    def sessions_of(self, user_id: str, current: str = "") -> list[dict[str, Any]]:
        """Return the sessions of a user that have not ended."""
        now = datetime.now(UTC)
        return [
            {
                "id": session.id,
                "current": session.id == current,
                "createdAt": session.created_at,
                "lastSeenAt": session.last_seen_at,
                "expiresAt": iso(_end(session)),
                "userAgent": session.user_agent,
                "address": session.address,
            }
            for session in self._users.sessions(user_id)
            if now < _end(session)
        ]

    def end_session(self, who: Identity, id: str) -> None:
        """End one own session. Raises NotFound."""
        if not self._users.delete_session(who.user_id, id):
            raise NotFound.of("session", id)

    def end_other_sessions(self, who: Identity) -> int:
        """End all own sessions but the one that asks; return how many."""
        return self._users.delete_sessions(who.user_id, but=who.session_id) if who.user_id else 0

    def person(self, who: Identity) -> User:
        """Return the account of who asks. Raises Conflict where nobody has one."""
        if not who.user_id:
            raise Conflict("Nobody is signed in here.", remedy="Make the first account under Settings, Accounts and security.")  # fmt: skip
        return self._users.get(who.user_id)

    # ------------------------------------------------------------------ making accounts

    def new_user(self, name: str, password: str, role: Role, display_name: str = "") -> User:
        """Return an account that is not saved yet. Raises InvalidInput for the name or the password."""
        name = unicodedata.normalize("NFKC", name).strip()
        if not _NAME.match(name):
            raise InvalidInput.field("name", "Use 2 to 64 letters, digits and . _ - @ + without spaces.")
        auth_passwords.check(password, name)
        now = now_iso()
        return User(
            id=new_id("user"),
            name=name,
            display_name=clean_display_name(display_name),
            role=role,
            password=self._passwords.hash(password),
            created_at=now,
            updated_at=now,
            password_changed_at=now,
        )

    def hash(self, password: str, name: str) -> str:
        """Return the hash of a new password. Raises InvalidInput."""
        auth_passwords.check(password, name)
        return self._passwords.hash(password)


def clean_display_name(text: str) -> str:
    """Return the name as it is shown: one line. Raises InvalidInput."""
    text = " ".join(unicodedata.normalize("NFC", text).split())
    if len(text) > 100 or not text.isprintable():
        raise InvalidInput.field("displayName", "Use at most 100 ordinary characters.")
    return text


def _end(session: UserSession) -> datetime:
    idle = parse(session.last_seen_at) + timedelta(seconds=session.idle_seconds)
    return min(parse(session.expires_at), idle)


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _network(address: str) -> str:
    """Return what one attacker cannot change at will: the IPv4 address, the /64 of an IPv6 address."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return "unknown"
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped is None:
            return str(ipaddress.ip_network((found, 64), strict=False).network_address)
        found = found.ipv4_mapped
    return str(found)


def _plain(text: str, most: int) -> str:
    return "".join(c for c in text if c.isprintable())[:most]


def _duration(seconds: int) -> str:
    return f"{seconds} second{'s' if seconds != 1 else ''}" if seconds < 90 else f"{round(seconds / 60)} minutes"
