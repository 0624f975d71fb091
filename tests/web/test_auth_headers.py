"""The door from the outside: cookies, headers, proxies, and what somebody with bad intentions would try first."""

from __future__ import annotations

import threading
from urllib.parse import parse_qs, urlsplit

import pytest

from app import create_app
from dalla.times import now_iso
from dalla.web import access, events
from tests.conftest import make_settings
from tests.web.auth_kit import PASSWORD, Browser, People, quick
from tests.web.test_guard import is_problem


@pytest.fixture
def people(app):
    return People(app)


@pytest.fixture
def served(tmp_path):
    """Build an app with other settings, one account in it."""
    made = []

    def build(**env: str) -> People:
        app = create_app(make_settings(tmp_path, **env))
        made.append(app.extensions["dalla"])
        return People(app)

    yield build
    for container in made:
        container.close()


def flags(answer) -> dict[str, str]:
    parts = [part.strip().partition("=") for part in answer.headers["Set-Cookie"].split(";")]
    return {name: value for name, _, value in parts}


# ---------------------------------------------------------------- the cookie


def test_flags_of_the_cookie(people, app):
    found = flags(Browser(app).sign_in("editor"))
    assert found.keys() == {"dalla_session", "HttpOnly", "SameSite", "Path"}
    assert found["SameSite"] == "Lax" and found["Path"] == "/" and len(found["dalla_session"]) >= 43
    lasting = flags(Browser(app).sign_in("editor", remember=True))
    assert int(lasting["Max-Age"]) == 30 * 86400
    assert "Secure" in flags(Browser(app, base_url="https://localhost").sign_in("editor"))
    browser = people.browser("editor")
    gone = flags(browser.post("/api/auth/logout"))
    assert gone["dalla_session"] == "" and gone["Max-Age"] == "0" and "HttpOnly" in gone


def test_a_session_given_from_outside_is_not_taken_over(people, app):
    browser = Browser(app)
    browser.client.set_cookie("dalla_session", "chosen-by-somebody-else-0123456789abcdefghij")
    browser.sign_in("editor")
    assert browser.cookie != "chosen-by-somebody-else-0123456789abcdefghij"
    victim = people.viewer.cookie
    thief = Browser(app)
    thief.client.set_cookie("dalla_session", victim)
    assert thief.sign_in("editor").status_code == 200
    assert thief.cookie != victim, "signing in gives a new one"
    is_problem(people.viewer.get("/api/auth/me"), 401)  # and ends the one the browser had


@pytest.mark.parametrize("cookie", ["", "x", "é", "0" * 64, "a" * 5000, "'; DROP TABLE users; --", "dd_abc"])
def test_nonsense_as_a_cookie(people, app, cookie):
    answer = app.test_client().get("/api/characters", headers={"Cookie": f"dalla_session={cookie}".encode().decode("latin-1")})  # fmt: skip
    is_problem(answer, 401)


def test_the_hash_that_is_kept_does_not_sign_in(people, app, container):
    kept = container.user_rows.sessions(people.ids["admin"])[0].hash
    browser = Browser(app)
    browser.client.set_cookie("dalla_session", kept)
    is_problem(browser.get("/api/characters"), 401)


# ---------------------------------------------------------------- the header


def test_a_change_with_the_cookie_needs_the_header(people):
    client = people.editor.client
    for header in ({}, {"X-Dalla": "0"}, {"X-Dalla": ""}):
        for method, address in (("POST", "/api/characters"), ("PUT", "/api/characters/x"), ("PATCH", "/api/characters/x"), ("DELETE", "/api/characters/x")):  # fmt: skip
            problem = is_problem(client.open(address, method=method, json={}, headers=header), 403)
            assert "X-Dalla" in problem["remedy"]
    is_problem(client.post("/api/auth/logout"), 403)
    assert client.post("/api/characters", json={"name": "A"}, headers={"X-Dalla": "1"}).status_code == 201
    assert client.get("/api/characters").status_code == 200


def test_a_token_needs_no_header(people, app):
    bearer = people.token("write")
    assert app.test_client().post("/api/characters", json={"name": "A"}, headers=bearer).status_code == 201


