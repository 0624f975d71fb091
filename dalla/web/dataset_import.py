"""`/api/datasets/plan|upload|import`, `/api/uploads` and the check: how pictures come into a dataset, and whether all
of them are still there."""

from __future__ import annotations

import json
from typing import Any

from flask import request
from flask_openapi3 import Tag
from pydantic import Field, ValidationError

from dalla.errors import BadRequest, InvalidInput
from dalla.records.base import RequestBody
from dalla.services.uploads import MAX_OPEN, Upload
from dalla.web import problems
from dalla.web.access import ADMIN, require
from dalla.web.blueprint import APIBlueprint
from dalla.web.context import services
from dalla.web.payload import IdPath, accepted, idempotent

bp = APIBlueprint("dataset_import", __name__, url_prefix="/api/datasets", abp_tags=[Tag(name="Dataset import")])
uploads = APIBlueprint("uploads", __name__, url_prefix="/api/uploads", abp_tags=[Tag(name="Uploads")])


class ImportBody(RequestBody):
    """What to import, and into which dataset."""

    upload_ids: list[str] = Field(default_factory=list, max_length=MAX_OPEN, description="Complete uploads")
    path: str | None = Field(
        None, max_length=4000, description="Folder, zip or picture on the computer the app runs on"
    )
    dataset_id: str | None = Field(None, max_length=100, description="Left out: a new dataset is made")
    name: str | None = Field(None, max_length=200, description="Name of the new dataset")
    character_id: str | None = Field(None, max_length=100)
    options: dict[str, Any] = Field(default_factory=dict, description="captions, folderCaptions, recipes, kohya: true or false; duplicates: skip or keep")  # fmt: skip

    def plain(self) -> dict[str, Any]:
        """Return the arguments of DatasetImport.plan."""
        return {
            "upload_ids": self.upload_ids,
            "path": self.path or None,
            "dataset_id": self.dataset_id or None,
            "name": self.name or None,
            "options": self.options,
        }


class UploadBody(RequestBody):
    name: str = Field(min_length=1, max_length=1000, description="Name, or path below the folder that is sent")
    size: int = Field(ge=0, le=2**53, description="Bytes")
    sha256: str | None = Field(None, max_length=64, description="When given, the finished file is compared with it")


class OffsetQuery(RequestBody):
    offset: int = Field(0, ge=0, le=2**53, description="Where the bytes of this request belong")


class FetchBody(RequestBody):
    urls: list[str] | str = Field(description="Addresses of pictures or zips; as a list, or as a text with one a line")


class CheckBody(RequestBody):
    repair: bool = Field(False, description="Also repair what does not fit")


# ---------------------------------------------------------------- importing


@bp.post("/plan", summary="What an import would do (JSON, or multipart with the files); changes nothing")
def import_plan():
    body, failed = _body()
    try:
        plan = services().dataset_import.plan(**body.plain())
    except BaseException:
        if _is_form():
            services().uploads.discard(body.upload_ids)
        raise
    return {**plan, "uploadIds": body.upload_ids, "path": body.path, "failed": failed}


@bp.post("/upload", summary="Import a zip or several pictures sent with the request")
@idempotent()
def import_upload():
    if not _is_form():
        raise BadRequest("Send multipart/form-data with the files; already uploaded ones go to /api/datasets/import.")
    return _start(*_body())


@bp.post("/import", summary="Import uploads, or a folder or zip of this computer")
@idempotent()
def import_start():
    return _start(*_body())


def _start(body: ImportBody, failed: list[dict[str, str]]) -> tuple[dict[str, Any], int, dict[str, str]]:
    if body.character_id:
        services().characters.get(body.character_id)
    try:
        job, dataset = services().dataset_import.start(**body.plain(), character_id=body.character_id or None)
    except BaseException:
        if _is_form():
            services().uploads.discard(body.upload_ids)
        raise
    answer, status, headers = accepted(job)
    return {**answer, "datasetId": dataset.id, "failed": failed}, status, headers


