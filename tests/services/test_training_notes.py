"""What the estimate says of a training is what the trainer does: buckets, settings without effect, measured memory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dalla.errors import InvalidInput
from dalla.records.training import TrainingConfig
from dalla.services.training_estimate import Estimates
from dalla.services.training_notes import without_effect
from dalla.services.training_plan import TrainWish
from dalla.services.training_runs import RunState
from dalla.training_set import SetReport
from tests.services.training_world import World


@pytest.fixture
def world(container: Any) -> Any:
    return World(container)


def sd15(world: World, name: str = "photo", factors: int = 4) -> str:
    """A folder with the configs of Stable Diffusion 1.5 (sides are multiples of 64 px), without weights."""
    folder = Path(world.container.settings.models_dir) / name
    for part in ("vae", "unet"):
        (folder / part).mkdir(parents=True)
        config = {"block_out_channels": [8] * factors, "sample_size": 64}
        (folder / part / "config.json").write_text(json.dumps(config))
    (folder / "model_index.json").write_text('{"_class_name": "StableDiffusionPipeline"}')
    return name


def notes(found: dict[str, Any]) -> dict[str, str]:
    return {row["field"]: row["message"] for row in found["checks"] if row["level"] == "note"}


# ---------------------------------------------------------------- buckets


@pytest.mark.parametrize(("said", "trained"), [({"bucketStep": 32}, 64), ({"bucketStep": 48}, 192), ({}, 64)])
def test_the_preview_has_the_buckets_that_are_trained(world: World, said: dict[str, int], trained: int) -> None:
    wish = TrainWish(training_data=world.pictures(), base_model=sd15(world), params=said)
    found = world.training.estimate(wish)
    assert found["config"]["bucketStep"] == trained
    assert all(side % trained == 0 for row in found["images"] for side in row["bucket"])
    assert ("params.bucketStep" in notes(found)) is bool(said)
    if said:
        assert f"from {said['bucketStep']} to {trained} px" in notes(found)["params.bucketStep"]


def test_the_presets_step_is_raised_too_and_not_told(world: World) -> None:
    wish = TrainWish(training_data=world.pictures(), base_model=sd15(world), params={"resolution": 256})
    found = world.training.estimate(wish)
    assert found["config"]["bucketStep"] == 64 and not notes(found)
    assert all(side % 64 == 0 for row in found["images"] for side in row["bucket"])


def test_a_step_that_no_bucket_could_have_is_refused(world: World) -> None:
    wish = TrainWish(training_data=world.pictures(), base_model=sd15(world), params={"bucketStep": 72})
    with pytest.raises(InvalidInput) as caught:
        world.training.estimate(wish)
    assert [row["field"] for row in caught.value.errors] == ["params.bucketStep"] and "64" in caught.value.detail


def test_a_model_that_is_cut_off_is_told_before_the_start(world: World) -> None:
    name = sd15(world)
    folder = Path(world.container.settings.models_dir) / name
    (folder / "model_index.json").write_text('{"_class_name": "StableDiffusionPipeline", "vae": ["diffusers", "A"]}')
    (folder / "vae" / "diffusion_pytorch_model.safetensors").write_bytes(b"cut")
    wish = TrainWish(training_data=world.pictures(), base_model=name)
    for ask in (world.training.estimate, world.training.start):
        with pytest.raises(InvalidInput, match="vae/diffusion_pytorch_model.safetensors") as caught:
            ask(wish)
        assert [row["field"] for row in caught.value.errors] == ["baseModel"]


# ---------------------------------------------------------------- settings without effect


def told(family: str, **said: Any) -> set[str]:
    config = TrainingConfig(name="a", base_model="b", dataset_folder="c", **said)
    return {row["field"].removeprefix("params.") for row in without_effect(config, 16, config.complete(family, 12))}


@pytest.mark.parametrize(
    ("said", "noted"),
    [
        ({"shift": 3.0}, {"sd15": {"shift"}, "sdxl": {"shift"}}),
        ({"timestep_sampling": "uniform"}, {"sd15": {"timestepSampling"}, "sdxl": {"timestepSampling"}}),
        ({"timestep_sampling": "uniform", "shift": 2.0}, {"sd3": {"shift"}, "sd15": {"shift", "timestepSampling"}}),
        ({"min_snr_gamma": 5.0}, {"sd3": {"minSnrGamma"}, "flux": {"minSnrGamma"}, "sdxl": set()}),
        ({"noise_offset": 0.1}, {"sd3": {"noiseOffset"}, "flux": {"noiseOffset"}, "sd15": set()}),
        ({"conv_rank": 4}, {"flux": {"convRank"}, "sdxl": set()}),
        ({"prior_folder": "/x"}, {"sd15": {"priorFolder"}, "flux": {"priorFolder"}}),
        ({"prior_folder": "/x", "prior_weight": 1.0}, {"sd15": set()}),
        ({"text_encoder_learning_rate": 1e-4}, {"sdxl": {"textEncoderLearningRate"}}),
        ({"text_encoder_learning_rate": 1e-4, "train_text_encoder": True}, {"sdxl": set()}),
        ({"keep_tokens": 3}, {"sd15": {"keepTokens"}}),
        ({"keep_tokens": 3, "shuffle_captions": True}, {"sd15": set()}),
        # What changes nothing is no news: the common values, and what switches off.
        ({"min_snr_gamma": 0.0, "noise_offset": 0.0, "keep_tokens": 1, "conv_rank": 0}, {"sd3": set(), "flux": set()}),
        ({"text_encoder_learning_rate": 5e-5, "timestep_sampling": "auto"}, {"sd15": set(), "flux": set()}),
        ({}, {"sd15": set(), "sdxl": set(), "sd3": set(), "flux": set()}),
    ],
)
def test_what_changes_nothing_is_told_by_its_field(said: dict[str, Any], noted: dict[str, set[str]]) -> None:
    assert {family: told(family, **said) for family in noted} == noted


def test_the_estimate_tells_it_and_stops_nothing(world: World) -> None:
    wish = TrainWish(training_data=world.pictures(), params={"shift": 3.0, "noiseOffset": 0.1})
    found = world.training.estimate(wish)
    assert list(notes(found)) == ["params.shift"] and "flow matching" in notes(found)["params.shift"]
    assert world.training.start(wish).status == "queued"


# ---------------------------------------------------------------- measured memory


BASE = {"name": "a", "base_model": "b", "dataset_folder": "c", "family": "sd15", "steps": 10, "batch_size": 2}


def config(**more: Any) -> TrainingConfig:
    return TrainingConfig(**{**BASE, **more}).complete("sd15", 12, native_size=512)


def learned(tmp_path: Path, *, ladder: bool = False, **more: Any) -> Estimates:
    estimates = Estimates(tmp_path, dict)
    state = RunState(metrics=[{"stepsPerSecond": 2.0, "memoryBytes": 123_456_789}] * 8)
    state.ladder += [{"action": "split"}] if ladder else []
    estimates.learn(config(**more), 512, state, start_seconds=1.0)
    return estimates


def bases(estimates: Estimates, **more: Any) -> tuple[str, str]:
    found = estimates.estimate(config(**more), 512, SetReport(folder="c"))
    return found["memory"]["basis"], found["time"]["basis"]


def test_the_memory_of_a_run_is_that_of_the_same_settings(tmp_path: Path) -> None:
    estimates = learned(tmp_path)
    assert bases(estimates) == ("measured", "measured")
    assert bases(estimates, gradient_accumulation=2)[0] == "measured"  # one after the other: no more at a time
    for other in (
        {"rank": 64}, {"conv_rank": 8}, {"mixed_precision": "no"}, {"optimizer": "adafactor"}, {"ema": True},
    ):  # fmt: skip
        assert bases(estimates, **other) == ("table", "measured"), other
    for other in ({"use_dora": True}, {"prior_weight": 1.0, "prior_folder": "/x"}, {"batch_size": 4}):
        assert bases(estimates, **other) == ("table", "scaled"), other


def test_pictures_one_after_the_other_are_not_pictures_at_once(tmp_path: Path) -> None:
    estimates = learned(tmp_path, batch_size=1, gradient_accumulation=4)
    assert bases(estimates, batch_size=4) == ("table", "measured")


def test_what_memory_ran_out_in_is_no_measure_of_need(tmp_path: Path) -> None:
    assert bases(learned(tmp_path, ladder=True)) == ("table", "measured")


def test_runs_of_another_kind_are_kept_beside_each_other(tmp_path: Path) -> None:
    estimates = learned(tmp_path)
    learned(tmp_path, rank=64)
    learned(tmp_path)
    assert len(json.loads((tmp_path / "training_speeds.json").read_text())) == 2
    assert bases(estimates)[0] == bases(estimates, rank=64)[0] == "measured"
