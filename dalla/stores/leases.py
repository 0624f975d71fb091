"""Leases (who may do what only one process may do) and switches (what holds for everybody)."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, delete, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from dalla.stores.library import Library
from dalla.stores.schema import leases, switches


class SqlLeases:
    """A LeaseStore on a Library."""

    def __init__(self, library: Library) -> None:
        self._library = library

    def acquire(self, name: str, owner: str, now: str, until: str) -> bool:
        free = or_(leases.c.owner == owner, leases.c.until < now)
        renew = update(leases).where(leases.c.name == name, free)
        renew = renew.values(owner=owner, until=until, heartbeat_at=now)
        with self._library.write() as connection:
            if connection.execute(renew).rowcount:
                return True
            if connection.execute(select(leases.c.name).where(leases.c.name == name)).scalar() is not None:
                return False
        first = insert(leases).values(name=name, owner=owner, until=until, heartbeat_at=now)
        try:
            with self._library.write() as connection:
                connection.execute(first)
        except IntegrityError:  # another process was first
            return False
        return True

    def release(self, name: str, owner: str) -> None:
        with self._library.write() as connection:
            connection.execute(delete(leases).where(leases.c.name == name, leases.c.owner == owner))

    def holder(self, name: str) -> tuple[str, str, str] | None:
        query = select(leases.c.owner, leases.c.until, leases.c.heartbeat_at).where(leases.c.name == name)
        with self._library.read() as connection:
            row = connection.execute(query).one_or_none()
        return None if row is None else (row.owner, row.until, row.heartbeat_at)

    def switch(self, name: str) -> Any:
        with self._library.read() as connection:
            return connection.execute(select(switches.c.value).where(switches.c.name == name)).scalar()

    def change_switch(self, name: str, now: str, change: Any) -> Any:
        """Read, change and write a switch as one step; return the new value."""
        with self._library.write() as connection:
            serialize(connection, f"switch:{name}", now)
            value = change(connection.execute(select(switches.c.value).where(switches.c.name == name)).scalar())
            changed = update(switches).where(switches.c.name == name).values(value=value, updated_at=now)
            if not connection.execute(changed).rowcount:
                connection.execute(insert(switches).values(name=name, value=value, updated_at=now))
        return value


def serialize(connection: Connection, name: str, now: str) -> None:
    """Let only one transaction at a time pass here. SQLite's writers are alone anyway; elsewhere a row is locked."""
    if connection.dialect.name == "sqlite":
        return
    touched = update(leases).where(leases.c.name == name).values(heartbeat_at=now)
    if not connection.execute(touched).rowcount:
        with connection.begin_nested() as attempt:
            try:
                connection.execute(insert(leases).values(name=name, owner="", until=now, heartbeat_at=now))
            except IntegrityError:
                attempt.rollback()
        connection.execute(touched)
