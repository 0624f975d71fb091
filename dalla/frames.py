"""Messages between two processes over a pipe: a JSON header and binary attachments.

A frame is the header's length (4 bytes, big endian), the header as JSON, then the attachments one
after another; the header's `blobs` lists their lengths. Not a network protocol: both ends are ours.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any, BinaryIO

import orjson

_LENGTH = struct.Struct(">I")


def write_frame(stream: BinaryIO, header: dict[str, Any], blobs: Sequence[bytes] = ()) -> None:
    """Write one frame and flush. Not atomic: only one thread may write at a time."""
    head = orjson.dumps({**header, "blobs": [len(blob) for blob in blobs]})
    stream.write(b"".join((_LENGTH.pack(len(head)), head, *blobs)))
    stream.flush()


def read_frame(stream: BinaryIO) -> tuple[dict[str, Any], list[bytes]] | None:
    """Read one frame. None when the other side is gone, also in the middle of a frame."""
    length = _exactly(stream, _LENGTH.size)
    if length is None:
        return None
    head = _exactly(stream, _LENGTH.unpack(length)[0])
    if head is None:
        return None
    header = orjson.loads(head)
    blobs = []
    for size in header.pop("blobs"):
        blob = _exactly(stream, size)
        if blob is None:
            return None
        blobs.append(blob)
    return header, blobs


def _exactly(stream: BinaryIO, size: int) -> bytes | None:
    data = stream.read(size) if size else b""
    while len(data) < size:
        more = stream.read(size - len(data))
        if not more:
            return None
        data += more
    return data
