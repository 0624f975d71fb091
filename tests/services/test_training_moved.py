"""Folders that are moved between two attempts of a training, or between the delete of a LoRA and its undo."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path

import pytest

from dalla.records.character import LoraUse
from dalla.settings import ROOT
from tests.engines.standin_trainer import lora_file
from tests.services import test_storage, test_training

pytestmark = test_training.pytestmark
settings = test_storage.settings  # folders that can be moved
world, nova = test_training.world, test_training.nova


def move(world, location, target):
    job = world.container.storage.mover.start(location, str(target))
    job = world.jobs.wait(job.id, 60)
    assert job.status == "completed", job.error


def test_a_run_goes_on_in_the_folders_that_were_moved(world, nova, tmp_path):
    settings = world.container.settings
    shutil.copytree(ROOT / "models" / "starter", Path(settings.models_dir) / "mine")
    world.pictures("people")
    world.how(hold=3)
    id = world.start(character_id=nova.id, base_model="mine", params={"priorFolder": "people", "priorWeight": 1})
    world.until_step(id, 3)
    os.kill(world.trainer.attach(world.training.folders.folder(id).path).pid, signal.SIGKILL)
    assert world.finish(id).status == "failed"
    old = {name: Path(getattr(settings, f"{name}_dir")) for name in ("loras", "models", "training_data")}
    new = {name: tmp_path / "moved" / name for name in old}
    for name, folder in new.items():
        move(world, name, folder)
    world.how()
    world.training.resume(id)
    job = world.finish(id)
    assert job.status == "completed", job.error
    assert (new["loras"] / "Nova.safetensors").is_file() and not old["loras"].exists()
    config = json.loads((world.training.folders.folder(id).path / "config.json").read_text())
    assert config["output_folder"] == str(new["loras"]) and config["models_folder"] == str(new["models"])
    assert config["base_model"] == str(new["models"] / "mine") and Path(config["base_model"]).is_dir()
    assert config["dataset_folder"] == str(new["training_data"] / "luna")
    assert config["prior_folder"] == str(new["training_data"] / "people")
    assert [use.name for use in world.container.characters.get(nova.id).loras] == ["Nova"]


def test_a_lora_comes_back_to_where_the_others_are_now(world, nova, tmp_path):
    old = Path(world.container.settings.loras_dir)
    lora_file(old / "style.safetensors")
    shutil.copy(old / "style.safetensors", old / "other.safetensors")
    world.container.characters.update(nova.id, {"loras": [LoraUse(name="style", strength=0.5)]})
    gone = world.training.shelf.delete("style")
    move(world, "loras", tmp_path / "moved")
    back = world.training.shelf.restore(gone["trashId"])
    assert back["name"] == "style" and [user["id"] for user in back["usedBy"]] == [nova.id]
    assert (tmp_path / "moved" / "style.safetensors").is_file() and not old.exists()


@pytest.mark.parametrize("whole", [True, False])
def test_training_pictures_come_back_to_where_the_others_are_now(world, tmp_path, whole):
    sets = world.training.sets
    world.pictures("luna", p1="in the sun")
    world.pictures("other")
    gone = sets.delete("luna") if whole else sets.delete_picture("luna", "p1.png")
    move(world, "training_data", tmp_path / "moved")
    sets.restore(gone)
    assert (tmp_path / "moved" / "luna" / "p1.txt").read_text() == "in the sun"
    assert sorted(row["name"] for row in sets.all()) == ["luna", "other"]
