"""How long a full build takes on this machine, from a few steps of every stage.

    python -m tools.starter_model.estimate [--threads 2]

Every stage runs with the batches of the full plan but few steps. Counted is processor time of all cores, which other
programs on the machine change little: two cores that are left alone need about half of the sum.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from dalla.diffusion.workers import Workers, usable
from tools.starter_model import build, networks
from tools.starter_model.hardware import computes_bf16
from tools.starter_model.plan import FULL, Plan
from tools.starter_model.training import Work

#: Few of everything, but the full plan's batches, so that a step costs what it costs there.
SMALL = replace(
    FULL, avatars=96, shapes=16, tokenizer_captions=1_500, text_captions=600, vae_steps=12, text_steps=24, unet_steps=10,
    decoder_steps=8,
)  # fmt: skip
#: Which number of the plan a stage's time grows with, and whether it is counted in optimizer steps.
GROWS: dict[str, tuple[str, bool]] = {
    "data": ("avatars", False), "tokenizer": ("tokenizer_captions", False), "vae": ("vae_steps", True),
    "text_encoder": ("text_steps", True), "latents": ("avatars", False), "unet": ("unet_steps", True),
    "decoder": ("decoder_steps", True),
}  # fmt: skip


@dataclass(frozen=True)
class Cost:
    """What a stage costs: seconds of processor time for one unit, and how many units the plan has."""

    stage: str
    unit: str
    each: float
    count: int

    @property
    def seconds(self) -> float:
        return self.each * self.count


def costs(
    folder: Path, *, plan: Plan = FULL, small: Plan = SMALL, half: bool | None = None, threads: int = 1
) -> list[Cost]:
    """Run a small build in a folder and return every stage's cost in the plan."""
    from torch.optim.optimizer import register_optimizer_step_post_hook

    stage, began = "", 0.0
    steps: dict[str, list[float]] = {}
    spent: dict[str, float] = {}

    def say(line: str) -> None:
        nonlocal stage, began
        if line.startswith("["):  # the heading of the next stage
            now = time.process_time()
            if stage:
                spent[stage] = now - began
            stage, began = line.split()[1], now

    hook = register_optimizer_step_post_hook(lambda *_: steps.setdefault(stage, []).append(time.process_time()))
    try:
        cpu = torch.device("cpu")
        half = computes_bf16("cpu") if half is None else half
        build.build(Work(folder / "work", 1, cpu, half, say, workers=Workers(threads)), small, folder / "out")
    finally:
        hook.remove()
    found = []
    for name, (unit, counted) in GROWS.items():
        if counted:  # the first step also pays for what is set up once
            times = steps[name]
            each = (times[-1] - times[0]) / max(1, len(times) - 1)
        else:
            each = spent[name] / getattr(small, unit)
        found.append(Cost(name, unit, each, getattr(plan, unit)))
    return found


def main(argv: list[str] | None = None) -> int:
    """Run the command line."""
    p = argparse.ArgumentParser(prog="python -m tools.starter_model.estimate", description=__doc__.split("\n")[0])
    p.add_argument("--threads", type=int, default=usable(), help="(default: %(default)s)")
    args = p.parse_args(argv)
    tuned = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**34), "MALLOC_TOP_PAD_": str(2**28)}
    if argv is None and sys.platform == "linux" and not all(name in os.environ for name in tuned):
        os.environ.update(tuned)  # as a real build sets them
        os.execv(sys.executable, [sys.executable, "-m", "tools.starter_model.estimate", *sys.argv[1:]])
    networks.quiet()
    with tempfile.TemporaryDirectory() as name:
        rows = costs(Path(name), threads=args.threads)
    for row in rows:
        print(f"{row.stage:13} {row.each * 1000:9.1f} ms x {row.count:6,} {row.unit:18} {row.seconds / 60:6.1f} min")
    print(f"processor time: {sum(row.seconds for row in rows) / 60:.0f} minutes, {args.threads} thread(s), "
          f"{'bfloat16' if computes_bf16('cpu') else 'float32'}")  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
