"""What the converter writes is the LoRA: every layer of the models has its name, and the pictures stay the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")

import diffusers  # noqa: E402
from safetensors.torch import load_file  # noqa: E402

from dalla import lora_forms, lora_names  # noqa: E402
from dalla.diffusion import kohya  # noqa: E402
from dalla.diffusion.families import family  # noqa: E402
from dalla.diffusion.families.base import CONFIGS  # noqa: E402
from dalla.diffusion.loras import Loras, Use  # noqa: E402
from dalla.diffusion.training import export  # noqa: E402
from dalla.weights import read_header  # noqa: E402
from tests.diffusion.test_export import FAMILIES, attach, draw, gap, make  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


@pytest.mark.parametrize("name", FAMILIES)
def test_every_layer_of_the_full_model_is_found_by_its_flat_name(name: str) -> None:
    folder = "unet" if name in ("sd15", "sdxl") else "transformer"
    file = CONFIGS / name / folder / "config.json"
    config = json.loads(file.read_text("utf-8")) if name != "flux" else {"guidance_embeds": True}
    with torch.device("meta"):
        model = getattr(diffusers, config.get("_class_name", "FluxTransformer2DModel")).from_config(config)
    layers = [p for p, m in model.named_modules() if isinstance(m, torch.nn.Linear | torch.nn.Conv2d)]
    assert len(layers) > 150
    assert [p for p in layers if lora_names.dotted(p.replace(".", "_")) != p] == []
    trained = [p for p in layers if any(p == t or p.endswith(f".{t}") for t in family(name).lora.full)]
    assert len(trained) > 150
    for path in trained:
        named = lora_names.kohya_name(folder, path, name)
        assert named is not None, path
        flat, place, whole = named
        assert whole[place] == path
        assert lora_names.modules_of(flat, name) == (folder, whole), path


@pytest.mark.parametrize(
    ("name", "which", "dora"),
    [
        ("sd15", "conv", False),
        ("sdxl", "all", False),
        ("sd3", "all", False),
        ("flux", "all", False),
        ("sd15", "full", True),
    ],
)
def test_the_picture_stays_the_same_in_the_other_form(tmp_path: Path, name: str, which: str, dora: bool) -> None:
    layout = family(name).lora
    pipe = make(name)
    attach(pipe, name, which, alpha=2, use_dora=dora)
    trained = draw(pipe)
    source, other, back = (tmp_path / f"{n}.safetensors" for n in ("a", "b", "c"))
    texts = export.metadata_for({"name": "luna", "trigger_word": "luna"}, {}, name)
    export.save_lora(source, pipe, layout=layout, dtype="fp32", metadata=texts)
    to = "peft" if layout.style == "kohya" else "kohya"
    lora_forms.convert_file(source, other, to)
    assert lora_forms.form_of(read_header(other)) == to
    fresh: Any = make(name)
    # diffusers reads PEFT's form by itself; kohya's of small transformers only with their sizes known
    fresh.load_lora_weights(str(other) if to == "peft" else kohya.to_peft(load_file(other), fresh))
    assert gap(draw(fresh), trained) <= 1
    lora_forms.convert_file(other, back, "kohya" if to == "peft" else "peft")
    assert back.read_bytes() == source.read_bytes()


@pytest.mark.parametrize("name", ["sd15", "flux"])
def test_a_scale_that_stands_in_diffusers_texts_is_applied(tmp_path: Path, name: str) -> None:
    """diffusers' own scripts write alpha into the header's texts only; other programs, and tensors alone, lose it."""
    from peft import get_peft_model_state_dict

    denoiser = family(name).lora.denoiser
    pipe = make(name)
    attach(pipe, name, "attention", alpha=1)
    trained, part = draw(pipe), getattr(pipe, denoiser)
    rows = {f"{denoiser}_lora_layers": get_peft_model_state_dict(part, adapter_name="trained")}
    texts = {f"{denoiser}_lora_adapter_metadata": part.peft_config["trained"].to_dict()}
    pipe.save_lora_weights(tmp_path, **rows, **texts)
    path = tmp_path / "pytorch_lora_weights.safetensors"
    assert "lora_alpha" in read_header(path).metadata["lora_adapter_metadata"]
    fresh = make(name)
    assert Loras(fresh, family(name)).apply([Use("x", str(path), 1.0)]) == []
    assert gap(draw(fresh), trained) <= 1
    strong = make(name)
    strong.load_lora_weights(load_file(path))  # the same tensors without their texts: four times as strong
    assert gap(draw(strong), trained) > 2
