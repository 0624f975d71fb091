"""Characters: create, change, trash and bring back; their keys kept out of sight.

A character's file entry never holds a key: `secret:<id>/<field>` points into the secret store,
`env:NAME` at an environment variable. What leaves through the API is a mask.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable, Mapping
from datetime import date
from typing import Any
from zoneinfo import ZoneInfo

import orjson
from pydantic.alias_generators import to_camel as _camel

from dalla.errors import InvalidInput, NotFound, Stale
from dalla.events import EventBus
from dalla.ids import new_id
from dalla.records.character import (
    SECRET_FIELDS,
    Character,
    LoraUse,
    Narrative,
    Prompt,
    PromptSettings,
    ScheduledTask,
    TrashedCharacter,
)
from dalla.settings_values import MASK, masked
from dalla.stores.base import DocumentStore, MediaStore, SecretStore
from dalla.times import ago_iso, now_iso

logger = logging.getLogger(__name__)

_SECRET = "secret:"
_ENV = "env:"

#: Longest accepted text per field, characters. Prompts beyond this cannot be meant.
LIMITS = {
    "name": 200,
    "personality": 20_000,
    "backstory": 50_000,
    "instagram_handle": 100,
    "twitter_handle": 100,
    "trigger_word": 100,
    "preferred_model": 300,
}


class Characters:
    """Everything about who a character is. Its pictures belong to the gallery."""

    def __init__(
        self,
        documents: DocumentStore[Character],
        trash: DocumentStore[TrashedCharacter],
        secrets: SecretStore,
        prompts: DocumentStore[Prompt],
        tasks: DocumentStore[ScheduledTask],
        media: MediaStore,
        events: EventBus,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self._documents = documents
        self._trash = trash
        self._secrets = secrets
        self._prompts = prompts
        self._tasks = tasks
        self._media = media
        self._events = events
        self._environ = os.environ if environ is None else environ
        self._checked_revision = ""
        #: Told after a character was made, changed or brought back (the change log of its models). Must not raise.
        self.changed: Callable[[Character], None] = lambda character: None

    # ------------------------------------------------------------ reading

    def all(self) -> tuple[Character, ...]:
        """Return all characters in file order."""
        self._move_plain_keys()
        return self._documents.all()

    def get(self, id: str) -> Character:
        """Raises NotFound."""
        self._move_plain_keys()
        return self._documents.get(id)

    def trashed(self) -> tuple[TrashedCharacter, ...]:
        """Return the deleted characters that can still be restored."""
        return self._trash.all()

    def public(self, character: Character) -> dict[str, Any]:
        """Return the character as the API shows it: keys as masks, with `has…` beside each."""
        answer = character.to_json()
        for field in SECRET_FIELDS:
            key = _camel(field)
            stored = getattr(character, field)
            answer[f"has{key[0].upper()}{key[1:]}"] = self._resolve(stored) is not None
            answer[key] = self._mask(stored)
        return answer

    def etag(self, character: Character) -> str:
        """Return a text that changes with the record (for `ETag` / `If-Match`)."""
        return hashlib.sha256(orjson.dumps(character.to_json(), option=orjson.OPT_SORT_KEYS)).hexdigest()[:20]

    def credential(self, character: Character, field: str) -> str | None:
        """Return a key in clear, for the adapter that has to sign with it. Never log or answer it."""
        return self._resolve(getattr(character, field))

    def dependants(self, id: str) -> dict[str, int]:
        """Count what else a delete touches."""
        character = self.get(id)
        return {
            "tasks": sum(task.character_id == id for task in self._tasks.all()),
            "prompts": sum(prompt.character_id == id for prompt in self._prompts.all()),
            "media": self._media.count_by_character().get(id, 0),
            "loras": len(character.loras),
        }

    def today(self, character: Character, fallback_zone: str = "") -> date:
        """Return today's date where the character lives."""
        from datetime import datetime

        zone = character.timezone or fallback_zone
        try:
            return datetime.now(ZoneInfo(zone) if zone else None).date()
        except (KeyError, ValueError, OSError):
            return datetime.now().date()

    # ------------------------------------------------------------ writing

    def create(self, values: dict[str, Any]) -> Character:
        """Add a character from snake_case values. Raises InvalidInput by field, StorageError."""
        if not (values.get("name") or "").strip():
            raise InvalidInput.field("name", "A character needs a name.")
        id = new_id("char")
        now = now_iso()
        values = self._checked(values, id)
        created = self._documents.insert(
            Character.model_validate({"id": id, "is_active": True, **values, "created_at": now, "updated_at": now})
        )
        self._tell("updated", created)
        return created

    def update(self, id: str, changes: dict[str, Any], *, if_match: str | None = None) -> Character:
        """Change only the given fields. Raises NotFound, InvalidInput, Stale, StorageError."""
        self._move_plain_keys()
        current = self._documents.get(id)
        self._check_match(current, if_match)  # before keys are saved: a refused request changes nothing
        if "name" in changes and not (changes["name"] or "").strip():
            raise InvalidInput.field("name", "A character needs a name.")
        values = self._checked(changes, id)

        def change(character: Character) -> Character:
            self._check_match(character, if_match)
            merged = dict(values)
            settings = merged.get("prompt_settings")
            if isinstance(settings, dict) and character.prompt_settings is not None:
                merged["prompt_settings"] = character.prompt_settings.with_(**settings)
            return character.with_(**merged, updated_at=now_iso())

        updated = self._documents.update(id, change)
        for field in SECRET_FIELDS:
            if field in values and values[field] is None:
                self._secrets.delete(self._secret_name(id, field))
        self._tell("updated", updated)
        return updated

    def delete(self, id: str, *, if_match: str | None = None) -> Character:
        """Move to the trash. Pictures, prompts and tasks stay. Raises NotFound."""
        character = self.get(id)
        self._check_match(character, if_match)
        gone = TrashedCharacter.model_validate({**character.to_json(exclude_unset=True), "deletedAt": now_iso()})
        try:
            self._trash.delete(id)  # an older trashed version of the same id gives way
        except NotFound:
            pass
        self._trash.insert(gone)  # first into the trash, then out of the file: a crash leaves both, never none
        self._documents.delete(id)
        self._tell("deleted", character)
        return character

    def restore(self, id: str) -> Character:
        """Bring back from the trash. Raises NotFound; a character that is still there is returned as it is."""
        gone = self._trash.get(id)
        character = Character.model_validate(gone.to_json(exclude_unset=True, exclude={"deleted_at"}))
        present = next((c for c in self._documents.all() if c.id == id), None)
        character = present or self._documents.insert(character)
        self._trash.delete(id)
        self._tell("updated", character)
        return character

    def purge_trash(self, days: int) -> int:
        """Forget characters that were trashed more than `days` ago, and their keys; return how many."""
        limit, count = ago_iso(days * 86400), 0
        live = {character.id for character in self._documents.all()}
        for gone in self._trash.all():
            if (gone.deleted_at or "") < limit:
                self._trash.delete(gone.id)
                # A crash amid delete or restore leaves it in both places: then the keys are in use.
                for field in SECRET_FIELDS if gone.id not in live else ():
                    self._secrets.delete(self._secret_name(gone.id, field))
                count += 1
        return count

    # ------------------------------------------------------------ checks

    def _checked(self, values: dict[str, Any], id: str) -> dict[str, Any]:
        """Check and normalise values for `id`; keys go to the secret store and come back as references."""
        errors: list[dict[str, str]] = []
        result = dict(values)
        if "name" in result:
            result["name"] = result["name"].strip()
        for field, longest in LIMITS.items():
            if len(result.get(field) or "") > longest:
                errors.append({"field": _camel(field), "message": f"At most {longest} characters."})
        if result.get("timezone"):
            try:
                ZoneInfo(result["timezone"])
            except (KeyError, ValueError, OSError):
                errors.append({"field": "timezone", "message": "Use an IANA zone such as Europe/Berlin."})
        if result.get("narratives") is not None:
            result["narratives"] = _checked_narratives(result["narratives"], errors)
        elif "narratives" in result:
            result["narratives"] = []
        if "loras" in result and result["loras"] is None:
            result["loras"] = []
        for i, use in enumerate(result.get("loras") or []):
            strength = use.strength if isinstance(use, LoraUse) else use.get("strength", 1.0)
            if not -10 <= strength <= 10:
                errors.append({"field": f"loras.{i}.strength", "message": "Use a strength between -10 and 10."})
        if isinstance(result.get("prompt_settings"), PromptSettings):
            result["prompt_settings"] = result["prompt_settings"].model_dump(exclude_unset=True)
        for field in SECRET_FIELDS:
            value = result.get(field)
            if isinstance(value, str) and value.startswith(_SECRET):
                errors.append({"field": _camel(field), "message": "A key cannot start with 'secret:'."})
        if errors:
            raise InvalidInput("Some values are not acceptable.", errors=errors)
        for field in SECRET_FIELDS:  # last: nothing is saved for a request that is refused
            if field in result:
                value = (result[field] or "").strip()
                if value.startswith(MASK):
                    del result[field]  # the mask was sent back: unchanged
                elif not value:
                    result[field] = None
                elif value.startswith(_ENV):
                    result[field] = value
                else:
                    self._secrets.put(self._secret_name(id, field), value)
                    result[field] = _SECRET + self._secret_name(id, field)
        return result

    def _check_match(self, character: Character, if_match: str | None) -> None:
        if if_match and if_match != "*" and self.etag(character) not in if_match:
            raise Stale(
                f"'{character.name}' was changed elsewhere since you opened it. Nothing was saved.",
                remedy="Load it again and repeat your change.",
                extra={"current": self.public(character)},
            )

    # ------------------------------------------------------------ keys

    @staticmethod
    def _secret_name(id: str, field: str) -> str:
        return f"{id}/{_camel(field)}"

    def _move_plain_keys(self) -> None:
        """Move keys that somebody wrote into the file by hand to the secret store, once per version of the file."""
        revision = self._documents.revision()
        if revision == self._checked_revision:
            return
        if any(_is_plain(getattr(c, f)) for c in self._documents.all() for f in SECRET_FIELDS):
            logger.warning("Plain keys found in characters.json; moving them to the encrypted store")

            def change(character: Character) -> Character:
                moved: dict[str, str] = {}
                for field in SECRET_FIELDS:
                    value = getattr(character, field)
                    if _is_plain(value):
                        name = self._secret_name(character.id, field)
                        self._secrets.put(name, value)  # first safe in the store, then out of the file
                        moved[field] = _SECRET + name
                return character.with_(**moved) if moved else character

            self._documents.rewrite(change, scrub_backup=True)
        self._checked_revision = self._documents.revision()

    def _resolve(self, stored: str | None) -> str | None:
        if not stored:
            return None
        if stored.startswith(_SECRET):
            return self._secrets.get(stored.removeprefix(_SECRET))
        if stored.startswith(_ENV):
            return self._environ.get(stored.removeprefix(_ENV)) or None
        return stored

    def _mask(self, stored: str | None) -> str | None:
        if stored and stored.startswith(_ENV):
            return stored  # the name of a variable is not a secret
        return masked(self._resolve(stored))

    def _tell(self, what: str, character: Character) -> None:
        if what == "updated":
            self.changed(character)
        self._events.publish(
            f"character.{what}", {"id": character.id, "name": character.name, "updatedAt": character.updated_at}
        )


