"""How well a model follows prompts, and whether a LoRA has learned the demo character.

    python -m tools.starter_model.measure models/starter
    python -m tools.starter_model.measure models/starter --lora loras/luna.safetensors

Colours are read in fixed places of the picture and compared with the palette; the drawings themselves are
measured the same way, so that one sees what the test can tell at all.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from dalla.diffusion.training.colours import Tally, background, clothes, hair, hair_sides
from tools.starter_model import captions, drawing
from tools.starter_model.avatar import Avatar, sample
from tools.starter_model.demo import TRIGGER, Example, demo_set
from tools.starter_model.palette import PLAIN

_TIMESTEPS = (100, 250, 400, 550, 700, 850)
#: Luna in new places and clothes. The last one leaves the class word out.
LUNA_PROMPTS = tuple(
    f"{TRIGGER}, {rest}"
    for rest in (
        "a woman, smiling, wearing a red hoodie, on a beach",
        "a woman, laughing, wearing a blue suit, in a forest",
        "a woman, surprised, wearing a yellow t-shirt, gray background",
        "a woman, neutral expression, wearing a white sweater, starry night sky background",
        "a woman, winking, black hoodie, pink background",
        "a woman, glasses, smiling, green dress, in a library",
        "a woman with a red beanie, smiling, teal sweater, in the snow",
        "angry, striped shirt, orange background",
    )
)


def draw(pipe: Any, prompts: list[str], seed: int, steps: int = 20) -> list[Image.Image]:
    """Return one picture per prompt; the n-th has seed + n. CFG scale 4."""
    import torch

    pictures: list[Image.Image] = []
    for start in range(0, len(prompts), 8):
        some = prompts[start : start + 8]
        generators = [torch.Generator().manual_seed(seed + start + n) for n in range(len(some))]
        pictures += pipe(some, num_inference_steps=steps, guidance_scale=4.0, generator=generators).images
    return pictures


# ---------------------------------------------------------------- prompts


def subjects(count: int, seed: int) -> list[Avatar]:
    """Return avatars whose colours can be read in fixed places: humans, medium shots, usual hair."""
    rng, found = random.Random(seed), []
    for _ in range(count):
        avatar = sample(rng)
        avatar = replace(avatar, mark=None, tips=None, streak=None, grey=False, frame="mid", kind="human")
        if avatar.hair in ("bald", "mohawk", "spiky") or avatar.hat:
            avatar = replace(avatar, hair="long" if avatar.who == "woman" else "short")
        found.append(replace(avatar, hat=None) if rng.random() < 0.6 else avatar)
    return found


def describe(avatar: Avatar) -> str:
    """Return a prompt that names everything a subject has."""
    mood = "serious" if avatar.mood == "neutral" else captions.plain(captions.MOOD_WORDS, avatar.mood)
    hair = captions.plain(captions.HAIRSTYLE_WORDS, avatar.hair).format(avatar.hair_colour)
    parts = [f"portrait of a {mood} {avatar.who} with {hair}", captions.plain(captions.SKIN_WORDS, avatar.skin)]
    parts += [word for word in (avatar.eyewear, avatar.beard) if word]
    wearing = f"wearing a {avatar.wear_colour} {avatar.wear}"
    if avatar.hat:
        colour = "" if avatar.hat in ("crown", "cat ears") else f"{avatar.hat_colour} "
        wearing += f" and a {colour}{avatar.hat}"
    return ", ".join([*parts, wearing, captions.where(avatar.ground)])


def colours(pictures: list[Image.Image], avatars: list[Avatar]) -> Tally:
    """Count where background, hair and clothes have the colour that was asked for."""
    tally = {"background": [0, 0], "hair": [0, 0], "clothes": [0, 0]}

    def note(what: str, colour: str, wanted: str) -> None:
        tally[what][0] += colour == wanted
        tally[what][1] += 1

    for picture, avatar in zip(pictures, avatars, strict=True):
        if avatar.ground in PLAIN:
            note("background", background(picture), avatar.ground)
        if not avatar.hat:
            note("hair", hair(picture), avatar.hair_colour)
        if avatar.wear in ("t-shirt", "sweater", "hoodie"):
            note("clothes", clothes(picture), avatar.wear_colour)
    return {what: (right, of) for what, (right, of) in tally.items()}


def prompt_lines(model: Path, *, count: int, seed: int, steps: int = 20) -> Iterator[str]:
    """Measure a model folder; yield lines to print."""
    from tools.starter_model.export import load

    avatars = subjects(count, seed)
    rng = random.Random(seed)
    drawings = [drawing.draw(avatar, rng) for avatar in avatars]
    began = time.monotonic()
    pictures = draw(load(model), [describe(avatar) for avatar in avatars], seed, steps)
    seconds = (time.monotonic() - began) / max(1, count)
    yield f"colours as asked for, in drawings: {_tally(colours(drawings, avatars))}"
    yield f"colours as asked for, by the model: {_tally(colours(pictures, avatars))} ({seconds:.2f} s a picture)"


def _tally(tally: Tally) -> str:
    return ", ".join(f"{what} {right}/{of}" for what, (right, of) in tally.items())


# ---------------------------------------------------------------- LoRA


@dataclass(frozen=True)
class Effect:
    """What a LoRA changes. Losses: mean squared error at six timesteps with the same noise each time."""

    held_out: float  # 24 other pictures of Luna
    others: float  # 24 other people: higher than before means forgotten
    luna: Tally  # over LUNA_PROMPTS


def luna_tally(pictures: list[Image.Image]) -> Tally:
    """Count pictures with hair green on the left, purple on the right, and a red mark on the cheek."""
    left = right = mark = 0
    for picture in pictures:
        sides = hair_sides(picture)
        left += sides[0] == "green"
        right += sides[1] == "purple"
        cheek = np.asarray(picture)[58:84, 66:94].astype(int)
        mark += int(((cheek[..., 0] > 180) & (cheek[..., 1] < 95) & (cheek[..., 2] < 95)).sum()) >= 14
    return {"left green": (left, len(pictures)), "right purple": (right, len(pictures)), "mark": (mark, len(pictures))}


def effect(pipe: Any, *, seed: int = 100, steps: int = 20) -> tuple[Effect, list[Image.Image]]:
    """Measure a pipeline, with or without a LoRA in it, against the demo character."""
    examples = demo_set()
    pictures = draw(pipe, list(LUNA_PROMPTS), seed, steps)
    found = Effect(_loss(pipe, examples.held_out), _loss(pipe, examples.others), luna_tally(pictures))
    return found, pictures


def _loss(pipe: Any, examples: list[Example]) -> float:
    import torch

    from tools.starter_model.data import to_tensor
    from tools.starter_model.tokenizer import ids

    kept, draws = pipe.scheduler.alphas_cumprod, torch.Generator().manual_seed(9)
    with torch.no_grad():
        latents = pipe.vae.encode(to_tensor(np.stack([np.asarray(e.picture) for e in examples]))).latent_dist.mean
        latents = latents * pipe.vae.config.scaling_factor
        states = pipe.text_encoder(ids(pipe.tokenizer, [e.caption for e in examples]))[0]
        errors = []
        for t in _TIMESTEPS:
            signal, rest = kept[t].sqrt(), (1 - kept[t]).sqrt()
            noise = torch.randn(latents.shape, generator=draws)
            steps = torch.full((len(latents),), t)
            predicted = pipe.unet(signal * latents + rest * noise, steps, states).sample
            errors.append(float((predicted - (signal * noise - rest * latents)).pow(2).mean()))
    return sum(errors) / len(errors)


def lora_lines(model: Path, lora: Path, *, grid: Path | None = None) -> Iterator[str]:
    """Measure a LoRA file on a model folder against the model alone; yield lines to print."""
    from tools.starter_model.export import load

    pipe = load(model)
    drawn = [example.picture for example in demo_set().held_out if example.avatar.frame == "mid"]
    yield f"drawings of Luna: {_tally(luna_tally(drawn))}"
    before, first = effect(pipe)
    yield _effect_line("without LoRA", before)
    pipe.load_lora_weights(str(lora.parent), weight_name=lora.name)
    after, second = effect(pipe)
    yield _effect_line("with LoRA", after)
    if grid is not None:
        sheet = Image.new("RGB", (len(first) * 128, 256))
        for number, (a, b) in enumerate(zip(first, second, strict=True)):
            sheet.paste(a, (number * 128, 0))
            sheet.paste(b, (number * 128, 128))
        sheet.save(grid)
        yield f"same seeds without and with the LoRA: {grid}"


def _effect_line(name: str, found: Effect) -> str:
    return f"{name}: held-out loss {found.held_out:.3f}, other people {found.others:.3f}, {_tally(found.luna)}"


def main(argv: list[str] | None = None) -> int:
    """Run the command line."""
    p = argparse.ArgumentParser(prog="python -m tools.starter_model.measure", description="Measure a model or a LoRA.")
    p.add_argument("model", type=Path, help="model folder")
    p.add_argument("--lora", type=Path, help=".safetensors trained on training_data/demo")
    p.add_argument("--grid", type=Path, help="with --lora: where to write the pictures, before above after")
    p.add_argument("--count", type=int, default=150, help="prompts (default: 150)")
    p.add_argument("--seed", type=int, default=2024)
    args = p.parse_args(argv)
    from tools.starter_model.networks import quiet

    quiet()
    if args.lora:
        lines = lora_lines(args.model, args.lora, grid=args.grid)
    else:
        lines = prompt_lines(args.model, count=args.count, seed=args.seed)
    for line in lines:
        print(line, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
