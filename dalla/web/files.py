"""Files as answers: how long a browser may keep them, and logs in pieces."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from flask import Response, request

#: Bytes behind an address with their hash in it never change: seconds.
IMMUTABLE = 365 * 24 * 3600
PIECE = 256 * 1024


def cached(response: Response, version: str | None, sha256: str) -> Response:
    """Let the browser keep the file for good when the address names its version, else have it ask each time."""
    if version and sha256.startswith(version):
        response.headers["Cache-Control"] = f"private, max-age={IMMUTABLE}, immutable"
    else:
        response.headers["Cache-Control"] = "private, no-cache"
    if request.method == "HEAD":
        response.headers.setdefault("Accept-Ranges", "bytes")
    return response


def log_text(file: Path, offset: int) -> Response:
    """Answer a log from a byte (negative: counted from the end) to where it ends now. No file is no text.

    `X-Start-Offset` says where the answer begins, `X-Next-Offset` where to go on.
    """
    try:
        size = file.stat().st_size
    except FileNotFoundError:
        size = 0
    start = max(0, size + offset) if offset < 0 else min(offset, size)
    response = Response(_pieces(file, start, size - start), content_type="text/plain; charset=utf-8")
    response.headers["X-Next-Offset"] = str(size)
    response.headers["X-Start-Offset"] = str(start)
    return response


def _pieces(file: Path, start: int, left: int) -> Iterator[bytes]:
    """A long log need not fit into memory, and more may be written meanwhile."""
    if left:
        with file.open("rb") as log:
            log.seek(start)
            while left > 0 and (piece := log.read(min(left, PIECE))):
                left -= len(piece)
                yield piece
