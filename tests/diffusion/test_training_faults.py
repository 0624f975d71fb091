"""Memory that runs out and numbers that are none: the run ends with the true reason, place and remedy."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")

from dalla.diffusion.training import checkpoints, dataset, export, gradients, report, setup, validation  # noqa: E402
from dalla.diffusion.training import loop as loop_module  # noqa: E402
from dalla.diffusion.training.errors import OutOfMemory  # noqa: E402
from dalla.diffusion.training.events import Events  # noqa: E402
from tests.diffusion.training_kit import load, train  # noqa: E402

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning:peft.*"),
]
HELD_OUT = {"count": 1, "every": 1, "timesteps": 2, "noises": 2}


def full(*args: Any, **options: Any) -> Any:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


def full_above(largest: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let there be memory for so many questions at once; the steps have enough."""
    honest = setup.Loaded.predict

    def predict(self: Any, noised: Any, condition: Any, sizes: Any) -> Any:
        if not torch.is_grad_enabled() and len(noised.noisy) > largest:
            full()
        return honest(self, noised, condition, sizes)

    monkeypatch.setattr(setup.Loaded, "predict", predict)


# ---------------------------------------------------------------- memory


@pytest.mark.parametrize(
    ("owner", "name", "words", "remedy"),
    [
        (setup, "family_of", "while the base model was loaded", "smaller base model"),
        (dataset, "_encode", "while the pictures were encoded", "Lower the resolution (now 64)"),
        (dataset.Texts, "prepare", "while the captions were encoded", "smaller base model"),
        (setup, "Adapters", "while the model was made ready for training", "quantise"),
        (validation.Questions, "_batch", "taken before the first step, one picture at a time", "validation count 0"),
        (checkpoints, "state_of", "while the checkpoint of step 1 was written", "resume the run"),
        (report, "measure", "was measured, after all 2 steps", "checkpoints are kept"),
        (export, "publish", "written and checked, after all 2 steps", "checkpoints are kept"),
    ],
)
def test_memory_that_runs_out_is_told_with_its_place(
    model: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    owner: Any, name: str, words: str, remedy: str,
) -> None:  # fmt: skip
    whole = getattr(owner, name)

    class Family:
        def __init__(self, name: str) -> None:
            self._family = whole(name)

        def __getattr__(self, name: str) -> Any:
            return full if name == "load_pipeline" else getattr(self._family, name)

    monkeypatch.setattr(owner, name, Family if name == "family_of" else full)
    options: dict[str, Any] = {"validation": {"count": 1, "every": 1}, "save_every": 1}
    ran = train(model, pictures, tmp_path, **options)
    assert ran.code == 3 and ran.last["code"] == "out_of_memory"
    assert words in ran.last["detail"] and "2.00 GiB" in ran.last["detail"]
    assert remedy in ran.last["remedy"] and "now 0" not in ran.last["remedy"]
    assert "smallest batches" not in ran.last["detail"]
    assert not list((tmp_path / "loras").glob("*.safetensors"))
    if "checkpoints are kept" in remedy:  # then it is true that the run goes on from there
        monkeypatch.setattr(owner, name, whole)
        again = train(model, pictures, tmp_path, resume_from=str(tmp_path / "run"), **options)
        assert again.of("ready")[0]["startStep"] == 2 and again.lora.is_file()


def test_every_place_has_whole_sentences() -> None:
    from dalla.diffusion.training.errors import _AT

    for doing in [*_AT, "steps", "start", "something new"]:
        for step, resolution in ((0, 0), (7, 512)):
            exc = OutOfMemory(step, "no room", resolution, doing)
            told = f"{exc.detail} {exc.remedy}"
            assert not re.search(r"[{}]|now 0|  ", told), told
            assert exc.remedy is not None and exc.remedy[0].isupper() and exc.remedy.endswith(".")
    assert "after step 7" in OutOfMemory(7, "no room", 512, "steps").detail
    assert "at step 8, also with the smallest batches" in OutOfMemory(7, "no room", 512).detail


def test_the_held_out_loss_is_taken_in_smaller_batches_when_memory_runs_out(
    model: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {"batch_size": 4, "validation": HELD_OUT}
    whole = train(model, pictures, tmp_path / "a", **options)
    full_above(1, monkeypatch)
    small = train(model, pictures, tmp_path / "b", **options)
    assert small.code == 0, small.last
    told = small.of("ladder")
    assert [e["action"] for e in told] == ["validation_split", "validation_split"]
    assert "2 at a time" in told[0]["detail"] and "1 at a time" in told[1]["detail"]
    losses = [[e["loss"] for e in ran.of("validation")] for ran in (whole, small)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-4) and len(losses[0]) == 3


def test_no_question_is_lost_or_asked_twice_when_batches_get_smaller(
    model: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = load(model, pictures, tmp_path, batch_size=5)
    questions = validation.Questions(loaded, loaded.train, timesteps=1, noises=1)
    whole = questions.ask()
    full_above(3, monkeypatch)
    split: list[int] = []
    few = validation.Questions(loaded, loaded.train, timesteps=1, noises=1, on_split=split.append).ask()
    assert split == [2] and few.losses.keys() == whole.losses.keys()
    for file, row in whole.losses.items():
        assert few.losses[file] == pytest.approx(row, rel=1e-4)


# ---------------------------------------------------------------- no numbers


@pytest.fixture
def a_card_that_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loss is looked at as on a graphics card, and no step line is due before the last."""
    monkeypatch.setattr(loop_module, "looks_always", lambda device: False)
    monkeypatch.setattr(Events, "due", lambda self: False)


@pytest.mark.parametrize("when", ["checkpoint", "validation", "samples", "save on request"])
@pytest.mark.parametrize("what", ["loss", "update"])
@pytest.mark.usefixtures("a_card_that_is_not_asked")
def test_what_is_no_number_is_found_before_anything_is_made_of_it(
    model: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str, what: str
) -> None:
    honest = gradients.item_losses

    def broken(prediction: Any, target: Any, mask: Any = None) -> Any:
        calls.append(1)
        losses = honest(prediction, target, mask)
        if len(calls) != 3:
            return losses
        # Once only: a loss that is none, or one whose gradient is none (a root at 0).
        return losses * float("nan") if what == "loss" else losses + (prediction.flatten(1).mean(1) * 0).sqrt()

    calls: list[int] = []
    monkeypatch.setattr(gradients, "item_losses", broken)
    options: dict[str, Any] = {
        "checkpoint": {"save_every": 3},
        "validation": {"validation": {"count": 1, "every": 3}},
        "samples": {"sample_every": 3, "sample_steps": 1},
        "save on request": {},
    }[when]
    controls = None
    if when == "save on request":

        class Save(loop_module.Controls):
            def poll(self) -> set[str]:
                return {"save"} if len(calls) == 3 else set()

        (tmp_path / "run").mkdir()
        controls = Save(tmp_path / "run")
    ran = train(model, pictures, tmp_path, controls, steps=9, **options)
    assert ran.code == 4 and ran.last["code"] == "non_finite", ran.last
    assert f"The {what} of step 3 " in ran.last["detail"] and ran.last["remedy"]
    assert checkpoints.steps(tmp_path / "run") == []
    assert {e["step"] for e in [*ran.of("sample"), *ran.of("validation")]} <= {0}
