"""Bodies that views read by themselves: raw bytes, forms with files, JSON that may be left out.

`contents()` names them by operation; everything else is told by the models of the views.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

Contents = dict[str, type[BaseModel] | dict[str, Any] | bool]

FILE: dict[str, Any] = {"type": "string", "format": "binary"}
FILES: dict[str, Any] = {"type": "array", "items": FILE}
TEXT: dict[str, Any] = {"type": "string"}


def form(**fields: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a form, all of whose fields may be left out."""
    return {"type": "object", "properties": fields}


def contents() -> dict[str, Contents]:
    """Return content type → model or schema by operation; `required: False` where the body may be left out."""
    from dalla.web import backups, dataset_captions, dataset_import, lora, scheduler

    training = form(
        files=FILES, characterId=TEXT, name=TEXT, triggerWord=TEXT, baseModel=TEXT,
        params={"type": "string", "description": "One JSON object"},
    )  # fmt: skip
    imports = form(
        file=FILES, datasetId=TEXT, name=TEXT, characterId=TEXT,
        uploadIds={"type": "string", "description": "Comma separated"},
        options={"type": "string", "description": "One JSON object"},
    )  # fmt: skip
    both: Contents = {"application/json": lora.TrainBody, "multipart/form-data": training}
    plan: Contents = {"application/json": dataset_import.ImportBody, "multipart/form-data": imports}
    prompts = {"type": "object", "required": ["prompts"], "properties": {"prompts": {"type": "array", "items": {"type": "object"}}, "characterId": TEXT}}  # fmt: skip
    return {
        "POST /api/lora/train": both,
        "POST /api/lora/v2/train": both,
        "POST /api/lora/train/{id}/cancel": {"application/json": lora.CancelBody, "required": False},
        "POST /api/lora/train/{id}/resume": {"application/json": lora.TrainResumeBody, "required": False},
        "POST /api/datasets/plan": plan,
        "POST /api/datasets/import": plan,
        "POST /api/datasets/upload": {"multipart/form-data": imports},
        "POST /api/datasets/{id}/check": {"application/json": dataset_import.CheckBody, "required": False},
        "PUT /api/uploads/{id}": {"application/octet-stream": {}},
        "POST /api/images/{id}/captions/undo": {"application/json": dataset_captions.UndoBody, "required": False},
        "POST /api/prompts/import": {
            "application/json": {"anyOf": [prompts, {"type": "array", "items": {"type": "object"}}]},
            "multipart/form-data": form(file=FILE, characterId=TEXT),
        },
        "POST /api/scheduler/pause": {"application/json": scheduler.PauseBody, "required": False},
        "POST /api/scheduler/resume": {"application/json": scheduler.ResumeBody, "required": False},
        "POST /api/scheduler/tasks/{id}/run": {"application/json": scheduler.RetryBody, "required": False},
        "POST /api/scheduler/runs/{id}/retry": {"application/json": scheduler.RetryBody, "required": False},
        "POST /api/backups/restore": {
            "application/json": backups.RestoreBody,
            "multipart/form-data": form(file=FILE, passphrase=TEXT, dryRun={"type": "boolean"}),
        },
        "PUT /api/images/{id}/mask": {
            "image/png": {},
            "image/webp": {},
            "image/jpeg": {},
            "application/octet-stream": {},
        },
    }
