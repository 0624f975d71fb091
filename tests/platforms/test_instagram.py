"""The Instagram adapter against a pretend Graph API over real HTTP: staging, publishing, lost answers."""

from __future__ import annotations

from datetime import timedelta

import pytest

from dalla.errors import Cancelled, NotConfigured, StorageError
from dalla.platforms.base import NotReady, PlatformError
from dalla.platforms.session import live_session
from tests.fakes.graph import ACCOUNT, TOKEN, GraphFake
from tests.platforms.instagram_kit import CAPTION, Pictures, Stage, jpeg


@pytest.fixture
def pictures():
    with Pictures() as server:
        yield server


@pytest.fixture
def fake():
    with GraphFake() as server:
        yield server


@pytest.fixture
def ig(tmp_path, fake, pictures):
    stage = Stage(tmp_path, fake, pictures)
    yield stage
    stage.account.session.close()


def test_a_picture_goes_out_with_every_word_of_it(ig, fake):
    snapshot = ig.snapshot(alt_texts=["A woman & her coffee"])
    ig.stage(snapshot)
    assert fake.published == []
    done = ig.publish(snapshot)
    (post,) = fake.published
    assert post["caption"] == CAPTION and post["alt_texts"] == ["A woman & her coffee"] and post["made_with_ai"]
    assert done.id == post["id"] and done.permalink == f"https://www.instagram.com/p/{post['code']}/"
    assert ig.remote["mediaId"] == post["id"] != ig.remote["container"]
    assert [name for name, _ in ig.watch.steps] == ["quota", "container", "poll", "permalink"]
    assert fake.tokens_in_urls == []
    assert all(call.headers["Authorization"] == f"Bearer {TOKEN}" for call in fake.requests)
    assert all(call.path.startswith("/v26.0/") for call in fake.requests)


def test_the_ai_flag_may_be_off(ig, fake):
    snapshot = ig.snapshot(options={"made_with_ai": False})
    ig.stage(snapshot)
    ig.publish(snapshot)
    assert [post["made_with_ai"] for post in fake.published] == [False]


def test_a_carousel_is_made_of_children_in_order(ig, fake):
    fake.ready_after = 2
    snapshot = ig.snapshot("carousel", 3, alt_texts=["one", "", "three"])
    ig.stage(snapshot)
    ig.publish(snapshot)
    (post,) = fake.published
    assert post["kind"] == "carousel" and post["alt_texts"] == ["one", "", "three"] and post["made_with_ai"]
    assert post["image_urls"] == [ig.pictures.public_url(file) for file in snapshot.files]


def test_a_carousel_goes_on_where_it_was_interrupted(ig, fake):
    snapshot = ig.snapshot("carousel", 3)
    fake.fault("create", code=2, http=500, skip=2)
    with pytest.raises(PlatformError) as caught:
        ig.stage_once(snapshot)
    assert caught.value.action == "retry" and caught.value.effect == "none" and len(ig.remote["children"]) == 2
    ig.stage(snapshot)
    ig.publish(snapshot)
    assert len(fake.published) == 1 and len(fake.containers) == 4  # 3 children, 1 parent: none was made twice


def test_a_story(ig, fake):
    snapshot = ig.snapshot("story", caption="not sent")
    ig.stage(snapshot)
    assert ig.publish(snapshot).permalink
    assert [(post["kind"], post["caption"]) for post in fake.published] == [("story", "")]


def test_it_waits_without_sleeping_long(ig, fake):
    fake.ready_after = 40
    snapshot = ig.snapshot()
    began = fake.now()
    with pytest.raises(NotReady):
        ig.stage_once(snapshot)
    assert (fake.now() - began).total_seconds() < 5.5
    ig.stage(snapshot)
    assert ig.waits and max(ig.waits) <= 15 and len(fake.containers) == 1
    ig.publish(snapshot)
    assert len(fake.published) == 1


