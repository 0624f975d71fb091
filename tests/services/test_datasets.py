"""Datasets and pictures: edits, locks, the trash, files, thumbnails, JSON."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from dalla.errors import Conflict, InvalidInput, NotFound, Stale
from dalla.records.dataset import CaptionChange, Dataset, DatasetVersion, ImageFilter
from tests.services.datasets_kit import DatasetsKit


@pytest.fixture
def kit(tmp_path):
    kit = DatasetsKit(tmp_path)
    yield kit
    kit.library.close()


def test_a_dataset_is_made_found_and_renamed(kit):
    made = kit.datasets.create("  Luna   at\nthe sea ", trigger_word=" luna_x ", description=" d ")
    assert (made.name, made.trigger_word, made.description) == ("Luna at the sea", "luna_x", "d")
    assert kit.told("dataset.updated")[-1] == {"datasetId": made.id, "revision": 0}
    assert [d.id for d in kit.datasets.page(q="SEA luna_x").items] == [made.id]
    changed = kit.datasets.update(made.id, {"name": "Sea", "character_id": "char_1", "description": None})
    assert (changed.name, changed.character_id, changed.description, changed.revision) == ("Sea", "char_1", "", 1)
    assert kit.datasets.update(made.id, {"name": " Sea "}).revision == 1  # nothing to change, nothing changed
    for bad in ("", "  ", "x" * 201):
        with pytest.raises(InvalidInput):
            kit.datasets.create(bad)
        with pytest.raises(InvalidInput):
            kit.datasets.update(made.id, {"name": bad})
    with pytest.raises(NotFound):
        kit.datasets.get("no")
    with pytest.raises(InvalidInput):
        kit.datasets.get("../etc")


def test_the_trash_keeps_everything_until_restored(kit):
    id = kit.add("a.png", caption="x")
    assert kit.datasets.trash("set").trashed_at is not None
    for change in (
        lambda: kit.datasets.update("set", {"name": "B"}),
        lambda: kit.datasets.edit_image(id, {"caption": "y"}),
    ):
        with pytest.raises(Conflict, match="trash"):
            change()
    assert [d.id for d in kit.datasets.page(trashed=True).items] == ["set"] and kit.datasets.page().total == 0
    assert kit.datasets.restore("set").trashed_at is None
    assert kit.datasets.file(kit.datasets.image(id)).is_file()
    assert kit.datasets.image(id).caption == "x"


def test_deleting_for_good_leaves_no_file(kit):
    id = kit.add("10_luna/a.png")
    kit.datasets.thumbnail(kit.datasets.image(id), "s")
    kit.store.insert(Dataset(id="other", name="Other"))
    other = kit.add("a.png", dataset_id="other")
    kit.datasets.delete_for_good("set")
    data = Path(kit.settings.data_dir)
    assert not (data / "datasets" / "set").exists() and not (data / "thumbs" / "datasets" / "set").exists()
    assert kit.datasets.file(kit.datasets.image(other)).is_file()
    assert kit.told("dataset.updated")[-1] == {"datasetId": "set", "deleted": True}
    with pytest.raises(NotFound):
        kit.datasets.delete_for_good("set")


def test_purging_takes_old_trash_and_what_a_crash_left(kit):
    kept, old = kit.add("kept.png"), kit.add("old.png")
    gone = kit.datasets.create("Gone")
    kit.add("a.png", dataset_id=gone.id)
    kit.store.update(gone.id, trashed_at="2020-01-01T00:00:00.000Z")
    kit.store.update_images([old], trashed_at="2020-01-01T00:00:00.000Z")
    kit.datasets.trash_images([kept])
    assert kit.datasets.purge_trash(30) == 2
    data = Path(kit.settings.data_dir) / "datasets"
    assert [path.name for path in data.iterdir()] == ["set"]
    assert [path.name for path in (data / "set" / "originals").iterdir()] == ["kept.png"]
    assert kit.datasets.image(kept).trashed_at is not None
    assert kit.datasets.purge_trash(30) == 0


def test_a_kill_in_the_middle_of_deleting_leaves_nothing_for_long(kit, monkeypatch):
    made = kit.datasets.create("Doomed")
    kit.add("a.png", dataset_id=made.id)
    folder = Path(kit.settings.data_dir) / "datasets" / made.id
    monkeypatch.setattr(kit.datasets.files, "remove", lambda *args: None)  # killed after the record went
    kit.datasets.delete_for_good(made.id)
    monkeypatch.undo()
    assert folder.is_dir()
    unknown = folder.with_name("dataset_1700000000000_abcdefghi")  # of a newer database: nobody deleted it
    (unknown / "originals").mkdir(parents=True)
    kit.datasets.purge_trash(30)
    assert not folder.exists() and unknown.is_dir()


def test_a_deletion_that_did_not_happen_is_forgotten(kit, monkeypatch):
    kit.add("a.png")
    monkeypatch.setattr(kit.store, "delete", lambda id: 1 / 0)  # killed before the record went
    with pytest.raises(ZeroDivisionError):
        kit.datasets.delete_for_good("set")
    monkeypatch.undo()
    kit.datasets.purge_trash(30)
    kit.datasets.restore("set")
    folder = Path(kit.settings.data_dir) / "datasets" / "set"
    assert sorted(path.name for path in folder.iterdir()) == ["originals"]


def test_pictures_go_to_the_trash_and_back(kit):
    a, b = kit.add("a.png"), kit.add("b.png")
    outcome = kit.datasets.trash_images([a, "no", a])
    assert outcome["succeeded"] == [a] and [f["id"] for f in outcome["failed"]] == ["no"]
    assert outcome["failed"][0]["code"] == "not_found"
    assert [i.id for i in kit.datasets.images("set", ImageFilter()).items] == [b]
    assert kit.datasets.restore_images([a])["succeeded"] == [a]
    assert len(kit.datasets.image_ids("set", ImageFilter())) == 2
    assert kit.told("dataset.updated")[-1]["revision"] == kit.store.get("set").revision


def test_deleting_a_picture_spares_the_file_a_version_names(kit):
    a, b = kit.add("a.png"), kit.add("b.png")
    kit.versions.add(DatasetVersion(dataset_id="set", number=0, entries=[{"path": kit.datasets.image(a).path}]))
    paths = [kit.datasets.file(kit.datasets.image(id)) for id in (a, b)]
    thumbs = [kit.datasets.thumbnail(kit.datasets.image(id), "m") for id in (a, b)]
    assert kit.datasets.delete_many([a, b, "no"])["succeeded"] == [a, b]
    assert [path.exists() for path in paths] == [True, False]
    assert not any(thumb.exists() for thumb in thumbs)
    with pytest.raises(NotFound):
        kit.datasets.image(a)


def test_a_human_caption_is_locked_and_an_emptied_one_is_not(kit):
    id = kit.add("a.png", caption="from a file", caption_source="file")
    image = kit.datasets.edit_image(id, {"caption": "  red\u0000 dress\r\nsea\t"})
    assert (image.caption, image.caption_source, image.caption_locked) == ("red dress\nsea", "human", True)
    assert kit.told("caption.updated") == [{"datasetId": "set", "imageIds": [id], "count": 1, "revision": 2}]
    assert kit.datasets.edit_image(id, {"caption": "free", "caption_locked": False}).caption_locked is False
    assert kit.datasets.edit_image(id, {"caption_locked": True}).caption == "free"
    assert kit.datasets.edit_image(id, {"tags": ["a", " b ", ""]}).tags == ["a", "b"]
    emptied = kit.datasets.edit_image(id, {"caption": ""})
    assert (emptied.caption, emptied.caption_locked, emptied.caption_source) == ("", False, "none")
    assert [e.text for e in kit.captions.history(id)] == ["", "a, b", "free", "free", "red dress\nsea", "from a file"]
    with pytest.raises(InvalidInput):
        kit.datasets.edit_image(id, {"caption": "x" * 20_001})
    with pytest.raises(InvalidInput):
        kit.datasets.edit_image(id, {"caption": "x", "tags": ["y"]})


def test_an_untouched_caption_is_neither_locked_nor_told(kit):
    id = kit.add("a.png", caption="same")
    before = kit.store.get("set").revision
    image = kit.datasets.edit_image(id, {"caption": "same "})
    assert image.caption_locked is False and kit.told("caption.updated") == []
    assert kit.store.get("set").revision == before


def test_a_caption_changed_meanwhile_is_not_overwritten(kit):
    id = kit.add("a.png", caption="shown")
    kit.captions.write("set", [CaptionChange(image_id=id, text="by an engine")], source="engine")
    with pytest.raises(Stale) as stale:
        kit.datasets.edit_image(id, {"caption": "mine", "repeats": 5}, if_caption="shown")
    assert stale.value.extra["current"]["caption"] == "by an engine"
    assert kit.datasets.image(id).repeats == 1  # all or nothing
    assert kit.datasets.edit_image(id, {"caption": "mine"}, if_caption="by an engine").caption == "mine"
    assert kit.datasets.edit_image(id, {"caption": "mine"}, if_caption="older").caption == "mine"  # it says so already


def test_whoever_counts_tokens_hears_of_captions(kit):
    heard = []
    kit.datasets.after_captions = lambda dataset_id, texts: heard.append((dataset_id, texts))
    id = kit.add("a.png")
    kit.datasets.edit_image(id, {"caption": "x"})
    assert heard == [("set", {id: "x"})] and kit.told("caption.updated") == []


def test_settings_of_pictures_are_checked(kit):
    id = kit.add("a.png")
    image = kit.datasets.edit_image(id, {"excluded": True, "repeats": 10, "concept": " luna ", "regularization": True})
    assert (image.excluded, image.repeats, image.concept, image.regularization) == (True, 10, "luna", True)
    for bad in ({"repeats": 0}, {"repeats": 1001}, {"repeats": None}, {"excluded": None}):
        with pytest.raises(InvalidInput):
            kit.datasets.edit_image(id, bad)
    with pytest.raises(NotFound):
        kit.datasets.edit_image("no", {"repeats": 1})


def test_many_pictures_are_set_at_once(kit):
    kit.store.insert(Dataset(id="other", name="Other"))
    ids = [kit.add("a.png", caption="a"), kit.add("b.png"), kit.add("c.png", dataset_id="other", caption="c")]
    outcome = kit.datasets.edit_images([*ids, "no"], {"excluded": True, "caption_locked": True})
    assert outcome["succeeded"] == ids and [f["id"] for f in outcome["failed"]] == ["no"]
    images = [kit.datasets.image(id) for id in ids]
    assert all(image.excluded and image.caption_locked for image in images)
    assert [image.caption for image in images] == ["a", "", "c"]
    assert {e["datasetId"] for e in kit.told("dataset.updated")} == {"set", "other"}
    assert len(kit.captions.batches("set")) == 1


def test_thumbnails_are_made_again_and_errors_are_plain(kit):
    id = kit.add("a.png", size=(1000, 500))
    image = kit.datasets.image(id)
    small = kit.datasets.thumbnail(image, "s")
    with Image.open(small) as thumb:
        assert thumb.size == (320, 160) and thumb.format == "WEBP"
    small.unlink()
    assert kit.datasets.thumbnail(image, "s").is_file()
    with pytest.raises(InvalidInput):
        kit.datasets.thumbnail(image, "xl")
    kit.blobs.delete(image.path)
    assert kit.datasets.thumbnail(image, "m").is_file()  # still there without its picture
    for size in ("s", "m"):
        kit.blobs.delete(f"thumbs/datasets/set/{id}.{size}.webp")
    with pytest.raises(NotFound, match="a.png"):
        kit.datasets.thumbnail(image, "s")
    with pytest.raises(NotFound):
        kit.datasets.file(image)


def test_json_of_datasets(kit):
    ids = [kit.add(f"{n}.png", caption="a" if n else "") for n in range(6)]
    shown = kit.datasets.public(kit.store.get("set"))
    assert shown["counts"] == {
        "images": 6,
        "captioned": 5,
        "processed": 0,
        "excluded": 0,
        "sizeBytes": shown["counts"]["sizeBytes"],
    }
    assert [url.split("?")[0] for url in shown["covers"]] == [f"/api/images/{id}/thumb" for id in ids[:4]]
    assert 0 < shown["health"]["score"] < 100 and shown["health"]["fixes"][0]["filter"]
    assert shown["triggerWord"] == "" and shown["trashedAt"] is None and "seq" not in shown
    empty = kit.datasets.public(kit.datasets.create("Empty"))
    assert empty["health"]["score"] is None and empty["covers"] == [] and empty["counts"]["images"] == 0


def test_a_list_does_not_count_large_sets_that_nobody_opened(kit):
    for n in range(3):
        kit.add(f"{n}.png")
    kit.datasets.create("Empty")
    rows = kit.datasets.public_many(kit.datasets.page().items, budget=2)
    assert [row["health"] is None for row in rows] == [False, True]
    kit.datasets.statistics.of("set")
    rows = kit.datasets.public_many(kit.datasets.page().items, budget=0)
    assert rows[1]["health"] is not None  # known by now


def test_json_of_pictures(kit):
    id = kit.add("10_luna/a.png", caption="a, b c", sharpness=12.5, faceBoxes=[{"x": 1}])
    shown = kit.datasets.public_image(kit.datasets.image(id))
    version = kit.datasets.image(id).sha256[:12]
    assert shown["thumbUrl"] == f"/api/images/{id}/thumb?size=s&v={version}"
    assert shown["previewUrl"] == f"/api/images/{id}/thumb?size=m&v={version}"
    assert shown["fileUrl"].startswith(f"/api/images/{id}/file")
    assert (shown["folder"], shown["tags"], shown["words"]) == ("10_luna", ["a", "b c"], 3)
    assert shown["metadata"] == {"sharpness": 12.5, "faceBoxes": [{"x": 1}], "language": "unclear"}
    assert "path" not in shown and shown["datasetId"] == "set"
