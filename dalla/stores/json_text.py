"""The text of a JSON array, element by element, so that one record can change and the others keep theirs.

Knows nothing of files or locks; `documents_json.py` does those.
"""

from __future__ import annotations

import json
from typing import Any

import orjson

from dalla.records.base import Record

_BOM = b"\xef\xbb\xbf"
_SPACE = " \t\r\n"


def elements(data: bytes) -> tuple[list[Any], list[bytes]]:
    """Return the elements of the array and the text of each. Raises ValueError in words for a person."""
    data = data.removeprefix(_BOM)
    if not data.strip():
        raise ValueError("the file is empty; an empty list is written []")
    try:
        values = orjson.loads(data)
    except orjson.JSONDecodeError as exc:
        raise ValueError(f"line {exc.lineno}, column {exc.colno}: {exc.msg.split(':')[0]}") from exc
    if not isinstance(values, list):
        raise ValueError("it must hold a list, starting with [ and ending with ]")
    texts = [element(value) for value in values]
    if join(texts) == data:
        return values, texts  # written by us: no need to look for the borders
    try:
        return values, _split(data.decode())
    except (ValueError, RecursionError):  # beyond what the standard parser reads, e.g. nested too deep
        return values, texts


def _split(text: str) -> list[bytes]:
    """Cut a valid array into the texts of its elements, formatting and number spelling included."""
    decode = json.JSONDecoder(parse_int=str, parse_float=str).raw_decode
    texts = []
    place = _skip(text, text.index("[") + 1)
    while text[place] != "]":
        _, end = decode(text, place)
        texts.append(text[place:end].encode())
        place = _skip(text, end)
        if text[place] == ",":
            place = _skip(text, place + 1)
    return texts


def _skip(text: str, place: int) -> int:
    while text[place] in _SPACE:
        place += 1
    return place


def element(value: Any) -> bytes:
    """Return the text of one element, indented for its place in the array."""
    return orjson.dumps(value, option=orjson.OPT_INDENT_2).replace(b"\n", b"\n  ")


def join(texts: list[bytes]) -> bytes:
    """Return the whole array."""
    if not texts:
        return b"[]\n"
    parts = list(texts)
    parts[0] = b"[\n  " + parts[0]
    parts[-1] += b"\n]\n"
    return b",\n  ".join(parts)  # one copy of the whole file, not three


def load(text: bytes) -> dict[str, Any]:
    """Read one element back into plain values."""
    return orjson.loads(text)


def dump(record: Record) -> dict[str, Any]:
    """Return only what the record was given: no default gains a place in the user's file."""
    return record.to_json(exclude_unset=True)


def merge(
    raw: dict[str, Any], before: dict[str, Any], after: dict[str, Any], record_type: type[Record] | None = None
) -> dict[str, Any]:
    """Return `raw` with the difference between `before` and `after` applied.

    Keys keep their order and what did not change keeps the value in `raw`, whatever the schema made
    of it. `record_type` lets a key that the user spelled in snake_case keep that spelling.
    """
    spelled = {}
    if record_type is not None:
        spelled = {f.alias: name for name, f in record_type.model_fields.items() if f.alias not in raw and name in raw}
    result = dict(raw)
    for key in before.keys() - after.keys():
        result.pop(spelled.get(key, key), None)
    for key, value in after.items():
        place = spelled.get(key, key)
        if key in before and before[key] == value:
            continue
        held = raw.get(place)
        if isinstance(held, dict) and isinstance(value, dict) and isinstance(before.get(key), dict):
            value = merge(held, before[key], value)
        result[place] = value
    return result
