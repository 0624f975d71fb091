"""The posts API: write, check, plan, approve, change and bulk; the prepared pictures."""

from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta

import pytest
from PIL import Image

from dalla.times import iso
from tests.conftest import png, upload

KEYS = {
    "twitterAppKey": "app-key-123456",
    "twitterAppSecret": "app-secret-123456",
    "twitterAccessToken": "token-123456789",
    "twitterAccessSecret": "token-secret-123",
}


@pytest.fixture
def char(client):
    return client.post("/api/characters", json={"name": "Luna", **KEYS}).json["id"]


@pytest.fixture
def media(client):
    return upload(client, png(size=(1080, 1350))).json["items"][0]["id"]


@pytest.fixture
def write(client, char, media):
    """POST a post; fields that are given replace the usual ones."""

    def send(headers=None, **fields):
        body = {"characterId": char, "platform": "twitter", "mediaIds": [media], "caption": "Good morning", **fields}
        return client.post("/api/posts", json={k: v for k, v in body.items() if v is not None}, headers=headers or {})

    return send


def later(**delta):
    return iso(datetime.now(UTC) + timedelta(**delta))


def problem(answer, status, code=None):
    assert answer.status_code == status, answer.json
    assert answer.mimetype == "application/problem+json"
    if code:
        assert answer.json["code"] == code
    return answer.json


def test_write_read_change_delete(client, write, media):
    answer = write(altText="a red wall")
    assert answer.status_code == 201
    post = answer.json
    assert answer.headers["Location"] == f"/api/posts/{post['id']}"
    assert (post["status"], post["altTexts"], post["source"]) == ("draft", ["a red wall"], "manual")
    read = client.get(f"/api/posts/{post['id']}")
    assert read.headers["ETag"].startswith(f'"{post["revision"]}-')
    assert read.json["attempts"] == [] and read.json["issues"] == []
    changed = client.patch(
        f"/api/posts/{post['id']}", json={"caption": "Better"}, headers={"If-Match": read.headers["ETag"]}
    )
    assert changed.json["caption"] == "Better" and changed.json["altTexts"] == ["a red wall"]
    stale = client.patch(f"/api/posts/{post['id']}", json={"caption": "x"}, headers={"If-Match": read.headers["ETag"]})
    assert problem(stale, 412, "stale")["current"]["caption"] == "Better"
    assert (
        client.patch(f"/api/posts/{post['id']}", json={"caption": "x"}, headers={"If-Match": "abc"}).status_code == 412
    )
    assert client.delete(f"/api/posts/{post['id']}").json == {"success": True}
    problem(client.get(f"/api/posts/{post['id']}"), 404, "not_found")


def test_the_preview_is_the_very_file_of_the_post(client, write, char, media):
    body = {"characterId": char, "platforms": ["instagram", "twitter"], "mediaIds": [media], "caption": "Hi"}
    checked = client.post("/api/posts/check", json=body).json["platforms"]
    assert checked["twitter"]["length"] == {"used": 2, "max": 280, "unit": "weighted"}
    assert checked["instagram"]["length"]["unit"] == "characters"
    assert checked["twitter"]["estimatedCost"] > 0 and checked["twitter"]["dryRun"] is False
    assert checked["instagram"]["dryRun"] is True and "Luna is not connected" in checked["instagram"]["dryRunReason"]
    [file] = checked["twitter"]["files"]
    post = write(caption="Hi").json
    assert post["files"][0]["sha256"] == file["sha256"]
    got = client.get(file["url"])
    assert got.mimetype == "image/jpeg" and "immutable" in got.headers["Cache-Control"]
    image = Image.open(io.BytesIO(got.data))
    assert image.format == "JPEG" and image.size == (file["width"], file["height"])
    assert len(got.data) == file["sizeBytes"]
    assert client.get("/api/posts").json["total"] == 1  # checking stored nothing


@pytest.mark.parametrize("path", ["/api/posts/files/..%2f..%2fcharacters.json.jpg", f"/api/posts/files/{'0' * 64}.jpg", "/api/posts/files/x.jpg"])  # fmt: skip
def test_only_prepared_pictures_are_served(client, path):
    assert client.get(path).status_code in (404, 422)


