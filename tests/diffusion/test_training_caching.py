"""What is computed once stays what it is: no network but the denoiser works in a step, every caption stays with its
picture, and latents are encoded in 32 bits."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")

from diffusers import AutoencoderKL  # noqa: E402
from PIL import Image  # noqa: E402
from transformers import CLIPTextModel, CLIPTextModelWithProjection, T5EncoderModel  # noqa: E402

from dalla import training_set  # noqa: E402
from dalla.diffusion.families import family  # noqa: E402
from dalla.diffusion.training import dataset, setup  # noqa: E402
from dalla.diffusion.training.loop import Loop  # noqa: E402
from dalla.diffusion.training.objective import Discrete  # noqa: E402
from tests.diffusion import tiny  # noqa: E402
from tests.diffusion.training_kit import noise_pictures, train  # noqa: E402

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning:peft.*"),
]


def pixels_of(path: Path) -> Any:
    image = Image.open(path).convert("RGB")
    return torch.from_numpy(numpy.asarray(image).copy()).permute(2, 0, 1)[None].float() / 127.5 - 1


@pytest.mark.parametrize("name", ["sd15", "sdxl", "flux"])
def test_neither_vae_nor_text_encoders_work_in_the_steps(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    calls: Counter[str] = Counter()

    def count(kind: Any, method: str, what: str) -> None:
        honest = getattr(kind, method)

        def counted(self: Any, *args: Any, **options: Any) -> Any:
            calls[what] += 1
            return honest(self, *args, **options)

        monkeypatch.setattr(kind, method, counted)

    count(AutoencoderKL, "encode", "encode")
    count(AutoencoderKL, "decode", "decode")
    for kind in (CLIPTextModel, CLIPTextModelWithProjection, T5EncoderModel):
        count(kind, "forward", "texts")
    seen: list[Counter[str]] = []
    honest_run = Loop.run

    def run(self: Any) -> None:
        parts = [getattr(self.loaded.pipe, f"text_encoder{n}", None) for n in ("", "_2", "_3")]
        assert parts == [None] * 3 and self.loaded.pipe.vae.device.type == "cpu"
        seen.append(calls.copy())
        honest_run(self)
        seen.append(calls.copy())

    monkeypatch.setattr(Loop, "run", run)
    model = tiny.save(name, tmp_path)
    ran = train(model, pictures, tmp_path, steps=4, caption_dropout=0.3, validation={"count": 1, "every": 2})
    assert ran.code == 0, ran.last
    before, after = seen
    assert before["encode"] == 5 and before["texts"] > 0  # each picture once, the one set aside included
    assert after == before and after["decode"] == 0


def tagged(folder: Path) -> dict[str, list[str]]:
    """Write pictures in two shapes and captions of four words each; return the words by file."""
    folder.mkdir()
    rng = random.Random(5)
    words = {}
    for number, size in enumerate([(64, 64), (80, 48), (64, 64), (80, 48), (64, 64)]):
        image = Image.new("RGB", (size[0] // 8, size[1] // 8))
        image.putdata([tuple(rng.randrange(256) for _ in range(3)) for _ in range(size[0] * size[1] // 64)])
        image.resize(size, Image.Resampling.NEAREST).save(folder / f"{number}.png")
        words[f"{number}.png"] = ["zorvex", f"red {number}", f"tall {number}", f"by the sea {number}"]
        (folder / f"{number}.txt").write_text(", ".join(words[f"{number}.png"]))
    return words


def test_a_picture_is_never_shown_with_another_ones_words(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through buckets, repeats, shuffled words and the cache on disk: what the denoiser gets belongs together."""
    folder = tmp_path / "pictures"
    words = tagged(folder)
    rows = training_set.scan(folder, resolution=64, bucket_step=16).pictures
    assert len(rows) == len(words) and all(
        p.bucket == (p.width, p.height) for p in rows
    )  # nothing is scaled or cropped
    assert {p.bucket for p in rows} == {(64, 64), (80, 48)}
    fam = family("sd15")
    fresh = fam.load_pipeline(model, torch.float32)
    own: dict[str, Any] = {}
    latents_of: dict[str, Any] = {}
    with torch.no_grad():
        for file, tags in words.items():
            texts = [", ".join([tags[0], *rest]) for rest in itertools.permutations(tags[1:])]
            own[file] = torch.cat([fam.condition(fresh, [text], 1)["embeds"] for text in texts])
            found = fresh.vae.encode(pixels_of(folder / file)).latent_dist.mode()[0]
            latents_of[file] = found * fresh.vae.config.scaling_factor
    batches: list[Any] = []
    honest_noise, honest_predict = Discrete.noise, setup.Loaded.predict

    def noise(self: Any, latents: Any, levels: Any, noise: Any, generator: Any = None) -> Any:
        if generator is not None:  # a step, not a question of the report
            batches.append([latents.clone(), None])
        return honest_noise(self, latents, levels, noise, generator)

    def predict(self: Any, noised: Any, condition: dict[str, Any], sizes: Any) -> Any:
        if batches and batches[-1][1] is None:
            batches[-1][1] = condition["embeds"].clone()
        return honest_predict(self, noised, condition, sizes)

    monkeypatch.setattr(Discrete, "noise", noise)
    monkeypatch.setattr(setup.Loaded, "predict", predict)

    def shown(number: int, seed: int) -> Counter[str]:
        batches.clear()
        ran = train(
            model,
            folder,
            tmp_path / str(number),
            steps=5,
            repeats=2,
            shuffle_captions=True,
            cache_to_disk=True,
            seed=seed,
        )
        assert ran.code == 0, ran.last
        counts: Counter[str] = Counter()
        for latents, embeds in batches:
            for latent, embed in zip(latents, embeds, strict=True):
                same = [
                    file
                    for file, known in latents_of.items()
                    if known.shape == latent.shape and torch.allclose(known, latent, atol=1e-4)
                ]
                assert len(same) == 1
                near = {file: float((rows - embed).abs().amax((1, 2)).min()) for file, rows in own.items()}
                assert near[same[0]] < 1e-4
                assert all(distance > 1e-2 for file, distance in near.items() if file != same[0])
                counts[same[0]] += 1
        return counts

    whole = shown(1, seed=0)  # one epoch: every picture as often as its repeats say
    assert whole == dict.fromkeys(words, 2)
    (folder / "0.png").rename(folder / "9.png")  # what was cached first comes last now
    (folder / "0.txt").rename(folder / "9.txt")
    words["9.png"], own["9.png"], latents_of["9.png"] = words.pop("0.png"), own.pop("0.png"), latents_of.pop("0.png")
    assert shown(2, seed=7) == dict.fromkeys(words, 2)  # from the disk, in another order


