"""`/api/images`: single pictures of datasets, and small edits of many."""

from __future__ import annotations

from typing import Any

from flask import request, send_file
from flask_openapi3 import Tag
from pydantic import ConfigDict, Field

from dalla.errors import InvalidInput, TooLarge
from dalla.imaging import MAX_BYTES
from dalla.records.base import RequestBody
from dalla.services.datasets import BULK_LIMIT
from dalla.web import etags
from dalla.web.blueprint import APIBlueprint
from dalla.web.context import services
from dalla.web.datasets import DeleteQuery
from dalla.web.files import cached
from dalla.web.payload import IdPath

bp = APIBlueprint("images", __name__, url_prefix="/api/images", abp_tags=[Tag(name="Datasets")])


class ImagePatch(RequestBody):
    caption: str | None = Field(None, max_length=20_000)
    tags: list[str] | None = Field(None, max_length=2000, description="Instead of the caption: its comma-separated parts")  # fmt: skip
    caption_locked: bool | None = Field(None, description="Left out: a caption written here is locked against batches")
    if_caption: str | None = Field(None, max_length=100_000, description="The text the page showed; another one now: 412")  # fmt: skip
    excluded: bool | None = None
    repeats: int | None = Field(None, ge=1, le=1000)
    concept: str | None = Field(None, max_length=200)
    regularization: bool | None = None


class ImagesChanges(RequestBody):
    caption_locked: bool | None = None
    excluded: bool | None = None
    repeats: int | None = Field(None, ge=1, le=1000)
    concept: str | None = Field(None, max_length=200)
    regularization: bool | None = None


class IdsBody(RequestBody):
    ids: list[str] = Field(min_length=1, max_length=BULK_LIMIT)


class ImagesPatch(IdsBody):
    changes: ImagesChanges


class TrashBody(IdsBody):
    permanent: bool = Field(False, description="Delete for good")


class FileQuery(RequestBody):
    model_config = ConfigDict(extra="ignore")
    v: str | None = Field(None, max_length=64, description="Start of the content hash: makes the address immutable")
    download: bool = False


class ThumbQuery(FileQuery):
    size: str = Field("s", max_length=10)


def _shown(id: str) -> dict[str, Any]:
    """Return the picture as GET answers it."""
    datasets = services().datasets
    return datasets.public_image(datasets.image(id))


@bp.get("/<id>", summary="Read a picture with its caption and what was measured")
def get_image(path: IdPath):
    return etags.answer(_shown(path.id))


@bp.patch("/<id>", summary="Caption or tags, lock, excluded, repeats, concept")
def patch_image(path: IdPath, body: ImagePatch):
    changes = body.sent()
    expected = changes.pop("if_caption", None)
    with etags.guarded("picture", path.id, lambda: _shown(path.id)):
        services().datasets.edit_image(path.id, changes, if_caption=expected)
        return etags.answer(_shown(path.id))


@bp.delete("/<id>", summary="Move to the trash; again, or ?permanent=1: delete for good")
def delete_image(path: IdPath, query: DeleteQuery):
    datasets = services().datasets
    with etags.guarded("picture", path.id, lambda: _shown(path.id)):
        for_good = query.permanent or datasets.image(path.id).trashed_at is not None
        if for_good:
            datasets.image(path.id)
            datasets.delete_pictures([path.id])
        else:
            datasets.trash_images([path.id])
    return {"success": True, "permanent": for_good}


@bp.post("/<id>/restore", summary="Bring back from the trash")
def restore_image(path: IdPath):
    datasets = services().datasets
    datasets.image(path.id)
    datasets.restore_images([path.id])
    return etags.answer(_shown(path.id))


@bp.patch("", summary="Set excluded, repeats, concept or the lock of many pictures")
def patch_images(body: ImagesPatch):
    changes = body.changes.sent()
    if not changes:
        raise InvalidInput.field("changes", "Say what to change.")
    return services().datasets.edit_images(body.ids, changes)


@bp.post("/trash", summary="Move many pictures to the trash, or delete them for good")
def trash_images(body: TrashBody):
    datasets = services().datasets
    if not body.permanent:
        return datasets.trash_images(body.ids)
    return datasets.delete_many(body.ids)


@bp.post("/restore", summary="Bring many pictures back from the trash")
def restore_images(body: IdsBody):
    return services().datasets.restore_images(body.ids)


@bp.get("/<id>/file", summary="The picture itself, byte for byte as it came")
def image_file(path: IdPath, query: FileQuery):
    image = services().datasets.image(path.id)
    response = send_file(
        services().datasets.file(image),
        mimetype=image.mime,
        conditional=True,
        etag=image.sha256,
        as_attachment=query.download,
        download_name=image.filename.rsplit("/", 1)[-1],
    )
    return cached(response, query.v, image.sha256)


@bp.get("/<id>/mask", summary="The mask of a picture: white counts in training, black does not")
def image_mask(path: IdPath, query: FileQuery):
    facts, file = services().dataset_masks.file(path.id)
    response = send_file(file, conditional=True, etag=facts["sha256"], as_attachment=query.download)
    return cached(response, query.v, facts["sha256"])


@bp.put("/<id>/mask", summary="Give a picture a mask (the raw body is a picture of the same shape)")
def put_image_mask(path: IdPath):
    data = request.stream.read(MAX_BYTES + 1)
    if not data:
        raise InvalidInput("The request has no body.", remedy="Send the mask as the body: PNG, WebP or JPEG.")
    if len(data) > MAX_BYTES:
        raise TooLarge(f"A mask may have {MAX_BYTES / 1e6:.0f} MB.")
    return etags.answer(services().datasets.public_image(services().dataset_masks.put(path.id, data)))


@bp.delete("/<id>/mask", summary="Take the mask of a picture away")
def delete_image_mask(path: IdPath):
    return etags.answer(services().datasets.public_image(services().dataset_masks.remove(path.id)))


@bp.get("/<id>/thumb", summary="A thumbnail (size=s: 320 px, m: 960 px; WebP)")
def image_thumb(path: IdPath, query: ThumbQuery):
    image = services().datasets.image(path.id)
    thumb = services().datasets.thumbnail(image, query.size)
    response = send_file(thumb, mimetype="image/webp", conditional=True, etag=f"{image.sha256}{query.size}")
    return cached(response, query.v, image.sha256)
