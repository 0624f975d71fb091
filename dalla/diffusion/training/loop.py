"""The training loop: steps, validation, samples, checkpoints, and what may come in between.

Every random draw of a step follows from the seed and the step's number, and the learning rate from the step, so
a resumed run takes the same steps as one that was never interrupted.
"""

from __future__ import annotations

import dataclasses
import math
import time
from pathlib import Path
from typing import Any

import torch

from dalla.diffusion import hardware
from dalla.diffusion.training import checkpoints, drawing, gradients, optimizers, setup, validation
from dalla.diffusion.training.adapters import Average
from dalla.diffusion.training.choice import Choice, choose, clearly_worse
from dalla.diffusion.training.dataset import Batches
from dalla.diffusion.training.errors import NonFinite, OutOfMemory, Stopped
from dalla.diffusion.training.events import Controls, Events
from dalla.diffusion.training.export import save_lora
from dalla.diffusion.training.pace import Pace, card_used
from dalla.diffusion.training.parallel import Processes
from dalla.diffusion.training.setup import Loaded, Prepared

#: So many skipped updates in a row (fp16 overflow) are no longer the search for a scale.
MOST_SKIPS = 20


def looks_always(device: str) -> bool:
    """Whether numbers are looked at after each step. A graphics card is asked only now and then: it would wait for us."""
    return device == "cpu"


