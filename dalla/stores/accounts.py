"""What is known about each account (a character on a platform), in the table `platform_accounts`."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Row, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from dalla.records.post import AccountState
from dalla.stores.library import Library
from dalla.stores.schema import platform_accounts as accounts
from dalla.times import now_iso

_KEY = {"character_id", "platform"}
_CHANGEABLE = {column.name for column in accounts.c} - _KEY - {"updated_at"}


class SqlAccounts:
    """An AccountStore on a Library."""

    def __init__(self, library: Library) -> None:
        self._library = library

    def get(self, character_id: str, platform: str) -> AccountState:
        with self._library.read() as connection:
            row = connection.execute(select(accounts).where(*_is(character_id, platform))).one_or_none()
        return AccountState(character_id=character_id, platform=platform) if row is None else _state(row)

    def all(self) -> list[AccountState]:
        query = select(accounts).order_by(accounts.c.character_id, accounts.c.platform)
        with self._library.read() as connection:
            return [_state(row) for row in connection.execute(query)]

    def save(self, character_id: str, platform: str, **changes: Any) -> AccountState:
        unknown = changes.keys() - _CHANGEABLE
        if unknown:
            raise TypeError(f"not columns of platform_accounts: {', '.join(sorted(unknown))}")
        return self._save(character_id, platform, changes)

    def count_failure(self, character_id: str, platform: str, error: str, now: str) -> int:
        changes = {"failures": accounts.c.failures + 1, "last_error": error, "last_error_at": now}
        return self._save(character_id, platform, changes).failures

    def delete(self, character_id: str) -> None:
        with self._library.write() as connection:
            connection.execute(delete(accounts).where(accounts.c.character_id == character_id))

    def _save(self, character_id: str, platform: str, changes: dict[str, Any]) -> AccountState:
        change = update(accounts).where(*_is(character_id, platform)).values(**changes, updated_at=now_iso())
        for _ in range(2):
            with self._library.write() as connection:
                row = connection.execute(change.returning(*accounts.c)).one_or_none()
            if row is not None:
                return _state(row)
            fresh = {"failures": 0, "paused": False, "extra": {}, "updated_at": now_iso()}
            try:
                with self._library.write() as connection:
                    connection.execute(insert(accounts).values(character_id=character_id, platform=platform, **fresh))
            except IntegrityError:
                pass  # another thread was first: its row is changed in the second round
        raise AssertionError("the row was just written")


def _is(character_id: str, platform: str) -> tuple[Any, Any]:
    return accounts.c.character_id == character_id, accounts.c.platform == platform


def _state(row: Row[Any]) -> AccountState:
    return AccountState.model_validate(row._asdict())
