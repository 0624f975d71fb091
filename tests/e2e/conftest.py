"""A real app in its own process and a real Chromium that drives it.

Without Chromium these tests are skipped on a user's machine and fail when CI=true.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dalla.settings import ROWS
from tests.conftest import NOWHERE

#: Milliseconds until something that should come is given up. Only a failure waits so long; a busy machine may be slow.
PATIENCE = 60_000
ROOT = Path(__file__).resolve().parent.parent.parent
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--in-process-gpu",
    "--host-resolver-rules=MAP attacker.test 127.0.0.1",  # a name of somebody else that leads to this computer
]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "tests/e2e" in str(item.path):
            item.add_marker(pytest.mark.e2e)


def chromium() -> str | None:
    return os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    path = chromium()
    if path is None:
        if os.environ.get("CI") == "true":
            pytest.fail("Chromium is not installed; CI must run the browser tests.")
        pytest.skip("Chromium is not installed (set CHROMIUM=/path to it); browser tests are skipped.")
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=PATIENCE)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


class Server:
    """`python app.py` on a free port with a data folder of its own."""

    def __init__(self, folder: Path, **env: str) -> None:
        self.folder = folder
        environ = {k: v for k, v in os.environ.items() if k not in {row.env for row in ROWS}}
        environ |= {
            "DALLA_DATA_DIR": str(folder / "data"),
            "DALLA_TRAINING_DATA_DIR": str(folder / "training_data"),
            "DALLA_LORAS_DIR": str(folder / "loras"),
            "COMFYUI_URL": NOWHERE,
            "PYTHONUNBUFFERED": "1",
            **env,
        }
        self.log = (folder / "server.log").open("wb")
        self.process = subprocess.Popen(
            [sys.executable, "app.py", "--no-browser", "--port", "0"],
            cwd=ROOT,
            env=environ,
            stdout=subprocess.PIPE,
            stderr=self.log,
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline().decode()
        found = re.search(r"http://\S+", line)
        assert found, f"the app did not start: {line} {(folder / 'server.log').read_text()}"
        self.url = found[0]

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()
        self.log.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One app for the tests of a file: starting the built-in engine takes seconds."""
    server = Server(tmp_path_factory.mktemp("app"))
    yield server
    server.stop()


@pytest.fixture
def page(browser: Any, server: Server, request: pytest.FixtureRequest) -> Iterator[Any]:
    """A fresh page. Any console error or failed script makes the test fail; failures leave a screenshot."""
    options: dict[str, Any] = {
        "viewport": {"width": 1360, "height": 900},
        "base_url": server.url,
        "reduced_motion": "reduce",
    }
    marker = request.node.get_closest_marker("viewport")
    if marker:
        options["viewport"] = dict(zip(("width", "height"), marker.args, strict=True))
    # Tools that inject scripts (axe) need the page's own policy out of the way; everything else keeps it.
    options["bypass_csp"] = request.node.get_closest_marker("tools") is not None
    context = browser.new_context(**options)
    context.set_default_timeout(PATIENCE)
    page = context.new_page()
    errors: list[str] = []
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.errors = errors
    yield page
    if getattr(request.node, "failed", False):
        shots = ROOT / "tests" / "e2e" / "shots"
        shots.mkdir(exist_ok=True)
        page.screenshot(path=str(shots / (re.sub(r"[^\w\[\]-]+", "_", request.node.name) + ".png")), full_page=True)
    context.close()
    assert not errors, f"errors in the console: {errors}"


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: Any) -> Any:
    outcome = yield
    if call.when == "call" and outcome.get_result().failed:
        item.failed = True  # type: ignore[attr-defined]
