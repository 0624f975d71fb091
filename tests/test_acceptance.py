"""The whole path, from the API to pretend Instagram, X and Gemini servers, when things go wrong on the way.

What is counted is what became visible on the platform, never what the app says about itself.
"""

from __future__ import annotations

import io
import random
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import requests
from PIL import Image
from werkzeug.serving import make_server

from app import create_app
from dalla.times import iso
from dalla.wiring import Container
from tests.conftest import Client, make_settings, png, upload
from tests.fakes.gemini import GeminiFake
from tests.fakes.graph import ACCOUNT, TOKEN, GraphFake
from tests.fakes.x import XFake

RESTING = {"published", "failed", "unconfirmed", "missed", "cancelled", "dry_run"}


class World:
    """A running app between pretend platforms; its clock is moved by the test."""

    def __init__(self, root: Path, graph: GraphFake, x: XFake, gemini: GeminiFake) -> None:
        self.graph, self.x, self.gemini = graph, x, gemini
        self.ahead = timedelta()
        self.server = make_server("127.0.0.1", 0, lambda e, s: self.app(e, s), threaded=True)
        address = f"http://127.0.0.1:{self.server.port}"
        settings = make_settings(
            root,
            INSTAGRAM_GRAPH_URL=graph.url,
            X_API_URL=x.url,
            GEMINI_BASE_URL=gemini.url,
            PUBLIC_BASE_URL=address,
            DALLA_MIN_GAP_MINUTES="0",
        )
        self.container = Container(settings, environ={})
        self.app = create_app(settings, container=self.container)
        self.app.test_client_class = Client
        self.client = self.app.test_client()
        publishing = self.container.publishing
        for part in (publishing, publishing._drive, *self.container.platforms.all()):
            part._now = self.now
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.container.jobs.start()

    def now(self) -> datetime:
        return datetime.now(UTC) + self.ahead

    def forward(self, **by: float) -> None:
        """Move the clocks of the app and of the platforms."""
        self.ahead += timedelta(**by)
        self.graph.advance(seconds=timedelta(**by).total_seconds())
        self.x.offset += timedelta(**by).total_seconds()

    def character(self, name: str = "Luna", token: str = TOKEN, account: str = ACCOUNT) -> str:
        keys = {k.split("_")[0] + "".join(w.title() for w in k.split("_")[1:]): v for k, v in self.x.user.keys.items()}
        body = {"name": name, "instagramAccountId": account, "instagramApiKey": token, **keys}
        return self.client.post("/api/characters", json=body).json["id"]

    def picture(self, size: tuple[int, int] = (640, 800), color: tuple[int, ...] = (120, 60, 200)) -> str:
        answer = upload(self.client, png(color, size)).json
        return (answer.get("items") or [answer])[0]["id"]

    def post(self, character: str, platform: str = "instagram", **more: Any) -> str:
        body = {
            "characterId": character,
            "platform": platform,
            "mediaIds": [self.picture()],
            "caption": "Into the woods",
            "scheduledAt": iso(datetime.now(UTC) + timedelta(seconds=1)),
            "publish": "schedule",
            "dryRun": False,
        }
        answer = self.client.post("/api/posts", json=body | more)
        assert answer.status_code == 201, answer.json
        return answer.json["id"]

    def read(self, id: str) -> dict[str, Any]:
        return self.client.get(f"/api/posts/{id}").json

    def tick(self) -> None:
        """One beat of the clock, to its end."""
        self.container.publishing.tick()
        end = time.monotonic() + 30
        while (self.container.publishing._working or self.container.post_rows.owners()) and time.monotonic() < end:
            time.sleep(0.01)

    def until_rest(self, id: str, beats: int = 30, seconds: float = 65) -> dict[str, Any]:
        self.forward(seconds=2)
        for _ in range(beats):
            self.tick()
            post = self.read(id)
            if post["status"] in RESTING:
                return post
            self.forward(seconds=seconds)
        return post

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.container.close()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with GraphFake({ACCOUNT: TOKEN}) as graph, XFake() as x, GeminiFake() as gemini:
        world = World(tmp_path, graph, x, gemini)
        yield world
        world.close()


