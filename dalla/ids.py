"""Make and check record ids. Nothing here knows what a record is.

Ids keep the form `char_1754528276811_4suaz8mqv`: a prefix that says what it names, the
milliseconds of its creation and nine random characters. They sort by time, need no counter, and
are safe in file names and URLs.
"""

from __future__ import annotations

import re
import secrets
import time

from dalla.errors import InvalidInput

_ALPHABET = "0123456789abcdefghijklmnopqrstuvwxyz"
# Ids may come from hand-written files ("task_1", "narr-2"), so the form is wider than what we make.
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}\Z")


def new_id(prefix: str) -> str:
    """Return a fresh id such as `char_1754528276811_4suaz8mqv`."""
    tail = "".join(secrets.choice(_ALPHABET) for _ in range(9))
    return f"{prefix}_{time.time_ns() // 1_000_000}_{tail}"


def is_id(text: object) -> bool:
    """Whether the text can be an id: letters, digits, `_` and `-`, at most 100 of them."""
    return isinstance(text, str) and _ID.match(text) is not None


def check_id(text: str, field: str = "id") -> str:
    """Return the id unchanged. Raises InvalidInput when it could not be one (slashes, dots, …)."""
    if not is_id(text):
        raise InvalidInput.field(field, "This is not an id: use letters, digits, '_' and '-' only.")
    return text
