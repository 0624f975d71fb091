"""Pictures for the VAE only: random shapes and tampered avatars, so that it can hold what no avatar has."""

from __future__ import annotations

import math
import random

from PIL import Image, ImageDraw, ImageFilter

from tools.starter_model import drawing
from tools.starter_model.avatar import sample
from tools.starter_model.palette import OVERSAMPLING, RGB, SIZE
from tools.starter_model.pen import gradient, star


def draw(rng: random.Random) -> Image.Image:
    """Return a 128 x 128 px RGB picture: half of them shapes, half avatars with changes."""
    return _shapes(rng) if rng.random() < 0.5 else _tampered(rng)


def _colour(rng: random.Random) -> RGB:
    return rng.randint(0, 255), rng.randint(0, 255), rng.randint(0, 255)


def _shapes(rng: random.Random) -> Image.Image:
    side = SIZE * OVERSAMPLING
    image = Image.new("RGB", (side, side))
    gradient(image, _colour(rng), _colour(rng))
    pen = ImageDraw.Draw(image)
    for _ in range(rng.randint(2, 14)):
        x, y = rng.uniform(0, side), rng.uniform(0, side)
        size = rng.uniform(6, 110) * (1 if rng.random() < 0.6 else 0.3)
        kind, fill = rng.random(), _colour(rng)
        if kind < 0.3:
            box = [x - size, y - size * rng.uniform(0.5, 1), x + size, y + size * rng.uniform(0.5, 1)]
            pen.ellipse(box, fill=fill, outline=_colour(rng) if rng.random() < 0.5 else None, width=4)
        elif kind < 0.5:
            angles = sorted(rng.uniform(0, 6.28) for _ in range(rng.randint(3, 6)))
            pen.polygon([(x + size * math.cos(t), y + size * math.sin(t)) for t in angles], fill=fill)
        elif kind < 0.65:
            pen.rounded_rectangle([x - size, y - size * 0.6, x + size, y + size * 0.6], radius=size * 0.2, fill=fill)
        elif kind < 0.8:
            pen.polygon(star(x, y, size, size * 0.45, rng.randint(4, 7), rng.uniform(0, 360)), fill=fill)
        else:
            box = [x - size, y - size, x + size, y + size]
            pen.arc(box, rng.uniform(0, 360), rng.uniform(0, 720), fill=fill, width=int(rng.uniform(2, 12)))
    small = image.reduce(OVERSAMPLING)
    return small.filter(ImageFilter.GaussianBlur(rng.uniform(0.5, 3))) if rng.random() < 0.25 else small


def _tampered(rng: random.Random) -> Image.Image:
    image = drawing.draw(sample(rng), rng)
    if rng.random() < 0.3:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if rng.random() < 0.5:
        pen = ImageDraw.Draw(image)
        for _ in range(rng.randint(1, 4)):
            x, y, size = rng.uniform(10, 118), rng.uniform(10, 118), rng.uniform(3, 12)
            fill = _colour(rng)
            if rng.random() < 0.5:
                pen.polygon(star(x, y, size, size * 0.45, 5, rng.uniform(0, 72)), fill=fill)
            else:
                pen.ellipse([x - size, y - size, x + size, y + size], fill=fill)
    if rng.random() < 0.5:
        across = (rng.uniform(0.6, 1.1), rng.uniform(-0.15, 0.15), rng.uniform(-10, 20))
        down = (rng.uniform(-0.15, 0.15), rng.uniform(0.6, 1.1), rng.uniform(-10, 20))
        image = image.transform((SIZE, SIZE), Image.Transform.AFFINE, (*across, *down), Image.Resampling.BILINEAR)
    return image
