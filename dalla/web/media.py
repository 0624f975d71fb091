"""`/api/media` and `/api/collections`: the gallery."""

from __future__ import annotations

from typing import Any

from flask import send_file
from flask_openapi3 import FileStorage, Tag
from pydantic import ConfigDict, Field

from dalla import recipes
from dalla.errors import DallaError, InvalidInput, NotFound
from dalla.imaging import MAX_BYTES, open_image
from dalla.records.base import RequestBody
from dalla.records.media import MediaFilter, MediaItem, Recipe
from dalla.services.gallery import BULK_LIMIT
from dalla.times import boundary
from dalla.web import etags
from dalla.web.blueprint import APIBlueprint
from dalla.web.context import services
from dalla.web.files import cached
from dalla.web.payload import IdPath, PageQuery, accepted, created, idempotent

bp = APIBlueprint("media", __name__, url_prefix="/api", abp_tags=[Tag(name="Gallery")])


class MediaQuery(RequestBody):
    """Filters of the gallery; all that are given must match."""

    character_id: str | None = Field(None, max_length=100)
    type: str | None = Field(None, pattern="^(image|video)$")
    model: str | None = Field(None, max_length=500)
    lora: str | None = Field(None, max_length=500)
    engine: str | None = Field(None, max_length=50)
    q: str | None = Field(None, max_length=1000, description='Words of the prompt; also `model:` `lora:` `is:starred` `after:` `-word` `"a phrase"`')  # fmt: skip
    starred: bool | None = None
    posted: bool | None = None
    collection_id: str | None = Field(None, max_length=100)
    task_id: str | None = Field(None, max_length=100)
    after: str | None = Field(None, max_length=40)
    before: str | None = Field(None, max_length=40)
    trashed: bool = False

    def where(self) -> MediaFilter:
        values = self.model_dump(include=set(MediaQuery.model_fields) - {"q", "after", "before"}, exclude_none=True)
        if self.after:
            values["after"] = boundary(self.after, "after")
        if self.before:
            values["before"] = boundary(self.before, "before", end_of_day=True)
        return MediaFilter(**{**values, **services().gallery.search(self.q or "", _character_id)})


class MediaPage(PageQuery, MediaQuery):
    sort: str = Field("newest", pattern="^(newest|oldest)$")
    offset: int = Field(
        0, ge=0, le=10_000_000, description="Skip this many first: for jumping into the middle, not for paging"
    )


class MediaPatch(RequestBody):
    starred: bool | None = None
    caption: str | None = Field(None, max_length=10_000)
    alt_text: str | None = Field(None, max_length=2000)
    character_id: str | None = Field(None, max_length=100)


class BulkBody(RequestBody):
    action: str = Field(max_length=50, description="star, unstar, trash, restore, delete, setCharacter, addToCollection, removeFromCollection")  # fmt: skip
    ids: list[str] = Field(min_length=1, max_length=BULK_LIMIT)
    collection_id: str | None = Field(None, max_length=100)
    character_id: str | None = Field(None, max_length=100)


class UpscaleBody(RequestBody):
    factor: float = 2.0
    model: str | None = Field(None, max_length=500)
    engine: str | None = Field(None, max_length=50)


class SizeQuery(RequestBody):
    model_config = ConfigDict(extra="ignore")
    size: str = Field("s", max_length=10)
    v: str | None = Field(None, max_length=64, description="Start of the content hash: makes the address immutable")


class FileQuery(RequestBody):
    v: str | None = Field(None, max_length=64)
    download: bool = False


class DeleteQuery(RequestBody):
    permanent: bool = False


class ImportForm(RequestBody):
    file: list[FileStorage] = Field(default_factory=list)
    files: list[FileStorage] = Field(default_factory=list)
    character_id: str | None = Field(None, max_length=100)


class InspectForm(RequestBody):
    file: FileStorage


class CollectionBody(RequestBody):
    name: str = Field(min_length=1, max_length=200)


class CollectionItems(RequestBody):
    media_ids: list[str] = Field(min_length=1, max_length=BULK_LIMIT)


def _character_id(name: str) -> str | None:
    """Find a character by id or by (part of) its name, for `character:luna` in the search box."""
    wanted = name.casefold()
    characters = services().characters.all()
    for fits in (lambda c: c.id == name, lambda c: c.name.casefold() == wanted, lambda c: wanted in c.name.casefold()):
        for character in characters:
            if fits(character):
                return character.id
    return None


