"""A real HTTP (and WebSocket) server on 127.0.0.1 in threads: the base of every pretend service.

A subclass answers `handle(call)`. Tests look at `.requests`, order failures with `.fail_next`, and
leave through the context manager. Not a framework: one request, one reply.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qsl, urlsplit

LOGIN_PAGE = "<!DOCTYPE html><html><head><title>Sign in</title></head><body><h1>Sign in</h1></body></html>"


@dataclass
class Call:
    """One request as it arrived."""

    method: str
    path: str
    query: dict[str, str]
    headers: Mapping[str, str]
    body: bytes = field(repr=False, default=b"")

    @property
    def json(self) -> Any:
        """The body as JSON, None when it is none."""
        try:
            return json.loads(self.body)
        except ValueError:
            return None


@dataclass
class Reply:
    """One answer. `status` 0 cuts the connection without a word, 101 opens a WebSocket."""

    status: int = 200
    body: Any = b""  # bytes, text, or anything JSON
    headers: dict[str, str] = field(default_factory=dict)

    def encoded(self) -> tuple[bytes, str]:
        """Return the body as bytes and its content type."""
        if isinstance(self.body, bytes):
            return self.body, "application/octet-stream"
        if isinstance(self.body, str):
            kind = "text/html" if self.body.lstrip().startswith("<") else "text/plain"
            return self.body.encode(), f"{kind}; charset=utf-8"
        return json.dumps(self.body).encode(), "application/json; charset=utf-8"


@dataclass
class _Failure:
    path: str
    reply: Reply
    times: int


class WebSocket:
    """The server's end of one socket. Sending never raises: a client may leave at any time."""

    def __init__(self, connection: socket.socket, client_id: str) -> None:
        self.client_id = client_id
        self.flags: dict[str, Any] = {}
        self._connection = connection
        self._lock = threading.Lock()
        self._held: list[bytes] | None = []  # what is said before the client has heard that the socket is open

    def begin(self) -> None:
        """Send what was held: the client has been told that the socket is open."""
        with self._lock, contextlib.suppress(OSError):
            held, self._held = self._held or [], None
            for frame in held:
                self._connection.sendall(frame)

    def send(self, data: str | bytes) -> None:
        """Send text or bytes as one message."""
        self._frame(1 if isinstance(data, str) else 2, data.encode() if isinstance(data, str) else data)

    def read(self, stream: Any) -> str | None:
        """Return the client's next text, None when it left. Answers pings."""
        while True:
            try:
                head = stream.read(2)
                if len(head) < 2:
                    return None
                opcode, size = head[0] & 15, head[1] & 127
                if size > 125:
                    form = ">H" if size == 126 else ">Q"
                    (size,) = struct.unpack(form, stream.read(struct.calcsize(form)))
                mask = stream.read(4) if head[1] & 128 else b"\0\0\0\0"
                data = bytes(b ^ mask[i % 4] for i, b in enumerate(stream.read(size)))
            except (OSError, ValueError, IndexError, struct.error):
                return None
            if opcode == 8:
                self._frame(8, data[:2])
                return None
            if opcode == 9:
                self._frame(10, data)
            elif opcode == 1:
                return data.decode("utf-8", "replace")

    def drop(self) -> None:
        """Cut the connection without a close frame."""
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)

    def _frame(self, opcode: int, payload: bytes) -> None:
        size = len(payload)
        if size < 126:
            head = struct.pack(">BB", 0x80 | opcode, size)
        elif size < 65536:
            head = struct.pack(">BBH", 0x80 | opcode, 126, size)
        else:
            head = struct.pack(">BBQ", 0x80 | opcode, 127, size)
        with self._lock, contextlib.suppress(OSError):
            if self._held is not None:
                self._held.append(head + payload)
            else:
                self._connection.sendall(head + payload)


