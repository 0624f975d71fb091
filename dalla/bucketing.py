"""Aspect-ratio buckets: which sizes a training set is brought to, and what each picture loses by it.

Pictures of one bucket have one size in px, so they can share a batch, and no bucket has more pixels
than a square of the training resolution. Plain arithmetic; nobody's pixels are touched here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

Size = tuple[int, int]  # width, height in px
#: Heads are at the top: of what does not fit in the height, this share is cut off there.
TOP_SHARE = 0.3


@dataclass(frozen=True)
class Crop:
    """What happens to one picture: cut out `box` (left, top, right, bottom in its own px), scale to `bucket`.

    `scale` below 1 makes it smaller; `lost_fraction` of its area is cut off; `upscaled` when it is too small.
    """

    bucket: Size
    scale: float
    box: tuple[int, int, int, int]
    lost_fraction: float
    upscaled: bool


def buckets(resolution: int, step: int = 64, lo: int | None = None, hi: int | None = None) -> list[Size]:
    """Return the sizes, narrow to wide: sides are multiples of `step` from `lo` to `hi`, area at most resolution².

    Defaults: half to twice the resolution. The square of the resolution (rounded down to `step`) is always there.
    """
    side = max(step, resolution // step * step)
    low = max(step, math.ceil((lo if lo is not None else resolution / 2) / step) * step)
    high = max(side, (hi if hi is not None else resolution * 2) // step * step)
    most = max(resolution * resolution, side * side)
    found = {(side, side)}
    for width in range(low, high + 1, step):
        height = min(high, most // width // step * step)
        if height >= low:
            found |= {(width, height), (height, width)}
    return sorted(found, key=lambda size: (size[0] / size[1], size[0]))


def plan(width: int, height: int, choices: list[Size], *, focus: tuple[float, float] | None = None) -> Crop:
    """Choose the bucket nearest in shape (the larger of two equally near) and the part that is kept.

    `focus` is a point as shares of width and height (a face) that stays as central as the border allows;
    without it the sides are cut evenly and the height more at the bottom than at the top.
    """
    if width < 1 or height < 1 or not choices:
        raise ValueError("a picture has at least one pixel, and there is at least one bucket")
    shape = math.log(width / height)
    bucket = min(choices, key=lambda size: (round(abs(math.log(size[0] / size[1]) - shape), 9), -size[0] * size[1]))
    scale = max(bucket[0] / width, bucket[1] / height)
    keep_w, keep_h = min(width, max(1, round(bucket[0] / scale))), min(height, max(1, round(bucket[1] / scale)))
    spare_w, spare_h = width - keep_w, height - keep_h
    if focus is None:
        left, top = spare_w // 2, math.floor(spare_h * TOP_SHARE)
    else:
        left = min(max(round(focus[0] * width - keep_w / 2), 0), spare_w)
        top = min(max(round(focus[1] * height - keep_h / 2), 0), spare_h)
    lost = 1 - keep_w * keep_h / (width * height)
    return Crop(bucket, scale, (left, top, left + keep_w, top + keep_h), round(lost, 4), scale > 1.0)


def batches_per_epoch(counts: list[int], batch_size: int) -> int:
    """Return how many batches an epoch has when every bucket's last, short batch is trained too."""
    return sum(math.ceil(count / batch_size) for count in counts)
