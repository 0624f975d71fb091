"""Ends of a training that nobody watches, that fail on the way to a pause, or that are wanted at a bad moment."""

from __future__ import annotations

import os
import signal
import socket

import pytest

from dalla.errors import Conflict, StorageError
from dalla.records.lora import LoraCard
from dalla.services import training_follow
from tests.services import test_training
from tests.services.test_training import restart

pytestmark = test_training.pytestmark
world, nova = test_training.world, test_training.nova

DEAD = f"{socket.gethostname()}:999999:1.00"


def at_step(world, step=3, **wish):
    """Start a run and return it at a step where it waits."""
    id = world.start(**wish)
    world.until_step(id, step)
    return id


def process_of(world, id):
    return world.trainer.attach(world.training.folders.folder(id).path)


def end(world, id, number=signal.SIGTERM):
    """End the trainer as the system does when it shuts down; it saves what it can."""
    process = process_of(world, id)
    os.kill(process.pid, number)
    world.until(lambda: not process.is_alive)


def steps_of(world, id):
    return [row["step"] for row in world.training.folders.folder(id).checkpoints()]


def loras_of(world, character):
    return [use.name for use in world.container.characters.get(character.id).loras]


def note_of(world, id):
    return world.training.folders.folder(id).note()


def paused(world, **wish):
    id = at_step(world, **wish)
    world.training.pause(id)
    world.until(lambda: world.jobs.get(id).status == "paused")
    return id


# ---------------------------------------------------------------- nobody watches


def test_a_run_that_the_system_ended_goes_on_from_what_it_saved(world):
    """A reboot, or a stop of the service, ends the trainer with the dashboard: nobody stopped the run."""
    world.how(hold=3)
    id = at_step(world)
    again = restart(world)
    try:
        end(again, id)
        again.how()
        again.jobs.start()
        assert again.finish(id).status == "completed"
        assert again.training.folders.folder(id).state().ready["startStep"] == 3
    finally:
        again.container.close()


@pytest.mark.parametrize(("number", "step"), [(signal.SIGTERM, 3), (signal.SIGKILL, 2)])
def test_a_pause_is_a_pause_when_the_app_ended_before_the_trainer_did(world, number, step):
    world.how(hold=3)
    id = at_step(world)
    again = restart(world)
    try:
        again.training.folders.folder(id).change_note(intent="pause")
        end(again, id, number)
        again.jobs.start()
        again.until(lambda: again.jobs.get(id).status == "paused")
        assert again.jobs.get(id).progress.message == f"Paused at step {step}"
        again.how()
        again.training.resume(id)
        assert again.finish(id).status == "completed"
    finally:
        again.container.close()


def test_a_task_that_was_given_up_does_not_begin_again_because_the_system_ended_its_trainer(world):
    world.how(hold=3)
    id = at_step(world)
    again = restart(world)
    try:
        again.container.tasks.transition(id, "running", owner="gone")
        again.container.tasks.transition(id, "interrupted", crashes=2, quarantined=True)
        end(again, id)
        assert again.training.tick() == 0 and again.jobs.get(id).status == "interrupted"
        again.jobs.start()
        again.how()
        again.training.resume(id)
        assert again.finish(id).status == "completed"
    finally:
        again.container.close()


@pytest.mark.parametrize("alive", [True, False])
@pytest.mark.parametrize("keep", ["lora", "checkpoints", "nothing"])
def test_a_stop_keeps_what_was_asked_when_the_app_ends_before_the_trainer(world, nova, keep, alive):
    world.how(hold=3)
    id = at_step(world, character_id=nova.id)
    again = restart(world)
    try:
        again.training.folders.folder(id).change_note(intent="cancel", keep=keep)
        again.container.tasks.transition(id, "running", owner=DEAD, cancel_requested=True)
        if not alive:
            end(again, id)
        again.jobs.start()
        assert again.jobs.get(id).status == "cancelled"
        again.training._ending.add(id)  # somebody is at it
        assert again.training.tick() == 0
        again.training._ending.clear()
        assert again.training.tick() == 1
        again.until(lambda: note_of(again, id).settled)
        again.until(lambda: not again.training._ending)
        found = (loras_of(again, nova), steps_of(again, id))
        assert found == {"lora": (["Nova"], [2, 3]), "checkpoints": ([], [2, 3]), "nothing": ([], [])}[keep]
        assert again.training.tick() == 0  # once
    finally:
        again.container.close()


