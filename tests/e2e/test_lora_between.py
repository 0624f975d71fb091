"""What is done on the LoRA page while an answer is still awaited: a run is left, other pictures are chosen, something is
clicked twice. And what fields, tabs and states say then."""

from __future__ import annotations

import re
import shutil
from typing import Any

import pytest

from tests.e2e.looks import until
from tests.e2e.test_lora import ID, STEPS, Pretend, World, choose_luna, drawn, picture, run_of
from tests.e2e.test_lora import server as server
from tests.e2e.test_lora import world as world

expect = pytest.importorskip("playwright.sync_api").expect
SOURCE = "Dataset or folder"


class Held:
    """Requests that are kept waiting until `go`; those after it pass."""

    def __init__(self, page: Any, address: re.Pattern[str], method: str = "") -> None:
        self.page, self.method, self.routes, self.gone = page, method, [], False
        page.route(address, self.take)

    def take(self, route: Any) -> None:
        if self.method not in ("", route.request.method):
            route.fallback()
        elif self.gone:
            route.fallback()
        else:
            self.routes.append(route)

    def wait(self) -> None:
        until(self.page, lambda: self.routes)

    def go(self, **answer: Any) -> None:
        self.gone = True
        for route in self.routes:
            route.fulfill(**answer) if answer else route.fallback()


def dataset(world: World, name: str) -> str:
    made = world.call("POST", "/datasets", json={"name": name, "triggerWord": "ohwx"})
    files = [("files", (f"{n}.png", picture(n))) for n in range(5)]
    task = world.call("POST", "/datasets/upload", data={"datasetId": made["id"]}, files=files)
    assert world.call("GET", f"/tasks/{task['taskId']}?wait=30")["status"] == "completed"
    return f"dataset:{made['id']}"


def folder(world: World, name: str) -> None:
    files = [("files", (f"{n}.png", picture(n + 40), "image/png")) for n in range(4)]
    world.call("POST", "/lora/upload", files=files, data={"name": name})


# ---------------------------------------------------------------- a run


@pytest.mark.parametrize("how", ["click", "Enter"])
def test_the_tab_of_a_run_leads_to_all_runs(page: Any, world: World, how: str) -> None:
    Pretend(page, run_of())
    page.goto(f"/lora.html?run={ID}")
    expect(page.locator(".lo-head .badge")).to_have_text("Training")
    tab = page.get_by_role("tab", name="Runs")
    expect(tab).to_have_attribute("aria-selected", "true")
    tab.click() if how == "click" else tab.press("Enter")
    expect(page).to_have_url(re.compile(r"\?tab=runs$"))
    expect(page.locator("#lo-runs")).to_be_visible()
    expect(page.locator("#lo-run")).to_be_hidden()
    page.go_back()
    expect(page.locator(".lo-head .badge")).to_have_text("Training")


def test_nothing_is_asked_of_a_run_that_was_left(page: Any, world: World) -> None:
    said = [{"event": "phase", "name": "place"}, {"event": "step", "step": 61, "epoch": 3, "loss": 0.09, "lr": 0.001}]
    news = "".join(f'event: training.progress\ndata: {{"taskId": "{ID}", {str(row)[1:-1]}}}\n\n' for row in said)
    events = Held(page, re.compile("/api/events"))
    Pretend(page, run_of())
    save = Held(page, re.compile(f"{ID}/save$"))
    page.goto(f"/lora.html?run={ID}")
    expect(page.locator(".lo-figures")).to_contain_text("60 / 100")
    page.get_by_role("button", name="Save now").click()
    save.wait()
    events.wait()
    # It is left in the moment in which the step is shown: what was put off by some tenths of a second comes after that.
    page.evaluate("""() => { globalThis.left = new Promise((done) => new MutationObserver((_all, watch) => {
        if (!document.querySelector(".lo-figures")?.textContent.includes("61 / 100")) return;
        watch.disconnect();
        const real = fetch;
        globalThis.asked = [];
        globalThis.fetch = (...all) => { asked.push(String(all[0])); return real(...all); };
        document.querySelector("#tab-runs").click();
        setTimeout(done, 1500);
    }).observe(document.querySelector(".lo-head"), { subtree: true, childList: true, characterData: true })); }""")
    events.go(body=news.replace("'", '"'), content_type="text/event-stream")
    expect(page.locator("#lo-runs")).to_be_visible()
    save.go(status=202, json=run_of())
    expect(page.locator(".toast")).to_contain_text("A checkpoint is written")
    page.evaluate("left")
    assert [url for url in page.evaluate("asked") if "/api/lora/train/" in url] == []


