"""The schedule in a real browser: tasks, cron in words, the stop switch, run now, the run history."""

from __future__ import annotations

import json
import re
import time

import pytest
import requests

from tests.e2e.conftest import PATIENCE
from tests.e2e.looks import serious
from tests.e2e.test_accessibility import shown

expect = pytest.importorskip("playwright.sync_api").expect

ENDED = ("completed", "failed", "skipped", "cancelled")
KEYS = {"instagramAccountId": "1784", "instagramApiKey": "IGAA-not-a-real-token"}


@pytest.fixture(scope="module")
def luna(server):
    body = {"name": "Luna", "timezone": "Europe/Berlin"}
    return requests.post(f"{server.url}/api/characters", json=body, timeout=10).json()


@pytest.fixture(scope="module")
def live(server):
    """A character with (false) Instagram keys: what it posts would be live."""
    return requests.post(f"{server.url}/api/characters", json={"name": "Kai", **KEYS}, timeout=10).json()


@pytest.fixture
def schedule(server, luna):
    """An empty schedule that is not stopped."""

    class Schedule:
        character = luna

        def get(self, path=""):
            return requests.get(f"{server.url}/api/scheduler{path}", timeout=10).json()

        def post(self, path="", **body):
            return requests.post(f"{server.url}/api/scheduler{path}", json=body, timeout=10)

        def add(self, **task):
            answer = self.post(action="add_task", task=task)
            assert answer.status_code == 201, answer.text
            return answer.json()

        def backup(self, **more):
            return self.add(type="backup", name="Backup", schedule="0 3 * * *", config={"keep": 2}, **more)

        def ended(self, run_id):
            end = time.monotonic() + PATIENCE / 1000
            while (run := self.get(f"/runs/{run_id}"))["status"] not in ENDED:
                assert time.monotonic() < end, f"the run did not end: {run}"
                time.sleep(0.05)
            return run

    schedule = Schedule()
    for task in schedule.get():
        requests.delete(f"{server.url}/api/scheduler/tasks/{task['id']}", timeout=10)
    schedule.post("/resume")
    schedule.post("/resume", characterId=luna["id"])
    return schedule


def said(page, text):
    return page.get_by_role("region", name="Messages").get_by_text(text)


def forgive(page, status):
    """A refusal that the test asked for is no error of the page."""
    page.errors[:] = [e for e in page.errors if f"status of {status}" not in e]


def test_a_task_is_made_in_the_editor(page, schedule):
    page.goto("/schedule.html")
    expect(page.get_by_text("Nothing is scheduled yet")).to_be_visible()
    page.get_by_role("button", name="New task").first.click()
    dialog = page.get_by_role("dialog", name="New scheduled task")
    expect(page).to_have_url(re.compile("edit=new"))
    dialog.get_by_label("Name").fill("Evening post")
    dialog.get_by_role("combobox", name="Character").select_option(label="Luna")
    expect(dialog.get_by_text("posts are rehearsed only").first).to_be_visible()
    dialog.get_by_role("button", name="Weekly").click()
    dialog.get_by_role("button", name="Wednesday").click()
    dialog.get_by_label("at", exact=True).fill("18:30")
    expect(dialog.get_by_text("At 18:30, only on Monday and Wednesday")).to_be_visible()
    runs = dialog.get_by_role("region", name=re.compile("^Next runs, local")).locator("tbody tr")
    expect(runs).to_have_count(10)
    expect(runs.first).to_contain_text(re.compile(r"(Mon|Wed) .*18:30 \+0[12]:00"))
    expect(dialog.get_by_role("columnheader", name="Europe/Berlin")).to_be_visible()

    dialog.get_by_role("button", name="Add task").click()
    expect(dialog.get_by_text("Choose at least one place to post to.")).to_be_visible()
    dialog.get_by_role("switch", name=re.compile("^Instagram")).check()
    dialog.get_by_role("combobox", name="Prompt").select_option(label="Always the same words")
    dialog.get_by_role("button", name="Add task").click()
    expect(dialog.get_by_text("Write the words for the picture")).to_be_visible()
    dialog.get_by_label("Words").fill("in a magical forest")
    dialog.get_by_text("Picture options").click()
    dialog.get_by_label("Steps").fill("999")
    page.keyboard.press("Control+Enter")
    expect(dialog.get_by_text("Use a whole number from 1 to 200.")).to_be_visible()
    forgive(page, 422)
    dialog.get_by_label("Steps").fill("12")
    page.keyboard.press("Control+Enter")
    expect(dialog).to_be_hidden()

    card = page.locator(".sc-task", has_text="Evening post")
    expect(card).to_contain_text("At 18:30, only on Monday and Wednesday")
    expect(card).to_contain_text("Instagram")
    expect(card.locator("[data-until]")).to_have_text(re.compile(r"^in \d"))
    (task,) = schedule.get()
    assert task["schedule"] == "30 18 * * 1,3" and task["timezone"] is None
    config = task["config"]
    assert config["prompt"] == "in a magical forest" and config["steps"] == 12 and config["postToInstagram"] is True
    assert "keep" not in config and "mediaRule" not in config


