"""The database of everything that is listed, filtered and counted: opening it, keeping it current.

SQLite in the data folder by default. The stores on top (`media.py`, `tasks.py`, `idempotency.py`)
speak portable SQL, so that PostgreSQL runs the same code; what is particular to SQLite stands here
and in `search.py`.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, exc, inspect, select, text, update

from dalla.errors import StorageError
from dalla.paths import fsync_folder
from dalla.stores import schema
from dalla.stores.locks import SharedLock
from dalla.stores.search import Search

log = logging.getLogger(__name__)

MIGRATIONS = Path(__file__).parent / "migrations"
_PRAGMAS = (
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",  # what was acknowledged survives a power cut, not only a crash of the app
    "PRAGMA foreign_keys = ON",
    "PRAGMA cache_size = -16000",  # 16 MB per connection
    "PRAGMA temp_store = MEMORY",
    "PRAGMA journal_size_limit = 67108864",
)


class Library:
    """One open database. `read()` and `write()` are the only doors; both give a connection in a transaction."""

    def __init__(self, engine: Engine, file: Path | None) -> None:
        self.engine = engine
        self.file = file  # None: not SQLite
        self._writing = engine.execution_options(dalla_write=True)
        self._write_lock = threading.Lock() if file else contextlib.nullcontext()
        self.search = Search(file is not None)

    @classmethod
    def open(cls, where: str | Path) -> Library:
        """Open a file or a database URL, creating or migrating the tables. Raises StorageError."""
        url = str(where)
        file = None
        if isinstance(where, Path) or "://" not in url:
            file = Path(where)
        elif url.startswith("sqlite:///"):
            file = Path(url.removeprefix("sqlite:///"))
        if file is None:
            for scheme in ("postgres://", "postgresql://"):
                if url.startswith(scheme):
                    url = "postgresql+psycopg://" + url.removeprefix(scheme)
            return cls(create_engine(url, pool_size=8, max_overflow=24), None)._prepared()
        file = Path(os.path.realpath(file))
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError.from_os(error, "the database") from error
        engine = create_engine(
            f"sqlite:///{file}",
            pool_size=8,
            max_overflow=24,
            # We say BEGIN ourselves (below): the driver would begin late and without the write lock.
            connect_args={"timeout": 30, "isolation_level": None, "check_same_thread": False},
        )
        event.listen(engine, "connect", _configure_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return cls(engine, file)._prepared()

    @contextlib.contextmanager
    def read(self) -> Iterator[Connection]:
        """Give a connection whose statements all see the same moment. Raises StorageError."""
        with self._translated(), self.engine.begin() as connection:
            yield connection

    @contextlib.contextmanager
    def write(self) -> Iterator[Connection]:
        """Give a connection that commits durably at the end, or changes nothing. Raises StorageError.

        IntegrityError (a duplicate) passes through for the store to explain.
        """
        # Writers of this process queue here, because SQLite's own waiting is a loop of sleeps and not fair.
        with self._write_lock, self._translated(), self._writing.begin() as connection:
            yield connection

    def revision(self, connection: Connection, name: str) -> int:
        """Return the number that grows with every change of a table (see schema.revisions)."""
        rows = schema.revisions
        return connection.execute(select(rows.c.value).where(rows.c.name == name)).scalar_one()

    def changed(self, connection: Connection, name: str) -> None:
        """Let the revision grow, in the transaction of the change."""
        rows = schema.revisions
        connection.execute(update(rows).where(rows.c.name == name).values(value=rows.c.value + 1))

    def check(self) -> str:
        """Read something and return the database's name ("SQLite"). Raises StorageError."""
        with self.read() as connection:
            connection.execute(text("SELECT 1"))
        return {"sqlite": "SQLite", "postgresql": "PostgreSQL"}.get(self.engine.dialect.name, self.engine.dialect.name)

    def close(self) -> None:
        self.engine.dispose()

    # ------------------------------------------------------------------ schema

    def _prepared(self) -> Library:
        try:
            if self.version() != head():
                self._migrate()
            with self.read() as connection:
                self.search.detect(connection)
        except BaseException:
            self.close()
            raise
        return self

    def version(self) -> str | None:
        """Return the migration the database is at; None for one without our tables."""
        with self.read() as connection:
            if not inspect(connection).has_table("alembic_version"):
                return None
            return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()

    def _migrate(self) -> None:
        lock = SharedLock(self.file.with_name(f".{self.file.name}.lock"), self.file.name).hold() if self.file else None
        with lock or contextlib.nullcontext():
            version = self.version()  # again: another process may have been first
            if version == head():
                return
            if version is not None and version not in known_versions():
                raise StorageError(
                    f"The database was written by a newer version of Digital Dalla (its tables are at {version}, "
                    f"this one knows them up to {head()}).",
                    remedy="Update the app, or restore the copy of the database that the update made beside it.",
                )
            if self.file and self._has_tables():
                copy = self._backup(version)
                log.info("the database is copied to %s before its tables are changed", copy)
            self._upgrade()
            log.info("the database tables are now at %s", head())

    def _has_tables(self) -> bool:
        with self.read() as connection:
            return bool(inspect(connection).get_table_names())

    def _backup(self, version: str | None) -> Path:
        """Copy the database, including what is still in its journal. Raises StorageError."""
        assert self.file is not None
        copy = self.file.with_name(f"{self.file.name}.before-{head()}.bak")
        temp = self.file.with_name(f".{copy.name}.tmp")
        try:
            temp.unlink(missing_ok=True)
            with (
                contextlib.closing(sqlite3.connect(self.file)) as source,
                contextlib.closing(sqlite3.connect(temp)) as target,
            ):
                source.backup(target)
            os.replace(temp, copy)
            fsync_folder(copy.parent)
        except OSError as error:
            raise StorageError.from_os(error, "a copy of the database") from error
        except sqlite3.Error as error:
            raise explain(error) from error
        return copy

    def _upgrade(self) -> None:
        from alembic import command
        from alembic.config import Config

        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
        with self._translated(), self._writing.connect() as connection:
            if self.file:
                # SQLite rebuilds tables to change them; with foreign keys on, that would delete their children.
                # Said to the driver, because the setting is ignored inside a transaction.
                connection.connection.dbapi_connection.execute("PRAGMA foreign_keys = OFF")  # type: ignore[union-attr]
            with connection.begin():
                config.attributes["connection"] = connection
                command.upgrade(config, "head")
        self.engine.dispose()  # the connection without foreign keys goes

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except exc.IntegrityError:
            raise
        except exc.DBAPIError as error:
            raise explain(error.orig or error, self.file) from error
        except exc.TimeoutError as error:  # every connection of the pool is in use
            raise StorageError(
                "The database is busy with too many requests at once. Nothing was changed.", remedy="Try again."
            ) from error
        except sqlite3.Error as error:  # from setting up a connection
            raise explain(error, self.file) from error


