"""How one LoRA is trained: every setting, its limits, and the presets with the source of their numbers.

Plain data, no torch: the web process, the trainer and the command line read the same record. A value
of None means "the preset decides"; `complete` fills it in. `problems` says in plain words what is not
possible, before anything long starts.
"""

from __future__ import annotations

import math
from typing import Any, Literal

from pydantic import Field
from pydantic.alias_generators import to_camel

from dalla.errors import InvalidInput
from dalla.paths import safe_name
from dalla.records.base import Record

Preset = Literal["quick", "balanced", "best"]
PRESET_NAMES: tuple[Preset, ...] = ("quick", "balanced", "best")

#: By kind of model ("starter" = a small model of Stable Diffusion's layout, at most 256 px) and preset.
#: `images` is how many pictures are shown in all per training picture (steps = images x pictures / batch),
#: kept between `least` and `most`; `steps` instead is a fixed number.
#:
#: Sources of the numbers:
#: sd15     OneTrainer's preset (rank 16, 512 px, batch 4, AdamW, 100 epochs), kohya_ss EDG (lr 1e-4, encoder 5e-5)
#: sdxl     kohya_ss AI_characters 1.1 (rank 32, alpha 32, min-SNR 5, 50 epochs), diffusers README (lr 1e-4, U-Net only)
#: sd3      diffusers README_sd3 (lr 1e-4, logit-normal), OneTrainer's preset (rank 16, 1024 px)
#: flux     diffusers README_flux (rank 16, lr 1e-4, guidance 1), OneTrainer's preset (768 px, shift by resolution)
#: starter  measured on the starter model: at 1e-4 nothing moves; all layers with convolutions, rank 8, 2e-3, batch 4
#:          turn the hair of a drawn character within 120 steps, attention layers alone need more than twice as many;
#:          at 400 steps the held-out loss rises again, so the best checkpoint lies before
#: Alpha equals the rank everywhere, so the learning rates of tools with alpha 1 (3e-4) are not comparable.
PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    "sd15": {
        "quick": {"rank": 8, "targets": "attention", "learning_rate": 2e-4, "resolution": 512, "batch_size": 4,
                  "images": 60, "least": 600, "most": 1600, "min_snr_gamma": 5.0},
        "balanced": {"rank": 16, "targets": "full", "learning_rate": 1e-4, "resolution": 512, "batch_size": 4,
                     "images": 100, "least": 1200, "most": 4000, "min_snr_gamma": 5.0},
        "best": {"rank": 32, "targets": "full", "learning_rate": 1e-4, "resolution": 512, "batch_size": 4,
                 "images": 160, "least": 2400, "most": 8000, "min_snr_gamma": 5.0, "ema": True},
    },
    "sdxl": {
        "quick": {"rank": 8, "targets": "attention", "learning_rate": 2e-4, "resolution": 768, "batch_size": 2,
                  "images": 50, "least": 800, "most": 1600, "min_snr_gamma": 5.0},
        "balanced": {"rank": 16, "targets": "full", "learning_rate": 1e-4, "resolution": 1024, "batch_size": 2,
                     "images": 90, "least": 1200, "most": 3000, "min_snr_gamma": 5.0},
        "best": {"rank": 32, "targets": "full", "learning_rate": 1e-4, "resolution": 1024, "batch_size": 2,
                 "images": 130, "least": 1600, "most": 5000, "min_snr_gamma": 5.0, "ema": True},
    },
    "sd3": {
        "quick": {"rank": 8, "targets": "attention", "learning_rate": 2e-4, "resolution": 512, "batch_size": 2,
                  "images": 40, "least": 600, "most": 1200},
        "balanced": {"rank": 16, "targets": "full", "learning_rate": 1e-4, "resolution": 1024, "batch_size": 1,
                     "images": 80, "least": 800, "most": 2400},
        "best": {"rank": 32, "targets": "full", "learning_rate": 1e-4, "resolution": 1024, "batch_size": 2,
                 "images": 120, "least": 1600, "most": 4800, "ema": True},
    },
    "flux": {
        "quick": {"rank": 8, "targets": "attention", "learning_rate": 2e-4, "resolution": 512, "batch_size": 1,
                  "images": 40, "least": 500, "most": 1000},
        "balanced": {"rank": 16, "targets": "full", "learning_rate": 1e-4, "resolution": 768, "batch_size": 1,
                     "images": 80, "least": 800, "most": 2000},
        "best": {"rank": 16, "targets": "full", "learning_rate": 1e-4, "resolution": 1024, "batch_size": 1,
                 "images": 120, "least": 1200, "most": 3000, "ema": True},
    },
    # A dozen pictures leave one to set aside: too few to stop by. Its pictures are the same with 12 steps as with 20.
    "starter": {
        "quick": {"rank": 8, "targets": "full", "conv_rank": 8, "learning_rate": 2e-3, "batch_size": 4, "steps": 120,
                  "min_snr_gamma": 5.0, "early_stop": 0, "sample_steps": 12},
        "balanced": {"rank": 8, "targets": "full", "conv_rank": 8, "learning_rate": 2e-3, "batch_size": 4,
                     "steps": 250, "min_snr_gamma": 5.0, "early_stop": 0, "sample_steps": 12},
        "best": {"rank": 16, "targets": "full", "conv_rank": 16, "learning_rate": 1.5e-3, "batch_size": 4,
                 "steps": 400, "min_snr_gamma": 5.0, "early_stop": 0, "sample_steps": 12, "ema": True},
    },
}  # fmt: skip

