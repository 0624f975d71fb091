"""What Prometheus reads at `/metrics`: requests as they are counted, everything else as it is at that moment.

A request costs one dictionary look-up and an addition under a lock. prometheus_client is imported by the first
reading, so an app that nobody watches never loads it. Names and units keep to Prometheus' conventions.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Callable, Iterator
from typing import Any

import dalla
from dalla.errors import DallaError
from dalla.jobs.base import JobQueue, TaskStore
from dalla.services.gallery import Gallery
from dalla.services.system import System
from dalla.stores.base import PostStore
from dalla.times import parse

#: Upper ends of the histogram of durations, seconds.
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class Requests:
    """Counts and durations of requests by method, route and status. Safe for several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[tuple[str, str, int], int] = {}
        self._durations: dict[tuple[str, str], list[float]] = {}  # per bucket how many, then their sum

    def add(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one answered request. `route` is the rule ("/api/media/<id>"), never the path."""
        method = method if method in _METHODS else "OTHER"  # anybody may invent methods
        bucket = bisect_left(BUCKETS, seconds)
        with self._lock:
            key = (method, route, status)
            self._counts[key] = self._counts.get(key, 0) + 1
            durations = self._durations.get((method, route))
            if durations is None:
                durations = self._durations[(method, route)] = [0.0] * (len(BUCKETS) + 2)
            durations[bucket] += 1
            durations[-1] += seconds

    def snapshot(self) -> tuple[dict[tuple[str, str, int], int], dict[tuple[str, str], list[float]]]:
        with self._lock:
            return dict(self._counts), {key: list(values) for key, values in self._durations.items()}


class Metrics:
    """The whole page of figures, under a registry of its own."""

    def __init__(self, tasks: TaskStore, jobs: JobQueue, posts: PostStore, media: Gallery, system: System) -> None:
        self._tasks = tasks
        self._jobs = jobs
        self._posts = posts
        self._media = media
        self._system = system
        self.requests = Requests()
        self._registry: Any = None
        self._lock = threading.Lock()

    def text(self, accept: str) -> tuple[bytes, str]:
        """Return the figures and their content type, in the form `accept` (the request's header) asks for."""
        from prometheus_client import CollectorRegistry
        from prometheus_client.exposition import choose_encoder

        with self._lock:
            if self._registry is None:
                self._registry = CollectorRegistry(auto_describe=False)
                self._registry.register(self)
        encode, content_type = choose_encoder(accept)
        return encode(self._registry), content_type

    def collect(self) -> Iterator[Any]:
        """Yield every family of figures. What cannot be read right now is left out, not made up."""
        parts: tuple[Callable[[], Iterator[Any]], ...] = (
            self._build,
            self._http,
            self._work,
            self._lanes,
            self._content,
            self._components,
            self._process,
        )
        for part in parts:
            try:
                yield from list(part())
            except DallaError:  # dalla_component_up tells of the database
                continue

    def _build(self) -> Iterator[Any]:
        import platform

        labels = {"version": dalla.__version__, "python": platform.python_version()}
        yield _gauge("dalla_build_info", "Version of the app and of Python.", [(labels, 1)])

    def _http(self) -> Iterator[Any]:
        from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily

        counts, durations = self.requests.snapshot()
        total = CounterMetricFamily(
            "dalla_http_requests", "Answered requests by route.", labels=("method", "route", "status")
        )
        for (method, route, status), count in sorted(counts.items()):
            total.add_metric((method, route, str(status)), count)
        yield total
        timed = HistogramMetricFamily(
            "dalla_http_request_duration_seconds",
            "Time until the answer began, by route.",
            labels=("method", "route"),
        )
        for (method, route), values in sorted(durations.items()):
            running, buckets = 0.0, []
            for end, found in zip((*map(str, BUCKETS), "+Inf"), values[:-1], strict=True):
                running += found
                buckets.append((end, running))
            timed.add_metric((method, route), buckets, values[-1])
        yield timed

    def _work(self) -> Iterator[Any]:
        rows: list[Row] = [
            ({"kind": kind, "status": status}, count) for kind, status, count in sorted(self._tasks.kinds())
        ]
        yield _gauge("dalla_tasks", "Background tasks by kind and status.", rows, ("kind", "status"))
        quarantined = self._tasks.page(quarantined=True, limit=1)[2]
        yield _gauge("dalla_tasks_quarantined", "Tasks that ended the program twice.", [({}, quarantined)])

    def _lanes(self) -> Iterator[Any]:
        depth = self._tasks.depth()
        lanes = self._jobs.workers()
        names = sorted({lane["lane"] for lane in lanes} | set(depth))
        counts = {name: depth.get(name, {}) for name in names}
        rows: list[Row] = [({"lane": name}, counts[name].get("queued", 0)) for name in names]
        yield _gauge("dalla_queue_depth", "Tasks that wait, by lane.", rows, ("lane",))
        rows = [({"lane": name}, counts[name].get("running", 0)) for name in names]
        yield _gauge("dalla_queue_running", "Tasks that run, by lane.", rows, ("lane",))
        rows = [({"lane": lane["lane"]}, lane["alive"]) for lane in lanes]
        yield _gauge("dalla_queue_workers", "Workers that live, by lane.", rows, ("lane",))

    def _content(self) -> Iterator[Any]:
        rows: list[Row] = [
            ({"platform": platform, "status": status}, count)
            for platform, status, count in sorted(self._posts.counts_by_platform())
        ]
        yield _gauge("dalla_posts", "Posts by platform and status.", rows, ("platform", "status"))
        media = sum(self._media.counts().values())
        yield _gauge("dalla_media_items", "Pictures and videos outside the trash.", [({}, media)])

    def _components(self) -> Iterator[Any]:
        status = self._system.status()
        components = {
            name: part
            for name, part in status.items()
            if isinstance(part, dict) and "status" in part and "since" in part
        }
        rows: list[Row] = [
            ({"component": name}, int(part["status"] == "ok"))
            for name, part in components.items()
            if part["status"] != "off"
        ]
        yield _gauge(
            "dalla_component_up", "1: works, 0: does not. What is not set up is missing.", rows, ("component",)
        )
        rows = [
            (
                {"character": row["characterId"], "platform": row["platform"]},
                int(row["status"] != "error"),
            )
            for row in status["accounts"]
        ]
        yield _gauge("dalla_account_up", "1: the account can post, 0: it cannot.", rows, ("character", "platform"))
        disk = components["disk"]
        if "freeBytes" in disk:
            volumes = disk.get("volumes") or [{"path": status["database"].get("path", "data"), **disk}]
            yield _gauge(
                "dalla_disk_free_bytes",
                "Free space of the disks the folders lie on.",
                [({"path": v["path"]}, v["freeBytes"]) for v in volumes],
                ("path",),
            )
            yield _gauge(
                "dalla_disk_size_bytes",
                "Size of these disks.",
                [({"path": v["path"]}, v["totalBytes"]) for v in volumes],
                ("path",),
            )
        clock = components["scheduler"]
        if clock.get("lagSeconds") is not None:
            lag = clock["lagSeconds"]
            yield _gauge("dalla_scheduler_lag_seconds", "How late the next due thing is already.", [({}, lag)])
        if clock.get("lastTick"):
            at = parse(clock["lastTick"]).timestamp()
            yield _gauge("dalla_scheduler_last_tick_timestamp_seconds", "When the scheduler last looked.", [({}, at)])

    def _process(self) -> Iterator[Any]:
        import psutil
        from prometheus_client.core import CounterMetricFamily

        sample = self._system.samples.latest()
        if "gpuMemoryTotal" in sample:
            used, total = sample["gpuMemoryUsed"], sample["gpuMemoryTotal"]
            yield _gauge("dalla_gpu_memory_used_bytes", "Memory of the GPU in use, by anybody.", [({}, used)])
            yield _gauge("dalla_gpu_memory_size_bytes", "Memory of the GPU.", [({}, total)])
            yield _gauge("dalla_gpu_utilization_ratio", "Load of the GPU, 0 to 1.", [({}, sample["gpu"] / 100)])
        process = psutil.Process()
        with process.oneshot():
            times, memory = process.cpu_times(), process.memory_info()
            cpu = CounterMetricFamily("process_cpu_seconds", "CPU time of the web process.")
            cpu.add_metric((), times.user + times.system)
            yield cpu
            yield _gauge("process_resident_memory_bytes", "Memory of the web process.", [({}, memory.rss)])
            yield _gauge("process_virtual_memory_bytes", "Address space of the web process.", [({}, memory.vms)])
            start = process.create_time()
            yield _gauge("process_start_time_seconds", "When the web process started, since 1970.", [({}, start)])
            yield _gauge("process_threads", "Threads of the web process.", [({}, process.num_threads())])
            if hasattr(process, "num_fds"):  # not on Windows
                yield _gauge("process_open_fds", "Open files of the web process.", [({}, process.num_fds())])


Row = tuple[dict[str, str], float]


def _gauge(name: str, help: str, rows: list[Row], labels: tuple[str, ...] | None = None) -> Any:
    """Make one family. `labels`: their names, for a family that may be empty."""
    from prometheus_client.core import GaugeMetricFamily

    names = labels if labels is not None else tuple(rows[0][0])
    family = GaugeMetricFamily(name, help, labels=names)
    for values, value in rows:
        family.add_metric([values[label] for label in names], value)
    return family
