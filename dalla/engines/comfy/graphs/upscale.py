"""Graphs that enlarge one picture: Lanczos, or an upscaling model brought to the wanted size. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from dalla.engines.comfy.graphs.request import Graph


@dataclass(frozen=True)
class UpscaleGraphRequest:
    """`image` names an upload; `model` an upscaler of the server, None: Lanczos."""

    image: str
    factor: float
    width: int  # of the result
    height: int
    prefix: str
    model: str | None = None


def build(r: UpscaleGraphRequest) -> Graph:
    """Return the graph. A model enlarges by its own fixed factor, so its result is scaled to fit."""
    graph: Graph = {"picture": {"class_type": "LoadImage", "inputs": {"image": r.image}}}
    if r.model is None:
        graph["larger"] = {
            "class_type": "ImageScaleBy",
            "inputs": {"image": ["picture", 0], "upscale_method": "lanczos", "scale_by": r.factor},
        }
    else:
        graph["upscaler"] = {"class_type": "UpscaleModelLoader", "inputs": {"model_name": r.model}}
        graph["raw"] = {
            "class_type": "ImageUpscaleWithModel",
            "inputs": {"upscale_model": ["upscaler", 0], "image": ["picture", 0]},
        }
        graph["larger"] = {
            "class_type": "ImageScale",
            "inputs": {
                "image": ["raw", 0],
                "upscale_method": "lanczos",
                "width": r.width,
                "height": r.height,
                "crop": "disabled",
            },
        }
    graph["save0"] = {
        "class_type": "SaveImage",
        "inputs": {"images": ["larger", 0], "filename_prefix": f"{r.prefix}-0"},
    }
    return graph
