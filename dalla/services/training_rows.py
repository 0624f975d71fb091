"""A training run as the API shows it: what its task says, what its folder says, and nothing of this machine's paths.

A task may be from another version of the app, or be hand-made: what it does not say is left empty.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import PureWindowsPath
from typing import Any

from pydantic import ValidationError

from dalla.records.job import Job
from dalla.records.lora import RunNote
from dalla.records.training import TrainingConfig
from dalla.services.training_changes import with_changes
from dalla.services.training_runs import RunFolder, RunState
from dalla.times import iso

STALE_SECONDS = 120.0  # without an event this long, the page says so
KEPT_STATE = "state.pt"  # what a checkpoint folder holds when the run can go on from it
_HIDDEN = {"outputFolder", "runFolder", "modelsFolder", "resumeFrom", "datasetFolder", "baseModel"}


def note_of(job: Job, folder: RunFolder) -> RunNote:
    """Return the note in the run's folder, else the one its task was made with, else an empty one."""
    kept = folder.note()
    if kept is not None:
        return kept
    said = job.payload.get("note")
    least = {"name": config_of(job).name, "taskId": job.id}
    try:
        return RunNote.model_validate({**least, **(said if isinstance(said, dict) else {}), "taskId": job.id})
    except ValidationError:
        return RunNote.model_validate(least)


def config_of(job: Job, changed: dict[str, Any] | None = None) -> TrainingConfig:
    """Return a run's settings, with what was `changed` since; without a usable config one that only has a name."""
    said = job.payload.get("config")
    said = said if isinstance(said, dict) else {}
    least = {"name": job.title or job.id, "base_model": "", "dataset_folder": ""}
    try:
        return with_changes({**least, **said}, changed or {})
    except ValidationError:
        name = said.get("name")
        return TrainingConfig.model_validate({**least, "name": name} if isinstance(name, str) else least)


def public_config(config: TrainingConfig) -> dict[str, Any]:
    """Return a config as the API shows it: camelCase, folders by their names only."""
    return _without_paths(config.to_json())


def _without_paths(values: dict[str, Any]) -> dict[str, Any]:
    shown = {key: value for key, value in values.items() if key not in _HIDDEN}
    if isinstance(shown.get("priorFolder"), str):
        shown["priorFolder"] = last_name(shown["priorFolder"])
    return shown


def last_name(path: str) -> str:
    """Return the last part of a path in any system's spelling; a plain name is returned as it is."""
    return PureWindowsPath(path).name


def public_run(
    job: Job, folder: RunFolder, character: str | None, *, ahead: int | None = None, full: bool = False
) -> dict[str, Any]:
    """Return a run as the API shows it; `full` adds samples, checkpoints, warnings, report, config, request.

    `character`: its character's name. `ahead`: how many tasks wait before it in its lane, None when it does not wait.
    """
    state = folder.state()
    note = note_of(job, folder)
    config = config_of(job, note.settings)
    last, validations = state.last, state.validations
    losses = [v for v in validations if isinstance(v.get("loss"), int | float)]
    best = min(losses, key=lambda v: v["loss"]) if losses else None
    running = job.status == "running"
    # Of the attempt that runs: a trainer that was started again has said nothing yet, one that was found again has.
    heard = not running or (not note.settled and folder.events_size() > note.attempt_offset)
    sign = folder.last_sign() if heard else None
    answer = {
        "taskId": job.id,
        "status": job.status,
        "pausing": running and note.intent == "pause",
        "stopping": running and job.cancel_requested,
        "name": config.name,
        "characterId": job.character_id,
        "characterName": character,
        "trainingData": note.dataset,
        "datasetId": (note.wish or {}).get("datasetId"),
        "baseModel": note.base_model,
        "family": config.family,
        "preset": config.preset,
        "triggerWord": config.trigger_word or None,
        "step": state.step,
        "totalSteps": note.settings.get("steps") or state.steps or config.steps,
        "epoch": last.get("epoch"),
        "totalEpochs": state.ready.get("epochs"),
        "loss": last.get("loss"),
        "learningRate": last.get("lr"),
        "stepsPerSecond": last.get("stepsPerSecond") if running else None,
        "etaSeconds": last.get("etaSeconds") if running else None,
        "memoryBytes": last.get("memoryBytes"),
        "phase": state.phase.get("name"),
        "message": job.progress.message,
        "ahead": ahead,
        "coverUrl": _cover(folder),
        "validation": {
            "base": validations[0].get("base") if validations else None,
            "latest": losses[-1]["loss"] if losses else None,
            "best": best["loss"] if best else None,
            "bestStep": best.get("step") if best else None,
        },
        "lora": note.lora,
        "error": job.error,
        "stale": running and sign is not None and time.time() - sign > STALE_SECONDS,
        "lastSignAt": iso(datetime.fromtimestamp(sign, UTC)) if sign else None,
        "canResume": can_go_on(folder),
        "actions": _actions(job, note, folder, ahead),
        "createdAt": job.created_at,
        "startedAt": job.started_at,
        "finishedAt": job.finished_at,
        "title": job.title,
    }
    if full:
        answer |= _details(job, folder, state, note, config)
    return answer


def _details(job: Job, folder: RunFolder, state: RunState, note: RunNote, config: TrainingConfig) -> dict[str, Any]:
    return {
        "samples": folder.samples(),
        "checkpoints": folder.checkpoints(),
        "validations": state.validations,
        "resemblances": state.resemblances,
        "warnings": state.warnings,
        "ladder": state.ladder,
        "ready": _ready(state.ready),
        "report": state.report,
        "result": job.result,
        "config": public_config(config),
        "request": note.wish,
        "logUrl": f"/api/lora/train/{job.id}/log",
        "keep": note.keep,
    }


def _cover(folder: RunFolder) -> str | None:
    """Return the address of the newest sample: of the first prompt, with the trigger word where there is one."""
    samples = [sample for sample in folder.samples() if sample["withTrigger"] is not False] or folder.samples()
    newest = max(samples, key=lambda sample: (sample["step"] or 0, -(sample["index"] or 0)), default=None)
    return newest["fileUrl"] if newest else None


def _ready(ready: dict[str, Any]) -> dict[str, Any]:
    """Return what the trainer said before it began, without this machine's paths."""
    return {**ready, "config": _without_paths(ready["config"])} if isinstance(ready.get("config"), dict) else ready


def _actions(job: Job, note: RunNote, folder: RunFolder, ahead: int | None) -> list[str]:
    match job.status:
        case "queued":
            return ["next", "cancel"] if ahead else ["cancel"]
        case "running":
            going = [] if note.intent or job.cancel_requested else ["pause", "save", "sample"]
            return [*going, "resume", "cancel"] if note.intent == "pause" else [*going, "cancel"]
        case "paused":
            return ["resume", "cancel"]
        case "completed":
            return ["clone", "delete"]
    return ["resume" if can_go_on(folder) else "retry", "clone", "delete"]


def can_go_on(folder: RunFolder) -> bool:
    """Whether there is a state on disk that the run can be taken up from."""
    return state_step(folder) is not None


def state_step(folder: RunFolder) -> int | None:
    """Return the step of the newest state on disk, None when there is none."""
    states = (folder.path / "checkpoints").glob(f"[0-9]*/{KEPT_STATE}")
    return max((int(state.parent.name) for state in states if state.parent.name.isdigit()), default=None)
