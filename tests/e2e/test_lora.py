"""The LoRA page: pictures in, what a training will need, its run, the shelf. States that only accidents bring about are
answered by the test in place of the app; everything else is the real app."""

from __future__ import annotations

import io
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from PIL import Image, ImageDraw

from tests.e2e.conftest import Server
from tests.e2e.looks import rest, serious, until

expect = pytest.importorskip("playwright.sync_api").expect
LORA = Path(__file__).resolve().parent.parent / "data" / "luna_lora.safetensors"
STEPS = ".lo-facts [data-key=Steps] strong"
ID = "job_1795270000000_aaaaaaaaa"


def picture(n: int, size: tuple[int, int] = (256, 256)) -> bytes:
    image = Image.new("RGB", size, (20 * n % 255, 90, 200 - 9 * n))
    draw = ImageDraw.Draw(image)
    draw.rectangle((n * 7, 0, n * 7 + 30, size[1]), fill=(n * 53 % 255, n * 97 % 255, 40))
    draw.ellipse((size[0] * 0.2, size[1] * 0.2 + n, size[0] * 0.8, size[1] * 0.9), fill=(240, 200 - 5 * n, 170))
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


class World:
    def __init__(self, server: Server) -> None:
        self.server = server
        self.luna = self.call("POST", "/characters", json={"name": "Luna"})
        files = [("files", (f"{n}.png", picture(n, (400, 256) if n == 3 else (256, 256)))) for n in range(9)]
        files += [("files", (f"{n}.txt", f"portrait {n}, red dress".encode())) for n in range(7)]
        self.call("POST", "/lora/upload", files=files, data={"name": "luna"})
        shutil.copy(LORA, server.folder / "loras" / "luna-1.safetensors")
        shutil.copy(LORA, server.folder / "loras" / "other.safetensors")

    def call(self, method: str, path: str, **more: Any) -> Any:
        answer = requests.request(method, f"{self.server.url}/api{path}", timeout=60, **more)
        assert answer.ok, f"{method} {path}: {answer.status_code} {answer.text[:500]}"
        return answer.json()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    server = Server(tmp_path_factory.mktemp("lora"))
    try:
        yield World(server)
    finally:
        server.stop()


@pytest.fixture(scope="module")
def server(world: World) -> Any:
    return world.server


def run_of(**changes: Any) -> dict[str, Any]:
    """A run as the API shows it."""
    return {
        "taskId": ID, "status": "running", "pausing": False, "stopping": False, "name": "luna-2", "characterId": None,
        "characterName": "Luna", "trainingData": "luna", "baseModel": "starter", "family": "sd15", "preset": "quick",
        "triggerWord": "luna_character", "step": 60, "totalSteps": 100, "epoch": 3, "totalEpochs": 5, "loss": 0.0912,
        "learningRate": 0.001, "stepsPerSecond": 5.5, "etaSeconds": 7.3, "memoryBytes": 900_000_000, "phase": "train",
        "message": "Step 60 of 100", "validation": {"base": 0.2, "latest": 0.15, "best": 0.15, "bestStep": 50},
        "lora": None, "error": None, "stale": False, "lastSignAt": "2026-11-21T12:00:00.000Z", "canResume": True,
        "actions": ["pause", "save", "sample", "cancel"], "createdAt": "2026-11-21T12:00:00Z",
        "startedAt": "2026-11-21T12:00:01Z", "finishedAt": None, "title": "Train", "warnings": [], "ladder": [],
        "validations": [{"step": 0, "loss": 0.2, "base": 0.2}, {"step": 50, "loss": 0.15, "base": 0.2}],
        "resemblances": [{"step": s, "pictures": -0.2 + s / 100, "faces": None,
                          "training": {"pictures": 0.5, "faces": None}} for s in (0, 25, 50)],
        "samples": [
            {"step": s, "index": i, "prompt": f"prompt {i}", "seed": 42, "withTrigger": i == 0,
             "fileUrl": f"/api/lora/train/{ID}/samples/{s}_{i}.png"}
            for s in (0, 25, 50) for i in (0, 1)
        ],
        "checkpoints": [{"step": s, "best": s == 50, "sizeBytes": 500_000, "validationLoss": 0.15 if s == 50 else 0.18,
                         "fileUrl": f"/api/lora/train/{ID}/checkpoints/{s}/file"} for s in (25, 50)],
        "ready": {"pictures": 8, "heldOut": ["8.png"], "device": "cpu", "parameters": 1000}, "report": None,
        "result": None, "config": {"rank": 8, "steps": 100, "learningRate": 0.001, "ema": False}, "keep": "checkpoints",
        "request": {"trainingData": "luna", "params": {"preset": "quick", "rank": 8}},
        "logUrl": f"/api/lora/train/{ID}/log", **changes,
    }  # fmt: skip