def test_a_lora_that_was_finished_before_the_stop_reached_it_is_given_all_the_same(world, nova):
    world.how(hold=3)
    id = at_step(world, character_id=nova.id)
    process = process_of(world, id)
    again = restart(world)
    try:
        again.go(id)
        again.until(lambda: not process.is_alive)
        again.training.cancel(id, "nothing")
        assert again.jobs.get(id).status == "cancelled" and loras_of(again, nova) == ["Nova"]
        assert again.training.shelf.card("Nova").task_id == id and steps_of(again, id) == [2]
    finally:
        again.container.close()


def test_a_run_that_was_done_when_the_app_crashed_is_not_trained_again(world, nova, monkeypatch):
    """The LoRA is on the shelf, but its task does not say so yet."""
    tasks = world.container.tasks
    transition = tasks.transition

    def refused(id, to, **more):
        if to == "completed":
            raise StorageError("The disk is full.")
        return transition(id, to, **more)

    monkeypatch.setattr(tasks, "transition", refused)
    id = world.start(character_id=nova.id)
    world.until(lambda: world.jobs._unsaved)
    owner = tasks.get(id).owner
    assert tasks.get(id).status == "running" and note_of(world, id).settled
    again = restart(world)
    try:
        again.container.tasks.save_progress(id, owner, {"owner": DEAD})
        again.jobs.start()
        job = again.finish(id)
        assert (job.status, job.result["lora"], again.freed) == ("completed", "Nova", [])
        assert loras_of(again, nova) == ["Nova"]
    finally:
        again.container.close()


def test_a_trainer_that_the_system_ends_a_moment_before_the_app_goes_on_at_the_next_start(world):
    """A service stop ends both; a trainer with short steps has gone before the app knows of its own end."""
    world.how(hold=3)
    id = at_step(world)
    end(world, id)
    closing = world.training.folders.folder(id)
    world.until(lambda: closing.state().closing)
    world.jobs.stop()
    assert world.jobs.get(id).status == "queued"
    world.how()
    world.jobs.start()
    assert world.finish(id).status == "completed"
    assert world.training.folders.folder(id).state().ready["startStep"] == 3


def test_a_trainer_that_is_ended_from_outside_alone_is_a_stopped_run(world, monkeypatch):
    monkeypatch.setattr(training_follow, "LINGER_SECONDS", 0.3)
    world.how(hold=3)
    id = at_step(world)
    end(world, id)
    assert world.finish(id).status == "cancelled"


# ---------------------------------------------------------------- pause and stop that do not go as wished


def test_a_pause_that_is_taken_back_while_it_saves_is_none(world):
    world.how(hold=3, busy=3)
    id = at_step(world)
    asked = world.training.folders.folder(id).path / "cancel"
    world.training.pause(id)
    world.until(asked.exists)  # the trainer is being ended
    world.how()
    world.training.resume(id)
    job = world.finish(id)
    assert (job.status, job.attempt) == ("completed", 1)
    assert world.training.folders.folder(id).state().ready["startStep"] == 3


def test_a_sign_of_life_and_a_pace_are_of_the_attempt_that_runs(world):
    world.how(hold=3)
    id = paused(world)
    world.how(early_hold=True)
    world.training.resume(id)
    world.until(lambda: process_of(world, id))
    run = world.training.public(world.training.job(id))
    assert (run["status"], run["step"], run["lastSignAt"], run["stale"]) == ("running", 3, None, False)
    world.go(id)
    world.until(lambda: world.training.public(world.training.job(id))["lastSignAt"])
    assert world.finish(id).status == "completed"


def test_a_stopped_run_cannot_be_resumed_before_its_trainer_has_ended(world, monkeypatch):
    world.how(hold=3)
    id = at_step(world)
    world.training.cancel(id)
    assert world.finish(id).status == "cancelled"
    with monkeypatch.context() as patch:
        patch.setattr(world.trainer, "attach", lambda folder: object())
        with pytest.raises(Conflict, match="still saving"):
            world.training.resume(id)
    world.how()
    world.training.resume(id)
    assert world.finish(id).status == "completed"


