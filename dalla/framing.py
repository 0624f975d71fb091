"""Fit a picture to a platform: ratio by padding or cropping, size, and a JPEG every platform takes.

`prepare` answers the very bytes that are sent: baseline sRGB JPEG without any metadata. The same
input gives the same bytes, so a preview and the later publication cannot differ.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import TYPE_CHECKING

from dalla.errors import InvalidInput, TooLarge
from dalla.imaging import flatten
from dalla.records.platform import ImageRules
from dalla.records.post import PostOptions

if TYPE_CHECKING:
    from PIL import Image

#: x, y, width, height in px of the picture as given.
Box = tuple[float, float, float, float]

#: Tried in this order until the file is small enough. Colour is kept in full (4:4:4) at the best one only.
QUALITIES = (92, 88, 84, 80, 75, 70, 64)
#: Stories fill a phone's screen: 1080x1920 at 9:16.
STORY_WIDTH = 1080
_BACKGROUNDS = {"white": (255, 255, 255), "black": (0, 0, 0), "blur": (255, 255, 255)}


@dataclass(frozen=True)
class Framed:
    """A picture ready to be sent. `notes` say in words what was done to it."""

    data: bytes
    width: int
    height: int
    mime: str = "image/jpeg"
    notes: list[str] = field(default_factory=list)

    @property
    def ratio(self) -> float:
        """Width / height; what the other pictures of a carousel are given."""
        return self.width / self.height


def prepare(
    image: Image.Image,
    rules: ImageRules,
    *,
    kind: str = "single",
    options: PostOptions | None = None,
    faces: Sequence[Box] = (),
    ratio: float | None = None,
) -> Framed:
    """Return the picture as it goes to the platform.

    Args:
        image: upright sRGB pixels, mode RGB or RGBA (as `imaging.open_image` gives them).
        kind: "single", "carousel" or "story"; a story takes `rules.story_ratio` where there is one, 1080 px wide.
        faces: boxes in px that a crop keeps in frame. `options.focus` goes before them.
        ratio: width / height to meet, e.g. that of the first picture of a carousel.

    A picture whose ratio and width are acceptable is neither padded, cropped nor scaled.

    Raises InvalidInput (options.ratio cannot be read), TooLarge (cannot be made small enough).
    """
    options = options or PostOptions()
    original = f"{image.width} × {image.height}"
    notes: list[str] = []
    flat = _opaque(image, options)
    target = _target(flat.width / flat.height, rules, kind, options, ratio)
    inside = (0.0, math.inf) if kind == "story" and rules.story_ratio else (rules.min_ratio, rules.max_ratio)
    if inside[0] == 0.0:
        screen = min(STORY_WIDTH, rules.max_width)
        rules = replace(rules, min_width=screen, max_width=screen, max_height=20 * screen)
    label = ratio_label(target)
    if _meets(flat.width, flat.height, target):
        size = _size(flat.width, flat.height, None, rules, inside)
        framed = _scaled(flat, size)
        if size != flat.size:
            notes.append(f"scaled from {original} to {size[0]} × {size[1]}")
    elif options.fit == "crop":
        box = crop_box(flat.width, flat.height, target, faces=faces, focus=options.focus)
        size = _size(box[2] - box[0], box[3] - box[1], target, rules, inside)
        framed = _scaled(flat, size, box)
        notes.append(f"cropped from {original} to {label}")
        if size[0] > box[2] - box[0] + 1:
            notes.append(f"enlarged to {size[0]} × {size[1]}")
    else:
        width, height = _surround(flat.width, flat.height, target)
        size = _size(width, height, target, rules, inside)
        framed = _padded(flat, size, options.background)
        notes.append(f"padded from {original} to {label}")
        if size[0] > width + 1:
            notes.append(f"enlarged to {size[0]} × {size[1]}")
    if max(image.width, image.height) * 2 < max(framed.size):
        notes.append("the picture is small and will look soft")
    return _encode(framed, rules, inside, notes)


def parse_ratio(text: str) -> float:
    """Read "4:5" or "1.91:1" as width / height. Raises InvalidInput."""
    try:
        width, _, height = text.partition(":")
        value = float(width) / float(height or 1)
    except (ValueError, ZeroDivisionError):
        value = 0.0
    if not 0.05 <= value <= 20:
        raise InvalidInput.field(
            "options.ratio", f"'{text}' is no ratio.", remedy="Write it as width:height, e.g. 4:5."
        )
    return value


def ratio_label(value: float) -> str:
    """Name a ratio as people do: 4:5, 1:1, 9:16, else 1.91:1 or 1:1.46."""
    exact = Fraction(value).limit_denominator(16)
    if exact.numerator <= 16 and abs(float(exact) - value) < 0.0005:
        return f"{exact.numerator}:{exact.denominator}"
    return f"{value:.2f}:1" if value >= 1 else f"1:{1 / value:.2f}"


def crop_box(
    width: int, height: int, target: float, *, faces: Sequence[Box] = (), focus: Sequence[float] | None = None
) -> tuple[int, int, int, int]:
    """Return left, top, right, bottom in px of the largest cut with the ratio, placed around what matters.

    All faces stay whole where they fit; otherwise the largest one does. Without faces and focus the middle stays.
    """
    if width / height > target:  # too wide: cut left and right
        length = min(width, max(1, round(height * target)))
        start = _place(
            width, length, [(f[0], f[0] + f[2], f[2] * f[3]) for f in faces], _at(focus, 0), (0.25, 0.25), 0.5
        )
        return start, 0, start + length, height
    length = min(height, max(1, round(width / target)))
    # Above a face box there is hair, so more room is kept there than below the chin; what is left shows the body.
    start = _place(height, length, [(f[1], f[1] + f[3], f[2] * f[3]) for f in faces], _at(focus, 1), (0.6, 0.3), 0.3)
    return 0, start, width, start + length


# ---------------------------------------------------------------- geometry


def _at(focus: Sequence[float] | None, axis: int) -> float | None:
    return min(1.0, max(0.0, float(focus[axis]))) if focus and len(focus) > axis else None


def _place(
    total: int,
    length: int,
    spans: list[tuple[float, float, float]],
    focus: float | None,
    margin: tuple[float, float],
    share: float,
) -> int:
    """Return where a window of `length` begins on a line of `total` px.

    spans: start, end and weight of each face. margin: air before and after them, in face sizes. share: how much of the
    room left over comes before them.
    """
    room = total - length
    if focus is not None:
        return round(min(room, max(0.0, focus * total - length / 2)))
    if not spans:
        return room // 2
    low, high = min(s[0] for s in spans), max(s[1] for s in spans)
    if high - low > length:  # they do not fit together: the largest stays whole, as many others as possible with it
        largest = max(spans, key=lambda span: span[2])
        start = (low + high - length) / 2
        start = _within(start, length, largest[0], largest[1])
    else:
        face = max(s[1] - s[0] for s in spans)
        before, after = margin[0] * face, margin[1] * face
        spare = length - (high - low) - before - after
        if spare < 0:  # less than the wished air around them: share what there is
            before *= (length - (high - low)) / (before + after)
            start = low - before
        else:
            start = low - before - spare * share
        start = _within(start, length, low, high)
    return round(min(room, max(0.0, start)))


def _within(start: float, length: int, low: float, high: float) -> float:
    """Move a window as little as possible so that it covers low..high; its middle when that is longer."""
    if high - low > length:
        return (low + high - length) / 2
    return min(low, max(high - length, start))


def _target(own: float, rules: ImageRules, kind: str, options: PostOptions, ratio: float | None) -> float:
    """Return the ratio to meet; the picture's own where it is acceptable."""
    if kind == "story" and rules.story_ratio:
        return parse_ratio(options.ratio or rules.story_ratio)
    wanted = ratio or (parse_ratio(options.ratio) if options.ratio else own)
    return min(rules.max_ratio, max(rules.min_ratio, wanted))


