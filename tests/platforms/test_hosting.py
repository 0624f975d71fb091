"""Public addresses of prepared pictures: signed ones of this app, copies in a bucket, and the test of both."""

from __future__ import annotations

import socket
from datetime import UTC, datetime, timedelta
from hashlib import sha256

import pytest
import requests

from dalla.errors import DallaError, NotConfigured, NotFound, Unavailable
from dalla.platforms.hosting import KEY_NAME, Hosting
from dalla.platforms.hosting_probe import AGENT
from dalla.records.post import PreparedFile
from dalla.stores.blobs import FileBlobs
from dalla.stores.secrets import FileSecrets
from tests.conftest import make_settings
from tests.fakes.bucket import ACCESS_KEY, SECRET_KEY, BucketFake
from tests.fakes.graph import GraphFake
from tests.fakes.server import Call, LoopbackFake, Reply
from tests.platforms.instagram_kit import Stage, jpeg

REAL = {"INSTAGRAM_GRAPH_URL": "https://graph.instagram.com"}
PRETEND = {"INSTAGRAM_GRAPH_URL": "http://127.0.0.1:9"}


class Site(LoopbackFake):
    """What stands at the public address; tests bend it."""

    def __init__(self) -> None:
        super().__init__()
        self.hosting: Hosting | None = None
        self.robots: Reply = Reply(404, "")
        self.bend = lambda reply: reply

    def handle(self, call: Call) -> Reply:
        if call.path == "/robots.txt":
            return self.robots
        token = call.path.removeprefix("/public/").removesuffix(".jpg")
        try:
            return self.bend(Reply(200, self.hosting.read(token), {"Content-Type": "image/jpeg"}))
        except DallaError:
            return Reply(404, "no")


@pytest.fixture
def clock():
    return {"now": datetime(2026, 11, 21, 12, tzinfo=UTC)}


@pytest.fixture
def make(tmp_path, clock):
    def make(**env):
        settings = make_settings(tmp_path, **env)
        blobs, secrets = FileBlobs(tmp_path / "data"), FileSecrets(tmp_path / "data" / "secrets")
        return Hosting(settings, blobs, secrets, now=lambda: clock["now"])

    return make


@pytest.fixture
def site(make):
    with Site() as server:
        server.hosting = make(PUBLIC_BASE_URL=server.url, **PRETEND)
        yield server


def keep(hosting: Hosting, data: bytes | None = None) -> PreparedFile:
    data = data or jpeg()
    digest = sha256(data).hexdigest()
    key = f"posts/{digest[:2]}/{digest}.jpg"
    hosting._blobs.put(key, data)
    return PreparedFile(media_id="m", key=key, sha256=digest, width=400, height=500, size_bytes=len(data))


def token_of(url: str) -> str:
    return url.rpartition("/public/")[2].removesuffix(".jpg")


# ---------------------------------------------------------------- own address


def test_modes(make):
    assert make().mode() == "none"
    assert make(PUBLIC_BASE_URL="https://dalla.example.org").mode() == "own"
    bucket = {"S3_ENDPOINT": "https://s3.example.org", "S3_BUCKET": "b"}
    assert make(**bucket, PUBLIC_BASE_URL="https://dalla.example.org").mode() == "bucket"
    assert make(S3_ENDPOINT="https://s3.example.org").mode() == "none"
    for hosting in (make(), make(**bucket), make(PUBLIC_BASE_URL="https://dalla.example.org")):
        assert set(hosting.describe()) == {"mode", "detail", "remedy"} and hosting.describe()["detail"]


def test_an_address_leads_to_its_picture_until_it_ends(make, clock):
    hosting = make(PUBLIC_BASE_URL="https://dalla.example.org/", DALLA_PUBLIC_URL_MINUTES="60", **REAL)
    file = keep(hosting)
    url = hosting.public_url(file)
    assert url.startswith("https://dalla.example.org/public/") and url.endswith(".jpg") and file.sha256 not in url
    assert hosting.resolve(token_of(url)) == file.key and hosting.read(token_of(url)) == jpeg()
    assert make(PUBLIC_BASE_URL="https://dalla.example.org").resolve(token_of(url)) == file.key  # after a restart
    clock["now"] += timedelta(minutes=61)
    with pytest.raises(NotFound):
        hosting.resolve(token_of(url))


