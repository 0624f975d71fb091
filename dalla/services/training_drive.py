"""The job that looks after one training: start or find the trainer, follow it, and settle how it ended.

The trainer lives on its own, so this may begin in the middle: after a restart of the dashboard the run is
found again by its lock, or, when it has finished meanwhile, by its last word.
"""

from __future__ import annotations

import contextlib
import logging
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from pydantic import ValidationError

from dalla.errors import Cancelled, DallaError, InvalidInput, NotFound, StorageError, UpstreamError
from dalla.events import EventBus
from dalla.jobs.base import Context, TaskStore
from dalla.records.character import Character, LoraUse
from dalla.records.job import Job
from dalla.records.lora import Ended, LoraCard, RunNote
from dalla.records.training import TrainingConfig
from dalla.services.characters import Characters
from dalla.services.lora_shelf import LocalFiles, LoraShelf
from dalla.services.notices import Notices
from dalla.services.training_changes import with_changes
from dalla.services.training_estimate import Estimates, native_size
from dalla.services.training_plan import character_of
from dalla.services.training_rows import can_go_on, note_of
from dalla.services.training_runs import RunFolder, RunFolders
from dalla.training_set import has_word

logger = logging.getLogger(__name__)

TELL_SECONDS = 0.5  # training.progress at most this often


class Process(Protocol):
    """A running trainer (engines/trainer.py)."""

    def follow(self, on_event: Callable[[dict[str, Any]], None], check: Callable[[], None], *, offset: int = 0) -> Ended: ...  # fmt: skip

    def cancel(self, on_event: Callable[[dict[str, Any]], None]) -> Ended: ...

    def save(self) -> None: ...

    def sample(self) -> None: ...

    @property
    def is_alive(self) -> bool: ...


class Trainer(Protocol):
    """Starts and finds running trainers (engines/trainer.py)."""

    def missing(self) -> str | None: ...

    def start(self, config: dict[str, Any], folder: Path) -> Process:
        """Raises Conflict, StorageError, Unavailable."""

    def attach(self, folder: Path) -> Process | None: ...


class _Pause(Exception):
    """Somebody wants the run to pause."""


