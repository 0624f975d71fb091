"""A LoRA under another name says that name; its notes are read from the file alone."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from dalla import lora_texts
from dalla.errors import InvalidInput
from dalla.weights import file_sha256, read_header
from tests.test_lora_forms import layer, write

NAME = "lora_unet_down_blocks_0_attentions_0_proj_in"
CONFIG = {"name": "luna", "dataset_folder": "luna", "rank": 8, "alpha": 4.0, "targets": "full", "steps": 400}
TEXTS = {
    "ss_output_name": "luna-000120", "modelspec.title": "luna-000120", "ss_num_train_images": "12",
    "ss_max_train_steps": "400", "ss_dataset_dirs": json.dumps({"luna": {"n_repeats": 1, "img_count": 12}}),
    "dalla.dataset_sha256": "ab" * 32, "dalla.config_sha256": "cd" * 32, "dalla.config": json.dumps(CONFIG),
    "modelspec.trigger_phrase": "lunä",
}  # fmt: skip


def test_a_file_takes_another_name_and_keeps_its_numbers(tmp_path: Path) -> None:
    path = write(tmp_path / "luna-000120.safetensors", layer(NAME, alpha=4.0), TEXTS)
    other = tmp_path / "luna-step120-with-a-long-name.safetensors"
    other.write_bytes(b"".join(lora_texts.named(path, other.stem)))
    before, after = read_header(path), read_header(other)
    assert after.metadata["ss_output_name"] == after.metadata["modelspec.title"] == other.stem
    kept = {k: v for k, v in TEXTS.items() if k not in ("ss_output_name", "modelspec.title")}
    assert kept.items() <= after.metadata.items()
    assert dict(after) == dict(before) and after.data_start % 8 == 0

    def data(file: Path, start: int) -> str:
        return hashlib.sha256(file.read_bytes()[start:]).hexdigest()

    assert data(other, after.data_start) == data(path, before.data_start)
    assert file_sha256(other) != file_sha256(path)


def test_a_file_without_texts_gets_its_name(tmp_path: Path) -> None:
    path = write(tmp_path / "a.safetensors", layer(NAME))
    path.write_bytes(b"".join(lora_texts.named(path, "b")))
    assert read_header(path).metadata["ss_output_name"] == "b"


def test_what_is_no_such_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(b"no weights at all")
    with pytest.raises(InvalidInput):
        lora_texts.named(path, "b")


def test_the_notes_tell_the_dataset_and_the_settings(tmp_path: Path) -> None:
    path = write(tmp_path / "a.safetensors", layer(NAME), TEXTS)
    assert lora_texts.notes(read_header(path)) == {
        "rank": 8, "alpha": 4.0, "targets": "full", "steps": 400, "settings": CONFIG, "configSha256": "cd" * 32,
        "dataset": {"name": "luna", "pictures": 12, "sha256": "ab" * 32},
    }  # fmt: skip


def test_nothing_is_made_up_for_other_files(tmp_path: Path) -> None:
    broken = {"dalla.config": "{", "ss_dataset_dirs": "[1]", "ss_num_train_images": "many"}
    path = write(tmp_path / "a.safetensors", layer(NAME), broken)
    assert lora_texts.notes(read_header(path)) == {}
