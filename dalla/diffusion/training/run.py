"""One training run from its settings to the delivered file, with a truthful end whatever happens."""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dalla.diffusion import hardware
from dalla.diffusion.training import checkpoints, drawing, errors, export, report, setup
from dalla.diffusion.training.errors import NotVerified, OutOfMemory, Stopped
from dalla.diffusion.training.events import Controls, Events, RunLock
from dalla.diffusion.training.loop import Loop
from dalla.diffusion.training.setup import Prepared
from dalla.errors import (
    BadRequest,
    Cancelled,
    Conflict,
    DallaError,
    InvalidInput,
    NotConfigured,
    NotFound,
    StorageError,
    TooLarge,
    UnsupportedMedia,
)
from dalla.records.training import TrainingConfig

log = logging.getLogger(__name__)
Advice = Callable[[Prepared], list[dict[str, Any]]]
_BAD_INPUT = (InvalidInput, NotConfigured, NotFound, BadRequest, TooLarge, UnsupportedMedia, Conflict)
#: Free space the output needs at least, in bytes; asked for before the start.
LEAST_FREE = 64 * 1024 * 1024


def run(
    config: TrainingConfig,
    *,
    listener: Callable[[dict[str, Any]], None] | None = None,
    controls: Controls | None = None,
    advice: Advice | None = None,
) -> int:
    """Train and return the exit code. Every end is an event: done, cancelled or error.

    `advice` is asked once, before anything long starts, for rows {code, level, message, fix}: warnings, or an error that
    ends the run.
    """
    # Of several processes (several cards) only the first has a run folder, so only it writes and tells.
    first = os.environ.get("RANK", "0") == "0"
    folder = Path(config.run_folder) if config.run_folder and first else None
    listener = listener if first else None
    events: Events | None = None
    lock: RunLock | None = None
    place = _Place(config)
    try:
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            lock = RunLock(folder)
        events = Events(folder, listener)
        controls = controls or Controls(folder)
        _train(place, events, controls, folder, advice)
        return errors.DONE
    except Exception as exc:  # noqa: BLE001 - the one place that names every end
        return _end(exc, events or Events(None, listener), place)
    finally:
        if events is not None:
            events.close()
        if lock is not None:
            lock.release()


@dataclass
class _Place:
    """Where a run is: its settings, complete as soon as they are, and the loop once there is one."""

    config: TrainingConfig
    loop: Loop | None = None


def _end(exc: Exception, events: Events, place: _Place) -> int:
    """Tell how it ended and return the exit code for it."""
    if isinstance(exc, Stopped):
        events.emit("cancelled", step=exc.step, kept=exc.kept)
        return errors.CANCELLED
    if isinstance(exc, Cancelled):
        events.emit("cancelled", step=0, kept=None)
        return errors.CANCELLED
    if not isinstance(exc, DallaError):
        if hardware.out_of_memory(exc):
            problem = str(exc).splitlines()[0][:200] if str(exc) else "no memory"
            step = place.loop.done if place.loop else 0
            exc = OutOfMemory(step, problem, place.config.resolution or 0, events.doing)
        elif isinstance(exc, OSError):
            exc = StorageError.from_os(exc, "the run")
        else:
            log.exception("training failed")
            text = str(exc).splitlines()[0][:300] if str(exc) else ""
            events.emit(
                "error", code="internal", detail=f"The training failed: {type(exc).__name__}: {text}",
                remedy="The run's log has the details. Resume the run, or start it with other settings.",
            )  # fmt: skip
            return errors.FAILED
    events.emit("error", code=exc.code, detail=exc.detail, remedy=exc.remedy, errors=exc.errors)
    log.error("%s", exc.detail)
    if isinstance(exc, errors.NonFinite):
        return errors.NON_FINITE
    if isinstance(exc, OutOfMemory):
        return errors.OUT_OF_MEMORY
    if isinstance(exc, NotVerified):
        return errors.NOT_VERIFIED
    return errors.BAD_INPUT if isinstance(exc, _BAD_INPUT) else errors.FAILED


