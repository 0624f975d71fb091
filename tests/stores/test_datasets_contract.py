"""What every DatasetStore, CaptionStore and DatasetVersionStore does."""

from __future__ import annotations

import pytest

from dalla.errors import Conflict, InvalidInput, NotFound
from dalla.records.dataset import (
    CaptionChange,
    Dataset,
    DatasetExport,
    DatasetImage,
    DatasetVersion,
    ImageFilter,
    ImagePair,
)
from dalla.stores.dataset_captions import SqlCaptions
from dalla.stores.dataset_versions import SqlDatasetVersions
from dalla.stores.datasets import SqlDatasets

NOW = "2026-05-01T00:00:00.000Z"
SORTS = ["name", "newest", "oldest", "largest", "smallest", "sharpest", "blurriest", "caption", "brightness", "-aspect"]


@pytest.fixture
def store(library) -> SqlDatasets:
    store = SqlDatasets(library)
    store.insert(Dataset(id="set", name="Luna", created_at=NOW))
    return store


@pytest.fixture
def captions(library) -> SqlCaptions:
    return SqlCaptions(library)


@pytest.fixture
def versions(library) -> SqlDatasetVersions:
    return SqlDatasetVersions(library)


def picture(number: int, **values) -> DatasetImage:
    defaults = {
        "id": f"img_{number}",
        "dataset_id": "set",
        "filename": f"{number:04}.png",
        "path": f"datasets/set/originals/{number:04}.png",
        "width": 100 + number,
        "height": 200,
        "size_bytes": 1000,
        "sha256": f"{number:064x}",
        "pixel_sha256": f"{number:064x}",
        "created_at": f"2026-01-01T{number // 3600:02}:{number // 60 % 60:02}:{number % 60:02}.000Z",
    }
    return DatasetImage(**{**defaults, **values})


def found(store, where=None, sort="name", **fields) -> list[str]:
    """Return the ids that match, and check that every way to read them agrees."""
    where = where or ImageFilter(**fields)
    whole = store.images("set", where, sort=sort, limit=1000)
    ids = [image.id for image in whole.items]
    assert whole.total == len(ids) and whole.next_cursor is None
    assert sorted(store.image_ids("set", where)) == sorted(ids)
    paged, cursor = [], None
    while True:
        page = store.images("set", where, sort=sort, limit=3, cursor=cursor)
        paged += [image.id for image in page.items]
        cursor = page.next_cursor
        if cursor is None:
            break
    assert paged == ids
    jumped = [
        i.id for at in range(0, len(ids), 4) for i in store.images("set", where, sort=sort, limit=4, offset=at).items
    ]
    assert jumped == ids
    return ids


def revision(store) -> int:
    return store.get("set").revision


# ---------------------------------------------------------------------- datasets


def test_a_dataset_comes_back_whole_and_changes(store):
    made = Dataset(
        id="other", name="Ä set", description="d", character_id="char_1", trigger_word="luna", source_path="a.zip",
        revision=3, created_at=NOW, updated_at=NOW, trashed_at=NOW,
    )  # fmt: skip
    assert store.insert(made) == made == store.get("other")
    with pytest.raises(Conflict, match="other"):
        store.insert(made)
    changed = store.update("other", name="B", trashed_at=None)
    assert (changed.name, changed.trashed_at, changed.revision) == ("B", None, 4)
    assert changed.updated_at > NOW
    with pytest.raises(NotFound):
        store.get("no")
    with pytest.raises(NotFound):
        store.update("no", name="x")
    for name in ("id", "revision", "colour"):
        with pytest.raises(TypeError, match=name):
            store.update("other", **{name: "x"})


def test_datasets_are_paged_newest_first_and_searched(store):
    for n in range(7):
        store.insert(Dataset(id=f"d{n}", name=f"Set {n}", description="Forest walk", created_at=f"2026-06-0{n + 1}"))
    ids, cursor = [], None
    while True:
        page = store.page(limit=3, cursor=cursor)
        assert page.total == 8
        ids += [d.id for d in page.items]
        cursor = page.next_cursor
        if cursor is None:
            break
    assert ids == [*(f"d{n}" for n in range(6, -1, -1)), "set"]
    assert [d.id for d in store.page(q="forest 3").items] == ["d3"]
    assert store.page(q="100%").items == []
    store.update("d3", trashed_at=NOW)
    assert [d.id for d in store.page(trashed=True).items] == ["d3"]
    assert store.page().total == 7
    assert store.trashed_before("2026-05-02") == ["d3"]
    assert store.trashed_before(NOW) == []
    with pytest.raises(InvalidInput):
        store.page(cursor="nonsense")


