"""The rules in `scheduler.json`: checked when they are written, tolerated when a hand wrote them.

What cannot run is listed with its `problem` and left alone; it keeps nothing else from running.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import orjson

from dalla.cron import Cron, machine_zone, zone_of
from dalla.errors import InvalidInput, NotFound, Stale
from dalla.ids import check_id, new_id
from dalla.records.character import Character, ScheduledTask
from dalla.records.run import TaskState
from dalla.services import automation_config
from dalla.services.automation_config import POSTS, Errors, name_of, platforms_of
from dalla.services.characters import Characters
from dalla.settings import Settings
from dalla.stores.base import DocumentStore
from dalla.times import iso, now_iso, parse

Handler = Callable[..., dict[str, Any] | None]
Validate = Callable[[ScheduledTask], Errors]

LABELS = {
    "generate_and_post": "Generate and post",
    "generate_only": "Generate only",
    "post_existing": "Post from the gallery",
    "backup": "Backup",
    "train_lora": "Train a LoRA",
}
POLICIES = ("skip", "run_once")
FIELDS = (
    "name", "character_id", "type", "schedule", "active", "config", "timezone", "missed_run_policy", "dry_run",
)  # fmt: skip
MAX_NAME = 200


@dataclass(frozen=True)
class TaskType:
    """A kind of work a rule can ask for. `handler` is None for one whose module is not installed."""

    name: str
    label: str
    handler: Handler | None
    validate: Validate | None = None
    needs_character: bool = True
    missing: str = ""


@dataclass(frozen=True)
class Timing:
    """When a rule comes: its expression and its zone."""

    cron: Cron
    zone: ZoneInfo
    zone_name: str

    def next(self, after: datetime) -> datetime | None:
        return self.cron.next(after, self.zone)


class Rules:
    """Read, check and change the rules. What has run is the runs' store's."""

    def __init__(
        self,
        settings: Settings,
        documents: DocumentStore[ScheduledTask],
        characters: Characters,
        now: Callable[[], datetime],
    ) -> None:
        self._settings = settings
        self._documents = documents
        self._characters = characters
        self._now = now
        self.types: dict[str, TaskType] = {
            "train_lora": TaskType(
                "train_lora",
                LABELS["train_lora"],
                None,
                missing="Training by schedule needs the trainer, which is not installed.",
            )
        }

    # ------------------------------------------------------------ reading

    def all(self) -> tuple[ScheduledTask, ...]:
        """Return every rule in file order. Costs microseconds while the file is unchanged."""
        return self._documents.all()

    def get(self, id: str) -> ScheduledTask:
        """Raises NotFound."""
        return self._documents.get(id)

    def find(self, id: str) -> ScheduledTask | None:
        try:
            return self._documents.get(id)
        except NotFound:
            return None

    def revision(self) -> str:
        return self._documents.revision()

    def etag(self, task: ScheduledTask) -> str:
        """Return a text that changes with the rule (for `ETag` / `If-Match`)."""
        return hashlib.sha256(orjson.dumps(task.to_json(), option=orjson.OPT_SORT_KEYS)).hexdigest()[:20]

    def character(self, task: ScheduledTask) -> Character | None:
        """Return the character of a rule; None when it has none or it is gone."""
        if not task.character_id:
            return None
        try:
            return self._characters.get(task.character_id)
        except NotFound:
            return None

    def zone_name(self, task: ScheduledTask, zones: Mapping[str, str | None] | None = None) -> str:
        """Return the zone a rule's hours are meant in: its own, its character's, the app's, this computer's.

        `zones` (character id -> zone) saves looking characters up for each rule of a long list.
        """
        if task.timezone:
            return task.timezone
        if task.character_id:
            if zones is not None:
                of_character = zones.get(task.character_id)
            else:
                character = self.character(task)
                of_character = character.timezone if character else None
            if of_character and _is_zone(of_character):
                return of_character
        return self._settings.timezone or machine_zone()

    def timing(self, task: ScheduledTask, zones: Mapping[str, str | None] | None = None) -> Timing:
        """Return when a rule comes. Raises InvalidInput for its schedule or zone."""
        cron = Cron.parse(task.schedule)
        name = self.zone_name(task, zones)
        return Timing(cron, zone_of(name), name)

    def problem(self, task: ScheduledTask, zones: Mapping[str, str | None] | None = None) -> InvalidInput | None:
        """Return why a rule can never run as it stands; None when it can.

        An unknown character is not told here: the rule keeps its hours and is skipped with that reason.
        """
        try:
            self.timing(task, zones)
        except InvalidInput as exc:
            return exc
        errors = self._type_errors(task) or automation_config.check(task.type, task.config)
        if not errors:
            how = self.types[task.type]
            errors = how.validate(task) if how.validate else []
        if not errors and task.missed_run_policy not in POLICIES:
            errors = [{"field": "missedRunPolicy", "message": f"Use {' or '.join(POLICIES)}."}]
        if not errors:
            return None
        first = errors[0]
        return InvalidInput(
            f"{first['field']}: {first['message']}", errors=errors, remedy="Open the task and correct it."
        )

    def unknown_character(self, task: ScheduledTask) -> str | None:
        """Return a sentence when the rule names a character that is not there (or none, and needs one)."""
        how = self.types.get(task.type)
        if not task.character_id:
            return "The task names no character." if how is None or how.needs_character else None
        if self.character(task) is None:
            return f"There is no character with the id '{task.character_id}' (any more)."
        return None

    def blocked(self, task: ScheduledTask, pauses: Mapping[str, Any]) -> str | None:
        """Return why a rule may not run now (`pauses` is the stop switch), for a person; None when it may."""
        stopped = pauses.get("all")
        if stopped:
            return _because("Everything is stopped.", stopped)
        gone = self.unknown_character(task)
        if gone:
            return gone
        character = self.character(task)
        if character is None:
            return None
        if not character.is_active:
            return f"{character.name} is switched off."
        stopped = (pauses.get("characters") or {}).get(character.id)
        return _because(f"{character.name} is stopped.", stopped) if stopped else None

    def fingerprint(self, task: ScheduledTask, zone_name: str, runnable: bool) -> str:
        """Return a text that changes when the next time has to be computed anew."""
        parts = (task.schedule, zone_name, str(task.active), task.type, str(runnable))
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]

    def public(
        self, task: ScheduledTask, state: TaskState | None, *, names: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        """Return a rule as the API shows it: the stored fields and what follows from them."""
        problem: InvalidInput | None = self.problem(task)
        description = None
        timing = None
        try:
            timing = self.timing(task)
            description = timing.cron.describe()
        except InvalidInput:
            pass
        if names is not None:
            character_name = names.get(task.character_id or "")
        else:
            character = self.character(task)
            character_name = character.name if character else None
        gone = self.unknown_character(task)
        next_run = self.next_run(task, state, timing) if problem is None else None
        answer = task.to_json()
        return {
            **answer,
            "name": name_of(task),
            "label": self.label(task),
            "characterName": character_name,
            "platforms": platforms_of(task.config) if task.type in POSTS else [],
            "zone": timing.zone_name if timing else None,
            "description": description,
            "problem": problem.detail if problem else gone,
            "problemRemedy": problem.remedy if problem else ("Choose another character." if gone else None),
            "nextRun": next_run,
            "lastRun": state.last_run_at if state else None,
            "lastRunId": state.last_run_id if state else None,
            "lastStatus": state.last_status if state else None,
            "skippedSlots": skips_of(state),
        }

    def next_run(self, task: ScheduledTask, state: TaskState | None, timing: Timing | None) -> str | None:
        """Return the next slot that is not left out by hand; None for a rule that is switched off."""
        if not task.active or timing is None:
            return None
        skips = set(skips_of(state))
        slot = parse(state.next_due) if state and state.next_due else timing.next(self._now())
        while slot is not None and iso(slot) in skips:
            slot = timing.next(slot)
        return iso(slot) if slot else None

    def label(self, task: ScheduledTask) -> str:
        """Return what a rule is called: its name, else what it does and for whom."""
        name = name_of(task)
        if name:
            return name
        character = self.character(task)
        what = self.types[task.type].label if task.type in self.types else task.type
        return f"{what} for {character.name}" if character else what

    # ------------------------------------------------------------ writing

    def create(self, values: dict[str, Any]) -> ScheduledTask:
        """Add a rule from snake_case values. Raises InvalidInput by field, Conflict (id), StorageError."""
        id = values.get("id")
        id = check_id(id) if id else new_id("task")
        now = now_iso()
        given = {k: v for k, v in values.items() if k in FIELDS and v is not None}
        task = self._record({"id": id, "active": True, **given, "created_at": now, "updated_at": now})
        self._check(task, set(FIELDS))
        return self._documents.insert(task)

    def update(self, id: str, changes: dict[str, Any], *, if_match: str | None = None) -> ScheduledTask:
        """Change only the given fields. Raises NotFound, InvalidInput by field, Stale, StorageError."""
        changes = {k: v for k, v in changes.items() if k in FIELDS}

        def change(task: ScheduledTask) -> ScheduledTask:
            if if_match and if_match != "*" and self.etag(task) not in if_match:
                raise Stale(
                    "The task was changed elsewhere since you opened it. Nothing was saved.",
                    remedy="Load it again and repeat your change.",
                    extra={"current": task.to_json()},
                )
            defaults = {"type": "generate_and_post", "active": True, "config": {}, "missed_run_policy": "skip"}
            values = {k: defaults.get(k) if v is None and k in defaults else v for k, v in changes.items()}
            if values.get("dry_run", True) is None:
                values["dry_run"] = False
            before = {k: getattr(task, k, None) for k in values}
            if all(before[k] == v for k, v in values.items()):
                return task
            changed = self._record({**_as_values(task), **values, "updated_at": now_iso()})
            # A rule that a hand wrote may have other faults; switching it off must work all the same.
            if set(values) != {"active"} or values["active"]:
                self._check(changed, set(values) | ({"config", "type"} if {"config", "type"} & set(values) else set()))
            return changed

        return self._documents.update(id, change)

    def delete(self, id: str) -> ScheduledTask:
        """Raises NotFound."""
        return self._documents.delete(id)

    def _record(self, values: dict[str, Any]) -> ScheduledTask:
        try:
            return ScheduledTask.model_validate(values)
        except ValueError as exc:
            raise InvalidInput("These are not the fields of a scheduled task.") from exc

    def _check(self, task: ScheduledTask, fields: set[str]) -> None:
        """Raise InvalidInput naming every field that is wrong."""
        errors: Errors = []
        remedies: list[str] = []

        def note(exc: InvalidInput) -> None:
            errors.extend(exc.errors)
            remedies.extend([exc.remedy] if exc.remedy else [])

        name = getattr(task, "name", None)
        if name is not None and (not isinstance(name, str) or len(name) > MAX_NAME):
            errors.append({"field": "name", "message": f"A name is a text of at most {MAX_NAME} characters."})
        type_errors = self._type_errors(task)
        errors += type_errors
        try:
            Cron.parse(task.schedule)
        except InvalidInput as exc:
            note(exc)
        if task.timezone:
            try:
                zone_of(task.timezone)
            except InvalidInput as exc:
                note(exc)
        gone = self.unknown_character(task)
        if gone and (not type_errors or task.character_id):
            message = "Choose the character this is for." if not task.character_id else gone
            errors.append({"field": "characterId", "message": message})
        if task.missed_run_policy not in POLICIES:
            errors.append({"field": "missedRunPolicy", "message": f"Use {' or '.join(POLICIES)}."})
        errors += automation_config.check(task.type, task.config)
        how = self.types.get(task.type)
        if how and how.validate and not errors:
            errors += how.validate(task)
        if errors:
            detail = errors[0]["message"] if len(errors) == 1 else f"{len(errors)} values are not acceptable."
            raise InvalidInput(detail, errors=errors, remedy=remedies[0] if remedies else None)

    def _type_errors(self, task: ScheduledTask) -> Errors:
        how = self.types.get(task.type)
        if how is None:
            known = ", ".join(name for name, kind in self.types.items() if kind.handler)
            return [{"field": "type", "message": f"There is no task of the type '{task.type}'. Use {known}."}]
        if how.handler is None:
            return [{"field": "type", "message": how.missing}]
        return []


def skips_of(state: TaskState | None) -> list[str]:
    """Return the slots a person left out of a rule."""
    value = state.data.get("skips") if state else None
    return [slot for slot in value if isinstance(slot, str)] if isinstance(value, list) else []


def _as_values(task: ScheduledTask) -> dict[str, Any]:
    known = {name: getattr(task, name) for name in task.model_fields_set if name in type(task).model_fields}
    return {**(task.model_extra or {}), **known}


def _is_zone(name: str) -> bool:
    try:
        zone_of(name)
    except InvalidInput:
        return False
    return True


def _because(sentence: str, stop: Any) -> str:
    reason = (stop.get("reason") or "").strip() if isinstance(stop, dict) else ""
    return f"{sentence} {reason[:200]}".strip()
