"""How like the training pictures the samples of a run are, step by step: the line that rises while a LoRA learns.

Two measures. Whole pictures: the middle of the VAE's latents in 8 x 8 fields, for every base model. Faces: SFace, where
the training pictures are photographs of a person (likeness.Person). The report takes a closer look at the end.
"""

from __future__ import annotations

import logging
from typing import Any

import torch

from dalla.diffusion import hardware, likeness

log = logging.getLogger(__name__)


class Resemblance:
    """Compares samples with the training set of a run (training/loop.py's `loop`). Made when the first are drawn."""

    def __init__(self, loop: Any) -> None:
        self._loop = loop
        self._train = torch.stack([pooled(e.latents) for e in loop.loaded.train])
        self._before: dict[int, Any] = {}  # the base model's pictures as vectors, by prompt index
        # Each picture is a sign of life: who looks after a run takes silence for an end.
        self._person = likeness.Person.of_run(loop, lambda done: loop.events.emit("faces", done=done))

    def of(self, drawn: dict[int, Any]) -> dict[str, Any]:
        """Return the mean similarities of samples (PIL images by prompt index) as {"pictures", "faces", "training"}.

        All are cosines, None where there is nothing to measure. Samples with the trigger word count; all do when none
        has it. `training` has the same two for the training pictures among themselves, which samples can hardly exceed.
        """
        loop = self._loop
        known = {p.index: p.with_trigger for p in loop.loaded.sampler.prompts}
        shared = [i for i in drawn if i in loop.base_samples]
        named = [i for i in shared if known[i]] or shared
        if not named:
            return {"pictures": None}
        new = [i for i in shared if i not in self._before]
        for i, vector in zip(new, encoded(loop, [loop.base_samples[i] for i in new], loop.loaded.device), strict=True):
            self._before[i] = vector
        now = torch.stack(encoded(loop, [drawn[i] for i in named], loop.loaded.device))
        centre = middle(self._train, torch.stack([self._before[i] for i in shared]))
        return {
            "pictures": round(cosine(now, self._train, centre), 4),
            "faces": self._person.similarity([drawn[i] for i in named]) if self._person else None,
            "training": {"pictures": among(self._train, centre), "faces": self._person.among if self._person else None},
        }


def tell(loop: Any, step: int, drawn: dict[int, Any]) -> None:
    """Measure samples and tell it as the event `resemblance`. What cannot be measured costs the line, never the run."""
    if loop.resemblance is False or not drawn:
        return
    try:
        loop.resemblance = loop.resemblance or Resemblance(loop)
        found = loop.resemblance.of(drawn)
    except Exception as exc:  # noqa: BLE001 - whatever a VAE, a picture or OpenCV raises
        if hardware.out_of_memory(exc):
            hardware.free_cache(loop.loaded.device)
        log.warning("How like the training pictures the samples are is not measured any more: %s", exc)
        loop.resemblance = False
        return
    if found["pictures"] is not None:
        loop.events.emit("resemblance", step=step, **found)


def middle(train: Any, before: Any) -> Any:
    """Return the point from which likeness is seen: halfway between the base model's pictures and the training pictures.

    Both are (pictures, numbers). Seen from zero, all pictures would look alike.
    """
    return (train.mean(0) + before.mean(0)) / 2


def cosine(pictures: Any, train: Any, centre: Any) -> float:
    """Return the mean cosine between vectors (pictures, numbers) and the training pictures', seen from `centre`."""
    one, other = (torch.nn.functional.normalize(rows - centre, dim=1) for rows in (pictures, train))
    return float((one @ other.T).mean())


def among(train: Any, centre: Any) -> float | None:
    """Return the mean cosine of training pictures (pictures, numbers) to each other, seen from `centre`; None of one."""
    count = len(train)
    if count < 2:
        return None
    total = torch.nn.functional.normalize(train - centre, dim=1).sum(0)
    return round((float(total @ total) - count) / (count * (count - 1)), 4)


def pooled(latents: Any) -> Any:
    """Return the middle of a picture's latents (channels, height, width) as a vector; the border is mostly background."""
    height, width = latents.shape[1:]
    inner = latents[:, height // 5 : height - height // 5, width // 5 : width - width // 5]
    return torch.nn.functional.adaptive_avg_pool2d(inner[None].float(), 8).flatten()


def encoded(loop: Any, images: list[Any], device: str) -> list[Any]:
    """Return pictures as vectors, encoded on the device, if it has room, in fp32 as the training pictures were (in fp16
    SDXL's VAE gives NaN)."""
    if not images:
        return []
    vae = loop.loaded.pipe.vae
    was = vae.device, vae.dtype
    try:
        vae.to(device, torch.float32)
        return [_vector(vae, image) for image in images]
    except Exception as exc:
        if device == "cpu" or not hardware.out_of_memory(exc):
            raise
    finally:
        vae.to(*was)
    hardware.free_cache(device)
    return encoded(loop, images, "cpu")


def _vector(vae: Any, image: Any) -> Any:
    import numpy

    pixels = torch.from_numpy(numpy.asarray(image.convert("RGB")).copy()).permute(2, 0, 1)[None].float() / 127.5 - 1
    with torch.no_grad():
        latents = vae.encode(pixels.to(vae.device, vae.dtype)).latent_dist.mode().float().cpu()
    return pooled((latents[0] - (vae.config.get("shift_factor") or 0.0)) * vae.config.scaling_factor)
