"""What a machine lacks for a training, and what is known of a machine without loading PyTorch."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError
from typing import Any

import pytest

from dalla.errors import InvalidInput
from dalla.records import training_machine as module
from dalla.records.training import TrainingConfig
from dalla.records.training_machine import Machine, known, refuse_shortcomings, shortcomings


def machine(auto: str | None, gpus: int | None = None, packages: tuple[str, ...] = ("accelerate",)) -> Machine:
    """`auto`: what "auto" becomes; a machine with a card has the processor, too. None: nothing is known."""
    devices = None if auto is None else frozenset({"cpu", auto})
    return Machine(devices, None if auto is None else frozenset({auto}), gpus, packages.__contains__)


def config(**changes: Any) -> TrainingConfig:
    return TrainingConfig(**{"name": "luna", "base_model": "models/starter", "dataset_folder": "x", **changes})


CPU, CARD, APPLE, UNKNOWN = machine("cpu", 0), machine("cuda", 2), machine("mps", 0), machine(None)
FULL = machine("cuda", 2, ("accelerate", "bitsandbytes"))


@pytest.mark.parametrize(
    ("changes", "on", "field"),
    [
        ({"optimizer": "adamw8bit"}, CPU, "optimizer"),
        ({"optimizer": "adamw8bit"}, APPLE, "optimizer"),
        ({"optimizer": "adamw8bit"}, CARD, "optimizer"),  # there is no bitsandbytes
        ({"optimizer": "adamw8bit"}, UNKNOWN, "optimizer"),
        ({"optimizer": "adamw8bit"}, FULL, None),
        ({"optimizer": "adamw8bit", "device": "cpu"}, FULL, "optimizer"),
        ({"quantize": "fp8"}, CPU, "quantize"),
        ({"quantize": "fp8"}, APPLE, "quantize"),
        ({"quantize": "fp8"}, CARD, None),
        ({"quantize": "fp8"}, UNKNOWN, None),
        ({"quantize": "fp8", "device": "cpu"}, UNKNOWN, "quantize"),
        ({"quantize": "nf4"}, CARD, "quantize"),
        ({"quantize": "int8"}, UNKNOWN, "quantize"),
        ({"quantize": "nf4"}, FULL, None),
        ({"mixed_precision": "fp16"}, CPU, "mixedPrecision"),
        ({"mixed_precision": "fp16"}, APPLE, None),
        ({"mixed_precision": "fp16"}, UNKNOWN, None),
        ({"mixed_precision": "fp16", "device": "cpu"}, CARD, "mixedPrecision"),
        ({"mixed_precision": "bf16"}, CPU, None),
        ({"device": "cuda"}, CPU, "device"),
        ({"device": "mps"}, CARD, "device"),
        ({"device": "cuda"}, UNKNOWN, None),
        ({"processes": 2}, CARD, None),
        ({"processes": 3}, CARD, "processes"),
        ({"processes": 2}, CPU, "processes"),
        ({"processes": 2, "device": "cpu"}, CARD, "processes"),
        ({"processes": 8}, machine(None, packages=("accelerate",)), None),
        ({"processes": 2}, machine("cuda", 2, ()), "processes"),  # there is no accelerate
        ({}, CPU, None),
    ],
)
def test_what_is_lacking_is_told_by_field(changes: dict[str, Any], on: Machine, field: str | None) -> None:
    found = shortcomings(config(**changes), on)
    assert [row["field"] for row in found] == ([field] if field else [])
    assert all(row["message"] and row["remedy"] for row in found)


def test_everything_lacking_is_told_at_once_and_each_remedy_names_its_fix() -> None:
    with pytest.raises(InvalidInput) as refused:
        refuse_shortcomings(config(optimizer="adamw8bit", quantize="fp8", mixed_precision="fp16"), CPU)
    assert [row["field"] for row in refused.value.errors] == ["optimizer", "quantize", "mixedPrecision"]
    for fix in ("'adamw'", "quantize to none", "bf16"):
        assert fix in (refused.value.remedy or "")
    refuse_shortcomings(config(), CPU)


@pytest.mark.parametrize(
    ("build", "platform", "devices", "gpus"),
    [
        ("2.13.0+cpu", "linux", {"cpu"}, 0),
        ("2.13.0", "darwin", {"cpu", "mps"}, 0),
        ("2.13.0", "linux", None, 2),
        ("2.13.0", "win32", None, None),
        (None, "linux", None, None),
    ],
)
def test_only_what_cannot_be_otherwise_is_known(
    build: str | None, platform: str, devices: set[str] | None, gpus: int | None, tmp_path: Any, monkeypatch: Any
) -> None:
    def version(package: str) -> str:
        if build is None:
            raise PackageNotFoundError(package)
        return build

    cards = tmp_path / "gpus"
    if platform == "linux":
        for bus in ("0000:01:00.0", "0000:02:00.0"):
            (cards / bus).mkdir(parents=True)
    monkeypatch.setattr(module, "version", version)
    monkeypatch.setattr(module.sys, "platform", platform)
    monkeypatch.setattr(module, "NVIDIA_CARDS", cards)
    found = known()
    assert (None if found.devices is None else set(found.devices), found.gpus) == (devices, gpus)
    assert found.automatic == found.devices
