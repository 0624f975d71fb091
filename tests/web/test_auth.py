"""`/api/auth`: every route, as the login page, the account page, the security page and programs use it."""

from __future__ import annotations

import threading

import pytest

from tests.conftest import upload
from tests.web.auth_kit import PASSWORD, Browser, People, quick
from tests.web.test_guard import is_problem


@pytest.fixture
def people(app):
    return People(app)


def test_before_there_are_accounts_everything_is_open(app, client):
    quick(app.extensions["dalla"])
    assert client.get("/api/auth/state").json == {
        "setupNeeded": True,
        "loginNeeded": False,
        "mode": "open",
        "signedIn": False,
    }
    me = client.get("/api/auth/me").json
    assert me["user"] is None and me["kind"] == "local" and me["mode"] == "open"
    assert set(me["rights"]) == {"read", "write", "publish", "admin", "self"}
    assert client.get("/api/auth/sessions").json == {"items": []} == client.get("/api/auth/tokens").json
    assert client.get("/api/auth/users").json == {"items": []}
    is_problem(client.post("/api/auth/tokens", json={"name": "x", "scopes": ["read"]}), 409)
    is_problem(client.post("/api/auth/users", json={"name": "x1", "password": PASSWORD, "role": "viewer"}), 409)
    is_problem(client.patch("/api/auth/me", json={"displayName": "x"}), 409)
    assert client.post("/api/auth/logout").status_code == 200


def test_setup_signs_in_and_shuts_the_door(app, client):
    quick(app.extensions["dalla"])
    answer = client.post("/api/auth/setup", json={"name": "luna", "password": PASSWORD, "next": "/studio.html?a=b"})
    assert answer.status_code == 201 and answer.json["role"] == "admin" and answer.json["next"] == "/studio.html?a=b"
    assert "password" not in answer.json and PASSWORD not in answer.text
    assert client.get("/api/auth/me").json["user"]["name"] == "luna"
    stranger = Browser(app)
    assert stranger.get("/api/auth/state").json == {
        "setupNeeded": False,
        "loginNeeded": True,
        "mode": "accounts",
        "signedIn": False,
    }
    is_problem(stranger.get("/api/characters"), 401)
    is_problem(stranger.post("/api/auth/setup", {"name": "sol", "password": PASSWORD}), 409)


def test_setup_says_what_is_wrong_by_field(app, client):
    for values, field in (
        ({"name": "luna", "password": "short"}, "password"),
        ({"name": "l", "password": PASSWORD}, "name"),
        ({"name": "luna"}, "password"),
        ({"name": "luna", "password": PASSWORD, "role": "admin"}, "role"),
    ):
        assert is_problem(client.post("/api/auth/setup", json=values), 422)["errors"][0]["field"] == field
    assert client.get("/api/auth/state").json["setupNeeded"] is True


def test_setup_by_two_at_once_makes_one_account(app, container):
    quick(container)
    codes, start = [], threading.Barrier(2)

    def make(name: str) -> None:
        browser = Browser(app)
        start.wait()
        codes.append(browser.post("/api/auth/setup", {"name": name, "password": PASSWORD}).status_code)

    threads = [threading.Thread(target=make, args=(name,)) for name in ("a1", "a2")]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    # The one who came second was either too late for setup, or already somebody who would have to sign in.
    assert sorted(codes)[0] == 201 and sorted(codes)[1] in (401, 409) and len(container.user_rows.all()) == 1


@pytest.mark.parametrize(
    "elsewhere",
    [
        {"environ_base": {"REMOTE_ADDR": "192.168.1.7"}},
        {"headers": {"X-Forwarded-For": "127.0.0.1"}},
        {"headers": {"Via": "1.1 proxy"}},
        {"headers": {"Host": "dalla.example.org"}},
    ],
)
def test_setup_from_elsewhere_is_refused(tmp_path, elsewhere):
    from app import create_app
    from tests.conftest import make_settings

    app = create_app(make_settings(tmp_path, DALLA_ALLOWED_HOSTS="dalla.example.org"))
    browser = Browser(app, **{key: value for key, value in elsewhere.items() if key != "headers"})
    headers = elsewhere.get("headers", {})
    is_problem(browser.get("/api/characters", headers=headers), 401)
    assert browser.get("/api/auth/state", headers=headers).json["loginNeeded"] is True
    is_problem(browser.post("/api/auth/setup", {"name": "mallory", "password": PASSWORD}, headers=headers), 403)
    assert app.extensions["dalla"].user_rows.all() == []
    app.extensions["dalla"].close()


