"""Read what a .safetensors file is from its header: family, kind, LoRA key style, hash.

Pure and without torch: only the header (a JSON object at the front) is read, never the tensors. Not
a loader, and no opinion on what an engine can do with the file.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dalla.errors import InvalidInput, StorageError

MAX_HEADER = 100_000_000
#: Formats that can run code when opened.
PICKLES = (".ckpt", ".pt", ".pth", ".bin", ".pkl")
_PICKLE_STARTS = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
_DTYPE_BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8,
    "I16": 16, "U16": 16, "F16": 16, "BF16": 16, "I32": 32, "U32": 32, "F32": 32, "I64": 64, "U64": 64, "F64": 64,
    "C64": 64, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """One tensor: its type, its shape, and where its bytes lie after the header."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


class Header(dict[str, TensorInfo]):
    """The tensors of a file by name. `metadata` is the free text beside them; data starts at `data_start`."""

    def __init__(self, tensors: dict[str, TensorInfo], metadata: dict[str, str], data_start: int = 0) -> None:
        super().__init__(tensors)
        self.metadata = metadata
        self.data_start = data_start

    @property
    def tensors(self) -> Header:
        return self


def read_header(path: Path | str, *, name: str | None = None) -> Header:
    """Read a .safetensors file's header. Raises InvalidInput when the file is no whole .safetensors file.

    `name` is what a file that lies under another name for the moment is called (an upload).
    """
    path = Path(path)
    called = Path(name) if name else path

    def refuse(why: str) -> InvalidInput:
        return InvalidInput(
            f"{called.name} is not a usable .safetensors file: {why}.", remedy="Download or export the file again."
        )

    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(8)
            pickle = called.suffix.lower() in PICKLES
            if len(start) < 8 and not pickle:
                raise refuse("it is empty or cut off")
            length = int.from_bytes(start, "little")
            if pickle or (length > MAX_HEADER and start.startswith(_PICKLE_STARTS)):
                raise InvalidInput(
                    f"{called.name} is a pickle file. Opening one can run any code it holds, so it is never loaded.",
                    remedy="Get the .safetensors version of it, or convert it with a tool you trust.",
                )
            if length > MAX_HEADER:
                if start == b"version ":
                    raise refuse("it is only a pointer left by Git LFS; the weights themselves were not downloaded")
                if start.lstrip().startswith(b"<"):
                    raise refuse("it is a web page, most likely an error page saved instead of the download")
                raise refuse("its beginning makes no sense (another file format, or a damaged file)")
            raw = file.read(length)
    except OSError as exc:
        raise StorageError(f"{path} cannot be read: {exc.strerror or exc}.") from exc
    if len(raw) < length:
        raise refuse("it is cut off within its header")
    try:
        table = json.loads(raw)
    except (ValueError, RecursionError):
        raise refuse("its header cannot be read (another file format, or a damaged file)") from None
    if not isinstance(table, dict):
        raise refuse("its header holds no list of tensors")
    metadata = table.pop("__metadata__", None)
    data_start = 8 + length
    tensors: dict[str, TensorInfo] = {}
    for name, row in table.items():
        info = _tensor(row)
        if info is None:
            raise refuse(f"the entry '{name[:80]}' in its header makes no sense")
        if data_start + info.end > size:
            missing = data_start + max(t.end for t in (*tensors.values(), info)) - size
            raise refuse(f"it is cut off, at least {missing:,} bytes are missing")
        tensors[name] = info
    texts = {str(k): str(v) for k, v in metadata.items()} if isinstance(metadata, dict) else {}
    return Header(tensors, texts, data_start)


def _tensor(row: Any) -> TensorInfo | None:
    try:
        dtype, shape, (start, end) = row["dtype"], tuple(row["shape"]), row["data_offsets"]
        bits = math.prod(shape) * _DTYPE_BITS.get(dtype, 0)
    except (TypeError, KeyError, ValueError):
        return None
    numbers = (*shape, start, end)
    if not isinstance(dtype, str) or any(type(n) is not int or n < 0 for n in numbers) or end < start:
        return None
    if dtype in _DTYPE_BITS and (end - start) != (bits + 7) // 8:
        return None
    return TensorInfo(dtype, shape, start, end)


