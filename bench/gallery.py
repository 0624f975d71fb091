"""How quick the gallery is with 100,000 pictures: `python -m bench.gallery [rows]`.

Each figure is taken cold (nothing remembered: the total is counted anew) and warm (the next page, the
total is known). For context, what a bare `SELECT … ORDER BY … LIMIT 50` of the same database costs.
"""

from __future__ import annotations

import json
import random
import sqlite3
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.figures import median, milliseconds, percentile, save, table
from dalla.records.media import MediaFilter, MediaItem
from dalla.stores.library import Library
from dalla.stores.media import SqlMedia

REPEATS = 30
STYLES = ["cinematic", "watercolour", "analog film", "oil painting", "studio", "golden hour", "neon"]
PLACES = ["forest", "city at night", "beach", "library", "desert", "snowy mountains", "old harbour"]


def pictures(rows: int) -> list[MediaItem]:
    """Return made-up pictures: 20 characters, 12 models, 40 LoRAs, prompts of 20 to 30 words."""
    pick = random.Random(7)
    words = ["".join(pick.choices("abcdefghijklmnoprstuvw", k=pick.randint(4, 9))) for _ in range(4000)]
    items = []
    for n in range(rows):
        prompt = f"a portrait of luna_{n % 20}, {pick.choice(STYLES)}, {pick.choice(PLACES)}, " + " ".join(
            pick.choices(words, k=pick.randint(12, 20))
        )
        if n % 5000 == 17:
            prompt += " chrysanthemum"
        moment = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(1_700_000_000 + n * 300))
        items.append(
            MediaItem(
                id=f"media_{1_700_000_000_000 + n}_{n:09x}",
                path=f"media/2026/01/media_{n}.png",
                character_id=f"char_{int(pick.expovariate(0.25)) % 20}",
                model=f"model_{int(pick.expovariate(0.5)) % 12}.safetensors",
                engine=pick.choice(["comfyui", "builtin"]),
                type="video" if n % 50 == 0 else "image",
                loras=[f"lora_{int(pick.expovariate(0.15)) % 40}" for _ in range(pick.choice([0, 1, 1, 2]))],
                sha256=f"{n:064x}",
                prompt=prompt,
                negative_prompt="ugly, disfigured, lowres, bad anatomy",
                starred=n % 23 == 0,
                posted=n % 31 == 0,
                trashed_at=moment if n % 40 == 3 else None,
                created_at=moment,
                recipe={
                    "prompt": prompt,
                    "seed": n,
                    "steps": 28,
                    "engineVersions": {"comfyui": "0.3"},
                    "notes": "x" * 900,
                },
            )
        )
    return items


def fill(file: Path, rows: int) -> tuple[Library, SqlMedia]:
    library = Library.open(file)
    media = SqlMedia(library)
    items = pictures(rows)
    start = time.perf_counter()
    for at in range(0, rows, 5000):
        media.insert_many(items[at : at + 5000])
    print(f"{rows} rows in {time.perf_counter() - start:.1f} s, {file.stat().st_size / 1e6:.0f} MB")
    media.save_collection("coll_1", "Best", "2026-01-01T00:00:00.000Z")
    media.add_to_collection("coll_1", [item.id for item in items[::20]], "2026-01-01T00:00:00.000Z")
    return library, media


def deep_cursor(media: SqlMedia, where: MediaFilter) -> str | None:
    cursor = None
    for _ in range(40):
        cursor = media.page(where, limit=1000, cursor=cursor).next_cursor or cursor
    return cursor


