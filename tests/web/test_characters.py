"""The characters API in every form of the seeds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

SEEDS = Path(__file__).parent.parent / "data" / "seeds"


def test_create_list_read(client, luna):
    assert luna["id"].startswith("char_") and luna["isActive"] is True
    assert luna["createdAt"].endswith("Z") and len(luna["createdAt"]) == 24
    listed = client.get("/api/characters")
    assert [c["id"] for c in listed.json] == [luna["id"]] and listed.headers["X-Total-Count"] == "1"
    one = client.get(f"/api/characters/{luna['id']}")
    assert one.json["promptSettings"]["mood"] == "serene" and one.headers["ETag"]


def test_location_of_a_new_character_answers(client):
    made = client.post("/api/characters", json={"name": "Nova"})
    assert made.status_code == 201
    assert client.get(made.headers["Location"]).json["name"] == "Nova"


def test_update_changes_only_what_is_sent(client, luna):
    address = f"/api/characters/{luna['id']}"
    changed = client.put(address, json={"promptSettings": {"mood": "wild"}, "isActive": False}).json
    assert changed["promptSettings"] == luna["promptSettings"] | {"mood": "wild"}
    assert changed["isActive"] is False and changed["triggerWord"] == "luna_character"
    assert changed["updatedAt"] >= luna["updatedAt"] and changed["createdAt"] == luna["createdAt"]


def test_the_whole_record_can_be_sent_back(client, luna):
    answer = client.put("/api/characters", json=luna | {"name": "Luna"})
    assert answer.status_code == 200 and answer.json["name"] == "Luna"


def test_id_in_body_and_query(client, luna):
    assert (
        client.put("/api/characters", json={"id": luna["id"], "backstory": "A forest."}).json["backstory"]
        == "A forest."
    )
    assert client.put("/api/characters", json={"backstory": "x"}).status_code == 422
    assert client.delete(f"/api/characters?id={luna['id']}").json["success"] is True
    assert client.get(f"/api/characters/{luna['id']}").status_code == 404


def test_delete_counts_dependants_and_can_be_undone(client, container, luna):
    (Path(container.settings.data_dir) / "prompts.json").write_text(
        json.dumps([{"id": "prompt_1", "characterId": luna["id"], "prompt": "x"}])
    )
    dry = client.delete(f"/api/characters/{luna['id']}?dryRun=true").json
    assert dry["affects"] == {"tasks": 0, "prompts": 1, "media": 0, "loras": 0}
    assert client.get(f"/api/characters/{luna['id']}").status_code == 200
    client.delete(f"/api/characters/{luna['id']}")
    assert [c["id"] for c in client.get("/api/characters?trashed=true").json] == [luna["id"]]
    back = client.post(f"/api/characters/{luna['id']}/restore")
    assert back.status_code == 200 and back.json["promptSettings"] == luna["promptSettings"]
    assert client.get("/api/characters?trashed=true").json == []
    assert "deletedAt" not in (Path(container.settings.data_dir) / "characters.json").read_text()


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "name"),
        ({"name": "   "}, "name"),
        ({"name": "x" * 201}, "name"),
        ({"name": 7}, "name"),
        ({"name": "A", "hair": "red"}, "hair"),
        ({"name": "A", "timezone": "Mars/Olympus"}, "timezone"),
        ({"name": "A", "isActive": "perhaps"}, "isActive"),
        ({"name": "A", "narratives": [{"title": "T", "startDate": "soon"}]}, "narratives.0.startDate"),
        ({"name": "A", "narratives": [{"startDate": "2025-02-02", "endDate": "2025-01-01"}]}, "narratives.0.endDate"),
        ({"name": "A", "loras": [{"name": "l", "strength": 99}]}, "loras.0.strength"),
        ({"name": "A", "promptSettings": {"colour": "red"}}, "promptSettings.colour"),
        ({"name": "A", "instagramApiKey": "secret:char_1/x"}, "instagramApiKey"),
    ],
)
def test_bad_values_are_named_by_field(client, body, field):
    answer = client.post("/api/characters", json=body)
    assert answer.status_code == 422
    assert field in [error["field"] for error in answer.json["errors"]], answer.json
    assert client.get("/api/characters").json == []


def test_narratives_get_ids(client, luna):
    narratives = [{"title": "The Crystal Quest", "startDate": "2025-08-01", "endDate": "2025-08-31"}]
    changed = client.put(f"/api/characters/{luna['id']}", json={"narratives": narratives}).json
    assert changed["narratives"][0]["id"].startswith("narr_")
    assert client.put(f"/api/characters/{luna['id']}", json={"narratives": []}).json["narratives"] == []


def test_keys_are_write_only(client, container, luna):
    address = f"/api/characters/{luna['id']}"
    shown = client.put(address, json={"instagramApiKey": "IGQVJ-very-secret-6f2a"}).json
    assert shown["instagramApiKey"] == "••••6f2a" and shown["hasInstagramApiKey"] is True
    data = Path(container.settings.data_dir)
    everything = b"".join(p.read_bytes() for p in data.rglob("*") if p.is_file())
    assert b"IGQVJ-very-secret" not in everything
    again = client.put(address, json={"instagramApiKey": "••••6f2a", "name": "Luna"}).json  # the mask sent back
    assert again["hasInstagramApiKey"] is True
    assert (
        container.characters.credential(container.characters.get(luna["id"]), "instagram_api_key")
        == "IGQVJ-very-secret-6f2a"
    )
    cleared = client.put(address, json={"instagramApiKey": None}).json
    assert cleared["instagramApiKey"] is None and cleared["hasInstagramApiKey"] is False


def test_a_key_may_name_an_environment_variable(client, container, luna):
    shown = client.put(f"/api/characters/{luna['id']}", json={"twitterAppKey": "env:LUNA_KEY"}).json
    assert shown["twitterAppKey"] == "env:LUNA_KEY" and shown["hasTwitterAppKey"] is True
    character = container.characters.get(luna["id"])
    assert container.characters.credential(character, "twitter_app_key") == "key-from-the-environment"
    missing = client.put(f"/api/characters/{luna['id']}", json={"twitterAppKey": "env:NOT_SET"}).json
    assert missing["hasTwitterAppKey"] is False


def test_the_seeds_file_works_and_its_plain_keys_move_out(client, container):
    file = Path(container.settings.data_dir) / "characters.json"
    seed = [json.loads((SEEDS / "character.json").read_text())]
    file.write_text(json.dumps(seed))
    shown = client.get("/api/characters").json[0]
    assert shown["name"] == "Luna the Mystic" and shown["hasTwitterAppSecret"] and shown["hasInstagramApiKey"]
    stored = json.loads(file.read_text())[0]
    assert stored["instagramApiKey"] == f"secret:{shown['id']}/instagramApiKey"
    unchanged = {k: v for k, v in seed[0].items() if not k.startswith("twitter") and k != "instagramApiKey"}
    assert {k: stored[k] for k in unchanged} == unchanged
    assert not any(
        "TWITTER_ACCESS_SECRET" in p.read_text(errors="replace") for p in file.parent.glob("characters.json*")
    )
    character = container.characters.get(shown["id"])
    assert container.characters.credential(character, "twitter_access_secret") == "TWITTER_ACCESS_SECRET"


def test_hand_edits_and_unknown_fields_survive(client, container, luna):
    file = Path(container.settings.data_dir) / "characters.json"
    records = json.loads(file.read_text())
    records[0] |= {"favouriteTea": "sage", "mood": {"nested": [1, 2]}}
    file.write_text(json.dumps(records))
    client.put(f"/api/characters/{luna['id']}", json={"backstory": "new"})
    stored = json.loads(file.read_text())[0]
    assert stored["favouriteTea"] == "sage" and stored["mood"] == {"nested": [1, 2]} and stored["backstory"] == "new"


def test_if_match_guards_against_lost_edits(client, luna):
    address = f"/api/characters/{luna['id']}"
    tag = client.get(address).headers["ETag"]
    assert client.put(address, json={"name": "First"}, headers={"If-Match": tag}).status_code == 200
    stale = client.put(address, json={"name": "Second"}, headers={"If-Match": tag})
    assert stale.status_code == 412 and stale.json["current"]["name"] == "First"
    assert client.get(address).json["name"] == "First"


def test_paging_headers(client):
    for name in ("a", "b", "c"):
        client.post("/api/characters", json={"name": name})
    page = client.get("/api/characters?limit=2")
    assert [c["name"] for c in page.json] == ["a", "b"] and page.headers["X-Total-Count"] == "3"
    assert 'rel="next"' in page.headers["Link"] and "offset=2" in page.headers["Link"]


def test_a_broken_file_is_reported_and_never_overwritten(client, container, luna):
    file = Path(container.settings.data_dir) / "characters.json"
    file.write_text('[{"id": "char_1", "name": ')
    assert [c["id"] for c in client.get("/api/characters").json] == [luna["id"]]  # the last good version
    refused = client.post("/api/characters", json={"name": "New"})
    assert refused.status_code == 503 and refused.json["remedy"]
    assert file.read_text() == '[{"id": "char_1", "name": '
    database = client.get("/api/system/status").json["database"]
    assert database["status"] == "error" and "characters" in database["detail"]


@pytest.mark.parametrize("id", ["nobody", "..%2f..%2fetc", "%00", "a" * 300, "char_1%20or%201=1"])
def test_strange_ids_are_not_found_or_refused(client, id):
    for answer in (client.get(f"/api/characters/{id}"), client.delete(f"/api/characters/{id}")):
        assert answer.status_code in (404, 422)
        assert answer.mimetype == "application/problem+json"
