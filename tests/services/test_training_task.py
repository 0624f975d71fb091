"""The scheduled task `train_lora`: trains, waits, skips what has not changed, is told by its config."""

from __future__ import annotations

import os

import pytest

from dalla.records.character import ScheduledTask
from dalla.services.training import train_task
from dalla.services.training_task import validate
from tests.conftest import png
from tests.services.training_world import World

pytestmark = pytest.mark.skipif(os.name == "nt", reason="the stand-in uses flock")


@pytest.fixture
def world(container):
    world = World(container)
    handler, check = train_task(world.training)
    container.automation.register_type("train_lora", handler, check, label="Train a LoRA")
    container.jobs.start()
    yield world
    container.jobs.stop()
    world.close()


def add(world, **config):
    nova = world.container.characters.create({"name": "Nova"})
    return world.container.automation.create(
        {"character_id": nova.id, "type": "train_lora", "schedule": "0 3 * * 0", "config": config}
    )


def run(world, client, task):
    answer = client.post("/api/scheduler", json={"action": "run_now", "id": task.id})
    assert answer.status_code == 202, answer.json
    id = answer.json["runs"][0]["runId"]
    store = world.container.runs_store
    return world.until(lambda: (r := store.get(id)).status not in ("queued", "running") and r)


def test_it_trains_and_skips_while_the_pictures_stay(world, client):
    world.pictures("nova-set", 3)
    task = add(world, trainingData="nova-set", params={"preset": "quick"})
    first = run(world, client, task)
    assert first.status == "completed", first
    step = next(s for s in first.steps if s.name == "train")
    assert step.data["lora"] == "Nova" and world.jobs.get(step.data["jobId"]).status == "completed"
    second = run(world, client, task)
    assert second.status == "skipped" and "not changed" in str(second.to_json())
    folder = world.training.sets.folder("nova-set")
    (folder / "new.png").write_bytes(png((250, 250, 0), (150, 150)))
    assert run(world, client, task).status == "completed"
    assert [row["name"] for row in world.training.shelf.all()] == ["Nova-2", "Nova"]


def test_a_failed_training_fails_the_run_with_its_reason(world, client):
    world.how(end="error", detail="Memory ran out.", exit=3)
    world.pictures("nova-set", 2)
    failed = run(world, client, add(world, trainingData="nova-set"))
    assert failed.status == "failed" and "Memory ran out." in str(failed.to_json())


@pytest.mark.parametrize(
    ("config", "field"),
    [
        ({"trainingData": 7}, "config.trainingData"),
        ({"params": {"rang": 1}}, "config.params.rang"),
        ({"params": 3}, "config.params"),
        ({"whenUnchanged": "maybe"}, "config.whenUnchanged"),
    ],
)
def test_its_config_is_checked(config, field):
    task = ScheduledTask(id="t", type="train_lora", config=config)
    assert [row["field"] for row in validate(task)] == [field]
    assert validate(ScheduledTask(id="t", type="train_lora", config={"trainingData": "x", "other": 1})) == []
