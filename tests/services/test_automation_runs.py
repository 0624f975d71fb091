"""What a run does, step by step; that nothing is made or posted twice; how it ends and who is told."""

from __future__ import annotations

import shutil
import threading

import pytest

from dalla.errors import Cancelled, Conflict, DallaError, InvalidInput, Unavailable, UpstreamError
from dalla.services.automation_record import RunRecord
from tests.services.automation_world import LUNA, World, empty_database, world  # noqa: F401

BOTH = {"postToInstagram": True, "postToTwitter": True}


class Killed(BaseException):
    """The process ends here: nothing after it runs."""


def run_of(world: World, task):
    [run] = world.ran(task)
    return run


def steps(run) -> list[tuple[str, str]]:
    return [(step.name, step.status) for step in run.steps]


# ---------------------------------------------------------------- the whole way


def test_generate_and_post_from_slot_to_published(world: World):
    world.posts.live.add(LUNA.id)
    task = world.task("0 18 * * *", config={**BOTH, "width": 512, "model": "tiny", "captionTone": "warm"})
    world.at("18:00:03").tick()
    run = run_of(world, task)
    assert run.status == "waiting"
    assert steps(run) == [
        ("prompt", "ok"), ("generate", "ok"), ("caption", "ok"), ("post:instagram", "ok"), ("post:twitter", "ok"),
    ]  # fmt: skip
    assert all(step.started_at and step.ended_at for step in run.steps)
    [wish] = world.generation.wishes
    assert (wish.prompt, wish.width, wish.model, wish.character_id) == ("a forest", 512, "tiny", LUNA.id)
    assert world.captioning.wishes[0]["tone"] == "warm" and world.captioning.wishes[0]["media_id"] == run.media_ids[0]
    instagram, twitter = world.posts.of("instagram")[0], world.posts.of("twitter")[0]
    assert instagram.caption.endswith("#luna") and not twitter.caption.endswith("#luna")
    for post in (instagram, twitter):
        assert post.scheduled_at == post.slot == run.slot == "2026-05-01T18:00:00.000Z"
        assert (post.status, post.source, post.task_id, post.run_id) == ("scheduled", "task", task.id, run.id)
        assert (post.dry_run, post.media_ids, post.alt_texts) == (False, run.media_ids, ["Luna outside"])
    assert instagram.group_id == twitter.group_id == run.id
    assert world.publishing.woken == 1
    world.app.on_post_settled(world.posts.set(instagram.id, status="published", permalink="https://x/1"))
    assert world.runs.get(run.id).status == "waiting"
    world.app.on_post_settled(world.posts.set(twitter.id, status="published"))
    done = world.runs.get(run.id)
    assert done.status == "completed" and done.finished_at and done.post_ids == [instagram.id, twitter.id]
    assert done.steps[3].detail == "Published." and done.steps[3].data["permalink"] == "https://x/1"
    assert world.runs.state(task.id).last_status == "completed"
    assert [event for event, _ in world.notices.events] == ["task.completed"]
    assert world.notices.events[0][1]["name"] == "Generate and post for Luna"


def test_generate_only_makes_pictures_and_posts_nothing(world: World):
    task = world.task("0 18 * * *", type="generate_only", config={"batchSize": 3})
    world.at("18:00:00").tick()
    run = run_of(world, task)
    assert run.status == "completed" and len(run.media_ids) == 3 and world.posts.all == {}
    assert steps(run) == [("prompt", "ok"), ("generate", "ok")] and world.captioning.saved == []
    captioned = world.task("0 19 * * *", type="generate_only", config={"generateCaption": True, "batchSize": 2})
    world.at("19:00:00").tick()
    assert world.captioning.saved == run_of(world, captioned).media_ids


def test_the_same_slot_draws_the_same_seed_another_slot_another(world: World):
    world.task("0 18,19 * * *", type="generate_only")
    world.at("18:00:00").tick()
    world.at("19:00:00").tick()
    first, second = (wish.seed for wish in world.generation.wishes)
    assert first != second and 0 <= first < 2**32


