"""Steps that get slow because the card's memory is full are told once, with what helps; others are not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")

from dalla.diffusion.training import pace  # noqa: E402
from dalla.diffusion.training.loop import Loop  # noqa: E402
from tests.diffusion.training_kit import train  # noqa: E402

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning:peft.*"),
]


def told(seconds: list[float], used: Callable[[], float]) -> list[tuple[int, dict[str, Any]]]:
    looked = pace.Pace(used)
    found = [(n, looked.step(n, s)) for n, s in enumerate(seconds, 1)]
    return [(n, warning) for n, warning in found if warning is not None]


START = [30.0] * pace.WARM_UP + [0.5] * pace.STEPS


def test_slow_steps_on_a_full_card_are_told_once() -> None:
    found = told([*START, *[0.5] * 50, *[40.0] * 60], lambda: 0.98)
    assert len(found) == 1
    number, warning = found[0]
    # More than half of the last twenty are slow: the eleventh slow one turns the median.
    assert number == warning["step"] == len(START) + 50 + pace.STEPS // 2 + 1
    assert warning["code"] == "memory_spills" and "0.50 s" in warning["detail"] and "smaller batch" in warning["remedy"]


@pytest.mark.parametrize(
    ("later", "used"),
    [
        ([0.5 * 3.9] * 60, 0.99),  # other pictures, another program
        ([40.0] * 60, 0.9),  # the card is not full
        ([40.0, *[0.5] * 11] * 5, 0.99),  # now and then a long one: a size compiled for, a disk
        ([40.0] * (pace.STEPS - 1), 0.99),  # too few to tell
    ],
    ids=["not so slow", "room", "now and then", "few"],
)
def test_other_slow_steps_are_not_told(later: list[float], used: float) -> None:
    assert told([*START, *later], lambda: used) == []


def test_the_first_steps_are_no_measure() -> None:
    found = told([0.001] * pace.WARM_UP + [1.0] * 60, lambda: 0.99)
    assert found == []


def test_the_card_is_asked_only_when_steps_are_slow() -> None:
    asked: list[int] = []

    def used() -> float:
        asked.append(1)
        return 1.0

    told([*START, *[0.5] * 50], used)
    assert not asked
    told([*START, *[40.0] * 50], used)
    assert len(asked) == 1


def test_what_is_full_is_read_from_the_card(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (1 << 30, 10 << 30))
    assert pace.card_used() == pytest.approx(0.9)


def test_a_run_tells_it(model: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = Loop.__init__

    class Full(pace.Pace):
        def step(self, number: int, seconds: float) -> dict[str, Any] | None:
            assert seconds > 0
            return super().step(number, 100.0 if number > 2 else 1.0)

    def init(self: Any, *rest: Any) -> None:
        honest(self, *rest)
        assert self.pace is None  # on the processor there is no card to be full
        self.pace = Full(lambda: 1.0)

    monkeypatch.setattr(Loop, "__init__", init)
    monkeypatch.setattr(pace, "WARM_UP", 0)
    monkeypatch.setattr(pace, "STEPS", 2)
    ran = train(model, pictures, tmp_path, steps=6)
    assert ran.code == 0
    warnings = [e for e in ran.of("warning") if e["code"] == "memory_spills"]
    assert [e["step"] for e in warnings] == [4] and warnings[0]["remedy"]
