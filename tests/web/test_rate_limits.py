"""Limits for API tokens and for what costs money or goes public; people on their pages do not meet them."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest

from dalla.web import rate_limits

PASSWORD = "correct horse battery"


@pytest.fixture
def environ():
    return {"DALLA_RATE_LIMIT": "5"}


@pytest.fixture
def tokens(app, client):
    """Two tokens of one person."""
    assert client.post("/api/auth/setup", json={"name": "ada", "password": PASSWORD}).status_code == 201
    made = []
    for name in ("one", "two"):
        answer = client.post(
            "/api/auth/tokens", json={"name": name, "scopes": ["write", "publish"]}, headers={"X-Dalla": "1"}
        )
        assert answer.status_code == 201, answer.json
        made.append({"Authorization": f"Bearer {answer.json['token']}"})
    return made


@pytest.fixture
def program(app):
    return app.test_client(use_cookies=False)


def test_a_token_has_so_many_requests_a_minute(program, tokens):
    for left in (4, 3, 2, 1, 0):
        answer = program.get("/api/characters", headers=tokens[0])
        assert answer.status_code == 200
        assert answer.headers["RateLimit-Limit"] == "5" and answer.headers["RateLimit-Remaining"] == str(left)
        assert 1 <= int(answer.headers["RateLimit-Reset"]) <= 60
        assert answer.headers["RateLimit-Policy"] == "5;w=60"
    refused = program.get("/api/characters", headers=tokens[0])
    assert refused.status_code == 429 and refused.mimetype == "application/problem+json"
    assert refused.json["code"] == "rate_limited" and 1 <= int(refused.headers["Retry-After"]) <= 60
    assert refused.headers["RateLimit-Remaining"] == "0"
    assert program.get("/api/characters", headers=tokens[1]).status_code == 200, "each token has its own"


def test_what_is_refused_does_nothing(program, client, tokens):
    for n in range(8):
        program.post("/api/characters", json={"name": f"c{n}"}, headers=tokens[0])
    assert len(client.get("/api/characters").json) == 5


def test_a_person_on_the_pages_is_not_counted(client, tokens):
    for _ in range(30):
        answer = client.get("/api/characters")
        assert answer.status_code == 200 and "RateLimit-Limit" not in answer.headers


def test_without_accounts_neither(client):
    for _ in range(30):
        assert client.get("/api/characters").status_code == 200


class TestWithoutALimit:
    @pytest.fixture
    def environ(self):
        return {"DALLA_RATE_LIMIT": "0"}

    def test_zero_is_no_limit(self, program, tokens):
        for _ in range(12):
            answer = program.get("/api/characters", headers=tokens[0])
            assert answer.status_code == 200 and "RateLimit-Limit" not in answer.headers

    def test_what_costs_money_has_its_own(self, client, program, tokens, monkeypatch):
        monkeypatch.setitem(
            rate_limits.BUDGETS, "/api/generate-caption", replace(rate_limits.WRITING, token=2, person=3)
        )
        body = {"prompt": "a cat on a roof", "engine": "composer"}
        answers = [program.post("/api/generate-caption", json=body, headers=tokens[0]) for _ in range(3)]
        assert [a.status_code for a in answers] == [200, 200, 429]
        assert answers[0].headers["RateLimit-Limit"] == "2"
        assert "have texts written 2 times a minute" in answers[2].json["detail"]
        assert program.get("/api/characters", headers=tokens[0]).status_code == 200, "the rest goes on"
        person = [client.post("/api/generate-caption", json=body, headers={"X-Dalla": "1"}) for _ in range(4)]
        assert [a.status_code for a in person] == [200, 200, 200, 429]


def test_requests_at_the_same_moment_are_counted_once_each(app, tokens):
    answers: list[int] = []
    start = threading.Barrier(12)

    def ask():
        own = app.test_client(use_cookies=False)
        start.wait()
        answers.append(own.get("/api/characters", headers=tokens[0]).status_code)

    threads = [threading.Thread(target=ask) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == [200] * 5 + [429] * 7


def test_every_limited_address_is_a_route(app):
    posts = {rule.rule for rule in app.url_map.iter_rules() if "POST" in rule.methods}
    assert set(rate_limits.BUDGETS) <= posts
