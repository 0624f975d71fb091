"""Notices: what people and programs are told, and that no event is lost or invented."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from dalla.addresses import Answer
from dalla.errors import Conflict, InvalidInput, NotFound, StorageError, UpstreamError
from dalla.events import EventBus
from dalla.jobs.local import LocalQueue
from dalla.records.notice import Delivery
from dalla.services.notices import Notices
from dalla.services.webhook_delivery import attempt, form_of, message, signature
from dalla.stores.library import Library
from dalla.stores.notices import SqlNotices
from dalla.stores.secrets import FileSecrets
from dalla.stores.tasks import SqlTasks
from tests.conftest import make_settings
from tests.fakes.receiver import ReceiverFake

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
PUBLIC = "https://93.184.216.34"


class Kit:
    """Notices on real stores, with a clock that is turned by hand."""

    def __init__(self, tmp_path, *, immediate: bool = True, **env: str) -> None:
        self.at = START
        self.settings = make_settings(tmp_path, **{"DALLA_WEBHOOK_PRIVATE": "true", **env})
        self.library = Library.open(tmp_path / "dalla.db")
        self.store = SqlNotices(self.library)
        self.events = EventBus()
        self.secrets = FileSecrets(tmp_path / "secrets", "a passphrase of the tests")
        self.sent: list[tuple[str, bytes, dict[str, str]]] = []
        self.restart(immediate=immediate)

    def restart(self, *, immediate: bool = True, **options) -> Notices:
        """The same data, opened by another process."""
        self.tasks = SqlTasks(self.library)
        self.jobs = LocalQueue(self.tasks, self.events, immediate=immediate)
        self.notices = Notices(
            self.settings, self.store, self.secrets, self.events, self.jobs, now=lambda: self.at, **options
        )
        return self.notices

    def hook(self, url: str, events: list[str] | None = None) -> str:
        answer, self.secret = self.notices.create_webhook(url=url, events=events or ["post.published", "post.failed"])
        return answer["id"]

    def told(self, type: str) -> list[dict]:
        return [event.data for event in self.events.since(0, 0)[0] if event.type == type]

    def later(self, **delta) -> None:
        self.at += timedelta(**delta)
        self.notices.tick()


@pytest.fixture
def kit(tmp_path):
    kit = Kit(tmp_path)
    yield kit
    kit.library.close()


@pytest.fixture
def receiver():
    with ReceiverFake() as fake:
        yield fake


def only(kit: Kit, id: str) -> Delivery:
    page = kit.notices.deliveries(id)
    assert page.total == 1
    return page.items[0]


# ---------------------------------------------------------------- notifications


def test_a_notification_is_kept_and_told(kit):
    notice = kit.notices.notify("post.failed", "It failed", "because", href="/content.html?post=1", key="post:1")
    assert kit.notices.page().items == [notice]
    told = kit.told("notification")
    assert (
        told[0]["title"] == "It failed"
        and told[0]["unread"] == 1
        and told[0]["createdAt"] == "2026-03-01T12:00:00.000Z"
    )
    kit.notices.notify("post.failed", "It failed again", key="post:1")
    assert kit.notices.page().total == 1


def test_resolving_and_reading_are_told(kit):
    kit.notices.notify("post.failed", "It failed", key="post:1")
    kit.notices.notify("post.missed", "Missed")
    kit.notices.resolve("post:1")
    kit.notices.resolve("post:1")
    assert kit.notices.read() == 1
    assert kit.notices.read() == 0
    told = kit.told("notification.changed")
    assert told == [{"resolved": "post:1", "unread": 1}, {"read": "all", "unread": 0}]


@pytest.mark.parametrize("href", ["//evil.example/", "https://evil.example/", "javascript:alert(1)", "content.html"])
def test_links_lead_only_into_this_app(kit, href):
    assert kit.notices.notify("x", "y", href=href).href is None


def test_a_full_disk_does_not_end_the_callers_work(kit):
    def full(*_args, **_more):
        raise StorageError("There is no space left.")

    kit.store.notify = kit.store.discard = kit.store.webhooks = full  # type: ignore[method-assign]
    assert kit.notices.notify("x", "Title").title == "Title"
    kit.notices.resolve("x")
    assert kit.notices.emit("post.failed", {}) == 0


def test_housekeeping_forgets_what_is_old_and_secrets_without_a_webhook(kit, receiver):
    kit.notices.notify("x", "old")
    id = kit.hook(receiver.url)
    receiver.secret = kit.secret
    kit.notices.emit("post.failed", {})
    kit.secrets.put("webhooks/hook_gone", "whsec_left")
    kit.secrets.put("char_1/instagramApiKey", "stays")
    kit.at += timedelta(days=100)
    kit.notices.notify("x", "new")
    kit.notices.housekeeping()
    assert [n.title for n in kit.notices.page().items] == ["new"]
    assert kit.notices.deliveries(id).total == 0
    assert kit.secrets.names() == ["char_1/instagramApiKey", f"webhooks/{id}"]


# ---------------------------------------------------------------- webhooks


def test_the_secret_is_shown_once_and_kept_apart(kit, receiver):
    hook, secret = kit.notices.create_webhook(url=receiver.url, events=["post.failed"], description=" Phone ")
    assert secret.startswith("whsec_") and len(secret) > 40
    assert secret not in json.dumps(kit.notices.webhooks()) and hook["hasSecret"] is True
    assert hook["description"] == "Phone" and hook["format"] == "json"
    assert kit.secrets.get(f"webhooks/{hook['id']}") == secret
    assert kit.notices.new_secret(hook["id"]) != secret
    kit.notices.delete_webhook(hook["id"])
    assert kit.secrets.names() == []
    with pytest.raises(NotFound):
        kit.notices.new_secret(hook["id"])


def test_an_event_arrives_signed(kit, receiver):
    id = kit.hook(receiver.url)
    receiver.secret = kit.secret
    assert kit.notices.emit("post.published", {"postId": "post_1", "caption": "Grüße 🌙"}) == 1
    (event,) = receiver.events.values()
    assert receiver.refused == []
    assert event["event"] == "post.published" and event["data"] == {"postId": "post_1", "caption": "Grüße 🌙"}
    assert event["timestamp"] == "2026-03-01T12:00:00.000Z"
    call = receiver.requests[0]
    assert call.headers["X-Dalla-Timestamp"] == str(int(START.timestamp()))
    assert call.headers["Content-Type"] == "application/json"
    done = only(kit, id)
    assert (done.status, done.attempts, done.response_code, done.next_try_at) == ("delivered", 1, 200, None)
    assert done.id == event["id"]


def test_the_signature_is_what_the_documentation_says():
    # printf '1700000000.{"a":1}' | openssl dgst -sha256 -hmac whsec_test
    expected = "sha256=38877139021993b830af32feea6e18a8da83eb2f6e49ee50bd9e4cf4ca4d3789"
    assert signature("whsec_test", "1700000000", b'{"a":1}') == expected


def test_only_who_asked_is_told(kit, receiver):
    asked = kit.hook(receiver.url + "/a", ["post.failed"])
    other = kit.hook(receiver.url + "/b", ["task.failed"])
    off = kit.hook(receiver.url + "/c", ["post.failed"])
    kit.notices.update_webhook(off, {"active": False})
    assert kit.notices.emit("post.failed", {}) == 1
    assert [kit.notices.deliveries(id).total for id in (asked, other, off)] == [1, 0, 0]


def test_failures_are_tried_again_after_1_5_30_minutes_and_2_hours_then_given_up(kit, receiver):
    id = kit.hook(receiver.url)
    receiver.secret = kit.secret
    receiver.fail_next("/", 500, times=99, body="boom " * 400)
    kit.notices.emit("post.failed", {"n": 1})
    waits = []
    for _ in range(4):
        row = only(kit, id)
        assert row.status == "pending" and row.response_code == 500 and len(row.detail) <= 500
        due = datetime.fromisoformat(row.next_try_at or "")
        waits.append((due - kit.at).total_seconds())
        kit.at = due - timedelta(seconds=1)
        before = len(receiver.requests)
        assert kit.notices.tick() == 0
        assert len(receiver.requests) == before  # never early
        kit.at = due
        kit.notices.tick()
    assert waits == [60, 300, 1800, 7200]
    row = only(kit, id)
    assert (row.status, row.attempts, row.next_try_at) == ("failed", 5, None)
    assert len(receiver.requests) == 5
    assert len({call.headers["X-Dalla-Delivery"] for call in receiver.requests}) == 1  # one event, told five times
    (notice,) = kit.notices.page().items
    assert notice.kind == "webhook.failed" and notice.href == f"/connections.html?webhook={id}"
    kit.later(days=1)
    assert len(receiver.requests) == 5


def test_a_receiver_that_comes_back_gets_the_event_once(kit, receiver):
    id = kit.hook(receiver.url)
    receiver.secret = kit.secret
    receiver.fail_next("/", 503, times=2)
    kit.notices.emit("post.failed", {"n": 1})
    kit.later(minutes=1)
    kit.later(minutes=5)
    assert only(kit, id).status == "delivered"
    assert len(receiver.events) == 1


def test_the_time_of_a_later_try_is_its_own(kit, receiver):
    kit.hook(receiver.url)
    receiver.secret = kit.secret
    receiver.fail_next("/", 500)
    kit.notices.emit("post.failed", {})
    kit.later(minutes=1)
    stamps = [int(call.headers["X-Dalla-Timestamp"]) for call in receiver.requests]
    assert stamps == [int(START.timestamp()), int(START.timestamp()) + 60]
    assert receiver.refused == []


@pytest.mark.parametrize("status", [301, 302, 307, 308, 410])
def test_what_cannot_get_better_is_given_up_at_once(kit, receiver, status):
    id = kit.hook(receiver.url)
    receiver.fail_next("/", status, headers={"Location": "https://elsewhere.example/x"})
    kit.notices.emit("post.failed", {})
    row = only(kit, id)
    assert (row.status, row.attempts, row.response_code) == ("failed", 1, status)
    assert len(receiver.requests) == 1
    if status < 400:
        assert "https://elsewhere.example/x" in row.detail


def test_a_rate_limit_is_respected(kit, receiver):
    id = kit.hook(receiver.url)
    receiver.fail_next("/", 429, headers={"Retry-After": "600"})
    kit.notices.emit("post.failed", {})
    assert only(kit, id).next_try_at == "2026-03-01T12:10:00.000Z"


def test_an_absurd_rate_limit_is_bounded(kit, receiver):
    id = kit.hook(receiver.url)
    receiver.fail_next("/", 429, headers={"Retry-After": "1e99"})
    kit.notices.emit("post.failed", {})
    assert only(kit, id).next_try_at == "2026-03-01T14:00:00.000Z"


def test_pending_events_are_sent_after_a_crash(tmp_path, receiver):
    kit = Kit(tmp_path, immediate=False)  # nothing works the queue: as if the app died right after the event
    id = kit.hook(receiver.url)
    receiver.secret = kit.secret
    kit.notices.emit("post.failed", {"n": 1})
    assert only(kit, id).status == "pending" and receiver.requests == []
    kit.restart()
    kit.notices.tick()
    assert only(kit, id).status == "delivered" and len(receiver.events) == 1
    kit.library.close()


def test_a_crash_while_sending_sends_it_again_with_the_same_id(kit, receiver):
    id = kit.hook(receiver.url)
    receiver.secret = kit.secret

    class Died(BaseException):
        pass

    def send(*args, **more):
        from dalla.addresses import post

        post(*args, **more)
        raise Died  # after the receiver has it, before the row says so

    kit.restart(send=send, immediate=False)
    kit.notices.emit("post.failed", {"n": 1})
    job = kit.jobs.tasks.claim("net", "somebody", "2026-03-01T12:00:00.000Z", {"deliver_webhooks"})
    with pytest.raises(Died):
        kit.notices.run(type("Context", (), {"job": job, "check_cancelled": lambda self: None})(), {})
    kit.restart()
    assert kit.notices.tick() == 0  # it belongs to the dead one for a while
    kit.later(minutes=3)
    assert only(kit, id).status == "delivered"
    assert len(receiver.requests) == 2 and len(receiver.events) == 1


def test_one_job_at_a_time(tmp_path, receiver):
    kit = Kit(tmp_path, immediate=False)
    kit.hook(receiver.url)
    for n in range(5):
        kit.notices.emit("post.failed", {"n": n})
    jobs, _, total = kit.tasks.page(kind="deliver_webhooks")
    assert total == 1
    kit.library.close()


def test_many_events_all_arrive(kit, receiver):
    kit.hook(receiver.url)
    receiver.secret = kit.secret
    kit.restart(immediate=False)
    for n in range(60):
        kit.notices.emit("post.failed", {"n": n})
    kit.jobs.start()
    try:
        receiver.wait_for(lambda: len(receiver.events) == 60)
    finally:
        kit.jobs.stop()
    assert sorted(event["data"]["n"] for event in receiver.events.values()) == list(range(60))
    assert len(receiver.requests) == 60


def test_a_test_event_says_at_once_how_it_went(kit, receiver):
    id = kit.hook(receiver.url)
    receiver.secret = kit.secret
    kit.notices.update_webhook(id, {"active": False})
    assert kit.notices.test(id).status == "delivered"
    receiver.fail_next("/", 500)
    failed = kit.notices.test(id)
    assert (failed.status, failed.attempts, failed.next_try_at) == ("failed", 1, None)
    assert kit.notices.page().total == 0  # whoever pressed the button sees it there
    kit.later(days=1)
    assert len(receiver.requests) == 2


def test_a_failed_delivery_can_be_sent_again(kit, receiver):
    id = kit.hook(receiver.url)
    receiver.secret = kit.secret
    receiver.fail_next("/", 410)
    kit.notices.emit("post.failed", {})
    row = only(kit, id)
    kit.notices.redeliver(id, row.id)
    assert only(kit, id).status == "delivered"
    assert kit.notices.page().total == 0  # the notice about the failure is settled
    with pytest.raises(Conflict):
        kit.notices.redeliver(id, row.id)
    with pytest.raises(NotFound):
        kit.notices.redeliver("hook_other", row.id)


def test_deleting_or_switching_off_ends_what_is_pending(kit, receiver):
    first, second = kit.hook(receiver.url + "/1"), kit.hook(receiver.url + "/2")
    receiver.fail_next("/", 500, times=2)
    kit.notices.emit("post.failed", {})
    kit.notices.delete_webhook(first)
    kit.notices.update_webhook(second, {"active": False})
    kit.later(minutes=2)
    assert only(kit, second).status == "failed"
    assert len(receiver.requests) == 2


def test_a_lost_secret_is_told(kit, receiver):
    id = kit.hook(receiver.url)
    kit.secrets.delete(f"webhooks/{id}")
    kit.notices.emit("post.failed", {})
    assert only(kit, id).status == "failed" and "secret" in only(kit, id).detail
    assert receiver.requests == []


def test_private_targets_are_refused_when_they_are_entered(tmp_path, receiver):
    kit = Kit(tmp_path, DALLA_WEBHOOK_PRIVATE="false")
    for url in (receiver.url, "http://localhost/x", "http://169.254.169.254/latest", "http://[::ffff:10.0.0.1]/"):
        with pytest.raises(InvalidInput) as problem:
            kit.hook(url)
        assert problem.value.errors[0]["field"] == "url"
    assert kit.notices.webhooks() == [] and kit.secrets.names() == []
    kit.library.close()


def test_a_target_that_became_private_gets_nothing(kit, receiver):
    id = kit.hook(receiver.url)
    kit.settings._values["webhook_private"] = False
    kit.notices.emit("post.failed", {})
    row = only(kit, id)
    assert row.status == "failed" and "DALLA_WEBHOOK_PRIVATE" in row.detail
    assert receiver.requests == []


@pytest.mark.parametrize(
    ("values", "field"),
    [({"events": []}, "events"), ({"events": ["post.imagined"]}, "events"), ({"url": "ftp://x.example"}, "url")],
)
def test_bad_values_name_their_field(kit, receiver, values, field):
    with pytest.raises(InvalidInput) as problem:
        kit.notices.create_webhook(**{"url": receiver.url, "events": ["post.failed"], **values})
    assert problem.value.errors[0]["field"] == field
    id = kit.hook(receiver.url)
    with pytest.raises(InvalidInput):
        kit.notices.update_webhook(id, values)


def test_the_same_address_twice_is_a_conflict(kit, receiver):
    kit.hook(receiver.url + "/1")
    second = kit.hook(receiver.url + "/2")
    with pytest.raises(Conflict):
        kit.hook(receiver.url + "/1")
    with pytest.raises(Conflict):
        kit.notices.update_webhook(second, {"url": receiver.url + "/1"})


# ---------------------------------------------------------------- forms


@pytest.mark.parametrize(
    ("url", "form"),
    [
        ("https://discord.com/api/webhooks/1/abc", "discord"),
        ("https://canary.discord.com/api/webhooks/1/abc", "discord"),
        ("https://discordapp.com/api/webhooks/1/abc", "discord"),
        ("https://discord.com/api/webhooks/1/abc/slack", "slack"),
        ("https://evildiscord.com/api/webhooks/1/abc", "json"),
        ("https://hooks.slack.com/services/T/B/x", "slack"),
        ("https://ntfy.sh/my-topic", "ntfy"),
        ("https://ntfy.example.org/my-topic", "ntfy"),
        ("https://ntfy.sh/", "json"),
        ("https://hooks.example.com/x", "json"),
    ],
)
def test_the_form_follows_from_the_address(url, form):
    assert form_of(url) == form


def event(name: str, **data) -> Delivery:
    return Delivery(id="dlv_1", webhook_id="hook_1", event=name, body={"id": "dlv_1", "event": name, "data": data})


def test_chat_services_get_what_they_accept():
    published = event(
        "post.published", characterName="Luna", platform="instagram", caption="Hi <@everyone> & all",
        permalink="https://www.instagram.com/p/1/",
    )  # fmt: skip
    discord = json.loads(message("https://discord.com/api/webhooks/1/a", published, "s", START).body)
    assert discord["content"] == "Luna: posted on Instagram\nHi <@everyone> & all\nhttps://www.instagram.com/p/1/"
    assert discord["allowed_mentions"] == {"parse": []}
    slack = json.loads(message("https://hooks.slack.com/services/a", published, "s", START).body)
    assert slack == {
        "text": "Luna: posted on Instagram\nHi &lt;@everyone&gt; &amp; all\nhttps://www.instagram.com/p/1/"
    }
    ntfy = message("https://ntfy.sh/luna", event("post.failed", characterName="Zoë", platform="twitter", error="No\r\nmoney"), "s", START)  # fmt: skip
    assert ntfy.body == b"No\r\nmoney"
    assert ntfy.headers["Title"].startswith("=?UTF-8?B?") and "\n" not in ntfy.headers["Title"]
    for sent in (ntfy, message("https://discord.com/api/webhooks/1/a", published, "s", START)):
        stamp = sent.headers["X-Dalla-Timestamp"]
        assert sent.headers["X-Dalla-Signature"] == signature("s", stamp, sent.body)


def test_messages_stay_within_the_limits_of_the_services():
    long = event("post.published", characterName="L" * 3000, caption="x" * 5000, permalink="https://x.example/")
    assert len(json.loads(message("https://discord.com/api/webhooks/1/a", long, "s", START).body)["content"]) <= 2000
    ntfy = message("https://ntfy.sh/luna", long, "s", START)
    assert len(ntfy.headers["Title"]) < 1000 and len(ntfy.body) < 4096


def test_a_link_that_is_none_is_left_out():
    text = json.loads(message("https://hooks.slack.com/services/a", event("post.published", permalink="javascript:1"), "s", START).body)  # fmt: skip
    assert "javascript" not in text["text"]


def test_a_try_never_raises_for_what_the_other_side_does():
    def dead(*_args, **_more):
        raise UpstreamError("Nothing listens there.", service="x", kind="retry", remedy="Start it.")

    outcome = attempt(PUBLIC, event("post.failed"), "s", now=START, private=False, send=dead)
    assert (outcome.status, outcome.detail) == ("pending", "Nothing listens there. Start it.")
    fine = attempt(
        PUBLIC, event("post.failed"), "s", now=START, private=False, send=lambda *a, **k: Answer(204, "", {})
    )
    assert fine.status == "delivered"
