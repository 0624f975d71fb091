"""The trainer and its machine: refusals before anything is loaded, what is compiled, how many processes share the work."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")

from dalla.diffusion import hardware  # noqa: E402
from dalla.diffusion.families import family  # noqa: E402
from dalla.diffusion.training import parallel, setup  # noqa: E402
from dalla.errors import InvalidInput, NotConfigured  # noqa: E402
from tests.conftest import free_port  # noqa: E402
from tests.diffusion import character, tiny  # noqa: E402
from tests.diffusion.training_kit import Ran, config, train  # noqa: E402

ROOT = Path(__file__).parents[2]

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning:peft.*"),
]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return character.write(tmp_path_factory.mktemp("sets") / "luna", 4)


def phases(ran: Ran) -> list[str]:
    return [event["name"] for event in ran.of("phase")]


# ---------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("changes", "field", "fix"),
    [
        ({"optimizer": "adamw8bit"}, "optimizer", "'adamw'"),
        ({"quantize": "nf4"}, "quantize", "quantize to none"),
        ({"quantize": "int8"}, "quantize", "quantize to none"),
        ({"quantize": "fp8"}, "quantize", "quantize to none"),
        ({"mixed_precision": "fp16"}, "mixedPrecision", "bf16"),
        ({"prior_weight": 1.0, "class_word": ""}, "priorWeight", "class word"),
        ({"quantize": "fp8", "use_dora": True}, "useDora", "quantize to none"),
    ],
)
def test_what_the_machine_cannot_do_is_refused_before_anything_is_read_or_loaded(
    model: Path, pictures: Path, tmp_path: Path, changes: dict[str, Any], field: str, fix: str
) -> None:
    ran = train(model, pictures, tmp_path, **changes)
    assert ran.code == 2 and ran.last["code"] == "invalid_input"
    assert [row["field"] for row in ran.last["errors"]] == [field]
    assert fix in ran.last["remedy"] + ran.last["detail"]
    assert phases(ran) == []  # no picture was read, no model loaded, nothing encoded


def test_a_device_that_is_not_there_is_refused(
    model: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    ran = train(model, pictures, tmp_path, device="cuda")
    assert ran.code == 2 and [row["field"] for row in ran.last["errors"]] == ["device"] and phases(ran) == []


def cards(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)


def test_a_package_that_is_there_and_broken_is_told_before_the_model_is_loaded(
    model: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cards(monkeypatch, 1)
    monkeypatch.setattr(setup, "installed", lambda package: True)
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)  # importing it raises
    for changes in ({"optimizer": "adamw8bit"}, {"quantize": "nf4"}):
        with pytest.raises(NotConfigured, match="cannot be loaded"):
            setup.refuse_machine(config(model, pictures, tmp_path, device="auto", **changes))
    setup.refuse_machine(config(model, pictures, tmp_path, device="auto", quantize="fp8"))


def test_each_process_needs_a_card_of_its_own_and_none_on_the_processor(
    model: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cards(monkeypatch, 2)
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    with pytest.raises(InvalidInput, match="2 NVIDIA cards"):
        setup.refuse_machine(config(model, pictures, tmp_path, device="auto"))
    setup.refuse_machine(config(model, pictures, tmp_path, device="cpu"))
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")  # two computers with two cards each
    setup.refuse_machine(config(model, pictures, tmp_path, device="auto"))


# ---------------------------------------------------------------- compiling


@pytest.mark.parametrize(
    ("name", "device", "compiled", "words"),
    [
        ("flux", "cuda", 2, "first steps are slow"),  # one block of each kind
        ("sd3", "cuda", 2, "first steps are slow"),
        ("flux", "cpu", 0, "NVIDIA cards only"),
        ("flux", "mps", 0, "NVIDIA cards only"),
        ("sd15", "cuda", 0, "U-Net gains less"),
        ("sdxl", "cuda", 0, "U-Net gains less"),
        ("sdxl", "cpu", 0, "U-Net gains less"),
    ],
)
def test_only_the_blocks_of_transformers_on_a_card_are_compiled(
    name: str, device: str, compiled: int, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts: list[str] = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self, *a, **k: parts.append(type(self).__name__))
    one = family(name)
    denoiser = getattr(tiny.PIPELINES[name](), one.lora.denoiser)
    (note,) = setup._compile(denoiser, one, device)
    assert len(parts) == compiled and words in note and all("TransformerBlock" in part for part in parts)


def test_a_run_tells_that_nothing_was_compiled(model: Path, pictures: Path, tmp_path: Path) -> None:
    ran = train(model, pictures, tmp_path, compile=True)
    assert ran.code == 0 and any("torch.compile is left out" in e["detail"] for e in ran.of("warning"))


# ---------------------------------------------------------------- several processes


def test_several_processes_share_an_epoch(
    model: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wish = config(model, pictures, tmp_path, steps=None, epochs=3, batch_size=1)
    assert setup.prepare(wish, lambda *a, **k: None).config.steps == 12
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert setup.prepare(wish, lambda *a, **k: None).config.steps == 6


def test_several_processes_share_a_presets_pictures(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    large = tiny.save("sdxl", tmp_path)
    wish = config(large, pictures, tmp_path, steps=None, batch_size=2, processes=8)
    alone = setup.prepare(wish, lambda *a, **k: None).config
    assert (alone.steps, alone.processes) == (400, 1)  # 800 pictures at least; what counts is who really trains
    monkeypatch.setenv("WORLD_SIZE", "4")
    shared = setup.prepare(wish, lambda *a, **k: None).config
    assert (shared.steps, shared.processes) == (100, 4)


@pytest.mark.parametrize(
    ("cuda", "nccl", "backend"), [(True, True, "cpu:gloo,cuda:nccl"), (True, False, "gloo"), (False, True, "gloo")]
)
def test_flags_travel_in_main_memory_and_gradients_where_they_are(
    cuda: bool, nccl: bool, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run on the processor works on a computer with cards, and waiting for a paused one is no failure."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    begun: list[Any] = []
    fake = SimpleNamespace(
        is_initialized=lambda: False, is_nccl_available=lambda: nccl, init_process_group=lambda *a, **k: begun.append((a, k)),
        broadcast=lambda flags, source: None,
    )  # fmt: skip
    monkeypatch.setattr(torch, "distributed", fake)
    reduced: list[Any] = []
    monkeypatch.setattr(fake, "all_reduce", reduced.append, raising=False)
    monkeypatch.setattr(torch, "zeros", lambda *size, device: (size, device))
    parallel.Processes("cuda")
    assert reduced == ([((1,), "cuda")] if nccl and cuda else [])  # NCCL takes its memory before the first step does
    begun.clear()
    processes = parallel.Processes()
    assert begun == [((backend,), {"timeout": parallel.PATIENCE})] and parallel.PATIENCE.total_seconds() >= 12 * 3600
    assert processes.agree({"save"}, ("cancel", "save")) == {"save"}


ALONE = """
import sys, torch
from dalla.diffusion.training.errors import OutOfMemory
from dalla.diffusion.training.parallel import Processes

