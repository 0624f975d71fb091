"""Captions in files: whatever encoding, whatever layout. Bytes in, texts out; nothing here knows a dataset.

Beside a picture `a.png` may lie `a.txt`, `a.caption`, `a.tags`, `a.json` (or `a.png.txt` …); a whole folder may have
a table: `metadata.jsonl`, `metadata.csv`, `captions.json` or a JSON as kohya's tools write it.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
from dataclasses import dataclass, field
from typing import Any

#: Where a caption may come from; when a picture has several, the first in this order is taken.
PRECEDENCE = ("txt", "caption", "tags", "json", "jsonl", "csv", "table", "recipe", "folder")
#: The same in words.
SOURCE_WORDS = {
    "txt": ".txt beside the picture",
    "caption": ".caption beside the picture",
    "tags": ".tags beside the picture",
    "json": ".json beside the picture",
    "jsonl": "metadata.jsonl",
    "csv": "metadata.csv",
    "table": "captions.json",
    "recipe": "the prompt inside the picture",
    "folder": "the name of the folder",
}
SIDECARS = {".txt": "txt", ".caption": "caption", ".tags": "tags", ".json": "json"}
MAX_CAPTION = 65_536  # bytes of one caption file
MAX_CHARACTERS = 20_000  # of one caption
MAX_TABLE = 64 * 1024 * 1024  # bytes of one table
_TEXT_KEYS = ("text", "caption", "prompt", "description", "captions", "en", "blip", "wd14")
_FILE_KEYS = ("file_name", "filename", "file", "image", "path", "image_path", "name", "media_path")


@dataclass
class Table:
    """Captions of a table by the file names it gives. `bad` counts rows that could not be read."""

    rows: list[tuple[str, str]] = field(default_factory=list)  # (file name as written, caption)
    bad: int = 0


def decode(data: bytes) -> tuple[str, str]:
    """Return (text, encoding): UTF-8, UTF-16 and UTF-32 with or without a mark, else cp1252. Never fails.

    >>> decode("Übung".encode("latin-1"))
    ('Übung', 'cp1252')
    """
    for mark, encoding in (
        (codecs.BOM_UTF8, "utf-8-sig"),
        (codecs.BOM_UTF32_LE, "utf-32"),
        (codecs.BOM_UTF32_BE, "utf-32"),
        (codecs.BOM_UTF16_LE, "utf-16"),
        (codecs.BOM_UTF16_BE, "utf-16"),
    ):
        if data.startswith(mark):
            return data.decode(encoding, errors="replace"), encoding.removesuffix("-sig")
    if b"\0" in data[:512]:
        even, odd = data[:512:2].count(0), data[1:512:2].count(0)
        guess = "utf-16-le" if odd > even else "utf-16-be"
        return data.decode(guess, errors="replace"), guess
    try:
        return data.decode("utf-8"), "utf-8"
    except UnicodeDecodeError:
        pass
    try:
        return data.decode("cp1252"), "cp1252"
    except UnicodeDecodeError:
        return data.decode("latin-1"), "latin-1"


def tidy(text: str) -> str:
    """Return a caption on one line: lines joined, control characters dropped, spaces single."""
    return " ".join("".join(c if c.isprintable() or c in "\u200c\u200d" else " " for c in text).split())


def sidecar(kind: str, data: bytes) -> str | None:
    """Return the caption in a file beside a picture ("" when it is empty), None when a .json holds none."""
    text, _ = decode(data[:MAX_CAPTION])
    if kind == "json":
        try:
            return _words(json.loads(decode(data)[0]))
        except (ValueError, RecursionError):
            return None
    if kind == "tags":
        return ", ".join(tidy(part) for line in text.splitlines() for part in line.split(",") if part.strip())
    return tidy(text)


def table(name: str, data: bytes) -> Table | None:
    """Read a table of captions by its file name (.jsonl, .csv, .json); None when it is no such table."""
    text, _ = decode(data)
    suffix = name.rpartition(".")[2].lower()
    if suffix in ("jsonl", "ndjson"):
        return _json_lines(text)
    if suffix in ("csv", "tsv"):
        return _separated(text)
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return _json_table(content)


def _json_lines(text: str) -> Table | None:
    found = Table()
    lines = [line for line in text.splitlines() if line.strip()]
    for line in lines:
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            found.bad += 1
            continue
        pair = _pair(row)
        if pair is None:
            found.bad += 1
        else:
            found.rows.append(pair)
    return found if found.rows or lines else None


def _separated(text: str) -> Table | None:
    csv.field_size_limit(1_000_000)
    try:
        dialect: Any = csv.Sniffer().sniff(text.split("\n", 1)[0], delimiters=",;\t|")
    except csv.Error:
        dialect = csv.excel
    found = Table()
    try:
        reader = csv.DictReader(io.StringIO(text.replace("\0", "")), delimiter=dialect.delimiter)
        headers = {str(h).strip().lower() for h in reader.fieldnames or []}
        if not headers & set(_FILE_KEYS) or not headers & set(_TEXT_KEYS):
            return None
        for row in reader:
            pair = _pair({str(k).strip().lower(): v for k, v in row.items() if k is not None})
            if pair is None:
                found.bad += 1
            else:
                found.rows.append(pair)
    except csv.Error:
        found.bad += 1
    return found


def _json_table(content: Any) -> Table | None:
    if isinstance(content, list):
        pairs = [_pair(row) for row in content]
        return Table([p for p in pairs if p], pairs.count(None)) if any(pairs) else None
    if not isinstance(content, dict):
        return None
    if isinstance(content.get("images"), list) and isinstance(content.get("annotations"), list):
        return _coco(content)
    rows = [(str(key), _words(value)) for key, value in content.items()]
    # A sidecar is an object too ({"caption": …}): a table has file names or objects on its left and right.
    plain = all(isinstance(value, str) for value in content.values()) and not any("." in key for key in content)
    if not content or (plain and set(content) & {*_TEXT_KEYS, "tags"}) or all(text is None for _, text in rows):
        return None
    if any(key in content for key in (*_TEXT_KEYS, "tags")) and not any(isinstance(v, dict) for v in content.values()):
        return None
    return Table([(name, text) for name, text in rows if text is not None], sum(text is None for _, text in rows))


def _coco(content: dict[str, Any]) -> Table:
    names = {row.get("id"): row.get("file_name") for row in content["images"] if isinstance(row, dict)}
    found: dict[str, str] = {}
    bad = 0
    for row in content["annotations"]:
        name = names.get(row.get("image_id")) if isinstance(row, dict) else None
        text = _words(row) if isinstance(row, dict) else None
        if isinstance(name, str) and text is not None:
            found.setdefault(name, text)  # several captions of one picture: the first
        else:
            bad += 1
    return Table(list(found.items()), bad)


def _pair(row: Any) -> tuple[str, str] | None:
    if not isinstance(row, dict):
        return None
    name = next((row[key] for key in _FILE_KEYS if isinstance(row.get(key), str) and row[key].strip()), None)
    text = _words({key: value for key, value in row.items() if row.get(key) is not name})
    return (name.strip(), text) if name is not None and text is not None else None


def _words(value: Any) -> str | None:
    """The caption in a JSON value: a text, a list of tags, or an object with a caption and/or tags."""
    if isinstance(value, str):
        return tidy(value)
    if isinstance(value, list):
        return ", ".join(tidy(part) for part in value if isinstance(part, str) and part.strip()) if value else ""
    if not isinstance(value, dict):
        return None
    for key in _TEXT_KEYS:
        if isinstance(value.get(key), str | list) and (text := _words(value[key])):
            return text
    tags = value.get("tags", value.get("tag_string"))
    if isinstance(tags, dict):  # {"tag": score}
        tags = list(tags)
    if isinstance(tags, str) and "," not in tags and "_" in tags:
        tags = tags.split()  # as boorus write them
    if isinstance(tags, str | list):
        return _words(tags)
    return "" if any(isinstance(value.get(key), str) for key in _TEXT_KEYS) else None
