"""A LoRA file in another program's form: `kohya` (sd-scripts, ComfyUI, A1111, Forge) or `peft` (diffusers).

kohya has flat names and says how strong a layer is with `.alpha` beside it; PEFT's names have dots and no alpha, so the
scale (alpha / rank) is multiplied into the up half there. Where the product does not fit the file's number format, that
half is written as 32-bit floats; `dalla.folded` in the texts remembers what was, so the way back gives the same bits.
SD3 and FLUX join query, key and value in kohya's files: the halves then stand side by side, with zeros between them
(`dalla.joined` remembers the ranks). Only numpy, no model: what a file means is read from its names.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import secrets
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from dalla.errors import Conflict, InvalidInput, StorageError
from dalla.lora_layers import BITS, Layer, Numbers, apart, float32, floats, folded, together, unfolded
from dalla.lora_names import BASE_VERSIONS, half_of, is_second_encoder, kohya_name, modules_of, split_layer
from dalla.lora_texts import object_of
from dalla.weights import LORA_TAIL, Header, TensorInfo, lora_family, lora_format, read_header

FORMS = ("kohya", "peft")
_FOLDED, _JOINED, _CONFIG = "dalla.folded", "dalla.joined", "lora_adapter_metadata"
_KOHYA = re.compile(r"lora_(?:unet|te[123]?)_")
_PEFT = re.compile(r"(?:unet|transformer|text_encoder(?:_[23])?)\..+\.lora_(?:[AB]|magnitude_vector)\.weight")

Key = tuple[str, str]  # component of the pipeline, path of the module in it


def form_of(header: Header) -> str | None:
    """Return kohya or peft when the whole file has that form already; None for any other and for mixtures."""
    if header and all(_KOHYA.match(key) for key in header):
        return "kohya"
    if header and _CONFIG not in header.metadata and all(_PEFT.fullmatch(key) for key in header):
        return "peft"
    return None


def convert(path: Path, to: str, *, family: str | None = None) -> list[bytes]:
    """Return the LoRA file at `path` in the form `to`, as the pieces of a .safetensors file.

    Texts are kept, hashes made anew. A file that has the form is returned as it is. `family` counts where the layers do
    not tell. Raises InvalidInput (no LoRA, or layers this form has no place for: LoHa, LoKr, full differences, …; field
    `format` for another form), StorageError.
    """
    if to not in FORMS:
        raise InvalidInput.field("format", f"Use one of {', '.join(FORMS)}.")
    header = read_header(path)
    if lora_format(header) is None:
        raise InvalidInput(f"{path.name} holds no LoRA weights.")
    try:
        data = path.read_bytes()
    except OSError as exc:
        raise StorageError(f"{path} cannot be read: {exc.strerror or exc}.") from exc
    if form_of(header) == to:
        return [data]
    family = lora_family(header) or family
    layers = _read(path, header, data, family)
    texts = {k: v for k, v in header.metadata.items() if k not in (_FOLDED, _JOINED, _CONFIG)}
    if family in BASE_VERSIONS:
        texts.setdefault("ss_base_model_version", BASE_VERSIONS[family])
        texts.setdefault("ss_v2", str(family == "sd2"))
    tensors = _as_kohya(layers, header, family, texts) if to == "kohya" else _as_peft(layers, texts)
    return _file(tensors, texts)


def convert_file(path: Path, out: Path, to: str, *, family: str | None = None) -> None:
    """Write what `convert` returns to `out`: whole, or not at all. Raises Conflict when there is such a file, too."""
    if out.suffix.lower() != ".safetensors":
        raise InvalidInput(f"'{out.name}' is no name for a LoRA.", remedy="Let it end in .safetensors.")
    taken = Conflict(f"There is a file {out} already.", remedy="Choose another name; nothing is replaced.")
    if out.exists():
        raise taken
    pieces = convert(path, to, family=family)
    temp = out.with_name(f".{out.name}.{secrets.token_hex(6)}.tmp")
    try:
        with temp.open("xb") as file:
            file.writelines(pieces)
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(temp, out)  # unlike a rename, it never replaces
        except FileExistsError:
            raise taken from None
        except OSError:  # a file system without hard links
            os.replace(temp, out)
    except OSError as exc:
        raise StorageError.from_os(exc, "the LoRA") from exc
    finally:
        temp.unlink(missing_ok=True)


def alphas(path: Path, header: Header) -> Callable[[str, str, int], float]:
    """Return the function that tells a layer's alpha from the adapter's configuration; without one, the rank.

    It takes the component, the module's path and the rank. The configuration stands in the file's texts (diffusers) or
    in `adapter_config.json` beside it (PEFT).
    """
    packed = object_of(header.metadata.get(_CONFIG))
    beside: dict[str, Any] = {}
    if (config := path.parent / "adapter_config.json").is_file():
        try:
            beside = object_of(config.read_text("utf-8"))
        except (OSError, UnicodeDecodeError):
            beside = {}

    def config_of(part: str) -> dict[str, Any]:
        own = {k.removeprefix(f"{part}."): v for k, v in packed.items() if k.startswith(f"{part}.")}
        return own or beside

    def alpha(part: str, layer: str, rank: int) -> float:
        config = config_of(part)
        value = config.get("lora_alpha", rank)
        patterns = config.get("alpha_pattern")
        for pattern, special in patterns.items() if isinstance(patterns, dict) else ():
            try:
                if re.match(rf"(?:.*\.)?(?:{pattern})$", layer):
                    value = special
                    break
            except re.error:
                continue
        try:
            number = float(value)
        except (TypeError, ValueError):
            return float(rank)
        return number * math.sqrt(rank) if config.get("use_rslora") else number

    return alpha


# ---------------------------------------------------------------- reading


def _read(path: Path, header: Header, data: bytes, family: str | None) -> dict[Key, Layer]:
    """Return the layers of a file, joined ones apart."""
    parts: dict[str, dict[str, TensorInfo]] = {}
    for key, info in header.items():
        tail = LORA_TAIL.search(key)
        role = _role(tail) if tail else None
        if tail is None or role is None:
            raise _no_place(path, key)
        parts.setdefault(key[: tail.start()], {})[role] = info
    second = family == "sdxl" and is_second_encoder(header)
    alpha_of = alphas(path, header)
    notes = object_of(header.metadata.get(_JOINED))
    layers: dict[Key, Layer] = {}
    for name, found in parts.items():
        meant = modules_of(name, family, second)
        if meant is None or "down" not in found or "up" not in found:
            raise _no_place(path, name)
        component, modules = meant
        numbers = {role: _numbers(path, header, data, info) for role, info in found.items() if role != "alpha"}
        rank = max(1, int(numbers["down"].data.shape[0])) if numbers["down"].data.ndim else 0
        if not rank or numbers["up"].data.ndim < 2 or numbers["up"].data.shape[1] != rank:
            raise InvalidInput(f"The two halves of the layer '{name[:120]}' in {path.name} do not belong together.")
        if "alpha" in found:
            alpha = float(floats(_numbers(path, header, data, found["alpha"])).reshape(-1)[0])
        else:
            alpha = alpha_of(component, split_layer(name)[1], rank)
        layer = Layer(numbers["down"], numbers["up"], alpha, numbers.get("magnitude"))
        pieces = {modules[0]: layer} if len(modules) == 1 else apart(name, layer, modules, notes.get(name))
        for module, piece in pieces.items():
            if (component, module) in layers:
                raise InvalidInput(f"{path.name} holds the layer '{component}.{module[:120]}' under two names.")
            layers[component, module] = piece
    return layers


def _role(tail: re.Match[str]) -> str | None:
    if half := half_of(tail):
        return half if half in ("down", "up") else None
    if tail[0] == ".alpha":
        return "alpha"
    return "magnitude" if tail[0] == ".dora_scale" or "magnitude" in tail[0] else None


#: What is told by name where it has no place; the first that is found in a layer's name counts.
_STRANGERS = (
    ("hada_", "LoHa"), ("lokr_", "LoKr"), ("oft_", "OFT"), (".diff", "a full difference"), ("lora_te3_", "T5 text encoder"),
    ("text_encoder_3.", "T5 text encoder"), ("t5xxl", "T5 text encoder"),
)  # fmt: skip


def _no_place(path: Path, name: str) -> InvalidInput:
    kind = next((f" ({what})" for part, what in _STRANGERS if part in name), "")
    return InvalidInput(
        f"The LoRA file {path.name} holds '{name[:120]}'{kind}, which has no place in the other form.",
        remedy="Use the file as it is; ComfyUI and the built-in engine say what of it they can load.",
    )


def _numbers(path: Path, header: Header, data: bytes, info: TensorInfo) -> Numbers:
    import numpy

    if info.dtype not in BITS:
        raise InvalidInput(f"{path.name} holds numbers in the format {info.dtype}, which cannot be converted.")
    start, kind = header.data_start + info.start, numpy.dtype(BITS[info.dtype])
    count = (info.end - info.start) // kind.itemsize
    return Numbers(info.dtype, numpy.frombuffer(data, kind, count, start).reshape(info.shape))


# ---------------------------------------------------------------- writing


def _as_peft(layers: dict[Key, Layer], texts: dict[str, str]) -> dict[str, Numbers]:
    out: dict[str, Numbers] = {}
    notes: dict[str, Any] = {}
    for (component, module), layer in layers.items():
        name = f"{component}.{module}"
        up, restores = folded(layer.up, layer.scale)
        if up is not layer.up and restores:
            notes[name] = [layer.alpha, layer.up.dtype]
        out[f"{name}.lora_A.weight"], out[f"{name}.lora_B.weight"] = layer.down, up
        if (magnitude := layer.magnitude) is not None:
            shape = (1, -1, *[1] * (layer.down.data.ndim - 2)) if layer.down.data.ndim > 2 else (-1,)
            out[f"{name}.lora_magnitude_vector.weight"] = replace(magnitude, data=magnitude.data.reshape(shape))
    if notes:
        texts[_FOLDED] = json.dumps(notes)
    return out


def _as_kohya(
    layers: dict[Key, Layer], header: Header, family: str | None, texts: dict[str, str]
) -> dict[str, Numbers]:
    notes = object_of(header.metadata.get(_FOLDED))
    groups: dict[str, dict[int, Layer]] = {}
    members: dict[str, tuple[str, ...]] = {}
    for (component, module), layer in layers.items():
        named = kohya_name(component, module, family)
        if named is None:
            raise InvalidInput(
                f"kohya's files have no name for the layer '{component}.{module[:120]}'.",
                remedy="Use the file as it is: ComfyUI reads diffusers' names of SD3 and FLUX, too.",
            )
        name, place, whole = named
        members[name] = whole
        groups.setdefault(name, {})[place] = unfolded(layer, notes.get(f"{component}.{module}"))
    out: dict[str, Numbers] = {}
    ranks: dict[str, list[int]] = {}
    for name, found in groups.items():
        layer = found[0] if len(members[name]) == 1 else together(name, found, members[name])
        own = [found[n].rank if n in found else 0 for n in range(len(members[name]))]
        if len(own) > 1 and sum(own) == layer.rank:
            ranks[name] = own
        out[f"{name}.lora_down.weight"], out[f"{name}.lora_up.weight"] = layer.down, layer.up
        out[f"{name}.alpha"] = float32(layer.alpha)
        if (magnitude := layer.magnitude) is not None:
            shape = (-1, *[1] * (max(layer.down.data.ndim, 2) - 1))
            out[f"{name}.dora_scale"] = replace(magnitude, data=magnitude.data.reshape(shape))
    if ranks:
        texts[_JOINED] = json.dumps(ranks)
    texts.setdefault("ss_network_module", "networks.lora")
    texts.setdefault("ss_network_dim", str(Counter(layer.rank for layer in layers.values()).most_common(1)[0][0]))
    return out


def _file(tensors: dict[str, Numbers], texts: dict[str, str]) -> list[bytes]:
    """Return the pieces of the .safetensors file, in the order of safetensors' own writer: wide numbers first."""
    order = sorted(tensors, key=lambda key: (-tensors[key].data.dtype.itemsize, tensors[key].dtype, key))
    pieces = [tensors[key].data.tobytes() for key in order]
    of_data = hashlib.sha256()
    table: dict[str, Any] = {}
    at = 0
    for key, piece in zip(order, pieces, strict=True):
        of_data.update(piece)
        shape = list(tensors[key].data.shape)
        table[key] = {"dtype": tensors[key].dtype, "shape": shape, "data_offsets": [at, at + len(piece)]}
        at += len(piece)
    digest = of_data.hexdigest()
    texts |= {"sshs_model_hash": digest, "modelspec.hash_sha256": f"0x{digest}", "format": "pt"}
    head = json.dumps({"__metadata__": dict(sorted(texts.items())), **table}, ensure_ascii=False, separators=(",", ":"))
    raw = head.encode()
    raw += b" " * (-len(raw) % 8)
    return [len(raw).to_bytes(8, "little"), raw, *pieces]
