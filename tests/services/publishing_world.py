"""A platform in memory with a script, and a publisher on a real database and a clock that the test moves."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import requests

from dalla.errors import DallaError
from dalla.events import EventBus
from dalla.ids import new_id
from dalla.jobs.local import LocalQueue
from dalla.platforms.base import Account, Check, Look, NotReady, PlatformError, Published
from dalla.records.character import Character, Prompt, ScheduledTask, TrashedCharacter
from dalla.records.platform import Credential, ImageRules, Issue, PlatformInfo, TextRules
from dalla.records.post import Post, PreparedFile, Snapshot
from dalla.services.characters import Characters
from dalla.services.gallery import Gallery
from dalla.services.pauses import Pauses
from dalla.services.platform_access import PlatformAccess
from dalla.services.publishing import Publishing
from dalla.settings import Settings
from dalla.stores.accounts import SqlAccounts
from dalla.stores.blobs import FileBlobs
from dalla.stores.documents_json import JsonDocuments
from dalla.stores.leases import SqlLeases
from dalla.stores.library import Library
from dalla.stores.media import SqlMedia
from dalla.stores.posts import SqlPosts
from dalla.stores.secrets import FileSecrets
from dalla.stores.tasks import SqlTasks
from dalla.times import iso

START = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
IMAGES = ImageRules(0.8, 1.91, ("4:5",), 320, 1440, 1800, 8_000_000, 10)
TEXT = TextRules(2200, "characters")


class Killed(BaseException):
    """The process ends here: nothing after it runs."""


class FakePlatform:
    """Counts effects. `script` holds what the next calls of `publish` do; default "ok"."""

    def __init__(self, name: str) -> None:
        keys = {"instagram": "instagram_api_key", "twitter": "twitter_access_token"}
        label = {"instagram": "Instagram", "twitter": "X"}[name]
        self.info = PlatformInfo(name, label, ("single",), (Credential(keys[name], "key"),), IMAGES, TEXT)
        self.live: list[str] = []  # captions that are out there
        self.script: list[Any] = []
        self.stage_script: list[Any] = []
        self.looks: list[Any] = []
        self.staged = 0
        self.published_calls = 0
        self.lock = threading.Lock()

    def check_text(self, kind: str, caption: str, alt_texts: list[str]) -> list[Issue]:
        return []

    def stage(self, account: Account, snapshot: Snapshot, remote: dict[str, Any], files: Any, watch: Any) -> Any:
        with watch.step("upload"):
            if self.stage_script:
                step = self.stage_script.pop(0)
                if isinstance(step, BaseException):
                    raise step
                if callable(step):
                    step()
            if "container" not in remote:
                self.staged += 1
                remote = {**remote, "container": f"c{self.staged}"}
                watch.save(remote)
        return remote

    def publish(self, account: Account, snapshot: Snapshot, remote: dict[str, Any], watch: Any) -> Published:
        self.published_calls += 1
        if account.dry_run:
            return Published("dry-run")
        step = self.script.pop(0) if self.script else "ok"
        if isinstance(step, BaseException):
            raise step
        if step == "die_before":
            raise Killed
        if step != "lost_before":
            with self.lock:
                self.live.append(snapshot.caption)
        if step == "die_after":
            raise Killed
        if callable(step):
            step()
        if step in ("lost_after", "lost_before"):
            raise PlatformError("no answer", platform=self.info.name, cause="lost", action="retry", effect="unknown")
        return Published(f"id{len(self.live)}", None if step == "no_link" else f"https://p.example/{len(self.live)}")

    def look(self, account: Account, snapshot: Snapshot, remote: Any, started_at: str, looks: int, watch: Any) -> Look:
        if self.looks:
            step = self.looks.pop(0)
            if isinstance(step, BaseException):
                raise step
            return step
        if snapshot.caption in self.live:
            n = self.live.index(snapshot.caption) + 1
            return Look("published", Published(f"id{n}", f"https://p.example/{n}"))
        return Look("not_there")

    def permalink(self, account: Account, id: str) -> str | None:
        return f"https://p.example/later/{id}"

    def check(self, account: Account) -> Check:
        return Check(True, "fine")

    def refresh(self, account: Account, now: Any, issued_at: Any, expires_at: Any) -> None:
        return None

    def pretend(self, method: str, url: str, body: bytes | None) -> tuple[int, dict[str, Any]]:
        return 200, {}


class FakePosts:
    """The part of services/posts.py that publishing uses."""

    def __init__(self, store: SqlPosts) -> None:
        self.store = store
        self.issues: list[Issue] = []

    def check(self, post: Post) -> list[Issue]:
        return self.issues

    def prepare(self, post: Post) -> Post:
        files = [
            PreparedFile(media_id=m, key=f"posts/{m}.jpg", sha256=m, width=8, height=8, size_bytes=9)
            for m in post.media_ids
        ]
        return post.with_(files=files)


class Told:
    """Notices that were given."""

    def __init__(self) -> None:
        self.open: dict[str, str] = {}
        self.kinds: list[str] = []
        self.events: list[str] = []
        self.used: list[tuple[str, str, str]] = []

    def notify(self, kind: str, title: str, detail: str = "", *, key: str = "", **more: Any) -> None:
        self.kinds.append(kind)
        self.open[key] = f"{title}: {detail}"

    def resolve(self, key: str) -> None:
        self.open.pop(key, None)

    def emit(self, event: str, data: dict[str, Any]) -> None:
        self.events.append(event)

    def mark_used(self, id: str, type: str, ref_id: str) -> None:
        self.used.append((id, type, ref_id))


class Nowhere:
    def public_url(self, file: PreparedFile) -> str:
        raise DallaError("nowhere")

    def pretend_url(self, file: PreparedFile) -> str:
        return f"https://pretend.example/{file.sha256}.jpg"


class World:
    """One data folder with two pretend platforms; `process()` gives a publisher as a fresh process would have it."""

    def __init__(self, root: Path, settings: Settings) -> None:
        self.root = root
        self.settings = settings
        self.instagram, self.twitter = FakePlatform("instagram"), FakePlatform("twitter")
        self.now = START
        self.told = Told()
        self.dead: set[str] = set()
        self.libraries: list[Library] = []
        self.secrets = FileSecrets(root / "data" / "secrets", None)
        self.first = self.process("p1")

    def process(self, owner: str) -> Publishing:
        """A publisher with its own connections. Its jobs run inside `submit`, so a test sees the end at once."""
        library = Library.open(self.root / "data" / "dalla.db")
        self.libraries.append(library)
        data = self.root / "data"
        store, accounts, media = SqlPosts(library), SqlAccounts(library), SqlMedia(library)
        events = EventBus()
        characters = Characters(
            JsonDocuments(data / "characters.json", Character, "character"),
            JsonDocuments(data / "trash.json", TrashedCharacter, "deleted character"),
            self.secrets,
            JsonDocuments(data / "prompts.json", Prompt, "prompt"),
            JsonDocuments(data / "scheduler.json", ScheduledTask, "task"),
            media,
            events,
            {},
        )
        loaded = {"instagram": self.instagram, "twitter": self.twitter}
        platforms = PlatformAccess(
            characters,
            accounts,
            store,
            loaded,
            loaded.__getitem__,
            requests.Session,
            lambda *a, **k: requests.Session(),
        )
        blobs = FileBlobs(data)
        self.characters, self.store, self.accounts = characters, store, accounts
        self.posts = FakePosts(store)
        return Publishing(
            self.settings,
            store,
            accounts,
            self.posts,  # type: ignore[arg-type]
            Pauses(SqlLeases(library), events),
            characters,
            platforms,
            blobs,
            Nowhere(),
            Gallery(media, blobs, events),
            self.told,
            self.told,
            LocalQueue(SqlTasks(library), events, immediate=True),
            events,
            owner=owner,
            is_dead=lambda o: o in self.dead,
            now=lambda: self.now,
        )

    def character(self, name: str = "Luna", **more: Any) -> Character:
        keys = {"instagram_api_key": "key-i-123456", "twitter_access_token": "key-t-123456"}
        return self.characters.create({"name": name, **keys, **more})

    def post(self, character: Character, caption: str = "Hello", **more: Any) -> Post:
        due = iso(self.now)
        values = {
            "platform": "instagram",
            "status": "scheduled",
            "scheduled_at": due,
            "due_at": due,
            "created_at": due,
            "media_ids": ["m1"],
        }
        return self.store.insert(
            Post.model_validate(
                {"id": new_id("post"), "character_id": character.id, "caption": caption, **values, **more}
            )
        )

    def forward(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    def settle(self, publishing: Publishing, id: str, rounds: int = 40, step: float = 61) -> Post:
        """Tick and move the clock until the post rests."""
        for _ in range(rounds):
            publishing.tick()
            post = self.store.get(id)
            if post.status in ("published", "failed", "unconfirmed", "missed", "cancelled", "dry_run"):
                return post
            self.forward(step)
        return self.store.get(id)

    def close(self) -> None:
        for library in self.libraries:
            library.close()


def refusal(cause: str, action: Any, platform: str = "instagram", **more: Any) -> PlatformError:
    return PlatformError(f"It said: {cause}.", platform=platform, cause=cause, action=action, **more)


__all__ = ["Callable", "Killed", "Look", "NotReady", "World", "refusal"]
