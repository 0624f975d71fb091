"""Kohya's names and the model's: every layer there and back, joined and split, with DoRA and convolutions."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")

from diffusers import UNet2DConditionModel  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402

from dalla.diffusion import kohya  # noqa: E402
from dalla.diffusion.families import family  # noqa: E402
from dalla.diffusion.families.base import CONFIGS  # noqa: E402
from dalla.diffusion.loras import Loras, Use  # noqa: E402
from dalla.diffusion.training import export  # noqa: E402
from dalla.engines.comfy import lora_convert  # noqa: E402
from dalla.weights import lora_family, read_header  # noqa: E402
from tests.diffusion.test_export import FAMILIES, attach, draw, gap, make  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


def real_unet(name: str) -> Any:
    """Return the full-size U-Net's structure without its weights."""
    config = json.loads((CONFIGS / name / "unet" / "config.json").read_text("utf-8"))
    with torch.device("meta"):
        return UNet2DConditionModel.from_config(config)


@pytest.mark.parametrize(
    ("name", "flat", "module"),
    [
        ("sd15", "input_blocks_1_1_transformer_blocks_0_attn1_to_q", "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"),
        ("sd15", "input_blocks_3_0_op", "down_blocks.0.downsamplers.0.conv"),
        ("sd15", "input_blocks_4_0_skip_connection", "down_blocks.1.resnets.0.conv_shortcut"),
        ("sd15", "input_blocks_11_0_in_layers_2", "down_blocks.3.resnets.1.conv1"),
        ("sd15", "middle_block_1_proj_in", "mid_block.attentions.0.proj_in"),
        ("sd15", "middle_block_2_out_layers_3", "mid_block.resnets.1.conv2"),
        ("sd15", "output_blocks_2_1_conv", "up_blocks.0.upsamplers.0.conv"),
        ("sd15", "output_blocks_5_2_conv", "up_blocks.1.upsamplers.0.conv"),
        ("sd15", "output_blocks_11_1_transformer_blocks_0_ff_net_2", "up_blocks.3.attentions.2.transformer_blocks.0.ff.net.2"),
        ("sd15", "time_embed_2", "time_embedding.linear_2"),
        ("sdxl", "input_blocks_4_1_transformer_blocks_1_attn2_to_k", "down_blocks.1.attentions.0.transformer_blocks.1.attn2.to_k"),
        ("sdxl", "input_blocks_8_1_transformer_blocks_9_attn1_to_out_0", "down_blocks.2.attentions.1.transformer_blocks.9.attn1.to_out.0"),
        ("sdxl", "output_blocks_2_2_conv", "up_blocks.0.upsamplers.0.conv"),
        ("sdxl", "output_blocks_8_0_emb_layers_1", "up_blocks.2.resnets.2.time_emb_proj"),
        ("sdxl", "label_emb_0_2", "add_embedding.linear_2"),
    ],
)  # fmt: skip
def test_names_of_sd_scripts(name: str, flat: str, module: str) -> None:
    assert kohya.sgm_names(real_unet(name))[flat] == module


@pytest.mark.parametrize("name", ["sd15", "sdxl"])
def test_every_layer_of_the_full_model_has_one_name_there_and_back(name: str) -> None:
    unet = real_unet(name)
    names = kohya.sgm_names(unet)
    layers = {path for path, module in unet.named_modules() if getattr(module, "weight", None) is not None}
    layers -= {path for path in layers if "norm" in path}
    assert layers <= set(names.values())
    assert len(set(names.values())) == len(names)


def kohya_file(pipe: Any, name: str, path: Path, which: str, names: dict[str, str] | None = None, **more: Any) -> Any:
    """Write what the adapter on `pipe` is as sd-scripts would name it; return the picture with the adapter."""
    layout = family(name).lora
    attach(pipe, name, which, alpha=2, **more)
    trained = draw(pipe)
    rows = {}
    for module, layer in export.read_adapter(pipe, layout)[layout.denoiser].items():
        flat = "lora_unet_" + (names or {}).get(module, module.replace(".", "_"))
        rows[f"{flat}.lora_down.weight"] = layer.down.detach().contiguous()
        rows[f"{flat}.lora_up.weight"] = layer.up.detach().contiguous()
        rows[f"{flat}.alpha"] = torch.tensor(layer.alpha)
        if layer.magnitude is not None:
            flat_scale = layer.magnitude.detach().reshape(-1, *[1] * (layer.down.dim() - 1))
            rows[f"{flat}.dora_scale"] = flat_scale.contiguous()
    save_file(rows, path)
    return trained


@pytest.mark.parametrize(
    ("name", "which", "more"),
    [("sd15", "conv", {}), ("sdxl", "conv", {}), ("sdxl", "full", {}), ("sd15", "full", {"use_dora": True})],
)
def test_files_of_sd_scripts_draw_the_same(tmp_path: Path, name: str, which: str, more: dict[str, Any]) -> None:
    path = tmp_path / "x.safetensors"
    pipe = make(name)
    names = {module: flat for flat, module in kohya.sgm_names(pipe.unet).items()}
    trained = kohya_file(pipe, name, path, which, names, **more)
    fresh = make(name)
    assert Loras(fresh, family(name)).apply([Use("x", str(path), 1.0)]) == []
    assert gap(draw(fresh), trained) <= 1


