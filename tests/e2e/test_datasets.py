"""The Datasets page on the real app: pictures in, captions, figures, doubles, versions, and out again as a zip."""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from PIL import Image, ImageDraw, ImageFilter

from tests.e2e.conftest import Server
from tests.e2e.looks import rest, serious, until

playwright = pytest.importorskip("playwright.sync_api")
expect = playwright.expect
TABS = ["images", "captions", "stats", "clean", "versions"]


def drawing(n: int, size: tuple[int, int] = (160, 160)) -> Image.Image:
    """A picture with enough edges to be sharp, unlike all others."""
    image = Image.new("RGB", size, (20 * n % 255, 90 + 13 * n % 120, 200 - 9 * n % 150))
    draw = ImageDraw.Draw(image)
    for k in range(24):
        x, y = (n * 37 + k * 53) % size[0], (n * 71 + k * 29) % size[1]
        draw.rectangle(
            (x, y, x + 6 + (n * k) % 40, y + 4 + (k * 7) % 30), fill=(k * 10 % 255, n * 40 % 255, 255 - k * 9)
        )
    return image


def encoded(image: Image.Image, kind: str = "PNG", **more: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **more)
    return out.getvalue()


def archive(folder: Path) -> Path:
    """A kohya zip with what goes wrong in such zips: a double, a near double, an orphan, an escape, an empty file."""
    path = folder / "luna_shoot.zip"
    with zipfile.ZipFile(path, "w") as out:
        for n in range(12):
            data = encoded(drawing(n, (240, 160) if n % 3 == 0 else (160, 160)))
            out.writestr(f"10_luna woman/{n:02}.png", data)
            if n != 11:
                out.writestr(f"10_luna woman/{n:02}.txt", f"luna, red dress, scene {n}")
            if n == 4:
                out.writestr("10_luna woman/copy.png", data)
            if n == 5:
                out.writestr("10_luna woman/small.jpg", encoded(drawing(5).resize((120, 120)), "JPEG", quality=70))
                out.writestr("10_luna woman/small.txt", "luna, red dress, small")
        out.writestr("10_luna woman/blurred.png", encoded(drawing(30).filter(ImageFilter.GaussianBlur(9))))
        out.writestr("10_luna woman/00-masklabel.png", encoded(Image.linear_gradient("L").resize((240, 160))))
        out.writestr("10_luna woman/lost.txt", "nobody's caption")
        out.writestr("10_luna woman/empty.png", b"")
        out.writestr("../evil.png", encoded(drawing(1)))
    return path


class World:
    """An app with one dataset, `filled`, that tests may read and change in their own corner of it."""

    def __init__(self, server: Server, folder: Path) -> None:
        self.server, self.folder = server, folder
        self.zip = archive(folder)

    def call(self, method: str, path: str, **more: Any) -> Any:
        answer = requests.request(method, f"{self.server.url}/api{path}", timeout=60, **more)
        assert answer.ok, f"{method} {path}: {answer.status_code} {answer.text[:500]}"
        return answer.json()

    def done(self, task_id: str) -> Any:
        """Wait for a task that must end well."""
        for _ in range(30):
            task = self.call("GET", f"/tasks/{task_id}", params={"wait": 10})
            if task["status"] in ("completed", "failed", "cancelled", "interrupted"):
                assert task["status"] == "completed", task["error"]
                return task
        raise AssertionError(f"the task did not end: {task}")

    def make(self, name: str, pictures: list[tuple[str, bytes]]) -> str:
        """A dataset of these files, sent as a form."""
        files = [("files", one) for one in pictures]
        answer = self.call("POST", "/datasets/upload", files=files, data={"name": name})
        self.done(answer["taskId"])
        return str(answer["datasetId"])

    def images(self, dataset_id: str, **query: Any) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = self.call("GET", f"/datasets/{dataset_id}/images", params=query)["items"]
        return items


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    server = Server(tmp_path_factory.mktemp("datasets"))
    try:
        yield World(server, tmp_path_factory.mktemp("zips"))
    finally:
        server.stop()


@pytest.fixture(scope="module")
def server(world: World) -> Server:
    return world.server


@pytest.fixture(scope="module")
def filled(world: World) -> str:
    """A small dataset for looking: eight pictures, two of them without a caption."""
    pictures = [(f"{n}.png", encoded(drawing(n + 40))) for n in range(8)]
    captions = [(f"{n}.txt", f"kai, blue coat, place {n}".encode()) for n in range(6)]
    return world.make("Looking", pictures + captions)


