"""How like the samples are to the training pictures. data/face.jpg is a part of NASA's portrait of Eileen Collins."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("cv2")

import numpy  # noqa: E402
from PIL import Image, ImageDraw, ImageEnhance, ImageOps  # noqa: E402

from dalla import training_set  # noqa: E402
from dalla.diffusion import likeness  # noqa: E402
from dalla.diffusion.likeness import Vector, compare_faces, compare_images  # noqa: E402
from tests.conftest import png  # noqa: E402

ROOT = Path(__file__).parent.parent.parent
FACE = ROOT / "tests" / "data" / "face.jpg"
PLACE = (0.5, 0.5, 0.3, 0.4)


def portrait() -> Image.Image:
    with Image.open(FACE) as image:
        return image.convert("RGB")


def shots() -> list[tuple[str, Image.Image]]:
    face = portrait()
    return [
        ("a.jpg", face),
        ("b.jpg", ImageOps.mirror(face)),
        ("c.jpg", ImageEnhance.Brightness(face).enhance(1.3)),
        ("d.jpg", face.crop((20, 10, 150, 115))),
        ("e.jpg", face.rotate(8)),
    ]


def plain() -> Image.Image:
    return Image.new("RGB", (160, 160), "teal")


def vector(file: str, degrees: float, place: Any = PLACE) -> Vector:
    """A unit vector in a plane, so that the cosine of two is the cosine of their angle."""
    angle = math.radians(degrees)
    return Vector(file, numpy.array([math.cos(angle), math.sin(angle), 0.0], dtype=numpy.float32), place)


# ---------------------------------------------------------------- faces


def test_the_face_of_the_training_pictures_is_known_again_and_a_copy_is_told() -> None:
    found = likeness.faces(shots, [("0", portrait()), ("3", plain())], [("0", plain())], None)
    assert found["measured"] and found["band"] == "strong" and found["pictures"] == 5
    (row,) = found["samples"]
    assert row["index"] == 0 and row["similarity"] > 0.9 and row["copy"] is True
    assert row["nearest"]["file"] == "a.jpg" and row["nearest"]["similarity"] > 0.99
    assert "clearly" in found["text"] and f"{found['similarity']['lora']:.2f}" in found["text"]
    assert any("1 of 2 samples show no face" in note for note in found["notes"])
    assert any("sample 1 (a.jpg)" in note for note in found["notes"])
    assert found["dimensions"] == 128
    own = (ROOT / "models" / "faces" / likeness.RECOGNISER).read_bytes()
    assert found["sha256"] == hashlib.sha256(own).hexdigest()


def test_the_same_face_elsewhere_in_the_picture_is_no_copy() -> None:
    wide = Image.new("RGB", (600, 400), "navy")
    wide.paste(portrait().resize((240, 180)), (330, 200))
    (row,) = likeness.faces(shots, [("0", wide)], [], None)["samples"]
    assert row["band"] == "strong" and row["copy"] is False


@pytest.mark.parametrize(
    ("training", "lora", "more", "words"),
    [
        (lambda: shots()[:3], [("0", plain())], {}, "3 training pictures with a face; 4 are needed"),
        (lambda: [("x.png", plain())] * 6, [("0", plain())], {}, "no training picture with a face"),
        (shots, [("0", plain())], {}, "No face was found in the samples"),
        (shots, [("0", portrait())], {"drawn": True}, "draws cartoons"),
    ],
)
def test_what_cannot_be_measured_is_said(training: Any, lora: Any, more: Any, words: str) -> None:
    found = likeness.faces(training, lora, [], None, **more)
    assert found["measured"] is False and words in found["text"] and found["samples"] == []


def test_the_users_own_weights_go_first_and_broken_ones_are_told(tmp_path: Path) -> None:
    (tmp_path / "faces").mkdir()
    (tmp_path / "faces" / likeness.RECOGNISER).write_bytes(b"not a network")
    found = likeness.faces(shots, [("0", portrait())], [], tmp_path)
    assert found["measured"] is False and "could not be compared" in found["text"]
    shutil.copy(ROOT / "models" / "faces" / likeness.RECOGNISER, tmp_path / "faces")
    assert likeness.faces(shots, [("0", portrait())], [], tmp_path)["measured"] is True


@pytest.mark.parametrize(
    ("degrees", "band", "words"),
    [(40, "strong", "clearly"), (60, "likely", "probably"), (68, "weak", "only a little"), (80, "none", "is not the")],
)
def test_the_bands_follow_the_cosine_to_the_mean(degrees: float, band: str, words: str) -> None:
    own = [vector(f"{n}.png", angle) for n, angle in enumerate((-6, -2, 2, 6))]  # their mean lies at 0 degrees
    found = compare_faces(own, [[vector("0", degrees)]], [[vector("0", 90)]])
    assert found["band"] == band and words in found["text"]
    assert found["similarity"]["lora"] == pytest.approx(math.cos(math.radians(degrees)), abs=1e-3)
    assert found["similarity"]["base"] == pytest.approx(0, abs=1e-3)
    assert found["similarity"]["training"] > 0.98


def test_of_several_faces_the_best_counts_and_strangers_are_left_out_of_the_mean() -> None:
    own = [*(vector(f"{n}.png", angle) for n, angle in enumerate((-4, -2, 2, 4))), vector("guest.png", 95)]
    found = compare_faces(own, [[vector("2", 85), vector("2", 10)]], [])
    assert found["odd"] == ["guest.png"] and found["pictures"] == 4
    assert "guest.png" in " ".join(found["notes"])
    assert found["samples"][0]["similarity"] == pytest.approx(math.cos(math.radians(10)), abs=1e-3)


def test_faces_that_have_nothing_in_common_are_no_person() -> None:
    own = [Vector(f"{n}.png", row, PLACE) for n, row in enumerate(numpy.eye(6, dtype=numpy.float32))]
    found = compare_faces(own, [[own[0]]], [])
    assert found["measured"] is False and "different people" in found["text"]


def test_a_near_face_at_another_place_or_size_is_no_copy() -> None:
    own = [vector(f"{n}.png", angle) for n, angle in enumerate((-9, -3, 3, 9))]
    for place, copy in ((PLACE, True), ((0.6, 0.5, 0.3, 0.4), False), ((0.5, 0.5, 0.2, 0.25), False)):
        (row,) = compare_faces(own, [[vector("0", 3, place)]], [])["samples"]
        assert row["copy"] is copy and row["nearest"]["file"] == "2.png"


# ---------------------------------------------------------------- whole pictures


def save_encoder(folder: Path, kind: str) -> None:
    """Write a tiny encoder with random weights, as transformers saves one."""
    import torch
    import transformers as t

    torch.manual_seed(0)
    size = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 32, "patch_size": 8}
    if kind == "clip":
        vision = {**size, "intermediate_size": 64, "projection_dim": 16}
        text = {
            "hidden_size": 16,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "intermediate_size": 32,
            "vocab_size": 99,
        }
        model: Any = t.CLIPModel(t.CLIPConfig(vision_config=vision, text_config=text, projection_dim=16))  # fmt: skip
    elif kind == "dinov2":
        model = t.Dinov2Model(t.Dinov2Config(**size))
    else:
        model = t.ViTModel(t.ViTConfig(**size, intermediate_size=64))
    model.save_pretrained(folder)


def pictures() -> list[tuple[str, Image.Image]]:
    found = []
    for n in range(4):
        image = Image.new("RGB", (80, 60), (60 * n, 40, 200 - 50 * n))
        ImageDraw.Draw(image).ellipse((5 + 12 * n, 5, 35 + 12 * n, 45), fill=(240 - 60 * n, 220, 30 * n))
        found.append((f"{n}.png", image))
    return found


@pytest.mark.parametrize(("kind", "label"), [("clip", "CLIP"), ("dinov2", "DINOv2"), ("vit", "DINO")])
def test_encoders_of_the_user_are_read_from_models_vision(tmp_path: Path, kind: str, label: str) -> None:
    save_encoder(tmp_path / "vision" / "mine", kind)
    other = Image.effect_noise((64, 64), 90).convert("RGB")
    found = likeness.images(pictures, [("0", pictures()[2][1]), ("2", other)], [("0", other)], tmp_path)
    assert found["measured"] and found["model"] == "mine" and found["text"].startswith(f"{label} sees the samples")
    first, second = found["samples"]
    assert first["nearest"] == {"file": "2.png", "similarity": 1.0} and first["copy"] is True
    assert second["index"] == 2 and second["similarity"] < first["nearest"]["similarity"]
    assert 0 < found["similarity"]["training"] < 1 and found["similarity"]["base"] is not None


def test_colours_are_scaled_as_the_folder_says(tmp_path: Path) -> None:
    save_encoder(tmp_path / "vision", "clip")
    before = likeness.ImageEncoder(tmp_path / "vision").read(pictures()[:1])[0].values
    said = {"image_mean": [0.1, 0.9, 0.5], "image_std": [0.5, 0.1, 0.9]}
    (tmp_path / "vision" / "preprocessor_config.json").write_text(json.dumps(said))
    after = likeness.ImageEncoder(tmp_path / "vision").read(pictures()[:1])[0].values
    assert float(before @ after) < 0.9999


def test_no_encoder_a_foreign_one_and_a_broken_one_are_told(tmp_path: Path) -> None:
    def told() -> str:
        found = likeness.images(pictures, [("0", plain())], [], tmp_path)
        assert found["measured"] is False
        return str(found["text"])

    assert "models/vision" in told()
    folder = tmp_path / "vision" / "odd"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text('{"model_type": "whisper"}')
    assert "models/vision" in told()
    (folder / "config.json").write_text('{"model_type": "dinov2"}')  # no weights
    assert "'odd' cannot be used" in told()


def test_two_training_pictures_as_near_make_no_copy() -> None:
    own = [vector("a.png", 0), vector("b.png", 1), vector("c.png", 60)]
    (row,) = compare_images(own, [vector("0", 5)], [], "CLIP")["samples"]
    assert row["copy"] is False and row["nearest"]["similarity"] > 0.99


# ---------------------------------------------------------------- of a run


@pytest.fixture
def loop(tmp_path: Path) -> Any:
    folder = tmp_path / "set"
    folder.mkdir()
    for n, (name, image) in enumerate(shots()):
        image.save(folder / f"{n}-{name}".replace(".jpg", ".png"))
    report = training_set.scan(folder, resolution=64, bucket_step=8)
    prompts = [SimpleNamespace(index=0, with_trigger=True), SimpleNamespace(index=1, with_trigger=False)]
    return SimpleNamespace(
        prepared=SimpleNamespace(train=report.pictures[1:], held_out=report.pictures[:1], model=SimpleNamespace(native_size=512)),
        config=SimpleNamespace(dataset_folder=str(folder), models_folder=None),
        loaded=SimpleNamespace(sampler=SimpleNamespace(prompts=prompts)),
        base_samples={0: plain(), 1: plain()},
    )  # fmt: skip


def test_a_run_compares_the_samples_with_the_trigger_word(loop: Any) -> None:
    found = likeness.of_samples(loop, {0: portrait(), 1: plain()})
    assert found["faces"]["band"] == "strong" and [row["index"] for row in found["faces"]["samples"]] == [0]
    assert found["faces"]["pictures"] == 5 and "samples show no face" not in " ".join(found["faces"]["notes"])
    assert found["images"]["measured"] is False
    json.dumps(found)


def test_a_model_of_cartoons_gets_no_reading(loop: Any) -> None:
    loop.prepared.model.native_size = 128
    assert "cartoons" in likeness.of_samples(loop, {0: portrait()})["faces"]["text"]


def test_a_picture_that_has_gone_costs_the_reading_and_not_the_run(loop: Any) -> None:
    (Path(loop.config.dataset_folder) / loop.prepared.train[0].file).unlink()
    found = likeness.of_samples(loop, {0: portrait()})
    assert found["faces"]["measured"] is False and "could not be measured" in found["faces"]["text"]


def test_of_a_large_set_some_are_taken_evenly() -> None:
    rows = likeness.spread(list(range(1000)))
    assert len(rows) == likeness.MOST and rows[0] == 0 and rows[-1] > 990 and len(set(rows)) == len(rows)


def test_the_pictures_for_the_encoder_are_cut_as_they_are_trained(tmp_path: Path) -> None:
    (tmp_path / "wide.png").write_bytes(png((9, 9, 9), (200, 100)))
    row = SimpleNamespace(file="wide.png", box=(50, 0, 150, 100))
    assert likeness.training_picture(tmp_path, row, True).size == (100, 100)
    assert likeness.training_picture(tmp_path, row, False).size == (200, 100)


def test_the_person_of_a_run_is_known_in_samples_while_it_trains(loop: Any) -> None:
    person = likeness.Person.of_run(loop)
    assert person is not None
    near = person.similarity([portrait()])
    assert near is not None and near > 0.9
    assert person.similarity([portrait(), plain()]) == near  # a picture without a face says nothing
    assert person.similarity([plain()]) is None
    loop.prepared.model.native_size = 128
    assert likeness.Person.of_run(loop) is None  # cartoons


def test_too_few_faces_are_no_person(loop: Any) -> None:
    loop.prepared.train = loop.prepared.train[:2]
    loop.prepared.held_out = []
    assert likeness.Person.of_run(loop) is None
