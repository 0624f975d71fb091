"""A run's ends and interruptions: each is told truthfully, and nothing half-made is left."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")

from safetensors.torch import load_file, save_file  # noqa: E402

from dalla.diffusion.training import checkpoints, gradients, setup  # noqa: E402
from dalla.diffusion.training import run as run_module  # noqa: E402
from dalla.diffusion.training.events import Events, RunLock  # noqa: E402
from dalla.errors import Conflict  # noqa: E402
from tests.diffusion import single_files  # noqa: E402
from tests.diffusion.training_kit import AskAt, config, train  # noqa: E402

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning:peft.*"),
]
ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def every_step_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dalla.diffusion.training.events.STEP_LINES_PER_SECOND", 1e12)


def files(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir()) if folder.is_dir() else []


# ---------------------------------------------------------------- resume


def test_resumed_equals_uninterrupted_to_the_last_bit(model: Path, pictures: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {
        "steps": 4, "lr_scheduler": "cosine", "warmup": 2, "caption_dropout": 0.3, "shuffle_captions": True, "ema": True,
        "gradient_accumulation": 2, "validation": {"count": 1, "every": 2}, "noise_offset": 0.05,
        "sample_every": 2, "sample_steps": 1,
    }  # fmt: skip
    whole = train(model, pictures, tmp_path / "a", **options)
    assert whole.code == 0

    folder = tmp_path / "b" / "run"
    folder.mkdir(parents=True)
    first = train(model, pictures, tmp_path / "b", AskAt(folder, {1: "cancel"}), **options)
    assert first.code == 130 and first.last["event"] == "cancelled" and first.last["step"] == 1
    assert (folder / first.last["kept"]).is_file()
    assert files(tmp_path / "b" / "loras") == []
    (folder / "cancel").unlink()
    second = train(model, pictures, tmp_path / "b", resume_from=str(folder), **options)
    assert second.of("ready")[0]["startStep"] == 1
    assert first.losses + second.losses == whole.losses
    assert [e["loss"] for e in first.of("validation") + second.of("validation")] == [
        e["loss"] for e in whole.of("validation")
    ]
    one, two = load_file(whole.lora), load_file(second.lora)
    assert one.keys() == two.keys() and all(torch.equal(one[k], two[k]) for k in one)
    assert whole.last["step"] == second.last["step"]
    assert whole.last["report"]["verdict"] == second.last["report"]["verdict"]
    pictures_of = [ran.last["report"]["pictures"] for ran in (whole, second)]
    assert pictures_of[0]["similarity"]["base"] is not None and pictures_of[0] == pictures_of[1]
    assert {e["step"] for e in second.of("sample")} == {2, 4}  # the base model's were there already


def test_a_resumed_run_uses_the_new_settings_and_refuses_other_layers(
    model: Path, pictures: Path, tmp_path: Path
) -> None:
    train(model, pictures, tmp_path, steps=2, save_every=2)
    run = str(tmp_path / "run")
    again = train(model, pictures, tmp_path, steps=3, learning_rate=3e-3, resume_from=run)
    assert [(e["step"], e["lr"]) for e in again.of("step")] == [(3, 3e-3)]
    other = train(model, pictures, tmp_path, steps=4, rank=4, resume_from=run)
    assert other.code == 2 and "other layers" in other.last["detail"]
    bare = train(model, pictures, tmp_path / "new", resume_from=str(tmp_path / "nowhere"))
    assert bare.code == 2 and "no checkpoint" in bare.last["detail"]


def test_the_newest_whole_state_is_used(model: Path, pictures: Path, tmp_path: Path) -> None:
    train(model, pictures, tmp_path, steps=2, save_every=1)
    run = tmp_path / "run"
    assert checkpoints.steps(run) == [1, 2]
    state = run / "checkpoints" / "000002" / checkpoints.STATE
    state.write_bytes(state.read_bytes()[:500])
    assert checkpoints.load(run)[0] == 1


# ---------------------------------------------------------------- asked to do something


def test_pause_save_and_sample_while_it_runs(model: Path, pictures: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()

    class Impatient(AskAt):
        def wait_while_paused(self, seconds: float = 0.2) -> None:
            (folder / "pause").unlink()  # somebody presses "go on" at once
            super().wait_while_paused(seconds)

    controls = Impatient(folder, {1: "pause", 2: "save", 3: "sample"})
    ran = train(
        model, pictures, tmp_path, controls, steps=4, sample_every=100, sample_steps=1, sample_prompts=["zorvex"]
    )
    assert ran.code == 0, ran.last
    assert [(e["event"], e["step"]) for e in ran.events if e["event"] in ("paused", "resumed")] == [
        ("paused", 1), ("resumed", 1),
    ]  # fmt: skip
    assert 2 in [e["step"] for e in ran.of("checkpoint")]
    drawn = ran.of("sample")
    assert sorted({e["step"] for e in drawn}) == [0, 3, 4]
    assert {(e["withTrigger"], e["prompt"]) for e in drawn} == {(True, "zorvex"), (False, "cat")}
    assert all((folder / e["file"]).is_file() for e in drawn)
    assert len({(e["index"], e["seed"]) for e in drawn}) == 2
    assert files(folder) == ["checkpoints", "events.jsonl", "run.lock", "samples"]
    likeness = ran.last["report"]["pictures"]["likeness"]
    assert "cartoons" in likeness["faces"]["text"] and "models/vision" in likeness["images"]["text"]


def test_one_run_folder_has_one_process(tmp_path: Path, model: Path, pictures: Path) -> None:
    (tmp_path / "run").mkdir()
    lock = RunLock(tmp_path / "run")
    with pytest.raises(Conflict):
        RunLock(tmp_path / "run")
    ran = train(model, pictures, tmp_path)
    assert ran.code == 2 and "already" in ran.last["detail"]
    lock.release()
    RunLock(tmp_path / "run").release()


def test_somebody_who_looks_at_the_lock_does_not_end_a_run_that_starts(tmp_path: Path) -> None:
    fcntl = pytest.importorskip("fcntl")
    (tmp_path / "run.lock").touch()
    with (tmp_path / "run.lock").open("r+b") as looking:
        fcntl.flock(looking, fcntl.LOCK_SH)
        threading.Timer(0.1, lambda: fcntl.flock(looking, fcntl.LOCK_UN)).start()
        RunLock(tmp_path).release()  # taken as soon as the look is over


def test_killed_without_warning(model: Path, pictures: Path, tmp_path: Path) -> None:
    """kill -9 in the middle: the lock is free, no last word, nothing in loras/, and the run can be resumed."""
    settings = config(model, pictures, tmp_path, steps=5000, save_every=1, keep_checkpoints=2)
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(settings.to_json()))
    child = subprocess.Popen(
        [sys.executable, "train_lora.py", "--config", str(folder / "config.json")], cwd=ROOT, start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 120
        while not checkpoints.steps(folder):
            assert child.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
        with pytest.raises(Conflict):
            RunLock(folder)
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
    RunLock(folder).release()
    told = [json.loads(line)["event"] for line in (folder / "events.jsonl").read_text().splitlines()]
    assert not {"done", "error", "cancelled"} & set(told)
    assert files(tmp_path / "loras") == []
    step, _ = checkpoints.load(folder)
    ran = train(model, pictures, tmp_path, steps=step + 1, resume_from=str(folder), save_every=0)
    assert ran.code == 0 and ran.of("ready")[0]["startStep"] == step


# ---------------------------------------------------------------- things that go wrong


def test_a_loss_that_is_no_number_stops_the_run(
    model: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = gradients.item_losses

    def broken(prediction: Any, target: Any, mask: Any = None) -> Any:
        calls.append(1)
        return honest(prediction, target, mask) * (float("nan") if len(calls) > 2 else 1.0)

    calls: list[int] = []
    monkeypatch.setattr(gradients, "item_losses", broken)
    ran = train(model, pictures, tmp_path, steps=5, save_every=1)
    assert ran.code == 4
    assert ran.last["event"] == "error" and ran.last["code"] == "non_finite"
    assert "step 3" in ran.last["detail"] and "learning rate" in ran.last["remedy"]
    assert checkpoints.steps(tmp_path / "run") == [1, 2]
    _, state = checkpoints.load(tmp_path / "run")
    assert all(torch.isfinite(v).all() for v in state["values"].values())
    assert files(tmp_path / "loras") == []


def out_of_memory_above(largest: int, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = setup.Loaded.predict

    def predict(self: Any, noised: Any, condition: Any, sizes: Any) -> Any:
        if torch.is_grad_enabled() and len(noised.noisy) > largest:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return honest(self, noised, condition, sizes)

    monkeypatch.setattr(setup.Loaded, "predict", predict)


def test_the_memory_ladder_changes_nothing_that_is_learned(
    model: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train(model, pictures, tmp_path / "a", batch_size=4)
    out_of_memory_above(1, monkeypatch)
    small = train(model, pictures, tmp_path / "b", batch_size=4)
    assert [e["action"] for e in small.of("ladder")] == ["split", "split"]
    assert [loss for _, loss in small.losses] == pytest.approx([loss for _, loss in whole.losses], rel=1e-4)
    one, two = load_file(whole.lora), load_file(small.lora)
    assert all(torch.allclose(one[k], two[k], rtol=1e-2, atol=1e-4) for k in one)


def test_no_memory_at_all(model: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out_of_memory_above(0, monkeypatch)
    ran = train(model, pictures, tmp_path)
    assert ran.code == 3 and ran.last["code"] == "out_of_memory" and "resolution" in ran.last["remedy"]
    assert [e["action"] for e in ran.of("ladder")] == ["split", "gradient_checkpointing"]
    assert files(tmp_path / "loras") == []


def test_the_disk_fills_up_while_saving(
    model: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = torch.save

    def save(state: Any, file: Any) -> None:
        if state["step"] == 2:
            file.write(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")
        honest(state, file)

    monkeypatch.setattr(checkpoints.torch, "save", save)
    ran = train(model, pictures, tmp_path, steps=3, save_every=1)
    assert ran.code == 1 and ran.last["code"] == "storage" and "no space" in ran.last["detail"].lower()
    assert files(tmp_path / "run" / "checkpoints") == ["000001"]
    assert checkpoints.load(tmp_path / "run")[0] == 1
    assert files(tmp_path / "loras") == []


def test_no_space_is_told_before_the_start(
    model: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_module, "LEAST_FREE", 2**62)
    ran = train(model, pictures, tmp_path)
    assert ran.last["code"] == "storage" and "free" in ran.last["detail"] and not ran.of("ready")


def test_the_last_word_is_written_on_a_full_disk(tmp_path: Path) -> None:
    events = Events(tmp_path)
    honest = events._write

    def write(line: dict[str, Any]) -> None:
        if (tmp_path / ".reserve").exists():
            raise OSError(errno.ENOSPC, "No space left on device")
        honest(line)

    events._write = write  # type: ignore[method-assign]
    events.emit("step", loss=1.0)
    events.emit("error", code="storage", detail="full")
    events.close()
    lines = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    assert [line["event"] for line in lines] == ["error"]


def test_a_file_that_is_not_what_was_trained_is_not_delivered(
    model: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = run_module.export.save_lora

    def save(path: Path, adapter: Any, **options: Any) -> str:
        digest = honest(path, adapter, **options)
        if "checkpoints" not in str(path):
            weights = load_file(path)
            save_file({k: v * 3 if "lora_up" in k else v for k, v in weights.items()}, path)
        return digest

    monkeypatch.setattr(run_module.export, "save_lora", save)
    ran = train(model, pictures, tmp_path)
    assert ran.code == 5 and ran.last["code"] == "verification_failed"
    assert files(tmp_path / "loras") == []


# ---------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"dataset_folder": "nowhere"}, "no folder"),
        ({"base_model": "nowhere"}, "no base model"),
        ({"rank": 0}, "rank"),
        ({"steps": 10**9}, "steps"),
        ({"name": "a/b"}, "name"),
        ({"family": "flux"}, "sd15"),
        ({"prior_weight": 1.0, "class_word": ""}, "class"),
        ({"optimizer": "adamw8bit"}, "adamw"),
        ({"quantize": "nf4"}, "NVIDIA"),
    ],
)
def test_bad_settings_are_told_before_the_first_step(
    model: Path, pictures: Path, tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    ran = train(model, pictures, tmp_path, **changes)
    assert ran.code == 2 and ran.last["event"] == "error"
    assert words in f"{ran.last['detail']} {ran.last['remedy']}"
    assert not ran.of("ready") and files(tmp_path / "loras") == []


def test_models_that_are_none(model: Path, pictures: Path, tmp_path: Path) -> None:
    lora = train(model, pictures, tmp_path / "one").lora
    told = train(lora, pictures, tmp_path / "two")
    assert told.code == 2 and "is a LoRA" in told.last["detail"]
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes((model / "unet" / "diffusion_pytorch_model.safetensors").read_bytes()[:-100])
    told = train(cut, pictures, tmp_path / "three")
    assert told.code == 2 and "cut off" in told.last["detail"]
    empty = tmp_path / "empty"
    empty.mkdir()
    told = train(empty, pictures, tmp_path / "four")
    assert told.code == 2 and "model_index.json" in told.last["detail"]
    told = train(model, empty, tmp_path / "five")
    assert told.code == 2 and "no picture" in told.last["detail"]


@pytest.mark.parametrize("family", ["sd15", "sdxl", "sd3", "flux"])
def test_a_single_file_is_trained_like_a_folder(family: str, pictures: Path, tmp_path: Path) -> None:
    models = single_files.models_folder(tmp_path / "models")
    file = single_files.write(family, models / f"{family}.safetensors")
    ran = train(file, pictures, tmp_path, models_folder=str(models))
    assert ran.of("ready")[0]["family"] == family
    assert any(tensor.any() for key, tensor in load_file(ran.lora).items() if "up" in key or "lora_B" in key)


def test_one_picture_is_enough_and_two_runs_of_a_name_are_two_files(
    model: Path, pictures: Path, tmp_path: Path
) -> None:
    single = tmp_path / "single"
    single.mkdir()
    (single / "a.png").write_bytes((pictures / "0.png").read_bytes())
    first = train(model, single, tmp_path)
    assert "few_pictures" in {e["code"] for e in first.of("warning")}
    content = first.lora.read_bytes()
    second = train(model, single, tmp_path, seed=5)
    assert files(tmp_path / "loras") == ["tiny-2.json", "tiny-2.safetensors", "tiny.json", "tiny.safetensors"]
    assert first.lora.read_bytes() == content and second.lora.name == "tiny-2.safetensors"
