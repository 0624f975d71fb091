"""Posting now and waiting for the outcome: the seeds' two calls, against the pretend X; the outbox."""

from __future__ import annotations

import base64
from collections.abc import Iterator

import pytest

from dalla.errors import Conflict, InvalidInput, StorageError, TooLarge
from dalla.web import publish
from tests.conftest import png, upload
from tests.fakes.x import XFake

URL = "/api/post-to-twitter"


@pytest.fixture
def x() -> Iterator[XFake]:
    with XFake() as fake:
        yield fake


@pytest.fixture
def environ(x):
    return {"X_API_URL": x.url, "DALLA_MIN_GAP_MINUTES": "0"}


@pytest.fixture
def char(client, running, x):
    keys = {
        "".join([p if i == 0 else p.title() for i, p in enumerate(k.split("_"))]): v for k, v in x.user.keys.items()
    }
    return client.post("/api/characters", json={"name": "Luna", **keys}).json["id"]


@pytest.fixture
def post(client, char):
    def send(headers=None, url=URL, **fields):
        body = {"characterId": char, "image": b64(), "caption": "Good morning", **fields}
        return client.post(url, json={k: v for k, v in body.items() if v is not None}, headers=headers or {})

    return send


def b64(color=(200, 80, 20)) -> str:
    return base64.b64encode(png(color, size=(1080, 1350))).decode()


def test_a_picture_is_posted_and_the_answer_says_where(client, post, x):
    answer = post(altText="a red wall")
    assert answer.status_code == 200, answer.json
    said = answer.json
    assert said["success"] is True and said["status"] == "published"
    assert [said["platformPostId"]] == [entry["id"] for entry in x.posted]
    assert said["permalink"].endswith(said["platformPostId"])
    stored = client.get(f"/api/posts/{said['postId']}").json
    assert stored["source"] == "api" and stored["attempts"][-1]["outcome"] == "ok"
    assert stored["altTexts"] == ["a red wall"]
    item = client.get(f"/api/media/{said['mediaIds'][0]}").json
    assert item["characterId"] == stored["characterId"] and item["posted"] is True


def test_by_the_id_of_a_picture_in_the_gallery(client, post, x):
    media = upload(client, png(size=(900, 900))).json["items"][0]["id"]
    answer = post(image=None, mediaId=media)
    assert answer.status_code == 200 and answer.json["mediaIds"] == [media] and len(x.posted) == 1


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"image": None}, 422),
        ({"mediaId": "media_1"}, 422),  # both
        ({"image": "this is not base64!"}, 422),
        ({"image": "data:image/png,raw"}, 422),
        ({"image": ""}, 422),
        ({"image": base64.b64encode(b"no picture at all").decode()}, 415),
        ({"image": None, "mediaId": "media_404"}, 422),
        ({"caption": "x" * 3000}, 422),
        ({"characterId": "char_nobody"}, 404),
        ({"colour": "red"}, 422),
    ],
)
def test_a_bad_request_posts_and_keeps_nothing(client, post, x, fields, status):
    answer = post(**fields)
    assert answer.status_code == status and answer.mimetype == "application/problem+json", answer.json
    assert x.posted == [] and client.get("/api/posts").json["total"] == 0
    assert client.get("/api/media").json["total"] == 0


def test_a_large_picture_inside_json_is_taken(client, post, x):
    import os

    data = png(size=(1200, 1200)) + os.urandom(4 * 1024 * 1024)  # PNG readers stop at the end mark
    assert post(image=base64.b64encode(data).decode()).status_code == 200
    assert len(x.posted) == 1
    assert client.post("/api/posts", json={"characterId": "x", "caption": "x" * 3_000_000}).status_code == 413


def test_without_keys_it_is_a_rehearsal_and_the_outbox_shows_it(client, x, running):
    bare = client.post("/api/characters", json={"name": "Bare"}).json["id"]
    body = {"characterId": bare, "image": b64(), "caption": "Hello"}
    said = client.post(URL, json=body).json
    assert (said["success"], said["status"], said["dryRun"]) == (True, "dry_run", True)
    assert said["platformPostId"] is None and x.requests == []
    box = client.get("/api/outbox", query_string={"postId": said["postId"]}).json
    assert box["total"] == len(box["items"]) >= 2
    assert {entry["characterName"] for entry in box["items"]} == {"Bare"}
    assert any(entry["url"].endswith("/2/tweets") and entry["method"] == "POST" for entry in box["items"])
    live = client.post(URL, json={**body, "dryRun": False})
    assert live.status_code == 409 and live.json["code"] == "not_configured" and "Accounts" in live.json["remedy"]
    assert client.delete("/api/outbox").json["deleted"] == box["total"]
    assert client.get("/api/outbox").json == {"items": [], "nextCursor": None, "total": 0}