def report_of(**pictures: Any) -> dict[str, Any]:
    """What a run on the starter model tells when it ends."""
    colours = {"measured": True, "sound": True, "trigger": True, "notes": [], "text": "11 of 12 colours are as asked for.",
               "base": {"background": [4, 4], "hair": [4, 4], "clothes": [4, 4]},
               "lora": {"background": [4, 4], "hair": [3, 4], "clothes": [4, 4]},
               "withTrigger": {"background": [4, 4], "clothes": [3, 4]},
               "hair": {"left": "green", "right": "purple", "pictures": 8, "agree": 3, "of": 4}}  # fmt: skip
    nearest = [{"index": 0, "file": "3.png", "similarity": 0.987, "copy": True},
               {"index": 1, "file": "5.png", "similarity": 0.41, "copy": False}]  # fmt: skip
    found = {"colours": colours, "nearest": nearest, "copies": 1, "drift": {"withTrigger": 0.2, "withoutTrigger": 0.03},
             "similarity": {"base": 0.1, "lora": 0.6, "trainingAmongThemselves": 0.72}}  # fmt: skip
    verdict = {"level": "learned", "text": "It learned.", "reason": "", "hints": ["A hint."]}
    reading = {"base": 0.2, "loss": 0.14, "change": -0.3, "improved": 7, "pairs": 8}
    return {"step": 50, "verdict": verdict, "readings": {"heldOut": reading}, "pictures": {**found, **pictures}}


class Pretend:
    """Answers for one run in place of the app; remembers what was asked of it."""

    def __init__(self, page: Any, run: dict[str, Any], log: str = "line one\n") -> None:
        self.run, self.log, self.asked = run, log, []
        self.points = [{"step": n, "loss": 0.1 + 0.1 / n, "lr": 0.001} for n in range(1, run["step"] + 1)]
        page.route(re.compile(rf"/api/lora/train/{ID}"), self.answer)

    def answer(self, route: Any) -> None:
        path = route.request.url.partition(ID)[2].partition("?")
        if "/samples/" in path[0]:
            route.fulfill(body=picture(len(path[0])), content_type="image/png")
        elif path[0] == "/metrics":
            since = int(dict(p.split("=") for p in path[2].split("&") if p).get("sinceStep", 0))
            points = [p for p in self.points if p["step"] > since]
            body = {"step": self.run["step"], "totalSteps": 100, "points": points, "validation": [], "ladder": []}
            route.fulfill(json=body)
        elif path[0] == "/log":
            offset = int(path[2].removeprefix("offset="))
            start = max(0, len(self.log) + offset) if offset < 0 else offset
            heads = {"X-Start-Offset": str(start), "X-Next-Offset": str(len(self.log))}
            route.fulfill(body=self.log[start:], content_type="text/plain", headers=heads)
        elif route.request.method == "GET":
            route.fulfill(json=self.run)
        else:
            self.asked.append((route.request.method, path[0], json.loads(route.request.post_data or "null")))
            route.fulfill(status=202, json=self.run)


def choose_luna(page: Any) -> None:
    page.goto("/lora.html")
    page.get_by_label("Dataset or folder", exact=True).select_option("luna")
    expect(page.get_by_role("heading", name="What it will need")).to_be_visible()


# ---------------------------------------------------------------- train


def test_an_empty_form_says_how_to_begin(page: Any, world: World) -> None:
    page.goto("/lora.html")
    expect(page.get_by_text("Begin with pictures")).to_be_visible()
    expect(page.get_by_role("button", name="Start training")).to_be_disabled()


