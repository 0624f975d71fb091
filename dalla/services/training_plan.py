"""From a wish to a complete training: base model, pictures, name and every setting, checked before anything starts."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic.alias_generators import to_camel, to_snake

from dalla.errors import InvalidInput, NotFound, Unavailable
from dalla.model_folder import refuse_damaged, side_multiple
from dalla.records.character import Character
from dalla.records.family import FAMILIES
from dalla.records.image import ModelInfo
from dalla.records.training import LIMITS, TrainingConfig
from dalla.records.training_machine import Machine, known, shortcomings
from dalla.services.characters import Characters
from dalla.services.lora_shelf import LocalFiles, LoraShelf, check_new_name
from dalla.services.training_estimate import native_size
from dalla.services.training_notes import without_effect
from dalla.services.training_sets import TrainingSets, from_base64, plain_name
from dalla.settings import Settings
from dalla.training_set import SetReport

#: Settings that `params` may not touch: they are said elsewhere, or not for the caller to say.
_NOT_PARAMS = {
    "name", "base_model", "family", "dataset_folder", "output_folder", "run_folder", "models_folder", "character_id",
    "trigger_word", "resume_from",
}  # fmt: skip
PARAMS = tuple(name for name in TrainingConfig.model_fields if name not in _NOT_PARAMS)
_NUMBERED = re.compile(r"(?<=\w)[-_ ]\d+\Z")
_TOP = {"name", "baseModel", "triggerWord", "datasetFolder"}


@dataclass
class TrainWish:
    """What a caller asked for. None means: not said. `files` are (name, bytes) of an upload."""

    character_id: str | None = None
    training_data: str | None = None
    dataset_id: str | None = None  # a dataset whose pictures are written to training_data/ first
    images: list[str] | None = None  # base64
    files: list[tuple[str, bytes]] = field(default_factory=list)
    base_model: str | None = None
    name: str | None = None
    trigger_word: str | None = None
    params: dict[str, Any] = field(default_factory=dict)  # camelCase or snake_case keys

    def stored(self) -> dict[str, Any]:
        """Return the wish as the API takes it, without the pictures: what a clone starts from."""
        values = {
            "characterId": self.character_id,
            "datasetId": self.dataset_id,
            "trainingData": None if self.dataset_id else self.training_data,
            "baseModel": self.base_model,
            "name": self.name,
            "triggerWord": self.trigger_word,
            "params": self._stored_params() or None,
        }
        return {key: value for key, value in values.items() if value is not None}

    def _stored_params(self) -> dict[str, Any]:
        """Return the settings as understood ("8" is 8), the class pictures' folder by its name: no path is kept."""
        params = checked_params(self.params)
        least = {"name": "", "base_model": "", "dataset_folder": ""}
        said = TrainingConfig.model_validate({**least, **params}).to_json(include=set(params), exclude_unset=True)
        return said | ({"priorFolder": Path(said["priorFolder"]).name} if said.get("priorFolder") else {})


@dataclass
class Plan:
    """A training with every setting decided."""

    config: TrainingConfig
    report: SetReport
    model: ModelInfo
    native: int
    character: Character | None
    notes: list[dict[str, str]]  # {field, message}: what was asked for and changes nothing


