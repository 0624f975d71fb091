"""CLIP prompts longer than the encoder's 77 tokens: read in windows, joined afterwards.

Every window is encoded on its own with its start and end marks; the U-Net attends to all of them.
The pooled vector, where a family uses one, is the first window's. For U-Net families only: the
transformers of SD3 and FLUX expect a fixed number of CLIP tokens and read long prompts with T5.
"""

from __future__ import annotations

from typing import Any


def token_count(tokenizer: Any, text: str) -> int:
    """Return how many tokens the text has, start and end marks not counted."""
    return len(tokenizer(text, add_special_tokens=False, truncation=False, padding=False, verbose=False).input_ids)


def fits(tokenizer: Any, *texts: str) -> bool:
    return all(token_count(tokenizer, text) <= tokenizer.model_max_length - 2 for text in texts)


def windows(tokenizer: Any, text: str, count: int) -> Any:
    """Return the text's tokens as a tensor (count, model_max_length), short texts padded with empty windows."""
    import torch

    room = tokenizer.model_max_length - 2
    ids = tokenizer(text, add_special_tokens=False, truncation=False, padding=False, verbose=False).input_ids
    rows = []
    for start in range(0, max(1, count) * room, room):
        part = ids[start : start + room]
        pad = tokenizer.pad_token_id
        rows.append([tokenizer.bos_token_id, *part, tokenizer.eos_token_id, *[pad] * (room - len(part))])
    return torch.tensor(rows)


def window_count(tokenizer: Any, *texts: str) -> int:
    room = tokenizer.model_max_length - 2
    return max(1, *(-(-token_count(tokenizer, text) // room) for text in texts))
