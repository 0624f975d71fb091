"""Posts: what may be written, planned and taken back, and what is said about each before anything is sent."""

from __future__ import annotations

import io
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from dalla.engines.faces.base import Face
from dalla.errors import Conflict, InvalidInput, NotConfigured, NotFound, Stale
from dalla.records.post import POST_TRANSITIONS, PostFilter, PostOptions
from dalla.services.post_json import actions
from dalla.services.post_times import free_time, quiet_until, usual_times
from dalla.times import iso, parse
from tests.conftest import make_settings
from tests.services.posts_kit import Desk, age


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path, make_settings(tmp_path, DALLA_TIMEZONE="Europe/Berlin"))
    yield desk
    desk.close()


def codes(desk: Desk, post, level=None) -> set[str]:
    return {issue.code for issue in desk.posts.check(post) if level in (None, issue.level)}


# ---------------------------------------------------------------- writing


def test_a_draft_is_stored_with_its_pictures_framed(desk):
    post = desk.draft(media_ids=[desk.picture((832, 1216))], alt_texts=["a red wall"])
    assert (post.status, post.hold, post.dry_run, post.scheduled_at) == ("draft", None, False, None)
    [file] = post.files
    data = desk.blobs.get(file.key)
    image = Image.open(io.BytesIO(data))
    assert image.format == "JPEG" and image.size == (file.width, file.height)
    assert 0.799 <= file.width / file.height <= 1.911 and file.size_bytes == len(data)
    assert file.key == f"posts/{file.sha256[:2]}/{file.sha256}.jpg" and file.notes
    assert desk.store.get(post.id) == post
    assert desk.told()[-1] == {
        "id": post.id,
        "status": "draft",
        "platform": "instagram",
        "characterId": desk.luna.id,
        "hold": None,
    }


def test_the_same_picture_framed_the_same_way_is_one_file(desk):
    first = desk.draft(media_ids=[desk.picture((832, 1216))])
    second = desk.draft(media_ids=first.media_ids)
    white = desk.draft(media_ids=first.media_ids, options=PostOptions(background="white"))
    assert second.files == first.files
    assert white.files[0].sha256 != first.files[0].sha256
    assert len(list(desk.blobs.keys("posts/"))) == 2


def test_another_process_frames_to_the_same_bytes(desk, tmp_path):
    first = desk.draft(media_ids=[desk.picture((832, 1216))])
    other = Desk(tmp_path, desk.settings)
    try:
        again, _ = other.posts.compose(character_id=desk.luna.id, platform="instagram", media_ids=first.media_ids)
        assert again.files[0].sha256 == first.files[0].sha256
    finally:
        other.close()


def test_a_crop_asks_for_faces_and_keeps_them(desk):
    id = desk.picture((2000, 600))
    desk.faces.faces = [Face(1700, 100, 200, 200, 0.9)]
    right = desk.draft(media_ids=[id], options=PostOptions(fit="crop", ratio="1:1"))
    assert desk.faces.asked == 1
    desk.draft(media_ids=[id], options=PostOptions(fit="crop", ratio="1:1", focus=[0.1, 0.5]))
    desk.draft(media_ids=[id])
    assert desk.faces.asked == 1  # a chosen focus and padding need no faces
    assert right.files[0].width == right.files[0].height


def test_a_carousel_takes_the_ratio_of_its_first_picture(desk):
    ids = [desk.picture((1080, 1350)), desk.picture((1600, 900), (0, 0, 200))]
    post = desk.draft(media_ids=ids, kind="carousel")
    ratios = [file.width / file.height for file in post.files]
    assert [file.media_id for file in post.files] == ids
    assert ratios[0] == pytest.approx(0.8, abs=0.005) and ratios[1] == pytest.approx(ratios[0], abs=0.005)


@pytest.mark.parametrize("what", ["missing", "trashed"])
def test_a_picture_that_is_not_there_cannot_be_chosen(desk, what):
    id = desk.picture()
    if what == "missing":
        id = "media_404"
    else:
        desk.gallery.bulk("trash", [id])
    with pytest.raises(InvalidInput) as caught:
        desk.draft(media_ids=[id])
    assert caught.value.errors[0]["field"] == "mediaIds"
    with pytest.raises(InvalidInput):
        desk.posts.edit(desk.draft(media_ids=[]).id, {"media_ids": [id]})
    assert desk.posts.page(PostFilter()).total == 1  # the empty draft only


def test_a_picture_trashed_after_it_was_prepared_still_goes_out(desk):
    post = desk.draft(scheduled_at=desk.at(hours=1), status="scheduled")
    desk.gallery.bulk("trash", post.media_ids)
    assert codes(desk, post, "error") == set() and "picture_kept" in codes(desk, post)
    assert desk.posts.prepare(post).files == post.files
    desk.gallery.bulk("delete", post.media_ids)
    assert codes(desk, post, "error") == set()
    edited = desk.posts.edit(post.id, {"caption": "Other words"})
    assert edited.files == post.files and edited.status == "scheduled"
    # Framing it another way is not possible any more: the copy that is there stays.
    assert desk.posts.edit(post.id, {"options": PostOptions(background="black")}).files == post.files


