"""Pictures and captions as people really have them."""

from __future__ import annotations

import codecs
import io
import random
import shutil
from pathlib import Path

import pytest
from PIL import Image, ImageCms

from dalla.errors import InvalidInput
from dalla.training_set import has_word, open_rgb, read_text, scan, with_trigger


def noise(width: int, height: int, seed: int = 0, mode: str = "RGB") -> Image.Image:
    rng = random.Random(seed)
    image = Image.new("RGB", (8, 8))
    image.putdata([tuple(rng.randrange(256) for _ in range(3)) for _ in range(64)])
    return image.resize((width, height), Image.Resampling.NEAREST).convert(mode)


def problems(picture) -> set[str]:
    return {p["code"] for p in picture.problems}


def warnings(report) -> set[str]:
    return {w["code"] for w in report.warnings}


def one(folder: Path, **options):
    report = scan(folder, **{"resolution": 64, "bucket_step": 16, **options})
    assert len(report.pictures) == 1, report.skipped
    return report.pictures[0]


@pytest.mark.parametrize("turn", range(1, 9))
def test_phone_photos_are_turned_upright(tmp_path, turn):
    """The sensor's pixels are stored as taken; the tag says how to hold them."""
    upright = Image.new("RGB", (60, 90), "white")
    upright.paste((255, 0, 0), (0, 0, 60, 30))  # red above
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }  # fmt: skip
    stored = upright.transpose(undo[turn]) if turn in undo else upright
    exif = Image.Exif()
    exif[0x0112] = turn
    stored.save(tmp_path / "a.jpg", exif=exif, quality=95)
    picture = one(tmp_path)
    assert (picture.width, picture.height) == (60, 90)
    assert picture.bucket[1] > picture.bucket[0]
    assert picture.rotated is (turn != 1)
    image, _ = open_rgb(tmp_path / "a.jpg")
    assert image.getpixel((30, 10))[1] < 60 and image.getpixel((30, 80))[1] > 200


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparency_becomes_white_and_not_what_hid_under_it(tmp_path, mode):
    image = Image.new("RGBA", (64, 64), (0, 0, 0, 0))
    image.paste((200, 200, 200, 255), (0, 0, 64, 32))
    if mode == "P":
        image = image.quantize(4)
    elif mode == "LA":
        image = image.convert("LA")
    image.save(tmp_path / "a.png")
    picture = one(tmp_path)
    assert picture.alpha
    pixels, alpha = open_rgb(tmp_path / "a.png")
    assert pixels.getpixel((5, 60)) == (255, 255, 255)
    assert alpha.getpixel((5, 60)) == 0 and alpha.getpixel((5, 5)) == 255


def test_opaque_alpha_is_no_alpha(tmp_path):
    noise(64, 64, mode="RGBA").save(tmp_path / "a.png")
    assert not one(tmp_path).alpha


def test_cmyk_with_a_profile_and_sixteen_bits(tmp_path):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.new("CMYK", (64, 64), (0, 255, 255, 0)).save(tmp_path / "cmyk.jpg")
    noise(64, 64).save(tmp_path / "icc.png", icc_profile=profile)
    Image.new("I;16", (64, 64), 65535).save(tmp_path / "deep.png")
    report = scan(tmp_path, resolution=64, bucket_step=16)
    assert len(report.pictures) == 3
    assert open_rgb(tmp_path / "deep.png")[0].getpixel((3, 3)) == (255, 255, 255)
    red = open_rgb(tmp_path / "cmyk.jpg")[0].getpixel((3, 3))
    assert red[0] > 180 and red[1] < 80


@pytest.mark.parametrize("name", ["a.gif", "a.webp"])
def test_the_first_frame_of_an_animation(tmp_path, name):
    frames = [Image.new("RGB", (64, 64), c) for c in ("red", "blue")]
    frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], duration=100, lossless=True)
    one(tmp_path)
    assert open_rgb(tmp_path / name)[0].getpixel((3, 3))[0] > 200


def test_tiny_and_endless_pictures_have_a_place(tmp_path):
    noise(1, 1).save(tmp_path / "dot.png")
    noise(20_000, 4).save(tmp_path / "line.png")
    report = scan(tmp_path, resolution=64, bucket_step=16)
    by_name = {p.file: p for p in report.pictures}
    assert "upscaled" in problems(by_name["dot.png"])
    assert "heavy_crop" in problems(by_name["line.png"])
    assert {"too_small", "heavy_crop"} <= warnings(report)


