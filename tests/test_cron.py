"""Cron: the verified table of times, what is refused and how, words, and the days the clocks are changed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dalla.cron import MACROS, Cron, machine_zone, nearest_zones, zone_of
from dalla.errors import InvalidInput

BERLIN = ZoneInfo("Europe/Berlin")

# Expression, zone, base (local, exclusive), next times in UTC: as Debian's cron has them.
TABLE = """
0 9 * * 0 | Europe/Berlin | 2026-11-21T12:00 | 2026-11-22T08:00Z, 2026-11-29T08:00Z, 2026-12-06T08:00Z
0 9 * * 7 | Europe/Berlin | 2026-11-21T12:00 | 2026-11-22T08:00Z, 2026-11-29T08:00Z, 2026-12-06T08:00Z
0 9 * * 1-5 | Europe/Berlin | 2026-11-21T12:00 | 2026-11-23T08:00Z, 2026-11-24T08:00Z, 2026-11-25T08:00Z
0 9 * * 5-7 | Europe/Berlin | 2026-11-21T12:00 | 2026-11-22T08:00Z, 2026-11-27T08:00Z, 2026-11-28T08:00Z
0 9 * * */2 | Europe/Berlin | 2026-11-21T12:00 | 2026-11-22T08:00Z, 2026-11-24T08:00Z, 2026-11-26T08:00Z
*/5 * * * * | Europe/Berlin | 2026-11-21T12:00 | 2026-11-21T11:05Z, 2026-11-21T11:10Z, 2026-11-21T11:15Z
*/7 * * * * | Europe/Berlin | 2026-11-21T12:00 | 2026-11-21T11:07Z, 2026-11-21T11:14Z, 2026-11-21T11:21Z
0 9-17/2 * * * | Europe/Berlin | 2026-11-21T12:00 | 2026-11-21T12:00Z, 2026-11-21T14:00Z, 2026-11-21T16:00Z
0 9 1-7 * 1 | Europe/Berlin | 2026-11-21T12:00 | 2026-11-23T08:00Z, 2026-11-30T08:00Z, 2026-12-01T08:00Z
0 9 */2 * 1 | Europe/Berlin | 2026-11-21T12:00 | 2026-11-23T08:00Z, 2026-12-07T08:00Z, 2026-12-21T08:00Z
0 9 L * * | Europe/Berlin | 2026-11-21T12:00 | 2026-11-30T08:00Z, 2026-12-31T08:00Z, 2027-01-31T08:00Z
0 9 * * 5L | Europe/Berlin | 2026-11-21T12:00 | 2026-11-27T08:00Z, 2026-12-25T08:00Z, 2027-01-29T08:00Z
0 9 LW * * | Europe/Berlin | 2026-11-21T12:00 | 2026-11-30T08:00Z, 2026-12-31T08:00Z, 2027-01-29T08:00Z
0 0 31 * * | Europe/Berlin | 2026-11-21T12:00 | 2026-12-30T23:00Z, 2027-01-30T23:00Z, 2027-03-30T22:00Z
0 9 1,15 * * | Europe/Berlin | 2026-11-21T12:00 | 2026-12-01T08:00Z, 2026-12-15T08:00Z, 2027-01-01T08:00Z
30 2 * * * | Europe/Berlin | 2027-03-27T12:00 | 2027-03-28T01:00Z, 2027-03-29T00:30Z, 2027-03-30T00:30Z
0 3 * * * | Europe/Berlin | 2027-03-27T12:00 | 2027-03-28T01:00Z, 2027-03-29T01:00Z, 2027-03-30T01:00Z
*/30 2 * * * | Europe/Berlin | 2027-03-27T12:00 | 2027-03-29T00:00Z, 2027-03-29T00:30Z, 2027-03-30T00:00Z, 2027-03-30T00:30Z
0 * * * * | Europe/Berlin | 2027-03-28T00:30 | 2027-03-28T00:00Z, 2027-03-28T01:00Z, 2027-03-28T02:00Z, 2027-03-28T03:00Z
0 */2 * * * | Europe/Berlin | 2027-03-28T00:30 | 2027-03-28T02:00Z, 2027-03-28T04:00Z, 2027-03-28T06:00Z, 2027-03-28T08:00Z
0 2 * * * | Europe/Berlin | 2027-10-30T12:00 | 2027-10-31T00:00Z, 2027-11-01T01:00Z, 2027-11-02T01:00Z
*/30 2 * * * | Europe/Berlin | 2027-10-30T12:00 | 2027-10-31T00:00Z, 2027-10-31T00:30Z, 2027-10-31T01:00Z, 2027-10-31T01:30Z
0 9 * * * | Europe/Berlin | 2027-10-30T12:00 | 2027-10-31T08:00Z, 2027-11-01T08:00Z, 2027-11-02T08:00Z
0 * * * * | Europe/Berlin | 2027-10-31T00:30 | 2027-10-30T23:00Z, 2027-10-31T00:00Z, 2027-10-31T01:00Z, 2027-10-31T02:00Z
*/30 2 * * * | America/New_York | 2027-03-13T12:00 | 2027-03-15T06:00Z, 2027-03-15T06:30Z, 2027-03-16T06:00Z, 2027-03-16T06:30Z
0 3 * * * | America/New_York | 2027-03-13T12:00 | 2027-03-14T07:00Z, 2027-03-15T07:00Z, 2027-03-16T07:00Z
0 1 * * * | America/New_York | 2027-11-06T12:00 | 2027-11-07T05:00Z, 2027-11-08T06:00Z, 2027-11-09T06:00Z
*/30 1 * * * | America/New_York | 2027-11-06T12:00 | 2027-11-07T05:00Z, 2027-11-07T05:30Z, 2027-11-07T06:00Z, 2027-11-07T06:30Z
0 * * * * | America/New_York | 2027-11-07T00:30 | 2027-11-07T05:00Z, 2027-11-07T06:00Z, 2027-11-07T07:00Z, 2027-11-07T08:00Z
0 9 * * 1 | UTC | 2026-11-21T12:00 | 2026-11-23T09:00Z, 2026-11-30T09:00Z, 2026-12-07T09:00Z
0 0 * * * | Australia/Lord_Howe | 2027-04-03T12:00 | 2027-04-03T13:00Z, 2027-04-04T13:30Z, 2027-04-05T13:30Z
"""
ROWS = [tuple(cell.strip() for cell in line.split("|")) for line in TABLE.strip().splitlines()]


def short(moment: datetime) -> str:
    assert moment.tzinfo is UTC
    return moment.strftime("%Y-%m-%dT%H:%MZ")


@pytest.mark.parametrize("expression, zone, base, expected", ROWS, ids=[f"{r[0]} {r[1]} {r[2]}" for r in ROWS])
def test_the_table(expression, zone, base, expected):
    zone = ZoneInfo(zone)
    start = datetime.fromisoformat(base).replace(tzinfo=zone)
    wanted = expected.split(", ")
    cron = Cron.parse(expression)
    assert [short(moment) for moment in cron.runs(start, zone, len(wanted))] == wanted
    # One by one, each from the last: as the scheduler asks, in UTC.
    found, after = [], start.astimezone(UTC)
    for _ in wanted:
        after = cron.next(after, zone)
        found.append(short(after))
    assert found == wanted


REFUSED = [
    ("", "empty"),
    ("   ", "empty"),
    ("* * * *", "4 fields; it needs five. Missing: weekday"),
    ("*", "1 field; it needs five"),
    ("0 0 9 * * 1", "6 fields; it needs five. Seconds cannot be given"),
    ("0 9 * * 1 2027", "looks like a year"),
    ("0 0 9 * * 1 2027", "7 fields"),
    ("60 9 * * *", "There is no minute 60: use 0 to 59"),
    ("0 24 * * *", "There is no hour 24: use 0 to 23. Midnight is hour 0"),
    ("0 9 0 * *", "There is no day of the month 0: use 1 to 31"),
    ("0 9 32 * *", "There is no day of the month 32"),
    ("0 9 * 0 *", "There is no month 0: use 1 to 12 or JAN to DEC"),
    ("0 9 * 13 *", "There is no month 13"),
    ("0 9 * * 8", "There is no weekday 8: use 0 to 7 or SUN to SAT"),
    ("0 0 30 2 *", "February has no day 30"),
    ("0 0 31 4,6 *", "April and June have no day 31"),
    ("R 9 * * *", "'R' (a random time)"),
    ("R(0-5) 9 * * *", "'R' (a random time)"),
    ("H 9 * * *", "'H' belongs to Jenkins"),
    ("H/15 9 * * *", "'H' belongs to Jenkins"),
    ("? 9 * * *", "'?' cannot stand in the minute field"),
    ("0 9 15W * *", "'15W' (the weekday nearest to a day)"),
    ("0 9 L-3 * *", "'L-3' (days before the last)"),
    ("0 9 * * L", "'L' alone is not a weekday"),
    ("0 L * * *", "cannot stand in the hour field"),
    ("0 9 * * 1#6", "must be 1 to 5"),
    ("*/0 * * * *", "must be a number from 1"),
    ("*/x * * * *", "must be a number from 1"),
    ("*/90 * * * *", "The step 90 is larger than the minute field"),
    ("1,,2 * * * *", "a comma with nothing beside it"),
    ("1, * * * *", "a comma with nothing beside it"),
    ("-1 * * * *", "cannot be read in the minute field"),
    ("1-2-3 * * * *", "cannot be read"),
    ("0 9 30-2 * *", "runs backwards"),
    ("0 9 MON * *", "'MON' is a weekday and stands in the day of the month field"),
    ("0 9 * * JAN", "'JAN' is a month and stands in the weekday field"),
    ("0 9 * * FUNDAY", "'FUNDAY' cannot be read in the weekday field"),
    ("every day at nine o'clock", "cannot be read"),
    ("@reboot", "'@reboot' is not a schedule"),
    ("@every 5m", "'@every' is not a schedule"),
    ("٣ 9 * * *", "cannot be read in the minute field"),
    ("9" * 300 + " * * * *", "longer than 200"),
]


@pytest.mark.parametrize("text, says", REFUSED)
def test_what_is_not_cron_is_refused_with_a_reason_and_a_remedy(text, says):
    with pytest.raises(InvalidInput) as caught:
        Cron.parse(text)
    assert says in caught.value.detail
    assert caught.value.errors == [{"field": "schedule", "message": caught.value.detail}]
    assert caught.value.remedy


def test_what_is_no_text_is_refused():
    with pytest.raises(InvalidInput, match="must be text"):
        Cron.parse(None)


@pytest.mark.parametrize(
    "text, expression",
    [
        ("0 9 * * 6-1", "0 9 * * 6,0,1"),
        ("0 9 * * sat-mon", "0 9 * * 6,0,1"),
        ("0 9 * * 7-2", "0 9 * * 0,1,2"),
        ("0 9 * * fri-mon/2", "0 9 * * 5,0"),
        ("0 9 ? * 1", "0 9 * * 1"),
        ("0 9 1 * ?", "0 9 1 * *"),
        ("5-5/2 9 * * *", "5 9 * * *"),
        ("0 22-2 * * *", "0 22,23,0,1,2 * * *"),
        ("0 9 * nov-feb *", "0 9 * 11,12,1,2 *"),
        ("0 9 * JAN Monday", "0 9 * 1 1"),
        ("0 9 * * friL", "0 9 * * 5L"),
        ("0 9 * * L5", "0 9 * * 5L"),
        ("0 9 * * tue#2", "0 9 * * 2#2"),
        ("0 9 WL * *", "0 9 LW * *"),
        ("  00   09 * * 1-5  ", "0 9 * * 1-5"),
        *MACROS.items(),
        ("@DAILY", "0 0 * * *"),
    ],
)
def test_friendly_forms_are_read(text, expression):
    assert Cron.parse(text).expression == expression


@pytest.mark.parametrize(
    "text, words",
    [
        ("0 18 * * *", "At 18:00"),
        ("0 9 * * 0", "At 09:00, only on Sunday"),
        ("0 9 * * 7", "At 09:00, only on Sunday"),
        ("0 9 * * 1", "At 09:00, only on Monday"),
        ("0 9 * * 1-5", "At 09:00, Monday through Friday"),
        ("0 9 * * 5-7", "At 09:00, Friday through Sunday"),
        ("0 9 * * */2", "At 09:00, only on Sunday, Tuesday, Thursday, and Saturday"),
        ("0 9 1-7 * 1", "At 09:00, between day 1 and 7 of the month, or on Monday"),
        ("0 9 */2 * 1", "At 09:00, every 2 days, and only on Monday"),
        ("0 9 L * *", "At 09:00, on the last day of the month"),
        ("0 9 LW * *", "At 09:00, on the last weekday of the month"),
        ("0 9 * * 5L", "At 09:00, on the last Friday of the month"),
        ("0 9 * * 5#2", "At 09:00, on the second Friday of the month"),
        ("*/5 * * * *", "Every 5 minutes"),
        ("@hourly", "Every hour"),
        ("0 9 1,L * *", "At 09:00 on the first and the last day of month"),
    ],
)
def test_words(text, words):
    assert Cron.parse(text).describe() == words


def test_notes_name_the_days_the_clocks_change():
    now = datetime(2026, 11, 21, 12, tzinfo=UTC)
    assert Cron.parse("30 2 * * *").notes(BERLIN, now) == [
        "On 28 March 2027 the clocks skip 02:00 to 03:00: 02:30 becomes 03:00.",
        "On 31 October 2027 02:00 to 03:00 comes twice: 02:30 runs the first time only.",
    ]
    assert Cron.parse("*/30 2 * * *").notes(BERLIN, now) == [
        "On 28 March 2027 the clocks skip 02:00 to 03:00: 02:00 and 02:30 are left out.",
        "On 31 October 2027 02:00 to 03:00 comes twice: 02:00 and 02:30 run both times.",
    ]
    assert Cron.parse("0 18 * * *").notes(BERLIN, now) == []
    assert Cron.parse("30 2 * * *").notes(ZoneInfo("UTC"), now) == []
    assert Cron.parse("*/5 * * * *").notes(BERLIN, now) == []
    assert Cron.parse("45 1 * * *").notes(ZoneInfo("Australia/Lord_Howe"), now) == [
        "On 4 April 2027 01:30 to 02:00 comes twice: 01:45 runs the first time only."
    ]
    # On a Monday only: neither of the two Sundays is meant.
    assert Cron.parse("30 2 * * 1").notes(BERLIN, now) == []


def test_a_run_that_is_moved_or_doubled_says_so():
    fixed, steps = Cron.parse("30 2 * * *"), Cron.parse("*/30 2 * * *")
    gap = fixed.next(datetime(2027, 3, 27, 12, tzinfo=UTC), BERLIN)
    assert short(gap) == "2027-03-28T01:00Z" and "runs at 03:00" in fixed.note(gap, BERLIN)
    twice = fixed.next(datetime(2027, 10, 30, 12, tzinfo=UTC), BERLIN)
    assert short(twice) == "2027-10-31T00:30Z" and "first time only" in fixed.note(twice, BERLIN)
    assert "both times" in steps.note(twice, BERLIN)
    assert fixed.note(datetime(2027, 5, 1, 0, 30, tzinfo=UTC), BERLIN) is None
    # 03:00 itself exists on that day.
    assert Cron.parse("0 3 * * *").note(gap, BERLIN) is None


def test_several_times_in_the_gap_become_one():
    cron = Cron.parse("15,45 2 * * *")
    runs = cron.runs(datetime(2027, 3, 27, 12, tzinfo=UTC), BERLIN, 3)
    assert [short(moment) for moment in runs] == ["2027-03-28T01:00Z", "2027-03-29T00:15Z", "2027-03-29T00:45Z"]


def test_the_second_pass_of_a_doubled_hour_never_goes_back():
    """Asked amid the second 02:xx, the answer is not the first 02:45, which is over."""
    cron = Cron.parse("45 2 * * *")
    assert short(cron.next(datetime(2027, 10, 31, 1, 10, tzinfo=UTC), BERLIN)) == "2027-11-01T01:45Z"


def test_between_counts_both_ends_right_and_stops_at_the_limit():
    cron = Cron.parse("0 * * * *")
    start, end = datetime(2026, 5, 1, 10, tzinfo=UTC), datetime(2026, 5, 1, 13, tzinfo=UTC)
    assert [moment.hour for moment in cron.between(start, end, BERLIN, 100)] == [10, 11, 12]
    assert [moment.hour for moment in cron.between(start, end, BERLIN, 2)] == [10, 11]
    assert cron.between(end, start, BERLIN, 10) == []


def test_newest_finds_the_last_time_of_a_long_gap():
    now = datetime(2026, 5, 20, 12, 0, 30, tzinfo=UTC)
    long_ago = now - timedelta(days=300)
    assert short(Cron.parse("* * * * *").newest(long_ago, now, BERLIN)) == "2026-05-20T12:00Z"
    assert short(Cron.parse("0 9 * * *").newest(long_ago, now, ZoneInfo("UTC"))) == "2026-05-20T09:00Z"
    assert short(Cron.parse("0 9 1 1 *").newest(long_ago, now, ZoneInfo("UTC"))) == "2026-01-01T09:00Z"
    assert Cron.parse("0 9 1 1 *").newest(now - timedelta(days=10), now, ZoneInfo("UTC")) is None
    exactly = datetime(2026, 5, 20, 9, tzinfo=UTC)
    assert Cron.parse("0 9 * * *").newest(exactly - timedelta(days=1), exactly, ZoneInfo("UTC")) == exactly
    assert Cron.parse("0 9 * * *").newest(exactly, exactly + timedelta(hours=1), ZoneInfo("UTC")) is None


def test_rare_dates_are_found():
    leap = Cron.parse("0 0 29 2 *")
    assert short(leap.next(datetime(2026, 1, 1, tzinfo=UTC), ZoneInfo("UTC"))) == "2028-02-29T00:00Z"
    assert Cron.parse("0 0 * 2 MON#5").next(datetime(2026, 1, 1, tzinfo=UTC), ZoneInfo("UTC")).year == 2044


# ---------------------------------------------------------------- zones


def test_zones_are_found_or_the_nearest_are_named():
    assert zone_of("Europe/Berlin").key == "Europe/Berlin"
    with pytest.raises(InvalidInput) as caught:
        zone_of("Europe/Berln")
    assert caught.value.errors[0]["field"] == "timezone" and "Europe/Berlin" in caught.value.remedy
    assert nearest_zones("berlin") == ["Europe/Berlin"]
    assert nearest_zones("New York") == ["America/New_York"]
    for nonsense in ("", "Mars/Olympus Mons", "../../etc/passwd", "x" * 500, "localtime"):
        with pytest.raises(InvalidInput) as caught:
            zone_of(nonsense)
        assert caught.value.remedy
    assert zone_of(machine_zone()) is not None


# ---------------------------------------------------------------- for every expression


def field(low: int, high: int) -> st.SearchStrategy[str]:
    number = st.integers(low, high)
    span = st.tuples(number, number).map(lambda pair: f"{min(pair)}-{max(pair)}")
    return st.one_of(
        st.just("*"),
        number.map(str),
        span,
        st.lists(number, min_size=1, max_size=4).map(lambda many: ",".join(map(str, many))),
        st.integers(1, high).map(lambda step: f"*/{step}"),
        st.tuples(span, st.integers(1, max(1, high // 2))).map(lambda pair: f"{pair[0]}/{pair[1]}"),
    )


def meant(part: str, low: int, high: int) -> set[int]:
    found: set[int] = set()
    for term in part.split(","):
        body, _, step = term.partition("/")
        start, _, end = body.partition("-")
        first, last = (low, high) if body == "*" else (int(start), int(end or start))
        found |= set(range(first, last + 1, int(step or 1)))
    return found


@settings(max_examples=200, deadline=None)
@given(
    minute=field(0, 59),
    hour=field(0, 23),
    day=field(1, 28),
    month=field(1, 12),
    weekday=field(0, 6),
    zone=st.sampled_from(["Europe/Berlin", "America/New_York", "UTC", "Australia/Lord_Howe", "Asia/Kathmandu"]),
    seconds=st.integers(0, 3 * 366 * 86400),
)
def test_the_next_time_is_later_and_fits_every_field(minute, hour, day, month, weekday, zone, seconds):
    cron = Cron.parse(f"{minute} {hour} {day} {month} {weekday}")
    zone = ZoneInfo(zone)
    assert cron.describe() and Cron.parse(cron.expression).expression == cron.expression
    after = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
    moments = cron.runs(after, zone, 3)
    if not moments:  # e.g. only the 29th day's Mondays of a month: rarer than 50 years
        return
    assert after < moments[0] and moments == sorted(set(moments))
    assert cron.next(after, zone) == moments[0]
    for moment in moments:
        local = moment.astimezone(zone)
        on_day = local.day in meant(day, 1, 31)
        on_weekday = local.isoweekday() % 7 in {n % 7 for n in meant(weekday, 0, 7)}
        both = day.startswith("*") or weekday.startswith("*")
        shifted = local.utcoffset() != (moment - timedelta(hours=3)).astimezone(zone).utcoffset()
        if shifted:
            continue  # on a night the clocks change, a fixed time may be made up for
        assert local.minute in meant(minute, 0, 59) and local.hour in meant(hour, 0, 23) and local.second == 0
        assert local.month in meant(month, 1, 12)
        assert (on_day and on_weekday) if both else (on_day or on_weekday)
    assert cron.newest(after, moments[-1], zone) == moments[-1]