def test_a_prepared_file_that_vanished_is_made_again_from_the_picture(desk):
    post = desk.draft()
    desk.blobs.delete(post.files[0].key)
    assert not desk.posts.is_prepared(post)
    assert desk.posts.prepare(post).files == post.files
    assert desk.blobs.exists(post.files[0].key)


def test_when_picture_and_prepared_file_are_gone_it_is_said(desk):
    post = desk.draft()
    desk.blobs.delete(post.files[0].key)
    desk.blobs.delete(desk.gallery.get(post.media_ids[0]).path)
    assert codes(desk, post, "error") == {"picture_file_gone"}
    with pytest.raises(InvalidInput) as caught:
        desk.posts.prepare(post)
    assert "restore" in caught.value.remedy
    with pytest.raises(InvalidInput):
        desk.posts.schedule(post.id, desk.at(hours=1))


def test_a_post_on_its_way_is_prepared_by_who_holds_it(desk):
    post = desk.put(desk.draft(), "claimed")
    desk.store.save(post.id, "w", files=[])
    prepared = desk.posts.prepare(desk.store.get(post.id))
    assert [file.media_id for file in prepared.files] == post.media_ids and prepared.status == "claimed"


def test_a_slot_of_a_rule_has_one_post_per_platform(desk):
    slot = {"source": "task", "task_id": "task_1", "slot": "2026-11-22T18:00:00.000Z", "status": "scheduled"}
    with ThreadPoolExecutor(4) as pool:
        made = {post.id for post in pool.map(lambda n: desk.draft(caption=f"try {n}", **slot), range(8))}
    assert len(made) == 1
    other = desk.draft(platform="twitter", **slot)
    assert other.id not in made and desk.posts.page(PostFilter()).total == 2


def test_what_a_rule_plans_is_kept_even_when_it_cannot_go_out(desk):
    desk.hosting.remedy = "Set PUBLIC_BASE_URL."
    post = desk.draft(source="task", task_id="t", slot="s", status="scheduled", scheduled_at=desk.at(minutes=-30))
    assert (post.status, post.due_at) == ("scheduled", desk.at(minutes=-30))
    assert codes(desk, post, "error") == {"no_public_url"}


def test_a_held_post_is_a_draft_with_its_time(desk):
    post = desk.draft(scheduled_at=desk.at(hours=2), status="scheduled", hold="approval", hold_reason="please look")
    assert (post.status, post.hold, post.scheduled_at) == ("draft", "approval", desk.at(hours=2))


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": "reel"},
        {"media_ids": [f"media_{n}" for n in range(60)]},
        {"caption": "x" * 60_000},
        {"platform": "myspace"},
        {"scheduled_at": "tomorrow"},
        {"scheduled_at": "2026-12-01"},
    ],
)
def test_nonsense_is_refused_by_field(desk, changes):
    with pytest.raises(InvalidInput) as caught:
        desk.draft(**changes)
    assert caught.value.errors
    assert desk.posts.page(PostFilter()).total == 0


def test_an_unknown_character_is_named(desk):
    with pytest.raises(NotFound, match="char_nobody"):
        desk.draft(character_id="char_nobody")


# ---------------------------------------------------------------- rehearsals


def test_dry_run_rules(desk, tmp_path):
    rule = desk.posts.effective_dry_run
    assert rule(desk.luna, "instagram", None) == (False, None)
    assert rule(desk.luna, "instagram", False) == (False, None)
    assert rule(desk.luna, "instagram", True)[0] is True
    bare = desk.characters.create({"name": "Bare", "instagram_account_id": "1"})
    dry, reason = rule(bare, "instagram", None)
    assert dry and "access token" in reason and "Bare" in reason
    with pytest.raises(NotConfigured, match="access token") as caught:
        rule(bare, "instagram", False)
    assert "Accounts" in caught.value.remedy
    shy = desk.character("Shy", dry_run=True)
    assert rule(shy, "instagram", False) == (True, "Posts of Shy are only rehearsed (set on the character).")
    desk.settings._values["dry_run"] = True
    assert "DALLA_DRY_RUN" in rule(desk.luna, "instagram", False)[1]


def test_without_keys_a_post_is_a_rehearsal_and_says_so(desk):
    bare = desk.characters.create({"name": "Bare"})
    post = desk.draft(character_id=bare.id, scheduled_at=desk.at(hours=1), status="scheduled")
    public = desk.posts.public(post)
    assert post.dry_run and public["dryRun"] and "Bare is not connected to Instagram" in public["dryRunReason"]
    # Keys that come later do not make it live by themselves.
    desk.characters.update(bare.id, {"instagram_api_key": "token-1234567", "instagram_account_id": "1"})
    assert desk.posts.get(post.id).dry_run
    assert desk.posts.edit(post.id, {"dry_run": False}).dry_run is False


