"""The connections page in a real browser: accounts, the buttons that mend them, hosting, webhooks."""

from __future__ import annotations

import re
from typing import Any

import pytest
import requests

from tests.e2e.conftest import Server
from tests.e2e.looks import serious
from tests.fakes.graph import ACCOUNT, TOKEN, GraphFake
from tests.fakes.receiver import ReceiverFake

expect = pytest.importorskip("playwright.sync_api").expect


@pytest.fixture(scope="module")
def graph():
    with GraphFake() as fake:
        yield fake


@pytest.fixture(scope="module")
def receiver():
    with ReceiverFake() as fake:
        yield fake


@pytest.fixture(scope="module")
def server(tmp_path_factory, graph):
    server = Server(tmp_path_factory.mktemp("app"), INSTAGRAM_GRAPH_URL=graph.url)
    yield server
    server.stop()


@pytest.fixture(scope="module")
def luna(server) -> dict[str, Any]:
    keys = {"instagramAccountId": ACCOUNT, "instagramApiKey": TOKEN}
    return requests.post(f"{server.url}/api/characters", json={"name": "Luna", **keys}, timeout=10).json()


@pytest.fixture(scope="module", autouse=True)
def nova(server, luna) -> dict[str, Any]:
    return requests.post(f"{server.url}/api/characters", json={"name": "Nova", "dryRun": True}, timeout=10).json()


def card(page, name="Luna", platform="Instagram"):
    return page.get_by_role("article", name=f"{platform} of {name}")


def test_an_account_is_tested_broken_and_mended(page, graph, luna):
    page.goto("/connections.html")
    expect(card(page)).to_contain_text("not tested yet")
    card(page).get_by_role("button", name="Test").click()
    expect(card(page)).to_contain_text("Connected as @user_0001")
    expect(card(page)).to_contain_text("0 of 100")
    expect(page.locator(".co-summary")).to_contain_text("Every account works")

    graph.set_token_state(TOKEN, "revoked")
    card(page).get_by_role("button", name="Test").click()
    expect(card(page)).to_contain_text("Nothing is sent.")
    expect(page.locator(".co-summary")).to_contain_text("does not work")
    reconnect = card(page).get_by_role("link", name="Reconnect")
    assert reconnect.get_attribute("href") == f"/characters.html?id={luna['id']}&tab=accounts"

    graph.set_token_state(TOKEN, "valid")
    card(page).get_by_role("button", name="Test").click()
    expect(card(page)).not_to_contain_text("Nothing is sent.")


def test_pausing_and_going_on_by_keyboard(page):
    page.goto("/connections.html")
    card(page).get_by_role("button", name="Pause").focus()
    page.keyboard.press("Enter")
    expect(card(page)).to_contain_text("Paused")
    card(page).get_by_role("button", name="Resume").focus()
    page.keyboard.press("Enter")
    expect(card(page).get_by_role("button", name="Pause")).to_be_visible()


def test_filters_live_in_the_address(page):
    page.goto("/connections.html")
    page.get_by_role("button", name="Not connected").click()
    expect(page.get_by_role("heading", name="Nova")).to_be_visible()
    expect(card(page)).to_have_count(0)
    assert "show=off" in page.url
    page.reload()
    expect(page.get_by_role("button", name="Not connected")).to_have_attribute("aria-pressed", "true")
    expect(card(page)).to_have_count(0)


def test_a_link_from_elsewhere_marks_the_account(page, luna):
    page.goto(f"/connections.html?character={luna['id']}&platform=instagram")
    expect(card(page)).to_have_class(re.compile("is-marked"))


def test_hosting_is_set_up_and_checked(page):
    page.goto("/connections.html")
    hosting = page.locator("#hosting")
    expect(hosting).to_contain_text("Not set up")
    hosting.get_by_role("button", name="Set it up").click()
    hosting.get_by_label("Public address of this app").fill("nonsense")
    hosting.get_by_role("button", name="Save and check").click()
    expect(hosting.locator(".field-error:visible")).to_contain_text("http")
    page.errors.clear()  # the browser logs the refused request
    hosting.get_by_label("Public address of this app").fill("http://127.0.0.1:9")
    hosting.get_by_role("button", name="Save and check").click()
    expect(hosting).to_contain_text("Instagram cannot fetch pictures")
    expect(hosting.locator(".co-steps .is-bad")).to_contain_text("connection fails")
    expect(hosting.locator(".co-fix")).to_be_visible()


