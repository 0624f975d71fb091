"""Whatever a program sends, the app answers as its document says, and never with "internal error".

Requests are made from the served document by schemathesis: the examples, the edges of every parameter and body, and a
few at random, always the same ones. Nothing is started: workers do not run, so training, backups and publishing only
queue, and a restart is refused because nobody serves the app.
"""

from __future__ import annotations

import os
from contextlib import closing, nullcontext

import pytest
import schemathesis
from schemathesis.config import SchemathesisConfig
from schemathesis.engine import events, from_schema

from tests.conftest import png, upload

CHECKS = ("not_a_server_error", "status_code_conformance", "content_type_conformance", "response_schema_conformance")
#: A stream without an end; the first account, after which everything else would be 401.
LEFT_OUT = {"/api/events", "/api/auth/setup"}
SEED = 20260601
#: What is off, or outside, and says so: those are documented answers.
OUTSIDE = {502, 503, 504}
#: More requests by hand: DALLA_SCHEMATHESIS=30 pytest tests/web/test_schemathesis.py
EXAMPLES = int(os.environ.get("DALLA_SCHEMATHESIS", "0"))


def config(examples: int, *, coverage: bool) -> SchemathesisConfig:
    checks = {"enabled": False} | {name: {"enabled": True} for name in CHECKS}
    generation = {"max-examples": examples, "deterministic": True, "database": "none", "allow-x00": True}
    return SchemathesisConfig.from_dict(
        {
            "seed": SEED,
            "suppress-health-check": ["all"],
            "checks": checks,
            "generation": generation,
            "phases": {
                "examples": {"enabled": True},
                "coverage": {"enabled": coverage, "unexpected-methods": []},
                "fuzzing": {"enabled": examples > 0},
                "stateful": {"enabled": False},
            },
        }
    )


def failures(app, settings: SchemathesisConfig) -> tuple[int, list[str]]:
    """Make the requests; return how many there were, and what was wrong."""

    def local(environ, start_response):
        answer = app({**environ, "REMOTE_ADDR": "127.0.0.1"}, start_response)
        with closing(answer) if hasattr(answer, "close") else nullcontext():
            return [b"".join(answer)]

    schema = schemathesis.openapi.from_wsgi("/api/openapi.json", local, config=settings)
    schema = schema.exclude(path=sorted(LEFT_OUT))
    cases, found = 0, {}
    for event in from_schema(schema).execute():
        if isinstance(event, events.NonFatalError | events.FatalError):
            found[f"error: {event}"] = True
        if not isinstance(event, events.ScenarioFinished):
            continue
        cases += len(event.recorder.interactions)
        for id, checks in event.recorder.checks.items():
            for check in checks:
                sent = event.recorder.interactions[id]
                request, response = sent.request, sent.response
                if check.status.value != "failure":
                    continue
                if check.name == "not_a_server_error" and response is not None and response.status_code in OUTSIDE:
                    continue
                body = (request.body or b"")[:300]
                said = response.content[:300] if response is not None else b""
                key = f"{check.name} {event.label} {response.status_code if response is not None else ''}"
                found.setdefault(key, f"{key}\n    {request.method} {request.uri[:300]} {body!r}\n    {said!r}")
    return cases, [text for text in found.values() if isinstance(text, str)]


@pytest.fixture
def ready(app, client, container, luna, monkeypatch):
    """An app with something in it, that never waits for work nobody does."""
    wait, settle = container.jobs.wait, container.publishing.wait
    monkeypatch.setattr(container.jobs, "wait", lambda id, seconds: wait(id, min(seconds, 0.01)))
    monkeypatch.setattr(container.publishing, "wait", lambda id, seconds: settle(id, min(seconds, 0.01)))
    media = upload(client, png()).json["items"][0]["id"]
    client.post("/api/prompts", json={"characterId": luna["id"], "prompt": "by the sea"})
    client.post("/api/datasets", json={"name": "portraits"})
    client.post("/api/webhooks", json={"url": "https://hooks.example.org/a"})
    body = {"characterId": luna["id"], "platform": "twitter", "mediaIds": [media], "caption": "x", "dryRun": True}
    assert client.post("/api/posts", json=body).status_code == 201
    return app


def test_answers_are_as_documented_whatever_is_sent(ready):
    cases, wrong = failures(ready, config(EXAMPLES or 1, coverage=EXAMPLES > 0))
    assert not wrong, "\n".join(wrong)
    assert cases > 250
