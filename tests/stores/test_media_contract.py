"""What every MediaStore does."""

from __future__ import annotations

import threading

import pytest

from dalla.errors import Conflict, InvalidInput, NotFound
from dalla.records.media import MediaFilter, MediaItem
from tests.stores.conftest import picture

NOW = "2026-05-01T00:00:00.000Z"


def found(media, **where) -> list[str]:
    """Return the matching ids, newest first, and check that every way to ask agrees."""
    page = media.page(MediaFilter(**where), limit=100)
    ids = [item.id for item in page.items]
    assert page.total == len(ids)
    assert page.next_cursor is None
    assert media.ids(MediaFilter(**where)) == ids
    assert [i.id for i in media.page(MediaFilter(**where), limit=100, sort="oldest").items] == ids[::-1]
    return ids


# ---------------------------------------------------------------------- records


def test_an_item_comes_back_whole(media):
    item = picture(
        1,
        type="video",
        origin="upscaled",
        character_id="char_1",
        task_id="job_1",
        parent_id="media_0",
        mime="video/mp4",
        width=832,
        height=1216,
        size_bytes=5_000_000_000,
        prompt="a forest",
        negative_prompt="blurry",
        model="sdxl.safetensors",
        family="sdxl",
        engine="comfyui",
        loras=["luna", "film grain"],
        recipe={"seed": 9007199254740991, "loras": [{"name": "luna", "strength": 0.8}]},
        caption="Hello 🌲",
        alt_text="trees",
        starred=True,
        posted=True,
        updated_at=NOW,
        trashed_at=NOW,
    )
    assert media.insert(item) == item
    assert media.get("media_1").to_json() == item.to_json()


def test_times_are_filled_in(media):
    stored = media.insert(MediaItem(id="media_x", path="x.png"))
    assert stored.created_at.endswith("Z")
    assert media.get("media_x") == stored


def test_a_taken_id_is_a_conflict_and_adds_nothing(media):
    media.insert(picture(1))
    with pytest.raises(Conflict, match="media_1"):
        media.insert(picture(1, prompt="other"))
    with pytest.raises(Conflict):
        media.insert_many([picture(2), picture(1)])
    assert found(media) == ["media_1"]
    assert found(media, words=["other"]) == []


def test_insert_many_adds_all(media):
    media.insert_many([])
    media.insert_many([picture(n, loras=["a", "a"], recipe={"n": n}, prompt=f"number{n}") for n in range(1200)])
    assert media.page(MediaFilter()).total == 1200
    assert media.get("media_700").recipe == {"n": 700}
    assert found(media, words=["number1199"]) == ["media_1199"]
    assert media.page(MediaFilter(lora="a")).total == 1200


def test_get_many_keeps_the_order_asked_for(media):
    media.insert_many([picture(n) for n in range(600)])
    asked = [f"media_{n}" for n in (5, 599, 3)]
    assert [i.id for i in media.get_many([*asked, "no", "media_5"])] == asked
    assert len(media.get_many([f"media_{n}" for n in range(600)])) == 600
    with pytest.raises(NotFound):
        media.get("no")


def test_update_sets_columns_and_says_which_exist(media):
    media.insert_many([picture(n, prompt="old words", loras=["a"], recipe={"n": n}) for n in range(3)])
    assert media.update(["media_2", "no", "media_0"], starred=True, caption="c") == ["media_2", "media_0"]
    assert found(media, starred=True) == ["media_2", "media_0"]
    changed = media.get("media_0")
    assert (changed.caption, changed.recipe, changed.loras) == ("c", {"n": 0}, ["a"])
    assert changed.updated_at > changed.created_at
    media.update(["media_0"], prompt="Fresh text", loras=["b", "c"], recipe=None, character_id="char_1")
    assert found(media, words=["fresh"]) == ["media_0"]
    assert found(media, words=["old"]) == ["media_2", "media_1"]
    assert found(media, lora="b") == ["media_0"]
    assert found(media, lora="a") == ["media_2", "media_1"]
    assert media.get("media_0").recipe is None
    media.update(["media_1"], recipe={"new": True})
    assert media.get("media_1").recipe == {"new": True}
    assert media.update(["no"], starred=True) == []
    for name in ("id", "created_at", "colour"):
        with pytest.raises(TypeError, match=name):
            media.update(["media_0"], **{name: "x"})


