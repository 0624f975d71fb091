"""Batches over pictures: results for each, partial success, cancel, trial, undo, and what survives a crash."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from PIL import Image

from dalla.errors import Conflict, DallaError, InvalidInput, NotFound, StorageError, Unavailable
from dalla.records.dataset import ImageFilter
from dalla.services.batch_journal import Journal
from tests.services.batch_kit import Desk, NoFaces, fill, portrait

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def desk(settings):
    pytest.importorskip("cv2")
    desk = Desk(settings)
    yield desk
    desk.close()


@pytest.fixture
def luna(desk):
    return fill(desk)


class Stamp:
    """An operation for tests: writes the file's name into metadata, and does what a test tells it to."""

    name, label, changes = "stamp", "Stamp", True

    def __init__(self, desk, during=None, workers=1):
        self.desk, self.during, self.ran, self.began, self.ended = desk, during, [], 0, 0
        self.many = workers

    def workers(self, options):
        return self.many

    def check(self, options):
        if set(options) - {"word"}:
            raise InvalidInput.field("options.word", "Only a word.")
        return {"word": options.get("word", "seen")}

    def begin(self, ctx, images, options):
        self.began += 1

    def run(self, ctx, image, options):
        self.ran.append(image.filename)
        if self.during:
            self.during(ctx, image)
        if not ctx.dry_run:
            self.desk.store.put_metadata(image.dataset_id, {image.id: {"stamp": options["word"]}})
        return {"word": options["word"]}

    def finish(self, ctx, results):
        return {"stamped": len(results)}

    def end(self, ctx):
        self.ended += 1


def names(desk, ids):
    return [image.filename for image in desk.store.images_by_id(ids)]


# ---------------------------------------------------------------- asking for it


def test_a_batch_answers_with_a_task_and_a_result_for_every_picture(desk, luna):
    work = Stamp(desk)
    desk.batches.register(work)
    job = desk.batches.submit("stamp", luna, options={"word": "x"})
    assert job.status == "completed" and job.kind == "image_batch" and "Luna" in job.title
    assert job.result["done"] == job.result["images"] == 4 and job.result["stamped"] == 4
    assert [row["filename"] for row in job.result["items"]] == ["a/solo.jpg", "both.png", "sea.png", "zz broken.png"]
    assert job.result["items"][0]["result"] == {"word": "x"} and (work.began, work.ended) == (1, 1)
    assert {name for name, _ in desk.heard} >= {"dataset.updated", "task.updated"}
    told = [data for name, data in desk.heard if name == "dataset.updated"][-1]
    assert told == {"datasetId": luna, "revision": desk.store.get(luna).revision}


def test_pictures_by_id_by_filter_and_not_the_trash(desk, luna):
    work = Stamp(desk)
    desk.batches.register(work)
    first, second = desk.store.image_ids(luna, ImageFilter())[:2]
    desk.batches.submit("stamp", None, [second, first, second])
    assert work.ran == names(desk, [second, first]), "in the order asked, each once"
    desk.batches.submit("stamp", luna, where=ImageFilter(q="both"))
    assert work.ran[2:] == ["both.png"]
    desk.store.update_images([first], trashed_at="2026-01-01T00:00:00.000Z")
    desk.batches.submit("stamp", luna)
    assert len(work.ran) == 6


def test_what_cannot_be_asked_for(desk, luna):
    desk.batches.register(Stamp(desk))
    other = desk.add(desk.new_set("Other"), "x.png", portrait())
    ids = desk.store.image_ids(luna, ImageFilter())
    for wrong, field in (
        (lambda: desk.batches.submit("polish", luna), "operation"),
        (lambda: desk.batches.submit("stamp", luna, options={"size": 3}), "options.word"),
        (lambda: desk.batches.submit("stamp"), "datasetId"),
        (lambda: desk.batches.submit("stamp", None, ["img_gone"]), "imageIds"),
        (lambda: desk.batches.submit("stamp", None, [ids[0], other.id]), "imageIds"),
        (lambda: desk.batches.submit("stamp", luna, [other.id]), "imageIds"),
        (lambda: desk.batches.submit("stamp", luna, where=ImageFilter(q="nowhere")), "datasetId"),
    ):
        with pytest.raises(InvalidInput) as caught:
            wrong()
        assert caught.value.errors[0]["field"] == field, caught.value.detail
    with pytest.raises(NotFound):
        desk.batches.submit("stamp", "dataset_gone")
    desk.store.update(luna, trashed_at="2026-01-01T00:00:00.000Z")
    with pytest.raises(Conflict, match="trash"):
        desk.batches.submit("stamp", luna)
    assert desk.tasks.page()[2] == 0, "nothing was queued"


