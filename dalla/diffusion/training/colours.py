"""Does the starter model still draw the colours it is asked for, and has the trigger word the hair of the pictures?

The starter model draws people in one way: a bust in the middle, so background, hair and clothes lie in fixed places,
and it knows few colours. A few prompts that name all three are drawn with the same seeds without the LoRA, with it,
and with it and the trigger word; then the colours are read off and compared with what was asked for. Other models
are not measured this way. `tools/starter_model/measure.py` reads its pictures with the same places and palette.
"""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from dalla.diffusion import likeness

log = logging.getLogger(__name__)

RGB = tuple[int, int, int]
Box = tuple[int, int, int, int]  # left, top, right, bottom in a picture of SIZE px
Tally = dict[str, tuple[int, int]]  # what -> right, of how many

#: Side in px of the pictures that the places are given for; others are scaled.
SIZE = 128
#: The colours the starter model knows by name.
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
#: Colours of plain backgrounds, and of clothes.
PLAIN = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "white", "gray", "black", "teal")

BACKGROUND_PLACES: tuple[Box, ...] = ((2, 2, 22, 30), (106, 2, 126, 30))
HAIR_PLACES: tuple[Box, ...] = ((54, 31, 76, 39),)
CLOTHES_PLACES: tuple[Box, ...] = ((30, 112, 46, 127), (82, 112, 98, 127))
LEFT_HAIR: tuple[Box, ...] = ((50, 30, 60, 42),)
RIGHT_HAIR: tuple[Box, ...] = ((68, 30, 78, 42),)

#: Drawing steps of a picture; the colours are right from four on.
STEPS = 6
SEED = 4200
#: The base model must draw so much as asked for, or the test says nothing.
SOUND = 0.75
#: A difference counts from this probability on that it is chance (Fisher's exact test, one-sided).
CHANCE = 0.05
#: So many training pictures, and such a share of them, make a hair colour theirs.
FEWEST, AGREED = 4, 0.6
_VOCABULARY = 4096


@dataclass(frozen=True)
class Asked:
    """A prompt of the test: who it shows, and the colours it names."""

    who: str  # may hold {hair}
    wear: str
    background: str
    hair: str
    clothes: str

    def plain(self) -> str:
        """Return the prompt without a trigger word; it names all three colours."""
        return f"portrait of a {self.who.format(hair=self.hair)}, {self._rest()}"

    def named(self, trigger: str, class_word: str) -> str:
        """Return the prompt with the trigger word, which decides the hair."""
        return ", ".join(part for part in (trigger, class_word, self._rest()) if part)

    def _rest(self) -> str:
        return f"wearing a {self.clothes} {self.wear}, {self.background} background"


ASKED = (
    Asked("smiling woman with long {hair} hair", "t-shirt", "green", "blonde", "blue"),
    Asked("serious man with short {hair} hair", "sweater", "yellow", "black", "red"),
    Asked("smiling woman with {hair} bob haircut", "hoodie", "teal", "pink", "white"),
    Asked("smiling man with short {hair} hair", "t-shirt", "purple", "white", "orange"),
)


# ---------------------------------------------------------------- reading a picture


def colour_at(picture: Image.Image, places: Sequence[Box], palette: Mapping[str, RGB]) -> str:
    """Return the palette's word that is nearest to the mean of the places' middle colours."""
    if picture.size != (SIZE, SIZE):
        picture = ImageOps.fit(picture, (SIZE, SIZE), Image.Resampling.BOX)
    pixels = np.asarray(picture.convert("RGB"), dtype=float)
    middles = [np.median(pixels[top:bottom, left:right].reshape(-1, 3), 0) for left, top, right, bottom in places]
    colour = np.mean(middles, axis=0)
    return min(palette, key=lambda word: float(np.abs(colour - np.array(palette[word])).sum()))


def background(picture: Image.Image) -> str:
    """Return the colour of a plain background."""
    return colour_at(picture, BACKGROUND_PLACES, {word: COLOURS[word] for word in PLAIN})


def hair(picture: Image.Image) -> str:
    """Return the colour of the hair above the forehead."""
    return colour_at(picture, HAIR_PLACES, HAIR)


def clothes(picture: Image.Image) -> str:
    """Return the colour of what is worn."""
    return colour_at(picture, CLOTHES_PLACES, {word: COLOURS[word] for word in PLAIN})


def hair_sides(picture: Image.Image) -> tuple[str, str]:
    """Return the hair's colour left and right of the parting."""
    return colour_at(picture, LEFT_HAIR, HAIR), colour_at(picture, RIGHT_HAIR, HAIR)


def common_hair(pictures: Iterable[Image.Image]) -> tuple[str, str] | None:
    """Return the hair that most pictures have (left, right), or None where they do not agree."""
    found = [hair_sides(picture) for picture in pictures]
    if len(found) < FEWEST:
        return None
    sides = [Counter(side).most_common(1)[0] for side in zip(*found, strict=True)]
    if any(count < AGREED * len(found) for _, count in sides):
        return None
    return sides[0][0], sides[1][0]


def tally(pictures: Sequence[Image.Image], asked: Sequence[Asked], what: Sequence[str]) -> Tally:
    """Count for each of `what` (background, hair, clothes) in how many pictures the colour is the one asked for."""
    readers = {"background": background, "hair": hair, "clothes": clothes}
    pairs = list(zip(pictures, asked, strict=True))
    return {name: (sum(readers[name](p) == getattr(a, name) for p, a in pairs), len(pairs)) for name in what}


# ---------------------------------------------------------------- a run