processes = Processes()
assert processes.together(lambda: processes.rank) == processes.rank

def work():
    if processes.rank == 1:
        raise {problem}
    return "done"

try:
    processes.together(work)
except Exception as exc:
    print(type(exc).__name__, "|", exc)
"""


@pytest.mark.parametrize(
    ("problem", "there", "here"),
    [
        ('OutOfMemory(4, "CUDA out of memory. Tried", 512)', "OutOfMemory | Memory ran out at step 5, also with",
         "MemoryError | in process 2 of 2: CUDA out of memory. Tried"),
        ('ValueError("a picture is gone")', "ValueError | a picture is gone",
         "RuntimeError | in process 2 of 2: a picture is gone"),
    ],
)  # fmt: skip
def test_what_fails_in_one_process_fails_in_all(problem: str, there: str, here: str) -> None:
    shared = {"OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": "2"}
    both = [
        subprocess.Popen(
            [sys.executable, "-c", ALONE.replace("{problem}", problem)], cwd=ROOT, stdout=subprocess.PIPE,
            env={**os.environ, **shared, "RANK": str(rank)}, text=True,
        )
        for rank in range(2)
    ]  # fmt: skip
    try:
        said = [process.communicate(timeout=120)[0] for process in both]
    finally:
        for process in both:
            process.kill()
            process.communicate()
    assert said[0].startswith(here) and said[1].startswith(there)


def test_memory_that_ran_out_in_another_process_is_told_as_such(
    model: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def elsewhere(self: parallel.Processes, work: Any) -> Any:
        if work.__name__ == "_gradients_with_ladder":
            raise MemoryError("in process 2 of 2: CUDA out of memory")
        return work()

    monkeypatch.setattr(parallel.Processes, "together", elsewhere)
    ran = train(model, pictures, tmp_path)
    assert ran.code == 3 and ran.last["code"] == "out_of_memory"
    assert "at step 1" in ran.last["detail"] and "in process 2 of 2" in ran.last["detail"]


@pytest.mark.parametrize("status", ["CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED"])
def test_libraries_of_the_card_that_get_no_memory_are_out_of_memory(status: str) -> None:
    assert hardware.out_of_memory(RuntimeError(f"CUDA error: {status} when calling `cublasCreate(handle)`"))
    assert not hardware.out_of_memory(RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED"))
