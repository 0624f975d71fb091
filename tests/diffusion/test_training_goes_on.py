"""A run that goes on: its base pictures, a best checkpoint that is gone, pictures on request, the early stop."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")

from safetensors.torch import load_file  # noqa: E402

from dalla.diffusion.training import checkpoints, resemblance, samples, validation  # noqa: E402
from tests.diffusion.training_kit import AskAt, Ran, train  # noqa: E402

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning:peft.*"),
]
SAMPLES: dict[str, Any] = {"sample_every": 2, "sample_steps": 1, "sample_prompts": ["zorvex"]}
EVERY = {"count": 1, "every": 1, "noises": 2}


@pytest.fixture(autouse=True)
def every_step_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dalla.diffusion.training.events.STEP_LINES_PER_SECOND", 1e12)


@pytest.fixture
def readings(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Held-out losses in the order they are taken, one for all questions or a list of one for each: the base model's, then
    the steps'. After the last one: 0.9."""
    left: list[Any] = []

    def ask(self: validation.Questions) -> validation.Reading:
        loss = left.pop(0) if left else 0.9
        losses = loss if isinstance(loss, list) else [loss] * self._timesteps * self._noises
        return validation.Reading({example.file: losses for example in self._examples})

    monkeypatch.setattr(validation.Questions, "ask", ask)
    return left


def stopped_at(step: int, model: Path, pictures: Path, root: Path, **options: Any) -> Ran:
    (root / "run").mkdir(parents=True)
    ran = train(model, pictures, root, AskAt(root / "run", {step: "cancel"}), **options)
    assert ran.last["event"] == "cancelled" and ran.last["step"] == step
    (root / "run" / "cancel").unlink()
    return ran


def same(one: Path, other: Path) -> bool:
    a, b = load_file(one), load_file(other)
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


# ---------------------------------------------------------------- the base model's pictures


def test_base_pictures_that_are_gone_or_damaged_are_drawn_again(model: Path, pictures: Path, tmp_path: Path) -> None:
    options = {"steps": 2, **SAMPLES}
    stopped_at(1, model, pictures, tmp_path, **options)
    folder = tmp_path / "run" / "samples"
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert sorted(before) == ["step_000000_0.png", "step_000000_1.png"]
    (folder / "step_000000_0.png").unlink()
    (folder / "step_000000_1.png").write_bytes(before["step_000000_1.png"][:60])
    ran = train(model, pictures, tmp_path, resume_from=str(tmp_path / "run"), **options)
    assert {name: (folder / name).read_bytes() for name in before} == before
    assert [(e["step"], e["index"]) for e in ran.of("sample")] == [(0, 0), (0, 1), (2, 0), (2, 1)]
    assert ran.last["report"]["pictures"]["similarity"]


def test_other_prompts_have_base_pictures_of_their_own(model: Path, pictures: Path, tmp_path: Path) -> None:
    stopped_at(1, model, pictures, tmp_path, steps=2, **SAMPLES)
    folder = tmp_path / "run" / "samples"
    before = (folder / "step_000000_0.png").read_bytes()
    options = {**SAMPLES, "sample_prompts": ["zorvex by the sea"], "sample_seed": 7}
    ran = train(model, pictures, tmp_path, steps=2, resume_from=str(tmp_path / "run"), **options)
    assert [e["prompt"] for e in ran.of("sample") if e["step"] == 0] == ["zorvex by the sea", "by the sea"]
    assert (folder / "step_000000_0.png").read_bytes() != before
    assert ran.last["report"]["pictures"]["drift"]["withTrigger"] is not None


def test_a_run_that_goes_on_with_samples_compares_with_the_base_model(
    model: Path, pictures: Path, tmp_path: Path
) -> None:
    stopped_at(1, model, pictures, tmp_path, steps=2)  # it drew none
    ran = train(model, pictures, tmp_path, steps=2, resume_from=str(tmp_path / "run"), **SAMPLES)
    assert [e["step"] for e in ran.of("sample")] == [0, 0, 2, 2]
    whole = train(model, pictures, tmp_path / "whole", steps=2, **SAMPLES)
    assert ran.last["report"]["pictures"]["similarity"] == whole.last["report"]["pictures"]["similarity"]


