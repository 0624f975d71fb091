"""`POST /api/system/restart` on a real `python app.py`: the same process, port and data, a new start."""

from __future__ import annotations

import time

import requests

from tests.test_app import App


def started_at(url: str) -> str:
    return requests.get(f"{url}/api/system/status", timeout=10).json()["startedAt"]


def wait_for_another_start(url: str, before: str) -> str:
    """Poll until the app answers with another start, at most 60 s."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        try:
            now = started_at(url)
            if now != before:
                return now
        except requests.RequestException:
            pass
        time.sleep(0.1)
    raise AssertionError("the app did not come back")


def test_it_starts_again_on_the_same_port_with_the_same_data(tmp_path):
    with App(tmp_path) as app:
        made = requests.post(f"{app.url}/api/characters", json={"name": "Luna"}, timeout=10).json()
        pid = app.process.pid
        before = started_at(app.url)
        answer = requests.post(f"{app.url}/api/system/restart", json={}, timeout=10)
        assert answer.status_code == 202 and answer.json() == {"restarting": True, "interrupts": []}
        again = wait_for_another_start(app.url, before)
        assert again > before and app.process.pid == pid and app.process.poll() is None
        assert requests.get(f"{app.url}/api/characters/{made['id']}", timeout=10).json()["name"] == "Luna"
        # A second time: the lock of the folder was freed in between.
        requests.post(f"{app.url}/api/system/restart", json={"force": True}, timeout=10)
        wait_for_another_start(app.url, again)
        assert app.stop() == 0
