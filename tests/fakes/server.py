"""The base of all fakes: a real HTTP server on loopback, in a thread, that remembers what it was asked.

Code under test keeps its real client, URL building, timeouts and retries. A subclass implements
`handle`; tests can make single calls fail (`fail_next`) or slow (`delay`).
"""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from dataclasses import dataclass, field
from typing import Any, Self

from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server
from werkzeug.wrappers import Request, Response


@dataclass(frozen=True)
class Seen:
    """One request as it came in."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes = field(repr=False)

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class LoopbackFake:
    """Serves on 127.0.0.1 until `stop`. Use it as a context manager, or call `start` and `stop`."""

    def __init__(self, port: int = 0) -> None:
        self.requests: list[Seen] = []
        self.delay = 0.0
        self._port = port
        self._fail: list[tuple[str, Response]] = []
        self._server: BaseWSGIServer | None = None
        self._thread: threading.Thread | None = None
        self._connections: set[socket.socket] = set()
        self._guard = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def handle(self, request: Request) -> Response:
        """Answer one request."""
        raise NotImplementedError

    def fail_next(
        self, path: str, status: int, times: int = 1, *, body: bytes | str = b"", headers: dict[str, str] | None = None
    ) -> None:
        """Answer the next `times` requests whose path ends with `path` with this status instead."""
        for _ in range(times):
            self._fail.append((path, Response(body, status=status, headers=headers or {})))

    def seen(self, path: str, method: str | None = None) -> list[Seen]:
        """Return the requests to a path."""
        return [r for r in self.requests if r.path == path and method in (None, r.method)]

    def start(self) -> Self:
        fake = self

        class Handler(WSGIRequestHandler):
            def setup(self) -> None:
                super().setup()
                with fake._guard:
                    fake._connections.add(self.connection)

            def finish(self) -> None:
                with fake._guard:
                    fake._connections.discard(self.connection)
                with contextlib.suppress(OSError):
                    super().finish()

            def log(self, type: str, message: str, *args: Any) -> None:
                """Say nothing: tests read `requests`."""

        self._server = make_server("127.0.0.1", self._port, self._serve, threaded=True, request_handler=Handler)
        self._port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        return self

    def stop(self) -> None:
        """Stop as a killed process does: refuse new connections, drop the open ones."""
        server, self._server = self._server, None
        if server is None:
            return
        server.shutdown()
        if self._thread is not None:
            self._thread.join(5)
        server.server_close()
        self.drop_connections()

    def drop_connections(self) -> None:
        """Cut every open connection without a word."""
        with self._guard:
            open_now = list(self._connections)
        for connection in open_now:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _serve(self, environ: dict[str, Any], start_response: Any) -> Any:
        request = Request(environ)
        body = request.get_data(cache=True, parse_form_data=False)
        self.requests.append(
            Seen(request.method, request.path, request.args.to_dict(), dict(request.headers), body)
        )
        if self.delay:
            time.sleep(self.delay)
        with self._guard:
            index = next((i for i, (path, _) in enumerate(self._fail) if request.path.endswith(path)), None)
            response = self._fail.pop(index)[1] if index is not None else None
        return (response or self.handle(request))(environ, start_response)
