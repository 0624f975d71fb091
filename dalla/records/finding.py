"""What a try of a service found."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Finding:
    """Whether it works, in a sentence; what helps when it does not. `info` is for the curious, JSON, without secrets."""

    ok: bool
    detail: str
    remedy: str | None = None
    info: dict[str, Any] = field(default_factory=dict)
