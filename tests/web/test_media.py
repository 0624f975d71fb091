"""The gallery API: import, find, sort, trash, bytes and recipes."""

from __future__ import annotations

import io
import zlib

import pytest
from PIL import Image, PngImagePlugin

from dalla import recipes
from dalla.errors import StorageError
from dalla.records.image import EngineStatus
from dalla.records.media import LoraRecipe, Recipe
from tests.conftest import png, upload


def made(client, n=1, **recipe):
    """Import n different pictures that carry a recipe; return their ids, oldest first."""
    ids = []
    for i in range(n):
        data = recipes.embed(png((i * 7 % 256, i // 7, 90)), Recipe(prompt=f"picture {i}", seed=i, **recipe))
        ids.append(upload(client, data).json["items"][0]["id"])
    return ids


def test_import_keeps_the_bytes_and_reads_the_recipe(client):
    data = recipes.embed(png(), Recipe(prompt="a forest", seed=7, steps=20, model="m.safetensors", family="sd15"))
    item = upload(client, data).json["items"][0]
    assert (item["width"], item["height"], item["prompt"], item["model"]) == (64, 48, "a forest", "m.safetensors")
    assert client.get(item["fileUrl"]).data == data
    thumb = client.get(item["thumbUrl"])
    assert Image.open(io.BytesIO(thumb.data)).format == "WEBP"
    assert "immutable" in thumb.headers["Cache-Control"]
    recipe = client.get(f"/api/media/{item['id']}/recipe").json
    assert recipe["recipe"]["seed"] == 7 and recipe["request"]["prompt"] == "a forest"
    assert recipe["request"]["rawPrompt"] is True


def test_the_same_bytes_are_kept_once(client):
    first = upload(client, png()).json["items"][0]
    second = upload(client, png()).json["items"][0]
    assert second["id"] == first["id"] and second["duplicate"] is True
    assert client.get("/api/media").json["total"] == 1


def test_importing_what_lies_in_the_trash_brings_it_back(client):
    item = upload(client, png()).json["items"][0]
    client.delete(f"/api/media/{item['id']}")
    assert upload(client, png()).json["items"][0]["trashedAt"] is None


def test_several_files_succeed_and_fail_by_themselves(client):
    files = [(io.BytesIO(png()), "ok.png"), (io.BytesIO(b"<html>"), "fake.png")]
    answer = client.post("/api/media", data={"files": files}, content_type="multipart/form-data")
    assert answer.status_code == 201
    assert len(answer.json["succeeded"]) == 1
    assert answer.json["failed"][0]["id"] == "fake.png" and answer.json["failed"][0]["code"] == "unsupported_media"


def bomb() -> bytes:
    """A PNG header that promises 60,000 x 60,000 pixels in a few kilobytes."""
    data = bytearray(png(size=(1, 1)))
    data[16:24] = (60_000).to_bytes(4, "big") * 2
    data[29:33] = zlib.crc32(bytes(data[12:29])).to_bytes(4, "big")
    return bytes(data)


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"this is text, not a picture", 415),
        (b"", 415),
        (b"MZ\x90\x00" + b"\0" * 500, 415),
        (png()[:60], 422),
        (bomb(), 413),
        (b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>", 415),
    ],
    ids=["text", "empty", "exe", "cut off", "bomb", "svg"],
)
def test_what_is_no_picture_is_refused(client, data, status):
    answer = upload(client, data, "holiday.png")
    assert answer.status_code == status and answer.mimetype == "application/problem+json"
    assert client.get("/api/media").json["total"] == 0


def test_pages_by_cursor_see_everything_once(client):
    ids = made(client, 7)
    seen, cursor = [], None
    while True:
        page = client.get("/api/media", query_string={"limit": 3, **({"cursor": cursor} if cursor else {})}).json
        assert page["total"] == 7
        seen += [item["id"] for item in page["items"]]
        cursor = page["nextCursor"]
        if not cursor:
            break
    assert seen == ids[::-1]
    assert client.get("/api/media?cursor=nonsense").status_code == 422


def test_filters_and_the_search_box(client, luna):
    red = upload(client, recipes.embed(png((255, 0, 0)), Recipe(prompt="a red dress in the forest", model="a.safetensors", loras=[LoraRecipe(name="luna-v1")])), characterId=luna["id"]).json["items"][0]["id"]  # fmt: skip
    blue = upload(client, recipes.embed(png((0, 0, 255)), Recipe(prompt="a blue hat by the sea", model="b.safetensors"))).json["items"][0]["id"]  # fmt: skip
    client.patch(f"/api/media/{blue}", json={"starred": True})

    def found(**query):
        return [i["id"] for i in client.get("/api/media", query_string=query).json["items"]]

    assert found(model="a.safetensors") == [red] and found(lora="luna-v1") == [red]
    assert found(characterId=luna["id"]) == [red] and found(starred="true") == [blue]
    assert found(q="FOREST") == [red] and found(q="ore") == [red] and found(q="-forest") == [blue]
    assert found(q='"red dress"') == [red] and found(q='"dress red"') == []
    assert found(q="character:luna") == [red] and found(q="is:starred model:b.safetensors") == [blue]
    assert (
        found(q="model:A.safe") == [red]
        and found(q="model:safetensors") == [blue, red]
        and found(q="lora:LUNA") == [red]
    )
    assert found(q="model:none") == [] and found(q="lora:none") == []
    assert found(after="2020-01-01") == [blue, red] and found(before="2020-01-01") == []
    assert found(q="100%_") == []
    assert client.get("/api/media?after=soon").status_code == 422
    facets = client.get("/api/media/facets").json
    assert {"value": "a.safetensors", "count": 1} in facets["models"]
    assert facets["loras"] == [{"value": "luna-v1", "count": 1}]


def test_bulk_actions_say_what_failed(client):
    a, b = made(client, 2)
    answer = client.post("/api/media/bulk", json={"action": "star", "ids": [a, "media_no", b]}).json
    assert answer["succeeded"] == [a, b]
    assert answer["failed"][0]["id"] == "media_no" and answer["failed"][0]["code"] == "not_found"
    assert client.post("/api/media/bulk", json={"action": "burn", "ids": [a]}).status_code == 422


def test_trash_undo_and_the_end(client, container):
    (id,) = made(client)
    path = container.gallery.file(container.gallery.get(id))
    assert client.delete(f"/api/media/{id}").json == {"success": True, "permanent": False}
    assert client.get("/api/media").json["total"] == 0
    assert client.get("/api/media?trashed=true").json["total"] == 1
    assert client.post(f"/api/media/{id}/restore").json["trashedAt"] is None
    assert path.exists()
    client.delete(f"/api/media/{id}")
    assert client.delete(f"/api/media/{id}").json["permanent"] is True
    assert not path.exists() and client.get(f"/api/media/{id}").status_code == 404


def test_collections(client):
    a, b = made(client, 2)
    coll = client.post("/api/collections", json={"name": "Best"}).json
    assert client.post("/api/collections", json={"name": "Best"}).status_code == 409
    client.post(f"/api/collections/{coll['id']}/items", json={"mediaIds": [a, b]})
    assert client.get(f"/api/media?collectionId={coll['id']}").json["total"] == 2
    client.delete(f"/api/collections/{coll['id']}/items", json={"mediaIds": [a]})
    assert client.get("/api/collections").json["items"][0]["count"] == 1
    assert client.patch(f"/api/collections/{coll['id']}", json={"name": "Very best"}).json["name"] == "Very best"
    assert client.delete(f"/api/collections/{coll['id']}").json["success"] is True
    assert client.get("/api/media").json["total"] == 2


def test_file_answers_ranges_conditions_and_head(client):
    (id,) = made(client)
    address = f"/api/media/{id}/file"
    whole = client.get(address)
    assert client.get(address, headers={"Range": "bytes=0-7"}).data == whole.data[:8]
    assert client.get(address, headers={"If-None-Match": whole.headers["ETag"]}).status_code == 304
    head = client.head(address)
    assert head.status_code == 200 and head.data == b"" and int(head.headers["Content-Length"]) == len(whole.data)


def test_a_lost_thumbnail_is_made_again(client, container):
    (id,) = made(client)
    container.gallery.thumbnail(container.gallery.get(id), "s").unlink()
    assert client.get(f"/api/media/{id}/thumb?size=s").status_code == 200
    assert client.get(f"/api/media/{id}/thumb?size=xl").status_code == 422


def test_inspect_reads_foreign_recipes_without_keeping(client):
    info = PngImagePlugin.PngInfo()
    info.add_text("parameters", "a cat, sitting\nNegative prompt: dog\nSteps: 30, Sampler: DPM++ 2M Karras, CFG scale: 7, Seed: 99, Size: 512x768, Model: dream")  # fmt: skip
    answer = client.post(
        "/api/media/inspect",
        data={"file": (io.BytesIO(png(pnginfo=info)), "cat.png")},
        content_type="multipart/form-data",
    )
    assert answer.json["source"] == "a1111"
    request = answer.json["request"]
    assert (request["prompt"], request["negativePrompt"], request["seed"]) == ("a cat, sitting", "dog", 99)
    assert (request["sampler"], request["scheduler"], request["width"], request["height"]) == (
        "dpmpp_2m",
        "karras",
        512,
        768,
    )
    assert client.get("/api/media").json["total"] == 0


def test_a_failed_write_leaves_nothing(client, container, monkeypatch):
    from dalla.errors import StorageError

    def full(item):
        raise StorageError("The disk is full.")

    monkeypatch.setattr(container.media, "insert", full)
    assert upload(client, png()).status_code == 503
    assert list(container.blobs.keys("media/")) == []


def test_dates_at_the_ends_of_the_calendar(client):
    assert client.get("/api/media?before=9999-12-31").status_code == 200
    assert client.get("/api/media?after=0001-01-01T00:00:00%2B05:00").status_code == 422
    assert client.get("/api/media?q=before:9999-12-31").status_code == 200


def test_pictures_are_not_given_to_a_character_that_is_not_there(client):
    id = upload(client, png()).json["items"][0]["id"]
    body = {"action": "setCharacter", "ids": [id], "characterId": "char_nobody"}
    assert client.post("/api/media/bulk", json=body).status_code == 404
    assert client.get(f"/api/media/{id}").json["characterId"] is None


def test_upscaling_without_an_engine_or_with_a_wrong_one_is_said(client, container, monkeypatch):
    id = upload(client, png()).json["items"][0]["id"]
    assert client.post(f"/api/media/{id}/upscale", json={"engine": "auto"}).status_code == 202
    wrong = client.post(f"/api/media/{id}/upscale", json={"engine": "nope"})
    assert wrong.status_code == 422 and wrong.json["errors"][0]["field"] == "engine"
    off = EngineStatus(False, "It is not installed.", remedy="Run 'make install'.")
    for name in container.engines.names():
        monkeypatch.setattr(container.engines.get(name), "status", lambda fresh=False: off)
    none = client.post(f"/api/media/{id}/upscale", json={})
    assert none.status_code == 503 and none.json["remedy"] == "Run 'make install'."


def test_work_that_began_is_answered_although_its_key_cannot_be_kept(client, container, monkeypatch):
    id = upload(client, png()).json["items"][0]["id"]

    def full(key, answer):
        raise StorageError("There is no space left on the disk.")

    monkeypatch.setattr(container.idempotency, "finish", full)
    answer = client.post(f"/api/media/{id}/upscale", json={}, headers={"Idempotency-Key": "once"})
    assert answer.status_code == 202 and container.tasks.get(answer.json["taskId"]).status == "queued"


@pytest.mark.parametrize("name", ["clip.mp4", "clip.png", "clip.m3u8", "clip.jpg"])
@pytest.mark.parametrize("content", ["#EXTM3U\n#EXTINF:1,\n{file}\n", "ffconcat version 1.0\nfile '{file}'\n", "%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n({file}) run\n"])  # fmt: skip
def test_a_file_that_names_other_files_is_no_picture_whatever_it_is_called(client, tmp_path, name, content):
    """Playlists and programs for printers make careless readers open what they name; here no such reader exists."""
    other = tmp_path / "private.png"
    other.write_bytes(png())
    data = content.format(file=other).encode()
    answer = upload(client, data, name)
    assert answer.status_code == 415, answer.json
    assert client.get("/api/media").json["total"] == 0
    sent = {"file": (io.BytesIO(data), name)}
    refused = client.post("/api/media/inspect", data=sent, content_type="multipart/form-data")
    assert refused.status_code == 415 and "not a picture" in refused.json["detail"]
