"""The model families by name. A new one is a file and a line here."""

from __future__ import annotations

from dalla.diffusion.families.base import Family
from dalla.registry import Registry

families = Registry(
    "model family",
    {
        "sd15": "dalla.diffusion.families.sd15:FAMILY",
        "sdxl": "dalla.diffusion.families.sdxl:FAMILY",
        "sd3": "dalla.diffusion.families.sd3:FAMILY",
        "flux": "dalla.diffusion.families.flux:FAMILY",
    },
)


def family(name: str) -> Family:
    """Return a family. Raises NotFound, or Unavailable when a library is missing."""
    found: Family = families.load(name)
    return found
