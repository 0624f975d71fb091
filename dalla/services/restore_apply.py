"""Put a staged backup in place of the data, at the start, before any store is opened.

Only renames happen here, each noted before the first is made, so a kill in the middle is continued by the next start
and the app never sees half of both. What was there is kept in `data/backups/before-restore-<time>/` (for folders on
other disks: `.before-restore-<time>/` inside them) until a person deletes it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from dalla.errors import DallaError, StorageError
from dalla.paths import fsync_folder, read_object, write_atomic
from dalla.services.backup_contents import DATABASE, DOCUMENTS, ROOTS
from dalla.settings import Settings
from dalla.times import now_iso

logger = logging.getLogger(__name__)

#: Below the data folder.
FOLDER = "restore"
STAGED = "staged"
NOTE = "staged.json"
DONE = "done.json"
BEFORE = "before-restore-"
REASON = "A backup was restored. Check what waits, then resume."
_README = """What was here before a backup was restored. The app does not read it.

To go back: stop the app and move these files over those in the data folder, or delete them under Settings > Storage.
"""

#: (staged database, present database or None, now, reason) -> what was done, counted.
Settle = Callable[[Path, Path | None, str, str], dict[str, int]]


def roots_of(settings: Settings) -> dict[str, Path]:
    """Return the folders of the settings that backups hold, by their name in an archive."""
    return {name: Path(getattr(settings, setting)) for name, setting in ROOTS.values()}


def staged(data: Path) -> dict[str, Any] | None:
    """Return the note of a restore that waits for the start (or failed there), or None."""
    note = read_object(data / FOLDER / NOTE)
    return note or None


def apply_staged(data: Path, settle: Settle) -> dict[str, Any] | None:
    """Put what is staged in place; return the note of it, or None when nothing was to be done.

    Call it while the data folder is locked and nothing in it is open. A restore that a disk refuses is undone, noted
    with the reason ("state": "failed") and not tried again by itself. Raises StorageError when even that fails.
    """
    folder = data / FOLDER
    if not folder.is_dir():
        return None
    note = read_object(folder / NOTE)
    if note.get("state") not in ("staged", "applying"):
        _sweep_killed(folder)
        if not note:
            _drop_staged(folder, {})
        return None
    try:
        if note["state"] == "staged":
            _begin(data, folder, note, settle)
        for step in note["steps"]:
            _do(step)
        Path(note["aside"]).mkdir(parents=True, exist_ok=True)
        write_atomic(Path(note["aside"]) / "README.txt", _README.encode())
    except (OSError, DallaError) as exc:
        _undo(folder, note, exc)
        return None
    note |= {"state": "done", "appliedAt": now_iso()}
    _save(folder / DONE, note)
    (folder / NOTE).unlink()
    _sweep_killed(folder)
    _drop_staged(folder, note)
    logger.info("the backup of %s was restored; what was here is in %s", note["createdAt"], note["aside"])
    return note


def forget_staged(data: Path) -> bool:
    """Drop a restore that waits (or failed); return whether there was one."""
    folder = data / FOLDER
    note = read_object(folder / NOTE)
    (folder / NOTE).unlink(missing_ok=True)
    _drop_staged(folder, note)
    return bool(note)


# ---------------------------------------------------------------- the plan


def _begin(data: Path, folder: Path, note: dict[str, Any], settle: Settle) -> None:
    """Make the staged database safe as of this moment, and write down every rename."""
    base = folder / STAGED
    if note["database"]:
        present = data / DATABASE
        note["settled"] = settle(base / DATABASE, present if present.is_file() else None, now_iso(), REASON)
    name = f"{BEFORE}{datetime.now(UTC):%Y%m%d-%H%M%S}"
    aside, number = data / "backups" / name, 2
    while os.path.lexists(aside):
        aside, number = data / "backups" / f"{name}-{number}", number + 1
    note |= {"state": "applying", "aside": str(aside), "steps": list(_steps(data, base, aside, note))}
    _save(folder / NOTE, note)


def _steps(data: Path, base: Path, aside: Path, note: dict[str, Any]) -> Iterator[dict[str, str | None]]:
    """Yield {live, staged, aside}: `live` goes to `aside`, then `staged` to `live`; either may be None."""

    def swap(name: str) -> dict[str, str | None]:
        there = str(base / name) if os.path.lexists(base / name) else None
        return {"live": str(data / name), "staged": there, "aside": str(aside / name)}

    if "records" in note["parts"]:
        for name in DOCUMENTS:
            if note["database"] or os.path.lexists(base / name):
                yield swap(name)
                yield {"live": str(data / f"{name}.bak"), "staged": None, "aside": str(aside / f"{name}.bak")}
    if note["database"]:
        for ending in ("-wal", "-shm", ""):
            yield swap(DATABASE + ending)
    for name in note["folders"]:
        yield swap(name)
    if "datasets" in note["folders"]:
        yield swap("thumbs")  # made again
    if note["keys"]:
        yield swap("secrets")
    for name in ("runs", "trash"):  # what is here stays: it holds what a backup leaves out
        depth = 1 if name == "runs" else 2
        for path in sorted((base / name).glob("/".join(["*"] * depth))):
            relative = path.relative_to(base).as_posix()
            if relative not in DOCUMENTS and not os.path.lexists(data / relative):
                yield {"live": str(data / relative), "staged": str(path), "aside": None}
    for root, place in note["places"].items():
        live = Path(note["roots"][root])
        elsewhere = live.stat().st_dev != data.stat().st_dev
        keep = live / f".{aside.name}" if elsewhere else aside / root
        for path in sorted(Path(place).iterdir()):
            yield {"live": str(live / path.name), "staged": str(path), "aside": str(keep / path.name)}


# ---------------------------------------------------------------- the renames


def _rename(source: str, target: str) -> None:
    """One durable rename. The only way anything moves here."""
    os.makedirs(os.path.dirname(target), exist_ok=True)
    os.rename(source, target)
    for path in {os.path.dirname(source), os.path.dirname(target)}:
        fsync_folder(Path(path))


def _do(step: dict[str, str | None]) -> None:
    """Do what of a step is not done yet: it may have been begun by a process that was killed."""
    live, new, aside = step["live"], step["staged"], step["aside"]
    assert live is not None
    if new is not None and not os.path.lexists(new):
        return
    if os.path.lexists(live) and aside is not None and not os.path.lexists(aside):
        _rename(live, aside)
    if new is not None:
        if os.path.lexists(live):
            raise FileExistsError(f"{live} is there again")
        _rename(new, live)


def _undo(folder: Path, note: dict[str, Any], exc: OSError | DallaError) -> None:
    """Put everything back as it was and say why. Raises StorageError when the disk refuses that as well."""
    logger.error("the restore was not made: %s", exc)
    try:
        for step in reversed(note.get("steps", [])):
            live, new, aside = step["live"], step["staged"], step["aside"]
            if new is not None and not os.path.lexists(new) and os.path.lexists(live):
                _rename(live, new)
            if aside is not None and os.path.lexists(aside) and not os.path.lexists(live):
                _rename(aside, live)
        if note.get("aside"):
            _drop_empty(Path(note["aside"]))
        problem = exc if isinstance(exc, DallaError) else StorageError.from_os(exc, "the restore")
        kept = {k: v for k, v in note.items() if k not in ("steps", "aside")}
        _save(folder / NOTE, kept | {"state": "failed", "error": problem.problem()})
    except OSError as again:
        raise StorageError(
            f"A restore stopped half way and could not be undone: {again.strerror or again}.",
            remedy=f"Mend the disk and start again: it goes on by itself. The list of what was moved is {folder / NOTE}.",
        ) from again


def _drop_empty(folder: Path) -> None:
    """Remove the folder kept for what was there, when nothing is in it but its README."""
    (folder / "README.txt").unlink(missing_ok=True)
    for where, _, _ in os.walk(folder, topdown=False):
        with contextlib.suppress(OSError):
            os.rmdir(where)


def _save(path: Path, note: dict[str, Any]) -> None:
    write_atomic(path, orjson.dumps(note, option=orjson.OPT_INDENT_2))


def _drop_staged(folder: Path, note: dict[str, Any]) -> None:
    shutil.rmtree(folder / STAGED, ignore_errors=True)
    for place in note.get("places", {}).values():
        _drop_place(place)


def _drop_place(place: str) -> None:
    """Remove a folder of unpacked files inside training_data/ or loras/."""
    if Path(place).name.startswith(".restore-"):
        shutil.rmtree(place, ignore_errors=True)


def _sweep_killed(folder: Path) -> None:
    """Remove what killed checks and unpackings left. Only at the start, when none can be under way."""
    for file in folder.glob("work-*.json"):
        for place in read_object(file).get("places", []):
            _drop_place(str(place))
        file.unlink(missing_ok=True)
    for path in (*folder.glob("work-*"), *folder.glob("check-*")):
        shutil.rmtree(path, ignore_errors=True)