def test_a_page_from_elsewhere_is_refused_even_with_the_cookie(people):
    for headers in ({"Origin": "http://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
        is_problem(people.editor.post("/api/characters", {"name": "A"}, headers=headers), 403)
        is_problem(people.editor.post("/api/auth/login", {"name": "admin", "password": PASSWORD}, headers=headers), 403)


def test_no_other_method_hides_behind_post(people):
    made = people.editor.post("/api/characters", {"name": "A"}).json
    for headers in ({"X-HTTP-Method-Override": "DELETE"}, {"X-Method-Override": "DELETE"}):
        people.viewer.open("GET", f"/api/characters/{made['id']}?_method=DELETE", headers=headers)
        people.editor.open("POST", f"/api/characters/{made['id']}", headers=headers)
    assert people.viewer.get(f"/api/characters/{made['id']}").status_code == 200


# ---------------------------------------------------------------- tokens in the header


@pytest.mark.parametrize(
    "header", ["Bearer", "Bearer ", "Bearer dd_", "bearer nonsense", "Bearer dd_" + "x" * 43, "Bearer é", "Bearer a b"]
)
def test_a_bad_token_is_refused_and_not_made_good_by_a_cookie(people, app, header):
    value = header.encode().decode("latin-1")
    problem = is_problem(app.test_client().get("/api/characters", headers={"Authorization": value}), 401)
    assert problem["code"] == "unauthorized"
    is_problem(people.admin.get("/api/characters", headers={"Authorization": value}), 401)


def test_other_schemes_are_no_business_of_ours(people):
    assert people.admin.get("/api/characters", headers={"Authorization": "Basic eDp5"}).status_code == 200


def test_an_expired_token(people, app, container):
    bearer = people.token("read", days=1)
    assert app.test_client().get("/api/characters", headers=bearer).status_code == 200
    with container.library.write() as connection:
        from dalla.stores.schema_users import api_tokens

        connection.execute(api_tokens.update().values(expires_at="2020-01-01T00:00:00.000Z"))
    container.auth._recent._kept.clear()
    problem = is_problem(app.test_client().get("/api/characters", headers=bearer), 401)
    assert "expired" in problem["detail"]


def test_401_says_how_to_sign_in(people, app):
    answer = app.test_client().get("/api/characters")
    assert answer.headers["WWW-Authenticate"] == "Bearer" and answer.headers["Cache-Control"] == "no-store"
    assert "/login.html" in answer.json["remedy"]


def test_403_names_what_is_missing(people, app):
    assert "editor" in is_problem(people.viewer.post("/api/characters", {"name": "A"}), 403)["detail"]
    assert "admin" in is_problem(people.editor.patch("/api/settings", {}), 403)["detail"]
    said = is_problem(app.test_client().post("/api/characters", json={"name": "A"}, headers=people.token("read")), 403)
    assert "scope write" in said["detail"] and "token" in said["remedy"]


# ---------------------------------------------------------------- what changes while a session lives


def test_a_disabled_user_is_out_at_once(people):
    people.admin.patch(f"/api/auth/users/{people.ids['editor']}", {"disabled": True})
    is_problem(people.editor.get("/api/characters"), 401)
    is_problem(Browser(people.app).sign_in("editor"), 401)


def test_a_lowered_role_counts_at_once(people):
    assert people.editor.post("/api/characters", {"name": "A"}).status_code == 201
    people.admin.patch(f"/api/auth/users/{people.ids['editor']}", {"role": "viewer"})
    is_problem(people.editor.post("/api/characters", {"name": "B"}), 403)
    assert people.editor.get("/api/auth/me").json["rights"] == ["read", "self"]


def assert_ends(chunks) -> None:
    ended = threading.Event()
    threading.Thread(target=lambda: (list(chunks), ended.set()), daemon=True).start()
    assert ended.wait(10), "the stream goes on without its session"


@pytest.mark.parametrize("how", ["logout", "disabled", "deleted", "password", "ended", "token"])
def test_an_event_stream_ends_with_its_session(people, app, monkeypatch, how):
    monkeypatch.setattr(events, "LOOK_AGAIN_SECONDS", 0.0)
    browser = people.browser("editor")
    bearer = people.token("read", role="editor") if how == "token" else {}
    client = app.test_client() if bearer else browser.client
    stream = client.get("/api/events", headers=bearer, buffered=False)
    assert stream.status_code == 200
    chunks = iter(stream.response)
    assert b"snapshot" in next(chunks)
    address = f"/api/auth/users/{people.ids['editor']}"
    {
        "logout": lambda: browser.post("/api/auth/logout"),
        "disabled": lambda: people.admin.patch(address, {"disabled": True}),
        "deleted": lambda: people.admin.delete(address),
        "password": lambda: people.admin.patch(address, {"password": "four blue bicycles"}),
        "ended": lambda: people.admin.delete(f"{address}/access"),
        "token": lambda: people.admin.delete(f"{address}/access"),
    }[how]()
    assert_ends(chunks)
    stream.close()


def test_an_open_stream_ends_when_the_first_account_is_made(app, client, monkeypatch):
    monkeypatch.setattr(events, "LOOK_AGAIN_SECONDS", 0.0)
    stream = client.get("/api/events", buffered=False)
    chunks = iter(stream.response)
    next(chunks)
    People(app)
    assert_ends(chunks)
    stream.close()


# ---------------------------------------------------------------- guessing


@pytest.fixture
def no_time_passes(monkeypatch):
    """The first wait is a second long: however slow the machine is, it does not end within a test."""
    now = now_iso()
    monkeypatch.setattr("dalla.services.auth.now_iso", lambda: now)


@pytest.mark.usefixtures("no_time_passes")
def test_brute_force_is_slowed_and_says_for_how_long(people, app):
    for _ in range(5):
        is_problem(Browser(app).sign_in("editor", "wrong"), 401)
    answer = Browser(app).sign_in("editor")
    problem = is_problem(answer, 429)
    assert problem["code"] == "rate_limited" and problem["retryAfter"] >= 1
    assert int(answer.headers["Retry-After"]) == problem["retryAfter"] and "Set-Cookie" not in answer.headers
    assert Browser(app).sign_in("viewer").status_code == 200, "others are not shut out"
    assert people.editor.get("/api/characters").status_code == 200, "who is signed in stays so"


@pytest.mark.usefixtures("no_time_passes")
def test_neither_names_nor_passwords_that_fail_are_logged(people, app, caplog):
    with caplog.at_level("DEBUG"):
        for _ in range(6):
            Browser(app).sign_in("My secret typed in the wrong field", "another secret")
        people.browser("editor")
    assert "secret" not in caplog.text and PASSWORD not in caplog.text
    assert "a sign-in from 127.0.0.1 failed" in caplog.text and "have to wait" in caplog.text
    assert "editor signed in from 127.0.0.1" in caplog.text


@pytest.mark.usefixtures("no_time_passes")
def test_an_address_cannot_be_invented(served):
    people = served(DALLA_ALLOWED_HOSTS="dalla.example.org")
    for number in range(20):
        Browser(people.app).post(
            "/api/auth/login",
            {"name": f"n{number}", "password": "x"},
            headers={"X-Forwarded-For": f"10.0.0.{number}"},
        )
    is_problem(Browser(people.app).sign_in("editor"), 429)


# ---------------------------------------------------------------- proxies


def test_what_a_proxy_says_is_believed_only_when_a_setting_says_so(served):
    through = {"X-Forwarded-For": "6.6.6.6, 203.0.113.7", "X-Forwarded-Proto": "https"}
    people = served(DALLA_TRUSTED_PROXIES="127.0.0.1, 10.0.0.0/8")
    browser = Browser(people.app)
    answer = browser.post("/api/auth/login", {"name": "editor", "password": PASSWORD}, headers=through)
    assert "Secure" in flags(answer)
    assert browser.get("/api/auth/sessions").json["items"][0]["address"] == "203.0.113.7"
    for said, address in (("203.0.113.7, 10.1.2.3", "203.0.113.7"), ("nonsense", "127.0.0.1"), ("", "127.0.0.1")):
        again = Browser(people.app)
        again.post("/api/auth/login", {"name": "viewer", "password": PASSWORD}, headers={"X-Forwarded-For": said})
        current = next(item for item in again.get("/api/auth/sessions").json["items"] if item["current"])
        assert current["address"] == address


def test_without_the_setting_it_is_not(people, app):
    browser = Browser(app)
    through = {"X-Forwarded-For": "203.0.113.7", "X-Forwarded-Proto": "https"}
    answer = browser.post("/api/auth/login", {"name": "editor", "password": PASSWORD}, headers=through)
    assert "Secure" not in flags(answer)
    current = next(item for item in browser.get("/api/auth/sessions").json["items"] if item["current"])
    assert current["address"] == "127.0.0.1"


@pytest.mark.parametrize("header", ["X-Forwarded-For", "X-Forwarded-Host", "Forwarded", "Via", "X-Real-IP"])
def test_a_proxy_on_this_computer_is_not_this_computer(app, client, header):
    assert client.get("/api/characters").status_code == 200
    is_problem(client.get("/api/characters", headers={header: "127.0.0.1"}), 401)
    assert client.get("/", headers={header: "127.0.0.1"}).status_code == 303


def test_nobody_is_this_computer_from_another_address(app):
    for address in ("192.168.1.7", "::ffff:192.168.1.7", "", "nonsense"):
        is_problem(app.test_client().get("/api/characters", environ_base={"REMOTE_ADDR": address}), 401)
    for address in ("127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1"):
        assert app.test_client().get("/api/characters", environ_base={"REMOTE_ADDR": address}).status_code == 200


@pytest.mark.parametrize(("mode", "status"), [("on", 401), ("off", 200)])
def test_dalla_auth_on_and_off(tmp_path, mode, status):
    app = create_app(make_settings(tmp_path, DALLA_AUTH=mode))
    assert app.test_client().get("/api/characters").status_code == status
    state = app.test_client().get("/api/auth/state").json
    assert state["setupNeeded"] is True and state["loginNeeded"] is (mode == "on")
    quick(app.extensions["dalla"])
    made = app.test_client().post("/api/auth/setup", json={"name": "luna", "password": PASSWORD})
    assert made.status_code == 201
    assert app.test_client().get("/api/characters").status_code == status
    app.extensions["dalla"].close()


def test_under_the_public_address_there_are_pictures_and_nothing_else(served):
    people = served(PUBLIC_BASE_URL="https://pictures.example.org")
    public = {"Host": "pictures.example.org"}
    for address in ("/", "/login.html", "/api/auth/state", "/api/characters", "/static/js/main.js", "/health/live"):
        is_problem(people.admin.get(address, headers=public), 403)
    is_problem(people.admin.post("/api/auth/login", {"name": "admin", "password": PASSWORD}, headers=public), 403)
    is_problem(people.admin.get("/public/x.jpg", headers=public), 404)
    assert people.admin.get("/robots.txt", headers=public).status_code == 200


# ---------------------------------------------------------------- what a stranger may learn


def test_a_stranger_is_not_told_what_exists(people, app):
    client = app.test_client()
    for known, unknown in (
        ("/api/characters", "/api/nothing"),
        ("/api/characters/char_1", "/api/characters/char_1/x/y"),
        ("/metrics", "/metricsx"),
    ):
        assert client.get(known, headers={"Accept": "application/json"}).status_code in (401, 303)
        assert client.get(unknown, headers={"Accept": "application/json"}).status_code in (401, 303)
    for address in ("/studio.html", "/nothing.html", "/studio", "/nothing", "/", "/x/y/z", "/static/index.html"):
        answer = client.get(address)
        assert answer.status_code == 303 and urlsplit(answer.headers["Location"]).path == "/login.html"
        assert "no-store" in answer.headers["Cache-Control"]
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        is_problem(client.open("/api/nothing", method=method), 401)
        is_problem(client.open("/api/characters/x", method=method, data=b"{", content_type="application/json"), 401)
        is_problem(client.open("/studio.html", method=method), 401)
    for address in (
        "/datasets/x",
        "/images/x",
        "/datasets/",
        "/api/characters/",
        "//api/characters",
        "/api//characters",
    ):
        assert client.get(address).status_code in (401, 303, 403), address
    for address in ("/static/../app.py", "/static/..%2fapp.py", "/static/%2e%2e/dalla/settings.py", "/static//etc/passwd"):  # fmt: skip
        assert client.get(address).status_code in (401, 303, 403, 404), address


def test_a_browser_comes_to_the_login_page_from_wherever_it_was(people, app):
    client = app.test_client()
    seen = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
    for address in ("/gallery.html?q=a%26b&x=1", "/api/docs", "/api/media/x/file", "/datasets"):
        answer = client.get(address, headers=seen)
        assert answer.status_code == 303, address
        assert parse_qs(urlsplit(answer.headers["Location"]).query)["next"] == [address]
    assert client.get("/api/docs").status_code == 401
    for address in ("/login.html", "/login", "/static/js/main.js", "/robots.txt", "/favicon.ico", "/health/live"):
        assert client.get(address, headers=seen, buffered=True).status_code in (200, 301, 302), address


@pytest.mark.parametrize(
    "wanted",
    ["//evil.example", "/\\evil.example", "\\\\evil", "https://evil.example", "javascript:alert(1)", "/\t/evil.example",
     "/\n/evil", "evil.html", "", None, "/login.html?next=/login.html", "/x" * 2000, "/%0d%0aSet-Cookie:x\r\n"],
)  # fmt: skip
def test_after_signing_in_one_cannot_be_led_elsewhere(people, app, wanted):
    assert access.safe_next(wanted) == "/"
    answer = Browser(app).sign_in("editor", next=wanted)
    assert answer.json.get("next", "/") == "/" if answer.status_code == 200 else answer.status_code == 422


@pytest.mark.parametrize("wanted", ["/", "/studio.html?character=char_1#top", "/api/docs", "/gallery.html?q=//x"])
def test_but_to_where_one_wanted(wanted):
    assert access.safe_next(wanted) == wanted


def test_a_host_in_the_path_does_not_become_the_way_back(people, app):
    answer = app.test_client().get("//evil.example/x")
    if answer.status_code == 303:
        assert parse_qs(urlsplit(answer.headers["Location"]).query)["next"] == ["/"]
    else:
        is_problem(answer)


def test_what_is_signed_in_for_is_checked_before_the_body_is_read(people, app):
    big = b"[" * 100_000
    is_problem(app.test_client().post("/api/characters", data=big, content_type="application/json"), 401)
    is_problem(people.viewer.open("POST", "/api/characters", data=big, content_type="application/json"), 403)


def test_the_api_page_and_its_document_need_a_sign_in(people, app):
    is_problem(app.test_client().get("/api/openapi.json"), 401)
    assert people.viewer.get("/api/openapi.json").status_code == 200 == people.viewer.get("/api/docs").status_code
