"""The numbers of LoRA layers: scales multiplied in and out again, joined projections taken apart and put together.

Only numpy, which is imported when the first number is looked at. Formats that numpy has no floats for (bf16) lie in its
arrays as plain bits; what only moves rows and columns works on those.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

from dalla.errors import InvalidInput

#: How each number format lies in memory; those without floats in numpy lie there as plain bits.
BITS = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "F8_E4M3": "u1", "F8_E5M2": "u1", "I64": "<i8", "I32": "<i4"
}  # fmt: skip


@dataclass(frozen=True)
class Numbers:
    """A tensor: its safetensors format, and an array of it (plain bits where numpy has no such floats)."""

    dtype: str
    data: Any


@dataclass(frozen=True)
class Layer:
    """One LoRA layer, as dalla.diffusion.kohya.Layer, with numpy's arrays."""

    down: Numbers
    up: Numbers
    alpha: float
    magnitude: Numbers | None = None

    @property
    def rank(self) -> int:
        return int(self.down.data.shape[0])

    @property
    def scale(self) -> float:
        return self.alpha / self.rank


# ---------------------------------------------------------------- joined projections


def apart(name: str, whole: Layer, modules: tuple[str, ...], ranks: Any) -> dict[str, Layer]:
    """Cut a joined layer into its modules' ones: by the rows of its up half and, where it was joined here, by rank."""
    sizes = _rows(modules, whole.up.data.shape[0])
    if sizes is None:
        raise InvalidInput(f"The rows of the layer '{name[:120]}' are no {len(modules)} parts.")
    cuts = _columns(whole, sizes, ranks)
    out: dict[str, Layer] = {}
    row = column = 0
    for place, (module, size) in enumerate(zip(modules, sizes, strict=True)):
        rows = slice(row, row + size)
        columns = slice(0, whole.rank) if cuts is None else slice(column, column + cuts[place])
        row, column = row + size, columns.stop
        if columns.start == columns.stop:
            continue  # this module was not trained
        rank = columns.stop - columns.start
        out[module] = Layer(
            Numbers(whole.down.dtype, whole.down.data[columns]),
            Numbers(whole.up.dtype, whole.up.data[rows, columns]),
            whole.scale * rank,
            None if whole.magnitude is None else Numbers(whole.magnitude.dtype, whole.magnitude.data[rows]),
        )
    return out


def _rows(modules: tuple[str, ...], rows: int) -> list[int] | None:
    """Return how many of a joined layer's rows are whose; FLUX's feed-forward is four times as wide as the rest."""
    shares = [4 if module.endswith("proj_mlp") else 1 for module in modules]
    unit, rest = divmod(rows, sum(shares))
    return None if rest else [unit * share for share in shares]


def _columns(whole: Layer, sizes: list[int], ranks: Any) -> list[int] | None:
    """Return the ranks a layer was joined from, when the file still is what they say."""
    if not isinstance(ranks, list) or len(ranks) != len(sizes) or any(type(r) is not int or r < 0 for r in ranks):
        return None
    if sum(ranks) != whole.rank:
        return None
    row = column = 0
    for size, rank in zip(sizes, ranks, strict=True):
        part = whole.up.data[row : row + size]
        if part[:, :column].any() or part[:, column + rank :].any():
            return None
        row, column = row + size, column + rank
    return ranks


def together(name: str, found: dict[int, Layer], modules: tuple[str, ...]) -> Layer:
    """Join layers that read the same input.

    Those that share their down half, as sd-scripts trains them, have their up halves one below the other. Else the down
    halves stand one below the other, and each up half in its own corner, with zeros around.
    """
    import numpy

    place, first = next(iter(found.items()))
    shares = _rows(modules, sum(4 if m.endswith("proj_mlp") else 1 for m in modules)) or []
    unit = first.up.data.shape[0] // shares[place]
    sizes = [unit * share for share in shares]
    if any(layer.up.data.shape[0] != sizes[n] or layer.up.data.ndim != 2 for n, layer in found.items()):
        raise InvalidInput(f"The layers of '{name[:120]}' have sizes that do not go together.")
    dora = [layer.magnitude for layer in found.values() if layer.magnitude is not None]
    if dora and len(dora) < len(modules):
        raise InvalidInput(
            f"The layer '{name[:120]}' has DoRA's magnitudes for some of its parts only, which kohya's files cannot say.",
            remedy="Use the file as it is: ComfyUI reads diffusers' names of SD3 and FLUX, too.",
        )
    order = sorted(found)
    scales = {layer.scale for layer in found.values()}
    same = len(scales) == 1
    parts = {n: found[n] if same else replace(found[n], up=folded(found[n].up, found[n].scale)[0]) for n in order}
    downs = _alike([parts[n].down for n in order])
    ups = _alike([parts[n].up for n in order])
    if len(order) == len(modules) and all(numpy.array_equal(downs[0].data, half.data) for half in downs[1:]):
        down, up = downs[0].data, numpy.concatenate([half.data for half in ups])
    else:
        down, up = numpy.concatenate([half.data for half in downs]), _corners(ups, order, sizes)
    magnitude = None
    if dora:
        pieces = _alike([m for n in order if (m := parts[n].magnitude) is not None])
        magnitude = Numbers(pieces[0].dtype, numpy.concatenate([piece.data.reshape(-1) for piece in pieces]))
    alpha = (scales.pop() if same else 1.0) * down.shape[0]
    return Layer(Numbers(downs[0].dtype, down), Numbers(ups[0].dtype, up), alpha, magnitude)


