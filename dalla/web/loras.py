"""`/api/loras`: the LoRAs there are, what is written about them, their files."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Literal

from flask import send_file
from flask_openapi3 import Tag
from pydantic import ConfigDict, Field

from dalla.records.base import RequestBody
from dalla.web import etags
from dalla.web.blueprint import APIBlueprint
from dalla.web.context import services
from dalla.web.lora import RestoreBody
from dalla.web.payload import ListQuery, plain_list

bp = APIBlueprint("loras", __name__, url_prefix="/api/loras", abp_tags=[Tag(name="LoRAs")])


class LoraPath(RequestBody):
    model_config = ConfigDict(extra="ignore")
    name: str = Field(min_length=1, max_length=200)


class LoraPatch(RequestBody):
    trigger_word: str | None = Field(None, max_length=200)
    description: str | None = Field(None, max_length=10_000)
    tags: list[str] | None = Field(None, max_length=200)
    family: str | None = Field(None, max_length=20)
    strength: float | None = None


class LoraFileQuery(RequestBody):
    format: Literal["kohya", "peft"] | None = Field(None, description="kohya: for kohya, ComfyUI, A1111 and Forge; peft: for diffusers; left out: as it lies on the shelf")  # fmt: skip


@bp.get("", summary="List the LoRAs, newest first")
def loras(query: ListQuery):
    return plain_list(services().training.shelf.all(), query)


@bp.get("/trash", summary="List the deleted LoRAs that can be restored")
def loras_trash():
    return {"items": services().training.shelf.trashed()}


@bp.post("/restore", summary="Undo the delete of a LoRA; characters that used it get it back")
def lora_restore(body: RestoreBody):
    return services().training.shelf.restore(body.trash_id)


@bp.get("/<name>", summary="Read a LoRA: what its file says, who uses it")
def lora(path: LoraPath):
    return etags.answer(services().training.shelf.get(path.name))


@bp.patch("/<name>", summary="Change trigger word, description, tags, family or recommended strength")
def lora_patch(path: LoraPath, body: LoraPatch):
    shelf = services().training.shelf
    with etags.guarded("LoRA", path.name, lambda: shelf.get(path.name)):
        shelf.update(path.name, body.sent())
        return etags.answer(shelf.get(path.name))


@bp.delete("/<name>", summary="Move a LoRA to the trash and take it off its characters")
def lora_delete(path: LoraPath):
    shelf = services().training.shelf
    with etags.guarded("LoRA", path.name, lambda: shelf.get(path.name)):
        return {"success": True, **shelf.delete(path.name)}


@bp.get("/<name>/file", summary="Download a LoRA, as it is or in the key names of `format` (kohya, peft)")
def lora_file(path: LoraPath, query: LoraFileQuery):
    name, content = services().training.shelf.download(path.name, query.format)
    body = content if isinstance(content, Path) else BytesIO(b"".join(content))
    return send_file(
        body, mimetype="application/octet-stream", as_attachment=True, download_name=name, conditional=True
    )
