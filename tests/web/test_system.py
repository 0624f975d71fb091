"""Status, home, health, metrics: each read from real state."""

from __future__ import annotations

import json
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

from dalla.clock import Clock
from dalla.records.character import TrashedCharacter
from tests.conftest import png, upload

COMPONENTS = {"comfyui", "builtin", "database", "scheduler", "worker", "instagram", "twitter", "gemini", "disk", "gpu"}


def test_every_component_has_a_state_a_sentence_and_a_since(client):
    body = client.get("/api/system/status").json
    assert set(body) >= COMPONENTS | {"status", "checkedAt", "version"}
    for name in COMPONENTS:
        assert body[name]["status"] in ("ok", "off", "error") and body[name]["detail"] and body[name]["since"], name
    assert body["comfyui"]["status"] == "off" and "refused" in body["comfyui"]["detail"] and body["comfyui"]["remedy"]
    assert body["builtin"]["status"] == "ok"


def test_the_worker_is_an_error_until_it_runs(client, container):
    container.jobs.start()
    assert client.get("/api/system/status").json["worker"]["status"] == "ok"
    container.jobs.stop()
    assert client.get("/api/system/status").json["status"] in ("ok", "error")


def test_a_component_remembers_its_last_error(client, container):
    file = Path(container.settings.data_dir) / "prompts.json"
    file.write_text("[{")
    bad = client.get("/api/system/status").json["database"]
    assert bad["status"] == "error" and bad["remedy"] and bad["files"]["prompts"]["ok"] is False
    file.write_text("[]")
    good = client.get("/api/system/status").json["database"]
    assert good["status"] == "ok" and good["lastError"]["detail"] == bad["detail"]


def test_a_key_that_points_nowhere_is_an_error_of_the_account(client, luna):
    client.put(f"/api/characters/{luna['id']}", json={"instagramApiKey": "env:NOT_SET"})
    assert client.get("/api/system/status").json["instagram"]["status"] == "error"
    client.put(f"/api/characters/{luna['id']}", json={"instagramApiKey": "env:LUNA_KEY", "instagramAccountId": "1784"})
    found = client.get("/api/system/status").json["instagram"]
    assert found["status"] == "ok", found


def test_the_checklist_ticks_itself_from_real_state(client):
    def ticks():
        return {step["key"]: step["done"] for step in client.get("/api/home").json["checklist"]}

    assert ticks() == {"character": False, "engine": True, "picture": False, "post": False}
    made = client.post("/api/characters", json={"name": "Luna"}).json
    upload(client, png(), characterId=made["id"])
    assert ticks() == {"character": True, "engine": True, "picture": True, "post": False}
    home = client.get("/api/home").json
    assert (
        home["characters"][0]["mediaCount"] == 1 and home["characters"][0]["lastMedia"]["id"] == home["recent"][0]["id"]
    )


def test_what_failed_needs_you_until_it_is_retried(client, running):
    fail = [True]

    def work(context, payload):
        if fail[0]:
            raise ValueError("no")

    running.jobs.register("shaky", work, lane="cpu")
    running.jobs.stop()
    running.jobs.start()
    id = running.jobs.submit("shaky", {}, title="A shaky thing").id
    client.get(f"/api/tasks/{id}?wait=10")
    (need,) = [n for n in client.get("/api/home").json["needsYou"] if n["kind"] == "task"]
    assert need["taskId"] == id and "A shaky thing" in need["title"] and need["action"] == "Retry"
    fail[0] = False
    client.post(f"/api/tasks/{id}/retry")
    client.get(f"/api/tasks/{id}?wait=10")
    assert client.get("/api/home").json["needsYou"] == []


def test_health_and_metrics(client, running):
    assert client.get("/health/live").json == {"status": "ok"}
    assert client.get("/health/ready").json["status"] == "ok"
    text = client.get("/metrics").text
    assert 'dalla_component_up{component="database"} 1' in text and "dalla_process_resident_memory_bytes" in text


