"""Train tiny models in this process and keep what the run told."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from PIL import Image

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


class AskAt(Controls):
    """Create control files when the run has come to a step: {step: name of the file}."""

    def __init__(self, folder: Path, asks: dict[int, str]) -> None:
        super().__init__(folder)
        self._asks, self._folder_ = asks, folder

    def poll(self) -> set[str]:
        # One poll before the model is loaded and some while it is; then one before each step.
        lines = (self._folder_ / "events.jsonl").read_text().splitlines()
        steps = sum('"event": "step"' in line for line in lines)
        if any('"event": "ready"' in line for line in lines) and steps in self._asks:
            (self._folder_ / self._asks.pop(steps)).touch()
        return super().poll()


def noise_pictures(folder: Path, count: int = 5) -> Path:
    """Write pictures of 64 px with captions into a folder that is there; return it."""
    rng = random.Random(1)
    for number in range(count):
        image = Image.new("RGB", (8, 8))
        image.putdata([tuple(rng.randrange(256) for _ in range(3)) for _ in range(64)])
        image.resize((64, 64), Image.Resampling.NEAREST).save(folder / f"{number}.png")
        (folder / f"{number}.txt").write_text(f"zorvex, a cat, number {number}")
    return folder


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
