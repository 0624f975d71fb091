"""Backup and restore as a whole: what goes in comes out elsewhere, whole or not at all, and nothing goes out twice."""

from __future__ import annotations

import hashlib
import json
import shutil
import sqlite3
import zipfile
from datetime import UTC, datetime
from pathlib import Path

import pytest

import dalla
from dalla.errors import InvalidInput
from dalla.services import restore_apply
from dalla.services.restore_apply import REASON, apply_staged, staged
from dalla.stores import restored
from dalla.wiring import settle_folders, stager
from tests.services.restore_kit import PASSPHRASE, Place, fill, hashes, post, relist, rezip, wait, write

ALL = {"media": True, "datasets": True, "loras": True}


class Killed(BaseException):
    """The process ends here: nothing after it runs."""


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A filled installation, closed, with a backup of everything: (place, ids, archive, what it held)."""
    place = Place(tmp_path_factory.mktemp("old") / "here")
    with place.running() as (container, client):
        ids = fill(container, client)
        container.users.add_admin("anna", "three green tractors")
        container.users.add("bert", "three green tractors", "viewer")
        job = container.backups.start(**ALL, passphrase=PASSPHRASE)
        job = container.jobs.wait(job.id, 60)
        assert job.status == "completed", job.error
        secrets = {name: container.secrets.get(name) for name in container.secrets.names()}
        archive = container.backups.path(job.result["name"])
        assert "access-token-1" not in json.dumps([row.payload for row in container.tasks.page(limit=100)[0]])
    return place, ids, archive, {"rows": place.rows(), "documents": place.documents(), "files": place.files(), "secrets": secrets}  # fmt: skip


def test_everything_comes_out_in_a_new_folder(whole, tmp_path):
    old, ids, archive, held = whole
    new = Place(tmp_path / "there")
    stager(new.settings).stage(archive, PASSPHRASE)
    assert settle_folders(new.data)
    expected = dict(held["files"])
    for left_out in ("runs/job_1_abc/checkpoints/000010/lora.safetensors", "training_data/10_luna/weights.safetensors"):
        assert expected.pop(left_out)
    assert {k: v for k, v in new.files().items() if not k.endswith("log.txt")} == {
        k: v for k, v in expected.items() if not k.endswith("log.txt")
    }
    assert new.documents() == held["documents"]
    rows = new.rows()
    for table, before in held["rows"].items():
        if table != "posts":
            assert rows[table] == before, table
    assert len(rows["posts"]) == len(held["rows"]["posts"]) == 6 and len(rows["users"]) == 2
    assert not list((new.data / "restore").glob("staged*")) and not list(Path(new.settings.loras_dir).glob(".restore*"))

    fresh = Place(tmp_path / "there")  # reads the restored settings
    assert fresh.settings.trash_days == 12 and fresh.settings.timezone == "Europe/Berlin"
    with fresh.running() as (container, _):
        assert {n: container.secrets.get(n) for n in container.secrets.names()} == held["secrets"]
        assert len(held["secrets"]) >= 4 and container.settings.gemini_api_key == "gemini-key-1"
        character = container.characters.get(ids["luna"])
        assert container.characters.credential(character, "twitter_access_token") == "access-token-1"
        picture = container.gallery.get(ids["pictures"][0])
        assert hashlib.sha256(container.gallery.bytes_of(picture)).hexdigest() == picture.sha256
        assert container.gallery.thumbnail(picture, "s").is_file()
        container.restore.tell()
        assert any(n.kind == "restore.done" for n in container.notices.page().items)


def test_nothing_restored_goes_out_by_itself(whole, tmp_path):
    _, ids, archive, _ = whole
    new = Place(tmp_path / "there")
    stager(new.settings).stage(archive)
    settle_folders(new.data)
    status = dict(new.column("SELECT id, status FROM posts"))
    wanted = {
        "draft": "draft", "future": "scheduled", "past": "unconfirmed", "sending": "unconfirmed", "live": "published",
        "failed": "failed",
    }  # fmt: skip
    assert {name: status[id] for name, id in ids["posts"].items()} == wanted
    assert new.column("SELECT count(*) FROM posts WHERE lease_owner IS NOT NULL") == [0]
    assert set(new.column("SELECT status FROM background_tasks")) <= {"completed", "interrupted", "failed", "cancelled"}
    made = new.column("SELECT status FROM background_tasks WHERE kind = 'make_backup'")
    assert made == ["completed"]  # it is in its own backup as running
    assert new.column("SELECT next_due FROM schedule_state") == [None]
    with new.running() as (container, _):
        assert container.publishing.pauses()["all"]["reason"] == REASON
        assert container.publishing.tick() == 0 and container.automation.tick() == 0
        container.publishing.resume()
        assert container.publishing.tick() == 0 and container.automation.tick() == 0
        assert dict(new.column("SELECT id, status FROM posts")) == status
        assert container.post_rows.get(ids["posts"]["past"]).error["code"] == "unconfirmed"
        due = container.runs_store.state(json.loads((new.data / "scheduler.json").read_bytes())[0]["id"]).next_due
        assert due > datetime.now(UTC).isoformat()


def test_what_went_out_since_stays_known(whole, tmp_path):
    """A post of the backup was published, another was on its way, when the backup was restored over it."""
    old, ids, archive, _ = whole
    place = Place(tmp_path / "here")
    shutil.copytree(old.data, place.data, dirs_exist_ok=True)
    with sqlite3.connect(place.data / "dalla.db") as db:
        db.execute(
            "UPDATE posts SET status = 'published', platform_post_id = '123', permalink = 'https://x.com/a/status/123', "
            "published_at = '2026-11-21T10:00:00.000Z' WHERE id = ?",
            (ids["posts"]["future"],),
        )
        db.execute("UPDATE posts SET status = 'uploading' WHERE id = ?", (ids["posts"]["draft"],))
        db.execute("UPDATE users SET disabled = 1, password = 'newer' WHERE name = 'bert'")
    stager(place.settings).stage(archive)
    settle_folders(place.data)
    assert place.column(f"SELECT status, platform_post_id FROM posts WHERE id = '{ids['posts']['future']}'") == [("published", "123")]  # fmt: skip
    assert place.column(f"SELECT status FROM posts WHERE id = '{ids['posts']['draft']}'") == ["unconfirmed"]
    assert place.column("SELECT disabled, password FROM users WHERE name = 'bert'") == [(1, "newer")]


def test_accounts_never_vanish_and_revoked_tokens_stay_revoked(tmp_path):
    place = Place(tmp_path / "here")
    with place.running() as (container, client):
        client.post("/api/characters", json={"name": "Luna"})
        job = container.jobs.wait(container.backups.start(media=False, datasets=False, loras=False).id, 60)
        bare = container.backups.path(job.result["name"])
        anna = container.users.add_admin("anna", "three green tractors")
        job = container.jobs.wait(container.backups.start(media=False, datasets=False, loras=False).id, 60)
        later = container.backups.path(job.result["name"])
    with sqlite3.connect(place.data / "dalla.db") as db:
        db.execute(
            "INSERT INTO api_tokens VALUES ('tok_1', ?, 'mine', 'h', 'dd_a', '[\"read\"]', '2026-01-01T00:00:00.000Z', NULL, NULL)",
            (anna.id,),
        )
    stager(place.settings).stage(bare)  # of a time without accounts: they stay, with their tokens
    settle_folders(place.data)
    assert place.column("SELECT name FROM users") == ["anna"] and place.column("SELECT scopes FROM api_tokens") == [
        '["read"]'
    ]
    with sqlite3.connect(place.data / "dalla.db") as db:
        db.execute("UPDATE api_tokens SET id = 'tok_2', hash = 'h2'")
    kept = rezip_database(later, tmp_path / "tokens.zip", place)
    stager(place.settings).stage(kept)  # tok_1 of the backup is not known any more
    settle_folders(place.data)
    assert place.column("SELECT id FROM api_tokens") == ["tok_2"]


def test_a_restore_gives_nobody_more_rights_than_they_have_now(whole, tmp_path):
    """Of an archive that somebody hands in, and of an older one of one's own: who was an admin in it, is none by it."""
    old, _, archive, _ = whole
    place = Place(tmp_path / "here")
    shutil.copytree(old.data, place.data, dirs_exist_ok=True)
    with sqlite3.connect(place.data / "dalla.db") as db:
        db.execute("UPDATE users SET role = 'viewer' WHERE name = 'anna'")  # an admin in the backup
        db.execute("DELETE FROM users WHERE name = 'bert'")
        db.execute(
            "INSERT INTO users VALUES ('user_new', 'cleo', 'cleo', 'Cleo', 'admin', 'hash', 0, '2026-11-21', '2026-11-21', NULL, NULL)"
        )
    stager(place.settings).stage(archive)
    settle_folders(place.data)
    assert sorted(place.column("SELECT name, role, disabled FROM users")) == [
        ("anna", "viewer", 0), ("bert", "viewer", 1), ("cleo", "admin", 0)
    ]  # fmt: skip


