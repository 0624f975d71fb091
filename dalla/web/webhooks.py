"""`/api/webhooks`: addresses elsewhere that are told what happens, and how that went."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from flask import Response
from flask_openapi3 import Tag
from pydantic import Field

from dalla.records.base import RequestBody
from dalla.records.notice import WEBHOOK_EVENTS
from dalla.web import etags
from dalla.web.access import ADMIN, identity
from dalla.web.blueprint import APIBlueprint
from dalla.web.context import services
from dalla.web.payload import IdPath, PageQuery, created, idempotent, without

bp = APIBlueprint("webhooks", __name__, url_prefix="/api/webhooks", abp_tags=[Tag(name="Webhooks")])


class WebhookBody(RequestBody):
    url: str = Field(min_length=1, max_length=2000)
    events: list[str] = Field(default_factory=lambda: list(WEBHOOK_EVENTS), max_length=50)
    active: bool = True
    description: str = Field("", max_length=200)


class WebhookChanges(RequestBody):
    url: str | None = Field(None, min_length=1, max_length=2000)
    events: list[str] | None = Field(None, max_length=50)
    active: bool | None = None
    description: str | None = Field(None, max_length=200)


class WebhookWithId(WebhookChanges):
    id: str = Field(min_length=1, max_length=100)


class DeliveryPath(IdPath):
    delivery_id: str = Field(min_length=1, max_length=100)


@bp.get("", summary="List webhooks")
def list_webhooks():
    return {"items": [_shown(hook) for hook in services().notices.webhooks()], "events": list(WEBHOOK_EVENTS)}


@bp.post("", summary="Add a webhook; the answer holds its signing secret, once")
@idempotent(keep=without("secret"))
def add_webhook(body: WebhookBody):
    hook, secret = services().notices.create_webhook(
        url=body.url, events=body.events, active=body.active, description=body.description
    )
    return created({**hook, "secret": secret}, f"/api/webhooks/{hook['id']}")


@bp.get("/<id>", summary="Read a webhook")
def get_webhook(path: IdPath):
    return etags.answer(_shown(services().notices.webhook(path.id)))


def _shown(hook: dict[str, Any]) -> dict[str, Any]:
    """Leave the host of the address to those who may not change it: the rest is often a key (Slack, Discord)."""
    if identity().may(ADMIN):
        return hook
    parts = urlsplit(hook["url"])
    return {**hook, "url": f"{parts.scheme}://{parts.hostname or ''}/…"}


@bp.patch("/<id>", summary="Change a webhook")
def change_webhook(path: IdPath, body: WebhookChanges):
    return _changed(path.id, body.sent())


@bp.patch("", summary="Change a webhook (id in the body)")
def change_webhook_by_body(body: WebhookWithId):
    changes = body.sent()
    return _changed(changes.pop("id"), changes)


@bp.delete("/<id>", summary="Delete a webhook with its deliveries")
def delete_webhook(path: IdPath):
    return _deleted(path.id)


@bp.delete("", summary="Delete a webhook (id in the query)")
def delete_webhook_by_query(query: IdPath):
    return _deleted(query.id)


def _changed(id: str, changes: dict[str, Any]) -> Response:
    notices = services().notices
    with etags.guarded("webhook", id, lambda: notices.webhook(id)):
        notices.update_webhook(id, changes)
        return etags.answer(notices.webhook(id))


def _deleted(id: str) -> dict[str, Any]:
    notices = services().notices
    with etags.guarded("webhook", id, lambda: notices.webhook(id)):
        notices.delete_webhook(id)
    return {"success": True}


@bp.post("/<id>/secret", summary="Make a new signing secret; the answer holds it, once")
def new_secret(path: IdPath):
    return {"id": path.id, "secret": services().notices.new_secret(path.id)}


@bp.post("/<id>/test", summary="Send a test event now and say how it went")
@idempotent()
def test_webhook(path: IdPath):
    notices = services().notices
    return notices.public_delivery(notices.test(path.id))


@bp.get("/<id>/deliveries", summary="List the deliveries of a webhook, newest first")
def list_deliveries(path: IdPath, query: PageQuery):
    notices = services().notices
    page = notices.deliveries(path.id, limit=query.limit, cursor=query.cursor)
    return {
        "items": [notices.public_delivery(delivery) for delivery in page.items],
        "nextCursor": page.next_cursor,
        "total": page.total,
    }


@bp.post("/<id>/deliveries/<delivery_id>/retry", summary="Send a failed delivery again")
@idempotent()
def retry_delivery(path: DeliveryPath):
    notices = services().notices
    return notices.public_delivery(notices.redeliver(path.id, path.delivery_id)), 202, {}
