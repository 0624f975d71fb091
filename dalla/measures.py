"""What can be measured of a picture without a model, and which pictures look alike.

Measured once, when a picture enters a dataset, and stored beside it: statistics never read files.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from dalla.imaging import flatten

if TYPE_CHECKING:
    import numpy
    from PIL import Image

#: Longest side at which pixels are measured, px; larger pictures are reduced to it. The blur limit belongs to it.
LONG_SIDE = 512
#: Below this cosine a face is not that of the person a set shows (SFace vectors, measured on photographs).
STRANGER = 0.363
#: Below this sharpness a picture counts as blurred.
BLURRED = 60.0
#: Luminance (0..255) up to which a pixel has no drawing in the shadows, and from which none in the lights.
DARKEST, BRIGHTEST = 3, 252
#: Hamming distance of two hashes: the same picture (saved anew, scaled), and the furthest that is still offered.
SAME_PICTURE, MAX_DISTANCE = 6, 12
#: A row belongs to a border while its luminance spreads less than this, and while its mean is this close to the edge's.
BORDER_SPREAD, BORDER_STEP = 10, 8
#: A border narrower than this part of the side is none.
BORDER_LEAST = 0.02
#: Pairs of hashes compared at a time: bounds the memory (about 24 bytes each).
_PIECE = 1 << 21
#: Up to so many pictures with the very same hash are all paired with each other; of more, only neighbours are.
_CLIQUE = 40
#: Luminance table of the JPEG standard at quality 50, in zigzag order.
_JPEG_LUMINANCE = (
    16, 11, 12, 14, 12, 10, 16, 14, 13, 14, 18, 17, 16, 19, 24, 40, 26, 24, 22, 22, 24, 49, 35, 37, 29, 40, 58, 51, 61,
    60, 57, 51, 56, 55, 64, 72, 92, 78, 64, 68, 87, 69, 55, 56, 80, 109, 81, 87, 95, 98, 103, 104, 103, 62, 77, 113,
    121, 112, 100, 120, 92, 101, 103, 99,
)  # fmt: skip


def measure(image: Image.Image, data: bytes | None = None) -> dict[str, Any]:
    """Measure an upright sRGB picture (mode RGB or RGBA, as `imaging.open_image` gives it).

    Args:
        data: the bytes of the file, for the JPEG quality.

    Returns:
        sharpness: variance of the Laplacian at 512 px; below `BLURRED` it is blurred.
        brightness, contrast: mean and standard deviation of the luminance, 0..255.
        clippedDark, clippedBright: part of the pixels without drawing, 0..1.
        saturation: mean of (max - min) / max of the channels, 0..1.
        dhash, dhashMirror: 64 bits in 16 hex digits, of the picture and of its mirror image.
        jpegQuality: 1..100 as libjpeg counts, estimated from the tables; absent for other formats.
        exifTurn: EXIF orientation 2..8 of a file that only stands upright when that is read; absent for all others.
        border: part of the area that a plain frame or letterbox takes, 0..1.
        aspect: width / height; megapixels.
    """
    import cv2
    import numpy

    pixels = _reduced(image)
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    mean, deviation = cv2.meanStdDev(grey)
    counts = numpy.bincount(grey.ravel(), minlength=256)
    hsv = cv2.cvtColor(pixels, cv2.COLOR_RGB2HSV)
    plain, mirrored = _hashes(grey)
    found: dict[str, Any] = {
        "sharpness": round(_sharpness(grey), 2),
        "brightness": round(float(mean[0][0]), 2),
        "contrast": round(float(deviation[0][0]), 2),
        "clippedDark": round(float(counts[: DARKEST + 1].sum()) / grey.size, 4),
        "clippedBright": round(float(counts[BRIGHTEST:].sum()) / grey.size, 4),
        "saturation": round(float(cv2.mean(hsv)[1]) / 255.0, 4),
        "dhash": plain,
        "dhashMirror": mirrored,
        "border": round(_border(grey), 4),
        "aspect": round(image.width / image.height, 4),
        "megapixels": round(image.width * image.height / 1e6, 4),
    }
    quality = jpeg_quality(data) if data is not None else None
    if quality is not None:
        found["jpegQuality"] = quality
    if data is not None and (turn := _exif_turn(data)) > 1:
        found["exifTurn"] = turn
    return found


def _exif_turn(data: bytes) -> int:
    """Return the EXIF orientation of a JPEG, TIFF or WebP, 1 for everything else."""
    import io

    from PIL import Image

    if data[:2] != b"\xff\xd8" and data[:4] not in (b"II*\0", b"MM\0*", b"RIFF"):
        return 1
    try:
        with Image.open(io.BytesIO(data)) as file:
            turn = file.getexif().get(0x0112, 1)
    except Exception:  # noqa: BLE001 - broken metadata: the pixels were read all the same
        return 1
    return turn if isinstance(turn, int) and 1 <= turn <= 8 else 1


def sharpness(image: Image.Image) -> float:
    """Variance of the Laplacian of the luminance, reduced to 512 px: for a part of a picture, such as a face."""
    import cv2

    return round(_sharpness(cv2.cvtColor(_reduced(image), cv2.COLOR_RGB2GRAY)), 2)


def pixel_sha256(image: Image.Image) -> str:
    """Hash of the upright sRGB pixels and their size: equal for the same picture in whatever lossless file.

    Transparency that hides nothing does not count.
    """
    if image.mode == "RGBA" and image.getchannel("A").getextrema() == (255, 255):
        image = image.convert("RGB")
    elif image.mode not in ("RGB", "RGBA"):
        image = image.convert("RGB")
    digest = hashlib.sha256(f"{image.mode} {image.width}x{image.height} ".encode())
    digest.update(image.tobytes())
    return digest.hexdigest()


def jpeg_quality(data: bytes) -> int | None:
    """Estimate the quality (1..100) a JPEG was saved with from its luminance table; None for what is no JPEG."""
    table = _quantisation(data)
    if table is None:
        return None
    ratios = [100.0 * have / base for have, base in zip(table, _JPEG_LUMINANCE, strict=True)]
    scale = sum(ratios) / len(ratios)
    quality = (200.0 - scale) / 2.0 if scale <= 100.0 else 5000.0 / scale
    return max(1, min(100, round(quality)))


def near_pairs(hashes: Sequence[tuple[str, str, str]], distance: int) -> list[tuple[str, str, int]]:
    """Return the pairs (id, id, distance) of pictures that differ in at most `distance` bits, nearest first.

    Args:
        hashes: (id, dhash, dhashMirror); a picture and a mirrored copy of it are near too.
        distance: 0..63. Hashes are cut into bands such that near ones agree (but for one bit) in at least one of
            them, so only those are compared. 10,000 pictures at distance 12 take well under a second.

    Pictures with the very same hash are compared with others once, by the first of them. Plain ones, whose hash has
    no bit at all, resemble everything and are left out.
    """
    import numpy

    alike: dict[tuple[int, int], list[int]] = {}
    for place, (_, plain, mirror) in enumerate(hashes):
        key = int(plain, 16), int(mirror, 16)
        if any(key):
            alike.setdefault(key, []).append(place)
    found: list[tuple[int, int, int]] = []  # bits, first place, second place
    for places in alike.values():
        reach = len(places) if len(places) <= _CLIQUE else 3
        for at, first in enumerate(places):
            found += [(0, first, second) for second in places[at + 1 : at + 1 + reach]]
    count = len(alike)
    if count > 1:
        left = numpy.array([key[0] for key in alike], dtype=numpy.uint64)
        mirrors = numpy.array([key[1] for key in alike], dtype=numpy.uint64)
        firsts = [places[0] for places in alike.values()]
        best: dict[int, int] = {}
        for keys, distances in _candidates(left, numpy.concatenate([left, mirrors]), count, distance):
            for pair, bits in zip(keys.tolist(), distances.tolist(), strict=True):
                if bits < best.get(pair, 64):
                    best[pair] = bits
        for pair, bits in best.items():
            first, second = sorted((firsts[pair // count], firsts[pair % count]))
            found.append((bits, first, second))
    found.sort()
    return [(hashes[first][0], hashes[second][0], bits) for bits, first, second in found]


class Grouping:
    """Grows groups pair by pair. Two ids in `separate` never come into one group, not even by way of a third."""

    def __init__(self, ids: Iterable[str], separate: Iterable[frozenset[str]] = ()) -> None:
        self._place = {id: number for number, id in enumerate(ids)}
        self._home: dict[str, list[str]] = {}  # the group of an id, once it has one
        self._apart: dict[str, set[str]] = {}
        for pair in separate:
            for id in pair:
                self._apart.setdefault(id, set()).update(pair - {id})

    def join(self, a: str, b: str) -> None:
        """Put two into one group, with all that are with them; ids that are not known are left out."""
        if a == b or a not in self._place or b not in self._place:
            return
        keep, give = self._home.get(a, [a]), self._home.get(b, [b])
        if keep is give:
            return
        if len(keep) < len(give):
            keep, give = give, keep
        if self._apart and any(not self._apart[id].isdisjoint(keep) for id in give if id in self._apart):
            return
        moved = [*keep, *give] if len(keep) == 1 else give  # one alone has no home yet
        keep.extend(give)
        self._home.update(dict.fromkeys(moved, keep))

    def groups(self) -> list[list[str]]:
        """The groups, each in the order of the ids, by their first."""
        found = [sorted(group, key=self._place.__getitem__) for group in self._distinct()]
        return sorted(found, key=lambda group: self._place[group[0]])

    def count(self) -> tuple[int, int]:
        """(groups, ids in them)."""
        return len(self._distinct()), len(self._home)

    def _distinct(self) -> list[list[str]]:
        return list({id(group): group for group in self._home.values()}.values())


def groups_of(
    ids: Iterable[str],
    pairs: Iterable[tuple[str, str, int]],
    separate: Iterable[frozenset[str]] = (),
    same: Iterable[frozenset[str]] = (),
) -> list[list[str]]:
    """Join pairs into groups of two and more, in the order they come; pairs in `same` first, whatever their distance."""
    grouping = Grouping(ids, separate)
    for said in same:
        if len(said) == 2:
            grouping.join(*sorted(said))
    for a, b, _ in pairs:
        grouping.join(a, b)
    return grouping.groups()


# ------------------------------------------------------------------ pixels


def _reduced(image: Image.Image) -> numpy.ndarray:
    """Return the pixels, height x width x 3 (uint8 RGB), with no side over 512; smaller pictures as they are."""
    import cv2
    import numpy

    if image.mode == "RGBA":
        image = _thin(image)
        image = flatten(image)
    elif image.mode != "RGB":
        image = image.convert("RGB")
    longest = max(image.size)
    if longest >= 4 * LONG_SIDE:
        image = _thin(image)
        longest = max(image.size)
    pixels = numpy.asarray(image)
    if longest > LONG_SIDE:
        scale = LONG_SIDE / longest
        size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
        pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    return numpy.ascontiguousarray(pixels)


def _thin(image: Image.Image) -> Image.Image:
    """Halve, third, … a large picture by means of its pixels, staying at twice the measured size: cheap."""
    factor = max(image.size) // (2 * LONG_SIDE)
    return image.reduce(factor) if factor > 1 else image


def _sharpness(grey: numpy.ndarray) -> float:
    import cv2

    _, deviation = cv2.meanStdDev(cv2.Laplacian(grey, cv2.CV_32F))
    return float(deviation[0][0]) ** 2


def _hashes(grey: numpy.ndarray) -> tuple[str, str]:
    """Difference hash of the picture and of its mirror image: whether each of 8 x 9 cells is darker than the next."""
    import cv2

    cells = cv2.resize(grey, (9, 8), interpolation=cv2.INTER_AREA)
    return _bits(cells), _bits(cells[:, ::-1])


def _bits(cells: numpy.ndarray) -> str:
    import numpy

    return numpy.packbits(cells[:, 1:] > cells[:, :-1]).tobytes().hex()


def _border(grey: numpy.ndarray) -> float:
    """Part of the area taken by plain bands of one tone on two opposite sides (letterbox, pillarbox, frame)."""
    height, width = grey.shape
    top, bottom = _bands(grey)
    left, right = _bands(grey.T)
    inner = (height - top - bottom) * (width - left - right)
    return 1.0 - inner / (height * width) if inner > 0 else 0.0


def _bands(grey: numpy.ndarray) -> tuple[int, int]:
    """How many rows at the top and at the bottom are a band of the same plain tone; (0, 0) when only one side is."""
    rows = grey.shape[0]
    spread = grey.max(axis=1).astype(int) - grey.min(axis=1)
    mean = grey.mean(axis=1)
    plain = (spread <= BORDER_SPREAD) & (abs(mean - mean[0]) <= BORDER_STEP)
    if not plain[0] or not plain[-1] or plain.all():
        return 0, 0
    first, last = int((~plain).argmax()), int((~plain[::-1]).argmax())
    least = max(2, BORDER_LEAST * rows)
    return (first, last) if first >= least and last >= least else (0, 0)


def _quantisation(data: bytes) -> list[int] | None:
    """Return table 0 of a JPEG (64 numbers, zigzag), or None."""
    if data[:2] != b"\xff\xd8":
        return None
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # fill byte
            at += 1
            continue
        if marker in (0xD9, 0xDA):
            return None
        length = int.from_bytes(data[at + 2 : at + 4])
        if marker == 0xDB:
            part, end = at + 4, at + 2 + length
            while part < end:
                wide, number = data[part] >> 4, data[part] & 15
                size = 128 if wide else 64
                body = data[part + 1 : part + 1 + size]
                if len(body) < size:
                    return None
                if number == 0:
                    return [int.from_bytes(body[k : k + 2]) for k in range(0, 128, 2)] if wide else list(body)
                part += 1 + size
        at += 2 + length
    return None


# ------------------------------------------------------------------ hashes


def _bands_of(distance: int) -> tuple[list[tuple[int, int]], int]:
    """Return the bands (shift, bits) and the radius such that hashes within `distance` agree, but for `radius` bits,
    in at least one band (pigeonhole)."""
    radius = 0 if distance <= 4 else 1
    count = min(64, distance // (radius + 1) + 1)
    bands, at = [], 0
    for number in range(count):
        bits = (64 - at) // (count - number)
        bands.append((at, bits))
        at += bits
    return bands, radius


def _candidates(
    left: numpy.ndarray, right: numpy.ndarray, count: int, distance: int
) -> Iterable[tuple[numpy.ndarray, numpy.ndarray]]:
    """Yield (first * count + second, bits) arrays of what is near; `right` holds the hashes, then the mirrors."""
    import numpy

    bands, radius = _bands_of(distance)
    for shift, bits in bands:
        mask = numpy.uint64((1 << bits) - 1)
        ours = (left >> numpy.uint64(shift)) & mask
        theirs = (right >> numpy.uint64(shift)) & mask
        order = numpy.argsort(theirs, kind="stable")
        ordered = theirs[order]
        for flip in [0, *(1 << bit for bit in range(bits))] if radius else [0]:
            probe = ours ^ numpy.uint64(flip)
            low = numpy.searchsorted(ordered, probe, side="left")
            yield from _compare(
                left, right, count, distance, order, low, numpy.searchsorted(ordered, probe, side="right")
            )


def _compare(
    left: numpy.ndarray,
    right: numpy.ndarray,
    count: int,
    distance: int,
    order: numpy.ndarray,
    low: numpy.ndarray,
    high: numpy.ndarray,
) -> Iterable[tuple[numpy.ndarray, numpy.ndarray]]:
    """Compare hash number i with those at order[low[i]:high[i]], some two million at a time."""
    import numpy

    sizes = high - low
    ends = numpy.cumsum(sizes)
    start = 0
    while start < count:
        base = int(ends[start - 1]) if start else 0
        stop = max(start + 1, int(numpy.searchsorted(ends, base + _PIECE, side="right")))
        part = sizes[start:stop]
        total = int(part.sum())
        if total:
            first = numpy.repeat(numpy.arange(start, stop), part)
            offset = numpy.arange(total) - numpy.repeat(numpy.cumsum(part) - part, part)
            second = order[numpy.repeat(low[start:stop], part) + offset]
            bits = numpy.bitwise_count(left[first] ^ right[second])
            near = bits <= distance
            first, second, bits = first[near], second[near] % count, bits[near]
            different = first != second
            first, second, bits = first[different], second[different], bits[different]
            if first.size:
                yield numpy.minimum(first, second) * count + numpy.maximum(first, second), bits
        start = stop
