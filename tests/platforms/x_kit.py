"""What the tests of X share: an account against the pretend X, pictures, and a watch that remembers."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from PIL import Image

from dalla.errors import Cancelled
from dalla.platforms.base import Account, PlatformError
from dalla.platforms.session import live_session
from dalla.records.post import PostOptions, PreparedFile, Snapshot
from tests.fakes.x import User, XFake


def jpeg(color: tuple[int, int, int] = (200, 80, 20), size: tuple[int, int] = (64, 48)) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", size, color).save(out, "JPEG")
    return out.getvalue()


class Files:
    """Prepared pictures in memory."""

    def __init__(self, *datas: bytes, mime: str = "image/jpeg") -> None:
        self.by_key = {hashlib.sha256(d).hexdigest(): d for d in datas}
        self.reads = 0
        self.files = [
            PreparedFile(
                media_id=f"m{i}",
                key=sha,
                sha256=sha,
                mime=mime,
                width=64,
                height=48,
                size_bytes=len(d),
            )
            for i, (sha, d) in enumerate((hashlib.sha256(d).hexdigest(), d) for d in datas)
        ]

    def read(self, file: PreparedFile) -> bytes:
        self.reads += 1
        return self.by_key[file.key]

    def public_url(self, file: PreparedFile) -> str:
        raise AssertionError("X needs no public address")


class Watcher:
    """Records steps and checkpoints; `cancelled` makes the next check raise."""

    def __init__(self) -> None:
        self.steps: list[tuple[str, str]] = []
        self.saved: list[dict[str, Any]] = []
        self.cancelled = False

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        try:
            yield
        except PlatformError as exc:
            self.steps.append((name, exc.cause))
            raise
        self.steps.append((name, "ok"))

    def save(self, remote: dict[str, Any]) -> None:
        import json

        self.saved.append(json.loads(json.dumps(remote)))

    def check_cancelled(self) -> None:
        if self.cancelled:
            raise Cancelled("stopped")


def account(fake: XFake, user: User | None = None, **keys: str) -> Account:
    return Account("luna", "twitter", {**(user or fake.user).keys, **keys}, live_session((5, 20)))


def snapshot(caption: str = "Morning light", files: Files | None = None, **more: Any) -> Snapshot:
    options = more.pop("options", PostOptions())
    return Snapshot(
        platform="twitter",
        kind=more.pop("kind", "single"),
        caption=caption,
        files=files.files if files else [],
        options=options,
        **more,
    )
