"""The colours of one drawing, decided once: every part of the figure uses the same."""

from __future__ import annotations

import random
from dataclasses import dataclass

from tools.starter_model.avatar import Avatar
from tools.starter_model.palette import COLOURS, HAIR, RGB, SKIN
from tools.starter_model.pen import jitter, mix, shade


@dataclass(frozen=True)
class Look:
    """Colours with their outlines and shades. `style` is the haircut that is drawn ("bald" for aliens and robots)."""

    style: str
    hair: RGB
    hair_line: RGB
    hair_light: RGB
    skin: RGB
    skin_line: RGB
    wear: RGB
    wear_line: RGB
    wear_shade: RGB
    tips: RGB | None
    two_tone: RGB | None


def look(avatar: Avatar, rng: random.Random) -> Look:
    """Decide an avatar's colours; each differs a little from drawing to drawing."""
    hair = jitter(HAIR[avatar.hair_colour], rng, 9)
    skin = jitter(SKIN[avatar.skin], rng, 5)
    if avatar.kind == "alien":
        skin = jitter((140, 205, 110), rng, 8)
    if avatar.kind == "robot":
        skin = jitter((176, 186, 198), rng, 6)
    wear = jitter(COLOURS[avatar.wear_colour], rng, 8)
    return Look(
        style=avatar.hair if avatar.kind not in ("alien", "robot") else "bald",
        hair=hair,
        hair_line=shade(hair, 0.62) if avatar.hair_colour != "black" else (16, 14, 18),
        hair_light=mix(hair, (255, 255, 255), 0.18),
        skin=skin,
        skin_line=shade(skin, 0.68),
        wear=wear,
        wear_line=shade(wear, 0.62) if avatar.wear_colour != "black" else (14, 14, 18),
        wear_shade=shade(wear, 0.8),
        tips=jitter(HAIR[avatar.tips], rng, 6) if avatar.tips else None,
        two_tone=HAIR[avatar.two_tone] if avatar.two_tone else None,
    )
