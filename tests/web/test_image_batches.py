"""`/api/images/batch-process` and `/api/datasets/{id}/duplicates` over HTTP."""

from __future__ import annotations

import pytest
from PIL import Image

from dalla.ids import new_id
from dalla.records.dataset import Dataset, ImageFilter
from tests.services.batch_kit import Desk, group_photo, portrait
from tests.test_measures import scene


@pytest.fixture
def desk(settings):
    """Fills the data folder of the app before it starts: the same files and the same database."""
    pytest.importorskip("cv2")
    desk = Desk(settings)
    yield desk
    desk.close()


@pytest.fixture
def luna(desk):
    set_id = desk.store.insert(Dataset(id=new_id("dataset"), name="Luna")).id
    desk.add(set_id, "both.png", group_photo(), caption="two people")
    desk.add(set_id, "one.jpg", portrait())
    desk.add(set_id, "sea.png", scene(1))
    desk.add(set_id, "sea2.png", scene(1).resize((320, 240), Image.Resampling.LANCZOS))
    return set_id


def finished(client, answer):
    assert answer.status_code == 202, answer.json
    task = client.get(f"/api/tasks/{answer.json['taskId']}/status?wait=60").json
    assert task["status"] == "completed", task
    return task


def ids_of(desk, set_id, **where):
    return desk.store.image_ids(set_id, ImageFilter(**where))


def test_crop_look_at_the_results_and_take_it_back(client, running, desk, luna):
    answer = client.post("/api/images/batch-process", json={"operation": "face_crop", "datasetId": luna})
    assert answer.json["operation"] == "face_crop" and answer.json["images"] == 4
    assert answer.headers["Location"] == f"/api/tasks/{answer.json['taskId']}"
    task = finished(client, answer)
    assert task["result"]["done"] == 2 and task["result"]["skipped"] == 2 and task["result"]["undoable"]
    assert "undo" not in task["result"]["items"][0]["result"], "what only an undo needs is not told"
    page = client.get(f"/api/images/batch-process/{task['taskId']}?limit=1&offset=1").json
    assert page["total"] == 4 and [row["filename"] for row in page["items"]] == ["one.jpg"]
    assert sorted(desk.processed(luna)) == ["both_face_0.png", "both_face_1.png", "one_face_0.png"]
    undo = finished(client, client.post(f"/api/images/batch-process/{task['taskId']}/undo"))
    assert undo["result"]["trashed"] == 3 and desk.processed(luna) == {}
    again = client.post(f"/api/images/batch-process/{task['taskId']}/undo")
    assert again.status_code == 409 and "already" in again.json["detail"]


def test_the_seeds_short_address_answers_too(client, running, desk, luna):
    answer = client.post("/images/batch-process", json={"operation": "analyze", "imageIds": ids_of(desk, luna)[:2]})
    assert finished(client, answer)["result"]["done"] == 2
    assert client.get(f"/datasets/{luna}/duplicates").status_code == 200


def test_a_filter_names_the_pictures(client, running, desk, luna):
    body = {"operation": "analyze", "datasetId": luna, "filter": {"q": "sea"}, "dryRun": True}
    task = finished(client, client.post("/api/images/batch-process", json=body))
    assert [row["filename"] for row in task["result"]["items"]] == ["sea.png", "sea2.png"]
    for wrong in ({**body, "filter": {"colour": "red"}}, {**body, "imageIds": ids_of(desk, luna)}):
        assert client.post("/api/images/batch-process", json=wrong).status_code == 422


def test_operations_with_their_defaults(client, luna):
    rows = {row["name"]: row for row in client.get("/api/images/batch-process").json["operations"]}
    assert {"face_crop", "analyze", "resize", "dedupe", "upscale"} <= set(rows)
    assert rows["face_crop"]["options"]["margin"] == "normal" and rows["dedupe"]["options"]["distance"] == 6


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        ({"operation": "polish"}, 422, "operation"),
        ({"operation": "analyze", "options": {"faces": "no"}}, 422, "options.faces"),
        ({"operation": "analyze", "imageIds": []}, 422, "imageIds"),
        ({"operation": "analyze", "datasetId": "dataset_gone"}, 404, None),
        ({"operation": "analyze", "pictures": 1}, 422, "pictures"),
        ({"options": {}}, 422, "operation"),
    ],
)
def test_what_cannot_be_done_is_said_by_field(client, luna, body, status, field):
    answer = client.post("/api/images/batch-process", json={"datasetId": luna} | body)
    assert answer.status_code == status, answer.json
    if field:
        assert answer.json["errors"][0]["field"] == field


def test_the_same_key_starts_one_batch(client, running, desk, luna):
    headers = {"Idempotency-Key": "once"}
    body = {"operation": "resize", "datasetId": luna, "options": {"size": 64}}
    first = client.post("/api/images/batch-process", json=body, headers=headers)
    second = client.post("/api/images/batch-process", json=body, headers=headers)
    assert first.json == second.json and second.headers["Idempotent-Replayed"] == "true"
    finished(client, first)


def test_a_task_that_is_no_batch(client, luna):
    assert client.get("/api/images/batch-process/job_gone").status_code == 404


def test_duplicates_live_count_and_a_verdict(client, desk, luna):
    found = client.get(f"/api/datasets/{luna}/duplicates?distance=4").json
    (group,) = found["items"]
    assert [image["filename"] for image in group["images"]] == ["sea.png", "sea2.png"] and not group["exact"]
    assert group["images"][0]["thumbUrl"].startswith("/api/images/") and group["images"][0]["metadata"]["dhash"]
    assert [row["distance"] for row in found["counts"]] == list(range(13)) and found["total"] == 1
    ids = [image["id"] for image in group["images"]]
    assert group["keep"]["largest"] == ids[0]
    said = client.post(f"/api/datasets/{luna}/duplicates", json={"verdict": "separate", "imageIds": ids})
    assert said.json == {"verdict": "separate", "pairs": 1}
    assert client.get(f"/api/datasets/{luna}/duplicates?distance=12").json["items"] == []
    client.post(f"/api/datasets/{luna}/duplicates", json={"verdict": "forget", "imageIds": ids})
    kept = client.post(f"/api/datasets/{luna}/duplicates", json={"verdict": "keep", "imageIds": ids, "keepId": ids[1]})
    assert kept.json == {"verdict": "keep", "kept": ids[1], "trashed": [ids[0]]}
    assert ids_of(desk, luna, trashed=True) == [ids[0]]
    back = client.post("/api/images/restore", json={"ids": [ids[0]]})
    assert back.status_code == 200 and ids[0] in ids_of(desk, luna)


@pytest.mark.parametrize(
    ("query", "body"),
    [
        ("distance=13", None),
        ("kind=neither", None),
        (None, {"verdict": "maybe", "imageIds": ["a", "b"]}),
        (None, {"verdict": "keep", "imageIds": ["a"]}),
        (None, {"verdict": "same", "imageIds": ["a", "b"]}),
    ],
)
def test_bad_questions_about_duplicates(client, luna, query, body):
    address = f"/api/datasets/{luna}/duplicates"
    answer = client.get(f"{address}?{query}") if query else client.post(address, json=body)
    assert answer.status_code == 422, answer.json
