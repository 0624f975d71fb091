"""`/api/notifications` over HTTP."""

from __future__ import annotations


def test_listing_and_reading(client, container):
    assert client.get("/api/notifications").json == {"items": [], "nextCursor": None, "total": 0, "unread": 0}
    first = container.notices.notify(
        "post.failed", "It failed", "why", href="/content.html", character_id="char_1", key="k"
    )
    container.notices.notify("post.missed", "Missed", level="warning")
    answer = client.get("/api/notifications?limit=1").json
    assert answer["total"] == 2 and answer["unread"] == 2
    assert answer["items"][0]["title"] == "Missed" and answer["items"][0]["readAt"] is None
    older = client.get("/api/notifications", query_string={"limit": 1, "cursor": answer["nextCursor"]}).json
    assert older["items"][0] == first.to_json() and older["nextCursor"] is None
    assert client.post("/api/notifications/read", json={"ids": [first.id]}).json == {
        "success": True,
        "read": 1,
        "unread": 1,
    }
    assert [n["title"] for n in client.get("/api/notifications?unread=true").json["items"]] == ["Missed"]
    assert client.post("/api/notifications/read", json={}).json["unread"] == 0


def test_bad_requests_say_what_is_wrong(client):
    assert client.get("/api/notifications?limit=0").status_code == 422
    assert client.get("/api/notifications?cursor=nonsense").json["errors"][0]["field"] == "cursor"
    assert client.post("/api/notifications/read", json={"id": "note_1"}).json["errors"][0]["field"] == "id"
