"""Cron expressions: read, refuse in plain words, describe, and say when they come.

Five fields as Debian's cron understands them, counted by cronsim: 0 and 7 are Sunday, a day of the
month and a weekday together mean either of them, a time that the clocks skip comes as soon as they
are past it, a time that happens twice comes once. Everything here answers in UTC: two times of one
zone compare by wall clock, which goes wrong twice a year.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo, available_timezones

from dalla.errors import InvalidInput
from dalla.plural import counted

MACROS = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
EXAMPLE = (
    "Write five fields: minute, hour, day of the month, month, weekday. For example 0 18 * * * for 18:00 every day."
)
MAX_LENGTH = 200
_DAYS = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
_MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_LONG_DAYS = ("SUNDAY", "MONDAY", "TUESDAY", "WEDNESDAY", "THURSDAY", "FRIDAY", "SATURDAY")
_LONG_MONTHS = (
    "JANUARY", "FEBRUARY", "MARCH", "APRIL", "MAY", "JUNE", "JULY", "AUGUST", "SEPTEMBER", "OCTOBER", "NOVEMBER",
    "DECEMBER",
)  # fmt: skip
_LONGEST_MONTH = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


@dataclass(frozen=True)
class _Field:
    name: str
    low: int
    high: int
    names: tuple[str, ...] = ()
    circular: bool = True  # 22-2 has a meaning

    @property
    def usual(self) -> str:
        return f"use {self.low} to {self.high}" + (f" or {self.names[0]} to {self.names[-1]}" if self.names else "")


_FIELDS = (
    _Field("minute", 0, 59),
    _Field("hour", 0, 23),
    _Field("day of the month", 1, 31, circular=False),
    _Field("month", 1, 12, _MONTHS),
    _Field("weekday", 0, 7, _DAYS),
)
_MINUTE, _HOUR, _DAY, _MONTH, _WEEKDAY = _FIELDS


@dataclass(frozen=True)
class Cron:
    """A readable expression. `expression` is its plain form with five fields, `text` what was written."""

    text: str
    expression: str

    @classmethod
    def parse(cls, text: str) -> Cron:
        """Read an expression. Raises InvalidInput for the field `schedule`, saying what is wrong and what to write."""
        if not isinstance(text, str):
            raise _refuse("The schedule must be text.", EXAMPLE)
        return _parse(text)

    def next(self, after: datetime, zone: ZoneInfo) -> datetime | None:
        """Return the first time strictly after `after` (aware), in UTC; None when none comes in 50 years."""
        return next(self._times(after, zone), None)

    def runs(self, after: datetime, zone: ZoneInfo, n: int) -> list[datetime]:
        """Return the next `n` times strictly after `after`, in UTC."""
        times = self._times(after, zone)
        return [moment for _, moment in zip(range(n), times, strict=False)]

    def between(self, start: datetime, end: datetime, zone: ZoneInfo, limit: int) -> list[datetime]:
        """Return the times in [start, end), oldest first, at most `limit`, in UTC."""
        found: list[datetime] = []
        end = end.astimezone(UTC)
        for moment in self._times(start - timedelta(microseconds=1), zone):
            if moment >= end or len(found) >= limit:
                break
            found.append(moment)
        return found

    def newest(self, after: datetime, until: datetime, zone: ZoneInfo) -> datetime | None:
        """Return the last time in (after, until], in UTC, without walking through all of them."""
        after, until = after.astimezone(UTC), until.astimezone(UTC)
        for hours in (1, 24, 24 * 32, 24 * 366, 24 * 366 * 50):
            start = max(after, until - timedelta(hours=hours))
            found = None
            for moment in self._times(start, zone):
                if moment > until:
                    break
                found = moment
            if found is not None or start == after:
                return found
        return None

    def describe(self) -> str:
        """Return the expression in words: "At 18:00"."""
        return _describe(self.expression)

    @property
    def fixed(self) -> bool:
        """Whether it names its minutes and hours (neither begins with a star): then skipped times are made up for."""
        minute, hour = self.expression.split()[:2]
        return not minute.startswith("*") and not hour.startswith("*")

    def note(self, moment: datetime, zone: ZoneInfo) -> str | None:
        """Say what is special about one of its times on a day the clocks are changed; usually None."""
        local = moment.astimezone(zone)
        before = (moment - timedelta(hours=3)).astimezone(zone)
        if self.fixed and local.utcoffset() != before.utcoffset() and not self._matches_clock(local):
            return f"The clocks go forward; the time set does not exist on this day, so it runs at {local:%H:%M}."
        if local.replace(fold=0).utcoffset() != local.replace(fold=1).utcoffset():
            if self.fixed:
                return f"{local:%H:%M} comes twice on this day; it runs the first time only."
            return f"{local:%H:%M} comes twice on this day; it runs both times."
        return None

    def notes(self, zone: ZoneInfo, after: datetime, days: int = 400) -> list[str]:
        """Say which of its times within the next `days` fall into a change of the clocks, with the dates."""
        minute, hour = self.expression.split()[:2]
        if hour == "*":
            return []  # every hour: as often as there are hours
        found = []
        for change in _changes(zone, after, days):
            day, start, end = change.begins.date(), change.begins, change.ends
            wall = self._wall_times(start, end)
            if not wall:
                continue
            named = _listing([f"{moment:%H:%M}" for moment in wall])
            one = len(wall) == 1
            on = f"On {_day(day)}"
            if change.forward and self.fixed:
                found.append(
                    f"{on} the clocks skip {start:%H:%M} to {end:%H:%M}: {named} {'becomes' if one else 'become'} {end:%H:%M}."
                )
            elif change.forward:
                found.append(
                    f"{on} the clocks skip {start:%H:%M} to {end:%H:%M}: {named} {'is' if one else 'are'} left out."
                )
            elif self.fixed:
                found.append(
                    f"{on} {start:%H:%M} to {end:%H:%M} comes twice: {named} {'runs' if one else 'run'} the first time only."
                )
            else:
                found.append(
                    f"{on} {start:%H:%M} to {end:%H:%M} comes twice: {named} {'runs' if one else 'run'} both times."
                )
        return found

    # ------------------------------------------------------------ inside

    def _times(self, after: datetime, zone: ZoneInfo) -> Iterator[datetime]:
        from cronsim import CronSim

        after = after.astimezone(UTC)
        last = after
        walk = CronSim(self.expression, after.astimezone(zone))
        while True:
            try:
                moment = next(walk).astimezone(UTC)
            except (StopIteration, OverflowError):
                return
            # In the hour that comes twice cronsim answers with its first pass, even when that is over.
            if moment > last:
                last = moment
                yield moment

    def _wall_times(self, start: datetime, end: datetime) -> list[datetime]:
        """Return its times on the bare wall clock in [start, end), as if no clock were ever changed."""
        from cronsim import CronSim

        found: list[datetime] = []
        for moment in CronSim(self.expression, start - timedelta(seconds=1)):
            if moment >= end or len(found) >= 60:
                break
            found.append(moment)
        return found

    def _matches_clock(self, local: datetime) -> bool:
        wall = local.replace(tzinfo=None, second=0, microsecond=0)
        return wall in self._wall_times(wall, wall + timedelta(minutes=1))


# ---------------------------------------------------------------- reading


@lru_cache(maxsize=20_000)
def _parse(text: str) -> Cron:
    from cronsim import CronSim, CronSimError

    words = text.strip()
    if not words:
        raise _refuse("The schedule is empty.", EXAMPLE)
    if len(words) > MAX_LENGTH:
        raise _refuse(f"The schedule is longer than {MAX_LENGTH} characters.", EXAMPLE)
    if words.startswith("@"):
        words = _macro(words)
    parts = words.upper().split()
    if len(parts) != 5:
        raise _wrong_count(parts)
    expression = " ".join(_field(field, part, parts) for field, part in zip(_FIELDS, parts, strict=True))
    try:
        first = next(CronSim(expression, datetime(2024, 1, 1)), None)
    except CronSimError:
        first = None
    if first is None:
        raise _never(expression)
    return Cron(text, expression)


def _macro(words: str) -> str:
    known = MACROS.get(words.lower())
    if known is None:
        name = words.split()[0]
        why = " It has no time of its own." if name.lower() == "@reboot" else ""
        raise _refuse(f"'{name}' is not a schedule this app knows.{why}", f"Use {', '.join(MACROS)}, or five fields.")
    return known


def _wrong_count(parts: list[str]) -> InvalidInput:
    n = len(parts)
    if n < 5:
        missing = ", ".join(field.name for field in _FIELDS[n:])
        return _refuse(f"The schedule has {counted(n, 'field')}; it needs five. Missing: {missing}.", EXAMPLE)
    if n == 6 and re.fullmatch(r"(19|20)\d\d(-\d{4}|/\d+)?|\*", parts[5]) and parts[5] != "*":
        rest = " ".join(parts[:5])
        return _refuse(
            f"The sixth field ({parts[5]}) looks like a year; a schedule cannot name one.",
            f"Leave it out: {rest}. To stop at some time, switch the task off then.",
        )
    if n == 6:
        rest = " ".join(parts[1:])
        return _refuse(
            "The schedule has 6 fields; it needs five. Seconds cannot be given.",
            f"If the first field is the seconds, leave it out: {rest}",
        )
    return _refuse(f"The schedule has {n} fields; it needs five. Seconds and years cannot be given.", EXAMPLE)


def _field(field: _Field, part: str, parts: list[str]) -> str:
    """Check one field and return it in the form cronsim reads."""
    if part == "?":
        if field in (_DAY, _WEEKDAY):
            return "*"
        raise _refuse(f"'?' cannot stand in the {field.name} field.", "Write * for every one.")
    terms = part.split(",")
    if any(not term for term in terms):
        raise _refuse(
            f"The {field.name} field ({part}) has a comma with nothing beside it.",
            "Write a list as 1,2,3 without gaps.",
        )
    return ",".join(_term(field, term) for term in terms)


def _term(field: _Field, term: str) -> str:
    special = _special(field, term)
    if special is not None:
        return special
    body, slash, step_text = term.partition("/")
    step = 1
    if slash:
        if not _digits(step_text) or int(step_text) == 0:
            raise _refuse(
                f"The step in '{term}' ({field.name}) must be a number from 1.",
                "Write */5 for every fifth, for example.",
            )
        step = int(step_text)
        if step > field.high:
            raise _refuse(
                f"The step {step} is larger than the {field.name} field, so it would not mean every {step}.",
                f"Use a step of at most {field.high}, or list the times.",
            )
    if body == "*":
        return term
    start_text, dash, end_text = body.partition("-")
    start = _number(field, start_text, term)
    if not dash:
        return f"{start}/{step}" if slash else str(start)
    end = _number(field, end_text, term)
    if start == end:
        return str(start)  # cronsim would read 5-5/2 as 5/2
    if start < end:
        return f"{start}-{end}/{step}" if slash else f"{start}-{end}"
    if not field.circular:
        raise _refuse(
            f"The range {body} in the {field.name} field runs backwards.", f"Write it as two: {start}-31,1-{end}"
        )
    return ",".join(str(value) for value in _around(field, start, end)[::step])


def _around(field: _Field, start: int, end: int) -> list[int]:
    """Return the numbers of a range that passes the end of its field: 6-1 of the week is 6, 0, 1."""
    if field is _WEEKDAY:
        start, high = start % 7, 6
        if start <= end:
            return list(range(start, end + 1))
    else:
        high = field.high
    return [*range(start, high + 1), *range(field.low, end + 1)]


def _special(field: _Field, term: str) -> str | None:
    """Return L, LW, 5L and 5#2 in cronsim's form; refuse what other crons have; None for plain terms."""
    head = re.split(r"[/#-]", term)[0]
    if term == "R" or term.startswith("R(") or re.fullmatch(r"R\d*", head):
        raise _refuse(
            "'R' (a random time) is not cron.",
            "Write the time, and let the task start up to some minutes later instead.",
        )
    if re.fullmatch(r"H(\(.*\))?", head):
        raise _refuse("'H' belongs to Jenkins, not to cron.", f"Write a number: {field.usual}.")
    if "?" in term:
        raise _refuse(f"'?' cannot be part of '{term}'.", "Write * for every one.")
    if field is _DAY:
        if term in ("L", "LW"):
            return term
        if term == "WL":
            return "LW"
        if re.fullmatch(r"\d+W|W\d*", term):
            raise _refuse(
                f"'{term}' (the weekday nearest to a day) cannot be used here.",
                "Write LW for the last weekday of the month, or name the days.",
            )
        if term.startswith("L-"):
            raise _refuse(
                f"'{term}' (days before the last) cannot be used here.", "Write L for the last day, or name the days."
            )
    elif field is _WEEKDAY:
        if "#" in term:
            day, _, nth = term.partition("#")
            if not _digits(nth) or not 1 <= int(nth) <= 5:
                raise _refuse(f"'{term}': the number after # must be 1 to 5.", "Write 5#2 for the second Friday.")
            return f"{_number(field, day, term)}#{int(nth)}"
        if term == "L":
            raise _refuse(
                "'L' alone is not a weekday.", "Write 5L for the last Friday of the month, or 6 for Saturday."
            )
        last = re.fullmatch(r"([A-Z0-9]+?)L|L([A-Z0-9]+)", term)
        day = (last[1] or last[2]) if last else ""
        if _digits(day) or day in _DAYS + _LONG_DAYS:
            return f"{_number(field, day, term)}L"
    if term in ("L", "LW", "W") or re.fullmatch(r"\d+[LW]|L\d+", term):
        raise _refuse(f"'{term}' cannot stand in the {field.name} field.", f"Here {field.usual}.")
    return None


