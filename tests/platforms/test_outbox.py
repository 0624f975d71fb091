"""A dry run: the whole path runs, nothing leaves, everything is written down without secrets."""

from __future__ import annotations

import base64
import json
import socket
from hashlib import sha256
from types import SimpleNamespace

import pytest

from dalla.platforms.base import Account
from dalla.platforms.instagram import Instagram
from dalla.platforms.outbox import outbox_session
from dalla.records.post import PreparedFile, Snapshot
from tests.conftest import make_settings
from tests.fakes.graph import ACCOUNT, TOKEN
from tests.platforms.instagram_kit import CAPTION, Watched


@pytest.fixture(autouse=True)
def no_sockets(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("a dry run opened a socket")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


class Pretender:
    info = SimpleNamespace(name="pretend")

    def __init__(self):
        self.calls = []

    def pretend(self, method, url, body):
        self.calls.append((method, url, body))
        return 201, {"data": {"id": "dry"}}


@pytest.fixture
def kept():
    return []


@pytest.fixture
def session(kept):
    with outbox_session(Pretender(), kept.append, post_id="post_1", character_id="char_1") as session:
        yield session


def test_the_answer_is_the_platforms_own(session, kept):
    answer = session.post("https://api.x.com/2/tweets", json={"text": "hi"})
    assert (answer.status_code, answer.json(), answer.ok) == (201, {"data": {"id": "dry"}}, True)
    (request,) = kept
    assert (request.platform, request.method, request.url) == ("pretend", "POST", "https://api.x.com/2/tweets")
    assert (request.post_id, request.character_id, request.body) == ("post_1", "char_1", {"text": "hi"})
    assert request.at.endswith("Z") and request.headers["Content-Type"] == "application/json"


@pytest.mark.parametrize("scheme", ["http", "https", "ftp", "HTTPS"])
def test_every_scheme_stays_inside(session, kept, scheme):
    assert session.get(f"{scheme}://example.com/x").status_code == 201
    assert len(kept) == 1


def test_secrets_are_masked_everywhere(session, kept):
    session.get(f"https://h/x?access_token={TOKEN}&a=1", headers={"Authorization": f"Bearer {TOKEN}"})
    session.post("https://h/x", data={"access_token": TOKEN, "caption": "a & b"})
    session.post("https://h/x", json={"nested": [{"client_secret": TOKEN}], "n": 1})
    session.post("https://h/x", files={"media": ("a.jpg", b"\xff\xd8", "image/jpeg")}, data={"access_token": TOKEN})
    session.get("https://h/x", headers={"Cookie": TOKEN, "X-Api-Key": TOKEN})
    oauth = f'OAuth oauth_nonce="n1", oauth_signature="{TOKEN}", oauth_token="{TOKEN}"'
    session.get("https://h/x", headers={"Authorization": oauth})
    session.get(f"https://user:{TOKEN}@h/x")
    text = json.dumps([request.to_json() for request in kept])
    assert TOKEN not in text
    assert kept[0].url.endswith("access_token=***&a=1") and kept[0].headers["Authorization"] == "Bearer ***"
    assert kept[1].body == {"access_token": "***", "caption": "a & b"}
    assert kept[2].body == {"nested": [{"client_secret": "***"}], "n": 1}
    assert 'oauth_nonce="n1"' in kept[5].headers["Authorization"]


def test_bytes_are_told_by_size_and_hash(session, kept):
    picture = b"\xff\xd8\xff" + bytes(range(256)) * 100
    session.post(
        "https://h/x",
        files={"media": ("a.jpg", picture, "image/jpeg")},
        data={"media_category": "tweet_image"},
    )
    session.post("https://h/x", data=picture, headers={"Content-Type": "image/jpeg"})
    session.post("https://h/x", json={"media": base64.b64encode(picture).decode()})
    told = {"bytes": len(picture), "sha256": sha256(picture).hexdigest(), "mime": "image/jpeg"}
    assert {"field": "media_category", "value": "tweet_image"} in kept[0].body
    assert {"field": "media", "filename": "a.jpg", **told} in kept[0].body
    assert kept[1].body == told
    assert kept[2].body["media"]["mime"] == "text/base64" and kept[2].body["media"]["field"] == "media"


@pytest.mark.parametrize("account_id", [ACCOUNT, "dry-run"])
@pytest.mark.parametrize("kind, pictures", [("single", 1), ("carousel", 3), ("story", 1)])
def test_a_whole_instagram_post_is_rehearsed(tmp_path, kept, kind, pictures, account_id):
    platform = Instagram(make_settings(tmp_path), sleep=lambda _: pytest.fail("a dry run waits for nothing"))
    files = [
        PreparedFile(media_id="m", key="k", sha256=f"{n:064x}", width=400, height=500, size_bytes=9)
        for n in range(pictures)
    ]
    snapshot = Snapshot(platform="instagram", kind=kind, caption=CAPTION, files=files, alt_texts=["alt"] * pictures)
    addresses = SimpleNamespace(public_url=lambda file: f"https://pictures.example/{file.sha256}.jpg")
    with outbox_session(platform, kept.append, post_id="p") as session:
        keys = {"instagram_account_id": account_id, "instagram_api_key": TOKEN}
        account = Account("char_1", "instagram", keys, session, dry_run=True)
        watch = Watched()
        remote = platform.stage(account, snapshot, {}, addresses, watch)
        done = platform.publish(account, snapshot, remote, watch)
        assert platform.check(account).ok
    assert done.id.startswith("dryrun-") and done.permalink is None
    posts = [r for r in kept if r.method == "POST"]
    assert len(posts) == (1 if pictures == 1 else pictures + 1) + 1
    assert all(request.url.startswith("https://graph.instagram.com/v26.0/") for request in kept)
    parent = posts[-2].body
    assert parent.get("caption") == (None if kind == "story" else CAPTION)
    assert posts[-1].body == {"creation_id": remote["container"]}
    assert len({r.body["image_url"] for r in posts if "image_url" in r.body}) == pictures
    assert TOKEN not in json.dumps([request.to_json() for request in kept])
