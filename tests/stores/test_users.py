"""The contract of UserStore: people, sessions, tokens, and how failed attempts are slowed."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest

from dalla.errors import Conflict, NotFound
from dalla.records.user import ApiToken, User, UserSession
from dalla.stores.base import Lock
from dalla.stores.users import SqlUsers, active_admin_exists
from dalla.times import iso, parse

T0 = "2026-01-01T00:00:00.000Z"


def after(seconds: float) -> str:
    return iso(parse(T0) + timedelta(seconds=seconds))


@pytest.fixture
def users(library) -> SqlUsers:
    return SqlUsers(library)


def person(name: str, role: str = "viewer", **more) -> User:
    return User(id=f"user_{name.lower()}", name=name, role=role, password="hash", created_at=T0, updated_at=T0, **more)


def signed_in(user: str, number: int, **more) -> UserSession:
    values = {"expires_at": after(1000), "last_seen_at": after(number), "idle_seconds": 100} | more
    return UserSession(id=f"s{number}", user_id=user, hash=f"{number:064}", created_at=T0, **values)


def key(user: str, number: int, **more) -> ApiToken:
    values = {"name": f"t{number}", "scopes": ["read"], "created_at": after(number)} | more
    return ApiToken(id=f"t{number}", user_id=user, hash=f"{number:064}", prefix="dd_abc", **values)


def test_what_is_kept_comes_back(users):
    luna = person("Luna", "editor", display_name="Luna M.", last_login_at=T0)
    assert not users.any()
    users.insert(luna)
    assert users.any() and users.get(luna.id) == luna and users.all() == [luna]
    session, token = signed_in(luna.id, 1, remember=True, user_agent="F", address="::1"), key(luna.id, 2, expires_at=T0)
    users.add_session(session, keep=5)
    users.add_token(token, most=5)
    assert users.session(session.hash) == (session, luna) == users.session_by_id("s1")
    assert users.token(token.hash) == (token, luna) == users.token_by_id("t2")
    assert users.session("0" * 64) is None and users.token("0" * 64) is None


@pytest.mark.parametrize("other", ["luna", "LUNA", "ＬＵＮＡ"])
def test_names_are_one_whatever_their_case(users, other):
    users.insert(person("Luna"))
    assert users.find(other).name == "Luna"
    with pytest.raises(Conflict):
        users.insert(person(other).with_(id="user_2"))
    assert users.find("lun") is None


def test_of_two_first_accounts_at_once_one_is_made(users, library):
    made, start = [], threading.Barrier(4)

    def first(number: int) -> None:
        start.wait()
        made.append(SqlUsers(library).insert_first(person(f"p{number}", "admin")))

    threads = [threading.Thread(target=first, args=(number,)) for number in range(4)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert sorted(made) == [False, False, False, True] and len(users.all()) == 1


def test_the_last_admin_stays(users):
    first, second = person("a", "admin"), person("b", "admin")
    users.insert(first)
    users.insert(person("v"))
    users.insert(person("off", "admin", disabled=True))
    for change in ({"role": "editor"}, {"disabled": True}):
        with pytest.raises(Conflict):
            users.update(first.id, lambda user, c=change: user.with_(**c))
    with pytest.raises(Conflict):
        users.delete(first.id)
    assert users.get(first.id) == first
    assert users.update(first.id, lambda user: user.with_(display_name="x")).display_name == "x"
    users.insert(second)
    assert users.update(first.id, lambda user: user.with_(role="viewer")).role == "viewer"
    with pytest.raises(Conflict):
        users.delete(second.id)


def test_two_admins_who_demote_each_other_at_once_leave_one(users, library):
    users.insert(person("a", "admin"))
    users.insert(person("b", "admin"))
    refused, start = [], threading.Barrier(2)

    def demote(id: str) -> None:
        start.wait()
        try:
            SqlUsers(library).update(id, lambda user: user.with_(role="viewer"))
        except Conflict:
            refused.append(id)

    threads = [threading.Thread(target=demote, args=(f"user_{name}",)) for name in "ab"]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert len(refused) == 1 and [user.role for user in users.all()].count("admin") == 1


def test_what_belongs_to_a_user_goes_with_them(users):
    users.insert(person("a", "admin"))
    users.insert(person("b"))
    users.add_session(signed_in("user_b", 1), keep=5)
    users.add_token(key("user_b", 1), most=5)
    users.delete("user_b")
    assert users.session_by_id("s1") is None and users.token_by_id("t1") is None
    with pytest.raises(NotFound):
        users.get("user_b")


def test_sessions_end_one_by_one_all_but_one_and_the_oldest_when_there_are_too_many(users):
    users.insert(person("a"))
    users.insert(person("b"))
    for number in (1, 2, 3, 4):
        users.add_session(signed_in("user_a", number), keep=3)
    users.add_session(signed_in("user_b", 9), keep=3)
    assert [session.id for session in users.sessions("user_a")] == ["s4", "s3", "s2"]
    users.seen("s2", after(50))
    assert [session.id for session in users.sessions("user_a")] == ["s2", "s4", "s3"]
    assert not users.delete_session("user_b", "s4"), "somebody else's"
    assert users.delete_session("user_a", "s4") and users.delete_sessions("user_a", but="s2") == 1
    assert [session.id for session in users.sessions("user_a")] == ["s2"] and users.session_by_id("s9")


def test_tokens(users):
    users.insert(person("a"))
    users.add_token(key("user_a", 1), most=2)
    with pytest.raises(Conflict, match="called"):
        users.add_token(key("user_a", 2, name="t1"), most=2)
    users.add_token(key("user_a", 2), most=2)
    with pytest.raises(Conflict, match="2 tokens"):
        users.add_token(key("user_a", 3), most=2)
    users.used("t1", after(5))
    assert [(token.id, token.last_used_at) for token in users.tokens("user_a")] == [("t2", None), ("t1", after(5))]
    assert not users.delete_token("user_b", "t1") and users.delete_token("user_a", "t1")
    assert users.delete_tokens("user_a") == 1


def test_the_revision_grows_with_every_change(users):
    seen = [users.revision()]
    for change in (
        lambda: users.insert(person("a", "admin")),
        lambda: users.update("user_a", lambda user: user.with_(display_name="x")),
        lambda: users.add_session(signed_in("user_a", 1), keep=3),
        lambda: users.add_token(key("user_a", 1), most=3),
        lambda: users.delete_sessions("user_a"),
        lambda: users.delete_tokens("user_a"),
    ):
        change()
        seen.append(users.revision())
    assert seen == sorted(set(seen))


LOCK = Lock("name:x", free=3, first=10, most=60, forget=1000)


def test_attempts_wait_longer_and_longer(users):
    assert [users.attempt([LOCK], after(number)) for number in (0, 1, 2)] == [0, 0, 0]
    assert users.attempt([LOCK], after(3)) == pytest.approx(9)
    assert users.attempt([LOCK], after(11)) == pytest.approx(1), "trying meanwhile makes it no longer"
    moment, waits = 12.0, []
    for _ in range(4):
        assert users.attempt([LOCK], after(moment)) == 0
        waits.append(users.attempt([LOCK], after(moment)))
        moment += waits[-1]
    assert waits == pytest.approx([20, 40, 60, 60])
    assert users.attempt([LOCK], after(moment + 1001)) == 0
    assert users.attempt([LOCK], after(moment + 1002)) == 0, "forgotten after a while"


def test_one_closed_lock_is_enough_and_nothing_is_counted_meanwhile(users):
    other = Lock("address:1", free=3, first=10, most=60, forget=1000)
    for number in (0, 1, 2):
        users.attempt([LOCK], after(number))
    assert users.attempt([LOCK, other], after(3)) > 0
    assert [users.attempt([other], after(4)) for _ in range(3)] == [0, 0, 0]


def test_success_forgives(users):
    for number in (0, 1):
        users.attempt([LOCK], after(number))
    users.forgive(LOCK, all=True)
    assert [users.attempt([LOCK], after(2)) for _ in range(3)] == [0, 0, 0]
    users.forgive(LOCK, all=False)
    assert users.attempt([LOCK], after(3)) == 0, "one was taken back, and the lock is open again"


def test_signing_in_to_an_own_account_buys_no_guesses(users):
    moment = 0.0
    for _ in range(6):
        moment += users.attempt([LOCK], after(moment))
    assert users.attempt([LOCK], after(moment)) == 0, "the fifth: closed again from here"
    users.forgive(LOCK, all=False)
    assert users.attempt([LOCK], after(moment)) > 0


def test_many_attempts_at_once_pass_no_more_than_are_free(users, library):
    passed, start = [], threading.Barrier(8)

    def guess() -> None:
        start.wait()
        passed.append(SqlUsers(library).attempt([LOCK], T0) == 0)

    threads = [threading.Thread(target=guess) for _ in range(8)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert passed.count(True) == 3


def test_a_restart_does_not_forget_attempts(users, library):
    for _ in range(3):
        users.attempt([LOCK], T0)
    assert SqlUsers(library).attempt([LOCK], after(1)) > 0


def test_purge(users):
    users.insert(person("a"))
    users.add_session(signed_in("user_a", 1, expires_at=after(10)), keep=5)
    users.add_session(signed_in("user_a", 2), keep=5)
    users.attempt([LOCK], T0)
    assert users.purge(after(11), attempts_before=after(5)) == 2
    assert [session.id for session in users.sessions("user_a")] == ["s2"]


def test_whether_an_admin_could_sign_in_is_asked_of_the_file(users, library, tmp_path):
    assert not active_admin_exists(library.file)
    users.insert(person("v", "editor"))
    users.insert(person("off", "admin", disabled=True))
    assert not active_admin_exists(library.file)
    users.insert(person("a", "admin"))
    assert active_admin_exists(library.file)
    assert not active_admin_exists(tmp_path / "none.db")
    (tmp_path / "broken.db").write_bytes(b"not a database" * 100)
    assert not active_admin_exists(tmp_path / "broken.db")