def is_starter(pipe: Any, family: str, native: int) -> bool:
    """Return whether a pipeline is the starter model or was built like it: small, and with its vocabulary.

    Its tokenizer was learned from the captions of its drawings: it is tiny and has every colour as a word.
    """
    if family != "sd15" or native > likeness.DRAWN_SIDE:
        return False
    words = pipe.tokenizer.get_vocab()
    known = {*COLOURS, *HAIR, "hair", "background", "wearing", "sweater", "hoodie"}
    return len(words) <= _VOCABULARY and all(f"{word}</w>" in words for word in known)


def of_run(loop: Any) -> dict[str, Any] | None:
    """Return the reading for the report of a run, or None when the base model is not the starter model.

    `loop` is the training that has ended (training/loop.py), with the delivered numbers on the model. The answer:
    {measured, text, notes, sound, trigger, base, lora, withTrigger, hair}; base, lora and withTrigger are
    {background, hair, clothes: [right, of]} (with the trigger word without hair, or None where there is no such word);
    hair is {left, right, pictures, agree, of} or None; sound says whether the base model itself passes; notes are the
    sentences of `hints`.
    Never raises; what cannot be measured has `measured` false and a `text` that says why.
    """
    sampler = loop.loaded.sampler
    if not sampler.colours:
        return None
    try:
        return _measure(loop)
    except Exception as exc:  # noqa: BLE001 - a report without one reading is better than a run without its LoRA
        log.warning("The colours could not be measured", exc_info=True)
        return {
            "measured": False,
            "notes": [],
            "text": f"Whether prompts are followed could not be measured: {exc!r}"[:300],
        }


def _measure(loop: Any) -> dict[str, Any]:
    sampler = loop.loaded.sampler
    plain = [prompt for prompt in sampler.colours if not prompt.with_trigger]
    named = [prompt for prompt in sampler.colours if prompt.with_trigger]

    def draw(prompts: list[Any]) -> list[Image.Image]:
        return list(sampler.draw_each(prompts, side=sampler.native, steps=STEPS))

    every = ("background", "hair", "clothes")
    with loop.loaded.adapters.off():
        base = tally(draw(plain), ASKED, every)
    lora = tally(draw(plain), ASKED, every)
    with_trigger, theirs = None, None
    if named:
        pictures = draw(named)
        with_trigger = tally(pictures, ASKED, ("background", "clothes"))
        folder = Path(loop.config.dataset_folder)
        rows = likeness.spread(loop.prepared.train)
        wanted = common_hair(likeness.training_picture(folder, row, True) for row in rows)
        if wanted is not None:
            agree = sum(hair_sides(picture) == wanted for picture in pictures)
            theirs = {"left": wanted[0], "right": wanted[1], "pictures": len(rows), "agree": agree, "of": len(pictures)}
    found: dict[str, Any] = {
        "measured": True, "trigger": bool(named), "base": base, "lora": lora, "withTrigger": with_trigger, "hair": theirs,
        "sound": _share(base) >= SOUND,
    }  # fmt: skip
    return {**found, "text": _told(found), "notes": hints(found)}


def hints(found: Mapping[str, Any]) -> list[str]:
    """Return what the reading adds to a run's verdict: nothing where it is not sound or may be chance."""
    if not found["sound"]:
        return []
    told = []
    if _worse(_sum(found["base"]), _sum(found["lora"])):
        where = "without the trigger word " if found["trigger"] else ""
        told.append(
            f"Prompts {where}are followed less than before: {_of(found['lora'])} colours are as asked for, without the "
            f"LoRA {_of(found['base'])}. Fewer steps, a lower learning rate or a prior weight keep more of the model."
        )
    after = found["withTrigger"]
    if after and _worse(_sum({name: found["base"][name] for name in after}), _sum(after)):
        told.append(
            "With the trigger word, background and clothes no longer follow the prompt. Captions that name them keep "
            "them out of the LoRA; fewer steps help, too."
        )
    return told


def _told(found: Mapping[str, Any]) -> str:
    if not found["sound"]:
        return (
            f"The base model itself draws only {_of(found['base'])} colours as asked for, so this test says little about "
            "the LoRA."
        )
    where = " without the trigger word" if found["trigger"] else ""
    text = f"Prompts{where}: {_of(found['lora'])} colours are as asked for, {_of(found['base'])} without the LoRA."
    if found["withTrigger"]:
        text += f" With it, background and clothes are right in {_of(found['withTrigger'])} places."
    if found["hair"]:
        one = found["hair"]
        named = one["left"] if one["left"] == one["right"] else f"{one['left']} and {one['right']}"
        text += f" {one['agree']} of {one['of']} such pictures have the hair of the training pictures ({named})."
    return text


def _sum(counts: Mapping[str, Sequence[int]]) -> tuple[int, int]:
    return sum(right for right, _ in counts.values()), sum(of for _, of in counts.values())


def _share(counts: Mapping[str, Sequence[int]]) -> float:
    right, of = _sum(counts)
    return right / max(1, of)


def _of(counts: Mapping[str, Sequence[int]]) -> str:
    right, of = _sum(counts)
    return f"{right} of {of}"


def _worse(before: tuple[int, int], after: tuple[int, int]) -> bool:
    """Say whether `after` (right, of) is lower than `before` by more than chance explains."""
    (a, n), (b, m) = before, after
    if a * m <= b * n:
        return False
    right, wrong = a + b, n + m - a - b
    ways = sum(math.comb(right, k) * math.comb(wrong, m - k) for k in range(b + 1))
    return ways / math.comb(n + m, m) < CHANCE
