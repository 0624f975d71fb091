"""Write a dataset into training_data/<name>/, the folder our own trainer reads (see dalla/training_set.py)."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from dalla.errors import Conflict, DallaError, InvalidInput, StorageError
from dalla.paths import fsync_folder, safe_join
from dalla.records.dataset import Dataset
from dalla.services.dataset_formats import FORMATS, Entry, ExportOptions, Format, Item, options_of, plan
from dalla.services.dataset_pictures import read_entry, read_mask, render
from dalla.services.file_trash import FileTrash
from dalla.services.training_sets import plain_name
from dalla.settings import Settings
from dalla.stores.base import BlobStore

#: Beside the pictures: which dataset they came from, and what every file was when it was written.
MARK = ".dataset.json"
_FORMAT = Format("training_data", "training_data/", FORMATS["pairs"].keeps, masks="beside")
_PLAIN = options_of({"upright": False})  # our trainer reads turned, CMYK and 16-bit pictures rightly
_STALE_SECONDS = 3600


class Materializer:
    """Makes folders whole or not at all, and leaves folders alone that somebody else made."""

    def __init__(self, settings: Settings, trash: FileTrash) -> None:
        self._settings = settings
        self._trash = trash
        self._lock = threading.Lock()

    @property
    def root(self) -> Path:
        return Path(self._settings.training_data_dir)

    def choose(self, dataset: Dataset, name: str | None, *, overwrite: bool = False) -> str:
        """Return the folder's name: the one asked for, or a free one like the dataset's. Raises InvalidInput, Conflict."""
        if name is None:
            wish = plain_name(dataset.name, plain_name(dataset.id, "dataset"))
            found, n = wish, 2
            while (self.root / found).exists() and self._claim(dataset, found) is not None:
                found, n = f"{wish}-{n}", n + 1
            return found
        if not name or plain_name(name, "") != name:
            raise InvalidInput.field("name", "Use letters, digits and . _ - ( ) + only, at most 80.")
        if not overwrite and (why := self._claim(dataset, name)) is not None:
            raise Conflict(why, remedy="Give another name, or say overwrite: the old folder goes to the trash.")
        return name

    def write(
        self, dataset: Dataset, name: str | None, entries: list[Entry], options: ExportOptions, blobs: BlobStore,
        facts: dict[str, Any], *, overwrite: bool = False, on_progress: Callable[[int, int], None] | None = None,
    ) -> dict[str, Any]:  # fmt: skip
        """Write the folder; return {name, pictures, captions, masks, unchanged, missing:[{imageId, code, detail}]}.

        Raises Conflict, InvalidInput, StorageError; then the folder is as it was.
        """
        items = arrange(plan(entries, options, _FORMAT, trigger=dataset.trigger_word, name=dataset.name))
        if not items:
            raise Conflict(
                f"'{dataset.name}' has no picture to train with.",
                remedy="Import pictures, or take back some exclusions.",
            )
        digest = _digest(items)
        with self._lock:
            folder = self.choose(dataset, name, overwrite=overwrite)
            target = safe_join(self.root, folder)
            mark = _mark(target)
            if mark is not None and mark.get("content") == digest and not mark.get("missing") and _intact(target, mark):
                return {**mark["counts"], "name": folder, "unchanged": True, "missing": []}
            temp = self.root / f".{folder}.{secrets.token_hex(6)}.tmp"
            try:
                self.root.mkdir(parents=True, exist_ok=True)
                self._sweep(folder)
                counts, missing = self._fill(temp, items, blobs, {**facts, "content": digest}, on_progress)
                self._swap(dataset, folder, target, temp)
            except OSError as exc:
                raise StorageError.from_os(exc, f"training_data/{folder}") from exc
            finally:
                shutil.rmtree(temp, ignore_errors=True)
        return {**counts, "name": folder, "unchanged": False, "missing": missing}

    def _fill(
        self, temp: Path, items: list[Item], blobs: BlobStore, facts: dict[str, Any],
        on_progress: Callable[[int, int], None] | None,
    ) -> tuple[dict[str, int], list[dict[str, str]]]:  # fmt: skip
        temp.mkdir()
        files: dict[str, list[int]] = {}
        missing: list[dict[str, str]] = []
        counts = {"pictures": 0, "captions": 0, "masks": 0}

        def put(name: str, data: bytes) -> None:
            path = temp / name
            path.parent.mkdir(exist_ok=True)
            with open(path, "xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            stat = path.stat()
            files[name] = [stat.st_size, stat.st_mtime_ns]

        for number, item in enumerate(items):
            if on_progress is not None:
                on_progress(number, len(items))
            try:
                mask = read_mask(blobs, item.mask) if item.mask is not None else None
                made = render(read_entry(blobs, item.entry), item, _PLAIN, _FORMAT, mask=mask)
            except DallaError as exc:
                missing.append({"imageId": item.entry["imageId"], "code": exc.code, "detail": exc.detail})
                continue
            put(item.path, made.data)
            counts["pictures"] += 1
            if item.caption:
                put(item.caption_path, item.caption.encode() + b"\n")
                counts["captions"] += 1
            if made.mask is not None and item.mask_path is not None:
                put(item.mask_path, made.mask)
                counts["masks"] += 1
        if not counts["pictures"]:
            raise Conflict(
                "None of the pictures could be read, so no folder was written.",
                remedy="Check the dataset (Datasets, Check): it says what is missing on the disk.",
            )
        if on_progress is not None:
            on_progress(len(items), len(items))
        put(MARK, json.dumps({**facts, "counts": counts, "missing": len(missing), "files": files}, indent=1).encode())
        for folder in [*(p for p in temp.iterdir() if p.is_dir()), temp]:
            fsync_folder(folder)
        return counts, missing

    def _swap(self, dataset: Dataset, folder: str, target: Path, temp: Path) -> None:
        """Put the new folder in the place of the old one, which goes: ours for good, anybody else's to the trash."""
        if not target.exists():
            os.replace(temp, target)
        elif self._claim(dataset, folder) is not None:
            self._trash.put(folder, [target])
            os.replace(temp, target)
        else:
            old = self.root / f".{folder}.{secrets.token_hex(6)}.tmp"
            os.replace(target, old)
            try:
                os.replace(temp, target)
            except OSError:
                os.replace(old, target)
                raise
            shutil.rmtree(old, ignore_errors=True)
        fsync_folder(self.root)

    def _claim(self, dataset: Dataset, name: str) -> str | None:
        """Say why a folder of that name must not be replaced; None when there is none, or it is wholly ours."""
        target = safe_join(self.root, name)
        if not target.exists():
            return None
        mark = _mark(target)
        if mark is None:
            return f"training_data/{name} was not made from a dataset."
        if mark.get("datasetId") != dataset.id:
            return f"training_data/{name} was made from another dataset."
        if not _intact(target, mark):
            return f"Files in training_data/{name} were changed by hand since it was made."
        return None

    def _sweep(self, folder: str) -> None:
        """Remove what killed processes left of this folder."""
        for old in self.root.glob(f".{folder}.*.tmp"):
            with contextlib.suppress(OSError):
                if time.time() - old.stat().st_mtime > _STALE_SECONDS:
                    shutil.rmtree(old, ignore_errors=True)


def arrange(items: list[Item]) -> list[Item]:
    """Put what repeats into "10_concept" folders; without repeats all lies in one folder. Regularization is left out."""
    rows = [item for item in items if item.split != "reg"]
    placed = [replace(i, folder=f"{i.repeats}_{i.label}" if i.repeats > 1 else "") for i in rows]
    return sorted(placed, key=lambda item: item.path)


def _digest(items: list[Item]) -> str:
    rows = [[i.path, i.entry["sha256"], i.caption, i.mask["sha256"] if i.mask else ""] for i in items]
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def _mark(folder: Path) -> dict[str, Any] | None:
    try:
        found = json.loads((folder / MARK).read_bytes())
        return found if isinstance(found["files"], dict) and isinstance(found["counts"], dict) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _intact(folder: Path, mark: dict[str, Any]) -> bool:
    """Whether the folder holds exactly the files that were written, unchanged by size and time."""
    try:
        there = {
            path.relative_to(folder).as_posix(): [path.stat().st_size, path.stat().st_mtime_ns]
            for path in folder.rglob("*")
            if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        }
    except OSError:
        return False
    return bool(there == mark["files"])
