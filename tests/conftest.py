"""The app for tests: a data folder of its own, no environment, no network, nothing started.

`app` has threads only when a test asks for `running`; `client` speaks to it without a socket.
"""

from __future__ import annotations

import contextlib
import io
import os
import random
import shutil
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from PIL import Image

from app import create_app
from dalla.settings import Settings
from dalla.stores import library
from dalla.stores.library import Library
from dalla.wiring import Container

os.environ.setdefault("OMP_NUM_THREADS", "1")  # in child processes too: threads that spin while they wait cost minutes
PRAGMAS = library._PRAGMAS  # how the app itself opens a database: it waits for the disk, the tests do not
NOWHERE = "http://127.0.0.1:9"  # the discard port: connections are refused at once


def free_port() -> int:
    """A port that nobody listens on, below those that systems hand out: no connection on its way takes it meanwhile."""
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


@contextlib.contextmanager
def taken(places):
    """All places of a kind (dalla.web.waiting.Places) are held while the block runs."""
    while places.take(""):
        pass
    try:
        yield
    finally:
        while places.free < places.count:
            places.leave("")


def make_settings(root: Path, **env: str) -> Settings:
    """Settings whose every folder lies below `root`; nothing of the machine's environment."""
    environ = {
        "DALLA_DATA_DIR": str(root / "data"),
        "DALLA_TRAINING_DATA_DIR": str(root / "training_data"),
        "DALLA_LORAS_DIR": str(root / "loras"),
        "DALLA_MODELS_DIR": str(root / "models"),
        "COMFYUI_URL": NOWHERE,
        **env,
    }
    return Settings.load(environ=environ, env_file=root / "no.env")


@pytest.fixture(scope="session", autouse=True)
def _migrated_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """New databases begin as a copy of one that went through the migrations: those take longer than most tests."""
    template = tmp_path_factory.mktemp("migrated") / "dalla.db"
    Library.open(template).close()
    assert [file.name for file in template.parent.glob("dalla.db*")] == ["dalla.db"]  # nothing is left in a journal
    prepared, one_at_a_time = Library._prepared, threading.Lock()

    def copied(self: Library) -> Library:
        with one_at_a_time:
            if self.file is not None and not self.file.exists():
                shutil.copyfile(template, self.file)
        return prepared(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Library, "_prepared", copied)
        yield


@pytest.fixture(scope="session", autouse=True)
def _nothing_waits_for_the_disk() -> Iterator[None]:
    """Processes are killed in these tests, the power is never cut: what the system has taken is safe."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda handle: None)
        patch.setattr(library, "_PRAGMAS", (*PRAGMAS, "PRAGMA synchronous = OFF"))
        yield


@pytest.fixture
def environ() -> dict[str, str]:
    """Further environment variables; tests override this fixture or change the dict before `app`."""
    return {}


@pytest.fixture
def settings(tmp_path: Path, environ: dict[str, str]) -> Settings:
    return make_settings(tmp_path, **environ)


@pytest.fixture
def container(settings: Settings) -> Iterator[Container]:
    container = Container(settings, environ={"LUNA_KEY": "key-from-the-environment"})
    yield container
    container.close()


@pytest.fixture
def running(container: Container) -> Container:
    """The container with its workers at work."""
    container.jobs.start()
    return container


@pytest.fixture
def app(settings: Settings, container: Container) -> Any:
    return create_app(settings, container=container)


class Client(FlaskClient):
    """Reads every answer to its end, so that no file of the app stays open."""

    def open(self, *args: Any, buffered: bool = True, **kwargs: Any) -> Any:
        return super().open(*args, buffered=buffered, **kwargs)


@pytest.fixture
def client(app: Any) -> Any:
    app.test_client_class = Client
    return app.test_client()


@pytest.fixture
def luna(client: Any) -> dict[str, Any]:
    """A character with everything that shapes a prompt."""
    answer = client.post(
        "/api/characters",
        json={
            "name": "Luna the Mystic",
            "triggerWord": "luna_character",
            "promptSettings": {
                "basePrompt": "a beautiful portrait of luna_character",
                "negativePrompt": "ugly, disfigured",
                "style": "artistic",
                "mood": "serene",
            },
        },
    )
    assert answer.status_code == 201, answer.json
    return answer.json


def png(color: tuple[int, ...] = (200, 80, 20), size: tuple[int, int] = (64, 48), **save: Any) -> bytes:
    """A small real PNG."""
    out = io.BytesIO()
    Image.new("RGBA" if len(color) == 4 else "RGB", size, color).save(out, "PNG", **save)
    return out.getvalue()


def upload(client: Any, data: bytes, name: str = "a.png", **fields: str) -> Any:
    """POST one file to /api/media."""
    return client.post(
        "/api/media", data={"file": (io.BytesIO(data), name), **fields}, content_type="multipart/form-data"
    )