def test_a_wished_rehearsal_sends_nothing(post, x):
    said = post(dryRun=True).json
    assert said["status"] == "dry_run" and x.requests == []


def test_instagram_goes_the_same_way(client, post, x):
    said = post(url="/api/post-to-instagram").json  # no keys for it: a rehearsal
    assert said["status"] == "dry_run"
    assert client.get("/api/outbox").json["items"][0]["platform"] == "instagram"


def test_the_same_key_never_posts_twice(client, container, post, x):
    headers = {"Idempotency-Key": "once"}
    first, second = post(headers), post(headers)
    assert second.json == first.json and second.headers["Idempotent-Replayed"] == "true"
    container.idempotency.forget("once")  # the app died before it could write the answer down
    third = post(headers)
    assert third.status_code == 200 and third.json["postId"] == first.json["postId"]
    assert len(x.posted) == 1 and client.get("/api/posts").json["total"] == 1
    container.idempotency.forget("once")
    assert post(headers, caption="other words").status_code == 422
    assert len(x.posted) == 1


def test_an_outcome_that_cannot_be_read_is_no_error(container, post, x, monkeypatch):
    """An error would free the key, and the next request would post again."""

    def broken(id, timeout):
        raise StorageError("busy")

    monkeypatch.setattr(container.publishing, "wait", broken)
    answer = post({"Idempotency-Key": "k"})
    assert answer.status_code == 202 and answer.json["success"] is None and answer.json["taskId"]
    assert answer.headers["Location"] == f"/api/posts/{answer.json['postId']}"


def test_a_refusal_is_the_answer_and_the_post_keeps_it(client, post, x):
    x.credits = 0
    answer = post({"Idempotency-Key": "k"})
    assert answer.status_code >= 400 and answer.mimetype == "application/problem+json"
    assert answer.json["cause"] == "no_credits" and answer.json["remedy"]
    stored = client.get(f"/api/posts/{answer.json['postId']}").json
    assert stored["status"] == "failed" and stored["error"]["cause"] == "no_credits"
    assert x.posted == []
    # The account is stopped now: the next post says so and leaves nothing behind.
    stopped = post(caption="another")
    assert stopped.status_code == 409 and client.get("/api/posts").json["total"] == 1


def test_after_a_failure_the_same_key_tries_the_same_post(client, container, post, x):
    x.credits = 0
    failed = post({"Idempotency-Key": "k"}).json["postId"]
    x.credits = 100
    container.publishing.close_breaker(client.get(f"/api/posts/{failed}").json["characterId"], "twitter")
    again = post({"Idempotency-Key": "k"})
    assert again.status_code == 200 and again.json["postId"] == failed and len(x.posted) == 1


def test_a_lost_answer_is_202_and_never_posted_again(container, post, x, monkeypatch):
    wait = container.publishing.wait

    def wait_once_sent(id, timeout):
        x.wait_for(lambda: x.posted)
        return wait(id, timeout)

    monkeypatch.setattr(publish, "WAIT_SECONDS", 0.5)
    monkeypatch.setattr(container.publishing, "wait", wait_once_sent)
    x.lag = 1000
    x.lose_answer()
    answer = post({"Idempotency-Key": "k"})
    assert answer.status_code == 202 and answer.json["success"] is None
    assert answer.json["status"] in ("publishing", "unconfirmed")
    assert post({"Idempotency-Key": "k"}).json == answer.json
    assert len(x.posted) == 1


def test_async_answers_at_once(post, container):
    answer = post({"Prefer": "respond-async"})
    assert answer.status_code in (200, 202) and answer.json["taskId"]
    assert container.publishing.wait(answer.json["postId"], 30).status == "published"


