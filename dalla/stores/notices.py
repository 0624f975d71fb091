"""Notifications, webhooks and the deliveries of webhooks: three tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Column, ColumnElement, Row, Select, Table, and_, delete, func, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from dalla.errors import NotFound
from dalla.records.notice import Delivery, Notification, Webhook
from dalla.stores import cursors
from dalla.stores.base import Page
from dalla.stores.library import Library
from dalla.stores.schema import notifications as notices
from dalla.stores.schema import webhook_deliveries as deliveries
from dalla.stores.schema import webhooks
from dalla.times import now_iso

_DELIVERY_FIELDS = {"status", "attempts", "next_try_at", "response_code", "detail"}


class SqlNotices:
    """A NoticeStore on a Library."""

    def __init__(self, library: Library) -> None:
        self._library = library

    # ------------------------------------------------------------ notifications

    def notify(self, notice: Notification) -> Notification:
        """Add it; one with the same `key` is replaced (and unread again). Two at the same time leave one."""
        notice = notice.with_(created_at=notice.created_at or now_iso())
        values = _values(notice, notices)
        try:
            self._replace(notice.key, values)
        except IntegrityError:  # another process told the same at the same moment: now its line is there to replace
            self._replace(notice.key, values)
        return notice

    def _replace(self, key: str | None, values: dict[str, Any]) -> None:
        with self._library.write() as connection:
            if key is not None:
                connection.execute(delete(notices).where(notices.c.key == key))
            connection.execute(insert(notices).values(**values))

    def notifications(self, *, unread: bool = False, limit: int = 50, cursor: str | None = None) -> Page:
        """Return one page, newest first. Raises InvalidInput: bad cursor or limit."""
        where = [notices.c.read_at.is_(None)] if unread else []
        order = "notices:unread" if unread else "notices"
        return self._page(notices, Notification, where, order, limit, cursor)

    def unread(self) -> int:
        with self._library.read() as connection:
            query = select(func.count()).select_from(notices).where(notices.c.read_at.is_(None))
            return connection.execute(query).scalar_one()

    def mark_read(self, ids: list[str] | None, now: str) -> int:
        """Mark these (None: all) as read; return how many were unread before."""
        change = update(notices).where(notices.c.read_at.is_(None)).values(read_at=now)
        if ids is not None:
            change = change.where(notices.c.id.in_(ids))
        with self._library.write() as connection:
            return connection.execute(change).rowcount

    def find(self, key: str) -> Notification | None:
        """Return the one with this key."""
        with self._library.read() as connection:
            row = connection.execute(select(notices).where(notices.c.key == key)).one_or_none()
        return None if row is None else _record(Notification, row)

    def discard(self, key: str) -> bool:
        """Remove the one with this key; return whether there was one."""
        if self.find(key) is None:  # most calls find nothing, and a read disturbs no writer
            return False
        with self._library.write() as connection:
            return connection.execute(delete(notices).where(notices.c.key == key)).rowcount > 0

    def delete_notifications(self, before: str) -> int:
        """Forget the ones made before that moment; return how many."""
        with self._library.write() as connection:
            return connection.execute(delete(notices).where(notices.c.created_at < before)).rowcount

    # ------------------------------------------------------------ webhooks

    def webhooks(self) -> list[Webhook]:
        """Return all, oldest first."""
        query = select(webhooks).order_by(webhooks.c.created_at, webhooks.c.id)
        with self._library.read() as connection:
            return [_record(Webhook, row) for row in connection.execute(query)]

    def webhook(self, id: str) -> Webhook:
        with self._library.read() as connection:
            row = connection.execute(select(webhooks).where(webhooks.c.id == id)).one_or_none()
        if row is None:
            raise NotFound.of("webhook", id)
        return _record(Webhook, row)

    def save_webhook(self, webhook: Webhook) -> Webhook:
        """Insert it, or replace the one with this id."""
        webhook = webhook.with_(created_at=webhook.created_at or now_iso(), updated_at=webhook.updated_at or now_iso())
        values = _values(webhook, webhooks)
        with self._library.write() as connection:
            if not connection.execute(update(webhooks).where(webhooks.c.id == webhook.id).values(**values)).rowcount:
                connection.execute(insert(webhooks).values(**values))
        return webhook

    def delete_webhook(self, id: str) -> None:
        """Remove it with its deliveries. Raises NotFound."""
        with self._library.write() as connection:
            connection.execute(delete(deliveries).where(deliveries.c.webhook_id == id))
            if not connection.execute(delete(webhooks).where(webhooks.c.id == id)).rowcount:
                raise NotFound.of("webhook", id)

    # ------------------------------------------------------------ deliveries

    def add_delivery(self, delivery: Delivery) -> Delivery:
        """Add it. Raises NotFound when its webhook was deleted meanwhile."""
        now = delivery.created_at or now_iso()
        delivery = delivery.with_(created_at=now, updated_at=delivery.updated_at or now)
        with self._library.write() as connection:
            known = select(webhooks.c.id).where(webhooks.c.id == delivery.webhook_id)
            if connection.execute(known).scalar() is None:
                raise NotFound.of("webhook", delivery.webhook_id)
            connection.execute(insert(deliveries).values(**_values(delivery, deliveries)))
        return delivery

    def delivery(self, id: str) -> Delivery:
        """Raises NotFound."""
        with self._library.read() as connection:
            row = connection.execute(select(deliveries).where(deliveries.c.id == id)).one_or_none()
        if row is None:
            raise NotFound.of("delivery", id)
        return _record(Delivery, row)

    def due_deliveries(self, now: str, *, limit: int = 50) -> list[Delivery]:
        """Return pending ones whose time has come, the longest due first."""
        query = select(deliveries).where(deliveries.c.status == "pending", deliveries.c.next_try_at <= now)
        query = query.order_by(deliveries.c.next_try_at, deliveries.c.seq).limit(limit)
        with self._library.read() as connection:
            return [_record(Delivery, row) for row in connection.execute(query)]

    def claim_delivery(self, id: str, due: str | None, until: str) -> bool:
        """Take a pending one that is due at `due`: until `until` nobody else sees it as due. False: somebody was first."""
        mine = and_(deliveries.c.id == id, deliveries.c.status == "pending", deliveries.c.next_try_at == due)
        with self._library.write() as connection:
            return connection.execute(update(deliveries).where(mine).values(next_try_at=until)).rowcount == 1

    def save_delivery(self, id: str, **fields: Any) -> Delivery:
        """Set fields of a delivery. Raises NotFound (its webhook was deleted)."""
        unknown = fields.keys() - _DELIVERY_FIELDS
        if unknown:
            raise TypeError(f"not to be changed: {', '.join(sorted(unknown))}")
        change = update(deliveries).where(deliveries.c.id == id).values(**fields, updated_at=now_iso())
        with self._library.write() as connection:
            row = connection.execute(change.returning(*deliveries.c)).one_or_none()
        if row is None:
            raise NotFound.of("delivery", id)
        return _record(Delivery, row)

    def deliveries(self, webhook_id: str, *, limit: int = 50, cursor: str | None = None) -> Page:
        """Return one page, newest first. Raises InvalidInput: bad cursor or limit."""
        where = [deliveries.c.webhook_id == webhook_id]
        return self._page(deliveries, Delivery, where, f"deliveries:{webhook_id}", limit, cursor)

    def last_deliveries(self) -> dict[str, Delivery]:
        """Return the newest delivery of each webhook that has any."""
        newest = select(func.max(deliveries.c.seq)).group_by(deliveries.c.webhook_id)
        with self._library.read() as connection:
            rows = connection.execute(select(deliveries).where(deliveries.c.seq.in_(newest)))
            return {row.webhook_id: _record(Delivery, row) for row in rows}

    def delete_deliveries(self, before: str) -> int:
        """Forget settled ones made before that moment; return how many."""
        with self._library.write() as connection:
            old = delete(deliveries).where(deliveries.c.created_at < before, deliveries.c.status != "pending")
            return connection.execute(old).rowcount

    # ------------------------------------------------------------ paging

    def _page(
        self,
        table: Table,
        kind: type[Any],
        where: Sequence[ColumnElement[bool]],
        order: str,
        limit: int,
        cursor: str | None,
    ) -> Page:
        cursors.check_limit(limit)
        query: Select[Any] = select(table).where(*where).order_by(table.c.created_at.desc(), table.c.seq.desc())
        if cursor:
            query = query.where(_after(table.c.created_at, table.c.seq, *cursors.decode(cursor, order)))
        with self._library.read() as connection:
            rows = connection.execute(query.limit(limit + 1)).all()
            total = connection.execute(select(func.count()).select_from(table).where(*where)).scalar_one()
        more = len(rows) > limit
        rows = rows[:limit]
        following = cursors.encode(order, rows[-1].created_at, rows[-1].seq) if more else None
        return Page([_record(kind, row) for row in rows], following, total)


def _after(moment: Column[Any], seq: Column[Any], at: str, number: int) -> ColumnElement[bool]:
    return or_(moment < at, and_(moment == at, seq < number))


def _values(record: Any, table: Table) -> dict[str, Any]:
    columns = {column.name for column in table.c} - {"seq"}
    return {name: value for name, value in record.model_dump(mode="json").items() if name in columns}


def _record(kind: type[Any], row: Row[Any]) -> Any:
    values = row._asdict()
    values.pop("seq", None)
    return kind.model_validate(values)
