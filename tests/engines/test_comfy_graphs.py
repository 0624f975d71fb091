"""The graph builders, pure: every link leads somewhere, every family has what its models need."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from dalla.engines.comfy.graphs import BUILDERS, GraphLora, GraphRequest, build, classes, upscale
from dalla.engines.comfy.graphs.request import Graph

REQUEST = GraphRequest(
    prompt="a red fox",
    negative_prompt="blurry",
    model="m.safetensors",
    width=512,
    height=768,
    steps=7,
    seeds=(5, 6),
    sampler="euler",
    scheduler="karras",
    prefix="dalla/x",
    cfg_scale=6.5,
    guidance=2.5,
)
SPLIT = {
    "flux": {
        "kind": "diffusion_model",
        "text_encoders": ("clip_l.safetensors", "t5xxl.safetensors"),
        "vae": "ae.safetensors",
    },
    "sd3": {
        "kind": "diffusion_model",
        "text_encoders": ("clip_l.safetensors", "clip_g.safetensors", "t5xxl.safetensors"),
        "vae": "sd3_vae.safetensors",
    },
}


def assert_links(graph: Graph) -> None:
    for id, node in graph.items():
        for name, value in node["inputs"].items():
            if isinstance(value, list):
                assert value[0] in graph, f"{id}.{name} leads to {value}"


def upstream(graph: Graph, id: str) -> list[str]:
    """Return the classes on the way of the model from node `id` to its loader."""
    found = []
    while True:
        node = graph[id]
        found.append(node["class_type"])
        link = node["inputs"].get("model") or node["inputs"].get("guider")
        if link is None:
            return found
        id = link[0]


@pytest.mark.parametrize("family", list(BUILDERS))
@pytest.mark.parametrize("split", [False, True])
def test_every_link_leads_to_a_node(family: str, split: bool) -> None:
    extra: dict[str, Any] = SPLIT.get(family, {}) if split else {}
    loras = (GraphLora("a.safetensors", 0.5), GraphLora("b.safetensors", 1.0, text_encoder=False))
    for request in (replace(REQUEST, **extra), replace(REQUEST, loras=loras, init_image="dalla/i.png", **extra)):
        assert_links(build(family, request))


@pytest.mark.parametrize("family", list(BUILDERS))
def test_each_picture_has_its_own_seed_and_file(family: str) -> None:
    graph = build(family, replace(REQUEST, seeds=(3, 4, 5)))
    seeds = [n["inputs"].get("seed", n["inputs"].get("noise_seed")) for n in graph.values()]
    assert [s for s in seeds if s is not None] == [3, 4, 5]
    saves = [n["inputs"]["filename_prefix"] for n in graph.values() if n["class_type"] == "SaveImage"]
    assert saves == ["dalla/x-0", "dalla/x-1", "dalla/x-2"]


@pytest.mark.parametrize("family", list(BUILDERS))
def test_loras_are_chained_in_order_between_loader_and_sampler(family: str) -> None:
    loras = (GraphLora("a", 0.5), GraphLora("b", -1.0), GraphLora("c", 2.0, text_encoder=False))
    graph = build(family, replace(REQUEST, loras=loras))
    way = upstream(graph, "sample0")
    assert [c for c in way if "Lora" in c] == ["LoraLoaderModelOnly", "LoraLoader", "LoraLoader"]
    assert graph["lora0"]["inputs"] | {"clip": 0, "model": 0} == {
        "model": 0, "clip": 0, "lora_name": "a", "strength_model": 0.5, "strength_clip": 0.5,
    }  # fmt: skip
    assert graph["lora1"]["inputs"]["clip"] == ["lora0", 1]
    assert graph["positive"]["inputs"]["clip"] == ["lora1", 1]  # the third leaves the text alone


@pytest.mark.parametrize("family", list(BUILDERS))
def test_img2img_starts_from_the_picture(family: str) -> None:
    graph = build(family, replace(REQUEST, init_image="dalla/i.png", denoise=0.4))
    assert graph["picture"]["inputs"] == {"image": "dalla/i.png"}
    assert graph["latent"]["class_type"] == "VAEEncode"
    assert [n["inputs"]["denoise"] for n in graph.values() if "denoise" in n["inputs"]][0] == 0.4


@pytest.mark.parametrize("family", list(BUILDERS))
def test_denoise_counts_only_with_a_picture(family: str) -> None:
    graph = build(family, replace(REQUEST, denoise=0.4))
    assert {n["inputs"]["denoise"] for n in graph.values() if "denoise" in n["inputs"]} == {1.0}


@pytest.mark.parametrize("family", ["sd15", "sdxl"])
def test_stable_diffusion_uses_cfg_and_the_negative_prompt(family: str) -> None:
    graph = build(family, REQUEST)
    sampler = graph["sample0"]["inputs"]
    assert (sampler["cfg"], sampler["steps"], sampler["sampler_name"], sampler["scheduler"]) == (
        6.5,
        7,
        "euler",
        "karras",
    )
    assert graph["negative"]["inputs"]["text"] == "blurry"
    assert graph["latent"]["inputs"] == {"width": 512, "height": 768, "batch_size": 1}


def test_sd3_takes_its_own_canvas_and_schedule() -> None:
    graph = build("sd3", REQUEST)
    assert {"EmptySD3LatentImage", "ModelSamplingSD3", "CheckpointLoaderSimple"} <= classes(graph)
    assert upstream(graph, "sample0") == ["KSampler", "ModelSamplingSD3", "CheckpointLoaderSimple"]


@pytest.mark.parametrize(("count", "loader"), [(2, "DualCLIPLoader"), (3, "TripleCLIPLoader")])
def test_sd3_without_text_encoders_loads_them_apart(count: int, loader: str) -> None:
    graph = build("sd3", replace(REQUEST, text_encoders=("l", "g", "t5")[:count]))
    assert graph["clip"]["class_type"] == loader
    assert graph["positive"]["inputs"]["clip"] == ["clip", 0]
    assert "VAELoader" not in classes(graph)


def test_flux_uses_guidance_and_no_negative_prompt() -> None:
    graph = build("flux", replace(REQUEST, **SPLIT["flux"]))
    assert {"UNETLoader", "DualCLIPLoader", "VAELoader", "FluxGuidance", "BasicGuider"} <= classes(graph)
    assert graph["guidance"]["inputs"]["guidance"] == 2.5
    assert "blurry" not in str(graph)
    assert graph["shift"]["inputs"]["width"] == 512


def test_flux_schnell_keeps_its_fixed_schedule() -> None:
    assert "shift" not in build("flux", replace(REQUEST, model="flux1-schnell.safetensors"))


def test_flux_all_in_one_needs_a_single_file() -> None:
    graph = build("flux", REQUEST)
    assert "CheckpointLoaderSimple" in classes(graph)
    assert not classes(graph) & {"UNETLoader", "DualCLIPLoader", "VAELoader"}


def test_upscale_by_lanczos_and_by_model() -> None:
    request = upscale.UpscaleGraphRequest("dalla/i.png", 1.5, 150, 300, "dalla/u")
    plain = upscale.build(request)
    assert_links(plain)
    assert plain["larger"]["inputs"]["scale_by"] == 1.5
    model = upscale.build(replace(request, model="up2x.safetensors"))
    assert_links(model)
    # The model's own factor is fixed, so its result is brought to the size asked for.
    assert (model["larger"]["inputs"]["width"], model["larger"]["inputs"]["height"]) == (150, 300)
