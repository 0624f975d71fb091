"""Single files in their published layouts load without a hub and draw; broken ones say what is wrong."""

from __future__ import annotations

import io
import threading
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")

from PIL import Image  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402

from dalla.diffusion import flux_layout, single_file  # noqa: E402
from dalla.diffusion.families import family  # noqa: E402
from dalla.diffusion.generate import Generator, Listener, Task  # noqa: E402
from dalla.errors import DallaError, NotConfigured, StorageError  # noqa: E402
from tests.diffusion import single_files  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
UNET = single_file.UNET
NAMES = ["sd15", "sdxl", "sd3", "flux"]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = single_files.models_folder(tmp_path_factory.mktemp("single"))
    return {name: single_files.write(name, root / f"{name}.safetensors") for name in NAMES}


def draw(name: str, path: Path, **changes: Any) -> tuple[bytes, list[str]]:
    values: dict[str, Any] = {
        "model": {"name": name, "path": str(path), "family": name, "parts": str(path.parent)}, "prompt": "a cat", "negative_prompt": "a dog",
        "width": 64, "height": 64, "steps": 2, "seed": 1, "sampler": "euler", "scheduler": "normal", "cfg_scale": 3.0,
        "device": "cpu",
    }  # fmt: skip
    drawn = Generator().generate(Task(**(values | changes)), None, Listener(), threading.Event())
    return drawn.images[0], drawn.notes


@pytest.mark.parametrize("name", NAMES)
def test_draws_and_reads_the_prompt(files: dict[str, Path], name: str) -> None:
    png, notes = draw(name, files[name])
    image = Image.open(io.BytesIO(png)).convert("RGB")
    assert image.size == (64, 64)
    assert any(high > low for low, high in image.getextrema())
    assert draw(name, files[name], prompt="another thing entirely")[0] != png
    assert bool(notes) == (name == "sd3")  # which has no T5 and says so


@pytest.mark.parametrize("name", NAMES)
def test_every_weight_of_the_file_is_used(files: dict[str, Path], name: str) -> None:
    pipe = family(name).load_pipeline(files[name], torch.float16, parts=files[name].parent)
    parts = [part for part in pipe.components.values() if isinstance(part, torch.nn.Module)]
    loaded = sum({p.data_ptr(): p.numel() for part in parts for p in part.parameters()}.values())  # T5's words are two
    in_file = sum(t.numel() for key, t in load_file(files[name]).items() if not key.endswith("logit_scale"))
    positions = 24 * 24 * 64 if name == "sd3" else 0  # a buffer there, not a parameter
    assert loaded + positions == in_file


def test_flux_weights_go_where_their_names_say(files: dict[str, Path]) -> None:
    """Joined projections are split in order, and the last modulation's halves change places."""
    wide = load_file(files["flux"])
    made = flux_layout.to_diffusers({k[len(UNET) :]: t for k, t in wide.items() if k.startswith(UNET)})
    joined = wide[f"{UNET}double_blocks.0.txt_attn.qkv.weight"]
    for place, name in enumerate(("add_q_proj", "add_k_proj", "add_v_proj")):
        part = made[f"transformer_blocks.0.attn.{name}.weight"]
        assert torch.equal(part, joined[64 * place : 64 * place + 64])
    linear1 = wide[f"{UNET}single_blocks.0.linear1.weight"]
    assert torch.equal(made["single_transformer_blocks.0.attn.to_v.weight"], linear1[128:192])
    assert torch.equal(made["single_transformer_blocks.0.proj_mlp.weight"], linear1[192:])
    shift, scale = wide[f"{UNET}final_layer.adaLN_modulation.1.weight"].chunk(2)
    assert torch.equal(made["norm_out.linear.weight"], torch.cat([scale, shift]))


