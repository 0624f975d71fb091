"""`/api/calendar`: posts and the coming occurrences of rules together."""

from __future__ import annotations

from flask_openapi3 import Tag
from pydantic import ConfigDict, Field

from dalla.records.base import RequestBody
from dalla.web.blueprint import APIBlueprint
from dalla.web.context import services

bp = APIBlueprint("calendar", __name__, url_prefix="/api", abp_tags=[Tag(name="Calendar")])


class CalendarQuery(RequestBody):
    model_config = ConfigDict(populate_by_name=True, extra="forbid")

    from_: str | None = Field(None, alias="from", max_length=40, description="Date or ISO time; left out: this month")
    to: str | None = Field(None, max_length=40, description="Date (included) or ISO time; at most 400 days later")
    character_id: str | None = Field(None, alias="characterId", max_length=100)
    zone: str | None = Field(None, max_length=100, description="IANA zone of dates and of `local`")


@bp.get("/calendar", summary="Posts and planned occurrences of a span of time")
def calendar(query: CalendarQuery):
    return services().calendar.entries(
        start=query.from_, end=query.to, character_id=query.character_id or None, zone=query.zone or None
    )
