"""What every CaptionStore and DatasetVersionStore does."""

from __future__ import annotations

import threading

import pytest

from dalla.errors import NotFound
from dalla.records.dataset import CaptionChange, DatasetExport, DatasetVersion, ImageFilter
from tests.stores.test_datasets_contract import NOW, captions, picture, revision, store, versions

__all__ = ["captions", "store", "versions"]  # fixtures


# ---------------------------------------------------------------------- captions


def test_writing_a_caption_keeps_history_tags_and_words(store, captions):
    store.add_images(
        [picture(1, caption="a, b, c"), picture(2)], {"img_1": {"tokensClip": 5, "tokensT5": 6, "sharpness": 1}}
    )
    before = revision(store)
    changes = [
        CaptionChange(image_id="img_1", text="a, X", before="a, b, c", locked=True),
        CaptionChange(image_id="img_2", text="one two, three", before="not this"),
        CaptionChange(image_id="no", text="x"),
    ]
    assert captions.write("set", changes, source="human", model_used="m", batch_id="b1") == ["img_1"]
    image = store.image("img_1")
    assert (image.caption, image.caption_source, image.caption_locked, image.tags) == (
        "a, X",
        "human",
        True,
        ["a", "X"],
    )
    assert revision(store) == before + 1
    assert captions.tags("set") == [{"tag": "a", "count": 1}, {"tag": "X", "count": 1}]
    # token counts of the old text are gone, and the language is that of the new one
    assert store.metadata(["img_1"]) == {"img_1": {"sharpness": 1, "language": "unclear"}}
    newest, first = captions.history("img_1")
    assert (newest.text, newest.source, newest.model_used, newest.batch_id, newest.locked) == (
        "a, X",
        "human",
        "m",
        "b1",
        True,
    )
    assert (newest.image_id, newest.dataset_id, first.text, first.source) == ("img_1", "set", "a, b, c", "file")
    assert len(captions.history("img_1", limit=1)) == 1
    assert captions.write("set", [CaptionChange(image_id="img_1", text="a, X")], source="human") == []
    assert captions.write("set", [CaptionChange(image_id="img_1", text="a, X", locked=False)], source="human") == [
        "img_1"
    ]
    assert captions.write("other", [CaptionChange(image_id="img_1", text="b")], source="human") == []
    captions.write("set", [CaptionChange(image_id="img_1", text="p, q, r, s")], source="edit")
    assert [row["tag"] for row in captions.tags("set")] == ["p", "q", "r", "s"]
    captions.write("set", [CaptionChange(image_id="img_1", text="")], source="edit")
    assert captions.tags("set") == [] and store.image("img_1").caption_source == "none"


def test_many_captions_are_written_in_one_go(store, captions):
    store.add_images([picture(n, caption=f"luna, number {n}, x") for n in range(1200)])
    before = revision(store)
    changes = [CaptionChange(image_id=f"img_{n}", text=f"luna, number {n}") for n in range(1199, -1, -1)]
    assert captions.write("set", changes, source="edit", batch_id="b") == [f"img_{n}" for n in range(1199, -1, -1)]
    assert revision(store) == before + 1
    texts = captions.texts("set", ImageFilter())
    assert texts[7] == ("img_7", "0007.png", "luna, number 7", False) and len(texts) == 1200
    assert captions.tags("set", limit=1) == [{"tag": "luna", "count": 1200}]
    assert len(captions.tags("set")) == 1000


def test_tags_in_any_case_count_as_one(store, captions):
    store.add_images(
        [
            picture(1, caption="Red dress, red Dress"),
            picture(2, caption="red dress"),
            picture(3, caption="red dress", trashed_at=NOW),
        ]
    )
    assert captions.tags("set") == [{"tag": "red dress", "count": 2}]


