"""The captions of datasets: edits of many with a preview, history, taking back, tags, and who can write them."""

from __future__ import annotations

from typing import Any

from flask import request
from flask_openapi3 import Tag
from pydantic import ConfigDict, Field, ValidationError

from dalla.errors import InvalidInput
from dalla.records.base import RequestBody
from dalla.records.dataset import ImageFilter
from dalla.services.dataset_captions import AT_ONCE
from dalla.web import problems
from dalla.web.blueprint import APIBlueprint
from dalla.web.context import services
from dalla.web.payload import IdPath, accepted, idempotent, wants_async

bp = APIBlueprint("dataset_captions", __name__, url_prefix="/api", abp_tags=[Tag(name="Datasets")])


class EditBody(RequestBody):
    """An edit of the captions of named pictures, of those the filter finds, or (without both) of all."""

    operation: str = Field(max_length=50, description="replace, remove, prefix, suffix, set, trigger, rename_tag, remove_tag, add_tag, dedupe_tags, sort_tags, shuffle_tags, case, tidy")  # fmt: skip
    options: dict[str, Any] = Field(default_factory=dict, description="Of the operation, e.g. {find, replacement, mode: plain|regex|tag, caseSensitive}")  # fmt: skip
    image_ids: list[str] | None = Field(None, min_length=1, max_length=20_000)
    filter: dict[str, Any] | None = Field(None, description="Fields of the picture list's query")
    include_locked: bool = Field(False, description="Change captions a person wrote as well")
    dry_run: bool = Field(False, description="Change nothing: how many would change, and the first 50 before and after")  # fmt: skip


class UndoBody(RequestBody):
    entry_id: int | None = Field(None, ge=0, description="An entry of the history; left out: the text before this one")


class TagsQuery(RequestBody):
    q: str = Field("", max_length=200, description="Part of the tag")
    limit: int = Field(1000, ge=1, le=20_000)


class BatchesQuery(RequestBody):
    limit: int = Field(50, ge=1, le=500)


class EnginesQuery(RequestBody):
    fresh: bool = Field(False, description="Ask each service now, and list its models")


class BatchPath(RequestBody):
    model_config = ConfigDict(extra="ignore")
    id: str = Field(min_length=1, max_length=100)
    batch_id: str = Field(min_length=1, max_length=100)


@bp.get("/datasets/caption-engines", summary="Who can describe the pictures of a dataset, and what auto means now")
def list_caption_engines(query: EnginesQuery):
    return services().picture_captions.engines(fresh=query.fresh)


@bp.post(
    "/datasets/<id>/captions", summary="Edit many captions, or preview it (202 and a task when there are very many)"
)
@idempotent()
def edit_captions(path: IdPath, body: EditBody):
    captions = services().dataset_captions
    where = _where(path.id, body)
    if body.dry_run:
        return captions.edit(
            path.id, body.operation, body.options, where, include_locked=body.include_locked, dry_run=True
        )
    if wants_async() or captions.count(path.id, where) > AT_ONCE:
        return accepted(
            captions.submit_edit(path.id, body.operation, body.options, where, include_locked=body.include_locked)
        )
    return captions.edit(path.id, body.operation, body.options, where, include_locked=body.include_locked)


@bp.get("/datasets/<id>/tags", summary="The tags of a dataset, most frequent first")
def list_tags(path: IdPath, query: TagsQuery):
    return services().dataset_captions.tags(path.id, q=query.q, limit=query.limit)


@bp.get("/datasets/<id>/caption-batches", summary="What was written together, newest first")
def list_caption_batches(path: IdPath, query: BatchesQuery):
    return {"items": services().dataset_captions.batches(path.id, limit=query.limit)}


@bp.post("/datasets/<id>/caption-batches/<batch_id>/undo", summary="Take back what was written together")
@idempotent()
def undo_caption_batch(path: BatchPath):
    return services().dataset_captions.undo_batch(path.id, path.batch_id)


@bp.get("/images/<id>/captions", summary="The texts a picture had, newest first")
def image_captions(path: IdPath):
    return services().dataset_captions.history(path.id)


@bp.post("/images/<id>/captions/undo", summary="Bring back the caption before this one, or one of the history")
def undo_image_caption(path: IdPath):
    values = request.get_json(silent=True) if request.content_length else None
    try:
        body = UndoBody.model_validate(values or {})
    except ValidationError as exc:
        raise problems.invalid(exc) from exc
    container = services()
    return container.datasets.public_image(container.dataset_captions.undo(path.id, body.entry_id))


def _where(dataset_id: str, body: EditBody) -> ImageFilter:
    if body.image_ids is not None and body.filter is not None:
        raise InvalidInput.field("filter", "Name the pictures or give a filter, not both.")
    if body.image_ids is not None:
        return ImageFilter(ids=body.image_ids)
    return services().datasets.where(dataset_id, body.filter or {})
