"""The engine against a real ComfyUI (COMFYUI_TEST_URL): every family it has a model of, both upscalers, a stop.

    COMFYUI_TEST_URL=http://127.0.0.1:8188 python -m pytest tests/engines/test_comfyui_live.py -m live

With small models and one fixed prompt, as FLUX and SD3 read a new text for a minute on a CPU.
COMFYUI_TEST_FAMILIES=sd15,sdxl leaves families out. LoRAs: test_comfyui_live_loras.py.
"""

from __future__ import annotations

import io
import os
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from dalla.engines.images.comfyui import ComfyUIEngine
from dalla.errors import Cancelled, DallaError
from dalla.records.family import FAMILIES
from dalla.records.image import ImageRequest, ModelInfo, UpscaleRequest
from tests.engines.comfy_kit import Report, settings_for

URL = os.environ.get("COMFYUI_TEST_URL", "")
WANTED = os.environ.get("COMFYUI_TEST_FAMILIES", "sd15,sdxl,sd3,flux").split(",")
pytestmark = [
    pytest.mark.live,
    pytest.mark.timeout(900),
    pytest.mark.skipif(not URL, reason="COMFYUI_TEST_URL is not set"),
]


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComfyUIEngine]:
    made = ComfyUIEngine(settings_for(URL, tmp_path_factory.mktemp("live"), comfyui_timeout=800.0))
    status = made.status()
    assert status.available, status.reason
    yield made
    made.close()


def model_of(engine: ComfyUIEngine, family: str) -> ModelInfo:
    if family not in WANTED:
        pytest.skip(f"{family} is left out")
    # The whole files first: they need nothing beside them.
    found = sorted((m for m in engine.models() if m.family == family), key=lambda m: "incl" not in m.name)
    if not found:
        pytest.skip(f"the server has no {family} model")
    return found[0]


def request(model: ModelInfo, **more: Any) -> ImageRequest:
    family = FAMILIES[model.family or ""]
    values: dict[str, Any] = {
        "prompt": "sks person",
        "negative_prompt": "lowres" if family.negative_prompt else "",
        "model": model.name,
        "family": family.name,
        "width": 64,
        "height": 64,
        "steps": 2,
        "seed": secrets.randbelow(2**32),
        "sampler": "euler",
        "scheduler": family.scheduler,
        "cfg_scale": family.cfg_scale,
        "guidance": family.guidance,
    }
    return ImageRequest(**{**values, **more})


def pixels(png: bytes) -> bytes:
    return Image.open(io.BytesIO(png)).convert("RGB").tobytes()


@pytest.mark.parametrize("family", list(FAMILIES))
def test_a_family_draws_and_draws_the_same_again(engine: ComfyUIEngine, family: str) -> None:
    asked = request(model_of(engine, family))
    engine.check(asked)
    report = Report()
    result = engine.generate(asked, report)
    assert Image.open(io.BytesIO(result.images[0])).size == (64, 64)
    assert report.steps[-1] == (2.0, 2.0)
    assert pixels(engine.generate(asked, Report()).images[0]) == pixels(result.images[0])
    assert result.engine_versions["comfyui"]


@pytest.mark.parametrize("family", list(FAMILIES))
def test_a_picture_to_start_from_and_a_batch(engine: ComfyUIEngine, family: str) -> None:
    asked = request(model_of(engine, family))
    start = engine.generate(asked, Report()).images[0]
    made = engine.generate(request(model_of(engine, family), init_image=start, denoise=0.5, batch_size=2), Report())
    assert len({pixels(start), *map(pixels, made.images)}) == 3
    assert made.seeds[1] == made.seeds[0] + 1


def test_both_ways_to_enlarge(engine: ComfyUIEngine) -> None:
    out = io.BytesIO()
    Image.effect_noise((40, 60), 80).convert("RGB").save(out, "PNG")
    for name in engine.options()["upscalers"]:
        made = engine.upscale(UpscaleRequest(out.getvalue(), 2.5, name), Report())
        assert Image.open(io.BytesIO(made.images[0])).size == (100, 150)


def test_a_stop_leaves_nothing_in_the_queue(engine: ComfyUIEngine, tmp_path: Path) -> None:
    model = model_of(engine, "sd15")
    with pytest.raises(Cancelled):
        engine.generate(request(model, steps=150), Report(cancel_when=lambda m: m.startswith("Step 2 ")))
    client = engine._server().client
    end = time.monotonic() + 30
    while any(client.queue()) and time.monotonic() < end:
        time.sleep(0.2)
    assert client.queue() == ([], [])


def test_an_unknown_model_is_named(engine: ComfyUIEngine) -> None:
    asked = request(ModelInfo("nobody-has-this.safetensors", "sd15", "comfyui"))
    with pytest.raises(DallaError, match="nobody-has-this"):
        engine.generate(asked, Report())
