"""The features of a face: cheeks, eyes, brows, nose, beard, mouth, marks and eyewear."""

from __future__ import annotations

import random

from tools.starter_model.avatar import Avatar
from tools.starter_model.look import Look
from tools.starter_model.palette import COLOURS, EYES, RGB
from tools.starter_model.pen import Pen, jitter, mix, shade, star


def features(pen: Pen, avatar: Avatar, look: Look, rng: random.Random) -> None:
    """Draw everything on the face but the eyewear, in the order it overlaps."""
    iris = jitter(EYES[avatar.eyes], rng, 8)
    happy = avatar.mood in ("smiling", "laughing", "winking")
    if avatar.kind != "robot" and happy and rng.random() < 0.9:
        for s in (-1, 1):
            pen.ellipse(s * 15 - 5, 6, s * 15 + 5, 12, mix(look.skin, (240, 90, 90), 0.28))
    for s in (-1, 1):
        if avatar.kind == "robot":
            _lamp(pen, avatar, s)
        elif avatar.kind == "alien":
            _black_eye(pen, avatar, s)
        else:
            _eye(pen, avatar, s, iris)
            _brow(pen, avatar, s, shade(look.hair, 0.75 if avatar.hair_colour not in ("white", "blonde") else 0.7))
    if avatar.kind in ("human", "elf"):
        pen.arc(-3, 3, 3, 10, 20, 160, look.skin_line, 1.6)
    _beard(pen, avatar, look)
    _mouth(pen, avatar, look)
    if avatar.mark:
        _mark(pen, avatar.mark, look)


def _lamp(pen: Pen, avatar: Avatar, s: int) -> None:
    light: RGB = (90, 230, 255) if avatar.eyes in ("blue", "black") else (255, 190, 70)
    if avatar.eyes == "green":
        light = (120, 255, 140)
    x = s * 10.5
    if avatar.mood == "winking" and s == 1:
        pen.rounded(x - 5, -5, x + 5, -3, 1, light)
    else:
        pen.ellipse(x - 5, -9, x + 5, 1, light)


def _black_eye(pen: Pen, avatar: Avatar, s: int) -> None:
    x = s * 10.5
    if avatar.mood == "winking" and s == 1:
        pen.arc(x - 7, -6, x + 7, 6, 180, 360, (30, 40, 30), 2)
    else:
        pen.ellipse(x - 8, -10, x + 8, 8, (26, 30, 34))
        pen.ellipse(x - 4, -7, x, -2, (250, 250, 250))


def _eye(pen: Pen, avatar: Avatar, s: int, iris: RGB) -> None:
    x, line = s * 10.5, (52, 34, 36)
    if (avatar.mood == "winking" and s == 1) or avatar.mood == "laughing":
        pen.arc(x - 6, -5, x + 6, 6, 190, 350, line, 2.2)
        return
    rx, ry = (6.2, 7.2) if avatar.mood == "surprised" else (6, 6)
    pen.ellipse(x - rx, -ry - 0.5, x + rx, ry - 0.5, (252, 252, 254), line, 1.0)
    pen.ellipse(x - 3.8, -4.2, x + 3.8, 3.8, iris)
    pen.ellipse(x - 1.9, -2.4, x + 1.9, 2, (20, 16, 20))
    pen.ellipse(x - 0.2, -3.6, x + 2.4, -1, (255, 255, 255))
    if avatar.who == "woman":
        pen.arc(x - rx - 1, -ry - 1.5, x + rx + 1, ry, 185, 355, line, 2.0)
        pen.line([(x + s * rx, -3), (x + s * (rx + 3), -6)], line, 1.5)


def _brow(pen: Pen, avatar: Avatar, s: int, colour: RGB) -> None:
    x = s * 10.5
    if avatar.mood == "angry":
        pen.line([(x - s * 6, -8), (x + s * 7, -13)], colour, 2.4)
    elif avatar.mood == "sad":
        pen.line([(x - s * 6, -14), (x + s * 7, -9.5)], colour, 2.2)
    elif avatar.mood == "surprised":
        pen.arc(x - 7, -17, x + 7, -6, 200, 340, colour, 2.2)
    else:
        pen.arc(x - 7, -13.5, x + 7, -3, 205, 335, colour, 2.2)


def _beard(pen: Pen, avatar: Avatar, look: Look) -> None:
    if avatar.beard == "beard":
        pen.polygon(
            [
                (-24, 4), (-19, 8), (-12, 12), (0, 10), (12, 12), (19, 8), (24, 4), (22, 20), (13, 31), (0, 35),
                (-13, 31), (-22, 20),
            ], look.hair, look.hair_line,
        )  # fmt: skip
    if avatar.beard:
        pen.polygon(
            [(0, 10), (6, 9.5), (13, 15), (6, 14.5), (0, 13.5), (-6, 14.5), (-13, 15), (-6, 9.5)],
            shade(look.hair, 0.85) if avatar.hair_colour != "black" else (30, 26, 32),
            look.hair_line,
            0.6,
        )


