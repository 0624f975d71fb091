"""What a page from elsewhere can do to the app through somebody's browser: nothing.

`attacker.test` leads to this computer, as a name does whose owner points it at 127.0.0.1 after the page is loaded
(DNS rebinding). The attacker's own page comes from another port under the same name.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import requests

pytest.importorskip("playwright.sync_api")

from tests.e2e.conftest import Server  # noqa: E402

PASSWORD = "correct horse battery staple"
PAGE = b"""<!doctype html><title>Nice kittens</title><iframe name="sink"></iframe>
<form target="sink" method="post" enctype="text/plain"><input name='{"name": "Mallory", "x": "' value='"}'></form>"""


class Attacker(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(PAGE)

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[str]:
    """The address of the attacker's page."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Attacker)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://attacker.test:{server.server_address[1]}/"
    server.shutdown()
    server.server_close()


@pytest.fixture
def victim(browser, server) -> Iterator[Any]:
    """A browser that has the app open in another tab."""
    context = browser.new_context()
    page = context.new_page()
    page.goto(server.url)
    yield context
    context.close()


#: Each tries to make a character; what the attacker may read of the answer comes back.
ATTACKS = {
    "json": "fetch(app, {method: 'POST', headers: {'Content-Type': 'application/json', 'X-Dalla': '1'}, body})",
    "text": "fetch(app, {method: 'POST', mode: 'no-cors', headers: {'Content-Type': 'text/plain'}, body})",
    "with cookies": "fetch(app, {method: 'POST', mode: 'no-cors', credentials: 'include', body: new Blob([body])})",
    "beacon": "new Promise((done) => { navigator.sendBeacon(app, body); setTimeout(() => done(new Response('')), 500); })",
    "form": "new Promise((done) => { const f = document.forms[0]; f.action = app; f.submit(); setTimeout(() => done(new Response('')), 800); })",
    "read": "fetch(app, {credentials: 'include'})",
    "read events": "fetch(app.replace('characters', 'events'), {mode: 'no-cors', credentials: 'include'})",
}


def attack(page: Any, url: str, script: str) -> str:
    """Run one attack on the attacker's page; return the text it could read, or the browser's refusal."""
    return page.evaluate(
        """async ([app, script]) => {
            const body = JSON.stringify({name: "Mallory"});
            try { return "read: " + await (await eval(script)).text(); } catch (error) { return String(error); }
        }""",
        [f"{url}/api/characters", script],
    )


def names(server: Any, **options: Any) -> list[str]:
    return [c["name"] for c in requests.get(f"{server.url}/api/characters", timeout=10, **options).json()]


@pytest.mark.parametrize("kind", ATTACKS)
def test_a_page_from_elsewhere_changes_and_reads_nothing(victim, server, elsewhere, kind):
    requests.post(f"{server.url}/api/characters", json={"name": "Luna"}, timeout=10)
    page = victim.new_page()
    page.goto(elsewhere)
    said = attack(page, server.url, ATTACKS[kind])
    assert "Luna" not in said
    assert "Mallory" not in names(server)


def test_a_name_that_was_rebound_to_this_computer_gets_no_answer(victim, server, elsewhere):
    requests.post(f"{server.url}/api/characters", json={"name": "Luna"}, timeout=10)
    port = server.url.rsplit(":", 1)[1]
    page = victim.new_page()
    rebound = f"http://attacker.test:{port}"
    answer = page.goto(f"{rebound}/")
    assert answer.status == 403 and "Luna" not in page.content()
    said = attack(page, rebound, ATTACKS["read"])  # the same origin now: the browser lets everything through
    assert "not served under the name" in said and "Luna" not in said
    attack(page, rebound, ATTACKS["json"])
    assert "Mallory" not in names(server)


def test_the_app_cannot_be_framed(victim, server, elsewhere):
    page = victim.new_page()
    page.goto(elsewhere)
    inside = page.frames[1]
    with page.expect_event("framenavigated", lambda frame: frame == inside):
        page.evaluate("(app) => { document.querySelector('iframe').src = app; }", server.url)
    inside.wait_for_load_state()
    assert "chrome-error" in inside.url or not inside.content().count("app-shell")


def test_somebody_who_is_signed_in_is_no_way_in_either(browser, tmp_path, elsewhere):
    server = Server(tmp_path)
    try:
        made = requests.post(f"{server.url}/api/auth/setup", json={"name": "ada", "password": PASSWORD}, timeout=30)
        assert made.status_code == 201, made.text
        cookie = made.cookies["dalla_session"]
        mine = {"cookies": {"dalla_session": cookie}}
        context = browser.new_context()
        context.add_cookies(
            [{"name": "dalla_session", "value": cookie, "url": server.url, "httpOnly": True, "sameSite": "Lax"}]
        )
        page = context.new_page()
        page.goto(f"{server.url}/characters.html")
        assert "login" not in page.url
        page.evaluate("() => fetch('/api/characters', {method: 'POST', headers: {'Content-Type': 'application/json', 'X-Dalla': '1'}, body: '{\"name\": \"Luna\"}'})")  # fmt: skip
        assert names(server, **mine) == ["Luna"]

        page.goto(elsewhere)
        for kind, script in ATTACKS.items():
            said = attack(page, server.url, script)
            assert "Luna" not in said, kind
        # the app's own pages may send what has no header of ours only as far as the door
        page.goto(f"{server.url}/characters.html")
        said = attack(
            page, server.url, "fetch(app, {method: 'POST', headers: {'Content-Type': 'application/json'}, body})"
        )
        assert "does not come from a page of this app" in said
        assert names(server, **mine) == ["Luna"]
        context.close()
    finally:
        server.stop()
