"""A schedule for tests: real rules, runs, leases and jobs on disk; a clock that stands; doubles around it.

The doubles count effects: pictures that were made, posts that exist, notices that were given.
"""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dalla.errors import Conflict, NotFound, Unavailable
from dalla.events import EventBus
from dalla.jobs.local import LocalQueue
from dalla.records.character import Character, ScheduledTask
from dalla.records.media import Collection, MediaItem
from dalla.records.post import Post, PostFilter
from dalla.services.automation import Automation
from dalla.services.captioning import CaptionResult
from dalla.stores.base import Page
from dalla.stores.documents_json import JsonDocuments
from dalla.stores.leases import SqlLeases
from dalla.stores.library import Library
from dalla.stores.runs import SqlRuns
from dalla.stores.tasks import SqlTasks
from dalla.times import iso, parse

START = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)
LUNA = Character(id="char_luna", name="Luna", timezone="UTC")


class FakeCharacters:
    def __init__(self, *characters: Character) -> None:
        self._all = tuple(characters)

    def all(self) -> tuple[Character, ...]:
        return self._all

    def get(self, id: str) -> Character:
        for character in self._all:
            if character.id == id:
                return character
        raise NotFound.of("character", id)

    def change(self, id: str, **changes: Any) -> None:
        self._all = tuple(c.with_(**changes) if c.id == id else c for c in self._all)

    def remove(self, id: str) -> None:
        self._all = tuple(c for c in self._all if c.id != id)


class FakeGallery:
    def __init__(self) -> None:
        self.items: dict[str, MediaItem] = {}
        self.collections: dict[str, list[str]] = {}

    def add(self, id: str, **values: Any) -> str:
        defaults = {
            "id": id,
            "path": f"media/{id}.png",
            "character_id": LUNA.id,
            "created_at": f"t{len(self.items):05}",
        }
        self.items[id] = MediaItem.model_validate({**defaults, **values})
        return id

    def get(self, id: str) -> MediaItem:
        if id not in self.items:
            raise NotFound.of("picture", id)
        return self.items[id]

    def ids(self, where: Any) -> list[str]:
        found = [
            item
            for item in self.items.values()
            if item.character_id == where.character_id
            and item.trashed_at is None
            and item.type == "image"
            and (where.collection_id is None or item.id in self.collections[where.collection_id])
        ]
        return [item.id for item in sorted(found, key=lambda item: item.created_at, reverse=True)]

    def collection(self, id: str) -> Collection:
        if id not in self.collections:
            raise NotFound.of("collection", id)
        return Collection(id=id, name=id)


class FakeGeneration:
    """Makes pictures by a real job of the gpu lane, as the real one does."""

    def __init__(self, jobs: LocalQueue, gallery: FakeGallery) -> None:
        self.jobs, self.gallery = jobs, gallery
        self.wishes: list[Any] = []
        self.made: list[str] = []
        self.unavailable = 0
        self.error: Exception | None = None
        self.on_draw: Any = lambda context: None
        jobs.register("generate_image", self.run, lane="gpu", restartable=True)

    def submit(self, wish: Any) -> Any:
        if self.unavailable:
            self.unavailable -= 1
            raise Unavailable("ComfyUI does not answer.")
        self.wishes.append(wish)
        return self.jobs.submit("generate_image", {"n": wish.batch_size})

    def run(self, context: Any, payload: dict[str, Any]) -> dict[str, Any]:
        self.on_draw(context)
        if self.error:
            raise self.error
        ids = [self.gallery.add(f"media_made{len(self.made) + n}") for n in range(payload["n"])]
        self.made += ids
        return {"mediaIds": ids, "engine": "fake", "model": "tiny"}


class FakeCaptioning:
    def __init__(self) -> None:
        self.wishes: list[dict[str, Any]] = []
        self.failure: dict[str, Any] | None = None
        self.error: Exception | None = None
        self.saved: list[str] = []

    def write(self, **wish: Any) -> CaptionResult:
        self.wishes.append(wish)
        if self.error:
            raise self.error
        text = f"A day in {wish.get('prompt') or 'the garden'}"
        return CaptionResult(
            caption=text,
            captions={"instagram": f"{text} #luna", "twitter": text},
            hashtags=["luna"],
            alt_text="Luna outside",
            provider="composer" if self.failure else "gemini",
            model=None,
            failure=self.failure,
        )

    def save_to_media(self, media_id: str, result: CaptionResult) -> None:
        self.saved.append(media_id)


