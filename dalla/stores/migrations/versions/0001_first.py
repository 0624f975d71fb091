"""The first tables: media with their collections, background tasks, idempotency keys."""

from __future__ import annotations

import contextlib

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "background_tasks",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("id", sa.String(length=100), nullable=False),
        sa.Column("kind", sa.String(length=64), nullable=False),
        sa.Column("lane", sa.String(length=32), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("character_id", sa.String(length=100), nullable=True),
        sa.Column("done", sa.Float(), nullable=False),
        sa.Column("total", sa.Float(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("eta_seconds", sa.Float(), nullable=True),
        sa.Column("rate", sa.Float(), nullable=True),
        sa.Column("payload", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("result", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("error", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("items_failed", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("crashes", sa.Integer(), nullable=False),
        sa.Column("quarantined", sa.Boolean(), nullable=False),
        sa.Column("cancel_requested", sa.Boolean(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=True),
        sa.Column("parent_id", sa.String(length=100), nullable=True),
        sa.Column("created_at", sa.String(length=32), nullable=False),
        sa.Column("started_at", sa.String(length=32), nullable=True),
        sa.Column("finished_at", sa.String(length=32), nullable=True),
        sa.Column("heartbeat_at", sa.String(length=32), nullable=True),
        sa.PrimaryKeyConstraint("seq"),
        sa.UniqueConstraint("id"),
    )
    op.create_index(
        "ix_tasks_claim", "background_tasks", ["status", "lane", "quarantined", "created_at", "seq"], unique=False
    )
    op.create_index("ix_tasks_finished", "background_tasks", ["finished_at"], unique=False)
    op.create_index("ix_tasks_kind", "background_tasks", ["kind", "created_at", "seq"], unique=False)
    op.create_index("ix_tasks_newest", "background_tasks", ["created_at", "seq"], unique=False)
    op.create_table(
        "collections",
        sa.Column("id", sa.String(length=100), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("name_key", sa.Text(), nullable=False),
        sa.Column("created_at", sa.String(length=32), nullable=False),
        sa.Column("updated_at", sa.String(length=32), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("name_key"),
    )
    op.create_table(
        "idempotency_keys",
        sa.Column("key", sa.String(length=255), nullable=False),
        sa.Column("fingerprint", sa.String(length=128), nullable=False),
        sa.Column("answer", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("created_at", sa.String(length=32), nullable=False),
        sa.PrimaryKeyConstraint("key"),
    )
    op.create_index("ix_idempotency_created", "idempotency_keys", ["created_at"], unique=False)
    op.create_table(
        "media",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("id", sa.String(length=100), nullable=False),
        sa.Column("type", sa.String(length=16), nullable=False),
        sa.Column("origin", sa.String(length=16), nullable=False),
        sa.Column("character_id", sa.String(length=100), nullable=True),
        sa.Column("task_id", sa.String(length=100), nullable=True),
        sa.Column("parent_id", sa.String(length=100), nullable=True),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("mime", sa.String(length=100), nullable=False),
        sa.Column("width", sa.Integer(), nullable=False),
        sa.Column("height", sa.Integer(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("prompt", sa.Text(), nullable=False),
        sa.Column("negative_prompt", sa.Text(), nullable=True),
        sa.Column("model", sa.Text(), nullable=True),
        sa.Column("family", sa.String(length=32), nullable=True),
        sa.Column("engine", sa.String(length=64), nullable=True),
        sa.Column("loras", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("caption", sa.Text(), nullable=True),
        sa.Column("alt_text", sa.Text(), nullable=True),
        sa.Column("starred", sa.Boolean(), nullable=False),
        sa.Column("posted", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.String(length=32), nullable=False),
        sa.Column("updated_at", sa.String(length=32), nullable=False),
        sa.Column("trashed_at", sa.String(length=32), nullable=True),
        sa.PrimaryKeyConstraint("seq"),
        sa.UniqueConstraint("id"),
    )
    op.create_index(
        "ix_media_character",
        "media",
        ["character_id", "created_at", "seq"],
        unique=False,
        sqlite_where=sa.text("trashed_at IS NULL"),
        postgresql_where=sa.text("trashed_at IS NULL"),
    )
    op.create_index(
        "ix_media_engine",
        "media",
        ["engine", "created_at", "seq"],
        unique=False,
        sqlite_where=sa.text("trashed_at IS NULL"),
        postgresql_where=sa.text("trashed_at IS NULL"),
    )
    op.create_index(
        "ix_media_model",
        "media",
        ["model", "created_at", "seq"],
        unique=False,
        sqlite_where=sa.text("trashed_at IS NULL"),
        postgresql_where=sa.text("trashed_at IS NULL"),
    )
    op.create_index(
        "ix_media_newest",
        "media",
        ["created_at", "seq"],
        unique=False,
        sqlite_where=sa.text("trashed_at IS NULL"),
        postgresql_where=sa.text("trashed_at IS NULL"),
    )
    op.create_index(
        "ix_media_posted",
        "media",
        ["posted", "created_at", "seq"],
        unique=False,
        sqlite_where=sa.text("trashed_at IS NULL"),
        postgresql_where=sa.text("trashed_at IS NULL"),
    )
    op.create_index("ix_media_sha256", "media", ["sha256"], unique=False)
    op.create_index(
        "ix_media_starred",
        "media",
        ["starred", "created_at", "seq"],
        unique=False,
        sqlite_where=sa.text("trashed_at IS NULL"),
        postgresql_where=sa.text("trashed_at IS NULL"),
    )
    op.create_index("ix_media_task", "media", ["task_id"], unique=False)
    op.create_index(
        "ix_media_trash",
        "media",
        ["created_at", "seq"],
        unique=False,
        sqlite_where=sa.text("trashed_at IS NOT NULL"),
        postgresql_where=sa.text("trashed_at IS NOT NULL"),
    )
    op.create_index(
        "ix_media_type",
        "media",
        ["type", "created_at", "seq"],
        unique=False,
        sqlite_where=sa.text("trashed_at IS NULL"),
        postgresql_where=sa.text("trashed_at IS NULL"),
    )
    op.create_table(
        "revisions",
        sa.Column("name", sa.String(length=32), nullable=False),
        sa.Column("value", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "collection_media",
        sa.Column("collection_id", sa.String(length=100), nullable=False),
        sa.Column(
            "media_seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False
        ),
        sa.Column("created_at", sa.String(length=32), nullable=False),
        sa.Column("added_at", sa.String(length=32), nullable=False),
        sa.ForeignKeyConstraint(["collection_id"], ["collections.id"], ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["media_seq"], ["media.seq"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("collection_id", "media_seq"),
    )
    op.create_index("ix_collection_media_media", "collection_media", ["media_seq"], unique=False)
    op.create_index(
        "ix_collection_media_newest", "collection_media", ["collection_id", "created_at", "media_seq"], unique=False
    )
    op.create_table(
        "media_loras",
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column(
            "media_seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False
        ),
        sa.Column("created_at", sa.String(length=32), nullable=False),
        sa.ForeignKeyConstraint(["media_seq"], ["media.seq"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("name", "media_seq"),
    )
    op.create_index("ix_media_loras_media", "media_loras", ["media_seq"], unique=False)
    op.create_index("ix_media_loras_newest", "media_loras", ["name", "created_at", "media_seq"], unique=False)
    op.create_table(
        "media_recipes",
        sa.Column(
            "media_seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False
        ),
        sa.Column("recipe", sa.JSON(none_as_null=True), nullable=False),
        sa.ForeignKeyConstraint(["media_seq"], ["media.seq"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("media_seq"),
    )
    op.bulk_insert(sa.table("revisions", sa.column("name"), sa.column("value")), [{"name": "media", "value": 0}])
    if op.get_bind().dialect.name == "sqlite":
        # Without FTS5 (an unusual SQLite) the search reads the prompts instead; see stores/search.py.
        with contextlib.suppress(sa.exc.OperationalError):
            op.execute("CREATE VIRTUAL TABLE media_words USING fts5(prompt, tokenize='trigram case_sensitive 1')")


def downgrade() -> None:
    if op.get_bind().dialect.name == "sqlite":
        op.execute("DROP TABLE IF EXISTS media_words")
    for table in (
        "collection_media", "media_loras", "media_recipes", "collections", "media",
        "background_tasks", "idempotency_keys", "revisions",
    ):  # fmt: skip
        op.drop_table(table)
