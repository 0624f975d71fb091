"""SHA-256 of weights, computed in the background and remembered until the files change."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dalla.errors import DallaError, InvalidInput, StorageError
from dalla.jobs.base import Context, JobQueue
from dalla.records.job import Job
from dalla.records.shelf import FileFacts
from dalla.services.model_inventory import Entry, Inventory, weight_files
from dalla.stores.base import ShelfStore

logger = logging.getLogger(__name__)

PIECE = 4 << 20


class ModelHashes:
    """Knows hashes; `known` answers at once, `start` queues what is not known yet."""

    KIND = "hash_weights"

    def __init__(self, inventory: Inventory, store: ShelfStore, jobs: JobQueue) -> None:
        self._inventory = inventory
        self._store = store
        self._jobs = jobs
        self.listeners: list[Callable[[], object]] = []  # told when hashes became known
        jobs.register(self.KIND, self.run, lane="cpu", restartable=True)

    def known(self, entry: Entry, facts: dict[str, FileFacts]) -> str | None:
        """Return the hash of the file as it is now, or None when it was not computed since it changed."""
        row = facts.get(entry.id)
        return row.sha256 if row and row.sha256 and entry.stamp and row.stamp == entry.stamp else None

    def start(self, ids: list[str] | None = None) -> Job:
        """Queue the hashing of these entries (None: of all whose hash is not known). Raises InvalidInput."""
        if ids is not None:
            there = {entry.id for entry in self._inventory.all()}
            if unknown := [id for id in ids if id not in there]:
                raise InvalidInput.field("ids", f"There is nothing on the shelf with the id '{unknown[0]}'.")
        title = "Hash weights" if ids is None else f"Hash {len(ids)} of the shelf"
        return self._jobs.submit(self.KIND, {"ids": ids}, title=title)

    def run(self, context: Context, payload: dict[str, Any]) -> dict[str, Any]:
        """The handler of the job. What was hashed before a stop stays known."""
        ids = payload.get("ids")
        facts = self._store.facts()
        wanted = [
            entry
            for entry in self._inventory.all()
            if entry.path is not None
            and (entry.id in ids if ids is not None else True)
            and not self.known(entry, facts)
        ]
        total = float(sum(entry.size_bytes or 0 for entry in wanted))
        done, count = 0.0, 0
        for entry in wanted:
            try:
                sha256 = hash_of(entry, lambda n, d=done, e=entry: context.progress(d + n, total, e.name))  # type: ignore[misc]
                self._store.save_facts(entry.id, stamp=entry.stamp, sha256=sha256)
                count += 1
            except StorageError as exc:
                context.item_failed(entry.id, exc.code, exc.detail)
            done += entry.size_bytes or 0
        for listener in self.listeners:
            try:
                listener()
            except DallaError as exc:
                logger.warning("after hashing: %s", exc.detail)
        return {"hashed": count, "bytes": int(done)}


def hash_of(entry: Entry, progress: Callable[[float], object] = lambda done: None) -> str:
    """Return the SHA-256 in hex of a file; of a folder, over the lines "path hash" of its weight files.

    A LoRA's card beside it does not count. `progress` is told bytes and may raise to stop. Raises StorageError.
    """
    assert entry.path is not None
    if entry.path.is_file():
        return _sha256(entry.path, progress, 0)[0]
    lines, done = [], 0.0
    for file in weight_files(entry.path, entry.files):
        sha256, done = _sha256(file, progress, done)
        lines.append(f"{file.relative_to(entry.path).as_posix()} {sha256}\n")
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def autov2(sha256: str | None) -> str | None:
    """Return the short hash that Civitai calls AutoV2."""
    return sha256[:10].upper() if sha256 else None


def _sha256(path: Path, progress: Callable[[float], object], before: float) -> tuple[str, float]:
    digest = hashlib.sha256()
    done = before
    try:
        with open(path, "rb") as file:
            while piece := file.read(PIECE):
                digest.update(piece)
                done += len(piece)
                progress(done)
    except OSError as exc:
        raise StorageError(f"{path} cannot be read: {exc.strerror or exc}.") from exc
    return digest.hexdigest(), done
