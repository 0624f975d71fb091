"""Captions of datasets over HTTP: edits, history, undo, tags, engines, and a run of an engine."""

from __future__ import annotations

import io

import pytest
from PIL import Image

from dalla.ids import new_id
from dalla.records.dataset import Dataset, DatasetImage
from dalla.times import now_iso
from tests.fakes.gemini import GeminiFake


@pytest.fixture
def pictures(container):
    """A dataset of three pictures: its id and theirs."""
    c = container
    set_id = c.dataset_rows.insert(
        Dataset(id=new_id("dataset"), name="Luna", trigger_word="luna", created_at=now_iso())
    ).id
    ids = []
    for n, caption in enumerate(("a cat, red", "a dog, red", "")):
        out = io.BytesIO()
        Image.new("RGB", (40, 30), (200, 10 * n, 20)).save(out, "PNG")
        key = f"datasets/{set_id}/originals/{n}.png"
        c.blobs.put(key, out.getvalue())
        ids.append(new_id("img"))
        image = DatasetImage(
            id=ids[-1], dataset_id=set_id, filename=f"{n}.png", path=key, width=40, height=30, caption=caption,
            caption_source="file" if caption else "none", created_at=now_iso(), updated_at=now_iso(),
        )  # fmt: skip
        c.dataset_rows.add_images([image])
    return set_id, ids


def edit(client, set_id, operation, options, **more):
    return client.post(f"/api/datasets/{set_id}/captions", json={"operation": operation, "options": options, **more})


def caption(client, id):
    return client.get(f"/api/images/{id}").json["caption"]


def test_preview_then_edit_then_undo(client, pictures):
    set_id, ids = pictures
    options = {"find": "red", "replacement": "blue", "mode": "tag"}
    shown = edit(client, set_id, "replace", options, dryRun=True)
    assert shown.status_code == 200, shown.json
    assert shown.json["matches"] == 2 and shown.json["images"] == 3 and shown.json["dryRun"]
    assert shown.json["changes"][0] == {
        "imageId": ids[0],
        "filename": "0.png",
        "before": "a cat, red",
        "after": "a cat, blue",
    }
    assert caption(client, ids[0]) == "a cat, red"
    done = edit(client, set_id, "replace", options).json
    assert done["changed"] == 2 and caption(client, ids[1]) == "a dog, blue"
    rows = client.get(f"/api/datasets/{set_id}/caption-batches").json["items"]
    assert [row["batchId"] for row in rows] == [done["batchId"]] and rows[0]["modelUsed"] == "replace"
    undone = client.post(f"/api/datasets/{set_id}/caption-batches/{done['batchId']}/undo")
    assert undone.status_code == 200 and undone.json["undone"] == 2
    assert caption(client, ids[0]) == "a cat, red"


def test_the_scope_of_an_edit(client, pictures):
    set_id, ids = pictures
    assert edit(client, set_id, "add_tag", {"tag": "x"}, imageIds=[ids[2]]).json["changed"] == 1
    assert edit(client, set_id, "add_tag", {"tag": "y"}, filter={"tag": "red"}).json["changed"] == 2
    assert edit(client, set_id, "add_tag", {"tag": "z"}, filter={"captioned": True}, dryRun=True).json["matches"] == 3
    assert [caption(client, id) for id in ids] == ["a cat, red, y", "a dog, red, y", "x"]
    both = edit(client, set_id, "tidy", {}, imageIds=ids, filter={"tag": "red"})
    assert both.status_code == 422 and both.json["errors"][0]["field"] == "filter"
    assert edit(client, set_id, "tidy", {}, filter={"colour": "red"}).status_code == 422
    many = edit(client, set_id, "add_tag", {"tag": "q"}, imageIds=[*ids, *(f"img_{n}" for n in range(12_000))])
    assert many.json["changed"] == 3


def test_wrong_edits_name_what_is_wrong(client, pictures):
    set_id, _ = pictures
    for operation, options, field in (
        ("explode", {}, "operation"),
        ("replace", {"find": "(", "mode": "regex"}, "find"),
        ("replace", {"find": "(a)", "mode": "regex", "replacement": "$4"}, "replacement"),
        ("rename_tag", {"tag": "a"}, "to"),
    ):
        answer = edit(client, set_id, operation, options, dryRun=True)
        assert answer.status_code == 422 and answer.json["errors"][0]["field"] == field, answer.json
    assert client.post(f"/api/datasets/{set_id}/captions", json={}).status_code == 422
    assert edit(client, "dataset_none", "tidy", {}).status_code == 404


