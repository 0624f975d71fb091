"""The LoRA page around a training: what waits is moved to the front, what came out is shown first and drawn with, the
trigger word of the captions is offered, the download menu by keyboard at any width."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.e2e.test_accessibility import serious
from tests.e2e.test_lora import ID, Pretend, World, picture, run_of
from tests.e2e.test_lora import server as server
from tests.e2e.test_lora import world as world

expect = pytest.importorskip("playwright.sync_api").expect
SECOND = "job_1795270000000_bbbbbbbbb"


def waiting(id: str, name: str, ahead: int) -> dict[str, Any]:
    actions = ["next", "cancel"] if ahead else ["cancel"]
    return run_of(taskId=id, name=name, status="queued", step=0, ahead=ahead, coverUrl=None, actions=actions)


def test_a_waiting_run_is_moved_to_the_front(page: Any, world: World) -> None:
    rows = [waiting(SECOND, "luna-3", 1), waiting(ID, "luna-2", 0)]
    asked: list[str] = []

    def move(route: Any) -> None:
        asked.append(f"{route.request.method} {route.request.url.partition('/api')[2]}")
        rows[:] = [waiting(SECOND, "luna-3", 0), waiting(ID, "luna-2", 1)]
        route.fulfill(json={"taskId": SECOND, "status": "queued", "turn": -1})

    page.route(
        re.compile(r"/api/lora/train\?"), lambda r: r.fulfill(json={"items": rows, "nextCursor": None, "total": 2})
    )
    page.route(re.compile(r"/api/tasks/[^/]+/next$"), move)
    page.goto("/lora.html?tab=runs")
    expect(page.locator(f'[data-key="{SECOND}"]')).to_contain_text("1 task waits before it.")
    expect(page.get_by_role("button", name="Run next")).to_have_count(1)
    page.get_by_role("button", name="Run next: luna-3").click()
    expect(page.locator(".toast")).to_contain_text("It runs next")
    expect(page.get_by_role("button", name="Run next: luna-2")).to_be_visible()
    assert asked == [f"POST /tasks/{SECOND}/next"]


def test_a_run_that_waits_to_go_on_asks_what_is_kept(page: Any, world: World) -> None:
    pretend = Pretend(page, run_of(status="queued", ahead=1, actions=["next", "cancel"]))
    page.goto(f"/lora.html?run={ID}")
    page.get_by_role("button", name="Cancel", exact=True).click()
    dialog = page.get_by_role("dialog", name="Cancel luna-2?")
    expect(dialog).to_contain_text("It waits to go on at step 60 of 100.")
    dialog.get_by_text("Keep nothing").click()
    dialog.get_by_role("button", name="Cancel it").click()
    expect(page.locator(".toast")).to_contain_text("Cancelled")
    assert pretend.asked == [("POST", "/cancel", {"keep": "nothing"})]


def test_a_run_that_has_not_begun_is_cancelled_without_a_choice(page: Any, world: World) -> None:
    pretend = Pretend(page, run_of(status="queued", step=0, ahead=1, canResume=False, actions=["next", "cancel"]))
    page.goto(f"/lora.html?run={ID}")
    page.get_by_role("button", name="Cancel", exact=True).click()
    dialog = page.get_by_role("dialog", name="Cancel luna-2?")
    expect(dialog).to_contain_text("It has not begun yet.")
    dialog.get_by_role("button", name="Cancel it").click()
    expect(page.locator(".toast")).to_contain_text("Cancelled")
    assert pretend.asked == [("POST", "/cancel", {"keep": "checkpoints"})]


def test_what_came_out_is_shown_before_the_figures_and_drawn_with(page: Any, world: World) -> None:
    ended = {"status": "completed", "lora": "luna-2", "result": {"step": 50}, "actions": ["clone", "delete"]}
    Pretend(page, run_of(**ended, characterId=world.luna["id"]))
    page.goto(f"/lora.html?run={ID}")
    expect(page.get_by_label("Beside it")).to_have_value("0")
    expect(page.locator(".lo-pair").first.locator("figcaption")).to_have_text(["Before training", "Step 50"])
    order = page.evaluate("[...document.querySelectorAll('.lo-run-samples, .lo-columns')].map((e) => e.classList[0])")
    assert order[-1] == "lo-columns"
    expect(page.get_by_text("The LoRA on the shelf is the one of this step.")).to_be_visible()
    page.get_by_label("Earlier samples").click()
    expect(page.get_by_role("button", name="Use step 25", exact=True)).to_be_visible()
    page.get_by_label("Earlier samples").click()
    expect(page.locator(".lo-step-use")).to_have_count(0)  # before training there is no LoRA
    link = page.get_by_role("link", name="Draw with it")
    expect(link).to_have_attribute("href", f"/studio.html?character={world.luna['id']}")


def test_while_it_trains_the_curve_comes_first(page: Any, world: World) -> None:
    pretend = Pretend(page, run_of())
    page.goto(f"/lora.html?run={ID}")
    expect(page.locator(".lo-columns .lo-run-samples")).to_be_visible()
    expect(page.get_by_label("Beside it")).to_have_value("")
    expect(page.get_by_role("link", name="Draw with it")).to_have_count(0)
    pretend.run = run_of(status="completed", actions=["clone", "delete"])
    page.reload()
    expect(page.locator(".lo-run-page > .lo-run-samples")).to_be_visible()


def test_the_trigger_word_of_the_captions_is_offered(page: Any, world: World) -> None:
    files = [("files", (f"{n}.png", picture(n), "image/png")) for n in range(3)]
    files += [("files", (f"{n}.txt", f"mira_v1, a woman, pose {n}".encode())) for n in range(3)]
    world.call("POST", "/lora/upload", files=files, data={"name": "mira-set"})
    page.goto("/lora.html")
    page.get_by_label("Dataset or folder", exact=True).select_option("mira-set")
    trigger = page.get_by_label("Trigger word", exact=True)
    expect(trigger).to_have_value("mira_v1")
    trigger.fill("other_word")
    page.get_by_role("button", name="Use mira_v1").click()
    expect(trigger).to_have_value("mira_v1")
    expect(page.get_by_text("both words would be trained")).to_have_count(0)


@pytest.mark.tools
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1360, 390])
def test_the_download_menu_is_used_by_keyboard(page: Any, world: World, theme: str, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 844})
    page.emulate_media(color_scheme=theme, reduced_motion="reduce")
    page.goto("/lora.html?tab=shelf")
    page.get_by_role("button", name="Download other").focus()
    page.keyboard.press("Enter")
    menu = page.get_by_role("menu", name="Download other")
    expect(menu.get_by_role("menuitem").first).to_be_focused()
    found = serious(page)
    assert not found, "\n".join(found)
    box = menu.bounding_box()
    assert box["x"] >= 0 and box["x"] + box["width"] <= width
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.keyboard.press("End")
    expect(menu.get_by_role("menuitem").last).to_be_focused()
    page.keyboard.press("Escape")
    expect(menu).to_be_hidden()
    expect(page.get_by_role("button", name="Download other")).to_be_focused()