def test_facts_and_checks_follow_the_form(page: Any, world: World) -> None:
    choose_luna(page)
    steps = page.locator(STEPS).text_content()
    page.get_by_text("Draft", exact=True).click()
    expect(page.locator(STEPS)).not_to_have_text(steps)
    expect(page.locator(".lo-checks")).to_contain_text("2 of 9 pictures have no caption")
    page.locator("#lo-character").select_option(label="Luna")
    expect(page.get_by_label("Name of the LoRA")).to_have_value(re.compile("Luna", re.I))
    expect(page.get_by_label("Trigger word", exact=True)).not_to_have_value("")
    expect(page.get_by_role("button", name="Start training")).to_be_enabled()


def test_a_caption_is_written_from_the_check(page: Any, world: World) -> None:
    choose_luna(page)
    page.get_by_role("button", name="Write captions").click()
    dialog = page.get_by_role("dialog", name="Training picture")
    dialog.get_by_label("Caption", exact=True).fill("in a forest")
    dialog.get_by_role("button", name="Save", exact=True).click()
    expect(dialog).to_be_hidden()
    expect(page.locator(".lo-checks")).to_contain_text("1 of 9 pictures have no caption")
    texts = [p.read_text() for p in (world.server.folder / "training_data" / "luna").glob("*.txt")]
    assert "in a forest\n" in texts


def drawn(page: Any) -> None:
    """Wait until every picture has been answered: one that is deleted while it is asked for is an error in the console."""
    until(
        page,
        lambda: page.evaluate("""() => Promise.all(
        [...document.querySelectorAll(".lo-crop image")].map((image) => image.decode())).then(() => true, () => false)"""),
    )


def test_pictures_are_dropped_taken_out_and_brought_back(page: Any, world: World) -> None:
    page.goto("/lora.html")
    page.get_by_label("Name of the new set").fill("kai")
    files = [{"name": f"k{n}.png", "mimeType": "image/png", "buffer": picture(n + 30)} for n in range(3)]
    files += [{"name": "k0.txt", "mimeType": "text/plain", "buffer": b"a portrait"}]
    files += [{"name": "broken.png", "mimeType": "image/png", "buffer": b"no picture"}]
    page.locator("drop-zone input").set_input_files(files)
    expect(page.get_by_label("Dataset or folder", exact=True)).to_have_value("kai")
    expect(page.locator(".lo-upload")).to_contain_text("broken.png")
    expect(page.locator(".lo-picture")).to_have_count(3)
    page.locator(".lo-picture").first.click()
    drawn(page)
    page.get_by_role("dialog").get_by_role("button", name="Take it out").click()
    toast = page.locator(".toast", has_text="taken out")
    toast.hover()  # it stays as long as it is pointed at
    expect(page.locator(".lo-picture")).to_have_count(2)
    toast.get_by_role("button", name="Undo").click()
    expect(page.locator(".lo-picture")).to_have_count(3)
    drawn(page)
    page.get_by_role("button", name="Delete this training set").click()
    expect(page.get_by_text("Begin with pictures")).to_be_visible()


def test_advanced_and_raw_config_are_the_same_wish(page: Any, world: World) -> None:
    choose_luna(page)
    page.locator(".lo-advanced > summary").click()
    page.locator("[data-group=lora] > summary").click()
    rank = page.get_by_label("Rank", exact=True)
    expect(rank).to_have_attribute("placeholder", re.compile(r"\d"))
    rank.fill("4")
    expect(page.locator(".lo-changed")).to_have_text("1 changed")
    page.locator(".lo-raw > summary").click()
    area = page.get_by_label("Wish as JSON")
    wish = json.loads(area.input_value())
    assert wish["params"]["rank"] == 4 and wish["trainingData"] == "luna"
    area.fill(json.dumps({**wish, "params": {"preset": "quick", "rank": 6, "nonsense": 1}}))
    page.get_by_role("button", name="Use this").click()
    expect(page.locator("#lo-json-error")).to_contain_text("nonsense")
    area.fill(json.dumps({**wish, "params": {"preset": "quick", "rank": 6, "steps": 7}}))
    page.get_by_role("button", name="Use this").click()
    expect(rank).to_have_value("6")
    expect(page.locator(STEPS)).to_have_text("7")
    rank.fill("0")
    expect(page.locator(".field-error", has_text="At least 1")).to_be_visible()
    expect(page.get_by_role("button", name="Start training")).to_be_disabled()
    page.get_by_role("button", name="Back to the preset").click()
    expect(rank).to_have_value("")
    expect(page.get_by_role("button", name="Start training")).to_be_enabled()


