"""Edits of captions as pure functions: text in, text out, and in how many places it changed.

A caption is plain text; its tags are the comma-separated parts. An edit touches the parts it means and leaves the
rest as it was written, so that a before/after shows what was asked for and nothing else.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from dalla.errors import InvalidInput
from dalla.services.caption_find import Apply, Options, finder, swap
from dalla.services.caption_text import Item, fill, join, tag_key, tags_of, tidy, with_trigger

MAX_CAPTION = 65_536  # characters
CASES = ("lower", "upper", "sentence", "title")
POSITIONS = ("start", "end", "after_trigger")


@dataclass(frozen=True)
class Edit:
    """A checked edit. `apply(text, item)` returns (new text, places changed); the same input gives the same output."""

    operation: str
    apply: Callable[[str, Item], tuple[str, int]]


def prepare(
    operation: str,
    options: Mapping[str, Any],
    *,
    trigger: str = "",
    frequency: Callable[[], Mapping[str, int]] | None = None,
) -> Edit:
    """Check an edit and make it ready.

    Args:
        operation: one of OPERATIONS.
        options: find, replacement, mode (plain, regex, tag), caseSensitive, text, separator, tag, tags, to, position,
            order (alphabetical, frequency), keepFirst, seed, word, oldWord, remove; each operation reads its own.
        trigger: the dataset's trigger word.
        frequency: how often each tag (lower case) is there, for sorting by it.

    Raises InvalidInput by field; `apply` raises it too, for a pattern that takes too long and for texts that get too long.
    """
    maker = _MAKERS.get(operation)
    if maker is None:
        raise InvalidInput.field("operation", f"Use {', '.join(_MAKERS)}.")
    make = maker(Options(options, trigger, frequency))

    def apply(text: str, item: Item) -> tuple[str, int]:
        after, places = make(text, item)
        if after == text:
            return text, 0
        if len(after) > max(MAX_CAPTION, len(text)):
            raise InvalidInput.field(
                "operation", f"The caption of {item.filename} would get longer than {MAX_CAPTION} characters."
            )
        return after, max(1, places)

    return Edit(operation, apply)


# ---------------------------------------------------------------- operations


def _replace(o: Options) -> Apply:
    return finder(o, o.text("replacement", default="", longest=1000))


def _remove(o: Options) -> Apply:
    inner = finder(o, "")

    def apply(text: str, item: Item) -> tuple[str, int]:
        after, places = inner(text, item)
        return (tidy(after), places) if places else (text, 0)

    return apply


def _prefix(o: Options) -> Apply:
    template, separator = o.needed("text"), o.text("separator", default=", ", longest=20)

    def apply(text: str, item: Item) -> tuple[str, int]:
        words = fill(template, item, text, o.trigger).strip()
        if not words or text.lstrip().casefold().startswith(words.casefold()):
            return text, 0
        return join(words, text, separator), 1

    return apply


def _suffix(o: Options) -> Apply:
    template, separator = o.needed("text"), o.text("separator", default=", ", longest=20)

    def apply(text: str, item: Item) -> tuple[str, int]:
        words = fill(template, item, text, o.trigger).strip()
        if not words or text.rstrip().casefold().endswith(words.casefold()):
            return text, 0
        return join(text.rstrip(), words, separator), 1

    return apply


def _set(o: Options) -> Apply:
    template = o.text("text")

    def apply(text: str, item: Item) -> tuple[str, int]:
        return fill(template, item, text, o.trigger).strip(), 1

    return apply


def _trigger(o: Options) -> Apply:
    """Put the trigger word in front of every caption that lacks it, take it out, or change an old one to it."""
    word = o.text("word", default=o.trigger, longest=200).strip()
    if not word:
        raise InvalidInput.field("word", "The dataset has no trigger word yet; give one.")
    if "," in word:
        raise InvalidInput.field("word", "A trigger word has no comma.")
    old = o.text("oldWord", default="", longest=200).strip()
    gone = re.compile(rf"(?<!\w){re.escape(word)}(?!\w)", re.IGNORECASE)
    former = re.compile(rf"(?<!\w){re.escape(old)}(?!\w)", re.IGNORECASE) if old else None
    if o.flag("remove"):

        def remove(text: str, item: Item) -> tuple[str, int]:
            after, places = gone.subn("", text)
            return (tidy(after), places) if places else (text, 0)

        return remove

    def apply(text: str, item: Item) -> tuple[str, int]:
        after = former.sub(lambda _: word, text) if former else text
        return with_trigger(after, word), 1

    return apply


def _rename_tag(o: Options) -> Apply:
    keys = {tag_key(tag) for tag in o.tags("tag", "tags")}
    new = o.text("to", longest=500).strip()
    if not new:
        raise InvalidInput.field("to", "Give the new name; to delete a tag use remove_tag.")
    change = swap(keys, lambda _: new)

    def apply(text: str, item: Item) -> tuple[str, int]:
        after, places = change(text, item)
        if not places:
            return text, 0
        return _unique(after, only={tag_key(part) for part in tags_of(new)}), places  # it may be there already

    return apply


def _remove_tag(o: Options) -> Apply:
    change = swap({tag_key(tag) for tag in o.tags("tag", "tags")}, lambda _: "")

    def apply(text: str, item: Item) -> tuple[str, int]:
        after, places = change(text, item)
        return (after.strip(" ,"), places) if places else (text, 0)

    return apply


def _add_tag(o: Options) -> Apply:
    tags = o.tags("tag", "tags")
    position = o.choice("position", POSITIONS, "end")

    def apply(text: str, item: Item) -> tuple[str, int]:
        there = {tag_key(tag) for tag in tags_of(text)}
        new = [
            filled
            for tag in tags
            if (filled := fill(tag, item, text, o.trigger).strip()) and tag_key(filled) not in there
        ]
        if not new:
            return text, 0
        words = ", ".join(new)
        if position == "end":
            return join(text.rstrip(), words), len(new)
        first, comma, rest = text.partition(",")
        if position == "after_trigger" and o.trigger and tag_key(first) == tag_key(o.trigger):
            return join(join(first.strip(), words), rest.strip() if comma else ""), len(new)
        return join(words, text.lstrip()), len(new)

    return apply


def _unique(text: str, only: set[str] | None = None) -> str:
    seen: set[str] = set()
    parts = []
    for part in text.split(","):
        key = tag_key(part)
        if key and (only is None or key in only):
            if key in seen:
                continue
            seen.add(key)
        parts.append(part)
    return ",".join(parts)


def _dedupe_tags(o: Options) -> Apply:
    def apply(text: str, item: Item) -> tuple[str, int]:
        after = _unique(text)
        return (after.rstrip(" ,"), text.count(",") - after.count(",")) if after != text else (text, 0)

    return apply


def _ordered(o: Options, order: Callable[[list[str], Item], list[str]]) -> Apply:
    """Give the tags another order. The trigger word in front stays there, and so do the first `keepFirst` tags."""
    keep = o.number("keepFirst", 0, 1000)

    def apply(text: str, item: Item) -> tuple[str, int]:
        tags = tags_of(text)
        stay = max(keep, 1 if tags and o.trigger and tag_key(tags[0]) == tag_key(o.trigger) else 0)
        moved = order(tags[stay:], item)
        return (", ".join([*tags[:stay], *moved]), 1) if moved != tags[stay:] else (text, 0)

    return apply


def _sort_tags(o: Options) -> Apply:
    if o.choice("order", ("alphabetical", "frequency"), "alphabetical") == "alphabetical":
        return _ordered(o, lambda tags, _: sorted(tags, key=tag_key))
    counts = dict(o.frequency()) if o.frequency else {}
    return _ordered(o, lambda tags, _: sorted(tags, key=lambda tag: (-counts.get(tag.lower(), 0), tag_key(tag))))


def _shuffle_tags(o: Options) -> Apply:
    seed = o.number("seed", 0, 2**31)

    def order(tags: list[str], item: Item) -> list[str]:
        mixed = list(tags)
        random.Random(f"{seed}:{item.image_id}").shuffle(mixed)
        return mixed

    return _ordered(o, order)


def _case(o: Options) -> Apply:
    to = o.choice("to", CASES, "lower")
    keep = re.compile(rf"(?<!\w){re.escape(o.trigger)}(?!\w)", re.IGNORECASE) if o.trigger else None

    def change(text: str) -> str:
        if to == "lower":
            return text.lower()
        if to == "upper":
            return text.upper()
        if to == "title":
            return re.sub(r"[^\W_]+(?:['’][^\W_]+)*", lambda match: match[0][:1].upper() + match[0][1:].lower(), text)
        return re.sub(r"(^\s*|[.!?]\s+)(\w)", lambda match: match[1] + match[2].upper(), text.lower())

    def apply(text: str, item: Item) -> tuple[str, int]:
        after = change(text)
        if keep is not None and len(after) == len(text):  # the trigger word stays as it was written
            for match in keep.finditer(text):
                after = after[: match.start()] + match[0] + after[match.end() :]
        return after, 1

    return apply


def _tidy(o: Options) -> Apply:
    return lambda text, item: (tidy(" ".join(text.split())), 1)


_MAKERS: dict[str, Callable[[Options], Apply]] = {
    "replace": _replace,
    "remove": _remove,
    "prefix": _prefix,
    "suffix": _suffix,
    "set": _set,
    "trigger": _trigger,
    "rename_tag": _rename_tag,
    "remove_tag": _remove_tag,
    "add_tag": _add_tag,
    "dedupe_tags": _dedupe_tags,
    "sort_tags": _sort_tags,
    "shuffle_tags": _shuffle_tags,
    "case": _case,
    "tidy": _tidy,
}
OPERATIONS = tuple(_MAKERS)
