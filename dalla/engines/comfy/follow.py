"""Follow one prompt to its end: events for the progress, history and queue for the truth.

The socket may fail or fall silent at any time; then the server is polled. A prompt that is neither
in the queue nor in the history is lost, and waiting ends at once.
"""

from __future__ import annotations

import contextlib
import json
import logging
import struct
import time
import uuid
from dataclasses import dataclass, field
from typing import Any

from dalla.engines.comfy import faults
from dalla.engines.comfy.client import ComfyClient
from dalla.engines.images.base import Report
from dalla.errors import InvalidInput, NotConfigured, TimedOut, Unavailable, UpstreamError

logger = logging.getLogger(__name__)

LISTEN_SECONDS = 0.25  # how long one look at the socket lasts; also how quickly cancel is noticed
SILENCE_SECONDS = 2.0  # without an event of ours for so long, ask the server itself
UNREACHABLE_SECONDS = 10.0  # a server that does not answer for so long is gone
FIRST_POLL, LAST_POLL = 0.1, 1.0
PREVIEW_SECONDS = 0.2
_MESSAGES = {
    "CheckpointLoaderSimple": "Loading the model",
    "UNETLoader": "Loading the model",
    "DualCLIPLoader": "Loading the text encoders",
    "TripleCLIPLoader": "Loading the text encoders",
    "VAELoader": "Loading the VAE",
    "LoraLoader": "Applying LoRAs",
    "LoraLoaderModelOnly": "Applying LoRAs",
    "CLIPTextEncode": "Reading the prompt",
    "LoadImage": "Reading the picture",
    "VAEEncode": "Reading the picture",
    "KSampler": "Drawing",
    "SamplerCustomAdvanced": "Drawing",
    "VAEDecode": "Decoding",
    "SaveImage": "Saving",
    "UpscaleModelLoader": "Loading the upscaler",
    "ImageUpscaleWithModel": "Enlarging",
    "ImageScale": "Enlarging",
    "ImageScaleBy": "Enlarging",
}


@dataclass
class Outcome:
    """What a finished prompt left: files per output node, in the order of the nodes asked for."""

    prompt_id: str
    files: dict[str, list[dict[str, str]]] = field(default_factory=dict)
    seconds: float | None = None  # the server's own time


def run(
    client: ComfyClient,
    graph: dict[str, Any],
    report: Report,
    *,
    timeout: float,
    samplers: list[str],
    steps: int = 0,
    extra: dict[str, Any] | None = None,
    prompt_id: str | None = None,
) -> Outcome:
    """Queue `graph` and wait for it. `samplers` are the nodes whose steps are the progress, `steps`
    how many each is expected to make.

    Raises Cancelled, UpstreamError, Unavailable, TimedOut, InvalidInput. However it ends, the
    prompt does not stay in the server's queue.
    """
    follower = _Follower(
        client, graph, report, timeout, {name: (0.0, float(steps)) for name in samplers}, prompt_id or str(uuid.uuid4())
    )
    return follower.run(extra or {})


