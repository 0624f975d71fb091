"""LoRA training for the web and the schedule: start, watch, pause, stop, resume; runs and their files.

A run is a job of the kind `train_lora` in the gpu lane, so it takes turns with drawing and several runs queue.
The training itself is another process (engines/trainer.py); `training_drive.py` is the job that looks after it.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dalla.errors import Conflict, DallaError, InvalidInput, NotFound, Unavailable
from dalla.events import EventBus
from dalla.jobs.base import JobQueue, TaskStore
from dalla.paths import remove_stale_temps
from dalla.records.family import FAMILIES
from dalla.records.job import ACTIVE, Job
from dalla.records.lora import Ended, Keep, RunNote
from dalla.records.training import PRESETS, TrainingConfig
from dalla.services.characters import Characters
from dalla.services.file_trash import FileTrash
from dalla.services.lora_shelf import LocalFiles, LoraShelf
from dalla.services.notices import Notices
from dalla.services.training_changes import changed_wish, changes, retitled, run_title
from dalla.services.training_drive import Drive
from dalla.services.training_estimate import Estimates
from dalla.services.training_follow import Process, Trainer
from dalla.services.training_notes import as_checks
from dalla.services.training_plan import Plan, Planner, TrainWish, character_of
from dalla.services.training_rows import config_of, note_of, public_config, public_run, state_step
from dalla.services.training_runs import LOG, RunFolder, RunFolders
from dalla.services.training_sets import TrainingSets, file_url
from dalla.settings import Settings
from dalla.times import iso

logger = logging.getLogger(__name__)

KEEP_STATES_DAYS = 14  # what a finished run could be taken up from
KEEP_FOLDERS_DAYS = 90  # folders of runs that the task list has forgotten
MOST_ATTEMPTS = 8  # of looking after one run before its trainer is ended instead
LANE = "gpu"
BEGAN = "The training has not begun yet."


def _nothing() -> None:
    return None


class Training:
    """Everything about training LoRAs. `shelf` holds the LoRAs, `sets` the training pictures."""

    KIND = "train_lora"

    def __init__(
        self,
        settings: Settings,
        trainer: Trainer,
        files: LocalFiles,
        characters: Characters,
        notices: Notices,
        jobs: JobQueue,
        tasks: TaskStore,
        events: EventBus,
        data_dir: Path,
        *,
        machine: Callable[[], dict[str, Any]] = dict,
        free_memory: Callable[[], object] = _nothing,
        materialize: Callable[[str], str] | None = None,
    ) -> None:
        """`machine` answers a sample of the monitoring (gpuName, memoryTotal …); `free_memory` ends what else holds
        the graphics card's memory, such as the built-in engine's child; `materialize` writes a dataset's pictures to
        training_data/ and returns the folder's name (DatasetExports.materialize)."""
        self._settings = settings
        self._trainer = trainer
        self._files = files
        self._characters = characters
        self._jobs = jobs
        self.tasks = tasks
        self._events = events
        self.materialize = materialize
        self.folders = RunFolders(data_dir)
        self._lora_trash = FileTrash(data_dir, "loras", lambda: Path(settings.loras_dir))
        self._set_trash = FileTrash(data_dir, "training_data", lambda: Path(settings.training_data_dir))
        self.sets = TrainingSets(settings, self._set_trash)
        self.shelf = LoraShelf(settings, files, characters, events, self._lora_trash)
        self.estimates = Estimates(data_dir, machine)
        self.planner = Planner(settings, files, self.sets, self.shelf, characters)
        self._drive = Drive(
            settings,
            trainer,
            self.folders,
            self.shelf,
            files,
            characters,
            notices,
            events,
            tasks,
            self.estimates,
            free_memory,
        )
        self._starting = threading.Lock()
        self._ending: set[str] = set()
        jobs.register(self.KIND, self._drive.run, lane=LANE, restartable=True)

    # ------------------------------------------------------------ before and at the start

    def options(self) -> dict[str, Any]:
        """Return what a form needs: base models, families with presets, and whether training is possible here."""
        why = self._trainer.missing()
        return {
            "available": why is None,
            "reason": why,
            "remedy": "Run 'make install'." if why else None,
            "baseModels": self.planner.base_models(),
            "presets": PRESETS,
            "families": {name: family.label for name, family in FAMILIES.items()},
        }

    def estimate(self, wish: TrainWish, *, pictures: bool = True) -> dict[str, Any]:
        """Say what a training would need and what speaks against it; nothing is started, no picture is kept.

        The pictures of a dataset are written to training_data/ first, so that the answer is of what would be trained.
        Raises InvalidInput by field, NotFound, Conflict, Unavailable.
        """
        wish = self.with_pictures(wish)
        plan = self.planner.plan(wish, taken=self._reserved())
        answer = self._estimate(plan)
        if pictures:
            folder = Path(plan.config.dataset_folder).name
            answer["images"] = [
                {**picture.to_json(), "fileUrl": file_url(folder, picture.file)} for picture in plan.report.pictures
            ]
        return answer

    def _estimate(self, plan: Plan) -> dict[str, Any]:
        answer = self.estimates.estimate(plan.config, plan.native, plan.report)
        why = self._trainer.missing()
        if why:
            answer["checks"].insert(0, {"code": "trainer_missing", "level": "error", "message": why, "fix": "Run 'make install'."})  # fmt: skip
        answer["checks"] += as_checks(plan.notes)
        waiting = self.tasks.page(statuses=["queued", "running"], limit=500)[0]
        ahead = [job for job in waiting if job.lane == LANE]
        return {
            "name": plan.config.name,
            "trainingData": Path(plan.config.dataset_folder).name,
            "baseModel": plan.model.name,
            "family": plan.config.family,
            "familyLabel": FAMILIES[plan.config.family or "sd15"].label,
            "triggerWord": plan.config.trigger_word,
            **answer,
            "waiting": len(ahead),
            "config": public_config(plan.config),
        }

    def start(self, wish: TrainWish) -> Job:
        """Check everything that can be checked, keep pictures that came along, queue the run; return its job.

        Raises InvalidInput by field, NotFound, Conflict (name taken), StorageError (disk), Unavailable.
        """
        if why := self._trainer.missing():
            raise Unavailable(why, remedy="Run 'make install'.")
        with self._starting:  # two calls must not get the same name
            self.planner.check(wish, taken=self._reserved())  # before pictures are kept
            wish = self.with_pictures(wish)
            folder = self.planner.take_pictures(wish)
            plan = self.planner.plan(wish, taken=self._reserved(), dataset=folder)
            estimate = self._estimate(plan)
            self.estimates.refuse_when_impossible(estimate)
            set_name = Path(plan.config.dataset_folder).name
            note = RunNote(
                task_id="",
                name=plan.config.name,
                character_id=wish.character_id,
                dataset=set_name,
                base_model=plan.model.name,
                family=plan.config.family or "",
                created_at=iso(datetime.now(UTC)),
                wish={**wish.stored(), **({} if wish.dataset_id else {"trainingData": set_name})},
            )
            payload = {
                "config": plan.config.model_dump(mode="json"),
                "note": note.to_json(),
                "fingerprint": plan.report.fingerprint,
                "datasetId": wish.dataset_id,
            }
            who = plan.character.name if plan.character else None
            title = run_title(plan.config.name, who, estimate["pictures"], estimate["steps"])
            return self._jobs.submit(self.KIND, payload, title=title, character_id=wish.character_id)

    def with_pictures(self, wish: TrainWish) -> TrainWish:
        """Return the wish with the folder its dataset was written to; one without a dataset as it is.

        The name of a folder in training_data/ is taken as well. Raises InvalidInput (datasetId), and what writing the
        pictures raises (NotFound, Conflict, StorageError).
        """
        id = wish.dataset_id
        if id is None or wish.training_data:
            return wish
        if wish.images or wish.files:
            raise InvalidInput.field("datasetId", "Send pictures or name a dataset, not both.")
        if any(row["name"] == id for row in self.sets.all()):
            return replace(wish, training_data=id, dataset_id=None)
        if self.materialize is None:
            raise InvalidInput.field("datasetId", f"There is no folder '{id}' in training_data/.")
        return replace(wish, training_data=self.materialize(id))

    def _reserved(self) -> set[str]:
        """Names of LoRAs that are being trained or wait for it."""
        names, cursor = set(), None
        while True:
            jobs, cursor, _ = self.tasks.page(statuses=sorted(ACTIVE), kind=self.KIND, limit=200, cursor=cursor)
            names |= {config_of(job).name for job in jobs}
            if cursor is None:
                return names

    # ------------------------------------------------------------ reading

    def job(self, id: str, *, any_kind: bool = False) -> Job:
        """Raises NotFound when there is no such run."""
        job = self._jobs.get(id)
        if job.kind != self.KIND and not any_kind:
            raise NotFound(f"There is no training run with the id '{id}'.")
        return job

    def wait(self, id: str, timeout: float) -> Job:
        """Return the run's job when it has ended or `timeout` seconds have passed."""
        return self._jobs.wait(id, timeout)

    def runs(self, **where: Any) -> tuple[list[dict[str, Any]], str | None, int]:
        """Return (runs newest first, cursor, total). Takes statuses, character_id, limit, cursor."""
        jobs, cursor, total = self.tasks.page(kind=self.KIND, **where)
        shown = [job for job in jobs if not (job.finished and self._note(job).deleted)]
        waiting = self.tasks.waiting(LANE) if any(job.status == "queued" for job in shown) else []
        return [self.public(job, waiting=waiting) for job in shown], cursor, total - (len(jobs) - len(shown))

    def public(self, job: Job, *, full: bool = False, waiting: list[str] | None = None) -> dict[str, Any]:
        """Return a run as the API shows it (see training_rows.public_run). `waiting`: its lane's queue, when known."""
        ahead = None
        if job.status == "queued":
            queue = self.tasks.waiting(job.lane) if waiting is None else waiting
            ahead = queue.index(job.id) if job.id in queue else None  # None: it has just begun
        character = character_of(self._characters, job.character_id)
        return public_run(
            job, self.folders.folder(job.id), character.name if character else None, ahead=ahead, full=full
        )

    def config(self, job: Job) -> TrainingConfig:
        """Return a run's settings as they are now, with what was changed when it was resumed."""
        return config_of(job, self._note(job).settings)

    def metrics(self, id: str, since: int = 0) -> dict[str, Any]:
        """Return the curves after a step. Raises NotFound."""
        return self.folders.folder(self.job(id).id).metrics(since)

    def log_file(self, id: str) -> Path:
        """Return the log of the trainer (it may not be there yet). Raises NotFound."""
        return self.folders.folder(self.job(id).id).path / LOG

    # ------------------------------------------------------------ wishes while it runs

    def pause(self, id: str) -> Job:
        """Save the state, end the trainer and free the lane and its memory. Raises Conflict, NotFound."""
        job = self.job(id)
        if job.status == "paused":
            return job
        if job.status != "running":
            raise Conflict(
                BEGAN if job.status == "queued" else f"The training is {job.status}.",
                remedy="Cancel it instead; it can be started again later." if job.status == "queued" else None,
            )
        self._note(job, intent="pause")
        return self._jobs.get(id)

    def resume(self, id: str, settings: dict[str, Any] | None = None) -> Job:
        """Go on where it was paused, interrupted or stopped; a pause that was only asked for is taken back.

        `settings` change what a run may change on its way (training_changes.CHANGEABLE). Raises Conflict (running,
        finished), InvalidInput by field, NotFound.
        """
        job = self.job(id)
        if job.status == "paused":
            changed = self._changed(job, settings)
            self._note(job, intent=None, keep="checkpoints", **changed)
            title = retitled(job.title, changed.get("settings", {}))
            job = self.tasks.transition(id, "queued", only_from={"paused"}, message="", title=title)
            self._events.publish("task.updated", job.public())
            return job
        if job.status == "running" and self._note(job).intent == "pause":
            if settings:
                raise Conflict("The run has not paused yet.", remedy="Wait until it has, then change its settings.")
            self._note(job, intent=None)
            return job
        if job.status in ("failed", "cancelled", "interrupted"):
            if job.status == "cancelled" and self._trainer.attach(self.folders.folder(id).path) is not None:
                raise Conflict("The trainer is still saving before it ends.", remedy="Try again in a moment.")
            name = self.config(job).name
            if name in self._reserved() or (self.shelf.exists(name) and not self._made(id, name)):
                raise Conflict(
                    f"There is a LoRA called '{name}' meanwhile.",
                    remedy="Clone the run: it gets a new name.",
                )
            changed = self._changed(job, settings)
            if changed or self.folders.folder(id).note() is not None:
                self._note(job, intent=None, keep="checkpoints", deleted=False, **changed)
            return self._jobs.retry(id, title=retitled(job.title, changed.get("settings", {})))
        raise Conflict(f"The training is {job.status}; there is nothing to resume.")

    def _made(self, id: str, name: str) -> bool:
        """Whether a LoRA was made of this run: of one of its checkpoints."""
        with contextlib.suppress(NotFound):
            return self.shelf.card(name).task_id == id
        return False

    def _changed(self, job: Job, settings: dict[str, Any] | None) -> dict[str, Any]:
        """Return the fields of the run's note that `settings` change. Raises InvalidInput by field."""
        note = self._note(job)
        done = state_step(self.folders.folder(job.id)) or 0
        changed = changes(self.config(job), settings or {}, done=done)
        if not changed:
            return {}
        return {"settings": {**note.settings, **changed}, "wish": changed_wish(note.wish, changed)}

    def cancel(self, id: str, keep: Keep = "checkpoints") -> Job:
        """Stop it and keep a LoRA, the checkpoints or nothing, also of one that waits to go on.

        Raises Conflict when it has ended, NotFound.
        """
        job = self.job(id)
        if job.finished:
            raise Conflict(f"The training has ended already: it is {job.status}.")
        folder = self.folders.folder(id)
        begun = job.status != "queued" or folder.note() is not None
        note = self._note(job, keep=keep, intent="cancel") if begun else None
        cancelled = self._jobs.cancel(id)
        if note is not None and cancelled.status == "cancelled":  # nobody was at work on it
            self._look_after(folder, note)
        return cancelled

    def save(self, id: str) -> None:
        """Ask for a checkpoint after the present step. Raises Conflict when nothing runs, NotFound."""
        self._at_work(id).save()

    def sample(self, id: str) -> None:
        """Ask for sample pictures after the present step. Raises Conflict when nothing runs, NotFound."""
        self._at_work(id).sample()

    def _at_work(self, id: str) -> Any:
        job = self.job(id)
        process = self._trainer.attach(self.folders.folder(id).path) if job.status == "running" else None
        if process is None:
            raise Conflict(BEGAN if job.status in ("queued", "running") else f"The training is {job.status}.")
        return process

    def _note(self, job: Job, **changes: Any) -> RunNote:
        folder = self.folders.folder(job.id)
        note = note_of(job, folder)
        return folder.save_note(note.with_(**changes)) if changes else note

    # ------------------------------------------------------------ checkpoints, deletion

    def use_checkpoint(self, id: str, step: int) -> dict[str, Any]:
        """Make the LoRA of a checkpoint: on the shelf under a fresh name, and with the run's character.

        Raises NotFound, StorageError.
        """
        job = self.job(id)
        folder, config, note = self.folders.folder(id), self.config(job), self._note(job)
        name = self._drive.take_checkpoint(folder, note, config, step)
        attached, notes = self._drive.attach(name, note, config)
        return {**self.shelf.get(name), "attached": attached, "notes": notes}

    def delete_run(self, id: str) -> int:
        """Delete what a finished run left on the disk and forget it; return the bytes. Its LoRAs stay on the shelf.

        Raises NotFound, Conflict while it is active.
        """
        job = self.job(id)
        if not job.finished:
            raise Conflict("The training has not ended.", remedy="Stop it first.")
        if self._trainer.attach(self.folders.folder(id).path) is not None:
            raise Conflict("The trainer is still ending.", remedy="Try again in a moment.")
        note = self._note(job, deleted=True, settled=True)
        freed = self.folders.delete(id)
        self.folders.folder(id).save_note(note)  # so that lists leave it out until its task is forgotten
        return freed

    # ------------------------------------------------------------ the clock

    def tick(self) -> int:
        """Find runs that outlived the dashboard, and end trainers whose run was cancelled; return how many."""
        count = 0
        for folder in self.folders.all():
            note = folder.note()
            if note is None or note.settled:
                continue
            with contextlib.suppress(DallaError):
                count += self._look_after(folder, note)
        return count

    def _look_after(self, folder: RunFolder, note: RunNote) -> int:
        job = self._jobs.get(folder.id)
        if job.status in ("queued", "running", "paused"):
            return 0
        process = self._trainer.attach(folder.path)
        ended = None if process is not None else self._drive.ended_unseen(folder, note)
        # One that the system ended goes on when somebody wants it to: its task was given up for a reason.
        unseen = process is not None or (ended is not None and (ended.kind != "cancelled" or note.intent == "pause"))
        if job.status in ("interrupted", "failed") and unseen and job.attempt < MOST_ATTEMPTS:
            logger.warning("The training %s goes on (or ended) without its task; taking it up again", folder.id)
            self._jobs.retry(folder.id)
            return 1
        if folder.id in self._ending:
            return 0
        if process is not None:
            self._ending.add(folder.id)
            threading.Thread(target=self._end, args=(job, folder, process), name="training-end", daemon=True).start()
            return 1
        if job.status == "cancelled" and note.intent == "cancel":
            self._ending.add(folder.id)
            try:
                self._drive.settle_late(job, folder, note, ended or Ended(kind="cancelled"))
            finally:
                self._ending.discard(folder.id)
            return 1
        return 0

    def _end(self, job: Job, folder: RunFolder, process: Process) -> None:
        """End a trainer whose task is over (cancelled while the app was closing)."""
        try:
            note = self._note(job)
            ended = process.cancel(lambda event: None, offset=note.attempt_offset)
            self._drive.settle_late(job, folder, folder.note() or note, ended)
        except DallaError as exc:
            logger.warning("The trainer of %s could not be ended: %s", folder.id, exc.detail)
        finally:
            self._ending.discard(folder.id)

    def housekeeping(self, trash_days: float) -> None:
        """Empty the trash, delete states that finished runs keep for resuming, and folders nobody knows any more."""
        self._lora_trash.purge(trash_days)
        self._set_trash.purge(trash_days)
        remove_stale_temps(self.shelf.root)
        now = time.time()
        for folder in self.folders.all():
            age = (now - (folder.last_sign() or folder.path.stat().st_mtime)) / 86_400
            try:
                job = self._jobs.get(folder.id)
            except NotFound:
                if age > KEEP_FOLDERS_DAYS and self._trainer.attach(folder.path) is None:
                    self.folders.delete(folder.id)
                continue
            if job.status == "completed" and age > KEEP_STATES_DAYS:
                for state in (folder.path / "checkpoints").glob("*/state.pt"):
                    with contextlib.suppress(OSError):
                        state.unlink()


def train_task(training: Training) -> tuple[Callable[[Any], dict[str, Any]], Callable[[Any], list[dict[str, str]]]]:
    """Return (handler, validate) for scheduled tasks of the type `train_lora`."""
    from dalla.services.training_task import handler, validate

    return (lambda work: handler(training, work)), validate


__all__ = ["TrainWish", "Training", "public_config", "train_task"]
