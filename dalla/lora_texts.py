"""What a LoRA file says about itself: under another name, and as the notes (`<name>.json`) that lie beside it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from dalla.errors import StorageError
from dalla.weights import Header, read_header


def named(path: Path, name: str) -> list[bytes]:
    """Return the LoRA file at `path` as pieces of one that calls itself `name`. Numbers and hashes stay as they are.

    Raises InvalidInput (no whole .safetensors file), StorageError.
    """
    start = read_header(path).data_start
    try:
        data = path.read_bytes()
    except OSError as exc:
        raise StorageError.from_os(exc, "the LoRA") from exc
    header = json.loads(data[8:start])
    header["__metadata__"] = header.get("__metadata__", {}) | {"ss_output_name": name, "modelspec.title": name}
    head = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    head += b" " * (-len(head) % 8)
    return [len(head).to_bytes(8, "little"), head, data[start:]]


def notes(header: Header) -> dict[str, Any]:
    """Return how a LoRA of this app was made, with the keys of its notes; what the file does not say is left out."""
    texts = header.metadata
    dataset = {
        "name": next(iter(object_of(texts.get("ss_dataset_dirs"))), None),
        "pictures": _number(texts.get("ss_num_train_images")),
        "sha256": texts.get("dalla.dataset_sha256"),
    }
    settings = object_of(texts.get("dalla.config"))
    found = {
        "baseModelSha256": texts.get("dalla.base_sha256"),
        "rank": settings.get("rank"),
        "alpha": settings.get("alpha"),
        "targets": settings.get("targets"),
        "steps": _number(texts.get("ss_max_train_steps")),
        "dataset": {key: value for key, value in dataset.items() if value is not None},
        "settings": settings,
        "configSha256": texts.get("dalla.config_sha256"),
    }
    return {key: value for key, value in found.items() if value not in (None, {})}


def object_of(text: str | None) -> dict[str, Any]:
    """Return the JSON object in a text of a file's metadata; {} where it is none."""
    try:
        value = json.loads(text or "{}")
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _number(text: str | None) -> int | None:
    return int(text) if text and text.isdecimal() else None
