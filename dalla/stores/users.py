"""People, their sessions and API tokens, in the library database."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Row, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from dalla.errors import Conflict, NotFound
from dalla.records.user import ApiToken, User, UserSession, name_key
from dalla.stores.base.users import Lock
from dalla.stores.library import Library
from dalla.stores.schema_users import api_tokens, login_attempts, user_sessions, users
from dalla.times import iso, parse


class SqlUsers:
    """A UserStore on a Library."""

    def __init__(self, library: Library) -> None:
        self._library = library
        self._revision = 0
        self._counting = threading.Lock()

    def revision(self) -> int:
        return self._revision

    @contextmanager
    def _write(self) -> Iterator[Connection]:
        try:
            with self._library.write() as connection:
                yield connection
        finally:
            with self._counting:
                self._revision += 1

    # ------------------------------------------------------------------ people

    def any(self) -> bool:
        with self._library.read() as connection:
            return connection.execute(select(users.c.id).limit(1)).first() is not None

    def insert_first(self, user: User) -> bool:
        with self._write() as connection:  # begins with the write lock, so the look and the step are one
            if connection.execute(select(users.c.id).limit(1)).first() is not None:
                return False
            connection.execute(insert(users).values(_columns(user)))
        return True

    def insert(self, user: User) -> User:
        try:
            with self._write() as connection:
                connection.execute(insert(users).values(_columns(user)))
        except IntegrityError as exc:
            raise Conflict(f"There is a user called '{user.name}' already.", remedy="Choose another name.") from exc
        return user

    def get(self, id: str) -> User:
        with self._library.read() as connection:
            return _get(connection, id)

    def find(self, name: str) -> User | None:
        with self._library.read() as connection:
            row = connection.execute(select(users).where(users.c.name_key == name_key(name))).one_or_none()
        return None if row is None else _user(row)

    def all(self) -> list[User]:
        with self._library.read() as connection:
            return [_user(row) for row in connection.execute(select(users).order_by(users.c.created_at, users.c.id))]

    def update(self, id: str, change: Callable[[User], User]) -> User:
        with self._write() as connection:
            before = _get(connection, id)
            after = change(before)
            if _is_admin(before) and not _is_admin(after):
                _keep_an_admin(connection, id)
            connection.execute(update(users).where(users.c.id == id).values(_columns(after)))
        return after

    def delete(self, id: str) -> User:
        with self._write() as connection:
            user = _get(connection, id)
            if _is_admin(user):
                _keep_an_admin(connection, id)
            connection.execute(delete(users).where(users.c.id == id))
        return user

    # ------------------------------------------------------------------ sessions

    def add_session(self, session: UserSession, *, keep: int) -> None:
        with self._write() as connection:
            connection.execute(insert(user_sessions).values(_values(session)))
            oldest = (
                select(user_sessions.c.id)
                .where(user_sessions.c.user_id == session.user_id, user_sessions.c.id != session.id)
                .order_by(user_sessions.c.last_seen_at.desc(), user_sessions.c.id.desc())
                .offset(keep - 1)
            )
            ended = list(connection.execute(oldest).scalars())
            if ended:
                connection.execute(delete(user_sessions).where(user_sessions.c.id.in_(ended)))

    def session(self, hash: str) -> tuple[UserSession, User] | None:
        return self._session(user_sessions.c.hash == hash)

    def session_by_id(self, id: str) -> tuple[UserSession, User] | None:
        return self._session(user_sessions.c.id == id)

    def _session(self, which: Any) -> tuple[UserSession, User] | None:
        with self._library.read() as connection:
            row = connection.execute(select(user_sessions).where(which)).one_or_none()
            return None if row is None else (UserSession.model_validate(row._asdict()), _get(connection, row.user_id))

    def seen(self, id: str, now: str) -> None:
        with self._write() as connection:
            connection.execute(update(user_sessions).where(user_sessions.c.id == id).values(last_seen_at=now))

    def sessions(self, user_id: str) -> list[UserSession]:
        query = select(user_sessions).where(user_sessions.c.user_id == user_id)
        with self._library.read() as connection:
            rows = connection.execute(query.order_by(user_sessions.c.last_seen_at.desc(), user_sessions.c.id))
            return [UserSession.model_validate(row._asdict()) for row in rows]

    def delete_session(self, user_id: str, id: str) -> bool:
        which = delete(user_sessions).where(user_sessions.c.user_id == user_id, user_sessions.c.id == id)
        with self._write() as connection:
            return connection.execute(which).rowcount == 1

    def delete_sessions(self, user_id: str, *, but: str | None = None) -> int:
        which = delete(user_sessions).where(user_sessions.c.user_id == user_id)
        with self._write() as connection:
            return connection.execute(which if but is None else which.where(user_sessions.c.id != but)).rowcount

    # ------------------------------------------------------------------ tokens

    def add_token(self, token: ApiToken, *, most: int) -> ApiToken:
        count = select(func.count()).select_from(api_tokens).where(api_tokens.c.user_id == token.user_id)
        try:
            with self._write() as connection:
                if connection.execute(count).scalar_one() >= most:
                    raise Conflict(f"There are {most} tokens already.", remedy="Revoke one that is not used any more.")
                connection.execute(insert(api_tokens).values(_values(token)))
        except IntegrityError as exc:
            raise Conflict(
                f"There is a token called '{token.name}' already.", remedy="Choose another name, or revoke that one."
            ) from exc
        return token

    def token(self, hash: str) -> tuple[ApiToken, User] | None:
        return self._token(api_tokens.c.hash == hash)

    def token_by_id(self, id: str) -> tuple[ApiToken, User] | None:
        return self._token(api_tokens.c.id == id)

    def _token(self, which: Any) -> tuple[ApiToken, User] | None:
        with self._library.read() as connection:
            row = connection.execute(select(api_tokens).where(which)).one_or_none()
            return None if row is None else (ApiToken.model_validate(row._asdict()), _get(connection, row.user_id))

    def used(self, id: str, now: str) -> None:
        with self._write() as connection:
            connection.execute(update(api_tokens).where(api_tokens.c.id == id).values(last_used_at=now))

    def tokens(self, user_id: str) -> list[ApiToken]:
        query = select(api_tokens).where(api_tokens.c.user_id == user_id)
        with self._library.read() as connection:
            rows = connection.execute(query.order_by(api_tokens.c.created_at.desc(), api_tokens.c.id.desc()))
            return [ApiToken.model_validate(row._asdict()) for row in rows]

    def delete_token(self, user_id: str, id: str) -> bool:
        which = delete(api_tokens).where(api_tokens.c.user_id == user_id, api_tokens.c.id == id)
        with self._write() as connection:
            return connection.execute(which).rowcount == 1

    def delete_tokens(self, user_id: str) -> int:
        with self._write() as connection:
            return connection.execute(delete(api_tokens).where(api_tokens.c.user_id == user_id)).rowcount

    # ------------------------------------------------------------------ failed attempts

    def attempt(self, locks: list[Lock], now: str) -> float:
        moment = parse(now)
        with self._library.write() as connection:
            rows, wait = {}, 0.0
            for lock in locks:
                row = connection.execute(select(login_attempts).where(login_attempts.c.key == lock.key)).one_or_none()
                rows[lock.key] = row
                if row is not None and row.closed_until is not None:
                    wait = max(wait, (parse(row.closed_until) - moment).total_seconds())
            if wait > 0:
                return wait
            for lock in locks:
                _count(connection, lock, rows[lock.key], now)
        return 0.0

    def forgive(self, lock: Lock, *, all: bool) -> None:
        row = login_attempts.c
        with self._library.write() as connection:
            if all:
                connection.execute(delete(login_attempts).where(row.key == lock.key))
                return
            one = update(login_attempts).where(row.key == lock.key, row.attempts > 0)
            connection.execute(one.values(attempts=row.attempts - 1))
            few = update(login_attempts).where(row.key == lock.key, row.attempts < lock.free)
            connection.execute(few.values(closed_until=None))

    def purge(self, now: str, *, attempts_before: str) -> int:
        with self._library.write() as connection:
            sessions = connection.execute(delete(user_sessions).where(user_sessions.c.expires_at <= now)).rowcount
            old = delete(login_attempts).where(login_attempts.c.last_at < attempts_before)
            return sessions + connection.execute(old).rowcount


def active_admin_exists(file: Path) -> bool:
    """Whether somebody could sign in as admin, asked of a database file without opening it for writing."""
    if not file.is_file():
        return False
    try:
        with closing(sqlite3.connect(f"{file.resolve().as_uri()}?mode=ro", uri=True, timeout=10)) as connection:
            found = connection.execute("SELECT 1 FROM users WHERE role = 'admin' AND NOT disabled LIMIT 1")
            return found.fetchone() is not None
    except sqlite3.Error:  # no such table yet, or no database: then nobody can
        return False


def _columns(user: User) -> dict[str, Any]:
    return {**_values(user), "name_key": name_key(user.name)}


def _values(record: User | UserSession | ApiToken) -> dict[str, Any]:
    return {name: getattr(record, name) for name in type(record).model_fields}


def _user(row: Row[Any]) -> User:
    return User.model_validate({key: value for key, value in row._asdict().items() if key != "name_key"})


def _get(connection: Connection, id: str) -> User:
    row = connection.execute(select(users).where(users.c.id == id)).one_or_none()
    if row is None:
        raise NotFound.of("user", id)
    return _user(row)


def _is_admin(user: User) -> bool:
    return user.role == "admin" and not user.disabled


def _keep_an_admin(connection: Connection, id: str) -> None:
    others = select(users.c.id).where(users.c.role == "admin", users.c.disabled.is_(False), users.c.id != id)
    if connection.execute(others.limit(1).with_for_update()).first() is None:
        raise Conflict(
            "This is the last admin who can sign in, so the account must stay as it is.",
            remedy="Make somebody else an admin first.",
        )


def _count(connection: Connection, lock: Lock, row: Row[Any] | None, now: str) -> None:
    fresh = row is None or (parse(now) - parse(row.last_at)).total_seconds() > lock.forget
    attempts = 1 if row is None or fresh else row.attempts + 1
    closed = None
    if attempts >= lock.free:
        seconds = min(lock.most, lock.first * 2 ** min(attempts - lock.free, 40))
        closed = iso(parse(now) + timedelta(seconds=seconds))
    values = {"attempts": attempts, "last_at": now, "closed_until": closed}
    if row is None:
        connection.execute(insert(login_attempts).values(key=lock.key, **values))
    else:
        connection.execute(update(login_attempts).where(login_attempts.c.key == lock.key).values(values))
