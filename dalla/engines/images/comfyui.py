"""The image engine that draws with a ComfyUI server.

It chooses files, builds a graph and hands it over; the URLs are in `comfy/client.py`, following a
prompt is in `comfy/follow.py`, the graphs are in `comfy/graphs/`. Settings are read at each use, so
a changed address takes effect at once.
"""

from __future__ import annotations

import hashlib
import io
import logging
import threading
import time
import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any

from dalla import weights
from dalla.engines.comfy import faults, files, follow
from dalla.engines.comfy.catalog import Catalog
from dalla.engines.comfy.client import ComfyClient
from dalla.engines.comfy.graphs import GraphLora, GraphRequest, build, upscale
from dalla.engines.comfy.loras import PreparedLoras, prepare
from dalla.engines.images.base import Report
from dalla.errors import DallaError, InvalidInput, NotConfigured, NotFound, TimedOut, UpstreamError
from dalla.records.image import EngineStatus, ImageRequest, ImageResult, LoraInfo, ModelInfo, UpscaleRequest
from dalla.settings_values import without_password

logger = logging.getLogger(__name__)

LANCZOS = "lanczos"
STATUS_SECONDS = 5.0
HTTP_SECONDS = 60.0  # for one answer; a whole picture may take COMFYUI_TIMEOUT and longer
MAX_UPSCALED_PIXELS = 64_000_000
#: Folders of the server by kind.
_FOLDERS = {
    "model": ("checkpoints", "diffusion_models", "unet"),
    "lora": ("loras",),
    "text_encoder": ("text_encoders", "clip"),
    "vae": ("vae",),
    "upscaler": ("upscale_models",),
}


class _Server:
    """A client and what belongs to it, for one address and one set of headers."""

    def __init__(self, settings: Any) -> None:
        self.url, self.headers = settings.comfyui_url, dict(settings.comfyui_headers or {})
        self.client = ComfyClient(self.url, self.headers, HTTP_SECONDS)
        self.catalog = Catalog(self.client, settings)
        self.stats: dict[str, Any] | None = None
        self.skipped: dict[str, int] = {}  # LoRA -> layers the server said it skipped