def test_a_batch_is_taken_back_where_it_still_stands(store, captions):
    store.add_images(
        [
            picture(1, caption="one", caption_locked=True),
            picture(2),
            picture(3, caption="three"),
            picture(4, caption="four"),
        ]
    )

    def write(batch, source="engine", **texts):
        captions.write(
            "set",
            [CaptionChange(image_id=f"img_{k[1:]}", text=t, locked=False) for k, t in texts.items()],
            source=source,
            batch_id=batch,
        )

    write("b1", i1="B1 one", i2="B1 two", i3="B1 three")
    write("b1", i1="B1 one again")  # twice in the same batch
    write("b2", source="human", i3="mine")
    undo = captions.before_batch("set", "b1")
    assert [(c.image_id, c.text, c.before, c.locked) for c in undo] == [
        ("img_1", "one", "B1 one again", True), ("img_2", "", "B1 two", False),
    ]  # fmt: skip
    newest, first = captions.batches("set")
    assert (newest.batch_id, newest.images, newest.source, newest.undone) == ("b2", 1, "human", False)
    assert (first.batch_id, first.images, first.undone) == ("b1", 3, False)
    assert captions.write("set", undo, source="edit", batch_id="undo") == ["img_1", "img_2"]
    assert store.image("img_1").caption_locked is True
    assert captions.before_batch("set", "b1") == []
    assert [(b.batch_id, b.undone) for b in captions.batches("set")] == [("undo", False), ("b2", False), ("b1", True)]
    assert captions.before_batch("set", "no") == [] and captions.before_batch("other", "b2") == []
    assert [b.batch_id for b in captions.batches("set", limit=1)] == ["undo"]


def test_two_writers_do_not_overwrite_each_other_unseen(store, captions):
    store.add_images([picture(1, caption="start")])
    won: list[str] = []

    def write(text: str) -> None:
        if captions.write("set", [CaptionChange(image_id="img_1", text=text, before="start")], source="human"):
            won.append(text)

    threads = [threading.Thread(target=write, args=(f"t{n}",)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1 and store.image("img_1").caption == won[0] and len(captions.history("img_1")) == 2


# ---------------------------------------------------------------------- versions and exports


def test_versions_are_numbered_and_immutable(versions, store):
    entries = [{"imageId": "img_1", "path": "datasets/set/originals/a.png", "caption": "ü"}]
    first = versions.add(
        DatasetVersion(dataset_id="set", number=9, note="n", images=1, added=1, sha256="s", entries=entries)
    )
    assert first.number == 1 and versions.get("set", 1) == first
    assert versions.add(DatasetVersion(dataset_id="set", number=1)).number == 2
    listed = versions.all("set")
    assert [(v.number, v.entries) for v in listed] == [(2, None), (1, None)]
    assert versions.keys_in_versions("set") == {"datasets/set/originals/a.png"}
    assert versions.keys_in_versions("other") == set()
    with pytest.raises(NotFound):
        versions.get("set", 3)
    with pytest.raises(NotFound):
        versions.add(DatasetVersion(dataset_id="no", number=0))


def test_two_versions_at_once_get_two_numbers(versions, store):
    numbers: list[int] = []
    add = lambda: numbers.append(versions.add(DatasetVersion(dataset_id="set", number=0)).number)  # noqa: E731
    threads = [threading.Thread(target=add) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(numbers) == [1, 2, 3, 4, 5, 6]


def test_exports_come_change_and_go(versions, store):
    made = versions.add_export(
        DatasetExport(id="e1", dataset_id="set", number=0, version=1, format="kohya", options={"a": [1]})
    )
    assert made.number == 1 and made.created_at and versions.export("set", 1) == made
    second = versions.add_export(DatasetExport(id="e2", dataset_id="set", number=0, version=1, format="pairs"))
    changed = versions.update_export(
        "e1", path="datasets/set/exports/training_data_v1.zip", size_bytes=5_000_000_000, sha256="x"
    )
    assert changed.size_bytes == 5_000_000_000 and versions.export("set", 1) == changed
    assert [e.id for e in versions.exports("set")] == ["e2", "e1"]
    assert versions.delete_export("e2") == second
    third = versions.add_export(DatasetExport(id="e3", dataset_id="set", number=0, version=1, format="pairs"))
    assert third.number == 3  # a number that was given is never given again
    assert [e.id for e in versions.exports("set")] == ["e3", "e1"]
    versions.delete_export("e3")
    assert versions.add_export(third.with_(id="e4", number=0)).number == 4
    versions.delete_export("e4")
    for missing in (
        lambda: versions.export("set", 2),
        lambda: versions.delete_export("e2"),
        lambda: versions.update_export("no", path=""),
    ):
        with pytest.raises(NotFound):
            missing()
    with pytest.raises(TypeError):
        versions.update_export("e1", number=7)
    with pytest.raises(NotFound):
        versions.add_export(DatasetExport(id="e9", dataset_id="no", number=0, version=1, format="kohya"))
