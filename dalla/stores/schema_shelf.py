"""The tables of the model shelf. Part of the schema: they hang on its metadata."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, Integer, String, Table, Text

from dalla.stores.schema import _Json, _Seq, metadata

# `id` names a place (see services/model_inventory.py); `stamp` says which state of its files the hash is of.
model_facts = Table(
    "model_facts",
    metadata,
    Column("id", String(100), primary_key=True),
    Column("stamp", String(64), nullable=False),
    Column("sha256", String(64)),
    Column("license", Text),
    Column("notes", Text, nullable=False),
    Column("updated_at", String(32), nullable=False),
)

model_pins = Table(
    "model_pins",
    metadata,
    Column("character_id", String(100), primary_key=True),
    Column("state", _Json, nullable=False),
    Column("actor", Text, nullable=False),
    Column("at", String(32), nullable=False),
)

model_changes = Table(
    "model_changes",
    metadata,
    Column("seq", _Seq, primary_key=True, autoincrement=True),
    Column("id", String(100), nullable=False, unique=True),
    Column("character_id", String(100), nullable=False),
    Column("kinds", _Json, nullable=False),
    Column("by", String(16), nullable=False),
    Column("actor", Text, nullable=False),
    Column("before", _Json),
    Column("after", _Json, nullable=False),
    Column("note", Text, nullable=False),
    Column("at", String(32), nullable=False),
    Index("ix_model_changes_character", "character_id", "seq"),
)

# The most memory one drawing took, per model and size: of the graphics card, or of the process on the processor.
model_peaks = Table(
    "model_peaks",
    metadata,
    Column("model", String(500), primary_key=True),
    Column("device", String(200), primary_key=True),
    Column("precision", String(16), primary_key=True),
    Column("width", Integer, primary_key=True, autoincrement=False),
    Column("height", Integer, primary_key=True, autoincrement=False),
    Column("peak_bytes", BigInteger, nullable=False),
    Column("stamp", String(64), nullable=False),
    Column("loras", Integer, nullable=False),
    Column("extra", _Json, nullable=False),
    Column("at", String(32), nullable=False),
)
