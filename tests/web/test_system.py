"""Status, home, health, metrics: each read from real state."""

from __future__ import annotations

import json
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

from dalla.clock import Clock
from dalla.records.character import TrashedCharacter
from tests.conftest import png, upload

COMPONENTS = {
    "comfyui", "builtin", "database", "folders", "scheduler", "worker", "instagram", "twitter", "gemini", "captionServer",
    "webhooks", "disk", "gpu",
}  # fmt: skip


def test_every_component_has_a_state_a_sentence_and_a_since(client):
    body = client.get("/api/system/status").json
    assert set(body) >= COMPONENTS | {"status", "checkedAt", "version"}
    for name in COMPONENTS:
        part = body[name]
        assert part["status"] in ("ok", "off", "error") and part["detail"] and part["since"] and part["label"], name
        assert part["fix"] is None or (part["fix"]["label"] and part["fix"]["href"].startswith("/")), name
        assert part["fix"] is None or part["status"] != "ok", name
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
    assert need["taskId"] == id and "A shaky thing" in need["title"] and need["action"] == "Run again"
    fail[0] = False
    client.post(f"/api/tasks/{id}/retry")
    client.get(f"/api/tasks/{id}?wait=10")
    assert client.get("/api/home").json["needsYou"] == []


def test_health_and_metrics(client, running):
    assert client.get("/health/live").json == {"status": "ok"}
    assert client.get("/health/ready").json["status"] == "ok"
    text = client.get("/metrics").text
    assert 'dalla_component_up{component="database"} 1' in text and "process_resident_memory_bytes" in text


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


# ---------------------------------------------------------------- what each component says


def test_every_folder_is_looked_at_one_by_one(client, container):
    good = client.get("/api/system/status").json["folders"]
    assert good["status"] == "ok" and [row["id"] for row in good["items"]] == [
        "data",
        "training_data",
        "loras",
        "models",
    ]
    Path(container.settings.loras_dir).rmdir()
    bad = client.get("/api/system/status").json
    assert bad["status"] == "error" and "LoRAs" in bad["folders"]["detail"]
    (row,) = [row for row in bad["folders"]["items"] if row["status"] == "error"]
    assert (row["id"], row["writable"]) == ("loras", False) and "DALLA_LORAS_DIR" in row["remedy"]
    assert bad["folders"]["fix"]["href"] == "/settings.html#lorasDir" and row["fix"] == bad["folders"]["fix"]


def test_a_folder_of_models_may_be_read_only(container, monkeypatch):
    from dalla.services import component_checks

    models = container.settings.models_dir
    real = component_checks.writable
    refused = PermissionError(13, "Permission denied")
    monkeypatch.setattr(
        component_checks, "writable", lambda folder: refused if str(folder) == str(models) else real(folder)
    )
    folders = container.system.status()["folders"]
    (row,) = [row for row in folders["items"] if row["id"] == "models"]
    assert folders["status"] == "ok" and row["writable"] is False and "not written" in row["detail"]


def test_since_and_the_last_error_outlive_a_restart(settings, container):
    from dalla.wiring import Container

    file = Path(settings.data_dir) / "prompts.json"
    file.write_text("[{")
    bad = container.system.status()["database"]
    file.write_text("[]")
    good = container.system.status()["database"]
    assert good["since"] >= bad["since"] and good["lastError"]["detail"] == bad["detail"]
    again = Container(settings)
    try:
        later = again.system.status()["database"]
        assert (later["since"], later["lastError"]) == (good["since"], good["lastError"])
    finally:
        again.close()


def test_lanes_tell_their_workers_what_they_run_and_when_they_were_seen(client, running):
    begun, end = threading.Event(), threading.Event()

    def work(context, payload):
        begun.set()
        end.wait(20)

    running.jobs.register("slow", work, lane="gpu")
    running.jobs.stop()
    running.jobs.start()
    first, second = (running.jobs.submit("slow", {}).id for _ in range(2))
    try:
        assert begun.wait(10)
        worker = client.get("/api/system/status").json["worker"]
        (gpu,) = [lane for lane in worker["lanes"] if lane["lane"] == "gpu"]
        assert (gpu["workers"], gpu["alive"], gpu["running"], gpu["queued"]) == (1, 1, [first], 1)
        assert gpu["heartbeatAt"] and worker["status"] == "ok"
        text = client.get("/metrics").text
        assert 'dalla_queue_depth{lane="gpu"} 1.0' in text and 'dalla_queue_running{lane="gpu"} 1.0' in text
        assert running.system.samples.take()["queued"] == 1
    finally:
        end.set()
    client.get(f"/api/tasks/{second}?wait=10")