def test_what_is_not_cron_is_refused_where_it_stands(page, schedule):
    page.goto("/schedule.html?edit=new")
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("button", name="Custom").click()
    raw = dialog.get_by_label("Cron expression")
    for text, words in [("* * * *", "4"), ("0 0 9 * * 1", "6"), ("60 9 * * *", "minute"), ("0 0 30 2 *", "never")]:
        raw.fill(text)
        expect(dialog.locator(".cf-words.is-refused")).to_contain_text(re.compile(words))
        expect(raw).to_have_attribute("aria-invalid", "true")
    dialog.get_by_role("combobox", name="Character").select_option(label="Luna")
    dialog.get_by_role("switch", name=re.compile("^X")).check()
    dialog.get_by_role("button", name="Add task").click()
    assert schedule.get() == []
    raw.fill("0 9 * * mon-fri")
    expect(dialog.get_by_text("At 09:00, Monday through Friday")).to_be_visible()
    dialog.get_by_role("button", name="Add task").click()
    expect(dialog).to_be_hidden()
    assert schedule.get()[0]["schedule"] == "0 9 * * mon-fri"
    forgive(page, 422)


def test_the_zone_decides_and_a_wrong_one_is_told(page, schedule):
    schedule.add(characterId=schedule.character["id"], type="generate_only", schedule="0 2 * * *", name="Night")
    page.goto("/schedule.html")
    page.get_by_role("button", name="Night", exact=True).click()
    dialog = page.get_by_role("dialog", name="Edit “Night”")
    expect(dialog.get_by_text("comes twice").first).to_be_visible()  # the clocks of Berlin
    zone = dialog.get_by_label("Time zone")
    expect(zone).to_have_attribute("placeholder", "Europe/Berlin")
    zone.fill("Europe/Berlim")
    zone.blur()
    expect(dialog.locator('[data-error-for="timezone"]')).to_contain_text("Europe/Berlin")
    forgive(page, 422)
    zone.fill("Asia/Tokyo")
    expect(dialog.get_by_role("columnheader", name="Asia/Tokyo")).to_be_visible()
    expect(dialog.get_by_text("comes twice")).to_have_count(0)
    dialog.get_by_role("button", name="Save").click()
    expect(dialog).to_be_hidden()
    assert schedule.get()[0]["timezone"] == "Asia/Tokyo"


def test_unsaved_changes_are_asked_about(page, schedule):
    schedule.backup()
    page.goto("/schedule.html")
    page.get_by_role("button", name="Backup", exact=True).click()
    dialog = page.get_by_role("dialog", name="Edit “Backup”")
    expect(dialog.get_by_text("At 03:00")).to_be_visible()
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()  # nothing was changed
    page.get_by_role("button", name="Backup", exact=True).click()
    dialog.get_by_label("Keep the newest").fill("9")
    page.keyboard.press("Escape")
    ask = page.get_by_role("dialog", name="Discard the changes?")
    ask.get_by_role("button", name="Keep editing").click()
    expect(ask).to_be_hidden()
    expect(dialog.get_by_label("Keep the newest")).to_have_value("9")
    page.keyboard.press("Escape")
    ask.get_by_role("button", name="Discard").click()
    expect(dialog).to_be_hidden()
    expect(page).not_to_have_url(re.compile("edit="))
    assert schedule.get()[0]["config"]["keep"] == 2


def test_a_task_is_switched_copied_and_deleted(page, schedule):
    task = schedule.backup()
    page.goto("/schedule.html")
    switch = page.get_by_role("switch", name="Backup is active")
    switch.uncheck()
    expect(page.locator(".sc-next")).to_have_text("Switched off")
    expect(said(page, "is off")).to_be_visible()
    assert schedule.get()[0]["active"] is False

    page.get_by_role("button", name="More for Backup").click()
    page.get_by_role("menuitem", name="Duplicate").click()
    dialog = page.get_by_role("dialog", name="New scheduled task")
    expect(dialog.get_by_label("Name")).to_have_value("Backup (copy)")
    dialog.get_by_role("button", name="Add task").click()
    expect(page.locator(".sc-task")).to_have_count(2)
    assert schedule.get()[1]["config"] == {"keep": 2}

    page.get_by_role("button", name="More for Backup", exact=True).click()
    page.get_by_role("menuitem", name="Delete").click()
    expect(page.locator(".sc-task")).to_have_count(1)
    page.get_by_role("button", name="Undo").click()
    expect(page.locator(".sc-task")).to_have_count(2)
    assert task["id"] in {t["id"] for t in schedule.get()}


