"""A database out of a backup, made fit to be used: brought up to date, and nothing in it happens twice.

The copy is of an earlier moment. What was due since then may have gone out after it, so nothing is published from it
before a person has looked: posts on their way and posts whose time has passed become `unconfirmed`, everything else
waits behind the stop switch, and no work of that moment is taken up again. What the present database knows for sure
(a post is live, a token was revoked, a password was changed) outlives the restore.
"""

from __future__ import annotations

import contextlib
import json
import logging
import sqlite3
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select, update

from dalla.errors import InvalidInput, StorageError
from dalla.records.post import IN_FLIGHT
from dalla.stores import schema
from dalla.stores.library import Library, explain, known_versions
from dalla.stores.schema_users import api_tokens, user_sessions, users

log = logging.getLogger(__name__)

#: What is counted for a person: name -> (table, column that must be empty).
COUNTED: dict[str, tuple[str, str | None]] = {
    "media": ("media", "trashed_at"),
    "collections": ("collections", None),
    "datasets": ("datasets", "trashed_at"),
    "datasetImages": ("images", None),
    "posts": ("posts", None),
    "runs": ("runs", None),
    "users": ("users", None),
    "tasks": ("background_tasks", None),
}
_OURS = "media_words"  # the one virtual table, with its shadows


def counts(file: Path) -> dict[str, int]:
    """Return how many rows of each kind a database has, whatever its version. Raises StorageError."""
    found: dict[str, int] = {}
    try:
        with contextlib.closing(_connect(file)) as db:
            there = {row[0]: {c[1] for c in db.execute(f'PRAGMA table_info("{row[0]}")')} for row in _tables(db)}
            for name, (table, empty) in COUNTED.items():
                where = f" WHERE {empty} IS NULL" if empty and empty in there.get(table, ()) else ""
                found[name] = (
                    db.execute(f'SELECT count(*) FROM "{table}"{where}').fetchone()[0] if table in there else 0
                )
    except sqlite3.Error as exc:
        raise explain(exc, file) from exc
    return found


def check(file: Path) -> None:
    """Look at a database from elsewhere before anything of it is run.

    Raises InvalidInput: not a database, damaged, of a newer version, or with parts that no database of ours has
    (triggers and views run by themselves).
    """
    try:
        with contextlib.closing(_connect(file)) as db:
            for kind, name, sql in db.execute("SELECT type, name, sql FROM sqlite_master").fetchall():
                virtual = kind == "table" and str(sql or "").lstrip().lower().startswith("create virtual")
                if kind in ("trigger", "view") or (virtual and name != _OURS):
                    raise InvalidInput(
                        f"The database in this backup holds a {kind} ('{name[:80]}') that Digital Dalla does not make.",
                        remedy="Use a backup that this app wrote.",
                        extra={"sin": "foreign_schema"},
                    )
            version = None
            if any(row[0] == "alembic_version" for row in _tables(db)):
                row = db.execute("SELECT version_num FROM alembic_version").fetchone()
                version = row[0] if row else None
            fault = db.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.Error as exc:
        raise InvalidInput(
            f"The database in this backup cannot be read: {exc}.",
            remedy="Use another backup.",
            extra={"sin": "damaged"},
        ) from exc
    if version not in known_versions():
        newer = isinstance(version, str) and version > known_versions()[-1]
        raise InvalidInput(
            "The database in this backup was written by a newer version of Digital Dalla."
            if newer
            else "The database in this backup is not one of Digital Dalla.",
            remedy="Update the app first." if newer else "Use a backup that this app wrote.",
            extra={"sin": "newer" if newer else "foreign_schema"},
        )
    if fault is None or fault[0] != "ok":
        raise InvalidInput(
            f"The database in this backup is damaged ({fault[0] if fault else 'no answer'}).",
            remedy="Use another backup.",
            extra={"sin": "damaged"},
        )


