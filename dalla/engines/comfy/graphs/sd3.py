"""Graph for Stable Diffusion 3 and 3.5: with or without the text encoders in the file. Pure.

SD3 is published in three shapes: a checkpoint with text encoders, a checkpoint without them, and a
bare diffusion model. Whatever is missing is loaded from separate files.
"""

from __future__ import annotations

from typing import Any

from dalla.engines.comfy.graphs.request import Graph, GraphRequest

SHIFT = 3.0  # the noise schedule's shift the models were trained with


def build(r: GraphRequest) -> Graph:
    """Return the graph; `text_encoders` are CLIP-L, CLIP-G and (optionally) T5, in any order."""
    graph: Graph = {}
    clip: list[Any]
    vae: list[Any]
    if r.kind == "diffusion_model":
        graph["model"] = {"class_type": "UNETLoader", "inputs": {"unet_name": r.model, "weight_dtype": "default"}}
        graph["vae"] = {"class_type": "VAELoader", "inputs": {"vae_name": r.vae}}
        vae = ["vae", 0]
    else:
        graph["model"] = {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": r.model}}
        vae = ["model", 2]
    model: list[Any] = ["model", 0]
    if len(r.text_encoders) == 3:
        names = {f"clip_name{i}": name for i, name in enumerate(r.text_encoders, 1)}
        graph["clip"] = {"class_type": "TripleCLIPLoader", "inputs": names}
        clip = ["clip", 0]
    elif len(r.text_encoders) == 2:
        names = {f"clip_name{i}": name for i, name in enumerate(r.text_encoders, 1)}
        graph["clip"] = {"class_type": "DualCLIPLoader", "inputs": {**names, "type": "sd3"}}
        clip = ["clip", 0]
    else:
        clip = ["model", 1]
    for i, lora in enumerate(r.loras):
        inputs = {"model": model, "lora_name": lora.name, "strength_model": lora.strength}
        if lora.text_encoder:
            inputs |= {"clip": clip, "strength_clip": lora.strength}
            graph[f"lora{i}"] = {"class_type": "LoraLoader", "inputs": inputs}
            clip = [f"lora{i}", 1]
        else:
            graph[f"lora{i}"] = {"class_type": "LoraLoaderModelOnly", "inputs": inputs}
        model = [f"lora{i}", 0]
    graph["shift"] = {"class_type": "ModelSamplingSD3", "inputs": {"model": model, "shift": SHIFT}}
    graph["positive"] = {"class_type": "CLIPTextEncode", "inputs": {"text": r.prompt, "clip": clip}}
    graph["negative"] = {"class_type": "CLIPTextEncode", "inputs": {"text": r.negative_prompt, "clip": clip}}
    if r.init_image:
        graph["picture"] = {"class_type": "LoadImage", "inputs": {"image": r.init_image}}
        graph["latent"] = {"class_type": "VAEEncode", "inputs": {"pixels": ["picture", 0], "vae": vae}}
    else:
        size = {"width": r.width, "height": r.height, "batch_size": 1}
        graph["latent"] = {"class_type": "EmptySD3LatentImage", "inputs": size}
    for i, seed in enumerate(r.seeds):
        graph[f"sample{i}"] = {
            "class_type": "KSampler",
            "inputs": {
                "model": ["shift", 0],
                "positive": ["positive", 0],
                "negative": ["negative", 0],
                "latent_image": ["latent", 0],
                "seed": seed,
                "steps": r.steps,
                "cfg": 1.0 if r.cfg_scale is None else r.cfg_scale,
                "sampler_name": r.sampler,
                "scheduler": r.scheduler,
                "denoise": r.denoise if r.init_image else 1.0,
            },
        }
        graph[f"decode{i}"] = {"class_type": "VAEDecode", "inputs": {"samples": [f"sample{i}", 0], "vae": vae}}
        graph[f"save{i}"] = {
            "class_type": "SaveImage",
            "inputs": {"images": [f"decode{i}", 0], "filename_prefix": f"{r.prefix}-{i}"},
        }
    return graph
