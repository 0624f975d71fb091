"""The child process of the built-in engine: `python -m dalla.diffusion.host`.

Reads requests from standard input and writes messages to standard output, both as frames
(`dalla/frames.py`); whatever a library prints goes to standard error, which is the log. It ends when
standard input closes, also in the middle of a picture, so no orphan ever holds a graphics card.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import sys
import threading
from typing import Any, BinaryIO

from dalla.diffusion.families.base import environment
from dalla.errors import DallaError
from dalla.frames import read_frame, write_frame

log = logging.getLogger(__name__)


class Host:
    """Answers one request at a time; a second thread listens for cancel and for the parent's end."""

    label = "built-in engine"
    service = "builtin"

    def __init__(self, source: BinaryIO, sink: BinaryIO) -> None:
        self._source = source
        self._sink = sink
        self._write_lock = threading.Lock()
        self._requests: queue.Queue[tuple[dict[str, Any], list[bytes]]] = queue.Queue()
        self._current: tuple[str, threading.Event] | None = None
        self._cancelled: set[str] = set()

    def send(self, header: dict[str, Any], *blobs: bytes) -> None:
        with self._write_lock:
            write_frame(self._sink, header, blobs)

    def run(self) -> None:
        """Serve until standard input closes."""
        threading.Thread(target=self._listen, name="listen", daemon=True).start()
        worker = self.open()
        self.send({"type": "ready", "versions": versions()})
        while True:
            self._answer(worker, *self._requests.get())

    def open(self) -> Any:
        """Return what does the work; it holds the model. Other hosts (`caption_host.py`) have another."""
        from dalla.diffusion.generate import Generator

        return Generator()

    def work(
        self, worker: Any, header: dict[str, Any], blobs: list[bytes], cancel: threading.Event
    ) -> tuple[dict[str, Any], list[bytes]]:
        """Do one request; return the fields and the blobs of its answer. Raises DallaError."""
        from dalla.diffusion.generate import Task
        from dalla.diffusion.memory import Meter

        meter = Meter()
        task = Task(**header["task"])
        drawn = worker.generate(task, blobs[0] if blobs else None, Listener(self, header["id"]), cancel)
        facts = {"device": drawn.device, "precision": drawn.precision, "notes": drawn.notes}
        return {**facts, "memory": meter.peak(drawn.device)}, drawn.images

    def _listen(self) -> None:
        while (frame := read_frame(self._source)) is not None:
            header, blobs = frame
            if header["type"] == "cancel":
                self._cancelled.add(header["id"])
                if self._current and self._current[0] == header["id"]:
                    self._current[1].set()
            else:
                self._requests.put((header, blobs))
        os._exit(0)  # the parent is gone; nobody waits for the picture, and threads must not delay the end

    def _answer(self, worker: Any, header: dict[str, Any], blobs: list[bytes]) -> None:
        id = header["id"]
        cancel = threading.Event()
        self._current = (id, cancel)
        if id in self._cancelled:
            cancel.set()
        try:
            fields, images = self.work(worker, header, blobs, cancel)
        except DallaError as exc:
            self.send({"type": "error", "id": id, "problem": exc.problem()})
        except Exception as exc:  # the one catch-all of this process
            log.exception("request %s failed", id)
            text = f"The {self.label} failed: {type(exc).__name__}: {exc}"
            problem = {"code": "upstream_error", "detail": text[:500], "service": self.service, "kind": "permanent"}
            self.send({"type": "error", "id": id, "problem": problem})
        else:
            self.send({"type": "done", "id": id, **fields}, *images)
        finally:
            self._current = None
            self._cancelled.discard(id)


class Listener:
    """Passes on what the generator tells."""

    def __init__(self, host: Host, id: str) -> None:
        self._host = host
        self._id = id

    def phase(self, message: str) -> None:
        self._host.send({"type": "phase", "id": self._id, "message": message})

    def progress(self, done: float, total: float, message: str) -> None:
        self._host.send({"type": "progress", "id": self._id, "done": done, "total": total, "message": message})

    def preview(self, jpeg: bytes) -> None:
        self._host.send({"type": "preview", "id": self._id, "mime": "image/jpeg"}, jpeg)


def versions() -> dict[str, str]:
    """Return the versions of what the pictures depend on."""
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for name in ("torch", "diffusers", "transformers", "peft"):
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def serve(host: type[Host]) -> None:
    """Keep the pipe for frames alone, then serve."""
    sink = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    sys.stdout = sys.stderr
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    environment()
    host(sys.stdin.buffer, sink).run()


if __name__ == "__main__":
    serve(Host)