def test_the_longer_it_takes_the_rarer_it_asks(ig, fake):
    fake.ready_after = 3600 * 20
    snapshot = ig.snapshot()
    with pytest.raises(PlatformError) as caught:
        ig.stage(snapshot, calls=600)
    assert caught.value.action == "retry" and len(fake.containers) == 4  # the first and three more
    assert 60.0 in ig.waits and 15.0 in ig.waits
    assert "container" not in ig.remote


def test_a_checkpoint_is_on_disk_before_the_next_request(ig, fake):
    fake.polls_until_finished = 99
    with pytest.raises(NotReady):
        ig.stage_once(ig.snapshot())
    with_container = next(n for n, saved in enumerate(ig.watch.saves) if saved.get("container"))
    assert ig.watch.saves[with_container]["containerAt"] and ig.watch.steps[1] == ("container", "ok")
    assert "publishTries" not in ig.remote


def test_an_expired_container_is_replaced(ig, fake):
    snapshot = ig.snapshot()
    ig.stage(snapshot)
    fake.advance(hours=25)
    fake.tokens[TOKEN].expires = fake.now().replace(year=2099)
    ig.remote.pop("ready")
    ig.stage(snapshot)
    ig.publish(snapshot)
    assert len(fake.published) == 1 and len(fake.containers) == 2


def test_a_container_of_other_words_is_never_published(ig, fake):
    ig.stage(ig.snapshot(caption="old words"))
    edited = ig.snapshot(caption="new words")
    ig.stage(edited)
    ig.publish(edited)
    assert [post["caption"] for post in fake.published] == ["new words"]


def test_nothing_is_created_after_a_cancel(ig, fake):
    ig.watch.cancelled = True
    with pytest.raises(Cancelled):
        ig.stage_once(ig.snapshot())
    assert fake.containers == {}


# ---------------------------------------------------------------- pictures Instagram cannot take


def test_a_fetch_that_fails_twice_does_not_lose_the_post(ig, fake):
    snapshot = ig.snapshot()
    fake.fault("create", code=9004, subcode=2207052, times=2)
    ig.stage(snapshot)
    ig.publish(snapshot)
    assert len(fake.published) == 1 and ig.waits == [5.0, 20.0]


@pytest.mark.parametrize("late", [False, True])
def test_a_picture_nobody_can_fetch_names_the_public_address(ig, fake, late):
    fake.late_fetch_errors = late
    snapshot = ig.snapshot()
    ig.pictures.pictures.clear()
    with pytest.raises(PlatformError) as caught:
        ig.stage(snapshot)
    assert (caught.value.cause, caught.value.action, caught.value.effect) == ("fetch_failed", "fix", "none")
    assert "public address" in caught.value.remedy and ig.waits.count(20.0) == 1
    assert len([c for c in fake.requests if c.method == "POST"]) == 4


def test_a_picture_that_is_html_is_refused(ig, fake):
    ig.pictures.content_type = "text/html"
    with pytest.raises(PlatformError) as caught:
        ig.stage(ig.snapshot())
    assert caught.value.cause == "fetch_failed"


@pytest.mark.parametrize(
    "data, cause",
    [
        (jpeg((832, 1216)), "aspect_ratio"),
        (jpeg((2000, 1000)), "aspect_ratio"),
        (jpeg((400, 500), progressive=True), "fetch_failed"),
    ],
)
def test_the_fake_refuses_what_instagram_refuses(ig, fake, data, cause):
    snapshot = ig.snapshot().model_copy(update={"files": [ig.pictures.add(data)]})
    with pytest.raises(PlatformError) as caught:
        ig.stage(snapshot)
    assert caught.value.cause == cause and caught.value.action == "fix"


def test_without_a_public_address_it_says_what_to_set(ig):
    def nowhere(file):
        raise NotConfigured("No public address.", remedy="Set PUBLIC_BASE_URL.")

    ig.pictures.public_url = nowhere
    with pytest.raises(PlatformError) as caught:
        ig.stage_once(ig.snapshot())
    assert (caught.value.cause, caught.value.action, caught.value.remedy) == ("hosting", "fix", "Set PUBLIC_BASE_URL.")


