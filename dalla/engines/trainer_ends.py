"""How a training ended, in words: from the trainer's last event, its exit code and the end of its log."""

from __future__ import annotations

import signal
from typing import Any

from dalla.records.lora import Ended, EndKind

_BY_EXIT: dict[int, EndKind] = {
    2: "bad_input", 3: "out_of_memory", 4: "non_finite", 5: "verification", 130: "cancelled",
}  # fmt: skip
#: Words of the trainer's error codes and of its log, where the exit code says nothing.
_BY_WORD: tuple[tuple[EndKind, tuple[str, ...]], ...] = (
    # Not "storage": that is the code of every file that cannot be read, too.
    (
        "disk_full",
        (
            "no space left",
            "disk quota",
            "quota exceeded",
            "enospc",
            "mb are free on the disk",
            "could not be written: ",
        ),
    ),
    (
        "out_of_memory",
        ("out_of_memory", "out of memory", "memoryerror", "defaultcpuallocator", "bad_alloc", "_status_alloc_failed"),
    ),
    ("non_finite", ("non_finite", "not finite", "nan loss")),
    ("verification", ("verification",)),
    ("bad_input", ("bad_input", "invalid_input")),
)
_SENTENCES: dict[EndKind, tuple[str, str | None]] = {
    "done": ("The training is finished.", None),
    "cancelled": ("The training was stopped.", None),
    "bad_input": ("The trainer could not use its input.", "Look at the log of the run."),
    "out_of_memory": (
        "The memory was not enough for this training.",
        "Choose a smaller resolution, batch or rank, switch gradient checkpointing on, and close other programs that use "
        "the graphics card.",
    ),
    "disk_full": (
        "The disk is full, so the training could not go on.",
        "Free some space (Monitoring shows which folder is full), then resume the run.",
    ),
    "non_finite": (
        "The loss became infinite or undefined, so the training was stopped before it could spoil the LoRA.",
        "Halve the learning rate, or train in bf16 or fp32 instead of fp16, and resume from the last checkpoint.",
    ),
    "verification": (
        "The finished LoRA did not pass its check (it would load without effect, or differ from what was trained).",
        "The checkpoints are kept. Look at the log of the run.",
    ),
    "killed": (
        "The trainer was killed from outside. Most often the system ran out of memory.",
        "Close other programs or choose a smaller resolution or batch, then resume: the run goes on from its last checkpoint.",
    ),
    "silent": (
        "The trainer stopped giving any sign of life and was ended.",
        "Resume the run; it goes on from its last checkpoint. If it happens again, look at the log of the run.",
    ),
    "failed": (
        "The trainer ended without saying why.",
        "Look at the log of the run; 'Resume' goes on from the last checkpoint.",
    ),
}


def how_it_ended(last: dict[str, Any], code: int | None, tail: list[str], wanted: EndKind | None = None) -> Ended:
    """Tell the end from the trainer's last word, its exit code (None: unknown) and the end of its log.

    `wanted` is what this side did to it: "cancelled" or "silent"; a run that finished all the same is "done", and one
    that failed on its way ended by that.
    """
    word = last.get("event")
    kind: EndKind
    if word == "done":
        kind = "done"
    elif wanted is not None and word != "error":
        kind = wanted
    elif word == "cancelled":
        kind = "cancelled"
    elif word == "error":
        told = _by_word(f"{last.get('code', '')} {last.get('detail', '')}")
        kind = "disk_full" if told == "disk_full" else _BY_EXIT.get(code or 0) or told or "failed"
    elif code is not None and code < 0:
        kind = "killed"
    elif code in _BY_EXIT:
        kind = _BY_EXIT[code]
    else:
        kind = _by_word("\n".join(tail[-3:])) or ("failed" if code is not None else "killed")
    detail, remedy = _SENTENCES[kind]
    if kind == "killed" and code is not None and code != -getattr(signal, "SIGKILL", 9):
        detail = f"The trainer crashed ({_signal_name(-code)})."
    elif kind == "killed" and code is None:
        detail = (
            "The trainer ended without a word while nobody watched: it was killed, or the computer was switched off."
        )
        remedy = "Resume the run: it goes on from its last checkpoint."
    elif kind == "failed" and code == 0:
        detail = "The trainer ended before it had finished the LoRA."
    elif kind == "failed" and tail:
        detail = f"The trainer ended unexpectedly (exit code {code}): {tail[-1][:300]}"
    if word == "error":
        detail, remedy = str(last.get("detail") or detail), last.get("remedy") or remedy
    return Ended(
        kind=kind, detail=detail, remedy=remedy, code=last.get("code"), exit_code=code, event=last, log_tail=tail
    )


def _by_word(text: str) -> EndKind | None:
    text = text.lower()
    return next((kind for kind, words in _BY_WORD if any(word in text for word in words)), None)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
