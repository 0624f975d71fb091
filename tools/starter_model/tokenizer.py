"""A small CLIP tokenizer: byte-level pieces learned from captions, so that any text can be read."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from tools.starter_model.avatar import sample
from tools.starter_model.captions import caption
from tools.starter_model.networks import TOKENS

START, END = "<|startoftext|>", "<|endoftext|>"
#: Words of prompts in general, so that they do not fall apart into letters.
_COMMON = """
a an the of and with in on at by for from his her their is are wearing has have looking standing sitting holding young
old beautiful handsome girl boy woman man person character portrait photo face red green blue yellow orange purple pink
black white gray brown teal gold silver star moon heart cat dog fox dragon robot alien elf knight wizard witch vampire
pirate ninja princess king queen warrior hero forest beach city mountain castle street night day sunny rain snow desert
garden kitchen office cafe bar space ocean sky lake house room school library trigger style anime cartoon realistic
photo painting watercolor sketch pencil oil digital render art close up full body background foreground light dark
shadow bokeh film camera lens smile smiling laughing crying sad happy angry surprised serious
"""
_WORDS = r"""<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"""


def build(folder: Path, *, count: int, most: int, seed: int) -> Any:
    """Learn the pieces from `count` captions and save the tokenizer; return it.

    `most` bounds the vocabulary (512 pieces are bytes). vocab.json and merges.txt lie beside tokenizer.json.
    """
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
    from transformers import CLIPTokenizer

    rng = random.Random(seed)
    texts = [caption(sample(rng), rng).lower() for _ in range(count)]
    byte_pieces = pre_tokenizers.ByteLevel.alphabet()
    learner = Tokenizer(models.BPE(end_of_word_suffix="</w>", unk_token=END))
    learner.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    learner.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_WORDS), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=most - len(byte_pieces) - 2, end_of_word_suffix="</w>", initial_alphabet=byte_pieces,
        min_frequency=2, show_progress=False,
    )  # fmt: skip
    learner.train_from_iterator([*texts, *[" ".join(_COMMON.split())] * 40], trainer)
    merges = [
        " ".join(pair) if isinstance(pair, list) else pair for pair in json.loads(learner.to_str())["model"]["merges"]
    ]
    single = sorted(byte_pieces)
    pieces = [*single, *(piece + "</w>" for piece in single), *(merge.replace(" ", "") for merge in merges), START, END]
    vocabulary = {piece: number for number, piece in enumerate(dict.fromkeys(pieces))}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False), encoding="utf-8")
    lines = ["#version: 0.2", *merges]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")
    tokenizer = CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=TOKENS)
    tokenizer.save_pretrained(folder)
    return load(folder)


def load(folder: Path) -> Any:
    """Return the tokenizer saved in a folder."""
    from transformers import CLIPTokenizer

    return CLIPTokenizer.from_pretrained(str(folder))


def ids(tokenizer: Any, texts: list[str]) -> Any:
    """Return token ids as an int64 tensor, texts x 77, padded and cut."""
    import torch

    rows = tokenizer(texts, padding="max_length", truncation=True, max_length=TOKENS)["input_ids"]
    return torch.tensor(rows, dtype=torch.int64)
