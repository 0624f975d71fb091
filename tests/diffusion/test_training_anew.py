"""Runs that begin before steps that were taken already, and settings of a run that serve for another one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("peft")

import train_lora  # noqa: E402
from dalla.diffusion.training import checkpoints, validation  # noqa: E402
from dalla.diffusion.training.events import RunLock  # noqa: E402
from tests.diffusion.training_kit import AskAt, Ran, config, train  # noqa: E402

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning:peft.*"),
]
EVERY = {"count": 1, "every": 1, "noises": 2}


@pytest.fixture(autouse=True)
def every_step_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dalla.diffusion.training.events.STEP_LINES_PER_SECOND", 1e12)


def names(run: Path) -> list[str]:
    return sorted(path.name for path in (run / "checkpoints").iterdir())


def told(ran: Ran) -> list[str]:
    return [event["detail"] for event in ran.of("warning") if event["code"] == "set_aside"]


# ---------------------------------------------------------------- checkpoints of another branch


def test_a_run_that_goes_back_keeps_its_new_checkpoints_and_goes_on_from_them(
    model: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = [0.9, 0.8, 0.2, 0.5, 0.6, 0.7, 0.8]  # the base model's, then the steps': the second is the lowest

    def ask(self: validation.Questions) -> validation.Reading:
        loss = left.pop(0) if left else 0.9
        return validation.Reading({e.file: [loss] * self._timesteps * self._noises for e in self._examples})

    monkeypatch.setattr(validation.Questions, "ask", ask)
    options: dict[str, Any] = {"steps": 6, "save_every": 1, "keep_checkpoints": 3, "validation": EVERY}
    run = tmp_path / "run"
    assert train(model, pictures, tmp_path, **options).code == 0
    assert checkpoints.steps(run) == [2, 4, 5, 6]

    back = str(checkpoints.folder_of(run, 2))
    ran = train(model, pictures, tmp_path, AskAt(run, {7: "cancel"}), resume_from=back, **options)
    assert ran.last["event"] == "cancelled" and ran.last["step"] == 3
    assert (run / ran.last["kept"]).is_file() and ran.of("checkpoint")[-1]["step"] == 3
    assert names(run) == ["000002", "000003", "000004.old", "000005.old", "000006.old"]
    assert len(told(ran)) == 1 and "000004.old, 000005.old, 000006.old" in told(ran)[0]
    (run / "cancel").unlink()

    ran = train(model, pictures, tmp_path, resume_from=str(run), **options)
    assert ran.code == 0 and ran.of("ready")[0]["startStep"] == 3
    assert [step for step, _ in ran.losses] == [4, 5, 6] and not told(ran)
    assert names(run) == ["000002", "000004", "000005", "000006"]  # it has ended well


def test_the_best_of_what_is_left_is_marked_again(
    model: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The later checkpoint that was told as the best is set aside."""
    left = [
        0.9,
        0.3,
        0.2,
        0.9,
        0.5,
    ]  # the base model's, the two steps'; after it went back the base model's, the step's

    def ask(self: validation.Questions) -> validation.Reading:
        loss = left.pop(0)
        return validation.Reading({e.file: [loss] * self._timesteps * self._noises for e in self._examples})

    monkeypatch.setattr(validation.Questions, "ask", ask)
    options: dict[str, Any] = {"steps": 3, "save_every": 1, "validation": EVERY}
    run = tmp_path / "run"
    assert train(model, pictures, tmp_path, AskAt(run, {2: "cancel"}), **options).code == 130
    (run / "cancel").unlink()
    back = str(checkpoints.folder_of(run, 1))
    ran = train(model, pictures, tmp_path, AskAt(run, {3: "cancel"}), resume_from=back, **options)
    assert [(e["step"], e["best"]) for e in ran.of("checkpoint")][0] == (1, True)
    assert len(told(ran)) == 1 and names(run) == ["000001", "000002", "000002.old"]