def _is_form() -> bool:
    return request.mimetype == "multipart/form-data"


def _body() -> tuple[ImportBody, list[dict[str, str]]]:
    """Read the wish from JSON, or from a form whose files become uploads; also the files that were refused."""
    if not _is_form():
        values = request.get_json(silent=True)
        if not isinstance(values, dict):
            raise BadRequest("Send a JSON object, or multipart/form-data with the files.")
        return _validated(values), []
    values = {key: value for key, value in request.form.items() if value != ""}
    if "options" in values:
        try:
            values["options"] = json.loads(values["options"])
        except (ValueError, RecursionError):
            raise InvalidInput.field("options", "This must be a JSON object.") from None
    given = values.get("uploadIds")
    if given is not None:
        values["uploadIds"] = [id for id in str(given).split(",") if id]
    body = _validated(values)
    files = [f for name in ("file", "files", "file[]", "files[]") for f in request.files.getlist(name)]
    if not files and not body.upload_ids and not body.path:
        raise InvalidInput.field("file", "Attach a zip, or pictures.")
    ids, failed = services().uploads.keep_all([(f.filename or "picture", f.stream.read) for f in files])
    if failed and not ids and not body.upload_ids:
        raise InvalidInput(
            f"None of the files could be taken. {failed[0]['detail']}",
            errors=[{"field": "file", "message": f"{row['name']}: {row['detail']}"} for row in failed],
        )
    return body.model_copy(update={"upload_ids": [*body.upload_ids, *ids]}), failed


def _validated(values: dict[str, Any]) -> ImportBody:
    try:
        body = ImportBody.model_validate(values)
    except ValidationError as exc:
        raise problems.invalid(exc) from exc
    if body.path:  # it may name any folder that the app can read
        require(ADMIN, "Importing a folder or file of the computer the app runs on")
    return body


# ---------------------------------------------------------------- checking


@bp.get("/<id>/check", summary="Compare the records of a dataset with its files; opens none, changes nothing")
def check_dataset(path: IdPath):
    return services().dataset_check.check(path.id)


@bp.post("/<id>/check", summary="Read every file of a dataset and compare it; with repair, put right what can be")
@idempotent()
def start_check(path: IdPath):
    values = request.get_json(silent=True) if request.content_length else {}
    try:
        body = CheckBody.model_validate(values or {})
    except ValidationError as exc:
        raise problems.invalid(exc) from exc
    return accepted(services().dataset_check.start(path.id, repair=body.repair))


# ---------------------------------------------------------------- uploads


@uploads.post("", summary="Begin an upload that may be interrupted and gone on with")
@idempotent()
def create_upload(body: UploadBody):
    upload = services().uploads.create(body.name, body.size, body.sha256)
    return _shown(upload), 201, {"Location": f"/api/uploads/{upload.id}"}


@uploads.post(
    "/fetch", summary="Fetch pictures or zips from addresses into uploads, as a task; then plan and import them"
)
@idempotent()
def fetch_uploads(body: FetchBody):
    text = body.urls if isinstance(body.urls, str) else "\n".join(body.urls)
    return accepted(services().url_uploads.start(text))


@uploads.get("/<id>", summary="How much of an upload is here")
def get_upload(path: IdPath):
    return _shown(services().uploads.get(path.id))


@uploads.put("/<id>", summary="Send the next bytes of an upload (the raw body), from its offset on")
def append_upload(path: IdPath, query: OffsetQuery):
    return _shown(services().uploads.append(path.id, query.offset, request.stream.read))


@uploads.delete("/<id>", summary="Forget an upload")
def delete_upload(path: IdPath):
    services().uploads.delete(path.id)
    return {"success": True}


def _shown(upload: Upload) -> dict[str, Any]:
    return {**upload.public(), "expiresAt": services().uploads.expires_at(upload)}
