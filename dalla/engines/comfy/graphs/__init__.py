"""ComfyUI graphs: one pure file per model family or use, a request in, a graph dict out.

The families repeat a few lines of each other on purpose: each file can be read, and changed, alone.
"""

from __future__ import annotations

from typing import Any

from dalla.engines.comfy.graphs import flux, sd3, sd15, sdxl
from dalla.engines.comfy.graphs.request import Graph, GraphLora, GraphRequest

#: Family -> builder; to add a family, write its file and add it here.
BUILDERS: dict[str, Any] = {"sd15": sd15.build, "sdxl": sdxl.build, "sd3": sd3.build, "flux": flux.build}

__all__ = ["BUILDERS", "Graph", "GraphLora", "GraphRequest", "build", "classes"]


def build(family: str, request: GraphRequest) -> Graph:
    """Return the graph that draws `request` with a model of this family. KeyError: no such family."""
    return BUILDERS[family](request)


def classes(graph: Graph) -> set[str]:
    """Return the node classes a graph uses."""
    return {node["class_type"] for node in graph.values()}
