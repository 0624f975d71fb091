"""Train tiny models in this process and keep what the run told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dalla.diffusion.training import setup
from dalla.diffusion.training.events import Controls
from dalla.diffusion.training.run import run
from dalla.records.training import TrainingConfig

#: Small and short: random models of 64 px, no samples, nothing kept beside the pictures.
SHORT: dict[str, Any] = {
    "name": "tiny", "trigger_word": "zorvex", "class_word": "cat", "steps": 2, "batch_size": 2, "resolution": 64,
    "bucket_step": 16, "rank": 2, "targets": "attention", "learning_rate": 1e-2, "warmup": 0.0, "sample_every": 0,
    "save_every": 0, "caption_dropout": 0.0, "cache_to_disk": False, "device": "cpu", "early_stop": 0,
    "lr_scheduler": "constant", "preset": "quick", "validation": {"count": 0, "timesteps": 1, "noises": 1}, "gradient_checkpointing": False,
}  # fmt: skip


class Ran:
    """A finished run: its exit code, its events, its folders."""

    def __init__(self, code: int, events: list[dict[str, Any]], root: Path) -> None:
        self.code, self.events, self.root = code, events, root

    def of(self, event: str) -> list[dict[str, Any]]:
        return [e for e in self.events if e["event"] == event]

    @property
    def last(self) -> dict[str, Any]:
        return self.events[-1]

    @property
    def lora(self) -> Path:
        assert self.code == 0, self.last
        return Path(self.last["path"])

    @property
    def losses(self) -> list[tuple[int, float]]:
        return [(e["step"], e["loss"]) for e in self.of("step")]


def config(model: Path, pictures: Path, root: Path, **changes: Any) -> TrainingConfig:
    if "validation" in changes:
        changes["validation"] = {**SHORT["validation"], **changes["validation"]}
    values = {
        **SHORT, "base_model": str(model), "dataset_folder": str(pictures), "run_folder": str(root / "run"),
        "output_folder": str(root / "loras"), **changes,
    }  # fmt: skip
    return TrainingConfig(**values)


def train(model: Path, pictures: Path, root: Path, controls: Controls | None = None, **changes: Any) -> Ran:
    events: list[dict[str, Any]] = []
    code = run(config(model, pictures, root, **changes), listener=events.append, controls=controls)
    return Ran(code, events, root)


def load(model: Path, pictures: Path, root: Path, **changes: Any) -> setup.Loaded:
    """Get a run ready as the trainer does, up to the first step: pictures and captions are encoded."""
    return setup.load(
        setup.prepare(config(model, pictures, root, **changes), lambda *a, **k: None), lambda *a, **k: None
    )
