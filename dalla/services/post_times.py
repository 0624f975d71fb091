"""When a post may go out: zones, quiet hours, and the next free time of an account."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache
from zoneinfo import ZoneInfo

from dalla.errors import InvalidInput
from dalla.times import parse

#: How far ahead a free time is looked for, and how many usual times of day an account may have.
DAYS_AHEAD = 60
MOST_TIMES = 12

_QUIET = re.compile(r"\s*(\d{1,2}):(\d{2})\s*-\s*(\d{1,2}):(\d{2})\s*\Z")


@lru_cache(maxsize=1)
def machine_zone() -> ZoneInfo:
    """Return this computer's zone; UTC when it cannot be told."""
    try:
        from tzlocal import get_localzone_name

        return ZoneInfo(get_localzone_name() or "UTC")
    except Exception:  # noqa: BLE001 - whatever a machine has configured there
        return ZoneInfo("UTC")


def zone_named(*names: str | None) -> ZoneInfo:
    """Return the first zone that is named and exists, else this computer's."""
    for name in names:
        if name:
            try:
                return ZoneInfo(name)
            except (KeyError, ValueError, OSError):
                continue
    return machine_zone()


def checked_zone(name: str, field: str = "zone") -> ZoneInfo:
    """Return the zone of that IANA name. Raises InvalidInput."""
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise InvalidInput.field(
            field, f"'{name}' is not a time zone. Use an IANA name such as Europe/Berlin."
        ) from None


def checked_time(text: str, field: str = "scheduledAt") -> datetime:
    """Read an ISO time given by a user as UTC; one without a zone is taken as UTC. Raises InvalidInput."""
    try:
        moment = parse(text.strip()).astimezone(UTC)
    except (ValueError, OverflowError):
        raise InvalidInput.field(field, "Give an ISO time such as 2026-01-31T18:00:00Z.") from None
    if len(text.strip()) == 10:
        raise InvalidInput.field(field, "Give the time of day too, such as 2026-01-31T18:00:00Z.")
    return moment


def quiet_until(hours: str, moment: datetime, zone: tzinfo) -> datetime | None:
    """Return when the quiet hours ("23:00-07:00", local to `zone`) that `moment` lies in end; None outside of them."""
    match = _QUIET.match(hours or "")
    if match is None:
        return None
    a, b, c, d = (int(part) for part in match.groups())
    start, end = a * 60 + b, c * 60 + d
    if start >= 1440 or end > 1440 or b > 59 or d > 59 or start == end:
        return None
    local = moment.astimezone(zone)
    minute = local.hour * 60 + local.minute
    inside = start <= minute < end if start < end else minute >= start or minute < end
    if not inside:
        return None
    day = local.date() if minute < end else local.date() + timedelta(days=1)
    wall = datetime(day.year, day.month, day.day) + timedelta(minutes=end)
    over = wall.replace(tzinfo=zone).astimezone(UTC)
    # A change of the clocks may put that wall time before the moment itself.
    return over if over > moment else moment.astimezone(UTC) + timedelta(minutes=1)


def usual_times(moments: Iterable[datetime], planned: Iterable[datetime], zone: tzinfo) -> list[tuple[int, int]]:
    """Return the times of day (hour, minute) an account posts at, earliest first.

    moments: when it posted or is to post; a time counts when it was used twice (to five minutes).
    planned: when its rules fire; each counts.
    """
    seen = Counter(_five(moment.astimezone(zone)) for moment in moments)
    usual = Counter({time: n for time, n in seen.items() if n >= 2})
    usual.update(_five(moment.astimezone(zone)) for moment in planned)
    return sorted(time for time, _ in usual.most_common(MOST_TIMES))


def _five(local: datetime) -> tuple[int, int]:
    return local.hour, local.minute - local.minute % 5


def free_time(
    now: datetime,
    zone: tzinfo,
    *,
    usual: Sequence[tuple[int, int]],
    taken: Iterable[datetime],
    gap: timedelta,
    quiet: str,
) -> datetime:
    """Return the next moment (UTC) that is a usual time, else a full hour; far enough from `taken`, not in quiet hours."""
    busy = sorted(taken)
    earliest = now + max(gap, timedelta(minutes=2))

    def fits(moment: datetime) -> bool:
        if moment < earliest or quiet_until(quiet, moment, zone) is not None:
            return False
        return all(abs(moment - other) >= gap for other in busy)

    for candidate in _at_times(now, zone, usual) if usual else ():
        if fits(candidate):
            return candidate
    hour = now
    for hour in _full_hours(now, zone):
        if fits(hour):
            break
    return hour


def _at_times(now: datetime, zone: tzinfo, usual: Sequence[tuple[int, int]]) -> Iterator[datetime]:
    today = now.astimezone(zone).date()
    for n in range(DAYS_AHEAD):
        day = today + timedelta(days=n)
        for hour, minute in usual:
            yield datetime(day.year, day.month, day.day, hour, minute, tzinfo=zone).astimezone(UTC)


def _full_hours(now: datetime, zone: tzinfo) -> Iterator[datetime]:
    moment = now.astimezone(UTC).replace(second=0, microsecond=0)
    for _ in range(DAYS_AHEAD * 24):
        moment += timedelta(minutes=60 - moment.astimezone(zone).minute)
        yield moment
