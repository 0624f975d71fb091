"""The parts of the trainer one by one: objectives, order, captions, caches, optimizers, layers.

Among them are the defects known from other trainers: gradients that are never clipped, bf16 layers that do not
move, captions of other pictures, caches that outlive their picture.
"""

from __future__ import annotations

import random
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")

from PIL import Image  # noqa: E402
from safetensors.torch import load_file  # noqa: E402

from dalla import training_set  # noqa: E402
from dalla.diffusion.training import dataset, optimizers, report, validation  # noqa: E402
from dalla.diffusion.training import loop as loop_module  # noqa: E402
from dalla.diffusion.training.adapters import Adapters, Average  # noqa: E402
from dalla.diffusion.training.choice import Choice, choose  # noqa: E402
from dalla.diffusion.training.objective import Discrete, Flow, item_losses  # noqa: E402
from dalla.diffusion.training.samples import prompts_for, without_word  # noqa: E402
from dalla.diffusion.training.setup import swap  # noqa: E402
from dalla.errors import InvalidInput  # noqa: E402
from dalla.records.training import TrainingConfig  # noqa: E402
from tests.diffusion import tiny  # noqa: E402
from tests.diffusion.training_kit import config, load, train  # noqa: E402

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning:peft.*"),
]


def write_noise(path: Path, seed: int, mode: str = "RGB") -> None:
    rng = random.Random(seed)
    image = Image.new("RGB", (8, 8))
    image.putdata([tuple(rng.randrange(256) for _ in range(3)) for _ in range(64)])
    image.resize((64, 64), Image.Resampling.NEAREST).convert(mode).save(path)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    root = tmp_path / "pictures"
    root.mkdir()
    for number in range(5):
        write_noise(root / f"{number}.png", number)
        (root / f"{number}.txt").write_text(f"zorvex, a cat, number {number}")
    return root


# ---------------------------------------------------------------- what is predicted


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
def test_the_target_is_what_the_models_scheduler_says(prediction: str) -> None:
    """From the target and the noisy latents, the clean ones come back."""
    objective = Discrete({**tiny.BETAS, "num_train_timesteps": 1000, "prediction_type": prediction})
    clean, noise = torch.randn(3, 8, 4, 4), torch.randn(3, 8, 4, 4)
    levels = torch.tensor([10, 500, 900])
    made = objective.noise(clean, levels, noise)
    products = (1 - torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2).cumprod(0)
    a = products.sqrt()[levels].float().view(-1, 1, 1, 1)
    s = (1 - products).sqrt()[levels].float().view(-1, 1, 1, 1)
    assert torch.allclose(made.noisy, a * clean + s * noise, atol=1e-4)
    back = {
        "epsilon": lambda: (made.noisy - s * made.target) / a,
        "v_prediction": lambda: a * made.noisy - s * made.target,
        "sample": lambda: made.target,
    }[prediction]()
    assert torch.allclose(back, clean, atol=1e-3)


def test_min_snr_weights() -> None:
    for prediction, expected in (
        ("epsilon", lambda snr: min(snr, 5) / snr),
        ("v_prediction", lambda snr: min(snr, 5) / (snr + 1)),
    ):
        objective = Discrete({**tiny.BETAS, "prediction_type": prediction}, min_snr_gamma=5.0)
        plain = Discrete({**tiny.BETAS, "prediction_type": prediction})
        for t in (1, 300, 999):
            signal, noise = float(objective._signal[t]) ** 2, float(objective._noise[t]) ** 2
            level = torch.tensor([t])
            weight = objective.noise(torch.zeros(1, 4, 2, 2), level, torch.zeros(1, 4, 2, 2)).weight
            assert float(weight) == pytest.approx(expected(signal / noise), rel=1e-3)
            assert float(plain.noise(torch.zeros(1, 4, 2, 2), level, torch.zeros(1, 4, 2, 2)).weight) == 1