def test_when_everything_is_stopped_nothing_is_made(client, container, post, x):
    container.publishing.pause("holiday")
    answer = post()
    assert answer.status_code == 409 and "holiday" in answer.json["detail"] and answer.json["remedy"]
    assert client.get("/api/posts").json["total"] == 0 and x.posted == []


def test_publishing_a_draft_and_waiting_for_it(client, char, x):
    media = upload(client, png(size=(900, 900))).json["items"][0]["id"]
    body = {"characterId": char, "platform": "twitter", "mediaIds": [media], "caption": "now"}
    draft = client.post("/api/posts", json=body).json
    answer = client.post(f"/api/posts/{draft['id']}/publish?wait=60")
    assert answer.status_code == 200 and answer.json["status"] == "published"
    assert client.post(f"/api/posts/{draft['id']}/publish").status_code == 409
    assert len(x.posted) == 1


def test_publish_now_on_writing(client, container, char, x):
    media = upload(client, png(size=(900, 900))).json["items"][0]["id"]
    body = {"characterId": char, "platform": "twitter", "mediaIds": [media], "caption": "now", "publish": "now"}
    made = client.post("/api/posts", json=body)
    assert made.status_code == 201
    assert container.publishing.wait(made.json["id"], 60).status == "published" and len(x.posted) == 1


def test_one_platform_that_cannot_start_does_not_stop_the_other(client, container, char, x, monkeypatch):
    publish_now = container.publishing.publish_now

    def refuses_instagram(id):
        if container.posts.get(id).platform == "instagram":
            raise Conflict("This account is stopped.")
        return publish_now(id)

    monkeypatch.setattr(container.publishing, "publish_now", refuses_instagram)
    media = upload(client, png(size=(900, 900))).json["items"][0]["id"]
    body = {"characterId": char, "platforms": ["instagram", "twitter"], "mediaIds": [media], "caption": "now"}
    answer = client.post("/api/posts", json={**body, "publish": "now"})
    assert answer.status_code == 201
    posts = {post["platform"]: post for post in answer.json["posts"]}
    assert [entry["id"] for entry in answer.json["failed"]] == [posts["instagram"]["id"]]
    assert posts["instagram"]["status"] == "draft"
    assert container.publishing.wait(posts["twitter"]["id"], 60).status == "published" and len(x.posted) == 1


def test_approving_what_is_due_sends_it(client, container, char, x):
    media = upload(client, png(size=(900, 900))).json["items"][0]["id"]
    held = container.posts.create(
        character_id=char,
        platform="twitter",
        media_ids=[media],
        caption="held",
        source="task",
        task_id="t",
        slot="1",
        scheduled_at="2026-01-01T00:00:00.000Z",
        hold="approval",
    )
    client.post(f"/api/posts/{held.id}/approve")
    assert container.publishing.wait(held.id, 60).status == "published" and len(x.posted) == 1


def test_settling_an_unconfirmed_post(client, container, char, x):
    media = upload(client, png(size=(900, 900))).json["items"][0]["id"]
    made = container.posts.create(character_id=char, platform="twitter", media_ids=[media], caption="who knows")
    for status in ("scheduled", "claimed", "publishing", "unconfirmed"):
        container.post_rows.transition(made.id, status)
    url = f"/api/posts/{made.id}/confirm"
    assert client.post(url, json={"posted": True}).status_code == 422
    link = "https://x.com/luna/status/1990000000000000000"
    said = client.post(url, json={"posted": True, "permalink": link}).json
    assert (said["status"], said["platformPostId"], said["permalink"]) == ("published", "1990000000000000000", link)
    assert x.posted == []


@pytest.mark.parametrize("text", ["data:image/png;base64,{}", "{}", " {}\n", "{} "])
def test_base64_with_and_without_decoration(text):
    assert publish.decode_image(text.format(b64())) == base64.b64decode(b64())


def test_base64_urlsafe_and_without_padding():
    data = bytes(range(250)) + b"\xfb\xff"
    assert publish.decode_image(base64.urlsafe_b64encode(data).decode().rstrip("=")) == data


def test_base64_limits():
    with pytest.raises(TooLarge):
        publish.decode_image("A" * (publish.MAX_IMAGE * 4 // 3 + 100))
    for wrong in ("A", "ä" * 8, "data:text/plain,hello", "===="):
        with pytest.raises(InvalidInput):
            publish.decode_image(wrong)