def test_a_carousel_of_one_is_refused_before_anything_is_sent(ig, fake):
    with pytest.raises(PlatformError) as caught:
        ig.stage_once(ig.snapshot("carousel", 1))
    assert caught.value.action == "fix" and fake.requests == []


# ---------------------------------------------------------------- quota


def test_a_full_quota_defers_until_the_oldest_post_is_a_day_old(ig, fake):
    fake.quota_total = 2
    first = fake.now()
    fake.post_by_hand(at=first)
    fake.advance(hours=5)
    fake.post_by_hand()
    with pytest.raises(PlatformError) as caught:
        ig.stage_once(ig.snapshot())
    error = caught.value
    assert (error.action, error.cause, error.effect, error.stops_account) == ("defer", "quota", "none", False)
    assert 24 * 3600 <= (error.until - first).total_seconds() <= 24 * 3600 + 120 and fake.containers == {}
    assert ig.account.extra["quota"]["used"] == 2
    fake.advance((error.until - fake.now()).total_seconds())
    snapshot = ig.snapshot()
    ig.stage(snapshot)
    ig.publish(snapshot)
    assert len(fake.published) == 3


def test_the_quota_is_read_again_when_a_post_was_staged_long_ago(ig, fake):
    snapshot = ig.snapshot()
    ig.stage(snapshot)
    fake.advance(hours=2)
    fake.quota_total = 0
    with pytest.raises(PlatformError) as caught:
        ig.stage_once(snapshot)
    assert caught.value.action == "defer"


def test_a_quota_that_cannot_be_read_does_not_stop_a_post(ig, fake):
    fake.fault("quota", code=1, http=500)
    snapshot = ig.snapshot()
    ig.stage(snapshot)
    ig.publish(snapshot)
    assert len(fake.published) == 1


def test_a_quota_that_fills_up_in_between_is_told_by_the_publish(ig, fake):
    snapshot = ig.snapshot()
    ig.stage(snapshot)
    fake.quota_total = 0
    with pytest.raises(PlatformError) as caught:
        ig.publish(snapshot)
    assert (caught.value.action, caught.value.effect) == ("defer", "none")


# ---------------------------------------------------------------- the outage that answers 100/33


def test_a_storm_of_unreadable_objects_does_not_lose_the_post(ig, fake):
    fake.fault("read", code=100, subcode=33, times=10_000)
    fake.fault("permalink", code=100, subcode=33, times=10_000)
    snapshot = ig.snapshot("carousel", 2)
    ig.stage(snapshot)
    done = ig.publish(snapshot)
    assert len(fake.published) == 1 and done.id == fake.published[0]["id"] and done.permalink is None
    assert 45 <= sum(ig.waits) + 10 < 200


def test_published_too_early_in_a_storm_waits_on(ig, fake):
    fake.ready_after = 90
    fake.fault("read", code=100, subcode=33, times=10_000)
    snapshot = ig.snapshot()
    ig.stage(snapshot)
    with pytest.raises(PlatformError) as caught:
        ig.publish(snapshot)
    assert (caught.value.cause, caught.value.action, caught.value.effect) == ("not_ready", "defer", "none")
    fake.advance(60)
    ig.stage(snapshot)
    ig.publish(snapshot)
    assert len(fake.published) == 1


# ---------------------------------------------------------------- lost and doubtful answers of publish


