"""What is refused before anything starts: settings this machine cannot do, class pictures, a disk that is too small."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dalla.errors import InvalidInput, NotFound, StorageError
from dalla.records.training import TrainingConfig
from dalla.records.training_machine import Machine
from dalla.services import training_estimate
from dalla.services.training import public_config
from dalla.services.training_plan import TrainWish
from tests.services.training_world import World

pytestmark = pytest.mark.skipif(os.name == "nt", reason="the stand-in uses flock")
NO_CARD = Machine(frozenset({"cpu"}), frozenset({"cpu"}), 0, lambda package: False)
TWO_CARDS = Machine(gpus=2, has=lambda package: True)


@pytest.fixture
def world(container: Any) -> Any:
    world = World(container)
    world.training.planner._machine = lambda: NO_CARD
    yield world
    container.jobs.stop()
    world.close()


def refused(world: Any, *errors: type[Exception], **wish: Any) -> Any:
    """Return the error with which the estimate and the start both refuse a wish; no run is left behind."""
    wish = {"training_data": world.pictures(), **wish}
    with pytest.raises(errors or (InvalidInput,)) as estimate:
        world.training.estimate(TrainWish(**wish))
    with pytest.raises(errors or (InvalidInput,)) as start:
        world.training.start(TrainWish(**wish))
    assert (start.value.detail, start.value.errors) == (estimate.value.detail, estimate.value.errors)
    assert world.training.runs()[2] == 0
    return start.value


# ---------------------------------------------------------------- the machine


@pytest.mark.parametrize(
    ("params", "field", "fix"),
    [
        ({"optimizer": "adamw8bit"}, "params.optimizer", "'adamw'"),
        ({"quantize": "nf4"}, "params.quantize", "quantize to none"),
        ({"quantize": "fp8"}, "params.quantize", "quantize to none"),
        ({"mixedPrecision": "fp16"}, "params.mixedPrecision", "bf16"),
        ({"device": "cuda"}, "params.device", "cpu"),
        ({"processes": 2}, "params.processes", "processes to 1"),
    ],
)
def test_what_this_machine_cannot_do_is_refused_by_field(
    world: Any, params: dict[str, Any], field: str, fix: str
) -> None:
    error = refused(world, params=params)
    assert [row["field"] for row in error.errors] == [field] and fix in error.remedy


def test_more_cards_than_there_are_are_refused_and_so_many_are_taken(world: Any) -> None:
    world.training.planner._machine = lambda: TWO_CARDS
    assert [row["field"] for row in refused(world, params={"processes": 3}).errors] == ["params.processes"]
    job = world.training.start(TrainWish(training_data="luna", params={"processes": 2}))
    assert job.payload["config"]["processes"] == 2


def test_several_processes_share_an_epoch(world: Any) -> None:
    world.training.planner._machine = lambda: TWO_CARDS
    params = {"epochs": 3, "batchSize": 2, "validation": {"count": 0}}
    world.pictures("many", 10)
    one, two = (
        world.training.estimate(TrainWish(training_data="many", params={**params, "processes": n})) for n in (1, 2)
    )
    assert (one["stepsPerEpoch"], one["steps"]) == (5, 15) and (two["stepsPerEpoch"], two["steps"]) == (3, 9)


# ---------------------------------------------------------------- class pictures


def test_class_pictures_are_a_folder_in_training_data(world: Any) -> None:
    cats = Path(world.container.settings.training_data_dir) / world.pictures("cats")
    params = {"priorFolder": "cats", "priorWeight": 0.5}
    job = world.training.start(TrainWish(training_data=world.pictures(), params=params))
    assert job.payload["config"]["prior_folder"] == str(cats)
    run = world.training.public(world.training.job(job.id), full=True)
    assert run["config"]["priorFolder"] == "cats"  # no path of this machine, and what a clone may say again
    assert run["request"]["params"] == params


@pytest.mark.parametrize("name", ["/etc", "../data", ".", "a/b", "a\\b", ".hidden"])
def test_class_pictures_lie_nowhere_else(world: Any, name: str) -> None:
    error = refused(world, params={"priorFolder": name, "priorWeight": 0.5})
    assert [row["field"] for row in error.errors] == ["params.priorFolder"] and "training_data/" in error.detail


def test_class_pictures_that_are_not_there_or_none_or_the_same_are_refused(world: Any) -> None:
    error = refused(world, NotFound, params={"priorFolder": "nobody", "priorWeight": 0.5})
    assert [row["field"] for row in error.errors] == ["params.priorFolder"]
    (Path(world.container.settings.training_data_dir) / "empty").mkdir()
    for name in ("empty", "luna"):
        error = refused(world, params={"priorFolder": name, "priorWeight": 0.5})
        assert [row["field"] for row in error.errors] == ["params.priorFolder"] and "class word" in error.remedy


def test_a_prior_weight_needs_both_words_or_a_folder(world: Any) -> None:
    error = refused(world, params={"priorWeight": 0.5})  # the trigger word is made up when none is given
    assert [row["field"] for row in error.errors] == ["params.priorWeight"]
    assert refused(world, params={"priorWeight": 0.5, "classWord": "cat"}, trigger_word="").errors
    wish = TrainWish(training_data=world.pictures(), params={"priorWeight": 0.5, "classWord": "cat", "priorFolder": ""})
    assert world.training.start(wish).payload["config"]["prior_folder"] is None


def test_a_missing_main_folder_names_its_field_too(world: Any) -> None:
    error = refused(world, NotFound, training_data="nobody")
    assert [row["field"] for row in error.errors] == ["trainingData"]


def test_a_config_without_class_pictures_shows_none() -> None:
    config = TrainingConfig(name="a", base_model="b", dataset_folder="c")
    assert public_config(config)["priorFolder"] is None


# ---------------------------------------------------------------- disks


class Disks:
    """Folders on disks of their own: `free` bytes by the folder's name."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, free: dict[str, int]) -> None:
        self.asked: set[str] = set()
        numbers = {name: 100 + n for n, name in enumerate(free)}
        honest = os.stat

        def disk(path: Any) -> str:
            return next((name for name in free if name in Path(path).parts), next(iter(free)))

        def stat(path: Any, **options: Any) -> Any:
            found = honest(path, **options)
            return SimpleNamespace(st_dev=numbers[disk(path)]) if isinstance(path, Path) else found

        def usage(path: Any) -> Any:
            self.asked.add(disk(path))
            return SimpleNamespace(free=free[disk(path)])

        monkeypatch.setattr(training_estimate, "os", SimpleNamespace(stat=stat, cpu_count=os.cpu_count))
        monkeypatch.setattr(training_estimate.shutil, "disk_usage", usage)


