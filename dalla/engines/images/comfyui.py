"""The ComfyUI image engine: looks at what the server has, builds the graph, brings the pictures home.

What could fail is found before queueing (`check`), because ComfyUI answers a missing file with
"Prompt outputs failed validation". Pictures are fetched at once and kept as they came: the server
reuses file names.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dalla.engines.comfy import choose, faults, follow, graphs, loras
from dalla.engines.comfy.client import ComfyClient
from dalla.engines.comfy.graphs import upscale
from dalla.engines.comfy.graphs.request import Graph, GraphLora, GraphRequest
from dalla.engines.images.base import Report
from dalla.errors import DallaError, InvalidInput, NotFound, TooLarge, UpstreamError
from dalla.paths import safe_join
from dalla.records.family import FAMILIES
from dalla.records.image import EngineStatus, ImageRequest, ImageResult, LoraInfo, ModelInfo, UpscaleRequest

STATUS_SECONDS = 5.0
STATUS_TIMEOUT = 4.0
LANCZOS = "lanczos"
MAX_SIDE = 4096
MAX_UPSCALED_SIDE = 8192
MAX_UPSCALED_PIXELS = 48_000_000
MAX_BATCH = 64
MAX_SEED = 2**53 - 1


@dataclass(frozen=True)
class _Plan:
    """A request that passed all checks, with every name in the server's spelling."""

    request: GraphRequest
    notes: list[str]
    lora_sha256: dict[str, str]


