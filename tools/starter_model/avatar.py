"""What one avatar looks like, and avatars at random as the starter model is trained on them."""

from __future__ import annotations

import random
from dataclasses import dataclass

from tools.starter_model.palette import (
    CLOTHES,
    CLOTHES_COLOURS,
    COLOURS,
    EYES,
    EYEWEAR,
    HAIR,
    HAIRSTYLES,
    HAT_COLOURS,
    HATS,
    MARKS,
    MOODS,
    PLAIN,
    SCENES,
    SKIN,
)

_STYLE_WEIGHTS = {
    "woman": (0.10, 0.24, 0.16, 0.10, 0.05, 0.11, 0.12, 0.10, 0.01, 0.01),
    "man": (0.38, 0.07, 0.03, 0.13, 0.20, 0.03, 0.03, 0.0, 0.07, 0.06),
}
_CLOTHES_WEIGHTS = {"woman": (0.24, 0.2, 0.14, 0.14, 0.14, 0.14), "man": (0.28, 0.24, 0.2, 0.16, 0, 0.12)}
_MOOD_WEIGHTS = (0.30, 0.12, 0.16, 0.11, 0.11, 0.10, 0.10)
_EYEWEAR_WEIGHTS = (0.70, 0.10, 0.08, 0.08, 0.04)
_HAT_WEIGHTS = (0.60, 0.06, 0.06, 0.05, 0.04, 0.04, 0.04, 0.04, 0.04, 0.03)


@dataclass(frozen=True)
class Avatar:
    """Every attribute of one drawing, as words of `palette`; None means "has none".

    `mark` is (kind, colour word, side -1 left or 1 right); `tips`, `streak` and `two_tone` are hair colours.
    `two_tone` colours the right half of the hair; the base model never sees that.
    """

    who: str  # woman, man
    kind: str  # human, elf, alien, robot
    hair: str
    hair_colour: str
    skin: str
    eyes: str
    mood: str
    eyewear: str | None
    hat: str | None
    hat_colour: str
    beard: str | None  # beard, mustache
    wear: str
    wear_colour: str
    ground: str  # one of SCENES or a plain colour
    frame: str = "mid"  # mid, close, far
    grey: bool = False
    mark: tuple[str, str, int] | None = None
    tips: str | None = None
    streak: str | None = None
    two_tone: str | None = None


def sample(rng: random.Random) -> Avatar:
    """Return an avatar at random; the same generator state gives the same avatar."""
    who = rng.choice(["woman", "man"])
    chance = rng.random()
    kind = "elf" if chance < 0.05 else "alien" if chance < 0.09 else "robot" if chance < 0.13 else "human"
    hair = rng.choices(HAIRSTYLES, _STYLE_WEIGHTS[who])[0]
    hair_colour, skin, eyes = rng.choice(list(HAIR)), rng.choice(list(SKIN)), rng.choice(list(EYES))
    mood = rng.choices(MOODS, _MOOD_WEIGHTS)[0]
    eyewear = rng.choices((None, *EYEWEAR), _EYEWEAR_WEIGHTS)[0]
    hat = rng.choices((None, *HATS), _HAT_WEIGHTS)[0]
    hat_colour = rng.choice(HAT_COLOURS)
    if hat in ("cap", "beanie", "witch hat", "top hat") and hair in ("spiky", "bun", "mohawk"):
        hair = rng.choice(["short", "long"] if who == "woman" else ["short"])
    if hat in ("crown", "cat ears", "bow") and hair in ("bun", "mohawk"):
        hair = "short"
    beard = None
    if who == "man" and kind in ("human", "elf"):
        beard = rng.choices((None, "beard", "mustache"), (0.68, 0.21, 0.11))[0]
    wear = rng.choices(CLOTHES, _CLOTHES_WEIGHTS[who])[0]
    wear_colour = rng.choice(CLOTHES_COLOURS)
    ground = rng.choice(SCENES) if rng.random() < 0.42 else rng.choice(PLAIN)
    frame = rng.choices(("mid", "close", "far"), (0.7, 0.15, 0.15))[0]
    grey = rng.random() < 0.02
    mark = None
    if rng.random() < 0.07:
        mark = (rng.choice(MARKS), rng.choice(list(COLOURS)), rng.choice([-1, 1]))
    tips = rng.choice(list(HAIR)) if rng.random() < 0.06 else None
    streak = rng.choice(list(HAIR)) if rng.random() < 0.04 else None
    return Avatar(
        who, kind, hair, hair_colour, skin, eyes, mood, eyewear, hat, hat_colour, beard, wear, wear_colour, ground,
        frame, grey, mark, tips, streak,
    )  # fmt: skip
