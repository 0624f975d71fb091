"""`/api/shelf` and the models of a character, over HTTP."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fakes.comfyui import ComfyFake
from tests.services.shelf_kit import LORA, SD15, weights_file


@pytest.fixture(autouse=True)
def files(settings, running):
    weights_file(
        Path(settings.models_dir) / "a.safetensors", SD15, {"modelspec.license": "MIT", "modelspec.title": "A"}
    )
    weights_file(Path(settings.loras_dir) / "l.safetensors", LORA)


def ids(client, **query):
    return {row["name"]: row["id"] for row in client.get("/api/shelf", query_string=query).json["items"]}


def wait(client, answer):
    assert answer.status_code == 202, answer.json
    task = client.get(f"/api/tasks/{answer.json['taskId']}/status?wait=60").json
    assert task["status"] == "completed", task
    return task["result"]


def test_the_list_and_one_of_it(client):
    answer = client.get("/api/shelf").json
    assert {"a.safetensors", "l", "starter"} <= {row["name"] for row in answer["items"]}
    assert answer["counts"]["lora"] == 1 and answer["volumes"][0]["freeBytes"] > 0 and answer["server"] is False
    assert ids(client, kind="lora").keys() == {"l"} and ids(client, source="comfyui") == {}
    assert client.get("/api/shelf?kind=nonsense").status_code == 422
    assert client.get("/api/shelf?source=moon").status_code == 422
    row = client.get(f"/api/shelf/{ids(client)['a.safetensors']}").json
    assert row["metadata"]["modelspec.title"] == "A" and row["tensors"] == len(SD15) and row["dtypes"].keys() == {"F16"}
    assert row["fit"]["fits"] == "yes" and row["license"] == "MIT"
    assert client.get("/api/shelf/shelf_0000").status_code == 404
    row = client.patch(f"/api/shelf/{row['id']}", json={"license": "Mine", "notes": "n"}).json
    assert (row["license"], row["licenseSource"]) == ("Mine", "person")


def test_hash_trash_undo_and_purge(client):
    wait(client, client.post("/api/shelf/hash", json={}))
    rows = {row["name"]: row for row in client.get("/api/shelf").json["items"]}
    assert len(rows["a.safetensors"]["sha256"]) == 64
    assert client.post("/api/shelf/hash", json={"ids": ["shelf_no"]}).status_code == 422
    id = rows["a.safetensors"]["id"]
    plan = client.post("/api/shelf/trash", json={"ids": [id], "dryRun": True}).json
    assert plan["dryRun"] and "trashId" not in plan["items"][0]
    gone = client.post("/api/shelf/trash", json={"ids": [id]}).json["items"][0]
    assert "a.safetensors" not in ids(client)
    assert client.get("/api/shelf/trash").json["items"][0]["id"] == gone["trashId"]
    assert (
        client.post("/api/shelf/restore", json={"ids": [gone["trashId"]]}).json["items"][0]["name"] == "a.safetensors"
    )
    assert ids(client)["a.safetensors"] == id
    gone = client.post("/api/shelf/trash", json={"ids": [id]}).json["items"][0]
    assert client.delete(f"/api/shelf/trash/{gone['trashId']}").json["freedBytes"] > 0
    assert client.delete(f"/api/shelf/trash/{gone['trashId']}").status_code == 404
    assert client.delete("/api/shelf/trash/..%2F..").status_code in (404, 422)
    assert client.post("/api/shelf/trash", json={"ids": [ids(client)["starter"]]}).status_code == 409


def test_an_upload_goes_onto_the_shelf(client, tmp_path):
    data = weights_file(tmp_path / "x.safetensors", SD15, fill=5).read_bytes()
    up = client.post("/api/uploads", json={"name": "new.safetensors", "size": len(data)}).json
    assert client.post("/api/shelf/add", json={"uploadId": up["id"]}).status_code == 409, "not complete yet"
    client.put(f"/api/uploads/{up['id']}?offset=0", data=data, content_type="application/octet-stream")
    result = wait(client, client.post("/api/shelf/add", json={"uploadId": up["id"]}))
    assert result == {"kind": "model", "name": "new.safetensors"} and "new.safetensors" in ids(client)
    assert client.post("/api/shelf/add", json={"uploadId": "upload_1_aaaaaaaaa"}).status_code == 404


def test_fit_resident_free_and_convert(client):
    fit = client.get("/api/shelf/fit?name=a.safetensors&width=768&height=512&batch=3").json
    assert fit["fits"] in ("yes", "tight", "no") and fit["basis"] == "estimated" and fit["width"] == 768
    assert fit["needBytes"] > 0 and fit["haveBytes"] > 0 and fit["device"] and isinstance(fit["advice"], list)
    assert client.get("/api/shelf/fit?name=nothing").status_code == 404
    assert client.get("/api/shelf/fit").status_code == 422
    assert client.get("/api/shelf/resident").json == {"items": [], "totalBytes": 0}
    assert client.post("/api/shelf/free", json={}).json == {"freed": []}
    assert client.post("/api/shelf/free", json={"engine": "toaster"}).status_code == 404
    off = client.post("/api/shelf/free", json={"engine": "comfyui"})
    assert off.status_code == 503 and "ComfyUI" in off.json["detail"] and "address" in off.json["remedy"]
    elsewhere = client.get("/api/shelf/fit?name=theirs.safetensors&source=comfyui")
    assert elsewhere.status_code == 404 and elsewhere.json["remedy"] == off.json["remedy"]
    assert off.json["detail"] in elsewhere.json["detail"], "a server that is off is the likely reason"
    assert "ComfyUI" not in client.get("/api/shelf/fit?name=theirs.safetensors&source=local").json["detail"]
    refused = client.post("/api/shelf/convert", json={"id": ids(client)["a.safetensors"]})
    assert refused.status_code == 409 and "DALLA_PICKLE_WEIGHTS" in refused.json["remedy"]


def test_the_models_of_a_character(client):
    luna = client.post("/api/characters", json={"name": "Luna", "preferredModel": "a.safetensors"}).json["id"]
    base = f"/api/characters/{luna}/models"
    assert client.get(base).json["pin"] is None
    pinned = client.post(f"{base}/pin")
    assert pinned.status_code == 201 and pinned.json["state"] == "same"
    wait(client, _task(pinned.json["taskId"]))
    assert client.get(base).json["pin"]["model"]["sha256"]
    client.patch(
        f"/api/characters/{luna}", json={"loras": [{"name": "l", "strength": 0.5}], "preferredModel": "starter"}
    )
    now = client.get(base).json
    assert any("does not use it now" in text for text in now["warnings"])
    log = client.get(f"{base}/log?limit=1").json
    assert (
        set(log["items"][0]["kinds"]) == {"model", "loras"} and log["items"][0]["by"] == "person" and log["nextCursor"]
    )
    assert client.get(f"{base}/log", query_string={"cursor": "x"}).status_code == 422
    assert client.post(f"{base}/use", json={}).json["current"]["model"]["name"] == "a.safetensors"
    assert client.get(f"/api/characters/{luna}").json["loras"] == []
    assert client.post(f"{base}/use", json={"changeId": log["items"][0]["id"]}).json["current"]["model"]["name"] == "starter"  # fmt: skip
    assert client.post(f"{base}/use", json={"changeId": "change_1"}).status_code == 404
    assert client.delete(f"{base}/pin").json == {"success": True, "removed": True}
    assert client.get("/api/characters/nobody/models").status_code == 404


class _task:
    """A 202 that was answered inside another answer."""

    status_code = 202

    def __init__(self, id):
        self.json = {"taskId": id}


def test_what_the_comfyui_server_offers_is_listed_by_name(client, settings, monkeypatch):
    with ComfyFake() as comfy:
        monkeypatch.setitem(settings._values, "comfyui_url", comfy.url)
        rows = {row["name"]: row for row in client.get("/api/shelf?source=comfyui").json["items"]}
        assert rows and client.get("/api/shelf").json["server"] is True
        model = next(row for row in rows.values() if row["kind"] == "model" and row["family"])
        assert model["sizeBytes"] > 0 and model["sha256"] is None and not model["hashable"] and not model["removable"]
        refused = client.post("/api/shelf/trash", json={"ids": [model["id"]]})
        assert refused.status_code == 409 and "ComfyUI server" in refused.json["detail"]
        fit = client.get("/api/shelf/fit", query_string={"name": model["name"], "source": "comfyui"}).json
        assert fit["device"].startswith("ComfyUI") and fit["fits"] in ("yes", "tight", "no", "unknown")
        assert any(row["kind"] in ("vae", "text_encoder", "upscaler") for row in rows.values())
        luna = client.post("/api/characters", json={"name": "Luna", "preferredModel": model["name"]}).json["id"]
        assert client.post(f"/api/characters/{luna}/models/pin").json["state"] == "same"
    client.application.extensions["dalla"].engines.forget_status()
    assert client.get(f"/api/characters/{luna}/models").json["state"] == "unknown", "a server that is off loses nothing"
