"""What a training asks of the machine: a graphics card, a package, a number format. Said before anything is loaded.

The trainer knows its machine exactly. The web process loads no PyTorch, so it knows only what cannot be otherwise
(a build of PyTorch without graphics cards, a package that is not there) and refuses no more than that.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from dalla.errors import InvalidInput
from dalla.records.training import TrainingConfig

#: Where the NVIDIA driver of Linux lists its cards.
NVIDIA_CARDS = Path("/proc/driver/nvidia/gpus")


def installed(package: str) -> bool:
    """Say whether a package is there, without importing it."""
    return find_spec(package) is not None


@dataclass(frozen=True)
class Machine:
    """What is known of the machine; None: not known for certain.

    `devices` (cpu, cuda, mps) are those a training may ask for, `automatic` those that "auto" may become, `gpus` how
    many NVIDIA cards there are at most.
    """

    devices: frozenset[str] | None = None
    automatic: frozenset[str] | None = None
    gpus: int | None = None
    has: Callable[[str], bool] = installed


def known() -> Machine:
    """Return what is certain without loading PyTorch."""
    try:
        build = version("torch")
    except PackageNotFoundError:
        return Machine()
    if "+cpu" in build:
        return Machine(frozenset({"cpu"}), frozenset({"cpu"}), 0)
    if sys.platform == "darwin":
        return Machine(frozenset({"cpu", "mps"}), frozenset({"cpu", "mps"}), 0)
    try:
        return Machine(gpus=len(os.listdir(NVIDIA_CARDS)) or None)
    except OSError:
        return Machine()


def shortcomings(config: TrainingConfig, machine: Machine) -> list[dict[str, str]]:
    """Return what this machine lacks for these settings as [{"field", "message", "remedy"}]; empty when nothing."""
    found: list[dict[str, str]] = []

    def add(field: str, message: str, remedy: str) -> None:
        found.append({"field": field, "message": message, "remedy": remedy})

    asked = config.device
    if asked != "auto" and machine.devices is not None and asked not in machine.devices:
        name = {"cuda": "NVIDIA graphics card", "mps": "Apple graphics"}.get(asked, asked)
        add("device", f"PyTorch finds no {name} here.",
            "Choose auto or cpu, or install a PyTorch build for this graphics card.")  # fmt: skip
        return found  # what else there is to say depends on the device
    could = machine.automatic if asked == "auto" else frozenset({asked})
    no_card = could is not None and "cuda" not in could
    if config.optimizer == "adamw8bit":
        remedy = "Choose 'adamw': for a LoRA it needs at most half a gigabyte more."
        if no_card:
            add("optimizer", "The optimizer 'adamw8bit' works on NVIDIA cards only.", remedy)
        elif not machine.has("bitsandbytes"):
            add("optimizer", "The optimizer 'adamw8bit' needs the package bitsandbytes, which is not installed.",
                f"{remedy} Or pip install bitsandbytes.")  # fmt: skip
    if config.quantize != "none":
        if no_card:
            add("quantize", f"Training on {config.quantize} weights works on NVIDIA cards only.",
                "Set quantize to none.")  # fmt: skip
        elif config.quantize != "fp8" and not machine.has("bitsandbytes"):
            add("quantize", f"Training on {config.quantize} weights needs the package bitsandbytes, which is not installed.",
                "Set quantize to none or fp8, or pip install bitsandbytes.")  # fmt: skip
    if config.mixed_precision == "fp16" and could == {"cpu"}:
        add("mixedPrecision", "fp16 trains on graphics cards only.", "Choose auto or bf16.")
    if config.processes > 1:
        if not machine.has("accelerate"):
            add("processes", "Several processes need the package accelerate, which is not installed.",
                "Run 'make install', or set processes to 1.")  # fmt: skip
        elif no_card:
            add("processes", "Several processes are for several NVIDIA cards; this training would use none.",
                "Set processes to 1.")  # fmt: skip
        elif machine.gpus is not None and config.processes > machine.gpus:
            cards = "1 NVIDIA card" if machine.gpus == 1 else f"{machine.gpus} NVIDIA cards"
            add("processes", f"This computer has {cards}; {config.processes} processes need one each.",
                f"Give a number up to {max(1, machine.gpus)}.")  # fmt: skip
    return found


def refuse_shortcomings(config: TrainingConfig, machine: Machine) -> None:
    """Raise InvalidInput that lists by field what the machine lacks."""
    if found := shortcomings(config, machine):
        raise InvalidInput(
            " ".join(row["message"] for row in found),
            errors=[{"field": row["field"], "message": row["message"]} for row in found],
            remedy=" ".join(dict.fromkeys(row["remedy"] for row in found)),
        )
