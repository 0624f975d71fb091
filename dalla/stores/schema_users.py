"""The tables of people, their sessions and API tokens, and failed attempts to sign in."""

from __future__ import annotations

from sqlalchemy import JSON, Boolean, Column, ForeignKey, Index, Integer, String, Table, Text

from dalla.stores.schema import metadata

users = Table(
    "users",
    metadata,
    Column("id", String(100), primary_key=True),
    Column("name", Text, nullable=False),
    Column("name_key", Text, nullable=False, unique=True),  # no two names differ by case only
    Column("display_name", Text, nullable=False),
    Column("role", String(16), nullable=False),
    Column("password", Text, nullable=False),
    Column("disabled", Boolean, nullable=False),
    Column("created_at", String(32), nullable=False),
    Column("updated_at", String(32), nullable=False),
    Column("last_login_at", String(32)),
    Column("password_changed_at", String(32)),
)

user_sessions = Table(
    "user_sessions",
    metadata,
    Column("id", String(100), primary_key=True),
    Column("user_id", String(100), ForeignKey("users.id", ondelete="CASCADE"), nullable=False),
    Column("hash", String(64), nullable=False, unique=True),
    Column("created_at", String(32), nullable=False),
    Column("last_seen_at", String(32), nullable=False),
    Column("expires_at", String(32), nullable=False),
    Column("idle_seconds", Integer, nullable=False),
    Column("remember", Boolean, nullable=False),
    Column("user_agent", Text, nullable=False),
    Column("address", Text, nullable=False),
    Index("ix_user_sessions_user", "user_id", "last_seen_at"),
)

api_tokens = Table(
    "api_tokens",
    metadata,
    Column("id", String(100), primary_key=True),
    Column("user_id", String(100), ForeignKey("users.id", ondelete="CASCADE"), nullable=False),
    Column("name", Text, nullable=False),
    Column("hash", String(64), nullable=False, unique=True),
    Column("prefix", String(16), nullable=False),
    Column("scopes", JSON(none_as_null=True), nullable=False),
    Column("created_at", String(32), nullable=False),
    Column("expires_at", String(32)),
    Column("last_used_at", String(32)),
    Index("uq_api_tokens_name", "user_id", "name", unique=True),
)

# `key` is the hash of a name, or an address; nothing that somebody typed in stands here.
login_attempts = Table(
    "login_attempts",
    metadata,
    Column("key", String(100), primary_key=True),
    Column("attempts", Integer, nullable=False),
    Column("last_at", String(32), nullable=False),
    Column("closed_until", String(32)),
    Index("ix_login_attempts_last", "last_at"),
)