class FakePrompts:
    def __init__(self) -> None:
        self.library: list[Any] = []
        self.marked: list[tuple[str, str, str]] = []
        self.asked = 0

    def add(self, id: str, text: str, caption: str | None = None) -> None:
        self.library.append(SimpleNamespace(id=id, prompt=text, caption=caption, used=False))

    def get(self, id: str) -> Any:
        for prompt in self.library:
            if prompt.id == id:
                return prompt
        raise NotFound.of("prompt", id)

    def pick(self, character_id: str, *, rule: str = "unused") -> Any:
        return next((p for p in self.library if not p.used or rule != "unused"), None)

    def mark_used(self, id: str, type: str, ref_id: str) -> None:
        self.get(id).used = True
        self.marked.append((id, type, ref_id))

    def expand(self, text: str, seed: int | str) -> str:
        return text.replace("{a|b}", "a")

    def generate(self, character_id: str, count: int = 10) -> tuple[list[Any], str, list[str]]:
        self.asked += 1
        self.add(f"prompt_idea{self.asked}", "an idea")
        return [self.library[-1]], "composer", []


class FakePosts:
    """Posts in memory, unique by (task, platform, slot) as in the store."""

    def __init__(self) -> None:
        self.all: dict[str, Post] = {}
        self.refuse: dict[str, Exception] = {}
        self.live: set[str] = set()  # characters with keys

    def create(self, **values: Any) -> Post:
        if values["platform"] in self.refuse:
            raise self.refuse[values["platform"]]
        for post in self.all.values():
            if (post.task_id, post.platform, post.slot) == (values["task_id"], values["platform"], values["slot"]):
                return post
        dry = values.pop("dry_run") or values["character_id"] not in self.live
        post = Post(id=f"post_{len(self.all) + 1}", dry_run=dry, **values)
        self.all[post.id] = post
        return post

    def page(self, where: PostFilter, *, limit: int = 50, cursor: str | None = None, sort: str = "newest") -> Page:
        wanted = {k: v for k, v in where if v is not None and k in ("run_id", "task_id", "character_id", "platform")}
        found = [p for p in self.all.values() if all(getattr(p, k) == v for k, v in wanted.items())]
        return Page(found[:limit], None, len(found))

    def cancel(self, id: str) -> Post:
        if self.all[id].status not in ("draft", "approved", "scheduled"):
            raise Conflict("on its way")
        return self.set(id, status="cancelled")

    def set(self, id: str, **changes: Any) -> Post:
        self.all[id] = self.all[id].with_(**changes)
        return self.all[id]

    def effective_dry_run(self, character: Character, platform: str, wanted: bool | None) -> tuple[bool, str | None]:
        return (False, None) if character.id in self.live else (True, "no keys")

    def of(self, platform: str) -> list[Post]:
        return [post for post in self.all.values() if post.platform == platform]


class FakePublishing:
    def __init__(self) -> None:
        self.woken = 0
        self.stops: dict[str, Any] = {"all": None, "characters": {}}

    def wake(self) -> None:
        self.woken += 1

    def pauses(self) -> dict[str, Any]:
        return self.stops

    def pause(self, reason: str, character_id: str | None = None) -> None:
        stop = {"reason": reason, "since": "now"}
        if character_id:
            self.stops["characters"][character_id] = stop
        else:
            self.stops["all"] = stop

    def resume(self, character_id: str | None = None) -> None:
        if character_id:
            self.stops["characters"].pop(character_id, None)
        else:
            self.stops["all"] = None


class FakeNotices:
    def __init__(self) -> None:
        self.open: dict[str, dict[str, Any]] = {}
        self.events: list[tuple[str, dict[str, Any]]] = []

    def notify(self, kind: str, title: str, detail: str = "", **more: Any) -> None:
        self.open[more["key"]] = {"kind": kind, "title": title, "detail": detail, **more}

    def resolve(self, key: str) -> None:
        self.open.pop(key, None)

    def emit(self, event: str, data: dict[str, Any]) -> None:
        self.events.append((event, data))


