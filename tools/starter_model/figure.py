"""Body and head: everything of an avatar that is neither hair nor hat nor face."""

from __future__ import annotations

import random

from tools.starter_model.avatar import Avatar
from tools.starter_model.look import Look
from tools.starter_model.palette import RGB
from tools.starter_model.pen import Pen, curve, jitter


def body(pen: Pen, avatar: Avatar, look: Look) -> None:
    """Draw shoulders, neck and clothes."""
    wear, line, dark, skin, skin_line = look.wear, look.wear_line, look.wear_shade, look.skin, look.skin_line
    if avatar.wear == "dress":
        pen.rounded(-11, 18, 11, 44, 5, skin, skin_line)
        pen.ellipse(-44, 36, 44, 110, skin, skin_line)
        pen.polygon([(-30, 46), (-18, 40), (0, 54), (18, 40), (30, 46), (40, 90), (-40, 90)], wear, line)
        pen.line([(-30, 46), (-26, 36)], wear, 3)
        pen.line([(30, 46), (26, 36)], wear, 3)
        return
    pen.rounded(-46, 36, 46, 110, 20, wear, line)
    pen.rounded(-11, 18, 11, 42, 6, skin, skin_line)
    pen.ellipse(-15, 32, 15, 46, skin)
    if avatar.wear == "t-shirt":
        pen.arc(-16, 28, 16, 48, 0, 180, line, 2.2)
    elif avatar.wear == "hoodie":
        pen.arc(-22, 22, 22, 52, -20, 200, dark, 7)
        pen.arc(-18, 26, 18, 48, 0, 180, line, 1.4)
        pen.line([(-8, 50), (-8, 64)], (245, 245, 245), 1.8)
        pen.line([(8, 50), (8, 64)], (245, 245, 245), 1.8)
    elif avatar.wear == "suit":
        pen.polygon([(-15, 36), (15, 36), (0, 76)], (246, 246, 248))
        tie: RGB = (190, 40, 50) if avatar.wear_colour != "red" else (40, 50, 110)
        pen.polygon([(-4, 44), (4, 44), (3, 50), (5, 68), (0, 74), (-5, 68), (-3, 50)], tie)
        pen.polygon([(-16, 34), (-24, 46), (-2, 80)], dark, line)
        pen.polygon([(16, 34), (24, 46), (2, 80)], dark, line)
    elif avatar.wear == "striped shirt":
        stripe: RGB = (250, 250, 250) if avatar.wear_colour not in ("white", "yellow") else (60, 70, 110)
        for y in (50, 60, 70, 80):
            pen.rounded(-44.5, y, 44.5, y + 4, 0, stripe)
        pen.arc(-16, 28, 16, 48, 0, 180, line, 2.2)
    elif avatar.wear == "sweater":
        pen.rounded(-14, 27, 14, 44, 5, dark, line)
        for x in (-8, 0, 8):
            pen.line([(x, 31), (x, 41)], line, 0.9)


def head(pen: Pen, avatar: Avatar, look: Look, rng: random.Random) -> None:
    """Draw ears and the head without its features."""
    skin, line = look.skin, look.skin_line
    if avatar.kind == "robot":
        for s in (-1, 1):
            pen.rounded(s * 28 - 4, -8, s * 28 + 4, 10, 2, (120, 128, 140), (80, 86, 98))
        pen.rounded(-26, -28, 26, 28, 8, skin, line, 1.4)
        pen.line([(0, -28), (0, -40)], (110, 116, 128), 2)
        pen.ellipse(-4, -47, 4, -39, jitter((230, 60, 60), rng, 10))
        pen.rounded(-20, -14, 20, 6, 6, (44, 50, 66))
        return
    if avatar.kind == "alien":
        pen.polygon([*curve(30, 32, -2, 0, 180), (-26, 10), (-12, 26), (0, 30), (12, 26), (26, 10)], skin, line, 1.4)
        for s in (-1, 1):
            pen.line([(s * 10, -30), (s * 16, -46)], line, 2)
            pen.ellipse(s * 16 - 4, -51, s * 16 + 4, -43, skin, line)
        return
    for s in (-1, 1):
        if avatar.kind == "elf":
            pen.polygon([(s * 22, -4), (s * 42, -18), (s * 23, 9)], skin, line)
        else:
            pen.ellipse(s * 24 - 5, -6, s * 24 + 5, 9, skin, line)
    jaw = 1 if avatar.who == "man" else 0
    pen.polygon(
        [
            *curve(24, 28, -1, 0, 180), (-24, 6), (-21 - jaw, 16), (-12 - 2 * jaw, 25), (-5, 29), (5, 29),
            (12 + 2 * jaw, 25), (21 + jaw, 16), (24, 6),
        ], skin, line, 1.2,
    )  # fmt: skip
