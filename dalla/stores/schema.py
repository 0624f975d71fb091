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
    """Index what is not in the trash, in the order of the gallery.

    The migration says `where` to PostgreSQL too; here its word would load that dialect at every start.
    """
    where = text("trashed_at IS NULL")
    return Index(name, *(media.c[c] for c in (*columns, "created_at", "seq")), sqlite_where=where)


_live("ix_media_newest")
_live("ix_media_type", "type")
_live("ix_media_character", "character_id")
_live("ix_media_model", "model")
_live("ix_media_engine", "engine")
_live("ix_media_starred", "starred")
_live("ix_media_posted", "posted")
_trash = text("trashed_at IS NOT NULL")
Index("ix_media_trash", media.c.created_at, media.c.seq, sqlite_where=_trash)
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
    Column("turn", Integer, nullable=False, server_default="0"),
    Column("created_at", String(32), nullable=False),
    Column("started_at", String(32)),
    Column("finished_at", String(32)),
    Column("heartbeat_at", String(32)),
    Index("ix_tasks_claim", "status", "lane", "quarantined", "turn", "created_at", "seq"),
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

# ---------------------------------------------------------------- publishing

posts = Table(
    "posts",
    metadata,
    Column("seq", _Seq, primary_key=True, autoincrement=True),
    Column("id", String(100), nullable=False, unique=True),
    Column("character_id", String(100), nullable=False),
    Column("platform", String(32), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("media_ids", _Json, nullable=False),
    Column("caption", Text, nullable=False),
    Column("alt_texts", _Json, nullable=False),
    Column("options", _Json, nullable=False),
    Column("status", String(16), nullable=False),
    Column("hold", String(16)),
    Column("hold_reason", Text),
    Column("dry_run", Boolean, nullable=False),
    Column("scheduled_at", String(32)),
    Column("due_at", String(32)),
    Column("deferred_reason", Text),
    Column("source", String(16), nullable=False),
    Column("task_id", String(100)),
    Column("run_id", String(100)),
    Column("slot", String(100)),
    Column("group_id", String(100)),
    Column("prompt_id", String(100)),
    Column("files", _Json, nullable=False),
    Column("snapshot", _Json),
    Column("remote", _Json, nullable=False),
    Column("publish_started_at", String(32)),
    Column("looks", Integer, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("error", _Json),
    Column("warnings", _Json, nullable=False),
    Column("platform_post_id", String(200)),
    Column("permalink", Text),
    Column("published_at", String(32)),
    Column("lease_owner", Text),
    Column("lease_until", String(32)),
    Column("job_id", String(100)),
    Column("approved_at", String(32)),
    Column("revision", Integer, nullable=False),
    Column("when_at", String(32), nullable=False),  # scheduled_at, else created_at: the order of lists and the calendar
    Column("created_at", String(32), nullable=False),
    Column("updated_at", String(32), nullable=False),
    # One post per slot of a rule and platform, whoever ticks. Posts without a rule have no slot and do not collide.
    Index("uq_posts_slot", "task_id", "platform", "slot", unique=True),
    Index("ix_posts_due", "status", "due_at"),
    Index("ix_posts_lease", "status", "lease_until"),
    Index("ix_posts_account", "character_id", "platform", "status"),
    Index("ix_posts_when", "when_at", "seq"),
    Index("ix_posts_status_when", "status", "when_at", "seq"),
    Index("ix_posts_character_when", "character_id", "when_at", "seq"),
    Index("ix_posts_run", "run_id"),
    Index("ix_posts_group", "group_id"),
)

# Which post uses which picture: "posted to" badges, queue order, duplicates.
post_media = Table(
    "post_media",
    metadata,
    Column("post_seq", _Seq, ForeignKey("posts.seq", ondelete="CASCADE"), primary_key=True, autoincrement=False),
    Column("media_id", String(100), primary_key=True),
    Index("ix_post_media_media", "media_id", "post_seq"),
)

post_attempts = Table(
    "post_attempts",
    metadata,
    Column("id", _Seq, primary_key=True, autoincrement=True),
    Column("post_id", String(100), nullable=False),
    Column("step", String(32), nullable=False),
    Column("started_at", String(32), nullable=False),
    Column("ended_at", String(32)),
    Column("outcome", String(16), nullable=False),
    Column("http", Integer),
    Column("code", String(64)),
    Column("subcode", String(64)),
    Column("trace", String(200)),
    Column("detail", Text, nullable=False),
    Index("ix_attempts_post", "post_id", "id"),
)

outbox = Table(
    "outbox",
    metadata,
    Column("id", _Seq, primary_key=True, autoincrement=True),
    Column("post_id", String(100)),
    Column("character_id", String(100)),
    Column("platform", String(32), nullable=False),
    Column("method", String(16), nullable=False),
    Column("url", Text, nullable=False),
    Column("headers", _Json, nullable=False),
    Column("body", _Json),
    Column("at", String(32), nullable=False),
    Index("ix_outbox_post", "post_id", "id"),
    Index("ix_outbox_at", "at"),
)

platform_accounts = Table(
    "platform_accounts",
    metadata,
    Column("character_id", String(100), primary_key=True),
    Column("platform", String(32), primary_key=True),
    Column("username", Text),
    Column("account_type", String(64)),
    Column("checked_at", String(32)),
    Column("check_ok", Boolean),
    Column("check_detail", Text),
    Column("check_remedy", Text),
    Column("quota_used", Integer),
    Column("quota_total", Integer),
    Column("quota_at", String(32)),
    Column("token_issued_at", String(32)),
    Column("token_expires_at", String(32)),
    Column("token_fingerprint", String(64)),
    Column("last_success_at", String(32)),
    Column("last_error_at", String(32)),
    Column("last_error", Text),
    Column("breaker_reason", Text),
    Column("breaker_code", String(64)),
    Column("breaker_since", String(32)),
    Column("breaker_until", String(32)),
    Column("failures", Integer, nullable=False),
    Column("paused", Boolean, nullable=False),
    Column("extra", _Json, nullable=False),
    Column("updated_at", String(32), nullable=False),
)

# ---------------------------------------------------------------- the scheduler

runs = Table(
    "runs",
    metadata,
    Column("seq", _Seq, primary_key=True, autoincrement=True),
    Column("id", String(100), nullable=False, unique=True),
    Column("task_id", String(100), nullable=False),
    Column("character_id", String(100)),
    Column("type", String(32), nullable=False),
    Column("trigger", String(16), nullable=False),
    Column("slot", String(100), nullable=False),
    Column("status", String(16), nullable=False),
    Column("dry_run", Boolean, nullable=False),
    Column("late_seconds", Float),
    Column("steps", _Json, nullable=False),
    Column("result", _Json),
    Column("error", _Json),
    Column("reason", Text),
    Column("job_id", String(100)),
    Column("media_ids", _Json, nullable=False),
    Column("post_ids", _Json, nullable=False),
    Column("created_at", String(32), nullable=False),
    Column("started_at", String(32)),
    Column("finished_at", String(32)),
    Index("uq_runs_slot", "task_id", "slot", unique=True),
    Index("ix_runs_newest", "created_at", "seq"),
    Index("ix_runs_task", "task_id", "created_at", "seq"),
    Index("ix_runs_status", "status", "created_at"),
)

schedule_state = Table(
    "schedule_state",
    metadata,
    Column("task_id", String(100), primary_key=True),
    Column("fingerprint", String(64), nullable=False),
    Column("next_due", String(32)),
    Column("last_slot", String(100)),
    Column("last_run_id", String(100)),
    Column("last_run_at", String(32)),
    Column("last_status", String(16)),
    Column("data", _Json, nullable=False),
    Column("updated_at", String(32), nullable=False),
    Index("ix_schedule_due", "next_due"),
)

# Who may do what only one may do at a time ("scheduler", "publisher"), and one row of switches.
leases = Table(
    "leases",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("owner", Text, nullable=False),
    Column("until", String(32), nullable=False),
    Column("heartbeat_at", String(32), nullable=False),
)

switches = Table(
    "switches",
    metadata,
    Column("name", String(64), primary_key=True),  # "paused"
    Column("value", _Json),
    Column("updated_at", String(32), nullable=False),
)

# ---------------------------------------------------------------- telling people and programs

notifications = Table(
    "notifications",
    metadata,
    Column("seq", _Seq, primary_key=True, autoincrement=True),
    Column("id", String(100), nullable=False, unique=True),
    Column("level", String(16), nullable=False),
    Column("kind", String(64), nullable=False),
    Column("title", Text, nullable=False),
    Column("detail", Text, nullable=False),
    Column("href", Text),
    Column("action", Text),
    Column("character_id", String(100)),
    Column("key", String(200), unique=True),
    Column("created_at", String(32), nullable=False),
    Column("read_at", String(32)),
    Index("ix_notifications_newest", "created_at", "seq"),
)

webhooks = Table(
    "webhooks",
    metadata,
    Column("id", String(100), primary_key=True),
    Column("url", Text, nullable=False),
    Column("events", _Json, nullable=False),
    Column("active", Boolean, nullable=False),
    Column("description", Text, nullable=False),
    Column("created_at", String(32), nullable=False),
    Column("updated_at", String(32), nullable=False),
)

webhook_deliveries = Table(
    "webhook_deliveries",
    metadata,
    Column("seq", _Seq, primary_key=True, autoincrement=True),
    Column("id", String(100), nullable=False, unique=True),
    Column("webhook_id", String(100), ForeignKey("webhooks.id", ondelete="CASCADE"), nullable=False),
    Column("event", String(64), nullable=False),
    Column("body", _Json, nullable=False),
    Column("status", String(16), nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("next_try_at", String(32)),
    Column("response_code", Integer),
    Column("detail", Text, nullable=False),
    Column("created_at", String(32), nullable=False),
    Column("updated_at", String(32), nullable=False),
    Index("ix_deliveries_due", "status", "next_try_at"),
    Index("ix_deliveries_webhook", "webhook_id", "created_at", "seq"),
)

# ---------------------------------------------------------------- datasets

datasets = Table(
    "datasets",
    metadata,
    Column("seq", _Seq, primary_key=True, autoincrement=True),
    Column("id", String(100), nullable=False, unique=True),
    Column("name", Text, nullable=False),
    Column("description", Text, nullable=False),
    Column("character_id", String(100)),
    Column("trigger_word", Text, nullable=False),
    Column("source_path", Text, nullable=False),
    Column("revision", BigInteger, nullable=False),
    Column("created_at", String(32), nullable=False),
    Column("updated_at", String(32), nullable=False),
    Column("trashed_at", String(32)),
    Index("ix_datasets_newest", "created_at", "seq"),
)

# `folder`, `short_side` and `caption_words` are computed from the others, for filters and statistics in SQL.
images = Table(
    "images",
    metadata,
    Column("seq", _Seq, primary_key=True, autoincrement=True),
    Column("id", String(100), nullable=False, unique=True),
    Column("dataset_id", String(100), ForeignKey("datasets.id", ondelete="CASCADE"), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("parent_id", String(100)),
    Column("operation", String(32)),
    Column("filename", Text, nullable=False),
    Column("filename_key", Text, nullable=False),  # NFC, case folded: no two files differ by case only
    Column("folder", Text, nullable=False),
    Column("path", Text, nullable=False),
    Column("mime", String(100), nullable=False),
    Column("format", String(16), nullable=False),
    Column("width", Integer, nullable=False),
    Column("height", Integer, nullable=False),
    Column("short_side", Integer, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("pixel_sha256", String(64), nullable=False),
    Column("caption", Text, nullable=False),
    Column("caption_source", String(16), nullable=False),
    Column("caption_locked", Boolean, nullable=False),
    Column("caption_words", Integer, nullable=False),
    Column("repeats", Integer, nullable=False),
    Column("concept", Text, nullable=False),
    Column("regularization", Boolean, nullable=False),
    Column("excluded", Boolean, nullable=False),
    Column("created_at", String(32), nullable=False),
    Column("updated_at", String(32), nullable=False),
    Column("trashed_at", String(32)),
    Index("uq_images_filename", "dataset_id", "kind", "filename_key", unique=True),
    Index("ix_images_order", "dataset_id", "trashed_at", "filename_key", "seq"),
    Index("ix_images_newest", "dataset_id", "trashed_at", "created_at", "seq"),
    Index("ix_images_sha256", "dataset_id", "sha256"),
    Index("ix_images_parent", "parent_id"),
)

# What was measured of a picture. `number` repeats a value that is one, for ranges and means in SQL.
image_metadata = Table(
    "image_metadata",
    metadata,
    Column("image_seq", _Seq, ForeignKey("images.seq", ondelete="CASCADE"), primary_key=True, autoincrement=False),
    Column("metadata_key", String(64), primary_key=True),
    Column("metadata_value", _Json),
    Column("number", Float),
    Index("ix_image_metadata_key", "metadata_key", "number", "image_seq"),
)

# The comma-separated parts of the current caption, for counting; `tag_key` is the tag in lower case.
image_tags = Table(
    "image_tags",
    metadata,
    Column("image_seq", _Seq, ForeignKey("images.seq", ondelete="CASCADE"), primary_key=True, autoincrement=False),
    Column("position", Integer, primary_key=True, autoincrement=False),
    Column("tag", Text, nullable=False),
    Column("tag_key", Text, nullable=False),
    Index("ix_image_tags_key", "tag_key", "image_seq"),
)

captions = Table(
    "captions",
    metadata,
    Column("id", _Seq, primary_key=True, autoincrement=True),
    Column("image_seq", _Seq, ForeignKey("images.seq", ondelete="CASCADE"), nullable=False),
    Column("dataset_id", String(100), nullable=False),
    Column("caption_text", Text, nullable=False),
    Column("source", String(16), nullable=False),
    Column("model_used", Text),
    Column("batch_id", String(100)),
    Column("locked", Boolean, nullable=False),
    Column("created_at", String(32), nullable=False),
    Index("ix_captions_image", "image_seq", "id"),
    Index("ix_captions_batch", "dataset_id", "batch_id", "id"),
)

image_pairs = Table(
    "image_pairs",
    metadata,
    Column("dataset_id", String(100), ForeignKey("datasets.id", ondelete="CASCADE"), primary_key=True),
    Column("first_id", String(100), primary_key=True),
    Column("second_id", String(100), primary_key=True),
    Column("verdict", String(16), nullable=False),
    Column("created_at", String(32), nullable=False),
)

dataset_versions = Table(
    "dataset_versions",
    metadata,
    Column("dataset_id", String(100), ForeignKey("datasets.id", ondelete="CASCADE"), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("note", Text, nullable=False),
    Column("revision", BigInteger, nullable=False),
    Column("images", Integer, nullable=False),
    Column("added", Integer, nullable=False),
    Column("removed", Integer, nullable=False),
    Column("recaptioned", Integer, nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("entries", _Json, nullable=False),
    Column("created_at", String(32), nullable=False),
)

dataset_exports = Table(
    "dataset_exports",
    metadata,
    Column("id", String(100), primary_key=True),
    Column("dataset_id", String(100), ForeignKey("datasets.id", ondelete="CASCADE"), nullable=False),
    Column("number", Integer, nullable=False),
    Column("version", Integer, nullable=False),
    Column("format", String(32), nullable=False),
    Column("options", _Json, nullable=False),
    Column("filename", Text, nullable=False),
    Column("path", Text, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("images", Integer, nullable=False),
    Column("task_id", String(100)),
    Column("created_at", String(32), nullable=False),
    Index("uq_dataset_exports_number", "dataset_id", "number", unique=True),
)

import dalla.stores.schema_shelf  # noqa: E402, F401  its tables belong to the same metadata
import dalla.stores.schema_users  # noqa: E402, F401  its tables belong to the same metadata