def _corners(halves: list[Numbers], order: list[int], sizes: list[int]) -> Any:
    """Put each half into the rows of its place and into columns of its own; the rest is zero in every format."""
    import numpy

    out = numpy.zeros((sum(sizes), sum(half.data.shape[1] for half in halves)), halves[0].data.dtype)
    column = 0
    for place, half in zip(order, halves, strict=True):
        row, wide = sum(sizes[:place]), half.data.shape[1]
        out[row : row + sizes[place], column : column + wide] = half.data
        column += wide
    return out


# ---------------------------------------------------------------- scales and formats


def folded(up: Numbers, scale: float) -> tuple[Numbers, bool]:
    """Return `up` times `scale`, and whether the bits of `up` can be found again.

    In the same number format where that says it exactly, else as 32-bit floats (of which the last digit may be rounded).
    """
    import numpy

    if scale == 1.0:
        return up, True
    wide = floats(up).astype(numpy.float64) * scale
    made = _encoded(wide, up.dtype)
    if not numpy.array_equal(floats(made), wide):
        made = _encoded(wide, "F64" if up.dtype == "F64" else "F32")
    back = _encoded(floats(made).astype(numpy.float64) / scale, up.dtype) if scale else up
    return made, bool(scale) and numpy.array_equal(back.data, up.data)


def unfolded(layer: Layer, note: Any) -> Layer:
    """Return the layer with the alpha and the bits it had before `folded`, when the note on it still holds."""
    import numpy

    if not isinstance(note, list) or len(note) != 2 or note[1] not in ("F64", "F32", "F16", "BF16"):
        return layer
    alpha = note[0]
    if not isinstance(alpha, float) or not math.isfinite(alpha) or not alpha or layer.scale != 1.0:
        return layer
    scale = alpha / layer.rank
    up = _encoded(floats(layer.up).astype(numpy.float64) / scale, note[1])
    again, _ = folded(up, scale)
    same = again.dtype == layer.up.dtype and numpy.array_equal(again.data, layer.up.data)
    return replace(layer, up=up, alpha=alpha) if same else layer


def floats(numbers: Numbers) -> Any:
    """Return numpy's floats for the numbers, exactly. Raises InvalidInput for 8-bit ones."""
    import numpy

    if numbers.dtype == "BF16":
        return (numbers.data.astype(numpy.uint32) << 16).view(numpy.float32)
    if numbers.dtype.startswith("F8"):
        raise InvalidInput(
            "The LoRA holds 8-bit numbers, whose scale cannot be changed.", remedy="Save it in bf16 or fp16 first."
        )
    return numbers.data


def _encoded(values: Any, dtype: str) -> Numbers:
    """Return 64-bit floats in a number format, rounded to the nearest."""
    import numpy

    with numpy.errstate(over="ignore"):
        if dtype != "BF16":
            return Numbers(dtype, values.astype(BITS[dtype]))
        bits = numpy.ascontiguousarray(values.astype(numpy.float32)).view(numpy.uint32)
        rounded = (bits.astype(numpy.uint64) + 0x7FFF + ((bits >> 16) & 1)) >> 16
        return Numbers(dtype, rounded.astype("<u2"))


def _alike(halves: list[Numbers]) -> list[Numbers]:
    """Return the numbers in one format: their own when they share it, else 32-bit floats."""
    if len({half.dtype for half in halves}) == 1:
        return halves
    return [Numbers("F32", floats(half).astype("<f4")) for half in halves]


def float32(value: float) -> Numbers:
    import numpy

    return Numbers("F32", numpy.array(value, "<f4"))
