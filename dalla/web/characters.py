"""`/api/characters`: who the characters are. Also the forms with the id in the body or the query."""

from __future__ import annotations

from typing import Any

from flask import Response, request
from flask_openapi3 import Tag
from pydantic import Field
from pydantic.alias_generators import to_camel

from dalla.errors import InvalidInput
from dalla.records.base import RequestBody
from dalla.records.character import SECRET_FIELDS, Character
from dalla.web import etags
from dalla.web.access import PUBLISH, require
from dalla.web.blueprint import APIBlueprint
from dalla.web.context import services
from dalla.web.payload import IdPath, ListQuery, created, idempotent, plain_list

bp = APIBlueprint("characters", __name__, url_prefix="/api/characters", abp_tags=[Tag(name="Characters")])

ACCOUNT_FIELDS = ("instagram_account_id", "twitter_account_id", *SECRET_FIELDS)


class PromptSettingsBody(RequestBody):
    base_prompt: str | None = Field(None, max_length=5000)
    negative_prompt: str | None = Field(None, max_length=5000)
    style: str | None = Field(None, max_length=1000)
    mood: str | None = Field(None, max_length=1000)


class NarrativeBody(RequestBody):
    id: str | None = Field(None, max_length=100)
    title: str | None = Field(None, max_length=300)
    description: str | None = Field(None, max_length=5000)
    start_date: str | None = Field(None, max_length=40)
    end_date: str | None = Field(None, max_length=40)


class LoraBody(RequestBody):
    name: str = Field(min_length=1, max_length=300)
    strength: float = 1.0


class CharacterBody(RequestBody):
    """The fields of a character. A partial update changes only those that are sent."""

    name: str | None = None
    personality: str | None = None
    backstory: str | None = None
    instagram_handle: str | None = None
    twitter_handle: str | None = None
    is_active: bool | None = None
    preferred_model: str | None = None
    trigger_word: str | None = None
    prompt_settings: PromptSettingsBody | None = None
    narratives: list[NarrativeBody] | None = Field(None, max_length=500)
    instagram_account_id: str | None = Field(None, max_length=200)
    instagram_api_key: str | None = Field(None, max_length=2000)
    twitter_account_id: str | None = Field(None, max_length=200)
    twitter_app_key: str | None = Field(None, max_length=2000)
    twitter_app_secret: str | None = Field(None, max_length=2000)
    twitter_access_token: str | None = Field(None, max_length=2000)
    twitter_access_secret: str | None = Field(None, max_length=2000)
    timezone: str | None = None
    loras: list[LoraBody] | None = Field(None, max_length=50)
    avatar_media_id: str | None = Field(None, max_length=100, pattern=r"^[A-Za-z0-9_-]*$")
    dry_run: bool | None = Field(None, description="Only rehearse the posts of this character")

    def values(self) -> dict[str, Any]:
        """Return the sent fields, nested ones as plain dicts of what was sent."""
        values = self.model_dump(exclude_unset=True, exclude={"id", "created_at", "updated_at"})
        for switch in ("is_active", "dry_run"):
            if values.get(switch, True) is None:
                del values[switch]
        return values


class CharacterWithId(CharacterBody):
    """A whole record sent back: what the server sets (id, times, `has…`) is accepted and ignored."""

    id: str | None = Field(None, max_length=100)
    created_at: str | None = None
    updated_at: str | None = None
    has_instagram_api_key: bool | None = None
    has_twitter_app_key: bool | None = None
    has_twitter_app_secret: bool | None = None
    has_twitter_access_token: bool | None = None
    has_twitter_access_secret: bool | None = None

    def values(self) -> dict[str, Any]:
        return {k: v for k, v in super().values().items() if not k.startswith("has_")}


class CharacterList(ListQuery):
    trashed: bool = Field(False, description="List the deleted ones that can be restored")


class DeleteQuery(RequestBody):
    id: str | None = Field(None, max_length=100)
    dry_run: bool = Field(False, description="Only count what the delete affects")


def _answer(character: Character) -> Response:
    characters = services().characters
    return etags.answer(characters.public(character), characters.etag(character))


@bp.get("", summary="List the characters")
def list_characters(query: CharacterList):
    characters = services().characters
    if query.trashed:
        return plain_list([characters.public(c) | {"deletedAt": c.deleted_at} for c in characters.trashed()], query)
    return plain_list([characters.public(c) for c in characters.all()], query)


@bp.post("", summary="Create a character")
@idempotent()
def create_character(body: CharacterWithId):
    _check_accounts(body.values(), {})
    character = services().characters.create(body.values())
    services().connections.keys_changed(character.id)
    return created(services().characters.public(character), f"/api/characters/{character.id}")


@bp.put("", summary="Change a character, its id in the body")
def update_character_by_body(body: CharacterWithId):
    if not body.id:
        raise InvalidInput.field("id", "Name the character to change.")
    return _changed(body.id, body)


@bp.delete("", summary="Delete a character, its id in the query")
def delete_character_by_query(query: DeleteQuery):
    if not query.id:
        raise InvalidInput.field("id", "Name the character to delete: ?id=char_…")
    return _delete(query.id, query.dry_run)


@bp.get("/<id>", summary="Read a character")
def get_character(path: IdPath):
    return _answer(services().characters.get(path.id))


@bp.put("/<id>", summary="Change the fields that are sent")
def update_character(path: IdPath, body: CharacterWithId):
    if body.id and body.id != path.id:
        raise InvalidInput.field("id", "The id in the body is not the one in the address.")
    return _changed(path.id, body)


@bp.patch("/<id>", summary="Change the fields that are sent")
def patch_character(path: IdPath, body: CharacterWithId):
    return update_character(path=path, body=body)


@bp.delete("/<id>", summary="Move a character to the trash")
def delete_character(path: IdPath, query: DeleteQuery):
    return _delete(path.id, query.dry_run)


@bp.post("/<id>/restore", summary="Bring a deleted character back")
def restore_character(path: IdPath):
    return _answer(services().characters.restore(path.id))


def _check_accounts(values: dict[str, Any], shown: dict[str, Any]) -> None:
    """Refuse to change which accounts are posted to, and with which keys, without the right to publish.

    `shown` is the record as GET answers it: one that is sent back unchanged changes nothing.
    """
    changed = [field for field in ACCOUNT_FIELDS if field in values and (values[field] or None) != (shown.get(to_camel(field)) or None)]  # fmt: skip
    if changed or (shown.get("dryRun") and values.get("dry_run") is False):
        require(PUBLISH, "Changing the accounts of a character")
    if shown.get("isActive") is False and values.get("is_active"):  # its schedule and its posts go on
        require(PUBLISH, "Switching a character on")


def _changed(id: str, body: CharacterBody) -> Response:
    characters, values = services().characters, body.values()
    _check_accounts(values, characters.public(characters.get(id)))
    character = characters.update(id, values, if_match=request.headers.get("If-Match"))
    services().connections.keys_changed(id)  # new keys may mend an account that was stopped
    return _answer(character)


def _delete(id: str, dry_run: bool) -> dict[str, Any]:
    characters = services().characters
    affects = characters.dependants(id)
    if not dry_run:
        characters.delete(id, if_match=request.headers.get("If-Match"))
    return {"success": True, "dryRun": dry_run, "affects": affects}