def test_a_task_that_is_a_dry_run_makes_dry_posts(world: World):
    world.posts.live.add(LUNA.id)
    task = world.task("0 18 * * *", dry_run=True)
    world.at("18:00:00").tick()
    assert run_of(world, task).dry_run and world.posts.of("instagram")[0].dry_run
    world.settle("dry_run")
    done = run_of(world, task)
    assert done.status == "completed" and "nothing left this computer" in done.steps[-1].detail


# ---------------------------------------------------------------- the words for the picture


def test_the_library_gives_each_prompt_once_then_says_so(world: World):
    world.prompts.add("prompt_1", "a lake", caption="At the lake #calm")
    task = world.task("0 18,19 * * *", config={"promptSource": "library", "prompt": None})
    world.at("18:00:00").tick()
    run = run_of(world, task)
    assert world.prompts.marked == [("prompt_1", "run", run.id)]
    assert world.generation.wishes[0].prompt == "a lake"
    [post] = world.posts.all.values()
    assert (post.caption, post.prompt_id) == ("At the lake #calm", "prompt_1") and world.captioning.wishes == []
    world.at("19:00:00").tick()
    skipped = world.ran(task)[-1]
    assert (skipped.status, skipped.reason) == ("skipped", "There is no unused prompt of Luna in the library.")
    assert steps(skipped) == [("prompt", "skipped")] and len(world.generation.wishes) == 1


@pytest.mark.parametrize("empty, prompt", [("ideas", "an idea"), ("fixed", "plan B")])
def test_an_empty_library_asks_for_ideas_or_takes_the_fixed_prompt(world: World, empty, prompt):
    world.task("0 18 * * *", config={"promptSource": "library", "promptEmpty": empty, "prompt": "plan B"})
    world.at("18:00:00").tick()
    assert world.generation.wishes[0].prompt == prompt


def test_the_characters_own_prompt_and_wildcards(world: World):
    world.task("0 18 * * *", config={"promptSource": "base", "prompt": "not this"})
    world.task("0 19 * * *", config={"prompt": "{a|b} house"})
    world.at("18:00:00").tick()
    world.at("19:00:00").tick()
    assert [wish.prompt for wish in world.generation.wishes] == [None, "a house"]


# ---------------------------------------------------------------- captions never lose a post


def test_a_fallback_caption_goes_out_or_is_held_as_the_settings_say(world: World):
    world.captioning.failure = {"detail": "The Gemini key is refused.", "remedy": "Enter another."}
    world.task("0 18 * * *")
    held = world.task("0 19 * * *")
    world.at("18:00:00").tick()
    assert [post.status for post in world.posts.all.values()] == ["scheduled"]
    world.settings.caption_failure = "hold"
    world.at("19:00:00").tick()
    post = list(world.posts.all.values())[-1]
    assert (post.status, post.hold, post.hold_reason) == ("draft", "caption", "The Gemini key is refused.")
    run = run_of(world, held)
    assert run.status == "waiting" and ("caption", "held") in steps(run)


def test_a_caption_that_cannot_be_written_at_all_holds_the_post(world: World):
    world.captioning.error = UpstreamError("blocked", service="gemini")
    world.task("0 18 * * *")
    world.at("18:00:00").tick()
    [post] = world.posts.all.values()
    assert (post.status, post.hold, post.caption) == ("draft", "caption", "")


def test_fixed_captions_with_hashtags_and_none_at_all(world: World):
    tags = {"hashtags": ["art", "#luna", "art"]}
    world.task("0 18 * * *", config={**BOTH, "caption": "Hello #luna", **tags})
    world.task("0 19 * * *", config={"generateCaption": False})
    world.task("0 20 * * *", config=tags)
    world.at("18:00:00").tick()
    assert world.posts.of("instagram")[0].caption == "Hello #luna\n\n#art"
    assert world.posts.of("twitter")[0].caption == "Hello #luna #art"
    world.at("19:00:00").tick()
    assert list(world.posts.all.values())[-1].caption == ""
    world.at("20:00:00").tick()
    assert world.captioning.wishes[0]["hashtags"] == ["art", "luna"]


