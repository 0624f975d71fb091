"""`/api/datasets`: the sets, their pictures as lists, what was counted of them.

Short addresses: every address below `/api/datasets` and `/api/images` also answers without `/api`
(`GET /datasets/{id}/images`, `POST /images/batch-process`). `ShortAddresses` does that for all of them, before
routing, so that guards and views see one address only: a blueprint needs nothing but its `/api/…` prefix.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import orjson
from flask import Response, request
from flask_openapi3 import Tag
from pydantic import Field

import dalla
from dalla.records.base import RequestBody
from dalla.records.dataset import ImageFilter
from dalla.services.image_queries import ImageQuery
from dalla.web import etags
from dalla.web.blueprint import APIBlueprint
from dalla.web.context import services
from dalla.web.payload import IdPath, PageQuery, created, idempotent

bp = APIBlueprint("datasets", __name__, url_prefix="/api/datasets", abp_tags=[Tag(name="Datasets")])

SHORT = ("/datasets", "/images")


class ShortAddresses:
    """WSGI: take `/datasets…` and `/images…` as if `/api` stood before them.

    A browser that opens exactly `/datasets` wants the page of that name, so that one is left alone for it.
    """

    def __init__(self, app: Callable[..., Iterable[bytes]]) -> None:
        self._app = app

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        for name in SHORT:
            exact = path.rstrip("/") == name
            opened = environ.get("REQUEST_METHOD") in ("GET", "HEAD") and "text/html" in environ.get("HTTP_ACCEPT", "")
            if (path.startswith(f"{name}/") and not exact) or (exact and not opened):
                environ["PATH_INFO"] = "/api" + path
        return self._app(environ, start_response)


class DatasetsQuery(PageQuery):
    q: str = Field("", max_length=500, description="Words of name, description or trigger word")
    trashed: bool = False


class DatasetBody(RequestBody):
    name: str = Field(min_length=1, max_length=200)
    description: str = Field("", max_length=10_000)
    character_id: str | None = Field(None, max_length=100)
    trigger_word: str = Field("", max_length=200)


class DatasetPatch(RequestBody):
    name: str | None = Field(None, min_length=1, max_length=200)
    description: str | None = Field(None, max_length=10_000)
    character_id: str | None = Field(None, max_length=100)
    trigger_word: str | None = Field(None, max_length=200)


class DeleteQuery(RequestBody):
    permanent: bool = False


class ImagesPage(ImageQuery):
    limit: int = Field(100, ge=1, le=500, description="At most this many")
    cursor: str | None = Field(None, max_length=5000, description="`nextCursor` of the page before")
    offset: int | None = Field(None, ge=0, le=10_000_000, description="Skip this many first: for jumps of the grid, not for paging")  # fmt: skip
    sort: str = Field("name", max_length=70, description="name, newest, oldest, largest, smallest, sharpest, blurriest, caption, or a measured value, with - before it: largest first")  # fmt: skip


class StatsQuery(RequestBody):
    resolution: int = Field(512, ge=128, le=4096, description="Side of the training square, px")
    step: int = Field(64, ge=8, le=128, description="Step of the bucket sides, px")
    batch: int = Field(1, ge=1, le=1024, description="Pictures a batch")
    epochs: int = Field(1, ge=1, le=100_000)


@bp.get("", summary="List the datasets, newest first")
def list_datasets(query: DatasetsQuery):
    datasets = services().datasets
    page = datasets.page(q=query.q, trashed=query.trashed, limit=query.limit, cursor=query.cursor)
    return compared({"items": datasets.public_many(page.items), "nextCursor": page.next_cursor, "total": page.total})


@bp.post("", summary="Create an empty dataset")
@idempotent()
def create_dataset(body: DatasetBody):
    if body.character_id:
        services().characters.get(body.character_id)
    datasets = services().datasets
    made = datasets.create(
        body.name,
        description=body.description,
        character_id=body.character_id or None,
        trigger_word=body.trigger_word,
    )
    return created(datasets.public(made), f"/api/datasets/{made.id}")


@bp.get("/<id>", summary="Read a dataset")
def get_dataset(path: IdPath):
    return etags.answer(_shown(path.id))


@bp.patch("/<id>", summary="Name, description, character, trigger word")
def patch_dataset(path: IdPath, body: DatasetPatch):
    changes = body.sent()
    if changes.get("character_id"):
        services().characters.get(changes["character_id"])
    with etags.guarded("dataset", path.id, lambda: _shown(path.id)):
        services().datasets.update(path.id, changes)
        return etags.answer(_shown(path.id))


@bp.delete("/<id>", summary="Move to the trash; again, or ?permanent=1: delete for good")
def delete_dataset(path: IdPath, query: DeleteQuery):
    datasets = services().datasets
    with etags.guarded("dataset", path.id, lambda: _shown(path.id)):
        for_good = query.permanent or datasets.get(path.id).trashed_at is not None
        if for_good:
            datasets.delete_for_good(path.id)
        else:
            datasets.trash(path.id)
    return {"success": True, "permanent": for_good}


@bp.post("/<id>/restore", summary="Bring back from the trash")
def restore_dataset(path: IdPath):
    services().datasets.restore(path.id)
    return etags.answer(_shown(path.id))


@bp.get("/<id>/images", summary="List the pictures of a dataset")
def list_images(path: IdPath, query: ImagesPage):
    datasets = services().datasets
    revision = datasets.get(path.id).revision  # before the rows: what is told may be newer than its tag, never older
    fresh = unchanged(revision)
    if fresh is not None:
        return fresh
    where = where_of(path.id, query)
    page = datasets.images(path.id, where, sort=query.sort, limit=query.limit, cursor=query.cursor, offset=query.offset)
    body = {"items": datasets.public_images(page.items), "nextCursor": page.next_cursor, "total": page.total}
    return tagged(body | {"revision": revision}, revision)


@bp.get("/<id>/images/ids", summary="The ids of all that match, by file name")
def list_image_ids(path: IdPath, query: ImagesPage):
    ids = services().datasets.image_ids(path.id, where_of(path.id, query))
    return {"ids": ids, "total": len(ids)}


@bp.get("/<id>/facets", summary="Count pictures by format, folder, concept, caption, faces, tag")
def image_facets(path: IdPath, query: ImagesPage):
    datasets = services().datasets
    revision = datasets.get(path.id).revision
    return unchanged(revision) or tagged(datasets.facets(path.id, where_of(path.id, query)), revision)


@bp.get("/<id>/stats", summary="Everything worth counting, each count with its filter, and the health score")
def dataset_stats(path: IdPath, query: StatsQuery):
    datasets = services().datasets
    fresh = unchanged(datasets.get(path.id).revision)
    if fresh is not None:
        return fresh
    stats = datasets.statistics.of(
        path.id, resolution=query.resolution, step=query.step, batch=query.batch, epochs=query.epochs
    )
    return tagged(stats, stats["revision"])


# ---------------------------------------------------------------- parts


def _shown(id: str) -> dict[str, Any]:
    """Return the dataset as GET answers it."""
    datasets = services().datasets
    return datasets.public(datasets.get(id))


def where_of(dataset_id: str, query: ImageQuery) -> ImageFilter:
    """Return the filter of a query. Raises InvalidInput, NotFound."""
    return services().datasets.where(dataset_id, query)


def unchanged(revision: int) -> Response | None:
    """Answer 304 when the caller has what this address gave at this revision of the dataset; else None."""
    answer = Response(status=200)
    answer.set_etag(_tag(revision), weak=True)
    if not request.if_none_match.contains_weak(_tag(revision)):
        return None
    answer.status_code = 304
    answer.headers["Cache-Control"] = "private, no-cache"
    return answer


def tagged(body: dict[str, Any], revision: int) -> Response:
    """Answer JSON that stays the same until the dataset's revision grows."""
    response = Response(orjson.dumps(body, option=orjson.OPT_NON_STR_KEYS), content_type="application/json")
    response.set_etag(_tag(revision), weak=True)
    response.headers["Cache-Control"] = "private, no-cache"
    return response


def compared(body: dict[str, Any]) -> Any:
    """Answer JSON, or 304 when the caller has the same already."""
    response = Response(orjson.dumps(body), content_type="application/json")
    response.add_etag(weak=True)
    response.headers["Cache-Control"] = "private, no-cache"
    return response.make_conditional(request)


def _tag(revision: int) -> str:
    # An update of the app may answer differently, so its version is part of it.
    return f"{dalla.__version__}-{services().run_id}-{revision}"
