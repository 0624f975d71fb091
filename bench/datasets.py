"""How quick a dataset is: statistics of 10,000 pictures, pages of its grid at 10,000 and 100,000, caption replace.

`python -m bench.datasets [rows]` (rows of the large set, 100,000 by default). Cold: nothing remembered, as after any
change; warm: the next page, or statistics opened again. Records only: no picture is decoded. For context, what a bare
`SELECT … ORDER BY … LIMIT 100` of the same table costs, and what `str.replace` over the same texts in memory costs.
"""

from __future__ import annotations

import math
import random
import sqlite3
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.figures import median, milliseconds, percentile, save, table
from dalla.events import EventBus
from dalla.jobs.local import LocalQueue
from dalla.records.dataset import Dataset, DatasetImage, ImageFilter
from dalla.services.dataset_captions import DatasetCaptions
from dalla.services.datasets import Datasets
from dalla.settings import Settings
from dalla.stores.blobs import FileBlobs
from dalla.stores.dataset_captions import SqlCaptions
from dalla.stores.dataset_versions import SqlDatasetVersions
from dalla.stores.datasets import SqlDatasets
from dalla.stores.library import Library
from dalla.stores.tasks import SqlTasks

SMALL = 10_000
REPEATS = 20
PIECE = 2_000
SIZES = [(512, 512), (768, 512), (832, 1216), (1024, 1024), (1216, 832), (3024, 4032), (1080, 1920), (640, 480)]
TAGS = [
    "1girl",
    "solo",
    "long hair",
    "smile",
    "outdoors",
    "looking at viewer",
    "red dress",
    "day",
    "tree",
    "upper body",
]


def pictures(dataset_id: str, rows: int) -> tuple[list[DatasetImage], dict[str, dict[str, Any]]]:
    """Return made-up pictures of four folders, 8 sizes, with captions of 6 to 14 tags and 15 measured values each."""
    pick = random.Random(11)
    words = ["".join(pick.choices("abcdefghijklmnoprstuvw", k=pick.randint(4, 9))) for _ in range(3000)]
    images, metadata = [], {}
    for n in range(rows):
        width, height = pick.choice(SIZES)
        tags = ["luna_character", *pick.sample(TAGS, pick.randint(3, 8)), *pick.choices(words, k=pick.randint(2, 5))]
        id = f"img_{dataset_id}_{n:09}"
        moment = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(1_700_000_000 + n * 60))
        images.append(
            DatasetImage(
                id=id,
                dataset_id=dataset_id,
                filename=f"{n % 4 + 1}_luna/photo {n:06}.jpg",
                path=f"datasets/{dataset_id}/originals/{n:06}.jpg",
                mime="image/jpeg",
                format="JPEG",
                width=width,
                height=height,
                size_bytes=pick.randint(50_000, 9_000_000),
                sha256=f"{n:064x}",
                pixel_sha256=f"{n - n % 200 if n % 200 == 1 else n:064x}",
                caption="" if n % 20 == 7 else ", ".join(tags),
                caption_source="file",
                repeats=n % 4 + 1,
                concept="luna",
                excluded=n % 50 == 3,
                created_at=moment,
            )
        )
        faces = pick.choice([0, 1, 1, 1, 1, 1, 2])
        metadata[id] = {
            "sharpness": round(math.exp(pick.gauss(5.9, 0.9)), 2),
            "brightness": round(pick.uniform(40, 220), 2),
            "contrast": round(pick.uniform(20, 80), 2),
            "clippedDark": round(pick.uniform(0, 0.12), 4),
            "clippedBright": round(pick.uniform(0, 0.12), 4),
            "saturation": round(pick.random(), 4),
            "dhash": f"{pick.getrandbits(64):016x}",
            "dhashMirror": f"{pick.getrandbits(64):016x}",
            "aspect": round(width / height, 4),
            "megapixels": round(width * height / 1e6, 4),
            "border": 0.0,
            "jpegQuality": pick.randint(60, 98),
            "faces": faces,
            "faceShare": round(pick.uniform(0.01, 0.5), 4) if faces else 0.0,
            **({"yaw": round(pick.gauss(0, 25), 1)} if faces else {}),
            **({"duplicateGroup": f"group_{n // 100}"} if n % 100 < 2 else {}),
        }
    return images, metadata


