"""The words the starter model knows, with the colours they stand for (RGB, 0 to 255)."""

from __future__ import annotations

from dalla.diffusion.training.colours import COLOURS, HAIR, PLAIN, RGB, SIZE

#: SIZE is the side of every picture in px. It is drawn so much larger before it is averaged down.
OVERSAMPLING = 3

SKIN: dict[str, RGB] = {
    "pale": (255, 228, 208), "light": (246, 205, 172), "tan": (222, 168, 120), "brown": (164, 108, 70),
    "dark": (106, 68, 46),
}  # fmt: skip
EYES: dict[str, RGB] = {
    "brown": (104, 62, 30), "blue": (52, 120, 220), "green": (50, 150, 70), "purple": (130, 70, 190),
    "black": (34, 30, 34),
}  # fmt: skip

HAIRSTYLES = ("short", "long", "bob", "curly", "spiky", "bun", "ponytail", "pigtails", "mohawk", "bald")
MOODS = ("smiling", "laughing", "neutral", "sad", "surprised", "angry", "winking")
CLOTHES = ("t-shirt", "hoodie", "suit", "striped shirt", "dress", "sweater")
EYEWEAR = ("glasses", "square glasses", "sunglasses", "eyepatch")
HATS = ("cap", "beanie", "witch hat", "top hat", "crown", "headphones", "flower", "cat ears", "bow")
SCENES = ("beach", "forest", "space", "city", "mountains", "sunset", "snow", "library")
CLOTHES_COLOURS = PLAIN
HAT_COLOURS = ("red", "yellow", "green", "blue", "purple", "pink", "black", "white")
#: Marks on a cheek. "star" exists too, but the base model never sees one: a LoRA can bring it.
MARKS = ("heart", "dot", "tear", "stripes", "freckles", "cross", "triangle", "moon")

__all__ = [
    "CLOTHES", "CLOTHES_COLOURS", "COLOURS", "EYES", "EYEWEAR", "HAIR", "HAIRSTYLES", "HATS", "HAT_COLOURS", "MARKS", "MOODS",
    "OVERSAMPLING", "PLAIN", "RGB", "SCENES", "SIZE", "SKIN",
]  # fmt: skip
