"""Training for tests: the real app around a stand-in trainer, which is a real process without torch."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from dalla.engines import trainer as trainer_module
from dalla.engines.images.local_models import LocalModels
from dalla.engines.trainer import Trainer
from dalla.services.training import Training
from dalla.services.training_plan import TrainWish
from dalla.wiring import Container
from tests.conftest import png

STANDIN = Path(__file__).parent.parent / "engines" / "standin_trainer.py"


class World:
    """A container with training in it. `how` is what the next trainer does (see standin_trainer)."""

    def __init__(self, container: Container, **how: Any) -> None:
        self.container = container
        self.freed: list[str] = []
        self.machine: dict[str, Any] = {"memoryTotal": 16_000_000_000, "memoryUsed": 4_000_000_000}
        self.trainer = Trainer(
            command=[sys.executable, str(STANDIN)], poll_seconds=0.01, cancel_seconds=10, term_seconds=10
        )
        self.how(**how)
        self.training = Training(
            container.settings,
            self.trainer,
            LocalModels(container.settings),
            container.characters,
            container.notices,
            container.jobs,
            container.tasks,
            container.events,
            Path(container.settings.data_dir),
            machine=lambda: self.machine,
            free_memory=lambda: self.freed.append("freed"),
        )
        container.training = self.training  # type: ignore[attr-defined]

    @property
    def jobs(self) -> Any:
        return self.container.jobs

    def how(self, **how: Any) -> None:
        self.trainer._environ["STANDIN"] = json.dumps(how)

    def pictures(self, name: str = "luna", count: int = 3, **captions: str) -> str:
        folder = Path(self.container.settings.training_data_dir) / name
        folder.mkdir(parents=True, exist_ok=True)
        for n in range(count):
            (folder / f"p{n}.png").write_bytes(png((n * 40, 200 - n * 50, 90), (160, 128)))
        for stem, text in captions.items():
            (folder / f"{stem}.txt").write_text(text)
        return name

    def start(self, **wish: Any) -> str:
        wish.setdefault("training_data", self.pictures())
        return self.training.start(TrainWish(**wish)).id

    def until(self, true: Any, what: str = "", *, seconds: float = 60) -> Any:
        end = time.monotonic() + seconds
        while not (found := true()):
            assert time.monotonic() < end, what or "it did not happen"
            time.sleep(0.01)
        return found

    def until_step(self, id: str, step: int) -> None:
        folder = self.training.folders.folder(id)
        self.until(lambda: folder.state().step >= step, f"step {step}")

    def finish(self, id: str) -> Any:
        return self.until(lambda: (job := self.jobs.get(id)).finished and job)

    def go(self, id: str) -> None:
        (self.training.folders.folder(id).path / "go").touch()

    def close(self) -> None:
        """End trainers that a test left at work."""
        for path in list((Path(self.container.settings.data_dir) / "runs").glob("*/config.json")):
            left = trainer_module._by_command_line(path.parent)
            if left is not None:
                left.kill()