def test_posts_wait_for_approval_where_it_is_required(world: World):
    world.task("0 18 * * *", config={"approval": "required"})
    world.task("0 19 * * *")
    world.task("0 20 * * *", config={"approval": "automatic"})
    world.at("18:00:00").tick()
    world.settings.approval = "required"
    world.at("19:00:00").tick()
    world.at("20:00:00").tick()
    assert [(post.status, post.hold) for post in world.posts.all.values()] == [
        ("draft", "approval"), ("draft", "approval"), ("scheduled", None),
    ]  # fmt: skip


# ---------------------------------------------------------------- pictures that are there


def existing(world: World, schedule="0 18,19,20,21 * * *", **config):
    return world.task(schedule, type="post_existing", config={"prompt": None, **config})


@pytest.mark.parametrize("rule, order", [("newest_unposted", ["m3", "m2", "m1"]), ("queue", ["m1", "m2", "m3"])])
def test_pictures_are_posted_in_the_order_of_the_rule_and_never_again(world: World, rule, order):
    for name in ("m1", "m2", "m3"):
        world.gallery.add(name)
    world.gallery.add("other", character_id="somebody")
    world.gallery.add("gone", trashed_at="2026-01-01")
    world.gallery.add("film", type="video")
    task = existing(world, mediaRule=rule)
    for hour in (18, 19, 20, 21):
        world.at(f"{hour}:00:00").tick()
        world.settle()
    assert [post.media_ids for post in world.posts.all.values()] == [[name] for name in order]
    last = world.ran(task)[-1]
    assert last.status == "skipped" and "not been posted" in last.reason


def test_random_is_any_of_the_unposted(world: World):
    names = {world.gallery.add(f"m{n}") for n in range(4)}
    existing(world, mediaRule="random_unposted")
    for hour in (18, 19, 20, 21):
        world.at(f"{hour}:00:00").tick()
    assert {post.media_ids[0] for post in world.posts.all.values()} == names


def test_a_picture_that_failed_to_go_out_may_be_chosen_again(world: World):
    world.gallery.add("m1")
    existing(world)
    world.at("18:00:00").tick()
    world.settle("failed", error={"detail": "refused"})
    world.at("19:00:00").tick()
    assert [post.media_ids for post in world.posts.all.values()] == [["m1"], ["m1"]]


def test_a_collection_and_the_pictures_own_caption(world: World):
    world.gallery.add("m1", caption="My own words", alt_text="A cat")
    world.gallery.add("m2")
    world.gallery.collections["col_1"] = ["m1"]
    existing(world, collectionId="col_1")
    gone = existing(world, "0 19 * * *", collectionId="col_9")
    world.at("18:00:00").tick()
    [post] = world.posts.all.values()
    assert (post.media_ids, post.caption, post.alt_texts) == (["m1"], "My own words", ["A cat"])
    world.at("19:00:00").tick()
    failed = run_of(world, gone)
    assert failed.status == "failed" and "collection" in failed.error["detail"]


def test_an_empty_gallery_skips_alerts_or_generates(world: World):
    skip, alert = existing(world, "0 18 * * *"), existing(world, "0 19 * * *", mediaEmpty="alert")
    make = existing(world, "0 20 * * *", mediaEmpty="generate", prompt="a new one")
    for hour in (18, 19, 20):
        world.at(f"{hour}:00:00").tick()
    assert run_of(world, skip).status == "skipped"
    assert run_of(world, alert).status == "failed" and run_of(world, alert).error["code"] == "nothing_to_post"
    assert world.notices.open[f"run:{alert.id}"]["level"] == "error"
    made = run_of(world, make)
    assert made.status == "waiting" and made.media_ids == world.generation.made
    assert world.generation.wishes[0].prompt == "a new one"


