"""Graphs for FLUX.1: the model apart from its text encoders and VAE, or all in one file. Pure.

FLUX takes distilled guidance instead of classifier-free guidance, so there is no negative prompt.
"""

from __future__ import annotations

from typing import Any

from dalla.engines.comfy.graphs.request import Graph, GraphRequest

#: How far the noise schedule moves with the picture's size (the values of the published workflows).
MAX_SHIFT, BASE_SHIFT = 1.15, 0.5


def build(r: GraphRequest) -> Graph:
    """Return the graph; `text_encoders` are CLIP-L and T5 in any order, unless the file has all in one."""
    graph: Graph = {}
    clip: list[Any]
    vae: list[Any]
    if r.kind == "diffusion_model":
        first, second = r.text_encoders
        graph["model"] = {"class_type": "UNETLoader", "inputs": {"unet_name": r.model, "weight_dtype": "default"}}
        graph["clip"] = {
            "class_type": "DualCLIPLoader",
            "inputs": {"clip_name1": first, "clip_name2": second, "type": "flux"},
        }
        graph["vae"] = {"class_type": "VAELoader", "inputs": {"vae_name": r.vae}}
        clip, vae = ["clip", 0], ["vae", 0]
    else:
        graph["model"] = {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": r.model}}
        clip, vae = ["model", 1], ["model", 2]
    model: list[Any] = ["model", 0]
    for i, lora in enumerate(r.loras):
        inputs = {"model": model, "lora_name": lora.name, "strength_model": lora.strength}
        if lora.text_encoder:
            inputs |= {"clip": clip, "strength_clip": lora.strength}
            graph[f"lora{i}"] = {"class_type": "LoraLoader", "inputs": inputs}
            clip = [f"lora{i}", 1]
        else:
            graph[f"lora{i}"] = {"class_type": "LoraLoaderModelOnly", "inputs": inputs}
        model = [f"lora{i}", 0]
    if "schnell" not in r.model.lower():  # schnell was distilled without the moving schedule
        graph["shift"] = {
            "class_type": "ModelSamplingFlux",
            "inputs": {
                "model": model,
                "max_shift": MAX_SHIFT,
                "base_shift": BASE_SHIFT,
                "width": r.width,
                "height": r.height,
            },
        }
        model = ["shift", 0]
    graph["positive"] = {"class_type": "CLIPTextEncode", "inputs": {"text": r.prompt, "clip": clip}}
    graph["guidance"] = {
        "class_type": "FluxGuidance",
        "inputs": {"conditioning": ["positive", 0], "guidance": 3.5 if r.guidance is None else r.guidance},
    }
    graph["guider"] = {"class_type": "BasicGuider", "inputs": {"model": model, "conditioning": ["guidance", 0]}}
    graph["sampler"] = {"class_type": "KSamplerSelect", "inputs": {"sampler_name": r.sampler}}
    graph["sigmas"] = {
        "class_type": "BasicScheduler",
        "inputs": {
            "model": model,
            "scheduler": r.scheduler,
            "steps": r.steps,
            "denoise": r.denoise if r.init_image else 1.0,
        },
    }
    if r.init_image:
        graph["picture"] = {"class_type": "LoadImage", "inputs": {"image": r.init_image}}
        graph["latent"] = {"class_type": "VAEEncode", "inputs": {"pixels": ["picture", 0], "vae": vae}}
    else:
        size = {"width": r.width, "height": r.height, "batch_size": 1}
        graph["latent"] = {"class_type": "EmptySD3LatentImage", "inputs": size}
    for i, seed in enumerate(r.seeds):
        graph[f"noise{i}"] = {"class_type": "RandomNoise", "inputs": {"noise_seed": seed}}
        graph[f"sample{i}"] = {
            "class_type": "SamplerCustomAdvanced",
            "inputs": {
                "noise": [f"noise{i}", 0],
                "guider": ["guider", 0],
                "sampler": ["sampler", 0],
                "sigmas": ["sigmas", 0],
                "latent_image": ["latent", 0],
            },
        }
        graph[f"decode{i}"] = {"class_type": "VAEDecode", "inputs": {"samples": [f"sample{i}", 0], "vae": vae}}
        graph[f"save{i}"] = {
            "class_type": "SaveImage",
            "inputs": {"images": [f"decode{i}", 0], "filename_prefix": f"{r.prefix}-{i}"},
        }
    return graph
