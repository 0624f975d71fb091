"""Write a trained LoRA so that every program loads it, and prove that it loads.

The key names are the family's (dalla.diffusion.families: kohya with `.alpha` for U-Nets, PEFT names
with the scale folded in for transformers). A file appears under its name whole or not at all, and is
never replaced: programs keep a LoRA they have read and do not look at it again.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from dalla.diffusion import kohya
from dalla.diffusion.families.base import LoraLayout
from dalla.diffusion.kohya import Layer, Layers
from dalla.diffusion.training.export_metadata import metadata_for, sidecar, write_sidecar
from dalla.diffusion.training.export_verify import Verified, adapted, verify
from dalla.errors import Conflict, InvalidInput, StorageError
from dalla.paths import fsync_folder, remove_stale_temps, safe_name

__all__ = [
    "Layer", "Layers", "Verified", "check_name", "fresh_name", "metadata_for", "publish", "read_adapter", "save_lora",
    "sidecar", "verify", "write_file", "write_sidecar",
]  # fmt: skip

DTYPES = ("bf16", "fp16", "fp32")


# ---------------------------------------------------------------- from the model


def read_adapter(pipe: Any, layout: LoraLayout, adapter: str | None = None) -> Layers:
    """Read the LoRA layers that PEFT put on a pipeline's denoiser and text encoders.

    The scale is taken as the layers really apply it, so rsLoRA and per-module alphas come out right.
    `adapter` is PEFT's name for it (default: the first one found). Tensors are not copied.
    """
    layers: Layers = {}
    for component in layout.prefixes:
        part = getattr(pipe, component, None)
        for path, module in adapted(part):
            name = adapter or next(iter(module.lora_A), None)
            if name is None or name not in module.lora_A:
                continue
            down, up = module.lora_A[name].weight, module.lora_B[name].weight
            vectors = getattr(module, "lora_magnitude_vector", None)
            magnitude = vectors[name].weight if vectors is not None and name in vectors else None
            layers.setdefault(component, {})[path] = Layer(
                down, up, float(module.scaling[name]) * down.shape[0], magnitude
            )
    return layers


# ---------------------------------------------------------------- names


def fresh_name(folder: Path, wish: str, taken: Iterable[str] = ()) -> str:
    """Return `wish` made into a file name, with a number when a LoRA of that name exists (or is `taken`).

    Upper and lower case count as the same. Raises InvalidInput (field "name") when nothing usable is left.
    """
    plain = re.sub(r"[^A-Za-z0-9._()+-]+", "-", wish.strip().removesuffix(".safetensors"))
    plain = re.sub(r"\.{2,}", ".", plain).strip("-. ")[:80].rstrip("-. ")
    name = check_name(plain)
    try:
        used = {entry.name.lower() for entry in os.scandir(folder)} if folder.is_dir() else set()
    except OSError as exc:
        raise StorageError.from_os(exc, "the LoRA") from exc
    known = {stem.lower() for stem in taken}

    def free(candidate: str) -> bool:
        low = candidate.lower()
        return low not in known and not {f"{low}.safetensors", f"{low}.json"} & used

    number = 2
    candidate = name
    while not free(candidate):
        candidate = f"{name}-{number}"
        number += 1
    return candidate


def check_name(name: str) -> str:
    """Return a LoRA's name unchanged. Raises InvalidInput (field "name") for one that is no plain file name.

    No folders, no leading dot, no Windows device; at most 100 characters, so that programs that add
    their own endings stay within what file systems take.
    """
    if len(name) > 100:
        raise InvalidInput.field("name", "The name of a LoRA may have at most 100 characters.")
    if name.lower().endswith(".safetensors"):
        raise InvalidInput.field("name", "Leave '.safetensors' out of the name; it is added.")
    return safe_name(name)


# ---------------------------------------------------------------- writing


def save_lora(
    path: Path,
    adapter: Any,
    *,
    layout: LoraLayout,
    rank: int | None = None,
    alpha: float | None = None,
    metadata: Mapping[str, str] | None = None,
    dtype: str = "bf16",
) -> str:
    """Write a LoRA file and return its SHA-256 (hex).

    `adapter` is a pipeline with PEFT layers on it, what `read_adapter` returns, or
    `{component: {module: (down, up, alpha[, magnitude])}}`; an alpha of None there means `alpha`, and
    without that the layer's rank. With `rank`, some layer must have it: another number means that
    another adapter was handed over. `dtype` is bf16, fp16 or fp32.

    The texts in `metadata` are completed by what the layers say (`ss_network_dim`, `_alpha`, `_module`,
    `_args`) and by the hashes of the data. Raises InvalidInput when there are no layers, a shape is
    wrong, all is zero or a number is not finite (in that format); Conflict when the file exists;
    StorageError when the disk refuses. Then the folder is as it was.
    """
    check_name(path.name.removesuffix(".safetensors"))
    layers = as_layers(adapter, layout, alpha)
    _check(layers, rank)
    tensors = kohya.file_tensors(layers, layout, _dtype(dtype))
    _check_numbers(tensors, dtype)
    return write_file(path, tensors, network_texts(layers, layout) | dict(metadata or {}))


def as_layers(adapter: Any, layout: LoraLayout, alpha: float | None = None) -> Layers:
    """Return any of the forms that `save_lora` takes as layers."""
    if not isinstance(adapter, Mapping):
        return read_adapter(adapter, layout)
    layers: Layers = {}
    for component, modules in adapter.items():
        if component not in layout.prefixes:
            raise InvalidInput(f"A LoRA of this family has no part for '{component}'.")
        for path, row in modules.items():
            if not isinstance(row, Layer):
                down, up, own, *more = row
                own = alpha if own is None else own
                row = Layer(down, up, float(down.shape[0] if own is None else own), more[0] if more else None)
            layers.setdefault(component, {})[path] = row
    return layers


def network_texts(layers: Layers, layout: LoraLayout) -> dict[str, str]:
    """Return what kohya's tools want to know about the network, as the file holds it.

    Where the scale is folded into the weights, the alpha of the file is the rank.
    """
    rows = [row for modules in layers.values() for row in modules.values()]
    main = layers.get(layout.denoiser) or next(iter(layers.values()))
    wide = [row for row in main.values() if _is_wide(row)]
    rank = _usual_rank([row for row in main.values() if not _is_wide(row)] or wide)
    kohyas = layout.style == "kohya"
    alpha = kohya.common_alpha(main.values()) if kohyas else float(rank)
    arguments: dict[str, str] = {}
    if wide:
        conv_rank = _usual_rank(wide)
        arguments |= {"conv_dim": str(conv_rank), "conv_alpha": str(alpha if kohyas else float(conv_rank))}
    if any(row.magnitude is not None for row in rows):
        arguments["dora_wd"] = "True"
    return {
        "ss_network_module": "networks.lora",
        "ss_network_dim": str(rank),
        "ss_network_alpha": str(alpha),
        "ss_network_args": json.dumps(arguments),
    }


def _is_wide(layer: Layer) -> bool:
    """Whether it is a convolution over more than one pixel, which kohya gives a rank of its own."""
    return layer.down.dim() == 4 and layer.down.shape[-1] > 1


def _usual_rank(layers: list[Layer]) -> int:
    return Counter(row.rank for row in layers).most_common(1)[0][0]


def _check(layers: Layers, rank: int | None) -> None:
    rows = [(f"{component}.{path}", row) for component, modules in layers.items() for path, row in modules.items()]
    if not rows:
        raise InvalidInput("There are no LoRA layers to save.", remedy="Train with at least one kind of layer.")
    for name, row in rows:
        if row.rank < 1 or row.up.dim() != row.down.dim() or row.up.shape[1] != row.rank:
            raise InvalidInput(f"The two halves of the LoRA layer '{name}' do not belong together.")
    if rank is not None and all(row.rank != rank for _, row in rows):
        raise InvalidInput(f"The LoRA layers have rank {rows[0][1].rank}, not {rank}.")


def _dtype(name: str) -> Any:
    import torch

    if name not in DTYPES:
        raise InvalidInput.field("dtype", f"The number format must be one of {', '.join(DTYPES)}.")
    return {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}[name]


def _check_numbers(tensors: dict[str, Any], dtype: str) -> None:
    import torch

    for key, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise InvalidInput(
                f"The LoRA layer '{kohya.stem(key)}' holds numbers that are not finite, so it is not saved.",
                remedy="Train from the last good checkpoint with a lower learning rate."
                if dtype != "fp16"
                else "Save it in bf16 or fp32, or train from the last good checkpoint with a lower learning rate.",
            )
    if not any(
        bool(torch.count_nonzero(t)) for k, t in tensors.items() if k.endswith((".lora_up.weight", ".lora_B.weight"))
    ):
        raise InvalidInput(
            "The LoRA is all zeros: nothing was learned, so nothing is saved.",
            remedy="Train more steps, or with a higher learning rate.",
        )


def write_file(path: Path, tensors: dict[str, Any], metadata: Mapping[str, str]) -> str:
    """Write tensors and metadata as a .safetensors file, add the hashes of its data, return its SHA-256.

    The file has no name until it is complete and on the disk, where the system can do that (Linux);
    elsewhere it is a hidden `.tmp` beside it, which no program lists and the next save clears away.
    """
    from safetensors.torch import save

    plain = save(tensors)
    start = 8 + int.from_bytes(plain[:8], "little")
    of_data = hashlib.sha256(memoryview(plain)[start:]).hexdigest()
    texts = {str(key): str(value) for key, value in metadata.items() if value is not None}
    # kohya's tools know a LoRA by the hash of its data, whatever somebody writes into the texts later.
    texts |= {"sshs_model_hash": of_data, "modelspec.hash_sha256": f"0x{of_data}", "format": "pt"}
    # The library writes texts in another order each time; the same LoRA is to be the same file.
    header = {"__metadata__": dict(sorted(texts.items()))} | json.loads(plain[8:start])
    head = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    head += b" " * (-len(head) % 8)
    final = b"".join((len(head).to_bytes(8, "little"), head, memoryview(plain)[start:]))

    _place(path, final)
    return hashlib.sha256(final).hexdigest()


def publish(source: Path, target: Path) -> str:
    """Copy a LoRA file that was saved and verified elsewhere to its name on the shelf; return its SHA-256.

    So nothing that did not pass `verify` is ever seen there. Raises as `save_lora` does.
    """
    check_name(target.name.removesuffix(".safetensors"))
    try:
        data = source.read_bytes()
    except OSError as exc:
        raise StorageError.from_os(exc, f"the LoRA {target.stem}") from exc
    _place(target, data)
    return hashlib.sha256(data).hexdigest()


def _place(path: Path, data: bytes) -> None:
    """Write a whole LoRA file under a name that nothing has. Raises Conflict, StorageError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_stale_temps(path.parent)
        _name_when_whole(path, data, _check_file)
    except FileExistsError as exc:
        raise Conflict(
            f"There is a LoRA '{path.stem}' already, and a LoRA is never replaced.",
            remedy="Choose another name; programs that have read the old file would go on using it.",
        ) from exc
    except OSError as exc:
        raise StorageError.from_os(exc, f"the LoRA {path.stem}") from exc


