"""How many tokens a caption has for CLIP and T5, counted with tokenizers the user's models bring along.

Nothing is loaded before the first caption is counted. Without a tokenizer there is no count: words are all one has.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from dalla.paths import read_object

log = logging.getLogger(__name__)

#: What the counts are called in `image_metadata`.
KEYS = {"clip": "tokensClip", "t5": "tokensT5"}
#: CLIP's vocabulary has 49,408 entries, T5's 32,100: anything much smaller is another tokenizer of the same kind.
_LEAST = {"clip": 40_000, "t5": 30_000}
_CLIP_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


class TokenCounter:
    """Counts with the tokenizers found in a models folder. Safe for several threads."""

    def __init__(self, models_dir: Path) -> None:
        self._root = Path(models_dir)
        self._lock = threading.Lock()
        self._loaded: dict[str, Any] | None = None

    def available(self) -> list[str]:
        """Which of "clip" and "t5" can be counted."""
        return list(self._tokenizers())

    def counts(self, texts: list[str]) -> list[dict[str, int]]:
        """Return {"tokensClip": n, "tokensT5": n} for each text, start and end marks not counted; empty without tokenizers."""
        result: list[dict[str, int]] = [{} for _ in texts]
        for kind, tokenizer in self._tokenizers().items():
            for row, number in zip(result, tokenizer(texts), strict=True):
                row[KEYS[kind]] = number
        return result

    def forget(self) -> None:
        """Look for tokenizers again with the next text: the models folder has changed."""
        with self._lock:
            self._loaded = None

    def _tokenizers(self) -> dict[str, Any]:
        with self._lock:
            if self._loaded is None:
                self._loaded = {}
                for kind, folder in _folders(self._root):
                    if kind in self._loaded:
                        continue
                    with contextlib.suppress(ImportError):
                        try:
                            found = _load(kind, folder)
                        except Exception as exc:  # noqa: BLE001 - a broken file: another tokenizer may be whole
                            log.warning("The tokenizer in %s cannot be read: %s", folder, exc)
                            continue
                        if found is not None:
                            self._loaded[kind] = found
            return self._loaded


def _folders(root: Path) -> Iterable[tuple[str, Path]]:
    """Yield (kind, folder) of everything that looks like a CLIP or T5 tokenizer: `tokenizers/` first, then models'."""
    named = sorted((root / "tokenizers").glob("*/"))
    inside = sorted(p for pattern in ("*/tokenizer*/", "*/*/tokenizer*/") for p in root.glob(pattern))
    for folder in [*named, *inside]:
        if not folder.is_dir():
            continue
        name = str(read_object(folder / "tokenizer_config.json").get("tokenizer_class", ""))
        if name.startswith("CLIP"):
            yield "clip", folder
        elif name.startswith("T5") or (folder / "spiece.model").is_file() or folder.name == "t5":
            yield "t5", folder
        elif (folder / "merges.txt").is_file() or folder.name.startswith("clip"):
            yield "clip", folder


def _load(kind: str, folder: Path) -> Any:
    """Return a function texts -> numbers of tokens; None when the folder holds something else."""
    if (folder / "tokenizer.json").is_file():
        from tokenizers import Tokenizer

        return _counting(kind, Tokenizer.from_file(str(folder / "tokenizer.json")))
    if kind == "clip" and (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file():
        return _counting(kind, _clip(folder))
    if kind == "t5" and (folder / "spiece.model").is_file():
        from sentencepiece import SentencePieceProcessor

        pieces = SentencePieceProcessor(model_file=str(folder / "spiece.model"))
        if pieces.get_piece_size() < _LEAST[kind]:
            return None
        return lambda texts: [len(row) for row in pieces.encode(list(texts))]
    return None


def _counting(kind: str, tokenizer: Any) -> Any:
    if tokenizer.get_vocab_size() < _LEAST[kind]:
        return None
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return lambda texts: [len(row.ids) for row in tokenizer.encode_batch(list(texts), add_special_tokens=False)]


def _clip(folder: Path) -> Any:
    """Build CLIP's tokenizer from its two old files."""
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

    vocabulary, merges = models.BPE.read_file(str(folder / "vocab.json"), str(folder / "merges.txt"))
    tokenizer: Any = Tokenizer(
        models.BPE(vocabulary, merges, end_of_word_suffix="</w>", unk_token="<|endoftext|>", fuse_unk=False)
    )
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_CLIP_WORDS), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    return tokenizer
