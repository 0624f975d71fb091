"""Every optimizer moves a LoRA at the learning rates it is given, and a run that goes on obeys its new settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")

from dalla.diffusion.training import checkpoints, setup  # noqa: E402
from dalla.diffusion.training.events import Controls, Events  # noqa: E402
from dalla.diffusion.training.loop import Loop  # noqa: E402
from dalla.records.training_machine import installed  # noqa: E402
from tests.diffusion.training_kit import config, train  # noqa: E402

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning:peft.*"),
]


def tell(*args: Any, **values: Any) -> None:
    pass


def moved(model: Path, pictures: Path, root: Path, **changes: Any) -> tuple[float, Any]:
    """Train twenty steps without a run folder; return how large the up matrices have become and the settings."""
    prepared = setup.prepare(config(model, pictures, root, steps=20, batch_size=1, **changes), tell)
    loaded = setup.load(prepared, tell)
    Loop(prepared, loaded, Events(None), Controls(None), None).run()
    ups = [value for name, value in loaded.adapters.snapshot().items() if "lora_B" in name]
    assert ups
    return float(torch.cat([up.flatten() for up in ups]).norm()), prepared.config


@pytest.fixture(scope="module")
def by_adamw(model: Path, pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[float, Any]:
    return moved(model, pictures, tmp_path_factory.mktemp("adamw"), optimizer="adamw", learning_rate=None)


@pytest.mark.parametrize("optimizer", ["adafactor", "prodigy", "adamw8bit"])
def test_at_the_presets_learning_rate_a_lora_moves_as_far_as_with_adamw(
    model: Path, pictures: Path, tmp_path: Path, by_adamw: tuple[float, Any], optimizer: str
) -> None:
    if optimizer == "adamw8bit" and not (installed("bitsandbytes") and torch.cuda.is_available()):
        pytest.skip("needs bitsandbytes and an NVIDIA card")
    usual, settings = by_adamw
    assert settings.learning_rate == 2e-3 and usual > 0
    found, own = moved(model, pictures, tmp_path, optimizer=optimizer, learning_rate=None)
    assert own.learning_rate == (1.0 if optimizer == "prodigy" else 2e-3)
    assert usual / 10 < found < usual * 10


# ---------------------------------------------------------------- a run that goes on


@pytest.fixture
def groups(monkeypatch: pytest.MonkeyPatch) -> list[list[dict[str, Any]]]:
    """The optimizer's settings at the end of every run."""
    found: list[list[dict[str, Any]]] = []
    honest = Loop.run

    def run(self: Any) -> None:
        honest(self)
        found.append([{k: v for k, v in g.items() if k != "params"} for g in self.optimizer.param_groups])

    monkeypatch.setattr(Loop, "run", run)
    return found


def values(run: Path, step: int) -> dict[str, Any]:
    state = torch.load(checkpoints.folder_of(run, step) / checkpoints.STATE, weights_only=True)
    found: dict[str, Any] = state["values"]
    return found


def test_it_takes_up_another_weight_decay_and_scheduler(
    model: Path, pictures: Path, tmp_path: Path, groups: list[list[dict[str, Any]]]
) -> None:
    first = train(model, pictures, tmp_path / "first", steps=2, weight_decay=0.01)
    assert first.code == 0 and all(g["weight_decay"] == 0.01 for g in groups[0])
    start = str(tmp_path / "first" / "run")
    before = values(tmp_path / "first" / "run", 2)
    after = {}
    for decay in (0.0, 10.0):
        root = tmp_path / str(decay)
        options: dict[str, Any] = {"steps": 3, "weight_decay": decay, "lr_scheduler": "linear", "resume_from": start}
        ran = train(model, pictures, root, **options)
        assert ran.code == 0, ran.last
        assert all(g["weight_decay"] == decay for g in groups[-1])
        # 1e-2 falls to zero over three steps, and this is the third.
        assert [(e["step"], e["lr"]) for e in ran.of("step")] == [(3, pytest.approx(1e-2 / 3))]
        after[decay] = values(root / "run", 3)
    # AdamW takes the decay off before it steps, so two runs that differ in it alone differ by just that.
    for name, value in before.items():
        assert torch.allclose(after[0.0][name] - after[10.0][name], 1e-2 / 3 * 10.0 * value, atol=1e-6), name


def test_what_the_program_sets_is_not_taken_from_an_older_state(
    model: Path, pictures: Path, tmp_path: Path, groups: list[list[dict[str, Any]]]
) -> None:
    run = tmp_path / "run"
    train(model, pictures, tmp_path, steps=2, optimizer="adafactor")
    file = checkpoints.folder_of(run, 2) / checkpoints.STATE
    state = torch.load(file, weights_only=True)
    state["optimizer"]["param_groups"][0]["eps"] = (None, 1e-3)  # as versions before wrote it
    torch.save(state, file)
    assert train(model, pictures, tmp_path, steps=3, optimizer="adafactor", resume_from=str(run)).code == 0
    assert groups[1][0]["eps"] == groups[0][0]["eps"] != (None, 1e-3)


def test_prodigy_goes_on_with_the_step_it_has_found(
    model: Path, pictures: Path, tmp_path: Path, groups: list[list[dict[str, Any]]]
) -> None:
    options: dict[str, Any] = {"optimizer": "prodigy", "learning_rate": 1.0}
    train(model, pictures, tmp_path / "whole", steps=6, **options)
    train(model, pictures, tmp_path / "parts", steps=4, **options)
    again = train(model, pictures, tmp_path / "parts", steps=6, resume_from=str(tmp_path / "parts" / "run"), **options)
    assert again.code == 0
    whole, parts = groups[0][0], groups[2][0]
    assert whole["d"] > whole["d0"] and {k: parts[k] for k in ("d", "numerator", "k")} == {
        k: whole[k] for k in ("d", "numerator", "k")
    }