def test_what_cannot_be_read_is_named_with_its_reason(tmp_path):
    good = io.BytesIO()
    noise(200, 200).save(good, "JPEG")
    (tmp_path / "cut.jpg").write_bytes(good.getvalue()[:2000])
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "words.png").write_text("this is no picture")
    (tmp_path / "phone.HEIC").write_bytes(b"\0\0\0\x18ftypheic")
    (tmp_path / "film.mp4").write_bytes(b"\0")
    (tmp_path / "notes.md").write_text("not meant")
    noise(64, 64).save(tmp_path / "good.PNG")
    report = scan(tmp_path, resolution=64, bucket_step=16)
    assert [p.file for p in report.pictures] == ["good.PNG"]
    reasons = {row["file"]: row["reason"] for row in report.skipped}
    assert set(reasons) == {"cut.jpg", "empty.png", "words.png", "phone.HEIC", "film.mp4"}
    assert "JPEG or PNG" in reasons["phone.HEIC"] and all(reasons.values())
    assert "skipped" in warnings(report)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ("Café, naïve".encode(), "Café, naïve"),
        (codecs.BOM_UTF8 + "Café".encode(), "Café"),
        ("Café – “x”".encode("cp1252"), "Café – “x”"),
        (codecs.BOM_UTF16_LE + "猫 cat".encode("utf-16-le"), "猫 cat"),
        (b"one\r\n two\n\n", "one two"),
        (b"\x00a\x07b", "a b"),
        (b"", ""),
    ],
)
def test_captions_in_every_encoding(tmp_path, data, text):
    noise(64, 64).save(tmp_path / "a.png")
    (tmp_path / "a.txt").write_bytes(data)
    assert read_text(tmp_path / "a.txt") == text
    picture = one(tmp_path)
    assert picture.caption == text
    assert (picture.caption_source == "none") is (text == "")


@pytest.mark.parametrize("name", ["ü.txt", "ü.caption", "ü.TXT", "ü.png.txt"])
def test_captions_beside_names_of_any_language(tmp_path, name):
    noise(64, 64).save(tmp_path / "ü.png")
    (tmp_path / name).write_text("a cat")
    picture = one(tmp_path)
    assert picture.file == "ü.png" and picture.caption == "a cat"
    assert picture.caption_source == ("caption" if name.endswith(".caption") else "txt")


def test_the_trigger_word_stands_in_every_caption(tmp_path):
    for number, words in enumerate(["a cat", "luna, a cat", "LUNA smiles", "lunatic", "", "[trigger] runs"]):
        noise(64, 64, number).save(tmp_path / f"{number}.png")
        (tmp_path / f"{number}.txt").write_text(words)
    report = scan(tmp_path, trigger_word="luna", class_word="cat", resolution=64, bucket_step=16)
    assert [p.caption for p in report.pictures] == [
        "luna, a cat", "luna, a cat", "LUNA smiles", "luna, lunatic", "luna, cat", "luna runs",
    ]  # fmt: skip
    assert [p.trigger_added for p in report.pictures] == [True, False, False, True, True, False]
    assert {"trigger_added", "captions_missing"} <= warnings(report)
    assert report.captions_found == 5


def test_whole_words_only():
    assert has_word("a Luna, b", "luna") and not has_word("lunatic", "luna") and has_word("x (luna)", "luna")
    assert with_trigger("", "", "cat") == ("cat", False)
    assert with_trigger("a cat", "", "") == ("a cat", False)


def test_without_captions_and_trigger_both_are_told(tmp_path):
    for number in range(6):
        noise(64, 64, number).save(tmp_path / f"{number}.png")
    assert {"no_captions", "no_trigger"} <= warnings(scan(tmp_path, resolution=64, bucket_step=16))


def test_copies_are_found_whatever_their_name_or_format(tmp_path):
    noise(64, 64, 1).save(tmp_path / "a.png")
    shutil.copy(tmp_path / "a.png", tmp_path / "b.png")
    noise(64, 64, 1).save(tmp_path / "c.jpg", quality=95, subsampling=0)
    noise(64, 64, 2).save(tmp_path / "d.png")
    report = scan(tmp_path, resolution=64, bucket_step=16)
    assert {p.file: p.duplicate_of for p in report.pictures} == {
        "a.png": None, "b.png": "a.png", "c.jpg": "a.png", "d.png": None,
    }  # fmt: skip
    assert [problems(p) & {"duplicate", "near_duplicate"} for p in report.pictures[1:3]] == [
        {"duplicate"}, {"near_duplicate"},
    ]  # fmt: skip
    assert "duplicates" in warnings(report)


