"""`/api/logs` and the archive for bug reports: what is in them, and above all what is not."""

from __future__ import annotations

import io
import json
import logging
import zipfile
from pathlib import Path

import pytest

from dalla import log
from dalla.records.character import SECRET_FIELDS

PLANTED = {
    "instagramApiKey": "IGQVJplanted0000001",
    "twitterAppKey": "xk-planted-0000002",
    "twitterAppSecret": "xs planted/00+00003",
    "twitterAccessToken": "xt-planted-0000004",
    "twitterAccessSecret": "xa-planted-0000005",
}


@pytest.fixture
def environ():
    return {
        "GEMINI_API_KEY": "AIzaPlanted0000006",
        "COMFYUI_HEADERS": '{"Authorization": "Bearer planted0000007abc"}',
        "DALLA_CAPTION_URL": "http://me:planted0000008@127.0.0.1:9/v1",
    }


@pytest.fixture
def logged(settings):
    """The real handlers on the data folder of the test."""
    root, before, level = logging.getLogger(), list(logging.getLogger().handlers), logging.getLogger().level
    log.configure(Path(settings.data_dir))
    yield logging.getLogger("dalla.test")
    for handler in [h for h in root.handlers if h not in before]:
        root.removeHandler(handler)
        handler.close()
    root.setLevel(level)


def test_an_error_is_found_by_the_request_id_its_answer_carries(client, logged):
    logged.info("something else")
    problem = client.post("/api/characters", json={"name": ""})
    found = client.get(f"/api/logs?requestId={problem.json['requestId']}").json
    assert [item["requestId"] for item in found["items"]] == [problem.json["requestId"]]
    assert "POST /api/characters 422" in found["items"][0]["message"] and found["nextCursor"] is None
    assert client.get("/api/logs?level=ERROR&q=something").json["items"] == []


def test_what_a_task_wrote_is_found_by_its_id(client, running, logged):
    def work(context, payload):
        logged.warning("a word from inside")
        raise RuntimeError("it broke")

    running.jobs.register("shaky", work, lane="cpu")
    running.jobs.stop()
    running.jobs.start()
    id = running.jobs.submit("shaky", {}).id
    client.get(f"/api/tasks/{id}?wait=10")
    items = client.get(f"/api/logs?taskId={id}&level=WARNING").json["items"]
    assert [item["message"] for item in items][-1] == "a word from inside"
    assert "RuntimeError: it broke" in items[0]["trace"] and items[0]["taskId"] == id


@pytest.mark.parametrize("query", ["level=LOUD", "limit=0", "limit=9999", "before=../../x", "after=1", "nothing=1"])
def test_bad_questions_are_refused(client, query):
    assert client.get(f"/api/logs?{query}").status_code == 422


def planted(client, container, logged, luna):
    """Secrets wherever one can be, written to the log in clear by somebody who did not know better."""
    handle = "luna.the.mystic"
    changed = client.put(f"/api/characters/{luna['id']}", json={**PLANTED, "instagramHandle": f"@{handle}"})
    assert changed.status_code == 200, changed.json
    hook = client.post("/api/webhooks", json={"url": "https://example.com/hook", "events": ["post.failed"]}).json
    container.secrets.put("storage/anything", "planted-0000009")
    secrets = [*PLANTED.values(), "AIzaPlanted0000006", "planted0000007abc", "planted0000008", hook["secret"]]
    secrets += ["planted-0000009", "dd_planted0000010abcdef", "planted0000011cookie"]
    file = Path(container.settings.data_dir) / "logs" / "dalla.log"
    with file.open("a", encoding="utf-8") as out:  # past the filter of the log
        for n, secret in enumerate(secrets):
            out.write(f"2026-11-21 19:00:{n:02}.000+00:00 INFO    dalla [- -] it said {secret} and went on\n")
        out.write("2026-11-21 19:01:00.000+00:00 INFO    dalla [- -] fetched /x?k=xs%20planted%2F00%2B00003\n")
        out.write("2026-11-21 19:01:01.000+00:00 INFO    dalla [- -] Cookie: dalla_session=planted0000011cookie\n")
        out.write('2026-11-21 19:01:02.000+00:00 INFO    dalla [- -] {"password": "planted0000012pass"}\n')
        out.write(f"2026-11-21 19:01:03.000+00:00 INFO    dalla [- -] posted for {handle}\n")
    # The id of a session is random and known to nobody: alone in a sentence it cannot be told from a word.
    secrets.remove("planted0000011cookie")
    return [*secrets, "planted%2F00", "dalla_session=planted", "planted0000012pass", handle]


def test_the_archive_holds_what_a_report_needs_and_no_secret(client, container, running, logged, luna):
    def fail(context, payload):
        raise RuntimeError(f"refused with {PLANTED['twitterAppKey']}")

    running.jobs.register("shaky", fail, lane="cpu")
    running.jobs.stop()
    running.jobs.start()
    id = running.jobs.submit("shaky", {"caption": "A caption nobody may read"}, title="A title nobody may read").id
    client.get(f"/api/tasks/{id}?wait=10")
    secrets = planted(client, container, logged, luna)
    answer = client.get("/api/logs/bundle")
    assert answer.status_code == 200 and answer.mimetype == "application/zip"
    assert "attachment" in answer.headers["Content-Disposition"]
    archive = zipfile.ZipFile(io.BytesIO(answer.data))
    files = {name: archive.read(name).decode() for name in archive.namelist()}
    assert {"README.txt", "status.json", "versions.json", "settings.json", "tasks.json", "logs/dalla.log"} <= set(files)
    for name, text in files.items():
        for secret in [*secrets, "nobody may read"] if name != "logs/dalla.log" else secrets:
            assert secret not in text, (name, secret)
    assert "it said •••• and went on" in files["logs/dalla.log"]
    versions = json.loads(files["versions.json"])
    assert versions["schema"] == container.library.version() and versions["libraries"]["Flask"] and versions["python"]
    settings = {row["name"]: row for row in json.loads(files["settings.json"])}
    gemini = settings["geminiApiKey"]
    assert (gemini["value"], gemini["set"], gemini["secret"]) == (None, True, True)
    assert json.loads(files["status.json"])["database"]["status"] == "ok"
    (task,) = [row for row in json.loads(files["tasks.json"]) if row["id"] == id]
    assert task["error"]["code"] == "internal" and "payload" not in task


def test_every_credential_of_a_character_is_planted():
    assert len(PLANTED) == len(SECRET_FIELDS)


def test_the_archive_is_made_while_the_stores_are_broken(client, container, logged):
    (Path(container.settings.data_dir) / "prompts.json").write_text("[{")
    with container.library.write() as connection:
        connection.exec_driver_sql("ALTER TABLE background_tasks RENAME TO gone")
    archive = zipfile.ZipFile(io.BytesIO(client.get("/api/logs/bundle").data))
    assert json.loads(archive.read("tasks.json"))["error"]["code"] == "storage"
    assert json.loads(archive.read("status.json"))["status"] == "error"