def test_no_other_token_leads_anywhere(make):
    hosting = make(PUBLIC_BASE_URL="https://dalla.example.org", **REAL)
    with pytest.raises(NotFound):
        hosting.resolve("anything")  # before there is a key
    token = token_of(hosting.public_url(keep(hosting)))
    for bad in (
        "",
        "x",
        token[:-1],
        token[:-2] + "xx",
        "." + token,
        token + ".",
        "../characters",
        "a" * 5000,
        "é",
        "\0",
    ):
        with pytest.raises(NotFound):
            hosting.resolve(bad)
    hosting._secrets.put(KEY_NAME, "another key")
    with pytest.raises(NotFound):
        hosting.resolve(token)


@pytest.mark.parametrize(
    "payload",
    [
        ["a" * 63, 9e12],
        ["../" + "a" * 61, 9e12],
        ["A" * 64, 9e12],
        [5, 9e12],
        "x",
        {"a": 1},
        ["a" * 64, "x"],
        ["a" * 64],
    ],
)
def test_a_signed_token_of_another_form_is_refused(make, payload):
    from itsdangerous import URLSafeSerializer

    hosting = make(PUBLIC_BASE_URL="https://dalla.example.org", **REAL)
    keep(hosting)
    key = hosting._key()
    with pytest.raises(NotFound):
        hosting.resolve(URLSafeSerializer(key, salt="public-picture").dumps(payload))


def test_only_jpegs_are_read(make):
    hosting = make(PUBLIC_BASE_URL="https://dalla.example.org", **REAL)
    with pytest.raises(NotFound):
        hosting.read(token_of(hosting.public_url(keep(hosting, b"\x89PNG rest"))))


def test_a_picture_that_is_gone(make):
    hosting = make(PUBLIC_BASE_URL="https://dalla.example.org", **REAL)
    file = keep(hosting)
    token = token_of(hosting.public_url(file))
    hosting._blobs.delete(file.key)
    with pytest.raises(NotFound):
        hosting.public_url(file)
    with pytest.raises(NotFound):
        hosting.read(token)


@pytest.mark.parametrize(
    "base",
    [
        "http://dalla.example.org",
        "https://localhost:5050",
        "https://127.0.0.1",
        "http://127.0.0.1:5050",
        "https://192.168.1.4",
        "https://10.0.0.1",
        "https://[fe80::1]",
        "https://nas",
        "https://box.local",
        "https://dalla.internal",
    ],
)
def test_addresses_instagram_cannot_reach_are_refused(make, base):
    hosting = make(PUBLIC_BASE_URL=base, **REAL)
    with pytest.raises(NotConfigured) as caught:
        hosting.public_url(keep(hosting))
    assert "PUBLIC_BASE_URL" in caught.value.detail and caught.value.remedy
    assert hosting.describe()["remedy"] and not hosting.check()["ok"]


def test_without_any_hosting_the_remedy_names_the_settings(make):
    hosting = make()
    with pytest.raises(NotConfigured) as caught:
        hosting.public_url(keep(hosting))
    assert "PUBLIC_BASE_URL" in caught.value.remedy and "S3_ENDPOINT" in caught.value.remedy
    assert hosting.check()["steps"][0]["remedy"] == caught.value.remedy
    assert hosting.pretend_url(keep(hosting)).startswith("https://")
    assert hosting.clean() == 0


def test_loopback_is_allowed_only_where_the_graph_api_is_loopback_too(make):
    rehearsal = make(PUBLIC_BASE_URL="http://127.0.0.1:5050", **PRETEND)
    assert rehearsal.public_url(keep(rehearsal)).startswith("http://127.0.0.1:5050/public/")
    with pytest.raises(NotConfigured):
        make(PUBLIC_BASE_URL="http://dalla.example.org", **PRETEND).public_url(keep(rehearsal))


# ---------------------------------------------------------------- test of the address


def steps(result):
    return {step["name"]: step for step in result["steps"]}


def test_everything_is_fine(site):
    site.robots = Reply(200, "User-agent: *\nDisallow: /\n\nUser-agent: facebookexternalhit\nAllow: /public/\n")
    result = site.hosting.check()
    assert result["ok"] and result["mode"] == "own" and result["url"].startswith(site.url)
    assert [s["name"] for s in result["steps"]] == ["address", "dns", "fetch", "type", "picture", "robots"]
    assert all(s["ok"] and s["remedy"] is None for s in result["steps"])
    for call in site.requests:
        assert call.headers["User-Agent"] == AGENT
        assert not {"Cookie", "Authorization"} & set(call.headers)


