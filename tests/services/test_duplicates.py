"""Pictures that look alike: groups, verdicts that are remembered, and which one stays."""

from __future__ import annotations

import pytest
from PIL import Image, ImageOps

from dalla.errors import InvalidInput, NotFound
from dalla.records.dataset import ImageFilter
from tests.services.batch_kit import Desk, NoFaces, encoded
from tests.test_measures import scene


@pytest.fixture
def desk(settings):
    pytest.importorskip("cv2")
    desk = Desk(settings, faces=NoFaces())
    yield desk
    desk.close()


@pytest.fixture
def alike(desk):
    """Four files of one picture (original, copy in another format, small, mirrored) and two strangers."""
    set_id = desk.new_set()
    image = scene(1)
    ids = {
        "big": desk.add(set_id, "big.png", image),
        "copy": desk.add(set_id, "copy.webp", encoded(image, "WEBP", lossless=True), caption="a scene"),
        "mirror": desk.add(set_id, "mirror.png", ImageOps.mirror(image)),
        "small": desk.add(set_id, "small.jpg", encoded(image.resize((160, 120)), "JPEG", quality=60)),
        "other": desk.add(set_id, "x other.png", scene(2)),
        "third": desk.add(set_id, "y third.png", scene(4)),
    }
    return set_id, {name: row.id for name, row in ids.items()}


def ids_of(found):
    return [[image.id for image in group.images] for group in found.groups]


# ---------------------------------------------------------------- groups


def test_groups_and_the_live_count_at_every_distance(desk, alike):
    set_id, ids = alike
    found = desk.duplicates.groups(set_id)
    assert ids_of(found) == [[ids["big"], ids["copy"], ids["mirror"], ids["small"]]]
    assert (found.total, found.images, found.unmeasured) == (1, 4, 0)
    (group,) = found.groups
    assert group.distance == 0 and not group.exact and group.id == f"dup_{ids['big']}"
    assert [row["distance"] for row in found.counts] == list(range(13))
    assert found.counts[6] == {"distance": 6, "groups": 1, "images": 4}
    images = [row["images"] for row in found.counts]
    assert images == sorted(images) and images[0] >= 3
    for row in found.counts:
        shown = desk.duplicates.groups(set_id, distance=row["distance"])
        assert (shown.total, shown.images) == (row["groups"], row["images"]), "the count is what the list has"


def test_exact_is_the_same_pixels_in_whatever_file(desk, alike):
    set_id, ids = alike
    found = desk.duplicates.groups(set_id, exact=True)
    assert ids_of(found) == [[ids["big"], ids["copy"]]] and found.groups[0].exact and found.groups[0].distance == 0
    assert found.exact == {"groups": 1, "images": 2} and desk.duplicates.groups(set_id).exact == found.exact


def test_two_plain_pictures_are_no_duplicates_unless_they_are(desk):
    set_id = desk.new_set()
    for name, colour in (("a", "red"), ("b", "navy"), ("c", "red")):
        desk.add(set_id, f"{name}.png", Image.new("RGB", (40, 40), colour))
    assert desk.duplicates.groups(set_id, distance=12).groups == []
    (group,) = desk.duplicates.groups(set_id, exact=True).groups
    assert [image.filename for image in group.images] == ["a.png", "c.png"]


def test_trash_is_left_out_and_processed_pictures_are_asked_for(desk, alike):
    set_id, ids = alike
    desk.add(set_id, "big_2x.png", scene(1), kind="processed", parent_id=ids["big"])
    assert desk.duplicates.groups(set_id).images == 4
    assert desk.duplicates.groups(set_id, kind=None).images == 5
    desk.store.update_images([ids["copy"], ids["mirror"]], trashed_at="2026-01-01T00:00:00.000Z")
    assert ids_of(desk.duplicates.groups(set_id)) == [[ids["big"], ids["small"]]]


