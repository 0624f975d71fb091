"""Planning, importing, resumable uploads and the check, over HTTP."""

from __future__ import annotations

import hashlib
import io
import os
import time
from pathlib import Path
from typing import Any

import pytest

from dalla.wiring import Container
from tests.services.dataset_import_kit import kohya_zip, picture, zipped


def form(*files: tuple[str, bytes], **fields: str) -> dict[str, Any]:
    return {"file": [(io.BytesIO(data), name) for name, data in files], **fields}


def send(client: Any, address: str, *files: tuple[str, bytes], **fields: str) -> Any:
    return client.post(address, data=form(*files, **fields), content_type="multipart/form-data")


def finished(client: Any, answer: Any) -> dict[str, Any]:
    """Follow an accepted import to its end."""
    assert answer.status_code == 202, answer.json
    task = client.get(f"/api/tasks/{answer.json['taskId']}?wait=30").json
    assert task["status"] == "completed", task
    return dict(task)


def upload(client: Any, data: bytes, name: str, piece: int = 400) -> str:
    """Send bytes as a resumable upload, piece by piece."""
    body = {"name": name, "size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    answer = client.post("/api/uploads", json=body)
    assert answer.status_code == 201 and answer.headers["Location"] == f"/api/uploads/{answer.json['id']}"
    state = answer.json
    while not state["complete"]:
        part = data[state["offset"] : state["offset"] + piece]
        answer = client.put(
            f"/api/uploads/{state['id']}?offset={state['offset']}", data=part, content_type="application/octet-stream"
        )
        assert answer.status_code == 200, answer.json
        assert answer.json["offset"] == state["offset"] + len(part)
        state = answer.json
    return str(state["id"])


@pytest.fixture
def ready(running: Container, client: Any) -> Any:
    """A client whose tasks are worked on."""
    return client


def test_plan_then_import_of_a_resumable_upload(ready: Any, container: Container) -> None:
    id = upload(ready, kohya_zip(), "My Luna.zip")
    plan = ready.post("/api/datasets/plan", json={"uploadIds": [id]})
    assert plan.status_code == 200, plan.json
    assert plan.json["summary"].startswith(
        "5 pictures, 2 captions paired, 1 orphan, 1 empty caption, 1 duplicate, kohya repeats 10"
    )
    assert plan.json["dataset"] == {"id": None, "name": "My Luna"}
    assert [row["code"] for row in plan.json["refused"]] == ["empty", "path_escape"]
    answer = ready.post(
        "/api/datasets/import", json={"uploadIds": [id], "name": "Luna", "options": {"folderCaptions": False}}
    )
    task = finished(ready, answer)
    assert task["result"]["added"] == 4 and task["result"]["datasetId"] == answer.json["datasetId"]
    assert {row["code"] for row in task["itemsFailed"]} == {"empty", "path_escape"}
    dataset = ready.get(f"/api/datasets/{answer.json['datasetId']}").json
    assert dataset["name"] == "Luna" and dataset["counts"]["images"] == 4 and dataset["counts"]["captioned"] == 2
    assert ready.get(f"/api/uploads/{id}").status_code == 404  # used up


def test_a_zip_and_pictures_sent_with_the_request(ready: Any) -> None:
    answer = send(
        ready, "/api/datasets/upload", ("set.zip", zipped({"a.png": picture(1), "a.txt": "one"})), name="Mine"
    )
    finished(ready, answer)
    id = answer.json["datasetId"]
    more = send(
        ready, "/api/datasets/upload", ("b.png", picture(2)), ("b.txt", b"two"), ("../c.png", picture(3)), datasetId=id
    )
    assert [(row["name"], row["code"]) for row in more.json["failed"]] == [("../c.png", "invalid_input")]
    finished(ready, more)
    items = ready.get(f"/api/datasets/{id}/images").json["items"]
    assert {item["filename"]: item["caption"] for item in items} == {"a.png": "one", "b.png": "two"}


def test_the_short_address_answers_too(ready: Any) -> None:
    assert finished(ready, send(ready, "/datasets/upload", ("a.png", picture(1))))["result"]["added"] == 1


def test_plan_of_a_form_can_be_imported_afterwards(ready: Any) -> None:
    plan = send(ready, "/api/datasets/plan", ("a.png", picture(1)), ("b.png", picture(1)), options='{"kohya": false}')
    assert plan.status_code == 200 and plan.json["summary"] == "2 pictures, 0 captions paired, 1 duplicate"
    task = finished(ready, ready.post("/api/datasets/import", json={"uploadIds": plan.json["uploadIds"]}))
    assert task["result"]["added"] == 1


def test_a_folder_of_this_computer(ready: Any, tmp_path: Path) -> None:
    folder = tmp_path / "pics" / "3_luna"
    folder.mkdir(parents=True)
    (folder / "a.png").write_bytes(picture(1))
    plan = ready.post("/api/datasets/plan", json={"path": str(folder)}).json
    assert plan["kohya"]["level"] == "leaf" and plan["summary"] == "1 picture, 0 captions paired, kohya repeats 3"
    answer = ready.post("/api/datasets/import", json={"path": str(folder)})
    finished(ready, answer)
    [item] = ready.get(f"/api/datasets/{answer.json['datasetId']}/images").json["items"]
    assert (item["repeats"], item["concept"]) == (3, "luna")


def test_a_repeated_key_imports_once(ready: Any) -> None:
    id = upload(ready, picture(1), "a.png")
    ask = {"json": {"uploadIds": [id]}, "headers": {"Idempotency-Key": "once"}}
    first, second = ready.post("/api/datasets/import", **ask), ready.post("/api/datasets/import", **ask)
    assert first.json["taskId"] == second.json["taskId"] and second.headers["Idempotent-Replayed"] == "true"
    finished(ready, first)


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        ({}, 422, "uploadIds"),
        ({"path": "relative"}, 422, "path"),
        ({"path": "/nowhere/at/all"}, 404, None),
        ({"uploadIds": ["upload_1_aaaaaaaaa"]}, 404, None),
        ({"uploadIds": ["../../etc/passwd"]}, 404, None),
        ({"uploadIds": "text"}, 422, "uploadIds"),
        ({"path": "/tmp", "uploadIds": ["upload_1_aaaaaaaaa"]}, 422, "uploadIds"),
        ({"path": "/tmp", "datasetId": "dataset_1_aaaaaaaaa"}, 404, None),
        ({"path": "/tmp", "options": {"duplicates": "both"}}, 422, "options.duplicates"),
        ({"path": "/tmp", "unknown": 1}, 422, "unknown"),
    ],
)
def test_bad_wishes(client: Any, body: dict[str, Any], status: int, field: str | None) -> None:
    for address in ("/api/datasets/plan", "/api/datasets/import"):
        answer = client.post(address, json=body)
        assert answer.status_code == status, answer.json
        if field is not None:
            assert answer.json["errors"][0]["field"] == field
    assert client.get("/api/datasets").json["items"] == []


