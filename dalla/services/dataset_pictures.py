"""The bytes of one picture on its way into an export: as they are, or cut, scaled, mirrored, rewritten."""

from __future__ import annotations

import hashlib
import io
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from dalla import imaging
from dalla.bucketing import buckets, plan
from dalla.errors import InvalidInput, NotFound, StorageError
from dalla.services.dataset_formats import Entry, ExportOptions, Format, Item, kind_of, picture_format
from dalla.stores.base import BlobStore

if TYPE_CHECKING:
    from PIL import Image

Box = tuple[int, int, int, int]


@dataclass
class Rendered:
    """A picture as it is written, what was done to it, and its mask if it has one."""

    data: bytes
    width: int
    height: int
    transforms: list[str] = field(default_factory=list)
    mask: bytes | None = None


def read_entry(blobs: BlobStore, entry: Entry) -> bytes:
    """Return the bytes of a picture. Raises NotFound (gone), StorageError (cannot be read, or is another file now)."""
    try:
        data = blobs.get(entry["path"])
    except NotFound:
        raise NotFound(
            f"The file of {entry['filename']} is gone.", remedy="Check the dataset; import the picture again."
        ) from None
    if hashlib.sha256(data).hexdigest() != entry["sha256"]:
        raise StorageError(
            f"The file of {entry['filename']} has changed since this version was made.",
            remedy="Check the dataset and make a new version.",
        )
    return data


def read_mask(blobs: BlobStore, entry: Entry) -> bytes:
    """Return a mask as PNG. Raises NotFound (gone), StorageError (changed), InvalidInput (damaged)."""
    named = f"the mask of {entry['filename']}"
    data = read_entry(blobs, {**entry, "filename": named})
    return (
        data if data.startswith(b"\x89PNG") else imaging.to_png(imaging.open_image(data, name=named).image.convert("L"))
    )


def render(
    data: bytes, item: Item, options: ExportOptions, format: Format, *,
    focus: tuple[float, float] | None = None, mask: bytes | None = None,
) -> Rendered:  # fmt: skip
    """Return a picture as the options want it; untouched, it keeps every byte.

    `focus` is a point (a face) as shares of width and height that a cut keeps. Raises what `open_image` raises.
    """
    entry = item.entry
    kind, wanted = kind_of(entry), picture_format(entry, options, format)
    done: list[str] = []
    misread = _misread(data, item.path) if options.upright else []
    if not (options.makes_pixels or item.mirrored or wanted != kind or misread):
        plain = data
        if options.strip_metadata:
            stripped = strip_metadata(data)
            if stripped is None:
                return _rewrite(data, item, options, wanted, [], focus, mask)
            if stripped != data:
                plain = stripped
                done.append("metadata removed")
        return Rendered(plain, int(entry["width"]), int(entry["height"]), done, mask)
    return _rewrite(data, item, options, wanted, misread, focus, mask)


def _rewrite(
    data: bytes, item: Item, options: ExportOptions, wanted: str, misread: list[str],
    focus: tuple[float, float] | None, mask: bytes | None,
) -> Rendered:  # fmt: skip
    from PIL import Image, ImageOps

    image = imaging.open_image(data, name=item.entry["filename"]).image
    done = list(misread)
    steps: list[Callable[[Image.Image], Image.Image]] = []
    box, size = _cut(image.size, options, focus)
    if box is not None and box != (0, 0, *image.size):
        done.append("cut {},{},{},{}".format(*box))
        steps.append(lambda picture: picture.crop(box))
    if size is not None and size != ((box[2] - box[0], box[3] - box[1]) if box else image.size):
        done.append("scaled to {}x{}".format(*size))
        steps.append(lambda picture: picture.resize(size, Image.Resampling.LANCZOS))
    if item.mirrored:
        done.append("mirrored")
        steps.append(ImageOps.mirror)
    seen = None
    if mask is not None:
        seen = imaging.open_image(mask, name="mask").image.convert("L")
        if seen.size != image.size:
            seen = seen.resize(image.size, Image.Resampling.LANCZOS)
    for step in steps:
        image = step(image)
        seen = step(seen) if seen is not None else None
    kind = kind_of(item.entry)
    if wanted != kind:
        done.append(f"{wanted} instead of {kind}")
    quality = f", quality {options.quality}" if wanted in ("JPEG", "WEBP") else ""
    done.append(f"written as {wanted}{quality}")
    return Rendered(
        encode(image, wanted, options.quality), image.width, image.height, done,
        None if seen is None else mask if not steps and seen.size == image.size else encode(seen, "PNG", 100),
    )  # fmt: skip


def _cut(
    size: tuple[int, int], options: ExportOptions, focus: tuple[float, float] | None
) -> tuple[Box | None, tuple[int, int] | None]:
    """Return (the part that is kept or None, the size it is brought to or None), in px."""
    width, height = size
    if options.resize == "fit":
        scale = options.resolution / max(width, height)
        if scale < 1 or (scale > 1 and options.enlarge):
            return None, (max(1, round(width * scale)), max(1, round(height * scale)))
        return None, None
    if options.resize == "buckets":
        crop = plan(width, height, buckets(options.resolution, options.bucket_step), focus=focus)
        if crop.scale <= 1 or options.enlarge:
            return crop.box, crop.bucket
        return crop.box, None  # too small: cut to the bucket's shape only
    return None, None