#: What holds for every kind of model unless the preset or the user says otherwise.
COMMON: dict[str, Any] = {
    "gradient_accumulation": 1, "text_encoder_learning_rate": 5e-5, "optimizer": "adamw", "lr_scheduler": "cosine",
    "weight_decay": 0.01, "max_grad_norm": 1.0, "noise_offset": 0.0, "caption_dropout": 0.05, "conv_rank": 0,
    "keep_checkpoints": 3, "early_stop": 3, "ema": False,
}  # fmt: skip

#: Field -> (lowest, highest, whole number?). Outside is refused with the limits in the message.
LIMITS: dict[str, tuple[float, float, bool]] = {
    "steps": (1, 100_000, True), "epochs": (1, 10_000, True), "batch_size": (1, 64, True),
    "gradient_accumulation": (1, 256, True), "resolution": (64, 2048, True), "bucket_step": (8, 256, True),
    "rank": (1, 256, True), "conv_rank": (0, 256, True), "alpha": (0.001, 1024, False),
    "learning_rate": (1e-9, 10, False), "text_encoder_learning_rate": (0, 10, False), "warmup": (0, 100_000, False),
    "weight_decay": (0, 10, False), "max_grad_norm": (0, 1e6, False), "min_snr_gamma": (0, 100, False),
    "noise_offset": (0, 1, False), "shift": (0.01, 100, False), "caption_dropout": (0, 1, False),
    "keep_tokens": (0, 100, True), "repeats": (1, 1000, True), "prior_weight": (0, 10, False),
    "sample_every": (0, 100_000, True), "sample_steps": (1, 150, True), "save_every": (0, 100_000, True),
    "keep_checkpoints": (1, 100, True), "early_stop": (0, 100, True), "seed": (0, 2**63 - 1, True),
    "processes": (1, 64, True),
    "sample_seed": (0, 2**63 - 1, True),
}  # fmt: skip
_MOST_PROMPTS = 8


class Validation(Record):
    """How the held-out loss is taken. `count` (pictures) goes before `fraction`; 0 pictures switch it off.

    `every` is in steps (None: ten times in the run), `timesteps` and `noises` per picture.
    """

    fraction: float = 0.1
    count: int | None = None
    every: int | None = None
    timesteps: int = 4
    noises: int = 2


