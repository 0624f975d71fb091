"""The comma-separated parts of captions: how they are told apart, kept and counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any


def tag_key(tag: str) -> str:
    """Return what makes two tags the same: spelling without case and spare spaces."""
    return " ".join(tag.split()).casefold()


def tags_of(caption: str) -> list[str]:
    """Return the comma-separated parts of a caption, as `DatasetImage.tags` does."""
    return [tag for part in caption.split(",") if (tag := part.strip())]


def tag_rows(seq: int, caption: str) -> list[dict[str, Any]]:
    """Return the rows of `image_tags` for a caption."""
    return [
        {"image_seq": seq, "position": position, "tag": tag, "tag_key": tag_key(tag)}
        for position, tag in enumerate(tags_of(caption))
    ]


def tag_sets(captions: Iterable[str]) -> tuple[list[frozenset[str]], dict[str, str]]:
    """Return the keys of the tags of each caption, and how each tag is spelled.

    Of several spellings the plainest is shown: lower case sorts last.
    """
    known: dict[str, str] = {}  # parts repeat from caption to caption
    spelling: dict[str, str] = {}
    present: list[frozenset[str]] = []
    for text in captions:
        keys = set()
        for part in text.split(","):
            key = known.get(part)
            if key is None:
                key = known[part] = tag_key(part)
                spelling[key] = max(spelling.get(key, ""), part.strip())
            keys.add(key)
        keys.discard("")
        present.append(frozenset(keys))
    return present, spelling


def count_tags(present: list[frozenset[str]], spelling: dict[str, str]) -> list[tuple[str, str, int]]:
    """Return (key, spelling, pictures) of every tag, most frequent first."""
    number = Counter(key for keys in present for key in keys)
    return [(key, spelling[key], n) for key, n in sorted(number.items(), key=lambda item: (-item[1], item[0]))]
