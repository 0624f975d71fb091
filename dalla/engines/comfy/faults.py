"""Say in plain words what ComfyUI reports: refused graphs, failed nodes, proxies in between.

Pure: bodies in, `dalla.errors` out. The texts name the file and where it belongs, because ComfyUI's
own message ("Prompt outputs failed validation") names neither.
"""

from __future__ import annotations

import json
import re
from typing import Any

from dalla.errors import DallaError, InvalidInput, NotConfigured, TooLarge, Unavailable, UpstreamError

SERVICE = "ComfyUI"

#: Input of a loader -> (what it is, our field, folder on the server).
FILES: dict[str, tuple[str, str, str]] = {
    "ckpt_name": ("checkpoint", "model", "ComfyUI/models/checkpoints"),
    "unet_name": ("diffusion model", "model", "ComfyUI/models/diffusion_models"),
    "lora_name": ("LoRA", "loras", "ComfyUI/models/loras"),
    "vae_name": ("VAE", "model", "ComfyUI/models/vae"),
    "clip_name": ("text encoder", "model", "ComfyUI/models/text_encoders"),
    "clip_name1": ("text encoder", "model", "ComfyUI/models/text_encoders"),
    "clip_name2": ("text encoder", "model", "ComfyUI/models/text_encoders"),
    "clip_name3": ("text encoder", "model", "ComfyUI/models/text_encoders"),
    "model_name": ("upscaler", "model", "ComfyUI/models/upscale_models"),
}
_FIELDS = {
    "sampler_name": "sampler", "scheduler": "scheduler", "seed": "seed", "noise_seed": "seed", "steps": "steps",
    "cfg": "cfgScale", "guidance": "guidance", "denoise": "denoise", "width": "width", "height": "height",
    "strength_model": "loras", "strength_clip": "loras", "image": "initImage", "scale_by": "factor",
}  # fmt: skip


def missing_file(input_name: str, value: object) -> InvalidInput:
    """Build the error for a file the server does not have."""
    what, field, folder = FILES[input_name]
    return InvalidInput.field(
        field,
        f"ComfyUI has no {what} called '{value}'.",
        remedy=f"Put the file into {folder} on the ComfyUI server, or choose another one.",
    )


def unknown_choice(input_name: str, value: object) -> InvalidInput:
    """Build the error for a sampler, a scheduler or another choice the server does not offer."""
    what = input_name.removesuffix("_name")
    return InvalidInput.field(
        _FIELDS.get(input_name, input_name),
        f"This ComfyUI knows no {what} '{value}'.",
        remedy=f"Choose another {what}, or update ComfyUI.",
    )


def missing_node(name: str) -> NotConfigured:
    """Build the error for a node class that is not installed."""
    return NotConfigured(
        f"This ComfyUI has no node '{name}'.",
        remedy="Update ComfyUI; if the node belongs to a custom pack, install that pack and restart ComfyUI.",
    )


def refused_graph(body: dict[str, Any], service: str = SERVICE) -> DallaError:
    """Translate the body of a 400 (or of a 200 with node_errors) into one error that names every cause."""
    error = body.get("error")
    error = error if isinstance(error, dict) else {"message": str(error or "")}
    node_errors = body.get("node_errors")
    causes: list[DallaError] = []
    for node in node_errors.values() if isinstance(node_errors, dict) else []:
        for cause in node.get("errors") or []:
            causes.append(_cause(node.get("class_type", "?"), cause))
    if not causes:
        kind, extra = error.get("type"), error.get("extra_info") or {}
        text = _clean(" ".join(str(error.get(k) or "") for k in ("message", "details")))
        if kind in ("missing_node_type", "invalid_prompt"):
            found = extra.get("class_type") or _search(r"Node '?([\w .+-]+?)'? (?:not found|does not exist)", text)
            found = found or _search(r"node ([\w.+-]+) does not exist", text)
            if found:
                return missing_node(str(found))
        return UpstreamError(f"ComfyUI refused the work: {text or 'it gave no reason'}.", service=service)
    if len(causes) == 1:
        return causes[0]
    texts = list(dict.fromkeys(c.detail for c in causes))
    if all(isinstance(c, InvalidInput) for c in causes):
        errors = [e for c in causes for e in c.errors]
        remedies = list(dict.fromkeys(c.remedy for c in causes if c.remedy))
        return InvalidInput(" ".join(texts), errors=errors, remedy=" ".join(remedies) or None)
    return UpstreamError(" ".join(texts), service=service, remedy=next((c.remedy for c in causes if c.remedy), None))


