"""Statistics of a dataset as pages show them: every count with the filter that lists it, and the health score.

The store aggregates; here come filters, buckets and judgement. Answers are kept per dataset and revision, so opening
statistics again costs nothing and never touches a file.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from threading import Lock
from typing import Any

from dalla.bucketing import Size, buckets, plan
from dalla.records.dataset import Dataset, ImageFilter
from dalla.services import dataset_stats_parts as parts
from dalla.services.dataset_health import health
from dalla.stores.base import DatasetStore

#: The size trainers take unless told otherwise, px.
RESOLUTION = 512
STEP = 64
#: Lists of datasets work out at most this many pictures' worth of health that nobody asked for yet.
LIST_BUDGET = 5_000
_MEGAPIXELS = [0.0, 0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 24.0, 48.0]
_KEPT = 64


class DatasetStatistics:
    """Reads through the store; keeps what was computed until the dataset changes."""

    def __init__(self, store: DatasetStore, orphans: Callable[[str], list[dict[str, str]]] = lambda _: []) -> None:
        self._store = store
        self._orphans = orphans
        self._kept: OrderedDict[tuple[Any, ...], dict[str, Any]] = OrderedDict()
        self._lock = Lock()

    def of(
        self, dataset_id: str, *, resolution: int = RESOLUTION, step: int = STEP, batch: int = 1, epochs: int = 1
    ) -> dict[str, Any]:
        """Return the statistics of the pictures that are not excluded.

        Args:
            resolution: side of the square that training pictures are brought to, px; `step`: of the bucket sides.
            batch, epochs: for steps, and for buckets too small to fill a batch.

        Raises NotFound, InvalidInput (numbers out of range).
        """
        parts.check_sizes(resolution, step)
        dataset = self._store.get(dataset_id)
        key = (dataset_id, dataset.revision, resolution, step, batch, epochs)
        kept = self._get(key)
        if kept is None:
            kept = self._build(dataset, resolution, step, batch, epochs)
            # The counts may be of a later revision than the one looked up: they are kept under their own.
            self._put((dataset_id, kept["revision"], *key[2:]), kept)
        return kept

    def health(self, dataset: Dataset, *, budget: int | None = None) -> dict[str, Any] | None:
        """Return {score, fixes} of a dataset; None when it would take counting more than `budget` pictures."""
        kept = self._get((dataset.id, dataset.revision, RESOLUTION, STEP, 1, 1))
        if kept is not None:
            return kept["health"]  # type: ignore[no-any-return]
        if budget is not None and self._store.counts([dataset.id]).get(dataset.id, {}).get("images", 0) > budget:
            return None
        return self.of(dataset.id)["health"]  # type: ignore[no-any-return]

    def known(self, dataset: Dataset) -> bool:
        """Whether the health of this revision is kept already."""
        return self._get((dataset.id, dataset.revision, RESOLUTION, STEP, 1, 1)) is not None

    def bucket_range(
        self, dataset_id: str, bucket: Size, *, resolution: int = RESOLUTION, step: int = STEP
    ) -> tuple[float, float] | None:
        """Return the least and greatest aspect (width / height) of the pictures that fall into a bucket; None: none do.

        Buckets are cut by shape alone, so exactly its pictures lie in between. Raises NotFound, InvalidInput.
        """
        parts.check_sizes(resolution, step)
        self._store.get(dataset_id)
        choices = buckets(resolution, step)
        sizes = self._store.sizes(dataset_id, ImageFilter())
        shapes = [w / h for w, h, *_ in sizes if w > 0 and h > 0 and plan(w, h, choices).bucket == bucket]
        return (min(shapes), max(shapes)) if shapes else None

    # ------------------------------------------------------------ inside

    def _get(self, key: tuple[Any, ...]) -> dict[str, Any] | None:
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
            return self._kept.get(key)

    def _put(self, key: tuple[Any, ...], value: dict[str, Any]) -> None:
        with self._lock:
            self._kept[key] = value
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)

    def _build(self, dataset: Dataset, resolution: int, step: int, batch: int, epochs: int) -> dict[str, Any]:
        where = ImageFilter(excluded=False)
        counted = self._store.statistics(dataset.id, where)
        sizes = [row for row in self._store.sizes(dataset.id, where) if row[0] > 0 and row[1] > 0]
        result: dict[str, Any] = {
            "datasetId": dataset.id,
            "revision": counted["revision"],
            "filter": parts.only(),
            "size": parts.size(counted["size"]),
            "resolution": self._resolution(dataset.id, sizes, resolution),
            "buckets": parts.bucket_rows(sizes, resolution, step, batch),
            "captions": parts.captions(counted["captions"]) | {"orphans": self._without_picture(dataset.id)},
            "tags": parts.tags(counted["tags"], counted["captions"]["with"], dataset.trigger_word),
            "faces": parts.faces(counted["faces"], counted["size"]["images"]),
            "duplicates": parts.duplicates(counted["duplicates"]),
            "blur": parts.blur(counted["blur"]),
            "exposure": parts.exposure(counted["exposure"]),
            "balance": parts.balance(counted["balance"], sizes, resolution, step, batch, epochs),
            "coverage": parts.coverage(counted["coverage"]),
            "settings": {"resolution": resolution, "step": step, "batch": batch, "epochs": epochs},
        }
        result["health"] = health(result, dataset)
        return result

    def _without_picture(self, dataset_id: str) -> dict[str, Any]:
        rows = self._orphans(dataset_id)
        return parts.orphans(rows, self._store.filenames(dataset_id, "original") if rows else set())

    def _resolution(self, dataset_id: str, sizes: parts.Sizes, target: int) -> dict[str, Any]:
        ordered = sorted((width * height / 1_000_000.0, number) for width, height, number, _ in sizes)
        total = sum(number for _, number in ordered)
        bars = []
        for low, high in zip(_MEGAPIXELS, [*_MEGAPIXELS[1:], None], strict=True):
            count = sum(number for mp, number in ordered if mp >= low and (high is None or mp < high))
            if count:
                bars.append(
                    {
                        "from": low,
                        "to": high,
                        "count": count,
                        "filter": parts.only(**parts.span("megapixels", low, high)),
                    }
                )
        below = sum(number for width, height, number, _ in sizes if width * height < target * target)
        where = ImageFilter(excluded=False)
        ends = [self._store.images(dataset_id, where, sort=sort, limit=1).items for sort in ("smallest", "largest")]
        return {
            "minMp": round(ordered[0][0], 3) if ordered else None,
            "medianMp": round(parts.median(ordered, total), 3) if ordered else None,
            "maxMp": round(ordered[-1][0], 3) if ordered else None,
            "minImageId": ends[0][0].id if ends[0] else None,
            "maxImageId": ends[1][0].id if ends[1] else None,
            "histogram": bars,
            "belowTarget": {
                "target": target,
                "count": below,
                "filter": parts.only(**parts.span("pixels", None, target * target)),
            },
        }
