"""Ways around the table of rights: what somebody may not do directly, they may not do in a roundabout way."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from dalla.web import access, pages
from tests.web.auth_kit import Browser, People

BACKUP = {"name": "Every night", "type": "backup", "schedule": "0 3 * * *", "config": {"keep": 1}}


@pytest.fixture
def people(app) -> People:
    return People(app)


def test_a_scheduled_backup_is_an_admins_whoever_may_publish(app, people):
    """Its `keep` deletes older backups, and each one fills the disk."""
    made = people.admin.post("/api/scheduler", {"action": "add_task", "task": BACKUP})
    assert made.status_code == 201, made.json
    id = made.json["id"]
    luna = people.admin.post("/api/characters", {"name": "Luna"}).json["id"]
    other = {"name": "Other", "type": "generate_only", "schedule": "0 3 * * *", "characterId": luna, "config": {}}
    plain = people.editor.post("/api/scheduler", {"action": "add_task", "task": other})
    assert plain.status_code == 201, plain.json
    token = people.token("write", "publish")
    ways = [
        ("POST", "/api/scheduler", {"action": "add_task", "task": BACKUP}),
        ("POST", "/api/scheduler", {"action": "add_task", **BACKUP}),
        ("POST", "/api/scheduler", {"action": "update_task", "id": id, "task": {"config": {"keep": 1}}}),
        ("POST", "/api/scheduler", {"action": "update_task", "id": plain.json["id"], "task": {"type": "backup"}}),
        ("POST", "/api/scheduler", {"action": "toggle_task", "taskId": id}),
        ("POST", "/api/scheduler", {"action": "delete_task", "id": id}),
        ("POST", "/api/scheduler", {"action": "run_now", "id": id}),
        ("PUT", f"/api/scheduler/tasks/{id}", {"config": {"keep": 1}}),
        ("PATCH", f"/api/scheduler/tasks/{id}", {"active": False}),
        ("PATCH", f"/api/scheduler/tasks/{plain.json['id']}", {"type": "backup", "config": {}}),
        ("DELETE", f"/api/scheduler/tasks/{id}", None),
        ("POST", f"/api/scheduler/tasks/{id}/run", {}),
        ("POST", f"/api/scheduler/tasks/{id}/skip", {"slot": "2030-01-01T02:00:00.000Z"}),
    ]
    program = app.test_client(use_cookies=False)
    for method, address, body in ways:
        answer = people.editor.open(method, address, json=body)
        assert answer.status_code == 403, (method, address, body, answer.json)
        assert program.open(address, method=method, json=body, headers=token).status_code == 403, (method, address)
    rules = {task["id"]: task for task in people.admin.get("/api/scheduler").json}
    assert set(rules) == {id, plain.json["id"]} and rules[id]["active"] and rules[id]["config"] == {"keep": 1}
    assert rules[plain.json["id"]]["type"] == "generate_only"
    [run] = people.admin.post(f"/api/scheduler/tasks/{id}/run", {}).json["runs"]
    assert run["jobId"]
    for address in (f"/api/tasks/{run['jobId']}/retry", f"/api/tasks/{run['jobId']}/cancel"):
        assert people.editor.post(address).status_code == 403, address
    for address in (f"/api/scheduler/runs/{run['runId']}/retry", f"/api/scheduler/runs/{run['runId']}/cancel"):
        assert people.editor.post(address, {}).status_code == 403, address
    everything = {"action": "run_now", "dryRun": True, "confirm": True}
    assert {run["taskId"] for run in people.editor.post("/api/scheduler", everything).json["runs"]} == {
        plain.json["id"]
    }
    started = program.post("/api/scheduler", json=everything, headers=token).json["runs"]
    assert {run["taskId"] for run in started} == {plain.json["id"]}
    assert {run["taskId"] for run in people.admin.post("/api/scheduler", everything).json["runs"]} == set(rules)
    assert people.admin.delete(f"/api/scheduler/tasks/{id}").status_code == 200


def test_the_pages_know_which_kinds_of_work_are_an_admins():
    script = (Path(pages.STATIC) / "js" / "tasks.js").read_text()
    [listed] = re.findall(r"ADMIN_KINDS = new Set\(\[(.*?)\]\)", script, re.DOTALL)
    assert set(re.findall(r'"(\w+)"', listed)) == {
        kind for kind, right in access.TASKS.items() if right == access.ADMIN
    }


def test_switching_a_character_on_lets_its_posts_go_out_so_it_needs_publish(app, people):
    id = people.admin.post("/api/characters", {"name": "Luna", "isActive": False}).json["id"]
    program = app.test_client(use_cookies=False)
    write, publish = people.token("write"), people.token("write", "publish")
    assert program.patch(f"/api/characters/{id}", json={"isActive": True}, headers=write).status_code == 403
    by_body = program.put("/api/characters", json={"id": id, "isActive": True, "name": "Luna"}, headers=write)
    assert by_body.status_code == 403
    assert (
        program.patch(f"/api/characters/{id}", json={"backstory": "x", "isActive": False}, headers=write).status_code
        == 200
    )
    assert program.patch(f"/api/characters/{id}", json={"isActive": True}, headers=publish).status_code == 200
    assert (
        program.patch(f"/api/characters/{id}", json={"isActive": True, "backstory": "y"}, headers=write).status_code
        == 200
    )


def test_a_key_of_somebody_else_does_not_lead_to_their_post(app, people):
    id = people.admin.post("/api/characters", {"name": "Luna"}).json["id"]
    body = {"characterId": id, "platform": "twitter", "caption": "Tea."}
    first = people.admin.post("/api/posts", body, headers={"Idempotency-Key": "1"})
    second = people.editor.post("/api/posts", body, headers={"Idempotency-Key": "1"})
    again = people.editor.post("/api/posts", body, headers={"Idempotency-Key": "1"})
    assert first.status_code == second.status_code == 201, (first.json, second.json)
    assert first.json["id"] != second.json["id"] == again.json["id"]


@pytest.mark.parametrize(
    "address",
    ["index.html", "index.html/", "index.html/.", "index.html/./", "INDEX.html/", "index.html%2f", "js/../index.html/"],
)
def test_a_page_needs_signing_in_however_its_address_is_written(app, people, address):
    assert Browser(app).get(f"/static/{address}").status_code in (303, 404)


@pytest.mark.parametrize("address", ["/metrics", "/health/ready", "/tasks/none/status", "/api/characters", "/none"])
def test_nothing_private_is_kept_by_a_cache(people, address):
    assert people.viewer.get(address).headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize(
    "sign", [{"environ_overrides": {"SERVER_PROTOCOL": "HTTP/1.0"}}, {"headers": {"X-Original-Host": "dalla.example"}}]
)
def test_a_proxy_that_says_little_is_not_this_computer(app, client, sign):
    """nginx as it comes: another Host, no header, HTTP/1.0."""
    assert client.get("/api/characters", **sign).status_code == 401
    wish = {"name": "mallory", "password": "three green tractors"}
    assert client.post("/api/auth/setup", json=wish, **sign).status_code == 403
    assert client.get("/api/auth/state").json["setupNeeded"]


def test_nobody_takes_the_live_updates_of_everybody(app, people):
    """Streams of one account are few; the others still get theirs, and a place that is left is free again."""

    def stream(browser: Browser):
        return browser.client.get("/api/events")

    others = [people.browser("viewer") for _ in range(2)]
    taken = [stream(browser) for browser in (people.viewer, *others) for _ in range(4)]
    try:
        assert [answer.status_code for answer in taken] == [200] * 8 + [503] * 4
        mine = stream(people.editor)
        assert mine.status_code == 200
        mine.close()
        taken[0].close()
        again = stream(people.viewer)
        assert again.status_code == 200
        again.close()
    finally:
        for answer in taken:
            answer.close()


class TestAddressesWithAPassword:
    """An address is shown to everybody who signs in, in the settings and in the state of the app."""

    @pytest.fixture
    def environ(self):
        return {"DALLA_CAPTION_URL": "http://me:hunter2hunter@127.0.0.1:9/v1"}

    def test_none_is_saved_and_one_of_the_environment_is_not_shown(self, people):
        for name in ("geminiBaseUrl", "s3Endpoint", "publicBaseUrl", "xApiUrl"):
            for address in ("https://me:hunter2@example.com", "https://token@example.com"):
                refused = people.admin.patch("/api/settings", {name: address})
                assert refused.status_code == 422 and "hunter2" not in refused.text, (name, refused.text)
                assert refused.json["errors"][0]["field"] == name
        shown = people.viewer.get("/api/settings")
        [row] = [row for row in shown.json["items"] if row["name"] == "captionUrl"]
        assert row["value"] == "http://••••@127.0.0.1:9/v1"
        for address in ("/api/settings", "/api/system/status", "/api/home", "/metrics", "/api/captions/engines"):
            answer = people.viewer.get(address)
            assert answer.status_code == 200 and "hunter2" not in answer.text, address
        tried = people.admin.post("/api/settings/test/local", {})
        assert tried.status_code == 200 and "hunter2" not in tried.text
        written = people.admin.post("/api/generate-caption", {"prompt": "tea", "engine": "local"})
        assert "hunter2" not in written.text