def test_a_setting_without_effect_is_told_where_it_is_set(page: Any, world: World) -> None:
    choose_luna(page)
    page.locator(".lo-advanced > summary").click()
    shift = page.locator("[name='params.shift']")
    page.locator(".lo-group", has=shift).locator("> summary").click()
    shift.fill("3")
    note = page.locator(".lo-field-note")
    expect(note).to_have_text(re.compile("does not learn by flow matching"))
    assert note.evaluate("n => n.parentElement.id") in (shift.get_attribute("aria-describedby") or "").split()
    check = page.locator(".lo-check.is-info", has_text="flow matching")
    check.get_by_role("button", name="Open the setting").click()
    expect(page.locator(".lo-group", has=shift).locator("> summary")).to_be_focused()
    assert serious(page) == []
    shift.fill("")
    expect(note).to_have_count(0)
    expect(check).to_have_count(0)


def test_a_name_that_is_taken_offers_another(page: Any, world: World) -> None:
    choose_luna(page)
    page.get_by_label("Name of the LoRA").fill("luna-1")
    panel = page.locator(".lo-problem-panel")
    expect(panel).to_contain_text("already")
    panel.get_by_role("button", name=re.compile("^Use ")).click()
    expect(page.get_by_label("Name of the LoRA")).not_to_have_value("luna-1")
    expect(page.get_by_role("heading", name="What it will need")).to_be_visible()
    page.errors[:] = [e for e in page.errors if "409" not in e]  # the refusal that was wanted


def test_a_training_starts_and_is_stopped(page: Any, world: World) -> None:
    choose_luna(page)
    page.get_by_text("Draft", exact=True).click()
    page.locator(".lo-raw > summary").click()
    area = page.get_by_label("Wish as JSON")
    wish = {**json.loads(area.input_value()), "name": "stopped"}
    wish["params"] = {"preset": "quick", "steps": 5000, "sampleEvery": 0}
    area.fill(json.dumps(wish))
    page.get_by_role("button", name="Use this").click()
    expect(page.locator(STEPS)).to_have_text("5,000")
    page.get_by_role("button", name="Start training").click()
    expect(page).to_have_url(re.compile(r"run=job_"))
    expect(page.get_by_role("heading", name="stopped")).to_be_visible()
    page.get_by_role("button", name=re.compile("^(Stop|Cancel)$")).click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("button", name=re.compile("^(Stop|Cancel it)$")).click()
    expect(page.locator(".lo-head .badge")).to_have_text("Stopped", timeout=180_000)  # when it has loaded
    expect(page.get_by_role("button", name="Clone")).to_be_visible()
    page.get_by_role("tab", name="Runs").click()
    expect(page).to_have_url(re.compile("tab=runs"))
    row = page.locator("#lo-runs .lo-run").filter(has_text="stopped")
    expect(row).to_be_visible()
    expect(row).to_contain_text("Stopped")


# ---------------------------------------------------------------- a run


def test_a_run_shows_its_curve_samples_and_checkpoints(page: Any, world: World) -> None:
    pretend = Pretend(page, run_of())
    page.goto(f"/lora.html?run={ID}")
    expect(page.locator(".lo-head .badge")).to_have_text("Training")
    expect(page.locator(".lo-figures")).to_contain_text("60 / 100")
    expect(page.locator(".lo-figures")).to_contain_text("25 % lower than without the LoRA")
    chart = page.locator("loss-chart")
    expect(chart.get_by_role("img")).to_have_attribute("aria-label", re.compile("up to step 60"))
    chart.get_by_role("button", name="Log").click()
    expect(chart.get_by_role("button", name="Log")).to_have_attribute("aria-pressed", "true")
    chart.get_by_label("Read off at step").focus()
    page.keyboard.press("Home")
    expect(chart.locator(".lc-read")).to_contain_text("Step 1:")
    chart.get_by_text("As a table").click()
    expect(chart.get_by_role("row")).to_have_count(25)

    steps = page.get_by_label("Step of the samples")
    expect(page.locator(".lo-step-name")).to_have_text("Step 50")
    steps.focus()
    page.keyboard.press("ArrowLeft")
    expect(page.locator(".lo-step-name")).to_have_text("Step 25")
    page.get_by_label("Beside it").select_option("0")
    expect(page.locator(".lo-pair").first.locator("img")).to_have_count(2)
    page.get_by_role("button", name="All steps").click()
    expect(page.locator(".lo-matrix img")).to_have_count(6)
    page.locator(".lo-matrix img").first.click()
    large = page.get_by_role("dialog", name="Sample")
    page.keyboard.press("ArrowRight")
    expect(large).to_contain_text("Step 25")
    page.keyboard.press("Escape")

    page.get_by_role("button", name="Pause").click()
    page.get_by_role("button", name="Save now").click()
    page.get_by_role("button", name="Use the LoRA of step 25").click()
    until(page, lambda: len(pretend.asked) == 3)
    assert [a[1] for a in pretend.asked] == ["/pause", "/save", "/checkpoints/25/use"]


