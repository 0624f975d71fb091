"""Credentials at rest. The contract part runs on every SecretStore."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from dalla.errors import StorageError
from dalla.stores.secrets import FileSecrets

ROOT = Path(__file__).parents[2]
RAW_KEY = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "data" / "secrets"


@pytest.fixture(params=[None, "a passphrase of the user", RAW_KEY])
def key(request):
    return request.param


@pytest.fixture
def secrets(folder, key):
    return FileSecrets(folder, key)


def test_values_come_back_and_survive_reopening(secrets, folder, key):
    assert secrets.get("a") is None
    assert secrets.names() == []
    secrets.put("settings/geminiApiKey", "AIza…✓")
    secrets.put("char_1/instagram_api_key", "IGQ")
    secrets.put("char_1/instagram_api_key", "IGR")
    for store in (secrets, FileSecrets(folder, key)):
        assert store.get("settings/geminiApiKey") == "AIza…✓"
        assert store.get("char_1/instagram_api_key") == "IGR"
        assert store.names() == ["char_1/instagram_api_key", "settings/geminiApiKey"]


def test_delete(secrets, folder, key):
    secrets.put("a", "1")
    secrets.put("b", "2")
    secrets.delete("a")
    secrets.delete("a")
    assert secrets.get("a") is None
    assert FileSecrets(folder, key).names() == ["b"]


def test_two_stores_see_each_other(secrets, folder, key):
    other = FileSecrets(folder, key)
    secrets.put("a", "1")
    assert other.get("a") == "1"
    other.put("b", "2")
    assert secrets.names() == ["a", "b"]


def test_threads_lose_nothing(folder):
    stores = [FileSecrets(folder), FileSecrets(folder)]
    threads = [threading.Thread(target=stores[n % 2].put, args=(f"name{n:02}", str(n))) for n in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert FileSecrets(folder).names() == [f"name{n:02}" for n in range(24)]


def test_nothing_readable_lies_on_the_disk(secrets, folder):
    secrets.put("settings/geminiApiKey", "AIza-very-secret")
    for file in folder.iterdir():
        assert b"AIza" not in file.read_bytes()
        assert b"gemini" not in file.read_bytes()


@pytest.mark.skipif(os.name == "nt", reason="permissions are POSIX")
def test_only_the_user_may_read(folder):
    folder.mkdir(parents=True, mode=0o755)
    FileSecrets(folder).put("a", "1")
    assert folder.stat().st_mode & 0o777 == 0o700
    for name in ("key", "secrets.json"):
        assert (folder / name).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("wrong", ["another", "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZVg=", None])
def test_a_wrong_key_is_said_and_nothing_is_overwritten(folder, wrong):
    FileSecrets(folder, "right").put("a", "1")
    before = (folder / "secrets.json").read_bytes()
    store = FileSecrets(folder, wrong)
    for call in (lambda: store.get("a"), lambda: store.put("b", "2"), lambda: store.delete("a"), store.names):
        with pytest.raises(StorageError) as caught:
            call()
        assert "DALLA_SECRET_KEY" in caught.value.remedy
    assert (folder / "secrets.json").read_bytes() == before
    assert not (folder / "key").exists()
    assert FileSecrets(folder, "right").get("a") == "1"


def test_a_lost_key_file_is_never_replaced_while_credentials_need_it(folder):
    FileSecrets(folder).put("a", "1")
    kept = (folder / "key").read_bytes()
    (folder / "key").unlink()
    for call in (lambda: FileSecrets(folder).get("a"), lambda: FileSecrets(folder).put("b", "2")):
        with pytest.raises(StorageError, match="missing"):
            call()
    assert not (folder / "key").exists()
    (folder / "key").write_bytes(kept)
    assert FileSecrets(folder).get("a") == "1"
    (folder / "key").unlink()
    assert FileSecrets(folder, kept.decode().strip()).get("a") == "1"  # the same key, given as a setting


@pytest.mark.parametrize(
    "damage", [b"", b"{", b"[]", b"{}", b'{"salt": 5, "token": "x"}', b'{"salt": null, "token": "x"}']
)
def test_a_damaged_file_is_said_and_left_alone(folder, damage):
    FileSecrets(folder).put("a", "1")
    (folder / "secrets.json").write_bytes(damage)
    for call in (lambda: FileSecrets(folder).get("a"), lambda: FileSecrets(folder).put("b", "2")):
        with pytest.raises(StorageError):
            call()
    assert (folder / "secrets.json").read_bytes() == damage


def test_a_changed_file_is_noticed(folder):
    FileSecrets(folder, RAW_KEY).put("a", "1")
    envelope = json.loads((folder / "secrets.json").read_text())
    token = envelope["token"]
    envelope["token"] = token[:40] + ("A" if token[40] != "A" else "B") + token[41:]
    (folder / "secrets.json").write_text(json.dumps(envelope))
    with pytest.raises(StorageError):
        FileSecrets(folder, RAW_KEY).get("a")


def test_an_app_without_secrets_loads_no_cryptography(folder):
    code = (
        "import sys; from pathlib import Path; from dalla.stores.secrets import FileSecrets; "
        "s = FileSecrets(Path(sys.argv[1])); assert s.get('a') is None and s.names() == []; s.delete('a'); "
        "assert 'cryptography' not in sys.modules and not s.folder.exists()"
    )
    subprocess.run([sys.executable, "-c", code, str(folder)], cwd=ROOT, check=True)
