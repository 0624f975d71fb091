"""What a caption engine promises. Implementations: gemini.py, local.py, composer.py.

An engine gets everything about the character and the picture as plain data and gives back words
that already fit the platforms: lengths kept, no links for X, at most `MAX_HASHTAGS` hashtags. It
translates its own failures into `dalla.errors`; `extra["cause"]` is a stable word for each.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from dalla.records.image import EngineStatus
from dalla.records.platform import TextRules
from dalla.registry import BuiltOnce
from dalla.settings import Settings

#: The limits captions are written for: those of the two platforms' adapters.
INSTAGRAM_TEXT = TextRules(max_length=2200, count="characters", max_hashtags=30, warn_hashtags=5, max_mentions=20)
X_TEXT = TextRules(max_length=280, count="weighted", max_alt_text=1000)
#: Instagram shows no more than five since December 2025.
MAX_HASHTAGS = 5
#: Longest alt text we ask for, characters. Both platforms take 1000; screen readers do better with less.
MAX_ALT_TEXT = 500


@dataclass(frozen=True)
class Limits:
    """What the words must keep to, per platform."""

    instagram: TextRules = INSTAGRAM_TEXT
    x: TextRules = X_TEXT
    hashtags: int = MAX_HASHTAGS
    alt_text: int = MAX_ALT_TEXT


@dataclass(frozen=True)
class CaptionRequest:
    """A wish for one caption, complete. Every text may be empty.

    narratives: (title, description) of the story arcs of today. image: a small JPEG without metadata.
    recent: the last captions, newest first, which must not be repeated. hashtags: a pool to choose
    from, without "#". uses: how many captions this prompt has had; changes what the composer writes.
    """

    prompt: str = ""
    name: str = ""
    personality: str = ""
    backstory: str = ""
    style: str = ""
    mood: str = ""
    trigger_word: str = ""
    narratives: tuple[tuple[str, str], ...] = ()
    image: bytes | None = None
    language: str = ""  # "English", "Deutsch", "de" …; empty: that of the character's texts
    tone: str = ""
    recent: tuple[str, ...] = ()
    hashtags: tuple[str, ...] = ()
    uses: int = 0
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True)
class CaptionText:
    """A written caption. `hashtags` without "#"; they are not in the two captions.

    With its hashtags appended by `with_hashtags`, each caption keeps to its platform's limits.
    """

    instagram: str
    x: str
    hashtags: tuple[str, ...] = ()
    alt_text: str = ""
    model: str | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class IdeasRequest:
    """A wish for `count` ideas of pictures of one character. `avoid`: what exists or was posted already."""

    count: int = 10
    theme: str = ""
    name: str = ""
    personality: str = ""
    backstory: str = ""
    style: str = ""
    mood: str = ""
    base_prompt: str = ""
    trigger_word: str = ""
    narratives: tuple[tuple[str, str], ...] = ()
    recent: tuple[str, ...] = ()
    avoid: tuple[str, ...] = ()
    seed: int = 0


@dataclass(frozen=True)
class Ideas:
    """Prompts for pictures: what the picture shows, without trigger word and base prompt."""

    prompts: tuple[str, ...]
    model: str | None = None
    notes: tuple[str, ...] = ()


class CaptionEngine(Protocol):
    """Writes captions and ideas."""

    name: str
    label: str

    def status(self, *, fresh: bool = False) -> EngineStatus:
        """Say whether it can write. Asks nobody unless `fresh`. Never raises."""

    def models(self) -> list[str]:
        """List the models it can write with; asks the service. Empty when that fails. Never raises."""

    def write(self, request: CaptionRequest) -> CaptionText:
        """Write one caption.

        Raises NotConfigured, UpstreamError (refused, blocked, cut off, bad key …), RateLimited,
        TimedOut, Unavailable (unreachable, library missing).
        """

    def ideas(self, request: IdeasRequest) -> Ideas:
        """Think of pictures; at most `request.count`, possibly fewer. Same errors as write."""

    def close(self) -> None:
        """Free what is held (sockets). Idempotent."""


class CaptionEngines(BuiltOnce[CaptionEngine]):
    """The caption engines in the order `auto` tries them; each is built when first asked for."""

    def __init__(self, settings: Settings) -> None:
        from dalla.engines.captions import CAPTION_ENGINES

        super().__init__(CAPTION_ENGINES, settings)


def with_hashtags(text: str, hashtags: tuple[str, ...] | list[str], rules: TextRules) -> str:
    """Append as many of the hashtags as fit the platform: on their own line, for X on the same line.

    Tags that the text has already are left out; the text itself is never cut.
    """
    from dalla.text_length import measure

    present = text.casefold()
    wanted = [f"#{tag}" for tag in hashtags if f"#{tag.casefold()}" not in present]
    if rules.count == "weighted":
        wanted = wanted[:2]  # more than two hashtags make a post on X look like an advertisement
    gap = "\n\n" if rules.count == "characters" else " "
    while wanted:
        whole = f"{text.rstrip()}{gap if text.strip() else ''}{' '.join(wanted)}"
        if measure(whole, rules).used <= rules.max_length:
            return whole
        wanted.pop()
    return text
