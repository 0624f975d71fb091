"""Get a run ready: read the set, load the model, put the layers on, compute latents and embeddings, free the rest.

Everything that can be refused is refused here, before anything long starts.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from dalla import model_folder, training_set
from dalla.diffusion import hardware
from dalla.diffusion.families import family as family_of
from dalla.diffusion.training import base_model, dataset, fused, parallel, quantized
from dalla.diffusion.training.adapters import NAME, Adapters
from dalla.diffusion.training.base_model import BaseModel
from dalla.diffusion.training.objective import objective_for
from dalla.diffusion.training.samples import Sampler, prompts_for, without_word
from dalla.diffusion.workers import Workers
from dalla.records.training import TrainingConfig
from dalla.records.training_machine import Machine, installed, refuse_shortcomings
from dalla.training_set import SetPicture, SetReport

Tell = Callable[..., None]
#: U-Nets of at most so many numbers are small ones, such as the starter model's four million.
SMALL = 10_000_000


@dataclass
class Prepared:
    """A run's settings and pictures, before any model is in memory."""

    config: TrainingConfig
    model: BaseModel
    report: SetReport
    train: list[SetPicture]
    held_out: list[SetPicture]
    prior: SetReport | None
    batches_per_epoch: int


def prepare(config: TrainingConfig, tell: Tell) -> Prepared:
    """Check the settings and look at model and pictures. Loads nothing; raises what a person can act on."""
    config.refuse_problems()
    refuse_machine(config)
    config = config.with_(processes=parallel.count())
    model = base_model.inspect(
        Path(config.base_model), config.family, Path(config.models_folder) if config.models_folder else None
    )
    tell("phase", name="pictures", detail="Reading the pictures")
    first = config.complete(model.family, 1, native_size=model.native_size)
    bucket_step = math.lcm(first.bucket_step or 64, model_folder.side_multiple(model.path, model.family))

    def scan(folder: str) -> SetReport:
        return training_set.scan(
            folder, trigger_word=config.trigger_word, class_word=config.class_word, resolution=first.resolution or 512,
            bucket_step=bucket_step, batch_size=first.batch_size or 1, masked_loss=config.masked_loss,
            gradient_accumulation=first.gradient_accumulation or 1, repeats=config.repeats,
        )  # fmt: skip

    report = scan(config.dataset_folder)
    dataset.refuse_empty(report)
    train, held = dataset.hold_out(report.pictures, config.held_out(len(report.pictures)), config.seed)
    config = config.complete(model.family, len(train), native_size=model.native_size).with_(bucket_step=bucket_step)
    counts: dict[tuple[int, int], int] = {}
    for picture in train:
        counts[picture.bucket] = counts.get(picture.bucket, 0) + picture.repeats
    batches = dataset.batches_per_epoch(list(counts.values()), config.batch_size or 1)
    if not config.steps:
        per_epoch = math.ceil(batches / ((config.gradient_accumulation or 1) * config.processes))
        config = config.with_steps((config.epochs or 1) * per_epoch)
    prior = None
    if config.prior_folder and config.prior_weight:
        prior = training_set.scan(
            config.prior_folder,
            class_word=config.class_word,
            resolution=config.resolution or 512,
            bucket_step=bucket_step,
        )
        dataset.refuse_empty(prior)
    config.refuse_problems()
    return Prepared(config, model, report, train, held, prior, batches)


def refuse_machine(config: TrainingConfig) -> None:
    """Raise InvalidInput by field for what this machine cannot do: a device, a package, a number format."""
    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    gpus = torch.cuda.device_count() if cuda else 0
    devices = frozenset({"cpu", *(["cuda"] if cuda else []), *(["mps"] if mps else [])})
    best = "cuda" if cuda else "mps" if mps else "cpu"
    # How many processes there are is known by now. On the processor any number may train together.
    on_cards = best == "cuda" and config.device != "cpu"
    count = parallel.count_here() if on_cards else 1
    machine = Machine(devices, frozenset({best}), gpus, installed)
    refuse_shortcomings(config.with_(processes=count), machine)
    if config.optimizer == "adamw8bit" or config.quantize in ("int8", "nf4"):
        quantized.load_bitsandbytes()


