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
from dalla.errors import Conflict, StorageError, Unavailable
from dalla.paths import write_atomic
from dalla.records.lora import Ended, EndKind
from dalla.settings import ROOT

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

logger = logging.getLogger(__name__)

SCRIPT = ROOT / "train_lora.py"
NEEDED = ("torch", "diffusers", "transformers", "peft", "safetensors")
EVENTS, LOCK, LOG, CONFIG, PID = "events.jsonl", "run.lock", "run.log", "config.json", "run.pid"
CONTROLS = ("cancel", "pause", "save", "sample")
LAST_WORDS = frozenset({"done", "error", "cancelled"})
LOG_TAIL_LINES = 20
MAX_LINE = 4_000_000  # a longer line is no event

_BY_EXIT: dict[int, EndKind] = {
    2: "bad_input", 3: "out_of_memory", 4: "non_finite", 5: "verification", 130: "cancelled",
}  # fmt: skip
#: Words of the trainer's error codes and of its log, where the exit code says nothing.
_BY_WORD: tuple[tuple[EndKind, tuple[str, ...]], ...] = (
    ("disk_full", ("disk_full", "storage", "no space left", "disk quota", "enospc")),
    ("out_of_memory", ("out_of_memory", "out of memory", "memoryerror", "defaultcpuallocator", "bad_alloc")),
    ("non_finite", ("non_finite", "not finite", "nan loss")),
    ("verification", ("verification",)),
    ("bad_input", ("bad_input", "invalid_input")),
)
_SENTENCES: dict[EndKind, tuple[str, str | None]] = {
    "done": ("The training is finished.", None),
    "cancelled": ("The training was stopped.", None),
    "bad_input": ("The trainer could not use its input.", "Look at the log of the run."),
    "out_of_memory": (
        "The memory was not enough for this training.",
        "Choose a smaller resolution, batch or rank, switch gradient checkpointing on, and close other programs that use "
        "the graphics card.",
    ),
    "disk_full": (
        "The disk is full, so the training could not go on.",
        "Free some space (Monitoring shows which folder is full), then resume the run.",
    ),
    "non_finite": (
        "The loss became infinite or undefined, so the training was stopped before it could spoil the LoRA.",
        "Halve the learning rate, or train in bf16 or fp32 instead of fp16, and resume from the last checkpoint.",
    ),
    "verification": (
        "The finished LoRA did not pass its check (it would load without effect, or differ from what was trained).",
        "The checkpoints are kept. Look at the log of the run.",
    ),
    "killed": (
        "The trainer was killed from outside. Most often the system ran out of memory.",
        "Close other programs or choose a smaller resolution or batch, then resume: the run goes on from its last checkpoint.",
    ),
    "silent": (
        "The trainer stopped giving any sign of life and was ended.",
        "Resume the run; it goes on from its last checkpoint. If it happens again, look at the log of the run.",
    ),
    "failed": (
        "The trainer ended without saying why.",
        "Look at the log of the run; 'Resume' goes on from the last checkpoint.",
    ),
}


