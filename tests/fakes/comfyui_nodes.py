"""The node classes the ComfyUI fake knows, and the checks the real server makes before it queues a graph."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Node:
    """`inputs`: name -> a socket type, ("INT" | "FLOAT", min, max), "STRING", or a list's name as "list:loras"."""

    inputs: dict[str, Any]
    outputs: tuple[str, ...]
    output_node: bool = False


_SEED = ("INT", 0, 2**64 - 1)
_STEPS = ("INT", 1, 10_000)
_SIZE = ("INT", 16, 16384)
_STRENGTH = ("FLOAT", -100.0, 100.0)
_DENOISE = ("FLOAT", 0.0, 1.0)

NODES: dict[str, Node] = {
    "CheckpointLoaderSimple": Node({"ckpt_name": "list:checkpoints"}, ("MODEL", "CLIP", "VAE")),
    "UNETLoader": Node({"unet_name": "list:diffusion_models", "weight_dtype": "list:dtypes"}, ("MODEL",)),
    "DualCLIPLoader": Node(
        {"clip_name1": "list:text_encoders", "clip_name2": "list:text_encoders", "type": "list:clip_types"}, ("CLIP",)
    ),
    "TripleCLIPLoader": Node({f"clip_name{i}": "list:text_encoders" for i in (1, 2, 3)}, ("CLIP",)),
    "VAELoader": Node({"vae_name": "list:vae"}, ("VAE",)),
    "LoraLoader": Node(
        {"model": "MODEL", "clip": "CLIP", "lora_name": "list:loras", "strength_model": _STRENGTH, "strength_clip": _STRENGTH},
        ("MODEL", "CLIP"),
    ),
    "LoraLoaderModelOnly": Node(
        {"model": "MODEL", "lora_name": "list:loras", "strength_model": _STRENGTH}, ("MODEL",)
    ),
    "CLIPTextEncode": Node({"text": "STRING", "clip": "CLIP"}, ("CONDITIONING",)),
    "EmptyLatentImage": Node({"width": _SIZE, "height": _SIZE, "batch_size": ("INT", 1, 4096)}, ("LATENT",)),
    "EmptySD3LatentImage": Node({"width": _SIZE, "height": _SIZE, "batch_size": ("INT", 1, 4096)}, ("LATENT",)),
    "LoadImage": Node({"image": "STRING"}, ("IMAGE", "MASK")),
    "VAEEncode": Node({"pixels": "IMAGE", "vae": "VAE"}, ("LATENT",)),
    "KSampler": Node(
        {
            "model": "MODEL",
            "seed": _SEED,
            "steps": _STEPS,
            "cfg": ("FLOAT", 0.0, 100.0),
            "sampler_name": "list:samplers",
            "scheduler": "list:schedulers",
            "positive": "CONDITIONING",
            "negative": "CONDITIONING",
            "latent_image": "LATENT",
            "denoise": _DENOISE,
        },
        ("LATENT",),
    ),
    "ModelSamplingSD3": Node({"model": "MODEL", "shift": ("FLOAT", 0.0, 100.0)}, ("MODEL",)),
    "ModelSamplingFlux": Node(
        {
            "model": "MODEL",
            "max_shift": ("FLOAT", 0.0, 100.0),
            "base_shift": ("FLOAT", 0.0, 100.0),
            "width": _SIZE,
            "height": _SIZE,
        },
        ("MODEL",),
    ),
    "FluxGuidance": Node({"conditioning": "CONDITIONING", "guidance": ("FLOAT", 0.0, 100.0)}, ("CONDITIONING",)),
    "BasicGuider": Node({"model": "MODEL", "conditioning": "CONDITIONING"}, ("GUIDER",)),
    "KSamplerSelect": Node({"sampler_name": "list:samplers"}, ("SAMPLER",)),
    "BasicScheduler": Node(
        {"model": "MODEL", "scheduler": "list:schedulers", "steps": _STEPS, "denoise": _DENOISE}, ("SIGMAS",)
    ),
    "RandomNoise": Node({"noise_seed": _SEED}, ("NOISE",)),
    "SamplerCustomAdvanced": Node(
        {"noise": "NOISE", "guider": "GUIDER", "sampler": "SAMPLER", "sigmas": "SIGMAS", "latent_image": "LATENT"},
        ("LATENT", "LATENT"),
    ),
    "VAEDecode": Node({"samples": "LATENT", "vae": "VAE"}, ("IMAGE",)),
    "ImageScaleBy": Node(
        {"image": "IMAGE", "upscale_method": "list:scaling", "scale_by": ("FLOAT", 0.01, 8.0)}, ("IMAGE",)
    ),
    "ImageScale": Node(
        {
            "image": "IMAGE",
            "upscale_method": "list:scaling",
            "width": ("INT", 0, 16384),
            "height": ("INT", 0, 16384),
            "crop": "list:crop",
        },
        ("IMAGE",),
    ),
    "UpscaleModelLoader": Node({"model_name": "list:upscale_models"}, ("UPSCALE_MODEL",)),
    "ImageUpscaleWithModel": Node({"upscale_model": "UPSCALE_MODEL", "image": "IMAGE"}, ("IMAGE",)),
    "SaveImage": Node({"images": "IMAGE", "filename_prefix": "STRING"}, (), True),
}
FIXED = {
    "dtypes": ["default", "fp8_e4m3fn", "fp8_e4m3fn_fast", "fp8_e5m2"],
    "clip_types": ["sdxl", "sd3", "flux"],
    "scaling": ["nearest-exact", "bilinear", "area", "bicubic", "lanczos"],
    "crop": ["disabled", "center"],
}
#: Nodes whose choices are spelled ["COMBO", {"options": …}]; the second set only in newer servers.
_COMBO, _NEW_COMBO = {"UpscaleModelLoader"}, {"KSamplerSelect", "BasicScheduler"}


