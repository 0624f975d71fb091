"""Versions, exports and training folders over HTTP."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from dalla.records.dataset import CaptionChange, Dataset, DatasetImage
from dalla.web import dataset_versions as web
from tests.conftest import Client
from tests.services.dataset_versions_kit import picture

ID = "dataset_1"


@pytest.fixture
def store(container: Any) -> Any:
    store = container.dataset_rows
    store.insert(Dataset(id=ID, name="Luna", trigger_word="ohwx"))
    for number, name in enumerate(("a.png", "b.png", "c.png"), 1):
        data, key = picture(number), f"datasets/{ID}/originals/{name}"
        container.blobs.put(key, data)
        sha = hashlib.sha256(data).hexdigest()
        image = DatasetImage(
            id=f"img_{number}", dataset_id=ID, filename=name, path=key, sha256=sha, width=80, height=60
        )
        store.add_images([image.with_(caption=f"ohwx, {name}", caption_source="file", size_bytes=len(data))])
    return store


@pytest.fixture
def client(store: Any, running: Any, app: Any) -> Any:
    app.test_client_class = Client
    return app.test_client()


def caption(container: Any, id: str, text: str) -> None:
    container.caption_rows.write(ID, [CaptionChange(image_id=id, text=text)], source="human")


def finished(container: Any, answer: Any) -> Any:
    assert answer.status_code == 202, answer.json
    assert answer.headers["Location"] == f"/api/tasks/{answer.json['taskId']}"
    job = container.jobs.wait(answer.json["taskId"], 30)
    assert job.status == "completed", job.error
    return job


def test_versions(client: Any, container: Any) -> None:
    first = client.post(f"/api/datasets/{ID}/versions", json={"note": "as imported"})
    assert first.status_code == 201 and first.headers["Location"] == f"/api/datasets/{ID}/versions/1"
    assert (first.json["number"], first.json["images"], first.json["created"]) == (1, 3, True)
    again = client.post(f"/api/datasets/{ID}/versions", json={})
    assert again.status_code == 200 and again.json["number"] == 1 and again.json["created"] is False
    caption(container, "img_1", "other")
    assert client.get(f"/api/datasets/{ID}/versions/current").json["counts"]["recaptioned"] == 1
    client.post(f"/api/datasets/{ID}/versions", json={"note": "edited"})
    listed = client.get(f"/api/datasets/{ID}/versions").json["items"]
    assert [(v["number"], v["note"], v["recaptioned"]) for v in listed] == [(2, "edited", 1), (1, "as imported", 0)]
    assert "entries" not in listed[0]
    seen = client.get(f"/api/datasets/{ID}/versions/2").json
    assert seen["note"] == "edited" and seen["against"] == 1
    assert seen["recaptioned"] == [{"imageId": "img_1", "filename": "a.png", "before": "ohwx, a.png", "after": "other"}]
    assert client.get(f"/api/datasets/{ID}/versions/1?against=2").json["recaptioned"][0]["after"] == "ohwx, a.png"
    back = client.post(f"/api/datasets/{ID}/versions/1/restore")
    assert back.status_code == 200 and back.json["captions"] == 1 and back.json["savedAs"] is None
    assert client.get(f"/api/datasets/{ID}/versions/current?against=1").json["same"] is True


def test_a_large_version_is_restored_as_a_task(client: Any, container: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    client.post(f"/api/datasets/{ID}/versions", json={})
    caption(container, "img_1", "other")
    assert finished(container, client.post(f"/api/datasets/{ID}/versions/1/restore?async=1")).result["captions"] == 1
    caption(container, "img_1", "another")
    monkeypatch.setattr(web, "AT_ONCE", 2)
    result = finished(container, client.post(f"/api/datasets/{ID}/versions/1/restore")).result
    assert result["captions"] == 1 and result["savedAs"] == 3
    assert client.get(f"/api/datasets/{ID}/versions/current?against=1").json["same"] is True
    assert client.post(f"/api/datasets/{ID}/versions/9/restore?async=1").status_code == 404


def test_export_and_download_in_parts(client: Any, container: Any) -> None:
    body = {"format": "kohya", "options": {"classWord": "woman"}}
    answer = client.post(f"/api/datasets/{ID}/exports", json=body)
    assert answer.json["filename"] == "training_data_v1.zip" and answer.json["version"] == 1
    job = finished(container, answer)
    assert job.result["images"] == 3
    (row,) = client.get(f"/api/datasets/{ID}/exports").json["items"]
    assert row["status"] == "ready" and row["fileUrl"] == f"/api/datasets/{ID}/exports/1" and "path" not in row
    whole = client.get(row["fileUrl"])
    assert whole.status_code == 200 and whole.headers["Accept-Ranges"] == "bytes"
    assert "training_data_v1.zip" in whole.headers["Content-Disposition"]
    assert hashlib.sha256(whole.data).hexdigest() == row["sha256"] and len(whole.data) == row["sizeBytes"]
    assert "img/1_ohwx woman/a.png" in zipfile.ZipFile(io.BytesIO(whole.data)).namelist()
    part = client.get(row["fileUrl"], headers={"Range": "bytes=100-199"})
    assert part.status_code == 206 and part.data == whole.data[100:200]
    assert client.get(row["fileUrl"], headers={"If-None-Match": whole.headers["ETag"]}).status_code == 304
    assert client.get(row["fileUrl"], headers={"Range": "bytes=99999999-"}).status_code == 416

    finished(container, client.post(f"/api/datasets/{ID}/exports", json=body))
    assert client.get(f"/api/datasets/{ID}/exports/2").data == whole.data
    assert client.delete(f"/api/datasets/{ID}/exports/2").json == {"success": True}
    assert client.get(f"/api/datasets/{ID}/exports/2").status_code == 404
    assert [row["number"] for row in client.get(f"/api/datasets/{ID}/exports").json["items"]] == [1]


def test_the_short_addresses(client: Any) -> None:
    made = client.post(f"/datasets/{ID}/versions", json={})
    assert made.status_code == 201 and client.get(f"/datasets/{ID}/versions/1").json["images"] == 3


def test_a_dataset_can_be_trained(client: Any, container: Any) -> None:
    """`datasetId` of a training is a dataset: its pictures are written to training_data/ first."""
    answer = client.post("/api/lora/estimate", json={"datasetId": ID})
    assert (Path(container.settings.training_data_dir) / "Luna" / "b.png").read_bytes() == picture(2)
    assert answer.status_code == 200 or "model" in answer.json["detail"].lower(), answer.json


def test_a_repeated_key_makes_one_export(client: Any, container: Any) -> None:
    headers = {"Idempotency-Key": "k1"}
    first = client.post(f"/api/datasets/{ID}/exports", json={"format": "pairs"}, headers=headers)
    finished(container, first)
    second = client.post(f"/api/datasets/{ID}/exports", json={"format": "pairs"}, headers=headers)
    assert second.json["taskId"] == first.json["taskId"] and second.headers["Idempotent-Replayed"] == "true"
    assert len(client.get(f"/api/datasets/{ID}/exports").json["items"]) == 1


def test_materialize(client: Any, container: Any) -> None:
    answer = client.post(f"/api/datasets/{ID}/materialize", json={})
    assert answer.json["name"] == "Luna"
    assert finished(container, answer).result["pictures"] == 3
    folder = Path(container.settings.training_data_dir) / "Luna"
    assert (folder / "a.txt").read_text() == "ohwx, a.png\n" and (folder / "a.png").read_bytes() == picture(1)
    (folder / "mine.txt").write_text("x")
    refused = client.post(f"/api/datasets/{ID}/materialize", json={"name": "Luna"})
    assert refused.status_code == 409 and "changed by hand" in refused.json["detail"]
    finished(container, client.post(f"/api/datasets/{ID}/materialize", json={"name": "Luna", "overwrite": True}))
    assert not (folder / "mine.txt").exists()


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("get", "versions/x", None, 422),
        ("get", "versions/9", None, 404),
        ("get", "versions/current?against=x", None, 422),
        ("post", "versions", {"note": "x" * 2001}, 422),
        ("post", "versions", {"colour": 1}, 422),
        ("post", "versions/9/restore", None, 404),
        ("post", "versions/0/restore", None, 422),
        ("post", "exports", {}, 422),
        ("post", "exports", {"format": "rar"}, 422),
        ("post", "exports", {"format": "kohya", "options": {"quality": 0}}, 422),
        ("post", "exports", {"format": "kohya", "options": {"filter": {"colour": 1}}}, 422),
        ("post", "exports", {"format": "kohya", "version": 7}, 404),
        ("get", "exports/7", None, 404),
        ("delete", "exports/7", None, 404),
        ("post", "materialize", {"name": "../x"}, 422),
        ("post", "materialize", {"version": 7}, 404),
        ("post", "materialize", {"use": "processed"}, 202),  # told by its task
    ],
)
def test_what_is_refused(client: Any, method: str, path: str, body: Any, status: int) -> None:
    answer = client.open(f"/api/datasets/{ID}/{path}", method=method.upper(), json=body)
    assert answer.status_code == status, answer.json
    if status >= 400:
        assert answer.json["detail"] and answer.json["code"]
    if status == 422 and "options" in (body or {}):
        assert answer.json["errors"][0]["field"].startswith("options.")


def test_other_datasets(client: Any, store: Any) -> None:
    assert client.get("/api/datasets/dataset_9/versions").status_code == 404
    assert client.post("/api/datasets/dataset_9/exports", json={"format": "kohya"}).status_code == 404
    store.update(ID, trashed_at="2026-01-01T00:00:00.000Z")
    refused = client.post(f"/api/datasets/{ID}/exports", json={"format": "kohya"})
    assert refused.status_code == 409 and refused.json["remedy"] == "Restore it first."


def test_the_formats_and_options_are_told(client: Any) -> None:
    told = client.get("/api/datasets/export-formats").json
    assert {row["name"] for row in told["formats"]} >= {
        "kohya",
        "imagefolder",
        "ai-toolkit",
        "onetrainer",
        "simpletuner",
    }
    assert {"use", "resize", "bucketStep", "stripMetadata", "validationPercent"} <= set(told["options"]["properties"])
    assert json.dumps(told)
