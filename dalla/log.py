"""Log lines: one form, with the request and task they belong to, and without secrets.

Configured once by `app.py`. `request_id` and `job_id` are context variables set at the two doors
(web and job queue); each task's lines also go to `data/runs/<task id>/log.txt`.
"""

from __future__ import annotations

import logging
import re
import sys
from contextvars import ContextVar
from datetime import datetime
from logging.handlers import RotatingFileHandler
from pathlib import Path

request_id: ContextVar[str] = ContextVar("request_id", default="-")
job_id: ContextVar[str] = ContextVar("job_id", default="-")

_SECRETS = re.compile(
    r"(?i)((?:api[_-]?key|access[_-]?token|app[_-]?secret|access[_-]?secret|client[_-]?secret|password|authorization|bearer|"
    r"signature|x-goog-api-key)[\"']?\s*[:=]?\s*(?:bearer\s+|basic\s+)?[\"']?)([^\s\"'&,;}]{6,})"
)
_NAMED = re.compile(  # words that are also used in sentences: only with a sign after them
    r"(?i)((?:passphrase|dalla_session|(?:refresh[_-]?|session[_-]?)?token|secret(?:[_-]?key)?|cookie)[\"']?\s*[:=]\s*[\"']?)"
    r"([^\s\"'&,;}]{6,})"
)
_OURS = re.compile(r"\b(dd|whsec)_[A-Za-z0-9_-]{12,}")
#: A line without any of these needs no look at the expressions, which cost a hundred times as much.
_HINTS = ("key", "token", "secret", "passw", "passphrase", "authorization", "bearer", "signature", "session", "cookie", "dd_", "whsec_", "://")  # fmt: skip
_FORGED = re.compile(r"\n(?=\d{4}-\d\d-\d\d[ T])")
_URL_PASSWORD = re.compile(r"(\w+://[^/\s:@]+:)([^@\s/]+)(@)")


def scrub(text: str) -> str:
    """Replace what looks like a credential by dots."""
    folded = text.casefold()
    if not any(hint in folded for hint in _HINTS):
        return text
    text = _NAMED.sub(r"\1••••", _SECRETS.sub(r"\1••••", text))
    return _URL_PASSWORD.sub(r"\1••••\3", _OURS.sub(r"\1_••••", text))


class _Context(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        record.request_id = request_id.get()
        record.job_id = job_id.get()
        return True


class _Scrubbing(logging.Formatter):
    """Scrubbed, with a time that tells its zone, and with nothing inside that looks like a line of its own."""

    def format(self, record: logging.LogRecord) -> str:
        return _FORGED.sub("\n  ", scrub(super().format(record)))

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802 - logging's name
        return datetime.fromtimestamp(record.created).astimezone().isoformat(" ", timespec="milliseconds")


class _RunLogs(logging.Handler):
    """Append the lines of a task to its own file."""

    def __init__(self, runs: Path) -> None:
        super().__init__()
        self.runs = runs

    def emit(self, record: logging.LogRecord) -> None:
        task = getattr(record, "job_id", "-")
        if task == "-":
            return
        try:
            folder = self.runs / task
            folder.mkdir(parents=True, exist_ok=True)
            with (folder / "log.txt").open("a", encoding="utf-8") as file:
                file.write(self.format(record) + "\n")
        except OSError:
            pass  # a full disk must not turn a log line into an error


def configure(data_dir: Path, level: str = "INFO") -> None:
    """Log to stderr, to `data/logs/dalla.log` (rotated) and per task. Calling it again replaces it."""
    form = "%(asctime)s %(levelname)-7s %(name)s [%(request_id)s %(job_id)s] %(message)s"
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stderr), _RunLogs(data_dir / "runs")]
    try:
        (data_dir / "logs").mkdir(parents=True, exist_ok=True)
        handlers.append(
            RotatingFileHandler(data_dir / "logs" / "dalla.log", maxBytes=5_000_000, backupCount=3, encoding="utf-8")
        )
    except OSError:
        pass  # the start-up check says that the folder cannot be written
    root = logging.getLogger()
    for old in list(root.handlers):
        if getattr(old, "_dalla", False):
            root.removeHandler(old)
            old.close()
    for handler in handlers:
        handler._dalla = True  # type: ignore[attr-defined]
        handler.addFilter(_Context())
        handler.setFormatter(_Scrubbing(form))
        root.addHandler(handler)
    root.setLevel(level)
    noisy_ones = ("urllib3", "PIL", "apscheduler", "waitress", "alembic", "filelock", "websocket")
    # At the level DEBUG these write the keys they sign with.
    for noisy in (*noisy_ones, "oauthlib", "requests_oauthlib", "tweepy", "minio"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