def _item(id: str) -> MediaItem:
    return services().gallery.get(id)


def _shown(id: str) -> dict[str, Any]:
    """Return the item as GET answers it."""
    item = _item(id)
    return services().gallery.public(item) | {"recipe": item.recipe}


def _collection(id: str) -> dict[str, Any]:
    return services().gallery.collection(id).to_json()


@bp.get("/media", summary="List media, newest first")
def list_media(query: MediaPage):
    gallery = services().gallery
    page = gallery.page(query.where(), limit=query.limit, cursor=query.cursor, sort=query.sort, offset=query.offset)
    return {
        "items": [gallery.public(item) for item in page.items],
        "nextCursor": page.next_cursor,
        "total": page.total,
    }


@bp.get("/media/facets", summary="Count media by model, LoRA, character and engine")
def media_facets(query: MediaQuery):
    return services().gallery.facets(query.where())


@bp.get("/media/ids", summary="The ids of all that match (up to 10,000)")
def media_ids(query: MediaQuery):
    ids = services().gallery.ids(query.where())
    return {"ids": ids, "total": len(ids)}


@bp.post("/media", summary="Import pictures")
def import_media(form: ImportForm):
    uploads = [*form.file, *form.files]
    if not uploads:
        raise InvalidInput.field("file", "Attach at least one picture.")
    gallery = services().gallery
    if form.character_id:
        services().characters.get(form.character_id)
    items, failed = [], []
    for upload in uploads:
        name = upload.filename or "picture"
        try:
            item, new = gallery.add_file(_read(upload), name=name, character_id=form.character_id)
            items.append(gallery.public(item) | {"duplicate": not new})
        except DallaError as exc:
            if len(uploads) == 1:
                raise
            failed.append({"id": name, **exc.problem()})
    if not items:
        raise InvalidInput(
            f"None of the files could be taken. {failed[0]['detail']}",
            errors=[{"field": "file", "message": f"{row['id']}: {row['detail']}"} for row in failed],
            extra={"items": [], "succeeded": [], "failed": failed},
        )
    return {"items": items, "succeeded": [i["id"] for i in items], "failed": failed}, 201


@bp.post("/media/inspect", summary="Read the recipe of a picture without keeping it")
def inspect_media(form: InspectForm):
    data = _read(form.file)
    picture = open_image(data, name=form.file.filename or "file")
    found = recipes.read(data)
    return {
        "width": picture.width,
        "height": picture.height,
        "source": found.source if found else None,
        "recipe": found.recipe.to_json(exclude_none=True) if found else None,
        "request": request_of(found.recipe) if found else None,
    }


@bp.post("/media/bulk", summary="Star, trash, restore, sort … many at once")
def bulk_media(body: BulkBody):
    if body.action == "setCharacter" and body.character_id:
        services().characters.get(body.character_id)
    return services().gallery.bulk(
        body.action, list(dict.fromkeys(body.ids)), collection_id=body.collection_id, character_id=body.character_id
    )


@bp.get("/media/<id>", summary="Read one item")
def get_media(path: IdPath):
    return etags.answer(_shown(path.id))


@bp.patch("/media/<id>", summary="Star, caption, alt text, character")
def patch_media(path: IdPath, body: MediaPatch):
    changes = body.sent()
    if changes.get("starred", True) is None:
        raise InvalidInput.field("starred", "This must be true or false.")
    if changes.get("character_id"):
        services().characters.get(changes["character_id"])
    with etags.guarded("picture", path.id, lambda: _shown(path.id)):
        services().gallery.update(path.id, changes)
        return etags.answer(_shown(path.id))


@bp.delete("/media/<id>", summary="Move to the trash; again, or ?permanent=1: delete for good")
def delete_media(path: IdPath, query: DeleteQuery):
    with etags.guarded("picture", path.id, lambda: _shown(path.id)):
        for_good = query.permanent or _item(path.id).trashed_at is not None
        services().gallery.bulk("delete" if for_good else "trash", [path.id])
    return {"success": True, "permanent": for_good}


@bp.post("/media/<id>/restore", summary="Bring back from the trash")
def restore_media(path: IdPath):
    _item(path.id)
    services().gallery.bulk("restore", [path.id])
    return etags.answer(_shown(path.id))


