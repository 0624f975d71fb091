"""`/api/backups`: made, listed, fetched in parts, deleted and brought back. Restoring: tests/services/test_restore.py."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import pytest

from dalla.services import backup
from tests.conftest import png, upload
from tests.services.restore_kit import wait, write


@pytest.fixture
def made(running, client, luna) -> str:
    upload(client, png(), "a.png")
    return wait(client, client.post("/api/backups", json={"media": True}))["result"]["name"]


def test_a_backup_is_made_listed_and_fetched_in_parts(client, made):
    [row] = client.get("/api/backups").json["items"]
    assert row["name"] == made and row["verified"] and row["readable"] and row["byHand"]
    assert (row["media"], row["datasets"], row["loras"], row["weights"], row["encryptedKeys"]) == (True, True, False, False, False)  # fmt: skip
    assert row["files"] >= 3 and row["version"] and row["createdAt"].endswith("Z")
    whole = client.get(f"/api/backups/{made}")
    assert whole.status_code == 200 and len(whole.data) == row["sizeBytes"]
    assert whole.headers["Content-Type"] == "application/zip" and "attachment" in whole.headers["Content-Disposition"]
    part = client.get(f"/api/backups/{made}", headers={"Range": "bytes=10-19"})
    assert part.status_code == 206 and part.data == whole.data[10:20]
    assert part.headers["Content-Range"] == f"bytes 10-19/{row['sizeBytes']}"
    with zipfile.ZipFile(io.BytesIO(whole.data)) as zip:
        assert zip.testzip() is None and "characters.json" in zip.namelist()


def test_a_changed_backup_is_no_longer_called_verified(client, made, settings):
    path = Path(settings.data_dir) / "backups" / made
    path.write_bytes(path.read_bytes() + b"x")
    [row] = client.get("/api/backups").json["items"]
    assert not row["verified"]


def test_deleting_is_undone(client, made):
    deleted = client.delete(f"/api/backups/{made}")
    assert deleted.status_code == 200 and client.get("/api/backups").json["items"] == []
    assert client.get(f"/api/backups/{made}").status_code == 404
    back = client.post("/api/backups/undelete", json={"trashId": deleted.json["trashId"]})
    assert back.status_code == 200 and back.json["name"] == made and back.json["verified"]
    assert client.post("/api/backups/undelete", json={"trashId": deleted.json["trashId"]}).status_code == 404


def test_the_passphrase_goes_nowhere_but_into_the_lock(running, client, luna, settings):
    client.put(f"/api/characters/{luna['id']}", json={"twitterAccessToken": "a-token-of-luna"})
    short = client.post("/api/backups", json={"passphrase": "short"})
    assert short.status_code == 422 and short.json["errors"][0]["field"] == "passphrase"
    task = wait(
        client, client.post("/api/backups", json={"media": False, "datasets": False, "passphrase": "seven green boats"})
    )
    assert task["result"]["encryptedKeys"] and client.get("/api/backups").json["items"][0]["encryptedKeys"]
    with zipfile.ZipFile(Path(settings.data_dir) / "backups" / task["result"]["name"]) as zip:
        sealed = json.loads(zip.read("credentials.json"))
        content = b"".join(zip.read(name) for name in zip.namelist())
    assert sealed["kdf"] == "scrypt" and b"a-token-of-luna" not in content and b"seven green boats" not in content
    row = running.tasks.get(task["taskId"])
    assert "seven green boats" not in json.dumps([row.payload, row.result])
    again = client.post(f"/api/tasks/{task['taskId']}/retry")
    assert again.status_code == 409  # it is completed; one that failed is told to begin anew:
    lost = running.jobs.submit("make_backup", {"media": False, "datasets": False, "loras": False, "ticket": "gone"})
    assert "anew" in running.jobs.wait(lost.id, 10).error["remedy"]


def test_a_cancelled_backup_leaves_nothing(running, client, settings, monkeypatch):
    folder = Path(settings.data_dir) / "backups"
    add = backup._add

    def slow(zip, source, count):
        job = running.tasks.page(kind="make_backup")[0][0]
        if not job.cancel_requested:
            running.jobs.cancel(job.id)
        return add(zip, source, count)

    monkeypatch.setattr(backup, "_add", slow)
    wait(client, client.post("/api/backups", json={}), "cancelled")
    assert list(folder.iterdir()) == [] and client.get("/api/backups").json["items"] == []


def test_what_lies_there_but_is_no_backup_is_listed_as_unreadable(client, settings):
    folder = Path(settings.data_dir) / "backups"
    write(folder / "mine.zip", b"not a zip at all")
    write(folder / "notes.txt", b"x")
    [row] = client.get("/api/backups").json["items"]
    assert row["name"] == "mine.zip" and not row["readable"] and not row["verified"]
    assert client.post("/api/backups/restore", json={"name": "mine.zip"}).status_code == 415


@pytest.mark.parametrize(
    "name", ["..%2Fdalla.db", "%2e%2e", "x.zip", ".backups.json", "a%00.zip", "dalla.db", "C:%5Cx.zip"]
)
def test_no_name_leads_out_of_the_folder(client, name):
    for answer in (client.get(f"/api/backups/{name}"), client.delete(f"/api/backups/{name}")):
        assert answer.status_code in (404, 405), answer.status