def test_a_rehearsal_needs_no_keys_address_or_open_account(desk):
    desk.hosting.remedy = "Set PUBLIC_BASE_URL."
    desk.accounts.save(desk.luna.id, "instagram", breaker_reason="dead token")
    live, dry = desk.draft(), desk.draft(dry_run=True)
    assert {"no_public_url", "breaker"} <= codes(desk, live)
    assert not {"no_public_url", "breaker", "no_credentials"} & codes(desk, dry)


def test_the_switch_for_everything_shows_on_what_is_still_to_come_only(desk):
    waiting = desk.draft()
    done = desk.put(desk.draft(caption="gone out"), "published")
    unknown = desk.put(desk.draft(caption="who knows"), "unconfirmed")
    desk.settings._values["dry_run"] = True
    shown = [desk.posts.public(desk.posts.get(post.id))["dryRun"] for post in (waiting, done, unknown)]
    assert shown == [True, False, False]


# ---------------------------------------------------------------- checks


def test_a_fine_post_has_nothing_to_say(desk):
    assert desk.posts.check(desk.draft(media_ids=[desk.picture((1080, 1350))])) == []


@pytest.mark.parametrize(
    ("platform", "caption", "code", "level"),
    [
        ("instagram", "x" * 3000, "caption_too_long", "error"),
        ("instagram", " ".join(f"#tag{n}" for n in range(60)), "too_many_hashtags", "error"),
        ("instagram", " ".join(f"#tag{n}" for n in range(8)), "many_hashtags", "warning"),
        ("instagram", "", "caption_empty", "warning"),
        ("instagram", "  \n ", "caption_empty", "warning"),
        ("twitter", "日本語" * 50, "caption_too_long", "error"),
        ("twitter", "a" * 281, "caption_too_long", "error"),
    ],
)
def test_words_are_checked_by_the_platforms_rules(desk, platform, caption, code, level):
    post = desk.draft(platform=platform, caption=caption)
    assert code in codes(desk, post, level)
    if level == "error":
        with pytest.raises(InvalidInput) as caught:
            desk.draft(platform=platform, caption=caption, scheduled_at=desk.at(hours=1), status="scheduled")
        assert caught.value.errors[0]["field"] == "caption"
        assert caught.value.extra["issues"][0]["code"] == code


def test_long_alt_texts_are_an_error(desk):
    assert "alt_text_too_long" in codes(desk, desk.draft(alt_texts=["x" * 1001]), "error")


def test_a_story_may_be_silent(desk):
    assert "caption_empty" not in codes(desk, desk.draft(kind="story", caption=""))


@pytest.mark.parametrize(
    ("platform", "kind", "count", "code"),
    [
        ("instagram", "single", 0, "no_picture"),
        ("instagram", "single", 2, "too_many_pictures"),
        ("instagram", "story", 2, "too_many_pictures"),
        ("instagram", "carousel", 1, "too_few_pictures"),
        ("instagram", "carousel", 11, "too_many_pictures"),
        ("twitter", "carousel", 5, "too_many_pictures"),
        ("twitter", "story", 1, "kind"),
    ],
)
def test_pictures_are_counted(desk, platform, kind, count, code):
    ids = [desk.picture((400, 500), (n, 0, 0)) for n in range(count)]
    assert codes(desk, desk.draft(platform=platform, kind=kind, media_ids=ids), "error") == {code}


def test_a_small_picture_and_what_was_done_to_it_are_said(desk):
    found = codes(desk, desk.draft(media_ids=[desk.picture((64, 64))]))
    assert found == {"picture_small", "framed"}
    assert not {w["code"] for w in desk.draft(media_ids=[desk.picture((832, 1216))]).warnings}  # not worth keeping


def test_missing_keys_are_an_error_for_a_live_post(desk):
    post = desk.draft()
    desk.characters.update(desk.luna.id, {"instagram_api_key": None})
    assert codes(desk, post, "error") == {"no_credentials"}
    with pytest.raises(NotConfigured, match="access token"):
        desk.posts.schedule(post.id, desk.at(hours=1))


def test_a_public_address_is_needed_where_pictures_are_fetched(desk):
    desk.hosting.remedy = "Set PUBLIC_BASE_URL."
    assert codes(desk, desk.draft(), "error") == {"no_public_url"}
    assert codes(desk, desk.draft(platform="twitter"), "error") == set()
    with pytest.raises(NotConfigured) as caught:
        desk.draft(scheduled_at=desk.at(hours=1), status="scheduled")
    assert caught.value.remedy == "Set PUBLIC_BASE_URL."


def test_stops_are_warnings_for_plans_and_refusals_for_now(desk):
    desk.accounts.save(desk.luna.id, "instagram", breaker_reason="The token is dead.", paused=True)
    desk.leases.change_switch("paused", iso(desk.now), lambda _: {"all": {"reason": "holiday", "since": "x"}})
    post = desk.draft(scheduled_at=desk.at(hours=1), status="scheduled")
    assert {"breaker", "account_stopped", "paused"} <= {warning["code"] for warning in post.warnings}
    with pytest.raises(Conflict, match="holiday"):
        desk.posts.refuse_new(now=True, character_id=desk.luna.id, platform="instagram", media_ids=post.media_ids)
    desk.posts.refuse_new(now=False, character_id=desk.luna.id, platform="instagram", media_ids=post.media_ids)


