"""The posts service on real stores, with platforms that only declare themselves and a clock the test sets."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import requests
from PIL import Image

from dalla import text_length
from dalla.engines.faces.base import Face
from dalla.events import EventBus
from dalla.records.character import Character, Prompt, ScheduledTask, TrashedCharacter
from dalla.records.platform import Credential, ImageRules, Issue, PlatformInfo, TextRules
from dalla.records.post import Post
from dalla.services.characters import Characters
from dalla.services.gallery import Gallery
from dalla.services.platform_access import PlatformAccess
from dalla.services.posts import Posts
from dalla.settings import Settings
from dalla.stores.accounts import SqlAccounts
from dalla.stores.blobs import FileBlobs
from dalla.stores.documents_json import JsonDocuments
from dalla.stores.leases import SqlLeases
from dalla.stores.library import Library
from dalla.stores.media import SqlMedia
from dalla.stores.posts import SqlPosts
from dalla.stores.secrets import FileSecrets
from dalla.times import iso

KEYS = {"instagram_account_id": "178400", "instagram_api_key": "token-123456", "twitter_access_token": "token-654321"}

INSTAGRAM = PlatformInfo(
    "instagram",
    "Instagram",
    ("single", "carousel", "story"),
    (
        Credential("instagram_account_id", "account id", secret=False),
        Credential("instagram_api_key", "access token"),
    ),
    ImageRules(0.8, 1.91, ("4:5", "1:1", "1.91:1"), 320, 1440, 1920, 8_000_000, 10, "9:16"),
    TextRules(2200, "characters", max_hashtags=30, warn_hashtags=5, max_mentions=20),
    needs_public_url=True,
)
TWITTER = PlatformInfo(
    "twitter",
    "X",
    ("single", "carousel"),
    (Credential("twitter_access_token", "access token"),),
    ImageRules(0.3, 3.0, ("1:1", "16:9"), 100, 4096, 4096, 5_000_000, 4),
    TextRules(280, "weighted"),
)


class Declared:
    """A platform that only says what it is."""

    def __init__(self, info: PlatformInfo) -> None:
        self.info = info

    def check_text(self, kind: str, caption: str, alt_texts: list[str]) -> list[Issue]:
        return [] if kind == "story" else text_length.issues(self.info.label, caption, self.info.text)


class Priced(Declared):
    def estimate(self, caption: str, alt_texts: list[str]) -> float:
        return 0.015 + 0.005 * len(alt_texts)


class Faces:
    """Finds what a test put there, and counts how often it was asked."""

    def __init__(self) -> None:
        self.faces: list[Face] = []
        self.asked = 0

    def available(self) -> bool:
        return True

    def find(self, image: Any) -> list[Face]:
        self.asked += 1
        return self.faces


class Hosting:
    def __init__(self) -> None:
        self.remedy: str | None = None

    def describe(self) -> dict[str, Any]:
        if self.remedy:
            return {"mode": "none", "detail": "No public address is set up.", "remedy": self.remedy}
        return {"mode": "own", "detail": "fine", "remedy": None}


class Desk:
    """Everything a test of posts needs, on one data folder."""

    def __init__(self, root: Path, settings: Settings) -> None:
        data = root / "data"
        data.mkdir(exist_ok=True)
        self.settings = settings
        self.now = datetime.now(UTC).replace(microsecond=0)
        self.library = Library.open(data / "dalla.db")
        self.events = EventBus()
        self.store, self.accounts, self.leases = (
            SqlPosts(self.library),
            SqlAccounts(self.library),
            SqlLeases(self.library),
        )
        media = SqlMedia(self.library)
        self.blobs = FileBlobs(data)
        self.characters = Characters(
            JsonDocuments(data / "characters.json", Character, "character"),
            JsonDocuments(data / "trash.json", TrashedCharacter, "deleted character"),
            FileSecrets(data / "secrets", None),
            JsonDocuments(data / "prompts.json", Prompt, "prompt"),
            JsonDocuments(data / "scheduler.json", ScheduledTask, "task"),
            media,
            self.events,
            {},
        )
        self.gallery = Gallery(media, self.blobs, self.events)
        loaded: dict[str, Any] = {"instagram": Declared(INSTAGRAM), "twitter": Priced(TWITTER)}

        def load(name: str) -> Any:
            from dalla.errors import NotFound

            if name not in loaded:
                raise NotFound(f"There is no platform called '{name}'.")
            return loaded[name]

        self.platforms = PlatformAccess(
            self.characters,
            self.accounts,
            self.store,
            loaded,
            load,
            requests.Session,
            lambda *a, **k: requests.Session(),
        )
        self.faces, self.hosting = Faces(), Hosting()
        self.posts = Posts(
            settings,
            self.store,
            self.accounts,
            self.leases,
            self.characters,
            self.gallery,
            self.blobs,
            self.platforms,
            self.faces,
            self.hosting,
            self.events,
            now=lambda: self.now,
        )
        self.luna = self.character()

    def character(self, name: str = "Luna", **more: Any) -> Character:
        return self.characters.create({"name": name, **KEYS, **more})

    def picture(self, size: tuple[int, int] = (1080, 1350), color: Any = (200, 80, 20)) -> str:
        """Put a picture into the gallery; the same colour and size is the same one."""
        return self.gallery.add_file(picture_bytes(size, color), name="a.png", character_id=self.luna.id)[0].id

    def draft(self, **more: Any) -> Post:
        values = {"character_id": self.luna.id, "platform": "instagram", "caption": "Good morning", **more}
        if "media_ids" not in values:
            values["media_ids"] = [self.picture()]
        return self.posts.create(**values)

    def at(self, **delta: float) -> str:
        return iso(self.now + timedelta(**delta))

    def put(self, post: Post, status: str, **fields: Any) -> Post:
        """Bring a post into a state as the publisher would."""
        for step in _WAYS[status]:
            current = self.store.get(post.id).status
            if current != step:
                extra = {"platform_post_id": "p1", "published_at": iso(self.now)} if step == "published" else {}
                flight = {"lease_owner": "w", "lease_until": self.at(minutes=10)} if step == "claimed" else {}
                self.store.transition(post.id, step, **{**extra, **flight, **(fields if step == status else {})})
        return self.store.get(post.id)

    def told(self, kind: str = "post.updated") -> list[dict[str, Any]]:
        return [event.data for event in self.events.since(0, 0)[0] if event.type == kind]

    def close(self) -> None:
        self.library.close()


_WAYS: dict[str, Sequence[str]] = {
    "draft": (),
    "approved": ("approved",),
    "scheduled": ("scheduled",),
    "claimed": ("scheduled", "claimed"),
    "uploading": ("scheduled", "claimed", "uploading"),
    "publishing": ("scheduled", "claimed", "publishing"),
    "published": ("scheduled", "claimed", "publishing", "published"),
    "unconfirmed": ("scheduled", "claimed", "publishing", "unconfirmed"),
    "failed": ("scheduled", "claimed", "failed"),
    "dry_run": ("scheduled", "claimed", "dry_run"),
    "missed": ("missed",),
    "cancelled": ("cancelled",),
}


def picture_bytes(size: tuple[int, int] = (1080, 1350), color: Any = (200, 80, 20)) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", size, color).save(out, "PNG")
    return out.getvalue()


def age(path: Path, seconds: float) -> None:
    """Let a file look as if it had been written that long ago."""
    moment = path.stat().st_mtime - seconds
    os.utime(path, (moment, moment))