def _cause(node: str, cause: dict[str, Any]) -> DallaError:
    kind, details = cause.get("type"), _clean(cause.get("details") or "")
    extra = cause.get("extra_info") or {}
    name = str(extra.get("input_name") or "")
    value = extra.get("received_value")
    if kind == "value_not_in_list":
        if name in FILES:
            return missing_file(name, value)
        return unknown_choice(name, value)
    if kind in ("value_smaller_than_min", "value_bigger_than_max"):
        config = extra.get("input_config") or [None, {}]
        limits = config[1] if len(config) > 1 and isinstance(config[1], dict) else {}
        word, limit = ("least", limits.get("min")) if "smaller" in kind else ("most", limits.get("max"))
        bound = f"at {word} {limit}" if limit is not None else "within other limits"
        return InvalidInput.field(_FIELDS.get(name, name), f"ComfyUI wants {name} to be {bound}; it was {value}.")
    if kind == "custom_validation_failed":
        return InvalidInput.field(_FIELDS.get(name, name or "initImage"), f"ComfyUI cannot use the input: {details}.")
    what = _clean(cause.get("message") or kind or "unknown reason")
    return UpstreamError(
        f"ComfyUI refused the node '{node}': {what}{f' ({details})' if details else ''}.",
        service=SERVICE,
        remedy="This ComfyUI may be too old or too new for this work; update ComfyUI.",
    )


def failed_run(data: dict[str, Any], service: str = SERVICE) -> DallaError:
    """Translate an `execution_error` message."""
    message = _clean(str(data.get("exception_message") or "").split("TIPS:")[0])
    kind = str(data.get("exception_type") or "")
    node = str(data.get("node_type") or "a node")
    inputs = data.get("current_inputs") if isinstance(data.get("current_inputs"), dict) else {}
    lower = message.lower()
    if "outofmemory" in kind.lower() or re.search(r"out of memory|allocation on device|not enough memory", lower):
        return UpstreamError(
            "ComfyUI ran out of memory while drawing this.",
            service=service,
            remedy="Use a smaller size or fewer pictures at once, a smaller model, or start ComfyUI with --lowvram.",
        )
    for name, (what, field, folder) in FILES.items():
        value = _first((inputs or {}).get(name))
        if value is None:
            continue
        if "safetensor" in kind.lower() or re.search(
            r"header ?too ?(?:large|small)|incomplete ?metadata|invalid ?header|not fully covered|unpickl", lower
        ):
            return InvalidInput.field(
                field,
                f"ComfyUI cannot read the {what} '{value}': the file is damaged or cut off.",
                remedy=f"Download or export it again into {folder} on the ComfyUI server.",
            )
        if "could not detect model type" in lower:
            return InvalidInput.field(
                field,
                f"ComfyUI does not recognise '{value}' as a {what}.",
                remedy=f"Only {what}s belong into {folder}; move LoRAs, VAEs and others to their own folders.",
            )
    if "clip input is invalid" in lower:
        return InvalidInput.field(
            "model",
            "This model file holds no text encoder, so ComfyUI cannot read the prompt.",
            remedy="Put its text encoders into ComfyUI/models/text_encoders (SD3: clip_l and clip_g, FLUX: clip_l and "
            "t5xxl), or choose an all-in-one file. A bare diffusion model belongs into ComfyUI/models/diffusion_models.",
        )
    if "vae" in lower and "invalid" in lower and "none" in lower:
        return InvalidInput.field(
            "model",
            "This model file holds no VAE.",
            remedy="Choose an all-in-one file, or add a VAE to ComfyUI/models/vae.",
        )
    if re.search(r"mat1 and mat2 shapes|size of tensor|expected input.*channels", lower):
        return InvalidInput.field(
            "model",
            f"The parts do not fit each other ({message}): the model is of another family than assumed.",
            remedy="Set the model's family in the settings (modelFamilies), and use LoRAs of the same family.",
        )
    if "unidentifiedimage" in kind.lower():
        return InvalidInput.field("initImage", "ComfyUI cannot read the picture to start from.")
    return UpstreamError(f"ComfyUI failed in {node}: {message or kind or 'no reason given'}.", service=service)


