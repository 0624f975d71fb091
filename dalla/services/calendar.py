"""What happens when: posts and the coming occurrences of rules, merged into one list."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, time, timedelta
from typing import Any, Protocol
from zoneinfo import ZoneInfo

from dalla.errors import InvalidInput
from dalla.records.post import Post
from dalla.services.characters import Characters
from dalla.services.post_times import checked_zone, zone_named
from dalla.services.posts import Posts
from dalla.settings import Settings
from dalla.times import iso, parse

MOST_DAYS = 400
MOST_OCCURRENCES = 2000


class Rules(Protocol):
    """Where occurrences come from."""

    def occurrences(
        self, start: datetime, end: datetime, character_id: str | None = None, limit: int = MOST_OCCURRENCES
    ) -> Iterable[Any]:
        """Return what is still to come, with task_id, task_type, name, platforms, at, slot, … of each."""


class Calendar:
    """Posts and rules of a span of time. Reads only."""

    def __init__(self, settings: Settings, posts: Posts, automation: Rules, characters: Characters) -> None:
        self._settings = settings
        self._posts = posts
        self._automation = automation
        self._characters = characters

    def entries(
        self,
        *,
        start: str | None = None,
        end: str | None = None,
        character_id: str | None = None,
        zone: str | None = None,
        now: datetime | None = None,
    ) -> dict[str, Any]:
        """Return {"zone", "from", "to", "items"} with items in order of time.

        start, end: ISO times or dates (a date is a day of `zone`; an end date is included). Left out: the month of
        today. zone: IANA name; left out: the character's, else the app's. Times are UTC, `local` is the same in `zone`.

        Raises InvalidInput (dates, zone, more than 400 days), NotFound (character).
        """
        character = self._characters.get(character_id) if character_id else None
        if zone:
            place = checked_zone(zone)
        else:
            place = zone_named(character.timezone if character else None, self._settings.timezone)
        now = now or datetime.now(UTC)
        first, last = _span(start, end, place, now)
        posts = [post for post in self._posts.between(first, last, character_id) if _has_a_time(post)]
        items = [
            self._post_item(post, public, place)
            for post, public in zip(posts, self._posts.public_many(posts), strict=True)
        ]
        items += self._rules(first, last, character_id, place, posts)
        items.sort(key=lambda item: (item["at"], item["type"]))
        return {"zone": place.key, "from": iso(first), "to": iso(last), "items": items}

    def _post_item(self, post: Post, public: dict[str, Any], zone: ZoneInfo) -> dict[str, Any]:
        put_off = post.due_at if post.status == "scheduled" and post.deferred_reason else None
        at = parse(put_off or post.scheduled_at or post.created_at)
        return {"type": "post", "at": iso(at), "local": _local(at, zone), "post": public}

    def _rules(
        self, first: datetime, last: datetime, character_id: str | None, zone: ZoneInfo, posts: list[Post]
    ) -> list[dict[str, Any]]:
        names = {character.id: character.name for character in self._characters.all()}
        made = {(post.task_id, post.slot) for post in posts if post.task_id and post.slot}
        items = []
        for occurrence in self._automation.occurrences(first, last, character_id, limit=MOST_OCCURRENCES):
            at = parse(occurrence.at) if isinstance(occurrence.at, str) else occurrence.at
            platforms = list(occurrence.platforms)
            if (occurrence.task_id, occurrence.slot) in made:
                continue
            items.append(
                {
                    "type": "occurrence",
                    "at": iso(at),
                    "local": _local(at, zone),
                    "taskId": occurrence.task_id,
                    "taskType": occurrence.task_type,
                    "name": occurrence.name,
                    "characterId": occurrence.character_id,
                    "characterName": names.get(occurrence.character_id or ""),
                    "platforms": platforms,
                    "dryRun": occurrence.dry_run,
                    "active": occurrence.active,
                    "slot": occurrence.slot,
                    "skipped": occurrence.skipped,
                    "note": occurrence.note,
                }
            )
        return items


def _has_a_time(post: Post) -> bool:
    """Whether the post belongs to a moment: planned for one, or it happened. A draft without a time does not."""
    return post.scheduled_at is not None or post.status not in ("draft", "approved", "cancelled")


def _local(moment: datetime, zone: ZoneInfo) -> str:
    return moment.astimezone(zone).isoformat(timespec="seconds")


def _span(start: str | None, end: str | None, zone: ZoneInfo, now: datetime) -> tuple[datetime, datetime]:
    month = now.astimezone(zone).date().replace(day=1)
    first = _moment(start, "from", zone) if start else _midnight(month, zone)
    if end:
        last = _moment(end, "to", zone, end_of_day=True)
    else:
        try:
            local = first.astimezone(zone).date()
            last = _midnight((local.replace(day=1) + timedelta(days=32)).replace(day=1), zone)
        except OverflowError:
            raise InvalidInput.field("from", "The calendar ends before that.") from None
    if last <= first:
        raise InvalidInput.field("to", "The end lies before the start.")
    if last - first > timedelta(days=MOST_DAYS):
        raise InvalidInput.field("to", f"At most {MOST_DAYS} days at once.", remedy="Ask for a shorter span.")
    return first, last


def _moment(text: str, field: str, zone: ZoneInfo, *, end_of_day: bool = False) -> datetime:
    try:
        if len(text) == 10:
            day = datetime.fromisoformat(text).date()
            return _midnight(day + timedelta(days=1) if end_of_day else day, zone)
        return parse(text.replace(" ", "+")).astimezone(UTC)  # an unescaped + of an offset arrives as a space
    except (ValueError, OverflowError):
        raise InvalidInput.field(field, "Give a date such as 2026-01-31, or an ISO time.") from None


def _midnight(day: Any, zone: ZoneInfo) -> datetime:
    return datetime.combine(day, time(), tzinfo=zone).astimezone(UTC)