class Planner:
    """Turns wishes into plans. Writes nothing but uploaded pictures."""

    def __init__(
        self,
        settings: Settings,
        files: LocalFiles,
        sets: TrainingSets,
        shelf: LoraShelf,
        characters: Characters,
        machine: Callable[[], Machine] | None = None,
    ) -> None:
        """`machine` says what is known of the computer that would train (default: what is certain of this one)."""
        self._machine = machine or known
        self._settings = settings
        self._files = files
        self._sets = sets
        self._shelf = shelf
        self._characters = characters

    def plan(self, wish: TrainWish, *, taken: set[str], dataset: str | None = None) -> Plan:
        """Decide everything. `taken`: names of LoRAs that are being trained. `dataset`: folder instead of the wish's.

        Raises InvalidInput by field, NotFound (character, folder), Conflict (name), Unavailable (no model).
        """
        character = self._characters.get(wish.character_id) if wish.character_id else None
        folder = self._sets.folder(dataset or self.dataset(wish, character))
        config, model, native = self.check(wish, taken=taken, folder=folder)
        family = model.family or ""
        multiple = side_multiple(Path(config.base_model), family)
        draft = _on_multiple(config.complete(family, 12, native_size=native), multiple)
        report = self._sets.report(folder.name, **scan_settings(draft))
        count = len(report.pictures)
        if not count:
            reasons = "; ".join(f"{row['file']}: {row['reason']}" for row in report.skipped[:5])
            raise InvalidInput.field(
                "trainingData",
                f"There is no usable picture in training_data/{folder.name}. {reasons}".strip(),
                remedy="Put PNG, JPEG or WebP pictures into it; 10 to 30 are a good number.",
            )
        trained = max(1, count - config.held_out(count))
        complete = _on_multiple(config.complete(family, trained, native_size=native), multiple)
        _refuse(complete, self._machine())
        if complete.prior_folder and complete.prior_weight:
            self._refuse_empty_prior(complete)
        return Plan(complete, report, model, native, character, without_effect(config, multiple, complete))

    def check(
        self, wish: TrainWish, *, taken: set[str], folder: Path | None = None
    ) -> tuple[TrainingConfig, ModelInfo, int]:
        """Check all that does not depend on the pictures; return (config as said, model, its native size in px).

        Raises InvalidInput by field, NotFound (character, folder of class pictures), Conflict (name), Unavailable (no model).
        """
        character = self._characters.get(wish.character_id) if wish.character_id else None
        model, path = self.base_model(wish.base_model, character)
        if path.is_dir():
            refuse_damaged(path)
        family = model.family or ""
        name = wish.name.strip() if wish.name and wish.name.strip() else None
        if name is not None:
            check_new_name(self._shelf, name, taken)
        else:
            name = self._shelf.free_name(character.name if character else folder.name if folder else "lora", taken)
        config = self._config(wish, character, name, family, path, folder or self._sets.root)
        _refuse(config, self._machine())
        return config, model, native_size(family, model.native_size)

    def dataset(self, wish: TrainWish, character: Character | None) -> str:
        """Return the folder a wish names. Raises InvalidInput when it names none."""
        if wish.training_data:
            return wish.training_data
        guess = plain_name(character.name, "") if character else ""
        if guess and (self._sets.root / guess).is_dir():
            return guess
        raise InvalidInput.field(
            "trainingData",
            "Say which pictures to train with.",
            remedy="Upload pictures, or name a folder in training_data/.",
        )

    def take_pictures(self, wish: TrainWish) -> str | None:
        """Write the pictures that came with the wish into a new training set; return its name, None without any."""
        files = [*wish.files, *(from_base64(wish.images) if wish.images else [])]
        if not files:
            return None
        if wish.training_data:
            return self._sets.add(wish.training_data, files).name
        who = wish.name
        if not who and wish.character_id:
            who = self._characters.get(wish.character_id).name
        return self._sets.add(self._sets.free_name(who or "pictures"), files).name

    def base_models(self) -> list[dict[str, Any]]:
        """Return what can be trained on: {name, label, family, familyLabel, nativeSize, default, note, usable}."""
        rows = []
        for model in self._files.models().values():
            info = model.info
            usable = info.family in FAMILIES and not self._missing(info)
            rows.append(
                {
                    "name": info.name,
                    "label": info.label or info.name,
                    "family": info.family,
                    "familyLabel": FAMILIES[info.family].label if info.family in FAMILIES else None,
                    "nativeSize": native_size(info.family, info.native_size) if info.family in FAMILIES else None,
                    "sizeBytes": info.size_bytes,
                    "default": bool(info.default),
                    "note": info.note,
                    "usable": usable,
                }
            )
        return sorted(rows, key=lambda row: (not row["default"], not row["usable"], row["name"]))

    def base_model(self, wished: str | None, character: Character | None) -> tuple[ModelInfo, Path]:
        """Find the model on this machine. Raises InvalidInput (field baseModel), Unavailable."""
        models = self._files.models()
        name = wished or (character.preferred_model if character else None)
        if not name:
            usable = [m for m in models.values() if m.info.family in FAMILIES and not self._missing(m.info)]
            if not usable:
                raise Unavailable(
                    "There is no model to train on.",
                    remedy="Put a .safetensors checkpoint or a diffusers folder into models/.",
                )
            found = next((m for m in usable if m.info.default), usable[0])
            return found.info, Path(found.path)
        found = models.get(name) or next((m for n, m in models.items() if _plain(n) == _plain(name)), None)
        if found is None:
            raise self._no_model(name, wished, character)
        info: ModelInfo = found.info
        if info.family not in FAMILIES:
            raise InvalidInput.field(
                "baseModel",
                f"'{name}' cannot be trained on. {info.note or 'Its kind is not recognised.'}",
                remedy="Choose another model, or set its family under modelFamilies in the settings.",
            )
        if missing := self._missing(info):
            raise InvalidInput.field(
                "baseModel",
                f"'{name}' lacks parts: {', '.join(missing)}.",
                remedy="Put them into models/ (see models/README.md), or use a diffusers folder.",
            )
        return info, Path(found.path)

    def _no_model(self, name: str, wished: str | None, character: Character | None) -> InvalidInput:
        if any(_plain(lora) == _plain(name) for lora in self._files.loras()):
            return InvalidInput.field(
                "baseModel",
                f"'{name}' is a LoRA. A LoRA is trained on a base model, not on another LoRA.",
                remedy="Choose the model the pictures are drawn with.",
            )
        whose = "" if wished or character is None else f", which {character.name} is drawn with,"
        return InvalidInput.field(
            "baseModel",
            f"The model '{name}'{whose} is not in models/ on this machine.",
            remedy="Put the file there (training cannot read it from a ComfyUI server), or choose another base model.",
        )

    def _missing(self, info: ModelInfo) -> list[str]:
        look = getattr(self._files, "missing_parts", None)
        return list(look(info)) if look is not None else []

    def _config(
        self, wish: TrainWish, character: Character | None, name: str, family: str, model: Path, folder: Path
    ) -> TrainingConfig:
        trigger = wish.trigger_word
        if trigger is None:
            # A LoRA's number only tells it from the ones before: luna-2 has the word of luna.
            other = _NUMBERED.sub("", (wish.name or folder.name).strip())
            trigger = (character.trigger_word if character else None) or self._own_trigger(folder)
            trigger = trigger or suggested_trigger(plain_name(character.name if character else other, "my"))
        params = checked_params(wish.params)
        if isinstance(prior := params.get("prior_folder"), str):
            params["prior_folder"] = str(self._prior(prior, folder)) if prior.strip() else None
        values = {
            **params,
            "name": name,
            "base_model": str(model),
            "family": family,
            "dataset_folder": str(folder),
            "output_folder": str(self._settings.loras_dir),
            "models_folder": str(self._settings.models_dir),
            "character_id": wish.character_id,
            "trigger_word": trigger.strip(),
        }
        try:
            return TrainingConfig.model_validate(values)
        except ValidationError as exc:
            errors = []
            for error in exc.errors(include_url=False, include_input=False, include_context=False):
                where = ".".join(to_camel(str(p)) if isinstance(p, str) else str(p) for p in error["loc"])
                errors.append({"field": _field(where), "message": str(error["msg"]).rstrip(".") + "."})
            detail = f"{errors[0]['field']}: {errors[0]['message']}" if len(errors) == 1 else "Some settings are not acceptable."  # fmt: skip
            raise InvalidInput(detail, errors=errors) from exc

    def _own_trigger(self, folder: Path) -> str:
        return self._sets.own_trigger(folder.name) if folder != self._sets.root else ""

    def _prior(self, name: str, trained: Path) -> Path:
        """Return the folder of the class pictures: a set like the one that is trained, and another one.

        The config of a run on this machine says its whole path: that of a folder in training_data/ is taken, too.
        """
        whole = Path(name.strip())
        inside = whole.is_absolute() and whole.parent in (self._sets.root, self._sets.root.resolve())
        path = self._sets.folder(whole.name if inside else name.strip(), "params.priorFolder")
        if path == trained:
            raise InvalidInput.field(
                "params.priorFolder",
                "These are the pictures that are trained. The class needs pictures of others.",
                remedy="Name another folder in training_data/, or none: a trigger word and a class word are enough.",
            )
        return path

    def _refuse_empty_prior(self, config: TrainingConfig) -> None:
        name = Path(config.prior_folder or "").name
        how = scan_settings(config) | {"trigger_word": "", "masked_loss": False, "repeats": 1}
        if not self._sets.report(name, **how).pictures:
            raise InvalidInput.field(
                "params.priorFolder",
                f"There is no usable picture in training_data/{name}.",
                remedy="Put pictures of the class into it, or name no folder: a trigger word and a class word are enough.",
            )


