"""Statistics: every count has a filter that lists exactly what was counted; the health score and its fixes."""

from __future__ import annotations

from typing import Any

import pytest

from dalla.errors import InvalidInput, NotFound
from dalla.records.dataset import ImageFilter
from dalla.services.image_queries import ImageQuery, image_filter, parse_range
from tests.services.datasets_kit import DatasetsKit

SIZES = [(512, 512), (768, 512), (300, 200), (832, 1216), (100, 90)]


@pytest.fixture
def kit(tmp_path):
    kit = DatasetsKit(tmp_path)
    yield kit
    kit.library.close()


@pytest.fixture
def full(kit) -> DatasetsKit:
    """Forty pictures that differ in everything there is to count, one excluded and one in the trash."""
    kit.store.update("set", trigger_word="Luna_X")
    for n in range(40):
        caption = ["", "luna_x, smile, red dress", f"luna_x, smile, only{n}", "smile, read dress", "word " * 70][n % 5]
        width, height = SIZES[n % len(SIZES)]
        kit.add(
            f"f{n % 3}/{n:02}.png", file=False, caption=caption, width=width, height=height, repeats=n % 4 + 1,
            concept="luna" if n % 2 else "", kind="processed" if n % 9 == 8 else "original", format="PNG" if n % 7 else "JPEG",
            caption_locked=n % 6 == 1, pixel_sha256=f"p{min(n, 37)}", excluded=n == 0, trashed_at="2026-01-01" if n == 1 else None,
            sharpness=n * 7.5, brightness=n * 6.5, clippedDark=0.1 if n % 10 == 2 else 0.0, clippedBright=0.2 if n % 10 == 3 else 0.0,
            faceSharpness=n * 4.0,
            **({"faces": n % 4, "faceShare": n / 45, "yaw": n * 3 - 60.0} if n > 3 else {}),
            **({"duplicateGroup": f"g{n % 2}"} if n > 35 else {}), **({"tokensClip": n * 3} if n % 5 else {}),
        )  # fmt: skip
    return kit


def listed(kit: DatasetsKit, query: dict[str, Any]) -> int:
    return kit.datasets.images("set", kit.datasets.where("set", query)).total


def counted(value: Any, path: str = "") -> list[tuple[str, int, dict[str, Any]]]:
    """Return every (place, count, filter) in the statistics."""
    found = []
    if isinstance(value, dict):
        if "filter" in value and "count" in value:
            found.append((path, value["count"], value["filter"]))
        for name, inner in value.items():
            if name not in ("filter", "health"):
                found += counted(inner, f"{path}.{name}")
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            found += counted(inner, f"{path}[{number}]")
    return found


def test_every_filter_lists_what_was_counted(full):
    stats = full.datasets.statistics.of("set", batch=5)
    rows = counted(stats)
    assert len(rows) > 60
    wrong = [(path, count, listed(full, query), query) for path, count, query in rows if listed(full, query) != count]
    assert wrong == []
    others = {
        "images": (stats["size"]["images"], stats["filter"]),
        "with": (stats["captions"]["with"], stats["captions"]["withFilter"]),
        "without": (stats["captions"]["without"], stats["captions"]["withoutFilter"]),
        "trigger missing": (stats["captions"]["trigger"]["missing"], stats["captions"]["trigger"]["missingFilter"]),
        "exact": (stats["duplicates"]["exact"]["images"], stats["duplicates"]["exact"]["filter"]),
        "near": (stats["duplicates"]["images"], stats["duplicates"]["filter"]),
        **{f"concept {n}": (row["images"], row["filter"]) for n, row in enumerate(stats["balance"]["concepts"])},
        **{
            fix["code"]: (fix["count"], fix["filter"])
            for fix in stats["health"]["fixes"]
            if fix["code"] not in ("amount", "duplicates")
        },
    }
    assert {name: listed(full, query) for name, (_, query) in others.items()} == {
        name: n for name, (n, _) in others.items()
    }


def test_the_filters_survive_an_address_bar(full):
    """Booleans and numbers become text in a URL, and mean the same."""
    for _, count, query in counted(full.datasets.statistics.of("set")):
        text = {name: str(value).lower() if isinstance(value, bool) else str(value) for name, value in query.items()}
        assert listed(full, text) == count, query


def test_bars_cover_everything_once(full):
    stats = full.datasets.statistics.of("set")
    total = stats["size"]["images"]
    assert total == 38 and stats["size"]["excluded"]["count"] == 1
    for bars in (stats["resolution"]["histogram"], stats["blur"]["histogram"], stats["exposure"]["brightness"], stats["buckets"],
                 stats["size"]["formats"], stats["size"]["folders"], stats["size"]["kinds"], stats["size"]["added"]):  # fmt: skip
        assert sum(bar["count"] for bar in bars) == total
    assert sum(bar["count"] for bar in stats["captions"]["words"]["histogram"]) == stats["captions"]["with"]
    faces = stats["faces"]
    assert faces["none"]["count"] + faces["one"]["count"] + faces["many"]["count"] == faces["analyzed"] == 36
    assert sum(bar["count"] for bar in faces["share"]) == sum(bar["count"] for bar in faces["yaw"]) == 36
    assert sum(row["share"] for row in stats["balance"]["concepts"]) == pytest.approx(1, abs=0.001)


