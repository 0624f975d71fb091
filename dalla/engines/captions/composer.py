"""Captions without any service: sentences chosen by rule from what is known. Always answers.

The same request gives the same caption; a prompt that had a caption before gets another one, and
the last captions are never repeated. Writes English and German.
"""

from __future__ import annotations

import hashlib
import random
import re

from dalla.engines.captions import composer_words as words
from dalla.engines.captions.answer import clean_tag, shorten
from dalla.engines.captions.base import CaptionRequest, CaptionText, Ideas, IdeasRequest
from dalla.engines.captions.composer_ideas import compose_ideas
from dalla.engines.captions.scene import Scene, alt_text, read_scene
from dalla.records.image import EngineStatus
from dalla.settings import Settings
from dalla.text_length import measure, strip_links, trim

TRIES = 400
_GERMAN = {"de", "deu", "ger", "german", "deutsch", "allemand", "de-de", "de-at", "de-ch"}
_ENGLISH = {"", "en", "eng", "english", "englisch", "anglais", "en-us", "en-gb"}
_GERMAN_HINTS = re.compile(r"\b(?:der|die|das|und|ist|ein|eine|einer|einem|im|mit|sie|ich|nicht|auf|von|zu|lebt|liebt|für|am|beim|goldenes|dem|den)\b|[äöüß]", re.I)  # fmt: skip
_ENGLISH_HINTS = re.compile(
    r"\b(?:the|and|is|an?|in|with|she|he|they|of|to|on|her|his|who|lives|loves|for|at|by)\b", re.I
)
_STOP = set(
    """a an the and or of in on at by to for with from into near under over her his their my your our its this that these those is are
    was be being very some one two three standing sitting looking wearing holding walking lying leaning posing smiling making taking
    drinking eating reading playing beautiful pretty young woman girl man boy person lady she he they front middle next close top
    behind beside between through across around against left right small big large little old new long short colour color colors
    background foreground view camera photo picture image portrait shot style hand hands eyes face hair skin body mit und der die das
    ein eine einer einem einen im am auf von zu bei beim vor hinter unter neben ist sind war ihr sein mein dein für aus wet soft
    warm cold bright dark light lights hour hours day evening""".split()
)


class ComposerEngine:
    """The offline composer."""

    name = "composer"
    label = "Offline composer"

    def __init__(self, settings: Settings | None = None) -> None:
        self._settings = settings

    def status(self, *, fresh: bool = False) -> EngineStatus:
        return EngineStatus(True, "Works without any service, in English and German.")

    def models(self) -> list[str]:
        return []

    def write(self, request: CaptionRequest) -> CaptionText:
        """Write one caption. Never fails."""
        german, notes = choose_language(request)
        scene = read_scene(
            request.prompt, trigger=request.trigger_word, name=request.name, drop=(request.style, request.mood)
        )
        rng = random.Random(_seed(request))
        slots = _slots(scene, german)
        voice = choose_voice(request)
        taken = {_bare(text) for text in request.recent}
        openings = {_bare(re.split(r"(?<=[.?!])\s", text.strip(), maxsplit=1)[0]) for text in request.recent}
        best: tuple[int, str, str] | None = None
        for _ in range(TRIES):
            full, short, opening = _compose(request, voice, slots, german, rng)
            if _bare(full) in taken or _bare(short) in taken:
                continue
            repeats = 1 if _bare(opening) in openings else 0
            if best is None or repeats < best[0]:
                best = (repeats, full, short)
            if not repeats:
                break
        if best is None:  # every combination was used lately: say so in a new way
            full, short, _ = _compose(request, voice, slots, german, rng)
            number = len(request.recent) + request.uses + 1
            line = f"Bild Nummer {number} dieser Reihe." if german else f"Number {number} of this series."
            best = (1, f"{full}\n\n{line}", f"{short} {line}")
        limits = request.limits
        return CaptionText(
            instagram=trim(best[1], limits.instagram),
            x=_fit_x(best[2], request),
            hashtags=tuple(choose_hashtags(request, scene, german, rng)[: limits.hashtags]),
            alt_text=shorten(alt_text(scene, request.name, german=german), limits.alt_text),
            notes=tuple(notes),
        )

    def ideas(self, request: IdeasRequest) -> Ideas:
        """Put ideas together from places, hours and what the character is about. Never fails."""
        return Ideas(tuple(compose_ideas(request)))

    def close(self) -> None:
        """Nothing is held."""


