"""Datasets: pictures, what was measured of them, captions with their history, versions, exports."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.create_table(
        "datasets",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("id", sa.String(length=100), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("character_id", sa.String(length=100), nullable=True),
        sa.Column("trigger_word", sa.Text(), nullable=False),
        sa.Column("source_path", sa.Text(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.String(length=32), nullable=False),
        sa.Column("updated_at", sa.String(length=32), nullable=False),
        sa.Column("trashed_at", sa.String(length=32), nullable=True),
        sa.PrimaryKeyConstraint("seq"),
        sa.UniqueConstraint("id"),
    )
    op.create_index("ix_datasets_newest", "datasets", ["created_at", "seq"], unique=False)
    op.create_table(
        "dataset_exports",
        sa.Column("id", sa.String(length=100), nullable=False),
        sa.Column("dataset_id", sa.String(length=100), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("format", sa.String(length=32), nullable=False),
        sa.Column("options", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("filename", sa.Text(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("images", sa.Integer(), nullable=False),
        sa.Column("task_id", sa.String(length=100), nullable=True),
        sa.Column("created_at", sa.String(length=32), nullable=False),
        sa.ForeignKeyConstraint(["dataset_id"], ["datasets.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("uq_dataset_exports_number", "dataset_exports", ["dataset_id", "number"], unique=True)
    op.create_table(
        "dataset_versions",
        sa.Column("dataset_id", sa.String(length=100), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("images", sa.Integer(), nullable=False),
        sa.Column("added", sa.Integer(), nullable=False),
        sa.Column("removed", sa.Integer(), nullable=False),
        sa.Column("recaptioned", sa.Integer(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("entries", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("created_at", sa.String(length=32), nullable=False),
        sa.ForeignKeyConstraint(["dataset_id"], ["datasets.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("dataset_id", "number"),
    )
    op.create_table(
        "image_pairs",
        sa.Column("dataset_id", sa.String(length=100), nullable=False),
        sa.Column("first_id", sa.String(length=100), nullable=False),
        sa.Column("second_id", sa.String(length=100), nullable=False),
        sa.Column("verdict", sa.String(length=16), nullable=False),
        sa.Column("created_at", sa.String(length=32), nullable=False),
        sa.ForeignKeyConstraint(["dataset_id"], ["datasets.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("dataset_id", "first_id", "second_id"),
    )
    op.create_table(
        "images",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("id", sa.String(length=100), nullable=False),
        sa.Column("dataset_id", sa.String(length=100), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("parent_id", sa.String(length=100), nullable=True),
        sa.Column("operation", sa.String(length=32), nullable=True),
        sa.Column("filename", sa.Text(), nullable=False),
        sa.Column("filename_key", sa.Text(), nullable=False),
        sa.Column("folder", sa.Text(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("mime", sa.String(length=100), nullable=False),
        sa.Column("format", sa.String(length=16), nullable=False),
        sa.Column("width", sa.Integer(), nullable=False),
        sa.Column("height", sa.Integer(), nullable=False),
        sa.Column("short_side", sa.Integer(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("pixel_sha256", sa.String(length=64), nullable=False),
        sa.Column("caption", sa.Text(), nullable=False),
        sa.Column("caption_source", sa.String(length=16), nullable=False),
        sa.Column("caption_locked", sa.Boolean(), nullable=False),
        sa.Column("caption_words", sa.Integer(), nullable=False),
        sa.Column("repeats", sa.Integer(), nullable=False),
        sa.Column("concept", sa.Text(), nullable=False),
        sa.Column("regularization", sa.Boolean(), nullable=False),
        sa.Column("excluded", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.String(length=32), nullable=False),
        sa.Column("updated_at", sa.String(length=32), nullable=False),
        sa.Column("trashed_at", sa.String(length=32), nullable=True),
        sa.ForeignKeyConstraint(["dataset_id"], ["datasets.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("seq"),
        sa.UniqueConstraint("id"),
    )
    op.create_index("ix_images_newest", "images", ["dataset_id", "trashed_at", "created_at", "seq"], unique=False)
    op.create_index("ix_images_order", "images", ["dataset_id", "trashed_at", "filename_key", "seq"], unique=False)
    op.create_index("ix_images_parent", "images", ["parent_id"], unique=False)
    op.create_index("ix_images_sha256", "images", ["dataset_id", "sha256"], unique=False)
    op.create_index("uq_images_filename", "images", ["dataset_id", "kind", "filename_key"], unique=True)
    op.create_table(
        "captions",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("image_seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("dataset_id", sa.String(length=100), nullable=False),
        sa.Column("caption_text", sa.Text(), nullable=False),
        sa.Column("source", sa.String(length=16), nullable=False),
        sa.Column("model_used", sa.Text(), nullable=True),
        sa.Column("batch_id", sa.String(length=100), nullable=True),
        sa.Column("locked", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.String(length=32), nullable=False),
        sa.ForeignKeyConstraint(["image_seq"], ["images.seq"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_captions_batch", "captions", ["dataset_id", "batch_id", "id"], unique=False)
    op.create_index("ix_captions_image", "captions", ["image_seq", "id"], unique=False)
    op.create_table(
        "image_metadata",
        sa.Column(
            "image_seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False
        ),
        sa.Column("metadata_key", sa.String(length=64), nullable=False),
        sa.Column("metadata_value", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("number", sa.Float(), nullable=True),
        sa.ForeignKeyConstraint(["image_seq"], ["images.seq"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("image_seq", "metadata_key"),
    )
    op.create_index("ix_image_metadata_key", "image_metadata", ["metadata_key", "number", "image_seq"], unique=False)
    op.create_table(
        "image_tags",
        sa.Column(
            "image_seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False
        ),
        sa.Column("position", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("tag", sa.Text(), nullable=False),
        sa.Column("tag_key", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["image_seq"], ["images.seq"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("image_seq", "position"),
    )
    op.create_index("ix_image_tags_key", "image_tags", ["tag_key", "image_seq"], unique=False)


def downgrade() -> None:
    for table in (
        "dataset_exports",
        "dataset_versions",
        "image_pairs",
        "captions",
        "image_tags",
        "image_metadata",
        "images",
        "datasets",
    ):
        op.drop_table(table)