def main(rows: int = 100_000) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "dalla.db"
        library, media = fill(file, rows)
        bare = sqlite3.connect(file)
        query = "SELECT * FROM media WHERE trashed_at IS NULL ORDER BY created_at DESC, seq DESC LIMIT 50"
        floor = median(milliseconds(lambda: bare.execute(query).fetchall(), 200))

        filters: dict[str, dict[str, Any]] = {
            "all": {},
            "character, common": {"character_id": "char_0"},
            "character, rare": {"character_id": "char_18"},
            "model, common": {"model": "model_0.safetensors"},
            "model, rare": {"model": "model_11.safetensors"},
            "LoRA, common": {"lora": "lora_0"},
            "LoRA, rare": {"lora": "lora_38"},
            "engine": {"engine": "comfyui"},
            "type video": {"type": "video"},
            "starred": {"starred": True},
            "not starred": {"starred": False},
            "posted": {"posted": True},
            "trash": {"trashed": True},
            "collection": {"collection_id": "coll_1"},
            "date range": {"after": "2024-02-01T00:00:00.000Z", "before": "2024-05-01T00:00:00.000Z"},
            "character + model + starred": {"character_id": "char_0", "model": "model_1.safetensors", "starred": True},
            "word, rare": {"words": ["chrysanthemum"]},
            "word, part": {"words": ["santhem"]},
            "word, common": {"words": ["forest"]},
            "word, in all": {"words": ["portrait"]},
            "word, 2 letters": {"words": ["zz"]},
            "word, none": {"words": ["qqqqq"]},
            "two words": {"words": ["forest", "neon"]},
            "word, without another": {"words": ["forest"], "not_words": ["neon"]},
            "only without": {"not_words": ["forest"]},
            "word + character": {"words": ["forest"], "character_id": "char_0"},
            "word + LoRA": {"words": ["forest"], "lora": "lora_0"},
        }
        figures: dict[str, Any] = {"rows": rows, "bareSelectMs": floor, "pages": {}, "facets": {}}
        lines = []
        for name, values in filters.items():
            where = MediaFilter(**values)

            def cold(where: MediaFilter = where) -> None:
                media._remembered_at = -1  # as after any change
                media.page(where)

            total = media.page(where).total
            cold_ms = milliseconds(cold, REPEATS)
            warm_ms = milliseconds(lambda where=where: media.page(where), REPEATS)
            figures["pages"][name] = {
                "total": total,
                "coldP50Ms": median(cold_ms),
                "coldP95Ms": percentile(cold_ms, 95),
                "warmP50Ms": median(warm_ms),
                "warmP95Ms": percentile(warm_ms, 95),
                "warmOverBare": median(warm_ms) / floor,
            }
            lines.append(
                [
                    name,
                    total,
                    median(cold_ms),
                    percentile(cold_ms, 95),
                    median(warm_ms),
                    percentile(warm_ms, 95),
                    median(warm_ms) / floor,
                ]
            )
        cursor = deep_cursor(media, MediaFilter())
        deep = milliseconds(lambda: media.page(MediaFilter(), cursor=cursor), REPEATS)
        figures["deepPage"] = {"p50Ms": median(deep), "p95Ms": percentile(deep, 95), "overBare": median(deep) / floor}
        lines.append(["page 800 of all", "", "", "", median(deep), percentile(deep, 95), median(deep) / floor])
        table(
            f"A page of 50 of {rows} (ms; bare SELECT … LIMIT 50: {floor:.3f} ms)",
            ["filter", "total", "cold p50", "cold p95", "warm p50", "warm p95", "warm/bare"],
            lines,
        )

        lines = []
        for name in ("all", "character, common", "word, common", "LoRA, common"):
            where = MediaFilter(**filters[name])

            def facets(where: MediaFilter = where) -> None:
                media._remembered_at = -1
                media.facets(where)

            taken = milliseconds(facets, 10)
            figures["facets"][name] = {"coldP50Ms": median(taken), "coldP95Ms": percentile(taken, 95)}
            lines.append([name, median(taken), percentile(taken, 95)])
        table("Facets, counted anew (ms)", ["filter", "p50", "p95"], lines)

        ids = media.ids(MediaFilter())[:1000]
        one = milliseconds(lambda: media.update(ids[:1], starred=True), 20)
        many = milliseconds(lambda: media.update(ids, starred=True), 5)
        names = milliseconds(lambda: media.ids(MediaFilter()), 5)
        figures["updateOneMs"], figures["update1000Ms"], figures["ids10000Ms"] = (
            median(one),
            median(many),
            median(names),
        )
        table(
            "Other (ms)",
            ["what", "p50"],
            [["star one", median(one)], ["star 1,000", median(many)], ["10,000 ids", median(names)]],
        )
        bare.close()
        library.close()
        save("gallery", figures)
        print(json.dumps({"floorMs": round(floor, 3)}))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000)
