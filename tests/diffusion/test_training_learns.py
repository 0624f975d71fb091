"""Learning itself: the demo character, the starter model, the CPU. Not "it ran": it learned."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")

from dalla.diffusion.families import family  # noqa: E402
from dalla.diffusion.loras import Loras, Use  # noqa: E402
from dalla.diffusion.sampling import build_scheduler  # noqa: E402
from dalla.diffusion.training.run import run  # noqa: E402
from dalla.records.training import TrainingConfig  # noqa: E402
from tests.diffusion import character  # noqa: E402
from tests.diffusion.training_kit import Ran  # noqa: E402

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),  # half a minute of one CPU, however busy the machine is
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning:peft.*"),
]
ROOT = Path(__file__).parents[2]
STARTER, DEMO = ROOT / "models" / "starter", ROOT / "training_data" / "demo"
PROMPTS = [
    f"{character.TRIGGER}, a woman, smiling, wearing a red hoodie, blue background",
    f"{character.TRIGGER}, a woman, surprised, wearing a yellow t-shirt, gray background",
    f"{character.TRIGGER}, a woman, neutral expression, wearing a white sweater, orange background",
    f"{character.TRIGGER}, a woman, smiling, wearing a blue sweater, pink background",
    f"{character.TRIGGER}, a woman, smiling, wearing a teal t-shirt, white background",
    f"{character.TRIGGER}, a woman, neutral expression, wearing an orange hoodie, teal background",
]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """The demo character with the quick preset, as a newcomer trains her."""
    root = tmp_path_factory.mktemp("luna")
    demo = shutil.copytree(DEMO, root / "demo", ignore=shutil.ignore_patterns(".*"))
    events: list[dict[str, Any]] = []
    code = run(
        TrainingConfig(
            name="luna", base_model=str(STARTER), dataset_folder=str(demo), run_folder=str(root / "run"),
            output_folder=str(root / "loras"), trigger_word=character.TRIGGER, class_word="woman", preset="quick",
            sample_every=0, device="cpu", validation={"count": 2, "every": 60, "timesteps": 4, "noises": 2},
        ),
        listener=events.append,
    )  # fmt: skip
    return Ran(code, events, root)


def test_the_error_on_pictures_it_never_saw_falls(trained: Ran) -> None:
    assert trained.code == 0, trained.last
    held = trained.last["report"]["readings"]["heldOut"]
    assert held["change"] < -0.4, held
    assert held["improved"] > 0.9 * held["pairs"] and held["pValue"] < 0.001
    assert held["picturesImproved"] == held["pictures"] == 2
    verdict = trained.last["report"]["verdict"]
    assert (verdict["level"], verdict["evidence"]) == ("learned", "little")
    told = trained.of("validation")
    assert told[0]["step"] == 0 and told[0]["loss"] == told[0]["base"]
    assert len(told[0]["perPicture"]) == 2


def test_the_delivered_checkpoint_is_the_last_or_the_lowest(trained: Ran) -> None:
    readings = {e["step"]: e["loss"] for e in trained.of("validation") if e["step"]}
    assert list(readings) == [60, 120]
    lowest = min(readings, key=lambda step: readings[step])
    assert trained.last["step"] in (120, lowest)
    assert trained.last["best"] == (trained.last["step"] == lowest)
    assert trained.last["report"]["verdict"]["recommendedStep"] == trained.last["step"]
    assert [e["step"] for e in trained.of("checkpoint") if e["best"]][-1] == lowest


def test_the_report_sees_the_new_hair_with_the_trigger_word(trained: Ran) -> None:
    found = trained.last["report"]["pictures"]["colours"]
    assert found["measured"] and found["sound"]
    assert sum(right for right, _ in found["base"].values()) >= 11, found
    assert (found["hair"]["left"], found["hair"]["right"]) == ("green", "purple")
    assert found["hair"]["agree"] >= 3, found
    assert found["withTrigger"]["background"][0] >= 2, found
    assert all(note in trained.last["report"]["verdict"]["hints"] for note in found["notes"])


def test_the_hair_of_the_same_seeds_turns(trained: Ran) -> None:
    fam = family("sd15")
    pipe = fam.load_pipeline(STARTER, torch.float32)
    pipe.set_progress_bar_config(disable=True)
    pipe.scheduler = build_scheduler(dict(pipe.scheduler.config), "uni_pc", "normal", family="sd15", flow=False)
    loras = Loras(pipe, fam)

    def turned(uses: list[Use]) -> int:
        assert loras.apply(uses) == []
        count = 0
        for number, prompt in enumerate(PROMPTS):
            arguments: dict[str, Any] = fam.encode(pipe, prompt, "", True).arguments
            with torch.inference_mode():
                image = pipe(
                    **arguments, guidance_scale=4.0, num_inference_steps=10, width=128, height=128,
                    generator=torch.Generator().manual_seed(100 + number),
                ).images[0]  # fmt: skip
            left, right = character.hair(image)
            count += left + right
        return count

    before = turned([])
    after = turned([Use("luna", str(trained.lora), 1.0)])
    assert before <= 3, "the base model does not draw this hair"
    assert after >= 8, f"{after} of 12 sides turned, {before} before"