# ---------------------------------------------------------------- models

_UNET = re.compile(r"(?:^|\.)(?:input_blocks|output_blocks|down_blocks|up_blocks)\.\d+\.")
_ENCODER_PREFIXES = (
    "cond_stage_model.",
    "conditioner.embedders.",
    "text_encoders.",
    "text_encoder.",
    "text_encoder_2.",
)
_VAE_PREFIXES = ("first_stage_model.", "vae.")


def checkpoint_family(header: Header) -> str | None:
    """Return sd15, sd2, sdxl, sd3 or flux for a file that holds a denoiser, else None."""
    if lora_format(header) is not None:
        return None
    keys = [k for k in header if not k.startswith((*_ENCODER_PREFIXES, *_VAE_PREFIXES))]
    if any(_NOT_OURS.search(k) for k in keys):
        return None
    if any("double_blocks.0.img_attn" in k for k in keys):
        return "flux"
    if any("joint_blocks.0." in k for k in keys):
        return "sd3"
    if any("transformer_blocks.0.attn.add_q_proj" in k or "single_transformer_blocks.0." in k for k in keys):
        if any(k.endswith("x_embedder.weight") for k in keys):
            return "flux"
        return "sd3" if any(k.endswith("pos_embed.proj.weight") for k in keys) else None
    if not any(_UNET.search(k) for k in keys):
        return None
    width = next(
        (header[k].shape[-1] for k in keys if k.endswith("attn2.to_k.weight") and len(header[k].shape) == 2), 0
    )
    if family := _BY_CONTEXT.get(width):
        return family
    if width == 1280:  # the SDXL refiner: no engine of ours runs it alone
        return None
    if any("label_emb." in k or "add_embedding." in k for k in keys):
        return "sdxl"
    return "sd15" if width else None


#: Parts of models that are built alike and are not one of our families: ControlNets, Chroma,
#: HunyuanVideo, FLUX.2.
_NOT_OURS = re.compile(
    r"(?:^|\.)(?:control_model|input_hint_block|zero_convs|controlnet_\w+|distilled_guidance_layer"
    r"|double_stream_modulation_\w+)\.|token_refiner\."
)
_BY_CONTEXT = {768: "sd15", 1024: "sd2", 2048: "sdxl"}


def checkpoint_kind(header: Header) -> str | None:
    """Return checkpoint, diffusion_model, lora, vae or text_encoder; None when it is none of them.

    A file with a denoiser and a VAE is a checkpoint even when it carries no text encoder (SD3 is
    published so); `has_text_encoder` tells.
    """
    if lora_format(header) is not None:
        return "lora"
    if checkpoint_family(header) is not None or any(k.startswith("model.diffusion_model.") for k in header):
        whole = any(k.startswith(_VAE_PREFIXES) for k in header) or has_text_encoder(header)
        return "checkpoint" if whole else "diffusion_model"
    if any(_VAE.match(k) for k in header):
        return "vae"
    return "text_encoder" if any(_TEXT_ENCODER.match(k) for k in header) else None


_VAE = re.compile(r"(?:vae\.|first_stage_model\.)?(?:decoder\.conv_in|decoder\.up|encoder\.down|taesd_decoder)")
_TEXT_ENCODER = re.compile(
    r"(?:text_encoders\.\w+\.|cond_stage_model\.)?(?:transformer\.)?"
    r"(?:text_model\.|resblocks\.|encoder\.(?:block|layers)\.|shared\.weight|model\.layers\.)"
)


def has_text_encoder(header: Header) -> bool:
    """Whether the file carries any text encoder."""
    return any(k.startswith(_ENCODER_PREFIXES) for k in header)


# ---------------------------------------------------------------- LoRAs

