"""What a durable change of one character costs, and what reading costs: `python -m bench.documents`.

Written: `JsonDocuments.update` against one bare atomic write (temp file, fsync, rename, fsync of the
folder) of the same bytes, taken in turns. Goal: at most twice as long, at every size.
Read: `all()` and one `get` against only parsing the file's bytes. Goal: less.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import orjson

from bench.figures import median, milliseconds, percentile, save, table
from dalla.records.character import Character
from dalla.stores.documents_json import JsonDocuments

SIZES = (10, 1_000, 10_000)


def character(number: int) -> dict[str, Any]:
    """Return a character as the seeds describe one, about 1.2 kB."""
    return {
        "id": f"char_1754528276811_{number:09}",
        "name": f"Luna {number}",
        "personality": "Dreamy and mystical",
        "backstory": "Luna is a mysterious character who lives in a hidden forest.",
        "instagramHandle": "@luna_mystic",
        "isActive": True,
        "createdAt": "2025-08-07T00:57:56.811Z",
        "updatedAt": "2025-08-08T10:30:00.000Z",
        "preferredModel": "sdxl_dreamshaper.safetensors",
        "triggerWord": "luna_character",
        "promptSettings": {
            "basePrompt": "a beautiful portrait of luna_character",
            "negativePrompt": "ugly, disfigured",
            "style": "artistic",
            "mood": "serene",
        },
        "narratives": [
            {
                "id": "narr_1",
                "title": "The Crystal Quest",
                "description": "Luna is searching for a legendary crystal.",
                "startDate": "2025-08-01",
                "endDate": "2025-08-31",
            }
        ],
        "instagramAccountId": "1234567890",
        "instagramApiKey": "env:INSTAGRAM_API_KEY",
        "twitterAccountId": "0987654321",
    }


def bare_write(path: Path, data: bytes) -> None:
    """Do no more than durability asks for."""
    temp = path.with_suffix(".tmp")
    with open(temp, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temp, path)
    handle = os.open(path.parent, os.O_RDONLY)
    os.fsync(handle)
    os.close(handle)


def writing(folder: Path, size: int, repeats: int) -> dict[str, Any]:
    path, bare = folder / f"characters{size}.json", folder / f"bare{size}.json"
    path.write_bytes(orjson.dumps([character(n) for n in range(size)], option=orjson.OPT_INDENT_2) + b"\n")
    store = JsonDocuments(path, Character, "character")
    one = f"char_1754528276811_{size // 2:09}"
    store.update(one, lambda c: c.with_(name="warm"))
    durable, plain = [], []
    for turn in range(repeats):
        durable += milliseconds(lambda turn=turn: store.update(one, lambda c: c.with_(name=f"Luna {turn}")), 1)
        data = path.read_bytes()
        plain += milliseconds(lambda data=data: bare_write(bare, data), 1)
    assert JsonDocuments(path, Character, "character").get(one).name == f"Luna {repeats - 1}"
    return {
        "characters": size,
        "bytes": path.stat().st_size,
        "updateMs": median(durable),
        "updateP95Ms": percentile(durable, 95),
        "bareMs": median(plain),
        "ratio": median(durable) / median(plain),
    }


def reading(folder: Path, size: int, repeats: int) -> dict[str, Any]:
    path = folder / f"characters{size}.json"
    store = JsonDocuments(path, Character, "character")
    data = path.read_bytes()
    one = f"char_1754528276811_{size // 2:09}"

    def read() -> None:
        store.all()
        store.get(one)

    first = milliseconds(read, 1)[0]
    read_ms, parse_ms = median(milliseconds(read, repeats)), median(milliseconds(lambda: orjson.loads(data), repeats))
    return {"characters": size, "firstMs": first, "readMs": read_ms, "parseMs": parse_ms, "ratio": read_ms / parse_ms}


def main(where: str | None = None) -> None:
    with tempfile.TemporaryDirectory(dir=where) as name:
        folder = Path(name)
        written = [writing(folder, size, 41 if size > 5000 else 101) for size in SIZES]
        read = [reading(folder, size, 200) for size in SIZES]
    table(
        "One durable change of a character (ms; goal: ratio at most 2)",
        ["characters", "bytes", "update", "p95", "bare write", "ratio"],
        [[w["characters"], w["bytes"], w["updateMs"], w["updateP95Ms"], w["bareMs"], w["ratio"]] for w in written],
    )
    table(
        "all() and one get (ms; goal: ratio below 1)",
        ["characters", "first read", "read", "parse only", "ratio"],
        [[r["characters"], r["firstMs"], r["readMs"], r["parseMs"], r["ratio"]] for r in read],
    )
    save("documents", {"writing": written, "reading": read})


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else None)