def test_a_portrait_from_the_studio_is_fitted_and_taken(world: World) -> None:
    """832x1216 is outside what Instagram's API takes; the strict fake checks ratio, baseline and size."""
    id = world.post(world.character(), mediaIds=[world.picture((832, 1216))])
    assert world.until_rest(id)["status"] == "published"
    (live,) = world.graph.published
    assert live["caption"] == "Into the woods" and live["made_with_ai"]
    (file,) = world.read(id)["files"]
    assert file["width"] / file["height"] == pytest.approx(0.8, abs=0.003)


def test_the_preview_is_what_goes_out(world: World) -> None:
    character, media = world.character(), world.picture((1000, 1400))
    body = {"characterId": character, "platform": "instagram", "mediaIds": [media], "caption": "x"}
    seen = world.client.post("/api/posts/check", json=body).json["platforms"]["instagram"]["files"][0]
    shown = world.client.get(seen["url"]).data
    id = world.post(character, mediaIds=[media])
    world.until_rest(id)
    assert world.graph.fetched and world.read(id)["files"][0]["sha256"] == seen["sha256"]
    assert sha256(shown).hexdigest() == seen["sha256"]


@pytest.mark.parametrize(
    "fault",
    [
        {"cut": True, "effect": True},
        {"code": 4, "subcode": 2207051, "effect": True},
        {"http": 502, "text": "<html>Bad Gateway</html>", "effect": True},
        {"code": 2, "http": 500, "effect": True},
    ],
    ids=["connection lost", "4/2207051 although live", "proxy page", "server error"],
)
def test_an_unclear_answer_of_a_post_that_is_live(world: World, fault: dict[str, Any]) -> None:
    id = world.post(world.character())
    world.graph.fault("publish", **fault)
    post = world.until_rest(id)
    assert post["status"] == "published" and post["platformPostId"] == world.graph.published[0]["id"]
    assert len(world.graph.published) == 1


def test_an_answer_lost_before_the_effect_is_sent_again_once(world: World) -> None:
    id = world.post(world.character())
    world.graph.fault("publish", cut=True)
    assert world.until_rest(id)["status"] == "published"
    assert len(world.graph.published) == 1


def test_a_storm_of_unreadable_objects_does_not_stop_a_post(world: World) -> None:
    id = world.post(world.character())
    world.graph.fault("read", code=100, subcode=33, times=50)
    world.graph.fault("permalink", code=100, subcode=33, times=50)
    assert world.until_rest(id)["status"] == "published"
    assert len(world.graph.published) == 1


def test_a_picture_that_could_not_be_fetched_twice_goes_out_the_third_time(world: World) -> None:
    id = world.post(world.character())
    world.graph.fault("create", code=9004, subcode=2207052, times=2)
    assert world.until_rest(id)["status"] == "published"
    assert len(world.graph.published) == 1


def test_a_full_quota_waits_for_the_window(world: World) -> None:
    world.graph.quota_total = 1
    character = world.character()
    first, second = world.post(character), world.post(character, caption="Second")
    assert world.until_rest(first)["status"] == "published"
    world.tick()
    waiting = world.read(second)
    assert waiting["status"] == "scheduled" and waiting["dueAt"] > iso(world.now())
    world.forward(hours=25)
    assert world.until_rest(second)["status"] == "published"
    assert [post["caption"] for post in world.graph.published] == ["Into the woods", "Second"]


