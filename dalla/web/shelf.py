"""`/api/shelf` and the models of a character: weights with hash, licence and users, memory, pins, change log."""

from __future__ import annotations

from flask import Flask, has_request_context
from flask_openapi3 import Tag
from pydantic import Field

from dalla.records.base import RequestBody
from dalla.services.model_files import check_kind
from dalla.web.access import identity
from dalla.web.blueprint import APIBlueprint
from dalla.web.context import services
from dalla.web.payload import IdPath, PageQuery, accepted, idempotent

tag = Tag(name="Model shelf")
bp = APIBlueprint("shelf", __name__, url_prefix="/api/shelf", abp_tags=[tag])
pins = APIBlueprint("model_pins", __name__, url_prefix="/api/characters", abp_tags=[tag])

MAX_IDS = 500


class ShelfQuery(RequestBody):
    kind: str | None = Field(None, max_length=40, description="model, lora, vae, text_encoder, upscaler, captioner …")
    source: str | None = Field(None, pattern="^(local|comfyui)$", description="local or comfyui")
    q: str | None = Field(None, max_length=200, description="Words in name, family, hash or notes")
    used: bool | None = Field(None, description="true: in use by somebody; false: by nobody")
    problems: bool = Field(False, description="Only what cannot be loaded or is there twice")


class ShelfPatch(RequestBody):
    license: str | None = Field(None, max_length=1000, description="null or empty: what the file says")
    notes: str | None = Field(None, max_length=10_000)


class IdsBody(RequestBody):
    ids: list[str] | None = Field(None, max_length=MAX_IDS, description="Left out: all that have no hash yet")


class TrashBody(RequestBody):
    ids: list[str] = Field(min_length=1, max_length=MAX_IDS)
    dry_run: bool = Field(False, description="Only say what it affects")
    force: bool = Field(False, description="Also what comes with the app (the starter model, faces)")


class RestoreBody(RequestBody):
    ids: list[str] = Field(min_length=1, max_length=MAX_IDS, description="trashId of the removal")


class IdBody(RequestBody):
    id: str = Field(min_length=1, max_length=100)


class AddBody(RequestBody):
    upload_id: str = Field(min_length=1, max_length=100, description="A complete upload (/api/uploads)")


class FreeBody(RequestBody):
    engine: str | None = Field(
        None, max_length=50, description="builtin, comfyui, captioner …; left out: all idle ones"
    )


class FitQuery(RequestBody):
    name: str = Field(min_length=1, max_length=500, description="Name of the model")
    width: int | None = Field(None, ge=16, le=8192)
    height: int | None = Field(None, ge=16, le=8192)
    batch: int = Field(1, ge=1, le=64)
    precision: str | None = Field(
        None, pattern="^(fp32|fp16|bf16)$", description="Left out: what the engine would take"
    )
    source: str | None = Field(None, pattern="^(local|comfyui)$")


class UseBody(RequestBody):
    change_id: str | None = Field(None, max_length=100, description="An entry of the log; left out: the pin")


def install(app: Flask) -> None:
    """Let the change log know who acts: a person's name ("" where there are no accounts), None outside a request."""
    versions = app.extensions["dalla"].model_shelf.versions
    versions.who = lambda: (identity().name or "") if has_request_context() else None


# ---------------------------------------------------------------- the shelf


@bp.get("", summary="List all weights: models, LoRAs, parts, and what the ComfyUI server offers")
def shelf(query: ShelfQuery):
    if query.kind is not None:
        check_kind(query.kind)
    return services().model_shelf.all(**query.model_dump())


@bp.post("/hash", summary="Compute SHA-256 hashes in the background")
@idempotent()
def shelf_hash(body: IdsBody):
    return accepted(services().model_shelf.hashes.start(body.ids))


@bp.get("/trash", summary="List the removed weights that can be brought back")
def shelf_trash():
    return {"items": services().model_shelf.trashed()}


@bp.post("/trash", summary="Move weights to the trash, or only say what that affects")
def shelf_remove(body: TrashBody):
    items = services().model_shelf.remove(body.ids, dry_run=body.dry_run, force=body.force)
    return {"dryRun": body.dry_run, "items": items}


@bp.delete("/trash/<id>", summary="Delete removed weights for good")
def shelf_purge(path: IdPath):
    return {"success": True, "freedBytes": services().model_shelf.purge(path.id)}


@bp.post("/restore", summary="Bring removed weights back")
def shelf_restore(body: RestoreBody):
    return {"items": services().model_shelf.restore(body.ids)}


@bp.post("/add", summary="Put an uploaded .safetensors file onto the shelf")
@idempotent()
def shelf_add(body: AddBody):
    return accepted(services().model_shelf.files.add(body.upload_id))


@bp.post("/convert", summary="Convert a .ckpt, .pt or .pth to .safetensors beside it")
@idempotent()
def shelf_convert(body: IdBody):
    return accepted(services().model_shelf.files.convert(body.id))


@bp.get("/resident", summary="The models in memory now")
def shelf_resident():
    return services().model_shelf.resident.all()


@bp.post("/free", summary="Give back the memory of idle models")
def shelf_free(body: FreeBody):
    return {"freed": services().model_shelf.resident.free(body.engine)}


@bp.get("/fit", summary="Whether a model fits into memory at a size")
def shelf_fit(query: FitQuery):
    return services().model_shelf.fit(**query.model_dump())


@bp.get("/<id>", summary="Read one: metadata, files, users, measured memory")
def shelf_item(path: IdPath):
    return services().model_shelf.get(path.id)


@bp.patch("/<id>", summary="Write its licence and notes")
def shelf_patch(path: IdPath, body: ShelfPatch):
    return services().model_shelf.update(path.id, body.sent())


# ---------------------------------------------------------------- the models of a character


@pins.get("/<id>/models", summary="Model and LoRAs of a character, its pin, and whether the files are still the same")
def character_models(path: IdPath):
    return services().model_shelf.versions.of(path.id)


@pins.post("/<id>/models/pin", summary="Pin the character to the versions it uses now")
def character_pin(path: IdPath):
    return services().model_shelf.versions.pin(path.id), 201


@pins.delete("/<id>/models/pin", summary="Take the pin off")
def character_unpin(path: IdPath):
    return {"success": True, "removed": services().model_shelf.versions.unpin(path.id)}


@pins.get("/<id>/models/log", summary="Every change of model, LoRAs, strengths, trigger word and the files behind them")
def character_model_log(path: IdPath, query: PageQuery):
    return services().model_shelf.versions.log(path.id, limit=query.limit, cursor=query.cursor)


@pins.post("/<id>/models/use", summary="Use an earlier version of model, LoRAs and trigger word again")
def character_use_version(path: IdPath, body: UseBody):
    return services().model_shelf.versions.use(path.id, body.change_id)