def test_stopping_asks_what_is_kept(page: Any, world: World) -> None:
    pretend = Pretend(page, run_of())
    page.goto(f"/lora.html?run={ID}")
    page.get_by_role("button", name="Stop", exact=True).click()
    dialog = page.get_by_role("dialog", name="Stop luna-2?")
    dialog.get_by_text("Make a LoRA of it now").click()
    pretend.run = run_of(status="cancelled", actions=["resume", "clone", "delete"])
    dialog.get_by_role("button", name="Stop", exact=True).click()
    expect(page.locator(".lo-head .badge")).to_have_text("Stopped")
    until(page, lambda: pretend.asked)
    assert pretend.asked.pop() == ("POST", "/cancel", {"keep": "lora"})

    page.get_by_role("button", name="Edit and resume").click()
    dialog = page.get_by_role("dialog", name="Edit and resume: luna-2")
    expect(dialog.get_by_label("Learning rate", exact=True)).to_have_value("0.001")
    dialog.get_by_label("Steps", exact=True).fill("many")
    dialog.get_by_role("button", name="Resume").click()
    expect(dialog.get_by_text("This must be a number.")).to_be_visible()
    dialog.get_by_label("Steps", exact=True).fill("200")
    pretend.run = run_of(status="queued", totalSteps=200, actions=["cancel"])
    page.keyboard.press("Enter")
    expect(page.locator(".lo-head .badge")).to_have_text("Waiting")
    assert pretend.asked == [("POST", "/resume", {"settings": {"steps": 200}})]


@pytest.mark.parametrize(("status", "says"), [("failed", "Choose a smaller"), ("interrupted", "last checkpoint")])
def test_a_bad_end_says_why_and_what_to_try(page: Any, world: World, status: str, says: str) -> None:
    error = {"detail": "The memory was not enough.", "remedy": "Choose a smaller resolution."}
    run = run_of(status=status, error=error if status == "failed" else None, actions=["resume", "clone", "delete"])
    pretend = Pretend(page, run)
    page.goto(f"/lora.html?run={ID}")
    expect(page.locator(".lo-trouble")).to_contain_text(says)
    pretend.run = run_of(status="queued", actions=["cancel"])
    page.get_by_role("button", name="Resume", exact=True).click()
    expect(page.locator(".lo-head .badge")).to_have_text("Waiting")
    assert pretend.asked == [("POST", "/resume", None)]


def test_the_log_follows_only_when_its_end_is_in_sight(page: Any, world: World) -> None:
    pretend = Pretend(page, run_of(), log="".join(f"line {n}\n" for n in range(200)))
    page.goto(f"/lora.html?run={ID}")
    page.locator(".lo-log-box > summary").click()
    log = page.get_by_role("log")
    expect(log).to_contain_text("line 199")
    page.wait_for_function("(() => { const e = document.querySelector('.lo-log'); return e.scrollTop + e.clientHeight > e.scrollHeight - 5; })()")  # fmt: skip
    log.evaluate("e => { e.scrollTop = 0; }")
    pretend.log += "the newest line\n"
    page.get_by_role("button", name="Save now").click()  # a change makes the page read again
    expect(log).to_contain_text("the newest line")
    assert log.evaluate("e => e.scrollTop") == 0
    page.get_by_role("button", name="To the end").click()
    assert log.evaluate("e => e.scrollTop + e.clientHeight > e.scrollHeight - 5")


