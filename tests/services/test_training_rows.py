"""Runs as the API shows them: tasks that say little, no path of the machine, the place in the queue, the title."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from dalla.errors import InvalidInput
from dalla.ids import new_id
from dalla.records.job import Job
from dalla.services.training_changes import retitled, run_title
from dalla.services.training_plan import TrainWish
from tests.services.training_world import World

pytestmark = pytest.mark.skipif(os.name == "nt", reason="the stand-in uses flock")


@pytest.fixture
def world(container: Any) -> Any:
    world = World(container)
    yield world
    container.jobs.stop()
    world.close()


def row(world: Any, payload: dict[str, Any], status: str = "failed") -> str:
    """A task of a training as another version of the app may have left it."""
    job = Job(id=new_id("job"), kind="train_lora", lane="gpu", title="Train Luna", status=status, payload=payload)
    return world.container.tasks.insert(job).id


@pytest.mark.parametrize(
    "payload",
    [
        {},
        {"note": None, "config": None},
        {"config": {"name": "luna", "base_model": "starter", "dataset_folder": "luna", "rank": "many"}},
        {"config": {"name": "luna"}, "note": {"keep": "everything"}},
        {"config": {"name": "luna"}},
    ],
)
def test_a_task_that_says_little_is_listed_and_read(world: Any, payload: dict[str, Any]) -> None:
    id = row(world, payload)
    (listed,), _, total = world.training.runs()
    assert (listed["taskId"], listed["status"], total) == (id, "failed", 1)
    assert listed["name"] == ("luna" if (payload.get("config") or {}).get("name") else "Train Luna")
    whole = world.training.public(world.training.job(id), full=True)
    assert whole["samples"] == [] and whole["config"]["name"] == listed["name"] and whole["actions"][0] == "retry"
    world.training.delete_run(id)
    assert world.training.runs()[0] == []


@pytest.mark.parametrize(
    "payload",
    [
        {},
        {"config": ["luna"]},
        {"config": {"name": "luna", "base_model": "starter", "dataset_folder": "luna", "rank": "many"}},
    ],
)
def test_a_task_without_usable_settings_fails_with_a_remedy(world: Any, payload: dict[str, Any]) -> None:
    id = row(world, payload, "queued")
    world.jobs.start()
    job = world.finish(id)
    assert job.status == "failed" and "does not say how to train" in job.error["detail"]
    assert job.error["remedy"] == "Start a new training."


def test_what_waits_says_its_place_and_can_be_moved_forward(world: Any) -> None:
    first, second, third = (world.start() for _ in range(3))
    runs = {run["taskId"]: run for run in world.training.runs()[0]}
    assert [runs[id]["ahead"] for id in (first, second, third)] == [0, 1, 2]
    assert runs[first]["actions"] == ["cancel"] and runs[third]["actions"] == ["next", "cancel"]
    world.jobs.run_next(third)
    moved = world.training.public(world.training.job(third))
    assert (moved["ahead"], moved["actions"]) == (0, ["cancel"])
    assert world.training.public(world.training.job(second))["ahead"] == 2
    world.jobs.start()
    ended = [world.finish(id) for id in (third, first, second)]
    assert sorted(ended, key=lambda job: job.started_at) == ended
    assert "ahead" in moved and world.training.public(ended[0])["ahead"] is None


def test_a_whole_path_of_class_pictures_is_taken_back_and_never_shown(world: Any) -> None:
    folder = Path(world.container.settings.training_data_dir) / world.pictures("women")
    params = {"preset": "quick", "priorFolder": str(folder), "priorWeight": 1.0, "classWord": "woman"}
    id = world.training.start(TrainWish(training_data=world.pictures(), params=params)).id
    assert world.training.job(id).payload["config"]["prior_folder"] == str(folder)
    world.jobs.start()
    world.finish(id)
    shown = world.training.public(world.training.job(id), full=True)
    assert shown["config"]["priorFolder"] == "women" == shown["request"]["params"]["priorFolder"]
    assert str(folder.parent) not in json.dumps({**shown, "error": None})
    again = TrainWish(training_data="luna", params=shown["request"]["params"])
    assert world.training.start(again).payload["config"]["prior_folder"] == str(folder)
    for elsewhere in (str(folder.parent.parent / "women"), str(folder / "deeper"), "../women"):
        with pytest.raises(InvalidInput) as caught:
            world.training.estimate(TrainWish(training_data="luna", params={**params, "priorFolder": elsewhere}))
        assert [error["field"] for error in caught.value.errors] == ["params.priorFolder"]


def test_a_wish_is_kept_as_it_was_understood(world: Any) -> None:
    """A form that is filled from it again knows numbers and switches, not the texts that somebody may send for them."""
    sent = {"preset": "quick", "rank": "4", "learning_rate": "1e-3", "steps": 8.0, "useDora": 1, "convRank": None}
    params = {**sent, "ema": "false", "validation": {"count": "0"}}
    id = world.training.start(TrainWish(training_data=world.pictures(), params=params)).id
    kept = world.training.public(world.training.job(id), full=True)["request"]["params"]
    said = {"preset": "quick", "rank": 4, "learningRate": 0.001, "steps": 8, "useDora": True, "ema": False}
    assert kept == {**said, "validation": {"count": 0}}
    assert [type(kept[key]) for key in ("rank", "steps", "useDora", "ema")] == [int, int, bool, bool]


def test_the_trigger_word_of_the_captions_is_taken_before_one_is_made_up(world: Any) -> None:
    captions = {f"p{n}": f"mira_v1, a woman, pose {n}" for n in range(3)}
    own = world.training.estimate(TrainWish(training_data=world.pictures("own", **captions)))
    assert own["triggerWord"] == "mira_v1" and not {"other_trigger", "trigger_added"} & {
        c["code"] for c in own["checks"]
    }
    other = world.training.estimate(TrainWish(training_data="own", trigger_word="nova_v2"))
    (check,) = [c for c in other["checks"] if c["code"] == "other_trigger"]
    assert check["word"] == "mira_v1" and "mira_v1" in check["message"] and "nova_v2" in check["message"]
    nova = world.container.characters.create({"name": "Nova", "triggerWord": "nova_v2"})
    assert world.training.estimate(TrainWish(training_data="own", character_id=nova.id))["triggerWord"] == "nova_v2"
    plain = world.training.estimate(TrainWish(training_data=world.pictures("plain", p0="a woman", p1="a woman")))
    assert plain["triggerWord"] == "plain_character"


def test_the_title_follows_steps_that_were_changed(world: Any) -> None:
    assert run_title("luna", "Nova", 1, 400) == "Train LoRA 'luna' of Nova: 1 picture, 400 steps"
    assert retitled("Train LoRA 'luna': 3 pictures, 8 steps", {"steps": 1}) == "Train LoRA 'luna': 3 pictures, 1 step"
    assert retitled("Train LoRA 'luna': 3 pictures, 8 steps", {"learning_rate": 1e-3}).endswith("8 steps")
    assert retitled("My own title", {"steps": 9}) == "My own title"
    world.how(hold=3)
    world.jobs.start()
    id = world.start(params={"steps": 4})
    assert world.jobs.get(id).title.endswith("3 pictures, 4 steps")
    world.until_step(id, 3)
    world.training.pause(id)
    world.until(lambda: world.jobs.get(id).status == "paused")
    world.how(hold=3, steps=6)
    world.training.resume(id, {"steps": 6})
    assert world.jobs.get(id).title.endswith("3 pictures, 6 steps")
    world.training.cancel(id)
    world.until(lambda: world.jobs.get(id).status == "cancelled")
    world.training.resume(id, {"steps": 9})
    assert world.jobs.get(id).title.endswith("3 pictures, 9 steps")
    world.training.cancel(id)
    world.finish(id)