class Drive:
    """Runs the jobs of the kind `train_lora`."""

    def __init__(
        self,
        trainer: Trainer,
        folders: RunFolders,
        shelf: LoraShelf,
        files: LocalFiles,
        characters: Characters,
        notices: Notices,
        events: EventBus,
        tasks: TaskStore,
        estimates: Estimates,
        free_memory: Callable[[], object],
    ) -> None:
        self._trainer = trainer
        self._folders = folders
        self._shelf = shelf
        self._files = files
        self._characters = characters
        self._notices = notices
        self._events = events
        self._tasks = tasks
        self._estimates = estimates
        self._free_memory = free_memory

    def run(self, context: Context, payload: dict[str, Any]) -> dict[str, Any] | None:
        """The handler. Ends with a result, Cancelled, or an UpstreamError that says why and what helps."""
        job = context.job
        folder = self._folders.folder(job.id)
        kept = folder.note()
        note = kept or note_of(job, folder)
        try:
            config = with_changes(payload["config"], note.settings)
        except (KeyError, TypeError, ValidationError) as exc:
            raise InvalidInput(
                "This task does not say how to train: another version of the app wrote it.",
                remedy="Start a new training.",
            ) from exc
        if kept is None:
            folder.save_note(note)
        process = self._trainer.attach(folder.path)
        if process is not None:
            logger.info("The training '%s' was found again", note.name)
        else:
            unseen = self._ended_unseen(folder, note)
            if unseen is not None:
                return self._settle(context, folder, note, config, unseen)
            try:
                note, process = self._start(context, folder, note, config)
            except Cancelled:
                raise
            except DallaError as exc:
                self._tell_failure(job, folder, note, exc.detail, exc.remedy, "start")
                raise
        follower = _Follower(context, folder, self._events, note, config)
        try:
            ended = process.follow(follower.on_event, follower.check, offset=note.attempt_offset)
        except _Pause:
            ended = process.cancel(follower.tell)
            if ended.kind != "done":
                self._paused(job, folder, config)
                return None
        except Cancelled:
            if not self._tasks.get(job.id).cancel_requested:
                raise  # the app is closing: the trainer goes on, and the next start finds it again
            ended = process.cancel(follower.tell)
        return self._settle(context, folder, folder.note() or note, config, ended)

    # ------------------------------------------------------------ beginning

    def _start(
        self, context: Context, folder: RunFolder, note: RunNote, config: TrainingConfig
    ) -> tuple[RunNote, Process]:
        context.progress(0, config.steps or 1, "Freeing memory")
        try:
            self._free_memory()
        except DallaError as exc:
            logger.warning("Memory could not be freed before the training: %s", exc.detail)
        values = config.model_dump(mode="json")
        values |= {"run_folder": str(folder.path), "resume_from": str(folder.path) if can_go_on(folder) else None}
        note = folder.save_note(
            note.with_(intent=None, settled=False, ended_kind=None, attempt_offset=folder.events_size())
        )
        context.progress(
            0, config.steps or 1, "Going on from the last checkpoint" if values["resume_from"] else "Starting"
        )
        return note, self._trainer.start(values, folder.path)

    @staticmethod
    def _ended_unseen(folder: RunFolder, note: RunNote) -> Ended | None:
        """Return the end that a trainer came to while no dashboard was there to see it."""
        state = folder.state()
        if note.settled or state.closing is None or state.closing_end <= note.attempt_offset:
            return None
        event = state.closing
        if event["event"] == "done":
            return Ended(kind="done", event=event)
        if event["event"] == "cancelled":
            return Ended(kind="cancelled", event=event, detail="The training was stopped.")
        detail = str(event.get("detail") or "The training failed.")
        return Ended(kind="failed", event=event, detail=detail, remedy=event.get("remedy"), code=event.get("code"))

    # ------------------------------------------------------------ ends

    def _paused(self, job: Job, folder: RunFolder, config: TrainingConfig) -> None:
        """Leave the lane to others: the state is on disk, the trainer has ended, and nobody owns the job."""
        note = folder.change_note(intent=None, settled=True, ended_kind="paused")
        step = folder.state().step
        message = f"Paused at step {step}" if can_go_on(folder) else "Paused before its first checkpoint"
        if self._tasks.get(job.id).cancel_requested and note is not None:  # stopped while it was pausing
            raise Cancelled(self._stopped(folder, note, config))
        paused = self._tasks.transition(
            job.id, "paused", only_from={"running"}, owner=None, message=message, eta_seconds=None
        )
        if paused.cancel_requested:  # in the very last moment: the note says by now what is to be kept
            note = folder.note() or note
            if note is not None:
                logger.info("%s: %s", job.id, self._stopped(folder, note, config))
            paused = self._tasks.request_cancel(job.id)
        self._events.publish("task.updated", paused.public())
        self._events.publish("training.progress", {"taskId": job.id, "event": "paused", "step": step})

    def _settle(
        self, context: Context, folder: RunFolder, note: RunNote, config: TrainingConfig, ended: Ended
    ) -> dict[str, Any]:
        if ended.kind == "done":
            try:
                result = self._done(context.job, folder, note, config, ended)
            except DallaError as exc:
                ended = Ended(kind="verification", detail=exc.detail, remedy=exc.remedy, event=ended.event)
            else:
                folder.change_note(settled=True, intent=None, ended_kind="done", lora=result["lora"])
                return result
        folder.change_note(settled=True, intent=None, ended_kind=ended.kind)
        if ended.kind == "cancelled":
            raise Cancelled(self._stopped(folder, note, config))
        raise self._failed(context.job, folder, note, ended)

    def _done(self, job: Job, folder: RunFolder, note: RunNote, config: TrainingConfig, ended: Ended) -> dict[str, Any]:
        """Record the LoRA, give it to its character, tell. Raises DallaError when the file is not there."""
        name = Path(str(ended.event.get("lora") or config.name)).name.removesuffix(".safetensors")
        try:
            path = self._shelf.path(name)
        except NotFound as exc:
            raise StorageError(
                f"The trainer said that it was done, but the file '{name}.safetensors' is not there.",
                remedy="Look at the log of the run; its checkpoints are kept.",
            ) from exc
        self._shelf.complete_card(
            name,
            family=config.family,
            base_model=note.base_model,
            trigger_word=config.trigger_word or None,
            character_id=note.character_id,
            task_id=job.id,
            step=ended.event.get("step"),
            sha256=ended.event.get("sha256"),
        )
        attached, notes = self.attach(name, note, config)
        state = folder.state()
        self._learn(folder, config)
        validation = [v for v in state.validations if isinstance(v.get("loss"), int | float)]
        result = {
            "lora": name,
            "triggerWord": config.trigger_word or None,
            "family": config.family,
            "sizeBytes": path.stat().st_size,
            "sha256": ended.event.get("sha256"),
            "step": ended.event.get("step") or state.step,
            "steps": state.steps or config.steps,
            "best": ended.event.get("best"),
            "characterId": note.character_id if attached else None,
            "attached": attached,
            "notes": notes,
            "validation": validation[-1] if validation else None,
        }
        detail = f"'{name}' is on the shelf." + (f" {' '.join(notes)}" if notes else "")
        self._notices.notify(
            "training.completed", f"LoRA '{name}' is trained", detail, level="success", href=run_page(job.id),
            action="Look at it", character_id=note.character_id, key=f"training:{job.id}",
        )  # fmt: skip
        self._notices.emit("training.completed", {"taskId": job.id, **result})
        self._events.publish("training.progress", {"taskId": job.id, "event": "done", "lora": name})
        return result

    def attach(self, name: str, note: RunNote, config: TrainingConfig) -> tuple[bool, list[str]]:
        """Give a LoRA and its trigger word to the run's character, in place of what was trained for it before.

        A trigger word that no LoRA before it had is somebody's own and stays; the LoRA's joins each prompt all the same
        (`Generation.compose`). Returns (whether it was given, sentences about what was and was not changed). Raises nothing.
        """
        character = character_of(self._characters, note.character_id)
        if character is None:
            return False, []
        why = self._not_for(character, config)
        if why is not None:
            return False, [why]
        older = {other: word for other, word in self._shelf.of_character(character.id).items() if other != name}
        kept = [u for u in character.loras if u.name.removesuffix(".safetensors") not in {*older, name}]
        gone = [u.name for u in character.loras if u.name.removesuffix(".safetensors") in older]
        changes: dict[str, Any] = {"loras": [*kept, LoraUse(name=name, strength=1.0)]}
        notes = [f"{character.name} uses it from now on" + (f" instead of {', '.join(gone)}." if gone else ".")]
        had, word = (character.trigger_word or "").strip(), config.trigger_word.strip()
        if word and had != word:
            if not had or had.lower() in {theirs.lower() for theirs in older.values()}:
                changes["trigger_word"] = word
                notes.append(f"Its trigger word is now '{word}'" + (f" instead of '{had}'." if had else "."))
                settings = character.prompt_settings
                if had and settings and has_word(settings.base_prompt or "", had):
                    notes.append(f"Its base prompt still says '{had}': change it there.")
            else:
                notes.append(f"Its trigger word stays '{had}'; '{word}', the LoRA's own, joins each prompt.")
        if not character.preferred_model:
            changes["preferred_model"] = note.base_model
            notes.append(f"Its model is now '{note.base_model}', on which the LoRA was trained.")
        try:
            self._characters.update(character.id, changes)
        except DallaError as exc:
            logger.warning("The LoRA %s could not be given to %s: %s", name, character.name, exc.detail)
            return False, [f"It could not be given to {character.name}: {exc.detail}"]
        return True, notes

    def _not_for(self, character: Character, config: TrainingConfig) -> str | None:
        """Return why the character could not draw with this LoRA, else None."""
        if not character.preferred_model:
            return None
        model = self._files.models().get(character.preferred_model)
        family = model.info.family if model is not None else None
        if family is None or family == config.family:
            return None
        return (
            f"It was not given to {character.name}, whose model '{character.preferred_model}' is of another family "
            f"({family}, the LoRA is {config.family})."
        )

    def _learn(self, folder: RunFolder, config: TrainingConfig) -> None:
        state = folder.state()
        start = state.ready.get("prepareSeconds")
        start = float(start) if isinstance(start, int | float) else None
        with contextlib.suppress(DallaError, KeyError):
            self._estimates.learn(config, native_of(self._files, config), state, start_seconds=start)

    def _stopped(self, folder: RunFolder, note: RunNote, config: TrainingConfig) -> str:
        """Do with the checkpoints of a stopped run as was asked; return the sentence that tells."""
        step = folder.state().step
        sentence = f"The training was stopped at step {step}."
        if note.keep == "nothing":
            shutil.rmtree(folder.path / "checkpoints", ignore_errors=True)
            return f"{sentence} Its checkpoints were deleted."
        checkpoints = folder.checkpoints()
        if note.keep == "lora" and checkpoints:
            try:
                name = self.take_checkpoint(folder, note, config, checkpoints[-1]["step"])
                self.attach(name, note, config)
                return f"{sentence} '{name}' was made of it."
            except DallaError as exc:
                return f"{sentence} No LoRA could be made of it: {exc.detail}"
        return f"{sentence} {'Its checkpoints are kept.' if checkpoints else 'There was no checkpoint yet.'}"

    def take_checkpoint(self, folder: RunFolder, note: RunNote, config: TrainingConfig, step: int) -> str:
        """Put the LoRA of a checkpoint on the shelf under a fresh name; return it. Raises NotFound, StorageError."""
        row, path = folder.checkpoint(step)
        card = LoraCard(
            family=config.family,
            base_model=note.base_model,
            trigger_word=config.trigger_word or None,
            character_id=note.character_id,
            task_id=folder.id,
            step=step,
        )
        wish = config.name if not self._shelf.exists(config.name) else f"{config.name}-step{step}"
        name = self._shelf.add_copy(path, wish, card, trained=True)
        folder.change_note(lora=name)
        return name

    def _failed(self, job: Job, folder: RunFolder, note: RunNote, ended: Ended) -> DallaError:
        step = folder.state().step
        extra = {
            "cause": ended.kind,
            "exitCode": ended.exit_code,
            "trainerCode": ended.code,
            "step": step,
            "canResume": can_go_on(folder),
            "logTail": ended.log_tail,
        }
        error: DallaError
        detail, remedy = ended.detail or "The training failed.", ended.remedy
        if ended.kind == "bad_input":
            error = InvalidInput(detail, remedy=remedy, extra=extra)
        elif ended.kind == "disk_full":
            error = StorageError(detail, remedy=remedy, extra=extra)
        else:
            error = UpstreamError(detail, service="trainer", kind="retry" if ended.kind in ("killed", "silent") else "permanent", remedy=remedy, extra=extra)  # fmt: skip
        self._tell_failure(job, folder, note, detail, remedy, ended.kind)
        return error

    def _tell_failure(
        self, job: Job, folder: RunFolder, note: RunNote, detail: str, remedy: str | None, cause: str
    ) -> None:
        step = folder.state().step
        where = f" at step {step}" if step else ""
        self._notices.notify(
            "training.failed", f"Training '{note.name}' failed{where}", detail, level="error", href=run_page(job.id),
            action="See why", character_id=note.character_id, key=f"training:{job.id}",
        )  # fmt: skip
        told = {"taskId": job.id, "name": note.name, "characterId": note.character_id, "detail": detail}
        self._notices.emit("training.failed", {**told, "remedy": remedy, "cause": cause, "step": step})
        self._events.publish("training.progress", {"taskId": job.id, "event": "failed", "step": step})