def test_a_carousel_takes_several(world: World):
    for n in range(5):
        world.gallery.add(f"m{n}")
    existing(world, "0 18 * * *", kind="carousel", batchSize=4)
    world.task("0 19 * * *", config={"kind": "carousel"})
    world.task("0 20 * * *", config={"kind": "story", **BOTH})
    for hour in (18, 19, 20):
        world.at(f"{hour}:00:00").tick()
    shown = [(post.platform, post.kind, len(post.media_ids)) for post in world.posts.all.values()]
    assert shown == [
        ("instagram", "carousel", 4), ("instagram", "carousel", 3), ("instagram", "story", 1), ("twitter", "single", 1),
    ]  # fmt: skip


# ---------------------------------------------------------------- one platform never depends on the other


def test_one_platform_that_refuses_leaves_the_other_alone(world: World):
    world.posts.refuse["instagram"] = InvalidInput.field("mediaIds", "The picture is too small.")
    task = world.task("0 18 * * *", config=BOTH)
    world.at("18:00:00").tick()
    run = run_of(world, task)
    assert ("post:instagram", "failed") in steps(run) and ("post:twitter", "ok") in steps(run)
    assert run.status == "waiting" and len(world.posts.all) == 1
    world.settle()
    done = run_of(world, task)
    assert done.status == "failed" and done.error["detail"] == "Instagram: The picture is too small."
    assert [event for event, _ in world.notices.events] == ["task.failed"]


def test_a_post_that_fails_fails_the_run_and_mends_it_when_it_goes_out_later(world: World):
    task = world.task("0 18 * * *", config=BOTH)
    world.at("18:00:00").tick()
    instagram, twitter = world.posts.of("instagram")[0], world.posts.of("twitter")[0]
    world.app.on_post_settled(world.posts.set(twitter.id, status="published"))
    world.app.on_post_settled(
        world.posts.set(instagram.id, status="failed", error={"detail": "Token expired.", "remedy": "Reconnect."})
    )
    run = run_of(world, task)
    assert (run.status, run.error["detail"], run.error["remedy"]) == (
        "failed",
        "Instagram: Token expired.",
        "Reconnect.",
    )
    assert run.error["code"] == "post_failed"
    assert world.notices.open == {}  # publishing has told about the post itself
    world.app.on_post_settled(world.posts.set(instagram.id, status="published", error=None))
    mended = run_of(world, task)
    assert mended.status == "completed" and mended.error is None and mended.steps[-2].status == "ok"


def test_unconfirmed_posts_keep_the_run_waiting(world: World):
    task = world.task("0 18 * * *")
    world.at("18:00:00").tick()
    world.settle("unconfirmed")
    run = run_of(world, task)
    assert run.status == "waiting" and run.steps[-1].status == "held"


def test_posts_settled_unseen_are_found_by_the_tick(world: World):
    task = world.task("0 18 * * *")
    world.at("18:00:00").tick()
    for id in list(world.posts.all):
        world.posts.set(id, status="published")
    world.after(seconds=601).tick()
    assert run_of(world, task).status == "completed"


def test_a_post_that_was_deleted_counts_as_cancelled(world: World):
    task = world.task("0 18 * * *")
    world.at("18:00:00").tick()
    world.posts.all.clear()
    world.after(seconds=601).tick()
    assert run_of(world, task).status == "cancelled"


# ---------------------------------------------------------------- failures


