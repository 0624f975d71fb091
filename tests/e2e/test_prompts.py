"""The prompt library in a real browser: editing in place, captions, ideas, import, wildcards, undo."""

from __future__ import annotations

import re

import pytest
import requests

from tests.e2e.looks import serious
from tests.e2e.test_accessibility import shown

expect = pytest.importorskip("playwright.sync_api").expect

BADGE = "Composed offline"


@pytest.fixture(scope="module")
def luna(server):
    body = {"name": "Luna the Mystic", "personality": "Dreamy and gentle.", "backstory": "Luna lives in a forest."}
    return requests.post(f"{server.url}/api/characters", json=body, timeout=10).json()


@pytest.fixture
def library(server, luna):
    """An empty library; `add` puts a prompt into it."""

    class Library:
        character = luna

        def all(self):
            return requests.get(f"{server.url}/api/prompts", timeout=10).json()

        def add(self, prompt, **more):
            body = {"characterId": luna["id"], "prompt": prompt, **more}
            answer = requests.post(f"{server.url}/api/prompts", json=body, timeout=10)
            assert answer.status_code == 201, answer.text
            return answer.json()

    library = Library()
    ids = [p["id"] for p in library.all()]
    if ids:
        requests.post(f"{server.url}/api/prompts/bulk", json={"ids": ids, "action": "delete"}, timeout=10)
    return library


def row(page, text):
    """The row whose prompt or caption is `text`."""
    return page.locator(".pr-row").filter(has=page.locator("textarea", has_text=text))


def said(page, text):
    return page.get_by_role("region", name="Messages").get_by_text(text)


def forgive(page, status):
    """A refusal that the test asked for is no error of the page."""
    page.errors[:] = [e for e in page.errors if f"status of {status}" not in e]


def test_an_empty_library_offers_to_write_one_or_ten_ideas(page, library):
    page.goto("/prompts.html")
    expect(page.get_by_text("No prompts for Luna the Mystic yet")).to_be_visible()
    page.get_by_role("button", name="Write one").click()
    dialog = page.get_by_role("dialog", name="New prompt")
    dialog.get_by_role("button", name="Save", exact=True).click()
    expect(dialog.get_by_text("Write a prompt.")).to_be_visible()
    forgive(page, 422)
    dialog.get_by_label("Prompt").fill("in a magical forest")
    page.keyboard.press("Control+Enter")
    expect(dialog).to_be_hidden()
    expect(row(page, "in a magical forest")).to_be_visible()
    (prompt,) = library.all()
    assert prompt["characterId"] == library.character["id"] and prompt["source"] == "manual"


def test_words_are_edited_where_they_stand(page, library):
    prompt = library.add("by the lake", caption="Quiet water. #lake")
    page.goto("/prompts.html")
    area = page.locator(f"#pr-prompt-{prompt['id']}")
    area.fill("by the frozen lake")
    expect(area).to_have_class(re.compile("is-dirty"))
    with page.expect_response(lambda r: r.request.method == "PUT") as saved:
        area.press("Enter")
    assert saved.value.ok
    expect(area).not_to_have_class(re.compile("is-dirty"))
    assert library.all()[0]["prompt"] == "by the frozen lake"

    caption = page.locator(f"#pr-caption-{prompt['id']}")
    caption.fill("two\nlines")
    with page.expect_response(lambda r: r.request.method == "PUT"):
        page.get_by_label("Search prompts and captions").focus()  # leaving the field saves it
    assert library.all()[0]["caption"] == "two\nlines"
    expect(page.get_by_role("button", name="1 earlier")).to_be_visible()

    area.fill("something else")
    area.press("Escape")
    expect(area).to_have_value("by the frozen lake")

    area.fill(" ")
    area.press("Enter")
    expect(page.locator(f"#pr-prompt-{prompt['id']}-error")).to_have_text("Write a prompt.")
    assert library.all()[0]["prompt"] == "by the frozen lake"
    area.press("Escape")
    expect(page.locator(f"#pr-prompt-{prompt['id']}-error")).to_have_count(0)
    forgive(page, 422)


