"""The command lines that the API page shows do what they say, run by a real shell and a real curl."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
from pathlib import Path

import pytest
from werkzeug.serving import make_server

from tests.conftest import png
from tests.test_js import node

ROOT = Path(__file__).parent.parent.parent
SCRIPT = f"""
import {{ readFileSync }} from "node:fs";
import {{ curl }} from "{(ROOT / "static/js/curl.js").as_uri()}";
import {{ asCall, operations }} from "{(ROOT / "static/js/pages/docs/operations.js").as_uri()}";
const {{ doc, where }} = JSON.parse(readFileSync(0, "utf-8"));
const made = operations(doc).map((op) => [`${{op.method.toUpperCase()}} ${{op.path}}`, curl(asCall(op), where)]);
console.log(JSON.stringify(Object.fromEntries(made)));
"""

pytestmark = [
    pytest.mark.skipif(os.name == "nt", reason="the commands are for a POSIX shell"),
    pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed"),
]


@pytest.fixture
def server(app):
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def commands(client):
    """Make the commands as the page does."""
    program = node()
    if program is None:
        pytest.skip("there is no Node")

    def make(origin, *, token=False):
        doc = client.get("/api/openapi.json").json
        sent = json.dumps({"doc": doc, "where": {"origin": origin, "token": token}})
        run = subprocess.run(
            [program, "--input-type=module", "-e", SCRIPT], input=sent, capture_output=True, text=True, check=True
        )
        return json.loads(run.stdout)

    return make


@pytest.fixture
def shell(tmp_path):
    (tmp_path / "picture.png").write_bytes(png(size=(640, 800)))

    def run(command, **environ):
        command = command.replace("curl ", "curl -sS -w '\\n%{http_code}' ", 1)
        done = subprocess.run(
            ["sh", "-c", command], cwd=tmp_path, capture_output=True, text=True, env={**os.environ, **environ}
        )
        assert done.returncode == 0, done.stderr
        body, _, status = done.stdout.rpartition("\n")
        return int(status), json.loads(body)

    return run


def test_what_is_copied_does_the_same(server, commands, shell, client):
    made = commands(server)
    status, character = shell(made["POST /api/characters"])
    assert status == 201 and character["name"] == "Luna the Mystic"
    assert client.get(f"/api/characters/{character['id']}").json["promptSettings"]["mood"] == "serene"
    status, listed = shell(made["GET /api/characters"])
    assert status == 200 and [one["id"] for one in listed] == [character["id"]]

    upload = made["POST /api/media"].replace("char_1718000000000", character["id"])
    status, taken = shell(upload)
    assert status == 201 and taken["items"][0]["characterId"] == character["id"]
    status, changed = shell(made["PATCH /api/media/{id}"].replace("media_01j9z3k2m4", taken["items"][0]["id"]))
    assert status == 200 and changed["starred"] is True

    write = made["POST /api/generate-caption"].replace("char_1718000000000", character["id"])
    assert shell(write)[0] == 200
    status, gone = shell(made["DELETE /api/characters/{id}"].replace("char_1718000000001", character["id"]))
    assert status == 200 and gone["dryRun"] is True, "the example only counts"


@pytest.mark.parametrize(
    "name",
    ["PUT /api/wildcards/{name}", "POST /api/prompts/import", "GET /api/scheduler/preview", "GET /api/calendar"],
)
def test_queries_lists_and_cron_expressions_arrive(server, commands, shell, name):
    status, answer = shell(commands(server)[name])
    assert status == 200, answer


def test_with_accounts_a_token_is_asked_for(server, commands, shell, client):
    client.post("/api/auth/setup", json={"name": "ada", "password": "correct horse battery"})
    token = client.post("/api/auth/tokens", json={"name": "cli", "scopes": ["read"]}, headers={"X-Dalla": "1"}).json[
        "token"
    ]
    made = commands(server, token=True)
    assert shell(made["GET /api/characters"], DALLA_TOKEN="dd_wrong")[0] == 401
    assert shell(made["GET /api/characters"], DALLA_TOKEN=token) == (200, [])
    assert shell(made["POST /api/characters"], DALLA_TOKEN=token)[0] == 403