def _on_multiple(config: TrainingConfig, multiple: int) -> TrainingConfig:
    """Return the config with the bucket step that the trainer takes: one that the model's layers do not round.

    Raises InvalidInput when there is none in the limits.
    """
    step = math.lcm(config.bucket_step or 64, multiple)
    if step > LIMITS["bucket_step"][1]:
        raise InvalidInput.field(
            "params.bucketStep",
            f"Sides must be multiples of {multiple} px for this model, which do not go together with a step of "
            f"{config.bucket_step}.",
            remedy=f"Use {multiple} or a multiple of it.",
        )
    return config.with_(bucket_step=step)


def checked_params(params: dict[str, Any]) -> dict[str, Any]:
    """Return `params` with snake_case keys and without what was not said. Raises InvalidInput for unknown keys."""
    values, errors = {}, []
    for key, value in params.items():
        name = key if key in PARAMS else to_snake(key)
        if name not in PARAMS:
            errors.append({"field": f"params.{key}", "message": "There is no such setting."})
        elif value is not None:
            values[name] = value
    if errors:
        detail = f"{errors[0]['field']}: {errors[0]['message']}" if len(errors) == 1 else "Some settings do not exist."
        raise InvalidInput(detail, errors=errors)
    return values


def scan_settings(config: TrainingConfig) -> dict[str, Any]:
    """Return what a look at the pictures depends on."""
    return {
        "trigger_word": config.trigger_word,
        "class_word": config.class_word,
        "resolution": config.resolution or 512,
        "bucket_step": config.bucket_step or 64,
        "batch_size": config.batch_size or 1,
        "gradient_accumulation": config.gradient_accumulation or 1,
        "repeats": config.repeats,
        "masked_loss": config.masked_loss,
    }


