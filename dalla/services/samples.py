"""CPU, memory, GPU, disk and queue depth: two minutes exactly, an hour and a day in steps.

Every two seconds something is measured and told to the browser. Whole steps of 20 seconds and five
minutes are kept as one point each, in memory, and written to a small file so that a restart does not
lose the day.
"""

from __future__ import annotations

import contextlib
import logging
import shutil
import threading
import time
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from dalla.errors import DallaError, InvalidInput
from dalla.events import EventBus
from dalla.paths import write_atomic
from dalla.times import iso, now_iso, parse

logger = logging.getLogger(__name__)

SAMPLE_SECONDS = 2.0
#: Name of a span -> (seconds it covers, seconds of one point).
SPANS: dict[str, tuple[int, float]] = {"2m": (120, SAMPLE_SECONDS), "1h": (3600, 20), "24h": (86_400, 300)}
SAVE_SECONDS = 300
#: Of these the highest value of a step is kept; of other numbers the mean; of everything else the last.
_PEAKS = frozenset({"queued", "running", "gpuTemperature"})
_LAST = frozenset({"memoryTotal", "diskFree", "diskTotal", "gpuMemoryTotal"})


class Steps:
    """Points of one span: whole steps, each made of the samples that fell into it."""

    def __init__(self, span: str) -> None:
        seconds, self.every = SPANS[span]
        self.seconds = seconds
        self._points: deque[dict[str, Any]] = deque(maxlen=round(seconds / self.every))
        self._step: int | None = None
        self._collected: list[dict[str, Any]] = []

    def add(self, sample: dict[str, Any], at: float) -> None:
        """Take one sample measured at `at` (seconds since 1970)."""
        step = int(at // self.every)
        if step != self._step:
            if self._collected:
                self._points.append(merged(self._collected))
            self._step, self._collected = step, []
        self._collected.append(sample)

    def points(self, now: float) -> list[dict[str, Any]]:
        """Return the points of the last `seconds`, oldest first; the step that is under way is the last one."""
        under_way = [merged(self._collected)] if self._collected else []
        oldest = iso(datetime.fromtimestamp(now - self.seconds, UTC))
        return [point for point in (*self._points, *under_way) if point["at"] >= oldest]

    def restore(self, points: list[dict[str, Any]]) -> None:
        self._points.extend(points)


def merged(samples: list[dict[str, Any]]) -> dict[str, Any]:
    """Make one point of several samples, at the time of the last one."""
    point: dict[str, Any] = {}
    for sample in samples:
        point.update(sample)
    for key, last in point.items():
        if isinstance(last, bool) or not isinstance(last, int | float) or key in _LAST:
            continue
        values = [sample[key] for sample in samples if key in sample]
        mean = max(values) if key in _PEAKS else sum(values) / len(values)
        point[key] = round(mean) if isinstance(last, int) else round(mean, 2)
    return point


class Samples:
    """Measures every two seconds and answers the three spans."""

    def __init__(
        self,
        data_dir: Path,
        events: EventBus,
        *,
        depth: Callable[[], dict[str, int]] = dict,
        every: float = SAMPLE_SECONDS,
        keep: int = 60,
    ) -> None:
        """`depth` answers {"queued", "running"} of the background tasks."""
        self._data_dir = data_dir
        self._events = events
        self._depth = depth
        self._every = every
        self._kept: deque[dict[str, Any]] = deque(maxlen=keep)
        self._steps = {span: Steps(span) for span in ("1h", "24h")}
        self._lock = threading.Lock()
        self._saved_at = time.monotonic()
        self._loaded = False
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._smi = shutil.which("nvidia-smi")
        self._gpu: dict[str, Any] = {}
        self._gpu_at = 0.0

    @property
    def file(self) -> Path:
        """Where the hour and the day are kept over restarts."""
        return self._data_dir / "logs" / "samples.json"

    # ------------------------------------------------------------ life

    def start(self) -> None:
        self._stop.clear()
        self._load()
        self._thread = threading.Thread(target=self._run, name="samples", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join(5)
            self._thread = None
            self.save()

    def _run(self) -> None:
        while not self._stop.wait(self._every):
            try:
                sample = self.take()
            except Exception:  # noqa: BLE001 - a missing sample is a gap in a chart, no more
                logger.debug("sample failed", exc_info=True)
                continue
            self.keep(sample)
            self._events.publish("system.sample", sample)
            if time.monotonic() - self._saved_at >= SAVE_SECONDS:
                self.save()

    def keep(self, sample: dict[str, Any]) -> None:
        """Add a sample to every span."""
        at = parse(sample["at"]).timestamp()
        with self._lock:
            self._kept.append(sample)
            for steps in self._steps.values():
                steps.add(sample, at)

    # ------------------------------------------------------------ reading

    def all(self) -> list[dict[str, Any]]:
        with self._lock:
            return list(self._kept)

    def latest(self) -> dict[str, Any]:
        return self._kept[-1] if self._kept else self.take()

    def span(self, name: str) -> dict[str, Any]:
        """Return {"span", "everySeconds", "samples"} of 2m, 1h or 24h, oldest first. Raises InvalidInput."""
        if name not in SPANS:
            raise InvalidInput.field("span", f"Use {', '.join(SPANS)}.")
        with self._lock:
            samples = list(self._kept) if name == "2m" else self._steps[name].points(time.time())
        return {"span": name, "seconds": SPANS[name][0], "everySeconds": SPANS[name][1], "samples": samples}

    # ------------------------------------------------------------ keeping

    def save(self) -> None:
        """Write the hour and the day. A disk that refuses costs the charts of before the restart, no more."""
        self._saved_at = time.monotonic()
        with self._lock:
            content = {span: steps.points(time.time()) for span, steps in self._steps.items()}
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(self.file, orjson.dumps(content), durable=False)
        except OSError as exc:
            logger.debug("the samples could not be kept: %s", exc)

    def _load(self) -> None:
        if self._loaded:
            return
        self._loaded = True
        try:
            content = orjson.loads(self.file.read_bytes())
            known = {span: [p for p in content.get(span, []) if _is_point(p)] for span in self._steps}
        except (OSError, ValueError, AttributeError, TypeError):
            return
        with self._lock:
            for span, steps in self._steps.items():
                steps.restore(known[span])

    # ------------------------------------------------------------ measuring

    def take(self) -> dict[str, Any]:
        """Measure now: percentages 0-100, sizes in bytes."""
        import psutil

        memory = psutil.virtual_memory()
        sample: dict[str, Any] = {
            "at": now_iso(),
            "cpu": psutil.cpu_percent(None),
            "memoryUsed": memory.total - memory.available,
            "memoryTotal": memory.total,
            "processMemory": psutil.Process().memory_info().rss,
        }
        try:
            disk = shutil.disk_usage(self._data_dir)
            sample |= {"diskFree": disk.free, "diskTotal": disk.total}
        except OSError:
            pass
        with contextlib.suppress(DallaError):  # the status says what is wrong with the database
            sample.update(self._depth())
        sample.update(self._read_gpu())
        return sample

    def _read_gpu(self) -> dict[str, Any]:
        """Ask nvidia-smi at most every four seconds; nothing where there is none."""
        if self._smi is None or time.monotonic() - self._gpu_at < 4:
            return self._gpu
        import subprocess

        self._gpu_at = time.monotonic()
        query = "name,utilization.gpu,memory.used,memory.total,temperature.gpu"
        try:
            answer = subprocess.run(
                [self._smi, f"--query-gpu={query}", "--format=csv,noheader,nounits"],
                capture_output=True,
                text=True,
                timeout=3,
                check=True,
            ).stdout.splitlines()[0]
            name, load, used, total, celsius = (part.strip() for part in answer.split(","))
            self._gpu = {
                "gpuName": name,
                "gpu": float(load),
                "gpuMemoryUsed": int(float(used) * 2**20),
                "gpuMemoryTotal": int(float(total) * 2**20),
                "gpuTemperature": float(celsius),
            }
        except (OSError, subprocess.SubprocessError, ValueError, IndexError):
            self._gpu = {}
        return self._gpu


def _is_point(point: Any) -> bool:
    try:
        parse(point["at"])
    except (TypeError, KeyError, ValueError):
        return False
    return True
