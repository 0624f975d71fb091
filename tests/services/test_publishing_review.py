"""What a review of publishing found: closing, stopping and switching amid a post, races, two characters on one account."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dalla.errors import Cancelled, InvalidInput
from dalla.services.publishing import _reference
from dalla.times import iso
from tests.conftest import make_settings
from tests.services.publishing_world import Look, World, refusal


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    (tmp_path / "data").mkdir()
    world = World(tmp_path, make_settings(tmp_path))
    yield world
    world.close()


def test_closing_the_app_amid_an_upload_does_not_cancel_the_post(world: World) -> None:
    post = world.post(world.character())
    world.instagram.stage_script = [Cancelled("The app is closing.")]  # nobody asked for it: the job's row says so
    world.first.tick()
    assert world.store.get(post.id).status == "uploading"
    assert world.settle(world.process("p2"), post.id).status == "published"
    assert world.instagram.live == ["Hello"]


@pytest.mark.parametrize("by_hand", [False, True])
def test_the_stop_switch_is_looked_at_again_just_before_the_post_goes_out(world: World, by_hand: bool) -> None:
    post = world.post(world.character())
    world.instagram.stage_script = [lambda: world.first.pause("stop")]
    world.first.publish_now(post.id) if by_hand else world.first.tick()
    held = world.store.get(post.id)
    assert (held.status, held.deferred_reason) == ("scheduled", "Publishing is stopped: stop.")
    assert world.instagram.live == []
    world.first.resume()
    assert world.settle(world.first, post.id).status == "published" and world.instagram.live == ["Hello"]
    assert world.instagram.staged == 1  # what was staged was used


def test_a_character_switched_to_rehearsals_amid_an_upload(world: World) -> None:
    character = world.character()
    post = world.post(character)
    world.instagram.stage_script = [lambda: world.characters.update(character.id, {"dry_run": True})]
    assert world.settle(world.first, post.id).status == "dry_run" and world.instagram.live == []


def test_a_dry_run_does_not_even_ask_what_became_of_a_post(world: World, tmp_path: Path) -> None:
    post = world.post(world.character())
    world.instagram.script = ["lost_after"]
    world.instagram.looks = [Look("not_yet", seconds=1)]
    world.first.tick()
    assert world.store.get(post.id).status == "publishing"
    world.settings = make_settings(tmp_path, DALLA_DRY_RUN="true")
    rehearsing = world.process("p2")
    world.instagram.looks = [AssertionError("asked")] * 9
    world.forward(60)
    rehearsing.tick()
    assert world.store.get(post.id).status == "publishing" and len(world.instagram.looks) == 9
    rehearsing.chores()


def test_the_answer_counts_also_when_the_lease_is_gone(world: World) -> None:
    post = world.post(world.character())

    def taken() -> None:
        world.forward(3600)  # the lease has run out meanwhile
        world.store.adopt("somebody", iso(world.now), iso(world.now + timedelta(minutes=9)))

    world.instagram.script = [taken]
    world.first.tick()
    done = world.store.get(post.id)
    assert (done.status, done.platform_post_id) == ("published", "id1")


def test_a_second_job_of_a_post_leaves_it_to_the_first(world: World) -> None:
    post = world.post(world.character())
    answers: list[Any] = []

    def again() -> None:
        job = SimpleNamespace(job=SimpleNamespace(id="job_old"))
        answers.append(world.first.run(job, {"post_id": post.id}))  # type: ignore[arg-type]

    world.first._working[post.id] = "job_new"
    world.store.claim("p1", iso(world.now), iso(world.now + timedelta(minutes=9)), gaps={}, skip=set())
    again()
    assert answers[0]["note"] == "Another task is at it." and world.instagram.published_calls == 0


def test_a_stale_look_at_the_jobs_does_not_cancel_a_post_that_was_taken_up_again(world: World) -> None:
    post = world.post(world.character())
    world.store.claim("p1", iso(world.now), iso(world.now + timedelta(minutes=9)), gaps={}, skip=set())
    publishing, jobs = world.first, world.first._jobs
    publishing._working[post.id] = "job_old"

    def get(id: str) -> Any:
        publishing._working[post.id] = "job_new"  # between the look at the list and the look at the job
        return SimpleNamespace(finished=True, status="completed")

    publishing._jobs = SimpleNamespace(get=get)  # type: ignore[assignment]
    publishing._renew(world.now)
    publishing._jobs = jobs
    assert world.store.get(post.id).status == "claimed"


def test_a_post_that_went_out_while_the_tick_was_under_way_counts_for_the_gap(world: World) -> None:
    luna = world.character()
    first, second = world.post(luna, "one"), world.post(luna, "two")
    before = iso(world.now)
    until = iso(world.now + timedelta(minutes=9))
    world.store.claim("p1", before, until, gaps={}, skip=set(), only=first.id)
    for status in ("uploading", "publishing"):
        world.store.transition(first.id, status, owned_by="p1")
    later = iso(world.now + timedelta(milliseconds=50))
    world.store.transition(first.id, "published", owned_by="p1", platform_post_id="1", published_at=later)
    assert world.store.claim("p1", before, until, gaps={"instagram": 300}, skip=set()) == []
    assert world.store.get(second.id).status == "scheduled"


def test_two_characters_on_one_account_share_its_pace(world: World) -> None:
    kai = world.character("Kai", instagram_account_id="17841400000000001")
    luna = world.character("Luna", instagram_account_id="17841400000000001")
    other = world.character("Zoe", instagram_account_id="17841400000000002")
    posts = [world.post(who, who.name) for who in (kai, luna, other)]
    world.first.tick()
    assert [world.store.get(post.id).status for post in posts] == ["published", "scheduled", "published"]
    world.forward(world.settings.min_gap_minutes * 60 + 1)
    world.first.tick()
    assert sorted(world.instagram.live) == ["Kai", "Luna", "Zoe"]


def test_a_stopped_character_does_not_hold_up_the_other_one_on_its_account(world: World) -> None:
    kai = world.character("Kai", instagram_account_id="1")
    luna = world.character("Luna", instagram_account_id="1")
    world.post(kai, "Kai")
    world.forward(1)
    late = world.post(luna, "Luna")
    world.first.pause("no", kai.id)
    world.first.tick()
    assert world.store.get(late.id).status == "published" and world.instagram.live == ["Luna"]


def test_post_now_gives_an_old_draft_its_retries(world: World) -> None:
    post = world.post(world.character(), status="draft", scheduled_at=None, due_at=None)
    world.forward(5 * 3600)
    world.instagram.stage_script = [refusal("server_error", "retry")]
    world.first.publish_now(post.id)
    assert world.store.get(post.id).status == "scheduled"
    assert world.settle(world.first, post.id).status == "published"


def test_a_missed_post_says_what_kept_it(world: World) -> None:
    post = world.post(world.character())
    world.first.pause("holidays")
    world.forward((world.settings.late_window_minutes + 1) * 60)
    world.first.tick()
    missed = world.store.get(post.id)
    assert missed.status == "missed" and "holidays" in (missed.error or {})["detail"]


@pytest.mark.parametrize(
    ("platform", "text", "id"),
    [
        ("twitter", "https://x.com/luna/status/1859999999999999999?s=20", "1859999999999999999"),
        ("twitter", "https://x.com/luna/status/1859999999999999999/photo/1", "1859999999999999999"),
        ("twitter", "https://twitter.com/i/web/status/1859999999999999999", "1859999999999999999"),
        ("twitter", " 1859999999999999999 ", "1859999999999999999"),
        ("instagram", "https://www.instagram.com/p/C1abc_-D/?img_index=1", "C1abc_-D"),
        ("instagram", "https://www.instagram.com/luna.x/reel/C1abcD/", "C1abcD"),
        ("instagram", "17900000000000001", "17900000000000001"),
    ],
)
def test_links_of_posts(platform: str, text: str, id: str) -> None:
    found, link = _reference(text, platform)
    assert found == id and link == (text.strip() if "://" in text else None)


@pytest.mark.parametrize(
    ("platform", "text"),
    [
        ("twitter", "https://x.com/luna_bot"),
        ("twitter", "https://evil.example/x.com/a/status/1859999999999999999"),
        ("twitter", "luna_bot"),
        ("instagram", "https://www.instagram.com/luna_bot/"),
        ("instagram", "https://x.com/luna/status/1859999999999999999"),
        ("instagram", ""),
    ],
)
def test_links_of_something_else(platform: str, text: str) -> None:
    with pytest.raises(InvalidInput):
        _reference(text, platform)
