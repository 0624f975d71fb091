"""Pictures as latents and captions as embeddings, computed once; and which of them make up each batch.

After this the VAE and (unless they are trained) the text encoders are not needed, so they leave the graphics
card. The disk cache is keyed by content: file, VAE, crop and size for latents; text, encoders and length for
embeddings. So a changed picture, caption, crop or model never meets an old entry.
"""

from __future__ import annotations

import hashlib
import json
import logging
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from dalla import paths, training_set
from dalla.bucketing import batches_per_epoch
from dalla.errors import InvalidInput
from dalla.training_set import SetPicture, SetReport

#: With shuffled captions so many orders of each caption are encoded.
ORDERS = 8
CACHE_FOLDER = ".cache"
_TEXT_BATCH = 8

Tell = Callable[[int, int], None]
log = logging.getLogger(__name__)


@dataclass
class Example:
    """One picture ready for training: latents (channels, height, width) fp32 on the CPU."""

    file: str
    sha256: str
    captions: list[str]  # the orders of its caption; the first is the caption as written
    latents: Any
    mask: Any  # (1, height, width) from 0 to 1, or None
    sizes: Any  # (6,): original height, width, crop top, left, trained height, width in px
    repeats: int = 1

    @property
    def shape(self) -> tuple[int, int]:
        return int(self.latents.shape[1]), int(self.latents.shape[2])


class Cache:
    """Tensors on the disk under a content key. A folder of None keeps nothing. Damage is a miss."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    def get(self, key: str) -> dict[str, Any] | None:
        from safetensors.torch import load_file

        if self._folder is None or not (path := self._folder / f"{key}.safetensors").is_file():
            return None
        try:
            return load_file(path)
        except Exception:  # noqa: BLE001 - a damaged entry is computed again
            return None

    def put(self, key: str, tensors: dict[str, Any]) -> None:
        from safetensors.torch import save

        if self._folder is None:
            return
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            data = save({name: tensor.contiguous() for name, tensor in tensors.items()})
            paths.write_atomic(self._folder / f"{key}.safetensors", data, durable=False)
        except OSError as exc:  # a full or read-only disk costs time later, not the run now
            log.warning("Nothing is kept in %s, so the next run computes it again: %s", self._folder, exc)
            self._folder = None


def weights_hash(*modules: Any) -> str:
    """Return a hash of networks' numbers: what decides the output of a VAE or text encoder."""
    digest = hashlib.sha256()
    for module in modules:
        for name, tensor in module.state_dict().items():
            digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
            digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def encode_pictures(
    pipe: Any,
    folder: Path,
    pictures: list[SetPicture],
    config: Any,
    device: str,
    cache: Cache,
    tell: Tell | None = None,
) -> list[Example]:
    """Cut, scale and encode pictures in fp32 (SDXL's VAE makes NaN in fp16), one at a time.

    Raises InvalidInput when the VAE gives numbers that are not finite, and whatever reading a picture raises.
    """
    vae = pipe.vae
    own = vae.dtype
    vae.to(device)
    if own != torch.float32:
        vae.to(torch.float32)
    if max(p.bucket[0] * p.bucket[1] for p in pictures) > 1536 * 1536:
        vae.enable_tiling()
    stamp = f"{weights_hash(vae)} {vae.config.scaling_factor} {vae.config.get('shift_factor')}"
    rng = random.Random(config.seed)
    examples = []
    for number, picture in enumerate(pictures):
        if tell is not None:
            tell(number, len(pictures))
        key_text = f"{picture.sha256} {stamp} {picture.box} {picture.bucket}"
        key = "latents-" + hashlib.sha256(key_text.encode()).hexdigest()[:40]
        found = cache.get(key)
        latents = found.get("latents") if found else None
        if latents is None:
            latents = _encode(vae, folder / picture.file, picture, device)
            if not torch.isfinite(latents).all():
                raise InvalidInput(
                    f"The model's VAE gives no usable numbers for {picture.file}.",
                    remedy="Use a base model with a working VAE (for SDXL: one with the fixed VAE).",
                )
            cache.put(key, {"latents": latents})
        width, height = picture.bucket
        left, top = round(picture.box[0] * picture.scale), round(picture.box[1] * picture.scale)
        examples.append(
            Example(
                picture.file,
                picture.sha256,
                orders(picture.caption, config.keep_tokens, rng) if config.shuffle_captions else [picture.caption],
                latents,
                _mask(folder, picture, tuple(latents.shape[1:])) if config.masked_loss else None,
                torch.tensor([picture.height, picture.width, top, left, height, width], dtype=torch.float32),
                picture.repeats,
            )
        )
    vae.to("cpu")
    if own != torch.float32:
        vae.to(own)
    return examples


def _encode(vae: Any, path: Path, picture: SetPicture, device: str) -> Any:
    import numpy
    from PIL import Image

    image, _ = training_set.open_rgb(path)
    image = image.resize(picture.bucket, Image.Resampling.LANCZOS, box=picture.box)
    pixels = torch.from_numpy(numpy.asarray(image).copy()).permute(2, 0, 1)[None].float() / 127.5 - 1
    with torch.no_grad():
        latents = vae.encode(pixels.to(device)).latent_dist.mode()
    shift = vae.config.get("shift_factor") or 0.0
    return ((latents - shift) * vae.config.scaling_factor)[0].float().cpu()


