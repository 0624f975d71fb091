"""One prompt on its way through the pretend ComfyUI's worker: cache, events, progress, saved files."""

from __future__ import annotations

import copy
import hashlib
import json
import re
import threading
from collections.abc import Callable
from typing import Any

from tests.fakes import comfy_nodes
from tests.fakes.comfy_run import NodeFailed, Runner

Json = dict[str, Any]


class Interrupted(Exception):
    """The running prompt was stopped."""


class Dead(Exception):
    """The server was killed under the running prompt."""


class Execution:
    """One prompt on its way through the worker."""

    def __init__(self, fake: Any, id: str, graph: Json, extra: Json, client: str | None, life: threading.Event) -> None:
        self._fake, self._id, self._graph, self._extra, self._client, self._life = fake, id, graph, extra, client, life
        self._values: dict[str, tuple[Any, ...]] = {}
        self._states: dict[str, Json] = {}
        self.now = ""
        wanted = fake.jobs_api and extra.get("preview_method") not in (None, "none", "default")
        self._previews = fake.previews or wanted
        read = lambda name: fake._input_path(name).read_bytes()  # noqa: E731 - one line, used once
        self._runner = Runner(fake.root / "models", read, fake._log, self._step)

    def signatures(self, plan: list[str]) -> dict[str, str]:
        """Return what each node's result depends on; equal means it need not run again."""
        found: dict[str, str] = {}
        for id in plan:
            node = self._graph[id]
            parts: list[Any] = [node["class_type"]]
            for name, value in sorted(node.get("inputs", {}).items()):
                link = isinstance(value, list) and len(value) == 2 and value[0] in found
                parts.append([name, found[value[0]], value[1]] if link else [name, value])
                if node["class_type"] == "LoadImage" and name == "image" and self._fake._has_input(value):
                    parts.append(hashlib.sha256(self._fake._input_path(value).read_bytes()).hexdigest())
            found[id] = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
        return found

    def node(self, id: str, signatures: dict[str, str], cached: bool, output: bool) -> Json | None:
        """Run a node, or take it from the cache; return what an output node tells."""
        fake, signature = self._fake, signatures[id]
        self.now = id
        if cached:
            if not output:
                self._values[id] = fake._cache[signature]
                return None
            told = fake._saved[signature]
            self._event("executed", {"node": id, "display_node": id, "output": told})
            self._state(id, 1, 1, "finished")
            return told
        self._check()
        self._state(id, 0.0, 1.0, "running")
        fake._node_now = {"node": id, "display_node": id}
        self._event("executing", {"node": id, "display_node": id})
        node = self._graph[id]
        inputs = {name: self._input(value) for name, value in node.get("inputs", {}).items()}
        known = comfy_nodes.NODES[node["class_type"]]
        inputs = {k: v for k, v in inputs.items() if k in known.required or k in known.optional}
        told: Json | None = None
        if node["class_type"] in ("SaveImage", "PreviewImage"):
            told = self._save(inputs["images"], inputs.get("filename_prefix"), node["class_type"] == "PreviewImage")
            fake._saved[signature] = told
            self._event("executed", {"node": id, "display_node": id, "output": told})
        else:
            if node["class_type"] in ("KSampler", "SamplerCustomAdvanced"):
                self._ordered_failure()
            self._values[id] = fake._cache[signature] = self._runner.run(node["class_type"], inputs)
        top = self._states[id]["max"]
        self._state(id, top, top, "finished")
        return told

    def _input(self, value: Any) -> Any:
        if isinstance(value, list) and len(value) == 2 and value[0] in self._values:
            return self._values[value[0]][value[1]]
        return value

    def _ordered_failure(self) -> None:
        fake = self._fake
        if fake.oom_next:
            fake.oom_next = False
            raise NodeFailed(
                "Allocation on device 0 would exceed allowed memory. (out of memory)", "torch.OutOfMemoryError"
            )
        if fake.error_next is not None:
            message, fake.error_next = fake.error_next, None
            raise NodeFailed(message)

    def _step(self, value: int, top: int, preview: Callable[[], bytes]) -> None:
        self._check()
        fake = self._fake
        while not fake._gate.wait(0.01):
            self._check()
        if fake.step_seconds:
            fake._interrupt.wait(fake.step_seconds)
        if fake.die_next:
            fake.die_next = False
            threading.Thread(target=fake.die, daemon=True).start()
            self._life.wait(5)
        self._check()
        self._state(self.now, value, top, "running")
        self._event("progress", {"value": value, "max": top, "node": self.now}, everyone=True)
        if self._previews:
            fake._send_preview(self._id, self.now, self._client, preview())

    def _check(self) -> None:
        if self._life.is_set():
            raise Dead
        if self._fake._interrupt.is_set():
            raise Interrupted

    def _event(self, kind: str, data: Json, *, everyone: bool = False) -> None:
        if self._client is not None or everyone:
            self._fake._send(kind, {**data, "prompt_id": self._id}, self._client)

    def _state(self, id: str, value: float, top: float, state: str) -> None:
        names = {
            "node_id": id,
            "prompt_id": self._id,
            "display_node_id": id,
            "parent_node_id": None,
            "real_node_id": id,
        }
        self._states[id] = {"value": value, "max": top, "state": state, **names}
        self._event("progress_state", {"nodes": copy.deepcopy(self._states)}, everyone=True)

    def _save(self, pictures: list[Any], prefix: str | None, temporary: bool) -> Json:
        from PIL.PngImagePlugin import PngInfo

        type = "temp" if temporary else "output"
        prefix = f"ComfyUI_temp_{self._id[:5]}" if temporary or prefix is None else prefix
        base = (self._fake.root / type).resolve()
        target = (base / prefix).resolve() if prefix else base / "."
        if base not in target.parents and target != base:
            raise NodeFailed(
                f"**** ERROR: Saving image outside the output folder is not allowed.\n full_output_folder: {target}",
                "Exception",
            )
        folder = target.parent if prefix else base
        folder.mkdir(parents=True, exist_ok=True)
        stem = target.name if prefix else "."
        numbers = [
            int(m[1]) for p in folder.iterdir() if (m := re.fullmatch(rf"{re.escape(stem)}_(\d+)_\.png", p.name))
        ]
        rows = []
        for number, picture in enumerate(pictures, max(numbers, default=0) + 1):
            info = PngInfo()
            info.add_text("prompt", json.dumps(self._graph))
            for key, value in (self._extra.get("extra_pnginfo") or {}).items():
                info.add_text(key, json.dumps(value))
            name = f"{stem}_{number:05}_.png"
            picture.save(folder / name, pnginfo=info, compress_level=4)
            subfolder = "" if folder == base else folder.relative_to(base).as_posix()
            rows.append({"filename": name, "subfolder": subfolder, "type": type})
        return {"images": rows}