def _check_file(file: Path) -> None:
    """Raise InvalidInput when what was written cannot be read back as a LoRA file."""
    from dalla.weights import LORA_TAIL, read_header

    found = read_header(file)
    if not found or not all(LORA_TAIL.search(key) for key in found):
        raise InvalidInput("What was written is no LoRA file.", remedy="Save it again.")


def _name_when_whole(path: Path, data: bytes, check: Callable[[Path], None]) -> None:
    """Give `data` its name once it is on the disk. Raises FileExistsError, OSError."""
    if path.exists():
        raise FileExistsError(path)
    if hasattr(os, "O_TMPFILE"):
        with suppress(OSError):
            handle = os.open(path.parent, os.O_TMPFILE | os.O_WRONLY, 0o644)
            with open(handle, "wb") as file:
                _write_through(file, data)
                here = Path(f"/proc/self/fd/{file.fileno()}")
                if here.exists():
                    check(here)
                    os.link(here, path, follow_symlinks=True)
                    fsync_folder(path.parent)
                    return
    temp = path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")
    try:
        with temp.open("xb") as file:
            _write_through(file, data)
        check(temp)
        try:
            os.link(temp, path)  # unlike a rename, it never replaces
        except FileExistsError:
            raise
        except OSError:  # a file system without hard links
            os.replace(temp, path)
        fsync_folder(path.parent)
    finally:
        temp.unlink(missing_ok=True)


def _write_through(file: Any, data: bytes) -> None:
    file.write(data)
    file.flush()
    os.fsync(file.fileno())