def test_a_failure_keeps_its_reason_is_told_once_and_taken_back(world: World):
    world.generation.error = DallaError("The GPU ran out of memory.", remedy="Use a smaller picture.")
    task = world.task("0 18,19 * * *", type="generate_only", name="Evening")
    world.at("18:00:00").tick()
    run = run_of(world, task)
    assert run.status == "failed" and run.error["detail"] == "The GPU ran out of memory."
    assert steps(run)[-1] == ("generate", "failed") and run.steps[-1].detail == run.error["detail"]
    notice = world.notices.open[f"run:{task.id}"]
    assert (notice["title"], notice["level"], notice["kind"]) == ("Evening failed", "error", "task.failed")
    assert run.id in notice["href"] and notice["detail"].endswith("Use a smaller picture.")
    world.generation.error = None
    world.at("19:00:00").tick()
    assert world.notices.open == {}
    assert [event for event, _ in world.notices.events] == ["task.failed", "task.completed"]


def test_an_engine_that_cannot_be_reached_is_asked_again(world: World):
    world.process("first", engine_retries=(0.0, 0.0))
    world.task("0 18 * * *", type="generate_only")
    world.generation.unavailable = 2
    world.at("18:00:00").tick()
    assert world.ran()[0].status == "completed"
    world.generation.unavailable = 1
    task = world.task("0 20 * * *", type="generate_only")
    with pytest.raises(Unavailable):  # by hand somebody is looking: told at once
        raise_of(world, task)


def raise_of(world: World, task):
    run = world.app.run_now(task.id)[0]
    error = world.runs.get(run.id).error
    raise Unavailable(error["detail"]) if error["code"] == "unavailable" else AssertionError(error)


def test_a_notice_that_cannot_be_given_changes_no_outcome(world: World, monkeypatch):
    monkeypatch.setattr(world.notices, "emit", lambda *a: 1 / 0)
    task = world.task("0 18 * * *", type="generate_only")
    world.at("18:00:00").tick()
    assert run_of(world, task).status == "completed"


# ---------------------------------------------------------------- a process that dies


def die_after(monkeypatch, world: World, number: int) -> None:
    """End the process at the n-th write of the run."""
    count = 0
    update = world.runs.update

    def dying(id, **fields):
        nonlocal count
        count += 1
        if count > number:
            raise Killed
        return update(id, **fields)

    monkeypatch.setattr(world.runs, "update", dying)


def resume(world: World) -> None:
    """Start the app anew: the job of the dead one is run again, as recovery does."""
    world.process("second")
    world.dead.add("first")
    for job in world.tasks_table.page(statuses=["running", "queued"])[0]:
        if job.status == "running":
            world.tasks_table.transition(job.id, "queued", only_from={"running"})
    world.tick()
    for job in reversed(world.tasks_table.page(statuses=["queued"])[0]):
        if world.tasks_table.get(job.id).status == "queued":
            world.jobs.run_task(job.id)
    world.after(seconds=60).tick()


@pytest.mark.parametrize("number", range(0, 20))
def test_killed_at_any_write_the_run_ends_with_one_picture_and_one_post_each(world: World, monkeypatch, number):
    """§7.5: nothing is generated or posted twice, nothing is lost, wherever the process ends."""
    world.prompts.add("prompt_1", "a lake")
    world.prompts.add("prompt_2", "a wood")
    task = world.task("0 18 * * *", config={**BOTH, "promptSource": "library"})
    world.at("18:00:00")
    die_after(monkeypatch, world, number)
    try:
        world.tick()
    except Killed:
        pass
    finally:
        monkeypatch.undo()
    resume(world)
    assert sorted(post.platform for post in world.posts.all.values()) == ["instagram", "twitter"]
    assert len({post.media_ids[0] for post in world.posts.all.values()}) == 1
    run = run_of(world, task)
    assert run.status == "waiting" and [status for _, status in steps(run)] == ["ok"] * 5
    # A picture asked for in the instant before its job id was on disk is the one thing that may be made again.
    assert len(world.gallery.items) <= 2
    world.settle()
    assert run_of(world, task).status == "completed"
    assert world.tick() == 0 and len(world.posts.all) == 2


