"""How the app and what it depends on are doing: status, two-minute samples, the home page's facts."""

from __future__ import annotations

import logging
import os
import shutil
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import dalla
from dalla.errors import DallaError
from dalla.events import EventBus
from dalla.jobs.base import JobQueue, TaskStore
from dalla.services.characters import Characters
from dalla.services.gallery import Gallery
from dalla.services.generation import Engines
from dalla.settings import Settings
from dalla.stores.base import DocumentStore
from dalla.times import now_iso

logger = logging.getLogger(__name__)

SAMPLE_SECONDS = 2.0
LOW_DISK = 1_000_000_000  # bytes


class Clock(Protocol):
    """The in-process timer, as far as the status needs it."""

    def status(self) -> dict[str, Any]: ...


class Samples:
    """CPU, memory, GPU and disk every two seconds, kept for two minutes and told to the browser."""

    def __init__(self, data_dir: Path, events: EventBus, *, every: float = SAMPLE_SECONDS, keep: int = 60) -> None:
        self._data_dir = data_dir
        self._events = events
        self._every = every
        self._kept: deque[dict[str, Any]] = deque(maxlen=keep)
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._smi = shutil.which("nvidia-smi")
        self._gpu: dict[str, Any] = {}
        self._gpu_at = 0.0

    def start(self) -> None:
        self._stop.clear()
        self._thread = threading.Thread(target=self._run, name="samples", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join(5)

    def all(self) -> list[dict[str, Any]]:
        return list(self._kept)

    def latest(self) -> dict[str, Any]:
        return self._kept[-1] if self._kept else self.take()

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

    def _run(self) -> None:
        while not self._stop.wait(self._every):
            try:
                sample = self.take()
            except Exception:  # noqa: BLE001 - a missing sample is a gap in a chart, no more
                logger.debug("sample failed", exc_info=True)
                continue
            self._kept.append(sample)
            self._events.publish("system.sample", sample)


class System:
    """Answers "is everything all right?" for people and programs."""

    def __init__(
        self,
        settings: Settings,
        engines: Engines,
        characters: Characters,
        gallery: Gallery,
        documents: dict[str, DocumentStore[Any]],
        library_check: Callable[[], str],
        tasks: TaskStore,
        jobs: JobQueue,
        samples: Samples,
    ) -> None:
        self._settings = settings
        self._engines = engines
        self._characters = characters
        self._gallery = gallery
        self._documents = documents
        self._library_check = library_check
        self._tasks = tasks
        self._jobs = jobs
        self.samples = samples
        self.clock: Clock | None = None
        self._since: dict[str, tuple[str, str]] = {}  # component -> (status, since)
        self._last_error: dict[str, dict[str, str]] = {}
        self._started_at = now_iso()
        self.accounts: Callable[[], list[dict[str, Any]]] = list  # Connections.status, once it is there

    # ------------------------------------------------------------ status

    def status(self, *, fresh: bool = False) -> dict[str, Any]:
        """Return every component with status ok, off (not configured) or error."""
        components = {
            "comfyui": self._engine("comfyui", fresh),
            "builtin": self._engine("builtin", fresh),
            "database": self._database(),
            "scheduler": self.clock.status() if self.clock else _off("The clock does not run in this process."),
            "worker": _asked(self._worker),
            "instagram": _asked(lambda: self._accounts("instagram", "Instagram", "instagram_api_key")),
            "twitter": _asked(lambda: self._accounts("twitter", "X", "twitter_access_token")),
            "gemini": _ok("A key is set.")
            if self._settings.gemini_api_key
            else _off("No key is set. Captions are composed offline."),
            "disk": self._disk(),
            "gpu": self._gpu(),
        }
        for name, component in components.items():
            self._remember(name, component)
        one_engine = any(components[e]["status"] == "ok" for e in ("comfyui", "builtin"))
        errors = [n for n, c in components.items() if c["status"] == "error"]
        if not one_engine or any(n in ("database", "disk", "worker") for n in errors):
            overall = "error"
        else:
            overall = "degraded" if errors else "ok"
        return {
            "status": overall,
            "checkedAt": now_iso(),
            "startedAt": self._started_at,
            "version": dalla.__version__,
            "tasks": self._counts(),
            **components,
        }

    def _counts(self) -> dict[str, int]:
        try:
            return self._tasks.counts()
        except DallaError:  # "database" says why
            return {}

    def _remember(self, name: str, component: dict[str, Any]) -> None:
        previous = self._since.get(name)
        if previous is None or previous[0] != component["status"]:
            self._since[name] = (component["status"], now_iso())
        component["since"] = self._since[name][1]
        if component["status"] == "error":
            self._last_error[name] = {"at": now_iso(), "detail": component["detail"]}
        component["lastError"] = self._last_error.get(name)

    def _engine(self, name: str, fresh: bool) -> dict[str, Any]:
        engine = self._engines.get(name)
        began = time.monotonic()
        status = engine.status(fresh=fresh)
        chosen = self._settings.image_engine
        unused = chosen not in ("auto", name)
        result: dict[str, Any]
        if status.available:
            result = _ok(f"{engine.label} is ready." if not unused else f"{engine.label} is ready, but not chosen.")
        elif chosen == name:
            result = {"status": "error", "detail": status.reason or "Not available."}
        else:
            result = _off(status.reason or "Not available.")
        result["latencyMs"] = round((time.monotonic() - began) * 1000)
        result["label"] = engine.label
        if status.remedy and not status.available:
            result["remedy"] = status.remedy
        return result | {"info": status.detail}

    def _database(self) -> dict[str, Any]:
        data_dir = Path(self._settings.data_dir)
        try:
            # One name per thread: two pages ask at the same time. A left-over one is cleared as a temp file.
            probe = data_dir / f".probe-{os.getpid()}-{threading.get_ident()}.tmp"
            probe.write_bytes(b"x")
            probe.unlink()
        except OSError as exc:
            return {
                "status": "error",
                "detail": f"The data folder cannot be written: {exc.strerror}.",
                "remedy": "Give this user write permission to it, free some space, or set DALLA_DATA_DIR.",
                "path": str(data_dir),
            }
        try:
            kind = self._library_check()
        except DallaError as exc:
            return {"status": "error", "detail": exc.detail, "remedy": exc.remedy or "", "path": str(data_dir)}
        files, broken = {}, []
        for name, store in self._documents.items():
            state = store.status()
            files[name] = {"ok": state.ok, "count": state.count, "path": state.path, "skipped": state.skipped}
            if not state.ok:
                broken.append(state.detail)
            elif state.skipped:
                broken.append(f"{name}: {state.skipped[0]}")
        answer = {"path": str(data_dir), "engine": kind, "files": files}
        if broken:
            return {"status": "error", "detail": " ".join(broken), "remedy": "Correct the file by hand; it is never overwritten while it is broken."} | answer  # fmt: skip
        return _ok(f"{kind}; the data folder can be written.") | answer

    def _worker(self) -> dict[str, Any]:
        jobs: Any = self._jobs
        alive = getattr(jobs, "alive", None)
        counts = self._tasks.counts()
        info = {"queued": counts.get("queued", 0), "running": counts.get("running", 0)}
        if alive is False:
            return {
                "status": "error",
                "detail": "No worker is running, so queued tasks wait.",
                "remedy": "Restart the app.",
            } | info
        return _ok(f"{info['running']} running, {info['queued']} waiting.") | info

    def _accounts(self, platform: str, label: str, field: str) -> dict[str, Any]:
        with_key = [c for c in self._characters.all() if getattr(c, field)]
        missing = [c.name for c in with_key if self._characters.credential(c, field) is None]
        if missing:
            return {
                "status": "error",
                "detail": f"The {label} key of {', '.join(missing)} points to something that is not there.",
                "remedy": "Set the environment variable it names, or enter the key again.",
            }
        if not with_key:
            return _off(f"No character has {label} credentials. Posts are rehearsed.")
        rows = [row for row in self.accounts() if row["platform"] == platform]
        bad = [row for row in rows if row["status"] == "error"]
        if bad:
            return {
                "status": "error",
                "detail": " ".join(f"{row['characterName']}: {row['detail']}" for row in bad[:5]),
                "remedy": bad[0].get("remedy") or "Open the connections page.",
                "href": "/connections.html",
                "accounts": rows,
            }
        return _ok(f"{len(with_key)} connected: {', '.join(c.name for c in with_key[:5])}.")

    def _disk(self) -> dict[str, Any]:
        try:
            usage = shutil.disk_usage(self._settings.data_dir)
        except OSError as exc:
            return {"status": "error", "detail": f"The data folder cannot be reached: {exc.strerror}."}
        info = {"freeBytes": usage.free, "totalBytes": usage.total}
        if usage.free < LOW_DISK:
            detail = f"Only {usage.free / 1e6:.0f} MB are free."
            return {"status": "error", "detail": detail, "remedy": "Empty the trash, or free some space."} | info
        return _ok(f"{usage.free / 1e9:.0f} GB free of {usage.total / 1e9:.0f} GB.") | info

    def _gpu(self) -> dict[str, Any]:
        sample = self.samples.latest()
        if "gpuName" not in sample:
            return _off("No NVIDIA GPU was found. The built-in engine computes on the CPU.")
        used, total = sample["gpuMemoryUsed"], sample["gpuMemoryTotal"]
        return _ok(f"{sample['gpuName']}, {used / 2**30:.1f} of {total / 2**30:.1f} GiB in use.") | {
            "usedBytes": used,
            "totalBytes": total,
        }


def _asked(component: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return a component's state; a store that cannot be read is its error, not the end of the status."""
    try:
        return component()
    except DallaError as exc:
        return {"status": "error", "detail": exc.detail, "remedy": exc.remedy or ""}


def _ok(detail: str) -> dict[str, Any]:
    return {"status": "ok", "detail": detail}


def _off(detail: str) -> dict[str, Any]:
    return {"status": "off", "detail": detail}
