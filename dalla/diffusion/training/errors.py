"""The ends of a run that are not success, each with its exit code and what to try."""

from __future__ import annotations

from typing import Any

from dalla.errors import Cancelled, DallaError

DONE, FAILED, BAD_INPUT, OUT_OF_MEMORY, NON_FINITE, NOT_VERIFIED, CANCELLED = 0, 1, 2, 3, 4, 5, 130


class NonFinite(DallaError):
    """A loss or gradient that is no number: nothing after it can be trusted."""

    code, title = "non_finite", "The training went off the rails"

    def __init__(self, step: int, what: str, config: Any) -> None:
        causes = []
        if config.optimizer != "prodigy" and config.learning_rate and config.learning_rate > 1e-3:
            causes.append(f"the learning rate {config.learning_rate:g} is high: try {config.learning_rate / 5:g}")
        if config.mixed_precision == "fp16":
            causes.append("fp16 overflows easily: choose bf16 or no mixed precision")
        causes.append("a damaged base model gives such numbers, too: try another copy")
        super().__init__(
            f"The {what} of step {step} is not a number, so the run was stopped. The checkpoints before it are good.",
            remedy="Likely causes: " + "; ".join(causes) + ".",
        )
        self.step = step


_CLOSE = "close other programs that use the memory"
_MODEL = f"Choose a smaller base model, quantise this one (on a graphics card), or {_CLOSE}."
_DONE = (
    f"The training is done and its checkpoints are kept: {_CLOSE} and resume the run, which goes on from here, or make a "
    "LoRA of a checkpoint."
)
#: What a run was at (Events.doing) -> (when that was, what to try). `{step}`: the last whole step; `{lower}`: advice.
_AT: dict[str, tuple[str, str]] = {
    "step": ("at step {next}, also with the smallest batches",
             f"{{lower}}, train the attention layers only, quantise the base model, or {_CLOSE}."),
    "pictures": ("while the pictures were read", f"Make the largest pictures smaller, or {_CLOSE}."),
    "model": ("while the base model was loaded", _MODEL),
    "latents": ("while the pictures were encoded", f"{{lower}}, or {_CLOSE}."),
    "texts": ("while the captions were encoded", _MODEL),
    "place": ("while the model was made ready for training", _MODEL),
    "validation": ("while the held-out loss was taken {when}, one picture at a time",
                   f"{{lower}}, set no pictures aside (validation count 0), or {_CLOSE}."),
    "samples": ("while sample pictures were drawn {when}", f"Draw no samples (every 0 steps), or {_CLOSE}."),
    "checkpoint": ("while the checkpoint of step {step} was written", f"{_CLOSE.capitalize()} and resume the run."),
    "resumed": ("while the saved state was read", f"{_CLOSE.capitalize()} and resume the run."),
    "report": ("while what was learned was measured, after all {step} steps", _DONE),
    "saving": ("while the LoRA was written and checked, after all {step} steps", _DONE),
}  # fmt: skip


class OutOfMemory(DallaError):
    """`step`: the last whole step (0: none yet). `ran_out`: what was said of it. `doing`: what the run was at."""

    code, title = "out_of_memory", "There is not enough memory"

    def __init__(self, step: int, problem: str, resolution: int, doing: str = "step") -> None:
        where, remedy = _AT.get(doing, ("{when}", f"{{lower}}, or {_CLOSE}."))
        words = {
            "step": step,
            "next": step + 1,
            "when": f"after step {step}" if step else "before the first step",
            "lower": f"Lower the resolution (now {resolution})" if resolution else "Lower the resolution",
        }
        super().__init__(f"Memory ran out {where.format(**words)}: {problem}", remedy=remedy.format(**words))
        self.step, self.ran_out = step, problem


class NotVerified(DallaError):
    """The file does not do what the trained layers did."""

    code, title = "verification_failed", "The LoRA file is not what was trained"


class Stopped(Cancelled):
    """Somebody stopped the run; `kept` is the checkpoint's file, relative to the run folder."""

    def __init__(self, step: int, kept: str | None) -> None:
        super().__init__(f"Stopped at step {step}.")
        self.step, self.kept = step, kept
