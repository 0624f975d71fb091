"""Who a character is. Its face (references, embeddings) is the persona, kept elsewhere."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from dalla.records.base import Record

#: Fields that hold credentials. Files keep a reference (`secret:…` or `env:NAME`), the API a mask.
SECRET_FIELDS = (
    "instagram_api_key",
    "twitter_app_key",
    "twitter_app_secret",
    "twitter_access_token",
    "twitter_access_secret",
)


class PromptSettings(Record):
    """What every picture of the character is prompted with."""

    base_prompt: str | None = None
    negative_prompt: str | None = None
    style: str | None = None
    mood: str | None = None


class Narrative(Record):
    """A story arc; while today lies between its dates it colours prompts and captions."""

    id: str
    title: str | None = None
    description: str | None = None
    start_date: str | None = None
    end_date: str | None = None


class LoraUse(Record):
    """A LoRA by name and the strength it is applied with (1.0 = as trained)."""

    name: str
    strength: float = 1.0


class Character(Record):
    """One AI persona: profile, prompt settings, stories, accounts."""

    id: str
    name: str
    personality: str | None = None
    backstory: str | None = None
    instagram_handle: str | None = None
    twitter_handle: str | None = None
    is_active: bool = True
    created_at: str | None = None
    updated_at: str | None = None
    preferred_model: str | None = None
    trigger_word: str | None = None
    prompt_settings: PromptSettings | None = None
    narratives: list[Narrative] = Field(default_factory=list)
    instagram_account_id: str | None = None
    instagram_api_key: str | None = None
    twitter_account_id: str | None = None
    twitter_app_key: str | None = None
    twitter_app_secret: str | None = None
    twitter_access_token: str | None = None
    twitter_access_secret: str | None = None
    timezone: str | None = None
    loras: list[LoraUse] = Field(default_factory=list)
    avatar_media_id: str | None = None
    dry_run: bool = False  # posts of this character are only rehearsed


class TrashedCharacter(Character):
    """A deleted character, kept in `data/trash/characters.json` until it is purged."""

    deleted_at: str | None = None


class Prompt(Record):
    """One entry of the prompt library (`data/prompts.json`)."""

    id: str
    character_id: str | None = None
    character_name: str | None = None
    prompt: str = ""
    caption: str | None = None
    created_at: str | None = None
    updated_at: str | None = None
    used: bool = False
    used_at: str | None = None
    used_in: list[dict[str, Any]] = Field(default_factory=list)  # {"type": "media"|"post"|"run", "id", "at"}
    source: str = "manual"  # manual | ideas | import | task
    captions: list[dict[str, Any]] = Field(default_factory=list)  # older versions, newest last


class ScheduledTask(Record):
    """One cron rule (`data/scheduler.json`). A running piece of work is a Job, not this."""

    id: str
    character_id: str | None = None
    type: str = "generate_and_post"
    schedule: str = ""
    active: bool = True
    config: dict[str, Any] = Field(default_factory=dict)
    timezone: str | None = None
    missed_run_policy: str = "skip"
    dry_run: bool = False
    created_at: str | None = None
    updated_at: str | None = None