@pytest.mark.parametrize(
    "fault",
    [
        {"cut": True},
        {"code": 4, "subcode": 2207051},
        {"code": 2, "http": 500, "transient": True},
        {"http": 502, "text": "<html>Bad gateway</html>"},
        {"http": 200, "text": '{"id": "179'},
        {"http": 200, "text": "{}"},
        {"code": 24, "subcode": 2207006},
        {"code": 99999},
    ],
    ids=lambda fault: "-".join(str(v) for v in fault.values())[:30],
)
@pytest.mark.parametrize("prefix", ["", "/facebook"])
def test_an_effect_whose_answer_is_spoilt_is_found(tmp_path, pictures, fault, prefix):
    with GraphFake(prefix=prefix) as fake:
        ig = Stage(tmp_path, fake, pictures)
        snapshot = ig.snapshot()
        ig.stage(snapshot)
        fake.fault("publish", effect=True, **fault)
        with pytest.raises(PlatformError) as caught:
            ig.publish(snapshot)
        assert caught.value.effect == "unknown"
        seen = ig.look(snapshot)
        assert seen.state == "published" and seen.post.id == fake.published[0]["id"]
        assert len(fake.published) == 1
        ig.account.session.close()


def test_spam_block_stops_the_account_for_a_day(ig, fake):
    snapshot = ig.snapshot()
    ig.stage(snapshot)
    fake.fault("publish", code=4, subcode=2207051, effect=True)
    with pytest.raises(PlatformError) as caught:
        ig.publish(snapshot)
    error = caught.value
    assert error.stops_account and error.action == "ask" and error.effect == "unknown"
    assert 23.9 < (error.until - fake.now()).total_seconds() / 3600 <= 24


def test_a_spam_block_without_effect_is_waited_out(ig, fake):
    snapshot = ig.snapshot()
    ig.stage(snapshot)
    fake.fault("publish", code=4, subcode=2207051)
    with pytest.raises(PlatformError) as first:
        ig.publish(snapshot)
    assert ig.look_until_clear(snapshot).state == "not_there"
    with pytest.raises(PlatformError) as again:
        ig.stage_once(snapshot)
    assert again.value.until - first.value.until < timedelta(seconds=1) and again.value.stops_account
    assert (again.value.cause, again.value.effect) == ("spam_block", "none")
    assert len([c for c in fake.requests if c.path.endswith("media_publish")]) == 1
    fake.tokens[TOKEN].expires = fake.now().replace(year=2099)
    fake.advance(hours=24)
    ig.stage(snapshot)
    ig.publish(snapshot)
    assert len(fake.published) == 1


def test_a_throttled_publish_is_not_repeated_at_once(ig, fake):
    snapshot = ig.snapshot()
    ig.stage(snapshot)
    fake.fault("publish", code=80002)
    with pytest.raises(PlatformError):
        ig.publish(snapshot)
    assert ig.look_until_clear(snapshot).state == "not_there"
    with pytest.raises(PlatformError) as again:
        ig.stage_once(snapshot)
    assert again.value.action == "defer"
    fake.advance(15 * 60)
    ig.stage(snapshot)
    ig.publish(snapshot)
    assert len(fake.published) == 1 and len(fake.containers) == 1


def test_a_full_disk_after_the_publish_does_not_hide_the_id(ig, fake):
    snapshot = ig.snapshot()
    ig.stage(snapshot)
    save, full = ig.watch.save, iter([False, True])

    def fail(remote):
        if next(full):
            raise StorageError("The disk is full.")
        save(remote)

    ig.watch.save = fail
    assert ig.publish(snapshot).id == fake.published[0]["id"]


def test_a_lost_answer_without_effect_is_tried_again_after_a_minute_only(ig, fake):
    snapshot = ig.snapshot()
    ig.stage(snapshot)
    fake.fault("publish", cut=True)
    with pytest.raises(PlatformError):
        ig.publish(snapshot)
    early = ig.look(snapshot)
    assert early.state == "not_yet" and 5 <= early.seconds <= 62
    fake.advance(early.seconds)
    assert ig.look(snapshot, 1).state == "not_there"
    ig.stage(snapshot)
    ig.publish(snapshot)
    assert len(fake.published) == 1


