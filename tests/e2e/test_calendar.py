"""The calendar: views, dragging, refusing, composing in an empty slot, rules."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from tests.e2e import posting
from tests.e2e.looks import rest, serious, until

expect = pytest.importorskip("playwright.sync_api").expect

BERLIN = ZoneInfo("Europe/Berlin")


def day(offset: int) -> str:
    return (datetime.now(BERLIN) + timedelta(days=offset)).strftime("%Y-%m-%d")


def at(offset: int, hour: int, minute: int = 0) -> str:
    """That time in Berlin, as UTC."""
    local = (datetime.now(BERLIN) + timedelta(days=offset)).replace(hour=hour, minute=minute, second=0, microsecond=0)
    return local.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[posting.World]:
    with posting.world(tmp_path_factory.mktemp("calendar")) as world:
        task = {
            "characterId": world.luna["id"],
            "name": "Every evening",
            "type": "generate_and_post",
            "schedule": "0 20 * * *",
            "timezone": "Europe/Berlin",
            "config": {"prompt": "a forest", "postToInstagram": True},
            "active": True,
            "dryRun": True,
        }
        world.call("POST", "/scheduler", json={"action": "add_task", "task": task})
        yield world


@pytest.fixture(scope="module")
def server(world: posting.World) -> Any:
    return world.server


def opened(page: Any, view: str, offset: int = 0, **more: str) -> None:
    query = "".join(f"&{k}={v}" for k, v in more.items())
    page.goto(f"/calendar.html?view={view}&date={day(offset)}&zone=Europe/Berlin{query}")
    expect(page.locator(".cal-body").locator("[role=grid], .cal-list, .empty-state").first).to_be_visible()


def entry(page: Any, name: str) -> Any:
    return page.locator(".cal-item").and_(page.get_by_role("button", name=re.compile(name)))


def cell(page: Any, offset: int, hour: int | None = None) -> Any:
    return page.locator(f'[data-cell="{day(offset)}{"" if hour is None else f"T{hour}"}"]')


def test_a_post_is_dragged_to_another_day_and_keeps_its_time(page: Any, world: posting.World) -> None:
    now = datetime.now(BERLIN)  # both days in one week, which a month always shows whole
    n = next(k for k in range(1, 8) if (now + timedelta(days=k)).weekday() < 5)
    post = world.post(caption="Drag me", scheduledAt=at(n, 17, 30))
    opened(page, "lanes", n)
    opened(page, "month", n)
    posting.drag(page, entry(page, "17:30, Instagram.*Drag me"), cell(page, n + 2))
    expect(page.locator(".toast")).to_contain_text("Moved to")
    expect(cell(page, n + 2).locator(".cal-item[data-movable=true]")).to_be_visible()
    assert world.get(post["id"])["scheduledAt"].startswith(at(n + 2, 17, 30)[:16])
    page.get_by_role("button", name="Undo").click()
    until(page, lambda: world.get(post["id"])["scheduledAt"].startswith(at(n, 17, 30)[:16]))
    expect(cell(page, n).locator(".cal-item[data-movable=true]")).to_be_visible()


def test_the_hour_of_the_week_and_the_past(page: Any, world: posting.World) -> None:
    post = world.post(caption="By the hour", scheduledAt=at(1, 15, 10))
    opened(page, "week", 1)
    item = entry(page, "15:10.*By the hour")
    posting.drag(page, item, cell(page, 1, 17))
    expect(entry(page, "17:10.*By the hour")).to_be_visible()
    until(page, lambda: world.get(post["id"])["scheduledAt"].startswith(at(1, 17, 10)[:16]))
    opened(page, "month")
    yesterday = cell(page, -1)
    if yesterday.count() and cell(page, 1).count():  # not on the first and the last day of what the month shows
        posting.drag(page, entry(page, "17:10.*By the hour"), yesterday)
        expect(page.locator(".toast-error")).to_contain_text("That time has passed")
    assert world.get(post["id"])["scheduledAt"].startswith(at(1, 17, 10)[:16])


def test_moving_without_a_mouse(page: Any, world: posting.World) -> None:
    post = world.post(caption="By keys", scheduledAt=at(2, 10))
    opened(page, "list")
    entry(page, "10:00.*By keys").focus()
    page.keyboard.press("m")
    dialog = page.get_by_role("dialog", name="Move this post")
    when = dialog.get_by_label("Day and time")
    when.fill(f"{day(-2)}T10:00")
    expect(dialog.get_by_role("alert")).to_contain_text("has passed")
    when.fill(f"{day(4)}T11:15")
    when.press("Enter")
    expect(dialog).to_be_hidden()
    until(page, lambda: world.get(post["id"])["scheduledAt"].startswith(at(4, 11, 15)[:16]))


def test_a_rule_cannot_be_dragged_but_left_out_once(page: Any, world: posting.World) -> None:
    opened(page, "week", 2)
    rule = page.locator(f'[data-cell="{day(2)}T20"] .cal-item.is-rule')
    expect(rule).to_be_visible()
    posting.drag(page, rule, cell(page, 2, 22))
    dialog = page.get_by_role("dialog", name="Every evening")
    expect(dialog).to_contain_text("cannot be dragged")
    expect(dialog.get_by_role("link", name="Edit rule")).to_be_visible()
    dialog.get_by_role("button", name="Skip this time").click()
    expect(dialog).to_be_hidden()
    expect(page.locator(f'[data-cell="{day(2)}T20"] .cal-item.is-rule:not(.is-off)')).to_have_count(0)
    page.get_by_role("button", name="Undo").click()
    expect(page.locator(f'[data-cell="{day(2)}T20"] .cal-item.is-rule:not(.is-off)')).to_be_visible()


def test_a_finished_post_keeps_its_time_and_offers_a_copy(page: Any, world: posting.World) -> None:
    post = world.post(caption="Over", publish="now")
    until(page, lambda: world.get(post["id"])["status"] == "dry_run")
    opened(page, "day")
    opened(page, "list")
    entry(page, "Over").focus()
    page.keyboard.press("m")
    question = page.get_by_role("dialog", name="It keeps its time")
    question.get_by_role("button", name="Plan a copy").click()
    composer = page.locator("dialog.composer")
    expect(composer.get_by_role("textbox", name="Caption")).to_have_value("Over")
    composer.get_by_role("button", name="Schedule").click()
    expect(composer).to_be_hidden()
    assert world.get(post["id"])["status"] == "dry_run"
    assert [p["caption"] for p in world.posts(status="scheduled")].count("Over") == 1


def test_an_empty_slot_makes_a_post_at_that_time(page: Any, world: posting.World) -> None:
    opened(page, "week", 5)
    cell(page, 5, 9).focus()
    page.keyboard.press("Enter")
    composer = page.locator("dialog.composer")
    expect(composer.get_by_label("When")).to_have_value(f"{day(5)}T09:00")
    page.keyboard.press("Escape")
    cell(page, 5, 11).click()
    expect(composer.get_by_label("When")).to_have_value(f"{day(5)}T11:00")
    page.keyboard.press("Escape")
    opened(page, "month")
    today = cell(page, 0)
    today.focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator("[data-cell]:focus")).to_have_attribute("data-day", day(1))


def test_keys_views_zone_and_the_address(page: Any, world: posting.World) -> None:
    opened(page, "month")
    page.keyboard.press("2")
    expect(page).to_have_url(re.compile("view=week"))
    page.keyboard.press("j")
    expect(page).to_have_url(re.compile(f"date={day(7)}"))
    page.keyboard.press("k")
    page.keyboard.press("t")
    expect(page.locator(".cal-days .is-today")).to_be_visible()
    page.go_back()
    expect(page).to_have_url(re.compile(f"date={day(7)}"))
    page.goto(f"/calendar.html?view=list&date={day(0)}&zone=UTC")
    expect(page.get_by_label("Times in")).to_have_value("UTC")
    hour = datetime.fromisoformat(at(1, 20).replace("Z", "+00:00")).hour
    expect(entry(page, f"^{hour:02d}:00, rule Every evening").first).to_be_visible()


def test_a_crowded_day_opens_as_a_whole(page: Any, world: posting.World) -> None:
    for n in range(6):
        world.post(caption=f"Crowd {n}", scheduledAt=at(6, 10 + n))
    opened(page, "month", 6)
    more = cell(page, 6).get_by_role("button", name=re.compile(r"^\+\d+ more"))
    more.click()
    expect(page).to_have_url(re.compile(f"view=day&date={day(6)}"))
    expect(page.locator(".cal-item").and_(page.get_by_role("button", name=re.compile("Crowd")))).to_have_count(6)


@pytest.mark.tools
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("view", ["month", "week", "day", "list", "lanes"])
def test_no_serious_finding(page: Any, world: posting.World, view: str, theme: str) -> None:
    page.emulate_media(color_scheme=theme, reduced_motion="reduce")
    opened(page, view, 1)
    rest(page)
    assert serious(page) == []


@pytest.mark.viewport(390, 844)
@pytest.mark.parametrize("view", ["month", "week", "day", "list", "lanes"])
def test_a_phone_shows_everything(page: Any, world: posting.World, view: str) -> None:
    opened(page, view, 1)
    rest(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


@pytest.mark.viewport(390, 844)
def test_a_phone_begins_with_the_list(page: Any, world: posting.World) -> None:
    page.goto("/calendar.html")
    expect(page.get_by_role("button", name="List", exact=True)).to_have_attribute("aria-pressed", "true")
    expect(page.locator(".cal-list .cal-item").first).to_be_visible()