def choose_language(request: CaptionRequest) -> tuple[bool, list[str]]:
    """Return (German?, notes)."""
    wanted = request.language.strip().casefold()
    if wanted in _GERMAN:
        return True, []
    if wanted in _ENGLISH - {""}:
        return False, []
    if wanted:
        return False, [
            f"The offline composer writes English and German, not {request.language}; this caption is English."
        ]
    own = " ".join((request.personality, request.backstory, *(" ".join(pair) for pair in request.narratives)))
    return is_german(own), []


def is_german(text: str) -> bool:
    """Whether a text looks more like German than English."""
    return len(_GERMAN_HINTS.findall(text)) > len(_ENGLISH_HINTS.findall(text))


def choose_voice(request: CaptionRequest) -> str:
    """Return the voice that tone (first of all), mood, personality and style call for; "plain" when none does."""
    scores: dict[str, int] = {}
    for weight, text in ((8, request.tone), (3, request.mood), (2, request.personality), (1, request.style)):
        lower = text.casefold()
        for voice, hints in words.VOICE_WORDS.items():
            found = sum(1 for hint in hints if re.search(rf"\b{re.escape(hint)}", lower))
            if found:
                scores[voice] = scores.get(voice, 0) + weight * min(found, 2)
    return max(scores, key=lambda voice: scores[voice]) if scores else "plain"


def wanted_length(tone: str) -> str:
    """Return "short" or "long" when the tone says so ("short, a single sentence"), else ""."""
    lower = tone.casefold()
    if re.search(r"\b(?:short|brief|concise|kurz|single sentence|one sentence|ein satz)", lower):
        return "short"
    return "long" if re.search(r"\b(?:long|lang|detailed|ausführlich|several sentences)\b", lower) else ""


def choose_hashtags(request: CaptionRequest, scene: Scene, german: bool, rng: random.Random) -> list[str]:
    """Return up to five hashtags made of real words: the pool's first, then the scene, the story, the name."""
    pool = list(request.hashtags)
    rng.shuffle(pool)
    found = pool[:5] if not scene.text and not request.name else pool[:3]
    from_scene: list[str] = []
    for phrase in (*scene.places, *scene.things, *scene.actions):
        for word in reversed(re.findall(r"[^\W\d_]+", phrase)):
            lower = word.casefold()
            if lower in _STOP or not 3 <= len(lower) <= 24:
                continue
            if german and not is_german(scene.text):
                known = words.GERMAN_WORDS.get(lower)
                lower = known[2] if known else ""
            if lower:
                from_scene.append(lower)
    own: list[str] = []
    for title, _ in request.narratives:
        parts = [
            part for part in re.findall(r"\w+", title) if part.casefold() not in ("the", "a", "an", "der", "die", "das")
        ]
        if 0 < len(parts) <= 3:
            own.append("".join(part[:1].upper() + part[1:] for part in parts))
    first = [
        part for part in re.findall(r"[^\W\d_]+", request.name) if part.casefold() not in ("the", "der", "die", "das")
    ]
    if first:
        own.append(first[0].casefold())
    mood = [] if german else [w.casefold() for w in re.findall(r"[^\W\d_]{4,20}", request.mood)][:1]
    found += [*from_scene[:3], *own, *from_scene[3:5], *mood]
    tags = (clean_tag(tag) for tag in found)
    return list({tag.casefold(): tag for tag in tags if tag}.values())[:5]


# ---------------------------------------------------------------- putting together


def _seed(request: CaptionRequest) -> str:
    text = f"{request.prompt}\n{request.name}\n{request.tone}\n{request.uses}"
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()


