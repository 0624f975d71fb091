"""What is due and fires: each slot once, nothing in bursts, whatever the clock and the other process do."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from dalla.errors import StorageError
from dalla.services import automation_ticks
from tests.services.automation_world import LUNA, World, empty_database, iso, world  # noqa: F401


def test_a_rule_fires_at_its_time_and_once(world: World):
    task = world.task("0 18 * * *")
    assert world.at("17:59:59").tick() == 0
    assert world.at("18:00:05").tick() == 1
    assert world.tick() == 0 and world.after(seconds=20).tick() == 0
    [run] = world.ran()
    assert (run.slot, run.trigger, run.status) == ("2026-05-01T18:00:00.000Z", "cron", "waiting")
    assert run.late_seconds == 5.0
    assert world.app.next_due() == "2026-05-02T18:00:00.000Z"
    state = world.runs.state(task.id)
    assert state.last_run_id == run.id and state.last_slot == run.slot and state.last_status == "waiting"


def test_the_zone_is_the_tasks_then_the_characters_then_the_apps(world: World):
    own = world.task("0 18 * * *", timezone="Asia/Tokyo")
    of_character = world.task("0 18 * * *")
    backup = world.task("0 18 * * *", type="backup")
    world.settings.timezone = "America/New_York"
    world.characters.change(LUNA.id, timezone="Europe/Berlin")
    world.tick()
    due = {id: state.next_due for id, state in world.runs.states().items()}
    assert due[own.id] == "2026-05-02T09:00:00.000Z"
    assert due[of_character.id] == "2026-05-01T16:00:00.000Z"
    assert due[backup.id] == "2026-05-01T22:00:00.000Z"
    # A character's zone that is none is passed over.
    world.characters.change(LUNA.id, timezone="Nowhere/Land")
    world.tick()
    assert world.runs.state(of_character.id).next_due == "2026-05-01T22:00:00.000Z"


def test_edits_by_hand_and_by_the_app_take_effect_at_once(world: World):
    task = world.task("0 18 * * *")
    world.app.update(task.id, {"schedule": "0 15 * * *"})
    assert world.app.next_due() == "2026-05-01T15:00:00.000Z"
    world.app.toggle(task.id)
    assert world.app.next_due() is None
    world.app.toggle(task.id, True)
    world.write({"id": "task_hand", "type": "backup", "schedule": "30 13 * * *"})
    assert world.tick() == 0
    assert set(world.runs.states()) == {"task_hand"}
    assert world.at("13:30").tick() == 1
    world.app.delete("task_hand")
    assert world.runs.states() == {} and world.ran()[0].task_id == "task_hand"


def test_hand_written_rules_that_cannot_run_are_listed_and_leave_the_others_alone(world: World):
    base = {"type": "backup", "schedule": "0 13 * * *"}
    world.write(
        {**base, "id": "cron", "schedule": "every day"},
        {**base, "id": "zone", "timezone": "Mars/Base"},
        {**base, "id": "type", "type": "dance"},
        {**base, "id": "trainer", "type": "train_lora", "characterId": LUNA.id},
        {**base, "id": "config", "config": {"keep": "many"}},
        {**base, "id": "policy", "missedRunPolicy": "sometimes"},
        {**base, "id": "platform", "type": "post_existing", "characterId": LUNA.id, "config": {}},
        {**base, "id": "shape", "schedule": 5},
        {**base, "id": "good", "unknownKey": {"kept": True}},
    )
    assert world.at("13:00:10").tick() == 0  # their first look: from now on
    assert world.at("2026-05-02T13:00:10").tick() == 1
    assert [run.task_id for run in world.ran()] == ["good"]
    problems = {task["id"]: task["problem"] for task in world.app.tasks()}
    assert "shape" not in problems and world.app.state()["file"]["skipped"]
    assert problems.pop("good") is None
    assert "5 field" in problems["cron"] or "five" in problems["cron"]
    assert "Mars/Base" in problems["zone"]
    assert "'dance'" in problems["type"]
    assert "needs the trainer" in problems["trainer"]
    assert problems["config"] == "config.keep: Use a whole number from 1 to 1000."
    assert "skip or run_once" in problems["policy"]
    assert "at least one platform" in problems["platform"]
    assert all(task["nextRun"] is None for task in world.app.tasks() if task["problem"])


def test_a_broken_file_stops_nothing_that_is_known(world: World):
    task = world.task("0 18 * * *", type="backup")
    world.file.write_text("[{ broken")
    assert world.at("18:00").tick() == 1
    assert world.runs.state(task.id) is not None
    world.file.with_name("scheduler.json.bak").unlink(missing_ok=True)
    with pytest.raises(StorageError):
        world.app.create({"type": "backup", "schedule": "0 1 * * *"})


# ---------------------------------------------------------------- missed


def test_a_day_of_downtime_is_one_row_and_nothing_runs(world: World):
    task = world.task("0 */5 * * *", type="backup")
    world.at("2026-05-02T13:00:00").tick()
    [row] = world.ran(task)
    assert (row.status, row.result["count"]) == ("missed", 5)
    assert (row.result["first"], row.result["last"]) == ("2026-05-01T15:00:00.000Z", "2026-05-02T10:00:00.000Z")
    assert "5 runs from 01 May 2026 15:00 to 02 May 2026 10:00 (UTC)" in row.reason
    assert world.app.next_due() == "2026-05-02T15:00:00.000Z"
    assert world.notices.open["scheduler:missed"]["title"] == "5 scheduled runs were missed"
    assert world.tick() == 0 and len(world.ran(task)) == 1


def test_run_once_catches_up_the_newest_inside_the_window_only(world: World):
    task = world.task("0 */5 * * *", type="backup", missed_run_policy="run_once")
    late = world.task("0 14 * * *", type="backup", missed_run_policy="run_once")
    assert world.at("2026-05-02T12:30:00").tick() == 1
    missed, caught = world.ran(task)
    assert (missed.status, missed.result["count"]) == ("missed", 4)
    assert (caught.trigger, caught.slot, caught.status) == ("catch_up", "2026-05-02T10:00:00.000Z", "completed")
    assert caught.late_seconds == 9000.0
    [row] = world.ran(late)  # 22.5 hours ago: too late to make up for
    assert row.status == "missed" and row.result["count"] == 1


def test_a_slot_that_is_a_minute_old_still_runs(world: World):
    """A quick restart or a slow tick is no downtime, whatever the policy says."""
    task = world.task("0 18 * * *", type="backup")
    assert world.at("18:02:30").tick() == 1
    assert world.ran(task)[0].trigger == "cron"


def test_a_rule_of_every_minute_after_a_night(world: World):
    task = world.task("* * * * *", type="backup")
    assert world.at("2026-05-02T09:00:10").tick() == 1
    missed, run = world.ran(task)
    assert missed.result["count"] == automation_ticks.COUNTED and "more than" in missed.reason
    assert run.slot == "2026-05-02T09:00:00.000Z" and run.status == "completed"
    assert world.app.next_due() == "2026-05-02T09:01:00.000Z"


def test_many_rules_missed_make_one_notice(world: World):
    for hour in range(13, 18):
        world.task(f"0 {hour} * * *", type="backup")
    world.at("23:00").tick()
    assert world.notices.open["scheduler:missed"]["title"] == "5 scheduled runs were missed"
    assert "5 tasks" in world.notices.open["scheduler:missed"]["detail"]


# ---------------------------------------------------------------- clocks that are set


def test_a_clock_set_back_fires_no_slot_twice(world: World):
    task = world.task("0 * * * *", type="backup")
    world.at("18:00:05").tick()  # 13:00 to 17:00 missed, 18:00 runs
    world.at("17:30:00").tick()
    world.at("18:00:05").tick()
    world.at("19:00:05").tick()
    fired = [run.slot for run in world.ran(task) if run.status == "completed"]
    assert fired == ["2026-05-01T18:00:00.000Z", "2026-05-01T19:00:00.000Z"]


def test_a_clock_set_back_and_an_edit_fire_no_slot_twice(world: World):
    task = world.task("0 18 * * *", type="backup")
    world.at("18:00:05").tick()
    world.at("17:30:00")
    world.app.update(task.id, {"missed_run_policy": "run_once"})
    world.app.update(task.id, {"schedule": "0 18 * * 0-6"})
    assert world.app.next_due() == "2026-05-01T18:00:00.000Z"
    assert world.tick() == 0
    assert world.at("18:00:01").tick() == 0
    assert [run.slot for run in world.ran(task)] == ["2026-05-01T18:00:00.000Z"]
    assert world.app.next_due() == "2026-05-02T18:00:00.000Z"


def test_a_clock_that_was_years_ahead_does_not_silence_the_schedule(world: World):
    task = world.task("0 18 * * *", type="backup")
    world.at("2030-01-01T12:00:00").tick()
    assert world.app.next_due() == "2030-01-01T18:00:00.000Z"
    world.at("2026-05-01T13:00:00").tick()
    assert world.app.next_due() == "2026-05-01T18:00:00.000Z"
    # Also when the app was not running while the clock was mended.
    world.at("2030-01-01T12:00:00").tick()
    world.process("second")
    world.dead.add("first")
    world.at("2026-05-01T13:00:00").tick()
    assert world.at("18:00:00").tick() == 1
    assert ("2026-05-01T18:00", "completed") in world.slots(task)


def test_an_hour_forward_and_back_again_loses_nothing(world: World):
    """The slots of the hour that seemed to have passed come when they really do."""
    task = world.task("*/20 * * * *", type="backup")
    world.tick()
    world.at("13:00:00").tick()
    assert world.slots(task) == [("missed:2026-05-0", "missed"), ("2026-05-01T13:00", "completed")]
    for minute in (5, 20, 40):
        world.at(f"12:{minute:02}:01").tick()
    assert {slot for slot, status in world.slots(task) if status == "completed"} == {
        "2026-05-01T12:20", "2026-05-01T12:40", "2026-05-01T13:00",
    }  # fmt: skip
    world.at("13:00:01").tick()
    assert len([s for s, status in world.slots(task) if s == "2026-05-01T13:00"]) == 1
    world.at("13:20:01").tick()
    assert world.slots(task)[-1] == ("2026-05-01T13:20", "completed")


@pytest.mark.parametrize(
    "schedule, zone, day, expected",
    [
        ("30 2 * * *", "Europe/Berlin", "2027-03-28", ["01:00"]),
        ("*/30 2 * * *", "Europe/Berlin", "2027-03-28", []),
        ("0 2 * * *", "Europe/Berlin", "2027-10-31", ["00:00"]),
        ("*/30 2 * * *", "Europe/Berlin", "2027-10-31", ["00:00", "00:30", "01:00", "01:30"]),
        ("0 1 * * *", "America/New_York", "2027-11-07", ["05:00"]),
        ("*/30 1 * * *", "America/New_York", "2027-11-07", ["05:00", "05:30", "06:00", "06:30"]),
        ("*/30 2 * * *", "America/New_York", "2027-03-14", []),
    ],
)
def test_nights_on_which_the_clocks_change(world: World, schedule, zone, day, expected):
    """Ticking through the whole night fires what the table of expected times says, each once."""
    world.at(f"{day}T00:00:00").now -= timedelta(hours=1)
    task = world.task(schedule, type="backup", timezone=zone)
    end = datetime.fromisoformat(day).replace(tzinfo=UTC) + timedelta(hours=9)
    while world.now < end:
        world.after(minutes=10).tick()
    assert [run.slot[11:16] for run in world.ran(task) if run.slot.startswith(day)] == expected


# ---------------------------------------------------------------- stopped, switched off, gone


def test_while_stopped_slots_are_written_down_as_skipped_in_one_row(world: World):
    task = world.task("0 * * * *", type="backup")
    world.app.pause("on holiday")
    for hour in (13, 14, 15):
        assert world.at(f"{hour}:00:01").tick() == 0
        assert world.tick() == 0
    [row] = world.ran(task)
    assert (row.status, row.reason, row.result["count"]) == ("skipped", "Everything is stopped. on holiday", 3)
    assert row.result["last"] == "2026-05-01T15:00:00.000Z"
    world.app.resume()
    assert world.at("16:00:01").tick() == 1
    world.app.pause("again")
    world.at("17:00:01").tick()
    assert [status for _, status in world.slots(task)] == ["skipped", "completed", "skipped"]


@pytest.mark.parametrize(
    "stop, says",
    [
        (lambda w: w.characters.change(LUNA.id, is_active=False), "Luna is switched off."),
        (lambda w: w.characters.remove(LUNA.id), "There is no character with the id 'char_luna'"),
        (lambda w: w.app.pause("rest", LUNA.id), "Luna is stopped. rest"),
    ],
    ids=["inactive", "unknown", "stopped"],
)
def test_a_character_that_may_not_or_is_not_there(world: World, stop, says):
    task = world.task("0 18 * * *")
    stop(world)
    assert world.at("18:00:01").tick() == 0
    [row] = world.ran(task)
    assert row.status == "skipped" and row.reason.startswith(says)
    assert world.generation.made == [] and world.posts.all == {}


def test_one_occurrence_is_left_out_by_hand(world: World):
    task = world.task("0 18 * * *", type="backup")
    world.app.skip(task.id, "2026-05-01T18:00:00.000Z")
    shown = world.app.public(task)
    assert shown["skippedSlots"] == ["2026-05-01T18:00:00.000Z"] and shown["nextRun"] == "2026-05-02T18:00:00.000Z"
    assert world.app.occurrences(world.now, world.now + timedelta(days=1))[0].skipped
    world.at("18:00:00").tick()
    [row] = world.ran(task)
    assert (row.status, row.reason) == ("skipped", "This run was left out by hand.")
    assert world.at("2026-05-02T18:00:00").tick() == 1
    world.app.skip(task.id, "2026-05-03T18:00:00.000Z")
    world.app.skip(task.id, "2026-05-03T18:00:00.000Z", False)
    assert world.at("2026-05-03T18:00:00").tick() == 1


@pytest.mark.parametrize(
    "slot", ["2026-05-01T17:00:00.000Z", "2026-04-01T18:00:00.000Z", "soon", "9999-12-31T23:59:59Z"]
)
def test_only_a_coming_time_of_the_rule_can_be_left_out(world: World, slot):
    task = world.task("0 18 * * *", type="backup")
    with pytest.raises(Exception) as caught:
        world.app.skip(task.id, slot)
    assert caught.value.errors[0]["field"] == "slot"


# ---------------------------------------------------------------- two processes


def test_two_processes_fire_a_slot_once(world: World):
    task = world.task("0 18 * * *", type="backup")
    first = world.app
    second = world.process("second")
    world.at("18:00:00")
    assert (first.tick(), second.tick()) == (1, 0)
    assert second.state()["runner"] == {
        "owner": "first", "heartbeatAt": "2026-05-01T18:00:00.000Z", "thisProcess": False,
    }  # fmt: skip
    # Both believing they are alone (a lease that was lost unseen): the slot still fires once.
    world.at("2026-05-02T18:00:00")
    world.leases.release("scheduler", "first")
    assert (second.tick(), first.tick()) == (1, 0)
    assert [run.slot for run in world.ran(task)] == ["2026-05-01T18:00:00.000Z", "2026-05-02T18:00:00.000Z"]


def test_another_process_takes_over_when_the_first_is_silent_or_dead(world: World):
    world.task("0 18 * * *", type="backup")
    world.at("17:59:00").tick()
    second = world.process("second")
    assert world.at("18:00:00").app.tick() == 0
    assert world.after(seconds=60).app.tick() == 1  # ninety seconds of silence
    third = world.process("third")
    world.dead.add("second")
    assert world.at("2026-05-02T18:00:00").tick() == 1 and third.state()["runner"]["thisProcess"]
    second.tick()
    assert len([run for run in world.ran() if run.status == "completed"]) == 2


def test_a_process_that_ends_hands_the_schedule_over(world: World):
    world.task("0 18 * * *", type="backup")
    world.at("17:59:50").tick()
    world.app.close()
    world.process("second")
    assert world.at("18:00:00").tick() == 1


def test_a_lease_from_before_the_clock_was_set_back_is_no_lease(world: World):
    world.task("0 18 * * *", type="backup")
    world.at("2026-05-03T12:00:00").tick()
    world.process("second")
    world.at("12:00:00").tick()
    assert world.app.state()["runner"]["thisProcess"]


# ---------------------------------------------------------------- large schedules


def test_an_idle_tick_reads_neither_rules_nor_states(world: World, monkeypatch):
    for hour in range(24):
        world.task(f"0 {hour} * * *", type="backup")
    world.tick()
    monkeypatch.setattr(world.runs, "states", lambda: pytest.fail("all states were read"))
    monkeypatch.setattr(world.runs, "unfinished", lambda: pytest.fail("runs were read"))
    monkeypatch.setattr(world.leases, "acquire", lambda *a: pytest.fail("the lease was taken again"))
    assert world.after(seconds=10).tick() == 0


def test_hundreds_due_at_once_all_fire_once(world: World):
    world.write(
        *[{"id": f"task_{n}", "type": "backup", "schedule": "0 18 * * *", "config": {"keep": 1}} for n in range(130)]
    )
    world.tick()
    submitted = []
    world.app._ticker._submit = lambda run, task: submitted.append(task.id)
    assert world.at("18:00:00").tick() == 130
    assert sorted(submitted) == sorted(f"task_{n}" for n in range(130))
    assert world.tick() == 0 and world.runs.page().total == 130


def test_one_that_cannot_be_queued_keeps_nobody_back_and_is_queued_later(world: World, monkeypatch):
    first, second = world.task("0 18 * * *", type="backup"), world.task("0 18 * * *", type="backup")
    submit, failed = world.app._runner.submit, []

    def shaky(run, task):
        if task.id == first.id and not failed:
            failed.append(run.id)
            raise StorageError("the disk is full")
        return submit(run, task)

    monkeypatch.setattr(world.app._ticker, "_submit", shaky)
    world.at("18:00:00").tick()
    assert [run.status for run in world.ran(first)] == ["queued"] and world.ran(second)[0].status == "completed"
    world.after(seconds=45).tick()
    assert [run.status for run in world.ran(first)] == ["completed"]


# ---------------------------------------------------------------- ahead


def test_occurrences_are_merged_in_order_and_limited(world: World):
    every = world.task("*/5 * * * *", type="backup", name="Often")
    daily = world.task("30 12 * * *")
    world.task("0 6 * * *", active=False)
    found = world.app.occurrences(world.now - timedelta(days=1), world.now + timedelta(days=2))
    mine = [o for o in found if o.task_id == every.id]
    assert len(mine) == 200 and mine[-1].note == "Only the first 200 times of this task are shown."
    assert mine[0].at == "2026-05-01T12:00:00.000Z" or mine[0].at == "2026-05-01T12:05:00.000Z"
    days = [o for o in found if o.task_id == daily.id]
    assert [o.slot for o in days] == ["2026-05-01T12:30:00.000Z", "2026-05-02T12:30:00.000Z"]
    assert days[0].platforms == ["instagram"] and days[0].character_name == "Luna"
    assert days[0].to_json()["type"] == "occurrence"
    assert [o.slot for o in found] == sorted(o.slot for o in found)
    assert len(world.app.occurrences(world.now, world.now + timedelta(days=2), limit=7)) == 7
    assert world.app.occurrences(world.now, world.now + timedelta(days=2), character_id="other") == []
    assert world.app.occurrences(world.now - timedelta(days=5), world.now - timedelta(days=1)) == []


def test_a_jittered_post_is_shown_when_it_will_go_out(world: World):
    task = world.task("0 18 * * *", config={"jitterMinutes": 90})
    [planned] = world.app.occurrences(world.now, world.now + timedelta(hours=12))
    world.at("18:00:00").tick()
    [post] = world.posts.all.values()
    assert post.scheduled_at == planned.at and planned.at > planned.slot
    assert post.slot == planned.slot and post.task_id == task.id
    assert planned.at < iso(world.now + timedelta(minutes=91))


def test_the_preview_says_what_an_expression_means(world: World):
    seen = world.app.preview("30 2 * * *", "Europe/Berlin", 3, datetime(2027, 3, 27, 12, tzinfo=UTC))
    assert seen["description"] == "At 02:30" and seen["nextRuns"][0] == "2027-03-28T01:00:00.000Z"
    assert seen["runs"][0]["local"] == "2027-03-28T03:00" and seen["runs"][0]["offset"] == "+02:00"
    assert "runs at 03:00" in seen["runs"][0]["note"] and seen["runs"][1]["note"] is None
    assert "On 28 March 2027 the clocks skip" in seen["notes"][0]
    assert "either of them" in world.app.preview("0 9 1 * 1")["notes"][-1]
    assert "counted anew in each hour" in world.app.preview("*/7 * * * *")["notes"][-1]
