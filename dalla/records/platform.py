"""A social platform as data: its limits, its credentials, what it can do. The page reads this too."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Credential:
    """One field of a character this platform needs (snake_case, as in records/character.py)."""

    field: str
    label: str
    secret: bool = True
    required: bool = True
    help: str = ""


@dataclass(frozen=True)
class ImageRules:
    """What a picture must be. Ratios are width / height."""

    min_ratio: float
    max_ratio: float
    ratios: tuple[str, ...]  # offered in the page, e.g. ("4:5", "1:1", "1.91:1")
    min_width: int
    max_width: int
    max_height: int
    max_bytes: int
    max_images: int
    story_ratio: str | None = None  # "9:16" where stories exist


@dataclass(frozen=True)
class TextRules:
    """Limits of the words. `count` is "characters" (Unicode code points) or "weighted" (X's rule)."""

    max_length: int
    count: Literal["characters", "weighted"]
    max_hashtags: int | None = None
    warn_hashtags: int | None = None
    max_mentions: int | None = None
    max_alt_text: int = 1000
    caption_optional: bool = True
    warn_links: str | None = None  # a sentence, where links cost money or are not clickable


@dataclass(frozen=True)
class PlatformInfo:
    """A platform as data; `GET /api/platforms` answers it."""

    name: str  # "instagram", "twitter"
    label: str  # "Instagram", "X"
    kinds: tuple[str, ...]  # ("single", "carousel", "story")
    credentials: tuple[Credential, ...]
    images: ImageRules
    text: TextRules
    needs_public_url: bool = False
    min_gap_seconds: int = 300
    docs_url: str = ""  # where a person gets the keys


@dataclass(frozen=True)
class Issue:
    """Something about a post, told before anything is sent. level "error" keeps it from going out."""

    level: Literal["error", "warning"]
    code: str
    message: str
    field: str | None = None  # caption | mediaIds | altTexts | account | schedule
    remedy: str | None = None

    def to_json(self) -> dict[str, str]:
        pairs = {
            "level": self.level,
            "code": self.code,
            "message": self.message,
            "field": self.field,
            "remedy": self.remedy,
        }
        return {k: v for k, v in pairs.items() if v is not None}