def fill(store: SqlDatasets, dataset_id: str, rows: int) -> float:
    """Add a dataset; return pictures per second."""
    images, metadata = pictures(dataset_id, rows)
    store.insert(Dataset(id=dataset_id, name=dataset_id, trigger_word="luna_character"))
    start = time.perf_counter()
    for at in range(0, rows, PIECE):
        part = images[at : at + PIECE]
        store.add_images(part, {image.id: metadata[image.id] for image in part})
    return rows / (time.perf_counter() - start)


def pages(store: SqlDatasets, datasets: Datasets, file: Path, dataset_id: str, rows: int) -> dict[str, Any]:
    """Time the first page of 100 under filters and orders, one deep inside, and the JSON of a page."""
    bare = sqlite3.connect(file)
    query = "SELECT * FROM images WHERE dataset_id = ? AND trashed_at IS NULL ORDER BY filename_key, seq LIMIT 100"
    floor = median(milliseconds(lambda: bare.execute(query, (dataset_id,)).fetchall(), 100))
    bare.close()
    asked: dict[str, tuple[dict[str, Any], str]] = {
        "all, by name": ({}, "name"),
        "newest": ({}, "newest"),
        "largest": ({}, "largest"),
        "sharpest": ({}, "sharpest"),
        "-brightness": ({}, "-brightness"),
        "caption": ({}, "caption"),
        "not excluded": ({"excluded": False}, "name"),
        "without caption": ({"captioned": False}, "name"),
        "tag, common": ({"tag": "smile"}, "name"),
        "without tag": ({"without_tag": "smile"}, "name"),
        "word": ({"q": "dress"}, "name"),
        "folder": ({"folder": "2_luna"}, "name"),
        "two faces": ({"metadata": [("faces", 2, None)]}, "name"),
        "blurry": ({"metadata": [("sharpness", None, 60)]}, "name"),
        "duplicate group": ({"group": "group_7"}, "name"),
        "same caption": ({"shared_caption": True}, "name"),
        "same pixels": ({"same_pixels": True}, "name"),
        "short side >= 1024": ({"min_side": 1024}, "name"),
        "trash": ({"trashed": True}, "name"),
    }
    figures: dict[str, Any] = {"rows": rows, "bareSelectMs": floor, "pages": {}}
    lines = []
    for name, (values, sort) in asked.items():
        where = ImageFilter(**values)

        def warm(where: ImageFilter = where, sort: str = sort) -> Any:
            return store.images(dataset_id, where, sort=sort, limit=100)

        def cold(where: ImageFilter = where, sort: str = sort) -> Any:
            store._remembered.clear()  # as after any change
            return store.images(dataset_id, where, sort=sort, limit=100)

        total = cold().total
        colds, warms = milliseconds(cold, REPEATS), milliseconds(warm, REPEATS)
        figures["pages"][name] = {
            "total": total, "coldP50Ms": median(colds), "coldP95Ms": percentile(colds, 95),
            "warmP50Ms": median(warms), "warmP95Ms": percentile(warms, 95),
        }  # fmt: skip
        lines.append([name, total, median(colds), percentile(colds, 95), median(warms), percentile(warms, 95)])
    deep = milliseconds(lambda: store.images(dataset_id, ImageFilter(), limit=100, offset=rows - 200), REPEATS)
    cursor = store.images(dataset_id, ImageFilter(), limit=100, offset=rows - 300).next_cursor
    keyset = milliseconds(lambda: store.images(dataset_id, ImageFilter(), limit=100, cursor=cursor), REPEATS)
    found = store.images(dataset_id, ImageFilter(), limit=100).items
    shown = milliseconds(lambda: datasets.public_images(found), REPEATS)

    def facets() -> None:
        store._remembered.clear()
        store.facets(dataset_id, ImageFilter())

    counted = milliseconds(facets, 5)
    extra = {"last by offset": deep, "last by cursor": keyset, "JSON with measures": shown, "facets, cold": counted}
    for name, taken in extra.items():
        figures[name] = {"p50Ms": median(taken), "p95Ms": percentile(taken, 95)}
        lines.append([name, "", "", "", median(taken), percentile(taken, 95)])
    table(
        f"A grid page of 100 of {rows} (ms; bare SELECT … LIMIT 100: {floor:.3g} ms)",
        ["what", "total", "cold p50", "cold p95", "warm p50", "warm p95"], lines,
    )  # fmt: skip
    return figures


