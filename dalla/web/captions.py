"""`/api/generate-caption`, `/api/captions/engines`: words for a picture, and who can write them."""

from __future__ import annotations

from typing import Any

from flask_openapi3 import Tag
from pydantic import Field

from dalla.errors import InvalidInput
from dalla.records.base import RequestBody
from dalla.web.blueprint import APIBlueprint
from dalla.web.context import services
from dalla.web.payload import idempotent

bp = APIBlueprint("captions", __name__, url_prefix="/api", abp_tags=[Tag(name="Captions")])


class CaptionWish(RequestBody):
    """How a caption should be written."""

    platform: str | None = Field(
        None, max_length=20, description="instagram or twitter; decides which one `caption` is"
    )
    language: str | None = Field(None, max_length=100, description="e.g. English, Deutsch; left out: the setting, else that of the character's texts")  # fmt: skip
    tone: str | None = Field(None, max_length=200, description="e.g. playful, calm, mysterious")
    engine: str | None = Field(None, max_length=50, description="auto, gemini, local or composer")


class CaptionBody(CaptionWish):
    """What the caption is about. The character is a stored one, or its fields."""

    prompt: str | None = Field(None, max_length=10_000)
    prompt_id: str | None = Field(None, max_length=100, description="The caption is saved with this prompt")
    character_id: str | None = Field(None, max_length=100)
    character: dict[str, Any] | None = Field(None, description="Fields of a character that need not be stored")
    narrative: str | dict[str, Any] | None = Field(None, description="A story to refer to: text, or {title, description}")  # fmt: skip
    media_id: str | None = Field(None, max_length=100, description="The picture; a small copy of it is sent along")
    hashtags: list[str] | None = Field(None, max_length=60, description="Choose from these")
    avoid: list[str] | None = Field(None, max_length=10, description="Captions not to write again")
    save: bool = Field(False, description="With mediaId: keep caption and alt text with the picture")


class EnginesQuery(RequestBody):
    fresh: bool = Field(False, description="Ask each service now, and list its models")


@bp.post("/generate-caption", summary="Write a caption")
@idempotent()
def generate_caption(body: CaptionBody):
    if body.save and not (body.media_id or body.prompt_id):
        raise InvalidInput.field("save", "Name the picture (mediaId) or the prompt (promptId) to save it with.")
    container = services()
    result = container.captioning.write(
        character_id=body.character_id,
        character=body.character,
        prompt=body.prompt,
        prompt_id=body.prompt_id,
        media_id=body.media_id,
        narrative=body.narrative,
        platform=body.platform,
        language=body.language,
        tone=body.tone,
        engine=body.engine,
        hashtags=body.hashtags or (),
        avoid=body.avoid or (),
    )
    if body.prompt_id:
        container.prompts.save_caption(body.prompt_id, result)
    if body.media_id and body.save:
        container.captioning.save_to_media(body.media_id, result)
    return result.public()


@bp.get("/captions/engines", summary="Who can write captions, and who does now")
def caption_engines(query: EnginesQuery):
    return services().captioning.engines(fresh=query.fresh)