def active_narratives(character: Character, today: date) -> list[Narrative]:
    """Return the story arcs that `today` lies in; open ends count as always."""
    day = today.isoformat()
    return [
        n
        for n in character.narratives
        if (n.start_date or n.end_date)
        and (not n.start_date or n.start_date[:10] <= day)
        and (not n.end_date or day <= n.end_date[:10])
    ]


def _checked_narratives(narratives: list[Any], errors: list[dict[str, str]]) -> list[dict[str, Any]]:
    result: list[dict[str, Any]] = []
    seen: set[str] = set()
    for i, entry in enumerate(narratives):
        values = entry if isinstance(entry, dict) else entry.model_dump(exclude_unset=True)
        dates = {}
        for field in ("start_date", "end_date"):
            text = values.get(field)
            if text:
                try:
                    dates[field] = date.fromisoformat(text[:10])
                except ValueError:
                    errors.append(
                        {"field": f"narratives.{i}.{_camel(field)}", "message": "Give a date such as 2026-01-31."}
                    )
        if len(dates) == 2 and dates["end_date"] < dates["start_date"]:
            errors.append({"field": f"narratives.{i}.endDate", "message": "The end lies before the start."})
        id = values.get("id") or new_id("narr")
        if id in seen:
            errors.append({"field": f"narratives.{i}.id", "message": "Two narratives have this id."})
        seen.add(id)
        result.append({**values, "id": id})
    return result


def _is_plain(value: Any) -> bool:
    return isinstance(value, str) and bool(value) and not value.startswith((_SECRET, _ENV, MASK))
