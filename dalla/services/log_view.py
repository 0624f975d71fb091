"""The log as people look for something in it: newest first, read backwards in pieces, never a whole file.

An entry is a line that begins with a time, and the lines without one that follow it (a traceback). Both
forms of the time are read: the one written now, with its zone, and the older one in local time. A position
is the number of the file on the disk and a place in it, so it outlives the rotation of the files.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO

from dalla import log
from dalla.errors import InvalidInput
from dalla.times import iso

LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
PIECE = 64 * 1024
#: One call reads at most this much; what is left is read by the next page.
BUDGET = 6 * 1024 * 1024
MAX_ENTRY = 64 * 1024  # of a longer entry the rest is left out
MAX_LIMIT = 500

_HEAD = re.compile(
    rb"(\d{4}-\d\d-\d\d)[ T](\d\d:\d\d:\d\d)[.,](\d{3})(Z|[+-]\d\d:\d\d)? (DEBUG|INFO|WARNING|ERROR|CRITICAL) +"
    rb"(\S+) \[(\S+) (\S+)\] ?"
)
_POSITION = re.compile(r"([0-9a-f]{1,32})-([0-9]{1,18})\Z")


@dataclass(frozen=True)
class Place:
    """Where an entry begins: `file` is the file's number on its disk, `offset` bytes from its beginning."""

    file: int
    offset: int

    def __str__(self) -> str:
        return f"{self.file:x}-{self.offset}"


@dataclass(frozen=True)
class Query:
    """What to look for. `level`: that one and worse. `q`: text in the message, the trace or the logger's name."""

    level: str = "DEBUG"
    q: str = ""
    request_id: str = ""
    task_id: str = ""


class LogView:
    """Reads `dalla.log` and what was rotated away from it."""

    def __init__(self, folder: Path) -> None:
        """`folder` is data/logs."""
        self._folder = folder

    def files(self) -> list[Path]:
        """Return the files, newest first."""
        found = [self._folder / "dalla.log", *(self._folder / f"dalla.log.{n}" for n in range(1, 10))]
        return [file for file in found if file.is_file()]

    def page(
        self, query: Query, *, before: str | None = None, after: str | None = None, limit: int = 100
    ) -> dict[str, Any]:
        """Return {"items", "nextCursor", "newest", "complete"}, newest first.

        `before` continues towards older entries (`nextCursor` of the page before); `after` answers only what came
        since (`newest` of an earlier answer) - when more came than `limit`, the newest of it, and `complete` is False.
        Raises InvalidInput: level, limit, cursor.
        """
        if query.level not in LEVELS:
            raise InvalidInput.field("level", f"Use {', '.join(LEVELS)}.")
        if not 1 <= limit <= MAX_LIMIT:
            raise InvalidInput.field("limit", f"Use a number from 1 to {MAX_LIMIT}.")
        start, stop = _place("before", before), _place("after", after)
        files = [(file, number, size) for file in self.files() if (found := _stat(file)) for number, size in [found]]
        newest = str(Place(files[0][1], _written(files[0][0], files[0][2]))) if files else None
        wanted, levels = _Matcher(query), LEVELS[LEVELS.index(query.level) :]
        items: list[dict[str, Any]] = []
        budget = [BUDGET]
        following: str | None = None
        complete = True
        for place, raw in _entries(files, start, stop, budget):
            if len(items) >= limit:
                complete = False
                break
            following = str(place)
            entry = wanted.entry(place, raw, levels)
            if entry is not None:
                items.append(entry)
        else:
            complete = budget[0] > 0
        if complete or stop is not None or following == before:
            following = None
        return {"items": items, "nextCursor": following, "newest": newest, "complete": complete}


class _Matcher:
    """Decides whether an entry is wanted, the cheap questions first, and reads it."""

    def __init__(self, query: Query) -> None:
        self._request, self._task = query.request_id.encode(), query.task_id.encode()
        self._text = query.q.strip().casefold()

    def entry(self, place: Place, raw: bytes, levels: tuple[str, ...]) -> dict[str, Any] | None:
        head = _HEAD.match(raw)
        if head is None:  # the middle of an entry whose beginning was rotated away
            return None
        day, clock, millis, zone, level, logger, request, task = head.groups()
        if level.decode() not in levels:
            return None
        if (self._request and request != self._request) or (self._task and task != self._task):
            return None
        text, name = raw[head.end() :].decode("utf-8", "replace"), logger.decode("utf-8", "replace")
        if self._misses(text, name):  # first in the raw text, because scrubbing costs more than reading
            return None
        text = log.scrub(text)
        if self._misses(text, name):  # a search must not find out what is behind the dots
            return None
        message, _, trace = text.rstrip("\n").partition("\n")
        found: dict[str, Any] = {
            "id": str(place),
            "at": _moment(day.decode(), clock.decode(), millis.decode(), (zone or b"").decode()),
            "level": level.decode(),
            "logger": name,
            "requestId": _known(request),
            "taskId": _known(task),
            "message": message.rstrip("\r"),
        }
        if trace:
            found["trace"] = trace
        return found

    def _misses(self, text: str, name: str) -> bool:
        return bool(self._text) and self._text not in text.casefold() and self._text not in name.casefold()


