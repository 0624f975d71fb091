"""Imports: what is planned, what gets in, and what a kill, a full disk or a deleted dataset leaves behind."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from dalla import imaging
from dalla.errors import Conflict, InvalidInput, NotFound, StorageError
from dalla.services import dataset_import_run, dataset_import_work
from dalla.services.dataset_import import check_options
from dalla.services.dataset_import_run import image_id
from dalla.services.dataset_import_work import key_for
from dalla.services.dataset_sources import reads_heic
from tests.services.dataset_import_kit import World, kohya_zip, picture, zipped


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    yield world
    world.close()


@pytest.fixture
def working(tmp_path: Path) -> Iterator[World]:
    """A world whose tasks run in threads."""
    world = World(tmp_path, immediate=False)
    world.jobs.start()
    yield world
    world.close()


# ---------------------------------------------------------------- the plan


def test_the_plan_says_it_in_one_sentence(world: World) -> None:
    files: dict[str, bytes | str] = {}
    for n in range(142):
        files[f"10_luna/{n:03}.png"] = picture(n if n < 139 else 0)
        if n < 138:
            files[f"10_luna/{n:03}.txt"] = f"luna, picture {n}"
    for n in range(4):
        files[f"10_luna/lost {n}.txt"] = "whose am I"
    plan = world.imports.plan(upload_ids=[world.upload(zipped(files), "luna.zip")])
    assert plan["summary"] == "142 pictures, 138 captions paired, 4 orphans, 3 duplicates, kohya repeats 10"
    counts = plan["counts"]
    assert (counts["pictures"], counts["captionsPaired"], counts["orphans"], counts["duplicates"]) == (142, 138, 4, 3)
    assert plan["kohya"]["folders"] == [
        {"folder": "10_luna", "repeats": 10, "concept": "luna", "regularization": False, "pictures": 142}
    ]
    assert plan["dataset"] == {"id": None, "name": "luna"}
    assert plan["duplicates"][0]["of"] == "10_luna/000.png"
    assert plan["fits"] and plan["duplicatesComplete"]
    assert world.datasets.page().items == []  # nothing was changed


def test_the_plan_compares_with_the_dataset(world: World) -> None:
    world.bring(zipped({"a.png": picture(1), "b.png": picture(2)}))
    id = world.only_set()
    again = world.upload(zipped({"other name.png": picture(1), "b.png": picture(3)}))
    plan = world.imports.plan(upload_ids=[again], dataset_id=id)
    assert plan["duplicates"] == [{"name": "other name.png", "of": "a.png", "in": "dataset"}]
    assert plan["counts"]["duplicatesInDataset"] == 1
    assert plan["renamed"] == ["b.png"]


def test_a_messy_kohya_zip(world: World) -> None:
    job = world.bring(kohya_zip(), "luna set.zip")
    assert job.status == "completed", job.error
    result = job.result
    images = world.images(world.only_set())
    assert sorted(images) == [
        "img/10_luna woman/beach.jpg",
        "img/10_luna woman/no caption.webp",
        "img/10_luna woman/portrait 1.png",
        "reg/1_woman/r1.png",
    ]
    portrait = images["img/10_luna woman/portrait 1.png"]
    assert (portrait.caption, portrait.caption_source) == ("luna, portrait, smiling", "file")
    assert (portrait.repeats, portrait.concept, portrait.regularization) == (10, "luna woman", False)
    assert images["img/10_luna woman/beach.jpg"].caption == "luna at the beach"
    assert images["img/10_luna woman/no caption.webp"].caption == "luna woman"  # as kohya itself does
    reg = images["reg/1_woman/r1.png"]
    assert (reg.repeats, reg.regularization) == (1, True)
    assert result["kohya"]["level"] == "root"
    assert result["plan"].startswith(
        "5 pictures, 2 captions paired, 1 orphan, 1 empty caption, 1 duplicate, kohya repeats 10"
    )
    assert result["duplicates"] == [
        {"name": "img/10_luna woman/portrait 1 copy.png", "of": "img/10_luna woman/portrait 1.png", "kind": "file"}
    ]
    codes = {row["id"]: row["code"] for row in job.items_failed}
    assert codes["../../evil.png"] == "path_escape"
    assert codes["My Luna Set/img/10_luna woman/empty.png"] == "empty"
    assert not (world.root / "evil.png").exists() and not (world.data / "evil.png").exists()


def test_originals_stay_byte_for_byte_where_the_layout_has_them(world: World) -> None:
    data = picture(4, "JPEG", quality=91)
    world.bring(zipped({"set/sub/a b.jpg": data, "set/c.png": picture(5)}))
    id = world.only_set()
    file = world.data / "datasets" / id / "originals" / "sub" / "a b.jpg"
    assert file.read_bytes() == data
    image = world.images(id)["sub/a b.jpg"]
    assert image.path == f"datasets/{id}/originals/sub/a b.jpg"
    assert image.sha256 == hashlib.sha256(data).hexdigest()
    for size in imaging.THUMBNAILS:
        assert (world.data / "thumbs" / "datasets" / id / f"{image.id}.{size}.webp").is_file()
    measured = world.store.metadata([image.id])[image.id]
    assert {"sharpness", "dhash", "brightness", "megapixels"} <= set(measured)
    assert not list((world.data / "uploads").glob("upload_*"))  # the upload was used up


def test_what_was_uploaded_is_gone_but_a_failed_import_keeps_it(world: World) -> None:
    upload = world.upload(b"this is no archive", "a.png")
    job, _ = world.imports.start(upload_ids=[upload])
    job = world.jobs.get(job.id)
    assert job.status == "failed" and "Not a single picture" in job.error["detail"]
    assert world.uploads.get(upload).complete


def test_the_same_pixels_in_another_file_are_a_duplicate(world: World) -> None:
    image = Image.open(io.BytesIO(picture(7)))
    out = io.BytesIO()
    image.save(out, "BMP")
    job = world.bring(zipped({"a.png": picture(7), "b.bmp": out.getvalue()}))
    assert job.result["duplicates"] == [{"name": "b.bmp", "of": "a.png", "kind": "pixels"}]
    assert list(world.images(world.only_set())) == ["a.png"]


def test_importing_twice_adds_nothing(world: World) -> None:
    archive = zipped({"a.png": picture(1), "b.png": picture(2)})
    world.bring(archive)
    id = world.only_set()
    before = world.files(id)
    job = world.bring(archive, dataset_id=id)
    assert job.status == "completed"
    assert (job.result["added"], job.result["duplicatesCount"]) == (0, 2)
    assert world.files(id) == before and len(world.images(id)) == 2


def test_duplicates_may_be_kept(world: World) -> None:
    archive = zipped({"a.png": picture(1), "b.png": picture(1)})
    job = world.bring(archive, options={"duplicates": "keep"})
    assert job.result["added"] == 2 and len(world.images(world.only_set())) == 2


def test_of_twins_the_captioned_one_stays(world: World) -> None:
    job = world.bring(zipped({"a.png": picture(1), "z.png": picture(1), "z.txt": "with words"}))
    assert list(world.images(world.only_set())) == ["z.png"]
    assert job.result["duplicates"][0]["name"] == "a.png"


def test_a_taken_name_gets_a_number(world: World) -> None:
    world.bring(zipped({"A.png": picture(1)}))
    id = world.only_set()
    job = world.bring(zipped({"a.png": picture(2)}), dataset_id=id)
    assert job.result["renamed"] == [{"name": "a.png", "to": "a-2.png"}]
    assert set(world.images(id)) == {"A.png", "a-2.png"}


def test_a_file_of_a_version_is_never_overwritten(world: World) -> None:
    world.bring(zipped({"a.png": picture(1)}))
    id = world.only_set()
    path = world.blobs.path(world.images(id)["a.png"].path)
    kept = path.read_bytes()
    world.store.delete_images([world.images(id)["a.png"].id])  # the row is gone, its bytes belong to a version
    world.bring(zipped({"a.png": picture(2)}), dataset_id=id)
    assert path.read_bytes() == kept
    assert world.blobs.get(world.images(id)["a-2.png"].path) == picture(2)


# ---------------------------------------------------------------- odd pictures


def odd_pictures() -> dict[str, tuple[bytes, tuple[int, int]]]:
    """Every picture people send that is not plain RGB: bytes and upright size."""

    def saved(image: Image.Image, kind: str, **how: object) -> bytes:
        out = io.BytesIO()
        image.save(out, kind, **how)
        return out.getvalue()

    turned = Image.new("RGB", (40, 20), (9, 99, 199))
    exif = Image.Exif()
    exif[0x0112] = 6
    grey16 = Image.new("I;16", (24, 16), 40_000)
    return {
        "cmyk.jpg": (saved(Image.new("CMYK", (30, 20), (10, 200, 30, 0)), "JPEG"), (30, 20)),
        "grey16.png": (saved(grey16, "PNG"), (24, 16)),
        "grey16.tif": (saved(Image.new("I;16", (24, 18), 9_000), "TIFF"), (24, 18)),
        "turned.jpg": (saved(turned, "JPEG", exif=exif), (20, 40)),
        "alpha.png": (saved(Image.new("RGBA", (31, 21), (200, 10, 10, 99)), "PNG"), (31, 21)),
        "palette.gif": (saved(Image.new("P", (32, 22), 3), "GIF"), (32, 22)),
        "anim.webp": (
            saved(
                Image.new("RGB", (33, 23), 5), "WEBP", save_all=True, append_images=[Image.new("RGB", (33, 23), 200)]
            ),
            (33, 23),
        ),
        "modern.avif": (saved(Image.new("RGB", (34, 24), (7, 77, 177)), "AVIF"), (34, 24)),
        "old.bmp": (saved(Image.new("1", (35, 25), 1), "BMP"), (35, 25)),
        "1 pixel.png": (saved(Image.new("L", (1, 1), 7), "PNG"), (1, 1)),
        "wrong ending.png": (saved(Image.new("RGB", (36, 26), (1, 2, 3)), "JPEG"), (36, 26)),
        "no ending": (saved(Image.new("RGB", (37, 27), (4, 5, 6)), "PNG"), (37, 27)),
    }


def test_every_odd_picture_gets_in(world: World) -> None:
    odd = odd_pictures()
    job = world.bring(zipped({name: data for name, (data, _) in odd.items()}))
    assert job.status == "completed" and not job.items_failed
    images = world.images(world.only_set())
    assert {name: (i.width, i.height) for name, i in images.items()} == {name: size for name, (_, size) in odd.items()}
    assert images["wrong ending.png"].format == "JPEG"
    for image in images.values():
        assert world.blobs.get(image.path) == odd[image.filename][0]
        with Image.open(world.datasets.thumbnail(image, "s")) as thumb:
            assert thumb.format == "WEBP"


def test_damaged_pictures_are_told_by_name_and_the_rest_gets_in(world: World) -> None:
    whole = picture(1, "PNG", (200, 200))
    job = world.bring(
        zipped(
            {
                "good.png": picture(2),
                "empty.png": b"",
                "cut.png": whole[: len(whole) // 2],
                "cut.jpg": picture(3, "JPEG", (300, 300))[:700],
                "text.jpg": b"not a picture at all, really",
                "film.png": b"\0\0\0\x18ftypmp42" + b"\0" * 40,
            }
        )
    )
    assert job.status == "completed"
    assert list(world.images(world.only_set())) == ["good.png"]
    codes = {row["id"]: row["code"] for row in job.items_failed}
    assert codes == {
        "empty.png": "empty",
        "cut.png": "invalid_input",
        "cut.jpg": "invalid_input",
        "text.jpg": "not_a_picture",
        "film.png": "video",
    }
    assert job.result["failedCount"] == 5
    id = world.only_set()
    assert world.files(id) == {"originals/good.png"}


def test_heic_without_the_plugin_is_listed_not_dropped(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    from dalla.services import dataset_import_inventory

    monkeypatch.setattr(dataset_import_inventory, "reads_heic", lambda: False)
    heic = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + b"\0" * 100
    upload = world.upload(zipped({"phone.heic": heic, "phone.txt": "a phone", "a.png": picture(1)}))
    plan = world.imports.plan(upload_ids=[upload])
    assert plan["needPlugin"] == ["phone.heic"] and "1 needs a plugin" in plan["summary"]
    assert any("pip install pillow-heif" in warning["fix"] for warning in plan["warnings"])
    job, _ = world.imports.start(upload_ids=[upload])
    [failed] = world.jobs.get(job.id).items_failed
    assert failed["code"] == "needs_plugin"


@pytest.mark.skipif(not reads_heic(), reason="needs pillow-heif")
def test_heic_with_the_plugin(world: World) -> None:
    import pillow_heif

    image = pillow_heif.from_pillow(Image.new("RGB", (64, 40), (180, 60, 20)))
    out = io.BytesIO()
    image.save(out, quality=90)
    job = world.bring(zipped({"phone.HEIC": out.getvalue(), "phone.txt": "a phone"}))
    assert job.status == "completed", job.error
    found = world.images(world.only_set())["phone.HEIC"]
    assert (found.width, found.height, found.mime, found.format) == (64, 40, "image/heic", "HEIC")
    assert found.caption == "a phone" and world.blobs.get(found.path) == out.getvalue()


def test_names_in_any_script(world: World) -> None:
    names = [
        "Übung ß.png",
        "ルナ/写真.png",
        "لونا‌ها.png",
        "луна.png",
        "👩‍🎨 art.png",
        "a,b & c's [1].png",
        "長" * 200 + ".png",
    ]
    job = world.bring(zipped({name: picture(n) for n, name in enumerate(names)}))
    assert job.status == "completed" and not job.items_failed
    images = world.images(world.only_set())
    assert set(images) == set(names)
    for n, name in enumerate(names):
        assert world.blobs.get(images[name].path) == picture(n)
    assert len({image.path.casefold() for image in images.values()}) == len(names)


def test_keys_never_meet(world: World) -> None:
    keys = [
        key_for(world.blobs, "dataset_1", name)
        for name in ("é.png", "è.png", "x/…/y.png", "x/‥/y.png", "a" * 240 + ".png")
    ]
    assert len(set(keys)) == len(keys)
    for key in keys:
        world.blobs.put(key, b"x")


def test_the_prompt_inside_a_picture_is_its_caption(world: World) -> None:
    from dalla import recipes
    from dalla.records.media import Recipe

    drawn = recipes.embed(picture(1), Recipe(prompt="luna on a swing"))
    world.bring(
        zipped({"a.png": drawn, "b.png": recipes.embed(picture(2), Recipe(prompt="no")), "b.txt": "from the file"})
    )
    images = world.images(world.only_set())
    assert images["a.png"].caption == "luna on a swing"
    assert images["b.png"].caption == "from the file"
    job = world.bring(zipped({"c.png": recipes.embed(picture(3), Recipe(prompt="no"))}), options={"recipes": False})
    assert world.images(job.result["datasetId"])["c.png"].caption == ""


# ---------------------------------------------------------------- sources


def test_a_folder_of_this_computer(world: World, tmp_path: Path) -> None:
    folder = tmp_path / "pictures" / "5_luna"
    folder.mkdir(parents=True)
    (folder / "a.png").write_bytes(picture(1))
    (folder / "a.txt").write_bytes("Größe, Übung".encode("latin-1"))
    job, dataset = world.imports.start(path=str(folder))
    job = world.jobs.get(job.id)
    assert job.status == "completed"
    image = world.images(dataset.id)["a.png"]
    assert (image.caption, image.repeats, image.concept) == ("Größe, Übung", 5, "luna")
    assert (dataset.name, dataset.source_path) == ("5_luna", str(folder))
    assert (folder / "a.png").read_bytes() == picture(1)  # the source is only read


def test_several_files_and_a_zip_together(world: World) -> None:
    ids = [
        world.upload(picture(1), "a.png"),
        world.upload(b"first", "a.txt"),
        world.upload(zipped({"a.png": picture(2), "a.txt": "second"}), "more.zip"),
    ]
    job, dataset = world.imports.start(upload_ids=ids, name="Both")
    assert world.jobs.get(job.id).status == "completed"
    images = world.images(dataset.id)
    assert {name: image.caption for name, image in images.items()} == {"a.png": "first", "more/a.png": "second"}


def test_bad_wishes_are_refused(world: World, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput):
        world.imports.plan()
    with pytest.raises(InvalidInput):
        world.imports.plan(upload_ids=["upload_1_aaaaaaaaa"], path="/tmp")
    with pytest.raises(NotFound):
        world.imports.plan(upload_ids=["upload_1_aaaaaaaaa"])
    with pytest.raises(NotFound):
        world.imports.plan(path=str(tmp_path / "nowhere"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(InvalidInput, match="nothing in it"):
        world.imports.start(path=str(tmp_path / "empty"))
    assert world.datasets.page().items == []  # no empty dataset is left by a wish that was refused
    with pytest.raises(InvalidInput):
        check_options({"duplicates": "maybe"})
    with pytest.raises(InvalidInput):
        check_options({"nonsense": True})
    assert check_options({"folderCaptions": False})["folder_captions"] is False


def test_an_import_into_the_trash_is_refused(world: World) -> None:
    world.bring(zipped({"a.png": picture(1)}))
    id = world.only_set()
    world.datasets.trash(id)
    with pytest.raises(Conflict, match="trash"):
        world.imports.start(upload_ids=[world.upload(picture(2), "b.png")], dataset_id=id)


# ---------------------------------------------------------------- faults


def test_a_full_disk_in_the_middle(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataset_import_run, "BATCH", 4)
    real, count = world.blobs.put, 0

    def full(key: str, data: bytes, *, durable: bool = True) -> None:
        nonlocal count
        if key.startswith("datasets/"):
            count += 1
            if count > 9:
                raise StorageError.from_os(OSError(errno.ENOSPC, "full"), f"the file {key}")
        real(key, data, durable=durable)

    monkeypatch.setattr(world.blobs, "put", full)
    job = world.bring(zipped({f"{n:02}.png": picture(n) for n in range(20)}))
    assert job.status == "failed" and job.error["code"] == "storage"
    assert "8 of 20 pictures are in the dataset" in job.error["detail"] and "Run again" in job.error["remedy"]
    assert "Nothing was changed" not in job.error["detail"]
    id = world.only_set()
    images = world.images(id)
    assert len(images) == 8 and world.files(id) == {f"originals/{name}" for name in images}
    monkeypatch.setattr(world.blobs, "put", real)
    job = world.jobs.retry(job.id)
    assert job.status == "completed", job.error
    assert (job.result["added"], job.result["resumed"], job.result["duplicatesCount"]) == (20, 8, 0)
    assert len(world.images(id)) == 20 and len(world.files(id)) == 20


def test_cancel_keeps_what_is_there_and_retry_goes_on(working: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataset_import_run, "BATCH", 2)
    real = dataset_import_work.prepare
    reached, go_on = threading.Event(), threading.Event()

    def slow(data: bytes, name: str, **how: object) -> object:
        if name.startswith("1"):
            reached.set()
            assert go_on.wait(120)
        return real(data, name, **how)  # type: ignore[arg-type]

    monkeypatch.setattr(dataset_import_run, "prepare", slow)
    archive = zipped({f"{n:02}.png": picture(n) for n in range(20)})
    job, dataset = working.imports.start(upload_ids=[working.upload(archive)])
    assert reached.wait(20)
    end = time.monotonic() + 60
    while not working.images(dataset.id):  # many workers read far ahead
        assert time.monotonic() < end
        time.sleep(0.01)
    working.jobs.cancel(job.id)
    go_on.set()
    assert working.jobs.wait(job.id, 30).status == "cancelled"
    images = working.images(dataset.id)
    assert 0 < len(images) < 20
    assert working.files(dataset.id) == {f"originals/{name}" for name in images}
    working.jobs.retry(job.id)
    job = working.jobs.wait(job.id, 60)
    assert job.status == "completed" and job.result["resumed"] == len(images)
    assert len(working.images(dataset.id)) == 20


def test_a_stop_between_the_end_of_the_import_and_of_the_task(world: World) -> None:
    job = world.bring(zipped({"a.png": picture(1)}))
    with world.library.write() as connection:  # as if the row had never been written
        connection.exec_driver_sql("UPDATE background_tasks SET status = 'interrupted', result = NULL")
    again = world.jobs.retry(job.id)
    assert again.status == "completed" and again.result == job.result


def test_two_imports_at_once_into_one_dataset(working: World) -> None:
    dataset = working.datasets.create("Both")
    shared = {f"same {n}.png": picture(n) for n in range(30)}
    jobs = []
    for who in range(2):
        files = {**shared, **{f"own {n}.png": picture(100 + 50 * who + n) for n in range(15)}}
        job, _ = working.imports.start(upload_ids=[working.upload(zipped(files))], dataset_id=dataset.id)
        jobs.append(job.id)
    done = [working.jobs.wait(id, 60) for id in jobs]
    assert [job.status for job in done] == ["completed", "completed"], [job.error for job in done]
    images = working.images(dataset.id)
    assert len(images) == 30 + 15 + 15
    assert len({image.sha256 for image in images.values()}) == len(images)
    assert sum(job.result["added"] for job in done) == 60 and sum(job.result["duplicatesCount"] for job in done) == 30
    for image in images.values():
        assert hashlib.sha256(working.blobs.get(image.path)).hexdigest() == image.sha256
    assert working.files(dataset.id) == {f"originals/{name}" for name in images}


@pytest.mark.parametrize("how", ["trash", "delete"])
def test_the_dataset_goes_away_while_pictures_come(working: World, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    monkeypatch.setattr(dataset_import_run, "BATCH", 4)
    dataset = working.datasets.create("Short-lived")
    real = working.store.add_images
    calls = 0

    def then_gone(images: list, metadata: dict | None = None) -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            if how == "trash":
                working.datasets.trash(dataset.id)
            else:
                working.datasets.delete_for_good(dataset.id)
        real(images, metadata)

    monkeypatch.setattr(working.store, "add_images", then_gone)
    archive = zipped({f"{n:02}.png": picture(n) for n in range(30)})
    job, _ = working.imports.start(upload_ids=[working.upload(archive)], dataset_id=dataset.id)
    job = working.jobs.wait(job.id, 60)
    assert job.status == "failed"
    if how == "trash":
        assert job.error["code"] == "conflict" and "12 of 30 pictures" in job.error["detail"]
        working.datasets.restore(dataset.id)
        monkeypatch.setattr(working.store, "add_images", real)
        working.jobs.retry(job.id)
        assert working.jobs.wait(job.id, 60).status == "completed"
        assert len(working.images(dataset.id)) == 30
    else:
        assert job.error["code"] == "not_found" and "deleted while" in job.error["detail"]
        assert working.files(dataset.id) == set()
        assert not list((working.data / "thumbs").rglob("*.webp"))


CHILD = """
import itertools, sys, time, pathlib
from tests.services.dataset_import_kit import World
from dalla.services import dataset_import_run
dataset_import_run.BATCH = 3
real, number = dataset_import_run.prepare, itertools.count()
def held(data, name, **how):
    if next(number) >= 45:
        time.sleep(600)  # killed here
    return real(data, name, **how)
