"""The prompt library: `data/prompts.json`, what was used where, ideas, captions, import and export.

The file is the user's and may be edited by hand while the app runs. A prompt remembers where it was
used (`usedIn`) and its older captions (`captions`); beside the fields of the record it keeps
`captionProvider`, `captionModel` and `altText` of the caption it has.
"""

from __future__ import annotations

import hashlib
import logging
import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import orjson

from dalla.errors import DallaError, InvalidInput, NotFound, Stale
from dalla.events import EventBus
from dalla.ids import is_id, new_id
from dalla.jobs.base import Context, JobQueue
from dalla.records.character import Prompt
from dalla.records.job import Job
from dalla.services.captioning import Captioning, CaptionResult, check_platform
from dalla.services.characters import Characters
from dalla.services.prompt_files import read_rows, write_csv, write_json
from dalla.services.wildcards import Wildcards
from dalla.stores.base import DocumentStore, PostStore
from dalla.times import now_iso

logger = logging.getLogger(__name__)

MAX_PROMPT = 10_000  # characters
MAX_CAPTION = 10_000
MAX_IDEAS = 50
MAX_IMPORT = 2_000  # rows of one import
MAX_BULK = 5_000
KEPT_CAPTIONS = 20  # older versions per prompt

#: Where what a prompt was used in can be looked at.
PLACES = {"media": "/gallery.html?media={}", "post": "/content.html?post={}", "run": "/schedule.html?run={}"}
#: Made for the answer; never stored, ignored when sent back.
DERIVED = ("missingWildcards", "characterMissing", "generated")