def test_a_lane_that_was_not_seen_for_a_minute_is_an_error(container, running):
    assert container.system.status()["worker"]["status"] == "ok"
    container.jobs._seen["net"] = (datetime.now(UTC) - timedelta(minutes=2)).isoformat()
    worker = container.system.status()["worker"]
    for _ in range(200):
        if worker["status"] != "ok":
            break  # otherwise an idle worker looked again in between
        container.jobs._seen["net"] = (datetime.now(UTC) - timedelta(minutes=2)).isoformat()
        worker = container.system.status()["worker"]
    assert "net" in worker["detail"] and worker["fix"]["href"].startswith("/monitoring.html")


def test_accounts_are_told_one_by_one(client, running, luna):
    nova = client.post("/api/characters", json={"name": "Nova"}).json
    keys = {"instagramApiKey": "env:LUNA_KEY", "instagramAccountId": "1784"}
    for character in (luna, nova):
        assert client.put(f"/api/characters/{character['id']}", json=keys).status_code == 200
    running.account_rows.save(
        nova["id"],
        "instagram",
        checked_at="2026-01-01T00:00:00.000Z",
        check_ok=False,
        check_detail="The key was refused.",
    )
    body = client.get("/api/system/status").json
    rows = {row["characterName"]: row for row in body["accounts"]}
    assert set(rows) == {luna["name"], "Nova"} and rows["Nova"]["status"] == "error"
    assert rows["Nova"]["lastError"]["detail"] == rows["Nova"]["detail"] and rows[luna["name"]]["lastError"] is None
    assert rows["Nova"]["fix"]["href"] == f"/connections.html?character={nova['id']}&platform=instagram"
    assert body["instagram"]["status"] == "error" and body["instagram"]["fix"] == rows["Nova"]["fix"]
    assert body["status"] == "degraded" and "dalla_account_up" in client.get("/metrics").text


def test_a_webhook_that_is_refused_is_an_error_with_its_fix(client, container):
    hook = client.post("/api/webhooks", json={"url": "https://example.com/x", "events": ["post.failed"]}).json
    assert client.get("/api/system/status").json["webhooks"]["status"] == "ok"
    container.notices.emit("post.failed", {})
    last = container.notice_rows.last_deliveries()[hook["id"]]
    container.notice_rows.save_delivery(last.id, status="failed", next_try_at=None, detail="It answered 410.")
    bad = client.get("/api/system/status").json["webhooks"]
    assert bad["status"] == "error" and "410" in bad["detail"] and bad["failing"] == [hook["id"]]
    assert bad["fix"]["href"].endswith(f"webhook={hook['id']}")


def test_gemini_tells_its_last_real_answer_and_is_not_asked_for_it(container, luna):
    status = container.system.status()
    assert status["gemini"]["status"] == "off" and status["gemini"]["fix"]["label"] == "Enter a key"
    container.settings.change({"captionUrl": "http://127.0.0.1:9/v1", "captionEngine": "local"})
    untried = container.system.status()["captionServer"]
    assert untried["status"] == "ok" and untried["lastAnswerAt"] is None
    result = container.captioning.write(character_id=luna["id"], prompt="a fox")  # the composer steps in
    assert result.failure is not None
    failed = container.system.status()["captionServer"]
    assert failed["status"] == "error" and failed["detail"] == result.failure["detail"] and failed["lastAnswerAt"]


