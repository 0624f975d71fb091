"""See to it that a LoRA has an effect in ComfyUI: right family, readable names, on the server.

ComfyUI reports success for a LoRA whose layers it cannot place, and never reads a replaced file of a
known name again. So what is looked at here is the file, and what is put into the server's folder
gets a name with a hash of its content.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dalla.engines.comfy import lora_convert
from dalla.engines.comfy.lora_convert import convert_to_kohya
from dalla.errors import InvalidInput, StorageError
from dalla.paths import safe_join
from dalla.records.character import LoraUse
from dalla.weights import (
    Header,
    family_in_metadata,
    file_sha256,
    lora_context,
    lora_family,
    lora_format,
    lora_is_blank,
    read_header,
)

__all__ = ["PreparedLoras", "convert_to_kohya", "made_here", "prepare"]

FAMILY_NAMES = {
    "sd15": "Stable Diffusion 1.5",
    "sd2": "Stable Diffusion 2",
    "sdxl": "SDXL",
    "sd3": "SD3",
    "flux": "FLUX",
}
_MADE_HERE = re.compile(r"\.([0-9a-f]{12})\.dalla\.safetensors$")
_CONTEXT = {"sd15": 768, "sdxl": 2048}


@dataclass(frozen=True)
class PreparedLoras:
    """LoRAs in the server's spelling, sentences for the user, and hashes by the name that was asked for."""

    uses: list[LoraUse] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    sha256: dict[str, str] = field(default_factory=dict)


def made_here(name: str) -> str | None:
    """Return the plain name of a file that `prepare` put on the server, None for any other file."""
    match = _MADE_HERE.search(name)
    return name[: match.start()] if match else None


def prepare(
    uses: Sequence[LoraUse],
    family: str,
    server_names: Sequence[str],
    settings: Any,
    view_metadata: Callable[[str], dict[str, Any] | None],
) -> PreparedLoras:
    """Return the LoRAs as the graph has to name them, after copying or converting files where needed.

    Raises InvalidInput (field "loras") for a LoRA that is missing, of another family, not readable by
    ComfyUI and not convertible; StorageError when the server's LoRA folder cannot be written.
    """
    prepared = PreparedLoras()
    for use in uses:
        name, note = _prepare(use.name, family, server_names, settings, view_metadata, prepared.sha256)
        prepared.uses.append(LoraUse(name=name, strength=use.strength))
        if note:
            prepared.notes.append(note)
    return prepared


def _prepare(
    name: str,
    family: str,
    server_names: Sequence[str],
    settings: Any,
    view_metadata: Callable[[str], dict[str, Any] | None],
    hashes: dict[str, str],
) -> tuple[str, str | None]:
    folder = Path(settings.comfyui_lora_dir) if settings.comfyui_lora_dir else None
    own = _file(Path(settings.loras_dir), name)
    server = find_name(name, server_names)
    shared = _file(folder, server) if folder and server else None
    source = own or shared
    if source is None:
        if server is None:
            raise InvalidInput.field(
                "loras",
                f"There is no LoRA '{name}', neither on the ComfyUI server nor in the LoRA folder.",
                remedy="Choose another LoRA, or copy the file into ComfyUI/models/loras.",
            )
        metadata = view_metadata(server) or {}
        _check_family(name, family_in_metadata({str(k): str(v) for k, v in metadata.items()}), family)
        return server, None

    header = read_header(source)
    if lora_format(header) is None:
        raise InvalidInput.field("loras", f"The file of the LoRA '{name}' holds no LoRA weights.")
    _check_family(name, _family(source, header), family)
    _check_size(name, header, family)
    if lora_is_blank(source, header):
        raise InvalidInput.field(
            "loras",
            f"The LoRA '{name}' was saved untrained (all zeros) and would change nothing.",
            remedy="Take it off, or train it again.",
        )
    hashes[name] = file_sha256(source)
    changes = lora_convert.plan(source, header, family)
    if changes.needed:
        if folder is None:
            where = "It is on the server, but it" if server else f"The LoRA '{name}'"
            raise InvalidInput.field(
                "loras",
                f"{where} has layer names that ComfyUI skips, so '{name}' would change nothing there.",
                remedy="Set COMFYUI_LORA_DIR to ComfyUI's models/loras folder, so that a converted copy can be put "
                "there; or convert the file to kohya format yourself.",
            )
        digest = hashlib.sha256(f"{lora_convert.VERSION}:{hashes[name]}".encode()).hexdigest()
        new = _new_name(source, digest)
        mark = {"dalla.source_sha256": hashes[name]}
        _put(folder, new, lambda out: lora_convert.write(source, out, header, changes, family, mark))
        return _as_server_has_it(
            new, server_names
        ), f"The LoRA '{name}' was converted for ComfyUI, which skips its layer names."
    if server is not None and (own is None or folder is None or shared is None or file_sha256(shared) == hashes[name]):
        return server, None
    if folder is None:
        raise InvalidInput.field(
            "loras",
            f"The LoRA '{name}' is in the LoRA folder here, but not on the ComfyUI server.",
            remedy="Set COMFYUI_LORA_DIR to ComfyUI's models/loras folder, or copy the file there yourself.",
        )
    new = _new_name(source, hashes[name])
    _put(folder, new, lambda out: _copy(source, out))
    return _as_server_has_it(new, server_names), None