def test_bulk_work_on_more_ids_than_a_statement_may_hold(media):
    media.insert_many([picture(n, prompt="forest") for n in range(1300)])
    ids = [f"media_{n}" for n in range(1300)]
    assert media.update(ids, starred=True) == ids
    assert media.page(MediaFilter(ids=ids, starred=True)).total == 1300
    assert len(media.delete(ids[:1100])) == 1100
    assert media.page(MediaFilter()).total == 200
    assert media.page(MediaFilter(words=["forest"])).total == 200


def test_delete_returns_the_records_and_leaves_nothing(media):
    media.insert(picture(1, prompt="forest", loras=["a"], recipe={"seed": 1}, character_id="char_1"))
    media.insert(picture(2, prompt="forest"))
    media.save_collection("coll_1", "Best", NOW)
    media.add_to_collection("coll_1", ["media_1", "media_2"], NOW)
    gone = media.delete(["media_1", "no"])
    assert [(i.id, i.path, i.recipe) for i in gone] == [("media_1", "media/1.png", {"seed": 1})]
    assert media.delete(["media_1"]) == []
    assert found(media, words=["forest"]) == found(media, collection_id="coll_1") == ["media_2"]
    assert found(media, lora="a") == []
    assert media.count_by_character() == {}
    assert media.get_collection("coll_1").count == 1
    media.insert(picture(1))  # the id is free, and nothing of the old one clings to it
    assert media.get("media_1").recipe is None
    assert found(media, collection_id="coll_1") == ["media_2"]


# ---------------------------------------------------------------------- filters


@pytest.fixture
def mixed(media):
    media.insert_many(
        [
            picture(0, character_id="luna", model="a", engine="comfyui", loras=["x"], starred=True),
            picture(1, character_id="luna", model="b", engine="builtin", loras=["x", "y"], posted=True),
            picture(2, character_id="aria", model="a", engine="comfyui", type="video", task_id="job_1"),
            picture(3, model="a", trashed_at=NOW, character_id="luna", starred=True, loras=["x"]),
        ]
    )
    return media


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ({}, [2, 1, 0]),
        ({"character_id": "luna"}, [1, 0]),
        ({"model": "a"}, [2, 0]),
        ({"engine": "comfyui"}, [2, 0]),
        ({"type": "video"}, [2]),
        ({"task_id": "job_1"}, [2]),
        ({"lora": "x"}, [1, 0]),
        ({"lora": "x", "model": "b"}, [1]),
        ({"starred": True}, [0]),
        ({"starred": False}, [2, 1]),
        ({"posted": True}, [1]),
        ({"posted": False}, [2, 0]),
        ({"trashed": True}, [3]),
        ({"trashed": True, "lora": "x", "starred": True}, [3]),
        ({"ids": ["media_2", "media_0", "media_3", "no"]}, [2, 0]),
        ({"ids": []}, []),
        ({"after": "2026-01-01T00:00:01.000Z"}, [2, 1]),
        ({"before": "2026-01-01T00:00:01.000Z"}, [1, 0]),
        ({"after": "2026-01-01T00:00:01.000Z", "before": "2026-01-01T00:00:01.000Z"}, [1]),
        ({"lora": "x", "before": "2026-01-01T00:00:00.000Z"}, [0]),
        ({"character_id": "nobody"}, []),
        ({"collection_id": "none"}, []),
    ],
)
def test_filters(mixed, where, expected):
    assert found(mixed, **where) == [f"media_{n}" for n in expected]


@pytest.fixture
def worded(media):
    prompts = [
        "Portrait in an ENCHANTED Forest, golden hour",
        "city at night, rainforest mural",
        'the sign says "50% off" in my_shop',
        "Ölgemälde, Größe XL, ÉCLAIR",
        "",
    ]
    media.insert_many([picture(n, prompt=prompt) for n, prompt in enumerate(prompts)])
    return media


