"""Runs that are taken up with other settings, and what is asked of a run while it is still getting ready."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("peft")
from PIL import Image  # noqa: E402

from dalla.diffusion.training import checkpoints  # noqa: E402
from dalla.diffusion.training.events import Controls  # noqa: E402
from dalla.diffusion.training.export import check_name  # noqa: E402
from dalla.diffusion.training.run import run  # noqa: E402
from tests.diffusion.training_kit import AskAt, Ran, config, train  # noqa: E402

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning:peft.*"),
]


@pytest.fixture(autouse=True)
def every_step_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dalla.diffusion.training.events.STEP_LINES_PER_SECOND", 1e12)


def stopped_at(step: int, model: Path, pictures: Path, root: Path, **options: Any) -> None:
    (root / "run").mkdir(parents=True)
    ran = train(model, pictures, root, AskAt(root / "run", {step: "cancel"}), **options)
    assert ran.last["event"] == "cancelled" and ran.last["step"] == step
    (root / "run" / "cancel").unlink()


def told(ran: Ran, code: str) -> list[str]:
    return [event["detail"] for event in ran.of("warning") if event["code"] == code]


def test_another_optimizer_begins_with_nothing_to_remember(model: Path, pictures: Path, tmp_path: Path) -> None:
    stopped_at(2, model, pictures, tmp_path, steps=4)
    again = {"steps": 4, "resume_from": str(tmp_path / "run")}
    ran = train(model, pictures, tmp_path, optimizer="prodigy", learning_rate=1.0, **again)
    assert ran.code == 0, ran.last
    assert [step for step, _ in ran.losses] == [3, 4]
    [changed] = told(ran, "changed")
    assert "optimizer adamw to prodigy" in changed


def test_what_decides_a_run_and_was_changed_is_told(model: Path, pictures: Path, tmp_path: Path) -> None:
    stopped_at(2, model, pictures, tmp_path, steps=4)
    same = train(model, pictures, tmp_path, steps=3, learning_rate=5e-3, resume_from=str(tmp_path / "run"))
    assert told(same, "changed") == []  # what may be changed at any time
    ran = train(model, pictures, tmp_path, steps=4, seed=7, batch_size=1, resume_from=str(tmp_path / "run"))
    [changed] = told(ran, "changed")
    assert ran.code == 0 and "batchSize 2 to 1" in changed and "seed 0 to 7" in changed


def test_an_average_that_is_switched_on_later_is_one_of_what_was_learned(
    model: Path, pictures: Path, tmp_path: Path
) -> None:
    stopped_at(2, model, pictures, tmp_path, steps=3, ema=False)
    before = checkpoints.load(tmp_path / "run")[1]["values"]
    ran = train(model, pictures, tmp_path, steps=3, ema=True, resume_from=str(tmp_path / "run"))
    assert ran.code == 0 and "ema False to True" in told(ran, "changed")[0]
    state = checkpoints.load(tmp_path / "run")[1]
    share = 4 / 13  # of what it was, after three steps (adapters.Average)
    assert any(before[name].any() for name in before if ".lora_B" in name)
    for name, value in state["average"].items():
        assert torch.allclose(value, before[name].lerp(state["values"][name], 1 - share), atol=1e-6), name


def test_readings_of_other_questions_are_not_compared(model: Path, pictures: Path, tmp_path: Path) -> None:
    before = {"count": 1, "every": 1, "noises": 2}
    stopped_at(2, model, pictures, tmp_path, steps=4, validation=before)
    ran = train(
        model, pictures, tmp_path, steps=4, validation={**before, "noises": 3}, resume_from=str(tmp_path / "run")
    )
    assert ran.code == 0, ran.last
    assert len(told(ran, "other_readings")) == 1
    assert [row["step"] for row in ran.last["report"]["history"]] == [3, 4]


def test_readings_of_changed_pictures_are_not_compared(model: Path, pictures: Path, tmp_path: Path) -> None:
    every = {"count": 1, "every": 1, "noises": 2}
    stopped_at(2, model, pictures, tmp_path, steps=4, validation=every)
    for text in pictures.glob("*.txt"):
        text.write_text(text.read_text() + ", at night")
    ran = train(model, pictures, tmp_path, steps=3, validation=every, resume_from=str(tmp_path / "run"))
    assert (
        ran.code == 0 and len(told(ran, "other_readings")) == 1 and "captions have changed" in told(ran, "changed")[0]
    )


def test_what_is_asked_before_the_first_step_is_done_as_soon_as_it_can_be(
    model: Path, pictures: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "save").touch()
    (run / "sample").touch()
    ran = train(model, pictures, tmp_path, Controls(run), steps=3, sample_steps=1)
    assert ran.code == 0, ran.last
    assert checkpoints.steps(run)[0] == 1 and not (run / "save").exists() and not (run / "sample").exists()
    assert {event["step"] for event in ran.of("sample")} == {0}


def test_what_speaks_against_a_run_is_told_before_it_starts(model: Path, pictures: Path, tmp_path: Path) -> None:
    row = {
        "code": "memory_too_small",
        "level": "warning",
        "message": "It needs 9 GB.",
        "fix": "Choose a smaller batch.",
    }
    events: list[dict[str, Any]] = []
    settings = config(model, pictures, tmp_path)
    assert run(settings, listener=events.append, advice=lambda ready: [row][: len(ready.train)]) == 0
    names = [event["event"] if event["event"] != "warning" else event["code"] for event in events]
    assert names.index("memory_too_small") < names.index("ready")
    full = {
        "code": "disk_full",
        "level": "error",
        "message": "The disk has 1 MB free.",
        "fix": "Free some space on it.",
    }
    assert run(settings, listener=events.append, advice=lambda ready: [full]) == 1
    assert events[-1]["event"] == "error" and events[-1]["detail"] == "The disk has 1 MB free."


def test_a_long_name_has_checkpoints_too(model: Path, pictures: Path, tmp_path: Path) -> None:
    ran = train(model, pictures, tmp_path, name="l" * 100, save_every=1)
    assert ran.code == 0, ran.last
    for event in ran.of("checkpoint"):
        check_name(Path(event["file"]).stem)


def test_a_mask_that_is_no_picture_costs_the_mask_only(model: Path, pictures: Path, tmp_path: Path) -> None:
    (pictures / "0-masklabel.png").write_bytes(b"this is no picture")
    Image.new("L", (64, 64), 255).save(pictures / "1-masklabel.png")
    ran = train(model, pictures, tmp_path, masked_loss=True)
    assert ran.code == 0, ran.last
    assert "1 mask cannot be read." in told(ran, "masks_damaged")