def test_the_numbers_are_right(full):
    stats = full.datasets.statistics.of("set")
    captions, tags = stats["captions"], stats["tags"]
    assert (captions["with"], captions["without"]) == (31, 7)
    assert captions["trigger"] == captions["trigger"] | {
        "word": "Luna_X",
        "count": 15,
        "missing": 16,
        "coverage": round(15 / 31, 4),
    }
    assert captions["words"]["max"] == 70 and captions["words"]["min"] == 3
    assert captions["tokensClip"]["limit"] == 75 and captions["over"]["unit"] == "tokensClip"
    assert tags["top"][0] == {"tag": "smile", "count": 23, "filter": {"excluded": False, "tag": "smile"}}
    assert [row["tag"] for row in tags["once"]] == [f"only{n}" for n in (12, 17, 2, 22, 27, 32, 37, 7)] and tags[
        "onceCount"
    ] == 8
    assert {"tags": ["luna_x", "smile"], "count": 15} in tags["pairs"]
    assert stats["duplicates"]["exact"]["images"] == 3 and stats["duplicates"]["exact"]["groups"] == 1
    assert (stats["duplicates"]["groups"], stats["duplicates"]["images"]) == (2, 4)
    assert stats["resolution"]["minMp"] == 0.009 and stats["resolution"]["maxMp"] == round(832 * 1216 / 1e6, 3)
    assert full.datasets.image(stats["resolution"]["minImageId"]).width == 100
    assert stats["blur"]["blurry"]["count"] == sum(n * 7.5 < 60 for n in range(2, 40))


def test_rare_spellings_are_shown_beside_the_usual_one(kit):
    for n in range(8):
        kit.add(f"{n}.png", file=False, caption="red dress, 1girl" if n else "red dres, 2girl")
    assert kit.datasets.statistics.of("set")["tags"]["similar"] == [
        {"tag": "red dres", "count": 1, "similarTo": "red dress", "similarCount": 7, "filter": {"excluded": False, "tag": "red dres"}}
    ]  # fmt: skip


def test_tags_on_every_caption_are_candidates_to_drop_but_not_the_trigger(kit):
    kit.store.update("set", trigger_word="luna")
    for n in range(3):
        kit.add(f"{n}.png", file=False, caption=f"Luna, girl, t{n}")
    assert [row["tag"] for row in kit.datasets.statistics.of("set")["tags"]["all"]] == ["girl"]


def test_buckets_tell_crop_and_batches(kit):
    for n in range(3):
        kit.add(f"s{n}.png", file=False, width=1000, height=1000)
    kit.add("wide.png", file=False, width=1024, height=512, repeats=2)
    stats = kit.datasets.statistics.of("set", resolution=512, batch=3, epochs=10)
    rows = {(row["width"], row["height"]): row for row in stats["buckets"]}
    assert rows[512, 512]["count"] == 3 and rows[512, 512]["lost"] == 0 and not rows[512, 512]["smallerThanBatch"]
    wide = next(row for size, row in rows.items() if size != (512, 512))
    assert wide["smallerThanBatch"] and wide["repeated"] == 2 and listed(kit, wide["filter"]) == 1
    assert (stats["balance"]["stepsPerEpoch"], stats["balance"]["steps"]) == (2, 20)
    large = kit.datasets.statistics.of("set", resolution=1024)
    assert large["resolution"]["belowTarget"]["count"] == 4 and all(row["upscaled"] for row in large["buckets"])
    for bad in ({"resolution": 64}, {"step": 65}):
        with pytest.raises(InvalidInput):
            kit.datasets.statistics.of("set", **bad)


def test_statistics_are_kept_until_the_dataset_changes(kit, monkeypatch):
    id = kit.add("a.png")
    first = kit.datasets.statistics.of("set")
    calls = []
    real = kit.store.statistics
    monkeypatch.setattr(kit.store, "statistics", lambda *args: calls.append(1) or real(*args))
    assert kit.datasets.statistics.of("set") is first and calls == []
    kit.datasets.edit_image(id, {"caption": "x"})
    assert kit.datasets.statistics.of("set")["captions"]["with"] == 1 and calls == [1]
    assert kit.datasets.statistics.health(kit.store.get("set"), budget=0) is not None and calls == [1]
    with pytest.raises(NotFound):
        kit.datasets.statistics.of("no")


def test_no_file_is_read(kit):
    kit.add("a.png", file=False, caption="x", sharpness=5)  # there is none
    assert kit.datasets.statistics.of("set")["size"]["images"] == 1


