"""Graph for Stable Diffusion 1.5: one checkpoint file, classifier-free guidance. Pure."""

from __future__ import annotations

from dalla.engines.comfy.graphs.request import Graph, GraphRequest


def build(r: GraphRequest) -> Graph:
    """Return the graph; with an init image, it is redrawn instead of an empty canvas."""
    graph: Graph = {
        "checkpoint": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": r.model}},
    }
    model, clip, vae = ["checkpoint", 0], ["checkpoint", 1], ["checkpoint", 2]
    for i, lora in enumerate(r.loras):
        inputs = {"model": model, "lora_name": lora.name, "strength_model": lora.strength}
        if lora.text_encoder:
            inputs |= {"clip": clip, "strength_clip": lora.strength}
            graph[f"lora{i}"] = {"class_type": "LoraLoader", "inputs": inputs}
            clip = [f"lora{i}", 1]
        else:
            graph[f"lora{i}"] = {"class_type": "LoraLoaderModelOnly", "inputs": inputs}
        model = [f"lora{i}", 0]
    graph["positive"] = {"class_type": "CLIPTextEncode", "inputs": {"text": r.prompt, "clip": clip}}
    graph["negative"] = {"class_type": "CLIPTextEncode", "inputs": {"text": r.negative_prompt, "clip": clip}}
    if r.init_image:
        graph["picture"] = {"class_type": "LoadImage", "inputs": {"image": r.init_image}}
        graph["latent"] = {"class_type": "VAEEncode", "inputs": {"pixels": ["picture", 0], "vae": vae}}
    else:
        size = {"width": r.width, "height": r.height, "batch_size": 1}
        graph["latent"] = {"class_type": "EmptyLatentImage", "inputs": size}
    for i, seed in enumerate(r.seeds):
        graph[f"sample{i}"] = {
            "class_type": "KSampler",
            "inputs": {
                "model": model,
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