class ComfyUIEngine:
    """Draws with ComfyUI over HTTP."""

    name = "comfyui"
    label = "ComfyUI"

    def __init__(self, settings: Any) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._kept: _Server | None = None
        self._status: tuple[float, _Server, EngineStatus] | None = None
        self._hashes: dict[tuple[str, int, int], str | None] = {}

    def _server(self) -> _Server:
        if not self._settings.comfyui_url:
            raise NotConfigured(
                "No ComfyUI address is set.", remedy="Set COMFYUI_URL, or the address under Settings, Engines."
            )
        with self._lock:
            kept = self._kept
            url, headers = self._settings.comfyui_url, dict(self._settings.comfyui_headers or {})
            if kept is None or (kept.url, kept.headers) != (url, headers):
                if kept is not None:
                    kept.client.close()
                kept = self._kept = _Server(self._settings)
            return kept

    # --- what there is ---

    def status(self, *, fresh: bool = False) -> EngineStatus:
        try:
            server = self._server()
        except NotConfigured as exc:
            return EngineStatus(False, exc.detail, exc.remedy)
        known = self._status
        if known and not fresh and known[1] is server and time.monotonic() - known[0] < STATUS_SECONDS:
            return known[2]
        if fresh:
            server.client.forget()
        status = self._ask_status(server)
        self._status = (time.monotonic(), server, status)
        return status

    def _ask_status(self, server: _Server) -> EngineStatus:
        detail: dict[str, Any] = {"url": without_password(server.client.base_url)}
        try:
            server.stats = server.client.system_stats(timeout=5.0)
        except TimedOut as exc:
            if server.stats is None:
                return EngineStatus(False, exc.detail, exc.remedy, detail)
            detail["slow"] = True  # it was there before: most likely it is loading a model
        except DallaError as exc:
            return EngineStatus(False, exc.detail, exc.remedy, detail)
        device = (server.stats.get("devices") or [{}])[0]
        detail |= {
            "version": _versions(server.stats).get("comfyui"),
            "versions": _versions(server.stats),
            "device": _device(server.stats),
            "vramTotal": device.get("vram_total"),
            "vramFree": device.get("vram_free"),
            "torchHeld": _held(device),
            "deviceType": device.get("type"),
            "ramTotal": (server.stats.get("system") or {}).get("ram_total"),
        }
        return EngineStatus(True, detail=detail)

    def models(self) -> list[ModelInfo]:
        return self._sized("model", self._list(lambda server: server.catalog.models()))

    def loras(self) -> list[LoraInfo]:
        def ask(server: _Server) -> list[LoraInfo]:
            return [
                replace(lora, note=f"ComfyUI skipped {server.skipped[lora.name]} of its layers when it was last used.")
                if lora.name in server.skipped
                else lora
                for lora in server.catalog.loras()
            ]

        return self._sized("lora", self._list(ask))

    def parts(self) -> dict[str, list[str]]:
        """Return what else the server offers by kind: text_encoder, vae, upscaler. Empty when it is off."""
        wanted = {
            "text_encoder": ("CLIPLoader", "clip_name"),
            "vae": ("VAELoader", "vae_name"),
            "upscaler": ("UpscaleModelLoader", "model_name"),
        }
        if not self.status().available:
            return {}
        try:
            client = self._server().client
            found = {kind: client.choices(node, field) for kind, (node, field) in wanted.items()}
        except DallaError as exc:
            logger.warning("ComfyUI could not be asked for its files: %s", exc.detail)
            return {}
        # "taesd" and "pixel_space" are choices of its VAE loader without a file of that name.
        return {kind: [name for name in names if "." in name] for kind, names in found.items()}

    def place(self, kind: str, name: str) -> Path | None:
        """Return the server's file where its folder is on this disk (COMFYUI_LORA_DIR and its neighbours)."""
        try:
            return self._server().catalog.file(name, *_FOLDERS.get(kind, ()))
        except DallaError:
            return None

    def sizes(self, kind: str) -> dict[str, int]:
        """Return the bytes of the server's files of a kind by name (with `/`), as far as it tells."""
        try:
            client = self._server().client
            return {name: size for folder in _FOLDERS.get(kind, ())[:2] for name, size in client.sizes(folder).items()}
        except DallaError:
            return {}

    def resident(self) -> list[dict[str, Any]]:
        """Return what the server holds, from its /system_stats: one row for its PyTorch; [] when it is off or empty."""
        status = self.status(fresh=True)
        held = status.detail.get("torchHeld") if status.available else None
        if not held:
            return []
        return [
            {
                "name": "models of the ComfyUI server",
                "memoryBytes": held,
                "lastUsedAt": None,
                "pid": None,
                "device": status.detail.get("device"),
                "precision": None,
                "busy": False,
            }
        ]

    def release(self) -> bool:
        """Ask the server for the memory of its models; say whether it could be asked."""
        return self.free_memory()

    def _list(self, ask: Any) -> list[Any]:
        if not self.status().available:
            return []
        try:
            return ask(self._server())
        except DallaError as exc:
            logger.warning("ComfyUI could not be asked for its files: %s", exc.detail)
            return []

    def _sized(self, kind: str, found: list[Any]) -> list[Any]:
        """Fill in the sizes that cannot be seen from here with what the server says; None stays where it does not."""
        if all(info.size_bytes is not None for info in found):
            return found
        told = self.sizes(kind)
        return [
            info if info.size_bytes is not None else replace(info, size_bytes=told.get(info.name.replace("\\", "/")))
            for info in found
        ]

    def options(self) -> dict[str, list[str]]:
        none: dict[str, list[str]] = {"samplers": [], "schedulers": [], "upscalers": []}
        if not self.status().available:
            return none
        try:
            client = self._server().client
            return {
                "samplers": client.choices("KSampler", "sampler_name"),
                "schedulers": client.choices("KSampler", "scheduler"),
                "upscalers": [LANCZOS, *client.choices("UpscaleModelLoader", "model_name")],
            }
        except DallaError as exc:
            logger.warning("ComfyUI could not be asked for its samplers: %s", exc.detail)
            return none

    # --- work ---

    def check(self, request: ImageRequest) -> None:
        server = self._server()
        files.check_size(request, self._stats(server))
        graph_request, _ = self._plan(server, request)
        files.check_graph(server.client, build(request.family, graph_request))

    def generate(self, request: ImageRequest, report: Report) -> ImageResult:
        server = self._server()
        report.check_cancelled()
        graph_request, prepared = self._plan(server, request)
        if request.init_image is not None:
            graph_request = replace(graph_request, init_image=_upload(server.client, request.init_image))
        self._model_sha256(server, request.model)  # begins to hash beside the drawing
        images = self._draw(
            server,
            lambda prefix: build(request.family, replace(graph_request, prefix=prefix)),
            [f"sample{i}" for i in range(request.batch_size)],
            report,
            request.steps,
        )
        stats = self._stats(server)
        return ImageResult(
            images,
            seeds=list(graph_request.seeds),
            model_sha256=self._model_sha256(server, request.model),
            lora_sha256=dict(prepared.sha256),
            engine_versions=_versions(stats),
            device=_device(stats),
            notes=[*prepared.notes, *_skipped_layers(server, request, prepared)],
        )

    def upscale(self, request: UpscaleRequest, report: Report) -> ImageResult:
        server = self._server()
        width, height = _size(request.image)
        target = (round(width * request.factor), round(height * request.factor))
        if not 1 <= request.factor <= 8 or target[0] * target[1] > MAX_UPSCALED_PIXELS:
            raise InvalidInput.field(
                "factor", f"The result would have {target[0]} x {target[1]} pixels.", remedy="Choose a smaller factor."
            )
        model = None
        if request.model not in (None, LANCZOS):
            names = server.client.choices("UpscaleModelLoader", "model_name")
            model = files.find_name(request.model, names)
            if model is None:
                raise faults.missing_file("model_name", request.model)
        upload = _upload(server.client, request.image)
        images = self._draw(
            server,
            lambda prefix: upscale.build(
                upscale.UpscaleGraphRequest(upload, request.factor, target[0], target[1], prefix, model)
            ),
            ["raw"],
            report,
        )
        stats = self._stats(server)
        notes = [] if model else ["Enlarged with Lanczos: larger, without new detail."]
        return ImageResult(images[:1], engine_versions=_versions(stats), device=_device(stats), notes=notes)

    def _draw(self, server: _Server, graph: Any, samplers: list[str], report: Report, steps: int = 0) -> list[bytes]:
        """Run a graph under a name nobody used, and fetch its pictures in the order of the save nodes."""
        job = getattr(getattr(report, "job", None), "id", None)
        for attempt in (1, 2):
            built = graph(f"dalla/{uuid.uuid4().hex}")
            outcome = follow.run(
                server.client,
                built,
                report,
                timeout=float(self._settings.comfyui_timeout),
                samplers=samplers,
                steps=steps,
                extra={"dalla_job_id": job} if job else None,
            )
            try:
                return [
                    server.client.view(file["filename"], file["subfolder"], file["type"] or "output")
                    for node in built
                    if node.startswith("save")
                    for file in outcome.files[node]
                ]
            except (NotFound, KeyError):
                # Deleted between the end and our fetch, or answered from a cache whose file is gone.
                if attempt == 2:
                    break
        raise UpstreamError(
            "ComfyUI says the picture is done, but does not have its file.",
            service="ComfyUI",
            kind="retry",
            remedy="Check that nothing empties ComfyUI's output folder, and that its disk is not full.",
        )

    def free_memory(self) -> bool:
        """Ask the server for the memory its models take; False when there is none, or it cannot be asked."""
        try:
            self._server().client.free()
        except DallaError as exc:
            logger.info("ComfyUI was not asked for its memory: %s", exc.detail)
            return False
        return True

    def close(self) -> None:
        with self._lock:
            kept, self._kept = self._kept, None
        if kept is not None:
            kept.client.close()

    # --- parts ---

    def _stats(self, server: _Server) -> dict[str, Any]:
        if server.stats is None:
            server.stats = server.client.system_stats()
        return server.stats

    def _plan(self, server: _Server, request: ImageRequest) -> tuple[GraphRequest, PreparedLoras]:
        """Find the server's files for a request. Raises InvalidInput naming what is missing and where it belongs."""
        chosen = files.choose(server.client, server.catalog, request)
        prepared = PreparedLoras()
        loras: list[GraphLora] = []
        if request.loras:
            names = server.client.choices("LoraLoader", "lora_name")
            prepared = prepare(
                request.loras,
                request.family,
                names,
                self._settings,
                lambda name: server.client.view_metadata("loras", name),
            )
            if any(files.find_name(use.name, names) is None for use in prepared.uses):
                names = server.client.choices("LoraLoader", "lora_name", fresh=True)  # just put there
            for use in prepared.uses:
                name = files.find_name(use.name, names)
                if name is None:
                    raise InvalidInput.field(
                        "loras",
                        f"The LoRA was put into {self._settings.comfyui_lora_dir}, but ComfyUI does not see it there.",
                        remedy="Set COMFYUI_LORA_DIR to the folder this ComfyUI reads its LoRAs from.",
                    )
                # Reading the prompt with T5 takes long: it is kept when the LoRA surely leaves the text encoders alone.
                text = request.family not in ("flux", "sd3") or server.catalog.touches_text(name)
                loras.append(GraphLora(name, use.strength, text))
        return (
            GraphRequest(
                prompt=request.prompt,
                negative_prompt=request.negative_prompt,
                model=chosen.model,
                kind=chosen.kind,
                text_encoders=chosen.text_encoders,
                vae=chosen.vae,
                width=request.width,
                height=request.height,
                steps=request.steps,
                seeds=tuple(request.seed + i for i in range(request.batch_size)),
                sampler=request.sampler,
                scheduler=request.scheduler,
                cfg_scale=request.cfg_scale,
                guidance=request.guidance,
                loras=tuple(loras),
                denoise=request.denoise,
                init_image="picture.png" if request.init_image is not None else None,
                prefix="dalla/check",
            ),
            prepared,
        )

    def _model_sha256(self, server: _Server, model: str) -> str | None:
        """Return the hash of a model whose file is on this disk, or None and begin to find it out.

        Hashing many GB takes longer than a picture, so nobody waits: it is known from a later picture on.
        """
        path = server.catalog.file(model, "checkpoints", "diffusion_models", "unet")
        if path is None:
            return None
        try:
            stat = path.stat()
        except OSError:
            return None
        key = (str(path), stat.st_size, stat.st_mtime_ns)
        with self._lock:
            if key in self._hashes:
                return self._hashes[key]
            self._hashes[key] = None

        def find_out() -> None:
            try:
                self._hashes[key] = weights.file_sha256(path)
            except DallaError as exc:
                logger.info("no hash of %s: %s", path, exc.detail)

        threading.Thread(target=find_out, daemon=True, name="comfyui-hash").start()
        return None


