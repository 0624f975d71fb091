"""The list of what happened lately on the home page."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from dalla.records.media import MediaItem
from dalla.records.post import Post
from dalla.records.run import Run
from dalla.times import iso, parse
from tests.conftest import png, upload

NOON = parse("2026-11-21T12:00:00.000Z")


def at(minutes: int) -> str:
    return iso(NOON + timedelta(minutes=minutes))


@pytest.fixture
def lines(container: Any, client: Any) -> Any:
    def read() -> list[dict[str, Any]]:
        answer = client.get("/api/home")
        assert answer.status_code == 200, answer.json
        return answer.json["activity"]

    return read


def test_nothing_has_happened(lines: Any) -> None:
    assert lines() == []


def test_pictures_posts_runs_and_trainings_are_one_list(container: Any, client: Any, luna: Any, lines: Any) -> None:
    upload(client, png(), characterId=luna["id"])
    answer = client.post(
        "/api/scheduler",
        json={"action": "add_task", "characterId": luna["id"], "type": "generate_only", "schedule": "0 9 * * *", "name": "Morning", "config": {"prompt": "x"}},
    )  # fmt: skip
    assert answer.status_code == 201, answer.json
    rule = answer.json
    container.post_rows.insert(
        Post(
            id="post_1", character_id=luna["id"], platform="twitter", status="published", caption="Good  morning",
            scheduled_at=at(1), due_at=at(1), published_at=at(1), platform_post_id="17",
        )
    )  # fmt: skip
    container.post_rows.insert(Post(id="post_2", character_id=luna["id"], platform="instagram", status="draft"))
    container.runs_store.insert(
        Run(
            id="run_1", task_id=rule["id"], slot=at(2), status="completed", media_ids=["a", "b"], created_at=at(2),
            finished_at=at(3),
        )
    )  # fmt: skip
    container.runs_store.insert(Run(id="run_2", task_id="gone", slot=at(4), status="failed", created_at=at(4)))
    container.jobs.register("odd_work", lambda context, payload: None, lane="cpu")
    job = container.jobs.submit("train_lora", {"config": {}, "note": {}}, title="Train LoRA 'luna'")
    container.jobs.cancel(job.id)
    container.jobs.cancel(container.jobs.submit("publish_post", {}, title="Publish").id)

    found = {(line["kind"], line["title"]): line for line in lines()}
    assert set(found) == {
        ("media", "Imported a picture of Luna the Mystic"),
        ("post", "Post of Luna the Mystic published on X"),
        ("run", "Morning has run"),
        ("training", "Train LoRA 'luna' was stopped"),
    }
    post = found["post", "Post of Luna the Mystic published on X"]
    assert post["detail"] == "Good morning" and post["href"] == "/content.html?post=post_1" and post["at"] == at(1)
    assert found["run", "Morning has run"]["detail"] == "2 pictures"
    assert found["training", "Train LoRA 'luna' was stopped"]["href"] == f"/lora.html?run={job.id}"
    moments = [line["at"] for line in lines()]
    assert moments == sorted(moments, reverse=True)


def test_pictures_that_came_together_are_one_line_and_posts_in_trouble_say_why(
    container: Any, luna: Any, lines: Any
) -> None:
    def picture(minutes: int, **more: Any) -> None:
        values = {
            "id": f"media_{minutes}",
            "path": f"media/{minutes}.png",
            "character_id": luna["id"],
            "prompt": "a fox",
        }
        container.media.insert(MediaItem(**{**values, "created_at": at(minutes), "updated_at": at(minutes), **more}))

    for minutes in (0, 5, 10, 60):
        picture(minutes)
    picture(61, character_id=None)
    container.post_rows.insert(
        Post(
            id="post_1", character_id=luna["id"], platform="instagram", status="failed", updated_at=at(70),
            scheduled_at=at(0), due_at=at(0), error={"detail": "The picture is too tall."},
        )
    )  # fmt: skip
    assert [line["title"] for line in lines() if line["kind"] == "media"] == [
        "Made a picture", "Made a picture of Luna the Mystic", "Made 3 pictures of Luna the Mystic",
    ]  # fmt: skip
    (post,) = [line for line in lines() if line["kind"] == "post"]
    assert (
        post["title"] == "Post of Luna the Mystic failed on Instagram" and post["detail"] == "The picture is too tall."
    )