class Loop:
    """Trains one prepared run. `best_step`, `best_values` and `best_reading` are of the lowest held-out loss."""

    def __init__(
        self, prepared: Prepared, loaded: Loaded, events: Events, controls: Controls, run_folder: Path | None
    ) -> None:
        self.prepared, self.loaded, self.config = prepared, loaded, loaded.config
        self.events, self.controls, self.run_folder = events, controls, run_folder
        self.processes = Processes(loaded.device)
        self.steps: int = self.config.steps or 1
        self.batches = Batches(loaded.train, self.config.batch_size or 1, self.config.seed)
        self.prior_batches = (
            Batches(loaded.prior, self.config.batch_size or 1, self.config.seed) if loaded.prior else None
        )
        self.accumulation = self.config.gradient_accumulation or 1
        self.per_epoch = max(1, math.ceil(self.batches.per_epoch / (self.accumulation * self.processes.count)))
        self.parameters = loaded.adapters.parameters()
        self.optimizer = optimizers.build(self.config, loaded.adapters.groups(self.config), loaded.device)
        self.scaler = torch.amp.GradScaler(loaded.device) if loaded.amp == torch.float16 else None
        self.average = Average(loaded.adapters) if self.config.ema else None
        self.questions = validation.Questions(
            loaded, loaded.held_out, timesteps=self.config.validation.timesteps, noises=self.config.validation.noises,
            on_split=self._tell_split,
        )  # fmt: skip
        self.base: validation.Reading | None = None
        self.readings: list[tuple[int, float]] = []
        self.best_step: int | None = None
        self.best_values: dict[str, Any] | None = None
        self.best_reading: validation.Reading | None = None
        self.last_reading: tuple[int, validation.Reading] | None = None
        self.lost_best: int | None = None  # the lowest held-out loss was of this step, whose checkpoint is gone
        self.splits = 1  # batches are computed in so many parts (out-of-memory ladder)
        self.done = 0
        self.stopped_early = False
        self.base_samples: dict[int, Any] = {}
        self.base_from: tuple[Path, dict[int, Any]] = (run_folder or Path(), {})  # where they are, of what they are
        self.last_samples: tuple[int, dict[int, Any]] = (-1, {})  # step, pictures
        self.pace = Pace(card_used) if loaded.device == "cuda" else None
        self.resemblance: Any = None  # resemblance.Resemblance when samples are drawn; False: it cannot be measured
        self.since_best = 0  # readings that were clearly worse than the lowest
        self._save_asked = False
        self._skips = 0
        self._loss: Any = None  # of the last step
        self._sound: int | None = None  # the step whose numbers were looked at

    # ---------------------------------------------------------------- the run

    def run(self) -> None:
        """Take all steps. Raises Stopped (cancelled), NonFinite, OutOfMemory, StorageError."""
        checkpoints.set_aside(self)
        self.events.doing = "steps"
        if self.loaded.held_out:
            with self.events.at("validation"), self.loaded.adapters.off():
                self.base = self.processes.together(self.questions.ask)
            if self.done == 0:
                self._tell_validation(0, self.base)
        if self.done == 0:
            self._samples(0)
        else:
            drawing.base(self)
        started, first = time.monotonic(), self.done
        durations: list[float] = []
        while self.done < self.steps:
            self._controls()
            begun = time.monotonic()
            loss = self._loss = self._step()
            self.done += 1
            if self.average is not None:
                self.average.update(self.done)
            last = self.done == self.steps
            # The loss is the same in all processes. Only the first looks: if another ended on a NaN, it would wait for it.
            due = self.processes.first and self.events.due()
            value = float(loss) if looks_always(self.loaded.device) or due or last else None
            # Taken here: where the loss is looked at, what the card still had to do is waited for.
            durations = [*durations[-19:], time.monotonic() - begun]
            if self.pace is not None and (slow := self.pace.step(self.done, durations[-1])):
                self.events.emit("warning", **slow)
            rate = len(durations) / max(sum(durations), 1e-9)
            if value is not None:
                self._check_finite(value)
                per_step = (time.monotonic() - started) / (self.done - first)
                self.events.step(
                    value, last=last, step=self.done, steps=self.steps, epoch=self.epoch, lr=self._rate,
                    stepsPerSecond=round(rate, 3), etaSeconds=round((self.steps - self.done) * per_step, 1),
                    memoryBytes=self.memory(),
                )  # fmt: skip
            self._after_step()
            if self.stopped_early:
                break

    @property
    def epoch(self) -> int:
        return (max(0, self.done - 1)) // self.per_epoch + 1

    def memory(self) -> int:
        if self.loaded.device == "cuda":
            return int(torch.cuda.max_memory_reserved())  # what other programs cannot have, gaps included
        import psutil

        return int(psutil.Process().memory_info().rss)

    def _controls(self) -> None:
        # Only the first takes wishes on: their files are gone then, and it is its view that counts.
        wishes = self.controls.poll() if self.processes.first else self.controls.look()
        asked = self.processes.agree(wishes, ("cancel", "save", "sample", "pause"))
        if "cancel" in asked:
            kept = self.checkpoint() if self.done else None
            raise Stopped(self.done, kept)
        self._save_asked |= "save" in asked
        if self._save_asked and self.done:  # before the first step there is nothing to save
            self._save_asked = False
            self.checkpoint()
        if "sample" in asked:
            self._samples(self.done, asked=True)
        if "pause" in asked:
            self.events.emit("paused", step=self.done)
            if self.processes.first:
                self.controls.wait_while_paused()
            self.events.emit("resumed", step=self.done)
            self._controls()

    # ---------------------------------------------------------------- one step

    def _step(self) -> Any:
        """Take a step; return its loss, a scalar tensor, of all processes."""
        self._rate = optimizers.set_rates(self.optimizer, self.config, self.done)
        try:
            loss = self.processes.together(self._gradients_with_ladder)
        except MemoryError as exc:  # another process's: this one's has been through the ladder
            raise OutOfMemory(self.done, str(exc), self.config.resolution or 0) from None
        # Out of the ladder: the processes meet here once a step, and gradients are unscaled once.
        self.processes.average([loss, *(p.grad for p in self.parameters if p.grad is not None)])
        self._update()
        return loss

    def _gradients_with_ladder(self) -> Any:
        """Find the gradients; when memory runs out, in smaller parts, in ways that do not change what is learned."""
        while True:
            try:
                with setup.compiling(self.config):
                    return self._gradients(self.done)
            except Exception as exc:
                if not hardware.out_of_memory(exc):
                    raise
                problem = str(exc).splitlines()[0][:200]
            self.optimizer.zero_grad(set_to_none=True)
            hardware.free_cache(self.loaded.device)
            batch = self.config.batch_size or 1
            if self.splits < batch:
                self.splits = min(batch, self.splits * 2)
                self.events.emit(
                    "ladder", action="split",
                    detail=f"Memory ran out. Each batch of {batch} is now computed in {self.splits} parts; the result is the same.",
                )  # fmt: skip
            elif not self.config.gradient_checkpointing:
                self.config = self.config.with_(gradient_checkpointing=True)
                setup.checkpointing(self.loaded.adapters)
                self.events.emit(
                    "ladder", action="gradient_checkpointing",
                    detail="Memory ran out again. Activations are now computed twice instead of kept; steps get about 40 % slower.",
                )  # fmt: skip
            else:
                raise OutOfMemory(self.done, problem, self.config.resolution or 0)

    def _gradients(self, step: int) -> Any:
        self.optimizer.zero_grad(set_to_none=True)
        total = torch.zeros((), device=self.loaded.device)
        for part in range(self.accumulation):
            number = (step * self.accumulation + part) * self.processes.count + self.processes.rank
            total += gradients.of_batch(self, self.batches.batch(number), number, False) / self.accumulation
            if self.prior_batches is not None:
                gradients.of_batch(self, self.prior_batches.batch(number), number, True)
        return total

    def _update(self) -> None:
        if self.scaler is not None:
            self.scaler.unscale_(self.optimizer)
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, self.config.max_grad_norm or math.inf)
        if self.scaler is not None:
            before = self.scaler.get_scale()
            self.scaler.step(self.optimizer)
            self.scaler.update()
            self._skips = self._skips + 1 if self.scaler.get_scale() < before else 0
            if self._skips > MOST_SKIPS:
                raise NonFinite(self.done + 1, "gradient", self.config)
        else:
            if looks_always(self.loaded.device) and not math.isfinite(float(norm)):
                raise NonFinite(self.done + 1, "gradient", self.config)
            self.optimizer.step()

    def _check_finite(self, loss: float) -> None:
        if not math.isfinite(loss):
            raise NonFinite(self.done, "loss", self.config)

    def _check_sound(self) -> None:
        """Look at the last loss and at the weights, before anything is made of them. Raises NonFinite."""
        if self._sound == self.done:
            return
        if self._loss is not None:
            self._check_finite(float(self._loss))
        if not bool(torch.stack([p.detach().isfinite().all() for p in self.parameters]).all()):
            raise NonFinite(self.done, "update", self.config)
        self._sound = self.done

    # ---------------------------------------------------------------- between steps

    def _after_step(self) -> None:
        config, last = self.config, self.done == self.steps
        every = config.validation.every or self.steps
        saved = False
        if self.loaded.held_out and (self.done % every == 0 or last):
            saved = self._validate()
        if config.save_every and self.done % config.save_every == 0 and not saved:
            self.checkpoint()
        elif last and not saved:
            self.checkpoint()
        if config.sample_every and (self.done % config.sample_every == 0 or last):
            self._samples(self.done)

    def _validate(self) -> bool:
        """Take the held-out loss; save a checkpoint when it is the best so far. Returns whether it was saved."""
        assert self.base is not None
        self._check_sound()
        with self.events.at("validation"), self.loaded.adapters.using(self.values()):
            reading = self.processes.together(self.questions.ask)
        if not math.isfinite(reading.mean):
            raise NonFinite(self.done, "held-out loss", self.config)
        said = set()
        if self.best_reading is None or reading.mean < self.best_reading.mean:
            said.add("best")
        elif clearly_worse(reading, self.best_reading):
            said.add("worse")
        self._tell_validation(self.done, reading)
        self.readings.append((self.done, reading.mean))
        self.last_reading = (self.done, reading)
        # Cards round differently: what the first one has read counts for all, or they would part ways here.
        said = self.processes.agree(said, ("best", "worse"))
        if "best" in said:
            self.best_step, self.best_values = self.done, self.values() or self.loaded.adapters.snapshot()
            self.best_reading = reading
            self.since_best = 0
            self.checkpoint(best=True)
            return True
        self.since_best += "worse" in said
        if self.config.early_stop and self.since_best >= self.config.early_stop and self.done < self.steps:
            self.stopped_early = True
            self.checkpoint()
            self.events.emit(
                "warning", code="early_stop",
                detail=f"The held-out loss was lowest at step {self.best_step} and has since been higher {self.since_best} times, "
                "by more than its noise: more steps would only memorise the pictures.",
                remedy="Nothing to do: the report says which checkpoint is delivered.",
            )  # fmt: skip
            return True
        return False

    def choice(self) -> Choice:
        """Say which checkpoint is to be delivered: this step's or that of `best_step`."""
        last = self.last_reading[1] if self.last_reading and self.last_reading[0] == self.done else None
        chosen = choose(self.done, last, self.best_step, self.best_reading)
        lost = dict(self.readings).get(self.lost_best) if self.lost_best is not None else None
        if lost is None or (self.best_reading is not None and self.best_reading.mean <= lost):
            return chosen
        more = f" At step {self.lost_best} it was lower, but that checkpoint was deleted or damaged."
        return dataclasses.replace(chosen, reason=chosen.reason + more)

    def _tell_split(self, most: int) -> None:
        self.events.emit(
            "ladder", action="validation_split",
            detail=f"Memory ran out while the held-out loss was taken. It is now taken {most} at a time; the result is the same.",
        )  # fmt: skip

    def _tell_validation(self, step: int, reading: validation.Reading) -> None:
        base = self.base.mean if self.base else None
        self.events.emit(
            "validation", step=step, loss=round(reading.mean, 6), base=round(base, 6) if base is not None else None,
            perPicture=reading.per_picture(),
        )  # fmt: skip

    def values(self) -> dict[str, Any] | None:
        """Return the averaged parameters when there is an average (copies on the CPU), else None."""
        if self.average is None:
            return None
        return {name: tensor.to("cpu", copy=True) for name, tensor in self.average.values.items()}

    def _samples(self, step: int, *, asked: bool = False) -> None:
        if step:
            self._check_sound()
        drawing.draw(self, step, asked=asked)

    # ---------------------------------------------------------------- state

    def fingerprint(self) -> dict[str, Any]:
        model = self.prepared.model
        return {
            "model": f"{model.family} {model.size_bytes} {model.native_size}",
            "modelName": model.path.name,
            "dataset": self.prepared.report.fingerprint,
            "settings": {name: getattr(self.config, name) for name in checkpoints.DECIDING},
            "heldOut": {p.file: f"{p.sha256} {p.caption} {p.box} {p.bucket} {p.mask}" for p in self.prepared.held_out},
        }

    def checkpoint(self, best: bool = False) -> str | None:
        """Save now; return the LoRA's path relative to the run folder. Raises NonFinite, StorageError."""
        self._check_sound()
        if self.run_folder is None or not self.processes.first:
            return None
        name = f"{self.config.name[:80]}-{self.done:06d}.safetensors"  # longer ones are no names of LoRAs

        def lora(folder: Path) -> None:
            with self.loaded.adapters.using(self.values()):
                if self.loaded.adapters.moved():  # zeros are no LoRA; the end of the run says what that means
                    save_lora(
                        folder / name,
                        self.loaded.pipe,
                        layout=self.loaded.family.lora,
                        dtype="fp16",
                        metadata=self.metadata(self.done),
                    )

        loss = self.readings[-1][1] if self.readings and self.readings[-1][0] == self.done else None
        with self.events.at("checkpoint"):
            state, meta = checkpoints.state_of(self), {"file": name, "heldOut": loss}
            folder = checkpoints.save(self.run_folder, self.done, state, meta, lora)
        checkpoints.prune(self.run_folder, self.config.keep_checkpoints or 3, self.best_step)
        file = f"checkpoints/{folder.name}/{name}"
        if not (folder / name).is_file():
            return None
        self.events.emit("checkpoint", step=self.done, file=file, best=best)
        return file

    def metadata(self, step: int) -> dict[str, str]:
        from dalla.diffusion.training.export_metadata import metadata_for

        return metadata_for(
            self.config, self.prepared.report, self.loaded.family.name, prediction=self.loaded.prediction,
            name=f"{self.config.name}-{step:06d}", variant=self.loaded.family.variant(self.loaded.pipe),
            result={"step": step, "steps": self.steps, "epoch": self.epoch},
        )  # fmt: skip

    def resume(self, path: Path) -> None:
        """Go on from a run's newest checkpoint (or the checkpoint folder given).

        Raises NotFound, StorageError (no state to go on from), InvalidInput (of another model, of other layers).
        """
        checkpoints.take_up(self, path)
