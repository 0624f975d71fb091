"""`python train_lora.py` from a shell: options, plain errors, exit codes, several processes."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")

import train_lora  # noqa: E402
from dalla.diffusion.training import parallel  # noqa: E402
from dalla.engines.trainer import LAUNCHER, Trainer  # noqa: E402
from dalla.errors import Cancelled  # noqa: E402
from tests.conftest import free_port  # noqa: E402
from tests.diffusion import character  # noqa: E402

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning:peft.*"),
]
ROOT = Path(__file__).parents[2]


@pytest.fixture
def options(model: Path, tmp_path: Path) -> list[str]:
    pictures = character.write(tmp_path / "luna", 2)
    return [
        "--dataset", str(pictures), "--base-model", str(model), "--name", "luna", "--trigger", character.TRIGGER,
        "--output", str(tmp_path / "loras"), "--run-folder", str(tmp_path / "run"), "--resolution", "64", "--rank", "2",
        "--steps", "2", "--batch-size", "2", "--sample-every", "0", "--device", "cpu", "--targets", "attention",
        "--conv-rank", "0",
    ]  # fmt: skip


def test_a_dry_run_tells_and_trains_nothing(
    options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train_lora.main([*options, "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert "2 pictures to train on" in out and "2 steps of 2 pictures" in out and "128x128 -> 64x64" in out
    assert "time: about 0:" in out and "memory: about " in out and "disk: about " in out
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


def test_a_missing_or_foreign_config_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert train_lora.main(["--config", "nowhere.json"]) == 2
    assert "nowhere.json" in capsys.readouterr().err
    Path("mine.json").write_text("[]")
    assert train_lora.main(["--config", "mine.json"]) == 2
    assert [p.name for p in tmp_path.iterdir()] == ["mine.json"]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def step(number: int) -> dict[str, Any]:
    return {
        "event": "step", "step": number, "steps": 100, "epoch": 1, "loss": 0.5, "stepsPerSecond": 2.0,
        "etaSeconds": 3700.4,
    }  # fmt: skip


def test_steps_are_one_line_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setattr(sys, "stdout", shown := Terminal())
    screen = train_lora.Screen()
    for event in (step(1), step(2), {"event": "checkpoint", "file": "a.safetensors", "best": True}, step(100)):
        screen(event)
    text = shown.getvalue()
    lines = text.split("\n")
    assert [len(line.split("\r")) for line in lines] == [3, 1, 2, 1]
    assert lines[1] == "saved a.safetensors (best so far)" and lines[2].strip().startswith("step 100/100")
    assert all(len(part) <= 59 for part in text.replace("\n", "\r").split("\r"))


def test_steps_are_a_line_now_and_then_in_a_file(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [100.0]
    monkeypatch.setattr(train_lora.time, "monotonic", lambda: now[0])
    screen = train_lora.Screen()
    for number in range(1, 101):
        screen(step(number))
        now[0] += 0.5
    lines = capsys.readouterr().out.splitlines()
    assert [int(line.split()[1].split("/")[0]) for line in lines] == [1, 11, 21, 31, 41, 51, 61, 71, 81, 91, 100]
    assert "1:01:40 left" in lines[0] and "\r" not in "".join(lines)


def test_a_broken_config_is_told_in_the_runs_events(tmp_path: Path) -> None:
    (tmp_path / "run.log").touch()  # the dashboard opens it before it starts the trainer
    file = tmp_path / "config.json"
    file.write_text(json.dumps({"name": "a", "baseModel": "b", "datasetFolder": "c", "rank": "many"}))
    assert train_lora.main(["--config", str(file)]) == 2
    last = json.loads((tmp_path / "events.jsonl").read_text().splitlines()[-1])
    assert last["event"] == "error" and "rank" in last["detail"]


def test_two_processes_train_one_lora(options: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As `accelerate launch` starts them: each takes other batches, both end with the same numbers.

    The first is this process, which spares starting one more.
    """
    shared = {"OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": "2"}
    other = subprocess.Popen(
        [sys.executable, "train_lora.py", *options], cwd=ROOT, env={**os.environ, **shared, "RANK": "1"},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    for name, value in {**shared, "RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    averaged: list[float] = []
    honest = parallel.Processes.average

    def average(self: parallel.Processes, gradients: list[Any]) -> None:
        before = [g.clone() for g in gradients]
        honest(self, gradients)
        averaged.append(max(float((a - b).abs().max()) for a, b in zip(before, gradients, strict=True)))

    monkeypatch.setattr(parallel.Processes, "average", average)
    try:
        code = train_lora.main(options)
        output = other.communicate(timeout=240)[0]
    finally:
        other.kill()
        other.communicate()
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
    assert (code, other.returncode) == (0, 0), output
    assert len(averaged) == 2 and min(averaged) > 0, "the other process had the same batch"
    assert [p.name for p in sorted((tmp_path / "loras").glob("*.safetensors"))] == ["luna.safetensors"]
    told = [json.loads(line)["event"] for line in (tmp_path / "run" / "events.jsonl").read_text().splitlines()]
    assert told.count("ready") == 1 and told.count("done") == 1


def launched(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, timeout=300, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip


def test_accelerate_starts_two_processes_that_train_one_lora(options: list[str], tmp_path: Path) -> None:
    """Really through its launcher, as the dashboard calls it (its word for several processes is `--multi_gpu`)."""
    character.write(tmp_path / "luna", 4)
    ended = launched(*LAUNCHER, "2", "train_lora.py", *options, "--batch-size", "1")
    assert ended.returncode == 0, ended.stdout
    assert [p.name for p in sorted((tmp_path / "loras").iterdir())] == ["luna.json", "luna.safetensors"]
    told = [json.loads(line) for line in (tmp_path / "run" / "events.jsonl").read_text().splitlines()]
    assert [e["event"] for e in told].count("ready") == 1 and told[-1]["event"] == "done"
    ready = next(e for e in told if e["event"] == "ready")
    assert (ready["pictures"], ready["stepsPerEpoch"]) == (4, 2)  # two processes take four pictures in two steps
    assert ended.stdout.count("Done:") == 1 and told[-1]["report"]["steps"] == 2


@pytest.mark.slow
def test_accelerate_with_cpu_is_one_process_and_one_lora(options: list[str], tmp_path: Path) -> None:
    """Without MPI `--cpu` starts one process, however many are asked for; nobody waits for the others."""
    command = [sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2", "train_lora.py"]
    ended = launched(*command, *options)
    assert ended.returncode == 0, ended.stdout
    assert [p.name for p in sorted((tmp_path / "loras").iterdir())] == ["luna.json", "luna.safetensors"]


@pytest.mark.slow
def test_a_refusal_in_several_processes_is_told_once(options: list[str], tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.log").touch()
    ended = launched(*LAUNCHER, "2", "train_lora.py", *options, "--optimizer", "adamw8bit")
    assert ended.returncode != 0
    told = [json.loads(line) for line in (tmp_path / "run" / "events.jsonl").read_text().splitlines()]
    assert [(e["event"], [row["field"] for row in e["errors"]]) for e in told] == [("error", ["optimizer"])]


@pytest.mark.slow
def test_the_dashboard_stops_two_processes_in_order(options: list[str], tmp_path: Path) -> None:
    """The one that saves is not ended by the launcher because the other has left already."""
    args = train_lora.parser().parse_args([*options, "--steps", "100000", "--batch-size", "1"])
    values = train_lora.read_config(args).with_(processes=2, run_folder=str(tmp_path / "run")).model_dump(mode="json")
    trainer = Trainer(environ={"OMP_NUM_THREADS": "1"}, cancel_seconds=120, term_seconds=60)
    process = trainer.start(values, tmp_path / "run")
    told: list[dict[str, Any]] = []

    def check() -> None:
        if sum(event["event"] == "step" for event in told) >= 2:
            raise Cancelled("stop")

    try:
        with pytest.raises(Cancelled):
            process.follow(told.append, check)
        end = process.cancel(told.append)
    finally:
        process._force(told.append)
    assert end.kind == "cancelled" and end.event["event"] == "cancelled", (end, told[-3:])
    assert (tmp_path / "run" / end.event["kept"]).is_file()
    assert not list((tmp_path / "loras").glob("*.safetensors"))
    assert trainer.attach(tmp_path / "run") is None


@pytest.mark.parametrize(("code", "leaves", "waits"), [(0, 0, False), (130, 0, False), (2, 2, True), (1, 1, True)])
def test_another_process_than_the_first_lets_it_tell_the_end(
    code: int, leaves: int, waits: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A launcher ends all processes when one fails. A stop is no failure: the first is still saving."""
    waited: list[float] = []
    monkeypatch.setattr(train_lora.time, "sleep", waited.append)
    assert train_lora._leave(code) == leaves and bool(waited) == waits


@pytest.mark.skipif(os.name == "nt", reason="a parent's id never changes there")
def test_a_process_whose_launcher_is_gone_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    parents = iter([7, 7, 7, 1])
    monkeypatch.setattr(train_lora.os, "getppid", lambda: next(parents))
    raised = threading.Event()
    signals: list[int] = []
    monkeypatch.setattr(train_lora.signal, "raise_signal", lambda number: (signals.append(number), raised.set()))
    train_lora._end_with_the_launcher(seconds=0.001)
    assert raised.wait(20) and signals == [train_lora.signal.SIGTERM]
