"""LoRA files in kohya's form and in PEFT's: there and back bit by bit, scales, joined projections, what is refused."""

from __future__ import annotations

import hashlib
import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dalla import lora_forms, lora_layers, lora_names
from dalla.errors import Conflict, InvalidInput
from dalla.weights import lora_family, read_header
from tests.fakes import comfy_draw

ATTN = "down_blocks.1.attentions.0.transformer_blocks.0.attn1"
CLIP = "text_model.encoder.layers.3.self_attn"


def raw(values: np.ndarray, dtype: str) -> tuple[str, list[int], bytes]:
    return dtype, list(values.shape), lora_layers._encoded(values.astype(np.float64), dtype).data.tobytes()


def layer(
    name: str, dtype: str = "BF16", *, rank: int = 4, size: int = 8, alpha: float | None = None, wide: bool = False
) -> dict[str, tuple[str, list[int], bytes]]:
    """Return a layer of random numbers in kohya's names."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    down = rng.normal(size=(rank, size, 3, 3) if wide else (rank, size))
    up = rng.normal(size=(size, rank, 1, 1) if wide else (size, rank))
    rows = {f"{name}.lora_down.weight": raw(down, dtype), f"{name}.lora_up.weight": raw(up, dtype)}
    if alpha is not None:
        rows[f"{name}.alpha"] = raw(np.array(alpha), "F32")
    return rows


def write(path: Path, rows: dict[str, Any], metadata: dict[str, str] | None = None) -> Path:
    path.write_bytes(comfy_draw.safetensors(rows, metadata))
    return path


def read(path: Path) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    """Return every tensor of a file as it lies there."""
    header, data = read_header(path), path.read_bytes()
    start = header.data_start
    return {k: (i.dtype, i.shape, data[start + i.start : start + i.end]) for k, i in header.items()}


def effect(path: Path, name: str) -> np.ndarray:
    """Return what a layer adds to the weight: alpha / rank * up @ down."""
    header, data = read_header(path), path.read_bytes()

    def one(key: str) -> np.ndarray:
        return lora_layers.floats(lora_forms._numbers(path, header, data, header[key])).astype(np.float64)

    kohya = f"{name}.lora_up.weight" in header
    down = one(f"{name}.lora_down.weight" if kohya else f"{name}.lora_A.weight")
    up = one(f"{name}.lora_up.weight" if kohya else f"{name}.lora_B.weight")
    alpha = float(one(f"{name}.alpha")) if f"{name}.alpha" in header else float(down.shape[0])
    return alpha / down.shape[0] * up.reshape(up.shape[0], -1) @ down.reshape(down.shape[0], -1)


def change(path: Path, to: str, **more: Any) -> Path:
    out = path.with_name(f"{path.stem}-{to}.safetensors")
    lora_forms.convert_file(path, out, to, **more)
    return out


@pytest.mark.parametrize("dtype", ["BF16", "F16", "F32"])
@pytest.mark.parametrize("alpha", [4.0, 2.0, 32.0, 6.0, 1.3])
def test_there_and_back_is_the_same_bit_by_bit(tmp_path: Path, dtype: str, alpha: float) -> None:
    if dtype == "F32" and alpha in (6.0, 1.3):
        pytest.skip("the product of two 32-bit floats is rounded: see the next test")
    flat = "lora_unet_" + ATTN.replace(".", "_")
    rows = layer(f"{flat}_to_q", dtype, alpha=alpha) | layer(f"{flat}_to_out_0", dtype, alpha=alpha)
    rows |= layer("lora_unet_down_blocks_0_resnets_1_conv1", dtype, rank=2, alpha=alpha, wide=True)
    rows |= layer("lora_te_" + CLIP.replace(".", "_") + "_q_proj", dtype, alpha=alpha)
    texts = {"ss_output_name": "Luna – ünï", "modelspec.trigger_phrase": "luna", "ss_network_alpha": str(alpha)}
    source = write(tmp_path / "luna.safetensors", rows, texts)
    before = hashlib.sha256(source.read_bytes()).hexdigest()
    peft = change(source, "peft")
    names = {key.rpartition(".lora_")[0] for key in read_header(peft)}
    assert names == {
        f"unet.{ATTN}.to_q",
        f"unet.{ATTN}.to_out.0",
        "unet.down_blocks.0.resnets.1.conv1",
        f"text_encoder.{CLIP}.q_proj",
    }
    assert not any("alpha" in key for key in read_header(peft))
    wanted = effect(source, f"{flat}_to_q")
    np.testing.assert_allclose(effect(peft, f"unet.{ATTN}.to_q"), wanted, rtol=0, atol=1e-6 * np.abs(wanted).max())
    again = change(peft, "kohya")
    assert read(again) == read(source)
    found = read_header(again).metadata
    assert {key: found[key] for key in texts} == texts and "dalla.folded" not in found
    data = read_header(peft)
    body = peft.read_bytes()[data.data_start :]
    assert data.metadata["sshs_model_hash"] == hashlib.sha256(body).hexdigest()
    assert data.metadata["ss_output_name"] == "Luna – ünï"
    assert hashlib.sha256(source.read_bytes()).hexdigest() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted({p.name for p in (source, peft, again)})


def test_a_rounded_scale_costs_the_last_digit_of_a_32_bit_float_at_most(tmp_path: Path) -> None:
    name = "lora_unet_" + ATTN.replace(".", "_") + "_to_q"
    source = write(tmp_path / "a.safetensors", layer(name, "F32", alpha=1.3, size=64))
    again = change(change(source, "peft"), "kohya")
    wanted = effect(source, name)
    np.testing.assert_allclose(effect(again, name), wanted, rtol=0, atol=1e-6 * np.abs(wanted).max())


def test_half_precision_scales_are_not_rounded_away(tmp_path: Path) -> None:
    name = "lora_unet_" + ATTN.replace(".", "_") + "_to_q"
    source = write(tmp_path / "a.safetensors", layer(name, alpha=6.0) | layer(f"{name[:-1]}k", alpha=2.0))
    header = read_header(change(source, "peft"))
    assert header[f"unet.{ATTN}.to_q.lora_B.weight"].dtype == "F32"  # 1.5 times a bf16 needs more digits
    assert header[f"unet.{ATTN}.to_k.lora_B.weight"].dtype == "BF16"  # half of it does not
    assert header[f"unet.{ATTN}.to_q.lora_A.weight"].dtype == "BF16"


@pytest.mark.parametrize(
    ("flat", "path"),
    [
        ("input_blocks_4_1_transformer_blocks_1_attn2_to_k", "down_blocks.1.attentions.0.transformer_blocks.1.attn2.to_k"),
        ("input_blocks_3_0_op", "down_blocks.0.downsamplers.0.conv"),
        ("input_blocks_4_0_skip_connection", "down_blocks.1.resnets.0.conv_shortcut"),
        ("middle_block_1_proj_in", "mid_block.attentions.0.proj_in"),
        ("middle_block_2_out_layers_3", "mid_block.resnets.1.conv2"),
        ("output_blocks_5_2_conv", "up_blocks.1.upsamplers.0.conv"),
        ("output_blocks_8_0_emb_layers_1", "up_blocks.2.resnets.2.time_emb_proj"),
        ("label_emb_0_2", "add_embedding.linear_2"),
    ],
)  # fmt: skip
def test_the_original_codes_blocks_are_found(flat: str, path: str) -> None:
    assert lora_names.modules_of(f"lora_unet_{flat}", "sdxl") == ("unet", (path,))
    assert lora_names.modules_of(f"lora_unet_{path.replace('.', '_')}", "sdxl") == ("unet", (path,))


def test_sdxls_encoders_keep_their_numbers(tmp_path: Path) -> None:
    flat = CLIP.replace(".", "_")
    rows = layer("lora_unet_" + ATTN.replace(".", "_") + "_to_q", alpha=4.0)
    rows |= layer(f"lora_te1_{flat}_q_proj", alpha=4.0) | layer(f"lora_te2_{flat}_q_proj", alpha=4.0)
    source = write(tmp_path / "a.safetensors", rows)
    peft = change(source, "peft")
    assert {key.partition(".")[0] for key in read_header(peft)} == {"unet", "text_encoder", "text_encoder_2"}
    assert read(change(peft, "kohya")) == read(source)


# ---------------------------------------------------------------- SD3 and FLUX


@pytest.mark.parametrize(("version", "family"), [("sd3m", "sd3"), ("", "sdxl"), ("sdxl_base_v1-0", "sdxl")])
def test_a_lora_of_the_second_text_encoder_alone_is_what_its_texts_say(
    tmp_path: Path, version: str, family: str
) -> None:
    rows = layer("lora_te2_" + CLIP.replace(".", "_") + "_q_proj")
    header = read_header(write(tmp_path / "a.safetensors", rows, {"ss_base_model_version": version}))
    assert lora_family(header) == family


def transformer(
    family: str, *, parts: tuple[str, ...] = ("to_q", "to_k", "to_v"), dora: bool = False
) -> dict[str, Any]:
    """Return PEFT layers of a transformer 16 wide."""
    rng = np.random.default_rng(7)
    sizes = {f"transformer_blocks.0.attn.{part}": 16 for part in parts} | {"transformer_blocks.0.ff.net.2": 16}
    if family == "flux":
        sizes |= {f"single_transformer_blocks.1.attn.{part}": 16 for part in parts}
        sizes |= {"single_transformer_blocks.1.proj_mlp": 64}
    rows: dict[str, Any] = {}
    for name, outputs in sizes.items():
        rows[f"transformer.{name}.lora_A.weight"] = raw(rng.normal(size=(4, 16)), "BF16")
        rows[f"transformer.{name}.lora_B.weight"] = raw(rng.normal(size=(outputs, 4)), "BF16")
        if dora:
            rows[f"transformer.{name}.lora_magnitude_vector.weight"] = raw(rng.random(outputs), "F32")
    return rows


@pytest.mark.parametrize("family", ["sd3", "flux"])
@pytest.mark.parametrize("dora", [False, True])
@pytest.mark.parametrize("parts", [("to_q", "to_k", "to_v"), ("to_q", "to_v")])
def test_joined_projections_there_and_back(tmp_path: Path, family: str, dora: bool, parts: tuple[str, ...]) -> None:
    texts = {"ss_base_model_version": {"sd3": "sd3m", "flux": "flux1"}[family]}
    source = write(tmp_path / "a.safetensors", transformer(family, parts=parts, dora=dora), texts)
    if dora and len(parts) < 3:
        with pytest.raises(InvalidInput, match="magnitudes for some"):
            change(source, "kohya")
        return
    kohya = change(source, "kohya")
    name = {"sd3": "lora_unet_joint_blocks_0_x_block_attn_qkv", "flux": "lora_unet_double_blocks_0_img_attn_qkv"}[
        family
    ]
    whole = effect(kohya, name)
    assert whole.shape == (48, 16)
    for place, part in enumerate(("to_q", "to_k", "to_v")):
        rows = whole[16 * place : 16 * place + 16]
        if part in parts:
            np.testing.assert_array_equal(rows, effect(source, f"transformer.transformer_blocks.0.attn.{part}"))
        else:
            assert not rows.any()
    if family == "flux":
        mlp = effect(kohya, "lora_unet_single_blocks_1_linear1")[48:]
        np.testing.assert_array_equal(mlp, effect(source, "transformer.single_transformer_blocks.1.proj_mlp"))
    assert all(key.startswith("lora_unet_") for key in read_header(kohya))
    again = change(kohya, "peft")
    assert read(again) == read(source)
    assert read_header(again).metadata["ss_base_model_version"] == texts["ss_base_model_version"]


def test_what_sd_scripts_joins_shares_its_down_half_and_keeps_it(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    name = "lora_unet_double_blocks_0_img_attn_qkv"
    rows = {
        f"{name}.lora_down.weight": raw(rng.normal(size=(2, 16)), "BF16"),
        f"{name}.lora_up.weight": raw(rng.normal(size=(48, 2)), "BF16"),
        f"{name}.alpha": raw(np.array(1.0), "F32"),
    }
    source = write(tmp_path / "a.safetensors", rows)
    peft = change(source, "peft")
    assert read_header(peft)["transformer.transformer_blocks.0.attn.to_v.lora_B.weight"].shape == (16, 2)
    np.testing.assert_array_equal(
        effect(peft, "transformer.transformer_blocks.0.attn.to_k"), effect(source, name)[16:32]
    )
    assert read(change(peft, "kohya")) == read(source)


def test_a_note_that_no_longer_holds_is_not_believed(tmp_path: Path) -> None:
    flat = "lora_unet_double_blocks_0_img_attn_qkv"
    kohya = change(write(tmp_path / "a.safetensors", transformer("flux")), "kohya")
    header = read_header(kohya)
    rows: dict[str, Any] = dict(read(kohya))
    ones = np.ones((48, 12))
    rows[f"{flat}.lora_up.weight"] = raw(ones, "BF16")  # trained on since: nothing is zero any more
    notes = (header.metadata["dalla.joined"], json.dumps({flat: [10**400, -1, True]}), "[" * 5000, "null")
    for number, note in enumerate(notes):
        changed = write(tmp_path / "b.safetensors", rows, {"dalla.joined": note, "dalla.folded": note})
        out = tmp_path / f"c{number}.safetensors"
        lora_forms.convert_file(changed, out, "peft")
        assert read_header(out)["transformer.transformer_blocks.0.attn.to_q.lora_A.weight"].shape == (12, 16)
    name = "lora_unet_" + ATTN.replace(".", "_") + "_to_q"
    peft = change(write(tmp_path / "d.safetensors", layer(name, alpha=6.0)), "peft")
    rows = dict(read(peft))
    key = f"unet.{ATTN}.to_q"
    rows[f"{key}.lora_B.weight"] = raw(np.full((8, 4), 1 / 3), "F32")
    for told in ([6.0, "BF16"], [10**400, "BF16"], [float("inf"), "BF16"], [0.0, "F32"], ["x"], "y"):
        changed = write(tmp_path / "e.safetensors", rows, {"dalla.folded": json.dumps({key: told})})
        (tmp_path / "f.safetensors").unlink(missing_ok=True)
        lora_forms.convert_file(changed, tmp_path / "f.safetensors", "kohya")
        np.testing.assert_array_equal(effect(tmp_path / "f.safetensors", name), effect(changed, key))


# ---------------------------------------------------------------- files of others


def test_diffusers_says_the_scale_in_its_texts(tmp_path: Path) -> None:
    rows = {
        f"unet.{ATTN}.to_q.lora_A.weight": raw(np.ones((4, 8)), "F32"),
        f"unet.{ATTN}.to_q.lora_B.weight": raw(np.ones((8, 4)), "F32"),
    }
    source = write(tmp_path / "a.safetensors", rows, {"lora_adapter_metadata": json.dumps({"unet.lora_alpha": 8})})
    out = change(source, "kohya")
    assert effect(out, "lora_unet_" + ATTN.replace(".", "_") + "_to_q")[0, 0] == 8.0  # 8 / 4 times four ones
    texts = read_header(out).metadata
    assert "lora_adapter_metadata" not in texts and texts["ss_base_model_version"] == "sd_v1"
    peft = change(source, "peft")  # a scale in the texts is none that other programs see
    assert effect(peft, f"unet.{ATTN}.to_q")[0, 0] == 8.0


def test_a_file_that_has_the_form_stays_as_it_is(tmp_path: Path) -> None:
    source = write(tmp_path / "a.safetensors", layer("lora_unet_" + ATTN.replace(".", "_") + "_to_q", alpha=4.0))
    assert change(source, "kohya").read_bytes() == source.read_bytes()


def test_what_is_there_is_never_replaced(tmp_path: Path) -> None:
    source = write(tmp_path / "a.safetensors", layer("lora_unet_" + ATTN.replace(".", "_") + "_to_q"))
    other = tmp_path / "b.safetensors"
    other.write_bytes(b"mine")
    for out in (other, source):
        before = out.read_bytes()
        with pytest.raises(Conflict, match="already"):
            lora_forms.convert_file(source, out, "peft")
        assert out.read_bytes() == before
    with pytest.raises(InvalidInput, match="no name for a LoRA"):
        lora_forms.convert_file(source, tmp_path / "b.txt", "peft")
    with pytest.raises(InvalidInput) as refused:
        lora_forms.convert(source, "onnx")
    assert refused.value.errors[0]["field"] == "format"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.safetensors", "b.safetensors"]


@pytest.mark.parametrize(
    ("more", "kind"),
    [
        ({"lora_unet_mid_block_attentions_0_proj_in.hada_w1_a": raw(np.ones((4, 4)), "F32")}, "(LoHa)"),
        ({"lora_unet_mid_block_attentions_0_proj_in.lokr_w1": raw(np.ones((4, 4)), "F32")}, "(LoKr)"),
        ({"lora_unet_conv_in.diff": raw(np.ones((4, 4, 3, 3)), "F32")}, "(a full difference)"),
        (
            {"lora_te3_encoder_block_0_layer_0_SelfAttention_q.lora_down.weight": raw(np.ones((4, 4)), "F32")},
            "(T5 text encoder)",
        ),
        ({"lora_unet_nobody_knows_this.lora_down.weight": raw(np.ones((4, 4)), "F32")}, "', which"),
        ({"lora_unet_conv_out.lora_down.weight": raw(np.ones((4, 4)), "F32")}, "', which"),  # half a layer
    ],
)
def test_what_has_no_place_is_named_and_nothing_is_written(tmp_path: Path, more: dict[str, Any], kind: str) -> None:
    rows = layer("lora_unet_" + ATTN.replace(".", "_") + "_to_q", alpha=4.0) | more
    source = write(tmp_path / "a.safetensors", rows)
    with pytest.raises(InvalidInput, match=next(iter(more)).partition(".")[0]) as refused:
        change(source, "peft")
    assert kind in refused.value.detail and refused.value.remedy
    assert [p.name for p in tmp_path.iterdir()] == ["a.safetensors"]


def test_the_command_line_converts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import train_lora

    source = write(tmp_path / "a.safetensors", layer("lora_unet_" + ATTN.replace(".", "_") + "_to_q", alpha=2.0))
    out = tmp_path / "b.safetensors"
    assert train_lora.main(["--convert", str(source), str(out), "--to", "peft"]) == 0
    assert lora_forms.form_of(read_header(out)) == "peft"
    assert train_lora.main(["--convert", str(source), str(out), "--to", "peft"]) == train_lora.BAD_INPUT
    assert "already" in capsys.readouterr().err
    assert train_lora.main(["--convert", str(source), str(out)]) == train_lora.BAD_INPUT
    assert "--to" in capsys.readouterr().err
