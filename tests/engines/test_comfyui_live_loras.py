"""LoRAs of our own exporter in a real ComfyUI: every part of every family is loaded and changes the picture.

    COMFYUI_TEST_URL=http://127.0.0.1:8188 COMFYUI_LORA_DIR=…/ComfyUI/models/loras \
        python -m pytest tests/engines/test_comfyui_live_loras.py -m live

Made for the models the server has (their files must lie on this machine), written by `export.save_lora`, put into the
server's folder by the engine. ComfyUI reports success for a LoRA it cannot place, so its log is read: GET /internal/logs/raw,
or the file that COMFYUI_LOG names. COMFYUI_TEST_FAMILIES=sd15,sdxl leaves families out.
"""

from __future__ import annotations

import io
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageChops

from dalla import lora_forms
from dalla.engines.images.comfyui import ComfyUIEngine
from dalla.records.character import LoraUse
from dalla.records.family import FAMILIES
from dalla.weights import lora_layers, read_header
from tests.engines.comfy_kit import Report, settings_for
from tests.engines.comfy_live import (
    Modules,
    Server,
    lora_folder,
    modules_of,
    random_layers,
    resnets_per_level,
)
from tests.engines.test_comfyui_live import URL, model_of, request

torch = pytest.importorskip("torch")

pytestmark = [
    pytest.mark.live,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(not URL, reason="COMFYUI_TEST_URL is not set"),
    pytest.mark.skipif(lora_folder() is None, reason="COMFYUI_LORA_DIR is not set, or no folder on this machine"),
]
#: Parts that each family's files have. FLUX and SD3 have no convolution that is trained.
PARTS = {
    "sd15": ("attention", "rest", "convolution", "text_encoder"),
    "sdxl": ("attention", "rest", "convolution", "text_encoder", "text_encoder_2"),
    "sd3": ("attention", "rest", "text_encoder", "text_encoder_2"),
    "flux": ("attention", "rest", "text_encoder"),
}
CASES = [(family, part) for family, parts in PARTS.items() for part in (*parts, "all")]


class Desk:
    """The engine, the server, and LoRAs made for its models."""

    def __init__(self, root: Path) -> None:
        import os

        self.loras = root / "loras"
        self.loras.mkdir(parents=True)
        self.server_folder = lora_folder() or root
        self.mark = f"dalla-test-{secrets.token_hex(4)}"
        settings = settings_for(URL, root, comfyui_timeout=1800.0, comfyui_lora_dir=str(self.server_folder))
        self.engine = ComfyUIEngine(settings)
        status = self.engine.status()
        assert status.available, status.reason
        self.server = Server(URL, os.environ.get("COMFYUI_LOG", ""))
        self._modules: dict[str, Modules] = {}
        self._plain: dict[str, tuple[int, Image.Image]] = {}

    def modules(self, family: str) -> Modules:
        """Return the layers of the server's model of the family; skips when its file cannot be looked at."""
        if family not in self._modules:
            model = model_of(self.engine, family)
            file = self.server.folder_of(model.name)
            if file is None:
                pytest.skip(f"the file of {model.name} is not on this machine")
            if family in ("sd15", "sdxl") and resnets_per_level(read_header(file)) != 2:
                pytest.skip(f"{model.name} has other blocks than the models of its family")
            self._modules[family] = modules_of(file, family)
        return self._modules[family]

    def export(self, family: str, part: str, *, size: float = 0.5) -> Path:
        """Write a LoRA of random numbers for a part of the model with the trainer's exporter."""
        from dalla.diffusion.families import family as family_of
        from dalla.diffusion.training import export

        found = self.modules(family).parts()
        wanted = list(found.values()) if part == "all" else [found[part]] if part in found else []
        if not wanted:
            pytest.skip(f"the file of the server's {family} model holds no {part.replace('_', ' ')}")
        layers: dict[str, Any] = {}
        for modules in wanted:
            for component, rows in random_layers(modules, seed=len(layers), size=size).items():
                layers.setdefault(component, {}).update(rows)
        path = self.loras / f"{self.mark}-{family}-{part}-{secrets.token_hex(3)}.safetensors"
        texts = export.metadata_for({"name": path.stem, "trigger_word": "sks"}, {}, family)
        export.save_lora(path, layers, layout=family_of(family).lora, metadata=texts, dtype="fp16")
        return path

    def plain(self, family: str) -> tuple[int, Image.Image]:
        """Return a seed, and the picture of it without a LoRA."""
        if family not in self._plain:
            seed = secrets.randbelow(2**32)
            self._plain[family] = seed, self.draw(family, seed)
        return self._plain[family]

    def draw(self, family: str, seed: int, lora: Path | None = None, strength: float = 1.0) -> Image.Image:
        uses = (LoraUse(name=lora.stem, strength=strength),) if lora is not None else ()
        asked = request(model_of(self.engine, family), seed=seed, loras=uses)
        made = self.engine.generate(asked, Report())
        return Image.open(io.BytesIO(made.images[0])).convert("RGB")

    def close(self) -> None:
        self.engine.close()
        for file in self.server_folder.glob(f"{self.mark}*"):
            file.unlink()


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    desk = Desk(tmp_path_factory.mktemp("live"))
    yield desk
    desk.close()


