"""The schedule over HTTP: the seeds' calls, the contract's, and what is refused."""

from __future__ import annotations

import pytest

NOBODY = "task_0"


@pytest.fixture
def task(client, luna):
    answer = client.post(
        "/api/scheduler",
        json={
            "action": "add_task",
            "task": {
                "characterId": luna["id"],
                "type": "generate_and_post",
                "schedule": "0 18 * * *",
                "config": {"prompt": "luna_character in a magical forest", "postToInstagram": True},
            },
        },
    )
    assert answer.status_code == 201, answer.json
    return answer.json


@pytest.fixture
def drawing(container):
    """Pictures come from nowhere; the jobs run at once."""
    container.jobs.immediate = True
    made = []

    def draw(context, payload):
        from tests.conftest import png

        item, _ = container.gallery.add_file(
            png((len(made) * 20 % 255, 40, 90), (1024, 1024)), name="a.png", character_id=payload["character_id"]
        )
        made.append(item.id)
        return {"mediaIds": [item.id], "engine": "none", "model": "none"}

    def submit(wish):
        return container.jobs.submit("pretend", {"character_id": wish.character_id})

    container.jobs.register("pretend", draw, lane="gpu")
    container.generation.submit = submit
    return made


def act(client, action, **body):
    return client.post("/api/scheduler", json={"action": action, **body})


def test_a_task_is_created_listed_read_changed_switched_and_deleted(client, luna, task):
    assert task["description"] == "At 18:00" and task["nextRun"].endswith("18:00:00.000Z") and task["active"] is True
    assert task["characterName"] == luna["name"] and task["platforms"] == ["instagram"]
    listed = client.get("/api/scheduler")
    assert listed.headers["X-Total-Count"] == "1" and listed.json[0]["id"] == task["id"]
    assert {"nextRun", "lastRun", "lastStatus", "description"} <= listed.json[0].keys()
    one = client.get(f"/api/scheduler/tasks/{task['id']}")
    assert len(one.json["nextRuns"]) == 10 and one.headers["ETag"]
    put = client.put(
        f"/api/scheduler/tasks/{task['id']}",
        json={**one.json, "schedule": "0 9 * * 1"},  # the whole record sent back
        headers={"If-Match": one.headers["ETag"]},
    )
    assert put.status_code == 200 and put.json["description"] == "At 09:00, only on Monday"
    stale = client.patch(f"/api/scheduler/tasks/{task['id']}", json={"name": "x"}, headers={"If-Match": '"old"'})
    assert stale.status_code == 412 and stale.json["current"]["schedule"] == "0 9 * * 1"
    named = act(client, "update_task", task={"id": task["id"], "name": "Mornings"})
    assert named.status_code == 200 and named.json["name"] == "Mornings" and named.json["schedule"] == "0 9 * * 1"
    inline = act(client, "update_task", id=task["id"], timezone="Asia/Tokyo")
    assert inline.json["zone"] == "Asia/Tokyo"
    assert act(client, "toggle_task", id=task["id"], active=False).json["active"] is False
    assert act(client, "toggle_task", taskId=task["id"]).json["active"] is True
    assert act(client, "delete_task", id=task["id"]).json == {"success": True}
    assert client.get("/api/scheduler").json == []
    assert client.get(f"/api/scheduler/tasks/{task['id']}").status_code == 404


def test_fields_beside_the_action_and_filters(client, luna, task):
    made = act(client, "add_task", type="backup", schedule="@daily", config={"keep": 3}, active=False, name="Copies")
    assert made.status_code == 201 and made.headers["Location"].endswith(made.json["id"])
    assert [t["name"] for t in client.get("/api/scheduler?active=false").json] == ["Copies"]
    assert [t["id"] for t in client.get(f"/api/scheduler?characterId={luna['id']}").json] == [task["id"]]
    page = client.get("/api/scheduler?limit=1&offset=1")
    assert len(page.json) == 1 and page.headers["X-Total-Count"] == "2"
    assert 'rel="next"' in client.get("/api/scheduler?limit=1").headers["Link"]
    assert client.delete(f"/api/scheduler/tasks/{made.json['id']}").json == {"success": True}


