"""Connections against the pretend Instagram and X: health, tests, tokens that must not die, alarms."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from dalla.errors import Conflict, InvalidInput, NotConfigured, NotFound, StorageError
from dalla.platforms.base import PlatformError
from dalla.records.post import Post
from dalla.services.connections import Connections
from dalla.times import iso
from tests.fakes.graph import ACCOUNT, TOKEN, GraphFake
from tests.fakes.x import XFake


class Kit:
    """Connections of a container, with a clock that is turned by hand (the pretend Instagram's goes along)."""

    def __init__(self, container: Any, graph: GraphFake, x: XFake) -> None:
        self.c, self.graph, self.x = container, graph, x
        self.ahead = timedelta()
        self.restart()
        self.luna = container.characters.create(
            {"name": "Luna", "instagram_account_id": ACCOUNT, "instagram_api_key": TOKEN, **x.user.keys}
        ).id

    def now(self) -> datetime:
        return datetime.now(UTC) + self.ahead

    def restart(self) -> None:
        c = self.c
        self.connections = Connections(
            c.settings, c.account_rows, c.characters, c.platforms, c.hosting, c.notices, c.events, c.publishing,
            c.leases, posts=c.post_rows, now=self.now,
        )  # fmt: skip

    def later(self, **delta: float) -> None:
        step = timedelta(**delta)
        self.ahead += step
        self.graph.advance(step.total_seconds())

    def days(self, count: int, *, every: int = 24) -> None:
        """Live through days, with a round every so many hours."""
        for _ in range(count * 24 // every):
            self.later(hours=every)
            self.connections.tick()

    def account(self, platform: str = "instagram", id: str | None = None) -> dict[str, Any]:
        return self.connections.account(id or self.luna, platform)

    def token(self, id: str | None = None) -> str | None:
        return self.c.characters.credential(self.c.characters.get(id or self.luna), "instagram_api_key")

    def renewals(self) -> int:
        return len([call for call in self.graph.requests if call.path == "/refresh_access_token"])

    def reads(self) -> int:
        return len([call for call in self.graph.requests if call.path.endswith("/me")])

    def set(self, platform: str = "instagram", **fields: Any) -> None:
        self.c.account_rows.save(self.luna, platform, **fields)

    def notices(self) -> list[Any]:
        return self.c.notices.page().items


@pytest.fixture
def graph():
    with GraphFake() as fake:
        yield fake


@pytest.fixture
def x():
    with XFake() as fake:
        yield fake


@pytest.fixture
def environ(graph, x) -> dict[str, str]:
    return {"INSTAGRAM_GRAPH_URL": graph.url, "X_API_URL": x.url}


@pytest.fixture
def kit(container, graph, x) -> Kit:
    return Kit(container, graph, x)


# ---------------------------------------------------------------- health


def test_an_account_without_keys_is_off_and_rehearsed(kit):
    id = kit.c.characters.create({"name": "Nova"}).id
    account = kit.account(id=id)
    assert account["status"] == "off" and account["dryRun"] is True and account["connected"] is False
    assert len(account["missing"]) == 2 and account["tokenDaysLeft"] is None
    assert account["href"] == f"/characters.html?id={id}&tab=accounts"
    assert id not in {row["characterId"] for row in kit.connections.status()}


def test_half_of_the_keys_is_a_warning_that_names_the_others(kit):
    id = kit.c.characters.create({"name": "Nova", "twitter_app_key": "k" * 20}).id
    account = kit.account("twitter", id)
    assert account["status"] == "warning"
    assert all(label in account["detail"] for label in account["missing"]) and len(account["missing"]) == 3


def test_new_keys_want_a_test(kit):
    account = kit.account()
    assert (account["status"], account["remedy"]) == ("warning", "Press Test.")
    assert account["tokenDaysLeft"] in (59, 60) and account["tokenEstimated"] is True


def test_reading_the_overview_asks_nobody(kit):
    overview = kit.connections.overview()
    assert [p["name"] for p in overview["platforms"]] == ["instagram", "twitter"]
    instagram = overview["platforms"][0]
    assert instagram["needsPublicUrl"] is True and instagram["images"]["maxWidth"] == 1440
    assert {c["field"] for c in instagram["credentials"]} == {"instagramAccountId", "instagramApiKey"}
    assert overview["hosting"]["mode"] == "none" and overview["pauses"]["all"] is None
    assert kit.graph.requests == [] and kit.x.requests == []
    assert TOKEN not in str(overview)


def test_the_overview_of_one_character(kit):
    kit.c.characters.create({"name": "Nova"})
    assert {a["characterId"] for p in kit.connections.overview(kit.luna)["platforms"] for a in p["accounts"]} == {
        kit.luna
    }
    with pytest.raises(NotFound):
        kit.connections.overview("char_nobody")


@pytest.mark.parametrize(
    ("fields", "status", "words"),
    [
        ({"breaker_reason": "No credits.", "breaker_code": "no_credits"}, "error", "Stopped: No credits."),
        ({"paused": True}, "warning", "Stopped by hand"),
        ({"check_ok": False, "check_detail": "The token is dead."}, "error", "The token is dead."),
        ({"failures": 2, "last_error": "Too large.", "last_error_at": "2026-01-02T00:00:00.000Z"}, "warning", "2 times in a row: Too large."),
        ({"check_ok": True, "check_detail": "Connected as @luna."}, "ok", "Connected as @luna."),
        ({"check_ok": True, "breaker_reason": "x", "breaker_until": "2020-01-01T00:00:00.000Z"}, "ok", "Connected"),
        ({"checked_at": "2026-01-02T00:00:00.000Z", "check_detail": "Instagram had an internal error."}, "warning", "internal error"),
    ],
)  # fmt: skip
def test_the_most_urgent_thing_is_told(kit, fields, status, words):
    kit.account()
    kit.set(**fields)
    account = kit.account()
    assert account["status"] == status and words in account["detail"]


def test_a_full_quota_is_told_while_it_lasts(kit):
    kit.account()
    kit.set(check_ok=True, quota_used=100, quota_total=100, quota_at=iso(kit.now()))
    assert kit.account()["status"] == "warning"
    kit.later(days=2)
    assert kit.account()["status"] == "ok"


def test_when_the_next_post_goes_out(kit):
    for number, hour in enumerate((9, 7, 8)):
        at = f"2030-01-01T0{hour}:00:00.000Z"
        kit.c.post_rows.insert(
            Post(id=f"post_{number}", character_id=kit.luna, platform="instagram", status="scheduled", scheduled_at=at, due_at=at)
        )  # fmt: skip
    assert kit.account()["nextPostAt"] == "2030-01-01T07:00:00.000Z"
    assert kit.account("twitter")["nextPostAt"] is None


def test_stops_are_told_from_the_widest(kit):
    kit.c.publishing.pause_account(kit.luna, "instagram", True)
    assert kit.account()["paused"]["scope"] == "account"
    kit.c.publishing.pause("holiday", kit.luna)
    assert kit.account()["paused"] == {**kit.account()["paused"], "scope": "character", "reason": "holiday"}
    kit.c.publishing.pause("fire")
    assert kit.account()["paused"]["scope"] == "all"


def test_status_rows_name_account_and_fix(kit):
    rows = {row["platform"]: row for row in kit.connections.status()}
    assert rows["instagram"]["characterName"] == "Luna" and rows["instagram"]["status"] == "warning"
    assert rows["twitter"]["href"] == f"/connections.html?character={kit.luna}&platform=twitter"


# ---------------------------------------------------------------- testing


def test_a_test_of_instagram_shows_name_and_quota(kit):
    account = kit.connections.check(kit.luna, "instagram")
    assert (account["status"], account["username"], account["quotaTotal"]) == ("ok", "user_0001", 100)
    assert account["accountType"] == "business" and account["checkedAt"]
    assert kit.graph.tokens_in_urls == []
    kit.connections.check(kit.luna, "instagram")
    assert kit.reads() == 2  # free of charge, so each press asks


def test_x_is_asked_once_an_hour_because_it_bills(kit):
    for _ in range(3):
        account = kit.connections.check(kit.luna, "twitter")
    assert account["username"] == "luna" and len(kit.x.requests) == 1
    kit.connections.check(kit.luna, "twitter", force=True)
    assert len(kit.x.requests) == 2
    kit.later(minutes=61)
    kit.connections.check(kit.luna, "twitter")
    assert len(kit.x.requests) == 3


def test_a_failed_test_of_x_is_not_kept(kit):
    kit.x.user.read_only = True
    assert kit.connections.check(kit.luna, "twitter")["status"] == "error"
    kit.x.user.read_only = False
    assert kit.connections.check(kit.luna, "twitter")["status"] == "ok"


def test_a_dead_token_stops_the_account_and_a_good_test_starts_it(kit):
    kit.connections.check(kit.luna, "instagram")
    kit.graph.set_token_state(TOKEN, "revoked")
    account = kit.connections.check(kit.luna, "instagram")
    assert account["status"] == "error" and account["breaker"]["reconnect"] is True and account["connected"] is False
    (notice,) = kit.notices()
    assert notice.kind == "account.stopped" and notice.key == f"account:{kit.luna}:instagram"
    kit.graph.set_token_state(TOKEN, "valid")
    account = kit.connections.check(kit.luna, "instagram")
    assert account["breaker"] is None and account["status"] == "ok"
    assert kit.notices() == []


def test_a_good_test_does_not_settle_what_a_person_must_look_into(kit):
    kit.account()
    kit.set(breaker_reason="Blocked as spam.", breaker_code="spam_block")
    assert kit.connections.check(kit.luna, "instagram")["breaker"]["code"] == "spam_block"
    assert kit.connections.close_breaker(kit.luna, "instagram")["breaker"] is None


def test_a_platform_that_is_down_says_nothing_about_the_keys(kit):
    kit.connections.check(kit.luna, "instagram")
    kit.graph.fail_next("/", 503, times=9)
    account = kit.connections.check(kit.luna, "instagram")
    assert account["status"] == "warning" and account["breaker"] is None and account["checkOk"] is None
    kit.x.fail_next("/", 503, times=9)
    account = kit.connections.check(kit.luna, "twitter")
    assert account["status"] == "warning" and account["breaker"] is None


def test_the_token_of_another_account_is_an_error(kit):
    kit.graph.add_account("17841400000000002", "IGAAanother0123456789abcdefghij")
    kit.c.characters.update(kit.luna, {"instagram_api_key": "IGAAanother0123456789abcdefghij"})
    account = kit.connections.check(kit.luna, "instagram")
    assert account["status"] == "error" and "17841400000000002" in (account["remedy"] or "")


def test_what_cannot_be_tested_says_why(kit):
    id = kit.c.characters.create({"name": "Nova"}).id
    with pytest.raises(NotConfigured):
        kit.connections.check(id, "instagram")
    with pytest.raises(NotFound):
        kit.connections.check("char_nobody", "instagram")
    with pytest.raises(InvalidInput):
        kit.connections.check(kit.luna, "myspace")
    assert kit.graph.requests == []


def test_a_dry_run_of_the_app_sends_not_even_a_test(kit):
    kit.c.settings._values["dry_run"] = True
    for call in (
        lambda: kit.connections.check(kit.luna, "instagram", force=True),
        lambda: kit.connections.refresh(kit.luna, "instagram"),
        lambda: kit.connections.check_hosting(),
    ):
        with pytest.raises(Conflict):
            call()
    kit.days(40)
    assert kit.graph.requests == [] and kit.x.requests == []
    assert kit.account()["dryRun"] is True


# ---------------------------------------------------------------- tokens


def test_a_token_of_unknown_age_is_renewed_after_a_day(kit):
    """It may be 59 days old already; a renewal makes its end known."""
    kit.days(1, every=6)
    assert kit.renewals() == 0  # younger than 24 hours as far as we know
    kit.days(1, every=6)
    assert kit.renewals() == 1
    account = kit.account()
    assert account["tokenEstimated"] is False and account["tokenDaysLeft"] >= 58
    kit.days(20)
    assert kit.renewals() == 1


def test_a_token_lives_on_for_months_without_anybody(kit):
    kit.days(120)
    assert kit.account()["tokenDaysLeft"] > 25
    assert 4 <= kit.renewals() <= 5
    assert kit.notices() == []
    kit.graph.requests.clear()
    assert kit.connections.check(kit.luna, "instagram")["status"] == "ok"  # the stored token is the living one


def test_a_renewal_that_fails_is_tried_once_a_day(kit):
    kit.days(30)
    kit.graph.requests.clear()
    before = kit.token()
    kit.graph.fail_next("/refresh_access_token", 500, times=99)
    kit.days(6, every=6)
    assert 4 <= kit.renewals() <= 6
    assert kit.token() == before


def test_an_alarm_at_ten_seven_three_one_and_the_end(kit):
    hook, _ = kit.c.notices.create_webhook(url="https://93.184.216.34/x", events=["token.expiring"])
    kit.days(2)
    kit.graph.fail_next("/refresh_access_token", 500, times=9999)
    said = []
    for _ in range(62):
        kit.days(1)
        said += [n.title for n in kit.notices() if n.kind == "token.expiring" and n.title not in said[-1:]]
    assert said == [
        "Instagram: the token of Luna ends in 9 days",
        "Instagram: the token of Luna ends in 7 days",
        "Instagram: the token of Luna ends in 3 days",
        "Instagram: the token of Luna ends in 1 day",
        "Instagram: the token of Luna ends today",
        "Instagram: the token of Luna has ended",
    ]
    sent = [d.body["data"] for d in kit.c.notices.deliveries(hook["id"]).items]
    assert [d["daysLeft"] for d in reversed(sent)] == [9, 7, 3, 1, 0, 0]
    assert sent[0]["expired"] is True and sent[0]["characterName"] == "Luna"
    account = kit.account()
    assert account["status"] == "error" and account["breaker"]["code"] == "token_expired"
    assert account["tokenExpired"] is True and account["tokenDaysLeft"] == 0


def test_new_keys_settle_alarm_and_stop(kit):
    kit.account()
    kit.set(token_expires_at=iso(kit.now() - timedelta(hours=1)), extra={"tokenEstimated": False})
    kit.graph.set_token_state(TOKEN, "expired")
    kit.connections.tick()
    assert kit.account()["breaker"] and len(kit.notices()) == 2
    kit.graph.add_account(ACCOUNT, "IGAAfresh00000123456789abcdefghij")
    kit.c.characters.update(kit.luna, {"instagram_api_key": "IGAAfresh00000123456789abcdefghij"})
    kit.connections.keys_changed(kit.luna)
    account = kit.account()
    assert account["breaker"] is None and account["tokenDaysLeft"] >= 59 and account["checkedAt"] is None
    assert kit.notices() == []


def test_new_keys_do_not_settle_a_block_of_the_account(kit):
    kit.account()
    kit.set(breaker_reason="Restricted.", breaker_code="account_restricted")
    kit.c.characters.update(kit.luna, {"instagram_api_key": "IGAAfresh00000123456789abcdefghij"})
    assert kit.account()["breaker"]["code"] == "account_restricted"


def test_a_new_token_that_cannot_be_saved_is_not_lost(kit, monkeypatch):
    kit.days(1, every=6)
    before = kit.token()
    update = kit.c.characters.update

    def full(*_args, **_more):
        raise StorageError("There is no space left on the disk.", remedy="Free some space.")

    monkeypatch.setattr(kit.c.characters, "update", full)
    kit.days(1, every=6)
    assert kit.renewals() == 1 and kit.token() == before
    (notice,) = kit.notices()
    assert notice.kind == "token.unsaved" and "do not stop the app" in notice.detail
    monkeypatch.setattr(kit.c.characters, "update", update)
    kit.later(hours=1)
    kit.connections.tick()
    assert kit.renewals() == 1  # nothing is asked again: the token was held
    assert kit.token() != before and kit.notices() == []
    assert kit.connections.check(kit.luna, "instagram")["status"] == "ok"


def test_keys_entered_while_a_renewal_was_under_way_win(kit, monkeypatch):
    adapter = kit.c.platforms.get("instagram")
    refresh = adapter.refresh

    def slow(*args, **more):
        answer = refresh(*args, **more)
        kit.c.characters.update(kit.luna, {"instagram_api_key": "IGAAbyhand0000123456789abcdefghij"})
        return answer

    monkeypatch.setattr(adapter, "refresh", slow)
    kit.days(2, every=6)
    assert kit.renewals() >= 1
    assert kit.token() == "IGAAbyhand0000123456789abcdefghij"


def test_a_key_from_the_environment_is_not_renewed_but_its_end_is_told(kit, container):
    container.characters._environ = {"LUNA_KEY": TOKEN}
    kit.graph.tokens[TOKEN].expires = kit.now() + timedelta(days=60)
    kit.c.characters.update(kit.luna, {"instagram_api_key": "env:LUNA_KEY"})
    kit.days(55)
    assert kit.renewals() == 0
    (notice,) = kit.notices()
    assert "LUNA_KEY" in notice.detail and "cannot rewrite" in notice.detail
    with pytest.raises(Conflict) as problem:
        kit.connections.refresh(kit.luna, "instagram")
    assert "LUNA_KEY" in (problem.value.remedy or "")
    assert kit.c.characters.get(kit.luna).instagram_api_key == "env:LUNA_KEY"
    assert kit.account()["fromEnvironment"] == ["LUNA_KEY"]


def test_renewing_by_hand(kit):
    kit.account()
    with pytest.raises(Conflict, match="cannot be renewed yet"):
        kit.connections.refresh(kit.luna, "instagram")
    with pytest.raises(Conflict, match="do not end"):
        kit.connections.refresh(kit.luna, "twitter")
    kit.later(hours=25)
    before = kit.token()
    account = kit.connections.refresh(kit.luna, "instagram")
    assert account["tokenDaysLeft"] >= 59 and account["tokenEstimated"] is False and kit.token() != before
    kit.later(days=5)
    assert kit.connections.refresh(kit.luna, "instagram")["tokenDaysLeft"] >= 59  # not yet due, but wanted
    kit.graph.set_token_state(kit.token() or "", "revoked")
    kit.later(days=5)
    with pytest.raises(PlatformError):
        kit.connections.refresh(kit.luna, "instagram")
    kit.later(days=90)
    with pytest.raises(Conflict, match="has ended"):
        kit.connections.refresh(kit.luna, "instagram")


# ---------------------------------------------------------------- every hour


def test_instagram_is_tested_once_a_day_and_x_never_by_itself(kit):
    kit.days(4, every=6)
    assert 4 <= kit.reads() <= 5
    assert kit.x.requests == []


def test_one_process_tends_the_accounts(kit):
    now = kit.now()
    assert kit.c.leases.acquire("connections", "somebody else", iso(now), iso(now + timedelta(minutes=5)))
    assert kit.connections.tick() == 0 and kit.graph.requests == []
    kit.later(minutes=6)
    assert kit.connections.tick() == 2  # its lease has run out


def test_one_bad_account_does_not_keep_the_others_waiting(kit, monkeypatch):
    kit.c.characters.create({"name": "Nova", "instagram_account_id": ACCOUNT, "instagram_api_key": TOKEN})
    adapter = kit.c.platforms.get("instagram")
    check, seen = adapter.check, []

    def broken(account):
        seen.append(account.character_id)
        if account.character_id == kit.luna:
            raise RuntimeError("a bug")
        return check(account)

    monkeypatch.setattr(adapter, "check", broken)
    assert kit.connections.tick() == 2  # Luna on X, Nova on Instagram
    assert len(set(seen)) == 2


def test_accounts_of_deleted_characters_are_forgotten_when_they_cannot_come_back(kit):
    kit.connections.check(kit.luna, "instagram")
    kit.c.characters.delete(kit.luna)
    kit.connections.tick()
    assert [s.character_id for s in kit.c.account_rows.all() if s.platform == "instagram"] == [
        kit.luna
    ]  # it may be restored
    kit.c.characters.purge_trash(-1)
    kit.connections.tick()
    assert kit.c.account_rows.all() == []


def test_facebook_tokens_are_not_guessed_at(container, x):
    with GraphFake(prefix="/facebook") as graph:
        container.settings._values["instagram_graph_url"] = graph.url
        graph.tokens[TOKEN].expires += timedelta(days=365)
        kit = Kit(container, graph, x)
        account = kit.connections.check(kit.luna, "instagram")
        assert account["status"] == "ok" and account["tokenDaysLeft"] is None
        kit.days(70)
        assert kit.notices() == []