def test_a_pause_that_had_to_kill_says_from_which_step_it_goes_on(world):
    world.how(hold=3, deaf=True)
    world.trainer.cancel_seconds = world.trainer.term_seconds = 0.2
    world.trainer.busy_seconds = 2
    id = paused(world)
    assert world.jobs.get(id).progress.message == "Paused at step 2"
    world.how()
    world.training.resume(id)
    assert world.finish(id).status == "completed"
    assert world.training.folders.folder(id).state().ready["startStep"] == 2


def test_a_pause_that_cannot_be_saved_fails_with_the_reason(world):
    world.how(hold=3, full=True)
    id = at_step(world)
    world.training.pause(id)
    job = world.finish(id)
    assert (job.status, job.error["cause"], job.error["canResume"]) == ("failed", "disk_full", True)
    assert "no space left" in job.error["detail"] and job.error["remedy"] == "Free some."


def test_a_stop_that_cannot_be_saved_says_so(world):
    world.how(hold=3, full=True)
    id = at_step(world)
    world.training.cancel(id)
    job = world.finish(id)
    assert job.status == "cancelled" and "no space left" in job.error["detail"]
    assert "Its checkpoints are kept." in job.error["detail"] and steps_of(world, id) == [2]


# ---------------------------------------------------------------- runs that wait to go on


@pytest.mark.parametrize("keep", ["lora", "checkpoints", "nothing"])
def test_a_run_that_waits_to_go_on_keeps_what_was_asked(world, nova, keep):
    world.how(hold=3)
    id = paused(world, character_id=nova.id)
    other = at_step(world)  # has the lane
    world.training.resume(id)
    assert world.training.cancel(id, keep).status == "cancelled"
    found = (loras_of(world, nova), steps_of(world, id))
    assert found == {"lora": (["Nova"], [2, 3]), "checkpoints": ([], [2, 3]), "nothing": ([], [])}[keep]
    assert note_of(world, id).intent is None
    world.training.cancel(other)
    world.finish(other)


def test_a_run_that_has_not_begun_leaves_nothing_when_it_is_cancelled(world):
    world.how(hold=3)
    first, second = at_step(world), world.start()
    assert world.training.cancel(second, "nothing").status == "cancelled"
    assert not world.training.folders.folder(second).path.exists()
    world.training.cancel(first)
    world.finish(first)


def test_a_pause_while_memory_is_freed_is_not_lost(world):
    world.how(hold=3)
    world.training._drive._free_memory = lambda: world.training.pause(world.jobs.running_ids()[0])
    id = world.start()
    world.until(lambda: world.jobs.get(id).status == "paused")
    assert world.jobs.get(id).progress.message.startswith("Paused ")


def test_a_stop_while_memory_is_freed_keeps_what_was_asked(world):
    world.how(hold=3)
    id = paused(world)
    world.training._drive._free_memory = lambda: world.training.cancel(id, "nothing")
    world.training.resume(id)
    job = world.finish(id)
    assert job.status == "cancelled" and "deleted" in job.error["detail"] and steps_of(world, id) == []
    assert note_of(world, id).settled


def test_a_run_goes_on_though_a_lora_was_made_of_its_checkpoint(world, nova):
    world.how(hold=3)
    id = at_step(world, character_id=nova.id)
    end(world, id, signal.SIGKILL)
    assert world.finish(id).status == "failed"
    assert world.training.use_checkpoint(id, 2)["name"] == "Nova"
    shelf = world.training.shelf
    shelf.update("Nova", {"description": "hers"})
    world.how()
    world.training.resume(id)
    assert world.finish(id).status == "completed"


def test_a_run_does_not_take_the_name_of_anothers_lora(world):
    world.how(hold=3)
    id = at_step(world)
    end(world, id, signal.SIGKILL)
    assert world.finish(id).status == "failed"
    folder = world.training.folders.folder(id)
    world.training.shelf.add_copy(folder.checkpoint(2)[1], "luna", LoraCard(task_id="job_other"))
    with pytest.raises(Conflict, match="called 'luna'"):
        world.training.resume(id)


def test_a_run_whose_files_were_deleted_is_seen_again_when_it_is_repeated(world):
    world.how(hold=3)
    id = at_step(world)
    world.training.cancel(id)
    assert world.finish(id).status == "cancelled"
    world.training.delete_run(id)
    assert world.training.runs()[0] == []
    world.how()
    world.training.resume(id)
    assert world.finish(id).status == "completed"
    assert [run["taskId"] for run in world.training.runs()[0]] == [id]