def test_a_run_is_started_watched_and_kept(page, schedule):
    task = schedule.backup()
    page.goto("/schedule.html")
    page.get_by_role("button", name="Run Backup now").click()
    expect(said(page, "“Backup” has started")).to_be_visible()
    expect(page.locator(".sc-task").get_by_text("Completed")).to_be_visible()  # live, without a reload
    page.locator(".sc-task").get_by_role("button", name="Completed").click()
    dialog = page.get_by_role("dialog", name="Backup")
    expect(dialog.get_by_text("Write the backup")).to_be_visible()
    expect(dialog.get_by_text("read back without a fault")).to_be_visible()
    expect(dialog.get_by_text("Run now")).to_be_visible()
    expect(page).to_have_url(re.compile("run=run_"))
    page.keyboard.press("Escape")
    page.get_by_role("button", name="More for Backup").click()
    page.get_by_role("menuitem", name="Run history").click()
    expect(page).to_have_url(re.compile(f"task={task['id']}"))
    expect(page.locator("data-table tbody tr")).to_have_count(1)
    page.get_by_role("combobox", name="State").select_option(label="Failed")
    expect(page.get_by_text("No run fits these filters.")).to_be_visible()
    expect(page).to_have_url(re.compile("status=failed"))


def test_a_run_that_did_nothing_says_why(page, schedule):
    config = {"postToTwitter": True, "mediaEmpty": "skip"}
    task = schedule.add(
        name="Archive", characterId=schedule.character["id"], type="post_existing", schedule="0 9 * * *", config=config
    )
    run = schedule.post(action="run_now", id=task["id"]).json()["runs"][0]
    reason = schedule.ended(run["runId"])["reason"]
    page.goto(f"/schedule.html?tab=runs&task={task['id']}")
    expect(page.locator("data-table").get_by_text(reason)).to_be_visible()
    page.locator("data-table tbody tr").click()
    dialog = page.get_by_role("dialog", name="Archive")
    expect(dialog.locator(".sc-reason")).to_have_text(reason)
    expect(dialog.get_by_role("button", name="Run again")).to_be_visible()


def test_what_would_go_live_is_asked_first(page, schedule, live):
    config = {"prompt": "x", "postToInstagram": True}
    schedule.add(name="Live", characterId=live["id"], type="generate_and_post", schedule="0 9 * * *", config=config)
    page.goto("/schedule.html")
    page.get_by_role("button", name="Run Live now").click()
    ask = page.get_by_role("dialog", name="Publish one post now?")
    expect(ask).to_contain_text("1 live post: 1 on Instagram")
    expect(ask).to_contain_text("Kai")
    expect(ask.get_by_role("button", name="Cancel")).to_be_focused()
    page.keyboard.press("Enter")
    expect(ask).to_be_hidden()
    page.get_by_role("button", name="Run all").click()
    live_button = ask.get_by_role("button", name="Post live")
    expect(live_button).to_be_disabled()
    ask.get_by_label("Type post to publish").fill("post")
    expect(live_button).to_be_enabled()
    page.keyboard.press("Escape")
    expect(ask).to_be_hidden()
    forgive(page, 409)
    assert schedule.get(f"/runs?taskId={schedule.get()[0]['id']}")["items"] == []


def test_the_stop_switch(page, schedule):
    schedule.backup()
    page.goto("/schedule.html")
    page.get_by_role("button", name="Stop everything").click()
    dialog = page.get_by_role("dialog", name="Stop everything?")
    dialog.get_by_label("Reason").fill("Holiday until Monday")
    page.keyboard.press("Enter")
    banner = page.locator(".sc-stopped[role=alert]")
    expect(banner).to_contain_text("Holiday until Monday")
    expect(page.get_by_role("button", name="Run all")).to_be_disabled()
    assert schedule.get("/state")["paused"]["reason"] == "Holiday until Monday"
    page.reload()
    expect(banner).to_be_visible()
    page.get_by_role("button", name="Run Backup now").click()
    expect(said(page, re.compile("Everything is stopped"))).to_be_visible()
    forgive(page, 409)
    banner.get_by_role("button", name="Go on").click()
    expect(banner).to_have_count(0)
    assert schedule.get("/state")["paused"] is None

    page.get_by_role("button", name="Stop one").click()
    page.get_by_role("menuitemcheckbox", name="Luna").click()
    page.get_by_role("dialog", name="Stop Luna?").get_by_role("button", name="Stop Luna").click()
    expect(page.locator(".sc-halted")).to_contain_text("Luna is stopped.")
    assert list(schedule.get("/state")["characters"]) == [schedule.character["id"]]
    page.locator(".sc-halted").get_by_role("button", name="Go on").click()
    expect(page.locator(".sc-halted")).to_have_count(0)