#: The end of a LoRA tensor's name; what stands before it names the layer.
LORA_TAIL = re.compile(
    r"(?:"
    r"\.lora_(?P<kohya>down|up|mid)\.weight"
    r"|\.lora_(?P<peft>[AB])(?:\.[A-Za-z0-9_]+)?\.weight"
    r"|\.lora\.(?P<diffusers>down|up)\.weight"
    r"|\.lora_linear_layer\.(?P<linear>down|up)\.weight"
    r"|_lora\.(?P<old>down|up)\.weight"
    r"|\.lora_magnitude_vector(?:\.[A-Za-z0-9_]+)?(?:\.weight)?"
    r"|\.(?:alpha|dora_scale|diff|diff_b|set_weight|w_norm|b_norm)"
    r"|\.(?:hada_w[12](?:_[ab])?|hada_t[12]|lokr_w[12](?:_[ab])?|lokr_t2|oft_blocks|oft_diag)"
    r")$"
)
_WEIGHTS = re.compile(r"lora_|_lora\.|\.lora\.|hada_|lokr_|oft_|\.diff$")
_KOHYA = re.compile(r"(?:lora_unet|lora_te\d?|lora_transformer|lora_prior_unet|lycoris)_")
_COMFY = re.compile(r"(?:diffusion_model|text_encoders|clip_l|clip_g|t5xxl)\.")
_DIFFUSERS = re.compile(r"(?:unet|transformer|text_encoder|text_encoder_2|text_encoder_3)\.")


def lora_format(header: Header) -> str | None:
    """Return how the LoRA's layers are named: kohya, comfy, diffusers or peft. None: the file is no LoRA."""
    names = [k for k in header if LORA_TAIL.search(k) and _WEIGHTS.search(k)]
    if not names or len(names) * 2 < len(header) - sum(k.endswith(".alpha") for k in header):
        return None
    for pattern, name in ((_KOHYA, "kohya"), (_COMFY, "comfy"), (_DIFFUSERS, "diffusers")):
        if sum(bool(pattern.match(k)) for k in names) * 2 > len(names):
            return name
    return "peft"


def lora_family(header: Header) -> str | None:
    """Return sd15, sd2, sdxl, sd3 or flux. None when the file does not say and its layers do not tell.

    Widths count only where they decide (a cross-attention of 768, 1024 or 2048): small models of the
    same layout have other ones.
    """
    names = {k.replace(".", "_"): k for k in header}
    said = family_in_metadata(header.metadata)

    def any_name(pattern: str) -> bool:
        return any(re.search(pattern, n) for n in names)

    if any_name(r"transformer_blocks_\d+_attn_to_qkv_mlp_proj|stream_modulation_|token_refiner_|\d_(?:img|txt)_mod_1"):
        return None  # FLUX.2, HunyuanVideo, Qwen-Image
    if any_name(r"single_transformer_blocks_\d|double_blocks_\d|(?:^|_)single_blocks_\d"):
        return "flux"
    if any_name(r"joint_blocks_\d"):
        return "sd3"
    unet = {n: k for n, k in names.items() if re.search(r"(?:down|up|input|output)_blocks_\d|mid(?:dle)?_block", n)}
    if unet:
        if family := _BY_CONTEXT.get(lora_context(header)):
            return family
        if any("lora_te2_" in n or "text_encoder_2_" in n or re.search(r"transformer_blocks_[1-9]", n) for n in names):
            return "sdxl"
        if any(re.search(r"(?:down_blocks_0|up_blocks_3|input_blocks_[12])_(?:attentions|1)_", n) for n in unet):
            return "sd15"
        return said or "sd15"
    flow = {n: k for n, k in names.items() if re.search(r"(?:^|_)transformer_blocks_\d+_(?:attn|ff|norm)", n)}
    if flow:
        widths = {_inputs(header, k) for n, k in flow.items() if re.search(r"to_[qkv]_|add_[qkv]_proj", n)}
        if 3072 in widths:  # FLUX ends at block 18; models of the same width that go on are others
            return "flux" if max(int(re.findall(r"transformer_blocks_(\d+)", n)[0]) for n in flow) < 19 else said
        return "sd3" if widths & {1536, 2432} else said or "sd3"
    return "sdxl" if said != "sd3" and any_name(r"lora_te2_|text_encoder_2_") else said  # SD3 has two encoders, too


def lora_context(header: Header) -> int:
    """Return how wide the text is that the LoRA's cross-attention reads (a UNet's; 0 when it does not tell)."""
    attn2 = (k for k in header if re.search(r"attn2[._](?:processor[._])?to_[kv][._]", k))
    return next((width for k in attn2 if (width := _inputs(header, k))), 0)


