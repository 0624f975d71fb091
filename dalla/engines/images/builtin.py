"""The built-in image engine: diffusers in a child process, for people without a ComfyUI server.

This is the parent's side and imports no torch. The child (`child.py` talks to it) is started with
the first picture, kept warm for `engine_idle_minutes`, and may be killed at any time: the next
picture starts another.
"""

from __future__ import annotations

import contextlib
import io
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from dalla.engines.images.base import Report
from dalla.engines.images.child import Child
from dalla.engines.images.local_models import LocalModel, LocalModels
from dalla.errors import Cancelled, Conflict, InvalidInput, NotConfigured, TooLarge, Unavailable, UpstreamError
from dalla.records.family import FAMILIES
from dalla.records.image import EngineStatus, ImageRequest, ImageResult, LoraInfo, ModelInfo, UpscaleRequest
from dalla.records.sampling import BUILTIN
from dalla.times import now_iso

LANCZOS = "lanczos"
MAX_UPSCALED_PIXELS = 64_000_000
MAX_SIDE = 4096
MEMORY_MARGIN_BYTES = 600_000_000  # less than this free, and an idle child is ended
MEMORY_IDLE_SECONDS = 20.0


class BuiltinEngine:
    """Draws with diffusers on this computer."""

    name = "builtin"
    label = "Built-in"

    def __init__(
        self,
        settings: Any,
        local: LocalModels | None = None,
        measured: Callable[[dict[str, Any]], None] | None = None,
    ) -> None:
        """`local` knows what is in models/ and loras/; given when others ask it too, so that one scan serves all.

        `measured` is told after each drawing what memory it took (services/model_fit.py).
        """
        self._settings = settings
        self._local = local or LocalModels(settings)
        self._work = threading.Lock()  # one picture at a time
        self._life = threading.Lock()  # guards _child
        self._child: Child | None = None
        self._last_used = time.monotonic()
        self._loaded: str | None = None
        self._measured = measured
        self._held: dict[str, Any] = {}  # device, precision and memory of the last drawing
        self._drawn: list[tuple[str, int]] = []  # what this child drew: model and pixels
        self._last_used_at: str | None = None
        self._closed = threading.Event()

    # --- what there is ---

    def status(self, *, fresh: bool = False) -> EngineStatus:
        missing = [name for name in ("torch", "diffusers", "transformers", "peft") if find_spec(name) is None]
        if missing:
            return EngineStatus(
                False, f"The built-in engine needs the Python package '{missing[0]}'.", remedy="Run 'make install'."
            )
        if not any(m.family for m in self.models()):
            return EngineStatus(
                False,
                f"There is no model in {self._settings.models_dir}.",
                remedy="Put a .safetensors file or a diffusers folder there (see models/README.md).",
            )
        detail: dict[str, Any] = {"running": False, "busy": self._work.locked()}
        child = self._child
        if child is not None and child.is_alive:
            detail |= {
                "running": True,
                "pid": child.pid,
                "device": child.device,
                "model": self._loaded,
                "memoryBytes": child.memory_bytes(),
                "gpuMemoryBytes": self._held.get("heldBytes"),
                "precision": self._held.get("precision"),
                "residentSince": child.started,
                "idleSeconds": 0.0 if self._work.locked() else round(time.monotonic() - self._last_used, 1),
                "versions": child.versions,
            }
        return EngineStatus(True, detail=detail)

    def models(self) -> list[ModelInfo]:
        return [model.info for model in self._local.models().values()]

    def loras(self) -> list[LoraInfo]:
        return [info for info, _, _ in self._local.loras().values()]

    def options(self) -> dict[str, list[str]]:
        """Return all names; `check` knows which sampler goes with which schedule and family."""
        tables = list(BUILTIN.values())
        samplers = dict.fromkeys(name for table in tables for name in table)
        schedules = dict.fromkeys(s for table in tables for row in table.values() for s in row)
        return {"samplers": list(samplers), "schedulers": list(schedules), "upscalers": [LANCZOS]}

    # --- work ---

    def check(self, request: ImageRequest) -> None:
        model = self._model(request.model)
        self._check_size(request, model.info)
        self._check_sampling(request, model.info)
        self._lora_rows(request, model.info)

    def generate(self, request: ImageRequest, report: Report) -> ImageResult:
        status = self.status()
        if not status.available:
            raise Unavailable(status.reason or "The built-in engine is not available.", remedy=status.remedy)
        self.check(request)
        model = self._model(request.model)
        rows = self._lora_rows(request, model.info)
        with self._turn(report), ThreadPoolExecutor(1, "builtin-hash") as pool:
            # Hashing a 7 GB file takes seconds, so it goes on beside the drawing.
            hashes = pool.submit(self._hashes, model, rows)
            task = self._task(request, model, rows)
            header, images = self._ask(task, request, report)
            self._loaded = model.info.name
            self._learn(request, model, header)
            return self._result(request, header, images, hashes)

    def upscale(self, request: UpscaleRequest, report: Report) -> ImageResult:
        """Enlarge with Lanczos. There is no upscaling network here, and none is pretended."""
        from PIL import Image

        from dalla.imaging import open_image

        if request.model not in (None, LANCZOS):
            raise InvalidInput.field(
                "model", f"The built-in engine has no upscaler '{request.model}', only '{LANCZOS}'."
            )
        if not 1 <= request.factor <= 4:
            raise InvalidInput.field("factor", "The factor must be between 1 and 4.")
        picture = open_image(request.image).image
        size = (round(picture.width * request.factor), round(picture.height * request.factor))
        if size[0] * size[1] > MAX_UPSCALED_PIXELS:
            raise TooLarge(f"The result would have {size[0]} x {size[1]} pixels.", remedy="Choose a smaller factor.")
        report.progress(0, 1, "Enlarging")
        out = io.BytesIO()
        picture.resize(size, Image.Resampling.LANCZOS).save(out, "PNG", compress_level=4)
        report.progress(1, 1, "Done")
        return ImageResult([out.getvalue()], notes=["Enlarged with Lanczos: larger, without new detail."])

    def _learn(self, request: ImageRequest, model: LocalModel, header: dict[str, Any]) -> None:
        """Remember what the drawing took."""
        memory = header.get("memory") or {}
        self._last_used_at = now_iso()
        self._held = {"precision": header["precision"], "heldBytes": memory.get("heldBytes")}
        drawn = (model.info.name, request.width * request.height)
        self._drawn.append(drawn)
        # A process keeps what it once took: only its largest picture so far, with its only model, tells the need.
        own = all(name == drawn[0] and pixels <= drawn[1] for name, pixels in self._drawn)
        on_card = header["device"] != "cpu"
        if self._measured is not None and request.init_image is None and (own or on_card):
            facts = {"model": model.info.name, "stamp": model.stamp, "loras": len(request.loras)}
            where = {"device": header["device"].split(":")[0], "precision": header["precision"]}
            self._measured({**facts, **where, **memory, "width": request.width, "height": request.height})

    def resident(self) -> list[dict[str, Any]]:
        """Return what the child holds: {name, memoryBytes, gpuMemoryBytes, lastUsedAt, pid, device, precision, busy}."""
        child = self._child
        if child is None or not child.is_alive:
            return []
        return [
            {
                "name": self._loaded,
                "memoryBytes": child.memory_bytes(),
                "gpuMemoryBytes": self._held.get("heldBytes"),
                "lastUsedAt": self._last_used_at,
                "pid": child.pid,
                "device": child.device,
                "precision": self._held.get("precision"),
                "busy": self._work.locked(),
            }
        ]

    def release(self) -> bool:
        """End the idle child; say whether there was one."""
        return self.stop_child(only_if_idle=True)

    def stop_child(self, *, only_if_idle: bool = False) -> bool:
        """End the child and free its memory; say whether there was one. A picture in work fails unless `only_if_idle`."""
        if only_if_idle and not self._work.acquire(blocking=False):
            return False
        try:
            with self._life:
                child, self._child, self._loaded = self._child, None, None
                self._held, self._drawn = {}, []
            if child is None:
                return False
            child.stop()
            return True
        finally:
            if only_if_idle:
                self._work.release()

    def close(self) -> None:
        self._closed.set()
        self.stop_child()

    # --- the child ---

    @contextlib.contextmanager
    def _turn(self, report: Report) -> Any:
        """Wait for the picture before this one, listening for cancel."""
        while not self._work.acquire(timeout=0.2):
            report.check_cancelled()
        try:
            yield
        finally:
            self._last_used = time.monotonic()
            self._work.release()

    def _ask(self, task: dict[str, Any], request: ImageRequest, report: Report) -> tuple[dict[str, Any], list[bytes]]:
        child = self._running()
        blobs = [request.init_image] if request.init_image is not None else []
        try:
            return child.call({"type": "generate", "task": task}, blobs, report)
        except UpstreamError as exc:
            if self._closed.is_set():  # close() ended the child under the picture
                raise Cancelled("The app was shut down while drawing.") from exc
            raise
        finally:
            if not child.is_alive:
                with self._life:
                    if self._child is child:
                        self._child, self._loaded = None, None

    def _running(self) -> Child:
        with self._life:
            if self._closed.is_set():
                raise Conflict("The app is shutting down.")
            if self._child is None or not self._child.is_alive:
                self._loaded, self._drawn = None, []
                child = self._child = Child(Path(self._settings.data_dir) / "logs" / "builtin-engine.log")
                threading.Thread(target=self._watch, args=(child,), name="builtin-watch", daemon=True).start()
            return self._child

    def _watch(self, child: Child) -> None:
        """End an idle child after the set time, or sooner when the computer runs short of memory."""
        import psutil

        while child.is_alive and self._child is child:
            limit = self._settings.engine_idle_minutes * 60
            if self._closed.wait(min(5.0, max(0.05, limit / 4))):
                return
            idle = time.monotonic() - self._last_used
            short = idle > MEMORY_IDLE_SECONDS and psutil.virtual_memory().available < MEMORY_MARGIN_BYTES
            if self._child is child and not self._work.locked() and (idle > limit or short):
                self.stop_child(only_if_idle=True)

    def _task(self, request: ImageRequest, model: LocalModel, rows: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "model": {
                "name": model.info.label or model.info.name,
                "path": str(model.path),
                "stamp": model.stamp,
                "family": model.info.family,
                "parts": str(self._settings.models_dir),
            },
            "loras": rows,
            "device": self._settings.device,
            "precision": self._settings.precision,
            **{
                name: getattr(request, name)
                for name in (
                    "prompt", "negative_prompt", "width", "height", "steps", "seed", "sampler", "scheduler",
                    "cfg_scale", "guidance", "batch_size", "denoise",
                )
            },
        }  # fmt: skip

    def _hashes(self, model: LocalModel, rows: list[dict[str, Any]]) -> tuple[str, dict[str, str]]:
        loras = {row["name"]: self._local.sha256(Path(row["path"]), (), row["stamp"]) for row in rows}
        return self._local.sha256(model.path, model.files, model.stamp), loras

    def _result(
        self, request: ImageRequest, header: dict[str, Any], images: list[bytes], hashes: Future[Any]
    ) -> ImageResult:
        model_hash, lora_hashes = hashes.result()
        return ImageResult(
            images=images,
            model_sha256=model_hash,
            lora_sha256=lora_hashes,
            engine_versions=dict(self._child.versions) if self._child else {},
            device=header["device"],
            precision=header["precision"],
            notes=header["notes"],
            seeds=[request.seed + i for i in range(len(images))],
        )

    # --- checks ---

    def _model(self, name: str) -> LocalModel:
        models = self._local.models()
        if name not in models:
            known = ", ".join(models) or "none"
            raise InvalidInput.field(
                "model",
                f"The built-in engine has no model '{name}'. There is: {known}.",
                remedy=f"Put it into {self._settings.models_dir}, or choose another model.",
            )
        if models[name].info.family is None:
            raise NotConfigured(
                f"The family of the model '{name}' is not known. {models[name].info.note or ''}".strip(),
                remedy="Set it under modelFamilies in the settings (sd15, sdxl, sd3 or flux).",
            )
        if missing := self._local.missing_parts(models[name].info):
            raise NotConfigured(
                f"The FLUX file '{name}' lacks parts: {', '.join(missing)}.",
                remedy=f"Put them into {self._settings.models_dir} (see models/README.md), or use a diffusers folder.",
            )
        return models[name]

    def _check_size(self, request: ImageRequest, info: ModelInfo) -> None:
        family = FAMILIES[info.family or "sd15"]
        multiple, top = info.size_multiple or family.size_multiple, info.max_size or MAX_SIDE
        for name in ("width", "height"):
            value = getattr(request, name)
            if value % multiple or not multiple <= value <= top:
                raise InvalidInput.field(
                    name, f"The {name} must be a multiple of {multiple} between {multiple} and {top} px for this model."
                )
        if request.steps < 1 or request.batch_size < 1:
            raise InvalidInput.field("steps" if request.steps < 1 else "batchSize", "This must be at least 1.")
        if request.init_image is not None and not 0 < request.denoise <= 1:
            raise InvalidInput.field("denoise", "Denoise must be more than 0 and at most 1.")

    def _check_sampling(self, request: ImageRequest, info: ModelInfo) -> None:
        table = BUILTIN[info.family or "sd15"]
        if request.sampler not in table:
            raise InvalidInput.field(
                "sampler",
                f"The built-in engine has no sampler '{request.sampler}' for this model. Choose {', '.join(table)}.",
            )
        if request.scheduler not in table[request.sampler]:
            raise InvalidInput.field(
                "scheduler",
                f"'{request.sampler}' has no schedule '{request.scheduler}' in the built-in engine. "
                f"Choose {', '.join(table[request.sampler])}.",
            )

    def _lora_rows(self, request: ImageRequest, info: ModelInfo) -> list[dict[str, Any]]:
        known = self._local.loras() if request.loras else {}
        rows = []
        for use in request.loras:
            name = use.name.removesuffix(".safetensors")
            if name not in known:
                raise InvalidInput.field(
                    "loras",
                    f"There is no LoRA '{use.name}' in {self._settings.loras_dir}.",
                    remedy="Choose another one, or put the file there.",
                )
            lora, path, stamp = known[name]
            if lora.family is not None and lora.family != info.family:
                label = FAMILIES[lora.family].label if lora.family in FAMILIES else lora.family
                raise InvalidInput.field(
                    "loras",
                    f"The LoRA '{use.name}' was made for {label}; the model '{info.name}' is {FAMILIES[info.family or 'sd15'].label}.",
                    remedy=f"Choose a {label} model, or take the LoRA off.",
                )
            if lora.family is None and lora.note:
                raise InvalidInput.field("loras", f"The LoRA '{use.name}' cannot be used: {lora.note}")
            rows.append({"name": use.name, "path": str(path), "strength": use.strength, "stamp": stamp})
        return rows