class Prompts:
    """Everything about the library. Writing captions is Captioning's."""

    KIND = "caption_prompts"

    def __init__(
        self,
        documents: DocumentStore[Prompt],
        characters: Characters,
        captioning: Captioning,
        posts: PostStore | None,
        jobs: JobQueue,
        events: EventBus,
        *,
        data_dir: Path | None = None,
    ) -> None:
        self._documents = documents
        self._characters = characters
        self._captioning = captioning
        self._posts = posts
        self._jobs = jobs
        self._events = events
        self.wildcards = Wildcards(Path(data_dir or captioning.settings.data_dir) / "wildcards")
        jobs.register(self.KIND, self.run, lane="net")

    # ------------------------------------------------------------ reading

    def find(
        self, *, character_id: str | None = None, used: bool | None = None, text: str | None = None
    ) -> list[Prompt]:
        """Return what matches, in file order. Every word of `text` must occur in prompt, caption or name."""
        words = (text or "").casefold().split()

        def fits(prompt: Prompt) -> bool:
            if character_id is not None and prompt.character_id != character_id:
                return False
            if used is not None and prompt.used != used:
                return False
            if not words:
                return True
            hay = f"{prompt.prompt}\n{prompt.caption or ''}\n{prompt.character_name or ''}".casefold()
            return all(word in hay for word in words)

        return [prompt for prompt in self._documents.all() if fits(prompt)]

    def get(self, id: str) -> Prompt:
        """Raises NotFound."""
        return self._documents.get(id)

    def public(self, prompt: Prompt, names: dict[str, str] | None = None) -> dict[str, Any]:
        """Return it as the API shows it: the character's name of today, links in `usedIn`.

        `names` saves looking the characters up for each prompt of a list (`names()`).
        """
        names = self.names() if names is None else names
        answer = prompt.to_json()
        if prompt.character_id:
            answer["characterName"] = names.get(prompt.character_id) or prompt.character_name
            answer["characterMissing"] = prompt.character_id not in names
        answer["usedIn"] = [
            {**use, "href": PLACES[use["type"]].format(use.get("id"))} if use.get("type") in PLACES else use
            for use in prompt.used_in
        ]
        if "__" in prompt.prompt and (missing := self.wildcards.missing(prompt.prompt)):
            answer["missingWildcards"] = missing
        return answer

    def names(self) -> dict[str, str]:
        """Return character id -> name."""
        return {character.id: character.name for character in self._characters.all()}

    def etag(self, prompt: Prompt) -> str:
        """Return a text that changes with the record (for `ETag` / `If-Match`)."""
        return hashlib.sha256(orjson.dumps(prompt.to_json(), option=orjson.OPT_SORT_KEYS)).hexdigest()[:20]

    # ------------------------------------------------------------ writing

    def create(
        self, *, prompt: str | None, character_id: str | None = None, caption: str | None = None, source: str = "manual"
    ) -> Prompt:
        """Add one. Raises InvalidInput, NotFound (character), StorageError."""
        made = self._insert(prompt, character_id, caption, source)
        self._tell([made.id])
        return made

    def _insert(self, prompt: str | None, character_id: str | None, caption: str | None, source: str) -> Prompt:
        character_id = character_id or None
        name = self._characters.get(character_id).name if character_id else None
        values: dict[str, Any] = {
            "id": new_id("prompt"),
            "character_id": character_id,
            "character_name": name,
            "prompt": checked_prompt(prompt),
            "caption": checked_caption(caption),
            "created_at": now_iso(),
            "used": False,
            "source": source,
        }
        return self._documents.insert(Prompt.model_validate(values))

    def update(self, id: str, changes: dict[str, Any], *, if_match: str | None = None) -> Prompt:
        """Change prompt, caption, character_id or used; other fields are left. Raises NotFound, InvalidInput, Stale."""
        values: dict[str, Any] = {}
        if "prompt" in changes:
            values["prompt"] = checked_prompt(changes["prompt"])
        if "caption" in changes:
            values["caption"] = checked_caption(changes["caption"])
        if "character_id" in changes:
            wanted = changes["character_id"] or None
            values["character_id"] = wanted
            if not wanted:
                values["character_name"] = None
        if changes.get("used") is not None:
            values["used"] = bool(changes["used"])

        def change(prompt: Prompt) -> Prompt:
            self._check_match(prompt, if_match)
            if not any(getattr(prompt, key) != value for key, value in values.items()):
                return prompt
            more = dict(values)
            if more.get("character_id") and more["character_id"] != prompt.character_id:
                more["character_name"] = self._characters.get(more["character_id"]).name
            if "caption" in more and more["caption"] != prompt.caption:
                more |= _new_caption(prompt, more["caption"], None, None, None)
            if more.get("used") is False:
                more["used_at"] = None
            elif more.get("used") and not prompt.used:
                more["used_at"] = now_iso()
            return prompt.with_(**more, updated_at=now_iso())

        changed = self._documents.update(id, change)
        self._tell([id])
        return changed

    def delete(self, id: str, *, if_match: str | None = None) -> Prompt:
        """Remove one and return it, for `restore`. Raises NotFound, Stale."""
        if if_match:
            self._check_match(self._documents.get(id), if_match)
        gone = self._documents.delete(id)
        self._tell([id])
        return gone

    def restore(self, record: dict[str, Any]) -> Prompt:
        """Put back a deleted prompt as the API showed it; one that is still there is returned as it is.

        Raises InvalidInput for something that is no prompt.
        """
        values = {k: v for k, v in record.items() if k not in DERIVED}
        if not is_id(values.get("id")):
            raise InvalidInput.field("prompt.id", "Send the whole deleted prompt, with its id.")
        if isinstance(values.get("usedIn"), list):
            values["usedIn"] = [
                {k: v for k, v in use.items() if k != "href"} for use in values["usedIn"] if isinstance(use, dict)
            ]
        try:
            prompt = Prompt.model_validate({k: v for k, v in values.items() if v is not None})
        except ValueError as exc:
            raise InvalidInput.field("prompt", "These are not the fields of a prompt.") from exc
        checked_prompt(prompt.prompt)
        present = next((p for p in self._documents.all() if p.id == prompt.id), None)
        restored = present or self._documents.insert(prompt)
        self._tell([restored.id])
        return restored

    # ------------------------------------------------------------ use

    def pick(self, character_id: str, *, rule: str = "unused") -> Prompt | None:
        """Choose a prompt of the character; None when there is none.

        unused: the oldest that was never used. random: any of them. oldest: the one that was not
        used for the longest time (never used first). Raises InvalidInput for another rule.
        """
        own = [p for p in self._documents.all() if p.character_id == character_id and p.prompt.strip()]
        if rule == "unused":
            return next((p for p in own if not p.used), None)
        if rule == "random":
            return random.choice(own) if own else None
        if rule == "oldest":
            return min(own, key=lambda p: (p.used, p.used_at or ""), default=None)
        raise InvalidInput.field("promptRule", "Use unused, random or oldest.")

    def mark_used(self, id: str, type: str, ref_id: str) -> Prompt:
        """Note that a prompt was used in a picture ("media"), "post" or "run"; twice is once. Raises NotFound."""

        def change(prompt: Prompt) -> Prompt:
            now = now_iso()
            if any(use.get("type") == type and use.get("id") == ref_id for use in prompt.used_in):
                return prompt if prompt.used else prompt.with_(used=True, used_at=now, updated_at=now)
            use = {"type": type, "id": ref_id, "at": now}
            return prompt.with_(used=True, used_at=now, used_in=[*prompt.used_in, use], updated_at=now)

        marked = self._documents.update(id, change)
        self._tell([id])
        return marked

    def expand(self, text: str, seed: int | str) -> str:
        """Choose among `{a|b}` and `__wildcard__`; the same seed chooses the same. Raises InvalidInput."""
        return self.wildcards.expand(text, seed)

    # ------------------------------------------------------------ captions

    def caption(
        self,
        id: str,
        *,
        platform: str | None = None,
        language: str | None = None,
        tone: str | None = None,
        engine: str | None = None,
    ) -> tuple[Prompt, CaptionResult]:
        """Write a (new) caption for a prompt; the one it had is kept in `captions`. Raises NotFound, InvalidInput."""
        result = self._captioning.write(prompt_id=id, platform=platform, language=language, tone=tone, engine=engine)
        return self.save_caption(id, result), result

    def save_caption(self, id: str, result: CaptionResult) -> Prompt:
        """Keep a written caption with its prompt. Raises NotFound."""

        def change(prompt: Prompt) -> Prompt:
            fields = _new_caption(prompt, result.caption, result.provider, result.model, result.alt_text or None)
            return prompt.with_(caption=result.caption, updated_at=now_iso(), **fields)

        saved = self._documents.update(id, change)
        self._tell([id])
        self._events.publish("caption.updated", {"promptId": id})
        return saved

    def submit_captions(
        self,
        ids: list[str],
        *,
        platform: str | None = None,
        language: str | None = None,
        tone: str | None = None,
        engine: str | None = None,
    ) -> Job:
        """Queue captions for many prompts. Raises InvalidInput."""
        ids = list(dict.fromkeys(ids))[:MAX_BULK]
        payload = {
            "ids": ids,
            "platform": check_platform(platform),
            "language": language,
            "tone": tone,
            "engine": engine,
        }
        title = "1 caption" if len(ids) == 1 else f"{len(ids)} captions"
        return self._jobs.submit(self.KIND, payload, title=title)

    def run(self, context: Context, payload: dict[str, Any]) -> dict[str, Any]:
        """Write captions one after another. The handler of the job kind `caption_prompts`."""
        ids = payload["ids"]
        wish = {key: payload.get(key) for key in ("platform", "language", "tone", "engine")}
        providers: dict[str, int] = {}
        written: list[str] = []
        failure: dict[str, Any] | None = None
        for number, id in enumerate(ids):
            context.progress(number, len(ids), f"Caption {number + 1} of {len(ids)}")
            try:
                _, result = self.caption(id, **wish)
            except DallaError as exc:
                context.item_failed(id, exc.code, exc.detail)
                continue
            written.append(id)
            providers[result.provider] = providers.get(result.provider, 0) + 1
            failure = result.failure or failure
        context.progress(len(ids), len(ids), "Done")
        return {"written": len(written), "promptIds": written, "providers": providers, "failure": failure}

    # ------------------------------------------------------------ many at once

    def bulk(self, action: str, ids: Iterable[str]) -> dict[str, Any]:
        """Delete or mark many: {"succeeded", "failed", "deleted"?}. Raises InvalidInput for another action."""
        if action not in ("delete", "mark_used", "mark_unused"):
            raise InvalidInput.field("action", "Use delete, caption, mark_used or mark_unused.")
        wanted = dict.fromkeys(ids)
        deleted: list[dict[str, Any]] = []
        failed: list[dict[str, str]] = []
        succeeded: list[str] = []
        if action == "delete":
            names = self.names()
            for id in wanted:
                try:
                    deleted.append(self.public(self._documents.delete(id), names))
                    succeeded.append(id)
                except DallaError as exc:
                    failed.append({"id": id, "code": exc.code, "detail": exc.detail})
        else:
            present = {prompt.id for prompt in self._documents.all()}
            mark = _marked(action == "mark_used")
            self._documents.rewrite(lambda prompt: mark(prompt) if prompt.id in wanted else prompt)
            succeeded = [id for id in wanted if id in present]
            for id in wanted:
                if id not in present:
                    missing = NotFound.of("prompt", id)
                    failed.append({"id": id, "code": missing.code, "detail": missing.detail})
        self._tell(succeeded)
        answer: dict[str, Any] = {"succeeded": succeeded, "failed": failed}
        return answer | {"deleted": deleted} if action == "delete" else answer

    # ------------------------------------------------------------ ideas

    def generate(
        self, character_id: str, count: int = 10, *, theme: str | None = None, engine: str | None = None
    ) -> tuple[list[Prompt], str, list[str]]:
        """Think of pictures for a character and keep them: (prompts, provider, notes).

        Raises NotFound, InvalidInput, StorageError.
        """
        if not 1 <= count <= MAX_IDEAS:
            raise InvalidInput.field("count", f"Ask for 1 to {MAX_IDEAS} ideas.")
        character = self._characters.get(character_id)
        existing = [p.prompt for p in self.find(character_id=character_id)]
        ideas, provider, notes = self._captioning.ideas(
            character, count, theme=theme or "", avoid=existing[-100:], engine=engine, seed=len(existing)
        )
        known = {fingerprint(text) for text in existing}
        made: list[Prompt] = []
        for text in ideas.prompts:
            text = text.strip()[:MAX_PROMPT]
            if not text or fingerprint(text) in known or len(made) == count:
                continue
            known.add(fingerprint(text))
            made.append(self._insert(text, character_id, None, "ideas"))
        if len(made) < count:
            notes = [*notes, f"{len(made)} of {count} ideas were new."]
        self._tell([prompt.id for prompt in made])
        return made, provider, notes

    # ------------------------------------------------------------ import and export

    def export(self, form: str, *, character_id: str | None = None) -> tuple[bytes, str]:
        """Return (file, MIME type). `form`: csv or json. Raises InvalidInput."""
        prompts = self.find(character_id=character_id)
        names = self.names()
        rows = [self.public(prompt, names) for prompt in prompts]
        if form == "csv":
            return write_csv(rows), "text/csv; charset=utf-8"
        if form == "json":
            return write_json([prompt.to_json(exclude_unset=True) for prompt in prompts]), "application/json"
        raise InvalidInput.field("format", "Use csv or json.")

    def import_(
        self, data: bytes | list[Any], *, name: str = "", character_id: str | None = None, dry_run: bool = False
    ) -> dict[str, Any]:
        """Take in CSV, JSON or a list: {"imported", "skipped", "errors": [{"row", "message"}], "preview"}.

        `character_id` is for rows that name no character. Duplicates (same character, same words)
        are skipped; a row that cannot be used is told and the others are taken. Raises InvalidInput,
        NotFound (the character), StorageError.
        """
        if character_id:
            self._characters.get(character_id)
        rows = read_rows(data, name)
        if len(rows) > MAX_IMPORT:
            raise InvalidInput.field("file", f"At most {MAX_IMPORT} prompts at once; these are {len(rows)}.")
        taker = _Taker(self.names(), character_id, self._documents.all())
        good, errors = [], []
        for number, row in rows:
            try:
                record = taker.take(row)
            except InvalidInput as exc:
                errors.append({"row": number, "message": exc.detail})
                continue
            if record is not None:
                good.append(record)
        if not dry_run:
            done: list[str] = []
            try:
                for record in good:
                    done.append(self._documents.insert(record).id)
            finally:
                self._tell(done)
        names = self.names()
        return {
            "imported": len(good),
            "skipped": taker.skipped,
            "errors": errors,
            "preview": [self.public(record, names) for record in good[:20]],
            "dryRun": dry_run,
        }

    # ------------------------------------------------------------ inside

    def _check_match(self, prompt: Prompt, if_match: str | None) -> None:
        if if_match and if_match != "*" and self.etag(prompt) not in if_match:
            raise Stale(
                "The prompt was changed elsewhere since you opened it. Nothing was saved.",
                remedy="Load it again and repeat your change.",
                extra={"current": self.public(prompt)},
            )

    def _tell(self, ids: list[str]) -> None:
        if ids:
            self._events.publish("prompt.updated", {"ids": ids[:500]})