def known_versions() -> list[str]:
    """Return every migration this code has, oldest first (by file name, so that nothing need be imported)."""
    return sorted(path.name.split("_")[0] for path in (MIGRATIONS / "versions").glob("[0-9]*.py"))


def head() -> str:
    return known_versions()[-1]


def explain(error: BaseException, file: Path | None = None) -> StorageError:
    """Say in plain words what the database complained about."""
    said = str(error)
    words = said.lower()
    name = str(file) if file else "the database"
    if "malformed" in words or "not a database" in words or "corrupt" in words:
        return StorageError(
            f"{name} is damaged or not a database ({said}). It is left as it is.",
            remedy="Stop the app, move the file away and put a backup in its place.",
        )
    if "is full" in words:
        return StorageError(
            "There is no space left on the disk for the database. Nothing was changed.",
            remedy="Free some space (Monitoring shows which folder is full) and try again.",
        )
    if "readonly" in words or "unable to open" in words:
        return StorageError(
            f"{name} cannot be written here ({said}). Nothing was changed.",
            remedy="Give this user write permission to the data folder, or set DALLA_DATA_DIR.",
        )
    if "locked" in words:
        return StorageError(
            "Another program keeps the database locked. Nothing was changed.",
            remedy="Close the other program that has the database open and try again.",
        )
    return StorageError(f"The database reported a problem: {said}. Nothing was changed.")


def _configure_sqlite(connection: Any, _record: Any) -> None:
    cursor = connection.cursor()
    for pragma in _PRAGMAS:
        cursor.execute(pragma)
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    writing = connection.get_execution_options().get("dalla_write")
    # IMMEDIATE takes the write lock at once; a transaction that reads first could fail when it comes to write.
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")