def _mask(folder: Path, picture: SetPicture, shape: tuple[int, ...]) -> Any:
    """Return how much each place counts: the mask file, else the alpha channel, else None (everything)."""
    import numpy
    from PIL import Image

    path = folder / picture.file
    if picture.mask is not None:
        mask = training_set.open_mask(path.with_name(picture.mask))
        if mask.size != (picture.width, picture.height):
            mask = mask.resize((picture.width, picture.height), Image.Resampling.BILINEAR)
    else:
        _, mask = training_set.open_rgb(path)
    if mask is None:
        return None
    mask = mask.resize((shape[1], shape[0]), Image.Resampling.BOX, box=picture.box)
    # A little of everything counts, so that the surroundings are not learned as noise.
    values = torch.from_numpy(numpy.asarray(mask).copy()).float()[None] / 255
    return values.clamp(min=0.05)


def orders(caption: str, keep: int, rng: random.Random) -> list[str]:
    """Return a caption and other orders of its comma-separated tags; the first `keep` tags stay in front."""
    tags = [tag.strip() for tag in caption.split(",") if tag.strip()]
    front, rest = tags[:keep], tags[keep:]
    if len(rest) < 2:
        return [caption]
    found = [caption]
    for _ in range(ORDERS - 1):
        rng.shuffle(rest)
        found.append(", ".join([*front, *rest]))
    return found


class Texts:
    """Captions as tensors. `live` encodes anew each time, with gradients: for trained text encoders."""

    def __init__(self, pipe: Any, family: Any, length: int, device: str, dtype: Any, *, live: bool) -> None:
        self._pipe, self._family = pipe, family
        self._length, self._device, self._dtype = length, device, dtype
        self.live = live
        self._known: dict[str, dict[str, Any]] = {}

    def prepare(self, captions: list[str], cache: Cache, encoders: list[Any], tell: Tell | None = None) -> None:
        """Encode captions ahead (not needed when live). `encoders` are the networks they depend on."""
        wanted = [c for c in dict.fromkeys(captions) if c not in self._known]
        if self.live or not wanted:
            return
        stamp = weights_hash(*encoders)
        missing = []
        keys = {}
        for caption in wanted:
            text = json.dumps([caption, stamp, self._length, str(self._dtype), self._family.name])
            keys[caption] = "text-" + hashlib.sha256(text.encode()).hexdigest()[:40]
            found = cache.get(keys[caption])
            if found:
                self._known[caption] = found
            else:
                missing.append(caption)
        for start in range(0, len(missing), _TEXT_BATCH):
            if tell is not None:
                tell(len(wanted) - len(missing) + start, len(wanted))
            part = missing[start : start + _TEXT_BATCH]
            with torch.no_grad():
                tensors = self._family.condition(self._pipe, part, self._length)
            for row, caption in enumerate(part):
                mine = {name: t[row].to("cpu", self._dtype).clone() for name, t in tensors.items()}
                if not all(torch.isfinite(t).all() for t in mine.values()):
                    raise InvalidInput(
                        "The model's text encoder gives no usable numbers.",
                        remedy="Use another copy of the base model.",
                    )
                self._known[caption] = mine
                cache.put(keys[caption], mine)

    def batch(self, captions: list[str]) -> dict[str, Any]:
        """Return the tensors of these captions, stacked, on the training device."""
        if self.live:
            return self._family.condition(self._pipe, captions, self._length)
        rows = [self._known[caption] for caption in captions]
        free = self._device == "cuda"
        return {name: torch.stack([row[name] for row in rows]).to(self._device, non_blocking=free) for name in rows[0]}


@dataclass
class Batches:
    """The order of the examples. Batch number m is the same for the same seed, whoever asks and when."""

    examples: list[Example]
    batch_size: int
    seed: int
    _epoch: int = -1
    _order: list[list[int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        buckets: dict[tuple[int, int], list[int]] = {}
        for index, example in enumerate(self.examples):
            buckets.setdefault(example.shape, []).extend([index] * example.repeats)
        self._buckets = [buckets[shape] for shape in sorted(buckets)]
        self.per_epoch = batches_per_epoch([len(b) for b in self._buckets], self.batch_size)

    def batch(self, number: int) -> list[Example]:
        """Return batch `number` since the beginning. No picture is dropped: short batches are batches too."""
        epoch, place = divmod(number, self.per_epoch)
        if epoch != self._epoch:
            rng = random.Random(f"{self.seed}/{epoch}")
            order = []
            for bucket in self._buckets:
                mixed = bucket[:]
                rng.shuffle(mixed)
                order += [mixed[i : i + self.batch_size] for i in range(0, len(mixed), self.batch_size)]
            rng.shuffle(order)
            self._epoch, self._order = epoch, order
        return [self.examples[i] for i in self._order[place]]


def hold_out(pictures: list[SetPicture], count: int, seed: int) -> tuple[list[SetPicture], list[SetPicture]]:
    """Set `count` pictures aside: (train, held out). Copies of a picture, and copies of these, stay on one side."""
    if count <= 0:
        return pictures, []
    twin = {picture.file: picture.duplicate_of for picture in pictures}
    groups: dict[str, list[SetPicture]] = {}
    for picture in pictures:
        first = picture.file
        while other := twin.get(first):  # always one further in front (training_set.scan)
            first = other
        groups.setdefault(first, []).append(picture)
    single = [rows[0] for rows in groups.values() if len(rows) == 1]
    chosen = set(p.file for p in random.Random(f"{seed}/held out").sample(single, min(count, len(single))))
    return [p for p in pictures if p.file not in chosen], [p for p in pictures if p.file in chosen]


def refuse_empty(report: SetReport) -> None:
    """Raise InvalidInput when a set has no usable picture, with the reasons."""
    if report.pictures:
        return
    reasons = "; ".join(f"{row['file']}: {row['reason']}" for row in report.skipped[:3])
    raise InvalidInput.field(
        "datasetFolder",
        f"The folder '{report.folder}' holds no picture that can be trained" + (f" ({reasons})." if reasons else "."),
        remedy="Put at least five PNG, JPEG or WebP pictures into it.",
    )