dataset_import_run.prepare = held
world = World(pathlib.Path(sys.argv[1]), immediate=False)
world.jobs.start()
job, dataset = world.imports.start(upload_ids=[sys.argv[2]])
print(job.id, dataset.id, flush=True)
time.sleep(600)
"""


def test_kill_9_in_the_middle(tmp_path: Path) -> None:
    """The process is killed while pictures come in; the next start goes on, and nothing is half there or twice."""
    archive = zipped({f"10_luna/{n:03}.png": picture(n, size=(64, 64)) for n in range(90)})
    before = World(tmp_path)
    upload = before.upload(archive)
    before.close()
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(tmp_path), upload],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    try:
        assert child.stdout is not None
        job_id, dataset_id = child.stdout.readline().split()
        originals = tmp_path / "data" / "datasets" / dataset_id / "originals" / "10_luna"
        for _ in range(2400):
            if originals.is_dir() and len(list(originals.glob("*.png"))) >= 15:
                break
            time.sleep(0.05)
    finally:
        os.kill(child.pid, signal.SIGKILL)
        child.wait(10)
        child.stdout.close()
    world = World(tmp_path, immediate=False)
    try:
        first = len(world.images(dataset_id))
        assert 0 < first < 90
        for image in world.images(dataset_id).values():  # what is listed is whole
            assert hashlib.sha256(world.blobs.get(image.path)).hexdigest() == image.sha256
        world.jobs.start()  # finds the task of the dead process and runs it again
        job = world.jobs.wait(job_id, 60)
        assert job.status == "completed", job.error
        assert (job.result["added"], job.result["resumed"], job.result["duplicatesCount"]) == (90, first, 0)
        images = world.images(dataset_id)
        assert len(images) == 90 and len({image.sha256 for image in images.values()}) == 90
        finished = {name for name in world.files(dataset_id) if not name.rpartition("/")[2].startswith(".")}
        assert finished == {f"originals/{name}" for name in images}
        thumbs = {p.name for p in (world.data / "thumbs" / "datasets" / dataset_id).glob("[!.]*")}
        assert thumbs == {f"{i.id}.{size}.webp" for i in images.values() for size in imaging.THUMBNAILS}
    finally:
        world.close()


def test_ids_follow_from_the_task() -> None:
    one = image_id("job_1754528276811_4suaz8mqv", "a.png")
    assert one == image_id("job_1754528276811_4suaz8mqv", "a.png")
    assert one != image_id("job_1754528276811_4suaz8mqv", "b.png")
    assert one != image_id("job_1754528276811_4suaz8mqw", "a.png")
    assert one.startswith("img_1754528276811_")


def test_pages_hear_of_it(world: World) -> None:
    heard = []
    real = world.events.publish
    world.events.publish = lambda kind, data: (heard.append((kind, data)), real(kind, data))  # type: ignore[method-assign]
    world.bring(zipped({"a.png": picture(1)}))
    told = [data for kind, data in heard if kind == "dataset.updated"]
    assert told and told[-1]["revision"] == world.datasets.get(world.only_set()).revision
