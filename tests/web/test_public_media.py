"""`/public/<token>.jpg`: a prepared picture for a while, and nothing else."""

from __future__ import annotations

from hashlib import sha256
from types import SimpleNamespace

import pytest
from flask import Flask

from dalla.platforms.hosting import Hosting
from dalla.records.post import PreparedFile
from dalla.stores.blobs import FileBlobs
from dalla.stores.secrets import FileSecrets
from dalla.web import problems, public_media
from tests.conftest import make_settings
from tests.platforms.instagram_kit import jpeg

BASE = "https://dalla.example.org"


@pytest.fixture
def hosting(tmp_path):
    settings = make_settings(tmp_path, PUBLIC_BASE_URL=BASE)
    return Hosting(settings, FileBlobs(tmp_path / "data"), FileSecrets(tmp_path / "data" / "secrets"))


@pytest.fixture
def client(hosting):
    app = Flask(__name__)
    problems.install(app)
    app.register_blueprint(public_media.bp)
    app.extensions["dalla"] = SimpleNamespace(hosting=hosting)
    return app.test_client()


@pytest.fixture
def address(hosting):
    data = jpeg()
    digest = sha256(data).hexdigest()
    file = PreparedFile(
        media_id="m", key=f"posts/{digest[:2]}/{digest}.jpg", sha256=digest, width=1, height=1, size_bytes=len(data)
    )
    hosting._blobs.put(file.key, data)
    return hosting.public_url(file).removeprefix(BASE)


def test_the_picture(client, address):
    answer = client.get(address)
    assert answer.status_code == 200 and answer.data == jpeg() and answer.headers["Content-Type"] == "image/jpeg"
    assert "Set-Cookie" not in answer.headers
    head = client.head(address)
    assert head.status_code == 200 and head.data == b"" and head.content_length == len(jpeg())


def test_everything_else_is_not_there(client, hosting, address):
    hosting._blobs.put("characters.json", b"\xff\xd8\xff secret")
    for path in (
        "/public/",
        "/public/x.jpg",
        "/public/../characters.json",
        "/public/..%2fcharacters.json",
        "/public/characters.json",
        "/public/posts%2f00%2fx.jpg",
        address.removesuffix(".jpg"),
        address.replace(".jpg", ".png"),
        address.replace("/public/", "/public/a"),
    ):
        answer = client.get(path)
        assert answer.status_code == 404 and b"secret" not in answer.data, path
    assert client.post(address).status_code == 405


def test_an_address_whose_time_is_up(client, hosting, address):
    real = hosting._now
    hosting._now = lambda: real().replace(year=2099)
    assert client.get(address).status_code == 404


def test_a_store_that_cannot_be_read_tells_nothing(client, hosting, address, tmp_path):
    (tmp_path / "data" / "secrets" / "secrets.json").write_bytes(b"broken")
    answer = client.get(address)
    assert answer.status_code == 404 and "secrets" not in answer.text


def test_robots_lets_only_the_fetcher_in(client):
    from urllib.robotparser import RobotFileParser

    rules = RobotFileParser()
    rules.parse(client.get("/robots.txt").text.splitlines())
    assert rules.can_fetch("facebookexternalhit/1.1", "/public/x.jpg")
    assert not rules.can_fetch("facebookexternalhit/1.1", "/api/media")
    assert not rules.can_fetch("Googlebot", "/public/x.jpg")