@pytest.mark.parametrize(
    ("words", "not_words", "expected"),
    [
        (["forest"], [], [1, 0]),
        (["FORE"], [], [1, 0]),
        (["forest", "night"], [], [1]),
        (["forest"], ["night"], [0]),
        ([], ["forest"], [4, 3, 2]),
        (["nt"], [], [0]),
        (["x"], [], [3]),
        (["in", "sign"], [], [2]),
        (["in"], ["my", "zzz"], [1, 0]),
        (['"50%'], [], [2]),
        (["y_s"], [], [2]),
        (["yxs"], [], []),
        (["öl"], [], [3]),
        (["GRÖSSE"], [], []),
        (["größe"], [], [3]),
        (["éclair"], [], [3]),
        (["golden hour"], [], [0]),
        (["hour golden"], [], []),
        (["*"], [], []),
        (["AND"], [], []),
        (["NOT", "OR"], [], []),
        (['"'], [], [2]),
        (["  "], [""], [4, 3, 2, 1, 0]),
    ],
)
def test_words_are_found_anywhere_in_any_case(worded, words, not_words, expected):
    assert found(worded, words=words, not_words=not_words) == [f"media_{n}" for n in expected]


def test_words_join_with_other_filters(worded):
    worded.update(["media_0"], starred=True)
    worded.update(["media_1"], trashed_at=NOW)
    assert found(worded, words=["forest"]) == ["media_0"]
    assert found(worded, words=["forest"], starred=False) == []
    assert found(worded, words=["forest"], trashed=True) == ["media_1"]


def test_a_common_word_is_paged_in_order(media):
    media.insert_many([picture(n, prompt=f"portrait {n}", loras=["a"] * bool(n % 10)) for n in range(2600)])
    ids, cursor = [], None
    for _ in range(6):
        page = media.page(MediaFilter(words=["portrait"]), limit=500, cursor=cursor)
        assert page.total == 2600
        ids += [item.id for item in page.items]
        cursor = page.next_cursor
    assert cursor is None
    assert ids == [f"media_{n}" for n in reversed(range(2600))]
    tagged = [f"media_{n}" for n in reversed(range(2600)) if n % 10]
    where = MediaFilter(words=["portrait"], lora="a")
    assert media.ids(where) == tagged
    first = media.page(where, limit=700)
    second = media.page(where, limit=50, cursor=first.next_cursor)
    assert [item.id for item in first.items + second.items] == tagged[:750]
    oldest = media.page(MediaFilter(not_words=["zzz"]), limit=3, sort="oldest")
    assert [item.id for item in oldest.items] == ["media_0", "media_1", "media_2"]


def test_a_common_word_that_stands_only_in_the_oldest_prompts(media):
    media.insert_many([picture(n, prompt="portrait" if n < 2100 else "city") for n in range(3500)])
    page = media.page(MediaFilter(words=["portrait"]), limit=3)
    assert page.total == 2100
    assert [item.id for item in page.items] == ["media_2099", "media_2098", "media_2097"]


# ---------------------------------------------------------------------- pages


def test_a_page_continues_where_the_last_one_ended_though_rows_come_and_go(media):
    media.insert_many([picture(n) for n in range(10)])
    first = media.page(MediaFilter(), limit=4)
    assert [i.id for i in first.items] == ["media_9", "media_8", "media_7", "media_6"]
    media.insert(picture(11))
    media.delete(["media_6", "media_4"])
    second = media.page(MediaFilter(), limit=4, cursor=first.next_cursor)
    assert [i.id for i in second.items] == ["media_5", "media_3", "media_2", "media_1"]
    assert second.total == 9


@pytest.mark.parametrize("where", [{}, {"words": ["portrait"]}, {"character_id": "char_1"}])
@pytest.mark.parametrize("sort", ["newest", "oldest"])
def test_a_jump_into_the_middle_gives_what_paging_would_have_given_there(media, where, sort):
    media.insert_many([picture(n, prompt="portrait", character_id="char_1") for n in range(2300)])
    order = [f"media_{n}" for n in range(2300)]
    if sort == "newest":
        order.reverse()
    for offset in (0, 1, 1150, 2298, 2300):
        page = media.page(MediaFilter(**where), limit=3, sort=sort, offset=offset)
        assert [i.id for i in page.items] == order[offset : offset + 3]
        assert page.total == 2300
    jump = media.page(MediaFilter(**where), limit=3, sort=sort, offset=1150)
    following = media.page(MediaFilter(**where), limit=3, sort=sort, cursor=jump.next_cursor)
    assert [i.id for i in following.items] == order[1153:1156]


