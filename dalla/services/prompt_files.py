"""Prompts as CSV and JSON files: what spreadsheets write is read, what they would run is not written."""

from __future__ import annotations

import csv
import io
from typing import Any

import orjson

from dalla.errors import InvalidInput

COLUMNS = ("id", "characterId", "characterName", "prompt", "caption", "used", "createdAt", "source")
#: Spreadsheets take cells that begin so for formulas.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_DELIMITERS = ",;\t|"
_NAMES = {
    "prompt": "prompt",
    "text": "prompt",
    "positive": "prompt",
    "positiveprompt": "prompt",
    "caption": "caption",
    "character": "characterName",
    "charactername": "characterName",
    "characterid": "characterId",
    "used": "used",
    "id": "id",
}

Row = tuple[int, dict[str, Any]]  # number of the line (CSV) or element (JSON) as a person counts, and its fields


def write_csv(rows: list[dict[str, Any]]) -> bytes:
    """Return a CSV with a BOM (Excel then reads UTF-8); cells that look like formulas get a leading '."""
    out = io.StringIO(newline="")
    writer = csv.writer(out)
    writer.writerow(COLUMNS)
    for row in rows:
        writer.writerow([_safe(row.get(column)) for column in COLUMNS])
    return b"\xef\xbb\xbf" + out.getvalue().encode()


def write_json(rows: list[dict[str, Any]]) -> bytes:
    """Return the records as an indented JSON array, as `data/prompts.json` has them."""
    return orjson.dumps(rows, option=orjson.OPT_INDENT_2) + b"\n"


def read_rows(data: bytes | list[Any], name: str = "") -> list[Row]:
    """Read a CSV or JSON file (told by its content), or a list as JSON has it.

    JSON: an array of prompts (objects or plain texts), or {"prompts": […]}. CSV: a header with a
    column "prompt", or one prompt per line. Raises InvalidInput naming the line.
    """
    if isinstance(data, list):
        return _elements(data)
    text = _decode(data)
    if text.lstrip()[:1] in ("[", "{") and not name.lower().endswith(".csv"):
        try:
            value = orjson.loads(text)
        except ValueError as exc:
            raise InvalidInput.field("file", f"The file is not valid JSON: {exc}.") from exc
        if isinstance(value, dict):
            value = value.get("prompts")
        if not isinstance(value, list):
            raise InvalidInput.field("file", 'The file must hold an array of prompts, or {"prompts": […]}.')
        return _elements(value)
    return _csv(text)


def _elements(values: list[Any]) -> list[Row]:
    rows: list[Row] = []
    for number, value in enumerate(values, start=1):
        if isinstance(value, dict):
            rows.append((number, {_NAMES.get(_key(k)) or str(k): v for k, v in value.items()}))
        else:
            rows.append((number, {"prompt": value}))  # what is no text is refused with its row
    return rows


def _csv(text: str) -> list[Row]:
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if not text.strip():
        raise InvalidInput.field("file", "The file is empty.")
    first = text.lstrip("\n").split("\n", 1)[0]
    delimiter, header = _head(first)
    if header is None:  # no header: each line is a prompt, commas and all
        return [(n, {"prompt": line.strip()}) for n, line in enumerate(text.split("\n"), 1) if line.strip()]
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    rows: list[Row] = []
    began = 1
    try:
        seen_header = False
        for cells in reader:
            line, began = began, reader.line_num + 1
            if not any(cell.strip() for cell in cells):
                continue
            if not seen_header:
                seen_header = True
                continue
            fields = {field: _plain(cell) for field, cell in zip(header, cells, strict=False) if field}
            rows.append((line, fields))
    except csv.Error as exc:
        raise InvalidInput.field(
            "file", f"Line {reader.line_num} of the file cannot be read: {exc}.", remedy="Look for a missing quote."
        ) from exc
    return rows


def _head(line: str) -> tuple[str, list[str | None] | None]:
    """Find the delimiter with which the first line is a header; None when it is none."""
    for delimiter in sorted(_DELIMITERS, key=lambda d: -line.count(d)):
        cells = next(csv.reader([line], delimiter=delimiter), [])
        header = [_NAMES.get(_key(cell)) for cell in cells]
        if "prompt" in header:
            return delimiter, header
    return ",", None


def _key(cell: Any) -> str:
    return "".join(char for char in str(cell).casefold() if char.isalnum())


def _decode(data: bytes) -> str:
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        try:
            return data.decode("utf-16")
        except UnicodeDecodeError:
            pass
    if b"\0" in data:
        raise InvalidInput.field("file", "This is not a text file.", remedy="Save the sheet as CSV, or use JSON.")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("cp1252", "replace")


def _safe(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    text = "" if value is None else str(value)
    return f"'{text}" if text.lstrip("'").startswith(_FORMULA) else text


def _plain(cell: str) -> str:
    """Undo `_safe`."""
    return cell[1:] if cell.startswith("'") and cell.lstrip("'").startswith(_FORMULA) else cell
