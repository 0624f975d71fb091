"""One move of a folder, step by step, with a note of how far it is; and what the next start makes of a cut-off one."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import secrets
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import orjson

from dalla.errors import StorageError
from dalla.paths import fsync_folder, read_object, write_atomic
from dalla.services.storage_sizes import nearest
from dalla.settings import BY_NAME

logger = logging.getLogger(__name__)

NOTE = "move.json"
_PIECE = 1 << 20

Step = Callable[[float, float, str], None]


class Move:
    """One move, with its note. Every method but `copy` is quick."""

    def __init__(self, data: Path, setting: str, source: Path, target: Path, token: str | None = None) -> None:
        self.note_file = data / NOTE
        self.setting, self.source, self.target = setting, source, target
        self.token = token or secrets.token_hex(6)
        self.work = target / f".moving-{self.token}"
        self._copied: dict[str, tuple[int, int]] = {}  # path below the source -> (size, mtime in ns)
        self._switched = False

    def note(self, state: str) -> None:
        """Write down how far it is: "copying", "placing", "renaming" or "switched"."""
        values = {
            "state": state,
            "setting": self.setting,
            "source": str(self.source),
            "target": str(self.target),
            "token": self.token,
            "made": self._made(),
        }
        write_atomic(self.note_file, orjson.dumps(values, option=orjson.OPT_INDENT_2))

    def _made(self) -> bool:
        """Whether the target was not there before (then `back` removes it)."""
        known = read_object(self.note_file).get("made")
        return bool(known) if isinstance(known, bool) else not self.target.exists()

    def same_volume(self) -> bool:
        return os.stat(nearest(self.target)).st_dev == os.stat(self.source).st_dev and not os.path.ismount(self.source)

    # ------------------------------------------------------------ on the same disk

    def rename(self, switch: Callable[[str, Path], None]) -> None:
        """Rename the folder and switch the setting."""
        self.note("renaming")
        self.target.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            self.target.rmdir()
        os.rename(self.source, self.target)
        fsync_folder(self.target.parent)
        fsync_folder(self.source.parent)
        switch(self.setting, self.target)
        self._switched = True
        self.note_file.unlink()

    # ------------------------------------------------------------ to another disk

    def copy(self, progress: Step) -> tuple[int, int]:
        """Copy everything beside its place, compare it, and put it in its place; return (files, bytes)."""
        self.note("copying")
        self.work.mkdir(parents=True)
        files = list(tree(self.source, links=True))
        total = float(sum(info.st_size for _, info in files)) or 1.0
        done = 0
        for number, (path, _) in enumerate(files, 1):
            done += self._one(path, partial(_told, progress, done, total, f"File {number} of {len(files)}"))
        for path, info in tree(self.source, links=True):  # what changed while the others were copied
            if self._copied.get(_below(path, self.source)) != (info.st_size, info.st_mtime_ns):
                self._one(path, lambda amount: progress(total, total, "What changed meanwhile"))
        for folder in _folders(self.source):
            (self.work / _below(folder, self.source)).mkdir(parents=True, exist_ok=True)
        self.note("placing")
        for path in sorted(self.work.iterdir()):
            os.rename(path, self.target / path.name)
        self.work.rmdir()
        fsync_folder(self.target)
        return len(files), int(total) if files else 0

    def _one(self, path: Path, count: Callable[[int], None]) -> int:
        """Copy one file, read the copy back and compare. Raises StorageError when they differ."""
        name = _below(path, self.source)
        target = self.work / name
        target.parent.mkdir(parents=True, exist_ok=True)
        info = path.lstat()
        if path.is_symlink():
            target.unlink(missing_ok=True)
            os.symlink(os.readlink(path), target)
            self._copied[name] = (info.st_size, info.st_mtime_ns)
            return 0
        digest, size = hashlib.sha256(), 0
        with open(path, "rb") as old, open(target, "wb") as new:
            while piece := old.read(_PIECE):
                digest.update(piece)
                new.write(piece)
                size += len(piece)
                count(size)
            new.flush()
            os.fsync(new.fileno())
        shutil.copystat(path, target)
        if file_hash(target) != digest.digest():
            raise StorageError(
                f"The copy of {name} does not read back as it was written. Nothing was moved.",
                remedy="Check the disk you are moving to.",
            )
        self._copied[name] = (info.st_size, info.st_mtime_ns)
        return size

    def switch(self, switch: Callable[[str, Path], None]) -> None:
        """Let the setting name the new folder: from here on everything is there."""
        switch(self.setting, self.target)
        self._switched = True
        self.note("switched")

    def remove_old(self) -> list[str]:
        """Delete the old files that were copied; return those that changed since and stay."""
        left = []
        for path, info in list(tree(self.source, links=True)):
            name = _below(path, self.source)
            if self._copied.get(name) == (info.st_size, info.st_mtime_ns):
                path.unlink()
            elif same_file(path, self.target / name):
                path.unlink()
            else:
                left.append(str(path))
        _remove_empty(self.source)
        self.note_file.unlink()
        return left

    # ------------------------------------------------------------ back

    def back(self) -> None:
        """Undo what was done before the switch; after it there is nothing to undo. Never raises."""
        if self._switched:
            return
        note = read_object(self.note_file)
        try:
            if note.get("state") == "renaming":
                if not self.source.exists() and self.target.exists():
                    os.rename(self.target, self.source)
            elif note.get("state") in ("copying", "placing"):
                shutil.rmtree(self.work, ignore_errors=True)
                placing = note["state"] == "placing" and self.target.is_dir()
                for path in list(self.source.iterdir()) if placing else []:
                    placed = self.target / path.name  # only what was put there from here
                    if placed.is_dir() and not placed.is_symlink():
                        shutil.rmtree(placed)
                    else:
                        placed.unlink(missing_ok=True)
                if note.get("made") and self.target.is_dir():
                    self.target.rmdir()
            self.note_file.unlink(missing_ok=True)
        except OSError as exc:
            logger.warning("a move could not be undone now; the next start does: %s", exc)


def settle_move(data: Path) -> bool:
    """At the start: settle a move that was cut off; return whether settings.json was changed.

    Before the switch everything goes back to where it was. After it everything is there, and the note stays for
    `Mover.resume`, which deletes the old files while the app runs.
    """
    note = read_object(data / NOTE)
    try:
        move = Move(data, str(note["setting"]), Path(note["source"]), Path(note["target"]), str(note["token"]))
        state, key = note["state"], BY_NAME[str(note["setting"])].key
    except KeyError:
        return False
    file = data / "settings.json"
    values = read_object(file)
    if state == "renaming":
        changed = False
        if not _filled(move.source) and move.target.is_dir() and values.get(key) != str(move.target):
            write_atomic(file, orjson.dumps({**values, key: str(move.target)}, option=orjson.OPT_INDENT_2) + b"\n")
            changed = True
        move.note_file.unlink()
        return changed
    if values.get(key) == str(move.target):
        move.note("switched")
    else:
        move.back()
    return False


def file_hash(path: Path) -> bytes:
    """Return the SHA-256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def _told(progress: Step, before: int, total: float, message: str, amount: int) -> None:
    progress(before + amount, total, message)