def update_tables(file: Path) -> None:
    """Bring a staged database to the tables of this version; nothing is left beside the file. Raises StorageError."""
    Library.open(file).close()
    for left in file.parent.glob(f"{file.name}.before-*.bak"):
        left.unlink(missing_ok=True)
    _one_file(file)


def settle(file: Path, present: Path | None, now: str, reason: str) -> dict[str, int]:
    """Make a staged database safe to start with; may be repeated. Returns what was done, counted.

    `present` is the database in use until now (it may be absent or broken), `reason` is what the stop switch says.
    Raises StorageError.
    """
    known = _present(present) if present is not None else {}
    library = Library.open(file)
    try:
        with library.write() as connection:
            done = _posts(connection, known.get("posts", []), now)
            done |= _work(connection, now)
            _people(connection, known)
            _stop(connection, now, reason)
    finally:
        library.close()
    _one_file(file)
    return done


# ---------------------------------------------------------------- the parts


def _posts(connection: Connection, known: list[dict[str, Any]], now: str) -> dict[str, int]:
    posts = schema.posts
    fresh = {"lease_owner": None, "lease_until": None, "job_id": None, "deferred_reason": None, "updated_at": now}
    live, asked = 0, 0
    for row in known:
        mine = (posts.c.id == row["id"]) & (posts.c.status != "published")
        if row["status"] == "published":
            values = {k: row[k] for k in ("platform_post_id", "permalink", "published_at")}
            live += connection.execute(
                update(posts).where(mine).values(status="published", error=None, **values, **fresh)
            ).rowcount
        elif row["status"] in (*IN_FLIGHT, "unconfirmed"):
            doubt = _doubt("It was on its way when the backup was restored.")
            asked += connection.execute(
                update(posts).where(mine).values(status="unconfirmed", error=doubt, **fresh)
            ).rowcount
    wanted = func.coalesce(posts.c.due_at, posts.c.scheduled_at, posts.c.created_at)
    real = posts.c.dry_run.is_(False)
    connection.execute(
        update(posts).where(posts.c.status.in_(IN_FLIGHT) & posts.c.dry_run.is_(True)).values(status="missed", **fresh)
    )
    for where, said in (
        (posts.c.status.in_(IN_FLIGHT), "It was on its way when the backup was made."),
        ((posts.c.status == "scheduled") & real & (wanted <= now), "Its time came after the backup was made."),
    ):
        asked += connection.execute(
            update(posts).where(where).values(status="unconfirmed", error=_doubt(said), **fresh)
        ).rowcount
    return {"postsKnownLive": live, "postsToConfirm": asked}


def _doubt(said: str) -> dict[str, Any]:
    return {
        "detail": f"{said} Whether it went out is not known here.",
        "remedy": "Look at the account. It is there: say so, with its link. It is not: post it again or cancel it.",
        "code": "unconfirmed",
        "cause": "unconfirmed",
        "action": "ask",
    }


def _work(connection: Connection, now: str) -> dict[str, int]:
    """End what was under way: it belongs to another moment, and its process is gone."""
    tasks, runs, states = schema.background_tasks, schema.runs, schema.schedule_state
    error = {
        "detail": "This was under way when the backup was made.",
        "remedy": "Start it again if it is still wanted.",
        "code": "interrupted",
    }
    # The task that made the backup is in it as running; that there is a backup shows that it came to its end.
    connection.execute(
        update(tasks)
        .where((tasks.c.kind == "make_backup") & (tasks.c.status == "running"))
        .values(status="completed", owner=None, message="", finished_at=now)
    )
    ended = connection.execute(
        update(tasks)
        .where(tasks.c.status.in_(("queued", "running", "paused")))
        .values(status="interrupted", owner=None, error=error, finished_at=now)
    ).rowcount
    stopped = connection.execute(
        update(runs)
        .where(runs.c.status.in_(("queued", "running")))
        .values(status="cancelled", reason=error["detail"], finished_at=now)
    ).rowcount
    # The next time of every rule is computed from now on: slots since the backup have had their run.
    connection.execute(update(states).values(fingerprint="", next_due=None, updated_at=now))
    connection.execute(delete(schema.leases))
    connection.execute(delete(schema.idempotency_keys))
    deliveries = schema.webhook_deliveries
    connection.execute(
        update(deliveries)
        .where(deliveries.c.status == "pending")
        .values(status="failed", detail="It waited when the backup was made.", updated_at=now)
    )
    return {"tasksEnded": ended, "runsEnded": stopped}


