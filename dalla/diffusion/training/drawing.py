"""The sample pictures of a run: drawn at its steps and when somebody asks, and those of the base model, with which
the last ones are compared. A run that goes on takes the base model's from its folder, or draws them again."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dalla import imaging
from dalla.diffusion import hardware
from dalla.diffusion.training import resemblance
from dalla.diffusion.training.samples import file_of
from dalla.errors import DallaError, StorageError


def draw(loop: Any, step: int, *, asked: bool = False) -> None:
    """Draw every prompt with the numbers of now (training/loop.py's `loop`), save and tell the pictures.

    Without `asked` only when the run draws samples at all. When memory runs out none are drawn at the steps to come,
    and who asked is told. Raises StorageError.
    """
    if loop.run_folder is None or not loop.processes.first or not (loop.config.sample_every or asked):
        return
    with loop.events.at("samples"):
        try:
            drawn: dict[int, Any] = {}
            with loop.loaded.adapters.using(loop.values() if step else None):
                for prompt, image in _drawn(loop, loop.loaded.sampler.prompts):
                    drawn[prompt.index] = image
                    if step == 0:
                        loop.base_samples[prompt.index] = image
                    _tell(loop, step, prompt, image)
            loop.last_samples = (step, drawn)
            resemblance.tell(loop, step, drawn)
            return
        except Exception as exc:
            if not hardware.out_of_memory(exc):
                raise
        _no_memory(loop, asked)


def base(loop: Any) -> None:
    """Get the base model's pictures when a run goes on: from the folder it goes on from when they were drawn from the
    same prompts, otherwise drawn now. Raises StorageError."""
    if loop.run_folder is None or not loop.processes.first or not loop.config.sample_every:
        return
    root, drawn = loop.base_from
    missing = []
    for prompt in loop.loaded.sampler.prompts:
        image = _read(root / file_of(0, prompt.index)) if drawn.get(prompt.index) == _identity(loop, prompt) else None
        if image is None:
            missing.append(prompt)
        else:
            loop.base_samples[prompt.index] = image
    with loop.events.at("samples"):
        try:
            with loop.loaded.adapters.off():
                for prompt, image in _drawn(loop, missing):
                    loop.base_samples[prompt.index] = image
                    _tell(loop, 0, prompt, image)
            return
        except Exception as exc:
            if not hardware.out_of_memory(exc):
                raise
        _no_memory(loop, False)


def final(loop: Any, step: int) -> dict[int, Any]:
    """Draw every prompt with the numbers that are on the model now, those of `step`, to be delivered; save and tell the
    pictures, and return them by index. Those that were drawn last are taken when they are of this step.

    Empty when the run draws no samples. Raises StorageError.
    """
    found: dict[int, Any] = {}
    if loop.run_folder is None or not loop.config.sample_every or not loop.base_samples:
        return found
    if loop.last_samples[0] == step:
        return dict(loop.last_samples[1])
    try:
        for prompt, image in _drawn(loop, loop.loaded.sampler.prompts):
            found[prompt.index] = image
            _tell(loop, step, prompt, image)
        resemblance.tell(loop, step, found)
        return found
    except Exception as exc:
        if not hardware.out_of_memory(exc):
            raise
    _no_memory(loop, False)
    return {}


def identities(loop: Any) -> dict[int, list[Any]]:
    """Return from what each picture of the base model was drawn, by prompt index; the state of a checkpoint has it."""
    return {p.index: _identity(loop, p) for p in loop.loaded.sampler.prompts if p.index in loop.base_samples}


def _drawn(loop: Any, prompts: list[Any]) -> Iterator[tuple[Any, Any]]:
    """Yield every prompt with its picture. A picture is told before the next is there."""
    return zip(prompts, loop.loaded.sampler.draw_each(prompts), strict=True)


def _identity(loop: Any, prompt: Any) -> list[Any]:
    return [prompt.prompt, prompt.seed, loop.config.sample_steps, loop.loaded.sampler.side]


def _read(path: Path) -> Any:
    """Return a picture, or None when it is gone or damaged."""
    with contextlib.suppress(OSError, DallaError):
        return imaging.open_image(path.read_bytes(), name=path.name).image
    return None


def _tell(loop: Any, step: int, prompt: Any, image: Any) -> None:
    try:
        file = loop.loaded.sampler.write(loop.run_folder, step, prompt, image)
    except OSError as exc:
        raise StorageError.from_os(exc, "a sample picture") from exc
    loop.events.emit(
        "sample", step=step, index=prompt.index, prompt=prompt.prompt, seed=prompt.seed, file=file,
        withTrigger=prompt.with_trigger,
    )  # fmt: skip


def _no_memory(loop: Any, asked: bool) -> None:
    hardware.free_cache(loop.loaded.device)
    if loop.config.sample_every:
        loop.config = loop.config.with_(sample_every=0)
        loop.events.emit(
            "ladder",
            action="no_samples",
            detail="There is no memory for sample pictures, so none are drawn any more.",
        )
    if asked:
        loop.events.emit(
            "warning", code="no_memory_for_samples", step=loop.done,
            detail=f"The sample pictures of step {loop.done} could not be drawn: there is no memory for them.",
            remedy="Close other programs that use the memory and ask again, or use a checkpoint to draw with.",
        )  # fmt: skip
