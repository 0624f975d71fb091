"""Signing in, sessions and tokens by the hour; passwords that are taken and those that are not."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from dalla.errors import Conflict, Forbidden, InvalidInput, NotFound, RateLimited, Unauthorized
from dalla.records.user import LOCAL, Identity
from dalla.services import auth as module
from dalla.services import auth_passwords, auth_recent, auth_tokens
from dalla.services.auth import Auth
from dalla.services.auth_passwords import Passwords
from dalla.services.auth_users import Users
from dalla.stores.library import Library
from dalla.stores.users import SqlUsers
from dalla.times import now_iso
from tests.conftest import make_settings

PASSWORD = "three green tractors"
QUICK = Passwords(time_cost=1, memory_kib=8, parallelism=1)


class Clock(datetime):
    """`datetime.now` for the services: it stands still but for what the fixture moves it."""

    start = datetime.now(UTC)
    shift = timedelta()

    @classmethod
    def now(cls, tz=None):
        return cls.start.astimezone(tz) + cls.shift


@pytest.fixture
def clock(monkeypatch):
    """A function that lets time pass for sessions, tokens and attempts."""
    Clock.start, Clock.shift = datetime.now(UTC), timedelta()
    for where in (module, auth_tokens):
        monkeypatch.setattr(where, "datetime", Clock)
    monkeypatch.setattr(module, "now_iso", lambda: module.iso(Clock.now(UTC)))

    def move(**time: float) -> None:
        Clock.shift += timedelta(**time)

    return move


@pytest.fixture
def rows(tmp_path: Path):
    library = Library.open(tmp_path / "dalla.db")
    yield SqlUsers(library)
    library.close()


@pytest.fixture
def auth(tmp_path, rows) -> Auth:
    return Auth(make_settings(tmp_path), rows, QUICK)


def set_up(auth: Auth):
    return auth.setup("Luna", PASSWORD, direct=True, address="127.0.0.1", user_agent="Firefox")


def guess(auth: Auth, name: str = "luna", password: str = "wrong wrong wrong", address: str = "10.0.0.1"):
    return auth.login(name, password, address=address)


# ---------------------------------------------------------------- who has to sign in


@pytest.mark.parametrize(
    ("mode", "host", "direct", "expected"),
    [
        ("auto", "127.0.0.1", True, True),
        ("auto", "127.0.0.1", False, False),
        ("auto", "0.0.0.0", True, False),
        ("on", "127.0.0.1", True, False),
        ("off", "0.0.0.0", False, True),
    ],
)
def test_open_without_accounts(tmp_path, rows, mode, host, direct, expected):
    auth = Auth(make_settings(tmp_path, DALLA_AUTH=mode, DALLA_HOST=host), rows, QUICK)
    assert auth.is_open(direct=direct) is expected


def test_with_the_first_account_it_is_open_no_more(auth):
    assert auth.is_open(direct=True) and auth.still(LOCAL) == LOCAL
    set_up(auth)
    assert not auth.is_open(direct=True) and auth.still(LOCAL) is None and not auth.needs_setup()


def test_an_account_made_by_another_process_is_seen_soon(auth, rows, monkeypatch):
    assert auth.is_open(direct=True)
    elsewhere = SqlUsers(rows._library)
    elsewhere.insert(auth.new_user("boss", PASSWORD, "admin"))
    monkeypatch.setattr(auth_recent, "SECONDS", 0.0)
    assert not auth.is_open(direct=True)


# ---------------------------------------------------------------- the first account


def test_setup_makes_an_admin_and_signs_in(auth):
    user, session, cookie = set_up(auth)
    assert (user.name, user.role) == ("Luna", "admin") and len(cookie) >= 43
    who = auth.by_session(cookie)
    assert who.kind == "session" and who.rights == {"read", "write", "publish", "admin", "self"}
    assert who.session_id == session.id and session.hash != cookie and cookie not in session.to_json().values()
    assert "password" not in user.public() and PASSWORD not in user.password


def test_setup_only_once_and_only_from_here(auth):
    with pytest.raises(Forbidden):
        auth.setup("Luna", PASSWORD, direct=False)
    set_up(auth)
    with pytest.raises(Conflict):
        auth.setup("Sol", PASSWORD, direct=True)


def test_setup_by_two_at_once_makes_one_account(auth, rows):
    done, start = [], threading.Barrier(2)

    def make(name: str) -> None:
        start.wait()
        try:
            done.append(auth.setup(name, PASSWORD, direct=True)[0].name)
        except Conflict:
            done.append(None)

    threads = [threading.Thread(target=make, args=(name,)) for name in ("a1", "a2")]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert done.count(None) == 1 and len(rows.all()) == 1


@pytest.mark.parametrize("name", ["", " ", "a", "a b", "-x", "a/b", "a\nb", "x" * 65, "<b>"])
def test_names_that_are_not_taken(auth, name):
    with pytest.raises(InvalidInput) as caught:
        auth.setup(name, PASSWORD, direct=True)
    assert caught.value.errors[0]["field"] == "name"


@pytest.mark.parametrize(
    "password",
    ["short", "a" * 10, "password123", "Passw0rd2026!", "1234567890", "qwertyuiop", "Qwertzuiop1", "luna_the_mystic",
     "Luna_the_Mystic99", "iloveyou!!", "1q2w3e4r5t6z", "x" * 257, "ab" * 5, "DigitalDalla1"],
)  # fmt: skip
def test_passwords_that_are_not_taken(password):
    with pytest.raises(InvalidInput) as caught:
        auth_passwords.check(password, "luna_the_mystic")
    assert caught.value.errors[0]["field"] == "password" and password not in caught.value.detail


@pytest.mark.parametrize("password", [PASSWORD, "ŝtonoj en la rivero", "T7#kk2!pqLmz", "passing of the years"])
def test_passwords_that_are(password):
    auth_passwords.check(password, "luna")


# ---------------------------------------------------------------- passwords


def test_a_password_fits_however_it_was_typed():
    hash = QUICK.hash("cafe\u0301 noir et lait")
    assert hash.startswith("$argon2id$") and QUICK.verify(hash, "café noir et lait")
    assert not QUICK.verify(hash, "cafe noir et lait") and not QUICK.verify("nonsense", "x")


def test_the_real_parameters_are_those_of_the_rfc():
    passwords = Passwords()
    assert "$m=65536,t=3,p=4$" in passwords.hash(PASSWORD)


def test_an_unknown_name_costs_the_same_work(auth, monkeypatch):
    set_up(auth)
    asked = []
    monkeypatch.setattr(auth._passwords, "verify", lambda hash, password: asked.append(hash) or False)
    for name in ("luna", "nobody"):
        with pytest.raises(Unauthorized) as caught:
            guess(auth, name)
        assert caught.value.detail == "The name or the password is wrong."
    assert asked[0].startswith("$argon2id$") and asked[1] is None
    assert Passwords.verify(QUICK, None, "nobody has this password") is False
    assert QUICK._dummy.startswith("$argon2id$")


def test_a_hash_with_old_parameters_is_made_anew(tmp_path, rows, auth):
    user, _, _ = set_up(auth)
    stronger = Auth(make_settings(tmp_path), rows, Passwords(time_cost=2, memory_kib=16, parallelism=1))
    stronger.login("luna", PASSWORD)
    assert "t=2" in rows.get(user.id).password and rows.get(user.id).password != user.password
    stronger.login("luna", PASSWORD)


# ---------------------------------------------------------------- signing in


def test_login(auth, clock):
    set_up(auth)
    clock(hours=1)
    user, session, cookie = auth.login("LUNA", PASSWORD, address="10.0.0.9", user_agent="Safari\n" + "x" * 500)
    assert user.last_login_at and user.last_login_at <= session.created_at and auth.by_session(cookie).name == "Luna"
    assert session.address == "10.0.0.9" and len(session.user_agent) == 300 and "\n" not in session.user_agent
    with pytest.raises(Unauthorized):
        guess(auth)


def test_a_disabled_user_hears_the_same_sentence(auth, rows):
    set_up(auth)
    Users(rows, auth).add("sol", PASSWORD, "editor")
    rows.update(rows.find("sol").id, lambda user: user.with_(disabled=True))
    with pytest.raises(Unauthorized, match="name or the password is wrong"):
        auth.login("sol", PASSWORD)


def test_guessing_is_slowed_by_name(auth, clock):
    set_up(auth)
    for number in range(5):
        with pytest.raises(Unauthorized):
            guess(auth, address=f"10.0.0.{number}")
    with pytest.raises(RateLimited) as caught:
        auth.login("Luna", PASSWORD, address="10.0.9.9")
    assert 1 <= caught.value.retry_after <= 2, "even with the right password, from anywhere"
    clock(seconds=2)
    assert auth.login("Luna", PASSWORD, address="10.0.9.9")
    with pytest.raises(Unauthorized):
        guess(auth)  # and the count begins anew


def test_the_wait_doubles_up_to_a_quarter_of_an_hour(auth, clock):
    set_up(auth)
    waits = []
    for _ in range(18):
        try:
            guess(auth, address="")
        except Unauthorized:
            continue
        except RateLimited as exc:
            waits.append(exc.retry_after)
            clock(seconds=exc.retry_after)
            with pytest.raises(Unauthorized):
                guess(auth, address="")
    assert waits == sorted(waits) and waits[0] <= 2 and waits[-1] == 900


def test_guessing_is_slowed_by_address(auth, clock):
    set_up(auth)
    for number in range(20):
        with pytest.raises(Unauthorized):
            guess(auth, f"name{number}", address="2001:db8::1")
    with pytest.raises(RateLimited):
        guess(auth, "another", address="2001:db8::ffff")  # the same /64
    with pytest.raises(Unauthorized):
        guess(auth, "another", address="2001:db8:1::1")


def test_guesses_at_once_are_all_counted(auth, clock, monkeypatch):
    set_up(auth)
    checked, start = [], threading.Barrier(12)
    monkeypatch.setattr(auth._passwords, "verify", lambda hash, password: checked.append(1) or False)

    def one() -> None:
        start.wait()
        with pytest.raises((Unauthorized, RateLimited)):
            guess(auth)

    threads = [threading.Thread(target=one) for _ in range(12)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert len(checked) <= 5


def test_a_restart_does_not_reset_the_wait(auth, clock, tmp_path, rows):
    set_up(auth)
    for _ in range(5):
        with pytest.raises(Unauthorized):
            guess(auth)
    with pytest.raises(RateLimited):
        guess(Auth(make_settings(tmp_path), rows, QUICK))


# ---------------------------------------------------------------- sessions


def test_a_session_ends_when_it_is_idle(auth, clock):
    set_up(auth)
    _, _, cookie = auth.login("luna", PASSWORD)
    for _ in range(3):
        clock(hours=11)
        assert auth.by_session(cookie) is not None
    clock(hours=13)
    assert auth.by_session(cookie) is None


def test_a_session_ends_after_days_however_busy_it_is(auth, clock):
    set_up(auth)
    _, _, cookie = auth.login("luna", PASSWORD)
    for _ in range(16):
        clock(hours=10)
        assert auth.by_session(cookie) is not None
    clock(hours=10)
    assert auth.by_session(cookie) is None


def test_remember_me_lasts_as_long_as_the_setting_says(auth, clock):
    set_up(auth)
    _, session, cookie = auth.login("luna", PASSWORD, remember=True)
    clock(days=29)
    assert session.remember and auth.by_session(cookie) is not None
    clock(days=2)
    assert auth.by_session(cookie) is None
    auth.login("luna", PASSWORD)


def test_when_it_was_last_used_is_written_once_a_minute(auth, rows, clock, monkeypatch):
    _, session, cookie = set_up(auth)
    written = []
    monkeypatch.setattr(rows, "seen", lambda id, now: written.append(now))
    for _ in range(5):
        auth.by_session(cookie)
    assert written == []
    clock(seconds=61)
    auth.by_session(cookie)
    assert len(written) == 1


def test_sessions_are_listed_and_ended(auth):
    _, first, cookie = set_up(auth)
    auth.login("luna", PASSWORD)
    auth.login("luna", PASSWORD)
    who = auth.by_session(cookie)
    items = auth.sessions(who)
    assert len(items) == 3 and [item["id"] for item in items if item["current"]] == [first.id]
    assert not any("hash" in item for item in items)
    other = next(item["id"] for item in items if not item["current"])
    auth.end_session(who, other)
    with pytest.raises(NotFound):
        auth.end_session(who, other)
    assert auth.end_other_sessions(who) == 1 and auth.by_session(cookie)
    auth.logout(who)
    assert auth.by_session(cookie) is None and auth.still(who) is None


def test_rights_follow_the_role_at_once(auth, rows):
    set_up(auth)
    users = Users(rows, auth)
    sol = users.add("sol", PASSWORD, "editor")
    _, _, cookie = auth.login("sol", PASSWORD)
    who = auth.by_session(cookie)
    assert who.may("publish") and not who.may("admin")
    users.change(who, sol.id, role="viewer")
    assert auth.by_session(cookie).rights == {"read", "self"} == auth.still(who).rights
    users.change(who, sol.id, disabled=True)
    assert auth.by_session(cookie) is None and auth.still(who) is None


def test_a_new_password_ends_every_other_session_and_renews_this_one(auth):
    _, _, cookie = set_up(auth)
    _, _, elsewhere = auth.login("luna", PASSWORD)
    who = auth.by_session(cookie)
    with pytest.raises(InvalidInput) as caught:
        auth.change_own(who, password="four blue bicycles")
    assert caught.value.errors[0]["field"] == "currentPassword"
    with pytest.raises(InvalidInput):
        auth.change_own(who, password="four blue bicycles", current_password="wrong")
    with pytest.raises(InvalidInput):
        auth.change_own(who, password="password123", current_password=PASSWORD)
    assert auth.by_session(elsewhere)
    _, session, fresh = auth.change_own(who, password="four blue bicycles", current_password=PASSWORD)
    assert auth.by_session(elsewhere) is None and auth.by_session(cookie) is None
    assert auth.by_session(fresh).session_id == session.id
    with pytest.raises(Unauthorized):
        auth.login("luna", PASSWORD)
    assert auth.login("luna", "four blue bicycles")


def test_the_current_password_cannot_be_guessed_either(auth, clock):
    _, _, cookie = set_up(auth)
    who = auth.by_session(cookie)
    for _ in range(5):
        with pytest.raises(InvalidInput):
            auth.change_own(who, password="four blue bicycles", current_password="wrong")
    with pytest.raises(RateLimited):
        auth.change_own(who, password="four blue bicycles", current_password=PASSWORD)


# ---------------------------------------------------------------- tokens


def person(auth: Auth, cookie: str) -> Identity:
    who = auth.by_session(cookie)
    assert who is not None
    return who


def test_a_token_is_shown_once_and_kept_as_a_hash(auth, rows):
    who = person(auth, set_up(auth)[2])
    shown, token = auth.tokens.create(who, " nightly  run ", ["write"])
    assert token.startswith("dd_") and len(token) > 40 and token.startswith(shown["prefix"])
    assert shown["name"] == "nightly run" and shown["scopes"] == ["write"] and shown["expired"] is False
    kept = rows.tokens(who.user_id)[0].to_json()
    assert token not in str(kept) and token not in str(auth.tokens.all(who.user_id)) and "hash" not in shown
    known = auth.by_token(token)
    assert known.kind == "token" and known.rights == {"read", "write"} and known.token_id == shown["id"]
    assert auth.tokens.all(who.user_id)[0]["lastUsedAt"] is not None
    for wrong in ("", "dd_", token[:-1], token + "x", token[3:], shown["prefix"]):
        assert auth.by_token(wrong) is None


def test_a_token_never_has_more_than_its_user(auth, rows):
    admin = person(auth, set_up(auth)[2])
    users = Users(rows, auth)
    sol = users.add("sol", PASSWORD, "editor")
    who = person(auth, auth.login("sol", PASSWORD)[2])
    _, token = auth.tokens.create(who, "x", ["read", "write", "publish"])
    assert auth.by_token(token).rights == {"read", "write", "publish"}
    users.change(admin, sol.id, role="viewer")
    assert auth.by_token(token).rights == {"read"}
    with pytest.raises(InvalidInput) as caught:
        auth.tokens.create(person(auth, auth.login("sol", PASSWORD)[2]), "y", ["publish"])
    assert caught.value.errors[0]["field"] == "scopes"
    users.change(admin, sol.id, role="admin")
    assert "admin" not in auth.by_token(token).rights and "self" not in auth.by_token(token).rights
    users.change(admin, sol.id, disabled=True)
    assert auth.by_token(token) is None
    users.change(admin, sol.id, disabled=False)
    assert auth.by_token(token) is not None
    users.delete(sol.id)
    assert auth.by_token(token) is None


def test_a_token_expires(auth, clock):
    who = person(auth, set_up(auth)[2])
    _, token = auth.tokens.create(who, "x", ["read"], days=2)
    clock(days=1)
    known = auth.by_token(token)
    assert known is not None
    clock(days=2)
    assert auth.by_token(token) is None and auth.still(known) is None
    assert auth.tokens.all(who.user_id)[0]["expired"] is True


@pytest.mark.parametrize(
    "wish",
    [{"days": 0}, {"days": 99999}, {"expires_at": "2020-01-01"}, {"expires_at": "soon"}, {"expires_at": "9999-01-01"},
     {"days": 1, "expires_at": "2099-01-01"}, {"scopes": []}, {"scopes": ["admin"]}, {"name": " "}, {"name": "x" * 101}],
)  # fmt: skip
def test_tokens_that_are_not_made(auth, wish):
    who = person(auth, set_up(auth)[2])
    with pytest.raises(InvalidInput):
        auth.tokens.create(who, **{"name": "x", "scopes": ["read"], **wish})


def test_without_an_account_there_is_no_token(auth):
    with pytest.raises(Conflict):
        auth.tokens.create(LOCAL, "x", ["read"])
    assert auth.tokens.all("") == [] and auth.sessions(LOCAL) == [] and auth.me(LOCAL)["user"] is None


# ---------------------------------------------------------------- accounts


def test_the_first_account_is_never_made_by_adding_one(auth, rows):
    with pytest.raises(Conflict):
        Users(rows, auth).add("sol", PASSWORD, "viewer")
    assert auth.needs_setup()


def test_an_admin_sets_a_password_for_others_but_not_the_own_one(auth, rows):
    admin = person(auth, set_up(auth)[2])
    users = Users(rows, auth)
    sol = users.add("sol", PASSWORD, "editor", "  Sol   S. ")
    assert sol.display_name == "Sol S."
    _, _, cookie = auth.login("sol", PASSWORD)
    users.change(admin, sol.id, password="four blue bicycles")
    assert auth.by_session(cookie) is None and auth.login("sol", "four blue bicycles")
    with pytest.raises(InvalidInput):
        users.change(admin, admin.user_id, password="four blue bicycles")
    with pytest.raises(InvalidInput):
        users.change(admin, sol.id, password="password123")


def test_an_admin_ends_all_a_user_is_signed_in_with(auth, rows):
    set_up(auth)
    users = Users(rows, auth)
    sol = users.add("sol", PASSWORD, "editor")
    _, _, cookie = auth.login("sol", PASSWORD)
    _, token = auth.tokens.create(person(auth, cookie), "x", ["read"])
    access = users.access(sol.id)
    assert len(access["sessions"]) == 1 and len(access["tokens"]) == 1
    assert users.end_access(sol.id) == {"sessions": 1, "tokens": 1}
    assert auth.by_session(cookie) is None and auth.by_token(token) is None
    with pytest.raises(NotFound):
        users.access("user_x")


def test_what_ended_is_removed_when_somebody_signs_in(auth, rows):
    set_up(auth)
    user = rows.find("luna")
    old = rows.sessions(user.id)[0].with_(id="old", hash="0" * 64, expires_at="2020-01-01T00:00:00.000Z")
    rows.add_session(old, keep=9)
    auth.login("luna", PASSWORD)
    assert rows.session_by_id("old") is None and now_iso() > old.expires_at


def test_guessing_from_afar_does_not_shut_out_where_one_is_signed_in(auth, clock):
    auth.setup("Luna", PASSWORD, direct=True, address="192.168.1.5", user_agent="Firefox")
    with pytest.raises(RateLimited):
        for _ in range(10):
            try:
                guess(auth, address="203.0.113.9")
            except Unauthorized:
                continue
    user, _, _ = auth.login("luna", PASSWORD, address="192.168.1.5")
    assert user.name == "Luna"
    with pytest.raises(RateLimited):  # a new place waits as before: the name is what is being guessed at
        auth.login("luna", PASSWORD, address="198.51.100.7")
    for _ in range(5):
        with pytest.raises(Unauthorized):
            guess(auth, address="192.168.1.5")
    with pytest.raises(RateLimited):  # and the known place has its own five
        guess(auth, address="192.168.1.5")