class World:
    """Everything of one schedule. `process()` makes a second app on the same data."""

    def __init__(self, folder: Path, *, immediate: bool = True) -> None:
        self.folder = folder
        self.now = START
        self.settings: Any = SimpleNamespace(
            timezone="UTC", missed_run_minutes=180, approval="automatic", caption_failure="fallback", dry_run=False
        )
        self.characters = FakeCharacters(LUNA)
        self.gallery = FakeGallery()
        self.captioning = FakeCaptioning()
        self.prompts = FakePrompts()
        self.posts = FakePosts()
        self.publishing = FakePublishing()
        self.notices = FakeNotices()
        self.dead: set[str] = set()
        self.immediate = immediate
        self.open: list[Any] = []
        self.file = folder / "scheduler.json"
        self.process("first")

    def process(self, owner: str, **more: Any) -> Automation:
        """Start an app (again) on the data there is; it becomes the current one."""
        self.library = Library.open(self.folder / "dalla.db")
        self.runs = SqlRuns(self.library)
        self.leases = SqlLeases(self.library)
        self.tasks_table = SqlTasks(self.library)
        self.events = EventBus()
        self.jobs = LocalQueue(self.tasks_table, self.events, immediate=self.immediate)
        self.generation = FakeGeneration(self.jobs, self.gallery)
        self.documents = JsonDocuments(self.file, ScheduledTask, "scheduled task")
        self.app = Automation(
            self.settings,
            self.documents,
            self.runs,
            self.leases,
            self.characters,
            self.generation,
            self.gallery,
            self.captioning,
            self.prompts,
            self.posts,
            self.publishing,
            self.notices,
            self.jobs,
            self.events,
            self.folder,
            owner=owner,
            is_dead=lambda name: name in self.dead,
            now=lambda: self.now,
            **{"engine_retries": (), **more},
        )
        self.open.append((self.jobs, self.library))
        return self.app

    def close(self) -> None:
        for jobs, library in self.open:
            jobs.stop()
            library.close()

    # ------------------------------------------------------------ shorthands

    def task(self, schedule: str = "0 18 * * *", type: str = "generate_and_post", **values: Any) -> ScheduledTask:
        config = {"prompt": "a forest", "postToInstagram": True, **values.pop("config", {})}
        character = values.pop("character_id", None if type == "backup" else LUNA.id)
        return self.app.create(
            {"schedule": schedule, "type": type, "character_id": character, "config": config, **values}
        )

    def write(self, *tasks: dict[str, Any]) -> None:
        """Write scheduler.json by hand."""
        self.file.write_text(json.dumps(list(tasks)))

    def at(self, text: str) -> World:
        """Set the clock: "18:00" of the first day, or an ISO time."""
        self.now = parse(f"2026-05-01T{text}") if len(text) <= 8 else parse(text)
        return self

    def after(self, **delta: float) -> World:
        self.now += timedelta(**delta)
        return self

    def tick(self) -> int:
        return self.app.tick()

    def ran(self, task: ScheduledTask | None = None) -> list[Any]:
        """Return the runs, oldest first."""
        page = self.runs.page(task_id=task.id if task else None, limit=500)
        return list(reversed(page.items))

    def slots(self, task: ScheduledTask) -> list[tuple[str, str]]:
        return [(run.slot[:16], run.status) for run in self.ran(task)]

    def settle(self, status: str = "published", **fields: Any) -> None:
        """Let every post that is on its way come to an end, and tell the schedule."""
        for post in list(self.posts.all.values()):
            if post.status == "scheduled":
                self.app.on_post_settled(self.posts.set(post.id, status=status, **fields))


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("automation") / "dalla.db"
    Library.open(file).close()
    return file


@pytest.fixture
def world(tmp_path: Path, empty_database: Path) -> Any:
    shutil.copy(empty_database, tmp_path / "dalla.db")
    world = World(tmp_path)
    yield world
    world.close()


__all__ = ["LUNA", "START", "World", "empty_database", "iso", "world"]
