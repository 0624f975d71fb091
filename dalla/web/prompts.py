"""`/api/prompts`, `/api/wildcards`: the prompt library, in every form of the seeds."""

from __future__ import annotations

from typing import Any

from flask import Response, request
from flask_openapi3 import Tag
from pydantic import Field, ValidationError

from dalla.errors import BadRequest, InvalidInput, TooLarge
from dalla.records.base import RequestBody
from dalla.records.character import Prompt
from dalla.services.prompts import MAX_BULK
from dalla.web import etags, problems
from dalla.web.blueprint import APIBlueprint
from dalla.web.captions import CaptionWish
from dalla.web.context import services
from dalla.web.payload import IdPath, ListQuery, accepted, created, idempotent, plain_list

bp = APIBlueprint("prompts", __name__, url_prefix="/api", abp_tags=[Tag(name="Prompts")])

IMPORT_BYTES = 8 * 1024 * 1024


class PromptList(ListQuery):
    character_id: str | None = Field(None, max_length=100)
    used: bool | None = Field(None, description="false: only those that were never used")
    q: str | None = Field(None, max_length=500, description="Words that prompt, caption or character name must have")


class PromptChange(RequestBody):
    """What can be changed of a prompt."""

    character_id: str | None = Field(None, max_length=100)
    prompt: str | None = None
    caption: str | None = None
    used: bool | None = None


class PromptRecord(PromptChange):
    """A whole record sent back: what the server sets is accepted and ignored."""

    id: str | None = Field(None, max_length=100)
    character_name: str | None = None
    created_at: str | None = None
    updated_at: str | None = None
    used_at: str | None = None
    used_in: list[dict[str, Any]] | None = None
    source: str | None = None
    captions: list[dict[str, Any]] | None = None
    caption_provider: str | None = None
    caption_model: str | None = None
    alt_text: str | None = None
    character_missing: bool | None = None
    missing_wildcards: list[str] | None = None
    generated: dict[str, Any] | None = None

    def changes(self) -> dict[str, Any]:
        return {key: value for key, value in self.sent().items() if key in PromptChange.model_fields}


class PromptBody(PromptRecord):
    """A prompt, or with `action` what to do with one: create_prompt, update_prompt, delete_prompt."""

    action: str | None = Field(None, max_length=50)
    prompt_id: str | None = Field(None, max_length=100)
    prompt: str | dict[str, Any] | None = None  # type: ignore[assignment]  # an object: the fields inside it


class BulkBody(CaptionWish):
    ids: list[str] = Field(min_length=1, max_length=MAX_BULK)
    action: str = Field(max_length=50, description="delete, caption, mark_used or mark_unused")


class GenerateBody(RequestBody):
    character_id: str = Field(min_length=1, max_length=100)
    count: int = Field(10, description="1 to 50")
    theme: str | None = Field(None, max_length=500, description="e.g. autumn, a trip to Lisbon")
    engine: str | None = Field(None, max_length=50)


class RestoreBody(RequestBody):
    prompt: dict[str, Any] | None = Field(None, description="The deleted record, as delete answered it")
    prompts: list[dict[str, Any]] | None = Field(None, max_length=MAX_BULK)


class ExportQuery(RequestBody):
    format: str = Field("csv", max_length=10, description="csv or json")
    character_id: str | None = Field(None, max_length=100)


class ImportQuery(RequestBody):
    dry_run: bool = Field(False, description="Only say what would be taken")
    character_id: str | None = Field(None, max_length=100, description="For rows that name no character")


class DeleteQuery(RequestBody):
    id: str | None = Field(None, max_length=100)


class NamePath(RequestBody):
    name: str = Field(min_length=1, max_length=100)


class WildcardBody(RequestBody):
    text: str | None = Field(None, description="One option per line; # begins a comment")
    options: list[str] | None = None


def _answer(prompt: Prompt) -> Response:
    prompts = services().prompts
    return etags.answer(prompts.public(prompt), prompts.etag(prompt))


@bp.get("/prompts", summary="List the prompts")
def list_prompts(query: PromptList):
    prompts = services().prompts
    found = prompts.find(character_id=query.character_id or None, used=query.used, text=query.q)
    names = prompts.names()
    return plain_list([prompts.public(prompt, names) for prompt in found], query)


@bp.post("/prompts", summary="Add a prompt; with `action` also change or delete one")
def post_prompt(body: PromptBody):
    values = body.sent()
    action = values.pop("action", None) or "create_prompt"
    inner = values.get("prompt")
    if isinstance(inner, dict):  # {"action": …, "prompt": {"id": …, "prompt": "…", "caption": "…"}}
        try:
            record = PromptRecord.model_validate(inner)
        except ValidationError as exc:
            raise problems.invalid(exc) from exc
        values = {**{k: v for k, v in values.items() if k != "prompt"}, **record.sent()}
    id = values.get("id") or values.get("prompt_id")
    changes = {key: value for key, value in values.items() if key in PromptChange.model_fields}
    prompts = services().prompts
    if action == "create_prompt":
        made = prompts.create(
            prompt=changes.get("prompt"), character_id=changes.get("character_id"), caption=changes.get("caption")
        )
        if changes.get("used"):
            made = prompts.update(made.id, {"used": True})
        return created(prompts.public(made), f"/api/prompts/{made.id}")
    if action not in ("update_prompt", "delete_prompt"):
        raise InvalidInput.field("action", "Use create_prompt, update_prompt or delete_prompt.")
    if not id:
        raise InvalidInput.field("id", "Name the prompt.")
    if action == "delete_prompt":
        return _delete(id)
    return _answer(prompts.update(id, changes, if_match=request.headers.get("If-Match")))


