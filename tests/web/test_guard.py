"""What every request passes: hosts, origins, sizes, kinds of body, headers, one error shape."""

from __future__ import annotations

import re

import pytest
from flask import Flask

from dalla.web import guard, problems
from tests.conftest import make_settings

PROBLEM = {"type", "title", "status", "detail", "code", "error", "requestId"}


def is_problem(answer, status=None):
    assert answer.mimetype == "application/problem+json", (answer.status_code, answer.data[:200])
    body = answer.get_json(force=True)
    assert set(body) >= PROBLEM and body["status"] == answer.status_code and body["error"] == body["detail"]
    assert "Traceback" not in answer.text and 'File "' not in answer.text
    assert answer.headers["X-Request-Id"] == body["requestId"]
    if status:
        assert answer.status_code == status
    return body


def routes(app):
    """Every API rule as (rule, method), with a made-up id in it."""
    for rule in app.url_map.iter_rules():
        if rule.rule.startswith(("/api/", "/tasks/", "/health", "/metrics")):
            yield rule


def test_every_route_refuses_the_wrong_method_with_a_problem(app, client):
    addresses = app.url_map.bind("localhost")
    for rule in routes(app):
        address = re.sub(r"<[^>]+>", "x1", re.sub(r"<int:[^>]+>", "1", rule.rule))
        wrong = next((m for m in ("PUT", "PATCH", "DELETE", "POST") if not addresses.test(address, m)), None)
        if wrong is None:
            continue  # it takes every method
        answer = client.open(address, method=wrong)
        is_problem(answer, 405)
        assert set(answer.headers["Allow"].split(", ")) == set(addresses.allowed_methods(address))


def test_every_route_that_takes_a_body_refuses_a_broken_one(app, client):
    for rule in routes(app):
        for method in {"POST", "PUT", "PATCH", "DELETE"} & set(rule.methods):
            if (method, rule.rule) in (("PUT", "/api/uploads/<id>"), ("PUT", "/api/images/<id>/mask")):
                continue  # raw bytes, whatever type is named
            address = re.sub(r"<[^>]+>", "x1", re.sub(r"<int:[^>]+>", "1", rule.rule))
            is_problem(client.open(address, method=method, data=b'{"a": ', content_type="application/json"), 400)
            is_problem(
                client.open(address, method=method, data=b"a=1", content_type="application/x-www-form-urlencoded"), 415
            )


@pytest.mark.parametrize("body", [b"[]", b'"x"', b"3", b"null", b"[" * 5000, b"\xff\xfe", b"NaN", b'{"name": NaN}'])
def test_json_that_is_no_object(client, body):
    assert is_problem(client.post("/api/characters", data=body, content_type="application/json"))["status"] in (
        400,
        422,
    )


def test_unknown_addresses(client):
    for address in ("/api/nothing", "/nothing.html", "/api/characters/x/y/z", "/static/none.js", "/..%2f..%2fapp.py"):
        is_problem(client.get(address), 404)
    is_problem(client.post("/api/nothing", json={}), 404)


BROWSER = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}


@pytest.mark.parametrize("address", ["/nope", "/nothing.html", "/a/b/c", "/404", "/404.html", "/%3Cscript%3E"])
def test_a_person_at_a_wrong_address_is_shown_a_page(client, address):
    answer = client.get(address, headers=BROWSER)
    assert (answer.status_code, answer.mimetype) == (404, "text/html")
    assert b"<app-shell>" in answer.data and b'data-page="not-found"' in answer.data
    assert (
        answer.headers["Cache-Control"] == "no-store"
        and "script-src 'self'" in answer.headers["Content-Security-Policy"]
    )
    is_problem(client.get(address), 404)
    is_problem(client.get(address, headers={"Accept": "*/*"}), 404)


@pytest.mark.parametrize("address", ["/api/nothing", "/tasks/none/status", "/static/none.js", "/public/none"])
def test_a_program_is_told_in_json_even_from_a_browser(client, address):
    is_problem(client.get(address, headers=BROWSER), 404)