def test_operations_say_what_they_are_and_what_is_missing(settings):
    desk = Desk(settings, faces=NoFaces())
    rows = {row["name"]: row for row in desk.batches.operations()}
    assert set(rows) == {"face_crop", "mask_faces", "analyze", "resize", "upscale", "dedupe"}
    assert rows["resize"]["available"] and rows["resize"]["options"]["size"] == 1024 and rows["resize"]["undo"]
    assert not rows["face_crop"]["available"] and "weights" in rows["face_crop"]["reason"]
    assert "models/faces" in rows["face_crop"]["remedy"] and not rows["analyze"]["changes"]
    desk.close()


# ---------------------------------------------------------------- partial success, and the end of all


def test_one_bad_picture_does_not_stop_the_others(desk, luna):
    job = desk.batches.submit("analyze", luna)
    assert job.status == "completed" and (job.result["done"], job.result["failed"]) == (3, 1)
    (failed,) = job.items_failed
    assert failed["code"] == "invalid_input" and "zz broken.png" in failed["detail"]
    rows = desk.batches.results(job.id)["items"]
    assert [row["status"] for row in rows] == ["done", "done", "done", "failed"]
    assert desk.batches.results(job.id, status="failed")["total"] == 1


def test_a_surprise_in_one_picture_is_a_failure_of_that_picture(desk, luna):
    def during(ctx, image):
        if image.filename == "both.png":
            raise ZeroDivisionError("boom")

    desk.batches.register(Stamp(desk, during))
    job = desk.batches.submit("stamp", luna)
    assert job.status == "completed" and job.result["failed"] == 1
    assert job.items_failed[0]["code"] == "internal" and "boom" in job.items_failed[0]["detail"]


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("fault", ["full disk", "engine off"])
def test_what_would_fail_every_picture_ends_the_batch_and_a_retry_goes_on(desk, luna, fault, workers):
    work = Stamp(desk, workers=workers)
    broken = [True]

    def during(ctx, image):
        if image.filename == "sea.png" and broken:
            if fault == "full disk":
                raise StorageError.from_os(OSError(errno.ENOSPC, "full"), "x") from OSError(errno.ENOSPC, "full")
            raise Unavailable("The engine is off.", remedy="Start it.")

    work.during = during
    desk.batches.register(work)
    job = desk.batches.submit("stamp", luna)
    assert job.status == "failed" and job.error["remedy"] and work.ended == 1
    before = [name for name in work.ran if name != "sea.png"]
    broken.clear()
    job = desk.jobs.retry(job.id)
    assert job.status == "completed" and job.result["done"] == 4, job.error
    again = work.ran[len(before) + 1 :]
    assert sorted(before + again) == sorted(["a/solo.jpg", "both.png", "sea.png", "zz broken.png"]), "none twice"


def test_failed_pictures_are_tried_again_by_a_retry_and_done_ones_are_not(desk, luna):
    work = Stamp(desk)
    state = {"fail": True}

    def during(ctx, image):
        if image.filename == "both.png" and state["fail"]:
            raise InvalidInput("bad")
        if image.filename == "sea.png" and state["fail"]:
            raise Unavailable("off")

    work.during = during
    desk.batches.register(work)
    job = desk.batches.submit("stamp", luna)
    assert job.status == "failed"
    state["fail"] = False
    job = desk.jobs.retry(job.id)
    assert (job.result["done"], job.result["failed"], job.items_failed) == (4, 0, [])
    assert work.ran == ["a/solo.jpg", "both.png", "sea.png", "both.png", "sea.png", "zz broken.png"]


