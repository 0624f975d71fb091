"""ETag, If-None-Match and If-Match on every kind of record that can be changed."""

from __future__ import annotations

import threading

import pytest

from tests.conftest import png, upload
from tests.engines.standin_trainer import lora_file


@pytest.fixture
def records(client, luna, settings, container):
    """Address of one record of each kind, and two changes that it takes."""
    from pathlib import Path

    media = upload(client, png()).json["items"][0]["id"]
    collection = client.post("/api/collections", json={"name": "A"}).json["id"]
    prompt = client.post("/api/prompts", json={"prompt": "x"}).json["id"]
    post = client.post(
        "/api/posts", json={"characterId": luna["id"], "platform": "twitter", "mediaIds": [media], "caption": "x"}
    ).json["id"]
    task = client.post(
        "/api/scheduler",
        json={"action": "add_task", "characterId": luna["id"], "type": "generate_only", "schedule": "0 9 * * *"},
    ).json["id"]
    dataset = client.post("/api/datasets", json={"name": "set"}).json["id"]
    image = _picture(container, dataset)
    lora_file(Path(settings.loras_dir) / "one.safetensors")
    hook = client.post("/api/webhooks", json={"url": "https://hooks.example.org/a"}).json["id"]
    return {
        "character": (f"/api/characters/{luna['id']}", {"backstory": "a"}, {"backstory": "b"}),
        "media": (f"/api/media/{media}", {"altText": "a"}, {"altText": "b"}),
        "collection": (f"/api/collections/{collection}", {"name": "B"}, {"name": "C"}),
        "prompt": (f"/api/prompts/{prompt}", {"caption": "a"}, {"caption": "b"}),
        "post": (f"/api/posts/{post}", {"caption": "a"}, {"caption": "b"}),
        "task": (f"/api/scheduler/tasks/{task}", {"name": "a"}, {"name": "b"}),
        "dataset": (f"/api/datasets/{dataset}", {"description": "a"}, {"description": "b"}),
        "image": (f"/api/images/{image}", {"caption": "a"}, {"caption": "b"}),
        "lora": ("/api/loras/one", {"description": "a"}, {"description": "b"}),
        "webhook": (f"/api/webhooks/{hook}", {"description": "a"}, {"description": "b"}),
    }


def _picture(container, dataset_id):
    from dalla.records.dataset import DatasetImage

    container.dataset_rows.add_images(
        [
            DatasetImage(
                id="img_one", dataset_id=dataset_id, filename="a.png", path="datasets/x/a.png", sha256="0" * 64,
                mime="image/png", width=64, height=48, size_bytes=10,
            )
        ]
    )  # fmt: skip
    return "img_one"


KINDS = ["character", "media", "collection", "prompt", "post", "task", "dataset", "image", "lora", "webhook"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_record_that_changed_is_not_overwritten(client, records, kind):
    address, first, second = records[kind]
    read = client.get(address)
    tag = read.headers["ETag"]
    assert read.status_code == 200 and tag.startswith('"'), "a strong tag"
    again = client.get(address, headers={"If-None-Match": tag})
    assert again.status_code == 304 and again.data == b"" and again.headers["ETag"] == tag
    assert client.head(address, headers={"If-None-Match": tag}).status_code == 304

    changed = client.patch(address, json=first, headers={"If-Match": f'"unrelated", {tag}'})
    assert changed.status_code == 200, changed.json
    field = next(iter(first))
    assert client.get(address, headers={"If-None-Match": tag}).status_code == 200

    for method in ("patch", "delete"):
        body = {"json": second} if method == "patch" else {}
        refused = getattr(client, method)(address, headers={"If-Match": tag}, **body)
        assert refused.status_code == 412, refused.data
        assert refused.json["code"] == "stale" and refused.json["current"][field] == first[field]
    assert client.get(address).json[field] == first[field]

    fresh = changed.headers["ETag"]  # a change answers the tag to go on with
    assert client.patch(address, json=second, headers={"If-Match": fresh}).status_code == 200
    assert client.patch(address, json=first, headers={"If-Match": "*"}).status_code == 200
    now = client.get(address).headers["ETag"]
    assert client.delete(address, headers={"If-Match": now}).status_code == 200


@pytest.mark.parametrize("kind", KINDS)
def test_of_two_changes_from_the_same_state_one_wins(app, client, records, kind):
    address, first, second = records[kind]
    tag = client.get(address).headers["ETag"]
    start, answers = threading.Barrier(2), []

    def change(body):
        start.wait()
        answers.append(app.test_client().patch(address, json=body, headers={"If-Match": tag}).status_code)

    threads = [threading.Thread(target=change, args=(body,)) for body in (first, second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == [200, 412]


def test_a_tag_of_nothing_is_a_404(client):
    assert client.patch("/api/media/media_no", json={"starred": True}, headers={"If-Match": '"x"'}).status_code == 404
