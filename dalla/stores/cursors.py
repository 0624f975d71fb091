"""Opaque cursors for keyset pages: where the last page ended, and in which order it was read."""

from __future__ import annotations

import base64
import binascii
import zlib

import orjson

from dalla.errors import InvalidInput


def check_limit(limit: int) -> None:
    """Raise InvalidInput unless the page has a sensible size."""
    if not 1 <= limit <= 1000:
        raise InvalidInput.field("limit", "Use a number from 1 to 1000.")


def encode(order: str, moment: str, seq: int) -> str:
    """Return a cursor that continues `order` after the row (moment, seq)."""
    body = orjson.dumps([order, moment, seq])
    return base64.urlsafe_b64encode(zlib.crc32(body).to_bytes(4, "big") + body).decode().rstrip("=")


def decode(cursor: str, order: str) -> tuple[str, int]:
    """Return (moment, seq). Raises InvalidInput for a cursor we did not make, or made for another order."""
    try:
        data = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        check, body = data[:4], data[4:]
        if zlib.crc32(body).to_bytes(4, "big") != check:
            raise ValueError("changed")
        made_for, moment, seq = orjson.loads(body)
    except (ValueError, TypeError, binascii.Error) as exc:
        raise InvalidInput.field("cursor", "This is not a cursor of this list. Leave it out to start anew.") from exc
    if made_for != order or not isinstance(moment, str) or type(seq) is not int:
        raise InvalidInput.field("cursor", "This cursor belongs to another order. Leave it out to start anew.")
    return moment, seq
