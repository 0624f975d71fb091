"""Posts: transitions, claims, recovery, lists. What must hold whoever calls."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from dalla.errors import Conflict, NotFound, Stale
from dalla.ids import new_id
from dalla.records.post import POST_TRANSITIONS, Attempt, OutboxRequest, Post, PostFilter, PreparedFile
from dalla.stores.accounts import SqlAccounts
from dalla.stores.leases import SqlLeases
from dalla.stores.library import Library
from dalla.stores.posts import SqlPosts

NOON, LATER, UNTIL = "2026-11-21T12:00:00.000Z", "2026-11-21T12:01:00.000Z", "2026-11-21T12:10:00.000Z"
GAPS: dict[str, int] = {}


@pytest.fixture
def library(tmp_path: Path) -> Iterator[Library]:
    library = Library.open(tmp_path / "dalla.db")
    yield library
    library.close()


@pytest.fixture
def store(library: Library) -> SqlPosts:
    return SqlPosts(library)


def make(store: SqlPosts, **more: Any) -> Post:
    values = {"id": new_id("post"), "character_id": "char_1", "platform": "instagram", "status": "scheduled"}
    values |= {"scheduled_at": NOON, "due_at": NOON, "media_ids": ["media_1"]}
    return store.insert(Post.model_validate(values | more))


def test_a_post_comes_back_as_it_was(store: SqlPosts) -> None:
    file = PreparedFile(media_id="media_1", key="posts/ab/x.jpg", sha256="ab", width=4, height=5, size_bytes=6)
    post = make(store, caption="é 👾", alt_texts=["one"], files=[file], remote={"container": "17"})
    assert store.get(post.id) == post
    assert store.get_many([post.id, "post_none"]) == [post]
    with pytest.raises(NotFound):
        store.get("post_none")
    with pytest.raises(Conflict):
        store.insert(post)


def test_one_post_per_slot_of_a_rule_and_platform(store: SqlPosts) -> None:
    first = make(store, task_id="task_1", slot=NOON)
    with pytest.raises(Conflict):
        make(store, task_id="task_1", slot=NOON)
    make(store, task_id="task_1", slot=NOON, platform="twitter")
    make(store, task_id="task_2", slot=NOON)
    make(store)
    make(store)  # without a rule there is no slot to collide on
    assert store.for_slot("task_1", "instagram", NOON) == first


@pytest.mark.parametrize("start", sorted(POST_TRANSITIONS))
def test_only_the_changes_of_the_table_happen(store: SqlPosts, start: str) -> None:
    for to in POST_TRANSITIONS:
        post = make(store, status=start)
        fields = {"platform_post_id": "1"} if to == "published" else {}
        if to in POST_TRANSITIONS[start]:
            changed = store.transition(post.id, to, **fields)
            assert (changed.status, changed.revision) == (to, post.revision + 1)
        else:
            with pytest.raises(Conflict):
                store.transition(post.id, to, **fields)
            assert store.get(post.id) == post


def test_published_exists_only_with_the_platforms_id(store: SqlPosts) -> None:
    post = make(store, status="publishing")
    with pytest.raises(TypeError):
        store.transition(post.id, "published")
    assert store.get(post.id).status == "publishing"


def test_editing_refuses_what_is_on_its_way_and_what_somebody_else_changed(store: SqlPosts) -> None:
    post = make(store, status="draft")
    edited = store.edit(post.id, caption="new", if_revision=post.revision)
    assert edited.caption == "new"
    with pytest.raises(Stale) as stale:
        store.edit(post.id, caption="other", if_revision=post.revision)
    assert stale.value.extra["current"]["caption"] == "new"
    with pytest.raises(Conflict):
        store.edit(make(store, status="publishing").id, caption="x")
    with pytest.raises(TypeError):
        store.edit(post.id, status="published")


def test_claims_take_one_post_per_account_and_only_what_is_due(store: SqlPosts) -> None:
    first = make(store)
    make(store)  # the same account
    other = make(store, platform="twitter")
    make(store, character_id="char_2", due_at=UNTIL)
    make(store, character_id="char_3")
    taken = store.claim("me", LATER, UNTIL, gaps=GAPS, skip={("char_3", "instagram")})
    assert {post.id for post in taken} == {first.id, other.id}
    assert {(post.status, post.lease_owner, post.lease_until) for post in taken} == {("claimed", "me", UNTIL)}
    assert store.claim("me", LATER, UNTIL, gaps=GAPS, skip={("char_3", "instagram")}) == []


def test_an_account_rests_between_two_posts(store: SqlPosts) -> None:
    make(store, status="publishing")
    published = store.page(PostFilter(statuses=["publishing"])).items[0]
    store.transition(published.id, "published", platform_post_id="1", published_at="2026-11-21T11:58:00.000Z")
    waiting = make(store)
    elsewhere = make(store, platform="twitter")
    taken = store.claim("me", LATER, UNTIL, gaps={"instagram": 300, "twitter": 300}, skip=set())
    assert [post.id for post in taken] == [elsewhere.id]
    taken = store.claim("me", "2026-11-21T12:03:01.000Z", UNTIL, gaps={"instagram": 300}, skip=set())
    assert [post.id for post in taken] == [waiting.id]


def test_a_clock_set_back_does_not_stop_an_account(store: SqlPosts) -> None:
    done = make(store, status="publishing")
    store.transition(done.id, "published", platform_post_id="1", published_at="2026-11-21T13:00:00.000Z")
    waiting = make(store)
    assert [p.id for p in store.claim("me", LATER, UNTIL, gaps={"instagram": 300}, skip=set())] == [waiting.id]


def test_many_claimers_share_the_posts_without_a_double(tmp_path: Path) -> None:
    libraries = [Library.open(tmp_path / "dalla.db") for _ in range(3)]
    stores = [SqlPosts(library) for library in libraries]
    wanted = {make(stores[0], character_id=f"char_{n}").id for n in range(60)}
    taken: list[str] = []
    lock = threading.Lock()

    def work(n: int) -> None:
        while posts := stores[n % 3].claim(f"owner{n}", LATER, UNTIL, gaps=GAPS, skip=set(), limit=3):
            with lock:
                taken.extend(post.id for post in posts)

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(work, range(6)))
    assert sorted(taken) == sorted(wanted)
    for library in libraries:
        library.close()


def test_a_lost_lease_is_adopted_and_its_owner_can_write_no_more(store: SqlPosts) -> None:
    post = make(store)
    store.claim("dead", LATER, UNTIL, gaps=GAPS, skip=set())
    store.transition(post.id, "uploading", owned_by="dead")
    assert store.adopt("me", LATER, UNTIL) == []
    after = "2026-11-21T12:10:00.001Z"
    (mine,) = store.adopt("me", after, "2026-11-21T12:20:00.000Z")
    assert (mine.id, mine.status, mine.lease_owner) == (post.id, "uploading", "me")
    for write in (
        lambda: store.save(post.id, "dead", remote={"container": "1"}),
        lambda: store.transition(post.id, "publishing", owned_by="dead"),
    ):
        with pytest.raises(Conflict):
            write()
    assert not store.renew(post.id, "dead", UNTIL)
    assert store.renew(post.id, "me", UNTIL)


def test_the_leases_of_a_dead_owner_can_be_ended_at_once(store: SqlPosts) -> None:
    make(store)
    store.claim("dead", LATER, UNTIL, gaps=GAPS, skip=set())
    assert store.owners() == {"dead"}
    assert store.abandon(["dead"], LATER) == 1
    assert len(store.adopt("me", LATER, UNTIL)) == 1


def test_what_waits_for_the_platform_is_resumed_when_its_time_comes(store: SqlPosts) -> None:
    post = make(store)
    store.claim("me", LATER, UNTIL, gaps=GAPS, skip=set())
    store.transition(post.id, "uploading", owned_by="me")
    store.save(post.id, "me", lease_owner=None, lease_until=None, due_at="2026-11-21T12:05:00.000Z")
    assert store.next_due() == "2026-11-21T12:05:00.000Z"
    assert store.resume("me", LATER, UNTIL) == []
    assert [p.id for p in store.resume("me", "2026-11-21T12:05:00.000Z", UNTIL)] == [post.id]


def test_pages_in_both_orders_and_counts(store: SqlPosts) -> None:
    ids = [make(store, scheduled_at=f"2026-11-21T12:{n:02}:00.000Z", media_ids=[f"media_{n % 2}"]).id for n in range(7)]
    make(store, character_id="char_2", status="draft", hold="approval")
    mine = PostFilter(character_id="char_1")
    for sort, expected in (("soonest", ids), ("newest", ids[::-1])):
        seen, cursor = [], None
        while True:
            page = store.page(mine, limit=3, cursor=cursor, sort=sort)
            seen += [post.id for post in page.items]
            assert page.total == 7
            cursor = page.next_cursor
            if cursor is None:
                break
        assert seen == expected
    assert len(store.page(PostFilter(media_id="media_0")).items) == 4
    assert len(store.page(PostFilter(hold="any")).items) == 1
    assert {p.hold for p in store.page(PostFilter(hold="none")).items} == {None}
    assert store.counts()["scheduled"] == 7
    assert store.counts()["held"] == 1
    between = store.between("2026-11-21T12:02:00.000Z", "2026-11-21T12:04:00.000Z")
    assert [post.id for post in between] == ids[2:4]


def test_used_pictures_and_doubles(store: SqlPosts) -> None:
    file = PreparedFile(media_id="media_1", key="k", sha256="aa", width=4, height=5, size_bytes=6)
    live = make(store, status="publishing", caption="Hello  there", files=[file])
    store.transition(live.id, "published", platform_post_id="9", published_at=NOON)
    make(store, status="failed", media_ids=["media_2"])
    draft = make(store, status="draft", media_ids=["media_3"])
    assert store.used_media("char_1") == {"media_1", "media_3"}
    look = {"after": "2026-11-01T00:00:00.000Z", "except_id": draft.id}
    assert [p.id for p in store.similar("char_1", "instagram", caption="hello there", sha256=[], **look)] == []
    assert [p.id for p in store.similar("char_1", "instagram", caption="Hello there", sha256=[], **look)] == [live.id]
    assert [p.id for p in store.similar("char_1", "instagram", caption="", sha256=["aa"], **look)] == [live.id]
    store.edit(draft.id, media_ids=["media_4"])
    assert store.used_media("char_1") == {"media_1", "media_4"}
    assert store.file_hashes(settled_before="2026-01-01T00:00:00.000Z") == {"aa"}


def test_only_what_is_not_on_its_way_or_out_can_be_deleted(store: SqlPosts) -> None:
    draft = make(store, status="draft")
    store.begin_attempt(Attempt(post_id=draft.id, step="upload", started_at=NOON))
    store.delete(draft.id)
    assert store.attempts(draft.id) == []
    for status in ("scheduled", "claimed", "publishing", "published", "unconfirmed"):
        with pytest.raises(Conflict):
            store.delete(make(store, status=status).id)


def test_attempts_and_the_outbox_keep_their_order(store: SqlPosts) -> None:
    one = store.begin_attempt(Attempt(post_id="post_1", step="upload", started_at=NOON))
    store.begin_attempt(Attempt(post_id="post_1", step="publish", started_at=NOON))
    store.end_attempt(one.id, outcome="error", http=400, code="190", ended_at=LATER)
    assert [(a.step, a.outcome, a.http) for a in store.attempts("post_1")] == [
        ("upload", "error", 400),
        ("publish", "running", None),
    ]
    for n in range(3):
        store.add_outbox(OutboxRequest(post_id="post_1", platform="twitter", method="POST", url=f"/{n}"))
    assert [r.url for r in store.outbox(post_id="post_1").items] == ["/0", "/1", "/2"]
    page = store.outbox(limit=2)
    assert [r.url for r in page.items] == ["/2", "/1"]
    assert [r.url for r in store.outbox(limit=2, cursor=page.next_cursor).items] == ["/0"]
    assert store.clear_outbox() == 3


def test_leases_belong_to_one_and_run_out(library: Library) -> None:
    leases = SqlLeases(library)
    assert leases.acquire("scheduler", "a", NOON, LATER)
    assert not leases.acquire("scheduler", "b", NOON, LATER)
    assert leases.acquire("scheduler", "a", NOON, UNTIL)
    assert leases.holder("scheduler") == ("a", UNTIL, NOON)
    assert leases.acquire("scheduler", "b", "2026-11-21T12:10:00.001Z", "2026-11-21T12:20:00.000Z")
    leases.release("scheduler", "a")
    assert leases.holder("scheduler") is not None
    leases.release("scheduler", "b")
    assert leases.holder("scheduler") is None


def test_switches_change_as_one_step(library: Library) -> None:
    leases = SqlLeases(library)
    assert leases.switch("paused") is None
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: leases.change_switch("n", NOON, lambda v: (v or 0) + 1), range(40)))
    assert leases.switch("n") == 40


def test_accounts_remember_and_count(library: Library) -> None:
    accounts = SqlAccounts(library)
    assert accounts.get("char_1", "instagram").failures == 0
    accounts.save("char_1", "instagram", username="luna", extra={"user_id": "7"})
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: accounts.count_failure("char_1", "twitter", f"e{n}", NOON), range(20)))
    assert accounts.get("char_1", "twitter").failures == 20
    assert [(a.platform, a.username) for a in accounts.all()] == [("instagram", "luna"), ("twitter", None)]
    with pytest.raises(TypeError):
        accounts.save("char_1", "instagram", platform="x")
    accounts.delete("char_1")
    assert accounts.all() == []
