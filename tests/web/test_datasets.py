"""`/api/datasets` and `/api/images`: lists with filters and tags, edits, the trash, bytes, short addresses."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from dalla.records.dataset import CaptionChange, DatasetImage
from tests.conftest import png


@pytest.fixture
def dataset(client) -> str:
    answer = client.post("/api/datasets", json={"name": "Luna", "triggerWord": "luna_x"})
    assert answer.status_code == 201, answer.json
    assert answer.headers["Location"] == f"/api/datasets/{answer.json['id']}"
    return answer.json["id"]


def add(container, dataset_id: str, name: str, *, color=(200, 80, 20), size=(64, 48), **values: Any) -> str:
    data = png(color, size)
    columns = {key: values.pop(key) for key in list(values) if key in DatasetImage.model_fields}
    id = f"img_{hashlib.sha256((dataset_id + name).encode()).hexdigest()[:12]}"
    path = f"datasets/{dataset_id}/originals/{name}"
    container.blobs.put(path, data)
    sha256 = hashlib.sha256(data).hexdigest()
    image = DatasetImage(
        id=id, dataset_id=dataset_id, filename=name, path=path, width=size[0], height=size[1], size_bytes=len(data),
        sha256=sha256, pixel_sha256=sha256, **columns,
    )  # fmt: skip
    container.dataset_rows.add_images([image], {id: values})
    return id


@pytest.fixture
def pictures(container, dataset) -> list[str]:
    return [
        add(container, dataset, "10_luna/a.png", caption="luna_x, red dress", sharpness=20, faces=1),
        add(container, dataset, "10_luna/b.png", color=(1, 2, 3), caption="sea", sharpness=200, faces=3),
        add(container, dataset, "c.png", color=(9, 9, 9), size=(600, 600)),
    ]  # fmt: skip


def names(client, dataset: str, query: str = "") -> list[str]:
    answer = client.get(f"/api/datasets/{dataset}/images?{query}")
    assert answer.status_code == 200, answer.json
    assert answer.json["total"] == len(answer.json["items"])
    return [item["filename"] for item in answer.json["items"]]


def test_a_dataset_is_made_read_changed_and_listed(client, dataset, luna):
    read = client.get(f"/api/datasets/{dataset}").json
    assert (read["name"], read["triggerWord"], read["revision"]) == ("Luna", "luna_x", 0)
    assert read["counts"]["images"] == 0 and read["health"]["score"] is None and read["covers"] == []
    changed = client.patch(f"/api/datasets/{dataset}", json={"name": "Sea", "characterId": luna["id"]})
    assert (changed.json["name"], changed.json["characterId"]) == ("Sea", luna["id"])
    listed = client.get("/api/datasets?q=sea").json
    assert [row["id"] for row in listed["items"]] == [dataset] and listed["total"] == 1 and listed["nextCursor"] is None
    assert client.get("/api/datasets?q=forest").json["total"] == 0
    for body in ({}, {"name": ""}, {"name": "x", "colour": 1}, {"name": "x", "characterId": "char_none"}):
        assert client.post("/api/datasets", json=body).status_code in (404, 422)
    assert client.patch(f"/api/datasets/{dataset}", json={"characterId": "char_none"}).status_code == 404
    assert client.patch(f"/api/datasets/{dataset}", json={"name": None}).status_code == 422
    assert client.get("/api/datasets/no").status_code == 404


def test_creating_twice_with_one_key_makes_one(client):
    made = [client.post("/api/datasets", json={"name": "A"}, headers={"Idempotency-Key": "k"}) for _ in range(2)]
    assert made[0].json["id"] == made[1].json["id"]
    assert client.get("/api/datasets").json["total"] == 1


def test_a_dataset_goes_to_the_trash_back_and_for_good(client, container, dataset, pictures):
    assert client.delete(f"/api/datasets/{dataset}").json == {"success": True, "permanent": False}
    assert client.get("/api/datasets").json["total"] == 0
    assert [row["id"] for row in client.get("/api/datasets?trashed=true").json["items"]] == [dataset]
    assert client.patch(f"/api/datasets/{dataset}", json={"name": "x"}).status_code == 409
    assert client.patch(f"/api/images/{pictures[0]}", json={"caption": "x"}).status_code == 409
    assert client.post(f"/api/datasets/{dataset}/restore").json["trashedAt"] is None
    assert len(names(client, dataset)) == 3
    client.delete(f"/api/datasets/{dataset}")
    assert client.delete(f"/api/datasets/{dataset}").json["permanent"] is True
    assert client.get(f"/api/datasets/{dataset}").status_code == 404
    assert client.get(f"/api/images/{pictures[0]}/file").status_code == 404
    assert not container.blobs.path(f"datasets/{dataset}").exists()


def test_pictures_are_listed_filtered_and_paged(client, dataset, pictures):
    assert names(client, dataset) == ["10_luna/a.png", "10_luna/b.png", "c.png"]
    assert names(client, dataset, "folder=10_luna&captioned=true&q=sea") == ["10_luna/b.png"]
    assert names(client, dataset, "folder=.") == ["c.png"] == names(client, dataset, "missing=faces")
    assert names(client, dataset, "tag=Red%20dress") == ["10_luna/a.png"] == names(client, dataset, "blurry=1")
    assert names(client, dataset, "faces=2%2B") == ["10_luna/b.png"] == names(client, dataset, "faces=2+")
    assert names(client, dataset, "range.sharpness=100..") == ["10_luna/b.png"]
    assert names(client, dataset, "range.sharpness=20..<200") == ["10_luna/a.png"]
    assert names(client, dataset, "bucket=512x512") == ["c.png"]
    assert names(client, dataset, f"ids={pictures[0]},{pictures[2]}") == ["10_luna/a.png", "c.png"]
    assert names(client, dataset, "sort=blurriest")[0] == "10_luna/a.png"
    page = client.get(f"/api/datasets/{dataset}/images?limit=2").json
    assert page["total"] == 3 and len(page["items"]) == 2
    after = client.get(f"/api/datasets/{dataset}/images?limit=2&cursor={page['nextCursor']}").json
    assert [item["filename"] for item in after["items"]] == ["c.png"] and after["nextCursor"] is None
    jumped = client.get(f"/api/datasets/{dataset}/images?offset=1&limit=1").json
    assert [item["filename"] for item in jumped["items"]] == ["10_luna/b.png"]
    assert client.get(f"/api/datasets/{dataset}/images/ids?captioned=false").json == {"ids": [pictures[2]], "total": 1}
    facets = client.get(f"/api/datasets/{dataset}/facets?captioned=true").json
    assert facets["folders"] == [{"value": "10_luna", "count": 2}] and {row["value"] for row in facets["tags"]} == {
        "luna_x",
        "red dress",
        "sea",
    }


@pytest.mark.parametrize(
    "query",
    ["colour=red", "limit=0", "sort=%20", "cursor=x", "faces=9", "range.x=a", "kind=z", "bucket=1", "offset=-1"],
)
def test_a_query_that_makes_no_sense_is_refused(client, dataset, query):
    answer = client.get(f"/api/datasets/{dataset}/images?{query}")
    assert answer.status_code == 422 and answer.json["errors"], answer.json


def test_lists_and_statistics_answer_304_until_something_changes(client, dataset, pictures):
    addresses = [
        f"/api/datasets/{dataset}/images?captioned=false", f"/api/datasets/{dataset}/facets",
        f"/api/datasets/{dataset}/stats", f"/api/datasets/{dataset}", "/api/datasets", f"/api/images/{pictures[2]}",
    ]  # fmt: skip
    tags = {}
    for address in addresses:
        first = client.get(address)
        tags[address] = first.headers["ETag"]
        assert first.status_code == 200 and first.headers["Cache-Control"] == "private, no-cache"
        again = client.get(address, headers={"If-None-Match": tags[address]})
        assert again.status_code == 304 and again.data == b"", address
        assert again.headers["ETag"] == tags[address]
    assert client.patch(f"/api/images/{pictures[2]}", json={"caption": "new"}).status_code == 200
    for address in addresses:
        after = client.get(address, headers={"If-None-Match": tags[address]})
        assert after.status_code == 200 and after.headers["ETag"] != tags[address], address
    assert names(client, dataset, "captioned=false") == []


def test_statistics_come_with_filters_that_work(client, dataset, pictures):
    stats = client.get(f"/api/datasets/{dataset}/stats?resolution=512&batch=2").json
    assert stats["size"]["images"] == 3 and stats["captions"]["without"] == 1
    query = "&".join(f"{key}={str(value).lower()}" for key, value in stats["blur"]["blurry"]["filter"].items())
    assert names(client, dataset, query) == ["10_luna/a.png"]
    assert stats["health"]["fixes"] and stats["revision"] == 3
    for bad in ("resolution=1", "step=9", "batch=0", "colour=1"):
        assert client.get(f"/api/datasets/{dataset}/stats?{bad}").status_code == 422
    assert client.get("/api/datasets/no/stats").status_code == 404


def test_a_picture_is_edited_and_guarded_against_older_texts(client, container, dataset, pictures):
    id = pictures[0]
    answer = client.patch(f"/api/images/{id}", json={"caption": "mine", "repeats": 3, "ifCaption": "luna_x, red dress"})
    assert answer.status_code == 200, answer.json
    assert (answer.json["caption"], answer.json["captionLocked"], answer.json["repeats"]) == ("mine", True, 3)
    assert client.patch(f"/api/images/{id}", json={"tags": ["a", "b"]}).json["tags"] == ["a", "b"]
    container.caption_rows.write(dataset, [CaptionChange(image_id=id, text="other")], source="engine")
    stale = client.patch(f"/api/images/{id}", json={"caption": "late", "ifCaption": "a, b"})
    assert stale.status_code == 412 and stale.json["code"] == "stale" and stale.json["current"]["caption"] == "other"
    assert client.get(f"/api/images/{id}").json["caption"] == "other"
    for body in ({"repeats": 0}, {"excluded": None}, {"filename": "x"}, {"caption": "x" * 20_001}):
        assert client.patch(f"/api/images/{id}", json=body).status_code == 422
    assert client.patch("/api/images/no", json={"caption": "x"}).status_code == 404


def test_many_pictures_are_changed_trashed_restored_and_deleted(client, dataset, pictures):
    answer = client.patch("/api/images", json={"ids": [*pictures[:2], "no"], "changes": {"excluded": True}})
    assert answer.json["succeeded"] == pictures[:2] and answer.json["failed"][0]["id"] == "no"
    assert names(client, dataset, "excluded=true") == ["10_luna/a.png", "10_luna/b.png"]
    assert client.patch("/api/images", json={"ids": pictures, "changes": {}}).status_code == 422
    assert client.patch("/api/images", json={"ids": pictures, "changes": {"caption": "x"}}).status_code == 422
    assert client.post("/api/images/trash", json={"ids": pictures[:2]}).json["succeeded"] == pictures[:2]
    assert names(client, dataset) == ["c.png"] and len(names(client, dataset, "trashed=true")) == 2
    assert client.post("/api/images/restore", json={"ids": pictures[:1]}).json["succeeded"] == pictures[:1]
    assert (
        client.post("/api/images/trash", json={"ids": pictures[1:2], "permanent": True}).json["succeeded"]
        == pictures[1:2]
    )
    assert client.get(f"/api/images/{pictures[1]}").status_code == 404
    assert client.post("/api/images/trash", json={"ids": []}).status_code == 422


def test_one_picture_goes_to_the_trash_and_for_good(client, container, dataset, pictures):
    id = pictures[2]
    assert client.delete(f"/api/images/{id}").json["permanent"] is False
    assert client.post(f"/api/images/{id}/restore").json["trashedAt"] is None
    client.delete(f"/api/images/{id}")
    assert client.delete(f"/api/images/{id}").json["permanent"] is True
    assert client.delete(f"/api/images/{id}").status_code == 404
    assert client.delete(f"/api/images/{id}?permanent=true").status_code == 404
    assert not container.blobs.exists(f"datasets/{dataset}/originals/c.png")


def test_bytes_are_immutable_behind_their_hash(client, dataset, pictures):
    shown = client.get(f"/api/images/{pictures[2]}").json
    for address, mime in (
        (shown["fileUrl"], "image/png"),
        (shown["thumbUrl"], "image/webp"),
        (shown["previewUrl"], "image/webp"),
    ):
        answer = client.get(address)
        assert answer.status_code == 200 and answer.mimetype == mime
        assert "immutable" in answer.headers["Cache-Control"]
        assert client.get(address, headers={"If-None-Match": answer.headers["ETag"]}).status_code == 304
    assert client.get(shown["fileUrl"]).data == png((9, 9, 9), (600, 600))
    plain = client.get(f"/api/images/{pictures[2]}/thumb")
    assert plain.headers["Cache-Control"] == "private, no-cache"
    part = client.get(shown["fileUrl"], headers={"Range": "bytes=0-7"})
    assert part.status_code == 206 and part.data == b"\x89PNG\r\n\x1a\n"
    attached = client.get(f"/api/images/{pictures[0]}/file?download=true").headers["Content-Disposition"]
    assert attached.startswith("attachment") and "a.png" in attached and "luna" not in attached
    assert client.get(f"/api/images/{pictures[0]}/thumb?size=huge").status_code == 422


def test_short_addresses_are_the_same_ones(client, dataset, pictures):
    assert client.get(f"/datasets/{dataset}").json["id"] == dataset
    assert client.get(f"/datasets/{dataset}/images").json["total"] == 3
    assert client.get(f"/images/{pictures[0]}/thumb").mimetype == "image/webp"
    assert client.patch(f"/images/{pictures[0]}", json={"repeats": 2}).json["repeats"] == 2
    assert client.get("/datasets").json["total"] == 1
    assert client.post("/datasets", json={"name": "B"}).status_code == 201
    page = client.get("/datasets", headers={"Accept": "text/html"})
    assert page.status_code == 302 and page.headers["Location"] == "/datasets.html"
    assert client.get(f"/datasets/{dataset}", headers={"Accept": "text/html"}).json["id"] == dataset
    assert client.get("/imagesx").status_code == 404
    # What is refused under the long address is refused under the short one.
    assert client.get(f"/datasets/{dataset}", headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403