def test_samples_have_the_fields_of_the_charts(container):
    sample = container.system.samples.take()
    assert {"at", "cpu", "memoryUsed", "memoryTotal", "processMemory", "diskFree", "diskTotal"} <= set(sample)
    json.dumps(sample)


def test_the_clock_reports_its_ticks(container):
    from dalla.clock import Clock

    clock = Clock(container)
    assert clock.status()["status"] == "off"
    clock.start()
    container.system.clock = clock
    assert container.system.status()["scheduler"]["status"] == "ok" and clock.status()["lastTick"]
    clock.stop()


def test_chores_purge_what_is_past_its_days(client, container, luna):
    from dalla.clock import Clock

    old, new = (upload(client, png((n, n, n))).json["items"][0]["id"] for n in (1, 2))
    client.delete(f"/api/media/{old}")
    client.delete(f"/api/media/{new}")
    container.media.update([old], trashed_at="2020-01-01T00:00:00.000Z")
    client.delete(f"/api/characters/{luna['id']}")
    Clock(container)._hourly()
    assert client.get(f"/api/media/{old}").status_code == 404 and client.get(f"/api/media/{new}").status_code == 200
    assert len(client.get("/api/characters?trashed=true").json) == 1


def test_the_status_answers_while_the_stores_are_broken(client, container):
    (Path(container.settings.data_dir) / "characters.json").write_text("[{")  # and no earlier version
    body = client.get("/api/system/status").json
    assert (body["status"], body["database"]["status"]) == ("error", "error")
    assert "characters.json" in body["instagram"]["detail"] and body["comfyui"]["status"] == "off"
    with container.library.write() as connection:
        connection.exec_driver_sql("ALTER TABLE background_tasks RENAME TO gone")
    body = client.get("/api/system/status").json
    assert body["worker"]["status"] == "error" and body["tasks"] == {}


def test_a_probe_of_another_request_is_not_taken_away(client, container, monkeypatch):
    unlink, started = Path.unlink, []

    def slow(path, *args, **more):
        if path.name.startswith(".probe") and not started:
            started.append(True)
            other = threading.Thread(target=container.system.status)  # a second page asks in between
            other.start()
            other.join()
        unlink(path, *args, **more)

    monkeypatch.setattr(Path, "unlink", slow)
    assert client.get("/api/system/status").json["database"]["status"] == "ok" and started


def test_the_first_chores_do_not_wait_for_an_hour(container):
    clock = Clock(container)
    clock.start()
    try:
        dues = [job.next_run_time for job in clock._scheduler.get_jobs()]
        assert len(dues) == 3 and max(dues) < datetime.now(UTC) + timedelta(minutes=5)
    finally:
        clock.stop()


def test_purging_the_trash_leaves_the_keys_of_a_character_that_is_there(client, container, luna):
    client.put(f"/api/characters/{luna['id']}", json={"instagramApiKey": "a-real-key-123456"})
    copy = container.characters_file.get(luna["id"]).to_json()
    # What a crash between "into the trash" and "out of the file" leaves behind.
    container.character_trash.insert(TrashedCharacter.model_validate({**copy, "deletedAt": "2020-01-01T00:00:00.000Z"}))
    assert container.characters.purge_trash(30) == 1
    assert client.get(f"/api/characters/{luna['id']}").json["hasInstagramApiKey"] is True


def test_restoring_what_is_still_there_answers_what_is_there(client, container, luna):
    copy = container.characters_file.get(luna["id"]).to_json()
    container.character_trash.insert(TrashedCharacter.model_validate({**copy, "deletedAt": "2020-01-01T00:00:00.000Z"}))
    client.put(f"/api/characters/{luna['id']}", json={"name": "Luna today"})
    restored = client.post(f"/api/characters/{luna['id']}/restore")
    assert restored.json["name"] == client.get(f"/api/characters/{luna['id']}").json["name"] == "Luna today"
