"""Training from wish to LoRA with a real child process: supervision, ends, pauses, restarts."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from dalla.errors import Conflict, InvalidInput, NotFound
from dalla.jobs.local import LocalQueue
from dalla.records.character import LoraUse, PromptSettings
from dalla.records.lora import LoraCard
from dalla.services.generation import Wish
from dalla.services.training_plan import TrainWish
from dalla.settings import ROOT
from dalla.weights import file_sha256, read_header
from dalla.wiring import Container
from tests.conftest import make_settings, png
from tests.services.training_world import World
from tests.test_lora_forms import layer, write

pytestmark = pytest.mark.skipif(os.name == "nt", reason="the stand-in uses flock")


@pytest.fixture
def world(container):
    world = World(container)
    container.jobs.register("draw", lambda context, payload: {"drawn": True}, lane="gpu")
    container.jobs.start()
    yield world
    container.jobs.stop()
    world.close()


@pytest.fixture
def nova(world):
    return world.container.characters.create({"name": "Nova"})


def events_of(world, type):
    return [e.data for e in world.container.events.since(0, 0)[0] if e.type == type]


# ---------------------------------------------------------------- to the end


def test_a_lora_comes_out_and_the_character_gets_it(world, nova):
    id = world.start(character_id=nova.id, trigger_word="nova_x")
    job = world.finish(id)
    assert job.status == "completed", job.error
    assert job.result["lora"] == "Nova" and job.result["attached"] is True
    character = world.container.characters.get(nova.id)
    assert [use.name for use in character.loras] == ["Nova"]
    assert character.trigger_word == "nova_x" and character.preferred_model == "starter"
    card = world.training.shelf.card("Nova")
    assert (card.trigger_word, card.character_id, card.task_id, card.base_model) == ("nova_x", nova.id, id, "starter")
    assert world.freed == ["freed"]  # the built-in engine gave its memory back first
    notices = world.container.notices.page().items
    assert [n.kind for n in notices] == ["training.completed"] and notices[0].href == f"/lora.html?run={id}"
    assert {e["event"] for e in events_of(world, "training.progress")} >= {
        "ready",
        "step",
        "sample",
        "checkpoint",
        "done",
    }


def test_the_run_tells_all_about_itself(world, nova):
    id = world.start(character_id=nova.id, params={"rank": 8})
    world.finish(id)
    run = world.training.public(world.training.job(id), full=True)
    assert (run["status"], run["step"], run["totalSteps"], run["loss"]) == ("completed", 4, 4, 0.25)
    assert run["validation"] == {"base": 0.2, "latest": 0.1, "best": 0.1, "bestStep": 2}
    assert [c["step"] for c in run["checkpoints"]] == [2] and run["checkpoints"][0]["best"]
    assert run["samples"][0]["fileUrl"] == f"/api/lora/train/{id}/samples/step_000002_0.png"
    assert run["report"]["verdict"] == {"text": "It learned."}
    assert run["request"]["trainingData"] == "luna" and run["config"]["rank"] == 8
    assert "outputFolder" not in run["config"]  # no paths of this machine
    metrics = world.training.metrics(id)
    assert [p["step"] for p in metrics["points"]] == [1, 2, 3, 4]
    assert [p["step"] for p in world.training.metrics(id, 2)["points"]] == [3, 4]
    assert "standing in" in world.training.log_file(id).read_text()


def test_progress_and_time_left_reach_the_job(world):
    world.how(hold=3)
    id = world.start()
    world.until_step(id, 3)
    world.until(lambda: world.jobs.get(id).progress.done == 3)
    job = world.jobs.get(id)
    assert (job.status, job.progress.total) == ("running", 4) and "Step 3 of 4 · loss 0.3333" in job.progress.message
    run = world.training.public(job)
    assert run["etaSeconds"] == 0.02 and run["stepsPerSecond"] == 50 and not run["stale"]
    assert run["actions"] == ["pause", "save", "sample", "cancel"]
    assert world.jobs.preview_of(id)[2] == "image/png"  # the newest sample
    world.go(id)
    assert world.finish(id).status == "completed"


def test_an_older_lora_of_the_character_gives_way_and_others_stay(world, nova):
    root = Path(world.container.settings.loras_dir)
    world.container.characters.update(nova.id, {"loras": [LoraUse(name="style")], "trigger_word": "mine"})
    first = world.finish(world.start(character_id=nova.id))
    second = world.finish(world.start(character_id=nova.id))
    assert (first.result["lora"], second.result["lora"]) == ("Nova", "Nova-2")
    character = world.container.characters.get(nova.id)
    assert [use.name for use in character.loras] == ["style", "Nova-2"] and character.trigger_word == "mine"
    assert (root / "Nova.safetensors").is_file()


def prompt_of(world, character) -> str:
    return world.container.generation.compose(Wish(character_id=character.id, prompt="in the rain")).prompt


def test_the_word_of_the_older_lora_gives_way_with_it(world, nova):
    world.finish(world.start(character_id=nova.id, trigger_word="nova_x"))
    world.container.characters.update(nova.id, {"prompt_settings": PromptSettings(base_prompt="portrait of nova_x")})
    job = world.finish(world.start(character_id=nova.id, trigger_word="zorvex"))
    assert world.container.characters.get(nova.id).trigger_word == "zorvex"
    assert "Its trigger word is now 'zorvex' instead of 'nova_x'." in job.result["notes"]
    assert any("base prompt still says 'nova_x'" in note for note in job.result["notes"])
    assert prompt_of(world, nova) == "zorvex, portrait of nova_x, in the rain"


def test_a_word_of_ones_own_stays_and_the_lora_is_called_all_the_same(world, nova):
    world.container.characters.update(nova.id, {"trigger_word": "mine"})
    job = world.finish(world.start(character_id=nova.id, trigger_word="zorvex"))
    assert world.container.characters.get(nova.id).trigger_word == "mine"
    assert any("stays 'mine'" in note and "'zorvex'" in note for note in job.result["notes"])
    assert prompt_of(world, nova) == "mine, zorvex, in the rain"
    compose = world.container.generation.compose
    without = Wish(character_id=nova.id, prompt="in the rain", loras=[])
    assert compose(without).prompt == "mine, in the rain"
    without.loras = [LoraUse(name=job.result["lora"], strength=0.5), LoraUse(name="other")]
    assert compose(without).prompt == "mine, zorvex, in the rain"
    without.raw_prompt = True
    assert compose(without).prompt == "in the rain"


def test_a_character_of_another_family_keeps_its_loras(world, nova):
    folder = Path(world.container.settings.models_dir) / "big"
    (folder / "unet").mkdir(parents=True)
    (folder / "model_index.json").write_text('{"_class_name": "StableDiffusionXLPipeline"}')
    world.container.characters.update(nova.id, {"preferred_model": "big"})
    job = world.finish(world.start(character_id=nova.id, base_model="starter"))
    assert job.status == "completed" and job.result["attached"] is False
    assert "another family" in job.result["notes"][0]
    assert world.container.characters.get(nova.id).loras == []


# ---------------------------------------------------------------- ends that are none


@pytest.mark.parametrize(
    ("how", "cause", "code", "words"),
    [
        ({"end": "error", "exit": 3, "code": "out_of_memory", "detail": "Memory ran out."}, "out_of_memory", "upstream_error", "Memory ran out."),
        ({"end": "crash", "detail": "OSError: No space left on device"}, "disk_full", "storage", "disk is full"),
        ({"end": "error", "exit": 4, "code": "non_finite", "detail": "Not a number."}, "non_finite", "upstream_error", "Not a number."),
        ({"end": "error", "exit": 2, "code": "invalid_input", "detail": "Rank."}, "bad_input", "invalid_input", "Rank."),
        ({"end": "silent_exit"}, "failed", "upstream_error", "before it had finished"),
        ({"end": "lying"}, "verification", "upstream_error", "is not there"),
    ],
)  # fmt: skip
def test_a_failure_says_why_and_leaves_no_lora(world, nova, how, cause, code, words):
    world.how(**how)
    job = world.finish(world.start(character_id=nova.id))
    assert job.status == "failed" and (job.error["cause"], job.error["code"]) == (cause, code)
    assert words in job.error["detail"] and job.error["remedy"]
    assert not list(Path(world.container.settings.loras_dir).glob("*.safetensors"))
    assert world.container.characters.get(nova.id).loras == []
    assert [n.kind for n in world.container.notices.page().items] == ["training.failed"]


def test_a_killed_trainer_fails_with_a_reason_and_goes_on_from_its_checkpoint(world):
    world.how(hold=3)
    id = world.start()
    world.until_step(id, 3)
    os.kill(world.trainer.attach(world.training.folders.folder(id).path).pid, signal.SIGKILL)
    job = world.finish(id)
    assert job.status == "failed" and job.error["cause"] == "killed" and job.error["canResume"] is True
    assert world.training.public(job)["actions"][0] == "resume"
    world.how()
    world.training.resume(id)
    assert world.finish(id).status == "completed"
    state = world.training.folders.folder(id).state()
    assert state.ready["startStep"] == 2  # of the last checkpoint
    assert [p["step"] for p in state.metrics] == [1, 2, 3, 4]  # what was lost is measured once


# ---------------------------------------------------------------- pause, stop


def test_pause_frees_the_lane_and_resume_goes_on(world):
    world.how(hold=3)
    id = world.start()
    world.until_step(id, 3)
    world.training.pause(id)
    world.until(lambda: world.jobs.get(id).status == "paused")
    folder = world.training.folders.folder(id)
    assert world.trainer.attach(folder.path) is None  # the memory is free
    run = world.training.public(world.training.job(id))
    assert run["actions"] == ["resume", "cancel"] and "Paused at step 3" in run["message"]
    assert world.jobs.wait(world.jobs.submit("draw", {}).id, 20).status == "completed"  # the lane, too
    world.how()
    world.training.resume(id)
    assert world.finish(id).status == "completed"
    assert folder.state().ready["startStep"] == 3


def test_a_paused_run_can_be_stopped(world):
    world.how(hold=3)
    id = world.start()
    world.until_step(id, 3)
    world.training.pause(id)
    world.until(lambda: world.jobs.get(id).status == "paused")
    assert world.training.cancel(id, "nothing").status == "cancelled"
    assert not (world.training.folders.folder(id).path / "checkpoints").exists()


def test_a_pause_can_be_taken_back_and_a_waiting_run_cannot_pause(world):
    world.how(hold=3)
    first, second = world.start(), world.start()
    world.until_step(first, 3)
    with pytest.raises(Conflict, match="not begun"):
        world.training.pause(second)
    with pytest.raises(Conflict, match="nothing to resume"):
        world.training.resume(first)
    with pytest.raises(Conflict, match="not begun"):
        world.training.save(second)
    world.training.cancel(second)
    world.go(first)
    world.finish(first)


@pytest.mark.parametrize("keep", ["lora", "checkpoints", "nothing"])
def test_stop_keeps_what_was_asked(world, nova, keep):
    world.how(hold=3)
    id = world.start(character_id=nova.id)
    world.until_step(id, 3)
    world.training.cancel(id, keep)
    job = world.finish(id)
    assert job.status == "cancelled" and "stopped at step 3" in job.error["detail"]
    loras = [use.name for use in world.container.characters.get(nova.id).loras]
    run = world.training.public(job, full=True)
    steps = [c["step"] for c in run["checkpoints"]]
    assert (loras, steps) == {"lora": (["Nova"], [2, 3]), "checkpoints": ([], [2, 3]), "nothing": ([], [])}[keep]
    assert run["lora"] == ("Nova" if keep == "lora" else None)


def test_the_plain_cancel_of_tasks_works_too(world):
    world.how(hold=1)
    id = world.start()
    world.until_step(id, 1)
    world.jobs.cancel(id)
    assert world.finish(id).status == "cancelled"
    assert world.trainer.attach(world.training.folders.folder(id).path) is None


def test_a_stop_while_it_is_pausing_is_a_stop(world):
    world.how(hold=3)
    id = world.start()
    world.until_step(id, 3)
    folder = world.training.folders.folder(id)
    folder.change_note(keep="nothing")
    world.container.tasks.request_cancel(id)  # not told to the running job yet
    folder.change_note(intent="pause")
    assert world.finish(id).status == "cancelled"
    assert folder.checkpoints() == []


@pytest.mark.parametrize("keep", ["lora", "nothing"])
def test_a_stop_in_the_last_moment_of_a_pause_keeps_what_was_asked(world, nova, monkeypatch, keep):
    world.how(hold=3)
    id = world.start(character_id=nova.id)
    world.until_step(id, 3)
    transition = world.container.tasks.transition

    def stopped_meanwhile(id, to, **more):
        if to == "paused":
            world.training.cancel(id, keep)
        return transition(id, to, **more)

    monkeypatch.setattr(world.container.tasks, "transition", stopped_meanwhile)
    world.training.pause(id)
    assert world.finish(id).status == "cancelled"
    loras = [use.name for use in world.container.characters.get(nova.id).loras]
    steps = [c["step"] for c in world.training.folders.folder(id).checkpoints()]
    assert (loras, steps) == {"lora": (["Nova"], [2, 3]), "nothing": ([], [])}[keep]


def test_a_trainer_that_cannot_start_is_told(world, monkeypatch):
    world.trainer._command = ["/nowhere/python"]
    job = world.finish(world.start())
    assert job.status == "failed" and "cannot be started" in job.error["detail"]
    assert [n.kind for n in world.container.notices.page().items] == ["training.failed"]


def test_several_runs_queue_and_get_names_of_their_own(world):
    world.how(hold=2)
    first, second = world.start(), world.start()
    world.until_step(first, 2)
    assert world.jobs.get(second).status == "queued"
    with pytest.raises(Conflict, match="already") as refused:
        world.start(name="LUNA")
    assert refused.value.extra["suggestion"] == "LUNA-3"
    world.go(first)
    world.until_step(second, 2)
    world.go(second)
    assert [world.finish(id).result["lora"] for id in (first, second)] == ["luna", "luna-2"]


# ---------------------------------------------------------------- the dashboard goes, the run stays


def restart(world):
    """Close the app the way Ctrl-C does, and build it anew on the same folders."""
    world.jobs.stop()
    world.container.library.close()
    again = World(Container(world.container.settings, environ={}))
    again.trainer._environ = world.trainer._environ
    return again


def test_a_run_outlives_a_restart_and_is_found_again(world):
    world.how(hold=3)
    id = world.start()
    world.until_step(id, 3)
    pid = world.trainer.attach(world.training.folders.folder(id).path).pid
    again = restart(world)
    try:
        assert again.jobs.get(id).status == "queued"
        again.jobs.start()
        again.until(lambda: again.jobs.get(id).progress.done == 3)
        assert again.trainer.attach(again.training.folders.folder(id).path).pid == pid
        again.go(id)
        assert again.finish(id).status == "completed"
        assert again.freed == []  # nothing was started anew
    finally:
        again.container.close()


def test_a_run_survives_the_death_of_the_dashboard(world):
    """After kill -9 the row still says "running", by a process that is no more."""
    import socket

    world.how(hold=3)
    id = world.start()
    world.until_step(id, 3)
    pid = world.trainer.attach(world.training.folders.folder(id).path).pid
    again = restart(world)
    try:
        again.container.tasks.transition(id, "running", owner=f"{socket.gethostname()}:999999:1.00")
        again.jobs.start()
        again.until(lambda: again.jobs.get(id).progress.done == 3)
        assert again.trainer.attach(again.training.folders.folder(id).path).pid == pid
        again.go(id)
        assert again.finish(id).status == "completed" and again.jobs.get(id).crashes == 1
    finally:
        again.container.close()


DASHBOARD = """
    import sys, time
    from pathlib import Path
    from dalla.wiring import Container
    from tests.conftest import make_settings
    from tests.services.training_world import World
    world = World(Container(make_settings(Path(sys.argv[1])), environ={}), hold=3)
    world.jobs.start()
    id = world.start()
    world.until_step(id, 3)
    world.until(lambda: world.jobs.get(id).progress.done == 3)
    print(id, world.trainer.attach(world.training.folders.folder(id).path).pid, flush=True)
    time.sleep(60)
