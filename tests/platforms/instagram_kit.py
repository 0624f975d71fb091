"""What tests of the Instagram adapter need: a clock, pictures behind real addresses, a watch that remembers."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

from PIL import Image

from dalla.errors import Cancelled
from dalla.platforms.base import Account, NotReady, PlatformError
from dalla.platforms.instagram import Instagram
from dalla.platforms.session import live_session
from dalla.records.post import PostOptions, PreparedFile, Snapshot
from dalla.times import iso
from tests.conftest import make_settings
from tests.fakes.graph import ACCOUNT, TOKEN, GraphFake
from tests.fakes.server import Call, LoopbackFake, Reply

CAPTION = "Morning light ☀️ & coffee #luna #moon\nsecond line = 100% 日本"


def jpeg(size: tuple[int, int] = (400, 500), color: tuple[int, int, int] = (90, 120, 200), **save: Any) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", size, color).save(out, "JPEG", **save)
    return out.getvalue()


class Pictures(LoopbackFake):
    """A plain web server with pictures."""

    def __init__(self) -> None:
        super().__init__()
        self.pictures: dict[str, bytes] = {}
        self.content_type = "image/jpeg"

    def handle(self, call: Call) -> Reply:
        data = self.pictures.get(call.path.lstrip("/"))
        return Reply(200, data, {"Content-Type": self.content_type}) if data else Reply(404, "no")

    def add(self, data: bytes) -> PreparedFile:
        digest = sha256(data).hexdigest()
        self.pictures[f"{digest}.jpg"] = data
        return PreparedFile(
            media_id="media_1",
            key=f"posts/{digest[:2]}/{digest}.jpg",
            sha256=digest,
            width=400,
            height=500,
            size_bytes=len(data),
        )

    # dalla.platforms.base.Files
    def read(self, file: PreparedFile) -> bytes:
        return self.pictures[f"{file.sha256}.jpg"]

    def public_url(self, file: PreparedFile) -> str:
        return f"{self.url}/{file.sha256}.jpg"


class Watched:
    """A Watch that remembers; `remote` is what would be on disk."""

    def __init__(self) -> None:
        self.steps: list[tuple[str, str]] = []
        self.saves: list[dict[str, Any]] = []
        self.cancelled = False

    @property
    def remote(self) -> dict[str, Any]:
        return self.saves[-1] if self.saves else {}

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        try:
            yield
        except PlatformError as exc:
            self.steps.append((name, exc.cause))
            raise
        self.steps.append((name, "ok"))

    def save(self, remote: dict[str, Any]) -> None:
        import copy

        self.saves.append(copy.deepcopy(remote))

    def check_cancelled(self) -> None:
        if self.cancelled:
            raise Cancelled("stopped")


class Stage:
    """The adapter against the pretend Graph API, with the clock of the fake."""

    def __init__(self, tmp_path: Path, fake: GraphFake, pictures: Pictures, **env: str) -> None:
        self.fake, self.pictures, self.watch = fake, pictures, Watched()
        self.settings = make_settings(tmp_path, INSTAGRAM_GRAPH_URL=fake.url, **env)
        self.platform = Instagram(self.settings, now=fake.now, sleep=fake.advance)
        self.account = Account(
            "char_1",
            "instagram",
            {"instagram_account_id": ACCOUNT, "instagram_api_key": TOKEN},
            live_session((2, 5)),
        )
        self.remote: dict[str, Any] = {}
        self.waits: list[float] = []
        self.started = ""

    def snapshot(self, kind: str = "single", pictures: int = 1, caption: str = CAPTION, **more: Any) -> Snapshot:
        size = (360, 640) if kind == "story" else (400, 500)
        files = [self.pictures.add(jpeg(size, (10 * n, 80, 90))) for n in range(pictures)]
        options = PostOptions(**more.pop("options", {}))
        return Snapshot(platform="instagram", kind=kind, caption=caption, files=files, options=options, **more)

    def stage_once(self, snapshot: Snapshot) -> dict[str, Any]:
        """One call, as after a restart: only what was saved is known."""
        try:
            self.remote = self.platform.stage(self.account, snapshot, self.remote, self.pictures, self.watch)
        except (NotReady, PlatformError):
            self.remote = self.watch.remote
            raise
        return self.remote

    def stage(self, snapshot: Snapshot, calls: int = 60) -> dict[str, Any]:
        """Call until it is ready, letting the fake's clock run as long as it asks to wait."""
        for _ in range(calls):
            try:
                return self.stage_once(snapshot)
            except NotReady as wait:
                self.waits.append(wait.seconds)
                self.fake.advance(wait.seconds)
        raise AssertionError("never ready")

    def publish(self, snapshot: Snapshot) -> Any:
        self.started = iso(self.fake.now())
        try:
            return self.platform.publish(self.account, snapshot, self.remote, self.watch)
        finally:
            self.remote = self.watch.remote

    def look(self, snapshot: Snapshot, looks: int = 0) -> Any:
        return self.platform.look(self.account, snapshot, self.remote, self.started, looks, self.watch)

    def look_until_clear(self, snapshot: Snapshot, limit: int = 20) -> Any:
        for looks in range(limit):
            seen = self.look(snapshot, looks)
            if seen.state != "not_yet":
                return seen
            self.fake.advance(seen.seconds)
        raise AssertionError("never clear")