def test_pages_and_what_was_not_measured(desk):
    set_id = desk.new_set()
    for number in range(5):
        for copy in range(2 + (number == 3)):
            desk.add(set_id, f"{number}_{copy}.png", scene(20 + number))
    desk.add(set_id, "new.png", scene(20), measured=False)
    first = desk.duplicates.groups(set_id, limit=2)
    assert first.total == 5 and len(first.groups) == 2 and len(first.groups[0].images) == 3, "largest first"
    rest = desk.duplicates.groups(set_id, limit=9, offset=2)
    assert len(rest.groups) == 3 and first.unmeasured == 1


@pytest.mark.parametrize("distance", [-1, 13])
def test_a_distance_that_is_none(desk, alike, distance):
    with pytest.raises(InvalidInput):
        desk.duplicates.groups(alike[0], distance=distance)
    with pytest.raises(NotFound):
        desk.duplicates.groups("dataset_gone")


# ---------------------------------------------------------------- verdicts


def test_separate_is_remembered_and_can_be_forgotten(desk, alike):
    set_id, ids = alike
    pair = [ids["small"], ids["big"]]
    desk.store.put_metadata(set_id, {id: {"duplicateGroup": "dup_x"} for id in pair})
    desk.heard.clear()
    assert desk.duplicates.say(set_id, "separate", pair) == {"verdict": "separate", "pairs": 1}
    assert not any({*pair} <= set(group) for group in ids_of(desk.duplicates.groups(set_id, distance=12)))
    assert [name for name, _ in desk.heard] == ["dataset.updated"]
    assert not any("duplicateGroup" in found for found in desk.store.metadata(pair).values())
    (said,) = desk.duplicates.verdicts(set_id)
    assert said.first_id < said.second_id and said.verdict == "separate"
    desk.duplicates.say(set_id, "forget", pair)
    assert desk.duplicates.groups(set_id).images == 4 and desk.duplicates.verdicts(set_id) == []


def test_all_of_a_group_separate(desk, alike):
    set_id, ids = alike
    group = ids_of(desk.duplicates.groups(set_id))[0]
    assert desk.duplicates.say(set_id, "separate", group)["pairs"] == 6
    assert desk.duplicates.groups(set_id, distance=12).groups == []
    assert desk.duplicates.groups(set_id, exact=True).groups == [], "that holds for the same pixels, too"


def test_the_same_although_they_look_different(desk, alike):
    set_id, ids = alike
    desk.duplicates.say(set_id, "same", [ids["other"], ids["third"]])
    found = desk.duplicates.groups(set_id, distance=0)
    assert sorted([ids["other"], ids["third"]]) in [sorted(group) for group in ids_of(found)]
    assert [group.same for group in found.groups] == [False, True]
    desk.duplicates.say(set_id, "separate", [ids["other"], ids["third"]])
    assert len(desk.duplicates.verdicts(set_id)) == 1, "a new verdict replaces the old"


def test_what_cannot_be_said(desk, alike):
    set_id, ids = alike
    stranger = desk.add(desk.new_set(), "s.png", scene(1)).id
    for verdict, some in (
        ("separate", [ids["big"]]),
        ("separate", [ids["big"], "img_gone"]),
        ("same", [ids["big"], stranger]),
        ("maybe", [ids["big"], ids["copy"]]),
    ):
        with pytest.raises(InvalidInput):
            desk.duplicates.say(set_id, verdict, some)
    assert desk.duplicates.verdicts(set_id) == []


# ---------------------------------------------------------------- keeping one


def test_the_best_by_every_rule(desk, alike):
    set_id, ids = alike
    (group,) = desk.duplicates.groups(set_id).groups
    sharpness = {id: found["sharpness"] for id, found in desk.store.metadata([i.id for i in group.images]).items()}
    assert group.keep["captioned"] == ids["copy"] and group.keep["largest"] != ids["small"]
    assert sharpness[group.keep["sharpest"]] == max(sharpness.values())


@pytest.mark.parametrize("rule", ["largest", "sharpest", "captioned"])
def test_keep_one_and_bring_the_others_back(desk, alike, rule):
    set_id, ids = alike
    (group,) = desk.duplicates.groups(set_id).groups
    said = desk.duplicates.keep(set_id, [image.id for image in group.images], rule=rule)
    assert said["kept"] == group.keep[rule] and len(said["trashed"]) == 3
    left = desk.store.image_ids(set_id, ImageFilter())
    assert said["kept"] in left and len(left) == 3 and desk.duplicates.groups(set_id).groups == []
    assert all(desk.blobs.exists(image.path) for image in group.images), "the files stay for the way back"
    desk.datasets.restore_images(said["trashed"])
    assert ids_of(desk.duplicates.groups(set_id)) == [[image.id for image in group.images]]


