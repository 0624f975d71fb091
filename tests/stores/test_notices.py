"""The NoticeStore: notifications by key, webhooks, deliveries and who takes them."""

from __future__ import annotations

import threading

import pytest

from dalla.errors import InvalidInput, NotFound
from dalla.records.notice import Delivery, Notification, Webhook
from dalla.stores.library import Library
from dalla.stores.notices import SqlNotices


@pytest.fixture
def store(library: Library) -> SqlNotices:
    return SqlNotices(library)


def note(number: int, **values) -> Notification:
    defaults = {
        "id": f"note_{number}",
        "kind": "post.failed",
        "title": f"Number {number}",
        "created_at": f"2026-01-01T00:{number:02}:00.000Z",
    }
    return Notification(**{**defaults, **values})


def hook(id: str = "hook_1", **values) -> Webhook:
    return Webhook(**{"id": id, "url": f"https://{id}.example/", "events": ["post.failed"], **values})


def delivery(number: int, webhook_id: str = "hook_1", **values) -> Delivery:
    defaults = {
        "id": f"dlv_{number}",
        "webhook_id": webhook_id,
        "event": "post.failed",
        "body": {"data": {"n": number}},
        "next_try_at": f"2026-01-01T00:{number:02}:00.000Z",
        "created_at": f"2026-01-01T00:{number:02}:00.000Z",
    }
    return Delivery(**{**defaults, **values})


def test_a_notification_comes_back_as_it_was(store):
    full = note(1, level="warning", detail="why", href="/x.html", action="Look", character_id="char_1", key="k")
    store.notify(full)
    assert store.notifications().items == [full]
    assert store.find("k") == full


def test_the_same_key_replaces_and_is_unread_again(store):
    store.notify(note(1, key="post:1"))
    store.notify(note(2))
    assert store.mark_read(None, "2026-01-02T00:00:00.000Z") == 2
    store.notify(note(3, key="post:1", title="Again"))
    assert [n.title for n in store.notifications().items] == ["Again", "Number 2"]
    assert store.unread() == 1
    assert [n.id for n in store.notifications(unread=True).items] == ["note_3"]


def test_notifications_without_a_key_do_not_replace_each_other(store):
    store.notify(note(1))
    store.notify(note(2))
    assert store.notifications().total == 2


def test_reading_some_leaves_the_others(store):
    for n in range(3):
        store.notify(note(n))
    assert store.mark_read(["note_1", "note_9"], "2026-01-02T00:00:00.000Z") == 1
    assert store.mark_read(["note_1"], "2026-01-03T00:00:00.000Z") == 0
    assert store.unread() == 2
    assert store.find("none") is None
    assert {n.id: n.read_at for n in store.notifications().items}["note_1"] == "2026-01-02T00:00:00.000Z"


def test_resolving_removes(store):
    store.notify(note(1, key="post:1"))
    assert store.discard("post:1") is True
    assert store.discard("post:1") is False
    assert store.notifications().total == 0


def test_pages_follow_each_other_without_gap_or_repeat(store):
    for n in range(7):
        store.notify(note(n, created_at="2026-01-01T00:00:00.000Z"))  # all at the same moment
    seen, cursor = [], None
    while True:
        page = store.notifications(limit=3, cursor=cursor)
        seen += [n.id for n in page.items]
        assert page.total == 7
        cursor = page.next_cursor
        if cursor is None:
            break
    assert seen == [f"note_{n}" for n in reversed(range(7))]


def test_a_cursor_of_another_list_is_refused(store):
    for n in range(3):
        store.notify(note(n))
    cursor = store.notifications(limit=1).next_cursor
    with pytest.raises(InvalidInput):
        store.notifications(unread=True, cursor=cursor)
    with pytest.raises(InvalidInput):
        store.notifications(limit=0)


def test_old_notifications_are_forgotten(store):
    store.notify(note(1))
    store.notify(note(5))
    assert store.delete_notifications("2026-01-01T00:03:00.000Z") == 1
    assert [n.id for n in store.notifications().items] == ["note_5"]


