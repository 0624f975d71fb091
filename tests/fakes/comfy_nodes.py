"""The node classes the pretend ComfyUI has: inputs, ranges, outputs, as `GET /object_info` tells them.

Data only. A choice that names a folder (`"@loras"`) is filled with the files that lie there now.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

SAMPLERS = (
    "euler euler_cfg_pp euler_ancestral euler_ancestral_cfg_pp heun heunpp2 dpm_2 dpm_2_ancestral lms dpm_fast dpm_adaptive "
    "dpmpp_2s_ancestral dpmpp_2s_ancestral_cfg_pp dpmpp_sde dpmpp_sde_gpu dpmpp_2m dpmpp_2m_cfg_pp dpmpp_2m_sde "
    "dpmpp_2m_sde_gpu dpmpp_2m_sde_heun dpmpp_2m_sde_heun_gpu dpmpp_3m_sde dpmpp_3m_sde_gpu ddpm lcm ipndm ipndm_v deis "
    "res_multistep res_multistep_cfg_pp res_multistep_ancestral res_multistep_ancestral_cfg_pp gradient_estimation "
    "gradient_estimation_cfg_pp er_sde seeds_2 seeds_3 sa_solver sa_solver_pece ddim uni_pc uni_pc_bh2"
).split()
SCHEDULERS = "simple sgm_uniform karras exponential ddim_uniform beta normal linear_quadratic kl_optimal".split()
_SCALING = "nearest-exact bilinear area bicubic lanczos".split()
_SEED = ("INT", {"default": 0, "min": 0, "max": 2**64 - 1, "control_after_generate": True})
_STEPS = ("INT", {"default": 20, "min": 1, "max": 10000})
_UNIT = ("FLOAT", {"default": 1.0, "min": 0.0, "max": 1.0, "step": 0.01})
_STRENGTH = ("FLOAT", {"default": 1.0, "min": -100.0, "max": 100.0, "step": 0.01})
_HUNDRED = ("FLOAT", {"default": 1.0, "min": 0.0, "max": 100.0, "step": 0.01})
_BATCH = ("INT", {"default": 1, "min": 1, "max": 4096})
_TEXT = ("STRING", {"multiline": True, "dynamicPrompts": True})


def _size(step: int, default: int = 512, least: int = 16) -> tuple[str, dict[str, Any]]:
    return ("INT", {"default": default, "min": least, "max": 16384, "step": step})


@dataclass(frozen=True)
class Node:
    """A node class. Input types are a socket name, a number or text with limits, or a list of choices."""

    category: str
    required: dict[str, Any]
    outputs: tuple[str, ...] = ()
    output_names: tuple[str, ...] = ()
    optional: dict[str, Any] = field(default_factory=dict)
    output_node: bool = False
    display: str | None = None
    new_style: frozenset[str] = frozenset()  # inputs spelled ["COMBO", {"options": […]}]
    module: str = "nodes"


_HIDDEN = {"prompt": "PROMPT", "extra_pnginfo": "EXTRA_PNGINFO"}
_CLIP = "@text_encoders"
NODES: dict[str, Node] = {
    "CheckpointLoaderSimple": Node(
        "loaders", {"ckpt_name": "@checkpoints"}, ("MODEL", "CLIP", "VAE"), display="Load Checkpoint"
    ),
    "UNETLoader": Node(
        "advanced/loaders",
        {"unet_name": "@diffusion_models", "weight_dtype": ["default", "fp8_e4m3fn", "fp8_e4m3fn_fast", "fp8_e5m2"]},
        ("MODEL",),
        display="Load Diffusion Model",
    ),
    "CLIPLoader": Node(
        "advanced/loaders",
        {"clip_name": _CLIP, "type": ["stable_diffusion", "stable_cascade", "sd3", "stable_audio", "mochi", "flux2"]},
        ("CLIP",),
        optional={"device": ["default", "cpu"]},
        display="Load CLIP",
    ),
    "DualCLIPLoader": Node(
        "advanced/loaders",
        {
            "clip_name1": _CLIP,
            "clip_name2": _CLIP,
            "type": ["sdxl", "sd3", "flux", "hunyuan_video", "hidream", "hunyuan_image"],
        },
        ("CLIP",),
        optional={"device": ["default", "cpu"]},
        display="DualCLIPLoader",
    ),
    "TripleCLIPLoader": Node(
        "advanced/loaders",
        {"clip_name1": _CLIP, "clip_name2": _CLIP, "clip_name3": _CLIP},
        ("CLIP",),
        new_style=frozenset({"clip_name1", "clip_name2", "clip_name3"}),
        module="comfy_extras.nodes_sd3",
    ),
    "VAELoader": Node("loaders", {"vae_name": "@vae"}, ("VAE",), display="Load VAE"),
    "LoraLoader": Node(
        "loaders",
        {
            "model": "MODEL",
            "clip": "CLIP",
            "lora_name": "@loras",
            "strength_model": _STRENGTH,
            "strength_clip": _STRENGTH,
        },
        ("MODEL", "CLIP"),
        display="Load LoRA",
    ),
    "LoraLoaderModelOnly": Node(
        "loaders",
        {"model": "MODEL", "lora_name": "@loras", "strength_model": _STRENGTH},
        ("MODEL",),
        display="LoraLoaderModelOnly",
    ),
    "CLIPTextEncode": Node(
        "conditioning", {"text": _TEXT, "clip": "CLIP"}, ("CONDITIONING",), display="CLIP Text Encode (Prompt)"
    ),
    "CLIPSetLastLayer": Node(
        "conditioning",
        {"clip": "CLIP", "stop_at_clip_layer": ("INT", {"default": -1, "min": -24, "max": -1, "step": 1})},
        ("CLIP",),
        display="CLIP Set Last Layer",
    ),
    "ConditioningZeroOut": Node(
        "advanced/conditioning", {"conditioning": "CONDITIONING"}, ("CONDITIONING",), display="ConditioningZeroOut"
    ),
    "FluxGuidance": Node(
        "advanced/conditioning/flux",
        {
            "conditioning": "CONDITIONING",
            "guidance": ("FLOAT", {"default": 3.5, "min": 0.0, "max": 100.0, "step": 0.1}),
        },
        ("CONDITIONING",),
        module="comfy_extras.nodes_flux",
    ),
    "EmptyLatentImage": Node(
        "latent",
        {"width": _size(8), "height": _size(8), "batch_size": _BATCH},
        ("LATENT",),
        display="Empty Latent Image",
    ),
    "EmptySD3LatentImage": Node(
        "latent/sd3",
        {"width": _size(16, 1024), "height": _size(16, 1024), "batch_size": _BATCH},
        ("LATENT",),
        module="comfy_extras.nodes_sd3",
    ),
    "KSampler": Node(
        "sampling",
        {
            "model": "MODEL",
            "seed": _SEED,
            "steps": _STEPS,
            "cfg": ("FLOAT", {"default": 8.0, "min": 0.0, "max": 100.0, "step": 0.1, "round": 0.01}),
            "sampler_name": SAMPLERS,
            "scheduler": SCHEDULERS,
            "positive": "CONDITIONING",
            "negative": "CONDITIONING",
            "latent_image": "LATENT",
            "denoise": _UNIT,
        },
        ("LATENT",),
        display="KSampler",
    ),
    "ModelSamplingFlux": Node(
        "advanced/model",
        {
            "model": "MODEL",
            "max_shift": _HUNDRED,
            "base_shift": _HUNDRED,
            "width": _size(8, 1024),
            "height": _size(8, 1024),
        },
        ("MODEL",),
        display="ModelSamplingFlux",
        module="comfy_extras.nodes_model_advanced",
    ),
    "ModelSamplingSD3": Node(
        "advanced/model",
        {"model": "MODEL", "shift": _HUNDRED},
        ("MODEL",),
        display="ModelSamplingSD3",
        module="comfy_extras.nodes_model_advanced",
    ),
    "BasicGuider": Node(
        "sampling/custom_sampling/guiders", {"model": "MODEL", "conditioning": "CONDITIONING"}, ("GUIDER",)
    ),
    "RandomNoise": Node("sampling/custom_sampling/noise", {"noise_seed": _SEED}, ("NOISE",)),
    "KSamplerSelect": Node(
        "sampling/custom_sampling/samplers",
        {"sampler_name": SAMPLERS},
        ("SAMPLER",),
        new_style=frozenset({"sampler_name"}),
    ),
    "BasicScheduler": Node(
        "sampling/custom_sampling/schedulers",
        {"model": "MODEL", "scheduler": SCHEDULERS, "steps": _STEPS, "denoise": _UNIT},
        ("SIGMAS",),
        new_style=frozenset({"scheduler"}),
    ),
    "SamplerCustomAdvanced": Node(
        "sampling/custom_sampling",
        {"noise": "NOISE", "guider": "GUIDER", "sampler": "SAMPLER", "sigmas": "SIGMAS", "latent_image": "LATENT"},
        ("LATENT", "LATENT"),
        ("output", "denoised_output"),
    ),
    "VAEDecode": Node("latent", {"samples": "LATENT", "vae": "VAE"}, ("IMAGE",), display="VAE Decode"),
    "VAEEncode": Node("latent", {"pixels": "IMAGE", "vae": "VAE"}, ("LATENT",), display="VAE Encode"),
    "LoadImage": Node("image", {"image": "@input"}, ("IMAGE", "MASK"), display="Load Image"),
    "ImageScale": Node(
        "image/upscaling",
        {
            "image": "IMAGE",
            "upscale_method": _SCALING,
            "width": _size(1, least=0),
            "height": _size(1, least=0),
            "crop": ["disabled", "center"],
        },
        ("IMAGE",),
        display="Upscale Image",
    ),
    "ImageScaleBy": Node(
        "image/upscaling",
        {
            "image": "IMAGE",
            "upscale_method": _SCALING,
            "scale_by": ("FLOAT", {"default": 1.0, "min": 0.01, "max": 8.0, "step": 0.01}),
        },
        ("IMAGE",),
        display="Upscale Image By",
    ),
    "UpscaleModelLoader": Node(
        "loaders",
        {"model_name": "@upscale_models"},
        ("UPSCALE_MODEL",),
        display="Load Upscale Model",
        new_style=frozenset({"model_name"}),
        module="comfy_extras.nodes_upscale_model",
    ),
    "ImageUpscaleWithModel": Node(
        "image/upscaling",
        {"upscale_model": "UPSCALE_MODEL", "image": "IMAGE"},
        ("IMAGE",),
        display="Upscale Image (using Model)",
        module="comfy_extras.nodes_upscale_model",
    ),
    "SaveImage": Node(
        "image",
        {"images": "IMAGE", "filename_prefix": ("STRING", {"default": "ComfyUI"})},
        output_node=True,
        display="Save Image",
    ),
    "PreviewImage": Node("image", {"images": "IMAGE"}, output_node=True, display="Preview Image"),
    # Only there to be listed: its choice is spelled in the third way.
    "SaveVideo": Node(
        "image/video",
        {
            "video": "VIDEO",
            "filename_prefix": ("STRING", {"default": "video/ComfyUI"}),
            "format": {"auto": {}, "mp4": {}},
        },
        output_node=True,
        display="Save Video",
        module="comfy_extras.nodes_video",
    ),
}


def object_info(name: str, folders: dict[str, list[str]], *, new: bool) -> dict[str, Any]:
    """Return one node as the server describes it. `new`: the spellings of 0.33 rather than of 0.3.64."""
    node = NODES[name]
    inputs: dict[str, Any] = {"required": {k: spec(node, k, v, folders, new=new) for k, v in node.required.items()}}
    if node.optional:
        inputs["optional"] = {k: spec(node, k, v, folders, new=new) for k, v in node.optional.items()}
    if name in ("SaveImage", "PreviewImage"):
        inputs["hidden"] = dict(_HIDDEN)
    return {
        "input": inputs,
        "input_order": {group: list(fields) for group, fields in inputs.items()},
        "output": list(node.outputs),
        "output_is_list": [False] * len(node.outputs),
        "output_name": list(node.output_names or node.outputs),
        "name": name,
        "display_name": node.display,
        "description": "",
        "python_module": node.module,
        "category": node.category,
        "output_node": node.output_node,
    }


def spec(node: Node, name: str, value: Any, folders: dict[str, list[str]], *, new: bool) -> list[Any]:
    """Return an input's specification in the server's spelling."""
    if isinstance(value, dict):
        if not new:
            return ["COMBO", {"default": next(iter(value)), "multiselect": False, "options": list(value)}]
        return ["COMFY_DYNAMICCOMBO_V3", {"options": [{"key": k, "inputs": v} for k, v in value.items()]}]
    choices = choices_of(value, folders)
    if choices is not None:
        always = name in ("model_name", "clip_name1") and node.module != "nodes"  # so in old servers too
        if name in node.new_style and (new or always):
            return ["COMBO", {"multiselect": False, "options": choices}]
        return [choices, {"image_upload": True}] if value == "@input" else [choices, {}]
    if isinstance(value, tuple):
        return [value[0], dict(value[1])]
    return [value, {}]


def choices_of(value: Any, folders: dict[str, list[str]]) -> list[str] | None:
    """Return what a choice may be, None when the input is no choice."""
    if isinstance(value, str) and value.startswith("@"):
        return list(folders[value[1:]])
    if isinstance(value, dict):
        return list(value)
    return list(value) if isinstance(value, list) else None
