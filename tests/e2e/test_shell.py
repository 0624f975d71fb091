"""What every page has: a wrong address is answered in the product's look, and live data that leaves connections free."""

from __future__ import annotations

import re

import pytest

pytest.importorskip("playwright.sync_api")

from playwright.sync_api import expect  # noqa: E402

WIDTHS = [
    pytest.param(1360, marks=pytest.mark.viewport(1360, 900)),
    pytest.param(390, marks=pytest.mark.viewport(390, 844)),
]


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_wrong_address_leads_home(page, width, theme):
    page.emulate_media(color_scheme=theme)
    answer = page.goto("/no/such page")
    assert answer.status == 404
    expect(page.get_by_role("heading", name="There is no page here")).to_be_visible()
    expect(page.locator("main")).to_contain_text("/no/such page")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.get_by_role("link", name="Go home").focus()
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile(r"/$"))
    told = [error for error in page.errors if "404" in error]
    assert told  # the browser's own line about the answer, and nothing else
    for line in told:
        page.errors.remove(line)


def test_a_hidden_tab_without_locks_holds_no_stream(page):
    """Over plain http from another computer there are no locks, and a browser opens six connections to one address."""
    page.add_init_script(
        """Object.defineProperty(navigator, "locks", { value: undefined });
        let open = 0;
        const tell = (by) => { open += by; document.documentElement.dataset.streams = open; };
        const Real = EventSource;
        window.EventSource = class extends Real {
          constructor(...of) { super(...of); this.addEventListener("open", () => tell(1), { once: true }); }
          close() { if (this.readyState === 1) tell(-1); super.close(); }
        };
        let hidden = false;
        Object.defineProperty(document, "hidden", { get: () => hidden });
        window.hide = (now) => { hidden = now; document.dispatchEvent(new Event("visibilitychange")); };"""
    )
    page.goto("/monitoring.html")
    root = page.locator("html")
    expect(root).to_have_attribute("data-streams", "1")
    page.evaluate("window.hide(true)")
    expect(root).to_have_attribute("data-streams", "0")
    page.evaluate("window.hide(false)")
    expect(root).to_have_attribute("data-streams", "1")


ROWS = """() => [...document.querySelectorAll(".segmented")].filter((el) => el.checkVisibility()).map((el) => ({
    rows: new Set([...el.children].map((b) => Math.round(b.getBoundingClientRect().top))).size,
    lines: Math.max(...[...el.children].map((b) => b.getBoundingClientRect().height)) / parseFloat(getComputedStyle(el).fontSize),
    out: el.getBoundingClientRect().right - innerWidth,
  }))"""


@pytest.mark.viewport(390, 844)
@pytest.mark.parametrize(
    "address",
    [
        "/schedule.html?edit=new",
        "/calendar.html",
        "/prompts.html",
        "/monitoring.html?tab=logs",
        "/content.html?compose=new",
    ],
)
def test_a_segmented_control_is_one_row_on_a_phone(page, address):
    page.goto(address)
    expect(page.locator(".segmented:visible").first).to_be_visible()
    found = page.evaluate(ROWS)
    assert found and all(one["rows"] == 1 and one["lines"] < 4 and one["out"] <= 0 for one in found), found