def test_an_edit_as_a_task(client, running, pictures, monkeypatch):
    set_id, ids = pictures
    answer = client.post(
        f"/api/datasets/{set_id}/captions",
        json={"operation": "suffix", "options": {"text": "x"}},
        headers={"Prefer": "respond-async"},
    )
    assert answer.status_code == 202
    task = client.get(f"/api/tasks/{answer.json['taskId']}/status?wait=30").json
    assert task["status"] == "completed" and task["result"]["changed"] == 3
    monkeypatch.setattr("dalla.web.dataset_captions.AT_ONCE", 2)
    assert edit(client, set_id, "suffix", {"text": "y"}).status_code == 202
    assert edit(client, set_id, "suffix", {"text": "y"}, dryRun=True).status_code == 200


def test_a_key_makes_an_edit_happen_once(client, pictures):
    set_id, ids = pictures
    body = {"operation": "replace", "options": {"find": "a", "replacement": "aa"}}
    for _ in range(2):
        answer = client.post(f"/api/datasets/{set_id}/captions", json=body, headers={"Idempotency-Key": "k1"})
        assert answer.status_code == 200 and answer.json["changed"] == 2
    assert caption(client, ids[0]) == "aa caat, red"


def test_the_history_of_a_picture(client, pictures):
    set_id, ids = pictures
    path = f"/api/images/{ids[0]}/captions"
    client.patch(f"/api/images/{ids[0]}", json={"caption": "by hand"})
    told = client.get(path).json
    assert [row["text"] for row in told["entries"]] == ["by hand", "a cat, red"]
    assert told["captionLocked"] and told["undoTo"] == told["entries"][1]["id"]
    back = client.post(f"{path}/undo")
    assert back.status_code == 200 and back.json["caption"] == "a cat, red" and not back.json["captionLocked"]
    again = client.post(f"{path}/undo", json={"entryId": told["entries"][0]["id"]})
    assert again.json["caption"] == "by hand" and again.json["captionLocked"]
    assert client.post(f"{path}/undo", json={"entryId": 99_999}).status_code == 404
    assert client.post(f"{path}/undo", json={"entry": 1}).status_code == 422
    assert client.post(f"/api/images/{ids[2]}/captions/undo").status_code == 409
    assert client.get("/api/images/img_none/captions").status_code == 404


def test_tags(client, pictures):
    set_id, _ = pictures
    told = client.get(f"/api/datasets/{set_id}/tags").json
    assert told["tags"][0] == {"tag": "red", "count": 2} and told["total"] == 3
    assert client.get(f"/api/datasets/{set_id}/tags?q=CAT").json["tags"] == [{"tag": "a cat", "count": 1}]
    assert client.get("/api/datasets/dataset_none/tags").status_code == 404
    assert client.get(f"/datasets/{set_id}/tags").json == told  # the short address


def test_who_can_write_captions(client):
    told = client.get("/api/datasets/caption-engines").json
    assert told["auto"] == {"caption": "basic", "tag": "basic"}
    assert [row["name"] for row in told["engines"] if row["available"]] == ["basic"]
    assert client.get("/api/datasets/caption-engines?fresh=1").status_code == 200


def test_a_run_of_an_engine(client, running, settings, pictures):
    set_id, ids = pictures
    with GeminiFake() as fake:
        settings._values.update(gemini_api_key=fake.key, gemini_base_url=fake.url)
        body = {"operation": "caption", "datasetId": set_id, "options": {"engine": "gemini", "mode": "replace"}}
        answer = client.post("/api/images/batch-process", json=body)
        assert answer.status_code == 202, answer.json
        task = client.get(f"/api/tasks/{answer.json['taskId']}/status?wait=60").json
    assert task["status"] == "completed" and task["result"]["done"] == 3, task
    assert len(fake.pictures) == 3
    image = client.get(f"/api/images/{ids[2]}").json
    assert image["caption"].startswith("luna, A woman in a red dress") and image["captionSource"] == "engine"
    rows = client.get(f"/api/datasets/{set_id}/caption-batches").json["items"]
    assert rows[0]["images"] == 3 and rows[0]["modelUsed"] == "gemini:gemini-3.5-flash-lite"
    undone = client.post(f"/api/images/batch-process/{task['taskId']}/undo")
    client.get(f"/api/tasks/{undone.json['taskId']}/status?wait=60")
    assert [caption(client, id) for id in ids] == ["a cat, red", "a dog, red", ""]


def test_a_batch_that_cannot_start_says_why(client, pictures):
    set_id, _ = pictures
    body = {"operation": "caption", "datasetId": set_id, "options": {"engine": "gemini"}}
    answer = client.post("/api/images/batch-process", json=body)
    assert (
        answer.status_code == 409 and answer.json["code"] == "not_configured" and "Gemini key" in answer.json["detail"]
    )
