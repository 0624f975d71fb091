"""Pictures from anybody: modes, turns, profiles, damage, bombs; and thumbnails."""

from __future__ import annotations

import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, PngImagePlugin

from dalla import imaging
from dalla.errors import DallaError, InvalidInput, TooLarge, UnsupportedMedia
from tests.conftest import png


def encode(image: Image.Image, form: str, **save) -> bytes:
    out = io.BytesIO()
    image.save(out, form, **save)
    return out.getvalue()


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF"])
def test_formats_are_told_by_content(form):
    picture = imaging.open_image(encode(Image.new("RGB", (40, 30), (10, 200, 30)), form))
    assert picture.mime == f"image/{form.lower()}" and picture.image.size == (40, 30)
    red, green, blue = picture.image.convert("RGB").getpixel((5, 5))
    assert abs(red - 10) < 12 and abs(green - 200) < 12 and abs(blue - 30) < 12


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "I;16", "F"])
def test_every_mode_becomes_rgb_or_rgba(mode):
    image = Image.new("RGBA" if mode in ("LA", "RGBA") else "RGB", (8, 8), (255, 255, 255))
    image = Image.new("I;16", (8, 8), 65535) if mode == "I;16" else image.convert(mode)
    picture = imaging.open_image(encode(image, "TIFF"))
    assert picture.image.mode in ("RGB", "RGBA")
    assert min(picture.image.convert("RGB").getpixel((4, 4))) >= 250


def test_sixteen_bit_grey_is_scaled_and_not_clipped():
    grey = Image.new("I;16", (4, 4), 32768)
    value = imaging.open_image(encode(grey, "PNG")).image.getpixel((1, 1))[0]
    assert 126 <= value <= 129


def test_exif_turn_is_applied():
    image = Image.new("RGB", (40, 20), "red")
    exif = Image.Exif()
    exif[0x0112] = 6  # turned a quarter
    assert imaging.open_image(encode(image, "JPEG", exif=exif)).image.size == (20, 40)


def test_profiles_are_converted_and_transparency_stays():
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    image = Image.new("RGBA", (8, 8), (10, 20, 30, 77))
    picture = imaging.open_image(encode(image, "PNG", icc_profile=lab))
    assert picture.image.mode == "RGBA" and picture.image.getpixel((1, 1))[3] == 77
    broken = imaging.open_image(encode(image, "PNG", icc_profile=b"not a profile"))
    assert broken.image.getpixel((1, 1)) == (10, 20, 30, 77)


def test_limits_come_before_decoding():
    with pytest.raises(TooLarge, match="megapixels"):
        imaging.open_image(encode(Image.new("1", (20_000, 6_000)), "PNG"))
    with pytest.raises(TooLarge):
        imaging.open_image(b"\x89PNG" + b"\0" * (imaging.MAX_BYTES + 1))
    with pytest.raises(UnsupportedMedia):
        imaging.open_image(b"%PDF-1.4")


@settings(deadline=None)
@given(st.binary(max_size=200), st.integers(0, 100))
def test_damage_is_an_error_of_ours_or_still_a_picture(noise, at):
    good = png(size=(16, 16))
    data = good[:at] + noise + good[at + len(noise) :]
    try:
        imaging.open_image(data)
    except DallaError:
        pass


def test_thumbnails_have_the_right_sizes_and_are_never_larger():
    thumbs = imaging.thumbnails(Image.new("RGB", (3000, 1500), "blue"))
    sizes = {name: Image.open(io.BytesIO(data)).size for name, data in thumbs.items()}
    assert sizes == {"s": (320, 160), "m": (960, 480)}
    small = imaging.thumbnails(Image.new("RGBA", (100, 50)))
    assert Image.open(io.BytesIO(small["m"])).size == (100, 50)
    line = imaging.thumbnails(Image.new("RGB", (5000, 1), "red"))
    assert Image.open(io.BytesIO(line["s"])).size == (320, 1)


def test_whatever_a_decoder_raises_is_a_damaged_picture(monkeypatch):
    def broken(self):
        raise RuntimeError("Failed to decode frame 0")  # as the AVIF decoder does

    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", broken)
    with pytest.raises(InvalidInput, match="damaged"):
        imaging.open_image(png())