def test_webhooks_are_saved_changed_and_deleted_with_their_deliveries(store):
    store.save_webhook(hook(created_at="2026-01-01T00:00:00.000Z"))
    store.save_webhook(hook("hook_2", created_at="2026-01-02T00:00:00.000Z"))
    store.save_webhook(store.webhook("hook_1").with_(active=False, events=["task.failed"]))
    assert [(h.id, h.active) for h in store.webhooks()] == [("hook_1", False), ("hook_2", True)]
    store.add_delivery(delivery(1))
    store.add_delivery(delivery(2, "hook_2"))
    store.delete_webhook("hook_1")
    with pytest.raises(NotFound):
        store.webhook("hook_1")
    with pytest.raises(NotFound):
        store.delivery("dlv_1")
    with pytest.raises(NotFound):
        store.delete_webhook("hook_1")
    assert store.delivery("dlv_2").body == {"data": {"n": 2}}


def test_a_delivery_needs_its_webhook(store):
    with pytest.raises(NotFound):
        store.add_delivery(delivery(1))


def test_due_are_pending_ones_whose_time_has_come_oldest_first(store):
    store.save_webhook(hook())
    for n in (3, 1, 2, 9):
        store.add_delivery(delivery(n))
    store.add_delivery(delivery(0, status="failed"))
    store.add_delivery(delivery(4, next_try_at=None))
    due = store.due_deliveries("2026-01-01T00:03:00.000Z")
    assert [d.id for d in due] == ["dlv_1", "dlv_2", "dlv_3"]
    assert [d.id for d in store.due_deliveries("2026-01-01T00:03:00.000Z", limit=1)] == ["dlv_1"]


def test_one_of_many_takes_a_delivery(store):
    store.save_webhook(hook())
    row = store.add_delivery(delivery(1))
    won = []
    barrier = threading.Barrier(8)

    def take():
        barrier.wait()
        if store.claim_delivery(row.id, row.next_try_at, "2026-01-01T01:00:00.000Z"):
            won.append(1)

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert store.due_deliveries("2026-01-01T00:30:00.000Z") == []
    assert len(store.due_deliveries("2026-01-01T01:00:00.000Z")) == 1  # whoever took it died: it is due again


def test_saving_a_delivery(store):
    store.save_webhook(hook())
    store.add_delivery(delivery(1))
    done = store.save_delivery(
        "dlv_1", status="delivered", attempts=2, response_code=204, next_try_at=None, detail="ok"
    )
    assert (done.status, done.attempts, done.response_code, done.detail) == ("delivered", 2, 204, "ok")
    assert store.delivery("dlv_1") == done
    with pytest.raises(NotFound):
        store.save_delivery("dlv_9", status="failed")
    with pytest.raises(TypeError):
        store.save_delivery("dlv_1", body={})


def test_deliveries_by_webhook_and_the_last_of_each(store):
    store.save_webhook(hook())
    store.save_webhook(hook("hook_2"))
    store.save_webhook(hook("hook_3"))
    for n in range(4):
        store.add_delivery(delivery(n, "hook_1" if n < 3 else "hook_2"))
    first = store.deliveries("hook_1", limit=2)
    assert [d.id for d in first.items] == ["dlv_2", "dlv_1"] and first.total == 3
    assert [d.id for d in store.deliveries("hook_1", limit=2, cursor=first.next_cursor).items] == ["dlv_0"]
    assert {k: d.id for k, d in store.last_deliveries().items()} == {"hook_1": "dlv_2", "hook_2": "dlv_3"}


def test_old_deliveries_are_forgotten_but_not_pending_ones(store):
    store.save_webhook(hook())
    store.add_delivery(delivery(1, status="delivered"))
    store.add_delivery(delivery(2))
    store.add_delivery(delivery(9, status="failed"))
    assert store.delete_deliveries("2026-01-01T00:05:00.000Z") == 1
    assert {d.id for d in store.deliveries("hook_1").items} == {"dlv_2", "dlv_9"}
