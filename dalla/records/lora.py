"""A LoRA on the shelf, and what the dashboard remembers about a training run. No torch, no files."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from dalla.records.base import Record

#: How a run of the trainer ended.
EndKind = Literal[
    "done", "cancelled", "bad_input", "out_of_memory", "disk_full", "non_finite", "verification", "killed", "silent", "failed"
]  # fmt: skip

#: What is kept of a run that somebody stops: a LoRA made of its newest checkpoint, its checkpoints, or nothing.
Keep = Literal["lora", "checkpoints", "nothing"]


class Ended(Record):
    """The end of one run of the trainer. `detail` and `remedy` are sentences for the person."""

    kind: EndKind
    detail: str = ""
    remedy: str | None = None
    code: str | None = None  # the trainer's own word for an error
    exit_code: int | None = None  # None: it was not our child, so nobody could read it
    event: dict[str, Any] = Field(default_factory=dict)  # its last word: `done`, `error`, `cancelled` or nothing
    log_tail: list[str] = Field(default_factory=list)


class RunNote(Record):
    """`run.json` in the folder of a run: what was asked for, and how far the dashboard has dealt with it."""

    task_id: str
    name: str
    character_id: str | None = None
    dataset: str = ""  # folder in training_data/
    base_model: str = ""
    family: str = ""
    created_at: str = ""
    wish: dict[str, Any] = Field(default_factory=dict)  # as the API took it, to be asked for again
    settings: dict[str, Any] = Field(default_factory=dict)  # changed when it was resumed; go before the task's
    intent: Literal["pause", "cancel"] | None = None
    keep: Keep = "checkpoints"
    attempt_offset: int = 0  # bytes of events.jsonl that belong to earlier attempts
    settled: bool = False  # the end of the newest attempt has been dealt with
    lora: str | None = None  # name on the shelf of what came out of it
    ended_kind: str | None = None
    deleted: bool = False  # somebody deleted its files; lists leave it out


class LoraCard(Record):
    """`<name>.json` beside a LoRA: how it was made and what people wrote about it. Unknown keys survive."""

    name: str = ""
    family: str | None = None
    base_model: str | None = None
    trigger_word: str | None = None
    description: str | None = None
    tags: list[str] = Field(default_factory=list)
    strength: float | None = None  # recommended; 1.0 = as trained
    character_id: str | None = None
    task_id: str | None = None
    created_at: str | None = None
    step: int | None = None
    sha256: str | None = None
