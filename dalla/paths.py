"""Join paths safely and write files so that a crash never leaves half of one."""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
from pathlib import Path
from typing import Any

from dalla.errors import InvalidInput

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._()+-]{0,149}\Z")
_WINDOWS_DEVICES = {"con", "prn", "aux", "nul", *(f"com{i}" for i in range(1, 10)), *(f"lpt{i}" for i in range(1, 10))}


def safe_name(name: str, field: str = "name") -> str:
    """Return a single file name unchanged. Raises InvalidInput for separators, `..`, device names."""
    stem = name.split(".")[0].lower()
    if not _NAME.match(name) or ".." in name or name.endswith((".", " ")) or stem in _WINDOWS_DEVICES:
        raise InvalidInput.field(field, "Use letters, digits, spaces and . _ - ( ) + only; no folders, and not '..' .")
    return name


def safe_join(root: Path, *parts: str) -> Path:
    """Join below `root`. Raises InvalidInput when the result, links resolved, would leave it."""
    base = root.resolve()
    path = base.joinpath(*parts).resolve()
    if path != base and base not in path.parents:
        raise InvalidInput("That path leaves the folder it belongs to.")
    return path


def fsync_folder(folder: Path) -> None:
    """Make a rename inside `folder` durable. Windows cannot open folders and does not need it."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_atomic(path: Path, data: bytes, *, mode: int = 0o644, keep: Path | None = None, durable: bool = True) -> None:
    """Replace `path` by `data`: temp file beside it, fsync, rename, fsync of the folder.

    Without `durable` nothing is fsynced: whole or absent after a crash, for what can be made again.
    With `keep`, the file that was there is preserved under that name (a hard link, no copying).
    Readers see the old bytes or the new ones, never a mixture. Raises OSError; then nothing changed.
    """
    temp = path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")
    try:
        handle = os.open(temp, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with open(handle, "wb", closefd=True) as file:
            file.write(data)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        if keep is not None and path.exists():
            _keep(path, keep)
        os.replace(temp, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temp.unlink()
        raise
    if durable:
        fsync_folder(path.parent)


def _keep(path: Path, keep: Path) -> None:
    link = keep.with_name(f".{keep.name}.{secrets.token_hex(6)}.tmp")
    try:
        os.link(path, link)
    except OSError:  # a file system without hard links (FAT, some network shares)
        link.write_bytes(path.read_bytes())
    os.replace(link, keep)


def remove_stale_temps(folder: Path, *, older_than_seconds: float = 3600) -> int:
    """Delete temp files that a killed process left in `folder`; return how many."""
    import time

    count = 0
    for temp in folder.glob(".*.tmp"):
        with contextlib.suppress(OSError):
            if time.time() - temp.stat().st_mtime > older_than_seconds:
                temp.unlink()
                count += 1
    return count


def read_object(path: Path) -> dict[str, Any]:
    """Return the JSON object of a file; {} where there is none that can be read."""
    try:
        data = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return data if isinstance(data, dict) else {}
