"""Writing a post in the browser: what is shown is what is sent, live and as a rehearsal."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e import posting
from tests.e2e.looks import serious

expect = pytest.importorskip("playwright.sync_api").expect


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[posting.World]:
    with posting.world(tmp_path_factory.mktemp("compose")) as world:
        yield world


@pytest.fixture(scope="module")
def server(world: posting.World) -> Any:
    return world.server


def composer(page: Any, *media: str) -> Any:
    page.goto(f"/content.html?compose=1&mediaIds={','.join(media)}")
    dialog = page.locator("dialog.composer")
    expect(dialog.get_by_role("textbox", name="Caption")).to_be_visible()
    return dialog


def platforms(dialog: Any, *names: str) -> None:
    """Choose exactly these."""
    for label in ("Instagram", "X"):
        button = dialog.locator(".pc-platform").filter(has=dialog.page.get_by_text(label, exact=True))
        expect(button).to_be_visible()
        if (button.get_attribute("aria-pressed") == "true") != (label in names):
            button.click()


def test_a_live_post_goes_to_x_after_a_question_that_names_the_account(page: Any, world: posting.World) -> None:
    dialog = composer(page, world.pictures[0])
    expect(dialog.locator("#pc-character")).to_have_value(world.luna["id"])  # whose picture it is
    platforms(dialog, "X")
    dialog.get_by_role("textbox", name="Caption").fill("A quiet morning. #luna")
    dialog.get_by_label("Alt text").fill("A green field")
    preview = dialog.get_by_role("article", name="Post on X")
    expect(preview).to_contain_text("A quiet morning.")
    picture = preview.get_by_role("img", name="A green field")
    expect(picture).to_be_visible()
    shown = page.request.get(picture.get_attribute("src")).body()

    dialog.get_by_role("button", name="Post now").click()
    question = page.get_by_role("dialog", name="Post live to X now?")
    expect(question).to_contain_text("everybody can see it")
    assert not world.x.posted
    question.get_by_role("button", name="Post now").click()
    expect(page.get_by_role("dialog", name="Published")).to_be_visible()
    expect(page.get_by_role("link", name=re.compile("Open it on X"))).to_be_visible()

    (live,) = world.x.posted
    assert live["text"].startswith("A quiet morning. #luna")
    (post,) = world.posts(status="published")
    sent = page.request.get(post["files"][0]["url"]).body()
    assert sent == shown  # the preview was the very bytes
    assert world.call("GET", f"/media/{world.pictures[0]}")["posted"]


def test_without_keys_everything_is_a_rehearsal_and_says_so(page: Any, world: posting.World) -> None:
    before = len(world.x.posted)
    dialog = composer(page, world.kais)
    platforms(dialog, "Instagram", "X")
    dialog.get_by_role("textbox", name="Caption").fill("Only a rehearsal")
    expect(dialog.get_by_text("Dry run: nothing leaves this machine")).to_be_visible()
    expect(dialog.get_by_role("switch", name=re.compile("^Dry run"))).to_be_disabled()
    dialog.get_by_role("button", name="Rehearse now").click()
    question = page.get_by_role("dialog", name="Rehearse this post now?")
    expect(question).to_contain_text("Nothing leaves this machine")
    question.get_by_role("button", name="Rehearse").click()
    expect(page.get_by_role("dialog", name="Rehearsed")).to_be_visible()
    page.get_by_role("link", name="See the exact requests").first.click()
    expect(page.get_by_text("None of these left this machine.")).to_be_visible()
    first = page.locator(".ct-outbox summary").first
    first.click()
    expect(page.locator(".ct-outbox details[open]").get_by_role("button", name="Copy")).to_be_visible()
    expect(page.locator(".ct-outbox")).not_to_contain_text(world.x.user.keys["twitter_access_secret"])
    assert len(world.x.posted) == before


def test_counters_mark_what_is_too_long_and_keep_it_from_going_out(page: Any, world: posting.World) -> None:
    dialog = composer(page, world.pictures[1])
    platforms(dialog, "Instagram", "X")
    caption = dialog.get_by_role("textbox", name="Caption")
    caption.fill("日" * 150)
    expect(dialog.locator(".pc-count.is-over")).to_contain_text("300")
    expect(dialog.locator(".pc-marks mark")).to_have_text("日" * 10)
    expect(dialog.get_by_role("button", name="Post now")).to_be_disabled()
    expect(dialog.get_by_role("button", name="Save draft")).to_be_enabled()

    dialog.get_by_role("button", name="Edit apart").click()  # long words for one, short ones for the other
    dialog.get_by_role("group", name="Caption for").get_by_role("button", name="X").click()
    caption.fill("short for X")
    expect(dialog.get_by_role("button", name="Post now")).to_be_enabled()
    dialog.get_by_role("button", name="Save draft").click()
    expect(dialog).to_be_hidden()
    drafts = {p["platform"]: p["caption"] for p in world.posts(status="draft")}
    assert drafts == {"instagram": "日" * 150, "twitter": "short for X"}


def test_what_is_being_written_survives_a_reload(page: Any, world: posting.World) -> None:
    dialog = composer(page, world.pictures[2])
    dialog.get_by_role("textbox", name="Caption").fill("Half a thou")
    page.reload()
    expect(dialog.get_by_role("textbox", name="Caption")).to_have_value("Half a thou")
    expect(dialog.get_by_text("This is what you had begun.")).to_be_visible()
    dialog.get_by_role("button", name="Start over").click()
    expect(dialog.get_by_role("textbox", name="Caption")).to_have_value("")


def test_framing_changes_the_bytes_and_the_focus_is_set_by_click_and_by_keys(page: Any, world: posting.World) -> None:
    dialog = composer(page, world.kais)
    platforms(dialog, "Instagram")
    picture = dialog.locator(".pv-picture img")
    expect(picture).to_be_visible()
    padded = picture.get_attribute("src")
    dialog.get_by_role("button", name="Crop", exact=True).click()
    expect(picture).not_to_have_attribute("src", padded)
    dialog.get_by_label("Shape").select_option("1:1")
    expect(dialog.locator(".pc-bytes")).to_contain_text(re.compile(r"(\d+) × \1"))
    middle = picture.get_attribute("src")
    focus = dialog.locator("[data-focus]")
    focus.click(position={"x": 30, "y": 5})
    expect(picture).not_to_have_attribute("src", middle)
    top = picture.get_attribute("src")
    focus.focus()
    for _ in range(15):
        page.keyboard.press("ArrowDown")
    expect(picture).not_to_have_attribute("src", top)
    dialog.get_by_role("button", name="Automatic").click()
    expect(focus).to_have_accessible_name(re.compile("automatic"))


def test_a_caption_is_written_offline_and_says_so(page: Any, world: posting.World) -> None:
    dialog = composer(page, world.kais)
    caption = dialog.get_by_role("textbox", name="Caption")
    dialog.get_by_role("button", name=re.compile("Generate caption|Write another")).click()
    expect(caption).not_to_have_value("")
    expect(dialog.get_by_text("Composed offline")).to_be_visible()
    first = caption.input_value()
    dialog.get_by_label("Tone").select_option("poetic")
    dialog.get_by_role("button", name="Write another").click()
    expect(caption).not_to_have_value(first)
    dialog.get_by_role("button", name="Take back").click()
    expect(caption).to_have_value(first)


def test_next_free_slot_and_schedule(page: Any, world: posting.World) -> None:
    dialog = composer(page, world.kais)
    dialog.get_by_role("textbox", name="Caption").fill("Later today")
    when = dialog.get_by_label("When")
    when.fill("2020-01-01T10:00")
    expect(dialog.get_by_text("This time has passed.")).to_be_visible()
    expect(dialog.get_by_role("button", name="Schedule")).to_be_disabled()
    dialog.get_by_role("button", name="Next free slot").click()
    expect(when).not_to_have_value("2020-01-01T10:00")
    dialog.get_by_role("button", name="Schedule").click()
    expect(page.locator(".toast")).to_contain_text("Scheduled for")
    assert [p["caption"] for p in world.posts(status="scheduled")] == ["Later today"]


def test_the_order_of_a_carousel_by_keyboard(page: Any, world: posting.World) -> None:
    dialog = composer(page, *world.pictures)
    places = dialog.locator(".pc-strip li[data-id]")
    expect(places).to_have_count(3)
    button = dialog.get_by_role("button", name="Move picture 3 forward")
    button.focus()
    page.keyboard.press("Enter")
    expect(places.nth(1)).to_have_attribute("data-id", world.pictures[2])
    dialog.get_by_role("button", name="Take picture 1 out").click()
    expect(places).to_have_count(2)
    dialog.get_by_role("button", name="Save draft").click()
    expect(dialog).to_be_hidden()
    post = next(p for p in world.posts(status="draft") if p["kind"] == "carousel")
    assert post["mediaIds"] == [world.pictures[2], world.pictures[1]]


def test_the_gallery_posts_one_and_schedules_several(page: Any, world: posting.World) -> None:
    page.goto(f"/gallery.html?characterId={world.luna['id']}")
    page.get_by_role("gridcell").first.press("Enter")
    page.keyboard.press("p")
    composer_ = page.locator("dialog.composer")
    expect(composer_.locator(".pc-strip li[data-id]")).to_have_count(1)
    page.keyboard.press("Escape")
    expect(composer_).to_be_hidden()
    page.keyboard.press("Escape")  # the viewer
    cells = page.get_by_role("gridcell")
    cells.nth(0).press(" ")
    cells.nth(1).press(" ")
    page.get_by_role("button", name="Schedule 2").click()
    dialog = page.get_by_role("dialog", name="Schedule 2 pictures")
    dialog.get_by_label("Captions").select_option("fixed")
    dialog.get_by_label("Words").fill("One of several")
    expect(dialog.get_by_text("All of them are dry runs")).to_be_visible()
    dialog.get_by_role("button", name="Schedule 2").click()
    expect(dialog.get_by_text("2 posts planned.")).to_be_visible()
    planned = [p for p in world.posts(status="scheduled") if p["caption"] == "One of several"]
    assert len(planned) == 2 and len({p["scheduledAt"] for p in planned}) == 2


@pytest.mark.tools
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_composer_has_no_serious_finding(page: Any, world: posting.World, theme: str) -> None:
    page.emulate_media(color_scheme=theme, reduced_motion="reduce")
    dialog = composer(page, world.pictures[0], world.pictures[1])
    platforms(dialog, "Instagram", "X")
    dialog.get_by_role("textbox", name="Caption").fill("word " * 100)
    expect(dialog.locator(".pv-picture img, .pv-grid img").first).to_be_visible()
    expect(dialog.locator(".pc-preview.is-checking")).to_have_count(0)
    assert serious(page) == []


@pytest.mark.viewport(390, 844)
def test_the_composer_fits_a_phone(page: Any, world: posting.World) -> None:
    dialog = composer(page, world.pictures[0])
    dialog.get_by_role("textbox", name="Caption").fill("word " * 100)
    expect(dialog.locator(".pv-picture img")).to_be_visible()
    assert dialog.evaluate("d => d.scrollWidth <= 390 && d.querySelector('.dialog-body').scrollWidth <= 390")
    for name in ("Save draft", "Schedule", "Post now"):
        button = dialog.get_by_role("button", name=re.compile(f"^({name}|Rehearse now)$")).last
        expect(button).to_be_in_viewport()
