"""The settings over HTTP: changing, dry run, undo, concurrent edits, secrets, and a real try of every service."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from dalla.settings import ROWS
from tests.conftest import NOWHERE
from tests.fakes.bucket import ACCESS_KEY, SECRET_KEY, BucketFake
from tests.fakes.comfyui import ComfyFake
from tests.fakes.graph import APP_ID, APP_SECRET, GraphFake
from tests.fakes.openai_server import OpenAIFake
from tests.fakes.x import XFake
from tests.web.auth_kit import People


def row(answer, name):
    return next(r for r in answer.json["items"] if r["name"] == name)


def attempt(client, service, **unsaved):
    answer = client.post(f"/api/settings/test/{service}", json={"settings": unsaved} if unsaved else {})
    assert answer.status_code == 200, answer.text
    body = answer.json
    assert set(body) == {"service", "ok", "detail", "remedy", "durationMs", "info"} and body["detail"]
    assert body["ok"] or body["remedy"], body
    return body


# ------------------------------------------------------------------ reading and changing


def test_every_setting_says_all_about_itself(client):
    answer = client.get("/api/settings")
    assert answer.headers["ETag"] and len(answer.json["items"]) == len(ROWS)
    for one in answer.json["items"]:
        assert one["label"] and one["help"] and one["source"] in ("default", "file", "env", "dotenv", "flag"), one
        assert (one["min"] is not None) == (one["kind"] in ("int", "float")), one
        assert bool(one["choices"]) == (one["kind"] == "choice"), one
    assert row(answer, "comfyuiUrl")["source"] == "env" and row(answer, "comfyuiUrl")["locked"]
    assert row(answer, "trashDays") | {"help": ""} == {
        "name": "trashDays", "env": "DALLA_TRASH_DAYS", "kind": "int", "choices": None, "group": "storage",
        "label": "Keep the trash for", "help": "", "unit": "days", "min": 1, "max": 3650, "secret": False, "value": 30,
        "set": True, "default": 30, "source": "default", "locked": False, "needsRestart": False, "pending": False,
        "problem": None,
    }  # fmt: skip


def test_a_change_is_told_and_can_be_undone(client, container):
    answer = client.patch("/api/settings", json={"trashDays": 7, "captionLanguage": "Deutsch"})
    assert [(c["name"], c["before"], c["after"]) for c in answer.json["changes"]] == [
        ("trashDays", 30, 7),
        ("captionLanguage", "", "Deutsch"),
    ]
    assert container.settings.trash_days == 7
    undone = client.post("/api/settings/undo", json={"id": answer.json["undo"]})
    assert sorted(undone.json["undone"]) == ["captionLanguage", "trashDays"] and container.settings.trash_days == 30
    assert row(undone, "trashDays")["source"] == "default"
    assert client.post("/api/settings/undo", json={"id": answer.json["undo"]}).status_code == 404


def test_undo_does_not_take_away_what_came_after(client):
    first = client.patch("/api/settings", json={"trashDays": 7}).json["undo"]
    client.patch("/api/settings", json={"trashDays": 8})
    refused = client.post("/api/settings/undo", json={"id": first})
    assert refused.status_code == 409 and row(client.get("/api/settings"), "trashDays")["value"] == 8


def test_a_dry_run_lists_and_changes_nothing(client, container):
    client.patch("/api/settings", json={"trashDays": 7, "geminiApiKey": "AIza-a-very-long-key-6f2a"})
    before = container.settings.file.read_bytes()
    planned = client.patch("/api/settings?dryRun=true", json={"trashDays": None, "geminiApiKey": None, "dryRun": False})
    assert planned.json["dryRun"] is True
    assert [(c["name"], c["before"], c["after"]) for c in planned.json["changes"]] == [
        ("trashDays", 7, 30),
        ("geminiApiKey", "••••6f2a", None),
    ]
    assert container.settings.file.read_bytes() == before and container.settings.trash_days == 7


def test_of_two_who_edit_at_once_the_second_is_told(client):
    tag = client.get("/api/settings").headers["ETag"]
    first = client.patch("/api/settings", json={"trashDays": 7}, headers={"If-Match": tag})
    assert first.status_code == 200 and first.headers["ETag"] != tag
    second = client.patch("/api/settings", json={"trashDays": 9}, headers={"If-Match": tag})
    assert second.status_code == 412 and row_of(second.json["current"], "trashDays") == 7
    third = client.patch("/api/settings", json={"trashDays": 9}, headers={"If-Match": first.headers["ETag"]})
    assert third.status_code == 200


def row_of(body, name):
    return next(r for r in body["items"] if r["name"] == name)["value"]


def test_what_waits_for_the_restart_is_told_and_can_be_taken_back(client, container):
    answer = client.patch("/api/settings", json={"logLevel": "DEBUG", "trashDays": 7})
    level = row(answer, "logLevel")
    assert (level["value"], level["pendingValue"], level["pending"], level["needsRestart"]) == (
        "INFO",
        "DEBUG",
        True,
        True,
    )
    assert answer.json["pending"] == ["logLevel"] and container.settings.log_level == "INFO"
    back = client.patch("/api/settings", json={"logLevel": None})
    assert back.json["pending"] == [] and "pendingValue" not in row(back, "logLevel")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"comfyuiHeaders": "[1]"}, "JSON object"),
        ({"trashDays": 0}, "between 1 and 3,650 days"),
        ({"trashDays": 7.5}, "whole number"),
        ({"port": 70000}, "between 0 and 65,535"),
        ({"quietHours": "at night"}, "23:00-07:00"),
        ({"quietHours": "25:00-07:00"}, "23:00-07:00"),
        ({"allowedHosts": "studio.local, http://x"}, "'http://x' is not a host name"),
        ({"instagramGraphVersion": "26"}, "v26.0"),
        ({"s3Bucket": "My Bucket"}, "lower-case"),
        ({"s3Endpoint": "https://s3.example.com/pictures"}, "its own field"),
        ({"databaseUrl": "mysql://x"}, "postgresql://"),
        ({"geminiApiKey": "env:NOT A NAME"}, "environment variable"),
        ({"captionUrl": "http://169.254.169.254/v1"}, "metadata"),
        ({"captionUrl": "http://[fd00:ec2::254]/"}, "metadata"),
        ({"s3Endpoint": "http://169.254.1.1"}, "link-local"),
        ({"xApiUrl": "http://metadata.google.internal"}, "metadata"),
        ({"captionUrl": "http://[::ffff:169.254.169.254]/"}, "metadata"),
    ],
)
def test_what_cannot_work_is_refused_at_its_field_in_words(client, container, change, words):
    refused = client.patch("/api/settings", json=change)
    assert refused.status_code == 422, refused.text
    (error,) = refused.json["errors"]
    assert error["field"] == next(iter(change)) and words in error["message"] and not container.settings.file.exists()


@pytest.mark.parametrize("url", ["http://127.0.0.1:11434/v1", "http://192.168.1.9:1234", "http://[fd12::1]:8080", "http://localhost:1"])  # fmt: skip
def test_private_addresses_are_fine(client, url):
    assert client.patch("/api/settings", json={"captionUrl": url}).status_code == 200


def test_a_name_that_leads_to_metadata_is_refused(client, monkeypatch):
    monkeypatch.setattr(
        socket, "getaddrinfo", lambda host, *a, **k: [(0, 0, 0, "", ("169.254.169.254" if "evil" in host else "10.0.0.1", 0))]
    )  # fmt: skip
    refused = client.patch("/api/settings", json={"captionUrl": "http://evil.example/v1"})
    assert refused.status_code == 422 and "169.254.169.254" in refused.json["detail"]
    assert client.patch("/api/settings", json={"captionUrl": "http://good.example/v1"}).status_code == 200


def test_the_app_cannot_be_locked_out_of_its_own_address(client, container):
    refused = client.patch("/api/settings", json={"host": "0.0.0.0"})
    assert (
        refused.status_code == 422
        and refused.json["errors"][0]["field"] == "host"
        and "account" in refused.json["detail"]
    )
    with socket.create_server(("127.0.0.1", 0)) as taken:
        refused = client.patch("/api/settings", json={"port": taken.getsockname()[1]})
        assert refused.status_code == 422 and refused.json["errors"][0]["field"] == "port"
    assert client.patch("/api/settings", json={"host": "203.0.113.7", "auth": "off"}).status_code == 422  # not ours


# ------------------------------------------------------------------ secrets


def test_a_secret_is_shown_as_a_mask_which_sent_back_changes_nothing(client, container):
    answer = client.patch("/api/settings", json={"geminiApiKey": "AIza-a-very-long-key-6f2a"})
    assert (row(answer, "geminiApiKey")["value"], row(answer, "geminiApiKey")["set"]) == ("••••6f2a", True)
    assert client.patch("/api/settings", json={"geminiApiKey": "••••6f2a"}).json["changes"] == []
    assert container.settings.gemini_api_key == "AIza-a-very-long-key-6f2a"
    assert row(client.patch("/api/settings", json={"geminiApiKey": "short"}), "geminiApiKey")["value"] == "••••"
    undo = client.patch("/api/settings", json={"geminiApiKey": None})
    assert row(undo, "geminiApiKey")["value"] is None and undo.json["changes"][0]["before"] == "••••"
    back = client.post("/api/settings/undo", json={"id": undo.json["undo"]})
    assert "short" not in back.text and container.settings.gemini_api_key == "short"


def test_a_secret_may_point_at_an_environment_variable(tmp_path):
    from app import create_app
    from dalla.settings import Settings
    from dalla.wiring import Container

    folders = ("DATA", "TRAINING_DATA", "LORAS", "MODELS")
    environ = {f"DALLA_{f}_DIR": str(tmp_path / f) for f in folders} | {"MY_KEY": "AIza-from-outside", "COMFYUI_URL": NOWHERE}  # fmt: skip
    settings = Settings.load(environ=environ, env_file=tmp_path / "no.env")
    container = Container(settings)
    try:
        client = create_app(settings, container=container).test_client()
        answer = client.patch("/api/settings", json={"geminiApiKey": "env:MY_KEY", "captionApiKey": "env:NOT_THERE"})
        assert row(answer, "geminiApiKey")["value"] == "env:MY_KEY" and settings.gemini_api_key == "AIza-from-outside"
        missing = row(answer, "captionApiKey")
        assert missing["set"] is False and "NOT_THERE" in missing["problem"] and settings.caption_api_key == ""
        assert "AIza-from-outside" not in answer.text
    finally:
        container.close()
    again = Settings.load(environ=environ, env_file=tmp_path / "no.env")
    container = Container(again)
    try:
        assert again.gemini_api_key == "AIza-from-outside"  # after a restart too
        assert next(r for r in again.describe() if r["name"] == "geminiApiKey")["value"] == "env:MY_KEY"
    finally:
        container.close()


# ------------------------------------------------------------------ who may


def test_only_an_admin_changes_and_tries(app):
    people = People(app)
    for person in (people.viewer, people.editor):
        assert person.get("/api/settings").status_code == 200
        assert person.patch("/api/settings", {"trashDays": 9}).status_code == 403
        assert person.post("/api/settings/undo", {"id": "x"}).status_code == 403
        assert person.post("/api/settings/test/composer", {}).status_code == 403
    changed = people.admin.patch("/api/settings", {"trashDays": 9})
    assert changed.status_code == 200
    assert people.admin.post("/api/settings/test/composer", {}).json["ok"] is True


# ------------------------------------------------------------------ trying services


def test_there_is_no_test_for_anything_else(client):
    refused = client.post("/api/settings/test/teapot", json={})
    assert refused.status_code == 404 and "comfyui" in refused.json["detail"]
    assert set(client.get("/api/settings").json["tests"]) == {
        "comfyui", "builtin", "gemini", "local", "composer", "hosting", "bucket", "instagram", "x", "database", "redis",
        "paths", "timezone",
    }  # fmt: skip


def test_unsaved_values_are_checked_like_saved_ones(client, container):
    refused = client.post("/api/settings/test/local", json={"settings": {"captionUrl": "http://169.254.169.254"}})
    assert refused.status_code == 422 and refused.json["errors"][0]["field"] == "captionUrl"
    locked = client.post("/api/settings/test/comfyui", json={"settings": {"comfyuiUrl": "http://elsewhere"}})
    assert locked.status_code == 409 and "COMFYUI_URL" in locked.json["detail"]
    assert container.settings.comfyui_url == NOWHERE and not container.settings.file.exists()


def test_comfyui(tmp_path, client):
    off = attempt(client, "comfyui")
    assert off["ok"] is False and "refused" in off["detail"]


class TestWithComfy:
    @pytest.fixture
    def environ(self):
        with ComfyFake() as fake:
            yield {"COMFYUI_URL": fake.url}

    def test_comfyui_answers_with_what_it_has(self, client):
        found = attempt(client, "comfyui")
        assert found["ok"] and found["info"]["models"] > 0 and "models" in found["detail"]


def test_the_composer_and_an_unset_gemini(client):
    assert attempt(client, "composer")["ok"] is True
    off = attempt(client, "gemini")
    assert off["ok"] is False and "key" in off["detail"].lower()


def test_a_local_caption_server_with_an_unsaved_address(client, container):
    with OpenAIFake() as fake:
        found = attempt(client, "local", captionUrl=f"{fake.url}/v1")
    assert found["ok"] is True and container.settings.caption_url == ""
    assert attempt(client, "local", captionUrl=NOWHERE)["ok"] is False


def test_a_bucket_is_written_read_and_cleared(client):
    assert attempt(client, "bucket")["ok"] is False  # none is set
    with BucketFake() as fake:
        env = {"s3Endpoint": fake.url, "s3Bucket": fake.bucket, "s3AccessKey": ACCESS_KEY, "s3SecretKey": SECRET_KEY}
        found = attempt(client, "bucket", **env)
        assert found["ok"] and fake.puts == 1 and fake.objects == {}
        wrong = attempt(client, "bucket", **{**env, "s3SecretKey": "wrong-secret-key"})
        assert wrong["ok"] is False and "secret key" in wrong["detail"] and "wrong-secret-key" not in str(wrong)
        lost = attempt(client, "bucket", **env, s3PublicUrl=NOWHERE)
        assert lost["ok"] is False and "nothing can be read" in lost["detail"] and fake.objects == {}


def test_hosting_says_at_which_step_it_fails(client):
    none = attempt(client, "hosting")
    assert none["ok"] is False and none["info"]["mode"] == "none"
    private = attempt(client, "hosting", publicBaseUrl="https://192.168.1.4")
    assert private["ok"] is False and "192.168.1.4" in private["detail"]
    with BucketFake() as fake:
        env = {"s3Endpoint": fake.url, "s3Bucket": fake.bucket, "s3AccessKey": ACCESS_KEY, "s3SecretKey": SECRET_KEY}
        good = attempt(client, "hosting", **env, instagramGraphUrl="http://127.0.0.1:9")
        assert good["ok"] and good["info"]["mode"] == "bucket" and len(good["info"]["steps"]) >= 4


def test_the_graph_api_and_the_app_secret(client):
    with GraphFake() as fake:
        assert attempt(client, "instagram", instagramGraphUrl=fake.url)["ok"] is True
        old = attempt(client, "instagram", instagramGraphUrl=fake.url, instagramGraphVersion="v9.0")
        assert old["ok"] is False and "v9.0" in old["detail"]
    with GraphFake(prefix="/facebook") as fake:
        facebook = {"instagramGraphUrl": fake.url, "instagramAppId": APP_ID}
        assert attempt(client, "instagram", **facebook, instagramAppSecret=APP_SECRET)["ok"] is True
        wrong = attempt(client, "instagram", **facebook, instagramAppSecret="not-the-secret-1")
        assert wrong["ok"] is False and "app id and secret" in wrong["detail"] and "not-the-secret-1" not in str(wrong)
        assert all("client_secret" not in call.query for call in fake.requests)
    assert "does not answer" in attempt(client, "instagram", instagramGraphUrl=NOWHERE)["detail"]


def test_the_x_api(client):
    with XFake() as fake:
        assert attempt(client, "x", xApiUrl=fake.url)["ok"] is True and fake.posted == []
    with BucketFake() as other:
        assert attempt(client, "x", xApiUrl=other.url)["ok"] is False
    assert attempt(client, "x", xApiUrl=NOWHERE)["ok"] is False


def test_the_database_and_redis(client, container):
    found = attempt(client, "database")
    assert found["ok"] and found["info"]["sizeBytes"] > 0
    wrong = attempt(client, "database", databaseUrl="postgresql://dalla:pass-word-1@127.0.0.1:9/dalla")
    assert wrong["ok"] is False and "127.0.0.1:9" in wrong["detail"] and "pass-word-1" not in str(wrong)
    assert attempt(client, "redis")["ok"] is True
    wrong = attempt(client, "redis", redisUrl="redis://:pass-word-1@127.0.0.1:9/0")
    assert wrong["ok"] is False and "pass-word-1" not in str(wrong)


def test_the_folders(client, container, tmp_path):
    found = attempt(client, "paths")
    assert found["ok"] and {"dataDir", "modelsDir"} <= {f["name"] for f in found["info"]["folders"]}
    assert attempt(client, "paths", comfyuiLoraDir=str(tmp_path / "not" / "there"))["ok"] is True  # can be made
    refused = client.post("/api/settings/test/paths", json={"settings": {"comfyuiLoraDir": __file__}})
    assert refused.status_code == 422 and "is a file" in refused.json["detail"]
    bad = attempt(client, "paths", comfyuiLoraDir=f"{__file__}/loras")
    assert bad["ok"] is False and "cannot be made" in bad["detail"]
    assert not list(Path(container.settings.data_dir).glob(".probe*"))


def test_the_time_zone(client):
    assert "Asia/Tokyo" in attempt(client, "timezone", timezone="Asia/Tokyo")["detail"]
