"""Read pictures from anybody, safely, and make thumbnails. Pixels only; recipes are in recipes.py.

Every picture that enters passes `open_image`: its type is told by its content, its size is checked
before a pixel is decoded, it is turned as EXIF says and converted to sRGB.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from dalla.errors import InvalidInput, TooLarge, UnsupportedMedia

if TYPE_CHECKING:
    from PIL import Image

#: Refused above this many pixels: decoded RGB would need more than 300 MB.
MAX_PIXELS = 100_000_000
#: Refused above this many bytes before anything is parsed.
MAX_BYTES = 64 * 1024 * 1024
#: Longest side of the two thumbnails, px. "s" fills grids, "m" previews.
THUMBNAILS = {"s": 320, "m": 960}

_MIME = {
    "PNG": "image/png",
    "JPEG": "image/jpeg",
    "MPO": "image/jpeg",
    "WEBP": "image/webp",
    "GIF": "image/gif",
    "BMP": "image/bmp",
    "TIFF": "image/tiff",
    "AVIF": "image/avif",
    "HEIF": "image/heic",  # with pillow-heif only
}
EXTENSIONS = {
    "image/png": "png",
    "image/jpeg": "jpg",
    "image/webp": "webp",
    "image/gif": "gif",
    "image/bmp": "bmp",
    "image/tiff": "tif",
    "image/avif": "avif",
    "image/heic": "heic",
}


@dataclass(frozen=True)
class Picture:
    """A decoded picture: upright RGB(A) pixels in sRGB, and what the file was."""

    image: Image.Image
    mime: str
    width: int
    height: int


def open_image(data: bytes, *, name: str = "file") -> Picture:
    """Decode bytes into an upright sRGB picture (mode RGB or RGBA; the first frame of animations).

    Raises UnsupportedMedia (not a picture we read), TooLarge (bytes or pixels), InvalidInput (damaged).
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    if len(data) > MAX_BYTES:
        raise TooLarge(f"{name} has {len(data) / 1e6:.0f} MB; pictures may have {MAX_BYTES / 1e6:.0f} MB.")
    Image.MAX_IMAGE_PIXELS = None  # our own check below comes before decoding and has a clear message
    try:
        known = [name for name in _MIME if name != "MPO" and (name != "HEIF" or _reads_heif())]
        image = Image.open(io.BytesIO(data), formats=known)
    except UnidentifiedImageError:
        raise UnsupportedMedia(
            f"{name} is not a picture, whatever its name says.",
            remedy="Use PNG, JPEG, WebP, AVIF, GIF, BMP or TIFF.",
        ) from None
    except Exception as exc:  # noqa: BLE001 - as below
        raise InvalidInput(f"{name} is damaged and cannot be read: {exc}") from exc
    width, height = image.size
    if width * height > MAX_PIXELS or width < 1 or height < 1:
        raise TooLarge(
            f"{name} is {width} x {height} pixels; at most {MAX_PIXELS // 1_000_000} megapixels are read.",
            remedy="Make the picture smaller first.",
        )
    mime = _MIME[image.format or "PNG"]
    try:
        image.load()
        upright = ImageOps.exif_transpose(image)
        rgb = _to_srgb(upright)
    except Exception as exc:  # noqa: BLE001 - decoders raise whatever they like (RuntimeError, struct.error, TypeError)
        raise InvalidInput(f"{name} is damaged and cannot be read: {exc}") from exc
    return Picture(rgb, mime, rgb.width, rgb.height)


@cache
def _reads_heif() -> bool:
    """Whether HEIC can be read. The turn in the container is applied by the plugin, which then drops EXIF's."""
    try:
        import pillow_heif
    except ImportError:
        return False
    pillow_heif.register_heif_opener()
    return True


def _to_srgb(image: Image.Image) -> Image.Image:
    """Convert any mode and ICC profile to 8-bit sRGB, keeping transparency."""
    from PIL import ImageCms

    has_alpha = image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info
    profile = image.info.get("icc_profile")
    if image.mode in ("I;16", "I;16B", "I;16L", "I", "F"):
        # 16-bit grey: Pillow's own conversion clips instead of scaling.
        low, high = image.getextrema()
        top = 65535.0 if image.mode.startswith("I;16") or float(high) > 255 else 255.0  # type: ignore[arg-type]
        image = image.convert("F").point(lambda v: v * (255.0 / top)).convert("L")
        profile = None
    if profile and image.mode in ("RGB", "RGBA", "CMYK", "L"):
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            alpha = image.getchannel("A") if image.mode == "RGBA" else None
            colour = image.convert("RGB") if image.mode == "RGBA" else image
            converted = ImageCms.profileToProfile(
                colour,
                source,
                ImageCms.createProfile("sRGB"),
                outputMode="RGB",
                renderingIntent=ImageCms.Intent.PERCEPTUAL,
            )
            if converted is not None:
                if alpha is not None:
                    converted.putalpha(alpha)
                return converted
        except (ImageCms.PyCMSError, OSError, ValueError):
            pass  # a broken profile: the plain numbers are the best that is left
    target = "RGBA" if has_alpha else "RGB"
    return image if image.mode == target else image.convert(target)


def flatten(image: Image.Image, background: tuple[int, int, int] = (255, 255, 255)) -> Image.Image:
    """Put a picture with transparency on a plain background; return mode RGB."""
    from PIL import Image

    if image.mode != "RGBA":
        return image.convert("RGB")
    canvas = Image.new("RGB", image.size, background)
    canvas.paste(image, mask=image.getchannel("A"))
    return canvas


def to_png(image: Image.Image, *, level: int = 4) -> bytes:
    """Encode losslessly. Level 4 is half as slow as Pillow's default 6 for a few percent more bytes."""
    out = io.BytesIO()
    image.save(out, "PNG", compress_level=level)
    return out.getvalue()


def thumbnails(image: Image.Image) -> dict[str, bytes]:
    """Return {"s": webp, "m": webp}; a picture that is smaller already is not enlarged."""
    from PIL import Image

    result: dict[str, bytes] = {}
    source = image
    for size, longest in sorted(THUMBNAILS.items(), key=lambda item: -item[1]):
        thumb = source
        if max(source.size) > longest:
            scale = longest / max(source.size)
            box = (max(1, round(source.width * scale)), max(1, round(source.height * scale)))
            # reducing_gap: decode-size shortcut that cannot be told apart at these sizes
            thumb = source.resize(box, Image.Resampling.LANCZOS, reducing_gap=3.0)
        out = io.BytesIO()
        thumb.save(out, "WEBP", quality=82, method=2)
        result[size] = out.getvalue()
        source = thumb
    return result


def fit_cover(image: Image.Image, width: int, height: int) -> Image.Image:
    """Scale and centre-crop to exactly width x height px."""
    from PIL import Image, ImageOps

    return ImageOps.fit(image, (width, height), Image.Resampling.LANCZOS)
