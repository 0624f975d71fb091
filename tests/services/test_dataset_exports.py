"""Exports: every format as its readers want it, and the same bytes twice."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from dalla.records.dataset import ImageFilter
from dalla.services import dataset_exports
from dalla.services.dataset_formats import (
    FORMATS,
)  # fmt: skip
from tests.services.dataset_versions_kit import World, fill, picture, unzip

yaml = pytest.importorskip("yaml")  # comes with huggingface_hub; only these tests read YAML


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    yield world
    world.close()


# ---------------------------------------------------------------- formats


def test_kohya(world: World) -> None:
    fill(world)
    _, data, export = world.export("kohya", classWord="woman")
    files = unzip(data)
    assert export["filename"] == "training_data_v1.zip" and export["images"] == 6 and export["status"] == "ready"
    assert set(files) == {
        "img/1_ohwx woman/a_x.png", "img/1_ohwx woman/a_x.txt", "img/1_ohwx woman/b_X.jpg",
        "img/1_ohwx woman/b_X.txt", "img/1_ohwx woman/bare.png", "img/1_ohwx woman/old.png",
        "img/1_ohwx woman/old.txt", "img/4_luna woman/c.webp", "img/4_luna woman/c.txt", "reg/1_woman/r.png",
        "reg/1_woman/r.txt", "dataset.toml", "manifest.json",
    }  # fmt: skip
    assert files["img/1_ohwx woman/a_x.png"] == picture(1)  # untouched
    assert files["img/1_ohwx woman/a_x.txt"] == b"ohwx, red dress second line\n"  # sd-scripts reads one line
    assert Image.open(io.BytesIO(files["img/1_ohwx woman/old.png"])).format == "PNG"  # sd-scripts skips GIF
    config = tomllib.loads(files["dataset.toml"].decode())
    assert config["general"]["caption_extension"] == ".txt"
    (dataset,) = config["datasets"]
    assert [(s["image_dir"], s["num_repeats"], s["class_tokens"]) for s in dataset["subsets"]] == [
        ("img/1_ohwx woman", 1, "ohwx woman"), ("img/4_luna woman", 4, "luna woman"), ("reg/1_woman", 1, "woman"),
    ]  # fmt: skip
    assert [s.get("is_reg") for s in dataset["subsets"]] == [None, None, True]


# Keys of sd-scripts library/config_util.py (ConfigSanitizer), ai-toolkit toolkit/config_modules.py, OneTrainer
# modules/util/config/ConceptConfig.py and SimpleTuner's documentation/DATALOADER.md and data_backend/config/image.py.
KOHYA_DATASET = {
    "batch_size", "bucket_no_upscale", "bucket_reso_steps", "enable_bucket", "max_bucket_reso", "min_bucket_reso",
    "validation_seed", "validation_split", "resolution", "network_multiplier", "resize_interpolation",
}  # fmt: skip
KOHYA_SUBSET = {
    "color_aug", "face_crop_aug_range", "flip_aug", "num_repeats", "random_crop", "shuffle_caption", "keep_tokens",
    "keep_tokens_separator", "secondary_separator", "caption_separator", "enable_wildcard", "token_warmup_min",
    "token_warmup_step", "caption_prefix", "caption_suffix", "custom_attributes", "resize_interpolation",
    "caption_dropout_every_n_epochs", "caption_dropout_rate", "caption_tag_dropout_rate", "caption_extension",
    "class_tokens", "cache_info", "image_dir", "is_reg", "alpha_mask",
}  # fmt: skip
AI_TOOLKIT = {
    "process": {"type", "training_folder", "device", "trigger_word", "network", "save", "datasets", "train", "model", "sample"},
    "network": {"type", "linear", "linear_alpha"},
    "save": {"dtype", "save_every", "max_step_saves_to_keep"},
    "dataset": {
        "folder_path", "caption_ext", "caption_dropout_rate", "shuffle_tokens", "cache_latents_to_disk", "num_repeats",
        "resolution", "is_reg", "mask_path", "trigger_word",
    },
    "train": {
        "batch_size", "steps", "gradient_accumulation_steps", "train_unet", "train_text_encoder", "optimizer", "lr",
        "gradient_checkpointing", "noise_scheduler", "dtype", "validation_config",
    },
    "validation": {"validation_items", "resolution", "validate_every_n_steps", "validation_sigmas"},
    "model": {"name_or_path", "arch", "quantize"},
    "sample": {
        "sampler", "sample_every", "width", "height", "prompts", "neg", "seed", "walk_seed", "guidance_scale", "sample_steps",
    },
}  # fmt: skip
ONETRAINER = {
    "__version", "name", "path", "seed", "enabled", "type", "include_subdirectories", "image_variations",
    "text_variations", "balancing", "balancing_strategy", "loss_weight", "image", "text", "concept_stats",
}  # fmt: skip
SIMPLETUNER = {
    "id", "type", "dataset_type", "instance_data_dir", "caption_strategy", "metadata_backend", "crop", "resolution",
    "resolution_type", "minimum_image_size", "cache_dir_vae", "repeats", "is_regularisation_data", "default", "cache_dir",
}  # fmt: skip


@pytest.mark.parametrize("family", ["sd15", "sdxl", "sd3", "flux1"])
def test_configurations_have_only_keys_their_readers_know(world: World, family: str) -> None:
    fill(world)
    more = {"validationPercent": 25, "family": family, "classWord": 'wo"man\\', "basePath": "/data/my set/"}
    toml = tomllib.loads(unzip(world.export("kohya", **more)[1])["dataset.toml"].decode())
    assert set(toml) == {"general", "datasets"}
    assert set(toml["general"]) <= KOHYA_DATASET | KOHYA_SUBSET
    assert set(toml["datasets"][0]) - {"subsets"} <= KOHYA_DATASET | KOHYA_SUBSET
    assert toml["datasets"][0]["validation_split"] == 0.25
    for subset in toml["datasets"][0]["subsets"]:
        assert set(subset) <= KOHYA_SUBSET and subset["image_dir"].startswith("/data/my set/")

    files = unzip(world.export("ai-toolkit", **more)[1])
    job = yaml.safe_load(files["config.yaml"])
    assert set(job) == {"job", "config", "meta"} and job["job"] == "extension"
    (process,) = job["config"]["process"]
    assert set(process) <= AI_TOOLKIT["process"] and process["trigger_word"] == "ohwx"
    for part in ("network", "save", "train", "model", "sample"):
        assert set(process[part]) <= AI_TOOLKIT[part], part
    assert process["model"]["arch"] in ("sd1", "sdxl", "sd3", "flux")
    assert set(process["train"]["validation_config"]) <= AI_TOOLKIT["validation"]
    for item in process["train"]["validation_config"]["validation_items"]:
        assert set(item) == {"image_path", "prompt"} and item["image_path"].removeprefix("/data/my set/") in files
    for dataset in process["datasets"]:
        assert set(dataset) <= AI_TOOLKIT["dataset"]
        assert any(name.startswith(dataset["folder_path"].removeprefix("/data/my set/") + "/") for name in files)

    files = unzip(world.export("onetrainer", **more)[1])
    concepts = json.loads(files["concepts.json"])
    assert {c["type"] for c in concepts} == {"STANDARD", "VALIDATION", "PRIOR_PREDICTION"}
    for concept in concepts:
        assert set(concept) <= ONETRAINER and concept["__version"] == 2

    backends = json.loads(unzip(world.export("simpletuner", **more)[1])["multidatabackend.json"])
    assert len({backend["id"] for backend in backends}) == len(backends)
    assert {backend["dataset_type"] for backend in backends} == {"image", "eval", "text_embeds"}
    for backend in backends:
        assert set(backend) <= SIMPLETUNER


def test_repeats_say_the_same_everywhere(world: World) -> None:
    fill(world)
    backends = json.loads(unzip(world.export("simpletuner")[1])["multidatabackend.json"])
    repeats = {b["instance_data_dir"]: b["repeats"] for b in backends if "instance_data_dir" in b}
    assert repeats == {"train/1_ohwx": 0, "train/4_luna woman": 3, "reg/1_class": 0}  # there 0 is once
    concepts = json.loads(unzip(world.export("onetrainer")[1])["concepts.json"])
    assert {c["path"]: c["balancing"] for c in concepts}["train/4_luna woman"] == 4.0
    job = yaml.safe_load(unzip(world.export("ai-toolkit")[1])["config.yaml"])
    found = {d["folder_path"]: d["num_repeats"] for d in job["config"]["process"][0]["datasets"]}
    assert found["train/4_luna woman"] == 4 and found["train/1_ohwx"] == 1


def test_every_picture_has_a_caption_where_its_reader_needs_one(world: World) -> None:
    fill(world)
    files = unzip(world.export("simpletuner", classWord="woman")[1])
    assert files["train/1_ohwx woman/bare.txt"] == b"ohwx, woman\n"
    pictures = [n for n in files if n.startswith(("train/", "reg/")) and not n.endswith(".txt")]
    assert all(name.rpartition(".")[0] + ".txt" in files for name in pictures) and len(pictures) == 6


def test_imagefolder(world: World) -> None:
    fill(world)
    files = unzip(world.export("imagefolder", validationPercent=20)[1])
    rows = {
        s: [json.loads(line) for line in files[f"{s}/metadata.jsonl"].splitlines()] for s in ("train", "validation")
    }
    for split, lines in rows.items():
        assert all(set(line) == {"file_name", "text"} for line in lines)
        names = {n.removeprefix(f"{split}/") for n in files if n.startswith(f"{split}/")} - {"metadata.jsonl"}
        assert {line["file_name"] for line in lines} == names and len(names) == len(lines)
    assert len(rows["train"]) == 4 and len(rows["validation"]) == 1
    every = {line["file_name"]: line["text"] for lines in rows.values() for line in lines}
    assert every["a_x.png"] == "ohwx, red dress second line" and every["bare.png"] == ""
    head = yaml.safe_load(files["README.md"].decode().split("---")[1])
    assert [f["split"] for f in head["configs"][0]["data_files"]] == ["train", "validation"]
    assert "reg/r.png" in files and "train/r.png" not in files


def test_tables_pairs_and_captions(world: World) -> None:
    fill(world)
    files = unzip(world.export("jsonl")[1])
    rows = [json.loads(line) for line in files["data.jsonl"].decode().splitlines()]
    assert {row["file_name"] for row in rows} == {n for n in files if n.startswith("images/")}
    by_name = {row["source"]: row for row in rows}
    assert by_name["c.webp"]["repeats"] == 4 and by_name["c.webp"]["concept"] == "luna woman"
    assert by_name["reg/r.png"]["split"] == "reg"
    for row in rows:
        assert hashlib.sha256(files[row["file_name"]]).hexdigest() == row["sha256"]
        assert Image.open(io.BytesIO(files[row["file_name"]])).size == (row["width"], row["height"])
    table = list(csv.DictReader(io.StringIO(unzip(world.export("csv")[1])["data.csv"].decode())))
    assert {row["source"]: row["text"] for row in table} == {row["source"]: row["text"] for row in rows}
    files = unzip(world.export("pairs")[1])
    assert {"a_x.png", "a_x.txt", "old.gif", "old.txt", "reg/r.png"} <= set(files) and "bare.txt" not in files
    files = unzip(world.export("captions")[1])
    assert set(files) == {"a_x.txt", "b_X.txt", "c.txt", "old.txt", "reg/r.txt", "manifest.json"}


# ---------------------------------------------------------------- the same bytes


@pytest.mark.parametrize("format", list(FORMATS))
def test_the_same_revision_gives_the_same_bytes(world: World, format: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(world)
    options: dict[str, Any] = {"resize": "buckets", "resolution": 64, "mirror": True, "validationPercent": 20}
    _, first, one = world.export(format, **options)
    monkeypatch.setattr("time.time", lambda: 4_000_000_000.0)
    monkeypatch.setattr(dataset_exports, "now_iso", lambda: "2099-01-01T00:00:00.000Z")
    _, second, two = world.export(format, **options)
    assert first == second and one["sha256"] == two["sha256"] == hashlib.sha256(first).hexdigest()
    assert (one["number"], two["number"]) == (1, 2) and one["version"] == two["version"]
    world.caption(world.store.image_ids(world.id, ImageFilter())[0], "another")
    assert world.export(format, **options)[1] != first


def test_the_manifest_tells_all(world: World) -> None:
    ids = fill(world)
    _, data, export = world.export("kohya", resize="fit", resolution=64)
    files = unzip(data)
    manifest = json.loads(files["manifest.json"])
    listed = {row["path"]: row for row in manifest["files"]}
    assert set(listed) == set(files) - {"manifest.json"}
    assert all(hashlib.sha256(files[name]).hexdigest() == row["sha256"] for name, row in listed.items())
    version = world.versions.get(world.id, 1)
    assert manifest["dataset"] == {"name": "Luna", "revision": version.revision, "sha256": version.sha256}
    assert manifest["tool"]["name"] == "Digital Dalla" and manifest["options"]["resize"] == "fit"
    row = listed["img/1_ohwx/a_x.png"]
    assert row["imageId"] == ids["x"] and row["sourceSha256"] == hashlib.sha256(picture(1)).hexdigest()
    assert row["transforms"] == ["scaled to 64x48", "written as PNG"] and (row["width"], row["height"]) == (64, 48)
    assert export["number"] == 1 and "v1" not in files["manifest.json"].decode()
