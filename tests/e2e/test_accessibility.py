"""axe-core on every page in both themes, nothing cut off at 390 px, no error in the console."""

from __future__ import annotations

import re

import pytest
import requests

from tests.conftest import png

expect = pytest.importorskip("playwright.sync_api").expect
axe = pytest.importorskip("axe_playwright_python.sync_playwright")

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
    "/connections.html",
    "/datasets.html",
    "/monitoring.html",
    "/api/docs",
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
    """Wait until the page has loaded its data: no skeleton is left."""
    expect(page.locator("main")).to_contain_text(re.compile(r"\w{3}"))
    expect(page.locator("main .skeleton")).to_have_count(0)
    page.wait_for_timeout(300)


@pytest.mark.tools
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("path", PAGES)
def test_no_serious_finding(page, filled, path, theme):
    page.emulate_media(color_scheme=theme, reduced_motion="reduce")
    page.goto(path)
    shown(page)
    # preload would fetch the style sheets again, from addresses relative to the page
    found = axe.Axe().run(page, options={"preload": False}).response["violations"]
    serious = [
        f"{v['id']} ({v['impact']}): {n['html'][:200]} {n.get('failureSummary', '')[:200]}"
        for v in found
        if v["impact"] in ("serious", "critical")
        for n in v["nodes"][:3]
    ]
    assert not serious, "\n".join(serious)


@pytest.mark.viewport(390, 844)
@pytest.mark.parametrize("path", PAGES)
def test_a_phone_shows_everything_without_scrolling_sideways(page, filled, path):
    page.goto(path)
    shown(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


@pytest.mark.parametrize("path", PAGES[:-1])
def test_the_keyboard_alone_reaches_the_content(page, filled, path):
    page.goto(path)
    shown(page)
    page.keyboard.press("Tab")
    assert "skip" in page.evaluate("document.activeElement.textContent").lower()
    page.keyboard.press("Enter")
    assert page.evaluate(
        "document.querySelector('main').contains(document.activeElement) || document.activeElement.id === 'main'"
    )
