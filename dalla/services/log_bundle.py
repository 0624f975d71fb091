"""Everything a bug report needs as one zip: logs, status, versions, settings, the last failures. No secrets.

What is written passes two filters: the one of the log (what looks like a credential) and one that knows every
credential this app holds, in clear and as it stands in an address. Names of characters and their handles are
left out too: a report is read by strangers.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import quote, urlsplit

import orjson

import dalla
from dalla import log
from dalla.errors import DallaError
from dalla.jobs.base import TaskStore
from dalla.records.character import SECRET_FIELDS
from dalla.services.characters import Characters
from dalla.services.log_view import LogView
from dalla.services.system import System
from dalla.settings import ROWS, Settings
from dalla.stores.base import SecretStore
from dalla.times import now_iso

FAILED_TASKS = 20
MAX_LOG = 8 * 1024 * 1024  # of a larger file its end
#: Shorter texts are too common to be replaced wherever they stand.
SHORTEST = 4
DOTS = "••••"

_ABOUT = """This archive was made by Digital Dalla for a bug report.

status.json    how every component was doing
versions.json  the app, Python, the operating system and the libraries
settings.json  settings and where they come from; secret ones only as set or not
tasks.json     the last background tasks that failed
logs/          the log of the app

Keys, tokens and passwords are replaced by dots, names and handles of characters by [character] and [handle],
and your home folder by ~. Look through it before you pass it on.
"""


class LogBundle:
    """Writes the archive."""

    def __init__(
        self,
        settings: Settings,
        logs: LogView,
        system: System,
        tasks: TaskStore,
        characters: Characters,
        secrets: SecretStore,
        schema_version: Callable[[], str | None],
    ) -> None:
        self._settings = settings
        self._logs = logs
        self._system = system
        self._tasks = tasks
        self._characters = characters
        self._secrets = secrets
        self._schema_version = schema_version

    def write(self, file: BinaryIO) -> None:
        """Write the zip. Raises OSError (no space)."""
        import zipfile

        clean = self._cleaner()
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("README.txt", _ABOUT)
            for name, make in (
                ("status.json", self._system.status),
                ("versions.json", self._versions),
                ("settings.json", self._describe_settings),
                ("tasks.json", self._failures),
            ):
                try:
                    content = make()
                except DallaError as exc:  # a broken database is what a report may be about
                    content = {"error": exc.problem()}
                text = orjson.dumps(_walk(content, clean), option=orjson.OPT_INDENT_2).decode()
                archive.writestr(name, text)
            for path in self._logs.files():
                archive.writestr(f"logs/{path.name}", clean(_end_of(path)))

    # ------------------------------------------------------------ parts

    def _versions(self) -> dict[str, Any]:
        import importlib.metadata
        import platform

        libraries = {
            str(found.metadata["Name"]): found.version for found in importlib.metadata.distributions() if found.metadata
        }
        return {
            "app": dalla.__version__,
            "schema": self._schema_version(),
            "python": sys.version,
            "platform": platform.platform(),
            "machine": platform.machine(),
            "madeAt": now_iso(),
            "libraries": dict(sorted(libraries.items(), key=lambda pair: pair[0].lower())),
        }

    def _describe_settings(self) -> list[dict[str, Any]]:
        keys = ("name", "env", "value", "set", "source", "secret")
        rows = [{key: row.get(key) for key in keys} for row in self._settings.describe()]
        return [row | {"value": None} if row["secret"] else row for row in rows]  # not even its last letters

    def _failures(self) -> list[dict[str, Any]]:
        jobs, _, _ = self._tasks.page(statuses=["failed", "interrupted"], limit=FAILED_TASKS)
        return [
            {
                "id": job.id,
                "kind": job.kind,
                "lane": job.lane,
                "status": job.status,
                "attempt": job.attempt,
                "crashes": job.crashes,
                "createdAt": job.created_at,
                "finishedAt": job.finished_at,
                "error": {k: v for k, v in (job.error or {}).items() if k in ("code", "detail", "remedy", "requestId")},
            }
            for job in jobs
        ]

    # ------------------------------------------------------------ cleaning

    def _cleaner(self) -> Callable[[str], str]:
        """Return what takes everything out of a text that strangers must not read."""
        replaced: dict[str, str] = {}
        for secret in self._known_secrets():
            for form in (
                secret,
                quote(secret, safe=""),
                quote(secret),
                secret.replace("\\", "\\\\").replace('"', '\\"'),
            ):
                replaced[form] = DOTS
        for text, instead in self._people():
            replaced.setdefault(text, instead)
        home = str(Path.home())
        if len(home) > 1:
            replaced.setdefault(home, "~")
        forms = sorted((form for form in replaced if len(form) >= SHORTEST), key=len, reverse=True)  # longest first

        def clean(text: str) -> str:
            for form in forms:
                if form in text:
                    text = text.replace(form, replaced[form])
            return log.scrub(text)

        return clean

    def _known_secrets(self) -> Iterable[str]:
        for name in self._secrets.names():
            yield from _parts(self._secrets.get(name))
        for row in ROWS:
            if row.secret:
                yield from _parts(getattr(self._settings, row.name))
            elif row.kind == "url":  # an address may hold a password
                yield from _parts(_password(getattr(self._settings, row.name)))
        for character in self._characters.all():
            for field in SECRET_FIELDS:
                yield from _parts(self._characters.credential(character, field))

    def _people(self) -> Iterable[tuple[str, str]]:
        for character in self._characters.all():
            for handle in (character.instagram_handle, character.twitter_handle):
                if handle and len(handle.strip("@ ")) >= SHORTEST:
                    yield handle.strip("@ "), "[handle]"
            if len(character.name) >= SHORTEST:
                yield character.name, "[character]"


def _password(url: str) -> str | None:
    try:
        return urlsplit(url).password
    except ValueError:
        return None


def _parts(value: Any) -> Iterable[str]:
    """Yield the texts of a secret value: a text, a structure of texts, or a structure written as JSON."""
    if isinstance(value, str):
        yield value
        if value.startswith(("{", "[")):
            try:
                yield from _parts(orjson.loads(value))
            except ValueError:
                return
        elif " " in value:  # "Bearer abc": the second half alone is as good as the whole
            yield from (part for part in value.split() if len(part) >= 8)
    elif isinstance(value, dict):
        for one in value.values():
            yield from _parts(one)
    elif isinstance(value, list):
        for one in value:
            yield from _parts(one)


def _walk(value: Any, clean: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, dict):
        return {key: _walk(one, clean) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_walk(one, clean) for one in value]
    return value


def _end_of(path: Path) -> str:
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - MAX_LOG))
            return file.read(MAX_LOG).decode("utf-8", "replace")
    except OSError as exc:  # rotated away
        return f"{path.name} could not be read: {exc.strerror}\n"