def suggested_trigger(name: str) -> str:
    """Return a word that is unlikely to mean anything already: `luna` -> `luna_character`."""
    word = "".join(c for c in name.lower().replace("-", "_") if c.isalnum() or c == "_").strip("_")
    return f"{word or 'my'}_character"


def _refuse(config: TrainingConfig, machine: Machine) -> None:
    """Raise InvalidInput by field for what cannot be trained at all, or not on this machine."""
    problems, lacking = config.problems(), shortcomings(config, machine)
    found = [{"field": _field(row["field"]), "message": row["message"]} for row in [*problems, *lacking]]
    if found:
        detail = (
            f"{found[0]['field']}: {found[0]['message']}" if len(found) == 1 else "Some settings are not acceptable."
        )
        remedy = " ".join(dict.fromkeys(row["remedy"] for row in lacking))
        raise InvalidInput(detail, errors=found, remedy=remedy or None)


def _field(name: str) -> str:
    return name if name.split(".")[0] in _TOP else f"params.{name}"


def _plain(name: str) -> str:
    return name.replace("\\", "/").rsplit("/", 1)[-1].removesuffix(".safetensors").lower()


def character_of(characters: Characters, id: str | None) -> Character | None:
    """Return a character that may have been deleted meanwhile."""
    if id is None:
        return None
    try:
        return characters.get(id)
    except NotFound:
        return None