def test_login_and_logout(people, app):
    browser = Browser(app)
    answer = browser.sign_in("Editor", remember=True)
    assert answer.status_code == 200 and answer.json["user"]["role"] == "editor" and answer.json["next"] == "/"
    assert browser.get("/api/auth/me").json["kind"] == "session"
    assert browser.get("/api/auth/state").json["signedIn"] is True
    cookie = browser.cookie
    assert browser.post("/api/auth/logout").status_code == 200 and browser.cookie == ""
    is_problem(browser.get("/api/characters"), 401)
    browser.client.set_cookie("dalla_session", cookie)
    is_problem(browser.get("/api/characters"), 401)


def test_wrong_in_any_way_is_one_sentence(people, app):
    people.admin.patch(f"/api/auth/users/{people.ids['viewer']}", {"disabled": True})
    said = {
        is_problem(Browser(app).sign_in(name, password), 401)["detail"]
        for name, password in (("admin", "wrong"), ("nobody", PASSWORD), ("viewer", PASSWORD), ("", ""), ("admin", ""))
    }
    assert said == {"The name or the password is wrong."}


def test_profile(people):
    answer = people.editor.patch("/api/auth/me", {"displayName": " Eddie  Tor "})
    assert answer.status_code == 200 and answer.json["user"]["displayName"] == "Eddie Tor"
    is_problem(people.editor.patch("/api/auth/me", {}), 422)
    is_problem(people.editor.patch("/api/auth/me", {"role": "admin"}), 422)
    problem = is_problem(people.editor.patch("/api/auth/me", {"password": "four blue bicycles"}), 422)
    assert problem["errors"][0]["field"] == "currentPassword"


def test_a_new_password_ends_the_other_sessions_and_this_one_goes_on(people):
    phone = people.browser("editor")
    before = people.editor.cookie
    answer = people.editor.patch("/api/auth/me", {"password": "four blue bicycles", "currentPassword": PASSWORD})
    assert answer.status_code == 200 and people.editor.cookie != before
    assert people.editor.get("/api/auth/me").status_code == 200
    is_problem(phone.get("/api/auth/me"), 401)
    thief = Browser(people.app)
    thief.client.set_cookie("dalla_session", before)
    is_problem(thief.get("/api/auth/me"), 401)
    assert Browser(people.app).sign_in("editor", "four blue bicycles").status_code == 200


def test_sessions(people):
    phone = people.browser("editor")
    items = people.editor.get("/api/auth/sessions").json["items"]
    assert len(items) == 2 and sum(item["current"] for item in items) == 1
    assert set(items[0]) == {"id", "current", "createdAt", "lastSeenAt", "expiresAt", "userAgent", "address"}
    other = next(item["id"] for item in items if not item["current"])
    is_problem(people.viewer.delete(f"/api/auth/sessions/{other}"), 404)
    assert people.editor.delete(f"/api/auth/sessions/{other}").status_code == 200
    is_problem(phone.get("/api/auth/me"), 401)
    people.browser("editor")
    people.browser("editor")
    assert people.editor.delete("/api/auth/sessions").json == {"ended": 2}
    own = people.editor.get("/api/auth/sessions").json["items"][0]["id"]
    assert people.editor.delete(f"/api/auth/sessions/{own}").status_code == 200 and people.editor.cookie == ""


