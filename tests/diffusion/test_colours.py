"""The starter model's attribute test: what is read off a picture, whose model is measured, what a bad LoRA does to it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")

from PIL import Image  # noqa: E402

from dalla.diffusion.training import colours, report, resemblance, setup  # noqa: E402
from dalla.diffusion.training.choice import Choice  # noqa: E402
from dalla.diffusion.training.events import Controls, Events  # noqa: E402
from dalla.diffusion.training.loop import Loop  # noqa: E402
from tests.diffusion import character, tiny  # noqa: E402
from tests.diffusion.training_kit import config  # noqa: E402

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning:peft.*"),
]
STARTER = Path(__file__).parents[2] / "models" / "starter"


def person(asked: colours.Asked, size: int = colours.SIZE) -> Image.Image:
    """A picture with the colours in the places of the test, and skin everywhere else."""
    image = Image.new("RGB", (colours.SIZE, colours.SIZE), (246, 205, 172))
    for places, colour in (
        (colours.BACKGROUND_PLACES, colours.COLOURS[asked.background]),
        ((*colours.HAIR_PLACES, *colours.LEFT_HAIR, *colours.RIGHT_HAIR), colours.HAIR[asked.hair]),
        (colours.CLOTHES_PLACES, colours.COLOURS[asked.clothes]),
    ):
        for place in places:
            image.paste(colour, place)
    return image.resize((size, size), Image.Resampling.NEAREST)


# ---------------------------------------------------------------- reading


def test_every_colour_is_read_where_it_was_asked_for_and_nowhere_else() -> None:
    every = ("background", "hair", "clothes")
    right = [person(asked) for asked in colours.ASKED]
    count = len(colours.ASKED)
    assert colours.tally(right, colours.ASKED, every) == {name: (count, count) for name in every}
    assert colours.tally([person(a, 256) for a in colours.ASKED], colours.ASKED, every)["hair"] == (count, count)
    others = [*right[1:], right[0]]
    assert colours.tally(others, colours.ASKED, every) == {name: (0, count) for name in every}


def test_the_hair_of_a_set_is_what_most_pictures_agree_on() -> None:
    half = person(colours.ASKED[0])
    half.paste(colours.HAIR["green"], colours.LEFT_HAIR[0])
    half.paste(colours.HAIR["purple"], colours.RIGHT_HAIR[0])
    other = person(colours.ASKED[1])
    assert colours.common_hair([half, half, half, other]) == ("green", "purple")
    assert colours.common_hair([half, half, half]) is None, "three pictures are too few"
    assert colours.common_hair([person(asked) for asked in colours.ASKED]) is None, "they do not agree"


def test_prompts_leave_the_hair_to_the_trigger_word() -> None:
    asked = colours.ASKED[0]
    assert "long blonde hair" in asked.plain() and asked.plain().endswith("wearing a blue t-shirt, green background")
    assert asked.named("ohwx", "woman") == "ohwx, woman, wearing a blue t-shirt, green background"
    assert asked.named("ohwx", "").startswith("ohwx, wearing")


# ---------------------------------------------------------------- what it means


def reading(base: int, lora: int, background: int = 4, clothes: int = 4, *, sound: bool = True) -> dict[str, Any]:
    def split(right: int) -> dict[str, tuple[int, int]]:
        counts = [min(4, right), min(4, max(0, right - 4)), max(0, right - 8)]
        return {name: (n, 4) for name, n in zip(("background", "hair", "clothes"), counts, strict=True)}

    return {"measured": True, "trigger": True, "sound": sound, "base": split(base), "lora": split(lora), "hair": None,
            "withTrigger": {"background": (background, 4), "clothes": (clothes, 4)}}  # fmt: skip


def test_the_verdict_names_only_what_chance_does_not_explain() -> None:
    assert colours.hints(reading(12, 12)) == colours.hints(reading(12, 9)) == []
    (told,) = colours.hints(reading(12, 6))
    assert "6 of 12" in told and "12 of 12" in told and "without the trigger word" in told
    (told,) = colours.hints(reading(12, 12, background=1, clothes=2))
    assert told.startswith("With the trigger word")
    assert colours.hints(reading(12, 0, sound=False)) == []
    notes = colours.hints(reading(12, 6))
    verdict = report.verdict(Choice(1, False, ""), {}, {"colours": {**reading(12, 6), "notes": notes}}, True)
    assert verdict["hints"] == notes


# ---------------------------------------------------------------- whose model it is


def test_the_starter_model_is_known_by_what_it_is(tmp_path: Path) -> None:
    from transformers import CLIPTokenizer

    own = SimpleNamespace(tokenizer=CLIPTokenizer.from_pretrained(STARTER / "tokenizer"))
    assert colours.is_starter(own, "sd15", 128) and colours.is_starter(own, "sd15", 256)
    assert not colours.is_starter(own, "sd15", 512)
    assert not colours.is_starter(SimpleNamespace(tokenizer=tiny.clip_tokenizer()), "sd15", 64)
    words = {word: n for n, word in enumerate(own.tokenizer.get_vocab())}
    words.pop("teal</w>")
    unknown = SimpleNamespace(tokenizer=SimpleNamespace(get_vocab=lambda: words))
    assert not colours.is_starter(unknown, "sd15", 128), "it has no word for one of the colours"


# ---------------------------------------------------------------- a run


@pytest.fixture(scope="module")
def loop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loop]:
    """A run on the starter model before its first step; the LoRA changes nothing yet."""
    root = tmp_path_factory.mktemp("starter")
    settings = config(
        STARTER, character.write(root / "luna", 4), root, trigger_word=character.TRIGGER, class_word="woman",
        resolution=64, bucket_step=16, targets="full",
    )  # fmt: skip
    prepared = setup.prepare(settings, lambda *a, **k: None)
    loaded = setup.load(prepared, lambda *a, **k: None)
    yield Loop(prepared, loaded, Events(None), Controls(None), None)


def test_a_run_on_the_starter_model_tells_whether_prompts_are_followed(loop: Loop) -> None:
    found = report.samples(loop, {})["colours"]
    assert found["measured"] and found["sound"] and found["trigger"]
    assert found["base"] == found["lora"], "a LoRA of zeros changes no picture"
    right = sum(n for n, _ in found["base"].values())
    assert right >= 11, found
    assert all(of == len(colours.ASKED) for _, of in found["base"].values())
    assert set(found["withTrigger"]) == {"background", "clothes"}
    assert (found["hair"]["left"], found["hair"]["right"]) == ("green", "purple")
    assert found["hair"]["agree"] == 0, "the base model does not know this hair"
    assert f"{right} of 12 colours are as asked for" in found["text"] and "(green and purple)" in found["text"]
    assert found["notes"] == []


def test_a_lora_that_ruins_the_model_is_seen_and_told(loop: Loop) -> None:
    generator = torch.Generator().manual_seed(1)
    kept = loop.loaded.adapters.snapshot()
    loop.loaded.adapters.restore({k: torch.randn(v.shape, generator=generator) for k, v in kept.items()})
    try:
        found = colours.of_run(loop)
    finally:
        loop.loaded.adapters.restore(kept)
    assert found is not None and found["sound"], "the base model is drawn without the LoRA"
    assert sum(n for n, _ in found["lora"].values()) <= 6, found
    assert any("are followed less than before" in note for note in found["notes"])


def test_what_cannot_be_drawn_costs_one_reading_and_not_the_run(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*args: Any, **options: Any) -> Any:
        raise RuntimeError("no memory left")

    monkeypatch.setattr(loop.loaded.sampler, "draw", fails)
    found = colours.of_run(loop)
    assert found is not None and found["measured"] is False and "no memory left" in found["text"]
    assert report.verdict(Choice(1, False, ""), {}, {"colours": found}, True)["hints"] == []


# ---------------------------------------------------------------- copies, nearest pictures, drift


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Loop:
    """A run on a tiny random model, whose VAE encodes the pictures all the same."""
    root = tmp_path_factory.mktemp("small")
    model = tiny.save("sd15", root)
    settings = config(
        model, character.write(root / "set", 5), root, trigger_word=character.TRIGGER, sample_prompts=["[trigger], red"]
    )
    prepared = setup.prepare(settings, lambda *a, **k: None)
    return Loop(prepared, setup.load(prepared, lambda *a, **k: None), Events(None), Controls(None), None)


def stranger(seed: int) -> Image.Image:
    torch.manual_seed(seed)
    return Image.fromarray((torch.rand(64, 64, 3) * 255).to(torch.uint8).numpy())


def of_training(loop: Loop, number: int) -> Image.Image:
    with Image.open(Path(loop.config.dataset_folder) / loop.prepared.train[number].file) as image:
        return image.convert("RGB").resize((64, 64), Image.Resampling.LANCZOS)


def test_a_training_picture_that_comes_out_again_is_a_copy_and_another_picture_is_not(small: Loop) -> None:
    small.base_samples = {0: stranger(1), 1: stranger(2)}
    found = report.samples(small, {0: of_training(small, 2), 1: stranger(3)})
    copy, other = found["nearest"]
    assert copy["index"] == 0 and copy["file"] == small.loaded.train[2].file
    assert copy["copy"] is True and copy["similarity"] > report.COPY
    assert other["index"] == 1 and other["copy"] is False and other["similarity"] < report.COPY
    assert found["copies"] == 1
    hints = report.verdict(Choice(1, False, ""), {}, found, True)["hints"]
    assert any("nearly copies" in hint for hint in hints)
    assert "colours" not in found, "only the starter model is measured by its colours"


def test_strangers_are_no_copies_and_the_similarity_says_which_is_nearer(small: Loop) -> None:
    small.base_samples = {0: stranger(1), 1: stranger(2)}
    apart = report.samples(small, {0: stranger(3), 1: stranger(4)})
    assert apart["copies"] == 0 and not any(row["copy"] for row in apart["nearest"])
    near = report.samples(small, {0: of_training(small, 0), 1: stranger(2)})
    assert near["similarity"]["lora"] > near["similarity"]["base"] + 0.3
    assert near["similarity"]["lora"] > apart["similarity"]["lora"]
    assert -1 <= near["similarity"]["trainingAmongThemselves"] <= 1


def test_pictures_that_are_all_alike_make_no_copy_of_a_picture_that_is_as_near(
    small: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Training pictures that differ little: only what is nearer than they are to each other counts."""
    small.base_samples = {0: stranger(1)}
    alike = {"a": 0.0, "b": 0.16, "twin of b": 0.16}  # angles: cosine 0.987 between a and b

    def place(angle: float) -> Any:
        return torch.tensor([torch.cos(torch.tensor(angle)), torch.sin(torch.tensor(angle)), 0.0])

    train = torch.stack([place(angle) for angle in alike.values()])
    before = -train.mean(0)  # so that the view is from the origin
    rows = iter([*train])
    sample = {"angle": 0.0}
    monkeypatch.setattr(resemblance, "pooled", lambda latents: next(rows))
    monkeypatch.setattr(
        resemblance, "_vector", lambda vae, image: before if image is small.base_samples[0] else place(sample["angle"])
    )
    monkeypatch.setattr(small.loaded, "train", [SimpleNamespace(latents=None, file=name) for name in alike])
    monkeypatch.setattr(report.likeness, "of_samples", lambda loop, final: {})
    for angle, copies in ((-0.2, 0), (-0.05, 1)):  # 0.980 and 0.999 from a; a and b are at 0.987
        rows, sample["angle"] = iter([*train]), angle
        found = report.samples(small, {0: stranger(5)})
        assert (found["copies"], found["nearest"][0]["file"]) == (copies, "a"), (angle, found)


def test_the_drift_is_told_apart_by_the_trigger_word(small: Loop) -> None:
    black, grey, white = (Image.new("RGB", (64, 64), (n, n, n)) for n in (0, 51, 255))
    assert [p.with_trigger for p in small.loaded.sampler.prompts] == [True, False]
    small.base_samples = {0: black, 1: black}
    found = report.samples(small, {0: white, 1: grey})
    assert found["drift"] == {"withTrigger": 1.0, "withoutTrigger": 0.2}