def test_the_next_run_is_left_out_and_comes_back(page, schedule):
    task = schedule.backup()
    page.goto("/schedule.html")
    page.get_by_role("button", name="More for Backup").click()
    page.get_by_role("menuitem", name="Leave out the next run").click()
    expect(page.locator(".sc-skips")).to_contain_text("Leaves out")
    assert schedule.get()[0]["nextRun"] > task["nextRun"]
    page.locator(".sc-skips button").click()
    expect(page.locator(".sc-skips")).to_have_count(0)
    assert schedule.get()[0]["nextRun"] == task["nextRun"]


def test_a_task_spoilt_by_hand_says_what_is_wrong(page, schedule, server):
    schedule.backup()
    file = server.folder / "data" / "scheduler.json"
    stored = json.loads(file.read_text("utf-8"))
    stored[0]["schedule"] = "every day"
    file.write_text(json.dumps(stored), "utf-8")
    page.goto("/schedule.html")
    fault = page.locator(".sc-fault")
    expect(fault).to_be_visible()
    expect(page.locator(".sc-next")).to_contain_text("Cannot run")
    fault.get_by_role("button", name="Fix it").click()
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_label("Cron expression")).to_have_value("every day")
    dialog.get_by_role("button", name="Daily").click()
    expect(dialog.get_by_text("At 18:00")).to_be_visible()
    dialog.get_by_role("button", name="Save").click()
    expect(fault).to_have_count(0)
    forgive(page, 422)
    assert schedule.get()[0]["problem"] is None


def test_filters_live_in_the_address(page, schedule):
    schedule.backup()
    schedule.add(name="Dawn", characterId=schedule.character["id"], type="generate_only", schedule="0 6 * * *")
    page.goto(f"/schedule.html?characterId={schedule.character['id']}")
    expect(page.locator(".sc-task")).to_have_count(1)
    page.get_by_role("combobox", name="Character").select_option("")
    expect(page.locator(".sc-task")).to_have_count(2)
    page.get_by_label("Search tasks").fill("dawn")
    expect(page.locator(".sc-task")).to_have_count(1)
    expect(page).to_have_url(re.compile("q=dawn"))
    page.get_by_role("combobox", name="State").select_option(label="Switched off")
    page.get_by_role("button", name="Clear filters").click()
    expect(page.locator(".sc-task")).to_have_count(2)


@pytest.mark.tools
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("query", ["", "?edit=new", "?tab=runs", "?run=", "stopped"])
def test_no_serious_finding(page, schedule, theme, query):
    task = schedule.backup()
    schedule.add(
        characterId=schedule.character["id"],
        type="generate_and_post",
        schedule="0 9 * * *",
        config={"promptSource": "base", "postToInstagram": True},
        dryRun=True,
        active=False,
    )
    if query.endswith(("runs", "run=")):
        run = schedule.post(action="run_now", id=task["id"]).json()["runs"][0]["runId"]
        schedule.ended(run)
        query = query.replace("run=", f"run={run}") if query.endswith("run=") else query
    if query == "stopped":
        schedule.post("/pause", reason="A test")
        query = ""
    page.emulate_media(color_scheme=theme, reduced_motion="reduce")
    page.goto(f"/schedule.html{query}")
    shown(page)
    if "edit" in query:
        expect(page.locator(".cf-runs tbody tr")).to_have_count(10)
    if "run=" in query:
        expect(page.get_by_role("dialog").locator(".sc-steps")).to_be_visible()
    found = serious(page)
    assert not found, "\n".join(found)


@pytest.mark.viewport(390, 844)
@pytest.mark.parametrize("query", ["", "?tab=runs", "?edit=new"])
def test_a_phone_shows_everything_without_scrolling_sideways(page, schedule, query):
    task = schedule.backup()
    schedule.ended(schedule.post(action="run_now", id=task["id"]).json()["runs"][0]["runId"])
    page.goto(f"/schedule.html{query}")
    shown(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    if "edit" in query:
        body = page.locator(".dialog-body")
        assert body.evaluate("el => el.scrollWidth <= el.clientWidth")
