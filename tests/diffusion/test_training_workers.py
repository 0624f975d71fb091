"""A small model on a CPU: workers share questions and pictures, and nothing comes out differently."""

from __future__ import annotations

import io
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")

from PIL import ImageChops  # noqa: E402
from safetensors.torch import load_file  # noqa: E402

from dalla.diffusion import hardware, workers  # noqa: E402
from dalla.diffusion.training import samples, setup, validation  # noqa: E402
from dalla.diffusion.workers import Workers  # noqa: E402
from tests.diffusion.training_kit import AskAt, load, train  # noqa: E402

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning:peft.*"),
]
HELD_OUT: dict[str, Any] = {"count": 1, "every": 1, "timesteps": 3, "noises": 2}


@pytest.fixture(autouse=True)
def every_step_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dalla.diffusion.training.events.STEP_LINES_PER_SECOND", 1e12)


@pytest.fixture
def cores(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Call it with a number of cores; what is set up from then on has as many workers."""

    def have(count: int) -> None:
        monkeypatch.setattr(workers, "usable", lambda: count)

    return have


@pytest.fixture
def who(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Name of the thread and number of pictures of every question to the model, in the order of asking."""
    honest, asked = setup.Loaded.predict, []

    def predict(self: Any, noised: Any, condition: Any, sizes: Any) -> Any:
        asked.append((threading.current_thread().name, len(noised.noisy)))
        return honest(self, noised, condition, sizes)

    monkeypatch.setattr(setup.Loaded, "predict", predict)
    return asked


@pytest.fixture
def side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first two parts of what is shared begin at the same time, as they do on two free cores."""
    barrier = threading.Barrier(2, timeout=60)
    honest = workers.Workers.each

    def each(self: Any, function: Any, items: Any) -> Any:
        if self.count == 1:
            return honest(self, function, items)
        rows = list(items)

        def begin(row: tuple[int, Any]) -> Any:
            if row[0] < 2 <= len(rows):
                barrier.wait()
            return function(row[1])

        return honest(self, begin, enumerate(rows))

    monkeypatch.setattr(workers.Workers, "each", each)


def test_a_run_learns_the_same_and_each_time_to_the_last_bit(
    model: Path, pictures: Path, tmp_path: Path, cores: Any
) -> None:
    options: dict[str, Any] = {
        "steps": 4, "batch_size": 2, "validation": HELD_OUT, "sample_every": 2, "sample_steps": 2, "learning_rate": 1e-3,
    }  # fmt: skip
    cores(1)
    alone = train(model, pictures, tmp_path / "one", **options)
    cores(2)
    shared = train(model, pictures, tmp_path / "two", **options)
    again = train(model, pictures, tmp_path / "again", **options)

    assert [s for s, _ in alone.losses] == [s for s, _ in shared.losses] == [1, 2, 3, 4]
    assert [v for _, v in shared.losses] == pytest.approx([v for _, v in alone.losses], rel=1e-4)
    held = [[(e["step"], e["loss"]) for e in ran.of("validation")] for ran in (alone, shared)]
    assert [s for s, _ in held[0]] == [s for s, _ in held[1]]
    assert [v for _, v in held[1]] == pytest.approx([v for _, v in held[0]], rel=1e-4)
    one, two = load_file(alone.lora), load_file(shared.lora)
    assert all(torch.allclose(one[key], two[key], rtol=1e-2, atol=1e-4) for key in one)
    told = [[(e["step"], e["index"], e["prompt"], e["seed"]) for e in ran.of("sample")] for ran in (alone, shared)]
    assert told[0] == told[1] and len(told[0]) == 6
    for event in alone.of("sample"):
        pair = [_picture(ran.root / "run" / event["file"]) for ran in (alone, shared)]
        assert max(high for _, high in ImageChops.difference(*pair).getextrema()) <= 1
    assert shared.losses == again.losses
    assert shared.of("validation")[-1]["perPicture"] == again.of("validation")[-1]["perPicture"]
    two, three = load_file(shared.lora), load_file(again.lora)
    assert all(torch.equal(two[key], three[key]) for key in two)


def _picture(path: Path) -> Any:
    from PIL import Image

    return Image.open(io.BytesIO(path.read_bytes())).convert("RGB")


def test_a_resumed_run_takes_the_steps_of_one_that_was_never_stopped(
    model: Path, pictures: Path, tmp_path: Path, cores: Any
) -> None:
    cores(2)
    options: dict[str, Any] = {"steps": 5, "batch_size": 3, "caption_dropout": 0.3, "ema": True}
    whole = train(model, pictures, tmp_path / "a", **options)
    (tmp_path / "b" / "run").mkdir(parents=True)
    stopped = train(model, pictures, tmp_path / "b", AskAt(tmp_path / "b" / "run", {2: "cancel"}), **options)
    assert stopped.last["event"] == "cancelled" and stopped.last["step"] == 2
    (tmp_path / "b" / "run" / "cancel").unlink()
    resumed = train(model, pictures, tmp_path / "b", resume_from=str(tmp_path / "b" / "run"), **options)
    assert resumed.losses == whole.losses[2:]
    one, two = load_file(whole.lora), load_file(resumed.lora)
    assert all(torch.equal(one[key], two[key]) for key in one)


@pytest.mark.usefixtures("side_by_side")
def test_where_memory_is_short_one_works_alone(
    model: Path, pictures: Path, tmp_path: Path, cores: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    cores(1)
    options: dict[str, Any] = {"batch_size": 4, "validation": {"count": 1, "every": 2, "timesteps": 4, "noises": 2}}
    whole = train(model, pictures, tmp_path / "a", **options)
    honest, busy, lock = setup.Loaded.predict, [0], threading.Lock()

    def predict(self: Any, noised: Any, condition: Any, sizes: Any) -> Any:
        with lock:
            busy[0] += len(noised.noisy)
            full = busy[0] > 2
        try:
            if full:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
            return honest(self, noised, condition, sizes)
        finally:
            with lock:
                busy[0] -= len(noised.noisy)

    monkeypatch.setattr(setup.Loaded, "predict", predict)
    cores(2)
    small = train(model, pictures, tmp_path / "b", **options)
    assert small.code == 0, small.last
    assert {e["action"] for e in small.of("ladder")} == {"split", "validation_split"}
    assert [v for _, v in small.losses] == pytest.approx([v for _, v in whole.losses], rel=1e-4)
    readings = [[e["loss"] for e in ran.of("validation")] for ran in (whole, small)]
    assert readings[1] == pytest.approx(readings[0], rel=1e-4)


@pytest.mark.usefixtures("side_by_side")
def test_questions_are_shared(
    model: Path, pictures: Path, tmp_path: Path, cores: Any, who: list[tuple[str, int]]
) -> None:
    cores(2)
    loaded = load(model, pictures, tmp_path, batch_size=2)
    shared = validation.Questions(loaded, loaded.train, timesteps=3, noises=1).ask()
    assert len({name for name, _ in who}) == 2 and {count for _, count in who} <= {1, 2}
    loaded.workers = Workers()
    alone = validation.Questions(loaded, loaded.train, timesteps=3, noises=1).ask()
    assert list(shared.losses) == list(alone.losses)
    for file, row in alone.losses.items():
        assert shared.losses[file] == pytest.approx(row, rel=1e-4)


def test_pictures_are_told_in_order_and_the_model_is_left_as_it_was(
    model: Path, pictures: Path, tmp_path: Path, cores: Any
) -> None:
    cores(2)
    loaded = load(model, pictures, tmp_path, sample_steps=2)
    sampler, pipe = loaded.sampler, loaded.pipe
    prompts = [samples.SamplePrompt(n, "zorvex, a cat, number 0", n, True) for n in range(4)]
    own, state = pipe.scheduler, torch.get_rng_state()
    drawn = list(sampler.draw_each(prompts))
    assert pipe.scheduler is own and loaded.denoiser.training and torch.equal(torch.get_rng_state(), state)
    for prompt, image in zip(prompts, drawn, strict=True):
        alone = sampler.draw(prompt)
        assert max(high for _, high in ImageChops.difference(image, alone).getextrema()) <= 1
    assert drawn[0].tobytes() != drawn[1].tobytes()


# ---------------------------------------------------------------- how many


def small_model(monkeypatch: pytest.MonkeyPatch, threads: int, parameters: int) -> int:
    """Return how many workers a model gets where PyTorch begins with so many threads on four cores."""
    monkeypatch.setattr(hardware, "_threads", [threads])
    monkeypatch.setattr(hardware, "ONE_THREAD_PARAMETERS", 100)
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {0, 1, 2, 3}, raising=False)
    part = torch.nn.Linear(parameters, 1, bias=False)
    before = torch.get_num_threads()
    try:
        return hardware._set_threads(SimpleNamespace(components={"unet": part}))
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("threads", "parameters", "count"), [(2, 50, 2), (1, 50, 1), (4, 50, 4), (8, 50, 4), (4, 200, 1)]
)
def test_as_many_workers_as_cores_that_pytorch_may_use_for_a_small_model(
    monkeypatch: pytest.MonkeyPatch, threads: int, parameters: int, count: int
) -> None:
    monkeypatch.setattr(workers, "_CGROUPS", Path("nowhere"))
    assert small_model(monkeypatch, threads, parameters) == count


@pytest.mark.parametrize(
    ("files", "count"),
    [
        ({"cpu.max": "max 100000\n"}, 4),
        ({"cpu.max": "250000 100000\n"}, 2),
        ({"cpu.max": "50000 100000\n"}, 1),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 4),
        ({"cpu/cpu.cfs_quota_us": "300000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 3),
        ({}, 4),
    ],
)
def test_a_container_that_may_use_fewer_cores_gets_fewer_workers(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, files: dict[str, str], count: int
) -> None:
    (tmp_path / "cpu").mkdir()
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(workers, "_CGROUPS", tmp_path)
    assert small_model(monkeypatch, 4, 50) == count


def test_one_core_is_one_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "_CGROUPS", Path("nowhere"))
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {3}, raising=False)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    assert workers.usable() == 1


def test_bf16_is_computed_by_one(model: Path, pictures: Path, tmp_path: Path, cores: Any) -> None:
    cores(2)
    assert load(model, pictures, tmp_path, mixed_precision="bf16").workers.count == 1


def test_a_text_encoder_that_learns_has_one_worker(model: Path, pictures: Path, tmp_path: Path, cores: Any) -> None:
    cores(2)
    assert load(model, pictures, tmp_path, train_text_encoder=True).workers.count == 1


def test_dropout_is_computed_by_one(
    model: Path, pictures: Path, tmp_path: Path, cores: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    cores(2)
    assert load(model, pictures, tmp_path / "a").workers.count == 2
    honest = setup.Adapters

    def adapters(pipe: Any, *args: Any) -> Any:
        made = honest(pipe, *args)
        layer = next(m for m in pipe.unet.modules() if isinstance(m, torch.nn.Dropout))
        layer.p = 0.1
        return made

    monkeypatch.setattr(setup, "Adapters", adapters)
    loaded = load(model, pictures, tmp_path / "b")
    assert loaded.workers.count == 1 and loaded.sampler.workers.count == 1


def test_a_text_encoders_own_dropout_is_seen() -> None:
    """Transformers' attention has no layer for it but a number of its own."""
    part = torch.nn.Sequential(torch.nn.Linear(2, 2))
    part[0].dropout = 0.0
    found = SimpleNamespace(components=lambda: {"text_encoder": part})
    assert not setup.draws_at_random(found)  # type: ignore[arg-type]
    part[0].dropout = 0.1
    assert setup.draws_at_random(found)  # type: ignore[arg-type]


def test_processes_share_the_cores(
    model: Path, pictures: Path, tmp_path: Path, cores: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    cores(4)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert load(model, pictures, tmp_path / "a").workers.count == 2
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "8")
    assert load(model, pictures, tmp_path / "b").workers.count == 1


# ---------------------------------------------------------------- the threads themselves


def test_results_come_in_order_with_one_thread_inside_each_operation() -> None:
    started = threading.Barrier(2, timeout=60)

    def compute(number: int) -> tuple[int, int, str]:
        started.wait()  # both are there at the same time
        return number, torch.get_num_threads(), threading.current_thread().name

    before = torch.get_num_threads()
    try:
        found = Workers(2).map(compute, range(4))
    finally:
        torch.set_num_threads(before)
    assert [number for number, _, _ in found] == [0, 1, 2, 3]
    assert {threads for _, threads, _ in found} == {1} and len({name for _, _, name in found}) == 2
    here = threading.current_thread().name
    assert Workers().map(lambda n: threading.current_thread().name, [1]) == [here]


def test_nothing_is_computed_any_more_when_an_error_is_raised() -> None:
    going, over, ended = threading.Event(), threading.Event(), []

    def compute(number: int) -> None:
        if number == 0:
            assert going.wait(60)
            raise ValueError("the first")
        going.set()
        if number > 1:
            assert over.wait(60)
        time.sleep(0.2)  # still at it when the error is there
        ended.append(number)
        over.set()

    with pytest.raises(ValueError, match="the first"):
        Workers(2).map(compute, range(40))
    assert ended[0] == 1 and 39 not in ended
