"""Every family trains: two steps, saved, loaded back, and the picture changes. Tiny random models."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")

from PIL import Image  # noqa: E402
from safetensors import safe_open  # noqa: E402

from dalla.diffusion.families import family  # noqa: E402
from dalla.diffusion.loras import Loras, Use  # noqa: E402
from dalla.weights import lora_family, read_header  # noqa: E402
from tests.diffusion import tiny  # noqa: E402
from tests.diffusion.training_kit import train  # noqa: E402

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning:peft.*"),
]
NAMES = ["sd15", "sdxl", "sd3", "flux"]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("models")
    return {name: tiny.save(name, root) for name in NAMES}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three shapes, so that there are three buckets; noise, so that nothing looks alike."""
    root = tmp_path_factory.mktemp("pictures")
    rng = random.Random(1)
    for number, size in enumerate([(64, 64), (96, 64), (64, 96), (70, 70)]):
        image = Image.new("RGB", (8, 8))
        image.putdata([tuple(rng.randrange(256) for _ in range(3)) for _ in range(64)])
        image.resize(size, Image.Resampling.NEAREST).save(root / f"{number}.png")
        (root / f"{number}.txt").write_text(f"zorvex, a cat, number {number}")
    return root


def picture(name: str, model: Path, lora: Path | None) -> Any:
    """Draw with or without a LoRA in a fresh pipeline; return pixels as a tensor."""
    fam = family(name)
    pipe = fam.load_pipeline(model, torch.float32)
    pipe.set_progress_bar_config(disable=True)
    notes = Loras(pipe, fam).apply([Use("x", str(lora), 1.0)]) if lora else []
    assert not notes
    with torch.no_grad():
        encoded = fam.encode(pipe, "zorvex, a cat", "", False)
        return pipe(
            **encoded.arguments, **fam.guidance(None, None), num_inference_steps=2, width=64, height=64,
            generator=torch.Generator().manual_seed(1), output_type="pt",
        ).images  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["attention", "everything"])
def test_two_steps_saved_and_loaded_back(
    models: dict[str, Path], pictures: Path, tmp_path: Path, name: str, kind: str
) -> None:
    more: dict[str, Any] = {}
    if kind == "everything":
        more = {"targets": "full", "train_text_encoder": True, "text_encoder_learning_rate": 1e-2}
        more |= {"conv_rank": 2} if name in ("sd15", "sdxl") else {}
    ran = train(models[name], pictures, tmp_path, **more)
    header = read_header(ran.lora)
    assert lora_family(header) == name
    assert ran.last["layers"] > 0
    assert [e["step"] for e in ran.of("step")][-1] == 2
    before, after = picture(name, models[name], None), picture(name, models[name], ran.lora)
    assert (before - after).abs().max() > 1 / 255
    beside = json.loads(ran.lora.with_suffix(".json").read_text())
    assert beside["triggerWord"] == "zorvex" and beside["family"] == name
    if kind == "everything":
        keys = " ".join(header)
        assert "lora_te" in keys or "text_encoder" in keys
        assert name not in ("sd15", "sdxl") or "conv1" in keys
        with safe_open(ran.lora, "pt") as file:
            ups = {k: file.get_tensor(k) for k in file.keys() if "lora_up" in k or "lora_B" in k}  # noqa: SIM118
        assert all(torch.isfinite(u).all() for u in ups.values())
        still = [k for k, u in ups.items() if not u.any()]
        # SDXL reads the first encoder before its last layer, and a transformer's last block drops the words.
        unread = ("lora_te1_text_model_encoder_layers_1", "transformer_blocks.1.attn.add_q_proj")
        assert all(any(part in k for part in unread) for k in still), still
