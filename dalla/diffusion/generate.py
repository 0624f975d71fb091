"""Draw pictures: load a model (once), put LoRAs on, run its pipeline, picture by picture.

Pictures of a batch are drawn one after another, each with its own generator on the CPU seeded
`seed + i`. So picture i comes out the same, to the pixel, when it is asked for alone later; and a
batch needs no more memory than one picture.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dalla import imaging
from dalla.diffusion import hardware, loras
from dalla.diffusion.families import family as family_of
from dalla.diffusion.preview import Previewer
from dalla.diffusion.sampling import build_scheduler
from dalla.errors import Cancelled, DallaError, InvalidInput, UpstreamError

log = logging.getLogger(__name__)
PREVIEW_SECONDS = 0.7


@dataclass
class Task:
    """What is to be drawn, as it comes over the pipe (see `engines/images/builtin.py`)."""

    model: dict[str, Any]  # name, path, stamp, family, parts
    prompt: str
    negative_prompt: str
    width: int
    height: int
    steps: int
    seed: int
    sampler: str
    scheduler: str
    cfg_scale: float | None = None
    guidance: float | None = None
    batch_size: int = 1
    loras: list[dict[str, Any]] = field(default_factory=list)
    denoise: float = 1.0
    device: str = "auto"
    precision: str = "auto"


@dataclass
class Drawn:
    """PNG files in batch order and what they were drawn with."""

    images: list[bytes]
    device: str
    precision: str
    notes: list[str]


class Listener:
    """Where the generator tells what it does. Every method may raise Cancelled."""

    def phase(self, message: str) -> None: ...
    def progress(self, done: float, total: float, message: str) -> None: ...
    def preview(self, jpeg: bytes) -> None: ...


class _Loaded:
    """A model in memory."""

    def __init__(self, key: tuple[Any, ...], task: Task, place: hardware.Hardware) -> None:
        self.key = key
        self.family = family_of(task.model["family"])
        self.pipe = self.family.load_pipeline(
            Path(task.model["path"]), place.dtype, parts=Path(task.model["parts"]) if task.model.get("parts") else None
        )
        self.own_schedule = dict(self.pipe.scheduler.config)
        hardware.place(self.pipe, place)
        self.pipe.set_progress_bar_config(disable=True)
        self.hardware = place
        self.loras = loras.Loras(self.pipe, self.family)
        self.previewer = Previewer(self.pipe.vae)
        self._second: Any = None

    def pipeline(self, with_image: bool) -> Any:
        if not with_image:
            return self.pipe
        if self._second is None:
            self._second = self.family.image_to_image(self.pipe)
            self._second.set_progress_bar_config(disable=True)
        return self._second


class Generator:
    """Holds one model at a time. Not thread-safe: one call after another."""

    def __init__(self) -> None:
        self._loaded: _Loaded | None = None

    @property
    def device(self) -> str | None:
        return self._loaded.hardware.device if self._loaded else None

    def generate(self, task: Task, init_image: bytes | None, listener: Listener, cancel: threading.Event) -> Drawn:
        """Draw a task. Raises Cancelled between steps, InvalidInput, StorageError, UpstreamError."""
        loaded: _Loaded | None = None
        try:
            loaded = self._load(task, listener)
            return self._draw(loaded, task, init_image, listener, cancel)
        except DallaError:
            raise
        except Exception as exc:
            if hardware.out_of_memory(exc):
                place = loaded.hardware if loaded else hardware.choose(task.device, task.precision)
                loaded = None
                hardware.let_go(exc)
                self.unload()
                hardware.free_cache(place.device)  # also of a model that was only half there
                raise hardware.memory_error(place) from exc
            log.exception("drawing failed")
            raise UpstreamError(
                f"The built-in engine could not draw this: {str(exc).splitlines()[0][:300] if str(exc) else type(exc).__name__}",
                service="builtin",
                remedy="Try other settings or another model; the engine's log has the details.",
            ) from exc

    def unload(self) -> None:
        """Forget the model and give its memory back."""
        device = self.device
        self._loaded = None
        if device:
            hardware.free_cache(device)

    def _load(self, task: Task, listener: Listener) -> _Loaded:
        key = (task.model["path"], task.model.get("stamp"), task.model["family"], task.device, task.precision)
        if self._loaded is None or self._loaded.key != key:
            self.unload()  # before loading: two models at once may not fit
            listener.phase(f"Loading {task.model['name']}")
            self._loaded = _Loaded(key, task, hardware.choose(task.device, task.precision))
        return self._loaded

    def _draw(
        self, loaded: _Loaded, task: Task, init_image: bytes | None, listener: Listener, cancel: threading.Event
    ) -> Drawn:
        import torch

        family = loaded.family
        with_image = init_image is not None and task.denoise < 1
        pipe = loaded.pipeline(with_image)
        notes = list(loaded.hardware.notes) + loaded.loras.apply(loras.uses_from(task.loras))
        multiple = family.size_multiple(loaded.pipe)
        if task.width % multiple or task.height % multiple:
            raise InvalidInput.field("width", f"This model needs a width and height that are multiples of {multiple}.")

        arguments: dict[str, Any] = {
            "num_inference_steps": task.steps,
            **family.guidance(task.cfg_scale, task.guidance),
        }
        if with_image:
            arguments["image"] = cover(init_image or b"", task.width, task.height)
            arguments["strength"] = task.denoise
            arguments["num_inference_steps"] = max(task.steps, math.ceil(1 / task.denoise))
        if not with_image or task.model["family"] in ("sd3", "flux"):  # the U-Net pipelines take the image's size
            arguments |= {"width": task.width, "height": task.height}
        with torch.inference_mode():
            guided = family.is_guided(task.cfg_scale)
            encoded = family.encode(loaded.pipe, task.prompt, task.negative_prompt, guided)
            arguments |= encoded.arguments
            images = []
            for number in range(task.batch_size):
                pipe.scheduler = build_scheduler(
                    loaded.own_schedule, task.sampler, task.scheduler, family=family.name, flow=family.flow
                )
                picture = pipe(
                    **arguments,
                    generator=torch.Generator("cpu").manual_seed(task.seed + number),
                    callback_on_step_end=self._on_step(loaded, task, number, listener, cancel),
                    output_type="pil",
                ).images[0]
                if cancel.is_set():
                    raise Cancelled("Cancelled.")
                images.append(imaging.to_png(picture))
        listener.progress(1, 1, "Done")
        return Drawn(images, loaded.hardware.device, loaded.hardware.precision, notes + encoded.notes)

    def _on_step(
        self, loaded: _Loaded, task: Task, number: int, listener: Listener, cancel: threading.Event
    ) -> Callable[..., dict[str, Any]]:
        last_preview = time.monotonic()
        of = f" of picture {number + 1} of {task.batch_size}" if task.batch_size > 1 else ""

        def on_step(pipe: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
            nonlocal last_preview
            if cancel.is_set():
                raise Cancelled("Cancelled.")
            steps = max(1, pipe.num_timesteps)
            done = number * steps + min(step + 1, steps)
            # One more than there are steps: after the last one the picture is still to be decoded.
            listener.progress(done, task.batch_size * steps + 1, f"Step {step + 1} of {steps}{of}")
            if time.monotonic() - last_preview > PREVIEW_SECONDS and step + 1 < steps:
                latents = loaded.family.spatial(pipe, tensors["latents"], task.width, task.height)
                if (jpeg := loaded.previewer.jpeg(latents)) is not None:
                    listener.preview(jpeg)
                last_preview = time.monotonic()
            return tensors

        return on_step


def cover(data: bytes, width: int, height: int) -> Any:
    """Read a picture and fill the size with it: scaled, the overhang cut off evenly."""
    try:
        picture = imaging.open_image(data)
    except DallaError as exc:
        raise InvalidInput.field("initImage", f"The start picture cannot be read: {exc.detail}") from exc
    return imaging.fit_cover(imaging.flatten(picture.image), width, height)
