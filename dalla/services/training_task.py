"""The scheduled task `train_lora`: train a character's LoRA again when its pictures have changed.

The run is one step; after a restart it waits for the same training instead of starting a second one.
"""

from __future__ import annotations

import contextlib
from typing import Any

from dalla.errors import Cancelled, Conflict, DallaError, NotFound
from dalla.records.character import ScheduledTask
from dalla.records.job import Job
from dalla.services.automation_record import Skip, Work
from dalla.services.training import Training
from dalla.services.training_plan import TrainWish, checked_params

WAIT_SECONDS = 1.0
_TEXTS = ("trainingData", "datasetId", "baseModel", "triggerWord")


def validate(task: ScheduledTask) -> list[dict[str, str]]:
    """Return what is wrong with the config, fields named `config.<key>`."""
    errors = []
    for key in _TEXTS:
        value = task.config.get(key)
        if not isinstance(value, str | None) or len(value or "") > 300:
            errors.append({"field": f"config.{key}", "message": "This must be text of at most 300 characters."})
    if task.config.get("whenUnchanged") not in (None, "skip", "train"):
        errors.append({"field": "config.whenUnchanged", "message": "Use skip or train."})
    params = task.config.get("params")
    if not isinstance(params, dict | None):
        errors.append({"field": "config.params", "message": "This must be a JSON object."})
    elif params:
        try:
            checked_params(params)
        except DallaError as exc:
            errors += [{"field": f"config.{row['field']}", "message": row["message"]} for row in exc.errors]
    return errors


def handler(training: Training, work: Work) -> dict[str, Any]:
    """Train; return {"mediaIds", "postIds", "jobId", "lora"}. Raises Skip when the pictures are those of the last LoRA."""
    finished = work.record.done("train")
    if finished:
        return _result(finished.data)
    with work.record.step("train") as note:
        job = _known(training, note.data.get("jobId"))
        if job is None:
            wish = training.with_pictures(_wish(work))
            if (work.config.get("whenUnchanged") or "skip") == "skip":
                _skip_unchanged(training, wish)
            job = training.start(wish)
            note.data["jobId"] = job.id
            note.save()
        job = _wait(training, work, job)
        note.data["lora"] = (job.result or {}).get("lora")
        note.detail = f"LoRA '{note.data['lora']}' is trained."
        return _result(note.data)


def _wish(work: Work) -> TrainWish:
    config = work.config
    return TrainWish(
        character_id=work.character.id if work.character else None,
        training_data=config.get("trainingData") or None,
        dataset_id=None if config.get("trainingData") else config.get("datasetId") or None,
        base_model=config.get("baseModel") or None,
        trigger_word=config.get("triggerWord") or None,
        params=config.get("params") or {},
    )


def _skip_unchanged(training: Training, wish: TrainWish) -> None:
    """Raise Skip when the newest finished run of the character saw exactly these pictures and captions."""
    jobs, _, _ = training.tasks.page(
        kind=training.KIND, statuses=["completed"], character_id=wish.character_id, limit=1
    )
    if not jobs:
        return
    now = training.planner.plan(wish, taken=set()).report.fingerprint
    if jobs[0].payload.get("fingerprint") == now:
        raise Skip("The training pictures have not changed since the last LoRA.")


def _known(training: Training, id: str | None) -> Job | None:
    if not id:
        return None
    try:
        job = training.job(id)
    except NotFound:
        return None
    return None if job.status in ("failed", "cancelled") else job


def _wait(training: Training, work: Work, job: Job) -> Job:
    try:
        while not job.finished:
            work.context.check_cancelled()
            job = training.wait(job.id, WAIT_SECONDS)
            work.context.progress(job.progress.done, job.progress.total, job.progress.message)
    except Cancelled:
        if training.job(work.context.job.id, any_kind=True).cancel_requested:  # by a person
            with contextlib.suppress(Conflict, NotFound):
                training.cancel(job.id)
        raise
    if job.status == "completed":
        return job
    problem = job.error or {}
    error = DallaError(
        problem.get("detail") or f"The training is {job.status}.", remedy=problem.get("remedy"), errors=problem.get("errors")
    )  # fmt: skip
    error.code = problem.get("code") or "training_failed"  # type: ignore[misc]
    raise error


def _result(data: dict[str, Any]) -> dict[str, Any]:
    return {"mediaIds": [], "postIds": [], "jobId": data.get("jobId"), "lora": data.get("lora")}