def test_a_breaker_whose_time_is_over_is_not_mentioned(desk):
    desk.accounts.save(desk.luna.id, "instagram", breaker_reason="slow down", breaker_until=desk.at(minutes=-1))
    assert "breaker" not in codes(desk, desk.draft())


def test_an_expired_token_is_said(desk):
    desk.accounts.save(desk.luna.id, "instagram", token_expires_at=desk.at(days=-1))
    assert "token_expired" in codes(desk, desk.draft())
    desk.accounts.save(desk.luna.id, "instagram", token_fingerprint="of an older token")
    assert "token_expired" not in codes(desk, desk.draft())


def test_an_inactive_character_posts_nothing(desk):
    post = desk.draft()
    desk.characters.update(desk.luna.id, {"is_active": False})
    assert codes(desk, post, "error") == {"inactive"}


def test_a_deleted_character_is_said(desk):
    post = desk.draft()
    desk.characters.delete(desk.luna.id)
    assert "unknown_character" in codes(desk, post, "error")
    assert desk.posts.public(post)["characterName"] is None


def test_the_same_picture_or_caption_is_warned_about(desk):
    old = desk.put(desk.draft(caption="Good  morning"), "published")
    again = desk.draft(media_ids=old.media_ids, caption="Good morning")
    assert {"duplicate_picture", "duplicate_caption"} <= codes(desk, again, "warning")
    other = desk.draft(media_ids=[desk.picture(color=(1, 2, 3))], caption="Something else")
    assert not {"duplicate_picture", "duplicate_caption"} & codes(desk, other)
    elsewhere = desk.draft(platform="twitter", media_ids=old.media_ids, caption="Good morning")
    assert not {"duplicate_picture", "duplicate_caption"} & codes(desk, elsewhere)
    desk.settings._values["duplicate_days"] = 0
    assert not {"duplicate_picture", "duplicate_caption"} & codes(desk, again)


def test_a_clash_with_the_least_gap_is_warned_about(desk):
    desk.draft(scheduled_at=desk.at(hours=1), status="scheduled")
    near = desk.draft(scheduled_at=desk.at(hours=1, minutes=4), status="scheduled", caption="second")
    far = desk.draft(scheduled_at=desk.at(hours=1, minutes=9), status="scheduled", caption="third")
    assert "clash" in {w["code"] for w in near.warnings} and "clash" not in {w["code"] for w in far.warnings}


def test_quiet_hours_are_warned_about_in_the_characters_zone(desk):
    desk.settings._values["quiet_hours"] = "23:00-07:00"
    tokyo = desk.character("Tokyo", timezone="Asia/Tokyo")
    night = desk.now.astimezone(ZoneInfo("Asia/Tokyo")).replace(hour=2, minute=0) + timedelta(days=2)
    post = desk.draft(character_id=tokyo.id, scheduled_at=iso(night), status="scheduled")
    [warning] = [w for w in post.warnings if w["code"] == "quiet_hours"]
    assert "07:00" in warning["message"]
    here = desk.draft(scheduled_at=iso(night), status="scheduled")  # 18:00 in Berlin
    assert "quiet_hours" not in {w["code"] for w in here.warnings}


@pytest.mark.parametrize("minutes", [-2, -60 * 24, 366 * 6 * 24 * 60])
def test_a_time_that_has_passed_or_cannot_be_meant_is_refused(desk, minutes):
    with pytest.raises(InvalidInput) as caught:
        desk.draft(scheduled_at=desk.at(minutes=minutes), status="scheduled")
    assert caught.value.errors[0]["field"] == "scheduledAt"
    with pytest.raises(InvalidInput):
        desk.posts.schedule(desk.draft().id, desk.at(minutes=minutes))


def test_a_moment_ago_is_now(desk):
    assert desk.draft(scheduled_at=desk.at(seconds=-30), status="scheduled").status == "scheduled"


# ---------------------------------------------------------------- changing


def test_edit_changes_what_was_sent_only(desk):
    post = desk.draft(alt_texts=["a"])
    edited = desk.posts.edit(post.id, {"caption": "New words"}, if_revision=post.revision)
    assert (edited.caption, edited.alt_texts, edited.files) == ("New words", ["a"], post.files)
    assert edited.revision > post.revision
    assert desk.posts.edit(post.id, {}) == edited


def test_an_edit_from_an_old_page_is_refused_with_the_current_post(desk):
    post = desk.draft()
    desk.posts.edit(post.id, {"caption": "theirs"})
    with pytest.raises(Stale) as caught:
        desk.posts.edit(post.id, {"caption": "mine"}, if_revision=post.revision)
    assert caught.value.extra["current"]["caption"] == "theirs"


