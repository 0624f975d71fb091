"""Checkpoints: the LoRA as a file to use, and the whole state to go on from as if nothing had happened.

`checkpoints/<step>/` appears whole or not at all. The state of the last two and of the best is kept; the LoRA
files of the last `keep` and of the best.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from dalla import paths
from dalla.errors import InvalidInput, NotFound, StorageError

STATE = "state.pt"
META = "checkpoint.json"


def folder_of(run_folder: Path, step: int) -> Path:
    return run_folder / "checkpoints" / f"{step:06d}"


def save(
    run_folder: Path, step: int, state: dict[str, Any], meta: dict[str, Any], lora: Callable[[Path], None]
) -> Path:
    """Write a checkpoint; `lora` writes the LoRA into the folder it is given. Returns the folder.

    Raises StorageError when the disk refuses; then the earlier checkpoints are as they were.
    """
    final = folder_of(run_folder, step)
    temp = final.with_name(f".{final.name}.{secrets.token_hex(4)}.tmp")
    try:
        temp.mkdir(parents=True)
        lora(temp)
        with (temp / STATE).open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        (temp / META).write_text(json.dumps({"step": step, **meta}), "utf-8")
        if final.exists():
            shutil.rmtree(final)
        os.replace(temp, final)
        paths.fsync_folder(final.parent)
    except BaseException as exc:
        shutil.rmtree(temp, ignore_errors=True)
        if isinstance(exc, OSError):
            raise StorageError.from_os(exc, f"the checkpoint of step {step}") from exc
        if isinstance(exc, RuntimeError) and "write" in str(exc).lower():  # torch's own words for a full disk
            raise StorageError(
                f"The checkpoint of step {step} could not be written: {str(exc).splitlines()[0][:200]}",
                remedy="Free some space on the disk and resume the run.",
            ) from exc
        raise
    return final


def steps(run_folder: Path) -> list[int]:
    """Return the steps of the checkpoints that are there, lowest first."""
    root = run_folder / "checkpoints"
    found = [int(p.name) for p in root.iterdir() if p.name.isdigit() and (p / META).is_file()] if root.is_dir() else []
    return sorted(found)


def prune(run_folder: Path, keep: int, best: int | None) -> None:
    """Delete old checkpoints: all but the last `keep` and the best; states of all but the last two and the best."""
    known = steps(run_folder)
    for step in known[: max(0, len(known) - max(1, keep))]:
        if step != best:
            shutil.rmtree(folder_of(run_folder, step), ignore_errors=True)
    for step in known[:-2]:
        if step != best:
            with contextlib.suppress(OSError):
                (folder_of(run_folder, step) / STATE).unlink()
    for rest in (run_folder / "checkpoints").glob(".*.tmp"):
        shutil.rmtree(rest, ignore_errors=True)


def load(path: Path) -> tuple[int, dict[str, Any]]:
    """Return (step, state) of a run folder's newest readable checkpoint, or of one checkpoint folder.

    Raises NotFound when there is none, StorageError when the only ones are damaged.
    """
    if (path / META).is_file() or path.parent.name == "checkpoints":
        folders = [path]
    else:
        folders = [folder_of(path, step) for step in reversed(steps(path))]
    folders = [folder for folder in folders if (folder / STATE).is_file()]
    if not folders:
        raise NotFound(
            f"The run '{path.name}' has no checkpoint to go on from.", remedy="Start it again from the beginning."
        )
    for folder in folders:
        try:
            state = torch.load(folder / STATE, map_location="cpu", weights_only=True)
            return int(state["step"]), state
        except Exception as exc:  # noqa: BLE001 - a cut-off file raises whatever it likes; an older one may be whole
            problem = exc
    raise StorageError(
        f"The run's saved state cannot be read: {str(problem).splitlines()[0][:200]}",
        remedy="Start the run again from the beginning.",
    )


def check_same(state: dict[str, Any], fingerprint: dict[str, Any]) -> list[str]:
    """Compare what a state belongs to with this run. Raises InvalidInput for another model; returns notes."""
    saved = state.get("fingerprint", {})
    if saved.get("model") != fingerprint.get("model"):
        raise InvalidInput(
            f"The saved state belongs to the base model {saved.get('modelName')}, not to {fingerprint.get('modelName')}.",
            remedy="Resume with the same base model.",
        )
    notes = []
    if saved.get("dataset") != fingerprint.get("dataset"):
        notes.append(
            "The pictures or captions have changed since the state was saved; the run goes on with the new ones."
        )
    return notes