@pytest.mark.parametrize(
    "body, field",
    [
        ({}, "action"),
        ({"action": "dance"}, "action"),
        ({"action": "add_task", "schedule": "* * * *", "type": "backup"}, "schedule"),
        ({"action": "add_task", "schedule": "0 9 * * *", "type": "backup", "timezone": "Berlin"}, "timezone"),
        ({"action": "add_task", "schedule": "0 9 * * *", "type": "bake_bread"}, "type"),
        ({"action": "add_task", "schedule": "0 9 * * *", "type": "backup", "colour": 1}, "colour"),
        ({"action": "add_task", "task": {"colour": 1}}, "task.colour"),
        ({"action": "add_task", "schedule": "0 9 * * *", "type": "backup", "config": {"keep": "x"}}, "config.keep"),
        ({"action": "toggle_task"}, "id"),
        ({"action": "update_task", "name": "x"}, "id"),
        ({"action": "delete_task"}, "id"),
    ],
)
def test_what_is_wrong_is_named(client, body, field):
    answer = client.post("/api/scheduler", json=body)
    assert answer.status_code == 422, answer.json
    assert answer.mimetype == "application/problem+json"
    assert field in [error["field"] for error in answer.json["errors"]]
    assert client.get("/api/scheduler").json == []


@pytest.mark.parametrize(
    "method, path, status",
    [
        ("get", f"/api/scheduler/tasks/{NOBODY}", 404),
        ("put", f"/api/scheduler/tasks/{NOBODY}", 404),
        ("delete", f"/api/scheduler/tasks/{NOBODY}", 404),
        ("get", "/api/scheduler/runs/run_0", 404),
        ("post", "/api/scheduler/runs/run_0/cancel", 404),
        ("post", "/api/scheduler/runs/run_0/retry", 404),
        ("get", "/api/scheduler/runs?status=asleep", 422),
        ("get", "/api/scheduler/runs?cursor=zzz", 422),
        ("get", "/api/scheduler/preview", 422),
        ("get", "/api/scheduler/preview?schedule=0 9 * * *&count=0", 422),
        ("get", "/api/scheduler/preview?schedule=0 9 * * *&from=soon", 422),
        ("get", "/api/scheduler/preview?schedule=0 9 * * *&timezone=Nowhere", 422),
    ],
)
def test_what_is_not_there_or_cannot_be_read(client, method, path, status):
    answer = getattr(client, method)(path, json={"name": "x"} if method == "put" else None)
    assert answer.status_code == status and answer.json["detail"]


def test_the_preview(client):
    query = {"schedule": "30 2 * * *", "timezone": "Europe/Berlin", "count": 3, "from": "2027-03-27T12:00:00Z"}
    seen = client.get("/api/scheduler/preview", query_string=query).json
    assert seen["valid"] is True and seen["description"] == "At 02:30" and len(seen["nextRuns"]) == 3
    assert seen["nextRuns"][0] == "2027-03-28T01:00:00.000Z" and "03:00" in seen["runs"][0]["note"]
    assert seen["notes"]
    refused = client.get("/api/scheduler/preview", query_string={"schedule": "H 9 * * *"})
    assert refused.status_code == 422 and "Jenkins" in refused.json["detail"] and refused.json["remedy"]


def test_run_now_runs_and_the_run_can_be_read(client, drawing, luna, task):
    answer = act(client, "run_now", id=task["id"])
    assert answer.status_code == 202 and answer.json["success"] is True
    [started] = answer.json["runs"]
    assert started["taskId"] == task["id"] and answer.headers["Location"].endswith(started["runId"])
    run = client.get(f"/api/scheduler/runs/{started['runId']}").json
    assert (run["trigger"], run["taskName"], run["characterName"]) == (
        "manual", "Generate and post for Luna the Mystic", luna["name"],
    )  # fmt: skip
    assert [step["name"] for step in run["steps"]] == ["prompt", "generate", "caption", "post:instagram"]
    assert run["mediaIds"] == drawing and len(run["postIds"]) == 1
    post = client.get(f"/api/posts/{run['postIds'][0]}").json
    assert (post["taskId"], post["runId"], post["dryRun"], post["source"]) == (task["id"], run["id"], True, "task")
    listed = client.get(f"/api/scheduler/runs?taskId={task['id']}&limit=10").json
    assert listed["total"] == 1 and listed["items"][0]["id"] == run["id"] and "durationMs" in listed["items"][0]
    assert client.get("/api/scheduler/runs?status=skipped,missed").json["total"] == 0
    again = client.post(f"/api/scheduler/runs/{run['id']}/retry")
    assert again.status_code in (202, 409)
    assert client.get(f"/api/scheduler/tasks/{task['id']}").json["lastRunId"]