@pytest.mark.parametrize(
    "reply, step, word",
    [
        (Reply(302, b"", {"Location": "/login"}), "fetch", "login"),
        (Reply(302, b"", {"Location": "https://team.cloudflareaccess.example/x"}), "fetch", "Cloudflare"),
        (Reply(401, "<html>"), "fetch", "login"),
        (Reply(403, "<html>"), "fetch", "facebookexternalhit"),
        (Reply(404, "<html>"), "fetch", "/public/"),
        (Reply(502, "<html>"), "fetch", "tunnel"),
        (Reply(200, "<html>You are about to visit</html>"), "type", "ngrok"),
        (Reply(200, jpeg()), "type", "rewriting"),
        (Reply(200, b"\x89PNG", {"Content-Type": "image/jpeg"}), "picture", "private window"),
        (Reply(200, jpeg(color=(1, 2, 3)), {"Content-Type": "image/jpeg"}), "picture", "optimisation"),
        (Reply(0), "fetch", "tunnel"),
    ],
)
def test_each_failing_step_names_its_fix(site, reply, step, word):
    site.bend = lambda _: reply
    result = site.hosting.check()
    assert not result["ok"] and not steps(result)[step]["ok"] and word in steps(result)[step]["remedy"]


@pytest.mark.parametrize(
    "robots, ok",
    [
        ("User-agent: *\nDisallow: /", False),
        ("User-agent: facebookexternalhit\nDisallow: /public", False),
        ("User-agent: GPTBot\nDisallow: /", True),
        ("<html>not found</html>", True),
    ],
)
def test_robots(site, robots, ok):
    site.robots = Reply(200, robots)
    result = site.hosting.check()
    assert steps(result)["robots"]["ok"] is ok and result["ok"] is ok
    assert ok or "robots.txt" in steps(result)["robots"]["remedy"]


def test_nobody_listens(site):
    site.stop()
    result = site.hosting.check()
    assert not steps(result)["fetch"]["ok"] and "running" in steps(result)["fetch"]["remedy"]


@pytest.mark.parametrize(
    "address, ok", [("192.168.1.4", False), ("127.0.0.1", False), ("::1", False), ("8.8.8.8", True)]
)
def test_names_that_lead_inside(make, monkeypatch, address, ok):
    hosting = make(PUBLIC_BASE_URL="https://dalla.example.org", **REAL)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [(2, 1, 6, "", (address, 443))])
    monkeypatch.setattr("dalla.platforms.hosting_probe.fetch", lambda url: "stopped here.")
    found = steps(hosting.check())
    assert found["dns"]["ok"] is ok and ("fetch" in found) is ok


def test_names_nobody_knows(make, monkeypatch):
    def unknown(*_, **__):
        raise socket.gaierror("no")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    found = steps(make(PUBLIC_BASE_URL="https://dalla.example.org", **REAL).check())
    assert not found["dns"]["ok"] and "spelling" in found["dns"]["remedy"]


# ---------------------------------------------------------------- bucket


@pytest.fixture
def bucket():
    with BucketFake() as server:
        yield server


def bucket_env(fake: BucketFake, **env: str) -> dict[str, str]:
    keys = {"S3_ENDPOINT": fake.url, "S3_BUCKET": fake.bucket, "S3_ACCESS_KEY": ACCESS_KEY, "S3_SECRET_KEY": SECRET_KEY}
    return {**keys, **PRETEND, **env}


def test_a_picture_is_uploaded_once_and_read_by_a_signed_address(make, bucket):
    hosting = make(**bucket_env(bucket, DALLA_PUBLIC_URL_MINUTES="30"))
    file = keep(hosting)
    url = hosting.public_url(file)
    assert hosting.public_url(file) and bucket.puts == 1
    answer = requests.get(url, timeout=5)
    assert answer.content == jpeg() and answer.headers["Content-Type"] == "image/jpeg"
    assert requests.get(url.partition("?")[0], timeout=5).status_code == 403
    assert requests.get(url.replace("Expires=1800", "Expires=999999"), timeout=5).status_code == 403
    bucket.advance(seconds=1801)
    assert requests.get(url, timeout=5).status_code == 403
    assert SECRET_KEY not in url