class LoopbackFake:
    """A pretend service: `with Fake() as fake: requests.get(fake.url + "/x")`."""

    def __init__(
        self,
        *,
        port: int = 0,
        prefix: str = "",
        auth: Mapping[str, str] | None = None,
        html_proxy: int = 0,
        max_body: int = 100 * 1024 * 1024,
    ) -> None:
        self.prefix = prefix  # path the service lives under, as behind a proxy
        self.auth = dict(auth or {})  # headers every request must carry, else a 401 page
        self.html_proxy = html_proxy  # 200, 302 or 502: a proxy answers instead, in HTML
        self.max_body = max_body
        self.delay = 0.0  # seconds before each answer
        self.requests: list[Call] = []
        self._port = port
        self._failures: list[_Failure] = []
        self._lock = threading.RLock()
        self._stopping = threading.Lock()
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None

    # ------------------------------------------------------------ for tests

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}{self.prefix}"

    @property
    def alive(self) -> bool:
        return self._server is not None

    def fail_next(
        self, path: str, status: int = 500, times: int = 1, body: Any = None, headers: dict[str, str] | None = None
    ) -> None:
        """Answer the next `times` requests whose path starts with `path` so. Status 0 cuts the connection."""
        with self._lock:
            self._failures.append(_Failure(path, Reply(status, b"" if body is None else body, headers or {}), times))

    def calls(self, method: str, path: str) -> list[Call]:
        """Return the requests so far with this method and exactly this path."""
        with self._lock:
            return [c for c in self.requests if c.method == method and c.path == path]

    def wait_for(self, condition: Callable[[], Any], seconds: float = 30.0) -> Any:
        """Return the condition's value as soon as it is true. Raises AssertionError when it never is."""
        end = time.monotonic() + seconds
        while not (value := condition()):
            assert time.monotonic() < end, "waited in vain"
            time.sleep(0.005)
        return value

    # ------------------------------------------------------------ life

    def start(self) -> Self:
        """Listen. The port stays the same when started again."""
        server = _Server(("127.0.0.1", self._port), self)
        self._port = server.server_address[1]
        self._server = server
        self._thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True, name="fake")
        self._thread.start()
        return self

    def stop(self) -> None:
        """Close the port and every connection. Idempotent."""
        with self._stopping:  # who comes second waits until the port is free
            server, self._server = self._server, None
            if server is None:
                return
            server.shutdown()
            server.server_close()
            server.cut()
            if self._thread is not None:
                self._thread.join(5)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    # ------------------------------------------------------------ for subclasses

    def handle(self, call: Call) -> Reply:
        """Answer one request."""
        raise NotImplementedError

    def websocket_opened(self, ws: WebSocket) -> None:
        """A client has connected."""

    def websocket_text(self, ws: WebSocket, text: str) -> None:
        """A client has sent a text."""

    def websocket_closed(self, ws: WebSocket) -> None:
        """A client has gone."""

    # ------------------------------------------------------------ every request

    def answer(self, call: Call) -> Reply:
        """Apply what stands before the service (failures, proxy, login, limits), then ask the service."""
        with self._lock:
            self.requests.append(call)
            inner = call.path.removeprefix(self.prefix)
            failure = next((f for f in self._failures if inner.startswith(f.path)), None)
            if failure:
                failure.times -= 1
                if failure.times <= 0:
                    self._failures.remove(failure)
        if self.delay:
            time.sleep(self.delay)
        if failure:
            return failure.reply
        if self.html_proxy:
            return Reply(self.html_proxy, LOGIN_PAGE, {"Location": "/login"} if self.html_proxy == 302 else {})
        if any(call.headers.get(k) != v for k, v in self.auth.items()):
            return Reply(401, LOGIN_PAGE, {"WWW-Authenticate": 'Basic realm="private"'})
        if len(call.body) > self.max_body:
            return Reply(413, f"Maximum request body size {self.max_body} exceeded, actual body size {len(call.body)}")
        if not call.path.startswith(self.prefix):
            return Reply(404, "<html><body>404 Not Found</body></html>")
        call.path = inner or "/"
        return self.handle(call)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, address: tuple[str, int], fake: LoopbackFake) -> None:
        self.fake = fake
        self._open: set[socket.socket] = set()
        self._open_lock = threading.Lock()
        super().__init__(address, _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._open_lock:
            self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._open_lock:
            self._open.discard(request)
        super().shutdown_request(request)

    def cut(self) -> None:
        """End every open connection at once."""
        with self._open_lock:
            connections = list(self._open)
        for connection in connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients leave when they like; anything else is a bug in the fake and is shown."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # header and body leave in one packet
    disable_nagle_algorithm = True
    server: _Server

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def _serve(self) -> None:
        fake = self.server.fake
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length) if length else b""
        parts = urlsplit(self.path)
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
        reply = fake.answer(Call(self.command, parts.path, query, self.headers, body))
        if reply.status == 101:
            self._websocket(fake, query.get("clientId", ""))
            return
        if reply.status == 0:
            self.close_connection = True
            return
        data, kind = reply.encoded()
        self.send_response(reply.status)
        for name, value in {"Content-Type": kind, **reply.headers, "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = do_PATCH = do_OPTIONS = _serve

    def _websocket(self, fake: LoopbackFake, client_id: str) -> None:
        key = self.headers.get("Sec-WebSocket-Key", "") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        self.close_connection = True
        ws = WebSocket(self.connection, client_id)
        fake.websocket_opened(ws)  # before the client hears of it: from then on no event may pass it by
        try:
            self.send_response(101)
            self.send_header("Upgrade", "websocket")
            self.send_header("Connection", "Upgrade")
            self.send_header("Sec-WebSocket-Accept", base64.b64encode(hashlib.sha1(key.encode()).digest()).decode())
            self.end_headers()
            self.wfile.flush()
            ws.begin()
            while (text := ws.read(self.rfile)) is not None:
                fake.websocket_text(ws, text)
        finally:
            fake.websocket_closed(ws)
