"""Which checkpoint is delivered, and why: the last, unless the held-out loss says that it has become worse.

With few pictures set aside the lowest of ten readings is often just the luckiest. So the last reading is compared
with the lowest question by question (the same pictures, noises and noise levels), and only a difference that is
larger than its own uncertainty counts against more training.
"""

from __future__ import annotations

from dataclasses import dataclass

from dalla.diffusion.training.validation import Reading, paired

#: A difference counts from so many standard errors on.
ERRORS = 2.0


@dataclass(frozen=True)
class Choice:
    """The checkpoint to deliver. `lowest`: it is the one with the lowest held-out loss and not the last."""

    step: int
    lowest: bool
    reason: str


def clearly_worse(reading: Reading, best: Reading) -> bool:
    """Say whether a reading is higher than the lowest by more than the noise in both explains."""
    worse, error = paired(best, reading)
    return worse > ERRORS * error


def choose(last_step: int, last: Reading | None, best_step: int | None, best: Reading | None) -> Choice:
    """Choose between the last step and the one with the lowest held-out loss; a reading of None was not taken."""
    if best_step is None:
        return Choice(last_step, False, "It is the last step; no pictures were set aside to choose by.")
    if best_step == last_step:
        return Choice(last_step, False, "The held-out loss was lowest at the last step; more steps may still help.")
    if last is None or best is None:
        return Choice(best_step, True, f"The held-out loss was lowest at step {best_step}.")
    worse, error = paired(best, last)
    share, doubt = worse / best.mean, ERRORS * error / best.mean
    if clearly_worse(last, best):
        return Choice(
            best_step, True,
            f"The held-out loss was lowest at step {best_step}; at step {last_step} it was {share:.1%} higher, more than "
            f"the {doubt:.1%} that the noise in it explains, so the later steps only memorised the pictures.",
        )  # fmt: skip
    return Choice(
        last_step, False,
        f"The held-out loss was lowest at step {best_step}, but at the last step only {share:.1%} higher, which the noise "
        f"in it explains ({doubt:.1%}). So the last step was taken, which has learned longest.",
    )  # fmt: skip
