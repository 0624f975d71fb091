"""The child process that turns a pickle of weights into .safetensors: `python -m dalla.diffusion.convert SOURCE TARGET`.

Only tensors and plain containers are unpickled (`weights_only=True`); anything else in the file is refused by its name
and never called. The last line of standard output is one JSON object: {"tensors", "bytes", "skipped"} or {"problem"}.
"""

from __future__ import annotations

import json
import os
import pickle
import re
import sys
import zipfile
from pathlib import Path
from typing import Any

from dalla.errors import DallaError, InvalidInput, StorageError, UpstreamError

#: Names under which trainers put the tensors, best first (the averaged ones are what is meant to be used).
_INSIDE = ("params_ema", "state_dict", "params", "model", "module", "generator", "weights")
_GLOBAL = re.compile(r"(?:GLOBAL|global) ([\w.]+)")
#: Beside the file's own size: PyTorch itself, and room for tensors that are stored compactly.
_ROOM = 6 << 30


def convert(source: Path, target: Path) -> dict[str, Any]:
    """Read the tensors of a pickle and write them, unchanged in type and values; return {tensors, bytes, skipped}.

    Raises InvalidInput (it holds more than weights, or none), StorageError.
    """
    import torch
    from safetensors.torch import save_file

    if _is_program(source):
        raise InvalidInput(
            f"{source.name} is a TorchScript program, not a file of weights. Nothing of it was run.",
            remedy="Get the weights as .safetensors.",
        )
    try:
        found: Any = torch.load(source, map_location="cpu", weights_only=True)
    except OSError as exc:
        raise StorageError(f"{source.name} cannot be read: {exc.strerror or exc}.") from exc
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, TypeError, KeyError, AttributeError) as exc:
        raise _refusal(source, exc) from exc
    state = _tensors(found)
    if not state:
        raise InvalidInput(
            f"{source.name} holds no tensors by name.",
            remedy="Only files with a plain state dict can be converted.",
        )
    weights: dict[str, Any] = {}
    seen: set[tuple[int, Any]] = set()
    skipped = 0
    for name, value in state.items():
        if not isinstance(value, torch.Tensor):
            skipped += 1
            continue
        if value.is_sparse or value.is_quantized or value.is_complex():
            raise InvalidInput(f"{source.name} holds tensors of a kind that .safetensors has no room for ('{name}').")
        # Tied tensors share memory in a pickle; .safetensors wants each its own.
        place = (value.untyped_storage().data_ptr(), value.storage_offset())
        weights[name] = value.contiguous().clone() if place in seen or _is_part(value) else value.contiguous()
        seen.add(place)
    if not weights:
        raise InvalidInput(f"{source.name} holds no tensors by name.")
    try:
        save_file(weights, target, metadata={"format": "pt", "dalla.converted_from": source.name})
    except OSError as exc:
        raise StorageError.from_os(exc, "the converted weights") from exc
    size = sum(tensor.numel() * tensor.element_size() for tensor in weights.values())
    return {"tensors": len(weights), "bytes": size, "skipped": skipped}


def _tensors(found: Any) -> dict[str, Any]:
    """Return the table of tensors, wherever a trainer put it."""
    import torch

    for _ in range(3):
        if not isinstance(found, dict):
            return {}
        if any(isinstance(value, torch.Tensor) for value in found.values()):
            return {str(name): value for name, value in found.items()}
        found = next((found[name] for name in _INSIDE if isinstance(found.get(name), dict)), None)
    return {}


def _is_program(source: Path) -> bool:
    """Whether it is a TorchScript archive, which PyTorch would hand to another loader."""
    try:
        with zipfile.ZipFile(source) as archive:
            return any(name.endswith("/constants.pkl") for name in archive.namelist())
    except (OSError, zipfile.BadZipFile):
        return False


def _is_part(value: Any) -> bool:
    """Whether a tensor is a view of a larger one: writing it would write all of that."""
    return bool(value.untyped_storage().nbytes() != value.numel() * value.element_size())


def _refusal(source: Path, exc: BaseException) -> DallaError:
    text = str(exc)
    if "out of memory" in text or "can't allocate" in text or "not enough memory" in text:
        return _no_memory(source)
    if match := _GLOBAL.search(text):
        return InvalidInput(
            f"{source.name} was refused: it asks for '{match[1]}', which is no weights. Nothing of it was run.",
            remedy="Do not use this file, or get its .safetensors version from where it was published.",
            extra={"cause": "unsafe", "asksFor": match[1]},
        )
    return InvalidInput(
        f"{source.name} cannot be read as weights: it is damaged, cut off or holds more than tensors.",
        remedy="Download it again, or get its .safetensors version.",
    )


def _no_memory(source: Path) -> DallaError:
    return UpstreamError(
        f"The memory was not enough to convert {source.name}.",
        service="converter",
        remedy="Close other programs, or convert it on a machine with more memory.",
    )


def limit(source: Path) -> None:
    """Keep a file that unfolds into far more than its size from taking the whole machine's memory or disk."""
    if os.name == "nt":
        return
    import resource

    size = source.stat().st_size
    for what, most in ((resource.RLIMIT_AS, size * 4 + _ROOM), (resource.RLIMIT_FSIZE, size * 4 + (64 << 20))):
        _, hard = resource.getrlimit(what)
        resource.setrlimit(what, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def main(argv: list[str]) -> int:
    """Convert argv[0] to argv[1]. Returns the exit code."""
    source, target = Path(argv[0]), Path(argv[1])
    out = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what a library prints is no answer
    try:
        limit(source)
        answer = convert(source, target)
    except MemoryError:
        answer = {"problem": _no_memory(source).problem()}
    except DallaError as exc:
        answer = {"problem": exc.problem()}
    print(json.dumps(answer), file=out, flush=True)
    return 1 if "problem" in answer else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
