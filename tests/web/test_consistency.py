"""What is the same on every route: refusals name what is wrong, methods and addresses that are not there, HEAD, paging."""

from __future__ import annotations

import re

import pytest

from dalla.web import openapi

#: Whose answer has no end or is made anew on each request.
NO_HEAD = {"/api/events", "/api/logs/bundle"}


@pytest.fixture
def operations(app):
    return openapi.operations(app)


def address(operation):
    return re.sub(
        r"{(\w+)}", lambda found: {"number": "1", "step": "1", "sha256": "0" * 64}.get(found[1], "x"), operation.path
    )


def names(answer):
    return {error["field"].split(".")[0] for error in answer.json.get("errors", [])}


def test_unknown_fields_are_refused_by_name(client, operations):
    """Also in nested objects; only dictionaries of free names take anything."""
    free = {"PATCH /api/settings"}
    for operation in operations:
        if "body" in operation.models and operation.name not in free:
            answer = client.open(address(operation), method=operation.method, json={"notAField": 1})
            assert answer.status_code == 422 and "notAField" in names(answer), (operation.name, answer.text[:300])


def test_unknown_queries_are_refused_by_name(client, operations):
    for operation in operations:
        model = operation.models.get("query")
        lenient = model is not None and model.model_config.get("extra") != "forbid"  # addresses of pictures
        if operation.path.startswith(("/api/", "/tasks/")) and not lenient and operation.path not in NO_HEAD:
            answer = client.open(address(operation) + "?notAQuery=1", method=operation.method, json={})
            assert answer.status_code == 422 and "notAQuery" in names(answer), (operation.name, answer.text[:300])


def test_a_limit_that_is_no_number_is_named(client, operations):
    limited = [o for o in operations if "query" in o.models and "limit" in o.models["query"].model_fields]
    assert len(limited) > 15
    for operation in limited:
        for value in ("abc", "0", "-1", "100000000"):
            answer = client.get(f"{address(operation)}?limit={value}")
            assert answer.status_code == 422 and "limit" in names(answer), (operation.name, value, answer.text[:200])


def test_lists_page_in_one_of_two_ways(client, operations):
    """A plain array with X-Total-Count, or {items, …}; never a third."""
    for operation in operations:
        if operation.method == "GET" and "query" in operation.models and "{" not in operation.path:
            fields = operation.models["query"].model_fields
            if "limit" not in fields:
                continue
            answer = client.get(operation.path)
            assert answer.status_code == 200, operation.name
            if isinstance(answer.json, list):
                assert "X-Total-Count" in answer.headers, operation.name
            else:
                assert {"items", "nextCursor"} <= answer.json.keys(), operation.name


def test_other_methods_are_405_with_allow(app, client, operations):
    offered: dict[str, set[str]] = {}
    for operation in operations:
        offered.setdefault(operation.path, set()).add(operation.method)
    for operation in operations:
        for method in {"GET", "POST", "PUT", "PATCH", "DELETE"} - offered[operation.path]:
            answer = client.open(address(operation), method=method, json={})
            if answer.status_code in (404, 422):
                continue  # another, more general address takes the method: /api/media/{id} for /api/media/ids
            assert answer.status_code == 405, (method, operation.path, answer.status_code)
            assert answer.mimetype == "application/problem+json" and answer.json["code"] == "method_not_allowed"
            assert offered[operation.path] <= set(answer.headers["Allow"].split(", ")), (method, operation.path)


@pytest.mark.parametrize("path", ["/api/nothing", "/api/media/x/nothing", "/tasks/x", "/api/", "/health/x"])
def test_what_is_not_there_is_a_problem(client, path):
    answer = client.get(path)
    assert answer.status_code == 404 and answer.json["code"] == "not_found" and answer.json["requestId"]


def test_head_answers_like_get_without_a_body(client, operations):
    for operation in operations:
        if operation.method == "GET" and operation.path not in NO_HEAD:
            got, head = client.get(address(operation)), client.head(address(operation))
            assert (head.status_code, head.mimetype) == (got.status_code, got.mimetype), operation.name
            assert head.data == b"", operation.name