def test_zero_terminal_snr_is_read_and_finite() -> None:
    values = {**tiny.BETAS, "prediction_type": "v_prediction", "rescale_betas_zero_snr": True}
    objective = Discrete(values, min_snr_gamma=5.0)
    clean, noise = torch.randn(1, 4, 2, 2), torch.randn(1, 4, 2, 2)
    made = objective.noise(clean, torch.tensor([999]), noise)
    assert torch.allclose(made.noisy, noise, atol=1e-3)  # nothing of the picture is left
    assert torch.isfinite(made.weight).all() and torch.allclose(made.target, -clean, atol=1e-3)


def test_noise_offset_shifts_whole_channels_and_only_in_training() -> None:
    objective = Discrete({**tiny.BETAS}, noise_offset=0.5)
    clean = torch.zeros(2, 4, 8, 8)
    noise = torch.zeros_like(clean)
    level = torch.tensor([500, 500])
    shifted = objective.noise(clean, level, noise, torch.Generator().manual_seed(1)).target
    assert shifted.abs().sum() > 0 and torch.equal(shifted, shifted[..., :1, :1].expand_as(shifted))
    assert objective.noise(clean, level, noise).target.abs().sum() == 0


def test_an_unknown_prediction_is_refused() -> None:
    with pytest.raises(InvalidInput):
        Discrete({**tiny.BETAS, "prediction_type": "banana"})


def test_flow_matching_is_a_straight_line_with_the_models_shift() -> None:
    flow = Flow({"shift": 3.0})
    clean, noise = torch.randn(2, 4, 8, 8), torch.randn(2, 4, 8, 8)
    sigma = torch.tensor([0.25, 1.0])
    made = flow.noise(clean, sigma, noise)
    assert torch.allclose(made.noisy - sigma.view(-1, 1, 1, 1) * made.target, clean, atol=1e-6)
    assert torch.allclose(made.noisy[1], noise[1])
    assert flow.fixed_levels(1, (8, 8))[0] == pytest.approx(0.75)  # 3 x .5 / (1 + 2 x .5)
    assert Flow({"shift": 3.0}, shift=1.0).fixed_levels(1, (8, 8))[0] == pytest.approx(0.5)


def test_flow_levels_follow_the_size_where_the_model_wants_it() -> None:
    values = {"use_dynamic_shifting": True, "base_shift": 0.5, "max_shift": 1.15, "base_image_seq_len": 256,
              "max_image_seq_len": 4096}  # fmt: skip
    flow = Flow(values)
    assert flow.shift_for((32, 32)) == pytest.approx(1.6487, rel=1e-3)  # 256 tokens: e^0.5
    assert flow.shift_for((128, 128)) == pytest.approx(3.158, rel=1e-3)  # 4096 tokens, a 1024 px picture
    generator = torch.Generator().manual_seed(1)
    small = flow.sample_levels(4000, (32, 32), generator)
    large = flow.sample_levels(4000, (128, 128), generator)
    assert large.mean() > small.mean() + 0.05 and large.max() <= 1 and small.min() > 0


@pytest.mark.parametrize("sampling", ["auto", "uniform", "sigmoid", "logit_normal", "shift"])
def test_flow_samplings(sampling: str) -> None:
    flow = Flow({"shift": 1.0}, sampling=sampling)
    levels = flow.sample_levels(4000, (8, 8), torch.Generator().manual_seed(1))
    middle = float(((levels > 0.25) & (levels < 0.75)).float().mean())
    assert middle == pytest.approx(0.5 if sampling in ("uniform", "shift") else 0.73, abs=0.03)


def test_masked_places_do_not_count() -> None:
    target = torch.zeros(1, 4, 2, 2)
    out = torch.zeros(1, 4, 2, 2)
    out[..., 0] = 10.0  # wrong on the left only
    mask = torch.zeros(1, 1, 2, 2)
    mask[..., 1] = 1.0
    assert float(item_losses(out, target, mask)) == 0
    assert float(item_losses(out, target, 1 - mask)) == 100
    assert float(item_losses(out, target)) == 50