def test_killed_between_firing_and_queueing_the_run_is_queued_again(world: World, monkeypatch):
    task = world.task("0 18 * * *", type="generate_only")
    world.at("18:00:00")

    def die(run, task):
        raise Killed

    monkeypatch.setattr(world.app._ticker, "_submit", die)
    with pytest.raises(Killed):
        world.tick()
    world.process("second")
    world.dead.add("first")
    world.after(seconds=60).tick()
    assert run_of(world, task).status == "completed" and len(world.generation.made) == 1


def test_a_job_that_came_to_nothing_ends_its_run(world: World, monkeypatch):
    task = world.task("0 18 * * *", type="generate_only")
    monkeypatch.setattr(world.app._runner, "run", lambda context, payload: None)
    world.jobs.register("run_task", lambda context, payload: None, lane="runs")
    world.tick()
    world.at("18:00:00").tick()
    world.after(seconds=60).tick()
    run = run_of(world, task)
    assert run.status == "failed" and run.finished_at and world.jobs.get(run.job_id).status == "completed"


def test_a_task_deleted_before_its_run_began(world: World, monkeypatch):
    task = world.task("0 18 * * *", type="generate_only")
    world.app._ticker._submit = lambda run, task: None
    world.at("18:00:00").tick()
    world.app.delete(task.id)
    world.after(seconds=60).tick()
    run = run_of(world, task)
    assert run.status == "failed" and "deleted" in run.error["detail"]


# ---------------------------------------------------------------- by hand


def test_run_now_runs_at_once_and_leaves_the_schedule_alone(world: World):
    task = world.task("0 18 * * *", config={"jitterMinutes": 60})
    [run] = world.app.run_now(task.id)
    assert (run.trigger, run.slot) == ("manual", f"manual:{run.id}")
    [post] = world.posts.all.values()
    assert post.scheduled_at == "2026-05-01T12:00:00.000Z" and post.slot == run.slot
    assert world.app.next_due() == "2026-05-01T18:00:00.000Z"
    assert world.runs.state(task.id).last_run_id == run.id
    assert world.at("18:00:00").tick() == 1 and len(world.posts.all) == 2


def test_run_all_means_every_active_rule_that_can(world: World):
    world.task("0 18 * * *", type="backup")
    world.task("0 18 * * *", type="generate_only", active=False)
    world.task("0 18 * * *", type="generate_only")
    world.write(*[task.to_json() for task in world.app.all()], {"id": "bad", "type": "backup", "schedule": "nonsense"})
    assert len(world.app.run_now()) == 2
    world.characters.change(LUNA.id, is_active=False)
    assert [run.type for run in world.app.run_now()] == ["backup"]
    inactive = next(task for task in world.app.all() if not task.active)
    world.characters.change(LUNA.id, is_active=True)
    assert world.app.run_now(inactive.id)[0].type == "generate_only"


def test_live_posts_are_asked_about_first(world: World):
    task = world.task("0 18 * * *", config=BOTH, name="Evening")
    world.task("0 18 * * *", type="backup")
    assert len(world.app.run_now(confirmed=False)) == 2  # without keys nothing is live
    world.posts.live.add(LUNA.id)
    made = len(world.generation.made)
    with pytest.raises(Conflict) as caught:
        world.app.run_now(confirmed=False)
    assert caught.value.code == "confirmation_needed"
    assert caught.value.extra == {
        "livePosts": 2,
        "tasks": [
            {
                "id": task.id,
                "name": "Evening",
                "characterId": LUNA.id,
                "characterName": "Luna",
                "platforms": ["instagram", "twitter"],
            }
        ],
    }
    assert len(world.generation.made) == made
    world.app.run_now(task.id, dry_run=True, confirmed=False)
    assert list(world.posts.all.values())[-1].dry_run
    world.app.update(task.id, {"config": {**task.config, "approval": "required"}})
    world.app.run_now(task.id, confirmed=False)
    assert list(world.posts.all.values())[-1].hold == "approval"