class _Follower:
    """Turns events into the job's progress and into news for the pages."""

    def __init__(
        self, context: Context, folder: RunFolder, events: EventBus, note: RunNote, config: TrainingConfig
    ) -> None:
        self._context = context
        self._folder = folder
        self._events = events
        self._note = note
        self._total = config.steps or 1
        self._done = 0
        self._message = ""
        self._news = False
        self._told = 0.0
        self._looked = 0.0
        self._again: float | None = None

    def on_event(self, event: dict[str, Any]) -> None:
        """Take an event in; `check` hands it on, because that may raise."""
        self.tell(event)
        match event["event"]:
            case "phase":
                self._message = str(event.get("detail") or event.get("name") or "").strip()[:300]
            case "ready":
                self._total = int(event.get("steps") or self._total)
                self._message = "Training"
            case "step":
                self._done = int(event.get("step") or self._done)
                loss = event.get("loss")
                self._message = f"Step {self._done} of {self._total}"
                if isinstance(loss, int | float):
                    self._message += f" · loss {loss:.4f}"
            case "resumed":
                self._done = int(event.get("step") or 0)
                self._message = f"Going on from step {self._done}"
            case "ladder" | "warning":
                self._message = str(event.get("detail") or self._message)[:300]
            case "sample":
                self._show(event)
        self._news = True

    def tell(self, event: dict[str, Any]) -> None:
        """Publish the event to the pages; steps not more often than they can be seen."""
        if event["event"] == "step":
            now = time.monotonic()
            if now - self._told < TELL_SECONDS:
                return
            self._told = now
        shown = {key: value for key, value in event.items() if key not in ("file", "report", "perPicture")}
        self._events.publish(
            "training.progress", {"taskId": self._context.job.id, "totalSteps": self._total, "name": self._note.name, **shown}
        )  # fmt: skip

    def check(self) -> None:
        """Save progress; raise Cancelled or _Pause when somebody wants that."""
        now = time.monotonic()
        if self._news or (self._again is not None and now > self._again):
            # Once more after the last news: the queue saves only so often, and a long step may follow.
            self._again = now + 1.2 * TELL_SECONDS if self._news else None
            self._news = False
            self._context.progress(self._done, max(self._total, self._done), self._message)
        else:
            self._context.check_cancelled()
        if now - self._looked > TELL_SECONDS:
            self._looked = now
            note = self._folder.note()
            if note is not None and note.intent == "pause":
                raise _Pause

    def _show(self, event: dict[str, Any]) -> None:
        with contextlib.suppress(DallaError, OSError, KeyError, TypeError):
            path = self._folder.inside(event["file"])
            self._context.preview(path.read_bytes(), "image/png" if path.suffix == ".png" else "image/jpeg")


def native_of(files: LocalFiles, config: TrainingConfig) -> int:
    """Return the native size in px of the model a config trains on."""
    path = Path(config.base_model)
    said = next((m.info.native_size for m in files.models().values() if Path(m.path) == path), None)
    return native_size(config.family or "sd15", said)


def run_page(task_id: str) -> str:
    """Return the page of a run."""
    return f"/lora.html?run={task_id}"