def test_a_run_says_what_it_does_before_and_after_its_steps(page: Any, world: World) -> None:
    pretend = Pretend(page, run_of(phase="report", step=100))
    rows = [pretend.run]
    page.route(re.compile(r"/api/lora/train\?"), lambda r: r.fulfill(json={"items": rows, "total": 1}))
    page.goto(f"/lora.html?run={ID}")
    badge, text = page.locator(".lo-head .badge"), page.locator(".lo-state-text")
    expect(badge).to_have_text("Finishing")
    expect(text).to_have_text("Measuring what was learned")
    expect(page.locator(".lo-figures [data-key='Time left'] strong")).to_have_text("–")
    page.get_by_role("tab", name="Runs").click()
    row = page.locator("li.lo-run")
    expect(row).to_contain_text("Step 100 of 100 · loss 0.0912 · Measuring what was learned")

    pretend.run = rows[0] = run_of(phase="latents")  # it was resumed
    page.reload()
    expect(row).to_contain_text("Starting")
    expect(row).to_contain_text("Preparing the pictures")
    row.get_by_role("link", name="luna-2").click()
    expect(badge).to_have_text("Starting")
    expect(text).to_have_text("Preparing the pictures")
    expect(page.locator(".lo-figures [data-key=Speed] strong")).to_have_text("–")


def test_the_slider_stays_with_the_newest_samples(page: Any, world: World) -> None:
    pretend = Pretend(page, run_of())
    page.goto(f"/lora.html?run={ID}")
    slider, name = page.get_by_label("Step of the samples"), page.locator(".lo-step-name")
    expect(name).to_have_text("Step 50")
    slider.focus()
    page.keyboard.press("ArrowLeft")
    expect(name).to_have_text("Step 25")
    page.keyboard.press("ArrowRight")
    expect(name).to_have_text("Step 50")
    newer = [
        {**row, "step": 75, "fileUrl": row["fileUrl"].replace("/50_", "/75_")}
        for row in pretend.run["samples"]
        if row["step"] == 50
    ]
    pretend.run["samples"] += newer
    page.keyboard.press("w")  # saves a checkpoint, so that the page reads the run again
    expect(name).to_have_text("Step 75")
    expect(slider).to_be_focused()
    expect(slider).to_have_js_property("value", "3")
    page.keyboard.press("ArrowLeft")
    expect(name).to_have_text("Step 50")


def test_a_clone_takes_over_what_it_can_and_says_what_not(page: Any, world: World) -> None:
    request = {"trainingData": "luna", "params": {"preset": "quick", "rank": "8", "steps": 40}}
    Pretend(page, run_of(status="completed", request=request, actions=["clone"]))
    page.goto(f"/lora.html?run={ID}")
    page.get_by_role("button", name="Clone").click()
    expect(page.locator(".toast", has_text="Not every setting could be taken over")).to_contain_text(
        "rank must be a number"
    )
    expect(page.locator(STEPS)).to_have_text("40")
    expect(page.get_by_role("radio", name="Draft")).to_be_checked()
    expect(page.locator(".lo-changed")).to_have_text("1 changed")


# ---------------------------------------------------------------- the form


def test_a_text_that_is_no_value_stands_until_it_is_one(page: Any, world: World) -> None:
    choose_luna(page)
    page.locator(".lo-advanced > summary").click()
    page.locator("[data-group=lora] > summary").click()
    page.locator("[data-group=length] > summary").click()
    rank, start = page.get_by_label("Rank", exact=True), page.get_by_role("button", name="Start training")
    rank.fill("0")
    page.get_by_label("Steps", exact=True).fill("10")
    expect(page.locator(".field-error", has_text="At least 1")).to_be_visible()
    expect(rank).to_have_value("0")
    expect(start).to_be_disabled()
    rank.fill("4")
    expect(page.locator(STEPS)).to_have_text("10")
    expect(start).to_be_enabled()


