"""The job that looks after one training: start or find the trainer, follow it, and settle how it ended.

The trainer lives on its own, so this may begin in the middle: after a restart of the dashboard the run is
found again by its lock, or, when it has finished meanwhile, by its last word.
"""

from __future__ import annotations

import contextlib
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

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
from dalla.services.training_changes import in_place, with_changes
from dalla.services.training_estimate import Estimates, native_size
from dalla.services.training_follow import Follower, Pause, Process, Trainer
from dalla.services.training_plan import character_of
from dalla.services.training_rows import can_go_on, config_of, note_of, state_step
from dalla.services.training_runs import RunFolder, RunFolders
from dalla.settings import Settings
from dalla.training_set import has_word

logger = logging.getLogger(__name__)


class Drive:
    """Runs the jobs of the kind `train_lora`."""

    def __init__(
        self,
        settings: Settings,
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
        self._settings = settings
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
            config = self._now(with_changes(payload["config"], note.settings), note)
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
            unseen = self.ended_unseen(folder, note)
            if note.intent == "pause" and (unseen is None or unseen.kind == "cancelled"):
                self._paused(job, folder, config)
                return None
            # One that the system ended, with all that ran, was not stopped by anybody: it goes on from what it saved.
            if unseen is not None and (unseen.kind != "cancelled" or note.intent == "cancel"):
                return self._settle(job, folder, note, config, unseen)
            try:
                note, process = self._start(context, folder, note, config)
            except Cancelled:
                if not self._is_cancelled(job):
                    raise
                return self._settle(job, folder, folder.note() or note, config, Ended(kind="cancelled"))
            except DallaError as exc:
                self._tell_failure(job, folder, note, exc.detail, exc.remedy, "start")
                raise
        follower = Follower(context, folder, self._events, note, config)
        try:
            ended = process.follow(follower.on_event, follower.check, offset=note.attempt_offset)
            if ended.kind == "cancelled" and not self._is_cancelled(job):
                follower.linger()  # nobody asked it to stop: perhaps the system ends it and this app together
        except (Pause, Cancelled) as wish:
            if isinstance(wish, Cancelled) and not self._is_cancelled(job):
                raise  # the app is closing: the trainer goes on, and the next start finds it again
            ended = process.cancel(follower.tell)
            if ended.kind != "done" and self._is_cancelled(job):
                ended = ended.with_(kind="cancelled")
            elif ended.kind == "cancelled":
                if (folder.note() or note).intent != "pause":  # taken back meanwhile: it goes on from what it saved
                    return self.run(context, payload)
                self._paused(job, folder, config)
                return None
        return self._settle(job, folder, folder.note() or note, config, ended)

    def settle_late(self, job: Job, folder: RunFolder, note: RunNote, ended: Ended) -> None:
        """Do with a run whose task was cancelled while nobody looked after it as was asked. Raises StorageError."""
        if ended.kind != "done":
            ended = ended.with_(kind="cancelled")
        try:
            self._settle(job, folder, note, self._now(config_of(job, note.settings), note), ended)
        except (Cancelled, UpstreamError) as exc:
            logger.info("%s: %s", job.id, exc.detail)

    def _now(self, config: TrainingConfig, note: RunNote) -> TrainingConfig:
        model = self._files.models().get(note.base_model)
        return in_place(config, note, self._settings, model.path if model is not None else None)

    def _is_cancelled(self, job: Job) -> bool:
        return self._tasks.get(job.id).cancel_requested

    # ------------------------------------------------------------ beginning

    def _start(
        self, context: Context, folder: RunFolder, note: RunNote, config: TrainingConfig
    ) -> tuple[RunNote, Process]:
        # First, so that what somebody wants from now on (a pause, what is to be kept) stands over it.
        begun = {"settled": False, "ended_kind": None, "attempt_offset": folder.events_size()}
        note = folder.change_note(**begun) or folder.save_note(note.with_(**begun))
        context.progress(0, config.steps or 1, "Freeing memory")
        try:
            self._free_memory()
        except DallaError as exc:
            logger.warning("Memory could not be freed before the training: %s", exc.detail)
        values = config.model_dump(mode="json")
        values |= {"run_folder": str(folder.path), "resume_from": str(folder.path) if can_go_on(folder) else None}
        context.progress(
            0, config.steps or 1, "Going on from the last checkpoint" if values["resume_from"] else "Starting"
        )
        return note, self._trainer.start(values, folder.path)

    @staticmethod
    def ended_unseen(folder: RunFolder, note: RunNote) -> Ended | None:
        """Return the end that a trainer came to while no dashboard was there to see it, or to note it in the task."""
        state = folder.state()
        dealt_with = note.settled and note.ended_kind != "done"  # a task that is done is not run again
        if dealt_with or state.closing is None or state.closing_end <= note.attempt_offset:
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
        step = state_step(folder)  # a trainer that had to be killed was further
        message = f"Paused at step {step}" if step is not None else "Paused before its first checkpoint"
        if self._is_cancelled(job) and note is not None:  # stopped while it was pausing
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
        self._events.publish("training.progress", {"taskId": job.id, "event": "paused", "step": step or 0})

    def _settle(
        self, job: Job, folder: RunFolder, note: RunNote, config: TrainingConfig, ended: Ended
    ) -> dict[str, Any]:
        if ended.kind == "done":
            try:
                result = self._done(job, folder, note, config, ended)
            except DallaError as exc:
                ended = Ended(kind="verification", detail=exc.detail, remedy=exc.remedy, event=ended.event)
            else:
                folder.change_note(settled=True, intent=None, ended_kind="done", lora=result["lora"])
                return result
        folder.change_note(settled=True, intent=None, ended_kind=ended.kind)
        if ended.kind == "cancelled":
            raise Cancelled(self._stopped(folder, note, config, ended))
        raise self._failed(job, folder, note, ended)

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
        self._learn(folder, note, config)
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

    def _learn(self, folder: RunFolder, note: RunNote, config: TrainingConfig) -> None:
        state = folder.state()
        start = state.ready.get("prepareSeconds")
        start = float(start) if isinstance(start, int | float) else None
        model = self._files.models().get(note.base_model)
        native = native_size(config.family or "sd15", model.info.native_size if model is not None else None)
        with contextlib.suppress(DallaError, KeyError):
            self._estimates.learn(config, native, state, start_seconds=start)

    def _stopped(self, folder: RunFolder, note: RunNote, config: TrainingConfig, ended: Ended | None = None) -> str:
        """Do with the checkpoints of a stopped run as was asked; return the sentence that tells."""
        step = folder.state().step
        sentence = f"The training was stopped at step {step}."
        if ended is not None and ended.event.get("event") == "error":
            sentence += f" Its last steps could not be saved: {ended.detail}"
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


def run_page(task_id: str) -> str:
    """Return the page of a run."""
    return f"/lora.html?run={task_id}"
