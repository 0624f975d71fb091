"""Runs of scheduled tasks, leases and switches, notices and webhooks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from dalla.records.notice import Delivery, Notification, Webhook
from dalla.records.run import Run, TaskState
from dalla.stores.base.media import Page


class RunStore(Protocol):
    """Runs of scheduled tasks, and what is remembered about each task."""

    def insert(self, run: Run) -> Run:
        """Raises Conflict when the task has a run for this slot."""

    def get(self, id: str) -> Run:
        """Raises NotFound."""

    def update(self, id: str, *, only_from: frozenset[str] | None = None, **fields: Any) -> Run:
        """Raises NotFound, Conflict (not in `only_from`)."""

    def page(
        self,
        *,
        task_id: str | None = None,
        character_id: str | None = None,
        statuses: list[str] | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> Page: ...
    def unfinished(self) -> list[Run]: ...
    def delete_before(self, moment: str) -> int: ...
    def state(self, task_id: str) -> TaskState | None: ...
    def for_slot(self, task_id: str, slot: str) -> Run | None: ...

    def counts(self) -> dict[str, int]:
        """Return how many runs are in each status."""

    def states(self, task_ids: Sequence[str] | None = None) -> dict[str, TaskState]:
        """Return the states of these tasks; None: all."""

    def dues(self) -> dict[str, str]:
        """Return `next_due` by task, for those that have one."""

    def edit_state(self, task_id: str, change: Callable[[TaskState], TaskState]) -> TaskState:
        """Read, change and write one state as one step. Raises NotFound."""

    def save_states(self, states: list[TaskState]) -> None:
        """Insert or replace many in one transaction."""

    def delete_states(self, task_ids: list[str]) -> None: ...

    def due(self, now: str, *, limit: int = 1000) -> list[TaskState]:
        """Return the states whose `next_due` has come, oldest first."""

    def next_due(self) -> str | None: ...

    def fire(self, state: TaskState, run: Run | None, *, expected_due: str | None) -> bool:
        """Move the task on to `state` and insert the run in one transaction.

        False, and nothing changed, when `next_due` is no longer `expected_due` (another process was
        first) or the slot has a run already.
        """

    def fire_many(self, moves: Sequence[tuple[TaskState, Run | None, str | None]]) -> list[bool]:
        """Do `fire` for many (state, run, expected due) in one transaction; each answers for itself."""


class LeaseStore(Protocol):
    """Who may do what only one process may do, and switches for everybody."""

    def acquire(self, name: str, owner: str, now: str, until: str) -> bool:
        """Take or renew the lease; False while somebody else holds it."""

    def release(self, name: str, owner: str) -> None: ...

    def holder(self, name: str) -> tuple[str, str, str] | None:
        """Return (owner, until, heartbeat_at)."""

    def switch(self, name: str) -> Any:
        """Return the value of a switch; None when it was never set."""

    def change_switch(self, name: str, now: str, change: Callable[[Any], Any]) -> Any:
        """Read, change and write a switch as one step; return the new value."""


class NoticeStore(Protocol):
    """Notifications, webhooks and their deliveries."""

    def notify(self, notice: Notification) -> Notification:
        """Add it; one with the same `key` is replaced (and unread again)."""

    def mark_read(self, ids: list[str] | None, now: str) -> int:
        """None: all of them."""

    def find(self, key: str) -> Notification | None:
        """Return the notification with this key."""

    def discard(self, key: str) -> bool:
        """Remove the notification with this key; return whether there was one."""

    def notifications(self, *, unread: bool = False, limit: int = 50, cursor: str | None = None) -> Page: ...
    def unread(self) -> int: ...
    def delete_notifications(self, before: str) -> int: ...
    def webhooks(self) -> list[Webhook]: ...

    def webhook(self, id: str) -> Webhook:
        """Raises NotFound."""

    def delete_webhook(self, id: str) -> None:
        """Raises NotFound."""

    def save_webhook(self, webhook: Webhook) -> Webhook: ...
    def add_delivery(self, delivery: Delivery) -> Delivery: ...
    def due_deliveries(self, now: str, *, limit: int = 50) -> list[Delivery]: ...
    def save_delivery(self, id: str, **fields: Any) -> Delivery: ...
    def deliveries(self, webhook_id: str, *, limit: int = 50, cursor: str | None = None) -> Page: ...
    def delete_deliveries(self, before: str) -> int: ...

    def delivery(self, id: str) -> Delivery:
        """Raises NotFound."""

    def claim_delivery(self, id: str, due: str | None, until: str) -> bool:
        """Take a pending delivery that is due at `due`; False: somebody was first."""

    def last_deliveries(self) -> dict[str, Delivery]:
        """Return the newest delivery of each webhook that has any."""
