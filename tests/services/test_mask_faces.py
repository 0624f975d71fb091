"""Masks made of the faces in pictures: where they are white, what is kept, trial and undo."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from dalla.engines.faces.base import Face
from dalla.errors import InvalidInput, Unavailable
from dalla.records.dataset import ImageFilter
from dalla.services.mask_faces import covered, face_mask
from tests.services.batch_kit import Desk, NoFaces, encoded, fill, group_photo, portrait, snapshot


@pytest.fixture
def desk(settings: Any) -> Iterator[Desk]:
    pytest.importorskip("cv2")
    desk = Desk(settings)
    yield desk
    desk.close()


@pytest.fixture
def luna(desk: Any) -> str:
    return fill(desk)


def masks(desk: Any, set_id: str) -> dict[str, Image.Image]:
    """Return the mask of each picture that has one, by file name."""
    found = {}
    for image in desk.store.images_by_id(desk.store.image_ids(set_id, ImageFilter())):
        if (data := desk.masks.read(image)) is not None:
            found[image.filename] = Image.open(io.BytesIO(data)).convert("L")
    return found


def at(mask: Image.Image, x: float, y: float) -> int:
    return int(mask.getpixel((round(x), round(y))))  # type: ignore[arg-type]


def test_the_face_of_a_photograph_counts_and_its_surroundings_hardly(desk: Any, luna: str) -> None:
    job = desk.batches.submit("mask_faces", luna)
    assert (job.result["done"], job.result["skipped"], job.result["failed"]) == (2, 1, 1), job.items_failed
    made = masks(desk, luna)
    assert sorted(made) == ["a/solo.jpg", "both.png"]
    (face,) = desk.faces.find(portrait())
    mask = made["a/solo.jpg"]
    assert mask.size == portrait().size
    middle = at(mask, face.x + face.width / 2, face.y + face.height / 2)
    corners = [at(mask, x, y) for x in (0, mask.width - 1) for y in (0,)]
    assert middle == 255 and max(corners) <= 40 and mask.getextrema()[0] >= 25
    for x, y in ((face.x, face.y), (face.x + face.width, face.y + face.height)):  # the whole face, not its middle only
        assert at(mask, x + (2 if x == face.x else -2), y + (2 if y == face.y else -2)) >= 230
    first, second = desk.faces.find(group_photo())
    both = made["both.png"]
    for one in (first, second):
        assert at(both, one.x + one.width / 2, one.y + one.height / 2) == 255
    results = {row["filename"]: row for row in desk.batches.results(job.id)["items"]}
    assert results["sea.png"]["status"] == "skipped" and results["sea.png"]["detail"] == "No face was found."
    assert results["both.png"]["result"]["faces"] == 2 and 0 < results["both.png"]["result"]["covered"] < 1
    assert desk.store.metadata(desk.store.image_ids(luna, ImageFilter(q="solo")))  # faces are measured along
    only = desk.batches.submit("mask_faces", luna, options={"which": "largest", "area": "face", "replace": True})
    assert only.result["done"] == 2
    both = masks(desk, luna)["both.png"]
    assert (
        at(both, second.x + second.width / 2, second.y + second.height / 2)
        < 60
        < 255
        == at(both, first.x + first.width / 2, first.y + first.height / 2)
    )


def test_area_floor_and_softness_do_what_they_say() -> None:
    face = Face(80, 60, 40, 50, 0.9)
    size = (200, 300)
    hard = face_mask(size, [face], "face", 0.0, 0)
    assert at(hard, 100, 85) == 255 and at(hard, 5, 5) == 0
    assert sum(hard.histogram()[20:236]) / (200 * 300) < 0.02  # hardly anything in between
    assert at(hard, 100, 180) == 0 and at(face_mask(size, [face], "head", 0.0, 0), 100, 180) == 255  # the shoulders
    soft = face_mask(size, [face], "face", 1.0, 0)
    assert sum(soft.histogram()[20:236]) > 4 * sum(hard.histogram()[20:236])
    assert at(soft, 100, 85) >= 250 and covered(soft) > covered(hard)
    for floor, least in ((0, 0), (10, 26), (90, 230)):
        mask = face_mask(size, [face], "face", 0.3, floor)
        assert at(mask, 5, 295) == pytest.approx(least, abs=1) and at(mask, 100, 85) == 255
    tilted = Face(80, 60, 40, 50, 0.9, ((85.0, 75.0), (110.0, 90.0), (97.0, 92.0), (86.0, 97.0), (104.0, 107.0)))
    assert tilted.roll == pytest.approx(31, abs=1)
    lying = face_mask(size, [tilted], "head", 0.0, 0)
    assert at(lying, 55, 160) > at(face_mask(size, [face], "head", 0.0, 0), 10, 160)  # its shoulders are to the left
    large = face_mask((3000, 2000), [Face(1400, 900, 300, 400, 0.9)], "face", 0.3, 0)
    assert large.size == (3000, 2000) and at(large, 1550, 1100) == 255 and at(large, 10, 10) == 0


def test_a_mask_that_is_there_is_kept_unless_it_is_to_be_replaced(desk: Any, luna: str) -> None:
    (solo,) = desk.store.images_by_id(desk.store.image_ids(luna, ImageFilter(q="solo")))
    own = encoded(Image.new("L", (solo.width, solo.height), 77))
    desk.masks.put(solo.id, own)
    job = desk.batches.submit("mask_faces", luna)
    assert desk.masks.read(solo) == own and job.result["done"] == 1
    kept = [row for row in desk.batches.results(job.id)["items"] if row["filename"] == solo.filename]
    assert kept[0]["status"] == "skipped" and "kept" in kept[0]["detail"]
    before = snapshot(desk, luna)
    again = desk.batches.submit("mask_faces", luna, options={"replace": True, "area": "face"})
    assert again.result["done"] == 2 and desk.masks.read(solo) != own
    undo = desk.batches.undo(again.id)
    assert undo.status == "completed" and undo.result["restored"] == 2 and undo.result["left"] == 0
    assert desk.masks.read(solo) == own and snapshot(desk, luna) == before


def test_undo_takes_the_masks_away_and_leaves_what_was_changed_since(desk: Any, luna: str) -> None:
    before = snapshot(desk, luna)
    job = desk.batches.submit("mask_faces", luna)
    assert job.result["undoable"] and snapshot(desk, luna) != before
    undo = desk.batches.undo(job.id)
    assert undo.result["restored"] == 2 and snapshot(desk, luna) == before and masks(desk, luna) == {}
    job = desk.batches.submit("mask_faces", luna)
    (solo,) = desk.store.images_by_id(desk.store.image_ids(luna, ImageFilter(q="solo")))
    own = encoded(Image.new("L", (solo.width, solo.height), 9))
    desk.masks.put(solo.id, own)
    undo = desk.batches.undo(job.id)
    assert (undo.result["restored"], undo.result["left"]) == (1, 1)
    assert desk.masks.read(solo) == own and list(masks(desk, luna)) == [solo.filename]


def test_a_trial_shows_the_masks_and_writes_nothing(desk: Any, luna: str) -> None:
    before, revision = snapshot(desk, luna), desk.store.get(luna).revision
    job = desk.batches.submit("mask_faces", luna, dry_run=True)
    assert snapshot(desk, luna) == before and desk.store.get(luna).revision == revision and not job.result["undoable"]
    rows = {row["filename"]: row["result"] for row in desk.batches.results(job.id)["items"] if "result" in row}
    shown = rows["a/solo.jpg"]["preview"].removeprefix("data:image/webp;base64,")
    picture = Image.open(io.BytesIO(base64.b64decode(shown)))
    assert picture.size == portrait().size and picture.getpixel((0, 0)) < (60, 60, 60)  # type: ignore[operator]
    assert rows["a/solo.jpg"]["faces"] == 1 and rows["sea.png"]["skipped"] == "No face was found."


def test_a_batch_killed_at_a_picture_goes_on_with_it_and_can_still_be_undone(
    desk: Any, luna: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dalla.services.batch_journal import Journal

    (solo,) = desk.store.images_by_id(desk.store.image_ids(luna, ImageFilter(q="solo")))
    own = encoded(Image.new("L", (solo.width, solo.height), 77))
    desk.masks.put(solo.id, own)
    honest = Journal.add

    def dies(self: Journal, entry: dict[str, Any]) -> None:
        if entry["id"] == solo.id:
            raise RuntimeError("killed")  # the mask is written, the line is not
        honest(self, entry)

    monkeypatch.setattr(Journal, "add", dies)
    job = desk.batches.submit("mask_faces", luna, options={"replace": True})
    assert job.status == "failed" and desk.masks.read(solo) != own
    monkeypatch.setattr(Journal, "add", honest)
    job = desk.jobs.retry(job.id)
    assert job.status == "completed" and job.result["done"] == 2
    desk.batches.undo(job.id)
    assert desk.masks.read(solo) == own


def test_without_a_finder_it_is_refused_with_the_remedy(settings: Any) -> None:
    desk = Desk(settings, faces=NoFaces())
    set_id = desk.new_set()
    desk.add(set_id, "a.png", portrait())
    with pytest.raises(Unavailable, match="weights are missing"):
        desk.batches.submit("mask_faces", set_id)
    desk.close()


@pytest.mark.parametrize(
    "options", [{"area": "hand"}, {"floor": 91}, {"floor": 1.5}, {"softness": -1}, {"replace": 1}, {"which": "best"}, {"x": 1}]
)  # fmt: skip
def test_options_are_checked_by_name(desk: Any, luna: str, options: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput) as caught:
        desk.batches.submit("mask_faces", luna, options=options)
    assert caught.value.errors[0]["field"] == f"options.{next(iter(options))}"


def test_the_trainer_reads_the_mask(desk: Any, luna: str, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from dalla import training_set
    from dalla.diffusion.training.dataset import _mask

    desk.batches.submit("mask_faces", luna, options={"area": "face"})
    portrait().save(tmp_path / "a.png")
    (solo,) = desk.store.images_by_id(desk.store.image_ids(luna, ImageFilter(q="solo")))
    (tmp_path / "a-masklabel.png").write_bytes(desk.masks.read(solo) or b"")
    (picture,) = training_set.scan(tmp_path, masked_loss=True, resolution=64).pictures
    weights = _mask(tmp_path, picture, (4, 8, 8))
    assert weights.max() > 0.9 and weights.min() == pytest.approx(0.1, abs=0.02) and torch.isfinite(weights).all()