def _mouth(pen: Pen, avatar: Avatar, look: Look) -> None:
    y = 16 if avatar.kind != "robot" else 15
    lip: RGB = (188, 64, 74) if avatar.who == "woman" else (150, 70, 66)
    if avatar.kind == "robot":
        lip = (70, 80, 96)
    if avatar.kind == "alien":
        lip = shade(look.skin, 0.45)
    if avatar.mood in ("smiling", "winking"):
        pen.arc(-9, y - 8, 9, y + 4, 25, 155, lip, 2.4)
    elif avatar.mood == "laughing":
        pen.chord(-9, y - 8, 9, y + 8, 0, 180, (120, 30, 40), lip, 1)
        pen.chord(-7, y - 7, 7, y + 3, 20, 160, (255, 255, 255))
    elif avatar.mood == "neutral":
        pen.line([(-6, y + 1), (6, y + 1)], lip, 2.2)
    elif avatar.mood == "sad":
        pen.arc(-8, y, 8, y + 10, 205, 335, lip, 2.3)
    elif avatar.mood == "surprised":
        pen.ellipse(-4.5, y - 4, 4.5, y + 7, (110, 30, 40), lip, 1.2)
    elif avatar.mood == "angry":
        pen.rounded(-8, y - 2, 8, y + 4, 2, (250, 250, 250), lip, 1.4)
        pen.line([(-8, y + 1), (8, y + 1)], lip, 0.8)


def _mark(pen: Pen, mark: tuple[str, str, int], look: Look) -> None:
    kind, word, side = mark
    colour, x, y = COLOURS[word], side * 15, 10
    if kind == "heart":
        pen.ellipse(x - 4, y - 4, x, y, colour)
        pen.ellipse(x, y - 4, x + 4, y, colour)
        pen.polygon([(x - 4, y - 1.4), (x + 4, y - 1.4), (x, y + 4)], colour)
    elif kind == "dot":
        pen.ellipse(x - 3, y - 3, x + 3, y + 3, colour)
    elif kind == "tear":
        pen.polygon([(x, y - 7), (x + 3, y), (x - 3, y)], colour)
        pen.ellipse(x - 3, y - 3, x + 3, y + 3, colour)
    elif kind == "stripes":
        for q in (-3, 1):
            pen.line([(x - 5, y + q), (x + 5, y + q)], colour, 1.8)
    elif kind == "freckles":
        for cheek in (-15, 15):
            for dx, dy in ((-4, 0), (0, -2), (4, 0), (-1, 2)):
                pen.ellipse(cheek + dx - 0.9, 8 + dy - 0.9, cheek + dx + 0.9, 8 + dy + 0.9, look.skin_line)
    elif kind == "cross":
        pen.line([(x - 4, y - 4), (x + 4, y + 4)], colour, 1.8)
        pen.line([(x + 4, y - 4), (x - 4, y + 4)], colour, 1.8)
    elif kind == "triangle":
        pen.polygon([(x, y - 5), (x + 5, y + 4), (x - 5, y + 4)], colour)
    elif kind == "moon":
        pen.ellipse(x - 5, y - 5, x + 5, y + 5, colour)
        pen.ellipse(x - 2, y - 6, x + 7, y + 4, look.skin)
    elif kind == "star":
        pen.polygon(star(x, y, 7, 3), colour)


def eyewear(pen: Pen, avatar: Avatar, rng: random.Random) -> None:
    """Draw glasses, sunglasses or an eyepatch."""
    frame: RGB = (40, 40, 46)
    if rng.random() >= 0.75:
        frame = jitter((170, 60, 50), rng, 10)
    black: RGB = (28, 26, 30)
    if avatar.eyewear == "glasses":
        for s in (-1, 1):
            pen.ellipse(s * 10.5 - 8.5, -9, s * 10.5 + 8.5, 8, None, frame, 1.9)
        pen.line([(-2, -1), (2, -1)], frame, 1.9)
        for s in (-1, 1):
            pen.line([(s * 19, -2), (s * 24, -3)], frame, 1.6)
    elif avatar.eyewear == "square glasses":
        for s in (-1, 1):
            pen.rounded(s * 10.5 - 8.8, -8, s * 10.5 + 8.8, 7, 2, None, frame, 2.0)
        pen.line([(-2, -2), (2, -2)], frame, 2)
        for s in (-1, 1):
            pen.line([(s * 19, -3), (s * 24, -4)], frame, 1.6)
    elif avatar.eyewear == "sunglasses":
        for s in (-1, 1):
            pen.rounded(s * 11 - 9.5, -8, s * 11 + 9.5, 7, 5, (26, 26, 32))
            pen.line([(s * 11 - 5, -4), (s * 11 - 1, -5.5)], (150, 160, 180), 1.6)
        pen.line([(-24, -5), (24, -5)], (26, 26, 32), 2)
    elif avatar.eyewear == "eyepatch":
        pen.line([(-25, -14), (25, 6)], black, 1.8)
        pen.ellipse(-18.5, -9, -3, 7, black)