def _number(field: _Field, text: str, term: str) -> int:
    if _digits(text):
        value = int(text)
        if not field.low <= value <= field.high:
            hint = ""
            if field is _HOUR and value == 24:
                hint = " Midnight is hour 0."
            raise _refuse(f"There is no {field.name} {value}: {field.usual}.{hint}", f"Correct '{term}'.")
        return value
    for names in (_DAYS, _LONG_DAYS, _MONTHS, _LONG_MONTHS):
        if text in names:
            own = _WEEKDAY if names in (_DAYS, _LONG_DAYS) else _MONTH
            if own is not field:
                raise _refuse(
                    f"'{text}' is a {own.name} and stands in the {field.name} field.",
                    f"The order is minute, hour, day of the month, month, weekday; here {field.usual}.",
                )
            return names.index(text) + field.low
    shown = text or term
    raise _refuse(f"'{shown}' cannot be read in the {field.name} field.", f"Here {field.usual}, * or a list.")


def _never(expression: str) -> InvalidInput:
    days, months = expression.split()[2:4]
    numbers = [int(n) for n in re.findall(r"\d+", days.split("/")[0])]
    if numbers and months != "*":
        named = [int(n) for n in re.findall(r"\d+", months.split("/")[0])]
        if named and min(numbers) > max(_LONGEST_MONTH[n - 1] for n in named):
            where = _listing([_LONG_MONTHS[n - 1].capitalize() for n in named])
            return _refuse(
                f"This never happens: {where} {'has' if len(named) == 1 else 'have'} no day {min(numbers)}.",
                "Choose another day, or L for the last day of the month.",
            )
    return _refuse("This never happens: no date fits all of its fields.", "Choose other days or months.")


