"""Which family a server's file belongs to, and which files a picture is made from."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dalla.engines.comfy import files
from dalla.engines.comfy.catalog import Catalog, family_from_name
from dalla.engines.comfy.client import ComfyClient
from dalla.errors import InvalidInput
from tests.engines.comfy_kit import request, settings_for
from tests.fakes import comfy_draw
from tests.fakes.comfyui import ComfyFake

Make = Callable[..., Catalog]


@pytest.fixture
def fake() -> Iterator[ComfyFake]:
    with ComfyFake() as server:
        yield server


@pytest.fixture
def make(fake: ComfyFake, tmp_path: Path) -> Iterator[Make]:
    client = ComfyClient(fake.url)
    yield lambda **more: Catalog(client, settings_for(fake.url, tmp_path, **more))
    client.close()


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("v1-5-pruned-emaonly.safetensors", "sd15"),
        ("dreamshaper_8.safetensors", "sd15"),
        ("realisticVisionV60B1.safetensors", "sd15"),
        ("sd_xl_base_1.0.safetensors", "sdxl"),
        ("juggernautXL_v9.safetensors", "sdxl"),
        ("DreamShaperXL_turbo.safetensors", "sdxl"),
        ("ponyDiffusionV6.safetensors", "sdxl"),
        ("folder\\noobaiVpred.safetensors", "sdxl"),
        ("sd3.5_large_fp8_scaled.safetensors", "sd3"),
        ("stable-diffusion-3-medium.safetensors", "sd3"),
        ("flux1-schnell-fp8.safetensors", "flux"),
        ("flux2-dev.safetensors", None),
        ("flux1-fill-dev.safetensors", None),
        ("sd_xl_refiner_1.0.safetensors", None),
        ("svd_xt_1_1.safetensors", None),
        ("wan2.1_t2v_14B.safetensors", None),
        ("model.safetensors", None),
    ],
)
def test_what_a_name_says(name: str, family: str | None) -> None:
    assert family_from_name(name) == family


def test_a_reachable_file_is_believed_more_than_its_name(fake: ComfyFake, make: Make) -> None:
    fake.add_model("my_sdxl_look.safetensors", "sd15")
    models = {m.name: m for m in make(comfyui_lora_dir=fake.loras_dir).models()}
    assert models["my_sdxl_look.safetensors"].family == "sd15"
    assert models["my_sdxl_look.safetensors"].size_bytes
    assert {m.name: m.family for m in make().models()}["my_sdxl_look.safetensors"] == "sdxl"


def test_the_users_word_is_believed_most(fake: ComfyFake, make: Make) -> None:
    fake.add_model("my_sdxl_look.safetensors", "sd15")
    catalog = make(comfyui_lora_dir=fake.loras_dir, model_families={"my_sdxl_look.safetensors": "flux"})
    assert {m.name: m.family for m in catalog.models()}["my_sdxl_look.safetensors"] == "flux"


def test_a_file_nobody_recognises_is_listed_with_a_note(fake: ComfyFake, make: Make) -> None:
    path = fake.root / "models" / "checkpoints" / "mystery.safetensors"
    path.write_bytes(comfy_draw.safetensors({"weight": ("F32", [1], bytes(4))}))
    mystery = next(m for m in make().models() if m.name == "mystery.safetensors")
    assert mystery.family is None and "modelFamilies" in (mystery.note or "")


def test_loras_are_asked_for_their_metadata_once(fake: ComfyFake, make: Make) -> None:
    catalog = make()
    first = {lora.name: lora.family for lora in catalog.loras()}
    assert first["style_sd15.safetensors"] == "sd15" and first["style_sdxl.safetensors"] == "sdxl"
    asked = len(fake.calls("GET", "/view_metadata/loras"))
    assert {lora.name: lora.family for lora in catalog.loras()} == first
    assert len(fake.calls("GET", "/view_metadata/loras")) == asked == len(first)


def test_copies_made_for_the_server_are_not_listed_twice(fake: ComfyFake, make: Make) -> None:
    fake.add_lora("luna.0123456789ab.dalla.safetensors")
    assert not [lora for lora in make().loras() if "luna" in lora.name]


# ---------------------------------------------------------------- files of a picture


def choose(fake: ComfyFake, make: Make, more: dict[str, Any], **settings: Any) -> files.Chosen:
    client = ComfyClient(fake.url)
    try:
        return files.choose(client, make(**settings), request(**more))
    finally:
        client.close()


FLUX = {"model": "flux1-dev.safetensors", "family": "flux"}
SD3 = {"model": "sd3_medium.safetensors", "family": "sd3"}


def test_flux_in_parts_takes_its_own_vae_and_encoders(fake: ComfyFake, make: Make) -> None:
    for folder, name in (("vae", "sdxl_vae.safetensors"), ("text_encoders", "t5xxl_fp8_e4m3fn.safetensors")):
        fake.add_model(name, "sd15", folder=folder)
    chosen = choose(fake, make, FLUX)
    assert chosen.kind == "diffusion_model"
    assert chosen.text_encoders == ("clip_l.safetensors", "t5xxl_fp16.safetensors")
    assert chosen.vae == "ae.safetensors"


def test_sd3_without_encoders_takes_those_of_the_server(fake: ComfyFake, make: Make) -> None:
    fake.add_model("sd3_medium.safetensors", "sd3")
    all_three = ("clip_l.safetensors", "clip_g.safetensors", "t5xxl_fp16.safetensors")
    assert choose(fake, make, SD3).text_encoders == all_three
    (fake.root / "models" / "text_encoders" / "t5xxl_fp16.safetensors").unlink()
    assert choose(fake, make, SD3).text_encoders == all_three[:2]


def test_sd3_whose_name_says_it_has_encoders_uses_its_own(fake: ComfyFake, make: Make) -> None:
    fake.add_model("sd3_medium_incl_clips.safetensors", "sd3")
    assert choose(fake, make, {**SD3, "model": "sd3_medium_incl_clips.safetensors"}).text_encoders == ()


def test_sd3_of_which_nothing_is_known_is_tried_when_no_encoders_are_there(fake: ComfyFake, make: Make) -> None:
    fake.add_model("sd3_medium.safetensors", "sd3")
    (fake.root / "models" / "text_encoders" / "clip_g.safetensors").unlink()
    assert choose(fake, make, SD3).text_encoders == ()


def test_a_bare_sdxl_network_is_sent_to_the_right_folder(fake: ComfyFake, make: Make) -> None:
    fake.add_model("sdxl_unet.safetensors", "sdxl", folder="diffusion_models")
    with pytest.raises(InvalidInput, match="sdxl_unet") as caught:
        choose(fake, make, {"model": "sdxl_unet.safetensors", "family": "sdxl"})
    assert "models/checkpoints" in (caught.value.remedy or "")
