"""Background tasks over HTTP and the event stream."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from dalla.web import files, waiting
from tests.conftest import taken


@pytest.fixture
def kinds(container):
    gate = threading.Event()

    def slow(ctx, p):
        ctx.progress(1, 3, "one")
        while not gate.is_set():
            ctx.check_cancelled()
            threading.Event().wait(0.005)
        return {"ok": True}

    container.jobs.register("slow", slow, lane="cpu")
    container.jobs.register("quick", lambda ctx, p: {"n": p["n"]}, lane="cpu")
    yield gate
    gate.set()


def test_reading_waiting_listing(client, container, kinds):
    container.jobs.start()
    jobs = [container.jobs.submit("quick", {"n": n}, title=f"Job {n}") for n in range(3)]
    done = client.get(f"/api/tasks/{jobs[2].id}?wait=10").json
    assert (done["status"], done["progress"], done["result"], done["title"]) == ("completed", 1.0, {"n": 2}, "Job 2")
    for address in (f"/api/tasks/{jobs[2].id}/status", f"/tasks/{jobs[2].id}/status"):
        assert client.get(address).json["taskId"] == jobs[2].id
    page = client.get("/api/tasks?limit=2&kind=quick").json
    assert page["total"] == 3 and len(page["items"]) == 2 and page["nextCursor"]
    rest = client.get("/api/tasks", query_string={"limit": 2, "kind": "quick", "cursor": page["nextCursor"]}).json
    assert {i["taskId"] for i in page["items"] + rest["items"]} == {j.id for j in jobs}
    assert client.get("/api/tasks?status=sleeping").status_code == 422
    assert client.get("/api/tasks/job_none").status_code == 404


def test_cancel_and_retry(client, container, kinds):
    container.jobs.start()
    id = container.jobs.submit("slow", {}).id
    assert client.post(f"/api/tasks/{id}/cancel").status_code == 202
    assert client.get(f"/api/tasks/{id}?wait=10").json["status"] == "cancelled"
    assert client.post(f"/api/tasks/{id}/cancel").status_code == 409
    kinds.set()
    assert client.post(f"/api/tasks/{id}/retry").status_code == 202
    assert client.get(f"/api/tasks/{id}?wait=10").json["status"] == "completed"
    assert client.get(f"/api/tasks/{id}/log").mimetype == "text/plain"
    assert client.get(f"/api/tasks/{id}/preview").status_code == 404
    assert client.get("/api/tasks/..%2f..%2fetc/log").status_code in (404, 422)


def test_a_waiting_task_is_put_before_the_others(client, container, kinds):
    first, second = (container.jobs.submit("quick", {"n": n}).id for n in (1, 2))
    moved = client.post(f"/api/tasks/{second}/next")
    assert moved.status_code == 200 and moved.json["turn"] < 0 == client.get(f"/api/tasks/{first}").json["turn"]
    assert container.tasks.waiting("cpu") == [second, first]
    container.jobs.start()
    assert client.get(f"/api/tasks/{second}?wait=10").json["turn"] == 0
    late = client.post(f"/api/tasks/{second}/next")
    assert late.status_code == 409 and late.json["remedy"] and late.json["taskStatus"] == "completed"
    assert client.post("/api/tasks/job_none/next").status_code == 404


def read_events(response, count):
    """The first `count` events of a stream as (id, type, data)."""
    events, buffer = [], b""
    for chunk in response.iter_encoded():
        buffer += chunk
        while b"\n\n" in buffer:
            block, _, buffer = buffer.partition(b"\n\n")
            fields = dict(line.split(": ", 1) for line in block.decode().splitlines() if not line.startswith(":"))
            if "event" in fields:
                events.append((fields["id"], fields["event"], json.loads(fields["data"])))
        if len(events) >= count:
            break
    response.close()
    return events


def stream(client, **headers):
    return client.get("/api/events", headers=headers, buffered=False)


def test_the_stream_begins_with_a_snapshot_and_goes_on(client, container, kinds):
    waiting = container.jobs.submit("slow", {})
    response = stream(client)
    assert response.mimetype == "text/event-stream"
    client.post("/api/characters", json={"name": "Nova"})
    first, second = read_events(response, 2)
    assert first[1] == "snapshot" and [t["taskId"] for t in first[2]["tasks"]] == [waiting.id]
    assert second[1] == "character.updated" and second[2]["name"] == "Nova"
    run, number = second[0].split("-")
    assert run == container.run_id and int(number) == int(first[0].split("-")[1]) + 1


def test_a_lost_stream_resumes_without_gaps(client, container):
    client.post("/api/characters", json={"name": "A"})
    (first,) = read_events(stream(client), 1)
    for name in "BCD":
        client.post("/api/characters", json={"name": name})
    resumed = read_events(stream(client, **{"Last-Event-ID": first[0]}), 3)
    assert [data["name"] for _, _, data in resumed] == ["B", "C", "D"]


@pytest.mark.parametrize("stale", ["0123abc-5", "nonsense", ""])
def test_an_id_of_another_run_starts_from_a_snapshot(client, container, stale):
    assert read_events(stream(client, **{"Last-Event-ID": stale}), 1)[0][1] == "snapshot"


def test_an_id_too_old_starts_from_a_snapshot(client, container):
    for n in range(1100):
        container.events.publish("notification", {"n": n})
    assert read_events(stream(client, **{"Last-Event-ID": f"{container.run_id}-3"}), 1)[0][1] == "snapshot"


def test_too_many_streams_are_refused_and_closing_frees_them(client):
    open_streams = [stream(client) for _ in range(waiting.STREAMS.count)]
    assert stream(client).status_code == 503
    for response in open_streams:
        response.close()
    last = stream(client)
    assert last.status_code == 200
    last.close()


def test_when_too_many_wait_the_present_state_is_answered_at_once(client, container, kinds, monkeypatch):
    asked = []
    wait = container.jobs.wait

    def noted(id, timeout):
        asked.append(timeout)
        return wait(id, timeout)

    monkeypatch.setattr(container.jobs, "wait", noted)
    container.jobs.start()
    id = container.jobs.submit("slow", {}).id
    with taken(waiting.WAITING):
        answer = client.get(f"/api/tasks/{id}?wait=60")
        assert answer.status_code == 200 and answer.json["status"] in ("queued", "running")
        assert int(answer.headers["Retry-After"]) >= 1 and asked == [0]
        assert client.get("/api/tasks/job_none?wait=60").status_code == 404
        assert "Retry-After" not in client.get(f"/api/tasks/{id}").headers
    kinds.set()
    assert client.get(f"/api/tasks/{id}?wait=60").json["status"] == "completed" and asked[-1] == 60


def test_a_place_is_free_again_however_the_wait_ends(client, container):
    for _ in range(waiting.WAITING.count + 1):
        assert client.get("/api/tasks/job_none?wait=60").status_code == 404
    assert waiting.WAITING.free == waiting.WAITING.count


def test_one_account_leaves_places_to_the_others():
    places = waiting.Places(waiting.MOST_OF_EACH + 1)
    assert all(places.take("greedy") for _ in range(waiting.MOST_OF_EACH))
    assert not places.take("greedy") and places.take("other") and not places.take("third")
    places.leave("other")
    places.leave("greedy")
    assert places.take("greedy") and places.free == 1


def test_streams_and_waiting_requests_leave_threads_for_pages():
    held = sum(places.count for places in (waiting.STREAMS, waiting.WAITING, waiting.ANSWERS))
    assert waiting.THREADS - held >= waiting.THREADS // 4


def test_event_ids_that_are_none_hold_no_connection(client, container):
    free = waiting.STREAMS.free
    for number in ("²", "9" * 5000):
        answer = client.get("/api/events", headers={"Last-Event-ID": f"{container.run_id}-{number}"}, buffered=False)
        assert answer.status_code == 200 and b"snapshot" in next(answer.response)
        answer.close()
    assert waiting.STREAMS.free == free


def test_a_log_is_answered_in_pieces(client, container, kinds, monkeypatch):
    monkeypatch.setattr(files, "PIECE", 4)
    id = container.jobs.submit("quick", {"n": 1}).id
    folder = Path(container.settings.data_dir) / "runs" / id
    folder.mkdir(parents=True)
    (folder / "log.txt").write_text("one two")
    whole = client.get(f"/api/tasks/{id}/log", buffered=False)
    assert list(whole.response) == [b"one ", b"two"] and whole.headers["X-Next-Offset"] == "7"
    with (folder / "log.txt").open("a") as log:
        log.write(" three")
    rest = client.get(f"/api/tasks/{id}/log?offset=7")
    assert (rest.text, rest.headers["X-Next-Offset"]) == (" three", "13")
    beyond = client.get(f"/api/tasks/{id}/log?offset=99")
    assert (beyond.text, beyond.headers["X-Next-Offset"]) == ("", "13")