def test_an_upload_that_ends_after_a_dataset_was_chosen_leaves_one_source(page: Any, world: World) -> None:
    chosen = dataset(world, "Meanwhile")
    page.goto("/lora.html")
    page.get_by_label("Name of the new set").fill("late")
    held = Held(page, re.compile("/api/lora/upload$"))
    files = [{"name": f"l{n}.png", "mimeType": "image/png", "buffer": picture(n + 60)} for n in range(3)]
    page.locator("drop-zone input").set_input_files(files)
    held.wait()
    page.get_by_label(SOURCE, exact=True).select_option(chosen)
    expect(page.locator(".lo-from")).to_be_visible()
    held.go()
    expect(page.get_by_label(SOURCE, exact=True)).to_have_value("late")
    expect(page.locator(".lo-facts [data-key=Pictures]")).to_be_visible()
    expect(page.locator(".lo-picture")).to_have_count(3)
    expect(page.locator(".lo-problem-panel")).to_have_count(0)


def test_a_set_that_is_brought_back_takes_the_place_of_a_dataset(page: Any, world: World) -> None:
    chosen = dataset(world, "Instead")
    folder(world, "undone")
    page.goto("/lora.html")
    source = page.get_by_label(SOURCE, exact=True)
    source.select_option("undone")
    expect(page.locator(".lo-picture")).to_have_count(4)
    drawn(page)
    page.get_by_role("button", name="Delete this training set").click()
    toast = page.locator(".toast", has_text="undone deleted")
    toast.hover()  # it stays as long as it is pointed at
    expect(page.get_by_text("Begin with pictures")).to_be_visible()
    source.select_option(chosen)
    expect(page.locator(".lo-picture")).to_have_count(5)
    toast.get_by_role("button", name="Undo").click()
    expect(source).to_have_value("undone")
    expect(page.locator(".lo-picture")).to_have_count(4)
    expect(page.locator(".lo-problem-panel")).to_have_count(0)


def test_copies_are_removed_from_the_set_they_were_found_in(page: Any, world: World) -> None:
    folder(world, "twins")
    pictures = world.server.folder / "training_data" / "twins"
    first = sorted(pictures.glob("*.png"))[0]
    for n in range(2):
        shutil.copy(first, pictures / f"copy{n}.png")
    page.goto("/lora.html")
    source = page.get_by_label(SOURCE, exact=True)
    source.select_option("twins")
    gone: list[str] = []
    page.on("request", lambda request: gone.append(request.url) if request.method == "DELETE" else None)
    held = Held(page, re.compile("/api/lora/training-data/.+/files/"), "DELETE")
    page.get_by_role("button", name="Remove the copies").click()
    held.wait()
    source.select_option("luna")
    expect(page.locator(".lo-picture")).to_have_count(9)
    held.go()
    expect(page.locator(".toast")).to_contain_text("2 pictures taken out")
    assert [re.findall("training-data/([^/]+)/", url) for url in gone] == [["twins"], ["twins"]]
    assert len(list(pictures.glob("*.png"))) == 4


# ---------------------------------------------------------------- the shelf


@pytest.mark.parametrize("button", ["Edit other", "Give other to a character"])
def test_two_clicks_open_one_dialog(page: Any, world: World, button: str) -> None:
    page.goto("/lora.html?tab=shelf")
    opens, dialog = page.get_by_role("button", name=button), page.locator("dialog[open]")
    expect(opens).to_be_visible()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    opens.evaluate("e => { e.click(); e.click(); }")
    expect(dialog.first).to_be_visible()
    expect(dialog).to_have_count(1)
    assert len([url for url in asked if url.endswith("/api/lora/options")]) == (1 if "Edit" in button else 0)
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    opens.click()  # and it opens again
    expect(dialog).to_have_count(1)


def test_every_lora_on_a_full_shelf_gets_its_picture(page: Any, world: World) -> None:
    row = next(row for row in world.call("GET", "/loras") if row["name"] == "other")
    rows = [{**row, "name": f"lora {n}", "taskId": f"{ID[:-2]}{n:02}", "step": 50} for n in range(45)]
    page.route(re.compile("/api/loras$"), lambda route: route.fulfill(json=rows))
    page.route(re.compile(r"/api/lora/train/[^/]+$"), lambda route: route.fulfill(json=run_of()))
    page.route(re.compile("/samples/"), lambda route: route.fulfill(body=picture(1), content_type="image/png"))
    page.goto("/lora.html?tab=shelf")
    expect(page.locator(".lo-lora")).to_have_count(45)
    expect(page.locator(".lo-lora-picture img")).to_have_count(45)