def _refuse(message: str, remedy: str) -> InvalidInput:
    return InvalidInput.field("schedule", message, remedy=remedy)


def _digits(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 6


# ---------------------------------------------------------------- words


@lru_cache(maxsize=5_000)
def _describe(expression: str) -> str:
    from cron_descriptor import CasingTypeEnum, DescriptionTypeEnum, ExpressionDescriptor, Options
    from cron_descriptor.Exception import FormatError, MissingFieldError
    from cronsim import CronSim

    minute, hour, day, month, weekday = expression.split()
    either = not day.startswith("*") and not weekday.startswith("*")
    if weekday.startswith("*/"):  # "every 2 days of the week" would leave open where it begins
        numbers = CronSim(expression, datetime(2024, 1, 1)).weekdays
        weekday = ",".join(str(n) for n in sorted({int(n) % 7 for n in numbers if not isinstance(n, tuple)}))
    parts = (minute, hour, day, month, weekday)
    if any("," in part and re.search(r"[L#/]", part) for part in parts):  # lists it reads wrongly: 1,L and 3,*/7
        return CronSim(expression, datetime(2024, 1, 1)).explain()
    options = Options()
    options.use_24hour_time_format = True
    options.day_of_week_start_index_zero = True
    options.casing_type = CasingTypeEnum.Sentence
    try:
        text = ExpressionDescriptor(" ".join(parts), options).get_description(DescriptionTypeEnum.FULL)
    except (FormatError, MissingFieldError, ValueError, IndexError, KeyError):  # a rare form it does not know
        return CronSim(expression, datetime(2024, 1, 1)).explain()
    if not either and day != "*" and weekday != "*":
        text = text.replace(", or on ", ", and only on ")
    return text


def _day(day: date) -> str:
    return f"{day.day} {_LONG_MONTHS[day.month - 1].capitalize()} {day.year}"


def _listing(words: list[str]) -> str:
    if len(words) > 4:
        return f"{', '.join(words[:3])} and {len(words) - 3} more"
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


# ---------------------------------------------------------------- zones


@dataclass(frozen=True)
class _Change:
    """A change of the clocks: wall times [begins, ends) are skipped (forward) or come twice."""

    begins: datetime
    ends: datetime
    forward: bool


def _changes(zone: ZoneInfo, after: datetime, days: int) -> list[_Change]:
    """Return the changes of the clocks within `days` after a moment, oldest first."""
    found = []
    start = after.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    offset = start.astimezone(zone).utcoffset() or timedelta()
    for n in range(1, days + 1):
        moment = start + timedelta(days=n)
        new = moment.astimezone(zone).utcoffset() or timedelta()
        if new != offset:
            low, high = moment - timedelta(days=1), moment
            while high - low > timedelta(minutes=1):
                middle = low + (high - low) / 2
                if (middle.astimezone(zone).utcoffset() or timedelta()) == offset:
                    low = middle
                else:
                    high = middle
            instant = high.replace(second=0, microsecond=0)
            before, past = (instant + offset).replace(tzinfo=None), (instant + new).replace(tzinfo=None)
            found.append(_Change(min(before, past), max(before, past), new > offset))
            offset = new
    return found


def zone_of(name: str, field: str = "timezone") -> ZoneInfo:
    """Return the IANA zone of that name. Raises InvalidInput naming the nearest ones there are."""
    try:
        return _zone(name)
    except (KeyError, ValueError, OSError):
        pass
    near = nearest_zones(name)
    raise InvalidInput.field(
        field,
        f"There is no time zone called '{name[:60]}'.",
        remedy=f"Did you mean {' or '.join(near)}?" if near else "Use a name such as Europe/Berlin or UTC.",
    )


@lru_cache(maxsize=1000)
def _zone(name: str) -> ZoneInfo:
    if not name or len(name) > 100 or name not in _names():
        raise ValueError(name)
    return ZoneInfo(name)


@lru_cache(maxsize=1)
def _names() -> frozenset[str]:
    return frozenset(available_timezones()) - {"localtime", "Factory"}


def nearest_zones(name: str, n: int = 3) -> list[str]:
    """Return the known zones whose names are closest to one that is not known."""
    wanted = name.strip().replace(" ", "_").casefold()
    if not wanted or len(wanted) > 60:
        return []
    by_key: dict[str, list[str]] = {}
    for known in sorted(_names()):
        if "/" in known or known == "UTC":
            by_key.setdefault(known.casefold(), []).append(known)
            by_key.setdefault(known.rsplit("/", 1)[-1].casefold(), []).append(known)
    found: list[str] = []
    for candidate in (wanted, wanted.rsplit("/", 1)[-1]):
        for key in difflib.get_close_matches(candidate, by_key, n=n, cutoff=0.7):
            found += [known for known in by_key[key] if known not in found]
    return found[:n]


@lru_cache(maxsize=1)
def machine_zone() -> str:
    """Return the IANA name of this computer's zone; "UTC" when it has none."""
    try:
        from tzlocal import get_localzone_name

        name = get_localzone_name() or "UTC"
        _zone(name)
        return name
    except (ImportError, KeyError, ValueError, OSError, LookupError):
        return "UTC"
