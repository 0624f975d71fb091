"""The real services together: a rule fires, a picture is made, words are written, posts are rehearsed to their end."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from dalla.records.post import PostFilter
from dalla.services.generation import Wish
from dalla.times import iso
from tests.conftest import png


@pytest.fixture
def app(container):
    """The app with jobs that run at once and pictures that come from nowhere."""
    container.jobs.immediate = True
    wishes: list[Wish] = []

    def draw(context, payload):
        number = len(container.gallery.ids_made) + 1
        data = png((number * 25 % 255, 60, 120), (832, 1216))
        item, _ = container.gallery.add_file(data, name=f"{number}.png", character_id=payload["character_id"])
        container.gallery.ids_made.append(item.id)
        return {"mediaIds": [item.id], "engine": "pretend", "model": "none"}

    def submit(wish):
        wishes.append(wish)
        return container.jobs.submit("pretend", {"character_id": wish.character_id})

    container.gallery.ids_made = []
    container.jobs.register("pretend", draw, lane="gpu")
    container.generation.submit = submit
    container.wishes = wishes
    container.luna = container.characters.create({"name": "Luna", "personality": "Dreamy", "timezone": "Europe/Berlin"})
    return container


def add(app, **values):
    config = {
        "prompt": "a {quiet|quiet} lake",
        "postToInstagram": True,
        "postToTwitter": True,
        **values.pop("config", {}),
    }
    # `come_due` says when it runs: no time of its own comes while a test looks.
    rule = {"type": "generate_and_post", "schedule": "0 0 1 1 *", "character_id": app.luna.id, "config": config}
    return app.automation.create({**rule, **values})


def come_due(app, task) -> str:
    """Let the rule's time be this minute; return the slot."""
    slot = iso(datetime.now(UTC).replace(second=0, microsecond=0))
    app.runs_store.edit_state(task.id, lambda state: state.with_(next_due=slot))
    return slot


def publish_all(app) -> None:
    """Tick the publisher until nothing is on its way (accounts have a gap between posts)."""
    for _ in range(6):
        app.publishing.tick()


def test_a_slot_goes_all_the_way_to_a_rehearsed_post_on_both_platforms(app):
    task = add(app)
    slot = come_due(app, task)
    assert app.automation.tick() == 1
    publish_all(app)
    [run] = app.automation.runs(task_id=task.id).items
    assert (run.slot, run.trigger, run.status) == (slot, "cron", "completed"), run.to_json()
    assert [(step.name, step.status) for step in run.steps] == [
        ("prompt", "ok"), ("generate", "ok"), ("caption", "ok"), ("post:instagram", "ok"), ("post:twitter", "ok"),
    ]  # fmt: skip
    assert app.wishes[0].prompt == "a quiet lake"
    posts = {post.platform: post for post in app.posts.page(PostFilter(run_id=run.id)).items}
    assert set(posts) == {"instagram", "twitter"}
    for post in posts.values():
        assert (post.status, post.dry_run, post.task_id, post.slot) == ("dry_run", True, task.id, slot)
        assert post.caption and post.media_ids == run.media_ids
    assert len(posts["twitter"].caption) <= 280
    sent = app.posts.outbox(limit=50).items
    assert {request.platform for request in sent} == {"instagram", "twitter"}
    # The same slot again: nothing fires, nothing is made.
    assert app.automation.tick() == 0 and len(app.gallery.ids_made) == 1


def test_a_held_post_keeps_its_run_waiting_until_a_person_lets_it_go(app):
    task = add(app, config={"approval": "required", "postToTwitter": False})
    come_due(app, task)
    app.automation.tick()
    publish_all(app)
    [run] = app.automation.runs(task_id=task.id).items
    [post] = app.posts.page(PostFilter(run_id=run.id)).items
    assert (run.status, post.status, post.hold) == ("waiting", "draft", "approval")
    let_go = app.posts.approve_one(post.id)
    assert let_go.status == "scheduled", let_go.to_json()
    publish_all(app)
    assert app.posts.get(post.id).status == "dry_run"
    assert app.automation.run(run.id).status == "completed"


def test_pictures_of_the_gallery_are_posted_once_each(app):
    names = []
    for shade in (10, 90, 170):
        item, _ = app.gallery.add_file(png((shade, 0, 0), (1080, 1350)), name="a.png", character_id=app.luna.id)
        names.append(item.id)
    task = add(
        app,
        type="post_existing",
        config={"mediaRule": "queue", "postToTwitter": False, "prompt": None, "caption": "Hello {there|there}"},
    )
    for n in range(3):
        [run] = app.automation.run_now(task.id)
        assert app.automation.run(run.id).media_ids == [names[n]]
    [run] = app.automation.run_now(task.id)
    assert app.automation.run(run.id).status == "skipped"
    assert {post.caption for post in app.posts.page(PostFilter(task_id=task.id)).items} == {"Hello there"}
    assert app.wishes == []


def test_the_stop_switch_stops_rules_and_posts_alike(app):
    task = add(app)
    app.automation.pause("audit")
    come_due(app, task)
    assert app.automation.tick() == 0
    [run] = app.automation.runs(task_id=task.id).items
    assert (run.status, run.reason) == ("skipped", "Everything is stopped. audit")
    app.automation.resume()
    come = iso(datetime.now(UTC).replace(second=0, microsecond=0) - timedelta(seconds=30))  # another slot
    app.runs_store.edit_state(task.id, lambda state: state.with_(next_due=come))
    assert app.automation.tick() == 1 and app.automation.runs(task_id=task.id).total == 2


def test_a_library_prompt_is_marked_and_its_post_knows_it(app):
    prompt = app.prompts.create(prompt="an old mill", character_id=app.luna.id, caption="The mill at dusk #mill")
    task = add(app, config={"promptSource": "library", "prompt": None, "postToTwitter": False})
    [run] = app.automation.run_now(task.id)
    used = app.prompts.get(prompt.id)
    assert used.used and used.used_in[0] == {"type": "run", "id": run.id, "at": used.used_in[0]["at"]}
    [post] = app.posts.page(PostFilter(run_id=run.id)).items
    assert (post.caption, post.prompt_id) == ("The mill at dusk #mill", prompt.id)
    [again] = app.automation.run_now(task.id)
    assert app.automation.run(again.id).status == "skipped"


def test_a_backup_of_the_running_app_is_whole(app):
    task = app.automation.create({"type": "backup", "schedule": "@daily"})
    [run] = app.automation.run_now(task.id)
    run = app.automation.run(run.id)
    assert run.status == "completed", run.error
    made = app.automation._data / "backups" / run.result["backup"]["file"]
    assert made.is_file() and "characters.json" in _names(made) and "dalla.db" in _names(made)


def _names(path):
    import zipfile

    with zipfile.ZipFile(path) as zip:
        return zip.namelist()