def test_the_settings_of_the_door_are_those_of_here(whole, tmp_path):
    _, _, archive, _ = whole
    place = Place(tmp_path / "here")
    place.data.mkdir(parents=True, exist_ok=True)
    (place.data / "settings.json").write_text('{"trustedProxies": "10.0.0.1"}')

    def planted(content: dict[str, bytes]) -> None:
        door = {"trustedProxies": "0.0.0.0/0", "pickleWeights": True, "webhookPrivate": True, "minGapMinutes": 9}
        relist(content, "settings.json", json.dumps(door).encode())

    stager(place.settings).stage(rezip(archive, tmp_path / "planted.zip", planted))
    settle_folders(place.data)
    assert json.loads((place.data / "settings.json").read_text()) == {"trustedProxies": "10.0.0.1", "minGapMinutes": 9}


def rezip_database(archive: Path, target: Path, place: Place) -> Path:
    """The backup with a token 'tok_1' in its database, and the hash to fit."""

    def change(content: dict[str, bytes]) -> None:
        copy = target.with_suffix(".db")
        copy.write_bytes(content["dalla.db"])
        with sqlite3.connect(copy) as db:
            db.execute("PRAGMA foreign_keys = OFF")
            [user] = db.execute("SELECT id FROM users").fetchone()
            db.execute(
                "INSERT INTO api_tokens VALUES ('tok_1', ?, 'mine', 'h', 'dd_a', '[]', '2026-01-01', NULL, NULL)",
                (user,),
            )
        db.close()
        relist(content, "dalla.db", copy.read_bytes())

    return rezip(archive, target, change)


