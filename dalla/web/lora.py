"""`/api/lora`: training LoRAs, and the pictures they are trained with. The LoRAs there are: loras.py."""

from __future__ import annotations

import json
from typing import Any, Literal, TypeVar, get_args

from flask import Response, request, send_file
from flask_openapi3 import FileStorage, Tag
from pydantic import ConfigDict, Field, ValidationError

from dalla.errors import BadRequest, InvalidInput
from dalla.imaging import MAX_BYTES
from dalla.records.base import RequestBody
from dalla.records.job import Status
from dalla.services.training_plan import TrainWish
from dalla.services.training_sets import plain_name
from dalla.web import problems
from dalla.web.blueprint import APIBlueprint
from dalla.web.context import services
from dalla.web.files import log_text
from dalla.web.payload import IdPath, ListQuery, PageQuery, accepted, idempotent, plain_list

bp = APIBlueprint("lora", __name__, url_prefix="/api", abp_tags=[Tag(name="LoRA training")])

MAX_IMAGES = 200  # as base64 in one call
B = TypeVar("B", bound=RequestBody)


class TrainBody(RequestBody):
    """A wish for a LoRA. What is left out is decided from the character, the pictures and the preset."""

    character_id: str | None = Field(None, max_length=100)
    dataset_id: str | None = Field(None, max_length=200, description="A dataset (or, as before, a folder in training_data/)")  # fmt: skip
    training_data: str | None = Field(None, max_length=200, description="Folder in training_data/")
    images: list[str] | None = Field(None, max_length=MAX_IMAGES, description="Pictures as base64")
    base_model: str | None = Field(None, max_length=500)
    name: str | None = Field(None, max_length=200, description="Name of the LoRA; left out: a free one is chosen")
    trigger_word: str | None = Field(None, max_length=200)
    params: dict[str, Any] = Field(default_factory=dict, description="preset, rank, learningRate, steps …")

    def wish(self, files: list[tuple[str, bytes]] | None = None) -> TrainWish:
        if self.dataset_id and self.training_data and self.dataset_id != self.training_data:
            raise InvalidInput.field("datasetId", "Give datasetId or trainingData, not both.")
        return TrainWish(
            character_id=self.character_id or None,
            training_data=self.training_data or None,
            dataset_id=None if self.training_data else self.dataset_id or None,
            images=self.images,
            files=files or [],
            base_model=self.base_model or None,
            name=self.name or None,
            trigger_word=self.trigger_word,
            params=self.params,
        )


class EstimateQuery(RequestBody):
    images: bool = Field(True, description="Also say of every picture how it is cropped and captioned")


class UploadForm(RequestBody):
    """Pictures, and captions as .txt files of the same names."""

    name: str | None = Field(None, max_length=200)
    character_id: str | None = Field(None, max_length=100)
    file: list[FileStorage] = Field(default_factory=list)
    files: list[FileStorage] = Field(default_factory=list)


class RunsQuery(PageQuery):
    status: str | None = Field(None, max_length=200, description="One or more, comma separated")
    character_id: str | None = Field(None, max_length=100)


class SinceQuery(RequestBody):
    since_step: int = Field(0, ge=0, le=2**53, description="Only what came after this step")


class LogQuery(RequestBody):
    offset: int = Field(0, ge=-(2**53), le=2**53, description="Bytes to skip; negative: so many from the end")


class CancelBody(RequestBody):
    keep: Literal["lora", "checkpoints", "nothing"] = Field("checkpoints", description="What is kept: a LoRA made of the last checkpoint, the checkpoints, or nothing")  # fmt: skip


class TrainResumeBody(RequestBody):
    settings: dict[str, Any] = Field(default_factory=dict, description="What changes from here on: steps, learningRate, textEncoderLearningRate, sampleEvery, samplePrompts, saveEvery, validation {every}, earlyStop")  # fmt: skip


class StepPath(RequestBody):
    model_config = ConfigDict(extra="ignore")
    id: str = Field(min_length=1, max_length=100)
    step: int = Field(ge=0, le=2**53)


class FilePath(RequestBody):
    model_config = ConfigDict(extra="ignore")
    id: str = Field(min_length=1, max_length=100)
    name: str = Field(min_length=1, max_length=200)


class SetPath(RequestBody):
    model_config = ConfigDict(extra="ignore")
    name: str = Field(min_length=1, max_length=200)


class SetFilePath(RequestBody):
    model_config = ConfigDict(extra="ignore")
    name: str = Field(min_length=1, max_length=200)
    file: str = Field(min_length=1, max_length=500)


class SizeQuery(RequestBody):
    size: str | None = Field(None, max_length=10, description="s: 320 px, m: 960 px (WebP); left out: the file itself")


class CaptionBody(RequestBody):
    caption: str = Field(max_length=20_000)