def settled(page: Any) -> None:
    expect(page.locator("main .skeleton:visible")).to_have_count(0)
    rest(page)


def test_from_a_messy_zip_to_a_download(page, world):
    """Upload, plan, watch, edit, replace, follow a figure, clean a double, take a version, export, download."""
    page.goto("/datasets.html")
    expect(page.get_by_role("heading", name="No datasets yet").or_(page.locator(".ds-card").first)).to_be_visible()
    page.get_by_role("button", name="New dataset").first.click()
    dialog = page.get_by_role("dialog", name="New dataset")
    dialog.locator("drop-zone input").set_input_files(str(world.zip))
    expect(dialog.locator(".ds-plan-said")).to_contain_text("15 pictures")  # nothing is imported before this is read
    expect(dialog.locator(".ds-plan-said")).to_contain_text("1 mask")
    expect(dialog.locator(".ds-plan-said")).to_contain_text("1 orphan")
    expect(dialog.locator(".ds-plan-said")).to_contain_text("kohya repeats 10")
    dialog.get_by_text(re.compile("^Refused: Its path leads out")).click()
    expect(dialog.get_by_text("../evil.png")).to_be_visible()
    expect(dialog.get_by_label("Name of the dataset")).to_have_value("luna shoot")
    dialog.get_by_role("button", name=re.compile("^Import 14 pictures")).click()

    expect(page.get_by_role("heading", name="luna shoot", level=2)).to_be_visible()
    expect(page.locator(".ds-job")).to_contain_text("luna_shoot.zip")
    expect(page.locator(".gl-total")).to_have_text("14 pictures")
    expect(page.locator(".ds-job")).to_contain_text("14 pictures imported")
    dataset = re.search(r"dataset=([^&]+)", page.url)[1]  # type: ignore[index]

    # a caption under its picture: Enter saves, and the picture is locked from then on
    first = page.get_by_role("textbox", name="Caption of 10_luna woman/00.png")
    first.fill("luna, red dress, written by hand")
    first.press("Enter")
    expect(page.locator(".mg-cell").first.get_by_role("img", name="Locked")).to_be_visible()
    assert world.images(dataset, q="hand")[0]["captionLocked"] is True

    # its mask came along, and is shown over it on demand
    page.get_by_role("button", name="Overlays").click()
    page.get_by_label("Masks").check()
    page.keyboard.press("Escape")
    expect(page.locator(".ds-mask")).to_have_count(1)

    # replace: counted and shown before it is done, undone as one
    page.get_by_role("tab", name="Captions").click()
    page.get_by_label("Find", exact=True).fill("red dress")
    page.get_by_label("Replace with").fill("green coat")
    expect(page.locator(".ds-preview")).to_contain_text("11 captions would change")
    expect(page.locator(".ds-preview")).to_contain_text("One that a person wrote stays")
    expect(page.locator(".ds-changes del").first).to_have_text("red dress")
    page.get_by_role("button", name="Change 11 captions").click()
    expect(page.locator(".ds-batches")).to_contain_text("11 captions")
    expect(page.locator(".ds-tag-name", has_text="green coat")).to_contain_text("11")
    page.locator(".ds-batches").get_by_role("button", name="Undo").first.click()
    expect(page.locator(".ds-tag-name", has_text="red dress")).to_contain_text("12")

    # a figure leads to the pictures it counts, and Back leads back
    page.get_by_role("tab", name="Stats").click()
    page.get_by_role("link", name=re.compile("^red dress: 12")).click()
    expect(page.locator(".gl-total")).to_have_text("12 pictures")
    expect(page).to_have_url(re.compile("tag=red\\+dress|tag=red%20dress"))
    page.go_back()
    expect(page.get_by_role("heading", name="Resolution")).to_be_visible()
    page.get_by_text("Captions without a picture").click()
    expect(page.get_by_text("10_luna woman/lost.txt")).to_be_visible()
    expect(page.get_by_role("link", name=re.compile("^English: "))).to_be_visible()

    # a near double: the larger one is proposed, the other goes to the trash and can come back
    page.get_by_role("tab", name="Clean").click()
    page.get_by_role("link", name=re.compile("Near doubles")).click()
    group = page.locator(".ds-group").filter(has_text="small.jpg")
    expect(group.locator(".is-kept")).to_contain_text("05.png")
    group.get_by_role("button", name=re.compile("^Keep one")).click()
    expect(page.locator(".toast").filter(has_text="1 picture moved to the trash")).to_be_visible()
    expect(group).to_have_count(0)
    assert [i["filename"] for i in world.images(dataset, trashed="true")] == ["10_luna woman/small.jpg"]

    # a version, then a zip of it
    page.get_by_role("tab", name="Versions").click()
    page.get_by_label("Note").fill("cleaned up")
    page.get_by_role("button", name="Take a snapshot").click()
    expect(page.get_by_role("heading", name="Version 1", exact=True)).to_be_visible()
    page.locator("#ds-versions .ds-version").first.get_by_role("button", name="Export").click()
    page.get_by_role("dialog", name="Export version 1").get_by_role("button", name="Export").click()
    with page.expect_download() as download:
        page.get_by_role("link", name="Download").click()
    assert download.value.suggested_filename == "training_data_v1.zip"
    with zipfile.ZipFile(download.value.path()) as made:
        names = made.namelist()
        assert sum(n.endswith(".png") and "mask" not in n for n in names) == 13
        assert sum("mask" in n for n in names) == 1
        manifest = json.loads(made.read("manifest.json"))
    assert (manifest["pictures"], manifest["dataset"]["name"]) == (13, "luna shoot")