def test_check_now_asks_for_real(client, container):
    from tests.fakes.openai_server import OpenAIFake

    with OpenAIFake() as server:
        container.settings.change({"captionUrl": server.url})
        before = client.get("/api/system/status").json
        assert before["captionServer"]["lastAnswerAt"] is None
        asked = client.get("/api/system/status?fresh=true").json["captionServer"]
        assert asked["status"] == "ok" and asked["lastAnswerAt"] and asked["latencyMs"] >= 0
    gone = client.get("/api/system/status?fresh=true").json["captionServer"]
    assert (
        gone["status"] == "error"
        and gone["remedy"]
        and gone["fix"]["href"] == "/settings.html?section=captions#captionUrl"
    )
    assert client.get("/api/system/status").json["captionServer"]["status"] == "error"


def test_the_clock_tells_what_is_due_next_and_how_late_it_is(container, monkeypatch):
    clock = Clock(container)
    clock.start()
    container.system.clock = clock
    try:
        assert container.system.status()["scheduler"] | {"nextDue": None} == container.system.status()["scheduler"]
        late = (datetime.now(UTC) - timedelta(seconds=90)).isoformat()
        monkeypatch.setattr(container.publishing, "next_due", lambda: late)
        scheduler = container.system.status()["scheduler"]
        assert scheduler["nextDue"] == late and 90 <= scheduler["lagSeconds"] < 200
    finally:
        clock.stop()


# ---------------------------------------------------------------- samples


def sample(at, **values):
    return {"at": at.isoformat(timespec="milliseconds").replace("+00:00", "Z"), "cpu": 10.0, "queued": 0, **values}


def test_an_hour_and_a_day_are_kept_in_steps(client, container):
    samples, now = container.system.samples, datetime.now(UTC)
    for minute in range(23 * 60, -1, -1):  # one a minute, for 23 hours
        at = now - timedelta(minutes=minute)
        samples.keep(sample(at, cpu=float(minute % 2) * 100, queued=minute % 5))
    two, hour, day = (client.get(f"/api/system/samples?span={span}").json for span in ("2m", "1h", "24h"))
    assert len(two["samples"]) == 60 and two["everySeconds"] == 2
    assert hour["seconds"] == 3600 and 58 <= len(hour["samples"]) <= 61
    assert 270 <= len(day["samples"]) <= 278 and day["everySeconds"] == 300
    middle = day["samples"][100]
    assert middle["cpu"] in (40.0, 60.0) and middle["queued"] == 4  # the mean of five, and the highest
    assert [s["at"] for s in day["samples"]] == sorted(s["at"] for s in day["samples"])
    assert client.get("/api/system/samples").json["span"] == "2m"
    assert client.get("/api/system/samples?span=1y").status_code == 422


def test_the_day_outlives_a_restart_and_a_broken_file(settings, container):
    from dalla.services.samples import Samples

    now = datetime.now(UTC)
    for minute in range(600, 0, -1):
        container.system.samples.keep(sample(now - timedelta(minutes=minute)))
    container.system.samples.save()
    assert container.system.samples.file.stat().st_size < 100_000
    again = Samples(Path(settings.data_dir), container.events, every=60)
    again.start()
    assert len(again.span("24h")["samples"]) >= 119 and 55 <= len(again.span("1h")["samples"]) <= 61
    again.stop()
    for rubbish in (b"{", b"[]", b'{"24h": [{"at": 5}, null, {"at": "never"}]}'):
        again.file.write_bytes(rubbish)
        fresh = Samples(Path(settings.data_dir), container.events, every=60)
        fresh.start()
        assert fresh.span("24h")["samples"] == []
        fresh.stop()


# ---------------------------------------------------------------- quarantine