def test_a_clone_takes_the_settings_over(page: Any, world: World) -> None:
    Pretend(page, run_of(status="completed", lora="luna-2", actions=["clone", "delete"]))
    page.goto(f"/lora.html?run={ID}")
    page.get_by_role("button", name="Clone").click()
    expect(page.get_by_label("Dataset or folder", exact=True)).to_have_value("luna")
    expect(page.locator(".lo-changed")).to_have_text("1 changed")
    expect(page).to_have_url(re.compile("tab=train"))


def test_a_run_says_whether_the_samples_look_like_the_pictures(page: Any, world: World) -> None:
    sample = {
        "index": 0,
        "similarity": 0.71,
        "band": "strong",
        "nearest": {"file": "3.png", "similarity": 0.93},
        "copy": True,
    }
    faces = {"measured": True, "band": "strong", "text": "The face is clearly the one.", "notes": ["Nearly 3.png again."],
             "samples": [sample], "similarity": {"lora": 0.71, "base": None, "training": 0.8}, "pictures": 9}  # fmt: skip
    images = {"measured": False, "text": "There is no image encoder.", "notes": [], "samples": [], "pictures": 0}
    likeness = {"faces": faces, "images": images}
    Pretend(page, run_of(status="completed", report=report_of(likeness=likeness), actions=["clone"]))
    page.goto(f"/lora.html?run={ID}")
    told = page.locator(".lo-likeness")
    expect(told.get_by_role("heading", name="Does it look like the pictures?")).to_be_visible()
    expect(told).to_contain_text("The face is clearly the one.")
    expect(told).to_contain_text("Nearly 3.png again.")
    expect(told).to_contain_text("There is no image encoder.")
    told.get_by_text("1 sample one by one").click()
    row = told.get_by_role("row").nth(1)
    expect(row).to_contain_text("0.71")
    expect(row).to_contain_text("nearly the same")
    expect(told).to_have_count(1)

    told = page.locator(".lo-report")
    expect(told).to_contain_text("1 of 2 samples is nearly a training picture again: 3.png.")
    pairs = told.locator(".lo-nearest li")
    expect(pairs.nth(0)).to_contain_text("similarity 0.99 · nearly the same")
    expect(pairs.nth(1)).not_to_contain_text("nearly")
    for picture_of in ("Sample 1: prompt 0", "Training picture 3.png"):
        image = pairs.nth(0).get_by_role("img", name=picture_of)
        image.scroll_into_view_if_needed()
        page.wait_for_function("e => e.complete && e.naturalWidth > 0", arg=image.element_handle())
    expect(told).to_contain_text("without it by 3 %: it keeps to its word.")
    expect(told.get_by_role("heading", name="Does the model still follow prompts?")).to_be_visible()
    hair = told.get_by_role("region", name="Colours as asked for").get_by_role("row").filter(has_text="Hair")
    expect(hair).to_contain_text("3 of 4 as in the pictures")


def test_a_dataset_is_chosen_by_the_address_and_named_in_the_request(page: Any, world: World) -> None:
    made = world.call(
        "POST", "/datasets", json={"name": "Portraits", "triggerWord": "ohwx", "characterId": world.luna["id"]}
    )
    files = [("files", (f"{n}.png", picture(n))) for n in range(5)]
    task = world.call("POST", "/datasets/upload", data={"datasetId": made["id"]}, files=files)
    assert world.call("GET", f"/tasks/{task['taskId']}?wait=30")["status"] == "completed"
    page.goto(f"/lora.html?tab=train&dataset={made['id']}")
    expect(page.get_by_label("Dataset or folder", exact=True)).to_have_value(f"dataset:{made['id']}")
    expect(page.locator(STEPS)).to_be_visible()
    expect(page.get_by_label("Trigger word", exact=True)).to_have_value("ohwx")
    expect(page.locator("#lo-character")).to_have_value(world.luna["id"])
    expect(page.locator("drop-zone")).to_be_hidden()
    expect(page.get_by_role("link", name="Open the dataset")).to_have_attribute(
        "href", f"/datasets.html?dataset={made['id']}"
    )
    page.get_by_role("button", name=re.compile("0.png: caption and crop")).click()
    expect(page.get_by_role("textbox", name="Caption")).not_to_be_editable()
    expect(page.get_by_role("link", name="Edit in the dataset")).to_be_visible()
    page.keyboard.press("Escape")
    sent: list[Any] = []
    page.route(
        "**/api/lora/train",
        lambda route: (sent.append(route.request.post_data_json), route.fulfill(status=202, json={"taskId": ID})),
    )
    Pretend(page, run_of())
    page.get_by_role("button", name="Start training").click()
    expect(page).to_have_url(re.compile(f"run={ID}"))
    assert sent[0]["datasetId"] == made["id"] and "trainingData" not in sent[0] and sent[0]["triggerWord"] == "ohwx"


