"""Precedence, locks, validation and persistence of settings."""

from __future__ import annotations

import json

import pytest

from dalla.errors import Conflict, InvalidInput, NotFound, Stale, StorageError
from dalla.settings import KEPT_UNDOS, ROWS, Settings


def load(tmp_path, environ=None, dotenv="", file=None, flags=None):
    (tmp_path / ".env").write_text(dotenv)
    data = tmp_path / "data"
    data.mkdir(exist_ok=True)
    if file is not None:
        (data / "settings.json").write_text(file if isinstance(file, str) else json.dumps(file))
    environ = {"DALLA_DATA_DIR": str(data), **(environ or {})}
    return Settings.load(environ=environ, env_file=tmp_path / ".env", flags=flags)


def row(settings, name):
    return next(r for r in settings.describe() if r["name"] == name)


def test_precedence(tmp_path):
    url = {n: f"http://{n}:1" for n in ("env", "dotenv", "file")}
    dotenv = f"COMFYUI_URL={url['dotenv']}\n"
    assert load(tmp_path).comfyui_url == "http://127.0.0.1:8188"
    assert load(tmp_path, file={"comfyuiUrl": url["file"]}).comfyui_url == url["file"]
    assert load(tmp_path, dotenv=dotenv).comfyui_url == url["dotenv"]
    assert load(tmp_path, {"COMFYUI_URL": url["env"]}, dotenv).comfyui_url == url["env"]
    assert load(tmp_path, {"DALLA_PORT": "1"}, flags={"port": 2}).port == 2


def test_sources_and_locks_are_told(tmp_path):
    settings = load(tmp_path, {"DALLA_PORT": "6000"}, file={"trashDays": 5})
    assert (row(settings, "port")["source"], row(settings, "port")["locked"]) == ("env", True)
    assert (row(settings, "trashDays")["source"], row(settings, "trashDays")["locked"]) == ("file", False)
    assert row(settings, "imageEngine")["source"] == "default"
    with pytest.raises(Conflict, match="DALLA_PORT"):
        settings.change({"port": 7000})


def test_change_is_saved_live_and_reset(tmp_path):
    settings = load(tmp_path)
    settings.change({"comfyuiUrl": "http://gpu:8188/", "COMFYUI_TIMEOUT": 30})
    assert settings.comfyui_url == "http://gpu:8188" and settings.comfyui_timeout == 30.0
    again = load(tmp_path)
    assert again.comfyui_url == "http://gpu:8188" and again.comfyui_timeout == 30.0
    again.change({"comfyuiUrl": None})
    assert again.comfyui_url == "http://127.0.0.1:8188" and "comfyuiUrl" not in json.loads(again.file.read_text())


def test_a_bad_change_changes_nothing(tmp_path):
    settings = load(tmp_path)
    with pytest.raises(InvalidInput) as refused:
        settings.change({"trashDays": 3, "comfyuiUrl": "ftp://x", "colour": "red", "timezone": "Mars/X"})
    assert {e["field"] for e in refused.value.errors} == {"comfyuiUrl", "colour", "timezone"}
    assert settings.trash_days == 30 and not settings.file.exists()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DALLA_PORT", "many"),
        ("DALLA_PORT", "70000"),
        ("DALLA_AUTH", "maybe"),
        ("COMFYUI_URL", "localhost"),
        ("COMFYUI_HEADERS", "[]"),
    ],
)
def test_bad_environment_is_named(tmp_path, name, value):
    with pytest.raises(InvalidInput, match=name):
        load(tmp_path, {name: value})


def test_a_broken_settings_file_stops_the_start_and_stays(tmp_path):
    with pytest.raises(StorageError, match=r"settings\.json"):
        load(tmp_path, file='{"port": ')
    assert (tmp_path / "data" / "settings.json").read_text() == '{"port": '


def test_secrets_are_kept_encrypted_and_never_shown(client, container):
    answer = client.patch("/api/settings", json={"geminiApiKey": "AIza-very-secret-key"})
    assert answer.status_code == 200 and "very-secret" not in answer.text
    shown = {r["name"]: r for r in answer.json["items"]}
    assert shown["geminiApiKey"]["set"] is True and shown["geminiApiKey"]["value"] == "••••-key"
    assert container.settings.gemini_api_key == "AIza-very-secret-key"
    from pathlib import Path

    files = [p for p in Path(container.settings.data_dir).rglob("*") if p.is_file()]
    assert not any(b"very-secret" in p.read_bytes() for p in files)
    client.patch("/api/settings", json={"geminiApiKey": None})
    assert not container.settings.gemini_api_key


def test_over_http(client):
    assert client.patch("/api/settings", json={"port": "x"}).status_code == 422
    assert client.patch("/api/settings", json=[1]).status_code in (400, 422)
    assert (
        client.patch("/api/settings", json={"comfyuiUrl": "http://x"}).status_code == 409
    )  # the test's environment sets it
    names = [r["name"] for r in client.get("/api/settings").json["items"]]
    assert len(names) == len(ROWS) == len(set(names))


