"""One avatar as a picture."""

from __future__ import annotations

import random

from PIL import Image

from tools.starter_model import face, figure, hair, hats, scenes
from tools.starter_model.avatar import Avatar
from tools.starter_model.look import look
from tools.starter_model.palette import OVERSAMPLING, SIZE
from tools.starter_model.pen import Pen

_SCALE = {"mid": 1.0, "close": 1.28, "far": 0.76}
_MIDDLE = {"mid": 61, "close": 66, "far": 68}


def draw(avatar: Avatar, rng: random.Random) -> Image.Image:
    """Return a 128 x 128 px RGB picture; same avatar and generator state, same pixels."""
    image = Image.new("RGB", (SIZE * OVERSAMPLING, SIZE * OVERSAMPLING))
    scenes.paint(image, avatar.ground, rng)
    scale = _SCALE[avatar.frame] * rng.uniform(0.97, 1.03)
    x = 64 + rng.uniform(-3, 3)
    y = _MIDDLE[avatar.frame] + rng.uniform(-2, 2)
    pen = Pen(image, x, y, scale)
    colours = look(avatar, rng)
    hair.behind(pen, colours)
    figure.body(pen, avatar, colours)
    figure.head(pen, avatar, colours, rng)
    face.features(pen, avatar, colours, rng)
    hair.in_front(pen, avatar, colours, rng)
    face.eyewear(pen, avatar, rng)
    hats.hat(pen, avatar, colours, rng)
    small = image.reduce(OVERSAMPLING)
    return small.convert("L").convert("RGB") if avatar.grey else small
