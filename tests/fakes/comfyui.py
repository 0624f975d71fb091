"""A ComfyUI server without a model: the same API, the same refusals, painted pictures.

It checks graphs as the real one does (classes, links, choices, ranges), answers `{}` from the history
until a prompt is done, keeps its queue as a heap, gives a cached picture back under its old name and
forgets everything at a restart. `python -m tests.fakes.comfyui --port 8188` runs it alone.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import heapq
import io
import json
import re
import socket
import struct
import threading
import time
import uuid
from typing import Any

from PIL import Image, ImageDraw
from PIL.PngImagePlugin import PngInfo
from werkzeug.wrappers import Request, Response

from dalla.records.family import SAMPLERS, SCHEDULERS
from tests.fakes.comfyui_nodes import NODES, links_of, object_info, problems_of
from tests.fakes.server import LoopbackFake

UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z")
FOLDERS = {
    "checkpoints": ("CheckpointLoaderSimple", "ckpt_name"),
    "diffusion_models": ("UNETLoader", "unet_name"),
    "loras": ("LoraLoader", "lora_name"),
    "vae": ("VAELoader", "vae_name"),
    "text_encoders": ("DualCLIPLoader", "clip_name1"),
    "upscale_models": ("UpscaleModelLoader", "model_name"),
}


class Interrupted(Exception):
    """Somebody stopped the running prompt."""


class NodeFailed(Exception):
    """A node failed while running."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class ComfyUIFake(LoopbackFake):
    """`new_api` False behaves like 0.3.64, True like 0.33.0. `prefix` serves everything below a path.

    Faults: `sockets` "ok" | "refused" | "silent" (connects, says nothing) | "dropped" (cut at the first step);
    `broken[class]` = (exception type, message); `hold` makes every step wait until it is set again.
    """

    def __init__(self, port: int = 0, *, new_api: bool = True, prefix: str = "", step_seconds: float = 0.0) -> None:
        super().__init__(port)
        self.new_api, self.prefix, self.step_seconds = new_api, prefix.rstrip("/"), step_seconds
        self.models: dict[str, list[str]] = {
            "checkpoints": ["sd15_fake.safetensors", "sdxl_fake.safetensors", "sd3_fake_incl_clips.safetensors"],
            "diffusion_models": ["flux1-dev-fake.safetensors"],
            "loras": ["luna.safetensors", "people/mia.safetensors", "foreign.safetensors"],
            "vae": ["ae.safetensors"],
            "text_encoders": ["clip_l.safetensors", "t5xxl_fp8_e4m3fn.safetensors", "clip_g.safetensors"],
            "upscale_models": ["up2x.safetensors"],
        }
        self.without_effect = {"foreign.safetensors"}  # loaded "successfully", changing nothing
        self.metadata: dict[str, dict[str, str]] = {}
        self.missing_nodes: set[str] = set()
        self.broken: dict[str, tuple[str, str]] = {}
        self.sockets = "ok"
        self.max_upload_size = 100 * 1024 * 1024
        self.hold = threading.Event()
        self.hold.set()
        self.log: list[str] = []
        self.files: dict[tuple[str, str, str], bytes] = {}
        self._state = threading.RLock()
        self._forget()
        self._stopping = threading.Event()

    # ------------------------------------------------------------ life

    def _forget(self) -> None:
        self._epoch = object()
        self._heap: list[tuple[float, str, dict[str, Any], dict[str, Any], list[str]]] = []
        self._running: tuple[float, str, dict[str, Any], dict[str, Any], list[str]] | None = None
        self.history: dict[str, dict[str, Any]] = {}
        self._cache: dict[str, Any] = {}
        self._number = 0
        self._interrupted = False
        self._sockets: dict[str, socket.socket] = {}
        for key in [k for k in self.files if k[0] == "temp"]:
            del self.files[key]

    def start(self) -> ComfyUIFake:
        self._stopping.clear()
        super().start()
        threading.Thread(target=self._work, daemon=True).start()
        return self

    def stop(self) -> None:
        self._stopping.set()
        super().stop()
        with self._state:
            self._forget()

    def restart(self) -> None:
        """Forget queue, history and sockets, as a new process does."""
        with self._state:
            self._forget()
        self.drop_connections()

    @property
    def pending(self) -> list[str]:
        with self._state:
            return [item[1] for item in sorted(self._heap)]

    @property
    def running(self) -> str | None:
        with self._state:
            return self._running[1] if self._running else None

    # ------------------------------------------------------------ HTTP

    def handle(self, request: Request) -> Response:
        origin = request.headers.get("Origin")
        if origin not in (None, "null") and origin.split("://")[-1] != request.host:
            return Response(status=403)
        if self.new_api and request.headers.get("Sec-Fetch-Site") == "cross-site":
            return Response(status=403)
        path = request.path
        if not path.startswith(f"{self.prefix}/"):
            return Response("Not Found", 404)
        path = path[len(self.prefix) :]
        jobs = path.startswith("/api/jobs")
        if path.startswith("/api/") and not jobs:
            path = path[4:]
        if (request.content_length or 0) > self.max_upload_size:
            return Response(status=413)
        if jobs:
            return self._jobs(request, path) if self.new_api else Response("404: Not Found", 404)
        parts = path.strip("/").split("/")
        route = getattr(self, f"_{request.method.lower()}_{parts[0]}", None)
        if route is None:
            return Response("404: Not Found", 404)
        try:
            return route(request, parts[1:])
        except (ValueError, KeyError, TypeError, AttributeError):
            return Response("500 Internal Server Error\n\nServer got itself in trouble", 500)

    def _get_system_stats(self, request: Request, parts: list[str]) -> Response:
        version = "0.33.0" if self.new_api else "0.3.64"
        system = {"os": "posix", "ram_total": 16 << 30, "ram_free": 8 << 30, "comfyui_version": version}
        system |= {"python_version": "3.11", "pytorch_version": "2.9.0+cpu", "embedded_python": False, "argv": ["main.py"]}
        device = {"name": "cpu", "type": "cpu", "index": None, "vram_total": 16 << 30, "vram_free": 8 << 30}
        return _json({"system": system, "devices": [device]})

    def _get_features(self, request: Request, parts: list[str]) -> Response:
        return _json({"supports_preview_metadata": True, "max_upload_size": self.max_upload_size})

    def _get_object_info(self, request: Request, parts: list[str]) -> Response:
        info = {k: v for k, v in object_info(self._lists(), self.new_api).items() if k not in self.missing_nodes}
        return _json({n: info[n] for n in parts if n in info} if parts else info)

    def _lists(self) -> dict[str, list[str]]:
        return {**self.models, "samplers": list(SAMPLERS), "schedulers": list(SCHEDULERS)}

    def _get_models(self, request: Request, parts: list[str]) -> Response:
        if not parts:
            return _json(list(self.models))
        return _json(self.models[parts[0]]) if parts[0] in self.models else Response(status=404)

    def _get_view_metadata(self, request: Request, parts: list[str]) -> Response:
        found = self.metadata.get(request.args["filename"])
        return _json(found) if found else Response(status=404)

    def _get_prompt(self, request: Request, parts: list[str]) -> Response:
        return _json({"exec_info": {"queue_remaining": len(self._heap) + bool(self._running)}})

    def _post_prompt(self, request: Request, parts: list[str]) -> Response:
        body = json.loads(request.get_data())
        if "prompt" not in body:
            return _refused("no_prompt", "No prompt provided", "No prompt provided")
        prompt_id = body.get("prompt_id", str(uuid.uuid4()))
        if self.new_api and not UUID.match(str(prompt_id)):
            return _refused("invalid_prompt_id", "prompt_id must be a valid UUID", "")
        graph = body["prompt"]
        with self._state:
            self._number += 1
            number = float(body.get("number", -self._number if body.get("front") else self._number))
            known = [c for c in NODES if c not in self.missing_nodes]
            for id, node in graph.items():
                name = node.get("class_type")
                if name not in known:
                    kind = "missing_node_type" if self.new_api else "invalid_prompt"
                    message = f"Node '{name}' not found." if self.new_api else f"Cannot execute because node {name} does not exist."
                    extra = {"node_id": id, "class_type": name, "node_title": name} if self.new_api else {}
                    return _refused(kind, message, f"Node ID '#{id}'", extra)
            outputs = [id for id, node in graph.items() if NODES[node["class_type"]].output_node]
            if not outputs:
                return _refused("prompt_no_outputs", "Prompt has no outputs", "")
            errors: dict[str, Any] = {}
            good = []
            for output in outputs:
                found = self._problems(graph, output)
                for id, causes in found.items():
                    entry = errors.setdefault(
                        id, {"errors": causes, "dependent_outputs": [], "class_type": graph[id]["class_type"]}
                    )
                    entry["dependent_outputs"].append(output)
                if not found:
                    good.append(output)
            if not good:
                return _refused("prompt_outputs_failed_validation", "Prompt outputs failed validation", "", {}, errors)
            extra = dict(body.get("extra_data") or {})
            if body.get("client_id"):
                extra["client_id"] = body["client_id"]
            if self.new_api:
                extra["create_time"] = int(time.time() * 1000)
            heapq.heappush(self._heap, (number, prompt_id, graph, extra, good))
        self._status()
        return _json({"prompt_id": prompt_id, "number": number, "node_errors": errors})

    def _problems(self, graph: dict[str, Any], output: str) -> dict[str, list[dict[str, Any]]]:
        found: dict[str, list[dict[str, Any]]] = {}
        waiting, done = [output], set()
        while waiting:
            id = waiting.pop()
            if id in done:
                continue
            done.add(id)
            causes, further = problems_of(graph, id, self._lists(), self.new_api)
            node = graph[id]
            if node["class_type"] == "LoadImage" and not causes:
                name = node["inputs"]["image"]
                folder, _, file = name.rpartition("/")
                if ("input", folder, file) not in self.files:
                    causes.append(
                        {
                            "type": "custom_validation_failed",
                            "message": "Custom validation failed for node",
                            "details": f"image - Invalid image file: {name}",
                            "extra_info": {"input_name": "image", "received_value": name},
                        }
                    )
            if causes:
                found[id] = causes
            waiting += further
        return found

    def _get_queue(self, request: Request, parts: list[str]) -> Response:
        with self._state:
            return _json(
                {
                    "queue_running": [list(self._running)] if self._running else [],
                    "queue_pending": [list(item) for item in self._heap],  # heap order, as it lies
                }
            )

    def _post_queue(self, request: Request, parts: list[str]) -> Response:
        body = json.loads(request.get_data())
        with self._state:
            gone = set(body.get("delete") or [])
            self._heap = [] if body.get("clear") else [item for item in self._heap if item[1] not in gone]
            heapq.heapify(self._heap)
        self._status()
        return Response()

    def _post_interrupt(self, request: Request, parts: list[str]) -> Response:
        data = request.get_data()
        wanted = (json.loads(data) if data else {}).get("prompt_id")
        with self._state:
            if self._running and wanted in (None, self._running[1]):
                self._interrupted = True
        return Response()

    def _get_history(self, request: Request, parts: list[str]) -> Response:
        with self._state:
            return _json({p: self.history[p] for p in parts if p in self.history} if parts else self.history)

    def _post_history(self, request: Request, parts: list[str]) -> Response:
        body = json.loads(request.get_data())
        with self._state:
            for id in list(self.history) if body.get("clear") else body.get("delete") or []:
                self.history.pop(id, None)
        return Response()

    def _post_free(self, request: Request, parts: list[str]) -> Response:
        with self._state:
            self._cache.clear()
        return Response()

    def _jobs(self, request: Request, path: str) -> Response:
        parts = path.split("/")[3:]
        with self._state:
            waiting = [item[1] for item in self._heap]
            if len(parts) == 2 and parts[1] == "cancel" and request.method == "POST":
                cancelled = False
                if parts[0] in waiting:
                    self._heap = [item for item in self._heap if item[1] != parts[0]]
                    heapq.heapify(self._heap)
                    cancelled = True
                elif self._running and self._running[1] == parts[0]:
                    self._interrupted = cancelled = True
                return _json({"cancelled": cancelled})
            if len(parts) == 1:
                if parts[0] in waiting:
                    return _json({"id": parts[0], "status": "pending"})
                if self._running and self._running[1] == parts[0]:
                    return _json({"id": parts[0], "status": "in_progress"})
                if parts[0] in self.history:
                    ok = self.history[parts[0]]["status"]["completed"]
                    return _json({"id": parts[0], "status": "completed" if ok else "failed"})
            return _json({"error": "Job not found"}, 404)

    def _get_view(self, request: Request, parts: list[str]) -> Response:
        name, folder = request.args.get("filename", ""), request.args.get("subfolder", "")
        kind = request.args.get("type", "output")
        if not name or name.startswith("/") or ".." in name or kind not in ("output", "input", "temp"):
            return Response(status=400)
        if ".." in folder:
            return Response(status=403)
        data = self.files.get((kind, folder, name))
        return Response(data, mimetype="image/png") if data is not None else Response(status=404)

    def _post_upload(self, request: Request, parts: list[str]) -> Response:
        file = request.files.get("image")
        if file is None or not file.filename:
            return Response(status=400)
        folder, kind = request.form.get("subfolder", ""), request.form.get("type", "input")
        if ".." in folder:
            return Response(status=400)
        data, name, count = file.read(), file.filename, 0
        stem, _, end = file.filename.rpartition(".")
        if request.form.get("overwrite") not in ("true", "1"):
            while self.files.get((kind, folder, name), data) != data:
                count += 1
                name = f"{stem} ({count}).{end}"
        self.files[(kind, folder, name)] = data
        return _json({"name": name, "subfolder": folder, "type": kind})

    def _get_internal(self, request: Request, parts: list[str]) -> Response:
        return Response("\n".join(self.log)) if parts == ["logs"] else Response("404: Not Found", 404)

    # ------------------------------------------------------------ the event socket

    def _get_ws(self, request: Request, parts: list[str]) -> Response:
        key = request.headers.get("Sec-WebSocket-Key")
        if key is None or self.sockets == "refused":
            return Response("refused", 400)
        raw: socket.socket = request.environ["werkzeug.socket"]
        accept = base64.b64encode(
            hashlib.sha1((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode(), usedforsecurity=False).digest()
        ).decode()
        raw.sendall(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            + f"Sec-WebSocket-Accept: {accept}\r\n\r\n".encode()
        )
        client_id = request.args.get("clientId") or uuid.uuid4().hex
        with self._state:
            self._sockets[client_id] = raw
        self._status()
        with contextlib.suppress(OSError):
            while (frame := _read_frame(raw)) is not None and frame[0] != 8:
                pass
        with self._state:
            # Also when another connection took the id meanwhile: the real server goes deaf the same way.
            self._sockets.pop(client_id, None)
        with contextlib.suppress(OSError):
            raw.shutdown(socket.SHUT_RDWR)
        raise ConnectionError  # the connection is no longer HTTP; werkzeug ends it quietly

    def _send(self, client_id: str | None, kind: str, data: dict[str, Any]) -> None:
        self._frame(client_id, 1, json.dumps({"type": kind, "data": data}).encode())

    def _frame(self, client_id: str | None, opcode: int, data: bytes) -> None:
        if self.sockets == "silent":
            return
        with self._state:
            targets = [self._sockets[client_id]] if client_id in self._sockets else []
        for target in targets:
            with contextlib.suppress(OSError):
                target.sendall(_frame_head(opcode, len(data)) + data)

    def _status(self) -> None:
        data = {"status": {"exec_info": {"queue_remaining": len(self._heap) + bool(self._running)}}}
        for client_id in list(self._sockets):
            self._send(client_id, "status", data)

    # ------------------------------------------------------------ working

    def _work(self) -> None:
        while not self._stopping.is_set():
            with self._state:
                self._running = heapq.heappop(self._heap) if self._heap else None
                item, epoch, self._interrupted = self._running, self._epoch, False
            if item is None:
                time.sleep(0.002)
                continue
            self._execute(item, epoch)

    def _execute(self, item: tuple[float, str, dict[str, Any], dict[str, Any], list[str]], epoch: object) -> None:
        _, prompt_id, graph, extra, outputs = item
        client = extra.get("client_id")
        run = _Run(self, graph, prompt_id, client, extra, epoch)
        messages: list[list[Any]] = []

        def tell(kind: str, **data: Any) -> None:
            data |= {"prompt_id": prompt_id, "timestamp": int(time.time() * 1000)}
            messages.append([kind, data])
            if kind in ("execution_start", "execution_cached"):
                self._send(client, kind, data)

        tell("execution_start")
        tell("execution_cached", nodes=[id for id in graph if run.key(id) in self._cache])
        last: tuple[str, dict[str, Any]]
        try:
            for output in outputs:
                run.value(output)
            tell("execution_success")
        except Interrupted:
            tell("execution_interrupted", node_id=run.at, node_type=graph[run.at]["class_type"], executed=[])
        except NodeFailed as exc:
            node = graph[run.at]
            tell(
                "execution_error",
                node_id=run.at,
                node_type=node["class_type"],
                executed=[],
                exception_message=f"{exc}\n",
                exception_type=exc.kind,
                traceback=["…"],
                current_inputs={k: [v] for k, v in node["inputs"].items()},
                current_outputs=[],
            )
        last = (messages[-1][0], messages[-1][1])
        ok = last[0] == "execution_success"
        entry = {
            "prompt": [item[0], prompt_id, graph, extra, outputs],
            "outputs": run.outputs,
            "status": {"status_str": "success" if ok else "error", "completed": ok, "messages": messages},
            "meta": {},
        }
        if ok:
            self._send(client, *last)  # a moment before the history knows
        with self._state:
            if self._epoch is not epoch:
                return
            self.history[prompt_id] = entry
            self._running = None
        if not ok:
            self._send(client, *last)
        self._status()
        self._send(client, "executing", {"node": None, "prompt_id": prompt_id})

    def check_stop(self, epoch: object) -> None:
        """Raise Interrupted when the running prompt was stopped, or the whole server was."""
        if self._interrupted or self._epoch is not epoch or self._stopping.is_set():
            raise Interrupted

    def save(self, prefix: str, image: Image.Image, graph: dict[str, Any], extra: dict[str, Any]) -> dict[str, str]:
        """Store a picture in the output folder, numbered as the real server numbers."""
        folder, _, stem = prefix.rpartition("/")
        taken = [int(m[1]) for _, f, n in self.files if f == folder and (m := re.match(rf"{re.escape(stem)}_(\d{{5}})_\.png\Z", n))]
        name = f"{stem}_{max(taken, default=0) + 1:05d}_.png"
        info = PngInfo()
        info.add_text("prompt", json.dumps(graph))
        for key, value in (extra.get("extra_pnginfo") or {}).items():
            info.add_text(key, json.dumps(value))
        out = io.BytesIO()
        image.save(out, "PNG", pnginfo=info, compress_level=1)
        self.files[("output", folder, name)] = out.getvalue()
        return {"filename": name, "subfolder": folder, "type": "output"}


class _Run:
    """One prompt being executed: values of nodes, remembered between prompts by what they depend on."""

    def __init__(
        self, fake: ComfyUIFake, graph: dict[str, Any], prompt_id: str, client: str | None, extra: dict[str, Any], epoch: object
    ) -> None:
        self.fake, self.graph, self.prompt_id, self.client, self.extra, self.epoch = fake, graph, prompt_id, client, extra, epoch
        self.outputs: dict[str, Any] = {}
        self.at = next(iter(graph))

    def key(self, id: str) -> str:
        node = self.graph[id]
        inputs = {k: [self.key(v[0]), v[1]] if links_of(v) else v for k, v in node["inputs"].items()}
        return hashlib.sha256(json.dumps([node["class_type"], inputs], sort_keys=True).encode()).hexdigest()

    def value(self, id: str) -> Any:
        key, node = self.key(id), self.graph[id]
        ids = {"node": id, "display_node": id, "prompt_id": self.prompt_id}
        if key not in self.fake._cache:
            inputs = {k: self.value(v[0])[v[1]] if links_of(v) else v for k, v in node["inputs"].items()}
            self.at = id
            self.fake.check_stop(self.epoch)
            self.fake._send(self.client, "executing", ids)
            if node["class_type"] in self.fake.broken:
                raise NodeFailed(*self.fake.broken[node["class_type"]])
            self.fake._cache[key] = self.compute(id, node["class_type"], inputs)
        value = self.fake._cache[key]
        if NODES[node["class_type"]].output_node:
            self.outputs[id] = value[0]
            self.fake._send(self.client, "executed", {**ids, "output": value[0]})
        return value

    def compute(self, id: str, name: str, i: dict[str, Any]) -> tuple[Any, ...]:
        match name:
            case "CheckpointLoaderSimple":
                return (f"model:{i['ckpt_name']}",), f"clip:{i['ckpt_name']}", "vae"
            case "UNETLoader":
                return ((f"model:{i['unet_name']}",),)
            case "DualCLIPLoader" | "TripleCLIPLoader":
                return ("clip",)
            case "VAELoader" | "KSamplerSelect":
                return (str(sorted(i.items())),)
            case "LoraLoader" | "LoraLoaderModelOnly":
                if i["lora_name"] in self.fake.without_effect or not i["strength_model"]:
                    self.fake.log.append(f"lora key not loaded: {i['lora_name']}")
                    return i["model"], i.get("clip")
                return (*i["model"], f"lora:{i['lora_name']}:{i['strength_model']}"), i.get("clip")
            case "ModelSamplingSD3" | "ModelSamplingFlux":
                return (i["model"],)
            case "CLIPTextEncode":
                return (i["text"],)
            case "FluxGuidance":
                return (i["conditioning"],)
            case "BasicGuider":
                return ((i["model"], i["conditioning"]),)
            case "BasicScheduler":
                return ((i["steps"], i["denoise"]),)
            case "RandomNoise":
                return (i["noise_seed"],)
            case "EmptyLatentImage" | "EmptySD3LatentImage":
                return ((i["width"] // 8 * 8, i["height"] // 8 * 8, None),)
            case "LoadImage":
                folder, _, file = i["image"].rpartition("/")
                try:
                    picture = Image.open(io.BytesIO(self.fake.files[("input", folder, file)])).convert("RGB")
                except OSError as exc:
                    raise NodeFailed("PIL.UnidentifiedImageError", "cannot identify image file") from exc
                return picture, None
            case "VAEEncode":
                return ((*i["pixels"].size, i["pixels"]),)
            case "KSampler":
                self.steps(id, i["steps"])
                return (self.paint(i["latent_image"], i["seed"], i["positive"], i["model"], i["denoise"]),)
            case "SamplerCustomAdvanced":
                steps, denoise = i["sigmas"]
                self.steps(id, steps)
                model, text = i["guider"]
                picture = self.paint(i["latent_image"], i["noise"], text, model, denoise)
                return picture, picture
            case "VAEDecode":
                return (i["samples"],)
            case "ImageScaleBy":
                factor = i["scale_by"]
                return (i["image"].resize((round(i["image"].width * factor), round(i["image"].height * factor))),)
            case "ImageScale":
                return (i["image"].resize((i["width"], i["height"])),)
            case "UpscaleModelLoader":
                return (2,)
            case "ImageUpscaleWithModel":
                self.steps(id, 1)
                return (i["image"].resize((i["image"].width * 2, i["image"].height * 2)),)
            case "SaveImage":
                return ({"images": [self.fake.save(i["filename_prefix"], i["images"], self.graph, self.extra)]},)
        raise NodeFailed("NotImplementedError", f"the fake cannot run {name}")

    def steps(self, id: str, count: int) -> None:
        for step in range(1, count + 1):
            end = time.monotonic() + self.fake.step_seconds
            while time.monotonic() < end or not self.fake.hold.is_set():
                self.fake.check_stop(self.epoch)
                time.sleep(0.002)
            self.fake.check_stop(self.epoch)
            if self.fake.sockets == "dropped":
                self.fake.drop_connections()
            data = {"value": step, "max": count, "prompt_id": self.prompt_id, "node": id}
            self.fake._send(self.client, "progress", data)
            if self.fake.new_api and self.extra.get("preview_method") == "latent2rgb":
                out = io.BytesIO()
                Image.new("RGB", (16, 16), (step * 9 % 255, 80, 120)).save(out, "JPEG")
                about = json.dumps({"node_id": id, "prompt_id": self.prompt_id, "image_type": "image/jpeg"}).encode()
                self.fake._frame(self.client, 2, struct.pack(">II", 4, len(about)) + about + out.getvalue())

    def paint(self, latent: tuple[int, int, Image.Image | None], seed: int, text: str, model: Any, denoise: float) -> Image.Image:
        width, height, start = latent
        digest = hashlib.sha256(f"{seed}|{text}|{model}".encode()).digest()
        picture = Image.new("RGB", (width, height), tuple(digest[:3]))
        draw = ImageDraw.Draw(picture)
        for n in range(6):
            x, y = digest[3 + n] * width // 255, digest[10 + n] * height // 255
            r = max(2, digest[17 + n] * min(width, height) // 1000)
            draw.ellipse((x - r, y - r, x + r, y + r), fill=tuple(digest[20 + n : 23 + n]))
        draw.text((4, 4), "\n".join(re.findall(r".{1,40}", text)), fill=(255, 255, 255))
        return Image.blend(start.resize(picture.size), picture, denoise) if start is not None else picture


def _json(value: Any, status: int = 200) -> Response:
    return Response(json.dumps(value), status, mimetype="application/json")


def _refused(
    kind: str, message: str, details: str, extra: dict[str, Any] | None = None, errors: dict[str, Any] | None = None
) -> Response:
    error = {"type": kind, "message": message, "details": details, "extra_info": extra or {}}
    return _json({"error": error, "node_errors": errors or {}}, 400)


def _frame_head(opcode: int, length: int) -> bytes:
    if length < 126:
        return bytes((0x80 | opcode, length))
    if length < 1 << 16:
        return bytes((0x80 | opcode, 126)) + struct.pack(">H", length)
    return bytes((0x80 | opcode, 127)) + struct.pack(">Q", length)


def _read_frame(raw: socket.socket) -> tuple[int, bytes] | None:
    """Read one frame of a client (always masked). None at the end of the connection."""

    def take(count: int) -> bytes:
        data = b""
        while len(data) < count:
            if not (more := raw.recv(count - len(data))):
                raise OSError
            data += more
        return data

    first, second = take(2)
    length = second & 127
    if length == 126:
        (length,) = struct.unpack(">H", take(2))
    elif length == 127:
        (length,) = struct.unpack(">Q", take(8))
    mask = take(4) if second & 128 else bytes(4)
    data = take(length)
    return first & 15, bytes(b ^ mask[n % 4] for n, b in enumerate(data))


def main() -> None:
    """Run the fake alone, for a dashboard without a GPU."""
    import argparse

    parser = argparse.ArgumentParser(description="A ComfyUI server that paints instead of drawing.")
    parser.add_argument("--port", type=int, default=8188)
    parser.add_argument("--step-seconds", type=float, default=0.1, help="how long one step takes")
    parser.add_argument("--old", action="store_true", help="behave like 0.3.64 instead of 0.33.0")
    args = parser.parse_args()
    with ComfyUIFake(args.port, new_api=not args.old, step_seconds=args.step_seconds) as fake:
        print(f"A pretend ComfyUI at {fake.url}. Ctrl+C ends it.")
        with contextlib.suppress(KeyboardInterrupt):
            threading.Event().wait()


if __name__ == "__main__":
    main()