def test_a_layer_of_another_model_is_counted_as_left_out(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    pipe = make("sd15")
    names = {module: flat for flat, module in kohya.sgm_names(pipe.unet).items()}
    kohya_file(pipe, "sd15", path, "conv", names)
    rows = load_file(path)
    rows |= {"lora_unet_input_blocks_11_0_in_layers_2.lora_down.weight": torch.randn(4, 8)}
    rows |= {"lora_unet_input_blocks_11_0_in_layers_2.lora_up.weight": torch.randn(8, 4)}
    save_file(rows, path)
    notes = Loras(make("sd15"), family("sd15")).apply([Use("x", str(path), 1.0)])
    assert len(notes) == 1 and "1 of" in notes[0]


def joined(pipe: Any, name: str) -> dict[str, Any]:
    """Return random layers under the names of the original transformer, joined projections and all."""
    torch.manual_seed(9)
    width = pipe.transformer.inner_dim
    start = "lora_unet_joint_blocks_0_x_block_" if name == "sd3" else "lora_unet_double_blocks_0_img_"
    rows = {f"{start}attn_qkv": (width, 3 * width), f"{start}attn_proj": (width, width)}
    if name == "flux":
        rows |= {
            "lora_unet_single_blocks_0_linear1": (width, 7 * width),
            "lora_unet_single_blocks_0_linear2": (5 * width, width),
        }
    out = {}
    for key, (inputs, outputs) in rows.items():
        out[f"{key}.lora_down.weight"], out[f"{key}.lora_up.weight"] = torch.randn(2, inputs), torch.randn(outputs, 2)
        out[f"{key}.alpha"] = torch.tensor(1.0)
        out[f"{key}.dora_scale"] = torch.rand(outputs, 1) + 0.5
    return out


@pytest.mark.parametrize("name", ["sd3", "flux"])
def test_joined_projections_are_split_by_rows(name: str) -> None:
    pipe = make(name)
    rows = joined(pipe, name)
    found = kohya.to_peft(rows, pipe)
    assert not any(key.startswith("lora_") for key in found)
    stem = next(key for key in rows if key.endswith("qkv.lora_up.weight")).removesuffix(".lora_up.weight")
    up, scale = rows[f"{stem}.lora_up.weight"], rows[f"{stem}.dora_scale"]
    thirds = zip(("to_q", "to_k", "to_v"), up.chunk(3), scale.chunk(3), strict=True)
    for module, rows_up, rows_scale in thirds:
        here = f"transformer.transformer_blocks.0.attn.{module}"
        assert torch.equal(found[f"{here}.lora_B.weight"], rows_up * 0.5)  # alpha 1, rank 2
        assert torch.equal(found[f"{here}.lora_A.weight"], rows[f"{stem}.lora_down.weight"])
        assert torch.equal(found[f"{here}.lora_magnitude_vector.weight"], rows_scale.flatten())
    if name == "flux":
        up = rows["lora_unet_single_blocks_0_linear1.lora_up.weight"]
        mlp = found["transformer.single_transformer_blocks.0.proj_mlp.lora_B.weight"]
        assert (
            torch.equal(mlp, up[-mlp.shape[0] :] * 0.5) and mlp.shape[0] == up.shape[0] - 3 * pipe.transformer.inner_dim
        )


def from_peft(weights: dict[str, Any], layout: Any) -> dict[str, Any]:
    """Return `component.module.lora_A/B.weight` tensors under the family's file names: the way back of `to_peft`."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for key, tensor in weights.items():
        module, half = re.fullmatch(r"(.+)\.lora_(A|B|magnitude_vector)(?:\.weight)?", key).groups()
        component, _, module = module.partition(".")
        found.setdefault(component, {}).setdefault(module, {})[half] = tensor
    layers = {
        component: {
            module: kohya.Layer(parts["A"], parts["B"], float(len(parts["A"])), parts.get("magnitude_vector"))
            for module, parts in modules.items()
        }
        for component, modules in found.items()
    }
    return kohya.file_tensors(layers, layout, torch.float32)


@pytest.mark.parametrize("name", FAMILIES)
def test_there_and_back_is_the_same_file(tmp_path: Path, name: str) -> None:
    layout = family(name).lora
    pipe = make(name)
    attach(pipe, name, "all", use_dora=True)
    path = tmp_path / "luna.safetensors"
    export.save_lora(path, pipe, layout=layout, dtype="fp32")
    rows = load_file(path)
    again = from_peft(kohya.to_peft(rows, make(name)), layout)
    assert set(again) == set(rows)
    assert all(torch.equal(again[key], rows[key]) for key in rows)


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("dora", [False, True])
def test_comfyui_takes_our_files_as_they_are(tmp_path: Path, name: str, dora: bool) -> None:
    pipe = make(name)
    attach(pipe, name, "all", use_dora=dora)
    path = tmp_path / "luna.safetensors"
    export.save_lora(path, pipe, layout=family(name).lora, metadata=export.metadata_for({"name": "luna"}, {}, name))
    header = read_header(path)
    assert lora_family(header) == name
    assert not lora_convert.plan(path, header, name).needed


@pytest.mark.parametrize("share", [0.001, 0.3, 0.999])
def test_a_cut_off_lora_is_called_that(tmp_path: Path, share: float) -> None:
    from dalla.errors import InvalidInput, StorageError

    pipe = make("sd15")
    attach(pipe, "sd15", "attention")
    path = tmp_path / "luna.safetensors"
    export.save_lora(path, pipe, layout=family("sd15").lora)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(InvalidInput, match="cut off"):
        read_header(path)
    with pytest.raises(StorageError, match="cannot be read"):
        Loras(make("sd15"), family("sd15")).apply([Use("luna", str(path), 1.0)])
