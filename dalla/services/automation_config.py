"""What the `config` of a scheduled task may hold, checked by field; and reading it with defaults.

Keys we do not know survive and are ignored. `null` counts as not said.
"""

from __future__ import annotations

import hashlib
from typing import Any

from dalla.errors import InvalidInput
from dalla.records.character import LoraUse, ScheduledTask
from dalla.records.post import PostOptions

Errors = list[dict[str, str]]

GENERATES = frozenset({"generate_and_post", "generate_only"})
POSTS = frozenset({"generate_and_post", "post_existing"})
PLATFORM_SWITCHES = {"instagram": "postToInstagram", "twitter": "postToTwitter"}

_CHOICES: dict[str, tuple[str, ...]] = {
    "promptSource": ("fixed", "library", "base"),
    "promptRule": ("unused", "random", "oldest"),
    "promptEmpty": ("skip", "fixed", "ideas"),
    "kind": ("single", "carousel", "story"),
    "mediaRule": ("newest_unposted", "queue", "random_unposted"),
    "mediaEmpty": ("generate", "skip", "alert"),
    "approval": ("automatic", "required"),
}
_SWITCHES = ("postToInstagram", "postToTwitter", "generateCaption", "includeMedia")
_TEXTS: dict[str, int] = {
    "prompt": 10_000,
    "negativePrompt": 10_000,
    "caption": 10_000,
    "captionTone": 200,
    "captionLanguage": 100,
    "collectionId": 100,
    "model": 300,
    "engine": 100,
}
_NUMBERS: dict[str, tuple[int, int]] = {
    "width": (16, 4096),
    "height": (16, 4096),
    "steps": (1, 200),
    "batchSize": (1, 16),
    "keep": (1, 1000),
}
MAX_JITTER = 720


def check(type: str, config: Any) -> Errors:
    """Return what is wrong with a config, fields named `config.<key>`; an empty list when nothing is."""
    if not isinstance(config, dict):
        return [{"field": "config", "message": "This must be a JSON object."}]
    errors: Errors = []

    def refuse(key: str, message: str) -> None:
        errors.append({"field": f"config.{key}", "message": message})

    for key, choices in _CHOICES.items():
        value = config.get(key)
        if value is not None and value not in choices:
            refuse(key, f"Use one of {', '.join(choices)}.")
    for key in _SWITCHES:
        if not isinstance(config.get(key), bool | None):
            refuse(key, "This must be true or false.")
    for key, longest in _TEXTS.items():
        value = config.get(key)
        if not isinstance(value, str | None):
            refuse(key, "This must be text.")
        elif len(value or "") > longest:
            refuse(key, f"At most {longest} characters.")
    for key, (low, high) in _NUMBERS.items():
        value = config.get(key)
        if value is not None and (type_of(value) is not int or not low <= value <= high):
            refuse(key, f"Use a whole number from {low} to {high}.")
    jitter = config.get("jitterMinutes")
    if jitter is not None and (type_of(jitter) not in (int, float) or not 0 <= jitter <= MAX_JITTER):
        refuse("jitterMinutes", f"Use a number of minutes from 0 to {MAX_JITTER}.")
    _check_hashtags(config.get("hashtags"), refuse)
    _check_loras(config.get("loras"), refuse)
    _check_options(config.get("options"), refuse)
    if errors:
        return errors
    if type in POSTS and not platforms_of(config):
        refuse("postToInstagram", "Choose at least one platform to post to (postToInstagram, postToTwitter).")
    if type in GENERATES and prompt_source(config) == "fixed" and not (config.get("prompt") or "").strip():
        refuse("prompt", "Write the prompt, or take it from the library.")
    return errors


def _check_hashtags(value: Any, refuse: Any) -> None:
    if value is None:
        return
    if not isinstance(value, list) or not all(isinstance(tag, str) for tag in value):
        refuse("hashtags", "This must be a list of words.")
    elif len(value) > 30:
        refuse("hashtags", "At most 30 hashtags.")
    elif any(not tag.strip().lstrip("#") or any(c.isspace() for c in tag.strip()) for tag in value):
        refuse("hashtags", "A hashtag is one word without spaces.")


