"""What is worn on the head, hats and ornaments."""

from __future__ import annotations

import math
import random

from tools.starter_model.avatar import Avatar
from tools.starter_model.look import Look
from tools.starter_model.palette import COLOURS, RGB
from tools.starter_model.pen import Pen, curve, jitter, shade


def hat(pen: Pen, avatar: Avatar, look: Look, rng: random.Random) -> None:
    """Draw the avatar's headwear, if any."""
    kind, word = avatar.hat, avatar.hat_colour
    colour = jitter(COLOURS[word], rng, 8)
    line = shade(colour, 0.6) if word != "black" else (12, 12, 16)
    dark = shade(colour, 0.8)
    if kind == "cap":
        pen.polygon(curve(28, 31, -10, 0, 180), colour, line)
        pen.polygon([(-29, -11), (29, -11), (40, -5), (30, -4), (0, -8), (-29, -7)], dark, line)
        pen.ellipse(-3, -43, 3, -38, dark)
    elif kind == "beanie":
        pen.polygon(curve(28, 32, -12, 0, 180), colour, line)
        pen.rounded(-30, -20, 30, -8, 4, dark, line)
        pen.ellipse(-8, -54, 8, -38, (248, 248, 250) if word != "white" else (220, 80, 80), line)
        for x in range(-24, 28, 8):
            pen.line([(x, -18), (x, -10)], line, 1)
    elif kind == "witch hat":
        pen.polygon([(-22, -18), (-4, -50), (10, -62), (8, -48), (22, -18)], colour, line)
        pen.ellipse(-42, -25, 42, -10, colour, line)
        band: RGB = (240, 190, 60) if word != "yellow" else (90, 60, 140)
        pen.polygon([(-22, -25), (22, -25), (23, -18), (-23, -18)], band)
    elif kind == "top hat":
        pen.rounded(-20, -62, 20, -18, 2, colour, line)
        pen.rounded(-20, -30, 20, -21, 0, (200, 50, 60) if word != "red" else (40, 40, 46))
        pen.ellipse(-35, -24, 35, -12, colour, line)
    elif kind == "crown":
        gold: RGB = (250, 200, 60)
        pen.polygon(
            [(-22, -22), (-25, -44), (-12, -33), (0, -48), (12, -33), (25, -44), (22, -22)], gold, (180, 130, 20)
        )
        jewels: list[tuple[int, RGB]] = [(-12, (220, 50, 60)), (0, (60, 110, 220)), (12, (220, 50, 60))]
        for middle, jewel in jewels:
            pen.ellipse(middle - 2.5, -30, middle + 2.5, -25, jewel)
    elif kind == "headphones":
        pen.arc(-31, -40, 31, 24, 190, 350, line, 4.2)
        for s in (-1, 1):
            pen.rounded(s * 29 - 6, -12, s * 29 + 6, 14, 5, colour, line)
    elif kind == "flower":
        for i in range(5):
            angle = math.radians(72 * i)
            across, down = 17 + 6 * math.cos(angle), -24 + 6 * math.sin(angle)
            pen.ellipse(across - 5, down - 5, across + 5, down + 5, colour, line, 0.7)
        pen.ellipse(13.5, -27.5, 20.5, -20.5, (250, 205, 70) if word != "yellow" else (200, 90, 40))
    elif kind == "cat ears":
        fur = look.hair if look.style != "bald" else shade(look.skin, 0.8)
        for s in (-1, 1):
            pen.polygon([(s * 6, -30), (s * 24, -52), (s * 27, -20)], fur, look.hair_line)
            pen.polygon([(s * 12, -32), (s * 22, -44), (s * 23, -26)], (250, 160, 180))
    elif kind == "bow":
        pen.polygon([(0, -34), (-18, -44), (-18, -24)], colour, line)
        pen.polygon([(0, -34), (18, -44), (18, -24)], colour, line)
        pen.ellipse(-5, -39, 5, -29, dark, line)
