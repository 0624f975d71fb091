"""What a face finder promises."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from PIL import Image


@dataclass(frozen=True)
class Face:
    """A face in a picture: its box in px from the top left corner, and how sure the finder is (0..1)."""

    x: float
    y: float
    width: float
    height: float
    score: float

    @property
    def box(self) -> tuple[float, float, float, float]:
        """x, y, width, height in px, as `framing.prepare` takes it."""
        return self.x, self.y, self.width, self.height


class FaceFinder(Protocol):
    """Finds faces. Safe to call from several threads."""

    def available(self) -> bool:
        """Whether faces can be found at all (library and weights are there)."""

    def find(self, image: Image.Image) -> list[Face]:
        """Return the faces, largest first; an empty list when there are none or they cannot be found."""
