"""GET /api/calendar: posts and rules in one list."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from dalla.times import iso
from tests.conftest import png, upload


@pytest.fixture
def char(client):
    return client.post("/api/characters", json={"name": "Luna", "timezone": "Asia/Tokyo"}).json["id"]


def test_posts_and_occurrences_together(client, char):
    media = upload(client, png(size=(900, 900))).json["items"][0]["id"]
    at = (datetime.now(UTC) + timedelta(days=1)).replace(minute=0, second=0, microsecond=0)
    post = client.post(
        "/api/posts",
        json={"characterId": char, "platform": "twitter", "mediaIds": [media], "caption": "x", "scheduledAt": iso(at)},
    ).json
    task = {
        "characterId": char,
        "type": "generate_and_post",
        "schedule": "30 * * * *",
        "config": {"prompt": "a forest", "postToTwitter": True},
    }
    made = client.post("/api/scheduler", json={"action": "add_task", "task": task})
    assert made.status_code in (200, 201), made.json
    query = {"from": iso(at), "to": iso(at + timedelta(hours=2)), "characterId": char}
    answer = client.get("/api/calendar", query_string=query)
    assert answer.status_code == 200, answer.json
    assert answer.json["zone"] == "Asia/Tokyo"
    first, second, third = answer.json["items"]
    assert (first["type"], first["post"]["id"], first["at"]) == ("post", post["id"], iso(at))
    assert first["local"].endswith("+09:00") and datetime.fromisoformat(first["local"]) == at
    assert second["type"] == third["type"] == "occurrence"
    assert second["at"] == iso(at + timedelta(minutes=30)) and second["platforms"] == ["twitter"]
    assert second["characterName"] == "Luna" and second["active"] is True and second["skipped"] is False
    assert client.get("/api/calendar").status_code == 200


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("from=2026-11-01&to=2028-01-01", 422),
        ("from=2026-11-02&to=2026-11-01", 422),
        ("from=soon", 422),
        ("from=9999-12-15", 422),
        ("from=0001-01-01&to=0001-01-05", 200),
        ("zone=Mars/Base", 422),
        ("characterId=char_nobody", 404),
        ("colour=red", 422),
        ("from=2026-11-01T00:00:00%2B01:00&to=2026-11-02T00:00:00+01:00", 200),
    ],
)
def test_what_is_asked_for_is_checked(client, query, status):
    assert client.get(f"/api/calendar?{query}").status_code == status