def _upload(client: ComfyClient, data: bytes) -> str:
    # Named by content: the same picture again is not stored again.
    return client.upload_image(data, f"{hashlib.sha256(data).hexdigest()[:24]}.png")


def _size(data: bytes) -> tuple[int, int]:
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data)) as image:
            return image.size
    except (OSError, ValueError) as exc:
        raise InvalidInput("The picture to enlarge cannot be read.") from exc


def _held(device: dict[str, Any]) -> int | None:
    """Return the bytes of its memory that are in use by models: what PyTorch took less what is free inside."""
    total, free = device.get("torch_vram_total"), device.get("torch_vram_free")
    if not isinstance(total, int) or not isinstance(free, int) or device.get("type") == "cpu":
        return None  # on the processor both are the machine's whole memory
    return max(0, total - free)


def _versions(stats: dict[str, Any]) -> dict[str, str]:
    system = stats.get("system") or {}
    found = {"comfyui": system.get("comfyui_version"), "pytorch": system.get("pytorch_version")}
    return {name: str(version) for name, version in found.items() if version}


def _device(stats: dict[str, Any]) -> str | None:
    """Return the first device as people call it: "cuda:0 NVIDIA … : cudaMallocAsync" without its allocator."""
    device = (stats.get("devices") or [{}])[0]
    name = str(device.get("name") or device.get("type") or "")
    return name.split(" : ")[0].strip() or None


def _skipped_layers(server: _Server, request: ImageRequest, prepared: PreparedLoras) -> list[str]:
    """Say when ComfyUI skipped layers of a LoRA whose file cannot be looked into from here.

    The server reports success for such a LoRA; its log is the only trace. A LoRA it still holds from
    an earlier prompt is not logged again, so what was seen once is remembered.
    """
    unseen = [use.name for use in request.loras if use.name not in prepared.sha256 and use.strength]
    if not unseen:
        return []
    count = server.client.logs().rpartition("got prompt")[2].count("lora key not loaded")
    if count:
        server.skipped.update(dict.fromkeys(unseen, count))
    return [
        f"ComfyUI skipped {server.skipped[name]} layers of the LoRA '{name}', so it may have had no effect. "
        "Set COMFYUI_LORA_DIR to ComfyUI's models/loras folder, and it will be converted."
        for name in unseen
        if name in server.skipped
    ]
