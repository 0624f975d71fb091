"""Speak with a ComfyUI server: the only file that knows its URLs.

Every failure leaves here as a `dalla.errors` class. Following a prompt to its end is `follow.py`;
what a refusal means in words is `faults.py`.
"""

from __future__ import annotations

import base64
import json
import logging
import os
import threading
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, unquote, urlencode, urlsplit, urlunsplit

from dalla.engines.comfy import faults
from dalla.errors import NotFound, TimedOut, Unavailable, UpstreamError

logger = logging.getLogger(__name__)

CONNECT_SECONDS = 1.5
MAX_JSON = 64 * 1024 * 1024
MAX_FILE = 256 * 1024 * 1024
CACHE_SECONDS = 5.0
SIZES_SECONDS = 60.0


class ComfyClient:
    """One server. Thread-safe."""

    def __init__(self, base_url: str, headers: Mapping[str, str] | None = None, timeout: float = 30.0) -> None:
        parts = urlsplit(base_url.rstrip("/"))
        self._headers = {str(k): str(v) for k, v in (headers or {}).items()}
        if parts.username is not None and not any(k.lower() == "authorization" for k in self._headers):
            pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            self._headers["Authorization"] = "Basic " + base64.b64encode(pair.encode()).decode()
        # Without the user's name and password: the address is shown in errors.
        self.base_url = urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
        self._is_local = parts.hostname in ("127.0.0.1", "localhost", "::1")
        self._timeout = timeout
        self._cache: dict[str, tuple[float, Any]] = {}
        self._lock = threading.Lock()
        self._session: Any = None
        self._has_job_cancel: bool | None = None  # not known yet

    # ------------------------------------------------------------ what there is

    def system_stats(self, *, timeout: float | None = None) -> dict[str, Any]:
        """Return versions, devices and memory. Raises Unavailable when this is no ComfyUI."""
        stats = self._json("GET", "/system_stats", timeout=timeout)
        if not isinstance(stats.get("system"), dict):
            raise faults.bad_answer(200, "", b"no system_stats", None, self.base_url)
        return stats

    def object_info(self, node: str | None = None, *, fresh: bool = False) -> dict[str, Any]:
        """Return what a node class takes ({} when it is not installed), or all of them. Cached for seconds."""
        path = f"/object_info/{quote(node, safe='')}" if node else "/object_info"
        info = self._cached(path, fresh)
        return info.get(node) or {} if node else info

    def choices(self, node: str, name: str, *, fresh: bool = False) -> list[str]:
        """Return what an input of a node class may be, whichever way the server spells it. [] if absent."""
        inputs = self.object_info(node, fresh=fresh).get("input") or {}
        for group in ("required", "optional"):
            if name in (inputs.get(group) or {}):
                return combo_options(inputs[group][name])
        return []

    def view_metadata(self, folder: str, name: str) -> dict[str, str]:
        """Return a safetensors file's metadata; {} when there is none or the server does not tell."""
        path = f"/view_metadata/{quote(folder)}?{urlencode({'filename': name})}"
        try:
            found = self._cached(path, False, keep=600, absent={})
        except UpstreamError:
            return {}
        return {str(k): str(v) for k, v in found.items()} if isinstance(found, dict) else {}

    def sizes(self, folder: str) -> dict[str, int]:
        """Return the bytes of the files in a folder ("checkpoints", "loras" …) by name; {} where the server does not tell."""
        path = f"/experiment/models/{quote(folder)}"
        with self._lock:
            found = self._cache.get(path)
        if not found or time.monotonic() - found[0] > SIZES_SECONDS:
            try:
                status, _, data, _ = self._send("GET", path, timeout=5)
                rows = json.loads(data) if status == 200 else []
            except (Unavailable, TimedOut, UpstreamError, ValueError):
                rows = []
            sizes = {
                str(row["name"]).replace("\\", "/"): row["size"]
                for row in (rows if isinstance(rows, list) else [])
                if isinstance(row, dict) and "name" in row and isinstance(row.get("size"), int)
            }
            found = (time.monotonic(), sizes)
            with self._lock:
                self._cache[path] = found
        return dict(found[1])

    def forget(self) -> None:
        """Drop cached answers, e.g. after a file was added."""
        with self._lock:
            self._cache.clear()

    # ------------------------------------------------------------ prompts

    def submit(
        self,
        graph: dict[str, Any],
        prompt_id: str,
        *,
        client_id: str | None = None,
        extra: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Queue a graph under our own id (a canonical lower-case UUID).

        Raises InvalidInput or NotConfigured when it is refused; nothing is then left in the queue.
        """
        body: dict[str, Any] = {"prompt": graph, "prompt_id": prompt_id, "extra_data": extra or {}}
        if client_id:
            body["client_id"] = client_id
        status, kind, data, location = self._send("POST", "/prompt", json_body=body)
        answer = faults.json_object(data)
        if answer is None or status not in (200, 400):
            raise faults.bad_answer(status, kind, data, location, self.base_url)
        if status == 400:
            raise faults.refused_graph(answer)
        if answer.get("node_errors"):
            # Some pictures were dropped and the rest queued: half an order is not what was asked for.
            self.cancel(str(answer.get("prompt_id") or prompt_id))
            raise faults.refused_graph(answer)
        if not answer.get("prompt_id"):
            raise faults.bad_answer(200, kind, data, location, self.base_url)
        return answer

    def queue(self) -> tuple[list[str], list[str]]:
        """Return the ids of the running prompts and of the waiting ones, next first."""
        answer = self._json("GET", "/queue")
        pending = sorted(answer.get("queue_pending") or [], key=lambda item: item[0])  # the server's order is a heap's
        return [item[1] for item in answer.get("queue_running") or []], [item[1] for item in pending]

    def history(self, prompt_id: str) -> dict[str, Any] | None:
        """Return the finished prompt's entry. None means anything else: waiting, running, unknown."""
        return self._json("GET", f"/history/{prompt_id}").get(prompt_id)

    def cancel(self, prompt_id: str, *, seconds: float = 15.0) -> bool:
        """Take our prompt, and no other, out of the queue or stop it, and see it gone.

        A stop takes effect at the next sampling step. False: the server could not be asked, or needs longer.
        """
        end = time.monotonic() + seconds
        pause = 0.05
        while True:
            try:
                if self._cancel_once(prompt_id):
                    return True
            except (Unavailable, TimedOut, UpstreamError) as exc:
                logger.warning("ComfyUI could not be asked to cancel %s: %s", prompt_id, exc.detail)
                if isinstance(exc, Unavailable) or time.monotonic() > end:
                    return False
            if time.monotonic() > end:
                return False
            time.sleep(pause)
            pause = min(pause * 2, 1.0)

    def _cancel_once(self, prompt_id: str) -> bool:
        """Ask once; True when the prompt is neither waiting nor running any more."""
        if self._has_job_cancel is not False:
            path = f"/api/jobs/{prompt_id}/cancel"
            status, _, _, _ = self._send("POST", path, json_body={}, timeout=5)
            self._has_job_cancel = status not in (404, 405)
        running, pending = self.queue()
        if prompt_id in pending:
            self._send("POST", "/queue", json_body={"delete": [prompt_id]}, timeout=5)
            return False  # it may have started in between: look again
        if prompt_id in running:
            # Asked only while ours runs: servers that do not know `prompt_id` stop whatever runs.
            self._send("POST", "/interrupt", json_body={"prompt_id": prompt_id}, timeout=5)
            return False  # a stop that hits the moment it starts is forgotten by the server: look again
        return True

    def free(self, *, timeout: float = 5.0) -> None:
        """Ask the server to unload its models and give the memory back; it does so once nothing is drawn any more.

        Raises Unavailable, TimedOut, UpstreamError.
        """
        body = {"unload_models": True, "free_memory": True}
        status, kind, data, location = self._send("POST", "/free", json_body=body, timeout=timeout)
        if status != 200:
            raise faults.bad_answer(status, kind, data, location, self.base_url)

    # ------------------------------------------------------------ files

    def view(self, filename: str, subfolder: str = "", type: str = "output") -> bytes:
        """Return a file's bytes. Raises NotFound when it was deleted meanwhile."""
        path = "/view?" + urlencode({"filename": filename, "subfolder": subfolder, "type": type})
        status, kind, data, location = self._send("GET", path, limit=MAX_FILE)
        if status == 404:
            raise NotFound(f"ComfyUI no longer has the file {filename}.")
        if status != 200 or "html" in kind:
            raise faults.bad_answer(status, kind, data, location, self.base_url)
        return data

    def upload_image(self, data: bytes, name: str, subfolder: str = "dalla") -> str:
        """Store a picture in the server's input folder; return the name a LoadImage node takes."""
        status, kind, body, location = self._send(
            "POST",
            "/upload/image",
            data={"type": "input", "subfolder": subfolder},
            files={"image": (name, data, "image/png")},
        )
        answer = faults.json_object(body)
        if status != 200 or not answer or not answer.get("name"):
            raise faults.bad_answer(status, kind, body, location, self.base_url)
        folder = answer.get("subfolder") or ""
        return f"{folder}/{answer['name']}" if folder else str(answer["name"])

    def logs(self) -> str:
        """Return the server's log, or "" where it does not show it."""
        try:
            status, _, data, _ = self._send("GET", "/internal/logs", timeout=5)
        except (Unavailable, TimedOut, UpstreamError):
            return ""
        return data.decode("utf-8", "replace") if status == 200 else ""

    # ------------------------------------------------------------ transport

    def open_socket(self, client_id: str, timeout: float = CONNECT_SECONDS) -> Any:
        """Open the event socket of a client id nobody used before. Raises OSError or WebSocketException."""
        import websocket

        parts = urlsplit(self.base_url)
        scheme = "wss" if parts.scheme == "https" else "ws"
        url = urlunsplit((scheme, parts.netloc, f"{parts.path}/ws", urlencode({"clientId": client_id}), ""))
        socket = websocket.create_connection(
            url,
            timeout=timeout,
            header=[f"{k}: {v}" for k, v in self._headers.items()],
            suppress_origin=True,  # ComfyUI answers 403 to an Origin that is not its own
            enable_multithread=False,
            http_no_proxy=["*"] if self._is_local else None,
        )
        flags = {"type": "feature_flags", "data": {"supports_preview_metadata": True}}
        socket.send(json.dumps(flags))
        return socket

    def close(self) -> None:
        """Close kept connections."""
        with self._lock:
            session, self._session = self._session, None
        if session is not None:
            session.close()

    def _cached(self, path: str, fresh: bool, keep: float = CACHE_SECONDS, absent: Any = None) -> Any:
        """Ask, or answer from memory. `absent`: what to remember for a 404; without it a 404 is an error."""
        with self._lock:
            found = self._cache.get(path)
        if found and not fresh and time.monotonic() - found[0] < keep:
            return found[1]
        value = self._json("GET", path, absent=absent)
        with self._lock:
            self._cache[path] = (time.monotonic(), value)
        return value

    def _json(self, method: str, path: str, *, timeout: float | None = None, absent: Any = None) -> dict[str, Any]:
        status, kind, data, location = self._send(method, path, timeout=timeout)
        if status == 404 and absent is not None:
            return absent
        value = faults.json_object(data) if status == 200 else None
        if value is None:
            raise faults.bad_answer(status, kind, data, location, self.base_url)
        return value

    def _send(
        self,
        method: str,
        path: str,
        *,
        json_body: Any = None,
        timeout: float | None = None,
        limit: int = MAX_JSON,
        **more: Any,
    ) -> tuple[int, str, bytes, str | None]:
        """Return (status, content type, body, Location). Raises Unavailable, TimedOut, UpstreamError."""
        import requests

        if json_body is not None:
            more["data"] = json.dumps(json_body)
            more["headers"] = {"Content-Type": "application/json"}
        seconds = self._timeout if timeout is None else timeout
        began = time.monotonic()
        try:
            with self._open().request(
                method,
                self.base_url + path,
                timeout=(min(CONNECT_SECONDS, seconds), seconds),
                allow_redirects=False,
                stream=True,
                **more,
            ) as response:
                body = self._read(response, limit)
                kind = response.headers.get("Content-Type", "").lower()
                status, location = response.status_code, response.headers.get("Location")
        except requests.exceptions.ConnectTimeout as exc:
            raise self._off(f"nothing answers at {self.base_url} within {CONNECT_SECONDS:g} s") from exc
        except requests.exceptions.Timeout as exc:
            raise TimedOut(
                f"ComfyUI at {self.base_url} did not answer within {seconds:g} s.",
                remedy="It may be loading a model or be out of memory; look at its log and try again.",
            ) from exc
        except requests.exceptions.SSLError as exc:
            raise self._off(f"the secure connection to {self.base_url} failed ({_short(exc)})") from exc
        except requests.exceptions.ConnectionError as exc:
            why = "refused the connection" if "refused" in str(exc).lower() else f"cannot be reached ({_short(exc)})"
            raise self._off(f"{self.base_url} {why}") from exc
        except (requests.exceptions.RequestException, ValueError) as exc:
            raise UpstreamError(
                f"The talk with ComfyUI broke off: {_short(exc)}.", service="ComfyUI", kind="retry"
            ) from exc
        logger.debug("ComfyUI %s %s %s %.0f ms", method, path, status, (time.monotonic() - began) * 1000)
        return status, kind, body, location

    @staticmethod
    def _read(response: Any, limit: int) -> bytes:
        """Read the body, but never more than `limit`: a proxy's endless page must not fill the memory."""
        length = response.headers.get("Content-Length", "")
        chunks, size = [], 0
        if not (length.isdigit() and int(length) > limit):
            for chunk in response.iter_content(1 << 16):
                size += len(chunk)
                if size > limit:
                    break
                chunks.append(chunk)
            else:
                return b"".join(chunks)
        raise UpstreamError(f"ComfyUI answered with more than {limit // 1048576} MB.", service="ComfyUI")

    def _off(self, why: str) -> Unavailable:
        return Unavailable(
            f"ComfyUI is not reachable: {why}.",
            remedy="Start ComfyUI, or set its address (COMFYUI_URL, or under Settings, Engines).",
        )

    def _open(self) -> Any:
        with self._lock:
            if self._session is None:
                import requests

                self._session = requests.Session()
                # A .netrc would go over our own headers, and a system proxy has no way to this machine's ports.
                self._session.trust_env = False
                if not self._is_local:
                    self._session.proxies.update(requests.utils.get_environ_proxies(self.base_url))
                    self._session.verify = os.environ.get("REQUESTS_CA_BUNDLE") or True
                self._session.headers.update({"User-Agent": "digital-dalla", **self._headers})
            return self._session


def combo_options(spec: Any) -> list[str]:
    """Return the choices of an input, in any of the three ways ComfyUI writes them."""
    if not isinstance(spec, list) or not spec:
        return []
    if isinstance(spec[0], list):
        return [str(v) for v in spec[0]]
    options = spec[1].get("options") if len(spec) > 1 and isinstance(spec[1], dict) else None
    return [str(o.get("key")) if isinstance(o, dict) else str(o) for o in options or []]


def _short(exc: BaseException) -> str:
    """Return the innermost reason of a requests error, without its object addresses."""
    inner = getattr(exc.args[0], "reason", exc.args[0]) if exc.args else exc
    text = str(inner)
    return (text.rsplit(">: ", 1)[-1] if ">: " in text else text)[:200]
