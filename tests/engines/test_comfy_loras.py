"""LoRAs on their way to ComfyUI: families, conversion byte by byte, copies under new names."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from dalla import weights
from dalla.engines.comfy import lora_convert, loras
from dalla.engines.comfy.loras import convert_to_kohya, made_here, prepare
from dalla.errors import InvalidInput, StorageError
from dalla.records.character import LoraUse
from tests.fakes import comfy_draw

ATTN = "down_blocks.0.attentions.0.transformer_blocks.0.attn1"
LUNA = Path(__file__).parents[1] / "data" / "luna_lora.safetensors"


@pytest.fixture
def folders(tmp_path: Path) -> SimpleNamespace:
    own, server = tmp_path / "own", tmp_path / "server"
    own.mkdir()
    server.mkdir()
    return SimpleNamespace(loras_dir=own, comfyui_lora_dir=server)


def names(folders: SimpleNamespace) -> list[str]:
    return sorted(p.name for p in Path(folders.comfyui_lora_dir).glob("*.safetensors"))


def run(
    folders: SimpleNamespace, name: str, family: str = "sd15", server: list[str] | None = None, metadata: Any = None
) -> Any:
    listed = names(folders) if server is None else server
    return prepare([LoraUse(name=name, strength=0.7)], family, listed, folders, lambda _: metadata)


def arrays(*names: str, rank: int = 4, width: int = 8, dtype: Any = np.float32) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        n: rng.normal(size=(rank, width) if ("down" in n or "lora_A" in n) else (width, rank)).astype(dtype)
        for n in names
    }


def halves(layer: str, a: str, b: str, **more: Any) -> dict[str, np.ndarray]:
    return arrays(f"{layer}.{a}.weight", f"{layer}.{b}.weight", **more)


# ------------------------------------------------------------ conversion


@pytest.mark.parametrize(
    ("layer", "tails", "new"),
    [
        (f"base_model.model.{ATTN}.to_q", ("lora_A", "lora_B"), f"lora_unet_{ATTN}.to_q"),
        (f"base_model.model.{ATTN}.to_q", ("lora_A.default", "lora_B.default"), f"lora_unet_{ATTN}.to_q"),
        (f"unet.{ATTN}.to_out.0", ("lora.down", "lora.up"), f"lora_unet_{ATTN}.to_out.0"),
        (f"{ATTN}.to_q", ("lora_A", "lora_B"), f"lora_unet_{ATTN}.to_q"),
        ("unet.mid_block.attentions.0.transformer_blocks.0.ff.net.0.proj", ("lora_A", "lora_B"),
         "lora_unet_mid_block.attentions.0.transformer_blocks.0.ff.net.0.proj"),
        ("unet.up_blocks.1.resnets.0.conv1", ("lora_A", "lora_B"), "lora_unet_up_blocks.1.resnets.0.conv1"),
        ("text_encoder.text_model.encoder.layers.0.self_attn.q_proj", ("lora_linear_layer.down", "lora_linear_layer.up"),
         "lora_te_text_model.encoder.layers.0.self_attn.q_proj"),
        ("text_encoder.encoder.layers.0.self_attn.q_proj", ("lora_A", "lora_B"),
         "lora_te_text_model.encoder.layers.0.self_attn.q_proj"),
        ("base_model.model.text_model.encoder.layers.0.mlp.fc1", ("lora_A", "lora_B"),
         "lora_te_text_model.encoder.layers.0.mlp.fc1"),
    ],
)  # fmt: skip
def test_every_name_becomes_kohyas(tmp_path: Path, layer: str, tails: tuple[str, str], new: str) -> None:
    foreign = halves(f"unet.{ATTN}.to_v", "lora.down", "lora.up")  # makes sure that there is something to convert
    tensors = foreign | halves(layer, *tails)
    save_file(tensors, tmp_path / "a.safetensors", {"format": "pt"})
    convert_to_kohya(tmp_path / "a.safetensors", tmp_path / "b.safetensors")
    found = load_file(tmp_path / "b.safetensors")
    new = new.replace(".", "_")
    np.testing.assert_array_equal(found[f"{new}.lora_down.weight"], tensors[f"{layer}.{tails[0]}.weight"])
    np.testing.assert_array_equal(found[f"{new}.lora_up.weight"], tensors[f"{layer}.{tails[1]}.weight"])
    assert found[f"{new}.alpha"] == 4.0 and found[f"{new}.alpha"].dtype == np.float32
    assert len(found) == 6
    assert weights.lora_format(weights.read_header(tmp_path / "b.safetensors")) == "kohya"


def test_sdxl_encoders_are_told_apart(tmp_path: Path) -> None:
    layer = "text_model.encoder.layers.0.self_attn.q_proj"
    tensors = halves(f"unet.{ATTN}.to_q", "lora_A", "lora_B")
    tensors |= halves(f"text_encoder.{layer}", "lora_A", "lora_B") | halves(
        f"text_encoder_2.{layer}", "lora_A", "lora_B"
    )
    save_file(tensors, tmp_path / "a.safetensors")
    convert_to_kohya(tmp_path / "a.safetensors", tmp_path / "b.safetensors", family="sdxl")
    found = {k.split("_text_model")[0] for k in load_file(tmp_path / "b.safetensors") if "_te" in k}
    assert found == {"lora_te1", "lora_te2"}


@pytest.mark.parametrize(
    ("config", "alphas"),
    [
        ({"unet.lora_alpha": 8, "unet.r": 4}, (8.0, 8.0)),
        ({"unet.lora_alpha": 8, "unet.alpha_pattern": {"attn1.to_k": 2}}, (8.0, 2.0)),
        ({"unet.lora_alpha": 8, "unet.use_rslora": True}, (16.0, 16.0)),
        ({"unet.lora_alpha": "nonsense"}, (4.0, 4.0)),
        ({}, (4.0, 4.0)),
    ],
)
@pytest.mark.parametrize("beside", [False, True])
def test_alpha_comes_from_the_configuration(
    tmp_path: Path, config: dict[str, Any], alphas: tuple[float, float], beside: bool
) -> None:
    tensors = halves(f"unet.{ATTN}.to_q", "lora_A", "lora_B") | halves(f"unet.{ATTN}.to_k", "lora_A", "lora_B")
    if beside:
        plain = {k.removeprefix("unet."): v for k, v in config.items()}
        (tmp_path / "adapter_config.json").write_text(json.dumps(plain))
    save_file(tensors, tmp_path / "a.safetensors", None if beside else {"lora_adapter_metadata": json.dumps(config)})
    convert_to_kohya(tmp_path / "a.safetensors", tmp_path / "b.safetensors")
    found = load_file(tmp_path / "b.safetensors")
    layer = "lora_unet_" + ATTN.replace(".", "_")
    assert (found[f"{layer}_to_q.alpha"], found[f"{layer}_to_k.alpha"]) == alphas
    assert "lora_adapter_metadata" not in weights.read_header(tmp_path / "b.safetensors").metadata


def test_number_formats_pass_through_as_bytes(tmp_path: Path) -> None:
    raw = bytes(range(32))
    rows = {
        f"unet.{ATTN}.to_q.lora_A.weight": ("BF16", [2, 8], raw),
        f"unet.{ATTN}.to_q.lora_B.weight": ("BF16", [8, 2], raw[::-1]),
    }
    (tmp_path / "a.safetensors").write_bytes(comfy_draw.safetensors(rows))
    convert_to_kohya(tmp_path / "a.safetensors", tmp_path / "b.safetensors")
    header, data = weights.read_header(tmp_path / "b.safetensors"), (tmp_path / "b.safetensors").read_bytes()
    info = header[f"lora_unet_{ATTN.replace('.', '_')}_to_q.lora_up.weight"]
    assert info.dtype == "BF16" and data[header.data_start + info.start : header.data_start + info.end] == raw[::-1]


def test_dora_magnitudes_get_kohyas_shape(tmp_path: Path) -> None:
    tensors = halves(f"unet.{ATTN}.to_q", "lora_A", "lora_B")
    tensors[f"unet.{ATTN}.to_q.lora_magnitude_vector.weight"] = np.arange(8, dtype=np.float32)
    save_file(tensors, tmp_path / "a.safetensors")
    convert_to_kohya(tmp_path / "a.safetensors", tmp_path / "b.safetensors")
    scale = load_file(tmp_path / "b.safetensors")[f"lora_unet_{ATTN.replace('.', '_')}_to_q.dora_scale"]
    assert scale.shape == (8, 1)


def test_what_cannot_be_rewritten_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    tensors = halves(f"unet.{ATTN}.to_q", "lora_A", "lora_B") | {
        f"unet.{ATTN}.to_q.lora_B.bias": np.zeros(8, np.float32)
    }
    save_file(tensors, tmp_path / "a.safetensors")
    with pytest.raises(InvalidInput, match="lora_B.bias"):
        convert_to_kohya(tmp_path / "a.safetensors", tmp_path / "b.safetensors")
    assert [p.name for p in tmp_path.iterdir()] == ["a.safetensors"]


# ------------------------------------------------------------ preparing


@pytest.mark.parametrize(
    "asked",
    ["style", "style.safetensors", "sub/style", "sub\\style.safetensors"],
)
def test_the_servers_spelling_is_used(folders: SimpleNamespace, asked: str) -> None:
    prepared = run(folders, asked, server=["other.safetensors", "sub\\style.safetensors"])
    assert prepared.uses == [LoraUse(name="sub\\style.safetensors", strength=0.7)]
    assert prepared.notes == [] and prepared.sha256 == {}


def test_a_bare_name_that_fits_two_files_fits_none(folders: SimpleNamespace) -> None:
    with pytest.raises(InvalidInput, match="There is no LoRA 'style'") as refused:
        run(folders, "style", server=["a/style.safetensors", "b/style.safetensors"])
    assert refused.value.errors[0]["field"] == "loras" and "models/loras" in (refused.value.remedy or "")


@pytest.mark.parametrize(
    "metadata", [{"ss_base_model_version": "sdxl_base_v1-0"}, {"modelspec.architecture": "flux-1-dev/lora"}]
)
def test_the_servers_metadata_can_refuse_a_family(folders: SimpleNamespace, metadata: dict[str, str]) -> None:
    with pytest.raises(InvalidInput, match="was trained for (SDXL|FLUX)"):
        run(folders, "style", server=["style.safetensors"], metadata=metadata)


def test_what_nobody_can_tell_passes(folders: SimpleNamespace) -> None:
    assert run(folders, "style", server=["style.safetensors"], metadata=None).uses[0].name == "style.safetensors"


def test_the_family_in_the_file_counts(folders: SimpleNamespace) -> None:
    (folders.comfyui_lora_dir / "style.safetensors").write_bytes(comfy_draw.lora_file("flux"))
    with pytest.raises(InvalidInput, match="trained for FLUX and does not fit a Stable Diffusion 1.5"):
        run(folders, "style")
    assert run(folders, "style", "flux").uses[0].name == "style.safetensors"


@pytest.mark.parametrize("style", ["peft", "diffusers"])
@pytest.mark.parametrize("family", ["sd15", "sdxl"])
def test_a_foreign_lora_is_converted_under_a_new_name(folders: SimpleNamespace, style: str, family: str) -> None:
    source = folders.loras_dir / "luna.safetensors"
    source.write_bytes(comfy_draw.lora_file(family, style))
    prepared = run(folders, "luna", family)
    name = prepared.uses[0].name
    assert names(folders) == [name] and made_here(name) == "luna" and "converted" in prepared.notes[0]
    assert comfy_draw.lora_effect(folders.comfyui_lora_dir / name, family) == []
    assert comfy_draw.lora_effect(source, family) != []
    assert prepared.sha256 == {"luna": weights.file_sha256(source)}
    assert run(folders, "luna", family).uses[0].name == name and names(folders) == [name]

    source.write_bytes(comfy_draw.lora_file(family, style, value=0.5))  # trained again under the same name
    assert run(folders, "luna", family).uses[0].name != name and len(names(folders)) == 2


def test_a_foreign_lora_on_the_server_is_converted_beside_it(folders: SimpleNamespace) -> None:
    (folders.comfyui_lora_dir / "style.safetensors").write_bytes(comfy_draw.lora_file("sd15", "peft"))
    assert made_here(run(folders, "style").uses[0].name) == "style"


def test_our_own_lora_is_copied_and_never_replaced(folders: SimpleNamespace) -> None:
    source = folders.loras_dir / "luna.safetensors"
    source.write_bytes(comfy_draw.lora_file())
    first = run(folders, "luna").uses[0].name
    assert (folders.comfyui_lora_dir / first).read_bytes() == source.read_bytes()
    before = (folders.comfyui_lora_dir / first).stat().st_mtime_ns
    source.write_bytes(comfy_draw.lora_file(value=0.5))
    second = run(folders, "luna").uses[0].name
    assert second != first and (folders.comfyui_lora_dir / first).stat().st_mtime_ns == before


def test_a_file_that_is_on_both_sides_needs_no_copy(folders: SimpleNamespace) -> None:
    for folder in (folders.loras_dir, folders.comfyui_lora_dir):
        (folder / "luna.safetensors").write_bytes(comfy_draw.lora_file())
    assert run(folders, "luna").uses[0].name == "luna.safetensors" and names(folders) == ["luna.safetensors"]


@pytest.mark.parametrize(
    ("style", "said"), [("peft", "layer names that ComfyUI skips"), ("kohya", "not on the ComfyUI server")]
)
def test_without_the_folder_the_remedy_names_it(folders: SimpleNamespace, style: str, said: str) -> None:
    folders.comfyui_lora_dir = ""
    (folders.loras_dir / "luna.safetensors").write_bytes(comfy_draw.lora_file(style=style))
    with pytest.raises(InvalidInput, match=said) as refused:
        run(folders, "luna", server=[])
    assert "COMFYUI_LORA_DIR" in (refused.value.remedy or "")


def test_flux_peft_names_get_the_prefix_and_the_right_scale(folders: SimpleNamespace) -> None:
    layer = "single_transformer_blocks.0.proj_mlp"
    config = {"lora_adapter_metadata": json.dumps({"transformer.lora_alpha": 2})}
    save_file(halves(f"base_model.model.{layer}", "lora_A", "lora_B"), folders.loras_dir / "a.safetensors", config)
    found = load_file(folders.comfyui_lora_dir / run(folders, "a", "flux").uses[0].name)
    assert set(found) == {f"transformer.{layer}.{t}" for t in ("lora_A.weight", "lora_B.weight", "alpha")}
    assert found[f"transformer.{layer}.alpha"] == 2.0


@pytest.mark.parametrize(
    ("family", "style"),
    [("flux", "diffusers"), ("flux", "kohya"), ("sd3", "diffusers"), ("sd15", "kohya"), ("sd15", "comfy")],
)
def test_names_that_comfyui_knows_stay(folders: SimpleNamespace, family: str, style: str) -> None:
    (folders.comfyui_lora_dir / "a.safetensors").write_bytes(comfy_draw.lora_file(family, style))
    assert run(folders, "a", family).uses[0].name == "a.safetensors"


def test_a_lora_of_the_small_starter_model_is_refused(folders: SimpleNamespace) -> None:
    (folders.loras_dir / "luna.safetensors").write_bytes(LUNA.read_bytes())
    with pytest.raises(InvalidInput, match="small model"):
        run(folders, "luna")
    assert names(folders) == []


def test_a_model_file_is_no_lora(folders: SimpleNamespace) -> None:
    (folders.loras_dir / "luna.safetensors").write_bytes(comfy_draw.model_file("sd15"))
    with pytest.raises(InvalidInput, match="holds no LoRA weights"):
        run(folders, "luna")


def test_names_do_not_lead_outside(folders: SimpleNamespace) -> None:
    (folders.loras_dir.parent / "secret.safetensors").write_bytes(comfy_draw.lora_file())
    with pytest.raises(InvalidInput, match="There is no LoRA"):
        run(folders, "../secret")


def test_a_folder_that_cannot_be_written_is_named(folders: SimpleNamespace, tmp_path: Path) -> None:
    (folders.loras_dir / "luna.safetensors").write_bytes(comfy_draw.lora_file())
    folders.comfyui_lora_dir = tmp_path / "file"
    folders.comfyui_lora_dir.write_text("")
    with pytest.raises(StorageError, match="ComfyUI's folder") as refused:
        run(folders, "luna", server=[])
    assert "COMFYUI_LORA_DIR" in (refused.value.remedy or "")


def test_other_names_are_not_taken_for_ours() -> None:
    assert made_here("luna.safetensors") is None
    assert made_here("sub/luna.0123456789ab.dalla.safetensors") == "sub/luna"
    assert loras.find_name("x", ["y.safetensors"]) is None


def test_dora_of_a_transformer_gets_the_name_comfyui_knows(tmp_path: Path) -> None:
    layer = "transformer.single_transformer_blocks.0.attn.to_q"
    tensors = halves(layer, "lora_A", "lora_B")
    tensors[f"{layer}.lora_magnitude_vector"] = np.arange(8, dtype=np.float32)
    save_file(tensors, tmp_path / "a.safetensors")
    convert_to_kohya(tmp_path / "a.safetensors", tmp_path / "b.safetensors")
    found = load_file(tmp_path / "b.safetensors")
    assert set(found) == {f"{layer}.lora_A.weight", f"{layer}.lora_B.weight", f"{layer}.dora_scale"}
    np.testing.assert_array_equal(found[f"{layer}.dora_scale"], np.arange(8, dtype=np.float32).reshape(8, 1))
    header = weights.read_header(tmp_path / "b.safetensors")
    assert not lora_convert.plan(tmp_path / "b.safetensors", header, "flux").needed
