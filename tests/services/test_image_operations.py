"""What a batch does to pictures: face crops, measures, sizes; a trial changes nothing and undo takes everything back."""

from __future__ import annotations

import errno

import pytest
from PIL import Image, ImageOps

from dalla.engines.faces.base import Face
from dalla.errors import Conflict, InvalidInput, StorageError, Unavailable
from dalla.measures import measure
from dalla.records.dataset import DatasetVersion, ImageFilter
from dalla.services.image_operations import face_box
from tests.services.batch_kit import Desk, NoFaces, encoded, fill, portrait, snapshot


@pytest.fixture
def desk(settings):
    pytest.importorskip("cv2")
    desk = Desk(settings)
    yield desk
    desk.close()


@pytest.fixture
def luna(desk):
    return fill(desk)


# ---------------------------------------------------------------- faces


def test_face_crop_makes_the_files_the_seed_names(desk, luna):
    job = desk.batches.submit("face_crop", luna, options={"margin": "tight"})
    assert (job.result["done"], job.result["skipped"], job.result["failed"]) == (2, 1, 1), job.items_failed
    made = desk.processed(luna)
    assert sorted(made) == ["a/solo_face_0.png", "both_face_0.png", "both_face_1.png"]
    solo = made["a/solo_face_0.png"]
    parent = desk.store.image(solo.parent_id)
    assert parent.filename == "a/solo.jpg" and parent.kind == "original" and solo.operation == "face_crop"
    assert desk.blobs.path(f"datasets/{luna}/processed/a/solo_face_0.png").is_file()
    assert (solo.caption, solo.concept, solo.format, solo.mime) == ("luna, smiling", "luna", "PNG", "image/png")
    assert solo.width == solo.height and desk.pixels(solo).size == (solo.width, solo.height)
    assert made["both_face_0.png"].width > made["both_face_1.png"].width, "the largest face is number 0"
    (face,) = desk.faces.find(desk.pixels(solo))
    assert face.width > solo.width * 0.5, "the face fills the crop"
    known = desk.store.metadata([solo.id, parent.id])
    assert known[solo.id]["sharpness"] > 0 and known[parent.id]["faces"] == 1
    for size in "sm":
        assert desk.blobs.exists(f"thumbs/datasets/{luna}/{solo.id}.{size}.webp")
    skipped = desk.batches.results(job.id, status="skipped")["items"]
    assert skipped[0]["filename"] == "sea.png" and "No face" in skipped[0]["detail"]


def test_margin_and_aspect_presets(desk, luna):
    solo = next(i for i in desk.store.image_ids(luna, ImageFilter(q="both")))
    sizes = {}
    for margin in ("tight", "normal", 0.9):
        desk.batches.submit("face_crop", None, [solo], {"margin": margin, "which": "largest"})
        (image,) = desk.processed(luna).values()
        sizes[margin] = image.width
    assert sizes["tight"] < sizes["normal"] < sizes[0.9]
    for aspect, ratio in (("1:1", 1), ("4:5", 0.8), ("3:4", 0.75), ("2:3", 2 / 3)):
        desk.batches.submit("face_crop", None, [solo], {"aspect": aspect, "which": "largest", "margin": 0.2})
        (image,) = desk.processed(luna).values()
        assert image.width / image.height == pytest.approx(ratio, abs=0.02), aspect
    desk.batches.submit("face_crop", None, [solo], {"which": "largest", "size": 64})
    (image,) = desk.processed(luna).values()
    assert max(image.width, image.height) == 64