@dataclass
class Loaded:
    """A model with LoRA layers, and everything computed ahead. `predict` and `autocast` are how it is asked."""

    config: TrainingConfig
    family: Any
    pipe: Any
    device: str
    amp: Any  # torch dtype of autocast, or None
    adapters: Adapters
    objective: Any
    texts: dataset.Texts
    train: list[dataset.Example]
    held_out: list[dataset.Example]
    prior: list[dataset.Example]
    sampler: Sampler
    prediction: str
    notes: list[str] = field(default_factory=list)
    workers: Workers = field(default_factory=Workers)

    @property
    def denoiser(self) -> Any:
        return getattr(self.pipe, self.family.lora.denoiser)

    def autocast(self) -> Any:
        if self.amp is None:
            return contextlib.nullcontext()
        return torch.autocast("cuda" if self.device.startswith("cuda") else self.device, dtype=self.amp)

    @functools.cached_property
    def _dtype(self) -> Any:
        return self.denoiser.dtype  # looked for in all of its modules: some milliseconds

    def predict(self, noised: Any, condition: dict[str, Any], sizes: Any) -> Any:
        dtype = self._dtype if self.amp is None else self.amp
        condition = {name: tensor.to(dtype) for name, tensor in condition.items()}
        return self.family.predict(self.pipe, noised.noisy.to(dtype), noised.level, condition, sizes)


def load(prepared: Prepared, tell: Tell, *, stop: Callable[[], None] = lambda: None) -> Loaded:
    """Load, encode, attach. `stop` is called between the long parts and may raise Cancelled."""
    config, model = prepared.config, prepared.model
    wanted = {"no": "fp32"}.get(config.mixed_precision, config.mixed_precision)
    if config.device != "cpu":
        parallel.take_card()
    place = hardware.choose(config.device, wanted)
    device = place.device
    if device == "cuda":
        torch.backends.cuda.matmul.allow_tf32 = True
        torch.backends.cudnn.allow_tf32 = True
    family = family_of(model.family)
    tell("phase", name="model", detail=f"Loading {model.path.name}")
    pipe = family.load_pipeline(
        model.path, place.dtype, parts=Path(config.models_folder) if config.models_folder else None
    )
    pipe.set_progress_bar_config(disable=True)
    count = hardware._set_threads(pipe) // parallel.count_here() if device == "cpu" else 1
    notes: list[str] = []
    stop()

    told = 0.0
    cache = dataset.Cache(Path(config.dataset_folder) / dataset.CACHE_FOLDER if config.cache_to_disk else None)
    encoders = [c for c in ("text_encoder", "text_encoder_2", "text_encoder_3") if getattr(pipe, c, None) is not None]

    def pictures(rows: list[SetPicture], folder: str, detail: str) -> list[dataset.Example]:
        def progress(done: int, total: int) -> None:
            stop()
            nonlocal told
            if done == 0 or time.monotonic() - told > 0.25:
                told = time.monotonic()
                tell("phase", name="latents", detail=detail, done=done, total=total)

        return dataset.encode_pictures(pipe, Path(folder), rows, config, device, cache, progress) if rows else []

    train = pictures(prepared.train, config.dataset_folder, "Encoding the pictures")
    held = pictures(prepared.held_out, config.dataset_folder, "Encoding the pictures set aside")
    prior_rows = prepared.prior.pictures if prepared.prior else []
    prior = pictures(prior_rows, config.prior_folder or "", "Encoding the class pictures")

    captions = [c for example in [*train, *held, *prior] for c in example.captions]
    swapped = [swap(c, config) for c in [*captions, ""]]  # a dropped caption becomes the class word
    length = family.text_length(pipe, [*captions, *swapped, ""], config.preset != "quick")
    texts = dataset.Texts(pipe, family, length, device, place.dtype, live=config.train_text_encoder)
    shown = prompts_for(config, [e.captions[0] for e in held or train])
    sampler = Sampler(pipe, family, config, shown, device, model.native_size)
    if not config.train_text_encoder:
        tell("phase", name="texts", detail="Encoding the captions")
        for name in encoders:  # one after another: a T5 and a denoiser at once may not fit
            getattr(pipe, name).to(device)
        # Swapped captions are needed for the report, and the empty one for dropped captions.
        texts.prepare([*captions, *swapped, ""], cache, [getattr(pipe, name) for name in encoders])
        sampler.encode()
        for name in encoders:
            setattr(pipe, name, None)
        gc.collect()
        if device == "cuda":
            torch.cuda.empty_cache()
    stop()

    tell("phase", name="place", detail="Making the model ready for training")
    notes += quantized.quantize(pipe, family, config.quantize)
    adapters = Adapters(pipe, family, config)
    denoiser = getattr(pipe, family.lora.denoiser)
    if config.train_text_encoder:
        for name in encoders:
            getattr(pipe, name).to(device)
    denoiser.to(device)
    if device == "cpu":
        # A small U-Net's convolutions are faster with the channels last; a larger one gains nothing, and its step takes a
        # fifth more memory. PEFT's DoRA cannot read weights that lie so.
        if family.lora.denoiser == "unet" and not config.use_dora and count_of(denoiser) <= SMALL:
            denoiser.to(memory_format=torch.channels_last)
        for part in adapters.components().values():
            fused.fuse(part, NAME)
    if config.gradient_checkpointing:
        checkpointing(adapters)
    if config.compile:
        notes += _compile(denoiser, family, device)
    for part in adapters.components().values():
        part.train()
    # A tokenizer is nobody's to share: it sets its padding for each call.
    if place.dtype != torch.float32 or config.train_text_encoder or draws_at_random(adapters):
        count = 1
    workers = sampler.workers = Workers(count)
    return Loaded(
        config, family, pipe, device, place.dtype if place.dtype != torch.float32 else None, adapters,
        objective_for(family, pipe, config), texts, train, held, prior, sampler,
        "flow" if family.flow else str(pipe.scheduler.config.get("prediction_type", "epsilon")),
        [*notes, *place.notes, *adapters.notes], workers,
    )  # fmt: skip


