"""`/api/models`, `/api/generate-image`: what can be drawn with, and drawing."""

from __future__ import annotations

import base64
from typing import Any

from flask_openapi3 import Tag
from pydantic import Field, StrictInt

from dalla.errors import DallaError, TimedOut, internal_problem
from dalla.records.base import RequestBody
from dalla.records.character import LoraUse
from dalla.records.job import Job
from dalla.services.generation import Wish
from dalla.web import problems
from dalla.web.blueprint import APIBlueprint
from dalla.web.characters import LoraBody
from dalla.web.context import services
from dalla.web.payload import accepted, idempotent, wants_async
from dalla.web.waiting import needed_place

bp = APIBlueprint("generate", __name__, url_prefix="/api", abp_tags=[Tag(name="Models and images")])

#: How long the waiting form waits, seconds. The task goes on; the answer says where to find it.
WAIT_SECONDS = 3600.0


class ModelsQuery(RequestBody):
    show: str | None = Field(None, max_length=20, description="`all`: accepted for older clients")


class AsyncQuery(RequestBody):
    async_: str | None = Field(None, alias="async", max_length=10, description="1: answer 202 at once")


class GenerateBody(RequestBody):
    """A wish for pictures. What is left out is filled in from the character and the model."""

    character_id: str | None = Field(None, max_length=100)
    prompt: str | None = None
    negative_prompt: str | None = None
    model: str | None = Field(None, max_length=500)
    loras: list[LoraBody] | None = Field(None, max_length=20)
    width: StrictInt | None = None
    height: StrictInt | None = None
    steps: StrictInt | None = None
    cfg_scale: float | None = None
    guidance: float | None = None
    sampler: str | None = Field(None, max_length=100)
    scheduler: str | None = Field(None, max_length=100)
    seed: StrictInt | None = Field(None, description="Left out or -1: random; the answer says which")
    batch_size: StrictInt = 1
    init_image_media_id: str | None = Field(None, max_length=100)
    denoise: float | None = None
    engine: str | None = Field(None, max_length=50, description="auto, comfyui or builtin")
    raw_prompt: bool = Field(False, description="Use the prompts as they are: nothing of the character is added")

    def wish(self) -> Wish:
        values = self.model_dump(exclude={"loras"})
        loras = None if self.loras is None else [LoraUse(name=u.name, strength=u.strength) for u in self.loras]
        return Wish(**values, loras=loras)


@bp.get("/models", summary="List models, LoRAs and engines")
def list_models(query: ModelsQuery):
    return services().generation.overview()


@bp.post("/generate-image/preview-prompt", summary="Compose the prompt without generating")
def preview_prompt(body: GenerateBody):
    composed = services().generation.compose(body.wish())
    return {"prompt": composed.prompt, "negativePrompt": composed.negative_prompt, "parts": composed.parts}


def _without_pictures(body: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in body.items() if k not in ("image", "images")}


def _with_pictures(body: dict[str, Any]) -> dict[str, Any]:
    """Add the pictures as base64 to the answer that waited; an answer that did not wait stays as it is."""
    if "mediaIds" not in body:
        return body
    gallery = services().gallery
    images = [base64.b64encode(gallery.bytes_of(gallery.get(id))).decode() for id in body["mediaIds"]]
    return {"image": images[0], "images": images, **body}


@bp.post("/generate-image", summary="Make pictures")
@idempotent(keep=_without_pictures, replay=_with_pictures)
def generate_image(body: GenerateBody, query: AsyncQuery):
    if wants_async():
        return accepted(services().generation.submit(body.wish()))
    with needed_place():
        job = services().generation.submit(body.wish())
        job = services().jobs.wait(job.id, WAIT_SECONDS)
    if job.status != "completed":
        raise _failure(job)
    return _with_pictures({**(job.result or {}), "taskId": job.id}), 200, {}


def _failure(job: Job) -> DallaError:
    """Return the error a task ended with, as the error of this request."""
    if not job.finished:
        return TimedOut(
            "The picture is not ready yet; the task goes on.",
            remedy=f"Ask /api/tasks/{job.id} for it.",
            extra={"taskId": job.id},
        )
    return problems.from_problem(job.error or internal_problem(), taskId=job.id)
