"""What the app tells people and programs: notifications in the page, webhooks to elsewhere."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from dalla.records.base import Record


class Notification(Record):
    """One line in the notification centre. `key` makes a repeated one replace its older self."""

    id: str
    level: Literal["info", "success", "warning", "error"] = "info"
    kind: str  # post.failed, token.expiring, …
    title: str
    detail: str = ""
    href: str | None = None
    action: str | None = None
    character_id: str | None = None
    key: str | None = None
    created_at: str = ""
    read_at: str | None = None


#: Events a webhook may ask for.
WEBHOOK_EVENTS = (
    "post.published",
    "post.failed",
    "post.unconfirmed",
    "task.completed",
    "task.failed",
    "training.completed",
    "training.failed",
    "token.expiring",
)


class Webhook(Record):
    """An address that is told. The signing secret sits in the secret store."""

    id: str
    url: str
    events: list[str] = Field(default_factory=list)
    active: bool = True
    description: str = ""
    created_at: str = ""
    updated_at: str = ""


class Delivery(Record):
    """One event on its way to one webhook."""

    id: str
    webhook_id: str
    event: str
    body: dict[str, Any]
    status: Literal["pending", "delivered", "failed"] = "pending"
    attempts: int = 0
    next_try_at: str | None = None
    response_code: int | None = None
    detail: str = ""
    created_at: str = ""
    updated_at: str = ""
