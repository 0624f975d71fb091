"""What goes out and what goes in: LoRAs downloaded in another program's form, masks made from faces."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dalla import lora_forms
from dalla.weights import read_header
from tests.e2e.conftest import Server
from tests.e2e.test_datasets import World, drawing, encoded
from tests.fakes import comfy_draw

expect = pytest.importorskip("playwright.sync_api").expect
DATA = Path(__file__).resolve().parent.parent / "data"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    server = Server(tmp_path_factory.mktemp("files"))
    folder = server.folder / "loras"
    folder.mkdir(exist_ok=True)
    shutil.copy(DATA / "luna_lora.safetensors", folder / "luna 1.safetensors")
    rows = {
        f"lora_unet_mid_block_attentions_0_proj_in.hada_w{n}_{x}": ("F32", [4, 4], bytes(64))
        for n in "12"
        for x in "ab"
    }
    (folder / "loha.safetensors").write_bytes(comfy_draw.safetensors(rows))
    try:
        yield World(server, tmp_path_factory.mktemp("zips"))
    finally:
        server.stop()


@pytest.fixture(scope="module")
def server(world: World) -> Server:
    return world.server


@pytest.mark.parametrize("form", ["as it is", "peft"])
def test_a_lora_is_downloaded_for_another_program(page: Any, world: World, tmp_path: Path, form: str) -> None:
    page.goto("/lora.html?tab=shelf")
    page.get_by_role("button", name="Download luna 1").click()
    menu = page.get_by_role("menu", name="Download luna 1")
    expect(menu.get_by_role("menuitem")).to_have_text(
        ["As it is", "For kohya, ComfyUI, A1111", "For diffusers (PEFT keys)"]
    )
    with page.expect_download() as begun:
        menu.get_by_role("menuitem", name="As it is" if form == "as it is" else "For diffusers").click()
    saved = begun.value
    saved.save_as(tmp_path / "x.safetensors")
    if form == "peft":
        assert saved.suggested_filename == "luna 1-peft.safetensors"
        assert lora_forms.form_of(read_header(tmp_path / "x.safetensors")) == "peft"
        expect(menu).to_be_hidden()
    else:
        assert (tmp_path / "x.safetensors").read_bytes() == (DATA / "luna_lora.safetensors").read_bytes()


def test_a_lora_that_has_no_other_form_says_so(page: Any, world: World) -> None:
    page.goto("/lora.html?tab=shelf")
    page.get_by_role("button", name="Download loha").focus()
    page.keyboard.press("Enter")
    menu = page.get_by_role("menu", name="Download loha")
    expect(menu).to_be_visible()
    menu.get_by_role("menuitem", name="For diffusers").focus()
    page.keyboard.press("Enter")
    expect(page.locator(".toast")).to_contain_text("(LoHa), which has no place in the other form")
    expect(page.locator(".toast")).to_contain_text("Use the file as it is")
    page.errors[:] = [text for text in page.errors if "422" not in text]  # the browser tells it, too


def test_faces_are_masked_after_a_look_and_taken_back(page: Any, world: World) -> None:
    pytest.importorskip("cv2")
    pictures = [("face.jpg", (DATA / "face.jpg").read_bytes()), ("room.png", encoded(drawing(7)))]
    dataset = world.make("Masks", pictures)
    page.goto(f"/datasets.html?dataset={dataset}")
    page.locator("[role=gridcell]").first.focus()
    page.keyboard.press("Control+a")
    page.get_by_role("button", name="Pictures", exact=True).click()
    page.get_by_role("menuitem", name="Mask faces").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("button", name="Try it first").click()
    trial = dialog.locator(".ds-trial-box")
    expect(trial).to_contain_text("No face was found.")
    expect(trial).to_contain_text("1 face,")
    assert trial.locator("img").evaluate("i => i.decode().then(() => i.naturalWidth)") > 50
    assert all(image["maskUrl"] is None for image in world.images(dataset))
    dialog.get_by_role("button", name="Mask 2").click()
    job = page.locator(".ds-job")
    expect(job).to_contain_text("1 done")
    assert [i["filename"] for i in world.images(dataset) if i["maskUrl"]] == ["face.jpg"]
    job.get_by_role("button", name="Undo").click()
    expect(job.filter(has_text="as before")).to_be_visible()  # both are listed until the first is closed
    assert all(image["maskUrl"] is None for image in world.images(dataset))
