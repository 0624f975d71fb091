"""Write the caption of a post: gather what is known, ask an engine, fall back to the offline composer.

The caller decides what a failure means (automation reads `settings.caption_failure`); here it is
only told truthfully: `failure` is set when an engine failed and the composer answered in its place.
"""

from __future__ import annotations

import io
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol
from urllib.parse import urlsplit

from dalla import imaging
from dalla.engines.captions.base import (
    CaptionEngine,
    CaptionEngines,
    CaptionRequest,
    Ideas,
    IdeasRequest,
    with_hashtags,
)
from dalla.errors import DallaError, InvalidInput, internal_problem
from dalla.events import EventBus
from dalla.jobs.base import JobQueue
from dalla.records.character import Character, Prompt
from dalla.records.media import MediaItem
from dalla.records.post import PostFilter
from dalla.services.characters import Characters, active_narratives
from dalla.services.gallery import Gallery
from dalla.settings import Settings
from dalla.stores.base import DocumentStore, PostStore
from dalla.times import now_iso

logger = logging.getLogger(__name__)

COMPOSER = "composer"
#: Longest side of the copy of a picture that is sent along, px.
PICTURE_SIDE = 1024
#: How many earlier captions are shown to the engine so that it does not repeat them.
RECENT = 12
_THIS_MACHINE = {"127.0.0.1", "localhost", "::1"}
MAX_TEXT = 10_000  # characters of a prompt, narrative …
MAX_WORD = 200  # characters of a language, tone


class Engines(Protocol):
    """The caption engines by name."""

    def names(self) -> list[str]: ...

    def get(self, name: str) -> CaptionEngine:
        """Raises NotFound, Unavailable."""

    def close(self) -> None: ...


@dataclass(frozen=True)
class CaptionResult:
    """A caption with its hashtags in it, per platform, and who wrote it.

    `caption` is that of the platform asked for (Instagram when none was). `hashtags` without "#".
    `failure`: the problem of the engine that should have written it; None when that one did.
    """

    caption: str
    captions: dict[str, str]
    hashtags: list[str]
    alt_text: str
    provider: str  # gemini | local | composer
    model: str | None
    notes: list[str] = field(default_factory=list)
    failure: dict[str, Any] | None = None

    def public(self) -> dict[str, Any]:
        """Return it as `POST /api/generate-caption` answers it."""
        answer = asdict(self)
        answer["altText"] = answer.pop("alt_text")
        return answer


