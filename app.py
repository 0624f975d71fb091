"""Digital Dalla: `python app.py` starts the dashboard.

`create_app` builds, `main` starts: threads, clock and child processes belong to `main` alone, so
tests and other programs can have the app without them.
"""

from __future__ import annotations

import argparse
import logging
import mimetypes
import os
import signal
import socket
import sys
import threading
from pathlib import Path
from typing import Any

import dalla
from dalla.errors import DallaError
from dalla.settings import Settings

logger = logging.getLogger("dalla")


def create_app(settings: Settings | None = None, *, container: Any = None) -> Any:
    """Build the Flask app. Its container is `app.extensions["dalla"]`; nothing is started."""
    from flask_openapi3 import Info

    from dalla import web
    from dalla.web.blueprint import Application
    from dalla.web.problems import validation_failed
    from dalla.wiring import Container

    # Windows may know .js as text/plain, and browsers then refuse modules.
    mimetypes.add_type("text/javascript", ".js")
    mimetypes.add_type("text/javascript", ".mjs")
    settings = settings or Settings.load()
    app = Application(
        __name__,
        info=Info(title="Digital Dalla", version=dalla.__version__),
        static_folder="static",
        static_url_path="/static",
        doc_ui=False,  # the page at /api/docs is our own and needs nothing from elsewhere
        validation_error_callback=validation_failed,
    )
    app.extensions["dalla"] = container or Container(settings)
    web.install(app, settings)
    return app


def main(argv: list[str] | None = None) -> int:
    """Start everything and serve until Ctrl-C. Returns the exit code."""
    args = _arguments(argv)
    flags = {k: v for k, v in vars(args).items() if k in ("host", "port", "data_dir") and v is not None}
    if args.dry_run:
        flags["dry_run"] = True
    try:
        settings = Settings.load(flags=flags)
        check_bind(settings)
        return _serve(settings, open_browser=not args.no_browser)
    except DallaError as exc:
        print(f"Digital Dalla cannot start: {exc.detail}", file=sys.stderr)
        if exc.remedy:
            print(f"  What helps: {exc.remedy}", file=sys.stderr)
        return 1


def check_bind(settings: Settings) -> None:
    """Refuse to be reachable by others while there are no accounts."""
    if settings.host in ("127.0.0.1", "localhost", "::1") or settings.auth == "off":
        return
    raise CannotStart(
        f"DALLA_HOST is {settings.host}, which others can reach, and there are no accounts yet.",
        remedy="Listen on 127.0.0.1. If your network is private and everybody in it may publish in your name, set DALLA_AUTH=off.",
    )


class CannotStart(DallaError):
    """Something about the machine or the settings keeps the app from starting."""

    code, status, title = "not_configured", 409, "Not set up yet"


def _serve(settings: Settings, *, open_browser: bool) -> int:
    from dalla import log
    from dalla.stores.lockfile import DataFolderLock
    from dalla.wiring import make_folders

    make_folders(settings)
    log.configure(Path(settings.data_dir), settings.log_level)
    lock = DataFolderLock(Path(settings.data_dir))
    lock.acquire("starting")
    try:
        with _listen(settings.host, settings.port) as listener:
            address = _address(settings.host, listener.getsockname()[1])
            lock.note(address)
            app = create_app(settings)
            _run(app, listener, address, open_browser)
    finally:
        lock.release()
    return 0


def _run(app: Any, listener: socket.socket, address: str, open_browser: bool) -> None:
    """Serve until a signal; then stop everything in order."""
    from waitress.server import create_server

    container = app.extensions["dalla"]
    # Waiting requests and live connections hold a thread each; idle threads cost next to nothing.
    server = create_server(app, sockets=[listener], threads=48, ident=None, channel_timeout=120)

    def stop(signum: int, frame: Any) -> None:
        # Live event streams hold a thread each; told now, they end before the server waits for its threads.
        # On a thread of its own, for the signal may have come while this one holds the stream's lock.
        threading.Thread(target=container.events.close, daemon=True).start()
        raise SystemExit(0)

    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, stop)
    container.idempotency.forget_unfinished()
    container.jobs.start()
    threading.Thread(target=_start_rest, args=(container, address, open_browser), daemon=True).start()
    where = container.settings.data_dir
    print(f"Digital Dalla {dalla.__version__} runs at {address}  (data: {where}; Ctrl-C stops it)", flush=True)
    try:
        server.run()
    except (KeyboardInterrupt, SystemExit):
        pass
    finally:
        print("Stopping …", flush=True)
        container.close()
        server.close()


def _address(host: str, port: int) -> str:
    shown = "127.0.0.1" if host in ("0.0.0.0", "::") else host
    return f"http://{f'[{shown}]' if ':' in shown else shown}:{port}"


def _start_rest(container: Any, address: str, open_browser: bool) -> None:
    """Start what the first page does not need: the clock, the samples, the browser."""
    from dalla.clock import Clock

    container.system.samples.start()
    clock = Clock(container)
    clock.start()
    container.system.clock = clock
    if open_browser:
        import webbrowser

        webbrowser.open(address)


def _listen(host: str, port: int) -> socket.socket:
    """Bind the port now, so that a taken one is said in a sentence and not as a traceback."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    if os.name != "nt":
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(128)
    except (OSError, OverflowError) as exc:
        listener.close()
        raise CannotStart(
            f"Port {port} on {host} cannot be used: {getattr(exc, 'strerror', None) or exc}.",
            remedy="Is another Digital Dalla running? Otherwise choose another port: python app.py --port 5051",
        ) from exc
    return listener


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Digital Dalla: the studio for AI characters.")
    parser.add_argument("--host", help="address to listen on (default 127.0.0.1)")
    parser.add_argument("--port", type=int, help="port to listen on (default 5050)")
    parser.add_argument("--data-dir", help="folder of characters, media and database (default data)")
    parser.add_argument("--no-browser", action="store_true", help="do not open a browser")
    parser.add_argument("--dry-run", action="store_true", help="never publish; show what would have been sent")
    parser.add_argument("--version", action="version", version=dalla.__version__)
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