def bad_answer(status: int, content_type: str, body: bytes, location: str | None, url: str) -> DallaError:
    """Translate an answer that is no success. `url` is the configured address, for the sentence."""
    html = "html" in content_type or body.lstrip()[:1] == b"<"
    if status in (401, 407) or (status in (301, 302, 303, 307, 308)) or (status == 403 and html):
        if (
            location
            and status in (301, 302, 303, 307, 308)
            and not re.search(r"log-?in|auth|sign-?in|sso|oauth", location, re.I)
        ):
            return NotConfigured(
                f"{url} sends us on to {location[:200]}.", remedy="Set COMFYUI_URL to the address it sends to."
            )
        return NotConfigured(
            f"{url} asks for a login ({status}).",
            remedy='Set COMFYUI_HEADERS to what the proxy wants, e.g. {"Authorization": "Bearer …"}.',
        )
    if status == 403:
        return NotConfigured(
            f"ComfyUI at {url} refuses this app (403): it does not accept the host name it is called by.",
            remedy="Set COMFYUI_URL to the address ComfyUI listens on; a proxy in between must not send Origin on.",
        )
    if status == 413:
        return TooLarge(
            "The picture is too large for the ComfyUI server or the proxy before it (413).",
            remedy="Use a smaller picture, or start ComfyUI with a higher --max-upload-size (MB).",
        )
    if status == 404:
        return Unavailable(
            f"What answers at {url} is not ComfyUI (404).",
            remedy="Set COMFYUI_URL to the address of a running ComfyUI, with its path prefix if it has one.",
        )
    if status in (502, 503, 504):
        return Unavailable(
            f"The proxy at {url} answers, but ComfyUI behind it does not ({status}).",
            remedy="Start ComfyUI, or check COMFYUI_URL.",
        )
    text = "" if html else _clean(body[:300].decode("utf-8", "replace"))
    text = text or ("an HTML page" if html else "no text")
    if status == 200:
        return Unavailable(
            f"What answers at {url} is not ComfyUI ({text}).",
            remedy="Set COMFYUI_URL to the address of a running ComfyUI, with its path prefix if it has one.",
        )
    return UpstreamError(
        f"ComfyUI answered {status}: {text}.", service=SERVICE, kind="retry" if status >= 500 else "permanent"
    )


def lost() -> UpstreamError:
    """Build the error for a prompt the server no longer knows."""
    return UpstreamError(
        "ComfyUI restarted or its queue was cleared; this picture is lost.",
        service=SERVICE,
        kind="retry",
        remedy="Generate it again.",
    )


def json_object(body: bytes) -> dict[str, Any] | None:
    """Return the JSON object in a body, or None."""
    try:
        value = json.loads(body)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _first(value: Any) -> Any:
    return value[0] if isinstance(value, list) and value else value


def _search(pattern: str, text: str) -> str | None:
    found = re.search(pattern, text)
    return found[1] if found else None


def _clean(text: Any) -> str:
    return re.sub(r"\s+", " ", str(text)).strip().rstrip(".")[:500]