def test_a_dead_token_stops_one_account_and_tells_once(world: World) -> None:
    world.graph.add_account("17841400000000002", "IGAAother0123456789")
    luna, mara = world.character(), world.character("Mara", "IGAAother0123456789", "17841400000000002")
    first, second, other = world.post(luna), world.post(luna, caption="two"), world.post(mara)
    world.graph.set_token_state(TOKEN, "expired")
    world.forward(seconds=2)
    for _ in range(5):
        world.tick()
        world.forward(seconds=20)
    assert world.read(other)["status"] == "published"
    assert {world.read(first)["status"], world.read(second)["status"]} == {"scheduled"}
    notices = world.client.get("/api/notifications").json["items"]
    assert [n["kind"] for n in notices].count("account.stopped") == 1
    (need,) = [n for n in world.client.get("/api/home").json["needsYou"] if n["kind"] == "account"]
    assert need["href"].startswith("/connections.html")
    world.graph.set_token_state(TOKEN, "valid")
    assert world.client.post("/api/platforms/instagram/check", json={"characterId": luna}).json["status"] == "ok"
    assert world.until_rest(first)["status"] == world.until_rest(second)["status"] == "published"
    assert len(world.graph.published) == 3


def test_instagram_goes_out_and_only_x_is_tried_again(world: World) -> None:
    character = world.character()
    body = {"characterId": character, "platforms": ["instagram", "twitter"], "mediaIds": [world.picture()]}
    made = world.client.post("/api/posts", json=body | {"caption": "Both", "publish": "now", "dryRun": False}).json
    assert len(made["posts"]) == 2
    ids = {post["platform"]: post["id"] for post in made["posts"]}
    assert world.until_rest(ids["twitter"])["status"] == world.until_rest(ids["instagram"])["status"] == "published"
    world.x.fail_next("/2/media/upload", 503, times=1)
    made = world.client.post("/api/posts", json=body | {"caption": "Again", "publish": "now", "dryRun": False}).json
    ids = {post["platform"]: post["id"] for post in made["posts"]}
    assert world.until_rest(ids["instagram"])["status"] == "published"
    assert world.until_rest(ids["twitter"], seconds=90)["status"] == "published"
    assert [p["caption"] for p in world.graph.published] == ["Both", "Again"]
    assert [p["written"] for p in world.x.posted] == ["Both", "Again"]


def test_x_lost_the_answer_and_calls_the_repeat_a_duplicate(world: World) -> None:
    id = world.post(world.character(), "twitter")
    world.x.lose_answer()
    post = world.until_rest(id)
    assert post["status"] == "published" and post["platformPostId"] == world.x.posted[0]["id"]
    assert len(world.x.posted) == 1


def test_no_credits_stops_the_account_without_retries(world: World) -> None:
    world.x.credits = 0
    id = world.post(world.character(), "twitter")
    world.forward(seconds=2)
    for _ in range(6):
        world.tick()
        world.forward(minutes=10)
    assert len(world.x.calls("POST", "/2/tweets")) == 1
    assert world.read(id)["status"] == "scheduled" and not world.x.posted


def test_a_container_that_expired_overnight_is_made_again(world: World) -> None:
    id = world.post(world.character())
    world.graph.polls_until_finished = 10_000
    world.forward(seconds=2)
    world.tick()
    assert world.read(id)["status"] == "uploading"
    world.graph.polls_until_finished = 0
    world.forward(hours=25)
    assert world.until_rest(id)["status"] == "published"
    assert len(world.graph.published) == 1


def test_a_blocked_caption_is_composed_instead_and_says_so(world: World) -> None:
    world.container.settings.change({"geminiApiKey": world.gemini.key})
    world.gemini.next("block")
    answer = world.client.post(
        "/api/generate-caption", json={"characterId": world.character(), "prompt": "a cat on a roof"}
    ).json
    assert answer["provider"] == "composer" and answer["caption"] and "block" in answer["failure"]["detail"].lower()


def test_a_dry_run_goes_the_whole_way_and_nothing_leaves(world: World) -> None:
    character = world.client.post("/api/characters", json={"name": "Bare"}).json["id"]
    for platform in ("instagram", "twitter"):
        answer = world.client.post(
            f"/api/post-to-{platform}", json={"characterId": character, "mediaId": world.picture(), "caption": "Hello"}
        )
        assert answer.status_code == 200 and answer.json["status"] == "dry_run", answer.json
    outbox = world.client.get("/api/outbox").json["items"]
    assert any(r["url"].endswith("/media_publish") for r in outbox)
    assert any(r["url"].endswith("/2/tweets") for r in outbox)
    assert not world.graph.requests and not world.x.requests


