"""Versions: what they hold, what differs, and the way back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dalla.errors import Conflict, InvalidInput, NotFound
from dalla.records.dataset import DatasetImage
from dalla.services.dataset_versions import entries_sha
from dalla.stores.datasets import SqlDatasets
from tests.services.dataset_versions_kit import World, picture


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    yield world
    world.close()


def three(world: World) -> tuple[str, str, str]:
    return (
        world.add("a.png", picture(1), "ohwx, red"),
        world.add("b.png", picture(2), "ohwx, green"),
        world.add("sub/c.jpg", picture(3, format="JPEG"), "", repeats=4, concept="luna woman"),
    )


def test_a_version_keeps_what_would_be_trained(world: World) -> None:
    a, b, c = three(world)
    hidden = world.add("hidden.png", picture(9), "no", excluded=True)
    thrown = world.add("thrown.png", picture(10), "no")
    world.store.update_images([thrown], trashed_at="2026-01-01T00:00:00.000Z")
    version, new = world.versions.snapshot(world.id, " first ")
    assert new and (version.number, version.note, version.images) == (1, "first", 3)
    assert (version.added, version.removed, version.recaptioned) == (3, 0, 0)
    entries, revision = world.versions.entries(world.id, 1)
    assert [e["imageId"] for e in entries] == [a, b, c]
    assert entries[2]["repeats"] == 4 and entries[2]["concept"] == "luna woman" and entries[2]["format"] == "JPEG"
    assert revision == version.revision
    assert hidden not in {e["imageId"] for e in entries}
    assert "entries" not in world.versions.public(version)


def test_a_version_never_changes_and_equal_content_is_no_new_one(world: World) -> None:
    a, _, _ = three(world)
    first, _ = world.versions.snapshot(world.id)
    before = world.versions.get(world.id, 1).entries
    again, new = world.versions.snapshot(world.id, "once more")
    assert not new and again.number == 1 and again.note == ""
    world.caption(a, "ohwx, blue")
    second, new = world.versions.snapshot(world.id)
    assert new and second.number == 2 and second.sha256 != first.sha256
    assert world.versions.get(world.id, 1).entries == before
    world.caption(a, "ohwx, red")
    third, _ = world.versions.snapshot(world.id)
    assert third.sha256 == first.sha256 and third.number == 3


def test_measuring_makes_no_other_version(world: World) -> None:
    a, _, _ = three(world)
    first, _ = world.versions.snapshot(world.id)
    world.store.put_metadata(world.id, {a: {"sharpness": 12.5}})
    assert world.versions.snapshot(world.id)[1] is False
    assert entries_sha(world.versions.entries(world.id)[0]) == first.sha256


def test_the_difference_has_names(world: World) -> None:
    a, b, c = three(world)
    world.versions.snapshot(world.id)
    world.caption(a, "ohwx, blue")
    world.store.update_images([b], trashed_at="2026-01-01T00:00:00.000Z")
    world.store.update_images([c], repeats=2)
    d = world.add("d.png", picture(4), "new")
    version, _ = world.versions.snapshot(world.id)
    assert (version.added, version.removed, version.recaptioned) == (1, 1, 1)
    change = world.versions.compare(world.id, 2)
    assert change["against"] == 1 and not change["same"]
    assert change["added"] == [{"imageId": d, "filename": "d.png", "caption": "new"}]
    assert change["removed"] == [{"imageId": b, "filename": "b.png", "caption": "ohwx, green"}]
    assert change["recaptioned"] == [{"imageId": a, "filename": "a.png", "before": "ohwx, red", "after": "ohwx, blue"}]
    assert change["changed"] == [{"imageId": c, "filename": "sub/c.jpg", "fields": {"repeats": [4, 2]}}]
    assert change["counts"] == {"added": 1, "removed": 1, "recaptioned": 1, "replaced": 0, "changed": 1}
    back = world.versions.compare(world.id, 1, 2)
    assert [row["imageId"] for row in back["added"]] == [b] and [row["imageId"] for row in back["removed"]] == [d]
    assert world.versions.compare(world.id, 1)["counts"]["added"] == 3  # against nothing


def test_the_present_can_be_compared(world: World) -> None:
    a, _, _ = three(world)
    world.versions.snapshot(world.id)
    assert world.versions.compare(world.id, "current")["same"]
    world.caption(a, "other")
    change = world.versions.compare(world.id, "current", 1)
    assert change["number"] == "current" and change["counts"]["recaptioned"] == 1
    for wrong in ("x", "0", "-1", str(2**40)):
        with pytest.raises(InvalidInput):
            world.versions.compare(world.id, wrong)
    with pytest.raises(NotFound):
        world.versions.compare(world.id, 7)


def test_going_back(world: World) -> None:
    a, b, c = three(world)
    world.versions.snapshot(world.id)
    wanted = entries_sha(world.versions.entries(world.id)[0])
    world.caption(a, "changed by hand")
    world.store.update_images([b], trashed_at="2026-01-01T00:00:00.000Z")
    world.store.update_images([c], repeats=1, concept="", excluded=True)
    d = world.add("d.png", picture(4), "later")
    result = world.versions.restore(world.id, 1)
    assert result["savedAs"] == 2 and result["gone"] == []
    assert (result["captions"], result["fromTrash"], result["excluded"]) == (1, 1, 1)
    assert entries_sha(world.versions.entries(world.id)[0]) == wanted
    assert world.store.image(d).excluded and world.store.image(b).trashed_at is None
    # … and forward again: nothing was lost
    assert {e["imageId"] for e in world.versions.entries(world.id, 2)[0]} == {a, d}
    world.versions.restore(world.id, 2)
    assert world.store.image(a).caption == "changed by hand" and not world.store.image(d).excluded


def test_captions_that_went_back_can_be_taken_back(world: World) -> None:
    a, _, _ = three(world)
    world.versions.snapshot(world.id)
    world.caption(a, "mine")
    batch = world.versions.restore(world.id, 1)["batchId"]
    assert [change.text for change in world.captions.before_batch(world.id, batch)] == ["mine"]
    assert world.captions.history(a)[0].model_used == "version 1"


def test_pictures_removed_for_good_come_back_from_their_files(world: World) -> None:
    a, b, c = three(world)
    cut = world.add("a_face_0.png", picture(5), "face", kind="processed", parent_id=a, operation="face_crop")
    world.versions.snapshot(world.id)
    paths = {id: world.store.image(id).path for id in (a, b, c)}
    world.store.delete_images([a, b, c, cut])
    world.blobs.delete(paths[b])
    world.blobs.put(paths[c], b"something else")
    result = world.versions.restore(world.id, 1)
    assert result["fromFiles"] == 2 and result["savedAs"] is None
    again = world.store.image(a)
    assert (again.caption, again.width, again.height, again.format) == ("ohwx, red", 80, 60, "PNG")
    made = world.store.image(cut)
    assert (made.parent_id, made.operation, made.kind) == (a, "face_crop", "processed")
    assert {row["filename"]: row["detail"] for row in result["gone"]} == {
        "b.png": "Its file is gone.",
        "sub/c.jpg": "Its file is gone.",
    }


def test_a_name_that_is_taken_meanwhile_is_told(world: World) -> None:
    a, _, _ = three(world)
    world.versions.snapshot(world.id)
    path = world.store.image(a).path
    world.store.delete_images([a])
    world.store.add_images([DatasetImage(id="img_2", dataset_id=world.id, filename="A.PNG", path=path)])
    gone = world.versions.restore(world.id, 1)["gone"]
    assert gone == [{"imageId": a, "filename": "a.png", "detail": "Another picture has this name now."}]


def test_nothing_to_keep_and_the_trash(world: World) -> None:
    with pytest.raises(Conflict, match="no picture"):
        world.versions.snapshot(world.id)
    world.add("a.png", picture(1))
    with pytest.raises(InvalidInput):
        world.versions.snapshot(world.id, "x" * 2001)
    world.store.update(world.id, trashed_at="2026-01-01T00:00:00.000Z")
    for call in (world.versions.snapshot, lambda id: world.versions.restore(id, 1)):
        with pytest.raises(Conflict, match="in the trash"):
            call(world.id)
    with pytest.raises(NotFound):
        world.versions.snapshot("dataset_none")
    with pytest.raises(NotFound):
        world.versions.all("dataset_none")


def test_a_set_that_changes_while_it_is_read_is_not_kept_half(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    a, _, _ = three(world)
    read = SqlDatasets.images_by_id
    changes = iter(range(100))

    def meanwhile(self: SqlDatasets, ids: list[str]) -> list[DatasetImage]:
        found = read(self, ids)
        world.caption(a, f"change {next(changes)}")
        return found

    monkeypatch.setattr(SqlDatasets, "images_by_id", meanwhile)
    with pytest.raises(Conflict, match="changing this dataset"):
        world.versions.snapshot(world.id)
    assert world.versions.all(world.id) == []
    changes = iter(range(200, 202))
    stop = iter([True, False])

    def once(self: SqlDatasets, ids: list[str]) -> list[DatasetImage]:
        found = read(self, ids)
        if next(stop, False):
            world.caption(a, "the last change")
        return found

    monkeypatch.setattr(SqlDatasets, "images_by_id", once)
    world.versions.snapshot(world.id)
    assert world.versions.entries(world.id, 1)[0][0]["caption"] == "the last change"


def test_the_page_is_told(world: World) -> None:
    a, _, _ = three(world)
    first = world.events.last_id
    world.versions.snapshot(world.id)
    world.caption(a, "x")
    world.versions.restore(world.id, 1)
    heard, _ = world.events.since(first, 0)
    assert [event.type for event in heard] == [
        "dataset.updated",
        "dataset.updated",
        "dataset.updated",
        "caption.updated",
    ]
    assert heard[-1].data["imageIds"] == [a] and heard[-1].data["revision"] == world.store.get(world.id).revision
