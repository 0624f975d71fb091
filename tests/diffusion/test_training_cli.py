"""`python train_lora.py` from a shell: options, plain errors, exit codes, several processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")

import train_lora  # noqa: E402
from tests.diffusion import character, tiny  # noqa: E402

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning:peft.*"),
]
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save("sd15", tmp_path_factory.mktemp("models"))


@pytest.fixture
def options(model: Path, tmp_path: Path) -> list[str]:
    pictures = character.write(tmp_path / "luna", 4)
    return [
        "--dataset", str(pictures), "--base-model", str(model), "--name", "luna", "--trigger", character.TRIGGER,
        "--output", str(tmp_path / "loras"), "--run-folder", str(tmp_path / "run"), "--resolution", "64", "--rank", "2",
        "--steps", "2", "--batch-size", "2", "--sample-every", "0", "--device", "cpu",
    ]  # fmt: skip


def test_a_dry_run_tells_and_trains_nothing(
    options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train_lora.main([*options, "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert "4 pictures to train on" in out and "2 steps of 2 pictures" in out and "128x128 -> 64x64" in out
    assert not (tmp_path / "loras").exists() and not (tmp_path / "run").exists()


def test_from_the_options_to_the_file_and_on(
    options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train_lora.main(options) == 0
    out = capsys.readouterr().out
    assert "step 2/2" in out and "Done:" in out
    assert (tmp_path / "loras" / "luna.safetensors").is_file()
    kept = json.loads((tmp_path / "run" / "config.json").read_text())
    assert kept["rank"] == 2 and kept["triggerWord"] == character.TRIGGER
    assert train_lora.main(["--resume", str(tmp_path / "run"), "--steps", "3"]) == 0
    assert (tmp_path / "loras" / "luna-2.safetensors").is_file()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (["--rank", "0"], "rank"),
        (["--name", "a/b"], "name"),
        (["--dataset", "nowhere"], "no folder"),
        (["--base-model", "nowhere"], "no base model"),
        (["--preset", "quick", "--targets", "banana"], "targets"),
    ],
)
def test_bad_options_end_with_two_and_a_sentence(
    options: list[str], change: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train_lora.main([*options, *change]) == 2
    error = capsys.readouterr().err
    assert words in error and "Traceback" not in error


def test_without_options_it_says_what_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    assert train_lora.main([]) == 2
    assert "--dataset, --base-model, --name" in capsys.readouterr().err
    assert train_lora.main(["--config", "nowhere.json"]) == 2


def test_a_broken_config_is_told_in_the_runs_events(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_text(json.dumps({"name": "a", "baseModel": "b", "datasetFolder": "c", "rank": "many"}))
    assert train_lora.main(["--config", str(file)]) == 2
    last = json.loads((tmp_path / "events.jsonl").read_text().splitlines()[-1])
    assert last["event"] == "error" and "rank" in last["detail"]


def test_two_processes_train_one_lora(options: list[str], tmp_path: Path) -> None:
    """As `accelerate launch` starts them: each takes other batches, both end with the same numbers."""
    environment = {
        **os.environ, "OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port()), "WORLD_SIZE": "2",
    }  # fmt: skip
    children = [
        subprocess.Popen(
            [sys.executable, "train_lora.py", *options], cwd=ROOT, env={**environment, "RANK": str(rank)},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for rank in range(2)
    ]  # fmt: skip
    outputs = [child.communicate(timeout=240)[0] for child in children]
    assert [child.returncode for child in children] == [0, 0], outputs
    assert [p.name for p in sorted((tmp_path / "loras").glob("*.safetensors"))] == ["luna.safetensors"]
    told = [json.loads(line)["event"] for line in (tmp_path / "run" / "events.jsonl").read_text().splitlines()]
    assert told.count("ready") == 1 and told.count("done") == 1


def _free_port() -> int:
    import socket

    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])