def test_pictures_that_vanish_meanwhile_are_left_out(desk, luna, monkeypatch):
    ids = desk.store.image_ids(luna, ImageFilter())
    read = desk.store.images_by_id

    def during(ctx, image):  # deleted by somebody while the first is at work
        desk.store.delete_images([ids[1]])

    desk.batches.register(Stamp(desk, during))
    monkeypatch.setattr("dalla.services.batch_run.PIECE", 1)
    job = desk.batches.submit("stamp", luna)
    assert (job.result["done"], job.result["skipped"]) == (3, 1) and len(read(ids)) == 3
    (skipped,) = desk.batches.results(job.id, status="skipped")["items"]
    assert "gone" in skipped["detail"] and ids[1] == skipped["imageId"]


@pytest.mark.parametrize("how", ["deleted", "trashed"])
def test_a_dataset_that_goes_away_ends_the_batch_with_a_sentence(desk, luna, how):
    def during(ctx, image):
        if image.filename == "both.png":
            desk.store.delete(luna) if how == "deleted" else desk.store.update(luna, trashed_at="2026-01-01T00:00:00.000Z")  # fmt: skip
            raise NotFound("nothing there") if how == "deleted" else InvalidInput("no")

    desk.batches.register(Stamp(desk, during))
    job = desk.batches.submit("stamp", luna)
    assert job.status == "failed" and job.error["code"] == "conflict"
    assert ("deleted" if how == "deleted" else "trash") in job.error["detail"] and "1 of 4" in job.error["detail"]


@pytest.mark.parametrize("workers", [1, 2])
def test_cancel_stops_between_pictures_and_what_is_done_stays_and_can_be_seen(desk, luna, workers):
    cancelled = threading.Event()

    def during(ctx, image):
        if image.filename == "both.png":
            desk.jobs.cancel(ctx.job.id)
            cancelled.set()
        elif image.filename > "both.png":  # the other worker may be quicker
            assert cancelled.wait(60)

    work = Stamp(desk, during, workers=workers)
    desk.batches.register(work)
    job = desk.batches.submit("stamp", luna)
    assert job.status == "cancelled" and len(work.ran) < 4 and work.ended == 1
    found = desk.batches.results(job.id)
    assert found["counts"]["done"] == len(work.ran) and found["status"] == "cancelled"


def test_several_at_a_time_never_more_and_everything_is_noted(desk):
    set_id = desk.new_set()
    for number in range(30):
        desk.add(set_id, f"{number:02}.png", Image.new("RGB", (8, 8), (number, 0, 0)))
    lock, state = threading.Lock(), {"now": 0, "most": 0}
    first, both = iter("ab"), threading.Barrier(2, timeout=60)

    def during(ctx, image):
        with lock:
            state["now"] += 1
            state["most"] = max(state["most"], state["now"])
            one_of_two = next(first, None)
        if one_of_two:
            both.wait()
        time.sleep(0.01)
        with lock:
            state["now"] -= 1

    work = Stamp(desk, during, workers=4)
    desk.batches.register(work)
    job = desk.batches.submit("stamp", set_id)
    assert job.result["done"] == 30 and len(work.ran) == len(set(work.ran)) == 30
    assert 2 <= state["most"] <= 4


# ---------------------------------------------------------------- crashes


def journal_of(desk, job):
    return Journal(Path(desk.settings.data_dir) / "batches", job.payload["batchId"])


def test_a_torn_line_of_the_journal_does_not_count(desk, luna):
    desk.batches.register(Stamp(desk))
    job = desk.batches.submit("stamp", luna)
    journal = journal_of(desk, job)
    path = journal.folder / "journal.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:2]) + lines[2][:20])
    assert len(journal.entries()) == 2
    journal.add({"id": "next", "status": "done", "result": {}})
    journal.close()
    assert list(journal.entries())[2:] == ["next"] and path.read_bytes().endswith(b"\n")


