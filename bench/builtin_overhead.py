"""How much the built-in engine adds to a bare diffusers pipeline.

Both draw the same pictures with the starter model, each in a child process of its own with one thread
(what the engine uses for a model this small), in turns, so that a busy machine slows both. The
engine's time includes its pipe, progress, hashing and PNG. Goal: a ratio of at most 1.05.

    python bench/builtin_overhead.py [--rounds 15] [--steps 20] [--batch 1]

With --batch N the peer draws each picture by itself too: the engine never mixes the pictures of a
batch, so that each can be had again alone, and --joint shows what that costs.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from dalla.engines.images.builtin import BuiltinEngine  # noqa: E402
from dalla.records.image import ImageRequest  # noqa: E402

PROMPT = "a woman with long red hair, smiling, blue background"
PEER = """
import json, sys, time, io
import torch
torch.set_num_threads(1)
from diffusers import StableDiffusionPipeline, UniPCMultistepScheduler
pipe = StableDiffusionPipeline.from_pretrained(sys.argv[1], local_files_only=True, safety_checker=None)
pipe.scheduler = UniPCMultistepScheduler.from_config(pipe.scheduler.config, timestep_spacing="linspace")
pipe.set_progress_bar_config(disable=True)
print("ready", flush=True)
for line in sys.stdin:
    seed, steps, batch, joint = json.loads(line)
    start = time.perf_counter()
    generators = [torch.Generator("cpu").manual_seed(seed + i) for i in range(batch)]
    calls = [generators] if joint else [[g] for g in generators]
    images = []
    for call in calls:
        prompts = [sys.argv[2]] * len(call)
        images += pipe(prompts, num_inference_steps=steps, guidance_scale=4.0, generator=call).images
    for image in images:
        image.save(io.BytesIO(), "PNG")
    print(time.perf_counter() - start, flush=True)
"""


class Silent:
    def progress(self, done: float, total: float, message: str = "") -> None: ...
    def preview(self, image: bytes, mime: str) -> None: ...
    def check_cancelled(self) -> None: ...


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--joint", action="store_true", help="let the peer draw the whole batch at once")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        settings = SimpleNamespace(
            models_dir=ROOT / "models", loras_dir=Path(folder), data_dir=Path(folder), device="cpu", precision="fp32",
            engine_idle_minutes=10.0, model_families={},
        )  # fmt: skip
        engine = BuiltinEngine(settings)
        peer = subprocess.Popen(
            [sys.executable, "-c", PEER, str(ROOT / "models" / "starter"), PROMPT],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert peer.stdin and peer.stdout
        peer.stdout.readline()
        ours, theirs = [], []
        try:
            for number in range(args.rounds + 2):
                request = ImageRequest(
                    prompt=PROMPT, negative_prompt="", model="starter", family="sd15", width=128, height=128,
                    steps=args.steps, seed=number, sampler="uni_pc", scheduler="normal", cfg_scale=4.0,
                    batch_size=args.batch,
                )  # fmt: skip
                start = time.perf_counter()
                engine.generate(request, Silent())
                mine = time.perf_counter() - start
                peer.stdin.write(json.dumps([number, args.steps, args.batch, args.joint]) + "\n")
                peer.stdin.flush()
                other = float(peer.stdout.readline())
                if number >= 2:  # the first two warm up
                    ours.append(mine)
                    theirs.append(other)
        finally:
            peer.stdin.close()
            peer.wait()
            engine.close()
    a, b = statistics.median(ours), statistics.median(theirs)
    ratio = statistics.median(x / y for x, y in zip(ours, theirs, strict=True))
    print(f"built-in engine {a * 1000:.0f} ms, bare diffusers {b * 1000:.0f} ms (medians of {args.rounds} rounds)")
    print(f"ratio {ratio:.3f} (median of the rounds' ratios; goal: at most 1.05)")


if __name__ == "__main__":
    main()