def object_info(lists: dict[str, list[str]], new_api: bool) -> dict[str, Any]:
    """Return what GET /object_info answers."""
    info: dict[str, Any] = {}
    for name, node in NODES.items():
        required = {key: _spelled(name, spec, lists, new_api) for key, spec in node.inputs.items()}
        info[name] = {
            "input": {"required": required},
            "input_order": {"required": list(required)},
            "output": list(node.outputs),
            "output_name": list(node.outputs),
            "name": name,
            "display_name": name,
            "output_node": node.output_node,
        }
    if new_api:
        choice = {"options": [{"key": "auto", "inputs": {}}, {"key": "mp4", "inputs": {}}]}
        info["SaveVideo"] = {
            "input": {"required": {"format": ["COMFY_DYNAMICCOMBO_V3", choice]}}, "output": [], "output_node": True
        }  # fmt: skip
    return info


def _spelled(node: str, spec: Any, lists: dict[str, list[str]], new_api: bool) -> list[Any]:
    if isinstance(spec, tuple):
        return [spec[0], {"min": spec[1], "max": spec[2]}]
    if spec.startswith("list:"):
        options = {**FIXED, **lists}[spec[5:]]
        if node in _COMBO or (new_api and node in _NEW_COMBO):
            return ["COMBO", {"options": options}]
        return [options, {}]
    return [spec, {}]


def links_of(value: Any) -> bool:
    """Whether an input's value is a link."""
    return isinstance(value, list) and len(value) == 2


def problems_of(
    graph: dict[str, Any], id: str, lists: dict[str, list[str]], new_api: bool
) -> tuple[list[dict[str, Any]], list[str]]:
    """Check one node as the real server does; return (errors, nodes it links to)."""
    node = graph[id]
    name = node["class_type"]
    errors: list[dict[str, Any]] = []
    further: list[str] = []

    def refuse(kind: str, message: str, key: str, value: Any, details: str, config: Any = None) -> None:
        extra = {"input_name": key, "input_config": config, "received_value": value}
        errors.append({"type": kind, "message": message, "details": details, "extra_info": extra})

    for key, spec in NODES[name].inputs.items():
        if key not in node["inputs"]:
            refuse("required_input_missing", "Required input is missing", key, None, key)
            continue
        value = node["inputs"][key]
        config = _spelled(name, spec, lists, new_api)
        if links_of(value):
            source, slot = value
            if source not in graph or slot >= len(NODES[graph[source]["class_type"]].outputs):
                refuse("exception_during_inner_validation", "Exception when validating inner node", key, value, f"'{source}'")
                continue
            further.append(source)
            given = NODES[graph[source]["class_type"]].outputs[slot]
            if given != spec:
                details = f"{key}, received_type({given}) mismatch input_type({spec})"
                refuse("return_type_mismatch", "Return type mismatch between linked nodes", key, value, details, config)
        elif isinstance(spec, tuple):
            try:
                number = float(value)
            except (TypeError, ValueError):
                refuse("invalid_input_type", "Failed to convert an input value", key, value, f"{key}, {value}", config)
                continue
            if number < spec[1]:
                refuse("value_smaller_than_min", f"Value {value} smaller than min of {spec[1]}", key, value, key, config)
            elif number > spec[2]:
                refuse("value_bigger_than_max", f"Value {value} bigger than max of {spec[2]}", key, value, key, config)
        elif isinstance(spec, str) and spec.startswith("list:"):
            options = {**FIXED, **lists}[spec[5:]]
            if value not in options:
                long = len(options) > 20
                shown = f"(list of length {len(options)})" if long else str(options)
                refuse(
                    "value_not_in_list", "Value not in list", key, value, f"{key}: '{value}' not in {shown}",
                    None if long else config,
                )  # fmt: skip
        elif spec != "STRING":
            refuse("return_type_mismatch", "Return type mismatch between linked nodes", key, value, key, config)
    return errors, further
