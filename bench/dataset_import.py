"""How quick an import is: `python -m bench.dataset_import [pictures] [rounds]`.

Beside it, in the same run and in turns, a bare Pillow loop on the same cores: decode, the same two thumbnails, written
to files. The import does that and more: hashes of file and pixels, every measure, the original copied and synced, the
rows. Goal: at least 0.8 of the loop's pictures per second.
"""

from __future__ import annotations

import os
import random
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image, ImageChops, ImageFilter

from bench.figures import median, save, table
from dalla.events import EventBus
from dalla.imaging import THUMBNAILS
from dalla.jobs.local import LocalQueue
from dalla.services.dataset_import import DatasetImport
from dalla.services.datasets import Datasets
from dalla.services.uploads import Uploads
from dalla.settings import Settings
from dalla.stores.blobs import FileBlobs
from dalla.stores.dataset_captions import SqlCaptions
from dalla.stores.dataset_versions import SqlDatasetVersions
from dalla.stores.datasets import SqlDatasets
from dalla.stores.library import Library
from dalla.stores.tasks import SqlTasks

#: What people train with: phone and camera pictures scaled for the purpose, and drawn ones.
SHAPES = [(1024, 1024, "jpg"), (1216, 832, "jpg"), (1536, 1024, "jpg"), (1024, 1536, "jpg"), (1024, 1024, "png")]
GOAL = 0.8


def draw(folder: Path, count: int) -> int:
    """Write pictures that look like photos to a decoder (soft shapes, some grain); return their pixels."""
    pick = random.Random(11)
    pixels = 0
    for n in range(count):
        width, height, ending = SHAPES[n % len(SHAPES)]
        coarse = Image.effect_noise((16, 16), 120).resize((width, height), Image.Resampling.BICUBIC)
        fine = Image.effect_noise((width, height), 18).filter(ImageFilter.GaussianBlur(0.7))
        bands = [
            ImageChops.add(ImageChops.offset(coarse, pick.randrange(width), pick.randrange(height)), fine, 2.0, -20)
            for _ in range(3)
        ]
        image = Image.merge("RGB", bands)
        how: dict[str, Any] = {"quality": 92} if ending == "jpg" else {"compress_level": 6}
        image.save(folder / f"{n:04}.{ending}", **how)
        (folder / f"{n:04}.txt").write_text(f"luna, picture {n}, soft light", encoding="utf-8")
        pixels += width * height
    return pixels


Taken = tuple[float, float]  # seconds on the clock, and of processor time in this process


def timed(work: Callable[[], object]) -> Taken:
    began, used = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - began, time.process_time() - used


def bare(folder: Path, target: Path, cores: int) -> None:
    """Decode and make both thumbnails of every picture with Pillow alone."""

    def one(path: Path) -> None:
        with Image.open(path) as image:
            source = image.convert("RGB")
        for size, longest in sorted(THUMBNAILS.items(), key=lambda item: -item[1]):
            scale = min(1.0, longest / max(source.size))
            box = (max(1, round(source.width * scale)), max(1, round(source.height * scale)))
            source = source.resize(box, Image.Resampling.LANCZOS, reducing_gap=3.0)
            source.save(target / f"{path.stem}.{size}.webp", "WEBP", quality=82, method=2)

    target.mkdir()
    with ThreadPoolExecutor(cores) as pool:
        list(pool.map(one, sorted(p for p in folder.iterdir() if p.suffix != ".txt")))


class Installation:
    """An installation with nothing but datasets."""

    def __init__(self, root: Path) -> None:
        settings = Settings.load(environ={"DALLA_DATA_DIR": str(root / "data")}, env_file=root / "no.env")
        data = Path(settings.data_dir)
        data.mkdir(parents=True)
        events = EventBus()
        self.library = Library.open(data / "dalla.db")
        store = SqlDatasets(self.library)
        blobs = FileBlobs(data)
        self.jobs = LocalQueue(SqlTasks(self.library), events, immediate=True)
        datasets = Datasets(settings, store, SqlCaptions(self.library), SqlDatasetVersions(self.library), blobs, events)
        self.imports = DatasetImport(settings, datasets, store, blobs, Uploads(settings), self.jobs)

    def bring(self, folder: Path, count: int) -> None:
        """Import the folder into a new dataset."""
        job, _ = self.imports.start(path=str(folder))
        done = self.jobs.get(job.id)
        assert done.status == "completed" and done.result and done.result["added"] == count, (done.error, done.result)


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 5
    cores = os.cpu_count() or 1
    with tempfile.TemporaryDirectory(prefix="dalla-bench-") as where:
        root = Path(where)
        folder = root / "pictures"
        folder.mkdir()
        pixels = draw(folder, count)
        installation = Installation(root)
        installation.bring(folder, count)  # everything is loaded and the files are in the cache
        loops: list[Taken] = []
        imports: list[Taken] = []
        for n in range(rounds):
            for turn in (0, 1) if n % 2 else (1, 0):
                if turn:
                    loops.append(timed(partial(bare, folder, root / f"thumbs{n}", cores)))
                else:
                    imports.append(timed(partial(installation.bring, folder, count)))
        installation.library.close()
    ratio, cpu = ([loop[i] / taken[i] for loop, taken in zip(loops, imports, strict=True)] for i in (0, 1))
    rows = {}
    for name, arm in (("loop", loops), ("import", imports)):
        wall, used = median([one[0] for one in arm]), median([one[1] for one in arm])
        rows[name] = [count / wall, wall * 1000 / count, used * 1000 / count]
    size = round(pixels / count / 1e6, 2)
    table(
        f"Import of {count} pictures of {size} MP on {cores} cores, median of {rounds} rounds in turns",
        ["", "pictures/s", "ms a picture", "processor ms"],
        [
            ["bare Pillow loop (decode, two thumbnails)", *rows["loop"]],
            ["import (the same, hashes, measures, rows)", *rows["import"]],
            [f"loop / import (goal {GOAL})", median(ratio), "", median(cpu)],
        ],
    )
    save(
        "dataset_import",
        {
            "pictures": count,
            "megapixels": size,
            "loop": [round(value, 2) for value in rows["loop"]],
            "import": [round(value, 2) for value in rows["import"]],
            "ratio": round(median(ratio), 3),
            "processor_ratio": round(median(cpu), 3),
            "ratios": [round(value, 3) for value in ratio],
            "goal": GOAL,
        },
    )


if __name__ == "__main__":
    main()
