"""Tell people (the notification centre) and programs (webhooks) what happened.

`notify` and `emit` are called from the middle of other work, so neither waits for the network nor
fails: what cannot be written is logged. A webhook's event becomes a row per subscriber first and is
sent afterwards by a job; rows that are still pending after a crash are sent when the app runs again.
"""

from __future__ import annotations

import logging
import secrets as random_secrets
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, get_args

from dalla import addresses
from dalla.errors import Conflict, DallaError, InvalidInput, NotFound, UpstreamError
from dalla.events import EventBus
from dalla.ids import new_id
from dalla.jobs.base import Context, JobQueue
from dalla.records.notice import WEBHOOK_EVENTS, Delivery, Notification, Webhook
from dalla.services.webhook_delivery import Outcome, Send, attempt, form_of
from dalla.settings import Settings
from dalla.stores.base import NoticeStore, Page, SecretStore
from dalla.times import iso

logger = logging.getLogger(__name__)

Level = Literal["info", "success", "warning", "error"]

CLAIM_SECONDS = 120  # how long a delivery belongs to who took it; longer than any try lasts
AT_ONCE = 4
BATCH = 50
MAX_WEBHOOKS = 50
KEEP_NOTICES_DAYS = 90
KEEP_DELIVERIES_DAYS = 30


def _utc_now() -> datetime:
    return datetime.now(UTC)