def _people(connection: Connection, known: dict[str, list[dict[str, Any]]]) -> None:
    """Nobody stays signed in, and the accounts are those of now: with their passwords, roles and tokens.

    What only the backup has comes back disabled: it was removed since, or somebody else made the backup. Where there
    are no accounts yet, those of the backup are taken as they are.
    """
    connection.execute(delete(user_sessions))
    present = known.get("users", [])
    if not present:
        return
    connection.execute(delete(api_tokens))
    ids, names = [row["id"] for row in present], [row["name_key"] for row in present]
    connection.execute(delete(users).where(users.c.id.in_(ids) | users.c.name_key.in_(names)))
    connection.execute(update(users).values(disabled=True))
    for table, name in ((users, "users"), (api_tokens, "api_tokens")):
        columns = {column.name for column in table.c}
        for row in known.get(name, []):
            values = {k: json.loads(v) if k == "scopes" else v for k, v in row.items() if k in columns}
            connection.execute(insert(table).values(values))


def _stop(connection: Connection, now: str, reason: str) -> None:
    switches = schema.switches
    value = connection.execute(select(switches.c.value).where(switches.c.name == "paused")).scalar() or {}
    stopped = {**value, "all": {"reason": reason, "since": now}}
    changed = update(switches).where(switches.c.name == "paused").values(value=stopped, updated_at=now)
    if not connection.execute(changed).rowcount:
        connection.execute(insert(switches).values(name="paused", value=stopped, updated_at=now))


def _present(file: Path) -> dict[str, list[dict[str, Any]]]:
    """Return what the database in use knows: {"posts", "users", "api_tokens"}; what cannot be read is left out."""
    found: dict[str, list[dict[str, Any]]] = {}
    if not file.is_file():
        return found
    wanted = {
        "posts": "SELECT id, status, platform_post_id, permalink, published_at FROM posts WHERE dry_run = 0 AND status IN "
        "('published', 'claimed', 'uploading', 'publishing', 'unconfirmed')",
        "users": "SELECT * FROM users",
        "api_tokens": "SELECT * FROM api_tokens",
    }
    for name, query in wanted.items():
        try:
            with contextlib.closing(sqlite3.connect(file, timeout=10)) as db:
                db.row_factory = sqlite3.Row
                found[name] = [dict(row) for row in db.execute(query)]
        except sqlite3.Error as exc:  # it may be the very reason for the restore
            log.warning("the present database says nothing about %s: %s", name, exc)
    return found


# ---------------------------------------------------------------- small things


def _connect(file: Path) -> sqlite3.Connection:
    """Open for reading, without trusting what the file says it can do."""
    if not file.is_file():
        raise StorageError(f"There is no database {file}.")
    db = sqlite3.connect(file, timeout=10)
    db.execute("PRAGMA query_only = ON")
    db.execute("PRAGMA trusted_schema = OFF")
    return db


def _tables(db: sqlite3.Connection) -> list[tuple[str]]:
    return db.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()


def _one_file(file: Path) -> None:
    """Put everything into the one file, so that it can be renamed: no journal beside it."""
    try:
        with contextlib.closing(sqlite3.connect(file, timeout=10)) as db:
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            db.execute("PRAGMA journal_mode = DELETE")
    except sqlite3.Error as exc:
        raise explain(exc, file) from exc
    for ending in ("-wal", "-shm"):
        file.with_name(file.name + ending).unlink(missing_ok=True)
