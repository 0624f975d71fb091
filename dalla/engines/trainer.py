"""The parent's side of LoRA training: start `train_lora.py`, follow its events, forward wishes, end it.

The child lives on its own: it has its own session, writes its events to a file and holds a lock for its
life. So it survives this process, and the next one finds it again by the lock and reads on. Imports no torch.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, BinaryIO

from dalla.engines.children import environment, own_session
from dalla.engines.trainer_ends import how_it_ended
from dalla.engines.trainer_files import EventTail, lock_is_held, log_tail, size_of
from dalla.errors import Conflict, StorageError, Unavailable
from dalla.paths import write_atomic
from dalla.records.lora import Ended, EndKind
from dalla.settings import ROOT

logger = logging.getLogger(__name__)

SCRIPT = ROOT / "train_lora.py"
#: Starts the trainer in several processes, one for each graphics card; their number follows.
LAUNCHER = (
    sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_machines", "1", "--mixed_precision", "no",
    "--dynamo_backend", "no", "--main_process_port", "0", "--num_processes",
)  # fmt: skip
NEEDED = ("torch", "diffusers", "transformers", "peft", "safetensors")
EVENTS, LOCK, LOG, CONFIG, PID = "events.jsonl", "run.lock", "run.log", "config.json", "run.pid"
CONTROLS = ("cancel", "pause", "save", "sample")
LAST_WORDS = frozenset({"done", "error", "cancelled"})


class Trainer:
    """Starts and finds runs of the trainer. One for the whole app.

    `command` is what the config's path is added to; for several processes `launcher` stands before its script, with
    their number after it. Cancel first asks; after `cancel_seconds` without an event or CPU time, or `busy_seconds` in
    all, it terminates, after `term_seconds` more it kills. `silent_seconds` without event, log line or CPU time: hung.
    """

    def __init__(
        self,
        *,
        command: Sequence[str] | None = None,
        launcher: Sequence[str] = LAUNCHER,
        environ: Mapping[str, str] | None = None,
        cancel_seconds: float = 20.0,
        busy_seconds: float = 900.0,
        term_seconds: float = 10.0,
        silent_seconds: float = 900.0,
        poll_seconds: float = 0.2,
    ) -> None:
        self._command = list(command) if command is not None else [sys.executable, str(SCRIPT)]
        self._launcher = list(launcher)
        self._environ = dict(environ or {})
        self._own_command = command is not None
        self.cancel_seconds = cancel_seconds
        self.busy_seconds = busy_seconds
        self.term_seconds = term_seconds
        self.silent_seconds = silent_seconds
        self.poll_seconds = poll_seconds

    def missing(self) -> str | None:
        """Return a sentence when nothing can be trained with this installation, else None."""
        if self._own_command:
            return None
        lacking = [name for name in NEEDED if find_spec(name) is None]
        if lacking:
            return f"Training needs the Python package '{lacking[0]}'."
        return None if SCRIPT.is_file() else f"{SCRIPT.name} is missing from the installation."

    def start(self, config: Mapping[str, Any], folder: Path) -> TrainingProcess:
        """Write `config.json` into the run's folder and start the trainer on it.

        Control files and wishes of an earlier attempt are taken away. Raises Conflict when the run is at work
        already, StorageError, Unavailable.
        """
        if why := self.missing():
            raise Unavailable(why, remedy="Run 'make install'.")
        if self.attach(folder) is not None:
            raise Conflict("This run is being trained already.")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for control in CONTROLS:
                (folder / control).unlink(missing_ok=True)
            write_atomic(folder / CONFIG, json.dumps(dict(config), indent=2, ensure_ascii=False).encode() + b"\n")
            with open(folder / LOG, "ab") as log:
                process = self._spawn(folder, log, int(config.get("processes") or 1))
        except OSError as exc:
            raise StorageError.from_os(exc, "the training run") from exc
        with _ours_lock:
            _ours[str(folder.resolve())] = process
        _note_pid(folder, process.pid)
        return TrainingProcess(self, folder, popen=process)

    def _spawn(self, folder: Path, log: BinaryIO, processes: int) -> subprocess.Popen[bytes]:
        command = self._command
        if processes > 1:
            command = [*self._launcher, str(processes), *command[1:]]
        try:
            return subprocess.Popen(
                [*command, "--config", str(folder / CONFIG)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=ROOT,
                env={**os.environ, **environment(), **self._environ},
                **own_session(),
            )
        except OSError as exc:
            raise Unavailable(
                f"The trainer cannot be started: {exc.strerror or exc}.",
                remedy="See whether the Python of this installation is still where it was; run 'make install'.",
            ) from exc

    def attach(self, folder: Path) -> TrainingProcess | None:
        """Find the trainer that works on this run, whoever started it. None when none does."""
        with _ours_lock:
            process = _ours.get(str(folder.resolve()))
        if process is not None:
            if process.poll() is None:
                return TrainingProcess(self, folder, popen=process)
            return None
        if lock_is_held(folder / LOCK):
            return TrainingProcess(self, folder, process=_noted(folder) or _by_command_line(folder))
        found = _by_command_line(folder) if (folder / CONFIG).is_file() else None  # started, and not at its lock yet
        return TrainingProcess(self, folder, process=found) if found is not None else None


class TrainingProcess:
    """One running trainer. Methods may be called from any thread; `follow` and `cancel` from one at a time."""

    def __init__(
        self, trainer: Trainer, folder: Path, *, popen: subprocess.Popen[bytes] | None = None, process: Any = None
    ) -> None:
        self.folder = folder
        self._trainer = trainer
        self._popen = popen
        self._process = process  # a psutil.Process when it is not our child
        self._tail = EventTail(folder / EVENTS)
        self._last: dict[str, Any] = {}
        self._sign = time.monotonic()  # when it last did anything
        self._seen: tuple[int, int] = (-1, -1)
        self._cpu = 0.0
        self._looked = 0.0

    @property
    def pid(self) -> int | None:
        """The process id; None when another computer or container runs it."""
        if self._popen is not None:
            return self._popen.pid
        return int(self._process.pid) if self._process is not None else None

    @property
    def is_alive(self) -> bool:
        if self._popen is not None:
            return self._popen.poll() is None
        if self._process is not None:
            import psutil

            try:
                return self._process.is_running() and self._process.status() != psutil.STATUS_ZOMBIE
            except psutil.Error:
                return False
        return lock_is_held(self.folder / LOCK)

    # ------------------------------------------------------------ wishes

    def save(self) -> None:
        """Ask for a checkpoint now."""
        self._ask("save")

    def sample(self) -> None:
        """Ask for sample pictures now."""
        self._ask("sample")

    def _ask(self, what: str) -> None:
        try:
            (self.folder / what).touch()
        except OSError as exc:
            raise StorageError.from_os(exc, "the wish to the trainer") from exc

    # ------------------------------------------------------------ following

    def follow(
        self, on_event: Callable[[dict[str, Any]], None], check: Callable[[], None], *, offset: int = 0
    ) -> Ended:
        """Tell every event from byte `offset` on until the trainer has ended; return how.

        `check` is called several times a second; what it raises (Cancelled) leaves the trainer at work.
        """
        self._tail.offset = offset
        while True:
            alive = self.is_alive
            self._tell(on_event)
            if not alive:
                return self._ended()
            check()
            if self._is_silent():
                logger.warning(
                    "The trainer in %s gave no sign of life for %d s", self.folder, self._trainer.silent_seconds
                )
                self._force(on_event)
                return self._ended("silent")
            time.sleep(self._trainer.poll_seconds)

    def cancel(self, on_event: Callable[[dict[str, Any]], None], *, offset: int | None = None) -> Ended:
        """Stop it: ask (it finishes its step and saves), then terminate, then kill. Returns when it has ended.

        Events are told from where `follow` was, or from byte `offset` on.
        """
        if offset is not None:
            self._tail.offset = offset
        self._ask("cancel")
        (self.folder / "pause").unlink(missing_ok=True)
        asked = self._sign = looked = time.monotonic()
        used = self._cpu_seconds()
        while self.is_alive:
            now = time.monotonic()
            if self._tell(on_event):
                self._sign = now  # it is busy saving
            if now - looked > self._trainer.cancel_seconds / 8:
                cpu = self._cpu_seconds()
                if cpu - used >= 0.02 * (now - looked):
                    self._sign = now  # in a long step, a reading or a sample, which tell nothing before they are done
                looked, used = now, cpu
            if now - self._sign > self._trainer.cancel_seconds or now - asked > self._trainer.busy_seconds:
                logger.warning("The trainer in %s did not react to cancel", self.folder)
                self._force(on_event)
                break
            time.sleep(min(self._trainer.poll_seconds, 0.1))
        self._tell(on_event)
        return self._ended("cancelled")

    def _force(self, on_event: Callable[[dict[str, Any]], None]) -> None:
        """End it whether it wants or not, with everything it started."""
        self._signal(getattr(signal, "SIGCONT", None))  # a stopped process cannot hear the next one
        self._signal(signal.SIGTERM)
        end = time.monotonic() + self._trainer.term_seconds
        while self.is_alive and time.monotonic() < end:
            self._tell(on_event)
            time.sleep(min(self._trainer.poll_seconds, 0.1))
        if self.is_alive:
            self._signal(getattr(signal, "SIGKILL", signal.SIGTERM), hard=True)
            end = time.monotonic() + 10
            while self.is_alive and time.monotonic() < end:
                time.sleep(0.02)
        self._tell(on_event)

    def _signal(self, number: int | None, *, hard: bool = False) -> None:
        if self.pid is None or number is None:
            return
        # The processes of a launcher lead sessions of their own. It hands a polite signal on by itself; where it cannot
        # (killed, or stopped) they are reached one by one.
        polite = number == signal.SIGTERM and not hard
        tree = [] if polite and os.name != "nt" else self._descendants()
        with contextlib.suppress(OSError):
            if os.name != "nt":
                os.killpg(self.pid, number)  # it leads a session of its own
        import psutil

        for process in tree:
            with contextlib.suppress(psutil.Error, OSError):
                if os.name != "nt":
                    process.send_signal(number)
                elif hard:
                    process.kill()
                else:
                    process.terminate()

    def _descendants(self) -> list[Any]:
        """Return what this trainer has started, and itself last."""
        import psutil

        with contextlib.suppress(psutil.Error):
            parent = psutil.Process(self.pid)
            return [*parent.children(recursive=True), parent]
        return []

    def _tell(self, on_event: Callable[[dict[str, Any]], None]) -> bool:
        any_event = False
        for event in self._tail.read():
            any_event = True
            if event.get("event") in LAST_WORDS:
                self._last = event
            elif event.get("event") == "ready":
                self._last = {}
            on_event(event)
        return any_event

    def _is_silent(self) -> bool:
        """Whether it has done nothing at all for too long: no event, no log line, no CPU time."""
        now = time.monotonic()
        every = min(5.0, self._trainer.silent_seconds / 4)
        if now - self._looked < every:
            return False
        self._looked = now
        seen = (size_of(self.folder / EVENTS), size_of(self.folder / LOG))
        cpu = self._cpu_seconds()
        if seen != self._seen or cpu - self._cpu >= 0.05 * every or (self.folder / "pause").exists():
            self._seen, self._sign = seen, now
            self._cpu = cpu
            return False
        return now - self._sign > self._trainer.silent_seconds

    def _cpu_seconds(self) -> float:
        import psutil

        total = 0.0
        with contextlib.suppress(psutil.Error):
            parent = psutil.Process(self.pid) if self.pid is not None else None
            for process in (parent, *parent.children(recursive=True)) if parent is not None else ():
                with contextlib.suppress(psutil.Error):
                    times = process.cpu_times()  # type: ignore[union-attr]
                    total += times.user + times.system
        return total

    # ------------------------------------------------------------ the end

    def _ended(self, wanted: EndKind | None = None) -> Ended:
        code = None
        if self._popen is not None:
            code = self._popen.wait()
            with _ours_lock:
                _ours.pop(str(self.folder.resolve()), None)
        for control in CONTROLS:
            with contextlib.suppress(OSError):
                (self.folder / control).unlink(missing_ok=True)
        return how_it_ended(self._last, code, log_tail(self.folder / LOG), wanted)


# ---------------------------------------------------------------- processes

#: Our own children by run folder: kept so that they can be reaped, and found when the app is built twice.
_ours: dict[str, subprocess.Popen[bytes]] = {}
_ours_lock = threading.Lock()


def _note_pid(folder: Path, pid: int) -> None:
    import psutil

    with contextlib.suppress(OSError, psutil.Error):
        note = {"pid": pid, "started": psutil.Process(pid).create_time()}
        write_atomic(folder / PID, json.dumps(note).encode(), durable=False)


def _noted(folder: Path) -> Any:
    """Return the process that the note in the folder names, if it still is the one."""
    import psutil

    try:
        note = json.loads((folder / PID).read_text("utf-8"))
        process = psutil.Process(int(note["pid"]))
        return process if abs(process.create_time() - float(note["started"])) < 1.0 else None
    except (OSError, ValueError, KeyError, TypeError, psutil.Error):
        return None


def _by_command_line(folder: Path) -> Any:
    """Return the process that was started on this folder's config: it may not have taken its lock yet."""
    import psutil

    wanted = str(folder / CONFIG)
    for process in psutil.process_iter(["cmdline", "status"]):
        if wanted in (process.info["cmdline"] or []) and process.info["status"] != psutil.STATUS_ZOMBIE:
            return process
    return None