class RestoreBody(RequestBody):
    trash_id: str = Field(min_length=1, max_length=100)


# ---------------------------------------------------------------- starting


@bp.get("/lora/options", summary="What can be trained on, and the presets")
def lora_options():
    return services().training.options()


@bp.post("/lora/estimate", summary="Steps, time, memory, buckets and warnings; trains nothing")
def lora_estimate(body: TrainBody, query: EstimateQuery):
    if body.images:
        raise InvalidInput.field("images", "Upload the pictures first (/api/lora/upload), then name their folder.")
    return services().training.estimate(body.wish(), pictures=query.images)


@bp.post("/lora/train", summary="Train a LoRA (JSON, or multipart with the pictures)")
@bp.post("/lora/v2/train", summary="Train a LoRA (older address)")
@idempotent()
def lora_train():
    body, files = _train_body()
    answer, status, headers = accepted(services().training.start(body.wish(files)))
    return {**answer, "runUrl": f"/api/lora/train/{answer['taskId']}"}, status, headers


def _train_body() -> tuple[TrainBody, list[tuple[str, bytes]]]:
    """Read the wish from JSON or from a form: its fields are texts there, `params` one JSON object."""
    if request.mimetype != "multipart/form-data":
        values, files = request.get_json(silent=True), []
        if not isinstance(values, dict):
            raise BadRequest("Send a JSON object, or multipart/form-data with pictures.")
    else:
        values = {key: value for key, value in request.form.items() if value != ""}
        if "params" in values:
            try:
                values["params"] = json.loads(values["params"])
            except (ValueError, RecursionError):
                raise InvalidInput.field("params", "This must be a JSON object.") from None
        files = _read_all([f for name in ("file", "files", "files[]", "images") for f in request.files.getlist(name)])
    try:
        return TrainBody.model_validate(values), files
    except ValidationError as exc:
        raise problems.invalid(exc) from exc


def _read_all(uploads: list[Any]) -> list[tuple[str, bytes]]:
    # One byte more than is taken: too large is then told by whoever looks at the picture.
    return [(upload.filename or "picture", upload.stream.read(MAX_BYTES + 1)) for upload in uploads]


# ---------------------------------------------------------------- runs


@bp.get("/lora/train", summary="List the training runs, newest first")
def lora_runs(query: RunsQuery):
    statuses = [s for s in (query.status or "").split(",") if s]
    if set(statuses) - set(get_args(Status)):
        raise InvalidInput.field("status", f"Use {', '.join(get_args(Status))}.")
    items, cursor, total = services().training.runs(
        statuses=statuses or None, character_id=query.character_id, limit=query.limit, cursor=query.cursor
    )
    return {"items": items, "nextCursor": cursor, "total": total}


@bp.get("/lora/train/<id>", summary="Read a run: progress, samples, checkpoints, report")
@bp.get("/lora/v2/train/<id>", summary="Read a run (older address)")
def lora_run(path: IdPath):
    training = services().training
    return training.public(training.job(path.id), full=True)


@bp.delete("/lora/train/<id>", summary="Delete what a finished run left on the disk; its LoRAs stay")
def lora_run_delete(path: IdPath):
    return {"success": True, "freedBytes": services().training.delete_run(path.id)}


@bp.get("/lora/train/<id>/metrics", summary="The curves: loss, learning rate, speed, held-out loss")
def lora_metrics(path: IdPath, query: SinceQuery):
    return services().training.metrics(path.id, query.since_step)


@bp.get("/lora/train/<id>/log", summary="The trainer's log as text, from a byte offset")
def lora_log(path: IdPath, query: LogQuery):
    return log_text(services().training.log_file(path.id), query.offset)


@bp.post("/lora/train/<id>/pause", summary="Save the state and free the graphics card; resume goes on from there")
def lora_pause(path: IdPath):
    return _run(services().training.pause(path.id)), 202


@bp.post(
    "/lora/train/<id>/resume",
    summary="Go on with a paused, failed, stopped or interrupted run; `settings` change what may change",
)
@idempotent()
def lora_resume(path: IdPath):
    return _run(services().training.resume(path.id, _sent(TrainResumeBody).settings)), 202, {}


@bp.post("/lora/train/<id>/cancel", summary="Stop a run; `keep` says what becomes of it")
def lora_cancel(path: IdPath):
    return _run(services().training.cancel(path.id, _sent(CancelBody).keep)), 202


def _sent(model: type[B]) -> B:
    """Read a body that may be left out altogether. Raises BadRequest (no JSON), InvalidInput by field."""
    sent = request.get_json(silent=True) if request.content_length else {}
    if sent is None:
        raise BadRequest("The body is not JSON.")
    try:
        return model.model_validate(sent)
    except ValidationError as exc:
        raise problems.invalid(exc) from exc