def test_after_two_lost_answers_a_person_decides(ig, fake):
    snapshot = ig.snapshot()
    ig.stage(snapshot)
    for _ in range(2):
        fake.fault("publish", cut=True)
        with pytest.raises(PlatformError):
            ig.publish(snapshot)
        seen = ig.look_until_clear(snapshot)
    assert seen.state == "unknown" and fake.published == []


def test_a_connection_that_was_never_made_has_no_effect(ig, fake):
    snapshot = ig.snapshot()
    ig.stage(snapshot)
    ig.account.session.close()
    fake.stop()
    with pytest.raises(PlatformError) as caught:
        ig.publish(snapshot)
    assert (caught.value.effect, caught.value.action, caught.value.cause) == ("none", "retry", "network")


def test_live_but_not_found_is_said_and_never_guessed(tmp_path, pictures):
    with GraphFake(prefix="/facebook") as fake:
        ig = Stage(tmp_path, fake, pictures)
        snapshot = ig.snapshot()
        ig.stage(snapshot)
        fake.fault("publish", cut=True, effect=True)
        with pytest.raises(PlatformError):
            ig.publish(snapshot)
        fake.accounts[ACCOUNT].posts[-1]["caption"] = "changed on the way"
        fake.post_by_hand(caption="something else")
        seen = ig.look_until_clear(snapshot)
        assert seen.state == "unknown" and "live" in seen.detail and seen.post is None
        ig.account.session.close()


def test_a_post_of_ours_at_the_same_time_is_not_taken_for_it(ig, fake):
    snapshot = ig.snapshot()
    earlier = fake.post_by_hand(caption="the one before")
    ig.stage(snapshot)
    fake.fault("publish", cut=True, effect=True)
    with pytest.raises(PlatformError):
        ig.publish(snapshot)
    assert ig.look(snapshot).state == "not_yet"  # two could be it
    ig.remote["ours"] = [earlier]
    seen = ig.look(snapshot)
    assert seen.state == "published" and seen.post.id == fake.published[-1]["id"]


def test_two_posts_at_the_same_time_are_not_told_apart_without_captions(ig, fake):
    snapshot = ig.snapshot()
    ig.stage(snapshot)
    fake.fault("publish", cut=True, effect=True)
    with pytest.raises(PlatformError):
        ig.publish(snapshot)
    fake.post_by_hand(caption=CAPTION)
    assert ig.look_until_clear(snapshot).state == "unknown"


def test_a_post_that_is_listed_late_is_waited_for(ig, fake):
    fake.list_lag = 30
    snapshot = ig.snapshot()
    ig.stage(snapshot)
    fake.fault("publish", cut=True, effect=True)
    with pytest.raises(PlatformError):
        ig.publish(snapshot)
    assert ig.look(snapshot).state == "not_yet"
    assert ig.look_until_clear(snapshot).post.id == fake.published[0]["id"]


def test_an_unreadable_container_is_asked_for_a_few_times_then_a_person_decides(ig, fake):
    snapshot = ig.snapshot()
    ig.stage(snapshot)
    fake.fault("publish", cut=True)
    with pytest.raises(PlatformError):
        ig.publish(snapshot)
    fake.fault("read", code=100, subcode=33, times=10_000)
    assert ig.look_until_clear(snapshot).state == "unknown"
    fake.stop()
    assert ig.look(snapshot, 0).state == "not_yet" and ig.look(snapshot, 9).state == "unknown"


def test_a_dead_container_is_staged_anew(ig, fake):
    snapshot = ig.snapshot()
    ig.stage(snapshot)
    fake.fault("publish", cut=True)
    with pytest.raises(PlatformError):
        ig.publish(snapshot)
    fake.advance(hours=25)
    fake.tokens[TOKEN].expires = fake.now().replace(year=2099)
    seen = ig.look(snapshot)
    assert seen.state == "not_there" and seen.restart


def test_a_published_story_is_found(ig, fake):
    snapshot = ig.snapshot("story", caption="")
    ig.stage(snapshot)
    fake.fault("publish", cut=True, effect=True)
    with pytest.raises(PlatformError):
        ig.publish(snapshot)
    assert ig.look(snapshot).post.id == fake.published[0]["id"]