def test_deleting_a_dataset_takes_everything_and_names_its_files(store, captions, versions):
    store.add_images([picture(1, caption="a, b"), picture(2)], {"img_1": {"sharpness": 5}})
    versions.add(DatasetVersion(dataset_id="set", number=0, entries=[{"path": "datasets/set/originals/old.png"}]))
    versions.add_export(
        DatasetExport(id="ex", dataset_id="set", number=0, version=1, format="kohya", path="datasets/set/e.zip")
    )
    store.save_pairs([ImagePair(dataset_id="set", first_id="img_1", second_id="img_2", verdict="same")])
    assert store.delete("set") == [
        "datasets/set/e.zip", "datasets/set/originals/0001.png", "datasets/set/originals/0002.png",
        "datasets/set/originals/old.png",
    ]  # fmt: skip
    with pytest.raises(NotFound):
        store.delete("set")
    assert captions.history("img_1") == [] and store.images_by_id(["img_1"]) == []
    store.insert(Dataset(id="set", name="again"))
    assert versions.all("set") == [] and versions.exports("set") == [] and store.pairs("set") == []
    assert captions.tags("set") == [] and found(store) == []
    store.add_images([picture(1)])
    assert store.metadata(["img_1"]) == {}


def test_counts_and_covers(store):
    store.insert(Dataset(id="empty", name="Empty"))
    store.add_images(
        [
            picture(3, caption="x"),
            picture(1, kind="processed", excluded=True),
            picture(2, trashed_at=NOW, caption="y"),
            *(picture(n) for n in range(4, 8)),
        ]
    )
    expected = {"images": 6, "captioned": 1, "processed": 1, "excluded": 1, "sizeBytes": 6000}
    assert store.counts(["set", "empty", "no"]) == {"set": expected, "empty": dict.fromkeys(expected, 0)}
    assert store.covers(["set", "empty"]) == {"set": ["img_3", "img_4", "img_5", "img_6"], "empty": []}
    assert store.covers(["set"], 1) == {"set": ["img_3"]}
    store.update_images(["img_3"], trashed_at=NOW)
    assert store.counts(["set"])["set"]["captioned"] == 0
    assert store.covers(["set"], 1) == {"set": ["img_4"]}


# ---------------------------------------------------------------------- pictures


def test_a_picture_comes_back_whole(store, captions):
    image = picture(
        1, kind="processed", parent_id="img_0", operation="face_crop", filename="10_luna/Ünïcode 猫.png", mime="image/webp",
        format="WEBP", size_bytes=5_000_000_000, caption="luna, Ä", caption_source="human", caption_locked=True, repeats=10,
        concept="luna", regularization=True, excluded=True, updated_at=NOW, trashed_at=NOW,
    )  # fmt: skip
    before = revision(store)
    store.add_images([image])
    assert store.image("img_1") == image
    assert revision(store) == before + 1
    first = captions.history("img_1")
    assert [(e.text, e.source, e.locked, e.batch_id) for e in first] == [("luna, Ä", "human", True, None)]
    with pytest.raises(NotFound):
        store.image("no")


def test_adding_is_all_or_nothing(store):
    store.add_images([])
    store.add_images([picture(1, filename="Straße.PNG")])
    before = revision(store)
    for clash in (picture(1, filename="new.png"), picture(9, filename="STRASSE.png")):
        with pytest.raises(Conflict):
            store.add_images([picture(2), clash], {"img_2": {"sharpness": 1}})
    assert found(store) == ["img_1"] and revision(store) == before and store.metadata(["img_2"]) == {}
    store.add_images([picture(3, filename="straße.png", kind="processed")])  # another folder on disk
    assert store.filenames("set", "original") == {"strasse.png"}
    with pytest.raises(NotFound):
        store.add_images([picture(5, dataset_id="no")])
    with pytest.raises(TypeError):
        store.add_images([picture(5), picture(6, dataset_id="other")])


def test_names_in_the_trash_stay_taken(store):
    store.add_images([picture(1, filename="é.png", trashed_at=NOW)])
    assert store.filenames("set", "original") == {"é.png"}
    with pytest.raises(Conflict):
        store.add_images([picture(2, filename="E\u0301.png")])