def test_a_batch_that_was_stopped_can_be_undone(page, world):
    """Its task has no result, so the page asks what it did. Served from here: a real one ends when it likes."""
    dataset, task = world.make("Stopped", [("a.png", encoded(drawing(90)))]), "job_1795290000000_abcdefghi"
    smaller = {"operation": "resize", "datasetId": dataset, "options": {"size": 80}}
    world.done(world.call("POST", "/images/batch-process", json=smaller)["taskId"])
    stopped = {
        **{"taskId": task, "id": task, "kind": "image_batch", "title": "Resize: Stopped (1)", "datasetId": dataset},
        **{"status": "cancelled", "message": "Resize: 1 of 3", "done": 1, "total": 3, "progress": 0.33, "result": None},
        **{"error": None, "itemsFailed": [], "createdAt": "2026-11-21T12:00:00.000Z", "finishedAt": None},
    }
    page.route(f"**/api/tasks/{task}", lambda route: route.fulfill(json=stopped))
    page.route(
        f"**/api/images/batch-process/{task}?*",
        lambda route: route.fulfill(json={"undoable": True, "counts": {"done": 1, "skipped": 0, "failed": 0}}),
    )
    page.route("**/api/images/batch-process", lambda route: route.fulfill(status=202, json={"taskId": task}))
    undone: list[str] = []
    page.route(
        f"**/api/images/batch-process/{task}/undo",
        lambda route: (undone.append(task), route.fulfill(status=202, json={"taskId": task}))[1],
    )
    page.goto(f"/datasets.html?dataset={dataset}")
    expect(page.get_by_role("tab", name="Images")).to_contain_text("2")
    expect(page.locator(".ds-head .ds-facts")).to_contain_text("1 picture")  # and one that was made from it
    expect(page.locator(".ds-head .ds-facts")).to_contain_text("1 made from them")
    page.locator("[role=gridcell]").first.focus()
    page.keyboard.press("Control+a")
    page.get_by_role("button", name="Pictures", exact=True).click()
    page.get_by_role("menuitem", name="Resize").click()
    page.get_by_role("dialog").get_by_role("button", name="Resize 2").click()
    expect(page.locator(".ds-job")).to_contain_text("1 done")
    page.locator(".ds-job").get_by_role("button", name="Undo").click()
    until(page, lambda: undone)
    assert undone == [task]


def test_addresses_are_refused_or_fetched_with_a_reason(page, world):
    page.goto("/datasets.html?new=1")
    dialog = page.get_by_role("dialog", name="New dataset")
    dialog.get_by_text("Addresses of pictures").click()
    dialog.get_by_label("Pictures or zips on the web").fill(f"{world.server.url}/favicon.ico")
    dialog.get_by_role("button", name="Fetch").click()
    expect(dialog.get_by_role("alert").filter(has_text="an address of this computer")).to_be_visible()
    expect(dialog.get_by_role("button", name="Import")).to_be_disabled()
    dialog.get_by_role("button", name="Change the addresses").click()
    expect(dialog.get_by_label("Pictures or zips on the web")).to_have_value(re.compile("favicon"))