def test_a_second_run_replaces_its_own_output_and_nothing_else(desk, luna):
    first = desk.batches.submit("face_crop", luna)
    resized = desk.batches.submit("resize", luna, options={"size": 100})
    foreign = desk.add(luna, "both_face_7.png", portrait(), kind="processed", parent_id=None, operation=None)
    before = desk.processed(luna)
    kept = {name: desk.blobs.get(image.path) for name, image in before.items()}
    again = desk.batches.submit("face_crop", luna, options={"which": "largest", "margin": "loose"})
    after = desk.processed(luna)
    assert set(before) - set(after) == {"both_face_1.png"}, "the smaller face is not made any more"
    assert after["both_face_0.png"].id == before["both_face_0.png"].id, "the same picture, with its caption and history"
    assert after["both_face_0.png"].sha256 != before["both_face_0.png"].sha256
    assert (
        desk.blobs.get(after["both_face_7.png"].path) == kept["both_face_7.png"]
        and foreign.id == after["both_face_7.png"].id
    )
    untouched = [name for name in before if "x" in name]
    assert untouched and all(desk.blobs.get(after[name].path) == kept[name] for name in untouched)
    states = [out["state"] for row in again.result["items"] for out in row["result"]["outputs"]]
    assert states == ["replaced", "replaced"] and first.result["undoable"] and resized.status == "completed"
    same = desk.batches.submit("face_crop", luna, options={"which": "largest", "margin": "loose"})
    states = [out["state"] for row in same.result["items"] for out in row["result"]["outputs"]]
    assert states == ["same", "same"]


def test_two_pictures_of_one_stem_do_not_overwrite_each_other(desk):
    set_id = desk.new_set()
    desk.add(set_id, "face.jpg", encoded(portrait(), "JPEG"))
    desk.add(set_id, "face.png", ImageOps.mirror(portrait()))
    desk.add(set_id, "顔.png", portrait())
    job = desk.batches.submit("face_crop", set_id)
    assert job.result["done"] == 3, job.items_failed
    made = desk.processed(set_id)
    assert sorted(made) == ["face_face_0.png", "face_png_face_0.png", "顔_face_0.png"]
    assert len({image.path for image in made.values()}) == 3 and all(desk.blobs.exists(i.path) for i in made.values())


def test_without_yunet_face_work_is_refused_with_reason_and_remedy(settings):
    desk = Desk(settings, faces=NoFaces())
    set_id = desk.new_set()
    desk.add(set_id, "a.png", portrait())
    for name in ("face_crop", "analyze"):
        with pytest.raises(Unavailable) as caught:
            desk.batches.submit(name, set_id)
        assert "weights are missing" in caught.value.detail and "make install" in caught.value.remedy
    job = desk.batches.submit("analyze", set_id, options={"faces": False})
    (found,) = desk.store.metadata(desk.store.image_ids(set_id, ImageFilter())).values()
    assert job.result["done"] == 1 and "faces" not in found and found["sharpness"] > 0
    desk.close()


@pytest.mark.parametrize(
    "options",
    [{"margin": "huge"}, {"margin": -1}, {"margin": True}, {"aspect": "5:1"}, {"minSize": 3}, {"size": 1.5}, {"colour": 1}, {"which": "best"}],
)  # fmt: skip
def test_options_of_face_crop_are_checked_by_name(desk, luna, options):
    with pytest.raises(InvalidInput) as caught:
        desk.batches.submit("face_crop", luna, options=options)
    assert caught.value.errors[0]["field"] == f"options.{next(iter(options))}"


# ---------------------------------------------------------------- analyse, resize, enlarge


def test_analyze_measures_faces_pose_and_picture(desk, luna):
    ids = {image.filename: image.id for image in desk.store.images_by_id(desk.store.image_ids(luna, ImageFilter()))}
    desk.store.put_metadata(luna, {ids["sea.png"]: {"faces": 3, "faceShare": 0.5, "yaw": 10}})
    job = desk.batches.submit("analyze", luna)
    assert not job.result["undoable"]
    found = desk.store.metadata(list(ids.values()))
    both = found[ids["both.png"]]
    assert both["faces"] == 2 and len(both["faceBoxes"]) == 2 and both["faceBoxes"][0]["x"] > 300
    assert 0.02 < both["faceShare"] < 0.4 and both["faceSharpness"] > 0
    assert -20 < both["yaw"] < 20 and -10 < both["roll"] < 10, "she looks at the camera"
    assert found[ids["sea.png"]]["faces"] == 0 and "faceShare" not in found[ids["sea.png"]]
    assert "yaw" not in found[ids["sea.png"]]
    assert found[ids["a/solo.jpg"]]["jpegQuality"] == 90
    with pytest.raises(Conflict, match="changed nothing"):
        desk.batches.undo(job.id)


