"""Masks of pictures, fetching from addresses and the dataset of a task, over HTTP."""

from __future__ import annotations

from typing import Any

import pytest

from dalla.services.url_uploads import UrlUploads
from dalla.wiring import Container
from tests.services.dataset_import_kit import picture, zipped
from tests.services.test_dataset_masks import mask
from tests.test_downloads import shop  # noqa: F401 - a fixture
from tests.web.test_dataset_import import finished, send


@pytest.fixture
def ready(running: Container, client: Any) -> Any:
    """A client whose tasks are worked on."""
    return client


def test_a_mask_comes_with_the_import_and_can_be_changed(ready: Any) -> None:
    data = zipped({"a.png": picture(1), "a-masklabel.png": mask(), "b.png": picture(2)})
    task = finished(ready, send(ready, "/api/datasets/upload", ("set.zip", data)))
    dataset = task["result"]["datasetId"]
    assert task["datasetId"] == dataset
    assert [row["datasetId"] for row in ready.get("/api/tasks").json["items"]] == [dataset]
    [image] = ready.get(f"/api/datasets/{dataset}/images?has=mask").json["items"]
    assert image["filename"] == "a.png" and image["metadata"]["mask"] == {"width": 48, "height": 32}
    answer = ready.get(image["maskUrl"])
    assert answer.data == mask() and "immutable" in answer.headers["Cache-Control"]
    [other] = ready.get(f"/api/datasets/{dataset}/images?missing=mask").json["items"]
    assert other["maskUrl"] is None
    address = f"/api/images/{other['id']}/mask"
    assert ready.get(address).status_code == 404
    assert ready.put(address, data=b"").status_code == 422
    assert ready.put(address, data=mask((10, 90)), content_type="image/png").json["code"] == "invalid_input"
    assert ready.put(address, data=b"no picture", content_type="image/png").status_code == 415
    assert ready.put(address, data=mask(), content_type="image/png").json["metadata"]["mask"]["width"] == 48
    assert ready.delete(address).json["maskUrl"] is None
    assert ready.delete(address).status_code == 404


def test_captions_are_told_by_language_and_lost_ones_by_name(ready: Any) -> None:
    data = zipped(
        {"a.png": picture(1), "a.txt": "eine Frau mit rotem Kleid", "lost.txt": "a woman", "b.png": picture(2)}
    )
    dataset = finished(ready, send(ready, "/api/datasets/upload", ("set.zip", data)))["result"]["datasetId"]
    said = ready.get(f"/api/datasets/{dataset}/stats").json["captions"]
    assert [(row["value"], row["count"], row["name"]) for row in said["languages"]] == [("de", 1, "German")]
    assert said["orphans"]["count"] == 1 and said["orphans"]["items"][0]["name"] == "lost.txt"
    found = ready.get(f"/api/datasets/{dataset}/images?language=de").json["items"]
    assert [image["filename"] for image in found] == ["a.png"]
    ready.patch(f"/api/images/{found[0]['id']}", json={"caption": "a woman in a red dress"})
    assert ready.get(f"/api/datasets/{dataset}/images?language=de").json["total"] == 0
    # the picture comes after all: its caption is lost no longer
    finished(ready, send(ready, "/api/datasets/upload", ("lost.png", picture(3)), datasetId=dataset))
    assert ready.get(f"/api/datasets/{dataset}/stats").json["captions"]["orphans"]["count"] == 0


def test_addresses_are_fetched_by_a_task(ready: Any, container: Container, shop: str) -> None:  # noqa: F811
    refused = ready.post("/api/uploads/fetch", json={"urls": [f"{shop}/a.png"]})
    assert refused.status_code == 202
    task = ready.get(f"/api/tasks/{refused.json['taskId']}?wait=30").json
    assert task["status"] == "failed" and "this computer" in task["error"]["detail"]
    assert ready.post("/api/uploads/fetch", json={"urls": "nonsense"}).status_code == 422
    container.url_uploads = UrlUploads(container.uploads, container.jobs, private=True)
    task = finished(ready, ready.post("/api/uploads/fetch", json={"urls": f"{shop}/a.png\n{shop}/no"}))
    assert task["result"]["summary"] == "1 of 2 fetched" and len(task["itemsFailed"]) == 1
    [id] = task["result"]["uploadIds"]
    assert ready.get(f"/api/uploads/{id}").json["complete"]