# ---------------------------------------------------------------- looking at it


def test_the_dry_run_counts_and_changes_nothing(whole, tmp_path):
    _, ids, archive, _ = whole
    new = Place(tmp_path / "there")
    with new.running() as (container, client):
        client.post("/api/characters", json={"name": "Only here"})
        before = hashes(new.data, "data")
        plan = stager(new.settings).plan(archive, PASSPHRASE)
        assert {k: v for k, v in hashes(new.data, "data").items() if "dalla.db" not in k} == {
            k: v for k, v in before.items() if "dalla.db" not in k
        }
    assert plan["restorable"] and plan["problems"] == [] and plan["version"] == dalla.__version__
    assert plan["encryptedKeys"] and plan["keys"] >= 4 and plan["bytes"] > 0
    now = {kind: (row["now"], row["backup"]) for kind, row in plan["replaces"].items()}
    assert now["characters"] == (1, 1) and now["media"] == (0, 3) and now["posts"] == (0, 6) and now["users"] == (0, 2)
    assert now["datasets"] == (0, 1) and now["datasetImages"] == (0, 3) and now["prompts"] == (0, 1)
    assert now["scheduledTasks"] == (0, 1) and now["trainingSets"] == (0, 1) and now["loras"] == (0, 1)
    assert any("stopped" in note for note in plan["notes"]) and staged(new.data) is None