def test_captioning_by_keyboard_alone(page, world, filled):
    page.goto(f"/datasets.html?dataset={filled}")
    expect(page.locator(".mg-cell img").first).to_be_visible()
    page.keyboard.press("k")
    dialog = page.get_by_role("dialog", name="Caption by keyboard")
    expect(dialog.locator("strong[role=status]")).to_have_text("1 of 8")
    expect(dialog.get_by_label("Caption", exact=True)).to_be_focused()
    page.keyboard.press("Control+j")  # the first one without a caption
    expect(dialog.locator("strong[role=status]")).to_have_text("7 of 8")
    page.keyboard.type("kai, written without a mouse")
    page.keyboard.press("Enter")
    expect(dialog.locator("strong[role=status]")).to_have_text("8 of 8")
    assert world.images(filled, q="mouse")[0]["captionSource"] == "human"
    page.keyboard.press("Control+z")  # nothing typed here: the saved caption is taken back
    expect(dialog.locator("strong[role=status]")).to_have_text("7 of 8")
    expect(dialog.get_by_label("Caption", exact=True)).to_have_value("")
    page.keyboard.press("Control+h")
    history = page.get_by_role("dialog", name="Caption history")
    history.get_by_role("button", name="Use this one").first.click()
    expect(history.get_by_text("Current")).to_be_visible()
    expect(history.locator("li").first).to_contain_text("kai, written without a mouse")
    page.keyboard.press("Escape")
    expect(dialog.get_by_label("Caption", exact=True)).to_have_value("kai, written without a mouse")
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    expect(page).not_to_have_url(re.compile("edit="))


def test_tab_goes_from_caption_to_caption_and_escape_takes_back(page, world):
    dataset = world.make("Tabbing", [(f"{n}.png", encoded(drawing(n + 70))) for n in range(3)])
    page.goto(f"/datasets.html?dataset={dataset}")
    first = page.get_by_role("textbox", name="Caption of 0.png")
    first.click()
    page.keyboard.type("one")
    page.keyboard.press("Tab")
    expect(page.get_by_role("textbox", name="Caption of 1.png")).to_be_focused()
    page.keyboard.type("first line")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("second")
    page.keyboard.press("Tab")
    page.keyboard.type("never saved")
    page.keyboard.press("Escape")
    expect(page.get_by_role("textbox", name="Caption of 2.png")).to_have_value("")
    expect(page.locator(".ds-caption.is-dirty")).to_have_count(0)
    assert [i["caption"] for i in world.images(dataset)] == ["one", "first line\nsecond", ""]
    page.keyboard.press("ArrowLeft")  # the grid has the keys again
    page.keyboard.press("e")
    expect(page.get_by_role("textbox", name="Caption of 1.png")).to_be_focused()


def test_what_is_selected_is_excluded_taken_back_and_trashed(page, world):
    dataset = world.make("Selecting", [(f"{n}.png", encoded(drawing(n + 80))) for n in range(5)])
    page.goto(f"/datasets.html?dataset={dataset}")
    cells = page.locator(".mg-cell")
    expect(cells).to_have_count(5)
    cells.nth(0).click(modifiers=["Control"], position={"x": 60, "y": 60})
    cells.nth(2).click(modifiers=["Shift"], position={"x": 60, "y": 60})
    bar = page.get_by_role("toolbar", name="Selected pictures")
    expect(bar).to_contain_text("3 selected")
    bar.get_by_role("button", name="Exclude").click()
    expect(page.locator(".ds-head")).to_contain_text("3 excluded")
    page.locator(".toast").get_by_role("button", name="Undo").click()
    expect(page.locator(".ds-head")).not_to_contain_text("excluded")
    bar.get_by_role("button", name="Select all 5 matching").click()
    expect(bar).to_contain_text("5 selected")
    bar.get_by_role("button", name="Trash").click()
    expect(page.get_by_role("heading", name="No pictures yet")).to_be_visible()
    page.locator(".toast").filter(has_text="5 pictures").get_by_role("button", name="Undo").click()
    expect(cells).to_have_count(5)