def gap(a: Image.Image, b: Image.Image) -> int:
    """Return the largest difference of two pictures in steps of 1/255."""
    return max(high for _, high in ImageChops.difference(a, b).getextrema())  # type: ignore[misc, union-attr]


@pytest.mark.parametrize(("family", "part"), CASES)
def test_every_part_is_loaded_and_changes_the_picture(desk: Desk, family: str, part: str) -> None:
    lora = desk.export(family, part)
    seed, plain = desk.plain(family)
    mark = desk.server.mark()
    changed = desk.draw(family, seed, lora)
    assert desk.server.complaints(mark) == []
    assert gap(changed, plain) > 2, f"{part} was loaded and does nothing"
    copies = [file for file in desk.server_folder.glob(f"{lora.stem}*") if file.suffix == ".safetensors"]
    assert len(copies) == 1 and copies[0].read_bytes() == lora.read_bytes(), "ComfyUI reads our file as it is"
    assert lora_layers(read_header(lora)), "and it has layers"


@pytest.mark.parametrize("family", list(FAMILIES))
def test_strength_zero_and_no_lora_are_the_same_picture(desk: Desk, family: str) -> None:
    lora = desk.export(family, "attention")
    seed, plain = desk.plain(family)
    assert gap(desk.draw(family, seed, lora, 1.0), plain) > 2
    assert gap(desk.draw(family, seed, lora, 0.0), plain) == 0, "nothing of the LoRA stays in the model"
    assert gap(desk.draw(family, seed), plain) == 0


@pytest.mark.parametrize("family", list(FAMILIES))
def test_the_log_names_each_layer_that_finds_no_place(desk: Desk, family: str) -> None:
    """What the test above relies on: a layer too many is told, key by key, and no other."""
    from safetensors.torch import load_file, save_file

    lora = desk.export(family, "attention")
    kohyas = family in ("sd15", "sdxl")
    extra = "lora_unet_down_blocks_9_attentions_0_proj_in" if kohyas else "transformer.transformer_blocks.999.attn.to_q"
    down, up = (".lora_down.weight", ".lora_up.weight") if kohyas else (".lora_A.weight", ".lora_B.weight")
    odd = lora.with_name(f"{lora.stem}-odd.safetensors")
    rows = load_file(lora) | {extra + down: torch.ones(4, 8), extra + up: torch.ones(8, 4)}
    save_file(rows, odd, read_header(lora).metadata)
    seed, _ = desk.plain(family)
    mark = desk.server.mark()
    desk.draw(family, seed, odd)
    told = desk.server.complaints(mark)
    assert {key for key in (extra + down, extra + up) if any(key in line for line in told)} == {
        extra + down,
        extra + up,
    }
    assert all(extra in line for line in told), told


@pytest.mark.parametrize("family", list(FAMILIES))
def test_both_forms_draw_the_same_picture(desk: Desk, family: str) -> None:
    """The exported file and the converted one (kohya <-> PEFT), each as the engine hands it over."""
    lora = desk.export(family, "all", size=0.2)
    to = "peft" if lora_forms.form_of(read_header(lora)) == "kohya" else "kohya"
    other = lora.with_name(f"{lora.stem}-{to}.safetensors")
    lora_forms.convert_file(lora, other, to)
    seed, plain = desk.plain(family)
    first = desk.draw(family, seed, lora)
    mark = desk.server.mark()
    second = desk.draw(family, seed, other)
    assert desk.server.complaints(mark) == []
    assert gap(first, plain) > 2 and gap(first, second) <= 2, (gap(first, plain), gap(first, second))