class Notices:
    """Notifications and webhooks."""

    KIND = "deliver_webhooks"

    def __init__(
        self,
        settings: Settings,
        store: NoticeStore,
        secrets: SecretStore,
        events: EventBus,
        jobs: JobQueue,
        *,
        now: Callable[[], datetime] = _utc_now,
        send: Send = addresses.post,
    ) -> None:
        self._settings = settings
        self._store = store
        self._secrets = secrets
        self._events = events
        self._jobs = jobs
        self._now = now
        self._send = send
        self._job_id: str | None = None
        self._lock = threading.RLock()  # a queue that works at once calls `run` inside of `tick`
        jobs.register(self.KIND, self.run, lane="net")

    # ------------------------------------------------------------ notifications

    def notify(
        self,
        kind: str,
        title: str,
        detail: str = "",
        *,
        level: Level = "error",
        href: str | None = None,
        action: str | None = None,
        character_id: str | None = None,
        key: str | None = None,
    ) -> Notification:
        """Put a line into the notification centre; the one with the same `key` gives way to it. Never raises.

        href: page of this app that mends it, beginning with one "/". action: the words of that link.
        """
        if level not in get_args(Level):
            level = "error"
        notice = Notification(
            id=new_id("note"),
            level=level,
            kind=kind,
            title=title.strip()[:300],
            detail=detail.strip()[:2000],
            href=href if href and href.startswith("/") and not href.startswith("//") else None,
            action=action,
            character_id=character_id,
            key=key[:200] if key else None,
            created_at=iso(self._now()),
        )
        try:
            notice = self._store.notify(notice)
            self._events.publish("notification", {**notice.to_json(), "unread": self._store.unread()})
        except DallaError as exc:
            logger.error("A notification could not be kept (%s): %s", exc.detail, notice.title)
        return notice

    def resolve(self, key: str) -> None:
        """Remove the line with this key, because it is settled. Never raises."""
        try:
            if self._store.discard(key):
                self._events.publish("notification.changed", {"resolved": key, "unread": self._store.unread()})
        except DallaError as exc:
            logger.error("The notification %s could not be removed: %s", key, exc.detail)

    def find(self, key: str) -> Notification | None:
        """Return the line with this key, if there is one."""
        return self._store.find(key)

    def page(self, *, unread: bool = False, limit: int = 50, cursor: str | None = None) -> Page:
        """Return one page of notifications, newest first. Raises InvalidInput: bad cursor."""
        return self._store.notifications(unread=unread, limit=limit, cursor=cursor)

    def unread(self) -> int:
        return self._store.unread()

    def read(self, ids: list[str] | None = None) -> int:
        """Mark these (None: all) as read; return how many were not."""
        count = self._store.mark_read(ids, iso(self._now()))
        if count:
            self._events.publish("notification.changed", {"read": ids or "all", "unread": self._store.unread()})
        return count

    def housekeeping(self) -> None:
        """Once an hour: forget old notifications and deliveries, and secrets whose webhook is gone."""
        now = self._now()
        self._store.delete_notifications(iso(now - timedelta(days=KEEP_NOTICES_DAYS)))
        self._store.delete_deliveries(iso(now - timedelta(days=KEEP_DELIVERIES_DAYS)))
        known = {_secret_name(hook.id) for hook in self._store.webhooks()}
        for name in self._secrets.names():
            if name.startswith("webhooks/") and name not in known:
                self._secrets.delete(name)

    # ------------------------------------------------------------ webhooks

    def webhooks(self) -> list[dict[str, Any]]:
        """Return every webhook as the API shows it, with its newest delivery."""
        last = self._store.last_deliveries()
        return [self.public(hook, last.get(hook.id)) for hook in self._store.webhooks()]

    def webhook(self, id: str) -> dict[str, Any]:
        """Raises NotFound."""
        hook = self._store.webhook(id)
        return self.public(hook, self._store.last_deliveries().get(id))

    def public(self, hook: Webhook, last: Delivery | None = None) -> dict[str, Any]:
        """Return a webhook as the API shows it: never with its secret."""
        return {
            **hook.to_json(),
            "format": form_of(hook.url),
            "hasSecret": self._secrets.get(_secret_name(hook.id)) is not None,
            "lastDelivery": self.public_delivery(last) if last else None,
        }

    @staticmethod
    def public_delivery(delivery: Delivery) -> dict[str, Any]:
        return delivery.to_json()

    def create_webhook(
        self, *, url: str, events: list[str], active: bool = True, description: str = ""
    ) -> tuple[dict[str, Any], str]:
        """Add a webhook; return it and its signing secret, which is never shown again.

        Raises InvalidInput (address, events), Conflict (too many, or this address is there already).
        """
        hooks = self._store.webhooks()
        if len(hooks) >= MAX_WEBHOOKS:
            raise Conflict(f"There are {MAX_WEBHOOKS} webhooks already.", remedy="Delete one that is not needed.")
        hook = Webhook(
            id=new_id("hook"),
            url=self._checked_url(url),
            events=_checked_events(events),
            active=active,
            description=description.strip(),
            created_at=iso(self._now()),
            updated_at=iso(self._now()),
        )
        self._refuse_same(hook, hooks)
        secret = _new_secret()
        self._secrets.put(_secret_name(hook.id), secret)  # first: a webhook never exists without its secret
        try:
            hook = self._store.save_webhook(hook)
        except BaseException:
            self._secrets.delete(_secret_name(hook.id))
            raise
        return self.public(hook), secret

    def update_webhook(self, id: str, changes: dict[str, Any]) -> dict[str, Any]:
        """Change url, events, active or description. Raises NotFound, InvalidInput, Conflict."""
        hook = self._store.webhook(id)
        values = {name: value for name, value in changes.items() if value is not None}
        if values.get("url", hook.url) != hook.url:
            values["url"] = self._checked_url(values["url"])
        if "events" in values:
            values["events"] = _checked_events(values["events"])
        if "description" in values:
            values["description"] = values["description"].strip()
        changed = hook.with_(**values, updated_at=iso(self._now()))
        self._refuse_same(changed, self._store.webhooks())
        self._store.save_webhook(changed)
        self.resolve(_notice_key(id))
        self._wake()
        return self.webhook(id)

    def delete_webhook(self, id: str) -> None:
        """Remove it with its deliveries and its secret. Raises NotFound."""
        self._store.delete_webhook(id)
        self._secrets.delete(_secret_name(id))
        self.resolve(_notice_key(id))

    def new_secret(self, id: str) -> str:
        """Give a webhook another signing secret and return it; the old one ends at once. Raises NotFound."""
        self._store.webhook(id)
        secret = _new_secret()
        self._secrets.put(_secret_name(id), secret)
        return secret

    def deliveries(self, id: str, *, limit: int = 50, cursor: str | None = None) -> Page:
        """Return one page of deliveries, newest first. Raises NotFound, InvalidInput: bad cursor."""
        self._store.webhook(id)
        return self._store.deliveries(id, limit=limit, cursor=cursor)

    def test(self, id: str) -> Delivery:
        """Send a test event now, also to a webhook that is switched off; return how it went. Raises NotFound."""
        hook = self._store.webhook(id)
        data = {"message": "If you can read this, events of Digital Dalla arrive here.", "webhookId": hook.id}
        delivery = self._row(hook, "test", data)
        until = iso(self._now() + timedelta(seconds=CLAIM_SECONDS))
        delivery = self._store.add_delivery(delivery.with_(next_try_at=until))
        return self._deliver(hook, delivery, once=True)

    def redeliver(self, webhook_id: str, delivery_id: str) -> Delivery:
        """Send a delivery that failed again, with its retries. Raises NotFound, Conflict (it is not failed)."""
        delivery = self._store.delivery(delivery_id)
        if delivery.webhook_id != webhook_id:
            raise NotFound.of("delivery", delivery_id)
        if delivery.status != "failed" or delivery.event == "test":
            raise Conflict("Only a delivery that has failed can be sent again.")
        delivery = self._store.save_delivery(
            delivery_id, status="pending", attempts=0, next_try_at=iso(self._now()), detail="", response_code=None
        )
        self._wake()
        return delivery

    # ------------------------------------------------------------ events

    def emit(self, event: str, data: dict[str, Any]) -> int:
        """Queue an event for every webhook that asked for it; return how many. Never raises, never waits."""
        count = 0
        if self._settings.dry_run:  # nothing leaves this machine
            return count
        try:
            for hook in self._store.webhooks():
                if hook.active and event in hook.events:
                    try:
                        self._store.add_delivery(self._row(hook, event, data))
                        count += 1
                    except NotFound:
                        continue  # deleted this very moment
        except DallaError as exc:
            logger.error("The event %s could not be queued for the webhooks: %s", event, exc.detail)
        if count:
            self._wake()
        return count

    def tick(self) -> int:
        """Start a job that sends what is due, unless one is at work; return how many are due. Called by the clock."""
        if self._settings.dry_run:
            return 0
        due = len(self._store.due_deliveries(iso(self._now()), limit=BATCH))
        if due:
            with self._lock:
                if self._job_id is None or self._over(self._job_id):
                    what = "event" if due == 1 else "events"
                    self._job_id = self._jobs.submit(self.KIND, {}, title=f"Send {what} to webhooks").id
        return due

    def run(self, context: Context, payload: dict[str, Any]) -> dict[str, Any]:
        """Send everything that is due (job `deliver_webhooks`)."""
        sent = {"delivered": 0, "pending": 0, "failed": 0}
        with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="webhook") as pool:
            while True:
                now = self._now()
                until = iso(now + timedelta(seconds=CLAIM_SECONDS))
                with self._lock:  # who adds a row from now on starts another job
                    due = self._store.due_deliveries(iso(now), limit=AT_ONCE)
                    if not due:
                        self._job_id = None
                        return sent
                mine = [d for d in due if self._store.claim_delivery(d.id, d.next_try_at, until)]
                context.check_cancelled()
                for done in pool.map(self._deliver_row, mine):
                    if done is not None:
                        sent[done.status] += 1

    def _deliver_row(self, delivery: Delivery) -> Delivery | None:
        try:
            hook = self._store.webhook(delivery.webhook_id)
            if not hook.active:
                detail = "The webhook was switched off."
                return self._store.save_delivery(delivery.id, status="failed", next_try_at=None, detail=detail)
            return self._deliver(hook, delivery)
        except NotFound:
            return None  # the webhook was deleted meanwhile, and its deliveries with it
        except Exception:  # noqa: BLE001 - one bad row must not keep the others
            logger.exception("the delivery %s could not be made", delivery.id)
            return None

    def _deliver(self, hook: Webhook, delivery: Delivery, *, once: bool = False) -> Delivery:
        secret = self._secrets.get(_secret_name(hook.id))
        if secret is None:
            detail = "Its signing secret is gone. Make a new one on the connections page."
            outcome = Outcome("failed", delivery.attempts + 1, None, None, detail)
        else:
            outcome = attempt(
                hook.url,
                delivery,
                secret,
                now=self._now(),
                private=self._settings.webhook_private,
                send=self._send,
                once=once,
            )
        done = self._store.save_delivery(
            delivery.id,
            status=outcome.status,
            attempts=outcome.attempts,
            next_try_at=iso(outcome.next_try_at) if outcome.next_try_at else None,
            response_code=outcome.response_code,
            detail=outcome.detail,
        )
        logger.info("webhook %s: %s %s (%s)", hook.id, delivery.event, outcome.status, outcome.response_code)
        if outcome.status == "delivered":
            self.resolve(_notice_key(hook.id))
        elif outcome.status == "failed" and not once:
            self.notify(
                "webhook.failed",
                f"A webhook does not accept events: {hook.description or _host(hook.url)}",
                outcome.detail,
                level="warning",
                href="/connections.html?webhook=" + hook.id,
                action="Open webhooks",
                key=_notice_key(hook.id),
            )
        return done

    def _row(self, hook: Webhook, event: str, data: dict[str, Any]) -> Delivery:
        id, now = new_id("dlv"), iso(self._now())
        body = {"id": id, "event": event, "timestamp": now, "data": data}
        return Delivery(id=id, webhook_id=hook.id, event=event, body=body, next_try_at=now, created_at=now)

    def _wake(self) -> None:
        try:
            self.tick()
        except DallaError as exc:  # the clock looks again in a moment
            logger.warning("webhooks will be sent later: %s", exc.detail)

    def _over(self, job_id: str) -> bool:
        try:
            return self._jobs.get(job_id).finished
        except NotFound:
            return True

    # ------------------------------------------------------------ checks

    def _checked_url(self, url: str) -> str:
        url = url.strip()
        try:
            addresses.check(url, private=self._settings.webhook_private)
        except UpstreamError:
            pass  # a name that cannot be found now may exist tomorrow; it is judged again at each delivery
        return url

    @staticmethod
    def _refuse_same(hook: Webhook, others: list[Webhook]) -> None:
        if any(other.url == hook.url and other.id != hook.id for other in others):
            raise Conflict(
                "There is a webhook with this address already.", remedy="Choose the events on that one instead."
            )


def _checked_events(events: list[str]) -> list[str]:
    unknown = sorted(set(events) - set(WEBHOOK_EVENTS))
    if unknown:
        raise InvalidInput.field("events", f"There is no event '{unknown[0]}'. Use {', '.join(WEBHOOK_EVENTS)}.")
    if not events:
        raise InvalidInput.field("events", "Choose at least one event.")
    return [event for event in WEBHOOK_EVENTS if event in events]


def _new_secret() -> str:
    return "whsec_" + random_secrets.token_urlsafe(32)


def _secret_name(id: str) -> str:
    return f"webhooks/{id}"


def _notice_key(id: str) -> str:
    return f"webhook:{id}"


def _host(url: str) -> str:
    return addresses.parts(url).hostname or url