def test_an_empty_dataset_has_statistics_too(kit):
    stats = kit.datasets.statistics.of("set")
    assert stats["size"]["images"] == 0 and stats["resolution"]["medianMp"] is None and stats["coverage"] is None
    assert stats["health"]["score"] is None and stats["health"]["fixes"][0]["action"] == "import"
    assert counted(stats) and all(count == 0 for _, count, _ in counted(stats))


# ---------------------------------------------------------------- health


def good(kit: DatasetsKit, number: int = 20, **values: Any) -> None:
    for n in range(number):
        kit.add(
            f"{n}.png",
            file=False,
            **{"caption": f"luna, pose {n}", "width": 1024, "height": 1024, "sharpness": 300.0} | values,
        )


def test_a_good_set_has_full_health_and_nothing_to_fix(kit):
    kit.store.update("set", trigger_word="luna")
    good(kit, faces=1)
    assert kit.datasets.statistics.of("set")["health"] | {"parts": []} == {"score": 100, "parts": [], "fixes": []}


@pytest.mark.parametrize(
    ("values", "code"),
    [
        ({"caption": ""}, "captions"),
        ({"width": 200}, "resolution"),
        ({"sharpness": 5.0}, "sharpness"),
        ({"duplicateGroup": "g"}, "duplicates"),
        ({"pixel_sha256": "same"}, "duplicates"),
        ({"clippedDark": 0.5}, "exposure"),
        ({"caption": "the same"}, "trigger"),
        ({"caption": "luna"}, "variety"),
        ({"caption": "luna " * 80}, "length"),
    ],
)
def test_what_is_wrong_comes_first_and_costs_points(kit, values, code):
    kit.store.update("set", trigger_word="luna")
    good(kit, faces=1, **values)
    health = kit.datasets.statistics.of("set")["health"]
    assert health["score"] < 97 and health["fixes"][0]["code"] == code
    assert len(health["fixes"]) <= 3 and health["fixes"][0]["points"] >= 1
    points = [fix["points"] for fix in health["fixes"]]
    assert points == sorted(points, reverse=True)


def test_faces_matter_for_people_only(kit):
    good(kit, 20, faces=0)
    assert "faces" not in {part["code"] for part in kit.datasets.statistics.of("set")["health"]["parts"]}
    kit.store.update("set", character_id="char_1")
    fix = kit.datasets.statistics.of("set")["health"]["fixes"][0]
    assert (fix["code"], fix["count"], fix["filter"]) == ("faces", 20, {"excluded": False, "faces": "0"})
    assert fix["detail"] == "20 of 20 pictures have no face."


def test_excluded_pictures_do_not_count(kit):
    good(kit)
    before = kit.datasets.statistics.of("set")["health"]["score"]
    kit.add("bad.png", file=False, sharpness=1.0, excluded=True)
    assert kit.datasets.statistics.of("set")["health"]["score"] == before


def test_few_pictures_lower_the_score(kit):
    good(kit, 5)
    health = kit.datasets.statistics.of("set")["health"]
    assert health["fixes"][0]["code"] == "amount" and health["fixes"][0]["count"] == 10


# ---------------------------------------------------------------- queries


def test_queries_become_filters():
    where = image_filter(
        {
            "folder": ".",
            "concept": ".",
            "faces": "2+",
            "has": "yaw",
            "missing": "a,b",
            "ids": ["x,y", "z"],
            "range.sharpness": "..<60",
        }
    )
    assert (where.folder, where.concept, where.missing, where.ids) == ("", "", ["a", "b"], ["x", "y", "z"])
    assert where.metadata[:2] == [("yaw", None, None), ("faces", 2, None)]
    key, low, high = where.metadata[2]
    assert (key, low) == ("sharpness", None) and 59.99 < high < 60
    assert image_filter({"blurry": "1"}).metadata == [("sharpness", None, high)]
    assert image_filter({"blurry": False}).metadata == [("sharpness", 60, None)]
    assert image_filter({}) == ImageFilter() == ImageQuery().where()
    for bad in (
        {"colour": "red"},
        {"range.": "1"},
        {"range.a b": "1"},
        {"has": "a b"},
        {"faces": "3"},
        {"kind": "x"},
        {"bucket": "5x5"},
    ):
        with pytest.raises(InvalidInput):
            image_filter(bad)


def test_ranges():
    assert parse_range("r", "1..2.5") == (1, 2.5) and parse_range("r", "3") == (3, 3)
    assert parse_range("r", "-2..") == (-2, None) and parse_range("r", "..1e3") == (None, 1000)
    for bad in ("", "a", "1..b", "nan", "1..inf", "<5"):
        with pytest.raises(InvalidInput):
            parse_range("r", bad)


def test_a_bucket_nobody_falls_into_finds_nothing(kit):
    kit.add("a.png", file=False, width=512, height=512)
    assert listed(kit, {"bucket": "512x512"}) == 1
    assert listed(kit, {"bucket": "256x1024"}) == listed(kit, {"bucket": "1x1"}) == 0
    with pytest.raises(InvalidInput):
        listed(kit, {"bucket": "big"})