def _train(place: _Place, events: Events, controls: Controls, folder: Path | None, advice: Advice | None) -> None:
    config = place.config
    started = datetime.now(UTC)
    begun = time.monotonic()

    def tell(event: str, **values: Any) -> None:
        events.emit(event, **values)

    def stop() -> None:
        if "cancel" in controls.look():
            raise Cancelled("Stopped before the first step.")

    prepared = setup.prepare(config, tell)
    place.config = prepared.config
    output = Path(prepared.config.output_folder)
    _check_space(output, *([folder] if folder else []))
    advised = advice(prepared) if advice is not None else []
    for row in advised:
        if row["level"] == "error":
            raise StorageError(row["message"], remedy=row["fix"])
    for row in [*prepared.report.warnings, *advised]:
        events.emit("warning", code=row["code"], detail=row["message"], remedy=row["fix"])
    stop()
    loaded = setup.load(prepared, tell, stop=stop)
    for note in loaded.notes:
        events.emit("warning", code="note", detail=note, remedy=None)
    events.doing = "place"
    loop = place.loop = Loop(prepared, loaded, events, controls, folder)
    if config.resume_from:
        loop.resume(Path(config.resume_from))
    events.emit(
        "ready", steps=loop.steps, epochs=-(-loop.steps // loop.per_epoch), pictures=len(loaded.train),
        heldOut=[e.file for e in loaded.held_out], buckets=prepared.report.buckets, family=loaded.family.name,
        parameters=sum(p.numel() for p in loop.parameters), memory=loop.memory(), device=loaded.device,
        prepareSeconds=round(time.monotonic() - begun, 2), startStep=loop.done, stepsPerEpoch=loop.per_epoch,
        config=loop.config.to_json(),
    )  # fmt: skip
    loop.run()
    if loop.processes.first:
        _deliver(loop, events, output, folder, started)
        if folder is not None:
            checkpoints.forget_aside(folder)


def _check_space(*folders: Path) -> None:
    for folder in folders:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            free = shutil.disk_usage(folder).free
        except OSError as exc:
            raise StorageError.from_os(exc, f"into the folder {folder.name}") from exc
        if free < LEAST_FREE:
            raise StorageError(
                f"Only {free / 1e6:.0f} MB are free on the disk of the folder {folder.name}; a run needs more.",
                remedy="Free some space and start again.",
            )


def _deliver(loop: Loop, events: Events, output: Path, folder: Path | None, started: datetime) -> None:
    """Take the chosen checkpoint's numbers, measure, write the LoRA, load it back, tell."""
    from dalla.diffusion.training.export_metadata import metadata_for, sidecar, write_sidecar

    loaded, config, prepared = loop.loaded, loop.config, loop.prepared
    adapters = loaded.adapters
    choice = loop.choice()
    values = loop.best_values if choice.lowest else loop.values()
    if values is not None:
        adapters.restore(values)
    step = choice.step
    moved = adapters.moved()
    events.emit("phase", name="report", detail="Measuring what was learned")
    readings = report.measure(loop)
    pictures = report.samples(loop, drawing.final(loop, step))
    result = {
        "step": step, "steps": loop.done, "epoch": loop.epoch, "stoppedEarly": loop.stopped_early,
        "readings": readings, "pictures": pictures, "heldOutPictures": [e.file for e in loaded.held_out],
        "history": [{"step": s, "heldOut": round(v, 6)} for s, v in loop.readings],
        "verdict": report.verdict(choice, readings, pictures, moved),
    }  # fmt: skip
    events.emit("report", **result)
    if not moved:
        raise NotVerified(
            "The LoRA is all zeros, so it would change nothing. No file was written.",
            remedy="Raise the learning rate, then train again.",
        )
    events.emit("phase", name="saving", detail="Writing and checking the LoRA")
    name = export.fresh_name(output, config.name)
    path = output / f"{name}.safetensors"
    base_sha = base_hash(prepared.model.path)
    small = {k: result[k] for k in ("step", "steps", "epoch", "readings", "verdict")}
    texts = metadata_for(
        config, prepared.report, loaded.family.name, name=name, base_name=prepared.model.path.name,
        base_sha256=base_sha, prediction=loaded.prediction, started_at=started, result=small,
        variant=loaded.family.variant(loaded.pipe),
    )  # fmt: skip
    # Nothing that did not pass the check is ever seen on the shelf.
    with tempfile.TemporaryDirectory(prefix="lora-", dir=folder) as staging:
        staged = Path(staging) / path.name
        export.save_lora(staged, loaded.pipe, layout=loaded.family.lora, metadata=texts, dtype="fp16")
        layers = 0
        try:
            verified = export.verify(loaded.pipe, staged, loaded.family.lora)
            problem, layers = verified.problem(), verified.matched
        except Exception as exc:  # noqa: BLE001 - a loader that refuses its own file is the finding
            log.exception("verification failed")
            problem = f"The LoRA file cannot be loaded back: {str(exc).splitlines()[0][:200] if str(exc) else exc!r}"
        if problem is not None:
            raise NotVerified(
                problem, remedy="Resume the run from its last checkpoint, or report this; the log has details."
            )
        sha = export.publish(staged, path)
    more: dict[str, Any] = {"runId": folder.name} if folder is not None else {}
    if config.character_id:
        more["characterId"] = config.character_id
    try:
        write_sidecar(
            path,
            sidecar(
                config, prepared.report, name=name, family=loaded.family.name, sha256=sha,
                size_bytes=path.stat().st_size, base_name=prepared.model.path.name, base_sha256=base_sha,
                result=small, **more,
            ),
        )  # fmt: skip
    except OSError as exc:
        path.unlink(missing_ok=True)
        raise StorageError.from_os(exc, f"the LoRA {name}") from exc
    events.emit(
        "done", lora=path.name, path=str(path), sha256=sha, step=step, best=step == loop.best_step, name=name,
        layers=layers, report=result,
    )  # fmt: skip


def base_hash(path: Path) -> str:
    """Return the base model's SHA-256; of a folder, a hash over its weight files' hashes (as the model list has it)."""
    from dalla.weights import file_sha256

    if path.is_file():
        return file_sha256(path)
    files = sorted(path.glob("*/*.safetensors"))
    lines = [f"{f.relative_to(path).as_posix()} {file_sha256(f)}\n" for f in files]
    return hashlib.sha256("".join(lines).encode()).hexdigest()
