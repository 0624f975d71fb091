"""Every page by keyboard, under axe-core in both themes, at 390 px; no error in the console."""

from __future__ import annotations

import re

import pytest
import requests

from tests.conftest import png
from tests.e2e.looks import rest, serious

expect = pytest.importorskip("playwright.sync_api").expect

PAGES = [
    "/",
    "/characters.html",
    "/studio.html",
    "/gallery.html",
    "/prompts.html",
    "/content.html",
    "/calendar.html",
    "/schedule.html",
    "/lora.html",
    "/models.html",
    "/connections.html",
    "/datasets.html",
    "/monitoring.html",
    "/settings.html",
    "/api/docs?q=/api/prompts#get_api_prompts",  # all 270 calls are drawn alike, and axe looks at each for itself
]


@pytest.fixture(scope="module")
def filled(server):
    """An app with something on every page."""
    made = requests.post(
        f"{server.url}/api/characters",
        json={"name": "Luna", "backstory": "A forest.", "triggerWord": "luna"},
        timeout=10,
    ).json()
    for n in range(6):
        files = {"file": (f"{n}.png", png((n * 40, 90, 160), (120, 90)))}
        requests.post(f"{server.url}/api/media", files=files, data={"characterId": made["id"]}, timeout=10)
    return made


def shown(page):
    """Wait until the page has loaded its data and come to rest: no skeleton is left."""
    expect(page.locator("main")).to_contain_text(re.compile(r"\w{3}"))
    expect(page.locator("main .skeleton")).to_have_count(0)
    rest(page)


@pytest.mark.tools
@pytest.mark.parametrize("path", PAGES)
def test_a_page_can_be_used_by_everybody(page, filled, path):
    page.emulate_media(color_scheme="light", reduced_motion="reduce")
    page.goto(path)
    shown(page)

    # by the keyboard alone: the first Tab leads past the navigation
    page.keyboard.press("Tab")
    assert "skip" in page.evaluate("document.activeElement.textContent").lower()
    page.keyboard.press("Enter")
    assert page.evaluate(
        "document.querySelector('main').contains(document.activeElement) || document.activeElement.id === 'main'"
    )

    found = serious(page)
    assert not found, "\n".join(found)

    page.emulate_media(color_scheme="dark", reduced_motion="reduce")
    page.reload()  # a change of theme fades, and axe would read colours on the way
    shown(page)
    found = serious(page)
    assert not found, "\n".join(found)

    # a phone shows everything without scrolling sideways
    page.set_viewport_size({"width": 390, "height": 844})
    rest(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