@pytest.mark.parametrize(
    ("fields", "status", "field"),
    [
        ({"platform": None}, 422, "platform"),
        ({"platform": "myspace"}, 422, "platform"),
        ({"characterId": "char_nobody"}, 404, None),
        ({"mediaIds": ["media_404"]}, 422, "mediaIds"),
        ({"scheduledAt": "soon"}, 422, "scheduledAt"),
        ({"scheduledAt": "2020-01-01T00:00:00Z"}, 422, "scheduledAt"),
        ({"publish": "schedule"}, 422, "scheduledAt"),
        ({"publish": "yesterday"}, 422, "publish"),
        ({"kind": "reel"}, 422, "kind"),
        ({"options": {"fit": "stretch"}}, 422, "options.fit"),
        ({"options": {"ratio": "0:1"}}, 422, "options.ratio"),
        ({"options": {"focus": [2, 0]}}, 422, "options.focus"),
        ({"colour": "red"}, 422, "colour"),
        ({"caption": "x" * 400, "publish": "now"}, 422, "caption"),
        ({"caption": "x" * 400, "scheduledAt": "2031-01-01T00:00:00Z"}, 422, "caption"),
        ({"mediaIds": [], "publish": "now"}, 422, "mediaIds"),
    ],
)
def test_what_cannot_be_is_refused_by_field_and_leaves_nothing(client, write, fields, status, field):
    said = problem(write(**fields), status)
    if field:
        assert said["errors"][0]["field"] == field
    assert client.get("/api/posts").json["total"] == 0


def test_a_trashed_picture_is_not_taken(client, write, media):
    client.delete(f"/api/media/{media}")
    assert "trash" in problem(write(), 422)["detail"]


def test_one_wish_for_several_platforms(client, write):
    answer = write(
        platform=None, platforms=["instagram", "twitter"], captions={"twitter": "short"}, caption="long text"
    )
    assert answer.status_code == 201
    posts = {post["platform"]: post for post in answer.json["posts"]}
    assert posts["twitter"]["caption"] == "short" and posts["instagram"]["caption"] == "long text"
    assert {post["groupId"] for post in posts.values()} == {answer.json["groupId"]}
    assert client.get("/api/posts", query_string={"groupId": answer.json["groupId"]}).json["total"] == 2


def test_when_one_platform_refuses_nothing_is_stored(client, write):
    answer = write(platform=None, platforms=["instagram", "twitter"], caption="x" * 400, scheduledAt=later(hours=1))
    problem(answer, 422)
    assert client.get("/api/posts").json["total"] == 0


def test_a_post_for_a_time_or_the_next_free_one(client, write, char):
    planned = write(scheduledAt=later(hours=3)).json
    assert planned["status"] == "scheduled" and planned["dueAt"] == planned["scheduledAt"]
    free = client.get("/api/posts/next-free", query_string={"characterId": char, "platform": "twitter"}).json
    slotted = write(publish="next_free", caption="another").json
    assert slotted["scheduledAt"] == free["scheduledAt"]
    assert (
        client.get("/api/posts/next-free", query_string={"characterId": "x", "platform": "twitter"}).status_code == 404
    )


def test_the_same_key_makes_one_post_even_after_a_crash(client, container, write):
    headers = {"Idempotency-Key": "key-1"}
    first = write(headers, scheduledAt=later(hours=1))
    again = write(headers, scheduledAt=first.json["scheduledAt"])
    assert again.status_code == 422 or again.json["id"] == first.json["id"]  # another body: refused
    container.idempotency.forget("key-1")  # as at the next start, when the first request died
    recovered = write(headers, scheduledAt=first.json["scheduledAt"])
    assert recovered.status_code == 201 and recovered.json["id"] == first.json["id"]
    assert client.get("/api/posts").json["total"] == 1
    assert write({"Idempotency-Key": "key-2"}).json["id"] != first.json["id"]


def test_lists_filter_page_and_count(client, write, char, media):
    ids = [write(caption=f"post {n}", scheduledAt=later(hours=n + 1)).json["id"] for n in range(3)]
    draft = write().json["id"]

    def found(**query):
        answer = client.get("/api/posts", query_string=query)
        assert answer.status_code == 200, answer.json
        return [post["id"] for post in answer.json["items"]]

    assert found(status="scheduled", sort="soonest") == ids
    assert found(status="scheduled") == ids[::-1]
    assert found(status="draft,cancelled") == [draft]
    assert set(found(characterId=char)) == {*ids, draft} and found(characterId="char_x") == []
    assert found(platform="instagram") == [] and set(found(mediaId=media)) == {*ids, draft}
    assert found(status="scheduled", after=later(hours=1, minutes=30), sort="soonest") == ids[1:]
    page = client.get("/api/posts?status=scheduled&sort=soonest&limit=2").json
    assert page["total"] == 3 and page["counts"]["scheduled"] == 3 and page["counts"]["draft"] == 1
    rest = client.get(
        "/api/posts", query_string={"status": "scheduled", "sort": "soonest", "cursor": page["nextCursor"]}
    )
    assert [post["id"] for post in rest.json["items"]] == ids[2:]