def test_alt_texts_follow_their_pictures(desk):
    a, b, c = (desk.picture((400, 500), (n * 50, 0, 0)) for n in range(3))
    post = desk.draft(media_ids=[a, b], alt_texts=["of a", "of b"], kind="carousel")
    edited = desk.posts.edit(post.id, {"media_ids": [b, c]})
    assert edited.alt_texts == ["of b", ""] and [file.media_id for file in edited.files] == [b, c]


def test_new_options_frame_anew(desk):
    post = desk.draft(media_ids=[desk.picture((832, 1216))])
    edited = desk.posts.edit(post.id, {"options": PostOptions(ratio="1:1")})
    assert edited.files[0].sha256 != post.files[0].sha256 and edited.files[0].width == edited.files[0].height


def test_a_planned_post_stays_fit_to_go_out(desk):
    post = desk.draft(scheduled_at=desk.at(hours=1), status="scheduled")
    with pytest.raises(InvalidInput):
        desk.posts.edit(post.id, {"caption": "x" * 3000})
    with pytest.raises(InvalidInput):
        desk.posts.edit(post.id, {"media_ids": []})
    assert desk.posts.get(post.id).caption == post.caption
    # What is wrong already (the address was taken away) does not keep it from being moved.
    desk.hosting.remedy = "Set PUBLIC_BASE_URL."
    assert desk.posts.edit(post.id, {"scheduled_at": desk.at(hours=3)}).due_at == desk.at(hours=3)


def test_changing_what_is_sent_forgets_what_was_staged(desk):
    post = desk.draft(scheduled_at=desk.at(hours=1), status="scheduled")
    desk.store.edit(post.id, remote={"container": "c1"}, attempts=2, deferred_reason="busy")
    edited = desk.posts.edit(post.id, {"caption": "Better words"})
    assert (edited.remote, edited.attempts, edited.deferred_reason) == ({}, 0, None)
    desk.store.edit(post.id, remote={"container": "c2"})
    assert desk.posts.edit(post.id, {"scheduled_at": desk.at(hours=2)}).remote == {"container": "c2"}


def test_taking_the_time_away_makes_it_a_draft(desk):
    post = desk.draft(scheduled_at=desk.at(hours=1), status="scheduled")
    edited = desk.posts.edit(post.id, {"scheduled_at": None})
    assert (edited.status, edited.scheduled_at, edited.due_at) == ("draft", None, None)


def test_giving_an_approved_post_a_time_plans_it(desk):
    post = desk.put(desk.draft(), "approved")
    edited = desk.posts.edit(post.id, {"scheduled_at": desk.at(hours=1)})
    assert (edited.status, edited.due_at) == ("scheduled", desk.at(hours=1))


@pytest.mark.parametrize("status", ["claimed", "uploading", "publishing", "published", "unconfirmed"])
def test_what_is_on_its_way_or_live_is_not_changed(desk, status):
    post = desk.put(desk.draft(), status)
    for work in (
        lambda: desk.posts.edit(post.id, {"caption": "other"}),
        lambda: desk.posts.schedule(post.id, desk.at(hours=1)),
        lambda: desk.posts.approve_one(post.id),
        lambda: desk.posts.retry(post.id),
        lambda: desk.posts.delete(post.id),
    ):
        with pytest.raises(Conflict):
            work()
    assert desk.posts.get(post.id) == post


# ---------------------------------------------------------------- planning


@pytest.mark.parametrize("status", ["draft", "approved", "scheduled", "failed", "missed", "cancelled", "dry_run"])
def test_schedule_from_every_resting_state(desk, status):
    post = desk.put(desk.draft(), status)
    if status == "failed":
        desk.store.edit(post.id, error={"detail": "refused"}, remote={"c": 1}, attempts=4)
    planned = desk.posts.schedule(post.id, desk.at(hours=5))
    assert (planned.status, planned.scheduled_at, planned.due_at) == ("scheduled", desk.at(hours=5), desk.at(hours=5))
    assert (planned.error, planned.hold) == (None, None)
    if status == "failed":
        assert (planned.remote, planned.attempts) == ({}, 0)


def test_approve_plans_what_has_a_time_and_keeps_the_rest(desk):
    timed = desk.draft(scheduled_at=desk.at(hours=2), hold="approval", status="scheduled")
    late = desk.draft(scheduled_at=desk.at(minutes=-20), hold="approval", source="task", task_id="t", slot="1")
    free = desk.draft(hold="approval")
    answer = desk.posts.approve([timed.id, late.id, free.id, "post_404"])
    assert answer["succeeded"] == [timed.id, late.id, free.id]
    assert answer["failed"][0]["id"] == "post_404" and answer["failed"][0]["code"] == "not_found"
    timed, late, free = (desk.posts.get(post.id) for post in (timed, late, free))
    assert (timed.status, timed.hold, timed.due_at) == ("scheduled", None, desk.at(hours=2))
    assert (late.status, late.due_at) == ("scheduled", iso(desk.now))
    assert (free.status, free.hold) == ("approved", None) and free.approved_at
    with pytest.raises(Conflict):
        desk.posts.approve_one(timed.id)


