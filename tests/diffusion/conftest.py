"""One thread for torch in this process: threads that spin while they wait cost minutes on a busy machine."""

from __future__ import annotations

import contextlib

with contextlib.suppress(ImportError):
    import torch

    torch.set_num_threads(1)
