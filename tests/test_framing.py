"""Pictures as they go to a platform: the bytes themselves are looked at."""

from __future__ import annotations

import dataclasses
import hashlib
import io

import pytest
from PIL import Image, ImageCms

from dalla import framing
from dalla.errors import InvalidInput, TooLarge
from dalla.imaging import open_image
from dalla.platforms.x import X
from dalla.records.platform import ImageRules
from dalla.records.post import PostOptions

INSTAGRAM = ImageRules(0.8, 1.91, ("4:5", "1:1", "1.91:1"), 320, 1440, 1920, 8_000_000, 10, "9:16")
SIZES = [
    (832, 1216), (896, 1152), (768, 1024), (1024, 1024), (4000, 1000), (64, 64), (64, 2000), (2000, 64), (1080, 1350),
    (1080, 1351), (1079, 1350), (1000, 524), (1000, 523), (1440, 754), (3000, 3751), (1, 1), (319, 399), (1441, 1441),
]  # fmt: skip


def picture(width: int, height: int, mode: str = "RGB") -> Image.Image:
    """A gradient with a red frame, so that cuts and scaling can be seen."""
    image = Image.linear_gradient("L").resize((width, height)).convert("RGB")
    image.paste((40, 90, 160), (width // 4, height // 4, max(1, width // 2), max(1, height // 2)))
    return image.convert(mode)


def noise(width: int, height: int) -> Image.Image:
    data = b"".join(hashlib.shake_256(bytes([i])).digest(width * height) for i in range(3))
    return Image.merge("RGB", [Image.frombytes("L", (width, height), data[i::3][: width * height]) for i in range(3)])


def markers(data: bytes) -> list[tuple[int, bytes]]:
    """The segments of a JPEG up to the pixels: (marker, content)."""
    assert data[:2] == b"\xff\xd8"
    found, i = [], 2
    while data[i + 1] != 0xDA:
        assert data[i] == 0xFF
        size = int.from_bytes(data[i + 2 : i + 4], "big")
        found.append((data[i + 1], data[i + 4 : i + 2 + size]))
        i += 2 + size
    return found


def check_bytes(framed: framing.Framed, rules: ImageRules = INSTAGRAM) -> Image.Image:
    """What every platform needs, read from the bytes."""
    assert framed.mime == "image/jpeg" and len(framed.data) <= rules.max_bytes
    kinds = [kind for kind, _ in markers(framed.data)]
    assert 0xC0 in kinds and 0xC2 not in kinds, "baseline, not progressive"
    assert not {0xE1, 0xE2, 0xED, 0xFE} & set(kinds), "no EXIF, XMP, ICC, IPTC, comment"
    assert kinds.count(0xE0) == 1
    (frame,) = [content for kind, content in markers(framed.data) if kind == 0xC0]
    assert frame[5] == 3 and frame[7] in (0x11, 0x22), "three components, 4:4:4 or 4:2:0"
    image = Image.open(io.BytesIO(framed.data))
    image.load()
    assert image.size == (framed.width, framed.height) and image.mode == "RGB"
    return image


@pytest.mark.parametrize("fit", ["pad", "crop"])
@pytest.mark.parametrize("size", SIZES, ids=lambda s: f"{s[0]}x{s[1]}")
def test_every_picture_is_acceptable_to_instagram(size, fit):
    framed = framing.prepare(picture(*size), INSTAGRAM, options=PostOptions(fit=fit))
    check_bytes(framed)
    assert 0.8 <= framed.width / framed.height <= 1.91
    assert 320 <= framed.width <= 1440


@pytest.mark.parametrize(
    ("size", "wanted", "note"),
    [
        ((832, 1216), (972, 1215), "padded from 832 × 1216 to 4:5"),
        ((896, 1152), (920, 1150), "padded from 896 × 1152 to 4:5"),
        ((768, 1024), (816, 1020), "padded from 768 × 1024 to 4:5"),
        ((4000, 1000), (1440, 754), "padded from 4000 × 1000 to 1.91:1"),
        ((64, 64), (320, 320), "scaled from 64 × 64 to 320 × 320"),
        ((3000, 3750), (1440, 1800), "scaled from 3000 × 3750 to 1440 × 1800"),
    ],
)
def test_sizes(size, wanted, note):
    framed = framing.prepare(picture(*size), INSTAGRAM)
    assert (framed.width, framed.height) == wanted
    assert framed.notes[0] == note


@pytest.mark.parametrize("size", [(1024, 1024), (1080, 1350), (1440, 754), (1200, 800)])
def test_what_is_acceptable_is_left_alone(size):
    for fit in ("pad", "crop"):
        framed = framing.prepare(picture(*size), INSTAGRAM, options=PostOptions(fit=fit))
        assert (framed.width, framed.height, framed.notes) == (*size, [])


def test_wishes_beyond_the_platform_are_brought_to_its_edge():
    framed = framing.prepare(picture(1000, 1000), INSTAGRAM, options=PostOptions(ratio="9:16"))
    assert framed.ratio == 0.8
    square = framing.prepare(picture(832, 1216), INSTAGRAM, options=PostOptions(ratio="1:1", fit="crop"))
    assert (square.width, square.height) == (832, 832)
    for bad in ("x", "0:1", "4:0", "", "1:100", "nan:1"):
        if bad:
            with pytest.raises(InvalidInput):
                framing.prepare(picture(10, 10), INSTAGRAM, options=PostOptions(ratio=bad))


@pytest.mark.parametrize("size", [(832, 1216), (1216, 832), (64, 64), (2160, 3840)])
def test_stories_fill_the_screen(size):
    framed = framing.prepare(picture(*size), INSTAGRAM, kind="story")
    check_bytes(framed)
    assert (framed.width, framed.height) == (1080, 1920)


def test_a_carousel_takes_the_ratio_of_the_first():
    first = framing.prepare(picture(832, 1216), INSTAGRAM, kind="carousel")
    for size in SIZES:
        other = framing.prepare(picture(*size), INSTAGRAM, kind="carousel", ratio=first.ratio)
        assert abs(other.ratio - first.ratio) < 0.003, size
        check_bytes(other)


def test_padding_keeps_the_whole_picture():
    image = Image.new("RGB", (600, 1200), (250, 0, 0))
    for background, wanted in (("white", 255), ("black", 0)):
        out = check_bytes(framing.prepare(image, INSTAGRAM, options=PostOptions(background=background)))
        assert out.size == (960, 1200)
        assert all(abs(c - wanted) < 6 for c in out.getpixel((20, 600)))
        red = out.crop((185, 5, 775, 1195))
        assert red.getextrema()[0][0] > 235 and red.getextrema()[1][1] < 20
    out = check_bytes(framing.prepare(image, INSTAGRAM))
    edge = out.getpixel((20, 600))
    assert edge[0] > edge[1] + 80 and edge[0] < 240  # its own colour, darker


def test_transparency_lies_on_the_background():
    image = Image.new("RGBA", (400, 400), (255, 0, 0, 0))
    for background, wanted in (("white", 255), ("black", 0), ("blur", 255)):
        out = check_bytes(framing.prepare(image, INSTAGRAM, options=PostOptions(background=background)))
        assert all(abs(c - wanted) < 4 for c in out.getpixel((200, 200)))


def test_nothing_of_the_file_travels_along():
    out = io.BytesIO()
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif = Image.Exif()
    exif[0x010E] = "secret prompt"
    picture(1080, 1350).save(out, "JPEG", exif=exif, icc_profile=profile, comment=b"secret workflow")
    framed = framing.prepare(open_image(out.getvalue()).image, INSTAGRAM)
    check_bytes(framed)
    assert b"secret" not in framed.data
    image = picture(1080, 1350)
    image.info["comment"] = b"secret workflow"
    image.info["icc_profile"] = profile
    check_bytes(framing.prepare(image, INSTAGRAM))
    assert image.info["comment"]  # the caller's picture is untouched


def test_equal_input_gives_equal_bytes():
    for options in (PostOptions(), PostOptions(fit="crop"), PostOptions(background="white")):
        a, b = (framing.prepare(picture(832, 1216), INSTAGRAM, options=options) for _ in range(2))
        assert a.data == b.data and a.notes == b.notes


def test_a_ten_megabyte_png():
    source = io.BytesIO()
    noise(1900, 1900).save(source, "PNG", compress_level=1)
    assert len(source.getvalue()) > 10_000_000
    framed = framing.prepare(open_image(source.getvalue()).image, INSTAGRAM)
    check_bytes(framed)
    assert (framed.width, framed.height) == (1440, 1440)


def test_quality_goes_before_size():
    image = noise(900, 900)
    full = framing.prepare(image, INSTAGRAM)
    rules = dataclasses.replace(INSTAGRAM, max_bytes=len(full.data) // 2)
    framed = framing.prepare(image, rules)
    check_bytes(framed, rules)
    assert (framed.width, framed.height) == (900, 900) and "quality" in framed.notes[0]
    rules = dataclasses.replace(INSTAGRAM, max_bytes=120_000)
    framed = framing.prepare(image, rules)
    check_bytes(framed, rules)
    assert 320 <= framed.width < 900 and framed.ratio == 1 and "made smaller" in framed.notes[0]
    with pytest.raises(TooLarge):
        framing.prepare(image, dataclasses.replace(INSTAGRAM, max_bytes=5_000))


def test_x_takes_what_instagram_does_not():
    rules = X.info.images
    for size in [(832, 1216), (64, 64), (1000, 300)]:
        framed = framing.prepare(picture(*size), rules)
        check_bytes(framed, rules)
        assert (framed.width, framed.height, framed.notes) == (*size, [])
    large = framing.prepare(noise(3000, 3000), rules)
    check_bytes(large, rules)


# ------------------------------------------------------------ crops


def inside(box, face, slack=1):
    return (
        box[0] - slack <= face[0]
        and box[1] - slack <= face[1]
        and face[0] + face[2] <= box[2] + slack
        and face[1] + face[3] <= box[3] + slack
    )


@pytest.mark.parametrize("x", [0, 200, 900, 1800])
def test_a_crop_keeps_the_face(x):
    face = (x, 100, 200, 250)
    box = framing.crop_box(2000, 1000, 0.8, faces=[face])
    assert (box[2] - box[0], box[3] - box[1]) == (800, 1000) and inside(box, face)
    tall = framing.crop_box(1000, 3000, 0.8, faces=[(100, x, 200, 250)])
    assert tall[3] - tall[1] == 1250 and inside(tall, (100, x, 200, 250))


def test_a_face_sits_in_the_upper_half_of_a_tall_cut_with_room_for_hair():
    box = framing.crop_box(1000, 3000, 0.8, faces=[(400, 1500, 200, 200)])
    above = 1500 - box[1]
    assert 120 <= above <= 550


def test_all_faces_are_kept_when_they_fit_else_the_largest():
    near = [(300, 100, 100, 100), (900, 100, 100, 100)]
    assert all(inside(framing.crop_box(2000, 1000, 0.8, faces=near), f) for f in near)
    far = [(0, 100, 150, 150), (1200, 100, 300, 300), (1700, 100, 100, 100)]
    box = framing.crop_box(2000, 1000, 0.8, faces=far)
    assert inside(box, far[1])
    assert not inside(box, far[0])


def test_a_face_larger_than_the_cut_is_centred():
    box = framing.crop_box(1000, 1000, 1.91, faces=[(100, 100, 800, 800)])
    assert abs((box[1] + box[3]) / 2 - 500) <= 1


def test_focus_goes_before_faces_and_the_middle_is_the_default():
    face = [(0, 0, 100, 100)]
    assert framing.crop_box(2000, 1000, 0.8, faces=face, focus=[1.0, 0.5])[2] == 2000
    assert framing.crop_box(2000, 1000, 0.8, focus=[0.5, 0.5]) == (600, 0, 1400, 1000)
    assert framing.crop_box(2000, 1000, 0.8) == (600, 0, 1400, 1000)
    assert framing.crop_box(2000, 1000, 0.8, focus=[-3, 9])[0] == 0


def test_the_pixels_are_those_of_the_cut():
    image = Image.new("RGB", (2000, 1000), "black")
    image.paste((255, 255, 255), (1700, 300, 1900, 500))
    out = check_bytes(
        framing.prepare(image, INSTAGRAM, options=PostOptions(fit="crop", ratio="4:5"), faces=[(1700, 300, 200, 200)])
    )
    assert out.size == (800, 1000)
    white = sum(1 for v in out.convert("L").tobytes() if v > 200)
    assert abs(white - 200 * 200) < 800


def test_labels():
    assert [framing.ratio_label(v) for v in (0.8, 1, 9 / 16, 1.91, 0.684)] == ["4:5", "1:1", "9:16", "1.91:1", "1:1.46"]
    assert framing.parse_ratio("1.91:1") == 1.91 and framing.parse_ratio("9:16") == 0.5625
