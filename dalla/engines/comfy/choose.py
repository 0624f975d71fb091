"""Choose files on the server: a model's family, and the text encoders and VAE that belong to it.

By header where the file can be read from here, by name elsewhere; the user's own word wins over both.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from dalla.errors import DallaError, InvalidInput


class Lists(Protocol):
    """The server's lists (the client is one)."""

    def choices(self, node: str, name: str) -> list[str]: ...


@dataclass(frozen=True)
class FileFacts:
    """What the header of a reachable file says. `problem` is a sentence about a file that cannot be read."""

    size: int
    family: str | None = None
    text_encoder: bool = False
    text_layers: bool = True  # of a LoRA: whether it changes the text encoder
    lora_skipped: bool = False  # of a LoRA: whether ComfyUI would load it without effect
    trigger_word: str | None = None
    problem: str | None = None


def read_facts(path: Path, size: int) -> FileFacts:
    """Read a model's or LoRA's header. Never raises for the file's content."""
    from dalla import weights
    from dalla.engines.comfy import lora_convert

    if path.suffix not in (".safetensors", ".sft"):
        return FileFacts(size)
    try:
        header = weights.read_header(path)
        if weights.lora_format(header) is None:
            return FileFacts(size, weights.checkpoint_family(header), weights.has_text_encoder(header))
        family = weights.lora_family(header)
        text = any(re.match(r"(?:base_model\.model\.)?(?:lora_te|text_encoder|text_model|clip_|t5xxl)", k) for k in header)
        skipped = lora_convert.plan(path, header, family).needed
        trigger = weights.lora_trigger_word(header)
    except DallaError as exc:
        return FileFacts(size, problem=exc.detail)
    return FileFacts(size, family, text_layers=text, lora_skipped=skipped, trigger_word=trigger)


_NAMES = (
    (r"flux", "flux"),
    (r"sd[_\- .]?3|stable[_\- ]?diffusion[_\- ]?3", "sd3"),
    (r"sd[_\- ]?xl|xl(?![a-z])|pony|illustrious|noob", "sdxl"),
    (r"sd[_\- ]?(?:v)?1[._\- ]?[45]|sd15|v1-5|1[._]5|stable[_\- ]?diffusion[_\- ]?v?1", "sd15"),
)


def family_by_name(name: str) -> str | None:
    """Guess the family from a file name and its folder; None when nothing is said there."""
    text = name.lower()
    if re.search(r"flux[._\- ]?2|sd[_\- ]?3d|xl[_\- ]?turbo[_\- ]?refiner|refiner", text):
        return None
    return next((family for pattern, family in _NAMES if re.search(pattern, text)), None)


def override(families: Mapping[str, Any], name: str) -> str | None:
    """Return the family the user set for a model, whichever separators were used."""
    key = same(name, families)
    return str(families[key]) if key is not None else None


def same(wanted: str, names: Iterable[str]) -> str | None:
    """Return the name as listed: separators do not matter, nor a left out .safetensors."""
    names = list(names)
    if wanted in names:
        return wanted
    plain = _plain(wanted)
    return next((n for n in names if _plain(n) == plain), None)


def _plain(name: str) -> str:
    return name.replace("\\", "/").strip("/").removesuffix(".safetensors")


_CLIP_L = r"clip[_\-]?l(?![a-z])|clip-vit-large|vit[_\-]?l"
_CLIP_G = r"clip[_\-]?g(?![a-z])|bigg"
_T5 = r"t5"
_FLUX_VAE = (r"(?:^|[/_\-])ae\.(?:safetensors|sft)$", r"flux.*(?:vae|ae)|(?:vae|ae).*flux")
_SD3_VAE = (r"sd3.*vae|vae.*sd3|diffusion_pytorch_model",)


def parts(
    lists: Lists, family: str, model: str, kind: str, facts: FileFacts | None
) -> tuple[tuple[str, ...], str | None]:
    """Return the text encoders and the VAE that a graph must load beside the model.

    Raises InvalidInput naming what is missing and the folder it belongs into.
    """
    if kind == "diffusion_model" and family in ("sd15", "sdxl"):
        raise InvalidInput.field(
            "model",
            f"'{model}' holds the network alone, without text encoder and VAE.",
            remedy="Use an all-in-one file of it in ComfyUI/models/checkpoints.",
        )
    if family == "flux" and kind == "diffusion_model":
        encoders = lists.choices("DualCLIPLoader", "clip_name1")
        found = (
            _pick(encoders, (_CLIP_L,), model, "the text encoder clip_l (clip_l.safetensors)", "text_encoders"),
            _pick(encoders, (_T5,), model, "the text encoder T5 (t5xxl_fp8_e4m3fn.safetensors or _fp16)", "text_encoders"),
        )
        vae = _pick(lists.choices("VAELoader", "vae_name"), _FLUX_VAE, model, "the FLUX VAE (ae.safetensors)", "vae")
        return found, vae
    if family == "sd3":
        return _sd3_parts(lists, model, kind, facts)
    return (), None


def _sd3_parts(
    lists: Lists, model: str, kind: str, facts: FileFacts | None
) -> tuple[tuple[str, ...], str | None]:
    vae = None
    if kind == "diffusion_model":
        vae = _pick(lists.choices("VAELoader", "vae_name"), _SD3_VAE, model, "the SD3 VAE (sd3_vae.safetensors)", "vae")
    elif (facts and facts.text_encoder) or re.search(r"incl|fp8_scaled", model.lower()):
        return (), None
    encoders = lists.choices("DualCLIPLoader", "clip_name1")
    small = [_first(encoders, (_CLIP_L,)), _first(encoders, (_CLIP_G,))]
    if kind == "checkpoint" and facts is None and None in small:
        return (), None  # its header is out of reach and nothing is there to replace: it may well have its own
    names = ("the text encoder clip_l (clip_l.safetensors)", "the text encoder clip_g (clip_g.safetensors)")
    for found, what in zip(small, names, strict=True):
        if found is None:
            raise _missing(model, what, "text_encoders")
    return tuple(n for n in (*small, _first(encoders, (_T5,))) if n), vae


def _pick(names: list[str], patterns: tuple[str, ...], model: str, what: str, folder: str) -> str:
    found = _first(names, patterns)
    if found is None:
        raise _missing(model, what, folder)
    return found


def _first(names: list[str], patterns: tuple[str, ...]) -> str | None:
    for pattern in patterns:
        for name in sorted(names, key=len):
            if re.search(pattern, name.replace("\\", "/").lower()):
                return name
    return None


def _missing(model: str, what: str, folder: str) -> InvalidInput:
    return InvalidInput.field(
        "model",
        f"'{model}' needs {what}, and this ComfyUI does not have it.",
        remedy=f"Put the file into ComfyUI/models/{folder} on the ComfyUI server.",
    )