def _check_loras(value: Any, refuse: Any) -> None:
    if value is None:
        return
    if not isinstance(value, list) or len(value) > 50:
        refuse("loras", "This must be a list of at most 50.")
        return
    for i, use in enumerate(value):
        if not isinstance(use, dict) or not isinstance(use.get("name"), str) or not use["name"]:
            refuse(f"loras.{i}.name", "Name the LoRA.")
        elif type_of(use.get("strength", 1.0)) not in (int, float) or not -10 <= use.get("strength", 1.0) <= 10:
            refuse(f"loras.{i}.strength", "Use a strength between -10 and 10.")


def _check_options(value: Any, refuse: Any) -> None:
    if value is None:
        return
    if not isinstance(value, dict):
        refuse("options", "This must be a JSON object.")
        return
    choices = {"fit": ("pad", "crop"), "background": ("blur", "white", "black")}
    for key, allowed in choices.items():
        if value.get(key) is not None and value[key] not in allowed:
            refuse(f"options.{key}", f"Use one of {', '.join(allowed)}.")
    if not isinstance(value.get("ratio"), str | None):
        refuse("options.ratio", 'Use a ratio such as "4:5".')
    elif value.get("ratio"):
        from dalla.framing import parse_ratio

        try:
            parse_ratio(value["ratio"])
        except InvalidInput:
            refuse("options.ratio", 'Use a ratio such as "4:5".')
    if not isinstance(value.get("madeWithAi"), bool | None):
        refuse("options.madeWithAi", "This must be true or false.")
    focus = value.get("focus")
    if focus is not None and not (
        isinstance(focus, list) and len(focus) == 2 and all(type_of(v) in (int, float) and 0 <= v <= 1 for v in focus)
    ):
        refuse("options.focus", "Use two numbers from 0 to 1.")


def type_of(value: Any) -> type:
    """`type`, under a name that no field takes."""
    return value.__class__


# ---------------------------------------------------------------- reading


def platforms_of(config: dict[str, Any]) -> list[str]:
    """Return the platforms a task posts to, in the order of the app."""
    return [name for name, key in PLATFORM_SWITCHES.items() if config.get(key) is True]


def prompt_source(config: dict[str, Any]) -> str:
    """Return where the prompt comes from: as said, else the fixed one when there is one, else the character alone."""
    said = config.get("promptSource")
    if said:
        return str(said)
    return "fixed" if (config.get("prompt") or "").strip() else "base"


def options_of(config: dict[str, Any]) -> PostOptions:
    """Return how pictures are fitted; unknown keys are left out."""
    values = {k: v for k, v in (config.get("options") or {}).items() if v is not None}
    known = {"fit", "ratio", "background", "focus", "madeWithAi"}
    return PostOptions.model_validate({k: v for k, v in values.items() if k in known})


def loras_of(config: dict[str, Any]) -> list[LoraUse] | None:
    """Return the LoRAs to use instead of the character's own; None: its own."""
    value = config.get("loras")
    return None if value is None else [LoraUse(name=use["name"], strength=use.get("strength", 1.0)) for use in value]


def hashtags_of(config: dict[str, Any]) -> list[str]:
    """Return the tags with their '#', each once."""
    tags = ["#" + tag.strip().lstrip("#") for tag in config.get("hashtags") or []]
    return list(dict.fromkeys(tags))


def jitter_seconds(task_id: str, slot: str, config: dict[str, Any]) -> int:
    """Return how many seconds after its slot the post goes out: the same for the same slot, whoever asks."""
    most = int(float(config.get("jitterMinutes") or 0) * 60)
    return stable_number(f"{task_id}\0{slot}\0jitter", most + 1) if most > 0 else 0


def stable_number(text: str, below: int) -> int:
    """Return a number from 0 to `below` - 1 that depends on the text only."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") % below


def name_of(task: ScheduledTask) -> str | None:
    """Return the name a person gave the task; the record keeps it as it stands in the file."""
    name = getattr(task, "name", None)
    return name.strip() or None if isinstance(name, str) else None
