"""Move training_data/, loras/ or models/ to another folder: everything there, or everything where it was, never half.

On the same disk a rename; else every file is copied, read back and compared by hash, then the setting is switched, and
only then the old files go. A note (`data/move.json`) says how far it came: a kill in the middle is settled by the
next start, before anything is read from either folder.
"""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dalla.errors import Conflict, InvalidInput, StorageError
from dalla.events import EventBus
from dalla.jobs.base import Context, JobQueue, TaskStore
from dalla.paths import read_object
from dalla.records.job import Job
from dalla.services.storage_relocation import NOTE, Move, tree
from dalla.services.storage_sizes import nearest
from dalla.settings import BY_NAME, Settings

logger = logging.getLogger(__name__)

KIND = "move_storage"
#: Location -> setting.
MOVABLE = {"training_data": "training_data_dir", "loras": "loras_dir", "models": "models_dir"}
#: Work beside that of the graphics card that reads or writes these folders.
_USING = frozenset(
    {KIND, "dataset_materialize", "restore_backup", "make_backup", "add_weights", "convert_weights", "hash_weights"}
)
_RESERVE = 256 * 1024 * 1024


class Mover:
    """Moves one location at a time."""

    def __init__(
        self,
        settings: Settings,
        jobs: JobQueue,
        tasks: TaskStore,
        events: EventBus,
        *,
        moved: Callable[[str], object] = lambda location: None,
    ) -> None:
        """`moved` is called with the location after the switch, for what remembers paths."""
        self._settings = settings
        self._data = Path(settings.data_dir)
        self._jobs = jobs
        self._tasks = tasks
        self._events = events
        self._moved = moved
        jobs.register(KIND, self._run, lane="cpu")

    def plan(self, location: str, target: str) -> dict[str, Any]:
        """Say what moving means: {location, source, target, files, bytes, freeBytes, sameVolume, problems: [{code, detail}]}.

        Raises InvalidInput (no such location), Conflict (the environment sets the folder; names the variable).
        """
        source = self._source(location)
        goal, problems = self._check(location, source, target)
        files = list(tree(source)) if source.is_dir() else []
        size = sum(info.st_size for _, info in files)
        free = None
        same = False
        if goal is not None:
            there = nearest(goal)
            same = source.exists() and os.stat(there).st_dev == os.stat(source).st_dev
            free = shutil.disk_usage(there).free
            if not same and not problems and size + _RESERVE > free:
                problems.append(
                    _problem("no_room", f"{size / 1e9:.1f} GB are to be copied, {free / 1e9:.1f} GB are free there.")
                )
        return {
            "location": location,
            "source": str(source),
            "target": str(goal) if goal is not None else target,
            "files": len(files),
            "bytes": size,
            "freeBytes": free,
            "sameVolume": same,
            "problems": problems,
        }

    def start(self, location: str, target: str) -> Job:
        """Queue the move. Raises InvalidInput, Conflict: what `plan` calls a problem."""
        plan = self.plan(location, target)
        if plan["problems"]:
            first = plan["problems"][0]
            raise Conflict(
                first["detail"], remedy="Choose another folder, or wait.", extra={"problems": plan["problems"]}
            )
        return self._jobs.submit(
            KIND,
            {"location": location, "target": plan["target"]},
            title=f"Move {location} to {plan['target']}",
        )

    # ------------------------------------------------------------ checks

    def _source(self, location: str) -> Path:
        if location not in MOVABLE:
            raise InvalidInput.field("location", f"Only {', '.join(MOVABLE)} can be moved here.")
        row = BY_NAME[MOVABLE[location]]
        if any(entry["name"] == row.key and entry["locked"] for entry in self._settings.describe()):
            raise Conflict(
                f"{row.env} is set in the environment, which wins over this page.",
                remedy=f"Remove {row.env} from the environment or .env and restart, or change it there.",
            )
        return Path(getattr(self._settings, row.name))

    def _check(self, location: str, source: Path, target: str) -> tuple[Path | None, list[dict[str, str]]]:
        problems: list[dict[str, str]] = []
        try:
            given = Path(target.strip()).expanduser()
            if not given.is_absolute() or len(target) > 2000:
                return None, [_problem("not_absolute", "Give the whole path of the folder, from the root of the disk.")]
            goal = Path(os.path.realpath(given))
            if goal == source:
                problems.append(_problem("same", "It is there already."))
            elif source in goal.parents:
                problems.append(_problem("inside_itself", f"{goal} lies inside the folder that is to be moved."))
            elif goal in source.parents:
                problems.append(_problem("around_itself", f"{goal} is around the folder that is to be moved."))
            for name in ("data_dir", *MOVABLE.values()):
                other = Path(getattr(self._settings, name))
                if name != MOVABLE[location] and (goal == other or (goal in other.parents) or other in goal.parents):
                    problems.append(
                        _problem("in_use", f"{goal} overlaps with {other}, which {BY_NAME[name].env} names.")
                    )
            if goal.exists() and not goal.is_dir():
                problems.append(_problem("not_a_folder", f"{goal} is a file."))
            elif goal.is_dir() and goal != source and any(goal.iterdir()):
                problems.append(_problem("not_empty", f"{goal} is not empty."))
            there = nearest(goal)
            if not _writable(there):
                problems.append(_problem("not_writable", f"{there} cannot be written."))
        except (OSError, ValueError, RuntimeError) as exc:  # a NUL, ~ of nobody, a loop of links
            return None, [
                _problem("not_found", f"This folder cannot be used: {getattr(exc, 'strerror', None) or exc}.")
            ]
        if not source.is_dir():
            problems.append(_problem("gone", f"{source} is not there."))
        links = [path for path, _ in tree(source, links=True)] if source.is_dir() else []
        outside = [
            p
            for p in links
            if p.is_symlink() and os.path.isabs(os.readlink(p)) and source in Path(os.readlink(p)).parents
        ]
        if outside:
            problems.append(
                _problem("links", f"{outside[0]} is a link by its full path into the folder; it would break.")
            )
        busy = self._busy()
        if busy:
            problems.append(_problem("busy", f"'{busy}' is under way and may be using it."))
        if read_object(self._data / NOTE):
            problems.append(_problem("moving", "Another move is under way, or was cut off and waits for a restart."))
        return goal, problems

    def _busy(self, mine: str | None = None) -> str | None:
        """Return the title of work that reads or writes these folders."""
        for job in self._tasks.page(statuses=["queued", "running", "paused"], limit=500)[0]:
            if job.id != mine and (job.lane == "gpu" or job.kind in _USING):
                return job.title or job.kind
        return None

    # ------------------------------------------------------------ the task

    def _run(self, context: Context, payload: dict[str, Any]) -> dict[str, Any]:
        if payload.get("finish"):
            return self._finish()
        location = payload["location"]
        source = self._source(location)
        goal, problems = self._check(location, source, payload["target"])
        problems = [p for p in problems if p["code"] != "busy"]  # this very task is
        busy = self._busy(context.job.id)
        if goal is None or problems or busy:
            detail = problems[0]["detail"] if problems else f"'{busy}' is under way and may be using it."
            raise Conflict(detail, remedy="Choose another folder, or wait.")
        move = Move(self._data, MOVABLE[location], source, goal)
        try:
            renamed = move.same_volume()
            if renamed:
                move.rename(self._switch)
                files, size, left = 0, 0, []
            else:
                files, size = move.copy(context.progress)
                move.switch(self._switch)
                left = move.remove_old()
        except OSError as exc:
            move.back()
            raise StorageError.from_os(exc, f"the move of {location}") from exc
        except BaseException:
            move.back()
            raise
        self._moved(location)
        self._events.publish("settings.changed", {"names": [BY_NAME[MOVABLE[location]].key]})
        return {
            "location": location,
            "source": str(source),
            "target": str(goal),
            "renamed": renamed,
            "files": files,
            "bytes": size,
            "left": left[:50],
            "detail": _told(renamed, files, size, source, left),
        }

    def resume(self) -> None:
        """After the start: delete the old files of a move that was cut off after the switch."""
        if read_object(self._data / NOTE).get("state") == "switched":
            self._jobs.submit(KIND, {"finish": True}, title="Delete the old files of a move")

    def _finish(self) -> dict[str, Any]:
        note = read_object(self._data / NOTE)
        if note.get("state") != "switched":
            return {"left": []}
        move = Move(self._data, note["setting"], Path(note["source"]), Path(note["target"]), note["token"])
        return {"source": str(move.source), "target": str(move.target), "left": move.remove_old()[:50]}

    def _switch(self, setting: str, path: Path) -> None:
        self._settings.relocate(setting, path)


def _told(renamed: bool, files: int, size: int, source: Path, left: list[str]) -> str:
    if renamed:
        return "It lies on the same disk, so it was renamed."
    copied = f"{files:,} files ({size / 1e6:,.1f} MB) were copied and compared."
    return f"{copied} {len(left)} files in {source} changed meanwhile and were left there." if left else copied


def _writable(folder: Path) -> bool:
    """Whether a folder can be made in there; permissions alone do not tell."""
    try:
        os.rmdir(tempfile.mkdtemp(prefix=".dalla-", dir=folder))
    except OSError:
        return False
    return True


def _problem(code: str, detail: str) -> dict[str, str]:
    return {"code": code, "detail": detail}