def test_a_public_bucket(make, bucket):
    bucket.public = True
    hosting = make(**bucket_env(bucket, S3_PUBLIC_URL=f"{bucket.url}/{bucket.bucket}"))
    file = keep(hosting)
    url = hosting.public_url(file)
    assert url == f"{bucket.url}/pictures/dalla/{file.sha256}.jpg" == hosting.pretend_url(file)
    assert requests.get(url, timeout=5).content == jpeg()
    assert hosting.check()["ok"] and hosting.describe()["detail"]


def test_the_preflight_of_a_private_bucket(make, bucket):
    result = make(**bucket_env(bucket)).check()
    assert result["ok"] and result["mode"] == "bucket", result


def test_a_dry_run_uploads_nothing(make, bucket):
    hosting = make(**bucket_env(bucket))
    assert hosting.pretend_url(keep(hosting)) and bucket.requests == []


@pytest.mark.parametrize(
    "env, word",
    [
        ({"S3_SECRET_KEY": "wrong"}, "secret key"),
        ({"S3_ACCESS_KEY": "wrong"}, "access key"),
        ({"S3_BUCKET": "nothing"}, "does not exist"),
        ({"S3_REGION": "eu-west-1"}, "region"),
        ({"S3_ACCESS_KEY": ""}, "missing"),
    ],
)
def test_wrong_settings_of_a_bucket_are_told_apart(make, bucket, env, word):
    hosting = make(**bucket_env(bucket, **env))
    with pytest.raises(NotConfigured) as caught:
        hosting.public_url(keep(hosting))
    assert word in caught.value.detail and caught.value.remedy and SECRET_KEY not in str(caught.value)
    result = hosting.check()
    assert not result["ok"] and word in result["steps"][0]["detail"]


def test_a_bucket_that_does_not_answer(make, bucket):
    hosting = make(**bucket_env(bucket))
    file = keep(hosting)
    bucket.fail_next("/", 503, times=100)
    with pytest.raises(Unavailable):
        hosting.public_url(file)
    bucket._failures.clear()
    assert hosting.public_url(file)
    bucket.stop()
    with pytest.raises(Unavailable):
        hosting.public_url(file)


def test_a_bucket_of_this_network_is_refused_for_the_real_instagram(make, bucket):
    with pytest.raises(NotConfigured) as caught:
        make(**{**bucket_env(bucket), **REAL}).public_url(keep(make()))
    assert "S3_ENDPOINT" in caught.value.detail and bucket.requests == []


def test_old_copies_are_removed_and_nothing_else(make, bucket, clock):
    hosting = make(**bucket_env(bucket))
    old = keep(hosting, jpeg(color=(1, 1, 1)))
    hosting.public_url(old)
    new = keep(hosting, jpeg(color=(2, 2, 2)))
    hosting.public_url(new)
    clock["now"] = datetime.now(UTC)
    bucket.objects[f"dalla/{old.sha256}.jpg"].at = clock["now"] - timedelta(days=8)
    bucket.objects["somebody/else.jpg"] = bucket.objects[f"dalla/{old.sha256}.jpg"]
    assert hosting.clean(days=7) == 1
    assert set(bucket.objects) == {f"dalla/{new.sha256}.jpg", "somebody/else.jpg"}


def test_a_dry_run_leaves_the_bucket_alone(make, bucket):
    hosting = make(**bucket_env(bucket), DALLA_DRY_RUN="true")
    assert hosting.clean(days=7) == 0 and bucket.requests == []


def test_instagram_fetches_from_the_bucket(tmp_path, make, bucket):
    hosting = make(**bucket_env(bucket))
    with GraphFake() as fake:

        class Files:
            pictures = {}

            def add(self, data):
                return keep(hosting, data)

            def public_url(self, file):
                return hosting.public_url(file)

        ig = Stage(tmp_path, fake, Files())
        snapshot = ig.snapshot()
        ig.stage(snapshot)
        ig.publish(snapshot)
        assert len(fake.published) == 1 and fake.fetched[0].startswith(bucket.url)
        ig.account.session.close()