@pytest.mark.parametrize(
    "change",
    [
        {"comfyuiUrl": "http://[::1"},
        {"comfyuiUrl": "http://host:port"},
        {"comfyuiLoraDir": "~nobody-of-this-name/loras"},
        {"comfyuiLoraDir": "a\0b"},
        {"trashDays": 1e20},
        {"trashDays": float("inf")},
        {"engineIdleMinutes": "inf"},
        {"modelFamilies": "[" * 100_000},
        {"secretKey": "kept where it could not be read"},
    ],
)
def test_values_that_cannot_work_are_refused_by_name(tmp_path, change):
    settings = load(tmp_path)
    with pytest.raises(InvalidInput) as caught:
        settings.change(change)
    assert caught.value.errors[0]["field"] == next(iter(change)) and not settings.file.exists()


def test_the_environment_and_the_env_file_are_told_apart(tmp_path):
    settings = load(tmp_path, {"DALLA_PORT": "6000"}, dotenv="DALLA_TRASH_DAYS=5\n", flags={"dry_run": True})
    assert [row(settings, n)["source"] for n in ("port", "trashDays", "dryRun")] == ["env", "dotenv", "flag"]
    for name, where in (("port", "in the environment"), ("trashDays", "in .env"), ("dryRun", "on the command line")):
        assert row(settings, name)["locked"]
        with pytest.raises(Conflict, match=where):
            settings.change({name: 1})


def test_values_for_the_next_start_wait_and_are_then_in_force(tmp_path):
    settings = load(tmp_path)
    settings.change({"logLevel": "DEBUG", "trashDays": 9})
    assert settings.log_level == "INFO" and settings.pending() == ["logLevel"] and settings.trash_days == 9
    assert row(settings, "logLevel")["source"] == "default"  # what is in force
    again = load(tmp_path)
    assert again.log_level == "DEBUG" and again.pending() == [] and row(again, "logLevel")["source"] == "file"
    again.change({"logLevel": None})
    assert again.log_level == "DEBUG" and row(again, "logLevel")["pendingValue"] == "INFO"
    assert load(tmp_path).log_level == "INFO"


def test_unknown_keys_in_the_file_survive_a_change(tmp_path):
    settings = load(tmp_path, file={"trashDays": 5, "ofALaterVersion": [1]})
    settings.change({"trashDays": 6})
    assert json.loads(settings.file.read_text()) == {"trashDays": 6, "ofALaterVersion": [1]}


def test_a_trial_changes_nothing(tmp_path):
    settings = load(tmp_path)
    trial = settings.trial({"logLevel": "ERROR", "trashDays": 4})
    assert (trial.log_level, trial.trash_days) == ("ERROR", 4)
    assert (settings.log_level, settings.trash_days, settings.pending()) == (
        "INFO",
        30,
        [],
    ) and not settings.file.exists()


class Secrets(dict):
    """A secret store that may break."""

    broken = False

    def put(self, name, value):
        if self.broken:
            raise StorageError("The disk is full.")
        self[name] = value

    def delete(self, name):
        self.pop(name, None)


def test_nothing_is_saved_in_part(tmp_path, monkeypatch):
    settings, secrets = load(tmp_path), Secrets()
    settings.attach_secrets(secrets)
    settings.change({"geminiApiKey": "the-first-key-1234", "trashDays": 9})
    etag = settings.etag
    monkeypatch.setattr(
        "dalla.settings.write_atomic", lambda *a, **k: (_ for _ in ()).throw(OSError(28, "No space left"))
    )
    with pytest.raises(StorageError):
        settings.change({"geminiApiKey": "the-second-key-1234", "trashDays": 1})
    assert secrets == {"settings/geminiApiKey": "the-first-key-1234"}
    assert (settings.gemini_api_key, settings.trash_days, settings.etag) == ("the-first-key-1234", 9, etag)


def test_of_two_writers_with_the_same_tag_one_is_late(tmp_path):
    settings = load(tmp_path)
    tag = f'"{settings.etag}"'
    assert settings.change({"trashDays": 3}, if_match=tag)
    with pytest.raises(Stale):
        settings.change({"trashDays": 4}, if_match=tag)
    assert settings.change({"trashDays": 4}, if_match="*") and settings.trash_days == 4


def test_only_the_last_changes_can_be_undone(tmp_path):
    settings = load(tmp_path)
    ids = [settings.change({"trashDays": 1 + n}) for n in range(KEPT_UNDOS + 1)]
    with pytest.raises(NotFound):
        settings.undo(ids[0])
    assert settings.undo(ids[-1]) == ["trashDays"] and settings.trash_days == KEPT_UNDOS
    assert settings.change({}) is None


def test_every_setting_has_words_of_its_own():
    assert all(r.label and r.help and r.min <= r.max for r in ROWS)
    assert len({(r.group, r.label) for r in ROWS}) == len(ROWS)
