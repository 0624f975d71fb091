"""Whether the database and the Redis server of the settings answer: one harmless question each.

Each function takes settings (also unsaved ones) and returns a Finding. Passwords in the
addresses are never part of it.
"""

from __future__ import annotations

from importlib.util import find_spec
from urllib.parse import urlsplit

from dalla.records.finding import Finding
from dalla.settings import Settings

TIMEOUT = 5  # seconds


def database(settings: Settings) -> Finding:
    """Connect to PostgreSQL and ask for its version; without an address, look at the SQLite file."""
    if not settings.database_url:
        return _sqlite(settings)
    where = _where(settings.database_url)
    if find_spec("psycopg") is None:
        return Finding(
            False,
            f"PostgreSQL at {where} cannot be asked: the Python package 'psycopg' is not installed.",
            "Install it with: pip install 'psycopg[binary]'. Or leave this empty to stay with SQLite.",
            {"server": where},
        )
    from sqlalchemy import create_engine, text
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import SQLAlchemyError

    try:
        url = make_url(settings.database_url).set(drivername="postgresql+psycopg")
        engine = create_engine(url, connect_args={"connect_timeout": TIMEOUT})
        try:
            with engine.connect() as connection:
                version = str(connection.execute(text("SHOW server_version")).scalar())
        finally:
            engine.dispose()
    except (SQLAlchemyError, ValueError, OSError) as exc:
        reason = type(getattr(exc, "orig", None) or exc).__name__
        return Finding(
            False,
            f"PostgreSQL at {where} cannot be used ({reason}).",
            "Check the address, the name of the database, the user and the password.",
            {"server": where},
        )
    return Finding(True, f"PostgreSQL {version} at {where} answers.", info={"server": where, "version": version})


def redis(settings: Settings) -> Finding:
    """Send PING; without an address, say that none is needed."""
    if not settings.redis_url:
        return Finding(True, "No Redis is set, and none is needed: everything runs in one process.", info={})
    where = _where(settings.redis_url)
    if find_spec("redis") is None:
        return Finding(
            False,
            f"Redis at {where} cannot be asked: the Python package 'redis' is not installed.",
            "Install it with: pip install redis. Or leave this empty to stay with one process.",
            {"server": where},
        )
    import redis as library  # type: ignore[import-not-found,import-untyped,unused-ignore]

    try:
        client = library.Redis.from_url(settings.redis_url, socket_timeout=TIMEOUT, socket_connect_timeout=TIMEOUT)
        try:
            client.ping()
        finally:
            client.close()
    except (library.RedisError, ValueError, OSError) as exc:
        return Finding(
            False,
            f"Redis at {where} cannot be used ({type(exc).__name__}).",
            "Check the address, the user and the password.",
            {"server": where},
        )
    return Finding(True, f"Redis at {where} answers.", info={"server": where})


def _sqlite(settings: Settings) -> Finding:
    import sqlite3
    from contextlib import closing
    from pathlib import Path

    file = Path(settings.data_dir) / "dalla.db"
    try:
        with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True, timeout=TIMEOUT)) as connection:
            found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    except sqlite3.Error as exc:
        return Finding(
            False, f"The database {file} cannot be read: {exc}.", "Restore it from a backup.", {"file": str(file)}
        )
    info = {"file": str(file), "sizeBytes": file.stat().st_size, "sqlite": sqlite3.sqlite_version}
    if found != "ok":
        return Finding(False, f"The database is damaged: {found}.", "Restore it from a backup.", info)
    return Finding(True, f"SQLite {sqlite3.sqlite_version}; the database is sound.", info=info)


def _where(url: str) -> str:
    try:
        parts = urlsplit(url)
        return f"{parts.hostname or parts.path}{f':{parts.port}' if parts.port else ''}"
    except ValueError:
        return "that address"
