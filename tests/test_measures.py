"""What is measured of a picture, and which pictures look alike. data/face.jpg is a NASA portrait (public domain)."""

from __future__ import annotations

import io
import random
from itertools import combinations
from pathlib import Path

import pytest
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageOps

from dalla.measures import (
    BLURRED,
    MAX_DISTANCE,
    SAME_PICTURE,
    groups_of,
    jpeg_quality,
    measure,
    near_pairs,
    pixel_sha256,
    sharpness,
)

FACE = Path(__file__).parent / "data" / "face.jpg"
KEYS = {
    "sharpness", "brightness", "contrast", "clippedDark", "clippedBright", "saturation", "dhash", "dhashMirror",
    "border", "aspect", "megapixels",
}  # fmt: skip


def hamming(a, b):
    """How many bits two hashes differ in."""
    return (int(a, 16) ^ int(b, 16)).bit_count()


def alike(rows, distance, separate=()):
    """The groups of rows (id, dhash, dhashMirror) whose pictures look alike."""
    return groups_of([row[0] for row in rows], near_pairs(rows, distance), separate)


@pytest.fixture(scope="module")
def face():
    with Image.open(FACE) as image:
        return image.convert("RGB")


def saved(image, format="JPEG", **options):
    out = io.BytesIO()
    image.save(out, format, **options)
    return out.getvalue()


def scene(seed, size=(640, 480)):
    """A picture of its own: overlapping shapes in random colours."""
    dice = random.Random(seed)
    image = Image.new("RGB", size, tuple(dice.randrange(256) for _ in range(3)))
    draw = ImageDraw.Draw(image)
    for _ in range(25):
        x, y = dice.randrange(size[0]), dice.randrange(size[1])
        w, h = dice.randrange(30, 300), dice.randrange(30, 300)
        draw.ellipse((x, y, x + w, y + h), tuple(dice.randrange(256) for _ in range(3)))
    return image


# ---------------------------------------------------------------- one picture


def test_everything_is_measured_and_fits_json(face):
    import json

    found = measure(face, FACE.read_bytes())
    assert set(found) == KEYS | {"jpegQuality"}
    assert json.loads(json.dumps(found)) == found
    assert found["aspect"] == 1.0 and found["megapixels"] == 0.0256
    assert len(found["dhash"]) == len(found["dhashMirror"]) == 16
    assert set(measure(face)) == KEYS, "without bytes there is no JPEG quality"


@pytest.mark.parametrize("quality", [30, 50, 75, 92, 100])
def test_the_quality_of_a_jpeg_is_told(face, quality):
    assert abs(jpeg_quality(saved(face, quality=quality)) - quality) <= 1


def test_no_quality_where_there_is_none(face):
    png = saved(face, "PNG")
    assert jpeg_quality(png) is None and jpeg_quality(b"") is None and jpeg_quality(b"\xff\xd8\xff\xdb\x00") is None
    assert "jpegQuality" not in measure(face, png)


def test_a_soft_picture_counts_as_blurred_and_a_sharp_one_does_not(face):
    large = face.resize((640, 640), Image.Resampling.LANCZOS).filter(ImageFilter.UnsharpMask(3, 300, 0))
    assert sharpness(large) > BLURRED
    assert sharpness(large.filter(ImageFilter.GaussianBlur(4))) < BLURRED
    assert measure(large)["sharpness"] == sharpness(large)


def test_sharpness_does_not_depend_on_the_number_of_pixels():
    image = scene(3, (1024, 768))
    assert sharpness(image.resize((4096, 3072), Image.Resampling.NEAREST)) == pytest.approx(sharpness(image), rel=0.35)


def test_light_and_colour():
    black, white = measure(Image.new("RGB", (50, 40))), measure(Image.new("RGB", (50, 40), "white"))
    assert (black["brightness"], black["clippedDark"], black["clippedBright"]) == (0, 1, 0)
    assert (white["brightness"], white["clippedDark"], white["clippedBright"]) == (255, 0, 1)
    assert measure(Image.new("RGB", (50, 40), (255, 0, 0)))["saturation"] == 1
    assert measure(Image.new("RGB", (50, 40), (90, 90, 90)))["saturation"] == 0
    half = Image.new("RGB", (50, 40))
    half.paste((255, 255, 255), (0, 0, 25, 40))
    assert measure(half)["contrast"] == pytest.approx(127.5, abs=0.1)


def test_transparency_stands_on_white():
    assert measure(Image.new("RGBA", (30, 30), (0, 0, 0, 0)))["brightness"] == 255


@pytest.mark.parametrize("size", [(1, 1), (1, 3000), (3000, 1), (2, 2), (5000, 20)])
def test_odd_sizes_are_measured(size):
    found = measure(Image.new("RGB", size, "teal"))
    assert found["sharpness"] == 0 and found["border"] == 0
    assert found["aspect"] == pytest.approx(size[0] / size[1], abs=1e-4)


def test_letterbox_is_seen_and_a_plain_sky_is_not():
    inner = scene(5, (640, 360))
    boxed = Image.new("RGB", (640, 480))
    boxed.paste(inner, (0, 60))
    assert measure(boxed)["border"] == pytest.approx(0.25, abs=0.02)
    assert measure(inner)["border"] == 0
    sky = Image.new("RGB", (640, 480), (90, 140, 220))
    sky.paste(scene(6, (640, 240)), (0, 240))
    assert measure(sky)["border"] == 0, "one plain side is no border"
    pillars = Image.new("RGB", (640, 480), "white")
    pillars.paste(scene(7, (400, 480)), (120, 0))
    assert measure(pillars)["border"] == pytest.approx(0.375, abs=0.02)


