"""`/api/webhooks` over HTTP, with a receiver that checks signatures."""

from __future__ import annotations

import pytest

from tests.fakes.receiver import ReceiverFake


@pytest.fixture
def environ() -> dict[str, str]:
    return {"DALLA_WEBHOOK_PRIVATE": "true"}


@pytest.fixture
def receiver():
    with ReceiverFake() as fake:
        yield fake


@pytest.fixture
def hook(client, receiver):
    answer = client.post(
        "/api/webhooks", json={"url": receiver.url + "/in", "events": ["post.failed"], "description": "Phone"}
    )
    assert answer.status_code == 201, answer.json
    assert answer.headers["Location"] == f"/api/webhooks/{answer.json['id']}"
    receiver.secret = answer.json["secret"]
    return answer.json


def test_the_secret_is_answered_once(client, hook):
    assert hook["secret"].startswith("whsec_")
    for path in ("/api/webhooks", f"/api/webhooks/{hook['id']}", f"/api/webhooks/{hook['id']}/deliveries"):
        assert hook["secret"] not in client.get(path).text
    assert client.get("/api/webhooks").json["items"][0]["hasSecret"] is True
    again = client.post(f"/api/webhooks/{hook['id']}/secret").json
    assert again["secret"] not in ("", hook["secret"])


def test_changing_and_deleting(client, hook):
    path = f"/api/webhooks/{hook['id']}"
    assert client.patch(path, json={"active": False}).json["active"] is False
    assert client.patch("/api/webhooks", json={"id": hook["id"], "description": "Desk"}).json["description"] == "Desk"
    changed = client.get(path).json
    assert (changed["active"], changed["description"], changed["events"]) == (False, "Desk", ["post.failed"])
    assert client.delete(path).json == {"success": True}
    assert client.get(path).status_code == 404
    assert client.delete(f"/api/webhooks?id={hook['id']}").status_code == 404


def test_a_test_and_its_delivery(client, hook, receiver):
    done = client.post(f"/api/webhooks/{hook['id']}/test").json
    assert (done["status"], done["responseCode"], done["event"]) == ("delivered", 200, "test")
    assert list(receiver.events) == [done["id"]]
    page = client.get(f"/api/webhooks/{hook['id']}/deliveries").json
    assert page["total"] == 1 and page["items"][0]["id"] == done["id"] and page["nextCursor"] is None


def test_an_event_is_sent_by_the_workers(client, running, hook, receiver):
    running.notices.emit("post.failed", {"postId": "post_1"})
    receiver.wait_for(lambda: receiver.events)
    receiver.wait_for(lambda: client.get("/api/webhooks").json["items"][0]["lastDelivery"]["status"] == "delivered")
    assert receiver.refused == []


def test_a_failed_delivery_is_sent_again_on_request(client, running, hook, receiver):
    receiver.fail_next("/in", 410)
    running.notices.emit("post.failed", {})
    path = f"/api/webhooks/{hook['id']}/deliveries"
    (row,) = receiver.wait_for(lambda: [d for d in client.get(path).json["items"] if d["status"] == "failed"])
    answer = client.post(f"{path}/{row['id']}/retry")
    assert answer.status_code == 202 and answer.json["status"] == "pending"
    receiver.wait_for(lambda: receiver.events)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"url": "nonsense"}, "url"),
        ({"url": "https://user:pw@x.example/"}, "url"),
        ({"url": "http://169.254.169.254/latest/meta-data"}, "url"),
        ({"events": ["post.imagined"]}, "events"),
        ({"events": []}, "events"),
        ({"secret": "mine"}, "secret"),
        ({"description": "x" * 201}, "description"),
    ],
)
def test_bad_values_name_their_field(client, receiver, body, field):
    answer = client.post("/api/webhooks", json={"url": receiver.url, "events": ["post.failed"], **body})
    assert answer.status_code == 422 and answer.json["errors"][0]["field"] == field
    assert client.get("/api/webhooks").json["items"] == []


def test_what_is_not_there_is_404(client):
    for method, path in (
        ("get", "/api/webhooks/hook_x"), ("patch", "/api/webhooks/hook_x"), ("delete", "/api/webhooks/hook_x"),
        ("post", "/api/webhooks/hook_x/test"), ("post", "/api/webhooks/hook_x/secret"),
        ("get", "/api/webhooks/hook_x/deliveries"), ("post", "/api/webhooks/hook_x/deliveries/dlv_x/retry"),
    ):  # fmt: skip
        answer = client.open(path, method=method.upper(), json={} if method == "patch" else None)
        assert answer.status_code == 404, path
