"""`Idempotency-Key`: the same answer again, nothing done twice, and the words for what does not fit."""

from __future__ import annotations

import threading

import pytest

from tests.conftest import png, upload


@pytest.fixture
def post(client, luna):
    media = upload(client, png(size=(640, 800))).json["items"][0]["id"]
    body = {"characterId": luna["id"], "platform": "twitter", "mediaIds": [media], "caption": "x", "dryRun": True}
    return client.post("/api/posts", json=body).json["id"]


@pytest.mark.parametrize(
    "address, body, another",
    [
        ("/api/characters", {"name": "Nova"}, {"name": "Stella"}),
        ("/api/collections", {"name": "Forest"}, {"name": "Sea"}),
        ("/api/posts/{post}/schedule", {"scheduledAt": None}, {"scheduledAt": "2031-01-01T10:00:00Z"}),
        ("/api/generate-caption", {"prompt": "a cat", "engine": "composer"}, {"prompt": "a dog"}),
        ("/api/uploads", {"name": "a.zip", "size": 10}, {"name": "a.zip", "size": 11}),
    ],
)
def test_the_same_key_answers_the_first_answer(client, post, address, body, another):
    address, headers = address.format(post=post), {"Idempotency-Key": "once"}
    first = client.post(address, json=body, headers=headers)
    assert first.status_code in (200, 201) and "Idempotent-Replayed" not in first.headers, first.json
    again = client.post(address, json=body, headers=headers)
    assert (again.status_code, again.json) == (first.status_code, first.json)
    assert again.headers["Idempotent-Replayed"] == "true"
    for name in ("Location", "ETag"):
        assert again.headers.get(name) == first.headers.get(name)
    other = client.post(address, json=another, headers=headers)
    assert other.status_code == 422 and "used for another request" in other.json["detail"]


def test_nothing_is_made_twice(client):
    for _ in range(3):
        client.post("/api/characters", json={"name": "Nova"}, headers={"Idempotency-Key": "one"})
    assert len(client.get("/api/characters").json) == 1
    client.post("/api/characters", json={"name": "Nova"}, headers={"Idempotency-Key": "two"})
    assert len(client.get("/api/characters").json) == 2


def test_the_same_key_at_the_same_moment_is_a_409_with_retry_after(app, client, container, monkeypatch):
    inside, go_on, answers = threading.Event(), threading.Event(), []
    write = container.captioning.write

    def slow(**wish):
        inside.set()
        assert go_on.wait(20)
        return write(**wish)

    monkeypatch.setattr(container.captioning, "write", slow)
    body, headers = {"prompt": "a cat", "engine": "composer"}, {"Idempotency-Key": "same"}
    first = threading.Thread(
        target=lambda: answers.append(app.test_client().post("/api/generate-caption", json=body, headers=headers))
    )
    first.start()
    assert inside.wait(20)
    second = client.post("/api/generate-caption", json=body, headers=headers)
    go_on.set()
    first.join()
    assert second.status_code == 409 and int(second.headers["Retry-After"]) >= 1
    assert "still running" in second.json["detail"] and answers[0].status_code == 200
    assert client.post("/api/generate-caption", json=body, headers=headers).json == answers[0].json


def test_after_a_failure_the_key_is_free(client):
    headers = {"Idempotency-Key": "k"}
    assert client.post("/api/characters", json={"name": ""}, headers=headers).status_code == 422
    assert client.post("/api/characters", json={"name": "Nova"}, headers=headers).status_code == 201