@pytest.mark.parametrize("query", ["status=done", "hold=maybe", "sort=random", "limit=0", "cursor=x", "after=soon", "colour=red"])  # fmt: skip
def test_a_list_says_what_it_does_not_understand(client, query):
    problem(client.get(f"/api/posts?{query}"), 422)


def test_the_way_of_a_post_by_hand(client, write):
    id = write().json["id"]
    assert client.post(f"/api/posts/{id}/approve").json["status"] == "approved"
    planned = client.post(f"/api/posts/{id}/schedule", json={"scheduledAt": later(hours=2)})
    assert planned.json["status"] == "scheduled" and planned.headers["ETag"]
    assert client.post(f"/api/posts/{id}/schedule", json={}).json["scheduledAt"].endswith("00:00.000Z")
    assert problem(client.delete(f"/api/posts/{id}"), 409)["detail"]
    assert client.post(f"/api/posts/{id}/cancel").json["status"] == "cancelled"
    assert client.post(f"/api/posts/{id}/schedule", json={"scheduledAt": later(hours=2)}).json["status"] == "scheduled"
    problem(client.post(f"/api/posts/{id}/approve"), 409, "conflict")
    problem(client.post(f"/api/posts/{id}/retry"), 409)
    problem(client.post(f"/api/posts/{id}/confirm", json={"posted": False}), 409)
    problem(client.post(f"/api/posts/{id}/confirm", json={"posted": True}), 422)
    copy = client.post(f"/api/posts/{id}/duplicate")
    assert copy.status_code == 201 and copy.json["status"] == "draft" and copy.json["id"] != id
    for name in ("approve", "retry", "cancel", "publish", "duplicate"):
        problem(client.post(f"/api/posts/post_404/{name}"), 404)


def test_bulk(client, write):
    ids = [write(caption=f"post {n}").json["id"] for n in range(3)]
    answer = client.post("/api/posts/bulk", json={"ids": [*ids, "post_404"], "action": "approve"}).json
    assert answer["succeeded"] == ids
    assert [(f["id"], f["code"]) for f in answer["failed"]] == [("post_404", "not_found")]
    problem(client.post("/api/posts/bulk", json={"ids": ids, "action": "explode"}), 422)
    planned = client.post("/api/posts/bulk", json={"ids": ids, "action": "schedule", "scheduledAt": later(hours=1)})
    assert planned.json["succeeded"] == ids
    assert client.get("/api/posts").json["counts"]["scheduled"] == 3


def test_a_needed_approval_is_found_by_its_hold(client, container, char, media):
    post = container.posts.create(
        character_id=char, platform="twitter", media_ids=[media], caption="", hold="caption", hold_reason="quota"
    )
    page = client.get("/api/posts?hold=any").json
    assert [item["id"] for item in page["items"]] == [post.id] and page["counts"]["held"] == 1
    assert page["items"][0]["holdReason"] == "quota"
    assert problem(client.post(f"/api/posts/{post.id}/approve"), 422)["errors"][0]["field"] == "caption"
    client.patch(f"/api/posts/{post.id}", json={"caption": "here"})
    assert client.post(f"/api/posts/{post.id}/approve").json["status"] == "approved"


def test_a_post_that_is_edited_is_not_told_to_be_like_itself(client, write, char, media):
    at = later(days=3)
    post = write(publish="schedule", scheduledAt=at).json
    assert post["status"] == "scheduled"
    body = {
        "characterId": char,
        "platform": "twitter",
        "mediaIds": [media],
        "caption": "Good morning",
        "scheduledAt": at,
    }

    def warned(**more):
        answer = client.post("/api/posts/check", json={**body, **more})
        assert answer.status_code == 200, answer.json
        return {issue["code"] for issue in answer.json["platforms"]["twitter"]["issues"] if issue["level"] == "warning"}

    assert {"duplicate_picture", "duplicate_caption", "clash"} <= warned()
    assert not {"duplicate_picture", "duplicate_caption", "clash"} & warned(postId=post["id"])
    problem(client.post("/api/posts/check", json={**body, "postId": "post_none"}), 404, "not_found")
