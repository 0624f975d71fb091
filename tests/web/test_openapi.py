"""The served document: valid, complete, true about rights, keys and tags, and made only when asked for."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path

import jsonschema_rs
import pytest

from dalla.web import access, openapi, openapi_parts
from tests.web.api_world import document

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def doc(app):
    return document(app)


@pytest.fixture
def operations(doc):
    return {f"{m.upper()} {path}": op for path, item in doc["paths"].items() for m, op in item.items()}


def refs(value):
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for one in value.values():
            yield from refs(one)
    elif isinstance(value, list):
        for one in value:
            yield from refs(one)


def test_it_is_valid_openapi_3_1(doc):
    from schemathesis.specs.openapi.definitions import OPENAPI_31, make_validator

    validator = make_validator(OPENAPI_31, jsonschema_rs.Draft202012Validator)
    assert [error.message for error in validator.iter_errors(doc)] == []
    for schema in doc["components"]["schemas"].values():
        jsonschema_rs.meta.validate(schema)
    for ref in set(refs(doc)):
        at = doc
        for part in ref.removeprefix("#/").split("/"):
            at = at[part]


def test_every_route_is_in_it(app, operations):
    real = {o.name for o in openapi.operations(app)}
    rules = {r.rule for r in app.url_map.iter_rules() if r.rule.startswith(openapi.PREFIXES) and r.rule != "/api/docs"}
    assert real == set(operations) and {o.rule for o in openapi.operations(app)} == rules


def test_every_operation_says_what_it_is(doc, operations):
    ids = [op["operationId"] for op in operations.values()]
    assert len(ids) == len(set(ids))
    described = {tag["name"] for tag in doc["tags"]}
    for name, op in operations.items():
        assert op["summary"], name
        assert set(op["tags"]) <= described & set(openapi_parts.TAGS), (name, op["tags"])
        good = [code for code in op["responses"] if code < "300"]
        assert good and all(op["responses"][code]["content"] for code in good), name


def test_rights_are_those_of_the_access_table(app, operations):
    for operation in openapi.operations(app):
        right = access.right_of(operation.rule, operation.method)
        said = operations[operation.name]["security"]
        scopes = [one["token"] for one in said if "token" in one]
        assert operations[operation.name]["x-right"] == right
        assert scopes == ([[right]] if right in ("read", "write", "publish") else []), operation.name
        assert bool(said) == (right != "public"), operation.name


def test_views_that_read_a_body_say_which(app, operations):
    """A view that reads the request by itself is in openapi_bodies."""
    for operation in openapi.operations(app):
        source = inspect.getsource(inspect.unwrap(operation.view))
        reads = any(word in source for word in ("request.get_json", "request.stream", "_body()", "_sent(", "get_data("))
        if reads and operation.method != "GET":
            assert "requestBody" in operations[operation.name], operation.name


def test_bodies_of_one_name_are_not_mixed_up(doc, operations):
    def fields(name):
        ref = operations[name]["requestBody"]["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
        return set(doc["components"]["schemas"][ref]["properties"])

    assert "collectionId" in fields("POST /api/media/bulk") and "scheduledAt" in fields("POST /api/posts/bulk")
    assert "cfgScale" in fields("POST /api/generate-image") and "theme" in fields("POST /api/prompts/generate")


@pytest.mark.parametrize("word", ["post-to-", "/publish", "/train", "/exports", "generate-image", "/retry", "/run"])
def test_what_publishes_or_starts_work_takes_a_key(operations, word):
    starts = [
        n for n in operations if n.startswith("POST") and (n.endswith(word) or (word == "post-to-" and word in n))
    ]
    assert starts
    for name in starts:
        assert "Idempotency-Key" in {p["name"] for p in operations[name]["parameters"]}, name


def test_starting_the_app_does_not_make_it():
    code = (
        "import sys, tempfile; from pathlib import Path; from tests.conftest import make_settings; from app import create_app\n"
        "create_app(make_settings(Path(tempfile.mkdtemp())))\n"
        "print([m for m in ('dalla.web.openapi', 'limits', 'argon2') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.stdout.strip().splitlines()[-1] == "[]"
