"""python -m tools.starter_model --out models/mine"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path


def parser() -> argparse.ArgumentParser:
    """Return the command line's options."""
    p = argparse.ArgumentParser(
        prog="python -m tools.starter_model",
        description="Draw the data, train the parts and write a model like models/starter. Stopped? Start it again.",
    )
    p.add_argument("--out", type=Path, required=True, help="folder of the finished model; must not exist")
    p.add_argument("--work", type=Path, help="folder for everything in between, about 2.5 GB (default: <out>.work)")
    p.add_argument("--quick", action="store_true", help="every stage in seconds; the model draws noise")
    p.add_argument("--seed", type=int, default=1, help="decides every picture and every step (default: 1)")
    p.add_argument("--device", default="auto", help="auto, cpu, cuda … (default: auto)")
    p.add_argument("--threads", type=int, help="CPU threads (default: one per core, at most 4)")
    p.add_argument("--precision", choices=("auto", "bf16", "fp32"), default="auto", help="what is computed in")
    return p


def main(argv: list[str] | None = None) -> int:
    """Run the command line; return 0, 1 (failed) or 130 (stopped)."""
    args = parser().parse_args(argv)
    # Without these half of the time on a CPU goes into returning memory and asking for it again. The C library
    # reads them when the process starts, hence the new one.
    tuned = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**34), "MALLOC_TOP_PAD_": str(2**28)}
    if argv is None and sys.platform == "linux" and not all(name in os.environ for name in tuned):
        os.environ.update({name: os.environ.get(name, value) for name, value in tuned.items()})
        os.execv(sys.executable, [sys.executable, "-m", "tools.starter_model", *sys.argv[1:]])
    if args.out.exists():
        print(f"{args.out} is there already. Give another --out, or delete it first.", file=sys.stderr)
        return 1
    import torch

    from dalla.diffusion.workers import Workers, usable
    from tools.starter_model import build, measure, networks
    from tools.starter_model.hardware import computes_bf16
    from tools.starter_model.plan import FULL, QUICK
    from tools.starter_model.training import Work

    networks.quiet()
    name = args.device if args.device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
    plan, began = (QUICK if args.quick else FULL), time.monotonic()

    def say(line: str) -> None:
        seconds = int(time.monotonic() - began)
        print(f"{seconds // 3600}:{seconds // 60 % 60:02d}:{seconds % 60:02d}  {line}", flush=True)

    folder = args.work or args.out.with_name(f"{args.out.name}.work")
    try:
        device = torch.device(name)
        half = computes_bf16(device.type) if args.precision == "auto" else args.precision == "bf16"
        workers = Workers(args.threads or (usable() if device.type == "cpu" else 1))
        work = Work(folder, args.seed, device, half, say, workers=workers)
        figures = build.build(work, plan, args.out)
        size = f"{figures['bytes'] / 2**20:.1f} MiB"
        say(f"{size} in {args.out}; float16 weights change a picture by up to {figures['rounding']} of 255")
        for line in measure.prompt_lines(args.out, count=plan.measured, seed=args.seed):
            say(line)
    except KeyboardInterrupt:
        print("Stopped. The same command goes on from here.", file=sys.stderr)
        return 130
    except (OSError, RuntimeError, FloatingPointError) as exc:
        print(f"Failed: {exc}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