def draws_at_random(adapters: Adapters) -> bool:
    """Say whether what is trained has any dropout: then the order in which its parts are computed would count."""
    modules = (module for part in adapters.components().values() for module in part.modules())
    return any(
        value > 0
        for module in modules
        for name, value in vars(module).items()
        if isinstance(value, int | float)
        and ("dropout" in name or (name == "p" and isinstance(module, torch.nn.modules.dropout._DropoutNd)))
    )


def swap(caption: str, config: TrainingConfig) -> str:
    """Return the caption with the class word in the place of the trigger word: what the likeness must not leak into.

    A caption that names the class already only loses the trigger word; one without either gets the class word in front.
    """
    trigger, other = config.trigger_word.strip(), config.class_word.strip()
    if not trigger:
        return caption
    bare = without_word(caption, trigger)
    if not other or training_set.has_word(bare, other):
        return bare
    swapped, count = training_set.alone(trigger).subn(lambda _: other, caption)
    if count:
        return swapped
    return f"{other}, {bare}" if bare else other


def count_of(network: Any) -> int:
    """Return how many numbers a network has."""
    return sum(parameter.numel() for parameter in network.parameters())


def checkpointing(adapters: Adapters) -> None:
    """Trade time for memory: activations are computed again on the way back."""
    for part in adapters.components().values():
        if hasattr(part, "enable_gradient_checkpointing"):
            part.enable_gradient_checkpointing()
        elif hasattr(part, "gradient_checkpointing_enable"):
            part.gradient_checkpointing_enable()
            part.enable_input_require_grads()


def compiling(config: TrainingConfig) -> Any:
    """Let what comes inside be compiled for. Steps only: readings, samples and the check of the file have other sizes
    and modes, each of which would cost a compilation, and after eight PyTorch compiles no more."""
    return torch.compiler.set_stance("default") if config.compile else contextlib.nullcontext()


def _compile(denoiser: Any, family: Any, device: str) -> list[str]:
    """Compile block by block where that pays: transformers on an NVIDIA card. Returns what to tell.

    The blocks of a kind are alike, so that one compilation serves all. A U-Net's are not, and gain little.
    """
    if family.lora.denoiser != "transformer":
        return ["torch.compile is left out: a U-Net gains less than the compiling takes."]
    if device != "cuda":
        return ["torch.compile is left out: it pays on NVIDIA cards only."]
    for name in ("transformer_blocks", "single_transformer_blocks"):
        for block in getattr(denoiser, name, []):
            block.compile()
    torch.compiler.set_stance("eager_on_recompile")
    return ["The blocks of the model are compiled, so the first steps are slow."]