def folders(world: Any) -> tuple[str, str, str]:
    settings = world.container.settings
    return tuple(Path(p).name for p in (settings.data_dir, settings.training_data_dir, settings.loras_dir))  # type: ignore[return-value]


def test_each_folder_is_asked_on_its_own_disk(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    data, sets, loras = folders(world)
    wish = TrainWish(training_data=world.pictures())
    whole = world.training.estimate(wish)["disk"]
    assert whole["fits"] and whole["folders"] == [data, f"{sets}/luna", loras]
    assert whole["shareBytes"] == whole["neededBytes"]
    room = 10**12
    for full, named in ((data, data), (sets, f"{sets}/luna"), (loras, loras)):
        with monkeypatch.context() as patch:
            disks = Disks(patch, {name: 1000 if name == full else room for name in (data, sets, loras)})
            found = world.training.estimate(wish)
            assert disks.asked == {data, sets, loras}
            disk = found["disk"]
            assert (disk["fits"], disk["folders"], disk["freeBytes"]) == (False, [named], 1000)
            assert 1000 < disk["shareBytes"] < disk["neededBytes"] == whole["neededBytes"]
            assert named in next(row for row in found["checks"] if row["code"] == "disk_full")["message"]
            with pytest.raises(StorageError, match=named):
                world.training.start(wish)


def test_without_a_cache_nothing_goes_to_the_pictures_disk(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    data, sets, loras = folders(world)
    disks = Disks(monkeypatch, {data: 10**12, sets: 0, loras: 10**12})
    wish = TrainWish(training_data=world.pictures(), params={"cacheToDisk": False})
    assert world.training.estimate(wish)["disk"]["fits"] is True and sets not in disks.asked


def test_folders_on_one_disk_share_its_room(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    wish = TrainWish(training_data=world.pictures())
    needed = world.training.estimate(wish)["disk"]["neededBytes"]
    for free, fits in ((needed - 100, False), (needed + 100, True)):
        usage = SimpleNamespace(free=free)
        monkeypatch.setattr(training_estimate.shutil, "disk_usage", lambda path, usage=usage: usage)
        assert world.training.estimate(wish)["disk"]["fits"] is fits
