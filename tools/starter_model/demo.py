"""The demo character: Luna, with hair half green, half purple and a red star on the cheek.

The base model never draws two-tone hair or stars, so a LoRA that shows them has learned them. Training
captions name mood, clothes and background and leave hair and star to the trigger word.

    python -m tools.starter_model.demo training_data/demo
"""

from __future__ import annotations

import argparse
import random
import sys
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from tools.starter_model import captions, drawing
from tools.starter_model.avatar import Avatar, sample
from tools.starter_model.palette import CLOTHES, CLOTHES_COLOURS, MOODS, PLAIN, SCENES

TRIGGER = "luna_character"
SEED = 42
README = f"""# Demo: a drawn character to train a first LoRA on

Twelve 128 px pictures with captions; trigger word `{TRIGGER}`, class word `woman`. Luna has hair that is green on the
left and purple on the right and a red star on her cheek, all of which the starter model does not draw by itself.

Made by `python -m tools.starter_model.demo training_data/demo`; under the project's own licence, like the drawing code.

    python train_lora.py --dataset training_data/demo --base-model models/starter --name luna \\
        --trigger {TRIGGER} --class-word woman --preset quick
"""


@dataclass(frozen=True)
class Example:
    """One drawing with its caption."""

    avatar: Avatar
    picture: Image.Image
    caption: str


@dataclass(frozen=True)
class DemoSet:
    """12 pictures to train on, 24 others of Luna to measure with, 24 of other people (what is forgotten)."""

    train: list[Example]
    held_out: list[Example]
    others: list[Example]


def luna(rng: random.Random) -> Avatar:
    """Return Luna in some mood, clothes and place."""
    mood, wear, wear_colour = rng.choice(MOODS), rng.choice(CLOTHES), rng.choice(CLOTHES_COLOURS)
    ground = rng.choice(SCENES + PLAIN)
    frame = rng.choices(["mid", "close", "far"], [0.8, 0.1, 0.1])[0]
    return Avatar(
        who="woman", kind="human", hair="bob", hair_colour="green", skin="light", eyes="purple", mood=mood, eyewear=None,
        hat=None, hat_colour="red", beard=None, wear=wear, wear_colour=wear_colour, ground=ground, frame=frame,
        mark=("star", "red", 1), two_tone="purple",
    )  # fmt: skip


def describe(avatar: Avatar) -> str:
    """Return Luna's caption: the trigger word, and all that should stay changeable."""
    mood, place = captions.plain(captions.MOOD_WORDS, avatar.mood), captions.where(avatar.ground)
    article = "an" if avatar.wear_colour[0] in "aeiou" else "a"
    return f"{TRIGGER}, a {avatar.who}, {mood}, wearing {article} {avatar.wear_colour} {avatar.wear}, {place}"


def demo_set(seed: int = SEED) -> DemoSet:
    """Draw the whole set; the same seed gives the same pixels and captions."""
    rng = random.Random(seed)
    lunas = [luna(rng) for _ in range(36)]
    others = [sample(rng) for _ in range(24)]
    drawn = [Example(avatar, drawing.draw(avatar, rng), describe(avatar)) for avatar in lunas]
    pictures = [(avatar, drawing.draw(avatar, rng)) for avatar in others]
    people = [Example(avatar, picture, captions.caption(avatar, rng)) for avatar, picture in pictures]
    return DemoSet(drawn[:12], drawn[12:], people)


def write(folder: Path, examples: list[Example]) -> list[Path]:
    """Write pictures as 01.png, 02.png … with a .txt caption beside each; return the pictures' paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number, example in enumerate(examples, 1):
        path = folder / f"{number:02}.png"
        example.picture.save(path, optimize=True)
        path.with_suffix(".txt").write_text(example.caption + "\n", encoding="utf-8", newline="\n")
        paths.append(path)
    return paths


def main(argv: list[str] | None = None) -> int:
    """Write the demo set into a folder."""
    parser = argparse.ArgumentParser(prog="python -m tools.starter_model.demo", description="Draw the demo set.")
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args(argv).folder
    paths = write(folder, demo_set().train)
    (folder / "README.md").write_text(README, encoding="utf-8", newline="\n")
    print(f"{len(paths)} pictures with captions in {folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
