"""Connection test and renewal of tokens, for Instagram login and Facebook login."""

from __future__ import annotations

from datetime import timedelta

import pytest

from dalla.platforms.base import PlatformError
from dalla.platforms.instagram_account import renewal_due
from dalla.times import iso, parse
from tests.fakes.graph import ACCOUNT, APP_ID, APP_SECRET, TOKEN, GraphFake
from tests.platforms.instagram_kit import Pictures, Stage


@pytest.fixture
def make(tmp_path):
    made = []

    def make(prefix="", **env):
        fake = GraphFake(prefix=prefix).start()
        stage = Stage(tmp_path, fake, Pictures(), **env)
        made.append(stage)
        return stage

    yield make
    for stage in made:
        stage.account.session.close()
        stage.fake.stop()


@pytest.fixture
def ig(make):
    return make()


def test_connected(ig):
    ig.fake.post_by_hand()
    check = ig.platform.check(ig.account)
    assert check.ok and check.username == "user_0001" and check.account_type == "business"
    assert (check.quota_used, check.quota_total) == (1, 100) and "1 of 100" in check.detail
    assert ig.fake.tokens_in_urls == []


def test_the_id_of_the_app_instead_of_the_account(ig):
    wrong = ig.fake.accounts[ACCOUNT].scoped_id
    ig.account.keys["instagram_account_id"] = wrong
    check = ig.platform.check(ig.account)
    assert not check.ok and f"Enter {ACCOUNT}" in check.remedy and check.extra["userId"] == ACCOUNT


def test_a_private_account(ig):
    ig.fake.accounts[ACCOUNT].account_type = "PERSONAL"
    check = ig.platform.check(ig.account)
    assert not check.ok and "professional" in check.remedy


@pytest.mark.parametrize("type", ["business", "MEDIA_CREATOR", "Media_Creator"])
def test_account_types_in_any_case(ig, type):
    ig.fake.accounts[ACCOUNT].account_type = type
    assert ig.platform.check(ig.account).ok


@pytest.mark.parametrize(
    "state, action",
    [("expired", "reconnect"), ("revoked", "reconnect"), ("checkpoint", "reconnect"), ("no_scope", "reconnect")],
)
def test_a_token_that_does_not_work(ig, state, action):
    ig.fake.set_token_state(TOKEN, state)
    check = ig.platform.check(ig.account)
    assert not check.ok and check.remedy and TOKEN not in check.detail and check.extra["action"] == action


def test_nobody_answers(ig):
    ig.fake.stop()
    check = ig.platform.check(ig.account)
    assert not check.ok and "did not answer" in check.detail


def test_facebook_login(make):
    ig = make("/facebook", INSTAGRAM_APP_ID=APP_ID, INSTAGRAM_APP_SECRET=APP_SECRET)
    check = ig.platform.check(ig.account)
    assert check.ok and check.username == "user_0001"
    assert abs(parse(check.token_expires_at) - ig.fake.tokens[TOKEN].expires) < timedelta(seconds=2)
    assert all(TOKEN not in str(c.query) and APP_SECRET not in str(c.query) for c in ig.fake.requests)


def test_facebook_login_without_the_app(make):
    ig = make("/facebook")
    check = ig.platform.check(ig.account)
    assert check.ok and check.token_expires_at is None


@pytest.mark.parametrize(
    "age_days, left_days, due",
    [
        (0.5, 59.5, False),
        (29.9, 30.1, False),
        (30, 30, True),
        (59, 1, True),
        (61, -1, False),
        (0.9, 5, False),
        (2, 5, True),
    ],
)
def test_when_it_is_time(ig, age_days, left_days, due):
    now = ig.fake.now()
    assert renewal_due(now, now - timedelta(days=age_days), now + timedelta(days=left_days)) is due


def test_when_the_dates_are_not_known(ig):
    now = ig.fake.now()
    assert renewal_due(now, None, None) is False
    assert renewal_due(now, now - timedelta(days=31), None) is True
    assert renewal_due(now, now - timedelta(days=61), None) is False
    assert renewal_due(now, None, now + timedelta(days=20)) is True
    assert renewal_due(now, None, now + timedelta(days=59.5)) is False


@pytest.mark.parametrize("header_tokens", [True, False])
def test_renewal(ig, header_tokens):
    ig.fake.header_tokens = header_tokens
    now = ig.fake.now()
    new = ig.platform.refresh(ig.account, now, now - timedelta(days=31), now + timedelta(days=29))
    token = new["keys"]["instagram_api_key"]
    assert token != TOKEN and token in ig.fake.tokens and new["issuedAt"] == iso(now)
    assert parse(new["expiresAt"]) - now >= timedelta(days=59)
    assert ig.fake.tokens_in_urls == [] and {c.path for c in ig.fake.requests} == {"/refresh_access_token"}
    ig.account.keys["instagram_api_key"] = token
    assert ig.platform.check(ig.account).ok


def test_no_renewal_asks_nothing(ig):
    now = ig.fake.now()
    assert ig.platform.refresh(ig.account, now, now - timedelta(days=3), None) is None
    assert ig.fake.requests == []


def test_a_token_too_young_or_dead_is_told(ig):
    now = ig.fake.now()
    ig.fake.tokens[TOKEN].issued = now
    with pytest.raises(PlatformError) as caught:
        ig.platform.refresh(ig.account, now, now - timedelta(days=31), None)
    assert "24 hours" in caught.value.detail
    ig.fake.set_token_state(TOKEN, "expired")
    with pytest.raises(PlatformError) as caught:
        ig.platform.refresh(ig.account, now, now - timedelta(days=31), None)
    assert caught.value.cause == "token_expired" and caught.value.stops_account


def test_renewal_with_facebook_login(make):
    ig = make("/facebook", INSTAGRAM_APP_ID=APP_ID, INSTAGRAM_APP_SECRET=APP_SECRET)
    now = ig.fake.now()
    new = ig.platform.refresh(ig.account, now, now - timedelta(days=31), None)
    assert new["keys"]["instagram_api_key"] in ig.fake.tokens
    assert all(not c.query for c in ig.fake.requests) and {c.method for c in ig.fake.requests} == {"POST"}
    bare = make("/facebook")
    assert bare.platform.refresh(bare.account, now, now - timedelta(days=31), None) is None


def test_the_open_fake_takes_any_account(ig):
    ig.fake.open = True
    ig.account.keys["instagram_api_key"] = "anything at all"
    assert ig.platform.check(ig.account).ok
    ig.account.keys["instagram_account_id"] = "17849999999999999"
    assert ig.platform.check(ig.account).remedy.startswith(
        f"Enter {ACCOUNT}"
    )  # a new token belongs to the first account
    ig.fake.open = False
    ig.account.keys["instagram_api_key"] = "never seen"
    assert not ig.platform.check(ig.account).ok