def _slots(scene: Scene, german: bool) -> dict[str, list[str]]:
    """Return what the frames can be filled with, in the language of the caption."""
    if german == is_german(scene.text) or not scene.text:
        return {
            "place": [_mine(p) for p in scene.places if len(p) <= 80],
            "action": [] if german else [_mine(a) for a in scene.actions if len(a) <= 80],
            "thing": [_mine(t) for t in scene.things if len(t) <= 60],
        }
    if not german:
        return {}
    known = [words.GERMAN_WORDS[w] for w in re.findall(r"[^\W\d_]+", scene.text.casefold()) if w in words.GERMAN_WORDS]
    return {"place": [k[0] for k in known[:2]], "thing": [k[1] for k in known[:3]]}


def _mine(phrase: str) -> str:
    """The caption is in the first person."""
    phrase = re.sub(r"\b(?:her|his|their)\s+own\b", "my own", phrase, flags=re.IGNORECASE)
    phrase = re.sub(r"\b(?:her|his|their)(?=\s+\w)", "my", phrase, flags=re.IGNORECASE)
    return re.sub(r"\b(?:herself|himself|themselves)\b", "myself", phrase, flags=re.IGNORECASE)


def _compose(
    request: CaptionRequest, voice: str, slots: dict[str, list[str]], german: bool, rng: random.Random
) -> tuple[str, str, str]:
    """Return (long caption, short caption, opening sentence)."""
    frames = (words.GERMAN if german else words.ENGLISH)[voice]
    kinds = [kind for kind in ("place", "place", "action", "thing") if slots.get(kind) and kind in frames]
    kind = rng.choice(kinds) if kinds and rng.random() < 0.9 else "none"
    filler = rng.choice(slots[kind]) if kind != "none" else ""
    opening = _fill(rng.choice(frames[kind]), kind, filler)
    emoji = words.EMOJI[voice]
    mark = f" {rng.choice(emoji)}" if emoji and rng.random() < 0.6 else ""
    middle = _story(request, german, rng)
    if not middle and kind in ("place", "action") and slots.get("thing") and rng.random() < 0.5:
        other = rng.choice(slots["thing"])
        if other.casefold() not in opening.casefold():
            middle = _upper(other) + "."
    closing = rng.choice(frames["close"])
    length = wanted_length(request.tone)
    if length == "short":
        return f"{opening}{mark}", f"{opening}{mark}", opening
    if length == "long":
        plain = [frame for frame in frames["none"] if frame != opening]
        middle = " ".join(part for part in (middle, rng.choice(plain)) if part)
    full = "\n\n".join(part for part in (f"{opening}{mark}", middle, closing) if part)
    short = f"{opening} {closing}{mark}" if rng.random() < 0.6 else f"{opening}{mark}"
    return full, short, opening


def _story(request: CaptionRequest, german: bool, rng: random.Random) -> str:
    """Return a sentence about one of the stories of today, '' when there is none."""
    if not request.narratives:
        return ""
    title, description = rng.choice(request.narratives)
    if title.strip():
        frame = rng.choice(words.GERMAN_STORY if german else words.ENGLISH_STORY)
        return frame.format(title=shorten(title, 80))
    sentence = re.split(r"(?<=[.!?])\s", strip_links(description).strip(), maxsplit=1)[0]
    return shorten(sentence, 160) if german == is_german(description) else ""


def _fill(frame: str, kind: str, filler: str) -> str:
    if kind == "none":
        return frame
    filler = filler.strip(" .")
    text = frame.replace("{" + kind + "}", filler).replace("{" + kind.capitalize() + "}", _upper(filler))
    return re.sub(r"([.!?])\.", r"\1", text)


def _upper(text: str) -> str:
    return text[:1].upper() + text[1:]


def _fit_x(text: str, request: CaptionRequest) -> str:
    rules = request.limits.x
    text = strip_links(text).strip() or text
    return text if measure(text, rules).used <= rules.max_length else trim(text, rules)


def _bare(text: str) -> str:
    """Return what makes two captions the same: the words, without hashtags, signs and emoji."""
    return " ".join(re.findall(r"\w+", re.sub(r"#\w+", " ", text).casefold()))
