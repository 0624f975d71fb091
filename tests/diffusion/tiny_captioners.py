"""Random captioners a few kilobytes large, in folders as people put them into models/captioners/.

BLIP and Florence-2 are built by transformers' own classes. The tagger is an ONNX file written byte by byte: it takes
the mean of each colour channel, so that its answers can be known beforehand.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path

LETTERS = "abcdefghijklmnopqrstuvwxyz"


def blip(folder: Path) -> Path:
    """A BLIP that writes random words."""
    import torch
    from transformers import BertTokenizer, BlipConfig, BlipForConditionalGeneration, BlipImageProcessor, BlipProcessor

    torch.manual_seed(1)
    nouns = "a the woman man dog red blue dress sky tree bench beach hat sits stands on in with and".split()
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[DEC]", "[ENC]", *nouns]
    words = list(dict.fromkeys([*words, *LETTERS, *(f"##{c}" for c in LETTERS)]))
    common = {"hidden_size": 16, "intermediate_size": 32, "projection_dim": 16, "num_hidden_layers": 1}
    text = common | {
        "vocab_size": len(words), "encoder_hidden_size": 16, "num_attention_heads": 2, "max_position_embeddings": 128,
        "bos_token_id": 5, "eos_token_id": 3, "sep_token_id": 3, "pad_token_id": 0,
    }  # fmt: skip
    vision = common | {"num_attention_heads": 2, "image_size": 32, "patch_size": 8}
    model = BlipForConditionalGeneration(BlipConfig(text_config=text, vision_config=vision, projection_dim=16))
    model.save_pretrained(folder)
    tokenizer = BertTokenizer(vocab={word: n for n, word in enumerate(words)})
    BlipProcessor(BlipImageProcessor(size={"height": 32, "width": 32}), tokenizer).save_pretrained(folder)
    return folder


def florence2(folder: Path) -> Path:
    """A Florence-2 that writes random letters."""
    import torch
    from transformers import (
        BartTokenizer,
        CLIPImageProcessor,
        Florence2Config,
        Florence2ForConditionalGeneration,
        Florence2Processor,
    )

    torch.manual_seed(1)
    signs = list(LETTERS + LETTERS.upper() + "0123456789?.,<>_") + ["Ġ"]
    words = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", *signs]
    tokenizer = BartTokenizer(
        vocab={word: n for n, word in enumerate(words)}, merges=[], extra_special_tokens={"image_token": "<image>"}
    )
    text = {
        "model_type": "bart", "vocab_size": len(tokenizer), "d_model": 16, "encoder_layers": 1, "decoder_layers": 1,
        "encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32,
        "max_position_embeddings": 640, "bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2,
        "decoder_start_token_id": 2, "forced_eos_token_id": 2,
    }  # fmt: skip
    vision = {
        "embed_dim": (8, 8, 16, 16), "num_heads": (2, 2, 2, 2), "num_groups": (2, 2, 2, 2), "depths": (1, 1, 1, 1),
        "window_size": 2, "projection_dim": 16, "max_temporal_embeddings": 4, "max_position_embeddings": 8,
    }  # fmt: skip
    config = Florence2Config(
        text_config=text, vision_config=vision, image_token_id=tokenizer.image_token_id, bos_token_id=0,
        pad_token_id=1, eos_token_id=2,
    )  # fmt: skip
    model = Florence2ForConditionalGeneration(config)
    # Chance could end the sentence at its first word, or fill it with marks.
    model.generation_config.min_new_tokens = 6
    model.generation_config.suppress_tokens = [0, 1, 3, 4, len(words) - 1, tokenizer.image_token_id]
    model.save_pretrained(folder)
    images = CLIPImageProcessor(size={"height": 64, "width": 64}, do_center_crop=False)
    images.image_seq_length = 5  # 2 x 2 cells and their mean
    Florence2Processor(images, tokenizer).save_pretrained(folder)
    return folder


#: name, category, weight of blue, green and red: sure when the channel is bright.
TAGS = (
    ("general", 9, (0.0, 0.0, 0.0)),
    ("blue_sky", 0, (1.0, 0.0, 0.0)),
    ("green_grass", 0, (0.0, 1.0, 0.0)),
    ("red_dress", 0, (0.0, 0.0, 1.0)),
    ("o_o", 0, (0.4, 0.4, 0.4)),
    ("mira_(series)", 4, (0.0, 0.0, 0.9)),
)


def tagger(folder: Path, side: int = 32) -> Path:
    """A tagger with the interface of the WD taggers: NHWC, BGR 0..255 in; one certainty a tag out."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = "".join(f"{n},{name},{category},100\n" for n, (name, category, _) in enumerate(TAGS))
    (folder / "selected_tags.csv").write_text("tag_id,name,category,count\n" + rows)
    (folder / "config.json").write_text(json.dumps({"pretrained_cfg": {"input_size": [3, side, side]}}))
    (folder / "model.onnx").write_bytes(onnx_model(side))
    return folder


def onnx_model(side: int) -> bytes:
    """Transpose, mean over the picture, one linear layer, sigmoid((x - 128) / 10)."""
    weights = [value * 0.1 for _, _, row in TAGS for value in row]
    bias = [-12.8] * len(TAGS)
    nodes = [
        _node("Transpose", ["input"], "nchw", ints={"perm": [0, 3, 1, 2]}),
        _node("GlobalAveragePool", ["nchw"], "mean"),
        _node("Flatten", ["mean"], "flat"),
        _node("Gemm", ["flat", "weights", "bias"], "sums", ints={"transB": 1}),
        _node("Sigmoid", ["sums"], "output"),
    ]
    graph = b"".join(_field(1, node) for node in nodes) + _field(2, b"tagger")
    graph += _field(5, _tensor("weights", [len(TAGS), 3], weights)) + _field(5, _tensor("bias", [len(TAGS)], bias))
    graph += _field(11, _value("input", [1, side, side, 3])) + _field(12, _value("output", [1, len(TAGS)]))
    return _number(1, 8) + _field(8, _field(1, b"") + _number(2, 13)) + _field(7, graph)


def _varint(value: int) -> bytes:
    out = bytearray()
    while True:
        out.append(value & 127 | (128 if value > 127 else 0))
        value >>= 7
        if not value:
            return bytes(out)


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _field(field: int, data: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(data)) + data


def _node(kind: str, inputs: list[str], output: str, ints: dict[str, object] | None = None) -> bytes:
    data = b"".join(_field(1, name.encode()) for name in inputs) + _field(2, output.encode())
    data += _field(3, f"{kind}_{output}".encode()) + _field(4, kind.encode())
    for name, value in (ints or {}).items():
        many = isinstance(value, list)
        numbers = b"".join(_number(8, n) for n in value) if isinstance(value, list) else _number(3, int(str(value)))
        data += _field(5, _field(1, name.encode()) + numbers + _number(20, 7 if many else 2))
    return data


def _tensor(name: str, shape: list[int], values: list[float]) -> bytes:
    dims = b"".join(_number(1, n) for n in shape)
    return dims + _number(2, 1) + _field(8, name.encode()) + _field(9, struct.pack(f"<{len(values)}f", *values))


def _value(name: str, shape: list[int]) -> bytes:
    dims = b"".join(_field(1, _number(1, n)) for n in shape)
    return _field(1, name.encode()) + _field(2, _field(1, _number(1, 1) + _field(2, dims)))