def test_equal_times_keep_the_order_of_insertion(media):
    media.insert_many([picture(n, created_at=NOW) for n in range(7)])
    assert found(media) == [f"media_{n}" for n in (6, 5, 4, 3, 2, 1, 0)]


@pytest.mark.parametrize("cursor", ["x", "", "%%%", "eyJhIjoxfQ", "bWVkaWE=", "é"])
def test_a_cursor_that_is_not_ours_is_refused(media, cursor):
    media.insert(picture(1))
    if not cursor:
        assert media.page(MediaFilter(), cursor=cursor).total == 1
        return
    with pytest.raises(InvalidInput) as caught:
        media.page(MediaFilter(), cursor=cursor)
    assert caught.value.errors[0]["field"] == "cursor"


def test_a_changed_cursor_and_one_of_another_order_are_refused(media):
    media.insert_many([picture(n) for n in range(3)])
    cursor = media.page(MediaFilter(), limit=1).next_cursor
    with pytest.raises(InvalidInput, match="order"):
        media.page(MediaFilter(), cursor=cursor, sort="oldest")
    for place in range(len(cursor)):
        changed = cursor[:place] + ("A" if cursor[place] != "A" else "B") + cursor[place + 1 :]
        try:
            page = media.page(MediaFilter(), limit=1, cursor=changed)
        except InvalidInput as exc:
            assert exc.errors[0]["field"] == "cursor"
        else:  # the last character may differ in bits that carry nothing
            assert place == len(cursor) - 1
            assert [i.id for i in page.items] == ["media_1"]
    with pytest.raises(InvalidInput) as caught:
        media.page(MediaFilter(), sort="random")
    assert caught.value.errors[0]["field"] == "sort"
    for limit in (0, -1, 1001):
        with pytest.raises(InvalidInput) as caught:
            media.page(MediaFilter(), limit=limit)
        assert caught.value.errors[0]["field"] == "limit"


# ---------------------------------------------------------------------- counts


def test_facets_count_what_matches_largest_first(mixed):
    assert mixed.facets(MediaFilter()) == {
        "models": [{"value": "a", "count": 2}, {"value": "b", "count": 1}],
        "characters": [{"value": "luna", "count": 2}, {"value": "aria", "count": 1}],
        "engines": [{"value": "comfyui", "count": 2}, {"value": "builtin", "count": 1}],
        "loras": [{"value": "x", "count": 2}, {"value": "y", "count": 1}],
    }
    assert mixed.facets(MediaFilter(lora="y"))["loras"] == [{"value": "x", "count": 1}, {"value": "y", "count": 1}]
    assert mixed.facets(MediaFilter(trashed=True))["models"] == [{"value": "a", "count": 1}]
    mixed.update(["media_0"], prompt="forest")
    assert mixed.facets(MediaFilter(words=["forest"]))["models"] == [{"value": "a", "count": 1}]


def test_totals_and_facets_are_never_stale(mixed, library_url):
    from dalla.stores.library import Library
    from dalla.stores.media import SqlMedia

    other_library = Library.open(library_url)
    other = SqlMedia(other_library)
    for new, (media, elsewhere) in enumerate([(mixed, other), (other, mixed)], start=10):
        total = media.page(MediaFilter()).total
        models = sum(f["count"] for f in media.facets(MediaFilter())["models"])
        elsewhere.insert(picture(new, model="c"))
        assert media.page(MediaFilter()).total == total + 1
        assert sum(f["count"] for f in media.facets(MediaFilter())["models"]) == models + 1
        elsewhere.update([f"media_{new}"], trashed_at=NOW)
        assert media.page(MediaFilter()).total == total
    other_library.close()


def test_count_by_character_and_trashed_before(mixed):
    assert mixed.count_by_character() == {"luna": 2, "aria": 1}
    mixed.update(["media_1"], trashed_at="2026-06-01T00:00:00.000Z")
    assert mixed.trashed_before("2026-05-15T00:00:00.000Z") == ["media_3"]
    assert mixed.trashed_before("2026-07-01T00:00:00.000Z") == ["media_3", "media_1"]
    assert mixed.trashed_before(NOW) == []


