"""How the app and what it depends on are doing, for people and programs: `GET /api/system/status`.

Reading it asks nobody outside this machine; "check now" does. What the checks themselves look at is in
component_checks.py; what is measured of the machine in samples.py.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import orjson

import dalla
from dalla.errors import DallaError
from dalla.jobs.base import JobQueue, TaskStore
from dalla.paths import write_atomic
from dalla.services import component_checks as checks
from dalla.services.characters import Characters
from dalla.services.component_checks import Component, error, fix, off, ok
from dalla.services.generation import Engines
from dalla.services.samples import Samples
from dalla.settings import Settings
from dalla.stores.base import DocumentStore
from dalla.times import now_iso, parse

logger = logging.getLogger(__name__)

#: Longest "check now" waits for other services, seconds; what answers later is seen at the next look.
FRESH_SECONDS = 20.0
#: A lane none of whose workers was seen for so long is stuck.
SILENT_SECONDS = 60.0

LABELS = {
    "comfyui": "ComfyUI",
    "builtin": "Built-in engine",
    "database": "Database",
    "folders": "Folders",
    "scheduler": "Scheduler",
    "worker": "Workers",
    "instagram": "Instagram",
    "twitter": "X",
    "gemini": "Gemini",
    "captionServer": "Local caption server",
    "webhooks": "Webhooks",
    "disk": "Disk",
    "gpu": "GPU",
}
_FIXES = {
    "comfyui": fix("Set its address", "/settings.html?section=engines#comfyuiUrl"),
    "builtin": fix("Engine settings", "/settings.html?section=engines#imageEngine"),
    "database": fix("Open backups", "/settings.html?section=backup"),
    "folders": fix("Storage settings", "/settings.html?section=storage"),
    "scheduler": fix("Open its log", "/monitoring.html?tab=logs&q=dalla.clock"),
    "worker": fix("Open the log", "/monitoring.html?tab=logs&level=ERROR"),
    "instagram": fix("Open connections", "/connections.html?platform=instagram"),
    "twitter": fix("Open connections", "/connections.html?platform=twitter"),
    "gemini": fix("Gemini settings", "/settings.html?section=captions#geminiApiKey"),
    "captionServer": fix("Set its address", "/settings.html?section=captions#captionUrl"),
    "webhooks": fix("Webhook settings", "/settings.html?section=webhooks"),
    "disk": fix("Clean up", "/settings.html?section=storage"),
}


class Clock(Protocol):
    """The in-process timer, as far as the status needs it."""

    def status(self) -> dict[str, Any]:
        """Return a component with `lastTick`, `nextDue` and `lagSeconds`."""


class Captions(Protocol):
    """What writes captions (services/captioning.py)."""

    outcomes: dict[str, dict[str, Any]]

    def recheck(self) -> None:
        """Ask every service that is set up whether it answers. No call is billed."""


class Accounts(Protocol):
    """The accounts of the characters (services/connections.py)."""

    def status(self) -> list[dict[str, Any]]:
        """Return one row per account with keys. No network."""

    def recheck(self) -> None:
        """Test every account whose platform takes nothing for a test."""


class System:
    """Answers "is everything all right?" for people and programs."""

    def __init__(
        self,
        settings: Settings,
        engines: Engines,
        characters: Characters,
        documents: dict[str, DocumentStore[Any]],
        library_check: Callable[[], str],
        tasks: TaskStore,
        jobs: JobQueue,
        samples: Samples,
        captions: Captions,
        accounts: Accounts,
        webhooks: Callable[[], list[dict[str, Any]]],
    ) -> None:
        """`webhooks` answers Notices.webhooks; `library_check` the database's name, or raises StorageError."""
        self._settings = settings
        self._engines = engines
        self._characters = characters
        self._documents = documents
        self._library_check = library_check
        self._tasks = tasks
        self._jobs = jobs
        self.samples = samples
        self._captions = captions
        self._accounts = accounts
        self._webhooks = webhooks
        self.clock: Clock | None = None
        self._memory = Memory(Path(settings.data_dir) / "logs" / "status.json")
        self._checking = threading.Lock()
        self._started_at = now_iso()

    # ------------------------------------------------------------ status

    def status(self, *, fresh: bool = False) -> dict[str, Any]:
        """Return every component with status ok, off (not configured) or error, and every account one by one.

        Each has `since`, `lastError` {at, detail} or None, and `fix` {label, href} while something is to be done.
        `fresh` asks the services now (at most about 20 seconds) instead of telling what was found last.
        """
        if fresh:
            self._check_now()
        accounts: list[dict[str, Any]] = []
        components = {
            "comfyui": self._engine("comfyui"),
            "builtin": self._engine("builtin"),
            "database": _timed(self._database),
            "folders": self._folders(),
            "scheduler": self._scheduler(),
            "worker": _asked(self._worker),
            "instagram": _asked(lambda: self._platform("instagram", "Instagram", "instagram_api_key", accounts)),
            "twitter": _asked(lambda: self._platform("twitter", "X", "twitter_access_token", accounts)),
            "gemini": checks.caption_engine("Gemini", self._no_gemini(), self._captions.outcomes.get("gemini")),
            "captionServer": checks.caption_engine("It", self._no_server(), self._captions.outcomes.get("local")),
            "webhooks": _asked(lambda: checks.webhooks(self._webhooks())),
            "disk": checks.disk([path for _, _, path, _ in self._paths()]),
            "gpu": self._gpu(),
        }
        for name, component in components.items():
            component.setdefault("label", LABELS[name])
            component.setdefault("fix", _FIXES.get(name))
            if component["status"] == "ok":
                component["fix"] = None
        self._memory.note([*components.items(), *((_account_key(row), row) for row in accounts)])
        one_engine = any(components[e]["status"] == "ok" for e in ("comfyui", "builtin"))
        errors = [n for n, c in components.items() if c["status"] == "error"]
        if not one_engine or any(n in ("database", "folders", "disk", "worker") for n in errors):
            overall = "error"
        else:
            overall = "degraded" if errors else "ok"
        return {
            "status": overall,
            "checkedAt": now_iso(),
            "startedAt": self._started_at,
            "version": dalla.__version__,
            "tasks": self._counts(),
            "accounts": accounts,
            **components,
        }

    def _check_now(self) -> None:
        """Ask everybody at once. Who comes while that is under way waits for it and asks nobody again."""
        if not self._checking.acquire(blocking=False):
            with self._checking:
                return
        try:
            pool = ThreadPoolExecutor(4, thread_name_prefix="check")
            engines = (
                lambda: self._engines.get("comfyui").status(fresh=True),
                lambda: self._engines.get("builtin").status(fresh=True),
            )
            work: tuple[Callable[[], object], ...] = (*engines, self._captions.recheck, self._accounts.recheck)
            asked: list[Future[object]] = [pool.submit(one) for one in work]
            done, _ = wait(asked, timeout=FRESH_SECONDS)
            pool.shutdown(wait=False)
            for task in done:
                problem = task.exception()
                if problem is not None:  # the component says what it knows without the answer
                    logger.warning("a check ended with an error: %s", problem, exc_info=problem)
        finally:
            self._checking.release()

    def _counts(self) -> dict[str, int]:
        try:
            return self._tasks.counts()
        except DallaError:  # "database" says why
            return {}

    # ------------------------------------------------------------ components

    def _engine(self, name: str) -> Component:
        engine = self._engines.get(name)
        began = time.monotonic()
        status = engine.status()
        chosen, label = self._settings.image_engine, LABELS.get(name, engine.label)
        unused = chosen not in ("auto", name)
        if status.available:
            result = ok(f"{label} is ready." if not unused else f"{label} is ready, but not chosen.")
        elif chosen == name:
            result = error(status.reason or "Not available.")
        else:
            result = off(status.reason or "Not available.")
        result["latencyMs"] = round((time.monotonic() - began) * 1000)
        result["label"] = label
        if status.remedy and not status.available:
            result["remedy"] = status.remedy
        return result | {"info": status.detail}

    def _database(self) -> Component:
        data_dir = Path(self._settings.data_dir)
        refused = checks.writable(data_dir)
        if refused is not None:
            return error(
                f"The data folder cannot be written: {refused.strerror}.",
                "Give this user write permission to it, free some space, or set DALLA_DATA_DIR.",
                path=str(data_dir),
                fix=_FIXES["folders"],
            )
        try:
            kind = self._library_check()
        except DallaError as exc:
            return error(exc.detail, exc.remedy or "", path=str(data_dir))
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
            remedy = "Correct the file by hand; it is never overwritten while it is broken."
            return error(" ".join(broken), remedy, **answer)
        return ok(f"{kind}; the data folder can be written.", **answer)

    def _paths(self) -> Iterable[tuple[str, str, Path, str]]:
        """Yield (id, label, path, name of the setting) of the folders, the data folder first."""
        s = self._settings
        yield "data", "Data", Path(s.data_dir), "data_dir"
        yield "training_data", "Training data", Path(s.training_data_dir), "training_data_dir"
        yield "loras", "LoRAs", Path(s.loras_dir), "loras_dir"
        yield "models", "Models", Path(s.models_dir), "models_dir"

    def _folders(self) -> Component:
        rows = [checks.folder_row(*place, reads_only=place[0] == "models") for place in self._paths()]
        return checks.folders(rows)

    def _scheduler(self) -> Component:
        if self.clock is None:
            return off("The clock does not run in this process.", lastTick=None, nextDue=None)
        return self.clock.status()

    def _worker(self) -> Component:
        counts, depth = self._tasks.counts(), self._tasks.depth()
        lanes = [
            {**lane, **{state: depth.get(lane["lane"], {}).get(state, 0) for state in ("queued", "paused")}}
            for lane in self._jobs.workers()
        ]
        info = {"queued": counts.get("queued", 0), "running": counts.get("running", 0), "lanes": lanes}
        if not any(lane["alive"] for lane in lanes):
            return error("No worker is running, so queued tasks wait.", "Restart the app.", **info)
        broken = [lane for lane in lanes if lane["alive"] < lane["workers"] or _silent(lane["heartbeatAt"])]
        if broken:
            said = ", ".join(lane["lane"] for lane in broken)
            return error(f"Workers of the lane {said} do not answer.", "Restart the app.", **info)
        return ok(f"{info['running']} running, {info['queued']} waiting.", **info)

    def _platform(self, platform: str, label: str, field: str, accounts: list[dict[str, Any]]) -> Component:
        """Return one platform; its accounts are added to `accounts`, each with its own state."""
        rows = [row for row in self._accounts.status() if row["platform"] == platform]
        for row in rows:
            href = row.get("href") or f"/connections.html?platform={platform}"
            row["fix"] = None if row["status"] == "ok" else fix("Open this account", href)
            accounts.append(row)
        with_key = [c for c in self._characters.all() if getattr(c, field)]
        missing = [c.name for c in with_key if self._characters.credential(c, field) is None]
        if missing:
            return error(
                f"The {label} key of {', '.join(missing)} points to something that is not there.",
                "Set the environment variable it names, or enter the key again.",
            )
        if not with_key:
            return off(f"No character has {label} credentials. Posts are rehearsed.")
        bad = [row for row in rows if row["status"] == "error"]
        if bad:
            return error(
                " ".join(f"{row['characterName']}: {row['detail']}" for row in bad[:5]),
                bad[0].get("remedy") or "Open the connections page.",
                href=bad[0]["fix"]["href"],
                fix=bad[0]["fix"],
                accounts=[row["characterId"] for row in bad],
            )
        return ok(f"{len(with_key)} connected: {', '.join(c.name for c in with_key[:5])}.")

    def _no_gemini(self) -> Component | None:
        if self._settings.gemini_api_key:
            return None
        return off("No key is set. Captions are composed offline.", fix=fix("Enter a key", _FIXES["gemini"]["href"]))

    def _no_server(self) -> Component | None:
        return None if self._settings.caption_url else off("No local caption server is set.")

    def _gpu(self) -> Component:
        sample = self.samples.latest()
        if "gpuName" not in sample:
            return off("No NVIDIA GPU was found. The built-in engine computes on the CPU.")
        used, total = sample["gpuMemoryUsed"], sample["gpuMemoryTotal"]
        said = f"{sample['gpuName']}, {used / 2**30:.1f} of {total / 2**30:.1f} GiB in use."
        return ok(said, usedBytes=used, totalBytes=total)


