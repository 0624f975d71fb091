"""Posting to X, against a pretend X that verifies signatures and counts what became visible."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
import requests

from dalla.errors import Cancelled
from dalla.platforms.base import NotReady, PlatformError
from dalla.platforms.outbox import outbox_session
from dalla.platforms.x import X
from dalla.records.post import PostOptions
from dalla.times import iso, now_iso, parse
from tests.conftest import make_settings
from tests.fakes.x import XFake
from tests.platforms.x_kit import Files, Watcher, account, jpeg, snapshot


@pytest.fixture
def fake():
    with XFake() as running:
        yield running


@pytest.fixture
def settings(tmp_path, fake):
    return make_settings(tmp_path, X_API_URL=fake.url)


@pytest.fixture
def x(settings):
    return X(settings)


def post(x, who, snap, files=None, watch=None, remote=None):
    watch = watch or Watcher()
    remote = x.stage(who, snap, remote or {}, files or Files(), watch)
    return x.publish(who, snap, remote, watch), remote


# ------------------------------------------------------------ the plain way


def test_a_post_with_a_picture(x, fake):
    files = Files(jpeg())
    done, _ = post(x, account(fake), snapshot("Morning light ☀️ & tea", files, alt_texts=["A cup"]), files)
    (live,) = fake.posted
    assert done.id == live["id"]
    assert done.permalink == f"https://x.com/i/web/status/{done.id}"
    assert abs(parse(done.published_at) - datetime.now(UTC)) < timedelta(minutes=1)
    assert live["written"] == "Morning light ☀️ & tea"
    assert live["altTexts"] == ["A cup"] and live["madeWithAi"] is True
    assert live["sha256"] == [files.files[0].sha256]


def test_four_pictures_keep_their_order_and_descriptions(x, fake):
    files = Files(*(jpeg((i * 40, 0, 0)) for i in range(4)))
    who = account(fake)
    who.extra["username"] = "luna"
    done, _ = post(x, who, snapshot("Four", files, kind="carousel", alt_texts=["a", "", "c"]), files)
    (live,) = fake.posted
    assert live["sha256"] == [f.sha256 for f in files.files]
    assert live["altTexts"] == ["a", "", "c", ""]
    assert done.permalink == f"https://x.com/luna/status/{done.id}"


def test_text_alone_and_no_ai_flag(x, fake):
    post(x, account(fake), snapshot("Only words"))
    files = Files(jpeg())
    post(x, account(fake), snapshot("A photo", files, options=PostOptions(made_with_ai=False)), files)
    assert [p["madeWithAi"] for p in fake.posted] == [False, False]
    assert fake.posted[0]["mediaIds"] == []


def test_nothing_to_post_is_refused_before_sending(x, fake):
    with pytest.raises(PlatformError) as err:
        x.publish(account(fake), snapshot("  "), {}, Watcher())
    assert (err.value.cause, err.value.action) == ("empty", "fix")
    assert fake.requests == []


def test_the_old_upload_address_is_never_used(x, fake):
    files = Files(jpeg())
    post(x, account(fake), snapshot("New ways", files), files)
    assert not [c for c in fake.requests if c.path.startswith("/1.1/")]
    assert {c.path for c in fake.requests} == {"/2/media/upload", "/2/tweets"}


# ------------------------------------------------------------ signing


def test_every_wrong_key_is_noticed(x, fake):
    for field in fake.user.keys:
        with pytest.raises(PlatformError) as err:
            post(x, account(fake, **{field: "wrong"}), snapshot("Hello"))
        assert (err.value.cause, err.value.action, err.value.stops_account) == ("keys_refused", "reconnect", True)
    assert fake.posted == []


def test_a_clock_that_is_wrong(x, fake):
    fake.offset = 3600
    with pytest.raises(PlatformError) as err:
        post(x, account(fake), snapshot("Hello"))
    assert err.value.cause == "clock" and not err.value.stops_account


def test_a_nonce_is_accepted_once(fake, x):
    x.check(account(fake))
    header = fake.requests[0].headers["Authorization"]
    assert requests.get(fake.url + "/2/users/me", headers={"Authorization": header}, timeout=5).status_code == 401


def test_query_parameters_are_signed(x, fake):
    look = x.look(account(fake), snapshot("Nothing"), {}, now_iso(), 0, Watcher())
    assert look.state == "not_yet"
    assert fake.calls("GET", f"/2/users/{fake.user.id}/tweets")


# ------------------------------------------------------------ uploads


def test_large_pictures_go_in_chunks(settings, fake):
    x = X(settings, simple_max=100, chunk=200)
    files = Files(jpeg(size=(300, 300)))
    post(x, account(fake), snapshot("Chunks", files), files)
    chunks = [c for c in fake.requests if c.path.endswith("/append")]
    assert len(chunks) == -(-files.files[0].size_bytes // 200) > 3
    assert fake.posted[0]["sha256"] == [files.files[0].sha256]


def test_a_gif_waits_until_x_has_worked_on_it(x, fake):
    fake.gif_steps = 2
    files = Files(b"GIF89a" + b"\0" * 50, mime="image/gif")
    snap, watch = snapshot("Moving", files), Watcher()
    with pytest.raises(NotReady) as wait:
        x.stage(account(fake), snap, {}, files, watch)
    assert wait.value.seconds > 0
    with pytest.raises(NotReady):
        x.stage(account(fake), snap, watch.saved[-1], files, watch)
    remote = x.stage(account(fake), snap, watch.saved[-1], files, watch)
    x.publish(account(fake), snap, remote, watch)
    assert files.reads == 1 and len(fake.posted) == 1
    assert fake.media[fake.posted[0]["mediaIds"][0]].category == "tweet_gif"


def test_staging_continues_where_it_ended(x, fake):
    files = Files(jpeg((1, 1, 1)), jpeg((9, 9, 9)))
    snap, watch = snapshot("Two", files, kind="carousel", alt_texts=["a", "b"]), Watcher()
    fake.lose_answer("/2/media/metadata")
    with pytest.raises(PlatformError) as err:
        x.stage(account(fake), snap, {}, files, watch)
    assert (err.value.action, err.value.effect) == ("retry", "none")
    post(x, account(fake), snap, files, watch, remote=watch.saved[-1])
    assert len(fake.calls("POST", "/2/media/upload")) == 2
    assert fake.posted[0]["altTexts"] == ["a", "b"]


def test_checkpoints_that_no_longer_hold_are_uploaded_anew(x, fake, settings):
    files = Files(jpeg())
    snap = snapshot("Later", files)
    remote = x.stage(account(fake), snap, {}, files, Watcher())
    tomorrow = X(settings, now=lambda: datetime.now(UTC) + timedelta(hours=23, minutes=45))
    tomorrow.stage(account(fake), snap, remote, files, Watcher())
    assert len(fake.media) == 2
    other = Files(jpeg((0, 0, 255)))
    again = x.stage(account(fake), snapshot("Later", other), remote, other, Watcher())
    assert again["media"][0]["sha256"] == other.files[0].sha256 and len(fake.media) == 3


def test_an_upload_that_x_forgot_is_staged_anew(x, fake):
    files = Files(jpeg())
    snap = snapshot("Gone", files)
    remote = x.stage(account(fake), snap, {}, files, Watcher())
    fake.media.clear()
    with pytest.raises(PlatformError) as err:
        x.publish(account(fake), snap, remote, Watcher())
    assert (err.value.cause, err.value.action, err.value.restart, err.value.effect) == (
        "media_expired",
        "retry",
        True,
        "none",
    )


def test_a_stop_is_heard_between_uploads(x, fake):
    files, watch = Files(jpeg()), Watcher()
    watch.cancelled = True
    with pytest.raises(Cancelled):
        x.stage(account(fake), snapshot("Stop", files), {}, files, watch)
    assert fake.requests == []


def test_no_picture_and_too_large_ones_are_the_pictures_fault(x, fake):
    for data, cause in ((b"<html>", "picture_refused"), (b"\xff\xd8\xff" + bytes(5_300_000), "picture_too_large")):
        files = Files(data)
        with pytest.raises(PlatformError) as err:
            x.stage(account(fake), snapshot("Bad", files), {}, files, Watcher())
        assert (err.value.cause, err.value.action) == (cause, "fix")


# ------------------------------------------------------------ lost answers


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (0, b""),
        (500, b"oops"),
        (502, "<html>bad gateway</html>"),
        (504, b""),
        (201, b'{"data": {"id": "12'),
        (200, "<p>hi</p>"),
    ],
)
def test_a_lost_answer_is_found_again(x, fake, status, body):
    files, watch = Files(jpeg()), Watcher()
    snap = snapshot("Read example.com & https://Example.com/a?b=1 <3 #luna", files)
    remote = x.stage(account(fake), snap, {}, files, watch)
    began = now_iso()
    fake.lose_answer(status=status, body=body)
    with pytest.raises(PlatformError) as err:
        x.publish(account(fake), snap, remote, watch)
    assert err.value.effect == "unknown"
    look = x.look(account(fake), snap, remote, began, 0, watch)
    assert look.state == "published" and look.post.id == fake.posted[0]["id"]
    assert look.post.published_at
    assert len(fake.posted) == 1


@pytest.mark.parametrize(
    "caption", ["Only words, example.com/x and “quotes” & more", "", "日本語 👨‍👩‍👧 https://a.example.org/"]
)
def test_words_or_pictures_are_enough_to_find_it(x, fake, caption):
    files = Files() if caption else Files(jpeg())
    snap = snapshot(caption, files)
    remote = x.stage(account(fake), snap, {}, files, Watcher())
    fake.lose_answer()
    with pytest.raises(PlatformError):
        x.publish(account(fake), snap, remote, Watcher())
    assert x.look(account(fake), snap, remote, now_iso(), 0, Watcher()).state == "published"


def test_the_timeline_lags_behind(x, fake):
    fake.lag = 2
    snap, remote = snapshot("Slow timeline"), {}
    fake.lose_answer()
    with pytest.raises(PlatformError):
        x.publish(account(fake), snap, remote, Watcher())
    looks = [x.look(account(fake), snap, remote, now_iso(), n, Watcher()) for n in range(3)]
    assert [k.state for k in looks] == ["not_yet", "not_yet", "published"]
    assert [k.seconds for k in looks[:2]] == [30, 150]


def test_what_never_arrived_stays_unknown(x, fake):
    snap, remote = snapshot("Never there"), {}
    fake.fail_next("/2/tweets", 0)
    with pytest.raises(PlatformError) as err:
        x.publish(account(fake), snap, remote, Watcher())
    assert err.value.effect == "unknown"
    states = [x.look(account(fake), snap, remote, now_iso(), n, Watcher()).state for n in range(3)]
    assert states == ["not_yet", "not_yet", "unknown"]
    assert fake.posted == []


def test_other_posts_are_not_taken_for_ours(x, fake):
    files = Files(jpeg())
    post(x, account(fake), snapshot("Same words, no picture"))
    post(x, account(fake), snapshot("Other words", files), files)
    snap = snapshot("Same words, no picture", files)
    remote = x.stage(account(fake), snap, {}, files, Watcher())
    assert x.look(account(fake), snap, remote, now_iso(), 0, Watcher()).state == "not_yet"


def test_posts_of_before_are_not_ours(x, fake):
    fake.offset = -250  # the other one went out four minutes earlier
    post(x, account(fake), snapshot("Good morning"))
    fake.offset = 0
    look = x.look(account(fake), snapshot("Good morning"), {}, now_iso(), 0, Watcher())
    assert look.state == "not_yet"


def test_a_duplicate_after_a_lost_answer_is_the_post_itself(x, fake):
    snap, remote, watch = snapshot("Once only"), {}, Watcher()
    fake.lose_answer()
    with pytest.raises(PlatformError):
        x.publish(account(fake), snap, remote, watch)
    done = x.publish(account(fake), snap, watch.saved[-1], watch)  # from what is on disk
    assert done.id == fake.posted[0]["id"] and len(fake.posted) == 1


def test_a_duplicate_that_is_not_found_stays_unknown(x, fake):
    fake.lag = 99
    snap, remote = snapshot("Hidden"), {}
    fake.lose_answer()
    with pytest.raises(PlatformError):
        x.publish(account(fake), snap, remote, Watcher())
    with pytest.raises(PlatformError) as err:
        x.publish(account(fake), snap, remote, Watcher())
    assert (err.value.cause, err.value.effect) == ("duplicate", "unknown")


def test_a_duplicate_without_a_lost_answer_is_the_texts_fault(x, fake):
    post(x, account(fake), snapshot("Twice"))
    remote = {}
    for _ in range(2):  # also when tried again after the refusal
        with pytest.raises(PlatformError) as err:
            x.publish(account(fake), snapshot("Twice"), remote, Watcher())
        assert (err.value.cause, err.value.action, err.value.effect) == ("duplicate", "fix", "none")


def test_a_connection_that_was_never_made_had_no_effect(tmp_path, fake):
    x = X(make_settings(tmp_path, X_API_URL="http://127.0.0.1:9"))
    with pytest.raises(PlatformError) as err:
        x.publish(account(fake), snapshot("Nobody there"), {}, Watcher())
    assert (err.value.cause, err.value.effect, err.value.action) == ("unreachable", "none", "retry")


def test_looking_while_x_is_down_waits_longer(x, fake):
    for number, (status, seconds) in enumerate([(503, 30), (0, 150), (500, 300), (502, 600)]):
        fake.fail_next("/2/users/", status)
        look = x.look(account(fake), snapshot("Down"), {}, now_iso(), number, Watcher())
        assert (look.state, look.seconds) == ("not_yet", seconds)
    fake.fail_next("/2/users/", 503)
    assert x.look(account(fake), snapshot("Down"), {}, now_iso(), 6, Watcher()).state == "unknown"


def test_looking_with_dead_keys_is_unknown_and_says_why(x, fake):
    look = x.look(account(fake, twitter_access_secret="x"), snapshot("Keys"), {}, now_iso(), 0, Watcher())
    assert look.state == "unknown" and "keys" in look.detail


def test_the_account_number_comes_from_the_token_or_is_asked_for_once(x, fake):
    odd = fake.add_user("odd")
    odd.keys["twitter_access_token"] = "token-without-number"
    remote = {}
    for _ in range(2):
        x.look(account(fake, odd), snapshot("Who"), remote, now_iso(), 0, Watcher())
    assert remote["userId"] == odd.id
    assert len(fake.calls("GET", "/2/users/me")) == 1
    x.look(account(fake), snapshot("Who"), {}, now_iso(), 0, Watcher())
    assert len(fake.calls("GET", "/2/users/me")) == 1


# ------------------------------------------------------------ refusals


@pytest.mark.parametrize("variant", ["credits", "credits-depleted"])
def test_without_credits_the_account_stops(x, fake, variant):
    fake.credits, fake.credits_variant = 0.01, variant
    with pytest.raises(PlatformError) as err:
        post(x, account(fake), snapshot("Poor"))
    assert (err.value.cause, err.value.action, err.value.stops_account) == ("no_credits", "ask", True)
    assert "console.x.com" in err.value.remedy and fake.posted == []


def test_a_link_costs_more_and_is_estimated_so(x, fake):
    assert x.estimate("Words", []) == 0.015
    assert x.estimate("See example.com", ["a", " "]) == 0.205
    post(x, account(fake), snapshot("See example.com"))
    post(x, account(fake), snapshot("Words"))
    assert fake.spent == pytest.approx(0.215)


def test_the_rate_limit_defers_to_its_end(x, fake):
    fake.limits["post"] = 1
    post(x, account(fake), snapshot("One"))
    before = datetime.now(UTC)
    with pytest.raises(PlatformError) as err:
        post(x, account(fake), snapshot("Two"))
    assert (err.value.cause, err.value.action, err.value.effect) == ("rate_limited", "defer", "none")
    assert timedelta(minutes=14) < err.value.until - before < timedelta(minutes=16)
    assert 800 < err.value.retry_after < 960 and not err.value.stops_account


def test_a_read_only_app_says_to_regenerate_the_tokens(x, fake):
    fake.user.read_only = True
    with pytest.raises(PlatformError) as err:
        post(x, account(fake), snapshot("May I"))
    assert (err.value.cause, err.value.action, err.value.stops_account) == ("read_only", "reconnect", True)
    assert "Read and write, then regenerate the tokens" in err.value.remedy


def test_a_suspended_account(x, fake):
    fake.user.suspended = True
    with pytest.raises(PlatformError) as err:
        post(x, account(fake), snapshot("Hm"))
    assert (err.value.cause, err.value.action) == ("suspended", "ask")
    assert err.value.problem()["trace"]


@pytest.mark.parametrize("body", ["[]", '"no"', "", "<html>", '{"errors": "x"}', '{"errors": [1]}'])
def test_odd_refusals_are_refusals(x, fake, body):
    fake.fail_next("/2/tweets", 403, body=body.encode())
    with pytest.raises(PlatformError) as err:
        x.publish(account(fake), snapshot("Odd"), {}, Watcher())
    assert (err.value.cause, err.value.effect) == ("refused", "none")


def test_missing_keys_are_named(x, fake):
    with pytest.raises(PlatformError) as err:
        post(x, account(fake, twitter_access_secret=""), snapshot("Hm"))
    assert "Access token secret" in err.value.detail and err.value.action == "reconnect"
    assert fake.requests == []


def test_no_secret_is_in_any_error(x, fake):
    who = account(fake)
    for status in (0, 400, 401, 403, 500):
        fake.fail_next("/2/tweets", status, body={"detail": f"bad oauth_token={who.keys['twitter_access_token']}"})
        with pytest.raises(PlatformError) as err:
            x.publish(who, snapshot("Secret"), {}, Watcher())
        told = str(err.value.problem()) + str(err.value)
        assert not [v for v in who.keys.values() if v in told]


# ------------------------------------------------------------ words, account, dry run


def test_words_are_checked(x):
    codes = lambda caption, alts=(): [i.code for i in x.check_text("single", caption, list(alts))]  # noqa: E731
    assert codes("Fine $LUNA") == []
    assert codes("x" * 281) == ["caption_too_long"]
    assert codes("see example.com") == ["links"]
    assert codes("$AAA and $BBB") == ["too_many_cashtags"]
    assert codes("It costs $5 or $6, $aa_b") == []
    assert codes("ok", ["a" * 1001]) == ["alt_text_too_long"]


def test_check_tells_who_it_is(x, fake):
    check = x.check(account(fake))
    assert check.ok and check.username == "luna" and check.extra["userId"] == fake.user.id
    assert len(fake.requests) == 1
    fake.user.read_only = True
    assert not x.check(account(fake)).ok
    fake.user.read_only = False
    wrong = x.check(account(fake, twitter_account_id="42"))
    assert not wrong.ok and "42" in wrong.detail and wrong.remedy
    assert x.check(account(fake, twitter_account_id=fake.user.id)).ok
    dead = x.check(account(fake, twitter_app_secret="x"))
    assert not dead.ok and "four keys" in dead.detail and dead.remedy


def test_check_never_raises(tmp_path, fake, x):
    assert not X(make_settings(tmp_path, X_API_URL="http://127.0.0.1:9")).check(account(fake)).ok
    for status, body in ((200, "<html>"), (200, {"data": []}), (302, "<html>"), (0, b"")):
        fake.fail_next("/2/users/me", status, body=body)
        assert not x.check(account(fake)).ok


def test_the_keys_do_not_end(x, fake):
    now = datetime.now(UTC)
    assert x.refresh(account(fake), now, now - timedelta(days=400), None) is None


def test_permalinks(x, fake):
    assert x.permalink(account(fake), "12") == "https://x.com/i/web/status/12"
    assert x.permalink(account(fake), "../evil") is None


def test_a_dry_run_goes_the_whole_way_and_sends_nothing(settings, fake):
    x, kept = X(settings, simple_max=10, chunk=500), []
    who = account(fake)
    who.session, who.dry_run = outbox_session(x, kept.append, post_id="p", character_id="luna"), True
    files = Files(jpeg())
    done, _ = post(x, who, snapshot("Pretend", files, alt_texts=["A"]), files)
    assert done.id and fake.requests == []
    assert [r.url.removeprefix(fake.url) for r in kept][0] == "/2/media/upload/initialize"
    assert kept[-1].body == {"text": "Pretend", "media": {"media_ids": [done.id]}, "made_with_ai": True}
    told = str([r.model_dump() for r in kept])
    assert not [v for v in who.keys.values() if v in told]
    assert x.check(who).ok
    assert x.look(who, snapshot("Pretend"), {}, iso(datetime.now(UTC)), 0, Watcher()).state == "not_yet"


def test_the_open_fake_takes_any_keys(tmp_path):
    with XFake(open=True) as fake:
        x = X(make_settings(tmp_path, X_API_URL=fake.url))
        keys = dict.fromkeys(fake.user.keys, "anything")
        post(x, account(fake, **keys), snapshot("Open"))
        assert len(fake.posted) == 1
        assert requests.get(fake.url + "/_fake/state", timeout=5).json()["posted"][0]["written"] == "Open"
        requests.post(fake.url + "/_fake/reset", timeout=5)
        assert fake.posted == []