class ComfyUIEngine:
    """Draws on a ComfyUI server."""

    name = "comfyui"
    label = "ComfyUI"

    def __init__(self, settings: Any) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._client: ComfyClient | None = None
        self._made_for: tuple[str, str] | None = None
        self._status: tuple[float, tuple[str, str], EngineStatus] | None = None
        self._facts: dict[tuple[str, int, int], choose.FileFacts] = {}

    # ------------------------------------------------------------ what there is

    def status(self, *, fresh: bool = False) -> EngineStatus:
        address = self._address()
        known = self._status
        if known and not fresh and known[1] == address and time.monotonic() - known[0] < STATUS_SECONDS:
            return known[2]
        try:
            stats = self._comfy().system_stats(timeout=STATUS_TIMEOUT)
            status = EngineStatus(True, detail=_detail(stats, address[0]))
        except DallaError as exc:
            status = EngineStatus(False, exc.detail, exc.remedy, {"url": address[0]})
        self._status = (time.monotonic(), address, status)
        return status

    def models(self) -> list[ModelInfo]:
        def listed() -> list[ModelInfo]:
            comfy = self._comfy()
            found = [self._model(n, "checkpoint") for n in comfy.choices("CheckpointLoaderSimple", "ckpt_name")]
            found += [self._model(n, "diffusion_model") for n in comfy.choices("UNETLoader", "unet_name")]
            return found

        return self._or_nothing(listed)

    def loras(self) -> list[LoraInfo]:
        return self._or_nothing(lambda: self._listed_loras())

    def options(self) -> dict[str, list[str]]:
        comfy = self._comfy()
        try:
            return {
                "samplers": comfy.choices("KSampler", "sampler_name"),
                "schedulers": comfy.choices("KSampler", "scheduler"),
                "upscalers": [LANCZOS, *comfy.choices("UpscaleModelLoader", "model_name")],
            }
        except DallaError:
            return {"samplers": [], "schedulers": [], "upscalers": []}

    # ------------------------------------------------------------ work

    def check(self, request: ImageRequest) -> None:
        plan = self._plan(request, "check")
        placeholder = "dalla/check.png" if request.init_image is not None else None
        self._check_nodes(self._graph(request, plan.request, placeholder))

    def generate(self, request: ImageRequest, report: Report) -> ImageResult:
        plan = self._plan(request, "")
        comfy = self._comfy()
        upload = None
        if request.init_image is not None:
            report.progress(0, request.steps, "Sending the picture")
            upload = self._upload(_fitted(request.init_image, request.width, request.height))

        def graph(prefix: str) -> Graph:
            return self._graph(request, plan.request, upload, prefix)

        samplers = [f"sample{i}" for i in range(request.batch_size)]
        images = self._run(comfy, graph, samplers, report)
        status = self.status()
        return ImageResult(
            images=images,
            seeds=list(plan.request.seeds),
            lora_sha256=plan.lora_sha256,
            engine_versions=_versions(status.detail),
            device=status.detail.get("device"),
            notes=plan.notes,
        )

    def upscale(self, request: UpscaleRequest, report: Report) -> ImageResult:
        from dalla.imaging import open_image, to_png

        comfy = self._comfy()
        model = None if request.model in (None, LANCZOS) else request.model
        if model is not None:
            listed = comfy.choices("UpscaleModelLoader", "model_name")
            found = choose.same(model, listed)
            if found is None:
                raise faults.missing_file("model_name", model)
            model = found
        if not 1 <= request.factor <= 8:
            raise InvalidInput.field("factor", "The factor must be between 1 and 8.")
        picture = open_image(request.image).image
        width, height = round(picture.width * request.factor), round(picture.height * request.factor)
        if max(width, height) > MAX_UPSCALED_SIDE or width * height > MAX_UPSCALED_PIXELS:
            raise TooLarge(f"The result would have {width} x {height} pixels.", remedy="Choose a smaller factor.")
        report.progress(0, 1, "Sending the picture")
        upload = self._upload(to_png(picture))

        def graph(prefix: str) -> Graph:
            return upscale.build(upscale.UpscaleGraphRequest(upload, request.factor, width, height, prefix, model))

        self._check_nodes(graph("check"))
        images = self._run(comfy, graph, ["raw"] if model else [], report)
        how = f"Enlarged with {model}." if model else "Enlarged with Lanczos: larger, without new detail."
        return ImageResult(images, engine_versions=_versions(self.status().detail), notes=[how])

    def close(self) -> None:
        with self._lock:
            client, self._client, self._made_for = self._client, None, None
        if client is not None:
            client.close()

    # ------------------------------------------------------------ running

    def _run(self, comfy: ComfyClient, graph: Callable[[str], Graph], samplers: list[str], report: Report) -> list[bytes]:
        """Run the graph and return the pictures. Once more under another name when the files are gone."""
        job = getattr(getattr(report, "job", None), "id", None)
        for last in (False, True):
            prompt_id = str(uuid.uuid4())
            # Unique, so that no other prompt's file can be meant and no cached one is given back.
            built = graph(f"dalla/{job or 'picture'}-{prompt_id[:8]}")
            outcome = follow.run(
                comfy,
                built,
                report,
                timeout=self._settings.comfyui_timeout,
                samplers=samplers,
                prompt_id=prompt_id,
                extra={"dalla_job_id": job} if job else {},
            )
            wanted = [n for n, node in built.items() if node["class_type"] == "SaveImage"]
            try:
                images = [
                    comfy.view(file["filename"], file["subfolder"], file["type"] or "output")
                    for node in wanted
                    for file in outcome.files.get(node, [])
                ]
            except NotFound:
                if not last:
                    continue
                raise
            if len(images) == len(wanted):
                return images
            if last:
                raise UpstreamError(
                    f"ComfyUI finished with {len(images)} of {len(wanted)} pictures.", service="ComfyUI", kind="retry"
                )
        raise AssertionError("unreachable")

    def _graph(self, request: ImageRequest, plan: GraphRequest, upload: str | None, prefix: str = "dalla/check") -> Graph:
        from dataclasses import replace

        return graphs.build(request.family, replace(plan, init_image=upload, prefix=prefix))

    def _upload(self, data: bytes) -> str:
        """Send a picture under a name made of its content, so that the same one is stored once."""
        return self._comfy().upload_image(data, f"{hashlib.sha256(data).hexdigest()[:24]}.png")

    # ------------------------------------------------------------ checks

    def _plan(self, request: ImageRequest, prefix: str) -> _Plan:
        """Check everything that is known beforehand. Raises InvalidInput, NotConfigured, Unavailable."""
        comfy = self._comfy()
        family = FAMILIES.get(request.family)
        if family is None or request.family not in graphs.BUILDERS:
            raise InvalidInput.field(
                "model",
                f"The family of the model '{request.model}' is not known.",
                remedy=f"Set it in the settings (modelFamilies): one of {', '.join(graphs.BUILDERS)}.",
            )
        _check_numbers(request, family.size_multiple)
        name, kind = self._find_model(request.model)
        facts = self._file_facts(name, kind)
        encoders, vae = choose.parts(comfy, request.family, name, kind, facts)
        for field, node, input_name, value in (
            ("sampler", "KSampler", "sampler_name", request.sampler),
            ("scheduler", "KSampler", "scheduler", request.scheduler),
        ):
            listed = comfy.choices(node, input_name)
            if listed and value not in listed:
                raise InvalidInput.field(
                    field, f"This ComfyUI knows no {field} '{value}'.", remedy=f"Choose one of {', '.join(listed[:12])}."
                )
        prepared = loras.PreparedLoras()
        if request.loras:
            prepared = loras.prepare(
                request.loras,
                request.family,
                comfy.choices("LoraLoader", "lora_name"),
                self._settings,
                lambda lora: comfy.view_metadata("loras", lora),
            )
            self._await_loras([use.name for use in prepared.uses])
        listed = comfy.choices("LoraLoader", "lora_name") if request.loras else []
        chain = tuple(
            GraphLora(choose.same(u.name, listed) or u.name, u.strength, self._has_text_layers(u.name))
            for u in prepared.uses
        )
        seeds = tuple((request.seed + i) % (MAX_SEED + 1) for i in range(request.batch_size))
        graph_request = GraphRequest(
            prompt=request.prompt,
            negative_prompt=request.negative_prompt,
            model=name,
            width=request.width,
            height=request.height,
            steps=request.steps,
            seeds=seeds,
            sampler=request.sampler,
            scheduler=request.scheduler,
            prefix=prefix,
            cfg_scale=request.cfg_scale,
            guidance=request.guidance,
            loras=chain,
            denoise=request.denoise,
            kind=kind,
            text_encoders=encoders,
            vae=vae,
        )
        return _Plan(graph_request, list(prepared.notes), dict(prepared.sha256))

    def _check_nodes(self, graph: Graph) -> None:
        for node in sorted(graphs.classes(graph)):
            if not self._comfy().object_info(node):
                raise faults.missing_node(node)

    def _find_model(self, wanted: str) -> tuple[str, str]:
        comfy = self._comfy()
        for node, input_name, kind in (
            ("CheckpointLoaderSimple", "ckpt_name", "checkpoint"),
            ("UNETLoader", "unet_name", "diffusion_model"),
        ):
            found = choose.same(wanted, comfy.choices(node, input_name))
            if found is not None:
                return found, kind
        raise faults.missing_file("ckpt_name", wanted)

    def _await_loras(self, names: list[str]) -> None:
        """See that the server lists files that were just put into its folder."""
        comfy = self._comfy()
        for name in names:
            if choose.same(name, comfy.choices("LoraLoader", "lora_name")) is None:
                if choose.same(name, comfy.choices("LoraLoader", "lora_name", fresh=True)) is None:
                    raise InvalidInput.field(
                        "loras",
                        f"ComfyUI does not see the LoRA '{name}' that was put into {self._settings.comfyui_lora_dir}.",
                        remedy="Set COMFYUI_LORA_DIR to the folder this ComfyUI reads LoRAs from (models/loras).",
                    )

    def _has_text_layers(self, name: str) -> bool:
        """Whether a LoRA changes the text encoder; True when that cannot be seen."""
        facts = self._facts_of(self._settings.comfyui_lora_dir, name)
        return True if facts is None else facts.text_layers

    # ------------------------------------------------------------ lists

    def _model(self, name: str, kind: str) -> ModelInfo:
        facts = self._file_facts(name, kind)
        family = choose.override(self._settings.model_families, name)
        family = family or (facts.family if facts else None) or choose.family_by_name(name)
        note = None
        if family is None:
            note = "Its family cannot be told from its name. Set it in the settings (modelFamilies)."
        elif kind == "diffusion_model" and family in ("sd15", "sdxl"):
            note = "This file holds the network alone; use an all-in-one checkpoint of it."
        elif facts and facts.problem:
            note = facts.problem
        return ModelInfo(
            name=name,
            family=family,
            source="comfyui",
            size_bytes=facts.size if facts else None,
            kind=kind,
            note=note,
        )

    def _listed_loras(self) -> list[LoraInfo]:
        comfy = self._comfy()
        found: dict[str, LoraInfo] = {}
        for name in comfy.choices("LoraLoader", "lora_name"):
            if loras.made_here(name):  # a copy or conversion of another one in this list
                continue
            facts = self._facts_of(self._settings.comfyui_lora_dir, name)
            family, note = (facts.family, facts.problem) if facts else (choose.family_by_name(name), None)
            if facts and facts.lora_skipped:
                note = "ComfyUI skips its layer names; a converted copy is used."
            found[_stem(name)] = LoraInfo(
                name, family, "comfyui", facts.trigger_word if facts else None, facts.size if facts else None, note
            )
        own = Path(self._settings.loras_dir)
        if self._settings.comfyui_lora_dir and own.is_dir():
            for path in sorted(own.glob("*.safetensors")):
                facts = self._facts_of(own, path.name)
                if facts is None:
                    continue
                beside = _beside(path)
                found[path.stem] = LoraInfo(
                    path.stem,
                    beside.get("family") or facts.family,
                    "local",
                    beside.get("triggerWord") or facts.trigger_word,
                    facts.size,
                    facts.problem or "It is copied to ComfyUI when it is used.",
                )
        return list(found.values())

    def _file_facts(self, name: str, kind: str) -> choose.FileFacts | None:
        """Read a model's header, where its folder lies beside the shared LoRA folder."""
        shared = self._settings.comfyui_lora_dir
        if not shared:
            return None
        folder = "checkpoints" if kind == "checkpoint" else "diffusion_models"
        return self._facts_of(Path(shared).parent / folder, name)

    def _facts_of(self, folder: Path | str, name: str) -> choose.FileFacts | None:
        if not folder:
            return None
        try:
            path = safe_join(Path(folder), name.replace("\\", "/"))
            stat = path.stat()
        except (InvalidInput, OSError, ValueError):
            return None
        key = (str(path), stat.st_size, stat.st_mtime_ns)
        if key not in self._facts:
            self._facts[key] = choose.read_facts(path, stat.st_size)
        return self._facts[key]

    @staticmethod
    def _or_nothing[T](work: Callable[[], list[T]]) -> list[T]:
        try:
            return work()
        except DallaError:
            return []

    # ------------------------------------------------------------ the server

    def _address(self) -> tuple[str, str]:
        return self._settings.comfyui_url, json.dumps(self._settings.comfyui_headers or {}, sort_keys=True)

    def _comfy(self) -> ComfyClient:
        """Return the client for the address in force; the settings page may have changed it."""
        address = self._address()
        with self._lock:
            if self._client is None or self._made_for != address:
                if self._client is not None:
                    self._client.close()
                self._client = ComfyClient(address[0], self._settings.comfyui_headers or {}, timeout=30.0)
                self._made_for = address
            return self._client


