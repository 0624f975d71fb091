"""`/api/notifications`: what the app has to tell, newest first."""

from __future__ import annotations

from flask_openapi3 import Tag
from pydantic import Field

from dalla.records.base import RequestBody
from dalla.web.blueprint import APIBlueprint
from dalla.web.context import services
from dalla.web.payload import PageQuery

bp = APIBlueprint("notifications", __name__, url_prefix="/api/notifications", abp_tags=[Tag(name="Notifications")])


class NotificationQuery(PageQuery):
    unread: bool = Field(False, description="Only those nobody has read")


class ReadBody(RequestBody):
    ids: list[str] | None = Field(None, max_length=1000, description="Leave it out to mark all")


@bp.get("", summary="List notifications, newest first")
def list_notifications(query: NotificationQuery):
    notices = services().notices
    page = notices.page(unread=query.unread, limit=query.limit, cursor=query.cursor)
    return {
        "items": [notice.to_json() for notice in page.items],
        "nextCursor": page.next_cursor,
        "total": page.total,
        "unread": notices.unread(),
    }


@bp.post("/read", summary="Mark notifications as read")
def read_notifications(body: ReadBody):
    notices = services().notices
    return {"success": True, "read": notices.read(body.ids), "unread": notices.unread()}
