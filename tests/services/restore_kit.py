"""An app with something of everything, and everything it holds as plain values to compare."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import sqlite3
import time
import zipfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from app import create_app
from dalla.records.dataset import DatasetImage
from dalla.records.post import Post
from dalla.settings import Settings
from dalla.times import iso, now_iso
from dalla.wiring import Container
from tests.conftest import make_settings, png, upload

PASSPHRASE = "four blue tractors"
LORA = Path(__file__).parent.parent / "data" / "luna_lora.safetensors"
#: Tables whose rows a restore changes on purpose, or that belong to the moment.
CHANGED = {
    "background_tasks", "schedule_state", "leases", "switches", "user_sessions", "idempotency_keys", "notifications",
    "login_attempts", "revisions",
}  # fmt: skip


class Place:
    """One installation in a folder of its own."""

    def __init__(self, root: Path, **env: str) -> None:
        root.mkdir(parents=True, exist_ok=True)
        self.root = root
        self.settings: Settings = make_settings(root, **env)
        self.data = Path(self.settings.data_dir)

    @contextlib.contextmanager
    def running(self) -> Any:
        """Give (container, client) with its workers at work; close it afterwards."""
        container = Container(self.settings)
        container.jobs.start()
        try:
            app = create_app(self.settings, container=container)
            yield container, app.test_client()
        finally:
            container.close()

    def rows(self) -> dict[str, list[tuple[Any, ...]]]:
        """Every row of every table, those in CHANGED aside."""
        with contextlib.closing(sqlite3.connect(self.data / "dalla.db")) as db:
            names = [r[0] for r in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            return {
                name: sorted(db.execute(f'SELECT * FROM "{name}"').fetchall(), key=repr)
                for name in names
                if name not in CHANGED and not name.startswith(("media_words", "sqlite_"))
            }

    def column(self, query: str) -> list[Any]:
        with contextlib.closing(sqlite3.connect(self.data / "dalla.db")) as db:
            return [row[0] if len(row) == 1 else row for row in db.execute(query)]

    def documents(self) -> dict[str, Any]:
        names = ("characters.json", "scheduler.json", "prompts.json", "trash/characters.json")
        return {name: json.loads((self.data / name).read_bytes()) for name in names if (self.data / name).exists()}

    def files(self) -> dict[str, str]:
        """SHA-256 of every file that a backup holds."""
        found = {}
        for name in ("media", "datasets", "posts", "wildcards", "runs", "trash"):
            found |= hashes(self.data / name, name)
        found |= hashes(Path(self.settings.training_data_dir), "training_data")
        found |= hashes(Path(self.settings.loras_dir), "loras")
        skip = ("media/thumbs/", "trash/backups/")
        return {k: v for k, v in found.items() if not k.startswith(skip) and "/exports/" not in k}


def hashes(folder: Path, name: str) -> dict[str, str]:
    return {
        f"{name}/{path.relative_to(folder).as_posix()}": hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    }


def wait(client: Any, answer: Any, status: str = "completed") -> dict[str, Any]:
    """Follow a 202 to its end and return the task."""
    assert answer.status_code == 202, answer.json
    for _ in range(3000):
        task = client.get(answer.json["statusUrl"].removesuffix("/status")).json
        if task["status"] not in ("queued", "running"):
            assert task["status"] == status, task
            return task
        time.sleep(0.02)
    raise AssertionError(f"it did not end: {task}")


def post(container: Any, character: str, status: str, **more: Any) -> str:
    """Insert a post in this state; return its id."""
    id = more.pop("id", f"post_{status}_{len(more)}_{time.time_ns()}")
    values: dict[str, Any] = {"caption": f"a {status} one", "created_at": now_iso(), "updated_at": now_iso()} | more
    container.post_rows.insert(Post(id=id, character_id=character, platform="twitter", status=status, **values))
    return id


def fill(container: Any, client: Any) -> dict[str, Any]:
    """Put something of everything into an app; return the ids."""
    keys = {"twitterAppKey": "app-key-1", "twitterAccessToken": "access-token-1", "instagramApiKey": "insta-1"}
    luna = client.post("/api/characters", json={"name": "Luna", **keys}).json
    gone = client.post("/api/characters", json={"name": "Gone"}).json
    assert client.delete(f"/api/characters/{gone['id']}").status_code == 200
    prompt = client.post("/api/prompts", json={"characterId": luna["id"], "prompt": "by the sea", "caption": "Sea"})
    assert prompt.status_code == 201, prompt.json
    task = client.post(
        "/api/scheduler",
        json={"action": "add_task", "task": {"name": "Night", "type": "backup", "schedule": "0 3 * * *"}},
    )
    assert task.status_code in (200, 201), task.json
    container.automation.tick()
    pictures = []
    for n in range(4):
        made = upload(client, png((n * 40, 10, 90)), f"p{n}.png", characterId=luna["id"])
        assert made.status_code == 201, made.json
        pictures.append(made.json["items"][0]["id"] if "items" in made.json else made.json["id"])
    client.delete(f"/api/media/{pictures[3]}")
    collection = client.post("/api/collections", json={"name": "Best"}).json
    client.post(
        "/api/media/bulk", json={"action": "addToCollection", "ids": pictures[:2], "collectionId": collection["id"]}
    )
    dataset = client.post("/api/datasets", json={"name": "Luna set", "triggerWord": "luna_x"}).json["id"]
    images = []
    for n in range(3):
        data = png((5, n * 60, 5))
        path, sha = f"datasets/{dataset}/originals/{n}.png", hashlib.sha256(data).hexdigest()
        container.blobs.put(path, data)
        images.append(f"img_{n}_{dataset[-6:]}")
        container.dataset_rows.add_images(
            [DatasetImage(id=images[-1], dataset_id=dataset, filename=f"{n}.png", path=path, width=64, height=48, size_bytes=len(data), sha256=sha, pixel_sha256=sha, caption=f"luna_x {n}")],
            {},
        )  # fmt: skip
    container.blobs.put(f"datasets/{dataset}/exports/training_data_v1.zip", b"made again")
    container.blobs.put("posts/ab/abcdef.jpg", b"as it was sent")
    data = Path(container.settings.data_dir)
    write(data / "wildcards" / "light.txt", b"dawn\ndusk\n")
    run = data / "runs" / "job_1_abc"
    write(run / "config.json", b"{}")
    write(run / "samples" / "0.png", png())
    write(run / "checkpoints" / "000010" / "lora.safetensors", b"weights")
    sets = Path(container.settings.training_data_dir)
    for name in ("a.png", "A.txt", "a.txt", "notes.zip", "aux.png", "Zoë.png"):
        write(sets / "10_luna" / name, f"content of {name}".encode())
    write(sets / "10_luna" / ".cache" / "x.safetensors", b"made again")
    write(sets / "10_luna" / "weights.safetensors", b"never in a backup")
    shutil.copy(LORA, Path(container.settings.loras_dir) / "luna.safetensors")
    write(Path(container.settings.loras_dir) / "luna.json", b'{"triggerWord": "luna_x"}')
    client.patch("/api/settings", json={"trashDays": 12, "geminiApiKey": "gemini-key-1", "timezone": "Europe/Berlin"})
    day = datetime.now(UTC)
    posts = {
        "draft": post(container, luna["id"], "draft", media_ids=pictures[:1]),
        "future": post(container, luna["id"], "scheduled", scheduled_at=iso(day + timedelta(days=3)), due_at=iso(day + timedelta(days=3))),
        "past": post(container, luna["id"], "scheduled", scheduled_at=iso(day - timedelta(minutes=5)), due_at=iso(day - timedelta(minutes=5))),
        "sending": post(container, luna["id"], "publishing", lease_owner="x:1:2", lease_until=iso(day + timedelta(days=1)), due_at=iso(day)),
        "live": post(container, luna["id"], "published", platform_post_id="99", published_at=iso(day - timedelta(days=1))),
        "failed": post(container, luna["id"], "failed"),
    }  # fmt: skip
    return {"luna": luna["id"], "gone": gone["id"], "pictures": pictures, "dataset": dataset, "posts": posts}


def write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def rezip(source: Path, target: Path, change: Any) -> Path:
    """Write a zip anew with `change(names: dict[str, bytes])` made to its content."""
    with zipfile.ZipFile(source) as old:
        content = {name: old.read(name) for name in old.namelist()}
    change(content)
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as new:
        for name, data in content.items():
            new.writestr(name, data)
    return target


def relist(content: dict[str, bytes], name: str, data: bytes) -> None:
    """Put a file into a backup, and its hash into the list: as somebody would who means harm."""
    manifest = json.loads(content["manifest.json"])
    content[name] = data
    manifest["files"][name] = hashlib.sha256(data).hexdigest()
    content["manifest.json"] = json.dumps(manifest).encode()
