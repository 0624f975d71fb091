"""What is behind an avatar: a plain colour or one of eight scenes."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from PIL import Image, ImageDraw

from tools.starter_model.palette import COLOURS, OVERSAMPLING, RGB, SIZE
from tools.starter_model.pen import Point, gradient, jitter, mix, shade


class _Canvas:
    """The whole picture, in px of the finished 128 px picture."""

    def __init__(self, image: Image.Image, rng: random.Random) -> None:
        self.image, self.rng, self.draw = image, rng, ImageDraw.Draw(image)

    def rectangle(self, x0: float, y0: float, x1: float, y1: float, fill: RGB) -> None:
        self.draw.rectangle([v * OVERSAMPLING for v in (x0, y0, x1, y1)], fill=fill)

    def ellipse(self, x0: float, y0: float, x1: float, y1: float, fill: RGB) -> None:
        self.draw.ellipse([v * OVERSAMPLING for v in (x0, y0, x1, y1)], fill=fill)

    def polygon(self, points: Sequence[Point], fill: RGB) -> None:
        self.draw.polygon([(x * OVERSAMPLING, y * OVERSAMPLING) for x, y in points], fill=fill)

    def sky(self, top: RGB, bottom: RGB, y1: float | None = None) -> None:
        gradient(self.image, top, bottom, 0, None if y1 is None else y1 * OVERSAMPLING)

    def spots(self, count: int, least: float, most: float, fill: RGB) -> None:
        for _ in range(count):
            x, y = self.rng.uniform(0, SIZE), self.rng.uniform(0, SIZE)
            radius = self.rng.uniform(least, most)
            self.ellipse(x - radius, y - radius, x + radius, y + radius, fill)


def paint(image: Image.Image, ground: str, rng: random.Random) -> None:
    """Paint the oversampled picture with a plain colour or a scene. Raises KeyError for an unknown word."""
    if ground not in COLOURS:
        _SCENES[ground](_Canvas(image, rng), rng)
        return
    colour = jitter(COLOURS[ground], rng, 8)
    if rng.random() < 0.5:
        image.paste(colour, (0, 0, *image.size))
    else:
        gradient(image, mix(colour, (255, 255, 255), 0.12), mix(colour, (0, 0, 0), 0.10))


def _beach(c: _Canvas, rng: random.Random) -> None:
    c.sky((120, 200, 250), (190, 230, 255), 62)
    c.rectangle(0, 62, 128, 92, jitter((40, 130, 200), rng, 8))
    c.rectangle(0, 90, 128, 128, jitter((240, 215, 150), rng, 6))
    sun = rng.choice([14, 112])
    c.ellipse(sun - 10, 8, sun + 10, 28, (255, 225, 80))
    x = 128 - sun
    c.polygon([(x - 2, 96), (x + 3, 96), (x + 2, 40), (x - 1, 40)], (130, 90, 50))
    for s in (-1, 1):
        for q in (0, 1):
            c.polygon(
                [(x, 42), (x + s * 12, 32 + q * 12), (x + s * 20, 44 + q * 10), (x + s * 10, 40 + q * 8)], (46, 150, 70)
            )


def _forest(c: _Canvas, rng: random.Random) -> None:
    c.sky((190, 230, 190), (120, 180, 120))
    c.rectangle(0, 100, 128, 128, (70, 120, 60))
    for middle in (4, 30, 60, 96, 122):
        x = middle + rng.randint(-6, 6)
        height = rng.randint(0, 20)
        green = jitter((36, 100, 56), rng, 12)
        c.rectangle(x - 3, 80, x + 3, 108, (96, 66, 40))
        for j in range(3):
            low = 88 - 20 * j - height / 2
            c.polygon([(x - 18 + 3 * j, low), (x + 18 - 3 * j, low), (x, 58 - 20 * j - height / 2)], green)


def _space(c: _Canvas, rng: random.Random) -> None:
    c.sky((16, 16, 48), (40, 24, 80))
    c.spots(26, 0.7, 1.6, (255, 255, 230))
    x = rng.choice([18, 108])
    c.ellipse(x - 12, 10, x + 12, 34, jitter((232, 200, 120), rng, 20))
    c.ellipse(x - 6, 15, x, 21, (200, 168, 100))
    c.ellipse(x + 2, 22, x + 7, 27, (200, 168, 100))


def _city(c: _Canvas, rng: random.Random) -> None:
    evening = rng.random() < 0.5
    c.sky(*(((250, 190, 140), (255, 225, 190)) if evening else ((130, 190, 240), (210, 230, 250))))
    x = -2
    while x < 128:
        width, height = rng.randint(14, 24), rng.randint(40, 96)
        wall = jitter((84, 92, 120), rng, 18)
        c.rectangle(x, 128 - height, x + width, 128, wall)
        for y in range(128 - height + 5, 124, 9):
            for w in range(x + 3, x + width - 4, 6):
                c.rectangle(w, y, w + 2.6, y + 4, (255, 225, 120) if rng.random() < 0.7 else shade(wall, 0.7))
        x += width + 1


def _mountains(c: _Canvas, rng: random.Random) -> None:
    c.sky((140, 200, 245), (220, 240, 255))
    for middle, usual in ((16, 70), (64, 92), (112, 76)):
        x = middle + rng.randint(-8, 8)
        height = usual + rng.randint(-8, 8)
        rock = jitter((120, 126, 146), rng, 10)
        top = 112 - height
        c.polygon([(x - 46, 112), (x + 46, 112), (x, top)], rock)
        snow = 0.3
        c.polygon(
            [(x - 46 * snow, 112 - height * (1 - snow)), (x + 46 * snow, 112 - height * (1 - snow)), (x, top)],
            (250, 250, 255),
        )
    c.rectangle(0, 108, 128, 128, (90, 160, 80))


def _sunset(c: _Canvas, rng: random.Random) -> None:
    c.sky((110, 60, 150), (255, 150, 70), 84)
    x = rng.choice([20, 104])
    c.ellipse(x - 14, 58, x + 14, 86, (255, 230, 120))
    c.rectangle(0, 84, 128, 128, (70, 40, 90))
    for i in range(4):
        c.rectangle(x - 12 + 2 * i, 88 + 7 * i, x + 12 - 2 * i, 90 + 7 * i, (250, 160, 90))


def _snow(c: _Canvas, rng: random.Random) -> None:
    c.sky((150, 185, 225), (215, 230, 245))
    c.ellipse(-40, 86, 80, 180, (250, 250, 255))
    c.ellipse(50, 92, 180, 190, (238, 243, 252))
    c.spots(34, 1, 2, (255, 255, 255))


def _library(c: _Canvas, rng: random.Random) -> None:
    c.rectangle(0, 0, 128, 128, (104, 66, 40))
    books: list[RGB] = [
        (190, 60, 50), (60, 110, 160), (70, 140, 90), (220, 180, 80), (130, 80, 140), (220, 210, 190),
    ]  # fmt: skip
    for row in range(4):
        y = 4 + row * 32
        c.rectangle(0, y, 128, y + 26, (66, 40, 26))
        x = 1
        while x < 127:
            width, height = rng.randint(5, 9), rng.randint(17, 25)
            c.rectangle(x, y + 26 - height, x + width - 1, y + 26, jitter(rng.choice(books), rng, 14))
            x += width


_SCENES: dict[str, Callable[[_Canvas, random.Random], None]] = {
    "beach": _beach, "forest": _forest, "space": _space, "city": _city, "mountains": _mountains, "sunset": _sunset,
    "snow": _snow, "library": _library,
}  # fmt: skip
