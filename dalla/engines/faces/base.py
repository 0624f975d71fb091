"""What a face finder promises."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from PIL import Image

#: How far the tip of the nose stands out of the plane of the eyes, as part of the distance between the eyes
#: (about 32 mm of 63 mm). Turns the nose's offset into an angle.
NOSE_DEPTH = 0.5

Point = tuple[float, float]


@dataclass(frozen=True)
class Face:
    """A face in a picture: its box in px from the top left corner, and how sure the finder is (0..1).

    `landmarks` are five points in px, as seen in the picture: the eye on the left, the eye on the right, the tip of
    the nose, the corner of the mouth on the left, the one on the right; empty when the finder has none.
    """

    x: float
    y: float
    width: float
    height: float
    score: float
    landmarks: tuple[Point, ...] = ()

    @property
    def box(self) -> tuple[float, float, float, float]:
        """x, y, width, height in px, as `framing.prepare` takes it."""
        return self.x, self.y, self.width, self.height

    @property
    def yaw(self) -> float | None:
        """Estimated turn of the head in degrees, -90..90: 0 looks at the camera, more than 0 to the right of the
        picture. From where the nose stands between the eyes; None without landmarks.
        """
        if len(self.landmarks) != 5:
            return None
        (left_x, left_y), (right_x, right_y), (nose_x, nose_y) = self.landmarks[:3]
        across_x, across_y = right_x - left_x, right_y - left_y
        span = math.hypot(across_x, across_y)
        if span < 1e-6:
            return None
        middle_x, middle_y = (left_x + right_x) / 2, (left_y + right_y) / 2
        # Along the line of the eyes, so that a tilted head is no turned one.
        offset = ((nose_x - middle_x) * across_x + (nose_y - middle_y) * across_y) / span**2
        return round(math.degrees(math.atan2(offset, NOSE_DEPTH)), 1)

    @property
    def roll(self) -> float | None:
        """Tilt of the head in degrees: how far the line of the eyes falls to the right. None without landmarks."""
        if len(self.landmarks) != 5:
            return None
        (left_x, left_y), (right_x, right_y) = self.landmarks[:2]
        return round(math.degrees(math.atan2(right_y - left_y, right_x - left_x)), 1)


class FaceFinder(Protocol):
    """Finds faces. Safe to call from several threads."""

    @property
    def reason(self) -> str | None:
        """Why no faces can be found; None while nothing is known to be wrong."""

    def available(self) -> bool:
        """Whether faces can be found at all (library and weights are there)."""

    def find(self, image: Image.Image) -> list[Face]:
        """Return the faces, largest first; an empty list when there are none or they cannot be found."""


class FaceReader(Protocol):
    """Turns faces into vectors whose cosine says how alike they are. Safe to call from several threads."""

    #: What made the vectors; those of different makers must not be compared. Known once `available` said so.
    maker: str

    @property
    def reason(self) -> str | None:
        """Why faces cannot be read; None while nothing is known to be wrong."""

    def available(self) -> bool:
        """Whether faces can be read at all (library and weights are there)."""

    def read(self, image: Image.Image, faces: Sequence[Face]) -> list[tuple[float, ...] | None]:
        """Return a unit vector for each face, None for one without landmarks; all None when they cannot be read."""