def test_a_webhook_from_the_first_to_the_last(page, receiver):
    page.goto("/connections.html")
    hooks = page.locator("#webhooks")
    hooks.get_by_role("button", name="Add webhook").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Address").fill(receiver.url + "/in")
    dialog.get_by_label("Name").fill("My program")
    dialog.get_by_role("button", name="Add webhook").click()
    expect(dialog.locator(".field-error:visible")).to_contain_text("address of this computer")
    page.errors.clear()
    dialog.get_by_role("button", name="Cancel").click()

    hooks.get_by_label("Allow addresses in the private network").check()
    expect(page.locator(".toast").filter(has_text="Private addresses are allowed")).to_be_visible()
    hooks.get_by_role("button", name="Add webhook").click()
    dialog.get_by_label("Address").fill(receiver.url + "/in")
    dialog.get_by_label("Name").fill("My program")
    dialog.get_by_role("button", name="Add webhook").click()
    secret = dialog.locator("#hook-secret")
    expect(secret).to_contain_text("whsec_")
    receiver.secret = secret.inner_text()
    dialog.get_by_role("button", name="Done").click()
    expect(hooks).to_contain_text("Nothing sent yet")
    expect(page.locator("#hook-secret")).to_have_count(0)  # gone from the page, not only hidden
    assert receiver.secret not in page.content()

    hooks.get_by_role("button", name="Test").click()
    expect(hooks).to_contain_text("Delivered")
    assert len(receiver.events) == 1
    receiver.fail_next("/in", 500, body="It is broken")
    hooks.get_by_role("button", name="Test").click()
    expect(hooks).to_contain_text("Failed")
    hooks.get_by_role("button", name="Deliveries").click()
    expect(dialog.locator("tbody tr")).to_have_count(2)
    expect(dialog).to_contain_text("It answered 500: It is broken")
    assert "webhook=hook_" in page.url
    dialog.get_by_role("button", name="Close").last.click()

    hooks.get_by_role("button", name="More for My program").click()
    page.get_by_role("menuitem", name="Delete").click()
    expect(dialog.get_by_role("button", name="Cancel")).to_be_focused()
    dialog.get_by_role("button", name="Delete webhook").click()
    expect(hooks).to_contain_text("No webhook yet")


@pytest.mark.tools
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_no_serious_finding(page, theme):
    page.emulate_media(color_scheme=theme, reduced_motion="reduce")
    page.goto("/connections.html")
    expect(card(page)).to_be_visible()
    expect(page.locator("main .skeleton")).to_have_count(0)
    page.locator("#hosting").get_by_role("button", name=re.compile("Set it up|Change")).click()
    found = serious(page)
    assert not found, "\n".join(found)


@pytest.mark.viewport(390, 844)
def test_a_phone_shows_everything_without_scrolling_sideways(page):
    page.goto("/connections.html")
    expect(card(page)).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_the_bell_tells_what_happened(page, graph, luna):
    graph.set_token_state(TOKEN, "valid")
    page.goto("/connections.html")
    graph.set_token_state(TOKEN, "revoked")
    card(page).get_by_role("button", name="Test").click()
    expect(page.locator(".bell")).to_have_attribute("aria-label", re.compile(r"\d+ unread"))
    page.locator(".bell").click()
    centre = page.get_by_role("dialog", name="Notifications")
    expect(centre).to_contain_text("Instagram: Luna is stopped")
    centre.get_by_role("button", name="Mark all read").click()
    expect(page.locator(".bell")).to_have_attribute("aria-label", "Notifications")
    page.keyboard.press("Escape")
    graph.set_token_state(TOKEN, "valid")
    card(page).get_by_role("button", name="Test").click()
    expect(card(page)).not_to_contain_text("Nothing is sent.")
    page.locator(".bell").click()
    expect(centre).not_to_contain_text("is stopped")