class Captioning:
    """Captions (and ideas for pictures) in the voice of a character."""

    def __init__(
        self,
        settings: Settings,
        characters: Characters,
        gallery: Gallery,
        prompts: DocumentStore[Prompt],
        posts: PostStore | None,
        jobs: JobQueue,
        events: EventBus,
        *,
        engines: Engines | None = None,
    ) -> None:
        self._settings = settings
        self._characters = characters
        self._gallery = gallery
        self._prompts = prompts
        self._posts = posts
        self._events = events
        self._engines: Engines = engines or CaptionEngines(settings)
        #: Engine -> its last real answer or failure: {"at", "ok", "detail", "remedy", "latencyMs"}.
        self.outcomes: dict[str, dict[str, Any]] = {}

    @property
    def settings(self) -> Settings:
        return self._settings

    # ------------------------------------------------------------ writing

    def write(
        self,
        *,
        character_id: str | None = None,
        character: Character | Mapping[str, Any] | None = None,
        prompt: str | None = None,
        prompt_id: str | None = None,
        media_id: str | None = None,
        narrative: str | Mapping[str, Any] | None = None,
        platform: str | None = None,
        language: str | None = None,
        tone: str | None = None,
        engine: str | None = None,
        allow_fallback: bool = True,
        hashtags: Sequence[str] = (),
        avoid: Sequence[str] = (),
    ) -> CaptionResult:
        """Write one caption for both platforms; what is not given is taken from the prompt or the picture.

        Args:
            character: a character (or its fields as the API has them) that need not be stored.
            narrative: a story to refer to besides those active today; text or {title, description}.
            platform: "instagram" or "twitter"; decides which of the two is `caption`.
            engine: gemini, local, composer or auto; None: as the settings say.
            allow_fallback: let the composer answer when the engine fails, and say so in `failure`.
            hashtags: a pool the engine should choose from.

        Raises InvalidInput, NotFound (character, prompt, picture); with `allow_fallback=False` also
        what the engine raised (NotConfigured, UpstreamError, RateLimited, TimedOut, Unavailable).
        """
        platform = check_platform(platform)
        notes: list[str] = []
        entry = self._prompts.get(prompt_id) if prompt_id else None
        item = self._gallery.get(media_id) if media_id else None
        person = self._person(character_id, character, entry, item)
        if prompt is not None and item is not None and prompt.strip() == item.prompt.strip():
            prompt = None  # the composed prompt of the picture: what the person typed says more
        request = CaptionRequest(
            prompt=_text("prompt", prompt if prompt is not None else _prompt_of(entry, item)),
            narratives=self._narratives(person, narrative),
            image=self._picture(item, notes) if item is not None else None,
            language=_text("language", language or self._settings.caption_language, MAX_WORD),
            tone=_text("tone", tone, MAX_WORD),
            recent=(*avoid, *self._recent(person.id if person else None, entry, item)),
            hashtags=_pool(hashtags),
            uses=_uses(entry),
            **_voice(person),
        )

        def work(chosen: CaptionEngine) -> CaptionResult:
            text = chosen.write(request)
            limits = request.limits
            captions = {
                "instagram": with_hashtags(text.instagram, text.hashtags, limits.instagram),
                "twitter": with_hashtags(text.x, text.hashtags, limits.x),
            }
            return CaptionResult(
                caption=captions[platform or "instagram"],
                captions=captions,
                hashtags=list(text.hashtags),
                alt_text=text.alt_text,
                provider=chosen.name,
                model=text.model,
                notes=[*notes, *text.notes],
            )

        result, failure, said = self._attempt(work, engine, allow_fallback)
        return CaptionResult(**{**vars(result), "failure": failure, "notes": [*said, *result.notes]})

    def ideas(
        self,
        character: Character,
        count: int,
        *,
        theme: str = "",
        avoid: Sequence[str] = (),
        engine: str | None = None,
        seed: int = 0,
    ) -> tuple[Ideas, str, list[str]]:
        """Think of pictures of a character: (ideas, provider, notes). Falls back to the composer. Raises InvalidInput."""
        settings = character.prompt_settings
        voice = _voice(character)
        request = IdeasRequest(
            count=count,
            theme=_text("theme", theme, 500),
            base_prompt=(settings.base_prompt if settings else None) or "",
            narratives=self._narratives(character, None),
            recent=self._recent(character.id, None, None),
            avoid=tuple(avoid),
            seed=seed,
            **voice,
        )
        pair: tuple[Ideas, str]
        pair, _, notes = self._attempt(lambda chosen: (chosen.ideas(request), chosen.name), engine, True)
        return pair[0], pair[1], [*notes, *pair[0].notes]

    def save_to_media(self, media_id: str, result: CaptionResult) -> None:
        """Keep the caption (and alt text) with a picture. Raises NotFound."""
        changes = {"caption": result.caption}
        if result.alt_text:
            changes["alt_text"] = result.alt_text
        self._gallery.update(media_id, changes)
        self._events.publish("caption.updated", {"mediaId": media_id})

    # ------------------------------------------------------------ engines

    def selected(self) -> str:
        """Return the name of the engine that would write now."""
        return self._order(None)[0]

    def engines(self, *, fresh: bool = False) -> dict[str, Any]:
        """Return the engines as `GET /api/captions/engines` answers them; `fresh` asks each service."""
        rows = []
        for name in self._engines.names():
            row: dict[str, Any] = {"name": name, "label": name, "available": False, "reason": None, "remedy": None}
            try:
                engine = self._engines.get(name)
                status = engine.status(fresh=fresh)
                row |= {"label": engine.label, "available": status.available, "remedy": status.remedy, **status.detail}
                row["detail" if status.available else "reason"] = status.reason
                if fresh and status.available:
                    row["models"] = engine.models()
            except DallaError as exc:
                row |= {"reason": exc.detail, "remedy": exc.remedy}
            rows.append(row)
        return {"engines": rows, "selected": self.selected()}

    def test(self, name: str) -> dict[str, Any]:
        """Try one engine with the settings in force: {"ok", "detail", "remedy", "info"}. Raises NotFound."""
        try:
            engine = self._engines.get(name)
        except DallaError as exc:
            if exc.code == "not_found":
                raise
            return {"ok": False, "detail": exc.detail, "remedy": exc.remedy, "info": {}}
        began = time.monotonic()
        status = engine.status(fresh=True)
        self._note(name, began, None if status.available else DallaError(status.reason or "", remedy=status.remedy))
        if not status.available:
            return {"ok": False, "detail": status.reason, "remedy": status.remedy, "info": status.detail}
        return {"ok": True, "detail": status.reason or f"{engine.label} answers.", "info": status.detail}

    def recheck(self) -> None:
        """Ask every service that is set up whether it answers, for the system status. No call is billed."""
        for name in self._order("auto"):  # in a dry run only what is on this machine
            if name != COMPOSER:
                self.test(name)

    def _note(self, name: str, began: float, failure: DallaError | None) -> None:
        """Remember how a service did when it was last asked for something."""
        self.outcomes[name] = {
            "at": now_iso(),
            "ok": failure is None,
            "detail": "" if failure is None else failure.detail,
            "remedy": None if failure is None else failure.remedy,
            "latencyMs": round((time.monotonic() - began) * 1000),
        }

    def close(self) -> None:
        self._engines.close()

    def _order(self, wished: str | None) -> list[str]:
        """Names of the engines to try, first first. Raises InvalidInput."""
        if wished and wished != "auto" and wished not in self._engines.names():
            raise InvalidInput.field("engine", f"Use auto, {', '.join(self._engines.names())}.")
        chosen = wished or self._settings.caption_engine
        if self._settings.dry_run:  # nothing leaves this machine: neither the character nor its picture
            local = urlsplit(self._settings.caption_url).hostname in _THIS_MACHINE and chosen in ("auto", "local")
            return ["local", COMPOSER] if local else [COMPOSER]
        if chosen != "auto":
            return [chosen]
        order = []
        if self._settings.gemini_api_key:
            order.append("gemini")
        if self._settings.caption_url:
            order.append("local")
        return [*order, COMPOSER]

    def _attempt(
        self, work: Any, wished: str | None, allow_fallback: bool
    ) -> tuple[Any, dict[str, Any] | None, list[str]]:
        """Run `work(engine)` with the first engine that manages it: (result, failure, notes)."""
        first: DallaError | None = None
        notes: list[str] = []
        order = self._order(wished)
        for name in [*order, COMPOSER] if allow_fallback else order[:1]:
            label, began = name, time.monotonic()
            try:
                engine = self._engines.get(name)
                label = engine.label
                result = work(engine)
            except InvalidInput:
                raise
            except DallaError as exc:
                logger.warning("%s wrote no caption: %s", label, exc.detail)
                self._note(name, began, exc)
                error = exc
            except Exception:  # a library's surprise must not lose a post that the composer can save
                if not allow_fallback:
                    raise
                logger.exception("%s wrote no caption", label)
                error = DallaError("Something went wrong inside the app.", remedy=internal_problem()["remedy"])
                error.code = "internal"  # type: ignore[misc]
                self._note(name, began, error)
            else:
                self._note(name, began, None)
                by_composer = name == COMPOSER and first is not None
                return result, first.problem() if by_composer and first else None, notes
            if not allow_fallback or name == COMPOSER:
                raise error
            first = first or error
            notes.append(f"{label} did not answer: {error.detail}")
        raise AssertionError("the composer always answers or raises")

    # ------------------------------------------------------------ gathering

    def _person(
        self,
        character_id: str | None,
        character: Character | Mapping[str, Any] | None,
        entry: Prompt | None,
        item: MediaItem | None,
    ) -> Character | None:
        if isinstance(character, Character):
            return character
        if character:
            try:
                return Character.model_validate({"id": "unsaved", "name": "", **_without_none(character)})
            except ValueError as exc:
                raise InvalidInput.field(
                    "character", f"These are not the fields of a character: {_first(exc)}"
                ) from exc
        if character_id:
            return self._characters.get(character_id)
        for found in (entry.character_id if entry else None, item.character_id if item else None):
            if found:
                try:
                    return self._characters.get(found)
                except DallaError:  # deleted since: the caption is then written without it
                    return None
        return None

    def _narratives(
        self, person: Character | None, extra: str | Mapping[str, Any] | None
    ) -> tuple[tuple[str, str], ...]:
        found: list[tuple[str, str]] = []
        if isinstance(extra, Mapping):
            found.append(
                (_text("narrative.title", extra.get("title"), 300), _text("narrative", extra.get("description")))
            )
        elif extra and extra.strip():
            found.append(("", _text("narrative", extra)))
        if person is not None:
            today = self._characters.today(person, self._settings.timezone)
            found += [(n.title or "", n.description or "") for n in active_narratives(person, today)]
        return tuple(dict.fromkeys(pair for pair in found if any(pair)))

    def _recent(self, character_id: str | None, entry: Prompt | None, item: MediaItem | None) -> tuple[str, ...]:
        found = (
            [entry.caption or "", *(str(old.get("caption") or "") for old in reversed(entry.captions))] if entry else []
        )
        found += [item.caption or ""] if item else []
        if character_id and character_id != "unsaved":
            if self._posts is not None:
                page = self._posts.page(PostFilter(character_id=character_id), limit=RECENT)
                found += [post.caption for post in page.items]
            own = [p for p in self._prompts.all() if p.character_id == character_id and p.caption]
            own.sort(key=lambda p: p.updated_at or p.created_at or "", reverse=True)
            found += [p.caption or "" for p in own[:RECENT]]
        return tuple(dict.fromkeys(text.strip() for text in found if text.strip()))[: 3 * RECENT]

    def _picture(self, item: MediaItem, notes: list[str]) -> bytes | None:
        """Return the small copy of a picture; None (with a note) when it cannot be had."""
        if not self._settings.caption_send_image or item.type != "image":
            return None
        try:
            return small_jpeg(self._gallery.bytes_of(item))
        except DallaError as exc:
            notes.append(f"The picture could not be sent along: {exc.detail}")
            return None


