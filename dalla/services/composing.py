"""The prompt of a character: its words, base prompt, style, mood and story around what was asked for."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date

from dalla.records.character import Character
from dalla.services.characters import active_narratives
from dalla.training_set import has_word


@dataclass
class Composed:
    """The prompt as it goes to the engine, and where each part came from."""

    prompt: str
    negative_prompt: str
    parts: list[dict[str, str]] = field(default_factory=list)


def compose(
    character: Character | None, prompt: str, negative: str | None, today: date, lora_words: Sequence[str] = ()
) -> Composed:
    """Compose: trigger word (once), base prompt, the given prompt, style, mood, the narrative active today.

    Words of the character's LoRAs that are nowhere in it come first, after the trigger word.
    A negative prompt that is given is added to the character's; parts that say the same are said once.
    """
    parts: list[dict[str, str]] = []

    def add(source: str, text: str | None) -> None:
        text = (text or "").strip().strip(",").strip()
        if text and text.lower() not in (p["text"].lower() for p in parts):
            parts.append({"source": source, "text": text})

    if character is None:
        add("prompt", prompt)
        return Composed(prompt.strip(), (negative or "").strip(), parts)
    settings = character.prompt_settings
    add("basePrompt", settings.base_prompt if settings else None)
    add("prompt", prompt)
    add("style", settings.style if settings else None)
    add("mood", settings.mood if settings else None)
    for narrative in active_narratives(character, today):
        add("narrative", narrative.description or narrative.title)
    trigger = (character.trigger_word or "").strip()
    if trigger:
        word = re.compile(rf"(?<!\w){re.escape(trigger)}(?!\w)", re.IGNORECASE)
        seen = False
        for part in parts:
            part["text"], seen = _once(word, part["text"], seen)
        parts = [part for part in parts if part["text"]]
        if not seen:
            parts.insert(0, {"source": "triggerWord", "text": trigger})
    place = 1 if parts and parts[0]["source"] == "triggerWord" else 0
    for word_of_lora in lora_words:
        if not any(has_word(part["text"], word_of_lora) for part in parts):
            parts.insert(place, {"source": "loraWord", "text": word_of_lora})
            place += 1
    negatives: list[str] = []
    for text in (settings.negative_prompt if settings else None, negative):
        text = (text or "").strip().strip(",").strip()
        if text and text.lower() not in (n.lower() for n in negatives):
            negatives.append(text)
    return Composed(", ".join(part["text"] for part in parts), ", ".join(negatives), parts)


def _once(word: re.Pattern[str], text: str, seen: bool) -> tuple[str, bool]:
    """Drop every occurrence of the word but the very first; tidy the commas and spaces that leaves."""

    def drop(match: re.Match[str]) -> str:
        nonlocal seen
        if seen:
            return ""
        seen = True
        return match[0]

    kept = word.sub(drop, text)
    if kept != text:
        kept = re.sub(r"\s{2,}", " ", re.sub(r"(,\s*){2,}", ", ", kept)).strip(" ,")
    return kept, seen
