"""What the options of an export do to pictures and names."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from dalla.errors import InvalidInput
from dalla.services.dataset_formats import (
    FORMATS,
    ExportOptions,
    clean_stem,
    flat_names,
    options_of,
    plan,
    set_aside,
)  # fmt: skip
from dalla.services.dataset_pictures import focus_of, strip_metadata
from tests.services.dataset_versions_kit import Quiet, World, fill, picture, unzip

yaml = pytest.importorskip("yaml")  # comes with huggingface_hub; only these tests read YAML


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    yield world
    world.close()


def test_which_pictures(world: World) -> None:
    ids = fill(world)

    def names(**options: Any) -> set[str]:
        found = unzip(world.export("pairs", **options)[1])
        return {name for name in found if name.rpartition(".")[2] not in ("txt", "json")}

    assert names(use="processed") == {"x_face_0.png"}
    assert names(use="replaced", regularization=False) == {"x_face_0.png", "X.jpg", "c.webp", "bare.png", "old.gif"}
    assert len(names(use="all")) == 7
    with pytest.raises(InvalidInput, match="No picture"):
        world.export("pairs", use="processed", operations=["upscale"])
    assert unzip(world.export("pairs", use="processed")[1])["x_face_0.txt"] == b"ohwx, red dress second line\n"
    assert names(imageIds=[ids["c"], ids["bare"]]) == {"c.webp", "bare.png"}
    assert names(filter={"captioned": False}) == {"bare.png"}
    assert names(filter={"tag": "ohwx"}, imageIds=[ids["c"], ids["bare"]]) == {"c.webp"}
    with pytest.raises(InvalidInput, match="no such filter"):
        world.exports.submit(world.id, "pairs", {"filter": {"colour": 1}})


def test_a_subset_stays_what_it_was_when_the_task_runs_again(world: World) -> None:
    ids = fill(world)
    job, data, export = world.export("pairs", filter={"captioned": False})
    world.caption(ids["bare"], "now it has one")
    world.exports._run_export(Quiet(job), job.payload)
    assert world.exports.file(world.id, export["number"])[1].read_bytes() == data


def test_buckets_fit_and_enlarge(world: World) -> None:
    world.add("wide.png", picture(1, size=(400, 100)), "a")
    world.add("small.png", picture(2, size=(40, 40)), "b")

    def sizes(**options: Any) -> dict[str, tuple[int, int]]:
        found = unzip(world.export("pairs", **options)[1])
        return {n: Image.open(io.BytesIO(d)).size for n, d in found.items() if n.endswith(".png")}

    assert sizes() == {"wide.png": (400, 100), "small.png": (40, 40)}
    assert sizes(resize="fit", resolution=200) == {"wide.png": (200, 50), "small.png": (40, 40)}
    assert sizes(resize="fit", resolution=200, enlarge=True) == {"wide.png": (200, 50), "small.png": (200, 200)}
    assert sizes(resize="buckets", resolution=128) == {"wide.png": (256, 64), "small.png": (40, 40)}
    assert sizes(resize="buckets", resolution=128, enlarge=True) == {"wide.png": (256, 64), "small.png": (128, 128)}


def test_a_cut_keeps_the_face(world: World) -> None:
    image = Image.new("RGB", (100, 400), (0, 0, 0))
    image.paste((255, 255, 255), (30, 340, 70, 380))  # "the face" is at the bottom
    out = io.BytesIO()
    image.save(out, "PNG")
    id = world.add("tall.png", out.getvalue(), "a")
    world.store.put_metadata(
        world.id, {id: {"faceBoxes": [{"x": 30, "y": 340, "width": 40, "height": 40, "score": 0.9}]}}
    )

    def brightest(**options: Any) -> int:
        data = unzip(world.export("pairs", resize="buckets", resolution=64, **options)[1])["tall.png"]
        return int(Image.open(io.BytesIO(data)).convert("L").getextrema()[1])

    assert brightest() > 200
    assert brightest(cropToFaces=False) < 50
    assert focus_of({"width": 100, "height": 400}, []) is None
    assert focus_of({"width": 100, "height": 400}, [{"x": 90, "y": 0, "width": 40, "height": 40}]) == (1.0, 0.05)


def test_what_others_would_misread_is_rewritten(world: World) -> None:
    turned = Image.linear_gradient("L").resize((60, 40)).convert("RGB")
    exif = Image.Exif()
    exif[0x0112] = 6
    out = io.BytesIO()
    turned.save(out, "JPEG", exif=exif)
    world.add("phone.jpg", out.getvalue(), "a")
    world.add("print.jpg", picture(2, format="JPEG", mode="CMYK"), "b")
    world.add("deep.png", _sixteen_bit(), "c")
    world.add("plain.jpg", picture(3, format="JPEG"), "d")
    files = unzip(world.export("kohya")[1])
    images = {n.rpartition("/")[2]: Image.open(io.BytesIO(d)) for n, d in files.items() if n.endswith(("g",))}
    assert images["phone.jpg"].size == (40, 60) and not images["phone.jpg"].getexif()
    assert images["print.jpg"].mode == "RGB" and images["deep.png"].mode in ("RGB", "L")
    assert files["img/1_ohwx/plain.jpg"] == picture(3, format="JPEG")
    done = {r["source"]: r["transforms"] for r in json.loads(files["manifest.json"])["files"] if "source" in r}
    assert "turned upright" in done["phone.jpg"] and "CMYK to RGB" in done["print.jpg"] and done["plain.jpg"] == []
    files = unzip(world.export("kohya", upright=False)[1])
    assert files["img/1_ohwx/phone.jpg"] == out.getvalue()


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
def test_metadata_goes_and_pixels_stay(world: World, format: str) -> None:
    exif = Image.Exif()
    exif[0x010E] = "SECRET PLACE"
    save: dict[str, Any] = {"exif": exif}
    if format == "JPEG":
        save |= {"comment": b"SECRET", "progressive": True}
    elif format == "WEBP":
        save |= {"lossless": True, "xmp": b"SECRET XMP"}
    data = picture(1, format=format, **save)
    if format == "PNG":
        from PIL.PngImagePlugin import PngInfo

        text = PngInfo()
        text.add_text("parameters", "SECRET prompt")
        data = picture(1, pnginfo=text, **save)
    else:
        data += b"" if format == "WEBP" else b"SECRET behind the end"
    assert b"SECRET" in data
    world.add(f"a.{format.lower()}", data, "x")
    files = unzip(world.export("pairs", stripMetadata=True)[1])
    (clean,) = [d for n, d in files.items() if n.startswith("a.") and not n.endswith(".txt")]
    assert b"SECRET" not in clean
    assert (
        Image.open(io.BytesIO(clean)).convert("RGB").tobytes() == Image.open(io.BytesIO(data)).convert("RGB").tobytes()
    )
    assert strip_metadata(clean) == clean


def test_formats_mirrors_and_numbers(world: World) -> None:
    fill(world)
    files = unzip(world.export("pairs", format="jpeg", quality=80, mirror=True, numbering=True)[1])
    pictures = {n: d for n, d in files.items() if n.endswith(".jpg")}
    assert len(pictures) == 5 + 5 + 1  # regularization is not mirrored
    assert all(Image.open(io.BytesIO(d)).format == "JPEG" for d in pictures.values())
    assert {"0001.jpg", "0001.txt", "0001_mirror.jpg", "0001_mirror.txt"} <= set(files)
    files = unzip(world.export("pairs", mirror=True)[1])
    straight = Image.open(io.BytesIO(files["a_x.png"])).convert("RGB")
    flipped = Image.open(io.BytesIO(files["a_x_mirror.png"])).convert("RGB")
    assert flipped.tobytes() == straight.transpose(Image.Transpose.FLIP_LEFT_RIGHT).tobytes()


def test_a_mask_goes_where_its_picture_goes(world: World) -> None:
    world.add("a.png", picture(1), "ohwx")
    mask = Image.new("L", (80, 60), 0)
    mask.paste(255, (0, 0, 40, 60))
    out = io.BytesIO()
    mask.save(out, "PNG")
    world.add("a-masklabel.png", out.getvalue())
    files = unzip(world.export("onetrainer", mirror=True, resize="fit", resolution=64)[1])
    assert {"train/1_ohwx/a-masklabel.png", "train/1_ohwx/a_mirror-masklabel.png"} <= set(files)
    assert "train/1_ohwx/a-masklabel.txt" not in files
    seen = Image.open(io.BytesIO(files["train/1_ohwx/a_mirror-masklabel.png"]))
    assert seen.size == (64, 48) and seen.getpixel((2, 20)) == 0 and seen.getpixel((60, 20)) == 255
    files = unzip(world.export("ai-toolkit")[1])
    dataset = yaml.safe_load(files["config.yaml"])["config"]["process"][0]["datasets"][0]
    assert f"{dataset['mask_path']}/a.png" in files and dataset["mask_path"] == "masks/train/1_ohwx"


def test_the_trigger_word(world: World) -> None:
    fill(world)
    files = unzip(world.export("pairs", addTrigger=True, classWord="woman")[1])
    assert files["b_X.txt"] == b"ohwx, green\n" and files["bare.txt"] == b"ohwx, woman\n"
    assert files["a_x.txt"].count(b"ohwx") == 1 and files["reg/r.txt"] == b"a woman\n"


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"quality": 0}, "options.quality"),
        ({"resolution": 20}, "options.resolution"),
        ({"use": "some"}, "options.use"),
        ({"colour": "red"}, "options.colour"),
        ({"validationPercent": 90}, "options.validationPercent"),
    ],
)
def test_wrong_options_are_named(world: World, options: dict[str, Any], field: str) -> None:
    fill(world)
    with pytest.raises(InvalidInput) as caught:
        world.exports.submit(world.id, "kohya", options)
    assert caught.value.errors[0]["field"] == field
    assert world.rows.exports(world.id) == [] and world.versions.all(world.id) == []


# ---------------------------------------------------------------- names


def test_names_never_collide_and_do_not_depend_on_the_order() -> None:
    names = [
        "a/x.png",
        "b/X.jpg",
        "x.webp",
        "a_x.png",
        "b/a_x.gif",
        "e\u0301.png",
        "sub/\u00e9.png",
        "Страж.png",
        "y.png.jpg",
    ]
    rows = [{"imageId": str(n), "filename": name} for n, name in enumerate(names)]
    found = flat_names(rows)
    assert found == flat_names(rows[::-1])
    assert len({name.casefold() for name in found.values()}) == len(names)
    assert found["7"] == "Страж" and found["8"] == "y_png"
    for bad in ("con", "a:b", "x" * 400, "..", "a.txt", "b-masklabel", "c.mask", " ", "tab\tname"):
        clean = clean_stem(bad)
        assert clean and clean not in ("con", "..") and len(clean.encode()) <= 151
        assert not clean.endswith((".txt", "-masklabel", ".mask", " ", "."))
        assert not set(clean) & set('<>:"/\\|?*\t')


def test_validation_is_always_the_same_and_never_all() -> None:
    rows = [{"imageId": str(n), "sha256": f"{n:064x}", "regularization": n == 0} for n in range(21)]
    aside = set_aside(rows, 10)
    assert len(aside) == 2 and "0" not in aside and aside == set_aside(rows[::-1], 10)
    assert set_aside(rows[:2], 50) == set() and len(set_aside(rows[:3], 50)) == 1
    assert aside <= set_aside(rows, 30)


def test_plans_are_pure() -> None:
    entry = {
        "imageId": "1", "filename": "a.png", "kind": "original", "sha256": "0", "caption": "", "repeats": 5000,
        "concept": "", "regularization": False, "width": 1, "height": 1, "format": "PNG", "path": "a.png",
    }  # fmt: skip
    (item,) = plan([entry], options_of({}), FORMATS["kohya"], trigger="", name="My / set")
    assert item.path == "img/999_My _ set/a.png"
    assert options_of(None) == ExportOptions.model_validate({})


def _sixteen_bit() -> bytes:
    import numpy as np

    out = io.BytesIO()
    Image.fromarray(np.linspace(0, 65535, 64 * 64).astype(np.uint16).reshape(64, 64)).save(out, "PNG")
    return out.getvalue()