def test_resize_by_the_long_side(desk, luna):
    job = desk.batches.submit("resize", luna, options={"size": 200, "format": "jpeg", "quality": 80})
    assert sorted(desk.processed(luna)) == ["both_200x100.jpg", "sea_200x133.jpg"]
    reasons = [row["detail"] for row in desk.batches.results(job.id, status="skipped")["items"]]
    assert reasons == ["It is smaller already (160 × 160).", "It is smaller already (1 × 1)."]
    image = desk.processed(luna)["both_200x100.jpg"]
    assert image.mime == "image/jpeg" and desk.pixels(image).size == (200, 100)


def test_resize_to_an_exact_size_keeps_the_face_or_pads(desk):
    set_id = desk.new_set()
    wide = Image.new("RGB", (1200, 400), (20, 90, 90))
    wide.paste(portrait(), (1000, 120))
    one = desk.add(set_id, "wide.png", wide)
    desk.batches.submit("analyze", set_id)
    desk.batches.submit("resize", set_id, options={"mode": "exact", "width": 300, "height": 300, "fit": "crop"})
    (made,) = desk.processed(set_id).values()
    assert (made.width, made.height, made.parent_id) == (300, 300, one.id)
    assert len(desk.faces.find(desk.pixels(made).resize((600, 600)))) == 1, "the face is in the crop"
    options = {"mode": "exact", "width": 300, "height": 300, "fit": "pad", "background": "#ff0000"}
    desk.batches.submit("resize", set_id, options=options)
    (made,) = desk.processed(set_id).values()
    padded = desk.pixels(made)
    assert padded.getpixel((150, 5)) == (255, 0, 0) and padded.getpixel((150, 150)) != (255, 0, 0)


def test_upscale_by_lanczos(desk, luna):
    job = desk.batches.submit("upscale", luna, options={"factor": 2, "belowSide": 250})
    made = desk.processed(luna)
    assert sorted(made) == ["a/solo_2x.png", "sea_2x.png"] and desk.pixels(made["a/solo_2x.png"]).size == (320, 320)
    assert job.result["failed"] == 1 and job.result["skipped"] == 1
    with pytest.raises(Unavailable) as caught:
        desk.batches.submit("upscale", luna, options={"engine": "esrgan"})
    assert "models/upscale" in caught.value.remedy


def test_an_enlargement_beyond_all_measure_fails_that_picture_only(desk):
    set_id = desk.new_set()
    desk.add(set_id, "huge.png", Image.new("RGB", (5000, 300)))
    desk.add(set_id, "small.png", portrait())
    job = desk.batches.submit("upscale", set_id, options={"factor": 4})
    assert (job.result["done"], job.result["failed"]) == (1, 1)
    assert job.items_failed[0]["code"] == "too_large" and "20000" in job.items_failed[0]["detail"]


# ---------------------------------------------------------------- trial and undo


@pytest.mark.parametrize("operation", ["face_crop", "resize", "upscale", "analyze", "dedupe"])
def test_a_trial_says_what_would_be_and_changes_nothing(desk, luna, operation):
    options = {"resize": {"size": 100}}.get(operation, {})
    before, revision = snapshot(desk, luna), desk.store.get(luna).revision
    job = desk.batches.submit(operation, luna, options=options, dry_run=True)
    assert job.status == "completed" and job.result["dryRun"] and not job.result["undoable"]
    assert snapshot(desk, luna) == before and desk.store.get(luna).revision == revision
    assert not [name for name, _ in desk.heard if name == "dataset.updated"]
    if operation in ("face_crop", "resize", "upscale"):
        promised = [out["filename"] for row in job.result["items"] for out in row["result"].get("outputs", [])]
        desk.batches.submit(operation, luna, options=options)
        assert sorted(promised) == sorted(desk.processed(luna)) and promised
        left = [row for row in job.result["items"] if row["status"] == "skipped"]
        assert all(row["result"]["skipped"] for row in left) and len(left) == job.result["skipped"]
    with pytest.raises(Conflict):
        desk.batches.undo(job.id)


