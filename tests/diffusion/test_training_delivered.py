"""What a run hands over besides the numbers: the pictures of the step it delivers, and a file that says what it is."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")

from diffusers import FluxTransformer2DModel, SD3Transformer2DModel  # noqa: E402
from PIL import Image, ImageChops  # noqa: E402

from dalla.diffusion.families import family  # noqa: E402
from dalla.diffusion.training import validation  # noqa: E402
from dalla.diffusion.training.export_metadata import metadata_for  # noqa: E402
from dalla.weights import family_in_metadata, read_header  # noqa: E402
from tests.diffusion import tiny  # noqa: E402
from tests.diffusion.training_kit import AskAt, train  # noqa: E402

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning:peft.*"),
]
SAMPLES: dict[str, Any] = {"sample_every": 4, "sample_steps": 1, "sample_prompts": ["zorvex"]}
EVERY = {"count": 1, "every": 1, "timesteps": 2}


@pytest.fixture
def losses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Held-out losses in the order they are taken: the base model's, then the steps'. After the last one: 0.9."""
    left: list[float] = []

    def ask(self: validation.Questions) -> validation.Reading:
        loss = left.pop(0) if left else 0.9
        return validation.Reading({example.file: [loss] * self._timesteps * self._noises for example in self._examples})

    monkeypatch.setattr(validation.Questions, "ask", ask)
    return left


@pytest.fixture(autouse=True)
def every_step_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dalla.diffusion.training.events.STEP_LINES_PER_SECOND", 1e12)


def same(one: Path, other: Path) -> bool:
    return ImageChops.difference(Image.open(one).convert("RGB"), Image.open(other).convert("RGB")).getbbox() is None


def test_pictures_of_an_earlier_delivered_step_are_kept(
    model: Path, pictures: Path, tmp_path: Path, losses: list[float]
) -> None:
    losses += [0.9, 0.5, 0.2, 0.6, 0.8]
    ran = train(model, pictures, tmp_path, steps=4, validation=EVERY, **SAMPLES)
    assert ran.code == 0 and ran.last["step"] == 2, ran.last
    run = tmp_path / "run"
    drawn = {(e["step"], e["index"]): run / e["file"] for e in ran.of("sample")}
    assert sorted(drawn) == [(step, index) for step in (0, 2, 4) for index in (0, 1)]
    assert all(path.is_file() for path in drawn.values())
    assert sorted(p.name for p in (run / "samples").iterdir()) == sorted(p.name for p in drawn.values())
    # Every sample that the report speaks of is there, and it is what the delivered file draws, not what the last step did.
    assert {(2, row["index"]) for row in ran.last["report"]["pictures"]["nearest"]} <= drawn.keys()
    assert not same(drawn[2, 0], drawn[4, 0])
    kept = train(model, pictures, tmp_path / "short", steps=2, **{**SAMPLES, "sample_every": 2}, validation=EVERY)
    assert kept.code == 0
    assert same(drawn[2, 0], tmp_path / "short" / "run" / "samples" / "step_000002_0.png")


