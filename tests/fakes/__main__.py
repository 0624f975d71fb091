"""The dashboard beside a pretend ComfyUI, Instagram, X and Gemini (`make fakes`).

Pictures appear and posts are published, and nothing leaves this machine. Any key is taken. The data lies in
.fakes-data/, apart from the real one. Ctrl-C ends all of them.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
from pathlib import Path

from tests.fakes.comfyui import ComfyFake
from tests.fakes.gemini import GeminiFake
from tests.fakes.graph import GraphFake
from tests.fakes.x import XFake

ROOT = Path(__file__).resolve().parents[2]


def main() -> int:
    """Start both, wait for either to end."""
    parser = argparse.ArgumentParser(prog="python -m tests.fakes", description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, default=5050, help="port of the dashboard")
    parser.add_argument("--comfyui-port", type=int, default=0, help="port of the pretend ComfyUI (0: any free one)")
    parser.add_argument("--step-seconds", type=float, default=0.1, help="how long one sampling step takes")
    args = parser.parse_args()
    data = ROOT / ".fakes-data"
    signal.signal(signal.SIGTERM, _as_ctrl_c)
    with (
        ComfyFake(root=data / "comfyui", port=args.comfyui_port) as comfy,
        GraphFake(open=True) as graph,
        XFake(open=True) as x,
        GeminiFake(open=True) as gemini,
    ):
        comfy.step_seconds = args.step_seconds
        environ = {
            **os.environ,
            "COMFYUI_URL": comfy.url,
            "COMFYUI_LORA_DIR": str(comfy.loras_dir),
            "INSTAGRAM_GRAPH_URL": graph.url,
            "PUBLIC_BASE_URL": f"http://127.0.0.1:{args.port}",
            "X_API_URL": x.url,
            "GEMINI_BASE_URL": gemini.url,
            "GEMINI_API_KEY": gemini.key,
            "DALLA_DATA_DIR": str(data / "data"),
            "DALLA_TRAINING_DATA_DIR": str(data / "training_data"),
            "DALLA_LORAS_DIR": str(data / "loras"),
        }
        print(f"Pretend ComfyUI {comfy.version} at {comfy.url}", flush=True)
        print(f"Pretend Instagram at {graph.url}, X at {x.url}, Gemini at {gemini.url}", flush=True)
        command = [sys.executable, str(ROOT / "app.py"), "--no-browser", "--port", str(args.port)]
        app = subprocess.Popen(command, cwd=ROOT, env=environ)
        try:
            return app.wait()
        except KeyboardInterrupt:
            app.terminate()
            return app.wait(30)


def _as_ctrl_c(number: int, frame: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
