"""The settings page in a real browser: change, save, undo, locks, tests, secrets, storage, backup, restart."""

from __future__ import annotations

import re

import pytest

from tests.e2e.conftest import Server
from tests.e2e.looks import serious
from tests.fakes.comfyui import ComfyFake

expect = pytest.importorskip("playwright.sync_api").expect

SECTIONS = (
    "general", "engines", "captions", "publishing", "scheduler", "webhooks", "models", "storage", "backup", "account",
    "security", "about",
)  # fmt: skip


@pytest.fixture(scope="module")
def comfy():
    with ComfyFake() as fake:
        yield fake


@pytest.fixture(scope="module")
def server(tmp_path_factory, comfy):
    folder = tmp_path_factory.mktemp("app")  # the address of ComfyUI is not in the environment: the page sets it
    server = Server(folder, COMFYUI_TIMEOUT="900", DALLA_MODELS_DIR=str(folder / "models"), COMFYUI_URL="")
    yield server
    server.stop()


def row(page, name):
    return page.locator(f"[data-setting='{name}']")


def toast(page):
    return page.locator("toast-stack")


def test_a_value_is_refused_tried_saved_and_undone(page, comfy):
    page.goto("/settings.html?section=engines#comfyuiUrl")  # the way other pages lead here
    field = page.get_by_label("Address of ComfyUI")
    expect(field).to_be_focused()
    field.fill("http://169.254.169.254")
    page.keyboard.press("Control+Enter")
    expect(row(page, "comfyuiUrl").locator(".field-error")).to_contain_text("metadata")
    expect(field).to_have_attribute("aria-invalid", "true")
    page.errors.clear()  # the browser logs the 422

    field.fill(comfy.url)
    expect(page.get_by_text("1 unsaved change")).to_be_visible()
    page.locator("[data-service=comfyui]").click()
    expect(page.locator(".se-result")).to_contain_text("ComfyUI answers")
    expect(page.locator(".se-result")).to_contain_text("unsaved")
    page.keyboard.press("Control+Enter")
    expect(toast(page)).to_contain_text("Address of ComfyUI was saved")
    expect(row(page, "comfyuiUrl")).to_contain_text("Changed")
    expect(page.locator(".form-bar")).to_have_count(0)
    toast(page).get_by_role("button", name="Undo").click()
    expect(field).to_have_value("http://127.0.0.1:8188")

    # what the environment sets is shown and cannot be changed here
    expect(row(page, "comfyuiTimeout")).to_contain_text("COMFYUI_TIMEOUT")
    expect(page.get_by_label("Give up after")).to_be_disabled()
    expect(page.get_by_label("Give up after")).to_have_value("900")


def test_search_secrets_and_unsaved_changes(page):
    page.goto("/settings.html")
    expect(page.get_by_role("heading", name="Where the app listens")).to_be_visible()
    page.keyboard.press("/")
    page.keyboard.type("gemini_api_key")
    expect(page.get_by_role("option").first).to_contain_text("Gemini key")
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile(r"section=captions#geminiApiKey"))
    field = page.get_by_label("Gemini key")
    expect(field).to_be_focused()
    field.fill("AIza-a-very-long-key-6f2a")
    page.keyboard.press("Control+Enter")
    expect(field).to_have_attribute("placeholder", re.compile("••••6f2a"))
    expect(field).to_have_value("")
    assert "very-long" not in page.content()

    page.get_by_label("Language").fill("Deutsch")
    page.get_by_role("link", name="General").click()
    dialog = page.get_by_role("dialog", name="Save your changes?")
    dialog.get_by_role("button", name="Keep editing").click()
    expect(page).to_have_url(re.compile("section=captions"))
    page.get_by_role("link", name="General").click()
    dialog.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_role("heading", name="Where the app listens")).to_be_visible()
    page.go_back()
    expect(page.get_by_label("Language")).to_have_value("Deutsch")

    # back to the defaults: listed first
    page.get_by_role("link", name="About").click()
    page.get_by_role("button", name=re.compile("^Everything")).click()
    dialog = page.get_by_role("dialog", name="Back to the defaults")
    expect(dialog.get_by_role("listitem")).to_have_count(2)
    dialog.get_by_role("button", name="Reset").click()
    expect(page.get_by_text("Everything is at its default.")).to_be_visible()