def test_a_container_that_is_live_is_never_published_again(ig, fake):
    snapshot = ig.snapshot()
    ig.stage(snapshot)
    ig.publish(snapshot)
    ig.remote = {k: v for k, v in ig.remote.items() if k in ("of", "container", "containerAt")}
    ig.stage(snapshot)
    with pytest.raises(PlatformError) as caught:
        ig.publish(snapshot)
    assert caught.value.effect == "unknown" and len(fake.published) == 1
    assert len([c for c in fake.requests if c.path.endswith("media_publish")]) == 1


def test_a_media_id_on_disk_settles_it_without_a_request(ig, fake):
    ig.remote, ig.started = {"mediaId": "178"}, "2026-01-01T00:00:00Z"
    assert ig.look(ig.snapshot()).post.id == "178" and fake.requests == []


# ---------------------------------------------------------------- the token's way


def test_where_the_header_is_not_read_the_token_travels_in_the_body(ig, fake):
    fake.header_tokens = False
    snapshot = ig.snapshot()
    ig.stage(snapshot)
    ig.publish(snapshot)
    assert len(fake.published) == 1 and fake.tokens_in_urls == []
    assert ig.account.extra["tokenInBody"] and all(TOKEN not in str(c.query) + c.path for c in fake.requests)
    assert sum("Authorization" in c.headers for c in fake.requests) == 1  # only the first request tried the header


def test_no_error_carries_the_token(ig, fake):
    fake.set_token_state(TOKEN, "expired")
    with pytest.raises(PlatformError) as caught:
        ig.stage_once(ig.snapshot())
    assert TOKEN not in str(caught.value.problem()) and TOKEN not in str(caught.value)
    assert (caught.value.action, caught.value.stops_account, caught.value.cause) == ("reconnect", True, "token_expired")
    assert caught.value.trace == "AFakeTrace0123456789"


def test_a_stranger_account_id(tmp_path, pictures):
    with GraphFake({ACCOUNT: TOKEN, "17841400000000002": "OTHERTOKEN1234567890"}) as fake:
        ig = Stage(tmp_path, fake, pictures)
        ig.account.keys["instagram_account_id"] = "17841400000000002"
        with pytest.raises(PlatformError):
            ig.stage(ig.snapshot())
        assert fake.containers == {}
        ig.account.session.close()


@pytest.mark.parametrize(
    "keys", [{}, {"instagram_api_key": TOKEN}, {"instagram_api_key": TOKEN, "instagram_account_id": "@luna"}]
)
def test_missing_keys_are_named(ig, keys):
    ig.account.keys = keys
    with pytest.raises(PlatformError) as caught:
        ig.stage_once(ig.snapshot())
    assert caught.value.cause == "credentials" and caught.value.remedy


# ---------------------------------------------------------------- words


def test_words(ig):
    codes = {i.code for i in ig.platform.check_text("single", "#a #b #c #d #e #f", ["x" * 1001])}
    assert "alt_text_length" in codes and len(codes) == 2
    errors = [i for i in ig.platform.check_text("single", "x" * 2201, []) if i.level == "error"]
    assert len(errors) == 1
    assert [i.level for i in ig.platform.check_text("story", "words", [])] == ["warning"]
    assert ig.platform.check_text("single", CAPTION, ["fine"]) == []


def test_a_session_of_its_own_for_each_account():
    first, second = live_session(), live_session()
    assert first is not second and first.cookies is not second.cookies


def test_after_not_ready_the_container_is_waited_for_again(ig, fake):
    snapshot = ig.snapshot()
    ig.stage(snapshot)
    fake.fault("publish", code=9007, subcode=2207027)
    with pytest.raises(PlatformError):
        ig.publish(snapshot)
    fake.ready_after = 60
    with pytest.raises(NotReady):
        ig.stage_once(snapshot)