def test_a_run_that_is_not_there(page: Any, world: World) -> None:
    page.goto("/lora.html?run=job_1795270000000_zzzzzzzzz")
    expect(page.get_by_text("There is no such run")).to_be_visible()
    page.get_by_role("link", name="All runs").click()
    expect(page).to_have_url(re.compile("tab=runs"))
    page.errors[:] = [e for e in page.errors if "404" not in e]


# ---------------------------------------------------------------- shelf


def test_a_lora_is_edited_given_and_deleted_with_undo(page: Any, world: World) -> None:
    page.goto("/lora.html?tab=shelf")
    card = page.locator(".lo-lora").filter(has_text="other")
    card.get_by_role("button", name="Edit other").click()
    dialog = page.get_by_role("dialog", name="Edit other")
    dialog.get_by_label("Trigger word").fill("ohwx")
    dialog.get_by_label("Tags").fill("portrait, red")
    dialog.get_by_role("button", name="Save").click()
    expect(card.get_by_role("button", name="Copy the trigger word ohwx")).to_be_visible()
    expect(card).to_contain_text("portrait")

    card.get_by_role("button", name="Give other to a character").click()
    dialog = page.get_by_role("dialog", name="Give other to a character")
    dialog.get_by_label("Strength", exact=True).fill("0.8")
    dialog.get_by_role("button", name="Give", exact=True).click()
    expect(card).to_contain_text("Used by Luna (0.8)")
    luna = world.call("GET", f"/characters/{world.luna['id']}")
    assert luna["triggerWord"] == "ohwx" and luna["loras"] == [{"name": "other", "strength": 0.8}]

    page.get_by_role("searchbox", name="Search the shelf").fill("ohwx")
    expect(page.locator(".lo-lora")).to_have_count(1)
    card.get_by_role("button", name="Delete other").click()
    dialog = page.get_by_role("dialog", name="Delete other?")
    expect(dialog).to_contain_text("taken off Luna")
    dialog.get_by_role("button", name="Delete", exact=True).click()
    expect(card).to_be_hidden()
    assert world.call("GET", f"/characters/{world.luna['id']}")["loras"] == []
    page.locator(".toast").get_by_role("button", name="Undo").click()
    expect(card).to_contain_text("Used by Luna (0.8)")


# ---------------------------------------------------------------- everybody, everywhere


def views(page: Any, view: str) -> None:
    if view == "run":
        Pretend(page, run_of(report=report_of(), actions=["pause", "cancel"]))
        page.goto(f"/lora.html?run={ID}")
        expect(page.locator("loss-chart svg.lc-svg")).to_be_visible()
        page.get_by_text("As a table").click()
        page.locator(".lo-log-box > summary").click()
        page.locator(".lo-config > summary").click()
    elif view == "train":
        choose_luna(page)
        expect(page.locator(".lo-picture").first).to_be_visible()
        page.locator(".lo-advanced > summary").click()
        page.locator("[data-group=lora] > summary").click()
        page.locator(".lo-raw > summary").click()
    else:
        page.goto(f"/lora.html?tab={view}")
    expect(page.locator("main .skeleton")).to_have_count(0)
    rest(page)


@pytest.mark.tools
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("view", ["train", "runs", "run", "shelf"])
def test_no_serious_finding(page: Any, world: World, view: str, theme: str) -> None:
    page.emulate_media(color_scheme=theme, reduced_motion="reduce")
    views(page, view)
    assert serious(page) == []


@pytest.mark.viewport(390, 844)
@pytest.mark.parametrize("view", ["train", "runs", "run", "shelf"])
def test_a_phone_shows_everything(page: Any, world: World, view: str) -> None:
    views(page, view)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