def test_a_caption_is_written_and_an_earlier_one_comes_back(page, library):
    library.add("in a field of lavender", caption="My own words.")
    page.goto("/prompts.html")
    one = page.locator(".pr-row")
    one.get_by_role("button", name="Write another").click()
    expect(one.get_by_text(BADGE)).to_be_visible()
    written = library.all()[0]["caption"]
    assert written and written != "My own words."
    one.get_by_role("button", name="1 earlier").click()
    dialog = page.get_by_role("dialog", name="Earlier captions")
    expect(dialog.get_by_text("My own words.")).to_be_visible()
    dialog.get_by_role("button", name="Take this one").click()
    expect(one.locator("[data-edit=caption]")).to_have_value("My own words.")
    expect(one.get_by_text(BADGE)).to_have_count(0)
    assert [old["caption"] for old in library.all()[0]["captions"]] == ["My own words.", written]


def test_how_captions_are_written_is_kept_and_sent(page, library):
    library.add("on a rooftop")
    page.goto("/prompts.html")
    page.get_by_role("button", name="Captions").click()
    panel = page.get_by_role("dialog", name="How captions are written")
    panel.get_by_label("Language").fill("Deutsch")
    panel.get_by_label("Tone").fill("playful")
    panel.get_by_label("Length").select_option("short")
    expect(panel.get_by_text("put together offline")).to_be_visible()
    page.keyboard.press("Escape")
    page.reload()
    expect(page.get_by_role("button", name="Captions: Deutsch, playful, one sentence")).to_be_visible()
    with page.expect_request(lambda r: r.url.endswith("/caption")) as sent:
        page.get_by_role("button", name="Generate caption").click()
    assert sent.value.post_data_json == {"language": "Deutsch", "tone": "playful; short, a single sentence"}
    expect(page.locator(".pr-by", has_text=BADGE)).to_be_visible()


def test_deleting_can_be_undone(page, library):
    kept = library.add("a candle in the window", caption="Light.")
    library.add("second")
    page.goto("/prompts.html")
    one = row(page, "a candle in the window")
    one.get_by_role("button", name=re.compile("^More for")).click()
    page.get_by_role("menuitem", name="Delete").click()
    expect(one).to_have_count(0)
    assert [p["prompt"] for p in library.all()] == ["second"]
    page.get_by_role("button", name="Undo").click()
    expect(one).to_be_visible()
    back = next(p for p in library.all() if p["id"] == kept["id"])
    assert back["caption"] == "Light."


def test_many_at_once(page, library):
    for n in range(4):
        library.add(f"scene {n}")
    page.goto("/prompts.html")
    boxes = page.get_by_role("checkbox", name=re.compile("^Select"))
    boxes.nth(0).click()
    boxes.nth(2).click(modifiers=["Shift"])
    bar = page.get_by_role("region", name="Selected prompts")
    expect(bar.get_by_text("3 selected")).to_be_visible()
    bar.get_by_role("button", name="Write 3 captions").click()
    expect(said(page, "3 captions written")).to_be_visible()
    expect(page.locator(".pr-by", has_text=BADGE)).to_have_count(3)
    assert sum(bool(p["caption"]) for p in library.all()) == 3

    boxes.nth(0).click()
    bar.get_by_role("button", name="Select all 4").click()
    expect(bar.get_by_text("4 selected")).to_be_visible()
    bar.get_by_role("button", name="Mark").click()
    page.get_by_role("menuitem", name="As used").click()
    expect(page.locator(".pr-uses", has_text="Used")).to_have_count(4)
    page.get_by_role("button", name="Unused", exact=True).click()
    expect(page.get_by_text("Nothing fits")).to_be_visible()
    expect(page).to_have_url(re.compile(r"used=false"))
    page.get_by_role("button", name="Clear filters").click()

    boxes.nth(0).click()
    bar.get_by_role("button", name="Select all 4").click()
    bar.get_by_role("button", name="Delete 4").click()
    expect(said(page, "4 prompts deleted")).to_be_visible()
    assert library.all() == []
    page.get_by_role("button", name="Undo").click()
    expect(page.locator(".pr-row")).to_have_count(4)
    assert len(library.all()) == 4