def test_a_post_without_its_caption_is_not_approved(desk):
    post = desk.draft(hold="caption", caption="")
    with pytest.raises(InvalidInput) as caught:
        desk.posts.approve_one(post.id)
    assert caught.value.errors[0]["field"] == "caption"
    desk.posts.edit(post.id, {"caption": "Here it is"})
    assert desk.posts.approve_one(post.id).status == "approved"


def test_retry_goes_at_its_time_or_now(desk):
    failed = desk.put(desk.draft(scheduled_at=desk.at(hours=3)), "failed")
    assert desk.posts.retry(failed.id).due_at == desk.at(hours=3)
    missed = desk.put(desk.draft(source="task", task_id="t", slot="1", scheduled_at=desk.at(hours=-5)), "missed")
    again = desk.posts.retry(missed.id)
    assert (again.status, again.scheduled_at, again.due_at) == ("scheduled", iso(desk.now), iso(desk.now))
    with pytest.raises(Conflict):
        desk.posts.retry(desk.draft().id)


@pytest.mark.parametrize("status", ["draft", "approved", "scheduled", "claimed", "uploading", "failed", "missed"])
def test_cancel_while_nothing_can_be_live(desk, status):
    post = desk.put(desk.draft(), status)
    heard = []
    desk.posts.listeners.append(heard.append)
    done = desk.posts.cancel(post.id)
    assert done.status == "cancelled" and done.lease_owner is None
    assert desk.posts.cancel(post.id).status == "cancelled"
    assert [p.status for p in heard] == ["cancelled"]


@pytest.mark.parametrize("status", ["publishing", "published", "unconfirmed"])
def test_what_may_be_live_is_not_cancelled(desk, status):
    post = desk.put(desk.draft(), status)
    with pytest.raises(Conflict):
        desk.posts.cancel(post.id)
    assert desk.posts.get(post.id).status == status


def test_a_listener_that_fails_changes_nothing(desk):
    desk.posts.listeners.append(lambda post: 1 / 0)
    assert desk.posts.cancel(desk.draft().id).status == "cancelled"


def test_duplicate_is_a_new_draft_with_the_same_content(desk):
    old = desk.put(desk.draft(alt_texts=["a"], source="task", task_id="t", slot="1"), "published")
    desk.gallery.bulk("trash", old.media_ids)
    copy = desk.posts.duplicate(old.id)
    assert copy.id != old.id and copy.status == "draft"
    assert (copy.caption, copy.media_ids, copy.alt_texts, copy.files) == (old.caption, old.media_ids, ["a"], old.files)
    assert (copy.task_id, copy.slot, copy.platform_post_id, copy.scheduled_at, copy.dry_run) == (None,) * 4 + (False,)


def test_delete_says_so(desk):
    post = desk.draft()
    desk.posts.delete(post.id)
    assert desk.told()[-1]["status"] == "deleted"
    with pytest.raises(NotFound):
        desk.posts.get(post.id)
    planned = desk.draft(scheduled_at=desk.at(hours=1), status="scheduled")
    with pytest.raises(Conflict):
        desk.posts.delete(planned.id)


def test_bulk_does_each_by_itself(desk):
    posts = [desk.draft(caption=f"post {n}") for n in range(3)]
    answer = desk.posts.bulk("schedule", [p.id for p in posts], at=desk.at(hours=1))
    assert answer == {"succeeded": [p.id for p in posts], "failed": []}
    due = [desk.posts.get(p.id).due_at for p in posts]
    assert due == [desk.at(hours=1), desk.at(hours=1, minutes=5), desk.at(hours=1, minutes=10)]
    assert desk.posts.bulk("cancel", [posts[0].id, "post_404"])["failed"][0]["id"] == "post_404"
    assert desk.posts.bulk("delete", [posts[0].id, posts[1].id])["succeeded"] == [posts[0].id]
    with pytest.raises(InvalidInput):
        desk.posts.bulk("explode", [posts[1].id])
    with pytest.raises(InvalidInput):
        desk.posts.bulk("schedule", [posts[1].id], at=desk.at(hours=-1))


def test_bulk_without_a_time_gives_each_the_next_free_one(desk):
    posts = [desk.draft(caption=f"post {n}") for n in range(3)]
    desk.posts.bulk("schedule", [p.id for p in posts])
    due = [parse(desk.posts.get(p.id).due_at or "") for p in posts]
    assert [moment.minute for moment in due] == [0, 0, 0]
    assert due[1] - due[0] == due[2] - due[1] == timedelta(hours=1)


# ---------------------------------------------------------------- free times


def test_the_next_free_time_is_the_next_full_hour_outside_the_quiet_ones(desk):
    desk.settings._values["quiet_hours"] = "20:00-08:00"
    desk.now = datetime(2026, 11, 21, 18, 30, tzinfo=UTC)  # 19:30 in Berlin
    assert desk.posts.next_free_slot(desk.luna.id, "instagram") == "2026-11-22T07:00:00.000Z"
    tokyo = desk.character("Tokyo", timezone="Asia/Tokyo")  # 03:30 there
    assert desk.posts.next_free_slot(tokyo.id, "instagram") == "2026-11-21T23:00:00.000Z"
    with pytest.raises(NotFound):
        desk.posts.next_free_slot("char_nobody", "instagram")