def test_keep_a_named_one(desk, alike):
    set_id, ids = alike
    said = desk.duplicates.keep(set_id, [ids["big"], ids["small"]], ids["small"])
    assert said == {"verdict": "keep", "kept": ids["small"], "trashed": [ids["big"]]}
    for wrong in (lambda: desk.duplicates.keep(set_id, [ids["copy"], ids["mirror"]], ids["other"]),
                  lambda: desk.duplicates.keep(set_id, [ids["copy"], ids["big"]]),
                  lambda: desk.duplicates.keep(set_id, [ids["copy"], ids["mirror"]], rule="nicest")):  # fmt: skip
        with pytest.raises(InvalidInput):
            wrong()
    assert len(desk.store.image_ids(set_id, ImageFilter())) == 5


# ---------------------------------------------------------------- the batch


def test_dedupe_stores_groups_and_measures_what_was_not(desk, alike):
    set_id, ids = alike
    late = desk.add(set_id, "z late.png", scene(2), measured=False).id
    job = desk.batches.submit("dedupe", set_id)
    assert job.result["groups"] == 2 and job.result["grouped"] == 6 and job.result["trashed"] == 0
    found = desk.store.metadata([*ids.values(), late], ["duplicateGroup", "duplicateDistance"])
    assert {found[ids[name]]["duplicateGroup"] for name in ("big", "copy", "mirror", "small")} == {f"dup_{ids['big']}"}
    assert (
        found[late]["duplicateGroup"] == found[ids["other"]]["duplicateGroup"] and found[late]["duplicateDistance"] == 0
    )
    assert ids["third"] not in found
    assert desk.store.image(late).pixel_sha256
    assert desk.store.image_ids(set_id, ImageFilter(group=f"dup_{ids['big']}")) == [ids[n] for n in ("big", "copy", "mirror", "small")]  # fmt: skip
    desk.store.update_images([late], trashed_at="2026-01-01T00:00:00.000Z")
    desk.batches.submit("dedupe", set_id, options={"exact": True})
    found = desk.store.metadata(list(ids.values()), ["duplicateGroup"])
    assert set(found) == {ids["big"], ids["copy"]}, "groups that no longer hold are forgotten"


def test_dedupe_heeds_verdicts(desk, alike):
    set_id, ids = alike
    desk.duplicates.say(set_id, "separate", [ids["big"], ids["copy"], ids["mirror"], ids["small"]])
    assert desk.batches.submit("dedupe", set_id, options={"distance": 12}).result["groups"] == 0


def test_dedupe_can_trash_all_but_the_best_and_undo_brings_them_back(desk, alike):
    set_id, ids = alike
    trial = desk.batches.submit("dedupe", set_id, options={"trash": True, "keep": "captioned"}, dry_run=True)
    assert trial.result["trashed"] == 3 and len(desk.store.image_ids(set_id, ImageFilter())) == 6
    job = desk.batches.submit("dedupe", set_id, options={"trash": True, "keep": "captioned"})
    assert job.result["trashed"] == 3
    left = desk.store.image_ids(set_id, ImageFilter())
    assert ids["copy"] in left and len(left) == 3
    undo = desk.batches.undo(job.id)
    assert undo.result["restored"] == 3 and len(desk.store.image_ids(set_id, ImageFilter())) == 6
    assert desk.store.metadata(list(ids.values()), ["duplicateGroup"]) == {}


@pytest.mark.parametrize("options", [{"distance": 13}, {"exact": "yes"}, {"keep": "newest"}, {"trash": 1}, {"n": 1}])
def test_options_of_dedupe(desk, alike, options):
    with pytest.raises(InvalidInput) as caught:
        desk.batches.submit("dedupe", alike[0], options=options)
    assert caught.value.errors[0]["field"] == f"options.{next(iter(options))}"