def test_undo_trashes_what_was_made(desk, luna):
    job = desk.batches.submit("face_crop", luna)
    assert job.result["undoable"] and desk.batches.results(job.id)["undoable"]
    undo = desk.batches.undo(job.id)
    assert undo.status == "completed" and undo.result["trashed"] == 3 and undo.parent_id == job.id
    assert desk.processed(luna) == {} and len(desk.processed(luna, trashed=True)) == 3
    assert desk.batches.results(job.id)["undone"]["trashed"] == 3 and not desk.batches.results(job.id)["undoable"]
    with pytest.raises(Conflict, match="already"):
        desk.batches.undo(job.id)
    again = desk.batches.submit("face_crop", luna)
    assert again.result["done"] == 2 and len(desk.processed(luna)) == 3 and not desk.processed(luna, trashed=True)


def test_undo_brings_back_what_was_replaced_and_removed(desk, luna):
    desk.batches.submit("face_crop", luna)
    rows, files = snapshot(desk, luna)
    job = desk.batches.submit("face_crop", luna, options={"which": "largest", "aspect": "2:3"})
    assert snapshot(desk, luna) != (rows, files)
    undo = desk.batches.undo(job.id)
    assert undo.status == "completed", undo.error
    assert snapshot(desk, luna) == (rows, files)
    image = desk.processed(luna)["both_face_0.png"]
    assert desk.store.metadata([image.id])[image.id]["aspect"] == 1.0, "measured again"


def test_undo_of_an_older_batch_leaves_what_a_newer_one_made(desk, luna):
    first = desk.batches.submit("face_crop", luna)
    second = desk.batches.submit("face_crop", luna, options={"margin": "loose"})
    rows, files = snapshot(desk, luna)
    undo = desk.batches.undo(first.id)
    assert undo.result["trashed"] == 0 and undo.result["left"] == 3 and snapshot(desk, luna) == (rows, files)
    desk.batches.undo(second.id)
    assert len(desk.processed(luna)) == 3, "as the first left them"


def test_undo_of_a_replacement_of_a_trashed_crop_leaves_it_in_the_trash(desk, luna):
    desk.batches.submit("face_crop", luna)
    crop = desk.processed(luna)["a/solo_face_0.png"]
    desk.store.update_images([crop.id], trashed_at="2026-01-01T00:00:00.000Z")
    rows, files = snapshot(desk, luna)
    job = desk.batches.submit("face_crop", luna)
    assert crop.filename in desk.processed(luna)
    desk.batches.undo(job.id)
    assert snapshot(desk, luna) == (rows, files)


def test_a_file_that_a_version_names_is_never_overwritten(desk, luna):
    desk.batches.submit("face_crop", luna)
    crop = desk.processed(luna)["both_face_0.png"]
    data = desk.blobs.get(crop.path)
    entry = {"imageId": crop.id, "filename": crop.filename, "path": crop.path, "sha256": crop.sha256}
    desk.versions.add(DatasetVersion(dataset_id=luna, number=0, images=1, entries=[entry]))
    rows, files = snapshot(desk, luna)
    job = desk.batches.submit("face_crop", luna, options={"margin": "loose"})
    now = desk.processed(luna)["both_face_0.png"]
    assert now.path != crop.path and desk.blobs.get(crop.path) == data and desk.blobs.get(now.path) != data
    desk.batches.undo(job.id)
    assert snapshot(desk, luna) == (rows, files), "and the way back leaves nothing behind"