def test_the_same_idempotency_key_runs_once(client, drawing, task):
    headers = {"Idempotency-Key": "once"}
    body = {"action": "run_now", "id": task["id"]}
    first = client.post("/api/scheduler", json=body, headers=headers)
    second = client.post("/api/scheduler", json=body, headers=headers)
    assert first.json == second.json and len(drawing) == 1


def test_live_posts_are_asked_about_when_the_caller_wants_to_be(client, drawing, luna, task):
    keys = {"instagramAccountId": "17841400000000000", "instagramApiKey": "IGAA-a-token"}
    assert client.put(f"/api/characters/{luna['id']}", json=keys).status_code == 200
    asked = client.post("/api/scheduler", json={"action": "run_now", "id": task["id"]}, headers={"X-Confirm": "ask"})
    assert asked.status_code == 409 and asked.json["code"] == "confirmation_needed"
    assert asked.json["livePosts"] == 1 and asked.json["tasks"][0]["platforms"] == ["instagram"]
    assert act(client, "run_now", confirm=False).json["code"] == "confirmation_needed"
    assert drawing == []
    assert act(client, "run_now", id=task["id"], confirm=False, dryRun=True).status_code == 202
    live = client.post(
        "/api/scheduler", json={"action": "run_now", "id": task["id"], "confirm": True}, headers={"X-Confirm": "ask"}
    )
    assert live.status_code == 202 and act(client, "run_now", id=task["id"]).status_code == 202
    posts = client.get("/api/posts?sort=soonest").json["items"]
    assert sorted(post["dryRun"] for post in posts) == [False, False, True]


def test_the_stop_switch(client, luna, task):
    assert client.get("/api/scheduler/state").json["paused"] is None
    stopped = client.post("/api/scheduler/pause", json={"reason": "on holiday"}).json
    assert stopped["paused"]["reason"] == "on holiday"
    refused = act(client, "run_now", id=task["id"])
    assert refused.status_code == 409 and "on holiday" in refused.json["detail"]
    assert client.post("/api/scheduler/resume").json["paused"] is None
    assert client.post("/api/scheduler/pause").json["paused"] is not None  # no body, no reason
    client.post("/api/scheduler/resume", json={})
    one = client.post("/api/scheduler/pause", json={"characterId": luna["id"], "reason": None}).json
    assert luna["id"] in one["characters"] and one["paused"] is None
    assert client.post("/api/scheduler/resume", json={"characterId": luna["id"]}).json["characters"] == {}
    assert client.post("/api/scheduler/pause", json={"characterId": "char_0"}).status_code == 404
    assert client.post("/api/scheduler/pause", json={"why": "x"}).status_code == 422


def test_one_occurrence_is_left_out_and_taken_back(client, task):
    slot = task["nextRun"]
    path = f"/api/scheduler/tasks/{task['id']}/skip"
    assert client.post(path, json={"slot": slot}).json["skippedSlots"] == [slot]
    assert client.get("/api/scheduler").json[0]["nextRun"] > slot
    assert client.post(path, json={"slot": slot, "skip": False}).json["nextRun"] == slot
    assert client.post(path, json={"slot": "2001-01-01T00:00:00Z"}).status_code == 422
    assert client.post(path, json={}).status_code == 422


def test_hand_written_rules_show_their_problem(client, container, task):
    container.scheduler_file.path.write_text(
        '[{"id": "a", "type": "backup", "schedule": "soon"}, {"id": "b", "type": "backup", "schedule": "@daily"}]'
    )
    shown = {t["id"]: t for t in client.get("/api/scheduler").json}
    assert "fields" in shown["a"]["problem"] or "field" in shown["a"]["problem"]
    assert shown["a"]["nextRun"] is None and shown["a"]["problemRemedy"]
    assert shown["b"]["problem"] is None and shown["b"]["nextRun"]
    refused = act(client, "run_now", id="a")
    assert refused.status_code == 422 and refused.json["errors"][0]["field"] == "schedule"