# ---------------------------------------------------------------- pictures and captions


def example(name: str, shape: tuple[int, int] = (8, 8), repeats: int = 1) -> dataset.Example:
    return dataset.Example(name, name, [f"caption of {name}"], torch.zeros(4, *shape), None, torch.zeros(6), repeats)


def test_every_picture_is_in_every_epoch_and_buckets_do_not_mix() -> None:
    examples = [*(example(f"a{n}") for n in range(5)), example("b", (4, 8)), example("c", (8, 4), repeats=3)]
    batches = dataset.Batches(examples, 4, seed=1)
    assert batches.per_epoch == 2 + 1 + 1
    epochs = []
    for epoch in range(3):
        seen = []
        for number in range(batches.per_epoch):
            batch = batches.batch(epoch * batches.per_epoch + number)
            assert len({e.shape for e in batch}) == 1 and 1 <= len(batch) <= 4
            seen += [e.file for e in batch]
        assert sorted(seen) == sorted([*(f"a{n}" for n in range(5)), "b", "c", "c", "c"])
        epochs.append(seen)
    assert epochs[0] != epochs[1]


def test_the_order_does_not_depend_on_who_asks_first() -> None:
    examples = [example(str(n)) for n in range(7)]
    one, two = dataset.Batches(examples, 2, seed=3), dataset.Batches(examples, 2, seed=3)
    late = [e.file for e in one.batch(25)]
    for number in range(25):
        two.batch(number)
    assert [e.file for e in two.batch(25)] == late
    other = dataset.Batches(examples, 2, seed=4)
    assert [[e.file for e in other.batch(n)] for n in range(4)] != [[e.file for e in one.batch(n)] for n in range(4)]


def test_pictures_set_aside_are_not_copies_of_trained_ones() -> None:
    rows = [
        training_set.SetPicture(file=f"{n}.png", width=8, height=8, caption="", caption_source="none", bucket=(8, 8),
                                box=(0, 0, 8, 8), duplicate_of="0.png" if n in (1, 2) else None)
        for n in range(8)
    ]  # fmt: skip
    for seed in range(10):
        train_rows, held = dataset.hold_out(rows, 4, seed)
        assert len(held) == 4 and len(train_rows) == 4
        assert not {p.file for p in held} & {"0.png", "1.png", "2.png"}
    assert dataset.hold_out(rows, 2, 5) == dataset.hold_out(rows, 2, 5)


def test_a_copy_of_a_copy_is_not_set_aside_either(tmp_path: Path) -> None:
    for number in range(4):
        write_noise(tmp_path / f"{number}.png", number)
    Image.open(tmp_path / "0.png").save(tmp_path / "like-0.bmp")
    shutil.copy(tmp_path / "like-0.bmp", tmp_path / "like-0-again.bmp")
    shutil.copy(tmp_path / "0.png", tmp_path / "zero.png")
    found = training_set.scan(tmp_path, resolution=64, bucket_step=16).pictures
    twins = {p.file: p.duplicate_of for p in found if p.duplicate_of}
    assert twins == {"like-0-again.bmp": "0.png", "like-0.bmp": "like-0-again.bmp", "zero.png": "0.png"}
    for seed in range(10):
        train_rows, held = dataset.hold_out(found, 4, seed)
        assert sorted(p.file for p in held) == ["1.png", "2.png", "3.png"] and len(train_rows) == 4