def test_bad_forms(client: Any, container: Container) -> None:
    assert send(client, "/api/datasets/upload").status_code == 422
    assert send(client, "/api/datasets/upload", ("a.png", picture(1)), options="{broken").status_code == 422
    assert send(client, "/api/datasets/upload", ("a.zip", b"PK\3\4 not really")).status_code == 415
    assert send(client, "/api/datasets/upload", ("/etc/passwd", b"x")).status_code == 422
    assert client.post("/api/datasets/upload", json={"path": "/tmp"}).status_code == 400
    assert not list((Path(container.settings.data_dir) / "uploads").glob("upload_*"))  # nothing of them is left
    assert client.get("/api/datasets").json["items"] == []


def test_the_data_folder_is_not_imported(client: Any, container: Container) -> None:
    data = Path(container.settings.data_dir)
    for place in (data, data / "secrets", data.parent):
        place.mkdir(parents=True, exist_ok=True)
        assert client.post("/api/datasets/plan", json={"path": str(place)}).status_code == 403


# ---------------------------------------------------------------- uploads


def test_an_upload_is_gone_on_with(client: Any) -> None:
    data = os.urandom(1000)
    id = client.post("/api/uploads", json={"name": "a.zip", "size": 1000}).json["id"]
    put = {"content_type": "application/octet-stream"}
    assert client.put(f"/api/uploads/{id}?offset=0", data=data[:600], **put).json["offset"] == 600
    wrong = client.put(f"/api/uploads/{id}?offset=0", data=data, **put)
    assert wrong.status_code == 409 and wrong.json["offset"] == 600
    state = client.get(f"/api/uploads/{id}").json
    assert (state["offset"], state["size"], state["complete"]) == (600, 1000, False)
    assert state["expiresAt"] > state["createdAt"] and state["chunkSize"] > 0
    assert client.put(f"/api/uploads/{id}?offset=600", data=data[600:], **put).json["complete"]
    assert client.delete(f"/api/uploads/{id}").json == {"success": True}
    assert client.get(f"/api/uploads/{id}").status_code == 404
    assert client.delete(f"/api/uploads/{id}").status_code == 404


