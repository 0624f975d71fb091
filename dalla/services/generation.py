"""Make pictures of a character: compose the prompt, choose the engine, run the job, fill the gallery.

One path, two waits: `submit` queues the work and answers at once; the web waits for the job when
the caller did not ask for 202.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import date
from textwrap import shorten
from typing import Any, Protocol

import dalla
from dalla import imaging
from dalla.engines.images.base import ImageEngine
from dalla.errors import DallaError, InvalidInput, NotFound, Unavailable
from dalla.jobs.base import Context, JobQueue
from dalla.records.character import Character, LoraUse
from dalla.records.family import FAMILIES
from dalla.records.image import ImageRequest, ImageResult, ModelInfo, UpscaleRequest
from dalla.records.job import Job
from dalla.records.media import LoraRecipe, MediaItem, Recipe
from dalla.services.characters import Characters
from dalla.services.composing import Composed, compose
from dalla.services.gallery import Gallery
from dalla.settings import Settings
from dalla.times import now_iso

logger = logging.getLogger(__name__)

MAX_SEED = 2**53 - 1  # the largest whole number every JSON reader keeps exactly
MAX_BATCH = 16
MAX_STEPS = 200
MAX_SIDE = 4096
MAX_PROMPT = 10_000


class Engines(Protocol):
    """The engines in the order `auto` tries them."""

    def all(self) -> list[ImageEngine]: ...

    def get(self, name: str) -> ImageEngine:
        """Raises NotFound."""


@dataclass
class Wish:
    """What a caller asked for, before defaults. None means: not said."""

    character_id: str | None = None
    prompt: str | None = None
    negative_prompt: str | None = None
    model: str | None = None
    loras: list[LoraUse] | None = None
    width: int | None = None
    height: int | None = None
    steps: int | None = None
    cfg_scale: float | None = None
    guidance: float | None = None
    sampler: str | None = None
    scheduler: str | None = None
    seed: int | None = None
    batch_size: int = 1
    init_image_media_id: str | None = None
    denoise: float | None = None
    engine: str | None = None
    raw_prompt: bool = False  # the prompts are complete already (recalled from a recipe)


class Generation:
    """Turn wishes into pictures in the gallery."""

    KIND = "generate_image"
    UPSCALE = "upscale_image"

    def __init__(
        self, settings: Settings, engines: Engines, characters: Characters, gallery: Gallery, jobs: JobQueue
    ) -> None:
        self._settings = settings
        self._engines = engines
        self._characters = characters
        self._gallery = gallery
        self._jobs = jobs
        #: Answers what should be known before drawing (pins that no longer hold), for (character id, model).
        self.warnings: Callable[[str | None, str | None], list[str]] = lambda character_id, model: []
        jobs.register(self.KIND, self.run, lane="gpu", restartable=True)
        jobs.register(self.UPSCALE, self.run_upscale, lane="gpu", restartable=True)

    # ------------------------------------------------------------ what there is

    def overview(self) -> dict[str, Any]:
        """Return models, LoRAs and engines as `GET /api/models` answers them."""
        models, loras, engines = [], [], []
        one_file: dict[tuple[str, int], dict[str, Any]] = {}
        default = self._default_model()
        for engine in self._engines.all():
            status = engine.status()
            engines.append(
                {
                    "name": engine.name,
                    "label": engine.label,
                    "available": status.available,
                    "reason": status.reason,
                    "remedy": status.remedy,
                    "detail": status.detail,
                    "selected": default is not None and default[0] is engine,
                    **(engine.options() if status.available else {"samplers": [], "schedulers": [], "upscalers": []}),
                }
            )
            for model in engine.models():
                family = FAMILIES.get(model.family or "")
                models.append(
                    {
                        "name": model.name,
                        "label": model.label or model.name,
                        "family": model.family,
                        "familyLabel": family.label if family else None,
                        "source": model.source,
                        "engine": engine.name,
                        "sizeBytes": model.size_bytes,
                        "note": model.note,
                        "kind": model.kind,
                        "default": default is not None and default[0] is engine and default[1].name == model.name,
                        "defaults": self._defaults(model) if family else None,
                    }
                )
            for lora in engine.loras():
                row: dict[str, Any] = {
                    "name": lora.name,
                    "family": lora.family,
                    "triggerWord": lora.trigger_word,
                    "source": lora.source,
                    "engine": engine.name,
                    "engines": [engine.name],
                    "sizeBytes": lora.size_bytes,
                    "note": lora.note,
                }
                first = row
                if lora.size_bytes:  # the same name and size: one LoRA that several engines can use
                    first = one_file.setdefault((_plain_name(lora.name), lora.size_bytes), row)
                if first is row or engine.name in first["engines"]:
                    loras.append(row)
                    continue
                first["engines"].append(engine.name)
                first |= {key: first[key] or row[key] for key in ("family", "triggerWord", "note")}
                if lora.source == "builtin":  # characters and recipes know it by this name
                    first |= {key: row[key] for key in ("name", "source", "engine")}
        return {"models": models, "loras": loras, "engines": engines}

    @staticmethod
    def _defaults(model: ModelInfo) -> dict[str, Any]:
        family = FAMILIES[model.family or ""]
        size = model.native_size or family.native_size
        own = model.defaults
        return {
            "width": size,
            "height": size,
            "sizeMultiple": model.size_multiple or family.size_multiple,
            "maxSize": model.max_size,
            "steps": own.get("steps", family.steps),
            "cfgScale": own.get("cfg_scale", family.cfg_scale),
            "guidance": own.get("guidance", family.guidance),
            "sampler": own.get("sampler", family.sampler),
            "scheduler": own.get("scheduler", family.scheduler),
            "negativePrompt": family.negative_prompt,
            "negativePromptReason": family.why_no_negative or None,
        }

    # ------------------------------------------------------------ composing

    def compose(self, wish: Wish) -> Composed:
        """Return the prompt for a wish. Raises NotFound for the character."""
        character = self._characters.get(wish.character_id) if wish.character_id else None
        if wish.raw_prompt:
            return compose(None, wish.prompt or "", wish.negative_prompt, date.today())
        today = self._characters.today(character, self._settings.timezone) if character else date.today()
        words = self._lora_words(character, wish) if character else []
        return compose(character, wish.prompt or "", wish.negative_prompt, today, words)

    def _lora_words(self, character: Character, wish: Wish) -> list[str]:
        """Return the trigger words of the character's LoRAs that this wish draws with: those on their cards here.

        What ComfyUI says of a LoRA may be a guess from its tags, and asking it takes time.
        """
        own = {_plain_name(use.name) for use in character.loras}
        uses = [u for u in (character.loras if wish.loras is None else wish.loras) if _plain_name(u.name) in own]
        names = dict.fromkeys(_plain_name(use.name) for use in uses if use.strength > 0)
        here = [engine for engine in self._engines.all() if engine.name == "builtin"] if names else []
        found = {_plain_name(lora.name): lora.trigger_word or "" for engine in here for lora in engine.loras()}
        return [word.strip() for name in names for word in found.get(name, "").split(",") if word.strip()]

    # ------------------------------------------------------------ submitting

    def submit(self, wish: Wish) -> Job:
        """Check everything that can be checked, then queue. Raises InvalidInput, NotFound, Unavailable, …"""
        character = self._characters.get(wish.character_id) if wish.character_id else None
        composed = self.compose(wish)
        if not composed.prompt.strip():
            raise InvalidInput.field("prompt", "Write a prompt, or choose a character that has a base prompt.")
        if len(composed.prompt) > MAX_PROMPT or len(composed.negative_prompt) > MAX_PROMPT:
            raise InvalidInput.field("prompt", f"A prompt may have {MAX_PROMPT} characters.")
        engine, model = self._choose(wish, character)
        request, notes = self._complete(wish, composed, character, engine, model)
        engine.check(request)
        notes += self.warnings(character.id if character else None, request.model)
        payload = {k: v for k, v in asdict(request).items() if k != "init_image"}
        payload |= {
            "loras": [use.to_json() for use in request.loras],
            "engine": engine.name,
            "character_id": character.id if character else None,
            "character_name": character.name if character else None,
            "user_prompt": wish.prompt,
            "init_image_media_id": wish.init_image_media_id,
            "notes": notes,
        }
        title = f"{'Picture' if request.batch_size == 1 else f'{request.batch_size} pictures'}"
        if character:
            title += f" of {character.name}"
        if wish.prompt and wish.prompt.strip():
            title += f": {shorten(wish.prompt, 70, placeholder=' …')}"
        return self._jobs.submit(self.KIND, payload, title=title, character_id=character.id if character else None)

    def submit_upscale(self, media_id: str, *, factor: float, model: str | None, engine: str | None) -> Job:
        """Queue the enlargement of a picture. Raises NotFound, InvalidInput, Unavailable."""
        item = self._gallery.get(media_id)
        if not 1 < factor <= 4:
            raise InvalidInput.field("factor", "Use a factor above 1, up to 4.")
        if max(item.width, item.height) * factor > 8192:
            raise InvalidInput.field("factor", "The result would be larger than 8192 px.")
        chosen = self._engine_for_upscale(engine, model)
        payload = {"media_id": media_id, "factor": factor, "model": model, "engine": chosen.name}
        return self._jobs.submit(self.UPSCALE, payload, title=f"Upscale {factor:g}×", character_id=item.character_id)

    def _engine_for_upscale(self, name: str | None, model: str | None) -> ImageEngine:
        usable, _ = self._usable(name)
        if model:
            for engine in usable:
                if model in engine.options().get("upscalers", []):
                    return engine
            where = " and ".join(engine.label for engine in usable)
            raise InvalidInput.field("model", f"{where} has no upscaler called '{model}'.")
        return next((engine for engine in usable if engine.name == "builtin"), usable[0])

    def _usable(self, wished: str | None) -> tuple[list[ImageEngine], list[str]]:
        """Engines that may be used, best first, and why the others cannot."""
        if wished and wished != "auto":
            try:
                engines = [self._engines.get(wished)]
            except NotFound as exc:
                raise InvalidInput.field("engine", exc.detail) from exc
        elif self._settings.image_engine != "auto":
            engines = [self._engines.get(self._settings.image_engine)]
        else:
            engines = self._engines.all()
        usable, reasons, remedy = [], [], None
        for engine in engines:
            status = engine.status()
            if status.available:
                usable.append(engine)
            else:
                reasons.append(f"{engine.label}: {status.reason}")
                remedy = remedy or status.remedy
        if not usable:
            raise Unavailable("No image engine can be used. " + " ".join(reasons), remedy=remedy)
        return usable, reasons

    def default_model(self) -> tuple[str, str] | None:
        """Return (engine, model) that is drawn with when nobody says otherwise, or None."""
        found = self._default_model()
        return None if found is None else (found[0].name, found[1].name)

    def _default_model(self, engine: str | None = None) -> tuple[ImageEngine, ModelInfo] | None:
        try:
            usable, _ = self._usable(engine)
        except DallaError:
            return None
        for candidate in usable:
            known = [m for m in candidate.models() if m.family in FAMILIES]
            for model in sorted(known, key=lambda m: (not m.default, m.kind != "checkpoint")):
                return candidate, model
        return None

    def _choose(self, wish: Wish, character: Character | None) -> tuple[ImageEngine, ModelInfo]:
        """Find the engine and model: as wished, else as the character prefers, else the default."""
        usable, reasons = self._usable(wish.engine)
        name = wish.model or (character.preferred_model if character else None)
        if not name:
            default = self._default_model(wish.engine)
            if default is None:
                raise Unavailable(
                    "No model is there to generate with.",
                    remedy="Put a .safetensors checkpoint into ComfyUI's models/checkpoints, or into models/ here.",
                )
            return default
        for engine in usable:
            for model in engine.models():
                if same_name(model.name, name):
                    if model.family not in FAMILIES:
                        raise InvalidInput.field(
                            "model",
                            f"The kind of model '{name}' is not recognised.",
                            remedy=f"Set its family (one of {', '.join(FAMILIES)}) in the setting modelFamilies.",
                        )
                    return engine, model
        where = " and ".join(engine.label for engine in usable)
        whose = "" if wish.model else f" (the preferred model of {character.name})" if character else ""
        off = f" {' '.join(reasons)}" if reasons else ""
        raise InvalidInput.field(
            "model",
            f"The model '{name}'{whose} is not among those of {where}.{off}",
            remedy="Choose another model, or put the file into ComfyUI's models/checkpoints (or into models/ here).",
        )

    def _complete(
        self, wish: Wish, composed: Composed, character: Character | None, engine: ImageEngine, model: ModelInfo
    ) -> tuple[ImageRequest, list[str]]:
        """Fill in the defaults of the model and refuse what its family cannot use."""
        family = FAMILIES[model.family or ""]
        d = self._defaults(model)
        errors: list[dict[str, str]] = []
        notes: list[str] = []

        def refuse(field: str, message: str) -> None:
            errors.append({"field": field, "message": message})

        def within(field: str, value: float, low: float, high: float) -> None:
            if not low <= value <= high:
                refuse(field, f"Use a value from {low:g} to {high:g}.")

        negative = composed.negative_prompt
        if not family.negative_prompt and negative:
            if wish.negative_prompt:
                refuse("negativePrompt", family.why_no_negative)
            else:
                notes.append(f"The character's negative prompt was left out: {family.why_no_negative}")
                negative = ""
        if wish.cfg_scale is not None and family.cfg_scale is None:
            refuse("cfgScale", f"{family.label} takes 'guidance', not a CFG scale.")
        if wish.guidance is not None and family.guidance is None:
            refuse("guidance", f"{family.label} takes a 'cfgScale', not distilled guidance.")
        multiple, largest = d["sizeMultiple"], min(d["maxSize"] or MAX_SIDE, MAX_SIDE)
        width = d["width"] if wish.width is None else wish.width
        height = d["height"] if wish.height is None else wish.height
        init: MediaItem | None = None
        if wish.init_image_media_id:
            try:
                init = self._gallery.get(wish.init_image_media_id)
            except NotFound:
                refuse("initImageMediaId", "There is no such picture in the gallery.")
            else:
                if wish.width is None and wish.height is None:
                    scale = min(1.0, d["width"] / max(init.width, init.height))
                    width, height = (
                        max(multiple, round(v * scale / multiple) * multiple) for v in (init.width, init.height)
                    )
        for name, value in (("width", width), ("height", height)):
            if value % multiple or not multiple <= value <= largest:
                refuse(name, f"Use a multiple of {multiple} up to {largest} for {model.label or model.name}.")
        if wish.denoise is not None and not wish.init_image_media_id:
            refuse("denoise", "Denoise needs a picture to start from (initImageMediaId).")
        denoise = 1.0 if not wish.init_image_media_id else 0.6 if wish.denoise is None else wish.denoise
        if wish.denoise is not None and not 0 < wish.denoise <= 1:
            refuse("denoise", "Use a value above 0, up to 1.")
        steps = wish.steps if wish.steps is not None else d["steps"]
        within("steps", steps, 1, MAX_STEPS)
        within("batchSize", wish.batch_size, 1, MAX_BATCH)
        cfg = wish.cfg_scale if wish.cfg_scale is not None else d["cfgScale"]
        guidance = wish.guidance if wish.guidance is not None else d["guidance"]
        if cfg is not None:
            within("cfgScale", cfg, 0, 30)
        if guidance is not None:
            within("guidance", guidance, 0, 30)
        seed = secrets.randbelow(2**32) if wish.seed is None or wish.seed == -1 else wish.seed
        within("seed", seed, 0, MAX_SEED - MAX_BATCH)
        own = character.loras if character and not wish.raw_prompt else []
        loras = tuple(wish.loras if wish.loras is not None else own)
        for i, use in enumerate(loras):
            within(f"loras.{i}.strength", use.strength, -10, 10)
        if errors:
            raise InvalidInput("Some values do not fit this model.", errors=errors)
        request = ImageRequest(
            prompt=composed.prompt,
            negative_prompt=negative,
            model=model.name,
            family=family.name,
            width=width,
            height=height,
            steps=steps,
            seed=seed,
            sampler=wish.sampler or d["sampler"],
            scheduler=wish.scheduler or d["scheduler"],
            cfg_scale=cfg,
            guidance=guidance,
            batch_size=wish.batch_size,
            loras=loras,
            init_image=self._init_bytes(init, width, height) if init else None,
            denoise=denoise,
        )
        return request, notes

    def _init_bytes(self, item: MediaItem, width: int, height: int) -> bytes:
        picture = imaging.open_image(self._gallery.bytes_of(item))
        return imaging.to_png(imaging.fit_cover(imaging.flatten(picture.image), width, height))

    # ------------------------------------------------------------ running

    def run(self, context: Context, payload: dict[str, Any]) -> dict[str, Any]:
        """Do one queued generation. The handler of the job kind `generate_image`."""
        p = payload
        request = ImageRequest(
            **{
                k: p[k]
                for k in (
                    "prompt", "negative_prompt", "model", "family", "width", "height", "steps", "seed", "sampler",
                    "scheduler", "cfg_scale", "guidance", "batch_size", "denoise",
                )
            },
            loras=tuple(LoraUse.model_validate(use) for use in p["loras"]),
            init_image=self._init_bytes(self._gallery.get(p["init_image_media_id"]), p["width"], p["height"])
            if p.get("init_image_media_id")
            else None,
        )  # fmt: skip
        engine = self._engines.get(p["engine"])
        context.progress(0, request.steps, "Starting")
        began = time.monotonic()
        result = engine.generate(request, context)
        drawn = time.monotonic() - began
        recipe = self._recipe(request, result, engine.name, p)
        items = [
            self._gallery.add_generated(png, recipe.with_(seed=seed), task_id=context.job.id)
            for png, seed in zip(result.images, result.seeds, strict=True)
        ]
        return {
            "mediaIds": [item.id for item in items],
            "mediaId": items[0].id if items else None,
            "prompt": request.prompt,
            "negativePrompt": request.negative_prompt,
            "seed": request.seed,
            "model": request.model,
            "family": request.family,
            "engine": engine.name,
            "width": request.width,
            "height": request.height,
            "device": result.device,
            "precision": result.precision,
            "notes": [*p.get("notes", []), *result.notes],
            "durationMs": round(drawn * 1000),
        }

    def run_upscale(self, context: Context, payload: dict[str, Any]) -> dict[str, Any]:
        """Do one queued enlargement. The handler of the job kind `upscale_image`."""
        item = self._gallery.get(payload["media_id"])
        engine = self._engines.get(payload["engine"])
        picture = imaging.open_image(self._gallery.bytes_of(item))
        began = time.monotonic()
        result = engine.upscale(
            UpscaleRequest(imaging.to_png(picture.image), payload["factor"], payload["model"]), context
        )
        recipe = Recipe.model_validate(item.recipe or {}).with_(
            operation="upscale", engine=engine.name, engine_versions=result.engine_versions, created_at=now_iso()
        )
        made = self._gallery.add_generated(
            result.images[0], recipe, task_id=context.job.id, origin="upscaled", parent_id=item.id
        )
        if item.character_id and not made.character_id:
            self._gallery.update(made.id, {"character_id": item.character_id})
        return {
            "mediaIds": [made.id],
            "mediaId": made.id,
            "engine": engine.name,
            "width": made.width,
            "height": made.height,
            "notes": result.notes,
            "durationMs": round((time.monotonic() - began) * 1000),
        }

    @staticmethod
    def _recipe(request: ImageRequest, result: ImageResult, engine: str, payload: dict[str, Any]) -> Recipe:
        return Recipe(
            prompt=request.prompt,
            negative_prompt=request.negative_prompt or None,
            user_prompt=payload.get("user_prompt"),
            seed=request.seed,
            steps=request.steps,
            cfg_scale=request.cfg_scale,
            guidance=request.guidance,
            sampler=request.sampler,
            scheduler=request.scheduler,
            denoise=request.denoise if payload.get("init_image_media_id") else None,
            width=request.width,
            height=request.height,
            model=request.model,
            model_sha256=result.model_sha256,
            family=request.family,
            loras=[
                LoraRecipe(name=use.name, strength=use.strength, sha256=result.lora_sha256.get(use.name))
                for use in request.loras
            ],
            character_id=payload.get("character_id"),
            character_name=payload.get("character_name"),
            engine=engine,
            engine_versions=result.engine_versions,
            device=result.device,
            precision=result.precision,
            init_image_media_id=payload.get("init_image_media_id"),
            created_at=now_iso(),
            app_version=dalla.__version__,
        )


# ---------------------------------------------------------------- pure parts


def same_name(a: str, b: str) -> bool:
    """Whether two model names are one file: separators differ between systems."""
    return a.replace("\\", "/") == b.replace("\\", "/")


def _plain_name(name: str) -> str:
    """Return a LoRA's name as engines agree on it: one lists it with its ending, another without."""
    return name.replace("\\", "/").removesuffix(".safetensors").lower()
