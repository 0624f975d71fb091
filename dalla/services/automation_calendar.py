"""What the rules will do: the coming occurrences for the calendar, and the preview of an expression."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from dalla.cron import Cron, machine_zone, zone_of
from dalla.errors import InvalidInput
from dalla.records.character import Character, ScheduledTask
from dalla.records.run import TaskState
from dalla.services.automation_config import POSTS, jitter_seconds, platforms_of
from dalla.services.automation_tasks import Rules, Timing, skips_of
from dalla.settings import Settings
from dalla.stores.base import RunStore
from dalla.times import iso, parse

PER_TASK = 200  # occurrences of one rule in one answer: a rule of every minute must not hide the others
PREVIEWED = 100


@dataclass(frozen=True)
class Occurrence:
    """One time a rule will come. `slot` names it, `at` is when its post goes out (both ISO, UTC)."""

    task_id: str
    task_type: str
    name: str
    character_id: str | None
    character_name: str | None
    at: str
    slot: str
    zone: str
    platforms: list[str]
    dry_run: bool
    active: bool = True
    skipped: bool = False
    note: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return it as the calendar answers it (without `local`, which depends on the zone asked for)."""
        return {
            "type": "occurrence",
            "at": self.at,
            "taskId": self.task_id,
            "taskType": self.task_type,
            "name": self.name,
            "characterId": self.character_id,
            "characterName": self.character_name,
            "platforms": self.platforms,
            "dryRun": self.dry_run,
            "active": self.active,
            "slot": self.slot,
            "skipped": self.skipped,
            "note": self.note,
            "zone": self.zone,
        }


class Upcoming:
    """Looks ahead; changes nothing."""

    def __init__(
        self,
        settings: Settings,
        rules: Rules,
        runs: RunStore,
        characters: Callable[[], tuple[Character, ...]],
        now: Callable[[], datetime],
    ) -> None:
        self._settings = settings
        self._rules = rules
        self._runs = runs
        self._characters = characters
        self._now = now

    def occurrences(
        self, start: datetime, end: datetime, character_id: str | None = None, limit: int = 2000
    ) -> list[Occurrence]:
        """Return the occurrences of active rules in [start, end) that are still to come, earliest first.

        At most `limit` of them and `PER_TASK` of one rule; the last one of a rule that has more says so.
        """
        start = max(start.astimezone(UTC), self._now().astimezone(UTC))
        end = end.astimezone(UTC)
        characters = {character.id: character for character in self._characters()}
        zones = {id: character.timezone for id, character in characters.items()}
        dues = self._runs.dues() if end > start else {}
        ahead: list[tuple[datetime, int, ScheduledTask, Timing, int]] = []
        for place, task in enumerate(self._rules.all() if end > start else ()):
            if not task.active or (character_id is not None and task.character_id != character_id):
                continue
            known = parse(dues[task.id]) if task.id in dues else None
            if known is not None and known >= end:
                continue
            if known is None and self._rules.problem(task, zones) is not None:
                continue
            timing = self._rules.timing(task, zones)
            first = known if known is not None and known >= start else timing.next(start - timedelta(microseconds=1))
            if first is not None and first < end:
                ahead.append((first, place, task, timing, 1))
        heapq.heapify(ahead)
        slots: list[tuple[datetime, ScheduledTask, Timing, str | None]] = []
        while ahead and len(slots) < limit:
            slot, place, task, timing, count = heapq.heappop(ahead)
            following = timing.next(slot)
            more = following is not None and following < end
            note = timing.cron.note(slot, timing.zone)
            if more and count >= PER_TASK:
                note = f"Only the first {PER_TASK} times of this task are shown."
            elif more and following is not None:
                heapq.heappush(ahead, (following, place, task, timing, count + 1))
            slots.append((slot, task, timing, note))
        states = self._runs.states(list({task.id for _, task, _, _ in slots}))
        return [
            self._occurrence(task, states.get(task.id), timing, slot, characters.get(task.character_id or ""), note)
            for slot, task, timing, note in slots
        ]

    def _occurrence(
        self,
        task: ScheduledTask,
        state: TaskState | None,
        timing: Timing,
        slot: datetime,
        character: Character | None,
        note: str | None,
    ) -> Occurrence:
        named = iso(slot)
        posts = task.type in POSTS
        delay = jitter_seconds(task.id, named, task.config) if posts else 0
        return Occurrence(
            task_id=task.id,
            task_type=task.type,
            name=self._rules.label(task),
            character_id=task.character_id,
            character_name=character.name if character else None,
            at=iso(slot + timedelta(seconds=delay)),
            slot=named,
            zone=timing.zone_name,
            platforms=platforms_of(task.config) if posts else [],
            dry_run=bool(task.dry_run or self._settings.dry_run or (character and character.dry_run)),
            skipped=named in skips_of(state),
            note=note,
        )

    def preview(
        self, schedule: str, timezone: str | None = None, count: int = 10, after: datetime | None = None
    ) -> dict[str, Any]:
        """Return the expression in words and its next times. Raises InvalidInput for `schedule` and `timezone`."""
        cron = Cron.parse(schedule)
        name = timezone or self._settings.timezone or machine_zone()
        zone = zone_of(name)
        if not 1 <= count <= PREVIEWED:
            raise InvalidInput.field("count", f"Use a number from 1 to {PREVIEWED}.")
        began = after or self._now()
        times = cron.runs(began, zone, count)
        return {
            "valid": True,
            "schedule": cron.expression,
            "description": cron.describe(),
            "timezone": name,
            "nextRuns": [iso(moment) for moment in times],
            "runs": [local_time(moment, name) | {"note": cron.note(moment, zone)} for moment in times],
            "notes": self._notes(cron, times, zone, began),
        }

    @staticmethod
    def _notes(cron: Cron, times: list[datetime], zone: Any, after: datetime) -> list[str]:
        notes = cron.notes(zone, after)
        minute, hour, day, _, weekday = cron.expression.split()
        if not day.startswith("*") and not weekday.startswith("*"):
            notes.append("Day of the month and weekday are both given: it runs when either of them fits.")
        if minute.startswith("*/") and 60 % int(minute[2:]):
            notes.append(f"Every {minute[2:]} minutes, counted anew in each hour.")
        if hour.startswith("*/") and 24 % int(hour[2:]):
            notes.append(f"Every {hour[2:]} hours, counted anew each day.")
        if not times:
            notes.append("No run comes within the next 50 years.")
        return notes


def local_time(moment: datetime, zone: str) -> dict[str, Any]:
    """Return {"utc", "local", "offset"} of a time, as a person in the zone reads it: 2026-11-22T18:00, +01:00."""
    local = moment.astimezone(zone_of(zone))
    offset = local.strftime("%z")
    return {"utc": iso(moment), "local": f"{local:%Y-%m-%dT%H:%M}", "offset": f"{offset[:3]}:{offset[3:5]}"}