class Trainer:
    """Starts and finds runs of the trainer. One for the whole app.

    `command` is what the config's path is added to. Cancel first asks, after `cancel_seconds` without a sign of
    life it terminates, after `term_seconds` more it kills. `silent_seconds` without event, log line or CPU time: hung.
    """

    def __init__(
        self,
        *,
        command: Sequence[str] | None = None,
        environ: Mapping[str, str] | None = None,
        cancel_seconds: float = 20.0,
        term_seconds: float = 10.0,
        silent_seconds: float = 900.0,
        poll_seconds: float = 0.2,
    ) -> None:
        self._command = list(command) if command is not None else [sys.executable, str(SCRIPT)]
        self._environ = dict(environ or {})
        self._own_command = command is not None
        self.cancel_seconds = cancel_seconds
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
                process = self._spawn(folder, log)
        except OSError as exc:
            raise StorageError.from_os(exc, "the training run") from exc
        with _ours_lock:
            _ours[str(folder.resolve())] = process
        _note_pid(folder, process.pid)
        return TrainingProcess(self, folder, popen=process)

    def _spawn(self, folder: Path, log: BinaryIO) -> subprocess.Popen[bytes]:
        try:
            return subprocess.Popen(
                [*self._command, "--config", str(folder / CONFIG)],
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

    def pause(self) -> None:
        """Ask it to wait after the step it is at."""
        self._ask("pause")

    def go_on(self) -> None:
        """Take a pause back."""
        (self.folder / "pause").unlink(missing_ok=True)

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

    def cancel(self, on_event: Callable[[dict[str, Any]], None]) -> Ended:
        """Stop it: ask (it finishes its step and saves), then terminate, then kill. Returns when it has ended."""
        self._ask("cancel")
        self.go_on()
        asked = self._sign = time.monotonic()
        while self.is_alive:
            if self._tell(on_event):
                self._sign = time.monotonic()  # it is busy saving
            now = time.monotonic()
            if now - self._sign > self._trainer.cancel_seconds or now - asked > 6 * self._trainer.cancel_seconds:
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
        with contextlib.suppress(OSError):
            if os.name != "nt":
                os.killpg(self.pid, number)  # it leads a session of its own
                return
        self._signal_tree(hard)

    def _signal_tree(self, hard: bool) -> None:
        import psutil

        with contextlib.suppress(psutil.Error):
            parent = psutil.Process(self.pid)
            for process in (*parent.children(recursive=True), parent):
                with contextlib.suppress(psutil.Error):
                    if hard:
                        process.kill()
                    else:
                        process.terminate()

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
        seen = (_size(self.folder / EVENTS), _size(self.folder / LOG))
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


def how_it_ended(last: dict[str, Any], code: int | None, tail: list[str], wanted: EndKind | None = None) -> Ended:
    """Tell the end from the trainer's last word, its exit code (None: unknown) and the end of its log.

    `wanted` is what this side did to it: "cancelled" or "silent"; a run that finished all the same is "done".
    """
    word = last.get("event")
    kind: EndKind
    if word == "done":
        kind = "done"
    elif wanted is not None:
        kind = wanted
    elif word == "cancelled":
        kind = "cancelled"
    elif word == "error":
        told = _by_word(f"{last.get('code', '')} {last.get('detail', '')}")
        kind = "disk_full" if told == "disk_full" else _BY_EXIT.get(code or 0) or told or "failed"
    elif code is not None and code < 0:
        kind = "killed"
    elif code in _BY_EXIT:
        kind = _BY_EXIT[code]
    else:
        kind = _by_word("\n".join(tail[-3:])) or ("failed" if code is not None else "killed")
    detail, remedy = _SENTENCES[kind]
    if kind == "killed" and code is not None and code != -getattr(signal, "SIGKILL", 9):
        detail = f"The trainer crashed ({_signal_name(-code)})."
    elif kind == "killed" and code is None:
        detail = (
            "The trainer ended without a word while nobody watched: it was killed, or the computer was switched off."
        )
        remedy = "Resume the run: it goes on from its last checkpoint."
    elif kind == "failed" and code == 0:
        detail = "The trainer ended before it had finished the LoRA."
    elif kind == "failed" and tail:
        detail = f"The trainer ended unexpectedly (exit code {code}): {tail[-1][:300]}"
    if word == "error" and wanted is None:
        detail, remedy = str(last.get("detail") or detail), last.get("remedy") or remedy
    return Ended(
        kind=kind, detail=detail, remedy=remedy, code=last.get("code"), exit_code=code, event=last, log_tail=tail
    )


class EventTail:
    """Reads the whole lines that were added to an events file since the last look."""

    def __init__(self, path: Path, offset: int = 0) -> None:
        self.path = path
        self.offset = offset

    def read(self) -> list[dict[str, Any]]:
        """Return the new events. A line that is no JSON object (cut off by a crash) is left out."""
        events: list[dict[str, Any]] = []
        try:
            with open(self.path, "rb") as file:
                if os.fstat(file.fileno()).st_size < self.offset:  # somebody began it anew
                    self.offset = 0
                file.seek(self.offset)
                while True:
                    line = file.readline(MAX_LINE)
                    if not line.endswith(b"\n"):
                        if len(line) < MAX_LINE:
                            break  # not whole yet
                        self.offset += len(line)
                        continue
                    self.offset += len(line)
                    with contextlib.suppress(ValueError):
                        event = json.loads(line)
                        if isinstance(event, dict) and isinstance(event.get("event"), str):
                            events.append(event)
        except FileNotFoundError:
            pass
        except OSError as exc:
            logger.warning("%s cannot be read: %s", self.path, exc)
        return events


def lock_is_held(path: Path) -> bool:
    """Whether a living process holds the lock on this file. The system frees it when the process dies."""
    if not path.exists():
        return False
    if fcntl is None:
        from filelock import FileLock, Timeout

        lock = FileLock(path, timeout=0, thread_local=False)
        try:
            lock.acquire()
        except Timeout:
            return True
        lock.release()
        return False
    try:
        handle = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)  # shared: two who look do not take each other for a trainer
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(handle)
    return False


def log_tail(path: Path, lines: int = LOG_TAIL_LINES) -> list[str]:
    """Return the last lines of a log; progress bars (which end in a carriage return) show their last state."""
    try:
        with open(path, "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - 16_384))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return []
    kept = [line.rstrip("\r").rsplit("\r", 1)[-1].rstrip() for line in text.split("\n")]
    return [line[:1000] for line in kept if line.strip()][-lines:]


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


def _by_word(text: str) -> EndKind | None:
    text = text.lower()
    return next((kind for kind, words in _BY_WORD if any(word in text for word in words)), None)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1