def test_a_caption_that_changed_elsewhere_is_not_overwritten_unasked(page, world):
    dataset = world.make("Two people", [("a.png", encoded(drawing(90)))])
    image = world.images(dataset)[0]
    page.goto(f"/datasets.html?dataset={dataset}")
    field = page.get_by_role("textbox", name="Caption of a.png")
    field.click()
    page.keyboard.type("mine")
    world.call("PATCH", f"/images/{image['id']}", json={"caption": "theirs"})
    until(page, lambda: page.evaluate("document.querySelector('media-grid').items[0].caption") == "theirs")
    page.keyboard.press("Enter")
    toast = page.locator(".toast").filter(has_text="was changed meanwhile")
    expect(toast).to_contain_text("It is now: theirs")
    assert world.images(dataset)[0]["caption"] == "theirs"
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.method))
    field.click()  # to look at it and to leave it again is no wish to overwrite
    field.blur()
    page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    assert "PATCH" not in sent
    toast.get_by_role("button", name="Use mine").click()
    expect(field).not_to_have_class(re.compile("is-dirty"))
    assert world.images(dataset)[0]["caption"] == "mine"
    page.errors[:] = [e for e in page.errors if "412" not in e]

    field.click()  # nothing is typed: leaving the field says nothing
    world.call("PATCH", f"/images/{image['id']}", json={"caption": "theirs again"})
    until(page, lambda: page.evaluate("document.querySelector('media-grid').items[0].caption") == "theirs again")
    page.keyboard.press("Enter")
    expect(field).to_have_value("theirs again")
    assert world.images(dataset)[0]["caption"] == "theirs again"


def test_a_caption_stays_with_its_picture_when_a_finger_goes_on_to_the_next(page, world):
    dataset = world.make("Swiped", [(f"{name}.png", encoded(drawing(n))) for n, name in ((110, "a"), (115, "b"))])
    page.goto(f"/datasets.html?dataset={dataset}&sort=name")
    page.get_by_role("gridcell", name=re.compile("^a.png")).locator("img").first.click()
    page.keyboard.press("i")
    field = page.locator("#ds-viewer-caption")
    field.fill("the first")
    page.evaluate(
        """() => {
          const stage = document.querySelector("image-viewer .viewer-stage");
          const at = (type, clientX) => stage.dispatchEvent(
            new PointerEvent(type, { clientX, pointerId: 1, pointerType: "touch", button: 0, bubbles: true }));
          at("pointerdown", 300);
          at("pointerup", 100);
        }"""
    )
    second = next(image for image in world.images(dataset) if image["filename"] == "b.png")
    expect(field).to_have_attribute("data-viewer-image", second["id"])
    expect(field).to_have_value("")
    field.fill("the second")
    field.press("Enter")
    until(page, lambda: all(image["caption"] for image in world.images(dataset)))
    assert {i["filename"]: i["caption"] for i in world.images(dataset)} == {"a.png": "the first", "b.png": "the second"}


def test_what_does_not_exist_is_said(page, world):
    page.goto("/datasets.html?dataset=dataset_1_none")
    expect(page.get_by_role("heading", name="This dataset does not exist")).to_be_visible()
    page.locator(".ds-problem").get_by_role("link", name="All datasets").click()
    expect(page).to_have_url(re.compile(r"/datasets\.html$"))
    page.errors[:] = [e for e in page.errors if "404" not in e]


@pytest.mark.tools
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_no_serious_finding_on_any_tab(page, filled, theme):
    page.emulate_media(color_scheme=theme, reduced_motion="reduce")
    found: list[str] = []

    def look(where: str) -> None:
        found.extend(f"{where}: {one}" for one in serious(page))

    for tab in TABS:
        page.goto(f"/datasets.html?dataset={filled}&tab={tab}")
        expect(page.locator(f"#ds-{tab} .panel, #ds-{tab} .mg-cell").first).to_be_visible()
        settled(page)
        look(tab)
    page.goto("/datasets.html")
    expect(page.locator(".ds-card").first).to_be_visible()
    settled(page)
    page.get_by_role("button", name="New dataset").first.click()
    look("import")
    assert not found, "\n".join(found)


@pytest.mark.viewport(390, 844)
def test_a_phone_shows_every_tab_without_scrolling_sideways(page, filled):
    wide = {}
    for path in ["/datasets.html", *(f"/datasets.html?dataset={filled}&tab={tab}" for tab in TABS)]:
        page.goto(path)
        expect(page.locator(".ds-card, .ds-detail .panel:visible, .mg-cell").first).to_be_visible()
        settled(page)
        wide[path] = page.evaluate("document.documentElement.scrollWidth")
    assert max(wide.values()) <= 390, wide
