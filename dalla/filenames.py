"""Names of files inside a dataset: relative paths with `/`, and when two of them are the same name."""

from __future__ import annotations

import unicodedata


def filename_key(name: str) -> str:
    """Return what decides whether two names are one: NFC and case folded, as on disks that ignore case."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def folder_of(name: str) -> str:
    """Return the folder part of a relative path: "10_luna/a" of "10_luna/a/b.png", "" when there is none."""
    return name.rpartition("/")[0]
