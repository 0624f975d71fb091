"""Captions as text: tags, variables, whole words, and tidying what a removal leaves behind."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath

_GAPS = re.compile(r"[ \t]{2,}")
_COMMAS = re.compile(r"\s*,(?:\s*,)+")
_BEFORE_COMMA = re.compile(r"[ \t]+,")


@dataclass(frozen=True)
class Item:
    """The picture a caption belongs to: what the variables {name} and {folder} stand for."""

    image_id: str
    filename: str


def tags_of(text: str) -> list[str]:
    """Return the comma-separated parts, as they stand."""
    return [part.strip() for part in text.split(",") if part.strip()]


def tag_key(tag: str) -> str:
    """Return what makes two tags the same: spelling without case and spare spaces."""
    return " ".join(tag.split()).casefold()


def fill(template: str, item: Item, text: str, trigger: str) -> str:
    """Put the values into {trigger}, {tags}, {name} (file name without ending) and {folder}."""
    if "{" not in template:
        return template
    path = PurePosixPath(item.filename)
    folder = path.parent.name
    values = {"trigger": trigger, "tags": ", ".join(tags_of(text)), "name": path.stem, "folder": folder}
    return re.sub(r"\{(trigger|tags|name|folder)\}", lambda match: values[match[1]], template)


def contains(text: str, phrase: str) -> bool:
    """Whether the phrase stands in the text as whole words, in any case."""
    words = phrase.strip()
    return bool(words) and re.search(rf"(?<!\w){re.escape(words)}(?!\w)", text, re.IGNORECASE) is not None


def join(first: str, second: str, separator: str = ", ") -> str:
    """Put two texts together; nothing is added around an empty one."""
    if not first.strip() or not second.strip():
        return first if first.strip() else second
    if separator.strip() and first.rstrip().endswith(separator.strip()):
        return first.rstrip() + separator[len(separator.rstrip()) :] + second
    return first + separator + second


def tidy(text: str) -> str:
    """Take out what a removal leaves behind: doubled spaces and commas, and commas at the ends."""
    text = _COMMAS.sub(",", text)
    text = _GAPS.sub(" ", text)
    return _BEFORE_COMMA.sub(",", text).strip(" ,\t\n\r")


def with_trigger(text: str, trigger: str) -> str:
    """Return the text with the trigger word at its front, unless it stands in it already."""
    return text if not trigger.strip() or contains(text, trigger) else join(trigger.strip(), text)