def test_nothing_of_a_key_is_ever_shown(world: World) -> None:
    character = world.character()
    world.post(character)
    world.post(character, "twitter")
    world.graph.fault("create", code=100, subcode=None, message=f"Invalid token {TOKEN}")
    world.forward(seconds=2)
    for _ in range(3):
        world.tick()
        world.forward(seconds=70)
    secrets = [TOKEN, *world.x.user.keys.values()]
    for address in (
        "characters",
        "posts",
        "outbox",
        "platforms",
        "notifications",
        "tasks",
        "settings",
        "system/status",
        "home",
    ):
        text = world.client.get(f"/api/{address}").text
        assert not [s for s in secrets if s in text], address
    for post in world.client.get("/api/posts").json["items"]:
        text = world.client.get(f"/api/posts/{post['id']}").text
        assert not [s for s in secrets if s in text]


def test_only_prepared_pictures_are_served_under_the_public_name(world: World) -> None:
    world.container.settings._values["public_base_url"] = "https://pictures.example.org"
    for path in (
        "/",
        "/api/characters",
        "/static/js/main.js",
        "/public/",
        "/public/x.jpg",
        "/public/../api/characters",
    ):
        answer = world.client.get(path, headers={"Host": "pictures.example.org"})
        assert answer.status_code in (403, 404), path


def test_bad_posts_are_refused_with_a_reason(world: World) -> None:
    character, media = world.character(), world.picture()
    good = {"characterId": character, "mediaId": media, "caption": "ok"}
    for change, code, words in (
        ({"characterId": "char_none"}, 404, "character"),
        ({"caption": "x" * 3000}, 422, "2200"),
        ({"caption": " ".join(f"#tag{n}" for n in range(60))}, 422, "hashtags"),
        ({"mediaId": "media_none"}, 422, "picture"),
        ({"image": "not base64!"}, 422, "base64"),
    ):
        answer = world.client.post("/api/post-to-instagram", json=good | change)
        assert answer.status_code == code and words in answer.json["detail"].replace(",", ""), (change, answer.json)
    world.client.delete(f"/api/media/{media}")
    answer = world.client.post("/api/post-to-instagram", json=good)
    assert answer.status_code == 422 and "trash" in answer.json["detail"]
    assert not world.graph.published


def test_a_large_png_is_made_small_enough(world: World) -> None:
    noise = Image.frombytes("RGB", (1900, 1900), random.Random(1).randbytes(1900 * 1900 * 3))
    out = io.BytesIO()
    noise.save(out, "PNG", compress_level=0)
    assert len(out.getvalue()) > 10_000_000
    address = f"http://127.0.0.1:{world.server.port}/api/media"
    answer = requests.post(address, files={"file": ("a.png", out.getvalue(), "image/png")}, timeout=60).json()
    id = world.post(world.character(), mediaIds=[(answer.get("items") or [answer])[0]["id"]])
    assert world.until_rest(id)["status"] == "published"


def test_with_dry_run_on_nothing_at_all_leaves(world: World) -> None:
    world.container.settings.change({"geminiApiKey": world.gemini.key, "dryRun": True, "webhookPrivate": True})
    hook = {"url": f"{world.gemini.url}/hook", "events": ["post.published", "post.failed"]}
    assert world.client.post("/api/webhooks", json=hook).status_code == 201
    character, media = world.character(), world.picture()
    written = world.client.post("/api/generate-caption", json={"characterId": character, "mediaId": media}).json
    assert written["provider"] == "composer" and written["caption"]
    for platform in ("instagram", "twitter"):
        body = {"characterId": character, "mediaId": media, "caption": written["captions"][platform]}
        assert world.client.post(f"/api/post-to-{platform}", json=body).json["status"] == "dry_run"
    world.container.notices.emit("post.failed", {"postId": "post_1"})
    world.container.notices.tick()
    world.container.connections.tick()
    world.container.publishing.chores()
    assert not world.graph.requests and not world.x.requests and not world.gemini.requests
