"""The tables of the library as SQLAlchemy Core sees them now.

The migrations in `migrations/versions/` create and change them; a test compares both.
`seq` counts rows in the order they came and breaks ties of `created_at`; it never leaves the stores.
"""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    text,
)

metadata = MetaData()
_Seq = BigInteger().with_variant(Integer, "sqlite")  # SQLite numbers rows only in an INTEGER key
_Json = JSON(none_as_null=True)

media = Table(
    "media",
    metadata,
    Column("seq", _Seq, primary_key=True, autoincrement=True),
    Column("id", String(100), nullable=False, unique=True),
    Column("type", String(16), nullable=False),
    Column("origin", String(16), nullable=False),
    Column("character_id", String(100)),
    Column("task_id", String(100)),
    Column("parent_id", String(100)),
    Column("path", Text, nullable=False),
    Column("mime", String(100), nullable=False),
    Column("width", Integer, nullable=False),
    Column("height", Integer, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("prompt", Text, nullable=False),
    Column("negative_prompt", Text),
    Column("model", Text),
    Column("family", String(32)),
    Column("engine", String(64)),
    Column("loras", _Json, nullable=False),
    Column("caption", Text),
    Column("alt_text", Text),
    Column("starred", Boolean, nullable=False),
    Column("posted", Boolean, nullable=False),
    Column("created_at", String(32), nullable=False),
    Column("updated_at", String(32), nullable=False),
    Column("trashed_at", String(32)),
)

# Kept apart because recipes are long and only the details of one picture show them: lists stay quick.
media_recipes = Table(
    "media_recipes",
    metadata,
    Column("media_seq", _Seq, ForeignKey("media.seq", ondelete="CASCADE"), primary_key=True, autoincrement=False),
    Column("recipe", _Json, nullable=False),
)

# `created_at` is repeated here so that one index serves "this LoRA, newest first". It never changes.
media_loras = Table(
    "media_loras",
    metadata,
    Column("name", String(200), primary_key=True),
    Column("media_seq", _Seq, ForeignKey("media.seq", ondelete="CASCADE"), primary_key=True, autoincrement=False),
    Column("created_at", String(32), nullable=False),
    Index("ix_media_loras_newest", "name", "created_at", "media_seq"),
    Index("ix_media_loras_media", "media_seq"),
)

collections = Table(
    "collections",
    metadata,
    Column("id", String(100), primary_key=True),
    Column("name", Text, nullable=False),
    Column("name_key", Text, nullable=False, unique=True),  # the name in lower case
    Column("created_at", String(32), nullable=False),
    Column("updated_at", String(32), nullable=False),
)

collection_media = Table(
    "collection_media",
    metadata,
    Column("collection_id", String(100), ForeignKey("collections.id", ondelete="CASCADE"), primary_key=True),
    Column("media_seq", _Seq, ForeignKey("media.seq", ondelete="CASCADE"), primary_key=True, autoincrement=False),
    Column("created_at", String(32), nullable=False),  # of the picture, as in media_loras
    Column("added_at", String(32), nullable=False),
    Index("ix_collection_media_newest", "collection_id", "created_at", "media_seq"),
    Index("ix_collection_media_media", "media_seq"),
)


def _live(name: str, *columns: str) -> Index:
    """Index what is not in the trash, in the order of the gallery."""
    where = text("trashed_at IS NULL")
    return Index(
        name, *(media.c[c] for c in (*columns, "created_at", "seq")), sqlite_where=where, postgresql_where=where
    )


_live("ix_media_newest")
_live("ix_media_type", "type")
_live("ix_media_character", "character_id")
_live("ix_media_model", "model")
_live("ix_media_engine", "engine")
_live("ix_media_starred", "starred")
_live("ix_media_posted", "posted")
_trash = text("trashed_at IS NOT NULL")
Index("ix_media_trash", media.c.created_at, media.c.seq, sqlite_where=_trash, postgresql_where=_trash)
Index("ix_media_task", media.c.task_id)
Index("ix_media_sha256", media.c.sha256)

background_tasks = Table(
    "background_tasks",
    metadata,
    Column("seq", _Seq, primary_key=True, autoincrement=True),
    Column("id", String(100), nullable=False, unique=True),
    Column("kind", String(64), nullable=False),
    Column("lane", String(32), nullable=False),
    Column("status", String(16), nullable=False),
    Column("title", Text, nullable=False),
    Column("character_id", String(100)),
    Column("done", Float, nullable=False),
    Column("total", Float, nullable=False),
    Column("message", Text, nullable=False),
    Column("eta_seconds", Float),
    Column("rate", Float),
    Column("payload", _Json, nullable=False),
    Column("result", _Json),
    Column("error", _Json),
    Column("items_failed", _Json, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("crashes", Integer, nullable=False),
    Column("quarantined", Boolean, nullable=False),
    Column("cancel_requested", Boolean, nullable=False),
    Column("owner", Text),
    Column("parent_id", String(100)),
    Column("created_at", String(32), nullable=False),
    Column("started_at", String(32)),
    Column("finished_at", String(32)),
    Column("heartbeat_at", String(32)),
    Index("ix_tasks_claim", "status", "lane", "quarantined", "created_at", "seq"),
    Index("ix_tasks_newest", "created_at", "seq"),
    Index("ix_tasks_kind", "kind", "created_at", "seq"),
    Index("ix_tasks_finished", "finished_at"),
)

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("key", String(255), primary_key=True),
    Column("fingerprint", String(128), nullable=False),
    Column("answer", _Json),  # empty while the request runs
    Column("created_at", String(32), nullable=False),
    Index("ix_idempotency_created", "created_at"),
)

# One number per table that is counted often: it grows with every change, so a count may be remembered
# until it does, also when another process made the change.
revisions = Table(
    "revisions",
    metadata,
    Column("name", String(32), primary_key=True),
    Column("value", BigInteger, nullable=False),
)
