"""How much memory one drawing took: the card's, or on the processor the process's own, as the system counted it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

#: What a CUDA context takes beside what PyTorch reserves, bytes.
CONTEXT = 512 << 20
_first = True


class Meter:
    """Begins to measure when it is made; `peak` reads."""

    def __init__(self) -> None:
        global _first
        self._exact = _reset() or _first  # where the peak cannot be reset, only the first drawing's is its own
        _first = False
        if _cuda():
            import torch

            torch.cuda.reset_peak_memory_stats()

    def peak(self, device: str) -> dict[str, int | None]:
        """Return {peakBytes, processBytes, heldBytes}: the most on the device (None: not known), the most of the process,
        and what is still held on a graphics card."""
        process = _process_peak() if self._exact else None
        if device == "cuda" and _cuda():
            import torch

            return {
                "peakBytes": int(torch.cuda.max_memory_allocated()) + CONTEXT,
                "processBytes": process,
                "heldBytes": int(torch.cuda.memory_reserved()) + CONTEXT,
            }
        if device == "mps":
            import torch

            held = int(torch.mps.driver_allocated_memory())
            return {"peakBytes": held, "processBytes": process, "heldBytes": held}
        return {"peakBytes": process, "processBytes": process, "heldBytes": None}


def _cuda() -> bool:
    torch: Any = sys.modules.get("torch")
    return torch is not None and bool(torch.cuda.is_available()) and bool(torch.cuda.is_initialized())


def _reset() -> bool:
    """Let the system count the peak anew. Linux only."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
        return True
    except OSError:
        return False


def _process_peak() -> int | None:
    try:
        for line in Path("/proc/self/status").read_text("ascii", "replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    if sys.platform == "win32":
        import psutil

        return int(psutil.Process().memory_info().peak_wset)
    import resource

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(most) if sys.platform == "darwin" else int(most) * 1024
