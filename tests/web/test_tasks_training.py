"""A training among the background tasks: run again there, it goes on as from its own page."""

from __future__ import annotations

import os

import pytest

from tests.web import test_lora

pytestmark = pytest.mark.skipif(os.name == "nt", reason="the stand-in uses flock")
world, client = test_lora.world, test_lora.client


def test_run_again_forgets_what_was_to_be_kept_before(client, world):
    """Stopped with nothing kept, run again, and stopped as a task: that keeps what there is."""
    world.jobs.start()
    world.how(hold=3)
    id = world.start()
    world.until_step(id, 3)
    client.post(f"/api/lora/train/{id}/cancel", json={"keep": "nothing"})
    assert world.finish(id).status == "cancelled"
    folder = world.training.folders.folder(id)
    assert folder.checkpoints() == []
    assert client.post(f"/api/tasks/{id}/retry").status_code == 202
    world.until(lambda: folder.note().keep == "checkpoints")
    world.until(lambda: world.jobs.get(id).progress.done == 3)
    assert client.post(f"/api/tasks/{id}/cancel").status_code == 202
    assert world.finish(id).status == "cancelled"
    assert [row["step"] for row in folder.checkpoints()] == [2, 3]


def test_run_again_shows_a_run_whose_files_were_deleted(client, world):
    world.jobs.start()
    world.how(end="error")
    id = world.start()
    assert world.finish(id).status == "failed"
    assert client.delete(f"/api/lora/train/{id}").status_code == 200
    assert client.get("/api/lora/train").json["items"] == []
    assert client.post(f"/api/tasks/{id}/retry").status_code == 202
    assert world.until(lambda: (job := world.jobs.get(id)).finished and job.attempt == 2 and job).status == "failed"
    assert [run["taskId"] for run in client.get("/api/lora/train").json["items"]] == [id]


def test_what_runs_or_is_done_is_not_run_again(client, world):
    world.jobs.start()
    world.how(hold=3)
    id = world.start()
    world.until_step(id, 3)
    assert client.post(f"/api/tasks/{id}/retry").status_code == 409
    world.go(id)
    assert world.finish(id).status == "completed"
    assert client.post(f"/api/tasks/{id}/retry").status_code == 409