def test_the_passphrase_is_needed_for_the_credentials_only(whole, tmp_path):
    _, _, archive, held = whole
    with zipfile.ZipFile(archive) as zip:
        content = b"".join(zip.read(name) for name in zip.namelist())
    assert not any(value.encode() in content for value in held["secrets"].values())
    new = Place(tmp_path / "there")
    for look in (stager(new.settings).plan, stager(new.settings).stage):
        with pytest.raises(InvalidInput, match="does not open") as wrong:
            look(archive, "not the one at all")
        assert wrong.value.errors[0]["field"] == "passphrase"
    with new.running() as (container, _):
        container.secrets.put("settings/geminiApiKey", "the key of here")
    stager(new.settings).stage(archive)
    settle_folders(new.data)
    with new.running() as (container, _):
        assert container.secrets.names() == ["settings/geminiApiKey"]


def test_notes_of_the_trash_lead_nowhere_else(whole, tmp_path):
    def change(content):
        note = {
            "name": "x",
            "deletedAt": "2026-01-01T00:00:00.000Z",
            "from": ["/etc/cron.d/luna.safetensors"],
            "facts": {},
        }
        relist(content, "trash/loras/trash_1_abc/trashed.json", json.dumps(note).encode())
        relist(content, "trash/loras/trash_1_abc/luna.safetensors", b"weights")

    new = Place(tmp_path / "there")
    stager(new.settings).stage(rezip(whole[2], tmp_path / "trash.zip", change))
    settle_folders(new.data)
    note = json.loads((new.data / "trash/loras/trash_1_abc/trashed.json").read_bytes())
    assert note["from"] == [str(Path(new.settings.loras_dir) / "luna.safetensors")]


def test_settings_of_this_computer_stay(whole, tmp_path):
    def change(content):
        values = {
            "host": "0.0.0.0",
            "port": 1,
            "auth": "off",
            "trainingDataDir": "/elsewhere",
            "trashDays": 9,
            "noSuch": 1,
            "quietHours": 5,
        }
        relist(content, "settings.json", json.dumps(values).encode())

    new = Place(tmp_path / "there")
    write(new.data / "settings.json", b'{"port": 6000, "trashDays": 3}')
    stager(new.settings).stage(rezip(whole[2], tmp_path / "settings.zip", change))
    settle_folders(new.data)
    assert json.loads((new.data / "settings.json").read_bytes()) == {"port": 6000, "trashDays": 9}


def test_sets_and_loras_that_are_the_same_here_are_left_alone(whole, tmp_path):
    old, _, archive, _ = whole
    place = Place(tmp_path / "here")
    for name in ("training_data_dir", "loras_dir"):
        shutil.copytree(getattr(old.settings, name), getattr(place.settings, name))
    picture = Path(place.settings.training_data_dir) / "10_luna" / "a.png"
    (picture.parent / "weights.safetensors").unlink()
    before = picture.stat().st_ino
    (Path(place.settings.loras_dir) / "luna.json").write_bytes(b'{"triggerWord": "changed"}')
    note = stager(place.settings).stage(archive)
    assert [p.name for p in Path(note["places"]["loras"]).iterdir()] == ["luna.json"]
    settle_folders(place.data)
    assert picture.stat().st_ino == before and (picture.parent / ".cache").exists()
    assert b"luna_x" in (Path(place.settings.loras_dir) / "luna.json").read_bytes()


# ---------------------------------------------------------------- whole or not at all


@pytest.fixture
def present(whole, tmp_path):
    """Another installation with something in every place, and the backup staged over it."""
    place = Place(tmp_path / "here")
    with place.running() as (container, client):
        client.post("/api/characters", json={"name": "Present"})
        post(container, "char_x", "draft", id="post_here")
        container.secrets.put("settings/geminiApiKey", "the key of here")
    for name in ("media/2020/01/old.png", "posts/cd/old.jpg", "wildcards/old.txt", "datasets/old/originals/1.png",
                 "thumbs/datasets/old/1.s.webp", "runs/job_old/log.txt", "runs/job_1_abc/log.txt"):  # fmt: skip
        write(place.data / name, b"old")
    write(Path(place.settings.training_data_dir) / "10_luna" / "mine.png", b"old")
    write(Path(place.settings.training_data_dir) / "other" / "mine.png", b"old")
    write(Path(place.settings.loras_dir) / "luna.safetensors", b"old")
    write(Path(place.settings.loras_dir) / "other.safetensors", b"old")
    stager(place.settings).stage(whole[2], PASSPHRASE)
    return place