def test_pictures_that_were_drawn_last_are_not_drawn_again(
    model: Path, pictures: Path, tmp_path: Path, losses: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    from dalla.diffusion.training.samples import Sampler

    steps: list[Any] = []
    honest = Sampler.write

    def write(self: Any, folder: Path, step: int, prompt: Any, image: Any) -> str:
        steps.append(step)
        return honest(self, folder, step, prompt, image)

    monkeypatch.setattr(Sampler, "write", write)
    losses += [0.9, 0.5, 0.2, 0.6]
    ran = train(model, pictures, tmp_path, steps=8, validation=EVERY, early_stop=1, **{**SAMPLES, "sample_every": 2})
    assert ran.code == 0 and (ran.last["step"], ran.last["report"]["steps"]) == (2, 3)
    assert steps == [0, 0, 2, 2]  # the stop came before the next pictures were due
    assert ran.last["report"]["pictures"]["nearest"]


def test_a_run_that_goes_on_keeps_them_too(model: Path, pictures: Path, tmp_path: Path, losses: list[float]) -> None:
    options: dict[str, Any] = {"steps": 4, "validation": EVERY, **SAMPLES}
    run = tmp_path / "run"
    run.mkdir()
    losses += [0.9, 0.5, 0.2, 0.6]
    first = train(model, pictures, tmp_path, AskAt(run, {3: "cancel"}), **options)
    assert first.last["event"] == "cancelled"
    (run / "cancel").unlink()
    losses += [0.9, 0.8]
    ran = train(model, pictures, tmp_path, resume_from=str(run), **options)
    assert ran.code == 0 and ran.last["step"] == 2
    assert sorted((e["step"], e["index"]) for e in ran.of("sample")) == [(2, 0), (2, 1), (4, 0), (4, 1)]
    again = train(model, pictures, tmp_path, resume_from=str(run), **{**options, "steps": 5})
    assert again.code == 0, again.last


# ---------------------------------------------------------------- which model it is for


def sd3(**more: Any) -> Any:
    return SD3Transformer2DModel(
        sample_size=8, patch_size=2, in_channels=4, num_layers=2, attention_head_dim=8, num_attention_heads=2,
        caption_projection_dim=16, joint_attention_dim=16, pooled_projection_dim=16, out_channels=4,
        pos_embed_max_size=8, **more,
    )  # fmt: skip


def flux(guided: bool) -> Any:
    return FluxTransformer2DModel(
        in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=1,
        joint_attention_dim=16, pooled_projection_dim=16, axes_dims_rope=(4, 4, 8), guidance_embeds=guided,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("name", "transformer", "architecture", "version"),
    [
        ("sd3", lambda: sd3(), "stable-diffusion-3-medium/lora", "sd3m"),
        ("sd3", lambda: sd3(qk_norm="rms_norm", dual_attention_layers=(0,)), "stable-diffusion-3-3-5-medium/lora", "3-5-medium"),
        ("sd3", lambda: sd3(qk_norm="rms_norm"), "stable-diffusion-3-3-5-large/lora", "3-5-large"),
        ("flux", lambda: flux(True), "flux-1-dev/lora", "flux1"),
        ("flux", lambda: flux(False), "flux-1-schnell/lora", "flux1"),
    ],
    ids=["3 medium", "3.5 medium", "3.5 large", "dev", "schnell"],
)  # fmt: skip
def test_the_texts_name_the_model_it_was_trained_on(
    name: str, transformer: Any, architecture: str, version: str
) -> None:
    pipe = SimpleNamespace(transformer=transformer())
    texts = metadata_for({"name": "x"}, {"pictures": []}, name, variant=family(name).variant(pipe))
    assert (texts["modelspec.architecture"], texts["ss_base_model_version"]) == (architecture, version)
    assert family_in_metadata(texts) == name
    assert family_in_metadata({k: v for k, v in texts.items() if k != "dalla.family"}) == name


@pytest.mark.parametrize(("name", "architecture"), [("sd3", "stable-diffusion-3/lora"), ("flux", "flux-1/lora")])
def test_a_model_that_is_not_known_is_not_guessed(name: str, architecture: str) -> None:
    assert metadata_for({"name": "x"}, {"pictures": []}, name)["modelspec.architecture"] == architecture


def test_a_lora_of_schnell_says_so_and_a_checkpoint_says_its_own_name(pictures: Path, tmp_path: Path) -> None:
    torch.manual_seed(11)
    pipe = tiny.flux()
    pipe.transformer = FluxTransformer2DModel.from_config(dict(pipe.transformer.config) | {"guidance_embeds": False})
    pipe.save_pretrained(tmp_path / "schnell")
    ran = train(tmp_path / "schnell", pictures, tmp_path, steps=2, save_every=1)
    assert ran.code == 0, ran.last
    files = {e["step"]: tmp_path / "run" / e["file"] for e in ran.of("checkpoint")}
    assert sorted(files) == [1, 2]
    for path in (ran.lora, *files.values()):
        texts = read_header(path).metadata
        assert texts["modelspec.architecture"] == "flux-1-schnell/lora"
        assert texts["ss_output_name"] == texts["modelspec.title"] == path.stem
    assert ran.lora.stem == "tiny" and files[1].stem == "tiny-000001"
    delivered, early = (read_header(path).metadata for path in (ran.lora, files[1]))
    for key in ("dalla.dataset_sha256", "dalla.config_sha256"):
        assert delivered[key] == early[key]
    assert json.loads(ran.lora.with_suffix(".json").read_text())["configSha256"] == delivered["dalla.config_sha256"]