def _below(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix()


def tree(root: Path, *, links: bool = False) -> list[tuple[Path, os.stat_result]]:
    """Return every file below a folder with its facts; links (not followed) where asked for."""
    found = []
    for where, folders, names in os.walk(root):
        here = Path(where)
        linked = [name for name in folders if (here / name).is_symlink()]
        for name in (*names, *(linked if links else ())):
            path = here / name
            if path.is_symlink() and not links:
                continue
            with contextlib.suppress(OSError):
                found.append((path, path.lstat()))
    return found


def _folders(root: Path) -> list[Path]:
    return [Path(where) / n for where, names, _ in os.walk(root) for n in names if not (Path(where) / n).is_symlink()]


def _filled(folder: Path) -> bool:
    return folder.is_dir() and any(folder.iterdir())


def same_file(one: Path, two: Path) -> bool:
    """Whether two files hold the same."""
    try:
        if one.is_symlink() or two.is_symlink():
            return one.is_symlink() and two.is_symlink() and os.readlink(one) == os.readlink(two)
        return one.stat().st_size == two.stat().st_size and file_hash(one) == file_hash(two)
    except OSError:
        return False


def _remove_empty(folder: Path) -> None:
    for where, _, _ in os.walk(folder, topdown=False):
        with contextlib.suppress(OSError):
            os.rmdir(where)
