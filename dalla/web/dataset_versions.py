"""`/api/datasets/{id}/versions`, `…/exports`, `…/materialize`: snapshots of a dataset and what is made from them."""

from __future__ import annotations

from typing import Literal

from flask import send_file
from flask_openapi3 import Tag
from pydantic import ConfigDict, Field

from dalla.records.base import RequestBody
from dalla.services.dataset_formats import ExportOptions
from dalla.web.blueprint import APIBlueprint
from dalla.web.context import services
from dalla.web.payload import IdPath, accepted, idempotent, wants_async

bp = APIBlueprint("dataset_versions", __name__, url_prefix="/api/datasets", abp_tags=[Tag(name="Datasets")])

#: Versions with more pictures are restored as a task.
AT_ONCE = 1000


class VersionPath(RequestBody):
    model_config = ConfigDict(extra="ignore")
    id: str = Field(min_length=1, max_length=100)
    number: str = Field(min_length=1, max_length=20, description="The number of a version, or `current`")


class NumberPath(RequestBody):
    model_config = ConfigDict(extra="ignore")
    id: str = Field(min_length=1, max_length=100)
    number: int = Field(ge=1, le=2**31 - 1)


class CompareQuery(RequestBody):
    against: str | None = Field(None, max_length=20, description="Another version, or `current`; left out: the one before")  # fmt: skip


class VersionBody(RequestBody):
    note: str = Field("", max_length=2000)


class ExportBody(RequestBody):
    """What is exported, and how. Without a version the dataset as it is now becomes one."""

    format: str = Field(max_length=50, description="kohya, imagefolder, pairs, jsonl, csv, captions, ai-toolkit, onetrainer or simpletuner")  # fmt: skip
    version: int | None = Field(None, ge=1, le=2**31 - 1)
    options: ExportOptions | None = None


class MaterializeBody(RequestBody):
    name: str | None = Field(None, min_length=1, max_length=100, description="Folder in training_data/; left out: like the dataset")  # fmt: skip
    version: int | None = Field(None, ge=1, le=2**31 - 1)
    use: Literal["originals", "processed", "replaced", "all"] = "originals"
    overwrite: bool = Field(False, description="Replace a folder that was not made from this dataset; it goes to the trash")  # fmt: skip


# ---------------------------------------------------------------- versions


@bp.get("/<id>/versions", summary="List the versions, newest first")
def list_versions(path: IdPath):
    versions = services().dataset_versions
    return {"items": [versions.public(version) for version in versions.all(path.id)]}


@bp.post("/<id>/versions", summary="Keep the dataset as it is now; nothing changed: the newest version")
@idempotent()
def make_version(path: IdPath, body: VersionBody):
    versions = services().dataset_versions
    version, new = versions.snapshot(path.id, body.note)
    answer = versions.public(version) | {"created": new}
    return answer, 201 if new else 200, {"Location": f"/api/datasets/{path.id}/versions/{version.number}"}


@bp.get("/<id>/versions/<number>", summary="What a version holds and what changed in it")
def get_version(path: VersionPath, query: CompareQuery):
    versions = services().dataset_versions
    change = versions.compare(path.id, path.number, query.against)
    if path.number == "current":
        return change
    return versions.public(versions.get(path.id, int(path.number))) | change


@bp.post(
    "/<id>/versions/<number>/restore", summary="Make the dataset what it was in a version; a large one as a task (202)"
)
@idempotent()
def restore_version(path: NumberPath):
    versions = services().dataset_versions
    if wants_async() or versions.size(path.id, path.number) > AT_ONCE:
        return accepted(services().dataset_exports.submit_restore(path.id, path.number))
    return versions.restore(path.id, path.number)


# ---------------------------------------------------------------- exports


@bp.get("/export-formats", summary="The formats, and the options with their limits")
def export_formats():
    return {"formats": services().dataset_exports.formats(), "options": ExportOptions.model_json_schema(by_alias=True)}


@bp.get("/<id>/exports", summary="List the exports, newest first")
def list_exports(path: IdPath):
    return {"items": services().dataset_exports.all(path.id)}


@bp.post("/<id>/exports", summary="Export a version as a zip file")
@idempotent()
def make_export(path: IdPath, body: ExportBody):
    options = body.options.model_dump(by_alias=True, exclude_unset=True) if body.options else None
    job, export = services().dataset_exports.submit(path.id, body.format, options, body.version)
    answer, status, headers = accepted(job)
    more = {"exportId": export.id, "number": export.number, "version": export.version, "filename": export.filename}
    return answer | more, status, headers


@bp.get("/<id>/exports/<number>", summary="Download an export (Range)")
def get_export(path: NumberPath):
    export, file = services().dataset_exports.file(path.id, path.number)
    response = send_file(
        file,
        mimetype="application/zip",
        conditional=True,
        etag=export.sha256,
        as_attachment=True,
        download_name=export.filename,
    )
    response.headers["Cache-Control"] = "private, no-cache"
    response.headers.setdefault("Accept-Ranges", "bytes")
    return response


@bp.delete("/<id>/exports/<number>", summary="Remove an export; one that is being made is stopped")
def delete_export(path: NumberPath):
    services().dataset_exports.delete(path.id, path.number)
    return {"success": True}


@bp.post("/<id>/materialize", summary="Write training_data/<name>/ for our own trainer")
@idempotent()
def materialize(path: IdPath, body: MaterializeBody):
    job = services().dataset_exports.submit_materialize(
        path.id, body.name, version=body.version, use=body.use, overwrite=body.overwrite
    )
    answer, status, headers = accepted(job)
    return answer | {"name": job.payload["name"]}, status, headers