"""


def test_a_dashboard_is_killed_and_the_next_one_finds_the_run(tmp_path):
    dashboard = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(DASHBOARD), str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    with dashboard:
        id, pid = dashboard.stdout.readline().split()
        dashboard.kill()
    world = World(Container(make_settings(tmp_path), environ={}))
    try:
        assert world.jobs.get(id).status == "running"  # as the dead one left it
        world.jobs.start()
        process = world.trainer.attach(world.training.folders.folder(id).path)
        assert process.pid == int(pid) and process.is_alive
        world.go(id)
        job = world.finish(id)
        assert job.status == "completed" and job.result["lora"] == "luna" and world.freed == []
    finally:
        world.container.close()
        world.close()


def test_a_pause_that_was_asked_for_before_a_restart_is_kept(world):
    world.how(hold=3)
    id = world.start()
    world.until_step(id, 3)
    again = restart(world)
    try:
        again.training.folders.folder(id).change_note(intent="pause")
        again.jobs.start()
        again.until(lambda: again.jobs.get(id).status == "paused")
        again.how()
        again.training.resume(id)
        assert again.finish(id).status == "completed"
    finally:
        again.container.close()


def test_a_run_that_ended_while_nobody_watched_is_settled(world, nova):
    world.how(hold=3)
    id = world.start(character_id=nova.id)
    world.until_step(id, 3)
    process = world.trainer.attach(world.training.folders.folder(id).path)
    again = restart(world)
    try:
        again.go(id)
        again.until(lambda: not process.is_alive)
        again.jobs.start()
        job = again.finish(id)
        assert job.status == "completed" and job.result["lora"] == "Nova"
        assert [u.name for u in again.container.characters.get(nova.id).loras] == ["Nova"]
        assert again.freed == []
    finally:
        again.container.close()


def test_a_run_whose_task_was_given_up_is_taken_up_again(world):
    world.how(hold=3)
    id = world.start()
    world.until_step(id, 3)
    again = restart(world)
    try:
        # As after two crashes of the dashboard: the queue does not start it again by itself.
        again.container.tasks.transition(id, "running", owner="gone")
        again.container.tasks.transition(id, "interrupted", crashes=2, quarantined=True)
        assert again.training.tick() == 1
        again.jobs.start()
        again.go(id)
        assert again.finish(id).status == "completed"
        assert again.training.tick() == 0
    finally:
        again.container.close()


def test_a_run_that_our_own_fault_failed_is_taken_up_again(world, monkeypatch):
    from dalla.services.training_drive import Drive

    world.how(hold=3)
    monkeypatch.setattr(Drive, "_settle", lambda *a: 1 / 0)
    id = world.start()
    world.until_step(id, 3)
    world.go(id)
    assert world.finish(id).status == "failed"
    monkeypatch.undo()
    assert world.training.tick() == 1
    assert world.finish(id).status == "completed"


def test_a_trainer_whose_run_was_cancelled_while_the_app_closed_is_ended(world):
    world.how(hold=3)
    id = world.start()
    world.until_step(id, 3)
    again = restart(world)
    try:
        process = again.trainer.attach(again.training.folders.folder(id).path)
        again.jobs.cancel(id)  # queued: cancelled at once
        assert again.training.tick() == 1
        again.until(lambda: not process.is_alive)
        again.until(lambda: again.training.folders.folder(id).note().settled)
    finally:
        again.container.close()


# ---------------------------------------------------------------- refusals before anything starts


def test_epochs_are_left_to_the_trainer(world):
    world.pictures("many", 10)
    wish = TrainWish(training_data="many", params={"epochs": 3, "batchSize": 2, "validation": {"count": 0}})
    e = world.training.estimate(wish)
    assert (e["stepsPerEpoch"], e["steps"], e["epochs"]) == (5, 15, 3) and e["config"]["steps"] is None
    assert world.finish(world.training.start(wish).id).status == "completed"


def test_a_refused_wish_keeps_no_pictures(world):
    with pytest.raises(InvalidInput):
        world.training.start(TrainWish(files=[("a.png", png())], params={"rank": 0}))
    assert world.training.sets.all() == []


@pytest.mark.parametrize(
    ("wish", "field"),
    [
        ({"params": {"rank": 0}}, "params.rank"),
        ({"params": {"steps": 10**9}}, "params.steps"),
        ({"params": {"rang": 4}}, "params.rang"),
        ({"params": {"optimizer": "magic"}}, "params.optimizer"),
        ({"params": {"runFolder": "/tmp"}}, "params.runFolder"),
        ({"params": {"resolution": "wide"}}, "params.resolution"),
        ({"name": "a/b"}, "name"),
        ({"name": ".."}, "name"),
        ({"base_model": "nothing"}, "baseModel"),
        ({"training_data": "../data"}, "trainingData"),
        ({"training_data": "."}, "trainingData"),
        ({"images": ["%%%"]}, "images.0"),
    ],
)
def test_bad_wishes_are_refused_by_field(world, wish, field):
    with pytest.raises(InvalidInput) as refused:
        world.start(**wish)
    assert field in [row["field"] for row in refused.value.errors]
    assert world.training.runs()[2] == 0


def test_empty_folders_and_strangers_are_refused(world):
    (Path(world.container.settings.training_data_dir) / "empty").mkdir()
    with pytest.raises(InvalidInput, match="no usable picture"):
        world.start(training_data="empty")
    with pytest.raises(NotFound):
        world.start(training_data="nobody")
    with pytest.raises(InvalidInput, match="which pictures"):
        world.training.start(TrainWish())
    with pytest.raises(NotFound):
        world.start(character_id="char_none")


def test_a_base_model_that_is_a_lora_or_broken_is_told(world):
    from tests.engines.standin_trainer import lora_file

    lora_file(Path(world.container.settings.loras_dir) / "style.safetensors")
    with pytest.raises(InvalidInput, match="is a LoRA"):
        world.start(base_model="style")
    (Path(world.container.settings.models_dir) / "cut.safetensors").write_bytes(b"\x40\0\0\0\0\0\0\0{")
    with pytest.raises(InvalidInput, match="cut off"):
        world.start(base_model="cut.safetensors")


def test_a_full_disk_is_told_before_the_start(world, monkeypatch):
    from dalla.errors import StorageError
    from dalla.services import training_estimate

    class Full:
        free = 1000

    monkeypatch.setattr(training_estimate.shutil, "disk_usage", lambda path: Full)
    with pytest.raises(StorageError, match="free"):
        world.start()


# ---------------------------------------------------------------- pictures with the wish, checkpoints


def test_pictures_may_come_with_the_wish(world, nova):
    import base64

    images = [base64.b64encode(png((n * 60, 10, 10))).decode() for n in range(2)]
    images[1] = "data:image/png;base64," + images[1]
    job = world.finish(world.training.start(TrainWish(character_id=nova.id, images=images)).id)
    assert job.status == "completed"
    assert [row["pictures"] for row in world.training.sets.all()] == [2]


def test_another_checkpoint_can_be_used(world, nova):
    id = world.start(character_id=nova.id)
    world.finish(id)
    lora = world.training.use_checkpoint(id, 2)
    assert (lora["name"], lora["step"], lora["attached"]) == ("Nova-step2", 2, True)
    assert [u.name for u in world.container.characters.get(nova.id).loras] == ["Nova-step2"]
    with pytest.raises(NotFound):
        world.training.use_checkpoint(id, 3)
    world.training.folders.folder(id).delete_checkpoint(2)
    with pytest.raises(NotFound):
        world.training.use_checkpoint(id, 2)


def test_a_run_is_deleted_and_its_lora_stays(world):
    world.how(hold=2)
    id = world.start()
    world.until_step(id, 2)
    with pytest.raises(Conflict):
        world.training.delete_run(id)
    world.go(id)
    name = world.finish(id).result["lora"]
    assert world.training.delete_run(id) > 0
    assert world.training.runs()[0] == [] and world.training.shelf.exists(name)
    assert [p.name for p in world.training.folders.folder(id).path.iterdir()] == ["run.json"]


def test_housekeeping_deletes_states_of_finished_runs(world):
    id = world.start()
    world.finish(id)
    folder = world.training.folders.folder(id)
    os.utime(folder.path / "events.jsonl", (1, 1))
    world.training.housekeeping(30)
    assert [c["step"] for c in folder.checkpoints()] == [2]
    assert not list(folder.path.glob("checkpoints/*/state.pt"))


def test_the_lane_is_the_queues(world):
    assert isinstance(world.jobs, LocalQueue) and world.jobs._kinds["train_lora"].lane == "gpu"
    assert LoraCard().tags == []


def test_a_lora_of_a_checkpoint_says_its_own_name_and_how_it_was_made(world, nova):
    texts = {
        "ss_output_name": "Nova-000002", "dalla.dataset_sha256": "ab" * 32, "dalla.config_sha256": "cd" * 32,
        "ss_dataset_dirs": '{"nova": {"n_repeats": 1, "img_count": 6}}', "ss_num_train_images": "6",
    }  # fmt: skip
    id = world.start(character_id=nova.id)
    world.finish(id)
    _, path = world.training.folders.folder(id).checkpoint(2)
    write(path, layer("lora_unet_down_blocks_0_attentions_0_proj_in"), texts)
    name = world.training.use_checkpoint(id, 2)["name"]
    file = world.training.shelf.path(name)
    assert name == "Nova-step2" and read_header(file).metadata["ss_output_name"] == name
    card = json.loads(file.with_suffix(".json").read_text())
    assert card["dataset"] == {"name": "nova", "pictures": 6, "sha256": "ab" * 32}
    assert card["configSha256"] == "cd" * 32 and card["sha256"] == file_sha256(file)
    assert (card["name"], card["step"], card["taskId"]) == (name, 2, id)