@pytest.mark.parametrize("sort", SORTS)
def test_every_order_pages_without_gaps(store, sort):
    store.add_images(
        [
            picture(n, caption=f"c{n % 3}" if n % 4 else "", created_at=NOW if n < 4 else f"2026-05-02T{n:02}")
            for n in range(11)
        ],
        {f"img_{n}": {"sharpness": n % 3 + 0.5, "brightness": -n} for n in range(8)},
    )
    assert len(found(store, sort=sort)) == 11
    assert len(found(store, sort=sort, captioned=True)) == 8


def test_orders_mean_what_they_say(store):
    store.add_images(
        [picture(n, width=100 * (n + 1)) for n in range(4)], {"img_1": {"sharpness": 9}, "img_3": {"sharpness": 2}}
    )
    assert found(store, sort="largest") == ["img_3", "img_2", "img_1", "img_0"]
    assert found(store, sort="smallest") == ["img_0", "img_1", "img_2", "img_3"]
    assert found(store, sort="sharpest") == ["img_1", "img_3", "img_0", "img_2"]  # what was not measured comes last
    assert found(store, sort="blurriest") == ["img_3", "img_1", "img_0", "img_2"]
    assert found(store, sort="-sharpness") == found(store, sort="sharpest")
    assert found(store, sort="newest") == found(store, sort="oldest")[::-1]
    for bad in ("", "--x", "a b", "-"):
        with pytest.raises(InvalidInput):
            store.images("set", ImageFilter(), sort=bad)
    with pytest.raises(InvalidInput):
        store.images("set", ImageFilter(), limit=0)
    cursor = store.images("set", ImageFilter(), sort="name", limit=1).next_cursor
    for sort in ("newest", "sharpest"):
        with pytest.raises(InvalidInput, match="another order"):
            store.images("set", ImageFilter(), sort=sort, cursor=cursor)
    with pytest.raises(NotFound):
        store.images("no", ImageFilter())


def test_a_page_of_a_large_set_is_the_same_either_way(store, monkeypatch):
    """By measured values, large sets are read in the order of the index and small ones are sorted."""
    store.insert(Dataset(id="other", name="Other"))
    store.add_images([picture(100, dataset_id="other")], {"img_100": {"sharpness": 3}})
    store.add_images([picture(n) for n in range(20)], {f"img_{n}": {"sharpness": n * 7 % 5} for n in range(15)})
    orders = ("sharpest", "blurriest")
    where = ImageFilter(metadata=[("sharpness", 1, 3)])
    small = [found(store, where, sort=sort) for sort in orders] + [found(store, sort=sort) for sort in orders]
    monkeypatch.setattr("dalla.stores.dataset_query._WALK", 0)
    assert [found(store, where, sort=sort) for sort in orders] + [found(store, sort=sort) for sort in orders] == small


def test_filters(store):
    store.add_images(
        [
            picture(
                1, caption="Red Dress, smile", filename="10_luna/a.png", caption_source="human", caption_locked=True
            ),
            picture(2, caption="red  dress", filename="10_luna/sub/b.jpg", format="JPEG", concept="luna"),
            picture(3, filename="10_lunas/c.png", width=50, excluded=True, pixel_sha256="same"),
            picture(
                4, caption="ÄPFEL, grün", kind="processed", parent_id="img_1", regularization=True, pixel_sha256="same"
            ),
            picture(5, caption="ÄPFEL, grün", filename="Zoë 100%.png", pixel_sha256="same"),
            picture(6, trashed_at=NOW, caption="red dress"),
        ],
        {"img_1": {"sharpness": 10, "faces": 1, "duplicateGroup": "g_1"}, "img_2": {"sharpness": 50.5, "flag": True}},
    )
    one = ["img_1"]
    assert set(found(store)) == {f"img_{n}" for n in range(1, 6)}
    assert found(store, trashed=True) == ["img_6"]
    assert set(found(store, tag="RED dress")) == {"img_1", "img_2"}
    assert set(found(store, tag="red")) == set()
    assert set(found(store, without_tag="red dress")) == {"img_3", "img_4", "img_5"}
    assert found(store, q="dress SMILE") == found(store, q='"red dress"') == one
    assert set(found(store, q="äpfel")) == {"img_4", "img_5"} == set(found(store, q='"äpfel, GRÜN"'))
    assert found(store, q="zoë") == found(store, q="100%") == ["img_5"]
    assert set(found(store, q="-dress -zoë")) == {"img_3", "img_4"}
    assert found(store, captioned=False) == ["img_3"] == found(store, excluded=True)
    assert found(store, caption_source="human") == one == found(store, locked=True)
    assert (
        found(store, kind="processed")
        == ["img_4"]
        == found(store, parent_id="img_1")
        == found(store, regularization=True)
    )
    assert found(store, concept="luna") == ["img_2"] == found(store, format="JPEG")
    assert set(found(store, folder="10_luna")) == {"img_1", "img_2"}
    assert set(found(store, folder="")) == {"img_4", "img_5"}
    assert found(store, max_side=60) == ["img_3"]
    assert set(found(store, min_side=104)) == {"img_4", "img_5"}
    assert found(store, group="g_1") == one
    assert found(store, metadata=[("sharpness", 10, 10)]) == one
    assert found(store, metadata=[("sharpness", 10.5, None)]) == ["img_2"] == found(store, metadata=[("flag", 1, 1)])
    assert found(store, metadata=[("faces", None, None)]) == one
    assert set(found(store, missing=["sharpness"])) == {"img_3", "img_4", "img_5"}
    assert found(store, metadata=[("words", 3, None)]) == one
    assert found(store, metadata=[("aspect", None, 50 / 200)]) == ["img_3"]
    assert set(found(store, shared_caption=True)) == {"img_4", "img_5"}
    assert set(found(store, same_pixels=True)) == {"img_3", "img_4", "img_5"}  # img_4 and img_5 are the same already
    assert set(found(store, same_pixels=False)) == {"img_1", "img_2"}
    assert set(found(store, ids=["img_1", "img_5", "no"])) == {"img_1", "img_5"}
    assert found(store, ids=[]) == []
    assert found(store, tag="red dress", metadata=[("sharpness", 20, None)]) == ["img_2"]