@bp.put("/prompts", summary="Change a prompt, its id in the body")
def put_prompt_by_body(body: PromptRecord):
    if not body.id:
        raise InvalidInput.field("id", "Name the prompt to change.")
    return _answer(services().prompts.update(body.id, body.changes(), if_match=request.headers.get("If-Match")))


@bp.delete("/prompts", summary="Delete a prompt, its id in the query")
def delete_prompt_by_query(query: DeleteQuery):
    if not query.id:
        raise InvalidInput.field("id", "Name the prompt to delete: ?id=prompt_…")
    return _delete(query.id)


@bp.get("/prompts/<id>", summary="Read a prompt")
def get_prompt(path: IdPath):
    return _answer(services().prompts.get(path.id))


@bp.put("/prompts/<id>", summary="Change the fields that are sent")
def put_prompt(path: IdPath, body: PromptRecord):
    if body.id and body.id != path.id:
        raise InvalidInput.field("id", "The id in the body is not the one in the address.")
    return _answer(services().prompts.update(path.id, body.changes(), if_match=request.headers.get("If-Match")))


@bp.patch("/prompts/<id>", summary="Change the fields that are sent")
def patch_prompt(path: IdPath, body: PromptRecord):
    return put_prompt(path=path, body=body)


@bp.delete("/prompts/<id>", summary="Delete a prompt; the answer holds it, for restore")
def delete_prompt(path: IdPath):
    return _delete(path.id)


def _delete(id: str) -> dict[str, Any]:
    prompts = services().prompts
    gone = prompts.delete(id, if_match=request.headers.get("If-Match"))
    return {"success": True, "prompt": prompts.public(gone)}


@bp.post("/prompts/<id>/caption", summary="Write a new caption; the old one is kept in `captions`")
@idempotent()
def caption_prompt(path: IdPath, body: CaptionWish):
    prompts = services().prompts
    prompt, result = prompts.caption(
        path.id, platform=body.platform, language=body.language, tone=body.tone, engine=body.engine
    )
    return prompts.public(prompt) | {"generated": result.public()}


@bp.post("/prompts/bulk", summary="Delete, caption or mark many")
@idempotent()
def bulk_prompts(body: BulkBody):
    prompts = services().prompts
    if body.action == "caption":
        wish = body.model_dump(include=set(CaptionWish.model_fields))
        return accepted(prompts.submit_captions(body.ids, **wish))
    return prompts.bulk(body.action, body.ids)


@bp.post("/prompts/generate", summary="Think of pictures for a character and keep the ideas")
@idempotent()
def generate_prompts(body: GenerateBody):
    prompts = services().prompts
    made, provider, notes = prompts.generate(body.character_id, body.count, theme=body.theme, engine=body.engine)
    names = prompts.names()
    answer = {"prompts": [prompts.public(prompt, names) for prompt in made], "provider": provider, "notes": notes}
    return answer, 201, {}


@bp.post("/prompts/restore", summary="Bring deleted prompts back")
def restore_prompts(body: RestoreBody):
    prompts = services().prompts
    if body.prompts is not None:
        restored = [prompts.public(prompts.restore(record)) for record in body.prompts]
        return {"succeeded": [record["id"] for record in restored], "failed": []}
    if body.prompt is None:
        raise InvalidInput.field("prompt", "Send the deleted prompt.")
    return _answer(prompts.restore(body.prompt))


@bp.get("/prompts/export", summary="The library as a CSV or JSON file")
def export_prompts(query: ExportQuery):
    data, mime = services().prompts.export(query.format, character_id=query.character_id or None)
    response = Response(data, content_type=mime)
    response.headers["Content-Disposition"] = f'attachment; filename="prompts.{query.format}"'
    return response


@bp.post("/prompts/import", summary="Take in prompts: a CSV or JSON file, or JSON {prompts: […]}")
def import_prompts(query: ImportQuery):
    character_id = query.character_id or request.form.get("characterId") or None
    upload = request.files.get("file")
    if upload is not None:
        data: Any = upload.stream.read(IMPORT_BYTES + 1)
        if len(data) > IMPORT_BYTES:
            raise TooLarge(f"The file is larger than {IMPORT_BYTES // 1024 // 1024} MB.")
        name = upload.filename or ""
    else:
        body = request.get_json(silent=True)
        data, name = body.get("prompts") if isinstance(body, dict) else body, ""
        if isinstance(body, dict):
            character_id = character_id or body.get("characterId")
        if not isinstance(data, list):
            raise BadRequest("Attach a CSV or JSON file as 'file', or send {\"prompts\": […]}.")
    return services().prompts.import_(data, name=name, character_id=character_id, dry_run=query.dry_run)


@bp.get("/wildcards", summary="Lists of options for prompts: __name__ stands for a line of one")
def list_wildcards():
    return {"wildcards": services().prompts.wildcards.all()}


@bp.get("/wildcards/<name>", summary="Read a list of options")
def get_wildcard(path: NamePath):
    return services().prompts.wildcards.get(path.name)


@bp.put("/wildcards/<name>", summary="Write a list of options")
def put_wildcard(path: NamePath, body: WildcardBody):
    if (body.text is None) == (body.options is None):
        raise InvalidInput.field("options", "Send either text (one option per line) or options.")
    lines = [" ".join(option.split()) for option in body.options or []]
    text = body.text if body.text is not None else "\n".join(lines)
    return services().prompts.wildcards.save(path.name, text)


@bp.delete("/wildcards/<name>", summary="Delete a list of options")
def delete_wildcard(path: NamePath):
    services().prompts.wildcards.delete(path.name)
    return {"success": True}
