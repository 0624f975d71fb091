"""`/api/images/batch-process` and `/api/datasets/{id}/duplicates`: work on many pictures, and pictures that look alike."""

from __future__ import annotations

from typing import Any, Literal

from flask_openapi3 import Tag
from pydantic import ConfigDict, Field

from dalla.errors import InvalidInput
from dalla.measures import MAX_DISTANCE, SAME_PICTURE
from dalla.records.base import RequestBody
from dalla.services.duplicates import Group
from dalla.web.blueprint import APIBlueprint
from dalla.web.context import services
from dalla.web.payload import IdPath, accepted, idempotent

bp = APIBlueprint("image_batches", __name__, url_prefix="/api", abp_tags=[Tag(name="Datasets")])


class BatchBody(RequestBody):
    """Named pictures, or those of a dataset that the filter finds (all of them without one)."""

    operation: str = Field(min_length=1, max_length=50, description="face_crop, mask_faces, analyze, resize, dedupe, upscale, caption, tag; see GET")  # fmt: skip
    dataset_id: str | None = Field(None, min_length=1, max_length=100)
    image_ids: list[str] | None = Field(None, min_length=1, max_length=100_000)
    filter: dict[str, Any] | None = Field(None, description="Fields of the picture list's query, e.g. {\"kind\": \"original\", \"captioned\": false}")  # fmt: skip
    options: dict[str, Any] = Field(default_factory=dict, description="Of the operation; see GET for the defaults")
    dry_run: bool = Field(False, description="Say what would be done and change nothing")


class TaskPath(RequestBody):
    model_config = ConfigDict(extra="ignore")
    task_id: str = Field(min_length=1, max_length=100)


class ResultsQuery(RequestBody):
    status: Literal["done", "skipped", "failed"] | None = None
    limit: int = Field(100, ge=1, le=1000)
    offset: int = Field(0, ge=0, le=10_000_000)


class DuplicatesQuery(RequestBody):
    distance: int = Field(SAME_PICTURE, ge=0, le=MAX_DISTANCE, description="Bits by which two pictures may differ")
    exact: bool = Field(False, description="Only pictures with the same pixels")
    kind: Literal["original", "processed", "all"] = "original"
    limit: int = Field(50, ge=1, le=200)
    offset: int = Field(0, ge=0, le=1_000_000)


class VerdictBody(RequestBody):
    """separate: never offered as duplicates again. same: always one group. forget: neither. keep: one stays, the
    others go to the trash."""

    verdict: Literal["separate", "same", "forget", "keep"]
    image_ids: list[str] = Field(min_length=2, max_length=10_000)
    keep_id: str | None = Field(None, max_length=100, description="Of `keep`: the one that stays")
    rule: Literal["largest", "sharpest", "captioned"] = Field("largest", description="Of `keep` without `keepId`")


# ---------------------------------------------------------------- batches


@bp.get(
    "/images/batch-process", summary="What can be done to pictures, with default options, and what is missing for it"
)
def list_operations():
    return {"operations": services().image_batches.operations()}


@bp.post("/images/batch-process", summary="Do something to many pictures (202; a task with a result for every picture)")
@idempotent()
def start_batch(body: BatchBody):
    where = None
    if body.filter is not None:
        if body.dataset_id is None or body.image_ids is not None:
            raise InvalidInput.field("filter", "A filter goes with datasetId, without imageIds.")
        where = services().datasets.where(body.dataset_id, body.filter)
    job = services().image_batches.submit(
        body.operation, body.dataset_id, body.image_ids, body.options, body.dry_run, where=where
    )
    answer, status, headers = accepted(job)
    return {**answer, "operation": body.operation, "images": job.payload["images"]}, status, headers


@bp.get("/images/batch-process/<task_id>", summary="What came of every picture of a batch")
def batch_results(path: TaskPath, query: ResultsQuery):
    return services().image_batches.results(path.task_id, status=query.status, limit=query.limit, offset=query.offset)


@bp.post("/images/batch-process/<task_id>/undo", summary="Take a batch back (202; a task)")
@idempotent()
def undo_batch(path: TaskPath):
    return accepted(services().image_batches.undo(path.task_id))


# ---------------------------------------------------------------- duplicates


@bp.get(
    "/datasets/<id>/duplicates", summary="Groups of pictures that look alike, and how many there are at each distance"
)
def list_duplicates(path: IdPath, query: DuplicatesQuery):
    found = services().duplicates.groups(
        path.id,
        distance=query.distance,
        exact=query.exact,
        kind=None if query.kind == "all" else query.kind,
        limit=query.limit,
        offset=query.offset,
    )
    return {
        "distance": query.distance,
        "items": [_group(group) for group in found.groups],
        "total": found.total,
        "images": found.images,
        "counts": found.counts,
        "exact": found.exact,
        "unmeasured": found.unmeasured,
    }


@bp.post("/datasets/<id>/duplicates", summary="Say what a group is, or which picture of it stays")
def decide(path: IdPath, body: VerdictBody):
    duplicates = services().duplicates
    if body.verdict == "keep":
        return duplicates.keep(path.id, body.image_ids, body.keep_id, rule=body.rule)
    return duplicates.say(path.id, body.verdict, body.image_ids)


def _group(group: Group) -> dict[str, Any]:
    return {
        "id": group.id,
        "distance": group.distance,
        "exact": group.exact,
        "same": group.same,
        "keep": group.keep,
        "images": services().datasets.public_images(group.images),
    }