@bp.post("/lora/train/<id>/save", summary="Write a checkpoint after the present step")
@idempotent()
def lora_save(path: IdPath):
    services().training.save(path.id)
    return {"success": True}, 202, {}


@bp.post("/lora/train/<id>/sample", summary="Draw the sample pictures after the present step")
@idempotent()
def lora_sample(path: IdPath):
    services().training.sample(path.id)
    return {"success": True}, 202, {}


def _run(job: Any) -> dict[str, Any]:
    return services().training.public(job)


@bp.get("/lora/train/<id>/samples/<name>", summary="A sample picture")
def lora_sample_file(path: FilePath):
    folder = services().training.folders.folder(services().training.job(path.id).id)
    return send_file(folder.sample_file(path.name), conditional=True)


@bp.get("/lora/train/<id>/checkpoints/<int:step>/file", summary="Download the LoRA of a checkpoint")
def lora_checkpoint_file(path: StepPath):
    training = services().training
    job = training.job(path.id)
    _, file = training.folders.folder(job.id).checkpoint(path.step)
    name = f"{training.config(job).name}-step{path.step}.safetensors"
    return send_file(
        file, mimetype="application/octet-stream", as_attachment=True, download_name=name, conditional=True
    )


@bp.post("/lora/train/<id>/checkpoints/<int:step>/use", summary="Put the LoRA of a checkpoint on the shelf and use it")
@idempotent()
def lora_checkpoint_use(path: StepPath):
    lora = services().training.use_checkpoint(path.id, path.step)
    return lora, 201, {"Location": f"/api/loras/{lora['name']}"}


@bp.delete("/lora/train/<id>/checkpoints/<int:step>", summary="Delete a checkpoint")
def lora_checkpoint_delete(path: StepPath):
    training = services().training
    training.folders.folder(training.job(path.id).id).delete_checkpoint(path.step)
    return {"success": True}


# ---------------------------------------------------------------- training pictures


@bp.post("/lora/upload", summary="Put pictures and captions into a training set")
def lora_upload(form: UploadForm):
    uploads = [*form.file, *form.files, *request.files.getlist("files[]")]
    if not uploads:
        raise InvalidInput.field("files", "Attach at least one picture.")
    name = form.name
    if not name and form.character_id:
        name = plain_name(services().characters.get(form.character_id).name, "pictures")
    if not name:
        raise InvalidInput.field("name", "Say which training set they belong to: name or characterId.")
    training = services().training
    added = training.sets.add(name, _read_all(uploads))
    return {
        "success": True,
        "trainingData": added.name,
        "files": added.files,
        "captions": added.captions,
        "captionCount": len(added.captions),
        "duplicates": added.duplicates,
        "failed": added.failed,
        "set": training.sets.summary(training.sets.folder(added.name)),
    }, 201


@bp.get("/lora/training-data", summary="List the training sets")
def training_data(query: ListQuery):
    return plain_list(services().training.sets.all(), query)


@bp.post("/lora/training-data/restore", summary="Undo the delete of a set or picture")
def training_data_restore(body: RestoreBody):
    return {"success": True, "name": services().training.sets.restore(body.trash_id)}


@bp.get("/lora/training-data/<name>", summary="Read a training set: every picture, its caption and what is wrong")
def training_data_report(path: SetPath):
    from dalla.services.training_sets import file_url

    sets = services().training.sets
    report = sets.report(path.name)
    pictures = [{**p.to_json(), "fileUrl": file_url(path.name, p.file)} for p in report.pictures]
    return {
        **sets.summary(sets.folder(path.name)),
        "images": pictures,
        "skipped": report.skipped,
        "warnings": report.warnings,
    }


@bp.delete("/lora/training-data/<name>", summary="Move a training set to the trash")
def training_data_delete(path: SetPath):
    return {"success": True, "trashId": services().training.sets.delete(path.name)}


@bp.get("/lora/training-data/<name>/files/<path:file>", summary="A training picture, or a thumbnail of it")
def training_data_file(path: SetFilePath, query: SizeQuery):
    sets = services().training.sets
    if query.size is None:
        return send_file(sets.picture(path.name, path.file), conditional=True)
    response = Response(sets.thumbnail(path.name, path.file, query.size), content_type="image/webp")
    response.add_etag()
    return response.make_conditional(request)


@bp.put("/lora/training-data/<name>/files/<path:file>", summary="Write the caption of a training picture")
def training_data_caption(path: SetFilePath, body: CaptionBody):
    services().training.sets.set_caption(path.name, path.file, body.caption)
    return {"success": True}


@bp.delete("/lora/training-data/<name>/files/<path:file>", summary="Move a training picture to the trash")
def training_data_file_delete(path: SetFilePath):
    return {"success": True, "trashId": services().training.sets.delete_picture(path.name, path.file)}