class TrainingConfig(Record):
    """Everything that decides a run. Sizes in px, learning rates per optimizer step, seeds 0 to 2^63-1.

    `dataset_folder`, `output_folder`, `run_folder`, `prior_folder` and `resume_from` are paths; `base_model` a
    path to a diffusers folder or .safetensors file. `family` None: read from the model.
    """

    name: str
    base_model: str
    family: str | None = None
    dataset_folder: str
    output_folder: str = "loras"
    run_folder: str = ""
    models_folder: str | None = None  # where missing parts of single-file models lie (text encoders, VAE)
    character_id: str | None = None

    trigger_word: str = ""
    class_word: str = ""
    preset: Preset = "balanced"

    steps: int | None = None
    epochs: int | None = None
    batch_size: int | None = None
    gradient_accumulation: int | None = None
    resolution: int | None = None
    bucket_step: int | None = None

    rank: int | None = None
    alpha: float | None = None
    targets: Literal["attention", "full"] | None = None
    use_rslora: bool = False
    use_dora: bool = False
    conv_rank: int | None = None
    train_text_encoder: bool = False

    learning_rate: float | None = None
    text_encoder_learning_rate: float | None = None
    optimizer: Literal["adamw", "adamw8bit", "prodigy", "adafactor"] | None = None
    lr_scheduler: Literal["cosine", "constant", "linear"] | None = None
    warmup: float | None = None  # steps; below 1 a share of all steps
    weight_decay: float | None = None
    max_grad_norm: float | None = None

    mixed_precision: Literal["auto", "no", "fp16", "bf16"] = "auto"
    gradient_checkpointing: bool | None = None
    quantize: Literal["none", "fp8", "int8", "nf4"] = "none"
    compile: bool = False
    ema: bool | None = None

    min_snr_gamma: float | None = None  # 0: off
    noise_offset: float | None = None
    timestep_sampling: Literal["auto", "uniform", "logit_normal", "sigmoid", "shift"] = "auto"
    shift: float | None = None  # flow matching only; None: read from the model

    caption_dropout: float | None = None
    shuffle_captions: bool = False
    keep_tokens: int = 1
    repeats: int = 1
    prior_weight: float = 0.0
    prior_folder: str | None = None
    masked_loss: bool = False
    cache_to_disk: bool = True

    validation: Validation = Field(default_factory=Validation)
    sample_every: int | None = None  # 0: never
    sample_prompts: list[str] | None = None
    sample_seed: int = 42
    sample_steps: int | None = None
    save_every: int | None = None  # 0: only the best and the last
    keep_checkpoints: int | None = None
    early_stop: int | None = None  # readings clearly above the lowest; 0: off
    seed: int = 0
    resume_from: str | None = None
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    processes: int = 1  # how many train together, with one NVIDIA card each; from a shell its launcher decides

    def complete(self, family: str, pictures: int, *, native_size: int | None = None) -> TrainingConfig:
        """Return a copy with every None decided: the user's value, else the preset's, else the common one.

        `pictures` is how many are trained on; `native_size` the side in px the model was made for, when known.
        """
        preset = preset_of(family, native_size, self.preset)
        values: dict[str, Any] = {}

        def settle(field: str, value: Any) -> Any:
            mine = getattr(self, field)
            values[field] = value if mine is None else mine
            return values[field]

        native = native_size or {"sd15": 512}.get(family, 1024)
        resolution = settle("resolution", preset.get("resolution", min(native, 1024)))
        settle("bucket_step", 64 if resolution >= 512 else 32 if resolution >= 256 else 16)
        rank = settle("rank", preset["rank"])
        settle("alpha", float(rank))
        for field in ("targets", "learning_rate", "batch_size"):
            settle(field, preset[field])
        for field, common in COMMON.items():
            settle(field, preset.get(field, common))
        settle("min_snr_gamma", preset.get("min_snr_gamma", 0.0))
        if values["optimizer"] == "prodigy":  # it finds the size of the step itself, and takes a factor
            if self.learning_rate is None:
                values["learning_rate"] = 1.0
            if self.text_encoder_learning_rate is None:
                values["text_encoder_learning_rate"] = values["learning_rate"]
        if self.steps is None and self.epochs is None:
            batch = values["batch_size"] * values["gradient_accumulation"] * self.processes
            values["steps"] = steps_for(preset, pictures, batch)
        steps = self.steps or values.get("steps") or 0
        settle("warmup", 0.05 if values["optimizer"] != "prodigy" else 0.0)
        settle("gradient_checkpointing", family in ("sdxl", "sd3", "flux") and resolution >= 512)
        settle("sample_steps", preset.get("sample_steps", 20))
        values["family"] = family
        completed = self.with_(**values)
        return completed.with_steps(steps) if steps else completed

    def with_steps(self, steps: int) -> TrainingConfig:
        """Return a copy that trains `steps` steps, with the intervals that depend on it."""
        tenth = max(1, math.ceil(steps / 10))
        every = self.validation.every or tenth
        return self.with_(
            steps=steps,
            validation=self.validation.with_(every=every),
            save_every=every if self.save_every is None else self.save_every,
            sample_every=max(1, math.ceil(steps / 4)) if self.sample_every is None else self.sample_every,
        )

    def problems(self) -> list[dict[str, str]]:
        """Return what cannot be trained this way as [{"field", "message"}]; empty when all is well."""
        found: list[dict[str, str]] = []

        def add(field: str, message: str) -> None:
            found.append({"field": to_camel(field), "message": message})

        try:
            safe_name(self.name)
        except InvalidInput as exc:
            add("name", exc.detail)
        if self.name.lower().endswith(".safetensors"):
            add("name", "Leave the ending .safetensors away; it is added.")
        for field in ("base_model", "dataset_folder"):
            if not getattr(self, field).strip():
                add(field, "This is needed.")
        for field, (low, high, whole) in LIMITS.items():
            value = getattr(self, field)
            if value is not None and (not math.isfinite(value) or not low <= value <= high):
                kind = "a whole number" if whole else "a number"
                add(field, f"Give {kind} from {_number(low)} to {_number(high)}.")
        if self.bucket_step is not None and self.bucket_step % 8:
            add("bucket_step", "Give a multiple of 8.")
        if self.text_encoder_learning_rate == 0 and self.train_text_encoder:
            add(
                "text_encoder_learning_rate", "With 0 the text encoder does not learn. Switch its training off instead."
            )
        if "," in self.trigger_word or "\n" in self.trigger_word or len(self.trigger_word) > 100:
            add("trigger_word", "Give one word or a short phrase without commas.")
        for number, prompt in enumerate(self.sample_prompts or []):
            if len(prompt) > 2000:
                add("sample_prompts", f"Prompt {number + 1} is longer than 2,000 characters.")
        if len(self.sample_prompts or []) > _MOST_PROMPTS:
            add("sample_prompts", f"Give at most {_MOST_PROMPTS} sample prompts; each is drawn again and again.")
        if self.prior_weight and not self.prior_folder and not (self.trigger_word.strip() and self.class_word.strip()):
            add(
                "prior_weight",
                "Keeping what the model knows needs a trigger word and a class word (such as 'luna' and 'woman'), or a "
                "folder of class pictures. Give them, or set the weight to 0.",
            )
        if self.use_dora and self.quantize != "none":
            add("use_dora", "DoRA needs the exact weights of the base model. Set quantize to none, or DoRA to off.")
        check = self.validation
        if not 0 <= check.fraction <= 0.5:
            add("validation", "Hold out between 0 and half of the pictures (fraction 0 to 0.5).")
        if not 1 <= check.timesteps <= 32 or not 1 <= check.noises <= 16:
            add("validation", "Give 1 to 32 timesteps and 1 to 16 noises.")
        if (check.count is not None and not 0 <= check.count <= 1000) or (check.every is not None and check.every < 1):
            add("validation", "Give 0 to 1,000 pictures and an interval of at least 1 step.")
        return found

    def refuse_problems(self) -> None:
        """Raise InvalidInput that lists every problem."""
        if found := self.problems():
            raise InvalidInput(
                "; ".join(f"{row['field']}: {row['message']}" for row in found),
                errors=found,
                remedy="Change these values.",
            )

    def held_out(self, pictures: int) -> int:
        """Return how many pictures are set aside: none below 8 pictures unless a count is given."""
        check = self.validation
        if check.count is not None:
            return max(0, min(check.count, pictures - 1))
        if check.fraction == 0 or pictures < 8:
            return 0
        return max(1, min(round(pictures * check.fraction), pictures // 2, 16))


def preset_kind(family: str, native_size: int | None) -> str:
    """Return the key of PRESETS for a model: its family, or "starter" for a small one (at most 256 px)."""
    return "starter" if family == "sd15" and native_size is not None and native_size <= 256 else family


def preset_of(family: str, native_size: int | None, preset: str) -> dict[str, Any]:
    """Return a preset's numbers. Raises InvalidInput for a family or preset there is none for."""
    try:
        return PRESETS[preset_kind(family, native_size)][preset]
    except KeyError:
        raise InvalidInput.field(
            "preset", f"There is no preset '{preset}' for {family}.", remedy=f"Choose {', '.join(PRESET_NAMES)}."
        ) from None


def steps_for(preset: dict[str, Any], pictures: int, batch: int) -> int:
    """Return the optimizer steps of a preset for this many pictures and this effective batch."""
    if "steps" in preset:
        return int(preset["steps"])
    shown = min(max(preset["images"] * pictures, preset["least"]), preset["most"])
    return max(1, math.ceil(shown / batch))


def _number(value: float) -> str:
    return f"{int(value):,}" if float(value).is_integer() else f"{value:g}"
