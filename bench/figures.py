"""What the benches share: medians, a small table, and a line of JSON per run in bench/results/."""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


def milliseconds(work: Callable[[], Any], repeats: int) -> list[float]:
    """Return how long each call took, sorted."""
    taken = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        taken.append((time.perf_counter() - start) * 1000)
    return sorted(taken)


def median(values: list[float]) -> float:
    return statistics.median(values)


def percentile(values: list[float], percent: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def table(title: str, header: list[str], rows: list[list[Any]]) -> None:
    """Print the rows below each other, figures to the right."""
    cells = [header, *[[f"{cell:.3g}" if isinstance(cell, float) else str(cell) for cell in row] for row in rows]]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    print(f"\n{title}")
    for row in cells:
        print(
            "  "
            + row[0].ljust(widths[0])
            + "".join("  " + cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True))
        )


def save(name: str, figures: Any) -> None:
    """Append the figures with the time and the machine they were taken on."""
    RESULTS.mkdir(exist_ok=True)
    line = {
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "python": platform.python_version(),
        "system": platform.system(),
        "cores": os.cpu_count(),
        "figures": figures,
    }
    with open(RESULTS / f"{name}.json", "a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")
