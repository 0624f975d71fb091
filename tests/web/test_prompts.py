"""`/api/prompts` in every form of the seeds, import, export and wildcards."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

SEEDS = Path(__file__).parent.parent / "data" / "seeds"


@pytest.fixture
def add(client, luna):
    def make(prompt="in a forest", **more):
        answer = client.post("/api/prompts", json={"characterId": luna["id"], "prompt": prompt, **more})
        assert answer.status_code == 201, answer.json
        return answer.json

    return make


def test_create_list_read(client, add, luna):
    made = add(caption="Hi")
    assert made["characterName"] == "Luna the Mystic" and made["used"] is False and made["createdAt"].endswith("Z")
    listed = client.get("/api/prompts")
    assert [p["id"] for p in listed.json] == [made["id"]] and listed.headers["X-Total-Count"] == "1"
    one = client.get(f"/api/prompts/{made['id']}")
    assert one.json["caption"] == "Hi" and one.headers["ETag"]


def test_location_answers(client, luna):
    made = client.post("/api/prompts", json={"characterId": luna["id"], "prompt": "x"})
    assert client.get(made.headers["Location"]).json["prompt"] == "x"


def test_actions_of_the_seeds(client, luna):
    made = client.post(
        "/api/prompts", json={"action": "create_prompt", "characterId": luna["id"], "prompt": "a", "caption": "b"}
    )
    assert made.status_code == 201
    id = made.json["id"]
    changed = client.post("/api/prompts", json={"action": "update_prompt", "id": id, "caption": "c"})
    assert changed.status_code == 200 and changed.json["caption"] == "c" and changed.json["prompt"] == "a"
    also = client.post("/api/prompts", json={"action": "update_prompt", "promptId": id, "used": True}).json
    assert also["used"] is True
    gone = client.post("/api/prompts", json={"action": "delete_prompt", "id": id})
    assert gone.status_code == 200 and gone.json["success"] is True and gone.json["prompt"]["id"] == id
    assert client.get("/api/prompts").json == []


def test_the_record_may_stand_inside(client, luna):
    made = client.post(
        "/api/prompts", json={"action": "create_prompt", "prompt": {"characterId": luna["id"], "prompt": "a"}}
    )
    assert made.status_code == 201 and made.json["characterId"] == luna["id"]
    changed = client.post("/api/prompts", json={"action": "update_prompt", "prompt": made.json | {"prompt": "b"}})
    assert changed.json["prompt"] == "b"
    bad = client.post("/api/prompts", json={"action": "create_prompt", "prompt": {"promt": "a"}})
    assert bad.status_code == 422


def test_the_seeds_file_works(client, container, luna):
    seed = json.loads((SEEDS / "prompt.json").read_text())
    (Path(container.settings.data_dir) / "prompts.json").write_text(json.dumps([seed]))
    shown = client.get("/api/prompts").json[0]
    assert {k: shown[k] for k in seed} == seed and shown["usedIn"] == [] and shown["captions"] == []
    client.put(f"/api/prompts/{seed['id']}", json={"caption": "new"})
    stored = json.loads((Path(container.settings.data_dir) / "prompts.json").read_text())[0]
    assert {k: stored[k] for k in seed if k != "caption"} == {k: v for k, v in seed.items() if k != "caption"}


def test_changes(client, add):
    made = add()
    address = f"/api/prompts/{made['id']}"
    assert client.put(address, json={"prompt": "by the sea"}).json["prompt"] == "by the sea"
    assert client.patch(address, json={"caption": "x"}).json["prompt"] == "by the sea"
    assert client.put("/api/prompts", json={"id": made["id"], "caption": "y"}).json["caption"] == "y"
    whole = client.get(address).json
    assert client.put(address, json=whole | {"prompt": "z"}).json["prompt"] == "z"
    assert client.put(address, json={"id": "prompt_other", "prompt": "q"}).status_code == 422
    assert client.put("/api/prompts", json={"prompt": "q"}).status_code == 422
    assert client.get(address).json["prompt"] == "z"


def test_if_match(client, add):
    address = f"/api/prompts/{add()['id']}"
    tag = client.get(address).headers["ETag"]
    assert client.put(address, json={"prompt": "1"}, headers={"If-Match": tag}).status_code == 200
    stale = client.put(address, json={"prompt": "2"}, headers={"If-Match": tag})
    assert stale.status_code == 412 and stale.json["current"]["prompt"] == "1"


def test_filters(client, add, luna):
    first, second = add("red dress"), add("blue sea", caption="dress code")
    client.put(f"/api/prompts/{first['id']}", json={"used": True})

    def ids(query):
        return [p["id"] for p in client.get(f"/api/prompts?{query}").json]

    assert ids("used=false") == [second["id"]] and ids("used=true") == [first["id"]]
    assert ids(f"characterId={luna['id']}") == [first["id"], second["id"]] and ids("characterId=char_0") == []
    assert ids("q=dress") == [first["id"], second["id"]] and ids("q=red%20dress") == [first["id"]]
    page = client.get("/api/prompts?limit=1")
    assert page.headers["X-Total-Count"] == "2" and 'rel="next"' in page.headers["Link"] and len(page.json) == 1


def test_delete_and_undo(client, add):
    made = add(caption="c")
    gone = client.delete(f"/api/prompts/{made['id']}").json
    assert gone["success"] is True and client.get(f"/api/prompts/{made['id']}").status_code == 404
    assert client.delete(f"/api/prompts/{made['id']}").status_code == 404
    back = client.post("/api/prompts/restore", json={"prompt": gone["prompt"]})
    assert back.status_code == 200 and back.json["caption"] == "c"
    assert client.delete(f"/api/prompts?id={made['id']}").json["success"] is True
    assert client.delete("/api/prompts").status_code == 422
    assert client.post("/api/prompts/restore", json={}).status_code == 422


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 422),
        ({"prompt": "  "}, 422),
        ({"prompt": 5}, 422),
        ({"prompt": "x", "colour": "red"}, 422),
        ({"prompt": "x", "characterId": "char_0"}, 404),
        ({"prompt": "x" * 10_001}, 422),
        ({"action": "explode", "prompt": "x"}, 422),
        ({"action": "delete_prompt"}, 422),
        ({"action": "update_prompt", "id": "prompt_0", "caption": "x"}, 404),
    ],
)
def test_bad_calls_change_nothing(client, body, status):
    answer = client.post("/api/prompts", json=body)
    assert answer.status_code == status and answer.mimetype == "application/problem+json"
    assert client.get("/api/prompts").json == []


def test_a_prompt_for_any_character(client):
    made = client.post("/api/prompts", json={"characterId": "", "prompt": "x"}).json
    assert made["characterId"] is None and made["characterName"] is None
    assert len(client.get("/api/prompts?characterId=").json) == 1


def test_a_new_caption_keeps_the_old_one(client, add):
    made = add(caption="First")
    answer = client.post(f"/api/prompts/{made['id']}/caption", json={"tone": "playful", "platform": "twitter"})
    assert answer.status_code == 200
    body = answer.json
    assert body["caption"] == body["generated"]["captions"]["twitter"] and body["captionProvider"] == "composer"
    assert [old["caption"] for old in body["captions"]] == ["First"]
    assert client.post("/api/prompts/prompt_0/caption", json={}).status_code == 404
    assert client.post(f"/api/prompts/{made['id']}/caption", json={"platform": "x9"}).status_code == 422


def test_bulk(client, running, add):
    ids = [add(f"p{n}")["id"] for n in range(3)]
    accepted = client.post("/api/prompts/bulk", json={"ids": [*ids, "prompt_0"], "action": "caption", "tone": "calm"})
    assert accepted.status_code == 202
    task = client.get(accepted.json["statusUrl"] + "?wait=30").json
    assert task["status"] == "completed" and [f["id"] for f in task["itemsFailed"]] == ["prompt_0"]
    assert all(p["caption"] for p in client.get("/api/prompts").json)
    marked = client.post("/api/prompts/bulk", json={"ids": ids, "action": "mark_used"}).json
    assert marked == {"succeeded": ids, "failed": []}
    gone = client.post("/api/prompts/bulk", json={"ids": ids, "action": "delete"}).json
    assert client.get("/api/prompts").json == []
    restored = client.post("/api/prompts/restore", json={"prompts": gone["deleted"]}).json
    assert restored["succeeded"] == ids and len(client.get("/api/prompts").json) == 3
    assert client.post("/api/prompts/bulk", json={"ids": ids, "action": "burn"}).status_code == 422
    assert client.post("/api/prompts/bulk", json={"ids": [], "action": "delete"}).status_code == 422


def test_ideas(client, luna):
    answer = client.post("/api/prompts/generate", json={"characterId": luna["id"], "count": 5, "theme": "winter"})
    assert answer.status_code == 201 and answer.json["provider"] == "composer"
    assert len(answer.json["prompts"]) == 5 == len(client.get(f"/api/prompts?characterId={luna['id']}").json)
    assert client.post("/api/prompts/generate", json={"characterId": luna["id"], "count": 500}).status_code == 422
    assert client.post("/api/prompts/generate", json={"characterId": "char_0"}).status_code == 404


def test_the_same_key_thinks_once(client, luna):
    for _ in range(2):
        client.post(
            "/api/prompts/generate",
            json={"characterId": luna["id"], "count": 3},
            headers={"Idempotency-Key": "once"},
        )
    assert len(client.get("/api/prompts").json) == 3


def send(client, data: bytes, name="p.csv", query=""):
    return client.post(
        f"/api/prompts/import{query}", data={"file": (io.BytesIO(data), name)}, content_type="multipart/form-data"
    )


def test_import_and_export(client, luna):
    data = "prompt;character\n=1+1;Luna the Mystic\nred dress;\nbad;Nobody\n".encode("utf-8-sig")
    dry = send(client, data, query=f"?dryRun=1&characterId={luna['id']}").json
    assert dry["imported"] == 2 and client.get("/api/prompts").json == []
    done = send(client, data, query=f"?characterId={luna['id']}").json
    assert done["imported"] == 2 and done["errors"][0]["row"] == 4
    file = client.get(f"/api/prompts/export?format=csv&characterId={luna['id']}")
    assert file.headers["Content-Disposition"] == 'attachment; filename="prompts.csv"'
    rows = list(csv.DictReader(io.StringIO(file.data.decode("utf-8-sig"))))
    assert [row["prompt"] for row in rows] == ["'=1+1", "red dress"]
    again = client.post("/api/prompts/import", json={"prompts": client.get("/api/prompts/export?format=json").json})
    assert again.json["skipped"] == 2 and again.json["imported"] == 0
    assert client.get("/api/prompts/export?format=xml").status_code == 422
    assert send(client, b"PK\x03\x04\0\0").status_code == 422
    assert client.post("/api/prompts/import", json={"x": 1}).status_code == 400


def test_wildcards(client, add):
    made = add("a __hair__ woman")
    assert made["missingWildcards"] == ["hair"]
    saved = client.put("/api/wildcards/hair", json={"options": ["red", "long\nblack"]})
    assert saved.json == {"name": "hair", "count": 2, "text": "red\nlong black\n"}
    assert "missingWildcards" not in client.get(f"/api/prompts/{made['id']}").json
    assert [w["name"] for w in client.get("/api/wildcards").json["wildcards"]] == ["hair"]
    assert client.put("/api/wildcards/hair", json={"text": "a\nb\nc"}).json["count"] == 3
    assert client.get("/api/wildcards/hair").json["count"] == 3
    assert client.put("/api/wildcards/hair", json={}).status_code == 422
    assert client.put("/api/wildcards/a b", json={"text": "x"}).status_code == 422
    assert client.delete("/api/wildcards/hair").json == {"success": True}
    assert client.delete("/api/wildcards/hair").status_code == 404


def test_changes_are_told(client, container, add):
    seen = container.events.last_id
    made = add()
    events, _ = container.events.since(seen, 0)
    assert ("prompt.updated", {"ids": [made["id"]]}) in [(e.type, e.data) for e in events]