def test_tokens(people, app):
    made = people.editor.post("/api/auth/tokens", {"name": "nightly", "scopes": ["write", "read"], "days": 30})
    assert made.status_code == 201 and made.headers["Location"].endswith(made.json["id"])
    token = made.json["token"]
    listed = people.editor.get("/api/auth/tokens")
    assert token not in listed.text and listed.json["items"][0]["scopes"] == ["read", "write"]
    assert set(listed.json["items"][0]) == {
        "id", "name", "scopes", "prefix", "createdAt", "expiresAt", "lastUsedAt", "expired"
    }  # fmt: skip
    bearer = {"Authorization": f"Bearer {token}"}
    program = app.test_client()
    assert program.post("/api/characters", json={"name": "A"}, headers=bearer).status_code == 201
    assert people.editor.get("/api/auth/tokens").json["items"][0]["lastUsedAt"] is not None
    for method, address in (("GET", "/api/auth/me"), ("GET", "/api/auth/tokens"), ("POST", "/api/auth/tokens")):
        is_problem(program.open(address, method=method, json={"name": "x", "scopes": ["read"]}, headers=bearer), 403)
    is_problem(people.viewer.delete(f"/api/auth/tokens/{made.json['id']}"), 404)
    assert people.editor.delete(f"/api/auth/tokens/{made.json['id']}").status_code == 200
    is_problem(program.get("/api/characters", headers=bearer), 401)
    for wish in ({"scopes": ["admin"]}, {"scopes": []}, {"scopes": ["read"], "days": 0}, {"scopes": ["read"], "expiresAt": "2020-01-01"}):  # fmt: skip
        is_problem(people.editor.post("/api/auth/tokens", {"name": "x", **wish}), 422)
    is_problem(people.viewer.post("/api/auth/tokens", {"name": "x", "scopes": ["write"]}), 422)


def test_users(people):
    listed = people.admin.get("/api/auth/users")
    assert [user["name"] for user in listed.json["items"]] == ["admin", "viewer", "editor"]
    assert "argon2" not in listed.text and '"password"' not in listed.text
    is_problem(people.admin.post("/api/auth/users", {"name": "EDITOR", "password": PASSWORD, "role": "viewer"}), 409)
    is_problem(people.admin.post("/api/auth/users", {"name": "sol", "password": PASSWORD, "role": "owner"}), 422)
    made = people.admin.post("/api/auth/users", {"name": "sol", "password": PASSWORD, "role": "viewer", "displayName": "S"})  # fmt: skip
    assert made.status_code == 201 and made.json["displayName"] == "S"
    address = f"/api/auth/users/{made.json['id']}"
    assert people.admin.patch(address, {"role": "editor"}).json["role"] == "editor"
    is_problem(people.admin.patch(address, {}), 422)
    is_problem(people.admin.patch(address, {"name": "other"}), 422)
    assert people.admin.delete(address).status_code == 200
    is_problem(people.admin.delete(address), 404)


def test_the_last_admin_stays(people):
    own = f"/api/auth/users/{people.ids['admin']}"
    for change in ({"role": "editor"}, {"disabled": True}):
        assert "last admin" in is_problem(people.admin.patch(own, change), 409)["detail"]
    is_problem(people.admin.delete(own), 409)
    people.admin.patch(f"/api/auth/users/{people.ids['editor']}", {"role": "admin"})
    assert people.admin.patch(own, {"role": "viewer"}).status_code == 200
    is_problem(people.admin.get("/api/auth/users"), 403)


def test_an_admin_sees_and_ends_what_a_user_is_signed_in_with(people, app):
    bearer = people.token("read", role="editor")
    address = f"/api/auth/users/{people.ids['editor']}/access"
    access = people.admin.get(address).json
    assert len(access["sessions"]) == 1 and len(access["tokens"]) == 1
    assert people.admin.delete(address).json == {"sessions": 1, "tokens": 1}
    is_problem(people.editor.get("/api/characters"), 401)
    is_problem(app.test_client().get("/api/characters", headers=bearer), 401)
    is_problem(people.admin.get("/api/auth/users/user_x/access"), 404)


# ---------------------------------------------------------------- what goes beyond a route's row