def _known(value: bytes) -> str | None:
    return None if value == b"-" else value.decode("utf-8", "replace")


def _moment(day: str, clock: str, millis: str, zone: str) -> str | None:
    try:
        moment = datetime.fromisoformat(f"{day}T{clock}.{millis}{zone}")
        return iso(moment if moment.tzinfo else moment.astimezone())  # without a zone: this computer's
    except (ValueError, OverflowError, OSError):
        return None


def _place(name: str, text: str | None) -> Place | None:
    if not text:
        return None
    found = _POSITION.match(text)
    if found is None:
        raise InvalidInput.field(name, "This is not a position in the log. Leave it out to start at the end.")
    return Place(int(found[1], 16), int(found[2]))


def _stat(file: Path) -> tuple[int, int] | None:
    try:
        found = file.stat()
    except OSError:  # rotated away between the listing and now
        return None
    return found.st_ino, found.st_size


def _entries(
    files: list[tuple[Path, int, int]], start: Place | None, stop: Place | None, budget: list[int]
) -> Iterator[tuple[Place, bytes]]:
    """Yield (place, bytes) of the entries older than `start` and not older than `stop`, newest first."""
    if start is not None:
        numbers = [number for _, number, _ in files]
        if start.file not in numbers:
            return  # the file is gone, and so is everything older
        files = files[numbers.index(start.file) :]
    if stop is not None and stop.file not in {number for _, number, _ in files}:
        stop = None  # everything there is came since
    for path, number, size in files:
        end = min(size, start.offset) if start is not None and start.file == number else size
        low = min(stop.offset, end) if stop is not None and stop.file == number else 0
        try:
            with path.open("rb") as file:
                if os.fstat(file.fileno()).st_ino != number:
                    continue  # rotated meanwhile: the next page finds it under its new name
                for offset, raw in _backwards(file, low, end, budget):
                    yield Place(number, offset), raw
        except OSError:
            continue
        if budget[0] <= 0 or (stop is not None and stop.file == number):
            return


def _backwards(file: BinaryIO, low: int, end: int, budget: list[int]) -> Iterator[tuple[int, bytes]]:
    """Yield (offset, bytes) of the entries in [low, end), last first. Ends when the budget is used up."""
    tail: list[bytes] = []  # lines without a time, newest first; they belong to the entry before them
    kept = 0
    for offset, line in _lines(file, low, end, budget):
        if _HEAD.match(line):
            yield offset, b"\n".join([line[:MAX_ENTRY], *reversed(tail)])
            tail, kept = [], 0
        else:
            tail.append(line[:MAX_ENTRY])
            kept += len(tail[-1])
            while kept > MAX_ENTRY and len(tail) > 1:  # keep the end: it names the error
                kept -= len(tail.pop())


def _lines(file: BinaryIO, low: int, end: int, budget: list[int]) -> Iterator[tuple[int, bytes]]:
    """Yield (offset, line) of the lines in [low, end) whose end is written, last first."""
    position = end
    carry: bytes | None = None  # the end of a line whose beginning is still to be read; None: no end seen yet
    while position > low and budget[0] > 0:
        size = min(PIECE, position - low)
        position -= size
        budget[0] -= size
        file.seek(position)
        block = file.read(size) + (carry or b"")
        if carry is None:
            block = block[: block.rfind(b"\n") + 1]
            if not block:
                continue
        lines = block.split(b"\n")  # the last one is empty: a block ends with the end of a line
        at = position + len(block)
        for line in reversed(lines[1:-1]):
            at -= len(line) + 1
            yield at, line
        if position == low:
            yield low, lines[0]
        carry = lines[0] + b"\n"


def _written(path: Path, size: int) -> int:
    """Return where the last whole line ends."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, size - PIECE))
            end = file.read(min(size, PIECE)).rfind(b"\n") + 1
    except OSError:
        return size
    return max(0, size - PIECE) + end if end else size
