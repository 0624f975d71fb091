"""Settings that were asked for and change nothing in this training: told before the start, each by its field."""

from __future__ import annotations

from collections.abc import Iterable

from pydantic.alias_generators import to_camel

from dalla.records.family import FAMILIES
from dalla.records.training import COMMON, TrainingConfig

#: Families that learn by flow matching: straight lines from noise to picture, without a schedule of betas.
FLOW = ("sd3", "flux")


def without_effect(said: TrainingConfig, multiple: int, decided: TrainingConfig) -> list[dict[str, str]]:
    """Return {field, message} for what was set and does nothing, or not what it says.

    `said` is the config as asked for, `decided` the complete one; sides of pictures are multiples of `multiple` px.
    """
    family = decided.family or "sd15"
    label = FAMILIES[family].label
    flow = family in FLOW
    found = []

    def tell(field: str, message: str) -> None:
        found.append({"field": f"params.{to_camel(field)}", "message": message})

    if said.prior_folder and not decided.prior_weight:
        tell("prior_folder", "The class pictures are not used: the prior weight is 0.")
    if not flow and said.shift is not None:
        tell("shift", f"The shift is not used: {label} does not learn by flow matching.")
    if not flow and said.timestep_sampling != "auto":
        tell("timestep_sampling", f"The choice of timesteps is not used: {label} draws them all equally often.")
    if flow and said.min_snr_gamma:
        tell(
            "min_snr_gamma",
            f"Min-SNR is not used: {label} learns by flow matching, where each noise level counts alike.",
        )
    if flow and said.noise_offset:
        tell("noise_offset", f"The noise offset is not used: {label} learns by flow matching.")
    if flow and said.conv_rank:
        tell("conv_rank", f"The convolution rank is not used: {label} has no convolution layers to train.")
    if decided.timestep_sampling == "uniform" and flow and said.shift is not None:
        tell("shift", "The shift is not used for training: 'uniform' draws the noise levels evenly.")
    rate = said.text_encoder_learning_rate
    if rate not in (None, COMMON["text_encoder_learning_rate"]) and not said.train_text_encoder:
        tell("text_encoder_learning_rate", "The text encoder is not trained, so its learning rate is not used.")
    if said.keep_tokens != TrainingConfig.model_fields["keep_tokens"].default and not said.shuffle_captions:
        tell("keep_tokens", "The captions are not shuffled, so all their words stay where they are.")
    if said.bucket_step and decided.bucket_step != said.bucket_step:
        tell(
            "bucket_step",
            f"The step is raised from {said.bucket_step} to {decided.bucket_step} px: sides must be multiples of {multiple} "
            "px for this model.",
        )
    return found


def as_checks(notes: Iterable[dict[str, str]]) -> list[dict[str, str | None]]:
    """Return the notes in the form of the estimate's other checks: {code, level, message, fix, field}."""
    return [
        {"code": "no_effect" if note["field"] != "params.bucketStep" else "step_raised", "level": "note", "message": note["message"],
         "fix": None, "field": note["field"]}
        for note in notes
    ]  # fmt: skip