# ---------------------------------------------------------------- pure parts


def small_jpeg(data: bytes, side: int = PICTURE_SIDE) -> bytes:
    """Return a JPEG without any metadata, longest side at most `side` px. Raises as imaging.open_image."""
    from PIL import Image

    image = imaging.flatten(imaging.open_image(data, name="the picture").image)
    if max(image.size) > side:
        image.thumbnail((side, side), Image.Resampling.LANCZOS, reducing_gap=3.0)
    clean = Image.new("RGB", image.size)
    clean.paste(image)  # pixels only: what hung on the file stays behind
    out = io.BytesIO()
    clean.save(out, "JPEG", quality=85)
    return out.getvalue()


def check_platform(name: str | None) -> str | None:
    """Return the platform's name; "x" counts as "twitter". Raises InvalidInput."""
    if name in (None, ""):
        return None
    found = {"instagram": "instagram", "twitter": "twitter", "x": "twitter"}.get(str(name).lower())
    if found is None:
        raise InvalidInput.field("platform", "Use instagram or twitter.")
    return found


def _voice(person: Character | None) -> dict[str, Any]:
    if person is None:
        return {}
    settings = person.prompt_settings
    return {
        "name": person.name,
        "personality": person.personality or "",
        "backstory": person.backstory or "",
        "style": (settings.style if settings else None) or "",
        "mood": (settings.mood if settings else None) or "",
        "trigger_word": person.trigger_word or "",
    }


def _prompt_of(entry: Prompt | None, item: MediaItem | None) -> str:
    if entry is not None:
        return entry.prompt
    if item is not None:
        return str((item.recipe or {}).get("userPrompt") or item.prompt or "")
    return ""


def _uses(entry: Prompt | None) -> int:
    return 0 if entry is None else len(entry.captions) + (1 if entry.caption else 0)


def _pool(tags: Sequence[str]) -> tuple[str, ...]:
    clean = (str(tag).strip().lstrip("#").replace(" ", "") for tag in tags)
    return tuple(dict.fromkeys(tag for tag in clean if tag))[:60]


def _text(field_name: str, value: Any, longest: int = MAX_TEXT) -> str:
    text = "" if value is None else str(value).strip()
    if len(text) > longest:
        raise InvalidInput.field(field_name, f"At most {longest} characters.")
    return text


def _without_none(values: Mapping[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in values.items() if v is not None}


def _first(exc: ValueError) -> str:
    errors = getattr(exc, "errors", None)
    if callable(errors) and (found := errors()):
        return f"{'.'.join(str(p) for p in found[0]['loc'])}: {found[0]['msg'].lower()}."
    return str(exc)