def test_ideas_land_in_the_library_and_can_be_dropped(page, library):
    page.goto("/prompts.html?ideas=1")
    dialog = page.get_by_role("dialog", name="Ideas")
    dialog.get_by_label("How many").fill("4")
    dialog.get_by_label("Theme").fill("autumn")
    dialog.get_by_role("button", name="Get ideas").click()
    expect(dialog.get_by_text("4 new prompts in the library.")).to_be_visible()
    expect(dialog.get_by_text(BADGE).first).to_be_visible()
    dialog.get_by_role("button", name="Delete this idea").first.click()
    expect(dialog.locator(".pr-idea-list li")).to_have_count(3)
    dialog.get_by_role("button", name="Close").last.click()
    expect(page.locator(".pr-row")).to_have_count(3)
    assert {p["source"] for p in library.all()} == {"ideas"}


def test_a_file_is_looked_at_before_it_is_taken_in(page, library):
    library.add("already here")
    page.goto("/prompts.html")
    page.get_by_role("button", name=re.compile("Import, export")).click()
    page.get_by_role("menuitem", name="Import").click()
    dialog = page.get_by_role("dialog", name="Import prompts")
    lines = [
        "prompt,caption,character",
        '"one, with a comma",Hello,Luna the Mystic',
        "already here,,Luna the Mystic",
        ",no words,",
        "x,,Nobody",
    ]
    text = "\n".join(lines)
    dialog.locator("input[type=file]").set_input_files(
        {"name": "prompts.csv", "mimeType": "text/csv", "buffer": text.encode()}
    )
    expect(dialog.get_by_role("button", name="Import 1")).to_be_enabled()
    expect(dialog.get_by_text("Row 4")).to_be_visible()
    expect(dialog.get_by_text("There is no character called 'Nobody'.")).to_be_visible()
    expect(dialog.get_by_text("one, with a comma")).to_be_visible()
    assert len(library.all()) == 1, "looking stores nothing"
    dialog.get_by_role("button", name="Import 1").click()
    expect(dialog).to_be_hidden()
    expect(row(page, "one, with a comma")).to_be_visible()
    assert len(library.all()) == 2


def test_the_library_goes_out_as_a_file(page, library):
    library.add("take me along")
    page.goto("/prompts.html")
    page.get_by_role("button", name=re.compile("Import, export")).click()
    with page.expect_download() as download:
        page.get_by_role("menuitem", name="Export CSV").click()
    assert "take me along" in download.value.path().read_text("utf-8-sig")


def test_wildcards_are_written_and_tried(page, library, server):
    library.add("walking, __weather__, {dawn|dusk}")
    page.goto("/prompts.html")
    expect(page.get_by_text("No wildcard __weather__")).to_be_visible()
    page.goto("/prompts.html?wildcards=1")
    dialog = page.get_by_role("dialog", name="Wildcards")
    dialog.get_by_role("button", name="New wildcard").click()
    dialog.get_by_label("Name").fill("bad name")
    dialog.get_by_label("Options, one per line").fill("light snow\n# a comment\nthick fog")
    dialog.get_by_role("button", name="Save").click()
    expect(dialog.get_by_text("letters, digits")).to_be_visible()
    dialog.get_by_label("Name").fill("weather")
    dialog.get_by_role("button", name="Save").click()
    expect(dialog.get_by_text("2 options.")).to_be_visible()
    dialog.get_by_label("Prompt to try").fill("a walk in __weather__")
    expect(dialog.locator(".pr-tries li").first).to_have_text(re.compile("a walk in (light snow|thick fog)"))
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    expect(page.get_by_text("No wildcard __weather__")).to_have_count(0)
    page.get_by_role("button", name="Varies").click()
    tries = page.get_by_role("dialog", name="As it may come out").locator(".pr-tries li")
    expect(tries).to_have_count(5)
    expect(tries.first).to_have_text(re.compile(r"walking, (light snow|thick fog), (dawn|dusk)"))
    requests.delete(f"{server.url}/api/wildcards/weather", timeout=10)