def test_a_full_disk_ends_the_batch_and_undo_takes_back_the_half_done_picture_too(desk, luna, monkeypatch):
    put, written = desk.blobs.put, []

    def full(key, data, **more):
        if key.endswith("both_face_1.png") and not written:
            written.append(key)
            raise StorageError.from_os(OSError(errno.ENOSPC, "full"), key) from OSError(errno.ENOSPC, "full")
        put(key, data, **more)

    monkeypatch.setattr(desk.blobs, "put", full)
    job = desk.batches.submit("face_crop", luna)
    assert job.status == "failed" and "space" in job.error["detail"] and "Free some space" in job.error["remedy"]
    assert sorted(desk.processed(luna)) == ["a/solo_face_0.png", "both_face_0.png"], "whole pictures only"
    undo = desk.batches.undo(job.id)
    assert undo.result["trashed"] == 2 and desk.processed(luna) == {}


def test_after_a_full_disk_a_retry_makes_the_rest(desk, luna, monkeypatch):
    put, left = desk.blobs.put, [1]

    def full(key, data, **more):
        if "both_face_1" in key and left:
            left.clear()
            raise StorageError.from_os(OSError(errno.ENOSPC, "full"), key) from OSError(errno.ENOSPC, "full")
        put(key, data, **more)

    monkeypatch.setattr(desk.blobs, "put", full)
    job = desk.jobs.retry(desk.batches.submit("face_crop", luna).id)
    assert job.status == "completed" and sorted(desk.processed(luna)) == ["a/solo_face_0.png", "both_face_0.png", "both_face_1.png"]  # fmt: skip
    assert desk.batches.undo(job.id).result["trashed"] == 3


def test_measures_of_a_made_picture_are_its_own(desk, luna):
    desk.batches.submit("face_crop", luna)
    for image in desk.processed(luna).values():
        known = desk.store.metadata([image.id])[image.id]
        data = desk.blobs.get(image.path)
        assert known.items() >= measure(desk.pixels(image), data).items()


# ---------------------------------------------------------------- the turn of a head


def face(nose=0.0, tilt=0.0):
    """A face 100 px wide whose nose stands `nose` px to the right of the middle and whose right eye hangs `tilt` px."""
    points = ((30.0, 40.0), (70.0, 40.0 + tilt), (50.0 + nose, 60.0), (35.0, 80.0), (65.0, 80.0))
    return Face(0, 0, 100, 100, 0.9, points)


def test_yaw_and_roll_come_from_the_five_points():
    assert face().yaw == 0 and face().roll == 0
    assert 40 < face(nose=20).yaw < 50 and face(nose=-20).yaw == -face(nose=20).yaw
    assert face(tilt=40).roll == 45 and Face(0, 0, 9, 9, 1).yaw is None and Face(0, 0, 9, 9, 1).roll is None


def test_a_mirrored_head_turns_the_other_way(desk):
    turned = portrait().resize((480, 480))
    (one,), (other,) = desk.faces.find(turned), desk.faces.find(ImageOps.mirror(turned))
    assert len(one.landmarks) == 5 and all(0 < x < 480 and 0 < y < 480 for x, y in one.landmarks)
    assert one.landmarks[0][0] < one.landmarks[2][0] < one.landmarks[1][0], "left eye, nose, right eye"
    assert abs(one.yaw + other.yaw) < 6 and abs(one.roll + other.roll) < 6


@pytest.mark.parametrize("aspect", ["1:1", "4:5", "3:4", "2:3", "free"])
@pytest.mark.parametrize("where", [(0, 0), (450, 250), (200, 100)])
@pytest.mark.parametrize("margin", [0.0, 0.4, 3.0])
def test_a_crop_stays_in_the_picture_and_holds_the_face_where_it_fits(aspect, where, margin):
    found = Face(*where, 50, 50, 0.9)
    left, top, right, bottom = face_box((500, 300), found, margin, aspect)
    assert 0 <= left < right <= 500 and 0 <= top < bottom <= 300
    assert left <= found.x and right >= found.x + 50 and top <= found.y and bottom >= found.y + 50
    if aspect != "free":
        wide, _, high = aspect.partition(":")
        assert (right - left) / (bottom - top) == pytest.approx(int(wide) / int(high), abs=0.03)