def test_equal_pixels_equal_hash_whatever_the_file(face):
    again = Image.open(io.BytesIO(saved(face, "PNG")))
    assert pixel_sha256(again) == pixel_sha256(face)
    assert pixel_sha256(face.convert("RGBA")) == pixel_sha256(face), "opaque alpha says nothing"
    turned = face.rotate(90, expand=True)
    assert pixel_sha256(turned) != pixel_sha256(face)
    strip = Image.new("RGB", (10, 20), "red")
    assert pixel_sha256(strip) != pixel_sha256(strip.rotate(90, expand=True)), "the shape counts"


# ---------------------------------------------------------------- hashes


@pytest.mark.parametrize("seed", range(4))
def test_the_same_picture_in_another_file_is_near_and_its_mirror_too(seed):
    image = scene(seed)
    base = measure(image)
    for change in (
        Image.open(io.BytesIO(saved(image, quality=40))),
        image.resize((320, 240), Image.Resampling.LANCZOS),
        ImageEnhance.Brightness(image).enhance(1.15),
    ):
        assert hamming(base["dhash"], measure(change)["dhash"]) <= SAME_PICTURE
    mirrored = measure(ImageOps.mirror(image))
    assert hamming(base["dhash"], mirrored["dhashMirror"]) <= 1
    assert hamming(base["dhash"], mirrored["dhash"]) > MAX_DISTANCE


def test_strangers_are_far_apart():
    hashes = [measure(scene(seed))["dhash"] for seed in range(12)]
    assert min(hamming(a, b) for a, b in combinations(hashes, 2)) > SAME_PICTURE


def brute(rows, distance):
    found = {}
    for (a, plain_a, mirror_a), (b, plain_b, mirror_b) in combinations(rows, 2):
        bits = min(hamming(plain_a, plain_b), hamming(plain_a, mirror_b), hamming(plain_b, mirror_a))
        if bits <= distance:
            found[(a, b)] = bits
    return found


@pytest.mark.parametrize("distance", [1, 3, 4, 5, 6, 8, 11, 12, 20])
def test_the_index_finds_what_comparing_all_with_all_finds(distance):
    dice = random.Random(distance)
    rows = []
    for number in range(60):
        plain, mirror = dice.getrandbits(64), dice.getrandbits(64)
        rows.append((f"a{number}", plain, mirror))
        for copy in range(3):  # copies that differ in 1 to 14 bits, every other one mirrored
            noise = sum(1 << bit for bit in dice.sample(range(64), dice.randrange(1, 15)))
            first, second = (plain ^ noise, mirror ^ noise)
            rows.append((f"a{number}_{copy}", *((second, first) if copy % 2 else (first, second))))
    dice.shuffle(rows)
    rows = [(id, f"{plain:016x}", f"{mirror:016x}") for id, plain, mirror in rows]
    order = {row[0]: place for place, row in enumerate(rows)}
    expected = brute(rows, distance)
    found = {(a, b): bits for a, b, bits in near_pairs(rows, distance)}
    assert found == expected and expected
    bits = [row[2] for row in near_pairs(rows, distance)]
    assert bits == sorted(bits)
    assert all(order[a] < order[b] for a, b in found)


def test_thousands_with_one_hash_are_one_group_without_all_pairs():
    rows = [(str(number), "123456789abcdef0", "0fedcba987654321") for number in range(5000)]
    assert len(near_pairs(rows, 12)) < 20_000
    (group,) = alike(rows, 0)
    assert group == [str(number) for number in range(5000)]


def test_plain_pictures_are_not_alike():
    rows = [(name, *(measure(Image.new("RGB", (40, 40), name))[key] for key in ("dhash", "dhashMirror"))) for name in ("red", "navy", "teal")]  # fmt: skip
    assert near_pairs(rows, 12) == []


def test_neighbours_of_neighbours_share_a_group_but_separate_ones_never_do():
    rows = [("a", "0" * 15 + "1", "f" * 16), ("b", "0" * 14 + "11", "f" * 16), ("c", "0" * 13 + "111", "f" * 16)]
    assert alike(rows, 1) == [["a", "b", "c"]]
    assert alike(rows, 1, {frozenset("ac")}) == [["a", "b"]]
    assert alike(rows, 1, {frozenset("ab"), frozenset("bc")}) == []


def test_said_to_be_the_same_at_any_distance():
    assert groups_of(["a", "b", "c"], [], same=[frozenset("ca")]) == [["a", "c"]]
    assert groups_of(["a", "b"], [], same=[frozenset("ax")]) == [], "one that is gone"


def test_nothing_to_compare():
    assert near_pairs([], 6) == [] and near_pairs([("a", "1" * 16, "2" * 16)], 6) == [] and groups_of([], []) == []


def test_an_exact_mirror_is_found_at_distance_zero():
    rows = [("a", "123456789abcdef0", "0fedcba987654321"), ("b", "0fedcba987654321", "123456789abcdef0")]
    assert near_pairs(rows, 0) == [("a", "b", 0)]
