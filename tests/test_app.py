"""`python app.py` as a person starts it: what it prints, what it refuses, what a kill leaves behind."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import requests

from dalla.settings import ROWS
from tests.conftest import NOWHERE, png

ROOT = Path(__file__).parent.parent


def command(*args: str) -> list[str]:
    return [sys.executable, "app.py", "--no-browser", *args]


def environment(folder: Path, **more: str) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if k not in {row.env for row in ROWS}}
    return kept | {
        "DALLA_DATA_DIR": str(folder / "data"),
        "DALLA_TRAINING_DATA_DIR": str(folder / "training_data"),
        "DALLA_LORAS_DIR": str(folder / "loras"),
        "COMFYUI_URL": NOWHERE,
        "PYTHONUNBUFFERED": "1",
        **more,
    }


class App:
    """A started app; `url` is what it printed."""

    def __init__(self, folder: Path, *args: str, **env: str) -> None:
        self.process = subprocess.Popen(
            command("--port", "0", *args),
            cwd=ROOT,
            env=environment(folder, **env),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        line = self.process.stdout.readline().decode()
        self.url = re.search(r"http://\S+", line)[0]

    def stop(self, how: int = signal.SIGTERM) -> int:
        self.process.send_signal(how)
        code = self.process.wait(30)
        self.process.stdout.close()
        return code

    def __enter__(self) -> App:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.stop(signal.SIGKILL)
        self.process.stdout.close()


def refused(folder: Path, *args: str, **env: str) -> str:
    """What a start that must fail says. No traceback, exit code 1."""
    done = subprocess.run(
        command(*args), cwd=ROOT, env=environment(folder, **env), capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    return done.stderr


def test_it_starts_serves_and_stops(tmp_path):
    with App(tmp_path) as app:
        page = requests.get(app.url, timeout=10)
        assert page.status_code == 200 and "Digital Dalla" in page.text
        assert requests.get(f"{app.url}/health/ready", timeout=10).json()["status"] == "ok"
        assert app.stop() == 0


def test_a_second_app_on_the_same_folder_is_refused_in_one_sentence(tmp_path):
    with App(tmp_path) as app:
        said = refused(tmp_path, "--port", "0")
        assert "already runs on the data folder" in said and app.url in said and str(app.process.pid) in said
    with App(tmp_path) as again:  # the first was killed: nothing is left in the way
        assert requests.get(f"{again.url}/health/live", timeout=10).ok


def test_a_taken_port_is_said(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        said = refused(tmp_path, "--port", str(taken.getsockname()[1]))
    assert "cannot be used" in said and "--port" in said


@pytest.mark.parametrize(
    ("env", "words"),
    [
        ({"DALLA_PORT": "many"}, "DALLA_PORT"),
        ({"DALLA_HOST": "0.0.0.0"}, "no accounts yet"),
        ({"DALLA_DATA_DIR": "/proc/nowhere/data"}, "cannot be created"),
        ({"COMFYUI_URL": "localhost:8188"}, "COMFYUI_URL"),
    ],
)
def test_bad_settings_are_said(tmp_path, env, words):
    assert words in refused(tmp_path, *([] if "DALLA_PORT" in env else ["--port", "0"]), **env)


def test_a_file_that_is_no_database_is_said_and_left(tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    (data / "dalla.db").write_bytes(b"this is not a database" * 100)
    assert "not a database" in refused(tmp_path, "--port", "0")
    assert (data / "dalla.db").read_bytes() == b"this is not a database" * 100


def test_kill_9_while_writing_loses_no_acknowledged_write(tmp_path):
    acknowledged: list[str] = []
    with App(tmp_path) as app:
        enough = threading.Event()

        def write(worker: int) -> None:
            session = requests.Session()
            for n in range(10_000):
                name = f"w{worker}-{n}"
                try:
                    answer = session.post(f"{app.url}/api/characters", json={"name": name}, timeout=10)
                except requests.RequestException:
                    return  # the app is gone
                if answer.status_code == 201:
                    acknowledged.append(name)
                    if len(acknowledged) >= 60:
                        enough.set()

        writers = [threading.Thread(target=write, args=(n,)) for n in range(16)]
        for writer in writers:
            writer.start()
        assert enough.wait(60)
        app.stop(signal.SIGKILL)
        for writer in writers:
            writer.join(30)
    saved = {c["name"] for c in json.loads((tmp_path / "data" / "characters.json").read_text())}
    assert set(acknowledged) <= saved
    with App(tmp_path) as again:
        listed = {c["name"] for c in requests.get(f"{again.url}/api/characters", timeout=10).json()}
        assert set(acknowledged) <= listed


def test_sixty_four_threads_writing_at_once(tmp_path):
    with App(tmp_path) as app:
        made = requests.post(f"{app.url}/api/characters", json={"name": "Luna"}, timeout=10).json()
        failures: list[object] = []

        def write(n: int) -> None:
            one = requests.post(f"{app.url}/api/characters", json={"name": f"c{n}"}, timeout=60)
            two = requests.put(f"{app.url}/api/characters/{made['id']}", json={"backstory": f"b{n}"}, timeout=60)
            if one.status_code != 201 or two.status_code != 200:
                failures.append((one.status_code, two.status_code))

        threads = [threading.Thread(target=write, args=(n,)) for n in range(64)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(90)
        names = [c["name"] for c in requests.get(f"{app.url}/api/characters", timeout=10).json()]
        assert not failures and sorted(names) == sorted(["Luna", *(f"c{n}" for n in range(64))])


def test_the_event_stream_flows_through_the_real_server(tmp_path):
    with App(tmp_path) as app, requests.get(f"{app.url}/api/events", stream=True, timeout=10) as stream:
        lines = stream.iter_lines()
        while b"event: snapshot" not in next(lines):
            pass
        requests.post(f"{app.url}/api/characters", json={"name": "Nova"}, timeout=10)
        while b"event: character.updated" not in next(lines):
            pass
        assert b"Nova" in next(lines)


@pytest.fixture
def mount(tmp_path):
    """Mount a small tmpfs with the given options; skipped where this user may not mount."""
    mounted: list[Path] = []

    def make(options: str) -> Path:
        where = tmp_path / "mounted"
        where.mkdir()
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(where)], capture_output=True)
        if done.returncode:
            pytest.skip("this user may not mount a file system")
        mounted.append(where)
        return where

    yield make
    for where in mounted:
        subprocess.run(["umount", "-l", str(where)], check=True)


@pytest.mark.skipif(sys.platform != "linux", reason="mounts a tmpfs")
def test_a_read_only_folder_is_said(tmp_path, mount):
    said = refused(tmp_path, "--port", "0", DALLA_DATA_DIR=str(mount("ro") / "data"))
    assert "Read-only" in said and "write permission" in said


@pytest.mark.skipif(sys.platform != "linux", reason="mounts a tmpfs")
def test_a_full_disk_is_said_and_loses_nothing(tmp_path, mount):
    disk = mount("size=3m")
    with App(tmp_path, DALLA_DATA_DIR=str(disk / "data")) as app:
        made = requests.post(f"{app.url}/api/characters", json={"name": "Luna"}, timeout=10).json()
        with (disk / "ballast").open("wb", buffering=0) as ballast, contextlib.suppress(OSError):
            while True:
                ballast.write(b"x" * 4096)
        address = f"{app.url}/api/characters/{made['id']}"
        big = requests.put(address, json={"backstory": "x" * 40_000}, timeout=10)
        assert big.status_code == 503 and "no space" in big.json()["detail"].lower() and big.json()["remedy"]
        upload = requests.post(f"{app.url}/api/media", files={"file": ("a.png", png(size=(300, 300)))}, timeout=10)
        assert upload.status_code == 503, upload.text
        assert requests.get(address, timeout=10).json()["backstory"] is None
        (disk / "ballast").unlink()
        assert requests.put(address, json={"backstory": "x" * 40_000}, timeout=10).status_code == 200


PASSWORD = "three green tractors"


def create_admin(folder: Path, name: str, password: str) -> subprocess.CompletedProcess:
    """`python app.py --create-admin NAME`, the password on stdin."""
    return subprocess.run(
        [sys.executable, "app.py", "--create-admin", name],
        cwd=ROOT,
        env=environment(folder),
        input=f"{password}\n",
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_an_admin_is_made_on_the_command_line_and_then_others_may_reach_it(tmp_path):
    for name, password, said in (("boss", "short", "10 characters"), ("a b", PASSWORD, "without spaces")):
        done = create_admin(tmp_path, name, password)
        assert done.returncode == 1 and said in done.stderr and "Traceback" not in done.stderr
    assert "no accounts yet" in refused(tmp_path, DALLA_HOST="0.0.0.0")
    done = create_admin(tmp_path, "boss", PASSWORD)
    assert done.returncode == 0 and "boss" in done.stdout and PASSWORD not in done.stdout + done.stderr
    assert "already" in create_admin(tmp_path, "Boss", PASSWORD).stderr

    with App(tmp_path, "--host", "0.0.0.0") as app:
        assert requests.get(f"{app.url}/api/characters", timeout=10).status_code == 401
        page = requests.get(f"{app.url}/studio.html", timeout=10, allow_redirects=False)
        assert page.status_code == 303 and page.headers["Location"].startswith("/login.html?next=")
        browser = requests.Session()
        answer = browser.post(f"{app.url}/api/auth/login", json={"name": "boss", "password": PASSWORD}, timeout=10)
        assert answer.status_code == 200 and browser.get(f"{app.url}/api/characters", timeout=10).status_code == 200
        assert app.stop() == 0


def test_a_proxy_is_seen_by_the_real_server(tmp_path):
    with App(tmp_path) as app:
        assert requests.get(f"{app.url}/api/characters", timeout=10).status_code == 200
        for header in ("X-Forwarded-For", "X-Forwarded-Proto", "Forwarded", "X-Real-IP"):
            answer = requests.get(f"{app.url}/api/characters", headers={header: "127.0.0.1"}, timeout=10)
            assert answer.status_code == 401, header
        assert app.stop() == 0


def test_pages_answer_beside_many_streams_and_quiet_connections(tmp_path):
    with App(tmp_path) as app, contextlib.ExitStack() as stack:
        port = int(app.url.rpartition(":")[2])
        ask = f"GET /api/events HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode()
        told = []
        for number in range(150):
            line = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=20))
            if number < 30:
                line.sendall(ask)
                told.append(line.recv(12)[9:])
        assert told.count(b"200") == 24 and told.count(b"503") == 6
        assert requests.get(f"{app.url}/", timeout=20).status_code == 200
        assert requests.get(f"{app.url}/api/characters", timeout=20).json() == []