def test_storage_is_measured_and_cleaned_and_a_backup_made(page, server):
    page.goto("/settings.html?section=storage")
    expect(page.locator(".se-volume")).to_contain_text("free")
    expect(page.locator("[data-key=data]").first).to_contain_text(re.compile(r"\d+ file"))
    page.get_by_role("button", name="How to move Data folder").click()
    dialog = page.get_by_role("dialog", name="Move the data folder")
    expect(dialog).to_contain_text(str(server.folder / "data" / "media"))
    expect(dialog.get_by_role("listitem")).to_have_count(5)
    expect(dialog).to_contain_text("Change DALLA_DATA_DIR to the new folder")
    dialog.locator("[data-close]").last.click()
    page.get_by_role("button", name="Look for leftovers").click()
    dialog = page.get_by_role("dialog", name="Clean up")
    expect(dialog).to_contain_text(re.compile("nothing to clean up|nothing has gone yet"))
    dialog.locator("[data-cancel]").click()  # "Close" where nothing is left over

    page.get_by_role("link", name="Backup", exact=False).first.click()
    page.get_by_role("button", name="Make a backup").click()
    expect(page.locator(".se-item")).to_contain_text("Read back after writing")
    page.get_by_role("button", name=re.compile("^Restore the backup")).click()
    dialog = page.get_by_role("dialog", name="Restore a backup")
    expect(dialog.get_by_label("Type restore to go on")).to_be_visible()
    expect(dialog.get_by_role("button", name="Prepare the restore")).to_be_disabled()
    dialog.get_by_role("button", name="Cancel").click()
    page.get_by_role("button", name=re.compile("^Delete the backup")).click()
    expect(page.get_by_text("No backup yet")).to_be_visible()
    toast(page).get_by_role("button", name="Undo").click()
    expect(page.locator(".se-item")).to_have_count(1)


def test_a_restart_puts_a_waiting_value_in_force(page):
    page.goto("/settings.html?section=general")
    page.get_by_role("radio", name="Warnings").check()
    page.keyboard.press("Control+Enter")
    banner = page.locator(".se-banner")
    expect(banner).to_contain_text("Log is saved and waits for a restart")
    with page.expect_navigation(timeout=60_000):
        banner.get_by_role("button", name="Restart now").click()
    expect(page.locator("input[name=logLevel][value=WARNING]")).to_be_checked()
    expect(page.locator(".se-banner")).to_have_count(0)
    page.errors.clear()  # the browser logs each look while nothing answered


@pytest.mark.tools
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_section_can_be_used_by_everybody(page, theme):
    page.emulate_media(color_scheme=theme, reduced_motion="reduce")
    page.goto("/settings.html")
    for section in SECTIONS:
        page.locator(f".se-nav [data-go={section}]").click()
        expect(page.locator(f".se-nav [data-go={section}]")).to_have_attribute("aria-current", "page")
        expect(page.locator(".se-body .skeleton")).to_have_count(0)
        found = serious(page)
        assert not found, "\n".join([section, *found])
        if theme == "light":
            page.set_viewport_size({"width": 390, "height": 844})
            wide = page.evaluate("document.documentElement.scrollWidth - innerWidth")
            assert wide <= 0, f"{section} scrolls sideways by {wide} px on a phone"
            page.set_viewport_size({"width": 1360, "height": 900})


@pytest.mark.viewport(390, 844)
def test_a_phone_begins_with_the_list_of_sections(page):
    page.goto("/settings.html")
    page.get_by_role("link", name="Engines").click()
    expect(page.get_by_role("heading", name="Engines", exact=True)).to_be_visible()
    page.get_by_role("link", name="All settings").click()
    expect(page.get_by_role("link", name="Engines")).to_be_visible()
