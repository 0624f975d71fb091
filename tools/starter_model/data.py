"""The pictures on disk and the batches drawn from them."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from tools.starter_model import drawing, shapes
from tools.starter_model.avatar import Avatar, sample
from tools.starter_model.palette import SIZE
from tools.starter_model.plan import Plan
from tools.starter_model.training import Work

#: The last pictures are never trained on: they measure the VAE.
KEPT_BACK = 16


def make(work: Work, plan: Plan, out: Path) -> None:
    """Draw avatars.npy with avatars.jsonl and shapes.npy (uint8, count x 128 x 128 x 3) into a folder.

    Every picture has a generator of its own, so the n-th one does not depend on how many there are.
    """
    out.mkdir(parents=True, exist_ok=True)
    with (out / "avatars.jsonl").open("w", encoding="utf-8") as file:

        def avatar(rng: random.Random) -> Image.Image:
            made = sample(rng)
            file.write(json.dumps(asdict(made)) + "\n")
            return drawing.draw(made, rng)

        _fill(work, "avatars", out / "avatars.npy", plan.avatars, avatar)
    _fill(work, "shapes", out / "shapes.npy", plan.shapes, shapes.draw)


def _fill(work: Work, name: str, path: Path, count: int, draw: Callable[[random.Random], Image.Image]) -> None:
    table = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=(count, SIZE, SIZE, 3))
    told = time.monotonic()
    for number in range(count):
        table[number] = np.asarray(draw(random.Random(f"{work.seed}:{name}:{number}")))
        if time.monotonic() - told > 5:
            told = time.monotonic()
            work.say(f"data: {number + 1}/{count} {name}")
    table.flush()
    work.say(f"data: {count} {name}")


def read_avatars(folder: Path) -> list[Avatar]:
    """Return what was drawn, in the order of avatars.npy."""
    rows = [json.loads(line) for line in (folder / "avatars.jsonl").read_text("utf-8").splitlines()]
    return [Avatar(**{**row, "mark": tuple(row["mark"]) if row["mark"] else None}) for row in rows]


class Pictures:
    """The drawn pictures, read from the disk as they are needed."""

    def __init__(self, folder: Path) -> None:
        self.avatars = np.load(folder / "avatars.npy", mmap_mode="r")
        self.shapes = np.load(folder / "shapes.npy", mmap_mode="r")

    def batch(self, count: int, generator: torch.Generator, *, crop: int = SIZE) -> torch.Tensor:
        """Return pictures at random (a fifth of them shapes), count x 3 x crop x crop, from -1 to 1.

        Crops are mirrored at random; whole pictures are not.
        """

        def below(limit: int) -> int:
            return int(torch.randint(0, limit, (1,), generator=generator))

        rows = []
        for _ in range(count):
            table = self.shapes if below(5) == 0 else self.avatars
            usable = len(table) - (KEPT_BACK if table is self.avatars else 0)
            picture = table[below(usable)]
            if crop < SIZE:
                y, x = below(SIZE - crop + 1), below(SIZE - crop + 1)
                picture = picture[y : y + crop, x : x + crop]
                picture = picture[:, ::-1] if below(2) else picture
            rows.append(picture)
        return to_tensor(np.stack(rows))

    def kept_back(self) -> torch.Tensor:
        """Return the avatars that no VAE step has seen."""
        return to_tensor(self.avatars[-KEPT_BACK:])


def to_tensor(pictures: Any) -> torch.Tensor:
    """Turn uint8 pictures (count x height x width x 3) into floats from -1 to 1 (count x 3 x height x width)."""
    return (torch.from_numpy(np.array(pictures)).permute(0, 3, 1, 2).float() / 127.5 - 1).contiguous()
