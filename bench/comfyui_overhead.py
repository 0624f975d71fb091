"""How much the ComfyUI engine adds to the barest client that can be written for the same server.

Both draw with the same model on the same ComfyUI, in turns and with seeds nobody used, so nothing is
answered from a cache and a busy machine slows both. The bare client keeps its connections open: POST
/prompt, read the socket until execution_success, read the history, GET /view. The app's time is that of
`POST /api/generate-image` until the picture stands in the gallery, recipe, thumbnails and records on
disk, and comes back as base64; the engine's time is that of the part which talks to ComfyUI.
Goal: a ratio of at most 1.05.

    python -m bench.comfyui_overhead [--url http://127.0.0.1:8188] [--model NAME] [--rounds 20]
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import random
import re
import secrets
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import requests
import websocket

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.figures import median, percentile, save, table  # noqa: E402
from dalla.engines.comfy.graphs import GraphRequest, build  # noqa: E402
from dalla.engines.images.comfyui import ComfyUIEngine  # noqa: E402
from dalla.errors import DallaError  # noqa: E402
from dalla.records.family import FAMILIES  # noqa: E402
from dalla.records.image import ImageRequest  # noqa: E402

PROMPT = "sks person"
SIZES = {"quick": (64, 2), "longer": (64, 20)}
ROOT = Path(__file__).resolve().parent.parent


class Silent:
    """A report that nobody reads."""

    def progress(self, done: float, total: float, message: str = "") -> None: ...
    def preview(self, image: bytes, mime: str) -> None: ...
    def check_cancelled(self) -> None: ...


class Bare:
    """The least a client of ComfyUI has to do."""

    def __init__(self, url: str) -> None:
        self.url, self.id = url, uuid.uuid4().hex
        self.http = requests.Session()
        self.http.trust_env = False
        self.socket = websocket.create_connection(
            f"ws{url.removeprefix('http')}/ws?clientId={self.id}",
            suppress_origin=True,
            http_no_proxy=["*"],
            timeout=600,
        )

    def draw(self, graph: dict[str, Any]) -> bytes:
        prompt_id = str(uuid.uuid4())
        body = {"prompt": graph, "client_id": self.id, "prompt_id": prompt_id}
        self.http.post(f"{self.url}/prompt", json=body).raise_for_status()
        while True:
            message = self.socket.recv()
            if isinstance(message, bytes):
                continue
            event = json.loads(message)
            if event["type"] in ("execution_success", "execution_error") and event["data"]["prompt_id"] == prompt_id:
                break
        while not (entry := self.http.get(f"{self.url}/history/{prompt_id}").json()):
            time.sleep(0.001)
        file = entry[prompt_id]["outputs"]["save0"]["images"][0]
        return self.http.get(f"{self.url}/view", params=file).content


class App:
    """The whole app in its own process, asked over HTTP."""

    def __init__(self, url: str, folder: str) -> None:
        environ = {**os.environ, "COMFYUI_URL": url, "DALLA_DATA_DIR": folder, "PYTHONUNBUFFERED": "1"}
        command = [sys.executable, "app.py", "--no-browser", "--port", "0"]
        self.process = subprocess.Popen(
            command, cwd=ROOT, env=environ, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        assert self.process.stdout is not None
        self.url = re.findall(rb"http://\S+", self.process.stdout.readline())[0].decode()
        self.http = requests.Session()
        self.http.trust_env = False

    def draw(self, wish: dict[str, Any]) -> bytes:
        answer = self.http.post(f"{self.url}/api/generate-image", json=wish, timeout=600)
        if not answer.ok:
            sys.exit(answer.text)
        return base64.b64decode(answer.json()["image"])

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(30)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", default="http://127.0.0.1:8188")
    parser.add_argument("--model", help="a model of the server; by default the first whose family is known")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--only", choices=list(SIZES))
    options = parser.parse_args()
    settings = SimpleNamespace(
        comfyui_url=options.url.rstrip("/"), comfyui_headers={}, comfyui_timeout=600.0, comfyui_lora_dir="",
        model_families={}, loras_dir="loras", models_dir="models",
    )  # fmt: skip
    engine = ComfyUIEngine(settings)
    status = engine.status()
    if not status.available:
        sys.exit(f"{status.reason} {status.remedy}")
    models = [m for m in engine.models() if m.family in ("sd15", "sdxl") and options.model in (None, m.name)]
    if not models:
        sys.exit("The server has no such SD1.5 or SDXL checkpoint.")
    model, family = models[0], FAMILIES[models[0].family or ""]
    bare = Bare(settings.comfyui_url)
    folder = tempfile.TemporaryDirectory()
    app = App(settings.comfyui_url, folder.name)
    rows: list[list[Any]] = []
    figures: dict[str, Any] = {}
    for name in [options.only] if options.only else list(SIZES):
        size, steps = SIZES[name]

        def graph(seed: int, size: int = size, steps: int = steps) -> dict[str, Any]:
            return build(
                family.name,
                GraphRequest(
                    prompt=PROMPT, negative_prompt="", model=model.name, width=size, height=size, steps=steps, seeds=(seed,),
                    sampler="euler", scheduler="normal", prefix=f"dalla/{uuid.uuid4().hex}", cfg_scale=family.cfg_scale,
                ),
            )  # fmt: skip

        def asked(seed: int, size: int = size, steps: int = steps) -> ImageRequest:
            return ImageRequest(
                prompt=PROMPT, negative_prompt="", model=model.name, family=family.name, width=size, height=size, steps=steps,
                seed=seed, sampler="euler", scheduler="normal", cfg_scale=family.cfg_scale,
            )  # fmt: skip

        def by_bare(graph: Callable[[int], Any] = graph) -> bytes:
            return bare.draw(graph(secrets.randbelow(2**40)))

        def by_engine(asked: Callable[[int], ImageRequest] = asked) -> bytes:
            return engine.generate(asked(secrets.randbelow(2**40)), Silent()).images[0]

        def by_app(size: int = size, steps: int = steps) -> bytes:
            return app.draw(
                {
                    "prompt": PROMPT, "model": model.name, "width": size, "height": size, "steps": steps,
                    "seed": secrets.randbelow(2**40), "sampler": "euler", "scheduler": "normal", "engine": "comfyui",
                }
            )  # fmt: skip

        ways = {"bare": by_bare, "engine": by_engine, "app": by_app}
        times: dict[str, list[float]] = {way: [] for way in ways}
        try:
            for number in range(options.rounds + 2):  # the first two rounds warm up
                for way in random.sample(list(ways), len(ways)):
                    start = time.perf_counter()
                    picture = ways[way]()
                    taken = time.perf_counter() - start
                    assert picture.startswith(b"\x89PNG"), way
                    if number >= 2:
                        times[way].append(taken * 1000)
        except DallaError as exc:
            sys.exit(f"{exc.detail} {exc.remedy or ''}")
        # Round by round: what another program takes from all of them cancels out.
        pairs = {w: median([o / b for b, o in zip(times["bare"], times[w], strict=True)]) for w in ("engine", "app")}
        figures[name] = {
            **{w: {"median": median(t), "p90": percentile(t, 90)} for w, t in times.items()},
            "ratio": median(times["app"]) / median(times["bare"]),
            "ratio_of_rounds": pairs["app"],
            "engine_ratio_of_rounds": pairs["engine"],
        }
        rows.append(
            [f"{name} ({size}x{size}, {steps} steps)", *(median(times[w]) for w in ways)]
            + [figures[name]["ratio"], pairs["app"], pairs["engine"]]
        )
    table(
        f"POST to picture, {model.name}, {options.rounds} rounds, ms",
        ["", "bare", "engine", "app", "app/bare", "by rounds", "engine by rounds"],
        rows,
    )
    save("comfyui_overhead", {"model": model.name, "version": status.detail.get("version"), **figures})
    engine.close()
    app.stop()
    folder.cleanup()


if __name__ == "__main__":
    main()