def find_name(name: str, server_names: Sequence[str]) -> str | None:
    """Return the server's spelling of a LoRA's name: separators and `.safetensors` do not matter.

    A bare name also finds a file in a subfolder, as long as there is only one of that name.
    """
    wanted = _plain(name)
    for candidate in server_names:
        if _plain(candidate) == wanted:
            return candidate
    inside = [n for n in server_names if "/" not in wanted and _plain(n).rsplit("/", 1)[-1] == wanted]
    return inside[0] if len(inside) == 1 else None


def _plain(name: str) -> str:
    return name.replace("\\", "/").strip("/").removesuffix(".safetensors")


def _as_server_has_it(new: str, server_names: Sequence[str]) -> str:
    """Return the name with the subfolder the server has it in, when it was there before."""
    return find_name(new, server_names) or new


def _file(folder: Path, name: str) -> Path | None:
    try:
        path = safe_join(folder, f"{_plain(name)}.safetensors")
    except (InvalidInput, ValueError):
        return None
    return path if path.is_file() else None


def _family(source: Path, header: Header) -> str | None:
    """Return the family that stands in the file beside the LoRA, else what the layers say."""
    try:
        beside = json.loads(source.with_suffix(".json").read_text("utf-8"))
    except (OSError, ValueError):
        beside = None
    said = beside.get("family") if isinstance(beside, dict) else None
    return said if isinstance(said, str) else lora_family(header)


def _check_family(name: str, found: str | None, wanted: str) -> None:
    if found is not None and found != wanted:
        raise InvalidInput.field(
            "loras",
            f"The LoRA '{name}' was trained for {FAMILY_NAMES.get(found, found)} and does not fit a "
            f"{FAMILY_NAMES.get(wanted, wanted)} model.",
            remedy=f"Take it off, choose a LoRA for {FAMILY_NAMES.get(wanted, wanted)}, or another model.",
        )


def _check_size(name: str, header: Header, family: str) -> None:
    """Refuse a LoRA of a smaller model of the same layout: ComfyUI would skip every layer without a word."""
    width, wanted = lora_context(header), _CONTEXT.get(family)
    if wanted and width and width != wanted:
        raise InvalidInput.field(
            "loras",
            f"The LoRA '{name}' was trained for a small model (text width {width}, not {wanted}) and does not fit "
            f"a {FAMILY_NAMES[family]} model.",
            remedy="Draw with the model it was trained on (the built-in engine), or train it again on this one.",
        )


def _new_name(source: Path, digest: str) -> str:
    stem = made_here(source.name) or source.stem
    return f"{stem}.{digest[:12]}.dalla.safetensors"


def _put(folder: Path, name: str, write: Callable[[Path], None]) -> None:
    out = folder / name
    if out.is_file():
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write(out)
    except OSError as exc:
        raise StorageError(
            f"The LoRA could not be put into ComfyUI's folder {folder}: {exc.strerror or exc}.",
            remedy="Check COMFYUI_LORA_DIR, the free space and the permissions of that folder.",
        ) from exc


def _copy(source: Path, out: Path) -> None:
    temp = out.with_name(f".{out.name}.{secrets.token_hex(6)}.tmp")
    try:
        shutil.copyfile(source, temp)
        os.replace(temp, out)
    finally:
        temp.unlink(missing_ok=True)
