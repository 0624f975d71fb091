"""Precedence, locks, validation and persistence of settings."""

from __future__ import annotations

import json

import pytest

from dalla.errors import Conflict, InvalidInput, StorageError
from dalla.settings import ROWS, Settings


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
    assert shown["geminiApiKey"]["set"] is True and shown["geminiApiKey"]["value"] is None
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