def test_only_an_admin_names_a_path_of_this_computer(people, tmp_path):
    (tmp_path / "pictures").mkdir()
    for route in ("plan", "import"):
        wish = {"path": str(tmp_path / "pictures"), "name": "x"}
        assert "admin" in is_problem(people.editor.post(f"/api/datasets/{route}", wish), 403)["detail"]
        assert people.admin.post(f"/api/datasets/{route}", wish).status_code not in (401, 403)
    form = {"path": str(tmp_path), "name": "x"}
    answer = people.editor.open("POST", "/api/datasets/upload", data=form, content_type="multipart/form-data")
    is_problem(answer, 403)


def test_a_task_is_run_again_only_by_who_may_start_it(people, app, container):
    write, both = people.token("write"), people.token("write", "publish")
    client = app.test_client()
    for kind, allowed in (("publish_post", [both]), ("run_task", [both]), ("hash_weights", [write, both]), ("convert_weights", [])):  # fmt: skip
        job = container.jobs.submit(kind, {})
        for action in ("cancel", "retry"):
            for bearer in (write, both):
                answer = client.post(f"/api/tasks/{job.id}/{action}", headers=bearer)
                if bearer in allowed:
                    assert answer.status_code in (202, 409), (kind, action)  # 409: there is nothing to retry any more
                else:
                    is_problem(answer, 403)
        assert people.admin.post(f"/api/tasks/{job.id}/cancel").status_code in (202, 409)


def test_accounts_of_a_character_need_publish(people, app, luna_of):
    write, client = people.token("write"), app.test_client()
    address = f"/api/characters/{luna_of['id']}"
    whole = client.get(address, headers=write).json
    assert client.put(address, json={**whole, "personality": "calm"}, headers=write).status_code == 200
    for change in ({"instagramApiKey": "stolen"}, {"twitterAccountId": "1"}, {"instagramApiKey": "env:PATH"}, {"dryRun": False}):  # fmt: skip
        is_problem(client.patch(address, json=change, headers=write), 403)
    is_problem(client.post("/api/characters", json={"name": "B", "twitterAppKey": "k"}, headers=write), 403)
    assert people.editor.patch(address, {"dryRun": False}).status_code == 200


@pytest.fixture
def luna_of(people):
    made = people.editor.post("/api/characters", {"name": "Luna", "instagramAccountId": "17", "dryRun": True})
    assert made.status_code == 201, made.json
    return made.json


def test_only_an_admin_sees_the_key_in_a_webhook(people):
    hook = people.admin.post("/api/webhooks", {"url": "https://93.184.216.34/services/T0/SECRET"})
    assert hook.status_code == 201, hook.json
    for address in ("/api/webhooks", f"/api/webhooks/{hook.json['id']}"):
        assert "SECRET" in people.admin.get(address).text
        assert "SECRET" not in people.editor.get(address).text and "93.184.216.34" in people.editor.get(address).text


def test_nobody_is_given_somebody_elses_first_answer(people, app):
    key = {"Idempotency-Key": "one"}
    first = people.editor.post("/api/characters", {"name": "A"}, headers=key)
    again = people.editor.post("/api/characters", {"name": "A"}, headers=key)
    other = people.admin.post("/api/characters", {"name": "A"}, headers=key)
    token = app.test_client().post("/api/characters", json={"name": "A"}, headers={**key, **people.token("write", role="editor")})  # fmt: skip
    assert again.json["id"] == first.json["id"] and again.headers["Idempotent-Replayed"] == "true"
    assert len({first.json["id"], other.json["id"], token.json["id"]}) == 3


def test_files_are_behind_the_door_too(people, app):
    from tests.conftest import png

    kept = upload(_Sending(people.editor), png()).json
    id = (kept["items"] if "items" in kept else [kept])[0]["id"]
    stranger = app.test_client()
    for address in (f"/api/media/{id}/file", f"/api/media/{id}/thumb", "/metrics", "/health/ready", "/api/events"):
        is_problem(stranger.get(address), 401)
    assert people.viewer.get(f"/api/media/{id}/file").status_code == 200


class _Sending:
    """A browser with the `post` of a test client."""

    def __init__(self, browser: Browser) -> None:
        self.browser = browser

    def post(self, address, **options):
        return self.browser.open("POST", address, **options)
