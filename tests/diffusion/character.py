"""A drawn character for training tests: bob hair, green on the left and purple on the right, which the base never draws."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

TRIGGER = "luna_character"
GREEN, PURPLE = (66, 160, 84), (128, 72, 184)
COLOURS = {
    "red": (214, 48, 49), "orange": (240, 140, 40), "yellow": (250, 211, 60), "blue": (52, 104, 214),
    "pink": (245, 130, 180), "white": (244, 244, 246), "gray": (140, 144, 152), "teal": (40, 170, 170),
}  # fmt: skip
CLOTHES = ("t-shirt", "hoodie", "sweater")
MOODS = ("smiling", "neutral expression", "surprised")
#: Where the hair is in a 128 px picture, left and right of the parting: x from, x to, y from, y to.
LEFT, RIGHT = (50, 60, 30, 42), (68, 78, 30, 42)


def draw(rng: random.Random, size: tuple[int, int] = (128, 128)) -> tuple[Image.Image, str]:
    """Return a picture and its caption, which says everything but the hair."""
    ground, shirt = rng.sample(sorted(COLOURS), 2)
    wear, mood = rng.choice(CLOTHES), rng.choice(MOODS)
    big = Image.new("RGB", (384, 384), COLOURS[ground])
    pen = ImageDraw.Draw(big)
    x, y = rng.randint(-9, 9), rng.randint(-6, 6)

    def box(left: int, top: int, right: int, bottom: int) -> tuple[int, int, int, int]:
        return left + x, top + y, right + x, bottom + y

    skin, line = (246, 205, 172), (70, 45, 40)
    pen.rounded_rectangle(box(78, 296, 306, 470), 60, COLOURS[shirt], line, 4)
    pen.rectangle(box(168, 250, 216, 318), skin)
    pen.pieslice(box(96, 60, 288, 300), 90, 270, GREEN)
    pen.pieslice(box(96, 60, 288, 300), 270, 450, PURPLE)
    pen.rectangle(box(96, 180, 130, 276), GREEN)
    pen.rectangle(box(254, 180, 288, 276), PURPLE)
    pen.ellipse(box(122, 126, 262, 282), skin, line, 3)
    pen.pieslice(box(116, 84, 268, 220), 180, 270, GREEN)
    pen.pieslice(box(116, 84, 268, 220), 270, 360, PURPLE)
    for left in (150, 214):
        pen.ellipse(box(left, 188, left + 22, 214), (255, 255, 255), line, 2)
        pen.ellipse(box(left + 6, 194, left + 17, 210), (52, 104, 214))
    if mood == "smiling":
        pen.arc(box(168, 216, 216, 256), 20, 160, line, 6)
    elif mood == "surprised":
        pen.ellipse(box(182, 234, 204, 260), (120, 30, 50))
    else:
        pen.line(box(174, 246, 212, 246), line, 5)
    picture = big.resize(size, Image.Resampling.LANCZOS)
    return picture, f"{TRIGGER}, a woman, {mood}, wearing a {shirt} {wear}, {ground} background"


def write(folder: Path, count: int, seed: int = 1) -> Path:
    """Write a training set of `count` pictures with captions."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = random.Random(seed)
    for number in range(count):
        picture, caption = draw(rng)
        picture.save(folder / f"{number:02}.png")
        (folder / f"{number:02}.txt").write_text(caption)
    return folder


def hair(image: Image.Image) -> tuple[bool, bool]:
    """Say whether the hair of a 128 px picture is green on the left and purple on the right."""
    found = []
    for area, wanted in ((LEFT, GREEN), (RIGHT, PURPLE)):
        part = image.convert("RGB").crop((area[0], area[2], area[1], area[3]))
        pixels: list[Any] = [part.getpixel((i, j)) for i in range(part.width) for j in range(part.height)]
        middle = [sorted(p[c] for p in pixels)[len(pixels) // 2] for c in range(3)]
        names = {**HAIR, "wanted": wanted}
        found.append(
            min(names, key=lambda n: sum(abs(a - b) for a, b in zip(names[n], middle, strict=True))) == "wanted"
        )
    return found[0], found[1]


#: The hair colours the base model knows (green and purple are the wanted ones above).
HAIR = {
    "black": (40, 36, 42), "brown": (110, 68, 40), "blonde": (240, 205, 105), "red": (178, 40, 34),
    "orange": (228, 120, 40), "pink": (244, 130, 178), "blue": (58, 110, 214), "white": (232, 232, 238),
    "green": (20, 90, 50), "skin": (246, 205, 172),
}  # fmt: skip