def test_what_is_stopped_cannot_be_run_by_hand(world: World):
    task = world.task("0 18 * * *")
    world.app.pause("audit")
    for id in (task.id, None):
        with pytest.raises(Conflict, match="Everything is stopped. audit"):
            world.app.run_now(id)
    world.app.resume()
    world.app.pause("rest", LUNA.id)
    with pytest.raises(Conflict, match="Luna is stopped. rest"):
        world.app.run_now(task.id)
    assert world.app.run_now() == [] and world.ran() == []


def test_a_run_that_still_waits_for_its_turn_when_everything_is_stopped_is_skipped(world: World):
    world.jobs.immediate = False
    task = world.task("0 18 * * *")
    world.at("18:00:00").tick()
    world.app.pause("enough")
    world.jobs.run_task(run_of(world, task).job_id)
    run = run_of(world, task)
    assert (run.status, run.reason) == ("skipped", "Everything is stopped. enough") and world.generation.made == []


def test_a_run_of_a_dry_task_can_be_made_live_on_purpose_and_is_asked_about(world: World):
    world.posts.live.add(LUNA.id)
    task = world.task("0 18 * * *", dry_run=True)
    world.app.run_now(task.id, confirmed=False)
    with pytest.raises(Conflict) as caught:
        world.app.run_now(task.id, dry_run=False, confirmed=False)
    assert caught.value.extra["livePosts"] == 1
    world.app.run_now(task.id, dry_run=False)
    assert [post.dry_run for post in world.posts.all.values()] == [True, False]


def test_retry_is_a_new_run_by_hand(world: World):
    world.generation.error = DallaError("no")
    task = world.task("0 18 * * *", type="generate_only", dry_run=False)
    world.at("18:00:00").tick()
    failed = run_of(world, task)
    world.generation.error = None
    again = world.app.retry_run(failed.id)
    assert again.trigger == "manual" and world.runs.get(again.id).status == "completed"
    assert world.runs.get(failed.id).status == "failed"
    world.app.delete(task.id)
    with pytest.raises(Conflict, match="deleted"):
        world.app.retry_run(failed.id)


def test_a_job_retried_from_the_task_list_goes_on_after_the_last_step(world: World):
    world.captioning.error = None
    world.posts.refuse["instagram"] = DallaError("The database is busy.")
    task = world.task("0 18 * * *")
    world.at("18:00:00").tick()
    failed = run_of(world, task)
    assert failed.status == "failed"
    world.posts.refuse.clear()
    world.jobs.retry(failed.job_id)
    run = run_of(world, task)
    assert run.status == "waiting" and len(world.generation.made) == 1 and len(world.posts.all) == 1


# ---------------------------------------------------------------- cancelling


def test_cancelling_a_waiting_run_cancels_its_posts(world: World):
    task = world.task("0 18 * * *", config=BOTH)
    world.at("18:00:00").tick()
    run = world.app.cancel_run(run_of(world, task).id)
    assert run.status == "cancelled" and {post.status for post in world.posts.all.values()} == {"cancelled"}
    with pytest.raises(Conflict, match="ended already"):
        world.app.cancel_run(run.id)


def test_a_post_on_its_way_cannot_be_called_back(world: World):
    task = world.task("0 18 * * *", config=BOTH)
    world.at("18:00:00").tick()
    world.posts.set(world.posts.of("twitter")[0].id, status="publishing")
    with pytest.raises(Conflict, match="The post on X is on its way"):
        world.app.cancel_run(run_of(world, task).id)
    assert world.posts.of("instagram")[0].status == "cancelled"
    world.app.on_post_settled(world.posts.set(world.posts.of("twitter")[0].id, status="published"))
    assert run_of(world, task).status == "completed"


def test_a_queued_run_is_cancelled_at_once(world: World):
    world.jobs.immediate = False
    task = world.task("0 18 * * *")
    world.at("18:00:00").tick()
    assert world.app.cancel_run(run_of(world, task).id).status == "cancelled"
    assert world.tasks_table.page()[0][0].status == "cancelled"