def state(place: Place) -> dict[str, str]:
    """Everything the app would read; what is set aside or staged is not."""
    found = hashes(place.data, "data") | hashes(Path(place.settings.training_data_dir), "training_data")
    found |= hashes(Path(place.settings.loras_dir), "loras")
    skip = ("data/backups/", "data/restore/", "data/dalla.db", "data/logs/")
    rows = {"posts": repr(place.column("SELECT id FROM posts ORDER BY id"))}
    return {k: v for k, v in found.items() if not k.startswith(skip)} | rows


def settle_alike(file, present, now, reason):
    """`restored.settle`, at a time that is the same in every repetition."""
    return restored.settle(file, present, "2026-11-21T12:00:00.000Z", reason)


def test_what_was_here_is_kept_aside(present):
    secret = (present.data / "secrets" / "secrets.json").read_bytes()
    note = apply_staged(present.data, settle_alike)
    aside = Path(note["aside"])
    assert aside.parent == present.data / "backups" and aside.name.startswith("before-restore-")
    for name in ("characters.json", "dalla.db", "media/2020/01/old.png", "wildcards/old.txt", "datasets/old/originals/1.png",
                 "training_data/10_luna/mine.png", "loras/luna.safetensors"):  # fmt: skip
        assert (aside / name).is_file(), name
    assert (aside / "secrets" / "secrets.json").read_bytes() == secret
    assert (present.data / "runs/job_old/log.txt").exists()  # a backup leaves checkpoints out, so runs stay
    assert (Path(present.settings.training_data_dir) / "other" / "mine.png").exists()
    assert (Path(present.settings.loras_dir) / "other.safetensors").read_bytes() == b"old"
    assert (Path(present.settings.loras_dir) / "luna.safetensors").read_bytes() != b"old"
    assert apply_staged(present.data, settle_alike) is None


def test_killed_after_each_rename_it_is_wholly_new_after_the_next_start(present, tmp_path, monkeypatch):
    backup = tmp_path / "staged"
    shutil.copytree(present.root, backup, symlinks=True)
    rename = restore_apply._rename
    apply_staged(present.data, settle_alike)
    new = state(present)
    renames = 0

    def killing(after):
        count = 0

        def one(source, target):
            nonlocal count
            rename(source, target)
            count += 1
            if count == after:
                raise Killed

        return one

    while True:
        renames += 1
        shutil.rmtree(present.root)
        shutil.copytree(backup, present.root, symlinks=True)
        monkeypatch.setattr(restore_apply, "_rename", killing(renames))
        try:
            apply_staged(present.data, settle_alike)
            break
        except Killed:
            pass
        monkeypatch.setattr(restore_apply, "_rename", killing(1))  # and once more in the middle of going on
        try:
            apply_staged(present.data, settle_alike)
        except Killed:
            pass
        monkeypatch.setattr(restore_apply, "_rename", rename)
        apply_staged(present.data, settle_alike)
        assert state(present) == new, f"after {renames} renames"
        assert staged(present.data) is None
    assert renames > 15


def test_killed_before_the_list_is_written_it_is_wholly_old_until_the_next_start(present, monkeypatch):
    old = state(present)

    def killed(*args):
        raise Killed

    for name in ("_steps", "_save"):
        with monkeypatch.context() as patched, pytest.raises(Killed):
            patched.setattr(restore_apply, name, killed)
            apply_staged(present.data, settle_alike)
        assert state(present) == old
    assert apply_staged(present.data, settle_alike)


