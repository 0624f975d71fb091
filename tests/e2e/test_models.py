"""The Models page and the versions of a character in a real browser, in one journey each."""

from __future__ import annotations

from typing import Any

import pytest
import requests

from tests.e2e.conftest import Server
from tests.services.shelf_kit import LORA, SD15, weights_file

expect = pytest.importorskip("playwright.sync_api").expect


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("app")
    models = folder / "models"
    for name in ("portrait", "twin"):
        weights_file(models / f"{name}.safetensors", SD15, {"modelspec.license": "MIT", "modelspec.title": "Portrait"})
    (models / "old.ckpt").write_bytes(b"\x80\x02}q\x00.")
    weights_file(folder / "loras" / "luna.safetensors", LORA)
    server = Server(folder, DALLA_MODELS_DIR=str(models))
    yield server
    server.stop()


@pytest.fixture(scope="module")
def luna(server) -> dict[str, Any]:
    body = {"name": "Luna", "preferredModel": "portrait.safetensors", "loras": [{"name": "luna", "strength": 0.8}]}
    return requests.post(f"{server.url}/api/characters", json=body, timeout=10).json()


def test_the_shelf_from_hashing_to_undo(page, luna, tmp_path):
    page.goto("/models.html")
    table, messages = page.locator("data-table"), page.get_by_role("region", name="Messages")
    expect(table).to_contain_text("Not loaded: a pickle file")
    expect(page.locator(".ms-resident")).to_contain_text("No model is in memory")
    page.get_by_role("button", name="Hash all").click()
    expect(page.get_by_role("button", name="All hashed")).to_be_visible()
    expect(table).to_contain_text("The same file is here 2 times.")
    page.get_by_label("Show", exact=True).select_option("used")
    expect(table.get_by_role("button", name="twin", exact=True)).to_have_count(0)
    expect(table.get_by_role("button", name="portrait", exact=True)).to_be_visible()
    page.get_by_label("Show", exact=True).select_option("")
    page.get_by_label("Search the shelf").fill("twin")
    expect(table.locator("tbody tr")).to_have_count(1)
    assert "q=twin" in page.url

    table.get_by_role("button", name="twin", exact=True).click()
    dialog = page.get_by_role("dialog", name="twin")
    expect(dialog).to_contain_text("from its metadata")
    expect(dialog).to_contain_text("The same bytes: portrait.safetensors.")
    expect(dialog.locator("[data-fit-answer]")).to_contain_text("estimated")
    dialog.get_by_label("Licence").fill("Only for me")
    dialog.get_by_role("button", name="Save").click()
    expect(dialog).to_contain_text("written here")
    dialog.get_by_role("button", name="Remove").click()
    expect(messages).to_contain_text("twin.safetensors removed")
    expect(page.get_by_text("No weights fit these filters.")).to_be_visible()
    messages.get_by_role("button", name="Undo").click()
    expect(table.get_by_role("button", name="twin", exact=True)).to_be_visible()

    # a file dropped on the page lands where its header says; what is none does not leave the browser
    page.get_by_label("Search the shelf").fill("")
    good = weights_file(tmp_path / "style.safetensors", LORA, fill=4)
    bad = tmp_path / "page.safetensors"
    bad.write_text("<html>this is an error page and no weights</html>")
    page.locator("drop-zone input").set_input_files([str(good), str(bad)])
    expect(messages).to_contain_text("style is on the shelf as a LoRA")
    expect(page.get_by_text("It does not begin like a .safetensors file.")).to_be_visible()
    expect(table.get_by_role("button", name="style", exact=True)).to_be_visible()
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_a_character_is_pinned_and_an_earlier_version_comes_back(page, server, luna):
    page.goto(f"/characters.html?id={luna['id']}&tab=looks")
    page.get_by_role("button", name="Pin these versions").click()
    expect(page.locator(".mv-rows .badge")).to_have_text(["Same", "Same"])
    requests.patch(f"{server.url}/api/characters/{luna['id']}", json={"loras": []}, timeout=10)
    page.reload()
    expect(page.locator(".mv-warnings")).to_contain_text("does not use it now")
    page.get_by_text("Changes (").click()
    expect(page.locator(".mv-log")).to_contain_text("LoRA luna taken off")
    page.get_by_role("button", name="Use the pinned version again").click()
    expect(page.locator(".mv-warnings")).to_have_count(0)
    assert requests.get(f"{server.url}/api/characters/{luna['id']}", timeout=10).json()["loras"][0]["strength"] == 0.8