def test_find_by_sha256_prefers_what_is_not_in_the_trash(media):
    media.insert_many([picture(n, sha256="ab" * 32, trashed_at=NOW if n == 3 else None) for n in (1, 2, 3)])
    assert media.find_by_sha256("ab" * 32).id == "media_2"
    media.update(["media_1", "media_2"], trashed_at=NOW)
    assert media.find_by_sha256("ab" * 32).id == "media_3"
    assert media.find_by_sha256("cd" * 32) is None
    media.insert(picture(9, sha256=""))
    assert media.find_by_sha256("") is None


# ---------------------------------------------------------------------- collections


def test_a_collection_counts_and_shows_its_newest_picture(media):
    media.insert_many([picture(n) for n in range(4)])
    made = media.save_collection("coll_1", "  Best  of ", NOW)
    assert (made.name, made.count, made.cover_media_id, made.created_at) == ("Best of", 0, None, NOW)
    assert media.add_to_collection("coll_1", ["media_2", "no", "media_0"], NOW) == ["media_2", "media_0"]
    assert media.add_to_collection("coll_1", ["media_0", "media_1"], NOW) == ["media_0", "media_1"]
    assert found(media, collection_id="coll_1") == ["media_2", "media_1", "media_0"]
    media.update(["media_2"], trashed_at=NOW)
    collection = media.get_collection("coll_1")
    assert (collection.count, collection.cover_media_id) == (2, "media_1")
    assert media.remove_from_collection("coll_1", ["media_1", "media_3", "no"]) == ["media_1"]
    assert found(media, collection_id="coll_1") == ["media_0"]


def test_a_collection_filter_joins_with_others(mixed):
    mixed.save_collection("coll_1", "Best", NOW)
    mixed.add_to_collection("coll_1", ["media_0", "media_1", "media_3"], NOW)
    assert found(mixed, collection_id="coll_1", lora="y") == ["media_1"]
    assert found(mixed, collection_id="coll_1", trashed=True) == ["media_3"]
    assert mixed.facets(MediaFilter(collection_id="coll_1"))["loras"][0] == {"value": "x", "count": 2}


def test_names_of_collections_are_unique_in_any_case(media):
    media.save_collection("coll_1", "Best", NOW)
    media.save_collection("coll_2", "Ärger", NOW)
    for name in ("BEST", " best "):
        with pytest.raises(Conflict, match="(?i)best"):
            media.save_collection("coll_3", name, NOW)
    with pytest.raises(Conflict):
        media.save_collection("coll_2", "best", NOW)
    with pytest.raises(InvalidInput):
        media.save_collection("coll_3", "  ", NOW)
    renamed = media.save_collection("coll_1", "BEST", "2026-06-01T00:00:00.000Z")
    assert (renamed.name, renamed.created_at, renamed.updated_at) == ("BEST", NOW, "2026-06-01T00:00:00.000Z")
    assert [c.name for c in media.collections()] == ["BEST", "Ärger"]


def test_missing_collections_are_not_found(media):
    media.insert(picture(1))
    for call in (
        lambda: media.get_collection("no"),
        lambda: media.delete_collection("no"),
        lambda: media.add_to_collection("no", ["media_1"], NOW),
        lambda: media.remove_from_collection("no", ["media_1"]),
    ):
        with pytest.raises(NotFound, match="collection"):
            call()


def test_deleting_a_collection_leaves_the_media(media):
    media.insert(picture(1))
    media.save_collection("coll_1", "Best", NOW)
    media.add_to_collection("coll_1", ["media_1"], NOW)
    media.delete_collection("coll_1")
    assert media.collections() == []
    assert found(media) == ["media_1"]
    media.save_collection("coll_1", "Best", NOW)
    assert found(media, collection_id="coll_1") == []


def test_threads_lose_nothing(media):
    failures = []

    def work(number: int) -> None:
        try:
            for i in range(5):
                media.insert(picture(number * 10 + i, prompt=f"thread{number}"))
                media.page(MediaFilter(words=[f"thread{number}"]))
            media.update([f"media_{number * 10}"], starred=True)
        except Exception as exc:
            failures.append(exc)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert media.page(MediaFilter()).total == 80
    assert media.page(MediaFilter(starred=True)).total == 16
