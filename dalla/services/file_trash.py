"""Files and folders that were deleted, kept for a while so that a delete can be undone.

One folder per delete below `data/trash/<kind>/`, with a note of where everything came from.
"""

from __future__ import annotations

import contextlib
import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dalla.errors import Conflict, NotFound, StorageError
from dalla.ids import check_id, new_id
from dalla.paths import write_atomic
from dalla.times import ago_iso, now_iso

logger = logging.getLogger(__name__)

NOTE = "trashed.json"


class FileTrash:
    """The trash of one kind of thing ("loras", "training_data").

    `home` says in which folder such things lie now: what was below it when it was deleted comes back below it, wherever
    it was moved to meanwhile. Anything else comes back to where it was.
    """

    def __init__(self, data_dir: Path, kind: str, home: Callable[[], Path] | None = None) -> None:
        self._root = Path(data_dir) / "trash" / kind
        self._kind = kind
        self._home = home

    def put(self, name: str, paths: list[Path], facts: dict[str, Any] | None = None) -> str:
        """Move files or folders into the trash; return the id that `restore` takes. Raises StorageError."""
        id = new_id("trash")
        folder = self._root / id
        moved: list[tuple[Path, Path]] = []
        try:
            folder.mkdir(parents=True)
            note = {
                "name": name,
                "deletedAt": now_iso(),
                "from": [str(path) for path in paths],
                "home": self._home_of(paths),
                "facts": facts or {},
            }
            write_atomic(folder / NOTE, json.dumps(note, indent=2, ensure_ascii=False).encode())
            for path in paths:
                target = folder / path.name
                shutil.move(path, target)
                moved.append((path, target))
        except OSError as exc:
            for path, target in reversed(moved):
                with contextlib.suppress(OSError):
                    shutil.move(target, path)
            shutil.rmtree(folder, ignore_errors=True)
            raise StorageError.from_os(exc, "the change") from exc
        return id

    def all(self, *, full: bool = False) -> list[dict[str, Any]]:
        """Return what lies in the trash, newest first: {id, name, deletedAt}; `full` adds sizeBytes and facts."""
        found = []
        for path in self._root.glob(f"*/{NOTE}"):
            note = self._note(path.parent)
            if note is not None:
                row = {"id": path.parent.name, "name": note["name"], "deletedAt": note["deletedAt"]}
                found.append(row | {"sizeBytes": _size(path.parent), "facts": note.get("facts") or {}} if full else row)
        return sorted(found, key=lambda row: row["deletedAt"], reverse=True)

    def remove(self, id: str) -> int:
        """Delete one for good; return the bytes it took. Raises NotFound, StorageError."""
        folder = self._root / check_id(id)
        if self._note(folder) is None:
            raise NotFound.of("deleted file", id)
        size = _size(folder)
        try:
            shutil.rmtree(folder)
        except OSError as exc:
            raise StorageError.from_os(exc, "the change") from exc
        return size

    def restore(self, id: str) -> dict[str, Any]:
        """Move everything back, below `home` where it was there; return {name, facts}.

        Raises NotFound, Conflict, StorageError.
        """
        folder = self._root / check_id(id)
        note = self._note(folder)
        if note is None:
            raise NotFound.of("deleted file", id)
        targets = [self._target(Path(path), note.get("home")) for path in note["from"]]
        for target in targets:
            if target.exists():
                raise Conflict(
                    f"There is a new '{target.name}' meanwhile, so the old one was not brought back.",
                    remedy="Rename or delete the new one first.",
                )
        try:
            for target in targets:
                if (folder / target.name).exists():
                    target.parent.mkdir(parents=True, exist_ok=True)
                    shutil.move(folder / target.name, target)
            shutil.rmtree(folder)
        except OSError as exc:
            raise StorageError.from_os(exc, "the change") from exc
        return {"name": note["name"], "facts": note.get("facts") or {}}

    def _home_of(self, paths: list[Path]) -> str | None:
        """Return the folder of these things as the paths spell it, None when one of them lies elsewhere."""
        home = self._home() if self._home is not None else None
        spelled = (home, home.resolve()) if home is not None else ()
        return next((str(h) for h in spelled if all(h in path.parents for path in paths)), None)

    def _target(self, path: Path, home: Any) -> Path:
        if self._home is None or not isinstance(home, str) or Path(home) not in path.parents:
            return path
        return self._home() / path.relative_to(home)

    def purge(self, days: float) -> int:
        """Delete for good what was trashed more than `days` ago; return how many."""
        limit, count = ago_iso(days * 86400), 0
        for row in self.all():
            if row["deletedAt"] < limit:
                shutil.rmtree(self._root / row["id"], ignore_errors=True)
                count += 1
        return count

    @staticmethod
    def _note(folder: Path) -> dict[str, Any] | None:
        try:
            note = json.loads((folder / NOTE).read_bytes())
            return note if isinstance(note["from"], list) and isinstance(note["name"], str) else None
        except (OSError, ValueError, KeyError, TypeError):
            return None


def _size(folder: Path) -> int:
    """Bytes of what was put there, without the note."""
    total = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):
            total += path.stat().st_size if path.is_file() and path.name != NOTE else 0
    return total
