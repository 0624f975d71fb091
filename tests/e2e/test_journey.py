"""The main job as a newcomer does it: a character, a picture by the built-in engine, the gallery, recall."""

from __future__ import annotations

import io
import re

import pytest
import requests

from tests.e2e.looks import until

expect = pytest.importorskip("playwright.sync_api").expect

pytestmark = pytest.mark.slow
SLOW = 120_000  # ms; the first picture starts the engine


def test_from_an_empty_app_to_a_picture_and_back(page, server):
    # ------------------------------------------------ the home page knows that nothing is there yet
    page.goto("/")
    expect(page.locator("main").get_by_text("Create a character")).to_be_visible()
    expect(page.get_by_text("All clear")).to_be_visible()
    done = page.get_by_text(re.compile(r"\d of 4 done"))
    expect(done).to_have_text("1 of 4 done")

    # ------------------------------------------------ create a character in the browser
    page.goto("/characters.html?new=1")
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("textbox", name="Name").fill("Luna the Mystic")
    dialog.get_by_role("button", name="Next").click()
    dialog.get_by_label("Base prompt").fill("portrait of a woman with long purple hair")
    dialog.get_by_label("Mood").fill("smiling")
    dialog.get_by_role("button", name="Next").click()
    dialog.get_by_role("button", name="Next").click()
    dialog.get_by_role("button", name="Create character").click()
    expect(dialog).to_be_hidden()
    expect(page.get_by_text("Luna the Mystic").first).to_be_visible()
    (luna,) = requests.get(f"{server.url}/api/characters", timeout=10).json()
    assert luna["promptSettings"] == {
        "basePrompt": "portrait of a woman with long purple hair", "negativePrompt": None, "style": None, "mood": "smiling",
    }  # fmt: skip

    # ------------------------------------------------ generate, watching the progress
    page.goto(f"/studio.html?character={luna['id']}")
    page.get_by_label("Prompt", exact=True).fill("crown, beach")
    expect(page.get_by_text("long purple hair").first).to_be_visible()  # what the character adds
    page.get_by_role("button", name=re.compile("^Generate")).click()
    expect(page.get_by_role("progressbar").first).to_be_visible(timeout=SLOW)
    picture = page.locator("main img[src*='/api/media/']").first
    expect(picture).to_be_visible(timeout=SLOW)
    (item,) = requests.get(f"{server.url}/api/media", timeout=10).json()["items"]
    assert item["prompt"] == "portrait of a woman with long purple hair, crown, beach, smiling"
    assert item["characterId"] == luna["id"] and item["engine"] == "builtin"

    # ------------------------------------------------ find it in the gallery and open it
    page.goto("/gallery.html?q=crown")
    cell = page.get_by_role("gridcell").first
    expect(cell).to_be_visible()
    cell.press("Enter")
    viewer = page.get_by_role("dialog")
    expect(viewer).to_be_visible()
    page.keyboard.press("i")
    expect(viewer.get_by_text(str(item["seed"])).first).to_be_visible()
    page.keyboard.press("Escape")
    expect(viewer).to_be_hidden()
    expect(page).to_have_url(re.compile(r"gallery\.html\?q=crown$"))  # closing goes back in the history

    # ------------------------------------------------ recall it: the same seed gives the same pixels
    page.goto(f"/studio.html?recall={item['id']}")
    expect(page.get_by_label("Prompt", exact=True)).to_have_value(item["prompt"])
    page.get_by_role("button", name=re.compile("^Generate")).click()

    def both():
        items = requests.get(f"{server.url}/api/media", timeout=10).json()["items"]
        return items if len(items) == 2 else None

    items = until(page, both)
    from PIL import Image

    pixels = [
        Image.open(io.BytesIO(requests.get(server.url + i["fileUrl"], timeout=10).content)).tobytes() for i in items
    ]
    assert pixels[0] == pixels[1]

    # ------------------------------------------------ a rehearsed post, and the checklist has ticked itself
    page.evaluate(
        """async () => {
            const [character] = await (await fetch("/api/characters")).json();
            const media = (await (await fetch("/api/media?limit=1")).json()).items[0];
            const body = JSON.stringify({ characterId: character.id, mediaId: media.id, caption: "Hello" });
            const headers = { "Content-Type": "application/json", "X-Dalla": "1" };
            await fetch("/api/post-to-twitter", { method: "POST", headers, body });
        }"""
    )
    page.goto("/")
    expect(page.get_by_text("Luna the Mystic").first).to_be_visible()
    expect(done).to_have_count(0)


def test_dropping_a_picture_on_the_studio_reads_its_recipe(page, server):
    from dalla import recipes
    from dalla.records.media import Recipe
    from tests.conftest import png

    data = recipes.embed(png(), Recipe(prompt="a green mohawk, forest", seed=4242, steps=12, model="starter"))
    page.goto("/studio.html")
    expect(page.locator("#st-go")).to_be_visible()
    page.evaluate(
        """(bytes) => {
            const transfer = new DataTransfer();
            transfer.items.add(new File([new Uint8Array(bytes)], "found.png", { type: "image/png" }));
            const at = { dataTransfer: transfer, bubbles: true, cancelable: true };
            for (const type of ["dragenter", "dragover", "drop"]) document.querySelector("main").dispatchEvent(new DragEvent(type, at));
        }""",
        list(data),
    )
    dialog = page.get_by_role("dialog")
    expect(dialog).to_be_visible()
    dialog.get_by_role("button", name=re.compile("Use all|Use everything", re.I)).click()
    expect(page.get_by_label("Prompt", exact=True)).to_have_value("a green mohawk, forest")


def test_trash_and_undo_in_the_gallery(page, server):
    from tests.conftest import png

    made = requests.post(f"{server.url}/api/media", files={"file": ("a.png", png((9, 99, 199)))}, timeout=10).json()[
        "items"
    ][0]
    page.goto("/gallery.html")
    cell = page.get_by_role("gridcell").first
    cell.focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_be_visible()
    page.keyboard.press("Delete")
    expect(page.get_by_role("button", name="Undo")).to_be_visible()
    assert requests.get(f"{server.url}/api/media/{made['id']}", timeout=10).json()["trashedAt"]
    page.get_by_role("button", name="Undo").click()
    kept = f"{server.url}/api/media/{made['id']}"
    until(page, lambda: requests.get(kept, timeout=10).json()["trashedAt"] is None)
