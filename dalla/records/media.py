"""A picture or video we keep, how it was made, and the collections it is sorted into."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from dalla.records.base import Record


class LoraRecipe(Record):
    """A LoRA as it was used: the hash tells later whether the file is still the same."""

    name: str
    strength: float = 1.0
    sha256: str | None = None


class Recipe(Record):
    """Everything that is needed to make a picture again. Also embedded in the PNG.

    `seed` is as used, never -1, and this picture's own: each picture of a batch can be made again alone.
    """

    prompt: str = ""
    negative_prompt: str | None = None
    user_prompt: str | None = None  # what was typed, before the character was composed in
    seed: int | None = None
    steps: int | None = None
    cfg_scale: float | None = None
    guidance: float | None = None
    sampler: str | None = None
    scheduler: str | None = None
    denoise: float | None = None
    width: int | None = None
    height: int | None = None
    model: str | None = None
    model_sha256: str | None = None
    family: str | None = None
    loras: list[LoraRecipe] = Field(default_factory=list)
    character_id: str | None = None
    character_name: str | None = None
    engine: str | None = None
    engine_versions: dict[str, str] = Field(default_factory=dict)
    device: str | None = None
    precision: str | None = None
    init_image_media_id: str | None = None
    operation: str = "generate"
    created_at: str | None = None
    app_version: str | None = None


class MediaItem(Record):
    """One file in the library."""

    id: str
    type: Literal["image", "video"] = "image"
    origin: Literal["generated", "imported", "upscaled", "edited"] = "generated"
    character_id: str | None = None
    task_id: str | None = None
    parent_id: str | None = None  # what it was made from
    path: str  # key in the blob store, relative to data/
    mime: str = "image/png"
    width: int = 0
    height: int = 0
    size_bytes: int = 0
    sha256: str = ""
    prompt: str = ""
    negative_prompt: str | None = None
    model: str | None = None
    family: str | None = None
    engine: str | None = None
    loras: list[str] = Field(default_factory=list)
    recipe: dict[str, Any] | None = None  # Recipe as camelCase JSON
    caption: str | None = None
    alt_text: str | None = None
    starred: bool = False
    posted: bool = False
    created_at: str = ""
    updated_at: str = ""
    trashed_at: str | None = None


class MediaFilter(Record):
    """Which media a list wants. Unset fields do not restrict; all set fields must match."""

    character_id: str | None = None
    type: str | None = None
    model: str | None = None
    lora: str | None = None
    models: list[str] | None = None  # any of them
    loras: list[str] | None = None  # any of them
    engine: str | None = None
    words: list[str] = Field(default_factory=list)  # each must occur in the prompt (case-insensitive)
    not_words: list[str] = Field(default_factory=list)
    starred: bool | None = None
    posted: bool | None = None
    collection_id: str | None = None
    task_id: str | None = None
    after: str | None = None  # created_at >= after
    before: str | None = None  # created_at <= before
    trashed: bool = False
    ids: list[str] | None = None


class Collection(Record):
    """A named set of media, in the order they were added."""

    id: str
    name: str
    count: int = 0
    cover_media_id: str | None = None
    created_at: str = ""
    updated_at: str = ""
