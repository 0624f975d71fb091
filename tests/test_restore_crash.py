"""`python app.py --restore`, and a kill -9 while a real app puts a backup in place."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import requests

from dalla.wiring import stager
from tests.services.restore_kit import PASSPHRASE, Place, fill, hashes
from tests.test_app import ROOT, App, command, environment
from tests.test_restart import wait_for_another_start

CHILD = """
import itertools, sys, time
from pathlib import Path
from dalla.services import restore_apply
from dalla.stores.lockfile import DataFolderLock
from dalla.wiring import settle_folders

rename, done = restore_apply._rename, itertools.count(1)
def counted(source, target):
    rename(source, target)
    if next(done) == int(sys.argv[2]):
        print("renamed", flush=True)
        time.sleep(600)  # killed here
restore_apply._rename = counted
DataFolderLock(Path(sys.argv[1])).acquire("test")
settle_folders(Path(sys.argv[1]))
"""


@pytest.fixture(scope="module")
def archive(tmp_path_factory) -> Path:
    place = Place(tmp_path_factory.mktemp("old") / "here")
    with place.running() as (container, client):
        fill(container, client)
        job = container.backups.start(media=True, datasets=True, loras=True, passphrase=PASSPHRASE)
        return container.backups.path(container.jobs.wait(job.id, 60).result["name"])


def run(folder: Path, *args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*args), cwd=ROOT, env=environment(folder), capture_output=True, text=True, timeout=120
    )


def test_the_command_line_restores_and_says_what_speaks_against_it(tmp_path, archive):
    phrase = tmp_path / "phrase"
    phrase.write_text("not the right one\n")
    refused = run(tmp_path, "--restore", str(archive), "--passphrase-file", str(phrase))
    assert refused.returncode == 1 and "does not open" in refused.stderr and "Traceback" not in refused.stderr
    (tmp_path / "no.zip").write_bytes(b"no zip")
    assert "not a zip" in run(tmp_path, "--restore", str(tmp_path / "no.zip")).stderr
    assert "cannot be read" in run(tmp_path, "--restore", str(tmp_path / "nowhere.zip")).stderr
    assert "cannot be read" in run(tmp_path, "--restore", str(archive), "--passphrase-file", "/nowhere").stderr
    phrase.write_text(PASSPHRASE + "\n")
    done = run(tmp_path, "--restore", str(archive), "--passphrase-file", str(phrase))
    assert done.returncode == 0 and "is restored" in done.stdout, done.stderr
    with App(tmp_path) as app:
        busy = run(tmp_path, "--restore", str(archive))
        assert busy.returncode == 1 and "already runs" in busy.stderr
        [luna] = requests.get(f"{app.url}/api/characters", timeout=10).json()
        assert luna["name"] == "Luna"
        assert requests.get(f"{app.url}/api/media", timeout=10).json()["total"] == 3
        assert "was restored" in requests.get(f"{app.url}/api/scheduler/state", timeout=10).text


@pytest.mark.skipif(os.name == "nt", reason="sends SIGKILL")
@pytest.mark.parametrize("renames", [1, 6])
def test_kill_9_in_the_middle_is_continued_by_the_next_start(tmp_path, archive, renames):
    place = Place(tmp_path)
    with place.running() as (_, client):
        client.post("/api/characters", json={"name": "Present"})
    stager(place.settings).stage(archive)
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(place.data), str(renames)], cwd=ROOT, stdout=subprocess.PIPE
    )
    assert child.stdout.readline() == b"renamed\n"
    child.send_signal(signal.SIGKILL)
    child.wait(30)
    child.stdout.close()
    assert (place.data / "restore" / "staged.json").exists()
    with App(tmp_path) as app:
        [luna] = requests.get(f"{app.url}/api/characters", timeout=10).json()
        assert luna["name"] == "Luna" and not (place.data / "restore" / "staged.json").exists()
        assert requests.get(f"{app.url}/api/media", timeout=10).json()["total"] == 3
        notes = []
        for _ in range(300):
            notes = requests.get(f"{app.url}/api/notifications", timeout=10).json()["items"]
            if any(note["kind"] == "restore.done" for note in notes):
                break
            time.sleep(0.1)
        assert any(note["kind"] == "restore.done" for note in notes)
        [aside] = (place.data / "backups").glob("before-restore-*")
        assert b"Present" in (aside / "characters.json").read_bytes()


def test_a_restore_is_staged_and_takes_effect_at_a_restart_by_the_page(tmp_path, archive):
    (tmp_path / "data" / "backups").mkdir(parents=True)
    shutil.copy(archive, tmp_path / "data" / "backups" / archive.name)
    with App(tmp_path) as app:
        before = requests.get(f"{app.url}/api/system/status", timeout=10).json()["startedAt"]
        body = {"name": archive.name, "dryRun": False, "passphrase": PASSPHRASE}
        task = requests.post(f"{app.url}/api/backups/restore", json=body, timeout=10).json()["taskId"]
        while requests.get(f"{app.url}/api/tasks/{task}", timeout=10).json()["status"] in ("queued", "running"):
            time.sleep(0.1)
        assert requests.get(f"{app.url}/api/characters", timeout=10).json() == []
        assert requests.post(f"{app.url}/api/system/restart", json={}, timeout=10).status_code == 202
        wait_for_another_start(app.url, before)
        [luna] = requests.get(f"{app.url}/api/characters", timeout=10).json()
        assert luna["name"] == "Luna" and requests.get(f"{app.url}/api/backups", timeout=10).json()["staged"] is None
    assert hashes(tmp_path / "data" / "media", "m")