class Memory:
    """Since when each component is in its state, and its last error; kept over restarts in a small file."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._lock = threading.Lock()
        self._known: dict[str, dict[str, Any]] | None = None

    def note(self, components: Iterable[tuple[str, dict[str, Any]]]) -> None:
        """Give each component `since` and `lastError`, and remember what changed."""
        now = now_iso()
        changed = False
        with self._lock:
            if self._known is None:
                self._known = self._read()
            for name, component in components:
                known = self._known.get(name)
                if known is None or known["status"] != component["status"]:
                    known = {"status": component["status"], "since": now, "lastError": (known or {}).get("lastError")}
                    self._known[name] = known
                    changed = True
                if component["status"] == "error":
                    before = known["lastError"]
                    known["lastError"] = {"at": now, "detail": component["detail"]}
                    changed = changed or not before or before["detail"] != component["detail"]
                component["since"], component["lastError"] = known["since"], known["lastError"]
            if changed:
                self._write()

    def _read(self) -> dict[str, dict[str, Any]]:
        try:
            content = orjson.loads(self._file.read_bytes())
            return {
                str(name): {"status": known["status"], "since": known["since"], "lastError": known.get("lastError")}
                for name, known in content.items()
            }
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return {}

    def _write(self) -> None:
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(self._file, orjson.dumps(self._known), durable=False)
        except OSError as exc:  # the disk is one of the components that are looked at
            logger.debug("the states could not be kept: %s", exc)


def _account_key(row: dict[str, Any]) -> str:
    return f"account:{row['platform']}:{row['characterId']}"


def _silent(heartbeat: str | None) -> bool:
    """Whether a lane was not seen at work for a while."""
    return heartbeat is None or (datetime.now(UTC) - parse(heartbeat)).total_seconds() > SILENT_SECONDS


def _timed(component: Callable[[], Component]) -> Component:
    began = time.monotonic()
    return component() | {"latencyMs": round((time.monotonic() - began) * 1000, 1)}


def _asked(component: Callable[[], Component]) -> Component:
    """Return a component's state; a store that cannot be read is its error, not the end of the status."""
    try:
        return component()
    except DallaError as exc:
        return error(exc.detail, exc.remedy or "")
