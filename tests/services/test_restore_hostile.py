"""Archives that mean harm, and broken ones: each is refused by the name of its sin, and nothing changes."""

from __future__ import annotations

import json
import shutil
import sqlite3
import zipfile
from pathlib import Path

import pytest

from dalla.errors import InvalidInput
from dalla.wiring import settle_folders, stager
from tests.services.restore_kit import Place, hashes, relist, rezip
from tests.services.test_restore import whole  # noqa: F401 - the filled installation, a fixture


def _longer(content):
    content["../../evil.txt"] = b"x"


def _absolute(content):
    content["/etc/evil.txt"] = b"x"


def _unlisted(content):
    content["wildcards/more.txt"] = b"x"


def _missing(content):
    del content["characters.json"]


def _foreign(content):
    relist(content, "secrets/key", b"x" * 44)


def _weights(content):
    relist(content, "datasets/set/originals/model.pt", b"x")


def _changed(content):
    content["wildcards/light.txt"] = b"other words"


def _bomb(content):
    relist(content, "media/2026/bomb.png", b"\0" * 40_000_000)


def _newer(content):
    manifest = json.loads(content["manifest.json"])
    content["manifest.json"] = json.dumps({**manifest, "version": "999.0.0"}).encode()


def _no_date(content):
    manifest = json.loads(content["manifest.json"])
    content["manifest.json"] = json.dumps({**manifest, "createdAt": "<b>now</b>"}).encode()


def _no_manifest(content):
    del content["manifest.json"]


def _nested(content):
    content["wildcards/inner.zip"] = b"PK\5\6" + b"\0" * 18


def _no_list(content):
    relist(content, "characters.json", b'{"not": "a list"}')


def _renamed(content):
    manifest = json.loads(content["manifest.json"])
    manifest["renamed"] = {"wildcards/light.txt": "../../../evil.txt"}
    content["manifest.json"] = json.dumps(manifest).encode()


def _trigger(content):
    path = Path(_trigger.folder) / "evil.db"
    path.write_bytes(content["dalla.db"])
    with sqlite3.connect(path) as db:
        db.execute("CREATE TRIGGER evil AFTER UPDATE ON posts BEGIN DELETE FROM users; END")
    db.close()
    relist(content, "dalla.db", path.read_bytes())


def _future_tables(content):
    path = Path(_trigger.folder) / "future.db"
    path.write_bytes(content["dalla.db"])
    with sqlite3.connect(path) as db:
        db.execute("UPDATE alembic_version SET version_num = '9999'")
    db.close()
    relist(content, "dalla.db", path.read_bytes())


def _no_database(content):
    relist(content, "dalla.db", b"this is not a database" * 100)


HOSTILE = {
    "path_escape": _longer, "absolute_path": _absolute, "not_listed": _unlisted, "missing": _missing,
    "foreign_file": _foreign, "foreign_file-weights": _weights, "foreign_file-renamed": _renamed, "hash": _changed,
    "bomb": _bomb, "newer": _newer, "no_manifest": _no_manifest, "too_large-nested": _nested, "damaged-list": _no_list,
    "damaged-date": _no_date,
    "foreign_schema": _trigger, "newer-tables": _future_tables, "damaged-database": _no_database,
}  # fmt: skip


@pytest.mark.parametrize("sin", HOSTILE)
def test_a_hostile_archive_is_refused_by_the_name_of_its_sin(whole, tmp_path, sin):
    _trigger.folder = tmp_path
    archive = rezip(whole[2], tmp_path / "hostile.zip", HOSTILE[sin])
    new = Place(tmp_path / "there")
    with new.running() as (_, client):
        client.post("/api/characters", json={"name": "Only here"})
    before = hashes(new.root, "root")
    plan = stager(new.settings).plan(archive)
    if sin != "hash":
        assert not plan["restorable"] and sin.partition("-")[0] in {p["code"] for p in plan["problems"]}
    with pytest.raises(InvalidInput) as refused:
        stager(new.settings).stage(archive)
    assert refused.value.extra["sin"] == sin.partition("-")[0]
    assert not settle_folders(new.data) and hashes(new.root, "root") == before
    assert not (tmp_path / "evil.txt").exists() and not list(new.root.rglob(".restore-*"))


def test_links_in_an_archive_are_refused(whole, tmp_path):
    archive = shutil.copy(whole[2], tmp_path / "links.zip")
    with zipfile.ZipFile(archive, "a") as zip:
        link = zipfile.ZipInfo("wildcards/link.txt")
        link.external_attr = 0o120777 << 16
        zip.writestr(link, "/etc/passwd")
    with pytest.raises(InvalidInput) as refused:
        stager(Place(tmp_path / "there").settings).stage(archive)
    assert refused.value.extra["sin"] == "link"


def test_a_truncated_archive_is_no_archive(whole, tmp_path):
    half = tmp_path / "half.zip"
    half.write_bytes(whole[2].read_bytes()[: whole[2].stat().st_size // 2])
    with pytest.raises(Exception, match="not a zip"):
        stager(Place(tmp_path / "there").settings).plan(half)
