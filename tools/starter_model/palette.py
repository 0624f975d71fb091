"""The words the starter model knows, with the colours they stand for (RGB, 0 to 255)."""

from __future__ import annotations

RGB = tuple[int, int, int]

#: Side of every picture in px, and how much larger it is drawn before it is averaged down.
SIZE = 128
OVERSAMPLING = 3

COLOURS: dict[str, RGB] = {
    "red": (214, 48, 49), "orange": (240, 140, 40), "yellow": (250, 211, 60), "green": (56, 161, 84),
    "blue": (52, 104, 214), "purple": (130, 70, 190), "pink": (245, 130, 180), "white": (244, 244, 246),
    "gray": (140, 144, 152), "black": (38, 38, 44), "brown": (122, 78, 48), "teal": (40, 170, 170),
}  # fmt: skip
HAIR: dict[str, RGB] = {
    "black": (40, 36, 42), "brown": (110, 68, 40), "blonde": (240, 205, 105), "red": (178, 40, 34),
    "orange": (228, 120, 40), "pink": (244, 130, 178), "purple": (128, 72, 184), "blue": (58, 110, 214),
    "green": (66, 160, 84), "white": (232, 232, 238),
}  # fmt: skip
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
PLAIN = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "white", "gray", "black", "teal")
CLOTHES_COLOURS = PLAIN
HAT_COLOURS = ("red", "yellow", "green", "blue", "purple", "pink", "black", "white")
#: Marks on a cheek. "star" exists too, but the base model never sees one: a LoRA can bring it.
MARKS = ("heart", "dot", "tear", "stripes", "freckles", "cross", "triangle", "moon")
