"""Hair: what lies behind the body first, what falls over the face later."""

from __future__ import annotations

import math
import random

from tools.starter_model.avatar import Avatar
from tools.starter_model.look import Look
from tools.starter_model.palette import HAIR
from tools.starter_model.pen import Pen, Point, curve, mix


def behind(pen: Pen, look: Look) -> None:
    """Draw the hair behind head and shoulders."""
    style, hair, line, tips = look.style, look.hair, look.hair_line, look.tips
    if style == "long":
        _fall(pen, look, -32, -28, 32, 56, 26)
    elif style == "bob":
        _fall(pen, look, -33, -30, 33, 25, 20)
    elif style == "ponytail":
        pen.ellipse(18, -30, 48, 34, hair, line)
        pen.ellipse(23, 4, 43, 33, tips or hair)
    elif style == "pigtails":
        for s in (-1, 1):
            pen.ellipse(s * 39 - 12, -22, s * 39 + 12, 36, hair, line)
            if tips:
                pen.ellipse(s * 39 - 9, 8, s * 39 + 9, 34, tips)
    elif style == "curly":
        for i in range(13):
            angle = math.radians(200 - 220 * i / 12)
            x, y = 30 * math.cos(angle), -6 - 28 * math.sin(angle)
            pen.ellipse(x - 11, y - 11, x + 11, y + 11, hair, line)
        pen.ellipse(-31, -33, 31, 12, hair)
    elif style == "bun":
        pen.ellipse(-12, -52, 12, -28, tips or hair, line)
    elif style == "spiky":
        points: list[Point] = []
        for i in range(10):
            low = math.radians(188 - 196 * i / 9)
            points.append((26 * math.cos(low), -4 - 26 * math.sin(low)))
            if i < 9:
                high = math.radians(188 - 196 * (i + 0.5) / 9)
                points.append((40 * math.cos(high), -6 - 40 * math.sin(high)))
        pen.polygon(points, tips or hair, line)


def _fall(pen: Pen, look: Look, x0: float, y0: float, x1: float, y1: float, radius: float) -> None:
    pen.rounded(x0, y0, x1, y1, radius, look.hair, look.hair_line)
    if look.tips:
        pen.rounded(x0 + 1, y1 - (y1 - y0) * 0.35, x1 - 1, y1 - 1, min(radius, 10), look.tips)
    if look.two_tone:
        pen.rounded(0, y0 + 0.8, x1 - 0.8, y1 - 0.8, radius - 1, look.two_tone)
        pen.rounded(0, y0 + 12, 8, y1 - 0.8, 1, look.two_tone)


_CROWN = curve(27, 31, -3, 0, 180)
_FRINGES: dict[str, list[Point]] = {
    "long": [
        *_CROWN, (-28, 26), (-26, 44), (-21, 44), (-20, 10), (-20, -6), (-4, -19), (14, -13), (20, -4), (20, 10),
        (21, 44), (26, 44), (28, 26),
    ],
    "bob": [*_CROWN, (-30, 22), (-20, 22), (-20, -9), (-10, -10), (0, -9.5), (10, -10), (20, -9), (20, 22), (30, 22)],
    "pigtails": [
        *_CROWN, (-26, 3), (-22, 3), (-20, -8), (-10, -12), (-2, -22), (2, -22), (10, -12), (20, -8), (22, 3), (26, 3),
    ],
    "spiky": [
        *curve(26, 28, -4, 0, 180), (-25, 2), (-21, -2), (-19, -10), (-13, -5), (-9, -15), (-2, -7), (3, -16),
        (10, -7), (14, -14), (20, -3), (25, 2),
    ],
}  # fmt: skip
_SIDE_PARTING: list[Point] = [*_CROWN, (-26, 4), (-22, 4), (-20, -8), (-8, -16), (8, -19), (17, -12), (22, 4), (26, 4)]
_SWEPT: list[Point] = [*_CROWN, (-26, 4), (-22, 4), (-21, -8), (-2, -10), (10, -18), (18, -12), (22, 4), (26, 4)]


def in_front(pen: Pen, avatar: Avatar, look: Look, rng: random.Random) -> None:
    """Draw the hair over the forehead, with streak and gloss."""
    style = look.style
    if style in ("short", "ponytail", "bun"):
        _fringe(pen, look, _SIDE_PARTING if rng.random() < 0.5 else _SWEPT)
    elif style in _FRINGES:
        _fringe(pen, look, _FRINGES[style])
        if style == "long" and look.tips:
            for s in (-1, 1):
                pen.polygon([(s * 27.5, 28), (s * 26, 43), (s * 21.6, 43), (s * 20.6, 28)], look.tips)
        if style == "pigtails":
            for s in (-1, 1):
                pen.ellipse(s * 29 - 4, -18, s * 29 + 4, -10, (240, 90, 110))
    elif style == "curly":
        _curls(pen, look)
    elif style == "mohawk":
        pen.polygon(curve(24.5, 28, -2, 25, 155), mix(look.skin, look.hair, 0.25))
        points: list[Point] = [(-8, -16)]
        for i in range(6):
            points += [(-9 + 3.6 * i - 1.2, -46 + abs(i - 2.5) * 1.5), (-9 + 3.6 * i + 1.2, -38)]
        pen.polygon([*points, (9, -16)], look.hair, look.hair_line)
    if avatar.streak and style not in ("bald", "mohawk"):
        pen.polygon([(6, -33), (14, -31), (15, -14), (9, -17)], HAIR[avatar.streak])
    glossy = style in ("short", "long", "bob", "pigtails", "ponytail", "bun")
    if glossy and not look.two_tone and not avatar.streak:
        pen.arc(-20, -29, 20, 4, 215, 265, look.hair_light, 2.2)


def _fringe(pen: Pen, look: Look, points: list[Point]) -> None:
    pen.polygon(points, look.hair, look.hair_line)
    if look.two_tone:
        pen.polygon([(max(0, x), y) for x, y in points], look.two_tone)


def _curls(pen: Pen, look: Look) -> None:
    for i in range(7):
        angle = math.radians(172 - 164 * i / 6)
        x, y = 21 * math.cos(angle), -6 - 19 * math.sin(angle)
        pen.ellipse(x - 8, y - 8, x + 8, y + 8, look.hair)
    for i in range(6):
        x, y = -18 + 7.2 * i, -19 + abs(i - 2.5) * 2.2
        pen.arc(x - 6, y - 6, x + 6, y + 6, 20, 150, look.hair_line, 1.1)