def _inputs(header: Header, key: str) -> int:
    """Return how wide the input of the layer is, from the half of the LoRA that reads it (0: other half)."""
    tail = LORA_TAIL.search(key)
    reads = tail is not None and ("down" in tail.groupdict().values() or tail["peft"] == "A")
    shape = header[key].shape
    return shape[1] if reads and len(shape) >= 2 else 0


def family_in_metadata(metadata: dict[str, str]) -> str | None:
    """Return the family that a LoRA's metadata (kohya's `ss_*`, modelspec) names."""
    text = " ".join(
        metadata.get(k, "") for k in ("dalla.family", "modelspec.architecture", "ss_base_model_version", "ss_v2")
    ).lower()
    for pattern, family in (
        (r"flux(?!-?\.?2)", "flux"),
        (r"sd3|diffusion-(?:v)?3|sd_v3", "sd3"),
        (r"sdxl|xl-v1|\bxl\b", "sdxl"),
        (r"sd_v2|sd2|diffusion-v2|\btrue\b", "sd2"),
        (r"sd_v1|sd1|diffusion-v1|sd15", "sd15"),
    ):
        if re.search(pattern, text):
            return family
    return None


def lora_trigger_word(header: Header) -> str | None:
    """Return the word that the LoRA's metadata says calls it up, else None.

    Trainers write how often each tag stood in the captions; the word is the one tag that stood in
    more of them than any other.
    """
    for key in ("modelspec.trigger_phrase", "dalla.trigger_word", "trigger_word", "ss_trigger_word"):
        if text := header.metadata.get(key, "").strip():
            return text
    try:
        folders = json.loads(header.metadata.get("ss_tag_frequency", "{}"))
        counts: dict[str, int] = {}
        for tags in folders.values():
            for tag, count in tags.items():
                counts[tag.strip()] = counts.get(tag.strip(), 0) + int(count)
    except (ValueError, TypeError, AttributeError, RecursionError):
        return None
    first, second = ([*sorted(counts.items(), key=lambda c: -c[1]), ("", 0), ("", 0)])[:2]
    return first[0] or None if first[1] > second[1] else None


def lora_layers(names: Iterable[str]) -> set[str]:
    """Return the layers the tensor names belong to, without the LoRA tails."""
    return {LORA_TAIL.sub("", name) for name in names if LORA_TAIL.search(name)}


def lora_is_blank(path: Path | str, header: Header) -> bool:
    """Return whether a LoRA was saved untrained: every half that is zero before training still is.

    Such a file loads everywhere and changes nothing. Reads tensors only until the first number that is
    not zero. LoHa and LoKr files are never called blank. Raises StorageError.
    """
    halves = [info for key, info in header.items() if (tail := LORA_TAIL.search(key)) and "up" in _halves(tail)]
    if not halves or any(re.search(r"\.(?:hada_|lokr_|oft_|diff$)", key) for key in header):
        return False
    try:
        with open(path, "rb") as file:
            for info in halves:
                file.seek(header.data_start + info.start)
                left = info.end - info.start
                while left > 0:
                    piece = file.read(min(left, 1 << 20))
                    if not piece:
                        return False  # cut off: another complaint
                    if piece.strip(b"\0"):
                        return False
                    left -= len(piece)
    except OSError as exc:
        raise StorageError(f"{path} cannot be read: {exc.strerror or exc}.") from exc
    return True


def _halves(tail: re.Match[str]) -> tuple[str, ...]:
    groups = tail.groupdict()
    return tuple("up" if value == "B" else value for value in groups.values() if value)


# ---------------------------------------------------------------- hashes

_hashes: dict[tuple[str, int, int], str] = {}
_hashes_lock = threading.Lock()


def file_sha256(path: Path | str) -> str:
    """Return a file's SHA-256 in hex. Remembered until size or time of the file changes. Raises StorageError."""
    try:
        stat = os.stat(path)
        key = (os.fspath(path), stat.st_size, stat.st_mtime_ns)
        with _hashes_lock:
            if key in _hashes:
                return _hashes[key]
        with open(path, "rb") as file:
            value = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as exc:
        raise StorageError(f"{path} cannot be read: {exc.strerror or exc}.") from exc
    with _hashes_lock:
        _hashes[key] = value
    return value