@pytest.mark.parametrize("at", [1, 4, 9])
def test_a_disk_that_refuses_is_undone_and_told(present, monkeypatch, at):
    old = state(present)
    rename, count = restore_apply._rename, 0

    def failing(source, target):
        nonlocal count
        count += 1
        if count == at:
            raise OSError(5, "Input/output error")
        rename(source, target)

    monkeypatch.setattr(restore_apply, "_rename", failing)
    assert apply_staged(present.data, settle_alike) is None
    assert state(present) == old
    with present.running() as (container, _):
        assert container.restore.staged()["state"] == "failed" and "Input/output" in container.restore.staged()["error"]
        assert container.restore.forget() == {"success": True} and container.restore.staged() is None
    assert not list(present.data.glob("backups/before-restore-*"))


def test_a_staging_that_was_killed_leaves_no_trace_after_the_next_start(whole, tmp_path, monkeypatch):
    place = Place(tmp_path / "here")
    place.data.mkdir(parents=True)
    Path(place.settings.training_data_dir).mkdir()
    Path(place.settings.loras_dir).mkdir()

    def killed(self, work):
        raise Killed

    stage = stager(place.settings)
    monkeypatch.setattr(stage, "_drop", lambda *args: None)
    monkeypatch.setattr(type(stage), "_settle_settings", killed)
    with pytest.raises(Killed):
        stage.stage(whole[2])
    assert list(place.root.rglob(".restore-*"))
    assert not settle_folders(place.data)
    assert not list(place.root.rglob(".restore-*")) and not list((place.data / "restore").iterdir())


def test_a_backup_of_an_earlier_kind_is_restored_too(whole, tmp_path):
    """Only lists, database and pictures, and no word about folders: what it does not know stays."""

    def change(content):
        manifest = json.loads(content["manifest.json"])
        kept = {
            n: h
            for n, h in manifest["files"].items()
            if n.startswith("wildcards/") or n in ("characters.json", "dalla.db")
        }
        for name in list(content):
            if name not in kept:
                del content[name]
        old = {
            "app": "digital-dalla",
            "version": "0.1.0",
            "createdAt": manifest["createdAt"],
            "media": False,
            "notes": [],
            "files": kept,
        }
        content["manifest.json"] = json.dumps(old).encode()

    place = Place(tmp_path / "here")
    write(place.data / "posts" / "ab" / "mine.jpg", b"old")
    write(place.data / "media" / "mine.png", b"old")
    stager(place.settings).stage(rezip(whole[2], tmp_path / "old.zip", change))
    assert settle_folders(place.data)
    assert (place.data / "posts/ab/mine.jpg").exists() and (place.data / "media/mine.png").exists()
    assert (place.data / "wildcards/light.txt").exists() and len(place.column("SELECT id FROM posts")) == 6


def test_over_http_from_the_list_and_from_a_file(whole, tmp_path):
    place = Place(tmp_path / "here")
    with place.running() as (container, client):
        assert client.delete("/api/backups/restore").status_code == 404
        with whole[2].open("rb") as file:
            plan = client.post(
                "/api/backups/restore",
                data={"file": (file, "b.zip"), "dryRun": "true"},
                content_type="multipart/form-data",
            )
        assert plan.status_code == 200 and plan.json["restorable"], plan.json
        source = {"uploadId": plan.json["uploadId"]}
        wrong = client.post("/api/backups/restore", json={**source, "passphrase": "something else"})
        assert wrong.status_code == 422 and wrong.json["errors"][0]["field"] == "passphrase"
        done = wait(
            client, client.post("/api/backups/restore", json={**source, "dryRun": False, "passphrase": PASSPHRASE})
        )
        assert done["result"]["restartNeeded"] and done["result"]["counts"]["posts"] == 6
        assert client.get(f"/api/uploads/{source['uploadId']}").status_code == 404
        waiting = client.get("/api/backups").json["staged"]
        assert waiting["state"] == "staged" and waiting["keys"]
        assert client.delete("/api/backups/restore").json == {"success": True}
        assert client.get("/api/backups").json["staged"] is None
        assert client.post("/api/backups/restore", json={}).status_code == 422
        assert client.post("/api/backups/restore", json={"name": "../dalla.db"}).status_code == 404
