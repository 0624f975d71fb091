"""`/api/platforms` over HTTP, against the pretend Instagram and X."""

from __future__ import annotations

import pytest

from tests.fakes.graph import ACCOUNT, TOKEN, GraphFake
from tests.fakes.x import XFake


@pytest.fixture
def graph():
    with GraphFake() as fake:
        yield fake


@pytest.fixture
def x():
    with XFake() as fake:
        yield fake


@pytest.fixture
def environ(graph, x) -> dict[str, str]:
    return {"INSTAGRAM_GRAPH_URL": graph.url, "X_API_URL": x.url}


@pytest.fixture
def nova(container, x) -> str:
    keys = {"instagram_account_id": ACCOUNT, "instagram_api_key": TOKEN, **x.user.keys}
    return container.characters.create({"name": "Nova", **keys}).id


def call(client, platform, action, **body):
    return client.post(f"/api/platforms/{platform}/{action}", json=body)


def test_platforms_as_data(client, nova, luna):
    answer = client.get("/api/platforms").json
    names = {p["name"]: p for p in answer["platforms"]}
    assert set(names) == {"instagram", "twitter"} and names["twitter"]["label"] == "X"
    assert [c["field"] for c in names["instagram"]["credentials"]] == ["instagramAccountId", "instagramApiKey"]
    assert names["instagram"]["images"]["ratios"] and names["twitter"]["text"]["maxLength"] == 280
    accounts = {a["characterId"]: a for a in names["instagram"]["accounts"]}
    assert accounts[luna["id"]]["status"] == "off" and accounts[nova]["missing"] == []
    assert answer["hosting"]["mode"] == "none" and answer["pauses"] == {"all": None, "characters": {}}
    assert TOKEN not in client.get("/api/platforms").text
    one = client.get(f"/api/platforms?characterId={nova}").json
    assert [a["characterId"] for a in one["platforms"][0]["accounts"]] == [nova]
    assert client.get("/api/platforms?characterId=char_nobody").status_code == 404


def test_a_test_answers_the_account(client, nova, x):
    account = call(client, "instagram", "check", characterId=nova).json
    assert (account["status"], account["username"], account["quotaTotal"]) == ("ok", "user_0001", 100)
    for force, requests in ((False, 1), (False, 1), (True, 2)):
        assert call(client, "twitter", "check", characterId=nova, force=force).json["username"] == "luna"
        assert len(x.requests) == requests


def test_stopping_and_going_on(client, container, nova):
    assert call(client, "instagram", "pause", characterId=nova).json["paused"]["scope"] == "account"
    assert call(client, "instagram", "resume", characterId=nova).json["paused"] is None
    container.account_rows.save(nova, "instagram", breaker_reason="Spam.", breaker_code="spam_block")
    assert client.get("/api/platforms").json["platforms"][0]["accounts"][0]["breaker"]["reason"] == "Spam."
    assert call(client, "instagram", "close-breaker", characterId=nova).json["breaker"] is None


def test_renewing(client, graph, nova):
    client.get("/api/platforms")
    answer = call(client, "instagram", "refresh", characterId=nova)
    assert answer.status_code == 409 and "24 hours" in answer.json["remedy"]
    assert call(client, "twitter", "refresh", characterId=nova).status_code == 409
    assert graph.requests == []


def test_the_preflight_says_what_is_missing(client):
    answer = client.post("/api/platforms/hosting/check")
    assert answer.status_code == 200 and answer.json["ok"] is False
    assert answer.json["steps"][0]["ok"] is False and answer.json["steps"][0]["remedy"]


@pytest.mark.parametrize("action", ["check", "close-breaker", "pause", "resume", "refresh"])
def test_unknown_characters_and_platforms(client, nova, action):
    assert call(client, "instagram", action, characterId="char_nobody").status_code == 404
    assert call(client, "myspace", action, characterId=nova).status_code == 422
    assert call(client, "instagram", action).json["errors"][0]["field"] == "characterId"


def test_no_keys_is_said(client, luna):
    answer = call(client, "instagram", "check", characterId=luna["id"])
    assert answer.status_code == 409 and answer.json["code"] == "not_configured"
    assert "Accounts tab" in answer.json["remedy"]


def test_the_status_has_a_row_per_account(client, container, nova):
    assert client.get("/api/system/status").json["instagram"]["status"] in ("ok", "error")
    container.account_rows.save(nova, "instagram", breaker_reason="The token is dead.", breaker_code="token_expired")
    status = client.get("/api/system/status").json
    assert status["instagram"]["status"] == "error" and "Nova" in status["instagram"]["detail"]
