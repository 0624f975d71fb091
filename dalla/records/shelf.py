"""What is remembered about weights and about the models of a character: facts of files, pins, changes, measured peaks."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from dalla.records.base import Record

#: What a change touched. "start": the first state that was seen; "pin" and "unpin" change no picture.
ChangeKind = Literal["start", "model", "loras", "strength", "trigger", "weights", "pin", "unpin"]


class FileFacts(Record):
    """What is known of one thing on the shelf. `stamp` says which state of its files the hash belongs to."""

    id: str
    stamp: str = ""
    sha256: str | None = None
    license: str | None = None  # as a person wrote it; None: what the file says counts
    notes: str = ""
    updated_at: str = ""


class UsedWeights(Record):
    """A model or LoRA as a character used it at a moment. `strength` is None for a model."""

    name: str
    strength: float | None = None
    source: str | None = None  # "local" | "comfyui"; None: it was not there
    size_bytes: int | None = None
    stamp: str | None = None
    sha256: str | None = None


class ModelState(Record):
    """Everything about the models of a character that shapes its pictures."""

    model: UsedWeights | None = None  # None: the default of the engine
    loras: list[UsedWeights] = Field(default_factory=list)
    trigger_word: str | None = None


class ModelPin(Record):
    """The state a character is held to. `actor` is who pinned it ("" for the only person there is)."""

    character_id: str
    state: ModelState
    actor: str = ""
    at: str = ""


class ModelChange(Record):
    """One entry of the change log. `kinds` names what is different between `before` and `after`."""

    id: str
    character_id: str
    kinds: list[ChangeKind]
    by: Literal["person", "system"]
    actor: str = ""  # the person's name, where there are accounts
    before: ModelState | None = None
    after: ModelState
    note: str = ""
    at: str = ""


class Peak(Record):
    """The most memory one drawing took in bytes: of the graphics card (device cuda, mps) or of the process (cpu)."""

    model: str
    device: str
    precision: str
    width: int
    height: int
    peak_bytes: int
    stamp: str = ""
    loras: int = 0
    at: str = ""
    extra: dict[str, Any] = Field(default_factory=dict)
