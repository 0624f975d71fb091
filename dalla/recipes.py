"""Write how a picture was made into its PNG, and read it back: ours, A1111's and ComfyUI's.

Text chunks are inserted at byte level, so pixels are never encoded again. `dalla` holds our Recipe
as JSON; `parameters` says the same in the words of A1111/Forge, which most tools can read. Chunks of
other tools (ComfyUI's graph) stay.
"""

from __future__ import annotations

import json
import re
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import orjson

from dalla.errors import InvalidInput
from dalla.records.media import LoraRecipe, Recipe

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_MAX_TEXT = 4 * 1024 * 1024  # decompressed; a larger chunk is ignored


@dataclass(frozen=True)
class FoundRecipe:
    """A recipe read from a file, and whose words it was in: "dalla", "a1111" or "comfyui"."""

    recipe: Recipe
    source: str


def embed(png: bytes, recipe: Recipe) -> bytes:
    """Return the PNG with the recipe in it, replacing an earlier one. Raises InvalidInput for a non-PNG."""
    chunks = _chunks(png)
    kept = [
        c
        for c in chunks
        if not (c[0] in (b"tEXt", b"iTXt", b"zTXt") and c[1].split(b"\0", 1)[0] in (b"dalla", b"parameters"))
    ]
    ours = [
        _itxt("dalla", json.dumps(recipe.to_json(exclude_none=True), ensure_ascii=False)),
        _itxt("parameters", to_a1111(recipe)),
    ]
    body = b"".join(_pack(kind, data) for kind, data in [kept[0], *ours, *kept[1:]])
    return _SIGNATURE + body


def read(data: bytes) -> FoundRecipe | None:
    """Return the recipe a picture carries, or None. Never raises for odd content of the chunks."""
    texts = png_texts(data) if data.startswith(_SIGNATURE) else _exif_texts(data)
    readers: tuple[tuple[str, str, Callable[[str], Recipe | None]], ...] = (
        ("dalla", "dalla", Recipe.model_validate_json),
        ("prompt", "comfyui", from_comfy),
        ("parameters", "a1111", from_a1111),
    )
    for key, source, reader in readers:
        if key not in texts:
            continue
        try:
            recipe = reader(texts[key])
            if recipe is not None:
                # What could not be answered as JSON later (numbers beyond 64 bits, half characters) is no recipe.
                orjson.dumps(recipe.to_json())
                return FoundRecipe(recipe, source)
        except (ValueError, TypeError):
            continue
    return None


# ---------------------------------------------------------------- PNG chunks


def _chunks(png: bytes) -> list[tuple[bytes, bytes]]:
    if not png.startswith(_SIGNATURE):
        raise InvalidInput("This is not a PNG.")
    result, at = [], 8
    while at + 12 <= len(png):
        (length,) = struct.unpack(">I", png[at : at + 4])
        kind, data = png[at + 4 : at + 8], png[at + 8 : at + 8 + length]
        if len(data) != length:
            break
        result.append((kind, data))
        at += 12 + length
        if kind == b"IEND":
            break
    if not result or result[0][0] != b"IHDR" or result[-1][0] != b"IEND":
        raise InvalidInput("This PNG is damaged.")
    return result


