"""The HTTP side of the pretend ComfyUI: what each address answers, in the real server's shapes."""

from __future__ import annotations

import heapq
import io
import json
import re
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from tests.fakes import comfy_draw, comfy_graph, comfy_nodes
from tests.fakes.server import Call, LoopbackFake, Reply

FOLDERS = (
    "checkpoints", "loras", "vae", "text_encoders", "diffusion_models", "embeddings", "upscale_models", "controlnet"
)  # fmt: skip
LOOPBACK = ("127.0.0.1", "localhost", "::1")
Json = dict[str, Any]


class ComfyRoutes(LoopbackFake):
    """Answers requests out of the state that `ComfyFake` keeps (queue, history, folders, switches)."""

    # ------------------------------------------------------------ HTTP

    def handle(self, call: Call) -> Reply:
        if self._foreign(call):
            return Reply(403)
        path = call.path.removeprefix("/api") if not call.path.startswith("/api/jobs") else call.path
        get = call.method in ("GET", "HEAD")
        if path == "/ws":
            return Reply(403 if self.refuse_ws else 101)
        for pattern, method, handler in _ROUTES:
            match = re.fullmatch(pattern, path)
            if match and (get if method == "GET" else call.method == method):
                if method == "POST" and not path.startswith("/upload") and not isinstance(call.json, dict):
                    return Reply(500, "500 Internal Server Error\n\nServer got itself in trouble")
                return handler(self, call, *(unquote(g) for g in match.groups()))
        return Reply(404)

    def _foreign(self, call: Call) -> bool:
        host, origin = call.headers.get("Host", ""), call.headers.get("Origin")
        if self.jobs_api and call.headers.get("Sec-Fetch-Site") == "cross-site":
            return True
        if not origin or origin == "null" or urlsplit(f"//{host}").hostname not in LOOPBACK:
            return False
        return urlsplit(origin).netloc != host

    def _system_stats(self, call: Call) -> Reply:
        memory = 16 * 2**30
        system = {
            "os": "linux" if self.jobs_api else "posix",
            "ram_total": memory,
            "ram_free": memory // 2,
            "comfyui_version": self.version,
            "required_frontend_version": "1.27.10",
            "installed_templates_version": "0.1.95",
            "required_templates_version": "0.1.95",
            "python_version": sys.version,
            "pytorch_version": "2.9.0+cpu",
            "embedded_python": False,
            "argv": ["main.py", "--cpu"],
        }
        device = {"name": "cpu", "type": "cpu", "index": None, "vram_total": memory, "vram_free": memory // 2}
        return Reply(
            200, {"system": system, "devices": [{**device, "torch_vram_total": memory, "torch_vram_free": memory // 2}]}
        )

    def _features(self, call: Call) -> Reply:
        return Reply(200, {"supports_preview_metadata": True, "max_upload_size": self.max_body})

    def _object_info(self, call: Call, name: str | None = None) -> Reply:
        names = [n for n in comfy_nodes.NODES if n not in self.disabled_nodes and (name is None or n == name)]
        folders = self.folders()
        return Reply(200, {n: comfy_nodes.object_info(n, folders, new=self.jobs_api) for n in names})

    def _models(self, call: Call, folder: str | None = None) -> Reply:
        if folder is None:
            return Reply(200, list(FOLDERS))
        return Reply(200, self.folders()[folder]) if folder in FOLDERS else Reply(404)

    def _sizes(self, call: Call, folder: str) -> Reply:
        if folder not in FOLDERS:
            return Reply(404)
        root = self.root / "models" / folder
        rows = []
        for name in self.folders()[folder]:
            stat = (root / name).stat()
            times = {"modified": stat.st_mtime, "created": stat.st_ctime}
            rows.append({"name": name, "pathIndex": 0, **times, "size": stat.st_size})
        return Reply(200, rows)

    def _view_metadata(self, call: Call, folder: str) -> Reply:
        path = self.root / "models" / folder / call.query.get("filename", "").replace("\\", "/")
        if ".." in path.parts or not path.is_file():
            return Reply(404)
        metadata = comfy_draw.read_keys(path)[1]
        return Reply(200, metadata) if metadata else Reply(404)

    def _queue(self, call: Call) -> Reply:
        with self._lock:
            running = [list(self._current)] if self._current else []
            return Reply(200, {"queue_running": running, "queue_pending": [list(item) for item in self._pending]})

    def _change_queue(self, call: Call) -> Reply:
        with self._lock:
            if call.json.get("clear"):
                self._pending.clear()
            for id in call.json.get("delete") or []:
                self._remove(id)
        self._broadcast_status()
        return Reply()

    def _remove(self, id: str) -> bool:
        left = [item for item in self._pending if item[1] != id]
        removed = len(left) < len(self._pending)
        self._pending = left
        heapq.heapify(self._pending)
        return removed

    def _stop_running(self, call: Call) -> Reply:
        id = call.json.get("prompt_id")
        with self._lock:
            if self._current and (id is None or self._current[1] == id):
                self._interrupt.set()
        return Reply()

    def _get_history(self, call: Call, id: str | None = None) -> Reply:
        with self._lock:
            if id is not None:
                return Reply(200, {id: self._history[id]} if id in self._history else {})
            rows = list(self._history.items())
        count = int(call.query.get("max_items", len(rows)))
        return Reply(200, dict(rows[max(0, len(rows) - count) :]))

    def _change_history(self, call: Call) -> Reply:
        with self._lock:
            if call.json.get("clear"):
                self._history.clear()
            for id in call.json.get("delete") or []:
                self._history.pop(id, None)
        return Reply()

    def _prompt_info(self, call: Call) -> Reply:
        return Reply(200, self._exec_info())

    def _exec_info(self) -> Json:
        with self._lock:
            return {"exec_info": {"queue_remaining": len(self._pending) + bool(self._current)}}

    def _post_prompt(self, call: Call) -> Reply:
        body = call.json
        with self._lock:
            number = float(body["number"]) if "number" in body else self._number
            self._number += 1
        if body.get("front") and "number" not in body:
            number = -number
        if "prompt" not in body:
            error = {
                "type": "no_prompt",
                "message": "No prompt provided",
                "details": "No prompt provided",
                "extra_info": {},
            }
            return Reply(400, {"error": error, "node_errors": {}})
        id = str(body.get("prompt_id") or uuid.uuid4())
        if self.jobs_api and not _is_uuid(id):
            error = {
                "type": "invalid_prompt_id",
                "message": "prompt_id must be a canonical UUID",
                "details": id,
                "extra_info": {},
            }
            return Reply(400, {"error": error, "node_errors": {}})
        graph = body["prompt"]
        if not isinstance(graph, dict) or any(not isinstance(node, dict) for node in graph.values()):
            return Reply(500, "500 Internal Server Error\n\nServer got itself in trouble")
        for node in graph.values():
            if node.get("class_type") in self.disabled_nodes:
                node["class_type"] += " "  # a name nobody has
        verdict = comfy_graph.check(graph, self.folders(), self._has_input, new=self.jobs_api)
        if verdict.error:
            return Reply(400, {"error": verdict.error, "node_errors": verdict.node_errors})
        extra = dict(body.get("extra_data") or {})
        if "client_id" in body:
            extra["client_id"] = body["client_id"]
        if self.jobs_api:
            extra["create_time"] = now()
        with self._lock:
            heapq.heappush(self._pending, (number, id, graph, extra, verdict.outputs))
            self._times[id] = {"create_time": now()}
            self._wake.notify_all()
        self._broadcast_status()
        return Reply(200, {"prompt_id": id, "number": number, "node_errors": verdict.node_errors})

    def _free(self, call: Call) -> Reply:
        if call.json.get("free_memory"):
            with self._lock:
                self._cache.clear()
                self._saved.clear()
        return Reply()

    def _logs(self, call: Call) -> Reply:
        with self._lock:
            text = "".join(self._log_lines)
        return Reply(200, json.dumps(text).encode(), {"Content-Type": "application/json; charset=utf-8"})

    # ------------------------------------------------------------ files

    def _view(self, call: Call) -> Reply:
        name, type = call.query.get("filename", ""), call.query.get("type", "output")
        if name.endswith("]") and " [" in name:
            name, type = name[:-1].rsplit(" [", 1)
        if not name or name.startswith("/") or ".." in name or type not in ("output", "input", "temp"):
            return Reply(400)
        base = (self.root / type).resolve()
        folder = (base / call.query.get("subfolder", "")).resolve()
        if folder != base and base not in folder.parents:
            return Reply(403)
        path = folder / Path(name).name
        if not path.is_file():
            return Reply(404)
        kind = {".png": "image/png", ".webp": "image/webp", ".jpg": "image/jpeg"}.get(
            path.suffix, "application/octet-stream"
        )
        return Reply(200, path.read_bytes(), {"Content-Type": kind, "Content-Disposition": f'filename="{path.name}"'})

    def _upload(self, call: Call) -> Reply:
        from werkzeug.formparser import parse_form_data

        environ = {
            "wsgi.input": io.BytesIO(call.body),
            "CONTENT_TYPE": call.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(len(call.body)),
            "REQUEST_METHOD": "POST",
        }
        _, form, files = parse_form_data(environ)
        upload = files.get("image")
        if upload is None or not upload.filename:
            return Reply(400)
        data = upload.read()
        upload.close()
        type = form.get("type", "input")
        if type not in ("input", "output", "temp"):
            return Reply(500, "500 Internal Server Error\n\nServer got itself in trouble")
        base = (self.root / type).resolve()
        folder = (base / form.get("subfolder", "")).resolve()
        if (folder != base and base not in folder.parents) or ".." in upload.filename:
            return Reply(400)
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / Path(upload.filename).name
        original, number = path, 1
        while path.exists() and path.read_bytes() != data and form.get("overwrite") not in ("true", "1"):
            path = original.with_name(f"{original.stem} ({number}){original.suffix}")
            number += 1
        path.write_bytes(data)
        return Reply(200, {"name": path.name, "subfolder": form.get("subfolder", ""), "type": type})

    def _input_path(self, name: str) -> Path:
        match = re.fullmatch(r"(.*) \[(input|output|temp)\]", name)
        return self.root / (match[2] if match else "input") / (match[1] if match else name)

    def _has_input(self, name: str) -> bool:
        return self._input_path(name).is_file()

    # ------------------------------------------------------------ jobs (new servers)

    def _jobs(self, call: Call) -> Reply:
        if not self.jobs_api:
            return Reply(404)
        with self._lock:
            ids = [item[1] for item in self._pending] + self.running + list(self._history)
        jobs = [job for id in ids if (job := self._describe(id))]
        wanted = [s for s in call.query.get("status", "").split(",") if s]
        jobs = [j for j in jobs if not wanted or j["status"] in wanted]
        page = {"offset": 0, "limit": None, "total": len(jobs), "has_more": False}
        return Reply(200, {"jobs": jobs, "pagination": page})

    def _job(self, call: Call, id: str) -> Reply:
        job = self._describe(id) if self.jobs_api else None
        return Reply(200, job) if job else Reply(404, {"error": "Job not found"} if self.jobs_api else b"")

    def _cancel_job(self, call: Call, id: str) -> Reply:
        if not self.jobs_api:
            return Reply(404)
        with self._lock:
            cancelled = self._remove(id)
            if self._current and self._current[1] == id:
                self._interrupt.set()
                cancelled = True
        if cancelled:
            self._broadcast_status()
        return Reply(200, {"cancelled": cancelled})

    def _describe(self, id: str) -> Json | None:
        with self._lock:
            entry, times = self._history.get(id), self._times.get(id, {})
            job = {"id": id, "priority": 0, "create_time": times.get("create_time"), "outputs_count": 0}
            if self._current and self._current[1] == id:
                return {**job, "status": "in_progress", "execution_start_time": times.get("start")}
            if any(item[1] == id for item in self._pending):
                return {**job, "status": "pending"}
        if entry is None:
            return None
        messages = dict(entry["status"]["messages"])
        status = (
            "cancelled"
            if "execution_interrupted" in messages
            else "failed"
            if "execution_error" in messages
            else "completed"
        )
        count = sum(len(o.get("images", [])) for o in entry["outputs"].values())
        job |= {
            "status": status,
            "outputs_count": count,
            "outputs": entry["outputs"],
            "execution_status": entry["status"],
        }
        return {**job, "execution_start_time": times.get("start"), "execution_end_time": times.get("end")}


def now() -> int:
    return int(time.time() * 1000)


def _is_uuid(text: str) -> bool:
    try:
        return str(uuid.UUID(text)) == text
    except ValueError:
        return False


_ROUTES: tuple[tuple[str, str, Callable[..., Reply]], ...] = (
    (r"/system_stats", "GET", ComfyRoutes._system_stats),
    (r"/features", "GET", ComfyRoutes._features),
    (r"/object_info", "GET", ComfyRoutes._object_info),
    (r"/object_info/([^/]+)", "GET", ComfyRoutes._object_info),
    (r"/experiment/models/([^/]+)", "GET", ComfyRoutes._sizes),
    (r"/models", "GET", ComfyRoutes._models),
    (r"/models/([^/]+)", "GET", ComfyRoutes._models),
    (r"/view_metadata/([^/]+)", "GET", ComfyRoutes._view_metadata),
    (r"/embeddings", "GET", lambda fake, call: Reply(200, [])),
    (r"/prompt", "GET", ComfyRoutes._prompt_info),
    (r"/prompt", "POST", ComfyRoutes._post_prompt),
    (r"/queue", "GET", ComfyRoutes._queue),
    (r"/queue", "POST", ComfyRoutes._change_queue),
    (r"/interrupt", "POST", ComfyRoutes._stop_running),
    (r"/history", "GET", ComfyRoutes._get_history),
    (r"/history", "POST", ComfyRoutes._change_history),
    (r"/history/([^/]+)", "GET", ComfyRoutes._get_history),
    (r"/free", "POST", ComfyRoutes._free),
    (r"/internal/logs", "GET", ComfyRoutes._logs),
    (r"/view", "GET", ComfyRoutes._view),
    (r"/upload/image", "POST", ComfyRoutes._upload),
    (r"/api/jobs", "GET", ComfyRoutes._jobs),
    (r"/api/jobs/([^/]+)", "GET", ComfyRoutes._job),
    (r"/api/jobs/([^/]+)/cancel", "POST", ComfyRoutes._cancel_job),
)
