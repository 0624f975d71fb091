"""A diffusers folder is looked at before anything long starts: weights that are cut off or missing, and its sides."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from dalla.diffusion.training.base_model import inspect
from dalla.errors import InvalidInput
from dalla.model_folder import refuse_damaged, side_multiple

STARTER = Path(__file__).parent.parent / "models" / "starter"
WEIGHTS = {
    "unet": "diffusion_pytorch_model.safetensors",
    "vae": "diffusion_pytorch_model.safetensors",
    "text_encoder": "model.safetensors",
}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """The starter model, each file of which can be replaced."""
    root = tmp_path / "luna-base"
    for path in STARTER.rglob("*"):
        if path.is_file():
            (target := root / path.relative_to(STARTER)).parent.mkdir(parents=True, exist_ok=True)
            if path.suffix == ".safetensors" and os.name != "nt":
                target.symlink_to(path)
            else:
                target.write_bytes(path.read_bytes())
    return root


def replaced(path: Path, data: bytes) -> None:
    path.unlink()
    path.write_bytes(data)


@pytest.mark.parametrize("part", WEIGHTS)
@pytest.mark.parametrize("keep", [-100, 200, 0])
def test_weights_that_are_cut_off_are_told_by_their_file(model: Path, part: str, keep: int) -> None:
    refuse_damaged(model)
    file = model / part / WEIGHTS[part]
    replaced(file, file.read_bytes()[:keep])
    with pytest.raises(InvalidInput) as caught:
        inspect(model)
    error = caught.value
    assert [row["field"] for row in error.errors] == ["baseModel"]
    assert "luna-base" in error.detail and f"{part}/{WEIGHTS[part]}" in error.detail and "again" in (error.remedy or "")


@pytest.mark.parametrize("part", WEIGHTS)
def test_a_part_without_weights_or_config_is_told(model: Path, part: str) -> None:
    (model / part / WEIGHTS[part]).unlink()
    with pytest.raises(InvalidInput, match=f"{part} holds no weights"):
        refuse_damaged(model)
    (model / part / "config.json").write_text("{")
    with pytest.raises(InvalidInput, match=f"{part}/config.json"):
        refuse_damaged(model)


def test_only_what_is_loaded_counts(model: Path) -> None:
    (model / "unet" / "diffusion_pytorch_model.fp16.safetensors").write_bytes(b"cut")
    (model / "unet" / "diffusion_pytorch_model.non_ema.safetensors").write_bytes(b"cut")
    refuse_damaged(model)
    (model / "unet" / WEIGHTS["unet"]).unlink()
    (model / "unet" / "diffusion_pytorch_model.non_ema.safetensors").unlink()
    with pytest.raises(InvalidInput, match="fp16"):
        refuse_damaged(model)


def test_a_shard_that_is_missing_is_told(model: Path) -> None:
    unet = model / "unet"
    (unet / WEIGHTS["unet"]).rename(unet / "diffusion_pytorch_model-00001-of-00002.safetensors")
    table = {"a": "diffusion_pytorch_model-00001-of-00002.safetensors", "b": "diffusion_pytorch_model-00002-of-00002.safetensors"}  # fmt: skip
    index = unet / "diffusion_pytorch_model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": table}))
    with pytest.raises(InvalidInput, match="00002-of-00002"):
        refuse_damaged(model)
    index.write_text(json.dumps({"weight_map": {"a": table["a"]}}))
    refuse_damaged(model)


def test_an_index_that_is_left_over_beside_plain_shards_is_not_asked(model: Path) -> None:
    unet = model / "unet"
    shard = "diffusion_pytorch_model-00001-of-00001.safetensors"
    (unet / WEIGHTS["unet"]).rename(unet / shard)
    (unet / "diffusion_pytorch_model.fp16.safetensors").write_bytes(b"")
    (unet / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": shard}}))
    gone = {"weight_map": {"a": "diffusion_pytorch_model.fp16-00001-of-00002.safetensors"}}
    (unet / "diffusion_pytorch_model.safetensors.index.fp16.json").write_text(json.dumps(gone))
    refuse_damaged(model)


def test_the_sides_come_from_the_configs(tmp_path: Path) -> None:
    for part in ("vae", "unet"):
        (tmp_path / part).mkdir()
        (tmp_path / part / "config.json").write_text(json.dumps({"block_out_channels": [1, 2, 3, 4]}))
    assert (side_multiple(tmp_path, "sd15"), side_multiple(tmp_path, "sdxl"), side_multiple(tmp_path, "flux")) == (
        64,
        64,
        16,
    )
    single = tmp_path / "one.safetensors"
    assert [side_multiple(single, family) for family in ("sd15", "sdxl", "sd3", "flux")] == [64, 32, 16, 16]
    assert side_multiple(STARTER, "sd15") == 16
