from __future__ import annotations

import pytest

from dalla.errors import InvalidInput
from dalla.records.training import PRESET_NAMES, PRESETS, TrainingConfig, Validation, preset_kind, steps_for


def config(**changes) -> TrainingConfig:
    return TrainingConfig(**{"name": "luna", "base_model": "models/starter", "dataset_folder": "x", **changes})


def fields(**changes) -> set[str]:
    return {row["field"] for row in config(**changes).problems()}


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"rank": 0}, "rank"),
        ({"rank": 257}, "rank"),
        ({"steps": 10**9}, "steps"),
        ({"steps": 0}, "steps"),
        ({"name": "a/b"}, "name"),
        ({"name": "..\\x"}, "name"),
        ({"name": ""}, "name"),
        ({"name": "luna.safetensors"}, "name"),
        ({"base_model": " "}, "baseModel"),
        ({"learning_rate": float("nan")}, "learningRate"),
        ({"learning_rate": -1.0}, "learningRate"),
        ({"learning_rate": float("inf")}, "learningRate"),
        ({"batch_size": 0}, "batchSize"),
        ({"resolution": 100_000}, "resolution"),
        ({"bucket_step": 20}, "bucketStep"),
        ({"caption_dropout": 1.5}, "captionDropout"),
        ({"trigger_word": "a, b"}, "triggerWord"),
        ({"sample_prompts": ["x"] * 9}, "samplePrompts"),
        ({"validation": Validation(fraction=0.9)}, "validation"),
        ({"validation": Validation(timesteps=0)}, "validation"),
        ({"train_text_encoder": True, "text_encoder_learning_rate": 0.0}, "textEncoderLearningRate"),
        ({"processes": 0}, "processes"),
        ({"prior_weight": 1.0}, "priorWeight"),
        ({"prior_weight": 1.0, "trigger_word": "luna"}, "priorWeight"),
        ({"prior_weight": 1.0, "class_word": "woman"}, "priorWeight"),
        ({"use_dora": True, "quantize": "fp8"}, "useDora"),
    ],
)
def test_what_cannot_be_trained_is_told_by_field(changes, field):
    assert fields(**changes) == {field}
    with pytest.raises(InvalidInput) as caught:
        config(**changes).refuse_problems()
    assert caught.value.errors[0]["field"] == field


def test_a_plain_config_has_no_problems():
    assert config().problems() == []
    assert config(max_grad_norm=0.0, seed=2**63 - 1, early_stop=0).problems() == []
    assert config(prior_weight=1.0, trigger_word="luna", class_word="woman").problems() == []
    assert config(prior_weight=1.0, prior_folder="women").problems() == []


@pytest.mark.parametrize("kind", sorted(PRESETS))
@pytest.mark.parametrize("preset", PRESET_NAMES)
@pytest.mark.parametrize("pictures", [1, 12, 300])
def test_every_preset_is_complete_and_trainable(kind, preset, pictures):
    native = 128 if kind == "starter" else 1024
    family = "sd15" if kind == "starter" else kind
    done = config(preset=preset).complete(family, pictures, native_size=native)
    assert done.problems() == []
    unset = {name for name in TrainingConfig.model_fields if getattr(done, name) is None}
    assert unset <= {
        "epochs",
        "shift",
        "prior_folder",
        "sample_prompts",
        "resume_from",
        "character_id",
        "models_folder",
    }
    assert done.alpha == done.rank


def test_the_users_values_win():
    done = config(rank=3, alpha=1.5, steps=7, learning_rate=0.5, ema=False, preset="best").complete("sdxl", 10)
    assert (done.rank, done.alpha, done.steps, done.learning_rate, done.ema) == (3, 1.5, 7, 0.5, False)
    assert (done.save_every, done.validation.every) == (1, 1)


def test_zero_is_a_value_and_not_the_default():
    done = config(sample_every=0, save_every=0, early_stop=0, weight_decay=0.0, warmup=0.0).complete("sd15", 10)
    assert (done.sample_every, done.save_every, done.early_stop, done.weight_decay, done.warmup) == (0, 0, 0, 0, 0)


def test_the_starter_learns_at_a_rate_at_which_big_models_break():
    assert preset_kind("sd15", 128) == "starter" and preset_kind("sd15", 512) == "sd15"
    done = config().complete("sd15", 12, native_size=128)
    assert done.learning_rate >= 1e-3 and done.resolution == 128 and 100 <= done.steps <= 400
    assert config().complete("sd15", 12, native_size=512).learning_rate <= 2e-4


def test_steps_follow_pictures_and_batch_within_limits():
    preset = {"images": 100, "least": 600, "most": 2000}
    assert steps_for(preset, 10, 4) == 250
    assert steps_for(preset, 1, 4) == 150
    assert steps_for(preset, 500, 4) == 500


def test_each_picture_is_shown_as_often_on_several_cards():
    def shown(**changes):
        done = config(preset="balanced", **changes).complete("sd15", 24)
        return done.steps * done.batch_size * done.gradient_accumulation * done.processes

    assert shown() == shown(processes=4) == shown(processes=2, gradient_accumulation=3) == 100 * 24
    assert config(steps=70, processes=4).complete("sd15", 24).steps == 70  # as said
    assert config(processes=4).complete("sd15", 24, native_size=128).steps == 250  # a number of the preset's own


def test_prodigy_gets_a_factor_instead_of_a_rate():
    assert config(optimizer="prodigy").complete("flux", 10).learning_rate == 1.0
    assert config(optimizer="prodigy", learning_rate=0.5).complete("flux", 10).learning_rate == 0.5


@pytest.mark.parametrize(
    ("rates", "text_encoder"),
    [
        ({}, 1.0), ({"learning_rate": 1.0}, 1.0), ({"learning_rate": 0.5}, 0.5),
        ({"text_encoder_learning_rate": 0.2}, 0.2), ({"learning_rate": 0.5, "text_encoder_learning_rate": 0.2}, 0.2),
    ],
)  # fmt: skip
def test_prodigys_factor_is_the_text_encoders_too(rates, text_encoder):
    done = config(optimizer="prodigy", train_text_encoder=True, **rates).complete("sd15", 10)
    assert done.text_encoder_learning_rate == text_encoder
    assert done.learning_rate == rates.get("learning_rate", 1.0)
    adamw = config(train_text_encoder=True, learning_rate=2e-4).complete("sd15", 10)
    assert adamw.text_encoder_learning_rate == 5e-5


def test_epochs_are_left_for_the_set_to_turn_into_steps():
    done = config(epochs=5).complete("sd15", 12, native_size=128)
    assert done.steps is None
    assert done.with_steps(60).steps == 60


@pytest.mark.parametrize(
    ("validation", "pictures", "held"),
    [
        ({}, 7, 0), ({}, 8, 1), ({}, 30, 3), ({"count": 2}, 5, 2), ({"count": 9}, 5, 4), ({"count": 0}, 50, 0),
        ({"fraction": 0.0}, 50, 0), ({"fraction": 0.5}, 1000, 16), ({"count": 1}, 1, 0),
    ],
)  # fmt: skip
def test_how_many_are_held_out(validation, pictures, held):
    assert config(validation=Validation(**validation)).held_out(pictures) == held


def test_survives_json_both_ways():
    done = config(trigger_word="luna", sample_prompts=["a", "b"]).complete("sd15", 12, native_size=128)
    json = done.to_json()
    assert json["learningRate"] == done.learning_rate and json["validation"]["every"] == done.validation.every
    assert TrainingConfig.model_validate(json) == done


def test_no_preset_of_that_name():
    with pytest.raises(InvalidInput):
        config().complete("sd9", 3)