def test_latents_are_encoded_in_32_bits_also_from_a_file_in_16(tmp_path: Path) -> None:
    """SDXL's own VAE overflows in fp16: latents would be no numbers, or black pictures would be learned."""
    torch.manual_seed(3)
    pipe = tiny.sdxl()
    with torch.no_grad():
        pipe.vae.encoder.conv_in.weight *= 3e5  # still a number in 16 bits; what it makes of a picture is not
    path = tmp_path / "sdxl-fp16"
    pipe.to(torch.float16).save_pretrained(path, variant="fp16")
    folder = tmp_path / "pictures"
    folder.mkdir()
    rows = training_set.scan(noise_pictures(folder, 2), resolution=64, bucket_step=16).pictures

    half = family("sdxl").load_pipeline(path, torch.float16)
    assert half.vae.dtype == torch.float16
    with torch.no_grad():
        overflown = half.vae.encode(pixels_of(folder / "0.png").half()).latent_dist.mode()
    assert not overflown.isfinite().all(), "else this test would not notice 16 bits"

    settings = SimpleNamespace(seed=0, shuffle_captions=False, keep_tokens=1, masked_loss=False)
    examples = dataset.encode_pictures(half, folder, rows, settings, "cpu", dataset.Cache(None))
    exact = AutoencoderKL.from_pretrained(path / "vae", variant="fp16", dtype=torch.float32)
    for example in examples:
        with torch.no_grad():
            wanted = exact.encode(pixels_of(folder / example.file)).latent_dist.mode()[0] * exact.config.scaling_factor
        assert example.latents.dtype == torch.float32 and example.latents.isfinite().all()
        assert torch.allclose(example.latents, wanted, atol=1e-4)
    assert half.vae.dtype == torch.float16  # as it was, for drawing
