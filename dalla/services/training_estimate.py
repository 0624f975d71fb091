"""What a training will need: steps, time, memory and disk, said before it starts, with where each figure comes from.

Time comes from earlier runs on this machine; memory from a table that earlier runs correct. A figure that
nobody has measured here is called rough, one that cannot be known is None.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from dalla.errors import StorageError
from dalla.paths import write_atomic
from dalla.records.family import FAMILIES
from dalla.records.training import TrainingConfig, preset_kind
from dalla.services.training_runs import RunState
from dalla.times import now_iso
from dalla.training_set import SetReport

logger = logging.getLogger(__name__)

GB, MIB = 1_000_000_000, 1 << 20
KEPT_RUNS = 60
FIT_MARGIN = 1.1  # memory that is short by more than this share is said to be too little

#: Weights of the denoiser in bf16, bytes.
WEIGHTS = {"sd15": 1.7 * GB, "sdxl": 5.1 * GB, "sd3": 4.1 * GB, "flux": 23.8 * GB, "starter": 16e6}
QUANTIZED = {"none": 1.0, "fp8": 0.5, "int8": 0.5, "nf4": 0.28}
#: LoRA weights, gradients and Adam's state at rank 16 in fp32 (attention only, all linear layers), bytes.
LORA_STATE = {"sd15": (49, 104), "sdxl": (354, 650), "sd3": (143, 320), "flux": (399, 998), "starter": (2, 6)}
#: A fp16 LoRA file at rank 16 (attention only, all linear layers), MiB.
LORA_FILE = {"sd15": (6, 13), "sdxl": (44, 81), "sd3": (18, 40), "flux": (50, 125), "starter": (0.3, 1)}
#: Activations of one picture at the family's native size (without, with gradient checkpointing), bytes.
ACTIVATIONS = {
    "sd15": (2.2 * GB, 0.6 * GB), "sdxl": (9 * GB, 2.0 * GB), "sd3": (8 * GB, 2.0 * GB), "flux": (24 * GB, 2.8 * GB),
    "starter": (60e6, 30e6),
}  # fmt: skip
#: The largest text encoder in bf16, which is loaded alone and freed again, bytes.
ENCODER = {"sd15": 0.3 * GB, "sdxl": 1.6 * GB, "sd3": 9.5 * GB, "flux": 9.5 * GB, "starter": 3e6}
#: Encoding one picture at native size with the VAE in fp32, bytes.
VAE = {"sd15": 1.5 * GB, "sdxl": 4.5 * GB, "sd3": 4.5 * GB, "flux": 4.5 * GB, "starter": 60e6}
OVERHEAD = 0.8 * GB  # a CUDA context, or Python with torch and diffusers
#: Work of one step per picture at native size (forward and the gradients of the inputs), TFLOP.
WORK = {"sd15": 1.6, "sdxl": 13.5, "sd3": 17.8, "flux": 149.0, "starter": 0.0027}
NATIVE = {"sd15": 512, "sdxl": 1024, "sd3": 1024, "flux": 1024, "starter": 128}
CPU_TFLOPS_PER_CORE = 0.03
CHECKPOINTING_COST = 1.39  # measured


class Estimates:
    """Knows earlier runs of this machine (`data/training_speeds.json`) and estimates the next one."""

    def __init__(self, data_dir: Path, machine: Callable[[], dict[str, Any]]) -> None:
        """`machine` answers a sample as the monitoring has it: gpuName, gpuMemoryTotal, memoryTotal, …"""
        self._path = Path(data_dir) / "training_speeds.json"
        self._data_dir = Path(data_dir)
        self._machine = machine
        self._lock = threading.Lock()

    # ------------------------------------------------------------ learning

    def learn(self, config: TrainingConfig, native: int, state: RunState, *, start_seconds: float | None) -> None:
        """Remember how fast and how large a finished run was. Never raises."""
        rates = [r["stepsPerSecond"] for r in state.metrics if isinstance(r.get("stepsPerSecond"), int | float)]
        rates = [rate for rate in rates if rate > 0]
        if not rates or config.family is None:
            return
        memory = [r["memoryBytes"] for r in state.metrics if isinstance(r.get("memoryBytes"), int | float)]
        row = {
            **_kind_of(config, native),
            **_memory_kind_of(config, native),
            "device": self.device(config),
            "secondsPerStep": round(1 / median(rates[len(rates) // 4 :]), 6),
            "startSeconds": None if start_seconds is None else round(max(0.0, start_seconds), 1),
            # A run that had to make do with less says nothing about what these settings need.
            "memoryBytes": int(max(memory)) if memory and not state.ladder else None,
            "at": now_iso(),
        }
        kind = {"device": row["device"], **_kind_of(config, native), **_memory_kind_of(config, native)}
        with self._lock:
            rows = [old for old in self._rows() if not _is(old, kind)][-(KEPT_RUNS - 1) :]
            try:
                write_atomic(self._path, json.dumps([*rows, row], indent=1).encode() + b"\n")
            except OSError as exc:
                logger.warning("The speed of a training could not be kept: %s", exc)

    def _rows(self) -> list[dict[str, Any]]:
        with contextlib.suppress(OSError, ValueError):
            rows = json.loads(self._path.read_bytes())
            if isinstance(rows, list):
                # What rows of earlier versions do not say was the usual: neither DoRA nor prior pictures.
                usual = {"dora": False, "prior": "none"}
                return [
                    {**usual, **r}
                    for r in rows
                    if isinstance(r, dict) and isinstance(r.get("secondsPerStep"), int | float)
                ]
        return []

    def device(self, config: TrainingConfig) -> str:
        """Return what it would run on: the graphics card's name, or "cpu"."""
        sample = self._machine()
        name = sample.get("gpuName")
        return str(name) if name and config.device != "cpu" else "cpu"

    # ------------------------------------------------------------ estimating

    def estimate(self, config: TrainingConfig, native: int, report: SetReport) -> dict[str, Any]:
        """Return the figures for a completed config and the set it would train on, and what speaks against it."""
        pictures = report.pictures
        held = config.held_out(len(pictures))
        share = (len(pictures) - held) / max(1, len(pictures)) / config.processes
        per_epoch = math.ceil(report.steps_per_epoch * share)
        steps = config.steps or (config.epochs or 1) * max(1, per_epoch)
        time, memory, disk = (
            self._time(config, native, steps),
            self._memory(config, native),
            self._disk(config, native, len(pictures), steps),
        )
        batch = (config.batch_size or 1) * (config.gradient_accumulation or 1) * config.processes
        return {
            "pictures": len(pictures),
            "heldOut": held,
            "trained": len(pictures) - held,
            "steps": steps,
            "stepsPerEpoch": per_epoch,
            "epochs": round(steps / per_epoch, 2) if per_epoch else None,
            "shownPerPicture": round(steps * batch / max(1, len(pictures) - held), 1),
            "buckets": report.buckets,
            "skipped": report.skipped,
            "captionsFound": report.captions_found,
            "time": time,
            "memory": memory,
            "disk": disk,
            "checks": self._checks(config, report, memory, disk, time),
        }

    def _time(self, config: TrainingConfig, native: int, steps: int) -> dict[str, Any]:
        wanted, device = _kind_of(config, native), self.device(config)
        rows = [row for row in self._rows() if row.get("device") == device]
        exact = [row for row in rows if _is(row, wanted)]
        kin = [row for row in rows if row.get("kind") == wanted["kind"]]
        if exact:
            per_step, basis, detail = exact[-1]["secondsPerStep"], "measured", "From an earlier run like this one."
        elif kin or rows:
            row = (kin or rows)[-1]
            per_step, basis = row["secondsPerStep"] * _work(wanted) / _work(row), "scaled"
            detail = "Worked out from an earlier run with other settings on this machine."
        elif device == "cpu":
            per_step = _work(wanted) / (CPU_TFLOPS_PER_CORE * max(1, os.cpu_count() or 1))
            basis, detail = "rough", "Rough: nothing has been trained on this machine yet."
        else:
            return {"seconds": None, "secondsPerStep": None, "basis": None, "device": device,
                    "detail": "Known after the first run on this machine."}  # fmt: skip
        known = [r["startSeconds"] for r in (exact or kin) if isinstance(r.get("startSeconds"), int | float)]
        start = known[-1] if known else 15.0
        return {
            "seconds": round(per_step * steps + start, 1),
            "secondsPerStep": round(per_step, 4),
            "basis": basis,
            "device": device,
            "detail": detail,
        }

    def _memory(self, config: TrainingConfig, native: int) -> dict[str, Any]:
        wanted = _memory_kind_of(config, native)
        kind, device = wanted["kind"], self.device(config)
        scale = 1.0 if device != "cpu" and config.mixed_precision != "no" else 2.0  # fp32
        pixels = (config.resolution or native) ** 2 / NATIVE[kind] ** 2
        weights = WEIGHTS[kind] * QUANTIZED[config.quantize] * (scale if config.quantize == "none" else 1.0)
        lora = LORA_STATE[kind][config.targets == "full"] * MIB * (config.rank or 16) / 16
        activations = ACTIVATIONS[kind][bool(config.gradient_checkpointing)] * pixels * (config.batch_size or 1) * scale
        caching = max(ENCODER[kind] * scale, VAE[kind] * pixels) + OVERHEAD
        training = weights + lora + activations + OVERHEAD
        needed, basis = max(training, caching), "table"
        rows = [r for r in self._rows() if r.get("device") == device and r.get("memoryBytes")]
        exact = [r for r in rows if _is(r, wanted)]
        if exact:
            needed, basis = float(exact[-1]["memoryBytes"]), "measured"
            needed += 0 if device == "cpu" else OVERHEAD  # what a card's driver takes is not in what PyTorch counts
        sample = self._machine()
        on = "ram" if device == "cpu" else "gpu"
        total = sample.get("memoryTotal") if on == "ram" else sample.get("gpuMemoryTotal")
        used = sample.get("memoryUsed") if on == "ram" else sample.get("gpuMemoryUsed")
        free = total - used if total and used is not None else None
        return {
            "neededBytes": int(needed),
            "freeBytes": free,
            "totalBytes": total,
            "on": on,
            "fits": None if not total else needed <= total,
            "fitsNow": None if free is None else needed <= free * FIT_MARGIN,
            "basis": basis,
            "parts": {
                "weights": int(weights),
                "lora": int(lora),
                "activations": int(activations),
                "overhead": int(OVERHEAD),
                "caching": int(caching),
            },
        }

    def _disk(self, config: TrainingConfig, native: int, pictures: int, steps: int) -> dict[str, Any]:
        kind = preset_kind(config.family or "sd15", native)
        file = LORA_FILE[kind][config.targets == "full"] * MIB * (config.rank or 16) / 16
        state = LORA_STATE[kind][config.targets == "full"] * MIB * (config.rank or 16) / 16
        side = config.resolution or native
        samples = 0.0
        sample_every = config.sample_every or (0 if config.steps else math.ceil(steps / 4))
        if sample_every:
            prompts = len(config.sample_prompts or []) or 2
            samples = (steps // sample_every + 1) * prompts * 2 * side * side * 1.5
        text = {"sd3": 2.5e6, "flux": 4.2e6, "sdxl": 0.7e6}.get(kind, 0.3e6)
        cache = pictures * (side * side / 64 * 16 * 4 + text) if config.cache_to_disk else 0.0
        run = file * ((config.keep_checkpoints or 3) + 2) + state * 2 + samples
        runs = Path(config.run_folder) if config.run_folder else self._data_dir
        pictures_in, out = Path(config.dataset_folder), Path(config.output_folder)
        return _on_disks(
            [
                (runs.name, runs, run),
                (f"{pictures_in.parent.name}/{pictures_in.name}", pictures_in, cache),
                (out.name, out, file),
            ]
        )

    def _checks(
        self,
        config: TrainingConfig,
        report: SetReport,
        memory: dict[str, Any],
        disk: dict[str, Any],
        time: dict[str, Any],
    ) -> list[dict[str, Any]]:
        """Return what a person should know before the start: {code, level, message, fix}, the worst first."""
        found: list[dict[str, Any]] = []

        def add(level: str, code: str, message: str, fix: str | None = None) -> None:
            found.append({"code": code, "level": level, "message": message, "fix": fix})

        for row in report.warnings:
            level = "error" if row["code"] == "no_pictures" else "warning"
            add(level, row["code"], row["message"], row.get("fix"))
            if "word" in row:
                found[-1]["word"] = row["word"]
        if disk["fits"] is False:
            add(
                "error",
                "disk_full",
                f"The disk of {' and '.join(disk['folders'])} has {_size(disk['freeBytes'])} free; this training needs about "
                f"{_size(disk['shareBytes'])} there.",
                "Free some space on it, or keep fewer checkpoints and samples"
                + (", or no prepared pictures." if config.cache_to_disk else "."),
            )
        where = "graphics card" if memory["on"] == "gpu" else "computer"
        if memory["fits"] is False:
            add(
                "warning",
                "memory_too_small",
                f"It needs about {_size(memory['neededBytes'])} of memory; the {where} has {_size(memory['totalBytes'])}.",
                "Choose a smaller resolution or batch, gradient checkpointing, or a quantised base model.",
            )
        elif memory["fitsNow"] is False:
            add(
                "warning",
                "memory_in_use",
                f"It needs about {_size(memory['neededBytes'])} of memory; {_size(memory['freeBytes'])} of the {where}'s are free now.",
                "Close other programs that use it before you start.",
            )
        if (time["seconds"] or 0) > 24 * 3600:
            add(
                "warning",
                "very_long",
                f"It would take about {time['seconds'] / 3600:.0f} hours on this machine.",
                "Use a smaller model or resolution, fewer steps, or a computer with a graphics card.",
            )
        return sorted(found, key=lambda row: row["level"] != "error")

    def refuse_when_impossible(self, estimate: dict[str, Any]) -> None:
        """Raises StorageError when the disk is too full; what else is wrong was refused before."""
        for row in estimate["checks"]:
            if row["code"] == "disk_full":
                raise StorageError(row["message"], remedy=row["fix"])


def _on_disks(places: list[tuple[str, Path, float]]) -> dict[str, Any]:
    """Return what (name, folder, bytes) take, each asked on the folder's own disk.

    `neededBytes` is of all; `freeBytes`, `fits`, `folders` (names) and `shareBytes` (what goes there) are of the disk
    that would be the fullest. None where no disk answers.
    """
    disks: dict[int, dict[str, Any]] = {}
    for name, folder, needed in places:
        if not needed:
            continue
        try:
            there = folder.absolute()
            while not there.exists() and there != there.parent:  # it is made when the run begins
                there = there.parent
            number, free = os.stat(there).st_dev, shutil.disk_usage(there).free
        except OSError:
            continue
        disk = disks.setdefault(number, {"folders": [], "freeBytes": free, "shareBytes": 0.0})
        disk["folders"].append(name)
        disk["shareBytes"] += needed
    total = int(sum(needed for _, _, needed in places))
    if not disks:
        return {"neededBytes": total, "freeBytes": None, "fits": None, "folders": [], "shareBytes": total}
    tightest = min(disks.values(), key=lambda disk: disk["freeBytes"] - disk["shareBytes"])
    fits = tightest["shareBytes"] < tightest["freeBytes"]
    return {"neededBytes": total, **tightest, "shareBytes": int(tightest["shareBytes"]), "fits": fits}


def _kind_of(config: TrainingConfig, native: int) -> dict[str, Any]:
    """What makes a step of two runs take equally long. `batch`: pictures of one step, however they are divided."""
    return {
        "kind": preset_kind(config.family or "sd15", native),
        "resolution": config.resolution or native,
        "batch": (config.batch_size or 1) * (config.gradient_accumulation or 1),
        "checkpointing": bool(config.gradient_checkpointing),
        "targets": config.targets or "full",
        "quantize": config.quantize,
        "textEncoder": config.train_text_encoder,
        "dora": config.use_dora,
        "prior": ("pictures" if config.prior_folder else "words") if config.prior_weight else "none",
    }


def _memory_kind_of(config: TrainingConfig, native: int) -> dict[str, Any]:
    """What makes two runs need the same memory. `atOnce`: pictures that are in it at one time."""
    alike = {key: value for key, value in _kind_of(config, native).items() if key != "batch"}
    return alike | {
        "atOnce": config.batch_size or 1,
        "rank": config.rank or 16,
        "convRank": config.conv_rank or 0,
        "precision": config.mixed_precision,
        "optimizer": config.optimizer or "adamw",
        "ema": bool(config.ema),
    }


def _is(row: dict[str, Any], kind: dict[str, Any]) -> bool:
    return all(row.get(key) == value for key, value in kind.items())


def _work(row: dict[str, Any]) -> float:
    """TFLOP of one step."""
    kind = str(row.get("kind")) if row.get("kind") in WORK else "sd15"
    pixels = float(row.get("resolution") or NATIVE[kind]) ** 2 / NATIVE[kind] ** 2
    return (
        WORK[kind] * pixels * float(row.get("batch") or 1) * (CHECKPOINTING_COST if row.get("checkpointing") else 1.0)
    )


def _size(count: float | None) -> str:
    if count is None:
        return "an unknown amount"
    return f"{count / GB:.1f} GB" if count >= 0.1 * GB else f"{count / 1e6:.0f} MB"


def native_size(family: str, said: int | None) -> int:
    """Return the side in px a model was made for."""
    return said or FAMILIES[family].native_size