def _meets(width: int, height: int, target: float) -> bool:
    """Whether the ratio is met to within one pixel of the longer side."""
    off = abs(width - height * target) if width > height else abs(height - width / target)
    return off <= 1 and off / max(width, height) < 0.005


def _surround(width: int, height: int, target: float) -> tuple[float, float]:
    """Return the smallest width and height with the ratio that hold the picture."""
    return (height * target, height) if width / height < target else (width, width / target)


def _size(
    width: float, height: float, target: float | None, rules: ImageRules, inside: tuple[float, float]
) -> tuple[int, int]:
    """Return whole px within the platform's limits, with the ratio met (exactly, where it is a simple one)."""
    scale = max(1.0, rules.min_width / width)
    scale = min(scale, rules.max_width / width, rules.max_height / height)
    wide, high = width * scale, height * scale
    if target is not None:
        exact = Fraction(target).limit_denominator(20)
        if exact.numerator <= 20 and abs(float(exact) - target) < 1e-6:
            steps = int(wide / exact.numerator + 1e-6)
            if steps * exact.numerator < rules.min_width:
                steps = math.ceil(rules.min_width / exact.numerator)
            if steps and steps * exact.denominator <= rules.max_height:
                return steps * exact.numerator, steps * exact.denominator
    else:
        target = width / height
    w = min(rules.max_width, max(rules.min_width, 1, round(wide)))
    h = min(rules.max_height, max(1, round(high if scale == 1 else w / target)))
    while w / h < inside[0] and h > 1:
        h -= 1
    while w / h > inside[1] and h < rules.max_height:
        h += 1
    return w, h