def test_pieces_of_any_content_type(client: Any) -> None:
    """A browser names the type of the file it sends a piece of."""
    data = picture(1)
    for kind in ("image/png", "application/zip", "application/json", "text/plain", ""):
        id = client.post("/api/uploads", json={"name": "a.png", "size": len(data)}).json["id"]
        answer = client.put(f"/api/uploads/{id}?offset=0", data=data, content_type=kind)
        assert answer.status_code == 200 and answer.json["complete"], (kind, answer.json)


def test_an_upload_that_is_not_whole_cannot_be_imported(client: Any) -> None:
    id = client.post("/api/uploads", json={"name": "a.zip", "size": 1000}).json["id"]
    answer = client.post("/api/datasets/import", json={"uploadIds": [id]})
    assert answer.status_code == 409 and "0 of 1000 bytes" in answer.json["detail"]


@pytest.mark.parametrize(
    "body",
    [
        {"name": "../a.zip", "size": 1},
        {"name": "", "size": 1},
        {"name": "a.zip", "size": -1},
        {"name": "a.zip"},
        {"name": "a.zip", "size": 1, "sha256": "x"},
    ],
)
def test_bad_uploads(client: Any, body: dict[str, Any]) -> None:
    assert client.post("/api/uploads", json=body).status_code == 422


# ---------------------------------------------------------------- the check


def test_check_and_repair(ready: Any, container: Container) -> None:
    answer = send(ready, "/api/datasets/upload", ("a.png", picture(1)), ("b.png", picture(2)))
    finished(ready, answer)
    id = answer.json["datasetId"]
    assert ready.get(f"/api/datasets/{id}/check").json["ok"]
    originals = Path(container.settings.data_dir) / "datasets" / id / "originals"
    (originals / "a.png").unlink()
    (originals / "new.png").write_bytes(picture(3))
    long_ago = time.time() - 3600
    os.utime(originals / "new.png", (long_ago, long_ago))
    report = ready.get(f"/api/datasets/{id}/check").json
    assert report["counts"] == {"missing_file": 1, "foreign_file": 1} and not report["ok"]
    looked = finished(ready, ready.post(f"/api/datasets/{id}/check", json={}))
    assert looked["result"]["repaired"] == {} and not looked["result"]["ok"]
    repaired = finished(ready, ready.post(f"/api/datasets/{id}/check", json={"repair": True}))
    assert repaired["result"]["repaired"] == {"missing_file": 1, "foreign_file": 1}
    names = [item["filename"] for item in ready.get(f"/api/datasets/{id}/images").json["items"]]
    assert names == ["b.png", "new.png"]
    assert ready.get(f"/api/datasets/{id}/check").json["ok"]
    assert ready.get("/api/datasets/dataset_1_aaaaaaaaa/check").status_code == 404
    assert ready.post(f"/api/datasets/{id}/check", json={"repair": "maybe"}).status_code == 422