def stats(store: SqlDatasets, datasets: Datasets, dataset_id: str) -> dict[str, Any]:
    def cold() -> None:
        store._remembered.clear()
        datasets.statistics._kept.clear()
        datasets.statistics.of(dataset_id)

    colds = milliseconds(cold, 5)
    warms = milliseconds(lambda: datasets.statistics.of(dataset_id), 200)
    table(
        "Statistics (ms)", ["what", "p50", "p95"],
        [["cold", median(colds), percentile(colds, 95)], ["cached", median(warms), percentile(warms, 95)]],
    )  # fmt: skip
    return {"coldP50Ms": median(colds), "coldP95Ms": percentile(colds, 95), "cachedP50Ms": median(warms)}


def replace(captions: DatasetCaptions, store: SqlCaptions, dataset_id: str) -> dict[str, Any]:
    """Replace a word in all captions and back: the preview (dry run) and the writing with history and tags."""
    texts = [text for _, _, text, _ in store.texts(dataset_id, ImageFilter())]
    memory = milliseconds(lambda: [text.replace("luna_character", "luna_person") for text in texts], 10)
    names = ("luna_character", "luna_person")
    turn = {"find": names[0], "replacement": names[1]}

    def preview() -> Any:
        return captions.edit(dataset_id, "replace", dict(turn), ImageFilter(), dry_run=True)

    def write() -> None:
        captions.edit(dataset_id, "replace", dict(turn), ImageFilter())
        turn["find"], turn["replacement"] = turn["replacement"], turn["find"]

    matches = preview()["matches"]
    previews, writes = milliseconds(preview, 10), milliseconds(write, 4)
    table(
        f"Caption replace over {len(texts)} captions, {matches} matches (ms; in memory alone: {median(memory):.3g} ms)",
        ["what", "p50", "p95"],
        [
            ["preview", median(previews), percentile(previews, 95)],
            ["replace", median(writes), percentile(writes, 95)],
        ],
    )
    return {
        "captions": len(texts), "matches": matches, "memoryMs": median(memory),
        "previewP50Ms": median(previews), "previewP95Ms": percentile(previews, 95), "replaceP50Ms": median(writes),
    }  # fmt: skip


def main(rows: int = 100_000) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        file = root / "dalla.db"
        library = Library.open(file)
        settings = Settings.load(environ={"DALLA_DATA_DIR": folder}, env_file=root / "no.env")
        store, captions, events = SqlDatasets(library), SqlCaptions(library), EventBus()
        jobs = LocalQueue(SqlTasks(library), events)
        datasets = Datasets(settings, store, captions, SqlDatasetVersions(library), FileBlobs(root), events)
        edits = DatasetCaptions(settings, store, captions, jobs, events)
        figures: dict[str, Any] = {"addPerSecond": fill(store, "small", SMALL)}
        print(f"{SMALL} pictures added, {figures['addPerSecond']:.0f} a second")
        figures["stats"] = stats(store, datasets, "small")
        figures["small"] = pages(store, datasets, file, "small", SMALL)
        figures["replace"] = replace(edits, captions, "small")
        fill(store, "large", rows)
        figures["large"] = pages(store, datasets, file, "large", rows)
        figures["statsLarge"] = stats(store, datasets, "large")
        library.close()
        save("datasets", figures)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000)