class _Taker:
    """Turns rows of an import into records, one after the other, remembering what is there already."""

    def __init__(self, names: dict[str, str], default: str | None, present: Iterable[Prompt]) -> None:
        self._names = names
        self._by_name = {name.strip().casefold(): id for id, name in reversed(names.items())}
        self._default = default
        present = list(present)
        self._seen = {(p.character_id, fingerprint(p.prompt)) for p in present}
        self._ids = {p.id for p in present}
        self.skipped = 0

    def take(self, row: dict[str, Any]) -> Prompt | None:
        """Return the record for a row, None for a duplicate. Raises InvalidInput."""
        text = checked_prompt(row.get("prompt"))
        character_id = self._character(row)
        key = (character_id, fingerprint(text))
        if key in self._seen:
            self.skipped += 1
            return None
        self._seen.add(key)
        id = row.get("id")
        if not is_id(id) or id in self._ids:
            id = new_id("prompt")
        self._ids.add(str(id))
        values = {
            "id": id,
            "character_id": character_id,
            "character_name": self._names.get(character_id or ""),
            "prompt": text,
            "caption": checked_caption(row.get("caption")),
            "created_at": now_iso(),
            "used": _truth(row.get("used")),
            "source": "import",
        }
        return Prompt.model_validate(values)

    def _character(self, row: dict[str, Any]) -> str | None:
        id, name = str(row.get("characterId") or "").strip(), str(row.get("characterName") or "").strip()
        if id in self._names:
            return id
        if name:
            found = self._by_name.get(name.casefold())
            if found is None:
                raise InvalidInput(f"There is no character called '{name}'.")
            return found
        if id:
            raise InvalidInput(f"There is no character with the id '{id}'.")
        return self._default


