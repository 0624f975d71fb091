"""Run every bench in turn: `make bench`, or `python -m bench startup documents` for some."""

from __future__ import annotations

import runpy
import sys

BENCHES = (
    "startup",
    "documents",
    "gallery",
    "datasets",
    "dataset_import",
    "scheduler_tasks",
    "publishing",
    "builtin_overhead",
    "comfyui_overhead",
    "training_step",
)

for name in sys.argv[1:] or BENCHES:
    if name not in BENCHES:
        sys.exit(f"There is no bench called {name}. There are: {', '.join(BENCHES)}.")
    print(f"\n===== {name}", flush=True)
    sys.argv = [name]
    try:
        runpy.run_module(f"bench.{name}", run_name="__main__")
    except SystemExit as exc:  # a bench that lacks its server says so and the others go on
        if exc.code not in (None, 0):
            print(exc.code)
