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
        if args.create_admin is not None:
            return create_admin(settings, args.create_admin)
        check_bind(settings)
        if args.restore is not None:
            return restore(settings, args.restore, args.passphrase_file)
        again = _serve(settings, flags, open_browser=not args.no_browser)
    except DallaError as exc:
        what = "cannot start" if args.create_admin is None else "made no account"
        print(f"Digital Dalla {what}: {exc.detail}", file=sys.stderr)
        if exc.remedy:
            print(f"  What helps: {exc.remedy}", file=sys.stderr)
        return 1
    return 0 if again is None else start_again(again)


def check_bind(settings: Settings) -> None:
    """Refuse to be reachable by others while no admin could sign in. Raises CannotStart."""
    if settings.host in ("127.0.0.1", "localhost", "::1") or settings.auth == "off":
        return
    from dalla.stores.users import active_admin_exists

    if active_admin_exists(Path(settings.data_dir) / "dalla.db"):
        return
    raise CannotStart(
        f"DALLA_HOST is {settings.host or 'empty'}, which others can reach, and there are no accounts yet.",
        remedy="Make the first one with: python app.py --create-admin NAME. Or listen on 127.0.0.1. Or, if your network is "
        "private and everybody in it may publish in your name, set DALLA_AUTH=off.",
    )


def create_admin(settings: Settings, name: str) -> int:
    """Add an admin with a password asked for on the terminal (or read from stdin), without serving. Raises DallaError."""
    import getpass

    from dalla.services.auth import Auth
    from dalla.services.auth_users import Users
    from dalla.stores.library import Library
    from dalla.stores.users import SqlUsers
    from dalla.wiring import make_folders

    if sys.stdin.isatty():
        password = getpass.getpass(f"Password for {name}: ")
        if password != getpass.getpass("Once more: "):
            print("The two passwords differ; nothing was changed.", file=sys.stderr)
            return 1
    else:
        password = sys.stdin.readline().rstrip("\r\n")
    make_folders(settings)
    library = Library.open(Path(settings.data_dir) / "dalla.db")
    try:
        rows = SqlUsers(library)
        user = Users(rows, Auth(settings, rows)).add_admin(name, password)
    finally:
        library.close()
    print(f"{user.name} is an admin now and can sign in.")
    return 0


def restore(settings: Settings, file: Path, passphrase_file: Path | None) -> int:
    """Check a backup, put it in place of the data and end. Raises DallaError; then nothing has changed."""
    from dalla.services.restore_apply import staged
    from dalla.stores.lockfile import DataFolderLock
    from dalla.wiring import make_folders, settle_folders, stager

    passphrase = None
    if passphrase_file is not None:
        try:
            passphrase = passphrase_file.read_text("utf-8").rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as exc:
            raise CannotStart(f"The passphrase cannot be read from {passphrase_file}: {exc}.") from exc
    data = Path(settings.data_dir)
    make_folders(settings)
    lock = DataFolderLock(data)
    lock.acquire("restoring")
    try:
        note = stager(settings).stage(file, passphrase)
        settle_folders(data)
        waiting = staged(data)
        if waiting is not None:
            error = waiting.get("error") or {}
            raise CannotStart(error.get("detail", "The restore was not made."), remedy=error.get("remedy"))
    finally:
        lock.release()
    print(f"The backup of {note['createdAt']} is restored. What was here is kept in {data / 'backups'}.")
    if not note["keys"]:
        print("Stored credentials were not part of it.")
    return 0


def start_again(port: int) -> int:
    """Start this program again with the same arguments, on the same port. Everything is closed by now."""
    given, tail = sys.orig_argv[1:], ["--no-browser", "--port", str(port)]
    args = [sys.executable, *given, *(tail if given[-3:] != tail else [])]
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    if os.name == "nt":  # exec would end the process its parent waits for
        import subprocess

        subprocess.Popen(args)
        return 0
    os.execv(sys.executable, args)


class CannotStart(DallaError):
    """Something about the machine or the settings keeps the app from starting."""

    code, status, title = "not_configured", 409, "Not set up yet"


def _serve(settings: Settings, flags: dict[str, Any], *, open_browser: bool) -> int | None:
    """Serve until somebody ends it. Returns the port to start again on, None when it is to stay ended."""
    from dalla import log
    from dalla.stores.lockfile import DataFolderLock
    from dalla.wiring import make_folders, settle_folders

    make_folders(settings)
    log.configure(Path(settings.data_dir), settings.log_level)
    if settings.database_url or settings.redis_url:
        logger.warning("DATABASE_URL and REDIS_URL are not in use yet: everything stays in SQLite and in this process.")
    lock = DataFolderLock(Path(settings.data_dir))
    lock.acquire("starting")
    try:
        if settle_folders(Path(settings.data_dir)):
            settings = Settings.load(flags=flags)
            make_folders(settings)
            check_bind(settings)
        with _listen(settings.host, settings.port) as listener:
            port = listener.getsockname()[1]
            address = _address(settings.host, port)
            lock.note(address)
            app = create_app(settings)
            again = _run(app, listener, address, open_browser)
    finally:
        lock.release()
    return port if again else None


def _run(app: Any, listener: socket.socket, address: str, open_browser: bool) -> bool:
    """Serve until a signal; then stop everything in order. Returns whether it is to start again."""
    import _thread

    from waitress.server import create_server

    from dalla.web.waiting import THREADS

    container = app.extensions["dalla"]
    # A proxy's headers reach the app: they are how it knows that a request does not come from this computer itself.
    server = create_server(
        app,
        sockets=[listener],
        threads=THREADS,
        connection_limit=400,  # quiet ones cost next to nothing; select() takes 512 on Windows
        ident=None,
        channel_timeout=120,
        clear_untrusted_proxy_headers=False,
    )

    def stop(signum: int, frame: Any) -> None:
        # Live event streams hold a thread each; told now, they end before the server waits for its threads.
        # On a thread of its own, for the signal may have come while this one holds the stream's lock.
        threading.Thread(target=container.events.close, daemon=True).start()
        raise SystemExit(0)

    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, stop)
    again = threading.Event()

    def restart() -> None:
        again.set()
        _thread.interrupt_main(signal.SIGTERM)

    container.restart.ask = restart
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
    return again.is_set()


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
    container.restore.tell()
    container.storage.mover.resume()
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
    parser.add_argument("--create-admin", metavar="NAME", help="add an account that may do everything, then end")
    parser.add_argument("--restore", type=Path, metavar="FILE", help="put a backup in place of the data, and end")
    parser.add_argument(
        "--passphrase-file", type=Path, metavar="F", help="file with the passphrase of the credentials in that backup"
    )
    parser.add_argument("--version", action="version", version=dalla.__version__)
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