def test_facets_count_what_a_filter_leaves(store):
    store.add_images(
        [
            picture(n, caption="A, b" if n < 3 else "", format="PNG" if n < 4 else "JPEG", filename=f"f{n % 2}/{n}.png")
            for n in range(5)
        ],
        {f"img_{n}": {"faces": n, "duplicateGroup": "g"} for n in range(4)},
    )
    facets = store.facets("set", ImageFilter())
    assert facets["formats"] == [{"value": "PNG", "count": 4}, {"value": "JPEG", "count": 1}]
    assert facets["folders"] == [{"value": "f0", "count": 3}, {"value": "f1", "count": 2}]
    assert facets["captioned"] == [{"value": True, "count": 3}, {"value": False, "count": 2}]
    assert facets["faces"] == [{"value": "2+", "count": 2}, {"value": "0", "count": 1}, {"value": "1", "count": 1}]
    assert facets["groups"] == [{"value": "g", "count": 4}]
    assert {row["value"]: row["count"] for row in facets["tags"]} == {"A": 3, "b": 3}
    assert store.facets("set", ImageFilter(captioned=False))["tags"] == []
    facets["tags"].clear()  # what is remembered is not what was handed out
    assert len(store.facets("set", ImageFilter())["tags"]) == 2


def test_totals_follow_every_change_also_of_another_process(library, store, captions):
    store.add_images([picture(n) for n in range(3)])
    assert len(found(store)) == 3 and found(store, captioned=True) == []
    other, writer = SqlDatasets(library), SqlCaptions(library)
    other.add_images([picture(7)])
    writer.write("set", [CaptionChange(image_id="img_7", text="x")], source="human")
    assert len(found(store)) == 4 and found(store, captioned=True) == ["img_7"]
    other.update_images(["img_7"], excluded=True)
    assert len(found(store, excluded=False)) == 3


def test_hashes_name_what_is_not_in_the_trash(store):
    store.add_images([picture(1, sha256="a", pixel_sha256="p"), picture(2, sha256="b", pixel_sha256="p"), picture(3, sha256="a", trashed_at=NOW), picture(4, sha256="", pixel_sha256="")])  # fmt: skip
    assert store.hashes("set", "sha256", ["a", "b", "c", ""]) == {"a": ["img_1"], "b": ["img_2"]}
    assert store.hashes("set", "pixel_sha256", ["p"] * 1200) == {"p": ["img_1", "img_2"]}
    assert store.hashes("no", "sha256", ["a"]) == {}
    with pytest.raises(TypeError):
        store.hashes("set", "caption", ["a"])


