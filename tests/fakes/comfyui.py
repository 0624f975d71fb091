"""A pretend ComfyUI: real HTTP and WebSocket on 127.0.0.1, real PNGs, no weights.

It behaves as the real server was measured to, its surprises included: `{}` from /history until a
prompt is done, a repeated graph that runs nothing and names the old file, interrupted as "error",
200 with node_errors, 403 for a foreign Origin, LoRAs that load without effect.

Run it alone: `python -m tests.fakes.comfyui --port 8188`.
"""

from __future__ import annotations

import heapq
import json
import struct
import tempfile
import threading
import time
import uuid
from pathlib import Path
from typing import Any

from tests.fakes import comfy_draw, comfy_graph
from tests.fakes.comfy_execution import Dead, Execution, Interrupted
from tests.fakes.comfy_routes import FOLDERS, ComfyRoutes, now
from tests.fakes.comfy_run import NodeFailed
from tests.fakes.server import LoopbackFake, WebSocket

Json = dict[str, Any]


class ComfyFake(ComfyRoutes):
    """`with ComfyFake() as comfy: … comfy.url`.

    Switches, changeable at any time: `step_seconds`, `oom_next`, `error_next`, `die_next`,
    `silent_ws`, `refuse_ws`, `previews`, `disabled_nodes`, and `pause()` / `resume()`, which hold the
    running prompt before its next sampling step.
    """

    def __init__(self, *, root: Path | None = None, jobs_api: bool = True, models: bool = True, **server: Any) -> None:
        super().__init__(**server)
        self.jobs_api = jobs_api
        self.version = "0.33.0" if jobs_api else "0.3.64"
        self.step_seconds = 0.0
        self.oom_next = self.die_next = False
        self.error_next: str | None = None  # the next sampler fails with this sentence
        self.silent_ws = self.refuse_ws = False
        self.previews = False  # as the server flag; 0.33 also per prompt
        self.disabled_nodes: set[str] = set()
        self._temporary = None if root else tempfile.TemporaryDirectory(prefix="comfy-fake-")
        self.root = root or Path(self._temporary.name)  # type: ignore[union-attr]
        for name in FOLDERS:
            (self.root / "models" / name).mkdir(parents=True, exist_ok=True)
        for name in ("input", "output", "temp"):
            (self.root / name).mkdir(exist_ok=True)
        if models:
            self._default_models()
        self._gate = threading.Event()
        self._gate.set()
        self._forget()

    # ------------------------------------------------------------ for tests

    @property
    def loras_dir(self) -> Path:
        return self.root / "models" / "loras"

    def add_model(self, name: str, family: str, *, folder: str = "checkpoints") -> Path:
        """Put a model file on the server. Its name should hold sdxl, sd3 or flux unless it is SD1.5."""
        return self._put(folder, name, comfy_draw.model_file(family, whole=folder == "checkpoints"))

    def add_lora(self, name: str, family: str = "sd15", style: str = "kohya", **more: Any) -> Path:
        """Put a LoRA on the server. Styles: kohya, comfy, diffusers, peft."""
        return self._put("loras", name, comfy_draw.lora_file(family, style, **more))

    def pause(self) -> None:
        """Hold the running prompt, or the next one, before its next sampling step."""
        self._gate.clear()

    def resume(self) -> None:
        self._gate.set()

    @property
    def running(self) -> list[str]:
        """The id of the prompt being executed, if any."""
        with self._lock:
            return [self._current[1]] if self._current else []

    @property
    def sockets(self) -> list[WebSocket]:
        with self._lock:
            return list(self._sockets.values())

    def drop_websockets(self) -> None:
        """Cut every socket, as a restart does: without a close frame."""
        for ws in self.sockets:
            ws.drop()

    def die(self) -> None:
        """End as if killed: the port closes, sockets and requests break, the running prompt is gone."""
        with self._lock:
            self._life.set()
            self._wake.notify_all()
        self._interrupt.set()
        LoopbackFake.stop(self)

    def restart(self) -> None:
        """Die and come back on the same port: queue, history and temp files are forgotten; outputs stay."""
        self.die()
        self._join()
        for path in (self.root / "temp").glob("*"):
            path.unlink()
        self._forget()
        self.start()

    # ------------------------------------------------------------ life

    def start(self) -> ComfyFake:
        if self._life.is_set():
            self._forget()
        super().start()
        self._worker = threading.Thread(target=self._work, args=(self._life,), daemon=True, name="fake-worker")
        self._worker.start()
        return self

    def stop(self) -> None:
        self.die()
        self._join()
        if self._temporary:
            self._temporary.cleanup()

    def _join(self) -> None:
        if self._worker and self._worker is not threading.current_thread():
            self._worker.join(5)

    def _forget(self) -> None:
        self._life = threading.Event()  # set when this life is over
        self._interrupt = threading.Event()
        self._wake = threading.Condition(self._lock)
        self._worker: threading.Thread | None = None
        self._number = 0
        self._pending: list[tuple[float, str, Json, Json, list[str]]] = []
        self._current: tuple[float, str, Json, Json, list[str]] | None = None
        self._times: dict[str, dict[str, int]] = {}
        self._history: dict[str, Json] = {}
        self._cache: dict[str, tuple[Any, ...]] = {}
        self._saved: dict[str, Json] = {}  # signature of an output node -> what it told
        self._sockets: dict[str, WebSocket] = {}
        self._log_lines: list[str] = []

    def _default_models(self) -> None:
        for name, family in (("sd15.safetensors", "sd15"), ("sdxl.safetensors", "sdxl"), ("sd3.safetensors", "sd3")):
            self.add_model(name, family)
        self.add_model("flux1-dev-fp8.safetensors", "flux")
        self.add_model("flux1-dev.safetensors", "flux", folder="diffusion_models")
        for folder, name in (
            ("text_encoders", "clip_l.safetensors"),
            ("text_encoders", "clip_g.safetensors"),
            ("text_encoders", "t5xxl_fp16.safetensors"),
            ("vae", "ae.safetensors"),
            ("upscale_models", "2x-plain.safetensors"),
        ):
            self._put(folder, name, comfy_draw.safetensors({"weight": ("F32", [1], bytes(4))}))
        self.add_lora("style_sd15.safetensors", "sd15")
        self.add_lora("style_sdxl.safetensors", "sdxl")
        self.add_lora("style_flux.safetensors", "flux")

    def _put(self, folder: str, name: str, data: bytes) -> Path:
        path = self.root / "models" / folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return path

    def folders(self) -> dict[str, list[str]]:
        """What lies in the model folders and in input/ right now."""
        found = {}
        for name in FOLDERS:
            folder = self.root / "models" / name
            found[name] = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*.safetensors"))
        found["input"] = sorted(p.name for p in (self.root / "input").iterdir() if p.is_file())
        return found

    # ------------------------------------------------------------ events

    def websocket_opened(self, ws: WebSocket) -> None:
        ws.client_id = ws.client_id or uuid.uuid4().hex
        with self._lock:
            self._sockets[ws.client_id] = ws
            current = self._current
        ws.send(json.dumps({"type": "status", "data": {"status": self._exec_info(), "sid": ws.client_id}}))
        if current and current[3].get("client_id") == ws.client_id:
            self._send(
                "executing",
                {"node": None, "display_node": None, "prompt_id": current[1]} | self._node_now,
                ws.client_id,
            )

    def websocket_text(self, ws: WebSocket, text: str) -> None:
        message = json.loads(text)
        if message.get("type") == "feature_flags":
            ws.flags = message.get("data") or {}
            ws.send(
                json.dumps(
                    {
                        "type": "feature_flags",
                        "data": {"supports_preview_metadata": True, "max_upload_size": self.max_body},
                    }
                )
            )

    def websocket_closed(self, ws: WebSocket) -> None:
        with self._lock:
            self._sockets.pop(ws.client_id, None)  # even when a newer socket took the id: the real server's bug

    def _send(self, kind: str, data: Json, client_id: str | None) -> None:
        """Send to one client; without one, to all (as the real server does for some events)."""
        if self.silent_ws:
            return
        text = json.dumps({"type": kind, "data": data})
        for ws in self.sockets:
            if client_id is None or ws.client_id == client_id:
                ws.send(text)

    def _broadcast_status(self) -> None:
        self._send("status", {"status": self._exec_info()}, None)

    def _send_preview(self, id: str, node: str, client_id: str | None, jpeg: bytes) -> None:
        for ws in [] if self.silent_ws else self.sockets:
            if client_id is not None and ws.client_id != client_id:
                continue
            if ws.flags.get("supports_preview_metadata"):
                meta = {
                    "node_id": node,
                    "prompt_id": id,
                    "display_node_id": node,
                    "parent_node_id": None,
                    "real_node_id": node,
                }
                head = json.dumps({**meta, "image_type": "image/jpeg"}).encode()
                ws.send(struct.pack(">II", 4, len(head)) + head + jpeg)
            else:
                ws.send(struct.pack(">II", 1, 1) + jpeg)

    # ------------------------------------------------------------ the worker

    def _work(self, life: threading.Event) -> None:
        while not life.is_set():
            with self._lock:
                while not self._pending and not life.is_set():
                    self._wake.wait(0.2)
                if life.is_set():
                    return
                self._current = item = heapq.heappop(self._pending)
                self._interrupt.clear()
            self._broadcast_status()
            try:
                self._execute(item, life)
            except Dead:
                return

    def _execute(self, item: tuple[float, str, Json, Json, list[str]], life: threading.Event) -> None:
        _, id, graph, extra, outputs = item
        client = extra.get("client_id")
        began = time.monotonic()
        self._log("got prompt")
        self._times.setdefault(id, {})["start"] = now()
        messages: list[list[Any]] = []
        told: dict[str, Json] = {}
        done: list[str] = []

        def say(kind: str, data: Json, *, everyone: bool = False) -> None:
            data = {**data, "prompt_id": id, "timestamp": now()}
            messages.append([kind, data])
            if client is not None or everyone:
                self._send(kind, data, client)

        run = Execution(self, id, graph, extra, client, life)
        say("execution_start", {})
        plan = comfy_graph.order(graph, outputs)
        signatures = run.signatures(plan)
        cached = [n for n in plan if signatures[n] in (self._saved if n in outputs else self._cache)]
        say("execution_cached", {"nodes": cached})
        try:
            for node in plan:
                told_now = run.node(node, signatures, node in cached, node in outputs)
                if told_now is not None:
                    told[node] = told_now
                done.append(node)
            say("execution_success", {})
        except Interrupted:
            node = run.now
            facts = {"node_id": node, "node_type": graph[node]["class_type"], "executed": done}
            say("execution_interrupted", facts, everyone=True)
        except NodeFailed as exc:
            node = run.now
            inputs = {k: [str(v)] for k, v in graph[node].get("inputs", {}).items()}
            facts = {
                "node_id": node,
                "node_type": graph[node]["class_type"],
                "executed": done,
                "exception_message": f"{exc}\n",
            }
            facts |= {"exception_type": exc.type, "traceback": ["  File execution.py\n"], "current_inputs": inputs}
            say("execution_error", {**facts, "current_outputs": done})
            self._log(f"!!! Exception during processing !!! {exc}")
        success = messages[-1][0] == "execution_success"
        with self._lock:
            if life.is_set():
                raise Dead
            self._cache = {s: v for s, v in self._cache.items() if s in signatures.values()}
            self._saved = {s: v for s, v in self._saved.items() if s in signatures.values()}
            self._times[id]["end"] = now()
            meta = {n: {"node_id": n, "display_node": n, "parent_node": None, "real_node_id": n} for n in told}
            status = {"status_str": "success" if success else "error", "completed": success, "messages": messages}
            self._history[id] = {"prompt": list(item), "outputs": told, "status": status, "meta": meta}
            self._current = None
        self._log(f"Prompt executed in {time.monotonic() - began:.2f} seconds")
        self._broadcast_status()
        if client is not None:
            self._send("executing", {"node": None, "prompt_id": id}, client)

    _node_now: Json = {}

    def _log(self, text: str) -> None:
        with self._lock:
            self._log_lines.append(f"{time.strftime('%Y-%m-%dT%H:%M:%S')} - {text}\n")
            del self._log_lines[:-300]


def main() -> None:
    """Run until Ctrl-C."""
    import argparse

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, default=8188)
    parser.add_argument("--root", type=Path, help="folder with models/, input/, output/ (default: a temporary one)")
    parser.add_argument("--step-seconds", type=float, default=0.1)
    parser.add_argument("--old", action="store_true", help="behave like 0.3.64 instead of 0.33.0")
    args = parser.parse_args()
    with ComfyFake(port=args.port, root=args.root, jobs_api=not args.old) as fake:
        fake.step_seconds = args.step_seconds
        print(f"Pretend ComfyUI {fake.version} at {fake.url}  (Ctrl-C ends it)", flush=True)
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            print()


if __name__ == "__main__":
    main()