def _pack(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _itxt(key: str, text: str) -> tuple[bytes, bytes]:
    return b"iTXt", key.encode("latin-1") + b"\0\0\0\0\0" + text.encode("utf-8")


def _inflate(data: bytes) -> bytes:
    inflater = zlib.decompressobj()
    text = inflater.decompress(data, _MAX_TEXT)
    return b"" if inflater.unconsumed_tail else text


def png_texts(png: bytes) -> dict[str, str]:
    """Return the text chunks by key. Damaged or oversized ones are left out."""
    texts: dict[str, str] = {}
    try:
        chunks = _chunks(png)
    except InvalidInput:
        return texts
    for kind, data in chunks:
        try:
            key, _, rest = data.partition(b"\0")
            if kind == b"tEXt":
                raw = rest
                text = raw.decode("utf-8") if _is_utf8(raw) else raw.decode("latin-1")
            elif kind == b"zTXt":
                text = _inflate(rest[1:]).decode("latin-1")
            elif kind == b"iTXt":
                compressed = rest[:1] == b"\1"
                _, _, rest2 = rest[2:].partition(b"\0")
                _, _, body = rest2.partition(b"\0")
                text = (_inflate(body) if compressed else body).decode("utf-8")
            else:
                continue
            texts.setdefault(key.decode("latin-1"), text)
        except (ValueError, zlib.error):
            continue
    return texts


def _is_utf8(raw: bytes) -> bool:
    try:
        raw.decode("utf-8")
    except ValueError:
        return False
    return True


def _exif_texts(data: bytes) -> dict[str, str]:
    """A1111 writes the parameters of JPEG and WebP into EXIF UserComment."""
    import io

    from PIL import Image

    try:
        with Image.open(io.BytesIO(data)) as image:
            comment = image.getexif().get_ifd(0x8769).get(0x9286)
    except Exception:  # noqa: BLE001 - any broken EXIF means: no recipe
        return {}
    if not isinstance(comment, bytes) or len(comment) > _MAX_TEXT:
        return {}
    if comment.startswith(b"UNICODE\0"):
        raw = comment[8:]
        text = raw.decode("utf-16-be" if raw[:1] == b"\0" else "utf-16-le", "replace")
    else:
        text = comment[8:].decode("utf-8", "replace")
    return {"parameters": text}


# ---------------------------------------------------------------- A1111

_A1111_SAMPLERS = {
    "euler": "Euler", "euler_ancestral": "Euler a", "heun": "Heun", "dpmpp_2m": "DPM++ 2M", "dpmpp_2m_sde": "DPM++ 2M SDE",
    "dpmpp_sde": "DPM++ SDE", "ddim": "DDIM", "uni_pc": "UniPC", "lms": "LMS", "dpm_2": "DPM2", "dpm_2_ancestral": "DPM2 a",
}  # fmt: skip
_OUR_SAMPLERS = {name.lower(): ours for ours, name in _A1111_SAMPLERS.items()}
_PAIR = re.compile(r'\s*([A-Za-z][\w +/.-]{0,60}?):\s*("(?:\\.|[^"\\])*"|[^,]*)(?:,|$)')
_LORA_TAG = re.compile(r"<lora:([^:>]{1,300})(?::([-+\d.]{1,30}))?[^>]{0,300}>")


def to_a1111(recipe: Recipe) -> str:
    """Return the recipe as A1111/Forge write it ("parameters")."""
    tags = "".join(f" <lora:{_stem(use.name)}:{use.strength:g}>" for use in recipe.loras)
    lines = [recipe.prompt + tags]
    if recipe.negative_prompt:
        lines.append(f"Negative prompt: {recipe.negative_prompt}")
    pairs: list[tuple[str, Any]] = [
        ("Steps", recipe.steps),
        ("Sampler", _A1111_SAMPLERS.get(recipe.sampler or "", recipe.sampler)),
        ("Schedule type", (recipe.scheduler or "").replace("_", " ").title() or None),
        ("CFG scale", recipe.cfg_scale),
        ("Distilled CFG Scale", recipe.guidance),
        ("Seed", recipe.seed),
        ("Size", f"{recipe.width}x{recipe.height}" if recipe.width else None),
        ("Model hash", recipe.model_sha256[:10] if recipe.model_sha256 else None),
        ("Model", _stem(recipe.model) if recipe.model else None),
        ("Denoising strength", recipe.denoise if recipe.denoise not in (None, 1, 1.0) else None),
        ("Version", f"Digital Dalla {recipe.app_version}" if recipe.app_version else None),
    ]
    lines.append(", ".join(f"{key}: {_quote(value)}" for key, value in pairs if value is not None))
    return "\n".join(lines)


def from_a1111(text: str) -> Recipe | None:
    """Read A1111's parameters, or return None when the text is something else."""
    text = text.strip().replace("\r\n", "\n")
    lines = text.split("\n")
    pairs = {m[1].strip(): _unquote(m[2].strip()) for m in _PAIR.finditer(lines[-1])}
    if "Steps" not in pairs:
        return Recipe(prompt=text, engine="a1111") if len(lines) == 1 and text and ":" not in text else None
    body = "\n".join(lines[:-1])
    prompt, _, negative = body.partition("\nNegative prompt:") if "\nNegative prompt:" in body else (body, "", "")
    if body.startswith("Negative prompt:"):
        prompt, negative = "", body.removeprefix("Negative prompt:")
    loras = [LoraRecipe(name=m[1], strength=_number(m[2], float) or 1.0) for m in _LORA_TAG.finditer(prompt)]
    width, _, height = pairs.get("Size", "").partition("x")
    sampler = pairs.get("Sampler", "")
    schedule = pairs.get("Schedule type", "").lower().replace(" ", "_")
    for ending in ("karras", "exponential"):
        if sampler.lower().endswith(" " + ending):  # older versions put both into one name
            sampler, schedule = sampler[: -len(ending) - 1], ending
    return Recipe(
        prompt=_LORA_TAG.sub("", prompt).strip(),
        negative_prompt=negative.strip() or None,
        seed=_number(pairs.get("Seed"), int),
        steps=_number(pairs.get("Steps"), int),
        cfg_scale=_number(pairs.get("CFG scale"), float),
        guidance=_number(pairs.get("Distilled CFG Scale"), float),
        sampler=_OUR_SAMPLERS.get(sampler.lower(), sampler or None),
        scheduler=None if schedule in ("", "automatic") else schedule,
        denoise=_number(pairs.get("Denoising strength"), float),
        width=_number(width, int),
        height=_number(height, int),
        model=pairs.get("Model"),
        loras=loras,
        engine="a1111",
        engine_versions={"a1111": pairs["Version"]} if "Version" in pairs else {},
    )


def _stem(name: str) -> str:
    name = name.replace("\\", "/").rsplit("/", 1)[-1]
    return name.removesuffix(".safetensors")


def _quote(value: Any) -> str:
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return json.dumps(text, ensure_ascii=False) if re.search(r"[,:\n\"]", text) else text


def _unquote(text: str) -> str:
    if len(text) > 1 and text[0] == text[-1] == '"':
        try:
            return str(json.loads(text))
        except ValueError:
            return text[1:-1]
    return text


def _number(text: Any, kind: type) -> Any:
    try:
        value = kind(text)
    except (TypeError, ValueError, OverflowError):
        return None
    return value if abs(value) < 2**64 else None  # NaN is neither; JSON here carries no larger number


# ---------------------------------------------------------------- ComfyUI


def from_comfy(text: str) -> Recipe | None:
    """Read a ComfyUI API graph: the sampler, and what its links lead to. None when there is no sampler."""
    try:
        graph = json.loads(re.sub(r"\bNaN\b", "null", text))
    except (ValueError, RecursionError):
        return None
    if not isinstance(graph, dict):
        return None
    nodes = {str(k): v for k, v in graph.items() if isinstance(v, dict) and isinstance(v.get("inputs"), dict)}

    def follow(link: Any, *wanted: str) -> list[dict[str, Any]]:
        """Nodes of the wanted kinds upstream of a link, nearest first; each node is visited once."""
        found, seen, queue = [], set(), [link]
        while queue:
            value = queue.pop(0)
            if not (isinstance(value, list) and len(value) == 2) or str(value[0]) in seen:
                continue
            seen.add(str(value[0]))
            node = nodes.get(str(value[0]))
            if node is not None:
                if str(node.get("class_type", "")).startswith(wanted):
                    found.append(node)
                queue += node["inputs"].values()
        return found

    def words(value: Any) -> str | None:
        for node in follow(value, "CLIPTextEncode"):
            for key in ("text", "clip_l", "text_g", "t5xxl"):
                if isinstance(node["inputs"].get(key), str):
                    return node["inputs"][key].strip()
        return None

    sampler = next(
        (n for n in nodes.values() if str(n.get("class_type", "")).startswith(("KSampler", "SamplerCustomAdvanced")) and "latent_image" in n["inputs"]),
        None,
    )  # fmt: skip
    if sampler is None:
        return None
    i = sampler["inputs"]
    seed, steps, name, schedule, denoise = (i.get(k) for k in ("seed", "steps", "sampler_name", "scheduler", "denoise"))
    seed = i.get("noise_seed") if seed is None else seed
    positive = words(i.get("positive")) or words(i.get("guider"))
    for node in follow(i.get("noise"), "RandomNoise"):
        seed = node["inputs"].get("noise_seed")
    for node in follow(i.get("sampler"), "KSamplerSelect"):
        name = node["inputs"].get("sampler_name")
    for node in follow(i.get("sigmas"), "BasicScheduler"):
        steps, schedule, denoise = (node["inputs"].get(k) for k in ("steps", "scheduler", "denoise"))
    start = i.get("model") or i.get("guider")
    models = follow(start, "CheckpointLoader", "UNETLoader")
    size = follow(i.get("latent_image"), "Empty")
    guidance = follow(i.get("positive") or i.get("guider"), "FluxGuidance")
    loras, seen = [], set()
    for node in reversed(follow(start, "LoraLoader")):
        lora = str(node["inputs"].get("lora_name"))
        if lora not in seen:
            seen.add(lora)
            loras.append(LoraRecipe(name=lora, strength=_number(node["inputs"].get("strength_model"), float) or 0.0))
    model = models[0]["inputs"] if models else {}
    return Recipe(
        prompt=positive or "",
        negative_prompt=words(i.get("negative")) or None,
        seed=_number(seed, int),
        steps=_number(steps, int),
        cfg_scale=_number(i.get("cfg"), float),
        guidance=_number(guidance[0]["inputs"].get("guidance"), float) if guidance else None,
        sampler=name if isinstance(name, str) else None,
        scheduler=schedule if isinstance(schedule, str) else None,
        denoise=_number(denoise, float),
        width=_number(size[0]["inputs"].get("width"), int) if size else None,
        height=_number(size[0]["inputs"].get("height"), int) if size else None,
        model=next((v for k in ("ckpt_name", "unet_name") if isinstance(v := model.get(k), str)), None),
        loras=loras,
        engine="comfyui",
    )
