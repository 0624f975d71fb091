"""The text encoder's warm-up: tell every attribute, or "not mentioned", from the state at the end of a caption.

With it colours, clothes and scenes follow the prompt after a few minutes of the U-Net's training.
"""

from __future__ import annotations

import random
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from tools.starter_model import networks
from tools.starter_model import tokenizer as tokenizers
from tools.starter_model.avatar import Avatar, sample
from tools.starter_model.captions import caption
from tools.starter_model.muon import Muon, groups
from tools.starter_model.plan import Plan
from tools.starter_model.training import Batch, Loop, Work

#: No caption speaks of these, so nothing can be learned from them.
_SILENT = {"mark", "tips", "streak", "two_tone"}
_ATTRIBUTES = [field.name for field in fields(Avatar) if field.name not in _SILENT]
#: Nearly all captions are shorter; the rest is cut for the warm-up only.
_LENGTH = 44


def warm_up(work: Work, plan: Plan, tokenizer_folder: Path, out: Path, fingerprint: str) -> None:
    """Train a fresh text encoder on captions and their attributes."""
    torch.manual_seed(work.seed)
    rng = random.Random(work.seed + 5)
    avatars = [sample(rng) for _ in range(plan.text_captions)]
    tokenizer = tokenizers.load(tokenizer_folder)
    ids = tokenizers.ids(tokenizer, [caption(avatar, rng) for avatar in avatars])[:, :_LENGTH]
    ids[:, -1] = tokenizer.eos_token_id  # where a caption was cut
    values: dict[str, dict[object, int]] = {name: {} for name in _ATTRIBUTES}
    rows = [[values[n].setdefault(getattr(a, n), len(values[n])) for n in _ATTRIBUTES] for a in avatars]
    labels = torch.tensor(rows)
    encoder = networks.text_encoder(tokenizer).to(work.device).train()
    heads: Any = torch.nn.ModuleList(torch.nn.Linear(networks.TEXT_WIDTH, len(values[n])) for n in _ATTRIBUTES)
    heads.to(work.device)
    named = [*encoder.named_parameters(), *((f"heads.{name}", p) for name, p in heads.named_parameters())]
    loop = Loop(
        work, "text_encoder", {"encoder": encoder, "heads": heads}, Muon(groups(named), work.workers, lr=2e-3, weight_decay=0.01),
        steps=plan.text_steps, lr=2e-3, warm=50, fingerprint=fingerprint,
    )  # fmt: skip

    def batch_of(step: int) -> Batch:
        chosen = torch.randint(0, len(ids), (plan.text_batch,), generator=loop.generator)
        return ids[chosen], labels[chosen]

    def loss_of(drawn: torch.Tensor, told: torch.Tensor) -> torch.Tensor:
        tokens, wanted = drawn.to(work.device), told.to(work.device)
        with work.autocast():
            states = encoder(input_ids=tokens).last_hidden_state
        end = (tokens == tokenizer.eos_token_id).int().argmax(1)
        state = states[torch.arange(len(tokens), device=work.device), end].float()
        losses = [F.cross_entropy(head(state), wanted[:, number]) for number, head in enumerate(heads)]
        return torch.stack(losses).mean()

    loop.run(batch_of, loss_of)["encoder"].to("cpu").save_pretrained(str(out))