def test_every_latent_meets_its_own_caption(
    model: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Known defect of trainers that cache in one order and read in another."""
    pairs: list[tuple[Any, list[str]]] = []
    honest_noise, honest_texts = Discrete.noise, dataset.Texts.batch

    def noise(self: Any, latents: Any, levels: Any, noise: Any, generator: Any = None) -> Any:
        if generator is not None:
            pairs.append((latents.clone(), []))
        return honest_noise(self, latents, levels, noise, generator)

    def texts(self: Any, captions: list[str]) -> Any:
        if torch.is_grad_enabled() and pairs:
            pairs[-1][1].extend(captions)
        return honest_texts(self, captions)

    encoded: dict[str, Any] = {}
    honest_load = loop_module.Loop.__init__

    def init(self: Any, prepared: Any, loaded: Any, *rest: Any) -> None:
        encoded.update({e.captions[0]: e.latents for e in loaded.train})
        honest_load(self, prepared, loaded, *rest)

    monkeypatch.setattr(Discrete, "noise", noise)
    monkeypatch.setattr(dataset.Texts, "batch", texts)
    monkeypatch.setattr(loop_module.Loop, "__init__", init)
    assert train(model, pictures, tmp_path, steps=6, batch_size=2).code == 0
    assert len(pairs) == 6 and len(encoded) == 5
    seen = [(latents, caption) for batch, captions in pairs for latents, caption in zip(batch, captions, strict=True)]
    assert len(seen) == 10 and all(torch.equal(latents, encoded[caption]) for latents, caption in seen)
    numbers = {caption[-1] for _, caption in seen}
    # And the encoded latents belong to the file of that number: encode one again by hand.
    from diffusers import AutoencoderKL

    vae = AutoencoderKL.from_pretrained(model / "vae")
    import numpy

    for number in sorted(numbers)[:2]:
        image = Image.open(pictures / f"{number}.png").convert("RGB")
        pixels = torch.from_numpy(numpy.asarray(image).copy()).permute(2, 0, 1)[None].float() / 127.5 - 1
        with torch.no_grad():
            own = vae.encode(pixels).latent_dist.mode()[0] * vae.config.scaling_factor
        assert torch.allclose(own, encoded[f"zorvex, a cat, number {number}"], atol=1e-4)


def test_the_cache_follows_content_and_heals(
    model: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = dataset._encode
    encoded: list[str] = []

    def encode(vae: Any, path: Path, picture: Any, device: str) -> Any:
        encoded.append(path.name)
        return honest(vae, path, picture, device)

    monkeypatch.setattr(dataset, "_encode", encode)

    def run(number: int, **changes: Any) -> list[str]:
        encoded.clear()
        loaded = load(model, pictures, tmp_path / str(number), cache_to_disk=True, **changes)
        assert all(torch.isfinite(e.latents).all() for e in loaded.train) and len(loaded.train) == 5
        return sorted(encoded)

    names = [f"{n}.png" for n in range(5)]
    assert run(1) == names
    assert run(2) == []
    write_noise(pictures / "3.png", 99)  # another picture under the same name
    (pictures / "2.txt").write_text("zorvex, another caption")
    assert run(3) == ["3.png"]
    assert run(4, resolution=96, bucket_step=32) == names
    for entry in (pictures / dataset.CACHE_FOLDER).glob("latents-*"):
        entry.write_bytes(entry.read_bytes()[:40])
    assert run(5) == names
    assert len(training_set.scan(pictures, resolution=64).pictures) == 5, "the cache is no training data"


def test_orders_of_a_caption_keep_the_front_and_all_words() -> None:
    found = dataset.orders("luna, a, b, c, d", 1, random.Random(1))
    assert found[0] == "luna, a, b, c, d" and len(set(found)) > 3
    assert all(f.startswith("luna, ") and sorted(f.split(", ")) == sorted(found[0].split(", ")) for f in found)
    assert dataset.orders("one sentence", 1, random.Random(1)) == ["one sentence"]


def test_prompts_with_and_without_the_trigger_word() -> None:
    settings = TrainingConfig(name="a", base_model="b", dataset_folder="c", trigger_word="luna", class_word="woman")
    found = prompts_for(settings, ["luna, a woman", "luna, a woman", "Luna smiles"])
    assert [(p.prompt, p.with_trigger, p.seed) for p in found] == [
        ("luna, a woman", True, 42), ("a woman", False, 42), ("Luna smiles", True, 43), ("smiles", False, 43),
    ]  # fmt: skip
    mine = prompts_for(settings.with_(sample_prompts=["a dog", "[trigger] runs"]), [])
    assert [(p.prompt, p.with_trigger) for p in mine] == [("a dog", False), ("luna runs", True), ("runs", False)]
    for word, second in (("", "portrait"), ("woman", "woman")):
        alone = prompts_for(settings.with_(class_word=word), ["luna"])
        assert [(p.prompt, p.with_trigger) for p in alone] == [("luna", True), (second, False)]
    assert without_word("a lunatic, luna", "luna") == "a lunatic"
    assert swap("luna, smiling", settings) == "woman, smiling" and swap("luna, a woman", settings) == "a woman"


@pytest.mark.parametrize(
    ("caption", "swapped"),
    [
        ("luna is sitting on a bench", "woman is sitting on a bench"),
        ("a photo of Luna, smiling", "a photo of woman, smiling"),
        ("smiling, luna, a lunatic", "smiling, woman, a lunatic"),
        ("luna", "woman"), ("", "woman"), ("a bench", "woman, a bench"),
        ("luna_2, smiling", "woman, luna_2, smiling"),
        ("luna the woman on a bench", "the woman on a bench"),
    ],
)  # fmt: skip
def test_the_class_word_stands_where_the_trigger_word_was(caption: str, swapped: str) -> None:
    settings = TrainingConfig(name="a", base_model="b", dataset_folder="c", trigger_word="luna", class_word="woman")
    assert swap(caption, settings) == swapped
    assert swap("a photo of luna", settings.with_(class_word=r"\1")) == r"a photo of \1"  # no pattern, only a word
    assert swap(caption, settings.with_(trigger_word="")) == caption


# ---------------------------------------------------------------- layers and optimizers


def layers(**changes: Any) -> tuple[Any, Adapters, TrainingConfig]:
    torch.manual_seed(0)
    pipe = tiny.sd15()
    settings = config(Path("m"), Path("d"), Path("r"), **changes).complete("sd15", 5, native_size=64)
    from dalla.diffusion.families import family

    return pipe, Adapters(pipe, family("sd15"), settings), settings


def test_only_the_layers_learn_and_they_are_fp32() -> None:
    torch.manual_seed(0)
    pipe = tiny.sd15()
    pipe.unet.to(torch.bfloat16)
    from dalla.diffusion.families import family

    settings = config(Path("m"), Path("d"), Path("r"), train_text_encoder=True).complete("sd15", 5, native_size=64)
    adapters = Adapters(pipe, family("sd15"), settings)
    assert {p.dtype for p in adapters.parameters()} == {torch.float32}
    trainable = [
        n for part in (pipe.unet, pipe.text_encoder, pipe.vae) for n, p in part.named_parameters() if p.requires_grad
    ]
    assert trainable and all("lora_" in n for n in trainable)
    assert len(trainable) == len(adapters.parameters())
    assert not adapters.moved(), "an untrained layer changes nothing"
    groups = adapters.groups(settings)
    assert [g["lr"] for g in groups] == [settings.learning_rate, settings.text_encoder_learning_rate]


def test_layers_can_be_switched_off_and_exchanged() -> None:
    pipe, adapters, _ = layers()
    inputs = (torch.randn(1, 4, 8, 8), torch.tensor([5]), torch.randn(1, 7, 32))
    with torch.no_grad():
        plain = pipe.unet(*inputs).sample
        for p in adapters.parameters():
            p.add_(0.3)
        changed = pipe.unet(*inputs).sample
        assert not torch.allclose(plain, changed)
        with adapters.off():
            assert torch.allclose(pipe.unet(*inputs).sample, plain)
        zeros = {name: torch.zeros_like(p) for name, p in adapters.named().items()}
        with adapters.using(zeros):
            assert torch.allclose(pipe.unet(*inputs).sample, plain)
        assert torch.allclose(pipe.unet(*inputs).sample, changed)
    with pytest.raises(InvalidInput, match="other layers"):
        adapters.restore({})


def test_the_average_follows() -> None:
    _, adapters, _ = layers()
    average = Average(adapters, decay=0.5)
    name, parameter = next(iter(adapters.named().items()))
    first = parameter.detach().clone()
    parameter.data.add_(1.0)
    average.update(1000)
    assert torch.allclose(average.values[name], first + 0.5, atol=1e-6)


def test_no_gradient_means_no_change(model: Path, pictures: Path, tmp_path: Path) -> None:
    """Cut off at next to nothing, everything must freeze: it proves that clipping reaches every parameter."""
    ran = train(model, pictures, tmp_path, max_grad_norm=1e-300, weight_decay=0.0, save_every=1, keep_checkpoints=5)
    assert ran.code == 5 and "zeros" in ran.last["detail"]
    states = [
        torch.load(tmp_path / "run" / "checkpoints" / f"00000{step}" / "state.pt", weights_only=True)["values"]
        for step in (1, 2)
    ]
    assert all(torch.equal(states[0][k], states[1][k]) for k in states[0])
    assert ran.of("report")[0]["verdict"]["level"] == "not_learned"
    assert not list((tmp_path / "loras").glob("*"))


def test_a_norm_of_zero_cuts_nothing_off(model: Path, pictures: Path, tmp_path: Path) -> None:
    never, high = (train(model, pictures, tmp_path / f"{norm}", max_grad_norm=norm) for norm in (0.0, 1e6))
    assert never.code == 0 and never.losses == high.losses


def test_in_bf16_nearly_every_number_moves(model: Path, pictures: Path, tmp_path: Path) -> None:
    """Masters in bf16 would leave four fifths of them where they were at this learning rate."""
    one = tmp_path / "one"
    one.mkdir()
    for name in ("0.png", "0.txt"):
        (one / name).write_bytes((pictures / name).read_bytes())
    # The first step moves only the up matrices, because the down ones have no gradient while those are zero.
    ran = train(
        model, one, tmp_path, mixed_precision="bf16", steps=2, batch_size=1, learning_rate=1e-4, save_every=2,
        weight_decay=0.0, trigger_word="",
    )  # fmt: skip
    assert ran.code == 0, ran.last
    last = torch.load(tmp_path / "run" / "checkpoints" / "000002" / "state.pt", weights_only=True)["values"]
    torch.manual_seed(0)
    from dalla.diffusion.families import family

    fresh = Adapters(
        family("sd15").load_pipeline(model, torch.float32), family("sd15"),
        config(model, one, tmp_path).complete("sd15", 1, native_size=64),
    ).snapshot()  # fmt: skip
    downs = [k for k in last if "lora_A" in k]
    moved = sum(int((last[k] != fresh[k]).sum()) for k in downs) / sum(last[k].numel() for k in downs)
    rounded = sum(int((last[k].bfloat16() != fresh[k].bfloat16()).sum()) for k in downs)
    assert all(last[k].dtype == torch.float32 for k in last)
    assert moved > 0.95
    assert rounded < 0.5 * sum(last[k].numel() for k in downs), "else this test would not notice masters in bf16"
    assert all(torch.isfinite(t).all() for t in load_file(ran.lora).values())


@pytest.mark.parametrize(
    "changes",
    [
        {"optimizer": "adafactor", "use_rslora": True, "gradient_accumulation": 2},
        {"optimizer": "prodigy", "learning_rate": 1.0, "steps": 4, "repeats": 2},
        {"use_dora": True, "targets": "full", "ema": True},
        {"prior_weight": 1.0, "alpha": 1.0, "gradient_checkpointing": True, "caption_dropout": 1.0},
        {"conv_rank": 1, "rank": 4, "timestep_sampling": "uniform", "noise_offset": 0.1, "min_snr_gamma": 5.0},
    ],
    ids=["adafactor", "prodigy", "dora", "prior", "conv"],
)
def test_the_other_ways_to_train_end_in_a_verified_file(
    model: Path, pictures: Path, tmp_path: Path, changes: dict[str, Any]
) -> None:
    ran = train(model, pictures, tmp_path, **changes)
    assert ran.code == 0, ran.last
    keys = load_file(ran.lora)
    assert all(torch.isfinite(t).all() for t in keys.values())
    if changes.get("use_dora"):
        assert any("dora_scale" in k for k in keys)
    if changes.get("use_rslora"):
        alphas = {float(v) for k, v in keys.items() if k.endswith(".alpha")}
        assert len(alphas) == 1 and alphas.pop() == pytest.approx(
            2 * 2**0.5, rel=1e-2
        )  # rank 2, scale alpha / sqrt(rank)


def test_class_pictures_are_trained_with_their_own_captions(model: Path, pictures: Path, tmp_path: Path) -> None:
    prior = tmp_path / "cats"
    prior.mkdir()
    for number in range(2):
        write_noise(prior / f"{number}.png", 50 + number)
        (prior / f"{number}.txt").write_text("a cat")
    ran = train(model, pictures, tmp_path, prior_weight=0.5, prior_folder=str(prior))
    assert ran.code == 0
    assert ran.last["report"]["readings"]["prior"]["pictures"] == 2


def test_alpha_and_mask_files_become_loss_masks(model: Path, pictures: Path, tmp_path: Path) -> None:
    image = Image.open(pictures / "0.png").convert("RGBA")
    alpha = Image.new("L", (64, 64), 0)
    alpha.paste(255, (0, 0, 32, 64))
    image.putalpha(alpha)
    image.save(pictures / "0.png")
    Image.new("L", (64, 64), 255).save(pictures / "1-masklabel.png")
    rows = {p.file: p for p in training_set.scan(pictures, resolution=64, bucket_step=16).pictures}
    left = dataset._mask(pictures, rows["0.png"], (32, 32))
    assert left.shape == (1, 32, 32) and left[0, :, :15].min() == 1 and left[0, :, 17:].max() == pytest.approx(0.05)
    assert dataset._mask(pictures, rows["1.png"], (32, 32)).min() == 1
    assert dataset._mask(pictures, rows["2.png"], (32, 32)) is None
    assert train(model, pictures, tmp_path, masked_loss=True).code == 0


def rate(step: int, **changes: Any) -> float:
    values = {"steps": 100, "warmup": 10, "lr_scheduler": "cosine", **changes}
    return optimizers.learning_rate(SimpleNamespace(**values), 1.0, step)


def test_learning_rates() -> None:
    assert rate(0) == pytest.approx(1 / 11) and rate(9) == pytest.approx(10 / 11) and rate(10) == 1
    assert rate(55) == pytest.approx(0.5) and rate(99) < 0.01
    assert rate(0, warmup=0.1) == rate(0)
    assert rate(50, lr_scheduler="constant") == 1
    assert rate(55, lr_scheduler="linear") == pytest.approx(0.5)
    assert rate(0, warmup=0, lr_scheduler="linear") == 1


def test_prodigy_finds_its_own_step() -> None:
    torch.manual_seed(0)
    wanted = torch.randn(20)
    value = torch.nn.Parameter(torch.zeros(20))
    optimizer = optimizers.Prodigy([value])
    for _ in range(400):
        optimizer.zero_grad()
        (value - wanted).pow(2).sum().backward()
        optimizer.step()
    assert optimizer.param_groups[0]["d"] > 1e-3
    assert float((value.detach() - wanted).abs().mean()) < 0.1


def test_sign_test() -> None:
    assert validation.sign_test(8, 0) == pytest.approx(2 / 256)
    assert validation.sign_test(4, 4) == 1 and validation.sign_test(0, 0) == 1
    base = validation.Reading({"a": [1.0, 2.0], "b": [3.0, 1.0]})
    now = validation.Reading({"a": [0.5, 1.0], "b": [3.5, 0.5]})
    found = validation.compare(base, now)
    assert (found.improved, found.pairs, found.pictures_improved, found.pictures) == (3, 4, 1, 2)
    assert found.change == pytest.approx(-1.5 / 7)


# ---------------------------------------------------------------- which checkpoint, and what can be said of it


def reading(*rows: list[float]) -> validation.Reading:
    return validation.Reading({f"{n}.png": row for n, row in enumerate(rows)})


def test_the_last_checkpoint_is_taken_unless_it_is_worse_than_noise_explains() -> None:
    lowest = reading([0.50, 0.20, 0.40, 0.30])
    noisy = reading([0.58, 0.14, 0.47, 0.24])  # 2 % higher, by luck in both directions
    clear = reading([0.55, 0.25, 0.44, 0.36])  # higher everywhere
    kept = choose(100, noisy, 60, lowest)
    assert (kept.step, kept.lowest) == (100, False) and "noise" in kept.reason and "step 60" in kept.reason
    back = choose(100, clear, 60, lowest)
    assert (back.step, back.lowest) == (60, True) and "14.3% higher" in back.reason
    assert choose(100, lowest, 100, lowest).step == 100
    assert choose(100, None, 60, lowest) == choose(100, None, 60, None)
    assert choose(100, None, None, None).step == 100


def test_pictures_count_as_one_each_when_there_are_enough() -> None:
    base = reading([1.0, 1.0], [1.0, 1.0], [1.0, 1.0])
    mean, error = validation.paired(base, reading([1.2, 1.2], [1.1, 1.1], [0.9, 0.9]))
    assert mean == pytest.approx(0.2 / 3)
    assert error == pytest.approx((((0.2 - 0.2 / 3) ** 2 + (0.1 - 0.2 / 3) ** 2 + (0.1 + 0.2 / 3) ** 2) / 2 / 3) ** 0.5)
    two = validation.paired(reading([1.0, 1.0]), reading([1.1, 1.3]))
    assert two == pytest.approx((0.2, 0.1))


@pytest.mark.parametrize(
    ("pictures", "evidence", "words"),
    [
        (1, "weak", "One picture is weak evidence"),
        (3, "little", "little evidence"),
        (6, "good", "has learned the subject"),
    ],
)
def test_the_verdict_says_how_much_it_rests_on(pictures: int, evidence: str, words: str) -> None:
    held = {"change": -0.3, "pValue": 0.01, "improved": 8, "pairs": 8, "pictures": pictures}
    said = report.verdict(Choice(100, False, "It is the last step."), {"heldOut": held}, {}, True)
    assert (said["level"], said["evidence"], said["recommendedStep"]) == ("learned", evidence, 100)
    assert words in said["text"] and ("has learned" in said["text"]) == (pictures > 3)


def test_questions_of_many_pictures_share_batches(model: Path, pictures: Path, tmp_path: Path) -> None:
    """Each loss belongs to its own picture, however the questions are put together."""
    loaded = load(model, pictures, tmp_path, batch_size=4)
    together = validation.Questions(loaded, loaded.train, timesteps=3, noises=1).ask()
    for example in loaded.train:
        alone = validation.Questions(loaded, [example], timesteps=3, noises=1).ask().losses[example.file]
        assert together.losses[example.file] == pytest.approx(alone, rel=1e-4)
    assert len({round(v, 4) for row in together.losses.values() for v in row}) > 10