# ---------------------------------------------------------------- pure parts


def checked_prompt(text: Any) -> str:
    """Return the words of a prompt. Raises InvalidInput when there are none, or too many."""
    if text is not None and not isinstance(text, str):
        raise InvalidInput.field("prompt", "This must be text.")
    text = (text or "").strip()
    if not text:
        raise InvalidInput.field("prompt", "Write a prompt.")
    if len(text) > MAX_PROMPT:
        raise InvalidInput.field("prompt", f"A prompt may have {MAX_PROMPT} characters; this one has {len(text)}.")
    return text


def checked_caption(text: Any) -> str | None:
    """Return the caption, None for an empty one. Raises InvalidInput."""
    if text is not None and not isinstance(text, str):
        raise InvalidInput.field("caption", "This must be text.")
    text = (text or "").strip()
    if len(text) > MAX_CAPTION:
        raise InvalidInput.field("caption", f"A caption may have {MAX_CAPTION} characters; this one has {len(text)}.")
    return text or None


def fingerprint(text: str) -> str:
    """Return what two prompts that say the same have in common."""
    return " ".join(text.casefold().replace(",", " ").split())


def _new_caption(
    prompt: Prompt, caption: str | None, provider: str | None, model: str | None, alt_text: str | None
) -> dict[str, Any]:
    """Return the fields that change with the caption: the old one moves to `captions`."""
    extra = prompt.model_extra or {}
    fields: dict[str, Any] = {"captionProvider": provider, "captionModel": model}
    if alt_text:
        fields["altText"] = alt_text
    if prompt.caption and prompt.caption != caption:
        old = {
            "caption": prompt.caption,
            "provider": extra.get("captionProvider"),
            "model": extra.get("captionModel"),
            "at": prompt.updated_at or prompt.created_at,
            "replacedAt": now_iso(),
        }
        fields["captions"] = [*prompt.captions, {k: v for k, v in old.items() if v}][-KEPT_CAPTIONS:]
    return fields


def _marked(used: bool) -> Any:
    def change(prompt: Prompt) -> Prompt:
        if prompt.used == used:
            return prompt
        now = now_iso()
        return prompt.with_(used=used, used_at=now if used else None, updated_at=now)

    return change


def _truth(value: Any) -> bool:
    return value is True or str(value).strip().casefold() in ("1", "true", "yes", "ja", "x", "wahr")