def encode(image: Image.Image, format: str, quality: int) -> bytes:
    """Return the file, without any metadata. Equal pixels give equal bytes on one machine."""
    image = image.copy()
    image.info.clear()  # a profile or a comment of the file it came from
    out = io.BytesIO()
    if format == "PNG":
        return imaging.to_png(image)
    if format == "JPEG":
        imaging.flatten(image).save(out, "JPEG", quality=quality, subsampling=0 if quality >= 90 else 2, optimize=True)
    elif format == "WEBP":
        image.save(out, "WEBP", quality=quality, method=4, exact=True)
    else:
        image.save(out, format)
    return out.getvalue()


def _misread(data: bytes, name: str) -> list[str]:
    """Say what a program that looks at plain pixels only would get wrong: EXIF turn, CMYK, 16 bit, other colours."""
    from PIL import Image, ImageCms

    try:
        with Image.open(io.BytesIO(data)) as image:
            found = []
            if image.getexif().get(0x0112, 1) not in (0, 1):
                found.append("turned upright")
            if image.mode not in ("RGB", "RGBA", "L", "LA", "P", "PA", "1"):
                found.append(f"{image.mode} to RGB")
            elif profile := image.info.get("icc_profile"):
                try:
                    words = ImageCms.getProfileDescription(ImageCms.ImageCmsProfile(io.BytesIO(profile)))
                    if "srgb" not in words.lower():
                        found.append("colours to sRGB")
                except (ImageCms.PyCMSError, OSError, ValueError):
                    pass  # a broken profile: everybody reads the plain numbers
            return found
    except Exception as exc:  # noqa: BLE001 - decoders raise whatever they like
        raise InvalidInput(f"{name} is damaged and cannot be read: {exc}") from exc


# ---------------------------------------------------------------- metadata


def strip_metadata(data: bytes) -> bytes | None:
    """Return JPEG, PNG or WebP bytes without EXIF, XMP, comments and recipes, pixels and colour profile untouched.

    None: this kind of file has to be rewritten. Raises InvalidInput for a file that ends too early.
    """
    try:
        if data[:2] == b"\xff\xd8":
            return _strip_jpeg(data)
        if data[:8] == b"\x89PNG\r\n\x1a\n":
            return _strip_png(data)
        if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
            return _strip_webp(data)
    except (struct.error, IndexError) as exc:
        raise InvalidInput("The picture ends too early; its metadata cannot be removed.") from exc
    return None


def _strip_jpeg(data: bytes) -> bytes:
    out, at = [data[:2]], 2
    while at + 1 < len(data):
        marker = data[at + 1]
        if marker == 0xFF:  # padding
            at += 1
            continue
        if marker == 0xD9:  # what phones put behind the end (previews, depth maps) goes as well
            out.append(b"\xff\xd9")
            break
        size = struct.unpack(">H", data[at + 2 : at + 4])[0]
        part = data[at : at + 2 + size]
        profile = marker == 0xE2 and part[4:15] == b"ICC_PROFILE"
        if marker in (0xE0, 0xEE) or profile or not (0xE1 <= marker <= 0xEF or marker == 0xFE):
            out.append(part)
        at += 2 + size
        if marker == 0xDA:
            start, at = at, _scan_end(data, at)
            out.append(data[start:at])
    return b"".join(out)


def _scan_end(data: bytes, at: int) -> int:
    """Return where the next marker after coded pixels stands."""
    while (at := data.find(b"\xff", at)) >= 0 and at + 1 < len(data):
        if data[at + 1] != 0 and not 0xD0 <= data[at + 1] <= 0xD7:
            return at
        at += 2
    return len(data)


def _strip_png(data: bytes) -> bytes:
    keep = {b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"gAMA", b"cHRM", b"sRGB", b"iCCP", b"sBIT", b"cICP", b"pHYs"}
    out, at = [data[:8]], 8
    while at + 8 <= len(data):
        size = struct.unpack(">I", data[at : at + 4])[0]
        name = data[at + 4 : at + 8]
        if name in keep:
            out.append(data[at : at + 12 + size])
        at += 12 + size
        if name == b"IEND":
            break
    return b"".join(out)


def _strip_webp(data: bytes) -> bytes:
    out, at = [], 12
    while at + 8 <= len(data):
        name, size = data[at : at + 4], struct.unpack("<I", data[at + 4 : at + 8])[0]
        part = data[at : at + 8 + size + size % 2]
        if name == b"VP8X":
            part = part[:8] + bytes([part[8] & ~0x0C]) + part[9:]  # no EXIF, no XMP
        if name not in (b"EXIF", b"XMP "):
            out.append(part)
        at += len(part) if part else 8
    body = b"".join(out)
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WEBP" + body


def focus_of(entry: dict[str, Any], faces: list[dict[str, Any]] | None) -> tuple[float, float] | None:
    """Return the middle of the largest face as shares of width and height, None without a face."""
    boxes = [box for box in faces or [] if box.get("width") and box.get("height")]
    if not boxes or not entry["width"] or not entry["height"]:
        return None
    box = max(boxes, key=lambda b: (b["width"] * b["height"], -b["x"]))
    return (
        round(min(1.0, max(0.0, (box["x"] + box["width"] / 2) / entry["width"])), 4),
        round(min(1.0, max(0.0, (box["y"] + box["height"] / 2) / entry["height"])), 4),
    )
