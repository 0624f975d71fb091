"""Rules: what is checked when they are written, how they are shown, which changes are refused."""

from __future__ import annotations

import json

import pytest

from dalla.errors import Conflict, InvalidInput, NotFound, Stale
from tests.services.automation_world import LUNA, World, empty_database, world  # noqa: F401

GOOD = {"type": "generate_and_post", "schedule": "0 18 * * *", "character_id": LUNA.id}
POSTS = {"prompt": "p", "postToInstagram": True}


def refused(world: World, **values) -> dict[str, str]:
    with pytest.raises(InvalidInput) as caught:
        world.app.create({**GOOD, "config": POSTS, **values})
    assert world.app.all() == ()
    return {error["field"]: error["message"] for error in caught.value.errors}


@pytest.mark.parametrize(
    "values, field, says",
    [
        ({"schedule": "60 * * * *"}, "schedule", "no minute 60"),
        ({"schedule": ""}, "schedule", "empty"),
        ({"timezone": "Europe/Berln"}, "timezone", "no time zone called"),
        ({"type": "dance"}, "type", "Use generate_and_post, generate_only, post_existing, backup."),
        ({"type": "train_lora"}, "type", "needs the trainer"),
        ({"character_id": "char_nobody"}, "characterId", "no character with the id 'char_nobody'"),
        ({"character_id": None}, "characterId", "Choose the character"),
        ({"missed_run_policy": "later"}, "missedRunPolicy", "skip or run_once"),
        ({"name": "x" * 201}, "name", "at most 200"),
        ({"config": {"prompt": "p"}}, "config.postToInstagram", "at least one platform"),
        ({"config": {**POSTS, "prompt": " ", "promptSource": "fixed"}}, "config.prompt", "Write the prompt"),
        ({"config": {**POSTS, "prompt": 5}}, "config.prompt", "must be text"),
        ({"config": {**POSTS, "prompt": "x" * 10_001}}, "config.prompt", "At most 10000"),
        ({"config": {**POSTS, "postToTwitter": "yes"}}, "config.postToTwitter", "true or false"),
        ({"config": {**POSTS, "promptSource": "net"}}, "config.promptSource", "fixed, library, base"),
        ({"config": {**POSTS, "mediaEmpty": 1}}, "config.mediaEmpty", "generate, skip, alert"),
        ({"config": {**POSTS, "approval": "maybe"}}, "config.approval", "automatic, required"),
        ({"config": {**POSTS, "width": "512"}}, "config.width", "whole number from 16"),
        ({"config": {**POSTS, "batchSize": True}}, "config.batchSize", "whole number"),
        ({"config": {**POSTS, "steps": 0}}, "config.steps", "1 to 200"),
        ({"config": {**POSTS, "jitterMinutes": -1}}, "config.jitterMinutes", "0 to 720"),
        ({"config": {**POSTS, "jitterMinutes": float("nan")}}, "config.jitterMinutes", "0 to 720"),
        ({"config": {**POSTS, "hashtags": "art"}}, "config.hashtags", "list of words"),
        ({"config": {**POSTS, "hashtags": ["two words"]}}, "config.hashtags", "one word"),
        ({"config": {**POSTS, "hashtags": ["#"]}}, "config.hashtags", "one word"),
        ({"config": {**POSTS, "hashtags": ["a"] * 31}}, "config.hashtags", "At most 30"),
        ({"config": {**POSTS, "loras": [{"strength": 1}]}}, "config.loras.0.name", "Name the LoRA"),
        ({"config": {**POSTS, "loras": [{"name": "a", "strength": 99}]}}, "config.loras.0.strength", "-10 and 10"),
        ({"config": {**POSTS, "options": {"fit": "squash"}}}, "config.options.fit", "pad, crop"),
        ({"config": {**POSTS, "options": {"focus": [2, 0]}}}, "config.options.focus", "0 to 1"),
        ({"config": {**POSTS, "options": []}}, "config.options", "JSON object"),
        ({"config": {**POSTS, "options": {"ratio": "tall"}}}, "config.options.ratio", "such as"),
    ],
)
def test_each_wrong_value_is_named(world: World, values, field, says):
    assert says in refused(world, **values)[field]


def test_all_wrong_values_are_told_together(world: World):
    found = refused(world, schedule="* *", timezone="X", missed_run_policy="y", config={**POSTS, "steps": 0, "keep": 0})
    assert set(found) == {"schedule", "timezone", "missedRunPolicy", "config.steps", "config.keep"}


