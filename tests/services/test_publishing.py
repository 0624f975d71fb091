"""Exactly once: every way a try can end, every point at which a process can die."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from dalla.errors import Conflict, InvalidInput
from dalla.platforms.base import Look, NotReady
from dalla.records.platform import Issue
from dalla.services.post_times import quiet_until
from dalla.times import iso
from tests.conftest import make_settings
from tests.services.publishing_world import START, Killed, World, refusal


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    (tmp_path / "data").mkdir()
    world = World(tmp_path, make_settings(tmp_path, DALLA_MIN_GAP_MINUTES="0"))
    yield world
    world.close()


def test_a_due_post_goes_out_once_with_the_platforms_id(world: World) -> None:
    post = world.post(world.character(), prompt_id="prompt_1")
    world.first.tick()
    done = world.store.get(post.id)
    assert (done.status, done.platform_post_id, done.permalink) == ("published", "id1", "https://p.example/1")
    assert done.lease_owner is None
    assert done.snapshot is not None and done.snapshot.caption == "Hello"
    for _ in range(3):
        world.first.tick()
    assert world.instagram.live == ["Hello"]
    assert [(a.step, a.outcome) for a in world.store.attempts(post.id)] == [
        ("prepare", "ok"),
        ("upload", "ok"),
        ("publish", "ok"),
    ]
    assert world.told.used == [("prompt_1", "post", post.id)]
    assert world.told.events == ["post.published"]


def test_what_is_not_due_waits(world: World) -> None:
    post = world.post(world.character(), due_at=iso(START + timedelta(minutes=5)))
    world.first.tick()
    assert world.store.get(post.id).status == "scheduled"
    assert world.first.next_due() == iso(START + timedelta(minutes=5))


def test_a_link_that_cannot_be_read_is_no_failure(world: World) -> None:
    post = world.post(world.character())
    world.instagram.script = ["no_link"]
    world.first.tick()
    done = world.store.get(post.id)
    assert (done.status, done.permalink) == ("published", "https://p.example/later/id1")


@pytest.mark.parametrize("step", ["die_before", "die_after"])
def test_a_process_killed_around_the_call_leaves_exactly_one_post(world: World, step: str) -> None:
    post = world.post(world.character())
    world.instagram.script = [step]
    with pytest.raises(Killed):
        world.first.tick()
    left = world.store.get(post.id)
    assert (left.status, left.lease_owner) == ("publishing", "p1")
    world.dead.add("p1")
    second = world.process("p2")
    done = world.settle(second, post.id)
    assert (done.status, done.platform_post_id) == ("published", "id1")
    assert world.instagram.live == ["Hello"]


def test_killed_while_staging_continues_with_the_same_container(world: World) -> None:
    post = world.post(world.character())
    world.instagram.stage_script = [NotReady(5)]
    world.first.tick()
    waiting = world.store.get(post.id)
    assert (waiting.status, waiting.lease_owner) == ("uploading", None)
    world.forward(6)

    def die() -> None:
        raise Killed

    world.instagram.stage_script = [die]
    with pytest.raises(Killed):
        world.first.tick()
    world.dead.add("p1")
    assert world.settle(world.process("p2"), post.id).status == "published"
    assert (world.instagram.live, world.instagram.staged) == (["Hello"], 1)


def test_a_living_process_keeps_its_post_and_a_silent_one_loses_it(world: World) -> None:
    post = world.post(world.character())
    world.instagram.script = ["die_before"]
    with pytest.raises(Killed):
        world.first.tick()
    second = world.process("p2")
    second.tick()
    assert world.store.get(post.id).lease_owner == "p1"  # nobody knows that it is dead yet
    world.forward(601)
    assert world.settle(second, post.id).status == "published"
    assert world.instagram.live == ["Hello"]


@pytest.mark.parametrize("step", ["lost_after", "lost_before"])
def test_a_lost_answer_is_resolved_by_asking(world: World, step: str) -> None:
    post = world.post(world.character())
    world.instagram.script = [step]
    done = world.settle(world.first, post.id)
    assert done.status == "published"
    assert world.instagram.live == ["Hello"]
    assert ("publish", "unknown") in [(a.step, a.outcome) for a in world.store.attempts(post.id)]


def test_what_cannot_be_resolved_is_unconfirmed_and_never_repeated(world: World) -> None:
    post = world.post(world.character())
    world.instagram.script = ["lost_after"]
    world.instagram.looks = [Look("not_yet"), Look("unknown", detail="Nothing can be read.")]
    done = world.settle(world.first, post.id)
    assert (done.status, done.platform_post_id) == ("unconfirmed", None)
    assert done.error is not None and "Nothing can be read" in done.error["detail"]
    for _ in range(5):
        world.forward(3600)
        world.first.tick()
    assert world.instagram.live == ["Hello"]
    assert world.told.events == ["post.unconfirmed"]
    assert f"post:{post.id}" in world.told.open


def test_a_platform_that_never_tells_ends_unconfirmed(world: World) -> None:
    post = world.post(world.character())
    world.instagram.script = ["lost_after"]
    world.instagram.looks = [RuntimeError("down")] * 100
    assert world.settle(world.first, post.id).status == "unconfirmed"
    assert world.instagram.live == ["Hello"]


def test_the_two_buttons_settle_an_unconfirmed_post(world: World) -> None:
    luna = world.character()
    there, gone, dropped = (world.post(luna, caption=c) for c in ("one", "two", "three"))
    world.instagram.script = ["lost_after", "lost_before", "lost_before"]
    for post in (there, gone, dropped):
        world.instagram.looks = [Look("unknown")]
        assert world.settle(world.first, post.id).status == "unconfirmed"
    with pytest.raises(InvalidInput):
        world.first.settle(there.id, posted=True, reference="  ")
    done = world.first.settle(there.id, posted=True, reference="https://www.instagram.com/p/C0ffee_123/?x=1")
    assert (done.status, done.platform_post_id) == ("published", "C0ffee_123")
    assert world.first.settle(gone.id, posted=False, again=True).status == "published"
    assert world.first.settle(dropped.id, posted=False).status == "cancelled"
    assert world.instagram.live == ["one", "two"]
    assert not [key for key in world.told.open if key.startswith("post:")]
    with pytest.raises(Conflict):
        world.first.settle(there.id, posted=False, again=True)


def test_x_is_asked_again_by_a_person_unless_wished_otherwise(world: World, tmp_path: Path) -> None:
    luna = world.character()
    world.settings.change({"xRepeatUnconfirmed": True})
    post = world.post(luna, platform="twitter")
    world.twitter.script = ["lost_before"]
    world.twitter.looks = [Look("unknown")]
    assert world.settle(world.first, post.id).status == "published"
    again = world.post(luna, platform="twitter", caption="two")
    world.twitter.script = ["lost_before", "lost_before"]
    world.twitter.looks = [Look("unknown"), Look("unknown")]
    assert world.settle(world.first, again.id).status == "unconfirmed"  # once, not for ever
    assert world.twitter.live == ["Hello"]


def test_one_platform_failing_never_repeats_the_other(world: World) -> None:
    luna = world.character()
    instagram, x = world.post(luna), world.post(luna, platform="twitter")
    world.twitter.script = [refusal("busy", "retry", "twitter"), "ok"]
    world.first.tick()
    assert world.store.get(instagram.id).status == "published"
    assert world.store.get(x.id).status == "scheduled"
    assert world.settle(world.first, x.id).status == "published"
    assert (world.instagram.live, world.twitter.live) == (["Hello"], ["Hello"])


def test_retries_wait_longer_each_time_and_end(world: World) -> None:
    world.settings.change({"lateWindowMinutes": 600})
    post = world.post(world.character())
    world.instagram.stage_script = [refusal("busy", "retry") for _ in range(9)]
    waits = []
    for _ in range(4):
        world.first.tick()
        now = world.store.get(post.id)
        assert (now.status, now.error and now.error["cause"]) == ("scheduled", "busy")
        wait = (datetime.fromisoformat(now.due_at or "") - world.now).total_seconds()
        waits.append(wait)
        world.forward(wait + 1)
        world.first.close_breaker(post.character_id, "instagram")
        if world.store.get(post.id).status == "failed":
            break
    world.first.tick()
    done = world.store.get(post.id)
    assert done.status == "failed"
    assert [48 <= waits[0] <= 72, 240 <= waits[1] <= 360, 720 <= waits[2] <= 1080, 2880 <= waits[3] <= 4320] == [
        True
    ] * 4
    assert world.instagram.live == []
    assert world.told.events == ["post.failed"]


def test_a_retry_that_would_come_too_late_fails_at_once(world: World) -> None:
    world.settings.change({"lateWindowMinutes": 1})
    post = world.post(world.character())
    world.instagram.stage_script = [refusal("busy", "retry", retry_after=600)]
    world.first.tick()
    assert world.store.get(post.id).status == "failed"


def test_a_full_quota_defers_without_costing_a_try(world: World) -> None:
    post = world.post(world.character())
    until = START + timedelta(hours=20)
    world.instagram.stage_script = [refusal("quota", "defer", until=until)]
    world.first.tick()
    deferred = world.store.get(post.id)
    assert (deferred.status, deferred.due_at, deferred.attempts) == ("scheduled", iso(until), 0)
    world.forward(19 * 3600)
    world.first.tick()
    assert world.store.get(post.id).status == "scheduled"  # later than the late window, but for a reason
    world.forward(3601)
    world.first.tick()
    assert world.store.get(post.id).status == "published"


def test_a_dead_key_stops_one_account_with_one_alarm(world: World) -> None:
    luna, mara = world.character(), world.character("Mara")
    posts = [world.post(luna, caption=f"l{n}") for n in range(3)] + [world.post(mara, caption="m")]
    world.instagram.script = [refusal("token_expired", "reconnect", stops_account=True)]
    for _ in range(4):
        world.first.tick()
        world.forward(15)
    assert [world.store.get(p.id).status for p in posts] == ["scheduled"] * 3 + ["published"]
    assert world.instagram.live == ["m"]
    assert world.told.kinds == ["account.stopped"]
    with pytest.raises(Conflict):
        world.first.publish_now(posts[1].id)
    world.first.close_breaker(luna.id, "instagram")
    for _ in range(4):
        world.first.tick()
    assert sorted(world.instagram.live) == ["l0", "l1", "l2", "m"]
    assert not world.told.open


def test_no_credits_stops_the_account_and_is_never_retried(world: World) -> None:
    post = world.post(world.character(), platform="twitter")
    world.twitter.script = [refusal("no_credits", "ask", "twitter", stops_account=True)]
    for _ in range(30):
        world.first.tick()
        world.forward(60)
    assert world.twitter.published_calls == 1
    assert world.store.get(post.id).status == "scheduled"


def test_an_account_that_keeps_failing_rests_for_half_an_hour(world: World) -> None:
    luna = world.character()
    for n in range(6):
        world.post(luna, caption=f"p{n}")
    world.instagram.stage_script = [refusal("busy", "retry") for _ in range(5)]
    for _ in range(8):
        world.first.tick()
    state = world.accounts.get(luna.id, "instagram")
    assert (state.failures, state.breaker_code) == (5, "failing")
    assert world.instagram.live == []
    world.forward(1801)
    for _ in range(8):
        world.first.tick()
    assert len(world.instagram.live) >= 1
    assert world.accounts.get(luna.id, "instagram").breaker_reason is None


def test_refused_content_fails_with_the_reason(world: World) -> None:
    post = world.post(world.character())
    world.instagram.stage_script = [refusal("aspect_ratio", "fix", platform_code="36003", subcode="2207009", http=400)]
    world.first.tick()
    done = world.store.get(post.id)
    assert done.status == "failed"
    assert done.error is not None and done.error["cause"] == "aspect_ratio"
    attempt = world.store.attempts(post.id)[-1]
    assert (attempt.http, attempt.code, attempt.subcode) == (400, "36003", "2207009")


def test_the_last_check_before_sending_holds_back_what_became_wrong(world: World) -> None:
    post = world.post(world.character())
    world.posts.issues = [Issue("error", "caption_too_long", "The caption has 3000 characters.")]
    world.first.tick()
    done = world.store.get(post.id)
    assert (done.status, world.instagram.staged) == ("failed", 0)
    assert done.error is not None and done.error["cause"] == "caption_too_long"


def test_a_dead_container_is_replaced(world: World) -> None:
    post = world.post(world.character())
    world.instagram.script = [refusal("container_expired", "retry", restart=True), "ok"]
    assert world.settle(world.first, post.id, step=90).status == "published"
    assert (world.instagram.staged, world.instagram.live) == (2, ["Hello"])


def test_missed_slots_are_told_and_not_sent(world: World) -> None:
    luna = world.character()
    late = [world.post(luna, caption=f"p{n}", due_at=iso(START - timedelta(hours=4 + n))) for n in range(3)]
    held = world.post(luna, caption="held", status="draft", hold="approval", due_at=iso(START - timedelta(hours=4)))
    recent = world.post(luna, caption="recent", due_at=iso(START - timedelta(minutes=30)))
    for _ in range(4):
        world.first.tick()
    assert [world.store.get(p.id).status for p in (*late, held, recent)] == ["missed"] * 4 + ["published"]
    assert world.instagram.live == ["recent"]


def test_a_late_post_can_still_be_sent_by_hand(world: World) -> None:
    post = world.post(world.character(), due_at=iso(START - timedelta(days=1)))
    world.first.tick()
    assert world.store.get(post.id).status == "missed"
    assert world.first.publish_now(post.id).status == "published"


def test_the_stop_switch_stops_everything_and_loses_nothing(world: World) -> None:
    luna, mara = world.character(), world.character("Mara")
    one, two = world.post(luna), world.post(mara, caption="m")
    world.first.pause("holiday")
    world.first.tick()
    assert world.instagram.live == []
    with pytest.raises(Conflict):
        world.first.publish_now(one.id)
    world.first.pause("only Luna", luna.id)
    world.first.resume()
    assert world.instagram.live == ["m"]
    world.first.resume(luna.id)
    assert world.instagram.live == ["m", "Hello"]
    assert [world.store.get(p.id).status for p in (one, two)] == ["published"] * 2


def test_the_stop_switch_holds_back_what_is_only_staged(world: World) -> None:
    post = world.post(world.character())
    world.instagram.stage_script = [NotReady(5)]
    world.first.tick()
    world.first.pause("stop")
    world.forward(10)
    world.first.tick()
    assert (world.store.get(post.id).status, world.instagram.live) == ("scheduled", [])
    world.first.resume()
    assert (world.instagram.live, world.instagram.staged) == (["Hello"], 1)


def test_an_inactive_character_posts_nothing(world: World) -> None:
    luna = world.character()
    world.post(luna)
    world.characters.update(luna.id, {"is_active": False})
    world.first.tick()
    assert world.instagram.live == []


def test_dry_runs_go_the_whole_way_and_nothing_leaves(world: World) -> None:
    bare = world.characters.create({"name": "Bare"})
    post = world.post(bare, dry_run=True)
    world.first.tick()
    done = world.store.get(post.id)
    assert (done.status, done.platform_post_id) == ("dry_run", None)
    assert (world.instagram.live, world.instagram.published_calls) == ([], 1)


def test_the_global_dry_run_wins_at_the_last_moment(world: World) -> None:
    post = world.post(world.character())
    world.settings.change({"dryRun": True})
    world.first.tick()
    done = world.store.get(post.id)
    assert (done.status, done.dry_run, world.instagram.live) == ("dry_run", True, [])


def test_keys_that_went_missing_fail_the_post_instead_of_rehearsing_it(world: World) -> None:
    luna = world.character()
    post = world.post(luna)
    world.characters.update(luna.id, {"instagram_api_key": None})
    world.first.tick()
    done = world.store.get(post.id)
    assert done.status == "failed"
    assert done.error is not None and done.error["cause"] == "no_credentials"


def test_an_edit_after_the_claim_does_not_change_what_is_sent(world: World) -> None:
    post = world.post(world.character())
    world.instagram.stage_script = [lambda: world.store.save(post.id, "p1", caption="edited meanwhile")]
    world.first.tick()
    assert world.instagram.live == ["Hello"]


def test_a_minimum_gap_spreads_the_posts_of_one_account(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    world = World(tmp_path, make_settings(tmp_path, DALLA_MIN_GAP_MINUTES="5"))
    luna = world.character()
    for n in range(3):
        world.post(luna, caption=f"p{n}")
    counts = []
    for _ in range(12):
        world.first.tick()
        counts.append(len(world.instagram.live))
        world.forward(61)
    assert counts == [1] * 5 + [2] * 5 + [3] * 2
    world.close()


def test_two_processes_publish_each_post_once(world: World) -> None:
    characters = [world.character(f"C{n}") for n in range(12)]
    posts = [world.post(c, caption=c.name) for c in characters]
    processes = [world.first, world.process("p2"), world.process("p3")]
    with ThreadPoolExecutor(3) as pool:
        for _ in range(4):
            list(pool.map(lambda p: p.tick(), processes))
    assert sorted(world.instagram.live) == sorted(c.name for c in characters)
    assert {world.store.get(p.id).status for p in posts} == {"published"}


@pytest.mark.parametrize("jump", [3600, -3600])
def test_a_clock_that_jumps_publishes_nothing_twice(world: World, jump: int) -> None:
    luna = world.character()
    for n in range(3):
        world.post(luna, caption=f"p{n}")
    for n in range(6):
        world.first.tick()
        world.forward(jump if n == 1 else 15)
    world.forward(3600)
    world.first.tick()
    world.first.tick()
    assert sorted(world.instagram.live) == ["p0", "p1", "p2"]


def test_quiet_hours_hold_back_scheduled_posts_but_not_a_person(world: World) -> None:
    world.settings.change({"quietHours": "11:00-13:00"})
    luna = world.character(timezone="UTC")
    held, wanted = world.post(luna, caption="held"), world.post(luna, caption="wanted")
    world.first.publish_now(wanted.id)
    world.first.tick()
    assert world.instagram.live == ["wanted"]
    assert world.store.get(held.id).due_at == "2026-11-21T13:00:00.000Z"
    world.forward(3601)
    world.first.tick()
    assert world.instagram.live == ["wanted", "held"]


@pytest.mark.parametrize(
    ("hours", "now", "end"),
    [
        ("23:00-07:00", "2026-11-21T22:30:00+00:00", "2026-11-22T06:00:00.000Z"),  # 23:30 in Berlin
        ("23:00-07:00", "2026-11-21T05:59:59+00:00", "2026-11-21T06:00:00.000Z"),
        ("23:00-07:00", "2026-11-21T06:00:00+00:00", None),
        ("12:00-13:00", "2026-11-21T11:30:00+00:00", "2026-11-21T12:00:00.000Z"),
        ("", "2026-11-21T11:30:00+00:00", None),
        ("nonsense", "2026-11-21T11:30:00+00:00", None),
    ],
)
def test_when_quiet_hours_end(hours: str, now: str, end: str | None) -> None:
    found = quiet_until(hours, datetime.fromisoformat(now), ZoneInfo("Europe/Berlin"))
    assert (iso(found) if found else None) == end


def test_a_post_of_a_deleted_character_fails_plainly(world: World) -> None:
    luna = world.character()
    post = world.post(luna)
    world.characters.delete(luna.id)
    world.first.tick()
    done = world.store.get(post.id)
    assert done.status == "failed"
    assert done.error is not None and done.error["cause"] == "unknown_character"


def test_nothing_can_be_started_that_is_on_its_way_or_out(world: World) -> None:
    luna = world.character()
    for status in ("claimed", "uploading", "publishing", "published", "unconfirmed"):
        with pytest.raises(Conflict):
            world.first.publish_now(world.post(luna, status=status).id)


def test_listeners_hear_the_end_and_their_faults_change_nothing(world: World) -> None:
    heard: list[str] = []
    world.first.listeners += [lambda post: 1 / 0, lambda post: heard.append(post.status)]
    world.post(world.character())
    world.first.tick()
    assert heard == ["published"]
    assert world.instagram.live == ["Hello"]