def test_a_run_that_goes_back_can_be_taken_up_where_it_was_left(model: Path, pictures: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert train(model, pictures, tmp_path, steps=3, save_every=1).code == 0
    back = {"steps": 4, "resume_from": str(checkpoints.folder_of(run, 2))}
    assert train(model, pictures, tmp_path, AskAt(run, {3: "cancel"}), **back).last["step"] == 2
    (run / "cancel").unlink()
    assert names(run) == ["000001", "000002", "000003.old"]
    ran = train(model, pictures, tmp_path, steps=4, resume_from=str(run / "checkpoints" / "000003.old"))
    assert ran.code == 0 and [step for step, _ in ran.losses] == [4]


def test_a_run_that_begins_anew_in_its_folder_goes_on_with_its_own_steps(
    model: Path, pictures: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    assert train(model, pictures, tmp_path, steps=3, save_every=1).code == 0
    ran = train(model, pictures, tmp_path, AskAt(run, {4: "cancel"}), steps=3)
    assert ran.last["event"] == "cancelled" and (run / ran.last["kept"]).is_file()
    assert names(run) == ["000001", "000001.old", "000002.old", "000003.old"]
    (run / "cancel").unlink()
    state = run / "checkpoints" / "000001.old" / checkpoints.STATE
    assert not state.exists()  # only of the last two
    again = train(model, pictures, tmp_path, AskAt(run, {5: "cancel"}), steps=3, seed=7)  # and once more
    assert again.last["step"] == 1 and names(run) == ["000001", "000001.old", "000002.old", "000003.old"]
    assert state.is_file()  # the latest that was left
    (run / "cancel").unlink()
    ran = train(model, pictures, tmp_path, steps=2, seed=7, resume_from=str(run))
    assert ran.code == 0 and ran.of("ready")[0]["startStep"] == 1 and ran.last["step"] == 2
    assert names(run) == ["000001", "000002"]


# ---------------------------------------------------------------- settings of another run


def read(*options: Any) -> Any:
    return train_lora.read_config(train_lora.parser().parse_args([str(option) for option in options]))


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run of the dashboard that was taken up once."""
    folder = tmp_path / "runs" / "job_1"
    folder.mkdir(parents=True)
    settings = config(Path("model"), Path("pictures"), tmp_path, learning_rate=1e-4)
    settings = settings.with_(run_folder=str(folder), resume_from=str(folder))
    (folder / "config.json").write_text(json.dumps(settings.model_dump(mode="json")))
    for name in ("events.jsonl", "run.log"):
        (folder / name).write_text("")
    return folder


def test_settings_of_a_run_serve_for_another_one_in_a_folder_of_its_own(run: Path) -> None:
    found = read("--config", run / "config.json", "--learning-rate", "5e-5")
    assert found.learning_rate == 5e-5 and found.rank == 2
    assert Path(found.run_folder).parent == train_lora.ROOT / "data" / "runs" and found.resume_from is None
    again = read("--config", run / "config.json", "--run-folder", run, "--steps", "7")  # said in so many words
    assert again.run_folder == str(run) and again.resume_from is None
    assert not read("--config", run / "config.json", "--dry-run").run_folder


def test_the_same_settings_again_are_another_run(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(train_lora.sys.stdout, "isatty", lambda: True)
    found = read("--config", run / "config.json")  # by a person: the dashboard has no terminal
    assert found.run_folder not in ("", str(run)) and found.resume_from is None
    monkeypatch.undo()
    (run / "run.log").unlink()  # a run from a shell
    assert read("--config", run / "config.json").run_folder not in ("", str(run))


def test_the_dashboards_run_stays_in_its_folder(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = read("--config", run / "config.json")
    assert (found.run_folder, found.resume_from) == (str(run), str(run))
    args = train_lora.parser().parse_args(["--config", str(run / "config.json")])
    assert train_lora._has_starter(args)
    assert read("--resume", run).resume_from == str(run)


def test_a_folder_nothing_was_trained_in_is_used(run: Path, tmp_path: Path) -> None:
    (run / "events.jsonl").unlink()
    found = read("--config", run / "config.json", "--steps", "7")
    assert (found.run_folder, found.resume_from) == (str(run), str(run))
    file = tmp_path / "mine.json"  # going on from another run's state, in a folder of its own
    file.write_text(json.dumps(json.loads((run / "config.json").read_text()) | {"run_folder": str(tmp_path / "new")}))
    assert read("--config", file).run_folder == str(tmp_path / "new")


def test_settings_are_kept_for_going_on(run: Path) -> None:
    def kept() -> dict[str, Any]:
        return json.loads((run / "config.json").read_text())

    found = read("--config", run / "config.json", "--run-folder", run, "--learning-rate", "5e-5")
    train_lora.keep_config(found, anew=False)  # it goes on: what it was started with stays
    assert kept()["learning_rate"] == 1e-4
    lock = RunLock(run)
    train_lora.keep_config(found, anew=True)  # another process trains there, and this one will be refused
    assert kept()["learning_rate"] == 1e-4
    lock.release()
    train_lora.keep_config(found, anew=True)
    assert kept()["learningRate"] == 5e-5 and read("--resume", run).learning_rate == 5e-5