def test_update_images_sets_the_same_on_all(store):
    store.add_images([picture(n) for n in range(1300)])
    before = revision(store)
    ids = [f"img_{n}" for n in range(1300)]
    assert store.update_images([*ids, "no", "img_0"], excluded=True, repeats=3) == ids
    assert revision(store) == before + 1
    assert store.images("set", ImageFilter(excluded=True)).total == 1300
    assert store.update_images(["no"], excluded=False) == [] and revision(store) == before + 1
    store.update_images(["img_5"], filename="Sub/New.PNG", width=10)
    moved = store.image("img_5")
    assert (moved.filename, moved.width) == ("Sub/New.PNG", 10)
    assert found(store, folder="Sub") == ["img_5"] == found(store, max_side=20)
    assert "sub/new.png" in store.filenames("set", "original")
    with pytest.raises(Conflict):
        store.update_images(["img_6"], filename="SUB/new.png")
    for name in ("caption", "caption_locked", "id", "colour"):
        with pytest.raises(TypeError, match=name):
            store.update_images(["img_1"], **{name: "x"})


def test_delete_images_removes_all_that_hangs_on_them(store, captions):
    store.add_images([picture(1, caption="a"), picture(2, caption="a")], {"img_1": {"sharpness": 1}})
    store.save_pairs([ImagePair(dataset_id="set", first_id="img_2", second_id="img_1", verdict="separate")])
    before = revision(store)
    assert [image.path for image in store.delete_images(["img_1", "no"])] == ["datasets/set/originals/0001.png"]
    assert revision(store) == before + 1
    assert captions.history("img_1") == [] and captions.tags("set") == [{"tag": "a", "count": 1}]
    assert store.pairs("set") == [] and store.metadata(["img_1"]) == {}
    assert store.delete_images(["img_1"]) == []


def test_trashed_images_before(store):
    store.add_images([picture(1, trashed_at="2026-01-01"), picture(2, trashed_at="2026-03-01"), picture(3)])
    assert store.trashed_images_before("2026-02-01") == ["img_1"]


# ---------------------------------------------------------------------- what was measured


def test_metadata_is_set_and_removed_by_key(store):
    store.add_images([picture(1), picture(2)], {"img_1": {"sharpness": 12.5, "faceBoxes": [{"x": 1}], "note": "ü"}})
    before = revision(store)
    store.put_metadata(
        "set", {"img_1": {"sharpness": 3, "note": None}, "img_2": {"faces": 0, "nan": float("nan")}, "no": {"a": 1}}
    )
    assert revision(store) == before + 1
    assert store.metadata(["img_1", "img_2", "no"]) == {
        "img_1": {"sharpness": 3, "faceBoxes": [{"x": 1}]},
        "img_2": {"faces": 0},
    }
    assert store.metadata(["img_1"], ["sharpness", "none"]) == {"img_1": {"sharpness": 3}}
    assert found(store, metadata=[("sharpness", 3, 3)]) == ["img_1"]
    store.put_metadata("set", {})
    assert revision(store) == before + 1
    with pytest.raises(NotFound):
        store.put_metadata("no", {"img_1": {"a": 1}})
    store.insert(Dataset(id="other", name="Other"))
    store.put_metadata("other", {"img_1": {"sharpness": 99}})  # not a picture of that dataset
    assert store.metadata(["img_1"])["img_1"]["sharpness"] == 3


def test_columns_gives_values_by_file_name(store):
    store.add_images(
        [picture(n, filename=f"{9 - n}.png") for n in range(3)], {"img_0": {"dhash": "ff", "x": 1}, "img_2": {"x": 0}}
    )
    assert store.columns("set", ["dhash", "x"]) == [("img_2", None, 0), ("img_1", None, None), ("img_0", "ff", 1)]
    assert store.columns("set", ["x"], ImageFilter(ids=["img_1"])) == [("img_1", None)]


def test_sizes_groups_by_width_and_height(store):
    store.add_images([picture(n, width=64, height=32 * (n % 2 + 1), repeats=n + 1) for n in range(4)])
    assert store.sizes("set", ImageFilter()) == [(64, 32, 2, 4), (64, 64, 2, 6)]


def test_pairs_are_remembered_once_whatever_the_order(store):
    pairs = [ImagePair(dataset_id="set", first_id="b", second_id="a", verdict="separate", created_at=NOW)]
    store.save_pairs(pairs)
    store.save_pairs([pairs[0].with_(verdict="same"), pairs[0].with_(first_id="c")])
    assert [(p.first_id, p.second_id, p.verdict) for p in store.pairs("set")] == [
        ("a", "b", "same"),
        ("a", "c", "separate"),
    ]
    store.delete_pairs([ImagePair(dataset_id="set", first_id="a", second_id="b", verdict="same")])
    assert [p.second_id for p in store.pairs("set")] == ["c"]
