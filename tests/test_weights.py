"""Reading .safetensors headers: families, kinds, LoRA names, and files that are none."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest

from dalla import weights
from dalla.errors import InvalidInput, StorageError
from dalla.weights import Header, TensorInfo
from tests.fakes import comfy_draw

LUNA = Path(__file__).parent / "data" / "luna_lora.safetensors"


def header(shapes: dict[str, tuple[int, ...]], **metadata: str) -> Header:
    return Header({k: TensorInfo("F16", v, 0, 0) for k, v in shapes.items()}, metadata)


def lora(layer: str, width: int, style: str = "kohya", **metadata: str) -> Header:
    down, up = {"kohya": ("lora_down", "lora_up"), "diffusers": ("lora.down", "lora.up"), "peft": ("lora_A", "lora_B")}[
        style
    ]
    return header({f"{layer}.{down}.weight": (4, width), f"{layer}.{up}.weight": (width, 4)}, **metadata)


def test_a_header_is_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(comfy_draw.safetensors({"w": ("F32", [2, 3], bytes(24)), "b": ("BF16", [], bytes(2))}, {"k": "v"}))
    found = weights.read_header(path)
    assert dict(found) == {"w": TensorInfo("F32", (2, 3), 0, 24), "b": TensorInfo("BF16", (), 24, 26)}
    assert found.metadata == {"k": "v"} and found.tensors is found
    assert path.stat().st_size == found.data_start + 26


@pytest.mark.parametrize("length", [0x280, 0x380, 0x480])
def test_a_header_whose_length_looks_like_a_pickle_is_read(tmp_path: Path, length: int) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(struct.pack("<Q", length) + json.dumps({"__metadata__": {"k": "v"}}).encode().ljust(length))
    assert weights.read_header(path).metadata == {"k": "v"}


def _file(table: Any, data: bytes = b"") -> bytes:
    raw = json.dumps(table).encode()
    return struct.pack("<Q", len(raw)) + raw + data


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("a.safetensors", b"", "empty or cut off"),
        ("a.safetensors", b"\xff" * 64, "makes no sense"),
        ("a.safetensors", struct.pack("<Q", 100_000_001) + b"{}", "makes no sense"),
        ("a.safetensors", struct.pack("<Q", 500) + b"{}", "cut off within its header"),
        ("a.safetensors", _file("text"), "no list of tensors"),
        ("a.safetensors", struct.pack("<Q", 5) + b"{nope", "header cannot be read"),
        ("a.safetensors", _file({"w": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}, bytes(12)), "4 bytes are missing"),
        ("a.safetensors", _file({"w": {"dtype": "F32", "shape": [4], "data_offsets": [0, 8]}}, bytes(16)), "'w' in its header"),
        ("a.safetensors", _file({"w": {"dtype": "F32", "shape": [-4], "data_offsets": [0, 16]}}, bytes(16)), "'w' in its header"),
        ("a.safetensors", _file({"w": {"dtype": "F32"}}), "'w' in its header"),
        ("a.safetensors", b"version https://git-lfs.github.com/spec/v1\n", "Git LFS"),
        ("a.safetensors", b"<!DOCTYPE html><html></html>", "web page"),
        ("model.ckpt", b"anything at all", "pickle"),
        ("renamed.safetensors", b"PK\x03\x04\x00\x00\x08\x08" + bytes(64), "pickle"),
    ],
)  # fmt: skip
def test_other_files_are_refused_in_words(tmp_path: Path, name: str, data: bytes, said: str) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(InvalidInput, match=said) as refused:
        weights.read_header(tmp_path / name)
    assert name in refused.value.detail and refused.value.remedy


def test_a_file_that_is_not_there_is_a_storage_problem(tmp_path: Path) -> None:
    with pytest.raises(StorageError):
        weights.read_header(tmp_path / "gone.safetensors")


@pytest.mark.parametrize("family", ["sd15", "sdxl", "sd3", "flux"])
@pytest.mark.parametrize("whole", [True, False])
def test_single_files_tell_family_and_kind(tmp_path: Path, family: str, whole: bool) -> None:
    path = tmp_path / "m.safetensors"
    path.write_bytes(comfy_draw.model_file(family, whole=whole))
    found = weights.read_header(path)
    assert weights.checkpoint_family(found) == family
    assert weights.checkpoint_kind(found) == ("checkpoint" if whole else "diffusion_model")
    assert weights.lora_format(found) is None
    assert weights.has_text_encoder(found) is whole


@pytest.mark.parametrize(
    ("shapes", "family"),
    [
        ({"down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.weight": (320, 768)}, "sd15"),
        ({"down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k.weight": (640, 2048)}, "sdxl"),
        ({"down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.weight": (64, 128)}, "sd15"),
        ({"transformer_blocks.0.attn.add_q_proj.weight": (64, 64), "pos_embed.proj.weight": (64, 16, 2, 2)}, "sd3"),
        ({"single_transformer_blocks.0.attn.to_q.weight": (64, 64), "x_embedder.weight": (64, 64)}, "flux"),
        ({"control_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight": (320, 768)}, None),
        ({"transformer_blocks.0.attn.add_q_proj.weight": (64, 64), "img_in.weight": (64, 64)}, None),
        ({"double_blocks.0.img_attn.qkv.weight": (9, 3), "distilled_guidance_layer.layers.0.in_layer.weight": (3, 3)}, None),
        ({"blocks.0.self_attn.q.weight": (64, 64)}, None),
    ],
)  # fmt: skip
def test_families_by_names_and_widths(shapes: dict[str, tuple[int, ...]], family: str | None) -> None:
    assert weights.checkpoint_family(header(shapes)) == family


@pytest.mark.parametrize(
    ("key", "kind"),
    [
        ("decoder.conv_in.weight", "vae"),
        ("first_stage_model.taesd_decoder.1.weight", "vae"),
        ("text_model.encoder.layers.0.mlp.fc1.weight", "text_encoder"),
        ("encoder.block.0.layer.0.SelfAttention.q.weight", "text_encoder"),
        ("transformer.resblocks.0.attn.in_proj_weight", "text_encoder"),
        ("emb_params", None),
    ],
)
def test_kinds_of_parts(key: str, kind: str | None) -> None:
    assert weights.checkpoint_kind(header({key: (4, 4)})) == kind


@pytest.mark.parametrize(
    ("file", "format", "family"),
    [
        (lora("lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k", 768), "kohya", "sd15"),
        (lora("lora_unet_input_blocks_4_1_transformer_blocks_0_attn2_to_k", 2048), "kohya", "sdxl"),
        (lora("lora_unet_input_blocks_4_1_transformer_blocks_1_attn1_to_q", 640), "kohya", "sdxl"),
        (lora("unet.up_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q", 640, "diffusers"), "diffusers", "sd15"),
        (lora("base_model.model.mid_block.attentions.0.transformer_blocks.0.attn2.to_v", 1024, "peft"), "peft", "sd2"),
        (lora("diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k", 768), "comfy", "sd15"),
        (lora("transformer.transformer_blocks.0.attn.to_q", 3072, "peft"), "diffusers", "flux"),
        (lora("transformer.single_transformer_blocks.0.proj_mlp", 3072, "peft"), "diffusers", "flux"),
        (lora("transformer.transformer_blocks.0.attn.to_q", 1536, "peft"), "diffusers", "sd3"),
        (lora("transformer.transformer_blocks.40.attn.to_q", 3072, "peft"), "diffusers", None),
        (lora("lora_unet_joint_blocks_0_x_block_attn_qkv", 1536), "kohya", "sd3"),
        (lora("lora_te2_text_model_encoder_layers_0_mlp_fc1", 1280), "kohya", "sdxl"),
        (lora("lora_te_text_model_encoder_layers_0_mlp_fc1", 768, ss_base_model_version="sd_v1"), "kohya", "sd15"),
        (lora("diffusion_model.blocks.0.self_attn.q", 5120, "peft"), "comfy", None),
    ],
)  # fmt: skip
def test_loras_tell_names_and_family(file: Header, format: str, family: str | None) -> None:
    assert weights.lora_format(file) == format
    assert weights.lora_family(file) == family
    assert weights.checkpoint_kind(file) == "lora" and weights.checkpoint_family(file) is None


def test_a_lora_of_a_small_model_keeps_its_family() -> None:
    found = weights.read_header(LUNA)
    assert weights.lora_format(found) == "diffusers"
    assert weights.lora_family(found) == "sd15"
    assert weights.lora_context(found) == 128
    assert len(weights.lora_layers(found)) == 32


@pytest.mark.parametrize(
    ("metadata", "word"),
    [
        ({"modelspec.trigger_phrase": "luna_character"}, "luna_character"),
        ({"ss_tag_frequency": json.dumps({"10_luna": {"luna": 12, "smile": 3}, "1_b": {"smile": 4}})}, "luna"),
        ({"ss_tag_frequency": json.dumps({"a": {"one": 3, "two": 3}})}, None),
        ({"ss_tag_frequency": "not json"}, None),
        ({"ss_tag_frequency": "[1]"}, None),
        ({}, None),
    ],
)
def test_trigger_words(metadata: dict[str, str], word: str | None) -> None:
    assert weights.lora_trigger_word(lora("lora_unet_mid_block_x", 4, **metadata)) == word


def test_hashes_are_remembered_until_the_file_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"abc")
    first = weights.file_sha256(path)
    assert first == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    with monkeypatch.context() as patch:
        patch.setattr("hashlib.file_digest", None)  # reading again would fail
        assert weights.file_sha256(path) == first
    path.write_bytes(b"abcd")
    assert weights.file_sha256(path) != first
    with pytest.raises(StorageError):
        weights.file_sha256(tmp_path / "gone")


@pytest.mark.parametrize("style", [("lora_down.weight", "lora_up.weight"), ("lora_A.weight", "lora_B.weight")])
@pytest.mark.parametrize(("value", "blank"), [(0, True), (7, False)])
def test_an_untrained_lora_is_recognised(tmp_path: Path, style: tuple[str, str], value: int, blank: bool) -> None:
    down, up = (f"unet.mid_block.attentions.0.proj_in.{half}" for half in style)
    table = {
        down: {"dtype": "F32", "shape": [4, 8], "data_offsets": [0, 128]},
        up: {"dtype": "F32", "shape": [8, 4], "data_offsets": [128, 256]},
        "unet.mid_block.attentions.0.proj_in.alpha": {"dtype": "F32", "shape": [], "data_offsets": [256, 260]},
    }
    path = tmp_path / "a.safetensors"
    path.write_bytes(_file(table, b"\1" * 128 + bytes(127) + bytes([value]) + b"\1" * 4))
    assert weights.lora_is_blank(path, weights.read_header(path)) is blank


def test_other_kinds_of_networks_are_never_called_untrained(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    table = {
        f"lora_unet_mid.{part}": {"dtype": "F32", "shape": [2, 2], "data_offsets": [16 * n, 16 * n + 16]}
        for n, part in enumerate(("hada_w1_a", "hada_w1_b"))
    }
    path.write_bytes(_file(table, bytes(32)))
    assert not weights.lora_is_blank(path, weights.read_header(path))
