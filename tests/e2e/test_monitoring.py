"""The monitoring page in a browser: what failed, what is kept from running, what the log says, what mends a component."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import requests

from dalla.ids import new_id
from dalla.records.job import Job
from dalla.stores.library import Library
from dalla.stores.tasks import SqlTasks
from dalla.times import ago_iso
from tests.e2e.looks import serious

expect = pytest.importorskip("playwright.sync_api").expect


@pytest.fixture(scope="module")
def seeded(server):
    """A failed task and one that ended the program twice, as a crash leaves them; an account whose key is gone."""
    library = Library.open(Path(server.folder) / "data" / "dalla.db")
    tasks, ids = SqlTasks(library), {}
    for name, status, more in (
        ("failed", "failed", {"error": {"code": "internal", "detail": "It broke in the rain.", "status": 500}}),
        ("held", "interrupted", {"crashes": 2, "quarantined": True}),
        ("dismissed", "interrupted", {"crashes": 2, "quarantined": True}),
    ):
        job = tasks.insert(
            Job(id=new_id("job"), kind="deliver_webhooks", lane="net", title=f"A {name} task", created_at=ago_iso(60))
        )
        tasks.transition(job.id, "running", owner="elsewhere:1:1.0", started_at=ago_iso(50))
        tasks.transition(job.id, status, finished_at=ago_iso(40), **more)
        ids[name] = job.id
    library.close()
    body = {"name": "Luna", "instagramApiKey": "env:NOT_THERE", "instagramAccountId": "1784"}
    assert requests.post(f"{server.url}/api/characters", json=body, timeout=10).status_code == 201
    refused = requests.post(f"{server.url}/api/characters", json={"name": ""}, timeout=10)
    ids["request"] = refused.json()["requestId"]
    return ids


def test_what_is_wrong_is_seen_and_mended(page, server, seeded):
    page.goto("/monitoring.html")
    # what does not work says what helps, exactly as the JSON does
    status = requests.get(f"{server.url}/api/system/status", timeout=10).json()
    row = page.locator('[data-component="instagram"]')
    expect(row).to_contain_text(status["instagram"]["detail"])
    fix = status["instagram"]["fix"]
    expect(row.get_by_role("link", name=fix["label"])).to_have_attribute("href", fix["href"])
    for name, part in status.items():
        if isinstance(part, dict) and "since" in part:
            expect(page.locator(f'[data-component="{name}"]')).to_contain_text(part["label"])
    expect(page.get_by_role("status").filter(has_text="Something needs attention")).to_be_visible()
    # the charts over a day
    page.get_by_role("button", name="24 h").click()
    expect(page.get_by_role("img", name=re.compile("CPU over the last day"))).to_be_visible()
    # the failed task, and from it what the log has
    failures = page.get_by_label("Recent failures")
    expect(failures).to_contain_text("It broke in the rain.")
    # what is kept from running
    page.get_by_role("tab", name="Tasks").click()
    held = page.get_by_label("Quarantined tasks")
    expect(held.get_by_role("listitem")).to_have_count(2)
    held.get_by_role("button", name="Dismiss A dismissed task").click()
    expect(held.get_by_role("listitem")).to_have_count(1)
    held.get_by_role("button", name="Run A held task again").click()
    expect(held).to_have_count(0)
    answer = requests.get(f"{server.url}/api/tasks/{seeded['held']}?wait=10", timeout=20).json()
    assert answer["status"] == "completed" and answer["quarantined"] is False
    kept = requests.get(f"{server.url}/api/tasks/{seeded['dismissed']}", timeout=10).json()
    assert kept["status"] == "interrupted" and kept["quarantined"] is False


def test_the_log_is_searched_followed_and_narrowed_to_a_request(page, server, seeded):
    page.goto(f"/monitoring.html?requestId={seeded['request']}")
    lines = page.get_by_label("Entries, newest first").get_by_role("listitem")
    expect(lines).to_have_count(1)
    expect(lines).to_contain_text("POST /api/characters 422")
    page.get_by_role("button", name=re.compile("Remove: Request")).click()
    expect(lines.nth(1)).to_be_visible()
    assert "requestId" not in page.url
    requests.delete(f"{server.url}/api/media/nothing", timeout=10)
    expect(lines.first).to_contain_text("DELETE /api/media/nothing")  # it is followed
    lines.first.get_by_title("Only this request").click()
    expect(lines).to_have_count(1)
    page.go_back()
    search = page.get_by_role("searchbox", name="Search the log")
    search.fill("media/NOTHING")
    expect(page.locator(".ml-list mark").first).to_have_text("media/nothing")
    search.fill("nobody ever wrote this")
    expect(page.get_by_text("Nothing in the log fits")).to_be_visible()
    page.get_by_role("button", name="Show everything").click()
    expect(lines.nth(1)).to_be_visible()
    with page.expect_download() as download:
        page.get_by_role("link", name="Report for support").click()
    assert download.value.suggested_filename.endswith(".zip")
    # by keyboard
    page.get_by_role("tab", name="Log").focus()
    page.keyboard.press("ArrowLeft")
    expect(page.get_by_role("tab", name="Tasks")).to_be_focused()
    expect(page.locator("#mo-tasks")).to_be_visible()


@pytest.mark.tools
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_no_serious_finding_on_any_tab(page, seeded, theme):
    page.emulate_media(color_scheme=theme, reduced_motion="reduce")
    for tab in ("tasks", "logs"):  # the overview is looked at with all the other pages
        page.goto(f"/monitoring.html?tab={tab}")
        expect(page.locator("main .skeleton:visible")).to_have_count(0)
        found = serious(page)
        assert not found, "\n".join([tab, *found])


@pytest.mark.viewport(390, 844)
def test_a_phone_shows_every_tab_without_scrolling_sideways(page, seeded):
    for tab in ("overview", "tasks", "logs"):
        page.goto(f"/monitoring.html?tab={tab}")
        expect(page.locator("main .skeleton:visible")).to_have_count(0)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, tab
