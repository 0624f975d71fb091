"""`/api/backups`: make, list, download and delete backups; restore one."""

from __future__ import annotations

from typing import Any

from flask import request, send_file
from flask_openapi3 import Tag
from pydantic import Field, ValidationError

from dalla.errors import BadRequest
from dalla.records.base import RequestBody
from dalla.web import problems
from dalla.web.blueprint import APIBlueprint
from dalla.web.context import services
from dalla.web.payload import accepted, idempotent

bp = APIBlueprint("backups", __name__, url_prefix="/api/backups", abp_tags=[Tag(name="Backups")])


class BackupBody(RequestBody):
    """What goes into a backup beside the records."""

    media: bool = Field(True, description="The pictures of the gallery")
    datasets: bool = Field(True, description="The pictures of datasets, and training_data/")
    loras: bool = Field(False, description="The LoRAs in loras/")
    passphrase: str | None = Field(
        None, max_length=1000, description="Put the stored credentials in, encrypted with this"
    )


class NamePath(RequestBody):
    name: str = Field(min_length=1, max_length=200)


class UndeleteBody(RequestBody):
    trash_id: str = Field(min_length=1, max_length=100)


class RestoreBody(RequestBody):
    """Which backup, and whether only to look."""

    name: str | None = Field(None, max_length=200, description="A backup of the list")
    upload_id: str | None = Field(None, max_length=100, description="A complete upload of /api/uploads")
    passphrase: str | None = Field(None, max_length=1000, description="Of the credentials inside, if there are any")
    dry_run: bool = Field(True, description="Only check it and say what it would replace")


@bp.get("", summary="Backups there are, newest first, and a restore that waits for the restart")
def backups() -> dict[str, Any]:
    container = services()
    return {"items": container.backups.all(), "staged": container.restore.staged()}


@bp.post("", summary="Make a backup")
@idempotent(secret=("passphrase",))
def backup_make(body: BackupBody) -> Any:
    job = services().backups.start(
        media=body.media, datasets=body.datasets, loras=body.loras, passphrase=body.passphrase or None
    )
    return accepted(job)


@bp.post("/undelete", summary="Bring a deleted backup back")
def backup_undelete(body: UndeleteBody) -> dict[str, Any]:
    return services().backups.undelete(body.trash_id)


@bp.post("/restore", summary="Check a backup (dryRun), or stage it to be restored at the next start")
@idempotent(secret=("passphrase",))
def backup_restore() -> Any:
    body, file = _restore_body()
    restore = services().restore
    source = restore.source(name=body.name, upload_id=body.upload_id, file=file)
    if body.dry_run:
        return restore.plan(source, passphrase=body.passphrase or None)
    return accepted(restore.start(source, passphrase=body.passphrase or None))


@bp.delete("/restore", summary="Forget a restore that waits for the restart")
def backup_restore_forget() -> dict[str, Any]:
    return services().restore.forget()


@bp.get("/<name>", summary="Download a backup (Range is understood)")
def backup_file(path: NamePath) -> Any:
    file = services().backups.path(path.name)
    return send_file(file, mimetype="application/zip", as_attachment=True, download_name=file.name, conditional=True)


@bp.delete("/<name>", summary="Move a backup to the trash")
def backup_delete(path: NamePath) -> dict[str, Any]:
    return services().backups.delete(path.name)


def _restore_body() -> tuple[RestoreBody, tuple[str, Any] | None]:
    """Read the wish from JSON, or from a form with the archive as `file`; return it with (name, stream)."""
    form = request.mimetype == "multipart/form-data"
    values: Any = dict(request.form) if form else request.get_json(silent=True)
    if not isinstance(values, dict):
        raise BadRequest("Send JSON, or multipart/form-data with the archive as 'file'.")
    try:
        body = RestoreBody.model_validate(values)
    except ValidationError as exc:
        raise problems.invalid(exc) from exc
    sent = request.files.get("file") if form else None
    return body, (sent.filename or "backup.zip", sent.stream) if sent is not None else None