@pytest.mark.parametrize("operation", ["face_crop", "resize"])
@pytest.mark.parametrize("step", ["after the file", "after the row"])
def test_a_crash_between_the_steps_of_one_picture_leaves_nothing_double(desk, luna, monkeypatch, operation, step):
    """The program dies while writing; the second run does that picture again and undo knows everything."""
    options = {"resize": {"size": 100}}.get(operation, {})
    add, put = desk.store.add_images, Journal.add

    class Dead(BaseException):
        pass

    def die(*args, **more):
        raise Dead

    def add_and_die(images, metadata=None):
        add(images, metadata)
        raise Dead

    # Cleaning up is what a killed program does not do.
    monkeypatch.setattr(desk.blobs, "delete", lambda key: None)
    monkeypatch.setattr(desk.store, "add_images", die if step == "after the file" else add_and_die)
    with pytest.raises(Dead):
        desk.batches.submit(operation, luna, options=options)
    monkeypatch.undo()
    assert Journal.add is put
    (job,) = desk.tasks.page()[0]
    assert job.status == "running", "as a killed program leaves it"
    desk.tasks.transition(job.id, "queued", owner=None)
    desk.jobs.run_task(job.id)
    job = desk.jobs.get(job.id)
    assert job.status == "completed", job.error
    made = desk.processed(luna)
    expected = {"face_crop": 3, "resize": 3}[operation]
    assert len(made) == expected and len({image.path for image in made.values()}) == expected
    files = list((Path(desk.settings.data_dir) / "datasets" / luna / "processed").rglob("*.png"))
    assert len(files) == expected, "no file is left without a row"
    undo = desk.batches.undo(job.id)
    assert undo.result["trashed"] == expected and desk.processed(luna) == {}


KILLED = """
import sys, time
from pathlib import Path
from tests.conftest import make_settings
from tests.services.batch_kit import Desk
desk = Desk(make_settings(Path(sys.argv[1])), immediate=False)

class Slow:
    name, label, changes = "slow", "Slow", True
    def check(self, options):
        return {}
    def run(self, ctx, image, options):
        with open(sys.argv[3], "a") as log:
            log.write(image.filename + "\\n")
        if sys.argv[2] != "-" and len(open(sys.argv[3]).readlines()) == 20:
            time.sleep(600)  # killed here
        return {"name": image.filename}

desk.batches.register(Slow())
desk.jobs.start()
if sys.argv[2] != "-":
    desk.batches.submit("slow", sys.argv[2])
    time.sleep(600)
else:
    (job,) = desk.tasks.page()[0]
    job = desk.jobs.wait(job.id, 60)
    print(job.status, job.result["done"], job.attempt)
    desk.close()
"""


def test_kill_9_in_the_middle_of_a_batch_does_no_picture_twice(desk, settings, tmp_path):
    set_id = desk.new_set()
    for number in range(60):
        desk.add(set_id, f"{number:02}.png", Image.new("RGB", (8, 8), (number, 0, 0)), measured=False)
    log = tmp_path / "ran.txt"
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}

    def program(which):
        return [sys.executable, "-c", KILLED, str(Path(settings.data_dir).parent), which, str(log)]

    process = subprocess.Popen(program(set_id), cwd=ROOT, env=environ)
    try:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and (not log.exists() or len(log.read_text().splitlines()) < 10):
            time.sleep(0.01)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    first = log.read_text().splitlines()
    assert 10 <= len(first) < 60, "it was killed in the middle"
    done = subprocess.run(program("-"), cwd=ROOT, env=environ, capture_output=True, text=True, timeout=120)
    assert done.stdout.split() == ["completed", "60", "2"], done.stderr
    ran = log.read_text().splitlines()
    twice = {name for name in ran if ran.count(name) > 1}
    assert twice <= {first[-1]}, "only the picture that was at work may run again"
    assert sorted(set(ran)) == [f"{number:02}.png" for number in range(60)]


# ---------------------------------------------------------------- keeping house


def test_old_notes_are_cleared_and_then_there_is_no_undo(desk, luna):
    job = desk.batches.submit("face_crop", luna)
    assert desk.batches.purge(30) == 0
    for path in journal_of(desk, job).folder.parent.rglob("*"):
        os.utime(path, (time.time() - 40 * 86_400,) * 2)
    assert desk.batches.purge(30) == 1
    with pytest.raises(DallaError, match="gone"):
        desk.batches.results(job.id)


def test_a_running_batch_cannot_be_undone(desk, luna):
    seen = []

    class Undoable(Stamp):
        def undo(self, ctx, results):
            return {"restored": len(results)}

    def during(ctx, image):
        with pytest.raises(Conflict, match="still running"):
            desk.batches.undo(ctx.job.id)
        seen.append(image.id)

    desk.batches.register(Undoable(desk, during))
    job = desk.batches.submit("stamp", luna)
    assert len(seen) == 4 and desk.batches.undo(job.id).result["restored"] == 4
    with pytest.raises(NotFound):
        desk.batches.undo(desk.jobs.submit("image_batch_undo", {"batchId": "x"}).id)
