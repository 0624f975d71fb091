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


class OutOfMemory(DallaError):
    code, title = "out_of_memory", "There is not enough memory"

    def __init__(self, step: int, problem: str, resolution: int) -> None:
        super().__init__(
            f"Memory ran out at step {step + 1}, also with the smallest batches: {problem}",
            remedy=f"Lower the resolution (now {resolution}), train the attention layers only, quantise the base model, "
            "or close other programs that use the memory.",
        )
        self.step = step


class NotVerified(DallaError):
    """The file does not do what the trained layers did."""

    code, title = "verification_failed", "The LoRA file is not what was trained"


class Stopped(Cancelled):
    """Somebody stopped the run; `kept` is the checkpoint's file, relative to the run folder."""

    def __init__(self, step: int, kept: str | None) -> None:
        super().__init__(f"Stopped at step {step}.")
        self.step, self.kept = step, kept