def test_steps_count_every_short_batch(tmp_path):
    for number, size in enumerate([(64, 64)] * 5 + [(64, 128)]):
        noise(*size, number).save(tmp_path / f"{number}.png")
    report = scan(tmp_path, resolution=64, bucket_step=16, batch_size=4)
    assert [(r["pictures"], r["batches"]) for r in report.buckets] == [(1, 1), (5, 2)]
    assert report.steps_per_epoch == 3
    assert "bucket_smaller_than_batch" in warnings(report)
    assert scan(tmp_path, resolution=64, bucket_step=16, batch_size=4, repeats=4).steps_per_epoch == 6
    twice = scan(tmp_path, resolution=64, bucket_step=16, batch_size=4, gradient_accumulation=2)
    assert twice.steps_per_epoch == 2


def test_folders_with_a_number_repeat(tmp_path):
    (tmp_path / "10_luna woman").mkdir()
    (tmp_path / "raw").mkdir()
    noise(64, 64, 1).save(tmp_path / "10_luna woman" / "a.png")
    noise(64, 64, 2).save(tmp_path / "raw" / "b.png")
    picture = one(tmp_path)
    assert picture.repeats == 10 and picture.file == "10_luna woman/a.png"


def test_the_fingerprint_follows_pictures_and_captions(tmp_path):
    noise(64, 64, 1).save(tmp_path / "a.png")
    first = scan(tmp_path, resolution=64).fingerprint
    assert scan(tmp_path, resolution=64).fingerprint == first
    (tmp_path / "a.txt").write_text("a cat")
    second = scan(tmp_path, resolution=64).fingerprint
    noise(64, 64, 2).save(tmp_path / "a.png")
    assert len({first, second, scan(tmp_path, resolution=64).fingerprint}) == 3


def test_mask_files_are_not_pictures(tmp_path):
    noise(64, 64, 1).save(tmp_path / "a.png")
    Image.new("L", (64, 64), 255).save(tmp_path / "a-masklabel.png")
    assert one(tmp_path).mask == "a-masklabel.png"
    assert "masks_unused" in warnings(scan(tmp_path, resolution=64))
    assert "masks_unused" not in warnings(scan(tmp_path, resolution=64, masked_loss=True))
    noise(64, 64, 2).save(tmp_path / "b.png")
    (tmp_path / "a-masklabel.png").unlink()
    assert "no_masks" in warnings(scan(tmp_path, resolution=64, masked_loss=True))


def test_what_a_mask_or_transparency_shows_is_not_cropped_off(tmp_path):
    noise(40, 256, 1).save(tmp_path / "a.png")
    lost = one(tmp_path).box
    assert lost[1] > 0 and lost[3] < 256 and one(tmp_path).lost_fraction
    mask = Image.new("L", (20, 128), 0)
    mask.paste(255, (4, 108, 14, 126))  # the face, far below
    mask.save(tmp_path / "a-masklabel.png")
    box = one(tmp_path).box
    assert box[3] == 256 and box[3] - box[1] == lost[3] - lost[1]
    mask.paste(255, (0, 0, 20, 128))  # everything: tells nothing
    mask.save(tmp_path / "a-masklabel.png")
    assert one(tmp_path).box == lost
    mask.paste(0, (0, 0, 5, 128))  # somebody from head to foot: the head stays
    mask.save(tmp_path / "a-masklabel.png")
    assert one(tmp_path).box[1] == 0
    (tmp_path / "a-masklabel.png").unlink()
    cut = noise(40, 256, 1).convert("RGBA")
    alpha = Image.new("L", cut.size, 0)
    alpha.paste(255, (8, 230, 30, 250))
    cut.putalpha(alpha)
    cut.save(tmp_path / "a.png")
    assert one(tmp_path).box[3] == 256


def test_empty_and_missing_folders(tmp_path):
    report = scan(tmp_path)
    assert not report.pictures and warnings(report) == {"no_pictures"} and report.steps_per_epoch == 0
    with pytest.raises(InvalidInput, match="no folder"):
        scan(tmp_path / "nowhere")


def test_the_report_is_json_with_camel_case(tmp_path):
    noise(64, 64, 1).save(tmp_path / "a.png")
    row = scan(tmp_path, resolution=64).to_json()["pictures"][0]
    assert row["captionSource"] == "none" and row["duplicateOf"] is None and len(row["box"]) == 4