def test_a_quarantined_task_is_listed_and_can_be_run_again_or_dismissed(client, running):
    done = []
    running.jobs.register("twice", lambda context, payload: done.append(payload["n"]), lane="cpu")
    running.jobs.stop()
    ids = []
    for n in range(2):
        job = running.jobs.submit("twice", {"n": n}, title=f"Task {n}")
        running.tasks.transition(job.id, "running", owner="elsewhere:1:1.0", heartbeat_at="2020-01-01T00:00:00.000Z")
        running.tasks.transition(job.id, "interrupted", crashes=2, quarantined=True)
        ids.append(job.id)
    running.jobs.start()
    listed = client.get("/api/tasks?quarantined=true").json
    assert {task["id"] for task in listed["items"]} == set(ids) and listed["total"] == 2
    assert "dalla_tasks_quarantined 2.0" in client.get("/metrics").text
    dismissed = client.post(f"/api/tasks/{ids[0]}/dismiss")
    assert dismissed.status_code == 200 and dismissed.json["quarantined"] is False
    assert dismissed.json["status"] == "interrupted"
    assert client.post(f"/api/tasks/{ids[0]}/dismiss").status_code == 409
    assert client.post("/api/tasks/job_none/dismiss").status_code == 404
    assert client.post(f"/api/tasks/{ids[1]}/retry").status_code == 202
    assert client.get(f"/api/tasks/{ids[1]}?wait=10").json["status"] == "completed" and done == [1]
    assert client.get("/api/tasks?quarantined=true").json["items"] == []


# ---------------------------------------------------------------- figures


def test_prometheus_can_read_every_figure(client, running, luna):
    from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
    from prometheus_client.parser import text_string_to_metric_families

    running.jobs.register("quick", lambda context, payload: None, lane="cpu")
    running.jobs.stop()
    running.jobs.start()
    client.get(f"/api/tasks/{running.jobs.submit('quick', {}).id}?wait=10")
    upload(client, png(), characterId=luna["id"])
    for _ in range(3):
        client.get(f"/api/characters/{luna['id']}")
    client.get("/api/characters/nobody")
    client.get("/nowhere")
    client.open("/api/characters", method="BREW")
    answer = client.get("/metrics")
    assert answer.content_type.startswith("text/plain")
    families = {family.name: family for family in text_string_to_metric_families(answer.text)}

    def value(family, name=None, **labels):
        (found,) = [s.value for s in families[family].samples if s.name == (name or family) and s.labels == labels]
        return found

    route = {"method": "GET", "route": "/api/characters/<id>"}
    assert value("dalla_http_requests", "dalla_http_requests_total", **route, status="200") == 3
    assert value("dalla_http_requests", "dalla_http_requests_total", **route, status="404") == 1
    timed = families["dalla_http_request_duration_seconds"]
    buckets = [s.value for s in timed.samples if s.name.endswith("_bucket") and s.labels.items() >= route.items()]
    assert buckets == sorted(buckets) and buckets[-1] == 4
    assert value("dalla_http_request_duration_seconds", "dalla_http_request_duration_seconds_count", **route) == 4
    routes = {s.labels["route"] for s in families["dalla_http_requests"].samples}
    assert "unmatched" in routes and not any(luna["id"] in route for route in routes)
    assert "BREW" not in {s.labels["method"] for s in families["dalla_http_requests"].samples}
    assert value("dalla_tasks", kind="quick", status="completed") == 1
    assert value("dalla_media_items") == 1 and value("dalla_component_up", component="database") == 1
    assert value("dalla_queue_workers", lane="gpu") == 1 and value("process_start_time_seconds") > 1e9
    assert families["process_cpu_seconds"].type == "counter"
    names = {s.name for family in families.values() for s in family.samples}
    assert {"dalla_disk_free_bytes", "process_resident_memory_bytes", "dalla_build_info"} <= names
    assert all(family.documentation.endswith(".") for family in families.values())
    modern = client.get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    assert "openmetrics" in modern.content_type and len(list(openmetrics(modern.text))) >= len(families)


def test_posts_are_counted_by_platform_and_status(client, container, luna):
    media = upload(client, png(), characterId=luna["id"]).json["items"][0]["id"]
    body = {"characterId": luna["id"], "platform": "instagram", "mediaIds": [media], "caption": "Hello"}
    assert client.post("/api/posts", json=body).status_code == 201
    assert 'dalla_posts{platform="instagram",status="draft"} 1.0' in client.get("/metrics").text


def test_figures_that_cannot_be_read_are_left_out(client, container):
    with container.library.write() as connection:
        connection.exec_driver_sql("ALTER TABLE background_tasks RENAME TO gone")
    text = client.get("/metrics").text
    assert "dalla_tasks{" not in text and 'dalla_component_up{component="worker"} 0.0' in text