def test_a_wrong_address_of_a_changing_request_is_told_in_json(client):
    is_problem(client.post("/nope", json={}, headers=BROWSER), 404)


def test_twenty_megabytes_of_json(client):
    is_problem(
        client.post("/api/characters", data=b'{"name":"' + b"x" * 20_000_000 + b'"}', content_type="application/json"),
        413,
    )
    assert client.get("/api/characters").json == []


def test_an_unforeseen_error_says_nothing_of_the_inside(app, client, container, monkeypatch):
    monkeypatch.setattr(container.characters, "all", lambda: 1 / 0)
    body = is_problem(client.get("/api/characters"), 500)
    assert body["code"] == "internal" and "ZeroDivision" not in str(body)


def test_a_full_disk_is_said_in_words(client, container, monkeypatch):
    def full(record):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(container.characters_file, "insert", full)
    body = is_problem(client.post("/api/characters", json={"name": "A"}), 503)
    assert body["code"] == "storage" and "space" in body["detail"] and body["remedy"]


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "[::ffff:1.2.3.4]"])
def test_foreign_hosts_are_refused(client, host):
    is_problem(client.get("/api/characters", headers={"Host": host}), 403)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:5050", "[::1]:5050"])
def test_our_hosts_are_not(client, host):
    assert client.get("/api/characters", headers={"Host": host}).status_code == 200


def test_pages_from_elsewhere_cannot_ask_or_change(client):
    for headers in ({"Origin": "http://evil.example"}, {"Sec-Fetch-Site": "cross-site"}, {"Origin": "null"}):
        is_problem(client.post("/api/characters", json={"name": "A"}, headers=headers), 403)
    is_problem(client.get("/api/characters", headers={"Sec-Fetch-Site": "cross-site"}), 403)
    assert client.post("/api/characters", json={"name": "A"}, headers={"Origin": "http://localhost"}).status_code == 201


def test_pages_answer_with_and_without_their_ending(client):
    for name in ("studio", "gallery", "characters", "monitoring"):
        assert client.get(f"/{name}.html").mimetype == "text/html"
        assert client.get(f"/{name}").headers["Location"] == f"/{name}.html"


def test_headers(client):
    page = client.get("/")
    policy = page.headers["Content-Security-Policy"]
    assert "default-src 'self'" in policy and "unsafe" not in policy and "frame-ancestors 'none'" in policy
    assert page.headers["X-Content-Type-Options"] == "nosniff"
    assert client.get("/api/characters").headers["Cache-Control"] == "no-store"
    assert client.get("/static/js/main.js").mimetype == "text/javascript"


def test_query_mistakes_are_named(client):
    for address, field in (
        ("/api/media?limit=0", "limit"),
        ("/api/media?colour=red", "colour"),
        ("/api/tasks?limit=x", "limit"),
    ):
        assert is_problem(client.get(address), 422)["errors"][0]["field"] == field


def test_headers_that_are_no_addresses_are_refused_and_not_failures(client):
    assert is_problem(client.get("/api/characters", headers={"Host": "["}), 403)
    assert is_problem(client.get("/api/characters", headers={"Origin": "http://["}), 403)


@pytest.mark.parametrize("header", ["X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "Forwarded", "Via"])
def test_a_proxy_that_rewrites_the_host_hands_nothing_out(tmp_path, header):
    settings = make_settings(tmp_path, PUBLIC_BASE_URL="https://pictures.example.org")
    app = Flask(__name__)
    guard.install(app, settings)
    problems.install(app)
    app.add_url_rule("/api/home", "home", view_func=lambda: "everything")
    app.add_url_rule("/public/x.jpg", "picture", view_func=lambda: "a picture")
    through = {"Host": "127.0.0.1", header: "x"}
    client = app.test_client()
    assert client.get("/api/home", headers=through).status_code == 403
    assert client.get("/public/x.jpg", headers=through).status_code == 200
    assert client.get("/api/home").status_code == 200