class _Follower:
    def __init__(
        self,
        client: ComfyClient,
        graph: dict[str, Any],
        report: Report,
        timeout: float,
        done: dict[str, tuple[float, float]],
        id: str,
    ) -> None:
        self._client = client
        self._graph = graph
        self._report = report
        self._timeout = timeout
        self._id = id
        self._socket: Any = None
        self._done = done  # sampler node -> (steps done, steps in all)
        self._said = ""
        self._life = time.monotonic()  # last sign of life from the prompt
        self._queue_state: object = None
        self._unreachable_since: float | None = None
        self._ended = False
        self._last_preview = 0.0
        self._heard = False  # the socket has said anything of our prompt
        self._asked = 0  # how often it was found running in spite of silence

    def run(self, extra: dict[str, Any]) -> Outcome:
        client_id = uuid.uuid4().hex  # a reused id gets no events once its older socket closes
        self._connect(client_id)
        try:
            self._client.submit(
                self._graph, self._id, client_id=client_id, extra={**extra, "preview_method": "latent2rgb"}
            )
            return self._wait()
        except (InvalidInput, NotConfigured):
            self._ended = True  # refused: it never was in the queue
            raise
        finally:
            self._hang_up()
            # Also when only the answer to our POST was late or lost: it may be in the queue all the same.
            if not self._ended and not self._client.cancel(self._id):
                logger.warning("ComfyUI: the prompt %s could not be taken back", self._id)

    def _wait(self) -> Outcome:
        pause = FIRST_POLL
        last_asked = heard = time.monotonic()
        while True:
            now = time.monotonic()
            self._report.check_cancelled()
            if now - self._life > self._timeout:
                raise TimedOut(
                    f"ComfyUI gave no sign of life for {self._timeout:g} s, so this was given up.",
                    remedy="Look at ComfyUI's log; raise COMFYUI_TIMEOUT if the machine is simply slow.",
                )
            if self._socket is not None:
                event = self._listen()
                if event == "end":
                    outcome = self._finished(wait=1.0)
                    if outcome is not None:
                        return outcome
                if event:
                    self._heard = True
                    heard = self._life = time.monotonic()
                    continue
                if self._socket is not None and time.monotonic() - max(heard, last_asked) < SILENCE_SECONDS:
                    continue
            else:
                time.sleep(pause)
                pause = min(pause * 1.5, LAST_POLL)
            last_asked = time.monotonic()
            outcome = self._ask()
            if outcome is not None:
                return outcome

    # ------------------------------------------------------------ the truth

    def _ask(self) -> Outcome | None:
        """Look into queue and history. Raises when the prompt is lost or the server is gone."""
        try:
            running, pending = self._client.queue()
            # In this order: a prompt moves from the queue into the history, never back.
            outcome = self._finished()
            self._unreachable_since = None
        except (Unavailable, TimedOut, UpstreamError) as exc:
            if self._ended or (isinstance(exc, UpstreamError) and exc.kind != "retry"):
                raise
            now = time.monotonic()
            if self._unreachable_since is None:
                self._unreachable_since = now
            if now - self._unreachable_since > UNREACHABLE_SECONDS:
                self._ended = True  # nobody there to cancel it
                raise Unavailable(
                    f"ComfyUI stopped answering while it was drawing: {exc.detail}",
                    remedy="Start ComfyUI again and generate the picture again.",
                ) from exc
            return None
        if outcome is not None:
            return outcome
        self._asked += self._id in running
        state = (self._id in running, pending.index(self._id) if self._id in pending else None, tuple(running))
        if not state[0] and state[1] is None:
            self._ended = True
            raise faults.lost()
        if state != self._queue_state or state[1] is not None or self._socket is None:
            # Waiting behind others may take hours; and without events, running is all the life there is to see.
            self._queue_state, self._life = state, time.monotonic()
        if state[0] and self._socket is not None and not self._heard and self._asked >= 2:
            logger.info("ComfyUI: the event socket is deaf, polling instead")
            self._hang_up()
        if state[1] is not None:
            ahead = state[1] + len(running)
            self._say(f"Waiting in ComfyUI's queue, {ahead} ahead" if ahead else "Next in ComfyUI's queue")
        elif self._socket is None:
            self._say(self._said if self._said and "queue" not in self._said else "ComfyUI is drawing")
        return None

    def _finished(self, wait: float = 0.0) -> Outcome | None:
        """Read the history; `wait` because the end is announced a moment before it is written there."""
        end = time.monotonic() + wait
        while (entry := self._client.history(self._id)) is None:
            if time.monotonic() >= end:
                return None
            time.sleep(0.01)
        self._ended = True
        status = entry.get("status") or {}
        messages = {m[0]: m[1] for m in status.get("messages") or [] if isinstance(m, list) and len(m) == 2}
        if "execution_error" in messages:
            error = messages["execution_error"]
            logger.warning("ComfyUI failed on %s: %s", self._id, str(error.get("exception_message"))[:500])
            raise faults.failed_run(error)
        if "execution_interrupted" in messages:
            self._report.check_cancelled()  # Cancelled when it was us
            raise UpstreamError(
                "Somebody stopped this picture in ComfyUI itself.",
                service="ComfyUI",
                kind="retry",
                remedy="Generate it again.",
            )
        if status.get("status_str") == "error":
            raise UpstreamError("ComfyUI reports a failure without a reason.", service="ComfyUI")
        return Outcome(self._id, _files(entry.get("outputs") or {}), _seconds(messages))

    # ------------------------------------------------------------ the events

    def _connect(self, client_id: str) -> None:
        try:
            self._socket = self._client.open_socket(client_id)
            self._socket.settimeout(LISTEN_SECONDS)
        except Exception as exc:  # noqa: BLE001 - without a socket the prompt is polled; the POST says what is wrong
            logger.info("ComfyUI: no event socket (%s), polling instead", exc)
            self._socket = None

    def _hang_up(self) -> None:
        socket, self._socket = self._socket, None
        if socket is not None:
            with contextlib.suppress(Exception):
                socket.close(timeout=0)

    def _listen(self) -> str:
        """Take one event: "" nothing of ours, "life" ours, "end" our prompt has ended."""
        import websocket

        try:
            opcode, data = self._socket.recv_data()
        except (websocket.WebSocketTimeoutException, TimeoutError):
            return ""
        except (websocket.WebSocketException, OSError) as exc:
            logger.info("ComfyUI: the event socket broke (%s), polling instead", exc)
            self._hang_up()
            return ""
        if opcode == 2:
            return self._preview(data)
        if opcode != 1:
            if opcode == 8:
                self._hang_up()
            return ""
        try:
            event = json.loads(data)
            kind, body = event["type"], event.get("data") or {}
        except (ValueError, KeyError, TypeError):
            return ""
        if not isinstance(body, dict) or body.get("prompt_id") != self._id:
            return ""
        if kind in ("execution_success", "execution_error", "execution_interrupted"):
            return "end"
        if kind == "executing":
            if body.get("node") is None:
                return "end"
            node = self._graph.get(str(body["node"]), {})
            self._say(_MESSAGES.get(node.get("class_type", ""), self._said or "Working"))
        elif kind == "progress":
            self._step(str(body.get("node")), body)
        return "life"

    def _step(self, node: str, body: dict[str, Any]) -> None:
        try:
            value, top = float(body["value"]), float(body["max"])
        except (KeyError, TypeError, ValueError):
            return
        if node not in self._done:
            return
        self._done[node] = (value, top)
        number = list(self._done).index(node) + 1
        of = f" of picture {number}" if len(self._done) > 1 else ""
        self._say(f"Step {value:g} of {top:g}{of}")

    def _say(self, message: str) -> None:
        self._said = message
        top = max((t for _, t in self._done.values()), default=0.0) or 1.0
        done = sum(v for v, _ in self._done.values())
        self._report.progress(done, top * max(1, len(self._done)), message)

    def _preview(self, data: bytes) -> str:
        if len(data) < 8:
            return ""
        (kind,) = struct.unpack(">I", data[:4])
        if kind == 1:
            (form,) = struct.unpack(">I", data[4:8])
            mime, image = ("image/png" if form == 2 else "image/jpeg"), data[8:]
        elif kind == 4:
            (length,) = struct.unpack(">I", data[4:8])
            meta = faults.json_object(data[8 : 8 + length]) or {}
            if meta.get("prompt_id") not in (None, self._id):
                return ""
            mime, image = str(meta.get("image_type") or "image/jpeg"), data[8 + length :]
        else:
            return ""
        now = time.monotonic()
        if now - self._last_preview >= PREVIEW_SECONDS and image:
            self._last_preview = now
            self._report.preview(image, mime)
        return "life"


def _files(outputs: dict[str, Any]) -> dict[str, list[dict[str, str]]]:
    """Return the files per node. Outputs also hold texts and flags, so only dicts with a file name count."""
    found: dict[str, list[dict[str, str]]] = {}
    for node, groups in outputs.items():
        for group in groups.values() if isinstance(groups, dict) else []:
            for item in group if isinstance(group, list) else []:
                if isinstance(item, dict) and item.get("filename"):
                    found.setdefault(node, []).append(
                        {k: str(item.get(k) or "") for k in ("filename", "subfolder", "type")}
                    )
    return found


def _seconds(messages: dict[str, Any]) -> float | None:
    try:
        return (messages["execution_success"]["timestamp"] - messages["execution_start"]["timestamp"]) / 1000
    except (KeyError, TypeError):
        return None
