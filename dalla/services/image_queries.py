"""The query of a list of pictures, as addresses and JSON bodies carry it, and the ImageFilter it means.

`GET /api/datasets/{id}/images` takes it as parameters; statistics give it beside every count; batches, caption edits
and exports take it as their `filter`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

from pydantic import ConfigDict, Field, ValidationError, field_validator

from dalla.errors import InvalidInput
from dalla.measures import BLURRED
from dalla.records.base import RequestBody
from dalla.records.dataset import ImageFilter
from dalla.services.dataset_stats_parts import NONE

_KEY = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}\Z")
_BUCKET = re.compile(r"(\d{1,5})x(\d{1,5})\Z")
_FACES: dict[str, tuple[float, float | None]] = {"0": (0, 0), "1": (1, 1), "2+": (2, None)}

#: (bucket width and height, resolution, step) -> least and greatest aspect of its pictures, None: it has none.
BucketRange = Callable[[tuple[int, int], int, int], tuple[float, float] | None]


class ImageQuery(RequestBody):
    """Which pictures; all that are given must match. `range.<measured>=lo..hi` restricts a measured value as well."""

    model_config = ConfigDict(extra="allow")

    kind: str | None = Field(None, pattern="^(original|processed)$")
    q: str | None = Field(None, max_length=1000, description='Words of caption or file name; also `-word` and `"a phrase"`')  # fmt: skip
    captioned: bool | None = None
    caption_source: str | None = Field(None, pattern="^(none|file|human|engine|edit)$")
    locked: bool | None = None
    excluded: bool | None = None
    tag: str | None = Field(None, max_length=1000, description="A whole tag, any case")
    without_tag: str | None = Field(None, max_length=1000)
    concept: str | None = Field(None, max_length=500, description="`.`: those without one")
    regularization: bool | None = None
    folder: str | None = Field(None, max_length=1000, description="With the folders inside it; `.`: the top alone")
    format: str | None = Field(None, max_length=16)
    language: str | None = Field(None, max_length=16, description="Of the caption: en, de, ja … or unclear")
    min_side: int | None = Field(None, ge=0, le=100_000, description="Shorter side at least, px")
    max_side: int | None = Field(None, ge=0, le=100_000, description="Shorter side at most, px")
    parent_id: str | None = Field(None, max_length=100, description="Made from this picture")
    group: str | None = Field(None, max_length=100, description="A group of duplicates")
    shared_caption: bool | None = Field(None, description="Whether another picture has the same caption")
    same_pixels: bool | None = Field(None, description="Whether another picture has the same pixels")
    trashed: bool = False
    faces: str | None = Field(None, pattern=r"^(0|1|2\+|2 )$", description="0, 1 or 2+")
    blurry: bool | None = None
    bucket: str | None = Field(None, max_length=20, description="WxH in px, for `resolution` and `step`")
    resolution: int = Field(512, ge=128, le=4096)
    step: int = Field(64, ge=8, le=128)
    ids: list[str] | None = Field(None, max_length=10_000, description="Comma separated")
    missing: list[str] | None = Field(None, max_length=50, description="Measured values that are not there")
    has: list[str] | None = Field(None, max_length=50, description="Measured values that are there")

    @field_validator("ids", "missing", "has", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        """Take "a,b", ["a", "b"] and ["a,b"]."""
        if isinstance(value, str):
            value = [value]
        if isinstance(value, list):
            return [part for entry in value if isinstance(entry, str) for part in entry.split(",") if part]
        return value

    def where(self, bucket_range: BucketRange | None = None) -> ImageFilter:
        """Return the filter. Without `bucket_range` no bucket can be asked for. Raises InvalidInput."""
        values = self.model_dump(include=_PLAIN, exclude_none=True)
        for name in ("folder", "concept"):
            if values.get(name) == NONE:
                values[name] = ""
        ranges: list[tuple[str, float | None, float | None]] = [
            (_key("has", key), None, None) for key in self.has or []
        ]
        if self.faces is not None:
            ranges.append(("faces", *_FACES[self.faces.replace(" ", "+")]))  # a bare + in an address is a space
        if self.blurry is not None:
            edge = math.nextafter(BLURRED, -math.inf)
            ranges.append(("sharpness", None, edge) if self.blurry else ("sharpness", BLURRED, None))
        for name, value in (self.model_extra or {}).items():
            if not name.startswith("range."):
                raise InvalidInput.field(name, "There is no such filter.", remedy="Leave it out or correct its name.")
            ranges.append((_key(name, name.removeprefix("range.")), *parse_range(name, value)))
        if self.bucket is not None:
            ranges.append(("aspect", *self._bucket(bucket_range)))
        return ImageFilter(**values, metadata=ranges, missing=[_key("missing", key) for key in self.missing or []])

    def _bucket(self, bucket_range: BucketRange | None) -> tuple[float, float]:
        sides = _BUCKET.match(self.bucket or "")
        if not sides or bucket_range is None:
            raise InvalidInput.field("bucket", "Give a bucket such as 512x768." if bucket_range else "No bucket here.")
        return bucket_range((int(sides[1]), int(sides[2])), self.resolution, self.step) or (math.inf, -math.inf)


_PLAIN = set(ImageFilter.model_fields) & set(ImageQuery.model_fields) - {"missing"}


def image_filter(values: dict[str, Any], bucket_range: BucketRange | None = None) -> ImageFilter:
    """Return the filter a JSON object means, such as a `filter` of the statistics. Raises InvalidInput."""
    try:
        query = ImageQuery.model_validate(values)
    except ValidationError as exc:
        first = exc.errors()[0]
        name = ".".join(str(part) for part in first["loc"]) or "filter"
        raise InvalidInput.field(f"filter.{name}", f"The filter is not understood: {first['msg']}.") from exc
    return query.where(bucket_range)


def parse_range(name: str, text: Any) -> tuple[float | None, float | None]:
    """Read "lo..hi", "lo..", "..hi", "lo..<hi" (without the upper end) or one number. Raises InvalidInput."""
    words = str(text).strip()
    low, dots, high = words.partition("..")
    try:
        if not dots:
            return _number(low), _number(low)
        below = high.startswith("<")
        top = _number(high.removeprefix("<")) if high.removeprefix("<") else None
        return (_number(low) if low else None), (math.nextafter(top, -math.inf) if below and top is not None else top)
    except ValueError as exc:
        raise InvalidInput.field(name, "Give a range such as 0.5..2, 10.. or ..<60.") from exc


def _number(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(text)
    return value


def _key(field: str, key: str) -> str:
    if not _KEY.match(key):
        raise InvalidInput.field(field, "This is not the name of a measured value.")
    return key