def test_the_next_free_time_keeps_clear_of_posts_and_rules(desk):
    desk.now = datetime(2026, 11, 21, 12, tzinfo=UTC)  # no day on which the clocks change
    first = parse(desk.posts.next_free_slot(desk.luna.id, "instagram"))
    desk.draft(scheduled_at=iso(first), status="scheduled")
    assert parse(desk.posts.next_free_slot(desk.luna.id, "instagram")) == first + timedelta(hours=1)
    assert parse(desk.posts.next_free_slot(desk.luna.id, "twitter")) == first  # another account
    rule = SimpleNamespace(at=iso(first), platforms=["twitter"], active=True, skipped=False)
    desk.posts.planned = lambda start, end, character_id=None, limit=0: [rule]
    following = parse(desk.posts.next_free_slot(desk.luna.id, "twitter"))
    assert following > first and (following.hour, following.minute) == (first.hour, first.minute)  # its usual time


def test_usual_times_come_from_what_was_planned_twice(desk):
    zone = ZoneInfo("Europe/Berlin")
    day = desk.now.astimezone(zone).replace(hour=18, minute=2, second=0)
    for n in (2, 3, 4):
        desk.draft(scheduled_at=iso(day + timedelta(days=n)), status="scheduled", caption=f"day {n}")
    free = parse(desk.posts.next_free_slot(desk.luna.id, "instagram")).astimezone(zone)
    assert (free.hour, free.minute) == (18, 0)
    assert usual_times([day, day], [], zone) == [(18, 0)] and usual_times([day], [], zone) == []


@settings(deadline=None)
@given(
    start=st.datetimes(datetime(2026, 1, 1), datetime(2027, 12, 31)),
    zone=st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata"]),
    taken=st.lists(st.integers(-600, 6000), max_size=20),
    quiet=st.sampled_from(["", "23:00-07:00", "12:00-13:30", "nonsense"]),
    usual=st.lists(st.tuples(st.integers(0, 23), st.sampled_from([0, 30])), max_size=3),
)
def test_a_free_time_is_always_ahead_free_and_not_quiet(start, zone, taken, quiet, usual):
    now, place, gap = start.replace(tzinfo=UTC), ZoneInfo(zone), timedelta(minutes=30)
    busy = [now + timedelta(minutes=n) for n in taken]
    found = free_time(now, place, usual=usual, taken=busy, gap=gap, quiet=quiet)
    assert found >= now + gap and all(abs(found - other) >= gap for other in busy)
    assert quiet_until(quiet, found, place) is None


@pytest.mark.parametrize(
    ("at", "until"),
    [
        ("2026-11-21T22:30", "2026-11-22T06:00"),
        ("2026-11-22T05:59", "2026-11-22T06:00"),
        ("2026-11-22T06:00", None),
        ("2026-11-21T21:59", None),
        ("2027-03-28T00:30", "2027-03-28T05:00"),  # the night the clocks go forward
        ("2027-10-31T00:30", "2027-10-31T06:00"),  # … and back
    ],
)
def test_quiet_hours_end_by_the_clock_on_the_wall(at, until):
    zone = ZoneInfo("Europe/Berlin")
    end = quiet_until("23:00-07:00", parse(at), zone)
    assert end == (parse(until) if until else None)


@pytest.mark.parametrize("text", ["", "24:00-07:00", "7-8", "23:70-07:00", "08:00-08:00", "night"])
def test_quiet_hours_that_are_none_keep_nothing_back(text):
    assert quiet_until(text, parse("2026-11-21T22:30"), ZoneInfo("UTC")) is None


# ---------------------------------------------------------------- answers and housekeeping


def test_actions_follow_the_transitions(desk):
    expected = {
        "draft": {"edit", "approve", "schedule", "publish", "cancel", "delete", "duplicate"},
        "approved": {"edit", "schedule", "publish", "cancel", "delete", "duplicate"},
        "scheduled": {"edit", "schedule", "publish", "cancel", "duplicate"},
        "claimed": {"cancel", "duplicate"},
        "uploading": {"cancel", "duplicate"},
        "publishing": {"duplicate"},
        "published": {"duplicate"},
        "unconfirmed": {"confirm", "duplicate"},
        "failed": {"edit", "schedule", "publish", "cancel", "retry", "delete", "duplicate"},
        "missed": {"edit", "schedule", "publish", "cancel", "retry", "delete", "duplicate"},
        "cancelled": {"edit", "schedule", "publish", "retry", "delete", "duplicate"},
        "dry_run": {"edit", "schedule", "publish", "retry", "delete", "duplicate"},
    }
    post = desk.draft()
    assert expected.keys() == POST_TRANSITIONS.keys()
    for status, names in expected.items():
        assert set(actions(post.with_(status=status))) == names, status


