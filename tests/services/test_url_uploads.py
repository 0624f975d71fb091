"""Pictures from a list of addresses: into uploads, and from there into a dataset."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dalla.errors import InvalidInput
from dalla.services.url_uploads import MAX_URLS, UrlUploads
from tests.services.dataset_import_kit import World, picture
from tests.test_downloads import Shop, shop  # noqa: F401 - a fixture


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    yield world
    world.close()


def test_what_is_fetched_is_planned_and_imported(world: World, shop: str, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    monkeypatch.setattr("tests.test_downloads.PICTURE", picture(1))
    urls = UrlUploads(world.uploads, world.jobs, private=True)
    job = world.jobs.get(urls.start(f"{shop}/a.png\n{shop}/no {shop}/a.png\n{shop}/page").id)
    assert job.status == "completed" and job.result
    assert job.result["summary"] == "1 of 3 fetched"
    assert [row["name"] for row in job.result["files"]] == ["a.png"]
    assert {row["url"].rpartition("/")[2] for row in job.result["failed"]} == {"no", "page"}
    assert {row["code"] for row in job.items_failed} == {"upstream_error", "invalid_input"}
    ids = job.result["uploadIds"]
    assert world.imports.plan(upload_ids=ids)["counts"]["pictures"] == 1
    done, dataset = world.imports.start(upload_ids=ids, name="Web")
    assert world.jobs.get(done.id).status == "completed"
    assert list(world.images(dataset.id)) == ["a.png"]


def test_private_addresses_are_not_fetched_unless_allowed(world: World, shop: str) -> None:  # noqa: F811
    job = world.jobs.get(UrlUploads(world.uploads, world.jobs).start(f"{shop}/a.png").id)
    assert job.status == "failed" and job.error
    assert "this computer" in job.error["detail"]
    assert [row["code"] for row in job.items_failed] == ["address_refused"]  # told also when the whole task failed
    assert Shop.asked == []


@pytest.mark.parametrize("text", ["", "  \n", "not-an-address", "ftp://x/y.png", "http://me:secret@example.com/a.png"])
def test_wrong_addresses_are_told_at_once(world: World, text: str) -> None:
    with pytest.raises(InvalidInput) as wrong:
        UrlUploads(world.uploads, world.jobs).start(text)
    assert wrong.value.errors[0]["field"] == "urls"


def test_too_many_addresses_are_refused(world: World) -> None:
    text = "\n".join(f"https://example.com/{n}.png" for n in range(MAX_URLS + 1))
    with pytest.raises(InvalidInput, match="At most"):
        UrlUploads(world.uploads, world.jobs).start(text)


def test_a_task_run_again_fetches_only_the_rest(world: World, shop: str) -> None:  # noqa: F811
    urls = UrlUploads(world.uploads, world.jobs, private=True)
    first = world.jobs.get(urls.start(f"{shop}/a.png\n{shop}/b.png").id)
    assert first.result and len(first.result["uploadIds"]) == 2
    kept = world.uploads.outcome(first.id)
    assert kept is not None
    del kept[f"{shop}/b.png"]
    world.uploads.keep_outcome(first.id, kept)  # as after a kill between the two
    Shop.asked = []
    again = urls._run(_Again(first.id), {"urls": [f"{shop}/a.png", f"{shop}/b.png"]})  # type: ignore[arg-type]
    assert Shop.asked == ["/b.png"]
    assert again["uploadIds"][0] == first.result["uploadIds"][0]


class _Again:
    """The context of the second attempt of a task."""

    def __init__(self, id: str) -> None:
        self.job = type("Job", (), {"id": id, "attempt": 2})()

    def progress(self, done: float, total: float, message: str = "") -> None: ...

    def check_cancelled(self) -> None: ...

    def item_failed(self, id: str, code: str, detail: str) -> None: ...