def test_the_seeds_task_and_unknown_config_keys_are_taken(world: World):
    task = world.app.create({**GOOD, "id": "task_1", "config": {**POSTS, "myOwnKey": {"a": 1}, "steps": None}})
    [stored] = json.loads(world.file.read_text())
    assert stored["id"] == "task_1" and stored["config"]["myOwnKey"] == {"a": 1} and stored["active"] is True
    assert stored["createdAt"] == stored["updatedAt"] and task.missed_run_policy == "skip"
    with pytest.raises(Conflict, match="task_1"):
        world.app.create({**GOOD, "id": "task_1", "config": POSTS})
    with pytest.raises(InvalidInput):
        world.app.create({**GOOD, "id": "../etc", "config": POSTS})
    assert world.app.create({"type": "backup", "schedule": "@daily"}).character_id is None


def test_a_partial_change_changes_what_is_sent(world: World):
    task = world.app.create({**GOOD, "name": "Evening", "config": POSTS})
    changed = world.app.update(task.id, {"schedule": "0 9 * * *", "active": None, "dry_run": None})
    assert (changed.schedule, changed.active, changed.config) == ("0 9 * * *", True, POSTS)
    assert world.app.public(changed)["name"] == "Evening"
    cleared = world.app.update(task.id, {"name": None, "timezone": "Asia/Tokyo"})
    assert world.app.public(cleared)["name"] is None and world.app.public(cleared)["zone"] == "Asia/Tokyo"
    same = world.app.update(task.id, {"timezone": "Asia/Tokyo"})
    assert same.updated_at == cleared.updated_at
    with pytest.raises(InvalidInput):
        world.app.update(task.id, {"config": {"prompt": "p"}})
    with pytest.raises(NotFound):
        world.app.update("task_none", {"active": False})
    with pytest.raises(NotFound):
        world.app.delete("task_none")


def test_two_people_do_not_overwrite_each_other(world: World):
    task = world.app.create({**GOOD, "config": POSTS})
    tag = world.app.etag(task)
    world.app.update(task.id, {"name": "First"}, if_match=f'"{tag}"')
    with pytest.raises(Stale) as caught:
        world.app.update(task.id, {"name": "Second"}, if_match=f'"{tag}"')
    assert caught.value.extra["current"]["name"] == "First"
    assert world.app.public(world.app.get(task.id))["name"] == "First"


def test_a_faulty_rule_can_be_switched_off_but_not_on(world: World):
    world.write({"id": "bad", "type": "backup", "schedule": "never", "active": True})
    assert world.app.toggle("bad").active is False
    with pytest.raises(InvalidInput) as caught:
        world.app.toggle("bad", True)
    assert caught.value.errors[0]["field"] == "schedule"
    assert world.app.update("bad", {"schedule": "0 3 * * *"}).schedule == "0 3 * * *"
    assert world.app.toggle("bad", True).active


def test_how_a_rule_is_shown(world: World):
    task = world.app.create({**GOOD, "config": {**POSTS, "postToTwitter": True}, "timezone": "Europe/Berlin"})
    shown = world.app.public(task, full=True)
    assert shown["description"] == "At 18:00" and shown["zone"] == "Europe/Berlin"
    assert (shown["label"], shown["name"], shown["characterName"]) == ("Generate and post for Luna", None, "Luna")
    assert shown["platforms"] == ["instagram", "twitter"] and shown["problem"] is None
    assert shown["nextRun"] == shown["nextRuns"][0] == "2026-05-01T16:00:00.000Z" and len(shown["nextRuns"]) == 10
    assert shown["runs"][0] == {
        "utc": "2026-05-01T16:00:00.000Z", "local": "2026-05-01T18:00", "offset": "+02:00", "note": None,
    }  # fmt: skip
    assert (shown["lastRun"], shown["lastStatus"]) == (None, None)
    world.at("16:00:00").tick()
    shown = world.app.public(task)
    assert shown["lastStatus"] == "waiting" and shown["lastRun"] == "2026-05-01T16:00:00.000Z"
    off = world.app.toggle(task.id)
    assert world.app.public(off)["nextRun"] is None
    world.characters.remove(LUNA.id)
    gone = world.app.public(off)
    assert "no character with the id" in gone["problem"] and gone["problemRemedy"]


def test_the_state_counts_and_names_the_types(world: World):
    world.app.create({**GOOD, "config": POSTS})
    world.app.create({"type": "backup", "schedule": "@daily", "active": False})
    state = world.app.state()
    assert state["counts"]["tasks"] == 2 and state["counts"]["active"] == 1 and state["counts"]["problems"] == 0
    assert state["runner"]["owner"] is None and state["nextDue"] == "2026-05-01T18:00:00.000Z"
    world.tick()
    assert world.app.state()["runner"]["thisProcess"] is True
    assert {how["name"]: how["available"] for how in state["types"]}["train_lora"] is False
    world.after(minutes=5)
    assert world.app.state()["runner"]["owner"] is None  # nobody has kept the lease
    assert world.app.pause("a", LUNA.id)["characters"] == {LUNA.id: {"reason": "a", "since": "now"}}
    with pytest.raises(NotFound):
        world.app.pause("a", "char_nobody")
