"""Checkpoints: the LoRA as a file to use, and the whole state to go on from as if nothing had happened.

`checkpoints/<step>/` appears whole or not at all. The state of the last two and of the best is kept; the LoRA
files of the last `keep` and of the best. Where a run begins before steps that were taken already, the checkpoints
of these are no part of it any more: they stay as `<step>.old` until it has ended well.
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
from pydantic.alias_generators import to_camel

from dalla import paths
from dalla.diffusion.training import drawing, optimizers, validation
from dalla.diffusion.training.adapters import Average
from dalla.errors import InvalidInput, NotFound, StorageError

STATE = "state.pt"
META = "checkpoint.json"
OLD = ".old"
#: With other values of these a run goes on differently than it would have; told when it is taken up.
DECIDING = (
    "optimizer", "lr_scheduler", "warmup", "weight_decay", "batch_size", "gradient_accumulation", "resolution", "seed",
    "alpha", "use_rslora", "caption_dropout", "shuffle_captions", "min_snr_gamma", "noise_offset", "timestep_sampling",
    "shift", "prior_weight", "masked_loss", "mixed_precision", "quantize", "ema",
)  # fmt: skip
#: Those of them that a held-out loss is measured with.
MEASURING = ("resolution", "shift", "masked_loss", "alpha", "use_rslora", "quantize")


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


def set_aside(loop: Any) -> None:
    """Rename the checkpoints of steps that training/loop.py's `loop` is about to take anew to `<step>.old`.

    They would count as newer than those that come: these would be deleted for them. Raises StorageError.
    """
    if loop.run_folder is None or not loop.processes.first:
        return
    names = []
    for step in steps(loop.run_folder):
        if step > loop.done:
            old = folder_of(loop.run_folder, step)
            aside = old.with_name(old.name + OLD)
            try:
                if aside.exists():
                    shutil.rmtree(aside)
                os.replace(old, aside)
            except OSError as exc:
                raise StorageError.from_os(exc, f"the checkpoint of step {step}") from exc
            names.append(aside.name)
    if names:
        loop.events.emit(
            "warning", code="set_aside",
            detail=f"The run goes on from step {loop.done}, so its later checkpoints are no part of it any more. They stay in "
            f"its folder as {', '.join(names)} until it has ended well.",
            remedy=f"Nothing to do. To go on from the last of them instead, stop and --resume its checkpoints/{names[-1]}.",
        )  # fmt: skip
        _mark_best(loop, loop.run_folder)


def forget_aside(run_folder: Path) -> None:
    """Delete what `set_aside` has renamed, now or in an earlier attempt of the run."""
    for rest in (run_folder / "checkpoints").glob(f"*{OLD}"):
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
    was, now = saved.get("settings", {}), fingerprint.get("settings", {})
    changed = [f"{to_camel(key)} {was[key]} to {now.get(key)}" for key in was if was[key] != now.get(key)]
    if changed:
        notes.append(f"Changed since the state was saved: {', '.join(changed)}. The run goes on with the new settings.")
    return notes


def state_of(loop: Any) -> dict[str, Any]:
    """Return all that a run is (training/loop.py's `loop`), as `take_up` needs it."""
    best, last = loop.best_reading, loop.last_reading
    return {
        "step": loop.done, "values": loop.loaded.adapters.snapshot(), "optimizer": loop.optimizer.state_dict(),
        "average": loop.values(), "scaler": loop.scaler.state_dict() if loop.scaler else None,
        "readings": [[s, v] for s, v in loop.readings], "best": loop.best_step, "sinceBest": loop.since_best,
        "splits": loop.splits, "rng": torch.get_rng_state(), "fingerprint": loop.fingerprint(),
        "bestReading": best.to_state() if best else None, "lostBest": loop.lost_best,
        "lastReading": [last[0], last[1].to_state()] if last else None, "baseSamples": drawing.identities(loop),
    }  # fmt: skip


def take_up(loop: Any, path: Path) -> None:
    """Set a run to where another process of it was: `path` is a run folder or one checkpoint's.

    The settings stay those of `loop`. Raises NotFound, StorageError, InvalidInput (another model, other layers).
    """
    step, state = load(path)
    root = path.parent.parent if path.parent.name == "checkpoints" else path
    for note in check_same(state, loop.fingerprint()):
        loop.events.emit("warning", code="changed", detail=note, remedy="Start a new run if that was not meant.")
    loop.loaded.adapters.restore(state["values"])
    _take_up_optimizer(loop, state)
    if loop.average is not None and state["average"] is not None:
        device = loop.loaded.device  # copies: the average is changed in place, and the best may be these very numbers
        loop.average.values = {k: v.to(device, copy=True) for k, v in state["average"].items()}
    elif loop.average is not None:
        loop.average = Average(loop.loaded.adapters)  # of what was learned, not of the layers as they were made
    if loop.scaler is not None and state["scaler"]:
        loop.scaler.load_state_dict(state["scaler"])
    loop.done = step
    loop.splits = state["splits"]
    torch.set_rng_state(state["rng"])
    loop.base_from = (root, state.get("baseSamples") or {})
    if _same_questions(loop, state):
        loop.readings = [(int(s), float(v)) for s, v in state["readings"]]
        loop.since_best = state["sinceBest"]
        loop.lost_best = state.get("lostBest")
        if state.get("lastReading"):
            loop.last_reading = (state["lastReading"][0], validation.Reading(state["lastReading"][1]))
        _take_up_best(loop, root, step, state)
    else:
        loop.events.emit(
            "warning", code="other_readings",
            detail="The held-out loss is taken of other pictures or questions than before, so the readings begin anew.",
            remedy="Nothing to do: the lowest of those that come is taken.",
        )  # fmt: skip
    loop.events.emit("phase", name="resumed", detail=f"Going on from step {step} of {loop.steps}")


def _take_up_optimizer(loop: Any, state: dict[str, Any]) -> None:
    """Give the optimizer what it remembered, if it is of the same kind; its settings are this run's."""
    was = state.get("fingerprint", {}).get("settings", {}).get("optimizer")
    if was not in (None, loop.config.optimizer):
        return  # what one remembers is nothing to another; check_same has told of the change
    found = ("params", *optimizers.FOUND)
    settings = [{k: v for k, v in group.items() if k not in found} for group in loop.optimizer.param_groups]
    loop.optimizer.load_state_dict(state["optimizer"])
    for group, own in zip(loop.optimizer.param_groups, settings, strict=True):
        group.update(own)


def _same_questions(loop: Any, state: dict[str, Any]) -> bool:
    """Whether the saved readings answer what this run asks, so that both can be compared."""
    was, now = state.get("fingerprint", {}), loop.fingerprint()
    if any(was["settings"].get(key) != now["settings"][key] for key in MEASURING if was.get("settings")):
        return False
    if was.get("heldOut", now["heldOut"]) != now["heldOut"]:
        return False
    saved = state.get("lastReading") or ([0, state["bestReading"]] if state.get("bestReading") else None)
    if saved is None:
        return True
    asked = loop.config.validation.timesteps * loop.config.validation.noises
    questions = {example.file: asked for example in loop.loaded.held_out}
    return {file: len(losses) for file, losses in saved[1].items()} == questions


def _take_up_best(loop: Any, root: Path, step: int, state: dict[str, Any]) -> None:
    """Set the best so far. When its state is gone or damaged, what is taken up is the best that is left."""
    here = state["average"] or state["values"]
    best = state["best"]
    if best is None:
        return
    if best == step:
        loop.best_values = here
    else:
        try:
            _, other = load(folder_of(root, best))
        except (NotFound, StorageError):
            _forget_best(loop, root, best, here)
            return
        loop.best_values = other["average"] or other["values"]
    loop.best_step = best
    if state.get("bestReading"):
        loop.best_reading = validation.Reading(state["bestReading"])


def _forget_best(loop: Any, root: Path, lost: int, here: dict[str, Any]) -> None:
    loop.lost_best, loop.since_best = lost, 0
    if loop.last_reading is not None and loop.last_reading[0] == loop.done:
        loop.best_step, loop.best_values, loop.best_reading = loop.done, here, loop.last_reading[1]
    loop.events.emit(
        "warning", code="best_lost",
        detail=f"The checkpoint of step {lost}, which had the lowest held-out loss, was deleted or is damaged. It cannot be "
        "delivered any more.",
        remedy="Nothing to do: the lowest of what is left and of what comes is taken. Keep the checkpoint that is marked "
        "as the best while a run may go on.",
    )  # fmt: skip
    _mark_best(loop, root)


def _mark_best(loop: Any, root: Path) -> None:
    """Tell again which checkpoint is the best, after another one that was told as such is no part of the run any more."""
    for file in folder_of(root, loop.best_step).glob("*.safetensors") if loop.best_step is not None else ():
        name = f"checkpoints/{file.parent.name}/{file.name}"
        loop.events.emit("checkpoint", step=loop.best_step, file=name, best=True)
