"""Drawing in the coordinates of a face (0, 0 between the eyes, about 60 units wide) and small colour sums."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

from PIL import Image, ImageDraw

from tools.starter_model.palette import OVERSAMPLING, RGB, SIZE

Point = tuple[float, float]


def jitter(colour: RGB, rng: random.Random, by: float = 9) -> RGB:
    """Return a colour whose channels each moved by up to `by`."""
    return _rgb(*(value + rng.uniform(-by, by) for value in colour))


def shade(colour: RGB, factor: float) -> RGB:
    """Return the colour made darker (below 1) or lighter (above 1)."""
    return _rgb(*(value * factor for value in colour))


def mix(a: RGB, b: RGB, share: float) -> RGB:
    """Return `a` with this share (0 to 1) of `b`."""
    red, green, blue = (int(x * (1 - share) + y * share) for x, y in zip(a, b, strict=True))
    return red, green, blue


def _rgb(red: float, green: float, blue: float) -> RGB:
    return _channel(red), _channel(green), _channel(blue)


def _channel(value: float) -> int:
    return max(0, min(255, int(value)))


def curve(rx: float, ry: float, cy: float, start: float, end: float, parts: int = 24) -> list[Point]:
    """Return points on an ellipse around (0, cy), from one angle to another (degrees, counter-clockwise)."""
    points = []
    for i in range(parts + 1):
        angle = math.radians(start + (end - start) * i / parts)
        points.append((rx * math.cos(angle), cy - ry * math.sin(angle)))
    return points


def star(cx: float, cy: float, outer: float, inner: float, tips: int = 5, turn: float = -90) -> list[Point]:
    """Return the corners of a star; `turn` in degrees."""
    points = []
    for i in range(2 * tips):
        radius, angle = (outer if i % 2 == 0 else inner), math.radians(turn + 180 * i / tips)
        points.append((cx + radius * math.cos(angle), cy + radius * math.sin(angle)))
    return points


def gradient(image: Image.Image, top: RGB, bottom: RGB, y0: float = 0, y1: float | None = None) -> None:
    """Fill rows y0 to y1 (px of the oversampled picture; None: to the end) from one colour to another."""
    end = SIZE * OVERSAMPLING if y1 is None else y1
    draw = ImageDraw.Draw(image)
    for y in range(int(y0), int(end)):
        draw.line([(0, y), (SIZE * OVERSAMPLING, y)], fill=mix(top, bottom, (y - y0) / max(1, end - y0)))


class Pen:
    """Draws on an oversampled picture; all coordinates and widths in units of the face, angles in degrees."""

    def __init__(self, image: Image.Image, cx: float, cy: float, scale: float) -> None:
        self.draw = ImageDraw.Draw(image)
        self.cx, self.cy, self.scale = cx * OVERSAMPLING, cy * OVERSAMPLING, scale * OVERSAMPLING

    def _place(self, points: Sequence[Point]) -> list[Point]:
        return [(self.cx + x * self.scale, self.cy + y * self.scale) for x, y in points]

    def _box(self, x0: float, y0: float, x1: float, y1: float) -> list[Point]:
        return self._place([(x0, y0), (x1, y1)])

    def _width(self, width: float) -> int:
        return max(1, int(width * self.scale))

    def ellipse(
        self, x0: float, y0: float, x1: float, y1: float, fill: RGB | None, line: RGB | None = None, width: float = 1.1
    ) -> None:
        """Fill (and outline) the ellipse in a box."""
        self.draw.ellipse(self._box(x0, y0, x1, y1), fill=fill, outline=line, width=self._width(width) if line else 0)

    def polygon(self, points: Sequence[Point], fill: RGB, line: RGB | None = None, width: float = 1.1) -> None:
        """Fill (and outline) a polygon."""
        placed = self._place(points)
        self.draw.polygon(placed, fill=fill)
        if line:
            self.draw.line([*placed, placed[0], placed[1]], fill=line, width=self._width(width), joint="curve")

    def rounded(
        self,
        x0: float,
        y0: float,
        x1: float,
        y1: float,
        radius: float,
        fill: RGB | None,
        line: RGB | None = None,
        width: float = 1.1,
    ) -> None:
        """Fill (and outline) a rectangle with round corners."""
        self.draw.rounded_rectangle(
            self._box(x0, y0, x1, y1), radius=radius * self.scale, fill=fill, outline=line,
            width=self._width(width) if line else 0,
        )  # fmt: skip

    def line(self, points: Sequence[Point], fill: RGB, width: float) -> None:
        """Draw a line through the points."""
        self.draw.line(self._place(points), fill=fill, width=self._width(width), joint="curve")

    def arc(
        self, x0: float, y0: float, x1: float, y1: float, start: float, end: float, fill: RGB, width: float
    ) -> None:
        """Draw a part of an ellipse's outline (angles clockwise from three o'clock)."""
        self.draw.arc(self._box(x0, y0, x1, y1), start, end, fill=fill, width=self._width(width))

    def chord(
        self,
        x0: float,
        y0: float,
        x1: float,
        y1: float,
        start: float,
        end: float,
        fill: RGB,
        line: RGB | None = None,
        width: float = 1,
    ) -> None:
        """Fill the segment of an ellipse between two angles."""
        self.draw.chord(self._box(x0, y0, x1, y1), start, end, fill=fill, outline=line, width=self._width(width))