def test_the_answer_of_a_post(desk):
    post = desk.draft(media_ids=[desk.picture((832, 1216))], alt_texts=["a wall"])
    public = desk.posts.public(post, full=True)
    assert public["characterName"] == "Luna" and public["platformLabel"] == "Instagram"
    assert public["altText"] == "a wall" and public["options"]["madeWithAi"] is True
    assert public["media"][0]["thumbUrl"].startswith("/api/media/") and public["media"][0]["trashed"] is False
    assert public["files"][0]["url"] == f"/api/posts/files/{post.files[0].sha256}.jpg"
    assert public["attempts"] == [] and public["attemptCount"] == 0
    assert [issue["code"] for issue in public["issues"]] == ["framed"]
    desk.blobs.delete(post.files[0].key)
    assert desk.posts.public(post)["files"][0]["url"] is None


def test_lists_show_pictures_in_the_trash_and_leave_out_deleted_ones(desk):
    kept, gone = desk.picture(), desk.picture(color=(0, 0, 1))
    post = desk.draft(media_ids=[kept, gone], kind="carousel")
    desk.gallery.bulk("trash", [kept])
    desk.gallery.bulk("delete", [gone])
    [public] = desk.posts.public_many([post])
    assert [(m["id"], m["trashed"]) for m in public["media"]] == [(kept, True)]
    assert public["mediaIds"] == [kept, gone]


def test_preview_shows_the_bytes_and_stores_no_post(desk):
    answer = desk.posts.preview(
        character_id=desk.luna.id,
        platform="twitter",
        media_ids=[desk.picture()],
        caption="日本語",
        alt_texts=["a", " "],
    )
    assert answer["length"] == {"used": 6, "max": 280, "unit": "weighted"}
    assert answer["estimatedCost"] == pytest.approx(0.02)
    assert answer["dryRun"] is False and answer["issues"] == []
    sha256 = answer["files"][0]["sha256"]
    assert desk.posts.file(sha256).read_bytes()[:2] == b"\xff\xd8"
    assert desk.posts.page(PostFilter()).total == 0


def test_preview_tells_problems_instead_of_failing(desk):
    gone = desk.picture()
    desk.gallery.bulk("trash", [gone])
    answer = desk.posts.preview(
        character_id=desk.luna.id,
        platform="instagram",
        media_ids=[gone, "media_404"],
        caption="x" * 3000,
        scheduled_at=desk.at(hours=-2),
    )
    found = {issue["code"] for issue in answer["issues"]}
    assert {"picture_trashed", "picture_gone", "caption_too_long", "past", "too_many_pictures"} <= found
    assert answer["files"] == []
    bare = desk.characters.create({"name": "Bare"})
    live = desk.posts.preview(character_id=bare.id, platform="twitter", media_ids=[], dry_run=False)
    assert "no_credentials" in {issue["code"] for issue in live["issues"]}


@pytest.mark.parametrize("name", ["../../characters", "0" * 63, "g" * 64, "0" * 64])
def test_only_prepared_pictures_are_found(desk, name):
    with pytest.raises(NotFound):
        desk.posts.file(name)


def test_a_request_with_a_known_id_finds_its_post(desk):
    first = desk.draft(id="post_key")
    second = desk.draft(id="post_key", caption="other")
    assert second == first and desk.posts.page(PostFilter()).total == 1


def test_the_same_bytes_from_outside_are_one_picture(desk):
    from tests.services.posts_kit import picture_bytes

    a = desk.posts.image_to_media(desk.luna.id, picture_bytes())
    assert desk.posts.image_to_media(desk.luna.id, picture_bytes()) == a
    assert desk.gallery.get(a).character_id == desk.luna.id


def test_prepared_files_nobody_needs_are_removed_after_two_days(desk):
    kept = desk.draft(media_ids=[desk.picture((832, 1216))])
    preview = desk.posts.preview(character_id=desk.luna.id, platform="instagram", media_ids=[desk.picture((600, 700))])
    fresh = desk.posts.preview(character_id=desk.luna.id, platform="instagram", media_ids=[desk.picture((500, 600))])
    for sha256 in (kept.files[0].sha256, preview["files"][0]["sha256"]):
        age(desk.posts.file(sha256), 3 * 86400)
    assert desk.posts.clean_files() == 1
    assert desk.posts.file(kept.files[0].sha256).is_file() and desk.posts.file(fresh["files"][0]["sha256"]).is_file()
    with pytest.raises(NotFound):
        desk.posts.file(preview["files"][0]["sha256"])
    assert desk.posts.clean_files() == 0


def test_a_file_that_is_used_again_counts_as_fresh(desk):
    wish = {"character_id": desk.luna.id, "platform": "instagram", "media_ids": [desk.picture((600, 700))]}
    sha256 = desk.posts.preview(**wish)["files"][0]["sha256"]
    age(desk.posts.file(sha256), 3 * 86400)
    desk.posts.preview(**wish)
    assert desk.posts.clean_files() == 0
