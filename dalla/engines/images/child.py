"""The parent's side of the built-in engine's child process: start, talk, watch, end.

The process holds PyTorch and the model; this side holds a pipe. It is started on first use, kept
warm, and ended when it idles or memory gets short. It ends by itself when this process dies.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import signal
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path
from typing import Any, BinaryIO

from dalla.engines.children import environment, own_session
from dalla.engines.images.base import Report
from dalla.errors import (
    Cancelled,
    Conflict,
    DallaError,
    InvalidInput,
    NotConfigured,
    NotFound,
    StorageError,
    Unavailable,
    UpstreamError,
)
from dalla.frames import read_frame, write_frame
from dalla.settings import ROOT

log = logging.getLogger(__name__)
POLL_SECONDS = 0.2  # how often a cancel is looked for while the child says nothing
CANCEL_GRACE_SECONDS = 10.0  # then the child is killed: it may sit in a minute-long step or load
LOG_BYTES = 4_000_000
_ERRORS: dict[str, type[DallaError]] = {
    cls.code: cls for cls in (Cancelled, Conflict, InvalidInput, NotConfigured, NotFound, StorageError, Unavailable)
}
Frame = tuple[dict[str, Any], list[bytes]]


class Child:
    """One run of `python -m dalla.diffusion.host` (or another `module` of its kind). A new one is made after it has ended.

    `label` and `service` are what its errors call it.
    """

    def __init__(
        self,
        log_file: Path,
        *,
        module: str = "dalla.diffusion.host",
        label: str = "The built-in engine",
        service: str = "builtin",
    ) -> None:
        self.device: str | None = None
        self.versions: dict[str, str] = {}
        self.started = time.time()
        self._log_file = log_file
        self._label = label
        self._service = service
        self._frames: queue.Queue[Frame | None] = queue.Queue()
        self._write_lock = threading.Lock()
        log_file.parent.mkdir(parents=True, exist_ok=True)
        if log_file.exists() and log_file.stat().st_size > LOG_BYTES:
            os.replace(log_file, log_file.with_suffix(".old.log"))
        with open(log_file, "ab") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-m", module],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                cwd=ROOT,
                env={**os.environ, **environment()},
                **own_session(),
            )
        self._reader = threading.Thread(target=self._read, name="builtin-engine", daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    def memory_bytes(self) -> int | None:
        """Return the resident memory, or None when it has ended."""
        import psutil

        try:
            return int(psutil.Process(self.pid).memory_info().rss)
        except psutil.Error:
            return None

    def call(self, header: dict[str, Any], blobs: list[bytes], report: Report) -> Frame:
        """Send a request and return the final frame. Raises the child's error, Cancelled, or UpstreamError.

        After an exception other than the child's own, the child has stopped working on the request
        or has been killed.
        """
        id = uuid.uuid4().hex
        self._send({**header, "id": id}, blobs)
        try:
            return self._follow(id, report)
        except DallaError as exc:
            if not getattr(exc, "_from_child", False):
                self._abandon(id)
            raise
        except BaseException:
            self._abandon(id)
            raise

    def stop(self, timeout: float = 5.0) -> None:
        """End the process: first by closing its input, then by force."""
        self._close_input()
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join(timeout)

    def _follow(self, id: str, report: Report) -> Frame:
        while True:
            report.check_cancelled()
            try:
                frame = self._frames.get(timeout=POLL_SECONDS)
            except queue.Empty:
                continue
            if frame is None:
                raise self._death()
            header, blobs = frame
            if header["type"] == "ready":
                self.versions = header["versions"]
            if header.get("id") != id:
                continue
            match header["type"]:
                case "phase":
                    report.progress(0, 1, header["message"])
                case "progress":
                    report.progress(header["done"], header["total"], header["message"])
                case "preview":
                    report.preview(blobs[0], header["mime"])
                case "error":
                    raise error_of(header["problem"])
                case "done":
                    self.device = header["device"]
                    return header, blobs

    def _abandon(self, id: str) -> None:
        """Make the child stop working on a request, gently first."""
        if not self.is_alive:
            return
        self._send({"type": "cancel", "id": id}, [], quiet=True)
        end = time.monotonic() + CANCEL_GRACE_SECONDS
        while time.monotonic() < end:
            try:
                frame = self._frames.get(timeout=POLL_SECONDS)
            except queue.Empty:
                continue
            if frame is None:
                return
            if frame[0].get("id") == id and frame[0]["type"] in ("error", "done"):
                return
        log.warning("%s did not react to cancel and is killed", self._label)
        self._process.kill()
        self._process.wait()
        self._close_input()

    def _send(self, header: dict[str, Any], blobs: list[bytes], *, quiet: bool = False) -> None:
        try:
            with self._write_lock:
                assert self._process.stdin is not None
                write_frame(self._process.stdin, header, blobs)  # type: ignore[arg-type]
        except (OSError, ValueError) as exc:
            if not quiet:
                raise self._death() from exc

    def _close_input(self) -> None:
        with contextlib.suppress(OSError):  # closing flushes, and the other end may be gone
            assert self._process.stdin is not None
            self._process.stdin.close()

    def _read(self) -> None:
        source: BinaryIO = self._process.stdout  # type: ignore[assignment]
        with source:
            try:
                while (frame := read_frame(source)) is not None:
                    self._frames.put(frame)
            except (OSError, ValueError):
                log.exception("%s sent something unreadable", self._label)
        self._frames.put(None)

    def _death(self) -> UpstreamError:
        """Say why the process is gone, as far as one can know."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(2)
        self._close_input()
        code = self._process.poll()
        if code is None:
            self._process.kill()
            self._process.wait()
            why = "stopped answering"
        elif code == -getattr(signal, "SIGKILL", 9):
            why = "was killed (out of memory?)"
        elif code < 0:
            with contextlib.suppress(ValueError):
                code = signal.Signals(-code).name  # type: ignore[assignment]
            why = f"crashed ({code})"
        else:
            why = f"ended unexpectedly (exit code {code}){self._last_line()}"
        return UpstreamError(
            f"{self._label} {why}. It starts afresh with the next picture.",
            service=self._service,
            kind="retry",
            remedy="Try again. If it happens every time, use a smaller size or model; "
            f"the reason may be in {self._log_file.name} in the data folder.",
        )

    def _last_line(self) -> str:
        with contextlib.suppress(OSError):
            lines = self._log_file.read_bytes()[-4000:].decode("utf-8", "replace").strip().splitlines()
            if lines:
                return f": {lines[-1][:200]}"
        return ""


def resident(child: Child | None, used: dict[str, str], *, busy: bool) -> list[dict[str, Any]]:
    """Return {name, memoryBytes, lastUsedAt, pid, device, precision, busy} of a child that is alive, else nothing."""
    if child is None or not child.is_alive:
        return []
    return [
        {
            "name": used.get("name"),
            "memoryBytes": child.memory_bytes(),
            "lastUsedAt": used.get("at"),
            "pid": child.pid,
            "device": child.device,
            "precision": None,
            "busy": busy,
        }
    ]


def error_of(problem: dict[str, Any]) -> DallaError:
    """Make the exception again that the child told about."""
    remedy, detail = problem.get("remedy"), problem["detail"]
    error: DallaError
    if (cls := _ERRORS.get(problem["code"])) is not None:
        error = cls(detail, remedy=remedy, errors=problem.get("errors"))
    else:
        error = UpstreamError(
            detail, service=problem.get("service", "builtin"), kind=problem.get("kind", "permanent"), remedy=remedy
        )
    error._from_child = True  # type: ignore[attr-defined]  # it has stopped working on it already
    return error