# ---------------------------------------------------------------- pixels


def _opaque(image: Image.Image, options: PostOptions) -> Image.Image:
    """Return RGB pixels that carry nothing else (no profile, comment, text)."""
    flat = flatten(image, _BACKGROUNDS[options.background]).copy()
    flat.info = {}
    return flat


def _scaled(image: Image.Image, size: tuple[int, int], box: tuple[int, int, int, int] | None = None) -> Image.Image:
    from PIL import Image

    if size == (image.size if box is None else (box[2] - box[0], box[3] - box[1])):
        return image if box is None else image.crop(box)
    return image.resize(size, Image.Resampling.LANCZOS, box=box, reducing_gap=3.0)


def _padded(image: Image.Image, size: tuple[int, int], background: str) -> Image.Image:
    """Put the whole picture into the middle of a canvas."""
    from PIL import Image

    width, height = size
    scale = min(width / image.width, height / image.height)
    inner = (min(width, max(1, round(image.width * scale))), min(height, max(1, round(image.height * scale))))
    canvas = _blurred(image, size) if background == "blur" else Image.new("RGB", size, _BACKGROUNDS[background])
    canvas.paste(_scaled(image, inner), ((width - inner[0]) // 2, (height - inner[1]) // 2))
    return canvas


def _blurred(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Return the picture's own colours as a soft, slightly darker backdrop that fills the canvas."""
    from PIL import Image, ImageEnhance, ImageFilter, ImageOps

    scale = 160 / max(size)
    small = (max(2, round(size[0] * scale)), max(2, round(size[1] * scale)))
    # Blurring a small copy and enlarging it smoothly looks the same and costs a hundredth.
    backdrop = ImageOps.fit(image, small, Image.Resampling.LANCZOS).filter(ImageFilter.GaussianBlur(9))
    backdrop = ImageEnhance.Brightness(ImageEnhance.Color(backdrop).enhance(0.9)).enhance(0.8)
    return backdrop.resize(size, Image.Resampling.BICUBIC)


def _encode(image: Image.Image, rules: ImageRules, inside: tuple[float, float], notes: list[str]) -> Framed:
    """Encode, giving up quality first and size last, until the file is small enough."""
    from PIL import Image

    picture = image
    while True:
        for quality in QUALITIES:
            data = _jpeg(picture, quality)
            if len(data) <= rules.max_bytes:
                limit = f"to stay below {rules.max_bytes / 1e6:.3g} MB"
                if picture is not image:
                    notes.append(f"made smaller, {picture.width} × {picture.height}, {limit}")
                if quality != QUALITIES[0]:
                    notes.append(f"quality {quality} {limit}")
                return Framed(data, picture.width, picture.height, notes=notes)
        width = round(picture.width * 0.85)
        if width < max(rules.min_width, 16):
            raise TooLarge(
                f"The picture cannot be made smaller than {rules.max_bytes / 1e6:.3g} MB.",
                remedy="Use a picture with less fine detail.",
            )
        size = _size(width, width * image.height / image.width, image.width / image.height, rules, inside)
        picture = image.resize(size, Image.Resampling.LANCZOS)


def _jpeg(image: Image.Image, quality: int) -> bytes:
    out = io.BytesIO()
    subsampling = 0 if quality == QUALITIES[0] else 2
    image.save(out, "JPEG", quality=quality, subsampling=subsampling, progressive=False)
    return out.getvalue()