@bp.get("/media/<id>/file", summary="The picture itself")
def media_file(path: IdPath, query: FileQuery):
    item = _item(path.id)
    response = send_file(
        services().gallery.file(item),
        mimetype=item.mime,
        conditional=True,
        etag=item.sha256,
        as_attachment=query.download,
        download_name=f"{item.id}.{item.path.rsplit('.', 1)[-1]}",
    )
    return cached(response, query.v, item.sha256)


@bp.get("/media/<id>/thumb", summary="A thumbnail (size=s: 320 px, m: 960 px; WebP)")
def media_thumb(path: IdPath, query: SizeQuery):
    item = _item(path.id)
    thumb = services().gallery.thumbnail(item, query.size)
    response = send_file(thumb, mimetype="image/webp", conditional=True, etag=f"{item.sha256}{query.size}")
    return cached(response, query.v, item.sha256)


@bp.get("/media/<id>/recipe", summary="How it was made, and the request that makes it again")
def media_recipe(path: IdPath):
    item = _item(path.id)
    if not item.recipe:
        raise NotFound("This picture carries no recipe.")
    recipe = Recipe.model_validate(item.recipe)
    return {"recipe": recipe.to_json(exclude_none=True), "request": request_of(recipe)}


@bp.post("/media/<id>/upscale", summary="Enlarge a picture into a new one")
@idempotent()
def upscale_media(path: IdPath, body: UpscaleBody):
    return accepted(
        services().generation.submit_upscale(path.id, factor=body.factor, model=body.model, engine=body.engine)
    )


# ---------------------------------------------------------------- collections


@bp.get("/collections", summary="List the collections")
def list_collections():
    return {"items": [c.to_json() for c in services().gallery.collections()]}


@bp.post("/collections", summary="Create a collection")
@idempotent()
def create_collection(body: CollectionBody):
    made = services().gallery.save_collection(body.name)
    return created(made.to_json(), f"/api/collections/{made.id}")


@bp.get("/collections/<id>", summary="Read a collection")
def get_collection(path: IdPath):
    return etags.answer(_collection(path.id))


@bp.patch("/collections/<id>", summary="Rename a collection")
def rename_collection(path: IdPath, body: CollectionBody):
    with etags.guarded("collection", path.id, lambda: _collection(path.id)):
        services().gallery.save_collection(body.name, path.id)
        return etags.answer(_collection(path.id))


@bp.delete("/collections/<id>", summary="Forget a collection; its media stay")
def delete_collection(path: IdPath):
    with etags.guarded("collection", path.id, lambda: _collection(path.id)):
        services().gallery.delete_collection(path.id)
    return {"success": True}


@bp.post("/collections/<id>/items", summary="Add media to a collection")
def add_to_collection(path: IdPath, body: CollectionItems):
    return services().gallery.bulk("addToCollection", body.media_ids, collection_id=path.id)


@bp.delete("/collections/<id>/items", summary="Take media out of a collection")
def remove_from_collection(path: IdPath, body: CollectionItems):
    return services().gallery.bulk("removeFromCollection", body.media_ids, collection_id=path.id)


# ---------------------------------------------------------------- parts


def _read(upload: Any) -> bytes:
    return upload.stream.read(MAX_BYTES + 1)


def request_of(recipe: Recipe) -> dict[str, Any]:
    """Return the body for `POST /api/generate-image` that makes the picture again, and nothing else.

    The prompt is the composed one, so `rawPrompt` keeps the character from being composed in twice.
    """
    known = any(character.id == recipe.character_id for character in services().characters.all())
    engine = recipe.engine if recipe.engine in ("comfyui", "builtin") else None
    request: dict[str, Any] = {
        "characterId": recipe.character_id if known else None,
        "rawPrompt": True,
        "prompt": recipe.prompt,
        "negativePrompt": recipe.negative_prompt,
        "model": recipe.model,
        "loras": [{"name": use.name, "strength": use.strength} for use in recipe.loras],
        "width": recipe.width if recipe.operation == "generate" else None,
        "height": recipe.height if recipe.operation == "generate" else None,
        "steps": recipe.steps,
        "cfgScale": recipe.cfg_scale,
        "guidance": recipe.guidance,
        "sampler": recipe.sampler,
        "scheduler": recipe.scheduler,
        "seed": recipe.seed,
        "initImageMediaId": recipe.init_image_media_id,
        "denoise": recipe.denoise if recipe.init_image_media_id else None,
        "engine": engine,
    }
    return {key: value for key, value in request.items() if value is not None}