def _check_numbers(request: ImageRequest, multiple: int) -> None:
    for name in ("width", "height"):
        value = getattr(request, name)
        # ComfyUI rounds odd sizes down without a word, and huge ones end the whole server.
        if value % multiple or not multiple * 2 <= value <= MAX_SIDE:
            raise InvalidInput.field(
                name, f"The {name} must be a multiple of {multiple} between {multiple * 2} and {MAX_SIDE} px."
            )
    if not 1 <= request.batch_size <= MAX_BATCH:
        raise InvalidInput.field("batchSize", f"Use 1 to {MAX_BATCH} pictures.")
    if request.width * request.height * request.batch_size > MAX_SIDE * MAX_SIDE * 4:
        raise InvalidInput.field(
            "batchSize",
            f"{request.batch_size} pictures of {request.width} x {request.height} are more than a server can hold at once.",
            remedy="Make fewer or smaller pictures at a time.",
        )
    if not 1 <= request.steps <= 1000:
        raise InvalidInput.field("steps", "Use at least one step.")
    if not 0 <= request.seed <= MAX_SEED:
        raise InvalidInput.field("seed", f"The seed must be between 0 and {MAX_SEED}.")
    if request.init_image is not None and not 0 < request.denoise <= 1:
        raise InvalidInput.field("denoise", "Denoise must be more than 0 and at most 1.")


def _fitted(data: bytes, width: int, height: int) -> bytes:
    """Return the picture as a PNG of exactly this size."""
    from dalla.imaging import fit_cover, flatten, open_image, to_png

    picture = open_image(data)
    return to_png(fit_cover(flatten(picture.image), width, height))


def _detail(stats: dict[str, Any], url: str) -> dict[str, Any]:
    system = stats.get("system") or {}
    device = next(iter(stats.get("devices") or []), {})
    return {
        "url": url,
        "version": system.get("comfyui_version"),
        "pytorch": system.get("pytorch_version"),
        "device": device.get("type"),
        "deviceName": device.get("name"),
        "vramTotal": device.get("vram_total"),
        "vramFree": device.get("vram_free"),
    }


def _versions(detail: dict[str, Any]) -> dict[str, str]:
    pairs = (("comfyui", detail.get("version")), ("torch", detail.get("pytorch")))
    return {name: str(value) for name, value in pairs if value}


def _stem(name: str) -> str:
    return name.replace("\\", "/").removesuffix(".safetensors")


def _beside(path: Path) -> dict[str, Any]:
    """Return what the trainer wrote beside a LoRA."""
    try:
        value = json.loads(path.with_suffix(".json").read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}
