"""`/api/storage` and the restart, as programs see them."""

from __future__ import annotations

from pathlib import Path

import pytest

from dalla.records.job import Job
from dalla.records.post import Post
from dalla.times import now_iso
from tests.services.restore_kit import wait, write


def test_sizes_are_null_until_measured(running, client):
    told = client.get("/api/storage").json
    assert {row["id"] for row in told["locations"]} >= {"data", "media", "datasets", "posts", "runs", "backups", "logs", "training_data", "loras", "models"}  # fmt: skip
    assert set(told["locations"][0]) >= {"id", "label", "path", "sizeBytes", "files", "measuredAt", "setting", "movable", "cleanable"}  # fmt: skip
    assert [row["what"] for row in told["cleaning"]][:2] == ["trash_old", "trash"]
    task = wait(client, client.post("/api/storage/measure"))
    again = client.get("/api/storage").json
    assert all(row["measuredAt"] for row in again["locations"]) and again["measuring"] is None
    assert task["result"]["data"]["sizeBytes"] == again["locations"][0]["sizeBytes"]
    assert again["forecast"]["basis"] == "14 days"


def test_looking_again_starts_no_second_measuring(client):  # no workers: what is queued stays queued
    first, second = client.get("/api/storage").json, client.get("/api/storage").json
    assert first["measuring"] and first["measuring"] == second["measuring"]
    assert client.post("/api/storage/measure").json["taskId"] == first["measuring"]


def test_cleaning_lists_first_and_then_deletes_the_list(running, client, settings):
    copy = Path(settings.data_dir) / "dalla.db.before-0003.bak"
    write(copy, b"x" * 100)
    plan = client.post("/api/storage/clean", json={"what": ["database_copies"]})
    assert plan.status_code == 200 and plan.json["items"][0]["bytes"] == 100 and copy.exists()
    done = wait(client, client.post("/api/storage/clean", json={"what": ["database_copies"], "dryRun": False, "planId": plan.json["planId"]}))  # fmt: skip
    assert done["result"] == {"files": 1, "bytes": 100, "left": 0} and not copy.exists()
    assert client.post("/api/storage/clean", json={"what": ["nothing"]}).status_code == 422
    assert client.post("/api/storage/clean", json={"what": []}).status_code == 422


def test_a_folder_set_by_the_environment_is_not_moved(client, tmp_path):
    for body in ({"dryRun": True}, {"dryRun": False}):
        answer = client.post("/api/storage/move", json={"location": "models", "target": str(tmp_path / "new"), **body})
        assert answer.status_code == 409 and "DALLA_MODELS_DIR" in answer.json["detail"] and answer.json["remedy"]
    told = client.get("/api/storage").json["locations"]
    assert [row for row in told if row["id"] == "models"][0]["locked"]


@pytest.fixture
def asked(container):
    """A container whose restart only notes that it was asked for."""
    asked: list[bool] = []
    container.restart.ask = lambda: asked.append(True)
    return asked


def test_a_restart_that_would_interrupt_says_what(container, client, asked):
    container.tasks.insert(Job(id="job_1", kind="train_lora", title="Train Luna", lane="gpu", status="running", created_at=now_iso()))  # fmt: skip
    container.post_rows.insert(Post(id="post_1", character_id="char_1", platform="twitter", status="uploading", created_at=now_iso(), updated_at=now_iso()))  # fmt: skip
    refused = client.post("/api/system/restart", json={})
    assert refused.status_code == 409 and "Train Luna" in refused.json["detail"] and "twitter" in refused.json["detail"]
    assert {row["kind"] for row in refused.json["interrupts"]} == {"train_lora", "publish_post"}
    assert not asked
    forced = client.post("/api/system/restart", json={"force": True})
    assert forced.status_code == 202 and len(forced.json["interrupts"]) == 2


def test_other_work_does_not_hold_a_restart_up(container, client, asked):
    container.tasks.insert(Job(id="job_1", kind="measure_storage", title="Measure", lane="cpu", status="running", created_at=now_iso()))  # fmt: skip
    answer = client.post("/api/system/restart", json={})
    assert answer.status_code == 202 and [row["holds"] for row in answer.json["interrupts"]] == [False]


def test_without_a_server_of_its_own_there_is_no_restart(client):
    answer = client.post("/api/system/restart", json={})
    assert answer.status_code == 503 and answer.json["remedy"]
