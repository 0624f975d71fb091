"""Settings that may change when a training is taken up again: what does not touch the layers or the pictures."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic.alias_generators import to_camel, to_snake

from dalla.errors import InvalidInput
from dalla.plural import counted
from dalla.records.lora import RunNote
from dalla.records.training import TrainingConfig
from dalla.settings import Settings

#: A saved state can be gone on from with any of these; everything else decided what the state is.
CHANGEABLE = (
    "steps", "learning_rate", "text_encoder_learning_rate", "sample_every", "sample_prompts", "save_every", "validation",
    "early_stop",
)  # fmt: skip


def changes(config: TrainingConfig, settings: dict[str, Any], *, done: int) -> dict[str, Any]:
    """Return what `settings` (camelCase or snake_case keys; None: not said) change, by the fields of TrainingConfig.

    `done` is the step the run goes on from. Of `validation` only `every` may change, so that the pictures set aside
    and their questions stay the same. Raises InvalidInput with one error per field (`settings.<name>`).
    """
    said, errors = _said(config, settings)
    try:
        wished = TrainingConfig.model_validate({**config.model_dump(), **said})
    except ValidationError as exc:
        for error in exc.errors(include_url=False, include_input=False, include_context=False):
            _add(errors, str(error["loc"][0]), str(error["msg"]).rstrip(".") + ".")
        _refuse(errors)
        raise  # never: a validation error names at least one field
    for row in wished.problems():
        if to_snake(row["field"]) in said:
            _add(errors, row["field"], row["message"])
    if "steps" in said and wished.steps is not None and 1 <= wished.steps <= done:
        _add(errors, "steps", f"The run goes on from step {done}. Give more than that.")
    _refuse(errors)
    values = wished.model_dump(mode="json")
    if "steps" in said:
        said["epochs"] = None  # the steps are said now
    return {name: values[name] if name != "epochs" else None for name in said}


def _said(config: TrainingConfig, settings: dict[str, Any]) -> tuple[dict[str, Any], list[dict[str, str]]]:
    said: dict[str, Any] = {}
    errors: list[dict[str, str]] = []
    for key, value in settings.items():
        name = to_snake(key)
        if name not in TrainingConfig.model_fields:
            errors.append({"field": f"settings.{key}", "message": "There is no such setting."})
        elif name not in CHANGEABLE:
            errors.append(
                {
                    "field": f"settings.{key}",
                    "message": "This is fixed once a run has begun. Clone the run to change it.",
                }
            )
        elif name == "validation" and value is not None:
            if not isinstance(value, dict) or set(value) - {"every"}:
                errors.append(
                    {"field": "settings.validation", "message": "Of a run that has begun only 'every' can change."}
                )
            elif value.get("every") is not None:
                said[name] = {**config.validation.model_dump(), "every": value["every"]}
        elif value is not None:
            said[name] = value
    return said, errors


def _add(errors: list[dict[str, str]], field: str, message: str) -> None:
    errors.append({"field": f"settings.{to_camel(to_snake(field))}", "message": message})


def _refuse(errors: list[dict[str, str]]) -> None:
    if errors:
        first = f"{errors[0]['field']}: {errors[0]['message']}"
        raise InvalidInput(first if len(errors) == 1 else "Some settings are not acceptable.", errors=errors)


def with_changes(config: dict[str, Any], changed: dict[str, Any]) -> TrainingConfig:
    """Return a run's settings: those it was started with, and over them what was changed since."""
    return TrainingConfig.model_validate({**config, **changed})


def in_place(config: TrainingConfig, note: RunNote, settings: Settings, model: Path | None) -> TrainingConfig:
    """Return a run's settings with every folder as it is now: they may have been moved since it was asked for.

    `model` is the path of the base model, None when it is not there any more.
    """
    sets = Path(settings.training_data_dir)
    return config.with_(
        output_folder=str(settings.loras_dir),
        models_folder=str(settings.models_dir),
        base_model=str(model) if model is not None else config.base_model,
        dataset_folder=str(sets / note.dataset) if note.dataset else config.dataset_folder,
        prior_folder=str(sets / Path(config.prior_folder).name) if config.prior_folder else None,
    )


def run_title(name: str, character: str | None, pictures: int, steps: int) -> str:
    """Return what the task of a run is called. `character`: a name, or None."""
    who = f" of {character}" if character else ""
    return f"Train LoRA '{name}'{who}: {counted(pictures, 'picture')}, {counted(steps, 'step')}"


def retitled(title: str, changed: dict[str, Any]) -> str:
    """Return the title with the steps that were changed, as `changes` answers; any other stays as it is."""
    steps = changed.get("steps")
    return re.sub(r"\d+ steps?$", counted(steps, "step"), title) if steps else title


def changed_wish(wish: dict[str, Any], changed: dict[str, Any]) -> dict[str, Any]:
    """Return what the run was asked for with the changes in it, so that a clone starts from what was trained."""
    params = {key: value for key, value in (wish.get("params") or {}).items() if to_snake(key) not in changed}
    new = {to_camel(name): value for name, value in changed.items() if value is not None}
    return {**wish, "params": {**params, **new}}
