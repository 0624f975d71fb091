"""What the machine can do."""

from __future__ import annotations

import functools

import torch


@functools.cache
def computes_bf16(kind: str) -> bool:
    """Say whether a kind of device ("cpu", "cuda") computes bfloat16 by itself.

    A processor that only imitates it is ten times slower with it than with float32.
    """
    if kind == "cuda":
        return torch.cuda.is_bf16_supported()
    checks = (getattr(torch.cpu, f"_is_{name}_supported", None) for name in ("avx512_bf16", "amx_tile"))
    return kind == "cpu" and any(check is not None and check() for check in checks)
