"""`Idempotency-Key`: the same answer again, nothing done twice, and the words for what does not fit."""

from __future__ import annotations

import threading

import pytest
from sqlalchemy import text

from dalla.services.backup import write_backup
from tests.conftest import png, upload
from tests.web.auth_kit import People


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


def test_a_new_webhook_is_made_once_and_its_secret_told_once(client, container):
    body, headers = {"url": "https://hooks.example.com/x"}, {"Idempotency-Key": "hook"}
    first = client.post("/api/webhooks", json=body, headers=headers)
    again = client.post("/api/webhooks", json=body, headers=headers)
    assert first.status_code == again.status_code == 201 and again.headers["Idempotent-Replayed"] == "true"
    assert first.json["secret"] and "secret" not in again.json and again.json["id"] == first.json["id"]
    assert len(client.get("/api/webhooks").json["items"]) == 1
    with container.library.read() as connection:
        assert first.json["secret"] not in str(connection.execute(text("SELECT answer FROM idempotency_keys")).all())
    assert client.post(f"/api/webhooks/{first.json['id']}/secret").json["secret"] != first.json["secret"]


def test_a_new_token_is_made_once_and_told_once(app, container):
    people = People(app)
    body, headers = {"name": "for a script", "scopes": ["read"]}, {"Idempotency-Key": "token"}
    first = people.admin.post("/api/auth/tokens", body, headers=headers)
    again = people.admin.post("/api/auth/tokens", body, headers=headers)
    assert first.status_code == again.status_code == 201 and again.headers["Idempotent-Replayed"] == "true"
    assert first.json["token"] and "token" not in again.json and again.json["id"] == first.json["id"]
    assert len(people.admin.get("/api/auth/tokens").json["items"]) == 1
    with container.library.read() as connection:
        assert first.json["token"] not in str(connection.execute(text("SELECT answer FROM idempotency_keys")).all())
    other = people.editor.post("/api/auth/tokens", body, headers=headers)
    assert other.json["token"] and other.json["id"] != first.json["id"]


def send(client, address, boundary, files, **fields):
    """A form with files, as programs send it: each time with another boundary."""
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{k}"\r\n\r\n{v}\r\n'.encode() for k, v in fields.items()
    ]
    for name, data in files.items():
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'
        parts.append(head.encode() + data + b"\r\n")
    whole = b"".join(parts) + f"--{boundary}--\r\n".encode()
    kind = f"multipart/form-data; boundary={boundary}"
    return client.post(address, data=whole, content_type=kind, headers={"Idempotency-Key": "form"})


def test_a_form_with_files_is_the_same_request_whatever_its_boundary(client):
    first = send(client, "/api/datasets/upload", "aaa", {"a.png": png()}, name="Cats")
    assert first.status_code == 202, first.json
    again = send(client, "/api/datasets/upload", "bbb", {"a.png": png()}, name="Cats")
    assert again.json == first.json and again.headers["Idempotent-Replayed"] == "true"
    for files, name in (({"a.png": png(size=(9, 9))}, "Cats"), ({"b.png": png()}, "Cats"), ({"a.png": png()}, "Dogs")):
        assert send(client, "/api/datasets/upload", "ccc", files, name=name).status_code == 422
    assert client.get("/api/tasks?kind=dataset_import").json["total"] == 1


def test_a_restore_by_upload_is_started_once(client, tmp_path):
    write_backup(tmp_path)
    archive = next((tmp_path / "backups").iterdir()).read_bytes()
    wish = {"dryRun": "false", "passphrase": "one two three four"}
    first = send(client, "/api/backups/restore", "aaa", {"b.zip": archive}, **wish)
    assert first.status_code == 202, first.json
    again = send(client, "/api/backups/restore", "bbb", {"b.zip": archive}, **wish)
    assert again.json == first.json and again.headers["Idempotent-Replayed"] == "true"
    assert client.get("/api/tasks?kind=restore_backup").json["total"] == 1
    assert send(client, "/api/backups/restore", "ccc", {"b.zip": archive}, dryRun="true").status_code == 422


def test_a_passphrase_leaves_no_hash_behind(client, container):
    headers = {"Idempotency-Key": "backup"}
    prints = []
    for phrase in ("seven green boats", "eight green boats"):
        body = {"media": False, "passphrase": phrase}
        assert client.post("/api/backups", json=body, headers=headers).status_code == 202
        with container.library.read() as connection:
            prints.append(connection.execute(text("SELECT fingerprint FROM idempotency_keys")).scalars().all())
    assert prints[0] == prints[1] and len(prints[0]) == 1