def test_filters_live_in_the_address(page, library):
    library.add("moonlight")
    library.add("sunlight")
    page.goto("/prompts.html?q=moon")
    expect(page.locator(".pr-row")).to_have_count(1)
    page.get_by_label("Search prompts and captions").fill("sun")
    expect(row(page, "sunlight")).to_be_visible()
    expect(row(page, "moonlight")).to_have_count(0)
    expect(page).to_have_url(re.compile(r"q=sun"))
    page.goto("/prompts.html")
    expect(page.locator("textarea[data-edit=prompt]").first).to_have_value("sunlight")  # newest first
    page.get_by_label("Order").select_option("oldest")
    expect(page.locator("textarea[data-edit=prompt]").first).to_have_value("moonlight")
    expect(page).to_have_url(re.compile(r"sort=oldest"))


def test_a_prompt_opens_in_the_studio(page, library):
    library.add("with a silver owl")
    page.goto("/prompts.html")
    page.get_by_role("link", name="Use “with a silver owl” in the studio").click()
    expect(page.get_by_label("Prompt", exact=True)).to_have_value("with a silver owl")


def test_what_another_window_changes_shows_at_once(page, library, server):
    prompt = library.add("before")
    page.goto("/prompts.html")
    expect(row(page, "before")).to_be_visible()
    requests.put(f"{server.url}/api/prompts/{prompt['id']}", json={"prompt": "after"}, timeout=10)
    expect(page.locator(f"#pr-prompt-{prompt['id']}")).to_have_value("after")
    library.add("a new one")
    expect(row(page, "a new one")).to_be_visible()


def test_what_another_window_deletes_disturbs_nobody(page, library, server):
    ids = [library.add(f"scene {n}")["id"] for n in range(6)]
    page.goto("/prompts.html")
    boxes = page.get_by_role("checkbox", name=re.compile("^Select"))
    expect(boxes).to_have_count(6)
    boxes.nth(0).click()
    area = page.locator(f"#pr-prompt-{ids[1]}")  # the last but one: the newest stands first
    area.press("End")
    page.keyboard.type(", at d")
    requests.delete(f"{server.url}/api/prompts/{ids[5]}", timeout=10)
    expect(boxes).to_have_count(5)
    page.keyboard.type("awn")
    expect(area).to_be_focused()
    expect(area).to_have_value("scene 1, at dawn")
    boxes.nth(2).click(modifiers=["Shift"])  # where the range began is gone
    expect(page.get_by_role("region", name="Selected prompts").get_by_text("1 selected")).to_be_visible()


@pytest.mark.tools
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("query", ["", "?new=1", "?ideas=1", "?wildcards=1"])
def test_no_serious_finding(page, library, theme, query):
    library.add("a {red|blue} coat", caption="x" * 300)
    library.add("plain")
    page.emulate_media(color_scheme=theme, reduced_motion="reduce")
    page.goto(f"/prompts.html{query}")
    shown(page)
    if query:
        expect(page.get_by_role("dialog").first).to_be_visible()
    else:
        page.get_by_role("checkbox", name=re.compile("^Select")).first.click()
    found = serious(page)
    assert not found, "\n".join(found)


@pytest.mark.viewport(390, 844)
def test_a_phone_edits_too(page, library):
    prompt = library.add("a long prompt that goes over several lines on a phone, " * 3)
    page.goto("/prompts.html")
    area = page.locator(f"#pr-prompt-{prompt['id']}")
    area.fill("short now")
    area.press("Enter")
    expect(area).not_to_have_class(re.compile("is-dirty"))
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert library.all()[0]["prompt"] == "short now"