@pytest.fixture
def working(tmp_path, empty_database):  # noqa: F811
    """A world whose jobs run in threads."""
    shutil.copy(empty_database, tmp_path / "dalla.db")
    world = World(tmp_path, immediate=False)
    world.jobs.start()
    yield world
    world.close()


def drawing(world: World) -> threading.Event:
    """Let pictures take until they are cancelled; return the event that one has begun."""
    begun = threading.Event()

    def draw(context):
        begun.set()
        while True:
            context.check_cancelled()
            threading.Event().wait(0.005)

    world.generation.on_draw = draw
    return begun


def test_cancelling_a_run_cancels_the_picture_it_waits_for(working: World):
    begun = drawing(working)
    task = working.task("0 18 * * *")
    working.at("18:00:00").tick()
    assert begun.wait(10)
    run = run_of(working, task)
    working.app.cancel_run(run.id)
    working.jobs.wait(run.job_id, 15)
    run = run_of(working, task)
    assert run.status == "cancelled" and run.error["code"] == "cancelled" and working.posts.all == {}
    assert steps(run)[-1] == ("generate", "failed")
    picture = working.jobs.wait(run.steps[-1].data["jobId"], 15)
    assert picture.status == "cancelled"


def test_an_app_that_closes_leaves_the_run_to_be_resumed(working: World):
    begun = drawing(working)
    task = working.task("0 18 * * *")
    working.at("18:00:00").tick()
    assert begun.wait(10)
    working.jobs.stop()
    run = run_of(working, task)
    assert run.status == "running" and working.jobs.get(run.job_id).status == "queued"
    working.process("second")
    working.dead.add("first")
    working.jobs.start()
    working.jobs.wait(run.job_id, 20)
    assert run_of(working, task).status == "waiting"
    assert len(working.generation.made) == 1 and len(working.posts.all) == 1


def test_an_edit_while_it_runs_counts_from_the_next_run_on(working: World):
    gate = threading.Event()
    working.generation.on_draw = lambda context: gate.wait(10)
    task = working.task("0 18,19 * * *", config={"caption": "Old words"})
    working.at("18:00:00").tick()
    working.app.update(task.id, {"config": {**task.config, "caption": "New words"}})
    gate.set()
    working.jobs.wait(run_of(working, task).job_id, 15)
    assert working.posts.of("instagram")[0].caption == "Old words"


# ---------------------------------------------------------------- types of others


def test_a_type_can_be_added_with_its_check_and_its_steps(world: World):
    with pytest.raises(InvalidInput) as caught:
        world.task("0 18 * * *", type="train_lora")
    assert "needs the trainer, which is not installed" in caught.value.errors[0]["message"]

    def train(work):
        with work.record.step("train") as note:
            note.detail = work.config["datasetId"]
        return {"lora": "luna_v2"}

    def check(task):
        return [] if task.config.get("datasetId") else [{"field": "config.datasetId", "message": "Choose a dataset."}]

    world.app.register_type("train_lora", train, check)
    with pytest.raises(InvalidInput, match="Choose a dataset"):
        world.task("0 18 * * *", type="train_lora")
    task = world.task("0 18 * * *", type="train_lora", config={"datasetId": "ds_1"})
    world.at("18:00:00").tick()
    run = run_of(world, task)
    assert (run.status, run.result, steps(run)) == ("completed", {"lora": "luna_v2"}, [("train", "ok")])


def test_a_step_that_is_cancelled_stays_open_to_be_resumed(world: World):
    task = world.task("0 18 * * *", type="generate_only")
    world.app._ticker._submit = lambda run, task: None
    world.at("18:00:00").tick()
    record = RunRecord(run_of(world, task), world.runs, world.events, lambda: world.now)
    with pytest.raises(Cancelled), record.step("generate") as note:
        note.data["jobId"] = "job_1"
        note.save()
        raise Cancelled("closing")
    [step] = run_of(world, task).steps
    assert step.status == "running" and step.data == {"jobId": "job_1"} and record.done("generate") is None
