"""`POST /api/generate-caption` and the engines."""

from __future__ import annotations

import pytest

from tests.conftest import png, upload
from tests.fakes.gemini import GeminiFake


@pytest.fixture
def fake():
    with GeminiFake() as fake:
        yield fake


@pytest.fixture
def environ(request):
    if "fake" not in request.fixturenames:
        return {}
    fake = request.getfixturevalue("fake")
    return {"GEMINI_BASE_URL": fake.url, "GEMINI_API_KEY": fake.key}


def test_the_seeds_call(client, luna):
    answer = client.post(
        "/api/generate-caption",
        json={
            "prompt": "a beautiful portrait of luna_character in a magical forest",
            "character": luna,
            "narrative": {"id": "narr_1", "title": "The Crystal Quest", "description": "A search.", "endDate": None},
        },
    )
    assert answer.status_code == 200
    body = answer.json
    assert body["provider"] == "composer" and body["model"] is None and body["failure"] is None
    assert "Crystal Quest" in body["caption"] and body["altText"] == "Luna the Mystic in a magical forest."
    assert body["captions"].keys() == {"instagram", "twitter"} and 0 < len(body["hashtags"]) <= 5


def test_platform_decides_which_caption_is_meant(client, luna):
    wish = {"prompt": "in a forest", "characterId": luna["id"]}
    for platform in ("instagram", "twitter"):
        body = client.post("/api/generate-caption", json=wish | {"platform": platform}).json
        assert body["caption"] == body["captions"][platform]


def test_the_caption_is_saved_with_the_prompt(client, luna):
    id = client.post("/api/prompts", json={"characterId": luna["id"], "prompt": "in a forest"}).json["id"]
    body = client.post("/api/generate-caption", json={"promptId": id}).json
    assert client.get(f"/api/prompts/{id}").json["caption"] == body["caption"]


def test_the_caption_is_saved_with_the_picture_when_asked(client, luna):
    id = upload(client, png(), characterId=luna["id"]).json["items"][0]["id"]
    client.post("/api/generate-caption", json={"mediaId": id})
    assert client.get(f"/api/media/{id}").json["caption"] is None
    body = client.post("/api/generate-caption", json={"mediaId": id, "save": True}).json
    shown = client.get(f"/api/media/{id}").json
    assert shown["caption"] == body["caption"] and shown["altText"] == body["altText"]


def test_gemini_and_its_failures(client, luna, fake):
    wish = {"prompt": "in a forest", "characterId": luna["id"], "tone": "calm", "language": "Deutsch"}
    body = client.post("/api/generate-caption", json=wish).json
    assert body["provider"] == "gemini" and body["model"] == "gemini-3.5-flash-lite" and body["failure"] is None
    fake.next("safety")
    body = client.post("/api/generate-caption", json=wish).json
    assert body["provider"] == "composer" and body["caption"]
    assert body["failure"]["cause"] == "safety" and "SAFETY" in body["failure"]["detail"]


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        ({"promptt": "x"}, 422, "promptt"),
        ({"platform": "myspace"}, 422, "platform"),
        ({"engine": "gpt"}, 422, "engine"),
        ({"prompt": 7}, 422, "prompt"),
        ({"save": True}, 422, "save"),
        ({"characterId": "char_0"}, 404, None),
        ({"mediaId": "media_0"}, 404, None),
        ({"promptId": "prompt_0"}, 404, None),
        ({"character": {"name": 5}}, 422, "character"),
        ({"prompt": "x" * 10_001}, 422, "prompt"),
    ],
)
def test_bad_calls_are_named(client, body, status, field):
    answer = client.post("/api/generate-caption", json=body)
    assert answer.status_code == status and answer.mimetype == "application/problem+json"
    if field:
        assert field in [error["field"] for error in answer.json["errors"]]


def test_an_empty_call_still_gets_a_caption(client):
    body = client.post("/api/generate-caption", json={}).json
    assert body["caption"] and body["altText"] == "A picture."


def test_engines(client, fake):
    body = client.get("/api/captions/engines").json
    assert body["selected"] == "gemini" and not fake.requests
    assert [(row["name"], row["available"]) for row in body["engines"]] == [
        ("gemini", True),
        ("local", False),
        ("composer", True),
    ]
    fresh = client.get("/api/captions/engines?fresh=true").json
    assert "gemini-3.8-flash" in fresh["engines"][0]["models"]
    assert fake.key not in client.get("/api/captions/engines").text


def test_another_one_is_not_the_same_again(client, luna):
    body = {"characterId": luna["id"], "prompt": "a cat on a roof", "engine": "composer"}
    seen = []
    for _ in range(4):
        answer = client.post("/api/generate-caption", json=body | {"avoid": seen}).json
        assert answer["caption"] not in seen
        seen.append(answer["caption"])
