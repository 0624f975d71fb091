"""Training from a dataset: its pictures are written to training_data/ first. And which trigger word is suggested."""

from __future__ import annotations

import os

import pytest

from dalla.errors import InvalidInput, NotFound
from dalla.services.training import train_task
from dalla.services.training_plan import TrainWish
from dalla.wiring import Container
from tests.services.test_training_task import add, run
from tests.services.training_world import World

pytestmark = pytest.mark.skipif(os.name == "nt", reason="the stand-in uses flock")


class Datasets:
    """Stands where DatasetExports.materialize is: one dataset of three pictures."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.written: list[str] = []

    def materialize(self, dataset_id: str) -> str:
        if dataset_id != "dataset_1":
            raise NotFound.of("dataset", dataset_id)
        self.written.append(dataset_id)
        return self.world.pictures("nova-portraits", 3)


@pytest.fixture
def world(container: Container):
    world = World(container)
    yield world
    container.jobs.stop()
    world.close()


@pytest.fixture
def datasets(world: World) -> Datasets:
    datasets = Datasets(world)
    world.training.materialize = datasets.materialize
    return datasets


def test_a_dataset_is_written_and_trained_and_the_clone_names_it(world: World, datasets: Datasets) -> None:
    estimate = world.training.estimate(TrainWish(dataset_id="dataset_1"))
    assert estimate["trainingData"] == "nova-portraits" and len(estimate["images"]) == 3
    job = world.training.start(TrainWish(dataset_id="dataset_1", name="nova"))
    assert datasets.written == ["dataset_1", "dataset_1"]
    assert job.public()["datasetId"] == "dataset_1"  # the pages show it as work on this set
    shown = world.training.public(job, full=True)
    assert shown["trainingData"] == "nova-portraits"
    assert shown["request"] == {"datasetId": "dataset_1", "name": "nova"}


def test_a_folder_of_training_data_may_still_be_named_so(world: World, datasets: Datasets) -> None:
    world.pictures("dataset_1", 4)
    job = world.training.start(TrainWish(dataset_id="dataset_1"))
    assert datasets.written == []
    assert world.training.public(job, full=True)["request"]["trainingData"] == "dataset_1"


def test_what_is_not_there_is_told(world: World, datasets: Datasets) -> None:
    with pytest.raises(NotFound):
        world.training.estimate(TrainWish(dataset_id="dataset_9"))
    world.training.materialize = None
    with pytest.raises(InvalidInput) as refused:
        world.training.estimate(TrainWish(dataset_id="dataset_9"))
    assert refused.value.errors[0]["field"] == "datasetId"
    world.training.materialize = datasets.materialize
    with pytest.raises(InvalidInput):
        world.training.start(TrainWish(dataset_id="dataset_1", images=["AAAA"]))
    assert datasets.written == []
    assert not list(world.training.sets.root.glob("*-portraits"))


def test_a_refused_wish_writes_no_pictures(world: World, datasets: Datasets) -> None:
    with pytest.raises(InvalidInput):
        world.training.start(TrainWish(dataset_id="dataset_1", params={"rank": 0}))
    assert datasets.written == []


def test_a_scheduled_training_reads_the_dataset_each_time(world: World, datasets: Datasets, client) -> None:
    handler, check = train_task(world.training)
    world.container.automation.register_type("train_lora", handler, check, label="Train a LoRA")
    world.container.jobs.start()
    task = add(world, datasetId="dataset_1", params={"preset": "quick"})
    assert run(world, client, task).status == "completed"
    assert run(world, client, task).status == "skipped"  # written again, and found to be the same
    assert "dataset_1" in datasets.written and len(datasets.written) >= 2


@pytest.mark.parametrize(
    ("name", "wish", "expected"),
    [
        ("Nova", {}, "nova_character"),
        ("Nova", {"name": "nova-2"}, "nova_character"),
        ("Nova", {"name": "other-7"}, "nova_character"),
        ("Agent 47", {}, "agent_47_character"),
        (None, {"name": "luna-2"}, "luna_character"),
        (None, {}, "luna_set_character"),
    ],
)
def test_a_number_in_the_name_does_not_change_the_trigger_word(world: World, name, wish, expected) -> None:
    folder = world.pictures("luna-set", 3)
    who = world.container.characters.create({"name": name}).id if name else None
    plan = world.training.planner.plan(TrainWish(character_id=who, training_data=folder, **wish), taken=set())
    assert plan.config.trigger_word == expected


def test_the_second_lora_of_a_character_keeps_the_trigger_word(world: World) -> None:
    folder = world.pictures("luna-set", 3)
    who = world.container.characters.create({"name": "Nova"}).id
    wish = TrainWish(character_id=who, training_data=folder)
    words = [world.training.planner.plan(wish, taken=taken).config for taken in (set(), {"Nova"}, {"Nova", "Nova-2"})]
    assert [config.name for config in words] == ["Nova", "Nova-2", "Nova-3"]
    assert {config.trigger_word for config in words} == {"nova_character"}
