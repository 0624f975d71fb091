"""The calendar: which posts and occurrences belong into a span, and where they stand in a zone."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dalla.errors import InvalidInput
from dalla.services.calendar import Calendar
from tests.conftest import make_settings
from tests.services.posts_kit import Desk


class Rules:
    """Occurrences a test put there."""

    def __init__(self) -> None:
        self.coming: list[Any] = []
        self.asked: list[tuple[datetime, datetime]] = []

    def occurrences(self, start, end, character_id=None, limit=0):
        self.asked.append((start, end))
        return [o for o in self.coming if character_id in (None, o.character_id)]

    def add(self, at: str, slot: str | None = None, **more: Any) -> None:
        values = {
            "task_id": "task_1",
            "task_type": "generate_and_post",
            "name": "Evenings",
            "character_id": None,
            "platforms": ["instagram"],
            "dry_run": False,
            "active": True,
            "skipped": False,
            "note": None,
        }
        self.coming.append(SimpleNamespace(at=at, slot=slot or at, **{**values, **more}))


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path, make_settings(tmp_path, DALLA_TIMEZONE="Europe/Berlin"))
    desk.now = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
    yield desk
    desk.close()


@pytest.fixture
def rules() -> Rules:
    return Rules()


@pytest.fixture
def calendar(desk, rules):
    return Calendar(desk.settings, desk.posts, rules, desk.characters)


def kinds(answer):
    return [(item["type"], item["at"][:16]) for item in answer["items"]]


def test_in_order_of_time_with_local_times(desk, rules, calendar):
    rules.add("2026-11-25T17:00:00.000Z", character_id=desk.luna.id)
    desk.draft(scheduled_at="2026-11-25T18:00:00Z", status="scheduled")
    desk.draft(scheduled_at="2026-11-24T08:00:00Z", caption="two")
    answer = calendar.entries(start="2026-11-24", end="2026-11-30")
    assert kinds(answer) == [
        ("post", "2026-11-24T08:00"),
        ("occurrence", "2026-11-25T17:00"),
        ("post", "2026-11-25T18:00"),
    ]
    assert [item["local"] for item in answer["items"]] == [
        "2026-11-24T09:00:00+01:00",
        "2026-11-25T18:00:00+01:00",
        "2026-11-25T19:00:00+01:00",
    ]
    assert answer["items"][1]["characterName"] == "Luna" and answer["items"][1]["taskId"] == "task_1"
    assert answer["items"][2]["post"]["status"] == "scheduled"


def test_a_slot_that_has_its_post_is_not_shown_twice(desk, rules, calendar):
    slot = "2026-11-25T17:00:00.000Z"
    rules.add("2026-11-25T17:04:00.000Z", slot)
    rules.add("2026-11-26T17:04:00.000Z", "2026-11-26T17:00:00.000Z")
    desk.draft(source="task", task_id="task_1", slot=slot, scheduled_at="2026-11-25T17:04:00Z", status="scheduled")
    answer = calendar.entries(start="2026-11-24", end="2026-11-30")
    assert kinds(answer) == [("post", "2026-11-25T17:04"), ("occurrence", "2026-11-26T17:04")]


def test_days_are_days_of_the_zone_and_the_last_one_counts(desk, rules, calendar):
    desk.draft(scheduled_at="2026-11-29T23:30:00Z", status="scheduled")  # the 30th in Berlin
    assert kinds(calendar.entries(start="2026-11-30", end="2026-11-30")) == [("post", "2026-11-29T23:30")]
    assert kinds(calendar.entries(start="2026-11-30", end="2026-11-30", zone="UTC")) == []
    answer = calendar.entries(start="2026-11-30", end="2026-11-30", zone="America/New_York")
    assert (answer["from"], answer["to"]) == ("2026-11-30T05:00:00.000Z", "2026-12-01T05:00:00.000Z")
    assert rules.asked[-1] == (datetime(2026, 11, 30, 5, tzinfo=UTC), datetime(2026, 12, 1, 5, tzinfo=UTC))


def test_a_day_of_a_clock_change_has_its_true_length(calendar):
    answer = calendar.entries(start="2027-03-28", end="2027-03-28")
    assert (answer["from"], answer["to"]) == ("2027-03-27T23:00:00.000Z", "2027-03-28T22:00:00.000Z")


def test_left_out_it_is_the_month_of_today(desk, calendar):
    answer = calendar.entries(now=datetime(2026, 12, 31, 23, 30, tzinfo=UTC))  # January in Berlin
    assert (answer["from"], answer["to"]) == ("2026-12-31T23:00:00.000Z", "2027-01-31T23:00:00.000Z")


def test_of_one_character_in_its_zone(desk, rules, calendar):
    tokyo = desk.character("Tokyo", timezone="Asia/Tokyo")
    rules.add("2026-11-25T17:00:00.000Z", character_id=desk.luna.id)
    desk.draft(scheduled_at="2026-11-25T18:00:00Z", status="scheduled")
    desk.draft(character_id=tokyo.id, scheduled_at="2026-11-25T19:00:00Z", status="scheduled")
    answer = calendar.entries(start="2026-11-24", end="2026-11-30", character_id=tokyo.id)
    assert answer["zone"] == "Asia/Tokyo" and kinds(answer) == [("post", "2026-11-25T19:00")]


def test_drafts_without_a_time_stand_nowhere(desk, calendar):
    desk.draft()
    desk.posts.cancel(desk.draft(caption="gone").id)
    made = desk.put(desk.draft(caption="at once"), "published")
    today = made.created_at[:10]
    [item] = calendar.entries(start=today, end=today, zone="UTC")["items"]
    assert item["post"]["id"] == made.id


@pytest.mark.parametrize(
    ("start", "end", "field"),
    [
        ("2026-11-01", "2028-01-01", "to"),
        ("2026-11-02T00:00:00Z", "2026-11-01T00:00:00Z", "to"),
        ("soon", None, "from"),
        ("2026-11-01", "2026-13-01", "to"),
        ("9999-12-31", None, "from"),
    ],
)
def test_spans_that_make_no_sense(calendar, start, end, field):
    with pytest.raises(InvalidInput) as caught:
        calendar.entries(start=start, end=end)
    assert caught.value.errors[0]["field"] == field
