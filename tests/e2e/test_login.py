"""Accounts in a real browser: the first one, signing in and out, roles, tokens, and sessions that end under somebody's hands."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from tests.e2e.conftest import PATIENCE, Server
from tests.e2e.looks import serious

expect = pytest.importorskip("playwright.sync_api").expect

ADMIN, PASSWORD = "mira", "mountain-river-7"
VIEWER, VIEWERS = "ben", "lantern-orchard-4"
FIREFOX = "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:133.0) Gecko/20100101 Firefox/133.0"
SENT = {"X-Dalla": "1"}


@pytest.fixture
def tab(browser: Any, server: Server) -> Iterator[Any]:
    """Open a page in a browser of its own: `tab()`; signed in already with `tab(name, password)`."""
    contexts, errors = [], []

    def make(name: str = "", password: str = "", **options: Any) -> Any:
        given = {
            "viewport": {"width": 1360, "height": 900},
            "base_url": server.url,
            "reduced_motion": "reduce",
            **options,
        }
        context = browser.new_context(**given)
        context.set_default_timeout(PATIENCE)
        contexts.append(context)
        if name:
            answer = context.request.post("/api/auth/login", data={"name": name, "password": password}, headers=SENT)
            assert answer.ok, answer.text()
        page = context.new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on(
            "console", lambda m: errors.append(m.text) if m.type == "error" and "Failed to load" not in m.text else None
        )
        return page

    yield make
    for context in contexts:
        context.close()
    assert not errors, errors


@pytest.fixture
def accounts(server: Server) -> None:
    """An administrator and a viewer, made once over the API."""
    state = requests.get(f"{server.url}/api/auth/state", timeout=10).json()
    with requests.Session() as http:
        http.headers.update(SENT)
        if state["setupNeeded"]:
            http.post(f"{server.url}/api/auth/setup", json={"name": ADMIN, "password": PASSWORD}, timeout=20)
        else:
            http.post(f"{server.url}/api/auth/login", json={"name": ADMIN, "password": PASSWORD}, timeout=20)
        users = http.get(f"{server.url}/api/auth/users", timeout=10).json()["items"]
        if VIEWER not in [user["name"] for user in users]:
            body = {"name": VIEWER, "password": VIEWERS, "role": "viewer"}
            assert http.post(f"{server.url}/api/auth/users", json=body, timeout=20).status_code == 201
        http.post(f"{server.url}/api/auth/logout", timeout=10)


def there(path: str) -> re.Pattern[str]:
    """The address of a page itself, not one that names it as where to go on to."""
    return re.compile(r"^http://[^/]+" + re.escape(path) + r"$")


def sign_in(page: Any, name: str, password: str) -> None:
    page.get_by_label("Name", exact=True).fill(name)
    page.get_by_label("Password", exact=True).fill(password)
    page.get_by_role("button", name="Sign in", exact=True).click()


def ask(page: Any) -> None:
    """Let the page ask the server for something, as any click does."""
    page.evaluate("import('/static/js/api.js').then((m) => m.api.get('/api/tasks')).catch(() => 0)")


def test_the_first_account_closes_the_door(tab: Any, server: Server) -> None:
    page, other = tab(bypass_csp=True), tab()  # axe is a script of its own
    page.goto("/settings.html?section=security")
    expect(page.get_by_role("heading", name="There are no accounts")).to_be_visible()
    other.goto("/gallery.html")
    expect(other.locator("#shell-user")).to_have_count(0)  # nobody to show

    page.goto("/login.html?next=/studio.html%3Fa%3D1")
    expect(page.get_by_role("heading", name="Digital Dalla is open on this computer.")).to_be_visible()
    expect(page.get_by_role("link", name="Continue")).to_have_attribute("href", f"{server.url}/studio.html?a=1")
    assert not serious(page)
    page.get_by_role("button", name="Create the first account").click()
    expect(page.get_by_label("Your name")).to_be_focused()
    page.get_by_label("Your name").fill(ADMIN)
    secret = page.get_by_label("Password", exact=True)
    secret.fill("password123")
    expect(page.locator(".pw-meter")).to_contain_text("Weak")
    page.get_by_role("button", name="Create the account").click()
    expect(page.locator(".field-error:visible")).to_contain_text("commonest")
    expect(secret).to_be_focused()

    page.get_by_role("button", name="Suggest a password").click()
    expect(secret).to_have_value(re.compile(r"^(\w{5}-){3}\w{5}$"))
    expect(secret).to_have_attribute("type", "text")
    expect(page.locator(".pw-meter")).to_contain_text("Strong")
    assert not serious(page)
    secret.fill(PASSWORD)
    page.get_by_role("button", name="Hide password").or_(page.locator("[data-pw-show]")).first.click()
    expect(secret).to_have_attribute("type", "password")
    page.get_by_role("button", name="Create the account").click()
    expect(page).to_have_url(there("/studio.html?a=1"))
    expect(page.get_by_role("button", name=f"{ADMIN}, Administrator: account")).to_be_visible()

    ask(other)  # what was open stays open, and says what happened
    expect(other.get_by_text("Your session has ended. What you typed is still here.")).to_be_visible()
    other.goto("/gallery.html?q=fox")
    expect(other.get_by_role("heading", name="Sign in")).to_be_visible()
    assert requests.get(f"{server.url}/api/characters", timeout=10).status_code == 401


@pytest.mark.usefixtures("accounts")
def test_signing_in_by_keyboard_with_every_fault_on_the_way(tab: Any) -> None:
    page = tab()
    page.goto("/gallery.html?q=fox")
    expect(page.get_by_label("Name", exact=True)).to_be_focused()
    problem = page.get_by_role("alert")
    page.keyboard.press("Enter")
    expect(problem).to_contain_text("Enter your name")
    page.keyboard.type("nobody-here")
    page.keyboard.press("Tab")
    page.keyboard.type("wrong-but-long-enough")
    page.keyboard.press("Enter")
    expect(problem).to_be_visible()
    unknown = problem.inner_text()
    expect(page.get_by_label("Password", exact=True)).to_be_focused()

    sign_in(page, ADMIN, "wrong-but-long-enough")
    expect(problem).to_have_text(unknown.strip())  # the same, whatever was wrong
    assert "name" in unknown and "password" in unknown

    for _ in range(8):  # the wait begins within these, and grows
        sign_in(page, "locked-out", "wrong-but-long-enough")
        expect(page.get_by_role("button", name="Sign in", exact=True)).not_to_have_attribute("aria-busy", "true")
        if "Too many tries" in problem.inner_text():
            break
    expect(problem).to_contain_text(re.compile(r"Try again in \d+ s|You can try again now"))
    expect(problem).to_contain_text("You can try again now")
    expect(page.get_by_role("button", name="Sign in", exact=True)).to_be_enabled()

    page.get_by_label("Name", exact=True).fill(ADMIN)
    page.get_by_label("Password", exact=True).focus()
    page.keyboard.press("ControlOrMeta+a")
    page.keyboard.type(PASSWORD)
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.get_by_label("Password", exact=True)).to_have_attribute("type", "text")
    page.keyboard.press("Tab")
    page.keyboard.press("Space")
    expect(page.get_by_label("Keep me signed in")).to_be_checked()
    page.keyboard.press("Enter")
    expect(page).to_have_url(there("/gallery.html?q=fox"))
    lasting = [c for c in page.context.cookies() if c["name"] == "dalla_session"][0]
    assert lasting["expires"] > 0 and lasting["httpOnly"] and lasting["sameSite"] == "Lax"

    second = page.context.new_page()
    second.goto("/login.html?next=//evil.example/")  # signed in already: on to a page of this app, nowhere else
    expect(second).to_have_url(there("/"))
    page.get_by_role("button", name=f"{ADMIN}, Administrator: account").click()
    page.get_by_role("menuitem", name="Sign out").click()
    expect(page.get_by_text("You are signed out.")).to_be_visible()
    expect(second.get_by_text("Your session has ended.")).to_be_visible()  # the other tab heard it
    sign_in(page, ADMIN, PASSWORD)
    expect(page).to_have_url(there("/"))
    expect(second.get_by_text("Your session has ended.")).to_have_count(0)


@pytest.mark.usefixtures("accounts")
def test_a_session_ended_elsewhere_loses_nothing_typed(tab: Any) -> None:
    page = tab(ADMIN, PASSWORD)
    other = tab(ADMIN, PASSWORD, user_agent=FIREFOX)
    other.goto("/studio.html")
    other.get_by_label("Prompt", exact=True).fill("a fox under red leaves")
    page.goto("/settings.html?section=account")
    row = page.locator(".ac-row", has_text="Firefox on Windows")
    expect(page.locator(".ac-row", has_text="This one")).to_have_count(1)
    row.get_by_role("button", name="Sign out").click()
    expect(row).to_have_count(0)

    ask(other)
    expect(other.get_by_text("Your session has ended. What you typed is still here.")).to_be_visible()
    other.locator(".banner").get_by_role("button", name="Sign in").click()
    dialog = other.get_by_role("dialog", name="Sign in again")
    expect(dialog.get_by_label("Name", exact=True)).to_have_value(ADMIN)
    expect(dialog.get_by_label("Password", exact=True)).to_be_focused()
    other.keyboard.type("not-the-password")
    other.keyboard.press("Enter")
    expect(dialog.get_by_role("alert")).to_contain_text("wrong")
    dialog.get_by_label("Password", exact=True).fill(PASSWORD)
    other.keyboard.press("Enter")
    expect(dialog).to_have_count(0)
    expect(other.get_by_text("Your session has ended.")).to_have_count(0)
    expect(other.get_by_label("Prompt", exact=True)).to_have_value("a fox under red leaves")
    ask(other)
    expect(other.get_by_text("Your session has ended.")).to_have_count(0)


@pytest.mark.usefixtures("accounts")
def test_people_are_added_changed_and_sent_away(tab: Any) -> None:
    page = tab(ADMIN, PASSWORD)
    page.goto("/settings.html?section=security")
    expect(page.get_by_label(f"Role of {ADMIN}")).to_be_disabled()  # the last administrator
    page.get_by_role("button", name="Add a person").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Name to sign in with").fill("no spaces please")
    dialog.get_by_label("Display name").fill("Nova Lind")
    dialog.get_by_role("radio", name="Viewer").check()
    dialog.get_by_role("button", name="Suggest a password").click()
    dialog.get_by_role("button", name="Add person").click()
    expect(dialog.locator(".field-error:visible")).to_contain_text("without spaces")
    dialog.get_by_label("Name to sign in with").fill("nova")
    dialog.get_by_role("button", name="Add person").click()
    expect(dialog).to_contain_text("Nova Lind was added")
    password = dialog.locator("code").inner_text()
    dialog.get_by_role("button", name="Done").click()
    expect(page.locator("dialog")).to_have_count(0)
    assert password not in page.content()

    nova = tab()
    nova.goto("/studio.html")
    sign_in(nova, "nova", password)
    expect(nova).to_have_url(there("/studio.html"))
    expect(nova.get_by_text("You are signed in as a viewer: you can look, not change.")).to_be_visible()
    expect(nova.locator("#st-go")).to_have_attribute("aria-disabled", "true")
    nova.get_by_label("Prompt", exact=True).fill("a fox")
    nova.keyboard.press("ControlOrMeta+Enter")
    expect(nova.locator(".toast")).to_contain_text("you can look, not change")
    assert nova.request.get("/api/tasks").json()["items"] == []  # nothing was sent
    nova.evaluate("import('/static/js/api.js').then((m) => m.api.post('/api/characters', {name: 'X'})).catch(() => 0)")
    refused = nova.locator(".toast-error")
    expect(refused).to_contain_text("needs the role editor or admin")
    expect(refused).to_contain_text("Ask an admin")
    nova.goto("/settings.html?section=security")
    expect(nova.get_by_role("heading", name="People")).to_have_count(0)
    nova.goto("/connections.html")
    expect(nova.get_by_label("Allow addresses in the private network")).to_be_disabled()
    expect(nova.get_by_role("button", name="Add webhook").first).to_have_attribute("aria-disabled", "true")

    page.get_by_label("Role of Nova Lind").select_option("editor")
    expect(page.locator(".toast").filter(has_text="an editor now")).to_be_visible()
    nova.goto("/studio.html")
    expect(nova.locator("#st-go")).not_to_have_attribute("aria-disabled", "true")

    page.get_by_role("button", name="More for Nova Lind").click()
    page.get_by_role("menuitem", name="Devices and tokens").click()
    expect(dialog.locator(".ac-row")).to_have_count(1)
    dialog.get_by_role("button", name="Sign out and revoke all").click()
    expect(dialog).to_contain_text("Signed in nowhere")
    dialog.get_by_role("button", name="Close", exact=True).last.click()
    ask(nova)
    expect(nova.get_by_text("Your session has ended.")).to_be_visible()
    page.get_by_role("button", name="More for Nova Lind").click()
    page.get_by_role("menuitem", name="Delete").click()
    expect(dialog.get_by_role("button", name="Cancel")).to_be_focused()
    dialog.get_by_role("button", name="Delete the account").click()
    expect(page.get_by_label("Role of Nova Lind")).to_have_count(0)


@pytest.mark.usefixtures("accounts")
def test_a_token_is_shown_once_and_works(tab: Any, server: Server) -> None:
    page = tab(ADMIN, PASSWORD)
    page.goto("/settings.html?section=account")
    page.get_by_role("button", name="New token").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Name").fill("Reader")
    dialog.get_by_role("button", name="Create token").click()
    shown = dialog.locator("#token-secret")
    expect(shown).to_have_text(re.compile(r"^dd_\S{20,}$"))
    token = shown.inner_text()
    expect(dialog.locator("#token-curl")).to_contain_text(f"Bearer {token}")
    page.keyboard.press("Escape")
    expect(dialog.get_by_role("alert")).to_contain_text("not copied yet")
    page.keyboard.press("Escape")
    expect(page.locator("#token-secret")).to_have_count(0)  # gone from the page, not only hidden
    assert token not in page.content()

    held = {"Authorization": f"Bearer {token}"}
    assert requests.get(f"{server.url}/api/characters", headers=held, timeout=10).status_code == 200
    refused = requests.post(f"{server.url}/api/characters", json={"name": "X"}, headers=held, timeout=10)
    assert refused.status_code == 403
    assert "scope write" in refused.json()["detail"]
    row = page.locator(".ac-row", has_text="Reader")
    expect(row).to_contain_text("never used")
    page.reload()
    expect(row).to_contain_text("used just now")
    row.get_by_role("button", name="Revoke Reader").click()
    dialog.get_by_role("button", name="Revoke token").click()
    expect(row).to_have_count(0)
    assert requests.get(f"{server.url}/api/characters", headers=held, timeout=10).status_code == 401


@pytest.mark.usefixtures("accounts")
def test_the_own_name_and_password_are_changed(tab: Any) -> None:
    page = tab(VIEWER, VIEWERS)
    page.goto("/settings.html?section=account")
    expect(page.get_by_role("button", name="Save", exact=True)).to_be_disabled()
    page.get_by_label("Display name").fill("Ben Okafor")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_role("button", name="Ben Okafor, Viewer: account")).to_be_visible()
    page.get_by_label("Present password", exact=True).fill("not-the-password")
    page.get_by_label("New password", exact=True).fill("harbour-violet-9")
    page.get_by_role("button", name="Change password").click()
    expect(page.locator(".field-error:visible")).to_contain_text("wrong")
    for before, after in ((VIEWERS, "harbour-violet-9"), ("harbour-violet-9", VIEWERS)):
        page.get_by_label("Present password", exact=True).fill(before)
        page.get_by_label("New password", exact=True).fill(after)
        page.get_by_role("button", name="Change password").click()
        expect(page.get_by_label("New password", exact=True)).to_have_value("")
    expect(page.locator(".ac-row", has_text="This one")).to_have_count(1)  # still signed in here


@pytest.mark.usefixtures("accounts")
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_no_serious_finding_and_nothing_cut_off_on_a_phone(tab: Any, theme: str) -> None:
    tools = {"bypass_csp": True, "color_scheme": theme}
    out = tab(**tools)
    out.goto("/login.html")
    sign_in(out, "nobody", "x")
    expect(out.get_by_role("alert")).to_be_visible()
    found = serious(out)
    page = tab(ADMIN, PASSWORD, **tools)
    for section, text in (("account", "API tokens"), ("security", "What the roles may do")):
        page.goto(f"/settings.html?section={section}")
        expect(page.get_by_role("heading", name=text)).to_be_visible()
        expect(page.locator("main .skeleton")).to_have_count(0)
        found += serious(page)
        page.set_viewport_size({"width": 390, "height": 844})
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, section
        page.set_viewport_size({"width": 1360, "height": 900})
    page.get_by_role("button", name="Add a person").click()
    found += serious(page)
    out.set_viewport_size({"width": 390, "height": 844})
    assert out.evaluate("document.documentElement.scrollWidth") <= 390
    assert not found, "\n".join(found)