def test_a_flux_file_of_the_published_size_is_measured_so() -> None:
    shapes = {
        "img_in.weight": (3072, 64), "txt_in.weight": (3072, 4096), "vector_in.in_layer.weight": (3072, 768),
        "guidance_in.in_layer.weight": (3072, 256), "double_blocks.0.img_attn.norm.query_norm.scale": (128,),
        **{f"double_blocks.{n}.img_attn.qkv.weight": (9216, 3072) for n in range(19)},
        **{f"single_blocks.{n}.linear2.weight": (3072, 15360) for n in range(38)},
    }  # fmt: skip
    assert flux_layout.measure(shapes) == {
        "patch_size": 1, "in_channels": 64, "num_layers": 19, "num_single_layers": 38, "attention_head_dim": 128,
        "num_attention_heads": 24, "joint_attention_dim": 4096, "pooled_projection_dim": 768, "guidance_embeds": True,
        "axes_dims_rope": (16, 56, 56),
    }  # fmt: skip


def test_a_flux_file_in_another_number_format_is_refused_and_not_read_wrongly(
    files: dict[str, Path], tmp_path: Path
) -> None:
    scaled = single_files.models_folder(tmp_path) / "scaled.safetensors"
    extra = {f"{UNET}double_blocks.0.img_attn.qkv.scale_weight": torch.ones(1)}
    save_file(load_file(files["flux"]) | extra, scaled)
    with pytest.raises(StorageError, match="scale_weight"):
        family("flux").load_pipeline(scaled, torch.float32, parts=tmp_path)


def test_velocity_models_are_recognised_by_their_mark(files: dict[str, Path], tmp_path: Path) -> None:
    marked = tmp_path / "v.safetensors"
    save_file(load_file(files["sdxl"]) | {"v_pred": torch.zeros(0), "ztsnr": torch.zeros(0)}, marked)
    config = family("sdxl").load_pipeline(marked, torch.float32).scheduler.config
    assert (config.prediction_type, config.rescale_betas_zero_snr) == ("v_prediction", True)
    assert family("sdxl").load_pipeline(files["sdxl"], torch.float32).scheduler.config.prediction_type == "epsilon"


def test_vae_comes_from_the_models_folder_when_the_file_has_none(files: dict[str, Path], tmp_path: Path) -> None:
    whole = load_file(files["sd15"])
    bare = tmp_path / "bare.safetensors"
    save_file({k: t for k, t in whole.items() if not k.startswith("first_stage_model.")}, bare)
    with pytest.raises(NotConfigured, match="VAE"):
        family("sd15").load_pipeline(bare, torch.float32, parts=tmp_path)
    (tmp_path / "vae").mkdir()
    alone = {k.removeprefix("first_stage_model."): t for k, t in whole.items() if k.startswith("first_stage_model.")}
    save_file(alone, tmp_path / "vae" / "sd_vae.safetensors")
    model = {"name": "bare", "path": str(bare), "family": "sd15", "parts": str(tmp_path)}
    assert draw("sd15", bare, model=model)[0] == draw("sd15", files["sd15"])[0]


def test_wrong_family_and_cut_file_are_plain_errors(files: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(DallaError, match=r"sd15\.safetensors"):
        family("sd3").load_pipeline(files["sd15"], torch.float32)
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(files["sd15"].read_bytes()[:50_000])
    with pytest.raises(StorageError, match=r"cut\.safetensors"):
        family("sd15").load_pipeline(cut, torch.float32)


def test_clip_tokenizer_gives_the_known_numbers() -> None:
    tokenizer = single_file.clip_tokenizer()
    known = [49406, 320, 1125, 539, 550, 18376, 6765, 320, 4558, 49407]
    assert tokenizer("a photo of an astronaut riding a horse").input_ids == known
    assert len(tokenizer) == 49408
    padded = single_file.clip_tokenizer("!")("hi", padding="max_length", max_length=6).input_ids
    assert padded == [49406, 1883, 49407, 0, 0, 0]


def test_open_clip_weights_are_split_in_order() -> None:
    joined = torch.arange(6.0).reshape(6, 1).repeat(1, 2)
    out = single_file.from_open_clip({"transformer.resblocks.3.attn.in_proj_weight": joined, "text_projection": joined})
    stem = "text_model.encoder.layers.3.self_attn"
    assert [out[f"{stem}.{p}_proj.weight"][0, 0].item() for p in "qkv"] == [0.0, 2.0, 4.0]
    assert out["text_projection.weight"].shape == (2, 6)