def test_how_like_the_training_pictures_the_samples_are_is_told_step_by_step(
    model: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = train(model, pictures, tmp_path / "a", steps=4, **SAMPLES)
    told = {event["step"]: event["pictures"] for event in ran.of("resemblance")}
    assert sorted(told) == [0, 2, 4] and len(set(told.values())) > 1
    similarity = ran.last["report"]["pictures"]["similarity"]
    assert told[0] == pytest.approx(similarity["base"], abs=2e-4)
    assert told[4] == pytest.approx(similarity["lora"], abs=2e-4)
    assert ran.of("resemblance")[0]["training"] == {"pictures": similarity["trainingAmongThemselves"], "faces": None}
    assert all(event["faces"] is None for event in ran.of("resemblance"))  # no photographs of a person

    def broken(*args: Any) -> Any:
        raise RuntimeError("no such kernel")

    monkeypatch.setattr(resemblance.Resemblance, "of", broken)
    ran = train(model, pictures, tmp_path / "b", steps=2, **{**SAMPLES, "sample_every": 1})
    assert not ran.of("resemblance") and [e["step"] for e in ran.of("step")] == [1, 2]


# ---------------------------------------------------------------- pictures on request


def test_pictures_are_drawn_on_request_also_when_the_run_draws_none(
    model: Path, pictures: Path, tmp_path: Path
) -> None:
    (tmp_path / "run").mkdir()
    ran = train(model, pictures, tmp_path, AskAt(tmp_path / "run", {1: "sample"}), steps=3, sample_steps=1)
    drawn = ran.of("sample")
    assert ran.code == 0 and {e["step"] for e in drawn} == {1}
    assert [e["prompt"] for e in drawn][:2] == ["zorvex, a cat, number 0", "a cat, number 0"]  # two captions
    assert {e["withTrigger"] for e in drawn} == {True, False}
    assert all((tmp_path / "run" / e["file"]).is_file() for e in drawn) and not ran.of("warning")


def test_no_memory_for_pictures_ends_the_pictures_not_the_run(
    model: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest, broken = samples.Sampler.draw, {"now": True}

    def draw(self: Any, *args: Any, **options: Any) -> Any:
        calls.append(1)
        if broken["now"]:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return honest(self, *args, **options)

    class Later(AskAt):
        def poll(self) -> set[str]:
            asked = super().poll()
            if "sample" in asked and "sample" not in first:
                first.append("sample")
            elif "sample" in asked:
                broken["now"] = False  # somebody has closed another program
            return asked

    calls: list[int] = []
    first: list[str] = []
    monkeypatch.setattr(samples.Sampler, "draw", draw)
    (tmp_path / "run").mkdir()
    controls = Later(tmp_path / "run", {2: "sample", 3: "sample"})
    ran = train(model, pictures, tmp_path, controls, steps=4, **{**SAMPLES, "sample_every": 1})
    assert ran.code == 0 and ran.lora.is_file()
    assert [e["action"] for e in ran.of("ladder")] == ["no_samples"]
    told = [e for e in ran.of("warning") if e["code"] == "no_memory_for_samples"]
    assert len(told) == 1 and "step 2" in told[0]["detail"] and told[0]["remedy"]
    assert {e["step"] for e in ran.of("sample")} == {3}  # asked for once more, when there was memory
    assert len(calls) == 4  # step 0, step 2 on request, and two prompts at step 3: none at the steps between
    assert "similarity" not in ran.last["report"]["pictures"]


def test_no_memory_for_the_last_pictures_does_not_cost_the_lora(
    model: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, readings: list[float]
) -> None:
    honest = samples.Sampler.draw

    def draw(self: Any, *args: Any, **options: Any) -> Any:
        calls.append(1)
        if len(calls) > 4:  # step 0 and the last one are drawn, the delivered step is not
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return honest(self, *args, **options)

    calls: list[int] = []
    readings += [0.9, 0.2, 0.5]
    monkeypatch.setattr(samples.Sampler, "draw", draw)
    ran = train(model, pictures, tmp_path, steps=2, validation=EVERY, **SAMPLES)
    assert ran.code == 0 and ran.last["step"] == 1 and ran.lora.is_file()
    assert [e["action"] for e in ran.of("ladder")] == ["no_samples"]


# ---------------------------------------------------------------- the best checkpoint


@pytest.mark.parametrize("harm", ["deleted", "damaged"])
def test_a_run_goes_on_without_its_best_checkpoint(
    model: Path, pictures: Path, tmp_path: Path, readings: list[float], harm: str
) -> None:
    options: dict[str, Any] = {"steps": 6, "validation": EVERY}
    readings += [0.9, 0.8, 0.3, 0.5]
    stopped_at(3, model, pictures, tmp_path, **options)
    run = tmp_path / "run"
    best = checkpoints.folder_of(run, 2)
    assert best.is_dir()
    if harm == "deleted":
        shutil.rmtree(best)
    else:
        (best / checkpoints.STATE).write_bytes((best / checkpoints.STATE).read_bytes()[:500])
    readings += [0.9, 0.6, 0.7, 0.8]
    ran = train(model, pictures, tmp_path, resume_from=str(run), **options)
    assert ran.code == 0, ran.last
    told = next(e for e in ran.of("warning") if e["code"] == "best_lost")
    assert "step 2" in told["detail"] and told["remedy"]
    marked = ran.of("checkpoint")[0]
    assert marked["best"] and marked["step"] == 3 and (run / marked["file"]).is_file()
    assert ran.last["step"] == 3  # the lowest of those that are left
    assert same(ran.lora, run / marked["file"])
    reason = ran.last["report"]["verdict"]["reason"]
    assert "lowest at step 3" in reason and "At step 2 it was lower" in reason


@pytest.mark.parametrize("lost", [False, True])
def test_an_average_that_goes_on_leaves_the_best_as_it_was(
    model: Path, pictures: Path, tmp_path: Path, readings: list[float], lost: bool
) -> None:
    options: dict[str, Any] = {"steps": 5, "validation": EVERY, "ema": True}
    readings += [0.9, 0.2, 0.4] if lost else [0.9, 0.6, 0.4]
    stopped_at(2, model, pictures, tmp_path, **options)
    run = tmp_path / "run"
    if lost:  # then the best is what the run goes on from
        shutil.rmtree(checkpoints.folder_of(run, 1))
    [best] = checkpoints.folder_of(run, 2).glob("*.safetensors")
    readings += [0.9, 0.6, 0.7, 0.8]
    ran = train(model, pictures, tmp_path, resume_from=str(run), **options)
    assert ran.code == 0 and ran.last["step"] == 2 and same(ran.lora, best)


def test_without_any_reading_of_its_own_the_next_one_is_the_best(
    model: Path, pictures: Path, tmp_path: Path, readings: list[float]
) -> None:
    options: dict[str, Any] = {"steps": 6, "validation": {**EVERY, "every": 2}, "early_stop": 1}
    readings += [0.9, 0.3]
    stopped_at(3, model, pictures, tmp_path, **options)
    shutil.rmtree(checkpoints.folder_of(tmp_path / "run", 2))
    readings += [0.9, 0.6, 0.7]
    ran = train(model, pictures, tmp_path, resume_from=str(tmp_path / "run"), **options)
    assert ran.code == 0 and not ran.last["report"]["stoppedEarly"]  # 0.6 is no worse than what is left
    assert ran.last["step"] == 4 and "At step 2 it was lower" in ran.last["report"]["verdict"]["reason"]


# ---------------------------------------------------------------- the early stop


def test_a_held_out_loss_that_rises_stops_the_run_and_the_best_is_delivered(
    model: Path, pictures: Path, tmp_path: Path, readings: list[float]
) -> None:
    readings += [0.9, 0.5, 0.4, 0.6, 0.45, 0.8]
    ran = train(model, pictures, tmp_path, steps=8, validation=EVERY, early_stop=2)
    assert ran.code == 0, ran.last
    assert [e["step"] for e in ran.of("step")][-1] == 4  # two readings without a new lowest
    told = [e for e in ran.of("warning") if e["code"] == "early_stop"]
    assert (
        len(told) == 1
        and "lowest at step 2" in told[0]["detail"]
        and "2 times" in told[0]["detail"]
        and told[0]["remedy"]
    )
    report = ran.last["report"]
    assert (report["stoppedEarly"], report["steps"], report["step"], ran.last["step"]) == (True, 4, 2, 2)
    assert ran.last["best"] is True and report["verdict"]["recommendedStep"] == 2
    assert checkpoints.steps(tmp_path / "run")[-1] == 4  # where it stopped, to go on from
    best = next(e["file"] for e in ran.of("checkpoint") if e["step"] == 2)
    assert same(ran.lora, tmp_path / "run" / best)
    last = next(e["file"] for e in ran.of("checkpoint") if e["step"] == 4)
    assert not same(ran.lora, tmp_path / "run" / last)


def test_what_the_noise_explains_does_not_stop_the_run(
    model: Path, pictures: Path, tmp_path: Path, readings: list[Any]
) -> None:
    readings += [0.9, [0.2, 0.6], [0.5, 0.4], [0.45, 0.4], [0.4, 0.5], [0.55, 0.35]]  # the first is the lowest
    ran = train(model, pictures, tmp_path, steps=5, validation=EVERY, early_stop=1)
    assert [e["step"] for e in ran.of("step")][-1] == 5 and not ran.last["report"]["stoppedEarly"]
    assert ran.last["step"] == 5 and "which the noise" in ran.last["report"]["verdict"]["reason"]


def test_without_early_stop_all_steps_are_taken(
    model: Path, pictures: Path, tmp_path: Path, readings: list[float]
) -> None:
    readings += [0.9, 0.5, 0.6, 0.7, 0.8]
    ran = train(model, pictures, tmp_path, steps=4, validation=EVERY, early_stop=0)
    assert [e["step"] for e in ran.of("step")][-1] == 4 and not ran.last["report"]["stoppedEarly"]
    assert ran.last["step"] == 1
