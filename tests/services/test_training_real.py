"""The dashboard and the real trainer on the starter model: what one writes, the other reads."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("diffusers")
pytest.importorskip("peft")

from dalla import weights  # noqa: E402
from dalla.engines.images.local_models import LocalModels  # noqa: E402
from dalla.engines.trainer import Trainer  # noqa: E402
from dalla.services.training import Training  # noqa: E402
from dalla.settings import ROOT  # noqa: E402
from tests.conftest import png  # noqa: E402
from tests.services.training_world import World  # noqa: E402

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (ROOT / "models/starter/unet").is_dir(), reason="the starter model is not here"),
]
QUICK = {"preset": "quick", "device": "cpu", "sampleEvery": 0, "sampleSteps": 2, "batchSize": 2, "saveEvery": 4}


@pytest.fixture
def world(container):
    world = World(container)
    trainer = Trainer(environ={"OMP_NUM_THREADS": "1"})
    world.trainer = world.training._trainer = world.training._drive._trainer = trainer
    for n in range(3):
        folder = Path(container.settings.training_data_dir) / "luna"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{n}.png").write_bytes(png((60 * n, 90, 200 - 60 * n), (128, 128)))
    container.jobs.start()
    yield world
    container.jobs.stop()
    world.close()


def test_a_real_lora_is_trained_paused_resumed_and_given_to_its_character(world):
    assert isinstance(world.training, Training)
    nova = world.container.characters.create({"name": "Nova"})
    id = world.start(character_id=nova.id, training_data="luna", params={**QUICK, "steps": 400})
    folder = world.training.folders.folder(id)
    world.until(lambda: folder.state().step >= 2 or world.jobs.get(id).finished, "first steps", seconds=120)
    assert world.jobs.get(id).status == "running", (world.jobs.get(id).error, world.training.log_file(id).read_text())
    world.training.pause(id)
    world.until(lambda: world.jobs.get(id).status == "paused", "paused", seconds=60)
    at = folder.state().step
    assert 2 <= at < 400 and world.training.public(world.training.job(id))["canResume"]
    # The rest of a long run would only cost time: it is stopped again soon after it went on.
    world.training.resume(id)
    world.until(lambda: folder.state().step > at, "going on", seconds=120)
    assert folder.state().ready["startStep"] == at
    world.training.cancel(id, "lora")
    job = world.until(lambda: (job := world.jobs.get(id)).finished and job, "stopped", seconds=60)
    assert job.status == "cancelled", job.error
    name = world.training.public(job)["lora"]
    path = Path(world.container.settings.loras_dir) / f"{name}.safetensors"
    assert weights.lora_family(weights.read_header(path)) == "sd15"
    assert [u.name for u in world.container.characters.get(nova.id).loras] == [name]
    assert LocalModels(world.container.settings).loras()[name][0].family == "sd15"


def test_a_short_real_run_ends_with_a_verified_file_and_a_report(world):
    id = world.start(training_data="luna", params={**QUICK, "steps": 6})
    job = world.until(lambda: (job := world.jobs.get(id)).finished and job, "the end", seconds=180)
    assert job.status == "completed", (job.error, world.training.log_file(id).read_text())
    run = world.training.public(job, full=True)
    assert run["step"] == 6 and run["lora"] == "luna" and run["report"]["verdict"]["text"]
    assert run["checkpoints"] and run["config"]["steps"] == 6
    card = world.training.shelf.get("luna")
    assert card["family"] == "sd15" and card["taskId"] == id and card["triggerWord"]
