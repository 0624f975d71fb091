"""The Content page: what needs somebody and the button that mends it, the approve queue, settling, several at once."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e import posting
from tests.e2e.looks import rest, serious, until

expect = pytest.importorskip("playwright.sync_api").expect


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[posting.World]:
    with posting.world(tmp_path_factory.mktemp("content")) as world:
        yield world


@pytest.fixture(scope="module")
def server(world: posting.World) -> Any:
    return world.server


def row(page: Any, text: str) -> Any:
    return page.locator(".ct-row").filter(has_text=text)


def test_an_empty_page_offers_the_first_post(page: Any, world: posting.World) -> None:
    page.goto("/content.html?tab=all")
    expect(page.get_by_text("No posts yet")).to_be_visible()
    page.locator(".empty-state").get_by_role("button", name="New post").click()
    expect(page.locator("dialog.composer")).to_be_visible()
    expect(page).to_have_url(re.compile("compose=1"))
    page.keyboard.press("Escape")
    expect(page).not_to_have_url(re.compile("compose=1"))
    page.goto("/content.html?tab=outbox")
    expect(page.get_by_text("The outbox is empty")).to_be_visible()


def test_a_failed_post_says_why_and_is_mended(page: Any, world: posting.World) -> None:
    world.x.credits = 0.0
    x = {"characterId": world.luna["id"], "platform": "twitter", "mediaIds": world.pictures[:1]}
    post = world.post(**x, caption="Out of credits", publish="now")
    until(page, lambda: world.get(post["id"])["status"] == "failed")
    page.goto("/content.html")
    failed = row(page, "Out of credits")
    expect(failed.locator(".badge").first).to_have_text("Failed")
    expect(failed.locator(".ct-trouble")).to_contain_text("credit")
    expect(failed.get_by_role("link", name="Open connections")).to_be_visible()

    failed.get_by_role("button", name=re.compile("^Open: X")).click()
    dialog = page.get_by_role("dialog", name="Luna on X")
    expect(dialog.get_by_text(re.compile("Log: "))).to_be_visible()
    expect(dialog.locator(".pd-log li.is-bad").first).to_be_visible()
    expect(page).to_have_url(re.compile(f"post={post['id']}"))
    page.go_back()
    expect(dialog).to_be_hidden()

    world.x.credits = 100.0
    account = {"characterId": world.luna["id"]}
    world.call("POST", "/platforms/twitter/close-breaker", json=account)
    failed.get_by_role("button", name="Try again").click()
    until(page, lambda: world.get(post["id"])["status"] == "published")
    expect(failed).to_be_hidden()  # it went to another tab by itself
    page.get_by_role("tab", name="Published").click()
    expect(row(page, "Out of credits").get_by_role("link", name="Open on X")).to_be_visible()


def test_an_unconfirmed_post_is_settled_with_a_link(page: Any, world: posting.World) -> None:
    post = world.post(caption="Nobody knows", publish="draft")
    world.set(post["id"], status="unconfirmed", error={"detail": "Instagram did not answer."})
    page.goto("/content.html?tab=needs")
    row(page, "Nobody knows").get_by_role("button", name="Settle…").click()
    dialog = page.get_by_role("dialog", name="Is it on Instagram?")
    dialog.get_by_role("button", name="It is on Instagram").click()
    expect(dialog.get_by_role("alert")).to_contain_text("Paste the link")
    dialog.get_by_label("Link or id of the post").fill("https://www.instagram.com/p/abc123/")
    dialog.get_by_role("button", name="It is on Instagram").click()
    expect(dialog).to_be_hidden()
    until(page, lambda: world.get(post["id"])["status"] == "published")
    assert world.get(post["id"])["permalink"] == "https://www.instagram.com/p/abc123/"


def test_the_approve_queue_by_keyboard(page: Any, world: posting.World) -> None:
    made = [world.post(caption=f"Waits {n}", publish="draft", scheduledAt=posting.hours(n + 2)) for n in range(3)]
    for post in made:
        world.set(post["id"], hold="approval", hold_reason="Made by a rule.")
    page.goto("/content.html?tab=needs")
    expect(page.locator(".ct-row")).to_have_count(3)
    page.keyboard.press("j")
    current = page.locator(".ct-row.is-current")
    first = current.get_attribute("data-id")
    page.keyboard.press("a")
    expect(page.locator(".ct-row")).to_have_count(2)
    assert world.get(first)["status"] == "scheduled"
    second = current.get_attribute("data-id")
    assert second != first
    page.keyboard.press("e")
    dialog = page.locator("dialog.composer")
    dialog.get_by_role("textbox", name="Caption").fill("Mended words")
    dialog.get_by_role("button", name="Save draft").click()
    expect(row(page, "Mended words")).to_be_visible()
    assert world.get(second)["caption"] == "Mended words"
    row(page, "Mended words").locator("[data-focus-row]").focus()
    page.keyboard.press("x")
    expect(page.locator(".ct-row")).to_have_count(1)
    assert world.get(second)["status"] == "cancelled"
    page.keyboard.press("a")  # the last one took its place
    expect(page.locator(".ct-row")).to_have_count(0)


def test_the_keyboard_keeps_its_place_when_somebody_else_takes_the_row(page: Any, world: posting.World) -> None:
    made = [world.post(caption=f"Shared {n}", publish="draft", scheduledAt=posting.hours(n + 2)) for n in range(3)]
    for post in made:
        world.set(post["id"], hold="approval", hold_reason="Made by a rule.")
    page.goto("/content.html?tab=needs")
    expect(page.locator(".ct-row")).to_have_count(3)
    ids = page.locator(".ct-row").evaluate_all("rows => rows.map((r) => r.dataset.id)")
    page.keyboard.press("j")
    page.keyboard.press("j")
    current = page.locator(".ct-row.is-current")
    for gone, heir in ((ids[1], ids[2]), (ids[2], ids[0])):  # the row below takes its place, at the end the one above
        expect(current).to_have_attribute("data-id", gone)
        world.call("POST", f"/posts/{gone}/approve")
        expect(current).to_have_attribute("data-id", heir)
        expect(current.locator("[data-focus-row]")).to_be_focused()
    page.keyboard.press("a")
    expect(page.locator(".ct-row")).to_have_count(0)
    assert {world.get(post["id"])["status"] for post in made} == {"scheduled"}


def test_a_key_that_is_pressed_again_waits_for_the_answer(page: Any, world: posting.World) -> None:
    made = [world.post(caption=f"Slow {n}", publish="draft", scheduledAt=posting.hours(n + 2)) for n in range(3)]
    for post in made:
        world.set(post["id"], hold="approval", hold_reason="Made by a rule.")
    held: list[Any] = []
    page.route("**/api/posts/*/approve", lambda route: held.append(route))
    page.goto("/content.html?tab=needs")
    expect(page.locator(".ct-row")).to_have_count(3)
    ids = page.locator(".ct-row").evaluate_all("rows => rows.map((r) => r.dataset.id)")
    current = page.locator(".ct-row.is-current")
    for key in ("j", "a", "a", "j"):
        page.keyboard.press(key)
    until(page, lambda: held)
    held[0].continue_()
    expect(page.locator(".ct-row")).to_have_count(2)
    expect(current).to_have_attribute("data-id", ids[1])
    assert len(held) == 1
    page.unroute("**/api/posts/*/approve")

    # on a tab where the post stays, the keyboard stays where it went meanwhile
    page.route("**/api/posts/*/cancel", lambda route: held.append(route))
    page.goto("/content.html?tab=all")
    slow = page.locator(".ct-row").filter(has_text="Slow")
    expect(slow).to_have_count(3)
    ids = page.locator(".ct-row").evaluate_all("rows => rows.map((r) => r.dataset.id)")
    place = next(n for n, id in enumerate(ids) if id in {post["id"] for post in made})
    for key in ["j"] * (place + 1) + ["x", "j"]:
        page.keyboard.press(key)
    until(page, lambda: len(held) == 2)
    expect(current).to_have_attribute("data-id", ids[place + 1])
    held[1].continue_()
    expect(page.locator(f'.ct-row[data-id="{ids[place]}"] .badge').first).to_have_text("Cancelled")
    expect(page.locator(f'.ct-row[data-id="{ids[place + 1]}"] [data-focus-row]')).to_be_focused()
    expect(current).to_have_attribute("data-id", ids[place + 1])


def test_the_keyboard_goes_on_after_the_details(page: Any, world: posting.World) -> None:
    made = [world.post(caption=f"Looked at {n}", publish="draft", scheduledAt=posting.hours(n + 2)) for n in range(2)]
    for post in made:
        world.set(post["id"], hold="approval", hold_reason="Made by a rule.")
    page.goto("/content.html?tab=needs")
    rows = page.locator(".ct-row").filter(has_text="Looked at")
    expect(rows).to_have_count(2)
    rows.first.locator("[data-focus-row]").click()
    dialog = page.locator("dialog.post-dialog")
    dialog.get_by_role("button", name="Approve").click()
    expect(rows).to_have_count(1)
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    expect(rows.locator("[data-focus-row]")).to_be_focused()
    page.keyboard.press("a")
    until(page, lambda: all(world.get(post["id"])["status"] == "scheduled" for post in made))


def test_several_at_once_and_filters_in_the_address(page: Any, world: posting.World) -> None:
    made = [world.post(caption=f"Many {n}") for n in range(4)]
    page.goto("/content.html?tab=drafts")
    for n in (0, 2):
        row(page, f"Many {n}").get_by_role("checkbox").check()
    page.get_by_role("button", name="Schedule 2").click()
    page.get_by_role("dialog", name="Schedule 2 posts?").get_by_role("button", name="Schedule 2").click()
    expect(page.locator(".toast")).to_contain_text("2 posts scheduled")
    states = [world.get(p["id"])["status"] for p in made]
    assert states == ["scheduled", "draft", "scheduled", "draft"]
    for n in (1, 3):
        row(page, f"Many {n}").get_by_role("checkbox").check()
    page.get_by_role("toolbar").get_by_role("button", name="Delete 2").click()
    page.get_by_role("dialog", name="Delete 2 posts?").get_by_role("button", name="Delete 2").click()
    expect(row(page, "Many 1")).to_be_hidden()

    page.goto("/content.html?tab=all")
    page.get_by_label("Platform").select_option("twitter")
    expect(page).to_have_url(re.compile("platform=twitter"))
    expect(page.locator(".ct-row")).to_have_count(1)
    page.go_back()
    expect(page.locator(".ct-row").nth(1)).to_be_visible()


def test_a_change_made_elsewhere_shows_by_itself(page: Any, world: posting.World) -> None:
    post = world.post(caption="Live change")
    page.goto("/content.html?tab=drafts")
    expect(row(page, "Live change")).to_be_visible()
    world.call("PATCH", f"/posts/{post['id']}", json={"caption": "Changed from afar"})
    expect(row(page, "Changed from afar")).to_be_visible()


def test_somebody_else_changed_it_meanwhile(page: Any, world: posting.World) -> None:
    post = world.post(caption="Two writers")
    page.goto("/content.html?tab=drafts")
    row(page, "Two writers").get_by_role("button", name="More for this post").click()
    page.get_by_role("menuitem", name="Edit").click()
    dialog = page.locator("dialog.composer")
    dialog.get_by_role("textbox", name="Caption").fill("Mine")
    world.call("PATCH", f"/posts/{post['id']}", json={"caption": "Theirs"})
    page.errors.clear()
    dialog.get_by_role("button", name="Save draft").click()
    expect(dialog.get_by_role("alert")).to_contain_text("changed this post meanwhile")
    dialog.get_by_role("button", name="Save mine over it").click()
    expect(dialog).to_be_hidden()
    assert world.get(post["id"])["caption"] == "Mine"
    page.errors[:] = [e for e in page.errors if "412" not in e]  # the browser logs the refusal that was wanted


def test_the_home_page_shows_what_is_next_and_mends(page: Any, world: posting.World) -> None:
    late = world.post(caption="Overslept", publish="draft")
    world.set(late["id"], status="missed", scheduled_at=posting.hours(-9))
    page.goto("/")
    expect(page.get_by_role("heading", name="Next up")).to_be_visible()
    expect(page.locator(".home-next li").first).to_be_visible()
    need = page.locator(".needs li").filter(has_text="was missed")
    need.get_by_role("button", name="Post now").click()
    page.get_by_role("dialog", name="Rehearse this post now?").get_by_role("button", name="Rehearse").click()
    until(page, lambda: world.get(late["id"])["status"] == "dry_run")
    expect(need).to_be_hidden()


@pytest.mark.tools
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("tab", ["needs", "all", "outbox"])
def test_no_serious_finding(page: Any, world: posting.World, tab: str, theme: str) -> None:
    page.emulate_media(color_scheme=theme, reduced_motion="reduce")
    page.goto(f"/content.html?tab={tab}")
    expect(page.locator("main .skeleton")).to_have_count(0)
    rest(page)
    if tab == "all":
        page.locator("[data-focus-row]").first.click()
        expect(page.locator("dialog.post-dialog .facts")).to_be_visible()
    assert serious(page) == []


@pytest.mark.viewport(390, 844)
@pytest.mark.parametrize("tab", ["needs", "all", "outbox"])
def test_a_phone_shows_everything(page: Any, world: posting.World, tab: str) -> None:
    page.goto(f"/content.html?tab={tab}")
    expect(page.locator("main .skeleton")).to_have_count(0)
    rest(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
